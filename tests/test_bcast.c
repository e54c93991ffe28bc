/* test_bcast.c - broadcast: every subscriber gets every later message, a message goes to all or to none, and nobody holds up a sender but
 * by having no room. */
#include "scenario.h"

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5 }; /* more than one hold of the lock serves */

static sley_bcast *bcast_of_longs(size_t capacity)
{
    sley_bcast *b = sley_bcast_create(sizeof(long), capacity);

    EXPECT(b != NULL);
    return b;
}

static sley_chan *subscribe(sley_bcast *b)
{
    sley_chan *ch = sley_bcast_subscribe(b);

    EXPECT(ch != NULL);
    return ch;
}

static int send_now(sley_bcast *b, long v) { return sley_bcast_send(b, &v, SLEY_NOW); }

static long recv_now(sley_chan *ch) /* the message, or an error, or 0: the end */
{
    long v = -1;
    int rc = sley_chan_recv(ch, &v, SLEY_NOW);

    return rc > 0 ? v : rc;
}

struct call {
    struct actor actor;
    sley_bcast *b;
    sley_chan *ch;
    sley_time deadline;
    long msg;
};

static int do_send(void *arg)
{
    struct call *c = arg;
    return sley_bcast_send(c->b, &c->msg, c->deadline);
}

static int do_recv(void *arg)
{
    struct call *c = arg;
    return sley_chan_recv(c->ch, &c->msg, c->deadline);
}

static void sending(struct call *c, sley_bcast *b, long msg)
{
    *c = (struct call){ .b = b, .deadline = SLEY_FOREVER, .msg = msg };
    actor_start(&c->actor, do_send, c);
    actor_waits(&c->actor);
}

