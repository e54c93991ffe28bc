/* test_gen.c - generators, call by call: states, values in both directions, errors, what is refused, what a body may do, and what happens
 * without memory. Delegation: test_gen_from.c; whose they are and handing over: test_gen_owner.c; what a body has open across a yield:
 * test_gen_scope.c; who closes what nobody has finished: test_gen_end.c.
 *
 * Compiled twice, with the calls in the program and with those in the library (SLEY_GEN_NO_INLINE). */
#include "gen_parts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/limits.h"
#include "ctx/stack.h"

#if defined(SL_ASAN) || defined(SL_TSAN) /* every generator has a context of its own there */
enum { CHAIN = 40, ROUNDS = 300, DEPTH = 200 };
#else
enum { CHAIN = 1000, ROUNDS = 3000, DEPTH = 400 };
#endif

/* ---- calls that are counted, or fail ---- */

static struct {
    _Atomic(int) malloc_fails, mmap_fails;
    _Atomic(int) resumed;         /* sley_gen_resume called by the program: the inlines did not do it alone */
    _Atomic(int) next;            /* sley_gen_next of the library called by the program */
} calls;

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __real_sley_gen_resume(sley_gen *g, const void *in, void *out);
int __wrap_sley_gen_resume(sley_gen *g, const void *in, void *out);
int __real_sley_gen_next(sley_gen *g, void *out);
int __wrap_sley_gen_next(sley_gen *g, void *out);

void *__wrap_malloc(size_t bytes)
{
    return sl_load_relaxed(&calls.malloc_fails) ? NULL : __real_malloc(bytes);
}

void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset) /* mmap, with offsets of 64 bits */
{
    if (sl_load_relaxed(&calls.mmap_fails)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap64(at, bytes, prot, flags, fd, offset);
}

int __wrap_sley_gen_resume(sley_gen *g, const void *in, void *out)
{
    sl_add_relaxed(&calls.resumed, 1);
    return __real_sley_gen_resume(g, in, out);
}

int __wrap_sley_gen_next(sley_gen *g, void *out)
{
    sl_add_relaxed(&calls.next, 1);
    return __real_sley_gen_next(g, out);
}

/* ---- states and results ---- */

static int look_at_itself(void *arg)
{
    sley_gen *g = *(sley_gen **)arg;
    int rc;

    EXPECT(sley_gen_state(g) == SLEY_GEN_RUNNING && sley_gen_result(g) == -EAGAIN);
    rc = sley_gen_yield(NULL, NULL);
    EXPECT(sley_gen_state(g) == SLEY_GEN_RUNNING && sley_gen_result(g) == -EAGAIN);
    return rc < 0 ? rc : 7;
}

SCENARIO(a_generator_is_created_runs_is_suspended_and_is_closed)
{
    sley_gen *g = sley_gen_create(look_at_itself, &g, 0);

    EXPECT(sley_gen_state(g) == SLEY_GEN_CREATED && sley_gen_result(g) == -EAGAIN);
    EXPECT(sley_gen_next(g, NULL) == 1);
    EXPECT(sley_gen_state(g) == SLEY_GEN_SUSPENDED && sley_gen_result(g) == -EAGAIN);
    EXPECT(sley_gen_next(g, NULL) == 0);
    EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED && sley_gen_result(g) == 7);
    sley_gen_destroy(g);
}

SCENARIO(creating_runs_nothing)
{
    struct script s;
    sley_gen *g = begin_script(&s, 3, 0);

    EXPECT(s.begins == 0);
    sley_gen_destroy(g);
    EXPECT(s.begins == 0);
}

SCENARIO(next_returns_each_value_and_then_0_for_ever)
{
    for (int n = 0; n < 40; n++) {
        struct script s;
        sley_gen *g = begin_script(&s, n, 0);
        int v = NOTHING;

        for (int i = 0; i < n; i++)
            EXPECT(sley_gen_next(g, &v) == 1 && v == i && s.yields == i + 1);
        for (int i = 0; i < 3; i++)
            EXPECT(sley_gen_next(g, &v) == 0 && sley_gen_send(g, &v, &v) == 0 && v == (n > 0 ? n - 1 : NOTHING));
        EXPECT(s.begins == 1 && s.ends == 1);
        sley_gen_destroy(g);
    }
}

SCENARIO(the_result_is_what_the_body_returned_and_an_error_is_told_once)
{
    static const int results[] = { 0, 1, 42, INT_MAX, -1, -EIO, -EAGAIN, -ECANCELED, -EPROTO, -EALREADY, INT_MIN };

    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        for (int n = 0; n < 2; n++) {
            struct script s;
            sley_gen *g = begin_script(&s, n, results[i]);
            int v = NOTHING;

            EXPECT(n == 0 || sley_gen_next(g, &v) == 1);
            v = NOTHING;
            EXPECT(sley_gen_next(g, &v) == (results[i] < 0 ? results[i] : 0) && v == NOTHING);
            EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED && sley_gen_result(g) == results[i]);
            EXPECT(sley_gen_next(g, &v) == 0 && sley_gen_send(g, &v, &v) == 0 && sley_gen_close(g) == 0 && v == NOTHING);
            EXPECT(sley_gen_result(g) == results[i]);
            sley_gen_destroy(g);
        }
    }
}

SCENARIO(null_is_refused_but_by_destroy)
{
    int v = 1;

    EXPECT(sley_gen_next(NULL, &v) == -EINVAL && sley_gen_send(NULL, &v, &v) == -EINVAL && sley_gen_send(NULL, NULL, NULL) == -EINVAL);
    EXPECT(sley_gen_throw(NULL, -EIO, &v) == -EINVAL && sley_gen_close(NULL) == -EINVAL && v == 1);
    EXPECT((int)sley_gen_state(NULL) == -EINVAL && sley_gen_result(NULL) == -EINVAL);
    EXPECT(sley_gen_release(NULL) == -EINVAL && sley_gen_adopt(NULL) == -EINVAL);
    EXPECT(sley_gen_create(NULL, NULL, 4) == NULL && sley_gen_create_copy(NULL, &v, 4, 4) == NULL);
    EXPECT(sley_gen_create_copy(follow, NULL, 1, 4) == NULL);
    EXPECT(sley_gen_from_array(NULL, 1, 4) == NULL && sley_gen_from_chan(NULL) == NULL);
    sley_gen_destroy(NULL);
}

SCENARIO(destroy_in_every_state_but_running)
{
    struct script s;
    sley_gen *g = begin_script(&s, 2, 0);

    sley_gen_destroy(g); /* created */
    EXPECT(s.begins == 0);
    g = started_script(&s, 2, 0);
    sley_gen_destroy(g); /* suspended: it is closed first */
    EXPECT(s.ends == 1 && s.yields == 1 && s.say[0] == -ECANCELED);
    g = started_script(&s, 1, 0);
    EXPECT(sley_gen_next(g, NULL) == 0);
    sley_gen_destroy(g); /* ended */
    EXPECT(s.ends == 1 && s.say[0] == 0);
    g = started_script(&s, 1, 0);
    EXPECT(sley_gen_close(g) == 0);
    sley_gen_destroy(g); /* closed */
    EXPECT(s.ends == 1 && s.say[0] == -ECANCELED);
}

/* ---- values ---- */

struct sized {
    size_t bytes;
    unsigned char *wants; /* what is to come in next */
};

static int answer_in_kind(void *arg)
{
    struct sized *z = arg;
    unsigned char *out = malloc(z->bytes + 1), *in = malloc(z->bytes + 2);
    int rc = 0;

    for (unsigned round = 0; rc >= 0; round++) {
        fill(out, z->bytes, 2 * round);
        memset(in, 0xee, z->bytes + 2);
        rc = sley_gen_yield(out, in + 1);
        EXPECT(is_filled(out, z->bytes, 2 * round));
        EXPECT(in[0] == 0xee && in[z->bytes + 1] == 0xee);
        EXPECT(rc == 1 ? is_filled(in + 1, z->bytes, 2 * round + 1) : is_untouched(in, z->bytes + 2));
    }
    free(out);
    free(in);
    return rc;
}

