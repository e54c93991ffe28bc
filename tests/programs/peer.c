/* The other end of socat and of Python's sockets: every kind of socket, from both sides. test_peer.py drives it.
 *
 *   peer serve TYPE ADDRESS     send back what comes, to whom it came from; SIGTERM ends it
 *   peer connect TYPE ADDRESS   standard input to there, and what comes from there to standard output, until both have ended
 *   peer files TYPE ADDRESS     serve: with each message come descriptors; send back what is in these files, and the descriptors
 *
 * TYPE: stream, dgram, seqpacket. ADDRESS: as for sley_net_listen. Of types with messages, standard input and output carry each behind
 * its length, four bytes with the highest first; an answer is awaited before the next message goes. */
#include <sley.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 65536, FILES_MAX = 253 }; /* the kernel takes no more descriptors at once */

union address {
    struct sockaddr     any;
    struct sockaddr_in  in;
    struct sockaddr_un  local;
};

static int type;
static const char *command, *address;

/* "unix:PATH" or "HOST:PORT" of IPv4. Its length, or -EINVAL. */
static int parse_address(const char *text, union address *a)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');

    memset(a, 0, sizeof *a);
    if (strncmp(text, "unix:", 5) == 0 && strlen(text + 5) < sizeof a->local.sun_path) {
        a->local.sun_family = AF_UNIX;
        strcpy(a->local.sun_path, text + 5);
        return sizeof a->local;
    }
    if (colon == NULL || (size_t)(colon - text) >= sizeof host)
        return -EINVAL;
    memcpy(host, text, colon - text);
    host[colon - text] = '\0';
    a->in.sin_family = AF_INET;
    a->in.sin_port = htons((uint16_t)atoi(colon + 1));
    return inet_pton(AF_INET, host, &a->in.sin_addr) == 1 ? (int)sizeof a->in : -EINVAL;
}

static int open_socket(const union address *a)
{
    int fd = socket(a->any.sa_family, type | SOCK_CLOEXEC, 0); /* a blocking one: the library takes those too */

    return fd < 0 ? -errno : fd;
}

/* A socket that listens, or gets datagrams. */
static int listen_at(void)
{
    union address a;
    int bytes, fd;

    if (type == SOCK_STREAM)
        return sley_net_listen(address, NULL);
    if ((bytes = parse_address(address, &a)) < 0 || (fd = open_socket(&a)) < 0)
        return bytes < 0 ? bytes : fd;
    if (bind(fd, &a.any, bytes) < 0 || (type == SOCK_SEQPACKET && listen(fd, 100) < 0)) {
        close(fd);
        return -EADDRINUSE;
    }
    return fd;
}

static int dial(void)
{
    union address to;
    int bytes, fd, rc;

    if (type == SOCK_STREAM)
        return sley_net_dial(address, SLEY_FOREVER);
    if ((bytes = parse_address(address, &to)) < 0 || (fd = open_socket(&to)) < 0)
        return bytes < 0 ? bytes : fd;
    if (type == SOCK_DGRAM && to.any.sa_family == AF_UNIX) { /* answers need a name to go to: the kernel finds one */
        sa_family_t unnamed = AF_UNIX;

        if (bind(fd, (struct sockaddr *)&unnamed, sizeof unnamed) < 0) {
            close(fd);
            return -EADDRNOTAVAIL;
        }
    }
    rc = sley_connect(fd, &to.any, bytes, SLEY_FOREVER);
    if (rc < 0) {
        sley_close(fd);
        return rc;
    }
    return fd;
}

/* --- serve -------------------------------------------------------------------------------------------------------------------------- */

