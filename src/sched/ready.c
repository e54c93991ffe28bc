/* ready.c - parking, and making fibers ready: which queue a fiber goes to, and who is woken for it. */
#include "sched/switch.h"

#include "plat/cpu.h"
#include "plat/futex.h"
#include "sched/op.h"

#include <sley/fiber.h>

struct parked {
    struct sl_fiber *fiber;
    struct sl_lock  *lock;
};

/* On the next context's stack: the fiber is saved. It may run elsewhere as soon as WAITING is stored, so everything is read before. */
static void arrive_parked(void *arg)
{
    struct parked *p = arg;
    struct sl_fiber *f = p->fiber;
    struct sl_lock *lock = p->lock;

    sl_store_release(&f->word, SL_WORD(sl_wait_sequence(f), 0, SL_WAITING)); /* [park.1] */
    if (lock != NULL) {
        sl_lock_take_over(lock);
        sl_lock_release(lock);
    }
}

/* It runs again: by what it was claimed. */
static inline __attribute__((always_inline)) unsigned unpark(struct sl_fiber *f)
{
    uint64_t word = sl_load_acquire(&f->word);

    sl_tsan_acquire(f); /* [park.2] */
    sl_streak_end(f);
    sl_wait_end(f);
    if (__builtin_expect(SL_WORD_ARM(word) == SL_ARM_CANCEL, 0))
        sl_scope_note_cut(f);
    return SL_WORD_ARM(word);
}

/* M1: commit. false: claimed while arming; whoever did so does not make it ready. */
static bool commit_many(struct sl_fiber *f)
{
    uint64_t sequence = sl_wait_sequence(f), word = SL_WORD(sequence, 0, SL_ARMING_MANY);

    return sl_cas_acq_rel(&f->word, &word, SL_WORD(sequence, 0, SL_WAITING)); /* [park.1] */
}

/* On the next context's stack, at the end of a wait on several objects. */
static void arrive_parked_many(void *arg)
{
    struct sl_fiber *f = arg;
    struct sl_worker *w;

    if (commit_many(f))
        return;
    w = sl_worker_here();
    sl_tsan_release(f);
    if (w->rt->chaos && sl_send_elsewhere(w, f))
        return;
    sl_push_ready(w, f);
    if (w->thread.current != NULL) /* else the idle context takes it up again */
        sl_look_for_sleepers(w);
}

/* ---- a plain thread ----
 * thread_ready says how it waits: on that word, or in poll(2), with a bell to be rung. */

enum { ON_FUTEX = 0, READY = 1, BELL = 2 /* + the bell's descriptor */ };

bool sl_thread_commit(struct sl_fiber *f, int bell)
{
    sl_store_relaxed(&f->thread_ready, bell < 0 ? (uint32_t)ON_FUTEX : BELL + (uint32_t)bell); /* who claims before the commit leaves it */
    return commit_many(f);
}

bool sl_thread_is_ready(const struct sl_fiber *f)
{
    return sl_load_acquire(&f->thread_ready) == READY; /* [park.2] */
}

bool sl_thread_claim_self(struct sl_fiber *f, unsigned arm)
{
    uint64_t sequence = sl_wait_sequence(f), word = SL_WORD(sequence, 0, SL_WAITING);

    return sl_cas_acq_rel(&f->word, &word, SL_WORD(sequence, arm, SL_WON)); /* [park.2] */
}

unsigned sl_thread_leave(struct sl_fiber *f)
{
    return unpark(f);
}

/* The word says WAITING: until it is claimed, or the deadline. */
static unsigned wait_thread(struct sl_fiber *f)
{
    int64_t deadline = sl_load_relaxed(&f->timer.deadline); /* own */

    while (!sl_thread_is_ready(f)) {
        if (deadline != SL_TIME_NONE && sl_clock_ns() >= deadline) {
            deadline = SL_TIME_NONE; /* if the claim fails somebody else's has won, and sl_ready will come */
            if (sl_thread_claim_self(f, SL_ARM_TIMEOUT))
                break;
        }
        sl_futex_wait(&f->thread_ready, ON_FUTEX, deadline);
    }
    return unpark(f);
}

