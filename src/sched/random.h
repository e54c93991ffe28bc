/* random.h - numbers for choices that only have to be fair. */
#ifndef SL_RANDOM_H
#define SL_RANDOM_H

#include <stdint.h>

uint32_t sl_random_below(uint32_t n); /* n > 0. From this worker's generator; on a plain thread from one that all of them share */

#endif