static void receiving(struct call *c, sley_chan *ch)
{
    *c = (struct call){ .ch = ch, .deadline = SLEY_FOREVER, .msg = -7 };
    actor_start(&c->actor, do_recv, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

/* --- to all ------------------------------------------------------------------------------------------------------------------- */

SCENARIO(bcast_reaches_every_subscriber)
{
    sley_bcast *b = bcast_of_longs(4);
    sley_chan *ch[3] = { subscribe(b), subscribe(b), NULL };

    EXPECT(send_now(b, 1) == 0 && send_now(b, 2) == 0);
    ch[2] = subscribe(b); /* from here on */
    EXPECT(send_now(b, 3) == 0);
    for (int i = 0; i < 3; i++) {
        EXPECT(sley_chan_len(ch[i]) == (i < 2 ? 3 : 1) && sley_chan_cap(ch[i]) == 4);
        EXPECT(i == 2 || (recv_now(ch[i]) == 1 && recv_now(ch[i]) == 2));
        EXPECT(recv_now(ch[i]) == 3 && recv_now(ch[i]) == -ETIMEDOUT);
        sley_chan_destroy(ch[i]);
    }
    sley_bcast_destroy(b);
}

SCENARIO(bcast_without_subscribers_is_sent)
{
    sley_bcast *b = bcast_of_longs(1);

    for (int i = 0; i < 5; i++)
        EXPECT(send_now(b, i) == 0);
    sley_bcast_destroy(b);
}

SCENARIO(bcast_hands_over_to_those_who_wait)
{
    sley_bcast *b = bcast_of_longs(1);
    static struct call c[MANY];

    for (int i = 0; i < MANY; i++)
        receiving(&c[i], subscribe(b));
    EXPECT(send_now(b, 5) == 0);
    EXPECT(send_now(b, 6) == 0); /* theirs are empty still */
    for (int i = 0; i < MANY; i++) {
        EXPECT(result(&c[i]) == 1 && c[i].msg == 5);
        EXPECT(recv_now(c[i].ch) == 6);
        sley_chan_destroy(c[i].ch);
    }
    sley_bcast_destroy(b);
}

SCENARIO(bcast_subscription_may_have_several_receivers)
{
    sley_bcast *b = bcast_of_longs(1);
    sley_chan *ch = subscribe(b), *other = subscribe(b);
    struct call c[2];

    receiving(&c[0], ch);
    receiving(&c[1], ch);
    EXPECT(send_now(b, 5) == 0 && recv_now(other) == 5 && send_now(b, 6) == 0);
    EXPECT(result(&c[0]) == 1 && result(&c[1]) == 1 && c[0].msg == 5 && c[1].msg == 6);
    sley_chan_destroy(ch);
    sley_chan_destroy(other);
    sley_bcast_destroy(b);
}

/* --- or to none ----------------------------------------------------------------------------------------------------------------- */

SCENARIO(bcast_waits_until_all_have_room)
{
    sley_bcast *b = bcast_of_longs(1);
    sley_chan *full[3] = { subscribe(b), subscribe(b), subscribe(b) }, *empty;
    struct call c;

    EXPECT(send_now(b, 1) == 0);
    empty = subscribe(b);
    EXPECT(send_now(b, 2) == -ETIMEDOUT);
    sending(&c, b, 2);
    for (int i = 0; i < 3; i++) {
        EXPECT(!c.actor.done && sley_chan_len(empty) == 0 && sley_chan_len(full[i]) == 1);
        EXPECT(recv_now(full[i]) == 1);
    }
    EXPECT(result(&c) == 0);
    for (int i = 0; i < 3; i++)
        EXPECT(recv_now(full[i]) == 2 && recv_now(full[i]) == -ETIMEDOUT);
    EXPECT(recv_now(empty) == 2 && recv_now(empty) == -ETIMEDOUT);
    for (int i = 0; i < 3; i++)
        sley_chan_destroy(full[i]);
    sley_chan_destroy(empty);
    sley_bcast_destroy(b);
}

SCENARIO(bcast_that_ends_at_its_deadline_went_to_none)
{
    sley_bcast *b = bcast_of_longs(2);
    sley_chan *full = subscribe(b), *empty;
    sley_time at;
    long v = 9;

    EXPECT(send_now(b, 1) == 0 && send_now(b, 2) == 0);
    empty = subscribe(b);
    for (int i = 0; i < 3; i++) {
        at = sley_after(SLEY_MS);
        EXPECT(sley_bcast_send(b, &v, at) == -ETIMEDOUT && sley_now() >= at);
        EXPECT(sley_chan_len(full) == 2 && sley_chan_len(empty) == 0);
    }
    EXPECT(recv_now(full) == 1);
    EXPECT(sley_bcast_send(b, &v, at) == 0); /* what need not wait does not ask the time */
    EXPECT(recv_now(empty) == 9 && recv_now(full) == 2 && recv_now(full) == 9);
    sley_chan_destroy(full);
    sley_chan_destroy(empty);
    sley_bcast_destroy(b);
}

static void bcast_that_is_cancelled_went_to_none(void **state)
{
    (void)state;
    scene.unmet = NULL;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        sley_bcast *b = sley_bcast_create(sizeof(long), 1);
        sley_chan *full = sley_bcast_subscribe(b), *empty;
        struct call c = { .b = b, .deadline = SLEY_FOREVER, .msg = 2 };

        assert_int_equal(send_now(b, 1), 0);
        empty = sley_bcast_subscribe(b);
        assert_int_equal(result_of_stopped(on_thread, do_send, &c), -ECANCELED);
        assert_int_equal(sley_chan_len(empty), 0);
        assert_int_equal(recv_now(full), 1);
        assert_int_equal(recv_now(full), -ETIMEDOUT);
        assert_int_equal(send_now(b, 3), 0); /* it has left nothing behind */
        assert_int_equal(recv_now(full), 3);
        assert_int_equal(recv_now(empty), 3);
        sley_chan_destroy(full);
        sley_chan_destroy(empty);
        sley_bcast_destroy(b);
    }
    assert_null(scene.unmet);
}

SCENARIO(bcast_senders_take_turns_in_the_order_they_came)
{
    enum { SENDERS = 5 };
    sley_bcast *b = bcast_of_longs(1);
    sley_chan *ch = subscribe(b);
    struct call c[SENDERS], gone;
    long v;

    EXPECT(send_now(b, 0) == 0);
    for (int i = 0; i < SENDERS; i++) {
        sending(&c[i], b, i + 1);
        if (i == 1) { /* it waits for its turn, and gives up */
            gone = (struct call){ .b = b, .deadline = sley_after(SLEY_MS), .msg = 99 };
            actor_start(&gone.actor, do_send, &gone);
            EXPECT(result(&gone) == -ETIMEDOUT);
        }
    }
    for (long i = 0; i <= SENDERS; i++)
        EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 1 && v == i);
    for (int i = 0; i < SENDERS; i++)
        EXPECT(result(&c[i]) == 0);
    EXPECT(recv_now(ch) == -ETIMEDOUT);
    sley_chan_destroy(ch);
    sley_bcast_destroy(b);
}

