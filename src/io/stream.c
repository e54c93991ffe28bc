/* stream.c - a stream's beginning and end. What it is: stream.h. */
#include "io/stream.h"

#include <stdlib.h>
#include <string.h>

static struct sl_side side_of(int fd)
{
    struct sl_record *r = sl_record_find(fd); /* none: nobody has had a call on it yet, and a new record's generation is 0 */

    return (struct sl_side){ .fd = fd, .generation = r != NULL ? sl_load_relaxed(&r->generation) : 0 }; /* who has fd knows of its making */
}

sley_stream *sley_stream_create(int fd)
{
    sley_stream *s = aligned_alloc(_Alignof(struct sley_stream), sizeof(struct sley_stream));

    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof *s);
    s->in = side_of(fd);
    s->out = s->in;
    return s;
}

void sley_stream_destroy(sley_stream *s)
{
    if (s == NULL)
        return;
    SLEY_ASSERT(sl_load_relaxed(&s->in.user) == NULL, "sley_stream_destroy", SL_STREAM_BUSY_READER); /* T1 */
    SLEY_ASSERT(sl_load_relaxed(&s->out.user) == NULL, "sley_stream_destroy", SL_STREAM_BUSY_WRITER); /* T1 */
    sl_buffer_free(&s->in.buffer);
    sl_buffer_free(&s->out.buffer);
    free(s);
}

int sley_stream_fd(const sley_stream *s)
{
    return s != NULL ? s->in.fd : -EINVAL;
}
