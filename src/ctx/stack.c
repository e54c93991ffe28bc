/* stack.c - slabs, guards, credits, caches and the depot of stack.h.
 *
 *   K5  A stack is bare from the mapping of its slab until it is carved: address space, no guard, no descriptor. Carving a bare stack
 *       again does no harm, so stacks that pile up in the depot are made bare to give their pages back.
 *   K6  A bare or free stack is in one worker's cache, in the depot, or behind the carving point; a carved one may also be a fiber's.
 *   K7  What caches may hold without using it is kept out of the credits: credits + caches * CACHE_SHARE <= stacks in the slabs. So
 *       a worker with a credit finds a stack though the others' caches are full of free ones.
 *
 * The pool's lock is held for a few instructions, but for mapping a slab: once for hundreds to thousands of stacks. Guards are installed
 * and pages touched outside it. */
#include "base/assert.h"
#include "ctx/stack.h"
#include "plat/valgrind.h"
#include "plat/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SL_ASAN
#include <sanitizer/asan_interface.h>
#endif

#define SLAB_STACKS_FIRST 256              /* a small program maps 32 MiB; every further slab is twice the one before, up to: */
#define SLAB_BYTES_MAX    ((size_t)1 << 30)
#define CACHE_STACKS_MAX  (2 * SL_STACK_BATCH)
#define CACHE_SHARE       (CACHE_STACKS_MAX + SL_STACK_BATCH) /* free stacks and bare ones */
#define CARVE_AT_ONCE     4                /* 3 microseconds each: the guard and the first touch of a page */
#ifdef SL_MODEL_SIZE
#define WARM_MIN          8
#else
#define WARM_MIN          4096             /* free stacks that keep their pages for the next burst, at least */
#endif
#define WARM_SHARE        8                /* ... and at most what fits into this part of the memory; the rest give their pages back */
#define WARM_PAGES        2                /* that a used stack keeps, reckoned generously */
#define COLOURS           16               /* tops are moved by this many cache lines, or the hot frames of all would share one set */
#define CACHE_LINE        64
#define DESCRIPTOR_BYTES  ((sizeof(struct sl_stack) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE)
#define CANARY            UINT64_C(0x5afe57ac4c0ffee5)

/* A mapping of stacks, or of one big one. Records are never freed, so that the fault handler may walk them at any time; one whose slab
 * is gone is used again. order [slab.1]: the sizes are stored before base (release), the handler loads base (acquire) before them, and
 * again after. */
struct sl_slab {
    struct sl_slab  *next;        /* of all records ever; set once */
    struct sl_slab  *pool_next;   /* the pool's slabs in the order of mapping; under its lock */
    _Atomic(char *)  base;        /* NULL: the record is free */
    _Atomic(size_t)  bytes, stack_bytes, guard_bytes;
};

static struct sl_lock slabs_lock;       /* for writers of the list and takers of free records */
static _Atomic(struct sl_slab *) slabs; /* [slab.2] */

static _Atomic(uint64_t) protected_count; /* stacks of the process that cost two mappings each */
static _Atomic(uint64_t) protected_max;   /* 0: not read yet */

static _Atomic(unsigned) carves_to_fail;

struct sl_stack_pool {
    size_t            stack_bytes, guard_bytes, page_bytes; /* fixed */
    _Atomic(int)      guard;       /* enum sl_stack_guard: the strongest to try; only gets weaker */
    _Atomic(uint64_t) carved;
    _Atomic(uint64_t) protected_here;
    _Atomic(uint64_t) depot_count; /* of stacks in `depot`; written under the lock, hint without it */
    uint64_t          warm_max;    /* free stacks that keep their pages; fixed after creation */
    struct sl_lock    lock;        /* for all below */
    uint64_t          stacks;      /* in the slabs */
    uint64_t          credits;     /* given out */
    uint32_t          caches;
    size_t            slab_bytes;  /* of the next slab */
    struct sl_slab   *first, *last;
    struct sl_slab   *carving;     /* the slab in which the next bare stack lies; NULL: all are taken */
    size_t            carving_at;
    struct sl_stack  *depot;       /* batches with their pages, newest first */
    struct sl_stack  *cold;        /* batches that were trimmed */
};

