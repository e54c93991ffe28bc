/* test_runtime.c - the life of a runtime: sley_run and its results, create to destroy in every order, stopping whatever waits, attached
 * threads, several runtimes at once, and that nothing is left behind. Also sley_sleep, which needs nothing else. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include <sley.h>

#include "base/atomic.h"

static int return_argument(void *arg)
{
    return (int)(intptr_t)arg;
}

static void *number(intptr_t n)
{
    return (void *)n;
}

static unsigned entries_of(const char *path)
{
    DIR *d = opendir(path);
    unsigned n = 0;

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void count_up(_Atomic(int) *n)
{
    sl_add_acq_rel(n, 1);
}

/* Until *n is at least `enough`; for the test's own thread, while fibers run. */
static void wait_for(_Atomic(int) *n, int enough)
{
    while (sl_load_acquire(n) < enough)
        sched_yield();
}

/* ---- what sley_run returns ---- */

static void run_returns_what_the_function_returned(void **state)
{
    (void)state;
    assert_int_equal(sley_run(NULL, return_argument, number(0)), 0);
    assert_int_equal(sley_run(NULL, return_argument, number(7)), 7);
    assert_int_equal(sley_run(NULL, return_argument, number(INT_MAX)), INT_MAX);
    assert_int_equal(sley_run(NULL, return_argument, number(-EIO)), -EIO);
    assert_int_equal(sley_run(NULL, return_argument, number(INT_MIN)), INT_MIN);
    assert_int_equal(sley_run(NULL, NULL, NULL), -EINVAL);
}

static int start_and_return_seven(void *arg)
{
    return sley_go(return_argument, arg) < 0 ? -ENOMEM : 7;
}

static void run_returns_the_error_of_a_child_before_its_own_result(void **state)
{
    (void)state;
    assert_int_equal(sley_run(NULL, start_and_return_seven, number(-EPIPE)), -EPIPE);
    assert_int_equal(sley_run(NULL, start_and_return_seven, number(12)), 7);
}

struct order {
    sley_event first_failed;
    int second_saw;
};

static int fail_first(void *arg)
{
    (void)arg;
    return -EPIPE;
}

static int fail_once_cancelled(void *arg)
{
    struct order *o = arg;

    o->second_saw = sley_event_wait(&o->first_failed, SLEY_FOREVER); /* nobody sets it */
    return -ENOSPC;
}

static int start_two_failures(void *arg)
{
    sley_go(fail_once_cancelled, arg);
    sley_go(fail_first, NULL);
    return 0;
}

static void the_first_error_is_the_one_that_counts(void **state)
{
    struct order o = { { { 0 } }, 0 };

    (void)state;
    assert_int_equal(sley_run(NULL, start_two_failures, &o), -EPIPE);
    assert_int_equal(o.second_saw, -ECANCELED);
}

enum { SIBLINGS = 40 };

struct siblings {
    sley_event never;
    sley_waitgroup nobody;
    sley_chan *empty, *full;
    int pipe[2];
    _Atomic(int) waiting, cancelled, yields_refused;
};

static int wait_somehow(void *arg)
{
    struct siblings *s = ((void **)arg)[0];
    char byte;
    int how = (int)(intptr_t)((void **)arg)[1], rc;

    count_up(&s->waiting);
    switch (how % 8) {
    case 0: rc = sley_event_wait(&s->never, SLEY_FOREVER); break;
    case 1: rc = sley_chan_recv(s->empty, NULL, SLEY_FOREVER); break;
    case 2: rc = sley_chan_send(s->full, "x", SLEY_FOREVER); break;
    case 3: rc = sley_sleep(SLEY_FOREVER); break;
    case 4: rc = sley_sleep(3600 * SLEY_S); break;
    case 5: rc = sley_waitgroup_wait(&s->nobody, sley_after(3600 * SLEY_S)); break;
    case 6: rc = sley_read(s->pipe[0], &byte, 1, SLEY_FOREVER); break;
    default: rc = sley_fd_wait(s->pipe[0], POLLIN, sley_after(3600 * SLEY_S)); break;
    }
    if (rc == -ECANCELED)
        count_up(&s->cancelled);
    if (sley_yield() == -ECANCELED)
        count_up(&s->yields_refused);
    return rc;
}

static void siblings_init(struct siblings *s)
{
    memset(s, 0, sizeof *s);
    s->empty = sley_chan_create(1, 0);
    s->full = sley_chan_create(1, 0);
    assert_non_null(s->empty);
    assert_non_null(s->full);
    sley_waitgroup_add(&s->nobody, 1);
    assert_int_equal(pipe(s->pipe), 0);
}

static void siblings_fini(struct siblings *s)
{
    sley_chan_destroy(s->empty);
    sley_chan_destroy(s->full);
    close(s->pipe[0]);
    close(s->pipe[1]);
}

