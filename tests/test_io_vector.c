/* test_io_vector.c - readv and writev through files, pipes, sockets and devices, byte for byte. */
#include "io_scenario.h"

#include <sys/uio.h>

enum { PARTS = 37, BYTES = 300000 };

static unsigned char whole[BYTES], back[BYTES];

/* Split `bytes` at buf into n parts at random, some of them empty. */
static void split(struct iovec *v, int n, unsigned char *buf, size_t bytes, uint64_t *random)
{
    for (int i = 0; i < n; i++) {
        size_t part = i == n - 1 ? bytes : below(random, 8) == 0 ? 0 : below(random, (uint32_t)bytes / (uint32_t)(n - i) * 2 + 1);

        if (part > bytes)
            part = bytes;
        v[i] = (struct iovec){ buf, part };
        buf += part;
        bytes -= part;
    }
}

/* Leave out what has gone: where the rest begins. */
static struct iovec *after(struct iovec *v, int *n, size_t gone)
{
    while (*n > 0 && gone >= v->iov_len) {
        gone -= v->iov_len;
        v++;
        (*n)--;
    }
    if (*n > 0)
        *v = (struct iovec){ (char *)v->iov_base + gone, v->iov_len - gone };
    return v;
}

struct vector_call {
    struct actor actor;
    int fd, n;
    struct iovec v[PARTS];
    uint64_t random;
};

static int write_parts(void *arg)
{
    struct vector_call *c = arg;
    struct iovec *v = c->v;
    int n = c->n, rc = 0;

    while (n > 0 && (rc = sley_writev(c->fd, v, n, SLEY_FOREVER)) > 0)
        v = after(v, &n, (size_t)rc);
    return rc < 0 ? rc : n;
}

/* From out to in, with other parts on either side. */
static void moves(int out, int in, uint64_t *random)
{
    struct vector_call c = { .fd = out, .n = PARTS };
    struct iovec parts[PARTS], *v = parts;
    int n = PARTS, rc = 1;

    memset(back, 0, sizeof back);
    split(c.v, PARTS, whole, sizeof whole, random);
    split(parts, PARTS, back, sizeof back, random);
    actor_start(&c.actor, write_parts, &c);
    while (n > 0 && rc > 0) {
        rc = sley_readv(in, v, n, SLEY_FOREVER);
        v = after(v, &n, rc > 0 ? (size_t)rc : 0);
    }
    EXPECT(rc > 0 && actor_result(&c.actor) == 0 && memcmp(whole, back, sizeof whole) == 0);
}

SCENARIO(vectors_go_through_pipes_and_sockets_whole)
{
    uint64_t random = 7;

    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        int fds[3][2];

        EXPECT(pipe2(fds[0], O_CLOEXEC) == 0);
        make_pair(fds[1], SOCK_STREAM);
        make_tcp_pair(fds[2]);
        for (int i = 0; i < 3; i++) {
            if (nonblocking)
                EXPECT(fcntl(fds[i][0], F_SETFL, O_NONBLOCK) == 0 && fcntl(fds[i][1], F_SETFL, O_NONBLOCK | O_RDWR) == 0);
            moves(fds[i][1], fds[i][0], &random);
            EXPECT(sley_close(fds[i][0]) == 0 && sley_close(fds[i][1]) == 0);
        }
    }
}

