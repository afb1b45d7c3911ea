// Sections layer and experiment of gateway.conf: what they become, and what is refused with which line.
#include "config/config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
// cmocka wants the four above before it
#include <cmocka.h>

#define SMALL                                                                                      \
    "listen \"a\" { address = \"127.0.0.1:0\" }\n"                                                 \
    "worker \"w\" { addresses = {\"grpc://10.0.0.7:8001\"} }\n"
#define AB                                                                                         \
    "  variant \"a\" { model = \"m\" weight = 60% }\n"                                             \
    "  variant \"b\" { model = \"n\" weight = 40% }\n"

#define QR                                                                                         \
    "  variant \"a\" { model = \"q\" weight = 60% }\n"                                             \
    "  variant \"b\" { model = \"r\" weight = 40% }\n"

static struct config *good(const char *text)
{
    struct config_errors e;
    struct config *c = config_parse(view_str(text), "t.conf", &e);
    if (!c)
        fail_msg("refused, line %u: %s", e.error[0].line, e.error[0].text);
    return c;
}

// What a section says and is no default, however it is written.
static void what_stands_for_a_section(void **state)
{
    struct config *c = good(SMALL "experiment \"e\" { model = \"m\" key = \"request-id\" "
                                  "guard { errors = true max_p99 = \"80ms\" }\n" AB "}\n"
                                  "experiment \"f\" { model = \"x\" holdout = 0%\n" QR "}\n");
    struct buffer text;
    buffer_init(&text);
    assert_true(config_experiment_print(c, &c->experiments[0], &text));
    assert_true(view_is(buffer_view(&text), "model = \"m\"\nsalt = \"e\"\nerrors = true\n"
                                            "max_p99 = 80ms\nvariant a\nmodel = \"m\"\n"
                                            "weight = {60%}\nvariant b\nmodel = \"n\"\n"
                                            "weight = {40%}\n"));
    const struct config_guard *guard = &c->experiments[0].guard, *none = &c->experiments[1].guard;
    assert_true(guard->errors && !guard->fallbacks && guard->max_p99_us == 80000);
    assert_true(!none->errors && !none->max_errors_ppm && none->min_requests == 100);
    assert_false(c->experiments[0].draft);
    buffer_deinit(&text);
    config_unref(c);
    (void)state;
}

static void refused(const char *text, unsigned line, const char *why);

static void a_guard_of_a_reward(void **state)
{
    struct config *c =
        good(SMALL "experiment \"e\" { model = \"m\" rewards = {\"click\", \"worth\"} "
                   "guard { reward = \"worth\" reward_max = 20 reward_within = \"5m\" "
                   "min_reward = 2.5% }\n" AB "}\n"
                   "experiment \"f\" { model = \"x\"\n" QR "}\n");
    const struct config_guard *guard = &c->experiments[0].guard, *none = &c->experiments[1].guard;
    assert_string_equal(guard->reward, "worth");
    assert_true(guard->reward_max == 20 && guard->reward_within_us == 300000000);
    assert_int_equal(guard->min_reward_ppm, 25000);
    assert_null(none->reward);
    assert_true(none->reward_max == 1 && none->reward_within_us == 60000000);
    config_unref(c);
#define GUARD(text)                                                                                \
    "experiment \"e\" { model = \"m\" rewards = {\"click\"}\nguard {\n" text "}\n" AB "}"
    refused(GUARD("reward = \"clik\" "), 5, "reward: \"clik\" is none of the experiment's rewards");
    refused(GUARD("min_reward = 1%"), 5, "min_reward: goes with reward");
    refused(GUARD("errors = true\nreward_max = 2"), 6, "reward_max: goes with reward");
    refused(GUARD("reward = \"click\" reward_max = 0"), 5,
            "reward_max: expected a whole number from 1 to 1000000000, got \"0\"");
    refused(
        GUARD("reward = \"click\" reward_within = \"1s\""), 5,
        "reward_within: expected a duration such as \"2ms\" or \"5s\" from 2s to 12h, got \"1s\"");
    (void)state;
}

