/* test_version.c - the version a program was compiled against is the one it runs with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <sley/version.h>

static void version_number_is_that_of_the_header(void **state)
{
    (void)state;
    assert_int_equal(sley_version(), SLEY_VERSION);
}

static void version_string_begins_with_the_numbers(void **state)
{
    char numbers[32];
    size_t n = snprintf(numbers, sizeof numbers, "%d.%d.%d", SLEY_VERSION_MAJOR, SLEY_VERSION_MINOR, SLEY_VERSION_PATCH);
    const char *string = sley_version_string();

    (void)state;
    assert_memory_equal(string, numbers, n);
    assert_true(string[n] == '\0' || string[n] == ' '); /* a commit follows in a build from a checkout */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_number_is_that_of_the_header),
        cmocka_unit_test(version_string_begins_with_the_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
