/* bench_fiber_memory.c - bytes of memory a fiber costs, page tables included: parked, and started but not yet begun. */
#include "harness.h"

#include <sley.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t kilobytes(const char *path, const char *key)
{
    char line[256];
    uint64_t kb = 0;
    FILE *f = fopen(path, "re");

    BENCH_CHECK(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            kb = strtoull(line + strlen(key), NULL, 10);
    fclose(f);
    return kb;
}

static uint64_t memory_bytes(void)
{
    return 1024 * (kilobytes("/proc/self/smaps_rollup", "Rss:") + kilobytes("/proc/self/status", "VmPTE:"));
}

struct crowd {
    sley_event     go_on;
    sley_waitgroup arrived, ended;
};

static int park(void *arg)
{
    struct crowd *c = arg;

    sley_waitgroup_done(&c->arrived);
    BENCH_CHECK(sley_event_wait(&c->go_on, SLEY_FOREVER) == 0);
    sley_waitgroup_done(&c->ended);
    return 0;
}

enum until { PARKED, STARTED };

/* b->a: enum until. With one worker nobody begins while the first fiber goes on. */
static int sample(const struct bench *b)
{
    struct crowd c = { .go_on = { { 0 } } };
    uint64_t before = memory_bytes();

    sley_waitgroup_add(&c.arrived, (int)b->n);
    sley_waitgroup_add(&c.ended, (int)b->n);
    for (uint64_t i = 0; i < b->n; i++)
        BENCH_CHECK(sley_go(park, &c) == 0);
    if (b->a == PARKED)
        BENCH_CHECK(sley_waitgroup_wait(&c.arrived, SLEY_FOREVER) == 0);
    bench_report((double)(memory_bytes() - before) / (double)b->n);
    sley_event_set(&c.go_on);
    BENCH_CHECK(sley_waitgroup_wait(&c.ended, SLEY_FOREVER) == 0);
    return 0;
}

static const struct bench benches[] = {
    { .name = "fiber-memory", .params = "parked", .workers = 1, .n = 100000, .kind = BENCH_VALUE, .unit = "bytes", .sample = sample,
      .a = PARKED },
    { .name = "fiber-memory", .params = "not-begun", .workers = 1, .n = 1000000, .kind = BENCH_VALUE, .unit = "bytes", .sample = sample,
      .a = STARTED },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
