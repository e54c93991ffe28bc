/* test_signal.c - waiting for signals: everybody who waits gets one, what nobody waits for is kept, release restores. */
#include "io_scenario.h"

struct wait_call {
    struct actor actor;
    uint64_t set;
    sley_time deadline;
};

static int call_wait(void *arg)
{
    struct wait_call *c = arg;
    return sley_signal_wait(c->set, c->deadline);
}

/* Start a waiter and go on once it waits: for the bell, or in the list. */
static void waiting(struct wait_call *c, uint64_t set)
{
    c->set = set;
    if (c->deadline == 0)
        c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, call_wait, c);
    EXPECT(call_waits(&c->actor));
}

static int result(struct wait_call *c) { return actor_result(&c->actor); }

/* Every scenario begins and ends with the signals as they were. */
static void release(void) { sley_signal_release(SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2) | SLEY_SIG(SIGRTMIN)); }

SCENARIO(a_signal_wakes_who_waits_for_it)
{
    struct wait_call c = { .deadline = 0 };

    for (int i = 0; i < 50; i++) {
        waiting(&c, SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2));
        EXPECT(kill(getpid(), i % 2 ? SIGUSR1 : SIGUSR2) == 0);
        EXPECT(result(&c) == (i % 2 ? SIGUSR1 : SIGUSR2));
    }
    release();
}

SCENARIO(several_waiters_all_get_it)
{
    static struct wait_call c[10];
    struct wait_call other = { .deadline = 0 };

    memset(c, 0, sizeof c);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 10; i++) {
            waiting(&c[i], SLEY_SIG(SIGUSR1));
            if (i == 3 && round == 0)
                waiting(&other, SLEY_SIG(SIGUSR2));
        }
        EXPECT(kill(getpid(), SIGUSR1) == 0);
        for (int i = 0; i < 10; i++)
            EXPECT(result(&c[i]) == SIGUSR1);
    }
    EXPECT(!other.actor.done);
    EXPECT(kill(getpid(), SIGUSR2) == 0 && result(&other) == SIGUSR2);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_NOW) == -ETIMEDOUT);
    release();
}

SCENARIO(a_signal_that_nobody_waits_for_is_kept)
{
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2), SLEY_NOW) == -ETIMEDOUT);
    EXPECT(kill(getpid(), SIGUSR1) == 0 && kill(getpid(), SIGUSR2) == 0);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR2), SLEY_FOREVER) == SIGUSR2);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR2) | SLEY_SIG(SIGUSR1), SLEY_FOREVER) == SIGUSR1);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR2) | SLEY_SIG(SIGUSR1), SLEY_NOW) == -ETIMEDOUT);
    release();
}

SCENARIO(a_wait_that_timed_out_has_taken_nothing)
{
    struct wait_call c = { .deadline = 0 };

    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), sley_after(SLEY_MS)) == -ETIMEDOUT);
    waiting(&c, SLEY_SIG(SIGUSR2));
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(kill(getpid(), SIGUSR1) == 0);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_FOREVER) == SIGUSR1);
    EXPECT(kill(getpid(), SIGUSR2) == 0 && result(&c) == SIGUSR2);
    release();
}

/* Whoever listens for the others may leave first. */
SCENARIO(the_listener_may_leave)
{
    struct wait_call first, second, third;

    for (int i = 0; i < 20; i++) {
        memset(&first, 0, sizeof first);
        memset(&second, 0, sizeof second);
        memset(&third, 0, sizeof third);
        first.deadline = sley_after(2 * SLEY_MS);
        actor_start(&first.actor, call_wait, (first.set = SLEY_SIG(SIGUSR1), &first));
        waiting(&second, SLEY_SIG(SIGUSR1));
        waiting(&third, SLEY_SIG(SIGUSR2));
        EXPECT(result(&first) == -ETIMEDOUT);
        EXPECT(kill(getpid(), SIGUSR1) == 0 && result(&second) == SIGUSR1);
        EXPECT(kill(getpid(), SIGUSR2) == 0 && result(&third) == SIGUSR2);
    }
    release();
}

static volatile sig_atomic_t old_handler_ran;

static void old_handler(int signo) { old_handler_ran = signo; }

SCENARIO(release_restores_what_was_before)
{
    struct sigaction now;

    signal(SIGUSR1, old_handler);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler != old_handler);
    sley_signal_release(SLEY_SIG(SIGUSR1));
    EXPECT(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == old_handler);
    sley_signal_release(SLEY_SIG(SIGUSR1));
    EXPECT(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == old_handler);
    signal(SIGUSR1, SIG_DFL);
}

/* On a plain thread, where raise is delivered before it returns. */
static void release_forgets_what_came_body(void)
{
    signal(SIGUSR1, old_handler);
    old_handler_ran = 0;
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_NOW) == -ETIMEDOUT);
    EXPECT(raise(SIGUSR1) == 0 && old_handler_ran == 0);
    release();
    EXPECT(raise(SIGUSR1) == 0 && old_handler_ran == SIGUSR1);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_NOW) == -ETIMEDOUT);
    release();
    signal(SIGUSR1, SIG_DFL);
}

static void release_forgets_what_came(void **state) { play(release_forgets_what_came_body, THREADS); }

/* A child that makes a runtime of its own waits on its own bell, whatever the parent waits for. */
static void a_forked_child_waits_for_its_own_signals(void **state)
{
    int status;
    pid_t pid;

    play(a_signal_wakes_who_waits_for_it_body, THREADS);
    pid = fork();
    if (pid == 0) {
        void (*body)(void) = a_signal_wakes_who_waits_for_it_body;

        scene.cast = FIBER_AND_THREADS;
        _exit(sley_run(NULL, play_body, &body) != 0 || scene.unmet != NULL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    play(a_signal_wakes_who_waits_for_it_body, THREADS);
}

SCENARIO(impossible_sets_are_refused)
{
    EXPECT(sley_signal_wait(0, SLEY_NOW) == -EINVAL);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGKILL), SLEY_NOW) == -EINVAL && sley_signal_wait(SLEY_SIG(SIGSTOP), SLEY_NOW) == -EINVAL);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_S) == -EINVAL);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGRTMIN), SLEY_NOW) == -ETIMEDOUT);
    release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_signal_wakes_who_waits_for_it),
        PLAYED(several_waiters_all_get_it),
        PLAYED(a_signal_that_nobody_waits_for_is_kept),
        PLAYED(a_wait_that_timed_out_has_taken_nothing),
        PLAYED(the_listener_may_leave),
        PLAYED(release_restores_what_was_before),
        cmocka_unit_test(release_forgets_what_came),
        cmocka_unit_test(a_forked_child_waits_for_its_own_signals),
        PLAYED(impossible_sets_are_refused),
    };

    return cmocka_run_group_tests_name("signal", tests, NULL, NULL);
}
