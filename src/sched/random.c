/* random.c - see random.h. */
#include "sched/random.h"

#include "sched/worker.h"

static _Atomic(uint64_t) shared;

uint32_t sl_random_below(uint32_t n)
{
    struct sl_worker *w = sl_worker_here();
    uint64_t x;

    if (w != NULL) {
        x = sl_random(w);
    } else { /* splitmix64 */
        x = sl_add_relaxed(&shared, UINT64_C(0x9e3779b97f4a7c15)); /* any order will do */
        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        x ^= x >> 31;
    }
    return (uint32_t)(((x >> 32) * n) >> 32);
}
