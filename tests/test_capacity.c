/* test_capacity.c - very many fibers: parked at once, asleep at once, spawned before the first runs; what one costs is printed, from what
 * the kernel says of the process. */
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

#include "base/atomic.h"

#if defined(SL_ASAN) || defined(SL_TSAN) /* every fiber has a context and shadow of its own there */
#define SCALE 100
#else
#define SCALE 1
#endif

enum { MANY = 100000 / SCALE, SPAWNED = 1000000 / SCALE };

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

/* Of n fibers, in bytes each. */
static void print_cost(const char *what, int n, struct cost before, struct cost now)
{
    print_message("%d %s: %lld bytes resident and %lld of page tables each\n", n, what,
                  (long long)(now.resident - before.resident) * 1024 / n, (long long)(now.tables - before.tables) * 1024 / n);
}

static uint64_t parked_now(void)
{
    sley_stats s = { 0 };

    sley_stats_read(NULL, &s, sizeof s);
    return s.fibers_parked_now;
}

static struct {
    sley_event open;
    sley_time deadline;
    _Atomic(int) came, went, early;
    struct cost before, parked;
    sley_time begun, over;
} crowd;

static int wait_in_the_crowd(void *arg)
{
    int rc;

    (void)arg;
    sl_add_acq_rel(&crowd.came, 1);
    rc = sley_event_wait(&crowd.open, SLEY_FOREVER);
    sl_add_acq_rel(&crowd.went, 1);
    return rc;
}

static int park_many(void *arg)
{
    int rc = 0;

    (void)arg;
    crowd.before = cost_now();
    crowd.begun = sley_now();
    for (int i = 0; i < MANY && rc == 0; i++)
        rc = sley_go(wait_in_the_crowd, NULL);
    while (rc == 0 && (sl_load_acquire(&crowd.came) < MANY || parked_now() < MANY))
        rc = sley_yield();
    crowd.over = sley_now();
    crowd.parked = cost_now();
    sley_event_set(&crowd.open);
    return rc;
}

static void a_hundred_thousand_fibers_park_at_once(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) { /* the second in memory that has been used before */
        memset(&crowd, 0, sizeof crowd);
        assert_int_equal(sley_run(NULL, park_many, NULL), 0);
        assert_int_equal(crowd.went, MANY);
        print_cost("fibers parked", MANY, crowd.before, crowd.parked);
        print_message("    started and parked in %lld ns each\n", (long long)(crowd.over - crowd.begun) / MANY);
    }
}

static int sleep_in_the_crowd(void *arg)
{
    sley_time when = crowd.deadline + (intptr_t)arg * SLEY_US;
    int rc;

    sl_add_acq_rel(&crowd.came, 1);
    rc = sley_sleep_until(when);
    if (rc == 0 && sley_now() < when)
        sl_add_acq_rel(&crowd.early, 1);
    sl_add_acq_rel(&crowd.went, 1);
    return rc;
}

static int sleep_many(void *arg)
{
    int rc = 0;

    (void)arg;
    crowd.deadline = sley_after(500 * SLEY_MS);
    for (intptr_t i = 0; i < MANY && rc == 0; i++)
        rc = sley_go(sleep_in_the_crowd, (void *)(i * 7919 % MANY));
    return rc;
}

static void a_hundred_thousand_sleepers_all_wake_and_none_early(void **state)
{
    (void)state;
    memset(&crowd, 0, sizeof crowd);
    assert_int_equal(sley_run(NULL, sleep_many, NULL), 0);
    assert_int_equal(crowd.went, MANY);
    assert_int_equal(crowd.early, 0);
}

static int sleep_until_cancelled(void *arg)
{
    int rc = sley_sleep_until(sley_after(3600 * SLEY_S + (intptr_t)arg * SLEY_US));

    if (rc == -ECANCELED)
        sl_add_acq_rel(&crowd.went, 1);
    return rc;
}

static int sleep_many_and_fail(void *arg)
{
    int rc = 0;

    (void)arg;
    for (intptr_t i = 0; i < MANY && rc == 0; i++)
        rc = sley_go(sleep_until_cancelled, (void *)(i * 7919 % MANY));
    while (rc == 0 && parked_now() < MANY)
        rc = sley_yield();
    return rc < 0 ? rc : -EBADMSG;
}

static void a_hundred_thousand_sleepers_are_cancelled_at_once(void **state)
{
    (void)state;
    memset(&crowd, 0, sizeof crowd);
    assert_int_equal(sley_run(NULL, sleep_many_and_fail, NULL), -EBADMSG);
    assert_int_equal(crowd.went, MANY);
}

static struct {
    uint8_t *runs; /* of each, written by it alone */
    _Atomic(int) began_early, all_there;
    struct cost before, spawned;
    sley_time begun, there, over;
} spawn;

static int run_once(void *arg)
{
    if (!sl_load_acquire(&spawn.all_there))
        sl_add_acq_rel(&spawn.began_early, 1);
    spawn.runs[(uintptr_t)arg]++;
    return 0;
}

static int spawn_many(void *arg)
{
    int rc = 0;

    (void)arg;
    spawn.before = cost_now();
    spawn.begun = sley_now();
    for (uintptr_t i = 0; i < SPAWNED && rc == 0; i++)
        rc = sley_go(run_once, (void *)i);
    spawn.there = sley_now();
    spawn.spawned = cost_now();
    sl_store_release(&spawn.all_there, 1);
    return rc;
}

static void check_spawned(const sley_options *options)
{
    memset(&spawn, 0, sizeof spawn);
    spawn.runs = calloc(SPAWNED, 1);
    assert_non_null(spawn.runs);
    assert_int_equal(sley_run(options, spawn_many, NULL), 0);
    spawn.over = sley_now();
    for (int i = 0; i < SPAWNED; i++)
        assert_int_equal(spawn.runs[i], 1);
    free(spawn.runs);
    print_cost("fibers spawned", SPAWNED, spawn.before, spawn.spawned);
    print_message("    spawned in %lld ns each, all over after %lld ns each\n", (long long)(spawn.there - spawn.begun) / SPAWNED,
                  (long long)(spawn.over - spawn.begun) / SPAWNED);
}

static void a_million_fibers_spawned_before_the_first_runs_run_once_each(void **state)
{
    (void)state;
    check_spawned(&(sley_options){ .workers = 1 });
    assert_int_equal(spawn.began_early, 0);
    check_spawned(NULL); /* the others steal meanwhile */
}

static void a_million_fibers_submitted_before_the_start_run_once_each(void **state)
{
    sley_runtime *rt;

    (void)state;
    memset(&spawn, 0, sizeof spawn);
    spawn.runs = calloc(SPAWNED, 1);
    assert_non_null(spawn.runs);
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    for (uintptr_t i = 0; i < SPAWNED; i++)
        assert_int_equal(sley_runtime_submit(rt, run_once, (void *)i), 0);
    sl_store_release(&spawn.all_there, 1);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    sley_runtime_destroy(rt);
    assert_int_equal(spawn.began_early, 0);
    for (int i = 0; i < SPAWNED; i++)
        assert_int_equal(spawn.runs[i], 1);
    free(spawn.runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hundred_thousand_fibers_park_at_once),
        cmocka_unit_test(a_hundred_thousand_sleepers_all_wake_and_none_early),
        cmocka_unit_test(a_hundred_thousand_sleepers_are_cancelled_at_once),
        cmocka_unit_test(a_million_fibers_spawned_before_the_first_runs_run_once_each),
        cmocka_unit_test(a_million_fibers_submitted_before_the_start_run_once_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
