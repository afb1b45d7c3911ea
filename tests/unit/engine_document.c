// docs/onnx.md is what the table of operators says, and each operator is described.
#include "engine/engine.h"
#include "engine/ops.h"
#include "tests/unit/file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// cmocka wants the four above before it
#include <cmocka.h>

static void document_is_the_table(void **state)
{
    char line[2048];
    (void)state;
    struct view doc = file_read("docs/onnx.md");
    assert_non_null(doc.p);
    const char *at = strstr(doc.p, "\n|---|---|---|---|---|---|\n");
    assert_non_null(at);
    at = strchr(at + 1, '\n') + 1;
    for (unsigned i = 0; engine_op_line(i, line, sizeof(line)); i++) {
        size_t n = strlen(line);
        if (strncmp(at, line, n) != 0 || at[n] != '\n')
            fail_msg("docs/onnx.md differs from sluice-worker --help-onnx: %s", line);
        at += n + 1;
    }
    assert_string_equal(at, "");
    file_free(doc);
}

// The last two columns are words; a file's op is one row.
static void operators_are_described(void **state)
{
    char line[2048];
    (void)state;
    for (unsigned i = 0; engine_op_line(i, line, sizeof(line)); i++) {
        const struct op *op = &op_table[i];
        const char *domain = op->domain ? op->domain : "";
        size_t n = strlen(line);
        assert_true(n < sizeof(line) - 1);
        if (!op->types[0])
            fail_msg("no datatypes in engine/ops.c: %s", line);
        assert_ptr_equal(
            op_find(view_of(op->name, strlen(op->name)), view_of(domain, strlen(domain))), op);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(document_is_the_table),
        cmocka_unit_test(operators_are_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
