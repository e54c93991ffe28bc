/* call.c - the rarer steps of a call on a descriptor. */
#include "io/call.h"

#include <sley/fiber.h>

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
    struct sl_record *r = c->record;
    int rc = 0;

    if (c->fiber->streak >= SL_DIRECT_STREAK && (rc = sl_call_turn(c->fiber)) < 0)
        return rc;
    sl_lock_acquire(&r->lock);
    if (r->phase != SL_PHASE_OPEN)
        rc = -EBADF;
    sl_lock_release(&r->lock);
    return rc;
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
