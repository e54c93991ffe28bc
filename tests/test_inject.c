/* test_inject.c - a mixture of all calls while system calls, submissions and operations fail: each period-th, or by chance. How they fail
 * is in inject.h. What nobody may hear of, nobody hears of; want of memory is an error of one call that has done nothing, and is made
 * again; every byte arrives, no descriptor is lost, and the runtime ends. SLEY_TEST_SEED replays it; SLEY_TEST_ROUNDS: how often all. */
#include "inject.h"

#include "child.h"
#include "sched/worker.h"

#include <sys/file.h>
#include <sys/uio.h>

enum { STREAMS = 8, STREAM_TOTAL = 100000, CLIENTS = 16, PIECES = 40, LINES = 300, MESSAGES = 400 };

static uint64_t seed;

/* This is a child, and what the others wait for might never come: it ends with the first that was not found. */
static _Noreturn void give_up(const char *text, int line)
{
    fprintf(stderr, "line %d: expected %s\n", line, text);
    _exit(1);
}

#undef EXPECT
#define EXPECT(condition) ((condition) ? (void)0 : give_up(#condition, __LINE__))

/* May this result of a call be, and the call be made again? */
static int once_more(int rc)
{
    return inject.what & HARD && (rc == -ENOMEM || rc == -ENOBUFS || rc == -ENOSPC || rc == -EIO || rc == -EMFILE);
}

#define INSIST(rc, call) do (rc) = (call); while (once_more(rc))

/* After an error it cannot be known how much of a long write has gone; so where there may be one it is made of short ones. */
static int write_exactly(int fd, const unsigned char *buf, size_t bytes, int is_socket)
{
    size_t done = 0;
    int n = 0;

    if (!(inject.what & HARD))
        return is_socket ? sley_send_all(fd, buf, bytes, 0, SLEY_FOREVER) : sley_write_all(fd, buf, bytes, SLEY_FOREVER);
    for (; done < bytes; done += (size_t)n) {
        INSIST(n, sley_write(fd, buf + done, bytes - done, SLEY_FOREVER));
        if (n <= 0)
            return n < 0 ? n : -EIO;
    }
    return 0;
}

static int read_exactly(int fd, unsigned char *buf, size_t bytes)
{
    size_t done = 0;
    int n;

    for (; done < bytes; done += (size_t)n) {
        INSIST(n, sley_read_all(fd, buf + done, bytes - done, SLEY_FOREVER));
        if (n <= 0)
            return n;
    }
    return (int)done;
}

/* --- streams ----------------------------------------------------------------------------------------------------------------------- */

struct stream {
    int in, out, is_socket;
    uint64_t seed;
};

static void halve(struct iovec *v, unsigned char *buf, size_t bytes, uint64_t *random)
{
    size_t half = below(random, (uint32_t)bytes + 1);

    v[0] = (struct iovec){ buf, half };
    v[1] = (struct iovec){ buf + half, bytes - half };
}

static sley_time some_deadline(uint64_t *random)
{
    switch (below(random, 8)) {
    case 0: return SLEY_NOW;
    case 1: return sley_after(below(random, 200) * SLEY_US);
    default: return SLEY_FOREVER;
    }
}