/* The one that has the turn gives up: the next one's wait is its own. */
SCENARIO(bcast_turn_passes_on_when_a_sender_gives_up)
{
    sley_bcast *b = bcast_of_longs(1);
    sley_chan *ch = subscribe(b);
    struct call first = { .b = b, .deadline = sley_after(3 * SLEY_MS), .msg = 1 }, second;

    EXPECT(send_now(b, 0) == 0);
    actor_start(&first.actor, do_send, &first);
    actor_waits_or_ended(&first.actor);
    sending(&second, b, 2);
    EXPECT(result(&first) == -ETIMEDOUT);
    EXPECT(recv_now(ch) == 0);
    EXPECT(result(&second) == 0 && recv_now(ch) == 2);
    sley_chan_destroy(ch);
    sley_bcast_destroy(b);
}

/* --- leaving ------------------------------------------------------------------------------------------------------------------ */

SCENARIO(bcast_sender_is_freed_by_a_subscriber_that_leaves)
{
    for (int closes = 0; closes < 2; closes++) {
        sley_bcast *b = bcast_of_longs(1);
        sley_chan *leaves = subscribe(b), *stays;
        struct call c;

        EXPECT(send_now(b, 1) == 0);
        stays = subscribe(b);
        sending(&c, b, 2);
        if (closes)
            sley_chan_close(leaves);
        else
            sley_chan_destroy(leaves);
        EXPECT(result(&c) == 0);
        EXPECT(recv_now(stays) == 2);
        if (closes) {
            EXPECT(recv_now(leaves) == 1 && recv_now(leaves) == 0); /* what it held, and no more */
            sley_chan_destroy(leaves);
        }
        EXPECT(send_now(b, 3) == 0 && recv_now(stays) == 3);
        sley_chan_destroy(stays);
        sley_bcast_destroy(b);
    }
}

SCENARIO(bcast_closed_subscription_wakes_its_receivers)
{
    sley_bcast *b = bcast_of_longs(1);
    sley_chan *ch = subscribe(b);
    struct call c;

    receiving(&c, ch);
    sley_chan_close(ch);
    sley_chan_close(ch);
    EXPECT(result(&c) == 0 && c.msg == -7 && recv_now(ch) == 0);
    EXPECT(send_now(b, 1) == 0 && recv_now(ch) == 0);
    sley_chan_destroy(ch);
    sley_bcast_destroy(b);
}

SCENARIO(bcast_destroyed_closes_every_subscription)
{
    static struct call c[MANY];
    sley_bcast *b = bcast_of_longs(2);
    sley_chan *holds = subscribe(b), *popular, *gone = subscribe(b);

    EXPECT(send_now(b, 1) == 0 && send_now(b, 2) == 0);
    popular = subscribe(b);
    sley_chan_destroy(gone);
    for (int i = 0; i < MANY; i++)
        receiving(&c[i], i % 2 ? subscribe(b) : popular);
    sley_bcast_destroy(b);
    for (int i = 0; i < MANY; i++) {
        EXPECT(result(&c[i]) == 0 && c[i].msg == -7);
        if (i % 2)
            sley_chan_destroy(c[i].ch);
    }
    EXPECT(recv_now(popular) == 0);
    EXPECT(recv_now(holds) == 1 && recv_now(holds) == 2 && recv_now(holds) == 0); /* what it held can be received */
    sley_chan_close(holds);
    sley_chan_destroy(holds);
    sley_chan_destroy(popular);
}

/* The receiver of the message may end the broadcast while the sender is on its way out. */
SCENARIO(bcast_may_be_destroyed_by_who_got_the_last_message)
{
    for (int round = 0; round < 200; round++) {
        struct call c = { .b = bcast_of_longs(1), .deadline = SLEY_FOREVER, .msg = round };
        sley_chan *ch = subscribe(c.b);
        long v = -1;

        actor_start(&c.actor, do_send, &c);
        EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 1 && v == round);
        sley_bcast_destroy(c.b);
        EXPECT(recv_now(ch) == 0);
        sley_chan_destroy(ch);
        EXPECT(result(&c) == 0);
    }
}

static int destroy_bcast(void *arg)
{
    sley_bcast_destroy(arg);
    return 0;
}

SCENARIO(bcast_end_and_subscribers_that_leave_meet)
{
    for (int round = 0; round < 100; round++) {
        sley_bcast *b = bcast_of_longs(1);
        sley_chan *ch[5];
        struct actor ends;

        for (int i = 0; i < 5; i++)
            ch[i] = subscribe(b);
        EXPECT(round % 2 == 0 || send_now(b, 1) == 0);
        actor_start(&ends, destroy_bcast, b);
        for (int i = 0; i < 5; i++) {
            if (i % 2)
                sley_chan_close(ch[i]);
            sley_chan_destroy(ch[i]);
        }
        EXPECT(actor_result(&ends) == 0);
    }
}

/* --- refusals ----------------------------------------------------------------------------------------------------------------- */

