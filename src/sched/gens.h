/* gens.h - generators, as far as the scheduler knows them: who closes those that nobody has finished, at the end of a scope, of a fiber, of
 * a plain thread; and where their stacks come from. */
#ifndef SL_GENS_H
#define SL_GENS_H

struct sley_gen;
struct sl_stack;

/* Close all of the list, the youngest first, on their owner, who is the caller. Provided by src/task. */
void sl_gens_close(struct sley_gen **list);

/* On a fiber: a stack for a generator; NULL: no memory. It may be given back on another worker, of the same runtime. In the core, because a
 * worker's cache is plain memory that fibers of this worker use in turn, which ThreadSanitizer does not know. */
struct sl_stack *sl_gen_stack_take(void);
void sl_gen_stack_give(struct sl_stack *s);

#endif