static int write_stream(void *arg)
{
    struct stream *s = arg;
    uint64_t random = s->seed;
    unsigned char buf[9000];
    struct iovec v[2];
    struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

    for (size_t at = 0; at < STREAM_TOTAL;) {
        uint32_t bytes = 1 + below(&random, below(&random, 3) ? 300 : sizeof buf);
        sley_time deadline = some_deadline(&random);
        int n;

        bytes = bytes < STREAM_TOTAL - at ? bytes : (uint32_t)(STREAM_TOTAL - at);
        fill_pattern(buf, bytes, at + s->seed);
        halve(v, buf, bytes, &random);
        switch (below(&random, s->is_socket ? 5 : 3)) {
        case 0: n = sley_write(s->out, buf, bytes, deadline); break;
        case 1: n = sley_writev(s->out, v, 2, deadline); break;
        case 2: n = write_exactly(s->out, buf, bytes, s->is_socket); n = n == 0 ? (int)bytes : n; break;
        case 3: n = sley_send(s->out, buf, bytes, 0, deadline); break;
        default: n = sley_sendmsg(s->out, &m, 0, deadline);
        }
        if (once_more(n) || (n == -ETIMEDOUT && deadline != SLEY_FOREVER))
            continue;
        EXPECT(n > 0 && n <= (int)bytes);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    EXPECT(sley_close(s->out) == 0);
    return 0;
}

static int read_stream(void *arg)
{
    struct stream *s = arg;
    uint64_t random = s->seed + 1;
    unsigned char buf[9000];
    struct iovec v[2];
    size_t at = 0;

    for (;;) {
        uint32_t bytes = 1 + below(&random, below(&random, 3) ? 300 : sizeof buf);
        sley_time deadline = some_deadline(&random);
        struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };
        sley_case arms[2] = { sley_case_fd(s->in, POLLIN), sley_case_at(sley_after(below(&random, 300) * SLEY_US)) };
        int n = 1;

        halve(v, buf, bytes, &random);
        switch (below(&random, s->is_socket ? 7 : 5)) {
        case 0:
            n = sley_fd_wait(s->in, POLLIN, deadline);
            n = n > 0 ? sley_read(s->in, buf, bytes, SLEY_FOREVER) : n;
            break;
        case 1:
            n = sley_select(arms, 2, SLEY_FOREVER);
            n = n < 0 ? n : n == 1 ? -ETIMEDOUT : arms[0].result < 0 ? arms[0].result : sley_read(s->in, buf, bytes, SLEY_FOREVER);
            deadline = SLEY_NOW;
            break;
        case 2: n = sley_readv(s->in, v, 2, deadline); break;
        case 3: n = sley_read_all(s->in, buf, bytes, deadline); break;
        case 4: n = sley_read(s->in, buf, bytes, deadline); break;
        case 5: n = sley_recv(s->in, buf, bytes, below(&random, 4) ? 0 : MSG_WAITALL, deadline); break;
        default: n = sley_recvmsg(s->in, &m, 0, deadline);
        }
        if (once_more(n) || (n == -ETIMEDOUT && deadline != SLEY_FOREVER))
            continue;
        EXPECT(n >= 0 && (n == 0 || is_pattern(buf, (size_t)n, at + s->seed)));
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    EXPECT(at == STREAM_TOTAL);
    EXPECT(sley_close(s->in) == 0);
    return 0;
}

/* --- lines, through buffered streams ------------------------------------------------------------------------------------------------- */

static int write_lines(void *arg)
{
    int fd = *(int *)arg, rc;
    sley_stream *s = sley_stream_create(fd);

    for (int i = 0; i < LINES; i++) {
        char line[64];
        int n = snprintf(line, sizeof line, "line %d of %d\n", i, i * 77);

        INSIST(rc, sley_stream_write(s, line, (size_t)n, SLEY_FOREVER));
        EXPECT(rc == 0);
        if (i % 16 == 0) {
            INSIST(rc, sley_stream_flush(s, SLEY_FOREVER));
            EXPECT(rc == 0);
        }
    }
    INSIST(rc, sley_stream_flush(s, SLEY_FOREVER));
    EXPECT(rc == 0);
    sley_stream_destroy(s);
    EXPECT(sley_close(fd) == 0);
    return 0;
}

static int read_lines(void *arg)
{
    int fd = *(int *)arg, rc, i;
    sley_stream *s = sley_stream_create(fd);

    for (i = 0;; i++) {
        char line[64], want[64];

        INSIST(rc, sley_stream_read_line(s, line, sizeof line, SLEY_FOREVER));
        if (rc <= 0)
            break;
        snprintf(want, sizeof want, "line %d of %d\n", i, i * 77);
        EXPECT(strcmp(line, want) == 0);
    }
    EXPECT(rc == 0 && i == LINES);
    sley_stream_destroy(s);
    EXPECT(sley_close(fd) == 0);
    return 0;
}

/* --- a server and its clients -------------------------------------------------------------------------------------------------------- */

static struct {
    int listener;
    char address[SLEY_NET_TEXT_BYTES];
    _Atomic(int) accepted, dialed;
} server;

static int serve_one(void *arg)
{
    int fd = *(int *)arg, n;
    unsigned char buf[3000];

    for (;;) {
        INSIST(n, sley_recv(fd, buf, sizeof buf, 0, SLEY_FOREVER));
        if (n <= 0 || (n = write_exactly(fd, buf, (size_t)n, 1)) < 0)
            break;
    }
    EXPECT(n == 0);
    EXPECT(sley_close(fd) == 0);
    return 0;
}

static int serve(void *arg)
{
    sley_scope clients;
    int fd;

    (void)arg;
    sley_scope_init(&clients, SLEY_FOREVER);
    for (;;) {
        struct sockaddr_storage from;
        socklen_t from_bytes = sizeof from;

        INSIST(fd, sley_accept(server.listener, (struct sockaddr *)&from, &from_bytes, SLEY_FOREVER));
        if (fd < 0)
            break;
        server.accepted++;
        EXPECT(sley_go_copy(serve_one, &fd, sizeof fd) == 0);
    }
    EXPECT(fd == -EBADF);
    EXPECT(sley_scope_wait(&clients, 0, SLEY_FOREVER) == 0);
    return 0;
}

static int be_client(void *arg)
{
    unsigned char buf[5000], echo[5000];
    size_t bytes = 100 + *(size_t *)arg * 300;
    int fd;

    INSIST(fd, sley_net_dial(server.address, SLEY_FOREVER));
    EXPECT(fd >= 0);
    if (fd < 0)
        return 0;
    server.dialed++;
    fill_pattern(buf, bytes, bytes);
    for (int i = 0; i < 3; i++) {
        EXPECT(write_exactly(fd, buf, bytes, 1) == 0);
        memset(echo, 0, bytes);
        EXPECT(read_exactly(fd, echo, bytes) == (int)bytes && is_pattern(echo, bytes, bytes));
    }
    EXPECT(sley_close(fd) == 0);
    return 0;
}

static int be_clients(void *arg)
{
    sley_scope clients;

    (void)arg;
    sley_scope_init(&clients, SLEY_FOREVER);
    for (size_t i = 0; i < CLIENTS; i++)
        EXPECT(sley_go_copy(be_client, &i, sizeof i) == 0);
    EXPECT(sley_scope_wait(&clients, 0, SLEY_FOREVER) == 0);
    EXPECT(sley_close(server.listener) == 0);
    return 0;
}

/* --- files --------------------------------------------------------------------------------------------------------------------------- */

static int use_files(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    unsigned char buf[4096], got[4096];
    char name[32], other[40];
    struct statx sx;
    void *whole;
    size_t whole_bytes;
    int dir, fd, copy, rc;

    snprintf(name, sizeof name, "f%llx", (unsigned long long)random);
    snprintf(other, sizeof other, "%s.2", name);
    INSIST(dir, sley_open(temp_dir, O_RDONLY | O_DIRECTORY, 0, SLEY_FOREVER));
    INSIST(fd, sley_openat(dir, name, O_RDWR | O_CREAT | O_EXCL, 0600, SLEY_FOREVER));
    INSIST(copy, sley_openat(dir, other, O_RDWR | O_CREAT | O_EXCL, 0600, SLEY_FOREVER));
    EXPECT(dir >= 0 && fd >= 0 && copy >= 0);
    for (int i = 0; i < PIECES; i++) {
        size_t at = (size_t)i * sizeof buf;
        struct iovec v[2];

        fill_pattern(buf, sizeof buf, at + random);
        halve(v, buf, sizeof buf, &random);
        random = *(uint64_t *)arg;
        INSIST(rc, i % 2 ? sley_pwrite(fd, buf, sizeof buf, (off_t)at, SLEY_FOREVER) : sley_writev(fd, v, 2, SLEY_FOREVER));
        EXPECT(rc == (int)sizeof buf);
        if (i % 2) {
            EXPECT(lseek(fd, (off_t)(at + sizeof buf), SEEK_SET) >= 0);
        } else if (i == PIECES / 2) {
            INSIST(rc, sley_fdatasync(fd, SLEY_FOREVER));
            EXPECT(rc == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
        }
        memset(got, 0, sizeof got);
        INSIST(rc, sley_pread(fd, got, sizeof got, (off_t)at, SLEY_FOREVER));
        EXPECT(rc == (int)sizeof got && is_pattern(got, sizeof got, at + random));
    }
    INSIST(rc, sley_statx(dir, name, 0, STATX_SIZE, &sx, SLEY_FOREVER));
    EXPECT(rc == 0 && sx.stx_size == PIECES * sizeof buf);
    for (off_t from = 0, to = 0; from < (off_t)(PIECES * sizeof buf);) {
        off_t before = from;

        INSIST(rc, sley_copy_file_range(fd, &from, copy, &to, PIECES * sizeof buf - (size_t)from, 0, SLEY_FOREVER));
        EXPECT(rc > 0 && from == before + rc && to == from);
        if (rc <= 0)
            break;
    }
    INSIST(rc, sley_fallocate(copy, 0, 0, (off_t)((PIECES + 1) * sizeof buf), SLEY_FOREVER));
    EXPECT(rc == 0);
    INSIST(rc, sley_ftruncate(copy, (off_t)((PIECES - 1) * sizeof buf), SLEY_FOREVER));
    EXPECT(rc == 0);
    EXPECT(sley_close(copy) == 0 && sley_close(fd) == 0);
    INSIST(rc, sley_renameat2(dir, other, dir, name, 0, SLEY_FOREVER));
    EXPECT(rc == 0);
    INSIST(rc, sley_file_read(dir, name, &whole, &whole_bytes, SLEY_FOREVER));
    EXPECT(rc == 0 && whole_bytes == (PIECES - 1) * sizeof buf && is_pattern(whole, whole_bytes, random));
    if (rc == 0)
        free(whole);
    INSIST(rc, sley_file_replace(dir, name, buf, sizeof buf, 0600, SLEY_FOREVER));
    EXPECT(rc == 0);
    INSIST(rc, sley_file_read(dir, name, &whole, &whole_bytes, SLEY_FOREVER));
    EXPECT(rc == 0 && whole_bytes == sizeof buf && memcmp(whole, buf, sizeof buf) == 0);
    if (rc == 0)
        free(whole);
    INSIST(rc, sley_unlinkat(dir, name, 0, SLEY_FOREVER));
    EXPECT(rc == 0);
    EXPECT(sley_close(dir) == 0);
    return 0;
}

/* --- splice, sendfile, locks --------------------------------------------------------------------------------------------------------- */

static struct {
    int from[2], to[2], file, locks[2];
    _Atomic(int) holders;
} plumbing;

static int push(void *arg)
{
    off_t at = 0;
    int n;

    (void)arg;
    while (at < STREAM_TOTAL) {
        off_t before = at;

        INSIST(n, sley_sendfile(plumbing.from[1], plumbing.file, &at, (size_t)(STREAM_TOTAL - at), SLEY_FOREVER));
        EXPECT(n > 0 && at == before + n);
    }
    EXPECT(sley_close(plumbing.from[1]) == 0);
    return 0;
}

static int hand_on(void *arg)
{
    int n;

    (void)arg;
    do {
        INSIST(n, sley_splice(plumbing.from[0], NULL, plumbing.to[1], NULL, 3000, 0, SLEY_FOREVER));
        EXPECT(n >= 0);
    } while (n > 0);
    EXPECT(sley_close(plumbing.from[0]) == 0 && sley_close(plumbing.to[1]) == 0);
    return 0;
}

static int pull(void *arg)
{
    static unsigned char buf[STREAM_TOTAL + 1];

    (void)arg;
    EXPECT(read_exactly(plumbing.to[0], buf, STREAM_TOTAL) == STREAM_TOTAL && is_pattern(buf, STREAM_TOTAL, 5));
    EXPECT(read_exactly(plumbing.to[0], buf, 1) == 0);
    EXPECT(sley_close(plumbing.to[0]) == 0);
    return 0;
}

static int lock_in_turn(void *arg)
{
    int fd = *(int *)arg, rc;

    for (int i = 0; i < 10; i++) {
        INSIST(rc, sley_flock(fd, LOCK_EX, SLEY_FOREVER));
        EXPECT(rc == 0 && plumbing.holders++ == 0);
        EXPECT(sley_yield() == 0);
        plumbing.holders--;
        INSIST(rc, sley_flock(fd, LOCK_UN, SLEY_FOREVER));
        EXPECT(rc == 0);
    }
    return 0;
}

/* --- timers, channels, cancels ------------------------------------------------------------------------------------------------------- */

static sley_chan *channel;

static int send_messages(void *arg)
{
    (void)arg;
    for (int i = 0; i < MESSAGES; i++) {
        EXPECT(sley_chan_send(channel, &i, SLEY_FOREVER) == 0);
        if (i % 32 == 0) {
            sley_time until = sley_after(100 * SLEY_US);

            EXPECT(sley_sleep_until(until) == 0 && sley_now() >= until);
        }
    }
    sley_chan_close(channel);
    return 0;
}

static int receive_messages(void *arg)
{
    int fd = *(int *)arg, message, count = 0, n;

    for (;;) {
        sley_case arms[3] = { sley_case_recv(channel, &message), sley_case_fd(fd, POLLIN), sley_case_at(sley_after(SLEY_MS)) };

        INSIST(n, sley_select(arms, 3, SLEY_FOREVER));
        if (n == 1 && once_more(arms[1].result))
            continue;
        EXPECT(n == 0 || n == 2);
        if (n == 2)
            continue;
        if (n != 0 || arms[0].result == 0)
            break;
        EXPECT(message == count++);
    }
    EXPECT(count == MESSAGES);
    return 0;
}

/* A receive that is cut takes nothing. */
static int be_cut(void *arg)
{
    int *pair = arg, n;
    unsigned char byte;

    for (int i = 0; i < 20; i++) {
        sley_scope hurry;

        sley_scope_init(&hurry, sley_after(200 * SLEY_US));
        INSIST(n, sley_recv(pair[0], &byte, 1, 0, SLEY_FOREVER));
        EXPECT(n == -ECANCELED);
        EXPECT(sley_scope_wait(&hurry, 0, SLEY_FOREVER) == -ETIMEDOUT);
        byte = (unsigned char)i;
        EXPECT(write_exactly(pair[1], &byte, 1, 1) == 0);
        INSIST(n, sley_recv(pair[0], &byte, 1, 0, SLEY_FOREVER));
        EXPECT(n == 1 && byte == i);
    }
    return 0;
}

/* A close ends the calls that wait, whatever they wait in; their bytes stay the peer's matter. */
static int wait_for_close(void *arg)
{
    int *end = arg, n;
    unsigned char byte;

    switch (end[1] % 3) {
    case 0: INSIST(n, sley_recv(end[0], &byte, 1, 0, SLEY_FOREVER)); break;
    case 1: INSIST(n, sley_fd_wait(end[0], POLLIN, SLEY_FOREVER)); break;
    default: INSIST(n, sley_read_all(end[0], &byte, 1, SLEY_FOREVER));
    }
    EXPECT(n == -EBADF);
    return 0;
}

static int close_under_calls(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        struct actor calls[3];
        int pair[2], ends[3][2];

        make_pair(pair, SOCK_STREAM);
        for (int k = 0; k < 3; k++) {
            ends[k][0] = pair[0];
            ends[k][1] = k;
            actor_start_as(&calls[k], 0, wait_for_close, ends[k]);
            EXPECT(call_waits(&calls[k])); /* so it has begun, and the number is its own */
        }
        EXPECT(sley_close(pair[0]) == 0);
        for (int k = 0; k < 3; k++)
            EXPECT(actor_result(&calls[k]) == 0);
        EXPECT(sley_close(pair[1]) == 0);
    }
    return 0;
}

static int hear_signals(void *arg)
{
    int rc;

    (void)arg;
    INSIST(rc, sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_NOW)); /* from now on it is kept for who waits */
    EXPECT(rc == -ETIMEDOUT);
    for (int i = 0; i < 20; i++) {
        EXPECT(kill(getpid(), SIGUSR1) == 0);
        INSIST(rc, sley_signal_wait(SLEY_SIG(SIGUSR1), SLEY_FOREVER));
        EXPECT(rc == SIGUSR1);
    }
    sley_signal_release(SLEY_SIG(SIGUSR1));
    return 0;
}

