/* timer.c - the 4-ary heap of timer.h. Four children a node: half the levels of a binary heap, and siblings share cache lines. */
#include "event/timer.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_FIRST 64

static bool before(const struct sl_timer_entry *a, const struct sl_timer_entry *b)
{
    return a->when != b->when ? a->when < b->when : a->sequence < b->sequence;
}

static void place(struct sl_timer_heap *h, uint32_t at, struct sl_timer_entry e)
{
    h->entries[at] = e;
    e.timer->at = at;
}

/* Put e at the hole `at` or above it. */
static void sift_up(struct sl_timer_heap *h, uint32_t at, struct sl_timer_entry e)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / 4;

        if (!before(&e, &h->entries[parent]))
            break;
        place(h, at, h->entries[parent]);
        at = parent;
    }
    place(h, at, e);
}

/* Put e at the hole `at` or below it. */
static void sift_down(struct sl_timer_heap *h, uint32_t at, struct sl_timer_entry e)
{
    for (;;) {
        uint64_t child = (uint64_t)at * 4 + 1, end = child + 4 < h->count ? child + 4 : h->count, least = child;

        if (child >= h->count)
            break;
        while (++child < end)
            if (before(&h->entries[child], &h->entries[least]))
                least = child;
        if (!before(&h->entries[least], &e))
            break;
        place(h, at, h->entries[least]);
        at = (uint32_t)least;
    }
    place(h, at, e);
}

static void sift(struct sl_timer_heap *h, uint32_t at, struct sl_timer_entry e)
{
    if (at > 0 && before(&e, &h->entries[(at - 1) / 4]))
        sift_up(h, at, e);
    else
        sift_down(h, at, e);
}

static void publish_first(struct sl_timer_heap *h)
{
    sl_store_relaxed(&h->first, h->count > 0 ? h->entries[0].when : SL_TIME_NONE); /* hint */
}

void sl_timer_heap_init(struct sl_timer_heap *h, uint16_t number)
{
    *h = (struct sl_timer_heap){ .number = number };
    publish_first(h);
}

void sl_timer_heap_fini(struct sl_timer_heap *h)
{
    free(h->entries);
    h->entries = NULL;
    h->count = h->capacity = 0;
}

int sl_timer_heap_insert(struct sl_timer_heap *h, struct sl_timer *t, int64_t when)
{
    if (h->count == h->capacity) {
        uint32_t capacity = h->capacity > 0 ? h->capacity * 2 : CAPACITY_FIRST;
        struct sl_timer_entry *entries = realloc(h->entries, capacity * sizeof *entries);

        if (entries == NULL)
            return -ENOMEM;
        h->entries = entries;
        h->capacity = capacity;
    }
    sl_store_relaxed(&t->key, when); /* hint for the waiter */
    sift_up(h, h->count++, (struct sl_timer_entry){ .when = when, .sequence = h->sequence++, .timer = t });
    publish_first(h);
    return 0;
}

void sl_timer_heap_remove(struct sl_timer_heap *h, struct sl_timer *t)
{
    uint32_t at = t->at;
    struct sl_timer_entry last = h->entries[--h->count];

    if (at < h->count)
        sift(h, at, last);
    sl_store_relaxed(&t->key, SL_TIME_NONE); /* hint for the waiter */
    publish_first(h);
}

struct sl_timer *sl_timer_heap_top(const struct sl_timer_heap *h, int64_t now)
{
    return h->count > 0 && h->entries[0].when <= now ? h->entries[0].timer : NULL;
}

void sl_timer_heap_rekey(struct sl_timer_heap *h, struct sl_timer *t, int64_t when)
{
    sl_store_relaxed(&t->key, when); /* hint for the waiter */
    sift(h, t->at, (struct sl_timer_entry){ .when = when, .sequence = h->sequence++, .timer = t });
    publish_first(h);
}
