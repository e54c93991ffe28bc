/* test_future.c - plain futures: one outcome, those who wait for it, alone or among several, callbacks, and failures that nobody looked
 * at. Tasks: test_task.c. */
#include "scenario.h"

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5, SEVERAL = 40 /* more than a wait for several has on its stack */ };

/* ---- actors ---- */

struct call {
    struct actor actor;
    sley_future *f;
    sley_future **all;
    size_t n;
    sley_time deadline;
};

static int do_await(void *arg) { struct call *c = arg; return sley_await(c->f, c->deadline); }
static int do_wait_for(void *arg) { struct call *c = arg; return sley_wait_for(c->f, c->deadline); }
static int do_wait_any(void *arg) { struct call *c = arg; return sley_wait_any(c->all, c->n, c->deadline); }
static int do_wait_all(void *arg) { struct call *c = arg; return sley_wait_all(c->all, c->n, c->deadline); }
static int do_gather(void *arg) { struct call *c = arg; return sley_gather(c->all, c->n, c->deadline); }

static void waiting(struct call *c, sley_future *f)
{
    *c = (struct call){ .f = f, .deadline = SLEY_FOREVER };
    actor_start(&c->actor, do_await, c);
    actor_waits(&c->actor);
}

static void waiting_for_all(struct call *c, sley_fn *fn, sley_future **all, size_t n)
{
    *c = (struct call){ .all = all, .n = n, .deadline = SLEY_FOREVER };
    actor_start(&c->actor, fn, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

static void create_all(sley_future **f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        f[i] = sley_future_create(0);
}

static void destroy_all(sley_future **f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sley_future_destroy(f[i]);
}

/* ---- one outcome ---- */

SCENARIO(future_is_pending_until_it_is_completed)
{
    sley_future *f = sley_future_create(sizeof(int));

    EXPECT(sley_future_state(f) == SLEY_FUTURE_PENDING);
    EXPECT(sley_await(f, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_future_complete(f, &(int){ 42 }) == 0);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_DONE);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_await(f, SLEY_NOW) == 0 && sley_await(f, SLEY_FOREVER) == 0);
    EXPECT(*(int *)sley_future_value(f) == 42);
    sley_future_destroy(f);
}

SCENARIO(future_may_carry_nothing_or_much)
{
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 4096, 100000 };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *value = malloc(sizes[i] + 1), *got;
        sley_future *f = sley_future_create(sizes[i]);

        memset(value, 0x5a, sizes[i] + 1);
        EXPECT(sley_future_complete(f, sizes[i] > 0 ? value : NULL) == 0);
        EXPECT(sley_await(f, SLEY_FOREVER) == 0);
        got = sley_future_value(f);
        EXPECT((uintptr_t)got % _Alignof(max_align_t) == 0 && memcmp(got != NULL ? got : value, value, sizes[i]) == 0);
        sley_future_destroy(f);
        free(value);
    }
    EXPECT(sley_future_create(SIZE_MAX) == NULL && sley_future_create(SIZE_MAX - 32) == NULL);
}

SCENARIO(future_fails_with_its_error)
{
    sley_future *f = sley_future_create(sizeof(int));

    EXPECT(sley_future_fail(f, -EIO) == 0);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_FAILED);
    EXPECT(sley_await(f, SLEY_NOW) == -EIO && sley_await(f, SLEY_FOREVER) == -EIO);
    sley_future_destroy(f);
}

