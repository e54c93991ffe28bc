/* test_chan.c - channels: order, hand-over, batches, deadlines, close, references, arms of selects, on fibers and on plain threads. */
#include "scenario.h"

/* --- one call, by an actor ---------------------------------------------------------------------------------------------------- */

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

static int do_drop(void *arg)
{
    struct call *c = arg;
    return sley_chan_recv(c->ch, NULL, c->deadline);
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

/* Start a call that has to wait, and return when it does. */
static void waiting(struct call *c, sley_fn *fn, sley_chan *ch)
{
    c->ch = ch;
    c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, fn, c);
    actor_waits(&c->actor);
}

/* The same with a deadline, which may have passed by then. */
static void waiting_a_moment(struct call *c, sley_fn *fn, sley_chan *ch)
{
    c->ch = ch;
    c->deadline = sley_after(SLEY_MS);
    actor_start(&c->actor, fn, c);
    actor_waits_or_ended(&c->actor);
}

static int result(struct call *c) { return actor_result(&c->actor); }

static sley_chan *chan_of_longs(size_t capacity)
{
    sley_chan *ch = sley_chan_create(sizeof(long), capacity);

    EXPECT(ch != NULL);
    return ch;
}

static int send_now(sley_chan *ch, long v) { return sley_chan_send(ch, &v, SLEY_NOW); }

static long recv_now(sley_chan *ch) /* the message, or an error, or 0: the end */
{
    long v = -1;
    int rc = sley_chan_recv(ch, &v, SLEY_NOW);

    return rc > 0 ? v : rc;
}

/* --- order and hand-over ------------------------------------------------------------------------------------------------------ */

SCENARIO(chan_keeps_the_order_of_messages)
{
    sley_chan *ch = chan_of_longs(5);

    for (long round = 0; round < 40; round += 4) { /* so that the ring wraps at every place */
        for (long i = 1; i <= 4; i++)
            EXPECT(send_now(ch, round + i) == 0);
        EXPECT(sley_chan_len(ch) == 4);
        for (long i = 1; i <= 4; i++)
            EXPECT(recv_now(ch) == round + i);
    }
    EXPECT(sley_chan_len(ch) == 0 && sley_chan_cap(ch) == 5);
    sley_chan_destroy(ch);
}

SCENARIO(chan_hands_over_to_the_receiver_that_waits)
{
    for (size_t capacity = 0; capacity <= 2; capacity++) {
        sley_chan *ch = chan_of_longs(capacity);
        struct call c = { 0 };

        waiting(&c, do_recv, ch);
        EXPECT(send_now(ch, 42) == 0);
        EXPECT(c.msg[0] == 42); /* straight into its buffer, before it ran */
        EXPECT(sley_chan_len(ch) == 0);
        EXPECT(result(&c) == 1);
        sley_chan_destroy(ch);
    }
}

SCENARIO(chan_recv_takes_from_the_sender_that_waits)
{
    sley_chan *ch = chan_of_longs(0);
    struct call c = { .msg = { 7 } };

    waiting(&c, do_send, ch);
    EXPECT(recv_now(ch) == 7);
    EXPECT(result(&c) == 0);
    EXPECT(recv_now(ch) == -ETIMEDOUT);
    sley_chan_destroy(ch);
}

SCENARIO(chan_serves_receivers_in_the_order_they_came)
{
    for (size_t capacity = 0; capacity <= 1; capacity++) {
        sley_chan *ch = chan_of_longs(capacity);
        struct call c[5] = { { .n = 0 } };

        for (int i = 0; i < 5; i++)
            waiting(&c[i], do_recv, ch);
        for (int i = 0; i < 5; i++)
            EXPECT(send_now(ch, 10 + i) == 0);
        for (int i = 0; i < 5; i++)
            EXPECT(result(&c[i]) == 1 && c[i].msg[0] == 10 + i);
        sley_chan_destroy(ch);
    }
}

SCENARIO(chan_serves_senders_in_the_order_they_came)
{
    for (size_t capacity = 0; capacity <= 3; capacity++) {
        sley_chan *ch = chan_of_longs(capacity);
        struct call c[5] = { { .n = 0 } };

        for (size_t i = 0; i < capacity; i++)
            EXPECT(send_now(ch, i) == 0);
        for (size_t i = 0; i < 5; i++) {
            c[i].msg[0] = capacity + i;
            waiting(&c[i], do_send, ch);
        }
        for (size_t i = 0; i < capacity + 5; i++)
            EXPECT(recv_now(ch) == (long)i);
        for (int i = 0; i < 5; i++)
            EXPECT(result(&c[i]) == 0);
        EXPECT(recv_now(ch) == -ETIMEDOUT);
        sley_chan_destroy(ch);
    }
}

SCENARIO(chan_room_goes_to_the_sender_that_waits_at_once)
{
    sley_chan *ch = chan_of_longs(2);
    struct call c = { .msg = { 3 } };

    EXPECT(send_now(ch, 1) == 0 && send_now(ch, 2) == 0);
    waiting(&c, do_send, ch);
    EXPECT(recv_now(ch) == 1);
    EXPECT(sley_chan_len(ch) == 2);             /* its message is in, whether it ran or not */
    EXPECT(send_now(ch, 4) == -ETIMEDOUT); /* nobody overtakes it */
    EXPECT(result(&c) == 0);
    EXPECT(recv_now(ch) == 2 && recv_now(ch) == 3);
    sley_chan_destroy(ch);
}

/* --- sizes -------------------------------------------------------------------------------------------------------------------- */

static void fill(unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = seed * 31 + i * 7 + (i >> 8);
}

