/* sigpipe.c - writing to a pipe or socket whose reader has gone raises SIGPIPE, and no call of the library may (sys.h). */
#include "io/sys.h"

#include <signal.h>

#define SET_BYTES   8 /* of the kernel's set of signals */
#define SIGPIPE_BIT (UINT64_C(1) << (SIGPIPE - 1))

void sl_sigpipe_hold_slow(struct sl_sigpipe *h)
{
    uint64_t pending = 0, sigpipe = SIGPIPE_BIT;

    sl_sys6(SYS_rt_sigprocmask, SIG_BLOCK, (long)&sigpipe, (long)&h->mask, SET_BYTES, 0, 0);
    if (h->mask & SIGPIPE_BIT)
        sl_sys6(SYS_rt_sigpending, (long)&pending, SET_BYTES, 0, 0, 0, 0);
    h->is_held = !(pending & SIGPIPE_BIT); /* one that is pending was blocked before, and there is never a second one */
}

/* A write that is cut short by the reader's end returns what has gone, and raises it all the same: so it is looked for always. */
void sl_sigpipe_drop_slow(const struct sl_sigpipe *h)
{
    const struct timespec none = { 0 };
    uint64_t sigpipe = SIGPIPE_BIT;

    sl_sys6(SYS_rt_sigtimedwait, (long)&sigpipe, 0, (long)&none, SET_BYTES, 0, 0);
    if (!(h->mask & SIGPIPE_BIT))
        sl_sys6(SYS_rt_sigprocmask, SIG_SETMASK, (long)&h->mask, 0, SET_BYTES, 0, 0);
}
