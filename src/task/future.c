/* future.c - one outcome and those who wait for it (sley/future.h). A task is a future that its fiber completes.
 *
 *   U1  Lists, scope, cancel_requested and phase change under the lock. state and outcome are set together, once, under the lock.
 *   U2  PENDING -> has an outcome, phase CALLING while its callbacks run -> OVER. Waiters are woken when it is OVER: who awaits finds that
 *       the callbacks registered before have run. Without callbacks the two are one step.
 *   U3  A wait returns its own -ETIMEDOUT or -ECANCELED only if there was no outcome when it looked last; while CALLING it then takes the
 *       outcome. The completer itself, in its callbacks, does not wait for their end.
 *   U4  Callbacks run one after the other on the completer, no lock held, in the order in which they were registered: one that comes
 *       while CALLING joins the end, one that comes later is run by who brings it.
 *   U5  The fiber of a task holds a reference until its last access. Who completes a plain future needs none: its last access is an
 *       unlock, and whoever is told the outcome or the state has held the lock after it or was made ready after it; while callbacks run it
 *       holds a reference of its own. So who was told may give the last reference back.
 *   U6  `scope` is where a running task can be cancelled, and nothing else. A canceller takes a pin of it under the future's lock, and only
 *       while there is no outcome; the fiber sets the outcome under the same lock, then closes the scope, which waits for the pins.
 *       Before the task begins the canceller sets cancel_requested and looks again; the fiber, when it has set `scope`, looks at
 *       cancel_requested: at least one sees the other.
 *   U7  A failure that nobody was told of is reported by who gives the last reference back. `seen` is written by holders of references.
 *
 * A wait for several futures has a node in each, of kind PART, and one count of outcomes still wanted. A completer counts down, and claims
 * the waiter only if that was the last, or a failure that ends the wait: n futures cost one wake. The waiter itself counts those that
 * are over when it comes to link. It is a wait on many (sched/park.h): one lock at a time, and at its end every node is unlinked
 * under its lock, so that no completer is at work on the count.
 *
 * Rejected: waiters before callbacks. Then who awaits and frees what a callback uses would have to know whether it has run. Waiters in one
 * word, without a lock: a wait that time or a cancel ends must get out of the middle. Waiting for any number of futures without
 * memory: a future knows a waiter only by a node, and a stack has an end; so up to PARTS_ON_STACK lie there.
 *
 * order [future.1]: a holder's accesses are released when it gives its reference back; who finds itself the last acquires them.
 * order [future.2]: value and outcome, before state and before phase; whoever sees those without the lock acquires them.
 * order [future.3]: the fiber: scope, released with its opening; fence; cancel_requested. The canceller: cancel_requested; fence; scope
 * (U6). Every task begins, few are cancelled before that: so the fiber's fence is left out, and the canceller makes a membarrier for
 * both. Where there is none, and under ThreadSanitizer, both fence. */
#include "task/future.h"

#include "base/assert.h"
#include "plat/cpu.h"
#include "sched/gens.h"
#include "sched/worker.h"
#include "task/scope.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sley/future.h>
#include <sley/select.h>

enum phase { OPEN, CALLING, OVER };
enum kind { PLAIN, TASK };

struct callback {
    struct callback *next; /* the one registered before it */
    sley_fn         *fn;
    void            *arg;
};

struct sley_future {
    _Atomic(uint32_t) refs;
    struct sl_lock    lock;
    _Atomic(uint8_t)  state;   /* enum sley_future_state */
    _Atomic(uint8_t)  phase;   /* enum phase */
    _Atomic(uint8_t)  seen;    /* somebody was told that it has failed */
    int               outcome; /* of a task what its function returned; of a plain future 0 or the error */
    uint8_t           kind;    /* enum kind; constant */
    _Atomic(uint8_t)  cancel_requested; /* of a task; written under the lock */
    void             *arg;     /* what a task's function gets, or the value; constant */
    union {
        _Atomic(struct sl_scope *) scope; /* of a task that has begun and has no outcome */
        uint64_t who;                     /* OVER and failed: the number of the fiber that completed it, 0 for a plain thread */
    };
    union {
        struct {
            struct sl_wait_list waiters;
            struct callback    *callbacks; /* the youngest first */
            union {
                sley_fn               *fn;          /* of a task that has no outcome; constant */
                size_t                 value_bytes; /* of a plain future that has none; constant */
                const struct sl_fiber *caller;      /* CALLING: on whom the callbacks run */
            };
        };
        char name[SL_NAME_BYTES]; /* OVER and failed, in place of the lists, which stay empty: of the fiber that completed it */
    };
    max_align_t value[];
};

