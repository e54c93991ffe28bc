/* stress_stream.c - random calls on streams, byte-exact: a writer, a copier and a reader in a row, over sockets and pipes, on fibers and
 * threads, with deadlines and cancels that race with the bytes. Prints its seed; SLEY_TEST_SEED replays it, SLEY_TEST_MS sets how long
 * each of its parts runs. */
#include "io_scenario.h"

#include "base/limits.h"
#include "io/stream.h"

#include <sys/uio.h>

enum { ROWS = 8, BLOCK = SL_STREAM_BYTES, LARGEST = 3 * BLOCK };

static _Atomic(uint64_t) moved, cut, lines;
static sley_time end;

/* What is written to wire[0][1] is copied from wire[0][0] to wire[1][1] and read from wire[1][0]. */
struct row {
    struct actor writer, copier, reader;
    int wire[2][2];
    uint64_t seed, random[3];
    size_t put, copied, got;
    sley_stream *out, *from, *to, *in;
    int copy_rc, read_rc; /* 0: the end */
    unsigned char written[LARGEST], read[LARGEST];
};

static unsigned char byte_at(const struct row *r, size_t at) { return (unsigned char)(pattern(at) + r->seed); }

static sley_time random_deadline(uint64_t *random)
{
    switch (below(random, 8)) {
    case 0: return SLEY_NOW;
    case 1: return sley_after(below(random, 20000));
    case 2: return sley_after(below(random, 2 * SLEY_MS));
    default: return SLEY_FOREVER;
    }
}

/* Few mostly. */
static size_t random_bytes(uint64_t *random)
{
    return 1 + below(random, below(random, 4) ? 200 : below(random, 3) ? BLOCK + 2 : LARGEST - 1);
}

/* fn(r); a fiber does it sometimes in a scope that is about to be cut. */
static void perhaps_cancelled(sley_fn *fn, struct row *r, uint64_t *random)
{
    if (sley_self() == 0 || below(random, 8) > 0) {
        fn(r);
    } else {
        int rc = sley_scope_run(fn, r, sley_after(below(random, 200000)));

        EXPECT(rc == 0 || rc == -ETIMEDOUT);
    }
}

static int was_cut(int rc)
{
    int is = rc == -ETIMEDOUT || rc == -ECANCELED;

    cut += is;
    return is;
}

/* --- the writer ------------------------------------------------------------------------------------------------------------------ */

/* Longer than a buffer: may not be cut, or the stream would be torn. */
static int write_long(struct row *r, size_t bytes)
{
    int on_fiber = sley_self() != 0, rc;

    if (on_fiber)
        sley_shield_begin();
    rc = sley_stream_write(r->out, r->written, bytes, SLEY_FOREVER);
    if (on_fiber)
        sley_shield_end();
    return rc;
}

static int write_once(void *arg)
{
    struct row *r = arg;
    uint64_t *random = &r->random[0];
    size_t bytes = random_bytes(random), first = below(random, (uint32_t)bytes);
    struct iovec v[3] = { { r->written, first }, { NULL, 0 }, { r->written + first, bytes - first } };
    int rc;

    for (size_t i = 0; i < bytes; i++)
        r->written[i] = byte_at(r, r->put + i);
    if (bytes > BLOCK) {
        rc = write_long(r, bytes);
    } else if (below(random, 4) == 0) {
        rc = sley_stream_flush(r->out, random_deadline(random));
        bytes = 0;
    } else if (below(random, 3) == 0) {
        rc = sley_stream_printf(r->out, "%c", r->written[0]);
        EXPECT(rc == 1 || rc == -ENOBUFS);
        bytes = rc == 1;
        rc = 0;
    } else if (below(random, 2) == 0) {
        rc = sley_stream_writev(r->out, v, 3, random_deadline(random));
    } else {
        rc = sley_stream_write(r->out, r->written, bytes, random_deadline(random));
    }
    EXPECT(rc == 0 || was_cut(rc));
    if (rc == 0)
        r->put += bytes;
    return 0;
}

static int be_writer(void *arg)
{
    struct row *r = arg;

    while (r->put == 0 || sley_now() < end) /* something, however late it is */
        perhaps_cancelled(write_once, r, &r->random[0]);
    EXPECT(sley_stream_flush(r->out, SLEY_FOREVER) == 0);
    sley_stream_destroy(r->out);
    return sley_close(r->wire[0][1]);
}

/* --- the copier ------------------------------------------------------------------------------------------------------------------ */

static int copy_once(void *arg)
{
    struct row *r = arg;
    uint64_t *random = &r->random[1];
    sley_time deadline = random_deadline(random);
    int64_t n;

    if (below(random, 8) == 0) { /* by hand */
        int have = sley_stream_peek(r->from, 1 + below(random, 100), deadline);

        if (have > 0 && (have = sley_stream_write(r->to, sley_stream_data(r->from), 1, deadline)) == 0) {
            sley_stream_skip(r->from, 1);
            have = 1;
        }
        n = have;
    } else {
        n = sley_stream_copy(r->to, r->from, below(random, 2) ? INT64_MAX : (int64_t)random_bytes(random), deadline);
    }
    EXPECT(n >= 0 || was_cut((int)n));
    r->copied += n > 0 ? (size_t)n : 0;
    r->copy_rc = n != 0;
    return 0;
}

static int be_copier(void *arg)
{
    struct row *r = arg;

    do
        perhaps_cancelled(copy_once, r, &r->random[1]);
    while (r->copy_rc != 0);
    EXPECT(sley_stream_flush(r->to, SLEY_FOREVER) == 0);
    sley_stream_destroy(r->from);
    sley_stream_destroy(r->to);
    EXPECT(sley_close(r->wire[0][0]) == 0);
    return sley_close(r->wire[1][1]);
}

