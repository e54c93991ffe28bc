/* arms.h - descriptors and signals as arms of a select (sched/arm.h), and how a plain thread waits for them: it has no ring.
 *
 * What a select does with them, besides the arms' functions:
 *   before it looks for the first time, once, and not again when it starts over: sl_io_arms_begin. From there on a descriptor that is
 *     closed, and a signal that is given to somebody else, is not missed, whatever happens between two of its looks.
 *   when all arms are linked: sl_park_many_on in place of sl_park_many. On a fiber the two are the same.
 *   at the end, and before it starts over: disarm, once for every arm that was linked, the one that won too. Nothing has to be put back:
 *     an arm that was not claimed has taken nothing.
 * While an arm is not linked, its node's `result` and `next` are the arm's own, until it fires. */
#ifndef SL_IO_ARMS_H
#define SL_IO_ARMS_H

#include "sched/arm.h"

#include <sley/select.h>

extern const struct sl_arm_ops sl_fd_arm;     /* wait.c: the events that are ready, or -errno; -EBADF: closed, or none */
extern const struct sl_arm_ops sl_signal_arm; /* signal.c: the signal's number, or -errno */

void sl_fd_arm_begin(struct sl_wait_node *n);
void sl_signal_arm_begin(struct sl_wait_node *n);

static inline void sl_io_arms_begin(struct sl_wait_node *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (nodes[i].kind == SLEY_CASE_FD)
            sl_fd_arm_begin(&nodes[i]);
        else if (nodes[i].kind == SLEY_CASE_SIGNAL)
            sl_signal_arm_begin(&nodes[i]);
    }
}

/* thread_io.c: sl_park_many of a plain thread, in poll(2) if there are descriptors or signals among the nodes, all of which are linked.
 * The claimer's arm; or -ENOMEM, -EMFILE..., if it could not wait: then the wait is over and nobody has claimed it. In either case
 * the nodes are still to be disarmed. */
int sl_thread_park_polling(struct sl_fiber *f, struct sl_wait_node *nodes, size_t n);

static inline __attribute__((always_inline)) int sl_park_many_on(struct sl_fiber *f, struct sl_wait_node *nodes, size_t n)
{
    return f->flags & SL_FIBER_THREAD ? sl_thread_park_polling(f, nodes, n) : (int)sl_park_many();
}

/* --- between the files of this room --- */

int  sl_signal_bell(void);      /* the eventfd that becomes readable when a signal has come; while an arm of one is linked */
void sl_signal_bell_rang(void); /* silence it, hand out what has come; no lock is held */

bool sl_signal_poll_done(int fd, uint32_t tag, int result); /* see sl_fd_poll_done; false: it was no poll of the bell */
void sl_signal_runtime_gone(struct sley_runtime *rt);       /* see sl_fd_runtime_gone */

#endif