struct big_call {
    struct actor actor;
    sley_chan *ch;
    unsigned char msg[4096];
};

static int do_recv_big(void *arg)
{
    struct big_call *c = arg;
    return sley_chan_recv(c->ch, c->msg, SLEY_FOREVER);
}

static int do_send_big(void *arg)
{
    struct big_call *c = arg;
    return sley_chan_send(c->ch, c->msg, SLEY_FOREVER);
}

SCENARIO(chan_carries_every_byte_of_every_size)
{
    static const size_t sizes[] = { 1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 31, 32, 33, 64, 100, 4095, 4096 };
    static struct big_call c;
    static unsigned char in[4096 + 1], out[4096 + 1];

    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t n = sizes[s];
        for (size_t capacity = 0; capacity <= 3; capacity += 3) {
            sley_chan *ch = sley_chan_create(n, capacity);
            EXPECT(ch != NULL);
            c.ch = ch;
            for (unsigned round = 0; round < 5 && capacity > 0; round++) { /* through the ring */
                fill(in, n, round);
                EXPECT(sley_chan_send(ch, in, SLEY_NOW) == 0);
                memset(out, 0xee, sizeof out);
                EXPECT(sley_chan_recv(ch, out, SLEY_NOW) == 1);
                EXPECT(memcmp(in, out, n) == 0 && out[n] == 0xee);
            }
            memset(c.msg, 0xee, sizeof c.msg); /* to a receiver that waits */
            actor_start(&c.actor, do_recv_big, &c);
            actor_waits(&c.actor);
            fill(in, n, 77);
            EXPECT(sley_chan_send(ch, in, SLEY_NOW) == 0);
            EXPECT(actor_result(&c.actor) == 1);
            EXPECT(memcmp(in, c.msg, n) == 0 && (n == sizeof c.msg || c.msg[n] == 0xee));

            for (size_t i = 0; i < capacity; i++) /* from a sender that waits */
                EXPECT(sley_chan_send(ch, in, SLEY_NOW) == 0);
            fill(c.msg, n, 78);
            actor_start(&c.actor, do_send_big, &c);
            actor_waits(&c.actor);
            for (size_t i = 0; i < capacity; i++)
                EXPECT(sley_chan_recv(ch, NULL, SLEY_NOW) == 1);
            memset(out, 0xee, sizeof out);
            EXPECT(sley_chan_recv(ch, out, SLEY_NOW) == 1);
            EXPECT(actor_result(&c.actor) == 0);
            EXPECT(memcmp(c.msg, out, n) == 0 && out[n] == 0xee);
            sley_chan_destroy(ch);
        }
    }
}

