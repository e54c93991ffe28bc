/* test_io_splice.c - splice between pipes, sockets and files, and copies from file to file, byte for byte. */
#include "io_scenario.h"

static unsigned char content[3 << 20], received[3 << 20];

/* --- to and from files ------------------------------------------------------------------------------------------------------ */

struct splice_call {
    struct actor actor;
    int in, out;
    off_t *in_offset, *out_offset;
    size_t bytes;
    uint64_t random;
};

/* Move all of it, in pieces of any size. */
static int splice_all(void *arg)
{
    struct splice_call *c = arg;
    size_t left = c->bytes;

    while (left > 0) {
        size_t piece = 1 + below(&c->random, 200000);
        int n = sley_splice(c->in, c->in_offset, c->out, c->out_offset, piece < left ? piece : left, SPLICE_F_MOVE, SLEY_FOREVER);

        if (n <= 0)
            return n < 0 ? n : -ENODATA;
        left -= (size_t)n;
    }
    return 0;
}

static void make_cold(int fd)
{
    EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
}

/* A file, a pipe, another file; at offsets or at the positions. */
static void through_a_pipe(int from, int to, int at_offsets, uint64_t seed)
{
    off_t in_offset = 12345, out_offset = 777;
    size_t bytes = sizeof content - 12345;
    struct splice_call first = { .in = from, .bytes = bytes, .random = seed }, second = { .out = to, .bytes = bytes, .random = seed + 1 };
    int p[2];

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    first.out = p[1];
    second.in = p[0];
    first.in_offset = at_offsets ? &in_offset : NULL;
    second.out_offset = at_offsets ? &out_offset : NULL;
    EXPECT(lseek(from, at_offsets ? 3 : 12345, SEEK_SET) >= 0 && lseek(to, at_offsets ? 5 : 777, SEEK_SET) >= 0);
    actor_start(&first.actor, splice_all, &first);
    EXPECT(splice_all(&second) == 0 && actor_result(&first.actor) == 0);
    EXPECT(lseek(from, 0, SEEK_CUR) == (at_offsets ? 3 : (off_t)sizeof content));
    EXPECT(lseek(to, 0, SEEK_CUR) == (at_offsets ? 5 : 777 + (off_t)bytes));
    EXPECT(!at_offsets || (in_offset == (off_t)sizeof content && out_offset == 777 + (off_t)bytes));
    memset(received, 0, sizeof received);
    EXPECT(pread(to, received, bytes, 777) == (ssize_t)bytes && memcmp(received, content + 12345, bytes) == 0);
    EXPECT(sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
}

SCENARIO(files_go_through_a_pipe)
{
    int from = make_file("from", content, sizeof content), to = make_file("to", "", 0);

    through_a_pipe(from, to, 1, 1);
    through_a_pipe(from, to, 0, 2);
    make_cold(from);
    through_a_pipe(from, to, 1, 3);
    EXPECT(ftruncate(to, 0) == 0);
    make_cold(from);
    through_a_pipe(from, to, 0, 4);
    EXPECT(sley_close(from) == 0 && sley_close(to) == 0);
}

SCENARIO(files_in_memory_go_through_a_pipe)
{
    char a[] = "/dev/shm/sley-test-XXXXXX", b[] = "/dev/shm/sley-test-XXXXXX";
    int from = mkstemp(a), to = mkstemp(b);

    EXPECT(unlink(a) == 0 && unlink(b) == 0 && write(from, content, sizeof content) == sizeof content);
    through_a_pipe(from, to, 1, 5);
    through_a_pipe(from, to, 0, 6);
    EXPECT(sley_close(from) == 0 && sley_close(to) == 0);
}

SCENARIO(a_file_and_a_pipe_end)
{
    int from = make_file("short", content, 1000), to = make_file("to", "", 0), p[2];
    off_t offset = 900, behind = 5000;

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    EXPECT(sley_splice(from, &offset, p[1], NULL, 1000, 0, SLEY_FOREVER) == 100 && offset == 1000);
    EXPECT(sley_splice(from, &offset, p[1], NULL, 1000, 0, SLEY_FOREVER) == 0 && offset == 1000);
    EXPECT(sley_splice(from, &behind, p[1], NULL, 1000, 0, SLEY_FOREVER) == 0 && behind == 5000);
    EXPECT(sley_close(p[1]) == 0 && sley_splice(p[0], NULL, to, NULL, 1000, 0, SLEY_FOREVER) == 100);
    EXPECT(sley_splice(p[0], NULL, to, NULL, 1000, 0, SLEY_FOREVER) == 0 && lseek(to, 0, SEEK_CUR) == 100);
    EXPECT(sley_close(p[0]) == 0 && sley_close(from) == 0 && sley_close(to) == 0);
}

/* --- from socket to socket -------------------------------------------------------------------------------------------------- */

struct proxy {
    struct actor actor, feeder;
    int from[2], to[2], p[2];
};

enum { PROXIES = 30, PROXY_BYTES = 100000 }; /* more than io_uring has workers */

static int feed(void *arg)
{
    struct proxy *x = arg;
    int rc = sley_send_all(x->from[0], content, PROXY_BYTES, 0, SLEY_FOREVER);

    return rc < 0 ? rc : sley_close(x->from[0]);
}

static int pass_on(void *arg)
{
    struct proxy *x = arg;
    int n;

    while ((n = sley_splice(x->from[1], NULL, x->p[1], NULL, 1 << 20, SPLICE_F_MORE, SLEY_FOREVER)) > 0)
        for (int sent = 0, m; sent < n; sent += m)
            if ((m = sley_splice(x->p[0], NULL, x->to[0], NULL, (size_t)(n - sent), 0, SLEY_FOREVER)) <= 0)
                return m < 0 ? m : -EIO;
    return n < 0 ? n : sley_close(x->to[0]);
}

/* All of them wait, first for what comes, then for those who take it; the last one is served first. */
SCENARIO(many_proxies_wait_at_once)
{
    static struct proxy proxies[PROXIES];

    for (int i = 0; i < PROXIES; i++) {
        struct proxy *x = &proxies[i];

        *x = (struct proxy){ 0 };
        if (i % 2 == 0) {
            make_tcp_pair(x->from);
            make_pair(x->to, SOCK_STREAM);
        } else {
            make_pair(x->from, SOCK_STREAM);
            make_tcp_pair(x->to);
        }
        EXPECT(pipe2(x->p, O_CLOEXEC) == 0);
        actor_start(&x->actor, pass_on, x);
        EXPECT(call_waits(&x->actor));
    }
    for (int i = PROXIES - 1; i >= 0; i--)
        actor_start(&proxies[i].feeder, feed, &proxies[i]);
    for (int i = PROXIES - 1; i >= 0; i--) {
        struct proxy *x = &proxies[i];

        EXPECT(sley_recv(x->to[1], received, PROXY_BYTES, MSG_WAITALL, SLEY_FOREVER) == PROXY_BYTES);
        EXPECT(memcmp(received, content, PROXY_BYTES) == 0 && sley_recv(x->to[1], received, 1, 0, SLEY_FOREVER) == 0);
        EXPECT(actor_result(&x->actor) == 0 && actor_result(&x->feeder) == 0);
        EXPECT(sley_close(x->from[1]) == 0 && sley_close(x->to[1]) == 0 && sley_close(x->p[0]) == 0 && sley_close(x->p[1]) == 0);
    }
}

SCENARIO(a_pipe_goes_into_a_pipe)
{
    struct splice_call c = { .bytes = sizeof content, .random = 9 };
    struct io_call writes = { .call = call_write_all, .buf = content, .bytes = sizeof content };
    int a[2], b[2];

    EXPECT(pipe2(a, O_CLOEXEC) == 0 && pipe2(b, O_CLOEXEC) == 0);
    writes.fd = a[1];
    c.in = a[0];
    c.out = b[1];
    io_call_start(&writes);
    actor_start(&c.actor, splice_all, &c);
    EXPECT(sley_read_all(b[0], received, sizeof received, SLEY_FOREVER) == sizeof received);
    EXPECT(memcmp(content, received, sizeof content) == 0 && actor_result(&c.actor) == 0 && io_call_result(&writes) == 0);
    EXPECT(sley_close(a[0]) == 0 && sley_close(a[1]) == 0 && sley_close(b[0]) == 0 && sley_close(b[1]) == 0);
}

/* --- what ends it ----------------------------------------------------------------------------------------------------------- */

static int call_splice(void *arg)
{
    struct splice_call *c = arg;

    return sley_splice(c->in, c->in_offset, c->out, c->out_offset, c->bytes, 0, SLEY_FOREVER);
}

static void fill_pipe(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    EXPECT(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    while (write(fd, content, 4096) > 0)
        ;
    EXPECT(fcntl(fd, F_SETFL, flags) == 0);
}

SCENARIO(a_splice_keeps_to_its_deadline)
{
    int empty[2], full[2], sv[2], fd = make_file("late", content, 1000), n;
    off_t offset = 0;

    EXPECT(pipe2(empty, O_CLOEXEC) == 0 && pipe2(full, O_CLOEXEC) == 0);
    make_pair(sv, SOCK_STREAM);
    fill_pipe(full[1]);
    EXPECT(sley_splice(empty[0], NULL, sv[0], NULL, 10, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_splice(empty[0], NULL, sv[0], NULL, 10, 0, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_splice(empty[0], NULL, sv[0], NULL, 10, SPLICE_F_NONBLOCK, SLEY_FOREVER) == -EAGAIN);
    EXPECT(sley_splice(empty[0], NULL, fd, NULL, 10, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_splice(empty[0], NULL, fd, NULL, 10, 0, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_splice(fd, &offset, full[1], NULL, 10, 0, sley_after(SLEY_MS)) == -ETIMEDOUT && offset == 0);
    EXPECT(sley_splice(fd, &offset, full[1], NULL, 10, SPLICE_F_NONBLOCK, SLEY_FOREVER) == -EAGAIN && offset == 0);
    EXPECT(sley_splice(sv[0], NULL, full[1], NULL, 10, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_splice(full[0], NULL, sv[0], NULL, 10, 0, SLEY_NOW) == 10);
    n = (int)sley_splice(fd, &offset, empty[1], NULL, 10, 0, SLEY_NOW);
    EXPECT((n == 10 || (n == -ETIMEDOUT && !sl_feature_may(SL_FEATURE_RWF_NOWAIT))) && offset == (n > 0 ? 10 : 0));
    EXPECT(sley_close(fd) == 0);
    for (int i = 0; i < 2; i++)
        EXPECT(sley_close(empty[i]) == 0 && sley_close(full[i]) == 0 && sley_close(sv[i]) == 0);
}

/* Of both its ends, whatever it waits for. */
SCENARIO(close_ends_a_splice)
{
    for (int kind = 0; kind < 3; kind++)
        for (int end = 0; end < 2; end++) {
            int p[2], sv[2], file = make_file("closed", content, 1000), *fds[2] = { NULL, NULL };
            struct splice_call c = { .bytes = 10 };

            EXPECT(pipe2(p, O_CLOEXEC) == 0);
            make_pair(sv, SOCK_STREAM);
            switch (kind) {
            case 0: /* nothing comes */
                fds[0] = &sv[0];
                fds[1] = &p[1];
                break;
            case 1: /* nobody takes */
                fill_pipe(p[1]);
                fds[0] = &file;
                fds[1] = &p[1];
                break;
            case 2:
                fds[0] = &p[0];
                fds[1] = &file;
                break;
            }
            c.in = *fds[0];
            c.out = *fds[1];
            actor_start(&c.actor, call_splice, &c);
            EXPECT(call_waits(&c.actor));
            EXPECT(sley_close(*fds[end]) == 0 && actor_result(&c.actor) == -EBADF);
            *fds[end] = -1;
            for (int i = 0; i < 2; i++)
                EXPECT((p[i] < 0 || sley_close(p[i]) == 0) && (sv[i] < 0 || sley_close(sv[i]) == 0));
            EXPECT(file < 0 || sley_close(file) == 0);
        }
}

SCENARIO(what_is_wrong_with_a_splice_is_told)
{
    int p[2], sv[2], fd = make_file("wrong", content, 1000), other = make_file("other", "", 0);
    off_t offset = 0, bad = -1;

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    make_pair(sv, SOCK_STREAM);
    EXPECT(sley_splice(fd, NULL, other, NULL, 10, 0, SLEY_FOREVER) == -EINVAL); /* none is a pipe */
    EXPECT(sley_splice(sv[0], NULL, fd, NULL, 10, 0, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_splice(sv[0], NULL, sv[1], NULL, 10, 0, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_splice(fd, &bad, p[1], NULL, 10, 0, SLEY_FOREVER) == -EINVAL && bad == -1);
    EXPECT(sley_splice(fd, NULL, p[1], &offset, 10, 0, SLEY_FOREVER) == -ESPIPE && offset == 0);
    EXPECT(sley_splice(fd, NULL, p[1], NULL, 10, 0x100, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_splice(fd, NULL, p[0], NULL, 10, 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_splice(p[1], NULL, sv[0], NULL, 10, 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_splice(fd, NULL, -1, NULL, 10, 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_splice(-1, NULL, p[1], NULL, 10, 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_splice(fd, NULL, p[1], NULL, 10, 0, SLEY_S) == -EINVAL && sley_splice(fd, NULL, p[1], NULL, 0, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_splice(p[0], &offset, fd, NULL, 1, 0, SLEY_FOREVER) == -ESPIPE && write(p[1], "x", 1) == 1);
    EXPECT(close(sv[1]) == 0 && sley_splice(p[0], NULL, sv[0], NULL, 1, 0, SLEY_FOREVER) == -EPIPE);
    EXPECT(close(p[0]) == 0 && sley_splice(fd, NULL, p[1], NULL, 10, 0, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_close(p[1]) == 0 && sley_close(sv[0]) == 0 && sley_close(fd) == 0 && sley_close(other) == 0);
}

/* --- copies from file to file ----------------------------------------------------------------------------------------------- */

SCENARIO(a_file_is_copied)
{
    int from = make_file("from", content, sizeof content), to = make_file("copy", "", 0), n;
    off_t in_offset = 100, out_offset = 200;
    size_t done = 0;

    EXPECT(sley_copy_file_range(from, &in_offset, to, &out_offset, 5000, 0, SLEY_FOREVER) == 5000);
    EXPECT(in_offset == 5100 && out_offset == 5200 && lseek(from, 0, SEEK_CUR) == 0 && lseek(to, 0, SEEK_CUR) == 0);
    EXPECT(pread(to, received, 5200, 0) == 5200 && memcmp(received + 200, content + 100, 5000) == 0);
    while ((n = sley_copy_file_range(from, NULL, to, NULL, 1 << 20, 0, SLEY_FOREVER)) > 0)
        done += (size_t)n;
    EXPECT(n == 0 && done == sizeof content && lseek(from, 0, SEEK_CUR) == (off_t)done && lseek(to, 0, SEEK_CUR) == (off_t)done);
    EXPECT(pread(to, received, sizeof received, 0) == sizeof received && memcmp(received, content, sizeof content) == 0);
    EXPECT(sley_close(from) == 0 && sley_close(to) == 0);
}

/* It is more than one piece. Holes are copied as what they read as. */
SCENARIO(a_large_file_is_copied_with_one_call)
{
    const off_t bytes = 40 << 20;
    int from = make_file("large", "", 0), to = make_file("copy", "", 0);
    off_t in_offset = 0, out_offset = 0;
    unsigned char buf[64];

    EXPECT(ftruncate(from, bytes) == 0);
    for (off_t at = 0; at < bytes; at += 1 << 20)
        EXPECT(pwrite(from, content + (at >> 20), 64, at) == 64);
    EXPECT(sley_copy_file_range(from, &in_offset, to, &out_offset, SIZE_MAX, 0, SLEY_FOREVER) == bytes);
    EXPECT(in_offset == bytes && out_offset == bytes && lseek(to, 0, SEEK_END) == bytes);
    for (off_t at = 0; at < bytes; at += 1 << 20)
        EXPECT(pread(to, buf, 64, at) == 64 && memcmp(buf, content + (at >> 20), 64) == 0);
    EXPECT(ftruncate(from, 0) == 0 && ftruncate(to, 0) == 0 && sley_close(from) == 0 && sley_close(to) == 0);
}

SCENARIO(what_is_wrong_with_a_copy_is_told)
{
    int from = make_file("from", content, 1000), to = make_file("copy", "", 0), readonly = open(temp_path("copy"), O_RDONLY | O_CLOEXEC);
    int p[2], dir = open(temp_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    off_t bad = -1, zero = 0, hundred = 100;

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    EXPECT(sley_copy_file_range(from, &bad, to, NULL, 10, 0, SLEY_FOREVER) == -EINVAL && bad == -1);
    EXPECT(sley_copy_file_range(from, NULL, readonly, NULL, 10, 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_copy_file_range(-1, NULL, to, NULL, 10, 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_copy_file_range(from, NULL, -1, NULL, 10, 0, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_copy_file_range(dir, NULL, to, NULL, 10, 0, SLEY_FOREVER) == -EISDIR);
    EXPECT(sley_copy_file_range(p[0], NULL, to, NULL, 10, 0, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_copy_file_range(from, NULL, to, NULL, 10, 1, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_copy_file_range(from, &zero, from, &hundred, 500, 0, SLEY_FOREVER) == -EINVAL && zero == 0 && hundred == 100);
    EXPECT(sley_copy_file_range(from, NULL, to, NULL, 10, 0, SLEY_NOW) == -EOPNOTSUPP);
    EXPECT(sley_copy_file_range(from, NULL, to, NULL, 10, 0, SLEY_S) == -EINVAL);
    EXPECT(sley_copy_file_range(from, &zero, from, &hundred, 100, 0, SLEY_FOREVER) == 100); /* one file, apart */
    EXPECT(sley_close(from) == 0 && sley_close(to) == 0 && sley_close(readonly) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
    EXPECT(sley_close(dir) == 0);
}

SCENARIO(no_descriptor_is_left)
{
    int before = count_descriptors();

    close_ends_a_splice_body();
    what_is_wrong_with_a_splice_is_told_body();
    what_is_wrong_with_a_copy_is_told_body();
    EXPECT(count_descriptors() == before);
}

static void an_old_kernel_does_the_same_on_the_pool(void **state)
{
    play_on_old_kernel(files_go_through_a_pipe_body, NULL);
    play_on_old_kernel(many_proxies_wait_at_once_body, NULL);
    play_on_old_kernel(a_splice_keeps_to_its_deadline_body, NULL);
    play_on_old_kernel(close_ends_a_splice_body, NULL);
    play_on_old_kernel(what_is_wrong_with_a_splice_is_told_body, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(files_go_through_a_pipe),
        PLAYED(files_in_memory_go_through_a_pipe),
        PLAYED(a_file_and_a_pipe_end),
        PLAYED(many_proxies_wait_at_once),
        PLAYED(a_pipe_goes_into_a_pipe),
        PLAYED(a_splice_keeps_to_its_deadline),
        PLAYED(close_ends_a_splice),
        PLAYED(what_is_wrong_with_a_splice_is_told),
        PLAYED(a_file_is_copied),
        PLAYED(a_large_file_is_copied_with_one_call),
        PLAYED(what_is_wrong_with_a_copy_is_told),
        PLAYED(no_descriptor_is_left),
        cmocka_unit_test(an_old_kernel_does_the_same_on_the_pool),
    };

    signal(SIGPIPE, SIG_IGN); /* plain threads get it; workers block it */
    fill_pattern(content, sizeof content, 0);
    return cmocka_run_group_tests_name("io_splice", tests, make_temp_dir, remove_temp_dir);
}
