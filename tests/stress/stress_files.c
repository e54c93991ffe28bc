/* stress_files.c - random operations on files and names, with deadlines and cancels that race with them: whoever is told that something was
 * done finds it done, and whoever was cut short finds it as it was. Each player has a folder, and a model of what is in it. Prints its
 * seed; SLEY_TEST_SEED replays it, SLEY_TEST_MS sets how long each of its parts runs. */
#include "io_scenario.h"

#include <sys/file.h>
#include <sys/uio.h>

enum { PLAYERS = 6, NAMES = 6, FILES = NAMES, BYTES_MAX = 30000 };

static _Atomic(uint64_t) done_count, cut_count, refused_count;
static sley_time end;

/* A file of the model: its bytes are the pattern from `from` on. */
struct file {
    size_t from, bytes;
    int links; /* 0: free */
};

struct player {
    struct actor actor;
    uint64_t random;
    int dir;
    char path[PATH_MAX];
    struct file files[FILES];
    struct file *names[NAMES]; /* NULL: there is none */
    unsigned char buf[BYTES_MAX];
};

/* One operation, and what it needs. */
struct move {
    struct player *p;
    int (*play)(struct move *m, sley_time deadline);
    int a, b; /* names */
    size_t from, bytes;
    int result;
};

static const char *name_of(int i)
{
    static const char *const names[NAMES] = { "a", "b", "c", "d", "e", "f" };

    return names[i];
}

static struct file *free_file(struct player *p)
{
    for (int i = 0; i < FILES; i++)
        if (p->files[i].links == 0)
            return &p->files[i];
    return NULL; /* cannot be: a name that goes away frees one first */
}

static void drop(struct player *p, int name)
{
    if (p->names[name] != NULL)
        p->names[name]->links--;
    p->names[name] = NULL;
}

static void give(struct player *p, int name, struct file *f)
{
    drop(p, name);
    p->names[name] = f;
    f->links++;
}

/* Whether it was cut short, and therefore changed nothing. What else it may say is one of the two results. */
static int was_cut(int rc) { return rc == -ETIMEDOUT || rc == -ECANCELED; }

static int is_as_modelled(struct player *p, int name)
{
    const struct file *f = p->names[name];
    int fd = openat(p->dir, name_of(name), O_RDONLY | O_CLOEXEC), is;
    ssize_t n;

    if (fd < 0)
        return f == NULL && errno == ENOENT;
    n = read(fd, p->buf, sizeof p->buf);
    is = f != NULL && n == (ssize_t)f->bytes && is_pattern(p->buf, f->bytes, f->from);
    return close(fd) == 0 && is;
}

/* --- the operations -------------------------------------------------------------------------------------------------------------- */

static int play_replace(struct move *m, sley_time deadline)
{
    struct player *p = m->p;
    int rc;

    fill_pattern(p->buf, m->bytes, m->from);
    rc = sley_file_replace(p->dir, name_of(m->a), p->buf, m->bytes, 0600, deadline);
    EXPECT(rc == 0 || was_cut(rc));
    if (rc == 0) {
        struct file *f;

        drop(p, m->a);
        f = free_file(p);
        *f = (struct file){ m->from, m->bytes, 0 };
        give(p, m->a, f);
    }
    return rc;
}

static int play_read(struct move *m, sley_time deadline)
{
    const struct file *f = m->p->names[m->a];
    size_t bytes = 77;
    void *out = NULL;
    int rc = sley_file_read(m->p->dir, name_of(m->a), &out, &bytes, deadline);

    EXPECT(rc == (f != NULL ? 0 : -ENOENT) || was_cut(rc));
    EXPECT(rc == 0 ? f != NULL && bytes == f->bytes && is_pattern(out, bytes, f->from) : out == NULL && bytes == 77);
    free(out);
    return rc;
}

static int play_rename(struct move *m, sley_time deadline)
{
    struct player *p = m->p;
    int rc = sley_renameat2(p->dir, name_of(m->a), p->dir, name_of(m->b), 0, deadline);

    EXPECT(rc == (p->names[m->a] != NULL ? 0 : -ENOENT) || was_cut(rc));
    if (rc == 0 && p->names[m->a] != p->names[m->b]) { /* two names of one file: nothing is done */
        give(p, m->b, p->names[m->a]);
        drop(p, m->a);
    }
    return rc;
}

