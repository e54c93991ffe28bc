/* call.c - the rarer steps of a call on a descriptor. */
#include "io/call.h"
#include "sched/blocking.h"

#include <sley/fiber.h>

#define PAUSE_NS SLEY_MS
#define RELAXES_BEFORE_YIELD 100 /* a close(2) is 300 ns; one that lingers longer must not keep a processor busy */

int sl_call_turn(struct sl_fiber *f)
{
    f->streak = 0;
    return sl_cancelled(f) || sl_scope_overdue(f) ? -ECANCELED : sley_yield();
}

int sl_call_link_slow(struct sl_call *c)
{
    struct sl_record *r = c->record;

    for (int looks = 0;; looks++) {
        sl_lock_acquire(&r->lock);
        if (r->phase == SL_PHASE_OPEN) {
            c->next = r->calls;
            if (c->next != NULL)
                c->next->prev = c;
            r->calls = c;
            sl_lock_release(&r->lock);
            return 0;
        }
        if (r->phase == SL_PHASE_CLOSING) {
            sl_lock_release(&r->lock);
            return -EBADF;
        }
        /* RELEASING: the closer is in close(2) or just behind it. The number may already be that of the descriptor this call means. */
        sl_lock_release(&r->lock);
        if (looks < RELAXES_BEFORE_YIELD)
            sl_cpu_relax();
        else
            sl_thread_yield();
    }
}

int sl_call_again(struct sl_call *c)
{
    struct sl_call *one = c;
    int rc = 0;

    if (c->fiber->streak >= SL_DIRECT_STREAK && (rc = sl_call_turn(c->fiber)) < 0)
        return rc;
    do {
        struct sl_record *r = one->record;

        if (r != NULL) {
            sl_lock_acquire(&r->lock);
            if (r->phase != SL_PHASE_OPEN)
                rc = -EBADF;
            sl_lock_release(&r->lock);
        }
        one = one->also;
    } while (one != NULL && one != c);
    return rc;
}

int sl_call_announce_others(struct sl_call *c)
{
    int rc = 0;

    for (struct sl_call *one = c->also; one != c && rc == 0; one = one->also)
        rc = sl_call_announce(one, c->fiber);
    return rc;
}

int sl_call_begin_at(struct sl_call *c, int dirfd, const char *path, sley_time deadline)
{
    if (dirfd == AT_FDCWD || (path != NULL && path[0] == '/'))
        return sl_call_begin_free(c, deadline);
    return sl_call_begin(c, dirfd, deadline);
}

int sl_call_mode(int fd, unsigned events)
{
    int flags = sl_sys_fcntl(fd, F_GETFL, 0), wrong = events & POLLOUT ? O_RDONLY : O_WRONLY;

    return flags < 0 ? flags : flags & O_PATH || (flags & O_ACCMODE) == wrong ? -EBADF : 0;
}

int sl_call_pause(struct sl_call *c, int fd, sley_time deadline)
{
    sley_time until = sl_clock_ns() + PAUSE_NS;
    int rc = sl_call_poll(c, fd, 0, until < deadline ? until : deadline); /* an error of fd ends it too */

    return rc > 0 || (rc == -ETIMEDOUT && until < deadline) ? 0 : rc;
}

/* ---- operations on files and names ---- */

#define MEMORY_TRIES 8

/* sl_call_park, and again if the kernel is short of memory for the operation. Some have their own reason for -EAGAIN (openat2: a race of
 * ".." with a rename), so not for ever. */
static int park_again(struct sl_call *c, const struct sl_op *op, sley_time deadline)
{
    int rc = -EAGAIN;

    for (int tries = 0; tries < MEMORY_TRIES && rc == -EAGAIN; tries++) {
        if (tries > 0 && (rc = sl_call_turn(c->fiber)) < 0)
            return rc;
        rc = sl_call_park(c, op, deadline);
    }
    return rc;
}

struct performance {
    const struct sl_op *op;
    _Atomic(uint8_t)    interrupted;
};

static int perform_here(void *arg) /* on a thread of the pool */
{
    struct performance *p = arg;

    return sl_perform(p->op, &p->interrupted);
}

static int announce(void *arg)
{
    struct sl_call *c = arg;
    int rc = sl_call_announce(c, c->fiber);

    return rc == 0 && c->also != NULL ? sl_call_announce_others(c) : rc;
}

int sl_call_perform_on_pool(struct sl_call *c, const struct sl_op *op, sley_time deadline)
{
    struct performance p = { .op = op };
    int rc;

    if (sl_on_thread(c))
        return sl_perform(op, NULL);
    if ((rc = sl_call_again(c)) < 0)
        return rc;
    return sl_blocking_call(perform_here, &p, deadline, announce, c, &p.interrupted);
}

int sl_call_perform(struct sl_call *c, const struct sl_op *op, sley_time deadline)
{
    if (sl_on_thread(c))
        return sl_perform(op, NULL);
    return sl_op_is_known(op->code) ? park_again(c, op, deadline) : sl_call_perform_on_pool(c, op, deadline);
}

int sl_poll_now(int fd, unsigned events)
{
    struct pollfd p = { .fd = fd, .events = (short)events };
    struct timespec none = { 0 };
    int rc;

    do
        rc = sl_sys_poll(&p, 1, &none);
    while (rc == -EINTR);
    if (rc < 0)
        return rc;
    return p.revents & POLLNVAL ? -EBADF : (unsigned short)p.revents;
}

int sl_call_poll(struct sl_call *c, int fd, unsigned events, sley_time deadline)
{
    struct sl_op op = { .code = IORING_OP_POLL_ADD, .fd = fd, .flags = events };

    return sl_on_thread(c) ? sl_thread_poll(c, fd, events, deadline) : sl_call_park(c, &op, deadline);
}
