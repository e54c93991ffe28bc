/* self.h - who is running: the library's one thread-local pointer and its one accessor.
 *
 * A fiber may go on on another thread after any park. Compilers keep the address of a thread-local, and even of errno, across
 * calls; after a migration that is another thread's. So the pointer is read by a volatile asm that cannot be merged with an
 * earlier one, and nobody keeps the result across a call that may park. */
#ifndef SL_SELF_H
#define SL_SELF_H

#include <stdint.h>

struct sl_fiber;
struct sl_locals;
struct sley_gen;
struct sl_worker;
struct sley_runtime;

/* A thread that the library knows: first member of a worker, or the block of a plain thread. */
struct sl_thread {
    struct sl_fiber     *current; /* the fiber that runs here; a plain thread's own control block; a worker's idle context: NULL */
    struct sl_worker    *worker;  /* NULL: a plain thread */
    struct sley_runtime *rt;      /* the worker's; what a plain thread attached to; NULL: none */
    int                 *errno_slot;
    struct sl_locals    *locals;  /* a plain thread's own, sched/local.h; NULL: none was ever set */
    struct sley_gen     *gens;    /* a plain thread's own, sched/gens.h */
};

/* Exported, and `current` first, for the part of generators that is compiled into programs (sley/gen_inline.h). */
extern __thread struct sl_thread *sley_thread_here __attribute__((tls_model("initial-exec"), visibility("default")));

/* NULL: a plain thread that has not waited yet. */
static inline struct sl_thread *sl_self_or_null(void)
{
    struct sl_thread *self;
#if defined(__x86_64__) && !defined(__ILP32__)
    __asm__ volatile("movq sley_thread_here@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(self));
#elif defined(__aarch64__)
    uintptr_t offset;
    __asm__ volatile("adrp %1, :gottprel:sley_thread_here\n\tldr %1, [%1, #:gottprel_lo12:sley_thread_here]\n\t"
                     "mrs %0, tpidr_el0\n\tldr %0, [%0, %1]" : "=&r"(self), "=&r"(offset));
#else
    struct sl_thread *sl_self_call(void);
    self = sl_self_call();
#endif
    return self;
}

struct sl_thread *sl_self_create(void); /* a block for this plain thread, freed when it ends; never NULL (aborts without memory) */

static inline struct sl_thread *sl_self(void)
{
    struct sl_thread *self = sl_self_or_null();

    return __builtin_expect(self != 0, 1) ? self : sl_self_create();
}

#endif
