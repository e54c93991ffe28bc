/* test_cond.c - conditions: the mutex is free while one waits and held on return, who is woken by what, deadlines, cancels, misuse. */
#include "scenario.h"

struct call {
    struct actor actor;
    sley_cond *c;
    sley_mutex *m;
    sley_time deadline;
};

/* Waits once; the mutex must be held after it, whatever it says. */
static int do_wait(void *arg)
{
    struct call *call = arg;
    int rc;

    EXPECT(sley_mutex_lock(call->m, SLEY_FOREVER) == 0);
    rc = sley_cond_wait(call->c, call->m, call->deadline);
    EXPECT(sley_mutex_lock(call->m, SLEY_NOW) == -EDEADLK);
    sley_mutex_unlock(call->m);
    return rc;
}

static void waiting(struct call *call, sley_cond *c, sley_mutex *m)
{
    call->c = c;
    call->m = m;
    call->deadline = SLEY_FOREVER;
    actor_start(&call->actor, do_wait, call);
    actor_waits(&call->actor);
    /* It may be the mutex that it waits for; once we have held that, it is not. */
    EXPECT(sley_mutex_lock(m, SLEY_FOREVER) == 0);
    sley_mutex_unlock(m);
    actor_waits(&call->actor);
}

static int result(struct call *call) { return actor_result(&call->actor); }

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5 }; /* more than a broadcast wakes under one hold of the lock */

SCENARIO(cond_wait_lets_go_of_the_mutex)
{
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };
    struct call call;

    waiting(&call, &c, &m);
    EXPECT(sley_mutex_lock(&m, SLEY_NOW) == 0);
    sley_cond_signal(&c);
    while (call.actor.block == NULL) /* while we hold it, it cannot return */
        give_way();
    for (int i = 0; i < 100; i++)
        give_way();
    EXPECT(!call.actor.done);
    sley_mutex_unlock(&m);
    EXPECT(result(&call) == 0);
    sley_cond_fini(&c);
    sley_mutex_fini(&m);
}

SCENARIO(cond_signal_wakes_one_in_order)
{
    enum { WAITERS = 5 };
    struct call call[WAITERS];
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };

    for (int i = 0; i < WAITERS; i++)
        waiting(&call[i], &c, &m);
    for (int i = 0; i < WAITERS; i++) {
        sley_cond_signal(&c);
        EXPECT(result(&call[i]) == 0);
        for (int later = i + 1; later < WAITERS; later++)
            EXPECT(!call[later].actor.done);
    }
    sley_cond_fini(&c);
}

SCENARIO(cond_broadcast_wakes_all_that_wait)
{
    static struct call call[MANY];
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };

    for (int i = 0; i < MANY; i++)
        waiting(&call[i], &c, &m);
    sley_cond_broadcast(&c);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&call[i]) == 0);
    sley_cond_fini(&c);
    sley_mutex_fini(&m);
}

SCENARIO(cond_signal_for_nobody_is_forgotten)
{
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };

    sley_cond_signal(&c);
    sley_cond_broadcast(&c);
    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    EXPECT(sley_cond_wait(&c, &m, sley_after(SLEY_MS)) == -ETIMEDOUT);
    sley_mutex_unlock(&m);
    sley_cond_fini(&c);
}

SCENARIO(cond_wait_ends_at_its_deadline_and_holds_the_mutex)
{
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };
    sley_time deadline = sley_after(2 * SLEY_MS);

    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    EXPECT(sley_cond_wait(&c, &m, deadline) == -ETIMEDOUT);
    EXPECT(sley_now() >= deadline);
    EXPECT(sley_cond_wait(&c, &m, deadline) == -ETIMEDOUT && sley_cond_wait(&c, &m, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_mutex_lock(&m, SLEY_NOW) == -EDEADLK);
    sley_mutex_unlock(&m);
    sley_cond_fini(&c); /* nobody is left in its list */
    sley_mutex_fini(&m);
}

/* However late: who waits has to have the mutex again, and the deadline does not spare it that. */
SCENARIO(cond_wait_returns_with_the_mutex_though_its_time_has_passed)
{
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };
    struct call call = { .c = &c, .m = &m, .deadline = sley_after(3 * SLEY_MS) };

    actor_start(&call.actor, do_wait, &call);
    actor_waits_or_ended(&call.actor);
    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    while (sley_now() < call.deadline + 2 * SLEY_MS)
        give_way();
    sley_mutex_unlock(&m);
    EXPECT(result(&call) == -ETIMEDOUT);
}