SCENARIO(values_of_any_size_go_both_ways)
{
    static const size_t sizes[] = { 0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 64, 100, 4095, 4096, 4097, 70000 };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct sized z = { sizes[i], NULL };
        sley_gen *g = sley_gen_create(answer_in_kind, &z, z.bytes);
        unsigned char *out = malloc(z.bytes + 2), *in = malloc(z.bytes + 1);

        for (unsigned round = 0; round < 5; round++) {
            memset(out, 0xee, z.bytes + 2);
            if (round > 0)
                fill(in, z.bytes, 2 * round - 1);
            EXPECT((round > 0 ? sley_gen_send(g, in, out + 1) : sley_gen_next(g, out + 1)) == 1);
            EXPECT(out[0] == 0xee && out[z.bytes + 1] == 0xee && is_filled(out + 1, z.bytes, 2 * round));
            EXPECT(round == 0 || is_filled(in, z.bytes, 2 * round - 1));
        }
        memset(out, 0xee, z.bytes + 2);
        EXPECT(sley_gen_next(g, out + 1) == 1 && is_filled(out + 1, z.bytes, 10)); /* plain next: nothing comes in */
        EXPECT(sley_gen_send(g, NULL, out + 1) == 1 && is_filled(out + 1, z.bytes, 12));
        memset(out, 0xee, z.bytes + 2);
        EXPECT(sley_gen_close(g) == 0 && is_untouched(out, z.bytes + 2));
        EXPECT(sley_gen_next(g, out + 1) == 0 && is_untouched(out, z.bytes + 2));
        sley_gen_destroy(g);
        free(out);
        free(in);
    }
}

static int add_up(void *arg)
{
    int sum = 0, in, rc;

    while ((rc = sley_gen_yield(&sum, &in)) > 0)
        sum += in;
    return rc;
}

SCENARIO(what_is_sent_and_what_is_answered_may_be_the_same_memory)
{
    sley_gen *g = sley_gen_create(add_up, NULL, sizeof(int));
    int v = NOTHING;

    EXPECT(sley_gen_next(g, &v) == 1 && v == 0);
    v = 3;
    for (int sum = 3; sum < 1000000; sum *= 2) /* each answer is sent back */
        EXPECT(sley_gen_send(g, &v, &v) == 1 && v == (sum == 3 ? 3 : sum));
    sley_gen_destroy(g);
}

static int echo_in_place(void *arg)
{
    int v = 0, rc;

    while ((rc = sley_gen_yield(&v, &v)) > 0)
        v *= 3;
    return rc;
}

SCENARIO(a_body_may_yield_and_receive_in_the_same_memory)
{
    sley_gen *g = sley_gen_create(echo_in_place, NULL, sizeof(int));
    int v = NOTHING;

    EXPECT(sley_gen_next(g, &v) == 1 && v == 0);
    for (int i = 1; i < 100; i++)
        EXPECT(sley_gen_send(g, &i, &v) == 1 && v == 3 * i);
    v = 5;
    EXPECT(sley_gen_send(g, &v, &v) == 1 && v == 15);
    sley_gen_destroy(g);
}

static int yield_now_and_then_a_value(void *arg)
{
    int v = 10, rc = 0;

    for (; v < 20 && rc >= 0; v++)
        rc = sley_gen_yield(v % 2 ? &v : NULL, NULL);
    return rc < 0 ? rc : 0;
}

SCENARIO(a_yield_without_a_value_leaves_the_consumers_as_it_is)
{
    sley_gen *g = sley_gen_create(yield_now_and_then_a_value, NULL, sizeof(int));
    int v = NOTHING;

    for (int i = 10; i < 20; i++) {
        EXPECT(sley_gen_next(g, &v) == 1);
        EXPECT(v == (i % 2 ? i : NOTHING));
        v = NOTHING;
    }
    EXPECT(sley_gen_next(g, &v) == 0 && v == NOTHING);
    sley_gen_destroy(g);
}

SCENARIO(a_value_that_nobody_wants_is_dropped)
{
    struct script s;
    sley_gen *g = begin_script(&s, 4, 0);
    int v = NOTHING, in = 5;

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_send(g, &in, NULL) == 1 && sley_gen_next(g, &v) == 1 && v == 2);
    EXPECT(sley_gen_throw(g, -EIO, NULL) == -EIO);
    EXPECT(s.say[0] == 1 && s.in[0] == 5 && s.say[1] == 0 && s.in[1] == NOTHING && s.say[2] == -EIO && s.in[2] == NOTHING);
    sley_gen_destroy(g);
}

static int drop_what_is_sent(void *arg)
{
    int *says = arg, rc = 0;

    for (int i = 0; i < 3 && rc >= 0; i++)
        says[i] = rc = sley_gen_yield(&i, NULL);
    return rc < 0 ? rc : 0;
}

SCENARIO(what_is_sent_to_a_body_that_does_not_want_it_is_dropped)
{
    int says[3], v = 9;
    sley_gen *g = sley_gen_create(drop_what_is_sent, says, sizeof(int));

    EXPECT(sley_gen_next(g, &v) == 1 && sley_gen_send(g, &v, &v) == 1 && sley_gen_next(g, &v) == 1 && sley_gen_send(g, &v, &v) == 0);
    EXPECT(says[0] == 1 && says[1] == 0 && says[2] == 1 && v == 2);
    sley_gen_destroy(g);
}

SCENARIO(sending_to_one_that_has_not_started_is_refused_and_changes_nothing)
{
    struct script s;
    sley_gen *g = begin_script(&s, 2, 0);
    int v = 5;

    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_send(g, &v, &v) == -EINVAL && v == 5 && sley_gen_state(g) == SLEY_GEN_CREATED && s.begins == 0);
    EXPECT(sley_gen_send(g, NULL, &v) == 1 && v == 0); /* as next */
    EXPECT(sley_gen_send(g, &(int){ 6 }, &v) == 1 && v == 1 && s.say[0] == 1 && s.in[0] == 6);
    sley_gen_destroy(g);
}

SCENARIO(a_body_is_told_what_was_sent_and_what_was_not)
{
    struct script s;
    sley_gen *g = started_script(&s, 6, 0);
    int v;

    EXPECT(sley_gen_send(g, &(int){ 100 }, &v) == 1 && sley_gen_next(g, &v) == 1 && sley_gen_send(g, NULL, &v) == 1);
    EXPECT(sley_gen_send(g, &(int){ 0 }, &v) == 1 && sley_gen_send(g, &(int){ -1 }, &v) == 1 && v == 5 && sley_gen_next(g, &v) == 0);
    EXPECT(s.say[0] == 1 && s.in[0] == 100 && s.say[1] == 0 && s.in[1] == NOTHING && s.say[2] == 0 && s.in[2] == NOTHING);
    EXPECT(s.say[3] == 1 && s.in[3] == 0 && s.say[4] == 1 && s.in[4] == -1 && s.say[5] == 0);
    sley_gen_destroy(g);
}

/* What the compiler keeps in registers over a yield, of both sides. */
static int keep_much(void *arg)
{
    uint64_t a = 1, b = 2, c = 3, d = 5, e = 7, f = 11, g = 13, h = 17, sum = 0;
    double x = 0.5, y = 1.5, z = 2.5;
    int rc = 0;

    while (rc >= 0) {
        uint64_t in = 0;

        sum = a + b + c + d + e + f + g + h + (uint64_t)(x + y + z);
        rc = sley_gen_yield(&sum, &in);
        a += in, b += a, c += b, d += c, e += d, f += e, g += f, h += g;
        x += 1, y += x, z += 0.25 * y;
        if (z > 1e6)
            x = y = z = 0;
    }
    *(uint64_t *)arg = sum;
    return rc;
}

SCENARIO(registers_survive_the_switches_of_both_sides)
{
    uint64_t a = 1, b = 2, c = 3, d = 5, e = 7, f = 11, g = 13, h = 17, got = 0, last = 0;
    double x = 0.5, y = 1.5, z = 2.5;
    sley_gen *gen = sley_gen_create(keep_much, &last, sizeof got);

    EXPECT(sley_gen_next(gen, &got) == 1);
    for (uint64_t in = 1; in < (uint64_t)ROUNDS; in++) {
        EXPECT(got == a + b + c + d + e + f + g + h + (uint64_t)(x + y + z));
        EXPECT(sley_gen_send(gen, &in, &got) == 1);
        a += in, b += a, c += b, d += c, e += d, f += e, g += f, h += g;
        x += 1, y += x, z += 0.25 * y;
        if (z > 1e6)
            x = y = z = 0;
    }
    EXPECT(sley_gen_close(gen) == 0 && last == got);
    sley_gen_destroy(gen);
}

