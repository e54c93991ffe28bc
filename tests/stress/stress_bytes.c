/* stress_bytes.c - every call that sends with every call that receives, over every kind of descriptor, byte for byte: what a byte is
 * follows from the seed and its place, so whatever is lost, doubled, torn or out of order is seen where it arrives.
 *
 *   stress_bytes [--bytes N[K|M|G]] [--seed N]      64M and SLEY_TEST_SEED or a new seed otherwise; --bytes: a line a second
 *
 * A pair moves its share over a wire of its own, some pairs at once: random sizes from one byte to a megabyte, deadlines that pass, ends
 * that stall, small buffers, a pipe of one page. It ends by a close, by a half-close that the receiver answers with its sum, or in the
 * middle by a reset of either side: then what has come is the beginning, and the end an error. Where there are messages their bounds are
 * looked at too; where descriptors come along, so is each. */
#include "io_scenario.h"

#include "base/limits.h"

#include <sys/uio.h>

enum { LANES = 8, BYTES_MAX = 1 << 20, INNER = 32768, PAIRS_MAX = 2000, MESSAGE_MAX = 60000 };

enum wire { TCP, TCP_SMALL, UNIX, UNIX_SMALL, PIPE, PIPE_PAGE, DISK, MEMORY, SEQPACKET, DATAGRAM, WIRES };

enum {
    IS_TCP = 1 << TCP | 1 << TCP_SMALL, IS_UNIX = 1 << UNIX | 1 << UNIX_SMALL, IS_PIPE = 1 << PIPE | 1 << PIPE_PAGE,
    IS_FILE = 1 << DISK | 1 << MEMORY, IS_MESSAGES = 1 << SEQPACKET | 1 << DATAGRAM,
    IS_SOCKET = IS_TCP | IS_UNIX, IS_ANY = IS_SOCKET | IS_PIPE | IS_FILE
};

static const char *const wire_names[] = {
    "TCP", "TCP, small", "Unix", "Unix, small", "pipe", "pipe of a page", "file", "file in memory", "seqpacket", "datagram",
};

enum ending { BY_CLOSE, BY_HALF_CLOSE, BY_SENDERS_RESET, BY_RECEIVERS_RESET };

struct end {
    struct actor actor;
    uint64_t random;
    int fd;
    size_t at;            /* so many bytes have gone, or come */
    uint64_t sum;
    sley_stream *stream;  /* if it is one of a stream's calls */
    int pipe[2], file;    /* what a splice or a copy goes through; -1: nothing */
    int descriptors;      /* that went along, or came */
    unsigned char buf[BYTES_MAX + 1];
};

struct pair;
struct way {
    const char *name;
    int (*step)(struct pair *p, struct end *e, size_t bytes); /* how many bytes; 0: the end; -errno */
    unsigned wires;
};

struct pair {
    enum wire wire;
    enum ending ending;
    const struct way *sender, *receiver;
    uint64_t seed;
    size_t total, reset_at;
    uint64_t sizes[2]; /* of messages, for either end */
    struct end out, in;
};

static _Atomic(uint64_t) moved, timeouts, resets, descriptors;
static _Atomic(unsigned) pairs_done;

/* Held where descriptors are made. ThreadSanitizer does not see sley_close give their numbers back, so it would miss the order. */
static sley_mutex making;

/* --- what is sent ---------------------------------------------------------------------------------------------------------------- */

static void fill(unsigned char *buf, size_t bytes, uint64_t seed, size_t from)
{
    for (size_t i = 0; i < bytes;) {
        size_t at = from + i, skip = at % 8, n = 8 - skip < bytes - i ? 8 - skip : bytes - i;
        uint64_t word = mix(seed + at / 8 * UINT64_C(0x9e3779b97f4a7c15));

        memcpy(buf + i, (unsigned char *)&word + skip, n);
        i += n;
    }
}

static int is_right(const unsigned char *buf, size_t bytes, uint64_t seed, size_t from)
{
    for (size_t i = 0; i < bytes;) {
        size_t at = from + i, skip = at % 8, n = 8 - skip < bytes - i ? 8 - skip : bytes - i;
        uint64_t word = mix(seed + at / 8 * UINT64_C(0x9e3779b97f4a7c15));

        if (memcmp(buf + i, (unsigned char *)&word + skip, n) != 0)
            return 0;
        i += n;
    }
    return 1;
}

static uint64_t sum_of(const unsigned char *buf, size_t bytes)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < bytes; i++)
        sum += buf[i];
    return sum;
}

