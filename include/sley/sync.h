/* sley/sync.h - locks and friends, embedded in the user's structs; zeroed memory is valid; fibers and plain threads alike.
 *
 * Locking is no point of cancellation: with SLEY_FOREVER it cannot fail. Waiting for something to happen (cond, sem, event,
 * wait group, barrier) is. fini is optional: it frees nothing, and aborts if somebody still holds or waits. Unlock by another
 * than the holder, unlock of the unlocked: abort with a message that names fiber and call. */
#ifndef SLEY_SYNC_H
#define SLEY_SYNC_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

typedef struct sley_event     { uint64_t opaque[4]; } sley_event;
typedef struct sley_waitgroup { uint64_t opaque[4]; } sley_waitgroup;

SLEY_API SLEY_MUST_USE int sley_event_wait(sley_event *e, sley_time deadline); /* until set */
SLEY_API void sley_event_set(sley_event *e);                /* wakes all; stays set */
SLEY_API void sley_event_reset(sley_event *e);
SLEY_API int  sley_event_is_set(const sley_event *e);       /* 1 or 0 */
SLEY_API void sley_event_fini(sley_event *e);

SLEY_API void sley_waitgroup_add(sley_waitgroup *w, int n); /* before what it counts begins */
SLEY_API void sley_waitgroup_done(sley_waitgroup *w);       /* one has ended; below zero: abort */
SLEY_API SLEY_MUST_USE int sley_waitgroup_wait(sley_waitgroup *w, sley_time deadline); /* until the count is zero */
SLEY_API void sley_waitgroup_fini(sley_waitgroup *w);

SLEY_END_DECLS
#endif
