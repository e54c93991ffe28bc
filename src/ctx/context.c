/* context.c - making contexts, and the sanitizers' side of a switch. The switch itself is switch_<processor>.S, or switch_ucontext.c. */
#include "ctx/context.h"
#include "base/lock.h"

#include <string.h>

#ifdef SL_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SL_TSAN
#include <sanitizer/tsan_interface.h>
#endif

void *sl_ctx_make(void *low, void *top, void (*entry)(void *), void *arg);

#if !defined(SL_CTX_UCONTEXT)
void sl_ctx_entry(void);

/* The frame that sl_ctx_swap leaves behind, lowest address first. */
#if defined(__x86_64__)
struct frame { void *pad, *r15, *r14, *r13, *r12, *rbx, *rbp, *return_address, *zero; };
#elif defined(__aarch64__)
struct frame { void *x19, *x20, *x21_to_x29[9], *x30, *d8_to_d15[8]; };
#endif

void *sl_ctx_make(void *low, void *top, void (*entry)(void *), void *arg)
{
    struct frame *f;

    (void)low;
#if defined(__x86_64__)
    f = (struct frame *)(void *)((char *)top - sizeof *f - 8); /* after ret the stack pointer is 16-byte aligned */
    memset(f, 0, sizeof *f);
    f->r12 = (void *)entry;
    f->r13 = arg;
    f->return_address = (void *)sl_ctx_entry;
#elif defined(__aarch64__)
    f = (struct frame *)(void *)((char *)top - sizeof *f);
    memset(f, 0, sizeof *f);
    f->x19 = (void *)entry;
    f->x20 = arg;
    f->x30 = (void *)sl_ctx_entry;
#endif
    return f;
}
#endif

void sl_context_make(struct sl_context *c, void *low, void *top, void (*entry)(void *), void *arg)
{
    c->sp = sl_ctx_make(low, top, entry, arg);
    c->saved_errno = 0;
#ifdef SL_ASAN
    __asan_unpoison_memory_region(low, (size_t)((char *)top - (char *)low)); /* a recycled stack */
    c->asan_fake_stack = NULL;
    c->asan_low = low;
    c->asan_bytes = (size_t)((char *)top - (char *)low);
#endif
#ifdef SL_TSAN
    c->tsan = __tsan_create_fiber(0);
#endif
}

void sl_context_of_thread(struct sl_context *c)
{
    memset(c, 0, sizeof *c);
#ifdef SL_TSAN
    c->tsan = __tsan_get_current_fiber();
#endif
}

void sl_context_fini(struct sl_context *c)
{
#ifdef SL_TSAN
    if (c->tsan != NULL && c->tsan != __tsan_get_current_fiber())
        __tsan_destroy_fiber(c->tsan);
    c->tsan = NULL;
#endif
    c->sp = NULL;
}

#if defined(SL_ASAN) || defined(SL_TSAN)
struct arrival {
    struct sl_context *from, *to;
    sl_arrive_fn *fn;
    void *arg;
};

/* First code on the target's stack. `a` lies on the stack just left, which nobody may take before fn has run. */
__attribute__((no_sanitize("address", "thread"))) static void arrive(void *arg)
{
    struct arrival *a = arg;
    sl_arrive_fn *fn = a->fn;
    void *fn_arg = a->arg;
#ifdef SL_ASAN
    const void *low;
    size_t bytes;

    __sanitizer_finish_switch_fiber(a->to->asan_fake_stack, &low, &bytes);
    if (a->from->asan_low == NULL) { /* a thread's own stack, left for the first time */
        a->from->asan_low = low;
        a->from->asan_bytes = bytes;
    }
#endif
    if (fn != NULL)
        fn(fn_arg);
}

