/* ring.c - setting a ring up with what the kernel offers, entering it, reaping it. */
#include "event/ring.h"
#include "event/uring_abi.h"
#include "plat/cpu.h"
#include "plat/feature.h"
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

#define COOP (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG)

/* Flag sets from best to plainest; a kernel that does not know one says EINVAL. */
static const unsigned flag_sets[] = { COOP | IORING_SETUP_SUBMIT_ALL, IORING_SETUP_SUBMIT_ALL, 0 };

/* What no use of a ring does without: completions are not lost when their queue is full, offset -1 is the file's position, what waits for
 * readiness needs no thread, polls have all events, a sleep has a deadline. The last is the youngest, Linux 5.11. */
#define NEEDED_FEATURES (IORING_FEAT_NODROP | IORING_FEAT_RW_CUR_POS | IORING_FEAT_FAST_POLL | IORING_FEAT_POLL_32BITS | \
                         IORING_FEAT_EXT_ARG)

/* The operations that nobody asks for before they are handed over. */
static const uint8_t needed_ops[] = {
    IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_POLL_ADD, IORING_OP_SENDMSG, IORING_OP_RECVMSG, IORING_OP_ACCEPT, IORING_OP_ASYNC_CANCEL,
    IORING_OP_CONNECT, IORING_OP_READ, IORING_OP_WRITE, IORING_OP_SEND, IORING_OP_RECV,
};

/* Those of which callers ask whether the ring knows them (sl_ring_knows). */
static const struct { uint8_t code, feature; } optional_ops[] = {
    { IORING_OP_FSYNC, SL_FEATURE_OP_FSYNC },
    { IORING_OP_OPENAT, SL_FEATURE_OP_OPENAT },
    { IORING_OP_STATX, SL_FEATURE_OP_STATX },
    { IORING_OP_OPENAT2, SL_FEATURE_OP_OPENAT2 },
    { IORING_OP_RENAMEAT, SL_FEATURE_OP_RENAMEAT },
    { IORING_OP_UNLINKAT, SL_FEATURE_OP_UNLINKAT },
    { IORING_OP_MKDIRAT, SL_FEATURE_OP_MKDIRAT },
    { IORING_OP_SYMLINKAT, SL_FEATURE_OP_SYMLINKAT },
    { IORING_OP_LINKAT, SL_FEATURE_OP_LINKAT },
    { IORING_OP_SPLICE, SL_FEATURE_OP_SPLICE },
    { IORING_OP_SYNC_FILE_RANGE, SL_FEATURE_OP_SYNC_FILE_RANGE },
    { IORING_OP_FALLOCATE, SL_FEATURE_OP_FALLOCATE },
    { IORING_OP_FADVISE, SL_FEATURE_OP_FADVISE },
    { SL_OP_FTRUNCATE, SL_FEATURE_OP_FTRUNCATE },
    { IORING_OP_SEND_ZC, SL_FEATURE_OP_SEND_ZC },
    { IORING_OP_SENDMSG_ZC, SL_FEATURE_OP_SENDMSG_ZC },
};

static int enter(int fd, unsigned submit, unsigned min_complete, unsigned flags, void *arg, size_t arg_bytes)
{
    /* syscall(2) stores errno on this thread; it is read before anything can park. */
    long rc = syscall(__NR_io_uring_enter, fd, submit, min_complete, flags, arg, arg_bytes);

    return rc < 0 ? -errno : (int)rc;
}

static int try_setup(struct sl_ring *r, unsigned entries)
{
    unsigned allowed = (sl_feature_allowed(SL_FEATURE_COOP_TASKRUN) ? COOP : 0) |
                       (sl_feature_allowed(SL_FEATURE_SUBMIT_ALL) ? IORING_SETUP_SUBMIT_ALL : 0);
    struct io_uring_params p;
    int rc = -EINVAL;

    for (size_t i = 0; i < sizeof flag_sets / sizeof *flag_sets && rc == -EINVAL; i++) {
        memset(&p, 0, sizeof p);
        p.flags = (flag_sets[i] & allowed) | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
        p.cq_entries = entries * SL_RING_CQ_PER_SQ;
        rc = io_uring_queue_init_params(entries, &r->uring, &p);
        r->setup_flags = p.flags;
    }
    if (rc < 0)
        return rc;
    sl_feature_note(SL_FEATURE_COOP_TASKRUN, r->setup_flags & IORING_SETUP_COOP_TASKRUN ? 0 : -EINVAL);
    sl_feature_note(SL_FEATURE_SUBMIT_ALL, r->setup_flags & IORING_SETUP_SUBMIT_ALL ? 0 : -EINVAL);
    sl_feature_note(SL_FEATURE_EXT_ARG, p.features & IORING_FEAT_EXT_ARG ? 0 : -EINVAL);
    if ((p.features & NEEDED_FEATURES) != NEEDED_FEATURES || !sl_feature_allowed(SL_FEATURE_EXT_ARG)) {
        io_uring_queue_exit(&r->uring);
        return -EOPNOTSUPP;
    }
    return 0;
}

/* Which operations the kernel knows, into *out. 0 bits if it does not say: then the pool does those of which anybody asks, and the others
 * are older than EXT_ARG. 0; -EOPNOTSUPP: it says that it lacks one that is needed. */
