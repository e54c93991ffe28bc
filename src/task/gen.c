/* gen.c - generators (sley/gen.h): a body on its own stack, inside the fiber that resumes it.
 *
 *   N1  A generator belongs to one fiber or plain thread, its owner, and only the owner touches it: no lock, no atomics. Others may compare
 *       `owner`, which changes by release and adopt alone.
 *   N2  f->gen is the innermost generator whose body f runs; words.outer goes on from there. All of them are RUNNING, none can be resumed.
 *   N3  words.sp is the stack pointer of the side that does not run: the body's while it is suspended, the consumer's while it runs. What
 *       parks inside a body saves its stack pointer to f->context, as ever: so a generator moves with its fiber.
 *   N4  words.ready is the owner only while the body is SUSPENDED at a yield and has nothing open (words.own is 0): then program code
 *       makes the switch by itself, both ways (sley/gen_inline.h). Everything else comes here.
 *   N5  Values are copied by the body's side, on its yield out of the body's memory, on its return from yield into it. The consumer's `in`
 *       and `out` are good for that long: it waits in its resume. So yield_from hands the pointers on and copies nothing.
 *   N6  A generator that is not CLOSED, nor released, is in one list: of the scope it was made in if the owner has opened that, else
 *       of the owner. Whoever ends the scope or the owner closes them, on the owner, before anything else of it ends.
 *   N7  What a body has open across a yield (scopes, shields) is taken off the fiber at the yield and put on it again at the resume. The
 *       first of its scopes, and with it the others, is moved into the scope of who resumes, so that its cancel reaches them; while the
 *       body is suspended they lie in `home`, which outlives them by N6.
 *   N8  The stack comes at the first resume and goes when the body has ended: from a pool of the runtime; a plain thread's from outside
 *       of any pool, and back there, so a generator that has one cannot change from the one kind of owner to the other.
 *
 * Rejected: a compare-and-swap that claims a generator at each resume, so that any fiber could resume it: 1.5 ns of 6, for what a channel
 * does better. A generator as a fiber with two channels: every value would be two wakes. */
#include "task/gen.h"

#include "base/assert.h"
#include "chan/chan.h"
#include "sched/big_stack.h"
#include "sched/fork.h"
#include "sched/gens.h"
#include "sched/worker.h"
#include "task/scope.h"

#include <stdlib.h>
#include <string.h>

#include <sley/chan.h>
#include <sley/fiber.h>

struct sley_gen {
    struct sley_gen_words words;     /* first, frozen. own counts scopes and shields of the body, see OWN_NONE */
    sley_fn         *body;
    void            *arg;
    struct sl_scope *home;           /* where it was made; NULL: released */
    sley_gen        *older, *younger; /* N6 */
    struct sl_stack *stack;          /* NULL: not started, or ended */
    sley_runtime    *rt;             /* whose stack it is; NULL: a plain thread's */
    size_t           stack_bytes;    /* of a plain thread's */
    struct sl_scope *outermost;      /* of the body's own scopes, if there are any */
    struct sl_scope *innermost;      /* of them, while it is suspended */
    uint16_t         scopes;         /* of the body's own, open ones */
    uint16_t         scopes_closing; /* of them, those that were open when the body was told to close */
    uint8_t          shields_around; /* of the consumer, while the body runs and has something open */
    uint8_t          shields_inside; /* N7: open in the body's innermost scope, or in the consumer's by the body; while it is suspended */
    uint8_t          shields_before; /* N7: begun by the body before its outermost scope; while it is suspended */
    int              result;         /* CLOSED */
    struct sl_turns  turns;
    max_align_t      copy[];
};

_Static_assert(offsetof(struct sley_gen, words) == 0, "programs find the words there");
_Static_assert(offsetof(struct sl_thread, current) == 0, "programs find the fiber there");
_Static_assert(sizeof(struct sley_gen_words) == 72 || sizeof(void *) != 8, "frozen");

/* Where each switch is the library's business, `own` never becomes 0 and nobody is ever `ready`. */
#if defined(SL_ASAN) || defined(SL_TSAN) || defined(SL_CTX_UCONTEXT)
enum { OWN_NONE = 1 };
#else
enum { OWN_NONE = 0 };
#endif

static enum sley_gen_state state_of(const sley_gen *g)
{
    return (enum sley_gen_state)g->words.state;
}

static void *owner_of(const sley_gen *g) /* N1 */
{
    return sl_load_relaxed((const _Atomic(void *) *)&g->words.owner); /* changes while nobody else may have g */
}