static size_t random_bytes(uint64_t *random)
{
    return 1 + below(random, below(random, 4) == 0 ? 100 : below(random, 3) > 0 ? 20000 : BYTES_MAX);
}

/* Of a call that has taken and given nothing when it is cut. */
static sley_time random_deadline(uint64_t *random)
{
    switch (below(random, 16)) {
    case 0: return SLEY_NOW;
    case 1: return sley_after(below(random, 200000));
    default: return SLEY_FOREVER;
    }
}

/* The same bytes in three buffers, one of which may be empty. */
static void part(struct iovec v[3], unsigned char *buf, size_t bytes, uint64_t *random)
{
    size_t first = below(random, (uint32_t)bytes + 1), second = below(random, (uint32_t)(bytes - first) + 1);

    v[0] = (struct iovec){ buf, first };
    v[1] = (struct iovec){ buf + first, second };
    v[2] = (struct iovec){ buf + first + second, bytes - first - second };
}

static size_t at_most(size_t bytes, size_t max) { return bytes < max ? bytes : max; }

static int all(int rc, size_t bytes) { return rc < 0 ? rc : (int)bytes; }

/* --- sending: e->buf has the bytes ------------------------------------------------------------------------------------------------ */

static int by_write(struct pair *p, struct end *e, size_t bytes) { return sley_write(e->fd, e->buf, bytes, random_deadline(&e->random)); }
static int by_send(struct pair *p, struct end *e, size_t bytes) { return sley_send(e->fd, e->buf, bytes, 0, random_deadline(&e->random)); }

static int by_write_all(struct pair *p, struct end *e, size_t bytes)
{
    return all(sley_write_all(e->fd, e->buf, bytes, SLEY_FOREVER), bytes);
}

static int by_send_all(struct pair *p, struct end *e, size_t bytes)
{
    return all(sley_send_all(e->fd, e->buf, bytes, 0, SLEY_FOREVER), bytes);
}

static int by_pwrite(struct pair *p, struct end *e, size_t bytes)
{
    return sley_pwrite(e->fd, e->buf, bytes, (off_t)e->at, random_deadline(&e->random));
}

static int by_writev(struct pair *p, struct end *e, size_t bytes)
{
    struct iovec v[3];

    part(v, e->buf, bytes, &e->random);
    return sley_writev(e->fd, v, 3, random_deadline(&e->random));
}

static int by_sendmsg(struct pair *p, struct end *e, size_t bytes)
{
    struct iovec v[3];
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 3 };

    part(v, e->buf, bytes, &e->random);
    return sley_sendmsg(e->fd, &m, 0, random_deadline(&e->random));
}

/* The address of the peer that it has anyway. */
static int by_sendto(struct pair *p, struct end *e, size_t bytes)
{
    struct sockaddr_in a;
    socklen_t addr_bytes = sizeof a;

    if (getpeername(e->fd, (struct sockaddr *)&a, &addr_bytes) != 0)
        return -EPIPE; /* it is gone */
    return sley_sendto(e->fd, e->buf, bytes, 0, (struct sockaddr *)&a, addr_bytes, random_deadline(&e->random));
}

/* With a descriptor, a pipe that says at which byte it was sent. */
static int by_sendmsg_with_descriptor(struct pair *p, struct end *e, size_t bytes)
{
    char room[CMSG_SPACE(sizeof(int))] = "";
    struct iovec one = { e->buf, bytes };
    struct msghdr m = { .msg_iov = &one, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int along[2], n;

    if (below(&e->random, 4) > 0)
        return by_sendmsg(p, e, bytes);
    EXPECT(sley_mutex_lock(&making, SLEY_FOREVER) == 0);
    EXPECT(pipe2(along, O_CLOEXEC) == 0 && write(along[1], &e->at, sizeof e->at) == sizeof e->at);
    sley_mutex_unlock(&making);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &along[0], sizeof(int));
    n = sley_sendmsg(e->fd, &m, 0, random_deadline(&e->random));
    e->descriptors += n > 0;
    EXPECT(sley_close(along[0]) == 0 && sley_close(along[1]) == 0);
    return n;
}

static int by_sendfile(struct pair *p, struct end *e, size_t bytes)
{
    off_t offset = (off_t)e->at;
    int n;

    if (below(&e->random, 2)) {
        EXPECT(lseek(e->file, offset, SEEK_SET) == offset);
        return sley_sendfile(e->fd, e->file, NULL, bytes, random_deadline(&e->random));
    }
    n = sley_sendfile(e->fd, e->file, &offset, bytes, random_deadline(&e->random));
    EXPECT(offset == (off_t)e->at + (n > 0 ? n : 0));
    return n;
}

