/* test_crawler_queue.c - the crawler's queue: order, join and task_done, and that no wait that ends early takes anything. */
#include "../scenario.h"
#include "../../examples/crawler/crawler.h"

struct entry {
    struct queue_entry entry; /* first */
    int number;
};

struct call {
    struct actor actor;
    struct queue *q;
    struct queue_entry *got;
};

static int do_get(void *arg)
{
    struct call *c = arg;
    return queue_get(c->q, &c->got, SLEY_FOREVER);
}

static int do_join(void *arg)
{
    struct call *c = arg;
    return queue_join(c->q, SLEY_FOREVER);
}

static void waiting(struct call *c, sley_fn *fn, struct queue *q)
{
    *c = (struct call){ .q = q };
    actor_start(&c->actor, fn, c);
    actor_waits(&c->actor);
}

static int get_now(struct queue *q)
{
    struct queue_entry *e = NULL;
    int rc = queue_get(q, &e, SLEY_NOW);

    return rc == 0 ? ((struct entry *)e)->number : rc;
}

SCENARIO(queue_that_nobody_used_is_joined_at_once)
{
    struct queue q;

    queue_init(&q);
    EXPECT(queue_join(&q, SLEY_NOW) == 0 && queue_join(&q, SLEY_FOREVER) == 0);
    EXPECT(get_now(&q) == -ETIMEDOUT && queue_length(&q) == 0);
}

SCENARIO(queue_gives_entries_in_the_order_in_which_they_came)
{
    struct entry e[5];
    struct queue q;

    queue_init(&q);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++) {
            e[i].number = i;
            queue_put(&q, &e[i].entry);
        }
        EXPECT(queue_length(&q) == 5);
        for (int i = 0; i < 5; i++)
            EXPECT(get_now(&q) == i);
        EXPECT(get_now(&q) == -ETIMEDOUT);
    }
}

SCENARIO(queue_is_joined_when_the_last_task_is_done_and_not_when_it_is_empty)
{
    struct entry e[3] = { { .number = 0 } };
    struct queue q;
    struct call join[2];

    queue_init(&q);
    queue_put(&q, &e[0].entry);
    queue_put(&q, &e[1].entry);
    for (int i = 0; i < 2; i++)
        waiting(&join[i], do_join, &q);
    EXPECT(get_now(&q) >= 0 && get_now(&q) >= 0);
    EXPECT(queue_join(&q, SLEY_NOW) == -ETIMEDOUT);
    queue_task_done(&q);
    queue_put(&q, &e[2].entry); /* what the second task leads to */
    queue_task_done(&q);
    EXPECT(queue_join(&q, SLEY_NOW) == -ETIMEDOUT);
    for (int i = 0; i < 2; i++)
        actor_waits(&join[i].actor); /* it still does */
    EXPECT(get_now(&q) >= 0);
    queue_task_done(&q);
    for (int i = 0; i < 2; i++)
        EXPECT(actor_result(&join[i].actor) == 0);

    queue_put(&q, &e[0].entry);
    EXPECT(queue_join(&q, SLEY_NOW) == -ETIMEDOUT); /* and again */
    EXPECT(get_now(&q) >= 0);
    queue_task_done(&q);
    EXPECT(queue_join(&q, SLEY_FOREVER) == 0);
}

SCENARIO(queue_get_waits_for_an_entry_and_each_goes_to_one)
{
    enum { MANY = 20 };
    static struct entry e[MANY];
    static struct call c[MANY];
    struct queue q;
    int seen[MANY] = { 0 };

    queue_init(&q);
    for (int i = 0; i < MANY; i++)
        waiting(&c[i], do_get, &q);
    for (int i = 0; i < MANY; i++) {
        e[i].number = i;
        queue_put(&q, &e[i].entry);
    }
    for (int i = 0; i < MANY; i++) {
        EXPECT(actor_result(&c[i].actor) == 0);
        seen[((struct entry *)c[i].got)->number]++;
    }
    for (int i = 0; i < MANY; i++)
        EXPECT(seen[i] == 1);
}

