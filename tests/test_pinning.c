/* test_pinning.c - a pinned fiber stays on its worker, whatever wakes it, and shares it fairly; with chaos, the others are elsewhere after
 * every wait. The worker is told by the number of its thread. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <sley.h>

#include "base/atomic.h"

enum { PINNED = 8, ROUNDS = 50 };

static long worker_here(void)
{
    return syscall(SYS_gettid);
}

/* ---- whatever it waits for ---- */

struct table {
    sley_chan *in, *out;      /* of the echo, which is not pinned */
    _Atomic(int) moved, done; /* of the pinned ones */
    int pipe[PINNED][2];
    _Atomic(int) rc;
};

struct seat {
    struct table *table;
    int number;
};

static void note(struct table *t, int rc)
{
    int none = 0;

    if (rc < 0)
        sl_cas_acq_rel(&t->rc, &none, rc);
}

static int wait_once(struct seat *s, int how)
{
    struct table *t = s->table;
    uint64_t x = (uint64_t)s->number;
    char byte = 'b';
    int rc;

    switch (how % 5) {
    case 0:
        return sley_yield();
    case 1:
        return sley_sleep(20 * SLEY_US);
    case 2:
        rc = sley_chan_send(t->in, &x, SLEY_FOREVER);
        return rc < 0 ? rc : sley_chan_recv(t->out, &x, SLEY_FOREVER);
    case 3:
        rc = sley_write(t->pipe[s->number][1], &byte, 1, SLEY_FOREVER);
        return rc < 0 ? rc : sley_read(t->pipe[s->number][0], &byte, 1, SLEY_FOREVER);
    default:
        rc = sley_fd_wait(t->pipe[s->number][0], POLLIN, sley_after(20 * SLEY_US)); /* the pipe is empty */
        return rc == -ETIMEDOUT ? 0 : -EBADMSG;
    }
}

static int stay(void *arg)
{
    struct seat *s = arg;
    long home;
    int rc = 0;

    sley_pin();
    home = worker_here();
    for (int i = 0; i < ROUNDS && rc >= 0; i++) {
        rc = wait_once(s, i + s->number);
        if (worker_here() != home)
            sl_add_acq_rel(&s->table->moved, 1);
    }
    sley_unpin();
    note(s->table, rc);
    if (sl_add_acq_rel(&s->table->done, 1) + 1 == PINNED)
        sley_chan_close(s->table->in);
    return 0;
}

static int echo(void *arg)
{
    struct table *t = arg;
    uint64_t x;
    int rc;

    while ((rc = sley_chan_recv(t->in, &x, SLEY_FOREVER)) > 0) {
        rc = sley_chan_send(t->out, &x, SLEY_FOREVER);
        if (rc < 0)
            break;
    }
    note(t, rc);
    return 0;
}

static int seat_all(void *arg)
{
    struct table *t = arg;

    for (int i = 0; i < PINNED; i++) {
        struct seat s = { t, i };
        int rc = sley_go_copy(stay, &s, sizeof s);

        if (rc < 0)
            return rc;
    }
    return sley_go(echo, t);
}

static void a_pinned_fiber_stays_whatever_it_waits_for(void **state)
{
    (void)state;
    for (size_t capacity = 0; capacity < 2; capacity++) {
        struct table t = { .in = sley_chan_create(sizeof(uint64_t), capacity), .out = sley_chan_create(sizeof(uint64_t), capacity) };

        assert_non_null(t.in);
        assert_non_null(t.out);
        for (int i = 0; i < PINNED; i++)
            assert_int_equal(pipe(t.pipe[i]), 0);
        assert_int_equal(sley_run(NULL, seat_all, &t), 0);
        assert_int_equal(t.rc, 0);
        assert_int_equal(t.done, PINNED);
        assert_int_equal(t.moved, 0);
        for (int i = 0; i < PINNED; i++) {
            close(t.pipe[i][0]);
            close(t.pipe[i][1]);
        }
        sley_chan_destroy(t.in);
        sley_chan_destroy(t.out);
    }
}

/* ---- woken from elsewhere ---- */

struct pair {
    sley_event asked, answered;
    _Atomic(int) pinned;
    int moved, same, elsewhere;
    _Atomic(long) home;
};

static int answer_at_home(void *arg)
{
    struct pair *p = arg;
    int rc = 0;

    sley_pin();
    sl_store_release(&p->home, worker_here());
    for (int i = 0; i < ROUNDS && rc == 0; i++) {
        rc = sley_event_wait(&p->asked, SLEY_FOREVER);
        sley_event_reset(&p->asked);
        p->moved += worker_here() != p->home;
        sley_event_set(&p->answered);
    }
    sley_unpin();
    return rc;
}