SCENARIO(bcast_subscription_takes_no_messages_of_others)
{
    sley_bcast *b = bcast_of_longs(2);
    sley_chan *ch = subscribe(b);
    long v[2] = { 1, 2 };

    for (int closed = 0; closed < 2; closed++) {
        EXPECT(sley_chan_send(ch, v, SLEY_NOW) == -EINVAL && sley_chan_send_n(ch, v, 2, SLEY_FOREVER) == -EINVAL);
        EXPECT(recv_now(ch) == (closed ? 0 : -ETIMEDOUT));
        sley_chan_close(ch);
    }
    sley_chan_destroy(ch);
    sley_bcast_destroy(b);
}

SCENARIO(bcast_refuses_bad_arguments)
{
    sley_bcast *b = bcast_of_longs(2), *signals = sley_bcast_create(0, 3);
    sley_chan *ch = subscribe(signals);
    long v = 1;

    EXPECT(sley_bcast_create(8, 0) == NULL && sley_bcast_create(8, SIZE_MAX) == NULL);
    EXPECT(sley_bcast_send(NULL, &v, SLEY_NOW) == -EINVAL && sley_bcast_send(b, NULL, SLEY_NOW) == -EINVAL);
    EXPECT(sley_bcast_send(b, &v, 1) == -EINVAL && sley_bcast_send(b, &v, 5 * SLEY_MS) == -EINVAL);
    EXPECT(sley_bcast_subscribe(NULL) == NULL);
    sley_bcast_destroy(NULL);
    EXPECT(sley_bcast_send(signals, NULL, SLEY_NOW) == 0 && sley_chan_recv(ch, NULL, SLEY_NOW) == 1);
    sley_chan_destroy(ch);
    sley_bcast_destroy(signals);
    sley_bcast_destroy(b);
    b = sley_bcast_create(SIZE_MAX / 2, 3); /* a bound of each subscription */
    EXPECT(b != NULL && sley_bcast_subscribe(b) == NULL && sley_bcast_send(b, &v, SLEY_NOW) == 0);
    sley_bcast_destroy(b);
}

static int destroy_under_a_sender(void *arg)
{
    static struct call c;
    sley_bcast *b;

    (void)arg;
    scene.cast = FIBERS;
    b = bcast_of_longs(1);
    EXPECT(subscribe(b) != NULL && send_now(b, 1) == 0);
    sending(&c, b, 2);
    sley_bcast_destroy(b);
    return 0;
}

static void bcast_destroy_while_somebody_sends_aborts(void **state)
{
    (void)state;
    assert_aborts("destroy", "sley_bcast_destroy: somebody is sending");
}

static int send_some(void *arg)
{
    sley_stats *out = arg;
    sley_bcast *b = bcast_of_longs(2);
    sley_chan *ch[3] = { subscribe(b), subscribe(b), subscribe(b) };

    EXPECT(send_now(b, 1) == 0 && send_now(b, 2) == 0 && send_now(b, 3) == -ETIMEDOUT);
    for (int i = 0; i < 3; i++)
        sley_chan_destroy(ch[i]);
    EXPECT(send_now(b, 4) == 0);
    sley_bcast_destroy(b);
    return sley_stats_read(NULL, out, sizeof *out);
}

static void bcast_counts_a_message_for_each_subscriber(void **state)
{
    sley_stats stats = { 0 };

    (void)state;
    scene.unmet = NULL;
    assert_true(sley_run(NULL, send_some, &stats) >= 0);
    assert_null(scene.unmet);
    assert_int_equal(stats.chan_messages, 6);
}

/* --- all at once -------------------------------------------------------------------------------------------------------------- */

/* Several senders number their messages; subscribers come and go. Between its first message and its last, each misses none; and all that
 * were there to the end have seen the same. */

enum { SENDERS = 3, LISTENERS = 4, EACH = 300, ALL = SENDERS * EACH };

static struct {
    sley_bcast *b;
    _Atomic(int) sending;
    _Atomic(int) ready;
    uint64_t seed;
} radio;

struct end {
    struct actor actor;
    int number;
    long heard[ALL];
    int count;
};

