/* vm.c - mmap, madvise and mprotect behind vm.h. */
#include "plat/vm.h"
#include "base/atomic.h"
#include "plat/feature.h"
#include "plat/valgrind.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux 6.13, include/uapi/asm-generic/mman-common.h; newer than the headers that many distributions build with. */
#define GUARD_INSTALL 102 /* MADV_GUARD_INSTALL */
#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE, Linux 5.14 */

size_t sl_vm_page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Mapped without access first and unlocked before it may be touched: after mlockall(MCL_FUTURE) the kernel would fill it, and refuse
 * guards. */
int sl_vm_map(void **out, size_t bytes)
{
    int saved = errno, rc = 0;
    void *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

    if (at == MAP_FAILED) {
        rc = -ENOMEM;
    } else {
        munlock(at, bytes);                  /* best effort, like the advice */
        madvise(at, bytes, MADV_NOHUGEPAGE); /* before 6.7 MAP_STACK does not imply it; refused by kernels without huge pages */
        if (mprotect(at, bytes, PROT_READ | PROT_WRITE) < 0) {
            munmap(at, bytes);
            rc = -ENOMEM;
        } else {
            *out = at;
        }
    }
    errno = saved;
    return rc;
}

int sl_vm_reserve(void **out, size_t bytes)
{
    int saved = errno;
    void *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    errno = saved;
    if (at == MAP_FAILED)
        return -ENOMEM;
    *out = at;
    return 0;
}

int sl_vm_commit(void *at, size_t bytes)
{
    int saved = errno, rc = mprotect(at, bytes, PROT_READ | PROT_WRITE);

    if (rc == 0 && madvise(at, bytes, POPULATE_WRITE) < 0 && errno != EINVAL) { /* which an older kernel says; then they come as touched */
        madvise(at, bytes, MADV_DONTNEED);
        mprotect(at, bytes, PROT_NONE);
        rc = -1;
    }
    errno = saved;
    return rc == 0 ? 0 : -ENOMEM;
}

void sl_vm_unmap(void *at, size_t bytes)
{
    int saved = errno;

    munmap(at, bytes);
    errno = saved;
}

/* Some emulators accept any advice and do nothing. So the first guard of the process is tried: the kernel is asked to block the signals
 * in a set that lies there, which is empty if it can be read. */
static bool is_guarded(const void *at)
{
    return syscall(SYS_rt_sigprocmask, SIG_BLOCK, at, NULL, _NSIG / 8) < 0 && errno == EFAULT;
}

int sl_vm_guard(void *at, size_t bytes)
{
    static _Atomic(bool) tried; /* hint: tried again by whoever does not see it */
    int saved = errno, rc;

    if (!sl_feature_allowed(SL_FEATURE_GUARD_INSTALL))
        return -EINVAL;
    rc = madvise(at, bytes, GUARD_INSTALL) == 0 ? 0 : -errno;
    if (rc == 0 && !sl_load_relaxed(&tried) && !RUNNING_ON_VALGRIND) { /* which looks at such memory itself, and dies */
        if (is_guarded(at))
            sl_store_relaxed(&tried, true);
        else
            rc = -EINVAL;
    }
    errno = saved;
    if (rc == 0 || rc == -EINVAL)
        sl_feature_note(SL_FEATURE_GUARD_INSTALL, rc);
    return rc == 0 || rc == -EINVAL ? rc : -ENOMEM;
}

int sl_vm_protect(void *at, size_t bytes)
{
    int saved = errno;
    int rc = mprotect(at, bytes, PROT_NONE);

    errno = saved;
    return rc == 0 ? 0 : -ENOMEM;
}

void sl_vm_drop(void *at, size_t bytes)
{
    int saved = errno;

    madvise(at, bytes, MADV_DONTNEED);
    errno = saved;
}

uint64_t sl_vm_maps_max(void)
{
    int saved = errno;
    unsigned long long maps = 65530; /* the kernel's own default, should the file be hidden */
    FILE *f = fopen("/proc/sys/vm/max_map_count", "re");

    if (f != NULL) {
        if (fscanf(f, "%llu", &maps) != 1)
            maps = 65530;
        fclose(f);
    }
    errno = saved;
    return maps;
}

uint64_t sl_vm_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
}
