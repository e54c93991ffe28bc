/* record.c - the table of records: found without a lock, grown by compare-and-swap, never shrunk.
 *
 * order [record.1]: a chunk is zeroed, then published by a compare-and-swap; who loads its address acquires the zeroes. */
#include "io/record.h"
#include "io/fork.h"
#include "io/sys.h"
#include "plat/cpu.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>

_Atomic(struct sl_record *) sl_record_table[SL_RECORD_CHUNKS];

struct sl_record *sl_record_create(int fd, int *error)
{
    if (fd < 0 || (unsigned)fd >= (unsigned)SL_RECORD_CHUNK * SL_RECORD_CHUNKS) {
        *error = -EBADF;
        return NULL;
    }

    struct sl_record *chunk = aligned_alloc(sizeof(struct sl_record), SL_RECORD_CHUNK * sizeof(struct sl_record));
    struct sl_record *there = NULL;

    if (chunk == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    memset(chunk, 0, SL_RECORD_CHUNK * sizeof(struct sl_record));
    if (!sl_cas_acq_rel(&sl_record_table[fd / SL_RECORD_CHUNK], &there, chunk)) { /* [record.1] */
        free(chunk);
        chunk = there;
    }
    return &chunk[fd % SL_RECORD_CHUNK];
}

struct sl_record *sl_record_find(int fd)
{
    struct sl_record *chunk = (unsigned)fd < (unsigned)SL_RECORD_CHUNK * SL_RECORD_CHUNKS
                            ? sl_load_acquire(&sl_record_table[fd / SL_RECORD_CHUNK]) : NULL; /* [record.1] */

    return chunk != NULL ? &chunk[fd % SL_RECORD_CHUNK] : NULL;
}

int sl_record_adopt(int fd, unsigned hints)
{
    int error;
    struct sl_record *r = sl_record_at(fd, &error);
    struct sl_worker *worker = NULL;
    struct sl_fiber *woken = NULL;
    uint32_t tag;

    if (r == NULL)
        return fd; /* no memory for hints; no record, so nothing old in it either */
    sl_lock_acquire(&r->lock);
    r->generation++;
    r->phase = SL_PHASE_OPEN;
    sl_store_relaxed(&r->hints, (uint8_t)hints); /* hint */
    sl_store_relaxed(&r->misses, 0);             /* hint */
    /* Whatever is still there was left by a close(2) behind the library's back. */
    tag = r->poll_tag;
    if (r->poll_worker != NULL && !r->poll_stale) {
        worker = r->poll_worker;
        r->poll_stale = true;
    }
    if (r->waiters.head != NULL)
        woken = sl_record_claim_waiters(r, 0, -EBADF, UINT32_MAX);
    sl_lock_release(&r->lock);
    if (worker != NULL)
        sl_poll_cancel(worker, fd, tag);
    if (woken != NULL)
        sl_ready_list(woken);
    return fd;
}

struct sl_fiber *sl_record_claim_closer(struct sl_record *r)
{
    struct sl_wait_node *closer = r->waiters.head;

    if (r->phase != SL_PHASE_CLOSING || r->calls != NULL || r->poll_worker != NULL || closer == NULL)
        return NULL;
    sl_wait_list_remove(&r->waiters, closer);
    return sl_claim(closer, SL_ARM_EVENT) ? closer->fiber : NULL;
}

struct sl_fiber *sl_record_claim_waiters(struct sl_record *r, unsigned events, int result, unsigned max)
{
    struct sl_fiber *first = NULL, *last = NULL;
    struct sl_wait_node *next;

    for (struct sl_wait_node *n = r->waiters.head; n != NULL && max > 0; n = next) {
        next = n->next;
        if (events != 0 && !(n->count & events))
            continue;
        sl_wait_list_remove(&r->waiters, n);
        if (!sl_claim(n, SL_ARM_EVENT))
            continue;
        n->result = result;
        sl_store_relaxed(&n->fiber->next, NULL); /* the claimer's, until it is ready */
        if (last != NULL)
            sl_store_relaxed(&last->next, n->fiber);
        else
            first = n->fiber;
        last = n->fiber;
        max--;
    }
    return first;
}

void sl_record_hint(struct sl_record *r, unsigned hint)
{
    unsigned keep = sl_load_relaxed(&r->hints) & ~(hint & SL_HINT_KIND ? SL_HINT_KIND : 0u);

    sl_store_relaxed(&r->hints, (uint8_t)(keep | hint)); /* hint; one that is lost is learned again */
}

int sl_record_learn(struct sl_record *r, int fd)
{
    struct statx sx;
    struct statfs fs;
    int rc = sl_sys_statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &sx);

    if (rc < 0)
        return rc;
    if (S_ISSOCK(sx.stx_mode)) {
        sl_record_hint(r, SL_FD_SOCKET);
    } else if (S_ISREG(sx.stx_mode) || S_ISBLK(sx.stx_mode) || S_ISDIR(sx.stx_mode)) {
        if (sl_sys_fstatfs(fd, &fs) == 0 && S_ISREG(sx.stx_mode) && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
            sl_record_hint(r, SL_HINT_MEMORY);
        sl_record_hint(r, SL_FD_FILE);
    } else {
        sl_record_hint(r, SL_FD_STREAM);
    }
    return 0;
}

void sl_record_reset(void)
{
    for (int i = 0; i < SL_RECORD_CHUNKS; i++) {
        struct sl_record *chunk = sl_load_relaxed(&sl_record_table[i]); /* one thread */

        if (chunk != NULL)
            memset(chunk, 0, SL_RECORD_CHUNK * sizeof *chunk); /* calls, waiters and polls are the parent's */
    }
}
