/* record.c - the table of records: found without a lock, grown by compare-and-swap, never shrunk.
 *
 * order [record.1]: a chunk is zeroed, then published by a compare-and-swap; who loads its address acquires the zeroes.
 * order [record.2]: see R7. */
#include "io/record.h"
#include "io/fork.h"
#include "io/sys.h"
#include "plat/cpu.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>

_Atomic(struct sl_record *) sl_record_table[SL_RECORD_CHUNKS];

static _Atomic(uint32_t) enders; /* who have retired a poll and not yet asked for its end */

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
    struct sl_woken woken = { NULL, NULL };
    struct sl_retired_poll poll;

    if (r == NULL)
        return fd; /* no memory for hints; no record, so nothing old in it either */
    sl_lock_acquire(&r->lock);
    sl_store_relaxed(&r->generation, sl_load_relaxed(&r->generation) + 1); /* under the lock */
    r->phase = SL_PHASE_OPEN;
    sl_store_relaxed(&r->hints, (uint8_t)hints); /* hint */
    sl_store_relaxed(&r->error, 0);              /* under the lock */
    sl_store_relaxed(&r->misses, 0);             /* hint */
    sl_store_relaxed(&r->looks, 0);              /* hint */
    sl_store_relaxed(&r->group, 0);              /* the caller's */
    /* Whatever is still there was left by a close(2) behind the library's back. */
    poll = sl_record_retire_poll(r, fd);
    if (r->waiters.head != NULL)
        sl_record_claim_waiters(r, 0, -EBADF, UINT32_MAX, &woken);
    sl_lock_release(&r->lock);
    sl_record_end_poll(&poll);
    sl_woken_ready(&woken);
    return fd;
}

struct sl_retired_poll sl_record_retire_poll(struct sl_record *r, int fd)
{
    struct sl_retired_poll poll = { NULL, fd, r->poll_tag };

    if (sl_load_relaxed(&r->poll_covers) != 0) { /* under the lock */
        poll.worker = r->poll_worker;
        sl_store_relaxed(&r->poll_covers, 0); /* under the lock */
        sl_record_ender_begin();
    }
    return poll;
}

void sl_record_end_poll(const struct sl_retired_poll *poll)
{
    if (poll->worker == NULL)
        return;
    sl_poll_cancel(poll->worker, poll->fd, poll->tag);
    sl_record_ender_end();
}

void sl_record_ender_begin(void)
{
    sl_add_relaxed(&enders, 1); /* [record.2] under the lock */
}

void sl_record_ender_end(void)
{
    sl_sub_acq_rel(&enders, 1); /* [record.2] */
}

void sl_record_wait_for_enders(void)
{
    while (sl_load_acquire(&enders) != 0) /* [record.2] */
        sl_thread_yield();
}

void sl_record_claim_closer(struct sl_record *r, struct sl_woken *woken)
{
    struct sl_wait_node *closer = r->waiters.head;

    if (r->phase != SL_PHASE_CLOSING || !sl_record_is_idle(r) || closer == NULL)
        return;
    sl_claim(closer, SL_ARM_EVENT, woken);
    sl_wait_list_remove(&r->waiters, closer);
}

void sl_record_claim_waiters(struct sl_record *r, unsigned events, int result, unsigned max, struct sl_woken *woken)
{
    struct sl_wait_node *next;

    for (struct sl_wait_node *n = r->waiters.head; n != NULL && max > 0; n = next) {
        next = n->next;
        if (events != 0 && !(sl_record_wanted(n) & events))
            continue;
        if (sl_claim(n, SL_ARM_EVENT, woken)) {
            if (result != 0)
                n->result = result;
            max--;
        }
        sl_wait_list_remove(&r->waiters, n);
    }
}

void sl_record_hint(struct sl_record *r, unsigned hint)
{
    unsigned keep = sl_load_relaxed(&r->hints) & ~(hint & SL_HINT_KIND ? SL_HINT_KIND : 0u);

    sl_store_relaxed(&r->hints, (uint8_t)(keep | hint)); /* hint; one that is lost is learned again */
}

bool sl_error_of_connection(int error)
{
    switch (-error) {
    case ECONNRESET: case ECONNABORTED: case ECONNREFUSED: case EPIPE: case EPROTO:
    case ENETDOWN: case ENETUNREACH: case ENETRESET: case EHOSTDOWN: case EHOSTUNREACH:
        return true;
    default:
        return false;
    }
}

/* Sockets have inodes of their own, by which one is told from the next that gets its number. */
static int inode_of(int fd, uint32_t *inode)
{
    struct statx sx;
    int rc = sl_sys_statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO, &sx);

    if (rc == 0 && !S_ISSOCK(sx.stx_mode))
        rc = -ENOTSOCK;
    if (rc == 0)
        *inode = (uint32_t)sx.stx_ino;
    return rc;
}

void sl_record_keep_error(struct sl_record *r, int fd, int error)
{
    uint32_t inode;

    if (!sl_error_of_connection(error) || inode_of(fd, &inode) < 0)
        return;
    sl_lock_acquire(&r->lock);
    r->error_of = inode;
    sl_store_relaxed(&r->error, (int16_t)error); /* under the lock */
    sl_lock_release(&r->lock);
}

int sl_record_take_error_slow(struct sl_record *r, int fd)
{
    uint32_t inode;
    int error;

    if (inode_of(fd, &inode) < 0)
        return 0; /* the call finds out */
    sl_lock_acquire(&r->lock);
    error = r->error_of == inode ? sl_load_relaxed(&r->error) : 0; /* under the lock */
    sl_store_relaxed(&r->error, 0);                                /* under the lock */
    sl_lock_release(&r->lock);
    return error;
}

/* Not over a network, nor by a program (FUSE). What is not known is taken to. */
static bool keeps_its_locks(uint32_t type)
{
    switch (type) {
    case EXT4_SUPER_MAGIC: case XFS_SUPER_MAGIC: case BTRFS_SUPER_MAGIC: case F2FS_SUPER_MAGIC: case TMPFS_MAGIC: case RAMFS_MAGIC:
    case OVERLAYFS_SUPER_MAGIC: case ECRYPTFS_SUPER_MAGIC: case MSDOS_SUPER_MAGIC: case SQUASHFS_MAGIC: case PROC_SUPER_MAGIC:
        return true;
    default:
        return false;
    }
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
        rc = sl_sys_fcntl(fd, F_GETFL, 0);
        if (rc >= 0 && rc & O_DIRECT)
            sl_record_hint(r, SL_HINT_NO_TRY); /* a try would wait for the disk */
        if (sl_sys_fstatfs(fd, &fs) == 0) {
            if (S_ISREG(sx.stx_mode) && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
                sl_record_hint(r, SL_HINT_MEMORY);
            if (keeps_its_locks((uint32_t)fs.f_type))
                sl_record_hint(r, SL_HINT_LOCAL);
        }
        sl_record_hint(r, SL_FD_FILE);
    } else {
        sl_record_hint(r, SL_FD_STREAM);
    }
    return 0;
}

void sl_record_reset(void)
{
    sl_store_relaxed(&enders, 0); /* one thread */
    for (int i = 0; i < SL_RECORD_CHUNKS; i++) {
        struct sl_record *chunk = sl_load_relaxed(&sl_record_table[i]); /* one thread */

        if (chunk != NULL)
            memset(chunk, 0, SL_RECORD_CHUNK * sizeof *chunk); /* calls, waiters and polls are the parent's */
    }
}
