/* wait.c - waiting for readiness: sley_fd_wait, and a descriptor as an arm of a select. It belongs to the descriptor's record, not to the
 * waiter: one poll stays armed there for all, and a waiter that gives up only unlinks itself.
 *
 * From a waiter's side: look (poll(2) with no time); else, under the record's lock, see to it that a poll for these events is armed, link,
 * park; once woken, look again, because another may have been faster. A poll that is armed for too few events is asked to end; its end
 * arms one for everybody. What comes between the look and the arming is not lost: a poll reports at once what is ready already.
 * From the poll's side (sl_fd_poll_done): disarm, claim whom the events concern, arm again if a fiber is left: rule R4.
 *
 * An arm of a select does the same, with three differences:
 *   W1  While a poll for its events is armed it does not look: nothing has come, or the poll's end is on its way. So an arm that loses
 *       costs no kernel call, now or in the next select. The end of a poll is seen by a worker that goes through its ring; so that a fiber
 *       which never waits is not kept from what has come, it asks near the end of a streak whether there is anything in the ring, and then
 *       looks. And since a select that always finds something else never waits, looks in vain arm a poll too, each SL_LOOKS_MAX-th.
 *   W2  It is in no list of calls, so the descriptor may be closed and its number given away between two of its looks. Its node keeps the
 *       record's generation from the beginning of the select in `result`, and every look is followed by a comparison under the lock:
 *       after a close it is -EBADF, never readiness of somebody else's descriptor. Who claims it leaves `result` alone, but for an error.
 *   W3  What ready() has seen, in `next`, the following arm() takes as its own look (LOOKED): one system call an arm and select.
 * A plain thread has no ring. Its node is linked without a poll, for closers; then it waits in poll(2), see thread_io.c. That holds the
 * descriptor's file, so until it has left, and its arm is disarmed, it counts as a poller. */
#include "io/arms.h"
#include "io/call.h"
#include "io/group.h"

#include <sley/io.h>

#define TAG_MASK     0xffffffu
#define SL_LOOKS_MAX 4
#define STREAK_END   4         /* so many calls, the last ones of a streak */
#define LOOKED       (1 << 30) /* in a node's result, beside the generation */
#define GENERATION   (LOOKED - 1)

/* Under the lock: what the fibers among the waiters want. false: there are none. */
static bool wanted_events(const struct sl_record *r, unsigned *events)
{
    bool any = false;

    *events = 0;
    for (const struct sl_wait_node *n = r->waiters.head; n != NULL; n = n->next) {
        if (n->fiber->flags & SL_FIBER_THREAD)
            continue;
        any = true;
        *events |= sl_record_wanted(n);
    }
    return any;
}

/* Under the lock, after sl_poll_reserve. */
static void arm_poll(struct sl_record *r, int fd, unsigned events)
{
    events &= ~(unsigned)SL_POLL_ALWAYS;
    r->poll_tag = (r->poll_tag + 1) & TAG_MASK;
    r->poll_worker = sl_poll_arm(fd, events, r->poll_tag);
    sl_store_relaxed(&r->poll_covers, SL_POLL_ARMED | events); /* under the lock */
    sl_store_relaxed(&r->looks, 0);                            /* hint */
}

/* Under the lock, after sl_poll_reserve: see to it that a poll for events is armed. The result's worker is not NULL: the one that is armed
 * does not report them; its end, to be asked for after the unlock, arms one that does, if the waiter is linked by then. */
static struct sl_retired_poll cover(struct sl_record *r, int fd, unsigned events)
{
    struct sl_retired_poll none = { NULL, fd, 0 };

    if (r->poll_worker == NULL)
        arm_poll(r, fd, events);
    else if (!sl_record_covers(r, events))
        return sl_record_retire_poll(r, fd);
    return none;
}

