/* bench_fiber_spawn.c - start fibers and wait until they have ended: one at a time, and a million before the first wait. */
#include "harness.h"

#include <sley.h>

struct one {
    sley_waitgroup ended;
    uint64_t       ran;
};

static int run_once(void *arg)
{
    struct one *o = arg;

    o->ran++;
    sley_waitgroup_done(&o->ended);
    return 0;
}

static int spawn_and_join(const struct bench *b)
{
    struct one o = { .ran = 0 };

    for (uint64_t i = 0; i < b->n; i++) {
        sley_waitgroup_add(&o.ended, 1);
        BENCH_CHECK(sley_go(run_once, &o) == 0);
        BENCH_CHECK(sley_waitgroup_wait(&o.ended, SLEY_FOREVER) == 0);
        BENCH_CHECK(o.ran == i + 1);
    }
    return 0;
}

struct crowd {
    sley_waitgroup ended;
    uint8_t       *ran; /* a byte a fiber: no two workers write the same one */
};

struct member {
    struct crowd *crowd;
    uint64_t      number;
};

static int mark(void *arg)
{
    struct member *m = arg;

    m->crowd->ran[m->number]++;
    sley_waitgroup_done(&m->crowd->ended);
    return 0;
}

static uint8_t marks[1000000]; /* outside the runtime: its pages are touched once, before the first round ends */

static int spawn_all_then_join(const struct bench *b)
{
    struct crowd c = { .ran = marks };
    uint64_t sum = 0;

    for (uint64_t i = 0; i < b->n; i++)
        marks[i] = 0;
    sley_waitgroup_add(&c.ended, (int)b->n);
    for (uint64_t i = 0; i < b->n; i++) {
        struct member m = { &c, i };

        BENCH_CHECK(sley_go_copy(mark, &m, sizeof m) == 0);
    }
    BENCH_CHECK(sley_waitgroup_wait(&c.ended, SLEY_FOREVER) == 0);
    for (uint64_t i = 0; i < b->n; i++)
        sum += marks[i] == 1;
    BENCH_CHECK(sum == b->n);
    return 0;
}

static const struct bench benches[] = {
    { .name = "spawn-join", .params = "", .workers = 1, .n = 100000, .sample = spawn_and_join },
    { .name = "spawn-join", .params = "", .workers = 2, .n = 100000, .sample = spawn_and_join },
    { .name = "spawn-million", .params = "", .workers = 1, .n = sizeof marks, .kind = BENCH_ROUNDS, .sample = spawn_all_then_join },
    { .name = "spawn-million", .params = "", .workers = 2, .n = sizeof marks, .kind = BENCH_ROUNDS, .sample = spawn_all_then_join },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
