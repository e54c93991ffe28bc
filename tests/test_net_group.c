/* test_net_group.c - listeners with one socket a worker. */
#include "io_scenario.h"

#include "io/group.h"


static _Atomic(int) calloc_fails; /* this many from now */

void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);

void *__wrap_calloc(size_t n, size_t bytes)
{
    return calloc_fails > 0 && --calloc_fails == 0 ? NULL : __real_calloc(n, bytes);
}

static _Atomic(int) errands_fail; /* -errno; 0: they do not */

int __real_sl_errand(struct sley_runtime *rt, struct sl_worker *where, sley_fn *fn, void *arg);
int __wrap_sl_errand(struct sley_runtime *rt, struct sl_worker *where, sley_fn *fn, void *arg);

int __wrap_sl_errand(struct sley_runtime *rt, struct sl_worker *where, sley_fn *fn, void *arg)
{
    return errands_fail != 0 ? errands_fail : __real_sl_errand(rt, where, fn, arg);
}

static _Atomic(int) threads_left = INT_MAX; /* so many may still be started */
static struct actor *late_failure;          /* the thread that may not is refused only once this one waits */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
    if (--threads_left >= 0)
        return __real_pthread_create(thread, attr, fn, arg);
    call_waits(late_failure);
    return EAGAIN;
}

static int listen_in_group(void)
{
    int fd = sley_net_listen("127.0.0.1:0", &(sley_listen_options){ .per_worker = 1 });

    EXPECT(fd >= 0);
    return fd;
}

/* Of a listener that is open: NULL: it has one socket only. */
static struct sl_group *group_of(int listener)
{
    return sl_group_of(sl_record_find(listener));
}

/* --- listening ------------------------------------------------------------------------------------------------------------------ */

SCENARIO(there_is_one_socket_for_each_worker_at_one_address)
{
    int before = count_descriptors(), listener = listen_in_group();
    struct sl_group *g = group_of(listener);
    unsigned workers = scene.cast == THREADS ? 0 : sl_self()->rt->worker_count; /* a plain thread has none */

    EXPECT((g != NULL ? g->count : 0) == workers);
    for (unsigned i = 0; i < workers; i++) {
        struct sockaddr_in a = local_address(g->sockets[i].fd), first = local_address(listener);
        int on = 0, fd = g->sockets[i].fd;
        socklen_t bytes = sizeof on;

        EXPECT(memcmp(&a, &first, sizeof a) == 0 && fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
        EXPECT(getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, &bytes) == 0 && on == 1);
    }
    EXPECT(sley_close(listener) == 0 && sley_close(listener) == -EBADF && count_descriptors() == before);
}

SCENARIO(every_kind_of_address_will_do)
{
    const char *good[] = { "127.0.0.1:0", "[::1]:0", "*:0", "[::]:0", "0.0.0.0:0" };
    sley_listen_options o = { .per_worker = 1, .backlog = 7 };
    int before = count_descriptors();

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int fd = sley_net_listen(good[i], &o);

        if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT)
            continue; /* a machine without v6 */
        EXPECT(fd >= 0 && sley_close(fd) == 0);
    }
    EXPECT(count_descriptors() == before);
}

SCENARIO(a_unix_socket_stays_one)
{
    char text[64];
    int fd, client;
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    snprintf(text, sizeof text, "unix:@sley-test-group-%d", getpid());
    strcpy(a.sun_path + 1, text + 6);
    fd = sley_net_listen(text, &(sley_listen_options){ .per_worker = 1 });
    EXPECT(fd >= 0 && group_of(fd) == NULL);
    client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT(connect(client, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(text) - 5)) == 0);
    EXPECT(sley_fd_wait(fd, POLLIN, SLEY_FOREVER) == POLLIN);
    int server = sley_accept(fd, NULL, NULL, SLEY_FOREVER);
    EXPECT(server >= 0 && sley_close(server) == 0 && sley_close(client) == 0 && sley_close(fd) == 0);
}

