/* test_io_file.c - opening, looking at and syncing files. */
#include "io_scenario.h"

#include <linux/openat2.h>

static int is_cloexec(int fd) { return fcntl(fd, F_GETFD) & FD_CLOEXEC; }

SCENARIO(open_makes_and_finds_files)
{
    char buf[8];
    struct stat st;
    int fd = sley_open(temp_path("made"), O_RDWR | O_CREAT | O_EXCL, 0640, SLEY_FOREVER);

    EXPECT(fd >= 0 && is_cloexec(fd) && fstat(fd, &st) == 0 && (st.st_mode & 0777 & ~0640u) == 0 && st.st_mode & 0600);
    EXPECT(sley_write(fd, "bytes", 5, SLEY_FOREVER) == 5 && sley_fsync(fd, SLEY_FOREVER) == 0 && sley_close(fd) == 0);
    EXPECT(sley_open(temp_path("made"), O_RDWR | O_CREAT | O_EXCL, 0640, SLEY_FOREVER) == -EEXIST);
    fd = sley_open(temp_path("made"), O_RDONLY, 0, SLEY_FOREVER);
    EXPECT(fd >= 0 && sley_read(fd, buf, 8, SLEY_FOREVER) == 5 && !(fcntl(fd, F_GETFL) & O_NONBLOCK));
    EXPECT(sley_close(fd) == 0 && unlink(temp_path("made")) == 0);
    EXPECT(sley_open(temp_path("made"), O_RDONLY, 0, SLEY_FOREVER) == -ENOENT);
}

