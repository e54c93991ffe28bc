/* test_io_lock.c - flock with a deadline: who waits gets it once, or has not got it; no lock is left over. Linked with --wrap, so that
 * there is no thread to wait on where a test wants that. */
#include "io_scenario.h"

#include "io/record.h"
#include "sched/blocking.h"

#include <sys/file.h>

static _Atomic(int) none_to_share;

bool __real_sl_blocking_share_begin(void);
bool __wrap_sl_blocking_share_begin(void);

bool __wrap_sl_blocking_share_begin(void)
{
    return !none_to_share && __real_sl_blocking_share_begin();
}

/* Another open file description of it. */
static int open_again(const char *name)
{
    char path[PATH_MAX];
    int fd;

    snprintf(path, sizeof path, "%s/%s", temp_dir, name); /* many do so at once */
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT(fd >= 0);
    return fd;
}

static int is_free(const char *name)
{
    int fd = open_again(name), rc = flock(fd, LOCK_EX | LOCK_NB);

    EXPECT(close(fd) == 0);
    return rc == 0;
}

static int call_flock(struct io_call *c) { return sley_flock(c->fd, c->flags, c->deadline); }

SCENARIO(a_lock_is_had_by_one_or_shared)
{
    int a = open_again("lock"), b = open_again("lock");

    EXPECT(sley_flock(a, LOCK_EX, SLEY_FOREVER) == 0);
    EXPECT(sley_flock(b, LOCK_EX, SLEY_NOW) == -ETIMEDOUT && sley_flock(b, LOCK_SH | LOCK_NB, SLEY_FOREVER) == -EAGAIN);
    EXPECT(sley_flock(b, LOCK_SH, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_flock(a, LOCK_SH, SLEY_FOREVER) == 0 && sley_flock(b, LOCK_SH, SLEY_NOW) == 0);
    EXPECT(sley_flock(a, LOCK_EX, SLEY_NOW) == -ETIMEDOUT); /* it has lost its share */
    EXPECT(sley_flock(b, LOCK_EX, SLEY_NOW) == 0);
    EXPECT(sley_flock(b, LOCK_UN, SLEY_NOW) == 0 && sley_flock(b, LOCK_UN | LOCK_NB, SLEY_S) == 0 && is_free("lock"));
    EXPECT(sley_close(a) == 0 && sley_close(b) == 0);
}

SCENARIO(who_waits_gets_it)
{
    int a = open_again("waited"), b = open_again("waited");
    struct io_call c = { .call = call_flock, .fd = b, .flags = LOCK_EX };

    EXPECT(sley_flock(a, LOCK_SH, SLEY_FOREVER) == 0);
    io_call_start(&c);
    EXPECT(sley_flock(a, LOCK_UN, SLEY_FOREVER) == 0 && io_call_result(&c) == 0 && !is_free("waited"));
    c.fd = a;
    c.flags = LOCK_SH;
    io_call_start(&c);
    EXPECT(sley_close(b) == 0 && io_call_result(&c) == 0); /* closing gives it back as well */
    EXPECT(sley_close(a) == 0 && is_free("waited"));
}

SCENARIO(a_file_may_be_anything_that_is_open)
{
    int dir = open(temp_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path = open(temp_dir, O_PATH | O_CLOEXEC), p[2], again;

    EXPECT(pipe2(p, O_CLOEXEC) == 0);
    again = open(temp_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(sley_flock(dir, LOCK_EX, SLEY_FOREVER) == 0 && sley_flock(again, LOCK_EX, sley_after(SLEY_MS)) == -ETIMEDOUT);
    EXPECT(sley_flock(p[0], LOCK_EX, SLEY_NOW) == 0 && sley_flock(path, LOCK_EX, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_flock(dir, 0, SLEY_FOREVER) == -EINVAL && sley_flock(dir, LOCK_SH | LOCK_EX, SLEY_FOREVER) == -EINVAL);
    EXPECT(sley_flock(dir, LOCK_EX, SLEY_S) == -EINVAL && sley_flock(-1, LOCK_UN, SLEY_FOREVER) == -EBADF);
    EXPECT(sley_close(dir) == 0 && sley_close(again) == 0 && sley_close(path) == 0 && sley_close(p[0]) == 0 && sley_close(p[1]) == 0);
    EXPECT(sley_flock(dir, LOCK_EX, SLEY_FOREVER) == -EBADF);
}

/* Many want it, with deadlines of any length: no two have it, and all is as it was at the end. */
enum { RIVALS = 12, TURNS = 8 };

static struct { _Atomic(int) inside, had, late; } contest;

static int compete(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    int fd = open_again("contested");

    for (int i = 0; i < TURNS; i++) {
        sley_time deadline = below(&random, 2) == 0 ? SLEY_FOREVER : sley_after((sley_time)below(&random, 3000) * SLEY_US);
        int rc = sley_flock(fd, LOCK_EX, deadline);

        EXPECT(rc == 0 || (rc == -ETIMEDOUT && deadline != SLEY_FOREVER));
        if (rc < 0) {
            contest.late++;
            continue;
        }
        EXPECT(contest.inside++ == 0);
        contest.had++;
        for (uint32_t turns = below(&random, 5); turns > 0; turns--)
            give_way();
        contest.inside--;
        EXPECT(sley_flock(fd, LOCK_UN, SLEY_FOREVER) == 0);
    }
    return sley_close(fd);
}

SCENARIO(no_two_have_it_at_once)
{
    struct actor rivals[RIVALS];
    uint64_t seeds[RIVALS], seed = test_seed();
    int before = count_descriptors();

    memset(&contest, 0, sizeof contest);
    for (int i = 0; i < RIVALS; i++) {
        seeds[i] = seed + (uint64_t)i;
        actor_start(&rivals[i], compete, &seeds[i]);
    }
    for (int i = 0; i < RIVALS; i++)
        EXPECT(actor_result(&rivals[i]) == 0);
    EXPECT(contest.had + contest.late == RIVALS * TURNS && is_free("contested"));
    EXPECT(count_descriptors() == before);
}

/* The wait is cut while the lock is given back: it is had, or it is not, and what is said is so. */
enum { RACES = 300 };

SCENARIO(a_deadline_that_races_with_the_lock_loses_none)
{
    uint64_t random = test_seed();
    int a = open_again("raced"), b = open_again("raced");

    for (int i = 0; i < RACES; i++) {
        struct io_call c = { .call = call_flock, .fd = b, .flags = LOCK_EX, .deadline = sley_after(below(&random, 400) * SLEY_US) };
        int rc;

        EXPECT(flock(a, LOCK_EX) == 0);
        actor_start(&c.actor, io_call_main, &c);
        for (uint32_t turns = below(&random, 20); turns > 0; turns--)
            give_way();
        EXPECT(flock(a, LOCK_UN) == 0);
        rc = io_call_result(&c);
        EXPECT((rc == 0 && !is_free("raced")) || (rc == -ETIMEDOUT && is_free("raced")));
        EXPECT(flock(b, LOCK_UN) == 0);
    }
    EXPECT(sley_close(a) == 0 && sley_close(b) == 0);
}

/* A copy of the descriptor stays open: the lock may not stay with it. */
SCENARIO(close_ends_the_wait_and_leaves_no_lock)
{
    uint64_t random = 5;
    int a = open_again("closed");

    for (int i = 0; i < 50; i++) {
        int b = open_again("closed"), copy = fcntl(b, F_DUPFD_CLOEXEC, 0), rc;
        struct io_call c = { .call = call_flock, .fd = b, .flags = LOCK_EX };

        EXPECT(flock(a, LOCK_EX) == 0);
        io_call_start(&c);
        if (i % 2 == 0) {
            EXPECT(sley_close(b) == 0 && io_call_result(&c) == -EBADF && flock(a, LOCK_UN) == 0);
        } else {
            EXPECT(flock(a, LOCK_UN) == 0);
            for (uint32_t turns = below(&random, 5); turns > 0; turns--)
                give_way();
            EXPECT(sley_close(b) == 0);
            rc = io_call_result(&c);
            EXPECT(rc == 0 || rc == -EBADF);
            if (rc == 0)
                EXPECT(!is_free("closed") && flock(copy, LOCK_UN) == 0);
        }
        EXPECT(is_free("closed") && sley_close(copy) == 0);
    }
    EXPECT(sley_close(a) == 0);
}

static int unlock_when_cancelled(void *arg)
{
    int fd = *(int *)arg;

    while (sley_yield() == 0)
        ;
    EXPECT(sley_flock(fd, LOCK_EX, SLEY_FOREVER) == 0); /* it has it already: nothing to wait for */
    for (int i = 0; i < 3 * SL_DIRECT_STREAK; i++)
        EXPECT(sley_flock(fd, LOCK_UN, SLEY_FOREVER) == 0);
    return 0;
}

static int play_cancelled(void *arg)
{
    sley_scope s;
    int fd = open_again("given back");

    (void)arg;
    EXPECT(sley_flock(fd, LOCK_EX, SLEY_FOREVER) == 0);
    sley_scope_init(&s, SLEY_FOREVER);
    EXPECT(sley_scope_go(&s, unlock_when_cancelled, &fd) == 0);
    sley_scope_cancel(&s);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && is_free("given back"));
    return sley_close(fd);
}

static void a_lock_is_given_back_in_a_cancelled_scope(void **state)
{
    (void)state;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, play_cancelled, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

static void without_a_thread_it_is_looked_for_now_and_then(void **state)
{
    (void)state;
    none_to_share = 1;
    play_all(a_lock_is_had_by_one_or_shared_body);
    play_all(who_waits_gets_it_body);
    play_all(no_two_have_it_at_once_body);
    play_all(a_deadline_that_races_with_the_lock_loses_none_body);
    play_all(close_ends_the_wait_and_leaves_no_lock_body);
    none_to_share = 0;
}

/* More wait than there are threads; who holds the lock needs one before it gives it back. */
enum { CROWD = 12 };

static int lock_and_unlock(void *arg)
{
    int fd = open_again("crowd"), rc = sley_flock(fd, LOCK_EX, SLEY_FOREVER);

    (void)arg;
    if (rc == 0)
        rc = sley_flock(fd, LOCK_UN, SLEY_FOREVER);
    EXPECT(sley_close(fd) == 0);
    return rc;
}

static int returns_five(void *arg)
{
    (void)arg;
    return 5;
}

static int play_crowd(void *arg)
{
    int fd = open_again("crowd");
    sley_scope s;

    (void)arg;
    EXPECT(sley_flock(fd, LOCK_EX, SLEY_FOREVER) == 0);
    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < CROWD; i++)
        EXPECT(sley_go(lock_and_unlock, NULL) == 0);
    for (int i = 0; i < 3 * CROWD; i++)
        give_way();
    EXPECT(sley_blocking(returns_five, NULL, SLEY_FOREVER) == 5);
    EXPECT(sley_flock(fd, LOCK_UN, SLEY_FOREVER) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0 && is_free("crowd"));
    return sley_close(fd);
}

static void who_waits_leaves_threads_to_who_holds_it(void **state)
{
    (void)state;
    scene.unmet = NULL;
    for (uint32_t threads = 1; threads <= 4; threads++)
        assert_int_equal(sley_run(&(sley_options){ .blocking_threads_max = threads }, play_crowd, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

/* A file system of another machine: what the library knows of the file does not say that asking is quick. */
static void ask_far_away(void)
{
    int a = open_again("far"), b = open_again("far");
    struct io_call c = { .call = call_flock, .fd = b, .flags = LOCK_EX };

    EXPECT(sley_flock(a, LOCK_UN, SLEY_FOREVER) == 0 && sley_flock(b, LOCK_UN, SLEY_FOREVER) == 0);
    sl_store_relaxed(&sl_record_find(a)->hints, SL_FD_FILE);
    sl_store_relaxed(&sl_record_find(b)->hints, SL_FD_FILE);
    EXPECT(sley_flock(a, LOCK_EX, SLEY_FOREVER) == 0 && sley_flock(a, LOCK_EX, SLEY_NOW) == (scene.cast == THREADS ? 0 : -EOPNOTSUPP));
    EXPECT(sley_flock(b, LOCK_EX | LOCK_NB, SLEY_FOREVER) == -EAGAIN && sley_flock(b, LOCK_SH, sley_after(SLEY_MS)) == -ETIMEDOUT);
    io_call_start(&c);
    EXPECT(sley_flock(a, LOCK_UN, SLEY_FOREVER) == 0 && io_call_result(&c) == 0);
    c.fd = a;
    io_call_start(&c);
    EXPECT(sley_close(a) == 0 && io_call_result(&c) == -EBADF);
    EXPECT(sley_flock(b, LOCK_UN, SLEY_FOREVER) == 0 && is_free("far") && sley_close(b) == 0);
}

static void a_lock_far_away_is_asked_for_on_the_pool(void **state)
{
    (void)state;
    play_all(ask_far_away);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_lock_is_had_by_one_or_shared),
        PLAYED(who_waits_gets_it),
        PLAYED(a_file_may_be_anything_that_is_open),
        PLAYED(no_two_have_it_at_once),
        PLAYED(a_deadline_that_races_with_the_lock_loses_none),
        PLAYED(close_ends_the_wait_and_leaves_no_lock),
        cmocka_unit_test(a_lock_is_given_back_in_a_cancelled_scope),
        cmocka_unit_test(without_a_thread_it_is_looked_for_now_and_then),
        cmocka_unit_test(who_waits_leaves_threads_to_who_holds_it),
        cmocka_unit_test(a_lock_far_away_is_asked_for_on_the_pool),
    };

    return cmocka_run_group_tests_name("io_lock", tests, make_temp_dir, remove_temp_dir);
}
