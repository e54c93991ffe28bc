/* Unit tests of sends with MSG_ZEROCOPY (src/io/zerocopy.c): what arrives is what was in the memory when it was handed over, although the
 * memory is another's as soon as the call has returned, however it did. Where nothing can be sent without a copy (plain threads, the epoll
 * backend, SLEY_DISABLE) the same holds, and less is waited for. */
#include "io_scenario.h"

#include <linux/capability.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { BIG_BYTES = 4 << 20, PIECE_BYTES = 64 << 10, ENDLESS_BYTES = 2 << 20, TRIES = 50 };

#define CUT_NS (500 * SLEY_MS) /* far more than a call needs to begin */

static unsigned char memory[6 << 20], received[1 << 20];

/* Whether the caller's calls send without a copy: the kernel can, and this user may pin as much memory as that takes. */
static int is_zerocopy(unsigned op)
{
    struct sl_worker *w = sl_worker_here();
    struct rlimit limit;

    return w != NULL && sl_ring_knows(&w->ring, op) && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
           (limit.rlim_cur >= sizeof memory || geteuid() == 0);
}

/* --- both ends --------------------------------------------------------------------------------------------------------------- */

/* Neither end takes more than some hundred kilobytes that are not read. */
static void make_narrow_pair(int sv[2])
{
    int few = 1 << 16;

    make_tcp_pair(sv);
    EXPECT(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &few, sizeof few) == 0);
    EXPECT(setsockopt(sv[1], SOL_SOCKET, SO_RCVBUF, &few, sizeof few) == 0);
}

static void set_nonblocking(int fd) { EXPECT(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0); }

static int call_send(struct io_call *c) { return sley_send(c->fd, c->buf, c->bytes, c->flags, c->deadline); }

/* In pieces of several lengths, each in two buffers. */
static int call_sendmsg_all(struct io_call *c)
{
    size_t done = 0;
    int n = 0;

    while (done < c->bytes) {
        size_t bytes = c->bytes - done < PIECE_BYTES + done % 1000 ? c->bytes - done : PIECE_BYTES + done % 1000;
        struct iovec v[2] = { { (char *)c->buf + done, bytes / 3 }, { (char *)c->buf + done + bytes / 3, bytes - bytes / 3 } };
        struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

        if ((n = sley_sendmsg(c->fd, &m, c->flags, c->deadline)) < 0)
            return n;
        done += (size_t)n;
    }
    return 0;
}

static int call_send_pieces(struct io_call *c)
{
    unsigned char piece[24 << 10]; /* on the stack, and filled anew at once */
    size_t done = 0;
    int n;

    while (done < c->bytes) {
        size_t bytes = c->bytes - done < sizeof piece ? c->bytes - done : sizeof piece;

        memcpy(piece, (char *)c->buf + done, bytes);
        n = sley_send(c->fd, piece, bytes, c->flags, c->deadline);
        memset(piece, 0xee, sizeof piece);
        if (n < 0)
            return n;
        done += (size_t)n;
    }
    return 0;
}

/* The memory is the caller's again: it becomes something else. */
static int then_overwrite(struct io_call *c, int rc)
{
    memset(c->buf, 0xee, c->bytes);
    return rc;
}

static int call_send_once(struct io_call *c) { return then_overwrite(c, call_send(c)); }
static int call_send_until_cut(struct io_call *c)
{
    c->deadline = sley_after(CUT_NS);
    return call_send_once(c);
}