_Static_assert(sizeof(struct sley_future) == 64, "a task costs a cache line and its fiber");

/* ---- references ---- */

static sley_future *create(enum kind kind, uint32_t refs, void *arg, size_t value_bytes)
{
    sley_future *f = value_bytes <= SIZE_MAX - sizeof *f ? malloc(sizeof *f + value_bytes) : NULL;

    if (f == NULL)
        return NULL;
    *f = (struct sley_future){ .kind = (uint8_t)kind, .arg = value_bytes > 0 ? f->value : arg };
    sl_store_relaxed(&f->refs, refs); /* nobody else knows it yet */
    return f;
}

sley_future *sley_future_create(size_t value_bytes)
{
    sley_future *f = create(PLAIN, 1, NULL, value_bytes);

    if (f != NULL)
        f->value_bytes = value_bytes;
    return f;
}

sley_future *sley_future_ref(sley_future *f)
{
    if (f != NULL)
        sl_add_relaxed(&f->refs, 1); /* the caller has one */
    return f;
}

/* U7: to the hook of the runtime in which the last reference was given back. A thread of no runtime has nobody to tell. */
static void report(const sley_future *f)
{
    sley_runtime *rt = sley_runtime_current();

    if (rt != NULL)
        sl_report_error(rt, f->who, f->name, f->outcome);
}

static __attribute__((noinline)) void drop_pending(sley_future *f)
{
    SLEY_ASSERT(f->waiters.head == NULL, "sley_future_destroy", "the last reference is given back while somebody waits for the future");
    while (f->callbacks != NULL) {
        struct callback *c = f->callbacks;

        f->callbacks = c->next;
        free(c);
    }
}

void sley_future_destroy(sley_future *f)
{
    unsigned state;

    if (f == NULL)
        return;
    /* [future.1] who has the only one need not count: nobody else is there to take another */
    if (sl_load_acquire(&f->refs) != 1 && sl_sub_acq_rel(&f->refs, 1) != 1) /* [future.1] */
        return;
    state = sl_load_relaxed(&f->state); /* the last holder's alone */
    if (state == SLEY_FUTURE_PENDING)
        drop_pending(f);
    else if (state == SLEY_FUTURE_FAILED && !sl_load_relaxed(&f->seen)) /* likewise */
        report(f);
    free(f);
}

/* ---- looking ---- */

static bool is_pending(const sley_future *f) /* under the lock */
{
    return sl_load_relaxed(&f->state) == SLEY_FUTURE_PENDING;
}

/* Under the lock: whether self need not wait for f. */
static bool is_over(const sley_future *f, const struct sl_fiber *self)
{
    unsigned phase = sl_load_relaxed(&f->phase); /* under the lock */

    return phase == OVER || (phase == CALLING && f->caller == self); /* U3 */
}

/* Under the lock: f is the task that runs as self. */
static bool is_own_task(const sley_future *f, const struct sl_fiber *self)
{
    const struct sl_scope *scope = f->kind == TASK && is_pending(f) ? sl_load_acquire(&f->scope) : NULL; /* [future.3] */

    return scope != NULL && scope->opener == self;
}

/* f has an outcome: it, and note that the caller was told. */
static int tell(sley_future *f)
{
    if (f->outcome < 0 && sl_load_relaxed(&f->state) == SLEY_FUTURE_FAILED) /* seen before */
        sl_store_relaxed(&f->seen, 1); /* U7 */
    return f->outcome;
}

/* The completer of f may still hold the lock: wait until it has left (U5). */
static inline void let_completer_leave(sley_future *f)
{
    if (f->kind == TASK) /* it has a reference */
        return;
    sl_lock_acquire(&f->lock);
    sl_lock_release(&f->lock);
}

/* Without waiting, no lock held. */
static bool has_outcome(sley_future *f)
{
    if (sl_load_acquire(&f->state) == SLEY_FUTURE_PENDING) /* [future.2] */
        return false;
    let_completer_leave(f);
    return true;
}

