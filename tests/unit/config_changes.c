// What a file says differently from the one in force, by name, with both values; and what a reload cannot take.
#include "config/changes.h"
#include "config/keys.h"
#include "config/value.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka wants the four above before it
#include <cmocka.h>

#define LISTEN "listen \"a\" { address = \"127.0.0.1:0\" }\n"
#define WORKER "worker \"w\" { addresses = {\"grpc://10.0.0.7:8001\"} }\n"
#define ADMIN "admin { address = \"127.0.0.1:1\" }\n"
#define SMALL LISTEN WORKER
#define EXPERIMENT(a, b)                                                                           \
    "layer \"l\" { key = \"header:x-user\" }\n"                                                    \
    "experiment \"e\" { model = \"x\" variant \"a\" { model = \"x\" weight = " a " }\n"            \
    "variant \"b\" { model = \"y\" weight = " b " } " S0 "}\n"
#define S0 "shadow \"s\" { model = \"y\" share = 10% }"

static struct config *parse(const char *text)
{
    struct config_errors e;
    struct config *c = config_parse(view_str(text), "t.conf", &e);
    if (!c)
        fail_msg("refused, line %u: %s", e.error[0].line, e.error[0].text);
    return c;
}

static void compare(const char *was, const char *is, const char *taken, const char *refused)
{
    struct config *a = parse(was), *b = parse(is);
    struct config_changes c;
    config_changes_find(&c, a, b);
    assert_false(c.failed);
    if (!view_is(buffer_view(&c.taken_text), taken))
        fail_msg("taken: %.*s", VIEW_ARG(buffer_view(&c.taken_text)));
    if (!view_is(buffer_view(&c.refused_text), refused))
        fail_msg("refused: %.*s", VIEW_ARG(buffer_view(&c.refused_text)));
    assert_int_equal(c.taken > 0, taken[0] != '\0');
    assert_int_equal(c.refused > 0, refused[0] != '\0');
    config_changes_deinit(&c);
    config_unref(a);
    config_unref(b);
}

static void nothing(void **state)
{
    compare(SMALL, SMALL, "", "");
    compare(SMALL, "# a comment\n" SMALL, "", "");
    compare(SMALL, WORKER LISTEN, "", "");
    // The same in other words, and titles in another order.
    compare(SMALL "limits { idle_timeout = \"60s\" }", SMALL "limits { idle_timeout = \"1m\" }", "",
            "");
    compare(SMALL "model \"x\" { worker = \"w\" }\nmodel \"y\" { }",
            SMALL "model \"y\" { }\nmodel \"x\" { worker = \"w\" }", "", "");
    compare(SMALL "worker \"v\" { command = {\"a\"} }", "worker \"v\" { command = {\"a\"} }" SMALL,
            "", "");
}

