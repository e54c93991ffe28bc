/* worker.h - a worker, a runtime, and the inner functions of the scheduler. Only src/sched, src/obs and the I/O tests' fault switches look
 * inside; the other rooms use park.h and op.h.
 *
 * Where a ready fiber may be, in the order in which its worker looks: `pinned` and `next` and `deque` (the owner's), `overflow` (the
 * owner's, once the deque is full), `mailbox` (put there by others), the runtime's `inject` queue. Exactly one of them (F2).
 *
 * Fields say who writes them; "owner" is the worker's thread, and plain fields without a word are the owner's alone. */
#ifndef SL_WORKER_H
#define SL_WORKER_H

#include "base/assert.h"
#include "ctx/stack.h"
#include "event/ring.h"
#include "plat/self.h"
#include "sched/blocking.h"
#include "sched/deque.h"
#include "sched/idle.h"
#include "sched/next.h"
#include "sched/park.h"
#include "sched/queue.h"

#include <pthread.h>
#include <sley/runtime.h>

struct sl_counters { /* owner adds, anybody reads; see sley_stats */
    _Atomic(uint64_t) started, ended, failed, switches, steals, wakes, io_submitted, io_completed, io_enters, timers_fired,
        chan_messages, io_fixed;
};

struct sl_worker {
    struct sl_thread     thread; /* first: what the thread-local pointer points at */
    struct sley_runtime *rt;
    uint16_t             number;
    struct sl_context    idle;   /* the worker's own stack: where it searches, enters the kernel, sleeps */
    int                  budget; /* dispatches until the idle context looks around */
    uint8_t              next_streak;
    bool                 searching;     /* counted in the idle word */
    bool                 slept;         /* and has not run anything since */
    bool                 pinned_turn;
    bool                 doorbell_armed; /* under ring.cq_lock */
    struct sl_fiber     *handoff;       /* picked, but could not begin without a new stack: the idle context begins it */
    struct sl_fiber     *pinned_head, *pinned_tail; /* ready, and must run here */
    struct sl_stack_cache stacks;
    struct sl_stack_cache gen_stacks; /* unless rt->gen_stacks is rt->stacks */
    struct sl_fiber_cache fibers;
    int64_t              now;           /* last clock reading */
    uint64_t             random;
    unsigned             neighbour;     /* looked at last */
    unsigned             watch_misses;  /* looks in a row without a find */
    unsigned             watch_quiet;   /* looks in a row at which nobody was awake */
    int64_t              watch_at;      /* when it looked last */
    void                *altstack;
    pthread_t            pthread;

    _Alignas(64) struct sl_next next;
    _Atomic(uint64_t)    tick;          /* dispatches; owner writes, helpers compare */
    _Atomic(const uint32_t *) cpu_slot; /* where the processor it runs on stands; NULL: unknown */
    struct sl_counters   counters;
    uint64_t            *seen_ticks;    /* every worker's tick when this one looked at it last */

    struct sl_deque      deque;
    struct sl_queue      overflow;      /* owner pushes; anybody takes */
    struct sl_queue      mailbox;       /* anybody pushes; owner takes */
    struct sl_timer_heap timers;        /* under its lock */
    struct sl_ring       ring;
    int                  doorbell_fd;   /* an eventfd that the ring polls */
};

#define SL_OUTSIDE_CLOSED ((uint64_t)1 << 63)

enum sl_runtime_state { SL_RT_CREATED, SL_RT_RUNNING, SL_RT_STOPPED };

struct sley_runtime {
    struct sl_scope        root;
    struct sl_scope        errands;      /* of the library's own fibers: never cancelled */
    struct sley_options    options;      /* with every default filled in */
    unsigned               worker_count;
    _Atomic(unsigned)      threads;      /* of them running, the first ones; grows at the start */
    struct sl_worker     **workers;
    struct sl_stack_pool  *stacks;
    struct sl_stack_pool  *gen_stacks;   /* of generators; the same one if they are of the same size */
    struct sl_blocking     blocking;
    bool                   chaos;        /* SLEY_CHAOS=migrate: every wake sends the fiber to another worker */
    bool                   has_rings;    /* io_uring; else epolls stand in for them */
    bool                   sync_cancel;  /* the kernel's REGISTER_SYNC_CANCEL */
    bool                   run;          /* made by sley_run: it stops when its first fiber has ended */
    bool                   log_stderr;
    int                    state;        /* enum sl_runtime_state; under `control` */
    pthread_mutex_t        control;      /* create, start, stop, destroy; never taken on a fiber */
    char                   backend[160];

    _Alignas(64) struct sl_idle idle;
    _Alignas(64) struct sl_queue inject; /* from outside the workers */
    struct sl_queue        starved;      /* fibers that got no stack */
    _Atomic(int64_t)       starved_next; /* when they try again */
    _Atomic(uint64_t)      outside;      /* fibers started by plain threads; SL_OUTSIDE_CLOSED: no more of them. Pair [drain.1] */
    _Atomic(uint64_t)      injected;     /* pushes to `inject` */
    _Atomic(uint8_t)       draining;     /* somebody waits for the last fiber; pair [drain.1] */
    _Atomic(uint8_t)       stopping;     /* no fiber is left: workers leave */
    _Atomic(uint8_t)       drained;      /* the last fiber has ended */
    _Atomic(uint32_t)      left;         /* futex: threads that have left their loops */
    _Atomic(uint32_t)      news;         /* futex: counts changes of `drained` and of the root scope's `cancelled` */
};

