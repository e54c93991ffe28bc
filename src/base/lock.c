/* lock.c - the slow path of the spinlock. */
#include "base/lock.h"
#include "plat/cpu.h"

/* Who finds the lock held stays away from its cache line for a while, ever longer: then the holder does many operations in a row on
 * a line that is its own, and the line moves once for all of them. Two workers that both look all the time move it at every
 * operation, and get less done than one of them alone. */
#define BACKOFF_MIN 32   /* pauses: some half a microsecond, twenty channel operations */
#define BACKOFF_MAX 256
#define ROUNDS_BEFORE_YIELD 8 /* the holder was preempted by the kernel */

#ifdef SL_TSAN
_Atomic(uint64_t) sl_fence_word;
#endif

void sl_lock_contended(struct sl_lock *l)
{
    unsigned pauses = BACKOFF_MIN, rounds = 0;

    do {
        for (unsigned i = 0; i < pauses; i++)
            sl_cpu_relax();
        if (pauses < BACKOFF_MAX)
            pauses *= 2;
        if (++rounds > ROUNDS_BEFORE_YIELD)
            sl_thread_yield();
    } while (sl_load_relaxed(&l->held) || /* hint, taken for real by the exchange */
             atomic_exchange_explicit(&l->held, 1, memory_order_seq_cst)); /* [lock.1] */
}
