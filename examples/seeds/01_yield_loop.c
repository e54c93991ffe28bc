/* Seed 000, producer and consumer over send(): the consumer is a generator that asks for more by yield, the producer an ordinary function
 * that sends. In the seed it goes on for ever, here it ends after 8 rounds.
 *
 * What Python writes as `cnt = yield x` is one call, with a place for what goes out and one for what comes in. It returns less than 0 when
 * the generator is closed, where Python raises GeneratorExit: so the consumer, which never returns by itself, is left.
 *
 *   $ 01_yield_loop
 *   producer product 1 cnt =  1
 *   consumer get one
 *   (these two lines eight times)
 */
#include <sley.h>
#include <stdio.h>

static int consumer(void *arg)
{
    int cnt = 0, rc = sley_gen_yield(NULL, &cnt); /* cnt = yield */

    (void)arg;
    while (rc >= 0) {
        if (cnt <= 0 && (rc = sley_gen_yield(&cnt, &cnt)) < 0) /* cnt = yield cnt */
            break;
        cnt -= 1;
        puts("consumer get one");
    }
    return rc;
}

static int producer(int cnt, int rounds)
{
    sley_gen *gen = sley_gen_create(consumer, NULL, sizeof cnt);
    int rc = sley_gen_next(gen, NULL);

    if (rc > 0)
        rc = sley_gen_send(gen, &cnt, NULL);
    while (rc > 0 && rounds > 0) {
        rounds -= 1;
        cnt += 1;
        printf("producer product 1 cnt =  %d\n", cnt);
        rc = sley_gen_send(gen, &cnt, &cnt); /* cnt = gen.send(cnt) */
    }
    sley_gen_destroy(gen);
    return rc < 0 ? rc : 0;
}

static int start(void *arg)
{
    (void)arg;
    return producer(0, 8);
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
