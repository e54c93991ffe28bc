/* event.c - a flag that can be waited for: a gate that is open while its number is 1. gate.h has the invariants and the protocol.
 *
 * order [event.1]: what was written before a set is seen by who reads 1 from sley_event_is_set; waiters get it from the lock. That
 * call takes no lock, so its 1 says nothing about the setter having left the event. */
#include "base/assert.h"
#include "sync/arms.h"
#include "sync/gate.h"

#include <sley/sync.h>

static struct sl_gate *gate_of(const sley_event *e)
{
    return (struct sl_gate *)(void *)e;
}

int sley_event_wait(sley_event *e, sley_time deadline)
{
    return sl_gate_wait(gate_of(e), SL_OPEN_ABOVE_ZERO, SL_WAIT_EVENT, deadline);
}

void sley_event_set(sley_event *e)
{
    struct sl_gate *g = gate_of(e);

    SLEY_ASSERT(g != NULL, "sley_event_set", "the event is NULL");
    sl_lock_acquire(&g->lock);
    if (sl_load_relaxed(&g->number) > 0) { /* under the lock */
        sl_lock_release(&g->lock);
    } else {
        sl_store_release(&g->number, 1); /* [event.1] */
        sl_gate_opened(g);
    }
}

void sley_event_reset(sley_event *e)
{
    struct sl_gate *g = gate_of(e);

    SLEY_ASSERT(g != NULL, "sley_event_reset", "the event is NULL");
    sl_lock_acquire(&g->lock);
    sl_store_relaxed(&g->number, 0); /* under the lock */
    sl_lock_release(&g->lock);
}

int sley_event_is_set(const sley_event *e)
{
    return e == NULL ? -EINVAL : sl_load_acquire(&gate_of(e)->number); /* [event.1] */
}

void sley_event_fini(sley_event *e)
{
    SLEY_ASSERT(e == NULL || !sl_gate_is_waited_for(gate_of(e)), "sley_event_fini", "somebody waits for the event");
}

/* ---- as an arm of a select ---- */

static bool arm_ready(struct sl_wait_node *n)
{
    return sl_gate_is_open(n->object, SL_OPEN_ABOVE_ZERO);
}

static enum sl_armed arm(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode)
{
    enum sl_armed armed = SL_ARMED_DONE;
    struct sl_gate *g = n->object;

    sl_lock_acquire(&g->lock);
    if (!sl_gate_is_open(g, SL_OPEN_ABOVE_ZERO)) {
        armed = mode == SL_ARM_TRY ? SL_ARMED_NOT_YET : SL_ARMED_LINKED;
        if (mode == SL_ARM_LINK)
            sl_gate_link(g, n);
    } else if (mode == SL_ARM_LINK && !sl_claim_self(f)) {
        armed = SL_ARMED_LOST;
    } else {
        n->result = 0;
    }
    sl_lock_release(&g->lock);
    return armed;
}

static void disarm(struct sl_wait_node *n)
{
    struct sl_gate *g = n->object;

    sl_lock_acquire(&g->lock);
    if (sl_node_linked(n))
        sl_wait_list_remove(&g->waiters, n);
    sl_lock_release(&g->lock);
}

const struct sl_arm_ops sl_event_arm = { arm_ready, arm, disarm, NULL };
