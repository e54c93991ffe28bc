/* test_cancel_io.c - the rows of docs/cancellation.md that are about descriptors, names and signals. How a row is played:
 * cancel_scenario.h. The other rows: test_cancel.c. */
#include "cancel_scenario.h"

#include "io/record.h"
#include "io/stream.h"

#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/uio.h>

enum { PIPE_BYTES = 4096, MESSAGE_BYTES = 100, ALL_BYTES = 3 * PIPE_BYTES, FILE_BYTES = 8192, CLIENTS_MAX = 80 };
enum { LINE_BYTES = 3, LONG_BYTES = 2 * SL_STREAM_BYTES + 5 * PIPE_BYTES };

/* What the row that is played works on. The bytes of a stream are the pattern, from 0 on. */
static struct {
    int in, out;        /* two ends of a stream: what is written to out is read from in */
    int spare;          /* another end of theirs, kept open */
    size_t put, got;    /* bytes that went into the stream, bytes that were taken out of it */
    int listener, queued, accepted[CLIENTS_MAX], accepted_count, clients[CLIENTS_MAX], client_count;
    int file, dir, reader, result;
    int arm, won; /* of a select: which one the step lets go, which one went */
    off_t offset;
    struct rlimit limit;
    struct actor actor;
    sley_stream *stream, *other; /* on one of the descriptors */
    int torn;           /* why a long write was cut */
    char path[PATH_MAX]; /* of the FIFO, or of the file */
    unsigned char buf[1 << 17];
} stage;

static void clear_stage(void)
{
    memset(&stage, 0, offsetof(__typeof__(stage), buf));
    stage.in = stage.out = stage.spare = stage.listener = stage.file = stage.dir = stage.reader = stage.result = -1;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        EXPECT(sley_close(fd) == 0);
}

static void tear_down(void)
{
    sley_stream_destroy(stage.stream);
    sley_stream_destroy(stage.other);
    close_if_open(stage.in);
    close_if_open(stage.out);
    close_if_open(stage.spare);
    close_if_open(stage.listener);
    close_if_open(stage.file);
    close_if_open(stage.dir);
    close_if_open(stage.reader);
    close_if_open(stage.result);
    for (int i = 0; i < stage.accepted_count; i++)
        close_if_open(stage.accepted[i]);
    for (int i = 0; i < stage.client_count; i++)
        close_if_open(stage.clients[i]);
}

/* --- streams ---------------------------------------------------------------------------------------------------------------- */

static void open_pipe(int flags)
{
    int fds[2];

    clear_stage();
    if (pipe2(fds, O_CLOEXEC | flags) != 0 || fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES) < 0)
        abort();
    stage.in = fds[0];
    stage.out = fds[1];
}

static void open_sockets(void)
{
    int fds[2], small = 1;

    clear_stage();
    make_pair(fds, SOCK_STREAM);
    stage.in = fds[0];
    stage.out = fds[1];
    setsockopt(stage.out, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
}

static void set_up_tcp(void)
{
    int fds[2];

    clear_stage();
    make_tcp_pair(fds);
    stage.in = fds[0];
    stage.out = fds[1];
}

static void set_up_terminal(void)
{
    char name[64];

    clear_stage();
    stage.out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (stage.out < 0 || grantpt(stage.out) != 0 || unlockpt(stage.out) != 0 || ptsname_r(stage.out, name, sizeof name) != 0 ||
        (stage.in = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        abort();
}

static void set_up_pipe(void) { open_pipe(0); }
static void set_up_sockets(void) { open_sockets(); }

static void set_flag(int fd, int flag, int on)
{
    int flags = fcntl(fd, F_GETFL);

    fcntl(fd, F_SETFL, on ? flags | flag : flags & ~flag);
}

static void set_up_nonblocking_sockets(void)
{
    open_sockets();
    set_flag(stage.in, O_NONBLOCK, 1);
    set_flag(stage.out, O_NONBLOCK, 1);
}

/* Put bytes into the stream without waiting. How many went. */
static int put(size_t bytes)
{
    ssize_t n;

    fill_pattern(stage.buf, bytes, stage.put);
    set_flag(stage.out, O_NONBLOCK, 1);
    n = write(stage.out, stage.buf, bytes);
    set_flag(stage.out, O_NONBLOCK, 0);
    if (n > 0)
        stage.put += (size_t)n;
    return (int)n;
}

/* Take out of the stream what is in it. */
static void drain(void)
{
    static unsigned char taken[1 << 16];
    int was = fcntl(stage.in, F_GETFL);
    ssize_t n;

    set_flag(stage.in, O_NONBLOCK, 1);
    while ((n = read(stage.in, taken, sizeof taken)) > 0) {
        EXPECT(is_pattern(taken, (size_t)n, stage.got));
        stage.got += (size_t)n;
    }
    fcntl(stage.in, F_SETFL, was);
}

/* The same at the end of a walk, when nothing more will be put into it. */
static void drain_to_end(void)
{
    struct pollfd ended = { .fd = stage.in, .events = POLLRDHUP };

    EXPECT(sley_close(stage.out) == 0);
    stage.out = -1;
    while (!((poll(&ended, 1, -1) == 1) && ended.revents & (POLLHUP | POLLRDHUP)))
        ;
    drain();
}

/* --- reading: what came is the call's or still in the stream ---------------------------------------------------------------- */

static int got_into(const unsigned char *buf, size_t bytes, int rc)
{
    size_t n = rc > 0 ? (size_t)rc : 0;

    EXPECT(is_pattern(buf, n, stage.got) && is_untouched(buf + n, bytes - n));
    stage.got += n;
    return rc;
}

/* Buffers that are filled with 0xee when the call has returned, and when they are lent again, many calls later, must still be so. */
static unsigned char lent[512][128];

static unsigned char *lend(size_t bytes)
{
    static _Atomic(unsigned) next;
    unsigned char *buf = lent[next++ % (sizeof lent / sizeof *lent)];

    EXPECT(bytes <= sizeof *lent && is_untouched(buf, sizeof *lent)); /* nothing was written after the return */
    return buf;
}

static int lent_back(unsigned char *buf, size_t bytes, int rc)
{
    rc = got_into(buf, bytes, rc);
    memset(buf, 0xee, bytes);
    return rc;
}

#define READING(name, size, expression) \
    static int name(sley_time deadline) \
    { \
        enum { bytes = size }; \
        unsigned char *buf = lend(bytes); \
        return lent_back(buf, bytes, expression); \
    }

READING(recv_call, 1, sley_recv(stage.in, buf, bytes, 0, deadline))
READING(recv_whole_call, 3, sley_recv(stage.in, buf, bytes, MSG_WAITALL, deadline))
READING(read_call, 1, sley_read(stage.in, buf, bytes, deadline))
READING(read_all_call, 3, sley_read_all(stage.in, buf, bytes, deadline))
READING(readv_call, 1, sley_readv(stage.in, ((struct iovec[]){ { NULL, 0 }, { buf, 1 } }), 2, deadline))

static int receive_from(void *buf, size_t bytes, sley_time deadline)
{
    struct sockaddr_un from;
    socklen_t from_bytes = sizeof from;
    int n = sley_recvfrom(stage.in, buf, bytes, 0, (struct sockaddr *)&from, &from_bytes, deadline);

    EXPECT(n < 0 ? from_bytes == sizeof from : from_bytes < sizeof from);
    return n;
}

READING(recvfrom_call, 1, receive_from(buf, bytes, deadline))

/* --- sley_recvmsg: each byte comes with a descriptor ------------------------------------------------------------------------- */

union fd_control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
};

static void set_up_roomy_sockets(void)
{
    int fds[2];

    clear_stage();
    make_pair(fds, SOCK_STREAM);
    stage.in = fds[0];
    stage.out = fds[1];
}

static void put_descriptor_step(void)
{
    union fd_control control = { { 0 } };
    unsigned char byte = pattern(stage.put);
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };

    control.align.cmsg_level = SOL_SOCKET;
    control.align.cmsg_type = SCM_RIGHTS;
    control.align.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.align), &stage.out, sizeof(int));
    EXPECT(sendmsg(stage.out, &m, 0) == 1);
    stage.put++;
}