SCENARIO(an_address_is_shared_only_by_those_who_say_so)
{
    char text[64];
    sley_listen_options o = { .per_worker = 1 };
    int alone = sley_net_listen("127.0.0.1:0", NULL), shared;

    snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(local_address(alone).sin_port));
    EXPECT(sley_net_listen(text, &o) == -EADDRINUSE && sley_close(alone) == 0);
    shared = sley_net_listen(text, &o);
    EXPECT(shared >= 0 && sley_net_listen(text, NULL) == -EADDRINUSE && sley_close(shared) == 0);
}

SCENARIO(without_memory_or_descriptors_nothing_is_left_open)
{
    sley_listen_options o = { .per_worker = 1 };
    int before = count_descriptors(), rc;
    struct rlimit limit, tight;

    if (scene.cast == THREADS)
        return; /* one socket */
    for (int nth = 1;; nth++) {
        calloc_fails = nth;
        rc = sley_net_listen("127.0.0.1:0", &o);
        if (calloc_fails > 0) /* it was not asked so often */
            break;
        EXPECT(rc == -ENOMEM && count_descriptors() == before);
    }
    calloc_fails = 0;
    EXPECT(rc >= 0 && sley_close(rc) == 0);
    rc = dup(0);
    EXPECT(rc >= 0 && close(rc) == 0);
    EXPECT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    tight = limit;
    tight.rlim_cur = (rlim_t)rc + sl_self()->rt->worker_count / 2; /* not enough for all */
    EXPECT(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    rc = sley_net_listen("127.0.0.1:0", &o);
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EXPECT(rc == -EMFILE && count_descriptors() == before);
}

/* --- accepting ------------------------------------------------------------------------------------------------------------------ */

SCENARIO(accept_waits_for_a_connection)
{
    int listener = listen_in_group(), client, server;
    struct io_call c = { .call = call_accept, .fd = listener };
    struct sockaddr_in from = { 0 };
    socklen_t from_bytes = sizeof from;

    EXPECT(sley_accept(listener, NULL, NULL, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_accept(listener, NULL, NULL, sley_after(SLEY_MS)) == -ETIMEDOUT);
    io_call_start(&c);
    client = connect_to(listener);
    server = io_call_result(&c);
    EXPECT(server >= 0 && fcntl(server, F_GETFL) & O_NONBLOCK && fcntl(server, F_GETFD) & FD_CLOEXEC);
    EXPECT(sley_close(client) == 0 && sley_close(server) == 0);

    client = connect_to(listener);
    server = sley_accept(listener, (struct sockaddr *)&from, &from_bytes, SLEY_FOREVER);
    EXPECT(server >= 0 && from_bytes == sizeof from && from.sin_port == local_address(client).sin_port);
    EXPECT(sley_close(client) == 0 && sley_close(server) == 0);
    EXPECT(sley_close(listener) == 0 && sley_accept(listener, NULL, NULL, SLEY_NOW) == -EBADF);
}

SCENARIO(whatever_socket_it_comes_to_one_caller_gets_it)
{
    int listener = listen_in_group();

    for (int i = 0; i < 100; i++) {
        int client = connect_to(listener), server = sley_accept(listener, NULL, NULL, i % 2 ? SLEY_FOREVER : SLEY_NOW);

        EXPECT(server >= 0 && sley_close(server) == 0 && sley_close(client) == 0);
    }
    EXPECT(sley_close(listener) == 0);
}

SCENARIO(connections_are_spread_over_the_workers_sockets)
{
    enum { CLIENTS = 400 };
    int listener = listen_in_group();
    struct sl_group *g = group_of(listener);
    uint64_t sum = 0;

    for (int i = 0; i < CLIENTS; i++) {
        int client = connect_to(listener), server = sley_accept(listener, NULL, NULL, SLEY_FOREVER);

        EXPECT(server >= 0 && sley_close(server) == 0 && sley_close(client) == 0);
    }
    if (g != NULL) {
        unsigned fair = CLIENTS / g->count;

        for (unsigned i = 0; i < g->count; i++) {
            uint64_t n = sl_load_relaxed(&g->sockets[i].accepted);

            sum += n;
            EXPECT(n > 0 && n * 2 + 20 > fair && n < 2 * fair + 20); /* the kernel's hash: six deviations and more */
        }
        EXPECT(sum == CLIENTS);
    }
    EXPECT(sley_close(listener) == 0);
}

SCENARIO(a_caller_that_always_finds_something_takes_from_every_socket)
{
    enum { CLIENTS = 300 };
    static int clients[CLIENTS];
    int listener = listen_in_group();
    struct sockaddr_in a = local_address(listener);
    struct sl_group *g = group_of(listener);

    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        EXPECT(connect(clients[i], (struct sockaddr *)&a, sizeof a) == 0);
    }
    for (int i = 0; i < CLIENTS / 2; i++) {
        int server = sley_accept(listener, NULL, NULL, SLEY_FOREVER);

        EXPECT(server >= 0 && sley_close(server) == 0);
    }
    for (unsigned i = 0; g != NULL && i < g->count; i++)
        EXPECT(sl_load_relaxed(&g->sockets[i].accepted) > 0);
    for (int i = 0; i < CLIENTS; i++)
        EXPECT(sley_close(clients[i]) == 0);
    EXPECT(sley_close(listener) == 0);
}

/* One poll tells of several connections: who takes the first wakes the next caller (G3). */
SCENARIO(connections_that_come_at_once_go_to_as_many_callers)
{
    enum { CALLS = 16 };
    static struct io_call c[CALLS];
    int listener = listen_in_group(), clients[CALLS];
    struct sockaddr_in a = local_address(listener);

    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < CALLS; i++) {
            c[i] = (struct io_call){ .call = call_accept, .fd = listener };
            io_call_start(&c[i]);
        }
        for (int i = 0; i < CALLS; i++) { /* without giving way */
            clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            EXPECT(connect(clients[i], (struct sockaddr *)&a, sizeof a) == 0);
        }
        for (int i = 0; i < CALLS; i++) {
            int fd = io_call_result(&c[i]);

            EXPECT(fd >= 0 && sley_close(fd) == 0);
        }
        for (int i = 0; i < CALLS; i++)
            EXPECT(sley_close(clients[i]) == 0);
    }
    EXPECT(sley_close(listener) == 0);
}

