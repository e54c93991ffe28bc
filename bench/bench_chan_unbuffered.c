/* bench_chan_unbuffered.c - a question and its answer over two unbuffered channels: nanoseconds a round trip. */
#include "harness.h"

#include <sley.h>

struct line {
    sley_chan *question, *answer;
};

static int answer_all(void *arg)
{
    struct line *l = arg;
    uint64_t x;

    while (sley_chan_recv(l->question, &x, SLEY_FOREVER) == 1) {
        x++;
        BENCH_CHECK(sley_chan_send(l->answer, &x, SLEY_FOREVER) == 0);
    }
    sley_chan_close(l->answer);
    return 0;
}

static int sample(const struct bench *b)
{
    struct line l = { sley_chan_create(sizeof(uint64_t), 0), sley_chan_create(sizeof(uint64_t), 0) };
    uint64_t x = 0;

    BENCH_CHECK(l.question != NULL && l.answer != NULL);
    BENCH_CHECK(sley_go(answer_all, &l) == 0);
    for (uint64_t i = 0; i < b->n; i++) {
        BENCH_CHECK(sley_chan_send(l.question, &x, SLEY_FOREVER) == 0);
        BENCH_CHECK(sley_chan_recv(l.answer, &x, SLEY_FOREVER) == 1);
    }
    BENCH_CHECK(x == b->n);
    sley_chan_close(l.question);
    BENCH_CHECK(sley_chan_recv(l.answer, &x, SLEY_FOREVER) == 0); /* the other has ended its loop */
    sley_chan_destroy(l.question);
    sley_chan_destroy(l.answer);
    return 0;
}

static const struct bench benches[] = {
    { .name = "chan-round-trip", .params = "capacity=0", .workers = 1, .n = 100000, .sample = sample },
    { .name = "chan-round-trip", .params = "capacity=0", .workers = 2, .n = 100000, .sample = sample },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
