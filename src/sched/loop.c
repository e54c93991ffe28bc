/* loop.c - the idle context of a worker: looks around, steals, sleeps, and starts fibers.
 *
 * A fiber that leaves goes straight to the next one; it comes here when there is none, when a new fiber needs a stack that the
 * cache does not have, and after SL_MAINTENANCE_TICK dispatches. Everything that takes a lock of the scheduler, enters the kernel
 * or waits is done here, on the worker's own stack, so never on the stack of a fiber that is already published. */
#include "sched/switch.h"

#include "plat/cpu.h"

#define QUIET_LOOKS 2 /* looks, 10 milliseconds apart, at which nobody was awake, before the watcher goes dormant */

/* ---- looking around ---- */

static void take_mail(struct sl_worker *w)
{
    uint32_t taken;
    struct sl_fiber *list = sl_queue_take(&w->mailbox, UINT32_MAX, &taken);

    if (list == NULL)
        return;
    if (w->pinned_tail != NULL)
        sl_store_relaxed(&w->pinned_tail->next, list); /* owner only */
    else
        w->pinned_head = list;
    for (; sl_load_relaxed(&list->next) != NULL; list = sl_load_relaxed(&list->next))
        ;
    w->pinned_tail = list;
}

static void push_list(struct sl_worker *w, struct sl_fiber *list)
{
    while (list != NULL) {
        struct sl_fiber *next = sl_load_relaxed(&list->next); /* ours */

        sl_push_ready(w, list);
        list = next;
    }
}

static void take_injected(struct sl_worker *w)
{
    uint32_t share = sl_queue_count(&w->rt->inject) / w->rt->worker_count + 1, taken;

    push_list(w, sl_queue_take(&w->rt->inject, share < SL_INJECT_TAKE_MAX ? share : SL_INJECT_TAKE_MAX, &taken));
}

/* f could not get a stack: the kernel refuses memory. It waits where no search counts it as work. */
static void starve(struct sl_worker *w, struct sl_fiber *f)
{
    sl_queue_push(&w->rt->starved, f);
    sl_store_relaxed(&w->rt->starved_next, w->now + SL_STARVED_NS); /* hint: the sleeper that reads an older value wakes earlier */
}

static void feed_starved(struct sl_worker *w)
{
    uint32_t taken;

    if (sl_queue_count(&w->rt->starved) == 0 || (w->stacks.head == NULL && w->now < sl_load_relaxed(&w->rt->starved_next)))
        return;
    if (w->stacks.head == NULL)
        sl_store_relaxed(&w->rt->starved_next, w->now + SL_STARVED_NS); /* hint */
    push_list(w, sl_queue_take(&w->rt->starved, SL_STACK_BATCH, &taken));
}

static void look_around(struct sl_worker *w)
{
    w->now = sl_clock_ns();
    w->budget = SL_MAINTENANCE_TICK;
    take_mail(w);
    take_injected(w);
    if (sl_load_relaxed(&w->timers.first) <= w->now) /* own heap: only its owner makes it earlier */
        sl_timers_expire(w, &w->timers, w->now);
    feed_starved(w);
    sl_submit(w);
    sl_reap(w, w);
}

/* ---- choosing ---- */

static void refill_from_overflow(struct sl_worker *w)
{
    uint32_t taken;
    struct sl_fiber *list = sl_queue_take(&w->overflow, SL_DEQUE_CAP, &taken);

    while (list != NULL) { /* the deque is empty and only its owner pushes: they fit */
        struct sl_fiber *next = sl_load_relaxed(&list->next);

        sl_deque_push(&w->deque, list);
        list = next;
    }
}

static struct sl_fiber *pop_pinned(struct sl_worker *w)
{
    struct sl_fiber *f = w->pinned_head;

    if (f != NULL) {
        w->pinned_head = sl_load_relaxed(&f->next); /* owner only */
        if (w->pinned_head == NULL)
            w->pinned_tail = NULL;
    }
    return f;
}

/* The pinned and the others take turns. */
static struct sl_fiber *choose(struct sl_worker *w)
{
    struct sl_fiber *f;

    w->pinned_turn = !w->pinned_turn;
    if (w->pinned_turn && (f = pop_pinned(w)) != NULL)
        return f;
    if (sl_deque_count(&w->deque) == 0)
        refill_from_overflow(w);
    f = sl_take_next(w);
    return f != NULL ? f : pop_pinned(w);
}

