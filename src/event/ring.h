/* ring.h - what one worker sleeps on: its io_uring, or, where that is refused, an epoll that stands in for it (epoll.c).
 *
 * The epoll takes no operations, only polls and the doorbell. What it reports comes out of the same queue of completions, here one in
 * plain memory, so that whoever reaps, sleeps or helps need not know which it is.
 *
 *   R1  Only the owner fills SQEs. It publishes the tail after each one is complete; then anybody may call enter for it, and the
 *       kernel's own lock orders them. A thread that submits lends its task to the requests, so only workers do.
 *   R2  The CQ's head moves only under cq_lock. A sleeping owner holds it across its enter, so that nobody eats the completion that
 *       was to wake it.
 *   R3  The ring's flags are COOP_TASKRUN | TASKRUN_FLAG | SUBMIT_ALL | CLAMP | CQSIZE, never SINGLE_ISSUER: helpers submit and cancel.
 *       Older kernels get what they know; SLEY_DISABLE takes flags away too (plat/feature.h).
 *   R4  Of an epoll: `soft` is filled by the owner alone, and emptied under cq_lock, like a CQ; helpers hand on what they find in the
 *       epoll directly. A poll is EPOLLONESHOT and carries its name; it is never taken out: its end, when asked for, is told at once, and
 *       what a forgotten one reports later is nobody's. The doorbell is edge-triggered and stays armed.
 *
 * order [ring.1]: the owner stores the SQ tail with release after the SQE is written; the kernel acquires it in enter.
 * order [ring.2]: the kernel releases the CQ tail; the reaper acquires it before it reads CQEs, and releases the head after. */
#ifndef SL_RING_H
#define SL_RING_H

#include "base/limits.h"
#include "base/lock.h"
#include "event/buffers.h"

#include <liburing.h>
#include <stdint.h>

struct sl_completion {
    uint64_t user_data;
    int32_t  result;
    uint32_t flags;
};

struct sl_ring {
    struct io_uring uring;       /* liburing's view: set-up and mappings; the hot path reads the pointers below */
    int             fd;
    unsigned        sq_entries, cq_entries, sq_mask, cq_mask;
    unsigned        sq_local;    /* owner: SQEs filled so far; ahead of the published tail while one is being filled */
    _Atomic(unsigned) *sq_head;  /* the kernel's */
    _Atomic(unsigned) *sq_tail;  /* the owner's */
    _Atomic(unsigned) *sq_flags; /* the kernel's */
    _Atomic(unsigned) *cq_head;  /* under cq_lock */
    _Atomic(unsigned) *cq_tail;  /* the kernel's */
    unsigned        setup_flags;
    uint64_t        ops;         /* the operations that the kernel knows, a bit each by number; those from 64 on are not asked for */
    struct sl_lock  cq_lock;
    int             epoll_fd;    /* < 0: it is an io_uring */
    struct sl_completion *soft;  /* R4: cq_entries of them */
    _Atomic(unsigned) words[5];  /* R4: what the pointers above point to */
    struct sl_ring *next_ring;   /* of all; this and the next two as in buffers.h */
    bool            has_slots;   /* it was granted a table of them */
    _Atomic(uint64_t) slots[SL_BUFFER_SLOTS / 64]; /* those of which it knows the piece */
};

/* entries: SQEs wanted; halved when memory is short. 0; -errno: io_uring is refused (EPERM, ENOSYS), lacks what is needed
 * (EOPNOTSUPP), or no memory even for the smallest. */
int  sl_ring_init(struct sl_ring *r, unsigned entries);
int  sl_ring_init_epoll(struct sl_ring *r); /* 0; -errno */
void sl_ring_fini(struct sl_ring *r);
void sl_ring_describe(const struct sl_ring *r, char *text, size_t bytes);

/* Does the kernel know REGISTER_SYNC_CANCEL? Asked on a real ring. */
bool sl_ring_has_sync_cancel(const struct sl_ring *r);

/* Does the kernel know the operation `code`? Its own answer, asked for when the ring was set up; numbers that are none of its own: no. */
static inline bool sl_ring_knows(const struct sl_ring *r, unsigned code)
{
    return code < 64 && r->ops >> code & 1;
}

static inline bool sl_ring_has_room(const struct sl_ring *r) /* owner */
{
    return r->sq_local - sl_load_acquire(r->sq_head) < r->sq_entries; /* [ring.1] the kernel has copied what it consumed */
}

