/* test_net_message.c - recvfrom, sendto, recvmsg, sendmsg: datagrams and sequences over v4, v6 and Unix, streams, descriptors that come
 * with messages, error queues; and the addresses of sockets as text. */
#include "io_scenario.h"

#include <linux/errqueue.h>
#include <sys/uio.h>

/* --- addresses -------------------------------------------------------------------------------------------------------------- */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
};

/* A datagram socket bound to an address of its own. < 0: the machine has no such family. */
static int bound(int family, int type, union address *a, socklen_t *bytes)
{
    static _Atomic(unsigned) number;
    int fd = socket(family, type | SOCK_CLOEXEC, 0);

    memset(a, 0, sizeof *a);
    a->any.sa_family = (sa_family_t)family;
    *bytes = family == AF_INET ? sizeof a->v4 : sizeof a->v6;
    if (family == AF_INET)
        a->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (family == AF_INET6)
        a->v6.sin6_addr = in6addr_loopback;
    else
        *bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                             (size_t)snprintf(a->local.sun_path + 1, 100, "sley-test-message-%d-%u", getpid(), number++));
    if (fd < 0)
        return -1;
    if (bind(fd, &a->any, *bytes) != 0) {
        close(fd);
        return -1;
    }
    *bytes = sizeof *a;
    EXPECT(getsockname(fd, &a->any, bytes) == 0);
    return fd;
}

static void datagrams_between(int family)
{
    union address here, there, from;
    socklen_t here_bytes, there_bytes, from_bytes;
    int a = bound(family, SOCK_DGRAM, &here, &here_bytes), b = bound(family, SOCK_DGRAM, &there, &there_bytes);
    unsigned char out[1200], in[1300];
    uint64_t random = 3;

    if (a < 0 || b < 0) {
        close(a);
        close(b);
        return;
    }
    from_bytes = sizeof from;
    EXPECT(sley_recvfrom(b, in, sizeof in, 0, &from.any, &from_bytes, SLEY_NOW) == -ETIMEDOUT && from_bytes == sizeof from);
    EXPECT(sley_recvfrom(b, in, sizeof in, 0, &from.any, &from_bytes, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_recvfrom(b, in, sizeof in, MSG_DONTWAIT, &from.any, &from_bytes, SLEY_FOREVER) == -EAGAIN && from_bytes == sizeof from);
    for (int i = 0; i < 200; i++) {
        size_t bytes = below(&random, sizeof out), room = below(&random, 4) == 0 ? bytes / 2 : sizeof in;
        int n;

        fill_pattern(out, bytes, (size_t)i);
        memset(in, 0xee, sizeof in);
        from_bytes = sizeof from;
        EXPECT(sley_sendto(a, out, bytes, 0, &there.any, there_bytes, SLEY_FOREVER) == (int)bytes);
        n = sley_recvfrom(b, in, room, 0, &from.any, &from_bytes, SLEY_FOREVER);
        EXPECT(n == (int)(bytes < room ? bytes : room) && is_pattern(in, (size_t)n, (size_t)i));
        EXPECT(is_untouched(in + n, sizeof in - (size_t)n) && from_bytes == here_bytes && memcmp(&from, &here, here_bytes) == 0);
    }
    EXPECT(sley_sendto(a, out, 100, 0, &there.any, there_bytes, SLEY_FOREVER) == 100);
    EXPECT(sley_recvfrom(b, in, 10, MSG_TRUNC | MSG_PEEK, NULL, NULL, SLEY_FOREVER) == 100);
    from_bytes = 2; /* as much of the address as there is room for; its length is told */
    EXPECT(sley_recvfrom(b, in, sizeof in, 0, &from.any, &from_bytes, SLEY_FOREVER) == 100 && from_bytes == here_bytes);
    EXPECT(sley_close(a) == 0 && sley_close(b) == 0);
}

SCENARIO(datagrams_keep_their_bounds_and_tell_where_they_are_from)
{
    datagrams_between(AF_INET);
    datagrams_between(AF_INET6);
    datagrams_between(AF_UNIX);
}

struct waiting {
    struct io_call call;
    union address from;
    socklen_t from_bytes;
};

static int call_recvfrom(struct io_call *c)
{
    struct waiting *w = (struct waiting *)(void *)c;

    return sley_recvfrom(c->fd, c->buf, c->bytes, c->flags, &w->from.any, &w->from_bytes, c->deadline);
}

SCENARIO(a_datagram_wakes_its_receiver)
{
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        union address there, here;
        socklen_t bytes;
        char buf[8];
        struct waiting w = { .call = { .call = call_recvfrom, .buf = buf, .bytes = sizeof buf }, .from_bytes = sizeof w.from };
        int b = bound(AF_INET, SOCK_DGRAM, &there, &bytes), a = bound(AF_INET, SOCK_DGRAM, &here, &bytes);

        if (nonblocking)
            EXPECT(fcntl(b, F_SETFL, O_NONBLOCK) == 0);
        w.call.fd = b;
        io_call_start(&w.call);
        EXPECT(sley_sendto(a, "abc", 3, 0, &there.any, sizeof there.v4, SLEY_FOREVER) == 3);
        EXPECT(io_call_result(&w.call) == 3 && memcmp(buf, "abc", 3) == 0);
        EXPECT(w.from_bytes == sizeof w.from.v4 && memcmp(&w.from, &here, sizeof here.v4) == 0);
        EXPECT(sley_close(a) == 0 && sley_close(b) == 0);
    }
}

