/* lock.c - the slow path of the spinlock. */
#include "base/lock.h"
#include "plat/cpu.h"

#define SPINS_BEFORE_YIELD 100 /* about a microsecond: longer than any critical section that was not preempted */

#ifdef SL_TSAN
_Atomic(uint64_t) sl_fence_word;
#endif

void sl_lock_contended(struct sl_lock *l)
{
    do {
        for (int spins = 0; sl_load_relaxed(&l->held); spins++) { /* hint, taken for real by the exchange */
            if (spins < SPINS_BEFORE_YIELD)
                sl_cpu_relax();
            else
                sl_thread_yield();
        }
    } while (atomic_exchange_explicit(&l->held, 1, memory_order_seq_cst)); /* [lock.1] */
}
