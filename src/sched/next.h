/* next.h - the next slot: one fiber that a worker runs before its queue, because it was just handed something.
 *
 * The owner changes it by a plain load and store. A thief may take the fiber when the owner does not come back:
 *   thief:  claim 0 -> mark by compare-and-swap; membarrier; look whether the slot still holds the fiber;
 *           if so claim mark -> TAKEN(fiber) by compare-and-swap: success: the fiber is the thief's. Otherwise mark -> 0.
 *   owner:  reads the old fiber, stores the new one, then looks at claim. mark: claim mark -> 0 by compare-and-swap: success: the thief
 *           gives up. TAKEN(old): the old one is gone. TAKEN(new): the new one is gone already. Either way claim -> 0.
 *   N1  If the owner's store comes after the thief's barrier, its look at claim sees the mark, and the compare-and-swap decides. If it
 *       comes before, the thief sees the new content. Between store and look the thief may have taken the new fiber, not the old one:
 *       so TAKEN says which. The fiber goes to exactly one of them.
 *   N2  After TAKEN the slot still shows the fiber, until the owner's next exchange, which ignores it. While claim is not 0 no thief
 *       begins.
 * order [next.1]: the owner's store of the slot, then load of claim, against the thief's claim, membarrier, load of the slot.
 * order [next.2]: the owner stores the slot with release; the thief acquires the fiber from it.
 * Where membarrier is missing, and under ThreadSanitizer, the slot is exchanged by both sides. */
#ifndef SL_NEXT_H
#define SL_NEXT_H

#include "plat/cpu.h"
#include "sched/fiber.h"

#define SL_NEXT_TAKEN 1u /* set: the rest is the fiber taken; clear: a mark, 2 x (serial of the attempt) */

struct sl_next {
    _Atomic(struct sl_fiber *) fiber;
    _Atomic(uint64_t)          claim;
};

struct sl_fiber *sl_next_settle(struct sl_next *n, struct sl_fiber *had, struct sl_fiber *put, uint64_t claim);

/* Owner: put f (or NULL) into the slot; what was there. */
static inline struct sl_fiber *sl_next_exchange(struct sl_next *n, struct sl_fiber *f)
{
    struct sl_fiber *had;
    uint64_t claim;

    if (!sl_use_membarrier)
        return sl_swap_acq_rel(&n->fiber, f); /* [next.2] */
    had = sl_load_relaxed(&n->fiber); /* owner only */
    sl_store_release(&n->fiber, f);   /* [next.2] */
    sl_compiler_barrier();            /* [next.1] light side */
    claim = sl_load_relaxed(&n->claim);
    return __builtin_expect(claim == 0, 1) ? had : sl_next_settle(n, had, f, claim);
}

/* Thief: take `seen`, which the slot showed twice. true: it is the thief's. */
bool sl_next_steal(struct sl_next *n, struct sl_fiber *seen);

#endif
