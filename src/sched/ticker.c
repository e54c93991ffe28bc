/* ticker.c - see ticker.h. */
#include "sched/ticker.h"

#include "sched/park.h"
#include "sched/sleep.h"

#include <limits.h>

_Static_assert(sizeof(struct sl_ticker) <= sizeof(sley_ticker), "fits the public struct");

void sley_ticker_init(sley_ticker *handle, sley_time period_ns)
{
    struct sl_ticker *t = (struct sl_ticker *)(void *)handle;

    if (t == NULL)
        return;
    t->period = period_ns > 0 ? period_ns : 0;
    sl_store_relaxed(&t->next, sley_after(period_ns)); /* nobody else has it yet */
}

int sl_ticker_take(void *ticker, sley_time now)
{
    struct sl_ticker *t = ticker;
    int64_t next, count;

    if (t->period <= 0)
        return -EINVAL;
    next = sl_load_relaxed(&t->next); /* T1 */
    do {
        if (now < next)
            return 0;
        count = (now - next) / t->period + 1;
    } while (!sl_cas_acq_rel(&t->next, &next, next + (count - 1) * t->period > SLEY_FOREVER - t->period ? SLEY_FOREVER
                                                                                                    : next + count * t->period));
    return count < INT_MAX ? (int)count : INT_MAX;
}

int sley_ticker_wait(sley_ticker *handle, sley_time deadline)
{
    struct sl_fiber *f = sl_current();

    if (handle == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    for (;;) {
        sley_time now = sley_now(), next = sl_ticker_next(handle);
        int rc = sl_ticker_take(handle, now);

        if (rc != 0)
            return rc;
        if (now >= deadline) /* SLEY_NOW too */
            return -ETIMEDOUT;
        rc = sl_sleep_until(next < deadline ? next : deadline, SL_WAIT_TICKER);
        if (rc < 0)
            return rc;
    }
}
