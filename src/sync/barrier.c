/* barrier.c - `parties` calls wait until so many have come; then the next round begins.
 *
 *   B1  `arrived` is how many nodes of the present round are linked; always less than `parties`. It, `round` and the list change under
 *       the lock.
 *   B2  Who comes as the last does not link itself: it begins the next round, wakes those of the present one, and returns 1.
 *   B3  A node carries its round. The list is FIFO, so the nodes of a round that is complete stand at its head.
 *   B4  Whether a party whose time or cancel has come had arrived is decided under the lock: if its round is complete, it has, and its wait
 *       returns 0 like the others'; if not, it takes itself out of `arrived` and has not.
 *   B5  The last access of who completes a round is its last release of the lock, before it makes the last one ready (W1 of wake.h). So a
 *       barrier may be freed when every wait on it has returned. */
#include "base/assert.h"
#include "sync/wake.h"

#include <sley/sync.h>

struct barrier {
    struct sl_lock      lock;
    uint32_t            parties; /* constant; 0: not initialised */
    _Atomic(uint32_t)   arrived; /* without the lock a hint, wrong in either direction */
    uint32_t            round;   /* wraps */
    struct sl_wait_list waiters; /* kind: the round */
};

_Static_assert(sizeof(struct barrier) <= sizeof(sley_barrier) && _Alignof(struct barrier) <= _Alignof(sley_barrier),
               "fits the public struct");

static inline struct barrier *barrier_of(sley_barrier *b)
{
    return (struct barrier *)(void *)b;
}

static inline bool one_is_missing(const struct barrier *b)
{
    return sl_load_relaxed(&b->arrived) == b->parties - 1; /* hint, or under the lock */
}

/* The lock is held and is released: the round is complete. */
static inline void complete(struct barrier *b)
{
    struct sl_woken woken = { NULL, NULL };
    uint32_t round = b->round++;

    sl_store_relaxed(&b->arrived, 0); /* under the lock */
    for (;;) {
        struct sl_wait_node *n;
        unsigned room = SL_WAKE_ALL_BATCH;
        bool more;

        while ((more = (n = b->waiters.head) != NULL && (int32_t)(round - n->kind) >= 0) && room > 0) /* B3 */
            sl_wake_node(&b->waiters, n, &room, &woken); /* if it fails: B4 */
        sl_lock_release(&b->lock); /* B5 */
        if (!more)
            break;
        sl_woken_ready_but_last(&woken);
        sl_lock_acquire(&b->lock);
    }
    sl_woken_ready(&woken);
}

void sley_barrier_init(sley_barrier *b, uint32_t parties)
{
    SLEY_ASSERT(b != NULL, "sley_barrier_init", "the barrier is NULL");
    *b = (sley_barrier){ { 0 } };
    barrier_of(b)->parties = parties;
}

int sley_barrier_wait(sley_barrier *barrier, sley_time deadline)
{
    struct barrier *b = barrier_of(barrier);
    struct sl_wait_node node;
    struct sl_fiber *f;
    unsigned why;
    int rc;

    if (b == NULL || b->parties == 0 || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    f = sl_current();
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    if (one_is_missing(b)) { /* hint */
        sl_lock_acquire(&b->lock);
        if (one_is_missing(b)) {
            complete(b);
            return 1;
        }
        sl_lock_release(&b->lock);
    }
    if ((rc = sl_wait_begin(f, deadline, SL_WAIT_BARRIER, b)) < 0)
        return rc;
    sl_lock_acquire(&b->lock);
    if (one_is_missing(b)) {
        sl_wait_end(f);
        complete(b);
        return 1;
    }
    if (sl_cancelled(f)) {
        sl_wait_end(f);
        sl_lock_release(&b->lock);
        return -ECANCELED;
    }
    sl_node_init(&node, f);
    node.kind = b->round;
    sl_wait_list_push(&b->waiters, &node);
    sl_store_relaxed(&b->arrived, sl_load_relaxed(&b->arrived) + 1); /* under the lock */
    why = sl_park(&b->lock);
    if (why == SL_ARM_EVENT)
        return 0;
    sl_lock_acquire(&b->lock);
    if (sl_node_linked(&node))
        sl_wait_list_remove(&b->waiters, &node);
    if (b->round == node.kind) { /* B4 */
        sl_store_relaxed(&b->arrived, sl_load_relaxed(&b->arrived) - 1); /* under the lock */
        rc = why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
    }
    sl_lock_release(&b->lock);
    return rc;
}

void sley_barrier_fini(sley_barrier *barrier)
{
    struct barrier *b = barrier_of(barrier);
    bool waited_for;

    if (b == NULL)
        return;
    sl_lock_acquire(&b->lock);
    waited_for = b->waiters.head != NULL;
    sl_lock_release(&b->lock);
    SLEY_ASSERT(!waited_for, "sley_barrier_fini", "somebody waits for the barrier");
}