static int start_siblings(void *arg)
{
    for (int i = 0; i < SIBLINGS; i++) {
        void *pair[2] = { arg, number(i) };
        int rc = sley_go_copy(wait_somehow, pair, sizeof pair);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static int start_siblings_and_fail(void *arg)
{
    struct siblings *s = arg;
    sley_stats stats = { 0 };
    int rc = start_siblings(arg);

    while (rc == 0 && (sl_load_acquire(&s->waiting) < SIBLINGS || stats.fibers_parked_now < SIBLINGS)) { /* all are where they wait */
        rc = sley_yield();
        if (rc == 0)
            rc = sley_stats_read(NULL, &stats, sizeof stats);
    }
    return rc < 0 ? rc : -EBADMSG;
}

static void an_error_ends_the_waits_of_the_siblings(void **state)
{
    struct siblings s;

    (void)state;
    siblings_init(&s);
    assert_int_equal(sley_run(NULL, start_siblings_and_fail, &s), -EBADMSG);
    assert_int_equal(s.cancelled, SIBLINGS);
    assert_int_equal(s.yields_refused, SIBLINGS);
    siblings_fini(&s);
}

static int add_up(void *arg)
{
    for (int i = 0; i < 10; i++)
        sley_yield();
    count_up(arg);
    return 0;
}

static int start_generations(void *arg) /* a tree of fibers: those that start children end before them */
{
    struct { _Atomic(int) *n; int left; } *me = arg, child = { me->n, me->left - 1 };

    if (me->left > 0) {
        sley_go_copy(start_generations, &child, sizeof child);
        sley_go_copy(start_generations, &child, sizeof child);
    }
    sley_go(add_up, me->n);
    return 0;
}

static void run_waits_for_all_children_and_theirs(void **state)
{
    _Atomic(int) n = 0;
    struct { _Atomic(int) *n; int left; } first = { &n, 9 };

    (void)state;
    assert_int_equal(sley_run(NULL, start_generations, &first), 0);
    assert_int_equal(n, 1023);
}

static int spawn_although_cancelled(void *arg)
{
    int rc = sley_event_wait(arg, SLEY_FOREVER), started;
    _Atomic(int) *ran = ((void **)arg)[8];

    started = sley_go(add_up, ran);
    return started < 0 ? started : rc;
}

static int fail_beside_a_spawner(void *arg)
{
    sley_go(spawn_although_cancelled, arg);
    return -EIO;
}

static void a_fiber_started_after_the_cancel_still_runs(void **state)
{
    _Atomic(int) ran = 0;
    void *memory[9] = { 0 }; /* an event, and what is counted */

    (void)state;
    _Static_assert(sizeof(sley_event) <= 8 * sizeof(void *), "the event fits");
    memory[8] = (void *)&ran;
    assert_int_equal(sley_run(NULL, fail_beside_a_spawner, memory), -EIO);
    assert_int_equal(ran, 1);
}

static int run_within(void *arg)
{
    int *rc = arg;
    sley_runtime *mine = sley_runtime_current();

    rc[0] = sley_run(NULL, return_argument, number(1));
    rc[1] = sley_runtime_stop(mine, SLEY_NOW);
    rc[2] = sley_runtime_attach(mine);
    sley_runtime_detach(); /* not attached: nothing */
    rc[3] = sley_runtime_current() == mine;
    rc[4] = sley_self() != 0;
    return 0;
}

static void what_would_block_a_worker_is_refused_on_a_fiber(void **state)
{
    int rc[5];

    (void)state;
    assert_int_equal(sley_run(NULL, run_within, rc), 0);
    assert_int_equal(rc[0], -EDEADLK);
    assert_int_equal(rc[1], -EDEADLK);
    assert_int_equal(rc[2], -EINVAL);
    assert_true(rc[3]);
    assert_true(rc[4]);
}

static void *run_on_a_thread(void *arg)
{
    int *rc = arg;

    for (int i = 0; i < 10 && *rc == 0; i++) {
        _Atomic(int) n = 0;
        struct { _Atomic(int) *n; int left; } first = { &n, 5 };

        *rc = sley_run(NULL, start_generations, &first);
        if (*rc == 0 && n != 63)
            *rc = -EBADMSG;
    }
    return NULL;
}

static void two_threads_run_at_once(void **state)
{
    pthread_t thread[2];
    int rc[2] = { 0, 0 };

    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, run_on_a_thread, &rc[i]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(rc[0], 0);
    assert_int_equal(rc[1], 0);
}

static void two_hundred_runs_leave_nothing_behind(void **state)
{
    unsigned descriptors, threads;
    struct siblings s;

    (void)state;
    assert_int_equal(sley_run(NULL, return_argument, number(0)), 0); /* what stays for the process is there now */
    descriptors = entries_of("/proc/self/fd");
    threads = entries_of("/proc/self/task");
    siblings_init(&s);
    for (int i = 0; i < 200; i++) {
        s.waiting = s.cancelled = 0;
        assert_int_equal(sley_run(NULL, start_siblings_and_fail, &s), -EBADMSG);
        assert_int_equal(s.cancelled, SIBLINGS);
        while (entries_of("/proc/self/task") > threads) /* a thread that has been joined may be seen there a little longer */
            sched_yield();
    }
    siblings_fini(&s);
    assert_int_equal(entries_of("/proc/self/fd"), descriptors);
}

/* ---- create, start, submit, stop, destroy ---- */

static sley_runtime *created(const sley_options *options)
{
    sley_runtime *rt;

    assert_int_equal(sley_runtime_create(&rt, options), 0);
    return rt;
}

static sley_runtime *started(void)
{
    sley_runtime *rt = created(NULL);

    assert_int_equal(sley_runtime_start(rt), 0);
    return rt;
}

static void null_is_refused(void **state)
{
    (void)state;
    assert_int_equal(sley_runtime_create(NULL, NULL), -EINVAL);
    assert_int_equal(sley_runtime_start(NULL), -EINVAL);
    assert_int_equal(sley_runtime_submit(NULL, return_argument, NULL), -EINVAL);
    assert_int_equal(sley_runtime_stop(NULL, SLEY_NOW), -EINVAL);
    assert_int_equal(sley_runtime_attach(NULL), -EINVAL);
    sley_runtime_destroy(NULL);
    assert_null(sley_runtime_current());
}

static void a_runtime_that_never_started_can_go(void **state)
{
    sley_runtime *rt = created(NULL);

    (void)state;
    sley_runtime_destroy(rt);
    rt = created(NULL);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    sley_runtime_destroy(rt);
}

static void start_twice_is_refused(void **state)
{
    sley_runtime *rt = started();

    (void)state;
    assert_int_equal(sley_runtime_start(rt), -EALREADY);
    assert_int_equal(sley_runtime_submit(rt, NULL, NULL), -EINVAL);
    assert_int_equal(sley_runtime_stop(rt, -5), -EINVAL);
    assert_int_equal(sley_runtime_stop(rt, 5 * SLEY_MS), -EINVAL); /* a length of time */
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0);
    assert_int_equal(sley_runtime_start(rt), -EALREADY);
    sley_runtime_destroy(rt);
}

static void what_was_submitted_before_the_start_runs(void **state)
{
    static const struct { int start, stop; } ways[] = { { 1, 1 }, { 1, 0 }, { 0, 1 }, { 0, 0 } };

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        _Atomic(int) n = 0;
        sley_runtime *rt = created(NULL);

        for (int j = 0; j < 1000; j++)
            assert_int_equal(sley_runtime_submit(rt, add_up, (void *)&n), 0);
        assert_int_equal(n, 0);
        if (ways[i].start)
            assert_int_equal(sley_runtime_start(rt), 0);
        if (ways[i].stop)
            assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
        sley_runtime_destroy(rt);
        assert_int_equal(n, 1000);
    }
}

