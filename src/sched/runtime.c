/* runtime.c - creating, starting, stopping and destroying a runtime, and sley_run on top of it (sley/runtime.h).
 *
 * Stopping, step by step:
 *   1  `draining` is set, a membarrier made, every worker's doorbell rung. A worker about to sleep adds up what was started and what has
 *      ended (sl_drain_check); the one that finds them equal wakes who waits.
 *   2  at the deadline the root scope is cancelled, on a worker; after drain_ns the fibers still there are listed: -EBUSY.
 *   3  no fiber is left: `stopping` is set, doorbells rung; workers leave their loops, give caches back, end; they are joined, and then the
 *      threads of the blocking pool, which may still be making ready what has ended since.
 *   4  the rings' polls of descriptor records are forgotten, rings and stacks go.
 * order [drain.1]: a worker counts `started` before the fiber can run, and `ended` (release) after it ran; the sum reads every `ended`
 * (acquire) first and every `started` after. Since a fiber is started before it ends, equal sums mean that between the two readings there
 * was none. The setter of `draining` makes a membarrier (or both sides fence), so a worker that goes to sleep later sees it. */
#include "sched/worker.h"

#include "plat/cpu.h"
#include "plat/feature.h"
#include "plat/futex.h"
#include "sched/op.h"
#include "sched/options.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <sley/obs.h>
#include <sley/scope.h>
#include <sley/time.h>

#if defined(SL_ASAN) || defined(SL_TSAN)
#define WORKER_THREAD_STACK ((size_t)8 << 20) /* sanitizers need more of it */
#else
#define WORKER_THREAD_STACK ((size_t)64 << 10) /* glibc's alloca limit follows it: 17 KB instead of 64 on fibers' stacks */
#endif
#define WORKER_THREAD_STACK_MAX ((size_t)64 << 20)

/* ---- hooks ---- */

void sl_log(const sley_runtime *rt, const char *format, ...)
{
    char line[320];
    va_list args;
    int n;

    if (rt->options.on_log == NULL && !rt->log_stderr)
        return;
    n = snprintf(line, sizeof line, "%.64s: ", rt->options.name);
    va_start(args, format);
    vsnprintf(line + n, sizeof line - (size_t)n, format, args);
    va_end(args);
    if (rt->options.on_log != NULL)
        rt->options.on_log(rt->options.ctx, line);
    else
        fprintf(stderr, "%s\n", line);
}

void sl_report_error(const sley_runtime *rt, uint64_t fiber, const char *name, int error)
{
    if (rt->options.on_error != NULL)
        rt->options.on_error(rt->options.ctx, fiber, name, error);
    else if (fiber != 0)
        sl_log(rt, "fiber %llu \"%s\" has ended with error %d, and nobody waits for it", (unsigned long long)fiber, name, -error);
    else
        sl_log(rt, "a fiber that nobody waits for could not be started: error %d", -error);
}

/* ---- a worker ---- */

static void block_asynchronous_signals(sigset_t *old)
{
    static const int synchronous[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };
    sigset_t block;

    sigfillset(&block);
    for (size_t i = 0; i < sizeof synchronous / sizeof *synchronous; i++)
        sigdelset(&block, synchronous[i]);
    pthread_sigmask(SIG_BLOCK, &block, old);
}

static void pin_to_cpu(unsigned number)
{
    cpu_set_t mask, one;

    if (sched_getaffinity(0, sizeof mask, &mask) != 0 || CPU_COUNT(&mask) == 0)
        return;
    number %= (unsigned)CPU_COUNT(&mask);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mask) && number-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
            return;
        }
}

/* A helper may be looking at this worker, and at the thread's own rseq area: so no thread ends before all have left their loops. */
static void wait_for_the_others(sley_runtime *rt)
{
    uint32_t left = sl_add_seq_cst(&rt->left, 1) + 1;

    if (left == sl_load_relaxed(&rt->threads)) /* stopping: nobody starts more */
        sl_futex_wake(&rt->left, INT_MAX);
    for (; left < sl_load_relaxed(&rt->threads); left = sl_load_seq_cst(&rt->left))
        sl_futex_wait(&rt->left, left, SLEY_FOREVER);
}

