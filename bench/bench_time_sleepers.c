/* bench_time_sleepers.c - 200,000 fibers sleep 1 to 100 ms each, all at once: wall time a fiber, from the first start to the last end.
 * 100 ms of it, 500 ns a fiber, are the longest sleep. */
#include "harness.h"

#include <sley.h>

static struct dormitory {
    sley_waitgroup asleep;
    sley_time      opened;
    uint8_t        in_time[200000]; /* 1: ended, and not before its time */
} dormitory;

static int sleep_once(void *arg)
{
    uint8_t *in_time = arg;
    sley_time wait_ns = (1 + (in_time - dormitory.in_time) % 100) * SLEY_MS;

    BENCH_CHECK(sley_sleep(wait_ns) == 0);
    *in_time = sley_now() - dormitory.opened >= wait_ns;
    sley_waitgroup_done(&dormitory.asleep);
    return 0;
}

static int sample(const struct bench *b)
{
    uint64_t in_time = 0;

    dormitory.opened = sley_now();
    sley_waitgroup_add(&dormitory.asleep, (int)b->n);
    for (uint64_t i = 0; i < b->n; i++) {
        dormitory.in_time[i] = 0;
        BENCH_CHECK(sley_go(sleep_once, &dormitory.in_time[i]) == 0);
    }
    BENCH_CHECK(sley_waitgroup_wait(&dormitory.asleep, SLEY_FOREVER) == 0);
    for (uint64_t i = 0; i < b->n; i++)
        in_time += dormitory.in_time[i];
    BENCH_CHECK(in_time == b->n);
    return 0;
}

#define ROW(worker_count) \
    { .name = "sleepers", .params = "1-100ms", .workers = worker_count, .n = sizeof dormitory.in_time, .kind = BENCH_ROUNDS, \
      .sample = sample }

static const struct bench benches[] = {
    ROW(1),
    ROW(2),
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