static void submit_after_the_stop_is_refused(void **state)
{
    _Atomic(int) n = 0;
    sley_runtime *rt = started();

    (void)state;
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0);
    assert_int_equal(sley_runtime_submit(rt, add_up, (void *)&n), -ECANCELED);
    sley_runtime_destroy(rt);
    rt = created(NULL);
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0); /* never started */
    assert_int_equal(sley_runtime_submit(rt, add_up, (void *)&n), -ECANCELED);
    sley_runtime_destroy(rt);
    assert_int_equal(n, 0);
}

struct gate {
    sley_event open;
    _Atomic(int) inside, left;
    int result;
};

static int pass_the_gate(void *arg)
{
    struct gate *g = arg;
    int rc;

    count_up(&g->inside);
    rc = sley_event_wait(&g->open, SLEY_FOREVER);
    if (rc < 0)
        g->result = rc;
    count_up(&g->left);
    return rc;
}

static int open_later(void *arg)
{
    int rc = sley_sleep(20 * SLEY_MS);

    sley_event_set(&((struct gate *)arg)->open);
    return rc;
}

static void stop_lets_fibers_finish_until_the_deadline(void **state)
{
    const sley_time deadlines[] = { SLEY_FOREVER, sley_after(3600 * SLEY_S) };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct gate g = { .result = 0 };
        sley_runtime *rt = started();

        for (int j = 0; j < 10; j++)
            assert_int_equal(sley_runtime_submit(rt, pass_the_gate, &g), 0);
        assert_int_equal(sley_runtime_submit(rt, open_later, &g), 0);
        assert_int_equal(sley_runtime_stop(rt, deadlines[i]), 0);
        assert_int_equal(g.left, 10);
        assert_int_equal(g.result, 0);
        sley_runtime_destroy(rt);
    }
}