/* ---- copies of arguments ---- */

static int sum_of_bytes(void *arg)
{
    struct { uint32_t n; unsigned char byte[SLEY_COPY_BYTES_MAX - 4]; } *a = arg;
    int sum = 0, rc;

    EXPECT((uintptr_t)arg % _Alignof(max_align_t) == 0);
    for (uint32_t i = 0; i < a->n; i++)
        sum += a->byte[i];
    rc = sley_gen_yield(&sum, NULL);
    a->n = 0; /* it is the body's own */
    return rc;
}

SCENARIO(a_copied_argument_lives_as_long_as_the_generator)
{
    static const size_t sizes[] = { 4, 5, 8, 63, 64, 65, 1000, SLEY_COPY_BYTES_MAX };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *a = malloc(sizes[i]);
        uint32_t n = (uint32_t)(sizes[i] - 4);
        sley_gen *g;
        int v;

        memset(a, 3, sizes[i]);
        memcpy(a, &n, sizeof n);
        g = sley_gen_create_copy(sum_of_bytes, a, sizes[i], sizeof v);
        memset(a, 0xee, sizes[i]);
        free(a);
        EXPECT(sley_gen_next(g, &v) == 1 && v == (int)n * 3);
        sley_gen_destroy(g);
    }
}

static int note_argument(void *arg)
{
    int is_null = arg == NULL;

    return sley_gen_yield(&is_null, NULL);
}

SCENARIO(a_copy_that_is_too_large_or_of_nothing)
{
    static unsigned char large[SLEY_COPY_BYTES_MAX + 1];
    sley_gen *g = sley_gen_create_copy(note_argument, NULL, 0, sizeof(int));
    int v = NOTHING;

    EXPECT(sley_gen_create_copy(note_argument, large, sizeof large, 4) == NULL);
    EXPECT(sley_gen_create_copy(note_argument, large, SIZE_MAX, 4) == NULL);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 1);
    sley_gen_destroy(g);
}

/* ---- throw ---- */

SCENARIO(throw_ends_one_that_has_not_started)
{
    struct script s;
    sley_gen *g = begin_script(&s, 3, 5);
    int v = NOTHING;

    EXPECT(sley_gen_throw(g, -EDOM, &v) == -EDOM && v == NOTHING && s.begins == 0);
    EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED && sley_gen_result(g) == -EDOM);
    EXPECT(sley_gen_next(g, &v) == 0 && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
}

SCENARIO(throw_comes_out_of_the_yield)
{
    static const int errors[] = { -1, -EIO, -ECANCELED, -EPROTO, INT_MIN };

    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        struct script s;
        sley_gen *g = started_script(&s, 9, 6); /* passes it on */
        int v = NOTHING;

        EXPECT(sley_gen_next(g, &v) == 1);
        v = NOTHING;
        EXPECT(sley_gen_throw(g, errors[i], &v) == errors[i] && v == NOTHING && s.say[1] == errors[i] && s.ends == 1);
        EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED && sley_gen_result(g) == errors[i] && sley_gen_next(g, &v) == 0);
        sley_gen_destroy(g);

        g = started_script(&s, 9, 6);
        s.when_told = SWALLOW; /* and ends */
        EXPECT(sley_gen_throw(g, errors[i], &v) == 0 && v == NOTHING && sley_gen_result(g) == 6);
        sley_gen_destroy(g);

        g = started_script(&s, 3, 6);
        s.when_told = GO_ON; /* and yields on */
        EXPECT(sley_gen_throw(g, errors[i], &v) == 1 && v == 1 && sley_gen_state(g) == SLEY_GEN_SUSPENDED);
        EXPECT(sley_gen_throw(g, errors[i], &v) == 1 && v == 2 && s.say[1] == errors[i] && sley_gen_next(g, &v) == 0 && v == 2);
        EXPECT(s.say[2] == 0);
        sley_gen_destroy(g);
    }
}

SCENARIO(throw_into_one_that_has_ended_says_the_error_and_changes_nothing)
{
    struct script s;
    sley_gen *g = started_script(&s, 1, 8);
    int v = NOTHING;

    EXPECT(sley_gen_next(g, &v) == 0);
    for (int i = 0; i < 2; i++)
        EXPECT(sley_gen_throw(g, -EDOM, &v) == -EDOM && v == NOTHING && sley_gen_result(g) == 8 && sley_gen_next(g, &v) == 0);
    sley_gen_destroy(g);
}

SCENARIO(only_an_error_can_be_thrown)
{
    struct script s;
    sley_gen *g = begin_script(&s, 3, 0);
    int v = NOTHING;

    EXPECT(sley_gen_throw(g, 0, &v) == -EINVAL && sley_gen_throw(g, 1, &v) == -EINVAL && sley_gen_state(g) == SLEY_GEN_CREATED);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 0);
    EXPECT(sley_gen_throw(g, 0, &v) == -EINVAL && sley_gen_throw(g, INT_MAX, &v) == -EINVAL && s.say[0] == 0 && v == 0);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 1);
    sley_gen_destroy(g);
}

/* ---- close ---- */

SCENARIO(close_ends_one_that_has_not_started_without_running_it)
{
    struct script s;
    sley_gen *g = begin_script(&s, 3, 0);

    for (int i = 0; i < 2; i++)
        EXPECT(sley_gen_close(g) == 0 && sley_gen_state(g) == SLEY_GEN_CLOSED && sley_gen_result(g) == -ECANCELED);
    EXPECT(sley_gen_next(g, NULL) == 0 && s.begins == 0);
    sley_gen_destroy(g);
}

SCENARIO(close_lets_the_body_clean_up_and_says_its_error)
{
    static const struct { int returns, closes; } ends[] = {
        { 0, 0 }, { 5, 0 }, { -ECANCELED, 0 }, { -EIO, -EIO }, { -EPROTO, -EPROTO }, { -EALREADY, -EALREADY },
    };

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct script s;
        sley_gen *g = started_script(&s, 3, ends[i].returns);

        s.when_told = SWALLOW;
        EXPECT(sley_gen_close(g) == ends[i].closes && s.say[0] == -ECANCELED && s.in[0] == NOTHING && s.ends == 1 && s.yields == 1);
        EXPECT(sley_gen_state(g) == SLEY_GEN_CLOSED && sley_gen_result(g) == ends[i].returns);
        EXPECT(sley_gen_close(g) == 0 && sley_gen_next(g, NULL) == 0); /* told once */
        sley_gen_destroy(g);
    }
}

SCENARIO(one_that_yields_while_it_is_closed_is_as_it_was_before)
{
    struct script s;
    sley_gen *g = started_script(&s, 5, 4);
    int v;

    s.when_told = GO_ON;
    EXPECT(sley_gen_close(g) == -EPROTO && sley_gen_state(g) == SLEY_GEN_SUSPENDED && sley_gen_result(g) == -EAGAIN);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 2); /* the value of the yield that was refused, 1, is lost */
    EXPECT(sley_gen_close(g) == -EPROTO && sley_gen_send(g, &v, &v) == 1 && v == 4);
    s.when_told = PASS_ON;
    EXPECT(sley_gen_close(g) == 0 && sley_gen_state(g) == SLEY_GEN_CLOSED);
    EXPECT(s.say[0] == -ECANCELED && s.say[1] == 0 && s.say[2] == -ECANCELED && s.say[3] == 1 && s.say[4] == -ECANCELED);
    sley_gen_destroy(g);
}

/* ---- where one may not be resumed ---- */

static int try_all_on_itself(void *arg)
{
    sley_gen *g = *(sley_gen **)arg;
    int v = NOTHING;

    for (int i = 0; i < 2; i++) {
        EXPECT(sley_gen_next(g, &v) == -EALREADY && sley_gen_send(g, &v, &v) == -EALREADY && sley_gen_send(g, NULL, &v) == -EALREADY);
        EXPECT(sley_gen_throw(g, -EIO, &v) == -EALREADY && sley_gen_close(g) == -EALREADY && sley_gen_release(g) == -EALREADY);
        EXPECT(sley_gen_adopt(g) == -EALREADY && sley_gen_yield_from(g) == -EALREADY && v == NOTHING);
        EXPECT(sley_gen_state(g) == SLEY_GEN_RUNNING && sley_gen_yield(NULL, NULL) == 0);
    }
    return 3;
}

