/* stress_io.c - random traffic over socket pairs and pipes, byte-exact: short and long transfers, deadlines that race with data,
 * closes under calls, readiness waits, plain threads among fibers. Prints its seed; SLEY_TEST_SEED replays it, SLEY_TEST_MS sets how
 * long each of its parts runs. */
#include "io_scenario.h"

#include <sys/uio.h>

static _Atomic(uint64_t) moved, timeouts, cut_off, waits;
static sley_time end;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void stream_fill(unsigned char *buf, size_t bytes, uint64_t seed, size_t from)
{
    for (size_t i = 0; i < bytes; i++)
        buf[i] = (unsigned char)(pattern(from + i) + seed);
}

static int stream_is(const unsigned char *buf, size_t bytes, uint64_t seed, size_t from)
{
    for (size_t i = 0; i < bytes; i++)
        if (buf[i] != (unsigned char)(pattern(from + i) + seed))
            return 0;
    return 1;
}

/* --- a stream from one end to the other ------------------------------------------------------------------------------------------ */

struct stream {
    struct actor writer, reader;
    int fds[2]; /* write, read */
    int is_pipe;
    uint64_t seed;
    size_t written, read;
};

/* Mostly none, sometimes one that is about to pass. */
static sley_time random_deadline(uint64_t *random)
{
    switch (next_random(random) % 8) {
    case 0: return SLEY_NOW;
    case 1: return sley_after((sley_time)(next_random(random) % 20000));
    case 2: return sley_after((sley_time)(next_random(random) % (2 * SLEY_MS)));
    default: return SLEY_FOREVER;
    }
}

/* The same bytes in two buffers. */
static void halve(struct iovec *v, unsigned char *buf, size_t bytes, uint64_t *random)
{
    size_t half = next_random(random) % (bytes + 1);

    v[0] = (struct iovec){ buf, half };
    v[1] = (struct iovec){ buf + half, bytes - half };
}

static int write_stream(void *arg)
{
    struct stream *s = arg;
    uint64_t random = s->seed * 2 + 1;
    unsigned char buf[20000];
    struct iovec v[2];
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

    while (s->written == 0 || sley_now() < end) { /* something, however late it is */
        size_t bytes = 1 + next_random(&random) % (next_random(&random) % 4 ? 100 : sizeof buf);
        sley_time deadline = random_deadline(&random);
        int n;

        stream_fill(buf, bytes, s->seed, s->written);
        halve(v, buf, bytes, &random);
        switch (next_random(&random) % (s->is_pipe ? 2 : 4)) {
        case 0: n = sley_write(s->fds[0], buf, bytes, deadline); break;
        case 1: n = sley_writev(s->fds[0], v, 2, deadline); break;
        case 2: n = sley_send(s->fds[0], buf, bytes, 0, deadline); break;
        default: n = sley_sendmsg(s->fds[0], &m, 0, deadline);
        }
        if (n == -ETIMEDOUT) {
            timeouts++;
            continue;
        }
        EXPECT(n > 0 && (size_t)n <= bytes);
        if (n <= 0)
            break;
        s->written += (size_t)n;
    }
    return sley_close(s->fds[0]);
}

static int read_stream(void *arg)
{
    struct stream *s = arg;
    uint64_t random = s->seed * 2 + 7;
    unsigned char buf[20000];
    struct iovec v[2];

    for (;;) {
        size_t bytes = 1 + next_random(&random) % (next_random(&random) % 4 ? 100 : sizeof buf);
        sley_time deadline = random_deadline(&random);
        int n;

        halve(v, buf, bytes, &random);
        struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
        switch (next_random(&random) % 6) {
        case 0:
            n = sley_fd_wait(s->fds[1], POLLIN, deadline);
            EXPECT(n > 0 || n == -ETIMEDOUT);
            waits++;
            n = n > 0 ? sley_read(s->fds[1], buf, bytes, SLEY_FOREVER) : n;
            break;
        case 1:
            n = sley_read_all(s->fds[1], buf, bytes, deadline);
            break;
        case 2:
            n = s->is_pipe ? sley_read(s->fds[1], buf, bytes, deadline) : sley_recv(s->fds[1], buf, bytes, 0, deadline);
            break;
        case 3:
            n = sley_readv(s->fds[1], v, 2, deadline);
            break;
        case 4:
            n = s->is_pipe ? sley_read(s->fds[1], buf, bytes, deadline) : sley_recvmsg(s->fds[1], &m, 0, deadline);
            break;
        default:
            n = sley_read(s->fds[1], buf, bytes, deadline);
        }
        if (n == -ETIMEDOUT) {
            timeouts++;
            continue;
        }
        EXPECT(n >= 0 && (n == 0 || stream_is(buf, (size_t)n, s->seed, s->read)));
        if (n <= 0)
            break;
        s->read += (size_t)n;
        moved += (uint64_t)n;
    }
    return sley_close(s->fds[1]);
}

/* --- closes under calls ---------------------------------------------------------------------------------------------------------- */