SCENARIO(queue_get_that_times_out_takes_nothing)
{
    struct queue_entry *got = NULL;
    struct entry e = { .number = 7 };
    struct queue q;

    queue_init(&q);
    EXPECT(queue_get(&q, &got, sley_after(SLEY_MS)) == -ETIMEDOUT && got == NULL);
    queue_put(&q, &e.entry);
    EXPECT(get_now(&q) == 7);
}

static void queue_waits_end_with_their_runtime_and_take_nothing(void **state)
{
    (void)state;
    for (int on_thread = 0; on_thread <= 1; on_thread++) {
        struct entry e = { .number = 7 };
        struct queue q;
        struct call c = { .q = &q };

        queue_init(&q);
        assert_int_equal(result_of_stopped(on_thread, do_get, &c), -ECANCELED);
        assert_null(c.got);
        queue_put(&q, &e.entry);
        assert_int_equal(result_of_stopped(on_thread, do_join, &c), -ECANCELED);
        assert_int_equal(get_now(&q), 7);
        queue_task_done(&q);
        assert_int_equal(queue_join(&q, SLEY_FOREVER), 0);
    }
}

/* --- workers that put as well as get, as the crawler's do ------------------------------------------------------------------------ */

enum { TREE = 5000, WORKERS = 8 };

static struct tree {
    struct queue q;
    struct entry entries[TREE];
    _Atomic(int) got[TREE];
} tree;

static int work(void *arg)
{
    struct queue_entry *e;
    int rc;

    (void)arg;
    while ((rc = queue_get(&tree.q, &e, SLEY_FOREVER)) == 0) {
        int n = ((struct entry *)e)->number;
        if (n < 0)
            return 0;
        tree.got[n]++;
        for (int child = 2 * n + 1; child <= 2 * n + 2 && child < TREE; child++) {
            tree.entries[child].number = child;
            queue_put(&tree.q, &tree.entries[child].entry);
        }
        queue_task_done(&tree.q);
    }
    return rc;
}

SCENARIO(queue_is_joined_once_all_that_came_of_the_first_entry_is_done)
{
    static struct actor workers[WORKERS];
    static struct entry end[WORKERS];

    queue_init(&tree.q);
    for (int i = 0; i < TREE; i++)
        tree.got[i] = 0;
    tree.entries[0].number = 0;
    queue_put(&tree.q, &tree.entries[0].entry);
    for (int i = 0; i < WORKERS; i++)
        actor_start(&workers[i], work, NULL);
    EXPECT(queue_join(&tree.q, SLEY_FOREVER) == 0);
    for (int i = 0; i < TREE; i++)
        EXPECT(tree.got[i] == 1);
    for (int i = 0; i < WORKERS; i++) {
        end[i].number = -1;
        queue_put(&tree.q, &end[i].entry);
    }
    for (int i = 0; i < WORKERS; i++)
        EXPECT(actor_result(&workers[i]) == 0);
}

static void queue_task_done_once_too_often_aborts(void **state)
{
    (void)state;
    assert_aborts("done", "queue_task_done: said more often than entries were put");
}

static void abuse(void)
{
    struct entry e;
    struct queue q;

    queue_init(&q);
    queue_put(&q, &e.entry);
    queue_task_done(&q);
    queue_task_done(&q);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        PLAYED(queue_that_nobody_used_is_joined_at_once),
        PLAYED(queue_gives_entries_in_the_order_in_which_they_came),
        PLAYED(queue_is_joined_when_the_last_task_is_done_and_not_when_it_is_empty),
        PLAYED(queue_get_waits_for_an_entry_and_each_goes_to_one),
        PLAYED(queue_get_that_times_out_takes_nothing),
        cmocka_unit_test(queue_waits_end_with_their_runtime_and_take_nothing),
        PLAYED(queue_is_joined_once_all_that_came_of_the_first_entry_is_done),
        cmocka_unit_test(queue_task_done_once_too_often_aborts),
    };

    (void)argv;
    if (argc > 1) {
        abuse();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
