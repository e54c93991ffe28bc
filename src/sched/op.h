/* op.h - one operation handed to the kernel through a ring, described without the ring's structures, so that every backend (and a
 * simulator) can take it.
 *
 *   O1  From WAITING_IO to the final completion the operation's buffers belong to the kernel: the fiber does not return before.
 *   O2  A completion finds its fiber by (index 32, sequence 24, kind 8); one that comes late meets a sequence that has moved on.
 *   O3  Cancel is asked for by whoever moves (sequence, WAITING_IO, arm 0) to an arm that says why; once, and again as long as the kernel
 *       answers that it did not find the operation, or could not stop it. It only asks; the final completion ends the wait. A result
 *       that raced with it wins.
 *   O4  A send that does not copy (IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC) completes twice under one name: with its result, which ends
 *       the wait, and, if that says F_MORE, with a notice: until then its buffers belong to the kernel all the same (O1). No cancel
 *       brings a notice. Its fiber counts them in a struct sl_notices and leaves the call with none due, so the name finds the fiber
 *       still there. Two workers that reap may count the notice before the result: the count is below zero then, and nobody looks at
 *       it before the result has come. */
#ifndef SL_OP_H
#define SL_OP_H

#include "ctx/stack.h"
#include "sched/park.h"

#include <limits.h>

struct sl_worker;

struct sl_op {
    uint8_t  code;    /* the kernel's IORING_OP_ numbers */
    uint16_t ioprio;  /* as in an SQE */
    int32_t  fd;
    uint64_t addr;
    uint64_t off;
    uint32_t len;
    uint32_t flags;   /* the op_flags word of an SQE: rw_flags, msg_flags, open_flags, statx_flags... */
    int32_t  fd_in;   /* of IORING_OP_SPLICE */
    uint16_t slot;    /* of IORING_OP_READ and IORING_OP_WRITE in memory that the rings know (event/buffers.h): its slot + 1 */
};

/* Whether the kernel has the operation `code`, and SLEY_DISABLE leaves it; the caller is on a worker. What nobody asks for was asked for
 * when the ring was made, which is refused without it. */
bool sl_op_is_known(uint8_t code);

/* Hand op to this worker's ring and park until its final completion. The fiber (never a plain thread) has called sl_wait_begin.
 * The kernel's result; or, if the operation was cancelled, -ETIMEDOUT, -ECANCELED or -EBADF by who asked. SL_OP_NO_ROOM: the ring is full
 * and the kernel takes nothing out of it now; nothing was begun. No kernel says that, so no caller's -EAGAIN is mistaken for it. */
int sl_op_park(struct sl_fiber *f, const struct sl_op *op);

#define SL_OP_NO_ROOM INT_MIN

/* After SL_OP_NO_ROOM, `tries` times in a row before this one: let others run, at first for a turn, then for a while. There may be room in
 * the ring of the worker that the fiber is on by then; the caller begins its wait anew, which also tells whether its descriptor is being
 * closed. 0; -ETIMEDOUT, -ECANCELED. */
int sl_op_wait_for_room(unsigned tries, sley_time deadline);

/* On the stack of a call, from before its first zero-copy send until none is due (O4). */
struct sl_notices {
    struct sl_lock       lock;
    int                  due;    /* under the lock; counted by who reaps */
    struct sl_wait_node *waiter; /* under the lock: the fiber, if it waits for the last one; else NULL */
};

/* From now on those of f, the caller's own, are *n, which is zero. */
static inline void sl_notices_are(struct sl_fiber *f, struct sl_notices *n)
{
    f->stack->notices = n;
    sl_tsan_release(&f->stack); /* WAITING_IO, which says it to the reaper, is stored by the next context */
}

/* Ask for the cancel of the operation that f began as `sequence`, because of `arm`. From any thread. If f is still on its way to the
 * kernel this waits for it, tens of nanoseconds. If f waits in a list instead (for its turn on the pool) it is claimed. */
void sl_op_cancel(struct sl_fiber *f, uint64_t sequence, unsigned arm);

/* Polls that belong to a descriptor's record rather than to a fiber. A poll is one-shot; its end is told to sl_fd_poll_done.
 * sl_poll_reserve makes room for `n` submissions and may enter the kernel, so call it before taking a lock; only on a worker.
 * sl_poll_arm then cannot fail; it returns the worker whose ring has the poll. `tag` is 24 bits, with fd it names the poll. */
void sl_poll_reserve(unsigned n);
struct sl_worker *sl_poll_arm(int fd, unsigned events, uint32_t tag);
bool sl_poll_may_have_ended(void); /* this worker's ring: what is queued is the kernel's now, and something has completed; no lock held */
void sl_poll_cancel(struct sl_worker *w, int fd, uint32_t tag); /* ask; sl_fd_poll_done still comes. From any thread, no lock held */

/* Provided by src/io: the poll named (fd, tag) has ended with revents or -errno. On a worker, outside all locks. */
void sl_fd_poll_done(int fd, uint32_t tag, int result);

/* Provided by src/io: a plain thread blocks in the system call of f's wait; interrupt it, its arm has been set. */
void sl_thread_io_wake(struct sl_fiber *f);

/* Provided by src/io: a plain thread waits in poll(2) for descriptors and for this bell, and has been claimed. */
void sl_thread_io_ring(int bell);

/* For src/io (ready.c): a plain thread at the end of a wait on several objects, which it spends in poll(2) instead of on its futex.
 * Commit; false: it has been claimed already (M1), by somebody who does not ring. Else: once ready, by sl_ready, the bell rings; or the
 * thread claims itself, for an arm of the word; false: somebody else has, so sl_ready is on its way. Leave either way. */
bool     sl_thread_commit(struct sl_fiber *f, int bell);
bool     sl_thread_is_ready(const struct sl_fiber *f);
bool     sl_thread_claim_self(struct sl_fiber *f, unsigned arm);
unsigned sl_thread_leave(struct sl_fiber *f); /* the arm of the word, which is IDLE again */

/* Provided by src/io: rt's workers have ended, or never were; its rings are about to go, and polls in them with them. When it has
 * stopped, and again when it is destroyed. */
void sl_fd_runtime_gone(struct sley_runtime *rt);

#endif
