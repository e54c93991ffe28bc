/* stream_read.c - the reading side.
 *
 * Where the next bytes go, if none are buffered:
 *   into the caller's memory, if there is room for a block, or for a quarter of one and record.h's predictor does not think that something
 *     is there already. One receive waits there, with no buffer held: a system call less than
 *   into a buffer. What must end up there (a line, a peek, a small read) waits for an idle descriptor with a poll, so that the buffer is
 *     taken when something has come. A file is read by the block.
 *
 * Rejected: a multishot receive into a ring of provided buffers. In bare loops, in turn, it took no less processor time a request than a
 * poll and a receive (6.4 against 6.0 us at 50 connections, 7.9 against 7.9 at 1,000). The ring hands out the buffer that has been free
 * the longest, so each is cold, where the cache has one that is warm; and with fewer of them than connections that are ready at once it
 * mostly says -ENOBUFS.
 *
 * Errors. The kernel tells once that a connection is lost, and then that it has ended. So that what was cut off is not taken for whole,
 * such an error is kept, and every later call that needs more than is buffered returns it. After any other error the next call asks
 * the descriptor anew, and after an end too: a file may have grown, and on a terminal more may be typed. */
#include "io/stream.h"
#include "io/transfer.h"

#include <string.h>

#define STRAIGHT_BYTES (SL_STREAM_BYTES / 4)

static int told(struct sl_side *in, int n)
{
    if (__builtin_expect(n < 0, 0) && sl_error_of_connection(n))
        in->error = n;
    return n;
}

/* What is there now, into a buffer. -EAGAIN: nothing is; -EOPNOTSUPP: that cannot be told without waiting. */
static int look(struct sl_side *in, struct sl_call *c)
{
    struct sl_buffer *b = &in->buffer;
    struct sl_record *r = c->record;
    int n = sl_buffer_take(b);

    if (n < 0)
        return n;
    if (sl_record_kind(r) == SL_FD_SOCKET) {
        n = sl_record_take_error(r, in->fd);
        if (n == 0)
            do
                n = sl_sys_recv(in->fd, b->base, b->cap, MSG_DONTWAIT);
            while (n == -EINTR);
    } else if (sl_record_hinted(r, SL_HINT_NO_TRY)) {
        n = -EOPNOTSUPP;
    } else {
        n = sl_transfer_try(IORING_OP_READ, in->fd, &(struct iovec){ b->base, b->cap }, 1, -1, RWF_NOWAIT);
    }
    if (n == -EOPNOTSUPP && sl_record_kind(r) != SL_FD_SOCKET)
        sl_record_hint(r, SL_HINT_NO_TRY);
    if (n > 0)
        b->end = (uint32_t)n;
    else
        sl_buffer_settle(b);
    if (n == -ENOTSOCK) /* the number has become another descriptor: a transfer finds out */
        return -EOPNOTSUPP;
    return n == -EAGAIN || n == -EOPNOTSUPP ? n : sl_call_direct(c, n);
}

/* A look before the wait. */
static int look_first(struct sl_side *in, struct sl_call *c)
{
    int n = look(in, c);

    if (n > 0)
        sl_record_hit(c->record);
    else if (n == -EAGAIN)
        sl_record_miss(c->record);
    return n;
}

/* Into the buffer, which is there, or is held while this waits. */
static int transfer_in(struct sl_side *in, struct sl_call *c, sley_time deadline)
{
    struct sl_buffer *b = &in->buffer;
    int n = b->base == NULL ? sl_buffer_take(b) : sl_buffer_make_room(b);

    if (n < 0)
        return n;
    n = sl_transfer(c, IORING_OP_READ, in->fd, b->base + b->end, b->cap - b->end, -1, deadline);
    if (n > 0)
        b->end += (uint32_t)n;
    else
        sl_buffer_settle(b);
    return n;
}

