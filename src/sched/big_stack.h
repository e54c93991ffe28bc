/* big_stack.h - stacks outside of any pool, for the rest of src: of sley_on_big_stack, and of plain threads' generators. */
#ifndef SL_BIG_STACK_H
#define SL_BIG_STACK_H

#include "ctx/stack.h"

/* A stack with room for `bytes`, at most SL_BIG_STACK_BYTES_MAX, from the cache or newly mapped; NULL: no memory. To be given back with the
 * same `bytes`. */
struct sl_stack *sl_big_stack_take(size_t bytes);
void sl_big_stack_give(struct sl_stack *s, size_t bytes);

#endif
