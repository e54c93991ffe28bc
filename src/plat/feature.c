/* feature.c - the table of features, and the reading of SLEY_DISABLE. */
#include "plat/feature.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECCOMP "a seccomp profile that lets it pass"

_Static_assert(SL_FEATURES <= 64, "a bit each");

#define OPERATION(name, since, what) { name, since, what " in the ring", "the pool of sley_blocking does it", NULL }

const struct sl_feature_info sl_feature_infos[SL_FEATURES] = {
    [SL_FEATURE_IO_URING] = { "io_uring", "5.1", "every wait and operation, many in one call of the kernel", "the epoll backend",
        "sysctl kernel.io_uring_disabled=0; a seccomp profile that allows io_uring_setup, _enter and _register" },
    [SL_FEATURE_EXT_ARG] = { "ext_arg", "5.11", "a sleep in the ring that ends at a deadline", "the epoll backend", NULL },
    [SL_FEATURE_OP_PROBE] = { "op_probe", "5.6", "asking which operations the ring knows", "the pool does all that may be missing",
        "a seccomp profile that allows io_uring_register" },
    [SL_FEATURE_SUBMIT_ALL] = { "submit_all", "5.18", "a bad operation does not hold up those behind it",
        "they are submitted again", NULL },
    [SL_FEATURE_COOP_TASKRUN] = { "coop_taskrun", "5.19", "completions do not interrupt a busy worker",
        "each interrupts its worker", NULL },
    [SL_FEATURE_POLL_MULTISHOT] = { "poll_multishot", "5.13", "a worker's doorbell stays armed", "it is armed for every sleep", NULL },
    [SL_FEATURE_POLL_FIRST] = { "poll_first", "5.19", "a receive that must wait does not try before it does", "it tries in vain first",
        NULL },
    [SL_FEATURE_SYNC_CANCEL] = { "sync_cancel", "6.0", "any worker cancels an operation of another", "the other worker is asked to",
        "a seccomp profile that allows io_uring_register" },
    [SL_FEATURE_IOWQ_MAX_WORKERS] = { "iowq_max_workers", "5.15", "a bound on the kernel's threads behind a ring", "there is none",
        "a seccomp profile that allows io_uring_register" },
    [SL_FEATURE_REGISTERED_BUFFERS] = { "registered_buffers", "5.13", "reads and writes in sley_iobuf_alloc memory pin no pages",
        "they pin them each time", "a seccomp profile that allows io_uring_register" },
    [SL_FEATURE_OP_FSYNC] = OPERATION("op_fsync", "5.1", "fsync"),
    [SL_FEATURE_OP_OPENAT] = OPERATION("op_openat", "5.6", "opening a file"),
    [SL_FEATURE_OP_OPENAT2] = OPERATION("op_openat2", "5.6", "opening with a struct open_how"),
    [SL_FEATURE_OP_STATX] = OPERATION("op_statx", "5.6", "statx by name"),
    [SL_FEATURE_OP_RENAMEAT] = OPERATION("op_renameat", "5.11", "renaming"),
    [SL_FEATURE_OP_UNLINKAT] = OPERATION("op_unlinkat", "5.11", "unlink and rmdir"),
    [SL_FEATURE_OP_MKDIRAT] = OPERATION("op_mkdirat", "5.15", "mkdir"),
    [SL_FEATURE_OP_SYMLINKAT] = OPERATION("op_symlinkat", "5.15", "symlink"),
    [SL_FEATURE_OP_LINKAT] = OPERATION("op_linkat", "5.15", "hard links"),
    [SL_FEATURE_OP_SPLICE] = OPERATION("op_splice", "5.7", "splice"),
    [SL_FEATURE_OP_SYNC_FILE_RANGE] = OPERATION("op_sync_file_range", "5.2", "sync_file_range"),
    [SL_FEATURE_OP_FALLOCATE] = OPERATION("op_fallocate", "5.6", "fallocate"),
    [SL_FEATURE_OP_FADVISE] = OPERATION("op_fadvise", "5.6", "fadvise"),
    [SL_FEATURE_OP_FTRUNCATE] = OPERATION("op_ftruncate", "6.9", "ftruncate"),
    [SL_FEATURE_OP_SEND_ZC] = { "op_send_zc", "6.0", "MSG_ZEROCOPY of sley_send and sley_send_all", "the bytes are copied", NULL },
    [SL_FEATURE_OP_SENDMSG_ZC] = { "op_sendmsg_zc", "6.1", "MSG_ZEROCOPY of sley_sendmsg", "the bytes are copied", NULL },
    [SL_FEATURE_EPOLL_PWAIT2] = { "epoll_pwait2", "5.11", "timers of the epoll backend, to the nanosecond", "to the millisecond", SECCOMP },
    [SL_FEATURE_MEMBARRIER] = { "membarrier", "4.14", "hot paths without fences: who waits pays for both sides", "both sides fence",
        SECCOMP },
    [SL_FEATURE_MEMBARRIER_CPU] = { "membarrier_cpu", "5.10", "helping a busy worker disturbs that one alone", "it disturbs all", SECCOMP },
    [SL_FEATURE_RSEQ] = { "rseq", "4.18", "knowing on which processor a busy worker runs", "helping it disturbs all",
        "glibc 2.35 or newer, without GLIBC_TUNABLES=glibc.pthread.rseq=0; " SECCOMP },
    [SL_FEATURE_GUARD_INSTALL] = { "guard_install", "6.13", "guards of stacks that cost no mapping, so millions have one",
        "mprotect for as many as vm.max_map_count bears, then canaries", "no mlockall; else raise sysctl vm.max_map_count" },
    [SL_FEATURE_RWF_NOWAIT] = { "rwf_nowait", "4.14", "what is in the page cache is read at once", "it is read through the ring",
        "a file system that can; SLEY_NOW on files needs it" },
    [SL_FEATURE_RESOLVE_CACHED] = { "resolve_cached", "5.12", "a name in the caches is opened at once", "it is opened through the ring",
        "SLEY_NOW when opening needs it; " SECCOMP " (openat2)" },
};

