/* test_io_whole_file.c - files read as one piece, and replaced: whole or not at all, with nothing left beside them. Linked with --wrap, so
 * that memory can be refused. */
#include "io_scenario.h"

#include <sys/mount.h>

static _Atomic(long) memory_left = -1; /* allocations that succeed; -1: all */

void *__real_malloc(size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

static int refused(void) { return memory_left >= 0 && (memory_left == 0 || memory_left-- == 0); }
void *__wrap_malloc(size_t bytes) { return refused() ? NULL : __real_malloc(bytes); }
void *__wrap_realloc(void *old, size_t bytes) { return refused() ? NULL : __real_realloc(old, bytes); }

static unsigned char content[3 << 20];

/* --- reading ------------------------------------------------------------------------------------------------------------------- */

static int reads_as(int dir, const char *path, const void *bytes, size_t count)
{
    size_t got = 12345;
    void *out = NULL;
    int rc = sley_file_read(dir, path, &out, &got, SLEY_FOREVER), is;

    is = rc == 0 && got == count && memcmp(out, bytes, count) == 0 && ((char *)out)[count] == '\0';
    free(out);
    return is;
}

SCENARIO(files_of_any_size_are_read)
{
    static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 8191, 262143, 262144, 262145, 1 << 20, sizeof content };
    int fd = make_file("sized", "", 0);

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        EXPECT(pwrite(fd, content, sizes[i], 0) == (ssize_t)sizes[i]);
        EXPECT(reads_as(AT_FDCWD, temp_path("sized"), content, sizes[i]));
        EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
        EXPECT(reads_as(AT_FDCWD, temp_path("sized"), content, sizes[i]));
    }
    EXPECT(sley_close(fd) == 0);
}

/* Their size says 0, and each read gives a page at most. */
SCENARIO(files_of_proc_are_read_to_their_end)
{
    static const char *const paths[] = { "/proc/self/status", "/proc/self/maps", "/proc/cpuinfo", "/proc/self/smaps", "/proc/filesystems" };

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        size_t got = 0;
        void *out = NULL;

        EXPECT(sley_file_read(AT_FDCWD, paths[i], &out, &got, SLEY_FOREVER) == 0 && got > 0 && strlen(out) == got);
        EXPECT(out != NULL && ((char *)out)[got - 1] == '\n');
        free(out);
    }
}

static int feed(struct io_call *c)
{
    for (size_t at = 0; at < c->bytes; at += 1000) {
        if (sley_write_all(c->fd, (char *)c->buf + at, c->bytes - at < 1000 ? c->bytes - at : 1000, SLEY_FOREVER) < 0)
            return -EIO;
        give_way();
    }
    return sley_close(c->fd);
}

static int read_fifo(void *arg) { return !reads_as(AT_FDCWD, arg, content, 100500); }

SCENARIO(what_comes_bit_by_bit_is_read)
{
    struct io_call c = { .call = feed, .buf = content, .bytes = 100500 };
    struct actor reader;
    char path[PATH_MAX];
    int held;

    snprintf(path, sizeof path, "%s", temp_path("fifo"));
    EXPECT(mkfifo(path, 0600) == 0);
    held = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* so that the writer finds a reader, however late the other one comes */
    c.fd = open(path, O_WRONLY | O_CLOEXEC);
    actor_start(&reader, read_fifo, path);
    EXPECT(call_waits(&reader));
    actor_start(&c.actor, io_call_main, &c);
    EXPECT(io_call_result(&c) == 0 && actor_result(&reader) == 0 && close(held) == 0 && unlink(path) == 0);
}