static void set_owner(sley_gen *g, struct sl_fiber *f)
{
    sl_store_relaxed((_Atomic(void *) *)&g->words.owner, f); /* what orders it is the callers' */
}

/* ---- who closes it ---- */

/* N6 */
static sley_gen **list_of(const sley_gen *g, struct sl_fiber *owner)
{
    if (owner->flags & SL_FIBER_THREAD) /* opens no scope; what it was attached to may be gone */
        return &sl_self()->gens;
    return g->home->opener == owner ? &g->home->gens : &owner->stack->gens;
}

static void link_to(sley_gen *g, struct sl_fiber *f)
{
    sley_gen **list;

    /* What a body makes outside of its own scopes lives as long as the generator whose body it is. */
    g->home = f->gen != NULL && f->gen->scopes == 0 ? f->gen->home : f->scope;
    set_owner(g, f);
    list = list_of(g, f);
    g->younger = NULL;
    g->older = *list;
    if (g->older != NULL)
        g->older->younger = g;
    *list = g;
}

static void unlink_from(sley_gen *g, struct sl_fiber *f)
{
    if (g->younger != NULL)
        g->younger->older = g->older;
    else
        *list_of(g, f) = g->older;
    if (g->older != NULL)
        g->older->younger = g->younger;
}

/* ---- stacks ---- */

static void stack_take(sley_gen *g, struct sl_fiber *f)
{
    if (f->flags & SL_FIBER_THREAD) {
        g->rt = NULL;
        g->stack_bytes = f->rt != NULL ? f->rt->options.gen_stack_bytes : SL_STACK_BYTES_DEFAULT;
        g->stack = sl_big_stack_take(g->stack_bytes);
    } else {
        g->rt = f->rt;
        g->stack = sl_gen_stack_take();
    }
}

static void stack_give(sley_gen *g)
{
    struct sl_stack *s = g->stack;

    g->stack = NULL;
    sl_turns_fini(&g->turns);
    if (g->rt == NULL)
        sl_big_stack_give(s, g->stack_bytes);
    else
        sl_gen_stack_give(s);
}

/* ---- turns ---- */

static struct sl_context *context_of(struct sl_fiber *f)
{
    return f->flags & SL_FIBER_THREAD ? NULL : &f->context; /* a thread is never saved there */
}

/* The first frame of a body's stack. */
static void gen_main(void *arg)
{
    sley_gen *g = arg;
    struct sl_fiber *f;

    sl_tsan_acquire(&g->turns);
    g->result = g->body(g->arg);
    SLEY_ASSERT(g->words.own == OWN_NONE, "sley_gen_create", "the body has returned with a scope or a shield open");
    f = g->words.owner;
    f->gen = g->words.outer;
    g->words.state = SLEY_GEN_CLOSED;
    g->words.answer = g->result < 0 ? g->result : 0;
    sl_turn_to_consumer(&g->words.sp, &g->turns, 1);
    __builtin_unreachable();
}

static int begin(sley_gen *g, struct sl_fiber *f)
{
    struct sl_stack *s;

    stack_take(g, f);
    s = g->stack;
    if (s == NULL)
        return -ENOMEM;
    sl_tsan_acquire(s);
    s->use = SL_USE_GEN;
    s->fn = g->body;
    s->owner = f->flags & SL_FIBER_THREAD ? NULL : f->stack;
    s->fiber = f; /* from here on a fault in its guard is an overflow */
    sl_turns_make(&g->words.sp, &g->turns, s->low, s->top, gen_main, g);
    return 0;
}

/* N7 */
static void put_on(sley_gen *g, struct sl_fiber *f)
{
    uint8_t around = sl_load_relaxed(&f->shields); /* own */

    SLEY_ASSERT(around + g->shields_before + g->shields_inside < UINT8_MAX, "sley_gen_next", "254 shields are open");
    g->shields_around = around;
    if (g->scopes > 0) {
        g->outermost->shields = (uint8_t)(around + g->shields_before);
        sl_scope_step_in(f, g->outermost, g->innermost, g->shields_inside);
    } else {
        sl_store_relaxed(&f->shields, (uint8_t)(around + g->shields_inside)); /* own */
    }
}

static void take_off(sley_gen *g, struct sl_fiber *f)
{
    if (g->scopes > 0) {
        g->innermost = f->scope;
        g->shields_before = (uint8_t)(g->outermost->shields - g->shields_around);
        g->shields_inside = sl_scope_step_out(f, g->outermost, g->home, g->shields_around);
    } else {
        g->shields_before = 0;
        g->shields_inside = (uint8_t)(sl_load_relaxed(&f->shields) - g->shields_around); /* own */
        sl_store_relaxed(&f->shields, g->shields_around);                                /* own */
    }
}

