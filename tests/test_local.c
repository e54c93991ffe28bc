/* test_local.c - fiber-local values: whose they are, what survives what, when their drops run, and keys that run out or are made anew. */
#include "scenario.h"

#include "base/limits.h"

/* ---- allocations that can be made to fail ---- */

static _Atomic(int) allocations_fail;

void *__real_calloc(size_t n, size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);

void *__wrap_calloc(size_t n, size_t bytes)
{
    return sl_load_relaxed(&allocations_fail) ? NULL : __real_calloc(n, bytes);
}

/* ---- a fiber or thread of its own ---- */

static int call(void *arg)
{
    struct actor *a = arg;

    a->result = a->fn(a->arg);
    return 0;
}

static void *call_thread(void *arg)
{
    call(arg);
    return NULL;
}

/* fn(arg) on a fiber or thread of its own; returns when that has wholly ended, drops and all. */
static int alone(sley_fn *fn, void *arg)
{
    struct actor a = { .fn = fn, .arg = arg };

    if (scene.cast == FIBERS) {
        sley_scope s;

        sley_scope_init(&s, SLEY_FOREVER);
        EXPECT(sley_scope_wait(&s, sley_go(call, &a), SLEY_FOREVER) == 0);
    } else {
        EXPECT(pthread_create(&a.thread, NULL, call_thread, &a) == 0);
        pthread_join(a.thread, NULL);
    }
    return a.result;
}

/* ---- drops ---- */

struct value {
    int key, drops;
    uint64_t of, by; /* sley_self of who set it, and of who dropped it */
    pthread_t thread;
    void *found;     /* under its key, by the drop */
};

static void note_drop(void *arg)
{
    struct value *v = arg;

    v->drops++;
    v->by = sley_self();
    v->thread = pthread_self();
    v->found = sley_local_get(v->key);
}

static int set_value(void *arg)
{
    struct value *v = arg;

    v->of = sley_self();
    return sley_local_set(v->key, v);
}

/* ---- set and get ---- */

static int set_and_get(void *arg)
{
    int key = *(int *)arg, x, y;

    EXPECT(sley_local_get(key) == NULL);
    EXPECT(sley_local_set(key, NULL) == 0 && sley_local_get(key) == NULL);
    EXPECT(sley_local_set(key, &x) == 0 && sley_local_get(key) == &x);
    EXPECT(sley_local_set(key, &y) == 0 && sley_local_get(key) == &y);
    EXPECT(sley_local_set(key, NULL) == 0 && sley_local_get(key) == NULL);
    EXPECT(sley_local_set(key, &x) == 0 && sley_local_get(key) == &x);
    return 0;
}

SCENARIO(local_is_null_until_it_is_set)
{
    int key = sley_local_create(NULL);

    EXPECT(key >= 0);
    for (int i = 0; i < 3; i++) /* whoever had the stack before */
        alone(set_and_get, &key);
    set_and_get(&key);
    sley_local_set(key, NULL);
    sley_local_destroy(key);
}

SCENARIO(local_of_a_key_that_is_none_is_refused)
{
    int key = sley_local_create(NULL), none[] = { -1, INT_MIN, SL_LOCAL_KEYS_MAX, INT_MAX, key };

    sley_local_destroy(key);
    sley_local_destroy(-EAGAIN); /* a create that has failed */
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        EXPECT(sley_local_set(none[i], &key) == -EINVAL && sley_local_set(none[i], NULL) == -EINVAL && sley_local_get(none[i]) == NULL);
}

enum { OWNERS = 40, KEYS = 7 };

static int keys[KEYS];

static int keep_own(void *arg)
{
    char *base = arg;

    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < KEYS; i++)
            EXPECT(sley_local_set(keys[i], base + round + i) == 0);
        give_way(); /* to another thread, perhaps */
        if (round % 8 == 0)
            EXPECT(sley_sleep(SLEY_US) == 0);
        for (int i = 0; i < KEYS; i++)
            EXPECT(sley_local_get(keys[i]) == base + round + i);
    }
    return 0;
}

SCENARIO(local_belongs_to_who_set_it)
{
    static char base[OWNERS][32];
    struct actor a[OWNERS];

    for (int i = 0; i < KEYS; i++)
        keys[i] = sley_local_create(NULL);
    for (int i = 0; i < OWNERS; i++)
        actor_start(&a[i], keep_own, base[i]);
    for (int i = 0; i < OWNERS; i++)
        EXPECT(actor_result(&a[i]) == 0);
    for (int i = 0; i < KEYS; i++)
        sley_local_destroy(keys[i]);
}

/* ---- many ---- */

