/* listen.c - addresses as text, and sockets that listen on them. */
#include "io/record.h"
#include "io/sys.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sley/net.h>
#include <string.h>
#include <sys/un.h>

struct address {
    union {
        struct sockaddr     any;
        struct sockaddr_in  v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un  local;
    };
    socklen_t bytes;
    bool      everywhere; /* "*": v6 and v4 */
};

/* A decimal number up to 65535 and nothing else; -EINVAL. */
static int parse_port(const char *text)
{
    int port = 0;

    if (*text == '\0')
        return -EINVAL;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -EINVAL;
        port = port * 10 + (*text - '0');
        if (port > 65535)
            return -EINVAL;
    }
    return port;
}

static int parse_local(const char *path, struct address *a)
{
    size_t bytes = strlen(path);

    /* A path keeps its NUL; an abstract name is all its bytes, with a NUL in the place of '@'. */
    if (bytes == 0 || bytes >= sizeof(a->local.sun_path) || strcmp(path, "@") == 0)
        return -EINVAL;
    a->local.sun_family = AF_UNIX;
    memcpy(a->local.sun_path, path, bytes + 1);
    a->bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes + 1);
    if (path[0] == '@') {
        a->local.sun_path[0] = '\0';
        a->bytes--;
    }
    return 0;
}

static int parse_address(const char *text, struct address *a)
{
    const char *colon;
    char host[INET6_ADDRSTRLEN];
    size_t host_bytes;
    int port;

    memset(a, 0, sizeof(*a));
    if (text == NULL)
        return -EINVAL;
    if (strncmp(text, "unix:", 5) == 0)
        return parse_local(text + 5, a);

    colon = strrchr(text, ':');
    if (colon == NULL || (port = parse_port(colon + 1)) < 0)
        return -EINVAL;
    host_bytes = (size_t)(colon - text);
    if (host_bytes > 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        host_bytes -= 2;
        a->any.sa_family = AF_INET6;
    } else {
        a->any.sa_family = AF_INET;
    }
    if (host_bytes == 0 || host_bytes >= sizeof(host))
        return -EINVAL;
    memcpy(host, text, host_bytes);
    host[host_bytes] = '\0';

    if (a->any.sa_family == AF_INET && strcmp(host, "*") == 0) {
        a->v6.sin6_family = AF_INET6; /* in6addr_any is all zeroes */
        a->everywhere = true;
    } else if (inet_pton(a->any.sa_family, host, a->any.sa_family == AF_INET ? (void *)&a->v4.sin_addr : (void *)&a->v6.sin6_addr) != 1) {
        return -EINVAL;
    }
    if (a->any.sa_family == AF_INET6) {
        a->v6.sin6_port = htons((uint16_t)port);
        a->bytes = sizeof(a->v6);
    } else {
        a->v4.sin_port = htons((uint16_t)port);
        a->bytes = sizeof(a->v4);
    }
    return 0;
}

static int open_socket(struct address *a)
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
static bool is_stale(const struct address *a)
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

int sley_net_listen(const char *address, const sley_listen_options *options)
{
    static const sley_listen_options defaults;
    struct address a;
    int on = 1;
    int fd, rc;

    if (options == NULL)
        options = &defaults;
    for (size_t i = 0; i < sizeof(options->reserved) / sizeof(options->reserved[0]); i++)
        if (options->reserved[i] != 0)
            return -EINVAL;
    if (options->per_worker > 1 || options->backlog > INT32_MAX)
        return -EINVAL;
    if ((rc = parse_address(address, &a)) < 0)
        return rc;
    if (options->per_worker == 1)
        return -EOPNOTSUPP;

    fd = open_socket(&a);
    if (fd < 0)
        return fd;
    if (a.any.sa_family != AF_UNIX && (rc = sl_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on))) < 0)
        goto undo_socket;
    rc = sl_sys_bind(fd, &a.any, a.bytes);
    if (rc == -EADDRINUSE && is_stale(&a)) {
        rc = sl_sys_unlink(a.local.sun_path);
        if (rc == 0 || rc == -ENOENT)
            rc = sl_sys_bind(fd, &a.any, a.bytes);
    }
    if (rc == 0)
        rc = sl_sys_listen(fd, options->backlog != 0 ? (int)options->backlog : SOMAXCONN);
    if (rc < 0)
        goto undo_socket;
    return sl_record_adopt(fd, SL_FD_SOCKET | SL_HINT_NONBLOCK);

undo_socket:
    sl_sys_close(fd);
    return rc;
}
