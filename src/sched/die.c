/* die.c - the end of the program for a bug: one line that says who did what, then abort. */
#include "sched/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void print_who(void)
{
    struct sl_thread *t = sl_self_or_null();
    char name[SL_NAME_BYTES] = "";

    if (t == NULL || t->current == NULL)
        dprintf(STDERR_FILENO, "sley: ");
    else if (t->worker == NULL)
        dprintf(STDERR_FILENO, "sley: plain thread: ");
    else {
        sl_stack_get_name(t->current->stack, name);
        dprintf(STDERR_FILENO, "sley: fiber %llu \"%s\" on worker %u: ", (unsigned long long)sl_fiber_number(t->current),
                name, t->worker->number);
    }
}

void sl_die_caller(const char *call, const char *what)
{
    print_who();
    dprintf(STDERR_FILENO, "%s: %s\n", call, what);
    abort();
}

void sl_die_library(const char *file, int line, const char *condition)
{
    print_who();
    dprintf(STDERR_FILENO, "%s:%d: %s\n", file, line, condition);
    abort();
}