/* Let the body go on with `say`, or begin; until it yields: 1, or ends. */
static int turn(sley_gen *g, struct sl_fiber *f, int say, const void *in, void *out)
{
    if (g->stack == NULL) {
        int rc = begin(g, f);
        if (rc < 0)
            return rc;
    }
    g->words.ready = NULL;
    g->words.say = say;
    g->words.in = in;
    g->words.out = out;
    g->words.state = SLEY_GEN_RUNNING;
    g->scopes_closing = say == -ECANCELED ? g->scopes : 0;
    if (g->words.own != OWN_NONE)
        put_on(g, f);
    g->words.outer = f->gen;
    f->gen = g;
    sl_turn_to_body(&g->words.sp, &g->turns, context_of(f));
    return g->words.answer > 0 ? 1 : sley_gen_ended(g);
}

int sley_gen_ended(sley_gen *g)
{
    int answer = g->words.answer;

    unlink_from(g, g->words.owner);
    stack_give(g);
    return answer;
}

/* In a body: give the turn to the consumer, until it is resumed: what it says. By another fiber perhaps, to whom g was handed over: nobody
 * keeps the present one over it. */
static int turn_back(sley_gen *g)
{
    struct sl_fiber *f = g->words.owner;

    f->gen = g->words.outer;
    if (g->words.own != OWN_NONE)
        take_off(g, f);
    else if (OWN_NONE == 0)
        g->words.ready = g->words.owner; /* N4 */
    g->words.answer = 1;
    g->words.state = SLEY_GEN_SUSPENDED;
    sl_turn_to_consumer(&g->words.sp, &g->turns, 0);
    return g->words.say;
}

/* Closed without its body being run, or run any further. */
static void close_unstarted(sley_gen *g, int result)
{
    g->words.state = SLEY_GEN_CLOSED;
    g->words.ready = NULL; /* N4 */
    g->result = result;
    unlink_from(g, g->words.owner);
}

/* ---- making ---- */

static sley_gen *create(sley_fn *body, void *arg, size_t copy_bytes, size_t elem_bytes)
{
    sley_gen *g = body != NULL && copy_bytes <= SLEY_COPY_BYTES_MAX ? malloc(sizeof *g + copy_bytes) : NULL;

    if (g == NULL)
        return NULL;
    *g = (struct sley_gen){
        .words = { .elem_bytes = elem_bytes, .state = SLEY_GEN_CREATED, .own = OWN_NONE },
        .body = body, .arg = copy_bytes > 0 ? memcpy(g->copy, arg, copy_bytes) : arg,
    };
    link_to(g, sl_current());
    return g;
}

sley_gen *sley_gen_create(sley_fn *body, void *arg, size_t elem_bytes)
{
    return create(body, arg, 0, elem_bytes);
}

sley_gen *sley_gen_create_copy(sley_fn *body, const void *arg, size_t arg_bytes, size_t elem_bytes)
{
    return arg != NULL || arg_bytes == 0 ? create(body, (void *)(uintptr_t)arg, arg_bytes, elem_bytes) : NULL;
}

/* ---- resuming ---- */

static bool is_forked(void)
{
    return sl_load_relaxed(&sl_forked);
}

/* Whether the caller may resume g. */
static int check(const sley_gen *g, const struct sl_fiber *f)
{
    if (g == NULL)
        return -EINVAL;
    if (owner_of(g) != f && (owner_of(g) != NULL || state_of(g) != SLEY_GEN_CLOSED))
        return is_forked() ? -ECHILD : -EALREADY;
    return state_of(g) == SLEY_GEN_RUNNING ? -EALREADY : 0;
}

int sley_gen_resume(sley_gen *g, const void *in, void *out)
{
    struct sl_fiber *f = sl_current();
    int rc = check(g, f);

    if (rc < 0 || state_of(g) == SLEY_GEN_CLOSED)
        return rc;
    if (state_of(g) == SLEY_GEN_CREATED && in != NULL)
        return -EINVAL;
    return turn(g, f, in != NULL, in, out);
}

int sley_gen_next(sley_gen *g, void *out)
{
    return sley_gen_resume(g, NULL, out);
}

int sley_gen_send(sley_gen *g, const void *in, void *out)
{
    return sley_gen_resume(g, in, out);
}

int sley_gen_throw(sley_gen *g, int error, void *out)
{
    struct sl_fiber *f = sl_current();
    int rc = error < 0 ? check(g, f) : -EINVAL;

    if (rc < 0)
        return rc;
    switch (state_of(g)) {
    case SLEY_GEN_CREATED:
        close_unstarted(g, error);
        return error;
    case SLEY_GEN_CLOSED:
        return error;
    default:
        return turn(g, f, error, NULL, out);
    }
}