static int ask_from_elsewhere(void *arg)
{
    struct pair *p = arg;
    int rc = 0;

    sley_pin(); /* it began here while the other held its own worker, so this is another one */
    p->same = worker_here() == sl_load_acquire(&p->home);
    for (int i = 0; i < ROUNDS && rc == 0; i++) {
        sley_event_set(&p->asked);
        rc = sley_event_wait(&p->answered, SLEY_FOREVER);
        sley_event_reset(&p->answered);
    }
    sley_unpin();
    return rc;
}

static int hold_and_ask(void *arg)
{
    struct pair *p = arg;

    sley_go(answer_at_home, arg);
    while (sl_load_acquire(&p->home) == 0)
        ; /* this worker is held: another takes it */
    return ask_from_elsewhere(arg);
}

static void a_wake_from_another_worker_does_not_move_it(void **state)
{
    struct pair p = { .home = 0 };

    (void)state;
    assert_int_equal(sley_run(&(sley_options){ .workers = 2 }, hold_and_ask, &p), 0);
    assert_false(p.same);
    assert_int_equal(p.moved, 0);
}

static int wait_pinned(void *arg)
{
    struct pair *p = arg;
    long home;
    int rc;

    sley_pin();
    home = worker_here();
    sl_store_release(&p->pinned, 1);
    rc = sley_event_wait(&p->asked, SLEY_FOREVER);
    p->moved = worker_here() != home;
    sley_unpin();
    return rc;
}

static void a_wake_from_a_plain_thread_does_not_move_it(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        struct pair p = { .home = 0 };
        sley_runtime *rt;

        assert_int_equal(sley_runtime_create(&rt, NULL), 0);
        assert_int_equal(sley_runtime_start(rt), 0);
        assert_int_equal(sley_runtime_submit(rt, wait_pinned, &p), 0);
        while (!sl_load_acquire(&p.pinned))
            sched_yield();
        if (i % 2 == 0)
            sley_event_set(&p.asked);
        assert_int_equal(sley_runtime_stop(rt, i % 2 == 0 ? SLEY_FOREVER : SLEY_NOW), 0); /* or by the cancel */
        assert_int_equal(p.moved, 0);
        sley_runtime_destroy(rt);
    }
}

/* ---- nesting ---- */

static int nest(void *arg)
{
    int *moved = arg, rc = 0;
    long home;

    sley_pin();
    home = worker_here();
    for (int depth = 1; depth < 100; depth++)
        sley_pin();
    for (int depth = 100; depth > 0 && rc == 0; depth--) {
        rc = sley_yield();
        *moved += worker_here() != home;
        sley_unpin();
    }
    return rc;
}

static void pins_nest(void **state)
{
    int moved = 0;

    (void)state;
    assert_int_equal(sley_run(NULL, nest, &moved), 0);
    assert_int_equal(moved, 0);
    sley_pin(); /* off a fiber: nothing */
    sley_unpin();
}

struct mover {
    _Atomic(int) away, hold; /* hold: somebody was stolen */
    long home;
};

static int hold_the_worker(void *arg)
{
    struct mover *m = arg;

    if (worker_here() != m->home) {
        sl_store_release(&m->hold, -1); /* this one was stolen instead */
        return 0;
    }
    while (!sl_load_acquire(&m->away))
        ; /* nothing of the library runs here: the other must leave to go on */
    return 0;
}

static int leave_once_unpinned(void *arg)
{
    struct mover *m = arg;
    int rc = 0;

    sley_pin();
    m->home = worker_here();
    sley_unpin();
    while (rc == 0 && worker_here() == m->home && sl_load_acquire(&m->hold) == 0) {
        sley_go(hold_the_worker, m); /* the next slot: it runs when this one yields */
        rc = sley_yield();
    }
    sl_store_release(&m->away, 1);
    return rc;
}

static void an_unpinned_fiber_may_leave(void **state)
{
    struct mover m = { .home = 0 };

    (void)state;
    assert_int_equal(sley_run(&(sley_options){ .workers = 2 }, leave_once_unpinned, &m), 0);
}

/* ---- fairness ---- */

struct contest {
    _Atomic(int) pinned_turns, free_turns, over;
    int pinned_count, free_count, turns; /* turns: of each kind, before it is over */
};

