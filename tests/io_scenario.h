/* io_scenario.h - for the I/O tests: scenarios (scenario.h) with calls on descriptors, temporary files, and a count of descriptors. */
#ifndef IO_SCENARIO_H
#define IO_SCENARIO_H

#include "scenario.h"

#include "plat/feature.h"
#include "sched/worker.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* What SLEY_NOW says of a file where the kernel lacks the feature that it takes: `result` where it has it. */
static inline int now_with(enum sl_feature f, int result) { return sl_feature_may(f) ? result : -EOPNOTSUPP; }

/* --- calls that wait, by actors ------------------------------------------------------------------------------------------------ */

struct io_call {
    struct actor actor;
    int (*call)(struct io_call *c);
    int fd;
    void *buf;
    size_t bytes;
    int flags; /* or events */
    sley_time deadline;
    const struct sockaddr *addr;
    socklen_t addr_bytes;
};

static inline int io_call_main(void *arg)
{
    struct io_call *c = arg;
    return c->call(c);
}

static inline int call_read(struct io_call *c) { return sley_read(c->fd, c->buf, c->bytes, c->deadline); }
static inline int call_write(struct io_call *c) { return sley_write(c->fd, c->buf, c->bytes, c->deadline); }
static inline int call_write_all(struct io_call *c) { return sley_write_all(c->fd, c->buf, c->bytes, c->deadline); }
static inline int call_read_all(struct io_call *c) { return sley_read_all(c->fd, c->buf, c->bytes, c->deadline); }
static inline int call_recv(struct io_call *c) { return sley_recv(c->fd, c->buf, c->bytes, c->flags, c->deadline); }
static inline int call_send_all(struct io_call *c) { return sley_send_all(c->fd, c->buf, c->bytes, c->flags, c->deadline); }
static inline int call_accept(struct io_call *c) { return sley_accept(c->fd, NULL, NULL, c->deadline); }
static inline int call_connect(struct io_call *c) { return sley_connect(c->fd, c->addr, c->addr_bytes, c->deadline); }
static inline int call_fd_wait(struct io_call *c) { return sley_fd_wait(c->fd, c->flags, c->deadline); }
static inline int call_close(struct io_call *c) { return sley_close(c->fd); }

/* Until the actor waits, in the kernel or in a list: 1; 0: it has ended. */
static inline int call_waits(struct actor *a)
{
    while (!a->done) {
        struct sl_fiber *f = a->block;
        unsigned state = f != NULL ? SL_WORD_STATE(sl_load_acquire(&f->word)) : SL_IDLE;

        if (state == SL_WAITING || state == SL_WAITING_IO)
            return 1;
        give_way();
    }
    return 0;
}

static inline int io_call_waits(struct io_call *c) { return call_waits(&c->actor); }

/* Start c->call, with no deadline if none was set, and go on once it waits. */
static inline void io_call_start(struct io_call *c)
{
    if (c->deadline == 0)
        c->deadline = SLEY_FOREVER;
    actor_start(&c->actor, io_call_main, c);
    EXPECT(io_call_waits(c));
}

static inline int io_call_result(struct io_call *c) { return actor_result(&c->actor); }

/* Play a body with every cast, from a test that does more than that. */
static inline void play_all(void (*body)(void))
{
    for (size_t i = 0; i < sizeof casts / sizeof *casts; i++)
        play(body, casts[i]);
}

/* Play a body on fibers of a runtime whose kernel has no operation but those that every one has. */
static inline void play_on_old_kernel(void (*body)(void), const sley_options *options)
{
    sley_runtime *rt;

    scene.cast = FIBERS;
    scene.unmet = NULL;
    assert_int_equal(sley_runtime_create(&rt, options), 0);
    for (unsigned i = 0; i < rt->worker_count; i++)
        rt->workers[i]->ring.ops = 0;
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_submit(rt, play_body, &body), 0);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    sley_runtime_destroy(rt);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* --- descriptors and files ------------------------------------------------------------------------------------------------------ */

/* Open descriptors of this process, without those that the library keeps: eventfds and rings. */
static inline int count_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;
    int n = 0;

    while ((e = readdir(d)) != NULL) {
        char target[64] = "";

        if (readlinkat(dirfd(d), e->d_name, target, sizeof target - 1) > 0 && strncmp(target, "anon_inode:", 11) != 0)
            n++;
    }
    closedir(d);
    return n;
}

static char temp_dir[64];

static inline int make_temp_dir(void **state)
{
    strcpy(temp_dir, "/tmp/sley-test-XXXXXX");
    return mkdtemp(temp_dir) == NULL;
}

