/* Seed 001, the four states of a generator. Their names are those of Python's inspect.getgeneratorstate().
 *
 *   $ 04_states
 *   GEN_CREATED
 *   GEN_RUNNING
 *   GEN_SUSPENDED
 *   GEN_CLOSED
 */
#include <sley.h>
#include <stdio.h>

static sley_gen *it;

static const char *getgeneratorstate(const sley_gen *generator)
{
    static const char *const names[] = {
        [SLEY_GEN_CREATED] = "GEN_CREATED",
        [SLEY_GEN_RUNNING] = "GEN_RUNNING",
        [SLEY_GEN_SUSPENDED] = "GEN_SUSPENDED",
        [SLEY_GEN_CLOSED] = "GEN_CLOSED",
    };
    return names[sley_gen_state(generator)];
}

static int g(void *arg)
{
    (void)arg;
    puts(getgeneratorstate(it));
    return sley_gen_yield(&(int){ 1 }, NULL);
}

static int start(void *arg)
{
    int rc;

    (void)arg;
    it = sley_gen_create(g, NULL, sizeof(int));
    puts(getgeneratorstate(it));
    rc = sley_gen_next(it, NULL);
    puts(getgeneratorstate(it));
    if (rc > 0)
        rc = sley_gen_close(it);
    puts(getgeneratorstate(it));
    sley_gen_destroy(it);
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0 || fflush(stdout) != 0;
}
