/* stream_write.c - the writing side.
 *
 *   X1  A write that fails has taken nothing: what it had put into the buffer is taken out again. `before` counts the buffered bytes that
 *       were there before it; as long as they are not all gone, none of its own is.
 *   X2  If some of its own have gone (`gone`), the rest still fits the buffer, and so it succeeds, unless it was longer than a buffer
 *       when it began. Then what follows would follow a torso: the side takes and sends no more (-EPIPE).
 *   X3  A flush that fails has sent what has left the buffer. The next one goes on from there.
 *
 * What is buffered and what does not fit behind it leave in one send, if it is a socket. What is larger than a block is never copied.
 *
 * Rejected: keeping what a cut write had left over, so that a repeated one goes on from there. The caller may give up instead and write
 * something else, and then the torso is followed after all. */
#include "io/stream.h"
#include "io/transfer.h"

#include <sley/io.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Whether the write under way has sent something of its own. */
struct progress {
    size_t before; /* X1 */
    bool   gone;   /* X2 */
};

/* --- sending ------------------------------------------------------------------------------------------------------------------------ */

int sl_stream_send(struct sl_side *out, struct sl_call *c, const void *buf, size_t bytes, sley_time deadline)
{
    int n = sl_side_reach(out, c, deadline);

    if (n < 0)
        return n;
    n = sl_transfer(c, IORING_OP_WRITE, out->fd, (void *)buf, bytes, -1, deadline);
    if (n == 0)
        return -EIO; /* a device that takes nothing and says nothing */
    return n;
}

int sl_stream_send_file(struct sl_side *out, struct sl_call *c, int in_fd, size_t bytes, sley_time deadline)
{
    int n = sl_side_reach(out, c, deadline);

    if (n < 0)
        return n;
    return sley_sendfile(out->fd, in_fd, NULL, bytes, deadline);
}

/* Two pieces at once, if it is a socket with room for something. -EAGAIN: not this way. */
static int send_both(struct sl_side *out, struct sl_call *c, const void *more, size_t more_bytes, sley_time deadline)
{
    struct sl_buffer *b = &out->buffer;
    struct iovec v[2] = {
        { .iov_base = b->base + b->at, .iov_len = sl_buffered(b) },
        { .iov_base = (void *)more, .iov_len = more_bytes < SL_IO_BYTES_MAX / 2 ? more_bytes : SL_IO_BYTES_MAX / 2 },
    };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
    int n = sl_side_reach(out, c, deadline);

    if (n < 0)
        return n;
    if (sl_record_kind(c->record) != SL_FD_SOCKET)
        return -EAGAIN;
    do
        n = sl_sys_sendmsg(out->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n == -EINTR);
    return n < 0 ? -EAGAIN : sl_call_direct(c, n); /* an error is the next send's to tell */
}

/* Send some of what is buffered, and, if all of it goes, of `more` behind it. How many bytes of `more` went; -errno: nothing. */
static int step(struct sl_side *out, struct sl_call *c, const void *more, size_t more_bytes, struct progress *p, sley_time deadline)
{
    struct sl_buffer *b = &out->buffer;
    size_t have = sl_buffered(b);
    int n = have > 0 && more_bytes > 0 ? send_both(out, c, more, more_bytes, deadline) : -EAGAIN;

    if (n == -EAGAIN)
        n = have > 0 ? sl_stream_send(out, c, b->base + b->at, have, deadline) : sl_stream_send(out, c, more, more_bytes, deadline);
    if (n < 0)
        return n;
    p->gone = p->gone || (size_t)n > p->before;
    p->before -= (size_t)n < p->before ? (size_t)n : p->before;
    if ((size_t)n < have)
        have = (size_t)n;
    b->at += (uint32_t)have;
    if (b->at == b->end)
        b->at = b->end = 0;
    return n - (int)have;
}

int sl_stream_drain(struct sl_side *out, struct sl_call *c, sley_time deadline)
{
    struct progress p = { .before = sl_buffered(&out->buffer) };
    int n = out->error;

    while (n >= 0 && sl_buffered(&out->buffer) > 0)
        n = step(out, c, NULL, 0, &p, deadline);
    sl_buffer_settle(&out->buffer);
    return n < 0 ? n : 0;
}