int sley_gen_close(sley_gen *g)
{
    struct sl_fiber *f = sl_current();
    int rc = check(g, f);

    if (rc < 0)
        return rc;
    switch (state_of(g)) {
    case SLEY_GEN_CREATED:
        close_unstarted(g, -ECANCELED);
        return 0;
    case SLEY_GEN_CLOSED:
        return 0;
    default:
        rc = turn(g, f, -ECANCELED, NULL, NULL);
        return rc > 0 ? -EPROTO : rc == -ECANCELED ? 0 : rc;
    }
}

/* ---- in a body ---- */

int sley_gen_suspend(const void *out, void *in)
{
    sley_gen *g = sl_current()->gen;
    int say;

    if (g == NULL)
        return is_forked() ? -ECHILD : -EPERM;
    if (out != NULL && g->words.out != NULL)
        memcpy(g->words.out, out, g->words.elem_bytes); /* N5 */
    say = turn_back(g);
    if (say > 0 && in != NULL)
        memcpy(in, g->words.in, g->words.elem_bytes); /* N5 */
    return say;
}

int sley_gen_yield(const void *out, void *in)
{
    return sley_gen_suspend(out, in);
}

int sley_gen_yield_from(sley_gen *inner)
{
    sley_gen *g = sl_current()->gen;
    int rc;

    if (g == NULL)
        return is_forked() ? -ECHILD : -EPERM;
    if (inner == NULL || inner->words.elem_bytes != g->words.elem_bytes)
        return -EINVAL;
    rc = sley_gen_next(inner, g->words.out);
    while (rc > 0) {
        int say = turn_back(g); /* inner's value is with the consumer already */

        if (say == -ECANCELED) {
            rc = sley_gen_close(inner);
            return rc < 0 ? rc : -ECANCELED;
        }
        rc = say < 0 ? sley_gen_throw(inner, say, g->words.out) : sley_gen_resume(inner, say > 0 ? g->words.in : NULL, g->words.out);
    }
    return rc < 0 ? rc : inner->result;
}

/* ---- what a body has open ---- */

static void opened(sley_gen *g, uint8_t shields)
{
    if (g->words.own++ == OWN_NONE)
        g->shields_around = shields;
}

void sl_gen_scope_opened(sley_gen *g, struct sl_scope *s, uint8_t shields)
{
    opened(g, shields);
    if (g->scopes++ == 0)
        g->outermost = s;
}

void sl_gen_scope_closed(sley_gen *g)
{
    g->scopes--;
    g->words.own--;
    if (g->scopes_closing > g->scopes)
        g->scopes_closing = g->scopes;
}

bool sl_gen_is_closing(const sley_gen *g)
{
    return g->scopes_closing > 0 && g->scopes_closing == g->scopes;
}

bool sl_gen_has_scopes(const sley_gen *g)
{
    return g->scopes > 0;
}

void sl_gen_shield_begun(sley_gen *g, uint8_t shields)
{
    opened(g, shields);
}

void sl_gen_shield_ended(sley_gen *g)
{
    SLEY_ASSERT(g->words.own - OWN_NONE > g->scopes, "sley_shield_end", "the generator's body has begun no shield");
    g->words.own--;
}

/* ---- the end ---- */

/* To on_error, or else to the log. */
static void report(const sley_gen *g, int error)
{
    struct sl_fiber *f = g->words.owner;
    char name[SL_NAME_BYTES] = "";

    if (f->rt == NULL) /* a thread of no runtime has nobody to tell */
        return;
    if (!(f->flags & SL_FIBER_THREAD))
        sl_stack_get_name(f->stack, name);
    if (f->rt->options.on_error != NULL)
        sl_report_error(f->rt, sley_self(), name, error);
    else if (f->flags & SL_FIBER_THREAD)
        sl_log(f->rt, "a plain thread's generator (function %p) has ended with error %d, and nobody asked for it",
               (void *)(uintptr_t)g->body, -error);
    else
        sl_log(f->rt, "a generator (function %p) of fiber %llu \"%s\" has ended with error %d, and nobody asked for it",
               (void *)(uintptr_t)g->body, (unsigned long long)sley_self(), name, -error);
}