static unsigned park_thread(struct sl_fiber *f, struct sl_lock *lock)
{
    sl_store_relaxed(&f->thread_ready, ON_FUTEX); /* before anybody can claim */
    sl_store_release(&f->word, SL_WORD(sl_wait_sequence(f), 0, SL_WAITING)); /* [park.1] */
    if (lock != NULL)
        sl_lock_release(lock);
    return wait_thread(f);
}

static void ready_thread(struct sl_fiber *f)
{
    uint32_t how = sl_swap_acq_rel(&f->thread_ready, READY); /* [park.2] the last thing that needs the wait to last */

    if (how >= BELL)
        sl_thread_io_ring((int)(how - BELL)); /* kept for ever: at worst another thread looks, and waits on */
    else
        sl_futex_wake(&f->thread_ready, 1); /* the block is type-stable: a thread that has gone on is woken for nothing */
}

/* ---- parking ---- */

unsigned sl_park(struct sl_lock *lock)
{
    struct sl_thread *t = sl_self();
    struct sl_fiber *f = t->current;
    struct parked p = { f, lock };

    if (f->flags & SL_FIBER_THREAD)
        return park_thread(f, lock);
    if (lock != NULL)
        sl_lock_hand_over(lock);
    sl_store_relaxed(&f->parked_ms, (uint32_t)(t->worker->now / 1000000));
    sl_switch_away(t->worker, f, arrive_parked, &p);
    return unpark(f);
}

unsigned sl_park_many(void)
{
    struct sl_thread *t = sl_self();
    struct sl_fiber *f = t->current;

    if (f->flags & SL_FIBER_THREAD)
        return sl_thread_commit(f, -1) ? wait_thread(f) : unpark(f);
    sl_store_relaxed(&f->parked_ms, (uint32_t)(t->worker->now / 1000000));
    sl_switch_away(t->worker, f, arrive_parked_many, f);
    return unpark(f);
}

static void push_pinned(struct sl_worker *w, struct sl_fiber *f)
{
    sl_store_relaxed(&f->next, NULL);
    if (w->pinned_tail != NULL)
        sl_store_relaxed(&w->pinned_tail->next, f); /* owner only */
    else
        w->pinned_head = f;
    w->pinned_tail = f;
}

void sl_push_ready(struct sl_worker *w, struct sl_fiber *f)
{
    if (f->pins > 0) {
        if (sl_load_relaxed(&f->worker) == w->number)
            push_pinned(w, f);
        else
            sl_send_to(w->rt->workers[sl_load_relaxed(&f->worker)], f);
    } else if (sl_load_relaxed(&w->overflow.count) > 0 || !sl_deque_push(&w->deque, f)) { /* hint: thieves only make it smaller */
        sl_queue_push(&w->overflow, f);
    }
}

void sl_wake_one(struct sl_worker *w)
{
    int number = sl_idle_claim(&w->rt->idle, w->number);

    if (number >= 0)
        sl_doorbell_ring(w->rt->workers[number]);
}

void sl_send_to(struct sl_worker *w, struct sl_fiber *f)
{
    sl_queue_push(&w->mailbox, f);
    sl_fence_seq_cst(); /* [idle.1] */
    if (sl_idle_claim_one(&w->rt->idle, w->number))
        sl_doorbell_ring(w);
}

void sl_inject(struct sley_runtime *rt, struct sl_fiber *f)
{
    int number;

    sl_queue_push(&rt->inject, f);
    sl_add_relaxed(&rt->injected, 1); /* counter */
    sl_fence_seq_cst(); /* [idle.1] */
    number = sl_idle_claim(&rt->idle, 0);
    if (number >= 0)
        sl_doorbell_ring(rt->workers[number]);
}

