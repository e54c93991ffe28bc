/* test_waitgroup.c - wait groups: the count, all waiters, again and again, deadlines, and that the group may die with the wait. */
#include "scenario.h"

struct call {
    struct actor actor;
    sley_waitgroup *w;
};

static int do_wait(void *arg)
{
    struct call *c = arg;
    return sley_waitgroup_wait(c->w, SLEY_FOREVER);
}

static int do_done(void *arg)
{
    sley_waitgroup_done(arg);
    return 0;
}

static void waiting(struct call *c, sley_waitgroup *w)
{
    c->w = w;
    actor_start(&c->actor, do_wait, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5 }; /* more than a done wakes under one hold of the lock */

SCENARIO(waitgroup_of_zeroed_memory_counts_nothing)
{
    sley_waitgroup w = { { 0 } };

    EXPECT(sley_waitgroup_wait(&w, SLEY_NOW) == 0 && sley_waitgroup_wait(&w, SLEY_FOREVER) == 0);
    sley_waitgroup_add(&w, 0);
    EXPECT(sley_waitgroup_wait(&w, SLEY_FOREVER) == 0);
    sley_waitgroup_fini(&w);
}

SCENARIO(waitgroup_wait_returns_at_the_last_done)
{
    sley_waitgroup w = { { 0 } };
    struct call c = { .w = NULL };

    sley_waitgroup_add(&w, 2);
    sley_waitgroup_add(&w, 1);
    waiting(&c, &w);
    for (int i = 0; i < 2; i++) {
        sley_waitgroup_done(&w);
        EXPECT(sley_waitgroup_wait(&w, SLEY_NOW) == -ETIMEDOUT);
        actor_waits(&c.actor); /* it still does */
    }
    sley_waitgroup_done(&w);
    EXPECT(result(&c) == 0);
    sley_waitgroup_fini(&w);
}

SCENARIO(waitgroup_last_done_wakes_everybody)
{
    static struct call c[MANY];
    sley_waitgroup w = { { 0 } };

    sley_waitgroup_add(&w, 1);
    for (int i = 0; i < MANY; i++)
        waiting(&c[i], &w);
    sley_waitgroup_done(&w);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&c[i]) == 0);
    sley_waitgroup_fini(&w);
}

SCENARIO(waitgroup_counts_again_after_zero)
{
    enum { ENDS = 20 };
    static struct actor a[ENDS];
    sley_waitgroup w = { { 0 } };

    for (int round = 0; round < 20; round++) {
        sley_waitgroup_add(&w, ENDS);
        for (int i = 0; i < ENDS; i++)
            actor_start(&a[i], do_done, &w);
        EXPECT(sley_waitgroup_wait(&w, SLEY_FOREVER) == 0);
        for (int i = 0; i < ENDS; i++)
            EXPECT(actor_result(&a[i]) == 0);
    }
    sley_waitgroup_fini(&w);
}

SCENARIO(waitgroup_zero_wakes_those_that_waited_for_it)
{
    static struct call c[MANY];
    sley_waitgroup w = { { 0 } };

    sley_waitgroup_add(&w, 1);
    for (int i = 0; i < MANY; i++)
        waiting(&c[i], &w);
    sley_waitgroup_done(&w);
    sley_waitgroup_add(&w, 1); /* the next round has begun */
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&c[i]) == 0);
    EXPECT(sley_waitgroup_wait(&w, SLEY_NOW) == -ETIMEDOUT);
    sley_waitgroup_done(&w);
    sley_waitgroup_fini(&w);
}

SCENARIO(waitgroup_wait_ends_at_its_deadline)
{
    sley_waitgroup w = { { 0 } };
    sley_time deadline = sley_after(2 * SLEY_MS);

    sley_waitgroup_add(&w, 1);
    EXPECT(sley_waitgroup_wait(&w, deadline) == -ETIMEDOUT);
    EXPECT(sley_now() >= deadline);
    EXPECT(sley_waitgroup_wait(&w, deadline) == -ETIMEDOUT);
    sley_waitgroup_fini(&w); /* nobody is left in its list */
    sley_waitgroup_done(&w);
    EXPECT(sley_waitgroup_wait(&w, deadline) == 0); /* what need not wait does not ask the time */
}

