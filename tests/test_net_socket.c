/* test_net_socket.c - listening, accepting, connecting, receiving and sending. */
#include "io_scenario.h"

#include "io/address.h"

#include <sys/ioctl.h>
#include <sys/uio.h>

static int is_nonblocking_and_cloexec(int fd) { return fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC; }

/* --- listen --------------------------------------------------------------------------------------------------------------------- */

SCENARIO(listen_takes_addresses_as_text)
{
    char abstract[64];
    const char *good[] = { "127.0.0.1:0", "[::1]:0", "*:0", "0.0.0.0:0", "[::]:0", abstract };
    const char *bad[] = { "", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1: 1",
                          "300.0.0.1:0", "::1:0", "[::1:0", "::1]:0", "[]:0", "[*]:0", "[127.0.0.1]:0", "localhost:0", ":80",
                          "unix:", "unix:@", "unix:80", NULL };
    char path[200] = "unix:/tmp/";

    snprintf(abstract, sizeof abstract, "unix:@sley-test-listen-%d", getpid());
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int fd = sley_net_listen(good[i], NULL);

        if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT)
            continue; /* a machine without v6 */
        EXPECT(fd >= 0 && is_nonblocking_and_cloexec(fd) && sley_close(fd) == 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT(sley_net_listen(bad[i], NULL) == -EINVAL);
    memset(path + 10, 'x', 150);
    EXPECT(sley_net_listen(path, NULL) == -EINVAL);
}

/* A host may be called "unix". A socket's file whose name is a number is written with its directory. */
SCENARIO(a_host_called_unix_is_no_path)
{
    struct sl_address a;
    char text[SLEY_NET_TEXT_BYTES];

    EXPECT(sl_address_parse("unix:80", &a) == -EINVAL); /* a name: to be looked up */
    EXPECT(sl_address_parse("unix:80x", &a) == 0 && a.any.sa_family == AF_UNIX && strcmp(a.local.sun_path, "80x") == 0);
    EXPECT(sl_address_parse("unix:65536", &a) == 0 && a.any.sa_family == AF_UNIX);
    EXPECT(sl_address_parse("unix:./80", &a) == 0 && a.any.sa_family == AF_UNIX && strcmp(a.local.sun_path, "./80") == 0);
    EXPECT(sl_address_format(&a, text, sizeof text) == 0 && strcmp(text, "unix:./80") == 0);
    memcpy(a.local.sun_path, "80", sizeof "80");
    a.bytes = offsetof(struct sockaddr_un, sun_path) + sizeof "80";
    EXPECT(sl_address_format(&a, text, sizeof text) == 0 && strcmp(text, "unix:./80") == 0);
    EXPECT(sl_address_parse(text, &a) == 0 && a.any.sa_family == AF_UNIX);
}

SCENARIO(listen_checks_its_options)
{
    sley_listen_options o = { .backlog = 5 };
    int fd = sley_net_listen("127.0.0.1:0", &o);

    EXPECT(fd >= 0 && sley_close(fd) == 0);
    o.reserved[2] = 1;
    EXPECT(sley_net_listen("127.0.0.1:0", &o) == -EINVAL);
    o = (sley_listen_options){ .per_worker = 2 };
    EXPECT(sley_net_listen("127.0.0.1:0", &o) == -EINVAL);
}

SCENARIO(an_address_in_use_is_refused)
{
    char text[64];
    int fd = sley_net_listen("127.0.0.1:0", NULL);

    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(local_address(fd).sin_port));
    EXPECT(sley_net_listen(text, NULL) == -EADDRINUSE && sley_close(fd) == 0);
    fd = sley_net_listen(text, NULL);
    EXPECT(fd >= 0 && sley_close(fd) == 0);
}

SCENARIO(a_unix_socket_whose_owner_is_gone_is_replaced)
{
    char text[PATH_MAX + 8];
    int first, second, file;

    snprintf(text, sizeof text, "unix:%s", temp_path("socket"));
    unlink(temp_path("socket"));
    first = sley_net_listen(text, NULL);
    EXPECT(first >= 0 && sley_net_listen(text, NULL) == -EADDRINUSE);
    EXPECT(sley_close(first) == 0);
    second = sley_net_listen(text, NULL);
    EXPECT(second >= 0 && sley_close(second) == 0);
    EXPECT(unlink(temp_path("socket")) == 0);
    file = make_file("socket", "precious", 8);
    EXPECT(sley_net_listen(text, NULL) == -EADDRINUSE && access(temp_path("socket"), F_OK) == 0);
    EXPECT(sley_close(file) == 0 && unlink(temp_path("socket")) == 0);
}

