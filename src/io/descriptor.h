/* descriptor.h - waiting for a descriptor to become free, when the process or the system is out of them.
 *
 * order [fdfree.1]: who wants one counts himself, then tries; who has closed one fences, then looks at the count. At least one of them
 * sees the other, so no free descriptor passes by somebody who waits. Others in the system free descriptors too and tell nobody:
 * a wait looks again after SL_DESCRIPTOR_NS. */
#ifndef SL_IO_DESCRIPTOR_H
#define SL_IO_DESCRIPTOR_H

#include "sched/park.h"

#define SL_DESCRIPTOR_NS (INT64_C(50) * 1000 * 1000)

extern _Atomic(uint32_t) sl_descriptors_wanted;

void     sl_descriptor_want(void);   /* from here on sl_descriptor_seen means something */
void     sl_descriptor_unwant(void);
uint64_t sl_descriptor_seen(void);   /* how many have become free; ask before the try that may fail */

/* Until more than `seen` have become free, or a while has passed. 0: try again; -ETIMEDOUT, -ECANCELED, -ENOMEM. */
int sl_descriptor_wait(struct sl_fiber *f, uint64_t seen, sley_time deadline);

void sl_descriptor_wake(void); /* the slow half of: */

/* A descriptor has become free, or those who wait for one must look at something else. */
static inline void sl_descriptor_freed(void)
{
    sl_fence_seq_cst(); /* order [fdfree.1] */
    if (__builtin_expect(sl_load_relaxed(&sl_descriptors_wanted) != 0, 0))
        sl_descriptor_wake();
}

#endif
