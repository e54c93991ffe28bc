/* stream.h - a stream: two sides that share nothing, each with a buffer while it needs one. Between the files stream*.c.
 *
 *   T1  One user a side at a time; `user` is who. It is a check, not a lock: no order is asked of it, and two that come in the same
 *       instant may pass. Who hands a side on to somebody else has to synchronise with them anyway.
 *   T2  A side with no bytes has no buffer, but inside a call that is about to fill it. What waits for bytes to come holds none:
 *       it waits for readiness, or receives into the caller's memory.
 *   T3  Reading: [at, end) have come and were not handed out. A byte leaves only with a result of more than 0, or by a skip.
 *   T4  Writing: [at, end) were taken and not yet sent, in the order in which they were. A byte leaves when the kernel has it; those of a
 *       call that fails are taken back (stream_write.c says when that cannot be).
 *   T5  A call links itself to the descriptor's record (record.h) when it first reaches for the descriptor, and stays until it returns.
 *       `generation` is the record's from when the stream was made: should the number have become another descriptor's, it is not
 *       touched.
 *
 * Rejected: a chain of buffers. The bytes that sley_stream_data shows and those searched for a mark have to lie in one piece; so what is
 * more than a block moves to memory of its own, twice as large each time. */
#ifndef SL_IO_STREAM_H
#define SL_IO_STREAM_H

#include "base/assert.h"
#include "io/call.h"

#include <sley/stream.h>

struct sl_buffer {
    char    *base;         /* NULL: none */
    uint32_t at, end, cap; /* zero while there is none */
};

struct sl_side {
    _Atomic(struct sl_fiber *) user; /* NULL: nobody; T1 */
    struct sl_buffer buffer;
    int              error;          /* of a connection that is lost, see stream_read.c; the writer's: -EPIPE, see stream_write.c */
    int              fd;
    uint32_t         generation;     /* T5 */
} __attribute__((aligned(64)));

struct sley_stream {
    struct sl_side in, out; /* a cache line each: reader and writer may be on two processors */
};

/* --- stream_buffer.c: blocks of SL_STREAM_BYTES from a cache; what is larger comes from malloc -------------------------------------- */

int    sl_buffer_take(struct sl_buffer *b);      /* see to it that there is one. 0; -ENOMEM */
void   sl_buffer_take_large(struct sl_buffer *b); /* there is none: one of SL_STREAM_COPY_BYTES, if there is memory for it */
void   sl_buffer_free(struct sl_buffer *b);      /* with whatever is in it */
int    sl_buffer_make_room(struct sl_buffer *b); /* see to it that there is room behind end. 0; -ENOMEM; -EMSGSIZE: more than any may be */
size_t sl_buffers_held(void);                    /* by all streams */

static inline size_t sl_buffered(const struct sl_buffer *b)
{
    return b->end - b->at;
}

static inline void sl_buffer_settle(struct sl_buffer *b) /* T2 */
{
    if (b->base != NULL && b->at == b->end)
        sl_buffer_free(b);
}

static inline void sl_buffer_skip(struct sl_buffer *b, size_t bytes)
{
    b->at += (uint32_t)bytes;
    sl_buffer_settle(b);
}

/* --- in and out of a call ----------------------------------------------------------------------------------------------------------- */

#define SL_STREAM_BUSY_READER "somebody else is in a read of this stream"
#define SL_STREAM_BUSY_WRITER "somebody else is in a write of this stream"

/* Begin a call on a side. 0: end it with sl_side_leave. `call`: its name. */
SL_INLINE int sl_side_enter(struct sl_side *d, struct sl_call *c, sley_time deadline, const char *call, const char *busy)
{
    int rc = sl_deadline_check(deadline);

    if (rc < 0)
        return rc;
    c->record = NULL;
    c->fiber = sl_current();
    SLEY_ASSERT(sl_load_relaxed(&d->user) == NULL, call, busy); /* T1 */
    if (__builtin_expect(c->fiber->streak >= SL_DIRECT_STREAK, 0) && (rc = sl_call_turn(c->fiber)) < 0)
        return rc;
    sl_store_relaxed(&d->user, c->fiber); /* T1 */
    return 0;
}

SL_INLINE int sl_side_leave(struct sl_side *d, struct sl_call *c, int result)
{
    sl_call_end(c);
    sl_store_relaxed(&d->user, NULL); /* T1 */
    return result;
}

/* Before each transfer: link the call, or look whether it may go on, and know what kind of descriptor it is. 0; -errno. */
SL_INLINE int sl_side_reach(struct sl_side *d, struct sl_call *c, sley_time deadline)
{
    int rc;

    if (c->record != NULL)
        return sl_call_again(c);
    rc = sl_call_begin(c, d->fd, deadline);
    if (__builtin_expect(rc == 0 && sl_load_relaxed(&c->record->generation) != d->generation, 0)) { /* linked: it stays as it is */
        sl_call_end(c);
        rc = -EBADF;
    }
    if (rc < 0) {
        c->record = NULL;
        return rc;
    }
    return sl_record_kind(c->record) == SL_FD_UNKNOWN ? sl_record_learn(c->record, d->fd) : 0;
}

/* --- between the sides' files: inside a call ---------------------------------------------------------------------------------------- */

int sl_stream_fill(struct sl_side *in, struct sl_call *c, sley_time deadline); /* more bytes into the buffer: how many; 0: the end */
int sl_stream_drain(struct sl_side *out, struct sl_call *c, sley_time deadline); /* send what is buffered. 0 */
int sl_stream_send(struct sl_side *out, struct sl_call *c, const void *buf, size_t bytes, sley_time deadline); /* how many went, > 0 */
int sl_stream_send_file(struct sl_side *out, struct sl_call *c, int in_fd, size_t bytes, sley_time deadline); /* as sley_sendfile */

#endif
