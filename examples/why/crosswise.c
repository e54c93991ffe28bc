/* Two locks, taken crosswise: each of two holds one and waits for the other's.
 *
 *   $ crosswise            two fibers: who watches sees who waits for what, a deadline ends it
 *   left is 0x55d0b1c3e0c0, right is 0x55d0b1c3e0e0
 *   fiber 4294967298 "left, then right" scope 0x7f5c1b3fee50 waits: mutex 0x55d0b1c3e0e0, 0 ms
 *   fiber 4294967299 "right, then left" scope 0x7f5c1b3fee50 waits: mutex 0x55d0b1c3e0c0, 0 ms
 *   "left, then right": out of time, gave back what it held
 *   "right, then left": got both
 *
 *   $ crosswise threads    two threads: silence, until somebody ends the program
 *   each holds one and locks the other
 *   ^C
 */
#include <sley.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct taker {
    const char *name;
    sley_mutex *first, *second;
    sley_time   patience;
    int         result;
};

static sley_mutex left, right;
static sley_barrier each_holds_one;
static int dump_fds[2]; /* a pipe: what sley_dump says is read before it is shown */
static char dump[4096];

static int take_both(void *arg)
{
    struct taker *t = arg;
    int rc;

    sley_fiber_set_name(t->name);
    if ((rc = sley_mutex_lock(t->first, sley_after(t->patience))) == 0) {
        if ((rc = sley_barrier_wait(&each_holds_one, SLEY_FOREVER)) >= 0 &&
            (rc = sley_mutex_lock(t->second, sley_after(t->patience))) == 0)
            sley_mutex_unlock(t->second);
        sley_mutex_unlock(t->first); /* and with that the other can go on */
    }
    t->result = rc;
    return rc == -ETIMEDOUT ? 0 : rc; /* it is what we came to see */
}

/* How many fibers wait for a mutex now, by what sley_dump says; their lines are in `dump`. */
static int look(void)
{
    char text[sizeof dump], *line, *rest = text;
    int rc = sley_dump(NULL, dump_fds[1]), waiting = 0;
    ssize_t n = rc < 0 ? rc : read(dump_fds[0], text, sizeof text - 1); /* a handful of lines: they lie there, whole */

    if (n < 0)
        return rc < 0 ? rc : -EIO;
    text[n] = dump[0] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (strstr(line, "waits: mutex") == NULL)
            continue;
        waiting++;
        strcat(strcat(dump, line), "\n");
    }
    return waiting;
}

/* 1: seen how both waited. 0: one of them was out of time before. */
static int cross(struct taker takers[2])
{
    int waiting = 0, rc = 0;
    sley_scope both;
    sley_case ended;

    sley_barrier_init(&each_holds_one, 2);
    sley_scope_init(&both, SLEY_FOREVER);
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = sley_go(take_both, &takers[i]);
    ended = sley_case_scope(&both);
    while (rc == 0 && (waiting = look()) >= 0 && waiting < 2)
        if (sley_select(&ended, 1, SLEY_NOW) == 0 || (rc = sley_yield()) < 0)
            break;
    rc = sley_scope_wait(&both, waiting < 0 ? waiting : rc, SLEY_FOREVER);
    return rc < 0 ? rc : waiting == 2;
}

static int start(void *arg)
{
    struct taker takers[2] = { { "left, then right", &left, &right, 100 * SLEY_MS, 0 }, { "right, then left", &right, &left, 0, 0 } };
    int rc;

    (void)arg;
    do { /* on a machine that stood still for so long there was nothing to be seen: once more, with more patience */
        takers[0].patience *= 2;
        takers[1].patience = 20 * takers[0].patience; /* long enough to get both when the first has given up */
    } while ((rc = cross(takers)) == 0);
    if (rc < 0)
        return rc;
    printf("left is %p, right is %p\n%s", (void *)&left, (void *)&right, dump);
    for (int i = 0; i < 2; i++)
        printf("\"%s\": %s\n", takers[i].name, takers[i].result == 0 ? "got both" : "out of time, gave back what it held");
    return 0;
}

/* --- the same with threads: no call says how long, nobody can ask who waits for what ------------------------------------------------- */

static pthread_mutex_t left_thread = PTHREAD_MUTEX_INITIALIZER, right_thread = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t each_thread_holds_one;

static void *take_both_thread(void *arg)
{
    pthread_mutex_t *first = arg, *second = first == &left_thread ? &right_thread : &left_thread;

    pthread_mutex_lock(first);
    pthread_barrier_wait(&each_thread_holds_one);
    pthread_mutex_lock(second);
    pthread_mutex_unlock(second);
    pthread_mutex_unlock(first);
    return NULL;
}

static int cross_threads(void)
{
    pthread_t a, b;

    if (pthread_barrier_init(&each_thread_holds_one, NULL, 3) != 0 || pthread_create(&a, NULL, take_both_thread, &left_thread) != 0 ||
        pthread_create(&b, NULL, take_both_thread, &right_thread) != 0) {
        fprintf(stderr, "no threads\n");
        return 1;
    }
    pthread_barrier_wait(&each_thread_holds_one);
    puts("each holds one and locks the other");
    fflush(stdout);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    puts("both got both"); /* never */
    return 0;
}

int main(int argc, char **argv)
{
    int rc;

    if (argc == 2 && strcmp(argv[1], "threads") == 0)
        return cross_threads();
    if (argc != 1) {
        fprintf(stderr, "usage: %s [threads]\n", argv[0]);
        return 2;
    }
    if (pipe(dump_fds) < 0) {
        perror("pipe");
        return 1;
    }
    if ((rc = sley_run(NULL, start, NULL)) < 0)
        fprintf(stderr, "%s: %s\n", argv[0], strerror(-rc));
    return rc < 0;
}