/* Behind what is buffered, if there is room. 1: it is in the buffer; 0: no room; -ENOMEM. */
static int keep(struct sl_buffer *b, const void *buf, size_t bytes)
{
    if (bytes > SL_STREAM_BYTES - sl_buffered(b))
        return 0;
    if (sl_buffer_take(b) < 0)
        return -ENOMEM;
    if (bytes > b->cap - b->end) {
        memmove(b->base, b->base + b->at, sl_buffered(b));
        b->end -= b->at;
        b->at = 0;
    }
    memcpy(b->base + b->end, buf, bytes);
    b->end += (uint32_t)bytes;
    return 1;
}

static int put(struct sl_side *out, struct sl_call *c, const char *buf, size_t bytes, struct progress *p, sley_time deadline)
{
    while (bytes > 0) {
        int n = keep(&out->buffer, buf, bytes);

        if (n > 0)
            return 0;
        if (n == 0 || p->gone) /* without memory for the rest: it goes as it is */
            n = step(out, c, buf, bytes, p, deadline);
        if (n < 0)
            return n;
        buf += n;
        bytes -= (size_t)n;
    }
    return 0;
}

/* The end of a write: X1, X2. */
static int taken(struct sl_side *out, int n, const struct progress *p)
{
    struct sl_buffer *b = &out->buffer;

    if (n < 0 && p->gone) {
        out->error = -EPIPE;
        b->end = b->at;
    } else if (n < 0) {
        b->end = b->at + (uint32_t)p->before;
    }
    sl_buffer_settle(b);
    return n;
}

static int leave(sley_stream *s, struct sl_call *c, int result)
{
    if (c->record == NULL)
        sl_call_direct(c, result); /* it did not have to reach for the descriptor */
    return sl_side_leave(&s->out, c, result);
}

static int enter(sley_stream *s, struct sl_call *c, sley_time deadline, const char *call)
{
    int rc = s == NULL ? -EINVAL : sl_side_enter(&s->out, c, deadline, call, SL_STREAM_BUSY_WRITER);

    if (rc == 0 && (rc = s->out.error) < 0)
        leave(s, c, rc);
    return rc;
}

int sley_stream_write(sley_stream *s, const void *buf, size_t bytes, sley_time deadline)
{
    struct progress p = { 0 };
    struct sl_call c;
    int n = enter(s, &c, deadline, __func__);

    if (n < 0)
        return n;
    p.before = sl_buffered(&s->out.buffer);
    n = put(&s->out, &c, buf, bytes, &p, deadline);
    return leave(s, &c, taken(&s->out, n, &p));
}

int sley_stream_writev(sley_stream *s, const struct iovec *v, int n, sley_time deadline)
{
    struct progress p = { 0 };
    struct sl_call c;
    int rc = n < 0 ? -EINVAL : enter(s, &c, deadline, __func__);

    if (rc < 0)
        return rc;
    p.before = sl_buffered(&s->out.buffer);
    for (int i = 0; i < n && rc == 0; i++)
        rc = put(&s->out, &c, v[i].iov_base, v[i].iov_len, &p, deadline);
    return leave(s, &c, taken(&s->out, rc, &p));
}

/* Into the room of the buffer, moved to its end. How long the text is; as much of it as there is room for was written. -ENOMEM; -EINVAL:
 * the format cannot be made. */
static int print(struct sl_buffer *b, const char *format, va_list args)
{
    int n = sl_buffer_take(b);

    if (n < 0)
        return n;
    memmove(b->base, b->base + b->at, sl_buffered(b));
    b->end -= b->at;
    b->at = 0;
    n = vsnprintf(b->base + b->end, b->cap - b->end, format, args);
    return n < 0 ? -EINVAL : n;
}

int sley_stream_printf(sley_stream *s, const char *format, ...)
{
    struct sl_side *out = s != NULL ? &s->out : NULL;
    va_list args;
    int n;

    if (s == NULL || out->error < 0)
        return s == NULL ? -EINVAL : out->error;
    SLEY_ASSERT(sl_load_relaxed(&out->user) == NULL, __func__, SL_STREAM_BUSY_WRITER); /* T1 */
    va_start(args, format);
    n = print(&out->buffer, format, args);
    va_end(args);
    if (n >= SL_STREAM_BYTES)
        n = -EMSGSIZE;
    else if (n >= (int)(out->buffer.cap - out->buffer.end) && n > 0)
        n = -ENOBUFS;
    if (n > 0)
        out->buffer.end += (uint32_t)n;
    sl_buffer_settle(&out->buffer);
    return n;
}

int sley_stream_flush(sley_stream *s, sley_time deadline)
{
    struct sl_call c;
    int n = enter(s, &c, deadline, __func__);

    return n < 0 ? n : leave(s, &c, sl_stream_drain(&s->out, &c, deadline));
}
