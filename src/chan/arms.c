/* arms.c - sending and receiving as arms of a select. object: the channel; data: the message; value: 0, so that a node stands for one.
 *
 * A select may hold a sender's and a receiver's arm of one channel. It never meets itself:
 *   - Somebody else must wait on the other side (sl_wait_list_has_live), or there must be room, or a message.
 *   - It then claims itself, so that its own node on the other side counts as one that nobody can claim: give and take unlink it and go on.
 *     That loses nothing, for a select that has won disarms all, and one that starts over links all anew (M4 of sched/park.h).
 *
 * Only without a buffer is a partner needed, who may be lost between the look and the claim: to time, to a cancel, to another arm; or
 * because it is a select that has just seen this one's arm elsewhere and claimed itself. Then both start over; what keeps them from
 * meeting so for ever is the select's (S4 of task/select.c). With a buffer the look is at the ring, which no claim takes away. */
#include "chan/arms.h"

#include "chan/chan.h"

/* Under both locks: whether somebody else than f waits on side s. */
static bool others_wait(sley_chan *ch, struct side *s, const struct sl_fiber *f)
{
    bool found = sl_wait_list_has_live(&s->waiters, f);

    if (s->waiters.head == NULL)
        forget_waiters(ch, s);
    return found;
}

static bool can_send(sley_chan *ch, const struct sl_fiber *f)
{
    return (flags_of(&ch->send) & (CLOSED | SUBSCRIBED)) || room_for(ch, 1) > 0 ||
           ((flags_of(&ch->send) & RECEIVERS) && others_wait(ch, &ch->recv, f));
}

static bool can_recv(sley_chan *ch, const struct sl_fiber *f)
{
    return (flags_of(&ch->recv) & CLOSED) || there_are(ch, 1) > 0 ||
           ((flags_of(&ch->recv) & SENDERS) && others_wait(ch, &ch->send, f));
}

/* Under both locks, the wait has begun: link the node, or do it. rc: give's or take's. */
static enum sl_armed arm_locked(sley_chan *ch, struct side *s, struct sl_wait_node *n, struct sl_fiber *f, struct sl_woken *woken, int *rc)
{
    bool sends = s == &ch->send;

    if (sends ? !can_send(ch, f) : !can_recv(ch, f)) {
        n->result = 0;
        link_node(ch, s, n);
        expect_disarm(ch);
        return SL_ARMED_LINKED;
    }
    if (!sl_claim_self(f))
        return SL_ARMED_LOST;
    *rc = sends ? give(ch, n->data, count_of(n), woken) : take(ch, n->data, count_of(n), woken);
    return *rc != 0 ? SL_ARMED_DONE : SL_ARMED_AGAIN;
}

static enum sl_armed arm_linking(sley_chan *ch, struct side *s, struct sl_wait_node *n, struct sl_fiber *f, int *rc)
{
    struct sl_woken woken = { NULL, NULL };
    enum sl_armed armed;

    lock_both(ch);
    armed = arm_locked(ch, s, n, f, &woken, rc);
    unlock_changed(ch);
    sl_woken_ready(&woken);
    return armed;
}

/* rc: what happened, as give and take say it; if the arm is done. */
static enum sl_armed arm(sley_chan *ch, struct side *s, struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode, int *rc)
{
    struct sl_woken woken = { NULL, NULL };

    if (is_one_to_one(s))
        return sl_spsc_arm(ch, s, n, f, mode, rc);
    if (mode == SL_ARM_LINK)
        return arm_linking(ch, s, n, f, rc);
    *rc = s == &ch->send ? try_send(ch, n->data, 1, &woken) : try_recv(ch, n->data, 1, &woken);
    sl_woken_ready(&woken);
    return *rc != 0 ? SL_ARMED_DONE : SL_ARMED_NOT_YET;
}

/* Of every node that was linked, once. */
static void disarm(sley_chan *ch, struct side *s, struct sl_wait_node *n)
{
    bool is_last;

    if (is_one_to_one(s)) {
        sl_spsc_disarm(ch, s, n);
        return;
    }
    lock_both(ch);
    if (sl_node_linked(n))
        unlink_node(ch, s, n);
    is_last = is_last_to_come(ch);
    unlock_changed(ch);
    if (is_last)
        sl_chan_drop(ch);
}

