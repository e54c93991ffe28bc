/* test_blocking.c - calls that block: on a thread of the pool, while fibers go on; the pool's bound, growth and end; what deadline and
 * cancel do before a call has begun, and do not after; threads that are not to be had. */
#include "scenario.h"

#include <dirent.h>
#include <sys/syscall.h>

#include "sched/worker.h"

/* ---- threads that are not to be had ---- */

static struct {
    _Atomic(int) fail;
    _Atomic(int) park_first; /* the fiber gives way before its thread fails to be made */
} making;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    if (!sl_load_relaxed(&making.fail))
        return __real_pthread_create(thread, attr, fn, arg);
    while (sl_load_relaxed(&making.park_first))
        sley_yield();
    return EAGAIN;
}

/* ---- running one ---- */

static int run_with(const sley_options *options, sley_fn *fn, void *arg)
{
    int rc;

    scene.cast = casts[0];
    scene.unmet = NULL;
    rc = sley_run(options, fn, arg);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    return rc;
}

static struct sl_blocking *pool(void)
{
    return &sley_runtime_current()->blocking;
}

static uint32_t threads_now(void)
{
    return sl_load_relaxed(&pool()->threads);
}

static long thread_number(void)
{
    return syscall(SYS_gettid);
}

/* A call that has begun, and ends when it is told to. */
struct held {
    _Atomic(int) begun;
    sley_event go_on;
    int result;
    struct actor actor;
    sley_time deadline;
};

static int hold(void *arg) /* on a pool thread */
{
    struct held *h = arg;

    sl_store_release(&h->begun, 1);
    EXPECT(sley_event_wait(&h->go_on, SLEY_FOREVER) == 0);
    return h->result;
}

static int call_hold(void *arg)
{
    struct held *h = arg;

    return sley_blocking(hold, h, h->deadline);
}

static void start_held(struct held *h, int result)
{
    *h = (struct held){ .result = result, .deadline = SLEY_FOREVER };
    actor_start_as(&h->actor, 0, call_hold, h);
}

static void wait_begun(struct held *h)
{
    while (!sl_load_acquire(&h->begun))
        give_way();
}

static int let_go(struct held *h)
{
    sley_event_set(&h->go_on);
    return actor_result(&h->actor);
}

static int count_call(void *arg)
{
    sl_add_acq_rel((_Atomic(int) *)arg, 1);
    return 0;
}

/* ---- where it runs ---- */

struct place {
    long thread;
    uint64_t self;
    sigset_t mask;
    char name[16];
    int rc_go, rc_inner;
    sley_runtime *rt;
};

static int look_around(void *arg)
{
    struct place *p = arg;

    p->thread = thread_number();
    p->self = sley_self();
    p->rt = sley_runtime_current();
    p->rc_go = sley_go(count_call, NULL);
    p->rc_inner = sley_sleep(SLEY_US); /* blocks the thread */
    pthread_sigmask(SIG_SETMASK, NULL, &p->mask);
    pthread_getname_np(pthread_self(), p->name, sizeof p->name);
    return 42;
}

static int where_it_runs(void *arg)
{
    struct place p;
    sigset_t mine;

    (void)arg;
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    EXPECT(sley_blocking(look_around, &p, SLEY_FOREVER) == 42);
    EXPECT(p.self == 0 && p.rt == NULL && p.rc_go == -EPERM && p.rc_inner == 0);
    EXPECT(p.thread != thread_number());
    EXPECT(strncmp(p.name, "test/b", 6) == 0);
    for (int i = 1; i < 32; i++)
        EXPECT(sigismember(&p.mask, i) == sigismember(&mine, i));
    EXPECT(sigismember(&p.mask, SIGTERM) == 1 && sigismember(&p.mask, SIGSEGV) == 0);
    return 0;
}

static void blocking_call_runs_on_a_plain_thread(void **state)
{
    sley_options o = { .name = "test" };

    (void)state;
    assert_int_equal(run_with(&o, where_it_runs, NULL), 0);
}

