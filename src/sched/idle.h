/* idle.h - who sleeps, who searches, who watches.
 *
 * One word a group of 48 workers: bit i: worker i sleeps (or is about to: it announces itself, then looks once more); above them the
 * number of searchers. A runtime of up to 48 workers has one group.
 *
 *   I1  Work visible, nobody searching and somebody asleep is never stable.
 *   I2  A bit is cleared by the waker that claims the sleeper, which then is counted as searching, or by the sleeper itself. A
 *       sleeper that finds its bit gone owns the token that the waker left.
 *   I3  A worker searches only while 2 x searching < busy + 1, or because it was claimed.
 *
 * From the pusher's side: queue the fiber, then look at the word; sleepers, and too few searchers: claim one, ring its doorbell.
 * From the sleeper's: announce, barrier, look at every queue; anything there: take the bit back and go on.
 * From the searcher's: one that gives up announces (which takes it out of the count) and looks again, as any sleeper. One that
 * finds work and was the last to search wakes another, because pushers that saw it searching did not.
 * order [idle.1]: the pusher's store of the queue, then load of the word; the sleeper's store of its bit, then loads of the queues. The
 * sleeper makes a membarrier for both; without membarrier both sides fence. Pushers that are no workers, and pushes to a mailbox,
 * always fence.
 *
 * The watcher is one sleeper that looks after workers that do not come back: while somebody is awake it wakes every millisecond (every
 * 10 after a while without a find) and compares ticks. When nobody has been awake for a while it becomes dormant; whoever
 * wakes then rings it.
 * order [idle.2]: the watcher stores `dormant`, fences, looks for workers awake; a worker clears its bit (read-modify-write), then loads
 * `dormant`. */
#ifndef SL_IDLE_H
#define SL_IDLE_H

#include "base/atomic.h"
#include "base/limits.h"

struct sl_idle {
    struct {
        _Alignas(64) _Atomic(uint64_t) word;
    } group[SL_WORKER_GROUPS];
    unsigned          worker_count;
    _Atomic(int32_t)  watcher; /* number of the worker that watches; -1: nobody */
    _Atomic(uint8_t)  dormant; /* [idle.2] the watcher sleeps without a limit */
};

void sl_idle_init(struct sl_idle *idle, unsigned worker_count);

/* Claim a sleeper, in the group of `near` first: its number, now counted as searching; -1: nobody sleeps, or enough are searching. */
int  sl_idle_claim(struct sl_idle *idle, unsigned near);

/* Claim worker `number` if it sleeps. */
bool sl_idle_claim_one(struct sl_idle *idle, unsigned number);

void sl_idle_announce(struct sl_idle *idle, unsigned number, bool was_searching);
bool sl_idle_retire(struct sl_idle *idle, unsigned number);       /* awake again; true: it had been claimed and now searches */
bool sl_idle_search_begin(struct sl_idle *idle, unsigned number); /* false: enough are searching */
bool sl_idle_search_end(struct sl_idle *idle, unsigned number);   /* true: it was the last of its group */

bool sl_idle_sleeps(const struct sl_idle *idle, unsigned number);
unsigned sl_idle_awake(const struct sl_idle *idle); /* workers awake, searchers included; hint */

#define SL_IDLE_SLEEPERS (((uint64_t)1 << SL_WORKERS_PER_GROUP) - 1)

/* Is there a group with sleepers? Hint: what a pusher asks first. */
static inline bool sl_idle_any_sleeper(const struct sl_idle *idle)
{
    for (unsigned g = 0; g * SL_WORKERS_PER_GROUP < idle->worker_count; g++)
        if (sl_load_relaxed(&idle->group[g].word) & SL_IDLE_SLEEPERS) /* [idle.1] */
            return true;
    return false;
}

#endif
