/* test_io_space.c - fsync and its kin, fallocate, ftruncate, fadvise. */
#include "io_scenario.h"

static off_t size_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? st.st_size : -1;
}

static off_t blocks_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? st.st_blocks : -1;
}

SCENARIO(what_was_written_is_brought_to_the_disk)
{
    static unsigned char bytes[100000];
    int fd = make_file("flushed", "", 0), p[2];

    fill_pattern(bytes, sizeof bytes, 0);
    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    EXPECT(sley_write_all(fd, bytes, sizeof bytes, SLEY_FOREVER) == 0);
    EXPECT(sley_sync_file_range(fd, 0, 4096, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER, SLEY_FOREVER) == 0);
    EXPECT(sley_sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE, SLEY_FOREVER) == 0); /* to the end */
    EXPECT(sley_sync_file_range(fd, 0, INT64_C(5) << 32, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER, SLEY_FOREVER) == 0);
    EXPECT(sley_fdatasync(fd, SLEY_FOREVER) == 0 && sley_fsync(fd, SLEY_FOREVER) == 0);

    EXPECT(sley_fdatasync(fd, SLEY_NOW) == -EOPNOTSUPP && sley_sync_file_range(fd, 0, 1, 0, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_fdatasync(p[0], SLEY_FOREVER) == -EINVAL && sley_sync_file_range(p[0], 0, 1, 0, SLEY_FOREVER) == -ESPIPE);
    EXPECT(sley_sync_file_range(fd, 0, -1, 0, SLEY_FOREVER) == -EINVAL && sley_sync_file_range(fd, -1, 1, 0, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_sync_file_range(fd, 0, 1, 0x100, SLEY_FOREVER) == -EINVAL && sley_fdatasync(fd, SLEY_S) == -EINVAL);
    EXPECT(sley_close(fd) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
    EXPECT(sley_fdatasync(fd, SLEY_FOREVER) == -EBADF && sley_sync_file_range(fd, 0, 1, 0, SLEY_FOREVER) == -EBADF);
}

SCENARIO(a_file_is_cut_and_grown)
{
    char buf[16];
    int fd = make_file("cut", "0123456789", 10), readonly = open(temp_path("cut"), O_RDONLY | O_CLOEXEC), p[2];

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    EXPECT(sley_ftruncate(fd, 4, SLEY_FOREVER) == 0 && size_of(fd) == 4);
    EXPECT(sley_ftruncate(fd, 8, SLEY_FOREVER) == 0 && size_of(fd) == 8);
    EXPECT(sley_pread(fd, buf, sizeof buf, 0, SLEY_FOREVER) == 8 && memcmp(buf, "0123\0\0\0\0", 8) == 0);
    EXPECT(sley_ftruncate(fd, INT64_C(1) << 33, SLEY_FOREVER) == 0 && size_of(fd) == INT64_C(1) << 33);
    EXPECT(sley_ftruncate(fd, 0, SLEY_FOREVER) == 0 && size_of(fd) == 0);
    EXPECT(sley_ftruncate(fd, -1, SLEY_FOREVER) == -EINVAL && sley_ftruncate(fd, 5, SLEY_NOW) == -EOPNOTSUPP && size_of(fd) == 0);
    EXPECT(sley_ftruncate(readonly, 5, SLEY_FOREVER) == -EINVAL && sley_ftruncate(p[1], 5, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_close(fd) == 0 && sley_close(readonly) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
    EXPECT(sley_ftruncate(fd, 5, SLEY_FOREVER) == -EBADF);
}

SCENARIO(space_is_reserved_and_given_back)
{
    static unsigned char bytes[1 << 16], back[1 << 16];
    int fd = make_file("space", "", 0), readonly = open(temp_path("space"), O_RDONLY | O_CLOEXEC), p[2], rc;
    off_t had;

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    EXPECT(sley_fallocate(fd, 0, 0, 1 << 16, SLEY_FOREVER) == 0 && size_of(fd) == 1 << 16 && blocks_of(fd) >= (1 << 16) / 512);
    EXPECT(sley_fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 16, 1 << 16, SLEY_FOREVER) == 0 && size_of(fd) == 1 << 16);
    fill_pattern(bytes, sizeof bytes, 0);
    EXPECT(sley_write_all(fd, bytes, sizeof bytes, SLEY_FOREVER) == 0 && sley_fsync(fd, SLEY_FOREVER) == 0);
    had = blocks_of(fd);
    rc = sley_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192, SLEY_FOREVER);
    EXPECT(rc == 0 || rc == -EOPNOTSUPP);
    if (rc == 0) {
        EXPECT(blocks_of(fd) < had && size_of(fd) == 1 << 16);
        memset(bytes + 4096, 0, 8192);
        EXPECT(sley_pread(fd, back, sizeof back, 0, SLEY_FOREVER) == sizeof back && memcmp(bytes, back, sizeof back) == 0);
    }
    EXPECT(sley_fallocate(fd, 0, INT64_C(1) << 33, 4096, SLEY_FOREVER) == 0 && size_of(fd) == (INT64_C(1) << 33) + 4096);
    EXPECT(sley_fallocate(fd, 0, 0, 0, SLEY_FOREVER) == -EINVAL && sley_fallocate(fd, 0, -1, 5, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_fallocate(fd, 0, 0, -1, SLEY_FOREVER) == -EINVAL && sley_fallocate(fd, 0, 0, 5, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_fallocate(readonly, 0, 0, 5, SLEY_FOREVER) == -EBADF && sley_fallocate(p[1], 0, 0, 5, SLEY_FOREVER) == -ESPIPE);
    EXPECT(sley_fallocate(fd, 0, 0, INT64_MAX, SLEY_FOREVER) == -EFBIG);
    EXPECT(sley_close(fd) == 0 && sley_close(readonly) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
    EXPECT(sley_fallocate(fd, 0, 0, 5, SLEY_FOREVER) == -EBADF);
}

SCENARIO(advice_on_a_file_is_taken)
{
    static unsigned char bytes[100000], back[100000];
    int fd = make_file("advised", "", 0), p[2];

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    fill_pattern(bytes, sizeof bytes, 0);
    EXPECT(sley_write_all(fd, bytes, sizeof bytes, SLEY_FOREVER) == 0 && sley_fsync(fd, SLEY_FOREVER) == 0);
    EXPECT(sley_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL, SLEY_NOW) == 0 && sley_fadvise(fd, 0, 0, POSIX_FADV_RANDOM, SLEY_FOREVER) == 0);
    EXPECT(sley_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED, SLEY_FOREVER) == 0);
    EXPECT(sley_fadvise(fd, 0, INT64_C(5) << 32, POSIX_FADV_DONTNEED, SLEY_FOREVER) == 0);
    EXPECT(sley_fadvise(fd, 0, 4096, POSIX_FADV_WILLNEED, SLEY_FOREVER) == 0);
    EXPECT(sley_pread(fd, back, sizeof back, 0, SLEY_FOREVER) == sizeof back && memcmp(bytes, back, sizeof back) == 0);
    EXPECT(sley_fadvise(fd, 0, -1, POSIX_FADV_NORMAL, SLEY_FOREVER) == -EINVAL && sley_fadvise(fd, 0, 0, 77, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_fadvise(p[0], 0, 0, POSIX_FADV_NORMAL, SLEY_NOW) == -ESPIPE);
    EXPECT(sley_fadvise(p[0], 0, 0, POSIX_FADV_WILLNEED, SLEY_FOREVER) == -ESPIPE);
    EXPECT(sley_close(fd) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
    EXPECT(sley_fadvise(fd, 0, 0, POSIX_FADV_NORMAL, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED, SLEY_FOREVER) == -EBADF);
}

static void an_old_kernel_does_the_same_on_the_pool(void **state)
{
    play_on_old_kernel(what_was_written_is_brought_to_the_disk_body, NULL);
    play_on_old_kernel(a_file_is_cut_and_grown_body, NULL);
    play_on_old_kernel(space_is_reserved_and_given_back_body, NULL);
    play_on_old_kernel(advice_on_a_file_is_taken_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(what_was_written_is_brought_to_the_disk),
        PLAYED(a_file_is_cut_and_grown),
        PLAYED(space_is_reserved_and_given_back),
        PLAYED(advice_on_a_file_is_taken),
        cmocka_unit_test(an_old_kernel_does_the_same_on_the_pool),
    };

    return cmocka_run_group_tests_name("io_space", tests, make_temp_dir, remove_temp_dir);
}