_Atomic(int32_t)  sl_features_found[SL_FEATURES];
_Atomic(uint64_t) sl_features_disabled;

/* Who leaves out a fence relies on others who make the barrier: so it is decided once, see sl_use_membarrier. */
#define FIXED_AT_LOAD (UINT64_C(1) << SL_FEATURE_MEMBARRIER)

/* 0; -EINVAL. */
static int parse(const char *list, uint64_t *out)
{
    uint64_t set = 0;

    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ",");
        int f = 0;

        while (f < SL_FEATURES && (strncmp(list, sl_feature_infos[f].name, n) != 0 || sl_feature_infos[f].name[n] != '\0'))
            f++;
        if (f == SL_FEATURES || (list[n] == ',' && list[n + 1] == '\0'))
            return -EINVAL;
        set |= UINT64_C(1) << f;
        list += n + (list[n] == ',');
    }
    *out = set;
    return 0;
}

int sl_feature_disable(const char *list)
{
    uint64_t fixed = sl_load_relaxed(&sl_features_disabled) & FIXED_AT_LOAD; /* set once, before threads */
    uint64_t set;

    if (parse(list, &set) < 0)
        return -EINVAL;
    if (set & FIXED_AT_LOAD & ~fixed)
        return -EBUSY;
    sl_store_relaxed(&sl_features_disabled, set | fixed); /* hint */
    return 0;
}

void sl_feature_disable_at_load(void)
{
    uint64_t set;

    if (parse(getenv("SLEY_DISABLE"), &set) == 0)
        sl_store_relaxed(&sl_features_disabled, set); /* one thread */
}

void sl_feature_names(char *text, size_t bytes)
{
    size_t at = 0;

    text[0] = '\0';
    for (int f = 0; f < SL_FEATURES && at < bytes; f++)
        at += (size_t)snprintf(text + at, bytes - at, "%s%s", f > 0 ? ", " : "", sl_feature_infos[f].name);
}
