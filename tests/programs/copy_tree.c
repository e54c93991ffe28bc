/* What Sley writes, for other programs to read; test_copy_tree.py drives it.
 *
 *   copy_tree FROM TO            copy the directory FROM, to TO, which is not there yet: directories, files, symbolic links, hard links,
 *                                modes; each file by one of three ways, and under its name only once it is whole
 *   copy_tree -r TO FILE...      replace TO by each FILE in turn, over and over, until SIGTERM; "replaced N times"
 */
#include <sley.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES_AT_ONCE = 16, LINKS_MAX = 10000, PIECE_BYTES = 65536 };

struct job {
    char *path; /* below FROM and TO alike; malloc'ed, and the job's */
    struct statx st;
};

static int from = -1, to = -1;
static sley_sem room;

static struct {
    sley_mutex lock;
    int count;
    struct { uint64_t inode; char *path, *first; } link[LINKS_MAX]; /* first: NULL of the one that is copied */
} links;

/* --- one file ------------------------------------------------------------------------------------------------------------------------ */

static int copy_by_kernel(int in, int out, uint64_t bytes)
{
    int n = 0;

    while (bytes > 0 && (n = sley_copy_file_range(in, NULL, out, NULL, bytes, 0, SLEY_FOREVER)) > 0)
        bytes -= n;
    return bytes > 0 && n == 0 ? -EIO : n;
}

/* From the end to the beginning, into a file that has its length already. */
static int copy_by_hand(int in, int out, uint64_t bytes)
{
    char *buf = sley_iobuf_alloc(PIECE_BYTES);
    int rc = buf != NULL ? sley_ftruncate(out, (off_t)bytes, SLEY_FOREVER) : -ENOMEM;

    while (rc >= 0 && bytes > 0) {
        uint64_t piece = (bytes - 1) % PIECE_BYTES + 1, at = bytes - piece;
        uint64_t done = 0;

        rc = sley_pread(in, buf, piece, (off_t)at, SLEY_FOREVER);
        if (rc >= 0 && (uint64_t)rc != piece)
            rc = -EIO;
        for (; rc >= 0 && done < piece; done += rc > 0 ? rc : 0)
            rc = sley_pwrite(out, buf + done, piece - done, (off_t)(at + done), SLEY_FOREVER);
        bytes = at;
    }
    sley_iobuf_free(buf);
    return rc;
}

static int copy_through_pipe(int in, int out, uint64_t bytes)
{
    int ends[2], n = 0, rc = sley_fallocate(out, FALLOC_FL_KEEP_SIZE, 0, bytes > 0 ? (off_t)bytes : 1, SLEY_FOREVER);

    if (rc < 0 && rc != -EOPNOTSUPP)
        return rc;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -EMFILE;
    for (rc = 0; rc >= 0 && bytes > 0; bytes -= n) {
        rc = n = sley_splice(in, NULL, ends[1], NULL, bytes, 0, SLEY_FOREVER);
        if (n == 0)
            rc = -EIO;
        for (int left = n; rc >= 0 && left > 0; left -= rc)
            rc = sley_splice(ends[0], NULL, out, NULL, left, 0, SLEY_FOREVER);
    }
    sley_close(ends[0]);
    sley_close(ends[1]);
    return rc;
}

static int copy_open(int in, int out, const struct statx *st)
{
    static int (*const ways[])(int, int, uint64_t) = { copy_by_kernel, copy_by_hand, copy_through_pipe };
    static _Atomic unsigned next;
    int rc;

    sley_fadvise(in, 0, 0, POSIX_FADV_SEQUENTIAL, SLEY_FOREVER);
    if ((rc = ways[next++ % 3](in, out, st->stx_size)) < 0)
        return rc;
    return next % 2 ? sley_fsync(out, SLEY_FOREVER) : sley_fdatasync(out, SLEY_FOREVER);
}

