/* 10_server.c - counts down for whoever connects and sends a number. Ctrl-C: nobody new, those who are there may finish; twice: the end. */
#include <sley.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int lines(void *arg) /* as in step 9, but who is silent for a minute is sent away */
{
    char buf[80], *line = buf, *end;
    int fd = *(int *)arg, used = 0, rc;

    while ((rc = sley_recv(fd, buf + used, sizeof buf - used, 0, sley_after(60 * SLEY_S))) > 0) {
        used += rc;
        while ((end = memchr(buf, '\n', used)) != NULL) {
            *end = '\0';
            if ((rc = sley_gen_yield(&line, NULL)) < 0)
                return rc;
            used -= end + 1 - buf;
            memmove(buf, end + 1, used); /* what has come of the next line */
        }
        if (used == sizeof buf)
            return -EMSGSIZE;
    }
    return rc;
}

static int countdown(int fd, long n)
{
    int rc = 0;

    for (; n >= 0 && rc == 0; n--) {
        char text[32];
        int bytes = snprintf(text, sizeof text, "%ld\n", n);

        if ((rc = sley_send_all(fd, text, bytes, 0, sley_after(60 * SLEY_S))) == 0)
            rc = sley_sleep(100 * SLEY_MS);
    }
    return rc;
}

static int client(void *arg)
{
    int fd = *(int *)arg, rc; /* ours from here on, whatever happens */
    sley_gen *gen = sley_gen_create(lines, &fd, sizeof(char *));
    char *line;

    while ((rc = sley_gen_next(gen, &line)) > 0)
        if ((rc = countdown(fd, strtol(line, NULL, 10))) < 0)
            break;
    sley_gen_destroy(gen);
    sley_close(fd);
    return rc;
}

static int serve(void *arg)
{
    int listener = *(int *)arg, fd;
    sley_scope clients;

    sley_scope_init_isolated(&clients, SLEY_FOREVER); /* the error of one is no error of the others */
    while ((fd = sley_accept(listener, NULL, NULL, SLEY_FOREVER)) >= 0)
        if (sley_go_copy(client, &fd, sizeof fd) < 0)
            sley_close(fd);
    return sley_scope_wait(&clients, fd == -EBADF ? 0 : fd, SLEY_FOREVER); /* EBADF: the listener was closed, as it should be */
}

static int start(void *arg)
{
    sley_scope scope;
    sley_case cases[] = { sley_case_scope(&scope), sley_case_signal(SLEY_SIG(SIGINT)) };
    int listener, rc = sley_signal_wait(SLEY_SIG(SIGINT), SLEY_NOW); /* from here on Ctrl-C is kept for us, and kills nobody */

    if (rc != -ETIMEDOUT || (rc = listener = sley_net_listen(arg, NULL)) < 0)
        return rc;
    printf("listening on %s\n", (const char *)arg);
    fflush(stdout);
    sley_scope_init(&scope, SLEY_FOREVER);
    if ((rc = sley_go_copy(serve, &listener, sizeof listener)) == 0)
        rc = sley_select(cases, 2, SLEY_FOREVER);
    sley_close(listener);                                    /* ends the accept: nobody new */
    if (rc == 1 && sley_select(cases, 2, SLEY_FOREVER) == 1) /* until all have gone, or Ctrl-C comes again */
        sley_scope_cancel(&scope);
    return sley_scope_wait(&scope, rc < 0 ? rc : 0, SLEY_FOREVER);
}

int main(int argc, char **argv)
{
    int rc = sley_run(NULL, start, argc > 1 ? argv[1] : "127.0.0.1:7777");

    puts(rc == 0 ? "drained" : strerror(-rc));
    return rc < 0;
}
