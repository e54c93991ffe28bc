/* atomic.h - every atomic access of the library goes through here, so that one place decides what a fence is.
 *
 * Orders are part of the name. An acquire, release or seq_cst use carries a tag that stands at its partner too (index in
 * src/README.md); relaxed says "owner only", "hint" or "re-checked under X" where it stands.
 *
 * ThreadSanitizer does not understand fences: there a fence is a read-modify-write of one shared word, and sl_light_fence, whose
 * partner is a membarrier, is a full fence. */
#ifndef SL_ATOMIC_H
#define SL_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_THREAD__)
#define SL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SL_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SL_ASAN 1
#endif
#endif

#define sl_load_relaxed(p)       atomic_load_explicit((p), memory_order_relaxed)
#define sl_load_acquire(p)       atomic_load_explicit((p), memory_order_acquire)
#define sl_load_seq_cst(p)       atomic_load_explicit((p), memory_order_seq_cst)
#define sl_store_relaxed(p, v)   atomic_store_explicit((p), (v), memory_order_relaxed)
#define sl_store_release(p, v)   atomic_store_explicit((p), (v), memory_order_release)
#define sl_swap_acq_rel(p, v)    atomic_exchange_explicit((p), (v), memory_order_acq_rel)
#define sl_add_relaxed(p, v)     atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define sl_add_acq_rel(p, v)     atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define sl_add_seq_cst(p, v)     atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define sl_sub_acq_rel(p, v)     atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)
#define sl_and_relaxed(p, v)     atomic_fetch_and_explicit((p), (v), memory_order_relaxed)
#define sl_and_seq_cst(p, v)     atomic_fetch_and_explicit((p), (v), memory_order_seq_cst)
#define sl_or_relaxed(p, v)      atomic_fetch_or_explicit((p), (v), memory_order_relaxed)
#define sl_or_acq_rel(p, v)      atomic_fetch_or_explicit((p), (v), memory_order_acq_rel)
/* Strong compare-and-swap; *e holds the value found when it fails. */
#define sl_cas_acq_rel(p, e, v)  atomic_compare_exchange_strong_explicit((p), (e), (v), memory_order_acq_rel, memory_order_acquire)
#define sl_cas_seq_cst(p, e, v)  atomic_compare_exchange_strong_explicit((p), (e), (v), memory_order_seq_cst, memory_order_acquire)

/* A counter that only its owner changes and anybody may read: a plain add, no read-modify-write. */
#define sl_owner_add(p, v)       sl_store_relaxed((p), sl_load_relaxed(p) + (v))

#ifdef SL_TSAN
extern _Atomic(uint64_t) sl_fence_word;
#endif

/* Full fence. On x86 a locked add to the stack is cheaper than the mfence some compilers emit. */
static inline void sl_fence_seq_cst(void)
{
#if defined(SL_TSAN)
    sl_add_seq_cst(&sl_fence_word, 1);
#elif defined(__x86_64__)
    __asm__ volatile("lock; orl $0, -8(%%rsp)" ::: "memory", "cc");
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void sl_compiler_barrier(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Bytes that kernel or hardware write: sanitizers cannot see those accesses. */
#define sl_volatile_read(p) (*(volatile __typeof__(*(p)) *)(p))

#endif
