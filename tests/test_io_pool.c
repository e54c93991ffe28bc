/* test_io_pool.c - calls that the kernel has no operation for, or an old kernel has none for, wait for a thread of the pool: closing a
 * descriptor that they use, a deadline and a cancel end that, and nothing was done. */
#include "io_scenario.h"

#include "io/record.h"

#include <sley/blocking.h>

static struct {
    _Atomic(int) begun;
    sley_event go_on;
    struct actor holder;
} held;

static int hold(void *arg) /* on the only thread of the pool */
{
    (void)arg;
    held.begun = 1;
    EXPECT(sley_event_wait(&held.go_on, SLEY_FOREVER) == 0);
    return 0;
}

static int call_hold(void *arg) { return sley_blocking(hold, arg, SLEY_FOREVER); }

static void take_the_thread(void)
{
    memset(&held, 0, sizeof held);
    actor_start(&held.holder, call_hold, NULL);
    while (!held.begun)
        give_way();
}

static void give_the_thread_back(void)
{
    sley_event_set(&held.go_on);
    EXPECT(actor_result(&held.holder) == 0);
}

/* What the calls work on: two directories, a file in the first one, a link to it, an empty file. */
static struct { int dir, other, file, copy; } on;

static char buf[64];

static int do_rename(sley_time deadline) { return sley_renameat2(on.dir, "file", on.other, "file", 0, deadline); }
static int do_link(sley_time deadline) { return sley_linkat(on.dir, "file", on.other, "file", 0, deadline); }
static int do_link_back(sley_time deadline) { return sley_linkat(AT_FDCWD, temp_path("pool/file"), on.dir, "file2", 0, deadline); }
static int do_symlink(sley_time deadline) { return sley_symlinkat("file", on.dir, "soft2", deadline); }
static int do_readlink(sley_time deadline) { return sley_readlinkat(on.dir, "soft", buf, sizeof buf, deadline); }
static int do_unlink(sley_time deadline) { return sley_unlinkat(on.dir, "file", 0, deadline); }
static int do_mkdir(sley_time deadline) { return sley_mkdirat(on.dir, "sub", 0700, deadline); }
static int do_fdatasync(sley_time deadline) { return sley_fdatasync(on.file, deadline); }
static int do_sync_file_range(sley_time deadline) { return sley_sync_file_range(on.file, 0, 5, SYNC_FILE_RANGE_WRITE, deadline); }
static int do_fallocate(sley_time deadline) { return sley_fallocate(on.file, 0, 0, 100, deadline); }
static int do_ftruncate(sley_time deadline) { return sley_ftruncate(on.file, 5, deadline); }
static int do_fadvise(sley_time deadline) { return sley_fadvise(on.file, 0, 0, POSIX_FADV_DONTNEED, deadline); }
static int do_copy(sley_time deadline) { return sley_copy_file_range(on.file, NULL, on.copy, NULL, 5, 0, deadline); }

static const struct kind {
    int (*call)(sley_time deadline);
    int *fds[2]; /* of each of them a close ends the call */
} kinds[] = {
    { do_rename, { &on.dir, &on.other } },
    { do_link, { &on.dir, &on.other } },
    { do_link_back, { &on.dir } },
    { do_symlink, { &on.dir } },
    { do_readlink, { &on.dir } },
    { do_unlink, { &on.dir } },
    { do_mkdir, { &on.dir } },
    { do_fdatasync, { &on.file } },
    { do_sync_file_range, { &on.file } },
    { do_fallocate, { &on.file } },
    { do_ftruncate, { &on.file } },
    { do_fadvise, { &on.file } },
    { do_copy, { &on.file, &on.copy } },
};

