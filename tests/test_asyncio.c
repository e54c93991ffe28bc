/* test_asyncio.c - what the tests of Python's asyncio say about futures, tasks, gather, wait, wait_for, shield, timeouts and task groups,
 * as far as it is true here too; where Sley decides otherwise the test says what it does instead. docs/tests-asyncio.md has the list, case
 * by case; what test_future.c and test_task.c ask already is not asked again. */
#include "scenario.h"

#define ON_FIBERS(test) { #test, test, NULL, NULL, &casts[0] }

/* ---- parts ---- */

/* A fiber or task that waits for an event and then returns rc; cut short it returns `cut`, by default what the wait said. */
struct part {
    sley_event *until; /* NULL: no wait */
    int rc;
    int cut;
    int was_cut;       /* the wait ended with -ECANCELED */
    int under_shield;
    _Atomic(struct sl_fiber *) block;
    _Atomic(int) over;
};

static int play_part(void *arg)
{
    struct part *p = arg;
    int rc = 0;

    if (p->under_shield)
        sley_shield_begin();
    p->block = sl_current();
    if (p->until != NULL)
        rc = sley_event_wait(p->until, SLEY_FOREVER);
    p->was_cut = rc == -ECANCELED;
    p->over = 1;
    if (p->under_shield)
        sley_shield_end();
    return rc == 0 ? p->rc : p->cut != 0 ? p->cut : rc;
}

static void until_it_waits(struct part *p)
{
    for (;;) {
        struct sl_fiber *f = p->block;

        if (p->over || (f != NULL && SL_WORD_STATE(sl_load_acquire(&f->word)) == SL_WAITING))
            return;
        give_way();
    }
}

static sley_future *task(struct part *p, sley_event *until, int rc)
{
    *p = (struct part){ .until = until, .rc = rc };
    return sley_task_create(play_part, p);
}

static sley_future *waiting_task(struct part *p, sley_event *until, int rc)
{
    sley_future *f = task(p, until, rc);

    until_it_waits(p);
    return f;
}

static void go_part(struct part *p, sley_event *until, int rc, int cut)
{
    *p = (struct part){ .until = until, .rc = rc, .cut = cut };
    EXPECT(sley_go(play_part, p) == 0);
}

/* End: what the task became, and give it back. */
static int ends(sley_future *f, enum sley_future_state *state)
{
    int rc = sley_await(f, SLEY_FOREVER);

    *state = sley_future_state(f);
    sley_future_destroy(f);
    return rc;
}

/* A runner is a task that waits in calls of its own; cancelled once it does so. */
struct runner {
    sley_event never, other;
    sley_future *f[5];
    struct part part[6];
    int rc[6];
    _Atomic(struct sl_fiber *) block;
    _Atomic(int) ready;
};

static int wait_there(struct runner *r)
{
    r->block = sl_current();
    r->ready = 1;
    return sley_event_wait(&r->never, SLEY_FOREVER);
}

static void until_runner_waits(struct runner *r)
{
    while (!r->ready || SL_WORD_STATE(sl_load_acquire(&r->block->word)) != SL_WAITING)
        give_way();
}

static int run_and_cancel(struct runner *r, sley_fn *fn, enum sley_future_state *state)
{
    sley_future *f = sley_task_create(fn, r);

    until_runner_waits(r);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_PENDING);
    EXPECT(sley_future_cancel(f) == 0);
    return ends(f, state);
}

static int run(struct runner *r, sley_fn *fn, enum sley_future_state *state)
{
    return ends(sley_task_create(fn, r), state);
}

/* ---- wait ---- */

SCENARIO(wait_first_completed)
{
    struct part a, b;
    sley_event e = { { 0 } };
    sley_future *f[2] = { task(&a, &e, 1), task(&b, NULL, 2) };

    EXPECT(sley_wait_any(f, 2, SLEY_FOREVER) == 1);
    EXPECT(sley_future_state(f[0]) == SLEY_FUTURE_PENDING && sley_await(f[1], SLEY_NOW) == 2);
    sley_event_set(&e);
    EXPECT(sley_wait_all(f, 2, SLEY_FOREVER) == 0 && sley_await(f[0], SLEY_NOW) == 1);
    sley_future_destroy(f[0]);
    sley_future_destroy(f[1]);
}

SCENARIO(wait_with_exception)
{
    struct part a, b;
    sley_future *f[2] = { task(&a, NULL, 1), task(&b, NULL, -EDOM) };

    for (int i = 0; i < 2; i++) {
        EXPECT(sley_wait_all(f, 2, SLEY_FOREVER) == 0);
        EXPECT(sley_future_state(f[0]) == SLEY_FUTURE_DONE && sley_future_state(f[1]) == SLEY_FUTURE_FAILED);
    }
    sley_future_destroy(f[0]);
    sley_future_destroy(f[1]);
}

