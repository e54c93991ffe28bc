/* assert.h - two kinds of check. SLEY_ASSERT: a caller's bug; always on, names fiber, worker and call, aborts.
 * sl_assert: an invariant of the library; debug builds only. */
#ifndef SL_ASSERT_H
#define SL_ASSERT_H

#define SLEY_ASSERT(condition, call, what) \
    do { if (__builtin_expect(!(condition), 0)) sl_die_caller((call), (what)); } while (0)

/* Provided by sched/die.c, which knows who is running. */
_Noreturn void sl_die_caller(const char *call, const char *what);
_Noreturn void sl_die_library(const char *file, int line, const char *condition);

#ifdef NDEBUG
#define sl_assert(condition) ((void)sizeof(condition))
#else
#define sl_assert(condition) ((condition) ? (void)0 : sl_die_library(__FILE__, __LINE__, #condition))
#endif

#endif
