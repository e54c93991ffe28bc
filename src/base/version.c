/* version.c - which Sley this is. A build from a git checkout names its commit; one from a release archive has none to name. */
#include <sley/version.h>

#include "commit.h"

#define STR(x)  #x
#define XSTR(x) STR(x)
#define NUMBERS XSTR(SLEY_VERSION_MAJOR) "." XSTR(SLEY_VERSION_MINOR) "." XSTR(SLEY_VERSION_PATCH)

int sley_version(void)
{
    return SLEY_VERSION;
}

const char *sley_version_string(void)
{
    return sizeof(SL_COMMIT) > 1 ? NUMBERS " (" SL_COMMIT ")" : NUMBERS;
}
