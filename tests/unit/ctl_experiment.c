/* ctl/experiment: what may be said of experiments, what is asked for then, what comes back in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ctl/experiment.h"
#include <stdlib.h>
#include <string.h>

static struct ctl_options said(const char *verb, const char *name, const char *more)
{
    return (struct ctl_options){.command = "experiment", .argument = verb, .more = {name, more}};
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
    struct ctl_options o = said("weights", "size", "control=87.5%,treatment=12.5%");
    o.why = "less";
    o.revision = "12";
    assert_true(experiment_check_weights(&o, why));
    wishes(&o, experiment_wish_weights,
           "{\"revision\":12,\"weights_ppm\":{\"control\":875000,\"treatment\":125000},"
           "\"why\":\"less\"}");
    o = said("promote", "size", "treatment");
    assert_true(experiment_check_promote(&o, why));
    wishes(&o, experiment_wish_promote, "{\"variant\":\"treatment\"}");
    o = said("pause", "size", NULL);
    assert_true(experiment_check_name(&o, why));
    wishes(&o, experiment_wish, "{}");
}

static void weights_that_are_none(void **state)
{
    (void)state;
    static const char *const wrong[] = {NULL,         "",       "a",      "a=",       "a=%",
                                        "a=1",        "=1%",    "a=1%,",  "a=1%b=2%", "a=-1%",
                                        "a=101%",     "a=1e1%", "a=nan%", "a=1.2.3%", "a b=1%",
                                        "a=1%,,b=2%", "a= 1%"};
    char why[OPTIONS_ERROR];
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct ctl_options o = said("weights", "size", wrong[i]);
        if (experiment_check_weights(&o, why))
            fail_msg("taken: %s", wrong[i] ? wrong[i] : "nothing");
        assert_non_null(strstr(why, "expected VARIANT=SHARE"));
    }
    struct ctl_options o = said("weights", "a/b", "a=1%");
    assert_false(experiment_check_weights(&o, why));
    char long_why[300];
    memset(long_why, 'x', sizeof(long_why) - 1);
    long_why[sizeof(long_why) - 1] = '\0';
    o = said("pause", "size", NULL);
    o.why = long_why;
    assert_false(experiment_check_name(&o, why));
}

#define PAGE                                                                                       \
    "{\"name\":\"size\",\"status\":\"rolled_back\",\"revision\":3,\"at_ms\":1000,\"who\":"         \
    "\"guard\",\"why\":\"it fails\",\"kept\":false,\"from_file\":false,\"skewed\":true,"           \
    "\"variants\":[{\"name\":\"a\",\"model\":\"m\",\"weight_ppm\":900000,\"requests\":10,"         \
    "\"judged\":10,\"errors\":0,\"answers\":10,\"fallbacks\":0,\"latency_p50_us\":{\"value\":"     \
    "1500}},"                                                                                      \
    "{\"name\":\"b\",\"model\":\"n\",\"weight_ppm\":100000,\"requests\":4,\"judged\":4,"           \
    "\"errors\":1,\"answers\":0,\"fallbacks\":0,\"against_control\":{\"error_rate\":{\"value\":"   \
    "0.25,\"low\":-0.1,\"high\":0.5},\"latency_mean_us\":{\"value\":null}},\"rewards\":[{"         \
    "\"name\":"                                                                                    \
    "\"click\",\"posted\":3,\"sum\":2.5,\"mean\":{\"value\":0.625,\"low\":0.5,\"high\":0.75},"     \
    "\"against_control\":{\"value\":0.125,\"low\":null,\"high\":null}}],\"guards\":["              \
    "{\"guard\":\"errors\",\"evidence\":2,\"needed\":4}]}]}"

static void how_it_stands(void **state)
{
    (void)state;
    struct buffer out;
    json_t *page = json_loads(PAGE, 0, NULL);
    assert_non_null(page);
    buffer_init(&out);
    assert_true(words_of_experiment(page, &out));
    assert_true(buffer_append(&out, "", 1));
    const char *text = buffer_view(&out).p;
    assert_non_null(
        strstr(text, "size: rolled_back, revision 3 since 1970-01-01T00:00:01Z by guard: it fails\n"
                     "changed since: it wins until its section in gateway.conf changes\n"
                     "it is not kept, and ends with the gateway"));
    assert_non_null(strstr(text, "skewed: "));
    assert_non_null(strstr(text, "+25 (-10 to +50)"));
    if (!strstr(text, "click   b             3  2.5  0.625 (0.5 to 0.75)              +0.125\n"))
        fail_msg("%s", text);
    if (!strstr(text, "\n\nVARIANT  GUARD   LIMIT  EVIDENCE\nb        errors      -       50%\n"))
        fail_msg("%s", text);
    buffer_deinit(&out);
    buffer_init(&out);
    json_t *list = json_pack("{s:[O]}", "experiments", page);
    assert_true(words_of_experiments(list, &out));
    assert_true(buffer_append(&out, "", 1));
    assert_non_null(strstr(buffer_view(&out).p, "25%"));
    json_decref(list);
    json_decref(page);
    buffer_deinit(&out);
}

static void what_is_none(void **state)
{
    (void)state;
    static const char *const wrong[] = {"[]", "{}", "{\"variants\":3}", "{\"variants\":[]}",
                                        "{\"experiments\":3}"};
    struct buffer out;
    buffer_init(&out);
    for (unsigned i = 0; i < 5; i++) {
        json_t *page = json_loads(wrong[i], 0, NULL);
        assert_false(words_of_experiment(page, &out));
        assert_false(words_of_experiments(page, &out));
        json_decref(page);
    }
    json_t *odd = json_loads("{\"experiments\":[3,{\"variants\":[7]}]}", 0, NULL);
    assert_true(words_of_experiments(odd, &out));
    assert_false(experiment_is_about(odd, NULL));
    json_decref(odd);
    odd = json_loads("{\"experiment\":\"size\"}", 0, NULL);
    assert_true(experiment_is_about(odd, NULL) && experiment_is_about(odd, "size"));
    assert_false(experiment_is_about(odd, "sizes"));
    json_decref(odd);
    buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for),
        cmocka_unit_test(weights_that_are_none),
        cmocka_unit_test(how_it_stands),
        cmocka_unit_test(what_is_none),
    };
    return cmocka_run_group_tests_name("ctl/experiment", tests, NULL, NULL);
}