static void what_is_taken(void **state)
{
    compare(SMALL, SMALL "models = listed\nmodel \"x\" { }",
            "models: was all, is listed; model \"x\": added", "");
    compare(SMALL "model \"x\" { }\nmodel \"y\" { }",
            SMALL "model \"y\" { batch { max_rows = 8 } }",
            "model \"x\": removed; model \"y\": batch: max_rows: was 0, is 8; "
            "model \"y\": queue: rows: was 0, is 1024",
            "");
    compare(
        SMALL "model \"x\" { batch { preferred = {4, 8} policy = fixed } }",
        SMALL "model \"x\" { worker = \"w\" batch { preferred = {4} max_wait = 3ms } }",
        "model \"x\": worker: was any, is \"w\"; model \"x\": batch: policy: was fixed, is auto; "
        "model \"x\": batch: max_wait: was auto, is 3ms; "
        "model \"x\": batch: preferred: was {4, 8}, is {4}",
        "");
    compare(SMALL, SMALL "log { access = \"/tmp/a\" sample = 2% level = debug }",
            "log: access: was none, is \"/tmp/a\"; log: sample: was 100%, is 2%; "
            "log: level: was info, is debug",
            "");
    compare(SMALL, SMALL "limits { max_body = 1MiB }\nhealth { interval = 5s }",
            "limits: max_body: was 64MiB, is 1MiB; health: interval: was 1s, is 5s", "");
    compare(SMALL, SMALL "defaults { queue { refuse_early = off } }",
            "defaults: queue: refuse_early: was true, is false; "
            "worker \"w\": queue: refuse_early: was true, is false",
            "");
    compare(SMALL, SMALL "store { redis = redis://h }", "store: added", "");
    compare(SMALL "store { redis = redis://h }", SMALL, "store: removed", "");
    compare(SMALL "store { redis = redis://h }", SMALL "store { cluster = {a:1} timeout = 1ms }",
            "store: redis: was \"redis://h\", is none; store: cluster: was {}, is {\"a:1\"}; "
            "store: timeout: was 20ms, is 1ms",
            "");
    compare("listen \"a\" { address = \"127.0.0.1:0\" certificate = \"c\" key = \"k\" }" WORKER,
            "listen \"a\" { address = \"127.0.0.1:0\" certificate = \"d\" key = \"k\" }" WORKER,
            "listen \"a\": certificate: was \"c\", is \"d\"", "");
    compare(
        SMALL, LISTEN "worker \"w\" { command = {\"a\", \"b\"} replace = before }",
        "worker \"w\": command: was {}, is {\"a\", \"b\"}; worker \"w\": replicas: was 0, is 1; "
        "worker \"w\": replace: was after, is before; "
        "worker \"w\": addresses: was {\"grpc://10.0.0.7:8001\"}, is {}",
        "");
    compare(SMALL, SMALL "worker \"v\" { command = {\"a\"} }", "worker \"v\": added", "");
    compare(SMALL "worker \"v\" { command = {\"a\"} }\nmodel \"x\" { worker = {\"w\"} }",
            SMALL "worker \"v\" { command = {\"a\"} }\nmodel \"x\" { worker = {\"v\", \"w\"} }",
            "model \"x\": worker: was \"w\", is {\"v\", \"w\"}", "");
    compare(SMALL "worker \"v\" { command = {\"a\"} serial = on }", SMALL, "worker \"v\": removed",
            "");
}

static void listeners(void **state)
{
    compare(SMALL, "listen \"a\" { address = \"127.0.0.1:1\" }" WORKER,
            "listen \"a\": address: was \"127.0.0.1:0\", is \"127.0.0.1:1\"", "");
    compare(SMALL, "listen \"b\" { address = \"127.0.0.1:0\" }" WORKER,
            "listen \"a\": removed; listen \"b\": added", "");
    compare(
        SMALL, "listen \"a\" { address = \"127.0.0.1:0\" certificate = \"c\" key = \"k\" }" WORKER,
        "listen \"a\": certificate: was none, is \"c\"; listen \"a\": key: was none, is \"k\"", "");
    compare(
        "listen \"a\" { address = \"127.0.0.1:0\" certificate = \"c\" key = \"k\" }" WORKER, SMALL,
        "listen \"a\": certificate: was \"c\", is none; listen \"a\": key: was \"k\", is none", "");
}

