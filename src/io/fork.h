/* fork.h - in a forked child: forget the parent's calls. Each of these runs in the child's one thread, before fork returns. Locks are
 * reset because another of the parent's threads may have held them; eventfds are shared with the parent, so the child makes its own. */
#ifndef SL_IO_FORK_H
#define SL_IO_FORK_H

void sl_record_reset(void);
void sl_descriptor_reset(void);
void sl_thread_io_reset(void);
void sl_signal_reset(void);
void sl_stream_reset(void);

#endif
