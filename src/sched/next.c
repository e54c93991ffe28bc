/* next.c - the slow sides of the next slot: an owner that meets a thief, and the thief. */
#include "sched/next.h"

static _Atomic(uint64_t) attempts; /* makes every mark unique */

struct sl_fiber *sl_next_settle(struct sl_next *n, struct sl_fiber *had, struct sl_fiber *put, uint64_t claim)
{
    struct sl_fiber *taken;

    if (!(claim & SL_NEXT_TAKEN) && sl_cas_acq_rel(&n->claim, &claim, 0)) /* [next.1] */
        return had;
    if (!(claim & SL_NEXT_TAKEN))
        return had; /* the thief gave up by itself */
    taken = (struct sl_fiber *)(uintptr_t)(claim & ~(uint64_t)SL_NEXT_TAKEN);
    if (taken == had) /* first: a fiber taken long ago may be put back while the slot still shows it (N2) */
        had = NULL;
    else if (taken == put)
        sl_store_relaxed(&n->fiber, NULL); /* owner only; thieves look at it when claim is 0 */
    sl_store_release(&n->claim, 0);
    return had;
}

bool sl_next_steal(struct sl_next *n, struct sl_fiber *seen)
{
    uint64_t none = 0, mark;

    if (!sl_use_membarrier)
        return sl_cas_acq_rel(&n->fiber, &seen, NULL); /* [next.2] */
    mark = (sl_add_relaxed(&attempts, 1) + 1) * 2;
    if (!sl_cas_acq_rel(&n->claim, &none, mark))
        return false;
    sl_membarrier(); /* [next.1] heavy side */
    if (sl_load_acquire(&n->fiber) == seen) { /* [next.2] */
        uint64_t expected = mark;

        if (sl_cas_acq_rel(&n->claim, &expected, (uint64_t)(uintptr_t)seen | SL_NEXT_TAKEN))
            return true;
    } else {
        uint64_t expected = mark;

        (void)sl_cas_acq_rel(&n->claim, &expected, 0); /* failure: the owner has settled it */
    }
    return false;
}
