/* 09_async_generator.c - a generator whose body reads from a pipe, and one that sleeps: while they wait, others run. */
#include <sley.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Hands out each line of a descriptor, as a char * that is good until the next. */
static int lines(void *arg)
{
    char buf[80], *line = buf, *end;
    int fd = *(int *)arg, used = 0, rc;

    while ((rc = sley_read(fd, buf + used, sizeof buf - used, SLEY_FOREVER)) > 0) {
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

/* Hands out what another generator of strings does, with a pause before each. */
static int slowly(void *arg)
{
    sley_gen *inner = arg;
    char *line;
    int rc;

    while ((rc = sley_gen_next(inner, &line)) > 0)
        if ((rc = sley_sleep(SLEY_MS)) < 0 || (rc = sley_gen_yield(&line, NULL)) < 0)
            break;
    return rc;
}

/* Writes three lines, in pieces that know nothing of lines. */
static int talk(void *arg)
{
    static const char *const pieces[] = { "fi", "rst\nseco", "nd\n", "third\n" };
    int fd = *(int *)arg, rc = 0;

    for (int i = 0; i < 4 && rc == 0; i++)
        if ((rc = sley_write_all(fd, pieces[i], strlen(pieces[i]), SLEY_FOREVER)) == 0)
            rc = sley_sleep(SLEY_MS);
    sley_close(fd); /* the reader finds the end */
    return rc;
}

static int start(void *arg)
{
    int fd[2], rc, number = 0;
    sley_gen *source, *paced;
    char *line;

    if (pipe(fd) < 0)
        return -EMFILE;
    if ((rc = sley_go_copy(talk, &fd[1], sizeof fd[1])) < 0)
        sley_close(fd[1]);
    source = sley_gen_create(lines, &fd[0], sizeof line);
    paced = sley_gen_create(slowly, source, sizeof line);
    while (rc >= 0 && (rc = sley_gen_next(paced, &line)) > 0)
        printf("%d: %s\n", ++number, line);
    sley_gen_destroy(paced);
    sley_gen_destroy(source);
    sley_close(fd[0]);
    return rc;
}

int main(void)
{
    return sley_run(NULL, start, NULL) < 0;
}
