/* group.c - accepting from several sockets as from one.
 *
 * Each socket is watched by a poll in the ring of the worker of its number, so a connection wakes that worker, and whoever waited in
 * sley_accept goes on there: what it starts for the connection starts there too.
 *
 *   G1  A socket that is not quiet may have a connection: who wants one tries it. Who finds nothing says so (quiet), and after that sees
 *       to it that a poll is armed. A poll reports what is there already, so nothing that came in between is missed. If one was armed,
 *       its end is told after that look, under the record's lock, and therefore after `quiet` was set: it will be unset again.
 *   G2  The end of a poll makes its socket not quiet and claims one of those who wait, who is told if the poll has failed. Who waits has
 *       seen, under the lock, that all sockets are quiet.
 *   G3  Whoever leaves, with a connection, cancelled or late, claims the next if a socket is not quiet (sl_group_leave). So among those
 *       who wait there is always one on its way to a socket that is not quiet.
 *   G4  A poll is armed on its worker by a fiber of the library's own (an errand), or by the caller if it is there. The errand knows
 *       descriptor and generation: one that comes after the close finds neither. If there is no memory for one, or the runtime has ended,
 *       the socket is not quiet.
 *   G5  Groups are type-stable: a poll's end that comes late finds a group, though perhaps another one, and at most makes it look.
 *
 * From the closer's side: the listener's record is CLOSING and has no calls left, so nobody waits, looks or arms but for errands; each
 * other socket is closed like any descriptor, which ends its poll. Then the group is free.
 *
 * order [group.1]: a group is zeroed, then published; who loads its address acquires the zeroes.
 *
 * Rejected: one multishot accept a ring, which accepts what nobody has asked for yet, and, out of descriptors, loses it. */
#include "io/group.h"

#include "base/assert.h"
#include "sched/worker.h"

#include <sley/io.h>

#include <stdlib.h>
#include <string.h>

#define IN_TURN 16 /* so many calls, the last ones of a streak */

static struct {
    struct sl_lock            lock;  /* of the table; nothing is locked under it */
    _Atomic(struct sl_group *) at[SL_GROUPS_MAX]; /* never freed */
    bool                      used[SL_GROUPS_MAX];
} table;

struct sl_group *sl_group_of(const struct sl_record *r)
{
    unsigned number = sl_load_relaxed(&r->group); /* the caller's */

    return number != 0 ? sl_load_acquire(&table.at[number - 1]) : NULL; /* [group.1] */
}

/* ---- making and closing ---- */

/* A number for a group, which has memory. -ENOMEM; -ENFILE. */
static int take_number(void)
{
    struct sl_group *fresh = calloc(1, sizeof *fresh);
    int number = -ENFILE;

    if (fresh == NULL)
        return -ENOMEM;
    sl_lock_acquire(&table.lock);
    for (int i = 0; i < SL_GROUPS_MAX; i++) {
        if (table.used[i])
            continue;
        table.used[i] = true;
        if (sl_load_relaxed(&table.at[i]) == NULL) { /* under the lock */
            sl_store_release(&table.at[i], fresh); /* [group.1] */
            fresh = NULL;
        }
        number = i + 1;
        break;
    }
    sl_lock_release(&table.lock);
    free(fresh);
    return number;
}

static void give_number(unsigned number)
{
    sl_lock_acquire(&table.lock);
    table.used[number - 1] = false;
    sl_lock_release(&table.lock);
}

int sl_group_make(struct sley_runtime *rt, const int *fds, unsigned count)
{
    struct sl_group_socket *sockets = calloc(count, sizeof *sockets);
    int number = sockets != NULL ? take_number() : -ENOMEM, error;
    struct sl_group *g;

    for (unsigned i = 0; i < count && number > 0; i++) { /* a descriptor without a record cannot be watched */
        struct sl_record *r = sl_record_at(fds[i], &error);

        if (r != NULL) {
            sockets[i].fd = fds[i];
            sockets[i].generation = sl_load_relaxed(&r->generation); /* it is the caller's */
            continue;
        }
        give_number((unsigned)number);
        number = error;
    }
    if (number < 0) {
        free(sockets);
        return number;
    }
    g = sl_load_acquire(&table.at[number - 1]); /* [group.1] */
    sl_lock_acquire(&g->lock);
    g->rt = rt;
    g->count = g->loud = count;
    g->sockets = sockets;
    sl_lock_release(&g->lock);
    for (unsigned i = 0; i < count; i++)
        sl_store_relaxed(&sl_record_find(fds[i])->group, (uint16_t)number); /* nobody has these descriptors yet */
    return 0;
}