SCENARIO(cond_signal_passes_by_who_has_given_up)
{
    struct call first, hasty, last;
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };

    waiting(&first, &c, &m);
    hasty = (struct call){ .c = &c, .m = &m, .deadline = sley_after(2 * SLEY_MS) };
    actor_start(&hasty.actor, do_wait, &hasty);
    actor_waits_or_ended(&hasty.actor);
    waiting(&last, &c, &m);
    EXPECT(result(&hasty) == -ETIMEDOUT);
    sley_cond_signal(&c);
    sley_cond_signal(&c);
    EXPECT(result(&first) == 0 && result(&last) == 0);
    sley_cond_fini(&c);
}

SCENARIO(cond_refuses_bad_arguments)
{
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };

    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    EXPECT(sley_cond_wait(&c, &m, 1) == -EINVAL && sley_cond_wait(&c, &m, -1) == -EINVAL && sley_cond_wait(&c, &m, 5 * SLEY_MS) == -EINVAL);
    EXPECT(sley_cond_wait(NULL, &m, SLEY_FOREVER) == -EINVAL && sley_cond_wait(&c, NULL, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_mutex_lock(&m, SLEY_NOW) == -EDEADLK); /* refused: still held */
    sley_mutex_unlock(&m);
    sley_cond_fini(NULL);
}

/* A signal that comes just when one lets go of the mutex is not lost: each of these waits is ended by one. */
static struct {
    sley_cond c;
    sley_mutex m;
    int full, taken;
} box;

enum { PARCELS = 3000 };

static int take_parcels(void *arg)
{
    for (int i = 0; i < PARCELS; i++) {
        EXPECT(sley_mutex_lock(&box.m, SLEY_FOREVER) == 0);
        while (!box.full)
            EXPECT(sley_cond_wait(&box.c, &box.m, SLEY_FOREVER) == 0);
        box.full = 0;
        box.taken++;
        sley_mutex_unlock(&box.m);
        sley_cond_broadcast(&box.c);
    }
    (void)arg;
    return 0;
}

SCENARIO(cond_signal_while_one_begins_to_wait_is_not_lost)
{
    struct actor taker;

    memset(&box, 0, sizeof box);
    actor_start(&taker, take_parcels, NULL);
    for (int i = 0; i < PARCELS; i++) {
        EXPECT(sley_mutex_lock(&box.m, SLEY_FOREVER) == 0);
        while (box.full)
            EXPECT(sley_cond_wait(&box.c, &box.m, SLEY_FOREVER) == 0);
        box.full = 1;
        sley_mutex_unlock(&box.m);
        sley_cond_signal(&box.c); /* two are there, and one of them is us */
    }
    EXPECT(actor_result(&taker) == 0 && box.taken == PARCELS);
    sley_cond_fini(&box.c);
    sley_mutex_fini(&box.m);
}

struct done {
    sley_cond c;
    sley_mutex m;
    int is_done;
};

static int say_done(void *arg)
{
    struct done *d = arg;

    EXPECT(sley_mutex_lock(&d->m, SLEY_FOREVER) == 0);
    d->is_done = 1;
    sley_cond_signal(&d->c);
    sley_mutex_unlock(&d->m);
    return 0;
}

/* Once the wait has returned and the mutex is unlocked, both are the waiter's, whatever the other still has to do. */
SCENARIO(cond_and_mutex_may_be_freed_by_who_waited)
{
    for (int round = 0; round < 300; round++) {
        struct done *d = calloc(1, sizeof *d);
        struct actor a;

        actor_start(&a, say_done, d);
        EXPECT(sley_mutex_lock(&d->m, SLEY_FOREVER) == 0);
        while (!d->is_done)
            EXPECT(sley_cond_wait(&d->c, &d->m, SLEY_FOREVER) == 0);
        sley_mutex_unlock(&d->m);
        memset(d, 0xee, sizeof *d);
        EXPECT(actor_result(&a) == 0);
        EXPECT(is_untouched(d, sizeof *d));
        free(d);
    }
}

/* --- cancelling ---------------------------------------------------------------------------------------------------------------- */