/* Close, whatever the body does: one that yields is left where it is. C cannot unwind it, what it held is lost. */
static void finish(sley_gen *g)
{
    int rc;

    SLEY_ASSERT(state_of(g) != SLEY_GEN_RUNNING, "sley_scope_wait", "a generator that was made in the scope still runs");
    rc = sley_gen_close(g);
    if (rc == -EPROTO && state_of(g) == SLEY_GEN_SUSPENDED) {
        struct sl_fiber *f = g->words.owner;

        SLEY_ASSERT(g->words.own == OWN_NONE, "sley_gen_destroy", "the body yields while it is closed, with a scope or a shield open");
        if (f->rt != NULL)
            sl_log(f->rt, "a generator yields while it is closed (function %p): what it holds is lost", (void *)(uintptr_t)g->body);
        close_unstarted(g, -EPROTO);
        stack_give(g);
    }
    if (rc < 0)
        report(g, rc);
}

void sl_gens_close(sley_gen **list)
{
    sley_gen *g;

    while ((g = *list) != NULL) /* a body that is closed may change the list */
        finish(g);
}

void sley_gen_destroy(sley_gen *g)
{
    struct sl_fiber *f = sl_current();

    if (g == NULL)
        return;
    if (state_of(g) != SLEY_GEN_CLOSED) {
        if (owner_of(g) != f && is_forked())
            return; /* the parent's */
        SLEY_ASSERT(g->words.owner != NULL || sley_gen_adopt(g) == 0, "sley_gen_destroy", "the generator was released in another runtime");
        SLEY_ASSERT(owner_of(g) == f, "sley_gen_destroy", "the generator belongs to another fiber");
        SLEY_ASSERT(state_of(g) != SLEY_GEN_RUNNING, "sley_gen_destroy", "the generator runs");
        finish(g);
    }
    sl_tsan_release(g);
    free(g);
}

enum sley_gen_state sley_gen_state(const sley_gen *g)
{
    return g != NULL ? state_of(g) : (enum sley_gen_state)-EINVAL;
}

int sley_gen_result(const sley_gen *g)
{
    if (g == NULL)
        return -EINVAL;
    return state_of(g) == SLEY_GEN_CLOSED ? g->result : -EAGAIN;
}

/* ---- handing over ---- */

int sley_gen_release(sley_gen *g)
{
    struct sl_fiber *f = sl_current();
    int rc = check(g, f);

    if (rc < 0)
        return rc;
    if (g->words.own != OWN_NONE)
        return -EBUSY;
    if (state_of(g) != SLEY_GEN_CLOSED)
        unlink_from(g, f);
    g->words.ready = NULL;
    g->home = NULL;
    sl_tsan_release(g);
    set_owner(g, NULL);
    return 0;
}

int sley_gen_adopt(sley_gen *g)
{
    struct sl_fiber *f = sl_current();

    if (g == NULL)
        return -EINVAL;
    if (owner_of(g) != NULL)
        return -EALREADY;
    sl_tsan_acquire(g);
    if (g->stack != NULL && g->rt != (f->flags & SL_FIBER_THREAD ? NULL : f->rt)) /* N8 */
        return -EXDEV;
    if (state_of(g) == SLEY_GEN_CLOSED) {
        set_owner(g, f);
        return 0;
    }
    link_to(g, f);
    if (state_of(g) == SLEY_GEN_SUSPENDED) {
        g->stack->fiber = f;
        g->stack->owner = f->flags & SL_FIBER_THREAD ? NULL : f->stack;
        if (OWN_NONE == 0)
            g->words.ready = f; /* N4 */
    }
    return 0;
}

/* ---- other things as generators ---- */

struct array { const char *at; size_t left, elem_bytes; };

static int walk_array(void *arg)
{
    struct array *a = arg;
    int rc = 0;

    for (; a->left > 0 && rc >= 0; a->left--, a->at += a->elem_bytes)
        rc = sley_gen_yield(a->at, NULL);
    return rc < 0 ? rc : 0;
}

sley_gen *sley_gen_from_array(const void *base, size_t n, size_t elem_bytes)
{
    struct array a = { base, n, elem_bytes };

    return base != NULL || n == 0 ? sley_gen_create_copy(walk_array, &a, sizeof a, elem_bytes) : NULL;
}

/* N5: a message goes from the channel to the consumer. One that was received is always given: it waits for nothing in between. */
static int drain_chan(void *arg)
{
    sley_gen *g = sl_current()->gen;
    int rc;

    while ((rc = sley_chan_recv(arg, g->words.out, SLEY_FOREVER)) > 0)
        if ((rc = turn_back(g)) < 0)
            break;
    return rc;
}

sley_gen *sley_gen_from_chan(sley_chan *ch)
{
    return ch != NULL ? sley_gen_create(drain_chan, ch, ch->send.elem_bytes) : NULL;
}