static int many[SL_LOCAL_KEYS_MAX], many_count;

static int set_all(void *arg)
{
    char *base = arg;

    for (int i = many_count - 1; i >= 0; i -= 2)
        EXPECT(sley_local_set(many[i], base + i) == 0);
    for (int i = 0; i < many_count; i += 2)
        EXPECT(sley_local_set(many[i], base + i) == 0);
    for (int i = 0; i < many_count; i++)
        EXPECT(sley_local_get(many[i]) == base + i);
    return 0;
}

SCENARIO(local_keys_run_out_and_come_back)
{
    static char base[SL_LOCAL_KEYS_MAX + 1];

    while ((many[many_count] = sley_local_create(NULL)) >= 0)
        if (++many_count == SL_LOCAL_KEYS_MAX)
            break;
    EXPECT(many_count == SL_LOCAL_KEYS_MAX && sley_local_create(NULL) == -EAGAIN);
    EXPECT(alone(set_all, base) == 0);
    sley_local_destroy(many[17]);
    EXPECT(sley_local_create(NULL) == many[17] && sley_local_create(NULL) == -EAGAIN);
    while (many_count > 0)
        sley_local_destroy(many[--many_count]);
}

/* Against an array: keys that share places, values taken back, keys made anew. */
static int like_an_array(void *arg)
{
    enum { N = 64 };
    uint64_t random = *(uint64_t *)arg;
    int key[N];
    char *value[N] = { NULL };
    static char memory[1000];

    for (int i = 0; i < N; i++)
        EXPECT((key[i] = sley_local_create(NULL)) >= 0);
    for (int step = 0; step < 20000; step++) {
        unsigned i = below(&random, step % 4000 < 2000 ? N : 6) * 8 % N; /* now all, now some in the same place */

        i += below(&random, 2);
        switch (below(&random, 8)) {
        case 0:
            value[i] = NULL;
            EXPECT(sley_local_set(key[i], NULL) == 0);
            break;
        case 1:
            sley_local_destroy(key[i]);
            EXPECT((key[i] = sley_local_create(NULL)) >= 0);
            value[i] = NULL;
            break;
        case 2:
        case 3:
            value[i] = memory + 1 + below(&random, 900);
            EXPECT(sley_local_set(key[i], value[i]) == 0);
            break;
        default:
            EXPECT(sley_local_get(key[i]) == value[i]);
        }
    }
    for (int i = 0; i < N; i++) {
        EXPECT(sley_local_get(key[i]) == value[i]);
        sley_local_destroy(key[i]);
    }
    return 0;
}

SCENARIO(local_is_like_an_array_by_key)
{
    uint64_t seed = test_seed();

    EXPECT(alone(like_an_array, &seed) == 0);
}

static int run_out_of_memory(void *arg)
{
    int key[SL_LOCAL_FEW + 1], x, *first = arg;

    for (int i = 0; i <= SL_LOCAL_FEW; i++)
        EXPECT((key[i] = sley_local_create(NULL)) >= 0);
    sl_current();
    EXPECT(sley_local_set(*first, &x) == 0); /* a thread's table itself is from the heap */
    allocations_fail = 1;
    for (int i = 0; i < SL_LOCAL_FEW - 1; i++)
        EXPECT(sley_local_set(key[i], key + i) == 0);
    EXPECT(sley_local_set(key[SL_LOCAL_FEW], &x) == -ENOMEM && sley_local_get(key[SL_LOCAL_FEW]) == NULL);
    EXPECT(sley_local_set(key[SL_LOCAL_FEW], NULL) == 0);
    EXPECT(sley_local_set(key[0], NULL) == 0 && sley_local_set(key[SL_LOCAL_FEW], &x) == 0); /* one place has become free */
    allocations_fail = 0;
    EXPECT(sley_local_get(*first) == &x && sley_local_get(key[SL_LOCAL_FEW]) == &x);
    for (int i = 1; i < SL_LOCAL_FEW - 1; i++)
        EXPECT(sley_local_get(key[i]) == key + i);
    EXPECT(sley_local_set(key[0], &x) == 0 && sley_local_get(key[0]) == &x);
    for (int i = 0; i <= SL_LOCAL_FEW; i++)
        sley_local_destroy(key[i]);
    return 0;
}

SCENARIO(local_without_memory_keeps_what_there_is)
{
    int first = sley_local_create(NULL);

    EXPECT(alone(run_out_of_memory, &first) == 0);
    sley_local_destroy(first);
}

/* ---- the end ---- */

