/* chan.h - what a channel is made of, and what may be done with it under its locks. The invariants: chan.c (C), spsc.c (Q), watch.c (W),
 * bcast.c (B). */
#ifndef SL_CHAN_H
#define SL_CHAN_H

#include "base/assert.h"
#include "sched/arm.h"
#include "sched/worker.h"
#include "sync/wake.h"

#include <sley/chan.h>

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    CLOSED = 1,
    SENDERS = 2,      /* C8 */
    RECEIVERS = 4,
    WATCHED = 8,      /* has a descriptor, watch.c: who changes what it says takes both locks */
    SUBSCRIBED = 16,  /* a subscription, bcast.c: only its broadcast sends */
    WANTED = 32,      /* a subscription, full: the broadcast waits for room */
    ONE_TO_ONE = 64   /* spsc.c; constant */
};

struct side {
    _Alignas(64) struct sl_lock lock; /* a cache line: a call that does not wait touches its own side and the message */
    _Atomic(uint8_t)    flags;      /* equal on both sides */
    uint32_t            slot;       /* where the side's next message goes to or comes from */
    _Atomic(uint32_t)   passed;     /* messages that went in here, or out here; wraps */
    uint32_t            other_seen; /* the other side's `passed` when this side last looked */
    uint32_t            capacity;   /* of the channel; constant */
    size_t              elem_bytes; /* of the channel; constant */
    struct sl_wait_list waiters;    /* data; value: messages offered or wanted, 0: one; result: how many of them went */
    /* The rest is spsc.c's. */
    _Atomic(struct sl_thread *) thread; /* whose calls need no fence; NULL: they make one */
    uint32_t            fenced_left;    /* so many calls more make one */
    _Atomic(uint8_t)    busy;           /* enum sl_spsc_busy */
    _Atomic(uint8_t)    other_waits;    /* the other side waits, or is about to */
    _Atomic(uint8_t)    cost_barrier;   /* and has paid for it with a membarrier */
};

struct sley_chan {
    struct side       send, recv;
    _Atomic(uint32_t) refs;  /* the users' */
    uint32_t          arms;  /* of selects, linked and not yet disarmed; under both locks */
    bool              given_up; /* the users' last reference is gone, and the arms' owners are still to come; under both locks */
    uint8_t           ended; /* spsc.c, under the lock: `end` is fixed, and at ENDED the closer has done */
    uint32_t          end;   /* spsc.c, under the lock: send.passed at the end */
    struct sl_watch  *watch; /* watch.c; NULL until asked for */
    struct sley_bcast *bcast; /* bcast.c; of a subscription, constant */
    sley_chan        *older, *younger; /* bcast.c, under the broadcast's lock */
    _Alignas(64) char ring[];
};

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* --- under a lock ------------------------------------------------------------------------------------------------------------- */

static inline unsigned flags_of(const struct side *s) { return sl_load_relaxed(&s->flags); } /* under its lock, or a hint */
static inline uint32_t passed(const struct side *s) { return sl_load_relaxed(&s->passed); }  /* under its lock, or a hint */

/* Asked of the caller's own side: the other one's line is with others. */
static inline bool is_one_to_one(const struct side *s) { return __builtin_expect(flags_of(s) & ONE_TO_ONE, 0); }

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

/* Both locks are held: release them, and tell whom a message more or less concerns besides the two sides: the descriptor, the broadcast. */
void sl_chan_unlock_and_tell(sley_chan *ch);

ALWAYS_INLINE void unlock_changed(sley_chan *ch)
{
    if (__builtin_expect(flags_of(&ch->send) & (WATCHED | WANTED), 0))
        sl_chan_unlock_and_tell(ch);
    else
        unlock_both(ch);
}

static inline void set_flags(sley_chan *ch, unsigned flags)
{
    sl_store_relaxed(&ch->send.flags, flags); /* under both locks */
    sl_store_relaxed(&ch->recv.flags, flags); /* under both locks */
}

static inline unsigned waiters_flag(const sley_chan *ch, const struct side *s)
{
    return s == &ch->send ? SENDERS : RECEIVERS;
}

static inline void link_node(sley_chan *ch, struct side *s, struct sl_wait_node *n)
{
    sl_wait_list_push(&s->waiters, n);
    set_flags(ch, flags_of(s) | waiters_flag(ch, s));
}

/* Under both locks: an arm of a select has been linked, whose owner will lock once more whatever happens. C10 */
static inline void expect_disarm(sley_chan *ch) { ch->arms++; }

/* Under both locks, the arm's owner has come. true: it frees the channel. */
static inline bool is_last_to_come(sley_chan *ch) { return --ch->arms == 0 && ch->given_up; }

static inline void forget_waiters(sley_chan *ch, struct side *s) /* its list is empty */
{
    set_flags(ch, flags_of(s) & ~waiters_flag(ch, s));
}

static inline void unlink_node(sley_chan *ch, struct side *s, struct sl_wait_node *n)
{
    sl_wait_list_remove(&s->waiters, n);
    if (s->waiters.head == NULL)
        forget_waiters(ch, s);
}

static inline uint32_t least(size_t a, size_t b) { return a < b ? a : b; }

static inline uint32_t count_of(const struct sl_wait_node *n) { return n->value > 0 ? (uint32_t)n->value : 1; }

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

