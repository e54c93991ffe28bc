/* sley/chan.h - channels: fixed-size messages, copied in and out; any number of senders and receivers, fibers and threads. */
#ifndef SLEY_CHAN_H
#define SLEY_CHAN_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

typedef struct sley_chan sley_chan;

SLEY_API SLEY_MUST_USE sley_chan *sley_chan_create(size_t elem_bytes, size_t capacity);      /* 0: unbuffered; NULL: no memory, or more than 2^32 - 1 */
SLEY_API SLEY_MUST_USE sley_chan *sley_chan_create_spsc(size_t elem_bytes, size_t capacity); /* one sender, one receiver at a time: faster; more is a bug */
SLEY_API sley_chan *sley_chan_ref(sley_chan *ch);     /* one more reference, for a user who may outlive the creator; returns ch */
SLEY_API void       sley_chan_destroy(sley_chan *ch); /* give one reference back; the last frees ch and what it still holds */
SLEY_API void       sley_chan_close(sley_chan *ch);   /* no more messages; the rest can still be received; again: nothing */

SLEY_API SLEY_MUST_USE int sley_chan_send(sley_chan *ch, const void *msg, sley_time deadline); /* 0; -EPIPE: closed */
SLEY_API SLEY_MUST_USE int sley_chan_recv(sley_chan *ch, void *msg, sley_time deadline);       /* 1: got one; 0: closed and empty; msg NULL: drop it */
/* In batches, under one lock: n is at least 1 (0: -EINVAL, since 0 means the end), and no more than INT_MAX go at once. */
SLEY_API SLEY_MUST_USE int sley_chan_send_n(sley_chan *ch, const void *msgs, size_t n, sley_time deadline); /* waits for room for one; how many went */
SLEY_API SLEY_MUST_USE int sley_chan_recv_n(sley_chan *ch, void *msgs, size_t n, sley_time deadline);       /* waits for one; how many came; 0 as above */

SLEY_API size_t sley_chan_len(const sley_chan *ch); /* messages held now; a hint */
SLEY_API size_t sley_chan_cap(const sley_chan *ch);
SLEY_API int    sley_chan_fd(sley_chan *ch);        /* a descriptor that polls readable while a receive would not wait; ch owns it. For foreign loops */

/* Broadcast: every subscriber gets every later message. A subscription is a channel: receive, select, destroy it as one. */
typedef struct sley_bcast sley_bcast;
SLEY_API SLEY_MUST_USE sley_bcast *sley_bcast_create(size_t elem_bytes, size_t capacity);   /* capacity of each subscription, >= 1 */
SLEY_API SLEY_MUST_USE sley_chan  *sley_bcast_subscribe(sley_bcast *b);                     /* the caller owns it; NULL: no memory */
SLEY_API SLEY_MUST_USE int sley_bcast_send(sley_bcast *b, const void *msg, sley_time deadline); /* to all or, at the deadline, to none */
SLEY_API void sley_bcast_destroy(sley_bcast *b);                                            /* closes every subscription */

SLEY_END_DECLS
#endif
