/* doctor.c - what of this machine the library uses, what it misses, what that is good for and what to change: `./dev doctor`.
 *
 * It starts a runtime as a program would, makes the calls that find out what is only found by use, then looks at the limits that matter.
 * What it says of the kernel's features is the library's own table (plat/feature.h). Exit status 0: the library can run here. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <sley.h>

#include "plat/cpu.h"
#include "plat/feature.h"
#include "plat/quota.h"
#include "plat/vm.h"

#define LINE  120 /* columns, where words decide */
#define NAMES 18  /* of the first column */

/* ---- text in columns ---- */

/* `name`, then text, broken between words; lines after the first begin under the text. */
static void row(const char *name, const char *text)
{
    int at = printf("%-*s", NAMES, name);

    while (*text != '\0') {
        size_t n = strcspn(text, " ");

        if (at + 1 + (int)n > LINE && at > NAMES)
            at = printf("\n%-*s", NAMES, "") - 1;
        at += printf(" %.*s", (int)n, text);
        text += n + (text[n] == ' ');
    }
    putchar('\n');
}

static void row_format(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void row_format(const char *name, const char *format, ...)
{
    char text[512];
    va_list list;

    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    row(name, text);
}

/* ---- finding out ---- */

static int receive(void *arg)
{
    char byte;
    int n = sley_recv(*(int *)arg, &byte, 1, 0, SLEY_FOREVER); /* nothing is there, so it waits */

    return n < 0 ? n : 0;
}

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

/* Receive, which is ready only later; sleep, so that a doorbell is armed, and rung by the thread of the pool; open a folder and read a
 * file; register memory. What fails here is told by what was noted. */
static int try_all(void *arg)
{
    char folder[] = "/tmp/sley-doctor-XXXXXX", file[sizeof folder + 8], byte = 'x';
    int pair[2], fd, rc;

    (void)arg;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0) {
        rc = sley_go(receive, &pair[0]);
        if (rc >= 0)
            rc = sley_sleep(SLEY_MS);
        if (sley_send_all(pair[1], &byte, 1, 0, SLEY_FOREVER) < 0 || rc < 0)
            return rc;
        rc = sley_sleep(SLEY_MS);
        sley_close(pair[1]);
        if (rc < 0)
            return rc;
    }
    rc = sley_blocking(nothing, NULL, SLEY_FOREVER);
    if (rc < 0)
        return rc;
    sley_iobuf_free(sley_iobuf_alloc(1));
    fd = sley_open("/", O_PATH, 0, SLEY_FOREVER);
    if (fd >= 0)
        sley_close(fd);
    if (mkdtemp(folder) == NULL)
        return 0;
    snprintf(file, sizeof file, "%s/file", folder);
    fd = sley_open(file, O_RDWR | O_CREAT, 0600, SLEY_FOREVER);
    if (fd >= 0) {
        rc = sley_pwrite(fd, &byte, 1, 0, SLEY_FOREVER);
        rc = rc == 1 ? sley_pread(fd, &byte, 1, 0, SLEY_FOREVER) : rc;
        sley_close(fd);
        unlink(file);
    }
    rmdir(folder);
    return rc < 0 ? rc : 0;
}

/* 0: it runs; `backend` is the text of its runtime. */
static int try_runtime(const sley_options *options, char *backend, size_t bytes)
{
    sley_runtime *rt;
    int rc = sley_runtime_create(&rt, options);

    if (rc < 0)
        return rc;
    snprintf(backend, bytes, "%s", sley_runtime_backend(rt));
    rc = sley_runtime_start(rt);
    if (rc == 0)
        rc = sley_runtime_submit(rt, try_all, NULL);
    if (rc >= 0)
        rc = sley_runtime_stop(rt, sley_after(10 * SLEY_S));
    sley_runtime_destroy(rt);
    return rc < 0 ? rc : 0;
}

/* ---- the limits ---- */

/* The first line of a file; "" if it cannot be read. */
static const char *line_of(const char *path, char *text, int bytes)
{
    FILE *f = fopen(path, "re");

    text[0] = '\0';
    if (f != NULL) {
        if (fgets(text, bytes, f) == NULL)
            text[0] = '\0';
        fclose(f);
    }
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static void print_limit(const char *name, int resource, unsigned divisor, const char *unit, const char *what)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) < 0)
        row_format(name, "unknown (%s); %s", strerror(errno), what);
    else if (limit.rlim_cur == RLIM_INFINITY)
        row_format(name, "unlimited; %s", what);
    else
        row_format(name, "%llu%s; %s", (unsigned long long)limit.rlim_cur / divisor, unit, what);
}

