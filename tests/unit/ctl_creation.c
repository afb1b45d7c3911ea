/* ctl/creation: an experiment's text from options, and what is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ctl/creation.h"
#include <stdlib.h>
#include <string.h>

static struct ctl_options said(const char *name, const char *model, const char *key,
                               const char *first, const char *second)
{
    return (struct ctl_options){.command = "experiment",
                                .argument = "create",
                                .more = {name},
                                .model = model,
                                .key = key,
                                .variant = {first, second},
                                .variants = (first != NULL) + (second != NULL)};
}

static void options_make_a_text(void **state)
{
    (void)state;
    char why[OPTIONS_ERROR];
    struct ctl_options o = said("size", "m", "header:x-user", "a=m:90%", "b=n:x.y:12.5%");
    struct buffer text;
    assert_false(creation_check(&o, why)); // ':' is in no name
    o = said("size", "m", "header:x-user", "a=m:90%", "b=n:10.0%");
    assert_true(creation_check(&o, why));
    buffer_init(&text);
    assert_true(creation_text(&o, &text));
    assert_true(view_is(buffer_view(&text),
                        "experiment \"size\" {\n  model = \"m\"\n  key = \"header:x-user\"\n"
                        "  variant \"a\" { model = \"m\" weight = 90% }\n"
                        "  variant \"b\" { model = \"n\" weight = 10.0% }\n}\n"));
    buffer_deinit(&text);
    o.start = true;
    o.why = "w";
    json_t *wish = creation_load(&o, why);
    assert_true(json_is_true(json_object_get(wish, "start")));
    assert_string_equal(json_string_value(json_object_get(wish, "why")), "w");
    assert_non_null(json_string_value(json_object_get(wish, "definition")));
    json_decref(wish);
    o = (struct ctl_options){.more = {"size"}, .yes = true, .revision = "3"};
    wish = creation_wish_delete(&o);
    char *line = json_dumps(wish, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(line, "{\"revision\":3,\"running\":true}");
    free(line);
    json_decref(wish);
}

static void words_that_are_wrong(void **state)
{
    (void)state;
    char why[OPTIONS_ERROR];
    const struct {
        struct ctl_options o;
        const char *why;
    } rows[] = {
        {{.more = {NULL}}, "expected a FILE"},
        {{.more = {"a", "b"}}, "expected one word"},
        {{.more = {"file"}, .revision = "1"}, "no revision"},
        {{.more = {"file"}, .model = "m"}, "go with --variant"},
        {{.more = {"file"}, .key = "request-id"}, "go with --variant"},
        {said("a/b", "m", NULL, "a=m:1%", NULL), "expected a name"},
        {said("e", NULL, NULL, "a=m:1%", NULL), "expected --model"},
        {said("e", "m n", NULL, "a=m:1%", NULL), "expected --model"},
        {said("e", "m", "header:\"", "a=m:1%", NULL), "expected --key"},
        {said("e", "m", "header:\n", "a=m:1%", NULL), "expected --key"},
        {said("e", "m", "${HOME}", "a=m:1%", NULL), "expected --key"},
        {said("e", "m", NULL, "a", NULL), "expected --variant"},
        {said("e", "m", NULL, "a=m", NULL), "expected --variant"},
        {said("e", "m", NULL, "a=m:1", NULL), "expected --variant"},
        {said("e", "m", NULL, "a=m:%", NULL), "expected --variant"},
        {said("e", "m", NULL, "a=:1%", NULL), "expected --variant"},
        {said("e", "m", NULL, "=m:1%", NULL), "expected --variant"},
        {said("e", "m", NULL, "m:1%=a", NULL), "expected --variant"},
        {said("e", "m", NULL, "a=m\" }:1%", NULL), "expected --variant"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (creation_check(&rows[i].o, why))
            fail_msg("taken: row %u", i);
        if (!strstr(why, rows[i].why))
            fail_msg("row %u: %s", i, why);
    }
    struct ctl_options o = {.more = {"/nothing/of/that/name"}};
    assert_true(creation_check(&o, why));
    assert_null(creation_load(&o, why));
    assert_non_null(strstr(why, "No such file"));
}

static void what_comes_back(void **state)
{
    (void)state;
    struct buffer out;
    json_t *page = json_pack("{s:s}", "deleted", "a\033b"), *other = json_object();
    buffer_init(&out);
    assert_true(words_of_deletion(page, &out));
    assert_null(memchr(buffer_view(&out).p, '\033', buffer_len(&out)));
    assert_false(words_of_deletion(other, &out));
    buffer_deinit(&out);
    json_decref(page);
    json_decref(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_make_a_text),
        cmocka_unit_test(words_that_are_wrong),
        cmocka_unit_test(what_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
