/* test_io_name.c - names of files: rename, link, symlink, readlink, unlink, mkdir. */
#include "io_scenario.h"

static int exists(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A new directory in the temporary one, to be removed by end_folder. */
static int begin_folder(const char *name)
{
    int fd;

    EXPECT(sley_mkdirat(AT_FDCWD, temp_path(name), 0755, SLEY_FOREVER) == 0);
    fd = open(temp_path(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(fd >= 0);
    return fd;
}

static void end_folder(int fd, const char *name)
{
    EXPECT(sley_close(fd) == 0 && sley_unlinkat(AT_FDCWD, temp_path(name), AT_REMOVEDIR, SLEY_FOREVER) == 0);
}

static void make_in(int dir, const char *name, const char *text)
{
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    EXPECT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static int holds(int dir, const char *name, const char *text)
{
    char buf[64] = "";
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, buf, sizeof buf - 1);

    return close(fd) == 0 && n == (ssize_t)strlen(text) && strcmp(buf, text) == 0;
}

SCENARIO(a_rename_moves_a_file_between_directories)
{
    int from = begin_folder("from"), to = begin_folder("to");

    make_in(from, "a", "one");
    make_in(to, "there", "two");
    EXPECT(sley_renameat2(from, "a", to, "there", RENAME_NOREPLACE, SLEY_FOREVER) == -EEXIST);
    EXPECT(sley_renameat2(from, "a", to, "there", RENAME_EXCHANGE, SLEY_FOREVER) == 0);
    EXPECT(holds(from, "a", "two") && holds(to, "there", "one"));
    EXPECT(sley_renameat2(from, "a", to, "there", 0, SLEY_FOREVER) == 0);
    EXPECT(!exists(from, "a") && holds(to, "there", "two"));
    EXPECT(sley_renameat2(from, "a", to, "there", 0, SLEY_FOREVER) == -ENOENT);
    EXPECT(sley_renameat2(to, "there", AT_FDCWD, temp_path("moved"), 0, SLEY_FOREVER) == 0); /* one of them by a path of its own */
    EXPECT(sley_renameat2(-1, temp_path("moved"), to, "there", 0, SLEY_FOREVER) == 0);
    EXPECT(sley_unlinkat(to, "there", 0, SLEY_FOREVER) == 0 && !exists(to, "there"));
    end_folder(from, "from");
    end_folder(to, "to");
}

SCENARIO(a_directory_is_made_and_removed_when_it_is_empty)
{
    int dir = begin_folder("outer");
    struct stat st;
    mode_t mask = umask(022);

    umask(mask);
    EXPECT(sley_mkdirat(dir, "inner", 0777, SLEY_FOREVER) == 0);
    EXPECT(fstatat(dir, "inner", &st, 0) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == (0777 & ~mask));
    EXPECT(sley_mkdirat(dir, "inner", 0777, SLEY_FOREVER) == -EEXIST);
    make_in(dir, "inner/file", "x");
    EXPECT(sley_unlinkat(dir, "inner", AT_REMOVEDIR, SLEY_FOREVER) == -ENOTEMPTY);
    EXPECT(sley_unlinkat(dir, "inner", 0, SLEY_FOREVER) == -EISDIR);
    EXPECT(sley_unlinkat(dir, "inner/file", AT_REMOVEDIR, SLEY_FOREVER) == -ENOTDIR);
    EXPECT(sley_unlinkat(dir, "inner/file", 0, SLEY_FOREVER) == 0);
    EXPECT(sley_unlinkat(dir, "inner", AT_REMOVEDIR, SLEY_FOREVER) == 0 && !exists(dir, "inner"));
    end_folder(dir, "outer");
}

SCENARIO(links_of_both_kinds_are_made_and_read)
{
    int dir = begin_folder("links"), fd;
    char buf[32];
    struct stat st;

    make_in(dir, "file", "bytes");
    EXPECT(sley_linkat(dir, "file", dir, "hard", 0, SLEY_FOREVER) == 0);
    EXPECT(fstatat(dir, "hard", &st, 0) == 0 && st.st_nlink == 2 && holds(dir, "hard", "bytes"));
    EXPECT(sley_linkat(dir, "file", dir, "hard", 0, SLEY_FOREVER) == -EEXIST);
    EXPECT(sley_symlinkat("file", dir, "soft", SLEY_FOREVER) == 0 && holds(dir, "soft", "bytes"));
    EXPECT(sley_symlinkat("file", dir, "soft", SLEY_FOREVER) == -EEXIST);
    memset(buf, 0xee, sizeof buf);
    EXPECT(sley_readlinkat(dir, "soft", buf, sizeof buf, SLEY_FOREVER) == 4 && memcmp(buf, "file", 4) == 0);
    EXPECT(is_untouched(buf + 4, sizeof buf - 4));
    memset(buf, 0xee, sizeof buf);
    EXPECT(sley_readlinkat(dir, "soft", buf, 2, SLEY_FOREVER) == 2 && memcmp(buf, "fi", 2) == 0 && is_untouched(buf + 2, 30));
    EXPECT(sley_readlinkat(dir, "file", buf, sizeof buf, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_readlinkat(dir, "soft", buf, 0, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_symlinkat("", dir, "empty", SLEY_FOREVER) == -ENOENT);
    EXPECT(sley_linkat(dir, "soft", dir, "followed", AT_SYMLINK_FOLLOW, SLEY_FOREVER) == 0);
    EXPECT(fstatat(dir, "followed", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode));

    fd = openat(dir, "soft", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    EXPECT(sley_readlinkat(fd, "", buf, sizeof buf, SLEY_FOREVER) == 4);
    EXPECT(sley_close(fd) == 0);
    for (const char **name = (const char *[]){ "file", "hard", "soft", "followed", NULL }; *name != NULL; name++)
        EXPECT(sley_unlinkat(dir, *name, 0, SLEY_FOREVER) == 0);
    end_folder(dir, "links");
}

/* A file without a name gets one. Only who may read every file can do that by descriptor alone. */
SCENARIO(an_open_file_is_given_a_name)
{
    int dir = begin_folder("unnamed"), fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), rc;

    if (fd >= 0) {
        EXPECT(write(fd, "x", 1) == 1);
        rc = sley_linkat(fd, "", dir, "named", AT_EMPTY_PATH, SLEY_FOREVER);
        EXPECT(rc == 0 ? holds(dir, "named", "x") && unlinkat(dir, "named", 0) == 0 : rc == -ENOENT);
        EXPECT(sley_close(fd) == 0);
    }
    end_folder(dir, "unnamed");
}

SCENARIO(what_is_wrong_with_a_name_is_told)
{
    static char long_name[300], long_path[PATH_MAX + 10], buf[8];
    int dir = begin_folder("wrong"), gone = dup(dir);

    memset(long_name, 'n', sizeof long_name - 1);
    memset(long_path, '/', sizeof long_path - 1);
    make_in(dir, "file", "x");
    EXPECT(close(gone) == 0);
    EXPECT(sley_renameat2(dir, "file", gone, "other", 0, SLEY_FOREVER) == -EBADF && exists(dir, "file"));
    EXPECT(sley_renameat2(gone, "file", dir, "other", 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_linkat(-1, "file", dir, "other", 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_unlinkat(gone, "file", 0, SLEY_FOREVER) == -EBADF && sley_mkdirat(-5, "x", 0700, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_renameat2(dir, NULL, dir, "other", 0, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_renameat2(dir, "file", dir, NULL, 0, SLEY_FOREVER) == -EFAULT && sley_unlinkat(dir, NULL, 0, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_symlinkat(NULL, dir, "x", SLEY_FOREVER) == -EFAULT && sley_mkdirat(dir, NULL, 0700, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_readlinkat(dir, NULL, buf, sizeof buf, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_renameat2(dir, "file", dir, long_name, 0, SLEY_FOREVER) == -ENAMETOOLONG && exists(dir, "file"));
    EXPECT(sley_mkdirat(dir, long_path, 0700, SLEY_FOREVER) == -ENAMETOOLONG);
    EXPECT(sley_unlinkat(dir, "nothing", 0, SLEY_FOREVER) == -ENOENT && sley_unlinkat(dir, "file/x", 0, SLEY_FOREVER) == -ENOTDIR);
    EXPECT(sley_unlinkat(dir, "file", 0x40000000, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_renameat2(dir, "file", dir, "x", 0x40000000, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_renameat2(dir, "file", dir, "x", 0, SLEY_NOW) == -EOPNOTSUPP && sley_unlinkat(dir, "file", 0, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_mkdirat(dir, "x", 0700, SLEY_NOW) == -EOPNOTSUPP && sley_readlinkat(dir, "x", buf, 8, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_unlinkat(dir, "file", 0, SLEY_S) == -EINVAL); /* a length of time */
    EXPECT(sley_unlinkat(dir, "file", 0, SLEY_FOREVER) == 0);
    end_folder(dir, "wrong");
}

/* Many fibers give one name to their files, one after the other or at once: it is one of them at any time, and no file is left over. */
enum { RENAMERS = 8, RENAMES = 20 };

static struct { int dir; _Atomic(int) missing; } contest;

static int rename_again_and_again(void *arg)
{
    int number = *(int *)arg;
    char own[16], text[16];
    struct stat st;

    snprintf(own, sizeof own, "own%d", number);
    snprintf(text, sizeof text, "%d", number);
    for (int i = 0; i < RENAMES; i++) {
        make_in(contest.dir, own, text);
        EXPECT(sley_renameat2(contest.dir, own, contest.dir, "shared", 0, SLEY_FOREVER) == 0);
        if (fstatat(contest.dir, "shared", &st, 0) != 0)
            contest.missing++;
    }
    return 0;
}

SCENARIO(a_name_that_many_replace_is_always_there)
{
    struct actor actors[RENAMERS];
    int numbers[RENAMERS], left = 0;
    struct dirent *e;
    DIR *d;

    contest.dir = begin_folder("contest");
    contest.missing = 0;
    for (int i = 0; i < RENAMERS; i++) {
        numbers[i] = i;
        actor_start(&actors[i], rename_again_and_again, &numbers[i]);
    }
    for (int i = 0; i < RENAMERS; i++)
        EXPECT(actor_result(&actors[i]) == 0);
    EXPECT(contest.missing == 0);
    d = fdopendir(dup(contest.dir));
    rewinddir(d);
    while ((e = readdir(d)) != NULL)
        left += e->d_name[0] != '.';
    closedir(d);
    EXPECT(left == 1 && sley_unlinkat(contest.dir, "shared", 0, SLEY_FOREVER) == 0);
    end_folder(contest.dir, "contest");
}

SCENARIO(no_descriptor_is_left)
{
    int before = count_descriptors();

    a_rename_moves_a_file_between_directories_body();
    what_is_wrong_with_a_name_is_told_body();
    EXPECT(count_descriptors() == before);
}

static void an_old_kernel_does_the_same_on_the_pool(void **state)
{
    play_on_old_kernel(a_rename_moves_a_file_between_directories_body, NULL);
    play_on_old_kernel(a_directory_is_made_and_removed_when_it_is_empty_body, NULL);
    play_on_old_kernel(links_of_both_kinds_are_made_and_read_body, NULL);
    play_on_old_kernel(an_open_file_is_given_a_name_body, NULL);
    play_on_old_kernel(what_is_wrong_with_a_name_is_told_body, NULL);
    play_on_old_kernel(a_name_that_many_replace_is_always_there_body, NULL);
    play_on_old_kernel(no_descriptor_is_left_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_rename_moves_a_file_between_directories),
        PLAYED(a_directory_is_made_and_removed_when_it_is_empty),
        PLAYED(links_of_both_kinds_are_made_and_read),
        PLAYED(an_open_file_is_given_a_name),
        PLAYED(what_is_wrong_with_a_name_is_told),
        PLAYED(a_name_that_many_replace_is_always_there),
        PLAYED(no_descriptor_is_left),
        cmocka_unit_test(an_old_kernel_does_the_same_on_the_pool),
    };

    return cmocka_run_group_tests_name("io_name", tests, make_temp_dir, remove_temp_dir);
}