/* Only sley_future_cancel makes it CANCELLED: -ECANCELED by hand is an error like others. */
SCENARIO(future_is_cancelled_by_cancel_alone)
{
    sley_future *f = sley_future_create(0), *g = sley_future_create(0);

    EXPECT(sley_future_cancel(f) == 0 && sley_future_state(f) == SLEY_FUTURE_CANCELLED && sley_await(f, SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_future_fail(g, -ECANCELED) == 0 && sley_future_state(g) == SLEY_FUTURE_FAILED && sley_await(g, SLEY_NOW) == -ECANCELED);
    sley_future_destroy(f);
    sley_future_destroy(g);
}

SCENARIO(future_has_one_outcome)
{
    for (int first = 0; first < 3; first++) {
        sley_future *f = sley_future_create(sizeof(int));
        int outcome = first == 0 ? 0 : first == 1 ? -EPROTO : -ECANCELED, rc;

        rc = first == 0 ? sley_future_complete(f, &(int){ 1 }) : first == 1 ? sley_future_fail(f, -EPROTO) : sley_future_cancel(f);
        EXPECT(rc == 0);
        EXPECT(sley_future_complete(f, &(int){ 2 }) == -EALREADY);
        EXPECT(sley_future_fail(f, -EIO) == -EALREADY);
        EXPECT(sley_future_cancel(f) == -EALREADY);
        EXPECT(sley_await(f, SLEY_FOREVER) == outcome);
        EXPECT(first > 0 || *(int *)sley_future_value(f) == 1);
        sley_future_destroy(f);
    }
}

SCENARIO(future_refuses_bad_arguments)
{
    sley_future *f = sley_future_create(sizeof(int)), *pair[2] = { f, NULL };

    EXPECT(sley_future_complete(NULL, NULL) == -EINVAL && sley_future_complete(f, NULL) == -EINVAL);
    EXPECT(sley_future_fail(NULL, -EIO) == -EINVAL && sley_future_fail(f, 0) == -EINVAL && sley_future_fail(f, 1) == -EINVAL);
    EXPECT(sley_future_cancel(NULL) == -EINVAL && (int)sley_future_state(NULL) == -EINVAL);
    EXPECT(sley_future_ref(NULL) == NULL && sley_future_value(NULL) == NULL);
    EXPECT(sley_future_on_done(NULL, do_await, NULL) == -EINVAL && sley_future_on_done(f, NULL, NULL) == -EINVAL);
    EXPECT(sley_await(NULL, SLEY_FOREVER) == -EINVAL && sley_await(f, 1) == -EINVAL && sley_await(f, -1) == -EINVAL);
    EXPECT(sley_wait_for(NULL, SLEY_FOREVER) == -EINVAL && sley_wait_for(f, 5 * SLEY_MS) == -EINVAL);
    EXPECT(sley_wait_any(&f, 0, SLEY_FOREVER) == -EINVAL && sley_wait_any(NULL, 1, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_wait_any(pair, 2, SLEY_FOREVER) == -EINVAL && sley_wait_any(&f, 1, 1) == -EINVAL);
    EXPECT(sley_wait_all(NULL, 1, SLEY_FOREVER) == -EINVAL && sley_wait_all(pair, 2, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_wait_all(&f, 1, 1) == -EINVAL && sley_gather(&f, 1, 1) == -EINVAL);
    EXPECT(sley_gather(NULL, 1, SLEY_FOREVER) == -EINVAL && sley_gather(pair, 2, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_wait_all(NULL, 0, SLEY_FOREVER) == 0 && sley_gather(NULL, 0, SLEY_NOW) == 0);
    EXPECT(sley_task_create(NULL, NULL) == NULL && sley_task_create_copy(NULL, &f, 1) == NULL);
    EXPECT(sley_task_create_copy(do_await, NULL, 1) == NULL);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_PENDING); /* none of it was an outcome */
    sley_future_destroy(f);
    sley_future_destroy(NULL);
}

/* ---- waiting for one ---- */

static int end_with(sley_future *f, int outcome)
{
    return outcome == 0 ? sley_future_complete(f, NULL) : outcome == -ECANCELED ? sley_future_cancel(f) : sley_future_fail(f, outcome);
}

static void everybody_gets(int outcome)
{
    static struct call c[MANY];
    sley_future *f = sley_future_create(0);

    for (int i = 0; i < MANY; i++)
        waiting(&c[i], f);
    EXPECT(end_with(f, outcome) == 0);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&c[i]) == outcome);
    sley_future_destroy(f);
}

SCENARIO(future_complete_wakes_everybody) { everybody_gets(0); }
SCENARIO(future_fail_wakes_everybody) { everybody_gets(-ENOSPC); }
SCENARIO(future_cancel_wakes_everybody) { everybody_gets(-ECANCELED); }

SCENARIO(await_ends_at_its_deadline_and_leaves_the_future_alone)
{
    sley_future *f = sley_future_create(0);
    sley_time deadline = sley_after(2 * SLEY_MS);

    EXPECT(sley_await(f, deadline) == -ETIMEDOUT && sley_now() >= deadline);
    EXPECT(sley_await(f, deadline) == -ETIMEDOUT);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_PENDING);
    EXPECT(sley_future_complete(f, NULL) == 0);
    EXPECT(sley_await(f, deadline) == 0); /* what need not wait does not ask the time */
    sley_future_destroy(f);
}

static int do_complete(void *arg) { return sley_future_complete(arg, NULL); }
static int do_fail(void *arg) { return sley_future_fail(arg, -EBADMSG); }
static int do_cancel(void *arg) { return sley_future_cancel(arg); }