/* The first bytes, where they may be long in coming. */
static int first_in(struct sl_side *in, struct sl_call *c, sley_time deadline)
{
    bool likely = deadline == SLEY_NOW || sl_on_thread(c) || sl_record_likely(c->record);
    int n = likely ? look_first(in, c) : -EAGAIN;

    if (deadline == SLEY_NOW && n == -EAGAIN)
        return -ETIMEDOUT;
    if (deadline == SLEY_NOW && n == -EOPNOTSUPP)
        return transfer_in(in, c, deadline);
    while (n == -EAGAIN || n == -EOPNOTSUPP) {
        sl_buffer_settle(&in->buffer);
        n = sl_call_poll(c, in->fd, POLLIN, deadline);
        if (n < 0 && n != -EINVAL)
            return n;
        if (n > 0)
            n = look(in, c);
        if (n == -EINVAL || n == -EOPNOTSUPP) /* -EINVAL: it has no readiness, it is a device that is always ready */
            return transfer_in(in, c, deadline);
        if (n > 0 && (size_t)n == in->buffer.cap)
            sl_record_hit(c->record); /* more is probably there */
        if (n == -EAGAIN) { /* another was faster; should that go on, others run between two looks */
            int rc = sl_call_turn(c->fiber);

            n = rc < 0 ? rc : n;
        }
    }
    return n;
}

/* Inside a call that has reached the descriptor. */
static int fill(struct sl_side *in, struct sl_call *c, sley_time deadline)
{
    if (sl_buffered(&in->buffer) == 0 && sl_record_kind(c->record) != SL_FD_FILE)
        return told(in, first_in(in, c, deadline));
    return told(in, transfer_in(in, c, deadline));
}

static int reach(struct sl_side *in, struct sl_call *c, sley_time deadline)
{
    return in->error != 0 ? in->error : sl_side_reach(in, c, deadline);
}

int sl_stream_fill(struct sl_side *in, struct sl_call *c, sley_time deadline)
{
    int n = reach(in, c, deadline);

    return n < 0 ? n : fill(in, c, deadline);
}

static bool goes_straight(struct sl_call *c, size_t bytes, sley_time deadline)
{
    if (deadline == SLEY_NOW || bytes < STRAIGHT_BYTES)
        return false;
    return bytes >= SL_STREAM_BYTES || (sl_record_kind(c->record) != SL_FD_FILE && !sl_record_likely(c->record));
}

static int take_out(struct sl_side *in, void *buf, size_t bytes)
{
    memcpy(buf, in->buffer.base + in->buffer.at, bytes);
    sl_buffer_skip(&in->buffer, bytes);
    return (int)bytes;
}

/* What is buffered, or what comes: at least one byte; 0: the end. */
static int read_some(struct sl_side *in, struct sl_call *c, void *buf, size_t bytes, sley_time deadline)
{
    size_t have = sl_buffered(&in->buffer);
    int n;

    if (have == 0) {
        n = reach(in, c, deadline);
        if (n < 0)
            return n;
        if (goes_straight(c, bytes, deadline))
            return told(in, sl_transfer(c, IORING_OP_READ, in->fd, buf, bytes, -1, deadline));
        n = fill(in, c, deadline);
        if (n <= 0)
            return n;
        have = (size_t)n;
    }
    return take_out(in, buf, have < bytes ? have : bytes);
}

/* Until the mark has come, as many bytes as the call may hand out are there without one, or the end. */
static int read_marked(struct sl_side *in, struct sl_call *c, void *buf, size_t bytes_max, const void *mark, size_t mark_bytes,
                       sley_time deadline)
{
    struct sl_buffer *b = &in->buffer;
    size_t searched = 0; /* buffered bytes, at which no mark begins */

    for (;;) {
        size_t have = sl_buffered(b), within = have < bytes_max ? have : bytes_max;
        const char *found = within > searched ? memmem(b->base + b->at + searched, within - searched, mark, mark_bytes) : NULL;
        int n;

        if (found != NULL)
            return take_out(in, buf, (size_t)(found - b->base) - b->at + mark_bytes);
        if (have >= bytes_max)
            return -EMSGSIZE;
        if (within >= mark_bytes)
            searched = within - mark_bytes + 1;
        n = sl_stream_fill(in, c, deadline);
        if (n == 0 && have > 0)
            return take_out(in, buf, have);
        if (n <= 0)
            return n;
    }
}