SCENARIO(a_body_cannot_resume_its_own_generator)
{
    sley_gen *g = sley_gen_create(try_all_on_itself, &g, sizeof(int));

    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == 0 && sley_gen_result(g) == 3);
    sley_gen_destroy(g);
}

static int resume_another(void *arg)
{
    sley_gen **other = arg;
    int rc;

    do
        rc = sley_gen_next(*other, NULL);
    while (rc > 0 && sley_gen_yield(NULL, NULL) == 0);
    return rc;
}

SCENARIO(nobody_inside_can_resume_one_further_out)
{
    sley_gen *outer = NULL, *middle = NULL, *inner = sley_gen_create(try_all_on_itself, &outer, sizeof(int));

    middle = sley_gen_create(resume_another, &inner, sizeof(int));
    outer = sley_gen_create(resume_another, &middle, sizeof(int));
    EXPECT(sley_gen_next(outer, NULL) == 1 && sley_gen_next(outer, NULL) == 1 && sley_gen_next(outer, NULL) == 0);
    EXPECT(sley_gen_result(inner) == 3 && sley_gen_result(middle) == 0 && sley_gen_result(outer) == 0);
    sley_gen_destroy(outer);
    sley_gen_destroy(middle);
    sley_gen_destroy(inner);
}

static int yield_where_there_is_no_body(void *arg)
{
    struct script s;
    sley_gen *g = begin_script(&s, 1, 0);
    int v = NOTHING;

    (void)arg;
    EXPECT(sley_gen_yield(&v, &v) == -EPERM && sley_gen_yield(NULL, NULL) == -EPERM && v == NOTHING);
    EXPECT(sley_gen_yield_from(g) == -EPERM && sley_gen_yield_from(NULL) == -EPERM && sley_gen_state(g) == SLEY_GEN_CREATED);
    sley_gen_destroy(g);
    return 0;
}

static int yield_elsewhere(void *arg)
{
    struct actor a = { .fn = NULL };
    int rc;

    (void)arg;
    actor_start_as(&a, sley_self() == 0, yield_where_there_is_no_body, NULL); /* a fiber or thread that a body has started is not it */
    EXPECT(actor_result(&a) == 0);
    rc = sley_gen_yield(NULL, NULL);
    EXPECT(sley_self() == 0 || sley_blocking(yield_where_there_is_no_body, NULL, SLEY_FOREVER) == 0);
    return rc;
}

SCENARIO(yield_is_refused_where_no_body_runs)
{
    sley_gen *g = sley_gen_create(yield_elsewhere, NULL, sizeof(int));
    struct script s;

    yield_where_there_is_no_body(NULL);
    EXPECT(sley_gen_next(g, NULL) == 1);
    yield_where_there_is_no_body(NULL); /* one is suspended, none runs */
    EXPECT(sley_gen_next(g, NULL) == 0);
    yield_where_there_is_no_body(NULL);
    sley_gen_destroy(g);
    g = started_script(&s, 3, 0);
    EXPECT(sley_gen_throw(g, -EIO, NULL) == -EIO);
    yield_where_there_is_no_body(NULL);
    sley_gen_destroy(g);
}

/* ---- depth ---- */

static int walk(void *arg)
{
    struct node *n = arg;
    int rc;

    if (n == NULL)
        return 0;
    if ((rc = walk(n->left)) >= 0 && (rc = sley_gen_yield(&n->key, NULL)) >= 0)
        rc = walk(n->right);
    return rc;
}

SCENARIO(a_body_yields_from_any_depth)
{
    struct node nodes[500];
    sley_gen *g = sley_gen_create(walk, make_tree(nodes, 0, 500), sizeof(int));
    int v;

    for (int i = 0; i < 500; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == i);
    EXPECT(sley_gen_next(g, &v) == 0);
    sley_gen_destroy(g);
    g = sley_gen_create(walk, make_tree(nodes, 0, 500), sizeof(int));
    for (int i = 0; i < 250; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == i);
    EXPECT(sley_gen_close(g) == 0 && sley_gen_result(g) == -ECANCELED); /* from the middle of the recursion */
    sley_gen_destroy(g);
}

/* Every level yields on its way down and on its way up. */
__attribute__((noinline)) static int down_and_up(int depth, volatile unsigned char *above)
{
    volatile unsigned char frame[128];
    int rc;

    frame[0] = (unsigned char)(above[0] + 1);
    rc = sley_gen_yield(&depth, NULL);
    if (rc >= 0 && depth > 0)
        rc = down_and_up(depth - 1, frame);
    if (rc >= 0)
        rc = sley_gen_yield(&depth, NULL);
    EXPECT(frame[0] == (unsigned char)(above[0] + 1));
    return rc;
}

static int go_down(void *arg)
{
    volatile unsigned char first = 0;

    return down_and_up(*(int *)arg, &first);
}

SCENARIO(a_body_yields_at_every_level_of_a_recursion)
{
    int depth = DEPTH, v;
    sley_gen *g = sley_gen_create(go_down, &depth, sizeof v);

    for (int i = DEPTH; i >= 0; i--)
        EXPECT(sley_gen_next(g, &v) == 1 && v == i);
    for (int i = 0; i <= DEPTH; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == i);
    EXPECT(sley_gen_next(g, &v) == 0);
    sley_gen_destroy(g);
}

struct link {
    sley_gen *inner; /* NULL: the end of the chain */
    int n;
};

/* Adds one to what the next in the chain yields. */
static int add_one(void *arg)
{
    struct link *l = arg;
    int rc = 1, v = 0;

    for (int i = 0; i < l->n && rc >= 0; i++) {
        if (l->inner != NULL && (rc = sley_gen_next(l->inner, &v)) <= 0)
            return rc < 0 ? rc : -EBADMSG;
        v++;
        rc = sley_gen_yield(&v, NULL);
        if (l->inner == NULL)
            v = 0;
    }
    return rc < 0 ? rc : 0;
}

SCENARIO(generators_resume_each_other_in_a_long_chain)
{
    static struct link links[CHAIN];
    sley_gen *g = NULL;
    int v;

    for (int i = 0; i < CHAIN; i++) {
        links[i] = (struct link){ g, 3 };
        g = sley_gen_create(add_one, &links[i], sizeof v);
    }
    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == CHAIN);
    EXPECT(sley_gen_next(g, &v) == 0);
    sley_gen_destroy(g);
    for (int i = CHAIN - 1; i > 0; i--)
        sley_gen_destroy(links[i].inner);
}

static int take_from(void *arg)
{
    sley_gen **from = arg;
    int v, rc = 0;

    while (rc == 0 && sley_gen_next(*from, &v) > 0)
        rc = sley_gen_yield(&v, NULL);
    return rc;
}

SCENARIO(a_generator_is_resumed_now_here_now_in_the_bodies_of_others)
{
    struct script s;
    sley_gen *g = begin_script(&s, 30, 0), *a = sley_gen_create(take_from, &g, sizeof(int));
    sley_gen *b = sley_gen_create(take_from, &a, sizeof(int));
    int v;

    for (int i = 0; i < 30; i += 3) {
        EXPECT(sley_gen_next(g, &v) == 1 && v == i);
        EXPECT(sley_gen_next(a, &v) == 1 && v == i + 1); /* in the body of one */
        EXPECT(sley_gen_next(b, &v) == 1 && v == i + 2); /* of two */
    }
    EXPECT(sley_gen_next(b, &v) == 0 && sley_gen_state(a) == SLEY_GEN_CLOSED && sley_gen_state(g) == SLEY_GEN_CLOSED);
    sley_gen_destroy(g);
    sley_gen_destroy(a);
    sley_gen_destroy(b);
}

SCENARIO(many_take_turns)
{
    enum { MANY = 20 };
    struct script s[MANY];
    sley_gen *g[MANY];
    int v;

    for (int i = 0; i < MANY; i++)
        g[i] = begin_script(&s[i], 10 + i, i);
    for (int round = 0; round < 10 + MANY; round++)
        for (int i = 0; i < MANY; i++) {
            v = NOTHING;
            EXPECT(sley_gen_next(g[i], &v) == (round < 10 + i) && v == (round < 10 + i ? round : NOTHING));
        }
    for (int i = 0; i < MANY; i++) {
        EXPECT(sley_gen_result(g[i]) == i);
        sley_gen_destroy(g[i]);
    }
}

/* ---- bodies that wait ---- */