/* From the pipe into the wire, all that is in it. */
static int splice_on(int from, int to, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        int n = sley_splice(from, NULL, to, NULL, bytes - done, 0, SLEY_FOREVER);

        if (n <= 0)
            return n < 0 ? n : -EPROTO;
        done += (size_t)n;
    }
    return (int)bytes;
}

static int by_splice(struct pair *p, struct end *e, size_t bytes)
{
    int rc;

    bytes = at_most(bytes, INNER);
    rc = sley_write_all(e->pipe[1], e->buf, bytes, SLEY_FOREVER);
    return rc < 0 ? rc : splice_on(e->pipe[0], e->fd, bytes);
}

static int by_splice_of_file(struct pair *p, struct end *e, size_t bytes)
{
    off_t offset = (off_t)e->at;

    return sley_splice(e->file, &offset, e->fd, NULL, bytes, 0, random_deadline(&e->random));
}

static int by_copy_file_range(struct pair *p, struct end *e, size_t bytes)
{
    off_t in = (off_t)e->at, out = (off_t)e->at;
    int n = sley_copy_file_range(e->file, &in, e->fd, &out, bytes, 0, SLEY_FOREVER);

    EXPECT(n < 0 || (in == (off_t)e->at + n && out == in));
    return n;
}

static int flush_sometimes(struct end *e, int n)
{
    if (n > 0 && below(&e->random, 8) == 0) {
        int rc = sley_stream_flush(e->stream, random_deadline(&e->random));

        return rc < 0 && rc != -ETIMEDOUT && rc != -EOPNOTSUPP ? rc : n; /* cut: the rest stays */
    }
    return n;
}

/* One that is longer than a buffer may not be cut. */
static sley_time stream_deadline(struct end *e, size_t bytes)
{
    return bytes > SL_STREAM_BYTES ? SLEY_FOREVER : random_deadline(&e->random);
}

static int by_stream_write(struct pair *p, struct end *e, size_t bytes)
{
    return flush_sometimes(e, all(sley_stream_write(e->stream, e->buf, bytes, stream_deadline(e, bytes)), bytes));
}

static int by_stream_writev(struct pair *p, struct end *e, size_t bytes)
{
    struct iovec v[3];

    part(v, e->buf, bytes, &e->random);
    return flush_sometimes(e, all(sley_stream_writev(e->stream, v, 3, stream_deadline(e, bytes)), bytes));
}

static int by_stream_printf(struct pair *p, struct end *e, size_t bytes)
{
    const unsigned char *b = e->buf;
    size_t done = 0;

    bytes = at_most(bytes, INNER);
    while (done < bytes) {
        int n = bytes - done >= 8 ? sley_stream_printf(e->stream, "%c%c%c%c%c%c%c%c", b[done], b[done + 1], b[done + 2], b[done + 3],
                                                       b[done + 4], b[done + 5], b[done + 6], b[done + 7])
                                  : sley_stream_printf(e->stream, "%c", b[done]);

        if (n == -ENOBUFS)
            n = sley_stream_flush(e->stream, SLEY_FOREVER);
        if (n < 0)
            return n;
        done += (size_t)n;
    }
    return flush_sometimes(e, (int)done);
}

static int by_stream_copy(struct pair *p, struct end *e, size_t bytes)
{
    sley_stream *from = sley_stream_create(e->file);
    int64_t n;

    EXPECT(lseek(e->file, (off_t)e->at, SEEK_SET) == (off_t)e->at);
    if (below(&e->random, 2))
        EXPECT(sley_stream_peek(from, 1, SLEY_FOREVER) > 0); /* some is buffered */
    n = sley_stream_copy(e->stream, from, (int64_t)bytes, random_deadline(&e->random));
    sley_stream_destroy(from);
    return (int)n;
}

static const struct way senders[] = {
    { "write", by_write, IS_ANY | IS_MESSAGES },
    { "write_all", by_write_all, IS_ANY | IS_MESSAGES },
    { "writev", by_writev, IS_ANY | IS_MESSAGES },
    { "pwrite", by_pwrite, IS_FILE },
    { "send", by_send, IS_SOCKET | IS_MESSAGES },
    { "send_all", by_send_all, IS_SOCKET | IS_MESSAGES },
    { "sendto", by_sendto, IS_TCP },
    { "sendmsg", by_sendmsg, IS_SOCKET | IS_MESSAGES },
    { "sendmsg with descriptors", by_sendmsg_with_descriptor, IS_UNIX | IS_MESSAGES },
    { "sendfile", by_sendfile, IS_ANY },
    { "splice", by_splice, IS_ANY },
    { "splice of a file", by_splice_of_file, IS_PIPE },
    { "copy_file_range", by_copy_file_range, IS_FILE },
    { "stream_write", by_stream_write, IS_ANY },
    { "stream_writev", by_stream_writev, IS_ANY },
    { "stream_printf", by_stream_printf, IS_ANY },
    { "stream_copy", by_stream_copy, IS_ANY },
};