/* --- all of it ----------------------------------------------------------------------------------------------------------------------- */

static struct { unsigned what; uint64_t period, per_mille; int threads, rounds; } way;

static struct actor actors[64];
static int actor_count;

/* On a fiber, or on a plain thread where that is asked for. */
static void start(sley_fn *fn, void *arg)
{
    EXPECT(actor_count < (int)(sizeof actors / sizeof *actors));
    if (way.threads)
        actor_start_as(&actors[actor_count++], 1, fn, arg);
    else
        EXPECT(sley_go(fn, arg) == 0);
}

static void mixture(void)
{
    struct stream s[STREAMS];
    uint64_t random = seed;
    uint64_t name = mix(random + 1);
    int lines[2], quiet[2], cut[2];
    static unsigned char contents[STREAM_TOTAL];
    sley_scope all;

    for (int i = 0; i < STREAMS; i++) {
        int fds[2];

        s[i].is_socket = i % 4 < 2;
        s[i].seed = below(&random, 1000);
        if (i % 4 == 0)
            make_pair(fds, SOCK_STREAM);
        else if (i % 4 == 1)
            make_tcp_pair(fds);
        else
            EXPECT(pipe2(fds, O_CLOEXEC | (i % 4 == 2 ? O_NONBLOCK : 0)) == 0);
        s[i].in = fds[0];
        s[i].out = fds[1];
    }
    make_pair(lines, SOCK_STREAM);
    make_pair(quiet, SOCK_STREAM);
    make_pair(cut, SOCK_STREAM);
    memset(&server, 0, sizeof server);
    server.listener = sley_net_listen("127.0.0.1:0", NULL);
    EXPECT(server.listener >= 0 && sley_net_local(server.listener, server.address, sizeof server.address) >= 0);
    EXPECT(pipe2(plumbing.from, O_CLOEXEC) == 0 && pipe2(plumbing.to, O_CLOEXEC) == 0);
    fill_pattern(contents, sizeof contents, 5);
    plumbing.file = make_file("plumbing", contents, sizeof contents);
    for (int i = 0; i < 2; i++)
        plumbing.locks[i] = open(temp_path("plumbing"), O_RDWR | O_CLOEXEC);
    channel = sley_chan_create(sizeof(int), 4);
    inject.no_operations = try_operation(NULL);
    inject.seed = mix(seed);
    inject.period = way.period;
    inject.per_mille = way.per_mille;
    inject.met = 0;

    sley_scope_init(&all, SLEY_FOREVER);
    inject.what = way.what;
    actor_count = 0;
    for (int i = 0; i < STREAMS; i++) {
        start(write_stream, &s[i]);
        start(read_stream, &s[i]);
    }
    start(write_lines, &lines[1]);
    start(read_lines, &lines[0]);
    if (way.rounds++ % 3 == 0) /* the disk takes its time */
        start(use_files, &name);
    start(push, NULL);
    start(hand_on, NULL);
    start(pull, NULL);
    start(lock_in_turn, &plumbing.locks[0]);
    start(lock_in_turn, &plumbing.locks[1]);
    start(send_messages, NULL);
    start(receive_messages, &quiet[0]);
    start(hear_signals, NULL);
    EXPECT(sley_go(serve, NULL) == 0 && sley_go(be_clients, NULL) == 0 && sley_go(be_cut, cut) == 0);
    EXPECT(sley_go(close_under_calls, NULL) == 0);
    EXPECT(sley_scope_wait(&all, 0, SLEY_FOREVER) == 0);
    for (int i = 0; i < actor_count; i++)
        EXPECT(actor_result(&actors[i]) == 0);
    inject.what = 0;

    EXPECT(server.dialed == CLIENTS && (server.accepted == CLIENTS || (way.what & HARD && server.accepted > CLIENTS)));
    for (int i = 0; i < 2; i++)
        EXPECT(sley_close(quiet[i]) == 0 && sley_close(cut[i]) == 0 && sley_close(plumbing.locks[i]) == 0);
    EXPECT(sley_close(plumbing.file) == 0);
    sley_chan_destroy(channel);
}

