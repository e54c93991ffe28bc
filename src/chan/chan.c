/* chan.c - channels: a ring of messages between two sides, each with its lock and its list of waiters.
 *
 *   C1  `send` is the senders' side, `recv` the receivers'. A side's `slot`, `passed` and `other_seen` change under its lock; `flags`
 *       and both lists under both locks, taken in the order send, recv. Without a buffer there is only the senders' lock, and it is both.
 *   C2  The ring holds send.passed - recv.passed messages. A call that does not wait, and for which nobody waits, takes its own side's
 *       lock alone, and sees of the other side `passed`: there may be more room, or more messages, than it saw, never less.
 *   C3  A receiver is linked only while the ring is empty and no live sender waits, a sender only while the ring is full; a select may be
 *       on both sides, and counts for neither where it looks itself (arms.c). So messages leave in the order: ring, then the waiting
 *       senders, oldest first.
 *   C4  While senders wait, receivers go through both locks: who makes room moves the oldest waiting sender's message into the ring at
 *       once. While receivers wait, senders do: who brings a message gives it to the oldest. So nobody overtakes on either
 *       side, and a hand-over copies once, from sender to receiver.
 *   C5  A message is moved under the lock and, if the other side waits, by whom has claimed it; a claim succeeds once (park.h). So it
 *       goes exactly once, and a wait ended by time, cancel or close has moved nothing.
 *   C6  CLOSED is set once. From then on nobody links itself, so waking all ends; messages of senders that still wait may be
 *       received until close has got to them, and each sender is told which it was.
 *   C7  After its last unlock a call touches neither the channel nor a node, and who frees the channel has held both locks. So the
 *       receiver of the last message may give up the last reference while the sender is still on its way out.
 *   C8  SENDERS and RECEIVERS in `flags` say whether the list has nodes, also such whose claim will fail. The next one of the other
 *       side unlinks those, or their own fiber does.
 *   C9  A flag that concerns others than the two sides (WATCHED, WANTED, SUBSCRIBED) turns every call to both locks; it is set under both.
 *  C10  A select's node may be claimed from the moment it is linked, its fiber being still at other objects; its fiber locks the channel
 *       again before it leaves (M3 of sched/park.h), so what the claimer does under the locks is done by then. `arms` counts those that
 *       will: if the users have given the channel up meanwhile (C7), the last of them frees it.
 *
 * Rejected: one lock, whose line moves with every message between two workers: 182 ns a message against 43. Tickets with a sequence
 * a slot: 22 there, but 30 on one worker against 20, and a slot that is taken and not yet filled has no good answer to close, to a
 * cancel, and to a receiver that parks. A woken sender that stores by itself: it could be overtaken.
 *
 * A sender:   lock send; nobody waits and there is room: store, unlock. A receiver waits: lock recv too, claim it, copy into its
 *             buffer, unlink, unlock, make ready. Else unlock, arm, lock both, look again, link, park.
 * A receiver: lock recv; no sender waits and there is a message: take, unlock. Else unlock, and if senders wait or it is closed: lock
 *             both, take, let the oldest sender's message in, unlock, make it ready. Else arm, lock both, look again, link, park.
 * Who parks unlocks the receivers' side first and hands the senders' lock to the switch. Every claim is made under both, so none can
 * meet a fiber whose context is not saved.
 *
 * order [chan.1]: a reference is given back with release, after everything its owner did; the last one acquires it and frees.
 * order [chan.2]: a message is in its slot before send.passed says so; receivers acquire that.
 * order [chan.3]: a message is out of its slot before recv.passed says so; senders acquire that. */
#include "chan/chan.h"

/* --- send and receive: inlined into the public calls, which alone stand above sl_park ----------------------------------------- */

