/* big_stack.c - a call on a larger stack, inside the same fiber or thread (sley/fiber.h), and a small cache of such stacks.
 *
 * The call is one of the fiber's own frames that happens to lie elsewhere: a park inside saves the stack pointer to f->context as ever, and
 * whoever runs the fiber next finds it there. f->stack stays the fiber's own: its number, name and locals are. So the function may wait,
 * migrate, open scopes and make such a call itself. The switch is always made, whatever room the present stack has: the function gets
 * what was asked for, on a plain thread too.
 *
 *   Z1  Sizes are powers of two, so that a free stack fits who asks next.
 *   Z2  The cache is an array in the order in which the stacks were given back, under its lock. It holds at most SL_BIG_STACKS_CACHED of
 *       them and SL_BIG_STACK_CACHE_BYTES; the oldest make room, and are unmapped outside the lock. */
#include "sched/big_stack.h"

#include "base/assert.h"
#include "sched/park.h"
#include "sched/worker.h"

#include <string.h>

#include <sley/fiber.h>

#define ORDER_MIN 16
#define ORDER_MAX 30
_Static_assert((size_t)1 << ORDER_MIN == SL_BIG_STACK_BYTES_MIN && (size_t)1 << ORDER_MAX == SL_BIG_STACK_BYTES_MAX, "the orders of these");

static struct {
    struct sl_lock lock;
    unsigned       count;
    size_t         bytes;
    struct kept {
        struct sl_stack *stack;
        int              order; /* its size is 1 << order */
    } kept[SL_BIG_STACKS_CACHED + 1]; /* Z2, the oldest first; one more while room is made */
} cache;

void sl_big_stack_reset_after_fork(void)
{
    sl_store_relaxed(&cache.lock.held, 0); /* one thread; another may have held it when the parent forked */
    cache.count = 0;                       /* they are lost to the child */
    cache.bytes = 0;
}

/* Under the lock. */
static struct sl_stack *remove_at(unsigned i)
{
    struct kept k = cache.kept[i];

    cache.count--;
    cache.bytes -= (size_t)1 << k.order;
    memmove(&cache.kept[i], &cache.kept[i + 1], (cache.count - i) * sizeof cache.kept[0]);
    return k.stack;
}

/* Z1 */
static int order_of(size_t bytes)
{
    int order = ORDER_MIN;

    while (bytes > (size_t)1 << order)
        order++;
    return order;
}

struct sl_stack *sl_big_stack_take(size_t bytes)
{
    int order = order_of(bytes);
    struct sl_stack *s = NULL;

    sl_lock_acquire(&cache.lock);
    for (unsigned i = cache.count; i > 0 && s == NULL; i--)
        if (cache.kept[i - 1].order == order)
            s = remove_at(i - 1);
    sl_lock_release(&cache.lock);
    return s != NULL ? s : sl_stack_map_big((size_t)1 << order);
}

void sl_big_stack_give(struct sl_stack *s, size_t bytes)
{
    int order = order_of(bytes);
    struct sl_stack *surplus[SL_BIG_STACKS_CACHED + 1];
    unsigned n = 0;

    sl_stack_check_canary(s);
    s->fiber = NULL;
    s->use = SL_USE_CALL;
    sl_lock_acquire(&cache.lock);
    if ((size_t)1 << order <= SL_BIG_STACK_CACHE_BYTES) {
        cache.kept[cache.count++] = (struct kept){ s, order };
        cache.bytes += (size_t)1 << order;
        while (cache.count > SL_BIG_STACKS_CACHED || cache.bytes > SL_BIG_STACK_CACHE_BYTES)
            surplus[n++] = remove_at(0);
    } else {
        surplus[n++] = s;
    }
    sl_lock_release(&cache.lock);
    while (n > 0)
        sl_stack_unmap_big(surplus[--n]);
}

struct call {
    sley_fn *fn;
    void    *arg;
    int      result;
    struct sl_context *of; /* of the fiber that runs it; NULL: a plain thread does, which is never saved */
};

static struct sl_context *context_of(struct sl_fiber *f)
{
    return f->flags & SL_FIBER_THREAD ? NULL : &f->context;
}

static void call(void *arg)
{
    struct call *c = arg;

    c->result = c->fn(c->arg);
    c->of = context_of(sl_current()); /* in a generator's body it may have gone from one fiber to another */
}

int sley_on_big_stack(sley_fn *fn, void *arg, size_t stack_bytes)
{
    struct sl_thread *t = sl_self();
    struct sl_fiber *f = t->current;
    bool is_thread = f->flags & SL_FIBER_THREAD;
    struct sl_scope *scope = f->scope;
    struct call c = { fn, arg, 0, context_of(f) };
    struct sl_stack *s;

    if (fn == NULL || stack_bytes == 0 || stack_bytes > SL_BIG_STACK_BYTES_MAX)
        return -EINVAL;
    s = sl_big_stack_take(stack_bytes);
    if (s == NULL)
        return -ENOMEM;
    s->owner = is_thread ? NULL : f->stack;
    s->fn = fn;
    s->fiber = f; /* from here on a fault in its guard is an overflow */
    sl_context_call(&c.of, s->low, s->top, call, &c);
    f = sl_current();
    SLEY_ASSERT(is_thread || f->gen != NULL || f->scope == scope, "sley_on_big_stack", /* a body may be resumed in another scope */
                "a scope that the function has opened is still open");
    sl_big_stack_give(s, stack_bytes);
    return c.result;
}
