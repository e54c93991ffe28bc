/* fork.c - see fork.h. */
#include "io/fork.h"
#include "io/group.h"
#include "sched/fork.h"

void sl_fd_reset_after_fork(void)
{
    sl_group_reset();
    sl_record_reset();
    sl_descriptor_reset();
    sl_thread_io_reset();
    sl_signal_reset();
    sl_stream_reset();
}
