/* test_big_stack.c - calls on a larger stack: that they have the room, that whatever a fiber does may be done there, nested calls, plain
 * threads, what is refused, the cache of free stacks, and whose overflow it is. */
#include "child.h"
#include "scenario.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "base/limits.h"
#include "ctx/stack.h"

/* ---- mappings that are counted, or not to be had ---- */

static struct {
    _Atomic(int) fail, maps, unmaps;
} mapping;

void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes);

void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t offset) /* mmap, with offsets of 64 bits */
{
    if (sl_load_relaxed(&mapping.fail)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    if (bytes >= SL_BIG_STACK_BYTES_MIN) /* not a worker's alternate stack */
        sl_add_relaxed(&mapping.maps, 1);
    return __real_mmap64(at, bytes, prot, flags, fd, offset);
}

int __wrap_munmap(void *at, size_t bytes)
{
    if (bytes >= SL_BIG_STACK_BYTES_MIN)
        sl_add_relaxed(&mapping.unmaps, 1);
    return __real_munmap(at, bytes);
}

/* ---- room ---- */

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static uintptr_t here(void) /* the real stack's address, also where the sanitizer keeps frames elsewhere */
{
    return (uintptr_t)__builtin_frame_address(0);
}

/* Use `bytes` of the stack, giving way now and then, and find them as they were. */
__attribute__((noinline)) static unsigned use_stack(size_t bytes, unsigned salt)
{
    volatile unsigned char frame[1024];
    unsigned sum = 0;

    for (size_t i = 0; i < sizeof frame; i += 64)
        frame[i] = (unsigned char)(salt + i);
    if (bytes % (64 * KIB) < 2 * KIB)
        give_way();
    if (bytes > 2 * KIB)
        sum = use_stack(bytes - 2 * KIB, salt + 1);
    for (size_t i = 0; i < sizeof frame; i += 64)
        sum += frame[i] != (unsigned char)(salt + i);
    return sum;
}

struct use {
    size_t bytes;
    unsigned salt;
    uintptr_t outside, inside;
    uint64_t self;
};

static int use(void *arg)
{
    struct use *u = arg;

    u->inside = here();
    u->self = sley_self();
    EXPECT(use_stack(u->bytes / 2, u->salt) == 0); /* frames are larger than what they hold */
    return 7;
}

SCENARIO(big_stack_has_the_room_that_was_asked_for)
{
    static const size_t sizes[] = { 1, 4 * KIB, 64 * KIB, 64 * KIB + 1, 300 * KIB, MIB, 5 * MIB, 8 * MIB, 40 * MIB };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct use u = { .bytes = sizes[i], .salt = (unsigned)i, .outside = here() };
        size_t apart;

        EXPECT(sley_on_big_stack(use, &u, sizes[i]) == 7);
        apart = u.inside > u.outside ? u.inside - u.outside : u.outside - u.inside;
        EXPECT(apart > 16 * KIB); /* on another stack, in a thread too */
        EXPECT(u.self == sley_self());
    }
}

static int use_big(void *arg)
{
    struct use *u = arg;

    for (int i = 0; i < 5; i++)
        EXPECT(sley_on_big_stack(use, u, u->bytes) == 7);
    return 0;
}

SCENARIO(big_stacks_of_many_at_once)
{
    enum { MANY = 40 };
    static struct use u[MANY];
    struct actor a[MANY];

    for (int i = 0; i < MANY; i++) {
        u[i] = (struct use){ .bytes = 256 * KIB << i % 3, .salt = (unsigned)i * 7 };
        actor_start(&a[i], use_big, &u[i]);
    }
    for (int i = 0; i < MANY; i++)
        EXPECT(actor_result(&a[i]) == 0);
}

/* ---- whatever a fiber does ---- */

static int key;

struct depth {
    int left;
    struct sley_chan *ch;
};

