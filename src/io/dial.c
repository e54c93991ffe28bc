/* dial.c - a connection to an address given as text. A name is looked up by libc's resolver, which blocks its thread: on the pool of
 * sley_blocking. Its addresses are tried one after the other, in the resolver's order. */
#include "io/address.h"
#include "io/record.h"
#include "io/sys.h"

#include <netdb.h>
#include <string.h>

#include <sley/blocking.h>
#include <sley/io.h>
#include <sley/net.h>

static int dial_one(const struct sockaddr *addr, socklen_t addr_bytes, sley_time deadline)
{
    int fd = sl_sys_socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc;

    if (fd < 0)
        return fd;
    sl_record_adopt(fd, SL_FD_SOCKET | SL_HINT_NONBLOCK);
    rc = sley_connect(fd, addr, addr_bytes, deadline);
    if (rc < 0) {
        sley_close(fd);
        return rc;
    }
    return fd;
}

struct lookup {
    char  host[NI_MAXHOST];
    char  port[6];
    struct addrinfo *found;
};

static int look_up(void *arg) /* on a thread of the pool */
{
    struct lookup *l = arg;
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG };

    switch (getaddrinfo(l->host, l->port, &hints, &l->found)) {
    case 0:
        return 0;
    case EAI_AGAIN:
        return -EAGAIN;
    case EAI_MEMORY:
        return -ENOMEM;
    default:
        return -EHOSTUNREACH; /* no such name, or none with an address */
    }
}

static int dial_name(const char *address, sley_time deadline)
{
    const char *colon = strrchr(address, ':');
    struct lookup l = { .found = NULL };
    int rc;

    if (colon == NULL || colon == address || (size_t)(colon - address) >= sizeof(l.host) || strlen(colon + 1) >= sizeof(l.port) ||
        sl_address_port(colon + 1) < 0 || memchr(address, '*', (size_t)(colon - address)) != NULL ||
        memchr(address, '[', (size_t)(colon - address)) != NULL)
        return -EINVAL;
    memcpy(l.host, address, (size_t)(colon - address));
    strcpy(l.port, colon + 1);
    rc = sley_blocking(look_up, &l, deadline);
    if (rc < 0)
        return rc;
    rc = -EHOSTUNREACH;
    for (const struct addrinfo *a = l.found; a != NULL && rc < 0 && rc != -ECANCELED && rc != -ETIMEDOUT; a = a->ai_next)
        rc = dial_one(a->ai_addr, a->ai_addrlen, deadline);
    freeaddrinfo(l.found);
    return rc;
}

int sley_net_dial(const char *address, sley_time deadline)
{
    struct sl_address a;
    int rc = sl_deadline_check(deadline);

    if (rc < 0 || address == NULL)
        return -EINVAL;
    if (deadline == SLEY_NOW)
        return -EOPNOTSUPP; /* as connect */
    if (sl_address_parse(address, &a) < 0)
        return dial_name(address, deadline);
    return a.everywhere ? -EINVAL : dial_one(&a.any, a.bytes, deadline);
}
