/* scope.c - the tree of scopes: children come and go, a cancel spreads, a deadline fires. scope.h has the invariants and the argument. */
#include "sched/scope.h"

#include "base/assert.h"
#include "plat/cpu.h"
#include "sched/op.h"
#include "sched/switch.h"

struct sl_scope sl_scope_nowhere = { .kind = SL_SCOPE_ISOLATED, .timer = { .deadline = SL_TIME_NONE, .key = SL_TIME_NONE } };

void sl_scope_init_root(struct sl_scope *s, struct sley_runtime *rt)
{
    *s = (struct sl_scope){ .state = SL_SCOPE_OPEN, .kind = SL_SCOPE_ISOLATED, .rt = rt };
    sl_store_relaxed(&s->timer.deadline, SL_TIME_NONE);
    sl_store_relaxed(&s->timer.key, SL_TIME_NONE);
    s->timer.kind = SL_TIMER_SCOPE;
}

/* ---- children ---- */

/* Under the lock. */
static void link_last(struct sl_scope *s, struct sl_fiber *f)
{
    f->older = s->last_child != NULL ? s->last_child->index : SL_NO_FIBER;
    f->younger = SL_NO_FIBER;
    if (s->last_child != NULL)
        s->last_child->younger = f->index;
    else
        s->first_child = f;
    s->last_child = f;
}

/* Under the lock. */
static void unlink_child(struct sl_scope *s, struct sl_fiber *f)
{
    struct sl_fiber *older = f->older != SL_NO_FIBER ? sl_fiber_at(f->older) : NULL;
    struct sl_fiber *younger = f->younger != SL_NO_FIBER ? sl_fiber_at(f->younger) : NULL;

    if (older != NULL)
        older->younger = f->younger;
    else
        s->first_child = younger;
    if (younger != NULL)
        younger->older = f->older;
    else
        s->last_child = older;
}

void sl_scope_enter(struct sl_scope *s, struct sl_fiber *f)
{
    sl_lock_acquire(&s->lock);
    SLEY_ASSERT(s->state == SL_SCOPE_OPEN, "sley_go", "the scope is not open");
    sl_store_relaxed(&f->child, sl_load_relaxed(&s->cancelled) ? SL_CHILD_POKED : 0); /* S3 under the lock */
    link_last(s, f);
    sl_lock_release(&s->lock);
}

/* Under the lock: if nothing keeps the opener here any more, claim it and whoever else waits for that. */
static void wake_if_empty(struct sl_scope *s, struct sl_woken *woken)
{
    struct sl_wait_node *n;

    if (s->first_child != NULL)
        return;
    while ((n = s->waiters.head) != NULL) { /* the opener, and selects: few */
        sl_claim(n, SL_ARM_EVENT, woken);
        n->result = 0;
        sl_wait_list_remove(&s->waiters, n);
    }
}

void sl_scope_leave(struct sl_scope *s, struct sl_fiber *f)
{
    struct sl_woken woken = { NULL, NULL };

    sl_lock_acquire(&s->lock);
    unlink_child(s, f);
    wake_if_empty(s, &woken);
    sl_lock_release(&s->lock); /* S2: the last access */
    sl_woken_ready(&woken);
}

void sl_scope_child_failed(struct sl_scope *s, struct sl_fiber *f, int rc)
{
    int none = 0;

    if (rc == -ECANCELED && sl_load_relaxed(&s->cancelled)) { /* hint: its own last wait saw it */
        sl_or_relaxed(&s->cut, SL_CUT_CHILD);
        return;
    }
    if (s->kind == SL_SCOPE_ISOLATED) {
        char name[SL_NAME_BYTES];

        sl_stack_get_name(f->stack, name);
        sl_report_error(s->rt, sl_fiber_number(f), name, rc);
    } else if (sl_cas_acq_rel(&s->error, &none, rc)) {
        sl_scope_cancel(s, SL_CAUSE_ERROR);
    }
}

/* ---- cancelling ---- */

struct on_its_way { /* to a wait, or with the kernel, when it was looked at */
    struct sl_fiber *fiber;
    uint64_t         sequence;
};

/* f waits as `sequence`, or is on its way there: end that wait. No lock is held. */
static void look_again(struct sl_fiber *f, uint64_t sequence)
{
    for (;;) {
        uint64_t word = sl_load_acquire(&f->word); /* [cancel.1] */

        if (SL_WORD_SEQUENCE(word) != sequence)
            return;
        switch (SL_WORD_STATE(word)) {
        case SL_WAITING:
            if (sl_cas_acq_rel(&f->word, &word, SL_WORD(sequence, SL_ARM_CANCEL, SL_WON))) { /* [park.1] [park.2] */
                sl_ready(f);
                return;
            }
            break;
        case SL_WAITING_IO:
            sl_op_cancel(f, sequence, SL_ARM_CANCEL);
            return;
        case SL_ARMING:
        case SL_ARMING_MANY: /* tens of nanoseconds, unless its processor is somebody else's */
            sl_cpu_relax();
            sl_thread_yield();
            break;
        default:
            return;
        }
    }
}