/* --- slabs ------------------------------------------------------------------------------------------------------------------------- */

static struct sl_slab *slab_record(void)
{
    struct sl_slab *r;

    for (r = sl_load_relaxed(&slabs); r != NULL; r = r->next) /* under the lock */
        if (sl_load_relaxed(&r->base) == NULL)
            return r;
    r = calloc(1, sizeof *r);
    if (r != NULL) {
        r->next = sl_load_relaxed(&slabs);
        sl_store_release(&slabs, r); /* [slab.2] */
    }
    return r;
}

/* Tell the fault handler of a mapping. NULL: no memory. */
static struct sl_slab *announce(char *base, size_t bytes, size_t stack_bytes, size_t guard_bytes)
{
    struct sl_slab *r;

    sl_lock_acquire(&slabs_lock);
    r = slab_record();
    if (r != NULL) {
        r->pool_next = NULL;
        sl_store_relaxed(&r->bytes, bytes); /* [slab.1] */
        sl_store_relaxed(&r->stack_bytes, stack_bytes);
        sl_store_relaxed(&r->guard_bytes, guard_bytes);
        sl_store_release(&r->base, base); /* [slab.1] */
    }
    sl_lock_release(&slabs_lock);
    return r;
}

/* Map one more slab, as large as can be had. Under the pool's lock. */
static bool grow(struct sl_stack_pool *p)
{
    struct sl_slab *r;
    size_t bytes = p->slab_bytes;
    void *base;

    while (sl_vm_map(&base, bytes) < 0) {
        if (bytes == p->stack_bytes)
            return false;
        bytes /= 2;
    }
    r = announce(base, bytes, p->stack_bytes, p->guard_bytes);
    if (r == NULL) {
        sl_vm_unmap(base, bytes);
        return false;
    }
    if (p->last != NULL)
        p->last->pool_next = r;
    else
        p->first = r;
    p->last = r;
    if (p->carving == NULL) {
        p->carving = r;
        p->carving_at = 0;
    }
    p->stacks += bytes / p->stack_bytes;
    p->slab_bytes = bytes < SLAB_BYTES_MAX ? bytes * 2 : bytes;
    return true;
}

/* K1. The colour follows from the address, so that the fault handler finds the descriptor. */
static struct sl_stack *descriptor(char *base, size_t stack_bytes)
{
    size_t colour = (uintptr_t)base / stack_bytes % COLOURS;

    return (struct sl_stack *)(void *)(base + stack_bytes - DESCRIPTOR_BYTES - colour * CACHE_LINE);
}

bool sl_stack_find(const void *address, struct sl_stack_place *out)
{
    for (struct sl_slab *r = sl_load_acquire(&slabs); r != NULL; r = r->next) { /* [slab.2] */
        char *base = sl_load_acquire(&r->base); /* [slab.1] */
        size_t bytes = sl_load_acquire(&r->bytes), offset = (uintptr_t)address - (uintptr_t)base;

        if (base == NULL || offset >= bytes)
            continue;
        out->stack_bytes = sl_load_acquire(&r->stack_bytes);
        out->guard_bytes = sl_load_acquire(&r->guard_bytes);
        if (sl_load_relaxed(&r->base) != base) /* behind the acquires: another slab has the record now */
            continue;
        out->base = base + offset / out->stack_bytes * out->stack_bytes;
        out->stack = descriptor(out->base, out->stack_bytes);
        return true;
    }
    return false;
}

/* --- guards ------------------------------------------------------------------------------------------------------------------------ */

int sl_stack_guard_wanted(void)
{
    static const char *const names[] = { [SL_GUARD_MADVISE] = "madvise", [SL_GUARD_MPROTECT] = "mprotect", [SL_GUARD_CANARY] = "canary" };
    const char *wanted = getenv("SLEY_GUARD");

    if (wanted == NULL || wanted[0] == '\0')
        return SL_GUARD_MADVISE;
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++)
        if (strcmp(wanted, names[i]) == 0)
            return i;
    fprintf(stderr, "sley: SLEY_GUARD=%s: not one of madvise, mprotect, canary\n", wanted);
    return -EINVAL;
}

