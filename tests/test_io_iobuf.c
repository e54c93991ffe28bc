/* test_io_iobuf.c - memory that is registered with every ring: reads and writes in it are the fixed ones by themselves, with O_DIRECT and
 * without, in runtimes that were there before and that come after; what is refused to it is ordinary memory. */
#include "child.h"
#include "io_scenario.h"

#include "event/buffers.h"
#include "plat/feature.h"

#include <grp.h>
#include <sley/obs.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum { BYTES = 1 << 18, PAGE = 4096 };

static unsigned char content[BYTES];

static uint64_t fixed_now(void)
{
    sley_stats s = { 0 };

    return sley_stats_read(NULL, &s, sizeof s) == 0 ? s.io_fixed : 0;
}

/* Whether the rings are told of the memory: a plain thread has none, nor has the epoll backend. */
static int registers(const sley_runtime *rt)
{
    return rt != NULL && rt->workers[0]->ring.epoll_fd < 0 && sl_feature_may(SL_FEATURE_REGISTERED_BUFFERS);
}

static int used_since(uint64_t before, uint64_t times)
{
    return fixed_now() - before >= (registers(sley_runtime_current()) ? times : 0);
}

static int is_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return 0;
    return 1;
}

static void make_cold(int fd) { EXPECT(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0); }

SCENARIO(buffers_are_pages_of_their_own)
{
    static const size_t sizes[] = { 0, 1, PAGE - 1, PAGE, PAGE + 1, 100000, BYTES };
    unsigned char *buf[sizeof sizes / sizeof *sizes];

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        buf[i] = sley_iobuf_alloc(sizes[i]);
        EXPECT(buf[i] != NULL && (uintptr_t)buf[i] % PAGE == 0);
        memset(buf[i], (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t at = 0; at < sizes[i]; at += 997)
            EXPECT(buf[i][at] == i + 1);
        sley_iobuf_free(buf[i]);
    }
    sley_iobuf_free(NULL);
    EXPECT(sley_iobuf_alloc(SIZE_MAX) == NULL && sley_iobuf_alloc(SIZE_MAX - 5000) == NULL);
    buf[0] = sley_iobuf_alloc(PAGE);
    EXPECT(buf[0] != NULL && (!sl_buffers_has(buf[0]) || is_zero(buf[0], PAGE))); /* what was there before is gone */
    sley_iobuf_free(buf[0]);
}

/* Write and read a file, whole and in pieces at any place of the buffer. 0: the file system has no O_DIRECT. */
static int write_and_read(unsigned char *buf, const char *name, int flags, size_t align)
{
    uint64_t random = 17;
    int fd = open(temp_path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);

    if (fd < 0 && errno == EINVAL)
        return 0;
    memcpy(buf, content, BYTES);
    EXPECT(sley_write_all(fd, buf, BYTES, SLEY_FOREVER) == 0);
    for (int i = 0; i < 60; i++) {
        size_t bytes = (1 + below(&random, BYTES / 4 / (uint32_t)align)) * align;
        size_t at = below(&random, (uint32_t)((BYTES - bytes) / align) + 1) * align;
        off_t from = (off_t)(below(&random, (uint32_t)((BYTES - bytes) / align) + 1) * align);

        if (i % 10 == 0)
            make_cold(fd);
        memset(buf, 0xee, BYTES);
        EXPECT(sley_pread(fd, buf + at, bytes, from, SLEY_FOREVER) == (int)bytes && memcmp(buf + at, content + from, bytes) == 0);
        EXPECT(is_untouched(buf, at) && is_untouched(buf + at + bytes, BYTES - at - bytes));
        EXPECT(sley_pwrite(fd, buf + at, bytes, from, SLEY_FOREVER) == (int)bytes);
    }
    EXPECT(lseek(fd, 0, SEEK_SET) == 0 && sley_read_all(fd, buf, BYTES, SLEY_FOREVER) == BYTES && memcmp(buf, content, BYTES) == 0);
    EXPECT(sley_close(fd) == 0);
    return 1;
}

