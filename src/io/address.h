/* address.h - addresses as text: "127.0.0.1:80", "[::1]:80", "*:80", "unix:/path", "unix:@abstract". */
#ifndef SL_IO_ADDRESS_H
#define SL_IO_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/un.h>

struct sl_address {
    union {
        struct sockaddr     any;
        struct sockaddr_in  v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un  local;
    };
    socklen_t bytes;
    bool      everywhere; /* "*": v6 and v4 */
};

int sl_address_port(const char *text); /* a decimal number up to 65535 and nothing else; -EINVAL */
int sl_address_parse(const char *text, struct sl_address *a); /* 0; -EINVAL: it is none of these */

/* The reverse. "unix:" is a Unix socket without a name. 0; -ERANGE: the text does not fit; -EAFNOSUPPORT: no text for its family;
 * -EINVAL: an abstract name with a NUL in it. */
int sl_address_format(const struct sl_address *a, char *text, size_t bytes);

#endif