static int deeper(void *arg)
{
    struct depth *d = arg, below = { d->left - 1, d->ch };
    unsigned char own[256];
    int msg = 0;

    memset(own, d->left, sizeof own);
    EXPECT(sley_local_get(key) == &key);
    EXPECT(sley_sleep(SLEY_US) == 0);
    if (d->left > 0)
        EXPECT(sley_on_big_stack(deeper, &below, 100 * KIB << d->left) == d->left - 1);
    EXPECT(sley_chan_send(d->ch, &d->left, SLEY_FOREVER) == 0);
    EXPECT(sley_chan_recv(d->ch, &msg, SLEY_FOREVER) == 1 && msg >= 0);
    give_way();
    for (size_t i = 0; i < sizeof own; i++)
        EXPECT(own[i] == d->left);
    EXPECT(sley_local_get(key) == &key);
    return d->left;
}

static int dive(void *arg)
{
    struct depth d = { 4, arg };

    EXPECT(sley_local_set(key, &key) == 0);
    return sley_on_big_stack(deeper, &d, MIB);
}

SCENARIO(big_stack_calls_nest_and_wait)
{
    struct actor a[6];
    sley_chan *ch = sley_chan_create(sizeof(int), 6);

    key = sley_local_create(NULL);
    for (int i = 0; i < 6; i++)
        actor_start(&a[i], dive, ch);
    for (int i = 0; i < 6; i++)
        EXPECT(actor_result(&a[i]) == 4);
    sley_chan_destroy(ch);
    sley_local_destroy(key);
}

static int child(void *arg)
{
    sl_add_acq_rel((_Atomic(int) *)arg, 1);
    return sley_sleep(SLEY_FOREVER);
}

static int scopes_inside(void *arg)
{
    _Atomic(int) begun = 0;
    sley_scope s;

    (void)arg;
    sley_scope_init(&s, SLEY_FOREVER);
    for (int i = 0; i < 10; i++)
        EXPECT(sley_go(child, (void *)&begun) == 0);
    while (begun < 10)
        sley_yield();
    sley_scope_cancel(&s);
    EXPECT(sley_sleep(SLEY_S) == -ECANCELED);
    return sley_scope_wait(&s, 0, SLEY_FOREVER);
}

static int sleep_long(void *arg)
{
    (void)arg;
    return sley_sleep(1000 * SLEY_S);
}

static int run_sleep_long(void *arg)
{
    return sley_on_big_stack(sleep_long, arg, MIB);
}

static int return_argument(void *arg)
{
    return (int)(intptr_t)arg;
}

static int fiber_things(void *arg)
{
    sley_scope s;

    (void)arg;
    EXPECT(sley_on_big_stack(scopes_inside, NULL, MIB) == 0);
    EXPECT(sley_scope_run(run_sleep_long, NULL, sley_after(SLEY_MS)) == -ETIMEDOUT); /* a deadline around the call */
    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    EXPECT(sley_on_big_stack(return_argument, (void *)3, MIB) == 3); /* it does not wait: never cancelled */
    EXPECT(sley_on_big_stack(sleep_long, NULL, MIB) == -ECANCELED);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    return 0;
}

static void run_scenario(sley_fn *fn)
{
    scene.cast = FIBERS;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, fn, NULL), 0);
    if (scene.unmet != NULL)
        fail_msg("line %d: expected %s", scene.unmet_line, scene.unmet);
}

static void scopes_and_cancels_on_a_big_stack(void **state)
{
    (void)state;
    run_scenario(fiber_things);
}

static int look_at_errno(void *arg)
{
    (void)arg;
    EXPECT(errno == EXDEV);
    errno = ENOTTY;
    return 0;
}

SCENARIO(big_stack_call_leaves_errno_alone)
{
    errno = EXDEV;
    EXPECT(sley_on_big_stack(look_at_errno, NULL, MIB) == 0);
    EXPECT(errno == ENOTTY);
}

static int attach(void *rt)
{
    return sley_runtime_attach(rt);
}