static int call_send_whole(struct io_call *c) { return then_overwrite(c, call_send_all(c)); }
static int call_send_message(struct io_call *c)
{
    struct iovec v[2] = { { c->buf, 1000 }, { (char *)c->buf + 1000, c->bytes - 1000 } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

    return then_overwrite(c, sley_sendmsg(c->fd, &m, c->flags, c->deadline));
}

static int call_send_messages(struct io_call *c) { return then_overwrite(c, call_sendmsg_all(c)); }

static int call_send_whole_until_cut(struct io_call *c)
{
    c->deadline = sley_after(CUT_NS);
    return call_send_whole(c);
}

/* Read what comes, in pieces of uneven length with others' turns between them, until the end, an error or max bytes; the pattern goes on
 * from *at. 0: the end; 1: max; -errno. */
static int read_slowly(int fd, size_t *at, size_t max)
{
    unsigned char buf[5003];
    int n;

    while (max > 0) {
        n = sley_read(fd, buf, max < sizeof buf ? max : sizeof buf, SLEY_FOREVER);
        if (n <= 0)
            return n;
        EXPECT(is_pattern(buf, (size_t)n, *at));
        *at += (size_t)n;
        max -= (size_t)n;
        if (*at % 7 == 0)
            give_way();
    }
    return 1;
}

/* The sender's actor waits for nothing but the end of its zero-copy send: 1; 0: it has ended. */
static int waits_for_notice(struct io_call *c)
{
    while (!c->actor.done) {
        struct sl_fiber *f = c->actor.block;

        if (f != NULL && SL_WORD_STATE(sl_load_acquire(&f->word)) == SL_WAITING && sl_load_relaxed(&f->wait_kind) == SL_WAIT_NOTICE)
            return 1;
        give_way();
    }
    return 0;
}

static void start(struct io_call *c)
{
    if (c->deadline == 0)
        c->deadline = SLEY_FOREVER;
    c->flags |= MSG_ZEROCOPY;
    fill_pattern(c->buf, c->bytes, 0);
    actor_start(&c->actor, io_call_main, c);
}

/* --- what arrives ------------------------------------------------------------------------------------------------------------ */

static void arrives_exactly(int (*call)(struct io_call *), size_t bytes, int nonblocking)
{
    struct io_call c = { .call = call, .buf = memory, .bytes = bytes };
    size_t at = 0;
    int sv[2];

    make_narrow_pair(sv);
    if (nonblocking)
        set_nonblocking(sv[0]);
    c.fd = sv[0];
    start(&c);
    EXPECT(read_slowly(sv[1], &at, bytes) == 1);
    EXPECT(io_call_result(&c) == 0 && sley_close(sv[0]) == 0);
    EXPECT(read_slowly(sv[1], &at, 1) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(send_all_arrives_as_it_was_although_the_memory_is_overwritten) { arrives_exactly(call_send_whole, BIG_BYTES, 0); }
SCENARIO(send_all_on_a_nonblocking_socket_arrives_as_it_was) { arrives_exactly(call_send_whole, BIG_BYTES, 1); }
SCENARIO(messages_of_several_buffers_arrive_as_they_were) { arrives_exactly(call_send_messages, BIG_BYTES / 2, 0); }
SCENARIO(pieces_on_the_stack_arrive_as_they_were) { arrives_exactly(call_send_pieces, BIG_BYTES / 8, 0); }

static int pieces_on_a_big_stack(void *arg) { return call_send_pieces(arg); }
static int call_on_big_stack(struct io_call *c) { return sley_on_big_stack(pieces_on_a_big_stack, c, 1 << 20); }

SCENARIO(a_send_on_a_big_stack_finds_its_fiber) { arrives_exactly(call_on_big_stack, BIG_BYTES / 8, 0); }

SCENARIO(many_send_at_once)
{
    enum { MANY = 6, BYTES = 1 << 20 };
    struct io_call c[MANY];
    int sv[MANY][2];

    for (int i = 0; i < MANY; i++) {
        c[i] = (struct io_call){ .call = i % 2 == 0 ? call_send_whole : call_send_messages, .buf = memory + i * BYTES, .bytes = BYTES };
        make_tcp_pair(sv[i]);
        c[i].fd = sv[i][0];
        start(&c[i]);
    }
    for (int i = MANY - 1; i >= 0; i--) {
        size_t at = 0;

        EXPECT(read_slowly(sv[i][1], &at, BYTES) == 1);
    }
    for (int i = 0; i < MANY; i++)
        EXPECT(io_call_result(&c[i]) == 0 && sley_close(sv[i][0]) == 0 && sley_close(sv[i][1]) == 0);
}

/* --- where the bytes are copied ---------------------------------------------------------------------------------------------- */

SCENARIO(a_unix_socket_copies)
{
    struct io_call c = { .call = call_send_whole, .buf = memory, .bytes = 1 << 20 };
    size_t at = 0;
    int sv[2];

    make_pair(sv, SOCK_STREAM);
    c.fd = sv[0];
    start(&c);
    EXPECT(read_slowly(sv[1], &at, c.bytes) == 1 && io_call_result(&c) == 0);
    c.call = call_send_messages;
    at = 0;
    start(&c);
    EXPECT(read_slowly(sv[1], &at, c.bytes) == 1 && io_call_result(&c) == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);

    make_pair(sv, SOCK_DGRAM);
    fill_pattern(memory, PIECE_BYTES, 0);
    EXPECT(sley_send(sv[0], memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_FOREVER) == PIECE_BYTES);
    memset(memory, 0xee, PIECE_BYTES);
    EXPECT(sley_recv(sv[1], received, sizeof received, 0, SLEY_FOREVER) == PIECE_BYTES && is_pattern(received, PIECE_BYTES, 0));
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(a_datagram_over_udp_is_copied)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof a;
    int in = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    EXPECT(bind(in, (struct sockaddr *)&a, bytes) == 0 && getsockname(in, (struct sockaddr *)&a, &bytes) == 0);
    fill_pattern(memory, 30000, 0);
    EXPECT(sley_sendto(out, memory, 30000, MSG_ZEROCOPY, (struct sockaddr *)&a, bytes, SLEY_FOREVER) == 30000);
    EXPECT(connect(out, (struct sockaddr *)&a, bytes) == 0);
    EXPECT(sley_send(out, memory, 30000, MSG_ZEROCOPY, SLEY_FOREVER) == 30000);
    memset(memory, 0xee, 30000);
    for (int i = 0; i < 2; i++)
        EXPECT(sley_recv(in, received, sizeof received, 0, SLEY_FOREVER) == 30000 && is_pattern(received, 30000, 0));
    EXPECT(sley_close(in) == 0 && sley_close(out) == 0);
}

SCENARIO(what_may_not_wait_waits_for_no_peer)
{
    int sv[2], n, times = 0;

    make_narrow_pair(sv);
    fill_pattern(memory, PIECE_BYTES, 0);
    while ((n = sley_send(sv[0], memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_NOW)) > 0) /* beyond what the peer takes without reading */
        times++;
    EXPECT(times > 0 && n == -ETIMEDOUT);
    EXPECT(sley_send(sv[0], memory, PIECE_BYTES, MSG_ZEROCOPY | MSG_DONTWAIT, SLEY_FOREVER) == -EAGAIN);
    EXPECT(sley_send_all(sv[0], memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(few_bytes_are_copied)
{
    int sv[2], few = 1 << 14;

    make_tcp_pair(sv);
    EXPECT(setsockopt(sv[1], SOL_SOCKET, SO_RCVBUF, &few, sizeof few) == 0);
    EXPECT(sley_send_all(sv[0], memory, 300000, 0, SLEY_FOREVER) == 0); /* more than the peer has room for */
    EXPECT(sley_send_all(sv[0], "x", 1, MSG_ZEROCOPY, SLEY_FOREVER) == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(what_is_wrong_is_told)
{
    struct iovec v = { memory, PIECE_BYTES };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    int fd = make_file("no socket", "x", 1), sv[2], fresh = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    EXPECT(sley_send(fd, memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_FOREVER) == -ENOTSOCK);
    EXPECT(sley_sendmsg(fd, &m, MSG_ZEROCOPY, SLEY_FOREVER) == -ENOTSOCK);
    EXPECT(sley_send(fresh, memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_send(-1, memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_send(fresh, memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_S) == -EINVAL);
    EXPECT(sley_sendmsg(fresh, NULL, MSG_ZEROCOPY, SLEY_FOREVER) == -EFAULT);
    make_tcp_pair(sv);
    EXPECT(sley_send_all(sv[0], memory, 0, MSG_ZEROCOPY, SLEY_FOREVER) == 0);
    EXPECT(sley_close(sv[1]) == 0);
    while (sley_send_all(sv[0], memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_FOREVER) == 0)
        ;
    EXPECT(sley_send_all(sv[0], memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(fresh) == 0 && sley_close(fd) == 0);
}

/* --- a peer that does not read: the bytes have gone into the queue, and stay there ---------------------------------------------- */

struct stuck {
    struct io_call call;
    int sv[2];
    int zerocopy;
};

/* The actor's call has taken bytes that the peer has no room for; it waits for their end, or has returned if they were copied. */
static void get_stuck(struct stuck *s, int (*call)(struct io_call *))
{
    s->call = (struct io_call){ .call = call, .buf = memory, .bytes = ENDLESS_BYTES };
    s->zerocopy = scene.cast == FIBERS && is_zerocopy(IORING_OP_SEND_ZC);
    make_narrow_pair(s->sv);
    s->call.fd = s->sv[0];
    start(&s->call);
    EXPECT(waits_for_notice(&s->call) == s->zerocopy || call == call_send_until_cut);
}

/* Nothing but what was sent has arrived, or comes still; `end`: what the peer meets then. */
static void peer_sees(int fd, size_t min, int end)
{
    size_t at = 0;

    EXPECT(read_slowly(fd, &at, SIZE_MAX) == end && at >= min);
}

SCENARIO(a_count_is_told_once_the_peer_has_read)
{
    struct stuck s;
    size_t at = 0;
    int n;

    get_stuck(&s, call_send_once);
    EXPECT(read_slowly(s.sv[1], &at, 1 << 15) == 1);
    while (s.zerocopy && !s.call.actor.done) { /* nobody knows how many there are */
        n = sley_recv(s.sv[1], received, PIECE_BYTES, MSG_DONTWAIT, SLEY_FOREVER);
        if (n > 0) {
            EXPECT(is_pattern(received, (size_t)n, at));
            at += (size_t)n;
        }
        give_way();
    }
    n = io_call_result(&s.call);
    EXPECT(n > 1 << 15 && sley_close(s.sv[0]) == 0);
    EXPECT(read_slowly(s.sv[1], &at, SIZE_MAX) == 0 && at == (size_t)n && sley_close(s.sv[1]) == 0);
}

/* Its connection is broken, and says so. */
static void is_broken(const struct stuck *s)
{
    char byte;

    EXPECT(sley_send(s->sv[0], "x", 1, 0, SLEY_FOREVER) == -ECONNRESET && sley_send(s->sv[0], "x", 1, 0, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_recv(s->sv[0], &byte, 1, 0, SLEY_FOREVER) == -ENOTCONN);
    peer_sees(s->sv[1], 0, -ECONNRESET);
    EXPECT(sley_close(s->sv[0]) == 0 && sley_close(s->sv[1]) == 0);
}

static void is_whole(const struct stuck *s, int n)
{
    EXPECT(n > 0 && sley_close(s->sv[0]) == 0);
    peer_sees(s->sv[1], (size_t)n, 0);
    EXPECT(sley_close(s->sv[1]) == 0);
}

SCENARIO(a_deadline_breaks_the_connection)
{
    struct stuck s;
    int n;

    get_stuck(&s, call_send_until_cut);
    n = io_call_result(&s.call);
    if (s.zerocopy) {
        EXPECT(n == -ETIMEDOUT);
        is_broken(&s);
    } else {
        is_whole(&s, n);
    }
}

static void cancel_breaks_the_connection(int (*call)(struct io_call *), unsigned op)
{
    struct stuck s = { .call = { .call = call, .buf = memory, .bytes = ENDLESS_BYTES } };
    sley_scope scope;

    if (scene.cast != FIBERS)
        return; /* no cancel reaches a thread that is not attached */
    s.zerocopy = is_zerocopy(op);
    make_narrow_pair(s.sv);
    s.call.fd = s.sv[0];
    sley_scope_init(&scope, SLEY_FOREVER);
    start(&s.call);
    EXPECT(waits_for_notice(&s.call) == s.zerocopy);
    sley_scope_cancel(&scope);
    EXPECT(sley_scope_wait(&scope, 0, SLEY_FOREVER) == 0);
    if (s.zerocopy) {
        EXPECT(s.call.actor.result == -ECANCELED);
        is_broken(&s);
    } else {
        is_whole(&s, s.call.actor.result);
    }
}

SCENARIO(a_cancel_breaks_the_connection) { cancel_breaks_the_connection(call_send_once, IORING_OP_SEND_ZC); }
SCENARIO(a_message_that_waits_for_its_end_is_cut) { cancel_breaks_the_connection(call_send_message, IORING_OP_SENDMSG_ZC); }

static int call_shielded(struct io_call *c)
{
    int n;

    sley_shield_begin();
    n = call_send_once(c);
    sley_shield_end();
    return n;
}

SCENARIO(a_shield_keeps_a_cancel_from_it)
{
    struct io_call c = { .call = call_shielded, .buf = memory, .bytes = ENDLESS_BYTES };
    sley_scope scope;
    size_t at = 0;
    int sv[2];

    if (scene.cast != FIBERS)
        return;
    make_narrow_pair(sv);
    c.fd = sv[0];
    sley_scope_init(&scope, SLEY_FOREVER);
    start(&c);
    waits_for_notice(&c);
    sley_scope_cancel(&scope);
    while (!c.actor.done) {
        int n = (int)recv(sv[1], received, PIECE_BYTES, MSG_DONTWAIT);

        EXPECT(n <= 0 || is_pattern(received, (size_t)n, at));
        at += n > 0 ? (size_t)n : 0;
        (void)sley_yield();
        sched_yield();
    }
    EXPECT(sley_scope_wait(&scope, 0, SLEY_FOREVER) == 0);
    EXPECT(c.actor.result > 0 && sley_close(sv[0]) == 0 && read_slowly(sv[1], &at, SIZE_MAX) == 0);
    EXPECT(at == (size_t)c.actor.result && sley_close(sv[1]) == 0);
}

SCENARIO(a_close_breaks_the_connection)
{
    struct stuck s;
    int n;

    get_stuck(&s, call_send_once);
    EXPECT(sley_close(s.sv[0]) == 0);
    n = io_call_result(&s.call);
    EXPECT(s.zerocopy ? n == -EBADF : n > 0);
    peer_sees(s.sv[1], 0, s.zerocopy ? -ECONNRESET : 0);
    EXPECT(sley_close(s.sv[1]) == 0);
}

SCENARIO(a_peer_that_resets_gives_the_memory_back)
{
    struct stuck s;
    struct linger now = { .l_onoff = 1 };

    get_stuck(&s, call_send_once);
    EXPECT(setsockopt(s.sv[1], SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0 && sley_close(s.sv[1]) == 0);
    EXPECT(io_call_result(&s.call) > 0); /* they were taken; the next call tells */
    EXPECT(sley_send(s.sv[0], "x", 1, 0, SLEY_FOREVER) == -ECONNRESET && sley_close(s.sv[0]) == 0);
}

/* --- a send that is cut before all was taken ------------------------------------------------------------------------------------- */

SCENARIO(send_all_ends_at_its_deadline_although_the_peer_never_reads)
{
    struct io_call c = { .call = call_send_whole_until_cut, .buf = memory, .bytes = ENDLESS_BYTES };
    int sv[2];

    make_narrow_pair(sv);
    c.fd = sv[0];
    start(&c);
    EXPECT(io_call_result(&c) == -ETIMEDOUT && sley_close(sv[0]) == 0);
    peer_sees(sv[1], 0, scene.cast == FIBERS && is_zerocopy(IORING_OP_SEND_ZC) ? -ECONNRESET : 0);
    EXPECT(sley_close(sv[1]) == 0);
}

SCENARIO(send_all_ends_at_a_close_and_at_a_reset)
{
    struct linger now = { .l_onoff = 1 };
    struct io_call c = { .call = call_send_whole, .buf = memory, .bytes = ENDLESS_BYTES };
    int sv[2], n;

    make_narrow_pair(sv);
    c.fd = sv[0];
    start(&c);
    EXPECT(io_call_waits(&c) && sley_close(sv[0]) == 0 && io_call_result(&c) == -EBADF && sley_close(sv[1]) == 0);

    make_narrow_pair(sv);
    c.fd = sv[0];
    start(&c);
    EXPECT(io_call_waits(&c));
    EXPECT(setsockopt(sv[1], SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0 && sley_close(sv[1]) == 0);
    n = io_call_result(&c);
    EXPECT((n == -ECONNRESET || n == -EPIPE) && sley_close(sv[0]) == 0);
}

/* Fills the queue of the socket, with the pattern: how many bytes. */
static size_t fill(int fd)
{
    unsigned char buf[4096];
    size_t at = 0;
    int n;

    do {
        fill_pattern(buf, sizeof buf, at);
        n = sley_send(fd, buf, sizeof buf, MSG_DONTWAIT, SLEY_FOREVER);
        at += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    EXPECT(n == -EAGAIN);
    return at;
}

static int is_connected(int fd)
{
    struct tcp_info info = { 0 };
    socklen_t bytes = sizeof info;

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 && info.tcpi_state == TCP_ESTABLISHED;
}

enum cutter { BY_DEADLINE, BY_CANCEL, BY_CLOSE };

/* Let c's call wait for room in a queue that is full, and cut it: its result. */
static int cut_call(struct io_call *c, enum cutter cutter)
{
    sley_scope scope;

    c->deadline = cutter == BY_DEADLINE ? sley_after(30 * SLEY_MS) : SLEY_FOREVER;
    if (cutter == BY_CANCEL)
        sley_scope_init(&scope, SLEY_FOREVER);
    actor_start(&c->actor, io_call_main, c);
    if (cutter == BY_CANCEL) {
        io_call_waits(c);
        sley_scope_cancel(&scope);
        EXPECT(sley_scope_wait(&scope, 0, SLEY_FOREVER) == 0);
    } else if (cutter == BY_CLOSE) {
        io_call_waits(c);
        EXPECT(sley_close(c->fd) == 0);
    }
    return io_call_result(c);
}

/* No room for a byte: whatever cuts it, nothing has gone and the connection is whole. The kernel may find room all the same, when an
 * acknowledgement comes late, or it tries whether the peer's window is still closed: then once more. */
static void cut_with_nothing_taken(int (*call)(struct io_call *), enum cutter cutter)
{
    static const int whys[] = { [BY_DEADLINE] = -ETIMEDOUT, [BY_CANCEL] = -ECANCELED, [BY_CLOSE] = -EBADF };

    for (int tries = 0, again = 1; again; tries++) {
        struct io_call c = { .call = call, .buf = memory, .bytes = PIECE_BYTES, .flags = MSG_ZEROCOPY };
        size_t at = 0, filled;
        int sv[2], rc;

        make_narrow_pair(sv);
        c.fd = sv[0];
        filled = fill(sv[0]);
        fill_pattern(memory, PIECE_BYTES, filled);
        rc = cut_call(&c, cutter);
        again = rc >= 0 || (cutter != BY_CLOSE && !is_connected(sv[0]));
        EXPECT(rc == whys[cutter] || rc >= 0);
        if (!again && cutter == BY_CLOSE) {
            rc = read_slowly(sv[1], &at, SIZE_MAX);
            again = rc != 0 || at != filled;
        } else if (!again) {
            EXPECT(read_slowly(sv[1], &at, filled) == 1);
            again = sley_recv(sv[1], received, 1, MSG_DONTWAIT, SLEY_FOREVER) != -EAGAIN;
            if (!again) {
                fill_pattern(memory, 100, filled);
                EXPECT(sley_send_all(sv[0], memory, 100, MSG_ZEROCOPY, SLEY_FOREVER) == 0 && read_slowly(sv[1], &at, 100) == 1);
            }
        }
        if (cutter != BY_CLOSE)
            EXPECT(sley_close(sv[0]) == 0);
        EXPECT(sley_close(sv[1]) == 0 && tries < TRIES);
        if (tries >= TRIES)
            return;
    }
}

static void cut_every_way(int (*call)(struct io_call *))
{
    cut_with_nothing_taken(call, BY_DEADLINE);
    cut_with_nothing_taken(call, BY_CLOSE);
    if (scene.cast == FIBERS) /* no cancel reaches a thread that is not attached */
        cut_with_nothing_taken(call, BY_CANCEL);
}

SCENARIO(a_send_that_is_cut_with_nothing_taken_breaks_nothing) { cut_every_way(call_send_once); }
SCENARIO(a_send_all_that_is_cut_with_nothing_taken_breaks_nothing) { cut_every_way(call_send_whole); }
SCENARIO(a_message_that_is_cut_with_nothing_taken_breaks_nothing) { cut_every_way(call_send_messages); }

SCENARIO(a_send_in_a_cancelled_scope_sends_nothing)
{
    sley_scope scope;
    size_t at = 0;
    int sv[2], n;

    if (scene.cast != FIBERS || !is_zerocopy(IORING_OP_SEND_ZC))
        return; /* a send that need not wait notices it only in a row of them */
    make_tcp_pair(sv);
    sley_scope_init(&scope, SLEY_FOREVER);
    sley_scope_cancel(&scope);
    n = sley_send(sv[0], memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_FOREVER);
    EXPECT(n == -ECANCELED && sley_send_all(sv[0], memory, PIECE_BYTES, MSG_ZEROCOPY, SLEY_FOREVER) == -ECANCELED);
    EXPECT(sley_scope_wait(&scope, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_close(sv[0]) == 0 && read_slowly(sv[1], &at, SIZE_MAX) == 0 && at == 0 && sley_close(sv[1]) == 0);
}

/* --- races ------------------------------------------------------------------------------------------------------------------- */

enum { RACED_BYTES = 200000 };

/* With threads a round takes long: who is to run next may have to wait for a processor. */
static uint64_t rounds(void) { return scene.cast == FIBERS ? 120 : 25; }

struct reader {
    struct actor actor;
    int fd;
    size_t at;
};

static int read_to_end(void *arg)
{
    struct reader *r = arg;

    return read_slowly(r->fd, &r->at, SIZE_MAX);
}

/* What was cut arrives in part or is broken off; what was not arrives whole. */
static void expect_result_of_race(struct reader *r, int sender, int rc, int why)
{
    int end;

    EXPECT(rc == 0 || rc == why);
    EXPECT(sley_close(sender) == 0);
    end = actor_result(&r->actor);
    EXPECT(end == 0 || (end == -ECONNRESET && rc != 0));
    EXPECT(rc == 0 ? r->at == RACED_BYTES : end != 0 || r->at < RACED_BYTES);
    EXPECT(sley_close(r->fd) == 0);
}

SCENARIO(a_deadline_that_races_with_the_peer_has_one_winner)
{
    for (uint64_t round = 0, random = 1; round < rounds(); round++) {
        struct reader r = { .at = 0 };
        int sv[2], rc;

        make_tcp_pair(sv);
        r.fd = sv[1];
        fill_pattern(memory, RACED_BYTES, 0);
        actor_start(&r.actor, read_to_end, &r);
        rc = sley_send_all(sv[0], memory, RACED_BYTES, MSG_ZEROCOPY, sley_after(below(&random, 400 * SLEY_US)));
        memset(memory, 0xee, RACED_BYTES);
        expect_result_of_race(&r, sv[0], rc, -ETIMEDOUT);
    }
}

static int send_whole_and_note(void *arg)
{
    struct io_call *c = arg;

    return c->actor.result = call_send_whole(c);
}

/* The scope says that its deadline cut something only if the call says so. */
SCENARIO(a_scopes_deadline_that_races_with_the_peer_cuts_what_says_so)
{
    if (scene.cast != FIBERS)
        return;
    for (uint64_t round = 0, random = 4; round < rounds(); round++) {
        struct io_call c = { .buf = memory, .bytes = RACED_BYTES, .flags = MSG_ZEROCOPY, .deadline = SLEY_FOREVER };
        struct reader r = { .at = 0 };
        int sv[2], rc;

        make_tcp_pair(sv);
        r.fd = sv[1];
        c.fd = sv[0];
        fill_pattern(memory, RACED_BYTES, 0);
        actor_start(&r.actor, read_to_end, &r);
        rc = sley_scope_run(send_whole_and_note, &c, sley_after(below(&random, 400 * SLEY_US)));
        EXPECT(rc == (c.actor.result == 0 ? 0 : -ETIMEDOUT));
        expect_result_of_race(&r, sv[0], c.actor.result, -ECANCELED);
    }
}

SCENARIO(a_cancel_that_races_with_the_peer_has_one_winner)
{
    if (scene.cast != FIBERS)
        return;
    for (uint64_t round = 0, random = 2; round < rounds(); round++) {
        struct io_call c = { .call = call_send_whole, .buf = memory, .bytes = RACED_BYTES };
        struct reader r = { .at = 0 };
        sley_scope scope;
        int sv[2];

        make_tcp_pair(sv);
        r.fd = sv[1];
        c.fd = sv[0];
        actor_start(&r.actor, read_to_end, &r);
        sley_scope_init(&scope, SLEY_FOREVER);
        start(&c);
        for (uint32_t turns = below(&random, 60); turns > 0; turns--)
            give_way();
        sley_scope_cancel(&scope);
        EXPECT(sley_scope_wait(&scope, 0, SLEY_FOREVER) == 0);
        expect_result_of_race(&r, sv[0], c.actor.result, -ECANCELED);
    }
}

SCENARIO(a_close_that_races_with_the_peer_has_one_winner)
{
    for (uint64_t round = 0, random = 3; round < rounds(); round++) {
        struct io_call c = { .call = call_send_whole, .buf = memory, .bytes = RACED_BYTES };
        struct reader r = { .at = 0 };
        int sv[2], rc, end;

        make_tcp_pair(sv);
        r.fd = sv[1];
        c.fd = sv[0];
        actor_start(&r.actor, read_to_end, &r);
        start(&c);
        EXPECT(call_waits(&c.actor) || c.actor.done);
        for (uint32_t turns = below(&random, 60); turns > 0; turns--)
            give_way();
        EXPECT(sley_close(sv[0]) == 0);
        rc = io_call_result(&c);
        end = actor_result(&r.actor);
        EXPECT(rc == 0 || rc == -EBADF);
        EXPECT(end == 0 || (end == -ECONNRESET && rc != 0));
        EXPECT((rc != 0 || r.at == RACED_BYTES) && sley_close(sv[1]) == 0);
    }
}

/* --- the end of the runtime ------------------------------------------------------------------------------------------------------ */

static int send_to_nobody(void *arg)
{
    int *fd = arg;
    int rc;

    fill_pattern(memory, ENDLESS_BYTES, 0);
    rc = sley_send_all(*fd, memory, ENDLESS_BYTES, MSG_ZEROCOPY, SLEY_FOREVER);
    memset(memory, 0xee, ENDLESS_BYTES);
    return rc;
}

static void a_runtime_that_stops_ends_it(void **state)
{
    for (int on_thread = 0; on_thread < 2; on_thread++) {
        int sv[2];
        size_t at = 0;
        ssize_t n;

        make_narrow_pair(sv);
        assert_int_equal(result_of_stopped_when(call_waits, on_thread, send_to_nobody, &sv[0]), -ECANCELED);
        close(sv[0]);
        while ((n = recv(sv[1], received, sizeof received, 0)) > 0) {
            assert_true(is_pattern(received, (size_t)n, at));
            at += (size_t)n;
        }
        close(sv[1]);
    }
}

/* The peer does not read, and yet the send returns; what the kernel refused to send without a copy has its notice, too, but soon. */
static void a_send_does_not_wait_for_the_peer(void)
{
    struct io_call c = { .call = call_send_once, .buf = memory, .bytes = ENDLESS_BYTES };
    int sv[2], n;

    make_narrow_pair(sv);
    c.fd = sv[0];
    start(&c);
    n = io_call_result(&c);
    EXPECT(n > 0 && sley_close(sv[0]) == 0);
    peer_sees(sv[1], (size_t)n, 0);
    EXPECT(sley_close(sv[1]) == 0);
}

static void without_the_operations_the_bytes_are_copied(void **state)
{
    play_on_old_kernel(send_all_arrives_as_it_was_although_the_memory_is_overwritten_body, NULL);
    play_on_old_kernel(messages_of_several_buffers_arrive_as_they_were_body, NULL);
    play_on_old_kernel(a_deadline_breaks_the_connection_body, NULL);
    play_on_old_kernel(a_send_does_not_wait_for_the_peer, NULL);
}

/* From here on, with the rings made, the process may not pin more than it has. */
static void without_memory_to_pin(void (*body)(void))
{
    struct rlimit before, none;

    EXPECT(getrlimit(RLIMIT_MEMLOCK, &before) == 0);
    none = before;
    none.rlim_cur = 0;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
    body();
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &before) == 0);
}

static void nothing_pinned_does_not_wait(void) { without_memory_to_pin(a_send_does_not_wait_for_the_peer); }
static void nothing_pinned_send_all(void) { without_memory_to_pin(send_all_arrives_as_it_was_although_the_memory_is_overwritten_body); }
static void nothing_pinned_messages(void) { without_memory_to_pin(messages_of_several_buffers_arrive_as_they_were_body); }

/* The last test: this thread stays without the right to pin what it wants. */
static void when_no_more_memory_may_be_pinned_the_bytes_are_copied(void **state)
{
    struct __user_cap_header_struct who = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct caps[2];

    assert_int_equal(syscall(SYS_capget, &who, caps), 0);
    caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
    assert_int_equal(syscall(SYS_capset, &who, caps), 0);
    play(nothing_pinned_does_not_wait, FIBERS);
    play(nothing_pinned_send_all, FIBERS);
    play(nothing_pinned_messages, FIBERS);
}

SCENARIO(no_descriptor_is_left)
{
    int before = count_descriptors();

    a_close_breaks_the_connection_body();
    what_is_wrong_is_told_body();
    EXPECT(count_descriptors() == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(send_all_arrives_as_it_was_although_the_memory_is_overwritten),
        PLAYED(send_all_on_a_nonblocking_socket_arrives_as_it_was),
        PLAYED(messages_of_several_buffers_arrive_as_they_were),
        PLAYED(pieces_on_the_stack_arrive_as_they_were),
        PLAYED(a_send_on_a_big_stack_finds_its_fiber),
        PLAYED(many_send_at_once),
        PLAYED(a_unix_socket_copies),
        PLAYED(a_datagram_over_udp_is_copied),
        PLAYED(what_may_not_wait_waits_for_no_peer),
        PLAYED(few_bytes_are_copied),
        PLAYED(what_is_wrong_is_told),
        PLAYED(a_count_is_told_once_the_peer_has_read),
        PLAYED(a_deadline_breaks_the_connection),
        PLAYED(a_cancel_breaks_the_connection),
        PLAYED(a_message_that_waits_for_its_end_is_cut),
        PLAYED(a_shield_keeps_a_cancel_from_it),
        PLAYED(a_close_breaks_the_connection),
        PLAYED(a_peer_that_resets_gives_the_memory_back),
        PLAYED(send_all_ends_at_its_deadline_although_the_peer_never_reads),
        PLAYED(send_all_ends_at_a_close_and_at_a_reset),
        PLAYED(a_send_that_is_cut_with_nothing_taken_breaks_nothing),
        PLAYED(a_send_all_that_is_cut_with_nothing_taken_breaks_nothing),
        PLAYED(a_message_that_is_cut_with_nothing_taken_breaks_nothing),
        PLAYED(a_send_in_a_cancelled_scope_sends_nothing),
        PLAYED(a_deadline_that_races_with_the_peer_has_one_winner),
        PLAYED(a_scopes_deadline_that_races_with_the_peer_cuts_what_says_so),
        PLAYED(a_cancel_that_races_with_the_peer_has_one_winner),
        PLAYED(a_close_that_races_with_the_peer_has_one_winner),
        cmocka_unit_test(a_runtime_that_stops_ends_it),
        cmocka_unit_test(without_the_operations_the_bytes_are_copied),
        PLAYED(no_descriptor_is_left),
        cmocka_unit_test(when_no_more_memory_may_be_pinned_the_bytes_are_copied),
    };

    return cmocka_run_group_tests_name("net_zerocopy", tests, make_temp_dir, remove_temp_dir);
}
