/* test_wakes.c - no wake is lost between workers that otherwise sleep, and a process in which nothing happens uses no processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include <sley.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SCALE 50
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SCALE 50
#endif
#endif
#ifndef SCALE
#define SCALE 1
#endif

/* Two fibers pinned to two workers hit a ball over two unbuffered channels: every hit is a park and a wake of the other worker, which
 * sleeps or is about to. */
struct side {
    sley_chan *in, *out;
    int serves, hits;
};

static _Atomic(int) on_court;

static int hit(void *arg)
{
    struct side *s = arg;
    int ball = 0, rc = 1;

    sley_pin();
    for (on_court++; on_court < 2;)
        ; /* the other cannot begin on this worker */
    if (s->serves && sley_chan_send(s->out, &ball, SLEY_FOREVER) < 0)
        rc = -1;
    for (int i = 0; i < s->hits && rc > 0; i++) {
        rc = sley_chan_recv(s->in, &ball, SLEY_FOREVER);
        ball++;
        if (rc > 0 && sley_chan_send(s->out, &ball, SLEY_FOREVER) < 0)
            break; /* the other has had enough */
    }
    sley_chan_close(s->out);
    sley_chan_close(s->in);
    sley_unpin();
    return rc < 0 ? rc : 0;
}

static int play(void *arg)
{
    struct side *s = arg;

    sley_go(hit, &s[0]);
    sley_go(hit, &s[1]);
    return 0;
}

static void a_million_wakes_between_sleeping_workers(void **state)
{
    int n = 250000 / SCALE; /* a round trip is four parks and four wakes */
    sley_chan *a = sley_chan_create(sizeof(int), 0), *b = sley_chan_create(sizeof(int), 0);
    struct side side[2] = { { a, b, 1, n }, { b, a, 0, n } };

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(sley_run(&(sley_options){ .workers = 2 }, play, side), 0);
    sley_chan_destroy(a);
    sley_chan_destroy(b);
}

/* ---- events between all of them ---- */

enum { RING = 16 };

static struct {
    sley_event go[RING];
    int rounds;
} ring;

static int pass_on(void *arg)
{
    int i = *(int *)arg;

    for (int r = 0; r < ring.rounds; r++) {
        int rc = sley_event_wait(&ring.go[i], SLEY_FOREVER);

        if (rc < 0)
            return rc;
        sley_event_reset(&ring.go[i]);
        sley_event_set(&ring.go[(i + 1) % RING]);
    }
    return 0;
}

static int start_ring(void *arg)
{
    (void)arg;
    for (int i = 0; i < RING; i++)
        sley_go_copy(pass_on, &i, sizeof i);
    sley_event_set(&ring.go[0]);
    return 0;
}

static void a_token_goes_round_many_fibers(void **state)
{
    static const uint32_t workers[] = { 1, 2, 4, 16 };

    (void)state;
    ring.rounds = 10000 / SCALE;
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < RING; j++)
            sley_event_reset(&ring.go[j]);
        assert_int_equal(sley_run(&(sley_options){ .workers = workers[i] }, start_ring, NULL), 0);
    }
}

/* ---- idleness ---- */

static int64_t cpu_ns(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return ((int64_t)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * SLEY_S + ((int64_t)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static long sleeps(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_nvcsw;
}

static int wait_for_ever(void *arg)
{
    int rc = sley_event_wait(arg, SLEY_FOREVER);

    return rc;
}

struct idleness { int64_t cpu; long sleeps; };

static int be_idle(void *arg)
{
    struct idleness *r = arg;
    sley_event never = { { 0 } };
    int64_t cpu;
    long before;

    for (int i = 0; i < 100; i++)
        sley_go(wait_for_ever, &never);
    if (sley_sleep(SLEY_S) < 0) /* everybody has come to rest */
        return -1;
    cpu = cpu_ns();
    before = sleeps();
    if (sley_sleep(3 * SLEY_S) < 0)
        return -1;
    r->cpu = cpu_ns() - cpu;
    r->sleeps = sleeps() - before;
    sley_event_set(&never);
    while (1) { /* `never` lives in this frame */
        sley_stats s;

        sley_stats_read(NULL, &s, sizeof s);
        if (s.fibers_now == 1)
            return 0;
        sley_yield();
    }
}

static void an_idle_process_uses_no_processor(void **state)
{
    struct idleness r = { 0, 0 };

    (void)state;
    assert_int_equal(sley_run(&(sley_options){ .workers = 4 }, be_idle, &r), 0);
    print_message("3 s of idleness: %lld us of processor time, %ld wakes\n", (long long)(r.cpu / 1000), r.sleeps);
    if (SCALE > 1)
        return; /* a sanitizer has threads of its own */
    assert_true(r.cpu < 3 * SLEY_S / 1000); /* 0.1 % of one processor */
    assert_true(r.sleeps <= 8);             /* the end of the second sleep, and who that wakes */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_wakes_between_sleeping_workers),
        cmocka_unit_test(a_token_goes_round_many_fibers),
        cmocka_unit_test(an_idle_process_uses_no_processor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