SCENARIO(openat_is_relative_to_its_directory)
{
    int dir = sley_open(temp_dir, O_RDONLY | O_DIRECTORY, 0, SLEY_FOREVER), path, fd;

    EXPECT(close(make_file("relative", "x", 1)) == 0);
    EXPECT(dir >= 0 && is_cloexec(dir));
    fd = sley_openat(dir, "relative", O_RDONLY, 0, SLEY_FOREVER);
    EXPECT(fd >= 0 && sley_close(fd) == 0);
    path = sley_openat(dir, "relative", O_PATH, 0, SLEY_FOREVER);
    EXPECT(path >= 0 && sley_close(path) == 0);
    EXPECT(sley_openat(dir, "relative", O_RDONLY | O_DIRECTORY, 0, SLEY_FOREVER) == -ENOTDIR);
    EXPECT(sley_openat(dir, "relative/x", O_RDONLY, 0, SLEY_FOREVER) == -ENOTDIR);
    EXPECT(sley_openat(-1, "relative", O_RDONLY, 0, SLEY_FOREVER) == -EBADF);
    fd = sley_openat(-1, temp_path("relative"), O_RDONLY, 0, SLEY_FOREVER);
    EXPECT(fd >= 0 && sley_close(fd) == 0);
    EXPECT(sley_openat(dir, NULL, O_RDONLY, 0, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_close(dir) == 0);
}

SCENARIO(openat2_stays_beneath_its_directory)
{
    struct { struct open_how how; uint64_t more; } beneath = { { .flags = O_RDONLY, .resolve = RESOLVE_BENEATH }, 0 };
    struct { struct open_how how; uint64_t more; } newer = { { .flags = O_RDONLY }, 1 };
    int dir = sley_open(temp_dir, O_PATH | O_DIRECTORY, 0, SLEY_FOREVER), fd;

    EXPECT(close(make_file("inside", "x", 1)) == 0);
    unlink(temp_path("link"));
    EXPECT(symlink("/etc/passwd", temp_path("link")) == 0);
    fd = sley_openat2(dir, "inside", &beneath.how, sizeof beneath.how, SLEY_FOREVER);
    if (fd == -ENOSYS) { /* in an emulator of Linux */
        EXPECT(sley_close(dir) == 0);
        return;
    }
    EXPECT(fd >= 0 && is_cloexec(fd) && sley_close(fd) == 0);
    fd = sley_openat2(dir, "inside", &beneath.how, sizeof beneath, SLEY_FOREVER);
    EXPECT(fd >= 0 && sley_close(fd) == 0);
    EXPECT(sley_openat2(dir, "../passwd", &beneath.how, sizeof beneath.how, SLEY_FOREVER) == -EXDEV);
    EXPECT(sley_openat2(dir, "link", &beneath.how, sizeof beneath.how, SLEY_FOREVER) == -EXDEV);
    beneath.how.flags = O_RDONLY | O_NONBLOCK;
    EXPECT(sley_openat2(dir, "link", &beneath.how, sizeof beneath.how, SLEY_FOREVER) == -EXDEV);
    fd = sley_openat2(dir, "inside", &beneath.how, sizeof beneath.how, SLEY_FOREVER);
    EXPECT(fd >= 0 && sley_close(fd) == 0);
    EXPECT(sley_openat2(dir, "inside", &newer.how, sizeof newer, SLEY_FOREVER) == -E2BIG);
    EXPECT(sley_openat2(dir, "inside", &beneath.how, 8, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_openat2(dir, "inside", NULL, sizeof beneath.how, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_close(dir) == 0);
}

SCENARIO(open_with_now_finds_what_is_in_the_caches)
{
    int fd;

    EXPECT(close(make_file("cached", "x", 1)) == 0);
    fd = sley_open(temp_path("cached"), O_RDONLY, 0, SLEY_NOW);
    if (sl_feature_may(SL_FEATURE_RESOLVE_CACHED))
        EXPECT(fd >= 0 && is_cloexec(fd) && !(fcntl(fd, F_GETFL) & O_NONBLOCK) && sley_close(fd) == 0);
    else
        EXPECT(fd == -EOPNOTSUPP);
    EXPECT(sley_open(temp_path("cached"), O_WRONLY | O_CREAT, 0600, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_open(temp_path("cached"), O_RDONLY, 0, SLEY_S) == -EINVAL);
}

SCENARIO(statx_by_path_and_by_descriptor)
{
    struct statx by_path, by_fd, untouched;
    int fd = make_file("looked_at", "12345", 5), dir = open(temp_dir, O_PATH | O_CLOEXEC);

    EXPECT(sley_statx(dir, "looked_at", 0, STATX_BASIC_STATS, &by_path, SLEY_FOREVER) == 0 && by_path.stx_size == 5);
    EXPECT(sley_statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &by_fd, SLEY_NOW) == 0 && by_fd.stx_ino == by_path.stx_ino);
    EXPECT(sley_statx(AT_FDCWD, temp_path("looked_at"), 0, STATX_SIZE, &by_path, SLEY_FOREVER) == 0 && by_path.stx_size == 5);
    memset(&untouched, 7, sizeof untouched);
    by_path = untouched;
    EXPECT(sley_statx(dir, "nothing", 0, STATX_SIZE, &untouched, SLEY_FOREVER) == -ENOENT);
    EXPECT(memcmp(&untouched, &by_path, sizeof untouched) == 0);
    EXPECT(sley_close(fd) == 0 && sley_close(dir) == 0);
    EXPECT(sley_statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &by_fd, SLEY_FOREVER) == -EBADF);
}

SCENARIO(fsync_wants_a_file)
{
    int fd = make_file("synced", "12345", 5), p[2];

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    EXPECT(sley_fsync(fd, SLEY_FOREVER) == 0 && sley_fsync(fd, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_fsync(p[0], SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_close(fd) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
    EXPECT(sley_fsync(fd, SLEY_FOREVER) == -EBADF);
}

SCENARIO(no_descriptor_is_left_or_lost)
{
    int before = count_descriptors();

    for (int i = 0; i < 200; i++) {
        int fd = sley_open(temp_path("counted"), O_RDWR | O_CREAT, 0600, SLEY_FOREVER);

        EXPECT(fd >= 0 && sley_open(temp_path("nothing"), O_RDONLY, 0, SLEY_FOREVER) == -ENOENT);
        EXPECT(sley_close(fd) == 0 && sley_close(fd) == -EBADF);
    }
    EXPECT(count_descriptors() == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(open_makes_and_finds_files),
        PLAYED(openat_is_relative_to_its_directory),
        PLAYED(openat2_stays_beneath_its_directory),
        PLAYED(open_with_now_finds_what_is_in_the_caches),
        PLAYED(statx_by_path_and_by_descriptor),
        PLAYED(fsync_wants_a_file),
        PLAYED(no_descriptor_is_left_or_lost),
    };

    return cmocka_run_group_tests_name("io_file", tests, make_temp_dir, remove_temp_dir);
}