static int copy_file(void *arg)
{
    struct job *j = arg;
    struct open_how beneath = { .flags = O_RDONLY | O_NOFOLLOW, .resolve = RESOLVE_BENEATH };
    char part[64];
    int in, out, rc;

    snprintf(part, sizeof part, ".part-%llu", (unsigned long long)j->st.stx_ino);
    if ((rc = in = sley_openat2(from, j->path, &beneath, sizeof beneath, SLEY_FOREVER)) >= 0) {
        if ((rc = out = sley_openat(to, part, O_WRONLY | O_CREAT | O_EXCL, j->st.stx_mode & 07777, SLEY_FOREVER)) >= 0) {
            rc = copy_open(in, out, &j->st);
            sley_close(out);
            if (rc >= 0)
                rc = sley_renameat2(to, part, to, j->path, RENAME_NOREPLACE, SLEY_FOREVER);
            if (rc < 0 && sley_unlinkat(to, part, 0, SLEY_FOREVER) < 0)
                fprintf(stderr, "copy_tree: %s stays\n", part);
        }
        sley_close(in);
    }
    if (rc < 0)
        fprintf(stderr, "copy_tree: %s: %s\n", j->path, strerror(-rc));
    sley_sem_post(&room);
    free(j->path);
    return rc < 0 ? rc : 0;
}

/* --- the tree ------------------------------------------------------------------------------------------------------------------------ */

static int copy_link(const char *path)
{
    char target[4096];
    int n = sley_readlinkat(from, path, target, sizeof target - 1, SLEY_FOREVER);

    if (n < 0)
        return n;
    target[n] = '\0';
    return sley_symlinkat(target, to, path, SLEY_FOREVER);
}

/* 1: the file has another name, which is copied, or is being copied; this one is linked to it at the end. 0; -errno. */
static int is_linked(const struct job *j)
{
    int rc = 0, i;

    if (j->st.stx_nlink < 2)
        return 0;
    sley_mutex_lock(&links.lock, SLEY_FOREVER);
    for (i = 0; i < links.count && (links.link[i].inode != j->st.stx_ino || links.link[i].first != NULL); i++)
        ;
    if (links.count == LINKS_MAX) {
        rc = -EMLINK;
    } else {
        rc = i < links.count;
        links.link[links.count].inode = j->st.stx_ino;
        links.link[links.count].path = strdup(j->path);
        links.link[links.count++].first = rc ? links.link[i].path : NULL;
    }
    sley_mutex_unlock(&links.lock);
    return rc;
}

static int make_links(void)
{
    int rc = 0;

    for (int i = 0; i < links.count && rc == 0; i++)
        if (links.link[i].first != NULL)
            rc = sley_linkat(to, links.link[i].first, to, links.link[i].path, 0, SLEY_FOREVER);
    for (int i = 0; i < links.count; i++)
        free(links.link[i].path);
    return rc;
}

static int copy_directory(void *arg);

static int copy_entry(const char *directory, const char *name)
{
    struct job j;
    int rc;

    if (asprintf(&j.path, "%s%s%s", directory, directory[0] != '\0' ? "/" : "", name) < 0)
        return -ENOMEM;
    rc = sley_statx(from, j.path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &j.st, SLEY_FOREVER);
    if (rc == 0 && S_ISDIR(j.st.stx_mode)) {
        rc = sley_mkdirat(to, j.path, j.st.stx_mode & 07777, SLEY_FOREVER);
        if (rc == 0 && (rc = sley_go_copy(copy_directory, &j, sizeof j)) == 0)
            return 0;
    } else if (rc == 0 && S_ISLNK(j.st.stx_mode)) {
        rc = copy_link(j.path);
    } else if (rc == 0 && S_ISREG(j.st.stx_mode)) {
        rc = is_linked(&j);
        if (rc == 0 && (rc = sley_sem_wait(&room, SLEY_FOREVER)) == 0) {
            if ((rc = sley_go_copy(copy_file, &j, sizeof j)) == 0)
                return 0;
            sley_sem_post(&room);
        }
    } else if (rc == 0) {
        rc = -EOPNOTSUPP;
    }
    if (rc < 0)
        fprintf(stderr, "copy_tree: %s: %s\n", j.path, strerror(-rc));
    free(j.path);
    return rc < 0 ? rc : 0;
}