SCENARIO(close_ends_every_accept)
{
    enum { CALLS = 8 };
    static struct io_call c[CALLS];
    int before = count_descriptors(), listener = listen_in_group(), client;

    for (int i = 0; i < CALLS; i++) {
        c[i] = (struct io_call){ .call = call_accept, .fd = listener };
        io_call_start(&c[i]);
    }
    EXPECT(sley_close(listener) == 0);
    for (int i = 0; i < CALLS; i++)
        EXPECT(io_call_result(&c[i]) == -EBADF);
    listener = listen_in_group();
    client = connect_to(listener); /* nobody has asked for it */
    EXPECT(sley_close(listener) == 0 && sley_close(client) == 0 && count_descriptors() == before);
}

/* close(2) behind the library's back while sley_close waits: the number is another listener's, which is not to be closed. */
SCENARIO(a_close_that_finds_another_listener_leaves_it_alone)
{
    int first = listen_in_group(), again, client, server, count, *others;
    struct sl_group *g = group_of(first);
    struct io_call c = { .call = call_close, .fd = first };
    struct sl_call in;

    count = g != NULL ? (int)g->count - 1 : 0;
    others = malloc(((size_t)count + 1) * sizeof *others);
    for (int i = 0; i < count; i++)
        others[i] = g->sockets[i + 1].fd;
    EXPECT(sl_call_begin(&in, first, SLEY_FOREVER) == 0);
    io_call_start(&c);
    EXPECT(close(first) == 0);
    again = listen_in_group();
    EXPECT(again == first && io_call_result(&c) == -EBADF && (group_of(again) != NULL) == (g != NULL));
    sl_call_end(&in);
    client = connect_to(again);
    server = sley_accept(again, NULL, NULL, SLEY_FOREVER);
    EXPECT(server >= 0 && sley_close(server) == 0 && sley_close(client) == 0 && sley_close(again) == 0);
    for (int i = 0; i < count; i++) { /* nobody else knows them */
        sl_record_find(others[i])->group = 0;
        EXPECT(sley_close(others[i]) == 0);
    }
    free(others);
}