enum sley_future_state sley_future_state(const sley_future *handle)
{
    sley_future *f = (sley_future *)(uintptr_t)handle;

    if (f == NULL)
        return (enum sley_future_state)-EINVAL;
    if (!has_outcome(f))
        return SLEY_FUTURE_PENDING;
    tell(f);
    return (enum sley_future_state)sl_load_relaxed(&f->state); /* seen before */
}

void *sley_future_value(sley_future *f)
{
    return f != NULL ? f->arg : NULL;
}

/* ---- waits for several futures: what a completer must know ---- */

#define PART UINT32_MAX /* kind of a node; the others, of one await or of a select, are SLEY_CASE_FUTURE */
#define PARTS_ON_STACK 16

enum until { UNTIL_COUNTED, UNTIL_FAILURE /* or counted */ };

struct several {
    _Atomic(size_t) left; /* outcomes wanted until the wait is over; who takes the last one ends it. Wraps behind that */
    enum until      until;
};

/* One more outcome: true: it ends the wait. Under the future's lock. */
static bool count_one(struct several *s, int outcome)
{
    if (s->until == UNTIL_FAILURE && outcome < 0)
        return true;
    return sl_add_relaxed(&s->left, SIZE_MAX) <= 1; /* one less; the waiter locks every future before it leaves */
}

/* ---- completing ---- */

/* Under the lock: tell waiters, SL_WAKE_ALL_BATCH at most. true: nobody is left. */
static bool wake_some(sley_future *f, struct sl_woken *woken)
{
    struct sl_wait_node *n;

    for (unsigned room = SL_WAKE_ALL_BATCH; (n = f->waiters.head) != NULL; room--) {
        if (room == 0)
            return false;
        if (n->kind != PART || count_one(n->data, f->outcome)) {
            sl_claim(n, SL_ARM_EVENT, woken);
            n->result = f->outcome;
        }
        sl_wait_list_remove(&f->waiters, n);
    }
    return true;
}

/* Under the lock, once nobody is left in the lists: for the report. */
static void note_who(sley_future *f)
{
    struct sl_thread *t = sl_self_or_null();
    struct sl_fiber *self = t != NULL && t->worker != NULL ? t->current : NULL;

    f->who = self != NULL ? sl_fiber_number(self) : 0;
    if (self != NULL)
        sl_stack_get_name(self->stack, f->name);
    else
        f->name[0] = '\0';
}

/* Under the lock, which it releases: OVER. */
static inline void settle(sley_future *f)
{
    bool more;

    sl_store_release(&f->phase, OVER); /* [future.2] */
    do {
        struct sl_woken woken = { NULL, NULL };

        more = !wake_some(f, &woken);
        if (!more && sl_load_relaxed(&f->state) == SLEY_FUTURE_FAILED) /* own */
            note_who(f);
        sl_lock_release(&f->lock); /* U5: the last access, unless there are more */
        sl_woken_ready(&woken);
        if (more)
            sl_lock_acquire(&f->lock);
    } while (more);
}

/* Under the lock, which it releases; f is PENDING: it has this outcome. true: call_back is due. */
static inline bool finish(sley_future *f, enum sley_future_state state, int outcome)
{
    f->outcome = outcome;
    sl_store_release(&f->state, state); /* [future.2] */
    if (f->callbacks == NULL) {
        settle(f);
        return false;
    }
    f->caller = sl_current();
    sl_store_relaxed(&f->phase, CALLING); /* under the lock */
    sl_add_relaxed(&f->refs, 1); /* U5; nobody is told before the unlock */
    sl_lock_release(&f->lock);
    return true;
}

/* Run callbacks, the oldest first. */
static void run(struct callback *youngest)
{
    struct callback *oldest = NULL, *c;

    while ((c = youngest) != NULL) {
        youngest = c->next;
        c->next = oldest;
        oldest = c;
    }
    while ((c = oldest) != NULL) {
        oldest = c->next;
        c->fn(c->arg);
        free(c);
    }
}

/* f is CALLING, and the caller is its completer: U4, then OVER. */
static __attribute__((noinline)) void call_back(sley_future *f)
{
    struct callback *youngest;

    sl_lock_acquire(&f->lock);
    while ((youngest = f->callbacks) != NULL) {
        f->callbacks = NULL;
        sl_lock_release(&f->lock);
        run(youngest);
        sl_lock_acquire(&f->lock);
    }
    settle(f);
    sley_future_destroy(f);
}

