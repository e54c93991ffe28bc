/* Seed 001, producer and consumer: numbers are sent in, "OK" comes back; then the two errors that the seed names.
 *
 * Values of both directions have one size, so what may be a number or a string is a union. send(None) is a resume without a value: the
 * body's yield then returns 0 instead of 1. StopIteration is the 0 of a resume, the TypeError is -EINVAL.
 *
 *   $ 03_send_ok
 *   producer 1
 *   consumer 1
 *   consumer return OK
 *   (the same for 2, 3, 4 and 5)
 *   StopIteration
 *   can't send non-None value to a just-started generator
 */
#include <sley.h>
#include <errno.h>
#include <stdio.h>

union value {
    int n;
    const char *r;
};

static int producer(sley_gen *c)
{
    union value n = { .n = 0 }, r;
    int rc = sley_gen_send(c, NULL, NULL); /* c.send(None) */

    while (rc > 0 && n.n < 5) {
        n.n += 1;
        printf("producer %d\n", n.n);
        rc = sley_gen_send(c, &n, &r); /* r = c.send(n) */
        if (rc > 0)
            printf("consumer return %s\n", r.r);
    }
    return rc < 0 ? rc : 0;
}

static int consumer(void *arg)
{
    union value n, r = { .r = "" };
    int rc;

    (void)arg;
    for (;;) {
        rc = sley_gen_yield(&r, &n); /* n = yield r */
        if (rc <= 0 || n.n == 0)     /* if not n: 0 is None */
            return rc < 0 ? rc : 0;
        printf("consumer %d\n", n.n);
        r.r = "OK";
    }
}

static int start(void *arg)
{
    sley_gen *c = sley_gen_create(consumer, NULL, sizeof(union value));
    sley_gen *just_started = sley_gen_create(consumer, NULL, sizeof(union value));
    int rc = producer(c);

    (void)arg;
    if (rc == 0 && (rc = sley_gen_send(c, &(union value){ .n = 0 }, NULL)) == 0)
        puts("StopIteration");
    if (rc == 0 && (rc = sley_gen_send(just_started, &(union value){ .n = 1 }, NULL)) == -EINVAL && just_started != NULL) {
        puts("can't send non-None value to a just-started generator");
        rc = 0;
    }
    sley_gen_destroy(just_started);
    sley_gen_destroy(c);
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