SCENARIO(waitgroup_refuses_bad_arguments)
{
    sley_waitgroup w = { { 0 } };

    EXPECT(sley_waitgroup_wait(&w, 1) == -EINVAL && sley_waitgroup_wait(&w, -1) == -EINVAL);
    EXPECT(sley_waitgroup_wait(NULL, SLEY_FOREVER) == -EINVAL);
    sley_waitgroup_fini(NULL);
}

/* Once the wait has returned the memory is the waiter's, whatever the last done still has to do. */
SCENARIO(waitgroup_may_be_freed_by_who_waited)
{
    for (int round = 0; round < 200; round++) {
        sley_waitgroup *w = calloc(1, sizeof *w);
        struct actor a[2];

        sley_waitgroup_add(w, 2);
        for (int i = 0; i < 2; i++)
            actor_start(&a[i], do_done, w);
        EXPECT(sley_waitgroup_wait(w, SLEY_FOREVER) == 0);
        memset(w, 0xee, sizeof *w);
        for (int i = 0; i < 2; i++)
            EXPECT(actor_result(&a[i]) == 0);
        EXPECT(is_untouched(w, sizeof *w));
        free(w);
    }
}

static void waitgroup_wait_ends_with_its_runtime(void **state)
{
    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        sley_waitgroup w = { { 0 } };
        struct call c = { .w = &w };

        sley_waitgroup_add(&w, 1);
        assert_int_equal(result_of_stopped(on_thread, do_wait, &c), -ECANCELED);
        sley_waitgroup_fini(&w);
    }
}

static int abuse(void *arg)
{
    static struct call c;
    static sley_waitgroup w;

    scene.cast = FIBERS;
    if (strcmp(arg, "done") == 0) {
        sley_waitgroup_add(&w, 1);
        sley_waitgroup_done(&w);
        sley_waitgroup_done(&w);
    } else if (strcmp(arg, "negative") == 0) {
        sley_waitgroup_add(&w, 5);
        sley_waitgroup_add(&w, -1);
    } else if (strcmp(arg, "overflow") == 0) {
        sley_waitgroup_add(&w, INT_MAX);
        sley_waitgroup_add(&w, 1);
    } else {
        sley_waitgroup_add(&w, 1);
        waiting(&c, &w);
        sley_waitgroup_fini(&w);
    }
    return 0;
}

static void waitgroup_done_below_zero_aborts(void **state)
{
    (void)state;
    assert_aborts("done", "sley_waitgroup_done");
}

static void waitgroup_add_of_a_negative_number_aborts(void **state)
{
    (void)state;
    assert_aborts("negative", "sley_waitgroup_add");
}

static void waitgroup_add_beyond_an_int_aborts(void **state)
{
    (void)state;
    assert_aborts("overflow", "sley_waitgroup_add");
}

static void waitgroup_fini_while_somebody_waits_aborts(void **state)
{
    (void)state;
    assert_aborts("fini", "sley_waitgroup_fini");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(waitgroup_of_zeroed_memory_counts_nothing),
        PLAYED(waitgroup_wait_returns_at_the_last_done),
        PLAYED(waitgroup_last_done_wakes_everybody),
        PLAYED(waitgroup_counts_again_after_zero),
        PLAYED(waitgroup_zero_wakes_those_that_waited_for_it),
        PLAYED(waitgroup_wait_ends_at_its_deadline),
        PLAYED(waitgroup_refuses_bad_arguments),
        PLAYED(waitgroup_may_be_freed_by_who_waited),
        cmocka_unit_test(waitgroup_wait_ends_with_its_runtime),
        cmocka_unit_test(waitgroup_done_below_zero_aborts),
        cmocka_unit_test(waitgroup_add_of_a_negative_number_aborts),
        cmocka_unit_test(waitgroup_add_beyond_an_int_aborts),
        cmocka_unit_test(waitgroup_fini_while_somebody_waits_aborts),
    };

    if (argc > 1)
        return sley_run(NULL, abuse, argv[1]) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
