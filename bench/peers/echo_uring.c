/* echo_uring.c - the echo server as an io_uring loop by hand: one thread, multishot accept and receive, provided buffers; the answer
 * is sent from the buffer that came. usage: echo_uring PORT */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ENTRIES = 4096, BUFFERS = 8192, BUFFER_BYTES = 2048, GROUP = 0 };

enum kind { ACCEPT, RECEIVE, SEND };

static struct io_uring ring;
static struct io_uring_buf_ring *free_buffers;
static char *buffers;

static _Noreturn void die(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(1);
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("socket", errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, SOMAXCONN) < 0)
        die("listen", errno);
    return fd;
}

static struct io_uring_sqe *next_sqe(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

    if (sqe == NULL) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

/* After the prep function: some versions of it clear the field. */
static void label(struct io_uring_sqe *sqe, enum kind kind, int fd, unsigned buffer)
{
    sqe->user_data = (uint64_t)kind << 56 | (uint64_t)buffer << 32 | (uint32_t)fd;
}

static void accept_all(int listener)
{
    struct io_uring_sqe *sqe = next_sqe();

    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    label(sqe, ACCEPT, listener, 0);
}

static void receive_all(int fd)
{
    struct io_uring_sqe *sqe = next_sqe();

    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    label(sqe, RECEIVE, fd, 0);
}

static void give_back(unsigned buffer)
{
    io_uring_buf_ring_add(free_buffers, buffers + (size_t)buffer * BUFFER_BYTES, BUFFER_BYTES, (unsigned short)buffer,
                          io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(free_buffers, 1);
}

static void received(int fd, const struct io_uring_cqe *cqe)
{
    if (cqe->res > 0) {
        unsigned buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        struct io_uring_sqe *sqe = next_sqe();

        io_uring_prep_send(sqe, fd, buffers + (size_t)buffer * BUFFER_BYTES, (size_t)cqe->res, MSG_NOSIGNAL | MSG_WAITALL);
        label(sqe, SEND, fd, buffer);
        if (!(cqe->flags & IORING_CQE_F_MORE))
            receive_all(fd);
    } else if (cqe->res == -ENOBUFS) {
        receive_all(fd);
    } else {
        close(fd);
    }
}

static void handle(int listener, const struct io_uring_cqe *cqe)
{
    enum kind kind = (enum kind)(cqe->user_data >> 56);
    int one = 1;

    switch (kind) {
    case ACCEPT:
        if (cqe->res >= 0) {
            setsockopt(cqe->res, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            receive_all(cqe->res);
        }
        if (!(cqe->flags & IORING_CQE_F_MORE))
            accept_all(listener);
        break;
    case RECEIVE:
        received((int)(uint32_t)cqe->user_data, cqe);
        break;
    case SEND:
        give_back(cqe->user_data >> 32 & 0xffffff);
        break;
    }
}

static void start(void)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = 4 * ENTRIES,
    };
    struct io_uring_buf_reg reg = { .ring_entries = BUFFERS, .bgid = GROUP };
    void *mapping = NULL;
    int rc = io_uring_queue_init_params(ENTRIES, &ring, &params);

    if (rc < 0)
        die("io_uring", -rc);
    if (posix_memalign(&mapping, 4096, BUFFERS * sizeof(struct io_uring_buf)) != 0 ||
        (buffers = aligned_alloc(4096, (size_t)BUFFERS * BUFFER_BYTES)) == NULL)
        die("memory", ENOMEM);
    free_buffers = mapping;
    io_uring_buf_ring_init(free_buffers);
    reg.ring_addr = (uint64_t)(uintptr_t)mapping;
    if ((rc = io_uring_register_buf_ring(&ring, &reg, 0)) < 0)
        die("buffer ring", -rc);
    for (unsigned i = 0; i < BUFFERS; i++)
        give_back(i);
}

int main(int argc, char **argv)
{
    int listener = listen_on((uint16_t)strtoul(argc > 1 ? argv[1] : "7777", NULL, 10));

    start();
    accept_all(listener);
    puts("listening");
    fflush(stdout);
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        int rc = io_uring_submit_and_wait(&ring, 1);

        if (rc < 0 && rc != -EINTR)
            die("submit", -rc);
        io_uring_for_each_cqe(&ring, head, cqe) {
            handle(listener, cqe);
            seen++;
        }
        io_uring_cq_advance(&ring, seen);
    }
}