/* --- accept and connect ---------------------------------------------------------------------------------------------------------- */

static void accepts(int listener)
{
    struct io_call c = { .call = call_accept, .fd = listener };
    struct sockaddr_in from = { 0 };
    socklen_t from_bytes = sizeof from;
    int client, server;

    EXPECT(sley_accept(listener, NULL, NULL, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_accept(listener, NULL, NULL, sley_after(SLEY_MS)) == -ETIMEDOUT);
    io_call_start(&c);
    client = connect_to(listener);
    server = io_call_result(&c);
    EXPECT(server >= 0 && is_nonblocking_and_cloexec(server));
    EXPECT(sley_close(client) == 0 && sley_close(server) == 0);

    client = connect_to(listener);
    server = sley_accept(listener, (struct sockaddr *)&from, &from_bytes, SLEY_FOREVER);
    EXPECT(server >= 0 && from_bytes == sizeof from && from.sin_port == local_address(client).sin_port);
    EXPECT(sley_close(client) == 0 && sley_close(server) == 0);

    client = connect_to(listener);
    server = sley_accept(listener, NULL, NULL, SLEY_NOW);
    EXPECT(server >= 0 && sley_close(client) == 0 && sley_close(server) == 0);
}

SCENARIO(accept_waits_for_a_connection)
{
    int listener = sley_net_listen("127.0.0.1:0", NULL);

    accepts(listener);
    EXPECT(sley_close(listener) == 0);
}

SCENARIO(accept_works_on_a_blocking_listener)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    EXPECT(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 5) == 0);
    accepts(listener);
    EXPECT(sley_close(listener) == 0);
}

SCENARIO(accept_gives_each_connection_once)
{
    enum { CLIENTS = 20, CALLS = 4 };
    static struct io_call c[CALLS];
    int listener = sley_net_listen("127.0.0.1:0", NULL), client[CLIENTS], accepted = 0;

    for (int round = 0; round < CLIENTS / CALLS; round++) {
        for (int i = 0; i < CALLS; i++) {
            c[i] = (struct io_call){ .call = call_accept, .fd = listener };
            io_call_start(&c[i]);
        }
        for (int i = 0; i < CALLS; i++)
            client[accepted + i] = connect_to(listener);
        for (int i = 0; i < CALLS; i++) {
            int fd = io_call_result(&c[i]);

            EXPECT(fd >= 0 && sley_close(fd) == 0 && sley_close(client[accepted]) == 0);
            accepted++;
        }
    }
    EXPECT(sley_accept(listener, NULL, NULL, SLEY_NOW) == -ETIMEDOUT && sley_close(listener) == 0);
}

SCENARIO(accept_without_descriptors_waits_for_one)
{
    accepts_once_there_is_a_descriptor(sley_net_listen("127.0.0.1:0", NULL));
}

