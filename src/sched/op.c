/* op.c - operations on rings: handing them over, completing them, cancelling them; the doorbell. */
#include "sched/switch.h"

#include "plat/feature.h"
#include "sched/op.h"

#include <sley/fiber.h>
#include <sley/time.h>

#include <poll.h>
#include <unistd.h>

#define EPOLL_ROOM 64 /* completions that a sleep may note by itself */
#define REFUSED_YIELDS 8 /* before a call that finds its ring full sleeps instead */
#define ASK_AGAIN_MAX_NS (100 * SLEY_MS) /* between two requests for the cancel of one operation */
/* What the kernel says to itself of a call cut short, ERESTARTSYS to ERESTART_RESTARTBLOCK, and io_uring lets out for opens. */
#define RESTART_FIRST 512
#define RESTART_LAST  516
#define STACK_PREFETCH 320 /* bytes above a parked fiber's stack pointer that its return touches */

/* ---- handing over ---- */

void sl_submit(struct sl_worker *w)
{
    if (sl_ring_unsubmitted(&w->ring) == 0 && !sl_ring_wants_enter(&w->ring))
        return;
    sl_owner_add(&w->counters.io_enters, 1);
    sl_ring_submit(&w->ring, true); /* what the kernel did not take stays queued for the next time */
}

/* A free SQE of this worker's ring; NULL: it is full and the kernel takes none. May enter the kernel. */
static struct io_uring_sqe *get_sqe(struct sl_worker *w)
{
    struct io_uring_sqe *sqe = sl_ring_sqe(&w->ring);

    if (__builtin_expect(sqe == NULL, 0)) {
        sl_submit(w);
        sqe = sl_ring_sqe(&w->ring);
    }
    return sqe;
}

static void published(struct sl_worker *w)
{
    sl_ring_publish(&w->ring);
    sl_owner_add(&w->counters.io_submitted, 1);
    if (sl_ring_unsubmitted(&w->ring) >= SL_SUBMIT_BATCH)
        w->budget = 0; /* the idle context submits */
}

/* On the next context's stack: the fiber is saved, so its completion may come. */
static void arrive_with_kernel(void *arg)
{
    struct sl_fiber *f = arg;

    sl_store_release(&f->word, SL_WORD(sl_wait_sequence(f), 0, SL_WAITING_IO)); /* [park.1] */
    published(sl_worker_here());
}

bool sl_op_is_known(uint8_t code)
{
    return sl_ring_knows(&sl_worker_here()->ring, code); /* an epoll: none */
}

/* The events of a poll as io_uring is told them. A poll for POLLPRI alone it does not wake, if the waker says what for: its filter leaves
 * that bit out (io_poll_wake, seen with 6.18). A socket says POLLRDBAND beside it, which no TCP socket ever reports. */
static unsigned poll_events(unsigned events)
{
    if (events & POLLPRI)
        events |= POLLRDBAND;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    events = events << 16 | events >> 16;
#endif
    return events;
}

int sl_op_park(struct sl_fiber *f, const struct sl_op *op)
{
    struct sl_worker *w = sl_worker_here();
    struct io_uring_sqe *sqe = get_sqe(w);
    uint64_t word;

    if (__builtin_expect(sqe == NULL, 0)) {
        sl_wait_end(f);
        return SL_OP_NO_ROOM;
    }
    sqe->opcode = op->code;
    sqe->ioprio = op->ioprio;
    sqe->fd = op->fd;
    sqe->off = op->off;
    sqe->addr = op->addr;
    sqe->len = op->len;
    sqe->rw_flags = (__kernel_rwf_t)(op->code == IORING_OP_POLL_ADD ? poll_events(op->flags) : op->flags);
    sqe->splice_fd_in = op->fd_in;
    if (op->slot != 0 && sl_ring_use_slot(&w->ring, sqe, op->slot - 1u))
        sl_owner_add(&w->counters.io_fixed, 1);
    sqe->user_data = sl_op_user_data(f, sl_load_relaxed(&f->word)); /* own word */
    sl_store_relaxed(&f->op_fd, op->fd);
    sl_store_relaxed(&f->op_ring, w->number); /* visible with WAITING_IO */
    sl_store_relaxed(&f->parked_ms, (uint32_t)(w->now / 1000000));
    sl_switch_away(w, f, arrive_with_kernel, f);
    word = sl_load_acquire(&f->word); /* [park.2] */
    sl_streak_end(f);
    sl_wait_end(f);
    if (__builtin_expect(f->op_result <= -RESTART_FIRST && f->op_result >= -RESTART_LAST, 0))
        f->op_result = -EINTR;
    if (__builtin_expect(f->op_result == -ETIMEDOUT, 0)) /* the kernel's own, not a deadline's: as sl_sys_result in io/sys.h */
        return op->code == IORING_OP_CONNECT ? -EHOSTUNREACH : -ECONNRESET;
    if (f->op_result != -ECANCELED && (f->op_result != -EINTR || SL_WORD_ARM(word) == SL_ARM_EVENT))
        return f->op_result;
    switch (SL_WORD_ARM(word)) {
    case SL_ARM_TIMEOUT:
        return -ETIMEDOUT;
    case SL_ARM_CLOSE:
        return -EBADF;
    default:
        sl_scope_note_cut(f);
        return -ECANCELED;
    }
}

