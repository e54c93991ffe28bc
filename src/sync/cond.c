/* cond.c - waiting for a condition that a mutex guards: let go of the mutex, wait, hold it again.
 *
 *   D1  A wait links itself before it lets go of the mutex. So who changes what it waits for, with the mutex held, and signals after that,
 *       finds it.
 *   D2  It is a wait on many objects (park.h), because the mutex has to be unlocked after the node was linked and before the fiber
 *       parks: a signal may claim it in between, and then it does not park.
 *   D3  A signal goes to exactly one wait, which returns 0: the claim decides. One whose time or cancel came first is passed by.
 *   D4  However it ends, the mutex is locked again, and no cancel and no deadline reaches that.
 *   D5  `linked` counts the nodes. Without the lock it is a hint, but not for who has held the mutex since the wait let go of it: D1.
 *   D6  A broadcast wakes the nodes linked before it; `arrivals` numbers them. Those who wait again while it is at work stay.
 *   D7  A wait that was claimed when it had parked does not touch the cond any more; one that was claimed before, or not at all, locks it
 *       once more, so that no claimer is still at work on its node (M3). Who signals leaves the cond with his unlock, before he makes
 *       anybody ready. So a cond may be freed when every wait on it has returned.
 *
 * Rejected: to hang the woken onto the mutex's list instead of letting them compete: a signal would have to hold two locks, and most who
 * signal still hold the mutex, so that in the common case the woken one just waits there for one turn. */
#include "base/assert.h"
#include "sync/mutex.h"
#include "sync/wake.h"

#include <sley/sync.h>

struct cond { /* zeroed memory is valid */
    struct sl_lock      lock;
    uint32_t            arrivals; /* D6; under the lock; wraps */
    _Atomic(uint32_t)   linked;   /* D5 */
    struct sl_wait_list waiters;  /* kind: its arrival; result: enum claimed */
};

_Static_assert(sizeof(struct cond) <= sizeof(sley_cond) && _Alignof(struct cond) <= _Alignof(sley_cond), "fits the public struct");

enum claimed { PERHAPS_WHILE_ARMING, WHEN_PARKED };

static inline struct cond *cond_of(sley_cond *c)
{
    return (struct cond *)(void *)c;
}

static inline void add_linked(struct cond *c, uint32_t n) /* under the lock */
{
    sl_store_relaxed(&c->linked, sl_load_relaxed(&c->linked) + n); /* under the lock */
}

/* Under the lock. */
static inline void unlink_node(struct cond *c, struct sl_wait_node *n)
{
    if (sl_node_linked(n)) {
        sl_wait_list_remove(&c->waiters, n);
        add_linked(c, -1u);
    }
}

int sley_cond_wait(sley_cond *cond, sley_mutex *mutex, sley_time deadline)
{
    struct sl_mutex *m = sl_mutex_of(mutex);
    struct cond *c = cond_of(cond);
    struct sl_wait_node node;
    struct sl_fiber *f;
    unsigned why;
    int rc;

    if (c == NULL || m == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    f = sl_current();
    SLEY_ASSERT(sl_mutex_is_held_by(m, f), "sley_cond_wait", "the caller does not hold the mutex");
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    if ((rc = sl_wait_begin_many(f, deadline, SL_WAIT_COND, c)) < 0)
        return rc;
    sl_lock_acquire(&c->lock);
    if (sl_cancelled(f)) {
        sl_wait_end(f);
        sl_lock_release(&c->lock);
        return -ECANCELED;
    }
    sl_node_init(&node, f);
    node.kind = c->arrivals++;
    node.result = PERHAPS_WHILE_ARMING;
    sl_wait_list_push(&c->waiters, &node);
    add_linked(c, 1);
    sl_lock_release(&c->lock);

    if (!sl_mutex_unlock_quick(m, f))
        sl_mutex_unlock_slow(m, f);
    sl_store_relaxed(&f->wait_object, c); /* hint for dumps: the unlock has used the place */
    why = sl_park_many();

    if (node.result != WHEN_PARKED) { /* D7 */
        sl_lock_acquire(&c->lock);
        unlink_node(c, &node);
        sl_lock_release(&c->lock);
    }
    rc = why == SL_ARM_EVENT ? 0 : why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
    if (!sl_mutex_try(m, f)) {
        int locked = sl_mutex_lock_slow(m, f, SLEY_FOREVER);

        sl_assert(locked == 0);
        (void)locked;
    }
    return rc;
}

/* Under the lock: claim and unlink at most *room nodes, oldest first, of those before `end`. true: there are more. */
static inline bool wake(struct cond *c, uint32_t end, unsigned *room, struct sl_woken *woken)
{
    struct sl_wait_node *n;

    while ((n = c->waiters.head) != NULL && (int32_t)(end - n->kind) > 0) {
        if (*room == 0)
            return true;
        if (sl_wake_node(&c->waiters, n, room, woken) && woken->last == n->fiber)
            n->result = WHEN_PARKED;
        add_linked(c, -1u);
    }
    return false;
}

void sley_cond_signal(sley_cond *cond)
{
    struct sl_woken woken = { NULL, NULL };
    struct cond *c = cond_of(cond);
    struct sl_wait_node *n;
    bool claimed = false;

    SLEY_ASSERT(c != NULL, "sley_cond_signal", "the condition is NULL");
    if (sl_load_relaxed(&c->linked) == 0) /* D5 */
        return;
    sl_lock_acquire(&c->lock);
    while (!claimed && (n = c->waiters.head) != NULL) {
        unsigned room = 1;

        claimed = sl_wake_node(&c->waiters, n, &room, &woken);
        if (claimed && woken.last == n->fiber)
            n->result = WHEN_PARKED;
        add_linked(c, -1u);
    }
    sl_lock_release(&c->lock);
    sl_woken_ready(&woken);
}

void sley_cond_broadcast(sley_cond *cond)
{
    struct sl_woken woken = { NULL, NULL };
    struct cond *c = cond_of(cond);
    uint32_t end;
    bool more;

    SLEY_ASSERT(c != NULL, "sley_cond_broadcast", "the condition is NULL");
    if (sl_load_relaxed(&c->linked) == 0) /* D5 */
        return;
    sl_lock_acquire(&c->lock);
    end = c->arrivals;
    for (;;) {
        unsigned room = SL_WAKE_ALL_BATCH;

        more = wake(c, end, &room, &woken);
        sl_lock_release(&c->lock);
        if (!more)
            break;
        sl_woken_ready_but_last(&woken);
        sl_lock_acquire(&c->lock);
    }
    sl_woken_ready(&woken);
}

void sley_cond_fini(sley_cond *cond)
{
    struct cond *c = cond_of(cond);
    bool waited_for;

    if (c == NULL)
        return;
    sl_lock_acquire(&c->lock);
    waited_for = c->waiters.head != NULL;
    sl_lock_release(&c->lock);
    SLEY_ASSERT(!waited_for, "sley_cond_fini", "somebody waits for the condition");
}