static void *worker_main(void *arg)
{
    struct sl_worker *w = arg;
    char name[24];

    w->thread.errno_slot = &errno;
    sley_thread_here = &w->thread;
    sl_store_relaxed(&w->cpu_slot, sl_rseq_cpu_slot());
    snprintf(name, sizeof name, "%.10s/%u", w->rt->options.name, w->number);
    name[15] = '\0'; /* the kernel keeps 15 characters */
    pthread_setname_np(pthread_self(), name);
    if (w->rt->options.pinning == SLEY_PINNING_CPU)
        pin_to_cpu(w->number);
    if (sl_overflow_stack_init(&w->altstack) < 0)
        w->altstack = NULL; /* an overflow is then a plain SIGSEGV */
    sl_context_of_thread(&w->idle);
    sl_worker_loop(w);
    sl_tsan_acquire(w); /* what its fibers did */
    wait_for_the_others(w->rt);
    sl_context_fini(&w->idle);
    if (w->altstack != NULL)
        sl_overflow_stack_fini(w->altstack);
    sley_thread_here = NULL;
    return NULL;
}

static void worker_destroy(struct sl_worker *w)
{
    if (w == NULL)
        return;
    sl_stack_cache_drain(w->rt->stacks, &w->stacks);
    sl_stack_cache_drain(w->rt->gen_stacks, &w->gen_stacks);
    sl_fiber_cache_drain(&w->fibers);
    sl_timer_heap_fini(&w->timers);
    if (w->doorbell_fd >= 0)
        close(w->doorbell_fd);
    if (w->ring.fd >= 0 || w->ring.epoll_fd >= 0)
        sl_ring_fini(&w->ring);
    free(w->seen_ticks);
    free(w);
}

static int worker_create(sley_runtime *rt, unsigned number)
{
    size_t bytes = (sizeof(struct sl_worker) + 63) & ~(size_t)63;
    struct sl_worker *w = aligned_alloc(64, bytes);
    int rc;

    if (w == NULL)
        return -ENOMEM;
    memset(w, 0, bytes);
    rt->workers[number] = w;
    w->thread.worker = w;
    w->thread.rt = rt;
    w->rt = rt;
    w->number = (uint16_t)number;
    w->random = UINT64_C(0x9e3779b97f4a7c15) * (number + 1);
    w->ring.fd = w->ring.epoll_fd = -1;
    sl_timer_heap_init(&w->timers, (uint16_t)number);
    w->doorbell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->doorbell_fd < 0)
        return -errno;
    w->seen_ticks = calloc(rt->worker_count, sizeof *w->seen_ticks);
    if (w->seen_ticks == NULL)
        return -ENOMEM;
    rc = rt->has_rings ? sl_ring_init(&w->ring, rt->options.ring_entries) : sl_ring_init_epoll(&w->ring);
    if (rc < 0)
        w->ring.fd = w->ring.epoll_fd = -1;
    return rc;
}

static void workers_destroy(sley_runtime *rt)
{
    for (unsigned i = 0; i < rt->worker_count; i++) {
        worker_destroy(rt->workers[i]);
        rt->workers[i] = NULL;
    }
}

/* ---- create, start ---- */

static void free_runtime(sley_runtime *rt)
{
    if (rt->workers != NULL)
        workers_destroy(rt);
    free(rt->workers);
    if (rt->gen_stacks != rt->stacks)
        sl_stack_pool_destroy(rt->gen_stacks);
    sl_stack_pool_destroy(rt->stacks);
    pthread_mutex_destroy(&rt->control);
    free(rt);
}

static const char *ring_error(int rc)
{
    if (!sl_feature_allowed(SL_FEATURE_IO_URING))
        return "switched off (SLEY_DISABLE)";
    switch (rc) {
    case -EPERM:
        return "refused (EPERM): a container's seccomp profile or kernel.io_uring_disabled forbids it";
    case -ENOSYS:
        return "not in this kernel (ENOSYS)";
    case -EOPNOTSUPP:
        return sl_feature_allowed(SL_FEATURE_EXT_ARG) ? "too old in this kernel (EOPNOTSUPP): Linux 5.11 has what is needed"
                                                      : "without ext_arg (SLEY_DISABLE)";
    case -ENOMEM:
        return "out of memory (ENOMEM): raise RLIMIT_MEMLOCK (ulimit -l) or set SLEY_WORKERS or SLEY_RING_ENTRIES lower";
    case -EMFILE:
    case -ENFILE:
        return "out of descriptors (EMFILE): raise RLIMIT_NOFILE (ulimit -n) or set SLEY_WORKERS lower";
    default:
        return "not usable";
    }
}

/* All workers with io_uring, or all without. *which: the one that failed. */
static int workers_create(sley_runtime *rt, bool has_rings, unsigned *which)
{
    int rc = 0;

    rt->has_rings = has_rings;
    for (*which = 0; *which < rt->worker_count; ++*which)
        if ((rc = worker_create(rt, *which)) < 0)
            break;
    return rc;
}

