/* blocking.c - calls that block a thread (sley/blocking.h): a bounded pool of plain threads, and the fibers that wait for them.
 *
 *   B1  A job is in the queue only while no thread is idle: who goes idle looks at the queue, who queues looks for the idle, both under
 *       the lock.
 *   B2  A job has begun once a thread has it: handed over on the spot to an idle or a new one, or taken from the queue, which takes a
 *       claim of its fiber's wait. From there on deadline and cancel find nothing to end: the fiber waits for the job's end under a shield.
 *   B3  The claim decides between a thread that takes a queued job, the deadline and a canceller. If it fails the job is not run; its
 *       fiber is on its way to say so.
 *   B4  A job lies in its fiber's frame. The thread's last access to it is under the lock, when it says that the job is done.
 *   B5  `threads` counts a thread from before it is made until it is taken out of the idle list to leave, in the same hold of the lock: so
 *       while it is more than 0 somebody will look at the queue.
 *   B6  A thread waits, idle, on its own word. Whoever takes it out of the idle list, and nobody else, sets that word; the thread itself
 *       takes itself out when its time is over, and then nobody sets it.
 *   B8  A call that may be interrupted waits for its end without a shield, and is claimed from there like any wait. It then signals its
 *       thread, under the lock and while the job is not done, so the thread is at the job; and again every INTERRUPT_NS, because a
 *       signal that comes before the system call begins is lost on it.
 *   B7  Each thread that leaves joins the one that left before it, so there is at most one to be joined, and none that nobody joins.
 *
 * Rejected: queueing every job and waking a thread for it. A call that finds a thread free would still be one that "has not begun" while
 * that thread wakes up, and SLEY_NOW could never succeed. And running a queued job while its fiber stays claimed, which saves the fiber
 * one round: its timer would find a claimed fiber, and come back every millisecond for as long as the job runs.
 *
 * The fiber: lock; a thread for it: hand over, unlock, wake the thread; else (sequence, ARMING); lock; look again; link; park. Begun:
 * shield; (sequence, ARMING); lock; done? else park. The thread: run the job; lock; done, claim the fiber if it waits; claim the next of
 * the queue, or go idle; unlock; make ready.
 * order [blocking.1]: what is written for an idle thread, its job, is released by the store of its word. */
#include "sched/blocking.h"

#include "base/assert.h"
#include "plat/cpu.h"
#include "plat/futex.h"
#include "sched/worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <sley/blocking.h>

#define INTERRUPT_SIGNAL SIGURG /* ignored by default, and of no use to programs but those with urgent data */
#define INTERRUPT_NS     (INT64_C(1) * 1000 * 1000)

enum job_state { JOB_UNDONE, JOB_DONE, JOB_REFUSED };

struct job { /* all but fn and arg under the lock */
    struct sl_wait_node node;   /* of the fiber's wait: for its turn, in the queue; then for the end, in no list */
    sley_fn            *fn;
    void               *arg;
    int                 result;
    uint8_t             state;  /* enum job_state */
    bool                waited; /* for the end */
    bool                interruptible; /* constant */
    bool                begun;         /* may be interrupted from now on */
    pthread_t           thread;        /* that does it, once it has begun */
};

struct sl_pool_thread {
    struct sl_blocking    *pool;
    struct job            *job;  /* the first one; while idle, what it is woken for: NULL: to leave */
    struct sl_pool_thread *newer, *older; /* in the idle list */
    bool                   is_idle;       /* in it */
    struct sl_pool_thread *left_before;   /* B7 */
    _Atomic(uint32_t)      woken;         /* futex; B6 */
    uint32_t               number;
    pthread_t              pthread;       /* its own to write */
};

static void on_interrupt(int signo)
{
    (void)signo;
}