static void experiments(void **state)
{
    compare(SMALL EXPERIMENT("90%", "10%"), SMALL EXPERIMENT("{90%, 50%}", "{10%, 50%}"),
            "experiment \"e\": variant \"a\": weight: was {90%}, is {90%, 50%}; "
            "experiment \"e\": variant \"b\": weight: was {10%}, is {10%, 50%}",
            "");
    compare(SMALL, SMALL EXPERIMENT("90%", "10%"), "layer \"l\": added; experiment \"e\": added",
            "");
    compare(SMALL EXPERIMENT("90%", "10%"), SMALL,
            "layer \"l\": removed; experiment \"e\": removed", "");
    compare(SMALL EXPERIMENT("90%", "10%"),
            SMALL "layer \"l\" { key = \"cookie:u\" salt = \"7\" }"
                  "experiment \"e\" { model = \"x\" layer = \"l\" target { tenant = {\"t\"} }"
                  "variant \"b\" { model = \"x\" weight = 20% } variant \"c\" { model = \"z\" "
                  "weight = 80% } shadow \"t\" { model = \"y\" }"
                  "shadow \"s\" { model = \"y\" share = 6% } }",
            "layer \"l\": key: was header:x-user, is cookie:u; layer \"l\": salt: was "
            "\"l\", is \"7\"; "
            "experiment \"e\": key: was request-id, is cookie:u; "
            "experiment \"e\": layer: was none, is \"l\"; "
            "experiment \"e\": target: tenant: was {}, is {\"t\"}; "
            "experiment \"e\": variant \"a\" removed; "
            "experiment \"e\": variant \"b\": model: was \"y\", is \"x\"; "
            "experiment \"e\": variant \"b\": weight: was {10%}, is {20%}; "
            "experiment \"e\": variant \"b\" stands elsewhere; "
            "experiment \"e\": variant \"c\" added; "
            "experiment \"e\": shadow \"s\": share: was 10%, is 6%; "
            "experiment \"e\": shadow \"s\" stands elsewhere; "
            "experiment \"e\": shadow \"t\" added",
            "");
}

static void what_wants_a_restart(void **state)
{
    compare(SMALL, "loops = 3\nruntime_dir = \"/run\"\ncore_dumps = on\nlog { explain = 7 }" SMALL,
            "core_dumps: was false, is true; log: explain: was 2048, is 7",
            "loops: was 0, is 3; runtime_dir: was none, is \"/run\"");
    compare(SMALL, SMALL ADMIN, "", "admin: added");
    compare(SMALL ADMIN, SMALL, "", "admin: removed");
    compare(SMALL ADMIN, SMALL "admin { address = \"127.0.0.1:2\" token_file = \"t\" }",
            "admin: token_file: was none, is \"t\"",
            "admin: address: was \"127.0.0.1:1\", is \"127.0.0.1:2\"");
    compare(SMALL, SMALL "log { ring = 1MiB sample = 1% }", "log: sample: was 100%, is 1%",
            "log: ring: was 4MiB, is 1MiB");
}

// Not cut before they are compared; and of a thousand changes sixteen are told, all are counted.
static void long_and_many(void **state)
{
    char was[8000], is[8000];
    snprintf(was, sizeof(was), LISTEN "worker \"w\" { command = {\"%0200d\", \"a\"} }", 0);
    snprintf(is, sizeof(is), LISTEN "worker \"w\" { command = {\"%0200d\", \"b\"} }", 0);
    struct config *a = parse(was), *b = parse(is);
    struct config_changes c;
    config_changes_find(&c, a, b);
    assert_int_equal(c.taken, 1);
    assert_true(buffer_append(&c.taken_text, "", 1)); // for strstr
    assert_non_null(strstr(buffer_view(&c.taken_text).p, "..., is {"));
    config_changes_deinit(&c);
    config_unref(b);
    char *at = is + snprintf(is, sizeof(is), "%s", was);
    for (unsigned i = 0; i < 300; i++)
        at += sprintf(at, "model \"m%u\" { }\n", i);
    b = parse(is);
    config_changes_find(&c, a, b);
    assert_int_equal(c.taken, 300);
    assert_int_equal(c.refused, 0);
    struct view told = buffer_view(&c.taken_text);
    assert_true(told.n < CONFIG_CHANGES_TOLD * 40);
    for (unsigned i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof(name), "m%u", i);
        assert_ptr_equal(config_model_find(b, view_str(name)), &b->models[i]);
    }
    assert_null(config_model_find(b, VIEW("m300")));
    assert_null(config_model_find(b, VIEW("")));
    config_changes_deinit(&c);
    config_unref(a);
    config_unref(b);
}

