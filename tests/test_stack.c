/* test_stack.c - stacks: guards and their fallbacks, credits, caches, the depot, giving pages back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "again.h"
#include "ctx/stack.h"

#ifdef SL_MODEL_SIZE
enum { BURST = 200, WARM = 8 };
#else
enum { BURST = 6000, WARM = 4096 };
#endif

static struct sl_stack *take(struct sl_stack_pool *p, struct sl_stack_cache *c)
{
    return sl_stack_refill(p, c) == 0 ? sl_stack_pop(c) : NULL;
}

/* Can the kernel read the byte at `at`? A guard answers -EFAULT where a touch would kill. */
static int readable(const char *at)
{
    int ends[2], rc;

    assert_int_equal(pipe(ends), 0);
    rc = (int)syscall(SYS_write, ends[1], at, 1); /* not through the sanitizer's write, which would touch it */
    assert_true(rc == 1 || errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return rc == 1;
}

/* Has the page of `at` been given memory? */
static int resident(const char *at)
{
    unsigned char pages[1] = { 0 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    assert_int_equal(mincore((char *)at - (uintptr_t)at % page, 1, pages), 0);
    return pages[0] & 1;
}

/* Is a page without access told of as one that no memory was given to? qemu-user does not, and fills its own memory after mlockall. */
static int knows_resident(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char pages[1] = { 1 };
    void *at = mmap(NULL, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int rc = at != MAP_FAILED ? mincore(at, page, pages) : -1;

    if (at != MAP_FAILED)
        munmap(at, page);
    return rc == 0 && !(pages[0] & 1);
}

/* --- one stack ------------------------------------------------------------------------------------------------------------------- */

static void check_guarded_stack(const char *level, enum sl_stack_guard kind)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p;
    struct sl_stack *s;

    assert_int_equal(setenv("SLEY_GUARD", level, 1), 0);
    p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);
    unsetenv("SLEY_GUARD");
    assert_non_null(p);
    s = take(p, &c);
    assert_non_null(s);
    if (sl_stack_pool_guard(p) != kind) { /* a kernel before 6.13 falls back, and that works as well */
        assert_int_equal(kind, SL_GUARD_MADVISE);
        assert_int_equal(sl_stack_pool_guard(p), SL_GUARD_MPROTECT);
    }
    memset(s->low, 1, (size_t)(s->top - s->low));
    assert_true(readable(s->low));
    assert_false(readable(s->low - 1));
    assert_false(readable(s->low - SL_GUARD_BYTES));
    sl_stack_push(p, &c, s);
    sl_stack_cache_drain(p, &c);
    sl_stack_pool_destroy(p);
}

static void stack_has_a_guard_of_madvise_below_its_lowest_byte(void **state)
{
    (void)state;
    check_guarded_stack("madvise", SL_GUARD_MADVISE);
}

static void stack_has_a_guard_of_mprotect_below_its_lowest_byte(void **state)
{
    (void)state;
    check_guarded_stack("mprotect", SL_GUARD_MPROTECT);
}

static void locked_memory_gets_the_next_guard(void **state)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_MIN);
    struct sl_stack_place place;
    struct sl_stack *s;

    (void)state;
    assert_non_null(p);
    s = take(p, &c);
    assert_non_null(s);
    assert_true(sl_stack_find(s, &place));
    /* One of the 256 stacks of the first slab that is not carved yet. The system call: a sanitizer's mlock does nothing. */
    if (syscall(SYS_mlock, place.base + 64 * place.stack_bytes, place.stack_bytes) == 0) {
        for (int i = 0; i < 80; i++)
            assert_non_null(take(p, &c));
        assert_int_equal(sl_stack_pool_guard(p), SL_GUARD_MPROTECT);
    }
    sl_stack_pool_destroy(p);
}

static int stacks_after_mlockall(void)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p;
    struct sl_stack_place place;
    struct sl_stack *s;

    if (mlockall(MCL_FUTURE) < 0 || !knows_resident())
        return 77;
    p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);
    s = p != NULL ? take(p, &c) : NULL;
    if (s == NULL || !sl_stack_find(s, &place))
        return 1;
    return resident(s->low) || resident(place.base + 3 * place.stack_bytes) ? 2 : 0;
}