/* ready.c */
void sl_push_ready(struct sl_worker *w, struct sl_fiber *f); /* owner: behind what is queued; a pinned fiber into its worker's own list */
void sl_send_to(struct sl_worker *w, struct sl_fiber *f);    /* anybody: f is to run on w */
void sl_inject(struct sley_runtime *rt, struct sl_fiber *f); /* anybody: f is to run on any worker of rt */
bool sl_send_elsewhere(struct sl_worker *w, struct sl_fiber *f); /* the chaos switch: not to its last worker; false: there is no other */
void sl_spawn_ready(struct sl_fiber *f);                     /* a fiber just created: the next slot, or inject */

/* begin.c: first runs and ends */
bool sl_fiber_begin(struct sl_worker *w, struct sl_fiber *f); /* give f a stack; false: the cache is empty. Takes no lock */

/* loop.c: the idle context */
void sl_worker_loop(struct sl_worker *w);

/* help.c */
bool sl_help(struct sl_worker *w, struct sl_worker *stalled); /* true: found fibers to run */
void sl_look_at_neighbour(struct sl_worker *w);
bool sl_next_look(struct sl_worker *w, struct sl_worker *victim);

/* timeout.c */
void sl_timers_expire(struct sl_worker *w, struct sl_timer_heap *h, int64_t now); /* the fibers go to w */
void sl_timer_forget(struct sl_fiber *f); /* the fiber ends: out of its heap */
/* A scope's, under its lock: in w's heap, or in none. *ring: after the unlock w must be woken for it. 0; -ENOMEM. */
int sl_timer_move(struct sl_worker *w, struct sl_timer *t, sley_time when, bool *ring);

/* op.c */
bool sl_reap(struct sl_worker *w, struct sl_worker *of);     /* reap the ring of `of`, unless somebody else does; true: something came */
bool sl_reap_locked(struct sl_worker *w, struct sl_worker *of); /* the same; of's cq_lock is held, and released */
void sl_submit(struct sl_worker *w);                         /* owner: enter the kernel for what is queued, without waiting */
void sl_doorbell_arm(struct sl_worker *w);                   /* owner */
void sl_doorbell_ring(struct sl_worker *w);                  /* anybody */
void sl_ring_cancel(struct sl_worker *of, uint64_t user_data); /* anybody, no lock held */

/* runtime.c */
void sl_drain_check(struct sley_runtime *rt); /* tell who waits for it if no fiber is left */
void sl_runtime_news(struct sley_runtime *rt); /* who waits for the end of rt shall look again */
/* The hooks. Called without any lock: they may call the library. */
void sl_log(const struct sley_runtime *rt, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sl_report_error(const struct sley_runtime *rt, uint64_t fiber, const char *name, int error); /* fiber 0: it could not be started */

/* go.c */
int sl_go(struct sl_scope *scope, sley_fn *fn, void *arg);
int sl_go_copy(struct sl_scope *scope, sley_fn *fn, const void *arg, size_t bytes);
int sl_go_here(sley_fn *fn, void *arg); /* in the current scope, which is not told if it fails */
/* Start fn(arg) as a fiber of the library's own, pinned to `where`; NULL: anywhere. */
int sl_errand(struct sley_runtime *rt, struct sl_worker *where, sley_fn *fn, void *arg);

/* user_data: fiber index or descriptor 32, sequence or tag 24, kind 8. */
enum sl_completion_kind {
    SL_KIND_OP = 1,
    SL_KIND_POLL,
    SL_KIND_DOORBELL,
    SL_KIND_CANCEL,      /* of the operation of that name: its answer is looked at */
    SL_KIND_CANCEL_QUIET /* its answer is not */
};

static inline uint64_t sl_user_data(uint32_t who, uint32_t tag, enum sl_completion_kind kind)
{
    return (uint64_t)who << 32 | (uint64_t)(tag & 0xffffff) << 8 | kind;
}

static inline uint64_t sl_op_user_data(const struct sl_fiber *f, uint64_t word)
{
    return sl_user_data(f->index, (uint32_t)(word >> 16), SL_KIND_OP);
}

static inline struct sl_worker *sl_worker_here(void) /* NULL: a plain thread; on its idle context too */
{
    struct sl_thread *t = sl_self_or_null();

    return t != NULL ? t->worker : NULL;
}

/* Count n channel messages; on a plain thread uncounted unless it is attached. */
static inline void sl_count_chan_messages(uint64_t n)
{
    struct sl_worker *w = sl_worker_here();

    if (w != NULL)
        sl_owner_add(&w->counters.chan_messages, n);
}

static inline uint64_t sl_random(struct sl_worker *w) /* xorshift64* */
{
    w->random ^= w->random >> 12;
    w->random ^= w->random << 25;
    w->random ^= w->random >> 27;
    return w->random * UINT64_C(2685821657736338717);
}

#endif