static int sleep_and_count(void *arg)
{
    int rc = 0;

    for (int i = 0; i < 3 && rc >= 0; i++) {
        rc = sley_sleep(200 * SLEY_US);
        if (rc == 0)
            rc = sley_gen_yield(&i, NULL);
    }
    return rc < 0 ? rc : 0;
}

SCENARIO(a_body_may_sleep)
{
    sley_time before = sley_now();
    sley_gen *g = sley_gen_create(sleep_and_count, NULL, sizeof(int));
    int v;

    for (int i = 0; i < 3; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == i);
    EXPECT(sley_gen_next(g, &v) == 0 && sley_now() - before >= 3 * 200 * SLEY_US);
    sley_gen_destroy(g);
}

/* Doubles what comes in from a channel. */
static int receive_and_double(void *arg)
{
    struct relay *r = arg;
    int v, rc;

    while ((rc = sley_chan_recv(r->in, &v, SLEY_FOREVER)) > 0) {
        v *= 2;
        if ((rc = sley_gen_yield(&v, NULL)) < 0)
            break;
    }
    return rc;
}

static int send_numbers(void *arg)
{
    struct relay *r = arg;
    int rc = 0;

    for (int i = 0; i < 100 && rc == 0; i++)
        rc = sley_chan_send(r->in, &i, SLEY_FOREVER);
    sley_chan_close(r->in);
    return rc;
}

SCENARIO(a_body_receives_from_a_channel_while_others_run)
{
    struct relay r = { .in = sley_chan_create(sizeof(int), 0) };
    sley_gen *g = sley_gen_create(receive_and_double, &r, sizeof(int));
    struct actor sender;
    int v;

    actor_start(&sender, send_numbers, &r);
    for (int i = 0; i < 100; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == 2 * i);
    EXPECT(sley_gen_next(g, &v) == 0 && actor_result(&sender) == 0);
    sley_gen_destroy(g);
    sley_chan_destroy(r.in);
}

struct reading {
    int fd;
    int is_socket;
};

/* Line by line. */
static int read_lines(void *arg)
{
    struct reading *r = arg;
    char line[32], buf[7];
    int used = 0, n, rc = 0;

    while (rc >= 0 && (n = r->is_socket ? sley_recv(r->fd, buf, sizeof buf, 0, SLEY_FOREVER)
                                        : sley_read(r->fd, buf, sizeof buf, SLEY_FOREVER)) > 0) {
        for (int i = 0; i < n && rc >= 0; i++) {
            line[used++] = buf[i];
            if (buf[i] == '\n') {
                line[used - 1] = '\0';
                used = 0;
                rc = sley_gen_yield(line, NULL);
            }
        }
    }
    return rc;
}

static int write_lines(void *arg)
{
    int fd = *(int *)arg, rc = 0;

    for (int i = 0; i < 50 && rc == 0; i++) {
        char line[32];

        snprintf(line, sizeof line, "line %d\n", i * i);
        rc = sley_write_all(fd, line, (int)strlen(line), SLEY_FOREVER);
    }
    sley_close(fd);
    return rc;
}

static void expect_lines(int fd, int is_socket)
{
    struct reading r = { fd, is_socket };
    sley_gen *g = sley_gen_create(read_lines, &r, 32);
    char line[32], wanted[32];

    for (int i = 0; i < 50; i++) {
        snprintf(wanted, sizeof wanted, "line %d", i * i);
        EXPECT(sley_gen_next(g, line) == 1 && strcmp(line, wanted) == 0);
    }
    EXPECT(sley_gen_next(g, line) == 0);
    sley_gen_destroy(g);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(a_body_reads_a_file)
{
    char path[] = "/tmp/sley-test-gen-XXXXXX";
    int fd = mkstemp(path);

    EXPECT(fd >= 0 && unlink(path) == 0);
    for (int i = 0; i < 50; i++)
        dprintf(fd, "line %d\n", i * i);
    EXPECT(lseek(fd, 0, SEEK_SET) == 0);
    expect_lines(fd, 0);
}

SCENARIO(a_body_reads_a_socket)
{
    struct actor writer;
    int pair[2];

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    actor_start(&writer, write_lines, &pair[1]);
    expect_lines(pair[0], 1);
    EXPECT(actor_result(&writer) == 0);
}

static int wait_for_the_word(void *arg)
{
    struct relay *r = arg;
    int rc, v = 1;

    r->seen = 1;
    rc = sley_event_wait(&r->go, SLEY_FOREVER);
    return rc < 0 ? rc : sley_gen_yield(&v, NULL);
}

static int give_the_word(void *arg)
{
    struct relay *r = arg;

    while (!r->seen)
        give_way();
    sley_event_set(&r->go);
    return 0;
}

SCENARIO(others_run_while_a_body_waits)
{
    struct relay r = { .seen = 0 };
    sley_gen *g = sley_gen_create(wait_for_the_word, &r, sizeof(int));
    struct actor other;
    int v = 0;

    actor_start(&other, give_the_word, &r);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 1 && actor_result(&other) == 0);
    sley_gen_destroy(g);
    sley_event_fini(&r.go);
}

struct travel {
    int key, moves, hops;
    uint64_t self;
    char value;
};

static long thread_here(void)
{
    return syscall(SYS_gettid);
}

static int travel_along(void *arg)
{
    struct travel *t = arg;
    int rc = 0;

    for (int i = 0; rc >= 0; i++) {
        long here = thread_here();

        EXPECT(sley_self() == t->self && sley_local_get(t->key) == &t->value);
        rc = i % 3 ? sley_yield() : sley_sleep(SLEY_US);
        t->hops++;
        t->moves += thread_here() != here;
        EXPECT(sley_self() == t->self && sley_local_get(t->key) == &t->value);
        if (rc == 0)
            rc = sley_gen_yield(&i, NULL);
    }
    return rc;
}

SCENARIO(a_generator_moves_with_its_fiber)
{
    struct travel t = { .key = sley_local_create(NULL), .self = sley_self() };
    sley_gen *g = sley_gen_create(travel_along, &t, sizeof(int));
    const char *chaos = getenv("SLEY_CHAOS");
    int v;

    EXPECT(sley_local_set(t.key, &t.value) == 0);
    for (int i = 0; i < ROUNDS / 10; i++) {
        EXPECT(sley_gen_next(g, &v) == 1 && v == i);
        if (i % 4 == 0)
            give_way(); /* the consumer moves too */
    }
    EXPECT(sley_gen_close(g) == 0);
    if (chaos != NULL && strcmp(chaos, "migrate") == 0 && sley_self() != 0)
        EXPECT(t.moves > t.hops / 2);
    sley_gen_destroy(g);
    EXPECT(sley_local_set(t.key, NULL) == 0);
    sley_local_destroy(t.key);
}

static int stay_pinned(void *arg)
{
    int rc = 0, stayed = 1;

    sley_pin();
    while (rc >= 0) {
        long here = thread_here();

        for (int i = 0; i < 5 && rc == 0; i++) {
            rc = sley_yield();
            stayed = stayed && thread_here() == here;
        }
        rc = sley_gen_yield(&stayed, NULL);
    }
    sley_unpin();
    return rc;
}

SCENARIO(a_pin_is_the_fibers)
{
    sley_gen *g = sley_gen_create(stay_pinned, NULL, sizeof(int));
    int v = 0;

    EXPECT(sley_gen_next(g, &v) == 1 && v == 1);
    for (int round = 0; round < 10; round++) {
        long here = thread_here();

        EXPECT(sley_yield() == 0 && thread_here() == here); /* the body has pinned it */
        EXPECT(sley_gen_next(g, &v) == 1 && v == 1);
    }
    sley_gen_destroy(g);
}

static int set_a_local(void *arg)
{
    struct travel *t = arg;

    EXPECT(sley_local_get(t->key) == t && sley_local_set(t->key, &t->value) == 0 && sley_gen_yield(NULL, NULL) == 0);
    EXPECT(sley_local_get(t->key) == NULL);
    return 0;
}

SCENARIO(a_local_value_is_the_fibers)
{
    struct travel t = { .key = sley_local_create(NULL) };
    sley_gen *g = sley_gen_create(set_a_local, &t, 0);

    EXPECT(sley_local_set(t.key, &t) == 0 && sley_gen_next(g, NULL) == 1 && sley_local_get(t.key) == &t.value);
    EXPECT(sley_local_set(t.key, NULL) == 0 && sley_gen_next(g, NULL) == 0);
    sley_gen_destroy(g);
    sley_local_destroy(t.key);
}