static void put_many_descriptors(void)
{
    while (stage.put <= SL_DIRECT_STREAK)
        put_descriptor_step();
}

/* Take one of them: deadline < 0: out of the stream, as it is. */
static int take_descriptor(sley_time deadline)
{
    union fd_control control;
    unsigned char byte = 0xee;
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
    int n = deadline < 0 ? (int)recvmsg(stage.in, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) : sley_recvmsg(stage.in, &m, 0, deadline), fd;

    if (n <= 0)
        return n;
    EXPECT(byte == pattern(stage.got++) && m.msg_controllen >= CMSG_LEN(sizeof(int)) && !(m.msg_flags & MSG_CTRUNC));
    memcpy(&fd, CMSG_DATA(&control.align), sizeof fd);
    EXPECT(sley_close(fd) == 0);
    return n;
}

static int recvmsg_call(sley_time deadline) { return take_descriptor(deadline); }

static void descriptors_check(int rc)
{
    (void)rc;
    while (take_descriptor(-1) > 0)
        ;
    EXPECT(stage.got == stage.put);
}

static void put_step(void) { EXPECT(put(1) == 1); }
static void put_many(void) { EXPECT(put(200) == 200); }

static void stream_check(int rc)
{
    (void)rc;
    drain_to_end();
    EXPECT(stage.got == stage.put);
}

/* A terminal hands on whole lines. */
static int read_terminal_call(sley_time deadline)
{
    char line[8] = "";
    int n = sley_read(stage.in, line, sizeof line, deadline);

    EXPECT(n <= 0 || (n == 2 && memcmp(line, "x\n", 2) == 0));
    if (n > 0)
        stage.got++;
    return n;
}

static void terminal_step(void) { EXPECT(write(stage.out, "x\n", 2) == 2); stage.put++; }

static void terminal_check(int rc)
{
    char line[8];

    (void)rc;
    set_flag(stage.in, O_NONBLOCK, 1);
    while (read(stage.in, line, sizeof line) == 2)
        stage.got++;
    EXPECT(stage.got == stage.put);
}

/* --- writing: what went is in the stream, and nothing else ------------------------------------------------------------------ */

static void fill(void)
{
    while (put(PIPE_BYTES) > 0)
        ;
    while (put(1) > 0)
        ;
}

static void set_up_full_pipe(void) { open_pipe(0); fill(); }
static void set_up_full_sockets(void) { open_sockets(); fill(); }
static void set_up_full_nonblocking_sockets(void) { set_up_nonblocking_sockets(); fill(); set_flag(stage.out, O_NONBLOCK, 1); }

static int sent_from(int rc)
{
    if (rc > 0)
        stage.put += (size_t)rc;
    return rc;
}

#define WRITING(name, expression) \
    static int name(sley_time deadline) \
    { \
        unsigned char buf[MESSAGE_BYTES]; \
        fill_pattern(buf, sizeof buf, stage.put); \
        return sent_from(expression); \
    }

WRITING(send_call, sley_send(stage.out, buf, sizeof buf, 0, deadline))
WRITING(write_call, sley_write(stage.out, buf, sizeof buf, deadline))
WRITING(writev_call, sley_writev(stage.out, ((struct iovec[]){ { buf, 30 }, { buf + 30, sizeof buf - 30 } }), 2, deadline))

static int send_message(void *buf, size_t bytes, sley_time deadline)
{
    struct iovec v[2] = { { buf, 30 }, { (char *)buf + 30, bytes - 30 } };
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

    return sley_sendmsg(stage.out, &m, 0, deadline);
}

WRITING(sendmsg_call, send_message(buf, sizeof buf, deadline))

/* --- sley_sendto: datagrams to a Unix socket whose queue is full, from one that is not connected to it ---------------------------- */

static struct sockaddr_un unix_address;
static socklen_t unix_address_bytes;
static void choose_address(void);

static int sendto_call(sley_time deadline)
{
    unsigned char byte = pattern(stage.put);

    return sent_from(sley_sendto(stage.out, &byte, 1, 0, (struct sockaddr *)&unix_address, unix_address_bytes, deadline));
}

static void set_up_full_datagrams(void)
{
    choose_address();
    stage.in = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    stage.out = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT(bind(stage.in, (struct sockaddr *)&unix_address, unix_address_bytes) == 0);
    while (sendto_call(SLEY_NOW) > 0)
        ;
}

static void datagram_check(int rc)
{
    (void)rc;
    drain();
    EXPECT(stage.got == stage.put);
}

/* The _all forms: `stage.put` stays where the call begins. */
#define WRITING_ALL(name, expression) \
    static int name(sley_time deadline) \
    { \
        static unsigned char all[ALL_BYTES]; \
        fill_pattern(all, sizeof all, stage.put); \
        return expression; \
    }

WRITING_ALL(send_all_call, sley_send_all(stage.out, all, sizeof all, 0, deadline))
WRITING_ALL(write_all_call, sley_write_all(stage.out, all, sizeof all, deadline))

static void drain_step(void) { drain(); }

static void all_check(int rc)
{
    drain_to_end();
    if (rc == 0)
        EXPECT(stage.got == stage.put + ALL_BYTES);
    else
        EXPECT(stage.got >= stage.put && stage.got < stage.put + ALL_BYTES);
    EXPECT(rc == 0 || now_playing.steps > 0 || stage.got == stage.put);
}

/* --- sley_sendfile ---------------------------------------------------------------------------------------------------------- */

static void open_pattern_file(size_t bytes, size_t from)
{
    fill_pattern(stage.buf, bytes, from);
    stage.file = make_file("file", stage.buf, bytes);
}

static void set_up_sendfile(void)
{
    set_up_full_pipe();
    open_pattern_file(ALL_BYTES, stage.put);
}

static void set_up_sendfile_nonblocking(void)
{
    set_up_sendfile();
    set_flag(stage.out, O_NONBLOCK, 1);
}

static int sendfile_call(sley_time deadline)
{
    off_t before = stage.offset;
    int rc = sley_sendfile(stage.out, stage.file, &stage.offset, ALL_BYTES, deadline);

    EXPECT(stage.offset == before + (rc > 0 ? rc : 0));
    return sent_from(rc);
}

static int sendfile_at_position_call(sley_time deadline)
{
    off_t before = lseek(stage.file, 0, SEEK_CUR);
    int rc = sley_sendfile(stage.out, stage.file, NULL, ALL_BYTES, deadline);

    EXPECT(lseek(stage.file, 0, SEEK_CUR) == before + (rc > 0 ? rc : 0));
    return sent_from(rc);
}

/* --- buffered streams, reading: of lines of LINE_BYTES. What has come and was not handed out is in the stream, or behind it ---- */

static void open_reader(void) { stage.stream = sley_stream_create(stage.in); }
static void set_up_reader_of_sockets(void) { open_sockets(); open_reader(); }
static void set_up_reader_of_pipe(void) { open_pipe(0); open_reader(); }
static void set_up_reader_of_terminal(void) { set_up_terminal(); open_reader(); }

static char letter(size_t at) { return (char)(at % LINE_BYTES == LINE_BYTES - 1 ? '\n' : 'a' + at % 23); }

static void put_letters(size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        stage.buf[i] = (unsigned char)letter(stage.put++);
    EXPECT(write(stage.out, stage.buf, bytes) == (ssize_t)bytes);
}

static void letter_step(void) { put_letters(1); }
static void many_letters(void) { put_letters(100 * LINE_BYTES); }
static void line_step(void) { put_letters(LINE_BYTES); }