/* --- the reader ------------------------------------------------------------------------------------------------------------------ */

static void got(struct row *r, const unsigned char *buf, int n)
{
    int right = 0;

    while (right < n && buf[right] == byte_at(r, r->got + (size_t)right))
        right++;
    EXPECT(n <= 0 || right == n);
    r->got += n > 0 ? (size_t)n : 0;
    moved += n > 0 ? (uint64_t)n : 0;
}

/* A result of a read that ends with a mark. */
static void ends_with(const unsigned char *buf, int n, const unsigned char *mark, size_t mark_bytes)
{
    const unsigned char *first = n > 0 ? memmem(buf, (size_t)n, mark, mark_bytes) : NULL;

    lines += first != NULL;
    EXPECT(first == NULL || first == buf + n - mark_bytes);
}

static int read_once(void *arg)
{
    struct row *r = arg;
    uint64_t *random = &r->random[2];
    size_t bytes = random_bytes(random);
    sley_time deadline = random_deadline(random);
    unsigned char mark[2] = { byte_at(r, r->got + bytes / 2), byte_at(r, r->got + bytes / 2 + 1) };
    int n;

    switch (below(random, 5)) {
    case 0:
        n = sley_stream_read_line(r->in, (char *)r->read, bytes, deadline);
        ends_with(r->read, n, (const unsigned char *)"\n", 1);
        break;
    case 1:
        n = sley_stream_read_until(r->in, r->read, bytes, mark, sizeof mark, deadline);
        ends_with(r->read, n, mark, sizeof mark);
        break;
    case 2:
        n = sley_stream_read_all(r->in, r->read, bytes, deadline);
        break;
    case 3:
        n = sley_stream_peek(r->in, bytes, deadline);
        if (n > 0) {
            n = 1 + (int)below(random, (uint32_t)n);
            got(r, sley_stream_data(r->in), n);
            sley_stream_skip(r->in, (size_t)n);
            r->read_rc = n;
            return 0;
        }
        break;
    default:
        n = sley_stream_read(r->in, r->read, bytes, deadline);
    }
    EXPECT(n >= 0 || n == -EMSGSIZE || was_cut(n));
    got(r, r->read, n);
    r->read_rc = n;
    return 0;
}

static int be_reader(void *arg)
{
    struct row *r = arg;

    do
        perhaps_cancelled(read_once, r, &r->random[2]);
    while (r->read_rc != 0);
    sley_stream_destroy(r->in);
    return sley_close(r->wire[1][0]);
}

/* --- all of it ------------------------------------------------------------------------------------------------------------------- */

static uint64_t seed;

/* Half of them take little at once, so that more has to wait. */
static void make_wire(int fds[2], uint64_t *random)
{
    int small = 1, is_small = (int)below(random, 2), rc = 0;

    switch (below(random, 3)) {
    case 0:
        make_tcp_pair(fds);
        rc = is_small ? setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) : 0;
        break;
    case 1:
        make_pair(fds, SOCK_STREAM);
        rc = is_small ? setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) : 0;
        break;
    default:
        rc = pipe2(fds, O_CLOEXEC | (below(random, 2) ? O_NONBLOCK : 0));
        if (is_small && fcntl(fds[1], F_SETPIPE_SZ, 4096) < 0)
            rc = -1;
    }
    EXPECT(rc == 0);
}

static void traffic(void)
{
    static struct row rows[ROWS];
    uint64_t random = seed;

    memset(rows, 0, sizeof rows);
    for (int i = 0; i < ROWS; i++) {
        struct row *r = &rows[i];

        make_wire(r->wire[0], &random);
        make_wire(r->wire[1], &random);
        r->seed = below(&random, 256);
        for (int k = 0; k < 3; k++)
            r->random[k] = mix(random + (uint64_t)k);
        r->out = sley_stream_create(r->wire[0][1]);
        r->from = sley_stream_create(r->wire[0][0]);
        r->to = sley_stream_create(r->wire[1][1]);
        r->in = sley_stream_create(r->wire[1][0]);
        r->copy_rc = r->read_rc = 1;
        actor_start_as(&r->writer, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), be_writer, r);
        actor_start_as(&r->copier, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 4 < 2), be_copier, r);
        actor_start_as(&r->reader, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 8 < 4), be_reader, r);
    }
    for (int i = 0; i < ROWS; i++) {
        struct row *r = &rows[i];

        EXPECT(actor_result(&r->writer) == 0 && actor_result(&r->copier) == 0 && actor_result(&r->reader) == 0);
        EXPECT(r->put == r->copied && r->copied == r->got);
    }
    EXPECT(sl_buffers_held() == 0);
}

static void every_byte_arrives_once_and_in_order(void **state)
{
    const char *ms = getenv("SLEY_TEST_MS");
    int before = count_descriptors();

    (void)state;
    seed = test_seed();
    for (size_t i = 0; i < sizeof casts / sizeof *casts; i++) {
        moved = cut = lines = 0;
        end = sley_after((ms != NULL ? atoi(ms) : 1000) * SLEY_MS);
        play(traffic, casts[i]);
        print_message("%llu bytes, %llu calls cut, %llu lines\n", (unsigned long long)moved, (unsigned long long)cut,
                      (unsigned long long)lines);
        assert_true(moved > 0);
    }
    assert_int_equal(count_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_byte_arrives_once_and_in_order) };

    return cmocka_run_group_tests_name("stress_stream", tests, NULL, NULL);
}