static void thread_may_attach_on_a_big_stack(void **state)
{
    sley_runtime *rt;

    (void)state;
    assert_int_equal(sley_runtime_create(&rt, NULL), 0);
    assert_int_equal(sley_on_big_stack(attach, rt, MIB), 0);
    assert_ptr_equal(sley_runtime_current(), rt);
    sley_runtime_detach();
    sley_runtime_destroy(rt);
}

/* ---- refused ---- */

SCENARIO(big_stack_refuses_bad_arguments)
{
    EXPECT(sley_on_big_stack(return_argument, NULL, 0) == -EINVAL);
    EXPECT(sley_on_big_stack(return_argument, NULL, SL_BIG_STACK_BYTES_MAX + 1) == -EINVAL);
    EXPECT(sley_on_big_stack(return_argument, NULL, SIZE_MAX) == -EINVAL);
    EXPECT(sley_on_big_stack(NULL, NULL, MIB) == -EINVAL);
    EXPECT(sley_on_big_stack(return_argument, (void *)-5, SL_BIG_STACK_BYTES_MAX) == -5);
}

SCENARIO(big_stack_without_memory_is_an_error_of_the_call)
{
    mapping.fail = 1;
    EXPECT(sley_on_big_stack(return_argument, (void *)1, 256 * MIB) == -ENOMEM); /* more than the cache ever holds */
    mapping.fail = 0;
    EXPECT(sley_on_big_stack(return_argument, (void *)1, 256 * MIB) == 1);
}

/* ---- the cache ---- */

static int hold(void *arg)
{
    EXPECT(sley_event_wait(arg, SLEY_FOREVER) == 0);
    return 0;
}

static int call_hold(void *arg)
{
    return sley_on_big_stack(hold, arg, 4 * MIB);
}

static int cached(void *arg)
{
    enum { HELD = 10, KEPT = (int)(SL_BIG_STACK_CACHE_BYTES / (4 * MIB)) };
    struct actor a[HELD];
    sley_event go_on = { { 0 } };
    int maps, unmaps;

    (void)arg;
    for (int i = 0; i < HELD; i++)
        actor_start(&a[i], call_hold, &go_on);
    for (int i = 0; i < HELD; i++)
        actor_waits(&a[i]);
    unmaps = mapping.unmaps;
    sley_event_set(&go_on);
    for (int i = 0; i < HELD; i++)
        EXPECT(actor_result(&a[i]) == 0);
    EXPECT(mapping.unmaps - unmaps >= HELD - KEPT); /* and what smaller ones were there, or larger */
    maps = mapping.maps;
    for (int i = 0; i < 1000; i++)
        EXPECT(sley_on_big_stack(return_argument, (void *)4, 4 * MIB) == 4);
    EXPECT(mapping.maps == maps);
    for (int i = 0; i < 3; i++)
        EXPECT(sley_on_big_stack(return_argument, (void *)4, 64 * MIB) == 4); /* not kept: it alone would be too much */
    EXPECT(mapping.maps == maps + 3);
    return 0;
}

static void free_big_stacks_are_kept_within_bounds(void **state)
{
    (void)state;
    run_scenario(cached);
}

/* ---- after a fork ---- */

static int fork_inside(void *arg)
{
    int status;
    pid_t pid;

    (void)arg;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        _exit(sley_on_big_stack(return_argument, (void *)9, MIB));
    EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 9);
    return 2;
}

SCENARIO(big_stack_in_a_forked_child)
{
    EXPECT(sley_on_big_stack(fork_inside, NULL, MIB) == 2);
}

/* ---- bugs ---- */

static sley_scope left_open;

static int leave_a_scope(void *arg)
{
    (void)arg;
    sley_scope_init(&left_open, SLEY_FOREVER);
    return 0;
}

static int leave_a_scope_on_a_big_stack(void *arg)
{
    return sley_on_big_stack(leave_a_scope, arg, MIB);
}

static void scope_left_open_on_a_big_stack_aborts(void **state)
{
    (void)state;
    assert_aborts("scope", "sley_on_big_stack");
}