/* ---- stealing ---- */

static bool steal_from(struct sl_worker *w, struct sl_worker *victim)
{
    struct sl_fiber *loot[SL_DEQUE_CAP / 2 + 1];
    uint32_t n = sl_deque_steal(&victim->deque, loot);

    for (uint32_t i = 0; i < n; i++)
        sl_push_ready(w, loot[i]);
    if (n == 0)
        push_list(w, sl_queue_take(&victim->overflow, SL_DEQUE_CAP / 2, &n));
    sl_owner_add(&w->counters.steals, n);
    return n > 0;
}

static bool steal(struct sl_worker *w)
{
    unsigned n = w->rt->worker_count, start;

    if (n == 1 || (!w->searching && !sl_idle_search_begin(&w->rt->idle, w->number)))
        return false;
    w->searching = true;
    start = (unsigned)(sl_random(w) % n);
    for (unsigned i = 0; i < n; i++) {
        struct sl_worker *victim = w->rt->workers[(start + i) % n];

        if (victim != w && steal_from(w, victim))
            return true;
    }
    for (unsigned i = 0; i < n; i++) {
        struct sl_worker *victim = w->rt->workers[(start + i) % n];

        if (victim != w && sl_next_look(w, victim))
            return true;
    }
    return sl_queue_count(&w->rt->inject) > 0;
}

/* ---- sleeping ---- */