static void print_uring_sysctl(void)
{
    char text[32];
    const char *value = line_of("/proc/sys/kernel/io_uring_disabled", text, sizeof text);

    if (value[0] == '\0')
        row("io_uring_disabled", "there is no such sysctl; it came with Linux 6.6");
    else if (strcmp(value, "0") == 0)
        row("io_uring_disabled", "0: everybody may use io_uring");
    else
        row_format("io_uring_disabled", "%s: %s may use io_uring; change that with sysctl kernel.io_uring_disabled=0", value,
                   strcmp(value, "1") == 0 ? "only the group kernel.io_uring_group and CAP_SYS_ADMIN" : "nobody");
}

static void print_seccomp(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[128];
    int mode = -1;

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "Seccomp: %d", &mode) == 1)
            break;
    if (f != NULL)
        fclose(f);
    row_format("seccomp", "%s", mode == 0 ? "no filter" : mode < 0 ? "unknown: /proc/self/status does not say" :
               "a filter is in place, as a container's profile is; where a feature is missing with EPERM, let the profile pass its call");
}

static void print_limits(void)
{
    unsigned quota = sl_quota_cpus("");

    print_uring_sysctl();
    print_seccomp();
    print_limit("RLIMIT_MEMLOCK", RLIMIT_MEMLOCK, 1024, " KiB", "before Linux 5.12 rings count against it (ulimit -l)");
    print_limit("RLIMIT_NOFILE", RLIMIT_NOFILE, 1, "", "descriptors: two a worker, one a connection (ulimit -n)");
    row_format("vm.max_map_count", "%llu; guards of stacks take half of it at most where guard_install is missing",
               (unsigned long long)sl_vm_maps_max());
    if (quota != 0)
        row_format("cgroup quota", "%u processors, so no more workers by default", quota);
    else
        row("cgroup quota", "none");
    row_format("workers", "%u by default", sl_cpu_count());
}

/* ---- the features ---- */

static bool is_missing(enum sl_feature f)
{
    return sl_feature_allowed(f) && sl_feature_found(f) < 0;
}

static void state_of(enum sl_feature f, char *text, size_t bytes)
{
    int found = sl_feature_found(f);

    if (!sl_feature_allowed(f))
        snprintf(text, bytes, "disabled");
    else if (found < 0)
        snprintf(text, bytes, "missing, %s", strerrorname_np(-found) != NULL ? strerrorname_np(-found) : "?");
    else
        snprintf(text, bytes, "%s", found == SL_FOUND_USED ? "used" : "not tried");
}

static void print_features(void)
{
    char state[48];

    printf("%-*s %-20s %-6s %s\n", NAMES, "feature", "state", "Linux", "good for");
    for (int f = 0; f < SL_FEATURES; f++) {
        state_of(f, state, sizeof state);
        printf("%-*s %-20s %-6s %s\n", NAMES, sl_feature_infos[f].name, state, sl_feature_infos[f].since, sl_feature_infos[f].good_for);
    }
}

static void print_changes(void)
{
    bool any = false;

    for (int f = 0; f < SL_FEATURES; f++) {
        const struct sl_feature_info *i = &sl_feature_infos[f];

        if (!is_missing(f) && sl_feature_allowed(f))
            continue;
        if (!any)
            printf("\nto change\n");
        any = true;
        if (!sl_feature_allowed(f))
            row_format(i->name, "take it out of SLEY_DISABLE. Meanwhile: %s", i->without);
        else
            row_format(i->name, "Linux %s or newer%s%s. Meanwhile: %s", i->since, i->change != NULL ? "; " : "",
                       i->change != NULL ? i->change : "", i->without);
    }
    if (!any)
        printf("\nnothing to change: no feature was found missing\n");
}

int main(void)
{
    const char *asked = getenv("SLEY_BACKEND");
    char backend[256], epoll[256];
    struct utsname u;
    int rc, rc_epoll;

    uname(&u);
    row_format("Sley", "%s", sley_version_string());
    row_format("kernel", "%s %s, %s", u.sysname, u.release, u.machine);
    rc = try_runtime(&(sley_options){ .name = "doctor" }, backend, sizeof backend);
    if (rc == -EINVAL)
        return 1; /* a variable is wrong, and the library has said which */
    rc_epoll = try_runtime(&(sley_options){ .name = "doctor", .backend = SLEY_BACKEND_EPOLL }, epoll, sizeof epoll);
    if (rc < 0)
        row_format("backend", "none: a runtime does not start (%s)", strerror(-rc));
    else
        row_format("backend", "%s", backend);
    if (rc == 0 && strncmp(backend, "io_uring", 8) == 0)
        row_format("not epoll", "io_uring works, and is taken before it%s", rc_epoll < 0 ? "; epoll would not" : "; it would work too");
    else if (rc == 0 && (asked == NULL || strcmp(asked, "epoll") != 0))
        row("not io_uring", strchr(backend, ':') != NULL ? strchr(backend, ':') + 2 : backend);
    else if (rc == 0)
        row("not io_uring", "SLEY_BACKEND=epoll says so; what the ring has was not tried");
    putchar('\n');
    print_features();
    putchar('\n');
    print_limits();
    print_changes();
    return rc < 0;
}
