/* sley/gen_inline.h - next, send and yield of gen.h, compiled into the program; included by it, and by nobody else.
 *
 * A value sent and one answered is two switches of stacks and a few plain stores: through library calls it takes two to four times as long,
 * because every return after a switch misleads the processor's prediction. So the common case is here, and whatever is not common calls
 * the function of the same name in the library. The layouts are compiled into programs: frozen within a major version.
 *
 * Left to the library: processors without an assembly switch, programs under a sanitizer (which must be told of every switch), and what
 * defines SLEY_GEN_NO_INLINE. A library built for a sanitizer never says `ready`, so that programs built without one are right too. */
#ifndef SLEY_GEN_INLINE_H
#define SLEY_GEN_INLINE_H

#include <sley/gen.h>

SLEY_BEGIN_DECLS

/* The first words of a sley_gen. A generator is touched by its owner alone. */
struct sley_gen_words {
    void       *sp;         /* stack pointer of the side that does not run */
    void       *ready;      /* = owner while the body is suspended and a resume is a mere switch; else NULL */
    void       *owner;      /* control block of the fiber or thread that it belongs to; NULL: nobody */
    sley_gen   *outer;      /* while it runs: the generator in whose body it was resumed; NULL: none */
    const void *in;         /* of this resume: what is sent; NULL: nothing */
    void       *out;        /* of this resume: where the value goes; NULL: nowhere */
    size_t      elem_bytes;
    int         say;        /* what the body's yield returns */
    int         own;        /* 0: a yield is a mere switch */
    int         answer;     /* 1: the body has yielded; else it has ended: sley_gen_ended. With state one store, in one cache line */
    int         state;      /* enum sley_gen_state */
};

/* Save the caller's registers, exchange the stack pointer with *sp, load the other side's. Not by way of the linker's table of jumps: that
 * would be one more jump each time. */
#ifdef __has_attribute
#if __has_attribute(noplt)
__attribute__((noplt))
#endif
#endif
SLEY_API void sley_gen_switch(void **sp);
/* The body has ended: give its stack back; what the resume returns. */
SLEY_API int sley_gen_ended(sley_gen *g);

/* What is not common, and what sley_gen_next, send and yield are in the library. */
SLEY_API int sley_gen_resume(sley_gen *g, const void *in, void *out);
SLEY_API int sley_gen_suspend(const void *out, void *in);

#if defined(__GNUC__) && ((defined(__x86_64__) && !defined(__ILP32__)) || defined(__aarch64__)) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(SLEY_GEN_NO_INLINE)
#define SLEY_GEN_INLINE extern inline __attribute__((gnu_inline))
#endif
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#undef SLEY_GEN_INLINE
#endif
#endif

#ifdef SLEY_GEN_INLINE

#define SLEY_GEN_PART extern inline __attribute__((gnu_inline, always_inline))

typedef void *sley_gen_block __attribute__((may_alias));

/* The control block of the fiber or thread that runs here; NULL: a thread unknown to the library. By asm, because a compiler would keep the
 * address of a thread-local over a switch, after which this may be another thread. Word 2 of the block is the innermost generator whose
 * body runs. */
SLEY_GEN_PART sley_gen_block *sley_gen_here(void)
{
    sley_gen_block **thread;
#ifdef __x86_64__
    __asm__ volatile("movq sley_thread_here@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(thread));
#else
    size_t offset;
    __asm__ volatile("adrp %1, :gottprel:sley_thread_here\n\tldr %1, [%1, #:gottprel_lo12:sley_thread_here]\n\t"
                     "mrs %0, tpidr_el0\n\tldr %0, [%0, %1]" : "=&r"(thread), "=&r"(offset));
#endif
    return __builtin_expect(thread != NULL, 1) ? *thread : NULL;
}

SLEY_GEN_PART void sley_gen_copy(void *to, const void *from, size_t bytes)
{
    __asm__("" : "+r"(to), "+r"(from)); /* or compilers warn of the sizes that a value has not */
    if (bytes == 8)
        __builtin_memcpy(to, from, 8);
    else if (bytes == 4)
        __builtin_memcpy(to, from, 4);
    else
        __builtin_memcpy(to, from, bytes);
}

SLEY_GEN_PART int sley_gen_is_ready(const sley_gen *g, const sley_gen_block *here)
{
    return __builtin_expect(g != NULL && here != NULL && ((const struct sley_gen_words *)(const void *)g)->ready == (const void *)here, 1);
}

/* g->ready is here: run the body until it yields or ends. */
SLEY_GEN_PART int sley_gen_go_on(sley_gen *g, sley_gen_block *here, const void *in, void *out)
{
    struct sley_gen_words *w = (struct sley_gen_words *)(void *)g;

    w->ready = NULL;
    w->in = in;
    w->out = out;
    w->say = in != NULL;
    w->state = SLEY_GEN_RUNNING;
    w->outer = (sley_gen *)here[2];
    here[2] = g;
    sley_gen_switch(&w->sp);
    return __builtin_expect(w->answer > 0, 1) ? 1 : sley_gen_ended(g);
}

SLEY_GEN_INLINE int sley_gen_next(sley_gen *g, void *out)
{
    sley_gen_block *here = sley_gen_here();

    if (!sley_gen_is_ready(g, here))
        return sley_gen_resume(g, NULL, out);
    return sley_gen_go_on(g, here, NULL, out);
}

SLEY_GEN_INLINE int sley_gen_send(sley_gen *g, const void *in, void *out)
{
    sley_gen_block *here = sley_gen_here();

    if (!sley_gen_is_ready(g, here))
        return sley_gen_resume(g, in, out);
    return sley_gen_go_on(g, here, in, out);
}

SLEY_GEN_INLINE int sley_gen_yield(const void *out, void *in)
{
    sley_gen_block *here = sley_gen_here();
    struct sley_gen_words *w = here != NULL ? (struct sley_gen_words *)here[2] : NULL;

    if (__builtin_expect(w == NULL || w->own != 0, 0))
        return sley_gen_suspend(out, in);
    if (out != NULL && w->out != NULL)
        sley_gen_copy(w->out, out, w->elem_bytes);
    w->answer = 1;
    w->state = SLEY_GEN_SUSPENDED;
    w->ready = w->owner;
    here[2] = w->outer;
    sley_gen_switch(&w->sp);
    if (w->say > 0 && in != NULL)
        sley_gen_copy(in, w->in, w->elem_bytes);
    return w->say;
}

#endif

SLEY_END_DECLS
#endif