SCENARIO(a_forked_child_has_one_of_its_sockets)
{
    int listener = listen_in_group(), status = -1;
    struct sl_group *g = group_of(listener);
    unsigned count = g != NULL ? g->count : 0;
    pid_t pid = -1;

    if (g != NULL) {
        int *fds = malloc(count * sizeof *fds);

        for (unsigned i = 0; i < count; i++)
            fds[i] = g->sockets[i].fd;
        pid = fork();
        if (pid == 0) {
            for (unsigned i = 0; i < count; i++)
                if ((fcntl(fds[i], F_GETFD) >= 0) != (i == 0))
                    _exit(1);
            _exit(sl_record_find(listener)->group == 0 ? 0 : 2);
        }
        free(fds);
        EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    }
    for (int i = 0; i < 20; i++) { /* the parent's are what they were */
        int client = connect_to(listener), server = sley_accept(listener, NULL, NULL, SLEY_FOREVER);

        EXPECT(server >= 0 && sley_close(server) == 0 && sley_close(client) == 0);
    }
    EXPECT(sley_close(listener) == 0);
}

SCENARIO(its_readiness_cannot_be_waited_for)
{
    int listener = listen_in_group(), expected = group_of(listener) != NULL ? -EOPNOTSUPP : -ETIMEDOUT;
    sley_case arm = sley_case_fd(listener, POLLIN);

    EXPECT(sley_fd_wait(listener, POLLIN, SLEY_NOW) == expected);
    EXPECT(sley_fd_wait(listener, POLLIN, sley_after(SLEY_MS)) == expected);
    if (expected == -EOPNOTSUPP)
        EXPECT(sley_select(&arm, 1, SLEY_FOREVER) == 0 && arm.result == -EOPNOTSUPP);
    EXPECT(sley_close(listener) == 0);
}

SCENARIO(a_listener_made_blocking_holds_no_worker)
{
    int listener = listen_in_group();

    EXPECT(fcntl(listener, F_SETFL, 0) == 0);
    EXPECT(sley_accept(listener, NULL, NULL, SLEY_NOW) == -ETIMEDOUT);
    EXPECT(sley_accept(listener, NULL, NULL, sley_after(SLEY_MS)) == -ETIMEDOUT);
    for (int i = 0; i < 20; i++) {
        int client, server;

        EXPECT(fcntl(listener, F_SETFL, 0) == 0);
        client = connect_to(listener);
        server = sley_accept(listener, NULL, NULL, SLEY_FOREVER);
        EXPECT(server >= 0 && sley_close(server) == 0 && sley_close(client) == 0);
    }
    EXPECT(sley_close(listener) == 0);
}

SCENARIO(out_of_descriptors_it_waits_for_one)
{
    accepts_once_there_is_a_descriptor(listen_in_group());
}

SCENARIO(without_memory_to_watch_a_socket_it_looks_again)
{
    const int errors[] = { -ENOMEM, -EAGAIN };

    if (scene.cast == THREADS)
        return; /* one socket, which nobody watches */
    for (int i = 0; i < 2; i++) {
        int listener = listen_in_group(), client, server;
        struct io_call c = { .call = call_accept, .fd = listener };

        errands_fail = errors[i];
        EXPECT(sley_accept(listener, NULL, NULL, SLEY_NOW) == -ETIMEDOUT);
        EXPECT(sley_accept(listener, NULL, NULL, sley_after(SLEY_MS)) == -ETIMEDOUT);
        io_call_start(&c);
        client = connect_to(listener);
        server = io_call_result(&c);
        errands_fail = 0;
        EXPECT(server >= 0 && sley_close(server) == 0 && sley_close(client) == 0 && sley_close(listener) == 0);
    }
}

