/* sleep.c - the clock and sleeping (sley/time.h). */
#include "plat/cpu.h"
#include "sched/park.h"
#include "sched/sleep.h"

#include <sley/time.h>

int64_t sl_process_start_ns;

__attribute__((constructor)) static void note_process_start(void)
{
    sl_process_start_ns = sl_clock_ns();
}

sley_time sley_now(void)
{
    return sl_clock_ns();
}

sley_time sley_after(sley_time wait_ns)
{
    sley_time now = sl_clock_ns();

    if (wait_ns <= 0)
        return now;
    return wait_ns >= SLEY_FOREVER - now ? SLEY_FOREVER : now + wait_ns;
}

int sl_sleep_until(sley_time when, enum sl_wait_kind kind)
{
    struct sl_fiber *f = sl_current();
    int rc = sl_wait_begin(f, when, kind, NULL);

    if (rc < 0)
        return rc;
    sl_fence_seq_cst(); /* [cancel.1] there is no object whose lock would be the barrier */
    if (sl_cancelled(f)) {
        sl_wait_end(f);
        return -ECANCELED;
    }
    return sl_park(NULL) == SL_ARM_TIMEOUT ? 0 : -ECANCELED;
}

int sley_sleep_until(sley_time when)
{
    int rc = sl_deadline_check(when);

    if (rc < 0)
        return rc;
    return when == SLEY_NOW ? (sl_cancelled(sl_current()) ? -ECANCELED : 0) : sl_sleep_until(when, SL_WAIT_SLEEP);
}

int sley_sleep(sley_time wait_ns)
{
    if (wait_ns <= 0)
        return sl_cancelled(sl_current()) ? -ECANCELED : 0;
    return sl_sleep_until(sley_after(wait_ns), SL_WAIT_SLEEP);
}