/* The receiver's queue is full, and the sender is not connected to it: the kernel tells nobody when there is room. */
static int call_sendto(struct io_call *c) { return sley_sendto(c->fd, c->buf, c->bytes, 0, c->addr, c->addr_bytes, c->deadline); }

SCENARIO(a_full_receiver_makes_its_sender_wait)
{
    for (int nonblocking = 0; nonblocking < 2; nonblocking++) {
        union address there, here;
        socklen_t there_bytes, here_bytes;
        char byte;
        int b = bound(AF_UNIX, SOCK_DGRAM, &there, &there_bytes), a = bound(AF_UNIX, SOCK_DGRAM, &here, &here_bytes), n = 0;
        struct io_call c = { .call = call_sendto, .buf = "x", .bytes = 1, .fd = a, .addr = &there.any, .addr_bytes = there_bytes };

        if (nonblocking)
            EXPECT(fcntl(a, F_SETFL, O_NONBLOCK) == 0);
        while (sley_sendto(a, "x", 1, 0, &there.any, there_bytes, SLEY_NOW) == 1)
            n++;
        EXPECT(n > 0 && sley_sendto(a, "x", 1, 0, &there.any, there_bytes, SLEY_NOW) == -ETIMEDOUT);
        EXPECT(sley_sendto(a, "x", 1, 0, &there.any, there_bytes, sley_after(3 * SLEY_MS)) == -ETIMEDOUT);
        io_call_start(&c);
        for (int i = 0; i <= n; i++)
            EXPECT(sley_recv(b, &byte, 1, 0, SLEY_FOREVER) == 1);
        EXPECT(io_call_result(&c) == 1 && sley_recv(b, &byte, 1, 0, SLEY_NOW) == -ETIMEDOUT);
        while (sley_sendto(a, "x", 1, 0, &there.any, there_bytes, SLEY_NOW) == 1)
            ;
        io_call_start(&c);
        EXPECT(sley_close(a) == 0 && io_call_result(&c) == -EBADF && sley_close(b) == 0);
    }
}

/* Many send to one receiver, which is full most of the time: each message arrives, as it was sent. */
enum { SENDERS = 4, SENDS = 200, MESSAGE = 100 };

static struct { int connected[SENDERS], loose; union address there; socklen_t there_bytes; } crowd;

static int send_many(void *arg)
{
    int number = *(int *)arg;
    unsigned char buf[MESSAGE];
    struct iovec v = { buf, sizeof buf };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

    for (int i = 0; i < SENDS; i++) {
        int n = 0;

        memset(buf, number, sizeof buf);
        switch (i % 3) {
        case 0: n = sley_send(crowd.connected[number], buf, sizeof buf, 0, SLEY_FOREVER); break;
        case 1: n = sley_sendmsg(crowd.connected[number], &m, 0, SLEY_FOREVER); break;
        case 2: n = sley_sendto(crowd.loose, buf, sizeof buf, 0, &crowd.there.any, crowd.there_bytes, SLEY_FOREVER); break;
        }
        EXPECT(n == MESSAGE);
    }
    return 0;
}