static inline int remove_temp_dir(void **state)
{
    DIR *d = opendir(temp_dir);
    struct dirent *e;

    while (d != NULL && (e = readdir(d)) != NULL)
        unlinkat(dirfd(d), e->d_name, 0);
    if (d != NULL)
        closedir(d);
    return rmdir(temp_dir);
}

/* The path of a name in the temporary directory; good until the next but three. */
static inline const char *temp_path(const char *name)
{
    static char paths[4][PATH_MAX];
    static _Atomic(unsigned) next;
    char *path = paths[next++ % 4];

    snprintf(path, PATH_MAX, "%s/%s", temp_dir, name);
    return path;
}

/* A new file with these bytes, open for reading and writing, at its beginning. */
static inline int make_file(const char *name, const void *bytes, size_t count)
{
    int fd = open(temp_path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, bytes, count) != (ssize_t)count || lseek(fd, 0, SEEK_SET) != 0) {
        perror("cannot make a file");
        abort();
    }
    return fd;
}

static inline void make_pair(int sv[2], int type)
{
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sv) != 0) {
        perror("socketpair");
        abort();
    }
}

/* A connection over the loopback interface: both blocking. */
static inline void make_tcp_pair(int sv[2])
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t bytes = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    sv[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&a, bytes) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&a, &bytes) != 0 || connect(sv[0], (struct sockaddr *)&a, bytes) != 0 ||
        (sv[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
        perror("cannot make a connection");
        abort();
    }
    close(listener);
}

/* --- listeners ------------------------------------------------------------------------------------------------------------------ */

static inline struct sockaddr_in local_address(int fd)
{
    struct sockaddr_in a = { 0 };
    socklen_t bytes = sizeof a;

    EXPECT(getsockname(fd, (struct sockaddr *)&a, &bytes) == 0);
    return a;
}

static inline int connect_to(int listener)
{
    struct sockaddr_in a = local_address(listener);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    EXPECT(sley_connect(fd, (struct sockaddr *)&a, sizeof a, SLEY_FOREVER) == 0);
    return fd;
}

/* Of a listener, which is closed: a connection waits, and no descriptor is left for it until one is closed. */
static inline void accepts_once_there_is_a_descriptor(int listener)
{
    struct rlimit before, tight;
    int held = dup(listener), client, server;
    struct io_call c = { .call = call_accept, .fd = listener };

    client = connect_to(listener);
    EXPECT(getrlimit(RLIMIT_NOFILE, &before) == 0);
    tight = before;
    tight.rlim_cur = (rlim_t)client + 1;
    for (int fd = 0; fd < client; fd++) /* no hole below the limit */
        if (fcntl(fd, F_GETFD) < 0)
            EXPECT(dup2(held, fd) == fd);
    EXPECT(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    EXPECT(sley_accept(listener, NULL, NULL, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_accept(listener, NULL, NULL, sley_after(SLEY_MS)) == -ETIMEDOUT);
    io_call_start(&c);
    EXPECT(sley_close(held) == 0);
    server = io_call_result(&c);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before) == 0);
    EXPECT(server == held && sley_close(server) == 0 && sley_close(client) == 0 && sley_close(listener) == 0);
}

/* From now on this end of a connection is as if unplugged. 0: not everybody may do that here. */
static inline int unplug(int fd)
{
    struct sock_filter drop_all = { .code = BPF_RET };
    struct sock_fprog nothing = { .len = 1, .filter = &drop_all };
    int rc = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &nothing, sizeof nothing);

    EXPECT(rc == 0 || errno == EPERM);
    return rc == 0;
}

/* The kernel is to give up soon if the other end does not answer. */
static inline void be_impatient(int fd)
{
    int give_up_ms = 1;

    EXPECT(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up_ms, sizeof give_up_ms) == 0);
}

/* A byte that is never the same at neighbouring or period-aligned places. */
static inline unsigned char pattern(size_t at) { return (unsigned char)(at ^ at >> 8 ^ at >> 16 ^ at * 31 >> 5); }

static inline void fill_pattern(unsigned char *buf, size_t bytes, size_t from)
{
    for (size_t i = 0; i < bytes; i++)
        buf[i] = pattern(from + i);
}

static inline int is_pattern(const unsigned char *buf, size_t bytes, size_t from)
{
    for (size_t i = 0; i < bytes; i++)
        if (buf[i] != pattern(from + i))
            return 0;
    return 1;
}

#endif
