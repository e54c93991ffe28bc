/* gens.h - generators that nobody has finished, and who closes them: the end of a scope, of a fiber, of a plain thread. */
#ifndef SL_GENS_H
#define SL_GENS_H

struct sley_gen;

/* Close all of the list, the youngest first, on their owner, who is the caller. Provided by src/task. */
void sl_gens_close(struct sley_gen **list);

#endif
