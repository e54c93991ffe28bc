/* sley/time.h - the clock, sleeping, tickers. */
#ifndef SLEY_TIME_H
#define SLEY_TIME_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

SLEY_API sley_time sley_now(void);                 /* CLOCK_MONOTONIC */
SLEY_API sley_time sley_after(sley_time wait_ns);  /* now + wait_ns, stopping at SLEY_FOREVER: makes deadlines */
SLEY_API int sley_sleep(sley_time wait_ns);        /* a length of time; 0 slept, -ECANCELED */
SLEY_API int sley_sleep_until(sley_time when);     /* a point in time */


SLEY_END_DECLS
#endif