static int speak(void *arg)
{
    struct end *e = arg;
    uint64_t random = mix(radio.seed + e->number);

    while (radio.ready < LISTENERS)
        give_way();
    for (long i = 0; i < EACH;) {
        long v = (long)e->number << 32 | i;
        sley_time deadline = below(&random, 3) ? SLEY_FOREVER : sley_after(below(&random, 20) * SLEY_US);
        int rc = sley_bcast_send(radio.b, &v, deadline);

        EXPECT(rc == 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
        i += rc == 0;
        if (rc != 0)
            give_way();
    }
    radio.sending--;
    return 0;
}

static void look_at(long v, long *next)
{
    long from = v >> 32, i = v & UINT32_MAX;

    EXPECT(from >= 0 && from < SENDERS && (next[from] < 0 || next[from] == i));
    if (from >= 0 && from < SENDERS)
        next[from] = i + 1;
}

/* From beginning to end. */
static int listen_to_all(void *arg)
{
    struct end *e = arg;
    sley_chan *ch = subscribe(radio.b);
    long next[SENDERS] = { 0 }, v;
    int rc;

    radio.ready++;
    while (e->count < ALL && (rc = sley_chan_recv(ch, &v, SLEY_FOREVER)) == 1) {
        look_at(v, next);
        e->heard[e->count++] = v;
    }
    EXPECT(recv_now(ch) == -ETIMEDOUT);
    sley_chan_destroy(ch);
    return 0;
}

static int listen_now_and_then(void *arg)
{
    struct end *e = arg;
    uint64_t random = mix(radio.seed + e->number);

    while (radio.sending > 0) {
        sley_chan *ch = subscribe(radio.b);
        long next[SENDERS] = { -1, -1, -1 }, v;

        for (int i = below(&random, 20); i > 0 && radio.sending > 0; i--)
            if (sley_chan_recv(ch, &v, sley_after(below(&random, 200) * SLEY_US)) == 1)
                look_at(v, next);
        if (below(&random, 2))
            sley_chan_close(ch);
        sley_chan_destroy(ch);
        give_way();
    }
    return 0;
}

SCENARIO(bcast_stress_everybody_hears_the_same)
{
    static struct end all[LISTENERS], some[LISTENERS], speakers[SENDERS];

    for (int round = 0; round < 4; round++) {
        int threads = scene.cast == THREADS;

        memset(all, 0, sizeof all);
        radio.seed = mix(radio.seed + 1);
        radio.b = bcast_of_longs(1 + round * round);
        radio.sending = SENDERS;
        radio.ready = 0;
        for (int i = 0; i < SENDERS; i++) {
            speakers[i].number = i;
            actor_start_as(&speakers[i].actor, threads || (scene.cast == FIBER_AND_THREADS && i % 2), speak, &speakers[i]);
        }
        for (int i = 0; i < LISTENERS; i++) {
            some[i].number = all[i].number = i + 100;
            actor_start_as(&all[i].actor, threads || (scene.cast == FIBER_AND_THREADS && i % 2), listen_to_all, &all[i]);
            actor_start_as(&some[i].actor, threads || (scene.cast == FIBER_AND_THREADS && i % 2), listen_now_and_then, &some[i]);
        }
        for (int i = 0; i < SENDERS; i++)
            EXPECT(actor_result(&speakers[i].actor) == 0);
        for (int i = 0; i < LISTENERS; i++) {
            EXPECT(actor_result(&all[i].actor) == 0 && actor_result(&some[i].actor) == 0);
            EXPECT(all[i].count == ALL && memcmp(all[i].heard, all[0].heard, sizeof all[0].heard) == 0);
        }
        sley_bcast_destroy(radio.b);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(bcast_reaches_every_subscriber),
        PLAYED(bcast_without_subscribers_is_sent),
        PLAYED(bcast_hands_over_to_those_who_wait),
        PLAYED(bcast_subscription_may_have_several_receivers),
        PLAYED(bcast_waits_until_all_have_room),
        PLAYED(bcast_that_ends_at_its_deadline_went_to_none),
        cmocka_unit_test(bcast_that_is_cancelled_went_to_none),
        PLAYED(bcast_senders_take_turns_in_the_order_they_came),
        PLAYED(bcast_turn_passes_on_when_a_sender_gives_up),
        PLAYED(bcast_sender_is_freed_by_a_subscriber_that_leaves),
        PLAYED(bcast_closed_subscription_wakes_its_receivers),
        PLAYED(bcast_destroyed_closes_every_subscription),
        PLAYED(bcast_may_be_destroyed_by_who_got_the_last_message),
        PLAYED(bcast_end_and_subscribers_that_leave_meet),
        PLAYED(bcast_subscription_takes_no_messages_of_others),
        PLAYED(bcast_refuses_bad_arguments),
        cmocka_unit_test(bcast_destroy_while_somebody_sends_aborts),
        cmocka_unit_test(bcast_counts_a_message_for_each_subscriber),
        PLAYED(bcast_stress_everybody_hears_the_same),
    };

    if (argc > 1 && strcmp(argv[1], "destroy") == 0)
        return sley_run(NULL, destroy_under_a_sender, NULL) < 0;
    radio.seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
