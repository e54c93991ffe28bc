/* bench_runtime_idle.c - what a runtime with nothing to do costs: processor time and wake-ups while its only fiber sleeps. */
#include "harness.h"

#include <sley.h>
#include <sys/resource.h>

enum what { PERCENT_OF_A_CORE, WAKES_A_SECOND };

static double cpu_s(const struct rusage *u)
{
    return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) + 1e-6 * (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

/* b->n: tenths of a second; b->a: enum what */
static int sample(const struct bench *b)
{
    double seconds = (double)b->n / 10;
    struct rusage before, after;

    BENCH_CHECK(sley_sleep(SLEY_S / 5) == 0); /* until what the start has stirred up lies still */
    getrusage(RUSAGE_SELF, &before);
    BENCH_CHECK(sley_sleep((sley_time)b->n * (SLEY_S / 10)) == 0);
    getrusage(RUSAGE_SELF, &after);
    if (b->a == PERCENT_OF_A_CORE)
        bench_report(100 * (cpu_s(&after) - cpu_s(&before)) / seconds);
    else
        bench_report((double)(after.ru_nvcsw - before.ru_nvcsw - 1) / seconds); /* one is the end of the sleep */
    return 0;
}

#define ROW(label, unit_name, what) \
    { .name = "idle", .params = label, .workers = 2, .n = 50, .samples = 1, .kind = BENCH_VALUE, .unit = unit_name, \
      .sample = sample, .a = what }

static const struct bench benches[] = {
    ROW("cpu", "% of a core", PERCENT_OF_A_CORE),
    ROW("wakes", "1/s", WAKES_A_SECOND),
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
