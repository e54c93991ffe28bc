/* fiber.c - the slabs of control blocks: process-wide, type-stable, never unmapped (F1).
 *
 * Workers keep free blocks in a plain cache; batches even out through the shared list, under its lock. */
#include "sched/fiber.h"

#include "base/lock.h"
#include "sched/fork.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLAB_BLOCKS 1024u
#define SLABS_MAX   65536u /* 64 million fibers */

static struct {
    struct sl_lock    lock;
    struct sl_fiber  *free;  /* linked by next */
    _Atomic(uint32_t) end;   /* indices handed out so far; written under the lock */
} shared;

static _Atomic(struct sl_fiber *) slabs[SLABS_MAX]; /* written once each, under the lock, before `end` passes them: pair [block.1] */

struct sl_fiber *sl_fiber_at(uint32_t index)
{
    struct sl_fiber *slab = index / SLAB_BLOCKS < SLABS_MAX ? sl_load_acquire(&slabs[index / SLAB_BLOCKS]) : NULL; /* [block.1] */

    return slab != NULL ? slab + index % SLAB_BLOCKS : NULL;
}

uint32_t sl_fiber_index_end(void)
{
    return sl_load_acquire(&shared.end); /* [block.1] */
}

static struct sl_fiber *map_slab(void)
{
    size_t bytes = SLAB_BLOCKS * sizeof(struct sl_fiber);
#ifdef SL_TSAN /* for which mmap itself writes the memory, and no block could go from one context to another without its knowing */
    void *slab = (void *)syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#else
    void *slab = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#endif

    return slab != MAP_FAILED ? slab : NULL;
}

/* A block never used before; under the lock. NULL: no memory. */
static struct sl_fiber *carve(void)
{
    uint32_t index = sl_load_relaxed(&shared.end); /* under the lock */
    struct sl_fiber *slab, *f;

    if (index / SLAB_BLOCKS >= SLABS_MAX)
        return NULL;
    slab = sl_load_relaxed(&slabs[index / SLAB_BLOCKS]); /* under the lock */
    if (slab == NULL) {
        slab = map_slab();
        if (slab == NULL)
            return NULL;
        sl_store_release(&slabs[index / SLAB_BLOCKS], slab); /* [block.1] */
    }
    f = slab + index % SLAB_BLOCKS;
    f->index = index;
    sl_store_release(&shared.end, index + 1); /* [block.1] */
    return f;
}

static struct sl_fiber *take_shared(void)
{
    struct sl_fiber *f = shared.free;

    if (f == NULL)
        return carve();
    shared.free = sl_load_relaxed(&f->next); /* under the lock */
    return f;
}

static void push(struct sl_fiber_cache *c, struct sl_fiber *f)
{
    sl_store_relaxed(&f->next, c->head);
    c->head = f;
    c->count++;
}

static void refill(struct sl_fiber_cache *c)
{
    sl_lock_acquire(&shared.lock);
    while (c->count < SL_FIBER_BATCH) {
        struct sl_fiber *f = take_shared();

        if (f == NULL)
            break;
        push(c, f);
    }
    sl_lock_release(&shared.lock);
}

struct sl_fiber *sl_fiber_alloc(struct sl_fiber_cache *cache)
{
    struct sl_fiber *f;

    if (cache == NULL) {
        sl_lock_acquire(&shared.lock);
        f = take_shared();
        sl_lock_release(&shared.lock);
    } else {
        if (cache->head == NULL)
            refill(cache);
        f = cache->head;
        if (f != NULL) {
            cache->head = sl_load_relaxed(&f->next);
            cache->count--;
        }
    }
    if (f == NULL)
        return NULL;
    f->fn = NULL;
    f->rt = NULL;
    f->older = f->younger = SL_NO_FIBER;
    f->pins = 0;
    f->flags = 0;
    f->streak = 0;
    sl_store_relaxed(&f->child, 0); /* in no scope yet */
    sl_store_relaxed(&f->shields, 0);
    sl_store_relaxed(&f->worker, 0);
    sl_store_relaxed(&f->wait_kind, 0);
    sl_store_release(&f->generation, sl_load_relaxed(&f->generation) + 1); /* odd: it lives */
    return f;
}

static void give_shared(struct sl_fiber_cache *c, uint32_t n)
{
    sl_lock_acquire(&shared.lock);
    while (n-- > 0 && c->head != NULL) {
        struct sl_fiber *f = c->head;

        c->head = sl_load_relaxed(&f->next);
        c->count--;
        sl_store_relaxed(&f->next, shared.free); /* under the lock */
        shared.free = f;
    }
    sl_lock_release(&shared.lock);
}

void sl_fiber_free(struct sl_fiber_cache *cache, struct sl_fiber *f)
{
    sl_store_release(&f->generation, sl_load_relaxed(&f->generation) + 1);
    if (cache == NULL) {
        struct sl_fiber_cache one = { NULL, 0 };

        push(&one, f);
        give_shared(&one, 1);
        return;
    }
    push(cache, f);
    if (cache->count >= 2 * SL_FIBER_BATCH)
        give_shared(cache, SL_FIBER_BATCH);
}

void sl_fiber_cache_drain(struct sl_fiber_cache *cache)
{
    give_shared(cache, cache->count);
}

void sl_fiber_reset_after_fork(void)
{
    sl_store_relaxed(&shared.lock.held, 0); /* one thread; another may have held it when the parent forked */
    shared.free = NULL;                     /* the blocks on it are lost to the child */
}
