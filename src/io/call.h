/* call.h - what every call on a descriptor does: it enters the record, tries, waits through a ring (a plain thread: in poll), leaves.
 *
 * The parts are inlined into the public calls, so that one C frame stands between them and the switch. A call describes what it wants
 * from the kernel as a struct sl_op and hands it to sl_call_park: the one place where an operation meets a backend. */
#ifndef SL_IO_CALL_H
#define SL_IO_CALL_H

#include "io/record.h"
#include "io/sys.h"
#include "plat/cpu.h"

#include <linux/io_uring.h>

#define SL_INLINE static inline __attribute__((always_inline))

#define SL_IO_BYTES_MAX ((size_t)0x7ffff000) /* the kernel's bound of one transfer */

int sl_call_turn(struct sl_fiber *f);           /* after a streak of results without parking: let others run; 0; -ECANCELED */
int sl_call_link_slow(struct sl_call *c);       /* the record is being closed or released: wait for that; 0 linked; -EBADF */
int sl_call_again(struct sl_call *c);           /* before the next step of a call of several: 0; -ECANCELED, -EBADF */
int sl_call_begin_at(struct sl_call *c, int dirfd, const char *path, sley_time deadline); /* sl_call_begin on a path */
int sl_call_announce_others(struct sl_call *c); /* sl_call_announce for those that are `also` of the call */
int sl_call_poll(struct sl_call *c, int fd, unsigned events, sley_time deadline); /* until ready: the events, or -errno */
int sl_poll_now(int fd, unsigned events);       /* the events that are, 0 or -EBADF */
int sl_call_mode(int fd, unsigned events);      /* before waiting for what cannot be tried: 0; -EBADF: it is not open for that */

/* fd is ready, and yet what is to be done with it cannot be done: nothing tells when it can, so it is tried again after a while. 0: do;
 * -errno. */
int sl_call_pause(struct sl_call *c, int fd, sley_time deadline);

/* An operation on a file or a name, which io_uring hands to a worker of its own, so it waits wherever it is done. Through the ring, which
 * costs 2 to 6 microseconds of processor time, the more the less is to do; on the pool of sley_blocking, which costs 6 to 12, if the kernel
 * has no such operation, which is always so for enum sl_op_code; by a plain thread itself. Its result, or as sl_call_park: a call on the
 * pool is cut short like one in a ring, by a signal to its thread. deadline is not SLEY_NOW. */
int sl_call_perform(struct sl_call *c, const struct sl_op *op, sley_time deadline);

/* The same on the pool, whatever the ring could do. */
int sl_call_perform_on_pool(struct sl_call *c, const struct sl_op *op, sley_time deadline);

/* perform.c: do it here and now, whatever it waits for. -EINTR only if *interrupted; NULL: never. */
int sl_perform(const struct sl_op *op, const _Atomic(uint8_t) *interrupted);

/* Operations that io_uring does not have. As with its own, offsets are -1 for "at the position". */
enum sl_op_code {
    SL_OP_READLINKAT = 0xe0, /* fd, addr: path, off: buffer, len */
    SL_OP_LINKAT_FD,         /* as IORING_OP_LINKAT, which knows AT_EMPTY_PATH only since Linux 5.18 */
    SL_OP_SYNC_FILE_RANGE,   /* as IORING_OP_SYNC_FILE_RANGE and IORING_OP_FADVISE, but addr: the length, in 64 bits */
    SL_OP_FADVISE,
    SL_OP_GETDENTS,          /* fd, addr: buffer, len */
    SL_OP_COPY_FILE_RANGE,   /* fd, off: out, fd_in, addr: in, len, flags; as IORING_OP_SPLICE */
    SL_OP_FLOCK,             /* fd, flags: operation */
    SL_OP_FCHMOD,            /* fd, len: mode */
    SL_OP_CODES
};

/* thread_io.c */
int sl_thread_poll(struct sl_call *c, int fd, unsigned events, sley_time deadline); /* sl_call_poll on a plain thread */
int sl_thread_connect(int fd, const struct sockaddr *addr, socklen_t addr_bytes); /* begin to connect; -EINPROGRESS: wait for POLLOUT */

/* without_ring.c: what op stands for, on a fiber whose runtime has no rings. As sl_call_park, but never -EAGAIN for want of readiness. */
int sl_call_without_ring(struct sl_call *c, const struct sl_op *op, sley_time deadline);

/* wait.c: wait for one end of the record's poll, which covers `events`. 0: look again; -errno. */
int sl_call_wait_ready(struct sl_call *c, int fd, unsigned events, sley_time deadline);

/* wait.c: on the worker in whose ring it shall be, see to it that a poll for `events` is armed; unless the descriptor is being closed, or
 * has been (its record's generation). Its end is told to the descriptor's group. */
void sl_fd_watch(int fd, uint32_t generation, unsigned events);

/* From here to the end no cancel reaches f, which is the caller: sley_shield_begin, for the room's own use. */
SL_INLINE void sl_shield_begin(struct sl_fiber *f)
{
    sl_store_relaxed(&f->shields, (uint8_t)(sl_load_relaxed(&f->shields) + 1)); /* own */
}

SL_INLINE void sl_shield_end(struct sl_fiber *f)
{
    sl_store_relaxed(&f->shields, (uint8_t)(sl_load_relaxed(&f->shields) - 1)); /* own */
}