/* The process's mappings are shared with everybody: stacks may have half of them, at two each. */
static bool protect_within_budget(struct sl_stack_pool *p, char *base)
{
    uint64_t max = sl_load_relaxed(&protected_max); /* set once; everybody reads the same file */

    if (max == 0) {
        max = sl_vm_maps_max() / 4;
        sl_store_relaxed(&protected_max, max);
    }
    if (sl_add_relaxed(&protected_count, 1) < max && sl_vm_protect(base, p->guard_bytes) == 0) {
        sl_add_relaxed(&p->protected_here, 1);
        return true;
    }
    sl_add_relaxed(&protected_count, -1);
    return false;
}

static uint64_t *canary_of(const struct sl_stack *s)
{
    return (uint64_t *)(void *)(s->low - sizeof(uint64_t));
}

static void weaken(struct sl_stack_pool *p, int guard)
{
    if (sl_load_relaxed(&p->guard) < guard) /* hint: two that do it at once agree, or try a guard once more */
        sl_store_relaxed(&p->guard, guard);
}

/* Guard the bare stack at base with the strongest guard there is: an enum sl_stack_guard, or -ENOMEM. */
static int guard(struct sl_stack_pool *p, char *base)
{
    int wanted = sl_load_relaxed(&p->guard);

    if (wanted == SL_GUARD_MADVISE) {
        int rc = sl_vm_guard(base, p->guard_bytes);

        if (rc != -EINVAL)
            return rc < 0 ? rc : SL_GUARD_MADVISE;
        weaken(p, wanted = SL_GUARD_MPROTECT);
    }
    if (wanted == SL_GUARD_MPROTECT) {
        if (protect_within_budget(p, base))
            return SL_GUARD_MPROTECT;
        weaken(p, SL_GUARD_CANARY);
    }
    return SL_GUARD_CANARY;
}

/* Make a bare stack a free one; NULL: the kernel refuses. */
static struct sl_stack *carve(struct sl_stack_pool *p, char *base)
{
    struct sl_stack *s = descriptor(base, p->stack_bytes);
    unsigned fail = sl_load_relaxed(&carves_to_fail); /* tests set it while nothing else carves */
    int kind;

    if (fail > 0) {
        sl_store_relaxed(&carves_to_fail, fail - 1);
        return NULL;
    }
    kind = guard(p, base);
    if (kind < 0)
        return NULL;
    memset(s, 0, sizeof *s);
    s->guard = (uint32_t)kind;
    s->low = base + p->guard_bytes;
    s->top = (char *)s; /* a cache line's start */
    if (kind == SL_GUARD_CANARY)
        *canary_of(s) = CANARY;
    s->valgrind_id = VALGRIND_STACK_REGISTER(s->low, s->top);
    sl_add_relaxed(&p->carved, 1);
    return s;
}

void sl_stack_fail_carves(unsigned n)
{
    sl_store_relaxed(&carves_to_fail, n);
}

void sl_stack_check_canary(const struct sl_stack *s)
{
    struct sl_stack_place place;

    if (s->guard != SL_GUARD_CANARY || *canary_of(s) == CANARY)
        return;
    if (sl_stack_find(s, &place))
        sl_overflow_print(s, place.stack_bytes, place.guard_bytes);
    abort();
}

/* --- the pool and its credits -------------------------------------------------------------------------------------------------------- */

struct sl_stack_pool *sl_stack_pool_create(size_t stack_bytes)
{
    struct sl_stack_pool *p;
    size_t page = sl_vm_page_bytes();
    int wanted = sl_stack_guard_wanted();

    if (wanted < 0)
        return NULL;
    p = calloc(1, sizeof *p);
    if (p == NULL)
        return NULL;
    p->page_bytes = page;
    p->warm_max = sl_vm_memory_bytes() / WARM_SHARE / (WARM_PAGES * page);
#ifndef SL_MODEL_SIZE
    if (p->warm_max < WARM_MIN)
#endif
        p->warm_max = WARM_MIN;
    p->stack_bytes = stack_bytes < 4 * page ? 4 * page : stack_bytes;
    p->guard_bytes = SL_GUARD_BYTES < p->stack_bytes / 4 ? SL_GUARD_BYTES : p->stack_bytes / 4;
    if (p->guard_bytes < page)
        p->guard_bytes = page;
    p->slab_bytes = SLAB_STACKS_FIRST * p->stack_bytes < SLAB_BYTES_MAX ? SLAB_STACKS_FIRST * p->stack_bytes : SLAB_BYTES_MAX;
    sl_store_relaxed(&p->guard, wanted);
    if (!grow(p)) {
        free(p);
        return NULL;
    }
    return p;
}

