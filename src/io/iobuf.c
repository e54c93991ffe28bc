/* iobuf.c - memory for reads and writes of files (sley/io.h): registered with every ring, where that is granted. To find and pin its pages
 * may take milliseconds, so on a fiber that is done on the pool. What cannot be registered is memory all the same. */
#include "base/assert.h"
#include "event/buffers.h"
#include "io/call.h"
#include "plat/vm.h"
#include "sched/blocking.h"

#include <sley/io.h>
#include <stdlib.h>

struct request {
    void  *at;
    size_t bytes;
};

static int allocate(void *arg) /* 0; -ENOMEM */
{
    struct request *q = arg;
    int rc = sl_buffers_take(&q->at, q->bytes);

    if (rc != -ENOSPC)
        return rc;
    q->at = aligned_alloc(sl_vm_page_bytes(), q->bytes);
    return q->at != NULL ? 0 : -ENOMEM;
}

static int give_back(void *arg)
{
    struct request *q = arg;

    if (!sl_buffers_give(q->at)) {
        SLEY_ASSERT(!sl_buffers_has(q->at), "sley_iobuf_free", "this is in the middle of a buffer, or has been given back already");
        free(q->at);
    }
    return 0;
}

/* On a thread where it may take its time; if there is none to be had, here. */
static int elsewhere(sley_fn *fn, struct request *q)
{
    struct sl_fiber *f = sl_current();
    int rc;

    if (f->flags & SL_FIBER_THREAD)
        return fn(q);
    sl_shield_begin(f);
    rc = sl_blocking_call(fn, q, SLEY_FOREVER, NULL, NULL, NULL);
    sl_shield_end(f);
    return rc == -EAGAIN ? fn(q) : rc;
}

void *sley_iobuf_alloc(size_t bytes)
{
    size_t page = sl_vm_page_bytes();
    struct request q = { .bytes = bytes > 0 ? (bytes + page - 1) & ~(page - 1) : page };

    if (q.bytes < bytes || q.bytes > PTRDIFF_MAX)
        return NULL;
    return elsewhere(allocate, &q) == 0 ? q.at : NULL;
}

void sley_iobuf_free(void *buf)
{
    struct request q = { .at = buf };

    if (buf != NULL)
        elsewhere(give_back, &q);
}
