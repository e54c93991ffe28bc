/* thread_io.h - for the core: how a plain thread that waits for a descriptor is reached. */
#ifndef SL_IO_THREAD_IO_H
#define SL_IO_THREAD_IO_H

struct sl_fiber;

/* The word of f, a plain thread's block, was moved from (sequence, WAITING_IO, arm 0) to an arm: make the thread look. From any thread. */
void sl_thread_io_wake(struct sl_fiber *f);

#endif