static int return_argument(void *arg)
{
    return (int)(intptr_t)arg;
}

static int results(void *arg)
{
    static const int values[] = { 0, 1, INT_MAX, -1, -EIO, -ECANCELED, INT_MIN };

    (void)arg;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        EXPECT(sley_blocking(return_argument, (void *)(intptr_t)values[i], SLEY_FOREVER) == values[i]);
    EXPECT(sley_blocking(return_argument, NULL, SLEY_NOW) == 0);
    EXPECT(sley_blocking(return_argument, NULL, sley_now()) == 0); /* it need not wait for a thread */
    EXPECT(sley_blocking(NULL, NULL, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_blocking(return_argument, NULL, 5 * SLEY_MS) == -EINVAL && sley_blocking(return_argument, NULL, -1) == -EINVAL);
    return 0;
}

static void blocking_call_returns_what_its_function_does(void **state)
{
    (void)state;
    assert_int_equal(run_with(NULL, results, NULL), 0);
}

static void blocking_call_on_a_plain_thread_is_a_call(void **state)
{
    struct place p;

    (void)state;
    assert_int_equal(sley_blocking(look_around, &p, SLEY_FOREVER), 42);
    assert_int_equal(p.thread, thread_number());
    assert_int_equal(sley_blocking(return_argument, (void *)7, SLEY_NOW), 7);
    assert_int_equal(sley_blocking(NULL, NULL, SLEY_NOW), -EINVAL);
    assert_int_equal(sley_blocking(return_argument, NULL, SLEY_MS), -EINVAL);
}

static int inner(void *arg)
{
    return sley_blocking(return_argument, arg, SLEY_FOREVER);
}

static int others_go_on(void *arg)
{
    struct held h;

    (void)arg;
    start_held(&h, 5);
    wait_begun(&h); /* this fiber runs, on the same worker if there is only one */
    actor_waits(&h.actor);
    EXPECT(sley_blocking(inner, (void *)9, SLEY_FOREVER) == 9);
    EXPECT(let_go(&h) == 5);
    return 0;
}

static void fibers_go_on_while_a_call_blocks(void **state)
{
    (void)state;
    assert_int_equal(run_with(NULL, others_go_on, NULL), 0);
}

/* ---- the bound ---- */

struct in_order {
    struct actor actor;
    _Atomic(int) *turn;
    int mine;
};

static int take_turn(void *arg)
{
    struct in_order *o = arg;

    o->mine = sl_add_acq_rel(o->turn, 1);
    return 0;
}

static int call_take_turn(void *arg)
{
    return sley_blocking(take_turn, arg, SLEY_FOREVER);
}

static int bounded(void *arg)
{
    enum { QUEUED = 6 };
    struct in_order o[QUEUED];
    _Atomic(int) turn = 0;
    struct held h[2];

    (void)arg;
    for (int i = 0; i < 2; i++) {
        start_held(&h[i], i);
        wait_begun(&h[i]);
    }
    for (int i = 0; i < QUEUED; i++) {
        o[i].turn = &turn;
        actor_start_as(&o[i].actor, 0, call_take_turn, &o[i]);
        actor_waits(&o[i].actor);
    }
    EXPECT(threads_now() == 2 && turn == 0);
    EXPECT(sley_blocking(count_call, &turn, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(let_go(&h[0]) == 0);
    for (int i = 0; i < QUEUED; i++) {
        EXPECT(actor_result(&o[i].actor) == 0);
        EXPECT(o[i].mine == i); /* the other thread is held: one after the other, in the order in which they came */
    }
    EXPECT(let_go(&h[1]) == 1 && threads_now() == 2);
    return 0;
}

static void pool_of_two_runs_two_at_once_and_the_rest_in_order(void **state)
{
    sley_options o = { .blocking_threads_max = 2 };

    (void)state;
    assert_int_equal(run_with(&o, bounded, NULL), 0);
}

static void pool_takes_its_bound_from_the_variable(void **state)
{
    (void)state;
    setenv("SLEY_BLOCKING_THREADS", "2", 1);
    assert_int_equal(run_with(NULL, bounded, NULL), 0);
    unsetenv("SLEY_BLOCKING_THREADS");
}

static int grow_and_shrink(void *arg)
{
    enum { MANY = 12 };
    static struct held h[MANY];

    (void)arg;
    pool()->idle_ns = 0; /* a thread without a call leaves at once */
    for (int round = 0; round < 3; round++) {
        EXPECT(threads_now() == 0);
        for (int i = 0; i < MANY; i++) {
            start_held(&h[i], i);
            wait_begun(&h[i]);
            EXPECT(threads_now() == (uint32_t)i + 1);
        }
        for (int i = 0; i < MANY; i++)
            EXPECT(let_go(&h[i]) == i);
        while (threads_now() > 0)
            give_way();
    }
    return 0;
}

static void pool_grows_on_demand_and_shrinks_when_idle(void **state)
{
    (void)state;
    assert_int_equal(run_with(NULL, grow_and_shrink, NULL), 0);
}

static int reuse(void *arg)
{
    sley_stats stats;

    (void)arg;
    for (int i = 0; i < 100; i++)
        EXPECT(sley_blocking(return_argument, NULL, SLEY_FOREVER) == 0);
    EXPECT(threads_now() == 1); /* it is idle before its fiber goes on */
    EXPECT(sley_stats_read(NULL, &stats, sizeof stats) == 0);
    EXPECT(stats.blocking_calls == 100 && stats.blocking_threads_now == 1);
    return 0;
}

static void one_call_at_a_time_uses_one_thread(void **state)
{
    (void)state;
    assert_int_equal(run_with(NULL, reuse, NULL), 0);
}

static unsigned threads_of_process(void)
{
    DIR *d = opendir("/proc/self/task");
    unsigned n = 0;

    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static int leave_threads_idle(void *arg)
{
    static struct held h[5];

    (void)arg;
    for (int i = 0; i < 5; i++)
        start_held(&h[i], 0);
    for (int i = 0; i < 5; i++)
        wait_begun(&h[i]);
    for (int i = 0; i < 5; i++)
        EXPECT(let_go(&h[i]) == 0);
    return 0;
}

static void threads_of_the_pool_end_with_the_runtime(void **state)
{
    unsigned before = threads_of_process();

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(run_with(NULL, leave_threads_idle, NULL), 0);
    while (threads_of_process() > before) /* joined, but perhaps the kernel still lists it */
        sched_yield();
}

/* ---- deadline and cancel ---- */

struct queued {
    struct actor actor;
    _Atomic(int) ran;
    sley_time deadline;
};

static int call_count(void *arg)
{
    struct queued *q = arg;

    return sley_blocking(count_call, &q->ran, q->deadline);
}

static int deadlines(void *arg)
{
    struct queued q = { .ran = 0 };
    struct held h;
    sley_time at;

    (void)arg;
    start_held(&h, 3);
    wait_begun(&h);
    at = sley_after(SLEY_MS);
    EXPECT(sley_blocking(count_call, &q.ran, at) == -ETIMEDOUT && sley_now() >= at);
    EXPECT(sley_blocking(count_call, &q.ran, at) == -ETIMEDOUT); /* passed long ago */
    EXPECT(sley_blocking(count_call, &q.ran, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(let_go(&h) == 3);
    EXPECT(sley_blocking(return_argument, NULL, SLEY_FOREVER) == 0); /* after what stood in the queue, had it stayed there */
    EXPECT(q.ran == 0);

    h = (struct held){ .result = 4, .deadline = at = sley_after(SLEY_MS) };
    actor_start_as(&h.actor, 0, call_hold, &h);
    wait_begun(&h);
    while (sley_now() < at + SLEY_MS)
        give_way();
    EXPECT(!h.actor.done && let_go(&h) == 4); /* one that has begun runs to its end */
    return 0;
}

static void deadline_ends_the_wait_for_a_thread_and_no_more(void **state)
{
    sley_options o = { .blocking_threads_max = 1 };

    (void)state;
    assert_int_equal(run_with(&o, deadlines, NULL), 0);
}

static int result_under_shield(struct actor *a)
{
    int result;

    sley_shield_begin();
    result = actor_result(a);
    sley_shield_end();
    return result;
}

static int cancels(void *arg)
{
    struct queued q = { .ran = 0, .deadline = SLEY_FOREVER };
    struct held h, in_scope;
    sley_scope s;

    (void)arg;
    start_held(&h, 3); /* outside of s */
    wait_begun(&h);
    sley_scope_init(&s, SLEY_FOREVER);
    actor_start_as(&q.actor, 0, call_count, &q);
    actor_waits(&q.actor);
    sley_scope_cancel(&s);
    EXPECT(result_under_shield(&q.actor) == -ECANCELED);
    EXPECT(sley_blocking(count_call, &q.ran, SLEY_FOREVER) == -ECANCELED);
    sley_event_set(&h.go_on);
    EXPECT(result_under_shield(&h.actor) == 3);
    EXPECT(sley_blocking(count_call, &q.ran, SLEY_FOREVER) == -ECANCELED); /* also with a thread to be had */
    EXPECT(q.ran == 0);
    sley_shield_begin();
    EXPECT(sley_blocking(count_call, &q.ran, SLEY_FOREVER) == 0 && q.ran == 1);
    sley_shield_end();
    EXPECT(sley_scope_wait(&s, -ECANCELED, SLEY_FOREVER) == 0);

    sley_scope_init(&s, SLEY_FOREVER);
    start_held(&in_scope, 6);
    wait_begun(&in_scope);
    actor_waits(&in_scope.actor);
    sley_scope_cancel(&s);
    sley_shield_begin();
    for (int i = 0; i < 20; i++)
        EXPECT(sley_yield() == 0);
    sley_shield_end();
    EXPECT(!in_scope.actor.done);
    sley_event_set(&in_scope.go_on);
    EXPECT(result_under_shield(&in_scope.actor) == 6);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    return 0;
}

static void cancel_ends_the_wait_for_a_thread_and_no_more(void **state)
{
    sley_options o = { .blocking_threads_max = 1 };

    (void)state;
    assert_int_equal(run_with(&o, cancels, NULL), 0);
}

/* Whoever wins, thread, deadline or canceller: the call has run and says so, or it has not and says that. */
enum { RACERS = 24 };

struct racer {
    struct actor actor;
    uint64_t random;
    sley_scope *scope;
    int ran, said, lies;
};

static int mark(void *arg)
{
    struct racer *r = arg;

    r->ran++;
    for (volatile unsigned i = below(&r->random, 2000); i > 0; i--)
        ;
    return 0;
}

static int race_once(void *arg)
{
    struct racer *r = arg;
    int ran = r->ran, rc = sley_blocking(mark, r, sley_after((sley_time)below(&r->random, 200) * SLEY_US));

    r->said += rc == 0;
    r->lies += (rc == 0) != (r->ran == ran + 1) || (rc != 0 && (rc != -ETIMEDOUT && rc != -ECANCELED)) || (rc < 0 && r->ran != ran);
    return 0;
}

static int race(void *arg)
{
    struct racer *r = arg;

    for (int i = 0; i < 60; i++)
        race_once(r);
    for (int i = 0; i < 60; i++) {
        int rc = sley_scope_run(race_once, r, sley_after((sley_time)below(&r->random, 100) * SLEY_US));

        r->lies += rc != 0 && rc != -ETIMEDOUT;
    }
    return 0;
}

static int races(void *arg)
{
    static struct racer r[RACERS];
    uint64_t seed = *(uint64_t *)arg;

    for (int i = 0; i < RACERS; i++) {
        r[i] = (struct racer){ .random = mix(seed + (uint64_t)i) };
        actor_start_as(&r[i].actor, 0, race, &r[i]);
    }
    for (int i = 0; i < RACERS; i++) {
        EXPECT(actor_result(&r[i].actor) == 0);
        EXPECT(r[i].lies == 0 && r[i].ran == r[i].said);
    }
    return 0;
}

static void exactly_one_of_thread_and_deadline_decides(void **state)
{
    sley_options o = { .blocking_threads_max = 2 };
    uint64_t seed = test_seed();

    (void)state;
    assert_int_equal(run_with(&o, races, &seed), 0);
}

static int call_many(void *arg)
{
    for (int i = 0; i < 100; i++)
        EXPECT(sley_blocking(count_call, arg, SLEY_FOREVER) == 0);
    return 0;
}

static int many(void *arg)
{
    _Atomic(int) n = 0;
    struct actor a[50];

    (void)arg;
    pool()->idle_ns = 100 * SLEY_US; /* threads come and go meanwhile */
    for (int i = 0; i < 50; i++)
        actor_start_as(&a[i], 0, call_many, (void *)&n);
    for (int i = 0; i < 50; i++)
        EXPECT(actor_result(&a[i]) == 0);
    EXPECT(n == 5000 && threads_now() <= 4);
    return 0;
}

static void many_calls_each_run_once(void **state)
{
    (void)state;
    for (unsigned max = 1; max <= 4; max += 3) {
        sley_options o = { .blocking_threads_max = max };

        assert_int_equal(run_with(&o, many, NULL), 0);
    }
}

static int come_as_it_leaves(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    _Atomic(int) n = 0;

    pool()->idle_ns = 20 * SLEY_US;
    for (int i = 0; i < 5000; i++) {
        sley_time at = sley_after((sley_time)below(&random, 160000));

        while (sley_now() < at)
            ;
        EXPECT(sley_blocking(count_call, &n, SLEY_FOREVER) == 0);
    }
    EXPECT(n == 5000);
    return 0;
}

static void calls_may_come_just_as_the_only_thread_leaves(void **state)
{
    sley_options o = { .blocking_threads_max = 1 };
    uint64_t seed = test_seed();

    (void)state;
    assert_int_equal(run_with(&o, come_as_it_leaves, &seed), 0);
}

/* ---- no threads ---- */

static int no_thread(void *arg)
{
    struct queued q = { .deadline = SLEY_FOREVER };
    struct held h;

    (void)arg;
    making.fail = 1;
    EXPECT(sley_blocking(count_call, &q.ran, SLEY_FOREVER) == -EAGAIN && q.ran == 0 && threads_now() == 0);
    making.fail = 0;
    start_held(&h, 2);
    wait_begun(&h);
    making.fail = 1; /* there is one: its turn will come */
    actor_start_as(&q.actor, 0, call_count, &q);
    actor_waits(&q.actor);
    EXPECT(sley_blocking(count_call, &q.ran, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(let_go(&h) == 2 && actor_result(&q.actor) == 0 && q.ran == 1);
    EXPECT(sley_blocking(count_call, &q.ran, SLEY_NOW) == 0 && q.ran == 2 && threads_now() == 1);
    making.fail = 0;
    return 0;
}

static void call_without_any_thread_is_refused(void **state)
{
    (void)state;
    assert_int_equal(run_with(NULL, no_thread, NULL), 0);
    making.fail = 0;
}

/* The pool is full with a thread that is just being made; those who count on it are refused with the one that makes it. */
static int refused(void *arg)
{
    struct queued q[4];

    (void)arg;
    making.fail = making.park_first = 1;
    for (int i = 0; i < 4; i++) {
        q[i] = (struct queued){ .deadline = SLEY_FOREVER };
        actor_start_as(&q[i].actor, 0, call_count, &q[i]);
        if (i == 0)
            while (threads_now() == 0)
                give_way();
        else
            actor_waits(&q[i].actor);
    }
    making.park_first = 0;
    for (int i = 0; i < 4; i++)
        EXPECT(actor_result(&q[i].actor) == -EAGAIN && q[i].ran == 0);
    making.fail = 0;
    EXPECT(threads_now() == 0 && sley_blocking(count_call, &q[0].ran, SLEY_FOREVER) == 0 && q[0].ran == 1);
    return 0;
}

static void calls_that_count_on_a_thread_that_fails_are_refused(void **state)
{
    sley_options o = { .blocking_threads_max = 1 };

    (void)state;
    assert_int_equal(run_with(&o, refused, NULL), 0);
    making.fail = making.park_first = 0;
}

/* ---- stopping, forking ---- */

static int hold_and_submit(void *arg)
{
    struct held *h = arg;

    return sley_blocking(hold, h, SLEY_FOREVER);
}

static void *release_later(void *arg)
{
    void **pair = arg;
    struct held *h = pair[0];
    sley_runtime *rt = pair[1];

    while (!sl_load_relaxed(&rt->root.cancelled)) /* the call has begun, and its fiber has been told to stop */
        sched_yield();
    sley_event_set(&h->go_on);
    return NULL;
}

static void stop_waits_for_a_call_that_has_begun(void **state)
{
    struct held h = { .result = 0 };
    struct queued q = { .deadline = SLEY_FOREVER };
    sley_options o = { .blocking_threads_max = 1 };
    sley_runtime *rt;
    void *pair[2];
    pthread_t thread;

    (void)state;
    assert_int_equal(sley_runtime_create(&rt, &o), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_submit(rt, hold_and_submit, &h), 0);
    while (!sl_load_acquire(&h.begun))
        sched_yield();
    q.actor = (struct actor){ .fn = call_count, .arg = &q };
    assert_int_equal(sley_runtime_submit(rt, actor_main, &q.actor), 0);
    pair[0] = &h;
    pair[1] = rt;
    assert_int_equal(__real_pthread_create(&thread, NULL, release_later, pair), 0);
    assert_int_equal(sley_runtime_stop(rt, SLEY_NOW), 0);
    pthread_join(thread, NULL);
    assert_int_equal(q.actor.result, -ECANCELED);
    assert_int_equal(q.ran, 0);
    sley_runtime_destroy(rt);
}

static int call_in_a_child(void *arg)
{
    pid_t pid;
    int status;

    (void)arg;
    EXPECT(sley_blocking(return_argument, NULL, SLEY_FOREVER) == 0); /* there is a pool, which the child has not */
    pid = fork();
    if (pid == 0)
        _exit(sley_blocking(return_argument, (void *)23, SLEY_FOREVER));
    EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 23);
    return 0;
}

static void call_in_a_forked_child_is_a_call(void **state)
{
    (void)state;
    assert_int_equal(run_with(NULL, call_in_a_child, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocking_call_runs_on_a_plain_thread),
        cmocka_unit_test(blocking_call_returns_what_its_function_does),
        cmocka_unit_test(blocking_call_on_a_plain_thread_is_a_call),
        cmocka_unit_test(fibers_go_on_while_a_call_blocks),
        cmocka_unit_test(pool_of_two_runs_two_at_once_and_the_rest_in_order),
        cmocka_unit_test(pool_takes_its_bound_from_the_variable),
        cmocka_unit_test(pool_grows_on_demand_and_shrinks_when_idle),
        cmocka_unit_test(one_call_at_a_time_uses_one_thread),
        cmocka_unit_test(threads_of_the_pool_end_with_the_runtime),
        cmocka_unit_test(deadline_ends_the_wait_for_a_thread_and_no_more),
        cmocka_unit_test(cancel_ends_the_wait_for_a_thread_and_no_more),
        cmocka_unit_test(exactly_one_of_thread_and_deadline_decides),
        cmocka_unit_test(many_calls_each_run_once),
        cmocka_unit_test(calls_may_come_just_as_the_only_thread_leaves),
        cmocka_unit_test(call_without_any_thread_is_refused),
        cmocka_unit_test(calls_that_count_on_a_thread_that_fails_are_refused),
        cmocka_unit_test(stop_waits_for_a_call_that_has_begun),
        cmocka_unit_test(call_in_a_forked_child_is_a_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
