/* scope.c - scopes as the user has them (sley/scope.h): opening, closing, results, shields. The tree is sched/scope.c.
 *
 * Closing, step by step, by the opener:
 *   1  an error of the body, and a passed deadline, cancel the scope; the wait for its end is itself never cancelled
 *   2  no child is left; then the deadline's timer leaves its heap, and after that no canceller holds a pin
 *   3  the scope leaves its parent's list, under the parent's lock, if there is still no pin: from here on nobody can reach it
 * The result is then the fiber's own to compute. */
#include "task/scope.h"
#include "sched/gens.h"
#include "sched/worker.h"
#include "task/gen.h"

#include <stdio.h>
#include <unistd.h>

#include <sley/fiber.h>
#include <sley/scope.h>
#include <sley/time.h>

_Static_assert(sizeof(struct sl_scope) <= sizeof(sley_scope) && _Alignof(struct sl_scope) <= _Alignof(sley_scope),
               "fits the public struct");

static struct sl_scope *scope_of(sley_scope *s)
{
    return (struct sl_scope *)(void *)s;
}

/* The fiber that runs here; NULL on a plain thread. */
static struct sl_fiber *fiber_here(void)
{
    struct sl_thread *t = sl_self_or_null();

    return t != NULL && t->worker != NULL ? t->current : NULL;
}

/* ---- opening ---- */

/* A deadline that is none: said at once; the scope is cancelled, and when it is closed the answer is -EINVAL. */
static void refuse_deadline(struct sl_scope *s, const char *call)
{
    int none = 0;

    dprintf(STDERR_FILENO, "sley: fiber %llu: %s: the deadline lies before the start of the process: a length of time? sley_after makes a "
            "deadline of one\n", (unsigned long long)sley_self(), call);
    if (s->opener == NULL) /* a runtime's: nobody would hear of it */
        return;
    sl_cas_acq_rel(&s->error, &none, -EINVAL);
    sl_scope_cancel(s, SL_CAUSE_ERROR);
}

static void set_deadline(struct sl_scope *s, sley_time deadline, const char *call)
{
    int none = 0;

    if (sl_deadline_check(deadline) < 0) {
        refuse_deadline(s, call);
    } else if (deadline <= sley_now()) {
        sl_scope_cancel(s, SL_CAUSE_DEADLINE);
    } else if (sl_scope_deadline(s, deadline) < 0) { /* no memory for its place among the timers */
        sl_cas_acq_rel(&s->error, &none, -ENOMEM);
        sl_scope_cancel(s, SL_CAUSE_ERROR);
    }
}

/* Under the parent's lock: into its list of scopes inside. true: the parent's cancel comes down to s, and has been there already. */
static bool link_inside(struct sl_scope *parent, struct sl_scope *s)
{
    s->parent = parent;
    s->seen = sl_load_relaxed(&parent->cancelled);
    s->younger = NULL;
    s->older = parent->last_inside;
    if (s->older != NULL)
        s->older->younger = s;
    else
        parent->first_inside = s;
    parent->last_inside = s;
    return s->seen && !s->shielded;
}

/* Under the parent's lock. */
static void unlink_inside(struct sl_scope *s)
{
    struct sl_scope *parent = s->parent;

    if (s->older != NULL)
        s->older->younger = s->younger;
    else
        parent->first_inside = s->younger;
    if (s->younger != NULL)
        s->younger->older = s->older;
    else
        parent->last_inside = s->older;
}

/* S4, under the parent's lock: f goes on in a scope inside `parent`, where it stood until now, or stands there again. */
static void go_inside(struct sl_scope *parent, struct sl_fiber *f)
{
    if (parent->opener == f)
        parent->inner = 1;
    else
        sl_store_relaxed(&f->child, sl_load_relaxed(&f->child) | SL_CHILD_OPENED); /* under the lock */
}

static void come_back(struct sl_scope *parent, struct sl_fiber *f)
{
    if (parent->opener == f)
        parent->inner = 0;
    else
        sl_store_relaxed(&f->child, sl_load_relaxed(&f->child) & ~SL_CHILD_OPENED); /* under the lock */
}

void sl_scope_open(struct sl_scope *s, struct sl_fiber *f, enum sl_scope_kind kind)
{
    struct sl_scope *parent = f->scope;
    uint8_t shields = sl_load_relaxed(&f->shields); /* own */

    *s = (struct sl_scope){
        .state = SL_SCOPE_OPEN, .kind = (uint8_t)kind, .shielded = shields > 0, .shields = shields,
        .moves = f->gen != NULL, .parent = parent, .opener = f, .rt = f->rt, .timer = { .kind = SL_TIMER_SCOPE },
    };
    sl_store_relaxed(&s->timer.deadline, SL_TIME_NONE); /* nobody else knows it yet */
    sl_store_relaxed(&s->timer.key, SL_TIME_NONE);
    if (__builtin_expect(f->gen != NULL, 0))
        sl_gen_scope_opened(f->gen, s, shields);
    sl_lock_acquire(&parent->lock);
    if (link_inside(parent, s)) { /* S3 */
        sl_store_relaxed(&s->cancelled, 1);
        s->cause = SL_CAUSE_ABOVE;
    }
    go_inside(parent, f);
    sl_store_relaxed(&f->shields, 0); /* own. Shields are counted anew inside */
    f->scope = s;
    sl_lock_release(&parent->lock);
}