/* The last look before sleeping, after the announcement and the barrier: pair [idle.1]. */
static bool work_anywhere(const struct sl_worker *w)
{
    const struct sley_runtime *rt = w->rt;

    if (w->pinned_head != NULL || sl_load_relaxed(&w->next.fiber) != NULL || sl_queue_count(&w->mailbox) > 0 ||
        sl_queue_count(&rt->inject) > 0 || sl_load_acquire(&rt->stopping) || !w->doorbell_armed ||
        sl_ring_has_completions(&w->ring))
        return true;
    for (unsigned i = 0; i < rt->worker_count; i++)
        if (sl_deque_count(&rt->workers[i]->deque) > 0 || sl_queue_count(&rt->workers[i]->overflow) > 0)
            return true;
    return false;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The watcher's part of going to sleep: until when, given `deadline` for its own sake. */
static int64_t watch_until(struct sl_worker *w, int64_t deadline)
{
    struct sl_idle *idle = &w->rt->idle;
    int32_t nobody = -1;

    if (w->rt->worker_count == 1)
        return deadline;
    if (sl_load_relaxed(&idle->watcher) != w->number && /* own number: only this worker writes it or takes it away */
        !sl_cas_seq_cst(&idle->watcher, &nobody, w->number))
        return deadline;
    if (sl_idle_awake(idle) == 0 && ++w->watch_quiet > QUIET_LOOKS) {
        sl_store_relaxed(&idle->dormant, 1); /* [idle.2] */
        sl_fence_seq_cst();
        if (sl_idle_awake(idle) == 0)
            return deadline;
        sl_store_relaxed(&idle->dormant, 0);
    }
    if (sl_idle_awake(idle) == 0)
        return earlier(deadline, w->now + SL_WATCH_IDLE_NS);
    w->watch_quiet = 0;
    deadline = earlier(deadline, w->now + (w->watch_misses < 8 ? SL_WATCH_NS : SL_WATCH_IDLE_NS));
    for (unsigned i = 0; i < w->rt->worker_count; i++) {
        struct sl_worker *v = w->rt->workers[i];
        int64_t first = sl_load_relaxed(&v->timers.first); /* hint, re-checked under the heap's lock */

        if (v != w && !sl_idle_sleeps(idle, i))
            deadline = earlier(deadline, first > w->now ? first : w->now + SL_WATCH_NS);
    }
    return deadline;
}

/* The watcher's look: workers awake whose tick stood still since the last one. */
static void watch_look(struct sl_worker *w)
{
    bool found = false;

    if (sl_load_relaxed(&w->rt->idle.watcher) != w->number || w->now - w->watch_at < SL_WATCH_NS / 2) /* own number */
        return;
    w->watch_at = w->now;
    for (unsigned i = 0; i < w->rt->worker_count; i++) {
        struct sl_worker *v = w->rt->workers[i];
        uint64_t tick = sl_load_relaxed(&v->tick); /* hint */

        if (v == w || sl_idle_sleeps(&w->rt->idle, i))
            continue;
        if (tick == w->seen_ticks[i])
            found |= sl_help(w, v);
        w->seen_ticks[i] = tick;
    }
    w->watch_misses = found ? 0 : w->watch_misses + 1;
}

/* This worker has something to run. If it was the watcher, another sleeper must be; if the watcher is dormant, it must not stay so. */
static void leave_idleness(struct sl_worker *w)
{
    struct sl_idle *idle = &w->rt->idle;
    bool look = false;

    if (w->searching) {
        w->searching = false;
        look = sl_idle_search_end(idle, w->number);
    }
    if (w->slept) {
        w->slept = false;
        if (sl_load_relaxed(&idle->watcher) == w->number) { /* own number */
            sl_store_relaxed(&idle->dormant, 0);
            sl_store_release(&idle->watcher, -1);
            w->watch_quiet = 0;
            look = true;
        } else if (sl_load_seq_cst(&idle->dormant) && sl_swap_acq_rel(&idle->dormant, 0)) { /* [idle.2] behind sl_idle_retire */
            int32_t watcher = sl_load_relaxed(&idle->watcher); /* hint: one that has just left is awake */

            if (watcher >= 0)
                sl_doorbell_ring(w->rt->workers[watcher]);
        }
    }
    if (look)
        sl_look_for_sleepers(w);
}

static void go_to_sleep(struct sl_worker *w)
{
    struct sley_runtime *rt = w->rt;

    sl_lock_acquire(&w->ring.cq_lock); /* R2: nobody reaps the ring of a sleeper */
    if (!w->doorbell_armed)
        sl_doorbell_arm(w);
    sl_idle_announce(&rt->idle, w->number, w->searching);
    w->searching = false;
    if (sl_use_membarrier && rt->worker_count > 1 && sl_idle_awake(&rt->idle) > 0)
        sl_membarrier(); /* [idle.1] */
    else
        sl_fence_seq_cst(); /* [idle.1] */
    if (sl_load_relaxed(&rt->draining)) /* [drain.1] behind the barrier */
        sl_drain_check(rt);
    if (!work_anywhere(w)) {
        int64_t deadline;

        sl_lock_acquire(&w->timers.lock); /* after the announcement: a helper that has the heap in hand puts back what it holds, or rings */
        deadline = sl_load_relaxed(&w->timers.first);
        sl_lock_release(&w->timers.lock);
        if (sl_queue_count(&rt->starved) > 0)
            deadline = earlier(deadline, sl_load_relaxed(&rt->starved_next));
        deadline = watch_until(w, deadline);
        sl_owner_add(&w->counters.io_enters, 1);
        sl_ring_wait(&w->ring, deadline, w->now);
    }
    if (sl_idle_retire(&rt->idle, w->number))
        w->searching = true; /* I2 */
    w->slept = true;
    w->now = sl_clock_ns();
    sl_reap_locked(w, w);
    watch_look(w);
}

/* ---- the loop ---- */

static struct sl_fiber *find(struct sl_worker *w)
{
    struct sl_fiber *f = w->handoff;

    if (w->budget <= 0) {
        look_around(w);
        sl_look_at_neighbour(w);
    }
    if (f != NULL) {
        w->handoff = NULL;
        return f;
    }
    for (;;) {
        bool stopping; /* set when no fiber is left; what was sent here before is taken below */

        f = choose(w);
        if (f != NULL)
            return f;
        stopping = sl_load_acquire(&w->rt->stopping);
        look_around(w);
        f = choose(w);
        if (f != NULL)
            return f;
        if (steal(w))
            continue;
        if (stopping)
            return NULL;
        go_to_sleep(w);
    }
}

void sl_worker_loop(struct sl_worker *w)
{
    struct sl_fiber *f;

    while ((f = find(w)) != NULL) {
        leave_idleness(w);
        if (sl_deque_count(&w->deque) > 0) /* whatever filled it: these wait while f runs */
            sl_look_for_sleepers(w);
        if (!(f->flags & SL_FIBER_BEGUN)) {
            if (w->stacks.head == NULL && sl_stack_refill(w->rt->stacks, &w->stacks) < 0) {
                starve(w, f);
                continue;
            }
            sl_fiber_begin(w, f);
        }
        sl_mark_running(w, f);
        sl_owner_add(&w->counters.switches, 1);
        sl_context_switch(w->thread.errno_slot, &w->idle, &f->context, NULL, NULL);
    }
}