static void what_an_experiment_says(void **state)
{
    struct config *c = good(
        SMALL
        "layer \"front\" { key = \"header:X-User-Id\" }\n"
        "experiment \"e\" { model = \"m\" layer = \"front\" from = 10% to = 60% salt = \"s\"\n"
        "  force_key_file = \"f\"\n"
        "  target { header = {\"x-country: de\", \"x-country: at\"} tenant = {\"t\"} parameter = "
        "{\"p=1\"} }\n"
        "  variant \"a\" { model = \"m\" weight = {90%, 50.5%} }\n"
        "  variant \"b\" { model = \"n\" weight = {10%, 49.5%} } }\n"
        "experiment \"f\" { model = \"m\" layer = \"front\" from = 60%\n" AB "}\n"
        "experiment \"g\" { model = \"name-of-its-own\" holdout = 5% key = \"jwt:sub\"\n" QR "}\n"
        "experiment \"h\" { model = \"other\"\n" QR "}\n");
    assert_int_equal(c->layer_count, 1);
    assert_int_equal(c->experiment_count, 4);
    const struct config_experiment *e = config_experiment_find(c, "e");
    assert_string_equal(e->layer, "front");
    assert_int_equal(e->key.kind, CONFIG_HEADER);
    assert_string_equal(e->key.name, "x-user-id");
    assert_string_equal(e->salt, "s");
    assert_int_equal(e->from_ppm, 100000);
    assert_int_equal(e->to_ppm, 600000);
    assert_int_equal(e->target_headers, 2);
    assert_string_equal(e->target_header[1], "x-country: at");
    assert_int_equal(e->target_tenants, 1);
    assert_int_equal(e->target_parameters, 1);
    assert_int_equal(e->variant_count, 2);
    assert_string_equal(e->variants[1].name, "b");
    assert_int_equal(e->variants[1].weights, 2);
    assert_int_equal(e->variants[1].weight[0], 100000);
    assert_int_equal(e->variants[1].weight[1], 495000);
    assert_true(config_names_secrets(c));
    e = config_experiment_find(c, "f");
    assert_string_equal(e->salt, "f");
    assert_int_equal(e->to_ppm, 1000000);
    e = config_experiment_find(c, "g");
    assert_int_equal(e->key.kind, CONFIG_CLAIM);
    assert_int_equal(e->holdout_ppm, 50000);
    assert_int_equal(config_experiment_find(c, "h")->key.kind, CONFIG_REQUEST_ID);
    assert_null(config_experiment_find(c, "i"));
    config_unref(c);
}

static void refused(const char *text, unsigned line, const char *why)
{
    struct config_errors e;
    char whole[4096];
    snprintf(whole, sizeof(whole), "%s%s", SMALL, text);
    struct config *c = config_parse(view_str(whole), "t.conf", &e);
    if (c)
        fail_msg("taken: %s", text);
    if (strcmp(e.error[0].text, why) != 0 || e.error[0].line != line)
        fail_msg("line %u: %s\n instead of\nline %u: %s", e.error[0].line, e.error[0].text, line,
                 why);
}

#define E "experiment \"e\" { model = \"m\"\n"
#define F "experiment \"f\" { model = \"k\"\n"
#define V(name, model, weight)                                                                     \
    "variant \"" name "\" { model = \"" model "\" weight = " weight " }\n"
#define L "layer \"l\" { key = \"cookie:u\" }\n"

static void weights(void **state)
{
    refused(E V("a", "m", "60%") V("b", "n", "30%") "}", 3,
            "experiment \"e\": expected weights that add up to 100%, got 90%");
    refused(E V("a", "m", "{90%, 60%}") V("b", "n", "{10%, 30%}") "}", 3,
            "experiment \"e\": expected weights that add up to 100%, got 90%");
    refused(E V("a", "m", "{90%, 60%}") V("b", "n", "10%") "}", 5,
            "weight: expected as many as variant \"a\" has (2), got 1");
    refused(E V("a", "m", "60") V("b", "n", "40%") "}", 4,
            "weight: expected a share such as \"12.5%\", or a list of them, got \"60\"");
    refused(E V("a", "m", "100%") "}", 3, "experiment \"e\": expected 2 to 16 variants, got 1");
    refused(E "variant \"a\" { model = \"m\" } }", 4, "variant: weight is missing");
    refused(E "variant \"a\" { weight = 1% } }", 4, "variant: model is missing");
}