void sl_fd_poll_done(int fd, uint32_t tag, int result)
{
    struct sl_record *r = sl_record_find(fd);
    struct sl_woken woken = { NULL, NULL };
    unsigned events, group;

    if (sl_signal_poll_done(fd, tag, result))
        return;
    sl_poll_reserve(1);
    sl_lock_acquire(&r->lock);
    if (r->poll_worker == NULL || r->poll_tag != tag) {
        sl_lock_release(&r->lock);
        return;
    }
    r->poll_worker = NULL;
    sl_store_relaxed(&r->poll_covers, 0); /* under the lock */
    if (r->phase != SL_PHASE_OPEN) {
        sl_record_claim_closer(r, &woken);
    } else {
        if (result >= 0)
            sl_record_claim_waiters(r, (unsigned)result, 0, SL_WAKE_ALL_BATCH, &woken);
        else if (result != -ECANCELED) /* the descriptor cannot be polled any more */
            sl_record_claim_waiters(r, 0, result, SL_WAKE_ALL_BATCH, &woken);
        if (wanted_events(r, &events))
            arm_poll(r, fd, events);
    }
    group = sl_load_relaxed(&r->group); /* hint: an old one makes somebody look in vain */
    sl_lock_release(&r->lock);
    sl_woken_ready(&woken);
    if (group != 0)
        sl_group_poll_done(group, fd, result);
}

void sl_fd_watch(int fd, uint32_t generation, unsigned events)
{
    struct sl_record *r = sl_record_find(fd);

    sl_poll_reserve(1);
    sl_lock_acquire(&r->lock);
    if (r->phase == SL_PHASE_OPEN && sl_load_relaxed(&r->generation) == generation && r->poll_worker == NULL) /* under the lock */
        arm_poll(r, fd, events);
    sl_lock_release(&r->lock);
}

void sl_fd_runtime_gone(struct sley_runtime *rt)
{
    for (int at = 0; at < SL_RECORD_CHUNKS; at++) {
        struct sl_record *r = sl_record_find(at * SL_RECORD_CHUNK);

        for (int i = 0; r != NULL && i < SL_RECORD_CHUNK; i++) {
            struct sl_record *one = &r[i];
            struct sl_woken woken = { NULL, NULL };
            unsigned group = 0;

            sl_lock_acquire(&one->lock);
            if (one->poll_worker != NULL && ((struct sl_thread *)one->poll_worker)->rt == rt) {
                one->poll_worker = NULL;
                sl_store_relaxed(&one->poll_covers, 0); /* under the lock */
                /* Waiters of other runtimes look again, and arm a poll of their own; so does a closer. */
                sl_record_claim_waiters(one, 0, 0, UINT32_MAX, &woken);
                group = sl_load_relaxed(&one->group); /* hint, as above */
            }
            sl_lock_release(&one->lock);
            sl_woken_ready(&woken);
            if (group != 0)
                sl_group_poll_done(group, at * SL_RECORD_CHUNK + i, 0);
        }
    }
    sl_group_runtime_gone(rt);
    sl_signal_runtime_gone(rt);
    sl_record_wait_for_enders(); /* R7 */
}

/* ---- sley_fd_wait ---- */

int sl_call_wait_ready(struct sl_call *c, int fd, unsigned events, sley_time deadline)
{
    struct sl_fiber *f = c->fiber;
    struct sl_record *r = c->record;
    struct sl_wait_node node = { .value = (int64_t)events << 32 };
    struct sl_retired_poll poll;
    unsigned why;
    int rc;

    sl_poll_reserve(1);
    rc = sl_wait_begin(f, deadline, SL_WAIT_FD, r);
    if (rc < 0)
        return rc;
    if (__builtin_expect(c->also != NULL, 0) && (rc = sl_call_announce_others(c)) < 0) {
        sl_wait_end(f);
        return rc;
    }
    sl_lock_acquire(&r->lock);
    if (r->phase != SL_PHASE_OPEN || sl_cancelled(f)) {
        rc = r->phase != SL_PHASE_OPEN ? -EBADF : -ECANCELED;
        sl_wait_end(f);
        sl_lock_release(&r->lock);
        return rc;
    }
    poll = cover(r, fd, events);
    if (poll.worker != NULL) { /* its end may not be asked for under the lock, which the switch takes along */
        sl_wait_end(f);
        sl_lock_release(&r->lock);
        sl_record_end_poll(&poll);
        return 0;
    }
    sl_node_init(&node, f);
    sl_wait_list_push(&r->waiters, &node);
    why = sl_park(&r->lock);
    if (why == SL_ARM_EVENT)
        return node.result;
    sl_lock_acquire(&r->lock);
    if (sl_node_linked(&node))
        sl_wait_list_remove(&r->waiters, &node);
    sl_lock_release(&r->lock);
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : why == SL_ARM_CLOSE ? -EBADF : -ECANCELED;
}