static void stacks_are_not_filled_after_mlockall(void **state)
{
    int status;
    pid_t child;

    (void)state;
#if defined(SL_ASAN) || defined(SL_TSAN)
    skip(); /* its mlockall does nothing */
#endif
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(stacks_after_mlockall());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip(); /* not allowed here */
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void mprotect_beyond_its_budget_becomes_a_canary(void **state)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p;
    uint64_t protected = 0;
    struct sl_stack *s;

    (void)state;
    assert_int_equal(setenv("SLEY_GUARD", "mprotect", 1), 0);
    p = sl_stack_pool_create(SL_STACK_BYTES_MIN);
    unsetenv("SLEY_GUARD");
    assert_non_null(p);
    do {
        s = take(p, &c);
        assert_non_null(s);
        protected++;
    } while (s->guard == SL_GUARD_MPROTECT && protected < 1000000);
    assert_int_equal(s->guard, SL_GUARD_CANARY);
    assert_int_equal(sl_stack_pool_guard(p), SL_GUARD_CANARY);
    assert_true(protected > 1);
    assert_true(readable(s->low - 1));
    sl_stack_pool_destroy(p);

    assert_int_equal(setenv("SLEY_GUARD", "mprotect", 1), 0); /* what the pool had goes back to the budget */
    p = sl_stack_pool_create(SL_STACK_BYTES_MIN);
    unsetenv("SLEY_GUARD");
    assert_non_null(p);
    c = (struct sl_stack_cache){ .count = 0 };
    assert_non_null(take(p, &c));
    assert_int_equal(sl_stack_pool_guard(p), SL_GUARD_MPROTECT);
    sl_stack_pool_destroy(p);
}

static void bad_value_of_sley_guard_is_refused(void **state)
{
    (void)state;
    assert_int_equal(setenv("SLEY_GUARD", "iron", 1), 0);
    assert_int_equal(sl_stack_guard_wanted(), -EINVAL);
    assert_null(sl_stack_pool_create(SL_STACK_BYTES_DEFAULT));
    assert_int_equal(setenv("SLEY_GUARD", "", 1), 0);
    assert_int_equal(sl_stack_guard_wanted(), SL_GUARD_MADVISE);
    unsetenv("SLEY_GUARD");
}

static int entry(void *arg)
{
    (void)arg;
    return 0;
}

static void damaged_canary_aborts_with_the_report(void **state)
{
    char text[512] = "", wanted[512];
    int ends[2], status;
    ssize_t n;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct sl_stack_cache c = { .count = 0 };
        struct sl_stack_pool *p;
        struct sl_stack *s;

        dup2(ends[1], STDERR_FILENO);
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        setenv("SLEY_GUARD", "canary", 1);
        p = sl_stack_pool_create(SL_STACK_BYTES_MIN);
        s = p != NULL ? take(p, &c) : NULL;
        if (s == NULL)
            _exit(1);
        sl_stack_set_name(s, "diver");
        s->number = 12;
        s->fn = entry;
        sl_stack_check_canary(s);
        s->low[-1] ^= 1;
        sl_stack_push(p, &c, s);
        _exit(2);
    }
    close(ends[1]);
    n = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    forget_emulator(text);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_true(n > 0);
    snprintf(wanted, sizeof wanted,
             "sley: stack overflow in fiber \"diver\" (number 12), entry function 0x%llx, %zu bytes with a guard of %zu; "
             "set SLEY_STACK or options.stack_bytes to a larger power of two\n",
             (unsigned long long)(uintptr_t)entry, SL_STACK_BYTES_MIN, SL_STACK_BYTES_MIN / 4);
    assert_string_equal(text, wanted);
}

