/* lock.c - flock(2), with a deadline.
 *
 * The lock is tried first, which does not wait. If somebody else has it, a thread of the pool waits for it, as one of the kernel's own
 * queue: a deadline, cancel or close interrupts it, and it either has the lock by then, which is success and beats them, or has not.
 * Those who wait may have half the pool at most (sl_blocking_share_begin). Else who holds the lock might find no thread for what it does
 * before it gives the lock back. The others look again and again, ever less often: who looks seldom may find a lock that is much in demand
 * late, but never waits for somebody who waits for it.
 *
 * Locks of a file system on another machine are asked for over a network, so even a try is made on the pool. */
#include "io/descriptor.h"
#include "io/call.h"
#include "sched/blocking.h"

#include <sley/fs.h>
#include <sley/time.h>
#include <sys/file.h>

#define LOOK_MIN_NS SLEY_MS
#define LOOK_MAX_NS (50 * SLEY_MS)

struct lock {
    struct sl_call call;
    int       fd, operation; /* without LOCK_NB */
    bool      local;         /* to ask for it goes over no network */
    sley_time deadline;
};

/* Begin a call for it, and learn where it is. 0: end it with sl_call_end. */
static int begin(struct lock *l)
{
    struct sl_record *r;
    int rc = sl_call_begin(&l->call, l->fd, l->deadline);

    if (rc < 0)
        return rc;
    r = l->call.record;
    if (sl_record_kind(r) == SL_FD_UNKNOWN && (rc = sl_record_learn(r, l->fd)) < 0) {
        sl_call_end(&l->call);
        return rc;
    }
    l->local = sl_record_kind(r) != SL_FD_FILE || sl_record_hinted(r, SL_HINT_LOCAL) || sl_on_thread(&l->call);
    return 0;
}

/* Without waiting for another's lock. -EWOULDBLOCK: somebody has it. */
static int ask(const struct lock *l, struct sl_call *c, int operation)
{
    struct sl_op op = { .code = SL_OP_FLOCK, .fd = l->fd, .flags = (uint32_t)operation | LOCK_NB };

    if (l->local)
        return sl_perform(&op, NULL);
    return l->deadline == SLEY_NOW ? -EOPNOTSUPP : sl_call_perform(c, &op, l->deadline);
}

static int wait_on_pool(struct lock *l)
{
    struct sl_op op = { .code = SL_OP_FLOCK, .fd = l->fd, .flags = (uint32_t)l->operation };

    return sl_call_perform_on_pool(&l->call, &op, l->deadline);
}

static int wait_by_looking(struct lock *l)
{
    sley_time pause = LOOK_MIN_NS;
    int rc;

    do {
        sley_time until = sl_clock_ns() + pause;

        rc = sley_sleep_until(until < l->deadline ? until : l->deadline);
        if (rc < 0 || (rc = sl_call_again(&l->call)) < 0)
            return rc;
        rc = ask(l, &l->call, l->operation);
        if (rc == -EWOULDBLOCK && sl_clock_ns() >= l->deadline)
            return -ETIMEDOUT;
        pause = pause < LOOK_MAX_NS / 2 ? pause * 2 : LOOK_MAX_NS;
    } while (rc == -EWOULDBLOCK);
    return rc;
}

static int lock_waiting(struct lock *l)
{
    int rc = ask(l, &l->call, l->operation);

    if (rc != -EWOULDBLOCK)
        return rc;
    if (l->deadline == SLEY_NOW)
        return -ETIMEDOUT;
    if (sl_cancelled(l->call.fiber))
        return -ECANCELED;
    if (sl_on_thread(&l->call) || !sl_blocking_share_begin())
        return wait_by_looking(l);
    rc = wait_on_pool(l);
    sl_blocking_share_end();
    return rc;
}

/* Giving a lock back is never refused, nor cancelled. */
static int unlock(struct lock *l)
{
    struct sl_fiber *f = sl_current();
    int rc;

    sl_shield_begin(f);
    rc = begin(l);
    if (rc == 0) {
        rc = ask(l, &l->call, LOCK_UN);
        sl_call_end(&l->call);
    }
    sl_shield_end(f);
    return rc;
}

int sley_flock(int fd, int operation, sley_time deadline)
{
    struct lock l = { .fd = fd, .operation = operation & ~LOCK_NB, .deadline = deadline };
    int rc;

    if (l.operation == LOCK_UN) {
        l.deadline = SLEY_FOREVER;
        return unlock(&l);
    }
    if (l.operation != LOCK_SH && l.operation != LOCK_EX)
        return -EINVAL;
    rc = begin(&l);
    if (rc < 0)
        return rc;
    rc = operation & LOCK_NB ? ask(&l, &l.call, l.operation) : lock_waiting(&l);
    sl_call_direct(&l.call, rc);
    sl_call_end(&l.call);
    return rc;
}
