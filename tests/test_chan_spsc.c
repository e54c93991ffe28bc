/* test_chan_spsc.c - one-to-one channels: the same promises as the others, on fibers and on plain threads; ends that move between fibers
 * and workers; a close and a destroy that meet a sender on its way out; and that a second sender or receiver is found out. */
#include "scenario.h"

struct call {
    struct actor actor;
    sley_chan *ch;
    sley_time deadline;
    size_t n;
    long msg[16];
};

static int do_send(void *arg)
{
    struct call *c = arg;
    return sley_chan_send(c->ch, c->msg, c->deadline);
}

static int do_recv(void *arg)
{
    struct call *c = arg;
    return sley_chan_recv(c->ch, c->msg, c->deadline);
}

static int do_send_n(void *arg)
{
    struct call *c = arg;
    return sley_chan_send_n(c->ch, c->msg, c->n, c->deadline);
}

static int do_recv_n(void *arg)
{
    struct call *c = arg;
    return sley_chan_recv_n(c->ch, c->msg, c->n, c->deadline);
}

static void waiting(struct call *c, sley_fn *fn, sley_chan *ch)
{
    c->ch = ch;
    c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, fn, c);
    actor_waits(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

static sley_chan *chan_of_longs(size_t capacity)
{
    sley_chan *ch = sley_chan_create_spsc(sizeof(long), capacity);

    EXPECT(ch != NULL && sley_chan_cap(ch) == capacity);
    return ch;
}

static int send_now(sley_chan *ch, long v) { return sley_chan_send(ch, &v, SLEY_NOW); }

static long recv_now(sley_chan *ch) /* the message, or an error, or 0: the end */
{
    long v = -1;
    int rc = sley_chan_recv(ch, &v, SLEY_NOW);

    return rc > 0 ? v : rc;
}

/* --- the same as other channels ----------------------------------------------------------------------------------------------- */

SCENARIO(spsc_keeps_the_order_of_messages)
{
    sley_chan *ch = chan_of_longs(5);

    for (long round = 0; round < 400; round += 4) { /* so that the ring wraps at every place */
        for (long i = 1; i <= 4; i++)
            EXPECT(send_now(ch, round + i) == 0);
        EXPECT(sley_chan_len(ch) == 4);
        for (long i = 1; i <= 4; i++)
            EXPECT(recv_now(ch) == round + i);
    }
    EXPECT(sley_chan_len(ch) == 0);
    sley_chan_destroy(ch);
}

SCENARIO(spsc_full_and_empty_do_not_wait_without_time)
{
    sley_chan *ch = chan_of_longs(2);

    EXPECT(recv_now(ch) == -ETIMEDOUT);
    EXPECT(send_now(ch, 1) == 0 && send_now(ch, 2) == 0 && send_now(ch, 3) == -ETIMEDOUT);
    EXPECT(recv_now(ch) == 1 && recv_now(ch) == 2 && recv_now(ch) == -ETIMEDOUT);
    sley_chan_destroy(ch);
}

SCENARIO(spsc_batches_take_what_fits)
{
    sley_chan *ch = chan_of_longs(5);
    long in[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, out[8] = { 0 };

    for (int round = 0; round < 20; round++) {
        EXPECT(sley_chan_send_n(ch, in, 8, SLEY_NOW) == 5);
        EXPECT(sley_chan_recv_n(ch, out, 3, SLEY_NOW) == 3 && out[0] == 1 && out[2] == 3);
        EXPECT(sley_chan_send_n(ch, in + 5, 3, SLEY_NOW) == 3);
        EXPECT(sley_chan_recv_n(ch, out, 8, SLEY_NOW) == 5 && out[0] == 4 && out[1] == 5 && out[2] == 6 && out[4] == 8);
        EXPECT(send_now(ch, 9) == 0 && recv_now(ch) == 9);
    }
    sley_chan_destroy(ch);
}

SCENARIO(spsc_message_wakes_the_receiver)
{
    sley_chan *ch = chan_of_longs(2);
    struct call c = { .n = 4 };

    for (int i = 0; i < 2; i++) {
        waiting(&c, i ? do_recv_n : do_recv, ch);
        EXPECT(send_now(ch, 42 + i) == 0);
        EXPECT(result(&c) == 1 && c.msg[0] == 42 + i);
    }
    sley_chan_destroy(ch);
}

SCENARIO(spsc_room_wakes_the_sender)
{
    sley_chan *ch = chan_of_longs(2);
    struct call c = { .n = 3, .msg = { 3, 4, 5 } };

    EXPECT(send_now(ch, 1) == 0 && send_now(ch, 2) == 0);
    waiting(&c, do_send, ch);
    EXPECT(recv_now(ch) == 1);
    EXPECT(result(&c) == 0);
    EXPECT(recv_now(ch) == 2 && recv_now(ch) == 3 && recv_now(ch) == -ETIMEDOUT);
    EXPECT(send_now(ch, 1) == 0 && send_now(ch, 2) == 0);
    waiting(&c, do_send_n, ch);
    EXPECT(recv_now(ch) == 1);
    EXPECT(result(&c) == 1); /* for one there was room */
    EXPECT(recv_now(ch) == 2 && recv_now(ch) == 3 && recv_now(ch) == -ETIMEDOUT);
    sley_chan_destroy(ch);
}

SCENARIO(spsc_call_ends_at_its_deadline)
{
    sley_chan *ch = chan_of_longs(1);
    long v = 7;
    sley_time at = sley_after(SLEY_MS);

    EXPECT(sley_chan_recv(ch, &v, at) == -ETIMEDOUT && v == 7 && sley_now() >= at);
    EXPECT(send_now(ch, 1) == 0);
    at = sley_after(SLEY_MS);
    EXPECT(sley_chan_send(ch, &v, at) == -ETIMEDOUT && sley_now() >= at);
    EXPECT(recv_now(ch) == 1 && recv_now(ch) == -ETIMEDOUT);
    EXPECT(sley_chan_send(ch, &v, at) == 0); /* what need not wait does not ask the time */
    EXPECT(sley_chan_recv(ch, &v, at) == 1);
    sley_chan_destroy(ch);
}

SCENARIO(spsc_carries_signals_and_drops_messages)
{
    sley_chan *ch = sley_chan_create_spsc(0, 3), *longs = chan_of_longs(2);

    EXPECT(sley_chan_send(ch, NULL, SLEY_NOW) == 0 && sley_chan_send_n(ch, NULL, 5, SLEY_NOW) == 2);
    EXPECT(sley_chan_send(ch, NULL, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_chan_recv_n(ch, NULL, 2, SLEY_NOW) == 2 && sley_chan_recv(ch, NULL, SLEY_NOW) == 1);
    EXPECT(sley_chan_recv(ch, NULL, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(send_now(longs, 1) == 0 && send_now(longs, 2) == 0);
    EXPECT(sley_chan_recv(longs, NULL, SLEY_NOW) == 1 && recv_now(longs) == 2);
    sley_chan_destroy(ch);
    sley_chan_destroy(longs);
}

SCENARIO(spsc_refuses_what_it_cannot_carry)
{
    sley_chan *ch = chan_of_longs(4);
    long v = 1;

    for (int i = 0; i < 2; i++) { /* the first call on a side goes another way than the next */
        EXPECT(sley_chan_send(ch, NULL, SLEY_NOW) == -EINVAL && sley_chan_send_n(ch, NULL, 2, SLEY_NOW) == -EINVAL);
        EXPECT(sley_chan_send_n(ch, &v, 0, SLEY_NOW) == -EINVAL && sley_chan_recv_n(ch, &v, 0, SLEY_NOW) == -EINVAL);
        EXPECT(sley_chan_send(ch, &v, 1) == -EINVAL && sley_chan_recv(ch, &v, -1) == -EINVAL);
        EXPECT(sley_chan_send(ch, &v, 5 * SLEY_MS) == -EINVAL && sley_chan_len(ch) == 0);
        EXPECT(send_now(ch, 1) == 0 && sley_chan_recv(ch, &v, 5 * SLEY_MS) == -EINVAL && recv_now(ch) == 1);
    }
    sley_chan_destroy(ch);
}

SCENARIO(spsc_without_a_buffer_hands_over)
{
    sley_chan *ch = chan_of_longs(0);
    struct call c = { .msg = { 5 } };

    EXPECT(send_now(ch, 1) == -ETIMEDOUT);
    waiting(&c, do_send, ch);
    EXPECT(recv_now(ch) == 5 && result(&c) == 0);
    waiting(&c, do_recv, ch);
    EXPECT(send_now(ch, 6) == 0 && result(&c) == 1 && c.msg[0] == 6);
    sley_chan_destroy(ch);
}

static void spsc_create_refuses_what_cannot_be(void **state)
{
    (void)state;
    assert_null(sley_chan_create_spsc(SIZE_MAX, 1));
    assert_null(sley_chan_create_spsc(SIZE_MAX / 2, 3));
    assert_null(sley_chan_create_spsc(0, SIZE_MAX));
}

/* --- close -------------------------------------------------------------------------------------------------------------------- */

SCENARIO(spsc_closed_gives_out_the_rest_then_zero)
{
    sley_chan *ch = chan_of_longs(4);
    long out[4], v = 9;

    for (long i = 1; i <= 4; i++)
        EXPECT(send_now(ch, i) == 0);
    sley_chan_close(ch);
    sley_chan_close(ch);
    EXPECT(send_now(ch, 5) == -EPIPE && sley_chan_send(ch, &v, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_chan_send_n(ch, &v, 1, SLEY_FOREVER) == -EPIPE);
    EXPECT(recv_now(ch) == 1);
    EXPECT(send_now(ch, 5) == -EPIPE);
    EXPECT(sley_chan_recv_n(ch, out, 4, SLEY_FOREVER) == 3 && out[0] == 2 && out[2] == 4);
    EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 0 && v == 9);
    EXPECT(sley_chan_recv_n(ch, &v, 1, SLEY_NOW) == 0 && sley_chan_recv(ch, &v, SLEY_NOW) == 0);
    sley_chan_destroy(ch);
}

SCENARIO(spsc_close_wakes_who_waits)
{
    sley_chan *ch = chan_of_longs(1);
    struct call c = { .n = 4, .msg = { -7 } };

    waiting(&c, do_recv_n, ch);
    sley_chan_close(ch);
    EXPECT(result(&c) == 0 && c.msg[0] == -7);
    sley_chan_destroy(ch);

    ch = chan_of_longs(1);
    EXPECT(send_now(ch, 1) == 0);
    waiting(&c, do_send, ch);
    sley_chan_close(ch);
    EXPECT(result(&c) == -EPIPE);
    EXPECT(recv_now(ch) == 1 && recv_now(ch) == 0);
    sley_chan_destroy(ch);
}

struct stream {
    struct actor sender, receiver, closer;
    sley_chan *ch;
    _Atomic(long) went, came;
    long close_after;
};

static int stream_in(void *arg)
{
    struct stream *s = arg;
    long v = 0;
    int rc;

    while ((rc = sley_chan_send(s->ch, &v, SLEY_FOREVER)) == 0)
        s->went = ++v;
    return rc;
}

static int stream_out(void *arg)
{
    struct stream *s = arg;
    long v;
    int rc;

    while ((rc = sley_chan_recv(s->ch, &v, SLEY_FOREVER)) == 1) {
        EXPECT(v == s->came);
        s->came++;
    }
    return rc;
}

static int close_stream(void *arg)
{
    struct stream *s = arg;

    while (s->went < s->close_after)
        give_way();
    sley_chan_close(s->ch);
    return 0;
}

/* What was said to have gone comes, and nothing else. */
SCENARIO(spsc_close_races_with_a_stream)
{
    for (int round = 0; round < 100; round++) {
        struct stream s = { .ch = chan_of_longs(1 + round % 5), .close_after = round * 3 };

        actor_start(&s.sender, stream_in, &s);
        actor_start(&s.receiver, stream_out, &s);
        actor_start_as(&s.closer, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && round % 2), close_stream, &s);
        EXPECT(actor_result(&s.sender) == -EPIPE);
        EXPECT(actor_result(&s.receiver) == 0);
        EXPECT(actor_result(&s.closer) == 0);
        EXPECT(s.went == s.came && sley_chan_len(s.ch) == 0);
        sley_chan_destroy(s.ch);
    }
}

/* --- who is on its way out ---------------------------------------------------------------------------------------------------- */

SCENARIO(spsc_may_be_freed_by_who_got_the_last_message)
{
    for (int round = 0; round < 300; round++) {
        struct call c = { .ch = chan_of_longs(1 + round % 2), .deadline = SLEY_FOREVER, .msg = { round } };
        long v = -1;

        actor_start(&c.actor, do_send, &c);
        EXPECT(sley_chan_recv(c.ch, &v, SLEY_FOREVER) == 1 && v == round);
        sley_chan_destroy(c.ch);
        EXPECT(result(&c) == 0);
    }
}

static int send_twenty(void *arg)
{
    struct call *c = arg;
    int rc = 0;

    for (long i = 0; i < 20 && rc == 0; i++)
        rc = sley_chan_send(c->ch, &i, SLEY_FOREVER);
    return rc;
}

SCENARIO(spsc_may_be_freed_behind_a_sender_that_had_waited)
{
    for (int round = 0; round < 100; round++) {
        struct call c = { .ch = chan_of_longs(1 + round % 3) };
        long v = -1;

        actor_start(&c.actor, send_twenty, &c);
        for (long i = 0; i < 20; i++)
            EXPECT(sley_chan_recv(c.ch, &v, SLEY_FOREVER) == 1 && v == i);
        sley_chan_destroy(c.ch);
        EXPECT(result(&c) == 0);
    }
}

static int do_close(void *arg)
{
    struct call *c = arg;

    sley_chan_close(c->ch);
    return 0;
}

SCENARIO(spsc_may_be_freed_by_who_saw_its_end)
{
    for (int round = 0; round < 300; round++) {
        struct call c = { .ch = chan_of_longs(1) };
        long v;

        actor_start(&c.actor, do_close, &c);
        EXPECT(sley_chan_recv(c.ch, &v, SLEY_FOREVER) == 0);
        sley_chan_destroy(c.ch);
        EXPECT(result(&c) == 0);
    }
}

SCENARIO(spsc_lives_until_its_last_reference)
{
    sley_chan *ch = chan_of_longs(1);

    EXPECT(sley_chan_ref(ch) == ch);
    sley_chan_destroy(ch);
    EXPECT(send_now(ch, 1) == 0 && recv_now(ch) == 1 && send_now(ch, 2) == 0);
    sley_chan_destroy(ch); /* with a message in it */
}

/* --- ends that move ----------------------------------------------------------------------------------------------------------- */

enum { LINE = 3000 };

struct end {
    struct actor actor;
    sley_chan *in, *out;
};

/* Receive, add one, send on; close the next at the end. */
static int relay(void *arg)
{
    struct end *e = arg;
    long v;
    int rc;

    while ((rc = sley_chan_recv(e->in, &v, SLEY_FOREVER)) > 0) {
        v++;
        if ((rc = sley_chan_send(e->out, &v, SLEY_FOREVER)) < 0)
            break;
    }
    sley_chan_close(e->out);
    return rc;
}

static int count_up(void *arg)
{
    struct end *e = arg;
    int rc = 0;

    for (long i = 0; i < LINE && rc == 0; i++) {
        rc = sley_chan_send(e->out, &i, SLEY_FOREVER);
        if (i % 64 == 0)
            give_way(); /* perhaps to another worker */
    }
    sley_chan_close(e->out);
    return rc;
}

SCENARIO(spsc_line_of_relays_keeps_every_message_in_order)
{
    enum { RELAYS = 6 };
    struct end e[RELAYS + 1];
    sley_chan *ch[RELAYS + 1];
    long v, expected = RELAYS;
    int rc;

    for (int i = 0; i <= RELAYS; i++)
        ch[i] = chan_of_longs(1 + i * i);
    for (int i = 0; i <= RELAYS; i++) {
        e[i].in = i > 0 ? ch[i - 1] : NULL;
        e[i].out = ch[i];
        actor_start_as(&e[i].actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), i > 0 ? relay : count_up, &e[i]);
    }
    while ((rc = sley_chan_recv(ch[RELAYS], &v, SLEY_FOREVER)) > 0)
        EXPECT(v == expected++);
    EXPECT(rc == 0 && expected == LINE + RELAYS);
    for (int i = 0; i <= RELAYS; i++) {
        EXPECT(actor_result(&e[i].actor) == 0);
        sley_chan_destroy(ch[i]);
    }
}

SCENARIO(spsc_pair_plays_ping_pong)
{
    struct end e = { .in = chan_of_longs(1), .out = chan_of_longs(1) };
    long v = 0;

    actor_start(&e.actor, relay, &e);
    for (int i = 0; i < LINE; i++) {
        EXPECT(sley_chan_send(e.in, &v, SLEY_FOREVER) == 0);
        EXPECT(sley_chan_recv(e.out, &v, SLEY_FOREVER) == 1);
    }
    EXPECT(v == LINE);
    sley_chan_close(e.in);
    EXPECT(sley_chan_recv(e.out, &v, SLEY_FOREVER) == 0);
    EXPECT(actor_result(&e.actor) == 0);
    sley_chan_destroy(e.in);
    sley_chan_destroy(e.out);
}

/* One sender after the other, each a fiber or a thread of its own, while one receiver goes on. */

enum { SENDERS_IN_TURN = 12, EACH = 200 };

struct turn {
    struct actor actor;
    sley_chan *ch;
    sley_event mine, *next;
    long from;
};

static int send_in_turn(void *arg)
{
    struct turn *t = arg;
    int rc = sley_event_wait(&t->mine, SLEY_FOREVER);

    for (long i = 0; i < EACH && rc == 0; i++) {
        long v = t->from + i;
        rc = sley_chan_send(t->ch, &v, SLEY_FOREVER);
    }
    if (t->next != NULL)
        sley_event_set(t->next);
    return rc;
}

SCENARIO(spsc_sender_may_be_another_each_time)
{
    struct turn t[SENDERS_IN_TURN];
    sley_chan *ch = chan_of_longs(7);
    long v;

    for (int i = 0; i < SENDERS_IN_TURN; i++)
        t[i] = (struct turn){ .ch = ch, .next = i + 1 < SENDERS_IN_TURN ? &t[i + 1].mine : NULL, .from = (long)i * EACH };
    for (int i = 0; i < SENDERS_IN_TURN; i++)
        actor_start_as(&t[i].actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), send_in_turn, &t[i]);
    sley_event_set(&t[0].mine);
    for (long i = 0; i < SENDERS_IN_TURN * EACH; i++)
        EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 1 && v == i);
    for (int i = 0; i < SENDERS_IN_TURN; i++)
        EXPECT(actor_result(&t[i].actor) == 0);
    sley_chan_destroy(ch);
}

/* --- cancel, counters --------------------------------------------------------------------------------------------------------- */

static void spsc_wait_ends_with_its_runtime(void **state)
{
    static sley_fn *const calls[] = { do_send, do_recv, do_send_n, do_recv_n };

    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        for (int i = 0; i < 4; i++) {
            sley_chan *ch = sley_chan_create_spsc(sizeof(long), 1);
            struct call c = { .ch = ch, .deadline = i < 2 ? SLEY_FOREVER : sley_after(SLEY_S * 3600), .n = 2, .msg = { -7, -7 } };
            long v = 0;

            if (i % 2 == 0)
                assert_int_equal(send_now(ch, 1), 0);
            assert_int_equal(result_of_stopped(on_thread, calls[i], &c), -ECANCELED);
            assert_int_equal(c.msg[0], -7);
            if (i % 2 == 0)
                assert_int_equal(recv_now(ch), 1);
            assert_int_equal(sley_chan_recv(ch, &v, SLEY_NOW), -ETIMEDOUT); /* nothing was sent */
            assert_int_equal(send_now(ch, 2), 0);
            assert_int_equal(recv_now(ch), 2); /* and nobody is there to get it */
            sley_chan_destroy(ch);
        }
    }
}