SCENARIO(files_are_read_and_written_in_them)
{
    unsigned char *buf = sley_iobuf_alloc(BYTES);
    uint64_t before = fixed_now();

    write_and_read(buf, "buffered", 0, 1);
    EXPECT(used_since(before, 30));
    before = fixed_now();
    EXPECT(!write_and_read(buf, "direct", O_DIRECT, PAGE) || used_since(before, 60));
    sley_iobuf_free(buf);
}

SCENARIO(ordinary_memory_is_read_and_written_as_before)
{
    unsigned char *buf = aligned_alloc(PAGE, BYTES), *registered = sley_iobuf_alloc(PAGE);
    uint64_t before = fixed_now();

    write_and_read(buf, "ordinary", 0, 1);
    write_and_read(buf, "ordinary direct", O_DIRECT, PAGE);
    EXPECT(fixed_now() == before);
    sley_iobuf_free(registered);
    free(buf);
}

/* Other descriptors take them as any memory. */
SCENARIO(pipes_and_sockets_take_them)
{
    unsigned char *a = sley_iobuf_alloc(60000), *b = sley_iobuf_alloc(60000);
    struct io_call c = { .call = call_write_all, .buf = a, .bytes = 60000 };
    int fds[2];

    memcpy(a, content, 60000);
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            EXPECT(pipe2(fds, O_CLOEXEC) == 0);
        else
            make_pair(fds, SOCK_STREAM);
        memset(b, 0, 60000);
        c.fd = fds[1];
        actor_start(&c.actor, io_call_main, &c);
        EXPECT(sley_read_all(fds[0], b, 60000, SLEY_FOREVER) == 60000 && memcmp(a, b, 60000) == 0);
        EXPECT(io_call_result(&c) == 0 && sley_close(fds[0]) == 0 && sley_close(fds[1]) == 0);
    }
    sley_iobuf_free(a);
    sley_iobuf_free(b);
}

/* More than there are slots, and larger than one may be. */
SCENARIO(what_cannot_be_registered_is_memory_all_the_same)
{
    static unsigned char *many[SL_BUFFER_SLOTS + 50];
    size_t large = SL_BUFFER_BYTES_MAX + PAGE;
    unsigned char *buf = sley_iobuf_alloc(large);

    EXPECT(buf != NULL);
    buf[0] = buf[large - 1] = 1;
    write_and_read(buf + large - 2 * BYTES, "large", 0, 1);
    sley_iobuf_free(buf);
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
        many[i] = sley_iobuf_alloc(PAGE);
        EXPECT(many[i] != NULL);
        memset(many[i], (int)i, PAGE);
    }
    for (size_t i = 0; i < sizeof many / sizeof *many; i++) {
        EXPECT(many[i][0] == (unsigned char)i && many[i][PAGE - 1] == (unsigned char)i);
        sley_iobuf_free(many[i]);
    }
    buf = sley_iobuf_alloc(PAGE); /* there are slots again */
    EXPECT(sl_buffers_find(buf, PAGE) >= 0);
    sley_iobuf_free(buf);
}

enum { USERS = 8, ROUNDS = 10 };

static int use_again_and_again(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/user %llu", temp_dir, (unsigned long long)random);
    for (int i = 0; i < ROUNDS; i++) {
        size_t bytes = (1 + below(&random, 20)) * PAGE, from = below(&random, BYTES / 2);
        unsigned char *buf = sley_iobuf_alloc(bytes);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        memcpy(buf, content + from, bytes);
        EXPECT(sley_write_all(fd, buf, bytes, SLEY_FOREVER) == 0);
        make_cold(fd);
        memset(buf, 0, bytes);
        EXPECT(sley_pread(fd, buf, bytes, 0, SLEY_FOREVER) == (int)bytes && memcmp(buf, content + from, bytes) == 0);
        sley_iobuf_free(buf);
        EXPECT(sley_close(fd) == 0);
    }
    return unlink(path);
}

SCENARIO(many_take_and_give_at_once)
{
    struct actor users[USERS];
    uint64_t seeds[USERS], seed = test_seed();

    for (int i = 0; i < USERS; i++) {
        seeds[i] = seed + (uint64_t)i;
        actor_start(&users[i], use_again_and_again, &seeds[i]);
    }
    for (int i = 0; i < USERS; i++)
        EXPECT(actor_result(&users[i]) == 0);
}