/* A file is read to its end or the end of the vector, whatever of it is in memory; so is the position. */
SCENARIO(a_vector_from_a_file_is_short_at_its_end_alone)
{
    static unsigned char more[BYTES + 100];
    struct iovec v[PARTS];
    uint64_t random = 11;
    int fd = make_file("vector", "", 0);

    split(v, PARTS, whole, sizeof whole, &random);
    EXPECT(sley_writev(fd, v, PARTS, SLEY_FOREVER) == BYTES && lseek(fd, 0, SEEK_CUR) == BYTES);
    EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    for (off_t at = 0; at < BYTES; at += 4096) /* page by page: what came as one piece would leave as one */
        EXPECT(pread(fd, more, 4096, at) > 0);
    for (int hole = 0; hole < 8; hole++) {
        EXPECT(pread(fd, more, sizeof more, 0) == BYTES);
        EXPECT(posix_fadvise(fd, hole * (BYTES / 8), BYTES / 8, POSIX_FADV_DONTNEED) == 0 && lseek(fd, 5, SEEK_SET) == 5);
        memset(more, 0, sizeof more);
        split(v, PARTS, more, sizeof more, &random);
        EXPECT(sley_readv(fd, v, PARTS, SLEY_FOREVER) == BYTES - 5 && memcmp(more, whole + 5, BYTES - 5) == 0);
        EXPECT(lseek(fd, 0, SEEK_CUR) == BYTES && sley_readv(fd, v, PARTS, SLEY_FOREVER) == 0);
    }
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_vector_from_a_file_in_memory)
{
    char name[] = "/dev/shm/sley-test-XXXXXX";
    struct iovec v[PARTS];
    uint64_t random = 13;
    int fd = mkstemp(name);

    EXPECT(fd >= 0 && unlink(name) == 0);
    split(v, PARTS, whole, sizeof whole, &random);
    EXPECT(sley_writev(fd, v, PARTS, SLEY_NOW) == BYTES && lseek(fd, 0, SEEK_SET) == 0);
    memset(back, 0, sizeof back);
    split(v, PARTS, back, sizeof back, &random);
    EXPECT(sley_readv(fd, v, PARTS, SLEY_NOW) == BYTES && memcmp(whole, back, BYTES) == 0);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(messages_keep_their_bounds)
{
    char a[4] = "abc", b[4] = "def", x[2], y[10];
    struct iovec out[2] = { { a, 3 }, { b, 3 } }, in[2] = { { x, 2 }, { y, 10 } };
    int sv[2];

    make_pair(sv, SOCK_SEQPACKET);
    EXPECT(sley_writev(sv[0], out, 2, SLEY_FOREVER) == 6 && sley_writev(sv[0], out, 1, SLEY_FOREVER) == 3);
    EXPECT(sley_readv(sv[1], in, 2, SLEY_FOREVER) == 6 && memcmp(x, "ab", 2) == 0 && memcmp(y, "cdef", 4) == 0);
    EXPECT(sley_readv(sv[1], in, 2, SLEY_FOREVER) == 3 && sley_readv(sv[1], in, 2, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_close(sv[0]) == 0 && sley_readv(sv[1], in, 2, SLEY_FOREVER) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(a_number_comes_back_as_another_kind)
{
    char x[2], y[2];
    struct iovec v[2] = { { x, 2 }, { y, 2 } };
    int sv[2], fd = make_file("kinds", "file", 4);

    make_pair(sv, SOCK_STREAM);
    EXPECT(send(sv[0], "sock", 4, 0) == 4 && sley_readv(sv[1], v, 2, SLEY_FOREVER) == 4);
    EXPECT(dup2(fd, sv[1]) == sv[1]); /* behind the library's back */
    EXPECT(sley_readv(sv[1], v, 2, SLEY_FOREVER) == 4 && memcmp(x, "fi", 2) == 0 && memcmp(y, "le", 2) == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0 && sley_close(fd) == 0);
}

SCENARIO(what_is_wrong_with_a_vector_is_told)
{
    static struct iovec many[IOV_MAX + 1];
    char x[2], y[2];
    struct iovec v[2] = { { x, 2 }, { y, 2 } }, bad[2] = { { x, 2 }, { NULL, 2 } };
    int p[2], sv[2], fd = make_file("wrong", "0123456789", 10);

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    make_pair(sv, SOCK_STREAM);
    EXPECT(sley_readv(fd, v, -1, SLEY_FOREVER) == -EINVAL && sley_readv(fd, many, IOV_MAX + 1, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_readv(fd, NULL, 2, SLEY_FOREVER) == -EFAULT && sley_writev(fd, NULL, 1, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_readv(fd, NULL, 0, SLEY_FOREVER) == 0 && sley_readv(fd, many, IOV_MAX, SLEY_FOREVER) == 0);
    EXPECT(sley_readv(fd, bad, 2, SLEY_FOREVER) == 2 && lseek(fd, 0, SEEK_CUR) == 2);
    EXPECT(sley_readv(p[1], v, 2, SLEY_FOREVER) == -EBADF && sley_writev(p[0], v, 2, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_readv(p[0], v, 2, SLEY_NOW) == -ETIMEDOUT && sley_readv(sv[0], v, 2, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_readv(p[0], v, 2, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(close(p[0]) == 0 && close(sv[1]) == 0);
    EXPECT(sley_writev(p[1], v, 2, SLEY_FOREVER) == -EPIPE && sley_writev(sv[0], v, 2, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_close(p[1]) == 0 && sley_close(sv[0]) == 0 && sley_close(fd) == 0);
    EXPECT(sley_readv(fd, v, 2, SLEY_FOREVER) == -EBADF && sley_readv(-1, v, 2, SLEY_FOREVER) == -EBADF);
}

static int call_readv(struct io_call *c) { return sley_readv(c->fd, c->buf, 2, c->deadline); }

SCENARIO(close_ends_a_readv)
{
    char x[2], y[2];
    struct iovec v[2] = { { x, 2 }, { y, 2 } };
    struct io_call c = { .call = call_readv, .buf = v };
    int fds[2];

    for (int i = 0; i < 2; i++) {
        if (i == 0)
            make_pair(fds, SOCK_STREAM);
        else
            EXPECT(pipe2(fds, O_CLOEXEC) == 0);
        c.fd = fds[0];
        io_call_start(&c);
        EXPECT(sley_close(fds[0]) == 0 && io_call_result(&c) == -EBADF && sley_close(fds[1]) == 0);
    }
}

SCENARIO(no_descriptor_is_left)
{
    int before = count_descriptors();

    what_is_wrong_with_a_vector_is_told_body();
    close_ends_a_readv_body();
    EXPECT(count_descriptors() == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(vectors_go_through_pipes_and_sockets_whole),
        PLAYED(a_vector_from_a_file_is_short_at_its_end_alone),
        PLAYED(a_vector_from_a_file_in_memory),
        PLAYED(messages_keep_their_bounds),
        PLAYED(a_number_comes_back_as_another_kind),
        PLAYED(what_is_wrong_with_a_vector_is_told),
        PLAYED(close_ends_a_readv),
        PLAYED(no_descriptor_is_left),
    };

    signal(SIGPIPE, SIG_IGN); /* plain threads get it; workers block it */
    fill_pattern(whole, sizeof whole, 0);
    return cmocka_run_group_tests_name("io_vector", tests, make_temp_dir, remove_temp_dir);
}
