/* switch.h - leaving a fiber: what runs next, and the jump. Inline, because at most one C frame may stand between a public call and
 * the switch: each costs 7 ns when the two fibers came by different ways. */
#ifndef SL_SWITCH_H
#define SL_SWITCH_H

#include "sched/worker.h"

/* The fiber to run now, from the next slot and the deque; NULL: none there. Takes no lock, so it may be called under an object's. */
static inline struct sl_fiber *sl_take_next(struct sl_worker *w)
{
    if (sl_load_relaxed(&w->next.fiber) != NULL) { /* owner only */
        bool alone = sl_deque_count(&w->deque) == 0 && sl_load_relaxed(&w->overflow.count) == 0;

        if (alone || w->next_streak < SL_NEXT_STREAK) {
            struct sl_fiber *f = sl_next_exchange(&w->next, NULL);

            if (f != NULL) {
                w->next_streak = alone ? 0 : (uint8_t)(w->next_streak + 1);
                return f;
            }
        } else if (sl_load_relaxed(&w->overflow.count) == 0 && sl_deque_count(&w->deque) < SL_DEQUE_CAP) { /* behind the others */
            struct sl_fiber *f = sl_next_exchange(&w->next, NULL);

            if (f != NULL)
                sl_deque_push(&w->deque, f);
        }
    }
    w->next_streak = 0;
    return sl_deque_pop(&w->deque);
}

static inline __attribute__((always_inline)) void sl_mark_running(struct sl_worker *w, struct sl_fiber *f)
{
    w->thread.current = f;
    sl_store_relaxed(&f->worker, w->number);
    sl_owner_add(&w->tick, 1);
}

/* What to enter in place of the running fiber: a ready fiber's context, begun on a stack from the cache if need be, or the idle
 * context, when there is none, or it is time to look around, or it is a pinned one's turn, or a new fiber needs a stack that the cache does
 * not have. */
static inline __attribute__((always_inline)) struct sl_context *sl_pick(struct sl_worker *w)
{
    struct sl_fiber *f;

    if (--w->budget > 0 && w->pinned_head == NULL && (f = sl_take_next(w)) != NULL) {
        if (f->flags & SL_FIBER_BEGUN || sl_fiber_begin(w, f)) {
            sl_mark_running(w, f);
            return &f->context;
        }
        w->handoff = f;
    }
    w->thread.current = NULL;
    return &w->idle;
}

/* Leave `self`; fn(arg) publishes it once it is saved. Returns when it runs again, perhaps on another worker. */
static inline __attribute__((always_inline)) void
sl_switch_away(struct sl_worker *w, struct sl_fiber *self, sl_arrive_fn *fn, void *arg)
{
    struct sl_context *to = sl_pick(w);

    sl_owner_add(&w->counters.switches, 1);
    sl_context_switch(w->thread.errno_slot, &self->context, to, fn, arg);
}

/* A push left a fiber waiting while another runs: is there a sleeper for it? One load, no fence: pair [idle.1]. */
void sl_wake_one(struct sl_worker *w);

static inline void sl_look_for_sleepers(struct sl_worker *w)
{
    if (w->rt->worker_count == 1)
        return;
    if (!sl_use_membarrier)
        sl_fence_seq_cst(); /* [idle.1] */
    else
        sl_compiler_barrier();
    if (sl_idle_any_sleeper(&w->rt->idle))
        sl_wake_one(w);
}

#endif
