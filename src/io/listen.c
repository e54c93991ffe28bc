/* listen.c - sockets that listen. */
#include "io/address.h"
#include "io/group.h"
#include "sched/worker.h"

#include <sley/net.h>
#include <string.h>

static int open_socket(struct sl_address *a)
{
    int off = 0;
    int fd = sl_sys_socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd == -EAFNOSUPPORT && a->everywhere) { /* a machine without v6 */
        in_port_t port = a->v6.sin6_port;

        memset(a, 0, sizeof(*a));
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = port;
        a->bytes = sizeof(a->v4);
        return open_socket(a);
    }
    if (fd >= 0 && a->everywhere)
        sl_sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    return fd;
}

/* The name of a Unix socket is taken, but nobody listens behind it: its owner has gone without tidying up. */
static bool is_stale(const struct sl_address *a)
{
    struct statx sx;
    int fd, rc;

    if (a->any.sa_family != AF_UNIX || a->local.sun_path[0] == '\0')
        return false;
    if (sl_sys_statx(AT_FDCWD, a->local.sun_path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &sx) < 0 || !S_ISSOCK(sx.stx_mode))
        return false;
    fd = sl_sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    rc = sl_sys_connect(fd, &a->any, a->bytes);
    sl_sys_close(fd);
    return rc == -ECONNREFUSED;
}

/* A socket bound to a; of a Unix socket without an owner it takes the place. The descriptor; -errno. */
static int bind_one(struct sl_address *a, int option)
{
    int on = 1, rc = 0;
    int fd = open_socket(a);

    if (fd < 0)
        return fd;
    if (a->any.sa_family != AF_UNIX)
        rc = sl_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (rc == 0 && option != 0)
        rc = sl_sys_setsockopt(fd, SOL_SOCKET, option, &on, sizeof(on));
    if (rc == 0)
        rc = sl_sys_bind(fd, &a->any, a->bytes);
    if (rc == -EADDRINUSE && is_stale(a)) {
        rc = sl_sys_unlink(a->local.sun_path);
        if (rc == 0 || rc == -ENOENT)
            rc = sl_sys_bind(fd, &a->any, a->bytes);
    }
    if (rc == 0)
        return fd;
    sl_sys_close(fd);
    return rc;
}

/* Listen at `a`: with one socket for each worker of rt, or with one, if rt is NULL. */
static int listen_at(struct sl_address *a, int backlog, struct sley_runtime *rt)
{
    unsigned wanted = rt != NULL ? rt->worker_count : 1, count;
    socklen_t bytes = sizeof(a->local);
    int fds[SL_WORKERS_MAX];
    int rc = 0;

    for (count = 0; count < wanted && rc == 0; count++) {
        fds[count] = bind_one(a, rt != NULL ? SO_REUSEPORT : 0);
        if (fds[count] < 0) {
            rc = fds[count];
            break;
        }
        sl_record_adopt(fds[count], SL_FD_SOCKET | SL_HINT_NONBLOCK);
        if (count == 0 && wanted > 1 && (rc = sl_sys_getsockname(fds[0], &a->any, &bytes)) == 0)
            a->bytes = bytes; /* the port, if that was left to the kernel */
    }
    for (unsigned i = 0; i < count && rc == 0; i++)
        rc = sl_sys_listen(fds[i], backlog);
    if (rc == 0 && rt != NULL)
        rc = sl_group_make(rt, fds, count);
    if (rc == 0)
        return fds[0];
    while (count-- > 0)
        sl_sys_close(fds[count]);
    return rc;
}

int sley_net_listen(const char *address, const sley_listen_options *options)
{
    static const sley_listen_options defaults;
    struct sl_thread *t = sl_self_or_null();
    struct sl_address a;
    int rc;

    if (options == NULL)
        options = &defaults;
    for (size_t i = 0; i < sizeof(options->reserved) / sizeof(options->reserved[0]); i++)
        if (options->reserved[i] != 0)
            return -EINVAL;
    if (options->per_worker > 1 || options->backlog > INT32_MAX)
        return -EINVAL;
    if ((rc = sl_address_parse(address, &a)) < 0)
        return rc;
    return listen_at(&a, options->backlog != 0 ? (int)options->backlog : SOMAXCONN,
                     options->per_worker == 1 && a.any.sa_family != AF_UNIX && t != NULL ? t->rt : NULL);
}
