/* lock.c - flock(2), with a deadline.
 *
 * The lock is tried first, which does not wait. If somebody else has it, a helper (plat/flock.h) waits for it, as one of the kernel's own
 * queue, and the fiber for the helper's end, in a poll. A deadline, cancel or close ends that poll; then the helper is killed, and its end
 * waited for, which takes as long as the kernel needs to kill a process.
 * It may just have got the lock. The lock belongs to the open file description, not to who asked, so nobody can tell whether it is there
 * but by asking for it again, without waiting: then it is had, and that is success, which beats a deadline or cancel; or it is not. A
 * descriptor that is being closed does not keep it.
 *
 * Rejected: a thread of the pool that waits, though it can be interrupted. There are few: as many waiting fibers would keep every other
 * blocking call from its turn, and whoever holds the lock may need one before giving it back. Looking again and again: who looks seldom
 * never gets a lock that is much in demand. That is all that is left, though, where no helper can be made: in a sandbox, or on a machine
 * whose instructions plat/flock.c does not know.
 *
 * Locks of a file system on another machine are asked for over a network, so even a try is made on the pool. */
#include "io/call.h"
#include "plat/flock.h"

#include <sley/fs.h>
#include <sley/io.h>
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

/* The helper's end, waited for in the name of l's call too, so that who closes the file ends it; or, `alone`, whatever becomes of that. */
static int wait_for_helper(struct lock *l, int pidfd, bool alone, sley_time deadline)
{
    struct sl_call c;
    int rc = sl_call_begin(&c, pidfd, SLEY_FOREVER);

    if (rc < 0)
        return rc;
    if (!alone)
        sl_call_join(&c, &l->call);
    rc = sl_call_poll(&c, pidfd, POLLIN, deadline);
    sl_call_end(&c);
    l->call.also = NULL;
    return rc;
}

/* The wait for the helper was cut short, for this reason. 0: it has got the lock all the same. */
static int give_up(struct lock *l, int pidfd, int why)
{
    struct sl_call own = { .fiber = l->call.fiber }; /* of the file, whatever becomes of it */
    int got;

    sl_shield_begin(own.fiber);
    l->deadline = SLEY_FOREVER;
    sl_flock_kill(pidfd);
    wait_for_helper(l, pidfd, true, SLEY_FOREVER);
    got = sl_flock_end(pidfd);
    if (got != 0)
        got = ask(l, &own, l->operation);
    if (got == 0 && why == -EBADF)
        ask(l, &own, LOCK_UN);
    sl_shield_end(own.fiber);
    return got == 0 && why != -EBADF ? 0 : why;
}

/* 0; SL_FLOCK_UNKNOWN: the helper was killed, by somebody else; -errno. *made: there was one. */
static int wait_by_helper(struct lock *l, bool *made)
{
    int pidfd, rc = sl_flock_start(l->fd, l->operation, &pidfd);

    *made = rc == 0;
    if (rc < 0)
        return rc;
    sl_record_adopt(pidfd, SL_FD_STREAM);
    rc = wait_for_helper(l, pidfd, false, l->deadline);
    rc = rc < 0 ? give_up(l, pidfd, rc) : sl_flock_end(pidfd);
    sley_close(pidfd);
    return rc;
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
    bool made = true;
    int rc;

    for (;;) {
        rc = ask(l, &l->call, l->operation);
        if (rc != -EWOULDBLOCK)
            return rc;
        if (l->deadline == SLEY_NOW)
            return -ETIMEDOUT;
        if (sl_cancelled(l->call.fiber))
            return -ECANCELED;
        if ((rc = sl_call_again(&l->call)) < 0)
            return rc;
        rc = wait_by_helper(l, &made);
        if (!made)
            return wait_by_looking(l);
        if (rc != SL_FLOCK_UNKNOWN)
            return rc;
    }
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
