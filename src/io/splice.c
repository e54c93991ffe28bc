/* splice.c - between a pipe and something else, without a copy through the program.
 *
 * splice(2) itself, told not to wait for the pipe (SPLICE_F_NONBLOCK). It would wait for the other side all the same if that is blocking,
 * and one that does so in a worker of io_uring is one of few: as many splices as there are of those could wait for each other. So what is
 * neither a file nor a pipe is made non-blocking, and what is not ready is waited for in a poll.
 * A file may wait for its disk, never without end: writing it, and reading what is not in memory, goes where io_uring does it. */
#include "io/transfer.h"

#include <sley/io.h>

#define DIRECT_BYTES ((size_t)256 << 10) /* as sendfile.c */
#define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)
#define VAIN_MAX     4

struct splice {
    struct sl_call in, out;
    struct sl_op   op;      /* with offsets of -1 where there is none */
    bool           dont_wait;
    sley_time      deadline;
};

static int learn(struct sl_call *c, int fd)
{
    return sl_record_kind(c->record) == SL_FD_UNKNOWN ? sl_record_learn(c->record, fd) : 0;
}

static bool is_file(const struct sl_call *c)
{
    return sl_record_kind(c->record) == SL_FD_FILE;
}

static bool in_memory(const struct sl_call *c)
{
    return sl_record_hinted(c->record, SL_HINT_MEMORY);
}

static bool is_pipe(const struct sl_call *c, int fd)
{
    return sl_record_kind(c->record) == SL_FD_STREAM && sl_sys_fcntl(fd, F_GETPIPE_SZ, 0) >= 0;
}

/* One end, with its offset: refuse what would never be ready, make it ready to be spliced. 1: it is a pipe; 0; -errno. */
static int prepare_end(struct sl_call *c, int fd, int wrong_access, uint64_t offset)
{
    int rc = learn(c, fd), flags;

    if (rc < 0)
        return rc;
    flags = sl_sys_fcntl(fd, F_GETFL, 0);
    if (flags < 0 || (flags & O_ACCMODE) == wrong_access)
        return flags < 0 ? flags : -EBADF;
    if (is_pipe(c, fd))
        return offset != UINT64_MAX ? -ESPIPE : 1;
    if (!is_file(c) && !(flags & O_NONBLOCK))
        rc = sl_sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    return rc < 0 ? rc : 0;
}

static int prepare(struct splice *s)
{
    int in = prepare_end(&s->in, s->op.fd_in, O_WRONLY, s->op.addr);
    int out = in < 0 ? in : prepare_end(&s->out, s->op.fd, O_RDONLY, s->op.off);

    return out < 0 ? out : in > 0 || out > 0 ? 0 : -EINVAL;
}

/* Whether the first and the last byte that are wanted of the file are in memory: then all of it is, most probably. 1; 0: they are not, or
 * that cannot be told; -errno. */
static int is_at_hand(const struct splice *s, size_t bytes)
{
    int64_t at = s->op.addr != UINT64_MAX ? (int64_t)s->op.addr : sl_sys_lseek(s->op.fd_in, 0, SEEK_CUR);
    char byte;
    struct iovec one = { &byte, 1 };
    int n;

    if (in_memory(&s->in))
        return 1;
    if (at < 0 || at > INT64_MAX - (int64_t)DIRECT_BYTES || sl_record_hinted(s->in.record, SL_HINT_NO_TRY))
        return 0;
    n = sl_transfer_try(IORING_OP_READ, s->op.fd_in, &one, 1, at, RWF_NOWAIT);
    if (n == 1)
        n = sl_transfer_try(IORING_OP_READ, s->op.fd_in, &one, 1, at + (int64_t)bytes - 1, RWF_NOWAIT) < 0 ? 0 : 1;
    else if (n == 0)
        n = 1; /* behind the end: nothing is read */
    return n == -EAGAIN || n == -EOPNOTSUPP ? 0 : n;
}

/* Do it here and now. */
static int splice_direct(struct splice *s)
{
    return sl_call_direct(&s->out, sl_perform(&s->op, NULL));
}

/* Until both sides are ready; somebody else may be faster. 0; 1: they were, and yet it could not be done, `vain` times in a row now;
 * -errno. */
