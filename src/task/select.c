/* select.c - waiting for the first of several things (sley/select.h).
 *
 * A case is its own wait node: what follows `value` in a sley_case is the node's (sched/node.h). What a kind of object must offer is in
 * sched/arm.h; times (SLEY_CASE_AT, SLEY_CASE_TICK) are no objects: the earliest of them is the end of the wait.
 *
 *   1  Look: each arm is asked whether it may go, without a lock; of those that may one is drawn, and tried under its object's lock.
 *   2  Nothing: begin a wait on many, link one arm after the other, one lock at a time. An arm that can go now is taken if the fiber can
 *      claim itself (M2 of sched/park.h); from the first link on others may claim it instead.
 *   3  All are linked: look at the cancel flag, park.
 *   4  However it ends: every arm that was linked is unlinked under its lock, the one that won too: its claimer may still be at work.
 *      Then there is a winner, or the time has come, or the cancel, or (a partner was lost to somebody else) it begins anew.
 *
 *   S1  Between the first link and the last unlink no return. So a node is in no list when the caller has its cases back.
 *   S2  At most one arm wins: by a claim of the fiber's word, its own (2) or another's. The winner is in wait_object: a foreign claimer
 *       stores it before its unlock and before it makes the fiber ready (sched/park.h).
 *   S3  Whoever starts over has unlinked everything and looks at everything again: nothing that came meanwhile is lost.
 *   S4  Two selects that meet crosswise may each claim themselves and then miss the other; both start over. The order of arming is
 *       drawn anew each time, and who has started over several times lets others run first.
 *
 * Rejected: all locks at once, in the order of addresses (Go): sixty-four locks under a switch, or a limit of arms; and the order of
 * addresses is not the same in the next run. */
#include "task/select.h"

#include "chan/arms.h"
#include "io/arms.h"
#include "plat/cpu.h"
#include "sched/arm.h"
#include "sched/random.h"
#include "sched/ticker.h"
#include "sync/arms.h"
#include "task/future.h"
#include "task/scope.h"

#include <limits.h>

#include <sley/fiber.h>
#include <sley/select.h>

_Static_assert(sizeof(struct sl_wait_node) == sizeof(sley_case) && offsetof(struct sl_wait_node, kind) == offsetof(sley_case, kind) &&
               offsetof(struct sl_wait_node, result) == offsetof(sley_case, result) &&
               offsetof(struct sl_wait_node, object) == offsetof(sley_case, object) &&
               offsetof(struct sl_wait_node, data) == offsetof(sley_case, data) &&
               offsetof(struct sl_wait_node, value) == offsetof(sley_case, value) &&
               offsetof(struct sl_wait_node, next) == offsetof(sley_case, reserved), "a case is its own node");

#define TRIES_MAX  3 /* hints that turn out wrong before every arm is looked at under its lock */
#define STARTS_MAX 3 /* lost partners in a row before others run first */

static const struct sl_arm_ops *const ops_of_kind[] = {
    [SLEY_CASE_RECV] = &sl_chan_recv_arm, [SLEY_CASE_SEND] = &sl_chan_send_arm, [SLEY_CASE_FUTURE] = &sl_future_arm,
    [SLEY_CASE_SCOPE] = &sl_scope_arm, [SLEY_CASE_EVENT] = &sl_event_arm, [SLEY_CASE_SEM] = &sl_sem_arm,
    [SLEY_CASE_FD] = &sl_fd_arm, [SLEY_CASE_SIGNAL] = &sl_signal_arm,
};

/* NULL: it never fires, or it is a time. */
static const struct sl_arm_ops *ops_of(const struct sl_wait_node *n)
{
    return n->kind == SLEY_CASE_FD || n->kind == SLEY_CASE_SIGNAL || n->object != NULL ? ops_of_kind[n->kind] : NULL;
}

/* ---- times ---- */

static bool is_time(const struct sl_wait_node *n)
{
    return n->kind == SLEY_CASE_AT || (n->kind == SLEY_CASE_TICK && n->object != NULL);
}

/* When it will be due; SLEY_FOREVER: never. */
static sley_time due(const struct sl_wait_node *n)
{
    return n->kind == SLEY_CASE_AT ? n->value : sl_ticker_next(n->object);
}