/* What need not wait is done, also in a scope that was cancelled; but not for ever. */
static int send_and_receive_after_cancel(void *arg)
{
    struct call *c = arg;
    long v = 0;

    c->msg[0] = sley_chan_recv(c->ch, &v, SLEY_FOREVER);
    c->msg[1] = sley_chan_recv(c->ch, &v, SLEY_FOREVER);
    c->msg[2] = sley_chan_send(c->ch, &v, SLEY_FOREVER);
    c->msg[3] = sley_chan_recv(c->ch, &v, SLEY_FOREVER);
    for (c->n = 0; c->n < 1000 && sley_chan_send(c->ch, &v, SLEY_FOREVER) == 0 && sley_chan_recv(c->ch, &v, SLEY_FOREVER) == 1; c->n++)
        ;
    return 0;
}

static void spsc_call_that_need_not_wait_is_not_cancelled(void **state)
{
    sley_chan *ch = sley_chan_create_spsc(sizeof(long), 1);
    struct call c = { .ch = ch };

    (void)state;
    assert_int_equal(result_of_stopped(0, send_and_receive_after_cancel, &c), 0);
    assert_int_equal(c.msg[0], -ECANCELED);
    assert_int_equal(c.msg[1], -ECANCELED);
    assert_int_equal(c.msg[2], 0);
    assert_int_equal(c.msg[3], 1);
    assert_true(c.n >= 16 && c.n <= 33);
    sley_chan_destroy(ch);
}