/* What descriptors and memory an epoll needs as well is no reason to try it. */
static bool is_refusal(int rc)
{
    return rc != -EMFILE && rc != -ENFILE;
}

static int choose_backend(sley_runtime *rt)
{
    unsigned which = 0;
    int rc, refused = 0;

    if (rt->options.backend != SLEY_BACKEND_EPOLL) {
        refused = rc = sl_feature_allowed(SL_FEATURE_IO_URING) ? workers_create(rt, true, &which) : -ENOSYS;
        sl_feature_note(SL_FEATURE_IO_URING, rc);
        if (rc == 0) {
            rt->sync_cancel = sl_ring_has_sync_cancel(&rt->workers[0]->ring);
            sl_ring_describe(&rt->workers[0]->ring, rt->backend, sizeof rt->backend);
            return 0;
        }
        if (rt->options.backend == SLEY_BACKEND_URING || !is_refusal(rc)) {
            fprintf(stderr, "sley: worker %u of %u: io_uring is %s: %s\n", which + 1, rt->worker_count, ring_error(rc), strerror(-rc));
            return rc;
        }
        workers_destroy(rt);
    }
    rc = workers_create(rt, false, &which);
    if (rc < 0)
        fprintf(stderr, "sley: worker %u of %u: epoll: %s\n", which + 1, rt->worker_count, strerror(-rc));
    else if (refused < 0)
        snprintf(rt->backend, sizeof rt->backend, "epoll: io_uring %s", ring_error(refused));
    else
        snprintf(rt->backend, sizeof rt->backend, "epoll: as SLEY_BACKEND or options.backend says");
    return rc;
}

int sley_runtime_create(sley_runtime **out, const sley_options *options)
{
    sley_options resolved;
    sley_runtime *rt;
    bool chaos, log_stderr;
    int rc;

    if (out == NULL)
        return -EINVAL;
    rc = sl_options_resolve(&resolved, options, &chaos, &log_stderr);
    if (rc < 0)
        return rc;
    sl_fork_watch();
    rc = sl_stack_guard_wanted(); /* SLEY_GUARD */
    if (rc < 0)
        return rc;
    rt = aligned_alloc(64, (sizeof *rt + 63) & ~(size_t)63);
    if (rt == NULL)
        return -ENOMEM;
    memset(rt, 0, sizeof *rt);
    pthread_mutex_init(&rt->control, NULL);
    rt->options = resolved;
    rt->chaos = chaos;
    rt->log_stderr = log_stderr;
    sl_scope_init_root(&rt->root, rt);
    sl_scope_init_root(&rt->errands, rt);
    rt->worker_count = resolved.workers;
    sl_idle_init(&rt->idle, rt->worker_count);
    sl_blocking_init(&rt->blocking, resolved.blocking_threads_max, resolved.name);
    rt->stacks = sl_stack_pool_create(resolved.stack_bytes);
    rt->gen_stacks = resolved.gen_stack_bytes == resolved.stack_bytes ? rt->stacks : sl_stack_pool_create(resolved.gen_stack_bytes);
    rt->workers = calloc(rt->worker_count, sizeof(struct sl_worker *));
    rc = rt->stacks == NULL || rt->gen_stacks == NULL || rt->workers == NULL ? -ENOMEM : 0;
    if (rc == 0)
        rc = choose_backend(rt);
    if (rc < 0) {
        free_runtime(rt);
        return rc;
    }
    sl_overflow_report_install();
    *out = rt;
    return 0;
}

static void ring_all(sley_runtime *rt)
{
    for (unsigned i = 0; i < rt->worker_count; i++)
        sl_doorbell_ring(rt->workers[i]);
}

static int stop_running(sley_runtime *rt, sley_time deadline);

static void join_workers(sley_runtime *rt)
{
    sl_store_release(&rt->stopping, 1);
    sl_fence_seq_cst(); /* [idle.1] stopping is one of the things a sleeper looks for */
    ring_all(rt);
    for (unsigned i = 0; i < sl_load_relaxed(&rt->threads); i++)
        pthread_join(rt->workers[i]->pthread, NULL);
    sl_blocking_stop(&rt->blocking);
    sl_fd_runtime_gone(rt);
    rt->state = SL_RT_STOPPED;
}