/* true: it was due, and result is set. */
static bool take_time(struct sl_wait_node *n, sley_time now)
{
    if (n->kind == SLEY_CASE_TICK)
        return (n->result = sl_ticker_take(n->object, now)) != 0;
    n->result = 0;
    return n->value <= now;
}

/* ---- looking ---- */

struct look {
    sley_time now;  /* read if there are times among the cases */
    sley_time next; /* when the earliest of them that is not due will be */
};

static bool may_go(struct sl_wait_node *n, struct look *look)
{
    const struct sl_arm_ops *ops = ops_of(n);

    if (ops != NULL)
        return ops->ready(n);
    if (!is_time(n))
        return false;
    if (look->now == 0)
        look->now = sl_clock_ns();
    if (due(n) <= look->now)
        return true;
    if (due(n) < look->next)
        look->next = due(n);
    return false;
}

/* One of the arms that may go, drawn, or the first of them; n: none may. */
static size_t draw(struct sl_wait_node *nodes, size_t n, enum sl_select_order order, struct look *look)
{
    size_t drawn = n;
    uint32_t found = 0;

    for (size_t i = 0; i < n; i++) {
        if (!may_go(&nodes[i], look))
            continue;
        if (found++ == 0 || (order == SL_SELECT_ANY && sl_random_below(found) == 0))
            drawn = i;
        if (order == SL_SELECT_FIRST && look->next == SLEY_FOREVER) /* else the other times are wanted, should this one fail */
            break;
    }
    return drawn;
}

static bool try_arm(struct sl_wait_node *n, struct sl_fiber *f, const struct look *look)
{
    const struct sl_arm_ops *ops = ops_of(n);

    if (ops != NULL)
        return ops->arm(n, f, SL_ARM_TRY) == SL_ARMED_DONE;
    return is_time(n) && take_time(n, look->now != 0 ? look->now : sl_clock_ns());
}

/* What can go without waiting: its index; n: nothing. `thoroughly`: the hints are not relied upon. */
static size_t take_ready(struct sl_wait_node *nodes, size_t n, struct sl_fiber *f, enum sl_select_order order, bool thoroughly,
                         sley_time *next)
{
    size_t start;

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        struct look look = { 0, SLEY_FOREVER };
        size_t i = draw(nodes, n, order, &look);

        *next = look.next;
        if (i == n)
            break;
        if (try_arm(&nodes[i], f, &look))
            return i;
    }
    if (!thoroughly || n == 0)
        return n;
    start = order == SL_SELECT_ANY ? sl_random_below((uint32_t)n) : 0;
    for (size_t i = 0; i < n; i++) {
        struct look look = { 0, SLEY_FOREVER };
        size_t at = i < n - start ? start + i : start + i - n;

        if (try_arm(&nodes[at], f, &look))
            return at;
    }
    return n;
}

/* ---- waiting ---- */

struct waiting {
    struct sl_wait_node *nodes;
    size_t n;
    size_t start;  /* arming begins there and wraps */
    size_t linked; /* so many, from there on, are or were linked */
    struct sl_wait_node *won;
    int why;       /* the arm of the word once the wait is over; or -errno: it could not wait */
};

enum outcome { WON, TIME, CANCELLED, START_OVER, REFUSED };

static size_t position(const struct waiting *w, size_t i)
{
    return i < w->n - w->start ? w->start + i : w->start + i - w->n;
}

/* Step 2. SL_ARMED_LINKED: all are. */
static enum sl_armed arm_all(struct waiting *w, struct sl_fiber *f)
{
    for (w->linked = 0; w->linked < w->n; w->linked++) {
        struct sl_wait_node *n = &w->nodes[position(w, w->linked)];
        const struct sl_arm_ops *ops = ops_of(n);
        enum sl_armed armed;

        if (ops == NULL)
            continue;
        sl_node_init(n, f);
        n->tag |= SL_NODE_MANY;
        armed = ops->arm(n, f, SL_ARM_LINK);
        if (armed == SL_ARMED_DONE)
            w->won = n;
        if (armed != SL_ARMED_LINKED)
            return armed;
    }
    return SL_ARMED_LINKED;
}