/* Every way of waiting ends: with a deadline that has passed, with one that passes, and by destroy alone. */
static void stop_cancels_whatever_waits(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        sley_runtime *rt = started();
        struct siblings s;

        siblings_init(&s);
        assert_int_equal(sley_runtime_submit(rt, start_siblings, &s), 0);
        wait_for(&s.waiting, SIBLINGS);
        if (way < 2) {
            sley_time begun = sley_now(), wait_ns = way == 0 ? 0 : 10 * SLEY_MS;

            assert_int_equal(sley_runtime_stop(rt, way == 0 ? SLEY_NOW : sley_after(wait_ns)), 0);
            assert_true(sley_now() - begun >= wait_ns);
        }
        sley_runtime_destroy(rt);
        assert_int_equal(s.cancelled, SIBLINGS);
        assert_int_equal(s.yields_refused, SIBLINGS);
        siblings_fini(&s);
    }
}

struct stubborn {
    _Atomic(int) inside, may_end, cancels;
};

static int ignore_the_cancel(void *arg)
{
    struct stubborn *s = arg;

    count_up(&s->inside);
    while (!sl_load_acquire(&s->may_end))
        if (sley_yield() == -ECANCELED) {
            count_up(&s->cancels);
            sched_yield(); /* the refused yield does not leave the worker */
        }
    return 0;
}

static int quiet_stderr(void) /* what a stop that fails says is not of interest here */
{
    int saved = dup(STDERR_FILENO);

    fflush(stderr);
    assert_non_null(freopen("/dev/null", "w", stderr));
    return saved;
}

static void loud_stderr(int saved)
{
    fflush(stderr);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
}

static void a_fiber_that_ignores_the_cancel_makes_stop_busy(void **state)
{
    struct stubborn s = { 0 };
    sley_runtime *rt = created(&(sley_options){ .drain_ns = 5 * SLEY_MS });
    sley_time begun;
    int saved;

    (void)state;
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_submit(rt, ignore_the_cancel, &s), 0);
    wait_for(&s.inside, 1);
    saved = quiet_stderr();
    for (int i = 0; i < 3; i++) {
        begun = sley_now();
        if (sley_runtime_stop(rt, SLEY_NOW) != -EBUSY || sley_now() - begun < 5 * SLEY_MS)
            break;
    }
    loud_stderr(saved);
    wait_for(&s.cancels, 1);
    assert_true(sley_now() - begun >= 5 * SLEY_MS);
    assert_int_equal(sley_runtime_start(rt), -EALREADY);
    sl_store_release(&s.may_end, 1);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    sley_runtime_destroy(rt);
}

static void *destroy_on_a_thread(void *rt)
{
    sley_runtime_destroy(rt);
    return NULL;
}

static void destroy_waits_for_a_fiber_that_ignores_the_cancel(void **state)
{
    struct stubborn s = { 0 };
    sley_runtime *rt = created(&(sley_options){ .drain_ns = 1 * SLEY_MS });
    pthread_t thread;
    int saved;

    (void)state;
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_submit(rt, ignore_the_cancel, &s), 0);
    wait_for(&s.inside, 1);
    saved = quiet_stderr();
    assert_int_equal(pthread_create(&thread, NULL, destroy_on_a_thread, rt), 0);
    wait_for(&s.cancels, 1);
    sl_store_release(&s.may_end, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    loud_stderr(saved);
}

static void *stop_on_a_thread(void *arg)
{
    void **pair = arg;

    pair[1] = number(sley_runtime_stop(pair[0], SLEY_NOW));
    return NULL;
}