static uint64_t play_mixture(unsigned what, uint64_t period, uint64_t per_mille)
{
    void (*body)(void) = mixture;
    int before = count_descriptors(), rc;

    way.what = what;
    way.period = period;
    way.per_mille = per_mille;
    seed = mix(seed + 1);
    inject.enters = inject.calls = inject.operations = inject.polls = 0;
    scene.cast = FIBERS;
    rc = sley_run(NULL, play_body, &body);
    fprintf(stderr, "%s%s %llu: of %llu failed %llu enters, %llu calls, %llu operations, %llu polls\n",
            way.threads ? "threads, " : "", period != 0 ? "each" : "per mille",
            (unsigned long long)(period != 0 ? period : per_mille), (unsigned long long)inject.met, (unsigned long long)inject.enters,
            (unsigned long long)inject.calls, (unsigned long long)inject.operations, (unsigned long long)inject.polls);
    if (rc != 0 || count_descriptors() != before) {
        fprintf(stderr, "result %d, %d descriptors, %d before\n", rc, count_descriptors(), before);
        exit(1);
    }
    return inject.enters + inject.calls;
}

/* --- a kernel that takes nothing for a while ----------------------------------------------------------------------------------------- */

enum { WAITERS = 40 }; /* more than the rings of two workers take */

