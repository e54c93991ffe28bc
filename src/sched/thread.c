/* thread.c - plain threads: a control block for one that waits, made at its first wait, given back when the thread ends. */
#include "sched/fork.h"
#include "sched/gens.h"
#include "sched/local.h"
#include "sched/worker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* Read by assembly only, of which link-time optimisation knows nothing: without the attribute it leaves the stores out. */
__attribute__((used)) __thread struct sl_thread *sley_thread_here;

static pthread_key_t end_key;
static pthread_once_t end_once = PTHREAD_ONCE_INIT;

#if !defined(__x86_64__) && !defined(__aarch64__)
struct sl_thread *sl_self_call(void);
__attribute__((noinline)) struct sl_thread *sl_self_call(void)
{
    struct sl_thread *self = sley_thread_here;

    __asm__ volatile("" : "+r"(self) : : "memory");
    return self;
}
#endif

static void thread_ends(void *arg)
{
    struct sl_thread *t = arg;

    sl_gens_close(&t->gens);
    for (int round = 0; round < SL_LOCAL_DROP_ROUNDS && t->locals != NULL; round++) {
        sl_locals_thread_ends(t); /* the drops may call the library, and make some */
        sl_gens_close(&t->gens);  /* ... which set values when they are closed */
    }
    sl_locals_thread_forget(t);
    if (t->rt != NULL) /* it should have detached; its block may not stay in the runtime's list */
        sl_scope_leave(&t->rt->root, t->current);
    sley_thread_here = NULL;
    sl_fiber_free(NULL, t->current);
    free(t);
}

static void make_key(void)
{
    if (pthread_key_create(&end_key, thread_ends) != 0)
        sl_die_library(__FILE__, __LINE__, "no thread key for plain threads is left");
}

struct sl_thread *sl_self_create(void)
{
    struct sl_thread *t = calloc(1, sizeof *t);
    struct sl_fiber *f = sl_fiber_alloc(NULL);

    if (t == NULL || f == NULL)
        sl_die_library(__FILE__, __LINE__, "no memory for the block of a plain thread");
    f->flags = SL_FIBER_THREAD;
    f->scope = &sl_scope_nowhere;
    sl_store_relaxed(&f->timer.deadline, SL_TIME_NONE);
    sl_store_relaxed(&f->timer.key, SL_TIME_NONE);
    sl_store_relaxed(&f->timer.heap, 0);
    f->timer.kind = SL_TIMER_FIBER;
    t->current = f;
    pthread_once(&end_once, make_key);
    pthread_setspecific(end_key, t);
    sley_thread_here = t;
    return t;
}

static void stand_nowhere(struct sl_thread *t)
{
    t->rt = NULL;
    t->current->rt = NULL;
    t->current->scope = &sl_scope_nowhere;
}

void sl_thread_reset_after_fork(void)
{
    struct sl_thread *t = sley_thread_here;

    if (t != NULL && t->worker == NULL)
        stand_nowhere(t); /* what it was attached to is the parent's */
    else
        sley_thread_here = NULL;
}

int sley_runtime_attach(sley_runtime *rt)
{
    struct sl_thread *t = sl_self();

    if (rt == NULL || t->worker != NULL)
        return -EINVAL;
    if (t->rt != NULL)
        return -EALREADY;
    t->rt = rt;
    t->current->rt = rt;
    t->current->scope = &rt->root;
    sl_scope_enter(&rt->root, t->current); /* so that its stop reaches this thread */
    return 0;
}

void sley_runtime_detach(void)
{
    struct sl_thread *t = sl_self_or_null();

    if (t == NULL || t->worker != NULL || t->rt == NULL)
        return;
    sl_scope_leave(&t->rt->root, t->current);
    stand_nowhere(t);
}

sley_runtime *sley_runtime_current(void)
{
    struct sl_thread *t = sl_self_or_null();

    return t != NULL ? t->rt : NULL;
}