int sl_op_wait_for_room(unsigned tries, sley_time deadline)
{
    struct sl_worker *w = sl_worker_here();
    int64_t now;
    int rc;

    sl_reap(w, w); /* the kernel may refuse because completions overflow */
    if (!sl_ring_has_room(&w->ring))
        sl_submit(w);
    if (sl_ring_has_room(&w->ring))
        return 0;
    now = sl_clock_ns();
    if (now >= deadline)
        return -ETIMEDOUT;
    /* Nothing tells when it takes something again. */
    rc = tries < REFUSED_YIELDS ? sley_yield() : sley_sleep_until(deadline < now + SLEY_MS ? deadline : now + SLEY_MS);
    return rc < 0 ? rc : 0;
}

/* ---- cancelling ---- */

static bool queue_cancel(struct sl_worker *w, uint64_t target, enum sl_completion_kind kind)
{
    struct io_uring_sqe *sqe = get_sqe(w);

    if (sqe == NULL)
        return false;
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = target;
    sqe->user_data = (target & ~(uint64_t)0xff) | kind;
    published(w);
    return true;
}

/* false: the operation of that name is certainly over. Polls are found by the kernel as long as they are there. */
static bool in_flight(uint64_t target)
{
    struct sl_fiber *f = sl_fiber_at((uint32_t)(target >> 32));
    uint64_t word;

    if ((target & 0xff) != SL_KIND_OP)
        return false;
    word = f != NULL ? sl_load_acquire(&f->word) : 0; /* [park.1] */
    return SL_WORD_STATE(word) == SL_WAITING_IO && sl_op_user_data(f, word) == target;
}

/* An errand, pinned to the worker whose ring has the operation. */
static int cancel_errand(void *arg)
{
    uint64_t target = (uint64_t)(uintptr_t)arg;

    for (unsigned tries = 0;
         !queue_cancel(sl_worker_here(), target, (target & 0xff) == SL_KIND_OP ? SL_KIND_CANCEL : SL_KIND_CANCEL_QUIET); tries++)
        (void)sl_op_wait_for_room(tries, SLEY_FOREVER);
    return 0;
}

/* An errand like it, for an operation that a first request has not ended: ask again, ever less often. */
static int cancel_again_errand(void *arg)
{
    uint64_t target = (uint64_t)(uintptr_t)arg;

    for (sley_time wait_ns = SLEY_MS; in_flight(target); wait_ns = wait_ns < ASK_AGAIN_MAX_NS ? wait_ns * 2 : wait_ns)
        if (sley_sleep(wait_ns) == 0 && in_flight(target))
            queue_cancel(sl_worker_here(), target, SL_KIND_CANCEL_QUIET);
    return 0;
}

/* The kernel's answer to a cancel. It may not have found an operation that is just between two of its lists (task work that tries
 * again, then arms a poll or goes to a kernel worker), or have found one that runs and does not stop. Neither may be left at that. */
static void cancel_answered(struct sl_worker *of, uint64_t target, int result)
{
    if ((result != -ENOENT && result != -EALREADY) || !in_flight(target))
        return;
    if (sl_errand(of->rt, of, cancel_again_errand, (void *)(uintptr_t)target) < 0 && sl_worker_here() == of)
        queue_cancel(of, target, SL_KIND_CANCEL); /* no memory for an errand: its answer comes here again */
}