/* Step 4. */
static void disarm_all(struct waiting *w)
{
    for (size_t i = 0; i < w->linked; i++) {
        struct sl_wait_node *n = &w->nodes[position(w, i)];
        const struct sl_arm_ops *ops = ops_of(n);

        if (ops != NULL)
            ops->disarm(n);
    }
}

/* Leave a wait that did not park. */
static unsigned leave(struct sl_fiber *f)
{
    unsigned why = SL_WORD_ARM(sl_load_acquire(&f->word)); /* [park.3] */

    sl_wait_end(f);
    return why;
}

static struct sl_wait_node *winner(struct sl_fiber *f)
{
    return (struct sl_wait_node *)(uintptr_t)sl_load_relaxed(&f->wait_object); /* S2 */
}

/* The wait has begun. */
static enum outcome wait_for_one(struct waiting *w, struct sl_fiber *f)
{
    enum sl_armed armed = arm_all(w, f);

    if (armed == SL_ARMED_LINKED) {
        sl_fence_seq_cst(); /* [cancel.1] the last lock is one, if there was any */
        if (sl_cancel_is_due(f) && sl_claim_self(f)) {
            leave(f);
            disarm_all(w);
            return sl_cancelled(f) ? CANCELLED : START_OVER;
        }
        w->why = sl_park_many_on(f, w->nodes, w->n);
        disarm_all(w);
        if (w->why < 0)
            return REFUSED;
        if (w->why == SL_ARM_TIMEOUT || w->why == SL_ARM_CANCEL)
            return w->why == SL_ARM_TIMEOUT ? TIME : CANCELLED;
        w->won = winner(f);
    } else {
        w->why = (int)leave(f);
        disarm_all(w);
        if (armed == SL_ARMED_DONE)
            return WON;
        if (armed == SL_ARMED_AGAIN)
            return START_OVER;
        w->won = winner(f);
    }
    const struct sl_arm_ops *ops = ops_of(w->won);

    return ops->settle == NULL || ops->settle(w->won, (unsigned)w->why) ? WON : START_OVER;
}

static int check(const struct sl_wait_node *nodes, size_t n, sley_time deadline)
{
    if ((nodes == NULL && n > 0) || n > INT_MAX || sl_deadline_check(deadline) < 0)
        return -EINVAL;
    for (size_t i = 0; i < n; i++)
        if (nodes[i].kind > SLEY_CASE_SIGNAL || (nodes[i].kind == SLEY_CASE_AT && sl_deadline_check(nodes[i].value) < 0))
            return -EINVAL;
    return 0;
}

int sl_select(sley_case *cases, size_t n, sley_time deadline, enum sl_select_order order)
{
    struct waiting w = { .nodes = (struct sl_wait_node *)(void *)cases, .n = n };
    struct sl_fiber *f = sl_current();
    int rc = check(w.nodes, n, deadline), starts = 0;
    bool late = deadline == SLEY_NOW;

    if (rc < 0)
        return rc;
    if (sl_streak_cancelled(f))
        return -ECANCELED;
    sl_io_arms_begin(w.nodes, n);
    for (;;) {
        sley_time next;
        size_t i = take_ready(w.nodes, n, f, order, late, &next);

        if (i < n)
            return (int)i;
        if (late)
            return -ETIMEDOUT;
        rc = sl_wait_begin_many(f, next < deadline ? next : deadline, SL_WAIT_SELECT, cases);
        if (rc < 0)
            return rc;
        w.start = order == SL_SELECT_ANY && n > 1 ? sl_random_below((uint32_t)n) : 0;
        switch (wait_for_one(&w, f)) {
        case WON:
            return (int)(w.won - w.nodes);
        case TIME: /* of a case, or the deadline: then what has come by now is taken */
            late = deadline != SLEY_FOREVER && deadline <= sl_clock_ns();
            break;
        case CANCELLED:
            return -ECANCELED;
        case REFUSED:
            return w.why;
        case START_OVER:
            if (++starts > STARTS_MAX) /* S4 */
                sley_yield();
            break;
        }
    }
}

int sley_select(sley_case *cases, size_t n, sley_time deadline)
{
    return sl_select(cases, n, deadline, SL_SELECT_ANY);
}

int sley_select_ordered(sley_case *cases, size_t n, sley_time deadline)
{
    return sl_select(cases, n, deadline, SL_SELECT_FIRST);
}