static int change_errno(void *arg)
{
    (void)arg;
    errno = EDOM;
    if (sley_gen_yield(NULL, NULL) < 0)
        return -ECANCELED;
    EXPECT(errno == ERANGE);
    return 0;
}

/* It is one line of execution: a switch neither saves errno nor changes it. */
SCENARIO(errno_is_left_alone_by_a_switch)
{
    sley_gen *g = sley_gen_create(change_errno, NULL, 0);

    errno = 0;
    EXPECT(sley_gen_next(g, NULL) == 1 && errno == EDOM);
    errno = ERANGE;
    EXPECT(sley_gen_next(g, NULL) == 0);
    sley_gen_destroy(g);
}

/* ---- larger stacks ---- */

static int yield_on_a_big_stack(void *arg)
{
    struct script *s = arg;

    EXPECT(use_stack(400 << 10, 1) == 0);
    return follow(s);
}

static int call_on_big_stacks(void *arg)
{
    struct script *s = arg;
    int rc = 0;

    for (int i = 0; i < 2 && rc >= 0; i++) {
        rc = sley_on_big_stack(yield_on_a_big_stack, s, 1 << 20);
        if (rc >= 0)
            rc = sley_gen_yield(NULL, NULL);
    }
    return rc;
}

SCENARIO(a_body_yields_from_inside_a_call_on_a_larger_stack)
{
    struct script s = { .n = 3 };
    sley_gen *g = sley_gen_create(call_on_big_stacks, &s, sizeof(int));
    int v = NOTHING;

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++)
            EXPECT(sley_gen_next(g, &v) == 1 && v == i);
        EXPECT(sley_gen_next(g, &v) == 1 && v == 2);
    }
    EXPECT(sley_gen_next(g, &v) == 0 && s.ends == 2);
    sley_gen_destroy(g);
    g = sley_gen_create(call_on_big_stacks, &s, sizeof(int));
    EXPECT(sley_gen_next(g, &v) == 1 && sley_gen_throw(g, -EIO, &v) == -EIO); /* out of the larger stack */
    sley_gen_destroy(g);
    g = sley_gen_create(call_on_big_stacks, &s, sizeof(int));
    EXPECT(sley_gen_next(g, &v) == 1 && sley_gen_close(g) == 0);
    sley_gen_destroy(g);
}

static int end_after_a_big_stack(void *arg)
{
    return sley_on_big_stack(yield_on_a_big_stack, arg, 1 << 20);
}

/* The last yield came from the larger stack, which is gone when the body ends. */
SCENARIO(a_body_ends_after_its_last_yield_was_on_a_larger_stack)
{
    for (int round = 0; round < 20; round++) {
        struct script s = { .n = 2, .rc = 5 };
        sley_gen *g = sley_gen_create(end_after_a_big_stack, &s, sizeof(int));

        EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == 0 && sley_gen_result(g) == 5);
        sley_gen_destroy(g);
    }
}

static int resume_five(void *arg)
{
    sley_gen *g = arg;
    int v = NOTHING, rc = 1;

    for (int i = 0; i < 5 && rc > 0; i++) {
        rc = sley_gen_next(g, &v);
        give_way();
    }
    return rc < 0 ? rc : v;
}

static int resume_five_deep_down(void *arg)
{
    EXPECT(use_stack(300 << 10, 7) == 0);
    return resume_five(arg);
}

SCENARIO(a_consumer_resumes_from_different_stacks)
{
    struct script s;
    sley_gen *g = begin_script(&s, 20, 0);
    int v;

    EXPECT(sley_on_big_stack(resume_five_deep_down, g, 1 << 20) == 4 && sley_gen_next(g, &v) == 1 && v == 5);
    EXPECT(sley_on_big_stack(resume_five_deep_down, g, 512 << 10) == 10 && resume_five(g) == 15);
    EXPECT(sley_gen_close(g) == 0);
    sley_gen_destroy(g);
}

static int wait_on_a_big_stack(void *arg)
{
    int rc = 0;

    for (int i = 0; i < 6 && rc >= 0; i++) {
        rc = sley_sleep(SLEY_US);
        if (rc == 0 && sley_yield() == 0)
            rc = sley_gen_yield(&i, NULL);
    }
    return rc < 0 ? rc : 0;
}

static int hop_between_stacks(void *arg)
{
    int rc = sley_on_big_stack(wait_on_a_big_stack, arg, 200 << 10);

    if (rc == 0)
        rc = wait_on_a_big_stack(arg);
    return rc < 0 ? rc : sley_on_big_stack(wait_on_a_big_stack, arg, 1 << 20);
}

SCENARIO(a_body_waits_and_yields_on_larger_stacks)
{
    sley_gen *g = sley_gen_create(hop_between_stacks, NULL, sizeof(int));
    int v;

    for (int i = 0; i < 18; i++)
        EXPECT(sley_gen_next(g, &v) == 1 && v == i % 6 && sley_sleep(SLEY_US) == 0);
    EXPECT(sley_gen_next(g, &v) == 0);
    sley_gen_destroy(g);
}

/* ---- the two kinds of calls ---- */

static void drive(sley_fn *body, int n, int mixed)
{
    struct script s = { .n = n, .rc = 3 };
    sley_gen *g = sley_gen_create(body, &s, sizeof(int));
    int v = NOTHING;

    for (int i = 0; i < n; i++) {
        int in = 100 + i, rc;

        if (mixed && i % 2)
            rc = i % 3 && i > 0 ? other_send(g, &in, &v) : other_next(g, &v);
        else
            rc = i % 3 && i > 0 ? sley_gen_send(g, &in, &v) : sley_gen_next(g, &v);
        EXPECT(rc == 1 && v == i);
        if (i > 0)
            EXPECT(s.say[(i - 1) % NOTED] == (i % 3 != 0) && s.in[(i - 1) % NOTED] == (i % 3 ? in : NOTHING));
        EXPECT(sley_gen_state(g) == SLEY_GEN_SUSPENDED);
    }
    if (n % 2)
        EXPECT(sley_gen_close(g) == 0 && s.ends == 1);
    else
        EXPECT((mixed ? other_next(g, &v) : sley_gen_next(g, &v)) == 0 && s.ends == 1 && other_next(g, &v) == 0);
    sley_gen_destroy(g);
}

SCENARIO(bodies_and_consumers_compiled_in_either_kind_go_together)
{
    for (int n = 0; n < 20; n++) {
        drive(follow, n, 0);
        drive(other_follow, n, 0);
        drive(follow, n, 1);
        drive(other_follow, n, 1);
    }
}

static int yield_in_both_kinds(void *arg)
{
    int rc = 0;

    for (int i = 0; rc >= 0; i++)
        rc = i % 2 ? other_yield(&i, NULL) : sley_gen_yield(&i, NULL);
    return rc;
}

SCENARIO(one_body_yields_in_either_kind)
{
    sley_gen *g = sley_gen_create(yield_in_both_kinds, NULL, sizeof(int));
    int v;

    for (int i = 0; i < 50; i++)
        EXPECT((i % 4 < 2 ? other_next(g, &v) : sley_gen_next(g, &v)) == 1 && v == i);
    sley_gen_destroy(g);
}

__attribute__((noinline)) static int next_of_this_kind(sley_gen *g, int *v)
{
    return sley_gen_next(g, v);
}

/* That the tests do what they say: where calls are compiled in, the library is entered for the first and the last resume only. */
static void calls_are_of_the_kind_that_the_program_was_compiled_for(void **state)
{
    struct script s;
    sley_gen *g;
    int v;

    (void)state;
#ifdef SLEY_GEN_INLINE
    assert_false(other_is_inline());
#endif
#if !defined(SL_ASAN) && !defined(SL_TSAN) && (defined(__x86_64__) || defined(__aarch64__))
#ifdef SLEY_GEN_NO_INLINE
    assert_true(other_is_inline());
#endif
    scene.unmet = NULL;
    g = begin_script(&s, 10, 0);
    calls.resumed = calls.next = 0;
    for (int i = 0; i < 11; i++)
        assert_int_equal(next_of_this_kind(g, &v), i < 10);
#ifdef SLEY_GEN_NO_INLINE
    assert_int_equal(calls.next, 11);
    assert_int_equal(calls.resumed, 0); /* within the library */
#elif defined(__OPTIMIZE__)
    assert_int_equal(calls.next, 0);
    assert_int_equal(calls.resumed, 1);
#endif
    assert_int_equal(next_of_this_kind(g, &v), 0);
    sley_gen_destroy(g);
#else
    (void)s;
    (void)g;
    (void)v;
    (void)next_of_this_kind;
    skip();
#endif
}