void sl_ring_cancel(struct sl_worker *of, uint64_t target)
{
    struct sl_worker *w = sl_worker_here();
    int rc;

    if (w == of && queue_cancel(w, target, (target & 0xff) == SL_KIND_OP ? SL_KIND_CANCEL : SL_KIND_CANCEL_QUIET))
        return;
    if (w != NULL && of->rt->sync_cancel) {
        sl_ring_submit(&of->ring, false); /* the operation must be the kernel's before it can be cancelled there */
        if (sl_ring_unsubmitted(&of->ring) == 0) {
            rc = sl_ring_sync_cancel(&of->ring, target);
            if (rc == 0 || (!in_flight(target) && ((target & 0xff) == SL_KIND_OP || rc == -ENOENT || rc == -EALREADY)))
                return; /* any other answer says nothing of a poll */
        }
        /* Not found, and not over: its worker is between WAITING_IO and the tail, or the kernel took no SQEs, or see cancel_answered. The
         * worker itself queues a cancel behind it. */
    }
    do {
        rc = sl_errand(of->rt, of, cancel_errand, (void *)(uintptr_t)target);
        if (rc == -ECANCELED)
            return; /* the runtime has ended, and with it the operation */
        if (rc < 0)
            sl_thread_yield(); /* no memory for a control block: the request may not be dropped (O3); blocks come back as fibers end */
    } while (rc < 0);
}

/* ---- completing ---- */

/* The final completion of an operation: its fiber, claimed, or NULL if it is an old one (O2). */
static struct sl_fiber *complete_op(uint64_t user_data, int32_t result)
{
    struct sl_fiber *f = sl_fiber_at((uint32_t)(user_data >> 32));
    uint64_t word;

    if (f == NULL)
        return NULL;
    word = sl_load_acquire(&f->word); /* [park.1] */
    do { /* repeats if somebody asks for the cancel meanwhile */
        if (SL_WORD_STATE(word) != SL_WAITING_IO || sl_op_user_data(f, word) != user_data)
            return NULL;
        f->op_result = result;
    } while (!sl_cas_acq_rel(&f->word, &word, SL_WORD(SL_WORD_SEQUENCE(word), SL_WORD_ARM(word), SL_WON))); /* [park.2] */
    return f;
}

/* O4: a notice will come (change 1), or has (-1). */
static void count_notice(uint64_t user_data, int change)
{
    struct sl_fiber *f = sl_fiber_at((uint32_t)(user_data >> 32));
    struct sl_woken woken = { NULL, NULL };
    struct sl_notices *n;

    (void)sl_load_acquire(&f->word); /* [park.1] what f wrote before it handed the operation over */
    sl_tsan_acquire(&f->stack);
    n = f->stack->notices;
    sl_lock_acquire(&n->lock);
    n->due += change;
    if (n->due == 0 && n->waiter != NULL) {
        sl_claim(n->waiter, SL_ARM_EVENT, &woken);
        n->waiter = NULL;
    }
    sl_lock_release(&n->lock); /* f leaves after it has locked: the last access */
    sl_woken_ready(&woken);
}

/* With thousands of connections a fiber's block and stack are in no cache when its completion comes, and each claim waits for its
 * own miss, since a compare-and-swap lets nothing overtake it. So all are asked for first. */
static void prefetch_blocks(const struct sl_completion *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct sl_fiber *f = (c[i].user_data & 0xff) == SL_KIND_OP ? sl_fiber_at((uint32_t)(c[i].user_data >> 32)) : NULL;

        if (f != NULL) {
            __builtin_prefetch(f, 1);
            __builtin_prefetch((char *)f + 64, 1);
        }
    }
}

/* ... and the frames that it will return through: saved registers, sl_op_park, the public call. */
static void prefetch_stack(const struct sl_fiber *f)
{
    for (unsigned at = 0; at < STACK_PREFETCH; at += 64)
        __builtin_prefetch((char *)f->context.sp + at, 1);
}

/* Under the cq_lock of `of`. */
static void doorbell_completed(struct sl_worker *of, const struct sl_completion *c)
{
    if (of->rt->has_rings && sl_feature_may(SL_FEATURE_POLL_MULTISHOT)) {
        if (c->flags & IORING_CQE_F_MORE)
            sl_feature_note(SL_FEATURE_POLL_MULTISHOT, 0);
        else if (c->result == -EINVAL)
            sl_feature_note(SL_FEATURE_POLL_MULTISHOT, c->result);
    }
    if (!(c->flags & IORING_CQE_F_MORE))
        of->doorbell_armed = false;
}