/* Give of n messages what can go now, to an open channel: how many went. */
ALWAYS_INLINE uint32_t give_open(sley_chan *ch, char *msgs, uint32_t n, struct sl_woken *woken)
{
    size_t bytes = ch->send.elem_bytes;
    uint32_t went = 0, k;

    while (went < n && (flags_of(&ch->send) & RECEIVERS)) {
        struct sl_wait_node *node = ch->recv.waiters.head;
        if (sl_claim(node, SL_ARM_EVENT, woken)) {
            k = n == 1 ? 1 : least(count_of(node), n - went);
            copy(node->data, after(msgs, went, bytes), bytes, k);
            node->result = k;
            went += k;
        }
        unlink_node(ch, &ch->recv, node);
    }
    k = went < n ? room_for(ch, n - went) : 0;
    if (k > 0)
        move(ch, &ch->send, after(msgs, went, bytes), k);
    return went + k;
}

/* The same to any channel; -EPIPE; -EINVAL: a subscription. */
ALWAYS_INLINE int give(sley_chan *ch, char *msgs, uint32_t n, struct sl_woken *woken)
{
    if (__builtin_expect(flags_of(&ch->send) & (CLOSED | SUBSCRIBED), 0))
        return flags_of(&ch->send) & SUBSCRIBED ? -EINVAL : -EPIPE;
    return (int)give_open(ch, msgs, n, woken);
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
        if (sl_claim(node, SL_ARM_EVENT, woken)) {
            char *from = node->data;
            uint32_t direct = least(count_of(node), n - came);
            uint32_t stored = least(count_of(node) - direct, room);
            copy(after(msgs, came, bytes), from, bytes, direct);
            if (stored > 0)
                move(ch, &ch->send, after(from, direct, bytes), stored);
            came += direct;
            node->result = direct + stored;
        }
        unlink_node(ch, &ch->send, node);
    }
    return came == 0 && (flags_of(&ch->recv) & CLOSED) ? -EPIPE : (int)came;
}

/* --- without waiting ---------------------------------------------------------------------------------------------------------- */

/* What can be done without waiting: as give. */
ALWAYS_INLINE int try_send(sley_chan *ch, char *msgs, uint32_t n, struct sl_woken *woken)
{
    struct side *s = &ch->send;
    int rc;

    if (s->capacity == 0 && !(flags_of(s) & (CLOSED | RECEIVERS))) /* hint; nobody else is told of what does not happen */
        return 0;
    sl_lock_acquire(&s->lock);
    if (__builtin_expect(!(flags_of(s) & (CLOSED | RECEIVERS | WATCHED | SUBSCRIBED)), 1)) {
        rc = room_for(ch, n);
        if (rc > 0)
            move(ch, s, msgs, rc);
        sl_lock_release(&s->lock);
        return rc;
    }
    if (s->capacity > 0)
        sl_lock_acquire(&ch->recv.lock);
    rc = give(ch, msgs, n, woken);
    unlock_changed(ch);
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
        if (!(flags & (SENDERS | WATCHED | WANTED))) {
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
    if (!(flags & (CLOSED | SENDERS | WATCHED | WANTED)))
        return 0;
    lock_both(ch);
    rc = take(ch, msgs, n, woken);
    unlock_changed(ch);
    return rc;
}

/* --- other files -------------------------------------------------------------------------------------------------------------- */

sley_chan *sl_chan_create(size_t elem_bytes, size_t capacity, unsigned flags);
void sl_chan_drop(sley_chan *ch); /* the last user has given it up, and no arm is left */
void sl_chan_free(sley_chan *ch); /* nor a hold of its descriptor */
bool sl_chan_close_some(sley_chan *ch, struct sl_woken *woken); /* under both locks: close; true: all who waited are woken */

/* arms.c: wait as a select of one arm does. The result as give's; never 0. */
int sl_chan_send_watched(sley_chan *ch, char *msgs, uint32_t n, sley_time deadline);

/* watch.c. A hold is taken under the channel's locks and keeps it in memory until sl_watch_settle, which brings the descriptor up to
 * date and gives the hold back. */
void sl_watch_hold(sley_chan *ch);
void sl_watch_settle(sley_chan *ch);
void sl_watch_drop(sley_chan *ch); /* the users' own hold */

/* spsc.c: the public calls, and the arms */
int sl_spsc_send(sley_chan *ch, const void *msg, sley_time deadline);
int sl_spsc_recv(sley_chan *ch, void *msg, sley_time deadline);
int sl_spsc_send_n(sley_chan *ch, const void *msgs, size_t n, sley_time deadline);
int sl_spsc_recv_n(sley_chan *ch, void *msgs, size_t n, sley_time deadline);
void sl_spsc_close(sley_chan *ch);
void sl_spsc_wait_unused(sley_chan *ch); /* the last reference is gone: until who is on its way out of a call has left */
void sl_spsc_barrier(sley_chan *ch);     /* a new flag is seen by whatever moves a message after this */
enum sl_armed sl_spsc_arm(sley_chan *ch, struct side *s, struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode, int *rc);
void sl_spsc_disarm(sley_chan *ch, struct side *s, struct sl_wait_node *n);

/* bcast.c */
void sl_bcast_room(struct sley_bcast *b); /* a subscription that was WANTED has room */
void sl_bcast_leave(sley_chan *ch);       /* no more messages for this subscription; again: nothing */
void sl_bcast_drop(struct sley_bcast *b); /* a subscription has been freed */

#endif