static struct {
    int pairs[WAITERS + 3][2];
    _Atomic(int) begun, received, timed_out, cancelled, closed;
} refusal;

static int receive_one(void *arg)
{
    int fd = *(int *)arg;
    char byte;

    refusal.begun++;
    EXPECT(sley_recv(fd, &byte, 1, 0, SLEY_FOREVER) == 1);
    refusal.received++;
    return 0;
}

static int receive_in_time(void *arg)
{
    char byte;

    refusal.begun++;
    EXPECT(sley_recv(*(int *)arg, &byte, 1, 0, sley_after(SLEY_MS)) == -ETIMEDOUT);
    refusal.timed_out++;
    return 0;
}

static int be_cancelled(void *arg)
{
    char byte;

    refusal.begun++;
    EXPECT(sley_recv(*(int *)arg, &byte, 1, 0, SLEY_FOREVER) == -ECANCELED);
    refusal.cancelled++;
    return 0;
}

static int be_closed(void *arg)
{
    char byte;

    refusal.begun++;
    EXPECT(sley_recv(*(int *)arg, &byte, 1, 0, SLEY_FOREVER) == -EBADF);
    refusal.closed++;
    return 0;
}

static int close_it(void *arg)
{
    EXPECT(sley_close(*(int *)arg) == 0);
    return 0;
}