static int start_locked(sley_runtime *rt)
{
    pthread_attr_t attr;
    sigset_t old;
    size_t stack_bytes = WORKER_THREAD_STACK;
    int rc = 0;

    if (rt->state != SL_RT_CREATED)
        return -EALREADY;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, stack_bytes);
    block_asynchronous_signals(&old);
    while (sl_load_relaxed(&rt->threads) < rt->worker_count && rc == 0) { /* written here only */
        struct sl_worker *w = rt->workers[sl_load_relaxed(&rt->threads)];

        while ((rc = -pthread_create(&w->pthread, &attr, worker_main, w)) == -EINVAL && stack_bytes < WORKER_THREAD_STACK_MAX) {
            stack_bytes *= 2; /* the program's thread-local variables lie there too */
            pthread_attr_setstacksize(&attr, stack_bytes);
        }
        if (rc == 0)
            sl_add_relaxed(&rt->threads, 1);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (sl_load_relaxed(&rt->threads) == 0)
        return rc;
    rt->state = SL_RT_RUNNING;
    if (rc < 0) {
        stop_running(rt, SLEY_NOW); /* what was submitted has perhaps begun */
        return rc;
    }
    return 0;
}

int sley_runtime_start(sley_runtime *rt)
{
    int rc;

    if (rt == NULL)
        return -EINVAL;
    pthread_mutex_lock(&rt->control);
    rc = start_locked(rt);
    pthread_mutex_unlock(&rt->control);
    if (rc == 0)
        sl_log(rt, "%u workers, %s", rt->worker_count, rt->backend);
    return rc;
}

int sley_runtime_submit(sley_runtime *rt, sley_fn *fn, void *arg)
{
    if (rt == NULL || fn == NULL)
        return -EINVAL;
    if (sl_load_relaxed(&sl_forked))
        return -ECHILD;
    return sl_go(&rt->root, fn, arg);
}

const char *sley_runtime_backend(const sley_runtime *rt)
{
    return rt != NULL ? rt->backend : "";
}

/* ---- stop ---- */

static uint64_t sum_ended(const sley_runtime *rt)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < rt->worker_count; i++)
        n += sl_load_acquire(&rt->workers[i]->counters.ended); /* [drain.1] */
    return n;
}

static uint64_t sum_started(const sley_runtime *rt)
{
    uint64_t n = (sl_load_acquire(&rt->outside) & ~SL_OUTSIDE_CLOSED);

    for (unsigned i = 0; i < rt->worker_count; i++)
        n += sl_load_acquire(&rt->workers[i]->counters.started); /* [drain.1] */
    return n;
}

static bool nobody_left(const sley_runtime *rt)
{
    uint64_t ended = sum_ended(rt);

    return ended == sum_started(rt);
}

/* No fiber is left, and from now on none comes: plain threads are refused. false: there is one. */
static bool close_if_empty(sley_runtime *rt)
{
    uint64_t outside = sl_load_acquire(&rt->outside); /* [drain.1] */

    return nobody_left(rt) && sl_cas_seq_cst(&rt->outside, &outside, outside | SL_OUTSIDE_CLOSED);
}

void sl_runtime_news(sley_runtime *rt)
{
    sl_add_seq_cst(&rt->news, 1);
    sl_futex_wake(&rt->news, 1);
}

void sl_drain_check(sley_runtime *rt)
{
    if (nobody_left(rt)) {
        sl_store_release(&rt->drained, 1);
        sl_runtime_news(rt);
    }
}

/* Wait until no fiber is left and none can come, at most until deadline, or until the root scope is cancelled if `until_cancelled`. */
static bool wait_drained(sley_runtime *rt, sley_time deadline, bool until_cancelled)
{
    for (;;) {
        uint32_t news = sl_load_acquire(&rt->news); /* before the conditions: what changes after it changes news too */

        if (sl_load_acquire(&rt->drained)) {
            if (close_if_empty(rt))
                return true;
            sl_store_release(&rt->drained, 0); /* a plain thread has started another */
            ring_all(rt);
        }
        if (deadline != SLEY_FOREVER && sl_clock_ns() >= deadline)
            return false;
        if (until_cancelled && sl_load_acquire(&rt->root.cancelled))
            return false;
        sl_futex_wait(&rt->news, news, deadline);
    }
}

static int cancel_root(void *arg)
{
    sl_scope_cancel(arg, SL_CAUSE_CALL);
    return 0;
}

static void list_who_is_left(const sley_runtime *rt)
{
    fprintf(stderr, "sley: these fibers were told to stop and have not, %lld ms ago:\n", (long long)(rt->options.drain_ns / 1000000));
    sley_dump(rt, STDERR_FILENO);
}

