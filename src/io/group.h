/* group.h - the sockets of a listener that has one a worker. The listener's descriptor is the first of them; accepting from it takes from
 * all. The kernel spreads connections over them by a hash of their addresses. */
#ifndef SL_IO_GROUP_H
#define SL_IO_GROUP_H

#include "io/call.h"

#define SL_GROUPS_MAX 1024 /* listeners of the process that have one socket a worker */

struct sl_group_socket {
    int               fd;
    uint32_t          generation; /* of its record */
    _Atomic(bool)     quiet;      /* written under the lock: nothing was there; a poll, or who arms one, is to say when there is */
    _Atomic(uint64_t) accepted;   /* counter */
};

struct sl_group {
    struct sl_lock          lock;
    struct sley_runtime    *rt;      /* whose workers watch the sockets; NULL: it has ended */
    struct sl_wait_list     waiters; /* calls of sley_accept, in the order in which they came */
    unsigned                count;   /* of sockets; 0: the group is free */
    unsigned                loud;    /* of them not quiet */
    _Atomic(unsigned)       turn;    /* counter: whose turn it is to be tried first */
    struct sl_group_socket *sockets;
};

/* Make fds[0..count) the sockets of one listener, whose descriptor is fds[0]; count <= the workers of rt, which is the caller's. The
 * descriptors are the group's until sl_group_close. 0; -ENOMEM; -ENFILE. */
int sl_group_make(struct sley_runtime *rt, const int *fds, unsigned count);

struct sl_group *sl_group_of(const struct sl_record *r); /* of a descriptor that the caller holds; NULL: it is no listener of several */

/* Of the listener's record, no call on it being left: close all sockets but the first. */
void sl_group_close(struct sl_record *r);

/* One look, or one wait, for a connection on any of the group's sockets: as accept4, a descriptor or -errno; -EAGAIN: look again. A plain
 * thread waits here too. -ECANCELED also: the group's runtime has ended, and there is none. */
int sl_group_accept(struct sl_call *c, struct sockaddr *addr, socklen_t *addr_bytes, sley_time deadline);

/* The caller takes no connection now, or no other: if there may be one, and another call waits, that one looks. */
void sl_group_leave(struct sl_record *r);

/* The poll of the socket fd of group `number` has ended: the events, or -errno. */
void sl_group_poll_done(unsigned number, int fd, int result);

void sl_group_runtime_gone(struct sley_runtime *rt);
void sl_group_reset(void); /* after fork, before the records are reset: of each listener the child has the first socket, like any other */

#endif