static int copy_directory(void *arg)
{
    struct job *j = arg;
    sley_dirent entry;
    sley_dir *d;
    int rc = sley_dir_open(&d, from, j->path[0] != '\0' ? j->path : ".", SLEY_FOREVER);

    if (rc == 0) {
        while ((rc = sley_dir_next(d, &entry, SLEY_FOREVER)) == 1)
            if ((rc = copy_entry(j->path, entry.name)) < 0)
                break;
        sley_dir_close(d);
    }
    free(j->path);
    return rc;
}

static int copy(void *arg)
{
    char **argv = arg;
    struct job root = { .path = strdup("") };
    sley_scope all;
    int rc;

    sley_sem_init(&room, FILES_AT_ONCE);
    if ((rc = from = sley_open(argv[1], O_RDONLY | O_DIRECTORY, 0, SLEY_FOREVER)) < 0)
        return rc;
    if ((rc = sley_mkdirat(AT_FDCWD, argv[2], 0755, SLEY_FOREVER)) < 0)
        return rc;
    if ((rc = to = sley_open(argv[2], O_RDONLY | O_DIRECTORY, 0, SLEY_FOREVER)) < 0)
        return rc;
    if ((rc = sley_flock(to, LOCK_EX | LOCK_NB, SLEY_FOREVER)) < 0)
        return rc;
    sley_scope_init(&all, SLEY_FOREVER);
    rc = sley_scope_wait(&all, copy_directory(&root), SLEY_FOREVER);
    if (rc >= 0)
        rc = make_links();
    if (rc >= 0)
        rc = sley_fsync(to, SLEY_FOREVER);
    sley_close(to);
    sley_close(from);
    return rc;
}

/* --- replacing ----------------------------------------------------------------------------------------------------------------------- */

static int replace(void *arg)
{
    char **argv = arg;
    int times = 0, rc = 0;

    for (char **file = argv + 3; rc == 0; file = file[1] != NULL ? file + 1 : argv + 3) {
        void *data;
        size_t bytes;

        rc = sley_file_read(AT_FDCWD, *file, &data, &bytes, SLEY_FOREVER);
        if (rc < 0)
            break;
        rc = sley_file_replace(AT_FDCWD, argv[2], data, bytes, 0644, SLEY_FOREVER);
        free(data);
        times += rc == 0;
        if (times == 1) {
            puts("replaced");
            fflush(stdout);
        }
    }
    printf("replaced %d times\n", times);
    return rc;
}

static int replace_until_signal(void *arg)
{
    sley_scope replacing;
    int rc = sley_signal_wait(SLEY_SIG(SIGTERM), SLEY_NOW);

    if (rc != -ETIMEDOUT)
        return rc;
    sley_scope_init(&replacing, SLEY_FOREVER);
    sley_go(replace, arg);
    rc = sley_signal_wait(SLEY_SIG(SIGTERM), SLEY_FOREVER);
    sley_scope_cancel(&replacing);
    rc = sley_scope_wait(&replacing, rc, SLEY_FOREVER);
    return rc < 0 ? rc : 0;
}

int main(int argc, char **argv)
{
    int is_replacing = argc > 3 && strcmp(argv[1], "-r") == 0, rc;

    if (!is_replacing && argc != 3) {
        fputs("usage: copy_tree FROM TO, or copy_tree -r TO FILE...\n", stderr);
        return 2;
    }
    umask(0);
    rc = sley_run(NULL, is_replacing ? replace_until_signal : copy, argv);
    if (rc < 0)
        fprintf(stderr, "copy_tree: %s\n", strerror(-rc));
    return rc < 0;
}
