/* gen_other.c - the calls of generators as the test program does not have them, see gen_script.h: compiled without SLEY_GEN_NO_INLINE for a
 * program that has it, and with it for one that has not. */
#include "gen_script.h"

int other_next(sley_gen *g, void *out) { return sley_gen_next(g, out); }
int other_send(sley_gen *g, const void *in, void *out) { return sley_gen_send(g, in, out); }
int other_yield(const void *out, void *in) { return sley_gen_yield(out, in); }
int other_follow(void *arg) { return follow(arg); }

int other_is_inline(void)
{
#ifdef SLEY_GEN_INLINE
    return 1;
#else
    return 0;
#endif
}