/* --- receiving: into e->buf -------------------------------------------------------------------------------------------------------- */

static int in_read(struct pair *p, struct end *e, size_t bytes) { return sley_read(e->fd, e->buf, bytes, random_deadline(&e->random)); }
static int in_recv(struct pair *p, struct end *e, size_t bytes) { return sley_recv(e->fd, e->buf, bytes, 0, random_deadline(&e->random)); }

static int in_read_all(struct pair *p, struct end *e, size_t bytes)
{
    return sley_read_all(e->fd, e->buf, bytes, random_deadline(&e->random));
}

static int in_pread(struct pair *p, struct end *e, size_t bytes)
{
    return sley_pread(e->fd, e->buf, bytes, (off_t)e->at, random_deadline(&e->random));
}

static int in_recvfrom(struct pair *p, struct end *e, size_t bytes)
{
    struct sockaddr_storage a;
    socklen_t addr_bytes = sizeof a;

    return sley_recvfrom(e->fd, e->buf, bytes, 0, (struct sockaddr *)&a, &addr_bytes, random_deadline(&e->random));
}

static int in_recv_whole(struct pair *p, struct end *e, size_t bytes)
{
    return sley_recv(e->fd, e->buf, bytes, MSG_WAITALL, random_deadline(&e->random));
}

static int in_readv(struct pair *p, struct end *e, size_t bytes)
{
    struct iovec v[3];

    part(v, e->buf, bytes, &e->random);
    return sley_readv(e->fd, v, 3, random_deadline(&e->random));
}

static int receive_message(struct end *e, size_t bytes, int flags)
{
    char room[CMSG_SPACE(sizeof(int))];
    struct iovec v[3];
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 3, .msg_control = room, .msg_controllen = sizeof room };
    int n;

    part(v, e->buf, bytes, &e->random);
    n = sley_recvmsg(e->fd, &m, flags, random_deadline(&e->random));
    if (n < 0)
        return n;
    EXPECT(!(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
        size_t at = 0;
        int along;

        EXPECT(c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)));
        memcpy(&along, CMSG_DATA(c), sizeof along);
        EXPECT(sley_read_all(along, &at, sizeof at, SLEY_FOREVER) == sizeof at && at >= e->at && at < e->at + (size_t)n);
        EXPECT(sley_close(along) == 0);
        e->descriptors++;
    }
    return n;
}

static int in_recvmsg(struct pair *p, struct end *e, size_t bytes) { return receive_message(e, bytes, 0); }
static int in_recvmsg_whole(struct pair *p, struct end *e, size_t bytes) { return receive_message(e, bytes, MSG_WAITALL); }

static int out_of_pipe(struct end *e, int n)
{
    return n <= 0 ? n : sley_read_all(e->pipe[0], e->buf, (size_t)n, SLEY_FOREVER) == n ? n : -EPROTO;
}

static int in_splice(struct pair *p, struct end *e, size_t bytes)
{
    return out_of_pipe(e, sley_splice(e->fd, NULL, e->pipe[1], NULL, at_most(bytes, INNER), 0, random_deadline(&e->random)));
}

static int in_sendfile(struct pair *p, struct end *e, size_t bytes)
{
    return out_of_pipe(e, sley_sendfile(e->pipe[1], e->fd, NULL, at_most(bytes, INNER), random_deadline(&e->random)));
}

static int out_of_file(struct end *e, int n)
{
    return n <= 0 ? n : sley_pread(e->file, e->buf, (size_t)n, 0, SLEY_FOREVER) == n ? n : -EPROTO;
}

static int in_copy_file_range(struct pair *p, struct end *e, size_t bytes)
{
    off_t start = 0;

    return out_of_file(e, sley_copy_file_range(e->fd, NULL, e->file, &start, bytes, 0, SLEY_FOREVER));
}

static int in_stream_read(struct pair *p, struct end *e, size_t bytes)
{
    return sley_stream_read(e->stream, e->buf, bytes, random_deadline(&e->random));
}

static int in_stream_read_all(struct pair *p, struct end *e, size_t bytes)
{
    return sley_stream_read_all(e->stream, e->buf, bytes, random_deadline(&e->random));
}