/* Completions of the ring of `of`, reaped by w. */
static void complete(struct sl_worker *w, struct sl_worker *of, const struct sl_completion *c, unsigned n)
{
    prefetch_blocks(c, n);
    for (unsigned i = 0; i < n; i++) {
        uint32_t who = (uint32_t)(c[i].user_data >> 32), tag = (uint32_t)(c[i].user_data >> 8) & 0xffffff;
        struct sl_fiber *f;

        switch ((enum sl_completion_kind)(c[i].user_data & 0xff)) {
        case SL_KIND_OP:
            if (__builtin_expect(c[i].flags & IORING_CQE_F_NOTIF, 0)) {
                count_notice(c[i].user_data, -1);
                break;
            }
            if (__builtin_expect(c[i].flags & IORING_CQE_F_MORE, 0))
                count_notice(c[i].user_data, 1);
            sl_owner_add(&w->counters.io_completed, 1);
            f = complete_op(c[i].user_data, c[i].result);
            if (f == NULL)
                break;
            prefetch_stack(f);
            sl_owner_add(&w->counters.wakes, 1);
            if (!w->rt->chaos || !sl_send_elsewhere(w, f))
                sl_push_ready(w, f);
            break;
        case SL_KIND_POLL:
            sl_owner_add(&w->counters.io_completed, 1);
            sl_fd_poll_done((int)who, tag, c[i].result);
            break;
        case SL_KIND_CANCEL:
            cancel_answered(of, sl_user_data(who, tag, SL_KIND_OP), c[i].result);
            break;
        case SL_KIND_DOORBELL: /* it has done its work by ending the sleep; re-arming is seen to under the lock */
        case SL_KIND_CANCEL_QUIET:
            break;
        }
    }
    if (w->thread.current != NULL) /* else the idle context looks before it goes on */
        sl_look_for_sleepers(w);
}

bool sl_reap_locked(struct sl_worker *w, struct sl_worker *of)
{
    struct sl_completion c[SL_REAP_MAX];
    uint32_t queued = sl_deque_count(&w->deque), room = SL_DEQUE_CAP - queued;
    unsigned n;

    /* No more than the deque has room for: the CQ is the rest of that queue. Behind an overflow list a batch at a time, or it would
     * starve. */
    if (room > SL_REAP_MAX || sl_queue_count(&w->overflow) > 0)
        room = SL_REAP_MAX;
    n = sl_ring_reap(&of->ring, c, room);
    for (unsigned i = 0; i < n; i++)
        if ((c[i].user_data & 0xff) == SL_KIND_DOORBELL)
            doorbell_completed(of, &c[i]);
    sl_lock_release(&of->ring.cq_lock);
    complete(w, of, c, n);
    return n > 0;
}

bool sl_reap(struct sl_worker *w, struct sl_worker *of)
{
    if (!sl_ring_may_have_completions(&of->ring) || !sl_lock_try(&of->ring.cq_lock))
        return false;
    return sl_reap_locked(w, of);
}

void sl_op_cancel(struct sl_fiber *f, uint64_t sequence, unsigned arm)
{
    for (;;) {
        uint64_t word = sl_load_acquire(&f->word); /* [cancel.1] behind the canceller's fence */
        unsigned ring = sl_load_relaxed(&f->op_ring); /* of this operation if the compare-and-swap below succeeds; the next two also */
        struct sley_runtime *rt = f->rt;
        unsigned flags = f->flags;

        if (SL_WORD_SEQUENCE(word) != sequence || SL_WORD_STATE(word) == SL_IDLE || SL_WORD_STATE(word) == SL_WON)
            return;
        if (SL_WORD_STATE(word) == SL_WAITING_IO) {
            if (SL_WORD_ARM(word) != SL_ARM_EVENT)
                return; /* somebody has asked */
            if (sl_cas_acq_rel(&f->word, &word, SL_WORD(sequence, arm, SL_WAITING_IO))) {
                if (flags & SL_FIBER_THREAD)
                    sl_thread_io_wake(f);
                else
                    sl_ring_cancel(rt->workers[ring], sl_op_user_data(f, sequence));
                return;
            }
        } else if (SL_WORD_STATE(word) == SL_WAITING) {
            if (sl_cas_acq_rel(&f->word, &word, SL_WORD(sequence, arm, SL_WON))) { /* [park.1] [park.2] */
                sl_ready(f);
                return;
            }
        } else {
            sl_cpu_relax(); /* ARMING: tens of nanoseconds from here to the kernel, unless the processor is somebody else's */
            sl_thread_yield();
        }
    }
}

