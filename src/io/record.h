/* record.h - what the library knows of a descriptor: who is in a call on it, who waits for its readiness, whether it is being closed.
 *
 *   R1  Records are type-stable: chunks of the table are never freed, so a late look at a record is always safe.
 *   R2  Every call on a descriptor is in `calls` from before its first system call to after its last. While one is, the descriptor is
 *       not closed, so its number cannot come back under it.
 *   R3  phase: OPEN -> CLOSING (one closer; new calls get -EBADF) -> RELEASING (no calls, no poll; the closer is in close(2)) -> OPEN.
 *       From RELEASING on the number may already be somebody's new descriptor: whoever gets one from the kernel makes its record OPEN
 *       and counts the generation up, and the closer's own reset is void if the generation has moved on. Entering RELEASING counts
 *       it up too: who meant the old descriptor, and is in no call on it (an arm of a select), finds out that it has gone.
 *   R4  While a fiber waits for readiness a poll is armed, or its end is on the way to sl_fd_poll_done. At most one exists; (fd, tag)
 *       names it. It stays armed when its waiters give up. A plain thread waits in poll(2); its node is here for the closer.
 *   R5  From CLOSING on `waiters` holds nobody but the closer, who waits for the record to be idle: no call, no poll, no poller.
 *   R6  Everything but `hints`, `misses` and `looks` is under `lock`. Those may be wrong in either direction: they belong to a number,
 *       and descriptors come and go behind the library's back. A wrong one costs a system call, never a wrong result.
 *       `generation` and `poll_covers` are written under the lock, and read without it as hints.
 *   R7  Who has taken the name of a poll, to ask for its end after the unlock, is counted (sl_record_retire_poll) until that is done;
 *       the runtime whose ring has the poll does not go before (order [record.2]: counted under the lock, which a runtime that goes takes
 *       afterwards; counted off when done with that runtime).
 *   R8  `error` is one that the kernel told once, of a connection, to a call that had bytes to return (sl_record_keep_error). The next
 *       receive returns it, if the number is still that socket's: `error_of` is its inode, since R6 holds for this too. A connect ends it.
 *
 * Rejected: counting calls instead of linking them. A count says when close may go on, but not whom it must cut off. */
#ifndef SL_IO_RECORD_H
#define SL_IO_RECORD_H

#include "sched/op.h"
#include "sched/park.h"

#include <poll.h>
#include <sys/socket.h>

enum sl_record_phase { SL_PHASE_OPEN, SL_PHASE_CLOSING, SL_PHASE_RELEASING };

enum sl_record_hint {
    SL_HINT_KIND     = 7,  /* enum sl_fd_kind */
    SL_HINT_NONBLOCK = 8,  /* O_NONBLOCK is set */
    SL_HINT_MEMORY   = 16, /* a file of a file system in memory: reading and writing never wait */
    SL_HINT_NO_TRY   = 32, /* RWF_NOWAIT is not supported, or O_DIRECT is set */
    SL_HINT_LOCAL    = 64  /* a file of a file system whose locks this machine keeps itself */
};

enum sl_fd_kind { SL_FD_UNKNOWN, SL_FD_SOCKET, SL_FD_FILE, SL_FD_STREAM }; /* STREAM: pipe, terminal, eventfd... */

/* A call under way; on the caller's stack, in its record's list. A call on several descriptors has one for each. */
struct sl_call {
    struct sl_call   *next, *prev;
    struct sl_call   *also;     /* of another of its descriptors, in a ring; NULL: it has one. What is told of one wait is told of all */
    struct sl_fiber  *fiber;
    struct sl_record *record;
    uint64_t          sequence; /* of the operation it waits for; 0: of none so far. Written under the record's lock */
    bool              cut;      /* the closer has asked for the cancel of the operation `sequence` */
};

struct sl_record {
    struct sl_lock       lock;
    uint8_t              phase;
    _Atomic(uint8_t)     hints;
    _Atomic(uint8_t)     misses;     /* how unlikely a direct receive is to find something, see sl_record_likely */
    _Atomic(uint8_t)     looks;      /* arms of selects that looked in vain while no poll was armed */
    _Atomic(uint32_t)    generation;
    uint32_t             error_of;   /* R8 */
    struct sl_call      *calls;
    struct sl_wait_list  waiters;    /* nodes: value = the events wanted << 32; result < 0: the error of who was claimed */
    struct sl_worker    *poll_worker; /* whose ring has the poll; NULL: none */
    uint32_t             poll_tag;
    _Atomic(uint32_t)    poll_covers; /* SL_POLL_ARMED and the events that the poll is armed for; 0: none is, or it was asked to end */
    uint32_t             pollers;    /* arms of plain threads' selects that were linked and not yet disarmed: they may be in poll(2) */
    _Atomic(int16_t)     error;      /* R8: -errno, or 0; written under the lock, read without it as a hint */
    _Atomic(uint16_t)    group;      /* number of the listener that it is a socket of (group.h); 0: none. Who has the descriptor writes */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct sl_record) == 64, "one cache line a descriptor");

#define SL_POLL_ARMED  0x10000u
#define SL_POLL_ALWAYS (POLLERR | POLLHUP | POLLNVAL) /* reported whether asked for or not */

#define SL_RECORD_CHUNK  1024
#define SL_RECORD_CHUNKS 16384 /* 16 M descriptors: sysctl fs.nr_open is 1 M by default */

extern _Atomic(struct sl_record *) sl_record_table[SL_RECORD_CHUNKS];

struct sl_record *sl_record_create(int fd, int *error); /* the slow half of sl_record_at */

