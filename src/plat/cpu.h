/* cpu.h - the machine's small operations: clock, spinning, barriers, processor count. All time and all waiting that is no park
 * passes through src/plat, so that a simulator can stand in its place. */
#ifndef SL_CPU_H
#define SL_CPU_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline int64_t sl_clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline void sl_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* yield is a no-op on most cores */
#endif
}

static inline void sl_thread_yield(void) { sched_yield(); }

/* True if membarrier works in this process. Never under ThreadSanitizer, which cannot see it. */
bool sl_membarrier_ready(void);

/* The same, decided when the library is loaded: who leaves out a fence, and who makes the barrier in its place, must agree at any time. */
extern bool sl_use_membarrier;

/* Every thread of the process passes a full barrier before this returns. */
void sl_membarrier(void);

/* Interrupt the processor `cpu` if a thread of this process runs there (-1: all of them), so that the kernel runs that thread's pending
 * task work. No effect on the program. */
void sl_cpu_kick(int cpu);

/* Where the calling thread's current processor number can be read by others: the rseq area's cpu_id; NULL without rseq. */
const uint32_t *sl_rseq_cpu_slot(void);

/* Processors of the affinity mask, cut to the cgroup's quota; at least 1. */
unsigned sl_cpu_count(void);

#endif