SCENARIO(no_message_to_a_full_receiver_is_lost)
{
    struct actor senders[SENDERS];
    int numbers[SENDERS], came[SENDERS] = { 0 }, b = bound(AF_UNIX, SOCK_DGRAM, &crowd.there, &crowd.there_bytes);
    unsigned char buf[MESSAGE + 1];

    crowd.loose = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < SENDERS; i++) {
        numbers[i] = i;
        crowd.connected[i] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        EXPECT(connect(crowd.connected[i], &crowd.there.any, crowd.there_bytes) == 0);
        actor_start(&senders[i], send_many, &numbers[i]);
    }
    for (int i = 0; i < SENDERS * SENDS; i++) {
        int n = sley_recv(b, buf, sizeof buf, 0, SLEY_FOREVER);

        EXPECT(n == MESSAGE && buf[0] < SENDERS && memcmp(buf, buf + 1, MESSAGE - 1) == 0);
        if (n == MESSAGE && buf[0] < SENDERS)
            came[buf[0]]++;
    }
    for (int i = 0; i < SENDERS; i++) {
        EXPECT(actor_result(&senders[i]) == 0 && came[i] == SENDS);
        EXPECT(sley_close(crowd.connected[i]) == 0);
    }
    EXPECT(sley_recv(b, buf, sizeof buf, 0, SLEY_NOW) == -ETIMEDOUT && sley_close(b) == 0 && sley_close(crowd.loose) == 0);
}

/* --- messages of several parts ---------------------------------------------------------------------------------------------- */