static void forget_stacks(const struct sl_stack *batch)
{
    for (; batch != NULL; batch = batch->batch_next)
        for (const struct sl_stack *s = batch; s != NULL; s = s->next)
            VALGRIND_STACK_DEREGISTER(s->valgrind_id);
}

void sl_stack_pool_destroy(struct sl_stack_pool *p)
{
    if (p == NULL)
        return;
    if (RUNNING_ON_VALGRIND) {
        forget_stacks(p->depot);
        forget_stacks(p->cold);
    }
    for (struct sl_slab *r = p->first, *next; r != NULL; r = next) {
        char *base = sl_load_relaxed(&r->base); /* this pool's own */

        next = r->pool_next;
#ifdef SL_ASAN
        __asan_unpoison_memory_region(base, sl_load_relaxed(&r->bytes)); /* what is mapped there next knows nothing of old frames */
#endif
        sl_vm_unmap(base, sl_load_relaxed(&r->bytes));
        sl_store_release(&r->base, NULL); /* [slab.1] */
    }
    sl_add_relaxed(&protected_count, -sl_load_relaxed(&p->protected_here));
    free(p);
}

/* Under the lock. */
static void join(struct sl_stack_pool *p, struct sl_stack_cache *c)
{
    if (c != NULL && !c->joined) {
        c->joined = true;
        p->caches++;
    }
}

/* Under the lock: n credits; false: no address space for them. */
static bool promise(struct sl_stack_pool *p, uint32_t n)
{
    while (p->credits + n + (uint64_t)p->caches * CACHE_SHARE > p->stacks) /* K7 */
        if (!grow(p))
            return false;
    p->credits += n;
    return true;
}

int sl_stack_credit_take(struct sl_stack_pool *p, struct sl_stack_cache *c)
{
    uint32_t n = c != NULL ? SL_STACK_BATCH : 1;

    if (c != NULL && c->credits > 0) {
        c->credits--;
        return 0;
    }
    sl_lock_acquire(&p->lock);
    join(p, c);
    if (!promise(p, n))
        n = n > 1 && promise(p, 1) ? 1 : 0;
    sl_lock_release(&p->lock);
    if (n == 0)
        return -EAGAIN;
    if (c != NULL)
        c->credits += n - 1;
    return 0;
}

static void credits_return(struct sl_stack_pool *p, uint32_t n)
{
    sl_lock_acquire(&p->lock);
    sl_assert(p->credits >= n);
    p->credits -= n;
    sl_lock_release(&p->lock);
}

void sl_stack_credit_give(struct sl_stack_pool *p, struct sl_stack_cache *c)
{
    if (c == NULL) {
        credits_return(p, 1);
    } else if (++c->credits == 2 * SL_STACK_BATCH) {
        c->credits -= SL_STACK_BATCH;
        credits_return(p, SL_STACK_BATCH);
    }
}

/* --- caches and the depot ------------------------------------------------------------------------------------------------------------ */

/* Where the first stack of a batch keeps the bases of those that became bare: a free stack's memory, in the page of its descriptor. */
static char **bare_list(const struct sl_stack *batch)
{
    char **list = (char **)(void *)batch->top - SL_STACK_BATCH;

#ifdef SL_ASAN
    __asan_unpoison_memory_region(list, SL_STACK_BATCH * sizeof *list); /* frames that were left, not returned from */
#endif
    return list;
}

/* The depot holds plenty: keep the batch's first stack and make the others bare, or, where carving again would cost mappings, keep the page
 * at their tops. */
