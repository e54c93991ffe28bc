/* gen_stack.c - stacks of fibers' generators: from a pool of the runtime, by way of the worker's cache, like the fibers' own. If they are
 * of the same size, it is the same pool and the same cache. */
#include "sched/gens.h"
#include "sched/worker.h"

static struct sl_stack_cache *cache_of(struct sl_worker *w)
{
    return w->rt->gen_stacks == w->rt->stacks ? &w->stacks : &w->gen_stacks;
}

struct sl_stack *sl_gen_stack_take(void)
{
    struct sl_worker *w = sl_worker_here();
    struct sl_stack_pool *pool = w->rt->gen_stacks;
    struct sl_stack_cache *cache = cache_of(w);
    struct sl_stack *s;

    if (sl_stack_credit_take(pool, cache) < 0)
        return NULL;
    s = sl_stack_pop(cache);
    if (s == NULL && sl_stack_refill(pool, cache) == 0)
        s = sl_stack_pop(cache);
    if (s == NULL)
        sl_stack_credit_give(pool, cache);
    return s;
}

void sl_gen_stack_give(struct sl_stack *s)
{
    struct sl_worker *w = sl_worker_here();

    sl_stack_check_canary(s); /* while it says whose it is */
    s->use = SL_USE_FIBER;
    sl_tsan_release(s); /* for the stack's next user */
    sl_stack_push(w->rt->gen_stacks, cache_of(w), s);
    sl_stack_credit_give(w->rt->gen_stacks, cache_of(w));
}
