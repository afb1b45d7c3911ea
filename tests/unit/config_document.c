// docs/configuration.md is what the table of keys says, and the sample names only keys that exist.
#include "config/keys.h"
#include "tests/unit/file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// cmocka wants the four above before it
#include <cmocka.h>

static void document_is_the_table(void **state)
{
    struct buffer made;
    buffer_init(&made);
    assert_true(config_key_document(&made));
    struct view doc = file_read("docs/configuration.md");
    assert_non_null(doc.p);
    struct view v = buffer_view(&made);
    const char *from = strstr(doc.p, "## Top of the file");
    if (!from || strlen(from) != v.n || memcmp(from, v.p, v.n) != 0)
        fail_msg(
            "docs/configuration.md differs from the table: see config/README.md, \"A new key\"");
    buffer_deinit(&made);
    file_free(doc);
}

static void rows_are_whole(void **state)
{
    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];
        char expects[200];
        config_key_expects(k, expects, sizeof(expects));
        assert_true(strlen(expects) >= 5 && strlen(expects) < sizeof(expects) - 1);
        assert_true(k->doc && strlen(k->doc) > 10);
        assert_ptr_equal(config_key_find(k->section, view_str(k->name)), k); // no name twice
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(document_is_the_table),
        cmocka_unit_test(rows_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