static void too_many_models(void **state)
{
    struct buffer text;
    struct config_errors e;
    buffer_init(&text);
    assert_true(buffer_append(&text, SMALL, strlen(SMALL)));
    for (unsigned i = 0; i <= CONFIG_MAX_MODELS; i++) {
        char line[40];
        int n = snprintf(line, sizeof(line), "model \"m%u\" { }\n", i);
        assert_true(buffer_append(&text, line, (size_t)n));
    }
    assert_null(config_parse(buffer_view(&text), "t.conf", &e));
    assert_string_equal(e.error[0].text, "expected at most 1024 model sections, got 1025");
    buffer_deinit(&text);
}

static void too_many_replicas(void **state)
{
    struct buffer text;
    struct config_errors e;
    buffer_init(&text);
    assert_true(buffer_append(&text, LISTEN, strlen(LISTEN)));
    for (unsigned i = 0; i < CONFIG_MAX_REPLICAS / 64; i++) {
        char line[80];
        int n =
            snprintf(line, sizeof(line), "worker \"w%u\" { command = {\"a\"} replicas = 64 }\n", i);
        assert_true(buffer_append(&text, line, (size_t)n));
    }
    struct config *c = config_parse(buffer_view(&text), "t.conf", &e);
    assert_int_equal(config_replicas(c), CONFIG_MAX_REPLICAS);
    config_unref(c);
    assert_true(buffer_append(&text, WORKER, strlen(WORKER)));
    assert_null(config_parse(buffer_view(&text), "t.conf", &e));
    assert_string_equal(e.error[0].text,
                        "expected at most 2048 replicas of all workers together, got 2049");
    buffer_deinit(&text);
}

// Every row can be printed as the file would have it, and its default reads back as itself.
static void every_key_prints(void **state)
{
    struct config *c = parse(SMALL "model \"x\" { }" EXPERIMENT("90%", "10%"));
    for (unsigned i = 0; i < config_key_count; i++) {
        const struct config_key *k = &config_keys[i];
        const void *base = c;
        struct buffer out;
        if (k->section == SECTION_LISTEN)
            base = &c->listens[0];
        else if (k->section >= SECTION_DEFAULTS && k->section <= SECTION_DEFAULTS_CACHE)
            base = &c->unlisted;
        else if (k->section >= SECTION_WORKER && k->section <= SECTION_WORKER_CACHE)
            base = &c->workers[0];
        else if (k->section >= SECTION_MODEL && k->section <= SECTION_MODEL_CACHE)
            base = &c->models[0];
        else if (k->section == SECTION_LAYER)
            base = &c->layers[0];
        else if (k->section >= SECTION_EXPERIMENT && k->section <= SECTION_EXPERIMENT_BANDIT)
            base = &c->experiments[0];
        else if (k->section == SECTION_EXPERIMENT_VARIANT)
            base = &c->experiments[0].variants[0];
        else if (k->section == SECTION_EXPERIMENT_SHADOW)
            base = &c->experiments[0].shadows[0];
        if (k->section == SECTION_ADMIN)
            continue; // there is none
        buffer_init(&out);
        assert_true(config_key_print(c, k, base, &out));
        bool completed = strcmp(k->name, "timeout") == 0 && k->section < SECTION_HEALTH;
        completed |= strcmp(k->name, "replicas") == 0; // of addresses there are none
        if (k->type == KEY_DURATION && k->standard) {  // 60s is 1m
            uint64_t us = 0, same = 0;
            value_duration(view_str(k->standard), &us);
            completed |= value_duration(buffer_view(&out), &same) == VALUE_OK && us == same;
        }
        if (k->standard && !completed && !view_is(buffer_view(&out), k->standard))
            fail_msg("%s: %s printed as %.*s", k->name, k->standard, VIEW_ARG(buffer_view(&out)));
        buffer_deinit(&out);
    }
    config_unref(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing),          cmocka_unit_test(what_is_taken),
        cmocka_unit_test(experiments),      cmocka_unit_test(what_wants_a_restart),
        cmocka_unit_test(listeners),        cmocka_unit_test(long_and_many),
        cmocka_unit_test(too_many_models),  cmocka_unit_test(too_many_replicas),
        cmocka_unit_test(every_key_prints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
