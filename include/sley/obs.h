/* sley/obs.h - look inside: counters, the list of fibers. */
#ifndef SLEY_OBS_H
#define SLEY_OBS_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

struct sley_runtime;

/* Since start, except the _now ones. Grows at its end; each counter is exact, the set is not one instant. */
typedef struct sley_stats {
    uint64_t workers_now, fibers_now, fibers_parked_now, stacks_now;
    uint64_t fibers_started, fibers_failed, switches, steals, wakes, inject_pushes;
    uint64_t io_submitted, io_completed, io_enters, timers_fired, chan_messages;
    uint64_t jobs_forked, jobs_stolen, blocking_calls, blocking_threads_now;
    uint64_t io_fixed; /* reads and writes that went without pinning memory, see sley_iobuf_alloc */
} sley_stats;

SLEY_API int  sley_stats_read(const struct sley_runtime *rt, sley_stats *out, size_t out_bytes); /* rt NULL: the current one; fills what both know */
SLEY_API int  sley_dump(const struct sley_runtime *rt, int fd);      /* a line on the runtime, then every fiber: number, name, scope, what it waits for, since when */

SLEY_END_DECLS
#endif