static void every_size_leaves_room_between_guard_and_top(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    (void)state;
    for (size_t bytes = SL_STACK_BYTES_MIN; bytes <= SL_STACK_BYTES_MAX; bytes *= 2) {
        struct sl_stack_cache c = { .count = 0 };
        struct sl_stack_pool *p = sl_stack_pool_create(bytes);
        struct sl_stack_place place;
        struct sl_stack *s;

        assert_non_null(p);
        s = take(p, &c);
        assert_non_null(s);
        assert_true(sl_stack_pool_bytes(p) >= bytes);
        assert_true(sl_stack_find(s->low - 1, &place));
        assert_ptr_equal(place.stack, s);
        assert_int_equal(place.stack_bytes, sl_stack_pool_bytes(p));
        assert_ptr_equal(place.base + place.guard_bytes, s->low);
        assert_true(place.guard_bytes >= page && place.guard_bytes <= place.stack_bytes / 4);
        assert_true((size_t)(s->top - s->low) >= place.stack_bytes / 2);
        assert_int_equal((uintptr_t)s->top % 16, 0);
        assert_int_equal((uintptr_t)s->copy % _Alignof(max_align_t), 0);
        sl_stack_pool_destroy(p);
        assert_false(sl_stack_find(s, &place));
    }
}

static void tops_of_neighbours_lie_in_different_cache_sets(void **state)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);
    unsigned seen[64] = { 0 };

    (void)state;
    assert_non_null(p);
    for (int i = 0; i < 64; i++) {
        struct sl_stack *s = take(p, &c);

        assert_non_null(s);
        seen[(uintptr_t)s->top / 64 % 64]++;
    }
    for (int i = 0; i < 64; i++)
        assert_true(seen[i] <= 64 / 16 + 4); /* sixteen colours; the 64 stacks may begin and end within a round of them */
    sl_stack_pool_destroy(p);
}

/* --- caches and the depot -------------------------------------------------------------------------------------------------------- */

static void stacks_are_reused_newest_first(void **state)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);
    struct sl_stack *s[3];

    (void)state;
    assert_non_null(p);
    for (int i = 0; i < 3; i++)
        assert_non_null(s[i] = take(p, &c));
    for (int i = 0; i < 3; i++)
        sl_stack_push(p, &c, s[i]);
    for (int i = 2; i >= 0; i--)
        assert_ptr_equal(take(p, &c), s[i]);
    sl_stack_pool_destroy(p);
}

static void stacks_freed_on_one_worker_are_used_by_another(void **state)
{
    struct sl_stack_cache spawner = { .count = 0 }, ender = { .count = 0 };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);

    (void)state;
    assert_non_null(p);
    for (int i = 0; i < 100000; i++) {
        struct sl_stack *s = take(p, &spawner);

        assert_non_null(s);
        sl_stack_push(p, &ender, s);
    }
    assert_true(ender.count <= 2 * SL_STACK_BATCH);
    assert_true(sl_stack_pool_count(p) <= 4 * SL_STACK_BATCH + 8);
    sl_stack_cache_drain(p, &ender);
    sl_stack_cache_drain(p, &spawner);
    sl_stack_pool_destroy(p);
}

static void drained_stacks_are_found_again(void **state)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);
    struct sl_stack *s[2 * SL_STACK_BATCH - 1];
    uint64_t carved;
    int n = 2 * SL_STACK_BATCH - 1;

    (void)state;
    assert_non_null(p);
    for (int i = 0; i < n; i++)
        assert_non_null(s[i] = take(p, &c));
    for (int i = 0; i < n; i++)
        sl_stack_push(p, &c, s[i]);
    carved = sl_stack_pool_count(p);
    sl_stack_cache_drain(p, &c);
    assert_int_equal(c.count, 0);
    for (int i = 0; i < n; i++)
        assert_non_null(take(p, &c));
    assert_int_equal(sl_stack_pool_count(p), carved);
    sl_stack_pool_destroy(p);
}

static void refused_memory_is_told_and_the_next_try_succeeds(void **state)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);

    (void)state;
    assert_non_null(p);
    sl_stack_fail_carves(2);
    assert_int_equal(sl_stack_refill(p, &c), -ENOMEM);
    assert_int_equal(sl_stack_refill(p, &c), -ENOMEM);
    assert_null(sl_stack_pop(&c));
    assert_int_equal(sl_stack_refill(p, &c), 0);
    assert_non_null(sl_stack_pop(&c));
    sl_stack_pool_destroy(p);
}