/* Who got the outcome may give the only reference back, whatever the completer still has to do. */
SCENARIO(future_may_be_freed_by_who_awaited)
{
    static sley_fn *const completers[] = { do_complete, do_fail, do_cancel };
    static const int outcomes[] = { 0, -EBADMSG, -ECANCELED };

    for (int round = 0; round < 150; round++) {
        sley_future *f = sley_future_create(0);
        struct actor completer;

        actor_start(&completer, completers[round % 3], f);
        EXPECT(sley_await(f, SLEY_FOREVER) == outcomes[round % 3]);
        sley_future_destroy(f);
        EXPECT(actor_result(&completer) == 0);
    }
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

SCENARIO(future_may_be_freed_by_who_saw_its_state)
{
    static sley_fn *const completers[] = { do_complete, do_fail, do_cancel };

    for (int round = 0; round < 150; round++) {
        sley_future *f = sley_future_create(0);
        struct actor completer;

        if (round % 2 == 1)
            EXPECT(sley_future_on_done(f, nothing, NULL) == 0);
        actor_start(&completer, completers[round % 3], f);
        while (sley_future_state(f) == SLEY_FUTURE_PENDING)
            give_way();
        sley_future_destroy(f);
        EXPECT(actor_result(&completer) == 0);
    }
}

SCENARIO(future_lives_until_the_last_reference)
{
    sley_future *f = sley_future_create(sizeof(long));

    EXPECT(sley_future_ref(f) == f && sley_future_ref(f) == f);
    sley_future_destroy(f);
    EXPECT(sley_future_complete(f, &(long){ 7 }) == 0);
    sley_future_destroy(f);
    EXPECT(*(long *)sley_future_value(f) == 7);
    sley_future_destroy(f);
    sley_future_destroy(sley_future_create(3)); /* and one that nobody ever completed */
}

static void waits_end_with_their_runtime(void **state)
{
    static sley_fn *const waits[] = { do_await, do_wait_any, do_wait_all, do_gather };

    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++)
        for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
            for (size_t n = 1; n <= SEVERAL; n += SEVERAL - 1) {
                sley_future *all[SEVERAL];
                struct call c = { .all = all, .n = n, .deadline = SLEY_FOREVER };

                create_all(all, n);
                c.f = all[0];
                assert_int_equal(result_of_stopped(on_thread, waits[i], &c), -ECANCELED);
                assert_int_equal(sley_future_state(all[n - 1]), SLEY_FUTURE_PENDING);
                destroy_all(all, n); /* nobody is left in their lists, else this aborts */
            }
}

/* ---- waiting for one, and cancelling it ---- */

SCENARIO(wait_for_cancels_what_does_not_come_in_time)
{
    sley_future *f = sley_future_create(0);
    struct call c;

    waiting(&c, f);
    EXPECT(sley_wait_for(f, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_future_state(f) == SLEY_FUTURE_CANCELLED);
    EXPECT(result(&c) == -ECANCELED);
    EXPECT(sley_wait_for(f, sley_after(SLEY_MS)) == -ECANCELED); /* now its own outcome */
    sley_future_destroy(f);
    f = sley_future_create(0);
    EXPECT(sley_wait_for(f, SLEY_NOW) == -ETIMEDOUT && sley_future_state(f) == SLEY_FUTURE_CANCELLED);
    sley_future_destroy(f);
}

SCENARIO(wait_for_gives_what_comes_in_time)
{
    sley_future *f[3];
    struct call c[3];

    create_all(f, 3);
    for (int i = 0; i < 3; i++) {
        c[i] = (struct call){ .f = f[i], .deadline = SLEY_FOREVER };
        actor_start(&c[i].actor, do_wait_for, &c[i]);
        actor_waits(&c[i].actor);
    }
    EXPECT(sley_future_complete(f[0], NULL) == 0 && sley_future_fail(f[1], -EIO) == 0 && sley_future_cancel(f[2]) == 0);
    EXPECT(result(&c[0]) == 0 && result(&c[1]) == -EIO && result(&c[2]) == -ECANCELED);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_wait_for(f[i], SLEY_NOW) == c[i].actor.result);
    destroy_all(f, 3);
}

static void wait_for_cancels_when_its_runtime_stops(void **state)
{
    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        sley_future *f = sley_future_create(0);
        struct call c = { .f = f, .deadline = SLEY_FOREVER };

        assert_int_equal(result_of_stopped(on_thread, do_wait_for, &c), -ECANCELED);
        assert_int_equal(sley_future_state(f), SLEY_FUTURE_CANCELLED);
        sley_future_destroy(f);
    }
}

/* ---- waiting for several ---- */

SCENARIO(wait_any_gives_the_index_of_one_that_has_an_outcome)
{
    static const size_t counts[] = { 1, 2, 16, 17, SEVERAL };

    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        sley_future *f[SEVERAL] = { NULL };
        size_t n = counts[k], at = n * 2 / 3;
        struct call c;

        create_all(f, n);
        EXPECT(sley_wait_any(f, n, SLEY_NOW) == -ETIMEDOUT);
        waiting_for_all(&c, do_wait_any, f, n);
        EXPECT(sley_future_fail(f[at], -EIO) == 0);
        EXPECT(result(&c) == (int)at);
        EXPECT(sley_wait_any(f, n, SLEY_NOW) == (int)at && sley_wait_any(f, n, SLEY_FOREVER) == (int)at);
        EXPECT(sley_await(f[at], SLEY_NOW) == -EIO);
        destroy_all(f, n);
    }
}