/* --- runtimes ------------------------------------------------------------------------------------------------------------------ */

static struct { unsigned char *older, *newer; uint64_t fixed[2]; } shared;

static int use_both(void *arg)
{
    uint64_t *fixed = arg;

    write_and_read(shared.older, "older", 0, 1);
    write_and_read(shared.newer, "newer", O_DIRECT, PAGE);
    *fixed = fixed_now();
    return 0;
}

static void every_runtime_knows_every_buffer(void **state)
{
    sley_runtime *rt[2];

    (void)state;
    scene.unmet = NULL;
    scene.cast = FIBERS;
    memset(&shared, 0, sizeof shared);
    shared.older = sley_iobuf_alloc(BYTES); /* no runtime is there yet */
    assert_int_equal(sley_runtime_create(&rt[0], NULL), 0);
    assert_int_equal(sley_runtime_start(rt[0]), 0);
    shared.newer = sley_iobuf_alloc(BYTES);
    assert_int_equal(sley_runtime_create(&rt[1], NULL), 0);
    assert_int_equal(sley_runtime_start(rt[1]), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sley_runtime_submit(rt[i], use_both, &shared.fixed[i]), 0);
        assert_int_equal(sley_runtime_stop(rt[i], SLEY_FOREVER), 0);
        assert_true(shared.fixed[i] > 30 || !registers(rt[i]));
        sley_runtime_destroy(rt[i]);
    }
    sley_iobuf_free(shared.older);
    sley_iobuf_free(shared.newer);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* A forked child has the memory, and not the rings; the parent's pages are still those that its rings know. */