static void init(sley_scope *handle, sley_time deadline, enum sl_scope_kind kind, const char *call)
{
    struct sl_fiber *f = fiber_here();

    SLEY_ASSERT(f != NULL, call, "a scope can only be opened on a fiber");
    SLEY_ASSERT(handle != NULL, call, "the scope is NULL");
    for (const struct sl_scope *s = f->scope; s->opener == f; s = s->parent)
        SLEY_ASSERT(s != scope_of(handle), call, "the scope is open already");
    sl_scope_open(scope_of(handle), f, kind);
    if (deadline != SLEY_FOREVER)
        set_deadline(scope_of(handle), deadline, call);
}

void sley_scope_init(sley_scope *s, sley_time deadline)
{
    init(s, deadline, SL_SCOPE_ORDINARY, "sley_scope_init");
}

void sley_scope_init_isolated(sley_scope *s, sley_time deadline)
{
    init(s, deadline, SL_SCOPE_ISOLATED, "sley_scope_init_isolated");
}

/* ---- while it is open ---- */

static struct sl_scope *open_scope(sley_scope *s, const char *call)
{
    SLEY_ASSERT(s != NULL && scope_of(s)->state == SL_SCOPE_OPEN, call, "the scope is not open");
    return scope_of(s);
}

int sley_scope_go(sley_scope *s, sley_fn *fn, void *arg)
{
    if (s == NULL || fn == NULL)
        return -EINVAL;
    return sl_go(open_scope(s, "sley_scope_go"), fn, arg);
}

int sley_scope_go_copy(sley_scope *s, sley_fn *fn, const void *arg, size_t arg_bytes)
{
    if (s == NULL || fn == NULL || (arg == NULL && arg_bytes > 0))
        return -EINVAL;
    if (arg_bytes > SLEY_COPY_BYTES_MAX)
        return -E2BIG;
    return sl_go_copy(open_scope(s, "sley_scope_go_copy"), fn, arg, arg_bytes);
}

void sley_scope_cancel(sley_scope *s)
{
    sl_scope_cancel(open_scope(s, "sley_scope_cancel"), SL_CAUSE_CALL);
}

void sley_scope_set_deadline(sley_scope *s, sley_time deadline)
{
    set_deadline(open_scope(s, "sley_scope_set_deadline"), deadline, "sley_scope_set_deadline");
}

sley_scope *sley_scope_current(void)
{
    struct sl_fiber *f = fiber_here();
    struct sl_scope *s = f != NULL ? f->scope : NULL;

    while (s != NULL && s->kind == SL_SCOPE_TASK)
        s = s->parent;
    return (sley_scope *)(void *)s;
}

sley_scope *sley_scope_root(void)
{
    sley_runtime *rt = sley_runtime_current();

    return rt != NULL ? (sley_scope *)(void *)&rt->root : NULL;
}

int sley_cancelled(void)
{
    struct sl_fiber *f = sl_current();

    return sl_cancelled(f) || sl_scope_overdue(f) ? -ECANCELED : 0;
}

void sley_shield_begin(void)
{
    struct sl_fiber *f = sl_current();

    SLEY_ASSERT(sl_load_relaxed(&f->shields) < UINT8_MAX - 1, "sley_shield_begin", "254 shields are open");
    if (__builtin_expect(f->gen != NULL, 0))
        sl_gen_shield_begun(f->gen, sl_load_relaxed(&f->shields));
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) + 1); /* own */
}

void sley_shield_end(void)
{
    struct sl_fiber *f = sl_current();

    SLEY_ASSERT(sl_load_relaxed(&f->shields) > 0, "sley_shield_end", "no shield is open in this scope");
    if (__builtin_expect(f->gen != NULL, 0))
        sl_gen_shield_ended(f->gen);
    sl_store_relaxed(&f->shields, sl_load_relaxed(&f->shields) - 1); /* own */
}

/* ---- a generator's body steps out of its scopes, and in again ----
 *
 * f runs, so nobody may claim it, and what it begins to wait for later sees the flags. Between leaving one list and joining the other the
 * scopes are in none: a cancel that passes meanwhile is seen in `cancelled` of the scope they join, under its lock. */