/* The handler is there so that system calls return -EINTR. One of the program's own does as well, unless it has them restarted. */
static void install_handler(void)
{
    struct sigaction now;

    if (sigaction(INTERRUPT_SIGNAL, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
        (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN)) {
        struct sigaction ours = { .sa_handler = on_interrupt };

        sigaction(INTERRUPT_SIGNAL, &ours, NULL);
    }
}

void sl_blocking_init(struct sl_blocking *p, uint32_t threads_max, const char *name)
{
    p->threads_max = threads_max;
    p->idle_ns = SL_BLOCKING_IDLE_NS;
    p->name = name;
    install_handler();
}


/* ---- the idle list, under the lock ---- */

static void idle_push(struct sl_blocking *p, struct sl_pool_thread *t)
{
    t->newer = NULL;
    t->older = p->idle;
    if (t->older != NULL)
        t->older->newer = t;
    p->idle = t;
    t->is_idle = true;
}

static void idle_remove(struct sl_blocking *p, struct sl_pool_thread *t)
{
    if (t->newer != NULL)
        t->newer->older = t->older;
    else
        p->idle = t->older;
    if (t->older != NULL)
        t->older->newer = t->newer;
    t->is_idle = false;
}

/* Take a thread out of the idle list and give it a job, or NULL to leave. NULL: nobody is idle. */
static struct sl_pool_thread *idle_take(struct sl_blocking *p, struct job *job)
{
    struct sl_pool_thread *t = p->idle;

    if (t != NULL) {
        idle_remove(p, t);
        t->job = job;
    }
    return t;
}

/* t, just taken out of the list, is to leave. */
static void retire(struct sl_blocking *p, struct sl_pool_thread *t)
{
    t->left_before = p->ended;
    p->ended = t;
    sl_store_relaxed(&p->threads, sl_load_relaxed(&p->threads) - 1); /* under the lock */
}

/* No lock held. Once the word is set t may leave at any time: only its address is used after that. */
static void wake(struct sl_pool_thread *t)
{
    sl_store_release(&t->woken, 1); /* [blocking.1] */
    sl_futex_wake(&t->woken, 1);
}

/* ---- jobs, under the lock ---- */

static struct job *job_of(struct sl_wait_node *n)
{
    return (struct job *)(void *)((char *)n - offsetof(struct job, node));
}

/* The oldest of the queue that can still be had, claimed and out of it. NULL: none. */
static struct job *take_queued(struct sl_blocking *p, struct sl_woken *woken)
{
    struct sl_wait_node *n;

    while ((n = p->queue.head) != NULL) {
        bool won = sl_claim(n, SL_ARM_EVENT, woken);

        sl_wait_list_remove(&p->queue, n);
        if (won)
            return job_of(n);
    }
    return NULL;
}

static void finish(struct job *job, int result, struct sl_woken *woken)
{
    job->result = result;
    job->state = JOB_DONE;
    if (job->waited) {
        job->waited = false;
        sl_claim(&job->node, SL_ARM_EVENT, woken); /* B2: fails only if it may be interrupted, and is claimed for that */
    }
}

/* ---- a thread ---- */

/* For t, which has nothing to do and is in the idle list: its next job; NULL: leave. */
static struct job *wait_idle(struct sl_blocking *p, struct sl_pool_thread *t)
{
    int64_t until = sl_clock_ns() + p->idle_ns;

    while (!sl_load_acquire(&t->woken)) { /* [blocking.1] */
        if (until != SLEY_FOREVER && sl_clock_ns() >= until) {
            bool left;

            sl_lock_acquire(&p->lock);
            left = t->is_idle;
            if (left) {
                idle_remove(p, t);
                retire(p, t);
            }
            sl_lock_release(&p->lock);
            if (left)
                return NULL;
            until = SLEY_FOREVER; /* B6: the word will be set */
        }
        sl_futex_wait(&t->woken, 0, until);
    }
    sl_store_relaxed(&t->woken, 0); /* its own until it is idle again */
    return t->job;
}

/* t has done its job: the next one; NULL: leave. */
static struct job *next_job(struct sl_blocking *p, struct sl_pool_thread *t, struct job *job, int result)
{
    struct sl_woken woken = { NULL, NULL };

    sl_lock_acquire(&p->lock);
    finish(job, result, &woken);
    job = take_queued(p, &woken);
    if (job == NULL)
        idle_push(p, t);
    sl_lock_release(&p->lock); /* B4 */
    sl_woken_ready(&woken);
    return job != NULL ? job : wait_idle(p, t);
}

static void join(struct sl_pool_thread *t)
{
    if (t != NULL) {
        pthread_join(t->pthread, NULL);
        free(t);
    }
}

static void mask(int how)
{
    sigset_t interrupt;

    sigemptyset(&interrupt);
    sigaddset(&interrupt, INTERRUPT_SIGNAL);
    pthread_sigmask(how, &interrupt, NULL);
}

/* B8: a signal sent under the lock while the job is not done has come before the thread can take the lock to say that it is. */
static int do_job(struct sl_blocking *p, struct job *job)
{
    int result;

    if (!job->interruptible)
        return job->fn(job->arg);
    mask(SIG_UNBLOCK);
    sl_lock_acquire(&p->lock);
    job->thread = pthread_self();
    job->begun = true;
    sl_lock_release(&p->lock);
    result = job->fn(job->arg);
    sl_lock_acquire(&p->lock);
    job->begun = false;
    sl_lock_release(&p->lock);
    mask(SIG_BLOCK);
    return result;
}

static void *thread_main(void *arg)
{
    struct sl_pool_thread *t = arg;
    struct sl_blocking *p = t->pool;
    char name[24];

    t->pthread = pthread_self();
    snprintf(name, sizeof name, "%.9s/b%u", p->name, t->number);
    name[15] = '\0'; /* the kernel keeps 15 characters */
    pthread_setname_np(t->pthread, name);
    for (struct job *job = t->job; job != NULL;) {
        sl_add_relaxed(&p->calls, 1); /* counter */
        job = next_job(p, t, job, do_job(p, job));
    }
    join(t->left_before);
    return NULL;
}

/* A thread for this job, which counts already. It inherits the worker's signal mask: asynchronous signals are blocked. 0; -EAGAIN. */
static int make_thread(struct sl_blocking *p, struct job *job, uint32_t number)
{
    struct sl_pool_thread *t = calloc(1, sizeof *t);
    pthread_t ignored; /* it may have left before pthread_create writes this */

    if (t == NULL)
        return -EAGAIN;
    t->pool = p;
    t->job = job;
    t->number = number;
    if (pthread_create(&ignored, NULL, thread_main, t) == 0)
        return 0;
    free(t);
    return -EAGAIN;
}

/* A thread that was counted could not be made. Those who counted on it, if there is no other, are refused. false: there is no other. */
static bool uncount_thread(struct sl_blocking *p)
{
    struct sl_woken woken = { NULL, NULL };
    struct job *job;
    bool others;

    sl_lock_acquire(&p->lock);
    sl_store_relaxed(&p->threads, sl_load_relaxed(&p->threads) - 1); /* under the lock */
    others = sl_load_relaxed(&p->threads) > 0;
    while (!others && (job = take_queued(p, &woken)) != NULL)
        job->state = JOB_REFUSED;
    sl_lock_release(&p->lock);
    sl_woken_ready(&woken);
    return others;
}

void sl_blocking_stop(struct sl_blocking *p)
{
    struct sl_pool_thread *t, *ended;

    do {
        sl_lock_acquire(&p->lock);
        t = idle_take(p, NULL);
        if (t != NULL)
            retire(p, t);
        ended = p->ended;
        sl_lock_release(&p->lock);
        if (t != NULL)
            wake(t);
    } while (t != NULL);
    sl_assert(sl_load_relaxed(&p->threads) == 0); /* a thread is idle before the fiber of its last job goes on */
    join(ended);
}

/* ---- the call ---- */

/* Hand the job to a thread that is idle, or to a new one. 1: it has begun; 0: there is none; -EAGAIN: nor will be. */
static int hand_over(struct sl_blocking *p, struct job *job, bool *may_make)
{
    struct sl_pool_thread *t;
    uint32_t number = 0;
    bool make;

    sl_lock_acquire(&p->lock);
    t = idle_take(p, job);
    make = t == NULL && *may_make && sl_load_relaxed(&p->threads) < p->threads_max;
    if (make) {
        sl_store_relaxed(&p->threads, sl_load_relaxed(&p->threads) + 1); /* under the lock */
        number = p->made++;
    }
    sl_lock_release(&p->lock);
    if (t != NULL) {
        wake(t);
        return 1;
    }
    if (!make)
        return 0;
    if (make_thread(p, job, number) == 0)
        return 1;
    *may_make = false;
    return uncount_thread(p) ? 0 : -EAGAIN;
}

/* Under the lock: whether a job put into the queue would be taken. */
static bool may_queue(const struct sl_blocking *p, bool may_make)
{
    uint32_t threads = sl_load_relaxed(&p->threads); /* under the lock */

    return p->idle == NULL && threads > 0 && (!may_make || threads >= p->threads_max);
}

/* Wait until the job is done, at most until `deadline`. SL_ARM_EVENT: it is; else what ended the wait. */
static unsigned wait_for_end(struct sl_blocking *p, struct job *job, struct sl_fiber *f)
{
    sl_lock_acquire(&p->lock);
    if (job->state != JOB_UNDONE) {
        sl_wait_end(f);
        sl_lock_release(&p->lock);
        return SL_ARM_EVENT;
    }
    sl_node_init(&job->node, f);
    job->waited = true;
    return sl_park(&p->lock);
}

static bool is_done(struct sl_blocking *p, struct job *job)
{
    bool done;

    sl_lock_acquire(&p->lock);
    job->waited = false;
    done = job->state != JOB_UNDONE;
    sl_lock_release(&p->lock);
    return done;
}

/* B8: until it is done, under a shield. */
static void interrupt_until_done(struct sl_blocking *p, struct job *job, struct sl_fiber *f, _Atomic(uint8_t) *interrupted)
{
    sl_store_relaxed(interrupted, 1); /* seen by the thread at the latest behind the lock below, after its system call */
    while (!is_done(p, job)) {
        sl_lock_acquire(&p->lock);
        if (job->begun)
            pthread_kill(job->thread, INTERRUPT_SIGNAL);
        sl_lock_release(&p->lock);
        if (sl_wait_begin(f, sl_clock_ns() + INTERRUPT_NS, SL_WAIT_BLOCKING, p) == 0)
            wait_for_end(p, job, f);
        else
            sl_thread_yield(); /* no memory for a timer */
    }
}

/* The job has begun: wait for its end, which comes by itself, or because the wait is ended. */
static int finish_interruptible(struct sl_blocking *p, struct job *job, struct sl_fiber *f, sley_time deadline, int (*arm)(void *ctx),
                                void *ctx, _Atomic(uint8_t) *interrupted)
{
    unsigned why = SL_ARM_EVENT;
    int rc = sl_wait_begin(f, deadline, SL_WAIT_BLOCKING, p);

    if (rc == 0) {
        rc = arm(ctx); /* which looks for a cancel too */
        if (rc < 0)
            sl_wait_end(f);
        else
            why = wait_for_end(p, job, f);
    }
    if (rc < 0 || why != SL_ARM_EVENT) {
        sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) + 1); /* own */
        interrupt_until_done(p, job, f, interrupted);
        sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) - 1); /* own */
        if (rc == 0)
            rc = why == SL_ARM_TIMEOUT ? -ETIMEDOUT : why == SL_ARM_CLOSE ? -EBADF : -ECANCELED;
    }
    if (job->state == JOB_REFUSED)
        return -EAGAIN;
    return rc < 0 && job->result == -EINTR ? rc : job->result;
}

