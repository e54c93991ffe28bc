/* chan.c - channels: a ring of messages between two sides, each with its lock and its list of waiters.
 *
 *   C1  `send` is the senders' side, `recv` the receivers'. A side's `slot`, `passed` and `other_seen` change under its lock; `flags`
 *       and both lists under both locks, taken in the order send, recv. Without a buffer there is only the senders' lock, and it is both.
 *   C2  The ring holds send.passed - recv.passed messages. A call that does not wait, and for which nobody waits, takes its own side's
 *       lock alone, and sees of the other side `passed`: there may be more room, or more messages, than it saw, never less.
 *   C3  A receiver is linked only while the ring is empty and no live sender waits; a sender only while the ring is full. So messages
 *       leave in the order: ring, then the waiting senders, oldest first.
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
#include "base/assert.h"
#include "sched/worker.h"
#include "sync/wake.h"

#include <sley/chan.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { CLOSED = 1, SENDERS = 2, RECEIVERS = 4 };

struct side {
    _Alignas(64) struct sl_lock lock; /* a cache line: a call that does not wait touches its own side and the message */
    _Atomic(uint8_t)    flags;      /* equal on both sides */
    uint32_t            slot;       /* where the side's next message goes to or comes from */
    _Atomic(uint32_t)   passed;     /* messages that went in here, or out here; wraps */
    uint32_t            other_seen; /* the other side's `passed` when this side last looked */
    uint32_t            capacity;   /* of the channel; constant */
    size_t              elem_bytes; /* of the channel; constant */
    struct sl_wait_list waiters;    /* data, count: messages offered or wanted, at least 1; result: how many of them went */
};

struct sley_chan {
    struct side       send, recv;
    _Atomic(uint32_t) refs;
    _Alignas(64) char ring[];
};

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* --- under a lock ------------------------------------------------------------------------------------------------------------- */

static inline unsigned flags_of(const struct side *s) { return sl_load_relaxed(&s->flags); } /* under its lock, or a hint */
static inline uint32_t passed(const struct side *s) { return sl_load_relaxed(&s->passed); }  /* under its lock, or a hint */

static inline void lock_both(sley_chan *ch)
{
    sl_lock_acquire(&ch->send.lock);
    if (ch->send.capacity > 0)
        sl_lock_acquire(&ch->recv.lock);
}

static inline void unlock_recv(sley_chan *ch)
{
    if (ch->send.capacity > 0)
        sl_lock_release(&ch->recv.lock);
}

static inline void unlock_both(sley_chan *ch)
{
    unlock_recv(ch);
    sl_lock_release(&ch->send.lock);
}

static inline void set_flags(sley_chan *ch, unsigned flags)
{
    sl_store_relaxed(&ch->send.flags, flags); /* under both locks */
    sl_store_relaxed(&ch->recv.flags, flags); /* under both locks */
}

static inline void unlink_node(sley_chan *ch, struct side *s, struct sl_wait_node *n)
{
    sl_wait_list_remove(&s->waiters, n);
    if (s->waiters.head == NULL)
        set_flags(ch, flags_of(s) & ~(s == &ch->send ? SENDERS : RECEIVERS));
}

static inline uint32_t least(size_t a, size_t b) { return a < b ? a : b; }

static inline char *after(char *msgs, size_t n, size_t elem_bytes) /* where the messages behind the first n are; NULL: nowhere */
{
    return msgs == NULL ? NULL : msgs + n * elem_bytes;
}

/* n messages from one place to another; `to` NULL drops them. The sizes that most have are moved in registers. */
ALWAYS_INLINE void copy(char *to, const char *from, size_t elem_bytes, size_t n)
{
    size_t bytes = n * elem_bytes;

    if (to == NULL)
        return;
    if (bytes == 8)
        memcpy(to, from, 8);
    else if (bytes == 4)
        memcpy(to, from, 4);
    else if (bytes == 16)
        memcpy(to, from, 16);
    else if (bytes == 32)
        memcpy(to, from, 32);
    else if (bytes > 0) /* without bytes there need not be a place */
        memcpy(to, from, bytes);
}

/* The n next messages between `msgs` and the ring on side s, as one or two runs. There is room for them, or they are there. */
ALWAYS_INLINE void move(sley_chan *ch, struct side *s, char *msgs, uint32_t n)
{
    size_t bytes = s->elem_bytes;
    uint32_t run = n == 1 ? 1 : least(n, s->capacity - s->slot);
    char *at = ch->ring + s->slot * bytes;

    if (s == &ch->send)
        copy(at, msgs, bytes, run);
    else
        copy(msgs, at, bytes, run);
    s->slot += run;
    if (s->slot == s->capacity)
        s->slot = 0;
    if (run < n) {
        if (s == &ch->send)
            copy(ch->ring, after(msgs, run, bytes), bytes, n - run);
        else
            copy(after(msgs, run, bytes), ch->ring, bytes, n - run);
        s->slot = n - run;
    }
    sl_store_release(&s->passed, passed(s) + n); /* [chan.2] [chan.3] */
}

