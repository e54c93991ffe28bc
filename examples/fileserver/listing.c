/* listing.c - a page with the names in a directory. The entries are read by libc: the kernel has no asynchronous form of getdents. Nothing
 * here parks, nor may it be inlined into what does: errno is looked at. */
#include "server.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct names {
    char **name; /* a directory's ends in '/' */
    size_t count;
};

static bool is_directory(int fd, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK)
        return entry->d_type == DT_DIR;
    return fstatat(fd, entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static int add_name(struct names *names, const char *name, bool directory)
{
    size_t bytes = strlen(name);
    char *copy = malloc(bytes + 2);

    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, name, bytes);
    strcpy(copy + bytes, directory ? "/" : "");
    names->name[names->count++] = copy;
    return 0;
}

static int read_names(int fd, struct names *names)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* with a position of its own */
    DIR *d = own >= 0 ? fdopendir(own) : NULL;
    struct dirent *entry;
    int rc = 0;

    if (d == NULL) {
        rc = -errno;
        if (own >= 0)
            close(own);
        return rc;
    }
    errno = 0;
    while (rc == 0 && names->count < LISTING_ENTRIES_MAX && (entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = add_name(names, entry->d_name, is_directory(own, entry));
        errno = 0;
    }
    rc = rc < 0 ? rc : -errno;
    closedir(d);
    return rc;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_link(struct text *page, const char *name)
{
    text_add_string(page, "<li><a href=\"./");
    text_add_url(page, name, strlen(name));
    text_add_string(page, "\">");
    text_add_html(page, name, strlen(name));
    text_add_string(page, "</a></li>\n");
}

static void add_page(struct text *page, const struct target *t, const struct names *names)
{
    text_add_string(page, "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Index of /");
    text_add_html(page, t->path, t->path_bytes);
    text_add_string(page, "</title></head>\n<body><h1>Index of /");
    text_add_html(page, t->path, t->path_bytes);
    text_add_string(page, "</h1>\n<ul>\n");
    if (t->path_bytes > 0)
        text_add_string(page, "<li><a href=\"../\">../</a></li>\n");
    for (size_t i = 0; i < names->count; i++)
        add_link(page, names->name[i]);
    text_add_string(page, "</ul>\n");
    if (names->count == LISTING_ENTRIES_MAX)
        text_add_string(page, "<p>and more that are not shown</p>\n");
    text_add_string(page, "</body></html>\n");
}

__attribute__((noinline)) int listing_make(const struct file *dir, const struct target *t, struct text *page)
{
    struct names names = { malloc(LISTING_ENTRIES_MAX * sizeof(char *)), 0 };
    int rc = names.name != NULL ? read_names(dir->fd, &names) : -ENOMEM;

    *page = (struct text){ .grows = true };
    if (rc == 0) {
        qsort(names.name, names.count, sizeof(char *), compare);
        add_page(page, t, &names);
        rc = page->full ? -ENOMEM : 0;
    }
    for (size_t i = 0; i < names.count; i++)
        free(names.name[i]);
    free(names.name);
    return rc;
}
