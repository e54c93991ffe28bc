/* bench_gen.c - generators: a value sent and one answered, a value asked for, and one made, started and closed. Nanoseconds each. */
#include "harness.h"

#include <sley.h>

static int add_one(void *arg)
{
    uint64_t in, out = 0;
    int rc;

    (void)arg;
    while ((rc = sley_gen_yield(&out, &in)) > 0)
        out = in + 1;
    return rc;
}

static int sample_send(const struct bench *b)
{
    sley_gen *g = sley_gen_create(add_one, NULL, sizeof(uint64_t));
    uint64_t x = 0;

    BENCH_CHECK(g != NULL && sley_gen_next(g, &x) == 1);
    for (uint64_t i = 0; i < b->n; i++)
        BENCH_CHECK(sley_gen_send(g, &x, &x) == 1);
    BENCH_CHECK(x == b->n);
    sley_gen_destroy(g);
    return 0;
}

static int count(void *arg)
{
    uint64_t x = 0;
    int rc;

    (void)arg;
    while ((rc = sley_gen_yield(&x, NULL)) == 0)
        x++;
    return rc;
}

static int sample_next(const struct bench *b)
{
    sley_gen *g = sley_gen_create(count, NULL, sizeof(uint64_t));
    uint64_t x, sum = 0;

    for (uint64_t i = 0; i < b->n; i++) {
        BENCH_CHECK(sley_gen_next(g, &x) == 1);
        sum += x;
    }
    BENCH_CHECK(sum == b->n * (b->n - 1) / 2);
    sley_gen_destroy(g);
    return 0;
}

static int sample_make(const struct bench *b)
{
    for (uint64_t i = 0; i < b->n; i++) {
        sley_gen *g = sley_gen_create(count, NULL, sizeof(uint64_t));
        uint64_t x;

        BENCH_CHECK(sley_gen_next(g, &x) == 1 && x == 0);
        sley_gen_destroy(g);
    }
    return 0;
}

static const struct bench benches[] = {
    { .name = "gen-send", .params = "bytes=8", .workers = 1, .n = 4000000, .sample = sample_send },
    { .name = "gen-next", .params = "bytes=8", .workers = 1, .n = 4000000, .sample = sample_next },
    { .name = "gen-make", .params = "", .workers = 1, .n = 400000, .sample = sample_make },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