/* Else it would arm one that fails like it, and so on. */
SCENARIO(a_poll_that_fails_is_an_error_of_who_waits)
{
    int listener = listen_in_group(), client, server;
    struct io_call c = { .call = call_accept, .fd = listener };
    struct sl_group *g = group_of(listener);

    if (g != NULL) { /* else nobody polls */
        io_call_start(&c);
        sl_group_poll_done(sl_record_find(listener)->group, g->sockets[g->count - 1].fd, -ENOSPC);
        EXPECT(io_call_result(&c) == -ENOSPC);
    }
    io_call_start(&c);
    client = connect_to(listener);
    server = io_call_result(&c);
    EXPECT(server >= 0 && sley_close(server) == 0 && sley_close(client) == 0 && sley_close(listener) == 0);
}

/* --- no connection is lost ------------------------------------------------------------------------------------------------------ */

static struct {
    int listener, clients;
    _Atomic(int) accepted, gone;
    _Atomic(uint64_t) seed;
} many;

/* Accept with deadlines so short that they race with connections, and in scopes that are cancelled. */
static int accept_hastily(void *arg)
{
    uint64_t random = sl_add_relaxed(&many.seed, 1);
    int fd;

    while (many.accepted < many.clients) {
        sley_time soon = sley_after((int64_t)below(&random, 100) * SLEY_US);

        if (sley_self() != 0 && below(&random, 3) == 0) {
            sley_scope scope;

            sley_scope_init(&scope, soon);
            fd = sley_accept(many.listener, NULL, NULL, SLEY_FOREVER);
            (void)sley_scope_wait(&scope, 0, SLEY_FOREVER);
        } else {
            fd = sley_accept(many.listener, NULL, NULL, soon);
        }
        EXPECT(fd >= 0 || fd == -ETIMEDOUT || fd == -ECANCELED);
        if (fd >= 0) {
            many.accepted++;
            EXPECT(sley_close(fd) == 0);
        }
    }
    many.gone++;
    return 0;
}

SCENARIO(an_accept_that_ends_early_leaves_the_connection_to_another)
{
    enum { CALLS = 6 };
    static struct actor a[CALLS];
    int before = count_descriptors();

    many.listener = listen_in_group();
    many.clients = 300;
    many.accepted = 0;
    many.seed = test_seed();
    for (int i = 0; i < CALLS; i++)
        actor_start(&a[i], accept_hastily, NULL);
    for (int i = 0; i < many.clients; i++) {
        int client = connect_to(many.listener);

        EXPECT(sley_close(client) == 0);
    }
    for (int i = 0; i < CALLS; i++)
        actor_result(&a[i]);
    EXPECT(many.accepted == many.clients && sley_close(many.listener) == 0 && count_descriptors() == before);
}

/* Patient ones beside one that is always cancelled: a wake that the cancelled one got must be passed on. */
static int accept_patiently(void *arg)
{
    int fd;

    while ((fd = sley_accept(many.listener, NULL, NULL, SLEY_FOREVER)) >= 0) {
        many.accepted++;
        if (sley_close(fd) != 0)
            return -1;
    }
    return fd;
}

SCENARIO(patient_callers_get_all_that_hasty_ones_leave)
{
    enum { CALLS = 3, CLIENTS = 200 };
    static struct actor patient[CALLS], hasty;

    many.listener = listen_in_group();
    many.clients = CLIENTS;
    many.accepted = 0;
    many.seed = test_seed();
    for (int i = 0; i < CALLS; i++)
        actor_start(&patient[i], accept_patiently, NULL);
    actor_start(&hasty, accept_hastily, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        int client = connect_to(many.listener);

        while (many.accepted <= i) /* hangs if it is lost */
            give_way();
        EXPECT(sley_close(client) == 0);
    }
    actor_result(&hasty);
    EXPECT(sley_close(many.listener) == 0);
    for (int i = 0; i < CALLS; i++)
        EXPECT(actor_result(&patient[i]) == -EBADF);
}