static int play_link(struct move *m, sley_time deadline)
{
    struct player *p = m->p;
    int rc = sley_linkat(p->dir, name_of(m->a), p->dir, name_of(m->b), 0, deadline);

    EXPECT(rc == (p->names[m->a] == NULL ? -ENOENT : p->names[m->b] != NULL ? -EEXIST : 0) || was_cut(rc));
    if (rc == 0)
        give(p, m->b, p->names[m->a]);
    return rc;
}

static int play_unlink(struct move *m, sley_time deadline)
{
    int rc = sley_unlinkat(m->p->dir, name_of(m->a), 0, deadline);

    EXPECT(rc == (m->p->names[m->a] != NULL ? 0 : -ENOENT) || was_cut(rc));
    if (rc == 0)
        drop(m->p, m->a);
    return rc;
}

/* Cut the file down, under a lock. */
static int play_truncate(struct move *m, sley_time deadline)
{
    struct file *f = m->p->names[m->a];
    int fd = sley_openat(m->p->dir, name_of(m->a), O_RDWR, 0, deadline), rc;

    EXPECT(f != NULL ? fd >= 0 || was_cut(fd) : fd == -ENOENT || was_cut(fd));
    if (fd < 0)
        return fd;
    rc = sley_flock(fd, LOCK_EX, deadline);
    EXPECT(rc == 0 || was_cut(rc)); /* nobody else has it */
    if (rc == 0) {
        rc = sley_ftruncate(fd, (off_t)(f->bytes / 2), deadline);
        EXPECT(rc == 0 || was_cut(rc));
    }
    if (rc == 0)
        f->bytes /= 2;
    EXPECT(sley_flock(fd, LOCK_UN, deadline) == 0 && sley_close(fd) == 0);
    return rc;
}

/* Write the file anew through a vector, and copy it over another. */
static int play_copy(struct move *m, sley_time deadline)
{
    struct player *p = m->p;
    const struct file *f = p->names[m->a];
    int from, to, rc;
    struct iovec v[2];

    if (f == NULL || p->names[m->b] == NULL || p->names[m->b] == f)
        return -ENOENT;
    from = openat(p->dir, name_of(m->a), O_RDONLY | O_CLOEXEC);
    to = openat(p->dir, name_of(m->b), O_RDWR | O_TRUNC | O_CLOEXEC);
    p->names[m->b]->from = f->from;
    p->names[m->b]->bytes = 0;
    rc = sley_copy_file_range(from, NULL, to, NULL, SIZE_MAX, 0, deadline);
    EXPECT((rc >= 0 && (size_t)rc <= f->bytes) || was_cut(rc));
    if (rc > 0)
        p->names[m->b]->bytes = (size_t)rc;
    v[0] = (struct iovec){ p->buf, f->bytes / 3 };
    v[1] = (struct iovec){ p->buf + f->bytes / 3, f->bytes - f->bytes / 3 };
    EXPECT(lseek(from, 0, SEEK_SET) == 0);
    rc = sley_readv(from, v, 2, deadline);
    EXPECT(rc == (int)f->bytes || was_cut(rc));
    EXPECT(rc < 0 || is_pattern(p->buf, f->bytes, f->from));
    EXPECT(sley_close(from) == 0 && sley_close(to) == 0);
    return rc;
}

static int play_list(struct move *m, sley_time deadline)
{
    struct player *p = m->p;
    int seen[NAMES] = { 0 }, rc;
    sley_dirent e;
    sley_dir *d;

    rc = sley_dir_open(&d, p->dir, ".", deadline);
    EXPECT(rc == 0 || was_cut(rc));
    if (rc < 0)
        return rc;
    while ((rc = sley_dir_next(d, &e, deadline)) > 0) {
        int i = 0;

        while (i < NAMES && strcmp(e.name, name_of(i)) != 0)
            i++;
        EXPECT(i < NAMES && !seen[i]); /* nothing that a replacement left */
        if (i < NAMES)
            seen[i] = 1;
    }
    EXPECT(rc == 0 || was_cut(rc));
    for (int i = 0; i < NAMES && rc == 0; i++)
        EXPECT(seen[i] == (p->names[i] != NULL));
    sley_dir_close(d);
    return rc;
}

