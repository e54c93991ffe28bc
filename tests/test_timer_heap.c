/* test_timer_heap.c - the heap of timers: order, equal times, removal, re-keying, against a plain list that is searched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "event/timer.h"

static void insert(struct sl_timer_heap *h, struct sl_timer *t, int64_t when)
{
    sl_lock_acquire(&h->lock);
    assert_int_equal(sl_timer_heap_insert(h, t, when), 0);
    sl_lock_release(&h->lock);
}

static void empty_heap_has_no_top_and_no_first(void **state)
{
    struct sl_timer_heap h;

    (void)state;
    sl_timer_heap_init(&h, 0);
    assert_null(sl_timer_heap_top(&h, INT64_MAX));
    assert_true(sl_load_relaxed(&h.first) == SL_TIME_NONE);
    sl_timer_heap_fini(&h);
}

static void top_is_given_only_when_it_is_due(void **state)
{
    struct sl_timer_heap h;
    struct sl_timer t = { .at = 0 };

    (void)state;
    sl_timer_heap_init(&h, 7);
    insert(&h, &t, 1000);
    assert_true(sl_load_relaxed(&t.key) == 1000);
    assert_true(sl_load_relaxed(&h.first) == 1000);
    assert_null(sl_timer_heap_top(&h, 999));
    assert_ptr_equal(sl_timer_heap_top(&h, 1000), &t);
    sl_timer_heap_remove(&h, &t);
    assert_true(sl_load_relaxed(&t.key) == SL_TIME_NONE);
    assert_true(sl_load_relaxed(&h.first) == SL_TIME_NONE);
    sl_timer_heap_fini(&h);
}

static void equal_times_fire_in_the_order_in_which_they_were_armed(void **state)
{
    struct sl_timer_heap h;
    struct sl_timer timers[500] = { { .at = 0 } };

    (void)state;
    sl_timer_heap_init(&h, 0);
    for (int i = 0; i < 500; i++)
        insert(&h, &timers[i], 5);
    sl_timer_heap_rekey(&h, &timers[0], 5); /* armed anew: now the last */
    for (int i = 1; i <= 500; i++) {
        struct sl_timer *t = sl_timer_heap_top(&h, 5);

        assert_ptr_equal(t, &timers[i % 500]);
        sl_timer_heap_remove(&h, t);
    }
    assert_null(sl_timer_heap_top(&h, 5));
    sl_timer_heap_fini(&h);
}

enum { TIMERS = 300, STEPS = 60000 };

struct model { /* what the heap must agree with */
    int64_t  when;
    uint64_t sequence;
    int      present;
};

static int model_top(const struct model *m)
{
    int least = -1;

    for (int i = 0; i < TIMERS; i++)
        if (m[i].present && (least < 0 || m[i].when < m[least].when || (m[i].when == m[least].when && m[i].sequence < m[least].sequence)))
            least = i;
    return least;
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void random_steps_agree_with_a_list_that_is_searched(void **state)
{
    static struct sl_timer timers[TIMERS];
    static struct model model[TIMERS];
    struct sl_timer_heap h;
    const char *given = getenv("SLEY_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 0x9e3779b97f4a7c15, sequence = 0;

    (void)state;
    print_message("SLEY_TEST_SEED=%#llx\n", (unsigned long long)seed);
    sl_timer_heap_init(&h, 3);
    for (int step = 0; step < STEPS; step++) {
        uint64_t r = next_random(&seed);
        int i = (int)(r % TIMERS), top;
        int64_t when = (int64_t)(r >> 32) % 1000 - 100; /* many equal ones */

        if (!model[i].present) {
            assert_int_equal(sl_timer_heap_insert(&h, &timers[i], when), 0);
        } else if (r & 1 << 20) {
            sl_timer_heap_rekey(&h, &timers[i], when);
        } else {
            sl_timer_heap_remove(&h, &timers[i]);
            model[i].present = 0;
            when = INT64_MIN;
        }
        if (when != INT64_MIN)
            model[i] = (struct model){ .when = when, .sequence = sequence++, .present = 1 };
        top = model_top(model);
        if (top < 0) {
            assert_null(sl_timer_heap_top(&h, INT64_MAX));
            assert_true(sl_load_relaxed(&h.first) == SL_TIME_NONE);
        } else {
            assert_ptr_equal(sl_timer_heap_top(&h, model[top].when), &timers[top]);
            assert_null(sl_timer_heap_top(&h, model[top].when - 1));
            assert_true(sl_load_relaxed(&h.first) == model[top].when);
        }
        assert_true(sl_load_relaxed(&timers[i].key) == (model[i].present ? model[i].when : SL_TIME_NONE));
    }
    for (uint32_t at = 0; at < h.count; at++)
        assert_int_equal(h.entries[at].timer->at, at);
    sl_timer_heap_fini(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_heap_has_no_top_and_no_first),
        cmocka_unit_test(top_is_given_only_when_it_is_due),
        cmocka_unit_test(equal_times_fire_in_the_order_in_which_they_were_armed),
        cmocka_unit_test(random_steps_agree_with_a_list_that_is_searched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
