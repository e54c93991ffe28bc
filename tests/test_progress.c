/* test_progress.c - a worker that does not come back holds nobody up: while one fiber computes without a pause, what is queued behind
 * it, its worker's unsubmitted operations, their completions and its timers go on elsewhere. And the order in which ready fibers are
 * served. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <sley.h>

static _Atomic(int) done;

static void compute_until(int n)
{
    while (done < n)
        ; /* no call: nothing of the library runs on this worker */
}

static int finish(void *arg)
{
    (void)arg;
    done++;
    return 0;
}

/* ---- stealing ---- */

static int queued_work(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++)
        sley_go(finish, NULL);
    compute_until(100);
    return 0;
}

static void others_run_what_is_queued_behind_a_fiber_that_computes(void **state)
{
    (void)state;
    done = 0;
    assert_int_equal(sley_run(&(sley_options){ .workers = 2 }, queued_work, NULL), 0);
    assert_int_equal(done, 100);
}

static int next_slot(void *arg)
{
    (void)arg;
    sley_go(finish, NULL); /* alone, in the next slot: wakes nobody by itself */
    compute_until(1);
    return 0;
}

static void the_next_slot_of_a_worker_that_computes_is_taken(void **state)
{
    (void)state;
    done = 0;
    assert_int_equal(sley_run(&(sley_options){ .workers = 2 }, next_slot, NULL), 0);
    assert_int_equal(done, 1);
}

/* ---- operations ---- */

static int pipe_fd[2];

static int read_one(void *arg)
{
    char byte;

    (void)arg;
    if (sley_read(pipe_fd[0], &byte, 1, SLEY_FOREVER) == 1 && byte == 'x')
        done++;
    return 0;
}

/* The reader's operation is filled in on this worker, which then computes: queued only, or with the kernel already. */
static int operation_behind(void *arg)
{
    sley_pin();
    sley_go(read_one, NULL);
    for (int i = 0; i < *(int *)arg; i++)
        sley_yield();
    if (write(pipe_fd[1], "x", 1) != 1)
        return -EIO;
    compute_until(1);
    sley_unpin();
    return 0;
}

static void queued_operations_and_completions_of_a_worker_that_computes_go_on(void **state)
{
    (void)state;
    for (int yields = 1; yields < 400; yields = yields * 2 + 1) { /* more of them than two maintenance periods */
        done = 0;
        assert_int_equal(pipe(pipe_fd), 0);
        assert_int_equal(sley_run(&(sley_options){ .workers = 2 }, operation_behind, &yields), 0);
        assert_int_equal(done, 1);
        close(pipe_fd[0]);
        close(pipe_fd[1]);
    }
}

static int sleep_briefly(void *arg)
{
    (void)arg;
    if (sley_sleep(2 * SLEY_MS) == 0)
        done++;
    return 0;
}

static int timer_behind(void *arg)
{
    (void)arg;
    sley_pin();
    for (int i = 0; i < 10; i++)
        sley_go(sleep_briefly, NULL);
    for (int i = 0; i < 20; i++)
        sley_yield();
    compute_until(10);
    sley_unpin();
    return 0;
}

static void timers_of_a_worker_that_computes_fire(void **state)
{
    (void)state;
    done = 0;
    assert_int_equal(sley_run(&(sley_options){ .workers = 2 }, timer_behind, NULL), 0);
    assert_int_equal(done, 10);
}

static int everybody_behind_three(void *arg)
{
    int mine = *(int *)arg;

    if (mine < 3) { /* three workers compute; the fourth does everything */
        int next = mine + 1;

        sley_go_copy(everybody_behind_three, &next, sizeof next);
    } else {
        for (int i = 0; i < 100; i++) {
            sley_go(finish, NULL);
            sley_go(sleep_briefly, NULL);
        }
        return 0;
    }
    compute_until(200);
    return 0;
}