SCENARIO(closing_races_with_accepting_and_connecting)
{
    enum { ROUNDS = 60, CALLS = 3 };
    static struct actor a[CALLS];
    int before = count_descriptors();
    uint64_t random = test_seed();

    for (int round = 0; round < ROUNDS; round++) {
        int clients[4], n = (int)below(&random, 4);

        many.listener = listen_in_group();
        many.accepted = 0;
        for (int i = 0; i < CALLS; i++)
            actor_start(&a[i], accept_patiently, NULL);
        for (int i = 0; i < n; i++)
            clients[i] = connect_to(many.listener);
        if (below(&random, 2))
            give_way();
        EXPECT(sley_close(many.listener) == 0);
        for (int i = 0; i < CALLS; i++)
            EXPECT(actor_result(&a[i]) == -EBADF);
        for (int i = 0; i < n; i++)
            EXPECT(sley_close(clients[i]) == 0);
    }
    EXPECT(count_descriptors() == before);
}

/* --- the end of its runtime ----------------------------------------------------------------------------------------------------- */

static int listen_in_runtime(void *arg)
{
    *(_Atomic(int) *)arg = sley_net_listen("127.0.0.1:0", &(sley_listen_options){ .per_worker = 1 });
    return 0;
}

static void the_end_of_its_runtime_ends_it(void **state)
{
    struct io_call c = { .call = call_accept, .deadline = SLEY_FOREVER };
    int before = count_descriptors(), client;
    _Atomic(int) listener = -1;
    sley_runtime *rt;
    struct actor a;

    scene.cast = THREADS;
    scene.unmet = NULL;
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_submit(rt, listen_in_runtime, &listener), 0);
    while (listener < 0)
        sched_yield();
    c.fd = listener;
    actor_start(&a, io_call_main, &c); /* from outside the runtime: its workers watch for it */
    assert_true(call_waits(&a));
    client = connect_to(c.fd);
    c.flags = actor_result(&a);
    assert_true(c.flags >= 0);
    assert_int_equal(sley_close(c.flags), 0);
    assert_int_equal(sley_close(client), 0);
    actor_start(&a, io_call_main, &c);
    assert_true(call_waits(&a));
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    assert_int_equal(actor_result(&a), -ECANCELED);
    assert_int_equal(sley_accept(c.fd, NULL, NULL, sley_after(SLEY_S)), -ECANCELED);
    assert_int_equal(sley_accept(c.fd, NULL, NULL, SLEY_NOW), -ECANCELED);
    sley_runtime_destroy(rt);
    assert_int_equal(sley_accept(c.fd, NULL, NULL, SLEY_FOREVER), -ECANCELED);
    assert_int_equal(sley_accept(c.fd, NULL, NULL, SLEY_NOW), -ECANCELED);
    client = connect_to(c.fd);
    c.flags = sley_accept(c.fd, NULL, NULL, SLEY_FOREVER);
    assert_true(c.flags >= 0);
    assert_int_equal(sley_close(c.flags), 0);
    assert_int_equal(sley_close(client), 0);
    assert_int_equal(sley_close(c.fd), 0);
    assert_int_equal(count_descriptors(), before);
    assert_null(scene.unmet);
}