/* Send from side `send`, receive from side `recv`. How many went or came; -EPIPE: closed, and for a receiver empty. */
ALWAYS_INLINE int pass(sley_chan *ch, struct side *s, char *msgs, uint32_t n, sley_time deadline)
{
    struct sl_woken woken = { NULL, NULL };
    bool sends = s == &ch->send;
    struct sl_wait_node node;
    struct sl_fiber *f;
    bool must_settle;
    unsigned why;
    int rc;

    f = sl_current();
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    rc = sends ? try_send(ch, msgs, n, &woken) : try_recv(ch, msgs, n, &woken);
    sl_woken_ready(&woken);
    if (rc != 0)
        return rc;
    if ((rc = sl_wait_begin(f, deadline, sends ? SL_WAIT_SEND : SL_WAIT_RECV, ch)) < 0)
        return rc;
    lock_both(ch);
    woken = (struct sl_woken){ NULL, NULL };
    rc = sends ? give(ch, msgs, n, &woken) : take(ch, msgs, n, &woken);
    if (rc == 0 && sl_cancelled(f))
        rc = -ECANCELED;
    must_settle = sends && rc == 0 && s->capacity == 0 && (flags_of(s) & WATCHED); /* with a buffer there are messages already */
    if (rc != 0 || must_settle) {
        sl_wait_end(f);
        unlock_changed(ch);
        sl_woken_ready(&woken);
        return must_settle ? sl_chan_send_watched(ch, msgs, n, deadline) : rc;
    }
    sl_node_init(&node, f);
    node.data = msgs;
    node.value = n;
    link_node(ch, s, &node);
    unlock_recv(ch);
    why = sl_park(&ch->send.lock);
    if (why == SL_ARM_EVENT)
        return node.result;
    if (why == SL_ARM_CLOSE)
        return -EPIPE;
    lock_both(ch);
    if (sl_node_linked(&node))
        unlink_node(ch, s, &node);
    unlock_changed(ch);
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

ALWAYS_INLINE int send_some(sley_chan *ch, const void *msgs, size_t n, sley_time deadline)
{
    int rc;

    if ((msgs == NULL && ch->send.elem_bytes > 0) || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    rc = pass(ch, &ch->send, (char *)msgs, least(n, INT_MAX), deadline);
    if (rc > 0)
        sl_count_chan_messages(rc);
    return rc;
}

ALWAYS_INLINE int recv_some(sley_chan *ch, void *msgs, size_t n, sley_time deadline)
{
    int rc;

    if (sl_deadline_check(deadline) < 0)
        return -EINVAL;
    rc = pass(ch, &ch->recv, msgs, least(n, INT_MAX), deadline);
    return rc == -EPIPE ? 0 : rc;
}

/* The four calls, but of one-to-one channels. Out of line, so that those need not save what these save. */
#define APART static __attribute__((noinline))

APART int send_one(sley_chan *ch, const void *msg, sley_time deadline)
{
    int rc = send_some(ch, msg, 1, deadline);

    return rc > 0 ? 0 : rc;
}

APART int recv_one(sley_chan *ch, void *msg, sley_time deadline)
{
    return recv_some(ch, msg, 1, deadline);
}

APART int send_n(sley_chan *ch, const void *msgs, size_t n, sley_time deadline)
{
    return send_some(ch, msgs, n, deadline);
}

APART int recv_n(sley_chan *ch, void *msgs, size_t n, sley_time deadline)
{
    return recv_some(ch, msgs, n, deadline);
}

int sley_chan_send(sley_chan *ch, const void *msg, sley_time deadline)
{
    if (ch == NULL)
        return -EINVAL;
    return is_one_to_one(&ch->send) ? sl_spsc_send(ch, msg, deadline) : send_one(ch, msg, deadline);
}

int sley_chan_recv(sley_chan *ch, void *msg, sley_time deadline)
{
    if (ch == NULL)
        return -EINVAL;
    return is_one_to_one(&ch->recv) ? sl_spsc_recv(ch, msg, deadline) : recv_one(ch, msg, deadline);
}

/* n 0: -EINVAL on both sides, for to a receiver 0 says that the channel has ended. */
int sley_chan_send_n(sley_chan *ch, const void *msgs, size_t n, sley_time deadline)
{
    if (ch == NULL || n == 0)
        return -EINVAL;
    return is_one_to_one(&ch->send) ? sl_spsc_send_n(ch, msgs, n, deadline) : send_n(ch, msgs, n, deadline);
}

int sley_chan_recv_n(sley_chan *ch, void *msgs, size_t n, sley_time deadline)
{
    if (ch == NULL || n == 0)
        return -EINVAL;
    return is_one_to_one(&ch->recv) ? sl_spsc_recv_n(ch, msgs, n, deadline) : recv_n(ch, msgs, n, deadline);
}

/* --- the rest ----------------------------------------------------------------------------------------------------------------- */

sley_chan *sl_chan_create(size_t elem_bytes, size_t capacity, unsigned flags)
{
    size_t bytes;
    sley_chan *ch;

    if (capacity > UINT32_MAX || __builtin_mul_overflow(elem_bytes, capacity, &bytes) || bytes > PTRDIFF_MAX - sizeof *ch - 63)
        return NULL;
    ch = aligned_alloc(64, (sizeof *ch + bytes + 63) & ~(size_t)63);
    if (ch == NULL)
        return NULL;
    memset(ch, 0, sizeof *ch);
    ch->send.elem_bytes = ch->recv.elem_bytes = elem_bytes;
    ch->send.capacity = ch->recv.capacity = capacity;
    set_flags(ch, flags);
    sl_store_relaxed(&ch->refs, 1); /* nobody else knows it */
    return ch;
}

void sl_chan_free(sley_chan *ch)
{
    if (ch->bcast != NULL)
        sl_bcast_drop(ch->bcast);
    free(ch);
}

sley_chan *sley_chan_create(size_t elem_bytes, size_t capacity)
{
    return sl_chan_create(elem_bytes, capacity, 0);
}

sley_chan *sley_chan_ref(sley_chan *ch)
{
    if (ch != NULL)
        sl_add_relaxed(&ch->refs, 1); /* the caller has one, so it cannot be the last */
    return ch;
}

void sl_chan_drop(sley_chan *ch)
{
    if (ch->watch != NULL)
        sl_watch_drop(ch);
    else
        sl_chan_free(ch);
}

void sley_chan_destroy(sley_chan *ch)
{
    bool is_expected;

    if (ch == NULL || sl_sub_acq_rel(&ch->refs, 1) > 1) /* [chan.1] */
        return;
    if (ch->bcast != NULL)
        sl_bcast_leave(ch);
    if (is_one_to_one(&ch->send))
        sl_spsc_wait_unused(ch);
    lock_both(ch); /* C7 */
    SLEY_ASSERT(ch->send.waiters.head == NULL && ch->recv.waiters.head == NULL, "sley_chan_destroy", "somebody waits for the channel");
    is_expected = ch->given_up = ch->arms > 0;
    unlock_both(ch);
    if (!is_expected)
        sl_chan_drop(ch);
}

void sley_chan_close(sley_chan *ch)
{
    bool done = ch == NULL;

    if (ch != NULL && is_one_to_one(&ch->send)) {
        sl_spsc_close(ch);
        return;
    }
    if (ch != NULL && ch->bcast != NULL)
        sl_bcast_leave(ch);
    while (!done) {
        struct sl_woken woken = { NULL, NULL };

        lock_both(ch);
        done = sl_chan_close_some(ch, &woken);
        unlock_changed(ch);
        sl_woken_ready(&woken);
    }
}

bool sl_chan_close_some(sley_chan *ch, struct sl_woken *woken)
{
    unsigned room = SL_WAKE_ALL_BATCH;
    bool done = sl_wake_some(&ch->recv.waiters, SL_ARM_CLOSE, &room, woken);

    done = sl_wake_some(&ch->send.waiters, SL_ARM_CLOSE, &room, woken) && done;
    set_flags(ch, (flags_of(&ch->send) & ~(SENDERS | RECEIVERS)) | CLOSED | (ch->send.waiters.head != NULL ? SENDERS : 0) |
                      (ch->recv.waiters.head != NULL ? RECEIVERS : 0));
    return done;
}

void sl_chan_unlock_and_tell(sley_chan *ch)
{
    unsigned flags = flags_of(&ch->send);
    bool has_room = (flags & WANTED) && passed(&ch->send) - passed(&ch->recv) < ch->send.capacity;

    if (has_room)
        set_flags(ch, flags & ~WANTED);
    if (flags & WATCHED)
        sl_watch_hold(ch);
    unlock_both(ch);
    if (has_room)
        sl_bcast_room(ch->bcast);
    if (flags & WATCHED)
        sl_watch_settle(ch);
}

/* Two looks that are not one: the ring may have moved on between them. */
size_t sley_chan_len(const sley_chan *ch)
{
    uint32_t out = ch == NULL ? 0 : sl_load_acquire(&ch->recv.passed); /* [chan.3] */

    return ch == NULL ? 0 : least(passed(&ch->send) - out, ch->send.capacity);
}

size_t sley_chan_cap(const sley_chan *ch)
{
    return ch == NULL ? 0 : ch->send.capacity;
}
