/* feature.h - the single features of the kernel that the library uses where it finds them, and what it has found.
 *
 * Each is found by trying, never by the kernel's version; the versions here are for people. A feature may be switched off by SLEY_DISABLE,
 * and the library then does as if the kernel lacked it. What is noted is of the whole process and a hint for others: whoever reads an
 * older value tries once more and finds the same. */
#ifndef SL_FEATURE_H
#define SL_FEATURE_H

#include "base/atomic.h"

enum sl_feature {
    SL_FEATURE_IO_URING,
    SL_FEATURE_EXT_ARG,
    SL_FEATURE_OP_PROBE,
    SL_FEATURE_SUBMIT_ALL,
    SL_FEATURE_COOP_TASKRUN,
    SL_FEATURE_POLL_MULTISHOT,
    SL_FEATURE_POLL_FIRST,
    SL_FEATURE_SYNC_CANCEL,
    SL_FEATURE_IOWQ_MAX_WORKERS,
    SL_FEATURE_REGISTERED_BUFFERS,
    SL_FEATURE_OP_FSYNC, /* from here to OP_FTRUNCATE: operations that the pool does where the ring does not know them */
    SL_FEATURE_OP_OPENAT,
    SL_FEATURE_OP_OPENAT2,
    SL_FEATURE_OP_STATX,
    SL_FEATURE_OP_RENAMEAT,
    SL_FEATURE_OP_UNLINKAT,
    SL_FEATURE_OP_MKDIRAT,
    SL_FEATURE_OP_SYMLINKAT,
    SL_FEATURE_OP_LINKAT,
    SL_FEATURE_OP_SPLICE,
    SL_FEATURE_OP_SYNC_FILE_RANGE,
    SL_FEATURE_OP_FALLOCATE,
    SL_FEATURE_OP_FADVISE,
    SL_FEATURE_OP_FTRUNCATE,
    SL_FEATURE_OP_SEND_ZC,
    SL_FEATURE_OP_SENDMSG_ZC,
    SL_FEATURE_EPOLL_PWAIT2,
    SL_FEATURE_MEMBARRIER,
    SL_FEATURE_MEMBARRIER_CPU,
    SL_FEATURE_RSEQ,
    SL_FEATURE_GUARD_INSTALL,
    SL_FEATURE_RWF_NOWAIT,
    SL_FEATURE_RESOLVE_CACHED,
    SL_FEATURES
};

struct sl_feature_info {
    const char *name;     /* as in SLEY_DISABLE */
    const char *since;    /* the Linux that brought it */
    const char *good_for;
    const char *without;  /* what is done instead */
    const char *change;   /* what to change if it is missing, beside a newer kernel; NULL: nothing */
};

extern const struct sl_feature_info sl_feature_infos[SL_FEATURES];

#define SL_FOUND_NOTHING 0 /* nobody has tried yet */
#define SL_FOUND_USED    1 /* it works; less than 0: missing, the kernel's -errno */

extern _Atomic(int32_t)  sl_features_found[SL_FEATURES];
extern _Atomic(uint64_t) sl_features_disabled; /* a bit each */

static inline bool sl_feature_allowed(enum sl_feature f)
{
    return !(sl_load_relaxed(&sl_features_disabled) >> f & 1); /* hint */
}

static inline int sl_feature_found(enum sl_feature f)
{
    return sl_load_relaxed(&sl_features_found[f]); /* hint */
}

/* Worth trying: not switched off, and nobody has found it missing. */
static inline bool sl_feature_may(enum sl_feature f)
{
    return sl_feature_allowed(f) && sl_feature_found(f) >= 0;
}

/* rc: -errno if it is missing, else it works. What is switched off is not found to be anything. */
static inline void sl_feature_note(enum sl_feature f, int rc)
{
    int32_t found = rc < 0 ? rc : SL_FOUND_USED;

    if (sl_feature_found(f) != found && sl_feature_allowed(f))
        sl_store_relaxed(&sl_features_found[f], found); /* hint */
}

/* Switch off what the comma-separated list names (NULL or empty: nothing), and nothing else. 0; -EINVAL: a name that is none; -EBUSY: a
 * feature is in use by agreement and can be switched off only when the library is loaded; with either, nothing has changed. */
int sl_feature_disable(const char *list);

/* The same with SLEY_DISABLE when the library is loaded, before anything is tried. A wrong name is left for the runtime to refuse. */
void sl_feature_disable_at_load(void);

/* All names, in order, separated by ", ". */
void sl_feature_names(char *text, size_t bytes);

#endif