static void trim(struct sl_stack_pool *p, struct sl_stack *batch)
{
    bool strip = sl_load_relaxed(&p->guard) == SL_GUARD_MADVISE; /* then every stack has that guard */

    for (struct sl_stack *s = batch, *next; s != NULL; s = next) {
        char *page = (char *)((uintptr_t)s->top & ~(uintptr_t)(p->page_bytes - 1));

        next = s->next;
        if (strip && s != batch) {
            bare_list(batch)[batch->batch_bare++] = s->low - p->guard_bytes;
            VALGRIND_STACK_DEREGISTER(s->valgrind_id);
            sl_vm_drop(s->low, p->stack_bytes - p->guard_bytes);
        } else if (page > s->low) {
            sl_vm_drop(s->low, (size_t)(page - s->low));
        }
    }
    if (strip) {
        batch->next = NULL;
        batch->batch_count -= batch->batch_bare;
        sl_add_relaxed(&p->carved, -(uint64_t)batch->batch_bare);
    }
}

void sl_stack_keep_warm(struct sl_stack_pool *p, uint64_t stacks)
{
    p->warm_max = stacks;
}

/* Put a list of stacks, newest first, into the depot. */
static void depot_put(struct sl_stack_pool *p, struct sl_stack *batch, uint32_t count)
{
    bool warm = sl_load_relaxed(&p->depot_count) < p->warm_max; /* hint */

    batch->batch_count = count;
    batch->batch_bare = 0;
    if (!warm)
        trim(p, batch);
    sl_lock_acquire(&p->lock);
    if (warm) {
        batch->batch_next = p->depot;
        p->depot = batch;
        sl_owner_add(&p->depot_count, count); /* under the lock */
    } else {
        batch->batch_next = p->cold;
        p->cold = batch;
    }
    sl_lock_release(&p->lock);
}

void sl_stack_push(struct sl_stack_pool *p, struct sl_stack_cache *c, struct sl_stack *s)
{
    sl_stack_check_canary(s);
    s->fiber = NULL;
    if (c->count == SL_STACK_BATCH)
        c->edge = s;
    s->next = c->head;
    c->head = s;
    if (++c->count == CACHE_STACKS_MAX) {
        struct sl_stack *oldest = c->edge->next;

        c->edge->next = NULL;
        c->count -= SL_STACK_BATCH;
        depot_put(p, oldest, SL_STACK_BATCH);
    }
}

/* Under the lock: a batch, warm ones first; NULL: none. */
static struct sl_stack *depot_take(struct sl_stack_pool *p, bool cold)
{
    struct sl_stack *batch = p->depot;

    if (batch != NULL) {
        p->depot = batch->batch_next;
        sl_owner_add(&p->depot_count, -(uint64_t)batch->batch_count); /* under the lock */
    } else if (cold && p->cold != NULL) {
        batch = p->cold;
        p->cold = batch->batch_next;
    }
    return batch;
}

/* Under the lock: move bare stacks from the carving point into the cache. */
static void take_bare(struct sl_stack_pool *p, struct sl_stack_cache *c)
{
    if (p->carving == NULL)
        grow(p); /* only if K7 could not be kept when a cache joined */
    while (p->carving != NULL && c->bare_count < SL_STACK_BATCH) {
        c->bare[c->bare_count++] = sl_load_relaxed(&p->carving->base) + p->carving_at; /* this pool's own */
        p->carving_at += p->stack_bytes;
        if (p->carving_at == sl_load_relaxed(&p->carving->bytes)) {
            p->carving = p->carving->pool_next;
            p->carving_at = 0;
        }
    }
}

int sl_stack_refill(struct sl_stack_pool *p, struct sl_stack_cache *c)
{
    struct sl_stack *batch = NULL;

    if (c->head != NULL)
        return 0;
    if (c->bare_count == 0 || sl_load_relaxed(&p->depot_count) > 0) { /* hint */
        sl_lock_acquire(&p->lock);
        join(p, c);
        batch = depot_take(p, c->bare_count == 0);
        if (batch == NULL && c->bare_count == 0)
            take_bare(p, c);
        sl_lock_release(&p->lock);
    }
    if (batch != NULL) {
        c->head = batch;
        c->count = batch->batch_count;
        if (batch->batch_bare > 0)
            memcpy(c->bare, bare_list(batch), batch->batch_bare * sizeof *c->bare);
        c->bare_count += batch->batch_bare;
        return 0;
    }
    for (int n = 0; n < CARVE_AT_ONCE && c->bare_count > 0; n++) {
        struct sl_stack *s = carve(p, c->bare[c->bare_count - 1]);

        if (s == NULL)
            break;
        c->bare_count--;
        s->next = c->head;
        c->head = s;
        c->count++;
    }
    return c->head != NULL ? 0 : -ENOMEM;
}