/* What the claimer has done, as give and take say it. The channel may be gone already (C7). */
static int settle(const struct sl_wait_node *n, unsigned why)
{
    return why == SL_ARM_CLOSE ? -EPIPE : n->result;
}

static int send_result(int rc) /* of one message */
{
    if (rc > 0)
        sl_count_chan_messages(rc);
    return rc > 0 ? 0 : rc;
}

static int recv_result(int rc)
{
    return rc == -EPIPE ? 0 : rc;
}

/* --- sending ------------------------------------------------------------------------------------------------------------------ */

static bool has_no_message(const struct sl_wait_node *n, const sley_chan *ch)
{
    return n->data == NULL && ch->send.elem_bytes > 0;
}

static bool send_ready(struct sl_wait_node *n)
{
    sley_chan *ch = n->object;
    struct side *s = &ch->send;

    return (flags_of(s) & (CLOSED | SUBSCRIBED | RECEIVERS)) || passed(s) - passed(&ch->recv) < s->capacity || has_no_message(n, ch);
}

static enum sl_armed send_arm(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode)
{
    sley_chan *ch = n->object;
    enum sl_armed armed;
    int rc = -EINVAL;

    if (has_no_message(n, ch))
        armed = mode == SL_ARM_TRY || sl_claim_self(f) ? SL_ARMED_DONE : SL_ARMED_LOST;
    else
        armed = arm(ch, &ch->send, n, f, mode, &rc);
    if (armed == SL_ARMED_DONE)
        n->result = send_result(rc);
    return armed;
}

static void send_disarm(struct sl_wait_node *n)
{
    sley_chan *ch = n->object;

    disarm(ch, &ch->send, n);
}

static bool send_settle(struct sl_wait_node *n, unsigned why)
{
    n->result = send_result(settle(n, why));
    return true;
}

const struct sl_arm_ops sl_chan_send_arm = { send_ready, send_arm, send_disarm, send_settle };

/* --- receiving ---------------------------------------------------------------------------------------------------------------- */

static bool recv_ready(struct sl_wait_node *n)
{
    sley_chan *ch = n->object;

    return (flags_of(&ch->recv) & (CLOSED | SENDERS)) || passed(&ch->send) != passed(&ch->recv);
}

static enum sl_armed recv_arm(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode)
{
    sley_chan *ch = n->object;
    int rc = 0;
    enum sl_armed armed = arm(ch, &ch->recv, n, f, mode, &rc);

    if (armed == SL_ARMED_DONE)
        n->result = recv_result(rc);
    return armed;
}

static void recv_disarm(struct sl_wait_node *n)
{
    sley_chan *ch = n->object;

    disarm(ch, &ch->recv, n);
}

static bool recv_settle(struct sl_wait_node *n, unsigned why)
{
    n->result = recv_result(settle(n, why));
    return true;
}

const struct sl_arm_ops sl_chan_recv_arm = { recv_ready, recv_arm, recv_disarm, recv_settle };

/* --- a plain send that settles a descriptor before it parks ------------------------------------------------------------------------ */

int sl_chan_send_watched(sley_chan *ch, char *msgs, uint32_t n, sley_time deadline)
{
    struct sl_wait_node node = { .data = msgs, .value = n };
    struct sl_fiber *f = sl_current();
    enum sl_armed armed = SL_ARMED_AGAIN;
    unsigned why = SL_ARM_EVENT;
    int rc = 0;

    sl_watch_hold(ch); /* to settle at the end */
    while (armed == SL_ARMED_AGAIN) { /* there was a receiver, and it has gone */
        rc = sl_wait_begin_many(f, deadline, SL_WAIT_SEND, ch);
        if (rc < 0)
            break;
        sl_node_init(&node, f);
        armed = arm_linking(ch, &ch->send, &node, f, &rc);
        if (armed != SL_ARMED_LINKED)
            sl_wait_end(f);
    }
    if (armed == SL_ARMED_LINKED) {
        if (sl_cancel_is_due(f) && sl_claim_self(f)) { /* [cancel.1] behind the lock */
            sl_wait_end(f);
            (void)sl_cancelled(f); /* notes it */
            why = SL_ARM_CANCEL;
        } else {
            why = sl_park_many();
        }
        disarm(ch, &ch->send, &node);
        rc = why == SL_ARM_EVENT ? node.result : why == SL_ARM_CLOSE ? -EPIPE : why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
    }
    sl_watch_settle(ch);
    return rc;
}