/* Calls that find no room wait for it; those that found some wait for the kernel. Nobody hears -EAGAIN, and who is cut ends when the kernel
 * takes what it was cut from, or before. */
static int refuse(void *arg)
{
    sley_scope all, cancelled;
    int one_ring = *(int *)arg;

    memset(&refusal, 0, sizeof refusal);
    for (int i = 0; i < WAITERS + 3; i++)
        make_pair(refusal.pairs[i], SOCK_STREAM);
    sley_scope_init(&all, SLEY_FOREVER);
    inject.refused = refusal.pairs[0][0] % 2 ? EAGAIN : ENOMEM;
    for (int i = 0; i < WAITERS; i++)
        EXPECT(sley_go(receive_one, refusal.pairs[i]) == 0);
    while (refusal.begun < WAITERS)
        EXPECT(sley_yield() == 0);
    EXPECT(sley_go(receive_in_time, refusal.pairs[WAITERS]) == 0 && sley_go(be_closed, refusal.pairs[WAITERS + 1]) == 0);
    sley_scope_init(&cancelled, SLEY_FOREVER);
    EXPECT(sley_go(be_cancelled, refusal.pairs[WAITERS + 2]) == 0);
    while (refusal.begun < WAITERS + 3)
        EXPECT(sley_yield() == 0);
    EXPECT(sley_scope_go(&all, close_it, refusal.pairs[WAITERS + 1]) == 0);
    sley_scope_cancel(&cancelled);
    for (sley_time until = sley_after(5 * SLEY_MS); sley_now() < until;)
        (void)sley_yield();
    EXPECT(refusal.received == 0);
    while (one_ring && refusal.closed == 0) /* it has found no room, so there is nothing that it would have to wait for */
        (void)sley_yield();
    inject.refused = 0;
    EXPECT(sley_scope_wait(&cancelled, 0, SLEY_FOREVER) == 0 && refusal.cancelled == 1);
    for (int i = 0; i < WAITERS; i++)
        EXPECT(send(refusal.pairs[i][1], "", 1, 0) == 1);
    EXPECT(sley_scope_wait(&all, 0, SLEY_FOREVER) == 0 && refusal.received == WAITERS);
    EXPECT(refusal.closed == 1 && refusal.timed_out == 1);
    for (int i = 0; i < WAITERS + 3; i++)
        EXPECT((i == WAITERS + 1 || sley_close(refusal.pairs[i][0]) == 0) && sley_close(refusal.pairs[i][1]) == 0);
    return 0;
}