static int done(struct sl_side *in, struct sl_call *c, int result)
{
    if (c->record == NULL)
        sl_call_direct(c, result); /* it did not have to reach for the descriptor */
    return sl_side_leave(in, c, result);
}

int sley_stream_read(sley_stream *s, void *buf, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    int n = s == NULL ? -EINVAL : sl_side_enter(&s->in, &c, deadline, __func__, SL_STREAM_BUSY_READER);

    if (n < 0)
        return n;
    if (bytes > 0)
        n = read_some(&s->in, &c, buf, bytes < SL_IO_BYTES_MAX ? bytes : SL_IO_BYTES_MAX, deadline);
    return done(&s->in, &c, n);
}

int sley_stream_read_all(sley_stream *s, void *buf, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    size_t got = 0;
    int n = s == NULL ? -EINVAL : sl_side_enter(&s->in, &c, deadline, __func__, SL_STREAM_BUSY_READER);

    if (n < 0)
        return n;
    if (bytes > INT_MAX)
        bytes = INT_MAX;
    while (got < bytes) {
        n = read_some(&s->in, &c, (char *)buf + got, bytes - got, deadline);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    return done(&s->in, &c, got > 0 ? (int)got : n);
}

int sley_stream_read_line(sley_stream *s, char *buf, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    int n = s == NULL ? -EINVAL : sl_side_enter(&s->in, &c, deadline, __func__, SL_STREAM_BUSY_READER);

    if (n < 0)
        return n;
    n = read_marked(&s->in, &c, buf, bytes > 0 ? bytes - 1 : 0, "\n", 1, deadline);
    if (n > 0)
        buf[n] = '\0';
    return done(&s->in, &c, n);
}

int sley_stream_read_until(sley_stream *s, void *buf, size_t bytes, const void *mark, size_t mark_bytes, sley_time deadline)
{
    struct sl_call c;
    int n = s == NULL || mark_bytes == 0 ? -EINVAL : sl_side_enter(&s->in, &c, deadline, __func__, SL_STREAM_BUSY_READER);

    if (n < 0)
        return n;
    return done(&s->in, &c, read_marked(&s->in, &c, buf, bytes, mark, mark_bytes, deadline));
}

int sley_stream_peek(sley_stream *s, size_t bytes, sley_time deadline)
{
    struct sl_call c;
    int n = s == NULL ? -EINVAL : sl_side_enter(&s->in, &c, deadline, __func__, SL_STREAM_BUSY_READER);

    if (n < 0)
        return n;
    n = bytes > SL_STREAM_BYTES_MAX ? -EMSGSIZE : 1;
    while (n > 0 && sl_buffered(&s->in.buffer) < bytes)
        n = sl_stream_fill(&s->in, &c, deadline);
    return done(&s->in, &c, n >= 0 ? (int)sl_buffered(&s->in.buffer) : n);
}

const void *sley_stream_data(const sley_stream *s)
{
    return s != NULL && s->in.buffer.base != NULL ? s->in.buffer.base + s->in.buffer.at : NULL;
}

void sley_stream_skip(sley_stream *s, size_t bytes)
{
    SLEY_ASSERT(s != NULL, __func__, "the stream is NULL");
    SLEY_ASSERT(sl_load_relaxed(&s->in.user) == NULL, __func__, SL_STREAM_BUSY_READER); /* T1 */
    SLEY_ASSERT(bytes <= sl_buffered(&s->in.buffer), __func__, "more bytes than are buffered");
    sl_buffer_skip(&s->in.buffer, bytes);
}