SCENARIO(close_reaches_an_accept_that_waits_for_a_descriptor)
{
    struct rlimit before, none = { 0, 0 };
    int listener = sley_net_listen("127.0.0.1:0", NULL);
    struct io_call c = { .call = call_accept, .fd = listener };

    EXPECT(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none.rlim_max = before.rlim_max;
    EXPECT(setrlimit(RLIMIT_NOFILE, &none) == 0);
    io_call_start(&c);
    EXPECT(sley_close(listener) == 0);
    EXPECT(io_call_result(&c) == -EBADF);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

SCENARIO(connect_tells_what_went_wrong)
{
    int listener = sley_net_listen("127.0.0.1:0", NULL), fd, unix_fd;
    struct sockaddr_in a = local_address(listener);
    struct sockaddr_un nobody = { .sun_family = AF_UNIX, .sun_path = "/nonexistent/socket" };

    EXPECT(sley_close(listener) == 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT(sley_connect(fd, (struct sockaddr *)&a, sizeof a, SLEY_FOREVER) == -ECONNREFUSED && sley_close(fd) == 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT(sley_connect(fd, (struct sockaddr *)&a, sizeof a, SLEY_FOREVER) == -ECONNREFUSED);
    EXPECT(sley_connect(fd, (struct sockaddr *)&a, sizeof a, SLEY_NOW) == -EOPNOTSUPP && sley_close(fd) == 0);
    EXPECT(sley_connect(fd, (struct sockaddr *)&a, sizeof a, SLEY_FOREVER) == -EBADF);
    unix_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT(sley_connect(unix_fd, (struct sockaddr *)&nobody, sizeof nobody, SLEY_FOREVER) == -ENOENT && sley_close(unix_fd) == 0);
}

SCENARIO(connect_works_on_a_nonblocking_socket_and_leaves_it_so)
{
    int listener = sley_net_listen("127.0.0.1:0", NULL), fd, blocking;
    struct sockaddr_in a = local_address(listener);

    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    EXPECT(sley_connect(fd, (struct sockaddr *)&a, sizeof a, SLEY_FOREVER) == 0 && fcntl(fd, F_GETFL) & O_NONBLOCK);
    EXPECT(sley_connect(fd, (struct sockaddr *)&a, sizeof a, SLEY_FOREVER) == -EISCONN);
    blocking = connect_to(listener);
    EXPECT(!(fcntl(blocking, F_GETFL) & O_NONBLOCK));
    EXPECT(sley_close(fd) == 0 && sley_close(blocking) == 0 && sley_close(listener) == 0);
}

/* A full queue: on the loopback interface the kernel drops further connects, which then wait. */
SCENARIO(connect_that_waits_ends_at_its_deadline_and_at_a_close)
{
    sley_listen_options o = { .backlog = 1 };
    int listener = sley_net_listen("127.0.0.1:0", &o), fds[8], n = 0, rc = 0;
    struct sockaddr_in a = local_address(listener);
    struct io_call c = { .call = call_connect, .addr = (struct sockaddr *)&a, .addr_bytes = sizeof a };

    while (n < 8 && rc == 0) {
        fds[n] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        rc = sley_connect(fds[n++], (struct sockaddr *)&a, sizeof a, sley_after(20 * SLEY_MS));
    }
    EXPECT(rc == -ETIMEDOUT);
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    io_call_start(&c);
    EXPECT(sley_close(c.fd) == 0 && io_call_result(&c) == -EBADF);
    while (n > 0)
        EXPECT(sley_close(fds[--n]) == 0);
    EXPECT(sley_close(listener) == 0);
}

/* A full queue of a Unix listener: a blocking connect waits for room, and so does a non-blocking one on a fiber. */
static void connects_when_there_is_room(int type)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    sley_listen_options o = { .backlog = 1 };
    struct io_call c = { .call = call_connect, .addr = (struct sockaddr *)&a };
    int listener, fds[2], server;
    char text[64];

    snprintf(text, sizeof text, "unix:@sley-test-queue-%d", getpid());
    strcpy(a.sun_path + 1, text + 6);
    c.addr_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) - 5);
    listener = sley_net_listen(text, &o);
    for (int i = 0; i < 2; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        EXPECT(sley_connect(fds[i], c.addr, c.addr_bytes, SLEY_FOREVER) == 0);
    }
    c.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | type, 0);
    EXPECT(sley_connect(c.fd, c.addr, c.addr_bytes, sley_after(SLEY_MS)) == -ETIMEDOUT);
    io_call_start(&c);
    server = sley_accept(listener, NULL, NULL, SLEY_FOREVER);
    EXPECT(server >= 0 && io_call_result(&c) == 0);
    EXPECT((fcntl(c.fd, F_GETFL) & O_NONBLOCK) == type);
    EXPECT(sley_close(server) == 0 && sley_close(c.fd) == 0 && sley_close(fds[0]) == 0 && sley_close(fds[1]) == 0);
    EXPECT(sley_close(listener) == 0);
}

static void connect_waits_for_room_in_the_queue_body(void)
{
    connects_when_there_is_room(0);
    connects_when_there_is_room(SOCK_NONBLOCK);
}

static void connect_waits_for_room_in_the_queue(void **state) { play(connect_waits_for_room_in_the_queue_body, FIBERS); }

/* --- receive and send ------------------------------------------------------------------------------------------------------------ */

