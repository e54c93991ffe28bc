/* go.c - starting fibers, and what a fiber may say about itself (sley/fiber.h). */
#include "sched/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sley/fiber.h>

/* A fiber of scope, not yet in any queue; its argument is still to be set. NULL: *error says why. */
static struct sl_fiber *create(struct sl_scope *scope, sley_fn *fn, unsigned flags, int *error)
{
    struct sley_runtime *rt = scope->rt;
    struct sl_worker *w = sl_worker_here();
    struct sl_fiber *f;

    if (w != NULL && w->rt != rt)
        w = NULL;
    if (w == NULL && (sl_add_acq_rel(&rt->outside, 1) & SL_OUTSIDE_CLOSED)) { /* [drain.1] */
        sl_sub_acq_rel(&rt->outside, 1);
        *error = -ECANCELED; /* the runtime stops, or has stopped */
        return NULL;
    }
    *error = sl_stack_credit_take(rt->stacks, w != NULL ? &w->stacks : NULL);
    if (*error < 0)
        goto undo_count;
    f = sl_fiber_alloc(w != NULL ? &w->fibers : NULL);
    if (f == NULL) {
        sl_stack_credit_give(rt->stacks, w != NULL ? &w->stacks : NULL);
        *error = -ENOMEM;
        goto undo_count;
    }
    sl_tsan_acquire(f); /* its last user, see fiber_main */
    f->fn = fn;
    f->scope = scope;
    f->rt = rt;
    f->flags = (uint8_t)(flags | (rt->has_rings ? 0 : SL_FIBER_NO_RING));
    sl_scope_enter(scope, f);
    if (w != NULL)
        sl_owner_add(&w->counters.started, 1); /* [drain.1] before it can run and end */
    return f;

undo_count:
    if (w == NULL)
        sl_sub_acq_rel(&rt->outside, 1);
    return NULL;
}

/* A fiber that could not be started is an error of its scope. That of a runtime which stops is none: only who asked is told. */
static int not_started(struct sl_scope *scope, int error)
{
    int none = 0;

    if (scope->kind == SL_SCOPE_ISOLATED) {
        if (error != -ECANCELED)
            sl_report_error(scope->rt, 0, "", error);
    } else if (sl_cas_acq_rel(&scope->error, &none, error)) {
        sl_scope_cancel(scope, SL_CAUSE_ERROR);
    }
    return error;
}

int sl_go(struct sl_scope *scope, sley_fn *fn, void *arg)
{
    int error;
    struct sl_fiber *f = create(scope, fn, 0, &error);

    if (f == NULL)
        return not_started(scope, error);
    f->arg = arg;
    sl_spawn_ready(f);
    return 0;
}

int sl_go_copy(struct sl_scope *scope, sley_fn *fn, const void *arg, size_t bytes)
{
    void *heap = NULL;
    struct sl_fiber *f;
    int error;

    if (bytes > SL_COPY_INLINE_BYTES) {
        heap = malloc(bytes);
        if (heap == NULL)
            return not_started(scope, -ENOMEM);
        memcpy(heap, arg, bytes);
    }
    f = create(scope, fn, heap != NULL ? SL_FIBER_HEAP : SL_FIBER_COPY, &error);
    if (f == NULL) {
        free(heap);
        return not_started(scope, error);
    }
    if (heap != NULL)
        f->arg = heap;
    else if (bytes > 0)
        memcpy(f->copy, arg, bytes);
    sl_spawn_ready(f);
    return 0;
}

int sl_errand(struct sley_runtime *rt, struct sl_worker *where, sley_fn *fn, void *arg)
{
    int error;
    struct sl_fiber *f = create(&rt->errands, fn, SL_FIBER_SYSTEM, &error);

    if (f == NULL)
        return error;
    f->arg = arg;
    if (where != NULL) {
        f->pins = 1;
        sl_store_relaxed(&f->worker, where->number);
        sl_send_to(where, f);
    } else {
        sl_spawn_ready(f);
    }
    return 0;
}

/* The scope that this fiber's, or attached thread's, new fibers belong to; NULL: a thread that is not attached. */
static struct sl_scope *current_scope(void)
{
    struct sl_thread *t = sl_self_or_null();
    struct sl_scope *s = t != NULL && t->rt != NULL ? t->current->scope : NULL;

    while (s != NULL && s->kind == SL_SCOPE_TASK) /* it holds its task alone */
        s = s->parent;
    return s;
}

static int not_here(void)
{
    return sl_load_relaxed(&sl_forked) ? -ECHILD : -EPERM;
}

int sl_go_here(sley_fn *fn, void *arg)
{
    struct sl_scope *scope = current_scope();
    struct sl_fiber *f;
    int error;

    if (scope == NULL)
        return not_here();
    f = create(scope, fn, 0, &error);
    if (f == NULL)
        return error;
    f->arg = arg;
    sl_spawn_ready(f);
    return 0;
}

int sley_go(sley_fn *fn, void *arg)
{
    struct sl_scope *scope = current_scope();

    if (fn == NULL)
        return -EINVAL;
    return scope != NULL ? sl_go(scope, fn, arg) : not_here();
}

int sley_go_copy(sley_fn *fn, const void *arg, size_t arg_bytes)
{
    struct sl_scope *scope = current_scope();

    if (fn == NULL || (arg == NULL && arg_bytes > 0))
        return -EINVAL;
    if (arg_bytes > SLEY_COPY_BYTES_MAX)
        return -E2BIG;
    return scope != NULL ? sl_go_copy(scope, fn, arg, arg_bytes) : not_here();
}

/* The fiber that runs here; NULL on a plain thread. */
static struct sl_fiber *fiber_here(void)
{
    struct sl_thread *t = sl_self_or_null();

    return t != NULL && t->worker != NULL ? t->current : NULL;
}

uint64_t sley_self(void)
{
    struct sl_fiber *f = fiber_here();

    return f != NULL ? sl_fiber_number(f) : 0;
}

void sley_fiber_set_name(const char *name)
{
    struct sl_fiber *f = fiber_here();

    if (f == NULL || name == NULL)
        return;
    sl_stack_set_name(f->stack, name);
}

void sley_pin(void)
{
    struct sl_fiber *f = fiber_here();

    if (f == NULL)
        return;
    SLEY_ASSERT(f->pins < UINT8_MAX, "sley_pin", "pinned 255 times without an unpin");
    f->pins++;
}

void sley_unpin(void)
{
    struct sl_fiber *f = fiber_here();

    if (f == NULL)
        return;
    SLEY_ASSERT(f->pins > 0, "sley_unpin", "the fiber is not pinned");
    f->pins--;
}