void sl_stack_cache_drain(struct sl_stack_pool *p, struct sl_stack_cache *c)
{
    if (c->count > SL_STACK_BATCH) {
        struct sl_stack *oldest = c->edge->next;

        c->edge->next = NULL;
        c->count -= SL_STACK_BATCH;
        depot_put(p, oldest, SL_STACK_BATCH);
    }
    if (c->count > 0)
        depot_put(p, c->head, c->count);
    sl_lock_acquire(&p->lock);
    p->credits -= c->credits;
    p->caches -= c->joined;
    p->stacks -= c->bare_count; /* not worth a place: their address space goes with the pool */
    sl_lock_release(&p->lock);
    *c = (struct sl_stack_cache){ 0 };
}

enum sl_stack_guard sl_stack_pool_guard(const struct sl_stack_pool *p)
{
    return (enum sl_stack_guard)sl_load_relaxed(&p->guard); /* hint */
}

size_t sl_stack_pool_bytes(const struct sl_stack_pool *p)
{
    return p->stack_bytes;
}

uint64_t sl_stack_pool_count(const struct sl_stack_pool *p)
{
    return sl_load_relaxed(&p->carved); /* hint */
}

/* --- big stacks ---------------------------------------------------------------------------------------------------------------------- */

static uint16_t guard_big(char *base, size_t guard_bytes)
{
    int wanted = sl_stack_guard_wanted(); /* a bad one was refused when the runtime was made */

    if (wanted <= SL_GUARD_MADVISE && sl_vm_guard(base, guard_bytes) == 0)
        return SL_GUARD_MADVISE;
    if (wanted <= SL_GUARD_MPROTECT && sl_vm_protect(base, guard_bytes) == 0)
        return SL_GUARD_MPROTECT;
    return SL_GUARD_CANARY;
}

struct sl_stack *sl_stack_map_big(size_t bytes)
{
    size_t page = sl_vm_page_bytes(), guard_bytes = SL_GUARD_BYTES > page ? SL_GUARD_BYTES : page;
    size_t all = guard_bytes + (bytes + page - 1) / page * page + page; /* the last one for the descriptor, colour, first frames */
    struct sl_stack *s;
    struct sl_slab *r;
    void *base;

    if (sl_vm_map(&base, all) < 0)
        return NULL;
    r = announce(base, all, all, guard_bytes);
    if (r == NULL) {
        sl_vm_unmap(base, all);
        return NULL;
    }
    s = descriptor(base, all);
    s->guard = guard_big(base, guard_bytes);
    s->use = SL_USE_CALL;
    s->mapping = r;
    s->low = (char *)base + guard_bytes;
    s->top = (char *)s;
    if (s->guard == SL_GUARD_CANARY)
        *canary_of(s) = CANARY;
    s->valgrind_id = VALGRIND_STACK_REGISTER(s->low, s->top);
    return s;
}

void sl_stack_unmap_big(struct sl_stack *s)
{
    struct sl_slab *r = s->mapping;
    char *base = sl_load_relaxed(&r->base); /* the caller's own */

    sl_stack_check_canary(s);
    VALGRIND_STACK_DEREGISTER(s->valgrind_id);
#ifdef SL_ASAN
    __asan_unpoison_memory_region(base, sl_load_relaxed(&r->bytes)); /* what is mapped there next knows nothing of old frames */
#endif
    sl_vm_unmap(base, sl_load_relaxed(&r->bytes));
    sl_store_release(&r->base, NULL); /* [slab.1] */
}

void sl_stack_reset_after_fork(void)
{
    sl_store_relaxed(&slabs_lock.held, 0); /* one thread; a record half written has no base */
}
