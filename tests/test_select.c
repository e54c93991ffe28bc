/* test_select.c - select over every kind of case: one arm goes and has done its call, the others leave nothing behind. What belongs to one
 * kind alone is in the tests of that kind; Go's cases are in test_go_chan.c. */
#include "scenario.h"

#include <poll.h>
#include <sys/eventfd.h>

/* Every kind at once; none can go until `which` is made to. */
enum { RECV, SEND, FUTURE, SCOPE, EVENT, SEM, FD, TICK, AT, NEVER, NULL_CHAN, KINDS };

struct everything {
    sley_chan  *in, *out;
    sley_future *future;
    sley_event  event;
    sley_sem    sem;
    sley_ticker ticker;
    int         fd;
    int         got, put;
    sley_case   on[KINDS];
};

static void open_everything(struct everything *e)
{
    memset(e, 0, sizeof *e);
    e->in = sley_chan_create(sizeof(int), 0);
    e->out = sley_chan_create(sizeof(int), 1);
    e->future = sley_future_create(0);
    sley_sem_init(&e->sem, 0);
    sley_ticker_init(&e->ticker, 100 * SLEY_S);
    e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e->put = 7;
    EXPECT(sley_chan_send(e->out, &e->put, SLEY_NOW) == 0); /* full */
    e->on[RECV] = sley_case_recv(e->in, &e->got);
    e->on[SEND] = sley_case_send(e->out, &e->put);
    e->on[FUTURE] = sley_case_future(e->future);
    e->on[SCOPE] = sley_case_scope(NULL);
    e->on[EVENT] = sley_case_event(&e->event);
    e->on[SEM] = sley_case_sem(&e->sem);
    e->on[FD] = sley_case_fd(e->fd, POLLIN);
    e->on[TICK] = sley_case_tick(&e->ticker);
    e->on[AT] = sley_case_at(sley_after(100 * SLEY_S));
    e->on[NULL_CHAN] = sley_case_send(NULL, &e->put);
}

/* Nothing is left in any list: each object says so itself when it is given back. */
static void close_everything(struct everything *e)
{
    EXPECT(sley_close(e->fd) == 0);
    sley_event_fini(&e->event);
    sley_sem_fini(&e->sem);
    sley_chan_destroy(e->in);
    sley_chan_destroy(e->out);
    sley_future_destroy(e->future);
}

static int make_it_go(void *arg) /* { everything, which } */
{
    void **a = arg;
    struct everything *e = a[0];
    uint64_t one = 1;
    int v = 41;

    switch ((int)(intptr_t)a[1]) {
    case RECV:
        return sley_chan_send(e->in, &v, SLEY_FOREVER);
    case SEND:
        return sley_chan_recv(e->out, &v, SLEY_FOREVER) == 1 ? 0 : -EIO;
    case FUTURE:
        return sley_future_fail(e->future, -EDOM);
    case EVENT:
        sley_event_set(&e->event);
        return 0;
    case SEM:
        sley_sem_post(&e->sem);
        return 0;
    case FD:
        return write(e->fd, &one, sizeof one) == sizeof one ? 0 : -EIO;
    default:
        return 0;
    }
}

struct selecting {
    sley_case *cases;
    size_t     n;
    sley_time  deadline;
    int        ordered;
};

static int do_select(void *arg)
{
    struct selecting *s = arg;

    return s->ordered ? sley_select_ordered(s->cases, s->n, s->deadline) : sley_select(s->cases, s->n, s->deadline);
}

static const int result_of[KINDS] = { [RECV] = 1, [FUTURE] = -EDOM, [FD] = POLLIN };

SCENARIO(each_kind_ends_a_wait_for_all_of_them)
{
    for (int which = RECV; which <= FD; which++) {
        struct everything e;
        struct selecting s = { e.on, KINDS, SLEY_FOREVER, 0 };
        void *arg[] = { &e, (void *)(intptr_t)which };
        struct actor a;

        if (which == SCOPE)
            continue;
        open_everything(&e);
        actor_start(&a, do_select, &s);
        if (actor_waits_or_ended(&a))
            EXPECT(make_it_go(arg) == 0);
        EXPECT(actor_result(&a) == which && e.on[which].result == result_of[which]);
        EXPECT(e.got == (which == RECV ? 41 : 0) && sley_chan_len(e.out) == 1);
        close_everything(&e);
    }
}

SCENARIO(each_kind_that_can_go_at_once_does)
{
    for (int which = RECV; which <= FD; which++) {
        struct everything e;
        struct actor a;
        void *arg[] = { &e, (void *)(intptr_t)which };

        if (which == SCOPE)
            continue;
        open_everything(&e);
        actor_start(&a, make_it_go, arg);
        if (which != RECV)
            EXPECT(actor_result(&a) == 0);
        EXPECT(sley_select(e.on, KINDS, SLEY_FOREVER) == which && e.on[which].result == result_of[which]);
        if (which == RECV)
            EXPECT(actor_result(&a) == 0);
        close_everything(&e);
    }
}

