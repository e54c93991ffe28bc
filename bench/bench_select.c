/* bench_select.c - one fiber selects over two channels, each with a producer of its own: nanoseconds a message. */
#include "harness.h"

#include <sley.h>

struct source {
    sley_chan      *ch;
    sley_waitgroup *ended;
    uint64_t        messages;
};

static int produce(void *arg)
{
    struct source *s = arg;

    for (uint64_t x = 0; x < s->messages; x++)
        BENCH_CHECK(sley_chan_send(s->ch, &x, SLEY_FOREVER) == 0);
    sley_chan_close(s->ch);
    sley_waitgroup_done(s->ended);
    return 0;
}

/* b->a: the capacity of each channel */
static int sample(const struct bench *b)
{
    sley_waitgroup ended = { { 0 } };
    struct source sources[2];
    sley_case on[2];
    uint64_t next[2] = { 0, 0 }, x;
    int open = 2;

    sley_waitgroup_add(&ended, 2);
    for (int i = 0; i < 2; i++) {
        sources[i] = (struct source){ sley_chan_create(sizeof x, b->a), &ended, b->n / 2 };
        BENCH_CHECK(sources[i].ch != NULL);
        BENCH_CHECK(sley_go(produce, &sources[i]) == 0);
        on[i] = sley_case_recv(sources[i].ch, &x);
    }
    while (open > 0) {
        int i = sley_select(on, 2, SLEY_FOREVER);

        BENCH_CHECK(i == 0 || i == 1);
        if (on[i].result == 1) {
            BENCH_CHECK(x == next[i]);
            next[i]++;
        } else {
            BENCH_CHECK(on[i].result == 0);
            on[i] = sley_case_recv(NULL, NULL); /* closed: this arm shall not fire again */
            open--;
        }
    }
    BENCH_CHECK(next[0] == b->n / 2 && next[1] == b->n / 2);
    BENCH_CHECK(sley_waitgroup_wait(&ended, SLEY_FOREVER) == 0);
    for (int i = 0; i < 2; i++)
        sley_chan_destroy(sources[i].ch);
    return 0;
}

static const struct bench benches[] = {
    { .name = "select", .params = "channels=2 capacity=1024", .workers = 1, .n = 400000, .n_min = 8000, .sample = sample, .a = 1024 },
    { .name = "select", .params = "channels=2 capacity=1024", .workers = 2, .n = 400000, .n_min = 8000, .sample = sample, .a = 1024 },
    { .name = "select", .params = "channels=2 capacity=0", .workers = 1, .n = 100000, .sample = sample },
    { .name = "select", .params = "channels=2 capacity=0", .workers = 2, .n = 100000, .sample = sample },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
