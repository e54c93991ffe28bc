/* child.h - for tests of what a whole process does: this program is run again with a word that says what to do, and what it said on its
 * standard error and how it ended is looked at here. */
#ifndef CHILD_H
#define CHILD_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "again.h"

struct child {
    int status;      /* as waitpid gives it */
    char said[8192]; /* on standard error */
};

/* Run this program with `argument`, in this environment and the NAME=VALUE strings of `settings` (NULL ends them; or NULL). */
static inline void run_child(struct child *c, const char *argument, const char *const *settings)
{
    size_t n = 0;
    ssize_t got;
    int out[2];
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (; settings != NULL && *settings != NULL; settings++)
            if (putenv((char *)(uintptr_t)*settings) != 0)
                _exit(126);
        dup2(out[1], STDERR_FILENO);
        close(out[0]);
        close(out[1]);
        run_again(argument);
    }
    close(out[1]);
    while (n < sizeof c->said - 1 && (got = read(out[0], c->said + n, sizeof c->said - 1 - n)) > 0)
        n += (size_t)got;
    close(out[0]);
    c->said[n] = '\0';
    forget_emulator(c->said);
    assert_int_equal(waitpid(pid, &c->status, 0), pid);
}

static inline void assert_said(const struct child *c, const char *text)
{
    if (strstr(c->said, text) == NULL)
        fail_msg("said \"%s\", not \"%s\"", c->said, text);
}

static inline int lines_of(const char *text)
{
    int n = 0;

    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

#endif