bool sl_send_elsewhere(struct sl_worker *w, struct sl_fiber *f)
{
    unsigned n = sl_load_relaxed(&w->rt->threads), last = sl_load_relaxed(&f->worker); /* hint: it only grows */

    if (n <= 1 || f->pins > 0)
        return false;
    sl_send_to(w->rt->workers[(last + 1 + sl_random(w) % (n - 1)) % n], f);
    return true;
}

/* f runs next on w; what had that place goes to the queue, where somebody may want it. */
static void run_next(struct sl_worker *w, struct sl_fiber *f)
{
    struct sl_fiber *displaced = sl_next_exchange(&w->next, f);

    if (displaced != NULL) {
        sl_push_ready(w, displaced);
        sl_look_for_sleepers(w);
    }
}

void sl_ready(struct sl_fiber *f)
{
    struct sley_runtime *rt = f->rt;
    struct sl_worker *w = sl_worker_here();

    sl_tsan_release(f); /* [park.2] */
    if (f->flags & SL_FIBER_THREAD) {
        ready_thread(f);
        return;
    }
    if (w == NULL || w->rt != rt) {
        if (f->pins > 0)
            sl_send_to(rt->workers[sl_load_relaxed(&f->worker)], f);
        else
            sl_inject(rt, f);
        return;
    }
    sl_owner_add(&w->counters.wakes, 1);
    if (rt->chaos && sl_send_elsewhere(w, f))
        return;
    if (w->thread.current == NULL || f->pins > 0) /* from the idle context: a poll's end, a timer; or nobody else may take it */
        sl_push_ready(w, f);
    else
        run_next(w, f);
}

void sl_ready_list(struct sl_fiber *first)
{
    struct sl_worker *w = sl_worker_here();

    for (struct sl_fiber *f = first, *next; f != NULL; f = next) {
        next = sl_load_relaxed(&f->next); /* the caller's list */
        if (w == NULL || f->flags & SL_FIBER_THREAD || w->rt != f->rt || w->rt->chaos) {
            sl_ready(f);
        } else {
            sl_owner_add(&w->counters.wakes, 1);
            sl_tsan_release(f); /* [park.2] */
            sl_push_ready(w, f);
        }
    }
    if (w != NULL && first != NULL)
        sl_look_for_sleepers(w);
}

void sl_spawn_ready(struct sl_fiber *f)
{
    struct sl_worker *w = sl_worker_here();

    sl_tsan_release(f);
    if (w == NULL || w->rt != f->rt)
        sl_inject(f->rt, f);
    else
        run_next(w, f);
}

/* On the next context's stack: the fiber that yields goes behind what is queued. */
static void arrive_yielded(void *arg)
{
    struct sl_fiber *f = arg;
    struct sl_worker *w = sl_worker_here();

    if (w->rt->chaos && sl_send_elsewhere(w, f))
        return;
    sl_push_ready(w, f);
    if (w->thread.current != NULL) /* else the idle context takes it up again */
        sl_look_for_sleepers(w);
}

int sley_yield(void)
{
    struct sl_thread *t = sl_self();
    struct sl_fiber *f = t->current;
    struct sl_worker *w = t->worker;

    if (f->flags & SL_FIBER_THREAD) {
        if (sl_load_relaxed(&sl_forked))
            return -ECHILD;
        sl_thread_yield();
        return sl_cancelled(f) ? -ECANCELED : 0;
    }
    /* alone: nothing to switch to, but the budget runs so that completions and timers are seen */
    if (w->budget > 1 && !w->rt->chaos && w->pinned_head == NULL && sl_load_relaxed(&w->next.fiber) == NULL &&
        sl_deque_count(&w->deque) == 0 && sl_queue_count(&w->overflow) == 0) {
        w->budget--;
        sl_owner_add(&w->tick, 1);
        return sl_cancelled(f) ? -ECANCELED : 0;
    }
    sl_switch_away(w, f, arrive_yielded, f);
    return sl_cancelled(f) ? -ECANCELED : 0;
}