static void burst_gives_pages_back_and_works_again(const char *level)
{
    static struct sl_stack *s[BURST];
    static char *deepest[BURST];
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int tops = 0, deep = 0;

    assert_int_equal(setenv("SLEY_GUARD", level, 1), 0);
    p = sl_stack_pool_create(SL_STACK_BYTES_MIN * 2);
    unsetenv("SLEY_GUARD");
    assert_non_null(p);
    sl_stack_keep_warm(p, WARM);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < BURST; i++) {
            assert_non_null(s[i] = take(p, &c));
            assert_null(s[i]->fiber);
            s[i]->fiber = (struct sl_fiber *)&s[i]; /* only compared */
            s[i]->top[-1] = 1;
            deepest[i] = s[i]->top - page - 1;
            *deepest[i] = 1;
        }
        for (int i = 0; i < BURST; i++) {
            assert_ptr_equal(s[i]->fiber, &s[i]); /* nobody else was given it */
            assert_true(sl_stack_pool_guard(p) == SL_GUARD_CANARY || !readable(s[i]->low - 1));
        }
        for (int i = 0; i < BURST; i++)
            sl_stack_push(p, &c, s[i]);
    }
    for (int i = 0; i < BURST; i++) {
        tops += resident((char *)s[i]);
        deep += resident(deepest[i]);
    }
    assert_true(deep >= WARM);
    assert_true(deep <= WARM + 4 * SL_STACK_BATCH);
    if (sl_stack_pool_guard(p) == SL_GUARD_MADVISE) {
        assert_true(tops <= WARM + 4 * SL_STACK_BATCH + (BURST - WARM) / SL_STACK_BATCH);
        assert_true(sl_stack_pool_count(p) < BURST);
    } else {
        assert_int_equal(tops, BURST);
    }
    sl_stack_cache_drain(p, &c);
    sl_stack_pool_destroy(p);
}

static void burst_gives_its_pages_back(void **state)
{
    (void)state;
    burst_gives_pages_back_and_works_again("madvise");
}

static void burst_with_other_guards_keeps_a_page_a_stack(void **state)
{
    (void)state;
    burst_gives_pages_back_and_works_again("mprotect");
    burst_gives_pages_back_and_works_again("canary");
}

/* --- credits --------------------------------------------------------------------------------------------------------------------- */

static void million_credits_carve_no_stack(void **state)
{
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);

    (void)state;
    assert_non_null(p);
    for (int i = 0; i < 1000000; i++)
        assert_int_equal(sl_stack_credit_take(p, i % 16 == 0 ? NULL : &c), 0);
    assert_int_equal(sl_stack_pool_count(p), 0);
    assert_non_null(take(p, &c));
    for (int i = 0; i < 1000000; i++)
        sl_stack_credit_give(p, i % 16 == 0 ? NULL : &c);
    sl_stack_cache_drain(p, &c);
    sl_stack_pool_destroy(p);
}

static int credits_under_a_limit(void)
{
    static struct sl_stack *hoard[2 * SL_STACK_BATCH];
    struct sl_stack_cache a = { .count = 0 }, b = { .count = 0 };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_DEFAULT);
    struct rlimit limit;
    unsigned long pages;
    int credits = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (p == NULL || f == NULL || fscanf(f, "%lu", &pages) != 1)
        return 1;
    fclose(f);
    for (int i = 0; i < 2 * SL_STACK_BATCH - 1; i++) /* a's cache is full of free stacks, and of bare ones */
        hoard[i] = take(p, &a);
    for (int i = 0; i < 2 * SL_STACK_BATCH - 1; i++)
        sl_stack_push(p, &a, hoard[i]);
    if (sl_stack_credit_take(p, &b) < 0)
        return 2;
    limit.rlim_cur = limit.rlim_max = pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)96 << 20);
    if (setrlimit(RLIMIT_AS, &limit) < 0)
        return 3;
    if (mmap(NULL, (size_t)1 << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED)
        return 77; /* qemu-user does not keep to the limit */
    for (credits = 1; credits < 1000000 && sl_stack_credit_take(p, &b) == 0;)
        credits++;
    if (credits == 1000000 || sl_stack_credit_take(p, NULL) != -EAGAIN)
        return 4;
    if (credits < 512) /* at least the 96 MiB are promised */
        return 5;
    for (int i = 0; i < credits; i++) /* and every promise can be kept, on b */
        if (take(p, &b) == NULL)
            return 6;
    sl_stack_credit_give(p, NULL);
    return sl_stack_credit_take(p, NULL) == 0 ? 0 : 7;
}