/* --- the end of a runtime ------------------------------------------------------------------------------------------------------------ */

static struct {
    int pair[2], pipe[2], listener;
    _Atomic(int) begun, cancelled;
} last;

static int wait_for_end(void *arg)
{
    char byte;
    int n;

    last.begun++;
    switch (*(int *)arg % 6) {
    case 0: INSIST(n, sley_recv(last.pair[0], &byte, 1, 0, SLEY_FOREVER)); break;
    case 1: INSIST(n, sley_read(last.pipe[0], &byte, 1, SLEY_FOREVER)); break;
    case 2: INSIST(n, sley_accept(last.listener, NULL, NULL, SLEY_FOREVER)); break;
    case 3: INSIST(n, sley_fd_wait(last.pair[1], POLLIN, SLEY_FOREVER)); break;
    case 4: INSIST(n, sley_recv(last.pair[0], &byte, 1, 0, sley_after(3600 * SLEY_S))); break;
    default: INSIST(n, sley_splice(last.pipe[0], NULL, last.pair[1], NULL, 1, 0, SLEY_FOREVER));
    }
    EXPECT(n == -ECANCELED);
    last.cancelled++;
    return 0;
}

static void stop_once(uint64_t per_mille)
{
    int kinds[24], count = sizeof kinds / sizeof *kinds;
    sley_runtime *rt;

    memset(&last, 0, sizeof last);
    make_pair(last.pair, SOCK_STREAM);
    EXPECT(pipe2(last.pipe, O_CLOEXEC) == 0);
    last.listener = sley_net_listen("127.0.0.1:0", NULL);
    EXPECT(sley_runtime_create(&rt, NULL) == 0 && sley_runtime_start(rt) == 0);
    inject.period = 0;
    inject.per_mille = per_mille;
    inject.what = SOFT | HARD | PART;
    for (int i = 0; i < count; i++) {
        kinds[i] = i;
        EXPECT(sley_runtime_submit(rt, wait_for_end, &kinds[i]) == 0);
    }
    while (last.begun < count)
        sched_yield();
    EXPECT(sley_runtime_stop(rt, SLEY_NOW) == 0 && last.cancelled == count);
    inject.what = 0;
    sley_runtime_destroy(rt);
    EXPECT(sley_close(last.pair[0]) == 0 && sley_close(last.pair[1]) == 0 && sley_close(last.pipe[0]) == 0);
    EXPECT(sley_close(last.pipe[1]) == 0 && sley_close(last.listener) == 0);
}