SCENARIO(chan_of_zero_bytes_carries_signals)
{
    sley_chan *ch = sley_chan_create(0, 3);
    struct call c = { .n = 5 };

    EXPECT(sley_chan_send(ch, NULL, SLEY_NOW) == 0);
    EXPECT(sley_chan_send_n(ch, NULL, 5, SLEY_NOW) == 2);
    EXPECT(sley_chan_send(ch, NULL, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_chan_recv_n(ch, NULL, 2, SLEY_NOW) == 2);
    EXPECT(sley_chan_recv(ch, NULL, SLEY_NOW) == 1);
    EXPECT(sley_chan_recv(ch, NULL, SLEY_NOW) == -ETIMEDOUT);
    waiting(&c, do_recv_n, ch);
    EXPECT(sley_chan_send_n(ch, NULL, 7, SLEY_NOW) == 7); /* five to it, two into the ring */
    EXPECT(result(&c) == 5 && sley_chan_len(ch) == 2);
    sley_chan_destroy(ch);
}

SCENARIO(chan_recv_into_null_drops_the_message)
{
    sley_chan *ch = chan_of_longs(2), *direct = chan_of_longs(0);
    struct call c = { .n = 0 };

    EXPECT(send_now(ch, 1) == 0 && send_now(ch, 2) == 0);
    EXPECT(sley_chan_recv(ch, NULL, SLEY_NOW) == 1);
    EXPECT(recv_now(ch) == 2);

    waiting(&c, do_drop, direct); /* handed over */
    EXPECT(send_now(direct, 3) == 0);
    EXPECT(result(&c) == 1);

    c.msg[0] = 4;
    waiting(&c, do_send, direct); /* taken from a sender that waits */
    EXPECT(sley_chan_recv(direct, NULL, SLEY_NOW) == 1);
    EXPECT(result(&c) == 0);
    sley_chan_destroy(ch);
    sley_chan_destroy(direct);
}

static void chan_create_refuses_what_cannot_be(void **state)
{
    sley_chan *ch;

    (void)state;
    assert_null(sley_chan_create(SIZE_MAX, 1));
    assert_null(sley_chan_create(SIZE_MAX / 2, 2));
    assert_null(sley_chan_create(SIZE_MAX / 2, 3));        /* the product wraps to a small number */
    assert_null(sley_chan_create((size_t)1 << 32, UINT32_MAX));
    assert_null(sley_chan_create(0, SIZE_MAX));
    ch = sley_chan_create(0, UINT32_MAX); /* takes no room */
    assert_non_null(ch);
    assert_int_equal(sley_chan_cap(ch), UINT32_MAX);
    assert_int_equal(sley_chan_send(ch, NULL, SLEY_NOW), 0);
    assert_int_equal(sley_chan_send_n(ch, NULL, SIZE_MAX, SLEY_NOW), INT_MAX); /* as many as an int can say */
    assert_int_equal(sley_chan_recv_n(ch, NULL, SIZE_MAX, SLEY_NOW), INT_MAX);
    assert_int_equal(sley_chan_len(ch), 1);
    sley_chan_destroy(ch);
}

static void chan_that_is_null_is_einval(void **state)
{
    long v = 5;

    (void)state;
    assert_int_equal(sley_chan_send(NULL, &v, SLEY_FOREVER), -EINVAL);
    assert_int_equal(sley_chan_recv(NULL, &v, SLEY_FOREVER), -EINVAL);
    assert_int_equal(sley_chan_send_n(NULL, &v, 1, SLEY_FOREVER), -EINVAL);
    assert_int_equal(sley_chan_recv_n(NULL, &v, 1, SLEY_FOREVER), -EINVAL);
    assert_null(sley_chan_ref(NULL));
    sley_chan_close(NULL);
    sley_chan_destroy(NULL);
    assert_int_equal(sley_chan_len(NULL), 0);
    assert_int_equal(sley_chan_cap(NULL), 0);
    assert_int_equal(v, 5);
}

SCENARIO(chan_refuses_what_it_cannot_carry)
{
    sley_chan *ch = chan_of_longs(4);
    long v = 1;

    EXPECT(sley_chan_send(ch, NULL, SLEY_NOW) == -EINVAL);
    EXPECT(sley_chan_send_n(ch, NULL, 2, SLEY_NOW) == -EINVAL);
    EXPECT(sley_chan_send_n(ch, &v, 0, SLEY_NOW) == -EINVAL);
    EXPECT(sley_chan_recv_n(ch, &v, 0, SLEY_NOW) == -EINVAL);
    EXPECT(sley_chan_len(ch) == 0);
    sley_chan_destroy(ch);
}

/* --- batches ------------------------------------------------------------------------------------------------------------------ */

SCENARIO(chan_batches_take_what_fits)
{
    sley_chan *ch = chan_of_longs(5);
    long in[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, out[8];

    for (int round = 0; round < 11; round++) { /* the ring wraps inside of a batch at every place */
        EXPECT(sley_chan_send_n(ch, in, 3, SLEY_NOW) == 3);
        EXPECT(sley_chan_send_n(ch, in + 3, 5, SLEY_NOW) == 2);
        EXPECT(sley_chan_send_n(ch, in, 1, SLEY_NOW) == -ETIMEDOUT);
        memset(out, 0, sizeof out);
        EXPECT(sley_chan_recv_n(ch, out, 2, SLEY_NOW) == 2);
        EXPECT(sley_chan_send_n(ch, in + 5, 3, SLEY_NOW) == 2);
        EXPECT(sley_chan_recv_n(ch, NULL, 1, SLEY_NOW) == 1);
        EXPECT(sley_chan_recv_n(ch, out + 3, 8, SLEY_NOW) == 4);
        for (int i = 0; i < 7; i++)
            EXPECT(out[i] == (i == 2 ? 0 : in[i]));
        EXPECT(sley_chan_recv_n(ch, out, 8, SLEY_NOW) == -ETIMEDOUT);
        EXPECT(send_now(ch, 9) == 0 && recv_now(ch) == 9);
    }
    sley_chan_destroy(ch);
}

SCENARIO(chan_batch_is_spread_over_receivers_that_wait)
{
    sley_chan *ch = chan_of_longs(2);
    struct call c[3] = { { .n = 2 }, { .n = 3 }, { .n = 4 } };
    long in[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

    for (int i = 0; i < 3; i++)
        waiting(&c[i], do_recv_n, ch);
    EXPECT(sley_chan_send_n(ch, in, 3, SLEY_NOW) == 3);
    EXPECT(result(&c[0]) == 2 && c[0].msg[0] == 1 && c[0].msg[1] == 2);
    EXPECT(result(&c[1]) == 1 && c[1].msg[0] == 3); /* whoever waits is content with one */
    EXPECT(sley_chan_send_n(ch, in + 3, 9, SLEY_NOW) == 6); /* four to the last, two into the ring */
    EXPECT(result(&c[2]) == 4 && c[2].msg[0] == 4 && c[2].msg[3] == 7);
    EXPECT(recv_now(ch) == 8 && recv_now(ch) == 9 && recv_now(ch) == -ETIMEDOUT);
    sley_chan_destroy(ch);
}

SCENARIO(chan_batch_is_gathered_from_senders_that_wait)
{
    sley_chan *ch = chan_of_longs(2);
    struct call c[3] = { { .n = 2, .msg = { 3, 4 } }, { .n = 3, .msg = { 5, 6, 7 } }, { .n = 2, .msg = { 8, 9 } } };
    long out[8] = { 0 };

    EXPECT(send_now(ch, 1) == 0 && send_now(ch, 2) == 0);
    for (int i = 0; i < 3; i++)
        waiting(&c[i], do_send_n, ch);
    EXPECT(sley_chan_recv_n(ch, out, 3, SLEY_NOW) == 3); /* 1 2 from the ring, 3 from the first; 4 and 5 into the ring */
    EXPECT(result(&c[0]) == 2);
    EXPECT(result(&c[1]) == 1);
    EXPECT(sley_chan_len(ch) == 2);
    EXPECT(sley_chan_recv_n(ch, out + 3, 5, SLEY_NOW) == 4); /* 4 5, and 8 9 from the last: 6 and 7 were told that they did not go */
    EXPECT(result(&c[2]) == 2);
    for (int i = 0; i < 5; i++)
        EXPECT(out[i] == i + 1);
    EXPECT(out[5] == 8 && out[6] == 9 && out[7] == 0);
    sley_chan_destroy(ch);
}

SCENARIO(chan_batches_pass_without_a_buffer)
{
    sley_chan *ch = chan_of_longs(0);
    struct call c = { .n = 5, .msg = { 1, 2, 3, 4, 5 } }, d = { .n = 5 };
    long out[4] = { 0 };

    waiting(&c, do_send_n, ch);
    EXPECT(sley_chan_recv_n(ch, out, 4, SLEY_NOW) == 4);
    EXPECT(result(&c) == 4 && out[0] == 1 && out[3] == 4);
    waiting(&d, do_recv_n, ch);
    EXPECT(sley_chan_send_n(ch, out, 4, SLEY_NOW) == 4);
    EXPECT(result(&d) == 4 && d.msg[0] == 1 && d.msg[3] == 4);
    sley_chan_destroy(ch);
}

/* --- deadlines ---------------------------------------------------------------------------------------------------------------- */

SCENARIO(chan_call_ends_at_its_deadline)
{
    for (size_t capacity = 0; capacity <= 1; capacity++) {
        sley_chan *ch = chan_of_longs(capacity);
        long v = 8;
        sley_time deadline = sley_after(2 * SLEY_MS);

        EXPECT(sley_chan_recv(ch, &v, deadline) == -ETIMEDOUT && v == 8);
        EXPECT(sley_now() >= deadline);
        EXPECT(sley_chan_recv(ch, &v, deadline) == -ETIMEDOUT && v == 8); /* one that has passed */
        if (capacity == 1)
            EXPECT(sley_chan_send(ch, &v, deadline) == 0); /* ... matters only if the call has to wait */
        deadline = sley_after(2 * SLEY_MS);
        EXPECT(sley_chan_send_n(ch, &v, 1, deadline) == -ETIMEDOUT);
        EXPECT(sley_now() >= deadline);
        EXPECT(sley_chan_len(ch) == capacity);
        if (capacity == 1)
            EXPECT(sley_chan_recv(ch, &v, deadline) == 1 && v == 8);
        EXPECT(recv_now(ch) == -ETIMEDOUT); /* who gave up left nothing behind */
        sley_chan_destroy(ch);
    }
}

SCENARIO(chan_deadline_that_is_no_point_in_time_is_einval)
{
    static const sley_time bad[] = { 1, 5 * SLEY_MS, -1, INT64_MIN };
    sley_chan *ch = chan_of_longs(2);
    long v = 8;

    EXPECT(send_now(ch, 3) == 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(sley_chan_send(ch, &v, bad[i]) == -EINVAL);
        EXPECT(sley_chan_recv(ch, &v, bad[i]) == -EINVAL);
        EXPECT(sley_chan_send_n(ch, &v, 1, bad[i]) == -EINVAL);
        EXPECT(sley_chan_recv_n(ch, &v, 1, bad[i]) == -EINVAL);
    }
    EXPECT(v == 8 && sley_chan_len(ch) == 1 && recv_now(ch) == 3);
    sley_chan_destroy(ch);
}

SCENARIO(chan_receivers_that_gave_up_get_nothing)
{
    sley_chan *ch = chan_of_longs(0);
    struct call gone[3] = { { .msg = { -7 } }, { .msg = { -7 } }, { .msg = { -7 } } }, stays = { .n = 0 };

    for (int i = 0; i < 3; i++)
        waiting_a_moment(&gone[i], do_recv, ch);
    waiting(&stays, do_recv, ch);
    for (int i = 0; i < 3; i++)
        EXPECT(result(&gone[i]) == -ETIMEDOUT);
    EXPECT(send_now(ch, 1) == 0);
    EXPECT(result(&stays) == 1 && stays.msg[0] == 1);
    for (int i = 0; i < 3; i++)
        EXPECT(gone[i].msg[0] == -7);
    EXPECT(send_now(ch, 2) == -ETIMEDOUT);
    sley_chan_destroy(ch);
}

SCENARIO(chan_senders_that_gave_up_gave_nothing)
{
    sley_chan *ch = chan_of_longs(1);
    struct call gone[3] = { { .msg = { 100 } }, { .msg = { 101 } }, { .msg = { 102 } } }, stays = { .msg = { 2 } };

    EXPECT(send_now(ch, 1) == 0);
    for (int i = 0; i < 3; i++)
        waiting_a_moment(&gone[i], do_send, ch);
    waiting(&stays, do_send, ch);
    for (int i = 0; i < 3; i++)
        EXPECT(result(&gone[i]) == -ETIMEDOUT);
    EXPECT(recv_now(ch) == 1 && recv_now(ch) == 2 && recv_now(ch) == -ETIMEDOUT);
    EXPECT(result(&stays) == 0);
    sley_chan_destroy(ch);
}

/* --- close -------------------------------------------------------------------------------------------------------------------- */

SCENARIO(chan_closed_gives_out_the_rest_then_zero)
{
    sley_chan *ch = chan_of_longs(4);
    long out[4], v = 9;

    for (long i = 1; i <= 4; i++)
        EXPECT(send_now(ch, i) == 0);
    sley_chan_close(ch);
    sley_chan_close(ch);
    EXPECT(send_now(ch, 5) == -EPIPE);
    EXPECT(sley_chan_send(ch, &v, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_chan_send_n(ch, &v, 1, SLEY_FOREVER) == -EPIPE);
    EXPECT(recv_now(ch) == 1);
    EXPECT(sley_chan_recv_n(ch, out, 4, SLEY_FOREVER) == 3 && out[0] == 2 && out[2] == 4);
    EXPECT(sley_chan_recv(ch, &v, SLEY_FOREVER) == 0 && v == 9);
    EXPECT(sley_chan_recv_n(ch, &v, 1, SLEY_NOW) == 0 && v == 9);
    EXPECT(sley_chan_recv(ch, &v, SLEY_NOW) == 0);
    sley_chan_destroy(ch);
}

enum { MANY = 3 * SL_WAKE_ALL_BATCH + 5 }; /* more than close wakes under one hold of the lock */

SCENARIO(chan_close_wakes_all_receivers)
{
    static struct call c[MANY];
    sley_chan *ch = chan_of_longs(1);

    for (int i = 0; i < MANY; i++) {
        c[i].n = 4;
        c[i].msg[0] = -7;
        waiting(&c[i], i % 2 ? do_recv : do_recv_n, ch);
    }
    sley_chan_close(ch);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&c[i]) == 0 && c[i].msg[0] == -7);
    sley_chan_destroy(ch);
}

SCENARIO(chan_close_refuses_all_senders_that_wait)
{
    static struct call c[MANY];
    sley_chan *ch = chan_of_longs(1);

    EXPECT(send_now(ch, 1) == 0);
    for (int i = 0; i < MANY; i++) {
        c[i].n = 2;
        waiting(&c[i], i % 2 ? do_send : do_send_n, ch);
    }
    sley_chan_close(ch);
    for (int i = 0; i < MANY; i++)
        EXPECT(result(&c[i]) == -EPIPE);
    EXPECT(recv_now(ch) == 1);
    EXPECT(recv_now(ch) == 0); /* the end: nothing of theirs went */
    sley_chan_destroy(ch);
}

/* --- references --------------------------------------------------------------------------------------------------------------- */

SCENARIO(chan_lives_until_its_last_reference)
{
    sley_chan *ch = chan_of_longs(1);

    EXPECT(sley_chan_ref(ch) == ch && sley_chan_ref(ch) == ch);
    sley_chan_destroy(ch);
    EXPECT(send_now(ch, 1) == 0);
    sley_chan_destroy(ch);
    EXPECT(recv_now(ch) == 1);
    EXPECT(send_now(ch, 2) == 0);
    sley_chan_destroy(ch); /* with a message in it */
}

static int answer(void *arg)
{
    struct call *c = arg;
    int rc = sley_chan_send(c->ch, c->msg, SLEY_FOREVER);

    sley_chan_destroy(c->ch);
    return rc;
}

SCENARIO(chan_for_an_answer_may_be_given_up_by_who_asked)
{
    for (int round = 0; round < 50; round++) {
        struct call c = { .ch = chan_of_longs(1), .msg = { 5 } };
        long v = 5;
        int rc;

        sley_chan_ref(c.ch);
        actor_start(&c.actor, answer, &c);
        rc = sley_chan_recv(c.ch, &v, round % 2 ? SLEY_FOREVER : SLEY_NOW);
        EXPECT((rc == 1 || (rc == -ETIMEDOUT && round % 2 == 0)) && v == 5);
        sley_chan_destroy(c.ch);
        EXPECT(result(&c) == 0);
    }
}

/* The receiver of the only message frees the channel while the sender is still on its way out; a sanitizer or valgrind would see. */
SCENARIO(chan_may_be_freed_by_who_got_the_last_message)
{
    for (int round = 0; round < 200; round++) {
        struct call c = { .ch = chan_of_longs(round % 2), .deadline = SLEY_FOREVER, .msg = { round } };
        long v = -1;

        actor_start(&c.actor, do_send, &c);
        EXPECT(sley_chan_recv(c.ch, &v, SLEY_FOREVER) == 1 && v == round);
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

SCENARIO(chan_may_be_freed_by_who_saw_its_end)
{
    for (int round = 0; round < 200; round++) {
        struct call c = { .ch = chan_of_longs(1) };
        long v;

        actor_start(&c.actor, do_close, &c);
        EXPECT(sley_chan_recv(c.ch, &v, SLEY_FOREVER) == 0);
        sley_chan_destroy(c.ch);
        EXPECT(result(&c) == 0);
    }
}

/* Whoever waits and is told of the end does not come back to the channel. */
SCENARIO(chan_may_be_closed_and_freed_while_others_wait)
{
    for (int round = 0; round < 120; round++) {
        sley_chan *ch = round % 3 == 2 ? sley_chan_create_spsc(sizeof(long), 1) : chan_of_longs(round % 3);
        int sends = round / 3 % 2;
        struct call c = { .n = 2, .msg = { -7 } };

        EXPECT(!sends || sley_chan_cap(ch) == 0 || send_now(ch, 1) == 0);
        waiting(&c, round / 6 % 2 ? (sends ? do_send_n : do_recv_n) : sends ? do_send : do_recv, ch);
        sley_chan_close(ch);
        sley_chan_destroy(ch);
        EXPECT(result(&c) == (sends ? -EPIPE : 0) && c.msg[0] == -7);
    }
}

/* --- arms of a select --------------------------------------------------------------------------------------------------------- */

static int select_of(sley_case *on, size_t n, sley_time deadline) /* the arm's result, which is the only one that can go; or an error */
{
    int i = sley_select(on, n, deadline);

    return i < 0 ? i : on[i].result;
}

/* A select of one arm by which one of several can be meant. */
static int do_select_send(void *arg)
{
    struct call *c = arg;
    sley_case on[2] = { sley_case_send(NULL, c->msg), sley_case_send(c->ch, c->msg) };

    return select_of(on, 2, c->deadline);
}

static int do_select_recv(void *arg)
{
    struct call *c = arg;
    sley_case on[2] = { sley_case_recv(c->ch, c->msg), sley_case_recv(NULL, NULL) };

    return select_of(on, 2, c->deadline);
}

static int do_select_both(void *arg) /* sends msg[0], or receives into msg[1] */
{
    struct call *c = arg;
    sley_case on[2] = { sley_case_send(c->ch, &c->msg[0]), sley_case_recv(c->ch, &c->msg[1]) };

    return sley_select(on, 2, c->deadline);
}

SCENARIO(chan_arm_that_need_not_wait_is_the_call)
{
    for (int spsc = 0; spsc < 2; spsc++) {
        sley_chan *ch = spsc ? sley_chan_create_spsc(sizeof(long), 2) : chan_of_longs(2);
        struct call c = { .ch = ch, .deadline = SLEY_NOW };

        for (long i = 1; i <= 2; i++) {
            c.msg[0] = i;
            EXPECT(do_select_send(&c) == 0);
        }
        EXPECT(do_select_send(&c) == -ETIMEDOUT && sley_chan_len(ch) == 2);
        EXPECT(do_select_recv(&c) == 1 && c.msg[0] == 1);
        EXPECT(do_select_recv(&c) == 1 && c.msg[0] == 2);
        EXPECT(do_select_recv(&c) == -ETIMEDOUT && c.msg[0] == 2);
        EXPECT(do_select_send(&c) == 0);
        sley_chan_close(ch);
        EXPECT(do_select_send(&c) == -EPIPE);
        EXPECT(do_select_recv(&c) == 1 && do_select_recv(&c) == 0);
        sley_chan_destroy(ch);
    }
}

SCENARIO(chan_arm_drops_a_message_and_refuses_to_send_none)
{
    sley_chan *ch = chan_of_longs(1), *signals = sley_chan_create(0, 1);
    sley_case drop[1] = { sley_case_recv(ch, NULL) }, none[1] = { sley_case_send(ch, NULL) };
    sley_case signal[1] = { sley_case_send(signals, NULL) }, take[1] = { sley_case_recv(signals, NULL) };

    EXPECT(send_now(ch, 1) == 0 && select_of(drop, 1, SLEY_NOW) == 1 && recv_now(ch) == -ETIMEDOUT);
    EXPECT(select_of(none, 1, SLEY_NOW) == -EINVAL && select_of(none, 1, SLEY_FOREVER) == -EINVAL && sley_chan_len(ch) == 0);
    EXPECT(select_of(signal, 1, SLEY_NOW) == 0 && select_of(signal, 1, SLEY_NOW) == -ETIMEDOUT && select_of(take, 1, SLEY_NOW) == 1);
    sley_chan_destroy(ch);
    sley_chan_destroy(signals);
}

SCENARIO(chan_arm_that_waits_meets_a_plain_call)
{
    for (int kind = 0; kind < 3; kind++) { /* unbuffered, buffered, one-to-one */
        sley_chan *ch = kind == 2 ? sley_chan_create_spsc(sizeof(long), 1) : chan_of_longs(kind);
        struct call c = { .n = 0 };

        waiting(&c, do_select_recv, ch);
        EXPECT(send_now(ch, 5) == 0);
        EXPECT(result(&c) == 1 && c.msg[0] == 5);
        EXPECT(kind == 0 || send_now(ch, 6) == 0);
        c.msg[0] = 7;
        waiting(&c, do_select_send, ch);
        EXPECT(kind == 0 || recv_now(ch) == 6);
        if (kind == 2)
            EXPECT(result(&c) == 0 && recv_now(ch) == 7);
        else
            EXPECT(recv_now(ch) == 7 && result(&c) == 0);
        sley_chan_destroy(ch);
    }
}

SCENARIO(chan_close_ends_the_arms_that_wait)
{
    for (int kind = 0; kind < 3; kind++) {
        for (int sends = 0; sends < 2; sends++) {
            sley_chan *ch = kind == 2 ? sley_chan_create_spsc(sizeof(long), 1) : chan_of_longs(kind);
            struct call c = { .n = 0 };

            EXPECT(!sends || kind == 0 || send_now(ch, 6) == 0);
            waiting(&c, sends ? do_select_send : do_select_recv, ch);
            sley_chan_close(ch);
            EXPECT(result(&c) == (sends ? -EPIPE : 0));
            sley_chan_destroy(ch);
        }
    }
}

SCENARIO(chan_arm_that_gave_up_is_not_there)
{
    for (int kind = 0; kind < 3; kind++) {
        sley_chan *ch = kind == 2 ? sley_chan_create_spsc(sizeof(long), 1) : chan_of_longs(kind);
        struct call c = { .ch = ch, .deadline = sley_after(SLEY_MS), .msg = { 9 } };

        actor_start(&c.actor, do_select_recv, &c);
        EXPECT(result(&c) == -ETIMEDOUT);
        EXPECT(send_now(ch, 1) == (kind == 0 ? -ETIMEDOUT : 0));
        c.deadline = sley_after(SLEY_MS);
        actor_start(&c.actor, do_select_send, &c);
        EXPECT(result(&c) == -ETIMEDOUT);
        EXPECT(recv_now(ch) == (kind == 0 ? -ETIMEDOUT : 1) && recv_now(ch) == -ETIMEDOUT);
        sley_chan_destroy(ch);
    }
}

/* A select that may send and receive on the same channel does not take its own message. */
SCENARIO(chan_select_does_not_meet_itself)
{
    sley_chan *ch = chan_of_longs(0);
    struct call c = { .ch = ch, .deadline = sley_after(SLEY_MS), .msg = { 5, -7 } };

    actor_start(&c.actor, do_select_both, &c);
    EXPECT(result(&c) == -ETIMEDOUT && c.msg[1] == -7);
    waiting(&c, do_select_both, ch);
    EXPECT(recv_now(ch) == 5);
    EXPECT(result(&c) == 0 && c.msg[1] == -7 && recv_now(ch) == -ETIMEDOUT);
    waiting(&c, do_select_both, ch);
    EXPECT(send_now(ch, 6) == 0);
    EXPECT(result(&c) == 1 && c.msg[1] == 6 && send_now(ch, 7) == -ETIMEDOUT);
    sley_chan_destroy(ch);
}

SCENARIO(chan_two_selects_that_may_do_both_meet_once)
{
    sley_chan *ch = chan_of_longs(0);

    for (int round = 0; round < 200; round++) {
        struct call c[2];
        int arm[2];

        for (int i = 0; i < 2; i++) {
            c[i] = (struct call){ .ch = ch, .deadline = SLEY_FOREVER, .msg = { 10 + i, -7 } };
            actor_start(&c[i].actor, do_select_both, &c[i]);
        }
        for (int i = 0; i < 2; i++)
            arm[i] = result(&c[i]);
        EXPECT(arm[0] + arm[1] == 1); /* one sent, number arm[0], and one received, number arm[1] */
        EXPECT(c[arm[0]].msg[1] == -7 && c[arm[1]].msg[1] == 10 + arm[0]);
    }
    sley_chan_destroy(ch);
}

/* Who got or gave the message by an arm may free the channel, while the select that was its partner still unlinks what it has linked. */
SCENARIO(chan_may_be_freed_while_a_select_leaves)
{
    for (int round = 0; round < 200; round++) {
        struct call c = { .ch = chan_of_longs(0), .deadline = SLEY_FOREVER, .msg = { round } };
        sley_chan *ch = c.ch;
        int sends = round % 2;
        long v = round;

        if (round % 4 < 2)
            waiting(&c, sends ? do_select_send : do_select_recv, ch);
        else
            actor_start(&c.actor, sends ? do_select_send : do_select_recv, &c);
        EXPECT(sends ? sley_chan_recv(ch, &v, SLEY_FOREVER) == 1 : sley_chan_send(ch, &v, SLEY_FOREVER) == 0);
        sley_chan_destroy(ch);
        EXPECT(result(&c) == (sends ? 0 : 1) && v == round && c.msg[0] == round);
    }
}

SCENARIO(chan_may_be_closed_and_freed_under_a_select)
{
    for (int round = 0; round < 60; round++) {
        sley_chan *ch = round % 3 == 2 ? sley_chan_create_spsc(sizeof(long), 1) : chan_of_longs(round % 3);
        struct call c = { .n = 0 };

        waiting(&c, do_select_recv, ch);
        sley_chan_close(ch);
        sley_chan_destroy(ch);
        EXPECT(result(&c) == 0);
    }
}

static int select_many(void *arg)
{
    sley_stats *out = arg;
    struct call c = { .ch = chan_of_longs(2), .deadline = SLEY_NOW };

    EXPECT(do_select_send(&c) == 0 && do_select_send(&c) == 0 && do_select_send(&c) == -ETIMEDOUT);
    EXPECT(do_select_recv(&c) == 1);
    sley_chan_destroy(c.ch);
    c.ch = chan_of_longs(0);
    scene.cast = FIBERS;
    waiting(&c, do_select_send, c.ch);
    EXPECT(recv_now(c.ch) == 0 && result(&c) == 0);
    sley_chan_destroy(c.ch);
    return sley_stats_read(NULL, out, sizeof *out);
}

static void chan_messages_of_arms_are_counted_once(void **state)
{
    sley_stats stats = { 0 };

    (void)state;
    scene.unmet = NULL;
    assert_true(sley_run(NULL, select_many, &stats) >= 0);
    assert_null(scene.unmet);
    assert_int_equal(stats.chan_messages, 3);
}

/* --- cancel ------------------------------------------------------------------------------------------------------------------- */

static void chan_wait_ends_with_its_runtime(void **state)
{
    static sley_fn *const calls[] = { do_send, do_recv, do_send_n, do_recv_n };

    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        for (int i = 0; i < 4; i++) {
            sley_chan *ch = sley_chan_create(sizeof(long), 1);
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

/* What need not wait is done, also in a scope that was cancelled. */
static int send_and_receive_after_cancel(void *arg)
{
    struct call *c = arg;
    long v = 0;

    c->msg[0] = sley_chan_recv(c->ch, &v, SLEY_FOREVER);
    c->msg[1] = sley_chan_recv(c->ch, &v, SLEY_FOREVER);
    c->msg[2] = sley_chan_send(c->ch, &v, SLEY_FOREVER);
    c->msg[3] = sley_chan_recv(c->ch, &v, SLEY_FOREVER);
    c->msg[4] = sley_chan_recv(c->ch, &v, SLEY_NOW);
    return 0;
}

static void chan_call_that_need_not_wait_is_not_cancelled(void **state)
{
    sley_chan *ch = sley_chan_create(sizeof(long), 1);
    struct call c = { .ch = ch };

    (void)state;
    assert_int_equal(result_of_stopped(0, send_and_receive_after_cancel, &c), 0);
    assert_int_equal(c.msg[0], -ECANCELED);
    assert_int_equal(c.msg[1], -ECANCELED);
    assert_int_equal(c.msg[2], 0);
    assert_int_equal(c.msg[3], 1);
    assert_int_equal(c.msg[4], -ETIMEDOUT);
    sley_chan_destroy(ch);
}

static int send_many(void *arg)
{
    sley_stats *out = arg;
    sley_chan *ch = sley_chan_create(sizeof(long), 8);
    long m[8] = { 0 };

    EXPECT(sley_chan_send(ch, m, SLEY_NOW) == 0);
    EXPECT(sley_chan_send_n(ch, m, 8, SLEY_NOW) == 7);
    EXPECT(sley_chan_send(ch, m, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_chan_recv_n(ch, m, 3, SLEY_NOW) == 3);
    sley_chan_destroy(ch);
    return sley_stats_read(NULL, out, sizeof *out);
}

static void chan_messages_are_counted_once(void **state)
{
    sley_stats stats = { 0 };

    (void)state;
    scene.unmet = NULL;
    assert_true(sley_run(NULL, send_many, &stats) >= 0);
    assert_null(scene.unmet);
    assert_int_equal(stats.chan_messages, 8);
}

/* --- mixed -------------------------------------------------------------------------------------------------------------------- */

enum { LINE = 2000 };

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

    for (long i = 0; i < LINE && rc == 0; i++)
        rc = sley_chan_send(e->out, &i, SLEY_FOREVER);
    sley_chan_close(e->out);
    return rc;
}

SCENARIO(chan_line_of_relays_keeps_every_message_in_order)
{
    enum { RELAYS = 6 };
    struct end e[RELAYS + 1];
    sley_chan *ch[RELAYS + 1];
    long v, expected = RELAYS;
    int rc;

    for (int i = 0; i <= RELAYS; i++)
        ch[i] = chan_of_longs(i % 3);
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

static int bounce(void *arg)
{
    return relay(arg);
}

SCENARIO(chan_unbuffered_pair_plays_ping_pong)
{
    struct end e = { .in = chan_of_longs(0), .out = chan_of_longs(0) };
    long v = 0;

    actor_start(&e.actor, bounce, &e);
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

/* --- caller's bugs ------------------------------------------------------------------------------------------------------------ */

static int destroy_under_a_receiver(void *arg)
{
    static struct call c;

    (void)arg;
    scene.cast = FIBERS;
    waiting(&c, do_recv, chan_of_longs(0));
    sley_chan_destroy(c.ch);
    return 0;
}

static void chan_destroy_while_somebody_waits_aborts(void **state)
{
    (void)state;
    assert_aborts("destroy", "sley_chan_destroy");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(chan_keeps_the_order_of_messages),
        PLAYED(chan_hands_over_to_the_receiver_that_waits),
        PLAYED(chan_recv_takes_from_the_sender_that_waits),
        PLAYED(chan_serves_receivers_in_the_order_they_came),
        PLAYED(chan_serves_senders_in_the_order_they_came),
        PLAYED(chan_room_goes_to_the_sender_that_waits_at_once),
        PLAYED(chan_carries_every_byte_of_every_size),
        PLAYED(chan_of_zero_bytes_carries_signals),
        PLAYED(chan_recv_into_null_drops_the_message),
        cmocka_unit_test(chan_create_refuses_what_cannot_be),
        cmocka_unit_test(chan_that_is_null_is_einval),
        PLAYED(chan_refuses_what_it_cannot_carry),
        PLAYED(chan_batches_take_what_fits),
        PLAYED(chan_batch_is_spread_over_receivers_that_wait),
        PLAYED(chan_batch_is_gathered_from_senders_that_wait),
        PLAYED(chan_batches_pass_without_a_buffer),
        PLAYED(chan_call_ends_at_its_deadline),
        PLAYED(chan_deadline_that_is_no_point_in_time_is_einval),
        PLAYED(chan_receivers_that_gave_up_get_nothing),
        PLAYED(chan_senders_that_gave_up_gave_nothing),
        PLAYED(chan_closed_gives_out_the_rest_then_zero),
        PLAYED(chan_close_wakes_all_receivers),
        PLAYED(chan_close_refuses_all_senders_that_wait),
        PLAYED(chan_lives_until_its_last_reference),
        PLAYED(chan_for_an_answer_may_be_given_up_by_who_asked),
        PLAYED(chan_may_be_freed_by_who_got_the_last_message),
        PLAYED(chan_may_be_freed_by_who_saw_its_end),
        PLAYED(chan_may_be_closed_and_freed_while_others_wait),
        PLAYED(chan_arm_that_need_not_wait_is_the_call),
        PLAYED(chan_arm_drops_a_message_and_refuses_to_send_none),
        PLAYED(chan_arm_that_waits_meets_a_plain_call),
        PLAYED(chan_close_ends_the_arms_that_wait),
        PLAYED(chan_arm_that_gave_up_is_not_there),
        PLAYED(chan_select_does_not_meet_itself),
        PLAYED(chan_two_selects_that_may_do_both_meet_once),
        PLAYED(chan_may_be_freed_while_a_select_leaves),
        PLAYED(chan_may_be_closed_and_freed_under_a_select),
        cmocka_unit_test(chan_messages_of_arms_are_counted_once),
        cmocka_unit_test(chan_wait_ends_with_its_runtime),
        cmocka_unit_test(chan_call_that_need_not_wait_is_not_cancelled),
        cmocka_unit_test(chan_messages_are_counted_once),
        PLAYED(chan_line_of_relays_keeps_every_message_in_order),
        PLAYED(chan_unbuffered_pair_plays_ping_pong),
        cmocka_unit_test(chan_destroy_while_somebody_waits_aborts),
    };

    if (argc > 1 && strcmp(argv[1], "destroy") == 0)
        return sley_run(NULL, destroy_under_a_receiver, NULL) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