/* As they complete: the way of taking each as soon as it is there. */
SCENARIO(wait_any_serves_as_they_complete)
{
    sley_future *f[SEVERAL] = { NULL }, *left[SEVERAL];
    size_t n = SEVERAL;

    create_all(f, SEVERAL);
    memcpy(left, f, sizeof f);
    for (size_t i = SEVERAL; i-- > 0;) {
        size_t order = (i * 7 + 3) % SEVERAL;
        struct call c;
        int at;

        waiting_for_all(&c, do_wait_any, left, n);
        EXPECT(sley_future_complete(f[order], NULL) == 0);
        at = result(&c);
        EXPECT(at >= 0 && left[at] == f[order]);
        left[at] = left[--n];
    }
    destroy_all(f, SEVERAL);
}

SCENARIO(wait_any_wakes_each_of_several_who_wait)
{
    sley_future *f[3];
    struct call c[6];

    create_all(f, 3);
    for (int i = 0; i < 6; i++)
        waiting_for_all(&c[i], i % 2 ? do_wait_any : do_gather, f + i / 3, 2); /* f[0], f[1] and f[1], f[2] */
    EXPECT(sley_future_complete(f[1], NULL) == 0);
    EXPECT(result(&c[1]) == 1 && result(&c[3]) == 0 && result(&c[5]) == 0);
    EXPECT(sley_future_complete(f[0], NULL) == 0);
    EXPECT(result(&c[0]) == 0 && result(&c[2]) == 0);
    EXPECT(sley_future_complete(f[2], NULL) == 0);
    EXPECT(result(&c[4]) == 0);
    destroy_all(f, 3);
}