/* ---- no memory ---- */

SCENARIO(without_memory_nothing_is_made)
{
    sley_chan *ch = sley_chan_create(sizeof(int), 1);
    struct script s = { .n = 1 };
    int v = NOTHING;
    sley_gen *g;

    calls.malloc_fails = 1;
    EXPECT(sley_gen_create(follow, &s, sizeof v) == NULL && sley_gen_create_copy(follow, &s, sizeof s, sizeof v) == NULL);
    EXPECT(sley_gen_from_array(&v, 1, sizeof v) == NULL && sley_gen_from_chan(ch) == NULL);
    calls.malloc_fails = 0;
    g = sley_gen_create(follow, &s, sizeof v);
    calls.malloc_fails = 1;
    EXPECT(sley_gen_next(g, &v) == 1 && v == 0 && sley_gen_next(g, &v) == 0); /* running needs none */
    calls.malloc_fails = 0;
    sley_gen_destroy(g);
    sley_chan_destroy(ch);
}

static void expect_a_refused_stack(sley_gen *g, struct script *s, int *v)
{
    EXPECT(sley_gen_next(g, v) == -ENOMEM && *v == NOTHING && s->begins == 0 && sley_gen_state(g) == SLEY_GEN_CREATED);
    EXPECT(sley_gen_result(g) == -EAGAIN);
}

static int begin_without_a_stack(void *arg)
{
    struct script s;
    sley_gen *g = begin_script(&s, 2, 0), *closed = begin_script(&s, 2, 0);
    int v = NOTHING;

    (void)arg;
    sl_stack_fail_carves(4);
    for (int i = 0; i < 3; i++)
        expect_a_refused_stack(g, &s, &v);
    EXPECT(sley_gen_next(closed, &v) == -ENOMEM && sley_gen_close(closed) == 0 && sley_gen_result(closed) == -ECANCELED);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 0 && sley_gen_next(g, &v) == 1 && sley_gen_next(g, &v) == 0); /* tried again */
    sley_gen_destroy(g);
    sley_gen_destroy(closed);
    return 0;
}

/* A size of stacks of their own, so that none is free before. */
static const sley_options own_stacks = { .gen_stack_bytes = 256 << 10, .workers = 1 };

static void a_fibers_generator_that_gets_no_stack_can_be_tried_again(void **state)
{
    (void)state;
    run_scene(&own_stacks, begin_without_a_stack, 0);
}

static int delegate_twice(void *arg)
{
    int rc = sley_gen_yield(NULL, NULL);

    EXPECT(rc == 0);
    sl_stack_fail_carves(1);
    EXPECT(sley_gen_yield_from(arg) == -ENOMEM && sley_gen_state(arg) == SLEY_GEN_CREATED);
    return sley_gen_yield_from(arg);
}

static int delegate_without_a_stack(void *arg)
{
    enum { HELD = 200 }; /* more than are carved at once */
    struct script s, held;
    sley_gen *inner = begin_script(&s, 2, 8), *g = sley_gen_create(delegate_twice, inner, sizeof(int)), *all[HELD];
    int v = NOTHING, n = -1, rc;

    (void)arg;
    EXPECT(sley_gen_next(g, &v) == 1);
    do { /* until no free one is left */
        all[++n] = begin_script(&held, 1, 0);
        sl_stack_fail_carves(1);
        rc = sley_gen_next(all[n], NULL);
    } while (rc == 1 && n < HELD - 1);
    EXPECT(rc == -ENOMEM && sley_gen_state(all[n]) == SLEY_GEN_CREATED);
    EXPECT(sley_gen_next(g, &v) == 1 && v == 0 && sley_gen_next(g, &v) == 1 && v == 1 && sley_gen_next(g, &v) == 0);
    EXPECT(sley_gen_result(g) == 8 && s.begins == 1);
    sl_stack_fail_carves(0);
    while (n >= 0)
        sley_gen_destroy(all[n--]);
    sley_gen_destroy(g);
    sley_gen_destroy(inner);
    return 0;
}

static void delegation_that_gets_no_stack_can_be_tried_again(void **state)
{
    (void)state;
    run_scene(&own_stacks, delegate_without_a_stack, 0);
}

static void *begin_without_a_mapping(void *arg)
{
    struct script s;
    sley_gen *g;
    int v = NOTHING;

    EXPECT(sley_runtime_attach(arg) == 0);
    g = begin_script(&s, 2, 0);
    calls.mmap_fails = 1;
    for (int i = 0; i < 3; i++)
        expect_a_refused_stack(g, &s, &v);
    calls.mmap_fails = 0;
    EXPECT(sley_gen_next(g, &v) == 1 && v == 0 && sley_gen_next(g, &v) == 1 && sley_gen_next(g, &v) == 0);
    sley_gen_destroy(g);
    sley_runtime_detach();
    return NULL;
}

static void a_threads_generator_that_gets_no_stack_can_be_tried_again(void **state)
{
    sley_runtime *rt;
    pthread_t thread;

    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_runtime_create(&rt, &(sley_options){ .gen_stack_bytes = 8 << 20 }), 0); /* none of that size lies about */
    assert_int_equal(pthread_create(&thread, NULL, begin_without_a_mapping, rt), 0);
    pthread_join(thread, NULL);
    sley_runtime_destroy(rt);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* ---- stacks of another size ---- */

static int use_and_measure(void *arg)
{
    struct sl_stack_place place;
    size_t *bytes = arg;
    int rc;

    EXPECT(sl_stack_find(__builtin_frame_address(0), &place));
    *bytes = place.stack_bytes;
    EXPECT(use_stack(place.stack_bytes - place.guard_bytes - (16 << 10), 5) == 0);
    rc = sley_gen_yield(NULL, NULL);
    EXPECT(use_stack(place.stack_bytes - place.guard_bytes - (16 << 10), 6) == 0);
    return rc;
}

static int measure(void *arg)
{
    size_t bytes[3] = { 0, 0, 0 };
    sley_gen *g[3];

    for (int i = 0; i < 3; i++) {
        g[i] = sley_gen_create(use_and_measure, &bytes[i], 0);
        EXPECT(sley_gen_next(g[i], NULL) == 1);
        if (i == 1)
            EXPECT(sley_gen_next(g[i], NULL) == 0); /* the third one gets the stack of the second */
    }
    for (int i = 0; i < 3; i++)
        sley_gen_destroy(g[i]);
    EXPECT(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
    *(size_t *)arg = bytes[0];
    return 0;
}

static void generators_have_stacks_of_the_size_asked_for(void **state)
{
    static const struct { size_t fiber, gen; } sizes[] = {
        { 0, 0 }, { 64 << 10, 64 << 10 }, { 64 << 10, 512 << 10 }, { 512 << 10, 32 << 10 }, { 128 << 10, 8 << 20 },
    };

    (void)state;
    scene.unmet = NULL;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        sley_options options = { .stack_bytes = sizes[i].fiber, .gen_stack_bytes = sizes[i].gen };
        size_t bytes = 0;

        assert_int_equal(sley_run(&options, measure, &bytes), 0);
        assert_int_equal(bytes, sizes[i].gen != 0 ? sizes[i].gen : SL_STACK_BYTES_DEFAULT);
    }
    setenv("SLEY_GEN_STACK", "262144", 1);
    setenv("SLEY_STACK", "65536", 1);
    for (int i = 0; i < 3; i++) {
        size_t bytes = 0;

        assert_int_equal(sley_run(NULL, measure, &bytes), 0);
        assert_int_equal(bytes, 262144);
    }
    unsetenv("SLEY_GEN_STACK");
    unsetenv("SLEY_STACK");
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* ---- after a fork ---- */

static int count_in_a_child(void *arg)
{
    struct script s;
    sley_gen *g = begin_script(&s, 5, 9);
    int v = NOTHING, n = 0;

    (void)arg;
    while (sley_gen_next(g, &v) > 0)
        n += v == n;
    v = sley_gen_result(g);
    sley_gen_destroy(g);
    return n == 5 ? v : -EBADMSG;
}

/* In a child that was forked by a fiber: its one thread is a plain one, and new. */
static int is_of_no_use(sley_gen *g)
{
    int v = NOTHING;

    if (sley_gen_next(g, &v) != -ECHILD || sley_gen_send(g, &v, &v) != -ECHILD || sley_gen_throw(g, -EIO, &v) != -ECHILD ||
        sley_gen_close(g) != -ECHILD || sley_gen_release(g) != -ECHILD || v != NOTHING)
        return 0;
    if (sley_gen_yield(&v, &v) != -ECHILD || sley_gen_yield_from(g) != -ECHILD || v != NOTHING)
        return 0;
    sley_gen_destroy(g);
    return 1;
}

/* ... by a thread, which stays itself. */
static int goes_on(sley_gen *g)
{
    int v = NOTHING;

    if (sley_gen_next(g, &v) != 1 || v != 1 || sley_gen_close(g) != 0)
        return 0;
    sley_gen_destroy(g);
    return 1;
}

/* AddressSanitizer's allocator may be held by a thread that the child does not have; ThreadSanitizer starts no threads after a fork. */
#if defined(SL_ASAN)
enum { CHILD_ALLOCATES = 0, CHILD_STARTS_THREADS = 0 };
#elif defined(SL_TSAN)
enum { CHILD_ALLOCATES = 1, CHILD_STARTS_THREADS = 0 };
#else
enum { CHILD_ALLOCATES = 1, CHILD_STARTS_THREADS = 1 };
#endif

static int fork_and_look(sley_gen *g)
{
    int status = 0, on_fiber = sley_self() != 0;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int ok = on_fiber ? is_of_no_use(g) : goes_on(g);

        ok = ok && (!CHILD_ALLOCATES || count_in_a_child(NULL) == 9);
        ok = ok && (!CHILD_STARTS_THREADS || sley_run(&(sley_options){ .workers = 1 }, count_in_a_child, NULL) == 9);
        _exit(ok ? 42 : 3);
    }
    EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    return 0;
}