static int send_parts(int fd, const char *first, const char *second, int flags)
{
    struct iovec v[2] = { { (void *)first, strlen(first) }, { (void *)second, strlen(second) } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

    return sley_sendmsg(fd, &m, flags, SLEY_FOREVER);
}

SCENARIO(a_sequence_keeps_the_bounds_of_its_messages)
{
    char x[3], y[4];
    struct iovec v[2] = { { x, 3 }, { y, 4 } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 }, before = m;
    int sv[2];

    make_pair(sv, SOCK_SEQPACKET);
    EXPECT(sley_recvmsg(sv[1], &m, 0, SLEY_NOW) == -ETIMEDOUT && sley_recvmsg(sv[1], &m, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(m.msg_iov == before.msg_iov && m.msg_iovlen == before.msg_iovlen && m.msg_namelen == before.msg_namelen &&
           m.msg_controllen == before.msg_controllen && m.msg_flags == before.msg_flags);
    EXPECT(send_parts(sv[0], "ab", "cde", 0) == 5 && send_parts(sv[0], "0123", "456789", MSG_EOR) == 10);
    EXPECT(sley_recvmsg(sv[1], &m, MSG_PEEK, SLEY_FOREVER) == 5 && sley_recvmsg(sv[1], &m, 0, SLEY_FOREVER) == 5);
    EXPECT(memcmp(x, "abc", 3) == 0 && memcmp(y, "de", 2) == 0 && !(m.msg_flags & (MSG_TRUNC | MSG_CMSG_CLOEXEC)));
    EXPECT(sley_recvmsg(sv[1], &m, MSG_WAITALL, SLEY_FOREVER) == 7 && m.msg_flags & MSG_TRUNC && memcmp(y, "3456", 4) == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_recvmsg(sv[1], &m, 0, SLEY_FOREVER) == 0);
    EXPECT(send_parts(sv[1], "a", "b", 0) == -EPIPE && sley_close(sv[1]) == 0);
}

static int call_send_pieces(struct io_call *c)
{
    for (size_t at = 0; at < c->bytes; at += 7) {
        size_t piece = c->bytes - at < 7 ? c->bytes - at : 7;

        if (sley_send_all(c->fd, (char *)c->buf + at, piece, 0, SLEY_FOREVER) < 0)
            return -EIO;
        give_way();
    }
    return 0;
}

SCENARIO(waitall_fills_every_buffer_of_a_stream)
{
    static unsigned char out[3000], in[3000];
    struct iovec v[4] = { { in, 1 }, { in + 1, 0 }, { in + 1, 1000 }, { in + 1001, 1999 } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 4 };
    struct io_call c = { .call = call_send_pieces, .buf = out, .bytes = sizeof out };
    union address from;
    socklen_t from_bytes = sizeof from;
    int sv[2];

    fill_pattern(out, sizeof out, 0);
    memset(in, 0, sizeof in);
    make_tcp_pair(sv);
    c.fd = sv[0];
    actor_start(&c.actor, io_call_main, &c);
    EXPECT(sley_recvmsg(sv[1], &m, MSG_WAITALL, SLEY_FOREVER) == sizeof in && memcmp(in, out, sizeof in) == 0);
    EXPECT(io_call_result(&c) == 0);
    actor_start(&c.actor, io_call_main, &c);
    EXPECT(sley_recvfrom(sv[1], in, sizeof in, MSG_WAITALL, &from.any, &from_bytes, SLEY_FOREVER) == sizeof in);
    EXPECT(io_call_result(&c) == 0 && memcmp(in, out, sizeof in) == 0);

    EXPECT(sley_send_all(sv[0], out, 100, 0, SLEY_FOREVER) == 0); /* what has come before the end of its time, and before the end */
    m = (struct msghdr){ .msg_iov = v, .msg_iovlen = 4 };
    EXPECT(sley_recvmsg(sv[1], &m, MSG_WAITALL, sley_after(20 * SLEY_MS)) == 100);
    EXPECT(sley_send_all(sv[0], out, 100, 0, SLEY_FOREVER) == 0 && sley_close(sv[0]) == 0);
    EXPECT(sley_recvmsg(sv[1], &m, MSG_WAITALL, SLEY_FOREVER) == 100 && sley_recvmsg(sv[1], &m, MSG_WAITALL, SLEY_FOREVER) == 0);
    EXPECT(sley_close(sv[1]) == 0);
}

/* --- descriptors ------------------------------------------------------------------------------------------------------------ */

enum { FDS_MAX = 20 };

struct control {
    _Alignas(struct cmsghdr) char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

static int send_fds(int fd, const int *fds, size_t n, const char *text)
{
    struct control control;
    struct iovec v = { (void *)text, strlen(text) };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

    memset(&control, 0, sizeof control);
    CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
    CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
    CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, n * sizeof(int));
    return sley_sendmsg(fd, &m, 0, SLEY_FOREVER);
}

/* How many descriptors came with it; into fds. */
static int fds_of(struct msghdr *m, int *fds)
{
    int n = 0;

    for (struct cmsghdr *one = CMSG_FIRSTHDR(m); one != NULL; one = CMSG_NXTHDR(m, one)) {
        size_t bytes = one->cmsg_len - CMSG_LEN(0);

        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_RIGHTS) {
            memcpy(fds + n, CMSG_DATA(one), bytes);
            n += (int)(bytes / sizeof(int));
        }
    }
    return n;
}

struct fds_call {
    struct io_call call;
    struct control control;
    struct iovec v;
    struct msghdr m;
    char text[16];
};

static int call_recvmsg(struct io_call *c)
{
    struct fds_call *f = (struct fds_call *)(void *)c;

    f->v = (struct iovec){ f->text, sizeof f->text };
    f->m = (struct msghdr){ .msg_iov = &f->v, .msg_iovlen = 1, .msg_control = f->control.bytes, .msg_controllen = sizeof f->control };
    return sley_recvmsg(c->fd, &f->m, c->flags, c->deadline);
}

static void descriptors_over(int type)
{
    struct fds_call f = { .call = { .call = call_recvmsg } };
    int sv[2], p[2], fds[FDS_MAX], got[FDS_MAX] = { 0 };
    char byte;

    make_pair(sv, type);
    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    for (int i = 0; i < FDS_MAX; i++)
        fds[i] = p[1];
    f.call.fd = sv[1];
    for (int waits = 0; waits < 2; waits++)
        for (int n = 1; n <= FDS_MAX; n += 19) {
            if (waits)
                io_call_start(&f.call);
            EXPECT(send_fds(sv[0], fds, (size_t)n, "with") == 4);
            f.call.deadline = SLEY_FOREVER;
            EXPECT((waits ? io_call_result(&f.call) : call_recvmsg(&f.call)) == 4 && memcmp(f.text, "with", 4) == 0);
            EXPECT(fds_of(&f.m, got) == n && !(f.m.msg_flags & (MSG_CTRUNC | MSG_CMSG_CLOEXEC)));
            for (int i = 0; i < n; i++) {
                EXPECT(fcntl(got[i], F_GETFD) & FD_CLOEXEC && sley_write(got[i], "x", 1, SLEY_FOREVER) == 1);
                EXPECT(sley_read(p[0], &byte, 1, SLEY_FOREVER) == 1 && sley_close(got[i]) == 0);
            }
        }
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
}

SCENARIO(descriptors_come_with_messages)
{
    int before = count_descriptors();

    descriptors_over(SOCK_STREAM);
    descriptors_over(SOCK_DGRAM);
    descriptors_over(SOCK_SEQPACKET);
    EXPECT(count_descriptors() == before);
}

/* Does recvmsg(2) say that there was no room for some? qemu-user does not. */
static int tells_of_no_room(void)
{
    char byte;
    struct control control;
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(sizeof(int)) };
    int sv[2], fds[3], got[FDS_MAX];

    make_pair(sv, SOCK_SEQPACKET);
    fds[0] = fds[1] = fds[2] = sv[0];
    EXPECT(send_fds(sv[0], fds, 3, "x") == 1 && recvmsg(sv[1], &m, 0) == 1);
    for (int n = fds_of(&m, got); n > 0; n--)
        EXPECT(close(got[n - 1]) == 0);
    EXPECT(close(sv[0]) == 0 && close(sv[1]) == 0);
    return m.msg_flags & MSG_CTRUNC;
}

/* There is room for one, or for none: the kernel closes the others, and says so. */
SCENARIO(descriptors_without_room_are_not_left_over)
{
    int before, sv[2], fds[3], got[FDS_MAX];
    char text[8];
    struct control control;
    struct iovec v = { text, sizeof text };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_SPACE(sizeof(int)) };

    if (!tells_of_no_room())
        return;
    before = count_descriptors();
    make_pair(sv, SOCK_SEQPACKET);
    fds[0] = fds[1] = fds[2] = sv[0];
    EXPECT(send_fds(sv[0], fds, 3, "three") == 5);
    EXPECT(sley_recvmsg(sv[1], &m, 0, SLEY_FOREVER) == 5 && m.msg_flags & MSG_CTRUNC);
    for (int n = fds_of(&m, got); n > 0; n--) /* one or two, by alignment */
        EXPECT(sley_close(got[n - 1]) == 0);
    m = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1 };
    EXPECT(send_fds(sv[0], fds, 3, "three") == 5);
    EXPECT(sley_recvmsg(sv[1], &m, 0, SLEY_FOREVER) == 5 && m.msg_flags & MSG_CTRUNC && m.msg_controllen == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0 && count_descriptors() == before);
}