static void variants(void **state)
{
    refused("models = listed model \"m\" { }\n" E V("a", "m", "60%") V("b", "n", "40%") "}", 6,
            "model: \"n\" has no model section, and models = listed");
    refused(E V("a", "o", "60%") V("b", "m", "40%") "}", 5,
            "model: \"m\" is what clients ask for: its variant is the control, which stands first");
    refused("model \"m\" { }\n" E V("a", "o", "60%") V("b", "n", "40%") "}", 4,
            "model: \"m\" has a section of its own: the first variant must be it");
    refused(E V("a", "m", "60%") V("a", "n", "40%") "}", 5,
            "variant \"a\" stands twice (first on line 4)");
    refused(E V("a b", "m", "60%") "}", 4,
            "variant: expected a name of 1 to 128 letters, digits, '.', '_', '+', '@', '~' or '-', "
            "got \"a b\"");
    refused(E V("a", "m/n", "60%") V("b", "n", "40%") "}", 4,
            "model: expected a model name [A-Za-z0-9._-]{1,128}, got \"m/n\"");
    refused(E "variant { model = \"m\" } }", 4, "variant: expected a title: variant \"NAME\" {");
}

#define S(name, model, share) "shadow \"" name "\" { model = \"" model "\" share = " share " }\n"

static void shadows(void **state)
{
    struct config *c = good(SMALL E S("x", "n", "30%") V(
        "a", "m", "100%") "shadow \"y\" { model = \"o\" tolerance = 1% compare = 5% }\n}");
    const struct config_experiment *e = config_experiment_find(c, "e");
    assert_int_equal(e->variant_count, 1);
    assert_int_equal(e->shadow_count, 2);
    assert_string_equal(e->shadows[0].model, "n");
    assert_int_equal(e->shadows[0].share_ppm, 300000);
    assert_int_equal(e->shadows[0].compare_ppm, 1000000);
    assert_int_equal(e->shadows[0].timeout_us, 10000000);
    assert_string_equal(e->shadows[1].name, "y");
    assert_int_equal(e->shadows[1].share_ppm, 100000);
    assert_int_equal(e->shadows[1].tolerance_ppm, 10000);
    assert_int_equal(e->shadows[1].compare_ppm, 50000);
    config_unref(c);
    refused(E V("a", "m", "100%") S("x", "n", "60%") S("y", "o", "50%") "}", 3,
            "experiment \"e\": expected shares of shadows that add up to 100% at most, got 110%");
    refused(E V("a", "m", "100%") S("x", "m", "60%") "}", 5,
            "model: \"m\" is the control: it cannot be compared with itself");
    refused(E V("a", "m", "100%") S("a", "n", "60%") "}", 5,
            "shadow \"a\": a variant has that title");
    refused(E V("a", "m", "100%") S("x", "n/o", "60%") "}", 5,
            "model: expected a model name [A-Za-z0-9._-]{1,128}, got \"n/o\"");
    refused(E V("a", "m", "100%") S("x", "k", "60%") "}\n" F V("a", "n", "50%")
                V("b", "o", "50%") "}",
            5, "model: \"k\" stands for experiment \"f\": a shadow is a model");
    refused(E V("a", "m", "100%") S("x", "n", "101%") "}", 5,
            "share: expected a share such as \"12.5%\" from 0% to 100%, got \"101%\"");
    refused(E V("a", "m", "100%") "shadow \"x\" { share = 1% } }", 5, "shadow: model is missing");
    refused(E V("a", "m", "100%") S("x", "n", "1%") S("x", "n", "1%") "}", 6,
            "shadow \"x\" stands twice (first on line 5)");
    refused(E V("a", "m", "100%") "shadow \"x\" { model = \"n\" timeout = 0 } }", 5,
            "timeout: expected a duration such as \"2ms\" or \"5s\" from 1ms to 10m, got \"0\"");
    refused(E S("x", "n", "1%") "}", 3, "experiment \"e\": expected 1 to 16 variants, got 0");
}