static int in_stream_line(struct pair *p, struct end *e, size_t bytes)
{
    int n = sley_stream_read_line(e->stream, (char *)e->buf, bytes + 1, random_deadline(&e->random));

    if (n == -EMSGSIZE)
        return in_stream_read(p, e, bytes);
    EXPECT(n <= 0 || e->buf[n] == '\0');
    EXPECT(n <= 1 || memchr(e->buf, '\n', (size_t)n - 1) == NULL);
    return n;
}

static int in_stream_until(struct pair *p, struct end *e, size_t bytes)
{
    unsigned char mark[2];
    int n;

    fill(mark, sizeof mark, p->seed, e->at + bytes / 2);
    n = sley_stream_read_until(e->stream, e->buf, bytes, mark, sizeof mark, random_deadline(&e->random));
    if (n == -EMSGSIZE)
        return in_stream_read(p, e, bytes);
    EXPECT(n <= 2 || memmem(e->buf, (size_t)n - 1, mark, sizeof mark) == NULL);
    return n;
}

static int in_stream_peek(struct pair *p, struct end *e, size_t bytes)
{
    int n = sley_stream_peek(e->stream, bytes, random_deadline(&e->random));

    if (n > 0) {
        n = 1 + (int)below(&e->random, at_most((size_t)n, BYTES_MAX));
        memcpy(e->buf, sley_stream_data(e->stream), (size_t)n);
        sley_stream_skip(e->stream, (size_t)n);
    }
    return n;
}

static int in_stream_copy(struct pair *p, struct end *e, size_t bytes)
{
    sley_stream *to = sley_stream_create(e->file);
    int64_t n;

    EXPECT(lseek(e->file, 0, SEEK_SET) == 0);
    n = sley_stream_copy(to, e->stream, (int64_t)bytes, random_deadline(&e->random));
    sley_stream_destroy(to);
    return out_of_file(e, (int)n);
}

static const struct way receivers[] = {
    { "read", in_read, IS_ANY | IS_MESSAGES },
    { "read_all", in_read_all, IS_ANY },
    { "readv", in_readv, IS_ANY | IS_MESSAGES },
    { "pread", in_pread, IS_FILE },
    { "recv", in_recv, IS_SOCKET | IS_MESSAGES },
    { "recvfrom", in_recvfrom, IS_SOCKET | IS_MESSAGES },
    { "recv of all", in_recv_whole, IS_SOCKET },
    { "recvmsg", in_recvmsg, IS_SOCKET | IS_MESSAGES },
    { "recvmsg of all", in_recvmsg_whole, IS_SOCKET },
    { "splice", in_splice, IS_ANY },
    { "sendfile", in_sendfile, IS_FILE },
    { "copy_file_range", in_copy_file_range, IS_FILE },
    { "stream_read", in_stream_read, IS_ANY },
    { "stream_read_all", in_stream_read_all, IS_ANY },
    { "stream_read_line", in_stream_line, IS_ANY },
    { "stream_read_until", in_stream_until, IS_ANY },
    { "stream_peek", in_stream_peek, IS_ANY },
    { "stream_copy", in_stream_copy, IS_ANY },
};

/* --- the two ends ------------------------------------------------------------------------------------------------------------------ */

static int is(const struct pair *p, unsigned wires) { return (1u << p->wire & wires) != 0; }

static void stall_sometimes(struct end *e)
{
    if (below(&e->random, 64) == 0)
        EXPECT(sley_sleep(below(&e->random, 300000)) == 0);
    else if (below(&e->random, 16) == 0)
        give_way();
}

static int try_again(int n)
{
    int is_cut = n == -ETIMEDOUT || n == -EOPNOTSUPP; /* the file system cannot say */

    timeouts += n == -ETIMEDOUT;
    return is_cut;
}

static int is_lost(int n) { return n == -ECONNRESET || n == -EPIPE; }

static size_t message_bytes(uint64_t *sizes, size_t left)
{
    return at_most(1 + below(sizes, below(sizes, 2) ? 100 : MESSAGE_MAX), left);
}

/* The connection ends now, and what is on its way with it. */
static void reset(struct end *e)
{
    struct linger at_once = { .l_onoff = 1 };

    setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once); /* of no meaning but for TCP */
    EXPECT(sley_close(e->fd) == 0);
    e->fd = -1;
}