static void one_free_worker_of_four_serves_all(void **state)
{
    int zero = 0;

    (void)state;
    done = 0;
    assert_int_equal(sley_run(&(sley_options){ .workers = 4 }, everybody_behind_three, &zero), 0);
    assert_int_equal(done, 200);
}

/* ---- fairness: the longest gap between two services of one fiber, counted in services ---- */

enum { ROUNDS = 20 };

static struct {
    int               n;
    _Atomic(uint64_t) services, gap_max;
    _Atomic(int)      running;
} loop;

static int start_gate(void)
{
    loop.running++;
    while (loop.running < loop.n) /* all are there before the first round counts */
        if (sley_yield() < 0)
            return -ECANCELED;
    return sley_yield();
}

static void serve(uint64_t *last)
{
    uint64_t now = ++loop.services;

    if (*last != 0 && now - *last > loop.gap_max)
        loop.gap_max = now - *last;
    *last = now;
}

static int yield_rounds(void *arg)
{
    uint64_t last = 0;
    int rc = start_gate();

    (void)arg;
    for (int i = 0; i < ROUNDS && rc == 0; i++) {
        serve(&last);
        rc = sley_yield();
    }
    return rc;
}

/* A client and its server over a socket pair: each request makes one wait of the server complete. */
static int ask_rounds(void *arg)
{
    int fd = *(int *)arg, rc = 0;
    char byte = 0;

    for (int i = 0; i < ROUNDS && rc >= 0; i++) {
        rc = sley_send_all(fd, &byte, 1, 0, SLEY_FOREVER);
        if (rc == 0)
            rc = sley_recv(fd, &byte, 1, 0, SLEY_FOREVER);
    }
    sley_close(fd);
    return rc < 0 ? rc : 0;
}

static int answer_rounds(void *arg)
{
    uint64_t last = 0;
    int fd[2], rc;
    char byte;

    (void)arg;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
        return -errno;
    rc = start_gate();
    if (rc == 0)
        rc = sley_go_copy(ask_rounds, &fd[1], sizeof fd[1]);
    while (rc >= 0 && (rc = sley_recv(fd[0], &byte, 1, 0, SLEY_FOREVER)) > 0) {
        serve(&last);
        rc = sley_send_all(fd[0], &byte, 1, 0, SLEY_FOREVER);
    }
    sley_close(fd[0]);
    return rc;
}

static int start_loop(void *arg)
{
    for (int i = 0; i < loop.n; i++)
        sley_go(*(sley_fn **)arg, NULL);
    return 0;
}

static void check_fairness(sley_fn *fn, int n)
{
    memset(&loop, 0, sizeof loop);
    loop.n = n;
    assert_int_equal(sley_run(&(sley_options){ .workers = 1 }, start_loop, &fn), 0);
    assert_int_equal(loop.services, (uint64_t)n * ROUNDS);
    print_message("%d fibers: longest gap %llu services\n", n, (unsigned long long)loop.gap_max);
    assert_true(loop.gap_max <= (uint64_t)n * 11 / 10);
}

static void always_ready_fibers_are_served_in_turn(void **state)
{
    (void)state;
    check_fairness(yield_rounds, 1000);
    check_fairness(yield_rounds, 5000);
}

static void clients_of_a_closed_loop_are_served_in_turn(void **state)
{
    (void)state;
    check_fairness(answer_rounds, 1000);
    check_fairness(answer_rounds, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_run_what_is_queued_behind_a_fiber_that_computes),
        cmocka_unit_test(the_next_slot_of_a_worker_that_computes_is_taken),
        cmocka_unit_test(queued_operations_and_completions_of_a_worker_that_computes_go_on),
        cmocka_unit_test(timers_of_a_worker_that_computes_fire),
        cmocka_unit_test(one_free_worker_of_four_serves_all),
        cmocka_unit_test(always_ready_fibers_are_served_in_turn),
        cmocka_unit_test(clients_of_a_closed_loop_are_served_in_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
