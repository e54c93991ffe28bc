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

#include <sley/base.h>

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
 * meanwhile saves it to the same context as ever: *of, NULL if nothing does; in sanitizer builds that stands for the other stack until
 * the call returns. It may be another one by then, in a generator that was handed over: fn says so in *of. */
void sl_context_call(struct sl_context *const *of, void *low, void *top, sl_arrive_fn *fn, void *arg);

/* Two sides that take turns, each on its own stack, as a generator's body and its consumer do: one line of execution, so errno stays.
 * *sp is the stack pointer of the side that does not run, first that of the body, as sl_turns_make prepares it. `of` as above: it stands
 * for the body's stack while the body runs. Programs make the same switch by themselves, sley/gen_inline.h. */
struct sl_turns {
#if defined(SL_ASAN) || defined(SL_TSAN)
    struct sl_context body, consumer, before;
    struct sl_context *of;
#else
    char none;
#endif
};

SLEY_API void sley_gen_switch(void **sp);

void sl_turns_make(void **sp, struct sl_turns *t, void *low, void *top, void (*entry)(void *), void *arg);
void sl_turns_fini(struct sl_turns *t); /* the body has ended, or will not be entered again */

#if defined(SL_ASAN) || defined(SL_TSAN)
void sl_turn_to_body_sanitized(struct sl_turns *t, struct sl_context *of);
void sl_turn_to_consumer_sanitized(struct sl_turns *t, int dying);
#endif

static inline void sl_turn_to_body(void **sp, struct sl_turns *t, struct sl_context *of)
{
#if defined(SL_ASAN) || defined(SL_TSAN)
    sl_turn_to_body_sanitized(t, of);
#else
    (void)t;
    (void)of;
    sley_gen_switch(sp);
#endif
}

/* dying: 1: the body's last turn; it does not return. */
static inline void sl_turn_to_consumer(void **sp, struct sl_turns *t, int dying)
{
#if defined(SL_ASAN) || defined(SL_TSAN)
    sl_turn_to_consumer_sanitized(t, dying);
#else
    (void)t;
    (void)dying;
    sley_gen_switch(sp);
#endif
}

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