#if !defined(SL_ASAN) && !defined(SL_TSAN)
__attribute__((noinline)) static int without_end(volatile char *above)
{
    volatile char frame[512];

    frame[0] = above[0];
    sley_yield(); /* so that it overflows on whatever worker */
    return frame[0] == 0 ? without_end(frame) + frame[0] : 0;
}

static int overflow(void *arg)
{
    volatile char first = 0;

    (void)arg;
    return without_end(&first);
}

static int overflow_nested(void *arg)
{
    return sley_on_big_stack(overflow, arg, 256 * KIB);
}

static int overflow_by_name(void *arg)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    sley_fiber_set_name("recursive");
    return sley_on_big_stack(overflow_nested, arg, MIB);
}

static void overflow_of_a_big_stack_is_reported_as_the_fibers(void **state)
{
    static const char *const guards[][2] = { { "SLEY_GUARD=madvise", NULL }, { "SLEY_GUARD=mprotect", NULL } };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct child c;

        run_child(&c, "overflow", guards[i]);
        assert_said(&c, "sley: stack overflow in fiber \"recursive\" (number ");
        assert_said(&c, ", sley_on_big_stack of function 0x");
        assert_said(&c, " bytes with a guard of 16384; call it with more stack_bytes\n");
        assert_int_equal(lines_of(c.said), 1);
        assert_true(WIFSIGNALED(c.status));
        assert_int_equal(WTERMSIG(c.status), SIGSEGV);
    }
}

static int step_into_the_guard(void *arg)
{
    struct sl_stack_place place;

    (void)arg;
    if (!sl_stack_find((void *)here(), &place) || place.stack->use != SL_USE_CALL)
        _exit(3);
    *(uint64_t *)(void *)(place.stack->low - sizeof(uint64_t)) = 1; /* where the canary is */
    return 0;
}

static int damage(void *arg)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    sley_fiber_set_name("careless");
    return sley_on_big_stack(step_into_the_guard, arg, MIB);
}

static void overflow_of_a_big_stack_without_a_guard_is_found_at_its_end(void **state)
{
    static const char *const settings[] = { "SLEY_GUARD=canary", NULL };
    struct child c;

    (void)state;
    run_child(&c, "damage", settings);
    assert_said(&c, "sley: stack overflow in fiber \"careless\" (number ");
    assert_true(WIFSIGNALED(c.status));
    assert_int_equal(WTERMSIG(c.status), SIGABRT);
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(big_stack_has_the_room_that_was_asked_for),
        PLAYED(big_stacks_of_many_at_once),
        PLAYED(big_stack_calls_nest_and_wait),
        cmocka_unit_test(scopes_and_cancels_on_a_big_stack),
        PLAYED(big_stack_call_leaves_errno_alone),
        cmocka_unit_test(thread_may_attach_on_a_big_stack),
        PLAYED(big_stack_refuses_bad_arguments),
        PLAYED(big_stack_without_memory_is_an_error_of_the_call),
        cmocka_unit_test(free_big_stacks_are_kept_within_bounds),
        PLAYED(big_stack_in_a_forked_child),
        cmocka_unit_test(scope_left_open_on_a_big_stack_aborts),
#if !defined(SL_ASAN) && !defined(SL_TSAN)
        cmocka_unit_test(overflow_of_a_big_stack_is_reported_as_the_fibers),
        cmocka_unit_test(overflow_of_a_big_stack_without_a_guard_is_found_at_its_end),
#endif
    };

    if (argc > 1 && strcmp(argv[1], "scope") == 0)
        return sley_run(NULL, leave_a_scope_on_a_big_stack, NULL) < 0;
#if !defined(SL_ASAN) && !defined(SL_TSAN)
    if (argc > 1 && strcmp(argv[1], "overflow") == 0)
        return sley_run(NULL, overflow_by_name, NULL) < 0;
    if (argc > 1 && strcmp(argv[1], "damage") == 0)
        return sley_run(NULL, damage, NULL) < 0;
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