static void cond_wait_ends_with_its_runtime_and_holds_the_mutex(void **state)
{
    (void)state;
    scene.unmet = NULL;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        sley_cond c = { { 0 } };
        sley_mutex m = { { 0 } };
        struct call call = { .c = &c, .m = &m, .deadline = SLEY_FOREVER };

        assert_int_equal(result_of_stopped(on_thread, do_wait, &call), -ECANCELED);
        sley_cond_fini(&c);
        sley_mutex_fini(&m);
    }
    assert_null(scene.unmet);
}

static struct {
    sley_scope scope;
    _Atomic(int) open;
} cancelled;

static int wait_in_scope(void *arg)
{
    int rc;

    sley_scope_init(&cancelled.scope, SLEY_FOREVER);
    cancelled.open = 1;
    rc = do_wait(arg);
    EXPECT(rc == -ECANCELED && do_wait(arg) == -ECANCELED);
    EXPECT(sley_scope_wait(&cancelled.scope, 0, SLEY_FOREVER) == 0);
    return rc;
}

/* The cancel comes at once, the mutex late: nothing is returned without it. */
static int cancel_who_waits(void *arg)
{
    sley_cond c = { { 0 } };
    sley_mutex m = { { 0 } };
    struct call call = { .c = &c, .m = &m, .deadline = SLEY_FOREVER };

    (void)arg;
    scene.cast = FIBERS;
    cancelled.open = 0;
    actor_start(&call.actor, wait_in_scope, &call);
    while (!cancelled.open)
        give_way();
    actor_waits(&call.actor);
    EXPECT(sley_mutex_lock(&m, SLEY_FOREVER) == 0);
    actor_waits(&call.actor);
    sley_scope_cancel(&cancelled.scope);
    actor_waits(&call.actor); /* for the mutex */
    EXPECT(!call.actor.done);
    sley_mutex_unlock(&m);
    EXPECT(result(&call) == -ECANCELED);
    return 0;
}

static void cond_wait_that_is_cancelled_has_the_mutex_again(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, cancel_who_waits, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* --- misuse -------------------------------------------------------------------------------------------------------------------- */

static sley_cond misused;
static sley_mutex its_mutex;

static int wait_without_mutex(void *arg)
{
    (void)arg;
    sley_fiber_set_name("clumsy");
    return sley_cond_wait(&misused, &its_mutex, SLEY_FOREVER);
}

static int fini_under_a_waiter(void *arg)
{
    static struct call call;

    (void)arg;
    scene.cast = FIBERS;
    waiting(&call, &misused, &its_mutex);
    sley_cond_fini(&misused);
    return 0;
}

static void cond_misuse_names_fiber_and_call(void **state)
{
    (void)state;
    assert_aborts("mutex", "\"clumsy\" on worker 0: sley_cond_wait: the caller does not hold the mutex");
    assert_aborts("fini", "sley_cond_fini: somebody waits for the condition");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(cond_wait_lets_go_of_the_mutex),
        PLAYED(cond_signal_wakes_one_in_order),
        PLAYED(cond_broadcast_wakes_all_that_wait),
        PLAYED(cond_signal_for_nobody_is_forgotten),
        PLAYED(cond_wait_ends_at_its_deadline_and_holds_the_mutex),
        PLAYED(cond_wait_returns_with_the_mutex_though_its_time_has_passed),
        PLAYED(cond_signal_passes_by_who_has_given_up),
        PLAYED(cond_refuses_bad_arguments),
        PLAYED(cond_signal_while_one_begins_to_wait_is_not_lost),
        PLAYED(cond_and_mutex_may_be_freed_by_who_waited),
        cmocka_unit_test(cond_wait_ends_with_its_runtime_and_holds_the_mutex),
        cmocka_unit_test(cond_wait_that_is_cancelled_has_the_mutex_again),
        cmocka_unit_test(cond_misuse_names_fiber_and_call),
    };

    if (argc > 1 && strcmp(argv[1], "mutex") == 0)
        return sley_run(&(sley_options){ .workers = 1 }, wait_without_mutex, NULL) < 0;
    if (argc > 1 && strcmp(argv[1], "fini") == 0)
        return sley_run(&(sley_options){ .workers = 1 }, fini_under_a_waiter, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
