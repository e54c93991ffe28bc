/* cpu.c - membarrier, the rseq area, and how many processors there are. */
#include "plat/cpu.h"
#include "base/atomic.h"
#include "plat/feature.h"
#include "plat/quota.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    ASKED = 1,      /* the kernel was asked and this process registered */
    EXPEDITED = 2,  /* PRIVATE_EXPEDITED works, Linux 4.14 */
    ONE_CPU = 4     /* PRIVATE_EXPEDITED_RSEQ with MEMBARRIER_CMD_FLAG_CPU works, Linux 5.10 */
};

static _Atomic(unsigned) abilities; /* set once; concurrent first callers find the same */

static long membarrier(int command, unsigned flags, int cpu)
{
    int saved = errno;
    long rc = syscall(SYS_membarrier, command, flags, cpu);

    if (rc < 0)
        rc = -errno;
    errno = saved;
    return rc;
}

/* Register this process for a barrier, and make one. 0; -errno. */
static int try_barrier(int enlist, int barrier, unsigned flags)
{
    long rc = membarrier(enlist, 0, 0);

    return (int)(rc == 0 ? membarrier(barrier, flags, 0) : rc);
}

static unsigned ask(void)
{
    unsigned found = ASKED;
    int rc;

    if (sl_feature_allowed(SL_FEATURE_MEMBARRIER)) {
        rc = try_barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0);
        sl_feature_note(SL_FEATURE_MEMBARRIER, rc);
        found |= rc == 0 ? EXPEDITED : 0;
    }
    rc = try_barrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_FLAG_CPU);
    sl_feature_note(SL_FEATURE_MEMBARRIER_CPU, rc);
    found |= rc == 0 ? ONE_CPU : 0;
    sl_store_relaxed(&abilities, found); /* whoever does not see it asks again and finds the same */
    return found;
}

static unsigned known_abilities(void)
{
    unsigned found = sl_load_relaxed(&abilities);

    return found != 0 ? found : ask();
}

bool sl_membarrier_ready(void)
{
    bool works = known_abilities() & EXPEDITED;

#ifdef SL_TSAN
    works = false; /* but for kicks */
#endif
    return works;
}

bool sl_use_membarrier;

/* Before the constructors of programs, some of which may start threads. */
static __attribute__((constructor(101))) void decide(void)
{
    sl_feature_disable_at_load();
    sl_use_membarrier = sl_membarrier_ready();
}

void sl_membarrier(void)
{
    membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

void sl_cpu_kick(int cpu)
{
    unsigned can = known_abilities();

    if (cpu >= 0 && (can & ONE_CPU) && sl_feature_allowed(SL_FEATURE_MEMBARRIER_CPU))
        membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_FLAG_CPU, cpu);
    else if (can & EXPEDITED)
        membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

/* glibc registers the area for every thread from 2.35 on. Named weakly, so that an older one still loads the library. */
extern const ptrdiff_t    __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

#define RSEQ_CPU_ID 4 /* offset of cpu_id in struct rseq */

const uint32_t *sl_rseq_cpu_slot(void)
{
    char *thread;

    if (!sl_feature_allowed(SL_FEATURE_RSEQ))
        return NULL;
    if (&__rseq_size == NULL || &__rseq_offset == NULL || __rseq_size == 0) {
        sl_feature_note(SL_FEATURE_RSEQ, -ENOSYS);
        return NULL;
    }
    sl_feature_note(SL_FEATURE_RSEQ, 0);
#if defined(__x86_64__)
    __asm__("mov %%fs:0, %0" : "=r"(thread)); /* clang 14 has no __builtin_thread_pointer here */
#else
    thread = __builtin_thread_pointer();
#endif
    return (const uint32_t *)(void *)(thread + __rseq_offset + RSEQ_CPU_ID);
}

static unsigned affinity_count(void)
{
    int saved = errno, count = 0;

    /* The kernel refuses a set smaller than its own, whose size it does not tell. */
    for (int size = 1024; count == 0 && size <= 1 << 20; size *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)size);

        if (set == NULL)
            break;
        if (sched_getaffinity(0, CPU_ALLOC_SIZE((size_t)size), set) == 0)
            count = CPU_COUNT_S(CPU_ALLOC_SIZE((size_t)size), set);
        CPU_FREE(set);
    }
    errno = saved;
    return count > 0 ? (unsigned)count : 1;
}

unsigned sl_cpu_count(void)
{
    unsigned count = affinity_count(), quota = sl_quota_cpus("");

    return quota != 0 && quota < count ? quota : count;
}
