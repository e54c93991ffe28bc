/* test_die.c - a caller's bug ends the program with one line that names fiber, worker and call. */
#include <sley.h>

#include "child.h"

static int unpin_unpinned(void *arg)
{
    (void)arg;
    sley_fiber_set_name("clumsy");
    sley_pin();
    sley_unpin();
    sley_unpin();
    return 0;
}

static int pin_without_end(void *arg)
{
    (void)arg;
    for (int i = 0; i < 65536; i++)
        sley_pin();
    return 0;
}

static int destroy_under_oneself(void *arg)
{
    (void)arg;
    sley_fiber_set_name("sawyer");
    sley_runtime_destroy(sley_runtime_current());
    return 0;
}

static const struct {
    const char *name;
    sley_fn *fn;
    const char *says;
} bugs[] = {
    { "unpin", unpin_unpinned, "\"clumsy\" on worker 0: sley_unpin: the fiber is not pinned\n" },
    { "pin", pin_without_end, "on worker 0: sley_pin: " },
    { "destroy", destroy_under_oneself, "\"sawyer\" on worker 0: sley_runtime_destroy: called on a fiber\n" },
};

static void check(int i)
{
    struct child c;

    run_child(&c, bugs[i].name, NULL);
    assert_true(WIFSIGNALED(c.status) && WTERMSIG(c.status) == SIGABRT);
    assert_said(&c, bugs[i].says);
    assert_ptr_equal(strstr(c.said, "sley: fiber "), c.said);
    assert_int_equal(lines_of(c.said), 1);
}

static void an_unpin_too_many_names_fiber_and_call(void **state)
{
    (void)state;
    check(0);
}

static void more_pins_than_can_be_counted_name_the_call(void **state)
{
    (void)state;
    check(1);
}

static void destroying_the_runtime_one_runs_on_names_the_call(void **state)
{
    (void)state;
    check(2);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unpin_too_many_names_fiber_and_call),
        cmocka_unit_test(more_pins_than_can_be_counted_name_the_call),
        cmocka_unit_test(destroying_the_runtime_one_runs_on_names_the_call),
    };

    for (size_t i = 0; argc == 2 && i < sizeof bugs / sizeof *bugs; i++)
        if (strcmp(argv[1], bugs[i].name) == 0)
            return sley_run(&(sley_options){ .workers = 1 }, bugs[i].fn, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