static void open_all(void)
{
    EXPECT(mkdir(temp_path("pool"), 0700) == 0 && mkdir(temp_path("other"), 0700) == 0);
    on.file = make_file("pool/file", "0123456789", 10);
    on.copy = make_file("pool/copy", "", 0);
    EXPECT(symlink("file", temp_path("pool/soft")) == 0);
    on.dir = open(temp_path("pool"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    on.other = open(temp_path("other"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    memset(buf, 0xee, sizeof buf);
}

static int entries(const char *name)
{
    DIR *d = opendir(temp_path(name));
    int n = 0;

    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 2;
}

/* Nothing has changed. */
static void close_all(int closed)
{
    char bytes[16];
    struct stat st;
    int fd = open(temp_path("pool/file"), O_RDONLY | O_CLOEXEC);

    EXPECT(stat(temp_path("pool/copy"), &st) == 0 && st.st_size == 0);
    EXPECT(fd >= 0 && read(fd, bytes, sizeof bytes) == 10 && memcmp(bytes, "0123456789", 10) == 0 && close(fd) == 0);
    EXPECT(entries("pool") == 3 && entries("other") == 0 && is_untouched(buf, sizeof buf));
    EXPECT(on.file == closed || sley_close(on.file) == 0);
    EXPECT(on.copy == closed || sley_close(on.copy) == 0);
    EXPECT(on.dir == closed || sley_close(on.dir) == 0);
    EXPECT(on.other == closed || sley_close(on.other) == 0);
    EXPECT(unlink(temp_path("pool/file")) == 0 && unlink(temp_path("pool/soft")) == 0);
    EXPECT(unlink(temp_path("pool/copy")) == 0);
    EXPECT(rmdir(temp_path("pool")) == 0 && rmdir(temp_path("other")) == 0);
}

struct caller {
    struct actor actor;
    const struct kind *kind;
    sley_time deadline;
    sley_scope own;
    _Atomic(int) opened;
    int result;
};

static int caller_main(void *arg)
{
    struct caller *c = arg;

    sley_scope_init(&c->own, SLEY_FOREVER);
    c->opened = 1;
    c->result = c->kind->call(c->deadline);
    return sley_scope_wait(&c->own, 0, SLEY_FOREVER);
}

/* Start the call, and go on once it waits for the thread. */
static void start_call(struct caller *c, const struct kind *kind, sley_time deadline)
{
    *c = (struct caller){ .kind = kind, .deadline = deadline };
    actor_start(&c->actor, caller_main, c);
    while (!c->opened)
        give_way();
    EXPECT(call_waits(&c->actor));
}

/* Defines the cmocka test `name`: the body that follows, on an old kernel with a pool of one thread. */
#define ON_ONE_THREAD(name) \
    static void name##_body(void); \
    static void name(void **state) \
    { \
        int before = count_descriptors(); \
        (void)state; \
        play_on_old_kernel(name##_body, &(sley_options){ .blocking_threads_max = 1 }); \
        assert_int_equal(count_descriptors(), before); \
    } \
    static void name##_body(void)

ON_ONE_THREAD(close_ends_calls_that_wait_for_a_thread)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int at = 0; at < 2 && kinds[i].fds[at] != NULL; at++) {
            struct caller c;
            int fd;

            open_all();
            take_the_thread();
            start_call(&c, &kinds[i], SLEY_FOREVER);
            fd = *kinds[i].fds[at];
            EXPECT(sley_close(fd) == 0 && fcntl(fd, F_GETFD) < 0);
            EXPECT(actor_result(&c.actor) == 0 && c.result == -EBADF);
            give_the_thread_back();
            close_all(fd);
        }
}

ON_ONE_THREAD(a_cancel_ends_calls_that_wait_for_a_thread)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct caller c;

        open_all();
        take_the_thread();
        start_call(&c, &kinds[i], SLEY_FOREVER);
        sley_scope_cancel(&c.own);
        EXPECT(actor_result(&c.actor) == 0 && c.result == -ECANCELED);
        give_the_thread_back();
        close_all(-1);
    }
}

ON_ONE_THREAD(a_deadline_ends_calls_that_wait_for_a_thread)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct caller c = { .kind = &kinds[i], .deadline = sley_after(SLEY_MS) };

        open_all();
        take_the_thread();
        actor_start(&c.actor, caller_main, &c);
        EXPECT(actor_result(&c.actor) == 0 && c.result == -ETIMEDOUT);
        give_the_thread_back();
        close_all(-1);
    }
}

/* A job that has a thread, which may wait for ever: closing cuts it as one in a ring, by a signal. */
static int in_call(int fd)
{
    struct sl_record *r = sl_record_find(fd);
    int is;

    if (r == NULL)
        return 0;
    sl_lock_acquire(&r->lock);
    is = r->calls != NULL;
    sl_lock_release(&r->lock);
    return is;
}

static int open_a_fifo_below(void *arg)
{
    int fd;

    (void)arg;
    fd = sley_openat(on.dir, "fifo", O_WRONLY, 0, SLEY_FOREVER);
    return fd < 0 ? fd : sley_close(fd);
}

static int close_dir(void *arg) { (void)arg; return sley_close(on.dir); }

ON_ONE_THREAD(close_ends_a_call_that_has_a_thread)
{
    struct actor opener, closer;

    EXPECT(mkdir(temp_path("pool"), 0700) == 0 && mkfifo(temp_path("pool/fifo"), 0600) == 0);
    on.dir = open(temp_path("pool"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    actor_start(&opener, open_a_fifo_below, NULL);
    EXPECT(call_waits(&opener) && in_call(on.dir));
    actor_start(&closer, close_dir, NULL);
    EXPECT(actor_result(&opener) == -EBADF && actor_result(&closer) == 0 && fcntl(on.dir, F_GETFD) < 0);
    EXPECT(unlink(temp_path("pool/fifo")) == 0 && rmdir(temp_path("pool")) == 0);
}

/* Close and call at once, many times: the call is done, or it has done nothing. */
enum { RACES = 2000 };

ON_ONE_THREAD(close_races_with_a_call_and_its_turn)
{
    const struct kind readlink_kind = { do_readlink, { &on.dir } };
    uint64_t random = test_seed();

    for (int i = 0; i < RACES; i++) {
        struct caller c = { .kind = &readlink_kind, .deadline = SLEY_FOREVER };
        int busy = below(&random, 2) == 0;

        if (i == 0)
            open_all();
        else
            on.dir = open(temp_path("pool"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (busy)
            take_the_thread();
        actor_start(&c.actor, caller_main, &c);
        for (uint32_t turns = below(&random, 4); turns > 0; turns--)
            give_way();
        if (busy && below(&random, 2) == 0)
            sley_event_set(&held.go_on);
        EXPECT(sley_close(on.dir) == 0);
        if (busy)
            give_the_thread_back();
        EXPECT(actor_result(&c.actor) == 0 && (c.result == 4 || c.result == -EBADF));
        EXPECT(c.result == 4 ? memcmp(buf, "file", 4) == 0 : is_untouched(buf, sizeof buf));
        memset(buf, 0xee, sizeof buf);
    }
    close_all(on.dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(close_ends_calls_that_wait_for_a_thread),
        cmocka_unit_test(a_cancel_ends_calls_that_wait_for_a_thread),
        cmocka_unit_test(a_deadline_ends_calls_that_wait_for_a_thread),
        cmocka_unit_test(close_ends_a_call_that_has_a_thread),
        cmocka_unit_test(close_races_with_a_call_and_its_turn),
    };

    return cmocka_run_group_tests_name("io_pool", tests, make_temp_dir, remove_temp_dir);
}
