/* help.c - doing for a worker that does not come back what it cannot do itself: a fiber on it computes, or sits in a system call.
 *
 * Its queue can be stolen from as always; its next slot through the claim (next.h); its submissions can be handed to the kernel by
 * anybody; its pending task work runs after a kick; its completions can be reaped under the CQ lock, which a sleeper holds; its timers
 * expire under their heap's lock. What is pinned to it waits. */
#include "sched/switch.h"

#include "plat/cpu.h"

#define NEXT_LOOKS_NS  3000  /* between two looks at a next slot: a hand-over that is under way is over by then */
#define KICK_WAIT_NS   20000 /* completions are visible about 10 microseconds after a kick */

static void spin_until(int64_t when)
{
    while (sl_clock_ns() < when)
        sl_cpu_relax();
}

bool sl_next_look(struct sl_worker *w, struct sl_worker *victim)
{
    struct sl_fiber *seen = sl_load_relaxed(&victim->next.fiber); /* hint, re-checked by the claim */
    uint64_t tick = sl_load_relaxed(&victim->tick);               /* hint */

    if (seen == NULL || sl_load_relaxed(&victim->next.claim) != 0)
        return false;
    spin_until(sl_clock_ns() + NEXT_LOOKS_NS);
    if (sl_load_relaxed(&victim->next.fiber) != seen || sl_load_relaxed(&victim->tick) != tick ||
        !sl_next_steal(&victim->next, seen))
        return false;
    sl_push_ready(w, seen);
    sl_owner_add(&w->counters.steals, 1);
    return true;
}

static bool help_ring(struct sl_worker *w, struct sl_worker *stalled)
{
    bool found = false;

    if (sl_ring_unsubmitted(&stalled->ring) > 0) {
        sl_ring_submit(&stalled->ring, false);
        sl_owner_add(&w->counters.io_enters, 1);
    }
    if (sl_ring_wants_enter(&stalled->ring)) {
        const uint32_t *slot = sl_load_relaxed(&stalled->cpu_slot); /* written once, before the worker ran a fiber */
        int64_t give_up = sl_clock_ns() + KICK_WAIT_NS;

        sl_cpu_kick(slot != NULL ? (int)sl_volatile_read(slot) : -1);
        while (!sl_ring_has_completions(&stalled->ring) && sl_clock_ns() < give_up)
            sl_cpu_relax();
    }
    while (sl_ring_may_have_completions(&stalled->ring) && sl_deque_count(&w->deque) < SL_DEQUE_CAP / 2 && sl_reap(w, stalled))
        found = true;
    return found;
}

bool sl_help(struct sl_worker *w, struct sl_worker *stalled)
{
    bool found = sl_next_look(w, stalled);

    found |= help_ring(w, stalled);
    if (sl_load_relaxed(&stalled->timers.first) <= w->now) { /* hint, re-checked under the lock */
        sl_timers_expire(w, &stalled->timers, w->now);
        found = true;
    }
    return found || sl_deque_count(&stalled->deque) > 0 || sl_queue_count(&stalled->overflow) > 0;
}

void sl_look_at_neighbour(struct sl_worker *w)
{
    unsigned n = w->rt->worker_count;
    struct sl_worker *v;
    uint64_t tick;

    if (n == 1)
        return;
    w->neighbour = (w->neighbour + 1) % n;
    v = w->rt->workers[w->neighbour];
    if (v == w || sl_idle_sleeps(&w->rt->idle, w->neighbour))
        return;
    tick = sl_load_relaxed(&v->tick); /* hint */
    if (tick == w->seen_ticks[w->neighbour])
        sl_help(w, v);
    w->seen_ticks[w->neighbour] = tick;
}