SCENARIO(local_is_dropped_by_its_owner_before_the_end_is_seen)
{
    struct value v = { .key = sley_local_create(note_drop) };

    EXPECT(alone(set_value, &v) == 0);
    EXPECT(v.drops == 1 && v.found == NULL && v.by == v.of && (v.by != 0) == (scene.cast == FIBERS));
    sley_local_destroy(v.key);
}

static struct value taken_back, replaced, kept;

static int take_back_and_replace(void *arg)
{
    int key = *(int *)arg, other = sley_local_create(note_drop);

    taken_back = (struct value){ .key = key };
    replaced = (struct value){ .key = other };
    kept = (struct value){ .key = other };
    EXPECT(sley_local_set(key, &taken_back) == 0 && sley_local_set(key, NULL) == 0);
    EXPECT(sley_local_set(other, &replaced) == 0 && sley_local_set(other, &kept) == 0);
    return other;
}

SCENARIO(local_taken_back_or_replaced_is_not_dropped)
{
    int key = sley_local_create(note_drop), other;

    other = alone(take_back_and_replace, &key);
    EXPECT(taken_back.drops == 0 && replaced.drops == 0 && kept.drops == 1);
    sley_local_destroy(key);
    sley_local_destroy(other);
}

static int fill_all(void *arg)
{
    struct value *v = arg;

    for (int i = 0; i < 20; i++)
        EXPECT(set_value(&v[i]) == 0);
    return -EIO;
}

SCENARIO(local_drops_run_once_each_whatever_the_result)
{
    struct value v[20] = { { 0 } };

    for (int i = 0; i < 20; i++)
        v[i].key = sley_local_create(note_drop);
    EXPECT(alone(fill_all, v) == -EIO);
    for (int i = 0; i < 20; i++) {
        EXPECT(v[i].drops == 1 && v[i].by == v[i].of);
        sley_local_destroy(v[i].key);
    }
}

static struct { int key, drops, last; } chain; /* a value that sets itself anew until `last` */

static void drop_and_set_again(void *arg)
{
    if (++chain.drops != chain.last)
        EXPECT(sley_local_set(chain.key, arg) == 0);
}

static int set_chain(void *arg)
{
    return sley_local_set(chain.key, arg);
}

SCENARIO(local_set_by_a_drop_is_dropped_within_bounds)
{
    int x;

    chain.key = sley_local_create(drop_and_set_again);
    chain.drops = 0;
    chain.last = 2;
    EXPECT(alone(set_chain, &x) == 0 && chain.drops == 2);
    chain.drops = 0;
    chain.last = -1;
    EXPECT(alone(set_chain, &x) == 0 && chain.drops == SL_LOCAL_DROP_ROUNDS);
    sley_local_destroy(chain.key);
}

static struct value late[20];

static void drop_and_set_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++)
        EXPECT(sley_local_set(late[i].key, &late[i]) == 0);
}

SCENARIO(local_drop_may_make_the_table_grow)
{
    int key = sley_local_create(drop_and_set_many);

    chain.key = key;
    memset(late, 0, sizeof late);
    for (int i = 0; i < 20; i++)
        late[i].key = sley_local_create(note_drop);
    EXPECT(alone(set_chain, &key) == 0);
    for (int i = 0; i < 20; i++) {
        EXPECT(late[i].drops == 1);
        sley_local_destroy(late[i].key);
    }
    sley_local_destroy(key);
}

static struct { int key, rc_sleep, rc_yield; uint64_t by; } waiting;

static void drop_and_wait(void *arg)
{
    (void)arg;
    waiting.rc_sleep = sley_sleep(SLEY_US);
    waiting.rc_yield = sley_yield();
    waiting.by = sley_self();
}

static int set_waiting(void *arg)
{
    *(uint64_t *)arg = sley_self();
    return sley_local_set(waiting.key, arg);
}

SCENARIO(local_drop_may_wait)
{
    uint64_t self = 0;

    waiting.key = sley_local_create(drop_and_wait);
    waiting.rc_sleep = waiting.rc_yield = -1;
    EXPECT(alone(set_waiting, &self) == 0);
    EXPECT(waiting.rc_sleep == 0 && waiting.rc_yield == 0 && waiting.by == self);
    sley_local_destroy(waiting.key);
}

static int in_a_cancelled_scope(void *arg)
{
    uint64_t self = 0;
    sley_scope s;

    (void)arg;
    waiting.key = sley_local_create(drop_and_wait);
    waiting.rc_sleep = waiting.rc_yield = 1;
    sley_scope_init(&s, SLEY_FOREVER);
    sley_scope_cancel(&s);
    EXPECT(sley_go(set_waiting, &self) == 0);
    EXPECT(sley_scope_wait(&s, 0, SLEY_FOREVER) == 0);
    EXPECT(waiting.rc_sleep == -ECANCELED && waiting.rc_yield == -ECANCELED && waiting.by == self && self != 0);
    sley_local_destroy(waiting.key);
    return 0;
}

