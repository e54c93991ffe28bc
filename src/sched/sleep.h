/* sleep.h - for other calls that wait for nothing but a time. */
#ifndef SL_SLEEP_H
#define SL_SLEEP_H

#include "sched/fiber.h"

int sl_sleep_until(sley_time when, enum sl_wait_kind kind); /* 0 slept; -ECANCELED, -ENOMEM */

#endif
