/* bench_fiber_yield.c - two fibers yield in turn on one worker: nanoseconds a yield. */
#include "harness.h"

#include <sley.h>

struct table {
    sley_waitgroup both;
    uint64_t       turns_each, out_of_turn;
    int            last;
};

struct seat {
    struct table *table;
    int           number;
};

static int take_turns(void *arg)
{
    struct seat *s = arg;
    struct table *t = s->table;

    for (uint64_t i = 0; i < t->turns_each; i++) {
        t->out_of_turn += t->last == s->number;
        t->last = s->number;
        BENCH_CHECK(sley_yield() == 0);
    }
    sley_waitgroup_done(&t->both);
    return 0;
}

static int sample(const struct bench *b)
{
    struct table t = { .turns_each = b->n / 2, .last = -1 };
    struct seat seats[2] = { { &t, 0 }, { &t, 1 } };

    sley_waitgroup_add(&t.both, 2);
    for (int i = 0; i < 2; i++)
        BENCH_CHECK(sley_go(take_turns, &seats[i]) == 0);
    BENCH_CHECK(sley_waitgroup_wait(&t.both, SLEY_FOREVER) == 0);
    BENCH_CHECK(t.out_of_turn <= 1); /* when the first of them ends */
    return 0;
}

static const struct bench benches[] = {
    { .name = "yield", .params = "fibers=2", .workers = 1, .n = 1000000, .sample = sample },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