static int stop_often(void)
{
    inject.no_operations = sley_run(NULL, try_operation, NULL);
    for (uint64_t i = 0; i < 60; i++) {
        inject.seed = mix(seed + i);
        stop_once(i % 6 * 60);
    }
    return 0;
}

/* --- in a process of its own: cmocka has a handler for SIGSYS too -------------------------------------------------------------------- */

static const char *const words[] = { "nothing", "soft", "hard" };
static const unsigned whats[] = { 0, SOFT | PART, SOFT | HARD | PART };

static uint64_t walk(unsigned what)
{
    static const uint64_t periods[] = { 2, 3, 4, 5, 7, 11, 13, 29, 101 }, rates[] = { 10, 50, 100, 200, 300 };
    uint64_t failed = 0;

    for (size_t i = 0; i < sizeof periods / sizeof *periods; i++)
        failed += play_mixture(what, periods[i], 0);
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        failed += play_mixture(what, 0, rates[i]);
    way.threads = 1; /* but for those who need scopes */
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        failed += play_mixture(what, 0, rates[i]);
    way.threads = 0;
    return failed;
}

static int child_main(const char *word)
{
    const char *text = getenv("SLEY_TEST_ROUNDS");
    unsigned what = 0;
    uint64_t failed = 0;
    int rc = inject_begin();

    if (rc < 0) {
        fprintf(stderr, "no filters of system calls: %s\n", strerror(-rc));
        return 77;
    }
    if (strcmp(word, "refused") == 0)
        return sley_run(&(sley_options){ .ring_entries = 4 }, refuse, &(int){ 0 }) == 0 &&
               sley_run(&(sley_options){ .ring_entries = 4, .workers = 1 }, refuse, &(int){ 1 }) == 0 ? 0 : 1;
    seed = strtoull(getenv("SLEY_TEST_SEED"), NULL, 0);
    if (strcmp(word, "stopped") == 0)
        return stop_often();
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], word) == 0)
            what = whats[i];
    make_temp_dir(NULL);
    if (what == 0)
        play_mixture(what, 0, 0);
    for (int rounds = text != NULL ? atoi(text) : 1; rounds > 0 && what != 0; rounds--)
        failed += walk(what);
    remove_temp_dir(NULL);
    return (failed > 0) == (what != 0) ? 0 : 2;
}

static void play_child(const char *word)
{
    struct child child;
    char setting[64];

    snprintf(setting, sizeof setting, "SLEY_TEST_SEED=%llu", (unsigned long long)seed);
    run_child(&child, word, (const char *const[]){ setting, NULL });
    print_message("%s", child.said);
    if (WIFEXITED(child.status) && WEXITSTATUS(child.status) == 77)
        skip();
    assert_true(WIFEXITED(child.status));
    assert_int_equal(WEXITSTATUS(child.status), 0);
}

static void all_is_well_if_nothing_fails(void **state) { play_child("nothing"); }
static void nobody_hears_of_interrupts_and_of_what_is_taken_later(void **state) { play_child("soft"); }
static void want_of_memory_is_an_error_of_one_call(void **state) { play_child("hard"); }
static void calls_wait_while_the_kernel_takes_nothing(void **state) { play_child("refused"); }
static void a_runtime_that_is_stopped_ends_every_wait(void **state) { play_child("stopped"); }

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_well_if_nothing_fails),
        cmocka_unit_test(calls_wait_while_the_kernel_takes_nothing),
        cmocka_unit_test(a_runtime_that_is_stopped_ends_every_wait),
        cmocka_unit_test(nobody_hears_of_interrupts_and_of_what_is_taken_later),
        cmocka_unit_test(want_of_memory_is_an_error_of_one_call),
    };

    if (argc > 1) {
        int rc = child_main(argv[1]);

        fflush(NULL);
        _exit(rc); /* LeakSanitizer would wait for ever for its tracer, whose system calls are filtered too */
    }
    seed = test_seed();
    return cmocka_run_group_tests_name("inject", tests, NULL, NULL);
}