/* --- players --------------------------------------------------------------------------------------------------------------------- */

static int play_in_scope(void *arg)
{
    struct move *m = arg;

    m->result = m->play(m, SLEY_FOREVER);
    return m->result == -ECANCELED ? -ECANCELED : 0;
}

static void play_move(struct player *p)
{
    static int (*const plays[])(struct move *, sley_time) = { play_replace, play_read, play_rename, play_link, play_unlink, play_truncate,
                                                              play_copy, play_list };
    struct move m = { .p = p, .play = plays[below(&p->random, sizeof plays / sizeof *plays)], .a = (int)below(&p->random, NAMES) };
    sley_time length = (sley_time)below(&p->random, 300) * SLEY_US;

    m.b = (m.a + 1 + (int)below(&p->random, NAMES - 1)) % NAMES;
    m.from = below(&p->random, 1000000);
    m.bytes = below(&p->random, below(&p->random, 4) == 0 ? BYTES_MAX : 300);
    switch (below(&p->random, 4)) {
    case 0:
        m.result = m.play(&m, sley_after(length));
        break;
    case 1: /* from above */
        if (sley_self() != 0) {
            sley_scope_run(play_in_scope, &m, sley_after(length));
            break;
        } /* fall through */
    default:
        m.result = m.play(&m, SLEY_FOREVER);
        EXPECT(!was_cut(m.result));
    }
    if (was_cut(m.result))
        cut_count++;
    else
        m.result < 0 ? refused_count++ : done_count++;
    EXPECT(is_as_modelled(p, m.a) && is_as_modelled(p, m.b));
}

static int play_on(void *arg)
{
    struct player *p = arg;

    EXPECT(mkdir(p->path, 0700) == 0);
    p->dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while ((done_count == 0 || sley_now() < end) && scene.unmet == NULL) /* something, however late it is */
        play_move(p);
    for (int i = 0; i < NAMES; i++) {
        EXPECT(is_as_modelled(p, i));
        unlinkat(p->dir, name_of(i), 0);
    }
    EXPECT(sley_close(p->dir) == 0 && rmdir(p->path) == 0); /* nothing else is in it */
    return 0;
}

static uint64_t seed;

static void play_all_of_them(void)
{
    static struct player players[PLAYERS];

    memset(players, 0, sizeof players);
    for (int i = 0; i < PLAYERS; i++) {
        struct player *p = &players[i];

        p->random = seed + (uint64_t)i;
        snprintf(p->path, sizeof p->path, "%s/player %d", temp_dir, i);
        actor_start_as(&p->actor, scene.cast == THREADS || (scene.cast == FIBER_AND_THREADS && i % 2), play_on, p);
    }
    for (int i = 0; i < PLAYERS; i++)
        EXPECT(actor_result(&players[i].actor) == 0);
}

static void what_was_done_is_done_and_what_was_cut_is_not(void **state)
{
    const char *ms = getenv("SLEY_TEST_MS");
    int before = count_descriptors();

    (void)state;
    seed = test_seed();
    for (size_t i = 0; i < sizeof casts / sizeof *casts; i++) {
        done_count = cut_count = refused_count = 0;
        end = sley_after((ms != NULL ? atoi(ms) : 1000) * SLEY_MS);
        play(play_all_of_them, casts[i]);
        print_message("%llu done, %llu cut, %llu refused\n", (unsigned long long)done_count, (unsigned long long)cut_count,
                      (unsigned long long)refused_count);
        assert_true(done_count > 0);
    }
    assert_int_equal(count_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_was_done_is_done_and_what_was_cut_is_not) };

    return cmocka_run_group_tests_name("stress_files", tests, make_temp_dir, remove_temp_dir);
}
