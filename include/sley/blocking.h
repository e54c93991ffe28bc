/* sley/blocking.h - calls that block a thread, on a pool, while other fibers go on. */
#ifndef SLEY_BLOCKING_H
#define SLEY_BLOCKING_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

/* Run fn(arg) on a pool thread; its result. The deadline, and cancellation, count until it has begun: then it runs to its end. It begins at
 * once if a thread is idle or can be made. -EAGAIN: there is none, and none can be made. On a plain thread fn is simply called. */
SLEY_API int sley_blocking(sley_fn *fn, void *arg, sley_time deadline);

SLEY_END_DECLS
#endif
