/* listing.c - a page with the names in a directory. */
#include "server.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct names {
    char **name; /* a directory's ends in '/' */
    size_t count;
};

static bool is_directory(int fd, const sley_dirent *entry)
{
    struct statx st;

    if (entry->type != DT_UNKNOWN && entry->type != DT_LNK)
        return entry->type == DT_DIR;
    return sley_statx(fd, entry->name, 0, STATX_TYPE, &st, SLEY_FOREVER) == 0 && S_ISDIR(st.stx_mode);
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
    sley_dirent entry;
    sley_dir *d;
    int rc = sley_dir_open(&d, fd, ".", SLEY_FOREVER); /* with a position of its own */

    if (rc < 0)
        return rc;
    while (rc == 0 && names->count < LISTING_ENTRIES_MAX && (rc = sley_dir_next(d, &entry, SLEY_FOREVER)) == 1)
        rc = add_name(names, entry.name, is_directory(fd, &entry));
    sley_dir_close(d);
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

int listing_make(const struct file *dir, const struct target *t, struct text *page)
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
