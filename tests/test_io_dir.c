/* test_io_dir.c - what is in a directory: each entry once, however many there are, also while the directory changes. */
#include "io_scenario.h"

enum { MANY = 3000 }; /* more than are read at once */

static char folder[PATH_MAX];

static int begin_folder(const char *name)
{
    int fd;

    snprintf(folder, sizeof folder, "%s", temp_path(name));
    EXPECT(mkdir(folder, 0755) == 0);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(fd >= 0);
    return fd;
}

static void touch(int dir, const char *name) { close(openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)); }

SCENARIO(every_entry_comes_once)
{
    static unsigned char seen[MANY];
    int fd = begin_folder("many"), n, count = 0;
    sley_dirent e;
    sley_dir *d;
    char name[32];

    memset(seen, 0, sizeof seen);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "an entry of the folder %d", i);
        touch(fd, name);
    }
    EXPECT(sley_dir_open(&d, AT_FDCWD, folder, SLEY_FOREVER) == 0);
    while ((n = sley_dir_next(d, &e, SLEY_FOREVER)) > 0) {
        int i = -1;
        struct stat st;

        EXPECT(n == 1 && sscanf(e.name, "an entry of the folder %d", &i) == 1 && i >= 0 && i < MANY && !seen[i]);
        if (i >= 0 && i < MANY)
            seen[i] = 1;
        EXPECT((count++ % 100) != 0 || (fstatat(fd, e.name, &st, 0) == 0 && st.st_ino == e.inode));
        EXPECT(e.type == DT_REG || e.type == DT_UNKNOWN);
    }
    EXPECT(n == 0 && count == MANY && sley_dir_next(d, &e, SLEY_FOREVER) == 0);
    sley_dir_close(d);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "an entry of the folder %d", i);
        EXPECT(unlinkat(fd, name, 0) == 0);
    }
    EXPECT(sley_close(fd) == 0 && rmdir(folder) == 0);
}

SCENARIO(entries_tell_what_they_are)
{
    static char longest[256];
    int fd = begin_folder("kinds"), found = 0;
    sley_dirent e;
    sley_dir *d;

    memset(longest, 'l', 255);
    touch(fd, "file");
    touch(fd, ".hidden");
    touch(fd, "...");
    touch(fd, longest);
    EXPECT(mkdirat(fd, "sub", 0700) == 0 && symlinkat("file", fd, "link") == 0 && mkfifoat(fd, "fifo", 0600) == 0);
    EXPECT(sley_dir_open(&d, fd, ".", SLEY_FOREVER) == 0);
    while (sley_dir_next(d, &e, SLEY_FOREVER) > 0) {
        unsigned char type = strcmp(e.name, "sub") == 0    ? DT_DIR
                             : strcmp(e.name, "link") == 0 ? DT_LNK
                             : strcmp(e.name, "fifo") == 0 ? DT_FIFO
                                                           : DT_REG;

        EXPECT(strcmp(e.name, ".") != 0 && strcmp(e.name, "..") != 0 && (e.type == type || e.type == DT_UNKNOWN));
        found++;
        EXPECT(unlinkat(fd, e.name, type == DT_DIR ? AT_REMOVEDIR : 0) == 0); /* what it was told of is the caller's */
    }
    EXPECT(found == 7);
    sley_dir_close(d);
    EXPECT(sley_close(fd) == 0 && rmdir(folder) == 0);
}

SCENARIO(an_empty_directory_and_one_that_is_gone_have_no_entries)
{
    int fd = begin_folder("empty");
    sley_dirent e;
    sley_dir *d;

    memset(&e, 0xee, sizeof e);
    EXPECT(sley_dir_open(&d, fd, ".", SLEY_FOREVER) == 0 && sley_dir_next(d, &e, SLEY_FOREVER) == 0);
    EXPECT(sley_dir_next(d, &e, SLEY_FOREVER) == 0);
    sley_dir_close(d);
    EXPECT(sley_dir_open(&d, fd, ".", SLEY_FOREVER) == 0 && rmdir(folder) == 0 && sley_dir_next(d, &e, SLEY_FOREVER) == 0);
    sley_dir_close(d);
    EXPECT(is_untouched(&e, sizeof e) && sley_close(fd) == 0);
}

