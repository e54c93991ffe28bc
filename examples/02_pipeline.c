/* Producers and consumers on all cores around one bounded channel; whoever took which number, the checksum is the same.
 * Arguments: producers, consumers, numbers each producer sends, capacity of the channel.
 *
 *   $ 02_pipeline 4 3 100000 64
 *   400000 numbers, checksum b1c28d99197575e8
 */
#include <sley.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct sum {
    uint64_t count, checksum;
};

static struct {
    long producers, consumers, each, capacity;
    sley_chan *numbers, *sums;
    sley_waitgroup producing;
    struct sum total;
} line = { .producers = 4, .consumers = 3, .each = 100000, .capacity = 64 };

static uint64_t mix(uint64_t x) /* so that a number lost and another doubled cannot cancel out */
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static int produce(void *arg)
{
    uint64_t first = *(long *)arg * (uint64_t)line.each;
    int rc = 0;

    for (uint64_t n = first; n < first + line.each && rc == 0; n++)
        rc = sley_chan_send(line.numbers, &n, SLEY_FOREVER);
    sley_waitgroup_done(&line.producing);
    return rc;
}

static int consume(void *arg)
{
    struct sum mine = { 0, 0 };
    uint64_t n;
    int rc;

    (void)arg;
    while ((rc = sley_chan_recv(line.numbers, &n, SLEY_FOREVER)) > 0) {
        mine.count++;
        mine.checksum += mix(n);
    }
    return rc < 0 ? rc : sley_chan_send(line.sums, &mine, SLEY_FOREVER);
}

static int start(void *arg)
{
    struct sum one;
    int rc;

    (void)arg;
    sley_waitgroup_add(&line.producing, line.producers);
    for (long i = 0; i < line.producers; i++)
        if ((rc = sley_go_copy(produce, &i, sizeof i)) < 0)
            return rc;
    for (long i = 0; i < line.consumers; i++)
        if ((rc = sley_go(consume, NULL)) < 0)
            return rc;

    if ((rc = sley_waitgroup_wait(&line.producing, SLEY_FOREVER)) < 0)
        return rc;
    sley_chan_close(line.numbers); /* what is in it will still be received */
    for (long i = 0; i < line.consumers; i++) {
        if ((rc = sley_chan_recv(line.sums, &one, SLEY_FOREVER)) < 0)
            return rc;
        line.total.count += one.count;
        line.total.checksum += one.checksum;
    }
    return 0;
}

int main(int argc, char **argv)
{
    long *settings[] = { &line.producers, &line.consumers, &line.each, &line.capacity };
    int rc;

    for (int i = 1; i < argc && i <= 4; i++) {
        char *end;
        *settings[i - 1] = strtol(argv[i], &end, 10);
        if (*end != '\0' || *settings[i - 1] < (i < 3) || *settings[i - 1] > 1000000000) {
            fprintf(stderr, "usage: %s [PRODUCERS [CONSUMERS [NUMBERS [CAPACITY]]]]\n", argv[0]);
            return 2;
        }
    }
    line.numbers = sley_chan_create(sizeof(uint64_t), line.capacity);
    line.sums = sley_chan_create(sizeof(struct sum), 0);
    if (line.numbers == NULL || line.sums == NULL) {
        fprintf(stderr, "no memory\n");
        return 1;
    }
    rc = sley_run(NULL, start, NULL);
    sley_chan_destroy(line.numbers); /* only now has every fiber let go of them */
    sley_chan_destroy(line.sums);
    if (rc < 0) {
        fprintf(stderr, "failed: error %d\n", -rc);
        return 1;
    }
    printf("%" PRIu64 " numbers, checksum %016" PRIx64 "\n", line.total.count, line.total.checksum);
    return 0;
}