static void check_answer(struct pair *p)
{
    uint64_t answer[2] = { 0, 0 };

    EXPECT(shutdown(p->out.fd, SHUT_WR) == 0);
    EXPECT(sley_read_all(p->out.fd, answer, sizeof answer, SLEY_FOREVER) == sizeof answer);
    EXPECT(answer[0] == p->out.at && answer[1] == p->out.sum);
}

static int be_sender(void *arg)
{
    struct pair *p = arg;
    struct end *e = &p->out;
    size_t end = p->ending == BY_SENDERS_RESET ? p->reset_at : p->total;
    int n = 0;

    while (e->at < end) {
        size_t left = end - e->at, bytes = at_most(random_bytes(&e->random), left);

        if (is(p, IS_MESSAGES))
            bytes = message_bytes(&p->sizes[0], left);
        fill(e->buf, bytes, p->seed, e->at);
        do
            n = p->sender->step(p, e, bytes);
        while (try_again(n));
        if (n <= 0)
            break;
        EXPECT((size_t)n <= bytes && (!is(p, IS_MESSAGES) || (size_t)n == bytes));
        e->sum += sum_of(e->buf, (size_t)n);
        e->at += (size_t)n;
        stall_sometimes(e);
    }
    if (e->stream != NULL && n >= 0 && p->ending != BY_SENDERS_RESET)
        n = sley_stream_flush(e->stream, SLEY_FOREVER) < 0 ? -EPIPE : n;
    EXPECT(n > 0 || (p->ending == BY_RECEIVERS_RESET && is_lost(n)));
    if (p->ending == BY_SENDERS_RESET)
        reset(e);
    else if (p->ending == BY_HALF_CLOSE && n > 0)
        check_answer(p);
    if (e->fd >= 0)
        EXPECT(sley_close(e->fd) == 0);
    return 0;
}

static int be_receiver(void *arg)
{
    struct pair *p = arg;
    struct end *e = &p->in;
    size_t end = p->ending == BY_RECEIVERS_RESET ? p->reset_at : SIZE_MAX;
    int n = 0;

    while (e->at < end) {
        size_t bytes = is(p, IS_MESSAGES) ? BYTES_MAX : random_bytes(&e->random), wanted = 0;

        if (p->wire == DATAGRAM && e->at == p->total)
            break; /* nothing else tells the end */
        if (is(p, IS_MESSAGES) && e->at < p->total)
            wanted = message_bytes(&p->sizes[1], p->total - e->at);
        do
            n = p->receiver->step(p, e, bytes);
        while (try_again(n));
        EXPECT(n <= 0 || is_right(e->buf, (size_t)n, p->seed, e->at));
        EXPECT(!is(p, IS_MESSAGES) || n == (int)wanted);
        if (n <= 0)
            break;
        e->sum += sum_of(e->buf, (size_t)n);
        e->at += (size_t)n;
        moved += (uint64_t)n;
        stall_sometimes(e);
    }
    if (p->ending == BY_RECEIVERS_RESET) {
        EXPECT(n >= 0);
        reset(e);
        return 0;
    }
    EXPECT(p->ending == BY_SENDERS_RESET ? is_lost(n) : n >= 0);
    if (p->ending == BY_HALF_CLOSE) {
        uint64_t answer[2] = { e->at, e->sum };

        EXPECT(sley_write_all(e->fd, answer, sizeof answer, SLEY_FOREVER) == 0);
    }
    return sley_close(e->fd);
}

/* --- the wires --------------------------------------------------------------------------------------------------------------------- */

static void set(int fd, int option, int value) { EXPECT(setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) == 0); }

/* A new file without a name: its two descriptors have a position each. */
static int open_file(const char *dir, int *other)
{
    char name[64], path[64];
    int fd;

    snprintf(name, sizeof name, "%s/sley-bytes-XXXXXX", dir);
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        perror(name);
        abort();
    }
    unlink(name);
    if (other != NULL) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        *other = open(path, O_RDWR | O_CLOEXEC);
        EXPECT(*other >= 0);
    }
    return fd;
}