static int fork_in_the_body(void *arg)
{
    fork_and_look(*(sley_gen **)arg);
    return sley_gen_yield(NULL, NULL);
}

SCENARIO(a_forked_child_has_generators_of_its_own)
{
    struct script s;
    sley_gen *g = started_script(&s, 3, 0), *forks = sley_gen_create(fork_in_the_body, &g, 0);

    fork_and_look(g);
    EXPECT(sley_gen_next(forks, NULL) == 1);
    EXPECT(sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == 1 && sley_gen_next(g, NULL) == 0); /* the parent's go on */
    sley_gen_destroy(g);
    sley_gen_destroy(forks);
}

/* ---- closed at each of its yields ---- */

struct farm { /* a body that holds memory at every one of its yields */
    int n, held;
};

static void free_it(char **p)
{
    free(*p);
}

static int hold_memory(void *arg)
{
    struct farm *f = arg;
    int rc = 0;

    for (int i = 0; i < f->n && rc >= 0; i++) {
        __attribute__((cleanup(free_it))) char *first = malloc(1000);
        char *second = malloc(1000);

        f->held++;
        memset(second, 1, 1000);
        memset(first, 2, 1000);
        rc = sley_gen_yield(&i, NULL);
        if (rc >= 0) {
            struct farm less = { i / 4, 0 };
            sley_gen *inner = sley_gen_create_copy(hold_memory, &less, sizeof less, sizeof i);

            rc = sley_gen_yield_from(inner);
            sley_gen_destroy(inner);
        }
        free(second);
        f->held--;
    }
    return rc < 0 ? rc : 0;
}

SCENARIO(closed_at_each_of_its_yields_it_leaves_nothing_behind)
{
    for (int how = 0; how < 3; how++) {
        int stop = 0, over = 0;

        while (!over) {
            struct farm f = { 24, 0 };
            sley_gen *g = sley_gen_create(hold_memory, &f, sizeof(int));
            int v;

            for (int i = 0; i < stop && !over; i++)
                over = sley_gen_next(g, &v) == 0;
            stop++;
            if (how == 0)
                EXPECT(sley_gen_close(g) == 0);
            else if (how == 1 && !over)
                EXPECT(sley_gen_throw(g, -EIO, &v) == -EIO);
            sley_gen_destroy(g);
            EXPECT(f.held == 0);
        }
        EXPECT(stop == 90); /* 88 yields */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(a_generator_is_created_runs_is_suspended_and_is_closed),
        ON_BOTH(creating_runs_nothing),
        ON_BOTH(next_returns_each_value_and_then_0_for_ever),
        ON_BOTH(the_result_is_what_the_body_returned_and_an_error_is_told_once),
        ON_BOTH(null_is_refused_but_by_destroy),
        ON_BOTH(destroy_in_every_state_but_running),
        ON_BOTH(values_of_any_size_go_both_ways),
        ON_BOTH(what_is_sent_and_what_is_answered_may_be_the_same_memory),
        ON_BOTH(a_body_may_yield_and_receive_in_the_same_memory),
        ON_BOTH(a_yield_without_a_value_leaves_the_consumers_as_it_is),
        ON_BOTH(a_value_that_nobody_wants_is_dropped),
        ON_BOTH(what_is_sent_to_a_body_that_does_not_want_it_is_dropped),
        ON_BOTH(sending_to_one_that_has_not_started_is_refused_and_changes_nothing),
        ON_BOTH(a_body_is_told_what_was_sent_and_what_was_not),
        ON_BOTH(registers_survive_the_switches_of_both_sides),
        ON_BOTH(a_copied_argument_lives_as_long_as_the_generator),
        ON_BOTH(a_copy_that_is_too_large_or_of_nothing),
        ON_BOTH(throw_ends_one_that_has_not_started),
        ON_BOTH(throw_comes_out_of_the_yield),
        ON_BOTH(throw_into_one_that_has_ended_says_the_error_and_changes_nothing),
        ON_BOTH(only_an_error_can_be_thrown),
        ON_BOTH(close_ends_one_that_has_not_started_without_running_it),
        ON_BOTH(close_lets_the_body_clean_up_and_says_its_error),
        ON_BOTH(one_that_yields_while_it_is_closed_is_as_it_was_before),
        ON_BOTH(a_body_cannot_resume_its_own_generator),
        ON_BOTH(nobody_inside_can_resume_one_further_out),
        ON_BOTH(yield_is_refused_where_no_body_runs),
        ON_BOTH(a_body_yields_from_any_depth),
        ON_BOTH(a_body_yields_at_every_level_of_a_recursion),
        ON_BOTH(generators_resume_each_other_in_a_long_chain),
        ON_BOTH(a_generator_is_resumed_now_here_now_in_the_bodies_of_others),
        ON_BOTH(many_take_turns),
        ON_BOTH(a_body_may_sleep),
        PLAYED(a_body_receives_from_a_channel_while_others_run),
        ON_BOTH(a_body_reads_a_file),
        PLAYED(a_body_reads_a_socket),
        PLAYED(others_run_while_a_body_waits),
        ON_BOTH(a_generator_moves_with_its_fiber),
        ON_FIBERS(a_pin_is_the_fibers),
        ON_BOTH(a_local_value_is_the_fibers),
        ON_BOTH(errno_is_left_alone_by_a_switch),
        ON_BOTH(a_body_yields_from_inside_a_call_on_a_larger_stack),
        ON_BOTH(a_body_ends_after_its_last_yield_was_on_a_larger_stack),
        ON_BOTH(a_consumer_resumes_from_different_stacks),
        ON_BOTH(a_body_waits_and_yields_on_larger_stacks),
        ON_BOTH(bodies_and_consumers_compiled_in_either_kind_go_together),
        ON_BOTH(one_body_yields_in_either_kind),
        cmocka_unit_test(calls_are_of_the_kind_that_the_program_was_compiled_for),
        ON_BOTH(without_memory_nothing_is_made),
        cmocka_unit_test(a_fibers_generator_that_gets_no_stack_can_be_tried_again),
        cmocka_unit_test(delegation_that_gets_no_stack_can_be_tried_again),
        cmocka_unit_test(a_threads_generator_that_gets_no_stack_can_be_tried_again),
        cmocka_unit_test(generators_have_stacks_of_the_size_asked_for),
        ON_BOTH(a_forked_child_has_generators_of_its_own),
        ON_BOTH(closed_at_each_of_its_yields_it_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