/* S4: whether cancellers look at the opener here. */
static void set_inner(struct sl_scope *s, uint8_t inner)
{
    sl_lock_acquire(&s->lock);
    s->inner = inner;
    sl_lock_release(&s->lock);
}

uint8_t sl_scope_step_out(struct sl_fiber *f, struct sl_scope *outermost, struct sl_scope *home, uint8_t shields)
{
    struct sl_scope *around = outermost->parent;
    uint8_t inside = sl_load_relaxed(&f->shields); /* own */
    bool late;

    set_inner(f->scope, 1);
    sl_lock_acquire(&around->lock);
    unlink_inside(outermost);
    come_back(around, f);
    f->scope = around;
    sl_store_relaxed(&f->shields, shields); /* own */
    sl_lock_release(&around->lock);
    sl_lock_acquire(&home->lock);
    outermost->shielded = outermost->shields > shields; /* the body's own; the consumer's does not last longer than the resume */
    late = link_inside(home, outermost);
    sl_lock_release(&home->lock);
    if (late)
        sl_scope_cancel(outermost, SL_CAUSE_ABOVE);
    return inside;
}

void sl_scope_step_in(struct sl_fiber *f, struct sl_scope *outermost, struct sl_scope *innermost, uint8_t shields)
{
    struct sl_scope *home = outermost->parent, *around = f->scope;
    bool late;

    sl_lock_acquire(&home->lock);
    unlink_inside(outermost);
    sl_lock_release(&home->lock);
    sl_lock_acquire(&around->lock);
    outermost->shielded = outermost->shields > 0; /* nobody reaches it but through the list */
    late = link_inside(around, outermost);
    go_inside(around, f);
    f->scope = innermost;
    sl_store_relaxed(&f->shields, shields); /* own */
    sl_lock_release(&around->lock);
    set_inner(innermost, 0);
    if (late)
        sl_scope_cancel(outermost, SL_CAUSE_ABOVE);
}

/* ---- an arm of select: no child is left ---- */

static bool arm_ready(struct sl_wait_node *n)
{
    struct sl_scope *s = n->object;
    bool ready;

    sl_lock_acquire(&s->lock);
    ready = s->first_child == NULL;
    sl_lock_release(&s->lock);
    return ready;
}

static enum sl_armed arm(struct sl_wait_node *n, struct sl_fiber *f, enum sl_arm_mode mode)
{
    struct sl_scope *s = n->object;
    enum sl_armed armed = SL_ARMED_DONE;

    sl_lock_acquire(&s->lock);
    SLEY_ASSERT(s->state == SL_SCOPE_OPEN, "sley_select", "the scope of a case is not open");
    if (s->first_child != NULL && mode == SL_ARM_LINK) {
        sl_wait_list_push(&s->waiters, n);
        armed = SL_ARMED_LINKED;
    } else if (s->first_child != NULL) {
        armed = SL_ARMED_NOT_YET;
    } else if (mode == SL_ARM_LINK && !sl_claim_self(f)) {
        armed = SL_ARMED_LOST;
    } else {
        n->result = 0;
    }
    sl_lock_release(&s->lock);
    return armed;
}

static void disarm(struct sl_wait_node *n)
{
    struct sl_scope *s = n->object;

    sl_lock_acquire(&s->lock);
    if (sl_node_linked(n))
        sl_wait_list_remove(&s->waiters, n);
    sl_lock_release(&s->lock);
}

const struct sl_arm_ops sl_scope_arm = { arm_ready, arm, disarm, NULL };

/* ---- closing ---- */

static bool is_empty(struct sl_scope *s) /* under the lock */
{
    return s->first_child == NULL && sl_load_relaxed(&s->pins) == 0; /* [scope.1] once the timer is out of its heap */
}

/* Wait, under a shield, until no child is left and nobody holds a pin. 0; -ETIMEDOUT. */
static int wait_until_empty(struct sl_scope *s, struct sl_fiber *f, sley_time deadline)
{
    for (;;) {
        struct sl_wait_node node;
        bool empty;
        unsigned why;
        int rc;

        sl_lock_acquire(&s->lock);
        empty = is_empty(s);
        sl_lock_release(&s->lock);
        if (empty)
            return 0;
        rc = sl_wait_begin(f, deadline, SL_WAIT_SCOPE, s);
        if (rc < 0)
            return -ETIMEDOUT; /* without memory for the timer too: then there is no grace */
        sl_lock_acquire(&s->lock);
        if (is_empty(s)) {
            sl_wait_end(f);
            sl_lock_release(&s->lock);
            return 0;
        }
        sl_node_init(&node, f);
        sl_wait_list_push(&s->waiters, &node);
        why = sl_park(&s->lock);
        if (why == SL_ARM_EVENT)
            continue;
        sl_lock_acquire(&s->lock);
        if (sl_node_linked(&node))
            sl_wait_list_remove(&s->waiters, &node);
        sl_lock_release(&s->lock);
        return -ETIMEDOUT;
    }
}