static int wait_ready(struct splice *s, int vain)
{
    struct sl_call *c = &s->in;
    int fd = s->op.fd_in, rc;
    unsigned events = POLLIN;

    if (s->dont_wait)
        return -EAGAIN;
    if (s->deadline == SLEY_NOW)
        return -ETIMEDOUT;
    rc = sl_poll_now(fd, events);
    if (rc > 0) {
        c = &s->out;
        fd = s->op.fd;
        events = POLLOUT;
        rc = sl_poll_now(fd, events);
    }
    if (rc > 0) {
        rc = vain < VAIN_MAX ? sl_call_turn(c->fiber) : sl_call_pause(c, fd, s->deadline);
        return rc < 0 ? rc : 1;
    }
    if (rc == 0)
        rc = sl_call_poll(c, fd, events, s->deadline);
    return rc < 0 ? rc : 0;
}

/* From a pipe into a file. The pipe is waited for here, so that the kernel's worker waits for the disk alone. */
static int into_file(struct splice *s)
{
    if (in_memory(&s->out))
        return splice_direct(s);
    if (s->deadline == SLEY_NOW)
        return -EOPNOTSUPP;
    if (sl_poll_now(s->op.fd_in, POLLIN) == 0)
        return -EAGAIN;
    return sl_call_perform(&s->out, &s->op, s->deadline);
}

/* From a file into a pipe. */
static int out_of_file(struct splice *s)
{
    uint32_t wanted = s->op.len;
    int n = sl_poll_now(s->op.fd, POLLOUT);

    if (n <= 0)
        return n < 0 ? n : -EAGAIN;
    if (s->op.len > DIRECT_BYTES)
        s->op.len = DIRECT_BYTES;
    n = is_at_hand(s, s->op.len);
    if (n > 0) {
        n = splice_direct(s);
    } else if (n == 0) {
        s->op.len = wanted;
        n = s->deadline == SLEY_NOW ? -ETIMEDOUT : sl_call_perform(&s->out, &s->op, s->deadline);
    }
    s->op.len = wanted;
    return n;
}

static int splice_some(struct splice *s)
{
    int rc = prepare(s), vain = 0;

    if (rc == 0)
        rc = sl_record_take_error(s->in.record, s->op.fd_in);
    if (rc < 0)
        return rc;
    for (;;) {
        rc = is_file(&s->out) ? into_file(s) : is_file(&s->in) ? out_of_file(s) : splice_direct(s);
        if (rc != -EAGAIN)
            return rc;
        rc = wait_ready(s, vain);
        if (rc < 0)
            return rc;
        vain = rc > 0 ? vain + 1 : 0;
        if ((rc = sl_call_again(&s->out)) < 0)
            return rc;
    }
}

int sley_splice(int in_fd, off_t *in_offset, int out_fd, off_t *out_offset, size_t bytes, unsigned flags, sley_time deadline)
{
    struct splice s = {
        .op = {
            .code = IORING_OP_SPLICE,
            .fd = out_fd,
            .fd_in = in_fd,
            .addr = in_offset != NULL ? (uint64_t)*in_offset : UINT64_MAX,
            .off = out_offset != NULL ? (uint64_t)*out_offset : UINT64_MAX,
            .len = bytes < SL_IO_BYTES_MAX ? (uint32_t)bytes : (uint32_t)SL_IO_BYTES_MAX,
            .flags = flags | SPLICE_F_NONBLOCK,
        },
        .dont_wait = flags & SPLICE_F_NONBLOCK,
        .deadline = deadline,
    };
    int rc;

    if (flags & ~(unsigned)SPLICE_FLAGS || (in_offset != NULL && *in_offset < 0) || (out_offset != NULL && *out_offset < 0))
        return -EINVAL;
    if (bytes == 0)
        return 0;
    if ((rc = sl_call_begin(&s.in, in_fd, deadline)) < 0)
        return rc;
    if ((rc = sl_call_begin(&s.out, out_fd, deadline)) < 0)
        goto end_in;
    sl_call_join(&s.in, &s.out);
    rc = splice_some(&s);
    sl_call_end(&s.out);
    if (rc > 0 && in_offset != NULL)
        *in_offset += rc;
    if (rc > 0 && out_offset != NULL)
        *out_offset += rc;
end_in:
    sl_call_end(&s.in);
    return rc;
}
