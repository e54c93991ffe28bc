/* test_io_sendfile.c - sendfile to sockets and pipes, blocking or not, byte for byte. */
#include "io_scenario.h"

static unsigned char content[5 << 20];
static unsigned char received[5 << 20];

/* Send the file from *offset (NULL: from its position) to out while the other end is read slowly; the bytes must be content[from...end]. */
static void send_and_check(int out, int in, int fd, off_t *offset, size_t from, size_t end)
{
    struct io_call c = { .call = call_read_all, .fd = in, .buf = received, .bytes = end - from };
    size_t sent = 0;
    int n;

    io_call_start(&c);
    while ((n = sley_sendfile(out, fd, offset, sizeof content, SLEY_FOREVER)) > 0)
        sent += (size_t)n;
    EXPECT(n == 0 && sent == end - from);
    EXPECT(io_call_result(&c) == (int)sent && memcmp(received, content + from, sent) == 0);
    if (offset != NULL)
        EXPECT(*offset == (off_t)end);
}

static void through_a_pair(int *sv, int nonblocking)
{
    int fd = make_file("sent", content, sizeof content);
    off_t offset = 12345;

    if (nonblocking)
        EXPECT(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
    send_and_check(sv[0], sv[1], fd, &offset, 12345, sizeof content);
    EXPECT(lseek(fd, 0, SEEK_CUR) == 0);
    EXPECT(lseek(fd, 777, SEEK_SET) == 777);
    send_and_check(sv[0], sv[1], fd, NULL, 777, sizeof content);
    EXPECT(lseek(fd, 0, SEEK_CUR) == (off_t)sizeof content);
    EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0); /* not in the cache */
    offset = 1;
    send_and_check(sv[0], sv[1], fd, &offset, 1, sizeof content);
    EXPECT(sley_close(fd) == 0 && sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(sendfile_to_a_nonblocking_socket)
{
    int sv[2];

    make_tcp_pair(sv);
    through_a_pair(sv, 1);
}

SCENARIO(sendfile_to_a_blocking_socket)
{
    int sv[2];

    make_tcp_pair(sv);
    through_a_pair(sv, 0);
}

/* 1: the file's byte is in the page cache; 0: it was not, but its page may be fetched now. */
static int is_cached(int fd, off_t at)
{
    char byte;
    struct iovec one = { &byte, 1 };

    return preadv2(fd, &one, 1, at, RWF_NOWAIT) == 1;
}

/* Of a file only the first page is in the cache: a sendfile that does not wait must not have the kernel wait for the rest. */
SCENARIO(sendfile_takes_what_is_in_the_cache_for_no_more)
{
    int sv[2], fd = make_file("sparsely", content, sizeof content), n;
    off_t offset = 0;

    make_tcp_pair(sv);
    EXPECT(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
    EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) == 0);
    EXPECT(pread(fd, received, 1, 0) == 1);
    /* Else the library cannot tell, the file system has no say in that, or the cache keeps all. */
    if (sl_feature_may(SL_FEATURE_RWF_NOWAIT) && is_cached(fd, 0) && !is_cached(fd, 200000)) {
        n = sley_sendfile(sv[0], fd, &offset, 100001, SLEY_NOW);
        EXPECT(n > 0 && n < 100001 && offset == n && !is_cached(fd, 50000));
        EXPECT(sley_read_all(sv[1], received, (size_t)n, SLEY_FOREVER) == n && memcmp(received, content, (size_t)n) == 0);
    }
    offset = 0;
    send_and_check(sv[0], sv[1], fd, &offset, 0, sizeof content);
    EXPECT(sley_close(fd) == 0 && sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(sendfile_to_pipes)
{
    int p[2], order[2];

    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        EXPECT(pipe2(p, O_CLOEXEC) == 0);
        order[0] = p[1];
        order[1] = p[0];
        through_a_pair(order, nonblocking);
    }
}

/* An O_DIRECT file is read past the page cache, in whole blocks: where the bytes begin and end is no matter of the caller's. */
SCENARIO(sendfile_from_a_file_that_goes_past_the_cache)
{
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        int sv[2], fd, bytes = (int)sizeof content - 1000; /* the last block is not whole */
        off_t offset = 12345;

        EXPECT(sley_close(make_file("direct", content, (size_t)bytes)) == 0);
        fd = open(temp_path("direct"), O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (fd < 0)
            return; /* not on this file system */
        make_tcp_pair(sv);
        if (nonblocking)
            EXPECT(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
        send_and_check(sv[0], sv[1], fd, &offset, 12345, (size_t)bytes);
        EXPECT(lseek(fd, 4095, SEEK_SET) == 4095);
        send_and_check(sv[0], sv[1], fd, NULL, 4095, (size_t)bytes);
        offset = 8191;
        EXPECT(sley_sendfile(sv[0], fd, &offset, 2, SLEY_FOREVER) == 2 && offset == 8193);
        EXPECT(sley_read_all(sv[1], received, 2, SLEY_FOREVER) == 2 && memcmp(received, content + 8191, 2) == 0);
        offset = bytes + 1;
        EXPECT(sley_sendfile(sv[0], fd, &offset, 10, SLEY_FOREVER) == 0 && offset == bytes + 1);
        EXPECT(sley_close(fd) == 0 && sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    }
}

SCENARIO(sendfile_from_a_file_in_memory)
{
    char name[] = "/dev/shm/sley-test-XXXXXX";
    int sv[2], fd = mkstemp(name);
    off_t offset = 0;

    EXPECT(unlink(name) == 0 && write(fd, content, sizeof content) == sizeof content);
    make_tcp_pair(sv);
    EXPECT(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
    send_and_check(sv[0], sv[1], fd, &offset, 0, sizeof content);
    EXPECT(sley_close(fd) == 0 && sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

/* What went before the deadline counts, and the offset says so. */
static void times_out(int nonblocking)
{
    int sv[2], n, fd = make_file("late", content, sizeof content);
    off_t offset = 100, before;

    make_pair(sv, SOCK_STREAM);
    if (nonblocking)
        EXPECT(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
    n = sley_sendfile(sv[0], fd, &offset, sizeof content, sley_after(20 * SLEY_MS));
    EXPECT(n > 0 && offset == 100 + n);
    before = offset;
    EXPECT(sley_sendfile(sv[0], fd, &offset, sizeof content, sley_after(SLEY_MS)) == -ETIMEDOUT && offset == before);
    n = nonblocking ? -ETIMEDOUT : now_with(SL_FEATURE_RWF_NOWAIT, -ETIMEDOUT); /* one that may block is fed from a buffer, read first */
    EXPECT(sley_sendfile(sv[0], fd, &offset, sizeof content, SLEY_NOW) == n && offset == before);
    n = (int)(before - 100);
    EXPECT(sley_recv(sv[1], received, sizeof received, MSG_WAITALL, sley_after(20 * SLEY_MS)) == n);
    EXPECT(memcmp(received, content + 100, (size_t)n) == 0);
    EXPECT(sley_close(fd) == 0 && sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(sendfile_keeps_what_went_before_its_deadline)
{
    times_out(0);
    times_out(1);
}

SCENARIO(sendfile_of_a_file_that_shrinks_ends_there)
{
    int sv[2], fd = make_file("shrinking", content, 100000);
    off_t offset = 0;

    make_tcp_pair(sv);
    EXPECT(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
    EXPECT(sley_sendfile(sv[0], fd, &offset, 1000, SLEY_FOREVER) == 1000 && ftruncate(fd, 3000) == 0);
    EXPECT(sley_sendfile(sv[0], fd, &offset, 99000, SLEY_FOREVER) == 2000 && offset == 3000);
    EXPECT(sley_sendfile(sv[0], fd, &offset, 97000, SLEY_FOREVER) == 0);
    EXPECT(sley_close(fd) == 0 && sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

struct send_call {
    struct actor actor;
    int out, in;
};

static int call_sendfile(void *arg)
{
    struct send_call *c = arg;
    off_t offset = 0;
    int n;

    while ((n = sley_sendfile(c->out, c->in, &offset, sizeof content, SLEY_FOREVER)) > 0)
        ;
    return n;
}

SCENARIO(close_ends_a_sendfile)
{
    int sv[2], fd = make_file("cut", content, sizeof content);
    struct send_call c = { .in = fd };

    make_pair(sv, SOCK_STREAM);
    EXPECT(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
    c.out = sv[0];
    actor_start(&c.actor, call_sendfile, &c);
    while (sley_fd_wait(sv[0], POLLOUT, SLEY_NOW) != -ETIMEDOUT)
        give_way();
    EXPECT(sley_close(sv[0]) == 0 && actor_result(&c.actor) == -EBADF);
    EXPECT(sley_close(fd) == 0 && sley_close(sv[1]) == 0);
}

/* The receiver takes nothing, and never will. */
SCENARIO(close_of_its_file_ends_a_sendfile)
{
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        int sv[2], fd = make_file("cut", content, sizeof content);
        struct send_call c = { .in = fd };

        make_pair(sv, SOCK_STREAM);
        if (nonblocking)
            EXPECT(fcntl(sv[0], F_SETFL, O_NONBLOCK) == 0);
        c.out = sv[0];
        actor_start(&c.actor, call_sendfile, &c);
        EXPECT(call_waits(&c.actor));
        EXPECT(sley_close(fd) == 0 && fcntl(fd, F_GETFD) < 0 && actor_result(&c.actor) == -EBADF);
        EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    }
}

SCENARIO(sendfile_tells_what_is_wrong)
{
    int sv[2], p[2], fd = make_file("wrong", content, 1000);
    off_t offset = -1;

    make_tcp_pair(sv);
    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    EXPECT(sley_sendfile(sv[0], fd, &offset, 10, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_sendfile(sv[0], p[0], NULL, 10, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_sendfile(-1, fd, NULL, 10, SLEY_FOREVER) == -EBADF && sley_sendfile(sv[0], -1, NULL, 10, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_sendfile(sv[0], fd, NULL, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_sendfile(sv[0], fd, NULL, 10, SLEY_S) == -EINVAL);
    EXPECT(sley_close(sv[1]) == 0);
    for (int i = 0; i < 2; i++) {
        int n;

        EXPECT(fcntl(sv[0], F_SETFL, i ? O_NONBLOCK : 0) == 0);
        offset = 0;
        while ((n = sley_sendfile(sv[0], fd, &offset, 10, SLEY_FOREVER)) > 0)
            ;
        EXPECT(n == -EPIPE || n == -ECONNRESET);
    }
    EXPECT(sley_close(sv[0]) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0 && sley_close(fd) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(sendfile_to_a_nonblocking_socket),
        PLAYED(sendfile_to_a_blocking_socket),
        PLAYED(sendfile_takes_what_is_in_the_cache_for_no_more),
        PLAYED(sendfile_to_pipes),
        PLAYED(sendfile_from_a_file_that_goes_past_the_cache),
        PLAYED(sendfile_from_a_file_in_memory),
        PLAYED(sendfile_keeps_what_went_before_its_deadline),
        PLAYED(sendfile_of_a_file_that_shrinks_ends_there),
        PLAYED(close_ends_a_sendfile),
        PLAYED(close_of_its_file_ends_a_sendfile),
        PLAYED(sendfile_tells_what_is_wrong),
    };

    signal(SIGPIPE, SIG_IGN); /* plain threads get it; workers block it */
    fill_pattern(content, sizeof content, 0);
    return cmocka_run_group_tests_name("io_sendfile", tests, make_temp_dir, remove_temp_dir);
}
