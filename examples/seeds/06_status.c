/* Seeds 002 and 003: the producer is a generator too. It hands what the consumer answers on to the main program, which ends the game when
 * the status is false. Both generators are left where they are, suspended, and are closed when they are destroyed.
 *
 *   $ 06_status
 *   我拿到了5!
 *   我拿到了4!
 *   我拿到了3!
 *   我只要3,4,5就行啦
 *   程序结束
 */
#include <sley.h>
#include <stdio.h>

static int consumer(void *arg)
{
    int status = 1, nr, rc;

    (void)arg;
    while ((rc = sley_gen_yield(&status, &nr)) > 0) { /* nr = yield status */
        printf("我拿到了%d!\n", nr);
        if (nr == 3)
            status = 0;
    }
    return rc;
}

static int producer(void *consumer)
{
    int n = 5, status, rc = 0;

    while (n > 0 && rc >= 0) {
        if ((rc = sley_gen_send(consumer, &n, &status)) > 0)
            rc = sley_gen_yield(&status, NULL); /* yield consumer.send(n) */
        n -= 1;
    }
    return rc;
}

static int start(void *arg)
{
    sley_gen *c = sley_gen_create(consumer, NULL, sizeof(int)), *p;
    int status, rc = sley_gen_send(c, NULL, NULL); /* c.send(None) */

    (void)arg;
    p = sley_gen_create(producer, c, sizeof(int));
    while (rc > 0 && (rc = sley_gen_next(p, &status)) > 0) { /* for status in p */
        if (status == 0) {
            puts("我只要3,4,5就行啦");
            break;
        }
    }
    puts("程序结束");
    sley_gen_destroy(p);
    sley_gen_destroy(c);
    return rc < 0 ? rc : 0;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
