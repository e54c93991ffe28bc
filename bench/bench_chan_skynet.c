/* bench_chan_skynet.c - a tree of fibers ten wide: a leaf sends its number up, the others the sum of ten, over a channel each. */
#include "harness.h"

#include <sley.h>

enum { WIDTH = 10 };

struct node {
    sley_chan *up;
    uint64_t   first, leaves; /* it stands for this many leaves, numbered from first */
    size_t     capacity;      /* of the channels */
};

static int grow(void *arg)
{
    struct node *n = arg;
    uint64_t sum = n->first, part;

    if (n->leaves > 1) {
        sley_chan *down = sley_chan_create(sizeof sum, n->capacity);

        BENCH_CHECK(down != NULL);
        sum = 0;
        for (uint64_t i = 0; i < WIDTH; i++) {
            struct node child = { down, n->first + i * (n->leaves / WIDTH), n->leaves / WIDTH, n->capacity };

            BENCH_CHECK(sley_go_copy(grow, &child, sizeof child) == 0);
        }
        for (int i = 0; i < WIDTH; i++) {
            BENCH_CHECK(sley_chan_recv(down, &part, SLEY_FOREVER) == 1);
            sum += part;
        }
        sley_chan_destroy(down);
    }
    BENCH_CHECK(sley_chan_send(n->up, &sum, SLEY_FOREVER) == 0);
    return 0;
}

/* b->n: fibers in all, 11...1; b->a: capacity */
static int sample(const struct bench *b)
{
    uint64_t leaves = (b->n * (WIDTH - 1) + 1) / WIDTH, sum;
    struct node root = { sley_chan_create(sizeof sum, 0), 0, leaves, b->a };

    BENCH_CHECK(root.up != NULL);
    BENCH_CHECK(sley_go_copy(grow, &root, sizeof root) == 0);
    BENCH_CHECK(sley_chan_recv(root.up, &sum, SLEY_FOREVER) == 1);
    BENCH_CHECK(sum == leaves * (leaves - 1) / 2);
    sley_chan_destroy(root.up);
    return 0;
}

#define ROW(label, worker_count, messages) \
    { .name = "skynet", .params = label, .workers = worker_count, .n = 1111111, .n_min = 11111, .samples = 5, .sample = sample, \
      .a = messages }

static const struct bench benches[] = {
    ROW("capacity=0", 1, 0),
    ROW("capacity=0", 2, 0),
    ROW("capacity=10", 1, 10),
    ROW("capacity=10", 2, 10),
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
