/* test_once.c - once: one run, its result for everybody, and waits for it that end by themselves. */
#include "scenario.h"

static struct {
    sley_once once;
    _Atomic(int) runs, begun, may_end;
    int result;
} work;

static int run(void *arg)
{
    (void)arg;
    work.runs++;
    work.begun = 1;
    while (!work.may_end)
        give_way();
    return work.result;
}

struct call {
    struct actor actor;
    sley_time deadline;
};

static int do_run(void *arg)
{
    struct call *c = arg;
    return sley_once_run(&work.once, run, NULL, c->deadline);
}

static void prepare(int result)
{
    memset(&work, 0, sizeof work);
    work.result = result;
}

static void start(struct call *c, sley_time deadline)
{
    c->deadline = deadline;
    actor_start(&c->actor, do_run, c);
}

static void running(struct call *c, sley_time deadline)
{
    start(c, deadline);
    while (!work.begun)
        give_way();
}

static void waiting(struct call *c)
{
    start(c, SLEY_FOREVER);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5 }; /* more than are woken under one hold of the lock */

SCENARIO(once_runs_once_and_everybody_gets_the_result)
{
    static const int results[] = { 0, 42, -EIO };

    for (int i = 0; i < 3; i++) {
        static struct call first, c[MANY];

        prepare(results[i]);
        running(&first, SLEY_FOREVER);
        for (int k = 0; k < MANY; k++)
            waiting(&c[k]);
        work.may_end = 1;
        EXPECT(result(&first) == results[i]);
        for (int k = 0; k < MANY; k++)
            EXPECT(result(&c[k]) == results[i]);
        EXPECT(sley_once_run(&work.once, run, NULL, SLEY_NOW) == results[i]); /* also an error: it does not run again */
        EXPECT(work.runs == 1);
    }
}

SCENARIO(once_first_caller_runs_whatever_its_deadline)
{
    prepare(7);
    work.may_end = 1;
    EXPECT(sley_once_run(&work.once, run, NULL, SLEY_NOW) == 7 && work.runs == 1);
}

SCENARIO(once_wait_for_the_runner_ends_at_its_deadline_and_the_run_goes_on)
{
    struct call first, hasty, slow;

    prepare(3);
    running(&first, sley_after(SLEY_MS)); /* that is for waiting, and it does not wait */
    start(&hasty, SLEY_NOW);
    EXPECT(result(&hasty) == -ETIMEDOUT);
    start(&slow, sley_after(2 * SLEY_MS));
    EXPECT(result(&slow) == -ETIMEDOUT && sley_now() >= slow.deadline);
    EXPECT(!first.actor.done);
    work.may_end = 1;
    EXPECT(result(&first) == 3 && work.runs == 1);
}

static int run_itself_again(void *arg)
{
    int rc = sley_once_run(&work.once, run_itself_again, arg, SLEY_FOREVER);

    EXPECT(rc == -EDEADLK);
    EXPECT(sley_once_run(&work.once, run, arg, SLEY_NOW) == -EDEADLK);
    return rc == -EDEADLK ? 5 : rc;
}

SCENARIO(once_function_that_calls_itself_is_told)
{
    prepare(0);
    EXPECT(sley_once_run(&work.once, run_itself_again, NULL, SLEY_FOREVER) == 5);
    EXPECT(sley_once_run(&work.once, run, NULL, SLEY_FOREVER) == 5 && work.runs == 0);
}

SCENARIO(once_refuses_bad_arguments)
{
    prepare(0);
    EXPECT(sley_once_run(NULL, run, NULL, SLEY_FOREVER) == -EINVAL && sley_once_run(&work.once, NULL, NULL, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_once_run(&work.once, run, NULL, 1) == -EINVAL && sley_once_run(&work.once, run, NULL, 5 * SLEY_MS) == -EINVAL);
    EXPECT(work.runs == 0);
}

static struct call runner;

static int wait_for_runner(void *arg)
{
    return do_run(arg);
}

static void once_wait_ends_with_its_runtime(void **state)
{
    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        struct call c = { .deadline = SLEY_FOREVER };

        prepare(9);
        scene.cast = THREADS;
        running(&runner, SLEY_FOREVER);
        assert_int_equal(result_of_stopped(on_thread, wait_for_runner, &c), -ECANCELED);
        work.may_end = 1;
        assert_int_equal(result(&runner), 9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(once_runs_once_and_everybody_gets_the_result),
        PLAYED(once_first_caller_runs_whatever_its_deadline),
        PLAYED(once_wait_for_the_runner_ends_at_its_deadline_and_the_run_goes_on),
        PLAYED(once_function_that_calls_itself_is_told),
        PLAYED(once_refuses_bad_arguments),
        cmocka_unit_test(once_wait_ends_with_its_runtime),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
