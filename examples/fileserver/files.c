/* files.c - names to open files, and the files that were just asked for.
 *
 * An open file is kept for FRESH_NS and then looked up anew, so a file that is replaced is served at most that much longer. What is kept
 * is a descriptor, never bytes: a file that is written in place shows at once, and when its length has changed respond.c finds out and
 * calls file_forget. Its date and tag were taken before the bytes are read, so new bytes may go out under an old tag for that time, never
 * old bytes under a new one. To look the name up at each request instead would double the system calls of a small file.
 *
 *   C1  a file in a slot holds one reference of the slot's; whoever got it from file_open holds another.
 *   C2  cached counts the files in slots; who makes it 1 sets some, so the sweeper sleeps while there are none. */
#include "server.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SETS = 64, WAYS = 4, OPEN_TRIES = 3 };

static struct set {
    pthread_mutex_t lock;
    struct file *slot[WAYS];
} sets[SETS] = { [0 ... SETS - 1] = { .lock = PTHREAD_MUTEX_INITIALIZER } };

static atomic_int cached;
static sley_event some, stop;

static struct set *set_of(const char *key, size_t bytes)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (unsigned char)key[i]) * 16777619u;
    return &sets[(h ^ h >> 16) % SETS];
}

void file_close(struct file *f)
{
    if (f == NULL || atomic_fetch_sub(&f->refs, 1) > 1)
        return;
    sley_close(f->fd);
    free(f);
}

static struct file *take_out(struct file **slot) /* under the set's lock */
{
    struct file *f = *slot;

    *slot = NULL;
    if (f != NULL)
        atomic_fetch_sub(&cached, 1);
    return f;
}

static bool is_fresh(const struct file *f, sley_time now)
{
    return now - f->opened_at < FRESH_NS;
}

static struct file *look_up(const struct target *t)
{
    struct set *set = set_of(t->path, t->path_bytes);
    struct file *found = NULL, *old = NULL;
    sley_time now = sley_now();

    pthread_mutex_lock(&set->lock);
    for (int i = 0; i < WAYS && found == NULL && old == NULL; i++) {
        struct file *f = set->slot[i];
        if (f == NULL || f->key_bytes != t->path_bytes || memcmp(f->key, t->path, t->path_bytes) != 0)
            continue;
        if (is_fresh(f, now)) {
            atomic_fetch_add(&f->refs, 1);
            found = f;
        } else {
            old = take_out(&set->slot[i]);
        }
    }
    pthread_mutex_unlock(&set->lock);
    file_close(old);
    return found;
}

static void keep(struct file *f)
{
    struct set *set = set_of(f->key, f->key_bytes);
    struct file *old;
    int at = 0;

    atomic_fetch_add(&f->refs, 1);
    pthread_mutex_lock(&set->lock);
    for (int i = 0; i < WAYS; i++) { /* its predecessor's slot, or an empty one, or that of the oldest */
        struct file *s = set->slot[i], *best = set->slot[at];
        if (s != NULL && s->key_bytes == f->key_bytes && memcmp(s->key, f->key, f->key_bytes) == 0) {
            at = i;
            break;
        }
        if (best != NULL && (s == NULL || s->opened_at < best->opened_at))
            at = i;
    }
    old = take_out(&set->slot[at]);
    set->slot[at] = f;
    if (atomic_fetch_add(&cached, 1) == 0)
        sley_event_set(&some);
    pthread_mutex_unlock(&set->lock);
    file_close(old);
}

void file_forget(struct file *f)
{
    struct set *set = set_of(f->key, f->key_bytes);
    struct file *old = NULL;

    pthread_mutex_lock(&set->lock);
    for (int i = 0; i < WAYS; i++)
        if (set->slot[i] == f)
            old = take_out(&set->slot[i]);
    pthread_mutex_unlock(&set->lock);
    file_close(old);
}

bool file_is_same(const struct file *f)
{
    struct statx st;

    return sley_statx(f->fd, "", AT_EMPTY_PATH, STATX_SIZE | STATX_MTIME, &st, SLEY_FOREVER) == 0 && st.stx_size == f->bytes &&
           st.stx_mtime.tv_sec == f->modified.tv_sec && st.stx_mtime.tv_nsec == f->modified.tv_nsec;
}

static void sweep(sley_time now)
{
    for (int i = 0; i < SETS; i++) {
        struct file *old[WAYS] = { NULL };

        pthread_mutex_lock(&sets[i].lock);
        for (int k = 0; k < WAYS; k++)
            if (sets[i].slot[k] != NULL && !is_fresh(sets[i].slot[k], now))
                old[k] = take_out(&sets[i].slot[k]);
        pthread_mutex_unlock(&sets[i].lock);
        for (int k = 0; k < WAYS; k++)
            file_close(old[k]);
    }
}

