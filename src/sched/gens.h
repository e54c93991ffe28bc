/* gens.h - generators, as far as their fiber and its worker are concerned: where a body's stack comes from, and who closes what nobody has
 * finished: the end of a scope, of a fiber, of a plain thread. */
#ifndef SL_GENS_H
#define SL_GENS_H

struct sl_stack;
struct sley_gen;

/* A stack for a body of the fiber that runs here, and back; NULL: no memory. src/sched/gen_stack.c */
struct sl_stack *sl_gen_stack_take(void);
void sl_gen_stack_give(struct sl_stack *s);

/* Close all of the list, the youngest first, on their owner, who is the caller. Provided by src/task. */
void sl_gens_close(struct sley_gen **list);

#endif
