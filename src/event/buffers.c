/* buffers.c - see buffers.h.
 *
 * order [buffers.1]: the base is published once, by a compare-and-swap, with slots that are all empty; who loads it sees them so. */
#include "event/buffers.h"

#include "event/ring.h"
#include "plat/feature.h"
#include "plat/vm.h"

#include <errno.h>
#include <pthread.h>

_Atomic(uintptr_t) sl_buffers_base;
_Atomic(size_t) sl_buffer_bytes[SL_BUFFER_SLOTS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool taken[SL_BUFFER_SLOTS]; /* under lock */
static struct sl_ring *rings;       /* under lock */

static void *address_of(unsigned slot)
{
    return (void *)(sl_load_acquire(&sl_buffers_base) + slot * SL_BUFFER_STRIDE); /* [buffers.1] */
}

/* Under the lock: tell r what is in a slot; bytes 0: nothing. */
static int update(struct sl_ring *r, unsigned slot, size_t bytes)
{
    struct iovec piece = { bytes > 0 ? address_of(slot) : NULL, bytes };
    __u64 tag = 0;
    int rc = io_uring_register_buffers_update_tag(&r->uring, slot, &piece, &tag, 1);

    return rc < 0 ? rc : 0;
}

/* Under the lock. A ring that is refused something has no slot for it: G2. */
static void teach(struct sl_ring *r, unsigned slot)
{
    static const struct iovec nothing[SL_BUFFER_SLOTS];
    int rc = 0;

    if (!sl_feature_may(SL_FEATURE_REGISTERED_BUFFERS))
        return;
    if (!r->has_slots) {
        rc = io_uring_register_buffers(&r->uring, nothing, SL_BUFFER_SLOTS); /* before 5.13 the kernel takes no empty ones */
        sl_feature_note(SL_FEATURE_REGISTERED_BUFFERS, rc);
    }
    r->has_slots = rc >= 0;
    if (rc < 0)
        return;
    if (update(r, slot, sl_load_relaxed(&sl_buffer_bytes[slot])) == 0) /* under the lock */
        sl_or_relaxed(&r->slots[slot / 64], UINT64_C(1) << slot % 64); /* read by who was given the piece: G3 */
}

/* Under the lock. */
static void forget(struct sl_ring *r, unsigned slot)
{
    if (sl_and_relaxed(&r->slots[slot / 64], ~(UINT64_C(1) << slot % 64)) >> slot % 64 & 1) /* G3 */
        update(r, slot, 0);
}

/* Addresses for all slots, without memory behind them. */
static int reserve(void)
{
    uintptr_t none = 0;
    void *at;

    if (sl_load_acquire(&sl_buffers_base) != 0) /* [buffers.1] */
        return 0;
    if (sl_vm_reserve(&at, SL_BUFFER_STRIDE * SL_BUFFER_SLOTS) < 0)
        return -ENOSPC;
    if (!sl_cas_acq_rel(&sl_buffers_base, &none, (uintptr_t)at)) /* [buffers.1] */
        sl_vm_unmap(at, SL_BUFFER_STRIDE * SL_BUFFER_SLOTS);
    return 0;
}

/* A slot for the caller; SL_BUFFER_SLOTS: none is free. */
static unsigned take_slot(void)
{
    unsigned slot = 0;

    pthread_mutex_lock(&lock);
    while (slot < SL_BUFFER_SLOTS && taken[slot])
        slot++;
    if (slot < SL_BUFFER_SLOTS)
        taken[slot] = true;
    pthread_mutex_unlock(&lock);
    return slot;
}

static void give_slot(unsigned slot)
{
    pthread_mutex_lock(&lock);
    taken[slot] = false;
    pthread_mutex_unlock(&lock);
}

int sl_buffers_take(void **out, size_t bytes)
{
    unsigned slot;
    int rc = bytes > SL_BUFFER_BYTES_MAX ? -ENOSPC : reserve();

    if (rc < 0)
        return rc;
    slot = take_slot();
    if (slot == SL_BUFFER_SLOTS)
        return -ENOSPC;
    rc = sl_vm_commit(address_of(slot), bytes); /* its pages are there before a ring is held up for them */
    if (rc < 0) {
        give_slot(slot);
        return rc;
    }
    pthread_mutex_lock(&lock);
    sl_store_relaxed(&sl_buffer_bytes[slot], bytes); /* under the lock; the caller is the first to know the address */
    for (struct sl_ring *r = rings; r != NULL; r = r->next_ring)
        teach(r, slot);
    pthread_mutex_unlock(&lock);
    *out = address_of(slot);
    return 0;
}

bool sl_buffers_give(void *at)
{
    uintptr_t off = (uintptr_t)at - sl_load_acquire(&sl_buffers_base); /* [buffers.1] */
    unsigned slot = (unsigned)(off / SL_BUFFER_STRIDE);
    size_t bytes;

    if (sl_buffers_find(at, 1) < 0 || off % SL_BUFFER_STRIDE != 0)
        return false;
    pthread_mutex_lock(&lock);
    bytes = sl_load_relaxed(&sl_buffer_bytes[slot]); /* under the lock, as the next */
    sl_store_relaxed(&sl_buffer_bytes[slot], 0);
    for (struct sl_ring *r = rings; r != NULL; r = r->next_ring)
        forget(r, slot);
    pthread_mutex_unlock(&lock);
    sl_vm_drop(at, bytes);
    sl_vm_protect(at, bytes);
    give_slot(slot);
    return true;
}

void sl_buffers_ring_begins(struct sl_ring *r)
{
    pthread_mutex_lock(&lock);
    r->next_ring = rings;
    rings = r;
    for (unsigned slot = 0; slot < SL_BUFFER_SLOTS; slot++)
        if (sl_load_relaxed(&sl_buffer_bytes[slot]) > 0) /* under the lock */
            teach(r, slot);
    pthread_mutex_unlock(&lock);
}

void sl_buffers_ring_ends(struct sl_ring *r)
{
    struct sl_ring **at = &rings;

    pthread_mutex_lock(&lock);
    while (*at != NULL && *at != r)
        at = &(*at)->next_ring;
    if (*at != NULL)
        *at = r->next_ring;
    pthread_mutex_unlock(&lock);
}

void sl_buffers_reset_after_fork(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    rings = NULL;
}