int files_sweep(void *arg)
{
    int rc = 0;

    (void)arg;
    sley_fiber_set_name("files");
    while (rc != -ECANCELED && !sley_event_is_set(&stop)) {
        rc = sley_event_wait(&some, SLEY_FOREVER);
        sley_event_reset(&some); /* before the look at cached: who makes it 1 after the look sets it again */
        while (rc != -ECANCELED && atomic_load(&cached) > 0 && !sley_event_is_set(&stop)) {
            rc = sley_event_wait(&stop, sley_after(FRESH_NS));
            sweep(sley_now());
        }
    }
    sweep(SLEY_FOREVER);
    return 0;
}

void files_stop(void)
{
    sley_event_set(&stop);
    sley_event_set(&some);
}

/* Nothing outside the root is reached, by ".." or by links, whatever changes meanwhile: the kernel sees to it. NONBLOCK is for FIFOs. */
static int open_below(const char *path)
{
    struct open_how how = { .flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
    int fd = -EAGAIN;

    for (int i = 0; i < OPEN_TRIES && (fd == -EAGAIN || fd == -EMFILE); i++) { /* EAGAIN: renamed under the kernel's feet */
        fd = sley_openat2(server.root, path[0] != '\0' ? path : ".", &how, sizeof how, SLEY_FOREVER);
        if (fd == -EMFILE)
            sweep(SLEY_FOREVER);
    }
    return fd;
}

static void describe(struct file *f, const struct statx *st, const char *path, size_t path_bytes)
{
    struct text etag = { .data = f->etag, .bytes_max = sizeof f->etag };
    struct text head = { .data = f->head, .bytes_max = sizeof f->head };

    f->is_directory = S_ISDIR(st->stx_mode);
    f->bytes = st->stx_size;
    f->modified = (struct timespec){ st->stx_mtime.tv_sec, st->stx_mtime.tv_nsec };
    stamp_format(f->modified.tv_sec, f->date);

    text_add_string(&etag, "\"");
    text_add_number(&etag, f->modified.tv_sec);
    text_add_string(&etag, "-");
    text_add_number(&etag, f->modified.tv_nsec);
    text_add_string(&etag, "-");
    text_add_number(&etag, f->bytes);
    text_add_string(&etag, "\"");
    f->etag_bytes = etag.bytes;

    text_add_string(&head, "Content-Type: ");
    text_add_string(&head, mime_type(path, path_bytes));
    text_add_string(&head, "\r\nLast-Modified: ");
    text_add_string(&head, f->date);
    text_add_string(&head, "\r\nETag: ");
    text_add(&head, f->etag, f->etag_bytes);
    text_add_string(&head, "\r\nAccept-Ranges: bytes\r\n");
    f->head_bytes = head.bytes;
}

/* path is not t's where an index is looked for. */
static int open_new(const struct target *t, const char *path, size_t path_bytes, struct file **out)
{
    struct file *f = malloc(sizeof *f + t->path_bytes);
    struct statx st;
    int rc = -ENOMEM, fd = -1;

    if (f == NULL)
        return -ENOMEM;
    if ((fd = rc = open_below(path)) < 0)
        goto undo_malloc;
    if ((rc = sley_statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE | STATX_MTIME, &st, SLEY_FOREVER)) < 0)
        goto undo_open;
    rc = -EACCES;
    if (!S_ISREG(st.stx_mode) && !S_ISDIR(st.stx_mode))
        goto undo_open;
    *f = (struct file){ .fd = fd, .opened_at = sley_now(), .key_bytes = t->path_bytes };
    atomic_init(&f->refs, 1);
    memcpy(f->key, t->path, t->path_bytes);
    describe(f, &st, path, path_bytes);
    *out = f;
    return 0;

undo_open:
    sley_close(fd);
undo_malloc:
    free(f);
    return rc;
}

static int open_index(struct target *t, struct file **out)
{
    int rc;

    memcpy(t->path + t->path_bytes, INDEX, sizeof INDEX);
    rc = open_new(t, t->path, t->path_bytes + sizeof INDEX - 1, out);
    t->path[t->path_bytes] = '\0';
    if (rc == 0 && (*out)->is_directory) {
        file_close(*out);
        rc = -ENOENT;
    }
    return rc;
}

int file_open(struct target *t, struct file **out)
{
    bool names_directory = t->path_bytes == 0 || t->path[t->path_bytes - 1] == '/';
    int rc = -ENOENT;

    if ((*out = look_up(t)) != NULL)
        return 0;
    if (names_directory)
        rc = open_index(t, out);
    if (rc == -ENOENT)
        rc = open_new(t, t->path, t->path_bytes, out);
    if (rc == 0 && !(*out)->is_directory)
        keep(*out);
    return rc;
}