SCENARIO(wait_with_timeout)
{
    struct part a, b;
    sley_event e = { { 0 } };
    sley_future *f[2] = { task(&b, &e, 2), task(&a, NULL, 1) };

    EXPECT(sley_await(f[1], SLEY_FOREVER) == 1);
    EXPECT(sley_wait_all(f, 2, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_future_state(f[0]) == SLEY_FUTURE_PENDING && sley_future_state(f[1]) == SLEY_FUTURE_DONE);
    sley_event_set(&e);
    EXPECT(sley_wait_all(f, 2, SLEY_FOREVER) == 0);
    sley_future_destroy(f[0]);
    sley_future_destroy(f[1]);
}

static int waits_for_all_of_them(void *arg)
{
    struct runner *r = arg;

    r->block = sl_current();
    r->ready = 1;
    return r->rc[0] = sley_wait_all(r->f, 2, SLEY_FOREVER);
}

/* yield_wait_does_not_shield_cancel: the wait ends, what it waited for goes on. */
SCENARIO(wait_that_is_cancelled_leaves_the_tasks_running)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;

    r.f[0] = waiting_task(&r.part[0], &r.other, 1);
    r.f[1] = waiting_task(&r.part[1], &r.other, 2);
    EXPECT(run_and_cancel(&r, waits_for_all_of_them, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
    EXPECT(!r.part[0].over && !r.part[1].over);
    sley_event_set(&r.other);
    EXPECT(ends(r.f[0], &state) == 1 && ends(r.f[1], &state) == 2 && !r.part[0].was_cut);
}

/* as_completed_with_timeout */
SCENARIO(as_completed_with_timeout)
{
    struct part a, b;
    sley_event e = { { 0 } };
    sley_future *f[2] = { task(&a, NULL, 7), task(&b, &e, 8) }, *left;
    sley_time deadline = sley_after(20 * SLEY_MS);
    int i = sley_wait_any(f, 2, SLEY_FOREVER);

    EXPECT(i == 0 && sley_await(f[i], SLEY_NOW) == 7);
    left = f[1 - i];
    EXPECT(sley_wait_any(&left, 1, deadline) == -ETIMEDOUT && sley_future_state(left) == SLEY_FUTURE_PENDING);
    sley_event_set(&e);
    EXPECT(sley_wait_any(&left, 1, SLEY_FOREVER) == 0 && sley_await(left, SLEY_NOW) == 8);
    sley_future_destroy(f[0]);
    sley_future_destroy(f[1]);
}

/* ---- gather ---- */

/* _check_success, test_duplicate_coroutines: results are found where they belong, whatever the order in which they came. */
SCENARIO(gather_results_are_in_the_order_given)
{
    sley_event e[3] = { { { 0 } }, { { 0 } }, { { 0 } } };
    struct part p[3];
    sley_future *f[4] = { waiting_task(&p[0], &e[0], 2), waiting_task(&p[1], &e[1], 1), waiting_task(&p[2], &e[2], 3), NULL };

    f[3] = f[0];
    sley_event_set(&e[1]);
    EXPECT(sley_gather(f, 4, SLEY_NOW) == -ETIMEDOUT);
    sley_event_set(&e[0]);
    sley_event_set(&e[2]);
    EXPECT(sley_gather(f, 4, SLEY_FOREVER) == 0);
    EXPECT(sley_await(f[0], SLEY_NOW) == 2 && sley_await(f[1], SLEY_NOW) == 1 && sley_await(f[2], SLEY_NOW) == 3);
    for (int i = 0; i < 3; i++)
        sley_future_destroy(f[i]);
}

/* test_return_exceptions, test_result_exception_one_cancellation: all of them, then each one's own outcome. */
SCENARIO(gather_that_returns_exceptions_is_wait_all)
{
    sley_future *f[6];

    for (int i = 0; i < 6; i++)
        f[i] = sley_future_create(sizeof(int));
    EXPECT(sley_future_complete(f[0], &(int){ 1 }) == 0 && sley_future_fail(f[1], -EDOM) == 0 && sley_future_cancel(f[2]) == 0);
    EXPECT(sley_wait_all(f, 6, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_future_complete(f[3], &(int){ 3 }) == 0 && sley_future_cancel(f[4]) == 0 && sley_future_fail(f[5], -EIO) == 0);
    EXPECT(sley_wait_all(f, 6, SLEY_FOREVER) == 0);
    EXPECT(sley_await(f[1], SLEY_NOW) == -EDOM && sley_await(f[2], SLEY_NOW) == -ECANCELED && sley_await(f[4], SLEY_NOW) == -ECANCELED);
    EXPECT(sley_await(f[5], SLEY_NOW) == -EIO && *(int *)sley_future_value(f[0]) == 1 && *(int *)sley_future_value(f[3]) == 3);
    for (int i = 0; i < 6; i++)
        sley_future_destroy(f[i]);
}

static int gathers_two(void *arg)
{
    struct runner *r = arg;

    r->block = sl_current();
    r->ready = 1;
    return r->rc[0] = sley_gather(r->f, 2, SLEY_FOREVER);
}

static int gathers_two_of_its_own(void *arg)
{
    struct runner *r = arg;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    r->f[0] = waiting_task(&r->part[0], &r->other, 1);
    r->f[1] = waiting_task(&r->part[1], &r->other, 2);
    r->block = sl_current();
    r->ready = 1;
    r->rc[0] = sley_gather(r->f, 2, SLEY_FOREVER);
    return sley_scope_wait(&s, r->rc[0], SLEY_FOREVER);
}

/* test_cancellation_broadcast. Awaiting never cancels; a scope around does: what belongs to who gathers is cancelled with it. */
SCENARIO(gather_that_is_cancelled_takes_along_its_scope_alone)
{
    struct runner r = { .ready = 0 }, own = { .ready = 0 };
    enum sley_future_state state;

    r.f[0] = waiting_task(&r.part[0], &r.other, 1);
    r.f[1] = waiting_task(&r.part[1], &r.other, 2);
    EXPECT(run_and_cancel(&r, gathers_two, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
    EXPECT(sley_future_state(r.f[0]) == SLEY_FUTURE_PENDING && sley_future_state(r.f[1]) == SLEY_FUTURE_PENDING);
    sley_event_set(&r.other);
    EXPECT(ends(r.f[0], &state) == 1 && ends(r.f[1], &state) == 2);

    EXPECT(run_and_cancel(&own, gathers_two_of_its_own, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
    EXPECT(own.rc[0] == -ECANCELED && own.part[0].was_cut && own.part[1].was_cut);
    EXPECT(ends(own.f[0], &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
    EXPECT(ends(own.f[1], &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
}

static int cancels_the_gatherer(void *arg)
{
    struct runner *r = arg;

    r->rc[1] = sley_future_cancel(r->f[2]);
    return 0;
}

/* test_cancel_gather_1: a cancel that comes when all is there does not take it away; here from a callback, before who gathers is told. */
SCENARIO(gather_cancelled_when_all_are_done)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;
    int rc;

    r.f[0] = sley_future_create(0);
    r.f[1] = sley_future_create(0);
    EXPECT(sley_future_complete(r.f[1], NULL) == 0);
    r.f[2] = sley_task_create(gathers_two, &r);
    until_runner_waits(&r);
    EXPECT(sley_future_on_done(r.f[0], cancels_the_gatherer, &r) == 0);
    EXPECT(sley_future_complete(r.f[0], NULL) == 0);
    rc = ends(r.f[2], &state);
    EXPECT(r.rc[1] == 0 && r.rc[0] == 0 && rc == 0 && state == SLEY_FUTURE_DONE);
    sley_future_destroy(r.f[0]);
    sley_future_destroy(r.f[1]);
}

static int gathers_for_ever(void *arg)
{
    struct runner *r = arg;
    int rc;

    r->block = sl_current();
    do {
        struct part p;
        sley_future *f = task(&p, NULL, 0);

        r->ready = 1;
        rc = sley_gather(&f, 1, SLEY_FOREVER);
        sley_shield_begin();
        EXPECT(sley_await(f, SLEY_FOREVER) == 0); /* p is in this frame */
        sley_shield_end();
        sley_future_destroy(f);
    } while (rc == 0);
    return rc;
}

/* test_cancel_gather_2: a gather in a loop, whose futures are soon there, does not swallow a cancel. */
SCENARIO(gather_in_a_loop_is_cancelled)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;
    sley_future *f = sley_task_create(gathers_for_ever, &r);

    while (!r.ready)
        give_way();
    for (int i = 0; i < 20; i++)
        give_way();
    EXPECT(sley_future_cancel(f) == 0);
    EXPECT(ends(f, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
}

/* ---- cancelling tasks ---- */

static int sleeps_long(void *arg)
{
    struct runner *r = arg;

    r->block = sl_current();
    r->ready = 1;
    return sley_sleep(5000 * SLEY_S);
}

SCENARIO(task_cancel_sleeping_task)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;

    EXPECT(run_and_cancel(&r, sleeps_long, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
}

static int yields_until_told(void *arg)
{
    struct runner *r = arg;
    int rc;

    while ((rc = sley_yield()) == 0)
        r->ready = 1;
    return rc;
}

SCENARIO(cancel_yield)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;
    sley_future *f = sley_task_create(yields_until_told, &r);

    while (!r.ready)
        give_way();
    EXPECT(sley_future_cancel(f) == 0);
    EXPECT(ends(f, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
}

static int awaits_one(void *arg)
{
    struct runner *r = arg;

    r->block = sl_current();
    r->ready = 1;
    return r->rc[0] = sley_await(r->f[0], SLEY_FOREVER);
}

/* test_cancel_inner_future. The task was not cancelled: what it returns is the other's outcome, and as an outcome of its own an error. */
SCENARIO(cancel_inner_future)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;
    sley_future *f;

    r.f[0] = sley_future_create(0);
    f = sley_task_create(awaits_one, &r);
    until_runner_waits(&r);
    EXPECT(sley_future_cancel(r.f[0]) == 0 && sley_future_state(r.f[0]) == SLEY_FUTURE_CANCELLED);
    EXPECT(ends(f, &state) == -ECANCELED && state == SLEY_FUTURE_FAILED);
    sley_future_destroy(r.f[0]);
}

SCENARIO(cancel_both_task_and_inner_future)
{
    for (int order = 0; order < 2; order++) {
        struct runner r = { .ready = 0 };
        enum sley_future_state state;
        sley_future *f;
        int first, second;

        r.f[0] = sley_future_create(0);
        f = sley_task_create(awaits_one, &r);
        until_runner_waits(&r);
        first = sley_future_cancel(order == 0 ? r.f[0] : f);
        second = sley_future_cancel(order == 0 ? f : r.f[0]);
        EXPECT(first == 0 && (second == 0 || (order == 0 && second == -EALREADY)));
        EXPECT(sley_future_state(r.f[0]) == SLEY_FUTURE_CANCELLED);
        EXPECT(ends(f, &state) == -ECANCELED && (state == SLEY_FUTURE_CANCELLED || (order == 0 && state == SLEY_FUTURE_FAILED)));
        sley_future_destroy(r.f[0]);
    }
}

static int catches(void *arg)
{
    struct runner *r = arg;

    r->rc[0] = sley_await(r->f[0], SLEY_FOREVER);
    r->block = sl_current();
    r->ready = 1;
    r->rc[1] = sley_await(r->f[1], SLEY_FOREVER);
    if (r->f[2] == NULL)
        return 42;
    r->rc[2] = sley_await(r->f[2], SLEY_FOREVER); /* a cancel is for good, */
    sley_shield_begin();                          /* but for a shield */
    r->rc[3] = sley_await(r->f[2], SLEY_FOREVER);
    sley_shield_end();
    return 42;
}

/* test_cancel_task_catching, test_cancel_task_ignoring, test_task_cancel_waiter_future (which leaves the future alone here) */
SCENARIO(cancel_task_that_catches_or_ignores_it)
{
    for (int ignoring = 0; ignoring < 2; ignoring++) {
        struct runner r = { .ready = 0 };
        enum sley_future_state state;
        sley_future *f;

        for (int i = 0; i < 2 + ignoring; i++)
            r.f[i] = sley_future_create(0);
        f = sley_task_create(catches, &r);
        EXPECT(sley_future_complete(r.f[0], NULL) == 0);
        until_runner_waits(&r);
        EXPECT(sley_future_cancel(f) == 0);
        if (ignoring) {
            EXPECT(sley_await(f, sley_after(SLEY_MS)) == -ETIMEDOUT);
            EXPECT(sley_future_complete(r.f[2], NULL) == 0);
        }
        EXPECT(ends(f, &state) == 42 && state == SLEY_FUTURE_DONE);
        EXPECT(r.rc[0] == 0 && r.rc[1] == -ECANCELED && (!ignoring || (r.rc[2] == -ECANCELED && r.rc[3] == 0)));
        EXPECT(sley_future_state(r.f[1]) == SLEY_FUTURE_PENDING);
        for (int i = 0; i < 2 + ignoring; i++)
            sley_future_destroy(r.f[i]);
    }
}

static int cancels_itself_and_ends(void *arg)
{
    struct runner *r = arg;

    EXPECT(sley_event_wait(&r->other, SLEY_FOREVER) == 0);
    r->rc[0] = sley_future_cancel(r->f[0]);
    return 12;
}

/* test_cancel_at_end: a task that is cancelled and ends as if nothing had been is done. */
SCENARIO(cancel_at_end)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;

    r.f[0] = sley_task_create(cancels_itself_and_ends, &r);
    sley_event_set(&r.other);
    EXPECT(ends(r.f[0], &state) == 12 && state == SLEY_FUTURE_DONE && r.rc[0] == 0);
}

static int cancels_itself_and_awaits(void *arg)
{
    struct runner *r = arg;

    EXPECT(sley_event_wait(&r->other, SLEY_FOREVER) == 0);
    r->rc[0] = sley_future_cancel(r->f[0]);
    return r->rc[1] = sley_await(r->f[1], SLEY_FOREVER);
}

/* test_cancel_awaited_task: whatever it waits for next is refused at once; the other task is left alone. */
SCENARIO(cancel_awaited_task)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;

    r.f[1] = waiting_task(&r.part[0], &r.never, 3);
    r.f[0] = sley_task_create(cancels_itself_and_awaits, &r);
    sley_event_set(&r.other);
    EXPECT(ends(r.f[0], &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED && r.rc[1] == -ECANCELED);
    EXPECT(sley_future_state(r.f[1]) == SLEY_FUTURE_PENDING);
    sley_event_set(&r.never);
    EXPECT(ends(r.f[1], &state) == 3);
}

static int inner_call(struct runner *r)
{
    int rc = wait_there(r);

    r->rc[0] = rc == -ECANCELED;
    return rc;
}

static int outer_call(void *arg)
{
    struct runner *r = arg;

    r->rc[1] = inner_call(r);
    return r->rc[1] == -ECANCELED ? 101 : 1;
}

SCENARIO(yield_future_passes_cancel)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;

    EXPECT(run_and_cancel(&r, outer_call, &state) == 101 && state == SLEY_FUTURE_DONE && r.rc[0] == 1);
}

/* ---- shield ---- */

static int awaits_under_a_shield(void *arg)
{
    struct runner *r = arg;

    r->block = sl_current();
    r->ready = 1;
    sley_shield_begin();
    r->rc[0] = sley_await(r->f[0], SLEY_FOREVER);
    sley_shield_end();
    r->rc[1] = sley_cancelled();
    return r->rc[0];
}

/* test_shield_result, _exception, _cancel_inner, _shortcut: through a shield the outcome comes as it is. */
SCENARIO(shield_passes_the_outcome_on)
{
    static const int outcomes[] = { 0, -EDOM, -ECANCELED };

    for (int i = 0; i < 3; i++)
        for (int before = 0; before < 2; before++) {
            struct runner r = { .ready = 0 };
            sley_future *f = NULL;
            int rc;

            r.f[0] = sley_future_create(0);
            if (!before) {
                f = sley_task_create(awaits_under_a_shield, &r);
                until_runner_waits(&r);
            }
            rc = i == 0 ? sley_future_complete(r.f[0], NULL) : i == 1 ? sley_future_fail(r.f[0], -EDOM) : sley_future_cancel(r.f[0]);
            EXPECT(rc == 0);
            if (before)
                f = sley_task_create(awaits_under_a_shield, &r);
            EXPECT(sley_await(f, SLEY_FOREVER) == outcomes[i] && r.rc[1] == 0);
            sley_future_destroy(f);
            sley_future_destroy(r.f[0]);
        }
}

/* test_shield_cancel_outer, test_shield_effect. asyncio's shield lets the outer one go and the inner one go on: that is a plain await here
 * (test_task: task_cancelled_in_an_await_leaves_the_other_alone). A shield keeps the outer one until the inner one is there. */
SCENARIO(shield_keeps_who_awaits_and_the_cancel_waits_behind_it)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;
    sley_future *f;

    r.f[0] = sley_future_create(0);
    f = sley_task_create(awaits_under_a_shield, &r);
    until_runner_waits(&r);
    EXPECT(sley_future_cancel(f) == 0);
    EXPECT(sley_await(f, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_future_complete(r.f[0], NULL) == 0);
    EXPECT(ends(f, &state) == 0 && state == SLEY_FUTURE_DONE && r.rc[0] == 0 && r.rc[1] == -ECANCELED);
    sley_future_destroy(r.f[0]);
}

static int gathers_under_a_shield(void *arg)
{
    struct runner *r = arg;

    r->block = sl_current();
    r->ready = 1;
    sley_shield_begin();
    r->rc[0] = sley_gather(r->f, 2, SLEY_FOREVER);
    sley_shield_end();
    return sley_cancelled();
}

/* test_shield_gather, test_gather_shield */
SCENARIO(shield_around_a_gather)
{
    for (int shield = 0; shield < 2; shield++) {
        struct runner r = { .ready = 0 };
        enum sley_future_state state;
        sley_future *f;

        r.f[0] = sley_future_create(0);
        r.f[1] = sley_future_create(0);
        f = sley_task_create(shield ? gathers_under_a_shield : gathers_two, &r);
        until_runner_waits(&r);
        EXPECT(sley_future_cancel(f) == 0);
        if (!shield)
            EXPECT(sley_await(f, SLEY_FOREVER) == -ECANCELED);
        EXPECT(sley_future_complete(r.f[0], NULL) == 0 && sley_future_complete(r.f[1], NULL) == 0); /* neither was cancelled */
        EXPECT(ends(f, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED && r.rc[0] == (shield ? 0 : -ECANCELED));
        sley_future_destroy(r.f[0]);
        sley_future_destroy(r.f[1]);
    }
}

/* ---- wait_for ---- */

/* Ignores every cancel until it is told. */
static int slow_task(void *arg)
{
    struct part *p = arg;

    p->block = sl_current();
    while (sley_event_is_set(p->until) == 0) {
        if (sley_sleep(SLEY_MS) == -ECANCELED)
            p->was_cut = 1;
        if (p->was_cut)
            sley_event_set(p->until);
    }
    sley_shield_begin();
    sley_yield();
    sley_shield_end();
    p->over = 1;
    return p->rc;
}

static int waits_for_one(void *arg)
{
    struct runner *r = arg;

    r->block = sl_current();
    r->ready = 1;
    return r->rc[0] = sley_wait_for(r->f[0], SLEY_FOREVER);
}

/* test_asyncio_wait_for_cancelled, _timeout: it does not return before the task has ended. */
SCENARIO(wait_for_slow_task)
{
    for (int cancel = 0; cancel < 2; cancel++) {
        struct runner r = { .ready = 0 };
        enum sley_future_state state;

        r.part[0] = (struct part){ .until = &r.other, .rc = 5 };
        r.f[0] = sley_task_create(slow_task, &r.part[0]);
        if (cancel)
            EXPECT(run_and_cancel(&r, waits_for_one, &state) == 5 && r.part[0].over);
        else
            EXPECT(sley_wait_for(r.f[0], sley_after(SLEY_MS)) == 5 && r.part[0].over && r.part[0].was_cut);
        sley_future_destroy(r.f[0]);
    }
}

static int cancelled_twice(void *arg)
{
    struct runner *r = arg;

    r->rc[1] = sley_event_wait(&r->never, SLEY_FOREVER);
    sley_shield_begin(); /* holds up its cancel */
    sley_event_set(&r->other);
    r->rc[2] = sley_event_wait(&r->never, SLEY_FOREVER);
    sley_shield_end();
    return 42;
}

static int waits_shortly_for_one(void *arg)
{
    struct runner *r = arg;

    return r->rc[0] = sley_wait_for(r->f[0], sley_after(SLEY_MS));
}

/* test_wait_for_self_cancellation: cancelled while it waits for the end of a task that takes its time. It waits on; the outcome is the
 * task's, and the cancel is noticed at the next wait. */
SCENARIO(wait_for_is_cancelled_while_the_task_takes_its_time)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;
    sley_future *f;

    r.f[0] = sley_task_create(cancelled_twice, &r);
    f = sley_task_create(waits_shortly_for_one, &r);
    EXPECT(sley_event_wait(&r.other, SLEY_FOREVER) == 0); /* the deadline has passed, and the task was cancelled */
    EXPECT(sley_future_cancel(f) == 0);
    EXPECT(sley_await(f, sley_after(SLEY_MS)) == -ETIMEDOUT);
    sley_event_set(&r.never);
    EXPECT(ends(f, &state) == 42 && state == SLEY_FUTURE_DONE);
    EXPECT(r.rc[0] == 42 && r.rc[1] == -ECANCELED && r.rc[2] == 0);
    EXPECT(ends(r.f[0], &state) == 42);
}

/* ---- from another thread ---- */

struct visit {
    sley_runtime *rt;
    sley_event never;
    struct part part;
    int rc;
};

static int visits(void *arg)
{
    struct visit *v = arg;
    sley_future *f;

    EXPECT(sley_runtime_attach(v->rt) == 0);
    f = task(&v->part, v->rc == -ETIMEDOUT || v->rc == -ECANCELED ? &v->never : NULL, v->rc);
    if (v->rc == -ECANCELED)
        EXPECT(sley_future_cancel(f) == 0);
    EXPECT(sley_wait_for(f, v->rc == -ETIMEDOUT ? sley_after(SLEY_MS) : SLEY_FOREVER) == v->rc);
    EXPECT(v->part.over && v->part.was_cut == (v->rc == -ETIMEDOUT || v->rc == -ECANCELED));
    sley_future_destroy(f);
    sley_runtime_detach();
    return 0;
}

/* RunCoroutineThreadsafeTests: result, exception, timeout, cancel. */
SCENARIO(run_threadsafe)
{
    static const int outcomes[] = { 3, -EDOM, -ETIMEDOUT, -ECANCELED };

    for (int i = 0; i < 4; i++) {
        struct visit v = { .rt = sley_runtime_current(), .rc = outcomes[i] };
        struct actor a;

        actor_start_as(&a, 1, visits, &v);
        EXPECT(actor_result(&a) == 0);
    }
}

/* ---- task groups: a scope, its children started by sley_go, or as tasks where a result is wanted ---- */

/* 01, 02 */
SCENARIO(taskgroup_waits_for_all_and_results_are_there)
{
    struct part a, b;
    sley_event e = { { 0 } };
    sley_future *f, *g;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    f = waiting_task(&a, &e, 42);
    sley_event_set(&e);
    g = task(&b, &e, 11);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_await(f, SLEY_NOW) == 42 && sley_await(g, SLEY_NOW) == 11);
    sley_future_destroy(f);
    sley_future_destroy(g);
}

/* 03 */
SCENARIO(taskgroup_goes_on_when_one_is_cancelled)
{
    struct part a, b;
    sley_event never = { { 0 } };
    enum sley_future_state state;
    sley_future *f, *g;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    f = waiting_task(&a, &never, 42);
    EXPECT(sley_future_cancel(f) == 0);
    g = task(&b, NULL, 11);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(ends(f, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED && ends(g, &state) == 11);
}

static int group_with_an_error(void *arg)
{
    struct runner *r = arg;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    go_part(&r->part[0], &r->never, 0, 0);
    r->f[0] = waiting_task(&r->part[1], &r->never, 2);
    for (int i = 2; i < 5; i++)
        go_part(&r->part[i], NULL, -EDOM, 0);
    r->rc[1] = sley_event_wait(&r->never, SLEY_FOREVER);
    return sley_scope_wait(&s, r->rc[1], SLEY_FOREVER);
}

/* 04, test_cancel_children_on_child_error: the first error cancels the others, and the body. */
SCENARIO(taskgroup_is_cancelled_by_the_error_of_a_child)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;

    EXPECT(run(&r, group_with_an_error, &state) == -EDOM && state == SLEY_FUTURE_FAILED);
    EXPECT(r.part[0].was_cut && r.part[1].was_cut && r.rc[1] == -ECANCELED);
    EXPECT(ends(r.f[0], &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
}

static int group_of_five(struct runner *r, int cut, int body_waits)
{
    sley_scope s;
    int rc = 0;

    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 5; i++)
        go_part(&r->part[i], &r->never, 0, cut);
    r->block = sl_current();
    r->ready = 1;
    if (body_waits)
        rc = r->rc[1] = sley_event_wait(&r->never, SLEY_FOREVER);
    return sley_scope_wait(&s, rc, SLEY_FOREVER);
}

static int children_wait(void *arg) { return group_of_five(arg, 0, 0); }
static int children_and_body_wait(void *arg) { return group_of_five(arg, 0, 1); }
static int children_fail_when_cut(void *arg) { return group_of_five(arg, -EDOM, 1); }

static int nested_group(void *arg)
{
    struct runner *r = arg;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    go_part(&r->part[5], &r->never, 0, 0);
    return sley_scope_wait(&s, group_of_five(r, -EDOM, 1), SLEY_FOREVER);
}

/* cancellation, 07, 08, 11, 12, 17, 22: cancelled from outside all of it is, and an error on the way out goes before. The end of a scope is
 * never refused, so a body that is in it waits on until all have ended. */
SCENARIO(taskgroup_is_cancelled_from_outside)
{
    static const struct { sley_fn *fn; int rc; } groups[] = {
        { children_wait, -ECANCELED }, { children_and_body_wait, -ECANCELED }, { children_fail_when_cut, -EDOM }, { nested_group, -EDOM },
    };

    for (int i = 0; i < 4; i++) {
        struct runner r = { .ready = 0 };
        enum sley_future_state state;

        EXPECT(run_and_cancel(&r, groups[i].fn, &state) == groups[i].rc);
        EXPECT(state == (groups[i].rc == -ECANCELED ? SLEY_FUTURE_CANCELLED : SLEY_FUTURE_FAILED));
        for (int k = 0; k < 5; k++)
            EXPECT(r.part[k].was_cut);
        EXPECT(i != 3 || r.part[5].was_cut);
        EXPECT(i == 0 || r.rc[1] == -ECANCELED);
    }
}

static int body_fails(void *arg)
{
    struct runner *r = arg;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    r->f[0] = task(&r->part[0], &r->never, 42);
    r->f[1] = waiting_task(&r->part[1], &r->never, 11);
    return sley_scope_wait(&s, -EDOM, SLEY_FOREVER);
}

/* 09, 10 */
SCENARIO(taskgroup_is_cancelled_by_the_error_of_its_body)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;

    EXPECT(run(&r, body_fails, &state) == -EDOM);
    for (int i = 0; i < 2; i++)
        EXPECT(ends(r.f[i], &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
}

static int fails_outside_or_inside(void *arg)
{
    struct runner *r = arg;
    sley_scope outer, inner;
    int rc;

    sley_scope_init(&outer, SLEY_FOREVER);
    go_part(&r->part[0], r->rc[0] == 0 ? &r->other : &r->never, -EDOM, 0);
    sley_scope_init(&inner, SLEY_FOREVER);
    go_part(&r->part[1], r->rc[0] == 0 ? &r->never : &r->other, -EIO, 0);
    until_it_waits(&r->part[0]);
    until_it_waits(&r->part[1]);
    sley_event_set(&r->other);
    rc = r->rc[1] = sley_scope_wait(&inner, 0, SLEY_FOREVER);
    return sley_scope_wait(&outer, rc, SLEY_FOREVER);
}

/* 13, 14: the error of an outer group cancels the inner one, that of an inner one goes up through it. */
SCENARIO(taskgroup_in_a_taskgroup_fails)
{
    for (int inside = 0; inside < 2; inside++) {
        struct runner r = { .rc = { inside } };
        enum sley_future_state state;

        EXPECT(run(&r, fails_outside_or_inside, &state) == (inside ? -EIO : -EDOM));
        EXPECT(r.part[inside ? 0 : 1].was_cut && r.rc[1] == (inside ? -EIO : -ECANCELED));
    }
}

static int crashes_while_it_is_cancelled(void *arg)
{
    struct runner *r = arg;
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    r->part[0] = (struct part){ .until = &r->other, .rc = -EDOM, .under_shield = 1 };
    EXPECT(sley_go(play_part, &r->part[0]) == 0);
    until_it_waits(&r->part[0]);
    rc = wait_there(r);
    sley_event_set(&r->other);
    return sley_scope_wait(&s, rc, SLEY_FOREVER);
}

static int awaits_a_nested_runner(void *arg)
{
    struct runner *r = arg;
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    r->f[0] = sley_task_create(crashes_while_it_is_cancelled, r);
    rc = sley_await(r->f[0], SLEY_FOREVER);
    sley_shield_begin();
    rc = sley_await(r->f[0], SLEY_FOREVER);
    sley_shield_end();
    sley_future_destroy(r->f[0]);
    return sley_scope_wait(&s, rc, SLEY_FOREVER);
}

/* 15, 16: a child that fails while the group is on its way out is the result all the same. */
SCENARIO(taskgroup_child_fails_while_the_group_is_cancelled)
{
    static sley_fn *const runners[] = { crashes_while_it_is_cancelled, awaits_a_nested_runner };

    for (int i = 0; i < 2; i++) {
        struct runner r = { .ready = 0 };
        enum sley_future_state state;

        EXPECT(run_and_cancel(&r, runners[i], &state) == -EDOM && state == SLEY_FUTURE_FAILED);
    }
}

static int body_fails_when_cut(void *arg)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    return sley_scope_wait(&s, wait_there(arg) == -ECANCELED ? -EXDEV : 0, SLEY_FOREVER);
}

static int body_and_child_fail(void *arg)
{
    struct runner *r = arg;
    sley_scope s;
    int rc;

    sley_scope_init(&s, SLEY_FOREVER);
    go_part(&r->part[0], NULL, -EDOM, 0);
    rc = sley_event_wait(&r->never, SLEY_FOREVER); /* ended by that */
    return sley_scope_wait(&s, rc == -ECANCELED ? -EXDEV : 0, SLEY_FOREVER);
}

/* 18, 19, 20a, 21a, test_taskgroup_context_manager_exit_raises: of several errors the first one. */
SCENARIO(taskgroup_body_turns_the_cancel_into_an_error)
{
    struct runner r = { .ready = 0 }, q = { .ready = 0 };
    enum sley_future_state state;

    EXPECT(run_and_cancel(&r, body_fails_when_cut, &state) == -EXDEV && state == SLEY_FUTURE_FAILED);
    EXPECT(run(&q, body_and_child_fail, &state) == -EDOM && state == SLEY_FUTURE_FAILED);
}

/* 23: children that have ended leave nothing behind: there are as many as one likes one after the other. */
SCENARIO(taskgroup_forgets_those_that_have_ended)
{
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 2000; i++) {
        struct part p;
        sley_future *f = task(&p, NULL, i);

        EXPECT(sley_await(f, SLEY_FOREVER) == i);
        sley_future_destroy(f);
    }
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
}

static _Atomic(int) heads;

static int hydra(void *arg)
{
    int rc;

    heads++;
    rc = sley_yield();
    if (rc < 0)
        return rc;
    sley_go(hydra, arg);
    sley_go(hydra, arg);
    return 0;
}

static int hercules(void *arg)
{
    (void)arg;
    while (heads < 10)
        sley_yield();
    return -EDOM;
}

static int two_more(void *arg)
{
    struct runner *r = arg;

    go_part(&r->part[0], NULL, 0, 0);
    go_part(&r->part[1], NULL, 0, 0);
    return 0;
}

/* 24, 25: children start children in the group, also when it is about to end. */
SCENARIO(taskgroup_grows_from_inside)
{
    struct runner r = { .ready = 0 };
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(two_more, &r);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && r.part[0].over && r.part[1].over);

    heads = 0;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(hydra, NULL);
    sley_go(hercules, NULL);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -EDOM && heads >= 10);
}

static int starts_one_more(void *arg)
{
    struct runner *r = arg;

    EXPECT(sley_event_wait(&r->never, SLEY_FOREVER) == -ECANCELED);
    r->f[0] = task(&r->part[1], &r->never, 1);
    return -ECANCELED;
}

/* test_taskgroup_no_create_task_after_failure: it starts, as every fiber does, and its first wait tells it. */
SCENARIO(taskgroup_child_started_after_the_failure_is_cancelled)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;
    sley_scope s;

    sley_scope_init(&s, SLEY_FOREVER);
    sley_go(starts_one_more, &r);
    go_part(&r.part[0], NULL, -EDOM, 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == -EDOM);
    EXPECT(r.part[1].was_cut && ends(r.f[0], &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
}

static int names_itself(void *arg)
{
    (void)arg;
    sley_fiber_set_name("yolo");
    return 0;
}

/* test_taskgroup_task_name, test_taskgroup_without_parent_task */
SCENARIO(taskgroup_odds_and_ends)
{
    enum sley_future_state state;
    struct part p;

    EXPECT(ends(sley_task_create(names_itself, NULL), &state) == 0);
    EXPECT(ends(task(&p, NULL, 1), &state) == 1); /* the first function has a scope too */
}

/* ---- timeouts: a scope with a deadline ---- */

static int waits_for_ever(void *arg)
{
    sley_event never = { { 0 } };
    int rc = sley_event_wait(&never, SLEY_FOREVER);

    if (arg != NULL)
        *(int *)arg = rc;
    return rc;
}

static int crashes_on_its_way_out(void *arg)
{
    return waits_for_ever(arg) == -ECANCELED ? -EDOM : 0;
}

static int fails_at_once(void *arg)
{
    (void)arg;
    return -ENOKEY;
}

static int waits_with_a_timeout(void *arg)
{
    sley_time *deadlines = arg;

    return sley_scope_run(waits_for_ever, NULL, deadlines[0]);
}

static int waits_behind_a_timeout(void *arg)
{
    sley_time *deadlines = arg;
    int rc = sley_scope_run(waits_for_ever, NULL, deadlines[0]);

    return rc == -ETIMEDOUT ? waits_for_ever(NULL) : rc; /* -ECANCELED: both have passed by now */
}

/* test_timeout_basic, _at_basic, _waiter_cancelled, _zero, _in_the_past, nested, foreign exceptions */
SCENARIO(timeouts)
{
    sley_time soon = sley_after(2 * SLEY_MS), later[1], now[1];
    struct part p = { .rc = 3 };
    int was = 0;

    EXPECT(sley_scope_run(waits_for_ever, &was, soon) == -ETIMEDOUT && was == -ECANCELED);
    EXPECT(sley_scope_run(waits_for_ever, NULL, sley_now()) == -ETIMEDOUT);
    EXPECT(sley_scope_run(waits_for_ever, NULL, soon) == -ETIMEDOUT); /* in the past */
    EXPECT(sley_scope_run(play_part, &p, sley_after(1000 * SLEY_S)) == 3 && sley_scope_run(play_part, &p, SLEY_FOREVER) == 3);
    EXPECT(sley_scope_run(fails_at_once, NULL, sley_after(1000 * SLEY_S)) == -ENOKEY);
    EXPECT(sley_scope_run(crashes_on_its_way_out, NULL, sley_after(SLEY_MS)) == -EDOM);
    later[0] = SLEY_FOREVER; /* nested: only the one that ran out says so */
    EXPECT(sley_scope_run(waits_with_a_timeout, later, sley_after(SLEY_MS)) == -ETIMEDOUT);
    now[0] = sley_after(SLEY_MS);
    EXPECT(sley_scope_run(waits_with_a_timeout, now, sley_after(1000 * SLEY_S)) == -ETIMEDOUT);
    now[0] = sley_after(SLEY_MS);
    EXPECT(sley_scope_run(waits_behind_a_timeout, now, sley_after(4 * SLEY_MS)) == -ETIMEDOUT);
}

struct moved {
    sley_scope s;
    _Atomic(int) open;
    int rc;
};

static int has_a_timeout(void *arg)
{
    struct moved *m = arg;

    sley_scope_init(&m->s, sley_after(1000 * SLEY_S));
    m->open = 1;
    m->rc = waits_for_ever(NULL);
    return sley_scope_wait(&m->s, m->rc, SLEY_FOREVER);
}

/* test_foreign_cancel_doesnt_timeout_if_not_expired, test_reschedule */
SCENARIO(timeout_that_has_not_expired_is_no_timeout)
{
    for (int moved = 0; moved < 3; moved++) {
        struct moved m = { .open = 0 };
        enum sley_future_state state;
        sley_future *f = sley_task_create(has_a_timeout, &m);

        while (!m.open)
            give_way();
        if (moved == 1)
            sley_scope_set_deadline(&m.s, SLEY_FOREVER);
        if (moved == 2)
            sley_scope_set_deadline(&m.s, sley_after(SLEY_MS));
        else
            EXPECT(sley_future_cancel(f) == 0);
        EXPECT(ends(f, &state) == (moved == 2 ? -ETIMEDOUT : -ECANCELED));
        EXPECT(state == (moved == 2 ? SLEY_FUTURE_FAILED : SLEY_FUTURE_CANCELLED)); /* test_outer_task_is_not_cancelled */
    }
}

static int cleans_up_within(void *arg)
{
    struct runner *r = arg;

    r->rc[0] = wait_there(r);
    sley_shield_begin();
    r->rc[1] = sley_scope_run(waits_for_ever, NULL, sley_after(SLEY_MS));
    sley_shield_end();
    return r->rc[0];
}

/* test_timeout_after_cancellation, test_nested_timeout_in_finally: cleaning up, with a limit. */
SCENARIO(timeout_after_a_cancel)
{
    struct runner r = { .ready = 0 };
    enum sley_future_state state;

    EXPECT(run_and_cancel(&r, cleans_up_within, &state) == -ECANCELED && state == SLEY_FUTURE_CANCELLED);
    EXPECT(r.rc[0] == -ECANCELED && r.rc[1] == -ETIMEDOUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FIBERS(wait_first_completed),
        ON_FIBERS(wait_with_exception),
        ON_FIBERS(wait_with_timeout),
        ON_FIBERS(wait_that_is_cancelled_leaves_the_tasks_running),
        ON_FIBERS(as_completed_with_timeout),
        ON_FIBERS(gather_results_are_in_the_order_given),
        ON_FIBERS(gather_that_returns_exceptions_is_wait_all),
        ON_FIBERS(gather_that_is_cancelled_takes_along_its_scope_alone),
        ON_FIBERS(gather_cancelled_when_all_are_done),
        ON_FIBERS(gather_in_a_loop_is_cancelled),
        ON_FIBERS(task_cancel_sleeping_task),
        ON_FIBERS(cancel_yield),
        ON_FIBERS(cancel_inner_future),
        ON_FIBERS(cancel_both_task_and_inner_future),
        ON_FIBERS(cancel_task_that_catches_or_ignores_it),
        ON_FIBERS(cancel_at_end),
        ON_FIBERS(cancel_awaited_task),
        ON_FIBERS(yield_future_passes_cancel),
        ON_FIBERS(shield_passes_the_outcome_on),
        ON_FIBERS(shield_keeps_who_awaits_and_the_cancel_waits_behind_it),
        ON_FIBERS(shield_around_a_gather),
        ON_FIBERS(wait_for_slow_task),
        ON_FIBERS(wait_for_is_cancelled_while_the_task_takes_its_time),
        ON_FIBERS(run_threadsafe),
        ON_FIBERS(taskgroup_waits_for_all_and_results_are_there),
        ON_FIBERS(taskgroup_goes_on_when_one_is_cancelled),
        ON_FIBERS(taskgroup_is_cancelled_by_the_error_of_a_child),
        ON_FIBERS(taskgroup_is_cancelled_from_outside),
        ON_FIBERS(taskgroup_is_cancelled_by_the_error_of_its_body),
        ON_FIBERS(taskgroup_in_a_taskgroup_fails),
        ON_FIBERS(taskgroup_child_fails_while_the_group_is_cancelled),
        ON_FIBERS(taskgroup_body_turns_the_cancel_into_an_error),
        ON_FIBERS(taskgroup_forgets_those_that_have_ended),
        ON_FIBERS(taskgroup_grows_from_inside),
        ON_FIBERS(taskgroup_child_started_after_the_failure_is_cancelled),
        ON_FIBERS(taskgroup_odds_and_ends),
        ON_FIBERS(timeouts),
        ON_FIBERS(timeout_that_has_not_expired_is_no_timeout),
        ON_FIBERS(timeout_after_a_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