int sley_fd_wait(int fd, int events, sley_time deadline)
{
    struct sl_call c;
    int n = events & ~0xffff ? -EINVAL : sl_call_begin(&c, fd, deadline);

    if (n < 0)
        return n;
    if (sl_load_relaxed(&c.record->group) != 0) { /* the caller's */
        n = -EOPNOTSUPP;
    } else if (deadline == SLEY_NOW) {
        n = sl_poll_now(fd, (unsigned)events);
        n = sl_call_direct(&c, n == 0 ? -ETIMEDOUT : n);
    } else if (sl_on_thread(&c)) {
        n = sl_thread_poll(&c, fd, (unsigned)events, deadline);
    } else {
        while ((n = sl_poll_now(fd, (unsigned)events)) == 0) {
            if ((n = sl_call_wait_ready(&c, fd, (unsigned)events, deadline)) < 0)
                break;
        }
        if (n > 0)
            sl_call_direct(&c, n);
    }
    sl_call_end(&c);
    return n;
}

/* ---- as an arm of a select ---- */

static int fd_of(const struct sl_wait_node *n)
{
    return (int)(uint32_t)n->value;
}

static unsigned events_of(const struct sl_wait_node *n)
{
    return (unsigned)((uint64_t)n->value >> 32);
}

/* Under the lock; without it at the beginning of a select: who has the descriptor knows of its making. */
static int generation_of(const struct sl_record *r)
{
    return r != NULL ? (int)(sl_load_relaxed(&r->generation) & GENERATION) : 0; /* a new record's is 0 */
}

void sl_fd_arm_begin(struct sl_wait_node *n)
{
    n->result = generation_of(sl_record_find(fd_of(n)));
}

/* Under the lock: the descriptor that this select has begun with is being closed, or has been. */
static bool has_gone(const struct sl_wait_node *n, const struct sl_record *r)
{
    return r->phase != SL_PHASE_OPEN || generation_of(r) != (n->result & GENERATION);
}

/* Lock r. If it is just being released, and the number's next owner may already have begun this select, wait for that. */
static void lock_record(const struct sl_wait_node *n, struct sl_record *r)
{
    sl_lock_acquire(&r->lock);
    while (r->phase == SL_PHASE_RELEASING && generation_of(r) == (n->result & GENERATION)) {
        sl_lock_release(&r->lock);
        sl_thread_yield();
        sl_lock_acquire(&r->lock);
    }
}

/* A fiber has looked in vain, and no poll was armed: W1. */
static void looked_in_vain(const struct sl_wait_node *n)
{
    int error;
    struct sl_record *r = sl_record_at(fd_of(n), &error);
    uint8_t looks = r != NULL ? sl_load_relaxed(&r->looks) : 0; /* hint */

    if (r == NULL)
        return;
    sl_store_relaxed(&r->looks, (uint8_t)(looks + 1 < SL_LOOKS_MAX ? looks + 1 : 0)); /* hint */
    if (looks + 1 < SL_LOOKS_MAX)
        return;
    sl_poll_reserve(1);
    sl_lock_acquire(&r->lock);
    if (!has_gone(n, r) && r->poll_worker == NULL)
        arm_poll(r, fd_of(n), events_of(n));
    sl_lock_release(&r->lock);
}

