/* Seed 002, a coroutine driven by send(None): it runs until it waits or returns; what it returned comes out of StopIteration.
 *
 * async and await need no words of their own here: any function can be a coroutine, and to await one is to call it. What a body's int
 * cannot say, None, it leaves in the struct that it was given.
 *
 *   $ 07_await
 *   1
 *   1
 *   None
 */
#include <sley.h>
#include <stdio.h>

struct value {
    enum { NONE, INT } type;
    int i;
};

static void print(struct value v)
{
    if (v.type == NONE)
        puts("None");
    else
        printf("%d\n", v.i);
}

static int async_function(void *value)
{
    *(struct value *)value = (struct value){ INT, 1 };
    return 0;
}

static int await_coroutine(void *value)
{
    struct value result;
    int rc = async_function(&result); /* result = await async_function() */

    if (rc == 0) {
        print(result);
        *(struct value *)value = (struct value){ NONE, 0 };
    }
    return rc;
}

static int run(sley_fn *function, struct value *value)
{
    sley_gen *coroutine = sley_gen_create(function, value, 0);
    int rc = sley_gen_send(coroutine, NULL, NULL);

    sley_gen_destroy(coroutine);
    return rc;
}

static int start(void *arg)
{
    struct value value = { NONE, 0 };
    int rc;

    (void)arg;
    if ((rc = run(async_function, &value)) == 0)
        print(value);
    if (rc == 0 && (rc = run(await_coroutine, &value)) == 0)
        print(value);
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