// The name of a model that an experiment has as well means the model.
static void circles(void **state)
{
    refused(E V("a", "m", "60%") V("b", "k", "40%") "}\n" F V("a", "n", "50%")
                V("b", "m", "50%") "}",
            5, "model: \"k\" stands for experiment \"f\": a variant is a model");
    refused(F V("a", "n", "50%")
                V("b", "o", "50%") "}\nexperiment \"e\" { model = \"m\"\n" V("a", "k", "60%")
                    V("b", "n", "40%") "}",
            8, "model: \"k\" stands for experiment \"f\": a variant is a model");
    config_unref(good(SMALL E V("a", "m", "60%") V("b", "k", "40%") "}\n" F V("a", "k", "50%")
                          V("b", "m", "50%") "}"));
}

static void layers(void **state)
{
    refused(E "layer = \"l\"\n" AB "}", 4, "layer: there is no layer \"l\"");
    refused(L E "layer = \"l\" to = 50%\n" AB "}\n" F "layer = \"l\"\nfrom = 40%\n" AB "}", 11,
            "layer \"l\": from and to overlap 0% to 50% of experiment \"e\"");
    refused(L E "layer = \"l\" key = \"api-key\"\n" AB "}", 5,
            "key: is the layer's, for all of its experiments");
    refused(L E "layer = \"l\"\nholdout = 1%\n" AB "}", 6,
            "holdout: in a layer it is what no slice has");
    refused(L E "layer = \"l\"\nfrom = 50%\nto = 50%\n" AB "}", 7, "to: expected more than from");
    refused(E "from = 50%\n" AB "}", 4, "from: goes with layer");
    refused("layer \"l\" { }\n", 3, "layer: key is missing");
    refused(E AB "}\nexperiment \"f\" {\n model = \"m\"\n" AB "}", 8,
            "model: experiment \"e\" has it already: they must be in one layer");
    refused(L E
            "layer = \"l\" to = 50%\n" AB
            "}\nexperiment \"f\" { layer = \"l\" from = 50%\n model = \"m\"\n" V("a", "o", "50%")
                V("b", "p", "50%") "}",
            10, "model: experiment \"e\" has it, too, and another control");
}

static void keys_and_targets(void **state)
{
    static const char *const bad[] = {"user",     "header:", "header:a b", "cookie:a=b", "jwt",
                                      "Header:x", ""};
    char text[400], why[300];
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), E "key = \"%s\"\n%s}", bad[i], AB);
        snprintf(why, sizeof(why),
                 "key: expected \"request-id\", \"api-key\", \"header:NAME\", \"cookie:NAME\", "
                 "\"parameter:NAME\" or \"jwt:CLAIM\", got \"%s\"",
                 bad[i]);
        refused(text, 4, why);
    }
    refused(E "target { header = {\"x-country\"} }\n" AB "}", 4,
            "header: expected \"NAME: VALUE\", got \"x-country\"");
    refused(E "target { parameter = {\"=1\"} }\n" AB "}", 4,
            "parameter: expected \"NAME=VALUE\", got \"=1\"");
    refused("admin { address = \"127.0.0.1:1\" token_file = \"t\" }\n" E
            "force_key_file = \"t\"\n" AB "}",
            5, "force_key_file: is the operators' token: testers need a key of their own");
}

static void many(void **state)
{
    static char text[200000];
    size_t n = 0;
    for (unsigned i = 0; i <= CONFIG_MAX_EXPERIMENTS; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "experiment \"e%u\" { model = \"m%u\"\n%s}\n", i, i, AB);
    char whole[sizeof(text) + 200];
    struct config_errors e;
    snprintf(whole, sizeof(whole), "%s%s", SMALL, text);
    assert_null(config_parse(view_str(whole), "t.conf", &e));
    assert_string_equal(e.error[0].text,
                        "expected at most 256 experiments and as many layers, got 257, 0");
    n = (size_t)snprintf(text, sizeof(text), E);
    for (unsigned i = 0; i <= CONFIG_MAX_VARIANTS; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n,
                              "variant \"v%u\" { model = \"v%u\" weight = 0%% }\n", i, i);
    snprintf(text + n, sizeof(text) - n, "}");
    refused(text, 3, "experiment \"e\": expected 2 to 16 variants, got 17");
    n = (size_t)snprintf(text, sizeof(text), L);
    for (unsigned i = 0; i <= CONFIG_MAX_SITE; i++)
        n += (size_t)snprintf(
            text + n, sizeof(text) - n,
            "experiment \"e%u\" { model = \"m\" layer = \"l\" from = %u%% to = %u%%\n%s}\n", i, i,
            i + 1, AB);
    refused(text, 68, "model: more than 16 experiments have it");
}

