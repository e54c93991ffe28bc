/* buffers.h - memory that every ring of the process knows: its pages stay where they are, so the kernel need not see to that for each
 * operation inside.
 *
 *   G1  A piece of memory has a slot, and with it a range of addresses: base + slot * SL_BUFFER_STRIDE. So the slot of any address is found
 *       without a search, and without a lock; the bytes behind a piece's end cannot be touched.
 *   G2  Every ring has the same slots. What a ring does not have - it was refused: locked memory is limited - says its bitmap `slots`, and
 *       there an operation is an ordinary one. The memory is the same either way.
 *   G3  Pieces, rings and their bitmaps change under a mutex, which is held while the kernel pins pages: milliseconds for large ones. So
 *       not by who runs fibers. The bitmap is read by the ring's owner without it: who frees a piece that is in use has a bug. */
#ifndef SL_BUFFERS_H
#define SL_BUFFERS_H

#include "base/atomic.h"
#include "base/limits.h"

#include <stddef.h>
#include <stdint.h>

struct sl_ring;

#define SL_BUFFER_STRIDE ((uintptr_t)SL_BUFFER_BYTES_MAX)

extern _Atomic(uintptr_t) sl_buffers_base;                /* 0: none has been asked for yet */
extern _Atomic(size_t) sl_buffer_bytes[SL_BUFFER_SLOTS];  /* of the piece in a slot; 0: none */

/* The slot of the piece that these bytes lie in; -1: they do not lie in one. Anybody. */
static inline int sl_buffers_find(const void *at, size_t bytes)
{
    uintptr_t base = sl_load_acquire(&sl_buffers_base), off = (uintptr_t)at - base; /* [buffers.1] */
    size_t within = off % SL_BUFFER_STRIDE, end;

    if (__builtin_expect(base == 0 || off >= SL_BUFFER_STRIDE * SL_BUFFER_SLOTS, 1))
        return -1;
    end = sl_load_relaxed(&sl_buffer_bytes[off / SL_BUFFER_STRIDE]); /* the caller's own piece */
    return within <= end && bytes <= end - within ? (int)(off / SL_BUFFER_STRIDE) : -1;
}

/* An address of these, whether or not a piece is there. */
static inline bool sl_buffers_has(const void *at)
{
    uintptr_t base = sl_load_acquire(&sl_buffers_base); /* [buffers.1] */

    return base != 0 && (uintptr_t)at - base < SL_BUFFER_STRIDE * SL_BUFFER_SLOTS;
}

/* A piece of `bytes`, whole pages, in a slot. 0; -ENOMEM: no memory; -ENOSPC: no slot, or it is too large for one. */
int sl_buffers_take(void **out, size_t bytes);

/* Give the piece at this address back. false: no piece begins there. */
bool sl_buffers_give(void *at);

/* The ring has been made: it gets to know the pieces. It is about to go. */
void sl_buffers_ring_begins(struct sl_ring *r);
void sl_buffers_ring_ends(struct sl_ring *r);

/* The child's one thread: the rings are the parent's. The pieces are its own now. */
void sl_buffers_reset_after_fork(void);

#endif