/* ---- polls of descriptors' records ---- */

void sl_poll_reserve(unsigned n)
{
    struct sl_worker *w = sl_worker_here();

    while (!w->rt->has_rings && sl_ring_soft_room(&w->ring) < n + EPOLL_ROOM)
        sl_reap(w, w);
    if (!w->rt->has_rings)
        return;
    while (w->ring.sq_local - sl_load_acquire(w->ring.sq_head) + n > w->ring.sq_entries) { /* [ring.1] */
        sl_submit(w);
        if (w->ring.sq_local - sl_load_acquire(w->ring.sq_head) + n > w->ring.sq_entries) /* [ring.1] */
            sl_reap(w, w); /* the kernel refuses while completions overflow. It may come back here: polls end */
    }
}

bool sl_poll_may_have_ended(void)
{
    struct sl_worker *w = sl_worker_here();

    if (!w->rt->has_rings)
        return sl_reap(w, w); /* only the kernel knows */
    sl_submit(w);
    return sl_ring_has_completions(&w->ring);
}

struct sl_worker *sl_poll_arm(int fd, unsigned events, uint32_t tag)
{
    struct sl_worker *w = sl_worker_here();
    uint64_t name = sl_user_data((uint32_t)fd, tag, SL_KIND_POLL);
    struct io_uring_sqe *sqe;

    if (!w->rt->has_rings) {
        sl_ring_poll_epoll(&w->ring, fd, events, name);
        return w;
    }
    sqe = sl_ring_sqe(&w->ring); /* sl_poll_reserve made room */

    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = fd;
    sqe->poll32_events = poll_events(events);
    sqe->user_data = name;
    published(w);
    return w;
}

/* Without a ring the poll's end is told by this worker, when it goes through its completions next: who asks wants to link itself first.
 * What the epoll says of it later finds a tag that has moved on. */
static int end_poll_errand(void *arg)
{
    sl_poll_reserve(1);
    sl_ring_note(&sl_worker_here()->ring, (uint64_t)(uintptr_t)arg, -ECANCELED);
    return 0;
}

static void end_poll(struct sl_worker *of, uint64_t name)
{
    if (sl_worker_here() != NULL) {
        end_poll_errand((void *)(uintptr_t)name);
        return;
    }
    for (;;) {
        int rc = sl_errand(of->rt, NULL, end_poll_errand, (void *)(uintptr_t)name);

        if (rc >= 0 || rc == -ECANCELED) /* the runtime has ended, and with it the poll */
            return;
        sl_thread_yield(); /* no memory for a control block */
    }
}

void sl_poll_cancel(struct sl_worker *w, int fd, uint32_t tag)
{
    if (!w->rt->has_rings)
        end_poll(w, sl_user_data((uint32_t)fd, tag, SL_KIND_POLL));
    else
        sl_ring_cancel(w, sl_user_data((uint32_t)fd, tag, SL_KIND_POLL));
}

/* ---- the doorbell ---- */

/* A poll that reports once would report at once if the bell were still rung. Only before the worker announces that it sleeps: who rang it
 * until now has queued before that, and the worker looks at the queues behind the announcement. */
static void silence(struct sl_worker *w)
{
    uint64_t rings;
    ssize_t rc = read(w->doorbell_fd, &rings, sizeof rings);

    (void)rc;
}

void sl_doorbell_arm(struct sl_worker *w)
{
    bool stays = sl_feature_may(SL_FEATURE_POLL_MULTISHOT);
    struct io_uring_sqe *sqe;

    if (!w->rt->has_rings) {
        w->doorbell_armed = sl_ring_doorbell_epoll(&w->ring, w->doorbell_fd, sl_user_data(0, 0, SL_KIND_DOORBELL)) == 0;
        return;
    }
    sqe = get_sqe(w);
    if (sqe == NULL)
        return; /* the sleep ends at once with the ring full, and comes back here */
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = w->doorbell_fd;
    if (stays)
        sqe->len = IORING_POLL_ADD_MULTI;
    else
        silence(w);
    sqe->poll32_events = POLLIN;
    sqe->user_data = sl_user_data(0, 0, SL_KIND_DOORBELL);
    sl_ring_publish(&w->ring);
    w->doorbell_armed = true;
}

void sl_doorbell_ring(struct sl_worker *w)
{
    uint64_t one = 1;
    ssize_t rc = write(w->doorbell_fd, &one, sizeof one); /* fails only when the count is full: then it is readable anyway */

    (void)rc;
}
