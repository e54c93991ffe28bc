/* bench_sync_mutex.c - four fibers count under one lock: nanoseconds a turn, which is lock, count, unlock and, every 64th time, a
 * yield. The lock is free when a fiber yields, so with one worker nobody waits for it: the row is the price of a lock. With two
 * workers two fibers are at it at any time. */
#include "harness.h"

#include <sley.h>

enum { FIBERS = 4, YIELD_EVERY = 64 };

struct counter {
    _Alignas(64) sley_mutex lock;
    uint64_t       count; /* under lock */
    uint64_t       turns_each;
    sley_waitgroup ended;
};

static int count_together(void *arg)
{
    struct counter *c = arg;
    uint64_t turns = c->turns_each; /* read once: it lies in the line they quarrel over */

    for (uint64_t turn = 1; turn <= turns; turn++) {
        BENCH_CHECK(sley_mutex_lock(&c->lock, SLEY_FOREVER) == 0);
        c->count++;
        sley_mutex_unlock(&c->lock);
        if (turn % YIELD_EVERY == 0)
            BENCH_CHECK(sley_yield() == 0);
    }
    sley_waitgroup_done(&c->ended);
    return 0;
}

static int sample(const struct bench *b)
{
    struct counter c = { .turns_each = b->n / FIBERS };

    sley_waitgroup_add(&c.ended, FIBERS);
    for (int i = 0; i < FIBERS; i++)
        BENCH_CHECK(sley_go(count_together, &c) == 0);
    BENCH_CHECK(sley_waitgroup_wait(&c.ended, SLEY_FOREVER) == 0);
    BENCH_CHECK(c.count == b->n);
    return 0;
}

static const struct bench benches[] = {
    { .name = "mutex", .params = "fibers=4", .workers = 1, .n = 1000000, .sample = sample },
    { .name = "mutex", .params = "fibers=4", .workers = 2, .n = 1000000, .sample = sample },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