/* The record of fd, made if need be. NULL: *error is -EBADF (no descriptor has that number) or -ENOMEM. */
static inline struct sl_record *sl_record_at(int fd, int *error)
{
    if (__builtin_expect((unsigned)fd < (unsigned)SL_RECORD_CHUNK * SL_RECORD_CHUNKS, 1)) {
        struct sl_record *chunk = sl_load_acquire(&sl_record_table[fd / SL_RECORD_CHUNK]); /* [record.1] */

        if (__builtin_expect(chunk != NULL, 1))
            return &chunk[fd % SL_RECORD_CHUNK];
    }
    return sl_record_create(fd, error);
}

/* The record of fd if there is one, else NULL. */
struct sl_record *sl_record_find(int fd);

/* The kernel has just given the caller fd. Makes its record that of a new descriptor; hints: what is known of it. Returns fd. */
int sl_record_adopt(int fd, unsigned hints);

/* Under the lock: nobody holds the descriptor any more. */
static inline bool sl_record_is_idle(const struct sl_record *r)
{
    return r->calls == NULL && r->poll_worker == NULL && r->pollers == 0;
}

/* Under the lock: the record may have become idle; if the closer waits for that, claim it. */
void sl_record_claim_closer(struct sl_record *r, struct sl_woken *woken);

/* Under the lock: claim and unlink up to max waiters that want one of `events` (0: whatever they want). result: -errno to tell them; 0:
 * they look for themselves. */
void sl_record_claim_waiters(struct sl_record *r, unsigned events, int result, unsigned max, struct sl_woken *woken);

/* What a waiter for readiness wants; errors and hang-ups are reported whether asked for or not. */
static inline unsigned sl_record_wanted(const struct sl_wait_node *n)
{
    return (unsigned)((uint64_t)n->value >> 32) | SL_POLL_ALWAYS;
}

/* A poll is armed, has not fired as far as is known, and reports `events`. Under the lock, or as a hint. */
static inline bool sl_record_covers(const struct sl_record *r, unsigned events)
{
    unsigned want = SL_POLL_ARMED | (events & ~(unsigned)SL_POLL_ALWAYS);

    return (sl_load_relaxed(&r->poll_covers) & want) == want; /* under the lock, or a hint */
}

/* The poll of a record that somebody wants to end. */
struct sl_retired_poll {
    struct sl_worker *worker; /* NULL: none */
    int               fd;
    uint32_t          tag;
};

/* Under the lock: if a poll is armed that nobody has asked to end yet, it is the caller's to do so: sl_record_end_poll after the unlock. */
struct sl_retired_poll sl_record_retire_poll(struct sl_record *r, int fd);
void sl_record_end_poll(const struct sl_retired_poll *poll);

/* Between them a runtime that was seen under the lock of a record, or of a group, is not gone: who asks its workers for something (R7). */
void sl_record_ender_begin(void); /* under that lock */
void sl_record_ender_end(void);
void sl_record_wait_for_enders(void); /* until all who have begun so far have ended */

/* --- whether a direct receive is likely to find something ----------------------------------------------------------------------
 * A receive that finds nothing costs 240 ns, one that goes through the ring although there was something 300 ns. `misses` counts
 * direct receives that found nothing in a row; from SL_MISSES_MAX on it counts those left out, and after 16 one is tried again. */

#define SL_MISSES_MAX 2
#define SL_MISSES_END (SL_MISSES_MAX + 16)

static inline bool sl_record_likely(struct sl_record *r)
{
    uint8_t misses = sl_load_relaxed(&r->misses); /* hint */

    if (misses < SL_MISSES_MAX)
        return true;
    sl_store_relaxed(&r->misses, misses < SL_MISSES_END ? misses + 1 : SL_MISSES_MAX);
    return misses >= SL_MISSES_END;
}

static inline void sl_record_hit(struct sl_record *r)
{
    if (sl_load_relaxed(&r->misses) != 0) /* hint */
        sl_store_relaxed(&r->misses, 0);
}

static inline void sl_record_miss(struct sl_record *r)
{
    uint8_t misses = sl_load_relaxed(&r->misses); /* hint */

    if (misses < SL_MISSES_MAX)
        sl_store_relaxed(&r->misses, misses + 1);
}

static inline unsigned sl_record_kind(const struct sl_record *r)
{
    return sl_load_relaxed(&r->hints) & SL_HINT_KIND; /* hint */
}

static inline bool sl_record_hinted(const struct sl_record *r, unsigned hint)
{
    return (sl_load_relaxed(&r->hints) & hint) != 0; /* hint */
}

void sl_record_hint(struct sl_record *r, unsigned hint); /* add one */

/* The kernel has told an error to a call on fd that returns the bytes which came before: the next receive is to tell it. Only of those that
 * the kernel does not tell twice: that a connection is lost. */
void sl_record_keep_error(struct sl_record *r, int fd, int error);
int  sl_record_take_error_slow(struct sl_record *r, int fd);

/* Flags of a receive that is not of what comes in line: the kernel answers it whatever error the connection has, and keeps that. */
#define SL_NOT_IN_LINE (MSG_ERRQUEUE | MSG_OOB)

/* Before a receive, without those: an error that was kept, or 0. */
static inline int sl_record_take_error(struct sl_record *r, int fd)
{
    return __builtin_expect(sl_load_relaxed(&r->error) == 0, 1) ? 0 : sl_record_take_error_slow(r, fd); /* hint */
}

/* Whether `error` means that a connection is lost: the kernel tells that once, and then that it has ended. */
bool sl_error_of_connection(int error);

/* Ask the kernel what fd is, and keep it. -EBADF... : the kernel's answer. */
int sl_record_learn(struct sl_record *r, int fd);

#endif
