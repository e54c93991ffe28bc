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

/* Start a waiter and go on once it waits. */
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

static int wakes = 50; /* each takes some turns of the scheduler: on a machine that is busy with others a second */

SCENARIO(a_signal_wakes_who_waits_for_it)
{
    struct wait_call c = { .deadline = 0 };

    for (int i = 0; i < wakes; i++) {
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

/* More than are woken under one hold of the lock, between others who wait for something else. */
SCENARIO(very_many_waiters_all_get_it)
{
    enum { MANY = 70 };
    static struct wait_call c[MANY], others[MANY];

    memset(c, 0, sizeof c);
    memset(others, 0, sizeof others);
    for (int i = 0; i < MANY; i++) {
        waiting(&others[i], SLEY_SIG(SIGUSR2));
        waiting(&c[i], i % 3 ? SLEY_SIG(SIGUSR1) : SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGRTMIN));
    }
    EXPECT(kill(getpid(), SIGUSR1) == 0);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&c[i]) == SIGUSR1);
    for (int i = 0; i < MANY; i++)
        EXPECT(call_waits(&others[i].actor));
    EXPECT(kill(getpid(), SIGUSR2) == 0);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&others[i]) == SIGUSR2);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2), SLEY_NOW) == -ETIMEDOUT);
    release();
}

/* Two signals at once: each waiter gets one that it waits for, and none is left over that somebody waited for. */
SCENARIO(two_signals_at_once_are_both_given)
{
    static struct wait_call c[12];
    sigset_t both, old;

    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    for (int round = 0; round < 20; round++) {
        memset(c, 0, sizeof c);
        for (int i = 0; i < 12; i++)
            waiting(&c[i], i % 3 == 0 ? SLEY_SIG(SIGUSR1) : i % 3 == 1 ? SLEY_SIG(SIGUSR2) : SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2));
        pthread_sigmask(SIG_BLOCK, &both, &old);
        EXPECT(kill(getpid(), SIGUSR1) == 0 && kill(getpid(), SIGUSR2) == 0);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        for (int i = 0; i < 12; i++) {
            int signo = result(&c[i]);

            EXPECT(i % 3 == 0 ? signo == SIGUSR1 : i % 3 == 1 ? signo == SIGUSR2 : signo == SIGUSR1 || signo == SIGUSR2);
        }
        EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2), SLEY_NOW) == -ETIMEDOUT);
    }
    release();
}

/* Handlers are installed and taken back by several at once, and stand as before in the end. */
static int come_and_go(void *arg)
{
    for (int i = 0; i < 200; i++) {
        int rc = sley_signal_wait(SLEY_SIG(SIGUSR1) | (i % 2 ? SLEY_SIG(SIGUSR2) : 0), SLEY_NOW);

        EXPECT(rc == -ETIMEDOUT);
        sley_signal_release(SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2));
    }
    return 0;
}

static void a_handler(int signo) { (void)signo; }

SCENARIO(handlers_come_and_go)
{
    struct actor actors[4];
    struct sigaction now;

    signal(SIGUSR1, a_handler);
    for (int i = 0; i < 4; i++)
        actor_start(&actors[i], come_and_go, NULL);
    for (int i = 0; i < 4; i++)
        EXPECT(actor_result(&actors[i]) == 0);
    EXPECT(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == a_handler);
    EXPECT(sigaction(SIGUSR2, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
}

/* Whoever waited first may leave first. */
SCENARIO(the_first_may_leave)
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
    int status, all = wakes;
    pid_t pid;

    wakes = 6;
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
    wakes = all;
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
        PLAYED(very_many_waiters_all_get_it),
        PLAYED(two_signals_at_once_are_both_given),
        PLAYED(handlers_come_and_go),
        PLAYED(the_first_may_leave),
        PLAYED(release_restores_what_was_before),
        cmocka_unit_test(release_forgets_what_came),
        cmocka_unit_test(a_forked_child_waits_for_its_own_signals),
        PLAYED(impossible_sets_are_refused),
    };

    return cmocka_run_group_tests_name("signal", tests, NULL, NULL);
}