/* Under the lock of the scope in which f stands (S4): claim it if it waits; true: it must be looked at again without the lock. */
static bool poke(struct sl_fiber *f, struct sl_woken *woken, uint64_t *sequence)
{
    uint64_t word = sl_load_acquire(&f->word); /* [cancel.1] */

    *sequence = SL_WORD_SEQUENCE(word);
    if (sl_load_relaxed(&f->shields) > 0 || f->flags & SL_FIBER_SYSTEM) /* S5 */
        return false;
    switch (SL_WORD_STATE(word)) {
    case SL_WAITING:
        if (sl_cas_acq_rel(&f->word, &word, SL_WORD(*sequence, SL_ARM_CANCEL, SL_WON))) /* [park.1] [park.2] */
            sl_woken_add(woken, f);
        return false; /* or something else has just claimed it: what it waits for next sees the flag */
    case SL_IDLE:
    case SL_WON:
        return false;
    default:
        return true;
    }
}

/* Under the lock: cancelled from now on, and pinned for who called. false: it was before. */
static bool mark(struct sl_scope *s, enum sl_scope_cause cause)
{
    if (sl_load_relaxed(&s->cancelled)) /* under the lock */
        return false;
    sl_store_release(&s->cancelled, 1); /* [cancel.1] fenced before anybody is looked at; [cancel.2] */
    s->cause = (uint8_t)cause;
    sl_add_relaxed(&s->pins, 1); /* under the lock */
    return true;
}

/* Under the lock of s: mark scopes inside and put them on the list. true: there are more. */
static bool spread_inside(struct sl_scope *s, struct sl_scope **todo)
{
    for (unsigned left = SL_WAKE_ALL_BATCH; left > 0; left--) {
        struct sl_scope *in = s->first_inside;

        if (in == NULL || in->seen)
            return false;
        in->seen = 1;
        if (in != s->last_inside) { /* to the end: those seen stand behind the others */
            s->first_inside = in->younger;
            in->younger->older = NULL;
            in->older = s->last_inside;
            in->younger = NULL;
            s->last_inside->younger = in;
            s->last_inside = in;
        }
        if (in->shielded)
            continue;
        sl_lock_acquire(&in->lock);
        if (mark(in, SL_CAUSE_ABOVE)) {
            in->todo = *todo;
            *todo = in;
        }
        sl_lock_release(&in->lock);
    }
    return true;
}

/* Under the lock of s: look at children. true: there are more. */
static bool poke_children(struct sl_scope *s, struct sl_woken *woken, struct on_its_way *again, unsigned *count)
{
    while (*count < SL_WAKE_ALL_BATCH) {
        struct sl_fiber *f = s->first_child;

        uint8_t child = f != NULL ? sl_load_relaxed(&f->child) : SL_CHILD_POKED; /* under the lock */

        if (child & SL_CHILD_POKED)
            return false;
        sl_store_relaxed(&f->child, child | SL_CHILD_POKED); /* under the lock */
        unlink_child(s, f); /* to the end: those looked at stand behind the others */
        link_last(s, f);
        if (!(child & SL_CHILD_OPENED) && poke(f, woken, &again[*count].sequence))
            again[*count].fiber = f;
        else
            again[*count].fiber = NULL;
        ++*count;
    }
    return true;
}

static void unpin(struct sl_scope *s)
{
    struct sl_woken woken = { NULL, NULL };

    sl_lock_acquire(&s->lock);
    if (sl_sub_acq_rel(&s->pins, 1) == 1) /* [scope.1] */
        wake_if_empty(s, &woken);
    sl_lock_release(&s->lock); /* S2: the last access */
    sl_woken_ready(&woken);
}

/* s has been marked; gives its pin back. */
static void spread(struct sl_scope *s)
{
    struct sl_scope *todo = NULL;

    while (s != NULL) {
        struct sley_runtime *rt = s->opener == NULL ? s->rt : NULL; /* a runtime's own */
        bool opener_is_due = true, more;

        sl_fence_seq_cst(); /* [cancel.1] */
        do {
            struct on_its_way again[SL_WAKE_ALL_BATCH + 1];
            struct sl_woken woken = { NULL, NULL };
            unsigned count = 0;

            sl_lock_acquire(&s->lock);
            more = spread_inside(s, &todo);
            more = poke_children(s, &woken, again, &count) || more;
            if (opener_is_due && s->opener != NULL && !s->inner && poke(s->opener, &woken, &again[count].sequence))
                again[count++].fiber = s->opener;
            opener_is_due = false;
            sl_lock_release(&s->lock);
            sl_woken_ready(&woken);
            for (unsigned i = 0; i < count; i++)
                if (again[i].fiber != NULL)
                    look_again(again[i].fiber, again[i].sequence);
        } while (more);
        unpin(s);
        if (rt != NULL)
            sl_runtime_news(rt); /* sley_run counts the grace from here */
        s = todo;
        if (s != NULL)
            todo = s->todo;
    }
}

