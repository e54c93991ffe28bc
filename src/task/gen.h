/* gen.h - for scope.c: what a generator's body has open, so that it can yield with it. */
#ifndef SL_GEN_H
#define SL_GEN_H

#include "sched/scope.h"

#include <sley/gen.h>

/* The body of g, which runs, opens s, the scopes around it having `shields` open; closes the innermost of its own scopes. */
void sl_gen_scope_opened(sley_gen *g, struct sl_scope *s, uint8_t shields);
void sl_gen_scope_closed(sley_gen *g);
bool sl_gen_has_scopes(const sley_gen *g);

/* The body of g, which runs, has been told to close while the innermost of its own scopes was open already. */
bool sl_gen_is_closing(const sley_gen *g);

/* The same of shields; `shields`: how many were open. */
void sl_gen_shield_begun(sley_gen *g, uint8_t shields);
void sl_gen_shield_ended(sley_gen *g);

#endif
