/* switch_ucontext.c - the context switch for processors without an assembly one. Two system calls a switch (the signal mask), so
 * correct and slow. A context's stack pointer is the address of its frame, which lies on its own stack. */
#include "ctx/context.h"

#include <ucontext.h>

struct frame {
    ucontext_t    uc;
    sl_arrive_fn *fn; /* written by whoever switches here */
    void         *arg;
    void        (*entry)(void *);
    void         *entry_arg;
};

void *sl_ctx_make(void *low, void *top, void (*entry)(void *), void *arg);

void sl_ctx_swap(void **from_sp, void *to_sp, sl_arrive_fn *fn, void *arg)
{
    struct frame here, *to = to_sp;

    to->fn = fn;
    to->arg = arg;
    *from_sp = &here;
    swapcontext(&here.uc, &to->uc);
    if (here.fn != NULL)
        here.fn(here.arg);
}

static void begin(unsigned high, unsigned low)
{
    struct frame *f = (struct frame *)(((uintptr_t)high << 32) | low);

    if (f->fn != NULL)
        f->fn(f->arg);
    f->entry(f->entry_arg);
}

void *sl_ctx_make(void *low, void *top, void (*entry)(void *), void *arg)
{
    struct frame *f = (struct frame *)(((uintptr_t)top - sizeof *f) & ~(uintptr_t)63);

    getcontext(&f->uc);
    f->uc.uc_stack.ss_sp = low;
    f->uc.uc_stack.ss_size = (size_t)((char *)f - (char *)low);
    f->uc.uc_link = NULL;
    f->entry = entry;
    f->entry_arg = arg;
    makecontext(&f->uc, (void (*)(void))begin, 2, (unsigned)((uintptr_t)f >> 32), (unsigned)(uintptr_t)f);
    return f;
}

void sley_gen_switch(void **sp)
{
    sl_ctx_swap(sp, *sp, NULL, NULL);
}