/* The number of a listener's socket may have been polled for another runtime before, and the poll's end be still to come. */
static void a_poll_of_before_may_go_with_its_runtime(void **state)
{
    sley_options one = { .workers = 1 };
    struct io_call c = { .call = call_accept, .deadline = SLEY_FOREVER };
    _Atomic(int) listener = -1;
    sley_runtime *rt, *other;
    struct sl_record *r;
    struct actor a = { .fn = io_call_main, .arg = &c };
    int client;

    scene.cast = THREADS;
    scene.unmet = NULL;
    assert_int_equal(sley_runtime_create(&rt, &one), 0);
    assert_int_equal(sley_runtime_create(&other, &one), 0);
    assert_int_equal(sley_runtime_start(rt), 0);
    assert_int_equal(sley_runtime_start(other), 0);
    assert_int_equal(sley_runtime_submit(rt, listen_in_runtime, &listener), 0);
    while (listener < 0)
        sched_yield();
    c.fd = listener;
    r = sl_record_find(listener);
    sl_lock_acquire(&r->lock);
    r->poll_worker = other->workers[0]; /* as sl_record_adopt leaves it */
    sl_lock_release(&r->lock);
    assert_int_equal(sley_runtime_submit(rt, actor_main, &a), 0);
    assert_true(call_waits(&a));
    assert_int_equal(sley_runtime_stop(other, SLEY_FOREVER), 0);
    client = connect_to(listener);
    c.flags = actor_result(&a);
    assert_true(c.flags >= 0);
    assert_int_equal(sley_close(c.flags), 0);
    assert_int_equal(sley_close(client), 0);
    assert_int_equal(sley_close(listener), 0);
    sley_runtime_destroy(other);
    assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
    sley_runtime_destroy(rt);
    assert_null(scene.unmet);
}

/* Until it fails otherwise than by its deadline. */
static int accept_in_every_way(void *arg)
{
    uint64_t random = sl_add_relaxed(&many.seed, 1);

    for (;;) {
        uint32_t how = below(&random, 3);
        int fd = sley_accept(many.listener, NULL, NULL, how == 0 ? SLEY_NOW : how == 1 ? sley_after(below(&random, 50000)) : SLEY_FOREVER);

        if (fd >= 0)
            EXPECT(sley_close(fd) == 0);
        else if (fd != -ETIMEDOUT)
            return fd;
    }
}

static void its_runtime_may_end_at_any_moment(void **state)
{
    enum { ROUNDS = 15, CALLS = 4 };
    static struct actor a[CALLS];
    int before = count_descriptors();
    sley_runtime *others;

    scene.cast = THREADS;
    scene.unmet = NULL;
    many.seed = test_seed();
    assert_int_equal(sley_runtime_create(&others, NULL), 0);
    assert_int_equal(sley_runtime_start(others), 0);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t random = sl_add_relaxed(&many.seed, 1);
        _Atomic(int) listener = -1;
        int clients[8], n = (int)below(&random, 9);
        sley_runtime *rt;

        assert_int_equal(sley_runtime_create(&rt, NULL), 0);
        assert_int_equal(sley_runtime_start(rt), 0);
        assert_int_equal(sley_runtime_submit(rt, listen_in_runtime, &listener), 0);
        while (listener < 0)
            sched_yield();
        many.listener = listener;
        for (int i = 0; i < CALLS; i++) {
            if (i % 2 == 0) {
                actor_start(&a[i], accept_in_every_way, NULL);
                continue;
            }
            a[i] = (struct actor){ .fn = accept_in_every_way };
            assert_int_equal(sley_runtime_submit(others, actor_main, &a[i]), 0);
        }
        for (int i = 0; i < n; i++)
            clients[i] = connect_to(listener);
        assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
        sley_runtime_destroy(rt);
        for (int i = 0; i < CALLS; i++)
            assert_int_equal(actor_result(&a[i]), -ECANCELED);
        for (int i = 0; i < n; i++)
            assert_int_equal(sley_close(clients[i]), 0);
        assert_int_equal(sley_close(listener), 0);
    }
    assert_int_equal(sley_runtime_stop(others, SLEY_FOREVER), 0);
    sley_runtime_destroy(others);
    assert_int_equal(count_descriptors(), before);
    assert_null(scene.unmet);
}

static int accept_in_runtime(void *arg)
{
    int listener = sley_net_listen("127.0.0.1:0", &(sley_listen_options){ .per_worker = 1 });
    int rc = sley_accept(listener, NULL, NULL, SLEY_FOREVER);

    return sley_close(listener) == 0 ? rc : -1;
}