static int probe_ops(struct io_uring *uring, uint64_t *out)
{
    union { struct io_uring_probe probe; char bytes[sizeof(struct io_uring_probe) + 64 * sizeof(struct io_uring_probe_op)]; } answer;
    uint64_t known = 0;
    int rc;

    *out = 0;
    if (!sl_feature_allowed(SL_FEATURE_OP_PROBE))
        return 0;
    memset(&answer, 0, sizeof answer);
    rc = io_uring_register_probe(uring, &answer.probe, 64);
    sl_feature_note(SL_FEATURE_OP_PROBE, rc);
    if (rc < 0)
        return 0;
    for (unsigned i = 0; i < answer.probe.ops_len && i < 64; i++)
        if (answer.probe.ops[i].flags & IO_URING_OP_SUPPORTED && answer.probe.ops[i].op < 64)
            known |= UINT64_C(1) << answer.probe.ops[i].op;
    for (size_t i = 0; i < sizeof needed_ops; i++)
        if (!(known >> needed_ops[i] & 1))
            return -EOPNOTSUPP;
    for (size_t i = 0; i < sizeof optional_ops / sizeof *optional_ops; i++) {
        uint64_t bit = UINT64_C(1) << optional_ops[i].code;

        sl_feature_note(optional_ops[i].feature, known & bit ? 0 : -EINVAL);
        if (!sl_feature_allowed(optional_ops[i].feature))
            known &= ~bit;
    }
    *out = known;
    return 0;
}

static void bound_kernel_workers(struct io_uring *uring)
{
    /* for what always blocks: a few a ring, or a thousand workers' rings would make thousands of threads */
    if (sl_feature_allowed(SL_FEATURE_IOWQ_MAX_WORKERS))
        sl_feature_note(SL_FEATURE_IOWQ_MAX_WORKERS,
                        io_uring_register_iowq_max_workers(uring, (unsigned[]){ SL_IOWQ_BOUNDED, SL_IOWQ_UNBOUNDED }));
}

int sl_ring_init(struct sl_ring *r, unsigned entries)
{
    int64_t give_up = sl_clock_ns() + INIT_RETRY_NS;
    int rc;

    memset(r, 0, sizeof *r);
    r->epoll_fd = -1;
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
    rc = probe_ops(&r->uring, &r->ops);
    if (rc < 0) {
        io_uring_queue_exit(&r->uring);
        return rc;
    }
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
    io_uring_ring_dontfork(&r->uring);
    bound_kernel_workers(&r->uring);
    sl_buffers_ring_begins(r);
    return 0;
}

void sl_ring_fini(struct sl_ring *r)
{
    if (r->epoll_fd >= 0) {
        sl_epoll_fini(r);
        return;
    }
    sl_buffers_ring_ends(r);
    io_uring_queue_exit(&r->uring);
}

void sl_ring_describe(const struct sl_ring *r, char *text, size_t bytes)
{
    if (r->epoll_fd >= 0) {
        snprintf(text, bytes, "epoll");
        return;
    }
    snprintf(text, bytes, "io_uring: %u submissions, %u completions a worker%s%s", r->sq_entries, r->cq_entries,
             r->setup_flags & IORING_SETUP_COOP_TASKRUN ? ", cooperative task work" : ", task work that interrupts",
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
    int rc;

    if (r->epoll_fd >= 0 || !sl_feature_allowed(SL_FEATURE_SYNC_CANCEL))
        return false;
    rc = sync_cancel(r, UINT64_MAX); /* nothing has that name; a kernel without the operation says EINVAL */
    sl_feature_note(SL_FEATURE_SYNC_CANCEL, rc == -ENOENT ? 0 : rc < 0 ? rc : -EINVAL);
    return rc == -ENOENT;
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
    unsigned submit;
    int rc;

    if (RUNNING_ON_VALGRIND && wait_ns > VALGRIND_WAIT_NS) /* which does not know that enter may block, and stops every other thread */
        wait_ns = VALGRIND_WAIT_NS;
    if (r->epoll_fd >= 0)
        return sl_epoll_wait(r, wait_ns);
    submit = sl_ring_unsubmitted(r);
    rc = wait_once(r, submit, wait_ns);
    if (submit > 0 && rc < 0 && rc != -EINTR && rc != -ETIME)
        /* -EAGAIN, -ENOMEM, -EBUSY...: no memory for requests or for this thread's part in the ring, or completions to be reaped first.
         * They are submitted later. */
        rc = wait_once(r, 0, wait_ns < REFUSED_WAIT_NS ? wait_ns : REFUSED_WAIT_NS);
    return rc;
}

unsigned sl_ring_reap(struct sl_ring *r, struct sl_completion *out, unsigned max)
{
    unsigned head = sl_load_relaxed(r->cq_head); /* under cq_lock */
    unsigned tail = sl_load_acquire(r->cq_tail); /* [ring.2] */
    unsigned n = 0;

    for (; n < max && head != tail; n++, head++) {
        const struct io_uring_cqe *cqe;

        if (r->epoll_fd >= 0) {
            out[n] = r->soft[head & r->cq_mask];
            continue;
        }
        cqe = &r->uring.cq.cqes[head & r->cq_mask];
        out[n] = (struct sl_completion){ cqe->user_data, cqe->res, cqe->flags };
    }
    if (n > 0)
        sl_store_release(r->cq_head, head); /* [ring.2] */
    else if (r->epoll_fd >= 0)
        n = sl_epoll_reap(r, out, max);
    return n;
}