/* Steps 1 to 3 of the top of the file. */
static int stop_running(sley_runtime *rt, sley_time deadline)
{
    sl_store_release(&rt->drained, 0);
    sl_store_release(&rt->draining, 1);
    if (sl_use_membarrier)
        sl_membarrier(); /* [drain.1] */
    sl_fence_seq_cst();
    ring_all(rt);
    if (!wait_drained(rt, deadline, rt->run)) {
        if (sl_errand(rt, NULL, cancel_root, &rt->root) < 0)
            sl_scope_cancel(&rt->root, SL_CAUSE_CALL);
        if (!wait_drained(rt, sley_after(rt->options.drain_ns), false)) {
            list_who_is_left(rt);
            if (!rt->run) {
                sl_store_release(&rt->draining, 0);
                return -EBUSY;
            }
            wait_drained(rt, SLEY_FOREVER, false); /* sley_run's caller owns what the fibers use: it may not return before them */
        }
    }
    sl_scope_cancel(&rt->root, SL_CAUSE_CALL); /* the waits of attached threads end */
    join_workers(rt);
    return 0;
}

/* Fibers submitted to a runtime that never ran: their blocks go back. */
static void drop_injected(sley_runtime *rt)
{
    uint32_t taken;
    struct sl_fiber *f = sl_queue_take(&rt->inject, UINT32_MAX, &taken);

    while (f != NULL) {
        struct sl_fiber *next = sl_load_relaxed(&f->next);

        if (f->flags & SL_FIBER_HEAP)
            free(f->arg);
        sl_stack_credit_give(rt->stacks, NULL);
        sl_fiber_free(NULL, f);
        f = next;
    }
}

static int stop_locked(sley_runtime *rt, sley_time deadline)
{
    int rc = 0;

    if (rt->state == SL_RT_CREATED && !close_if_empty(rt))
        rc = start_locked(rt); /* what was submitted runs */
    if (rc < 0)
        return rc;
    if (rt->state == SL_RT_CREATED) {
        sl_scope_cancel(&rt->root, SL_CAUSE_CALL);
        rt->state = SL_RT_STOPPED;
    }
    return rt->state == SL_RT_STOPPED ? 0 : stop_running(rt, deadline);
}

int sley_runtime_stop(sley_runtime *rt, sley_time deadline)
{
    bool stopped;
    int rc;

    if (rt == NULL)
        return -EINVAL;
    rc = sl_deadline_check(deadline);
    if (rc < 0)
        return rc;
    if (sl_load_relaxed(&sl_forked))
        return -ECHILD;
    if (sl_worker_here() != NULL)
        return -EDEADLK; /* it would block a worker, maybe one of its own */
    pthread_mutex_lock(&rt->control);
    stopped = rt->state == SL_RT_STOPPED;
    rc = stop_locked(rt, deadline);
    stopped = !stopped && rt->state == SL_RT_STOPPED; /* now */
    pthread_mutex_unlock(&rt->control);
    if (rc == -EBUSY)
        sl_log(rt, "not stopped: fibers that were told to stop have not");
    else if (stopped)
        sl_log(rt, "stopped");
    return rc;
}

void sley_runtime_destroy(sley_runtime *rt)
{
    if (rt == NULL)
        return;
    SLEY_ASSERT(sl_worker_here() == NULL, "sley_runtime_destroy", "called on a fiber");
    if (sl_load_relaxed(&sl_forked))
        return; /* the parent's */
    while (sley_runtime_stop(rt, SLEY_NOW) == -EBUSY) /* their stacks cannot be freed under them */
        ;
    drop_injected(rt); /* no thread could be had to run them */
    sl_fd_runtime_gone(rt); /* a thread attached to it may have listened before it ran, or after it had stopped */
    free_runtime(rt);
}

/* ---- run ---- */

struct first {
    sley_fn *fn;
    void    *arg;
    int      result;
};

/* The first fiber: what its function starts lives in a scope of its own, and with that the program has ended; what was put into the root
 * scope is told to stop. */
static int run_first(void *arg)
{
    struct first *f = arg;

    f->result = sley_scope_run(f->fn, f->arg, SLEY_FOREVER);
    sl_scope_cancel(&sley_runtime_current()->root, SL_CAUSE_CALL);
    return 0;
}

int sley_run(const sley_options *options, sley_fn *fn, void *arg)
{
    struct first first = { fn, arg, 0 };
    sley_runtime *rt;
    int rc;

    if (fn == NULL)
        return -EINVAL;
    if (sl_worker_here() != NULL)
        return -EDEADLK;
    rc = sley_runtime_create(&rt, options);
    if (rc < 0)
        return rc;
    rt->run = true;
    rc = sley_runtime_start(rt);
    if (rc == 0) {
        rc = sley_runtime_submit(rt, run_first, &first);
        sley_runtime_stop(rt, SLEY_FOREVER);
        if (rc == 0)
            rc = first.result;
    }
    sley_runtime_destroy(rt);
    return rc;
}
