/* scope.h - what a fiber belongs to: where its errors go and what tells it to stop.
 *
 * A scope holds the fibers started in it (its children), the scopes opened inside it, a deadline and the cancel flag. It lies in the frame
 * of the fiber that opened it; a runtime's root scope and its scope of errands lie in the runtime. A fiber's innermost scope is f->scope.
 *
 *   S1  Lists, cause, `inner` and the children's `child` byte change under the scope's lock. Lock order: a scope, then one inside it; a
 *       scope, then its timer's heap. No object's lock is held when a scope's is taken; a scope is itself an object (of its waiters).
 *   S2  A child is linked before it can run, and unlinked after everything else its end does. The opener leaves the scope when the list
 *       is empty and nobody holds a pin. So whoever finds a fiber in a list, or a scope through a pin or its parent's list under the
 *       parent's lock, may touch it.
 *   S3  `cancelled` is set once, under the lock; a scope opened inside later inherits it, unless a shield is open. From then on every wait
 *       of a fiber whose innermost scope it is fails, but under a shield.
 *   S4  A fiber stands, for a canceller, in exactly one scope, its innermost one: as opener if the scope has no `inner`, as child if it
 *       has not opened any. Only there it is looked at, once: what it begins to wait for later sees the flag. The scopes that a
 *       generator's body has open move: while it runs they lie inside the scope of who resumed it, and the fiber stands in the
 *       innermost one; while it is suspended, inside the one it was made in, and the fiber stands in none of them (task/scope.c).
 *   S5  `shields` of a fiber cannot change while one wait lasts. So a canceller that reads word, shields, and then claims with that word
 *       has read the right ones, and never ends a wait that a shield covers.
 *
 * Cancelling: set the flag, pin; then for each scope so marked: fence, take its children and inner scopes SL_WAKE_ALL_BATCH a hold, those
 * looked at go to the list's end; mark and pin the unshielded inner scopes, claim who waits; after the unlock make them ready, and look
 * again at who was just on its way to a wait; unpin.
 * A canceller holds at most a scope and one inside it, and waits for nobody under a lock.
 *
 * order [cancel.1]: the canceller stores `cancelled`, fences, then looks at each fiber's wait word; a fiber stores (sequence, ARMING),
 * passes a full barrier (the object's lock), then reads `cancelled`. At least one of them sees the other.
 * order [cancel.2]: a scope is marked before those inside it; who sees one inside cancelled from above sees it too.
 * order [scope.1]: a pin taken without the lock (a deadline, under its heap's) is seen by the closer, which takes the timer out of the heap
 * before it looks at the pins. */
#ifndef SL_SCOPE_H
#define SL_SCOPE_H

#include "base/lock.h"
#include "event/timer.h"
#include "sched/node.h"

#include <sley/base.h>

struct sl_fiber;
struct sley_gen;
struct sley_runtime;

enum sl_scope_cause { SL_CAUSE_NONE, SL_CAUSE_CALL, SL_CAUSE_DEADLINE, SL_CAUSE_ERROR, SL_CAUSE_ABOVE };
enum sl_scope_state { SL_SCOPE_OPEN = 0x5c, SL_SCOPE_CLOSED = 0xc5 };
enum sl_scope_kind { SL_SCOPE_ORDINARY, SL_SCOPE_ISOLATED, SL_SCOPE_TASK };
enum sl_scope_cut { SL_CUT_CALL = 1, SL_CUT_CHILD = 2 };

struct sl_scope {
    struct sl_lock   lock;
    uint8_t          state;    /* enum sl_scope_state; the opener's */
    uint8_t          kind;     /* enum sl_scope_kind: ISOLATED: a child's error stops nobody; TASK: holds no children, see task/future.c */
    uint8_t          shielded; /* opened under a shield: what concerns the parent does not come down */
    uint8_t          shields;  /* of the opener when it opened this */
    uint8_t          cause;    /* enum sl_scope_cause: of `cancelled` */
    uint8_t          inner;    /* the opener is not to be looked at here: it stands further inside, or has stepped out for a while */
    uint8_t          moves;    /* opened by a generator's body: only the opener knows how long the scope around it lasts. Constant */
    uint8_t          seen;     /* as inner scope: the parent's cancel has looked at it. Under the parent's lock */
    struct sl_fiber *first_child, *last_child;
    struct sl_scope *first_inside, *last_inside; /* scopes opened inside, by the opener or by children */
    struct sl_scope *older, *younger;            /* in the parent's list; under the parent's lock */
    struct sl_wait_list waiters; /* for the end of the last child */
    _Atomic(uint32_t) pins;    /* cancellers at work here; taken under the lock or the timer's heap's, given back under the lock */
    _Atomic(int)     error;    /* the first one of body or children that is not a consequence of `cancelled` */
    struct sl_timer  timer;    /* the deadline */
    struct sl_scope *todo;     /* the next one that a canceller has to look at; of the canceller whose pin it is */
    /* Read at every wait of every child; far from the lock, which every start and end of a child takes. */
    struct sl_scope *parent;   /* NULL: a runtime's own */
    struct sl_fiber *opener;   /* NULL: a runtime's own */
    struct sley_runtime *rt;   /* NULL: sl_scope_nowhere */
    _Atomic(uint8_t) cancelled; /* [cancel.1] */
    _Atomic(uint8_t) cut;      /* enum sl_scope_cut: what `cancelled` has cut short here or inside */
    int              result;   /* once CLOSED */
    struct sley_gen *gens;     /* made here by the opener, and not closed; the opener's */
};

extern struct sl_scope sl_scope_nowhere; /* of threads that are attached to no runtime */

void sl_scope_init_root(struct sl_scope *s, struct sley_runtime *rt);

/* f, which does not run, or is this thread's own block, becomes a child of s; it must have been given s as its scope. */
void sl_scope_enter(struct sl_scope *s, struct sl_fiber *f);
void sl_scope_leave(struct sl_scope *s, struct sl_fiber *f);

/* Cancel s: every fiber in it or below that waits, or would, gets -ECANCELED, but under shields. From any thread; again: nothing. */
void sl_scope_cancel(struct sl_scope *s, enum sl_scope_cause cause);

/* For who holds a pin of s: cancel it and give the pin back. */
void sl_scope_cancel_pinned(struct sl_scope *s, enum sl_scope_cause cause);

/* Move the deadline of s; from any thread while s is open. 0; -ENOMEM: it has none now. */
int sl_scope_deadline(struct sl_scope *s, sley_time deadline);
void sl_scope_deadline_off(struct sl_scope *s); /* the opener, before it looks at the pins */

/* f's scope is cancelled: whether f must stop, or a shield is open. If so, note in each scope that the cancel came through that it has cut
 * somebody short. Always called by f itself. */
bool sl_scope_note_cut(struct sl_fiber *f);

/* f has closed s, which a generator's body had opened, and stands around it: that a cancel from further out has cut somebody in s short is
 * noted there now; those inside could not look beyond s. */
void sl_scope_pass_cut_on(const struct sl_scope *s, struct sl_fiber *f);

/* For a fiber that does not wait, on a worker that may have had no occasion to look at its timers: whether the deadline of a scope that f
 * is in has passed; if so that scope is cancelled. Always called by f itself; true: it must stop. */
bool sl_scope_overdue(struct sl_fiber *f);

/* A child of s has ended with rc, less than 0. */
void sl_scope_child_failed(struct sl_scope *s, struct sl_fiber *f, int rc);

#endif
