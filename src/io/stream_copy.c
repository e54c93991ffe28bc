/* stream_copy.c - from the reading side of one stream to the descriptor of another.
 *
 * What `to` has buffered goes first. Then each piece is sent from where it was received, the buffer of `from`, and leaves that as it is
 * sent: so whatever cuts the copy short, a byte is either gone and counted, or still in `from`; nothing waits in `to` while `from` is
 * waited for. From a file the kernel sends by itself (sley_sendfile), which moves the position by what has gone. */
#include "io/stream.h"

#include <sley/io.h>

struct copy {
    struct sl_side *from, *to;
    struct sl_call  in, out;
    sley_time       deadline;
    bool            has_much;  /* a piece was as large as a buffer: the next one may be larger */
    bool            by_hand;   /* it is not a file, or none that can be sent */
};

/* The next piece, into the buffer. As sl_stream_fill. */
static int fetch(struct copy *k)
{
    int n;

    if (k->has_much)
        sl_buffer_take_large(&k->from->buffer);
    n = sl_stream_fill(k->from, &k->in, k->deadline);
    sl_buffer_settle(&k->from->buffer); /* a large one that could not be used */
    k->has_much = n >= SL_STREAM_BYTES;
    return n;
}

/* The next piece, if it comes from a file. As sley_sendfile; -EINVAL: not this way. */
static int send_file(struct copy *k, int64_t bytes)
{
    int n = sl_side_reach(k->from, &k->in, k->deadline);

    if (n < 0)
        return n;
    if (sl_record_kind(k->in.record) != SL_FD_FILE)
        return -EINVAL;
    if (bytes > (int64_t)SL_IO_BYTES_MAX)
        bytes = (int64_t)SL_IO_BYTES_MAX;
    return sl_stream_send_file(k->to, &k->out, k->from->fd, (size_t)bytes, k->deadline);
}

/* The next piece, at most so many bytes: how many went; 0: the end. */
static int copy_piece(struct copy *k, int64_t bytes)
{
    struct sl_buffer *b = &k->from->buffer;
    int n;

    if (sl_buffered(b) == 0 && !k->by_hand) {
        n = send_file(k, bytes);
        if (n != -EINVAL)
            return n;
        k->by_hand = true;
    }
    if (sl_buffered(b) == 0 && (n = fetch(k)) <= 0)
        return n;
    n = sl_stream_send(k->to, &k->out, b->base + b->at, (int64_t)sl_buffered(b) < bytes ? sl_buffered(b) : (size_t)bytes, k->deadline);
    if (n > 0)
        sl_buffer_skip(b, (size_t)n);
    return n;
}

int64_t sley_stream_copy(sley_stream *to, sley_stream *from, int64_t bytes_max, sley_time deadline)
{
    struct copy k = { .deadline = deadline };
    int64_t copied = 0;
    int n;

    if (to == NULL || from == NULL || bytes_max < 0)
        return -EINVAL;
    k.from = &from->in;
    k.to = &to->out;
    if ((n = sl_side_enter(k.from, &k.in, deadline, __func__, SL_STREAM_BUSY_READER)) < 0)
        return n;
    if ((n = sl_side_enter(k.to, &k.out, deadline, __func__, SL_STREAM_BUSY_WRITER)) < 0)
        goto leave_in;
    n = sl_stream_drain(k.to, &k.out, deadline);
    while (n >= 0 && copied < bytes_max) {
        n = copy_piece(&k, bytes_max - copied);
        if (n <= 0)
            break;
        copied += n;
    }
    sl_side_leave(k.to, &k.out, 0);
leave_in:
    sl_side_leave(k.from, &k.in, 0);
    return copied > 0 ? copied : n;
}