static void local_is_dropped_in_a_cancelled_scope_too(void **state)
{
    (void)state;
    scene.cast = FIBERS;
    scene.unmet = NULL;
    assert_int_equal(sley_run(NULL, in_a_cancelled_scope, NULL), 0);
    assert_null(scene.unmet);
}

/* ---- keys that are made anew ---- */

static int key_made_anew(void *arg)
{
    struct value old = { .key = sley_local_create(note_drop) }, *fresh = arg;

    EXPECT(sley_local_set(old.key, &old) == 0);
    sley_local_destroy(old.key);
    fresh->key = sley_local_create(note_drop);
    EXPECT(fresh->key == old.key && sley_local_get(fresh->key) == NULL);
    EXPECT(set_value(fresh) == 0 && sley_local_get(fresh->key) == fresh);
    return old.drops;
}

static int value_of_a_dead_key(void *arg)
{
    struct value *v = arg;

    v->key = sley_local_create(note_drop);
    EXPECT(set_value(v) == 0);
    sley_local_destroy(v->key);
    v->key = sley_local_create(note_drop); /* never set */
    return 0;
}

SCENARIO(local_of_a_destroyed_key_is_never_seen_or_dropped_again)
{
    struct value fresh = { 0 }, dead = { 0 };

    EXPECT(alone(key_made_anew, &fresh) == 0 && fresh.drops == 1);
    sley_local_destroy(fresh.key);
    EXPECT(alone(value_of_a_dead_key, &dead) == 0 && dead.drops == 0);
    sley_local_destroy(dead.key);
}

static int create_and_destroy(void *arg)
{
    for (int i = 0; i < 300; i++) {
        int key = sley_local_create(NULL);

        EXPECT(key >= 0 && sley_local_get(key) == NULL);
        EXPECT(sley_local_set(key, arg) == 0);
        give_way();
        EXPECT(sley_local_get(key) == arg);
        sley_local_destroy(key);
    }
    return 0;
}

SCENARIO(local_keys_are_made_by_many_at_once)
{
    struct actor a[4];

    for (int i = 0; i < 4; i++)
        actor_start(&a[i], create_and_destroy, &a[i]);
    for (int i = 0; i < 4; i++)
        EXPECT(actor_result(&a[i]) == 0);
}

/* ---- bugs ---- */

static int destroy_twice(void *arg)
{
    int key = sley_local_create(NULL);

    (void)arg;
    sley_local_destroy(key);
    sley_local_destroy(key);
    return 0;
}

static void leave_a_shield(void *arg)
{
    (void)arg;
    sley_shield_begin();
}

static int drop_that_leaves_a_shield(void *arg)
{
    return sley_local_set(sley_local_create(leave_a_shield), arg);
}

static void local_destroyed_twice_aborts(void **state)
{
    (void)state;
    assert_aborts("destroy", "sley_local_destroy");
}

static void local_drop_that_leaves_a_shield_open_aborts(void **state)
{
    (void)state;
    assert_aborts("shield", "sley_shield_begin");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(local_is_null_until_it_is_set),
        PLAYED(local_of_a_key_that_is_none_is_refused),
        PLAYED(local_belongs_to_who_set_it),
        PLAYED(local_keys_run_out_and_come_back),
        PLAYED(local_is_like_an_array_by_key),
        PLAYED(local_without_memory_keeps_what_there_is),
        PLAYED(local_is_dropped_by_its_owner_before_the_end_is_seen),
        PLAYED(local_taken_back_or_replaced_is_not_dropped),
        PLAYED(local_drops_run_once_each_whatever_the_result),
        PLAYED(local_set_by_a_drop_is_dropped_within_bounds),
        PLAYED(local_drop_may_make_the_table_grow),
        PLAYED(local_drop_may_wait),
        cmocka_unit_test(local_is_dropped_in_a_cancelled_scope_too),
        PLAYED(local_of_a_destroyed_key_is_never_seen_or_dropped_again),
        PLAYED(local_keys_are_made_by_many_at_once),
        cmocka_unit_test(local_destroyed_twice_aborts),
        cmocka_unit_test(local_drop_that_leaves_a_shield_open_aborts),
    };

    if (argc > 1 && strcmp(argv[1], "destroy") == 0)
        return sley_run(NULL, destroy_twice, NULL) < 0;
    if (argc > 1 && strcmp(argv[1], "shield") == 0)
        return sley_run(NULL, drop_that_leaves_a_shield, &argc) < 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
