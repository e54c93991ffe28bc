/* sley/stream.h - a buffered reader and writer over a descriptor. It borrows the descriptor; one reader and one writer at a time.
 * An idle stream holds no buffer. A read that fails leaves what has come in the stream.
 *
 * descriptor  stream socket, pipe, terminal, file: what sley_read and sley_write take. Close it with sley_close: calls in flight on the
 *             stream end with -EBADF, and so does every later one that needs the descriptor, even if its number has come back.
 * users       a reader (read, peek, data, skip) and a writer (write, printf, flush) may be at work at once, on two fibers; two readers
 *             or two writers at once are a bug, and so is destroying a stream that somebody uses. A copy reads one and writes the other.
 * reading     the end is 0, and the next read asks again: a file may have grown. So does one after an error, but for an error that
 *             means that the connection is lost (-ECONNRESET...): that stays, for every later read that needs more than is buffered.
 * writing     a write that fails has taken nothing: what was taken before stays, in its order, and the write may be made again. There is
 *             one exception: it was longer than 16,384 bytes, and a part has gone. Then nothing can follow that makes sense, and
 *             every later write, printf, flush and copy to the stream is -EPIPE. A flush that fails has sent some of what was taken;
 *             the next one goes on where it stopped. SIGPIPE is never raised.
 * memory      buffers of 16,384 bytes, shared by all streams; longer lines and peeks get memory of their own, up to 1 GB. -ENOMEM: there
 *             is none; nothing was taken or lost. */
#ifndef SLEY_STREAM_H
#define SLEY_STREAM_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

typedef struct sley_stream sley_stream;
struct iovec;

SLEY_API SLEY_MUST_USE sley_stream *sley_stream_create(int fd);  /* NULL: no memory */
SLEY_API void sley_stream_destroy(sley_stream *s);               /* drops what was not flushed; fd stays open */
SLEY_API int  sley_stream_fd(const sley_stream *s);

SLEY_API SLEY_MUST_USE int sley_stream_read(sley_stream *s, void *buf, size_t bytes, sley_time deadline);      /* 0: end */
SLEY_API SLEY_MUST_USE int sley_stream_read_all(sley_stream *s, void *buf, size_t bytes, sley_time deadline);  /* as sley_read_all */

/* Take one line, as getline: with its '\n', then a NUL; or bytes up to a mark.
 * shape:  buf -> bytes writable bytes, untouched unless something was read; of a line the NUL is one of them
 *         mark -> mark_bytes bytes, at least one (0: -EINVAL)
 * parks:  yes; the fiber may go on on another thread
 * result: how many bytes, with the '\n' or the mark and without the NUL; at the end of the descriptor what is left, without one; then 0
 *         -EMSGSIZE: longer than buf. -EMSGSIZE, -ETIMEDOUT and every other error: all that has come stays
 * source: src/io/stream_read.c */
SLEY_API SLEY_MUST_USE int sley_stream_read_line(sley_stream *s, char *buf, size_t bytes, sley_time deadline); /* as getline: with '\n', then NUL; -EMSGSIZE: longer than buf */
SLEY_API SLEY_MUST_USE int sley_stream_read_until(sley_stream *s, void *buf, size_t bytes, const void *mark, size_t mark_bytes, sley_time deadline); /* mark included; -EMSGSIZE */

SLEY_API SLEY_MUST_USE int sley_stream_peek(sley_stream *s, size_t bytes, sley_time deadline); /* wait until so many are buffered; how many are: fewer at the end alone. 0 bytes: does not wait */
SLEY_API const void *sley_stream_data(const sley_stream *s);                                  /* the buffered bytes, until the next call on s (of its reader); NULL: none are */
SLEY_API void sley_stream_skip(sley_stream *s, size_t bytes);                                 /* drop buffered bytes; more than there are is a bug */

SLEY_API SLEY_MUST_USE int sley_stream_write(sley_stream *s, const void *buf, size_t bytes, sley_time deadline); /* 0: all taken, maybe not yet sent */
SLEY_API SLEY_MUST_USE int sley_stream_writev(sley_stream *s, const struct iovec *v, int n, sley_time deadline);
SLEY_API int  sley_stream_printf(sley_stream *s, const char *format, ...) SLEY_PRINTF(2, 3);  /* into the buffer, never waits; how many bytes; -ENOBUFS: flush first; -EMSGSIZE: no buffer holds it */
SLEY_API SLEY_MUST_USE int sley_stream_flush(sley_stream *s, sley_time deadline);

/* Send what comes out of one stream through another, until the end or bytes_max.
 * shape:  to and from may be one stream: an echo. bytes_max INT64_MAX: until the end; less than 0: -EINVAL
 * parks:  yes; while it waits for `from`, all that has come has been sent
 * result: how many bytes have been sent, behind what `to` had buffered; fewer than bytes_max only at the end, or when an error came after
 *         them (the next call returns it). What had come and could not be sent is still in `from`
 * source: src/io/stream_copy.c */
SLEY_API SLEY_MUST_USE int64_t sley_stream_copy(sley_stream *to, sley_stream *from, int64_t bytes_max, sley_time deadline); /* until end or bytes_max; the count */

SLEY_END_DECLS
#endif