void sl_group_close(struct sl_record *r)
{
    unsigned number = sl_load_relaxed(&r->group); /* the closer's */
    struct sl_group *g = sl_group_of(r);
    struct sl_group_socket *sockets = g->sockets; /* changed by its closer alone */
    unsigned count = g->count;

    sl_store_relaxed(&r->group, 0);
    for (unsigned i = 1; i < count; i++) {
        struct sl_record *other = sl_record_find(sockets[i].fd);
        int rc;

        sl_store_relaxed(&other->group, 0);
        rc = sley_close(sockets[i].fd);
        sl_assert(rc != -EBADF);
        (void)rc;
    }
    sl_lock_acquire(&g->lock);
    g->rt = NULL;
    g->count = g->loud = 0;
    g->sockets = NULL;
    sl_lock_release(&g->lock);
    free(sockets);
    give_number(number);
}

/* ---- watching ---- */

/* Both under the lock. */
static void make_quiet(struct sl_group *g, struct sl_group_socket *s)
{
    g->loud -= !sl_load_relaxed(&s->quiet); /* under the lock */
    sl_store_relaxed(&s->quiet, true);      /* under the lock */
}

static void make_loud(struct sl_group *g, struct sl_group_socket *s)
{
    g->loud += sl_load_relaxed(&s->quiet); /* under the lock */
    sl_store_relaxed(&s->quiet, false);    /* under the lock */
}

/* Under the lock: somebody shall look, if there may be something to see; result < 0: he is told of that error instead. */
static void claim_next(struct sl_group *g, int result, struct sl_woken *woken)
{
    struct sl_wait_node *n;

    while (g->loud > 0 && (n = g->waiters.head) != NULL) {
        bool won = sl_claim(n, SL_ARM_EVENT, woken);

        if (won && result < 0)
            n->result = result;
        sl_wait_list_remove(&g->waiters, n);
        if (won)
            return;
    }
}

void sl_group_poll_done(unsigned number, int fd, int result)
{
    struct sl_group *g = sl_load_acquire(&table.at[number - 1]); /* [group.1] */
    struct sl_woken woken = { NULL, NULL };

    sl_lock_acquire(&g->lock);
    for (unsigned i = 0; i < g->count; i++)
        if (g->sockets[i].fd == fd)
            make_loud(g, &g->sockets[i]);
    claim_next(g, result != -ECANCELED ? result : 0, &woken);
    sl_lock_release(&g->lock);
    sl_woken_ready(&woken);
}

/* On the worker that is to watch, or on any while that has not begun. arg: generation 32, descriptor 32. */
static int watch_errand(void *arg)
{
    uint64_t name = (uint64_t)(uintptr_t)arg;

    sl_fd_watch((int)(uint32_t)name, (uint32_t)(name >> 32), POLLIN);
    return 0;
}

/* Socket i was found with nothing in it. 0; -ECANCELED: the runtime has ended; -ENOMEM: it cannot be watched now. */
static int watch(struct sl_group *g, unsigned i)
{
    struct sl_worker *here = sl_worker_here();
    struct sl_group_socket *s = &g->sockets[i];
    uint64_t name = (uint64_t)s->generation << 32 | (uint32_t)s->fd;
    struct sl_worker *there;
    struct sley_runtime *rt;
    int rc = 0;

    sl_lock_acquire(&g->lock);
    rt = g->rt;
    if (rt != NULL) {
        make_quiet(g, s);
        sl_record_ender_begin(); /* rt stays until that ends */
    }
    sl_lock_release(&g->lock);
    if (rt == NULL)
        return -ECANCELED;
    there = i < sl_load_relaxed(&rt->threads) ? rt->workers[i] : NULL; /* hint: it only grows; perhaps that thread cannot be had */
    if (here != NULL && here == rt->workers[i])
        watch_errand((void *)(uintptr_t)name);
    else
        rc = sl_errand(rt, there, watch_errand, (void *)(uintptr_t)name);
    sl_record_ender_end();
    if (rc < 0) { /* G1: nobody watches it */
        sl_lock_acquire(&g->lock);
        make_loud(g, s);
        sl_lock_release(&g->lock);
    }
    return rc == -EAGAIN ? -ENOMEM : rc;
}

void sl_group_runtime_gone(struct sley_runtime *rt)
{
    for (int i = 0; i < SL_GROUPS_MAX; i++) {
        struct sl_group *g = sl_load_acquire(&table.at[i]); /* [group.1] */
        struct sl_woken woken = { NULL, NULL };
        struct sl_wait_node *n;

        if (g == NULL)
            return; /* numbers are given from the first on */
        sl_lock_acquire(&g->lock);
        if (g->rt == rt) {
            g->rt = NULL;
            for (unsigned k = 0; k < g->count; k++)
                make_loud(g, &g->sockets[k]); /* who finds nothing now is told by watch() */
            while ((n = g->waiters.head) != NULL) {
                sl_claim(n, SL_ARM_EVENT, &woken);
                sl_wait_list_remove(&g->waiters, n);
            }
        }
        sl_lock_release(&g->lock);
        sl_woken_ready(&woken);
    }
}

