/* who.c - the addresses of a socket, its own and its peer's, as text. Asking for them waits for nothing. */
#include "io/address.h"
#include "io/sys.h"

#include <errno.h>
#include <sley/net.h>
#include <string.h>

int sley_net_local(int fd, char *text, size_t bytes)
{
    struct sl_address a = { .bytes = sizeof(struct sockaddr_un) };
    int rc = sl_sys_getsockname(fd, &a.any, &a.bytes);

    return rc < 0 ? rc : sl_address_format(&a, text, bytes);
}

int sley_net_peer(int fd, char *text, size_t bytes)
{
    struct sl_address a = { .bytes = sizeof(struct sockaddr_un) };
    int rc = sl_sys_getpeername(fd, &a.any, &a.bytes);

    return rc < 0 ? rc : sl_address_format(&a, text, bytes);
}
