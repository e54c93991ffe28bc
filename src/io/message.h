/* message.h - recvmsg(2) and sendmsg(2) inside a call that has begun. */
#ifndef SL_IO_MESSAGE_H
#define SL_IO_MESSAGE_H

#include "io/call.h"

/* By `code`, IORING_OP_RECVMSG or IORING_OP_SENDMSG. Descriptors that come with a message are close-on-exec; the caller adopts them. flags
 * without MSG_WAITALL. A failed receive leaves *m alone. */
int sl_message_transfer(struct sl_call *c, uint8_t code, int fd, struct msghdr *m, int flags, sley_time deadline);

#endif
