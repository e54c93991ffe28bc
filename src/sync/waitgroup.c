/* waitgroup.c - a count that can be waited for: a gate that is open while its number is zero, again and again. gate.h has the
 * invariants and the protocol. The number is never below zero.
 *
 * Rejected: the count as an atomic, with the lock taken only at zero. The done that gets there would take the lock of a group that a
 * waiter which read the zero has freed. */
#include "base/assert.h"
#include "sync/gate.h"

#include <sley/sync.h>

static struct sl_gate *gate_of(sley_waitgroup *w)
{
    return (struct sl_gate *)(void *)w;
}

void sley_waitgroup_add(sley_waitgroup *w, int n)
{
    struct sl_gate *g = gate_of(w);
    int32_t count;

    SLEY_ASSERT(g != NULL && n >= 0, "sley_waitgroup_add", "the group is NULL or the number negative");
    sl_lock_acquire(&g->lock);
    count = sl_load_relaxed(&g->number); /* under the lock */
    SLEY_ASSERT(n <= INT32_MAX - count, "sley_waitgroup_add", "the count overflows");
    sl_store_relaxed(&g->number, count + n); /* under the lock */
    sl_lock_release(&g->lock);
}

void sley_waitgroup_done(sley_waitgroup *w)
{
    struct sl_gate *g = gate_of(w);
    int32_t count;

    SLEY_ASSERT(g != NULL, "sley_waitgroup_done", "the group is NULL");
    sl_lock_acquire(&g->lock);
    count = sl_load_relaxed(&g->number); /* under the lock */
    SLEY_ASSERT(count > 0, "sley_waitgroup_done", "more have ended than were added");
    sl_store_relaxed(&g->number, count - 1); /* under the lock */
    if (count > 1)
        sl_lock_release(&g->lock);
    else
        sl_gate_opened(g);
}

int sley_waitgroup_wait(sley_waitgroup *w, sley_time deadline)
{
    return sl_gate_wait(gate_of(w), SL_OPEN_AT_ZERO, SL_WAIT_GROUP, deadline);
}

void sley_waitgroup_fini(sley_waitgroup *w)
{
    SLEY_ASSERT(w == NULL || !sl_gate_is_waited_for(gate_of(w)), "sley_waitgroup_fini", "somebody waits for the group");
}
