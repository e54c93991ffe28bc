/* loadgen_echo.c - a closed loop of 64-byte messages against an echo server on 127.0.0.1, every byte checked; one thread, epoll.
 *
 *   loadgen_echo PORT CONNECTIONS SECONDS [SERVER_PID]
 *
 * Prints a header and one tab-separated row: connections, seconds, requests, requests a second, p50, p99, p99.9 and the longest
 * latency in microseconds, and of the server (0 without its pid) the processor nanoseconds a request and the bytes a connection: what it
 * has more at the end than before the first, page tables included, the kernel's sockets not. Half a second after all connections have
 * answered once the measuring begins. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 64, EVENTS = 512, OCTAVES = 40, STEPS = 64, PATIENCE_S = 30 };

static const int64_t warm_up_ns = 500 * 1000 * 1000;

struct connection {
    int      fd;
    uint32_t number, got_bytes;
    uint64_t count;
    int64_t  sent_ns;
    uint64_t message[MESSAGE_BYTES / sizeof(uint64_t)];
    char     answer[MESSAGE_BYTES];
};

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* --- latencies: STEPS equal steps an octave, 1.6 % apart ---------------------------------------------------------------------------- */

static uint64_t histogram[OCTAVES * STEPS];

static size_t slot_of(uint64_t ns)
{
    unsigned shift = 0;

    while (ns >> shift >= 2 * STEPS)
        shift++;
    return shift == 0 ? ns : (shift + 1) * STEPS + (ns >> shift) - STEPS;
}

static uint64_t slot_end_ns(size_t slot)
{
    size_t shift = slot < 2 * STEPS ? 0 : slot / STEPS - 1;

    return (slot - shift * STEPS + 1) << shift;
}

static double latency_us(double part, uint64_t all)
{
    uint64_t seen = 0;

    for (size_t i = 0; i < OCTAVES * STEPS; i++)
        if ((seen += histogram[i]) > 0 && (double)seen >= part * (double)all)
            return (double)slot_end_ns(i) / 1000;
    return 0;
}

/* --- the server's processor time: the sum over its threads ------------------------------------------------------------------------- */

static uint64_t cpu_of_ns(const char *pid)
{
    char path[sizeof "/proc//task//schedstat" + 2 * 256];
    uint64_t sum = 0;
    struct dirent *entry;
    DIR *tasks;

    snprintf(path, sizeof path, "/proc/%.20s/task", pid);
    if ((tasks = opendir(path)) == NULL)
        die(path);
    while ((entry = readdir(tasks)) != NULL) {
        char line[64];
        FILE *f;

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/task/%s/schedstat", pid, entry->d_name);
        if ((f = fopen(path, "re")) == NULL)
            continue; /* a thread that has ended */
        if (fgets(line, sizeof line, f) != NULL)
            sum += strtoull(line, NULL, 10);
        fclose(f);
    }
    closedir(tasks);
    return sum;
}

/* --- the server's memory ------------------------------------------------------------------------------------------------------------ */

/* The number in the line of /proc/PID/file that begins with name, in kilobytes. */
static uint64_t kilobytes(const char *pid, const char *file, const char *name)
{
    char path[64], line[256];
    uint64_t n = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%.20s/%s", pid, file);
    if ((f = fopen(path, "re")) == NULL)
        die(path);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            n = strtoull(line + strlen(name), NULL, 10);
    fclose(f);
    return n;
}

static int64_t memory_of(const char *pid)
{
    return (int64_t)(kilobytes(pid, "smaps_rollup", "Pss:") + kilobytes(pid, "status", "VmPTE:")) * 1024;
}

/* --- connections --------------------------------------------------------------------------------------------------------------------- */

