/* options.h - the options of a runtime: defaults, SLEY_* variables, checks. */
#ifndef SL_OPTIONS_H
#define SL_OPTIONS_H

#include <stdbool.h>
#include <sley/runtime.h>

/* Fill *out from what the caller gave (NULL: all zero), the environment, and the defaults. 0; -EINVAL and one line on stderr. */
int sl_options_resolve(sley_options *out, const sley_options *given, bool *chaos, bool *log_stderr);

#endif
