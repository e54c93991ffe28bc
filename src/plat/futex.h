/* futex.h - blocking and waking a plain thread on a 32-bit word. */
#ifndef SL_FUTEX_H
#define SL_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Wait while *word == value, at most until `deadline` (CLOCK_MONOTONIC ns; INT64_MAX: no limit). Spurious returns happen. */
void sl_futex_wait(_Atomic(uint32_t) *word, uint32_t value, int64_t deadline);
void sl_futex_wake(_Atomic(uint32_t) *word, int threads);

#endif