struct victim {
    struct actor actor;
    int fd, kind, pipe;
};

static int be_cut_off(void *arg)
{
    struct victim *v = arg;
    char buf[16];
    struct iovec parts[2] = { { buf, 8 }, { buf + 8, 8 } };
    struct msghdr m = { .msg_iov = parts, .msg_iovlen = 2 };

    switch (v->kind) {
    case 0: return sley_recv(v->fd, buf, sizeof buf, 0, SLEY_FOREVER);
    case 1: return sley_fd_wait(v->fd, POLLIN, SLEY_FOREVER);
    case 2: return sley_read(v->fd, buf, sizeof buf, sley_after(SLEY_MS));
    case 3: return sley_readv(v->fd, parts, 2, SLEY_FOREVER);
    case 4: return sley_recvmsg(v->fd, &m, 0, SLEY_FOREVER);
    case 5: return sley_splice(v->fd, NULL, v->pipe, NULL, 16, 0, SLEY_FOREVER);
    default: return sley_fd_wait(v->fd, POLLIN, sley_after(SLEY_MS));
    }
}

static int close_under_calls(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    struct victim v[4];
    int p[2];
    char byte;

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    while (sley_now() < end) {
        int sv[2], n = 1 + (int)(next_random(&random) % 4), spin = (int)(next_random(&random) % 20);

        make_pair(sv, SOCK_STREAM);
        for (int i = 0; i < n; i++) {
            v[i].fd = sv[0];
            v[i].kind = (int)(next_random(&random) % 7);
            v[i].pipe = p[1];
            actor_start_as(&v[i].actor, scene.cast == THREADS, be_cut_off, &v[i]);
        }
        /* The call may meet the close anywhere. Plain threads that begin to wait may open an eventfd, which must not get the number
         * of the socket before the call has come to it: so among threads it has to wait first. */
        if (scene.cast == FIBERS)
            while (spin-- > 0)
                give_way();
        else
            for (int i = 0; i < n; i++)
                call_waits(&v[i].actor);
        EXPECT(sley_close(sv[0]) == 0);
        EXPECT(recv(sv[1], &byte, 1, MSG_DONTWAIT) == 0);
        for (int i = 0; i < n; i++) {
            int rc = actor_result(&v[i].actor);

            EXPECT(rc == -EBADF || rc == -ETIMEDOUT);
            cut_off += rc == -EBADF;
        }
        EXPECT(sley_close(sv[1]) == 0);
    }
    return sley_close(p[0]) | sley_close(p[1]);
}

/* --- all of it ------------------------------------------------------------------------------------------------------------------- */

enum { STREAMS = 12 };

static uint64_t seed;

static void traffic(void)
{
    static struct stream s[STREAMS];
    uint64_t random = seed;

    memset(s, 0, sizeof s);
    for (int i = 0; i < STREAMS; i++) {
        s[i].seed = next_random(&random);
        s[i].is_pipe = i % 3 == 2;
        if (s[i].is_pipe) {
            int p[2];

            EXPECT(pipe2(p, O_CLOEXEC | (i % 2 ? O_NONBLOCK : 0)) == 0);
            s[i].fds[0] = p[1];
            s[i].fds[1] = p[0];
        } else if (i % 3 == 1) {
            make_tcp_pair(s[i].fds);
        } else {
            make_pair(s[i].fds, SOCK_STREAM);
        }
        actor_start_as(&s[i].writer, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), write_stream, &s[i]);
        actor_start_as(&s[i].reader, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 4 < 2), read_stream, &s[i]);
    }
    EXPECT(close_under_calls(&random) == 0);
    for (int i = 0; i < STREAMS; i++) {
        EXPECT(actor_result(&s[i].writer) == 0 && actor_result(&s[i].reader) == 0);
        EXPECT(s[i].read == s[i].written);
    }
}

static void every_byte_arrives_once_and_in_order(void **state)
{
    const char *text = getenv("SLEY_TEST_SEED"), *ms = getenv("SLEY_TEST_MS");
    int before = count_descriptors();

    seed = text != NULL ? strtoull(text, NULL, 0) : (uint64_t)sley_now() | 1;
    print_message("SLEY_TEST_SEED=%llu\n", (unsigned long long)seed);
    for (size_t i = 0; i < sizeof casts / sizeof *casts; i++) {
        moved = timeouts = cut_off = waits = 0;
        end = sley_after((ms != NULL ? atoi(ms) : 1000) * SLEY_MS);
        play(traffic, casts[i]);
        print_message("%llu bytes, %llu timeouts, %llu cut off, %llu waits\n", (unsigned long long)moved, (unsigned long long)timeouts,
                      (unsigned long long)cut_off, (unsigned long long)waits);
        assert_true(moved > 0);
    }
    assert_int_equal(count_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_byte_arrives_once_and_in_order) };

    signal(SIGPIPE, SIG_IGN); /* plain threads get it; workers block it */
    return cmocka_run_group_tests_name("stress_io", tests, NULL, NULL);
}