static void several_threads_may_stop_it(void **state)
{
    sley_runtime *rt = started();
    struct siblings s;
    pthread_t thread[4];
    void *pair[4][2];

    (void)state;
    siblings_init(&s);
    assert_int_equal(sley_runtime_submit(rt, start_siblings, &s), 0);
    wait_for(&s.waiting, SIBLINGS);
    for (int i = 0; i < 4; i++) {
        pair[i][0] = rt;
        assert_int_equal(pthread_create(&thread[i], NULL, stop_on_a_thread, pair[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_ptr_equal(pair[i][1], NULL);
    }
    assert_int_equal(s.cancelled, SIBLINGS);
    sley_runtime_destroy(rt);
    siblings_fini(&s);
}

struct submitter {
    sley_runtime *rt;
    _Atomic(int) *n;
    int accepted;
};

static void *submit_many(void *arg)
{
    struct submitter *s = arg;

    for (int i = 0; i < 5000; i++)
        s->accepted += sley_runtime_submit(s->rt, add_up, (void *)s->n) == 0;
    return NULL;
}

static void threads_submit_at_once(void **state)
{
    _Atomic(int) n = 0;
    sley_runtime *rt = started();
    struct submitter s[4];
    pthread_t thread[4];
    int accepted = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        s[i] = (struct submitter){ rt, &n, 0 };
        assert_int_equal(pthread_create(&thread[i], NULL, submit_many, &s[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        accepted += s[i].accepted;
    }
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(accepted, 20000);
    assert_int_equal(n, accepted);
    sley_runtime_destroy(rt);
}

/* ---- two runtimes, one channel ---- */

struct flow {
    sley_chan *ch;
    uint64_t sum;
    int rc;
};

static int send_numbers(void *arg)
{
    struct flow *f = arg;

    for (uint64_t i = 1; i <= 20000 && f->rc == 0; i++)
        f->rc = sley_chan_send(f->ch, &i, SLEY_FOREVER);
    sley_chan_close(f->ch);
    return f->rc;
}

static int receive_numbers(void *arg)
{
    struct flow *f = arg;
    uint64_t i;

    while ((f->rc = sley_chan_recv(f->ch, &i, SLEY_FOREVER)) > 0)
        f->sum += i;
    return f->rc;
}

static void two_runtimes_share_a_channel(void **state)
{
    (void)state;
    for (size_t capacity = 0; capacity <= 16; capacity += 16) {
        sley_runtime *a = started(), *b = started();
        sley_chan *ch = sley_chan_create(sizeof(uint64_t), capacity);
        struct flow in = { ch, 0, 0 }, out = { ch, 0, 0 };

        assert_non_null(ch);
        assert_int_equal(sley_runtime_submit(a, send_numbers, &in), 0);
        assert_int_equal(sley_runtime_submit(b, receive_numbers, &out), 0);
        assert_int_equal(sley_runtime_stop(a, SLEY_FOREVER), 0);
        assert_int_equal(sley_runtime_stop(b, SLEY_FOREVER), 0);
        sley_runtime_destroy(a);
        sley_runtime_destroy(b);
        sley_chan_destroy(ch);
        assert_int_equal(in.rc, 0);
        assert_int_equal(out.rc, 0);
        assert_int_equal(out.sum, UINT64_C(20000) * 20001 / 2);
    }
}

static void stopping_one_runtime_leaves_the_other_alone(void **state)
{
    sley_runtime *a = started(), *b = started();
    struct gate in_a = { .result = 0 }, in_b = { .result = 0 };

    (void)state;
    assert_int_equal(sley_runtime_submit(a, pass_the_gate, &in_a), 0);
    assert_int_equal(sley_runtime_submit(b, pass_the_gate, &in_b), 0);
    wait_for(&in_a.inside, 1);
    wait_for(&in_b.inside, 1);
    sley_runtime_destroy(a);
    assert_int_equal(in_a.result, -ECANCELED);
    assert_int_equal(in_b.left, 0);
    sley_event_set(&in_b.open);
    assert_int_equal(sley_runtime_stop(b, SLEY_FOREVER), 0);
    assert_int_equal(in_b.left, 1);
    assert_int_equal(in_b.result, 0);
    sley_runtime_destroy(b);
}

/* ---- attached threads ---- */

static void go_on_a_thread_that_is_not_attached_is_refused(void **state)
{
    char byte = 0;

    (void)state;
    assert_int_equal(sley_go(return_argument, NULL), -EPERM);
    assert_int_equal(sley_go_copy(return_argument, &byte, 1), -EPERM);
    assert_int_equal(sley_go(NULL, NULL), -EINVAL);
    assert_int_equal(sley_self(), 0);
    assert_null(sley_runtime_current());
}

static void an_attached_thread_starts_fibers(void **state)
{
    _Atomic(int) n = 0;
    sley_runtime *rt = started();
    struct { _Atomic(int) *n; int left; } tree = { &n, 3 };

    (void)state;
    assert_int_equal(sley_runtime_attach(rt), 0);
    assert_int_equal(sley_runtime_attach(rt), -EALREADY);
    assert_ptr_equal(sley_runtime_current(), rt);
    assert_int_equal(sley_self(), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(sley_go(add_up, (void *)&n), 0);
    assert_int_equal(sley_go_copy(start_generations, &tree, sizeof tree), 0);
    sley_runtime_detach();
    assert_null(sley_runtime_current());
    assert_int_equal(sley_go(add_up, (void *)&n), -EPERM);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(n, 115);
    sley_runtime_destroy(rt);
}

static void go_after_the_stop_is_refused(void **state)
{
    _Atomic(int) n = 0;
    sley_runtime *rt = started();

    (void)state;
    assert_int_equal(sley_runtime_attach(rt), 0);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(sley_go(add_up, (void *)&n), -ECANCELED); /* one that was started would have to run */
    sley_runtime_detach();
    sley_runtime_destroy(rt);
    assert_int_equal(n, 0);
}

struct attached {
    sley_runtime *rt;
    struct gate gate;
    int result;
};

static void *wait_attached(void *arg)
{
    struct attached *a = arg;

    a->result = sley_runtime_attach(a->rt);
    if (a->result == 0)
        a->result = pass_the_gate(&a->gate);
    if (a->result == -ECANCELED)
        a->result = sley_sleep(SLEY_FOREVER); /* every wait from now on */
    sley_runtime_detach();
    return NULL;
}

/* With no fiber there, after fibers have ended by themselves, and with one that must be cancelled too; started or not. */
static void stop_ends_the_waits_of_attached_threads(void **state)
{
    static const struct { int start, fibers; sley_time deadline; } ways[] = {
        { 1, 0, SLEY_NOW }, { 1, 0, SLEY_FOREVER }, { 1, 5, SLEY_NOW }, { 1, 5, SLEY_FOREVER }, { 0, 0, SLEY_NOW }, { 0, 5, SLEY_FOREVER },
    };

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct attached a = { .rt = created(NULL) };
        _Atomic(int) n = 0;
        pthread_t thread;

        if (ways[i].start)
            assert_int_equal(sley_runtime_start(a.rt), 0);
        assert_int_equal(pthread_create(&thread, NULL, wait_attached, &a), 0);
        wait_for(&a.gate.inside, 1);
        for (int j = 0; j < ways[i].fibers; j++)
            assert_int_equal(sley_runtime_submit(a.rt, add_up, (void *)&n), 0);
        assert_int_equal(sley_runtime_stop(a.rt, ways[i].deadline), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(a.result, -ECANCELED);
        assert_int_equal(n, ways[i].fibers);
        sley_runtime_destroy(a.rt);
    }
}

/* ---- hooks ---- */

struct hooks {
    _Atomic(int) errors, lines;
    uint64_t fiber, failed_fiber;
    char name[32], line[256];
    int error;
};

static void note_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    struct hooks *h = ctx;

    h->fiber = fiber;
    snprintf(h->name, sizeof h->name, "%s", name);
    h->error = error;
    sley_yield(); /* it runs on the fiber, and may wait */
    count_up(&h->errors);
}

static void note_line(void *ctx, const char *line)
{
    struct hooks *h = ctx;

    snprintf(h->line, sizeof h->line, "%s", line);
    count_up(&h->lines);
}

static int fail_by_name(void *arg)
{
    struct hooks *h = arg;

    sley_fiber_set_name("unlucky");
    h->failed_fiber = sley_self();
    return -ENOTTY;
}

static void an_error_nobody_waits_for_goes_to_the_hook_and_stops_nobody(void **state)
{
    struct hooks h = { 0 };
    struct gate g = { .result = 0 };
    sley_options options = { .on_error = note_error, .on_log = note_line, .ctx = &h };
    sley_runtime *rt = created(&options);
    sley_stats stats;

    (void)state;
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(h.lines, 1);
    assert_non_null(strstr(h.line, "workers"));
    assert_non_null(strstr(h.line, sley_runtime_backend(rt)));
    assert_int_equal(sley_runtime_submit(rt, pass_the_gate, &g), 0);
    assert_int_equal(sley_runtime_submit(rt, fail_by_name, &h), 0);
    wait_for(&h.errors, 1);
    assert_int_equal(h.error, -ENOTTY);
    assert_string_equal(h.name, "unlucky");
    assert_true(h.fiber != 0 && h.fiber == h.failed_fiber);
    assert_int_equal(g.left, 0);
    sley_event_set(&g.open);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(g.result, 0);
    assert_int_equal(sley_stats_read(rt, &stats, sizeof stats), 0);
    assert_int_equal(stats.fibers_failed, 1);
    assert_int_equal(h.errors, 1);
    sley_runtime_destroy(rt);
}

static void without_a_hook_an_error_is_counted(void **state)
{
    struct gate g = { .result = 0 };
    sley_runtime *rt = started();
    sley_stats stats;

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(sley_runtime_submit(rt, return_argument, number(-EIO)), 0);
    assert_int_equal(sley_runtime_submit(rt, pass_the_gate, &g), 0);
    do
        assert_int_equal(sley_stats_read(rt, &stats, sizeof stats), 0);
    while (stats.fibers_failed < 10);
    sley_event_set(&g.open);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(g.result, 0);
    sley_runtime_destroy(rt);
}

/* ---- a small stack, signals ---- */

static void *embed(void *arg)
{
    sley_runtime *rt;
    sley_stats stats;
    int fd = -1, rc = sley_runtime_create(&rt, NULL);

    if (rc == 0) {
        rc = sley_runtime_start(rt);
        if (rc == 0)
            rc = sley_runtime_attach(rt);
        for (int i = 0; i < 100 && rc == 0; i++)
            rc = sley_go(add_up, arg);
        if (rc == 0)
            rc = sley_stats_read(rt, &stats, sizeof stats);
        if (rc == 0 && (fd = open("/dev/null", O_WRONLY)) >= 0)
            rc = sley_dump(rt, fd);
        close(fd);
        if (rc == 0)
            rc = sley_runtime_stop(rt, SLEY_FOREVER);
        sley_runtime_detach();
        sley_runtime_destroy(rt);
    }
    if (rc == 0)
        rc = sley_run(NULL, add_up, arg);
    return number(rc);
}

static void the_embedding_calls_need_little_stack(void **state)
{
    _Atomic(int) n = 0;
    size_t least = 0;
    pthread_attr_t attr;
    pthread_t thread;
    void *rc;

    (void)state;
    (void)least;
    pthread_attr_init(&attr);
#if !defined(SL_ASAN) && !defined(SL_TSAN) /* sanitizers need more of it */
    least = (size_t)sysconf(_SC_THREAD_STACK_MIN); /* 128 KiB on aarch64 */
    assert_int_equal(pthread_attr_setstacksize(&attr, least > 32 << 10 ? least : 32 << 10), 0);
#endif
    assert_int_equal(pthread_create(&thread, &attr, embed, (void *)&n), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    pthread_attr_destroy(&attr);
    assert_ptr_equal(rc, NULL);
    assert_int_equal(n, 101);
}

#ifndef SL_TSAN
static _Atomic(int) signals_at_main, signals_elsewhere;
static pthread_t main_thread;

static void on_signal(int signal_number)
{
    (void)signal_number;
    sl_add_acq_rel(pthread_equal(pthread_self(), main_thread) ? &signals_at_main : &signals_elsewhere, 1);
}

static int sleep_in_the_storm(void *arg)
{
    int *early = arg;

    for (int i = 0; i < 20; i++) {
        sley_time when = sley_after(5 * SLEY_MS);
        int rc = sley_sleep_until(when);

        if (rc < 0)
            return rc;
        *early += sley_now() < when;
    }
    return 0;
}

static int storm(void *arg)
{
    int rc = 0;

    for (int i = 0; i < 10 && rc == 0; i++)
        rc = sley_go(sleep_in_the_storm, (int *)arg + i);
    return rc;
}

static void a_storm_of_signals_disturbs_nothing(void **state)
{
    struct sigaction action = { .sa_handler = on_signal }, before; /* no SA_RESTART: every call of the main thread is interrupted */
    const struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
    int early[10] = { 0 };
    sley_runtime *rt;
    struct gate g = { .result = 0 };

    (void)state;
    main_thread = pthread_self();
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    assert_int_equal(sley_run(NULL, storm, early), 0);
    rt = started();
    assert_int_equal(sley_runtime_submit(rt, pass_the_gate, &g), 0);
    wait_for(&g.inside, 1);
    {
        sley_time when = sley_after(20 * SLEY_MS);

        assert_int_equal(sley_event_wait(&g.open, when), -ETIMEDOUT); /* a plain thread's wait */
        assert_true(sley_now() >= when);
        when = sley_after(20 * SLEY_MS);
        assert_int_equal(sley_sleep_until(when), 0);
        assert_true(sley_now() >= when);
        when = sley_after(20 * SLEY_MS);
        assert_int_equal(sley_runtime_stop(rt, when), 0);
        assert_true(sley_now() >= when);
    }
    sley_runtime_destroy(rt);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    assert_true(signals_at_main > 0);
    assert_int_equal(signals_elsewhere, 0);
    assert_int_equal(g.result, -ECANCELED);
    for (int i = 0; i < 10; i++)
        assert_int_equal(early[i], 0);
}
#endif

/* ---- sleeping ---- */

enum { SLEEPERS = 64 };

struct sleepers {
    sley_time base, woke[SLEEPERS];
    int seen[SLEEPERS];
    _Atomic(int) place, late;
};

static int sleep_in_turn(void *arg)
{
    struct sleepers *s = ((void **)arg)[0];
    int i = (int)(intptr_t)((void **)arg)[1], rc;

    if (sley_now() >= s->base)
        count_up(&s->late);
    rc = sley_sleep_until(s->base + i * SLEY_MS);
    s->woke[i] = sley_now();
    s->seen[sl_add_acq_rel(&s->place, 1)] = i;
    return rc;
}

static int start_sleepers(void *arg)
{
    struct sleepers *s = arg;

    s->base = sley_after(200 * SLEY_MS);
    for (int i = 0; i < SLEEPERS; i++) {
        void *pair[2] = { arg, number((i * 37 + 11) % SLEEPERS) };
        int rc = sley_go_copy(sleep_in_turn, pair, sizeof pair);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static void sleepers_wake_in_the_order_of_their_deadlines(void **state)
{
    struct sleepers s = { 0 };

    (void)state;
    assert_int_equal(sley_run(&(sley_options){ .workers = 1 }, start_sleepers, &s), 0);
    if (s.late > 0)
        skip(); /* some lay down after others had woken: a very busy machine */
    for (int i = 0; i < SLEEPERS; i++) {
        assert_int_equal(s.seen[i], i);
        assert_true(s.woke[i] >= s.base + i * SLEY_MS);
    }
}

static int no_sleep(void *arg)
{
    int *rc = arg;

    rc[0] = sley_sleep(0);
    rc[1] = sley_sleep(-1);
    rc[2] = sley_sleep(INT64_MIN);
    rc[3] = sley_sleep(1);
    rc[4] = sley_sleep_until(SLEY_NOW);
    rc[5] = sley_sleep_until(sley_now() - 1);
    rc[6] = sley_sleep_until(5 * SLEY_S); /* a length of time */
    rc[7] = sley_sleep_until(-5);
    rc[8] = sley_sleep_until(INT64_MIN);
    return 0;
}

static void sleeping_no_time_returns_at_once_and_a_length_is_no_point(void **state)
{
    static const int want[] = { 0, 0, 0, 0, 0, 0, -EINVAL, -EINVAL, -EINVAL };
    int on_fiber[9], on_thread[9];

    (void)state;
    if (sley_now() < 10 * SLEY_S)
        skip(); /* the machine has just been started: 5 s may be a point in time */
    assert_int_equal(sley_run(NULL, no_sleep, on_fiber), 0);
    no_sleep(on_thread);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(on_fiber[i], want[i]);
        assert_int_equal(on_thread[i], want[i]);
    }
}

static int sleep_cancelled(void *arg)
{
    int *rc = arg;

    rc[0] = sley_sleep(SLEY_FOREVER);
    rc[1] = sley_sleep(SLEY_MS); /* at once */
    rc[2] = sley_sleep(0);
    rc[3] = sley_sleep_until(SLEY_NOW);
    rc[4] = sley_sleep_until(SLEY_FOREVER);
    return rc[0];
}

static int fail_beside_a_sleeper(void *arg)
{
    sley_go(sleep_cancelled, arg);
    sley_sleep(SLEY_MS);
    return -EIO;
}

static void a_cancelled_sleeper_sleeps_no_more(void **state)
{
    int rc[5] = { 0 };

    (void)state;
    assert_int_equal(sley_run(NULL, fail_beside_a_sleeper, rc), -EIO);
    for (int i = 0; i < 5; i++)
        assert_int_equal(rc[i], -ECANCELED);
}

static void after_stops_at_forever(void **state)
{
    sley_time now = sley_now();

    (void)state;
    assert_true(sley_after(SLEY_FOREVER) == SLEY_FOREVER);
    assert_true(sley_after(SLEY_FOREVER - 1) == SLEY_FOREVER);
    assert_true(sley_after(0) >= now && sley_after(-1) >= now && sley_after(INT64_MIN) >= now);
    assert_true(sley_after(SLEY_S) >= now + SLEY_S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_returns_what_the_function_returned),
        cmocka_unit_test(run_returns_the_error_of_a_child_before_its_own_result),
        cmocka_unit_test(the_first_error_is_the_one_that_counts),
        cmocka_unit_test(an_error_ends_the_waits_of_the_siblings),
        cmocka_unit_test(run_waits_for_all_children_and_theirs),
        cmocka_unit_test(a_fiber_started_after_the_cancel_still_runs),
        cmocka_unit_test(what_would_block_a_worker_is_refused_on_a_fiber),
        cmocka_unit_test(two_threads_run_at_once),
        cmocka_unit_test(two_hundred_runs_leave_nothing_behind),
        cmocka_unit_test(null_is_refused),
        cmocka_unit_test(a_runtime_that_never_started_can_go),
        cmocka_unit_test(start_twice_is_refused),
        cmocka_unit_test(what_was_submitted_before_the_start_runs),
        cmocka_unit_test(submit_after_the_stop_is_refused),
        cmocka_unit_test(stop_lets_fibers_finish_until_the_deadline),
        cmocka_unit_test(stop_cancels_whatever_waits),
        cmocka_unit_test(a_fiber_that_ignores_the_cancel_makes_stop_busy),
        cmocka_unit_test(destroy_waits_for_a_fiber_that_ignores_the_cancel),
        cmocka_unit_test(several_threads_may_stop_it),
        cmocka_unit_test(threads_submit_at_once),
        cmocka_unit_test(two_runtimes_share_a_channel),
        cmocka_unit_test(stopping_one_runtime_leaves_the_other_alone),
        cmocka_unit_test(go_on_a_thread_that_is_not_attached_is_refused),
        cmocka_unit_test(an_attached_thread_starts_fibers),
        cmocka_unit_test(go_after_the_stop_is_refused),
        cmocka_unit_test(stop_ends_the_waits_of_attached_threads),
        cmocka_unit_test(an_error_nobody_waits_for_goes_to_the_hook_and_stops_nobody),
        cmocka_unit_test(without_a_hook_an_error_is_counted),
        cmocka_unit_test(the_embedding_calls_need_little_stack),
#ifndef SL_TSAN /* whose own handler takes locks that the code it interrupts may hold */
        cmocka_unit_test(a_storm_of_signals_disturbs_nothing),
#endif
        cmocka_unit_test(sleepers_wake_in_the_order_of_their_deadlines),
        cmocka_unit_test(sleeping_no_time_returns_at_once_and_a_length_is_no_point),
        cmocka_unit_test(a_cancelled_sleeper_sleeps_no_more),
        cmocka_unit_test(after_stops_at_forever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
