/* begin.c - a fiber's first run and its end.
 *
 * A fiber gets its stack when it first runs. One that ends hands its stack, still hot in the cache, straight to the next fiber if that
 * has not begun: no switch. (In sanitizer builds every fiber has its own context and is switched to.) */
#include "sched/gens.h"
#include "sched/local.h"
#include "sched/switch.h"

#include <stdlib.h>
#include <string.h>

/* f lives on s from now on: the argument moves from the control block, where the running state now begins, to the stack. */
static void adopt(struct sl_fiber *f, struct sl_stack *s)
{
    sl_tsan_acquire(f); /* pairs with sl_spawn_ready: what its creator wrote */
    if (f->flags & SL_FIBER_COPY) {
        memcpy(s->copy, f->copy, sizeof s->copy);
        s->arg = s->copy;
    } else {
        s->arg = f->arg;
    }
    s->fn = f->fn;
    s->gens = NULL;
    f->gen = NULL;
    sl_stack_set_name(s, "");
    s->fiber = f;
    s->number = sl_fiber_number(f);
    f->context = (struct sl_context){ 0 };
    sl_store_relaxed(&f->timer.deadline, SL_TIME_NONE);
    sl_store_relaxed(&f->timer.key, SL_TIME_NONE);
    sl_store_relaxed(&f->timer.heap, 0);
    f->timer.kind = SL_TIMER_FIBER;
    sl_store_relaxed(&f->wait_object, NULL);
    f->stack = s;
    f->flags |= SL_FIBER_BEGUN;
}

/* What a function of the user's, the fiber's own or one called at its end, must have closed. */
static void check_closed(const struct sl_fiber *f)
{
    SLEY_ASSERT(!(sl_load_relaxed(&f->child) & SL_CHILD_OPENED), "sley_scope_init",
                "the fiber has ended with a scope open: sley_scope_wait is missing"); /* own */
    SLEY_ASSERT(sl_load_relaxed(&f->shields) == 0, "sley_shield_begin", "the fiber has ended with a shield open");
}

static void close_gens(struct sl_fiber *f)
{
    if (__builtin_expect(f->stack->gens != NULL, 0))
        sl_gens_close(&f->stack->gens);
}

/* A drop may make generators, and closing those may set values. */
static __attribute__((noinline)) void drop_all(struct sl_fiber *f)
{
    for (int round = 0; round < SL_LOCAL_DROP_ROUNDS && f->stack->locals.slots != NULL; round++) {
        sl_locals_drop(&f->stack->locals);
        check_closed(f);
        close_gens(f);
    }
    sl_locals_forget(&f->stack->locals);
}

static void drop_locals(struct sl_fiber *f)
{
    if (__builtin_expect(f->stack->locals.slots != NULL, 0))
        drop_all(f);
}

/* What a fiber leaves behind when its function has returned rc. It is still the current fiber, in its scope: the drops of its locals and
 * on_error may do anything. */
static void settle(struct sl_fiber *f, int rc)
{
    check_closed(f);
    close_gens(f);
    drop_locals(f);
    if (f->flags & SL_FIBER_HEAP) {
        free(f->stack->arg);
        f->flags &= (uint8_t)~SL_FIBER_HEAP;
    }
    if (rc < 0 && !(f->flags & SL_FIBER_SYSTEM)) {
        sl_owner_add(&sl_worker_here()->counters.failed, 1);
        sl_scope_child_failed(f->scope, f, rc);
        check_closed(f);
        close_gens(f); /* on_error may have made some */
        drop_locals(f);
    }
    sl_timer_forget(f);
    sl_scope_leave(f->scope, f); /* what it was given may be gone from here on */
}

static void give_back(struct sl_worker *w, struct sl_fiber *f)
{
    sl_stack_credit_give(w->rt->stacks, &w->stacks);
    sl_fiber_free(&w->fibers, f);
}

/* On the next context's stack: nobody runs on the dead fiber's any more. */
static void arrive_dead(void *arg)
{
    struct sl_fiber *f = arg;
    struct sl_worker *w = sl_worker_here();

    sl_context_fini(&f->context);
    sl_stack_push(w->rt->stacks, &w->stacks, f->stack);
    give_back(w, f);
}

static void fiber_main(void *arg)
{
    struct sl_fiber *f = arg;

    for (;;) {
        struct sl_stack *s = f->stack;
        struct sl_fiber *next;
        struct sl_worker *w;
        struct sl_context *to;

        sl_tsan_acquire(f); /* pairs with sl_spawn_ready: what its creator wrote */
        settle(f, s->fn(s->arg));
        w = sl_worker_here(); /* the function may have ended on another worker than it began on */
        s->fiber = NULL;
        sl_store_release(&w->counters.ended, sl_load_relaxed(&w->counters.ended) + 1); /* [drain.1] */
        next = --w->budget > 0 && w->pinned_head == NULL ? sl_take_next(w) : NULL;
#if !defined(SL_ASAN) && !defined(SL_TSAN)
        if (next != NULL && !(next->flags & SL_FIBER_BEGUN)) {
            sl_stack_check_canary(s);
            give_back(w, f);
            adopt(next, s);
            sl_mark_running(w, next);
            f = next;
            continue;
        }
#endif
        if (next != NULL && (next->flags & SL_FIBER_BEGUN || sl_fiber_begin(w, next))) {
            sl_mark_running(w, next);
            to = &next->context;
        } else {
            w->handoff = next;
            w->thread.current = NULL;
            to = &w->idle;
        }
        sl_owner_add(&w->counters.switches, 1);
        sl_tsan_release(s); /* for the stack's next user */
        sl_tsan_release(f); /* for the block's */
        sl_tsan_release(w); /* for the end of the worker */
        sl_context_leave(w->thread.errno_slot, &f->context, to, arrive_dead, f);
    }
}

bool sl_fiber_begin(struct sl_worker *w, struct sl_fiber *f)
{
    struct sl_stack *s = sl_stack_pop(&w->stacks);

    if (s == NULL)
        return false;
    sl_tsan_acquire(s);
    adopt(f, s);
    sl_context_make(&f->context, s->low, s->top, fiber_main, f);
    return true;
}