void sl_scope_cancel(struct sl_scope *s, enum sl_scope_cause cause)
{
    bool marked;

    sl_lock_acquire(&s->lock);
    marked = mark(s, cause);
    sl_lock_release(&s->lock);
    if (marked)
        spread(s);
}

void sl_scope_cancel_pinned(struct sl_scope *s, enum sl_scope_cause cause)
{
    sl_scope_cancel(s, cause);
    unpin(s);
}

/* Of f, which stands in s or further inside: s is another fiber's generator's, and may be moved away while f looks at the scope around. */
static bool is_moved_by_another(const struct sl_scope *s, const struct sl_fiber *f)
{
    return s->moves && s->opener != f;
}

/* For f, which stands in s or further inside: the scope around it, as far as its cancel comes down; NULL: no further, or f cannot tell. */
static struct sl_scope *scope_around(const struct sl_scope *s, const struct sl_fiber *f)
{
    return is_moved_by_another(s, f) || s->shielded ? NULL : s->parent;
}

bool sl_scope_note_cut(struct sl_fiber *f)
{
    struct sl_scope *s = f->scope;

    if (sl_load_relaxed(&f->shields) > 0) /* own */
        return false;
    while (s != NULL && sl_load_acquire(&s->cancelled)) { /* [cancel.2] */
        if (!(sl_load_relaxed(&s->cut) & SL_CUT_CALL)) /* bits are only added */
            sl_or_relaxed(&s->cut, SL_CUT_CALL);
        s = scope_around(s, f);
    }
    return true;
}

void sl_scope_pass_cut_on(const struct sl_scope *s, struct sl_fiber *f)
{
    if (s->shielded || s->cause != SL_CAUSE_ABOVE || sl_load_relaxed(&s->cut) == 0) /* closed: nobody else has it */
        return;
    for (struct sl_scope *p = f->scope; p != NULL && sl_load_acquire(&p->cancelled); p = scope_around(p, f)) /* [cancel.2] */
        sl_or_relaxed(&p->cut, SL_CUT_CALL); /* bits are only added */
}

/* ---- the deadline ---- */

/* f stands in scopes of another fiber's generator, and cannot look at those around: but what is due stands in some worker's heap. */
static bool overdue_around(struct sl_fiber *f)
{
    struct sl_worker *w = sl_worker_here();
    bool expired = false;
    int64_t now = 0;

    for (unsigned i = 0; i < w->rt->worker_count; i++) {
        struct sl_timer_heap *h = &w->rt->workers[i]->timers;
        int64_t first = sl_load_relaxed(&h->first); /* hint, re-checked under the heap's lock */

        if (first != SL_TIME_NONE && now == 0)
            now = sl_clock_ns();
        if (first != SL_TIME_NONE && first <= now) {
            sl_timers_expire(w, h, now);
            expired = true;
        }
    }
    if (expired)
        sl_look_for_sleepers(w); /* f goes on computing */
    return sl_cancelled(f);
}

bool sl_scope_overdue(struct sl_fiber *f)
{
    int64_t now = 0;

    if (sl_load_relaxed(&f->shields) > 0) /* own */
        return false;
    for (struct sl_scope *s = f->scope; s != NULL; s = scope_around(s, f)) { /* all of them are open: f stands inside */
        int64_t deadline = sl_load_relaxed(&s->timer.deadline); /* hint: somebody may just be moving it */

        if (deadline != SL_TIME_NONE && now == 0)
            now = sl_clock_ns();
        if (deadline <= now && deadline != SL_TIME_NONE) {
            sl_scope_cancel(s, SL_CAUSE_DEADLINE);
            return sl_cancelled(f);
        }
        if (is_moved_by_another(s, f))
            return overdue_around(f);
    }
    return false;
}

int sl_scope_deadline(struct sl_scope *s, sley_time deadline)
{
    struct sl_timer *t = &s->timer;
    struct sl_worker *w = sl_worker_here();
    unsigned number;
    bool ring = false;
    int rc = 0;

    sl_lock_acquire(&s->lock);
    sl_store_relaxed(&t->deadline, deadline); /* under the lock, and of a scope read under the heap's only */
    number = sl_load_acquire(&t->heap);       /* [scope.1] under the lock nobody else makes it non-zero */
    if (number != 0)
        w = s->rt->workers[number - 1];
    else if (w == NULL || w->rt != s->rt)
        w = s->rt->workers[0];
    if (number != 0 || deadline != SLEY_FOREVER)
        rc = sl_timer_move(w, t, deadline, &ring);
    sl_lock_release(&s->lock);
    if (ring)
        sl_doorbell_ring(w);
    return rc;
}

void sl_scope_deadline_off(struct sl_scope *s)
{
    if (sl_load_acquire(&s->timer.heap) != 0) /* [scope.1] */
        sl_scope_deadline(s, SLEY_FOREVER);
}
