/* stack.h - stacks: large mappings carved once, guarded for life, reused newest first.
 *
 *   K1  A stack's descriptor lies at its own top, in the one page that every fiber touches anyway.
 *   K2  Address space is promised before it is needed: a fiber takes a credit when it is created, so its first run cannot fail for want of
 *       address space. credits given out <= stacks in the mapped slabs.
 *   K3  Slabs are not unmapped before the pool ends; the fault handler may look at their table at any time.
 *   K4  A worker's cache is plain memory of its owner; batches of SL_STACK_BATCH even out through the depot, under its lock. */
#ifndef SL_STACK_H
#define SL_STACK_H

#include "base/limits.h"
#include "base/lock.h"

#include <sley/base.h>

struct sl_fiber;
struct sl_notices;
struct sley_gen;

struct sl_local { /* one value of a fiber or thread; sched/local.c */
    void    *value;
    uint64_t tag;
};

struct sl_locals {
    struct sl_local *slots; /* NULL: none was ever set; `few`, or from malloc */
    uint32_t         mask;  /* how many, less one; a power of two less one */
    struct sl_local  few[SL_LOCAL_FEW];
};

struct sl_slab;

enum sl_stack_use { SL_USE_FIBER, SL_USE_CALL, SL_USE_GEN };

struct sl_stack {
    union {
        struct sl_stack *next; /* in a cache or the depot */
        struct sley_gen *gens; /* of the fiber whose stack it is: those that its end closes, see sched/gens.h */
    };
    struct sl_fiber *fiber; /* whose stack it is now; NULL: free. Hint for the overflow report */
    sley_fn         *fn;    /* that fiber's function, for the overflow report */
    char            *low;   /* lowest usable byte; the guard is below */
    void            *arg;   /* that function's argument */
    char            *top;   /* where the fiber's frames begin: below this descriptor, coloured, 16-byte aligned */
    unsigned         valgrind_id;
    uint16_t         guard;  /* enum sl_stack_guard */
    uint16_t         use;    /* enum sl_stack_use: what runs on it, a fiber, a call of sley_on_big_stack, a generator; for the report */
    uint64_t         number; /* that fiber's number, for the overflow report */
    _Atomic(uint64_t) name[SL_NAME_BYTES / 8]; /* of the fiber; with its NUL. Words, because sley_dump reads it from outside */
    struct sl_locals  locals; /* the fiber's own; empty while the stack is free */
    _Alignas(max_align_t)
    unsigned char    copy[SL_COPY_INLINE_BYTES]; /* the fiber's argument, if it was copied */
    union {
        struct sl_stack *batch_next; /* private: of the first stack of a batch in the depot: the next batch */
        struct sl_stack *owner;      /* of a call or generator: the own stack of the fiber that runs on it; NULL: a plain thread does */
        struct sl_notices *notices;  /* of a fiber: of the zero-copy send that it is in, sched/op.h; else not set */
    };
    union {
        struct {
            uint32_t batch_count; /* ... and how many stacks this one has */
            uint32_t batch_bare;  /* ... of which so many are bare, see stack.c */
        };
        struct sl_slab *mapping;  /* private: of a big one */
    };
};

struct sl_stack_pool;  /* of a runtime */

struct sl_stack_cache { /* of a worker; zeroed memory is an empty cache */
    struct sl_stack *head;
    uint32_t         count;
    uint32_t         credits;
    struct sl_stack *edge;  /* private: the stack above the oldest SL_STACK_BATCH; valid while count is more than that */
    uint32_t         bare_count;
    bool             joined; /* private: counted in its pool */
    char            *bare[SL_STACK_BATCH]; /* private: stacks still to be carved */
};

enum sl_stack_guard { SL_GUARD_MADVISE, SL_GUARD_MPROTECT, SL_GUARD_CANARY };

/* The strongest guard to try, from SLEY_GUARD (madvise, mprotect, canary; default the first); -EINVAL after one line on stderr. */
int sl_stack_guard_wanted(void);

/* stack_bytes: a power of two within limits.h, guard included; raised to four pages if they are larger. NULL: no memory, or a bad
 * SLEY_GUARD. */
struct sl_stack_pool *sl_stack_pool_create(size_t stack_bytes);
void sl_stack_pool_destroy(struct sl_stack_pool *p); /* every stack has been given back */

