/* bench_chan_buffered.c - producers and consumers over one channel of 1,024 messages of 8 bytes: nanoseconds a message. */
#include "harness.h"

#include <sley.h>

enum { CAPACITY = 1024, BATCH_MAX = 32, SIDE_MAX = 4 };

struct pipe {
    sley_chan     *ch;
    sley_waitgroup producers, consumers;
    uint64_t       messages_each;
    size_t         batch;
};

struct end {
    _Alignas(64) struct pipe *pipe; /* a line each: the sums are written all the time */
    uint64_t count, sum;
};

static int produce(void *arg)
{
    struct end *e = arg;
    struct pipe *p = e->pipe;

    for (uint64_t x = 0; x < p->messages_each; x++) {
        BENCH_CHECK(sley_chan_send(p->ch, &x, SLEY_FOREVER) == 0);
        e->sum += x;
    }
    e->count = p->messages_each;
    sley_waitgroup_done(&p->producers);
    return 0;
}

static int produce_batches(void *arg)
{
    struct end *e = arg;
    struct pipe *p = e->pipe;
    uint64_t batch[BATCH_MAX];

    while (e->count < p->messages_each) {
        uint64_t left = p->messages_each - e->count;
        size_t want = left < p->batch ? (size_t)left : p->batch, gone = 0;

        for (size_t i = 0; i < want; i++) {
            batch[i] = e->count + i;
            e->sum += batch[i];
        }
        while (gone < want) {
            int n = sley_chan_send_n(p->ch, batch + gone, want - gone, SLEY_FOREVER);

            BENCH_CHECK(n > 0);
            gone += (size_t)n;
        }
        e->count += want;
    }
    sley_waitgroup_done(&p->producers);
    return 0;
}

static int consume(void *arg)
{
    struct end *e = arg;
    uint64_t x;
    int rc;

    while ((rc = sley_chan_recv(e->pipe->ch, &x, SLEY_FOREVER)) == 1) {
        e->sum += x;
        e->count++;
    }
    BENCH_CHECK(rc == 0);
    sley_waitgroup_done(&e->pipe->consumers);
    return 0;
}

static int consume_batches(void *arg)
{
    struct end *e = arg;
    uint64_t batch[BATCH_MAX];
    int n;

    while ((n = sley_chan_recv_n(e->pipe->ch, batch, e->pipe->batch, SLEY_FOREVER)) > 0) {
        for (int i = 0; i < n; i++)
            e->sum += batch[i];
        e->count += (uint64_t)n;
    }
    BENCH_CHECK(n == 0);
    sley_waitgroup_done(&e->pipe->consumers);
    return 0;
}

/* b->a: fibers a side; b->b: messages a call */
static int sample(const struct bench *b)
{
    struct pipe p = { .ch = sley_chan_create(sizeof(uint64_t), CAPACITY), .messages_each = b->n / b->a, .batch = b->b };
    struct end in[SIDE_MAX] = { { 0 } }, out[SIDE_MAX] = { { 0 } };
    uint64_t sent = 0, received = 0, sum_sent = 0, sum_received = 0;

    BENCH_CHECK(p.ch != NULL && b->n % b->a == 0);
    sley_waitgroup_add(&p.producers, (int)b->a);
    sley_waitgroup_add(&p.consumers, (int)b->a);
    for (uint64_t i = 0; i < b->a; i++) {
        in[i].pipe = out[i].pipe = &p;
        BENCH_CHECK(sley_go(p.batch > 1 ? consume_batches : consume, &out[i]) == 0);
        BENCH_CHECK(sley_go(p.batch > 1 ? produce_batches : produce, &in[i]) == 0);
    }
    BENCH_CHECK(sley_waitgroup_wait(&p.producers, SLEY_FOREVER) == 0);
    sley_chan_close(p.ch);
    BENCH_CHECK(sley_waitgroup_wait(&p.consumers, SLEY_FOREVER) == 0);
    for (uint64_t i = 0; i < b->a; i++) {
        sent += in[i].count;
        received += out[i].count;
        sum_sent += in[i].sum;
        sum_received += out[i].sum;
    }
    BENCH_CHECK(sent == b->n && received == b->n && sum_sent == sum_received);
    sley_chan_destroy(p.ch);
    return 0;
}

#define ROW(label, worker_count, side, messages) \
    { .name = "chan-buffered", .params = label, .workers = worker_count, .n = 400000, .n_min = 4000, .sample = sample, \
      .a = side, .b = messages }

static const struct bench benches[] = {
    ROW("1:1 capacity=1024", 1, 1, 1),
    ROW("1:1 capacity=1024", 2, 1, 1),
    ROW("1:1 capacity=1024 batch=32", 1, 1, 32),
    ROW("1:1 capacity=1024 batch=32", 2, 1, 32),
    ROW("4:4 capacity=1024", 1, 4, 1),
    ROW("4:4 capacity=1024", 2, 4, 1),
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, benches, sizeof benches / sizeof benches[0]);
}