static int got_letters(const char *buf, size_t bytes, int rc)
{
    size_t n = rc > 0 ? (size_t)rc : 0;

    for (size_t i = 0; i < n; i++)
        EXPECT(buf[i] == letter(stage.got + i));
    EXPECT(is_untouched(buf + n, bytes - n));
    stage.got += n;
    return rc;
}

#define READING_STREAM(name, bytes, expression) \
    static int name(sley_time deadline) \
    { \
        char buf[bytes]; \
        memset(buf, 0xee, sizeof buf); \
        return got_letters(buf, sizeof buf, expression); \
    }

READING_STREAM(stream_read_call, 1, sley_stream_read(stage.stream, buf, sizeof buf, deadline))
READING_STREAM(stream_read_all_call, LINE_BYTES, sley_stream_read_all(stage.stream, buf, sizeof buf, deadline))
READING_STREAM(stream_read_until_call, 8, sley_stream_read_until(stage.stream, buf, sizeof buf, "\n", 1, deadline))

/* As much as there is: one letter, or two. */
static int stream_read_large_call(sley_time deadline)
{
    static char buf[SL_STREAM_BYTES];
    int rc;

    memset(buf, 0xee, sizeof buf);
    rc = got_letters(buf, sizeof buf, sley_stream_read(stage.stream, buf, sizeof buf, deadline));
    return rc > 0 ? 1 : rc;
}

static int stream_read_line_call(sley_time deadline)
{
    char buf[8];
    int rc;

    memset(buf, 0xee, sizeof buf);
    rc = sley_stream_read_line(stage.stream, buf, sizeof buf, deadline);
    if (rc > 0) {
        EXPECT(buf[rc] == '\0');
        buf[rc] = (char)0xee;
    }
    return got_letters(buf, sizeof buf, rc);
}

static int stream_peek_call(sley_time deadline)
{
    int rc = sley_stream_peek(stage.stream, LINE_BYTES, deadline);
    char buf[LINE_BYTES];

    if (rc < 0)
        return rc;
    EXPECT(rc >= LINE_BYTES);
    memcpy(buf, sley_stream_data(stage.stream), sizeof buf);
    sley_stream_skip(stage.stream, sizeof buf);
    return got_letters(buf, sizeof buf, LINE_BYTES);
}

static void letters_check(int rc)
{
    static char buf[1000];
    int n;

    (void)rc;
    do {
        memset(buf, 0xee, sizeof buf);
        n = sley_stream_read(stage.stream, buf, sizeof buf, stage.got < stage.put ? SLEY_FOREVER : SLEY_NOW);
    } while (got_letters(buf, sizeof buf, n) > 0);
    EXPECT(n == -ETIMEDOUT && stage.got == stage.put && sl_buffers_held() == 0);
}

/* --- ... writing: what was taken arrives, in order, and nothing else. Buffer and descriptor are full from the beginning ------- */

static void open_writer(void)
{
    fill();
    stage.stream = sley_stream_create(stage.out);
    fill_pattern(stage.buf, SL_STREAM_BYTES, stage.put);
    EXPECT(sley_stream_write(stage.stream, stage.buf, SL_STREAM_BYTES, SLEY_FOREVER) == 0);
    stage.put += SL_STREAM_BYTES;
}

static void set_up_writer_of_sockets(void) { open_sockets(); open_writer(); }
static void set_up_writer_of_pipe(void) { open_pipe(0); open_writer(); }

static int taken(int rc)
{
    if (rc == 0)
        stage.put += MESSAGE_BYTES;
    return rc;
}

static int stream_write_call(sley_time deadline)
{
    unsigned char buf[MESSAGE_BYTES];

    fill_pattern(buf, sizeof buf, stage.put);
    return taken(sley_stream_write(stage.stream, buf, sizeof buf, deadline));
}

static int stream_writev_call(sley_time deadline)
{
    unsigned char buf[MESSAGE_BYTES];
    struct iovec v[2] = { { .iov_base = buf, .iov_len = 1 }, { .iov_base = buf + 1, .iov_len = sizeof buf - 1 } };

    fill_pattern(buf, sizeof buf, stage.put);
    return taken(sley_stream_writev(stage.stream, v, 2, deadline));
}

static int stream_flush_call(sley_time deadline) { return sley_stream_flush(stage.stream, deadline); }

static void flush_and_drain(void)
{
    while (sley_stream_flush(stage.stream, SLEY_NOW) == -ETIMEDOUT)
        drain();
    EXPECT(sley_stream_flush(stage.stream, SLEY_NOW) == 0 && sl_buffers_held() == 0);
    drain_to_end();
}

static void writer_check(int rc)
{
    (void)rc;
    flush_and_drain();
    EXPECT(stage.got == stage.put);
}

/* Longer than a buffer: `stage.put` stays where it begins. */
static int stream_write_long_call(sley_time deadline)
{
    static unsigned char all[LONG_BYTES];
    int rc;

    fill_pattern(all, sizeof all, stage.put);
    rc = sley_stream_write(stage.stream, all, sizeof all, deadline);
    EXPECT(stage.torn == 0 || rc == -EPIPE);
    if (stage.torn == 0 && rc < 0 && stage.stream->out.error != 0)
        stage.torn = rc;
    return rc == -EPIPE ? stage.torn : rc;
}

static void write_long_check(int rc)
{
    EXPECT(rc >= 0 || (stage.torn == 0) == (sley_stream_write(stage.stream, "", 0, SLEY_NOW) == 0));
    if (stage.torn == 0)
        flush_and_drain();
    else
        drain_to_end();
    if (rc == 0)
        EXPECT(stage.got == stage.put + LONG_BYTES);
    else if (stage.torn == 0)
        EXPECT(stage.got == stage.put);
    else
        EXPECT(sl_buffers_held() == 0 && stage.got > stage.put && stage.got < stage.put + LONG_BYTES);
}

/* --- ... copying ------------------------------------------------------------------------------------------------------------ */

static void set_up_stream_copy(void)
{
    int fds[2];

    set_up_reader_of_sockets();
    if (pipe2(fds, O_CLOEXEC) != 0)
        abort();
    stage.reader = fds[0];
    stage.result = fds[1];
    stage.other = sley_stream_create(stage.result);
}

static int stream_copy_call(sley_time deadline)
{
    char buf[LINE_BYTES + 1];
    int rc = (int)sley_stream_copy(stage.other, stage.stream, LINE_BYTES, deadline);

    memset(buf, 0xee, sizeof buf);
    EXPECT(rc <= 0 || read(stage.reader, buf, sizeof buf) == rc);
    return got_letters(buf, sizeof buf, rc);
}

static void set_up_copy_to_full_pipe(void)
{
    set_up_full_pipe();
    open_pattern_file(ALL_BYTES, stage.put);
    stage.stream = sley_stream_create(stage.file);
    stage.other = sley_stream_create(stage.out);
}

static int stream_copy_file_call(sley_time deadline)
{
    return sent_from((int)sley_stream_copy(stage.other, stage.stream, ALL_BYTES, deadline));
}

/* What did not go is still to be read. */
static void copy_file_check(int rc)
{
    static unsigned char rest[ALL_BYTES + 1];
    size_t sent = rc > 0 ? (size_t)rc : 0;
    int n = sley_stream_read_all(stage.stream, rest, sizeof rest, SLEY_FOREVER);

    EXPECT(n == (int)(ALL_BYTES - sent) && is_pattern(rest, (size_t)n, stage.put));
    drain_to_end();
    EXPECT(stage.got == stage.put);
}

/* --- sley_splice: what came is in the one pipe or in the other, or in the file ------------------------------------------------- */

static void set_up_pipes(void)
{
    int from[2], to[2];

    clear_stage();
    if (pipe2(from, O_CLOEXEC) != 0 || pipe2(to, O_CLOEXEC) != 0 || fcntl(to[1], F_SETPIPE_SZ, 128 * 4096) < 0) /* 128 pieces */
        abort();
    stage.reader = from[0];
    stage.out = from[1];
    stage.in = to[0];
    stage.spare = to[1];
}

