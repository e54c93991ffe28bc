/* Seeds 000 and 001, yield from: over an array, and over another generator, which then has what is sent, thrown and returned.
 *
 * An exception is an error number that the yield returns. A generator returns an int, and that is what yield from returns; so it is never
 * mistaken for an error, which is less than 0. (If `inner` were not to be a generator of its own, outer could as well call it: a body may
 * yield from any depth.)
 *
 *   $ 05_yield_from
 *   10 20 0
 *   3 7
 *   inner caught
 *   7
 *   inner returned 7
 *   outer returned 14
 */
#include <sley.h>
#include <errno.h>
#include <stdio.h>

#define VALUE_ERROR (-EDOM)

static int inner(void *arg)
{
    int total = 0;

    (void)arg;
    for (;;) {
        int x, rc = sley_gen_yield(&total, &x); /* x = yield total */

        if (rc == VALUE_ERROR) {
            puts("inner caught");
            continue;
        }
        if (rc < 0)
            return rc;
        if (rc == 0) /* x is None */
            return total;
        total += x;
    }
}

static int outer(void *arg)
{
    static const int list[] = { 10, 20 };
    sley_gen *of_list = sley_gen_from_array(list, 2, sizeof list[0]);
    sley_gen *of_inner = sley_gen_create(inner, NULL, sizeof(int));
    int r = sley_gen_yield_from(of_list);

    (void)arg;
    if (r >= 0)
        r = sley_gen_yield_from(of_inner);
    if (r >= 0) {
        printf("inner returned %d\n", r);
        r *= 2;
    }
    sley_gen_destroy(of_inner);
    sley_gen_destroy(of_list);
    return r;
}

/* The main program of the seed, until a resume returns something else than expected. */
static int drive(sley_gen *g)
{
    int a, b, c, rc;

    if ((rc = sley_gen_next(g, &a)) <= 0 || (rc = sley_gen_next(g, &b)) <= 0 || (rc = sley_gen_next(g, &c)) <= 0)
        return rc;
    printf("%d %d %d\n", a, b, c);
    if ((rc = sley_gen_send(g, &(int){ 3 }, &a)) <= 0 || (rc = sley_gen_send(g, &(int){ 4 }, &b)) <= 0)
        return rc;
    printf("%d %d\n", a, b);
    if ((rc = sley_gen_throw(g, VALUE_ERROR, &a)) <= 0)
        return rc;
    printf("%d\n", a);
    if ((rc = sley_gen_send(g, NULL, NULL)) == 0) /* StopIteration, which carries a value */
        printf("outer returned %d\n", sley_gen_result(g));
    return rc;
}

static int start(void *arg)
{
    sley_gen *g = sley_gen_create(outer, NULL, sizeof(int));
    int rc = drive(g);

    (void)arg;
    sley_gen_destroy(g);
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