static void credits_end_with_the_address_space_and_every_one_is_good_for_a_stack(void **state)
{
    int status;
    pid_t child;

    (void)state;
#if defined(SL_ASAN) || defined(SL_TSAN)
    skip(); /* a sanitizer's own mappings do not fit below a limit */
#endif
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(credits_under_a_limit());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- many workers ---------------------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 20000, HELD = 3 * SL_STACK_BATCH };

struct worker {
    struct sl_stack_pool *pool;
    pthread_t             thread;
    int                   errors;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct sl_stack_cache c = { .count = 0 };
    struct sl_stack *held[HELD];
    int n = 0;

    for (int i = 0; i < ROUNDS; i++) {
        if (n < HELD && (i / (HELD / 2 + 1)) % 2 == 0) {
            if (sl_stack_credit_take(w->pool, &c) < 0 || (held[n] = take(w->pool, &c)) == NULL) {
                w->errors++;
                break;
            }
            w->errors += held[n]->fiber != NULL;
            held[n]->fiber = (struct sl_fiber *)w; /* only compared */
            held[n]->low[0] = 1;
            n++;
        } else if (n > 0) {
            w->errors += held[--n]->fiber != (struct sl_fiber *)w;
            sl_stack_push(w->pool, &c, held[n]);
            sl_stack_credit_give(w->pool, &c);
        }
    }
    while (n > 0)
        sl_stack_push(w->pool, &c, held[--n]);
    sl_stack_cache_drain(w->pool, &c);
    return NULL;
}

static void stack_is_never_given_to_two(void **state)
{
    struct worker workers[THREADS] = { { .errors = 0 } };
    struct sl_stack_pool *p = sl_stack_pool_create(SL_STACK_BYTES_MIN);

    (void)state;
    assert_non_null(p);
    for (int i = 0; i < THREADS; i++) {
        workers[i].pool = p;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(workers[i].errors, 0);
    sl_stack_pool_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stack_has_a_guard_of_madvise_below_its_lowest_byte),
        cmocka_unit_test(stack_has_a_guard_of_mprotect_below_its_lowest_byte),
        cmocka_unit_test(locked_memory_gets_the_next_guard),
        cmocka_unit_test(stacks_are_not_filled_after_mlockall),
        cmocka_unit_test(mprotect_beyond_its_budget_becomes_a_canary),
        cmocka_unit_test(bad_value_of_sley_guard_is_refused),
        cmocka_unit_test(damaged_canary_aborts_with_the_report),
        cmocka_unit_test(every_size_leaves_room_between_guard_and_top),
        cmocka_unit_test(tops_of_neighbours_lie_in_different_cache_sets),
        cmocka_unit_test(stacks_are_reused_newest_first),
        cmocka_unit_test(stacks_freed_on_one_worker_are_used_by_another),
        cmocka_unit_test(drained_stacks_are_found_again),
        cmocka_unit_test(refused_memory_is_told_and_the_next_try_succeeds),
        cmocka_unit_test(burst_gives_its_pages_back),
        cmocka_unit_test(burst_with_other_guards_keeps_a_page_a_stack),
        cmocka_unit_test(million_credits_carve_no_stack),
        cmocka_unit_test(credits_end_with_the_address_space_and_every_one_is_good_for_a_stack),
        cmocka_unit_test(stack_is_never_given_to_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
