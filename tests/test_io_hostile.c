/* test_io_hostile.c - peers that reset at any moment, a process that is stopped and goes on, no descriptors left, forks, a completion queue
 * that overflows: nothing hangs, and no connection, descriptor or byte is lost. */
#include "io_scenario.h"

#include "child.h"

#include <sys/resource.h>

static void play_on_fibers(int (*body)(void *), const sley_options *options)
{
    int before = count_descriptors();

    scene.cast = FIBERS;
    scene.unmet = NULL;
    assert_int_equal(sley_run(options, body, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
    assert_int_equal(count_descriptors(), before);
}

/* --- traffic that goes on until it is told to end; every byte is looked at --------------------------------------------------------- */

enum { FLOWS = 8 };

static struct flow {
    int in, out;
    uint64_t seed;
    size_t written, read;
} flows[FLOWS];

static _Atomic(int) flows_end;

static int write_flow(void *arg)
{
    struct flow *s = arg;
    uint64_t random = s->seed;
    unsigned char buf[5000];

    while (!flows_end) {
        uint32_t bytes = 1 + below(&random, below(&random, 4) ? 200 : sizeof buf);
        int n;

        fill_pattern(buf, bytes, s->written + s->seed % 1000);
        n = sley_write(s->out, buf, bytes, below(&random, 4) ? SLEY_FOREVER : sley_after(below(&random, 100) * SLEY_US));
        EXPECT(n > 0 || n == -ETIMEDOUT);
        if (n > 0)
            s->written += (size_t)n;
        else if (n != -ETIMEDOUT)
            break;
        if (below(&random, 8) == 0)
            EXPECT(sley_sleep(below(&random, 300) * SLEY_US) == 0);
    }
    return sley_close(s->out);
}

static int read_flow(void *arg)
{
    struct flow *s = arg;
    uint64_t random = s->seed + 1;
    unsigned char buf[5000];

    for (;;) {
        uint32_t bytes = 1 + below(&random, sizeof buf);
        int n = sley_read(s->in, buf, bytes, below(&random, 4) ? SLEY_FOREVER : sley_after(below(&random, 100) * SLEY_US));

        if (n == -ETIMEDOUT)
            continue;
        EXPECT(n >= 0 && (n == 0 || is_pattern(buf, (size_t)n, s->read + s->seed % 1000)));
        if (n <= 0)
            break;
        s->read += (size_t)n;
    }
    return sley_close(s->in);
}

static void flows_start(void)
{
    uint64_t random = test_seed();

    flows_end = 0;
    for (int i = 0; i < FLOWS; i++) {
        int fds[2];

        if (i % 3 == 0)
            make_pair(fds, SOCK_STREAM);
        else if (i % 3 == 1)
            make_tcp_pair(fds);
        else
            EXPECT(pipe2(fds, O_CLOEXEC) == 0);
        flows[i] = (struct flow){ .in = fds[0], .out = fds[1], .seed = mix(random + (uint64_t)i) };
        EXPECT(sley_go(write_flow, &flows[i]) == 0 && sley_go(read_flow, &flows[i]) == 0);
    }
}

static void expect_flows(void)
{
    for (int i = 0; i < FLOWS; i++)
        EXPECT(flows[i].read == flows[i].written && flows[i].read > 0);
}

/* --- resets -------------------------------------------------------------------------------------------------------------------------- */

enum { CONNECTIONS = 10000, IN_QUEUE_MAX = 500, KINDS = 6, LARGE = 300000 };

static struct {
    int listener;
    struct sockaddr_in address;
    _Atomic(int) accepted, ended, clean, reset, connected, echoed;
} echo;

static int serve_echo(void *arg)
{
    int fd = *(int *)arg, n;
    unsigned char buf[16384];

    while ((n = sley_recv(fd, buf, sizeof buf, 0, SLEY_FOREVER)) > 0)
        if ((n = sley_send_all(fd, buf, (size_t)n, 0, SLEY_FOREVER)) < 0)
            break;
    EXPECT(n == 0 || n == -ECONNRESET || n == -EPIPE);
    n == 0 ? echo.clean++ : echo.reset++;
    EXPECT(sley_close(fd) == 0);
    echo.ended++;
    return 0;
}

static void reset(int fd)
{
    struct linger at_once = { 1, 0 };

    EXPECT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0 && close(fd) == 0);
}

static void pause_randomly(uint64_t *random)
{
    for (uint32_t left = below(random, 3); left > 0; left--)
        sched_yield();
}

/* The client's bytes back, to the end. */
static int echo_is_whole(int fd, size_t bytes)
{
    unsigned char buf[4096];
    size_t at = 0;
    ssize_t n;

    while ((n = recv(fd, buf, sizeof buf, 0)) > 0) {
        if (!is_pattern(buf, (size_t)n, at))
            return 0;
        at += (size_t)n;
    }
    return n == 0 && at == bytes;
}

static void *be_clients(void *arg)
{
    static unsigned char large[LARGE];
    uint64_t random = *(uint64_t *)arg;

    fill_pattern(large, sizeof large, 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        uint32_t kind = below(&random, KINDS + 10), bytes = 1 + below(&random, 2000);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        while (echo.connected - echo.accepted > IN_QUEUE_MAX)
            sched_yield(); /* beyond its queue the kernel may forget connections that are reset */
        EXPECT(fd >= 0 && connect(fd, (struct sockaddr *)&echo.address, sizeof echo.address) == 0);
        echo.connected++;
        switch (kind) {
        case 0: /* it sends and does not read, so the server's send waits */
            fcntl(fd, F_SETFL, O_NONBLOCK);
            (void)!send(fd, large, sizeof large, MSG_NOSIGNAL);
            pause_randomly(&random);
            reset(fd);
            break;
        case 1: /* half closed, and read to the end */
            EXPECT(send(fd, large, bytes, MSG_NOSIGNAL) == (ssize_t)bytes && shutdown(fd, SHUT_WR) == 0 && echo_is_whole(fd, bytes));
            echo.echoed++;
            reset(fd);
            break;
        case 2: /* half closed, and reset */
            EXPECT(send(fd, large, bytes, MSG_NOSIGNAL) == (ssize_t)bytes && shutdown(fd, SHUT_WR) == 0);
            pause_randomly(&random);
            reset(fd);
            break;
        case 3: case 4: case 5: /* in the middle of it */
            EXPECT(send(fd, large, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
            pause_randomly(&random);
            reset(fd);
            break;
        default: /* before it is accepted, or while the server receives */
            pause_randomly(&random);
            reset(fd);
        }
    }
    return NULL;
}

static int accept_all(void *arg)
{
    sley_scope clients;
    int fd;

    (void)arg;
    sley_scope_init_isolated(&clients, SLEY_FOREVER);
    while ((fd = sley_accept(echo.listener, NULL, NULL, SLEY_FOREVER)) >= 0) {
        echo.accepted++;
        EXPECT(sley_go_copy(serve_echo, &fd, sizeof fd) == 0);
    }
    EXPECT(fd == -EBADF);
    return sley_scope_wait(&clients, 0, SLEY_FOREVER);
}

static int resets(void *arg)
{
    socklen_t bytes = sizeof echo.address;
    uint64_t random = test_seed();
    pthread_t thread;
    sley_scope all;

    (void)arg;
    memset(&echo, 0, sizeof echo);
    echo.listener = sley_net_listen("127.0.0.1:0", NULL);
    EXPECT(getsockname(echo.listener, (struct sockaddr *)&echo.address, &bytes) == 0);
    EXPECT(pthread_create(&thread, NULL, be_clients, &random) == 0);
    sley_scope_init(&all, SLEY_FOREVER);
    EXPECT(sley_go(accept_all, NULL) == 0);
    while (echo.ended < CONNECTIONS)
        EXPECT(sley_sleep(SLEY_MS) == 0);
    EXPECT(sley_close(echo.listener) == 0);
    EXPECT(sley_scope_wait(&all, 0, SLEY_FOREVER) == 0);
    pthread_join(thread, NULL);
    EXPECT(echo.connected == CONNECTIONS && echo.accepted == CONNECTIONS && echo.clean + echo.reset == CONNECTIONS);
    EXPECT(echo.clean >= echo.echoed);
    return 0;
}

static void resets_at_any_moment_lose_no_connection(void **state)
{
    (void)state;
    play_on_fibers(resets, NULL);
    print_message("%d connections: %d ended by their peer, %d reset, %d echoed to the end\n", echo.accepted, echo.clean, echo.reset,
                  echo.echoed);
}

/* --- a process that is stopped and goes on ------------------------------------------------------------------------------------------- */

enum { STOPS = 60 };

/* Until its standard input ends. */
static int flow_until_told(void *arg)
{
    sley_scope all;
    char byte;

    (void)arg;
    sley_scope_init(&all, SLEY_FOREVER);
    flows_start();
    EXPECT(sley_read(STDIN_FILENO, &byte, 1, SLEY_FOREVER) == 0);
    flows_end = 1;
    EXPECT(sley_scope_wait(&all, 0, SLEY_FOREVER) == 0);
    expect_flows();
    return 0;
}

static int be_stopped(void)
{
    int rc;

    scene.unmet = NULL;
    rc = sley_run(NULL, flow_until_told, NULL);
    if (scene.unmet != NULL)
        fprintf(stderr, "line %d: expected %s\n", scene.unmet_line, scene.unmet);
    return rc != 0 || scene.unmet != NULL;
}

static void a_process_that_was_stopped_goes_on(void **state)
{
    uint64_t random = test_seed();
    int in[2], status;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        execl("/proc/self/exe", "test", "stopped", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    for (int i = 0; i < STOPS; i++) {
        for (uint32_t left = below(&random, 3000); left > 0; left--)
            sched_yield(); /* wherever it is by then */
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
        assert_int_equal(kill(pid, SIGCONT), 0);
    }
    close(in[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- no descriptors left ------------------------------------------------------------------------------------------------------------- */

enum { CALLERS = 30, ROOM = 5, SPIN = 20000 };

static struct {
    int listener, clients[CALLERS];
    int accepted[CALLERS];
    _Atomic(int) count;
    struct rlimit limit;
} scarce;

static int accept_scarce(void *arg)
{
    int fd;

    (void)arg;
    while ((fd = sley_accept(scarce.listener, NULL, NULL, SLEY_FOREVER)) >= 0)
        scarce.accepted[scarce.count++] = fd;
    EXPECT(fd == -EBADF);
    return 0;
}

/* What the workers have done so far: fibers switched to and entries into the kernel. */
static uint64_t work_done(void)
{
    struct sley_runtime *rt = sl_current()->rt;
    uint64_t n = 0;

    for (unsigned i = 0; i < rt->worker_count; i++)
        n += sl_load_relaxed(&rt->workers[i]->counters.switches) + sl_load_relaxed(&rt->workers[i]->counters.io_enters);
    return n;
}

static void expect_accepted(int n)
{
    while (scarce.count < n)
        EXPECT(sley_sleep(SLEY_MS) == 0);
}

static int be_scarce(void *arg)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char text[64];
    struct rlimit few;
    sley_scope all;
    uint64_t before;
    int fd, again;

    (void)arg;
    memset(&scarce, 0, sizeof scarce);
    snprintf(text, sizeof text, "unix:@sley-scarce-%d", getpid());
    strcpy(address.sun_path + 1, text + 6);
    scarce.listener = sley_net_listen(text, NULL);
    EXPECT(scarce.listener >= 0);
    for (int i = 0; i < CALLERS; i++)
        EXPECT((scarce.clients[i] = sley_net_dial(text, SLEY_FOREVER)) >= 0);
    again = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getrlimit(RLIMIT_NOFILE, &scarce.limit);
    few = scarce.limit;
    few.rlim_cur = (rlim_t)again + 1 + ROOM;
    EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
    sley_scope_init(&all, SLEY_FOREVER);
    EXPECT(sley_go(accept_scarce, NULL) == 0);
    expect_accepted(ROOM);
    EXPECT(sley_open("/dev/null", O_RDONLY, 0, SLEY_FOREVER) == -EMFILE);
    EXPECT(sley_net_dial(text, SLEY_FOREVER) == -EMFILE);
    before = work_done();
    EXPECT(sley_sleep(200 * SLEY_MS) == 0);
    EXPECT(work_done() - before < SPIN && scarce.count == ROOM);
    /* one that is given back goes to the next in the queue */
    EXPECT(sley_close(scarce.accepted[0]) == 0);
    expect_accepted(ROOM + 1);
    EXPECT(close(scarce.accepted[1]) == 0); /* ... also if nobody says so */
    expect_accepted(ROOM + 2);
    EXPECT(setrlimit(RLIMIT_NOFILE, &scarce.limit) == 0);
    expect_accepted(CALLERS);
    fd = sley_open("/dev/null", O_RDONLY, 0, SLEY_FOREVER);
    EXPECT(fd >= 0 && sley_close(fd) == 0 && sley_close(again) == 0);
    EXPECT(sley_close(scarce.listener) == 0 && sley_scope_wait(&all, 0, SLEY_FOREVER) == 0);
    for (int i = 0; i < CALLERS; i++)
        EXPECT(sley_close(scarce.clients[i]) == 0 && (i < 2 || sley_close(scarce.accepted[i]) == 0));
    return 0;
}

static void without_descriptors_a_listener_waits_and_loses_nobody(void **state)
{
    (void)state;
    play_on_fibers(be_scarce, NULL);
}

/* --- forks --------------------------------------------------------------------------------------------------------------------------- */

enum { FORKS = 20 };

static int fork_in_traffic(void *arg)
{
    sley_scope all;

    (void)arg;
    sley_scope_init(&all, SLEY_FOREVER);
    flows_start();
    for (int i = 0; i < FORKS; i++) {
        int status = -1;
        pid_t pid;

        EXPECT(sley_sleep(SLEY_MS) == 0);
        pid = fork();
        if (pid == 0) {
            if (i % 2 == 0)
                execl("/bin/true", "true", (char *)NULL);
            _exit(0);
        }
        EXPECT(pid > 0);
        while (waitpid(pid, &status, WNOHANG) == 0)
            EXPECT(sley_sleep(SLEY_MS) == 0);
        EXPECT(status == 0);
    }
    flows_end = 1;
    EXPECT(sley_scope_wait(&all, 0, SLEY_FOREVER) == 0);
    expect_flows();
    return 0;
}

static void forks_take_nothing_from_traffic(void **state)
{
    (void)state;
    play_on_fibers(fork_in_traffic, NULL);
}

/* --- a completion queue that overflows ----------------------------------------------------------------------------------------------- */

enum { WAITERS = 300 };

static struct {
    int pairs[WAITERS][2];
    _Atomic(int) waiting, received;
} crowd;

static int receive_number(void *arg)
{
    int i = *(int *)arg, number = -1;

    crowd.waiting++;
    EXPECT(sley_recv(crowd.pairs[i][0], &number, sizeof number, 0, SLEY_FOREVER) == sizeof number && number == i);
    crowd.received++;
    return 0;
}

static int overflow(void *arg)
{
    struct sl_ring *ring = &sl_current()->rt->workers[0]->ring;
    unsigned flags = 0;
    sley_scope all;

    (void)arg;
    memset(&crowd, 0, sizeof crowd);
    sley_scope_init(&all, SLEY_FOREVER);
    for (int i = 0; i < WAITERS; i++) {
        make_pair(crowd.pairs[i], SOCK_STREAM);
        EXPECT(sley_go_copy(receive_number, &i, sizeof i) == 0);
    }
    while (crowd.waiting < WAITERS || sl_ring_unsubmitted(ring) > 0)
        EXPECT(sley_sleep(SLEY_MS) == 0);
    for (int rounds = 0; rounds < 2; rounds++) /* the second finds the queue full */
        for (int i = rounds; i < WAITERS; i += 2) {
            EXPECT(send(crowd.pairs[i][1], &i, sizeof i, 0) == sizeof i);
            flags |= sl_load_relaxed(ring->sq_flags);
        }
    EXPECT(flags & IORING_SQ_CQ_OVERFLOW || ring->epoll_fd >= 0);
    EXPECT(sley_scope_wait(&all, 0, SLEY_FOREVER) == 0 && crowd.received == WAITERS);
    for (int i = 0; i < WAITERS; i++)
        EXPECT(sley_close(crowd.pairs[i][0]) == 0 && sley_close(crowd.pairs[i][1]) == 0);
    return 0;
}

static void completions_that_overflow_are_not_lost(void **state)
{
    (void)state;
    play_on_fibers(overflow, &(sley_options){ .workers = 1, .ring_entries = 4 });
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(completions_that_overflow_are_not_lost),
        cmocka_unit_test(without_descriptors_a_listener_waits_and_loses_nobody),
        cmocka_unit_test(forks_take_nothing_from_traffic),
        cmocka_unit_test(a_process_that_was_stopped_goes_on),
        cmocka_unit_test(resets_at_any_moment_lose_no_connection),
    };

    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "stopped") == 0)
        return be_stopped();
    return cmocka_run_group_tests_name("io_hostile", tests, NULL, NULL);
}