SCENARIO(what_is_wrong_with_a_directory_is_told)
{
    int fd = begin_folder("wrong"), rc;
    sley_dir *none = (sley_dir *)&fd, *d = none;
    sley_dirent e;

    touch(fd, "file");
    EXPECT(sley_dir_open(&d, fd, "file", SLEY_FOREVER) == -ENOTDIR && sley_dir_open(&d, fd, "nothing", SLEY_FOREVER) == -ENOENT);
    EXPECT(sley_dir_open(&d, -1, "file", SLEY_FOREVER) == -EBADF && sley_dir_open(&d, fd, NULL, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_dir_open(NULL, fd, ".", SLEY_FOREVER) == -EINVAL && sley_dir_open(&d, fd, ".", SLEY_S) == -EINVAL && d == none);
    EXPECT(sley_dir_next(NULL, &e, SLEY_FOREVER) == -EINVAL);
    sley_dir_close(NULL);
    rc = sley_dir_open(&d, fd, ".", SLEY_NOW); /* it lies in the caches */
    EXPECT(rc == now_with(SL_FEATURE_RESOLVE_CACHED, 0));
    EXPECT(rc == 0 || (d == none && sley_dir_open(&d, fd, ".", SLEY_FOREVER) == 0));
    EXPECT(sley_dir_next(d, NULL, SLEY_FOREVER) == -EINVAL && sley_dir_next(d, &e, SLEY_S) == -EINVAL);
    EXPECT(sley_dir_next(d, &e, SLEY_NOW) == -EOPNOTSUPP && sley_dir_next(d, &e, SLEY_FOREVER) == 1 && strcmp(e.name, "file") == 0);
    sley_dir_close(d);
    EXPECT(unlinkat(fd, "file", 0) == 0 && sley_close(fd) == 0 && rmdir(folder) == 0);
}

/* Names come and go meanwhile; those that stay are seen once. */
enum { STAYING = 500, READERS = 4 };

static struct { int dir; _Atomic(int) stop, seen_all; } changing;

static int read_again_and_again(void *arg)
{
    (void)arg;
    for (int round = 0; round < 5; round++) {
        unsigned char seen[STAYING] = { 0 };
        int count = 0, n, i;
        sley_dirent e;
        sley_dir *d;

        EXPECT(sley_dir_open(&d, changing.dir, ".", SLEY_FOREVER) == 0);
        while ((n = sley_dir_next(d, &e, SLEY_FOREVER)) > 0)
            if (sscanf(e.name, "stays %d", &i) == 1) {
                EXPECT(!seen[i]);
                count += !seen[i];
                seen[i] = 1;
            }
        sley_dir_close(d);
        EXPECT(n == 0 && count == STAYING);
    }
    changing.stop++;
    return 0;
}

SCENARIO(a_directory_that_changes_is_read)
{
    struct actor readers[READERS];
    char name[32];

    memset(&changing, 0, sizeof changing);
    changing.dir = begin_folder("changing");
    for (int i = 0; i < STAYING; i++) {
        snprintf(name, sizeof name, "stays %d", i);
        touch(changing.dir, name);
    }
    for (int i = 0; i < READERS; i++)
        actor_start(&readers[i], read_again_and_again, NULL);
    while (changing.stop < READERS) {
        touch(changing.dir, "comes");
        EXPECT(unlinkat(changing.dir, "comes", 0) == 0);
        give_way();
    }
    for (int i = 0; i < READERS; i++)
        EXPECT(actor_result(&readers[i]) == 0);
    for (int i = 0; i < STAYING; i++) {
        snprintf(name, sizeof name, "stays %d", i);
        EXPECT(unlinkat(changing.dir, name, 0) == 0);
    }
    EXPECT(sley_close(changing.dir) == 0 && rmdir(folder) == 0);
}

SCENARIO(no_descriptor_is_left)
{
    int before = count_descriptors();

    entries_tell_what_they_are_body();
    what_is_wrong_with_a_directory_is_told_body();
    EXPECT(count_descriptors() == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(every_entry_comes_once),
        PLAYED(entries_tell_what_they_are),
        PLAYED(an_empty_directory_and_one_that_is_gone_have_no_entries),
        PLAYED(what_is_wrong_with_a_directory_is_told),
        PLAYED(a_directory_that_changes_is_read),
        PLAYED(no_descriptor_is_left),
    };

    return cmocka_run_group_tests_name("io_dir", tests, make_temp_dir, remove_temp_dir);
}
