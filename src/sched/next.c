/* next.c - the slow sides of the next slot: an owner that meets a thief, and the thief. */
#include "sched/next.h"

bool sl_use_membarrier;

static _Atomic(uint64_t) attempts; /* makes every mark unique */

struct sl_fiber *sl_next_settle(struct sl_next *n, struct sl_fiber *had, uint64_t claim)
{
    if (claim != SL_NEXT_TAKEN && sl_cas_acq_rel(&n->claim, &claim, 0)) /* [next.1] */
        return had;
    if (claim == SL_NEXT_TAKEN) {
        sl_store_release(&n->claim, 0);
        return NULL;
    }
    return had; /* the thief gave up by itself: claim was 0 */
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

        if (sl_cas_acq_rel(&n->claim, &expected, SL_NEXT_TAKEN))
            return true;
    } else {
        uint64_t expected = mark;

        (void)sl_cas_acq_rel(&n->claim, &expected, 0); /* failure: the owner has settled it */
    }
    return false;
}
