/* descriptor.c - the list of those who wait for a free descriptor. */
#include "io/descriptor.h"
#include "io/fork.h"
#include "plat/cpu.h"

_Atomic(uint32_t) sl_descriptors_wanted;

static struct sl_lock lock;
static struct sl_wait_list waiters; /* under lock */
static uint64_t freed_count;        /* under lock */

void sl_descriptor_want(void)
{
    sl_add_seq_cst(&sl_descriptors_wanted, 1); /* [fdfree.1] */
}

void sl_descriptor_unwant(void)
{
    sl_sub_acq_rel(&sl_descriptors_wanted, 1); /* [fdfree.1] nothing follows that would need an order */
}

uint64_t sl_descriptor_seen(void)
{
    sl_lock_acquire(&lock);
    uint64_t seen = freed_count;
    sl_lock_release(&lock);
    return seen;
}

int sl_descriptor_wait(struct sl_fiber *f, uint64_t seen, sley_time deadline)
{
    struct sl_wait_node node;
    int64_t now = sl_clock_ns();
    sley_time until = deadline < now + SL_DESCRIPTOR_NS ? deadline : now + SL_DESCRIPTOR_NS;
    int rc = sl_wait_begin(f, until, SL_WAIT_DESCRIPTOR, NULL);
    unsigned why;

    if (rc < 0)
        return rc;
    sl_lock_acquire(&lock);
    if (freed_count != seen || sl_cancelled(f)) {
        rc = freed_count != seen ? 0 : -ECANCELED;
        sl_wait_end(f);
        sl_lock_release(&lock);
        return rc;
    }
    sl_node_init(&node, f);
    sl_wait_list_push(&waiters, &node);
    why = sl_park(&lock);
    if (why == SL_ARM_EVENT)
        return 0;
    sl_lock_acquire(&lock);
    if (sl_node_linked(&node))
        sl_wait_list_remove(&waiters, &node);
    sl_lock_release(&lock);
    if (why == SL_ARM_CANCEL)
        return -ECANCELED;
    return sl_clock_ns() >= deadline ? -ETIMEDOUT : 0;
}

void sl_descriptor_wake(void)
{
    struct sl_woken woken = { NULL, NULL };
    struct sl_wait_node *n;

    sl_lock_acquire(&lock);
    freed_count++;
    while ((n = waiters.head) != NULL) {
        sl_claim(n, SL_ARM_EVENT, &woken);
        sl_wait_list_remove(&waiters, n);
    }
    sl_lock_release(&lock);
    sl_woken_ready(&woken);
}

void sl_descriptor_reset(void)
{
    lock = (struct sl_lock){ 0 };
    waiters = (struct sl_wait_list){ 0 };
    sl_store_relaxed(&sl_descriptors_wanted, 0); /* one thread */
}
