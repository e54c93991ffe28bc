/* fiber.h - the control block: what a fiber is while it runs, waits or has not begun. A plain thread that waits has one too.
 *
 *   F1  Blocks come from slabs that are never unmapped, and an index always names the same block (sl_fiber_at). So whoever holds an
 *       old (index, sequence) may look, and finds that the sequence has moved on.
 *   F2  A fiber runs on at most one worker at a time and is in at most one queue; `next` belongs to that queue.
 *   F3  Until it begins a fiber is its block alone: no stack, and the argument's copy lies where the running state will be.
 *   F4  The wait word changes only as park.h says; its sequence outlives the fiber and goes on in the block's next one. */
#ifndef SL_FIBER_H
#define SL_FIBER_H

#include "base/atomic.h"
#include "base/limits.h"
#include "ctx/context.h"
#include "event/timer.h"

#include <sley/base.h>

struct sl_scope;
struct sl_stack;
struct sley_gen;
struct sley_runtime;

enum sl_fiber_flags {
    SL_FIBER_BEGUN  = 1, /* has a stack */
    SL_FIBER_COPY   = 2, /* its argument is a copy: before it begins in `copy`, then at the top of its stack */
    SL_FIBER_HEAP   = 4, /* its argument is a copy on the heap, the fiber's to free */
    SL_FIBER_THREAD = 8, /* a plain thread's block: woken by futex */
    SL_FIBER_SYSTEM = 16, /* an errand of the library: in no dump, and reached by no cancel */
    SL_FIBER_NO_RING = 32 /* its runtime's workers have no rings: calls wait for readiness, or on the pool */
};

/* What the scope that a fiber is a child of notes of it; under that scope's lock. */
enum sl_child_flags {
    SL_CHILD_POKED  = 1, /* the scope's cancel has looked at it, or it came later */
    SL_CHILD_OPENED = 2  /* it has opened a scope inside: what concerns it goes there */
};

#define SL_NO_FIBER UINT32_MAX

/* What a fiber waits for; stored at every park, printed by sley_dump. */
enum sl_wait_kind {
    SL_WAIT_NONE, SL_WAIT_SEND, SL_WAIT_RECV, SL_WAIT_SLEEP, SL_WAIT_EVENT, SL_WAIT_GROUP, SL_WAIT_IO, SL_WAIT_FD, SL_WAIT_CLOSE,
    SL_WAIT_DESCRIPTOR, SL_WAIT_SCOPE, SL_WAIT_SELECT, SL_WAIT_MUTEX, SL_WAIT_RWLOCK, SL_WAIT_COND, SL_WAIT_SEM, SL_WAIT_ONCE,
    SL_WAIT_BARRIER, SL_WAIT_FUTURE, SL_WAIT_BLOCKING, SL_WAIT_SIGNAL, SL_WAIT_TICKER, SL_WAIT_NOTICE,
    SL_WAIT_KINDS
};

struct sl_fiber {
    /* First line: what exists from the start. */
    _Atomic(uint64_t)          word;       /* the wait word, park.h */
    _Atomic(struct sl_fiber *) next;       /* link of the one queue it is in */
    union {
        sley_fn               *fn;         /* until it begins */
        struct sley_gen       *gen;        /* then: the innermost generator whose body it runs; third word: sley/gen_inline.h */
    };
    struct sl_scope           *scope;      /* the innermost; never NULL (sl_scope_nowhere for a thread that is not attached). The fiber's */
    struct sley_runtime       *rt;         /* where it runs; NULL: a thread that is not attached */
    uint32_t                   older, younger; /* in its scope's list of children, by index; under that scope's lock */
    uint32_t                   index;      /* names this block for ever */
    _Atomic(uint32_t)          generation; /* with the index: the fiber's number. Odd while the fiber lives */
    _Atomic(uint16_t)          worker;     /* where it ran last; where it must run while pinned. Written by its worker */
    uint8_t                    pins;       /* the fiber's own */
    _Atomic(uint8_t)           shields;    /* open ones in the innermost scope; the fiber writes, cancellers read, see scope.h */
    uint8_t                    flags;      /* enum sl_fiber_flags; the creator's, then the fiber's */
    uint8_t                    streak;     /* calls in a row that did not have to wait */
    _Atomic(uint8_t)           wait_kind;  /* hint for dumps */
    _Atomic(uint8_t)           child;      /* enum sl_child_flags; under its scope's lock, OPENED by the fiber alone */
    /* Second line: the argument until it begins, the running state after. */
    union {
        void         *arg;
        unsigned char copy[SL_COPY_INLINE_BYTES];
        struct {
            struct sl_context context;
            struct sl_stack  *stack;
            struct sl_timer   timer;
            union {
                _Atomic(const void *) wait_object; /* hint for dumps; which arm of a select won; the mutex just unlocked, sync/mutex.c */
                struct {                           /* of an operation in flight (SL_WAIT_IO) */
                    _Atomic(int32_t)  op_fd;
                    _Atomic(uint16_t) op_ring; /* number of the worker whose ring has it */
                };
            };
            int32_t           op_result; /* of the final completion; written by the reaper that claims, read by the fiber */
            union {
                _Atomic(uint32_t) parked_ms;    /* when the present wait began, by the worker's last clock reading; hint for dumps */
                _Atomic(uint32_t) thread_ready; /* of a plain thread: the futex it waits on, and how it waits; see ready.c */
            };
        };
    };
};

_Static_assert(offsetof(struct sl_fiber, gen) == 2 * sizeof(void *), "frozen: sley/gen_inline.h");
#if !defined(SL_ASAN) && !defined(SL_TSAN)
_Static_assert(sizeof(struct sl_fiber) == 128, "a fiber that has not begun costs two cache lines");
#endif

struct sl_fiber_cache { /* a worker's free blocks; plain */
    struct sl_fiber *head;
    uint32_t         count;
};

/* A block whose fiber has not begun: word IDLE, flags zero, in no list, generation odd. cache NULL: from the shared list. NULL: no
 * memory. */
struct sl_fiber *sl_fiber_alloc(struct sl_fiber_cache *cache);
void sl_fiber_free(struct sl_fiber_cache *cache, struct sl_fiber *f);
void sl_fiber_cache_drain(struct sl_fiber_cache *cache);

/* The block of an index that was once handed out; NULL if it never was. */
struct sl_fiber *sl_fiber_at(uint32_t index);
uint32_t sl_fiber_index_end(void); /* indices below it have been handed out */

static inline uint64_t sl_fiber_number(const struct sl_fiber *f)
{
    return (uint64_t)sl_load_relaxed(&f->generation) << 32 | f->index; /* generation: changes only while nobody runs as f */
}

#endif