static int take_turns(void *arg)
{
    struct contest *c = ((void **)arg)[0];
    int is_pinned = ((void **)arg)[1] != NULL, rc = 0;

    if (is_pinned)
        sley_pin();
    while (rc == 0 && !sl_load_acquire(&c->over)) {
        sl_add_acq_rel(is_pinned ? &c->pinned_turns : &c->free_turns, 1);
        if (sl_load_acquire(&c->pinned_turns) >= c->turns && sl_load_acquire(&c->free_turns) >= c->turns)
            sl_store_release(&c->over, 1);
        rc = sley_yield();
    }
    if (is_pinned)
        sley_unpin();
    return rc;
}

static int start_contest(void *arg)
{
    struct contest *c = arg;

    for (int i = 0; i < c->pinned_count + c->free_count; i++) {
        void *who[2] = { c, i < c->pinned_count ? c : NULL };
        int rc = sley_go_copy(take_turns, who, sizeof who);

        if (rc < 0)
            return rc;
    }
    return 0;
}

static void pinned_and_others_take_turns(void **state)
{
    static const int counts[][2] = { { 1, 1 }, { 1, 100 }, { 100, 1 }, { 50, 50 } };

    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) { /* each ends only if both kinds are served */
        struct contest c = { .pinned_count = counts[i][0], .free_count = counts[i][1], .turns = 100 };

        assert_int_equal(sley_run(NULL, start_contest, &c), 0);
        assert_true(c.pinned_turns >= c.turns && c.free_turns >= c.turns);
    }
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) { /* on one worker they do so strictly */
        struct contest c = { .pinned_count = counts[i][0], .free_count = counts[i][1], .turns = 2000 };

        assert_int_equal(sley_run(&(sley_options){ .workers = 1 }, start_contest, &c), 0);
        assert_true(c.pinned_turns <= 3 * c.turns && c.free_turns <= 3 * c.turns);
    }
}

struct idle_pin {
    _Atomic(int) *sum;
    sley_chan *ch;
};

static int receive_pinned(void *arg)
{
    struct idle_pin *p = arg;
    int x, rc;

    sley_pin();
    while ((rc = sley_chan_recv(p->ch, &x, SLEY_FOREVER)) > 0)
        sl_add_acq_rel(p->sum, x);
    sley_unpin();
    return rc;
}

static int send_pinned(void *arg)
{
    struct idle_pin *p = arg;
    int one = 1, rc = 0;

    sley_pin();
    for (int i = 0; i < 1000 && rc == 0; i++)
        rc = sley_chan_send(p->ch, &one, SLEY_FOREVER);
    sley_unpin();
    sley_chan_close(p->ch);
    return rc;
}

static int start_idle_pins(void *arg)
{
    struct idle_pin *p = arg;

    for (int i = 0; i < 20; i++) {
        int rc = sley_go(receive_pinned, &p[i]);

        if (rc == 0)
            rc = sley_go(send_pinned, &p[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void only_pinned_fibers_hand_over_to_each_other(void **state)
{
    _Atomic(int) sum = 0;
    struct idle_pin p[20];

    (void)state;
    for (int i = 0; i < 20; i++) {
        p[i] = (struct idle_pin){ &sum, sley_chan_create(sizeof(int), (size_t)i % 3) };
        assert_non_null(p[i].ch);
    }
    assert_int_equal(sley_run(NULL, start_idle_pins, p), 0);
    assert_int_equal(sum, 20000);
    for (int i = 0; i < 20; i++)
        sley_chan_destroy(p[i].ch);
}

/* ---- the chaos switch ---- */

static int go_elsewhere(void *arg)
{
    int *stayed = arg, rc = 0;

    for (int i = 0; i < ROUNDS && rc == 0; i++) {
        long before = worker_here();

        rc = i % 2 ? sley_yield() : sley_sleep(1);
        if (i % 2)
            *stayed += worker_here() == before;
    }
    return rc;
}

static void chaos_moves_every_fiber_that_is_not_pinned(void **state)
{
    const char *chaos = getenv("SLEY_CHAOS");
    int stayed = 0;

    (void)state;
    if (chaos == NULL || strcmp(chaos, "migrate") != 0)
        skip();
    assert_int_equal(sley_run(&(sley_options){ .workers = 3 }, go_elsewhere, &stayed), 0);
    assert_int_equal(stayed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pinned_fiber_stays_whatever_it_waits_for),
        cmocka_unit_test(a_wake_from_another_worker_does_not_move_it),
        cmocka_unit_test(a_wake_from_a_plain_thread_does_not_move_it),
        cmocka_unit_test(pins_nest),
        cmocka_unit_test(an_unpinned_fiber_may_leave),
        cmocka_unit_test(pinned_and_others_take_turns),
        cmocka_unit_test(only_pinned_fibers_hand_over_to_each_other),
        cmocka_unit_test(chaos_moves_every_fiber_that_is_not_pinned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
