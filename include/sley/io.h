/* sley/io.h - bytes through any descriptor: file, socket, pipe, device.
 *
 * One rule for the calls by descriptor here, in fs.h and in net.h: sley_NAME has the arguments of NAME(2) in their order, then a
 * deadline; it returns a count, a descriptor or 0, or -errno; flags are the system's. Calls that never block (socket, bind,
 * listen, setsockopt, lseek, fcntl) have no wrapper: use libc's. Descriptors may be blocking or not, and come from anywhere; close
 * them with sley_close. New descriptors are close-on-exec, those made by sley_accept and sley_net_listen are non-blocking too. No call
 * raises SIGPIPE; it is -EPIPE. With SLEY_NOW a read or write of a file is -ETIMEDOUT if its pages are not at hand, -EOPNOTSUPP if the
 * file system cannot say. */
#ifndef SLEY_IO_H
#define SLEY_IO_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

struct iovec;

SLEY_API SLEY_MUST_USE int sley_read(int fd, void *buf, size_t bytes, sley_time deadline);         /* 0: end of file or stream */
SLEY_API SLEY_MUST_USE int sley_write(int fd, const void *buf, size_t bytes, sley_time deadline);  /* may be short */
SLEY_API SLEY_MUST_USE int sley_readv(int fd, const struct iovec *v, int n, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_writev(int fd, const struct iovec *v, int n, sley_time deadline); /* may be short, in the middle of a buffer */
SLEY_API SLEY_MUST_USE int sley_pread(int fd, void *buf, size_t bytes, off_t offset, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_pwrite(int fd, const void *buf, size_t bytes, off_t offset, sley_time deadline);

/* The _all forms go on after short transfers. read_all: fewer only at the end, or when an error came after them; at most INT_MAX. That a
 * connection is lost, the next receive on the descriptor returns; whatever else stood in the way the next call meets by itself. write_all
 * and send_all: 0 for all of it; after an error some of it may have gone. */
SLEY_API SLEY_MUST_USE int sley_read_all(int fd, void *buf, size_t bytes, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_write_all(int fd, const void *buf, size_t bytes, sley_time deadline);

SLEY_API SLEY_MUST_USE int sley_sendfile(int out_fd, int in_fd, off_t *offset, size_t bytes, sley_time deadline);

/* One end at least is a pipe; the other, if it is no file, is non-blocking afterwards. May be short. */
SLEY_API SLEY_MUST_USE int sley_splice(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t bytes, unsigned flags, sley_time deadline);

/* Give fd back. Calls in flight on it end with -EBADF first, so its number cannot come back under one. Never refused, never cancelled. A socket
 * that lingers (SO_LINGER) does so here, and its fiber waits. */
SLEY_API int sley_close(int fd);

SLEY_API int sley_fd_wait(int fd, int events, sley_time deadline); /* until readable or writable: those of POLLIN, POLLOUT... that are */

/* Memory registered with every ring: reads and writes of files inside it use the fixed-buffer operations by themselves. Few and large ones:
 * up to 256 of up to 256 MiB, and as far as the limit of locked memory allows (ulimit -l); what is beyond is ordinary memory, and the same
 * to use. It has all its pages at once. Never cancelled; large ones take milliseconds. */
SLEY_API SLEY_MUST_USE void *sley_iobuf_alloc(size_t bytes); /* page-aligned, so good for O_DIRECT; NULL: no memory */
SLEY_API void sley_iobuf_free(void *buf);

SLEY_END_DECLS
#endif