static bool fd_ready(struct sl_wait_node *n)
{
    struct sl_fiber *f = sl_current();
    struct sl_record *r;
    bool on_thread, covered;
    int seen;

    if (n->result & LOOKED)
        return n->next != NULL;
    if (fd_of(n) < 0 || events_of(n) & ~0xffffu)
        return true; /* to be refused */
    r = sl_record_find(fd_of(n));
    if (r != NULL && sl_load_relaxed(&r->group) != 0) /* the caller's */
        return true; /* to be refused */
    on_thread = f->flags & SL_FIBER_THREAD;
    covered = r != NULL && sl_record_covers(r, events_of(n));
    if (covered && !on_thread && (f->streak < SL_DIRECT_STREAK - STREAK_END || !sl_poll_may_have_ended()))
        return false; /* W1 */
    seen = sl_poll_now(fd_of(n), events_of(n));
    n->next = (struct sl_wait_node *)(intptr_t)seen; /* W3 */
    n->result |= LOOKED;
    if (seen == 0 && !covered && !on_thread)
        looked_in_vain(n);
    return seen != 0;
}

/* The arm goes, with result: an event, or an error. */
static enum sl_armed go(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode, int result)
{
    if (mode == SL_ARM_LINK && !sl_claim_self(f))
        return SL_ARMED_LOST;
    n->result = result;
    return SL_ARMED_DONE;
}

static enum sl_armed fd_arm(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode)
{
    bool on_thread = f->flags & SL_FIBER_THREAD;
    unsigned events = events_of(n);
    struct sl_retired_poll poll = { NULL, 0, 0 };
    int fd = fd_of(n), rc = -EINVAL, seen = 0;
    struct sl_record *r = events & ~0xffffu ? NULL : sl_record_at(fd, &rc);

    if (r == NULL)
        return go(n, f, mode, rc);
    if (sl_load_relaxed(&r->group) != 0) /* the caller's */
        return go(n, f, mode, -EOPNOTSUPP);
    if (n->result & LOOKED) {
        seen = (int)(intptr_t)n->next;
        n->result &= ~LOOKED;
    } else if (mode == SL_ARM_TRY || (!on_thread && !sl_record_covers(r, events))) {
        seen = sl_poll_now(fd, events);
    }
    if (seen == 0 && mode == SL_ARM_LINK && !on_thread)
        sl_poll_reserve(1);
    lock_record(n, r);
    if (has_gone(n, r))
        seen = -EBADF;
    if (seen == 0 && mode == SL_ARM_LINK) {
        if (on_thread)
            r->pollers++;
        else
            poll = cover(r, fd, events);
        sl_wait_list_push(&r->waiters, n);
    }
    sl_lock_release(&r->lock);
    sl_record_end_poll(&poll);
    if (seen != 0)
        return go(n, f, mode, seen);
    return mode == SL_ARM_LINK ? SL_ARMED_LINKED : SL_ARMED_NOT_YET;
}

static void fd_disarm(struct sl_wait_node *n)
{
    struct sl_record *r = sl_record_find(fd_of(n));
    struct sl_woken closer = { NULL, NULL };

    sl_lock_acquire(&r->lock);
    if (sl_node_linked(n))
        sl_wait_list_remove(&r->waiters, n);
    if (n->fiber->flags & SL_FIBER_THREAD) {
        r->pollers--;
        sl_record_claim_closer(r, &closer);
    }
    sl_lock_release(&r->lock);
    sl_woken_ready(&closer);
}

static bool fd_settle(struct sl_wait_node *n, unsigned why)
{
    struct sl_record *r = sl_record_find(fd_of(n));
    int seen;

    (void)why;
    if (n->result < 0)
        return true;
    seen = sl_poll_now(fd_of(n), events_of(n));
    sl_lock_acquire(&r->lock);
    if (has_gone(n, r))
        seen = -EBADF;
    sl_lock_release(&r->lock);
    if (seen == 0)
        return false; /* another was faster */
    n->result = seen;
    return true;
}

const struct sl_arm_ops sl_fd_arm = { fd_ready, fd_arm, fd_disarm, fd_settle };
