/* stats.c - the counters (sley/obs.h): sums of what every worker counts for itself. */
#include "sched/worker.h"

#include <string.h>

#include <sley/obs.h>

/* Fibers that wait, by a walk over the control blocks: hints, each re-read a moment later would be another. */
static uint64_t count_parked(const sley_runtime *rt)
{
    uint64_t n = 0;
    uint32_t end = sl_fiber_index_end();

    for (uint32_t i = 0; i < end; i++) {
        struct sl_fiber *f = sl_fiber_at(i);
        unsigned state = SL_WORD_STATE(sl_load_relaxed(&f->word));

        if ((sl_load_relaxed(&f->generation) & 1) && f->rt == rt && !(f->flags & (SL_FIBER_THREAD | SL_FIBER_SYSTEM)))
            n += state == SL_WAITING || state == SL_WAITING_IO;
    }
    return n;
}

int sley_stats_read(const sley_runtime *rt, sley_stats *out, size_t out_bytes)
{
    sley_stats s = { 0 };
    uint64_t ended = 0;

    if (rt == NULL)
        rt = sley_runtime_current();
    if (rt == NULL || out == NULL)
        return -EINVAL;
    for (unsigned i = 0; i < rt->worker_count; i++) { /* ended before started, so that fibers_now is not negative: [drain.1] */
        const struct sl_counters *c = &rt->workers[i]->counters;

        ended += sl_load_acquire(&c->ended);
    }
    s.fibers_started = sl_load_acquire(&rt->outside) & ~SL_OUTSIDE_CLOSED;
    s.inject_pushes = sl_load_relaxed(&rt->injected);
    for (unsigned i = 0; i < rt->worker_count; i++) {
        const struct sl_counters *c = &rt->workers[i]->counters;

        s.fibers_started += sl_load_acquire(&c->started);
        s.fibers_failed += sl_load_relaxed(&c->failed);
        s.switches += sl_load_relaxed(&c->switches);
        s.steals += sl_load_relaxed(&c->steals);
        s.wakes += sl_load_relaxed(&c->wakes);
        s.io_submitted += sl_load_relaxed(&c->io_submitted);
        s.io_completed += sl_load_relaxed(&c->io_completed);
        s.io_enters += sl_load_relaxed(&c->io_enters);
        s.timers_fired += sl_load_relaxed(&c->timers_fired);
        s.io_fixed += sl_load_relaxed(&c->io_fixed);
        s.chan_messages += sl_load_relaxed(&c->chan_messages);
    }
    s.workers_now = rt->worker_count;
    s.fibers_now = s.fibers_started - ended;
    s.fibers_parked_now = count_parked(rt);
    s.stacks_now = sl_stack_pool_count(rt->stacks) + (rt->gen_stacks != rt->stacks ? sl_stack_pool_count(rt->gen_stacks) : 0);
    s.blocking_calls = sl_load_relaxed(&rt->blocking.calls);
    s.blocking_threads_now = sl_load_relaxed(&rt->blocking.threads);
    memcpy(out, &s, out_bytes < sizeof s ? out_bytes : sizeof s);
    return 0;
}