/* arm and interrupted NULL: as sley_blocking. */
int sl_blocking_call(sley_fn *fn, void *arg, sley_time deadline, int (*arm)(void *ctx), void *ctx, _Atomic(uint8_t) *interrupted)
{
    struct job job = { .fn = fn, .arg = arg, .interruptible = interrupted != NULL };
    struct sl_blocking *p = &sl_worker_here()->rt->blocking;
    struct sl_fiber *f = sl_current();
    bool may_make = true;
    int rc;

    if (sl_cancelled(f))
        return -ECANCELED;
    while ((rc = hand_over(p, &job, &may_make)) == 0) {
        unsigned why;

        rc = sl_wait_begin(f, deadline, SL_WAIT_BLOCKING, p);
        if (rc < 0)
            return rc;
        if (arm != NULL && (rc = arm(ctx)) < 0) {
            sl_wait_end(f);
            return rc;
        }
        sl_lock_acquire(&p->lock);
        if (!may_queue(p, may_make) || sl_cancelled(f)) {
            rc = may_queue(p, may_make) ? -ECANCELED : 0;
            sl_wait_end(f);
            sl_lock_release(&p->lock);
            if (rc < 0)
                return rc;
            continue; /* a thread has become idle, or the last one has left */
        }
        sl_node_init(&job.node, f);
        sl_wait_list_push(&p->queue, &job.node);
        why = sl_park(&p->lock);
        if (why == SL_ARM_EVENT)
            break;
        sl_lock_acquire(&p->lock);
        if (sl_node_linked(&job.node))
            sl_wait_list_remove(&p->queue, &job.node);
        sl_lock_release(&p->lock);
        return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : why == SL_ARM_CLOSE ? -EBADF : -ECANCELED;
    }
    if (rc < 0)
        return rc;

    if (interrupted != NULL)
        return finish_interruptible(p, &job, f, deadline, arm, ctx, interrupted);
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) + 1); /* own: B2 */
    rc = sl_wait_begin(f, SLEY_FOREVER, SL_WAIT_BLOCKING, p);
    sl_assert(rc == 0);
    wait_for_end(p, &job, f);
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) - 1); /* own */
    return job.state == JOB_REFUSED ? -EAGAIN : job.result;
}

bool sl_blocking_share_begin(void)
{
    struct sl_blocking *p = &sl_worker_here()->rt->blocking;
    bool begun;

    sl_lock_acquire(&p->lock);
    begun = p->shared < p->threads_max / 2;
    if (begun)
        p->shared++;
    sl_lock_release(&p->lock);
    return begun;
}

void sl_blocking_share_end(void)
{
    struct sl_blocking *p = &sl_worker_here()->rt->blocking;

    sl_lock_acquire(&p->lock);
    p->shared--;
    sl_lock_release(&p->lock);
}

int sley_blocking(sley_fn *fn, void *arg, sley_time deadline)
{
    if (fn == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    return sl_worker_here() != NULL ? sl_blocking_call(fn, arg, deadline, NULL, NULL, NULL) : fn(arg);
}
