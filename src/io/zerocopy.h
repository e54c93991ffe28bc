/* zerocopy.h - sends with MSG_ZEROCOPY, inside a call that has begun. They fall back to copying by themselves. */
#ifndef SL_IO_ZEROCOPY_H
#define SL_IO_ZEROCOPY_H

#include "io/call.h"

/* As sley_send, sley_send_all and sley_sendmsg; flags has MSG_ZEROCOPY. On return the kernel has nothing of the memory any more. */
int sl_zerocopy_send(struct sl_call *c, int fd, const void *buf, size_t bytes, int flags, sley_time deadline);
int sl_zerocopy_send_all(struct sl_call *c, int fd, const void *buf, size_t bytes, int flags, sley_time deadline);
int sl_zerocopy_sendmsg(struct sl_call *c, int fd, const struct msghdr *m, int flags, sley_time deadline);

#endif
