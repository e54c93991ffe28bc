/* ring.c - setting a ring up with what the kernel offers, entering it, reaping it. */
#include "event/ring.h"
#include "event/uring_abi.h"
#include "plat/cpu.h"
#include "plat/valgrind.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INIT_RETRY_NS (INT64_C(50) * 1000 * 1000) /* the memory of destroyed rings is given back late: ENOMEM passes */

#define VALGRIND_WAIT_NS INT64_C(200000)
#define REFUSED_WAIT_NS INT64_C(1000000) /* the longest sleep with submissions that the kernel did not take */

/* Flag sets from best to plainest; a kernel that does not know one says EINVAL. */
static const unsigned flag_sets[] = {
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, /* 5.19 */
    IORING_SETUP_SUBMIT_ALL,                                                         /* 5.18 */
    0
};

static int enter(int fd, unsigned submit, unsigned min_complete, unsigned flags, void *arg, size_t arg_bytes)
{
    /* syscall(2) stores errno on this thread; it is read before anything can park. */
    long rc = syscall(__NR_io_uring_enter, fd, submit, min_complete, flags, arg, arg_bytes);

    return rc < 0 ? -errno : (int)rc;
}

static int try_setup(struct sl_ring *r, unsigned entries)
{
    int rc = -EINVAL;

    for (size_t i = 0; i < sizeof flag_sets / sizeof *flag_sets && rc == -EINVAL; i++) {
        struct io_uring_params p = { 0 };

        p.flags = flag_sets[i] | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
        p.cq_entries = entries * SL_RING_CQ_PER_SQ;
        rc = io_uring_queue_init_params(entries, &r->uring, &p);
        r->setup_flags = p.flags;
    }
    return rc;
}

/* 0 if the kernel does not say: then only what every kernel has is asked of it. */
static uint64_t probe_ops(struct io_uring *uring)
{
    union { struct io_uring_probe probe; char bytes[sizeof(struct io_uring_probe) + 64 * sizeof(struct io_uring_probe_op)]; } answer;
    uint64_t known = 0;

    memset(&answer, 0, sizeof answer);
    if (io_uring_register_probe(uring, &answer.probe, 64) < 0)
        return 0;
    for (unsigned i = 0; i < answer.probe.ops_len && i < 64; i++)
        if (answer.probe.ops[i].flags & IO_URING_OP_SUPPORTED && answer.probe.ops[i].op < 64)
            known |= UINT64_C(1) << answer.probe.ops[i].op;
    return known;
}

int sl_ring_init(struct sl_ring *r, unsigned entries)
{
    int64_t give_up = sl_clock_ns() + INIT_RETRY_NS;
    int rc;

    memset(r, 0, sizeof *r);
    while ((rc = try_setup(r, entries)) == -ENOMEM) {
        if (sl_clock_ns() < give_up)
            sl_thread_yield();
        else if (entries / 2 >= SL_RING_SQ_MIN)
            entries /= 2;
        else
            break;
    }
    if (rc < 0)
        return rc;
    r->fd = r->uring.ring_fd;
    r->sq_entries = r->uring.sq.ring_entries;
    r->cq_entries = r->uring.cq.ring_entries;
    r->sq_mask = r->sq_entries - 1;
    r->cq_mask = r->cq_entries - 1;
    r->sq_head = (_Atomic(unsigned) *)r->uring.sq.khead;
    r->sq_tail = (_Atomic(unsigned) *)r->uring.sq.ktail;
    r->sq_flags = (_Atomic(unsigned) *)r->uring.sq.kflags;
    r->cq_head = (_Atomic(unsigned) *)r->uring.cq.khead;
    r->cq_tail = (_Atomic(unsigned) *)r->uring.cq.ktail;
    r->ops = probe_ops(&r->uring);
    io_uring_ring_dontfork(&r->uring);
    /* kernel workers for what always blocks: a few a ring, or a thousand workers' rings would make thousands of threads */
    io_uring_register_iowq_max_workers(&r->uring, (unsigned[]){ SL_IOWQ_BOUNDED, SL_IOWQ_UNBOUNDED });
    sl_buffers_ring_begins(r);
    return 0;
}