static int fork_in_between(void *arg)
{
    unsigned char *buf = sley_iobuf_alloc(BYTES);
    int fd = open(temp_path("forked"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), status = -1;
    pid_t pid;

    (void)arg;
    memcpy(buf, content, BYTES);
    pid = fork();
    if (pid == 0) {
        int ok = memcmp(buf, content, BYTES) == 0;

        buf[0]++;
        sley_iobuf_free(buf);
        buf = sley_iobuf_alloc(PAGE);
        ok = ok && buf != NULL && is_zero(buf, PAGE);
        _exit(ok ? 0 : 1);
    }
    EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    for (int i = 0; i < BYTES; i += PAGE)
        buf[i]++;
    EXPECT(sley_write_all(fd, buf, BYTES, SLEY_FOREVER) == 0);
    make_cold(fd);
    memset(buf, 0, BYTES);
    EXPECT(sley_pread(fd, buf, BYTES, 0, SLEY_FOREVER) == BYTES);
    for (int i = 0; i < BYTES; i += PAGE)
        buf[i]--;
    EXPECT(memcmp(buf, content, BYTES) == 0);
    sley_iobuf_free(buf);
    return sley_close(fd);
}

static void a_fork_leaves_buffers_to_both(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, fork_in_between, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* --- refusals, each in a process of its own ---------------------------------------------------------------------------------------- */

static int small_limits(void *arg)
{
    unsigned char *buf = sley_iobuf_alloc(BYTES);

    (void)arg;
    EXPECT(buf != NULL);
    write_and_read(buf, "limited", 0, 1);
    EXPECT(fixed_now() == 0);
    sley_iobuf_free(buf);
    buf = sley_iobuf_alloc(PAGE);
    EXPECT(buf != NULL);
    sley_iobuf_free(buf);
    return 0;
}

/* No privileges, and 256 KB that may be locked: the rings take most of it. */
static int with_little_locked_memory(void)
{
    struct rlimit little = { 256 << 10, 256 << 10 };
    int rc;

    if (setrlimit(RLIMIT_MEMLOCK, &little) != 0 || (getuid() == 0 && (chmod(temp_dir, 0777) != 0 || setgroups(0, NULL) != 0 ||
                                                                      setgid(65534) != 0 || setuid(65534) != 0)))
        return 77;
    rc = sley_run(&(sley_options){ .ring_entries = 16 }, small_limits, NULL);
    if (rc == -ENOMEM)
        return 77; /* others of this user have locked it all */
    if (rc != 0 || scene.unmet != NULL)
        fprintf(stderr, "result %d, line %d: expected %s\n", rc, scene.unmet_line, scene.unmet);
    return rc != 0 || scene.unmet != NULL;
}

static int with_few_addresses(void)
{
    struct rlimit few = { (rlim_t)8 << 30, (rlim_t)8 << 30 };

#if defined(SL_ASAN) || defined(SL_TSAN)
    return 77; /* their shadow has more already */
#endif
    if (setrlimit(RLIMIT_AS, &few) != 0)
        return 77;
    scene.cast = THREADS;
    buffers_are_pages_of_their_own_body();
    return scene.unmet != NULL;
}

static int touch_what_is_behind(void)
{
    unsigned char *buf = sley_iobuf_alloc(PAGE);

    signal(SIGSEGV, SIG_DFL);
    ((volatile unsigned char *)buf)[PAGE] = 1;
    return 0;
}

static int free_twice(void)
{
    void *buf = sley_iobuf_alloc(PAGE);

    sley_iobuf_free(buf);
    sley_iobuf_free(buf);
    return 0;
}

static int free_the_middle(void)
{
    sley_iobuf_free((char *)sley_iobuf_alloc(2 * PAGE) + PAGE);
    return 0;
}

static void ends_with_status(const char *what, int status)
{
    struct child c;

    run_child(&c, what, NULL);
    if (WIFEXITED(c.status) && WEXITSTATUS(c.status) == 77)
        skip();
    if (c.status != status)
        fail_msg("ended with %#x, not %#x: %s", c.status, status, c.said);
}

static void with_little_locked_memory_it_is_ordinary(void **state) { (void)state; ends_with_status("locked", 0); }
static void with_few_addresses_it_is_ordinary(void **state) { (void)state; ends_with_status("addresses", 0); }

static void what_is_behind_a_buffer_cannot_be_touched(void **state)
{
    struct child c;

    (void)state;
    run_child(&c, "behind", NULL);
    assert_true((WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGSEGV) || (WIFEXITED(c.status) && WEXITSTATUS(c.status) != 0));
}

static void misuse_aborts(void **state)
{
    (void)state;
    assert_aborts("twice", "sley_iobuf_free");
    assert_aborts("middle", "sley_iobuf_free");
}

int main(int argc, char **argv)
{
    static const struct { const char *name; int (*fn)(void); } children[] = {
        { "locked", with_little_locked_memory }, { "addresses", with_few_addresses }, { "behind", touch_what_is_behind },
        { "twice", free_twice }, { "middle", free_the_middle },
    };
    const struct CMUnitTest tests[] = {
        PLAYED(buffers_are_pages_of_their_own),
        PLAYED(files_are_read_and_written_in_them),
        PLAYED(ordinary_memory_is_read_and_written_as_before),
        PLAYED(pipes_and_sockets_take_them),
        PLAYED(what_cannot_be_registered_is_memory_all_the_same),
        PLAYED(many_take_and_give_at_once),
        cmocka_unit_test(every_runtime_knows_every_buffer),
        cmocka_unit_test(a_fork_leaves_buffers_to_both),
        cmocka_unit_test(with_little_locked_memory_it_is_ordinary),
        cmocka_unit_test(with_few_addresses_it_is_ordinary),
        cmocka_unit_test(what_is_behind_a_buffer_cannot_be_touched),
        cmocka_unit_test(misuse_aborts),
    };

    fill_pattern(content, sizeof content, 0);
    if (argc > 1) {
        int rc = 2;

        make_temp_dir(NULL);
        for (size_t i = 0; i < sizeof children / sizeof *children; i++)
            if (strcmp(argv[1], children[i].name) == 0)
                rc = children[i].fn();
        remove_temp_dir(NULL);
        return rc;
    }
    return cmocka_run_group_tests_name("io_iobuf", tests, make_temp_dir, remove_temp_dir);
}
