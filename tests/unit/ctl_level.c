/* ctl/level: what may be said of levels, what is asked for then, what comes back in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ctl/level.h"
#include <stdlib.h>
#include <string.h>

static struct ctl_options set(const char *a, const char *b, const char *for_, const char *why)
{
    return (struct ctl_options){
        .command = "level", .argument = "set", .more = {a, b}, .for_ = for_, .why = why};
}

static void wishes(const struct ctl_options *o, json_t *(*wish)(const struct ctl_options *o),
                   const char *want)
{
    json_t *is = wish(o);
    char *text = json_dumps(is, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, want);
    free(text);
    json_decref(is);
}

static void what_is_asked_for(void **state)
{
    (void)state;
    char why[OPTIONS_ERROR];
    struct ctl_options o = set("digits", "2", "10m", "GPU swap");
    assert_true(level_check_set(&o, why));
    wishes(&o, level_wish_set,
           "{\"for_s\":600,\"level\":2,\"model\":\"digits\",\"why\":\"GPU swap\"}");
    o = set("0", NULL, "30d", "x");
    assert_true(level_check_set(&o, why));
    wishes(&o, level_wish_set, "{\"for_s\":2592000,\"level\":0,\"why\":\"x\"}");
    o = set("digits", NULL, NULL, NULL);
    assert_true(level_check_clear(&o, why));
    wishes(&o, level_wish_clear, "{\"level\":null,\"model\":\"digits\"}");
    o.more[0] = NULL;
    assert_true(level_check_clear(&o, why));
    wishes(&o, level_wish_clear, "{\"level\":null}");
}

static void what_may_not_be_said(void **state)
{
    (void)state;
    char why[OPTIONS_ERROR], long_why[200];
    memset(long_why, 'x', sizeof(long_why));
    long_why[161] = '\0';
    const struct {
        struct ctl_options o;
        const char *why;
    } rows[] = {
        {set(NULL, NULL, "1m", "x"), "a level from 0 to 4, got \"\""},
        {set("digits", NULL, "1m", "x"), "got \"digits\""},
        {set("digits", "5", "1m", "x"), "got \"5\""},
        {set("digits", "-1", "1m", "x"), "got \"-1\""},
        {set("digits", "22", "1m", "x"), "got \"22\""},
        {set("digits", "2", NULL, "x"), "expected --for as"},
        {set("digits", "2", "10", "x"), "got \"10\""},
        {set("digits", "2", "0s", "x"), "got \"0s\""},
        {set("digits", "2", "31d", "x"), "got \"31d\""},
        {set("digits", "2", "1ms", "x"), "got \"1ms\""},
        {set("digits", "2", "99999999d", "x"), "30 days at most"},
        {set("digits", "2", "1m", NULL), "expected --why with 1 to 160 bytes"},
        {set("digits", "2", "1m", ""), "expected --why"},
        {set("digits", "2", "1m", long_why), "expected --why"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (level_check_set(&rows[i].o, why) || !strstr(why, rows[i].why))
            fail_msg("row %zu: %s", i, why);
    struct ctl_options o = set("a", "b", NULL, NULL);
    assert_false(level_check_clear(&o, why));
    assert_string_equal(why, "level clear: expected one model at most, got \"b\" too");
}

static void said(bool (*words)(const json_t *v, struct buffer *out), const char *single_quoted,
                 const char *want)
{
    char text[2000];
    struct buffer out;
    buffer_init(&out);
    for (size_t i = 0; i == 0 || text[i - 1]; i++)
        text[i] = single_quoted[i] == '\'' ? '"' : single_quoted[i];
    json_t *v = json_loads(text, 0, NULL);
    assert_non_null(v);
    assert_int_equal(words(v, &out), want != NULL);
    assert_true(buffer_append(&out, "", 1));
    if (want)
        assert_string_equal((const char *)out.data, want);
    json_decref(v);
    buffer_deinit(&out);
}

static void levels(void **state)
{
    (void)state;
    said(
        words_of_levels,
        "{'instance':{'level':1,'pin':null},'models':["
        "{'name':'digits','level':2,'cause':'pinned','for_ms':61000,'share_ppm':500000,'p99_us':"
        "1900,"
        "'critical':true,'pin':{'model':'digits','level':2,'until_ms':1767323045000,'why':'"
        "GPU\\nswap'}},"
        "{'name':'small','level':0,'cause':'none','share_ppm':1000000,'p99_us':0,'critical':false,"
        "'pin':null}]}",
        "MODEL       LEVEL  CAUSE     FOR  SHARE    P99  CRITICAL  PINNED UNTIL          WHY\n"
        "digits          2  pinned  1m 1s    50%  1.9ms  yes       2026-01-02T03:04:05Z  GPU?swap\n"
        "small           0  none        -   100%      -  -         -                     -\n"
        "(instance)      1  -           -      -      -  -         -                     -\n");
    said(words_of_levels, "{'models':[]}", NULL);
    said(words_of_levels, "{'instance':{}}", NULL);
}

static void pins(void **state)
{
    (void)state;
    said(words_of_pin,
         "{'model':'digits','pin':{'level':2,'until_ms':1767323045000,'why':'x'},'kept':true}",
         "digits is at level 2 until 2026-01-02T03:04:05Z\n");
    said(words_of_pin, "{'pin':{'level':0,'until_ms':1767323045000,'why':'x'},'kept':false}",
         "the instance is at level 0 until 2026-01-02T03:04:05Z, or until the gateway ends: "
         "state_dir is "
         "not set, or cannot be written\n");
    said(words_of_pin, "{'model':'digits','pin':null,'kept':true}",
         "digits goes by itself again\n");
    said(words_of_pin, "{'pin':{},'kept':true}", NULL);
    said(words_of_pin, "{'pin':null}", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for),
        cmocka_unit_test(what_may_not_be_said),
        cmocka_unit_test(levels),
        cmocka_unit_test(pins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