/* Of a connection, until the other end has ended its side; of datagrams, until a signal comes. */
static int echo(int fd)
{
    char *buf = malloc(MESSAGE_BYTES);
    int n = buf != NULL ? 1 : -ENOMEM;
    union address from;

    while (n > 0 || (n == 0 && type == SOCK_DGRAM)) {
        socklen_t bytes = sizeof from;
        if (type == SOCK_DGRAM && (n = sley_recvfrom(fd, buf, MESSAGE_BYTES, 0, &from.any, &bytes, SLEY_FOREVER)) >= 0)
            n = sley_sendto(fd, buf, n, 0, &from.any, bytes, SLEY_FOREVER);
        else if (type == SOCK_SEQPACKET && (n = sley_recv(fd, buf, MESSAGE_BYTES, 0, SLEY_FOREVER)) > 0)
            n = sley_send(fd, buf, n, 0, SLEY_FOREVER);
        else if (type == SOCK_STREAM && (n = sley_recv(fd, buf, MESSAGE_BYTES, 0, SLEY_FOREVER)) > 0)
            n = sley_send_all(fd, buf, n, 0, SLEY_FOREVER) < 0 ? -EPIPE : n;
    }
    free(buf);
    return n;
}

/* All that is in the file, from its beginning, or in the pipe. */
static int read_file(int fd, char *buf, size_t bytes)
{
    size_t done = 0;
    int n;

    do {
        n = sley_pread(fd, buf + done, bytes - done, (off_t)done, SLEY_FOREVER);
        if (n == -ESPIPE)
            n = sley_read(fd, buf + done, bytes - done, SLEY_FOREVER);
        done += n > 0 ? n : 0;
    } while (n > 0);
    return n < 0 ? n : (int)done;
}

/* One message with descriptors, and its answer. As sley_recvmsg. */
static int answer_files(int fd, char *buf)
{
    union {
        char bytes[CMSG_SPACE(FILES_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    union address from;
    struct iovec v = { buf, MESSAGE_BYTES };
    struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control,
                        .msg_controllen = sizeof control };
    int n = sley_recvmsg(fd, &m, 0, SLEY_FOREVER), fds[FILES_MAX], got, count = 0, done = 0;
    struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;

    if (n <= 0)
        return n;
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), count * sizeof(int));
    }
    for (int i = 0; i < count && n >= 0; i++) {
        n = fcntl(fds[i], F_GETFD) & FD_CLOEXEC ? read_file(fds[i], buf + done, MESSAGE_BYTES - done) : -EBADFD;
        done += n > 0 ? n : 0;
    }
    v.iov_len = done;
    m.msg_flags = 0; /* the rest of m is an answer already: to whom, and the same descriptors */
    if (type == SOCK_DGRAM && m.msg_namelen == 0)
        n = -EDESTADDRREQ;
    if (type != SOCK_DGRAM)
        m.msg_namelen = 0;
    for (got = 0; n >= 0 && got < done; got += n) { /* a stream may take a part; the descriptors go with the first */
        n = sley_sendmsg(fd, &m, 0, SLEY_FOREVER);
        m.msg_controllen = 0;
        v.iov_base = (char *)v.iov_base + (n > 0 ? n : 0);
        v.iov_len -= n > 0 ? n : 0;
    }
    for (int i = 0; i < count; i++)
        sley_close(fds[i]);
    return n < 0 ? n : 1;
}

static int answer_all_files(int fd)
{
    char *buf = malloc(MESSAGE_BYTES);
    int n = buf != NULL ? 1 : -ENOMEM;

    while (n > 0)
        n = answer_files(fd, buf);
    free(buf);
    return n;
}

static int serve_one(void *arg)
{
    int fd = *(int *)arg, rc;

    rc = strcmp(command, "serve") == 0 ? echo(fd) : answer_all_files(fd);
    if (type != SOCK_DGRAM)
        sley_close(fd);
    return rc;
}

static int serve(void *arg)
{
    int listener = *(int *)arg, fd;
    sley_scope clients;

    if (type == SOCK_DGRAM)
        return serve_one(&listener);
    sley_scope_init(&clients, SLEY_FOREVER); /* an error of one ends all: the test wants to know */
    while ((fd = sley_accept(listener, NULL, NULL, SLEY_FOREVER)) >= 0)
        if (sley_go_copy(serve_one, &fd, sizeof fd) < 0)
            sley_close(fd);
    return sley_scope_wait(&clients, fd, SLEY_FOREVER);
}