static void make_wire(struct pair *p, uint64_t *random)
{
    int fds[2];

    switch (p->wire) {
    case TCP: case TCP_SMALL:
        make_tcp_pair(fds);
        break;
    case UNIX: case UNIX_SMALL:
        make_pair(fds, SOCK_STREAM);
        break;
    case PIPE: case PIPE_PAGE:
        EXPECT(pipe2(fds, O_CLOEXEC) == 0);
        EXPECT(p->wire == PIPE || fcntl(fds[0], F_SETPIPE_SZ, 4096) == 4096);
        break;
    case DISK: case MEMORY:
        fds[1] = open_file(p->wire == DISK ? "/tmp" : "/dev/shm", &fds[0]);
        break;
    default:
        make_pair(fds, p->wire == SEQPACKET ? SOCK_SEQPACKET : SOCK_DGRAM);
    }
    p->in.fd = fds[0];
    p->out.fd = fds[1];
    if (p->wire == TCP_SMALL || p->wire == UNIX_SMALL) {
        set(fds[1], SO_SNDBUF, 1);
        set(fds[0], SO_RCVBUF, 16384); /* with less TCP waits for its timers */
    }
    if (!is(p, IS_FILE))
        for (int i = 0; i < 2; i++)
            if (below(random, 2))
                EXPECT(fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK) == 0);
}

static int is_named(const struct way *w, const char *word) { return strstr(w->name, word) != NULL; }

/* What its call goes through, beside the wire. */
static void equip(struct pair *p, struct end *e, const struct way *w, uint64_t *random)
{
    int direct;
    char path[64];

    e->pipe[0] = e->pipe[1] = e->file = -1;
    e->stream = is_named(w, "stream") ? sley_stream_create(e->fd) : NULL;
    if (is_named(w, "splice") || (e == &p->in && is_named(w, "sendfile")))
        EXPECT(pipe2(e->pipe, O_CLOEXEC) == 0);
    if (is_named(w, "copy") || is_named(w, "file"))
        e->file = open_file(p->wire == MEMORY ? "/dev/shm" : "/tmp", NULL); /* copy_file_range stays in its file system */
    if (e != &p->out || e->file < 0)
        return;
    for (size_t at = 0; at < p->total; at += BYTES_MAX) {
        size_t bytes = at_most(p->total - at, BYTES_MAX);

        fill(e->buf, bytes, p->seed, at);
        EXPECT(sley_pwrite(e->file, e->buf, bytes, (off_t)at, SLEY_FOREVER) == (int)bytes);
    }
    if (w->step != by_sendfile || below(random, 3) > 0)
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", e->file);
    direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC); /* past the page cache, where there is such a thing */
    if (direct >= 0) {
        EXPECT(sley_close(e->file) == 0);
        e->file = direct;
    }
}

static void strip(struct end *e)
{
    sley_stream_destroy(e->stream);
    for (int i = 0; i < 2; i++)
        if (e->pipe[i] >= 0)
            EXPECT(sley_close(e->pipe[i]) == 0);
    if (e->file >= 0)
        EXPECT(sley_close(e->file) == 0);
}

static enum ending random_ending(const struct pair *p, uint64_t *random)
{
    unsigned n = below(random, 8);

    if (n == 0 && is(p, IS_TCP))
        return BY_SENDERS_RESET;
    if (n == 1 && is(p, IS_SOCKET | IS_PIPE))
        return BY_RECEIVERS_RESET;
    return n < 5 && is(p, IS_SOCKET) ? BY_HALF_CLOSE : BY_CLOSE;
}

/* --- all pairs --------------------------------------------------------------------------------------------------------------------- */

struct choice {
    enum wire wire;
    const struct way *sender, *receiver;
};

static struct choice choices[PAIRS_MAX];
static unsigned choice_count;
static _Atomic(unsigned) next_choice;
static uint64_t seed, bytes_wanted = 64 << 20;
static int is_chatty;

static void list_pairs(void)
{
    uint64_t random = seed;

    choice_count = 0;
    next_choice = 0;
    for (enum wire w = 0; w < WIRES; w++)
        for (size_t s = 0; s < sizeof senders / sizeof *senders; s++)
            for (size_t r = 0; r < sizeof receivers / sizeof *receivers; r++)
                if (senders[s].wires & receivers[r].wires & 1u << w)
                    choices[choice_count++] = (struct choice){ w, &senders[s], &receivers[r] };
    for (unsigned i = choice_count; i > 1; i--) { /* so that different ones meet */
        unsigned other = below(&random, i);
        struct choice c = choices[other];

        choices[other] = choices[i - 1];
        choices[i - 1] = c;
    }
}

/* As actor_result, without keeping a worker busy. */
static int result_of(struct actor *a)
{
    while (!a->done)
        EXPECT(sley_sleep(200 * SLEY_US) == 0);
    return actor_result(a);
}