static int splice_call(sley_time deadline) { return sley_splice(stage.reader, NULL, stage.spare, NULL, 1, 0, deadline); }

static void spliced_check(int rc)
{
    (void)rc;
    drain();
    EXPECT(sley_close(stage.in) == 0);
    stage.in = stage.reader;
    stage.reader = -1;
    drain();
    EXPECT(stage.got == stage.put);
}

static void set_up_pipe_and_file(void)
{
    set_up_pipes();
    stage.file = make_file("file", "", 0);
}

static int splice_into_file_call(sley_time deadline) { return sley_splice(stage.reader, NULL, stage.file, NULL, 1, 0, deadline); }

static void spliced_into_file_check(int rc)
{
    unsigned char buf[16];
    ssize_t n = pread(stage.file, buf, sizeof buf, 0);

    EXPECT(n == (rc > 0) && is_pattern(buf, (size_t)n, 0) && lseek(stage.file, 0, SEEK_CUR) == n);
    stage.got += (size_t)n;
    spliced_check(rc);
}

static int splice_from_file_call(sley_time deadline)
{
    off_t before = stage.offset;
    int rc = sley_splice(stage.file, &stage.offset, stage.out, NULL, MESSAGE_BYTES, 0, deadline);

    EXPECT(stage.offset == before + (rc > 0 ? rc : 0));
    return sent_from(rc);
}

/* --- sley_accept ------------------------------------------------------------------------------------------------------------ */

static char unix_text[64];

static void choose_address(void)
{
    static unsigned number;

    clear_stage();
    snprintf(unix_text, sizeof unix_text, "unix:@sley-cancel-%d-%u", getpid(), number++);
    unix_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    strcpy(unix_address.sun_path + 1, unix_text + 6);
    unix_address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(unix_text) - 5);
}

static void listen_unix(unsigned backlog)
{
    choose_address();
    stage.listener = sley_net_listen(unix_text, &(sley_listen_options){ .backlog = backlog });
    EXPECT(stage.listener >= 0);
}

static void set_up_listener(void) { listen_unix(CLIENTS_MAX); }

static void set_up_blocking_listener(void)
{
    choose_address();
    stage.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT(bind(stage.listener, (struct sockaddr *)&unix_address, unix_address_bytes) == 0 && listen(stage.listener, CLIENTS_MAX) == 0);
}

static void client_step(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    EXPECT(fd >= 0 && connect(fd, (struct sockaddr *)&unix_address, unix_address_bytes) == 0);
    if (fd >= 0)
        stage.clients[stage.client_count++] = fd;
}

/* One socket a worker; clients come from everywhere, so to any of them. */
static void set_up_group(void)
{
    clear_stage();
    stage.listener = sley_net_listen("127.0.0.1:0", &(sley_listen_options){ .backlog = CLIENTS_MAX, .per_worker = 1 });
    EXPECT(stage.listener >= 0);
}

static void tcp_client_step(void)
{
    struct sockaddr_in a;
    socklen_t bytes = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    getsockname(stage.listener, (struct sockaddr *)&a, &bytes);
    EXPECT(fd >= 0 && connect(fd, (struct sockaddr *)&a, bytes) == 0);
    if (fd >= 0)
        stage.clients[stage.client_count++] = fd;
}

static void many_tcp_clients(void)
{
    while (stage.client_count <= SL_DIRECT_STREAK)
        tcp_client_step();
}

static void many_clients(void)
{
    while (stage.client_count <= SL_DIRECT_STREAK)
        client_step();
}

static void keep_accepted(int fd) { stage.accepted[stage.accepted_count++] = fd; }

static int accept_call(sley_time deadline)
{
    int fd = sley_accept(stage.listener, NULL, NULL, deadline);

    if (fd >= 0)
        keep_accepted(fd);
    return fd < 0 ? fd : 0;
}