/* Take one credit: 0; -EAGAIN: no address space. cache NULL (not on a worker): from the pool. */
int  sl_stack_credit_take(struct sl_stack_pool *p, struct sl_stack_cache *c);
void sl_stack_credit_give(struct sl_stack_pool *p, struct sl_stack_cache *c);

static inline void sl_stack_set_name(struct sl_stack *s, const char *name)
{
    union { char text[SL_NAME_BYTES]; uint64_t word[SL_NAME_BYTES / 8]; } n = { .word = { 0 } };

    for (size_t i = 0; i < SL_NAME_BYTES - 1 && name[i] != '\0'; i++)
        n.text[i] = name[i];
    for (size_t i = 0; i < SL_NAME_BYTES / 8; i++)
        sl_store_relaxed(&s->name[i], n.word[i]); /* its fiber only */
}

/* text: SL_NAME_BYTES */
static inline void sl_stack_get_name(const struct sl_stack *s, char *text)
{
    union { char text[SL_NAME_BYTES]; uint64_t word[SL_NAME_BYTES / 8]; } n;

    for (size_t i = 0; i < SL_NAME_BYTES / 8; i++)
        n.word[i] = sl_load_relaxed(&s->name[i]); /* hint: may be half of one name and half of another */
    n.text[SL_NAME_BYTES - 1] = '\0';
    for (size_t i = 0; i < SL_NAME_BYTES; i++)
        text[i] = n.text[i];
}

/* The newest free stack of the cache, or NULL. Plain memory, no call: fit for use under a lock. */
static inline struct sl_stack *sl_stack_pop(struct sl_stack_cache *c)
{
    struct sl_stack *s = c->head;

    if (s != NULL) {
        c->head = s->next;
        c->count--;
    }
    return s;
}

/* Make the cache non-empty: 0; -ENOMEM: the kernel refuses a guard or page. */
int  sl_stack_refill(struct sl_stack_pool *p, struct sl_stack_cache *c);
void sl_stack_push(struct sl_stack_pool *p, struct sl_stack_cache *c, struct sl_stack *s); /* give back; a full cache spills a batch */
void sl_stack_cache_drain(struct sl_stack_pool *p, struct sl_stack_cache *c); /* the worker ends: stacks and credits go back */

enum sl_stack_guard sl_stack_pool_guard(const struct sl_stack_pool *p); /* what the newest stacks got */
size_t   sl_stack_pool_bytes(const struct sl_stack_pool *p);
void     sl_stack_keep_warm(struct sl_stack_pool *p, uint64_t stacks); /* how many free stacks keep their pages; before the pool is used */
uint64_t sl_stack_pool_count(const struct sl_stack_pool *p); /* stacks carved so far */
/* Aborts with the report if the canary is gone; nothing with a guard. */
void     sl_stack_check_canary(const struct sl_stack *s);

/* A stack outside of any pool, with room for `bytes` or a little more, guarded like the others; NULL: no memory. */
struct sl_stack *sl_stack_map_big(size_t bytes);
void sl_stack_unmap_big(struct sl_stack *s);

void sl_stack_reset_after_fork(void); /* another thread may have been mapping a slab when the parent forked */

/* The overflow report: a SIGSEGV handler for the process, installed once, that chains to the one before it; and the alternate
 * signal stack of the calling thread, which the report runs on. Nothing under AddressSanitizer, which has its own. */
void sl_overflow_report_install(void);
int  sl_overflow_stack_init(void **altstack); /* 0; -ENOMEM */
void sl_overflow_stack_fini(void *altstack);

/* The report itself, to file descriptor 2; async-signal-safe. */
void sl_overflow_print(const struct sl_stack *s, size_t stack_bytes, size_t guard_bytes);

struct sl_stack_place {
    char            *base; /* of the stack's address space, where its guard begins */
    size_t           stack_bytes, guard_bytes;
    struct sl_stack *stack;
};

/* The stack in whose address space `address` lies, of any pool: false: in none. Async-signal-safe. */
bool sl_stack_find(const void *address, struct sl_stack_place *out);

/* For tests: the next n stacks cannot be carved for want of memory. */
void sl_stack_fail_carves(unsigned n);

#endif
