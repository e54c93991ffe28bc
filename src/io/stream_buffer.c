/* stream_buffer.c - the memory of streams: blocks of one size from a bounded cache, and larger pieces for what does not fit into one.
 *
 * The cache has a part for each worker, by its number; plain threads and workers with high numbers share. So a part's lock is nearly
 * always free and its blocks are warm. A block is given back to the part of who gives it back; what is too much goes to free. */
#include "base/lock.h"
#include "io/fork.h"
#include "io/stream.h"

#include <stdlib.h>
#include <string.h>

#ifdef SL_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)   ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)0)
#endif

struct block {
    struct block *next; /* the rest of a free block is nobody's */
};

struct part {
    struct sl_lock lock;
    unsigned       count;
    struct block  *free;
    int64_t        held; /* taken less given back, here; the sum over all parts is what streams hold */
} __attribute__((aligned(64)));

static struct part parts[SL_STREAM_PARTS];

static struct part *part_here(void)
{
    return &parts[sl_load_relaxed(&sl_current()->worker) % SL_STREAM_PARTS]; /* own */
}

static void count_held(int n)
{
    struct part *p = part_here();

    sl_lock_acquire(&p->lock);
    p->held += n;
    sl_lock_release(&p->lock);
}

static char *block_take(void)
{
    struct part *p = part_here();
    struct block *b;

    sl_lock_acquire(&p->lock);
    b = p->free;
    if (b != NULL) {
        p->free = b->next;
        p->count--;
    }
    p->held++;
    sl_lock_release(&p->lock);
    if (b != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(b, SL_STREAM_BYTES);
        return (char *)b;
    }
    b = malloc(SL_STREAM_BYTES);
    if (b == NULL)
        count_held(-1);
    return (char *)b;
}

static void block_give(char *base)
{
    struct part *p = part_here();
    struct block *b = (struct block *)(void *)base;

    ASAN_POISON_MEMORY_REGION(base + sizeof *b, SL_STREAM_BYTES - sizeof *b);
    sl_lock_acquire(&p->lock);
    p->held--;
    if (p->count < SL_STREAM_CACHED) {
        b->next = p->free;
        p->free = b;
        p->count++;
        b = NULL;
    }
    sl_lock_release(&p->lock);
    if (b != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(b, SL_STREAM_BYTES);
        free(b);
    }
}

static void piece_free(char *base, size_t cap)
{
    if (cap == SL_STREAM_BYTES) {
        block_give(base);
    } else {
        count_held(-1);
        free(base);
    }
}

int sl_buffer_take(struct sl_buffer *b)
{
    if (b->base != NULL)
        return 0;
    b->base = block_take();
    if (b->base == NULL)
        return -ENOMEM;
    b->cap = SL_STREAM_BYTES;
    return 0;
}

void sl_buffer_take_large(struct sl_buffer *b)
{
    char *base = malloc(SL_STREAM_COPY_BYTES);

    if (base == NULL)
        return;
    count_held(1);
    *b = (struct sl_buffer){ .base = base, .cap = SL_STREAM_COPY_BYTES };
}

void sl_buffer_free(struct sl_buffer *b)
{
    if (b->base != NULL)
        piece_free(b->base, b->cap);
    *b = (struct sl_buffer){ 0 };
}

/* What is buffered moves to the beginning of base, which is b's or is to be. */
static void move_to(struct sl_buffer *b, char *base, size_t cap)
{
    size_t bytes = sl_buffered(b);

    memmove(base, b->base + b->at, bytes);
    if (base != b->base)
        piece_free(b->base, b->cap);
    *b = (struct sl_buffer){ .base = base, .end = (uint32_t)bytes, .cap = (uint32_t)cap };
}

static int grow(struct sl_buffer *b)
{
    size_t cap = (size_t)b->cap * 2;
    char *base;

    if (cap > SL_STREAM_BYTES_MAX)
        return -EMSGSIZE;
    base = malloc(cap);
    if (base == NULL)
        return -ENOMEM;
    count_held(1);
    move_to(b, base, cap);
    return 0;
}

/* Bytes are moved only where at least as many have been taken out before, so a byte is moved a bounded number of times. */
int sl_buffer_make_room(struct sl_buffer *b)
{
    size_t bytes = sl_buffered(b);
    char *block = NULL;
    int rc;

    if (b->cap - b->end >= b->cap / 4)
        return 0;
    if (bytes > b->cap / 2) {
        rc = b->end < b->cap ? 0 : grow(b);
        if (rc == 0 || b->at == 0)
            return rc;
    } else if (b->cap > SL_STREAM_BYTES && bytes <= SL_STREAM_BYTES / 2) {
        block = block_take();
    }
    move_to(b, block != NULL ? block : b->base, block != NULL ? SL_STREAM_BYTES : b->cap);
    return 0;
}

size_t sl_buffers_held(void)
{
    int64_t held = 0;

    for (int i = 0; i < SL_STREAM_PARTS; i++) {
        sl_lock_acquire(&parts[i].lock);
        held += parts[i].held;
        sl_lock_release(&parts[i].lock);
    }
    return (size_t)held;
}

void sl_stream_reset(void)
{
    for (int i = 0; i < SL_STREAM_PARTS; i++) /* another thread may have been at work on the list */
        parts[i] = (struct part){ .held = parts[i].held };
}