/* How many of n messages there is room for; under the senders' lock. */
ALWAYS_INLINE uint32_t room_for(sley_chan *ch, uint32_t n)
{
    struct side *s = &ch->send;
    uint32_t room = s->capacity - (passed(s) - s->other_seen);

    if (room < n) {
        s->other_seen = sl_load_acquire(&ch->recv.passed); /* [chan.3] */
        room = s->capacity - (passed(s) - s->other_seen);
    }
    return least(room, n);
}

/* How many of n messages there are; under the receivers' lock. */
ALWAYS_INLINE uint32_t there_are(sley_chan *ch, uint32_t n)
{
    struct side *r = &ch->recv;
    uint32_t there = r->other_seen - passed(r);

    if (there < n) {
        r->other_seen = sl_load_acquire(&ch->send.passed); /* [chan.2] */
        there = r->other_seen - passed(r);
    }
    return least(there, n);
}

/* --- under both locks --------------------------------------------------------------------------------------------------------- */

/* Give of n messages what can go now: how many went; -EPIPE. */
ALWAYS_INLINE int give(sley_chan *ch, char *msgs, uint32_t n, struct sl_woken *woken)
{
    size_t bytes = ch->send.elem_bytes;
    uint32_t went = 0, k;

    if (flags_of(&ch->send) & CLOSED)
        return -EPIPE;
    while (went < n && (flags_of(&ch->send) & RECEIVERS)) {
        struct sl_wait_node *node = ch->recv.waiters.head;
        if (sl_claim(node, SL_ARM_EVENT)) {
            k = n == 1 ? 1 : least(node->count, n - went);
            copy(node->data, after(msgs, went, bytes), bytes, k);
            node->result = k;
            went += k;
            sl_woken_add(woken, node->fiber);
        }
        unlink_node(ch, &ch->recv, node);
    }
    k = went < n ? room_for(ch, n - went) : 0;
    if (k > 0)
        move(ch, &ch->send, after(msgs, went, bytes), k);
    return went + k;
}

/* Take up to n messages that can be had now: how many came; 0: none; -EPIPE: none, and none will. */
ALWAYS_INLINE int take(sley_chan *ch, char *msgs, uint32_t n, struct sl_woken *woken)
{
    size_t bytes = ch->recv.elem_bytes;
    uint32_t came = there_are(ch, n), room;

    if (came > 0)
        move(ch, &ch->recv, msgs, came);
    while ((flags_of(&ch->recv) & SENDERS) && ((room = room_for(ch, UINT32_MAX)) > 0 || came < n)) {
        struct sl_wait_node *node = ch->send.waiters.head;
        if (sl_claim(node, SL_ARM_EVENT)) {
            char *from = node->data;
            uint32_t direct = least(node->count, n - came);
            uint32_t stored = least(node->count - direct, room);
            copy(after(msgs, came, bytes), from, bytes, direct);
            if (stored > 0)
                move(ch, &ch->send, after(from, direct, bytes), stored);
            came += direct;
            node->result = direct + stored;
            sl_woken_add(woken, node->fiber);
        }
        unlink_node(ch, &ch->send, node);
    }
    return came == 0 && (flags_of(&ch->recv) & CLOSED) ? -EPIPE : (int)came;
}

/* --- send and receive: inlined into the public calls, which alone stand above sl_park ----------------------------------------- */

/* What can be done without waiting: as give. */
ALWAYS_INLINE int try_send(sley_chan *ch, char *msgs, uint32_t n, struct sl_woken *woken)
{
    struct side *s = &ch->send;
    int rc;

    if (s->capacity == 0 && !(flags_of(s) & (CLOSED | RECEIVERS))) /* hint */
        return 0;
    sl_lock_acquire(&s->lock);
    if (__builtin_expect(!(flags_of(s) & (CLOSED | RECEIVERS)), 1)) {
        rc = room_for(ch, n);
        if (rc > 0)
            move(ch, s, msgs, rc);
        sl_lock_release(&s->lock);
        return rc;
    }
    if (s->capacity > 0)
        sl_lock_acquire(&ch->recv.lock);
    rc = give(ch, msgs, n, woken);
    unlock_both(ch);
    return rc;
}

/* What can be done without waiting: as take. */
ALWAYS_INLINE int try_recv(sley_chan *ch, char *msgs, uint32_t n, struct sl_woken *woken)
{
    struct side *r = &ch->recv;
    unsigned flags;
    int rc = 0;

    if (r->capacity > 0) {
        sl_lock_acquire(&r->lock);
        flags = flags_of(r);
        if (!(flags & SENDERS)) {
            rc = there_are(ch, n);
            if (rc > 0)
                move(ch, r, msgs, rc);
        }
        sl_lock_release(&r->lock);
        if (rc > 0)
            return rc;
    } else {
        flags = flags_of(r); /* hint */
    }
    if (!(flags & (CLOSED | SENDERS)))
        return 0;
    lock_both(ch);
    rc = take(ch, msgs, n, woken);
    unlock_both(ch);
    return rc;
}