SCENARIO(wait_all_waits_for_all_whatever_they_are)
{
    sley_future *f[4];
    struct call c;

    create_all(f, 4);
    EXPECT(sley_wait_all(f, 4, SLEY_NOW) == -ETIMEDOUT);
    waiting_for_all(&c, do_wait_all, f, 4);
    EXPECT(sley_future_fail(f[2], -EIO) == 0 && sley_future_cancel(f[0]) == 0 && sley_future_complete(f[3], NULL) == 0);
    EXPECT(sley_wait_all(f, 4, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(!c.actor.done);
    EXPECT(sley_future_fail(f[1], -ETIMEDOUT) == 0);
    EXPECT(result(&c) == 0 && sley_wait_all(f, 4, SLEY_NOW) == 0);
    EXPECT(sley_await(f[0], SLEY_NOW) == -ECANCELED && sley_await(f[1], SLEY_NOW) == -ETIMEDOUT && sley_await(f[2], SLEY_NOW) == -EIO);
    destroy_all(f, 4);
}

SCENARIO(gather_waits_until_all_are_done)
{
    static const size_t counts[] = { 2, 16, 17, SEVERAL };

    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        sley_future *f[SEVERAL] = { NULL };
        size_t n = counts[k];
        struct call c;

        create_all(f, n);
        EXPECT(sley_future_complete(f[n / 2], NULL) == 0); /* one before, */
        waiting_for_all(&c, do_gather, f, n);
        for (size_t i = n; i-- > 0;) {
            EXPECT(!c.actor.done);
            EXPECT(sley_future_complete(f[i], NULL) == (i == n / 2 ? -EALREADY : 0)); /* the others meanwhile */
        }
        EXPECT(result(&c) == 0 && sley_gather(f, n, SLEY_NOW) == 0);
        destroy_all(f, n);
    }
}

SCENARIO(gather_ends_at_the_first_error)
{
    sley_future *f[SEVERAL] = { NULL };

    for (size_t n = 3; n <= SEVERAL; n += SEVERAL - 3) {
        struct call c;

        create_all(f, n);
        waiting_for_all(&c, do_gather, f, n);
        EXPECT(sley_future_complete(f[0], NULL) == 0 && sley_future_fail(f[2], -EDOM) == 0); /* the first in time */
        EXPECT(result(&c) == -EDOM);
        EXPECT(sley_future_state(f[1]) == SLEY_FUTURE_PENDING); /* and the rest goes on */
        EXPECT(sley_future_fail(f[1], -EIO) == 0);
        EXPECT(sley_gather(f, n, SLEY_NOW) == -EIO); /* of those that are over the first in line */
        destroy_all(f, n);
    }
}

SCENARIO(gather_takes_a_cancelled_one_for_an_error)
{
    sley_future *f[2];
    struct call c;

    create_all(f, 2);
    waiting_for_all(&c, do_gather, f, 2);
    EXPECT(sley_future_cancel(f[1]) == 0);
    EXPECT(result(&c) == -ECANCELED && sley_future_state(f[0]) == SLEY_FUTURE_PENDING);
    destroy_all(f, 2);
}

SCENARIO(waits_for_several_take_the_same_one_twice)
{
    sley_future *f = sley_future_create(0), *twice[3] = { f, f, f };
    struct call any, all, gather;

    waiting_for_all(&any, do_wait_any, twice, 3);
    waiting_for_all(&all, do_wait_all, twice, 3);
    waiting_for_all(&gather, do_gather, twice, 3);
    EXPECT(sley_future_complete(f, NULL) == 0);
    EXPECT(result(&any) >= 0 && any.actor.result < 3 && result(&all) == 0 && result(&gather) == 0);
    sley_future_destroy(f);
}

SCENARIO(waits_for_several_end_at_their_deadline)
{
    static sley_fn *const waits[] = { do_wait_any, do_wait_all, do_gather };

    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        for (size_t n = 2; n <= SEVERAL; n += SEVERAL - 2) {
            sley_future *f[SEVERAL] = { NULL };
            struct call c = { .all = f, .n = n, .deadline = sley_after(SLEY_MS) };

            create_all(f, n);
            if (i > 0)
                EXPECT(sley_future_complete(f[0], NULL) == 0);
            EXPECT(waits[i](&c) == -ETIMEDOUT);
            EXPECT(sley_now() >= c.deadline);
            destroy_all(f, n); /* nobody is in their lists */
        }
}

/* ---- as an arm of a select ---- */

struct selecting {
    struct actor actor;
    sley_case cases[3];
};

static int do_select(void *arg)
{
    struct selecting *s = arg;
    return sley_select(s->cases, 3, SLEY_FOREVER);
}

SCENARIO(select_tells_a_futures_outcome)
{
    for (int end = 0; end < 3; end++) {
        sley_future *f = sley_future_create(0), *g = sley_future_create(0);
        struct selecting s = { .cases = { sley_case_future(f), sley_case_future(g), sley_case_future(NULL) } };
        int outcome = end == 0 ? 0 : end == 1 ? -EIO : -ECANCELED;

        EXPECT(sley_select(s.cases, 3, SLEY_NOW) == -ETIMEDOUT);
        actor_start(&s.actor, do_select, &s);
        actor_waits(&s.actor);
        EXPECT(end_with(g, outcome) == 0);
        EXPECT(actor_result(&s.actor) == 1 && s.cases[1].result == outcome);
        s.cases[1].result = 77;
        EXPECT(sley_select(s.cases, 3, SLEY_NOW) == 1 && s.cases[1].result == outcome);
        sley_future_destroy(f); /* nobody is in its list */
        sley_future_destroy(g);
    }
}

/* ---- callbacks ---- */

struct notes {
    sley_future *f;
    _Atomic(int) count;
    int order[64];
    uint64_t fiber[64];
    pthread_t thread[64];
};

struct note {
    struct notes *notes;
    int number;
};

static int take_note(void *arg)
{
    struct note *n = arg;
    int at = n->notes->count++;

    n->notes->order[at] = n->number;
    n->notes->fiber[at] = sley_self();
    n->notes->thread[at] = pthread_self();
    EXPECT(sley_future_state(n->notes->f) != SLEY_FUTURE_PENDING);
    return -EIO; /* nobody cares */
}

enum { NOTES = 20 };

SCENARIO(callbacks_run_in_order_on_the_completer_before_the_waiters)
{
    static const int outcomes[] = { 0, -EIO, -ECANCELED };

    for (int end = 0; end < 3; end++) {
        struct notes notes = { .f = sley_future_create(0), .count = 0 };
        struct note note[NOTES];
        struct call c;

        waiting(&c, notes.f);
        for (int i = 0; i < NOTES; i++) {
            note[i] = (struct note){ &notes, i };
            EXPECT(sley_future_on_done(notes.f, take_note, &note[i]) == 0);
        }
        EXPECT(notes.count == 0);
        EXPECT(end_with(notes.f, outcomes[end]) == 0);
        EXPECT(notes.count == NOTES);
        for (int i = 0; i < NOTES; i++) {
            EXPECT(notes.order[i] == i && notes.fiber[i] == sley_self());
            EXPECT(sley_self() != 0 || pthread_equal(notes.thread[i], pthread_self()));
        }
        EXPECT(result(&c) == outcomes[end]);
        sley_future_destroy(notes.f);
    }
}

struct counted_wait {
    struct actor actor;
    struct notes *notes;
    int seen;
};

static int await_and_count(void *arg)
{
    struct counted_wait *c = arg;
    int rc = sley_await(c->notes->f, SLEY_FOREVER);

    c->seen = c->notes->count;
    return rc;
}

/* Whoever waits, and whenever it began to, gets the outcome behind the callbacks. */
SCENARIO(callbacks_have_run_when_an_await_returns)
{
    for (int round = 0; round < 100; round++) {
        struct notes notes = { .f = sley_future_create(0), .count = 0 };
        struct note note[3] = { { &notes, 0 }, { &notes, 1 }, { &notes, 2 } };
        struct counted_wait c[4];
        struct actor completer;

        for (int i = 0; i < 3; i++)
            EXPECT(sley_future_on_done(notes.f, take_note, &note[i]) == 0);
        for (int i = 0; i < 4; i++) {
            c[i] = (struct counted_wait){ .notes = &notes };
            if (i == 2)
                actor_start(&completer, do_complete, notes.f);
            actor_start(&c[i].actor, await_and_count, &c[i]);
        }
        for (int i = 0; i < 4; i++)
            EXPECT(actor_result(&c[i].actor) == 0 && c[i].seen == 3);
        EXPECT(actor_result(&completer) == 0);
        sley_future_destroy(notes.f);
    }
}

SCENARIO(callback_of_a_future_that_is_over_runs_at_once)
{
    struct notes notes = { .f = sley_future_create(0), .count = 0 };
    struct note note = { &notes, 9 };

    EXPECT(sley_future_complete(notes.f, NULL) == 0);
    EXPECT(sley_future_on_done(notes.f, take_note, &note) == 0);
    EXPECT(notes.count == 1 && notes.order[0] == 9 && notes.fiber[0] == sley_self());
    sley_future_destroy(notes.f);
}

static int add_another(void *arg)
{
    struct note *n = arg;

    take_note(n);
    EXPECT(sley_future_on_done(n->notes->f, take_note, n + 2) == 0);
    return 0;
}

SCENARIO(callback_added_by_a_callback_runs_behind_the_others)
{
    struct notes notes = { .f = sley_future_create(0), .count = 0 };
    struct note note[3] = { { &notes, 0 }, { &notes, 1 }, { &notes, 2 } };

    EXPECT(sley_future_on_done(notes.f, add_another, &note[0]) == 0);
    EXPECT(sley_future_on_done(notes.f, take_note, &note[1]) == 0);
    EXPECT(sley_future_complete(notes.f, NULL) == 0);
    EXPECT(notes.count == 3 && notes.order[0] == 0 && notes.order[1] == 1 && notes.order[2] == 2);
    sley_future_destroy(notes.f);
}

static int await_in_callback(void *arg)
{
    sley_future *f = arg;

    EXPECT(sley_await(f, SLEY_FOREVER) == -EIO && sley_await(f, SLEY_NOW) == -EIO && sley_wait_for(f, SLEY_FOREVER) == -EIO);
    EXPECT(sley_wait_any(&f, 1, SLEY_FOREVER) == 0 && sley_wait_all(&f, 1, SLEY_FOREVER) == 0 && sley_gather(&f, 1, SLEY_FOREVER) == -EIO);
    EXPECT(sley_future_complete(f, NULL) == -EALREADY && sley_future_cancel(f) == -EALREADY);
    return 0;
}

SCENARIO(callback_may_await_its_own_future)
{
    sley_future *f = sley_future_create(0);

    EXPECT(sley_future_on_done(f, await_in_callback, f) == 0);
    EXPECT(sley_future_fail(f, -EIO) == 0);
    sley_future_destroy(f);
}

static int destroy_in_callback(void *arg)
{
    sley_future_destroy(arg);
    return 0;
}

SCENARIO(callback_may_give_the_last_reference_back)
{
    sley_future *f = sley_future_create(0);

    EXPECT(sley_future_on_done(f, destroy_in_callback, f) == 0);
    EXPECT(sley_future_complete(f, NULL) == 0);
}

static int complete_in_callback(void *arg)
{
    return sley_future_complete(arg, NULL);
}

SCENARIO(callback_may_complete_another_future)
{
    sley_future *f = sley_future_create(0), *g = sley_future_create(0);
    struct call c;

    waiting(&c, g);
    EXPECT(sley_future_on_done(f, complete_in_callback, g) == 0);
    EXPECT(sley_future_complete(f, NULL) == 0);
    EXPECT(result(&c) == 0);
    sley_future_destroy(f);
    sley_future_destroy(g);
}

SCENARIO(callback_of_a_future_that_never_completes_does_not_run)
{
    struct notes notes = { .f = sley_future_create(0), .count = 0 };
    struct note note = { &notes, 0 };

    for (int i = 0; i < 5; i++)
        EXPECT(sley_future_on_done(notes.f, take_note, &note) == 0);
    sley_future_destroy(notes.f); /* their memory is freed */
    EXPECT(notes.count == 0);
}

struct held {
    sley_event running, go_on;
};

static int hold(void *arg)
{
    struct held *h = arg;

    sley_event_set(&h->running);
    EXPECT(sley_event_wait(&h->go_on, SLEY_FOREVER) == 0); /* a callback may wait */
    return 0;
}

/* While callbacks run: the state is known, who awaits waits on, who cannot wait takes the outcome, and a new callback gets in line. */
SCENARIO(callback_that_waits_holds_up_those_who_await)
{
    struct notes notes = { .f = sley_future_create(0), .count = 0 };
    struct held held = { .running = { { 0 } } };
    struct note note = { &notes, 5 };
    struct actor completer;
    struct call before, later;

    waiting(&before, notes.f);
    EXPECT(sley_future_on_done(notes.f, hold, &held) == 0);
    actor_start(&completer, do_fail, notes.f);
    EXPECT(sley_event_wait(&held.running, SLEY_FOREVER) == 0);
    EXPECT(sley_future_state(notes.f) == SLEY_FUTURE_FAILED);
    EXPECT(sley_await(notes.f, SLEY_NOW) == -EBADMSG);
    EXPECT(sley_await(notes.f, sley_after(SLEY_MS)) == -EBADMSG);
    EXPECT(sley_wait_any(&notes.f, 1, sley_after(SLEY_MS)) == 0 && sley_gather(&notes.f, 1, SLEY_NOW) == -EBADMSG);
    EXPECT(sley_future_cancel(notes.f) == -EALREADY);
    waiting(&later, notes.f);
    EXPECT(!before.actor.done);
    EXPECT(sley_future_on_done(notes.f, take_note, &note) == 0 && notes.count == 0);
    sley_event_set(&held.go_on);
    EXPECT(result(&before) == -EBADMSG && result(&later) == -EBADMSG);
    EXPECT(notes.count == 1);
    EXPECT(actor_result(&completer) == 0);
    sley_future_destroy(notes.f);
}

/* ---- failures that nobody looked at ---- */

static struct {
    _Atomic(int) count;
    int error;
    uint64_t fiber;
} told;

static void on_error(void *ctx, uint64_t fiber, const char *name, int error)
{
    (void)ctx;
    (void)name;
    told.fiber = fiber;
    told.error = error;
    told.count++;
}

static sley_future *failed(void)
{
    sley_future *f = sley_future_create(0);

    EXPECT(sley_future_fail(f, -EIO) == 0);
    return f;
}

static int look_and_do_not_look(void *arg)
{
    sley_future *f = failed(), *g;
    sley_case one;

    (void)arg;
    sley_future_destroy(f);
    EXPECT(told.count == 1 && told.error == -EIO && told.fiber == sley_self());

    EXPECT(sley_await(f = failed(), SLEY_NOW) == -EIO); /* each of these is a look */
    sley_future_destroy(f);
    EXPECT(sley_wait_for(f = failed(), SLEY_FOREVER) == -EIO);
    sley_future_destroy(f);
    EXPECT(sley_future_state(f = failed()) == SLEY_FUTURE_FAILED);
    sley_future_destroy(f);
    f = failed();
    EXPECT(sley_gather(&f, 1, SLEY_FOREVER) == -EIO);
    sley_future_destroy(f);
    one = sley_case_future(f = failed());
    EXPECT(sley_select(&one, 1, SLEY_FOREVER) == 0 && one.result == -EIO);
    sley_future_destroy(f);
    EXPECT(told.count == 1);

    f = failed(); /* these are none */
    EXPECT(sley_wait_any(&f, 1, SLEY_FOREVER) == 0 && sley_wait_all(&f, 1, SLEY_FOREVER) == 0);
    EXPECT(sley_future_on_done(f, nothing, NULL) == 0);
    g = sley_future_ref(f);
    sley_future_destroy(f);
    EXPECT(told.count == 1); /* somebody may still look */
    sley_future_destroy(g);
    EXPECT(told.count == 2);

    f = sley_future_create(0);
    EXPECT(sley_future_cancel(f) == 0);
    sley_future_destroy(f);
    f = sley_future_create(0);
    EXPECT(sley_future_complete(f, NULL) == 0);
    sley_future_destroy(f);
    EXPECT(told.count == 2); /* nothing of those is a failure */
    return 0;
}

static void failure_that_nobody_looked_at_is_reported(void **state)
{
    sley_options options = { .on_error = on_error };

    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(&options, look_and_do_not_look, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    assert_int_equal(told.count, 2);
    sley_future_destroy(failed()); /* a thread of no runtime has nobody to tell */
    assert_int_equal(told.count, 2);
}

/* ---- without memory ---- */

static _Atomic(struct sl_fiber *) without_memory; /* whose malloc fails */

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    return without_memory != NULL && without_memory == sl_current() ? NULL : __real_malloc(bytes);
}

SCENARIO(future_without_memory_says_so)
{
    sley_future *f[SEVERAL] = { NULL };
    struct notes notes = { .count = 0 };
    struct note note = { &notes, 1 };
    struct call c = { .all = f, .n = 2, .deadline = SLEY_FOREVER };
    int few, many;

    create_all(f, SEVERAL);
    notes.f = f[0];
    without_memory = sl_current();
    EXPECT(sley_future_create(1) == NULL);
    EXPECT(sley_task_create(nothing, NULL) == NULL && sley_task_create_copy(nothing, &c, sizeof c) == NULL);
    EXPECT(sley_future_on_done(f[0], take_note, &note) == -ENOMEM);
    EXPECT(sley_wait_any(f, SEVERAL, SLEY_FOREVER) == -ENOMEM && sley_gather(f, SEVERAL, SLEY_FOREVER) == -ENOMEM);
    EXPECT(sley_wait_any(f, SEVERAL, SLEY_NOW) == -ETIMEDOUT && sley_gather(f, SEVERAL, SLEY_NOW) == -ETIMEDOUT);
    few = sley_wait_any(f, 16, sley_after(SLEY_MS)); /* so many need none */
    many = sley_wait_all(f, SEVERAL, sley_after(SLEY_MS));
    without_memory = NULL;
    EXPECT(few == -ETIMEDOUT && many == -ETIMEDOUT && notes.count == 0);
    EXPECT(sley_future_state(f[0]) == SLEY_FUTURE_PENDING && sley_cancelled() == 0); /* nor was the scope told of the task */
    destroy_all(f, SEVERAL);
}

/* ---- bugs ---- */

static int destroy_under_a_waiter(void *arg)
{
    static struct call c;
    sley_future *f = sley_future_create(0);

    (void)arg;
    scene.cast = FIBERS;
    waiting(&c, f);
    sley_future_destroy(f);
    return 0;
}

static void last_reference_given_back_under_a_waiter_aborts(void **state)
{
    (void)state;
    assert_aborts("destroy", "sley_future_destroy");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(future_is_pending_until_it_is_completed),
        PLAYED(future_may_carry_nothing_or_much),
        PLAYED(future_fails_with_its_error),
        PLAYED(future_is_cancelled_by_cancel_alone),
        PLAYED(future_has_one_outcome),
        PLAYED(future_refuses_bad_arguments),
        PLAYED(future_complete_wakes_everybody),
        PLAYED(future_fail_wakes_everybody),
        PLAYED(future_cancel_wakes_everybody),
        PLAYED(await_ends_at_its_deadline_and_leaves_the_future_alone),
        PLAYED(future_may_be_freed_by_who_awaited),
        PLAYED(future_may_be_freed_by_who_saw_its_state),
        PLAYED(future_lives_until_the_last_reference),
        cmocka_unit_test(waits_end_with_their_runtime),
        PLAYED(wait_for_cancels_what_does_not_come_in_time),
        PLAYED(wait_for_gives_what_comes_in_time),
        cmocka_unit_test(wait_for_cancels_when_its_runtime_stops),
        PLAYED(wait_any_gives_the_index_of_one_that_has_an_outcome),
        PLAYED(wait_any_serves_as_they_complete),
        PLAYED(wait_any_wakes_each_of_several_who_wait),
        PLAYED(wait_all_waits_for_all_whatever_they_are),
        PLAYED(gather_waits_until_all_are_done),
        PLAYED(gather_ends_at_the_first_error),
        PLAYED(gather_takes_a_cancelled_one_for_an_error),
        PLAYED(waits_for_several_take_the_same_one_twice),
        PLAYED(waits_for_several_end_at_their_deadline),
        PLAYED(select_tells_a_futures_outcome),
        PLAYED(callbacks_run_in_order_on_the_completer_before_the_waiters),
        PLAYED(callbacks_have_run_when_an_await_returns),
        PLAYED(callback_of_a_future_that_is_over_runs_at_once),
        PLAYED(callback_added_by_a_callback_runs_behind_the_others),
        PLAYED(callback_may_await_its_own_future),
        PLAYED(callback_may_give_the_last_reference_back),
        PLAYED(callback_may_complete_another_future),
        PLAYED(callback_of_a_future_that_never_completes_does_not_run),
        PLAYED(callback_that_waits_holds_up_those_who_await),
        cmocka_unit_test(failure_that_nobody_looked_at_is_reported),
        PLAYED(future_without_memory_says_so),
        cmocka_unit_test(last_reference_given_back_under_a_waiter_aborts),
    };

    if (argc > 1 && strcmp(argv[1], "destroy") == 0)
        return sley_run(NULL, destroy_under_a_waiter, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
