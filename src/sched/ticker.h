/* ticker.h - a ticker is the time of its next tick, and who takes it moves it on; nothing runs for it (sley/time.h).
 *
 *   T1  `next` is moved by compare-and-swap past every tick that is due. So each tick is taken once, by whoever was first. */
#ifndef SL_TICKER_H
#define SL_TICKER_H

#include "base/atomic.h"

#include <sley/time.h>

struct sl_ticker {
    _Atomic(int64_t) next;
    int64_t          period; /* 0: never initialised, or with a period that is none */
};

/* When the next tick is due. */
static inline sley_time sl_ticker_next(void *ticker)
{
    struct sl_ticker *t = ticker;

    return t->period > 0 ? sl_load_relaxed(&t->next) : 0; /* T1 */
}

int sl_ticker_take(void *ticker, sley_time now); /* ticks due, >= 1; 0: none is; -EINVAL */

#endif