static void play_pair(struct pair *p, unsigned number)
{
    const struct choice *c = &choices[number];
    uint64_t random = mix(seed + number + 1);
    int was_fine = scene.unmet == NULL;

    memset(p, 0, sizeof *p);
    p->wire = c->wire;
    p->sender = c->sender;
    p->receiver = c->receiver;
    p->seed = mix(random);
    p->total = bytes_wanted / choice_count + 1;
    p->ending = random_ending(p, &random);
    p->reset_at = 1 + below(&random, (uint32_t)at_most(p->total, UINT32_MAX));
    p->sizes[0] = p->sizes[1] = p->out.random = mix(p->seed + 1);
    p->in.random = mix(p->seed + 2);
    EXPECT(sley_mutex_lock(&making, SLEY_FOREVER) == 0);
    make_wire(p, &random);
    equip(p, &p->out, p->sender, &random);
    equip(p, &p->in, p->receiver, &random);
    sley_mutex_unlock(&making);
    actor_start_as(&p->out.actor, below(&random, 8) == 0, be_sender, p);
    if (is(p, IS_FILE))
        EXPECT(result_of(&p->out.actor) == 0);
    actor_start_as(&p->in.actor, below(&random, 8) == 0, be_receiver, p);
    if (!is(p, IS_FILE))
        EXPECT(result_of(&p->out.actor) == 0);
    EXPECT(result_of(&p->in.actor) == 0);
    if (p->ending == BY_CLOSE || p->ending == BY_HALF_CLOSE) {
        EXPECT(p->out.at == p->total && p->in.at == p->total && p->in.sum == p->out.sum);
        EXPECT(!is_named(p->receiver, "recvmsg") || p->in.descriptors == p->out.descriptors);
    }
    EXPECT(p->in.at <= p->out.at || p->ending == BY_RECEIVERS_RESET); /* a call that was cut by it may have sent some */
    strip(&p->out);
    strip(&p->in);
    resets += p->ending == BY_SENDERS_RESET || p->ending == BY_RECEIVERS_RESET;
    descriptors += (unsigned)p->in.descriptors;
    pairs_done++;
    if (was_fine && scene.unmet != NULL)
        print_message("%s, %s to %s, ending %d, %zu bytes: sent %zu, received %zu: line %d, expected %s\n", wire_names[p->wire],
                      p->sender->name, p->receiver->name, p->ending, p->total, p->out.at, p->in.at, scene.unmet_line, scene.unmet);
}

static int be_lane(void *arg)
{
    struct pair *p = malloc(sizeof *p);
    unsigned number;

    EXPECT(p != NULL);
    while (p != NULL && scene.unmet == NULL && (number = next_choice++) < choice_count)
        play_pair(p, number);
    free(p);
    return 0;
}

static void traffic(void)
{
    struct actor lanes[LANES];

    for (int i = 0; i < LANES; i++)
        actor_start_as(&lanes[i], 0, be_lane, NULL);
    for (int i = 0; i < LANES; i++)
        EXPECT(result_of(&lanes[i]) == 0);
}

static _Atomic(int) is_over;

static void *tell(void *arg)
{
    struct timespec second = { .tv_sec = 1 };

    while (!is_over) {
        nanosleep(&second, NULL);
        fprintf(stderr, "%u of %u pairs, %llu MB\n", pairs_done, choice_count, (unsigned long long)moved >> 20);
    }
    return arg;
}

static void every_byte_arrives_once_in_its_place(void **state)
{
    int before = count_descriptors();
    pthread_t teller;

    (void)state;
    list_pairs();
    if (is_chatty)
        assert_int_equal(pthread_create(&teller, NULL, tell, NULL), 0);
    play(traffic, FIBERS);
    if (is_chatty) {
        is_over = 1;
        pthread_join(teller, NULL);
    }
    print_message("%llu bytes, %u pairs, %llu of them cut by a reset, %llu timeouts, %llu descriptors passed\n", (unsigned long long)moved,
                  pairs_done, (unsigned long long)resets, (unsigned long long)timeouts, (unsigned long long)descriptors);
    assert_int_equal(pairs_done, choice_count);
    assert_int_equal(count_descriptors(), before);
}

static uint64_t amount(const char *text)
{
    char *unit;
    uint64_t n = strtoull(text, &unit, 0);

    return n << (*unit == 'G' ? 30 : *unit == 'M' ? 20 : *unit == 'K' ? 10 : 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_byte_arrives_once_in_its_place) };

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--bytes") == 0)
            bytes_wanted = amount(argv[i + 1]);
        else if (strcmp(argv[i], "--seed") == 0)
            setenv("SLEY_TEST_SEED", argv[i + 1], 1);
        is_chatty = is_chatty || strcmp(argv[i], "--bytes") == 0;
    }
    seed = test_seed();
    return cmocka_run_group_tests_name("stress_bytes", tests, NULL, NULL);
}