static void stopping_the_runtime_ends_an_accept(void **state)
{
    assert_int_equal(result_of_stopped(0, accept_in_runtime, NULL), -ECANCELED);
    assert_int_equal(result_of_stopped(1, accept_in_runtime, NULL), -ECANCELED);
}

/* A thread attached to a runtime may listen before that runs, and after it has stopped. */
static void a_runtime_that_does_not_run_watches_nothing(void **state)
{
    for (int has_run = 0; has_run < 2; has_run++) {
        sley_runtime *rt;
        int listener;

        assert_int_equal(sley_runtime_create(&rt, NULL), 0);
        if (has_run) {
            assert_int_equal(sley_runtime_start(rt), 0);
            assert_int_equal(sley_runtime_stop(rt, SLEY_FOREVER), 0);
        }
        assert_int_equal(sley_runtime_attach(rt), 0);
        listener = sley_net_listen("127.0.0.1:0", &(sley_listen_options){ .per_worker = 1 });
        sley_runtime_detach();
        assert_true(listener >= 0);
        for (unsigned i = 0; has_run && i < rt->worker_count + 1; i++)
            assert_int_equal(sley_accept(listener, NULL, NULL, SLEY_FOREVER), -ECANCELED);
        sley_runtime_destroy(rt);
        assert_int_equal(sley_accept(listener, NULL, NULL, SLEY_FOREVER), -ECANCELED);
        assert_int_equal(sley_close(listener), 0);
    }
}

static void a_worker_that_could_not_be_started_is_not_asked_to_watch(void **state)
{
    static struct actor a = { .fn = accept_in_runtime };
    sley_runtime *rt;

    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    late_failure = &a;
    threads_left = (int)rt->worker_count - 1;
    assert_int_equal(sley_runtime_submit(rt, actor_main, &a), 0);
    if (threads_left > 0) {
        assert_int_equal(sley_runtime_start(rt), -EAGAIN); /* and has stopped */
        assert_int_equal(a.result, -ECANCELED);
    }
    threads_left = INT_MAX;
    sley_runtime_destroy(rt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(there_is_one_socket_for_each_worker_at_one_address),
        PLAYED(every_kind_of_address_will_do),
        PLAYED(a_unix_socket_stays_one),
        PLAYED(an_address_is_shared_only_by_those_who_say_so),
        PLAYED(without_memory_or_descriptors_nothing_is_left_open),
        PLAYED(accept_waits_for_a_connection),
        PLAYED(whatever_socket_it_comes_to_one_caller_gets_it),
        PLAYED(connections_are_spread_over_the_workers_sockets),
        PLAYED(a_caller_that_always_finds_something_takes_from_every_socket),
        PLAYED(connections_that_come_at_once_go_to_as_many_callers),
        PLAYED(close_ends_every_accept),
        PLAYED(a_close_that_finds_another_listener_leaves_it_alone),
        PLAYED(a_forked_child_has_one_of_its_sockets),
        PLAYED(its_readiness_cannot_be_waited_for),
        PLAYED(a_listener_made_blocking_holds_no_worker),
        PLAYED(out_of_descriptors_it_waits_for_one),
        PLAYED(without_memory_to_watch_a_socket_it_looks_again),
        PLAYED(a_poll_that_fails_is_an_error_of_who_waits),
        PLAYED(an_accept_that_ends_early_leaves_the_connection_to_another),
        PLAYED(patient_callers_get_all_that_hasty_ones_leave),
        PLAYED(closing_races_with_accepting_and_connecting),
        cmocka_unit_test(the_end_of_its_runtime_ends_it),
        cmocka_unit_test(a_poll_of_before_may_go_with_its_runtime),
        cmocka_unit_test(its_runtime_may_end_at_any_moment),
        cmocka_unit_test(stopping_the_runtime_ends_an_accept),
        cmocka_unit_test(a_runtime_that_does_not_run_watches_nothing),
        cmocka_unit_test(a_worker_that_could_not_be_started_is_not_asked_to_watch),
    };

    return cmocka_run_group_tests_name("net_group", tests, make_temp_dir, remove_temp_dir);
}