/* Owner: a free SQE, zeroed, or NULL if the queue is full; it counts as filled at once and is seen by the kernel after sl_ring_publish. */
static inline struct io_uring_sqe *sl_ring_sqe(struct sl_ring *r)
{
    struct io_uring_sqe *sqe;

    if (!sl_ring_has_room(r))
        return NULL;
    sqe = &r->uring.sq.sqes[r->sq_local++ & r->sq_mask];
    for (size_t i = 0; i < sizeof *sqe / sizeof(uint64_t); i++) /* no memset: ThreadSanitizer would take it for a race of two contexts */
        ((volatile uint64_t *)sqe)[i] = 0;
    return sqe;
}

/* The operation in sqe, IORING_OP_READ or IORING_OP_WRITE, is on memory of this slot: if the ring knows it, make it the one for that. */
static inline bool sl_ring_use_slot(struct sl_ring *r, struct io_uring_sqe *sqe, unsigned slot)
{
    if (!(sl_load_relaxed(&r->slots[slot / 64]) >> slot % 64 & 1)) /* G3 */
        return false;
    sqe->opcode = sqe->opcode == IORING_OP_READ ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
    sqe->buf_index = (uint16_t)slot;
    return true;
}

static inline void sl_ring_publish(struct sl_ring *r)
{
    sl_store_release(r->sq_tail, r->sq_local); /* [ring.1] */
}

/* SQEs published and not yet taken by the kernel; anybody, a hint for others than the owner. */
static inline unsigned sl_ring_unsubmitted(const struct sl_ring *r)
{
    return sl_load_relaxed(r->sq_tail) - sl_load_acquire(r->sq_head); /* [ring.1] */
}

static inline bool sl_ring_has_completions(const struct sl_ring *r)
{
    return sl_load_relaxed(r->cq_head) != sl_load_acquire(r->cq_tail); /* [ring.2] */
}

/* The same, where only the kernel knows: true of any epoll. */
static inline bool sl_ring_may_have_completions(const struct sl_ring *r)
{
    return r->epoll_fd >= 0 || sl_ring_has_completions(r);
}

/* The kernel holds task work or overflown completions that an enter would deliver. */
static inline bool sl_ring_wants_enter(const struct sl_ring *r)
{
    return sl_load_relaxed(r->sq_flags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

/* Submit what is published and run pending task work, without waiting. Result of enter: SQEs taken, or -errno (-EAGAIN, -EBUSY: they stay
 * queued). Owner, or another worker that helps (helpers run no task work of the owner's). */
int sl_ring_submit(struct sl_ring *r, bool owner);

/* Owner, holding cq_lock: submit, then wait for one completion until `deadline` (INT64_MAX: no limit). */
int sl_ring_wait(struct sl_ring *r, int64_t deadline, int64_t now);

/* Holding cq_lock: move up to max completions to out; how many. */
unsigned sl_ring_reap(struct sl_ring *r, struct sl_completion *out, unsigned max);

/* Ask synchronously for the cancel of what has this user_data; any worker. -ENOENT: the kernel has nothing of that name. */
int sl_ring_sync_cancel(struct sl_ring *r, uint64_t user_data);

/* Of an epoll, by its owner, which has seen to it that `soft` has room: report once when fd is ready for events. It cannot fail: what the
 * kernel refuses is a completion. */
void sl_ring_poll_epoll(struct sl_ring *r, int fd, uint32_t events, uint64_t user_data);
void sl_ring_note(struct sl_ring *r, uint64_t user_data, int32_t result); /* a completion of the owner's own making; room as above */
int  sl_ring_doorbell_epoll(struct sl_ring *r, int fd, uint64_t user_data); /* 0; -errno */

static inline unsigned sl_ring_soft_room(const struct sl_ring *r) /* owner */
{
    return r->cq_entries - (sl_load_relaxed(r->cq_tail) - sl_load_acquire(r->cq_head)); /* [ring.2] */
}

/* epoll.c, for ring.c */
int      sl_epoll_wait(struct sl_ring *r, int64_t wait_ns);
unsigned sl_epoll_reap(struct sl_ring *r, struct sl_completion *out, unsigned max);
void     sl_epoll_fini(struct sl_ring *r);

#endif