static int send_many(void *arg)
{
    sley_stats *out = arg;
    sley_chan *ch = sley_chan_create_spsc(sizeof(long), 8);
    long m[8] = { 0 };

    EXPECT(sley_chan_send(ch, m, SLEY_NOW) == 0);
    EXPECT(sley_chan_send(ch, m, SLEY_NOW) == 0);
    EXPECT(sley_chan_send_n(ch, m, 8, SLEY_NOW) == 6);
    EXPECT(sley_chan_send(ch, m, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_chan_recv_n(ch, m, 3, SLEY_NOW) == 3);
    sley_chan_destroy(ch);
    return sley_stats_read(NULL, out, sizeof *out);
}

static void spsc_messages_are_counted_once(void **state)
{
    sley_stats stats = { 0 };

    (void)state;
    scene.unmet = NULL;
    assert_true(sley_run(NULL, send_many, &stats) >= 0);
    assert_null(scene.unmet);
    assert_int_equal(stats.chan_messages, 8);
}

/* --- caller's bugs ------------------------------------------------------------------------------------------------------------ */

static struct call first_call, second_call;

static int second_receiver(void *arg)
{
    (void)arg;
    scene.cast = FIBERS;
    waiting(&first_call, do_recv, chan_of_longs(2));
    second_call.ch = first_call.ch;
    return sley_chan_recv(second_call.ch, second_call.msg, SLEY_NOW);
}

static int second_sender(void *arg)
{
    sley_chan *ch = chan_of_longs(1);

    (void)arg;
    scene.cast = FIBERS;
    EXPECT(send_now(ch, 1) == 0);
    waiting(&first_call, do_send, ch);
    return sley_chan_send(ch, second_call.msg, SLEY_NOW);
}

static int destroy_under_a_receiver(void *arg)
{
    (void)arg;
    scene.cast = FIBERS;
    waiting(&first_call, do_recv, chan_of_longs(2));
    sley_chan_destroy(first_call.ch);
    return 0;
}

static void spsc_second_receiver_aborts(void **state)
{
    (void)state;
    assert_aborts("receiver", "sley_chan_recv: a second receiver");
}

static void spsc_second_sender_aborts(void **state)
{
    (void)state;
    assert_aborts("sender", "sley_chan_send: a second sender");
}

static void spsc_destroy_while_somebody_waits_aborts(void **state)
{
    (void)state;
    assert_aborts("destroy", "sley_chan_destroy");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(spsc_keeps_the_order_of_messages),
        PLAYED(spsc_full_and_empty_do_not_wait_without_time),
        PLAYED(spsc_batches_take_what_fits),
        PLAYED(spsc_message_wakes_the_receiver),
        PLAYED(spsc_room_wakes_the_sender),
        PLAYED(spsc_call_ends_at_its_deadline),
        PLAYED(spsc_carries_signals_and_drops_messages),
        PLAYED(spsc_refuses_what_it_cannot_carry),
        PLAYED(spsc_without_a_buffer_hands_over),
        cmocka_unit_test(spsc_create_refuses_what_cannot_be),
        PLAYED(spsc_closed_gives_out_the_rest_then_zero),
        PLAYED(spsc_close_wakes_who_waits),
        PLAYED(spsc_close_races_with_a_stream),
        PLAYED(spsc_may_be_freed_by_who_got_the_last_message),
        PLAYED(spsc_may_be_freed_behind_a_sender_that_had_waited),
        PLAYED(spsc_may_be_freed_by_who_saw_its_end),
        PLAYED(spsc_lives_until_its_last_reference),
        PLAYED(spsc_line_of_relays_keeps_every_message_in_order),
        PLAYED(spsc_pair_plays_ping_pong),
        PLAYED(spsc_sender_may_be_another_each_time),
        cmocka_unit_test(spsc_wait_ends_with_its_runtime),
        cmocka_unit_test(spsc_call_that_need_not_wait_is_not_cancelled),
        cmocka_unit_test(spsc_messages_are_counted_once),
        cmocka_unit_test(spsc_second_receiver_aborts),
        cmocka_unit_test(spsc_second_sender_aborts),
        cmocka_unit_test(spsc_destroy_while_somebody_waits_aborts),
    };

    if (argc > 1 && strcmp(argv[1], "receiver") == 0)
        return sley_run(NULL, second_receiver, NULL) < 0;
    if (argc > 1 && strcmp(argv[1], "sender") == 0)
        return sley_run(NULL, second_sender, NULL) < 0;
    if (argc > 1 && strcmp(argv[1], "destroy") == 0)
        return sley_run(NULL, destroy_under_a_receiver, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