static int start_server(void *arg)
{
    uint64_t signals = SLEY_SIG(SIGTERM);
    int listener, rc;
    char name[SLEY_NET_TEXT_BYTES];
    sley_scope serving;

    (void)arg;
    if ((rc = sley_signal_wait(signals, SLEY_NOW)) != -ETIMEDOUT)
        return rc;
    if ((listener = listen_at()) < 0)
        return listener;
    if ((rc = sley_net_local(listener, name, sizeof name)) < 0)
        return rc;
    printf("listening on %s\n", name);
    fflush(stdout);
    sley_scope_init(&serving, SLEY_FOREVER);
    sley_go_copy(serve, &listener, sizeof listener);
    rc = sley_signal_wait(signals, SLEY_FOREVER);
    sley_scope_cancel(&serving);
    rc = sley_scope_wait(&serving, rc, SLEY_FOREVER);
    sley_close(listener);
    return rc < 0 ? rc : 0;
}

/* --- connect ------------------------------------------------------------------------------------------------------------------------ */

static int send_stream(void *arg)
{
    int fd = *(int *)arg, n, rc = 0;
    char buf[8192];

    while (rc == 0 && (n = sley_read(STDIN_FILENO, buf, sizeof buf, SLEY_FOREVER)) > 0)
        rc = sley_send_all(fd, buf, n, 0, SLEY_FOREVER);
    if (rc == 0 && n == 0 && shutdown(fd, SHUT_WR) < 0)
        rc = -ENOTCONN;
    return rc < 0 ? rc : n;
}

static int receive_stream(int fd)
{
    char buf[5000];
    int n;

    while ((n = sley_recv(fd, buf, sizeof buf, 0, SLEY_FOREVER)) > 0)
        if ((n = sley_write_all(STDOUT_FILENO, buf, n, SLEY_FOREVER)) < 0)
            break;
    return n;
}

static int exchange_messages(int fd)
{
    unsigned char *buf = malloc(4 + MESSAGE_BYTES);
    int n = buf != NULL ? 0 : -ENOMEM;

    while (n >= 0 && (n = sley_read_all(STDIN_FILENO, buf, 4, SLEY_FOREVER)) == 4) {
        int bytes = buf[1] << 16 | buf[2] << 8 | buf[3];

        if (bytes > MESSAGE_BYTES || sley_read_all(STDIN_FILENO, buf, bytes, SLEY_FOREVER) != bytes)
            n = -EPROTO;
        else if ((n = sley_send(fd, buf, bytes, 0, SLEY_FOREVER)) >= 0 && n != bytes)
            n = -EMSGSIZE;
        if (n < 0 || (n = sley_recv(fd, buf + 4, MESSAGE_BYTES, 0, SLEY_FOREVER)) < 0)
            break;
        buf[0] = 0;
        buf[1] = (unsigned char)(n >> 16);
        buf[2] = (unsigned char)(n >> 8);
        buf[3] = (unsigned char)n;
        n = sley_write_all(STDOUT_FILENO, buf, 4 + n, SLEY_FOREVER);
    }
    free(buf);
    return n;
}

static int start_client(void *arg)
{
    int fd = dial(), rc;
    sley_scope ways;

    (void)arg;
    if (fd < 0)
        return fd;
    sley_scope_init(&ways, SLEY_FOREVER);
    if (type == SOCK_STREAM)
        sley_go_copy(send_stream, &fd, sizeof fd);
    rc = sley_scope_wait(&ways, type == SOCK_STREAM ? receive_stream(fd) : exchange_messages(fd), SLEY_FOREVER);
    sley_close(fd);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct { const char *name; int type; } types[] = {
        { "stream", SOCK_STREAM }, { "dgram", SOCK_DGRAM }, { "seqpacket", SOCK_SEQPACKET } };
    int rc;

    for (size_t i = 0; argc == 4 && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(argv[2], types[i].name) == 0)
            type = types[i].type;
    if (type == 0) {
        fputs("usage: peer serve|connect|files stream|dgram|seqpacket ADDRESS\n", stderr);
        return 2;
    }
    command = argv[1];
    address = argv[3];
    rc = sley_run(NULL, strcmp(command, "connect") == 0 ? start_client : start_server, NULL);
    if (rc < 0)
        fprintf(stderr, "peer: %s\n", strerror(-rc));
    return rc < 0;
}
