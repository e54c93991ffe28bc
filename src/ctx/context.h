/* context.h - one suspended line of execution: a stack pointer, errno, and what the sanitizers must be told.
 *
 * sl_context_switch leaves `from` and enters `to`; fn(arg) runs on the target's stack after `from` is saved, and is the only place
 * where `from` may be made visible to others. errno is swapped through a pointer that the worker keeps, because the address that
 * the compiler knows may be another thread's by now.
 *
 * AddressSanitizer must be told on both sides, on arrival before any instrumented code runs: so in such builds the assembly always
 * enters sl_context_arrive, which then calls fn. ThreadSanitizer: every context is a TSan fiber, entered without
 * synchronisation; what was written under a lock is released before the switch (sl_lock_hand_over). */
#ifndef SL_CONTEXT_H
#define SL_CONTEXT_H

#include "base/atomic.h"

struct sl_context {
    void *sp;
    int   saved_errno;
#ifdef SL_ASAN
    void       *asan_fake_stack;
    const void *asan_low;   /* bounds of the stack; of a thread's stack learned when it is first left */
    size_t      asan_bytes;
#endif
#ifdef SL_TSAN
    void *tsan;
#endif
};

typedef void sl_arrive_fn(void *arg);

void sl_ctx_swap(void **from_sp, void *to_sp, sl_arrive_fn *fn, void *arg);

/* Prepare `c` so that the first switch to it calls entry(arg) on the stack that ends at `top` (16-byte aligned); entry never returns. */
void sl_context_make(struct sl_context *c, void *low, void *top, void (*entry)(void *), void *arg);

/* Call fn(arg) on the stack from `low` to `top`. It is the same line of execution that goes on there, so errno stays, and what saves it
 * meanwhile saves it to the same context as ever: `of`, NULL if nothing does; in sanitizer builds that stands for the other stack until
 * the call returns. */
void sl_context_call(struct sl_context *of, void *low, void *top, sl_arrive_fn *fn, void *arg);

/* The context of the calling thread's own stack. */
void sl_context_of_thread(struct sl_context *c);

/* Give back what the sanitizers hold for a context that has ended, or for a thread's that will not be left again. */
void sl_context_fini(struct sl_context *c);

#if defined(SL_ASAN) || defined(SL_TSAN)
/* dying: 1: `from` will not be entered again. */
void sl_context_switch_sanitized(struct sl_context *from, struct sl_context *to, sl_arrive_fn *fn, void *arg, int dying);
#endif

static inline __attribute__((always_inline)) void
sl_context_switch(int *errno_slot, struct sl_context *from, struct sl_context *to, sl_arrive_fn *fn, void *arg)
{
    from->saved_errno = *errno_slot;
    *errno_slot = to->saved_errno;
#if defined(SL_ASAN) || defined(SL_TSAN)
    sl_context_switch_sanitized(from, to, fn, arg, 0);
#else
    sl_ctx_swap(&from->sp, to->sp, fn, arg);
#endif
}

/* The last switch of a context. */
static inline __attribute__((always_inline)) void
sl_context_leave(int *errno_slot, struct sl_context *from, struct sl_context *to, sl_arrive_fn *fn, void *arg)
{
    *errno_slot = to->saved_errno;
#if defined(SL_ASAN) || defined(SL_TSAN)
    sl_context_switch_sanitized(from, to, fn, arg, 1);
#else
    sl_ctx_swap(&from->sp, to->sp, fn, arg);
#endif
    __builtin_unreachable();
}

#endif