SL_INLINE bool sl_on_thread(const struct sl_call *c)
{
    return __builtin_expect(c->fiber->flags & SL_FIBER_THREAD, 0);
}

/* Link the call into its record. */
SL_INLINE int sl_call_link(struct sl_call *c)
{
    struct sl_record *r = c->record;

    c->also = NULL;
    c->sequence = 0;
    c->cut = false;
    c->prev = NULL;
    sl_lock_acquire(&r->lock);
    if (__builtin_expect(r->phase != SL_PHASE_OPEN, 0)) {
        sl_lock_release(&r->lock);
        return sl_call_link_slow(c);
    }
    c->next = r->calls;
    if (c->next != NULL)
        c->next->prev = c;
    r->calls = c;
    sl_lock_release(&r->lock);
    return 0;
}

/* A try does not wait, whatever comes of it: it counts, so that a loop of them lets others run and notices a cancel. */
SL_INLINE void sl_call_try(struct sl_call *c, sley_time deadline)
{
    if (deadline == SLEY_NOW && c->fiber->streak < SL_DIRECT_STREAK)
        c->fiber->streak++;
}

/* Begin a call on fd. 0: end it with sl_call_end; else nothing was begun. */
SL_INLINE int sl_call_begin(struct sl_call *c, int fd, sley_time deadline)
{
    int rc = sl_deadline_check(deadline);

    if (rc < 0)
        return rc;
    c->fiber = sl_current();
    if (__builtin_expect(c->fiber->streak >= SL_DIRECT_STREAK, 0) && (rc = sl_call_turn(c->fiber)) < 0)
        return rc;
    sl_call_try(c, deadline);
    c->record = sl_record_at(fd, &rc);
    return __builtin_expect(c->record != NULL, 1) ? sl_call_link(c) : rc;
}

/* Begin a call that concerns no descriptor. */
SL_INLINE int sl_call_begin_free(struct sl_call *c, sley_time deadline)
{
    int rc = sl_deadline_check(deadline);

    if (rc < 0)
        return rc;
    c->fiber = sl_current();
    c->also = NULL;
    c->record = NULL;
    sl_call_try(c, deadline);
    return c->fiber->streak >= SL_DIRECT_STREAK ? sl_call_turn(c->fiber) : 0;
}

SL_INLINE void sl_call_end(struct sl_call *c)
{
    struct sl_record *r = c->record;
    struct sl_woken closer = { NULL, NULL };

    if (r == NULL)
        return;
    sl_lock_acquire(&r->lock);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        r->calls = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    if (__builtin_expect(r->phase != SL_PHASE_OPEN, 0))
        sl_record_claim_closer(r, &closer);
    sl_lock_release(&r->lock);
    if (__builtin_expect(closer.first != NULL, 0))
        sl_ready(closer.first);
}

/* Two calls that have begun are one: who closes either descriptor ends it. */
SL_INLINE void sl_call_join(struct sl_call *a, struct sl_call *b)
{
    a->also = b;
    b->also = a;
}

/* A direct system call gave a result. */
SL_INLINE int sl_call_direct(struct sl_call *c, int n)
{
    if (c->fiber->streak < SL_DIRECT_STREAK)
        c->fiber->streak++;
    return n;
}

/* The wait that f has begun is c's: where a closer looks for it. 0; -EBADF, -ECANCELED: it may not begin. */
SL_INLINE int sl_call_announce(struct sl_call *c, struct sl_fiber *f)
{
    int rc = 0;

    if (c->record == NULL) {
        sl_fence_seq_cst(); /* in place of the lock: pair [cancel.1] */
        return sl_cancelled(f) ? -ECANCELED : 0;
    }
    sl_lock_acquire(&c->record->lock);
    if (c->record->phase != SL_PHASE_OPEN) {
        rc = -EBADF;
    } else if (sl_cancelled(f)) {
        rc = -ECANCELED;
    } else {
        c->sequence = sl_wait_sequence(f);
        c->cut = false;
    }
    sl_lock_release(&c->record->lock);
    return rc;
}

/* Hand op to a ring and park until it has ended. Its result, which may be -EAGAIN; or -ETIMEDOUT, -ECANCELED, -EBADF (closed). Not on a
 * plain thread. */
SL_INLINE int sl_call_park(struct sl_call *c, const struct sl_op *op, sley_time deadline)
{
    struct sl_fiber *f = c->fiber;
    unsigned refused = 0;

    if (__builtin_expect(f->flags & SL_FIBER_NO_RING, 0))
        return sl_call_without_ring(c, op, deadline);
    for (;;) {
        int rc = sl_wait_begin(f, deadline, SL_WAIT_IO, NULL);

        if (rc < 0)
            return rc;
        rc = sl_call_announce(c, f);
        if (__builtin_expect(c->also != NULL, 0) && rc == 0)
            rc = sl_call_announce_others(c);
        if (rc < 0) {
            sl_wait_end(f);
            return rc;
        }
        rc = sl_op_park(f, op);
        if (__builtin_expect(rc != -EINTR && rc != SL_OP_NO_ROOM, 1))
            return rc;
        if (rc == SL_OP_NO_ROOM && (rc = sl_op_wait_for_room(refused++, deadline)) < 0)
            return rc;
        if (deadline != SLEY_FOREVER && sl_clock_ns() >= deadline)
            return -ETIMEDOUT;
    }
}

#endif