// ---- created ones ------------------------------------------------------------------------------------

static const struct config_experiment *add(struct config *c, const char *text, bool start,
                                           struct config_errors *e)
{
    struct config_creation it = {.text = view_str(text), .mark = 7, .start = start};
    return config_add_experiment(c, &it, e);
}

static void one_that_is_created_stands_behind(void **state)
{
    (void)state;
    struct config_errors e;
    struct config *c = good(SMALL "layer \"l\" { key = \"header:x\" }\n" E AB "}\n");
    char text[512];
    for (unsigned i = 0; i < 40; i++) { // beyond every room that is made
        snprintf(text, sizeof(text), "experiment \"x%u\" { model = \"k%u\" %s }", i, i,
                 V("a", "q", "60%") V("b", "r", "40%"));
        const struct config_experiment *got = add(c, text, i % 2, &e);
        assert_non_null(got);
        assert_ptr_equal(got, &c->experiments[i + 1]);
        assert_true(got->created == 7 && got->draft == !(i % 2));
    }
    assert_int_equal(c->experiment_count, 41);
    assert_string_equal(c->experiments[0].name, "e");
    assert_true(c->experiments[0].created == 0 && !c->experiments[0].draft);
    assert_string_equal(config_experiment_find(c, "x39")->variants[1].model, "r");
    struct config *again = config_again(c);
    assert_int_equal(again->experiment_count, 1);
    config_unref(again);
    config_unref(c);
}

static void one_that_cannot_be_created_leaves_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool start, taken;
        unsigned line, column;
        const char *why;
    } rows[] = {
        {"", false, false, 0, 0, "expected experiment \"NAME\" { ... }, got nothing"},
        {"\n  loops = 3", false, false, 2, 3, "expected experiment \"NAME\" { ... } alone"},
        {"\n  layer \"x\" { }", false, false, 2, 3,
         "expected experiment \"NAME\" { ... }, got layer"},
        {F QR "} layer \"x\" { }", false, false, 4, 3,
         "expected one section, got another one: layer"},
        {"/* \n\n */ " F QR "x", false, false, 6, 2,
         "expected = or { after a name, got the end of the file"},
        {E QR "}", false, true, 1, 1,
         "experiment \"e\" is there already: its section stands in gateway.conf"},
        {F "  force_key_file = \"f\"\n" QR "}", false, false, 2, 3, "force_key_file: stands"},
        {F "  draft = true\n" QR "}", true, false, 2, 3, "draft: expected false"},
        {"experiment \"f\" {\n\tmodel = \"n\"\n" QR "}", false, false, 2, 2,
         "model: \"n\" is a model of experiment \"e\": the first variant must be it"},
    };
    struct config_errors e;
    struct config *c = good(SMALL E AB "}\n");
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (add(c, rows[i].text, rows[i].start, &e))
            fail_msg("taken: %s", rows[i].text);
        const struct config_error *is = &e.error[0];
        if (is->line != rows[i].line || is->column != rows[i].column ||
            strncmp(is->text, rows[i].why, strlen(rows[i].why)) != 0)
            fail_msg("%s: %u:%u: %s", rows[i].text, is->line, is->column, is->text);
        assert_int_equal(e.taken, rows[i].taken);
        assert_int_equal(c->experiment_count, 1);
    }
    config_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_created_stands_behind),
        cmocka_unit_test(one_that_cannot_be_created_leaves_nothing),
        cmocka_unit_test(what_an_experiment_says),
        cmocka_unit_test(what_stands_for_a_section),
        cmocka_unit_test(a_guard_of_a_reward),
        cmocka_unit_test(weights),
        cmocka_unit_test(variants),
        cmocka_unit_test(shadows),
        cmocka_unit_test(circles),
        cmocka_unit_test(layers),
        cmocka_unit_test(keys_and_targets),
        cmocka_unit_test(many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
