/* lock.h - a spinlock of one byte, for critical sections of some twenty instructions.
 *
 * A holder may be preempted by the kernel, so after a bounded spin the waiter yields its processor. Release is a plain store. A
 * fiber that parks hands its lock to the switch: the next context on the same worker releases it (sl_lock_hand_over before,
 * sl_lock_take_over after, so that ThreadSanitizer attributes what was written under the lock to the fiber that wrote it).
 * order [lock.1]: acquire in sl_lock_acquire and sl_lock_try pairs with release in sl_lock_release. */
#ifndef SL_LOCK_H
#define SL_LOCK_H

#include "base/atomic.h"

struct sl_lock {
    _Atomic(uint8_t) held;
};

void sl_lock_contended(struct sl_lock *l);

static inline bool sl_lock_try(struct sl_lock *l)
{
    return !sl_load_relaxed(&l->held) && !atomic_exchange_explicit(&l->held, 1, memory_order_acquire); /* [lock.1] */
}

static inline void sl_lock_acquire(struct sl_lock *l)
{
    /* seq_cst: a lock taken after (sequence, ARMING) was stored is the barrier between that store and the look at the cancel
     * flag, pair [cancel.1]. On x86 it costs nothing more; on aarch64 it needs the fence below. */
    if (atomic_exchange_explicit(&l->held, 1, memory_order_seq_cst)) /* [lock.1] */
        sl_lock_contended(l);
#if defined(__aarch64__) && !defined(SL_TSAN)
    sl_fence_seq_cst();
#endif
}

static inline void sl_lock_release(struct sl_lock *l)
{
#ifdef SL_TSAN
    atomic_exchange_explicit(&l->held, 0, memory_order_acq_rel); /* [lock.1] a read-modify-write keeps what hand_over released */
#else
    sl_store_release(&l->held, 0); /* [lock.1] */
#endif
}

/* What ThreadSanitizer cannot see by itself, because contexts are entered without synchronisation: what one context released here,
 * another acquires. */
#ifdef SL_TSAN
void __tsan_release(void *addr);
void __tsan_acquire(void *addr);
static inline void sl_tsan_release(void *p) { __tsan_release(p); }
static inline void sl_tsan_acquire(void *p) { __tsan_acquire(p); }
#else
static inline void sl_tsan_release(void *p) { (void)p; }
static inline void sl_tsan_acquire(void *p) { (void)p; }
#endif

static inline void sl_lock_hand_over(struct sl_lock *l)
{
    sl_tsan_release(l);
}

static inline void sl_lock_take_over(struct sl_lock *l)
{
    sl_tsan_acquire(l);
}

#endif
