/* address.c - see address.h. */
#include "io/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

int sl_address_port(const char *text)
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

static int parse_local(const char *path, struct sl_address *a)
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

/* The interface after the '%' of "fe80::1%eth0", by name or by number, cut off. */
static int cut_scope(char *host, uint32_t *scope)
{
    char *percent = strchr(host, '%');
    int number, before = errno; /* if_nametoindex sets it */

    if (percent == NULL)
        return 0;
    *percent++ = '\0';
    number = sl_address_port(percent); /* a number of the same size will do */
    *scope = number > 0 ? (uint32_t)number : if_nametoindex(percent);
    errno = before;
    return *scope != 0 ? 0 : -EINVAL;
}

int sl_address_parse(const char *text, struct sl_address *a)
{
    const char *colon;
    char host[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE];
    size_t host_bytes;
    int port;

    memset(a, 0, sizeof(*a));
    if (text == NULL)
        return -EINVAL;
    if (strncmp(text, "unix:", 5) == 0 && sl_address_port(text + 5) < 0) /* a number: a port of a host of that name */
        return parse_local(text + 5, a);

    colon = strrchr(text, ':');
    if (colon == NULL || (port = sl_address_port(colon + 1)) < 0)
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
    if (a->any.sa_family == AF_INET6 && cut_scope(host, &a->v6.sin6_scope_id) < 0)
        return -EINVAL;

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

static int format_local(const struct sl_address *a, char *text, size_t bytes)
{
    size_t from = offsetof(struct sockaddr_un, sun_path), n = a->bytes > from ? a->bytes - from : 0;
    const char *name = a->local.sun_path, *before;
    char number[8];
    bool abstract;

    if (n > sizeof(a->local.sun_path))
        n = sizeof(a->local.sun_path); /* the kernel may count a NUL beyond it */
    abstract = n > 0 && name[0] == '\0';
    if (abstract) {
        name++;
        n--;
    } else {
        n = strnlen(name, n); /* the kernel counts the NUL, or not */
    }
    if (abstract && memchr(name, '\0', n) != NULL)
        return -EINVAL;
    snprintf(number, sizeof(number), "%.*s", (int)n, name);
    before = abstract ? "@" : n < sizeof(number) && sl_address_port(number) >= 0 ? "./" : "";
    return snprintf(text, bytes, "unix:%s%.*s", before, (int)n, name);
}

int sl_address_format(const struct sl_address *a, char *text, size_t bytes)
{
    char host[INET6_ADDRSTRLEN] = "", scope[16] = "", all[sizeof(struct sockaddr_un) + 8];
    int n;

    switch (a->any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof(host));
        n = snprintf(all, sizeof(all), "%s:%u", host, ntohs(a->v4.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof(host));
        if (a->v6.sin6_scope_id != 0)
            snprintf(scope, sizeof(scope), "%%%u", a->v6.sin6_scope_id);
        n = snprintf(all, sizeof(all), "[%s%s]:%u", host, scope, ntohs(a->v6.sin6_port));
        break;
    case AF_UNIX:
        n = format_local(a, all, sizeof(all));
        break;
    default:
        return -EAFNOSUPPORT;
    }
    if (n < 0)
        return n;
    if ((size_t)n >= bytes)
        return -ERANGE;
    memcpy(text, all, (size_t)n + 1);
    return 0;
}
