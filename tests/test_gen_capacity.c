/* test_gen_capacity.c - very many generators alive at once, each in the middle of its body; what one costs is printed, from what the kernel
 * says of the process. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sley.h>

#ifdef SL_MODEL_SIZE
enum { MANY = 20000, ON_A_THREAD = 500, CHAIN = 2000 };
#else
enum { MANY = 1000000, ON_A_THREAD = 20000, CHAIN = 100000 };
#endif

#define BYTES_EACH 8192 /* more than one takes: a page of its stack, its share of a page table, its block */

static int64_t kilobytes(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    char line[256];
    long long n = -1;

    if (f == NULL)
        return -1;
    while (n < 0 && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            n = strtoll(line + strlen(key), NULL, 10);
    fclose(f);
    return n;
}

struct cost {
    int64_t resident, tables; /* KiB */
};

static struct cost cost_now(void)
{
    return (struct cost){ kilobytes("/proc/self/smaps_rollup", "Rss:"), kilobytes("/proc/self/status", "VmPTE:") };
}

static void print_cost(const char *what, uint32_t n, struct cost before, struct cost now)
{
    print_message("%u %s: %lld bytes resident and %lld of page tables each\n", n, what,
                  (long long)(now.resident - before.resident) * 1024 / n, (long long)(now.tables - before.tables) * 1024 / n);
}

/* As many as half of the free memory holds, at most `most`. */
static uint32_t affordable(uint32_t most)
{
    int64_t n = kilobytes("/proc/meminfo", "MemAvailable:") * 1024 / 2 / BYTES_EACH;

    if (n >= most)
        return most;
    print_message("no memory for %u: %lld\n", most, (long long)n);
    return n > 1 ? (uint32_t)n : 1;
}

static struct {
    uint32_t n, wrong, ended;
    struct cost before, made, begun, after;
    sley_time start, over;
} crowd;

/* Gives its number, and then the number plus what is sent, until it is closed. */
static int give_number(void *arg)
{
    uint64_t x = (uintptr_t)arg, in;
    int rc;

    while ((rc = sley_gen_yield(&x, &in)) > 0)
        x = (uintptr_t)arg + in;
    crowd.ended++;
    return rc;
}

/* The numbers below n in another order: the factor is prime. */
static uint32_t mixed(uint32_t i)
{
    return (uint32_t)((uint64_t)i * 2654435761u % crowd.n);
}

static int have_many(void *arg)
{
    sley_gen **g = calloc(crowd.n, sizeof(sley_gen *));
    int rc = 0;
    uint64_t x;

    if (g == NULL)
        return -ENOMEM;
    memset(g, 1, crowd.n * sizeof(sley_gen *)); /* its pages are not theirs */
    crowd.before = cost_now();
    crowd.start = sley_now();
    for (uint32_t i = 0; i < crowd.n && rc == 0; i++)
        if ((g[i] = sley_gen_create(give_number, (void *)(uintptr_t)i, sizeof x)) == NULL)
            rc = -ENOMEM;
    crowd.made = cost_now();
    for (uint32_t i = 0; i < crowd.n && rc == 0; i++) {
        rc = sley_gen_next(g[i], &x);
        crowd.wrong += rc != 1 || x != i;
        rc = rc < 0 ? rc : 0;
    }
    crowd.over = sley_now();
    crowd.begun = cost_now();
    for (uint32_t i = 0; i < crowd.n && rc == 0; i++) { /* all over the memory */
        uint64_t in = i, k = mixed(i);

        rc = sley_gen_send(g[k], &in, &x);
        crowd.wrong += rc != 1 || x != k + i;
        rc = rc < 0 ? rc : 0;
    }
    for (uint32_t i = 0; i < crowd.n && rc == 0; i++) {
        if (i % 3 == 0) /* closed and destroyed in some order; the rest at the end of the scope, youngest first */
            sley_gen_destroy(g[i]);
    }
    crowd.wrong += crowd.ended != (crowd.n + 2) / 3;
    if (rc == 0) {
        *(sley_gen ***)arg = g; /* freed when all of them are closed */
        return 0;
    }
    free(g);
    return rc;
}

static int have_many_in_a_scope(void *arg)
{
    sley_gen **g = NULL;
    int rc = sley_scope_run(have_many, &g, SLEY_FOREVER);

    (void)arg;
    crowd.wrong += crowd.ended != crowd.n;
    for (uint32_t i = 0; i < crowd.n && rc == 0; i++)
        if (i % 3 != 0) {
            crowd.wrong += sley_gen_state(g[i]) != SLEY_GEN_CLOSED;
            sley_gen_destroy(g[i]);
        }
    free(g);
    crowd.after = cost_now();
    return rc;
}

static void a_million_generators_are_alive_at_once(void **state)
{
    uint32_t n = affordable(MANY);

    (void)state;
    for (int round = 0; round < 2; round++) { /* the second, of fewer, in memory that has been used before */
        memset(&crowd, 0, sizeof crowd);
        crowd.n = round == 0 ? n : n / 10 + 1;
        assert_int_equal(sley_run(NULL, have_many_in_a_scope, NULL), 0);
        assert_int_equal(crowd.wrong, 0);
        assert_int_equal(crowd.ended, crowd.n);
        print_cost("generators made", crowd.n, crowd.before, crowd.made);
        print_cost("generators in the middle of their bodies", crowd.n, crowd.before, crowd.begun);
        print_message("    made and begun in %lld ns each\n", (long long)(crowd.over - crowd.start) / crowd.n);
        print_cost("closed and destroyed", crowd.n, crowd.before, crowd.after);
    }
}

/* A thread's have a mapping each. */
static void a_plain_thread_has_many_too(void **state)
{
    sley_gen **g = calloc(ON_A_THREAD, sizeof(sley_gen *));
    uint64_t x;

    (void)state;
    assert_non_null(g);
    memset(&crowd, 0, sizeof crowd);
    crowd.n = affordable(ON_A_THREAD);
    crowd.before = cost_now();
    for (uint32_t i = 0; i < crowd.n; i++) {
        g[i] = sley_gen_create(give_number, (void *)(uintptr_t)i, sizeof x);
        assert_non_null(g[i]);
        assert_int_equal(sley_gen_next(g[i], &x), 1);
        assert_int_equal(x, i);
    }
    crowd.begun = cost_now();
    for (uint32_t i = 0; i < crowd.n; i++) {
        assert_int_equal(sley_gen_next(g[i], &x), 0);
        sley_gen_destroy(g[i]);
    }
    assert_int_equal(crowd.ended, crowd.n);
    print_cost("generators of a thread", crowd.n, crowd.before, crowd.begun);
    free(g);
}

static sley_gen **chain;

/* Each resumes the next one inside its body: as deep as there are generators. */
static int resume_the_next(void *arg)
{
    uint32_t i = (uint32_t)(uintptr_t)arg;
    uint64_t x = 0;
    int rc = 1;

    while (rc >= 0) {
        if (i > 0 && (rc = sley_gen_next(chain[i - 1], &x)) < 0)
            break;
        x++;
        rc = sley_gen_yield(&x, NULL);
        if (i == 0)
            x = 0;
    }
    return rc;
}

static int have_a_chain(void *arg)
{
    uint64_t x = 0;
    int rc = 0;

    (void)arg;
    for (uint32_t i = 0; i < crowd.n && rc == 0; i++)
        if ((chain[i] = sley_gen_create(resume_the_next, (void *)(uintptr_t)i, sizeof x)) == NULL)
            rc = -ENOMEM;
    for (int round = 0; round < 3 && rc >= 0; round++) {
        rc = sley_gen_next(chain[crowd.n - 1], &x);
        crowd.wrong += rc != 1 || x != crowd.n;
    }
    for (uint32_t i = crowd.n; i > 0; i--)
        sley_gen_destroy(chain[i - 1]);
    return rc < 0 ? rc : 0;
}

static void generators_run_inside_each_other_as_deep_as_there_are_some(void **state)
{
    (void)state;
    memset(&crowd, 0, sizeof crowd);
    crowd.n = affordable(CHAIN);
    chain = calloc(crowd.n, sizeof(sley_gen *));
    assert_non_null(chain);
    assert_int_equal(sley_run(NULL, have_a_chain, NULL), 0);
    assert_int_equal(crowd.wrong, 0);
    free(chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_generators_are_alive_at_once),
        cmocka_unit_test(a_plain_thread_has_many_too),
        cmocka_unit_test(generators_run_inside_each_other_as_deep_as_there_are_some),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
