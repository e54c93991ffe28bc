/* futex.c - the futex system call, on words of this process only. */
#include "plat/futex.h"

#include "base/atomic.h"
#include "plat/cpu.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void sl_futex_wait(_Atomic(uint32_t) *word, uint32_t value, int64_t deadline)
{
    int saved = errno;
#ifdef SL_TSAN
    /* ThreadSanitizer keeps a signal for the next call that it intercepts; one that comes just before the wait would be kept for ever. */
    int64_t soon = sl_clock_ns() + 10000000;

    nanosleep(&(struct timespec){ 0, 0 }, NULL);
    deadline = deadline < soon ? deadline : soon;
#endif
    struct timespec at = { .tv_sec = deadline / 1000000000, .tv_nsec = deadline % 1000000000 };

    if (deadline < 0)
        at = (struct timespec){ 0 };
    /* The bitset form takes a point in time, of CLOCK_MONOTONIC. */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value, deadline == INT64_MAX ? NULL : &at, NULL,
            FUTEX_BITSET_MATCH_ANY);
    errno = saved;
}

void sl_futex_wake(_Atomic(uint32_t) *word, int threads)
{
    int saved = errno;

    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, threads, NULL, NULL, 0);
    errno = saved;
}
