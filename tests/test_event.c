/* test_event.c - events: set wakes all and stays, reset, deadlines, and that the event may die with the wait. */
#include "scenario.h"

struct call {
    struct actor actor;
    sley_event *e;
    sley_time deadline;
};

static int do_wait(void *arg)
{
    struct call *c = arg;
    return sley_event_wait(c->e, c->deadline);
}

static void waiting(struct call *c, sley_event *e)
{
    c->e = e;
    c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, do_wait, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5 }; /* more than a set wakes under one hold of the lock */

SCENARIO(event_of_zeroed_memory_is_not_set)
{
    sley_event e = { { 0 } };

    EXPECT(sley_event_is_set(&e) == 0);
    EXPECT(sley_event_wait(&e, SLEY_NOW) == -ETIMEDOUT);
    sley_event_fini(&e);
}

SCENARIO(event_set_wakes_everybody)
{
    static struct call c[MANY];
    sley_event e = { { 0 } };

    for (int i = 0; i < MANY; i++)
        waiting(&c[i], &e);
    sley_event_set(&e);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&c[i]) == 0);
    sley_event_fini(&e);
}

SCENARIO(event_stays_set_until_reset)
{
    sley_event e = { { 0 } };
    struct call c = { .e = NULL };

    sley_event_set(&e);
    sley_event_set(&e);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_event_is_set(&e) == 1 && sley_event_wait(&e, SLEY_NOW) == 0 && sley_event_wait(&e, SLEY_FOREVER) == 0);
    sley_event_reset(&e);
    sley_event_reset(&e);
    EXPECT(sley_event_is_set(&e) == 0 && sley_event_wait(&e, SLEY_NOW) == -ETIMEDOUT);
    waiting(&c, &e);
    sley_event_set(&e);
    EXPECT(result(&c) == 0);
    sley_event_fini(&e);
}

/* Everybody that waited before the set is woken by it, whatever the reset right after it. */
SCENARIO(event_pulse_wakes_those_that_waited)
{
    static struct call c[MANY];
    sley_event e = { { 0 } };

    for (int i = 0; i < MANY; i++)
        waiting(&c[i], &e);
    sley_event_set(&e);
    sley_event_reset(&e);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&c[i]) == 0);
    EXPECT(sley_event_wait(&e, SLEY_NOW) == -ETIMEDOUT);
    sley_event_fini(&e);
}

SCENARIO(event_wait_ends_at_its_deadline)
{
    sley_event e = { { 0 } };
    sley_time deadline = sley_after(2 * SLEY_MS);

    EXPECT(sley_event_wait(&e, deadline) == -ETIMEDOUT);
    EXPECT(sley_now() >= deadline);
    EXPECT(sley_event_wait(&e, deadline) == -ETIMEDOUT);
    sley_event_fini(&e); /* nobody is left in its list */
    sley_event_set(&e);
    EXPECT(sley_event_wait(&e, deadline) == 0); /* what need not wait does not ask the time */
}

SCENARIO(event_refuses_bad_arguments)
{
    sley_event e = { { 0 } };

    sley_event_set(&e);
    EXPECT(sley_event_wait(&e, 1) == -EINVAL && sley_event_wait(&e, -1) == -EINVAL && sley_event_wait(&e, 5 * SLEY_MS) == -EINVAL);
    EXPECT(sley_event_wait(NULL, SLEY_FOREVER) == -EINVAL && sley_event_is_set(NULL) == -EINVAL);
    sley_event_fini(NULL);
}

static int do_set(void *arg)
{
    sley_event_set(arg);
    return 0;
}

/* Once the wait has returned the memory is the waiter's, whatever the setter still has to do. */
SCENARIO(event_may_be_freed_by_who_waited)
{
    for (int round = 0; round < 200; round++) {
        sley_event *e = calloc(1, sizeof *e);
        struct actor setter;

        actor_start(&setter, do_set, e);
        EXPECT(sley_event_wait(e, SLEY_FOREVER) == 0);
        memset(e, 0xee, sizeof *e);
        EXPECT(actor_result(&setter) == 0);
        EXPECT(is_untouched(e, sizeof *e));
        free(e);
    }
}

static void event_wait_ends_with_its_runtime(void **state)
{
    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        sley_event e = { { 0 } };
        struct call c = { .e = &e, .deadline = SLEY_FOREVER };

        assert_int_equal(result_of_stopped(on_thread, do_wait, &c), -ECANCELED);
        sley_event_fini(&e);
    }
}

static int fini_under_a_waiter(void *arg)
{
    static struct call c;
    static sley_event e;

    (void)arg;
    scene.cast = FIBERS;
    waiting(&c, &e);
    sley_event_fini(&e);
    return 0;
}

static void event_fini_while_somebody_waits_aborts(void **state)
{
    (void)state;
    assert_aborts("fini", "sley_event_fini");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(event_of_zeroed_memory_is_not_set),
        PLAYED(event_set_wakes_everybody),
        PLAYED(event_stays_set_until_reset),
        PLAYED(event_pulse_wakes_those_that_waited),
        PLAYED(event_wait_ends_at_its_deadline),
        PLAYED(event_refuses_bad_arguments),
        PLAYED(event_may_be_freed_by_who_waited),
        cmocka_unit_test(event_wait_ends_with_its_runtime),
        cmocka_unit_test(event_fini_while_somebody_waits_aborts),
    };

    if (argc > 1 && strcmp(argv[1], "fini") == 0)
        return sley_run(NULL, fini_under_a_waiter, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
