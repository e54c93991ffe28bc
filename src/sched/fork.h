/* fork.h - after fork(2) the child has one thread and a copy of everything: rings and eventfds that are its parent's, fibers without
 * workers. Every call that would wait, and every start of a fiber, is -ECHILD there, until the child makes a runtime of its own. */
#ifndef SL_FORK_H
#define SL_FORK_H

#include "base/atomic.h"

extern _Atomic(uint8_t) sl_forked; /* 1 in a child that has made no runtime yet */

/* Called when a runtime is created: watch for forks from now on; if this is a child, begin anew. */
void sl_fork_watch(void);

void sl_thread_reset_after_fork(void); /* thread.c: a plain thread stays itself, a worker becomes one */
void sl_fiber_reset_after_fork(void); /* fiber.c: the shared list may have been caught half changed */
void sl_big_stack_reset_after_fork(void); /* big_stack.c: its cache may have been */
void sl_fd_reset_after_fork(void);    /* provided by src/io: no call of the parent's fibers is in flight here */

#endif
