/* gate.h - what event and wait group have in common: a number, whose change opens a gate for all who wait.
 *
 *   G1  Number and list change under the lock. A waiter links itself only while the gate is shut.
 *   G2  `openings` counts how often it was opened; a node's `result` is that number when it was linked. An opening wakes the nodes
 *       older than itself: who came after the gate was shut again waits for the next one, even if that was while the opener still
 *       woke the others.
 *   G3  The list is FIFO, so the nodes older than an opening are at its head.
 *   G4  The opener's last access is its last unlock, and one that it has claimed is made ready only after that (W1); who else returned 0
 *       has held the lock. So the object may be freed as soon as nobody waits any more.
 *
 * Rejected: a wait that returns on a load of the number, without the lock. The opener may be between its store and its unlock, which
 * would then write into freed memory. And a list detached as a whole by the opener: a waiter whose time has passed could not
 * unlink itself.
 *
 * The opener: lock; number; claim, unlink; unlock; ready.      The waiter: ARMING; lock; look at the number; link; park, which unlocks.
 * Whoever locks second sees the other: the waiter the number, or the opener the node. */
#ifndef SL_GATE_H
#define SL_GATE_H

#include "sync/wake.h"

struct sl_gate { /* zeroed memory is valid */
    struct sl_lock      lock;
    _Atomic(int32_t)    number;   /* without the lock a hint, wrong in either direction */
    uint32_t            openings; /* G2; wraps */
    struct sl_wait_list waiters;
};

_Static_assert(sizeof(struct sl_gate) == 32 && _Alignof(struct sl_gate) == 8, "fits the public structs");

enum sl_gate_open { SL_OPEN_AT_ZERO, SL_OPEN_ABOVE_ZERO };

static inline bool sl_gate_is_open(const struct sl_gate *g, enum sl_gate_open open)
{
    return (sl_load_relaxed(&g->number) > 0) == (open == SL_OPEN_ABOVE_ZERO); /* hint, or under the lock */
}

static inline void sl_gate_link(struct sl_gate *g, struct sl_wait_node *n) /* under the lock */
{
    n->result = (int32_t)g->openings;
    sl_wait_list_push(&g->waiters, n);
}

/* 0; -EINVAL, -ETIMEDOUT, -ECANCELED, -ENOMEM. Inlined, so that only the public call stands above sl_park. */
static inline __attribute__((always_inline)) int
sl_gate_wait(struct sl_gate *g, enum sl_gate_open open, enum sl_wait_kind kind, sley_time deadline)
{
    struct sl_wait_node node;
    struct sl_fiber *f;
    unsigned why;
    int rc;

    if (g == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    f = sl_current();
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    if (sl_gate_is_open(g, open)) { /* hint; G4 */
        bool is_open;
        sl_lock_acquire(&g->lock);
        is_open = sl_gate_is_open(g, open);
        sl_lock_release(&g->lock);
        if (is_open)
            return 0;
    }
    if ((rc = sl_wait_begin(f, deadline, kind, g)) < 0)
        return rc;
    sl_lock_acquire(&g->lock);
    if (sl_gate_is_open(g, open) || sl_cancelled(f)) {
        rc = sl_gate_is_open(g, open) ? 0 : -ECANCELED;
        sl_wait_end(f);
        sl_lock_release(&g->lock);
        return rc;
    }
    sl_node_init(&node, f);
    sl_gate_link(g, &node);
    why = sl_park(&g->lock);
    if (why == SL_ARM_EVENT)
        return 0;
    sl_lock_acquire(&g->lock);
    if (sl_node_linked(&node))
        sl_wait_list_remove(&g->waiters, &node);
    sl_lock_release(&g->lock);
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

/* The lock is held and is released: wake everybody who waited before. */
static inline void sl_gate_opened(struct sl_gate *g)
{
    uint32_t opening = ++g->openings;
    struct sl_woken woken = { NULL, NULL };

    for (;;) {
        struct sl_wait_node *n;
        unsigned room = SL_WAKE_ALL_BATCH;
        bool more;

        while ((more = (n = g->waiters.head) != NULL && (int32_t)(opening - (uint32_t)n->result) > 0) && room > 0) /* G3 */
            if (sl_wake_node(&g->waiters, n, &room, &woken))
                n->result = 0;
        sl_lock_release(&g->lock);
        if (!more)
            break;
        sl_woken_ready_but_last(&woken);
        sl_lock_acquire(&g->lock);
    }
    sl_woken_ready(&woken);
}

static inline bool sl_gate_is_waited_for(struct sl_gate *g)
{
    bool waited_for;

    sl_lock_acquire(&g->lock);
    waited_for = g->waiters.head != NULL;
    sl_lock_release(&g->lock);
    return waited_for;
}

#endif
