/* fork.c - see fork.h. The handler runs in the child, in the only thread it has, before fork returns. */
#include "sched/fork.h"

#include "ctx/stack.h"
#include "event/buffers.h"

#include <pthread.h>

_Atomic(uint8_t) sl_forked;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void in_child(void)
{
    sl_thread_reset_after_fork();
    sl_stack_reset_after_fork();
    sl_big_stack_reset_after_fork();
    sl_fiber_reset_after_fork();
    sl_buffers_reset_after_fork();
    sl_fd_reset_after_fork();
    sl_store_relaxed(&sl_forked, 1); /* one thread */
}

static void watch(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

void sl_fork_watch(void)
{
    pthread_once(&once, watch);
    sl_store_relaxed(&sl_forked, 0); /* a child's first runtime: made by its one thread */
}
