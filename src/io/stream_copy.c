/* stream_copy.c - from the reading side of one stream to the descriptor of another.
 *
 * What `to` has buffered goes first. Then each piece is sent from where it was received, the buffer of `from`, and leaves that as it is
 * sent: so whatever cuts the copy short, a byte is either gone and counted, or still in `from`; nothing waits in `to` while `from` is
 * waited for. */
#include "io/stream.h"

int64_t sley_stream_copy(sley_stream *to, sley_stream *from, int64_t bytes_max, sley_time deadline)
{
    struct sl_call in, out;
    struct sl_buffer *b;
    int64_t copied = 0;
    int n;

    if (to == NULL || from == NULL || bytes_max < 0)
        return -EINVAL;
    if ((n = sl_side_enter(&from->in, &in, deadline, __func__, SL_STREAM_BUSY_READER)) < 0)
        return n;
    if ((n = sl_side_enter(&to->out, &out, deadline, __func__, SL_STREAM_BUSY_WRITER)) < 0)
        goto leave_in;
    b = &from->in.buffer;
    n = sl_stream_drain(&to->out, &out, deadline);
    while (n >= 0 && copied < bytes_max) {
        size_t have = sl_buffered(b);

        if (have == 0) {
            n = sl_stream_fill(&from->in, &in, deadline);
            if (n == 0)
                break;
            continue;
        }
        if ((int64_t)have > bytes_max - copied)
            have = (size_t)(bytes_max - copied);
        n = sl_stream_send(&to->out, &out, b->base + b->at, have, deadline);
        if (n > 0) {
            sl_buffer_skip(b, (size_t)n);
            copied += n;
        }
    }
    sl_side_leave(&to->out, &out, 0);
leave_in:
    sl_side_leave(&from->in, &in, 0);
    return copied > 0 ? copied : n < 0 ? n : 0;
}
