/* Seed 002, a chain of awaits on an event loop. No function is marked: compute waits, print_sum calls it, and neither knows of the other's
 * waiting. sley_run is asyncio.run: it starts the loop, one on each core, and ends when print_sum has returned.
 *
 *   $ 08_print_sum
 *   Compute 1 + 2 ...
 *   1 + 2 = 3
 */
#include <sley.h>
#include <stdio.h>

static int compute(int x, int y, int *result)
{
    int rc;

    printf("Compute %d + %d ...\n", x, y);
    rc = sley_sleep(SLEY_S); /* await asyncio.sleep(1.0): this fiber waits, its thread does not */
    if (rc == 0)
        *result = x + y;
    return rc;
}

struct pair {
    int x, y;
};

static int print_sum(void *arg)
{
    const struct pair *p = arg;
    int result, rc = compute(p->x, p->y, &result); /* result = await compute(x, y) */

    if (rc == 0)
        printf("%d + %d = %d\n", p->x, p->y, result);
    return rc;
}

int main(void)
{
    return sley_run(NULL, print_sum, &(struct pair){ 1, 2 }) < 0 || fflush(stdout) != 0;
}