__attribute__((no_sanitize("address", "thread"), noinline)) void
sl_context_switch_sanitized(struct sl_context *from, struct sl_context *to, sl_arrive_fn *fn, void *arg, int dying)
{
    struct arrival a = { from, to, fn, arg };

#ifdef SL_ASAN
    __sanitizer_start_switch_fiber(dying ? NULL : &from->asan_fake_stack, to->asan_low, to->asan_bytes);
#else
    (void)dying;
#endif
#ifdef SL_TSAN
    __tsan_switch_to_fiber(to->tsan, __tsan_switch_to_fiber_no_sync);
#endif
    sl_ctx_swap(&from->sp, to->sp, arrive, &a);
}
#endif

/* --- calls on another stack -------------------------------------------------------------------------------------------------------- */

struct call {
    struct sl_context here, there;
    sl_arrive_fn *fn;
    void *arg;
};

/* The first frame on the other stack. It is left, not returned from. */
static void call_entry(void *arg)
{
    struct call *c = arg;

    sl_tsan_acquire(c);
    c->fn(c->arg);
    sl_tsan_release(c);
#if defined(SL_ASAN) || defined(SL_TSAN)
    sl_context_switch_sanitized(&c->there, &c->here, NULL, NULL, 1);
#else
    sl_ctx_swap(&c->there.sp, c->here.sp, NULL, NULL);
#endif
    __builtin_unreachable();
}

/* What the sanitizers know of `of` becomes what they know of `as`. */
static void stand_for(struct sl_context *of, const struct sl_context *as)
{
    if (of == NULL)
        return;
#ifdef SL_ASAN
    of->asan_low = as->asan_low;
    of->asan_bytes = as->asan_bytes;
#endif
#ifdef SL_TSAN
    of->tsan = as->tsan;
#endif
    (void)as;
}

void sl_context_call(struct sl_context *const *of, void *low, void *top, sl_arrive_fn *fn, void *arg)
{
    struct call c = { .fn = fn, .arg = arg };
    struct sl_context before = { 0 };

    sl_context_of_thread(&c.here); /* whosever stack it is */
    sl_context_make(&c.there, low, top, call_entry, &c);
    if (*of != NULL)
        before = **of;
    stand_for(*of, &c.there);
    sl_tsan_release(&c);
#if defined(SL_ASAN) || defined(SL_TSAN)
    sl_context_switch_sanitized(&c.here, &c.there, NULL, NULL, 0);
#else
    sl_ctx_swap(&c.here.sp, c.there.sp, NULL, NULL);
#endif
    sl_tsan_acquire(&c);
    stand_for(*of, &before);
    sl_context_fini(&c.there);
}

/* --- turns ------------------------------------------------------------------------------------------------------------------------- */

void sl_turns_make(void **sp, struct sl_turns *t, void *low, void *top, void (*entry)(void *), void *arg)
{
    struct sl_context body;

    sl_context_make(&body, low, top, entry, arg);
    *sp = body.sp;
    (void)t;
#if defined(SL_ASAN) || defined(SL_TSAN)
    t->body = body;
#endif
}

void sl_turns_fini(struct sl_turns *t)
{
    (void)t;
#if defined(SL_ASAN) || defined(SL_TSAN)
    sl_context_fini(&t->body);
#endif
}

#if defined(SL_ASAN) || defined(SL_TSAN)
void sl_turn_to_body_sanitized(struct sl_turns *t, struct sl_context *of)
{
    t->of = of;
    if (of != NULL)
        t->before = *of;
    stand_for(of, &t->body);
    sl_context_of_thread(&t->consumer); /* whosever stack it is; its bounds are learned on arrival */
    sl_tsan_release(t);
    sl_context_switch_sanitized(&t->consumer, &t->body, NULL, NULL, 0);
    sl_tsan_acquire(t);
}

/* What the sanitizers know of the consumer's stack stands in `of` again before the consumer goes on. */
void sl_turn_to_consumer_sanitized(struct sl_turns *t, int dying)
{
    sl_context_of_thread(&t->body); /* it may be on a larger stack by now, or no longer */
    stand_for(t->of, &t->before);
    sl_tsan_release(t);
    sl_context_switch_sanitized(&t->body, &t->consumer, NULL, NULL, dying);
    sl_tsan_acquire(t);
}
#endif