int sley_future_complete(sley_future *f, const void *value)
{
    if (f == NULL || f->kind == TASK)
        return -EINVAL;
    sl_lock_acquire(&f->lock);
    if (!is_pending(f)) {
        sl_lock_release(&f->lock);
        return -EALREADY;
    }
    if (f->value_bytes > 0 && value == NULL) {
        sl_lock_release(&f->lock);
        return -EINVAL;
    }
    if (f->value_bytes > 0)
        memcpy(f->value, value, f->value_bytes);
    if (finish(f, SLEY_FUTURE_DONE, 0))
        call_back(f);
    return 0;
}

/* A plain future gets an error. */
static int end_with(sley_future *f, enum sley_future_state state, int error)
{
    sl_lock_acquire(&f->lock);
    if (!is_pending(f)) {
        sl_lock_release(&f->lock);
        return -EALREADY;
    }
    if (finish(f, state, error))
        call_back(f);
    return 0;
}

int sley_future_fail(sley_future *f, int error)
{
    return f == NULL || f->kind == TASK || error >= 0 ? -EINVAL : end_with(f, SLEY_FUTURE_FAILED, error);
}

int sley_future_on_done(sley_future *f, sley_fn *fn, void *arg)
{
    struct callback *c;

    if (f == NULL || fn == NULL)
        return -EINVAL;
    c = malloc(sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    sl_lock_acquire(&f->lock);
    if (sl_load_relaxed(&f->phase) != OVER) { /* under the lock */
        *c = (struct callback){ f->callbacks, fn, arg };
        f->callbacks = c;
        sl_lock_release(&f->lock);
        return 0;
    }
    sl_lock_release(&f->lock);
    free(c);
    fn(arg);
    return 0;
}

/* ---- tasks ---- */

/* On the task's fiber. */
static int task_main(void *arg)
{
    sley_future *f = arg;
    struct sl_fiber *self = sl_current();
    enum sley_future_state state = SLEY_FUTURE_DONE;
    struct sl_scope scope;
    bool calls;
    int rc;

    sl_scope_open(&scope, self, SL_SCOPE_TASK);
    sl_store_release(&f->scope, &scope); /* [future.3] */
    if (__builtin_expect(sl_use_membarrier, 1))
        sl_compiler_barrier(); /* [future.3] light side */
    else
        sl_fence_seq_cst(); /* [future.3] */
    if (__builtin_expect(sl_load_relaxed(&f->cancel_requested), 0)) /* [future.3] */
        sl_scope_cancel(&scope, SL_CAUSE_CALL);

    rc = f->fn(f->arg);

    SLEY_ASSERT(self->scope == &scope, "sley_scope_init", "the task has ended with a scope open: sley_scope_wait is missing");
    SLEY_ASSERT(sl_load_relaxed(&self->shields) == 0, "sley_shield_begin", "the task has ended with a shield open"); /* own */
    sl_gens_close(&scope.gens);
    if (rc < 0) {
        state = rc == -ECANCELED && sl_load_relaxed(&scope.cancelled) ? SLEY_FUTURE_CANCELLED : SLEY_FUTURE_FAILED; /* its wait saw it */
        sl_owner_add(&sl_worker_here()->counters.failed, 1);
    }
    sl_lock_acquire(&f->lock);
    calls = finish(f, state, rc);
    sl_scope_close(&scope, self, 0, SLEY_FOREVER); /* U6. The callbacks run outside: they are not cancelled with the task */
    if (calls)
        call_back(f);
    sley_future_destroy(f); /* U5 */
    return 0;
}

static sley_future *start(sley_future *f, sley_fn *fn)
{
    if (f == NULL)
        return NULL;
    f->fn = fn;
    if (sl_go_here(task_main, f) == 0)
        return f;
    free(f);
    return NULL;
}

sley_future *sley_task_create(sley_fn *fn, void *arg)
{
    return fn == NULL ? NULL : start(create(TASK, 2, arg, 0), fn);
}

sley_future *sley_task_create_copy(sley_fn *fn, const void *arg, size_t arg_bytes)
{
    sley_future *f;

    if (fn == NULL || (arg == NULL && arg_bytes > 0))
        return NULL;
    f = create(TASK, 2, NULL, arg_bytes);
    if (f != NULL && arg_bytes > 0)
        memcpy(f->value, arg, arg_bytes);
    return start(f, fn);
}

int sley_future_cancel(sley_future *f)
{
    struct sl_scope *scope;

    if (f == NULL)
        return -EINVAL;
    if (f->kind == PLAIN)
        return end_with(f, SLEY_FUTURE_CANCELLED, -ECANCELED);
    sl_lock_acquire(&f->lock);
    if (!is_pending(f)) {
        sl_lock_release(&f->lock);
        return -EALREADY;
    }
    scope = sl_load_acquire(&f->scope); /* [future.3] */
    if (scope == NULL) {
        sl_store_relaxed(&f->cancel_requested, 1); /* [future.3] */
        sl_lock_release(&f->lock);
        if (sl_use_membarrier)
            sl_membarrier(); /* [future.3] heavy side */
        else
            sl_fence_seq_cst(); /* [future.3] */
        sl_lock_acquire(&f->lock);
        scope = is_pending(f) ? sl_load_acquire(&f->scope) : NULL; /* [future.3] */
    }
    if (scope != NULL)
        sl_add_relaxed(&scope->pins, 1); /* U6: seen by its closer, which has this lock after us */
    sl_lock_release(&f->lock);
    if (scope != NULL)
        sl_scope_cancel_pinned(scope, SL_CAUSE_CALL);
    return 0;
}

/* ---- waiting for one ---- */

static int refuse_own_task(const char *call)
{
    char name[SL_NAME_BYTES];
    struct sl_fiber *self = sl_current();

    sl_stack_get_name(self->stack, name);
    dprintf(STDERR_FILENO, "sley: fiber %llu \"%s\": %s: a task that waits for its own end would wait for ever\n",
            (unsigned long long)sl_fiber_number(self), name, call);
    return -EDEADLK;
}

/* 0: f has an outcome. -ETIMEDOUT, -ECANCELED, -ENOMEM, -ECHILD: the wait's own; -EDEADLK: f is the caller. */
static inline __attribute__((always_inline)) int
wait_until_over(sley_future *f, struct sl_fiber *self, sley_time deadline, const char *call)
{
    struct sl_wait_node node;
    unsigned why;
    bool over;
    int rc;

    if (sl_load_acquire(&f->phase) == OVER) { /* [future.2] */
        let_completer_leave(f);
        return 0;
    }
    rc = sl_wait_begin(self, deadline, SL_WAIT_FUTURE, f);
    if (rc < 0)
        return has_outcome(f) ? 0 : rc;
    sl_lock_acquire(&f->lock);
    over = is_over(f, self);
    if (__builtin_expect(over || is_own_task(f, self) || sl_cancelled(self), 0)) {
        rc = over || !is_pending(f) ? 0 : is_own_task(f, self) ? -EDEADLK : -ECANCELED;
        sl_wait_end(self);
        sl_lock_release(&f->lock);
        return rc == -EDEADLK ? refuse_own_task(call) : rc;
    }
    node.kind = SLEY_CASE_FUTURE;
    sl_node_init(&node, self);
    sl_wait_list_push(&f->waiters, &node);
    why = sl_park(&f->lock);
    if (why == SL_ARM_EVENT)
        return 0;
    sl_lock_acquire(&f->lock);
    if (sl_node_linked(&node))
        sl_wait_list_remove(&f->waiters, &node);
    over = !is_pending(f); /* U3 */
    sl_lock_release(&f->lock);
    return over ? 0 : why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

int sley_await(sley_future *f, sley_time deadline)
{
    struct sl_fiber *self;
    int rc;

    if (f == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    self = sl_current();
    if (sl_streak_cancelled(self))
        return -ECANCELED;
    rc = wait_until_over(f, self, deadline, "sley_await");
    return rc < 0 ? rc : tell(f);
}

static __attribute__((noinline)) int wait_shielded(sley_future *f, struct sl_fiber *self)
{
    int rc;

    sl_store_relaxed(&self->shields, sl_load_relaxed(&self->shields) + 1); /* own */
    rc = wait_until_over(f, self, SLEY_FOREVER, "sley_wait_for");
    sl_store_relaxed(&self->shields, sl_load_relaxed(&self->shields) - 1);
    return rc;
}

int sley_wait_for(sley_future *f, sley_time deadline)
{
    struct sl_fiber *self;
    int rc;

    if (f == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    self = sl_current();
    if (sl_streak_cancelled(self) && has_outcome(f))
        return -ECANCELED; /* f needs no cancel */
    rc = wait_until_over(f, self, deadline, "sley_wait_for");
    if (rc == -EDEADLK || rc == -ECHILD) /* nor could its end be waited for */
        return rc;
    if (rc < 0) {
        int end;

        sley_future_cancel(f);
        end = wait_shielded(f, self);
        if (end < 0)
            return end;
        if (sl_load_relaxed(&f->state) == SLEY_FUTURE_CANCELLED) /* it is over */
            return rc;
    }
    return tell(f);
}

/* ---- waiting for several ---- */

static int check(sley_future *const *f, size_t n, sley_time deadline)
{
    if ((f == NULL && n > 0) || n > INT_MAX || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (f[i] == NULL)
            return -EINVAL;
    return 0;
}

int sley_wait_all(sley_future *const *f, size_t n, sley_time deadline)
{
    struct sl_fiber *self;
    int rc = check(f, n, deadline);

    if (rc < 0)
        return rc;
    self = sl_current();
    if (sl_streak_cancelled(self))
        return -ECANCELED;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = wait_until_over(f[i], self, deadline, "sley_wait_all");
    return rc;
}

enum look { LOOK_OVER, LOOK_OUTCOME };

/* Without waiting: which one ends the wait; n: none. */
static size_t look(sley_future *const *f, size_t n, size_t wanted, enum until until, const struct sl_fiber *self, enum look look)
{
    for (size_t i = 0; i < n; i++) {
        bool over = has_outcome(f[i]);

        if (over && look == LOOK_OVER && sl_load_acquire(&f[i]->phase) != OVER) { /* [future.2] */
            sl_lock_acquire(&f[i]->lock);
            over = is_over(f[i], self);
            sl_lock_release(&f[i]->lock);
        }
        if (over && ((until == UNTIL_FAILURE && f[i]->outcome < 0) || --wanted == 0))
            return i;
    }
    return n;
}

struct linking {
    sley_future *const  *f;
    struct sl_wait_node *nodes;
    size_t               count; /* so many have had their turn; fiber NULL: that one was over and was not linked */
};

enum linked { LINKED, ENDS_IT, ANOTHER_HAS_WON, OWN_TASK };

static enum linked link_one(struct sley_future *f, struct sl_wait_node *n, struct several *s, struct sl_fiber *self)
{
    enum linked linked = LINKED;

    sl_node_init(n, self);
    n->tag |= SL_NODE_MANY;
    n->kind = PART;
    n->data = s;
    sl_lock_acquire(&f->lock);
    if (is_over(f, self)) {
        n->fiber = NULL;
        if (count_one(s, f->outcome))
            linked = sl_claim_self(self) ? ENDS_IT : ANOTHER_HAS_WON;
    } else if (is_own_task(f, self)) {
        n->fiber = NULL;
        linked = sl_claim_self(self) ? OWN_TASK : ANOTHER_HAS_WON;
    } else {
        sl_wait_list_push(&f->waiters, n);
    }
    sl_lock_release(&f->lock);
    return linked;
}

static void unlink_all(struct linking *l)
{
    for (size_t i = 0; i < l->count; i++) {
        if (l->nodes[i].fiber == NULL)
            continue;
        sl_lock_acquire(&l->f[i]->lock);
        if (sl_node_linked(&l->nodes[i]))
            sl_wait_list_remove(&l->f[i]->waiters, &l->nodes[i]);
        sl_lock_release(&l->f[i]->lock);
    }
}

/* The wait on many has begun; it is over when this returns. The index of the one that has ended it, or as wait_until_over. */
static inline int link_and_park(struct linking *l, size_t n, struct several *s, struct sl_fiber *self)
{
    enum linked linked = LINKED;
    unsigned why = SL_ARM_EVENT;

    while (l->count < n && linked == LINKED) {
        linked = link_one(l->f[l->count], &l->nodes[l->count], s, self);
        l->count++;
    }
    if (linked == LINKED) {
        sl_fence_seq_cst(); /* [cancel.1] */
        if (sl_cancel_is_due(self) && sl_claim_self(self)) {
            sl_wait_end(self);
            sl_scope_note_cut(self);
            why = SL_ARM_CANCEL;
        } else {
            why = sl_park_many();
        }
    } else {
        sl_wait_end(self);
    }
    unlink_all(l);
    if (linked == OWN_TASK)
        return -EDEADLK;
    if (linked == ENDS_IT)
        return (int)l->count - 1;
    if (why == SL_ARM_EVENT)
        return (int)((const struct sl_wait_node *)sl_load_relaxed(&self->wait_object) - l->nodes); /* M3: the claimer's word */
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

/* Until so many of n have outcomes: the index of the one with which the wait was over; or as wait_until_over. */
static int wait_for_several(sley_future *const *f, size_t n, size_t wanted, enum until until, sley_time deadline, const char *call)
{
    struct sl_wait_node on_stack[PARTS_ON_STACK];
    struct linking l = { f, on_stack, 0 };
    struct sl_fiber *self = sl_current();
    struct several s;
    size_t i;
    int rc;

    if (sl_streak_cancelled(self))
        return -ECANCELED;
    i = look(f, n, wanted, until, self, LOOK_OVER);
    if (i < n)
        return (int)i;
    if (n > PARTS_ON_STACK && deadline != SLEY_NOW && (l.nodes = malloc(n * sizeof *l.nodes)) == NULL)
        return -ENOMEM;
    sl_store_relaxed(&s.left, wanted); /* nobody else knows it yet */
    s.until = until;
    rc = sl_wait_begin_many(self, deadline, SL_WAIT_FUTURE, f);
    if (rc == 0)
        rc = link_and_park(&l, n, &s, self);
    if (l.nodes != on_stack)
        free(l.nodes);
    if (rc == -EDEADLK)
        return refuse_own_task(call);
    if (rc < 0 && (i = look(f, n, wanted, until, self, LOOK_OUTCOME)) < n) /* U3 */
        return (int)i;
    return rc;
}

int sley_wait_any(sley_future *const *f, size_t n, sley_time deadline)
{
    if (n == 0 || check(f, n, deadline) < 0)
        return -EINVAL;
    return wait_for_several(f, n, 1, UNTIL_COUNTED, deadline, "sley_wait_any");
}

int sley_gather(sley_future *const *f, size_t n, sley_time deadline)
{
    int i = check(f, n, deadline);

    if (i < 0 || n == 0)
        return i;
    i = wait_for_several(f, n, n, UNTIL_FAILURE, deadline, "sley_gather");
    if (i < 0)
        return i;
    return f[i]->outcome < 0 ? tell(f[i]) : 0;
}

/* ---- an arm of a select ---- */

static bool arm_ready(struct sl_wait_node *n)
{
    sley_future *f = n->object;

    return sl_load_relaxed(&f->phase) == OVER; /* hint */
}

static enum sl_armed arm(struct sl_wait_node *n, struct sl_fiber *self, enum sl_arm_mode mode)
{
    enum sl_armed armed = SL_ARMED_DONE;
    sley_future *f = n->object;
    bool own;

    sl_lock_acquire(&f->lock);
    own = is_own_task(f, self);
    if (!own && !is_over(f, self)) {
        armed = mode == SL_ARM_TRY ? SL_ARMED_NOT_YET : SL_ARMED_LINKED;
        if (mode == SL_ARM_LINK)
            sl_wait_list_push(&f->waiters, n);
    } else if (mode == SL_ARM_LINK && !sl_claim_self(self)) {
        armed = SL_ARMED_LOST;
    } else {
        n->result = own ? -EDEADLK : tell(f);
    }
    sl_lock_release(&f->lock);
    if (own && armed == SL_ARMED_DONE)
        refuse_own_task("sley_select");
    return armed;
}

static void disarm(struct sl_wait_node *n)
{
    sley_future *f = n->object;

    sl_lock_acquire(&f->lock);
    if (sl_node_linked(n))
        sl_wait_list_remove(&f->waiters, n);
    sl_lock_release(&f->lock);
}

static bool was_claimed(struct sl_wait_node *n, unsigned why)
{
    (void)why;
    tell(n->object);
    return true;
}

const struct sl_arm_ops sl_future_arm = { arm_ready, arm, disarm, was_claimed };
