/* sley/net.h - sockets. Rule of io.h; sley_read and sley_write work on them too.
 *
 * A connect that ends early (deadline, cancel, error) leaves the socket in an unknown state: close it; with SLEY_NOW it is -EOPNOTSUPP. A
 * plain thread that accepts makes the listener non-blocking, and so does who accepts from several sockets (per_worker); a plain thread
 * that connects gets -EAGAIN from a Unix listener whose queue is full.
 * A name that is not found is -EHOSTUNREACH; -EAGAIN: no server of names has answered. -ETIMEDOUT is the deadline's alone: where the kernel
 * gives a peer up that no longer answers it is -ECONNRESET, and of a connect -EHOSTUNREACH.
 * A Unix socket's file whose owner is gone is replaced by sley_net_listen.
 *
 * MSG_ZEROCOPY in sley_send, sley_send_all and sley_sendmsg: the kernel sends from the memory itself, and the call returns when it has let
 * go of it, which is when the peer has acknowledged the bytes: a round trip, or more if it is slow to read. A deadline, cancel or close
 * that comes before that, but after bytes were taken, breaks the connection, for only so the kernel lets go: the peer gets a reset, the
 * call says why, and how many bytes have arrived is not known. If nothing was taken, the connection is as it was.
 * That is so over TCP, on fibers, from 16,384 bytes on, with io_uring of Linux 6.0 (sley_sendmsg 6.1). Elsewhere, beyond RLIMIT_MEMLOCK,
 * with SLEY_NOW and with other flags the bytes are copied as without it, and nobody waits for the peer. */
#ifndef SLEY_NET_H
#define SLEY_NET_H

#include <sley/base.h>
#include <sys/socket.h>

SLEY_BEGIN_DECLS

/* By address string: "127.0.0.1:80", "[::1]:80", "*:80", "host:80" (dial only), "unix:/path", "unix:@abstract". With a number for a path
 * it is a host called "unix"; the file is "unix:./80". */
typedef struct sley_listen_options {
    uint32_t backlog;     /* 0: SOMAXCONN */
    uint32_t per_worker;  /* 1: behind the descriptor one SO_REUSEPORT socket a worker, see below */
    uint64_t reserved[3]; /* zero */
} sley_listen_options;

/* per_worker spreads the connections over the workers of the caller's runtime, by the kernel's hash of addresses: sley_accept on the one
 * descriptor takes from all sockets, from its worker's own first; where none has a connection, the next to come wakes its socket's worker, and
 * the caller goes on there. One accepting fiber is enough, several share the work. sley_fd_wait and select on such a descriptor are
 * -EOPNOTSUPP. When the runtime has ended, accept takes what is there, and is -ECANCELED when nothing is. Another process of this user that
 * asks for the same shares the address, instead of -EADDRINUSE. A Unix socket, and a caller that belongs to no runtime, get one socket; a
 * forked child keeps the first. The backlog is each socket's. -ENFILE: the process has 1,024 such listeners. */
SLEY_API SLEY_MUST_USE int sley_net_listen(const char *address, const sley_listen_options *options); /* a descriptor; does not wait */
SLEY_API SLEY_MUST_USE int sley_net_dial(const char *address, sley_time deadline);                   /* a connected descriptor; tries every address of a name */

/* The address of a socket as such a string, of AF_INET6 with the number of its interface where it has one: "[fe80::1%2]:80". "unix:": it
 * has no name. SLEY_NET_TEXT_BYTES are always enough; -ERANGE: fewer were not. */
#define SLEY_NET_TEXT_BYTES 128
SLEY_API int sley_net_local(int fd, char *text, size_t bytes); /* its own */
SLEY_API int sley_net_peer(int fd, char *text, size_t bytes);  /* the other side's */

SLEY_API SLEY_MUST_USE int sley_accept(int fd, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline); /* skips connections that died in the queue; out of descriptors: waits for one */
SLEY_API SLEY_MUST_USE int sley_connect(int fd, const struct sockaddr *addr, socklen_t addr_bytes, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_recv(int fd, void *buf, size_t bytes, int flags, sley_time deadline);       /* 0: the peer has ended its side */
SLEY_API SLEY_MUST_USE int sley_send(int fd, const void *buf, size_t bytes, int flags, sley_time deadline); /* may be short; MSG_ZEROCOPY: returns when buf is free again */
SLEY_API SLEY_MUST_USE int sley_send_all(int fd, const void *buf, size_t bytes, int flags, sley_time deadline); /* see sley_write_all */
SLEY_API SLEY_MUST_USE int sley_recvfrom(int fd, void *buf, size_t bytes, int flags, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_sendto(int fd, const void *buf, size_t bytes, int flags, const struct sockaddr *addr, socklen_t addr_bytes, sley_time deadline);

/* With messages may come descriptors, which are close-on-exec, credentials and the like. MSG_WAITALL ends at the first bytes that anything
 * came with. A call that fails leaves *msg alone. */
SLEY_API SLEY_MUST_USE int sley_recvmsg(int fd, struct msghdr *msg, int flags, sley_time deadline);
SLEY_API SLEY_MUST_USE int sley_sendmsg(int fd, const struct msghdr *msg, int flags, sley_time deadline);

SLEY_END_DECLS
#endif