/* MSG_WAITALL does not run past the bytes that descriptors belong to, so none is received without room for it. */
SCENARIO(waitall_stops_where_descriptors_come)
{
    int before = count_descriptors(), sv[2], got[FDS_MAX];
    struct fds_call f = { .call = { .call = call_recvmsg, .flags = MSG_WAITALL, .deadline = SLEY_FOREVER } };

    make_pair(sv, SOCK_STREAM);
    f.call.fd = sv[1];
    EXPECT(sley_send_all(sv[0], "plain", 5, 0, SLEY_FOREVER) == 0);
    EXPECT(send_fds(sv[0], &sv[0], 1, "first") == 5 && send_fds(sv[0], &sv[1], 1, "later") == 5);
    EXPECT(call_recvmsg(&f.call) == 10 && memcmp(f.text, "plainfirst", 10) == 0 && fds_of(&f.m, got) == 1);
    EXPECT(sley_close(got[0]) == 0);
    f.call.deadline = sley_after(20 * SLEY_MS);
    EXPECT(call_recvmsg(&f.call) == 5 && memcmp(f.text, "later", 5) == 0 && fds_of(&f.m, got) == 1);
    EXPECT(sley_close(got[0]) == 0 && sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    EXPECT(count_descriptors() == before);
}

/* A received number is a new descriptor, whatever the library remembers of the one that had it before. */
SCENARIO(a_received_descriptor_is_a_new_one)
{
    struct fds_call f = { .call = { .call = call_recvmsg, .deadline = SLEY_FOREVER } };
    int sv[2], pair[2], fd = make_file("passed", "file", 4), old, got[FDS_MAX];
    char buf[4];

    make_pair(sv, SOCK_STREAM);
    make_pair(pair, SOCK_STREAM);
    f.call.fd = sv[1];
    old = dup(pair[0]);
    EXPECT(sley_send(old, "x", 1, 0, SLEY_FOREVER) == 1 && sley_fd_wait(old, POLLIN, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(send_fds(sv[0], &fd, 1, "fd") == 2 && close(old) == 0); /* behind the library's back */
    EXPECT(call_recvmsg(&f.call) == 2 && fds_of(&f.m, got) == 1 && got[0] == old);
    EXPECT(sley_read(got[0], buf, 4, SLEY_FOREVER) == 4 && memcmp(buf, "file", 4) == 0 && sley_close(got[0]) == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0 && sley_close(pair[0]) == 0 && sley_close(pair[1]) == 0);
    EXPECT(sley_close(fd) == 0);
}

SCENARIO(credentials_come_with_messages)
{
    int sv[2], on = 1;
    struct fds_call f = { .call = { .call = call_recvmsg, .deadline = SLEY_FOREVER } };
    struct ucred who = { 0 };
    struct cmsghdr *one;

    make_pair(sv, SOCK_STREAM);
    f.call.fd = sv[1];
    EXPECT(setsockopt(sv[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 && send_parts(sv[0], "a", "b", 0) == 2);
    EXPECT(call_recvmsg(&f.call) == 2);
    one = CMSG_FIRSTHDR(&f.m);
    EXPECT(one != NULL && one->cmsg_type == SCM_CREDENTIALS);
    memcpy(&who, CMSG_DATA(one), sizeof who);
    EXPECT(who.pid == getpid() && who.uid == getuid());
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

/* --- errors ----------------------------------------------------------------------------------------------------------------- */

SCENARIO(what_is_wrong_with_a_message_is_told)
{
    char buf[8];
    union address a;
    socklen_t bytes = sizeof a;
    struct iovec v = { buf, sizeof buf };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 }, many = { .msg_iov = &v, .msg_iovlen = IOV_MAX + 1 };
    int sv[2], fd = make_file("no socket", "x", 1), udp = bound(AF_INET, SOCK_DGRAM, &a, &bytes);
    static char big[100000];

    make_pair(sv, SOCK_STREAM);
    EXPECT(sley_recvmsg(fd, &m, 0, SLEY_FOREVER) == -ENOTSOCK && sley_sendmsg(fd, &m, 0, SLEY_FOREVER) == -ENOTSOCK);
    EXPECT(sley_recvfrom(fd, buf, 8, 0, &a.any, &bytes, SLEY_FOREVER) == -ENOTSOCK);
    EXPECT(sley_recvmsg(sv[0], NULL, 0, SLEY_FOREVER) == -EFAULT && sley_sendmsg(sv[0], NULL, 0, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_recvfrom(sv[0], buf, 8, 0, &a.any, NULL, SLEY_FOREVER) == -EFAULT);
    EXPECT(sley_sendmsg(sv[0], &many, 0, SLEY_FOREVER) == -EMSGSIZE && sley_recvmsg(sv[0], &many, 0, SLEY_FOREVER) == -EMSGSIZE);
    EXPECT(sley_sendto(udp, buf, 8, 0, NULL, 0, SLEY_FOREVER) == -EDESTADDRREQ);
    EXPECT(sley_sendto(udp, big, sizeof big, 0, &a.any, sizeof a.v4, SLEY_FOREVER) == -EMSGSIZE);
    EXPECT(sley_sendto(udp, buf, 8, 0, &a.any, 3, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_recvmsg(sv[0], &m, 0, SLEY_S) == -EINVAL && sley_sendmsg(sv[0], &m, 0, SLEY_S) == -EINVAL);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0 && sley_close(fd) == 0 && sley_close(udp) == 0);
    EXPECT(sley_recvmsg(udp, &m, 0, SLEY_FOREVER) == -EBADF && sley_sendmsg(udp, &m, 0, SLEY_FOREVER) == -EBADF);
}

/* Nobody listens at the port: the error queue of the sender tells. */
SCENARIO(the_error_queue_is_waited_for)
{
    struct fds_call f = { .call = { .call = call_recvmsg, .flags = MSG_ERRQUEUE } };
    union address here, gone;
    socklen_t bytes;
    struct cmsghdr *one;
    struct sock_extended_err error;
    int a = bound(AF_INET, SOCK_DGRAM, &here, &bytes), b = bound(AF_INET, SOCK_DGRAM, &gone, &bytes), on = 1;

    EXPECT(setsockopt(a, IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0 && close(b) == 0);
    f.call.fd = a;
    io_call_start(&f.call);
    EXPECT(sendto(a, "x", 1, 0, &gone.any, sizeof gone.v4) == 1);
    EXPECT(io_call_result(&f.call) == 1 && f.m.msg_flags & MSG_ERRQUEUE);
    one = CMSG_FIRSTHDR(&f.m);
    EXPECT(one != NULL);
    memcpy(&error, CMSG_DATA(one), sizeof error);
    EXPECT(error.ee_errno == ECONNREFUSED);
    f.call.deadline = SLEY_NOW;
    EXPECT(call_recvmsg(&f.call) == -ETIMEDOUT && sley_close(a) == 0);
}

SCENARIO(close_ends_calls_on_messages)
{
    char buf[8];
    int sv[2];
    struct waiting w = { .call = { .call = call_recvfrom, .buf = buf, .bytes = sizeof buf }, .from_bytes = sizeof w.from };
    struct fds_call f = { .call = { .call = call_recvmsg } };

    make_pair(sv, SOCK_SEQPACKET);
    w.call.fd = f.call.fd = sv[0];
    io_call_start(&w.call);
    io_call_start(&f.call);
    EXPECT(sley_close(sv[0]) == 0 && io_call_result(&w.call) == -EBADF && io_call_result(&f.call) == -EBADF);
    EXPECT(sley_close(sv[1]) == 0);
}

/* --- byte for byte ---------------------------------------------------------------------------------------------------------- */

enum { STREAM_BYTES = 1 << 21 };

static int send_stream(struct io_call *c)
{
    static unsigned char chunk[40000];
    uint64_t random = 21;

    for (size_t sent = 0; sent < STREAM_BYTES;) {
        size_t bytes = 1 + below(&random, sizeof chunk), half;
        struct iovec v[2];
        struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
        int n;

        if (bytes > STREAM_BYTES - sent)
            bytes = STREAM_BYTES - sent;
        half = below(&random, (uint32_t)bytes + 1);
        fill_pattern(chunk, bytes, sent);
        v[0] = (struct iovec){ chunk, half };
        v[1] = (struct iovec){ chunk + half, bytes - half };
        n = sley_sendmsg(c->fd, &m, 0, below(&random, 8) == 0 ? sley_after(SLEY_US) : SLEY_FOREVER);
        if (n < 0 && n != -ETIMEDOUT)
            return n;
        sent += n > 0 ? (size_t)n : 0;
    }
    return sley_close(c->fd);
}

SCENARIO(streams_of_messages_are_byte_exact)
{
    static unsigned char a[30000], b[30000];
    uint64_t random = 22;
    int sv[2];

    for (int i = 0; i < 2; i++) {
        struct io_call c = { .call = send_stream };
        size_t got = 0;
        int n;

        if (i == 0)
            make_tcp_pair(sv);
        else
            make_pair(sv, SOCK_STREAM);
        c.fd = sv[0];
        actor_start(&c.actor, io_call_main, &c);
        do {
            struct iovec v[2] = { { a, 1 + below(&random, sizeof a) }, { b, below(&random, sizeof b) } };
            struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
            size_t first;

            n = sley_recvmsg(sv[1], &m, below(&random, 4) == 0 ? MSG_WAITALL : 0,
                             below(&random, 8) == 0 ? sley_after((sley_time)below(&random, 20000)) : SLEY_FOREVER);
            if (n == -ETIMEDOUT)
                continue;
            first = n > 0 && (size_t)n > v[0].iov_len ? v[0].iov_len : n > 0 ? (size_t)n : 0;
            EXPECT(n >= 0 && is_pattern(a, first, got) && (n <= 0 || is_pattern(b, (size_t)n - first, got + first)));
            got += n > 0 ? (size_t)n : 0;
        } while (n > 0 || n == -ETIMEDOUT);
        EXPECT(got == STREAM_BYTES && io_call_result(&c) == 0 && sley_close(sv[1]) == 0);
    }
}

/* --- addresses as text ------------------------------------------------------------------------------------------------------ */

SCENARIO(sockets_tell_their_addresses_as_text)
{
    char text[SLEY_NET_TEXT_BYTES], peer[SLEY_NET_TEXT_BYTES], address[200];
    int pair[2], listener, dialled, accepted, raw;

    snprintf(address, sizeof address, "unix:@sley-test-text-%d", getpid());
    for (const char **at = (const char *[]){ "127.0.0.1:0", "[::1]:0", address, NULL }; *at != NULL; at++) {
        listener = sley_net_listen(*at, NULL);
        if (listener == -EADDRNOTAVAIL || listener == -EAFNOSUPPORT)
            continue; /* a machine without v6 */
        EXPECT(sley_net_local(listener, text, sizeof text) == 0 && strncmp(text, *at, strlen(*at) - 1) == 0);
        EXPECT(sley_net_peer(listener, peer, sizeof peer) == -ENOTCONN);
        dialled = sley_net_dial(text, SLEY_FOREVER); /* what it says is what one dials */
        accepted = sley_accept(listener, NULL, NULL, SLEY_FOREVER);
        EXPECT(dialled >= 0 && accepted >= 0 && sley_net_peer(dialled, peer, sizeof peer) == 0 && strcmp(text, peer) == 0);
        EXPECT(sley_net_local(dialled, text, sizeof text) == 0 && sley_net_peer(accepted, peer, sizeof peer) == 0);
        EXPECT(strcmp(text, peer) == 0);
        EXPECT(sley_net_local(accepted, text, 5) == -ERANGE);
        EXPECT(sley_close(listener) == 0 && sley_close(dialled) == 0 && sley_close(accepted) == 0);
    }
    snprintf(address, sizeof address, "unix:%s", temp_path("named"));
    listener = sley_net_listen(address, NULL);
    EXPECT(sley_net_local(listener, text, sizeof text) == 0 && strcmp(text, address) == 0);
    EXPECT(sley_net_local(listener, text, strlen(address)) == -ERANGE && sley_net_local(listener, text, strlen(address) + 1) == 0);
    EXPECT(sley_close(listener) == 0 && unlink(temp_path("named")) == 0);

    make_pair(pair, SOCK_STREAM);
    EXPECT(sley_net_local(pair[0], text, sizeof text) == 0 && strcmp(text, "unix:") == 0);
    EXPECT(sley_net_peer(pair[0], text, sizeof text) == 0 && strcmp(text, "unix:") == 0);
    EXPECT(sley_close(pair[0]) == 0 && sley_close(pair[1]) == 0 && sley_net_local(pair[0], text, sizeof text) == -EBADF);
    raw = open("/dev/null", O_RDONLY | O_CLOEXEC);
    EXPECT(sley_net_local(raw, text, sizeof text) == -ENOTSOCK && close(raw) == 0);
    raw = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
    EXPECT(raw < 0 || (sley_net_local(raw, text, sizeof text) == -EAFNOSUPPORT && close(raw) == 0));
}

SCENARIO(an_address_may_name_its_interface)
{
    char text[SLEY_NET_TEXT_BYTES];
    int fd = sley_net_listen("[::1%lo]:0", NULL);

    if (fd >= 0) {
        EXPECT(sley_net_local(fd, text, sizeof text) == 0 && strncmp(text, "[::1", 4) == 0 && sley_close(fd) == 0);
        fd = sley_net_listen("[::1%1]:0", NULL);
        EXPECT(fd >= 0 && sley_close(fd) == 0);
    }
    EXPECT(sley_net_listen("[::1%no-such-one]:0", NULL) == -EINVAL && sley_net_listen("[::1%]:0", NULL) == -EINVAL);
    EXPECT(sley_net_listen("[::1%aninterfacewithanamethatismuchtoolongforone]:0", NULL) == -EINVAL);
}

SCENARIO(names_that_are_no_text_are_told)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    char text[SLEY_NET_TEXT_BYTES];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(a.sun_path, "\0with\0nul", 9);
    snprintf(a.sun_path + 9, 20, "%d", getpid());
    EXPECT(bind(fd, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 20) == 0);
    EXPECT(sley_net_local(fd, text, sizeof text) == -EINVAL && close(fd) == 0);

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* as long as there is room for, without a NUL */
    memset(a.sun_path, 'x', sizeof a.sun_path);
    a.sun_path[0] = '\0';
    EXPECT(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && sley_net_local(fd, text, sizeof text) == 0);
    EXPECT(strlen(text) == 5 + sizeof a.sun_path && memcmp(text, "unix:@x", 7) == 0 && close(fd) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(datagrams_keep_their_bounds_and_tell_where_they_are_from),
        PLAYED(a_datagram_wakes_its_receiver),
        PLAYED(a_full_receiver_makes_its_sender_wait),
        PLAYED(no_message_to_a_full_receiver_is_lost),
        PLAYED(a_sequence_keeps_the_bounds_of_its_messages),
        PLAYED(waitall_fills_every_buffer_of_a_stream),
        PLAYED(descriptors_come_with_messages),
        PLAYED(descriptors_without_room_are_not_left_over),
        PLAYED(waitall_stops_where_descriptors_come),
        PLAYED(a_received_descriptor_is_a_new_one),
        PLAYED(credentials_come_with_messages),
        PLAYED(what_is_wrong_with_a_message_is_told),
        PLAYED(the_error_queue_is_waited_for),
        PLAYED(close_ends_calls_on_messages),
        PLAYED(streams_of_messages_are_byte_exact),
        PLAYED(sockets_tell_their_addresses_as_text),
        PLAYED(an_address_may_name_its_interface),
        PLAYED(names_that_are_no_text_are_told),
    };

    signal(SIGPIPE, SIG_IGN); /* plain threads get it; workers block it */
    return cmocka_run_group_tests_name("net_message", tests, make_temp_dir, remove_temp_dir);
}