/* Send from side `send`, receive from side `recv`. How many went or came; -EPIPE: closed, and for a receiver empty. */
ALWAYS_INLINE int pass(sley_chan *ch, struct side *s, char *msgs, uint32_t n, sley_time deadline)
{
    struct sl_woken woken = { NULL, NULL };
    bool sends = s == &ch->send;
    struct sl_wait_node node;
    struct sl_fiber *f;
    unsigned why;
    int rc;

    rc = sends ? try_send(ch, msgs, n, &woken) : try_recv(ch, msgs, n, &woken);
    sl_woken_ready(&woken);
    if (rc != 0)
        return rc;
    f = sl_current();
    if ((rc = sl_wait_begin(f, deadline, sends ? SL_WAIT_SEND : SL_WAIT_RECV, ch)) < 0)
        return rc;
    lock_both(ch);
    woken = (struct sl_woken){ NULL, NULL };
    rc = sends ? give(ch, msgs, n, &woken) : take(ch, msgs, n, &woken);
    if (rc == 0 && sl_cancelled(f))
        rc = -ECANCELED;
    if (rc != 0) {
        sl_wait_end(f);
        unlock_both(ch);
        sl_woken_ready(&woken);
        return rc;
    }
    node.fiber = f;
    node.sequence = sl_wait_sequence(f);
    node.data = msgs;
    node.count = n;
    sl_wait_list_push(&s->waiters, &node);
    set_flags(ch, flags_of(s) | (sends ? SENDERS : RECEIVERS));
    unlock_recv(ch);
    why = sl_park(&ch->send.lock);
    if (why == SL_ARM_EVENT)
        return node.result;
    if (why == SL_ARM_CLOSE)
        return -EPIPE;
    lock_both(ch);
    if (node.linked)
        unlink_node(ch, s, &node);
    unlock_both(ch);
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

ALWAYS_INLINE int send_some(sley_chan *ch, const void *msgs, size_t n, sley_time deadline)
{
    int rc;

    if (ch == NULL || (msgs == NULL && ch->send.elem_bytes > 0) || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    rc = pass(ch, &ch->send, (char *)msgs, least(n, INT_MAX), deadline);
    if (rc > 0)
        sl_count_chan_messages(rc);
    return rc;
}

ALWAYS_INLINE int recv_some(sley_chan *ch, void *msgs, size_t n, sley_time deadline)
{
    int rc;

    if (ch == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    rc = pass(ch, &ch->recv, msgs, least(n, INT_MAX), deadline);
    return rc == -EPIPE ? 0 : rc;
}

int sley_chan_send(sley_chan *ch, const void *msg, sley_time deadline)
{
    int rc = send_some(ch, msg, 1, deadline);

    return rc > 0 ? 0 : rc;
}

int sley_chan_recv(sley_chan *ch, void *msg, sley_time deadline)
{
    return recv_some(ch, msg, 1, deadline);
}

/* n 0: -EINVAL on both sides, for to a receiver 0 says that the channel has ended. */
int sley_chan_send_n(sley_chan *ch, const void *msgs, size_t n, sley_time deadline)
{
    return n == 0 ? -EINVAL : send_some(ch, msgs, n, deadline);
}

int sley_chan_recv_n(sley_chan *ch, void *msgs, size_t n, sley_time deadline)
{
    return n == 0 ? -EINVAL : recv_some(ch, msgs, n, deadline);
}

/* --- the rest ----------------------------------------------------------------------------------------------------------------- */

sley_chan *sley_chan_create(size_t elem_bytes, size_t capacity)
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
    sl_store_relaxed(&ch->refs, 1); /* nobody else knows it */
    return ch;
}

sley_chan *sley_chan_ref(sley_chan *ch)
{
    if (ch != NULL)
        sl_add_relaxed(&ch->refs, 1); /* the caller has one, so it cannot be the last */
    return ch;
}

void sley_chan_destroy(sley_chan *ch)
{
    if (ch == NULL || sl_sub_acq_rel(&ch->refs, 1) > 1) /* [chan.1] */
        return;
    lock_both(ch); /* C7 */
    SLEY_ASSERT(!(flags_of(&ch->send) & (SENDERS | RECEIVERS)), "sley_chan_destroy", "somebody waits for the channel");
    free(ch);
}

void sley_chan_close(sley_chan *ch)
{
    bool done = ch == NULL;

    while (!done) {
        struct sl_woken woken = { NULL, NULL };
        unsigned room = SL_WAKE_ALL_BATCH;

        lock_both(ch);
        done = sl_wake_some(&ch->recv.waiters, SIZE_MAX, SL_ARM_CLOSE, &room, &woken);
        done = sl_wake_some(&ch->send.waiters, SIZE_MAX, SL_ARM_CLOSE, &room, &woken) && done;
        set_flags(ch, CLOSED | (ch->send.waiters.head != NULL ? SENDERS : 0) | (ch->recv.waiters.head != NULL ? RECEIVERS : 0));
        unlock_both(ch);
        sl_woken_ready(&woken);
    }
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