SCENARIO(nothing_can_go)
{
    struct everything e;

    open_everything(&e);
    EXPECT(sley_select(e.on, KINDS, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_select_ordered(e.on, KINDS, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_select(e.on, KINDS, sley_after(2 * SLEY_MS)) == -ETIMEDOUT);
    EXPECT(e.got == 0 && sley_chan_len(e.out) == 1);
    close_everything(&e);
}

SCENARIO(select_without_cases_waits_for_its_deadline)
{
    sley_case never[2] = { sley_case_recv(NULL, NULL), sley_case_event(NULL) };

    EXPECT(sley_select(NULL, 0, SLEY_NOW) == -ETIMEDOUT && sley_select(NULL, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_select(never, 2, sley_after(SLEY_MS)) == -ETIMEDOUT);
}

SCENARIO(bad_arguments_are_refused)
{
    sley_case c = { .kind = 99 }, soon = sley_case_at(5 * SLEY_MS);

    EXPECT(sley_select(NULL, 1, SLEY_NOW) == -EINVAL);
    EXPECT(sley_select(&c, 1, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_select(&soon, 1, SLEY_FOREVER) == -EINVAL); /* a length of time */
    EXPECT(sley_select(&soon, 0, 5 * SLEY_MS) == -EINVAL);
}

SCENARIO(a_time_comes)
{
    sley_chan *ch = sley_chan_create(sizeof(int), 0);
    sley_case on[] = { sley_case_recv(ch, NULL), sley_case_at(sley_after(3 * SLEY_MS)), sley_case_at(sley_after(100 * SLEY_S)) };
    sley_time when = on[1].value;

    EXPECT(sley_select(on, 3, SLEY_FOREVER) == 1 && on[1].result == 0 && sley_now() >= when);
    EXPECT(sley_select(on, 3, SLEY_NOW) == 1); /* it has come, and stays so */
    on[1] = sley_case_at(SLEY_NOW);
    EXPECT(sley_select(on, 3, SLEY_NOW) == 1);
    on[1] = sley_case_at(SLEY_FOREVER);
    EXPECT(sley_select(on, 3, sley_after(SLEY_MS)) == -ETIMEDOUT);
    sley_chan_destroy(ch);
}

SCENARIO(a_ticker_ticks)
{
    sley_ticker t, none = { { 0 } };
    sley_case on[] = { sley_case_tick(&t), sley_case_recv(NULL, NULL) };
    sley_time begin = sley_now();
    int ticks = 0;

    sley_ticker_init(&t, SLEY_MS);
    EXPECT(sley_ticker_wait(&t, SLEY_NOW) == -ETIMEDOUT || sley_now() - begin >= SLEY_MS);
    while (ticks < 10) {
        EXPECT(sley_select(on, 2, SLEY_FOREVER) == 0 && on[0].result >= 1);
        ticks += on[0].result;
        EXPECT(sley_now() - begin >= (ticks - 1) * SLEY_MS); /* never early */
        int more = sley_ticker_wait(&t, SLEY_FOREVER);
        EXPECT(more >= 1);
        ticks += more;
    }
    EXPECT(sley_ticker_wait(NULL, SLEY_NOW) == -EINVAL && sley_ticker_wait(&none, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_ticker_wait(&t, 5 * SLEY_MS) == -EINVAL);
    sley_ticker_init(&t, SLEY_FOREVER);
    EXPECT(sley_ticker_wait(&t, sley_after(SLEY_MS)) == -ETIMEDOUT);
    on[1] = sley_case_tick(&none);
    EXPECT(sley_select(on, 2, SLEY_FOREVER) == 1 && on[1].result == -EINVAL);
}

static int child(void *arg) { return sley_event_wait(arg, SLEY_FOREVER); }

static void a_scope_is_empty_body(void)
{
    sley_event go = { { 0 } };
    sley_scope s;
    sley_case on[2];

    sley_scope_init(&s, SLEY_FOREVER);
    on[0] = sley_case_scope(&s);
    on[1] = sley_case_recv(NULL, NULL);
    EXPECT(sley_select(on, 2, SLEY_NOW) == 0 && on[0].result == 0); /* it has had none yet */
    sley_go(child, &go);
    sley_go(child, &go);
    EXPECT(sley_select(on, 2, SLEY_NOW) == -ETIMEDOUT && sley_select(on, 2, sley_after(SLEY_MS)) == -ETIMEDOUT);
    sley_event_set(&go);
    EXPECT(sley_select(on, 2, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
}

static void a_scope_is_empty(void **state)
{
    (void)state;
    play(a_scope_is_empty_body, FIBERS);
}

#define DRAWS 100000

SCENARIO(the_choice_is_fair)
{
    enum { ARMS = 5 };
    sley_event e[ARMS] = { { { 0 } } };
    sley_case on[ARMS];
    int drawn[ARMS] = { 0 };

    for (int i = 0; i < ARMS; i++)
        on[i] = sley_case_event(&e[i]);
    for (int i = 0; i < ARMS; i++)
        if (i != 2)
            sley_event_set(&e[i]);
    for (int i = 0; i < DRAWS; i++) {
        int at = sley_select(on, ARMS, SLEY_NOW);

        EXPECT(at >= 0 && at < ARMS);
        drawn[at]++;
    }
    for (int i = 0; i < ARMS; i++) /* 25,000 with a deviation of 137: five per cent are nine of them */
        EXPECT(i == 2 ? drawn[i] == 0 : drawn[i] > DRAWS / 4 * 95 / 100 && drawn[i] < DRAWS / 4 * 105 / 100);
}

SCENARIO(in_order_the_first_goes)
{
    sley_event e[3] = { { { 0 } } };
    sley_case on[3] = { sley_case_event(&e[0]), sley_case_event(&e[1]), sley_case_event(&e[2]) };

    sley_event_set(&e[2]);
    sley_event_set(&e[1]);
    for (int i = 0; i < 100; i++)
        EXPECT(sley_select_ordered(on, 3, SLEY_FOREVER) == 1);
    sley_event_set(&e[0]);
    EXPECT(sley_select_ordered(on, 3, SLEY_FOREVER) == 0);
}

#define MANY 10000

SCENARIO(ten_thousand_arms)
{
    sley_sem *sems = calloc(MANY, sizeof *sems);
    sley_case *on = calloc(MANY, sizeof *on);
    struct selecting s = { on, MANY, SLEY_FOREVER, 0 };
    struct actor a;

    for (int i = 0; i < MANY; i++)
        on[i] = sley_case_sem(&sems[i]);
    for (int i = 0; i < 3; i++) {
        int which = i * (MANY / 2 - 1);

        actor_start(&a, do_select, &s);
        actor_waits(&a);
        sley_sem_post(&sems[which]);
        EXPECT(actor_result(&a) == which);
        for (int k = 0; k < MANY; k++)
            sley_sem_fini(&sems[k]); /* aborts if somebody waits */
    }
    free(sems);
    free(on);
}

SCENARIO(a_lost_arm_has_taken_nothing)
{
    sley_sem a = { { 0 } }, b = { { 0 } };
    sley_case on[2] = { sley_case_sem(&a), sley_case_sem(&b) };

    for (int i = 0; i < 1000; i++) {
        sley_sem_post(&a);
        sley_sem_post(&b);
        int first = sley_select(on, 2, SLEY_FOREVER), second = sley_select(on, 2, SLEY_FOREVER);
        EXPECT(first >= 0 && second >= 0 && first + second == 1);
        EXPECT(sley_select(on, 2, SLEY_NOW) == -ETIMEDOUT);
    }
}

SCENARIO(a_passed_deadline_takes_what_has_come)
{
    sley_sem s = { { 0 } };
    sley_case on = sley_case_sem(&s);

    sley_sem_post(&s);
    EXPECT(sley_select(&on, 1, sley_now()) == 0);
    EXPECT(sley_select(&on, 1, sley_now()) == -ETIMEDOUT);
}

/* --- cancelling ---------------------------------------------------------------------------------------------------------------- */

static int select_everything(void *arg)
{
    struct everything *e = arg;

    return sley_select(e->on, KINDS, SLEY_FOREVER);
}

static void a_cancel_ends_it_and_nothing_was_done_body(void)
{
    struct everything e;
    int rc;

    open_everything(&e);
    rc = sley_scope_run(select_everything, &e, sley_after(2 * SLEY_MS));
    EXPECT(rc == -ETIMEDOUT && e.got == 0 && sley_chan_len(e.out) == 1);
    sley_scope s;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    EXPECT(sley_select(e.on, KINDS, SLEY_FOREVER) == -ECANCELED);
    sley_event_set(&e.event);
    EXPECT(sley_select(e.on, KINDS, SLEY_FOREVER) == EVENT); /* it need not wait */
    sley_event_reset(&e.event);
    sley_shield_begin();
    EXPECT(sley_select(e.on, KINDS, sley_after(SLEY_MS)) == -ETIMEDOUT);
    sley_shield_end();
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    close_everything(&e);
}

static void a_cancel_ends_it_and_nothing_was_done(void **state)
{
    (void)state;
    play(a_cancel_ends_it_and_nothing_was_done_body, FIBERS);
}

static int wait_for_all_kinds(void *arg) { return do_select(arg); }

static void select_ends_with_its_runtime(void **state)
{
    sley_event e = { { 0 } };
    sley_sem s = { { 0 } };

    (void)state;
    for (int on_thread = 0; on_thread < 2; on_thread++) {
        sley_case on[2] = { sley_case_event(&e), sley_case_sem(&s) };
        struct selecting all = { on, 2, SLEY_FOREVER, 0 };

        assert_int_equal(result_of_stopped(on_thread, wait_for_all_kinds, &all), -ECANCELED);
    }
    sley_event_fini(&e);
    sley_sem_fini(&s);
}

/* --- selects that meet ----------------------------------------------------------------------------------------------------------- */

#define MEETINGS 5000

struct side {
    sley_chan *to, *from;
    int        sent, received;
    int64_t    sum_sent, sum_received;
};

/* Each side sends and receives whichever comes first, until both have done as many of each: every pair of selects meets crosswise. */
static int meet(void *arg)
{
    struct side *me = arg;

    while (me->sent < MEETINGS || me->received < MEETINGS) {
        int out = me->sent, in = -1;
        sley_case on[2] = { sley_case_send(me->sent < MEETINGS ? me->to : NULL, &out),
                            sley_case_recv(me->received < MEETINGS ? me->from : NULL, &in) };
        int rc = sley_select(on, 2, SLEY_FOREVER);

        EXPECT(rc >= 0);
        if (rc == 0)
            me->sum_sent += me->sent++;
        else if (rc == 1) {
            EXPECT(on[1].result == 1 && in == me->received);
            me->sum_received += in;
            me->received++;
        } else {
            return rc;
        }
    }
    return 0;
}

static void selects_that_meet_crosswise_lose_nothing(size_t capacity)
{
    sley_chan *a = sley_chan_create(sizeof(int), capacity), *b = sley_chan_create(sizeof(int), capacity);
    struct side one = { a, b, 0, 0, 0, 0 }, two = { b, a, 0, 0, 0, 0 };
    struct actor other;

    actor_start(&other, meet, &two);
    EXPECT(meet(&one) == 0 && actor_result(&other) == 0);
    EXPECT(one.sum_sent == two.sum_received && two.sum_sent == one.sum_received);
    sley_chan_destroy(a);
    sley_chan_destroy(b);
}

SCENARIO(selects_meet_without_a_buffer) { selects_that_meet_crosswise_lose_nothing(0); }
SCENARIO(selects_meet_with_a_buffer) { selects_that_meet_crosswise_lose_nothing(1); }

#define CROWD 8

struct crowd {
    sley_chan *ch;
    _Atomic(int64_t) in, out;
    _Atomic(int) left;
};

/* On one channel: send a number or receive one, whichever goes. */
static int jostle(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < 1000; i++) {
        int out = i + 1, in = 0;
        sley_case on[2] = { sley_case_send(c->ch, &out), sley_case_recv(c->ch, &in) };
        int rc = sley_select(on, 2, SLEY_FOREVER);

        if (rc == 0 && on[0].result == 0)
            c->in += out;
        else if (rc == 1 && on[1].result == 1)
            c->out += in;
        else
            break; /* closed: the others have gone */
    }
    if (--c->left <= 1)
        sley_chan_close(c->ch); /* who is left has nobody to meet */
    return 0;
}

SCENARIO(a_crowd_sends_and_receives_on_one_channel)
{
    struct crowd c = { .ch = sley_chan_create(sizeof(int), 0), .left = CROWD };
    struct actor a[CROWD];

    for (int i = 0; i < CROWD; i++)
        actor_start(&a[i], jostle, &c);
    for (int i = 0; i < CROWD; i++)
        EXPECT(actor_result(&a[i]) == 0);
    EXPECT(c.in == c.out);
    sley_chan_destroy(c.ch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(each_kind_ends_a_wait_for_all_of_them),
        PLAYED(each_kind_that_can_go_at_once_does),
        PLAYED(nothing_can_go),
        PLAYED(select_without_cases_waits_for_its_deadline),
        PLAYED(bad_arguments_are_refused),
        PLAYED(a_time_comes),
        PLAYED(a_ticker_ticks),
        cmocka_unit_test(a_scope_is_empty),
        PLAYED(the_choice_is_fair),
        PLAYED(in_order_the_first_goes),
        PLAYED(ten_thousand_arms),
        PLAYED(a_lost_arm_has_taken_nothing),
        PLAYED(a_passed_deadline_takes_what_has_come),
        cmocka_unit_test(a_cancel_ends_it_and_nothing_was_done),
        cmocka_unit_test(select_ends_with_its_runtime),
        PLAYED(selects_meet_without_a_buffer),
        PLAYED(selects_meet_with_a_buffer),
        PLAYED(a_crowd_sends_and_receives_on_one_channel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
