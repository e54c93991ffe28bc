/* sley/process.h - signals and child processes as things to wait for. */
#ifndef SLEY_PROCESS_H
#define SLEY_PROCESS_H

#include <sley/base.h>

SLEY_BEGIN_DECLS

#define SLEY_SIG(signo) (UINT64_C(1) << ((signo) - 1)) /* a set: SLEY_SIG(SIGINT) | SLEY_SIG(SIGTERM) */

/* The first wait for a signal takes it over from its default action; from then on it is kept until somebody waits. */
SLEY_API SLEY_MUST_USE int sley_signal_wait(uint64_t set, sley_time deadline); /* the number of the one that came; several waiters: all get it */
SLEY_API void sley_signal_release(uint64_t set);                               /* back to what it did before */

SLEY_END_DECLS
#endif