/* Every connection that was made is one that was accepted, or still in the queue. */
static void accept_check(int rc)
{
    int fd;

    EXPECT((rc == 0) == (stage.accepted_count > 0));
    set_flag(stage.listener, O_NONBLOCK, 1);
    while ((fd = accept4(stage.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        keep_accepted(fd);
    EXPECT(stage.accepted_count == stage.client_count);
}

static void accept_in_group_check(int rc)
{
    int fd;

    EXPECT((rc == 0) == (stage.accepted_count > 0));
    while ((fd = sley_accept(stage.listener, NULL, NULL, SLEY_NOW)) >= 0)
        keep_accepted(fd);
    EXPECT(stage.accepted_count == stage.client_count);
}

/* No descriptor is left, and a connection waits. */
static void set_up_without_descriptors(void)
{
    struct rlimit none;
    int fd;

    set_up_listener();
    client_step();
    stage.spare = dup(stage.listener);
    getrlimit(RLIMIT_NOFILE, &stage.limit);
    none = stage.limit;
    fd = dup(stage.listener); /* the lowest that is free */
    close(fd);
    none.rlim_cur = (rlim_t)fd;
    setrlimit(RLIMIT_NOFILE, &none);
}

static void free_descriptor_step(void)
{
    setrlimit(RLIMIT_NOFILE, &stage.limit);
    if (now_playing.steps == 1) {
        sley_close(stage.spare);
        stage.spare = -1;
    }
}

static void accept_without_descriptors_check(int rc)
{
    setrlimit(RLIMIT_NOFILE, &stage.limit);
    accept_check(rc);
}

static void descriptors_tear_down(void)
{
    setrlimit(RLIMIT_NOFILE, &stage.limit);
    tear_down();
}

/* --- sley_connect, sley_net_dial -------------------------------------------------------------------------------------------- */

/* A Unix listener whose queue is full: who connects waits until somebody accepts. */
static void set_up_full_queue(void)
{
    listen_unix(1);
    client_step();
    client_step();
}

static int connect_call(sley_time deadline)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = sley_connect(fd, (struct sockaddr *)&unix_address, unix_address_bytes, deadline);

    if (rc == 0)
        stage.clients[stage.client_count++] = fd;
    else
        EXPECT(sley_close(fd) == 0);
    return rc;
}

static int dial_call(sley_time deadline)
{
    int fd = sley_net_dial(unix_text, deadline);

    if (fd >= 0)
        stage.clients[stage.client_count++] = fd;
    return fd < 0 ? fd : 0;
}

static void accept_step(void)
{
    int fd = accept4(stage.listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0)
        keep_accepted(fd);
}

/* Whoever was told that it is connected, is; one that was cut may have been, and has gone. */
static void connect_check(int rc)
{
    int fd, alive = 0;

    while ((fd = accept4(stage.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        keep_accepted(fd);
    for (int i = 0; i < stage.accepted_count; i++) {
        char byte;

        alive += recv(stage.accepted[i], &byte, 1, MSG_DONTWAIT) < 0; /* not its end: nothing yet */
    }
    EXPECT(alive == stage.client_count && stage.client_count == 2 + (rc == 0));
}

/* A TCP listener whose queue is full does not answer. */
static void set_up_silent_listener(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof a;

    clear_stage();
    stage.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT(bind(stage.listener, (struct sockaddr *)&a, bytes) == 0 && listen(stage.listener, 0) == 0);
    stage.clients[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    stage.client_count = 1;
    getsockname(stage.listener, (struct sockaddr *)&a, &bytes);
    EXPECT(connect(stage.clients[0], (struct sockaddr *)&a, bytes) == 0);
}

static int connect_silent(int flags, sley_time deadline)
{
    struct sockaddr_in a;
    socklen_t bytes = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), rc;

    getsockname(stage.listener, (struct sockaddr *)&a, &bytes);
    rc = sley_connect(fd, (struct sockaddr *)&a, bytes, deadline);
    EXPECT(sley_close(fd) == 0);
    return rc;
}

static int connect_tcp_call(sley_time deadline) { return connect_silent(0, deadline); }
static int connect_nonblocking_call(sley_time deadline) { return connect_silent(SOCK_NONBLOCK, deadline); }
static void no_check(int rc) { (void)rc; }

/* --- sley_fd_wait ----------------------------------------------------------------------------------------------------------- */

static int fd_wait_call(sley_time deadline) { return sley_fd_wait(stage.in, POLLIN, deadline); }

/* --- sley_open and its kin: the open of a FIFO that may make the file waits for a reader ------------------------------------ */

static void set_up_fifo(void)
{
    clear_stage();
    strcpy(stage.path, temp_path("fifo"));
    unlink(stage.path);
    EXPECT(mkfifo(stage.path, 0600) == 0);
    stage.dir = open(temp_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int opened(int fd)
{
    if (fd >= 0)
        stage.result = fd;
    return fd < 0 ? fd : 0;
}

static int open_call(sley_time deadline) { return opened(sley_open(stage.path, O_WRONLY | O_CREAT, 0600, deadline)); }
static int openat_call(sley_time deadline) { return opened(sley_openat(stage.dir, "fifo", O_WRONLY | O_CREAT, 0600, deadline)); }

static int openat2_is_missing(void) /* in an emulator of Linux */
{
    return syscall(SYS_openat2, -1, "", NULL, 0) < 0 && errno == ENOSYS;
}

static int openat2_call(sley_time deadline)
{
    struct open_how how = { .flags = O_WRONLY | O_CREAT, .mode = 0600 };

    return opened(sley_openat2(stage.dir, "fifo", &how, sizeof how, deadline));
}

static void reader_step(void)
{
    if (stage.reader < 0)
        stage.reader = open(stage.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

/* Descriptors are counted when all walks are over. Who got one can use it. */
static void open_check(int rc)
{
    EXPECT((rc == 0) == (stage.result >= 0));
    EXPECT(rc != 0 || write(stage.result, "x", 1) == 1);
}

/* --- files: the kernel ends these by itself --------------------------------------------------------------------------------- */

static void set_up_file(void)
{
    clear_stage();
    open_pattern_file(FILE_BYTES, 0);
    strcpy(stage.path, temp_path("file"));
    fsync(stage.file);
    posix_fadvise(stage.file, 0, 0, POSIX_FADV_DONTNEED);
}

READING(pread_call, MESSAGE_BYTES, sley_pread(stage.file, buf, bytes, 0, deadline))
READING(read_file_call, MESSAGE_BYTES, sley_read(stage.file, buf, bytes, deadline))
READING(readv_file_call, MESSAGE_BYTES,
        sley_readv(stage.file, ((struct iovec[]){ { buf, 30 }, { buf + 30, bytes - 30 } }), 2, deadline))

static void read_file_check(int rc) { EXPECT(lseek(stage.file, 0, SEEK_CUR) == (rc > 0 ? rc : 0)); }

static int write_new(sley_time deadline, off_t offset)
{
    unsigned char buf[MESSAGE_BYTES];

    memset(buf, 0x55, sizeof buf);
    return offset < 0 ? sley_write(stage.file, buf, sizeof buf, deadline) : sley_pwrite(stage.file, buf, sizeof buf, offset, deadline);
}

static int write_file_call(sley_time deadline) { return write_new(deadline, -1); }
static int pwrite_call(sley_time deadline) { return write_new(deadline, 0); }

static int writev_file_call(sley_time deadline)
{
    unsigned char buf[MESSAGE_BYTES];

    memset(buf, 0x55, sizeof buf);
    return sley_writev(stage.file, (struct iovec[]){ { buf, 30 }, { buf + 30, sizeof buf - 30 } }, 2, deadline);
}

static void written_check(int rc)
{
    unsigned char buf[MESSAGE_BYTES + 1];
    size_t n = rc > 0 ? (size_t)rc : 0;

    EXPECT(pread(stage.file, buf, sizeof buf, 0) == sizeof buf);
    for (size_t i = 0; i < n; i++)
        EXPECT(buf[i] == 0x55);
    EXPECT(is_pattern(buf + n, sizeof buf - n, n));
}

static void write_file_check(int rc)
{
    read_file_check(rc);
    written_check(rc);
}

static void set_up_reader_of_file(void)
{
    set_up_file();
    stage.stream = sley_stream_create(stage.file);
}

READING(stream_read_file_call, MESSAGE_BYTES, sley_stream_read(stage.stream, buf, bytes, deadline))

static void stream_read_file_check(int rc)
{
    (void)rc;
    EXPECT(sley_stream_read_all(stage.stream, stage.buf, sizeof stage.buf, SLEY_FOREVER) == (int)(FILE_BYTES - stage.got));
    EXPECT(is_pattern(stage.buf, FILE_BYTES - stage.got, stage.got));
}

static int fsync_call(sley_time deadline) { return sley_fsync(stage.file, deadline); }
static int fdatasync_call(sley_time deadline) { return sley_fdatasync(stage.file, deadline); }
static int sync_file_range_call(sley_time deadline) { return sley_sync_file_range(stage.file, 0, 0, SYNC_FILE_RANGE_WRITE, deadline); }
static int fallocate_call(sley_time deadline) { return sley_fallocate(stage.file, 0, 0, 2 * FILE_BYTES, deadline); }
static int ftruncate_call(sley_time deadline) { return sley_ftruncate(stage.file, FILE_BYTES / 2, deadline); }
static int fadvise_call(sley_time deadline) { return sley_fadvise(stage.file, 0, 0, POSIX_FADV_WILLNEED, deadline); }

static void expect_size(off_t size)
{
    struct stat st;

    EXPECT(fstat(stage.file, &st) == 0 && st.st_size == size);
}

static void set_up_copy(void)
{
    set_up_file();
    stage.result = make_file("copy", "", 0);
}

static int copy_file_range_call(sley_time deadline)
{
    return sley_copy_file_range(stage.file, NULL, stage.result, NULL, FILE_BYTES, 0, deadline);
}

static void copied_check(int rc)
{
    read_file_check(rc);
    EXPECT(lseek(stage.result, 0, SEEK_CUR) == (rc > 0 ? rc : 0) && lseek(stage.result, 0, SEEK_END) == (rc > 0 ? rc : 0));
}

static void allocated_check(int rc) { expect_size(rc == 0 ? 2 * FILE_BYTES : FILE_BYTES); }
static void truncated_check(int rc) { expect_size(rc == 0 ? FILE_BYTES / 2 : FILE_BYTES); }

static int statx_call(sley_time deadline)
{
    struct statx sx;
    int rc;

    memset(&sx, 0xee, sizeof sx);
    rc = sley_statx(AT_FDCWD, stage.path, 0, STATX_SIZE, &sx, deadline);
    EXPECT(rc == 0 ? sx.stx_size == FILE_BYTES : is_untouched(&sx, sizeof sx));
    return rc;
}

/* --- names: it was done if it says so, else not ----------------------------------------------------------------------------- */

static int is_there(const char *name)
{
    struct stat st;

    return fstatat(stage.dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void set_up_names(void)
{
    clear_stage();
    EXPECT(mkdir(temp_path("names"), 0700) == 0);
    stage.dir = open(temp_path("names"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(close(make_file("names/old", "x", 1)) == 0 && symlinkat("target", stage.dir, "soft") == 0);
}

static void names_tear_down(void)
{
    unlinkat(stage.dir, "new", AT_REMOVEDIR);
    for (const char **name = (const char *[]){ "old", "new", "soft", NULL }; *name != NULL; name++)
        unlinkat(stage.dir, *name, 0);
    EXPECT(rmdir(temp_path("names")) == 0);
    tear_down();
}

static int renameat2_call(sley_time deadline) { return sley_renameat2(stage.dir, "old", stage.dir, "new", 0, deadline); }
static int linkat_call(sley_time deadline) { return sley_linkat(stage.dir, "old", stage.dir, "new", 0, deadline); }
static int symlinkat_call(sley_time deadline) { return sley_symlinkat("old", stage.dir, "new", deadline); }
static int unlinkat_call(sley_time deadline) { return sley_unlinkat(stage.dir, "old", 0, deadline); }
static int mkdirat_call(sley_time deadline) { return sley_mkdirat(stage.dir, "new", 0700, deadline); }

static int readlinkat_call(sley_time deadline)
{
    char buf[16];
    int rc;

    memset(buf, 0xee, sizeof buf);
    rc = sley_readlinkat(stage.dir, "soft", buf, sizeof buf, deadline);
    EXPECT(rc == 6 ? memcmp(buf, "target", 6) == 0 && is_untouched(buf + 6, sizeof buf - 6) : is_untouched(buf, sizeof buf));
    return rc;
}

static void renamed_check(int rc) { EXPECT(is_there("new") == (rc == 0) && is_there("old") == (rc != 0)); }
static void made_check(int rc) { EXPECT(is_there("new") == (rc == 0) && is_there("old")); }
static void unlinked_check(int rc) { EXPECT(is_there("old") == (rc != 0)); }

/* --- whole files: read, or not; the old one or the new one, and nothing beside it ------------------------------------------------ */

static int file_read_call(sley_time deadline)
{
    size_t bytes = 77;
    void *out = &stage;
    int rc = sley_file_read(AT_FDCWD, stage.path, &out, &bytes, deadline);

    EXPECT(rc == 0 ? bytes == FILE_BYTES && is_pattern(out, bytes, 0) : out == (void *)&stage && bytes == 77);
    if (rc == 0)
        free(out);
    return rc;
}

static int file_replace_call(sley_time deadline) { return sley_file_replace(stage.dir, "old", "new bytes", 9, 0600, deadline); }

static void replaced_check(int rc)
{
    int fd = openat(stage.dir, "old", O_RDONLY | O_CLOEXEC), entries = 0;
    char buf[16];

    EXPECT(read(fd, buf, sizeof buf) == (rc == 0 ? 9 : 1) && buf[0] == (rc == 0 ? 'n' : 'x') && close(fd) == 0);
    for (DIR *d = opendir(temp_path("names")); d != NULL; closedir(d), d = NULL)
        while (readdir(d) != NULL)
            entries++;
    EXPECT(entries == 4); /* the file, the link, itself, the one above */
}

/* --- sley_dir_open, sley_dir_next: an entry is taken by who was told of it ---------------------------------------------------- */

static sley_dir *open_dir;

static int dir_open_call(sley_time deadline) { return sley_dir_open(&open_dir, stage.dir, ".", deadline); }

static int dir_next_call(sley_time deadline)
{
    sley_dirent e;
    int rc;

    memset(&e, 0xee, sizeof e);
    rc = sley_dir_next(open_dir, &e, deadline);
    EXPECT(rc == 1 ? strcmp(e.name, "old") == 0 || strcmp(e.name, "soft") == 0 : is_untouched(&e, sizeof e));
    return rc;
}

static void set_up_no_dir(void)
{
    set_up_names();
    open_dir = NULL;
}

static void set_up_dir(void)
{
    set_up_names();
    EXPECT(sley_dir_open(&open_dir, stage.dir, ".", SLEY_FOREVER) == 0);
}

static void opened_dir_check(int rc) { EXPECT((rc == 0) == (open_dir != NULL)); }

static void entries_check(int rc)
{
    int left = 0;

    while (dir_next_call(SLEY_FOREVER) > 0)
        left++;
    EXPECT(left == (rc == 1 ? 1 : 2));
}

static void dir_tear_down(void)
{
    sley_dir_close(open_dir);
    names_tear_down();
}

/* --- sley_flock: another has the lock until the step ------------------------------------------------------------------------------- */

static void set_up_locked(void)
{
    clear_stage();
    stage.file = make_file("locked", "", 0);
    stage.spare = open(temp_path("locked"), O_RDWR | O_CLOEXEC);
    EXPECT(flock(stage.spare, LOCK_EX) == 0);
}

static int flock_call(sley_time deadline) { return sley_flock(stage.file, LOCK_EX, deadline); }
static void unlock_step(void) { EXPECT(flock(stage.spare, LOCK_UN) == 0); }

static void lock_check(int rc)
{
    EXPECT(flock(stage.spare, LOCK_UN) == 0 && (flock(stage.spare, LOCK_EX | LOCK_NB) == 0) == (rc < 0));
    EXPECT(waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD); /* who waited for it has gone */
}

/* --- sley_signal_wait ------------------------------------------------------------------------------------------------------- */

static int signal_call(sley_time deadline) { return sley_signal_wait(SLEY_SIG(SIGUSR1), deadline); }

static void signal_set_up(void)
{
    clear_stage();
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_NOW) == -ETIMEDOUT); /* from now on it is caught */
}

static void signal_step(void)
{
    if (now_playing.steps == 1)
        kill(getpid(), SIGUSR1);
}

static void signal_check(int rc)
{
    if (now_playing.steps > 0 && rc < 0) /* it comes, and it is kept */
        EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), sley_after(60 * SLEY_S)) == SIGUSR1);
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_NOW) == -ETIMEDOUT);
}

static void signal_tear_down(void) { sley_signal_release(SLEY_SIG(SIGUSR1)); }

static int listen_for_another(void *arg) { (void)arg; return sley_signal_wait(SLEY_SIG(SIGUSR2), SLEY_FOREVER); }

static void set_up_listener_of_signals(void)
{
    signal_set_up();
    actor_start(&stage.actor, listen_for_another, NULL);
    EXPECT(call_waits(&stage.actor));
}

static void end_listener_of_signals(void)
{
    kill(getpid(), SIGUSR2);
    EXPECT(actor_result(&stage.actor) == SIGUSR2);
    sley_signal_release(SLEY_SIG(SIGUSR1) | SLEY_SIG(SIGUSR2));
}

/* --- sley_select of readiness and a signal: each walk's step lets another arm go ------------------------------------------------------ */

enum { FD, SIGNAL, STEP_ARMS };

static void select_set_up(void)
{
    static int walks;

    set_up_sockets();
    EXPECT(sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_NOW) == -ETIMEDOUT);
    stage.arm = walks++ % STEP_ARMS;
    stage.won = -1;
}

static int select_call(sley_time deadline)
{
    sley_case cases[STEP_ARMS] = { [FD] = sley_case_fd(stage.in, POLLIN), [SIGNAL] = sley_case_signal(SLEY_SIG(SIGUSR1)) };
    int rc = sley_select(cases, STEP_ARMS, deadline);

    if (rc < 0)
        return rc;
    stage.won = rc;
    EXPECT(cases[rc].result == (rc == FD ? POLLIN : SIGUSR1));
    return 0;
}

static void select_step(void)
{
    if (stage.arm == FD)
        put_step();
    else
        signal_step();
}

static void select_check(int rc)
{
    EXPECT(stage.won == (rc == 0 ? stage.arm : -1));
    signal_check(rc == 0 || stage.arm != SIGNAL ? 0 : rc);
    stream_check(0);
}

static void select_tear_down(void)
{
    signal_tear_down();
    tear_down();
}

/* --- sley_close: waits until a call on the descriptor has come back, here a plain thread's, which nothing ends but the step - */

static int open_fifo_below(void *arg)
{
    int fd;

    (void)arg;
    fd = sley_openat(stage.dir, "fifo", O_WRONLY, 0, SLEY_FOREVER);
    return fd < 0 ? fd : sley_close(fd);
}

static int is_in_call(int fd)
{
    struct sl_record *r = sl_record_find(fd);
    int is;

    if (r == NULL)
        return 0;
    sl_lock_acquire(&r->lock);
    is = r->calls != NULL;
    sl_lock_release(&r->lock);
    return is;
}

static void set_up_used_directory(void)
{
    set_up_fifo();
    actor_start_as(&stage.actor, 1, open_fifo_below, NULL);
    while (!is_in_call(stage.dir))
        give_way();
}

static int close_call(sley_time deadline)
{
    int fd = stage.dir;

    (void)deadline;
    return sley_close(fd);
}

static void close_check(int rc)
{
    EXPECT(rc == 0 && fcntl(stage.dir, F_GETFD) < 0);
    stage.dir = -1;
    EXPECT(actor_result(&stage.actor) == 0);
}

/* --- rows ------------------------------------------------------------------------------------------------------------------- */

#define READ_ROW .step = put_step, .check = stream_check, .make_ready = put_many, .tear_down = tear_down
#define WRITE_ROW .step = drain_step, .check = stream_check, .tear_down = tear_down
#define READ_STREAM_ROW .step = letter_step, .check = letters_check, .make_ready = many_letters, .tear_down = tear_down
#define WRITE_STREAM_ROW .step = drain_step, .check = writer_check, .tear_down = tear_down
#define OPEN_ROW \
    .traits = FIBERS_ONLY | SELDOM, .now = -EOPNOTSUPP, .set_up = set_up_fifo, .step = reader_step, .check = open_check, \
    .tear_down = tear_down
#define FILE_TRAITS PASSING | FIBERS_ONLY | AT_HAND
#define FILE_ROW .now = LEFT_OUT, .set_up = set_up_file, .tear_down = tear_down

#define NAME_ROW \
    .traits = PASSING | FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_names, .tear_down = names_tear_down

static const struct row rows[] = {
    { "recv", .done = 1, .set_up = set_up_sockets, .call = recv_call, READ_ROW },
    { "recv nonblocking", .done = 1, .set_up = set_up_nonblocking_sockets, .call = recv_call, READ_ROW },
    { "recv TCP", .done = 1, .set_up = set_up_tcp, .call = recv_call, READ_ROW },
    { "recv MSG_WAITALL", PARTIAL, .done = 3, .set_up = set_up_sockets, .call = recv_whole_call, READ_ROW },
    { "read socket", .done = 1, .set_up = set_up_sockets, .call = read_call, READ_ROW },
    { "read pipe", .done = 1, .set_up = set_up_pipe, .call = read_call, READ_ROW },
    { "read terminal", .done = 2, .set_up = set_up_terminal, .call = read_terminal_call, .step = terminal_step, .check = terminal_check,
      .tear_down = tear_down },
    { "read_all socket", PARTIAL, .done = 3, .set_up = set_up_sockets, .call = read_all_call, READ_ROW },
    { "read_all pipe", PARTIAL, .done = 3, .set_up = set_up_pipe, .call = read_all_call, READ_ROW },
    { "readv socket", .done = 1, .set_up = set_up_sockets, .call = readv_call, READ_ROW },
    { "readv pipe", .done = 1, .set_up = set_up_pipe, .call = readv_call, READ_ROW },
    { "recvfrom", .done = 1, .set_up = set_up_sockets, .call = recvfrom_call, READ_ROW },
    { "recvmsg", .done = 1, .set_up = set_up_roomy_sockets, .call = recvmsg_call, .step = put_descriptor_step, .check = descriptors_check,
      .make_ready = put_many_descriptors, .tear_down = tear_down },
    { "send", .done = MESSAGE_BYTES, .set_up = set_up_full_sockets, .call = send_call, WRITE_ROW },
    { "send nonblocking", .done = MESSAGE_BYTES, .set_up = set_up_full_nonblocking_sockets, .call = send_call, WRITE_ROW },
    { "write socket", .done = MESSAGE_BYTES, .set_up = set_up_full_sockets, .call = write_call, WRITE_ROW },
    { "write pipe", .done = MESSAGE_BYTES, .set_up = set_up_full_pipe, .call = write_call, WRITE_ROW },
    { "writev socket", .done = MESSAGE_BYTES, .set_up = set_up_full_sockets, .call = writev_call, WRITE_ROW },
    { "writev pipe", .done = MESSAGE_BYTES, .set_up = set_up_full_pipe, .call = writev_call, WRITE_ROW },
    { "sendmsg", .done = MESSAGE_BYTES, .set_up = set_up_full_nonblocking_sockets, .call = sendmsg_call, WRITE_ROW },
    { "sendto", .done = 1, .set_up = set_up_full_datagrams, .call = sendto_call, .step = drain_step, .check = datagram_check,
      .tear_down = tear_down },
    { "send_all", .set_up = set_up_full_sockets, .call = send_all_call, .step = drain_step, .check = all_check, .tear_down = tear_down },
    { "write_all socket", .set_up = set_up_full_sockets, .call = write_all_call, .step = drain_step, .check = all_check,
      .tear_down = tear_down },
    { "write_all pipe", .set_up = set_up_full_pipe, .call = write_all_call, .step = drain_step, .check = all_check,
      .tear_down = tear_down },
    { "sendfile", PARTIAL, .done = ALL_BYTES, .set_up = set_up_sendfile, .call = sendfile_call, WRITE_ROW },
    { "sendfile nonblocking", PARTIAL, .done = ALL_BYTES, .set_up = set_up_sendfile_nonblocking, .call = sendfile_call, WRITE_ROW },
    { "sendfile at the position", PARTIAL, .done = ALL_BYTES, .set_up = set_up_sendfile, .call = sendfile_at_position_call, WRITE_ROW },
    { "stream_read socket", .done = 1, .set_up = set_up_reader_of_sockets, .call = stream_read_call, READ_STREAM_ROW },
    { "stream_read pipe", .done = 1, .set_up = set_up_reader_of_pipe, .call = stream_read_call, READ_STREAM_ROW },
    { "stream_read large", .done = 1, .set_up = set_up_reader_of_sockets, .call = stream_read_large_call, .step = letter_step,
      .check = letters_check, .tear_down = tear_down },
    { "stream_read_all socket", PARTIAL, .done = LINE_BYTES, .set_up = set_up_reader_of_sockets, .call = stream_read_all_call,
      READ_STREAM_ROW },
    { "stream_read_all pipe", PARTIAL, .done = LINE_BYTES, .set_up = set_up_reader_of_pipe, .call = stream_read_all_call,
      READ_STREAM_ROW },
    { "stream_read_line socket", .done = LINE_BYTES, .set_up = set_up_reader_of_sockets, .call = stream_read_line_call,
      READ_STREAM_ROW },
    { "stream_read_line pipe", .done = LINE_BYTES, .set_up = set_up_reader_of_pipe, .call = stream_read_line_call, READ_STREAM_ROW },
    { "stream_read_line terminal", .done = LINE_BYTES, .set_up = set_up_reader_of_terminal, .call = stream_read_line_call,
      .step = line_step, .check = letters_check, .tear_down = tear_down },
    { "stream_read_until", .done = LINE_BYTES, .set_up = set_up_reader_of_sockets, .call = stream_read_until_call, READ_STREAM_ROW },
    { "stream_peek", .done = LINE_BYTES, .set_up = set_up_reader_of_sockets, .call = stream_peek_call, READ_STREAM_ROW },
    { "stream_write socket", .set_up = set_up_writer_of_sockets, .call = stream_write_call, WRITE_STREAM_ROW },
    { "stream_write pipe", .set_up = set_up_writer_of_pipe, .call = stream_write_call, WRITE_STREAM_ROW },
    { "stream_write longer than a buffer", .set_up = set_up_writer_of_pipe, .call = stream_write_long_call, .step = drain_step,
      .check = write_long_check, .tear_down = tear_down },
    { "stream_writev", .set_up = set_up_writer_of_sockets, .call = stream_writev_call, WRITE_STREAM_ROW },
    { "stream_flush socket", .set_up = set_up_writer_of_sockets, .call = stream_flush_call, WRITE_STREAM_ROW },
    { "stream_flush pipe", .set_up = set_up_writer_of_pipe, .call = stream_flush_call, WRITE_STREAM_ROW },
    { "stream_copy", PARTIAL, .done = LINE_BYTES, .set_up = set_up_stream_copy, .call = stream_copy_call, READ_STREAM_ROW },
    { "stream_copy to a full pipe", PARTIAL, .done = ALL_BYTES, .set_up = set_up_copy_to_full_pipe, .call = stream_copy_file_call,
      .step = drain_step, .check = copy_file_check, .tear_down = tear_down },
    { "splice", .done = 1, .set_up = set_up_pipes, .call = splice_call, .step = put_step, .check = spliced_check,
      .make_ready = put_many, .tear_down = tear_down },
    { "splice into a file", .done = 1, .now = -EOPNOTSUPP, .set_up = set_up_pipe_and_file, .call = splice_into_file_call,
      .step = put_step, .check = spliced_into_file_check, .tear_down = tear_down },
    { "splice from a file", .done = MESSAGE_BYTES, .set_up = set_up_sendfile, .call = splice_from_file_call, WRITE_ROW },
    { "fd_wait", .done = POLLIN, .set_up = set_up_sockets, .call = fd_wait_call, READ_ROW },
    { "select of readiness and a signal", .set_up = select_set_up, .call = select_call, .step = select_step, .check = select_check,
      .tear_down = select_tear_down },
    { "accept", .set_up = set_up_listener, .call = accept_call, .step = client_step, .check = accept_check, .make_ready = many_clients,
      .tear_down = tear_down },
    { "accept from one socket a worker", .set_up = set_up_group, .call = accept_call, .step = tcp_client_step,
      .check = accept_in_group_check, .make_ready = many_tcp_clients, .tear_down = tear_down },
    { "accept from a blocking listener", .set_up = set_up_blocking_listener, .call = accept_call, .step = client_step,
      .check = accept_check, .tear_down = tear_down },
    { "accept without a descriptor left", PASSING | FIBERS_ONLY | SELDOM, .set_up = set_up_without_descriptors, .call = accept_call,
      .step = free_descriptor_step, .check = accept_without_descriptors_check, .tear_down = descriptors_tear_down },
    { "connect", FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_full_queue, .call = connect_call, .step = accept_step,
      .check = connect_check, .tear_down = tear_down },
    { "connect TCP", .now = -EOPNOTSUPP, .set_up = set_up_silent_listener, .call = connect_tcp_call, .check = no_check,
      .tear_down = tear_down },
    { "connect TCP nonblocking", .now = -EOPNOTSUPP, .set_up = set_up_silent_listener, .call = connect_nonblocking_call,
      .check = no_check, .tear_down = tear_down },
    { "net_dial", FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_full_queue, .call = dial_call, .step = accept_step,
      .check = connect_check, .tear_down = tear_down },
    { "open", .call = open_call, OPEN_ROW },
    { "openat", .call = openat_call, OPEN_ROW },
    { "openat2", .is_missing = openat2_is_missing, .call = openat2_call, OPEN_ROW },
    { "read file", FILE_TRAITS, .done = MESSAGE_BYTES, .call = read_file_call, .check = read_file_check, FILE_ROW },
    { "stream_read file", FILE_TRAITS, .done = MESSAGE_BYTES, .now = LEFT_OUT, .set_up = set_up_reader_of_file,
      .call = stream_read_file_call, .check = stream_read_file_check, .tear_down = tear_down },
    { "pread", FILE_TRAITS, .done = MESSAGE_BYTES, .call = pread_call, .check = no_check, FILE_ROW },
    { "write file", FILE_TRAITS, .done = MESSAGE_BYTES, .call = write_file_call, .check = write_file_check, FILE_ROW },
    { "pwrite", FILE_TRAITS, .done = MESSAGE_BYTES, .call = pwrite_call, .check = written_check, FILE_ROW },
    { "readv file", FILE_TRAITS, .done = MESSAGE_BYTES, .call = readv_file_call, .check = read_file_check, FILE_ROW },
    { "writev file", FILE_TRAITS, .done = MESSAGE_BYTES, .call = writev_file_call, .check = write_file_check, FILE_ROW },
    { "fsync", PASSING | FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_file, .call = fsync_call, .check = no_check,
      .tear_down = tear_down },
    { "fdatasync", PASSING | FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_file, .call = fdatasync_call, .check = no_check,
      .tear_down = tear_down },
    { "sync_file_range", PASSING | FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_file, .call = sync_file_range_call,
      .check = no_check, .tear_down = tear_down },
    { "fallocate", PASSING | FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_file, .call = fallocate_call, .check = allocated_check,
      .tear_down = tear_down },
    { "ftruncate", PASSING | FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_file, .call = ftruncate_call, .check = truncated_check,
      .tear_down = tear_down },
    { "fadvise", PASSING | FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_file, .call = fadvise_call, .check = no_check,
      .tear_down = tear_down },
    { "copy_file_range", PASSING | FIBERS_ONLY, .done = FILE_BYTES, .now = -EOPNOTSUPP, .set_up = set_up_copy,
      .call = copy_file_range_call, .check = copied_check, .tear_down = tear_down },
    { "statx", PASSING | FIBERS_ONLY, .now = -EOPNOTSUPP, .set_up = set_up_file, .call = statx_call, .check = no_check,
      .tear_down = tear_down },
    { "renameat2", .call = renameat2_call, .check = renamed_check, NAME_ROW },
    { "linkat", .call = linkat_call, .check = made_check, NAME_ROW },
    { "symlinkat", .call = symlinkat_call, .check = made_check, NAME_ROW },
    { "readlinkat", .done = 6, .call = readlinkat_call, .check = no_check, NAME_ROW },
    { "unlinkat", .call = unlinkat_call, .check = unlinked_check, NAME_ROW },
    { "mkdirat", .call = mkdirat_call, .check = made_check, NAME_ROW },
    { "file_read", FILE_TRAITS, .call = file_read_call, .check = no_check, FILE_ROW },
    { "file_replace", PASSING | FIBERS_ONLY | SELDOM, .now = -EOPNOTSUPP, .waits = 5, .set_up = set_up_names, .call = file_replace_call,
      .check = replaced_check, .tear_down = names_tear_down },
    { "dir_open", FILE_TRAITS, .now = LEFT_OUT, .set_up = set_up_no_dir, .call = dir_open_call, .check = opened_dir_check,
      .tear_down = dir_tear_down },
    { "dir_next", PASSING | FIBERS_ONLY, .done = 1, .now = -EOPNOTSUPP, .set_up = set_up_dir, .call = dir_next_call,
      .check = entries_check, .tear_down = dir_tear_down },
    { "flock", SELDOM, .set_up = set_up_locked, .call = flock_call, .step = unlock_step, .check = lock_check, .tear_down = tear_down },
    { "signal_wait", .done = SIGUSR1, .set_up = signal_set_up, .call = signal_call, .step = signal_step, .check = signal_check,
      .tear_down = signal_tear_down },
    { "signal_wait while another listens", .done = SIGUSR1, .set_up = set_up_listener_of_signals, .call = signal_call,
      .step = signal_step, .check = signal_check, .tear_down = end_listener_of_signals },
    { "close", NO_DEADLINE | SELDOM, .not_cancelled = ALL_WAITS, .set_up = set_up_used_directory, .call = close_call, .step = reader_step,
      .check = close_check, .tear_down = tear_down },
};

int main(int argc, char **argv)
{
    memset(lent, 0xee, sizeof lent);
    return run_rows("cancel_io", rows, sizeof rows / sizeof *rows, NULL, 0, argc, argv);
}