/* The child has their numbers from nobody: left open they would take connections that nobody accepts, also when the parent has gone. The
 * parent may have been caught making or closing a group: then not all of its descriptors say that they are the group's. */
static void forget_sockets(const struct sl_group *g, unsigned number)
{
    for (unsigned i = 1; g->sockets != NULL && i < g->count; i++) {
        const struct sl_record *r = sl_record_find(g->sockets[i].fd);

        if (r != NULL && sl_load_relaxed(&r->group) == number) /* one thread */
            sl_sys_close(g->sockets[i].fd);
    }
}

void sl_group_reset(void)
{
    table.lock = (struct sl_lock){ 0 };
    for (int i = 0; i < SL_GROUPS_MAX; i++) {
        struct sl_group *g = sl_load_relaxed(&table.at[i]); /* one thread */

        if (g != NULL) {
            forget_sockets(g, (unsigned)i + 1);
            memset(g, 0, sizeof *g);
        }
        table.used[i] = false;
    }
}

/* ---- accepting ---- */

/* The socket to try first: this worker's own; near the end of a streak each in turn, or a caller that always finds something there would
 * let the others starve. */
static unsigned first_to_try(struct sl_group *g, const struct sl_fiber *f)
{
    struct sl_worker *w = sl_worker_here();

    return (w != NULL && f->streak < SL_DIRECT_STREAK - IN_TURN ? w->number : sl_add_relaxed(&g->turn, 1)) % g->count; /* counter */
}

/* Try the sockets that are not quiet; all of them, if nobody will wait for the end of a poll that may be on its way (SLEY_NOW). A
 * connection, an error; -EAGAIN: all are quiet. */
static int try_all(struct sl_call *c, struct sl_group *g, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline)
{
    unsigned first = first_to_try(g, c->fiber);
    int result = -EAGAIN;

    for (unsigned k = 0; k < g->count; k++) {
        unsigned i = (first + k) % g->count;
        struct sl_group_socket *s = &g->sockets[i];
        bool quiet = sl_load_relaxed(&s->quiet); /* hint: looked at again under the lock before anybody waits */
        int n;

        if (quiet && deadline != SLEY_NOW)
            continue;
        do
            n = sl_sys_accept4(s->fd, addr, addr_bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
        while (n == -EINTR);
        if (n >= 0)
            sl_add_relaxed(&s->accepted, 1); /* counter */
        if (n != -EAGAIN)
            return n;
        if (!quiet && (n = watch(g, i)) < 0)
            result = n; /* another one may have a connection */
    }
    return result;
}

/* 0: look again; -errno. */
static int wait_for_one(struct sl_call *c, struct sl_group *g, sley_time deadline)
{
    struct sl_fiber *f = c->fiber;
    struct sl_wait_node node = { .result = 0 };
    unsigned why;
    int rc = sl_wait_begin(f, deadline, SL_WAIT_FD, c->record);

    if (rc < 0)
        return rc;
    if ((rc = sl_call_announce(c, f)) < 0) {
        sl_wait_end(f);
        return rc;
    }
    sl_lock_acquire(&g->lock);
    if (g->loud > 0 || sl_cancelled(f)) {
        rc = g->loud > 0 ? sl_call_direct(c, 0) : -ECANCELED; /* a look counts, or a loop of them would let nobody else run */
        sl_wait_end(f);
        sl_lock_release(&g->lock);
        return rc;
    }
    sl_node_init(&node, f);
    sl_wait_list_push(&g->waiters, &node);
    why = sl_park(&g->lock);
    if (why == SL_ARM_EVENT)
        return node.result;
    sl_lock_acquire(&g->lock);
    if (sl_node_linked(&node))
        sl_wait_list_remove(&g->waiters, &node);
    sl_lock_release(&g->lock);
    return why == SL_ARM_TIMEOUT ? -ETIMEDOUT : why == SL_ARM_CLOSE ? -EBADF : -ECANCELED;
}

int sl_group_accept(struct sl_call *c, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline)
{
    struct sl_group *g = sl_group_of(c->record);
    int n = try_all(c, g, addr, addr_bytes, deadline);

    if (n != -EAGAIN)
        return sl_call_direct(c, n);
    if (deadline == SLEY_NOW)
        return -ETIMEDOUT;
    n = wait_for_one(c, g, deadline);
    return n == 0 ? -EAGAIN : n;
}

void sl_group_leave(struct sl_record *r)
{
    struct sl_group *g = sl_group_of(r);
    struct sl_woken woken = { NULL, NULL };

    sl_lock_acquire(&g->lock);
    claim_next(g, 0, &woken);
    sl_lock_release(&g->lock);
    sl_woken_ready(&woken);
}