SCENARIO(a_receive_that_timed_out_has_taken_nothing)
{
    char buf[16];
    int sv[2];

    make_tcp_pair(sv);
    for (int i = 0; i < 20; i++) {
        EXPECT(sley_recv(sv[0], buf, sizeof buf, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
        EXPECT(sley_recv(sv[0], buf, sizeof buf, 0, SLEY_NOW) == -ETIMEDOUT);
        EXPECT(sley_send(sv[1], "abc", 3, 0, SLEY_FOREVER) == 3);
        EXPECT(sley_recv(sv[0], buf, sizeof buf, 0, sley_after(SLEY_S)) == 3 && memcmp(buf, "abc", 3) == 0);
    }
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(a_deadline_that_races_with_data_loses_none)
{
    char buf[16];
    int sv[2], got = 0;
    struct io_call c = { .call = call_recv, .buf = buf, .bytes = sizeof buf };

    make_pair(sv, SOCK_STREAM);
    c.fd = sv[0];
    for (int i = 0; i < 100; i++) {
        int n;

        c.deadline = sley_after(SLEY_MS + i * 1000);
        actor_start(&c.actor, io_call_main, &c);
        while (sley_now() < c.deadline - 30 * SLEY_US)
            give_way();
        EXPECT(sley_send(sv[1], "x", 1, 0, SLEY_FOREVER) == 1);
        n = io_call_result(&c);
        EXPECT(n > 0 || n == -ETIMEDOUT);
        got += n > 0 ? n : 0;
    }
    while (got < 100) {
        int n = sley_recv(sv[0], buf, sizeof buf, 0, SLEY_NOW);

        EXPECT(n > 0);
        if (n <= 0)
            break;
        got += n;
    }
    EXPECT(got == 100 && sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(flags_are_the_systems)
{
    char buf[16];
    int sv[2], dg[2];
    struct io_call c = { .call = call_recv, .buf = buf, .bytes = 6, .flags = MSG_WAITALL };

    make_tcp_pair(sv);
    EXPECT(sley_recv(sv[0], buf, 4, MSG_DONTWAIT, SLEY_FOREVER) == -EAGAIN);
    EXPECT(sley_send(sv[1], "abc", 3, MSG_MORE, SLEY_FOREVER) == 3 && sley_send(sv[1], "d", 1, 0, SLEY_FOREVER) == 1);
    EXPECT(sley_recv(sv[0], buf, 4, MSG_WAITALL, SLEY_FOREVER) == 4 && memcmp(buf, "abcd", 4) == 0);
    c.fd = sv[0];
    io_call_start(&c);
    EXPECT(sley_send(sv[1], "123", 3, 0, SLEY_FOREVER) == 3 && sley_send(sv[1], "456", 3, 0, SLEY_FOREVER) == 3);
    EXPECT(io_call_result(&c) == 6 && memcmp(buf, "123456", 6) == 0);
    EXPECT(sley_send(sv[1], "xyz", 3, 0, SLEY_FOREVER) == 3);
    EXPECT(sley_recv(sv[0], buf, 9, MSG_PEEK, SLEY_FOREVER) == 3);
    EXPECT(sley_recv(sv[0], buf, 9, MSG_WAITALL, sley_after(5 * SLEY_MS)) == 3 && memcmp(buf, "xyz", 3) == 0);
    EXPECT(sley_send(sv[1], "z", 1, MSG_ZEROCOPY, SLEY_FOREVER) == 1);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);

    make_pair(dg, SOCK_DGRAM);
    EXPECT(sley_send(dg[0], "", 0, 0, SLEY_FOREVER) == 0 && sley_send(dg[0], "ab", 2, 0, SLEY_FOREVER) == 2);
    EXPECT(sley_recv(dg[1], buf, 9, 0, SLEY_FOREVER) == 0 && sley_recv(dg[1], buf, 9, MSG_WAITALL, SLEY_FOREVER) == 2);
    EXPECT(sley_close(dg[0]) == 0 && sley_close(dg[1]) == 0);
}

SCENARIO(a_send_to_a_slow_reader_waits_and_is_whole)
{
    static unsigned char in[3 << 20], out[3 << 20];
    int sv[2], small = 1 << 16;
    struct io_call c = { .call = call_send_all, .buf = in, .bytes = sizeof in };

    fill_pattern(in, sizeof in, 0);
    make_tcp_pair(sv);
    EXPECT(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    EXPECT(setsockopt(sv[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    c.fd = sv[0];
    io_call_start(&c);
    EXPECT(sley_read_all(sv[1], out, sizeof out, SLEY_FOREVER) == sizeof out);
    EXPECT(io_call_result(&c) == 0 && memcmp(in, out, sizeof in) == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(a_send_without_room_ends_at_its_deadline)
{
    static unsigned char in[4096];
    int sv[2], n;

    make_pair(sv, SOCK_STREAM);
    while ((n = sley_send(sv[0], in, sizeof in, MSG_DONTWAIT, SLEY_FOREVER)) > 0)
        ;
    EXPECT(n == -EAGAIN);
    EXPECT(sley_send(sv[0], in, 1, 0, SLEY_NOW) == -ETIMEDOUT && sley_send(sv[0], in, 1, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_send_all(sv[0], in, 1, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_write(sv[0], in, 1, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
}

SCENARIO(a_peer_that_is_gone_is_an_error_and_no_signal)
{
    char buf[4];
    int sv[2], listener = sley_net_listen("127.0.0.1:0", NULL), client = connect_to(listener), server;
    struct linger now = { .l_onoff = 1 };

    make_pair(sv, SOCK_STREAM);
    EXPECT(sley_close(sv[1]) == 0);
    EXPECT(sley_send(sv[0], "x", 1, 0, SLEY_FOREVER) == -EPIPE && sley_send_all(sv[0], "x", 1, 0, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_recv(sv[0], buf, 4, 0, SLEY_FOREVER) == 0 && sley_close(sv[0]) == 0);

    server = sley_accept(listener, NULL, NULL, SLEY_FOREVER);
    EXPECT(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0 && sley_close(client) == 0);
    EXPECT(sley_recv(server, buf, 4, 0, SLEY_FOREVER) == -ECONNRESET && sley_send(server, "x", 1, 0, SLEY_FOREVER) == -EPIPE);
    EXPECT(sley_close(server) == 0 && sley_close(listener) == 0);
}

SCENARIO(what_is_no_socket_says_so)
{
    char buf[4];
    int p[2];

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    EXPECT(sley_recv(p[0], buf, 4, 0, SLEY_FOREVER) == -ENOTSOCK && sley_send(p[1], buf, 4, 0, SLEY_FOREVER) == -ENOTSOCK);
    EXPECT(sley_accept(p[0], NULL, NULL, SLEY_FOREVER) == -ENOTSOCK);
    EXPECT(sley_recv(-1, buf, 4, 0, SLEY_FOREVER) == -EBADF && sley_recv(p[0], buf, 4, 0, SLEY_S) == -EINVAL);
    EXPECT(sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
}

SCENARIO(no_descriptor_is_left)
{
    int before = count_descriptors();

    accept_gives_each_connection_once_body();
    accept_waits_for_a_connection_body();
    connect_tells_what_went_wrong_body();
    a_unix_socket_whose_owner_is_gone_is_replaced_body();
    EXPECT(count_descriptors() == before);
}

/* The kernel gives up, by its own clock: that is no deadline's. */
static int call_recvmsg(struct io_call *c)
{
    struct iovec one = { c->buf, c->bytes };
    struct msghdr m = { .msg_iov = &one, .msg_iovlen = 1 };

    return sley_recvmsg(c->fd, &m, 0, c->deadline);
}

SCENARIO(a_peer_that_does_not_answer_is_no_deadline)
{
    int (*const calls[])(struct io_call *c) = { call_recv, call_read, call_read_all, call_recvmsg };
    char buf[4];

    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct io_call c = { .call = calls[i], .buf = buf, .bytes = sizeof buf };
        int sv[2];

        c.deadline = i % 2 ? SLEY_FOREVER : sley_after(1000 * SLEY_S);
        make_tcp_pair(sv);
        be_impatient(sv[0]);
        c.fd = sv[0];
        if (unplug(sv[1])) {
            io_call_start(&c);
            EXPECT(send(sv[0], "x", 1, 0) == 1);
            EXPECT(io_call_result(&c) == -ECONNRESET);
        }
        EXPECT(sley_close(sv[0]) == 0 && sley_close(sv[1]) == 0);
    }
}

/* The kernel tells of a reset once. A call that has bytes to return cannot: so the next one does, and is not told that it was the end. */
static int call_recv_whole(struct io_call *c) { return sley_recv(c->fd, c->buf, c->bytes, MSG_WAITALL, c->deadline); }

static int call_recvmsg_whole(struct io_call *c)
{
    struct iovec v[2] = { { c->buf, 3 }, { (char *)c->buf + 3, c->bytes - 3 } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

    return sley_recvmsg(c->fd, &m, MSG_WAITALL, c->deadline);
}

static int call_readv(struct io_call *c)
{
    struct iovec v[2] = { { c->buf, 3 }, { (char *)c->buf + 3, c->bytes - 3 } };

    return sley_readv(c->fd, v, 2, c->deadline);
}

static int call_stream_read(struct io_call *c)
{
    sley_stream *s = sley_stream_create(c->fd);
    int n = sley_stream_read(s, c->buf, c->bytes, c->deadline);

    sley_stream_destroy(s);
    return n;
}

static int call_splice(struct io_call *c)
{
    int p[2], n;

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    n = sley_splice(c->fd, NULL, p[1], NULL, c->bytes, 0, c->deadline);
    EXPECT(sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
    return n;
}

/* Send three bytes, and break the connection as soon as they have been received. */
static void reset_behind_three_bytes(int sv[2], struct io_call *c, int is_tcp)
{
    struct linger at_once = { .l_onoff = 1 };
    int unread = 1;

    if (is_tcp)
        make_tcp_pair(sv);
    else
        make_pair(sv, SOCK_STREAM);
    if (is_tcp)
        EXPECT(setsockopt(sv[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    else
        EXPECT(send(sv[0], "unread", 6, 0) == 6); /* which makes the other end's close a reset */
    c->fd = sv[0];
    io_call_start(c);
    EXPECT(send(sv[1], "abc", 3, 0) == 3);
    while (ioctl(sv[0], FIONREAD, &unread) == 0 && unread > 0)
        give_way();
    EXPECT(sley_close(sv[1]) == 0);
    EXPECT(io_call_result(c) == 3 && memcmp(c->buf, "abc", 3) == 0);
}

SCENARIO(a_reset_behind_the_bytes_is_told_by_the_next_call)
{
    int (*const first[])(struct io_call *c) = { call_read_all, call_recv_whole, call_recvmsg_whole };
    int (*const next[])(struct io_call *c) = {
        call_read, call_recv, call_recvmsg, call_readv, call_read_all, call_recv_whole, call_recvmsg_whole, call_stream_read, call_splice,
    };
    char buf[10];

    for (int is_tcp = 0; is_tcp < 2; is_tcp++) {
        for (size_t i = 0; i < 3 * sizeof next / sizeof *next; i++) {
            struct io_call c = { .call = first[i % 3], .buf = buf, .bytes = sizeof buf };
            int sv[2];

            reset_behind_three_bytes(sv, &c, is_tcp);
            EXPECT(next[i / 3](&c) == -ECONNRESET);
            EXPECT(next[i / 3](&c) == 0); /* as the kernel says it: once */
            EXPECT(sley_close(sv[0]) == 0);
        }
    }
}

SCENARIO(an_error_that_was_kept_is_not_the_next_descriptors)
{
    char buf[10];
    struct io_call c = { .call = call_read_all, .buf = buf, .bytes = sizeof buf };
    int sv[2], other[2];

    reset_behind_three_bytes(sv, &c, 0);
    make_pair(other, SOCK_STREAM);
    EXPECT(dup2(other[0], sv[0]) == sv[0] && send(other[1], "xyz", 3, 0) == 3); /* behind the library's back */
    EXPECT(sley_read(sv[0], buf, sizeof buf, SLEY_FOREVER) == 3 && memcmp(buf, "xyz", 3) == 0);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(other[0]) == 0 && sley_close(other[1]) == 0);
}

SCENARIO(an_error_that_was_kept_is_not_the_next_connections)
{
    char buf[10];
    struct io_call c = { .call = call_read_all, .buf = buf, .bytes = sizeof buf };
    struct sockaddr nobody = { .sa_family = AF_UNSPEC };
    int sv[2], listener = sley_net_listen("127.0.0.1:0", NULL), peer;
    struct sockaddr_in a = local_address(listener);

    reset_behind_three_bytes(sv, &c, 1);
    EXPECT(sley_connect(sv[0], &nobody, sizeof nobody, SLEY_FOREVER) == 0);
    EXPECT(sley_connect(sv[0], (struct sockaddr *)&a, sizeof a, SLEY_FOREVER) == 0);
    peer = sley_accept(listener, NULL, NULL, SLEY_FOREVER);
    EXPECT(sley_send(peer, "xyz", 3, 0, SLEY_FOREVER) == 3 && sley_read(sv[0], buf, 3, SLEY_FOREVER) == 3);
    EXPECT(sley_close(sv[0]) == 0 && sley_close(peer) == 0 && sley_close(listener) == 0);
}

SCENARIO(an_error_that_was_kept_is_not_told_to_who_asks_for_something_else)
{
    static const int others[] = { MSG_ERRQUEUE, MSG_OOB };
    char buf[10];

    for (size_t i = 0; i < 2 * sizeof others / sizeof *others; i++) {
        struct io_call c = { .call = call_read_all, .buf = buf, .bytes = sizeof buf };
        struct iovec one = { buf, sizeof buf };
        struct msghdr m = { .msg_iov = &one, .msg_iovlen = 1 };
        int sv[2], flags = others[i / 2] | MSG_DONTWAIT, n;

        reset_behind_three_bytes(sv, &c, 1);
        n = i % 2 ? sley_recvmsg(sv[0], &m, flags, SLEY_FOREVER) : sley_recv(sv[0], buf, sizeof buf, flags, SLEY_FOREVER);
        EXPECT(n == (others[i / 2] == MSG_OOB ? -EINVAL : -EAGAIN));
        EXPECT(call_read(&c) == -ECONNRESET && call_read(&c) == 0);
        EXPECT(sley_close(sv[0]) == 0);
    }
}

SCENARIO(a_host_that_does_not_answer_is_no_deadline)
{
    int listener = sley_net_listen("127.0.0.1:0", NULL), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = local_address(listener);

    be_impatient(fd);
    if (unplug(listener))
        EXPECT(sley_connect(fd, (struct sockaddr *)&a, sizeof a, SLEY_FOREVER) == -EHOSTUNREACH);
    EXPECT(sley_close(fd) == 0 && sley_close(listener) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_peer_that_does_not_answer_is_no_deadline),
        PLAYED(a_reset_behind_the_bytes_is_told_by_the_next_call),
        PLAYED(an_error_that_was_kept_is_not_the_next_descriptors),
        PLAYED(an_error_that_was_kept_is_not_the_next_connections),
        PLAYED(an_error_that_was_kept_is_not_told_to_who_asks_for_something_else),
        PLAYED(a_host_that_does_not_answer_is_no_deadline),
        PLAYED(listen_takes_addresses_as_text),
        PLAYED(a_host_called_unix_is_no_path),
        PLAYED(listen_checks_its_options),
        PLAYED(an_address_in_use_is_refused),
        PLAYED(a_unix_socket_whose_owner_is_gone_is_replaced),
        PLAYED(accept_waits_for_a_connection),
        PLAYED(accept_works_on_a_blocking_listener),
        PLAYED(accept_gives_each_connection_once),
        PLAYED(accept_without_descriptors_waits_for_one),
        PLAYED(close_reaches_an_accept_that_waits_for_a_descriptor),
        PLAYED(connect_tells_what_went_wrong),
        PLAYED(connect_works_on_a_nonblocking_socket_and_leaves_it_so),
        PLAYED(connect_that_waits_ends_at_its_deadline_and_at_a_close),
        cmocka_unit_test(connect_waits_for_room_in_the_queue),
        PLAYED(a_receive_that_timed_out_has_taken_nothing),
        PLAYED(a_deadline_that_races_with_data_loses_none),
        PLAYED(flags_are_the_systems),
        PLAYED(a_send_to_a_slow_reader_waits_and_is_whole),
        PLAYED(a_send_without_room_ends_at_its_deadline),
        PLAYED(a_peer_that_is_gone_is_an_error_and_no_signal),
        PLAYED(what_is_no_socket_says_so),
        PLAYED(no_descriptor_is_left),
    };

    return cmocka_run_group_tests_name("net_socket", tests, make_temp_dir, remove_temp_dir);
}
