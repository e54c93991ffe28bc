/* bench_task_await.c - start a task, await its outcome, give the future back; one at a time: nanoseconds for the three. */
#include "harness.h"

#include <sley.h>

static int follow(void *arg)
{
    const uint64_t *i = arg;

    return (int)(*i + 1);
}

static int sample(const struct bench *b)
{
    for (uint64_t i = 0; i < b->n; i++) {
        sley_future *f = sley_task_create(follow, &i);

        BENCH_CHECK(f != NULL);
        BENCH_CHECK(sley_await(f, SLEY_FOREVER) == (int)(i + 1));
        sley_future_destroy(f);
    }
    return 0;
}

static const struct bench benches[] = {
    { .name = "task-await", .params = "", .workers = 1, .n = 100000, .sample = sample },
    { .name = "task-await", .params = "", .workers = 2, .n = 100000, .sample = sample },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