static void ask(struct connection *c, int64_t now)
{
    for (size_t i = 0; i < sizeof c->message / sizeof c->message[0]; i++)
        c->message[i] = (uint64_t)c->number << 40 ^ c->count << 4 ^ i;
    c->got_bytes = 0;
    c->sent_ns = now;
    if (send(c->fd, c->message, MESSAGE_BYTES, MSG_NOSIGNAL) != MESSAGE_BYTES)
        die("send");
}

/* 1: the whole answer is there */
static int listen_to(struct connection *c)
{
    ssize_t n = recv(c->fd, c->answer + c->got_bytes, MESSAGE_BYTES - c->got_bytes, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        die("recv: the server hung up");
    c->got_bytes += (uint32_t)n;
    if (c->got_bytes < MESSAGE_BYTES)
        return 0;
    if (memcmp(c->answer, c->message, MESSAGE_BYTES) != 0) {
        fprintf(stderr, "connection %u, message %llu: another answer than the question\n", c->number, (unsigned long long)c->count);
        exit(1);
    }
    c->count++;
    return 1;
}

static void dial(struct connection *c, uint16_t port, int epoll_fd)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct linger at_once = { .l_onoff = 1, .l_linger = 0 }; /* leaves no port behind in TIME_WAIT */
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) < 0)
        die("epoll_ctl");
}

int main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS];
    uint32_t connection_count, answered_once = 0;
    struct connection *connections;
    int64_t now, begin = INT64_MAX, end = INT64_MAX, length_ns;
    uint64_t requests = 0, cpu_before = 0;
    const char *pid = argc > 4 ? argv[4] : NULL;
    int64_t memory_before = pid != NULL ? memory_of(pid) : 0;
    double seconds;
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC), measuring = 0;

    if (argc < 4) {
        fprintf(stderr, "usage: %s PORT CONNECTIONS SECONDS [SERVER_PID]\n", argv[0]);
        return 2;
    }
    connection_count = (uint32_t)strtoul(argv[2], NULL, 10);
    length_ns = (int64_t)(strtod(argv[3], NULL) * 1e9);
    connections = calloc(connection_count, sizeof *connections);
    if (connections == NULL || epoll_fd < 0)
        die("start");
    for (uint32_t i = 0; i < connection_count; i++) {
        connections[i].number = i;
        dial(&connections[i], (uint16_t)strtoul(argv[1], NULL, 10), epoll_fd);
    }
    now = now_ns();
    for (uint32_t i = 0; i < connection_count; i++)
        ask(&connections[i], now);
    while (now < end) {
        int n = epoll_wait(epoll_fd, events, EVENTS, PATIENCE_S * 1000);

        if (n == 0) {
            fprintf(stderr, "no answer for %d seconds\n", PATIENCE_S);
            return 1;
        }
        if (n < 0)
            die("epoll_wait");
        now = now_ns();
        if (!measuring && now >= begin) {
            cpu_before = pid != NULL ? cpu_of_ns(pid) : 0;
            measuring = 1;
            begin = now = now_ns();
            end = begin + length_ns;
        }
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;

            if (!listen_to(c))
                continue;
            now = now_ns();
            if (c->count == 1 && ++answered_once == connection_count)
                begin = now + warm_up_ns;
            if (measuring) {
                histogram[slot_of((uint64_t)(now - c->sent_ns))]++;
                requests++;
            }
            ask(c, now);
        }
    }
    seconds = (double)(now - begin) / 1e9;
    puts("connections\tseconds\trequests\treq_s\tp50_us\tp99_us\tp99.9_us\tmax_us\tserver_cpu_ns\tserver_bytes");
    printf("%u\t%.3f\t%llu\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.0f\t%.0f\n", connection_count, seconds, (unsigned long long)requests,
           (double)requests / seconds, latency_us(0.5, requests), latency_us(0.99, requests), latency_us(0.999, requests),
           latency_us(1, requests), pid != NULL ? (double)(cpu_of_ns(pid) - cpu_before) / (double)requests : 0,
           pid != NULL ? (double)(memory_of(pid) - memory_before) / connection_count : 0);
    return 0;
}