void sl_ring_fini(struct sl_ring *r)
{
    sl_buffers_ring_ends(r);
    io_uring_queue_exit(&r->uring);
}

void sl_ring_describe(const struct sl_ring *r, char *text, size_t bytes)
{
    snprintf(text, bytes, "io_uring: %u submissions, %u completions a worker%s%s", r->sq_entries, r->cq_entries,
             r->setup_flags & IORING_SETUP_COOP_TASKRUN ? ", cooperative task work" : ", plain ring (kernel before 5.19)",
             sl_ring_has_sync_cancel(r) ? ", synchronous cancel" : "");
}

static int sync_cancel(const struct sl_ring *r, uint64_t user_data)
{
    struct io_uring_sync_cancel_reg reg = { .addr = user_data, .fd = -1 }; /* timeout zero: ask, do not wait */
    long rc = syscall(__NR_io_uring_register, r->fd, IORING_REGISTER_SYNC_CANCEL, &reg, 1);

    return rc < 0 ? -errno : (int)rc;
}

bool sl_ring_has_sync_cancel(const struct sl_ring *r)
{
    return sync_cancel(r, UINT64_MAX) == -ENOENT; /* nothing has that name; a kernel without the operation says EINVAL */
}

int sl_ring_sync_cancel(struct sl_ring *r, uint64_t user_data)
{
    int rc;

    do
        rc = sync_cancel(r, user_data);
    while (rc == -EINTR);
    return rc;
}

int sl_ring_submit(struct sl_ring *r, bool owner)
{
    unsigned n = sl_ring_unsubmitted(r), flags = 0;

    if (owner && sl_ring_wants_enter(r))
        flags = IORING_ENTER_GETEVENTS;
    if (n == 0 && flags == 0)
        return 0;
    return enter(r->fd, n, 0, flags, NULL, 0);
}

static int wait_once(struct sl_ring *r, unsigned submit, int64_t wait_ns)
{
    struct __kernel_timespec ts = { .tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000 };
    struct io_uring_getevents_arg arg = { .sigmask_sz = _NSIG / 8, .ts = wait_ns == INT64_MAX ? 0 : (uint64_t)(uintptr_t)&ts };

    if (wait_ns <= 0) /* a zero timeout costs 17 microseconds, a min_complete of zero nothing */
        return enter(r->fd, submit, 0, IORING_ENTER_GETEVENTS, NULL, 0);
    return enter(r->fd, submit, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
}

int sl_ring_wait(struct sl_ring *r, int64_t deadline, int64_t now)
{
    int64_t wait_ns = deadline == INT64_MAX ? INT64_MAX : deadline - now;
    int rc;

    if (RUNNING_ON_VALGRIND && wait_ns > VALGRIND_WAIT_NS) /* which does not know that enter may block, and stops every other thread */
        wait_ns = VALGRIND_WAIT_NS;
    rc = wait_once(r, sl_ring_unsubmitted(r), wait_ns);

    if (rc == -EAGAIN || rc == -EBUSY) /* no memory for requests, or completions to be reaped first: the rest is submitted later */
        rc = wait_once(r, 0, wait_ns < REFUSED_WAIT_NS ? wait_ns : REFUSED_WAIT_NS);
    return rc;
}

unsigned sl_ring_reap(struct sl_ring *r, struct sl_completion *out, unsigned max)
{
    unsigned head = sl_load_relaxed(r->cq_head); /* under cq_lock */
    unsigned tail = sl_load_acquire(r->cq_tail); /* [ring.2] */
    unsigned n = 0;

    for (; n < max && head != tail; n++, head++) {
        const struct io_uring_cqe *cqe = &r->uring.cq.cqes[head & r->cq_mask];

        out[n] = (struct sl_completion){ cqe->user_data, cqe->res, cqe->flags };
    }
    if (n > 0)
        sl_store_release(r->cq_head, head); /* [ring.2] */
    return n;
}