SCENARIO(what_cannot_be_read_is_told_and_nothing_is_left)
{
    int before = count_descriptors(), fd = make_file("huge", "x", 1), dir = open(temp_dir, O_PATH | O_CLOEXEC);
    size_t bytes = 77;
    void *out = &fd;

    EXPECT(ftruncate(fd, (off_t)INT32_MAX + 1) == 0);
    EXPECT(sley_file_read(dir, "huge", &out, &bytes, SLEY_FOREVER) == -EFBIG && ftruncate(fd, 1) == 0);
    EXPECT(sley_file_read(dir, "nothing", &out, &bytes, SLEY_FOREVER) == -ENOENT);
    EXPECT(sley_file_read(dir, ".", &out, &bytes, SLEY_FOREVER) == -EISDIR);
    EXPECT(sley_file_read(dir, NULL, &out, &bytes, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_file_read(-1, "huge", &out, &bytes, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_file_read(dir, "huge", NULL, &bytes, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_file_read(dir, "huge", &out, &bytes, SLEY_S) == -EINVAL);
    EXPECT(out == &fd && bytes == 77);
    EXPECT(sley_file_read(dir, "huge", &out, NULL, SLEY_FOREVER) == 0 && strcmp(out, "x") == 0);
    free(out);
    EXPECT(sley_close(dir) == 0 && sley_close(fd) == 0 && count_descriptors() == before);
}

static void read_without_memory(void)
{
    int before = count_descriptors(), fd = make_file("sized", content, 5000), refusals = 0;
    size_t bytes = 77;
    void *out = &fd;

    EXPECT(sley_file_read(AT_FDCWD, "/proc/self/status", &out, &bytes, SLEY_FOREVER) == 0); /* what is allocated once is */
    free(out);
    for (int allowed = 0; allowed < 3; allowed++) {
        int rc;

        out = &fd;
        bytes = 77;
        memory_left = allowed;
        rc = sley_file_read(AT_FDCWD, allowed < 2 ? "/proc/self/smaps" : temp_path("sized"), &out, &bytes, SLEY_FOREVER);
        memory_left = -1;
        refusals += rc == -ENOMEM;
        EXPECT(rc == -ENOMEM ? out == &fd && bytes == 77 : rc == 0);
        if (rc == 0)
            free(out);
    }
    EXPECT(refusals == 2 && sley_close(fd) == 0 && count_descriptors() == before);
}

static void without_memory_a_file_is_not_read(void **state)
{
    (void)state;
    play(read_without_memory, THREADS); /* nothing else allocates meanwhile */
}

/* --- replacing ----------------------------------------------------------------------------------------------------------------- */

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    while (d != NULL && readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

static char folder[PATH_MAX];

static int begin_folder(const char *name)
{
    int fd;

    snprintf(folder, sizeof folder, "%s", temp_path(name));
    EXPECT(mkdir(folder, 0755) == 0);
    fd = open(folder, O_PATH | O_CLOEXEC);
    EXPECT(fd >= 0);
    return fd;
}

static void end_folder(int fd) { EXPECT(sley_close(fd) == 0 && entries(folder) == 0 && rmdir(folder) == 0); }

static mode_t mode_of(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_mode & 07777 : 0;
}

SCENARIO(a_file_is_made_and_replaced)
{
    int dir = begin_folder("replaced");
    char path[PATH_MAX + 16];

    EXPECT(sley_file_replace(dir, "file", "first", 5, 0640, SLEY_FOREVER) == 0 && reads_as(dir, "file", "first", 5));
    EXPECT(mode_of(dir, "file") == 0640 && entries(folder) == 1);
    EXPECT(sley_file_replace(dir, "file", content, sizeof content, 0400, SLEY_FOREVER) == 0);
    EXPECT(reads_as(dir, "file", content, sizeof content) && mode_of(dir, "file") == 0400 && entries(folder) == 1);
    snprintf(path, sizeof path, "%s/file", folder);
    EXPECT(sley_file_replace(-1, path, NULL, 0, 0666, SLEY_FOREVER) == 0 && reads_as(dir, "file", "", 0));
    EXPECT(mode_of(dir, "file") == 0666); /* whatever the umask says */
    EXPECT(mkdirat(dir, "sub", 0700) == 0 && sley_file_replace(dir, "sub//file", "x", 1, 04755, SLEY_FOREVER) == 0);
    EXPECT(reads_as(dir, "sub/file", "x", 1) && mode_of(dir, "sub/file") == 04755 && entries(folder) == 2);
    EXPECT(symlinkat("file", dir, "link") == 0 && sley_file_replace(dir, "link", "y", 1, 0600, SLEY_FOREVER) == 0);
    EXPECT(reads_as(dir, "link", "y", 1) && reads_as(dir, "file", "", 0));
    EXPECT(unlinkat(dir, "sub/file", 0) == 0 && unlinkat(dir, "sub", AT_REMOVEDIR) == 0);
    EXPECT(unlinkat(dir, "file", 0) == 0 && unlinkat(dir, "link", 0) == 0);
    end_folder(dir);
}

SCENARIO(names_are_as_long_as_may_be)
{
    char name[NAME_MAX + 2];
    int dir = begin_folder("long");

    memset(name, 'n', NAME_MAX + 1);
    name[NAME_MAX + 1] = '\0';
    EXPECT(sley_file_replace(dir, name, "x", 1, 0600, SLEY_FOREVER) == -ENAMETOOLONG && entries(folder) == 0);
    name[NAME_MAX] = '\0';
    EXPECT(sley_file_replace(dir, name, "x", 1, 0600, SLEY_FOREVER) == 0 && reads_as(dir, name, "x", 1));
    EXPECT(unlinkat(dir, name, 0) == 0);
    end_folder(dir);
}

SCENARIO(what_cannot_be_replaced_is_told_and_nothing_is_left)
{
    static const char *const no_names[] = { "sub/", "sub/.", "sub/..", ".", "..", "/", "sub" };
    int before = count_descriptors(), dir = begin_folder("kept");
    char *path = malloc(PATH_MAX + 10);

    EXPECT(mkdirat(dir, "sub", 0700) == 0 && sley_file_replace(dir, "file", "old", 3, 0600, SLEY_FOREVER) == 0);
    for (size_t i = 0; i < sizeof no_names / sizeof *no_names; i++)
        EXPECT(sley_file_replace(dir, no_names[i], "x", 1, 0600, SLEY_FOREVER) == -EISDIR);
    EXPECT(sley_file_replace(dir, "", "x", 1, 0600, SLEY_FOREVER) == -ENOENT);
    EXPECT(sley_file_replace(dir, NULL, "x", 1, 0600, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_file_replace(dir, "nothing/file", "x", 1, 0600, SLEY_FOREVER) == -ENOENT);
    EXPECT(sley_file_replace(dir, "file/file", "x", 1, 0600, SLEY_FOREVER) == -ENOTDIR);
    EXPECT(sley_file_replace(-1, "file", "x", 1, 0600, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_file_replace(dir, "file", NULL, 1, 0600, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_file_replace(dir, "file", "x", 1, 0600, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_file_replace(dir, "file", "x", 1, 0600, SLEY_S) == -EINVAL);
    memset(path, '/', PATH_MAX + 5);
    strcpy(path + PATH_MAX + 5, "file");
    EXPECT(sley_file_replace(dir, path, "x", 1, 0600, SLEY_FOREVER) == -ENAMETOOLONG);
    free(path);
    EXPECT(reads_as(dir, "file", "old", 3) && entries(folder) == 2);
    EXPECT(unlinkat(dir, "file", 0) == 0 && unlinkat(dir, "sub", AT_REMOVEDIR) == 0);
    end_folder(dir);
    EXPECT(count_descriptors() == before);
}

static const char *small_disk; /* a file system of 64 KiB, if this process may mount one */

static void replace_on_a_full_disk(void)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/file", small_disk);
    EXPECT(sley_file_replace(AT_FDCWD, path, content, 30000, 0600, SLEY_FOREVER) == 0);
    EXPECT(sley_file_replace(AT_FDCWD, path, content, 60000, 0600, SLEY_FOREVER) == -ENOSPC);
    EXPECT(reads_as(AT_FDCWD, path, content, 30000) && entries(small_disk) == 1);
    EXPECT(sley_file_replace(AT_FDCWD, path, content, 20000, 0600, SLEY_FOREVER) == 0 && reads_as(AT_FDCWD, path, content, 20000));
    EXPECT(unlink(path) == 0);
}

static void on_a_full_disk_the_old_file_stays(void **state)
{
    static char mounted[PATH_MAX];

    (void)state;
    snprintf(mounted, sizeof mounted, "%s", temp_path("disk"));
    if (mkdir(mounted, 0700) != 0 || mount("none", mounted, "tmpfs", 0, "size=64k") != 0) {
        rmdir(mounted);
        skip();
    }
    small_disk = mounted;
    play_all(replace_on_a_full_disk);
    assert_int_equal(umount(mounted), 0);
    assert_int_equal(rmdir(mounted), 0);
}

/* Many replace one file, some of them cut short by their time, while others read it: it is whole at any time. */
enum { WRITERS = 6, READERS = 2, ROUNDS = 15, BYTES_MAX = 50000 };

static struct { int dir; _Atomic(int) writers, replaced, late; } contest;

static int replace_again_and_again(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    unsigned char *bytes = malloc(BYTES_MAX);

    for (int i = 0; i < ROUNDS; i++) {
        size_t count = 1 + below(&random, BYTES_MAX - 1);
        sley_time deadline = below(&random, 2) == 0 ? SLEY_FOREVER : sley_after((sley_time)below(&random, 2000) * SLEY_US);
        int rc;

        memset(bytes, (int)(count & 0xff), count); /* a file of one byte's kind, which says how many */
        rc = sley_file_replace(contest.dir, "shared", bytes, count, 0600, deadline);
        EXPECT(rc == 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
        rc == 0 ? contest.replaced++ : contest.late++;
    }
    free(bytes);
    contest.writers--;
    return 0;
}

static int read_again_and_again(void *arg)
{
    (void)arg;
    while (contest.writers > 0) {
        unsigned char *out;
        size_t count;
        void *read;

        EXPECT(sley_file_read(contest.dir, "shared", &read, &count, SLEY_FOREVER) == 0 && count > 0);
        out = read;
        EXPECT(out[0] == (unsigned char)count && memcmp(out, out + 1, count - 1) == 0);
        free(read);
        give_way();
    }
    return 0;
}

SCENARIO(a_file_is_whole_while_many_replace_it)
{
    struct actor writers[WRITERS], readers[READERS];
    uint64_t seeds[WRITERS], seed = test_seed();
    int before = count_descriptors();

    memset(&contest, 0, sizeof contest);
    contest.dir = begin_folder("contest");
    contest.writers = WRITERS;
    EXPECT(sley_file_replace(contest.dir, "shared", "\001", 1, 0600, SLEY_FOREVER) == 0);
    for (int i = 0; i < WRITERS; i++) {
        seeds[i] = seed + (uint64_t)i;
        actor_start(&writers[i], replace_again_and_again, &seeds[i]);
    }
    for (int i = 0; i < READERS; i++)
        actor_start(&readers[i], read_again_and_again, NULL);
    for (int i = 0; i < WRITERS; i++)
        EXPECT(actor_result(&writers[i]) == 0);
    for (int i = 0; i < READERS; i++)
        EXPECT(actor_result(&readers[i]) == 0);
    EXPECT(contest.replaced + contest.late == WRITERS * ROUNDS && entries(folder) == 1 && unlinkat(contest.dir, "shared", 0) == 0);
    end_folder(contest.dir);
    EXPECT(count_descriptors() == before);
}

static void an_old_kernel_does_the_same(void **state)
{
    (void)state;
    play_on_old_kernel(a_file_is_made_and_replaced_body, NULL);
    play_on_old_kernel(what_cannot_be_replaced_is_told_and_nothing_is_left_body, NULL);
    play_on_old_kernel(a_file_is_whole_while_many_replace_it_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(files_of_any_size_are_read),
        PLAYED(files_of_proc_are_read_to_their_end),
        PLAYED(what_comes_bit_by_bit_is_read),
        PLAYED(what_cannot_be_read_is_told_and_nothing_is_left),
        cmocka_unit_test(without_memory_a_file_is_not_read),
        PLAYED(a_file_is_made_and_replaced),
        PLAYED(names_are_as_long_as_may_be),
        PLAYED(what_cannot_be_replaced_is_told_and_nothing_is_left),
        cmocka_unit_test(on_a_full_disk_the_old_file_stays),
        PLAYED(a_file_is_whole_while_many_replace_it),
        cmocka_unit_test(an_old_kernel_does_the_same),
    };

    fill_pattern(content, sizeof content, 0);
    return cmocka_run_group_tests_name("io_whole_file", tests, make_temp_dir, remove_temp_dir);
}