static int outcome(const struct sl_scope *s, int rc, bool above)
{
    unsigned cut = sl_load_acquire(&s->cut); /* everybody has ended, behind the lock */
    int error = sl_load_acquire(&s->error);

    if (error != 0)
        return error;
    if (!sl_load_relaxed(&s->cancelled))
        return rc;
    if (rc == -ECANCELED)
        cut |= SL_CUT_CHILD;
    if (above && cut & SL_CUT_CHILD)
        return -ECANCELED;
    if (s->cause == SL_CAUSE_DEADLINE && cut != 0)
        return -ETIMEDOUT;
    return rc == -ECANCELED ? 0 : rc;
}

/* Step 3. false: a canceller is still at work. */
static bool leave_parent(struct sl_scope *s, struct sl_fiber *f, bool *above)
{
    struct sl_scope *parent = s->parent;
    bool empty;

    sl_lock_acquire(&parent->lock); /* a cancel from above takes its pin under this one */
    sl_lock_acquire(&s->lock);
    empty = is_empty(s);
    sl_lock_release(&s->lock);
    if (empty) {
        unlink_inside(s);
        come_back(parent, f);
        f->scope = parent;
        sl_store_relaxed(&f->shields, s->shields); /* own */
        /* What came from a scope that a generator's body was resumed in before stays a cancel from above, under a shield too. */
        *above = s->cause == SL_CAUSE_ABOVE || (!s->shielded && sl_load_relaxed(&parent->cancelled)); /* under the lock */
    }
    sl_lock_release(&parent->lock);
    return empty;
}

int sl_scope_close(struct sl_scope *s, struct sl_fiber *f, int rc, sley_time deadline)
{
    int none = 0;
    bool above;

    bool cut = rc == -ECANCELED && sl_load_relaxed(&s->cancelled); /* hint: its own wait saw it */
    bool closing = rc == -ECANCELED && f->gen != NULL && sl_gen_is_closing(f->gen); /* the yield said it, whatever has cancelled s */

    if (rc < 0 && !cut && sl_cas_acq_rel(&s->error, &none, rc))
        sl_scope_cancel(s, SL_CAUSE_ERROR);
    sl_gens_close(&s->gens);
    sl_store_relaxed(&f->shields, 1); /* own; no other is open */
    if (s->kind != SL_SCOPE_TASK && wait_until_empty(s, f, deadline) < 0) {
        sl_scope_cancel(s, SL_CAUSE_DEADLINE);
        wait_until_empty(s, f, SLEY_FOREVER);
    }
    sl_scope_deadline_off(s);
    while (!leave_parent(s, f, &above))
        wait_until_empty(s, f, SLEY_FOREVER);
    if (__builtin_expect(f->gen != NULL, 0)) {
        sl_gen_scope_closed(f->gen);
        sl_scope_pass_cut_on(s, f);
    }
    s->result = outcome(s, rc, above || closing);
    s->state = SL_SCOPE_CLOSED;
    return s->result;
}

int sley_scope_wait(sley_scope *handle, int rc, sley_time deadline)
{
    struct sl_scope *s = scope_of(handle);
    struct sl_fiber *f = fiber_here();

    if (s == NULL)
        return -EINVAL;
    if (s->state == SL_SCOPE_CLOSED)
        return s->result;
    SLEY_ASSERT(s->state == SL_SCOPE_OPEN, "sley_scope_wait", "the scope is not open");
    SLEY_ASSERT(f != NULL && s->opener == f, "sley_scope_wait", "another fiber has opened the scope");
    SLEY_ASSERT(f->gen == NULL || sl_gen_has_scopes(f->gen), "sley_scope_wait", "the generator's body has not opened the scope");
    SLEY_ASSERT(f->scope == s, "sley_scope_wait", "a scope opened inside it is still open: close that first");
    SLEY_ASSERT(sl_load_relaxed(&f->shields) == 0, "sley_scope_wait", "a shield begun inside the scope is still open");
    if (sl_deadline_check(deadline) < 0) { /* an error, but it has to be closed all the same */
        refuse_deadline(s, "sley_scope_wait");
        deadline = SLEY_FOREVER;
    }
    return sl_scope_close(s, f, rc, deadline);
}

int sley_scope_run(sley_fn *fn, void *arg, sley_time deadline)
{
    sley_scope s;

    if (fn == NULL || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    init(&s, deadline, SL_SCOPE_ORDINARY, "sley_scope_run");
    return sley_scope_wait(&s, fn(arg), SLEY_FOREVER);
}
