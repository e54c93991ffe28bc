/* test_io_rw.c - reading and writing through files, pipes, sockets, eventfds and devices. */
#include "io_scenario.h"

#include <sys/eventfd.h>
#include <sys/mount.h>

SCENARIO(read_and_write_move_the_position_of_a_file)
{
    char buf[16] = "";
    int fd = make_file("position", "hello world", 11);

    EXPECT(sley_read(fd, buf, 5, SLEY_FOREVER) == 5 && memcmp(buf, "hello", 5) == 0);
    EXPECT(sley_write(fd, "_", 1, SLEY_FOREVER) == 1);
    EXPECT(sley_read(fd, buf, sizeof buf, SLEY_FOREVER) == 5 && memcmp(buf, "world", 5) == 0);
    EXPECT(sley_read(fd, buf, sizeof buf, SLEY_FOREVER) == 0);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(pread_and_pwrite_leave_the_position_alone)
{
    char buf[16] = "";
    int fd = make_file("offsets", "0123456789", 10);

    EXPECT(sley_pwrite(fd, "ab", 2, 3, SLEY_FOREVER) == 2);
    EXPECT(sley_pread(fd, buf, 4, 2, SLEY_FOREVER) == 4 && memcmp(buf, "2ab5", 4) == 0);
    EXPECT(sley_pread(fd, buf, 4, 10, SLEY_FOREVER) == 0);
    EXPECT(sley_pread(fd, buf, 4, -1, SLEY_FOREVER) == -EINVAL && sley_pwrite(fd, buf, 4, -1, SLEY_FOREVER) == -EINVAL);
    EXPECT(lseek(fd, 0, SEEK_CUR) == 0);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_file_that_is_not_in_the_cache_is_read)
{
    static unsigned char in[1 << 20], out[1 << 20];
    int fd;

    fill_pattern(in, sizeof in, 0);
    fd = make_file("cold", in, sizeof in);
    EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    EXPECT(sley_read_all(fd, out, sizeof out, SLEY_FOREVER) == sizeof out);
    EXPECT(memcmp(in, out, sizeof in) == 0);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_file_in_memory_is_read_and_written)
{
    char name[] = "/dev/shm/sley-test-XXXXXX", buf[8];
    int fd = mkstemp(name);

    EXPECT(fd >= 0 && unlink(name) == 0);
    EXPECT(sley_write(fd, "memory", 6, SLEY_NOW) == 6);
    EXPECT(sley_pread(fd, buf, 8, 0, SLEY_NOW) == 6 && memcmp(buf, "memory", 6) == 0);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(read_all_stops_at_the_end_and_write_all_writes_all)
{
    static unsigned char in[300000], out[400000];
    int fd = make_file("all", "", 0);

    fill_pattern(in, sizeof in, 0);
    EXPECT(sley_write_all(fd, in, sizeof in, SLEY_FOREVER) == 0);
    EXPECT(lseek(fd, 0, SEEK_SET) == 0);
    EXPECT(sley_read_all(fd, out, sizeof out, SLEY_FOREVER) == sizeof in && memcmp(in, out, sizeof in) == 0);
    EXPECT(sley_read_all(fd, out, sizeof out, SLEY_FOREVER) == 0);
    EXPECT(sley_read_all(fd, out, 0, SLEY_FOREVER) == 0 && sley_write_all(fd, in, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_pipe_wakes_its_reader_and_ends)
{
    char buf[16];
    int p[2];
    struct io_call c = { .call = call_read, .buf = buf, .bytes = sizeof buf };

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    c.fd = p[0];
    io_call_start(&c);
    EXPECT(sley_write(p[1], "abc", 3, SLEY_FOREVER) == 3);
    EXPECT(io_call_result(&c) == 3 && memcmp(buf, "abc", 3) == 0);
    EXPECT(sley_read(p[0], buf, sizeof buf, SLEY_NOW) == -ETIMEDOUT);
    io_call_start(&c);
    EXPECT(sley_close(p[1]) == 0);
    EXPECT(io_call_result(&c) == 0);
    EXPECT(sley_close(p[0]) == 0);
}

SCENARIO(a_nonblocking_pipe_wakes_its_reader)
{
    char buf[16];
    int p[2];
    struct io_call c = { .call = call_read, .buf = buf, .bytes = sizeof buf };

    EXPECT(pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0);
    c.fd = p[0];
    io_call_start(&c);
    EXPECT(sley_write(p[1], "abc", 3, SLEY_FOREVER) == 3);
    EXPECT(io_call_result(&c) == 3);
    EXPECT(sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
}

SCENARIO(a_full_pipe_makes_its_writer_wait)
{
    static unsigned char in[1 << 18], out[1 << 18];
    int p[2];
    struct io_call c = { .call = call_write_all, .buf = in, .bytes = sizeof in };

    fill_pattern(in, sizeof in, 0);
    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    c.fd = p[1];
    io_call_start(&c);
    while (poll(&(struct pollfd){ .fd = p[1], .events = POLLOUT }, 1, 0) > 0) /* a plain thread may wait between two pieces */
        give_way();
    EXPECT(sley_write(p[1], "x", 1, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_write(p[1], "x", 1, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_read_all(p[0], out, sizeof out, SLEY_FOREVER) == sizeof out);
    EXPECT(io_call_result(&c) == 0 && memcmp(in, out, sizeof in) == 0);
    EXPECT(sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
}

SCENARIO(a_pipe_without_reader_breaks)
{
    int p[2];

    EXPECT(pipe2(p, O_CLOEXEC) == 0 && close(p[0]) == 0);
    EXPECT(sley_write(p[1], "abc", 3, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_write_all(p[1], "abc", 3, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_close(p[1]) == 0);
}

/* Whoever calls, and whatever the program does with the signal. */
static _Atomic(int) sigpipes;

static void on_sigpipe(int signo) { sigpipes++; }

static void break_every_way(int out, int is_socket, int file, int full_pipe)
{
    struct iovec v[2] = { { "abc", 3 }, { "de", 2 } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
    off_t offset = 0;

    EXPECT(sley_write(out, "abc", 3, SLEY_FOREVER) == -EPIPE && sley_write(out, "abc", 3, SLEY_NOW) == -EPIPE);
    EXPECT(sley_write_all(out, "abc", 3, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_writev(out, v, 2, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_sendfile(out, file, &offset, 4, SLEY_FOREVER) == -EPIPE && offset == 0);
    EXPECT(sley_splice(full_pipe, NULL, out, NULL, 4, 0, SLEY_FOREVER) == -EPIPE);
    if (!is_socket) {
        EXPECT(sley_splice(file, &offset, out, NULL, 4, 0, SLEY_FOREVER) == -EPIPE && offset == 0);
        return;
    }
    EXPECT(sley_send(out, "abc", 3, 0, SLEY_FOREVER) == -EPIPE && sley_send_all(out, "abc", 3, 0, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_sendmsg(out, &m, 0, SLEY_FOREVER) == -EPIPE);
}

SCENARIO(no_call_raises_sigpipe)
{
    int file = make_file("broken", "0123", 4), full[2];
    sigset_t before, now;

    sigpipes = 0;
    signal(SIGPIPE, on_sigpipe);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    EXPECT(pipe2(full, O_CLOEXEC) == 0 && write(full[1], "0123", 4) == 4);
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        for (int is_socket = 0; is_socket < 2; is_socket++) {
            int fds[2], end = is_socket ? 0 : 1;

            if (is_socket)
                make_pair(fds, SOCK_STREAM);
            else
                EXPECT(pipe2(fds, O_CLOEXEC) == 0);
            EXPECT(fcntl(fds[end], F_SETFL, O_WRONLY | (nonblocking ? O_NONBLOCK : 0)) == 0 && close(fds[1 - end]) == 0);
            break_every_way(fds[end], is_socket, file, full[0]);
            if (sley_self() == 0)
                EXPECT(sley_dump(NULL, fds[end]) == -EINVAL);
            else
                EXPECT(sley_dump(NULL, fds[end]) == -EPIPE);
            EXPECT(sley_close(fds[end]) == 0);
        }
    }
    EXPECT(sigpipes == 0);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    EXPECT(sigismember(&now, SIGPIPE) == sigismember(&before, SIGPIPE));
    signal(SIGPIPE, SIG_IGN);
    EXPECT(sley_close(full[0]) == 0 && sley_close(full[1]) == 0 && sley_close(file) == 0);
}

SCENARIO(an_eventfd_wakes_its_reader)
{
    uint64_t value = 0, five = 5;
    struct io_call c = { .call = call_read, .buf = &value, .bytes = sizeof value, .fd = eventfd(0, EFD_CLOEXEC) };

    EXPECT(sley_read(c.fd, &value, sizeof value, SLEY_NOW) == -ETIMEDOUT);
    io_call_start(&c);
    EXPECT(sley_write(c.fd, &five, sizeof five, SLEY_FOREVER) == sizeof five);
    EXPECT(io_call_result(&c) == sizeof value && value == 5);
    EXPECT(sley_close(c.fd) == 0);
}

SCENARIO(read_and_write_work_on_sockets)
{
    char buf[16];
    int sv[2];
    struct io_call c = { .call = call_read, .buf = buf, .bytes = sizeof buf };

    make_pair(sv, SOCK_STREAM);
    c.fd = sv[0];
    io_call_start(&c);
    EXPECT(sley_write(sv[1], "abc", 3, SLEY_FOREVER) == 3);
    EXPECT(io_call_result(&c) == 3 && memcmp(buf, "abc", 3) == 0);
    EXPECT(sley_pread(sv[0], buf, 1, 0, SLEY_FOREVER) == -ESPIPE);
    EXPECT(sley_close(sv[1]) == 0);
    EXPECT(sley_read(sv[0], buf, sizeof buf, SLEY_FOREVER) == 0);
    EXPECT(sley_write(sv[0], "abc", 3, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_close(sv[0]) == 0);
}

/* Also where nothing is tried before the ring has it, since reads of this pipe have mostly waited. */
SCENARIO(a_pipe_has_no_positions)
{
    char buf[4];
    int p[2];

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    for (int i = 0; i < 10; i++)
        EXPECT(sley_read(p[0], buf, sizeof buf, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_pread(p[0], buf, sizeof buf, 0, sley_after(SLEY_MS)) == -ESPIPE);
    EXPECT(sley_pwrite(p[1], "x", 1, 0, sley_after(SLEY_MS)) == -ESPIPE);
    EXPECT(sley_read(p[0], buf, sizeof buf, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
}

SCENARIO(a_number_may_come_back_as_another_kind)
{
    char buf[4];
    int sv[2], p[2], fd = make_file("kinds", "file", 4);

    make_pair(sv, SOCK_STREAM);
    EXPECT(sley_write(sv[0], "sock", 4, SLEY_FOREVER) == 4 && sley_read(sv[1], buf, 4, SLEY_FOREVER) == 4);
    EXPECT(dup2(fd, sv[1]) == sv[1]); /* behind the library's back */
    EXPECT(sley_read(sv[1], buf, 4, SLEY_FOREVER) == 4 && memcmp(buf, "file", 4) == 0);
    EXPECT(pipe2(p, O_CLOEXEC) == 0 && dup2(p[0], sv[1]) == sv[1] && write(p[1], "pipe", 4) == 4);
    EXPECT(sley_read(sv[1], buf, 4, SLEY_FOREVER) == 4 && memcmp(buf, "pipe", 4) == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0 && sley_close(fd) == 0);
}

SCENARIO(bad_descriptors_and_buffers_are_errors)
{
    char buf[4];
    int fd = make_file("bad", "0123", 4), dir = open(temp_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int gone = dup(fd), readonly = open(temp_path("bad"), O_RDONLY | O_CLOEXEC), pair[2];
    struct iovec nothing = { NULL, 4 };

    make_pair(pair, SOCK_STREAM);
    EXPECT(close(gone) == 0);
    EXPECT(sley_read(gone, buf, 4, SLEY_FOREVER) == -EBADF && sley_write(gone, buf, 4, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_read(-1, buf, 4, SLEY_FOREVER) == -EBADF && sley_pread(INT_MAX, buf, 4, 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_write(readonly, buf, 4, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_read(dir, buf, 4, SLEY_FOREVER) == -EISDIR);
    EXPECT(sley_read(fd, NULL, 4, SLEY_FOREVER) == -EFAULT && sley_write(fd, NULL, 4, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_read_all(fd, NULL, 4, SLEY_FOREVER) == -EFAULT && sley_write_all(fd, NULL, 4, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_read_all(fd, NULL, 0, SLEY_FOREVER) == 0 && sley_write_all(fd, NULL, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_readv(fd, &nothing, 1, SLEY_FOREVER) == -EFAULT && sley_writev(fd, &nothing, 1, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_send_all(pair[0], NULL, 4, 0, SLEY_FOREVER) == -EFAULT && sley_send_all(pair[0], NULL, 0, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_write_all(pair[0], NULL, 4, SLEY_FOREVER) == -EFAULT && sley_send(pair[0], NULL, 4, 0, SLEY_FOREVER) == -EFAULT);
    EXPECT(send(pair[1], "abcd", 4, 0) == 4 && sley_read_all(pair[0], NULL, 4, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_recv(pair[0], NULL, 4, MSG_WAITALL, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_recv(pair[0], buf, 4, MSG_WAITALL, SLEY_FOREVER) == 4 && memcmp(buf, "abcd", 4) == 0);
    EXPECT(sley_close(pair[0]) == 0 && sley_close(pair[1]) == 0);
    EXPECT(sley_read(fd, buf, 4, SLEY_S) == -EINVAL); /* a length of time */
    EXPECT(sley_close(fd) == 0 && sley_close(dir) == 0 && sley_close(readonly) == 0);
}

SCENARIO(a_file_that_vanishes_or_shrinks_is_read_as_far_as_it_is)
{
    char buf[10];
    int fd = make_file("vanishing", "0123456789", 10);

    EXPECT(unlink(temp_path("vanishing")) == 0);
    EXPECT(sley_read(fd, buf, 5, SLEY_FOREVER) == 5);
    EXPECT(ftruncate(fd, 7) == 0);
    EXPECT(sley_read_all(fd, buf, 10, SLEY_FOREVER) == 2);
    EXPECT(ftruncate(fd, 0) == 0);
    EXPECT(sley_read(fd, buf, 10, SLEY_FOREVER) == 0);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_full_device_is_enospc)
{
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

    EXPECT(sley_write(fd, "abc", 3, SLEY_FOREVER) == -ENOSPC);
    EXPECT(sley_write_all(fd, "abc", 3, SLEY_FOREVER) == -ENOSPC);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_file_write_that_cannot_be_tried_says_so)
{
    char buf[4];
    int fd = make_file("try", "0123", 4);
    int rc = sley_write(fd, buf, 4, SLEY_NOW);

    EXPECT(rc == 4 || rc == -ETIMEDOUT || rc == -EOPNOTSUPP);
    EXPECT(sley_read(fd, buf, 4, SLEY_NOW) == now_with(SL_FEATURE_RWF_NOWAIT, rc == 4 ? 0 : 4));
    EXPECT(sley_close(fd) == 0);
}

static const char *small_disk; /* a file system of 64 KiB, if this process may mount one */

static void fill_the_disk(void)
{
    static unsigned char in[100000];
    char path[PATH_MAX];
    int fd, n, written = 0;

    snprintf(path, sizeof path, "%s/file", small_disk);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    fill_pattern(in, sizeof in, 0);
    while ((n = sley_write(fd, in + written, sizeof in - written, SLEY_FOREVER)) > 0)
        written += n;
    EXPECT(n == -ENOSPC && written > 0 && written < (int)sizeof in);
    EXPECT(lseek(fd, 0, SEEK_END) == written);
    EXPECT(sley_close(fd) == 0 && unlink(path) == 0);
}

static void a_full_disk_is_enospc_and_what_was_written_stays(void **state)
{
    static char mounted[PATH_MAX];

    snprintf(mounted, sizeof mounted, "%s", temp_path("disk"));
    if (mkdir(mounted, 0700) != 0 || mount("none", mounted, "tmpfs", 0, "size=64k") != 0) {
        rmdir(mounted);
        skip();
    }
    small_disk = mounted;
    play_all(fill_the_disk);
    assert_int_equal(umount(mounted), 0);
    assert_int_equal(rmdir(mounted), 0);
}

/* Pages of a file leave memory one by one. */
SCENARIO(a_read_is_short_at_the_end_of_a_file_alone)
{
    static unsigned char in[1 << 20], out[sizeof in + 10];
    const off_t part = sizeof in / 8;
    int fd;

    fill_pattern(in, sizeof in, 0);
    fd = make_file("holes", in, sizeof in);
    EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    for (off_t at = 0; at < (off_t)sizeof in; at += 4096) /* page by page: what came as one piece would leave as one */
        EXPECT(pread(fd, out, 4096, at) == 4096);
    for (off_t hole = 0; hole < (off_t)sizeof in; hole += part) {
        EXPECT(pread(fd, out, sizeof in, 0) == sizeof in);
        EXPECT(posix_fadvise(fd, hole, part, POSIX_FADV_DONTNEED) == 0);
        memset(out, 0, sizeof out);
        EXPECT(sley_pread(fd, out, sizeof out, 0, SLEY_FOREVER) == sizeof in && memcmp(in, out, sizeof in) == 0);
        EXPECT(posix_fadvise(fd, hole, part, POSIX_FADV_DONTNEED) == 0 && lseek(fd, 5, SEEK_SET) == 5);
        EXPECT(sley_read(fd, out, sizeof out, SLEY_FOREVER) == sizeof in - 5 && memcmp(in + 5, out, sizeof in - 5) == 0);
        EXPECT(sley_read(fd, out, sizeof out, SLEY_FOREVER) == 0);
    }
    EXPECT(sley_close(fd) == 0 && unlink(temp_path("holes")) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_read_is_short_at_the_end_of_a_file_alone),
        PLAYED(read_and_write_move_the_position_of_a_file),
        PLAYED(pread_and_pwrite_leave_the_position_alone),
        PLAYED(a_file_that_is_not_in_the_cache_is_read),
        PLAYED(a_file_in_memory_is_read_and_written),
        PLAYED(read_all_stops_at_the_end_and_write_all_writes_all),
        PLAYED(a_pipe_wakes_its_reader_and_ends),
        PLAYED(a_nonblocking_pipe_wakes_its_reader),
        PLAYED(a_full_pipe_makes_its_writer_wait),
        PLAYED(a_pipe_without_reader_breaks),
        PLAYED(no_call_raises_sigpipe),
        PLAYED(an_eventfd_wakes_its_reader),
        PLAYED(read_and_write_work_on_sockets),
        PLAYED(a_pipe_has_no_positions),
        PLAYED(a_number_may_come_back_as_another_kind),
        PLAYED(bad_descriptors_and_buffers_are_errors),
        PLAYED(a_file_that_vanishes_or_shrinks_is_read_as_far_as_it_is),
        PLAYED(a_full_device_is_enospc),
        PLAYED(a_file_write_that_cannot_be_tried_says_so),
        cmocka_unit_test(a_full_disk_is_enospc_and_what_was_written_stays),
    };

    signal(SIGPIPE, SIG_IGN); /* plain threads get it; workers block it */
    return cmocka_run_group_tests_name("io_rw", tests, make_temp_dir, remove_temp_dir);
}
