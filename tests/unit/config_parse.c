// gateway.conf as a whole: the sample, the defaults, and what is refused with which line (row 122).
#include "base/mem.h"
#include "config/config.h"
#include "config/keys.h"
#include "tests/unit/file.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
// cmocka wants the four above before it
#include <cmocka.h>

#define SMALL                                                                                      \
    "listen \"a\" { address = \"127.0.0.1:0\" }\n"                                                 \
    "worker \"w\" { addresses = {\"grpc://10.0.0.7:8001\"} }\n"

static struct config *good(const char *text)
{
    struct config_errors e;
    struct config *c = config_parse(view_str(text), "t.conf", &e);
    if (!c)
        fail_msg("refused, line %u: %s", e.error[0].line, e.error[0].text);
    assert_int_equal(e.count, 0);
    return c;
}

static void sample(void **state)
{
    struct config_errors e;
    struct view text = file_read("config/gateway.conf");
    assert_non_null(text.p);
    struct config *c = config_parse(text, "config/gateway.conf", &e);
    file_free(text);
    if (!c)
        fail_msg("refused, line %u: %s", e.error[0].line, e.error[0].text);
    assert_string_equal(c->path, "config/gateway.conf");
    assert_int_equal(c->listen_count, 1);
    assert_string_equal(c->listens[0].name, "public");
    assert_string_equal(c->listens[0].address.host, "127.0.0.1");
    assert_int_equal(c->listens[0].address.port, 8080);
    assert_true(c->listens[0].expose);
    assert_null(c->listens[0].certificate);
    assert_true(c->admin.on);
    assert_int_equal(c->admin.address.port, 9090);
    assert_int_equal(c->drain_delay_us, 0);
    assert_int_equal(c->worker_count, 1);
    assert_int_equal(c->workers[0].command_count, 5);
    assert_string_equal(c->workers[0].command[0], "sluice-worker");
    assert_null(c->workers[0].command[5]);
    assert_int_equal(c->workers[0].replicas, 1);
    assert_int_equal(c->model_count, 2);
    const struct config_model *m = config_model_find(c, VIEW("digits"));
    assert_non_null(m);
    assert_int_equal(m->worker_count, 1);
    assert_int_equal(m->workers[0], 0);
    assert_int_equal(m->max_rows, 64);
    assert_int_equal(m->policy, CONFIG_POLICY_AUTO);
    assert_true(m->max_wait_us == CONFIG_AUTO);
    assert_int_equal(m->queue_rows, 4096);
    assert_int_equal(m->timeout_us, 30000000);
    m = config_model_find(c, VIEW("digits-small"));
    assert_int_equal(m->queue_rows, 4096); // max(1024, 64 x 64)
    assert_int_equal(m->max_wait_us, 1000);
    assert_int_equal(m->policy, CONFIG_POLICY_FIXED);
    assert_int_equal(m->preferred_count, 2);
    assert_int_equal(m->preferred[1], 32);
    assert_null(config_model_find(c, VIEW("digit")));
    assert_null(c->log.access);
    config_unref(config_ref(c));
    config_unref(c);
}

static void defaults(void **state)
{
    struct config *c = good(SMALL);
    assert_int_equal(c->loops, 0);
    assert_false(c->models_listed_only);
    assert_false(c->ready_all);
    assert_false(c->core_dumps);
    assert_false(c->admin.on);
    assert_int_equal(c->drain_delay_us, 5000000);
    assert_int_equal(c->drain_timeout_us, 60000000);
    assert_int_equal(c->watchdog_us, 10000000);
    assert_null(c->runtime_dir);
    assert_int_equal(c->log.level, 1); // info
    assert_int_equal(c->limits.max_connections, 65536);
    assert_int_equal(c->limits.max_connections_per_address, 1024);
    assert_int_equal(c->limits.max_streams, 128);
    assert_int_equal(c->limits.max_headers, 100);
    assert_int_equal(c->limits.max_header_bytes, 32 << 10);
    assert_int_equal(c->limits.max_target, 8 << 10);
    assert_int_equal(c->limits.max_body, 64 << 20);
    assert_int_equal(c->limits.max_answer, 256 << 20);
    assert_int_equal(c->limits.bytes_in_flight, 0);
    assert_int_equal(c->limits.abuse_budget, 200);
    assert_int_equal(c->limits.header_timeout_us, 10000000);
    assert_int_equal(c->limits.body_timeout_us, 10000000);
    assert_int_equal(c->limits.body_min_rate, 500);
    assert_int_equal(c->limits.idle_timeout_us, 75000000);
    assert_int_equal(c->limits.send_timeout_us, 30000000);
    assert_int_equal(c->limits.stream_stall_us, 10000000);
    assert_int_equal(c->limits.deadline_default_us, 30000000);
    assert_int_equal(c->limits.deadline_max_us, 600000000);
    assert_int_equal(c->log.sample_ppm, 1000000);
    assert_int_equal(c->log.explain, 2048);
    assert_int_equal(c->log.ring_bytes, 4 << 20);
    assert_int_equal(c->health.interval_us, 1000000);
    assert_int_equal(c->health.failures, 3);
    assert_false(c->store.on);
    assert_int_equal(c->unlisted.worker_count, 0);
    assert_int_equal(c->unlisted.policy, CONFIG_POLICY_AUTO);
    assert_int_equal(c->unlisted.pipeline, CONFIG_AUTO_N);
    assert_true(c->unlisted.max_wait_us == CONFIG_AUTO);
    assert_true(c->unlisted.refuse_early);
    assert_int_equal(c->unlisted.queue_bytes, 256 << 20);
    assert_true(c->unlisted.cache_enabled && c->unlisted.cache_ttl_us == 0);
    assert_true(c->unlisted.cache_stale_us == 24 * 3600 * 1000000ull);
    assert_int_equal(c->cache_bytes, 256 << 20);
    assert_int_equal(c->unlisted.timeout_us, 30000000);
    assert_true(c->unlisted.levels);
    assert_int_equal(c->unlisted.p99_enter_us, 0);
    assert_int_equal(c->unlisted.p99_leave_us, 0);
    assert_int_equal(c->unlisted.hold_us, 5000000);
    assert_int_equal(c->unlisted.window_us, 10000000);
    assert_int_equal(c->workers[0].replicas, 0);
    assert_int_equal(c->workers[0].addresses[0].port, 8001);
    config_unref(c);
}

// What `defaults` says holds for all models, with a section or without, wherever it stands in the file.
static void rules_of_all_models(void **state)
{
    struct config *c = good(
        "model m { batch { max_wait = 3ms } }\n" SMALL
        "defaults { timeout = 7s batch { policy = fixed pipeline = 5 max_wait = 1ms\n"
        "           preferred = {4, 8} } queue { rows = 99 refuse_early = off }\n"
        "           cache { ttl = 5m enabled = off } } cache { memory = 3MiB }\n"
        "model n { batch { policy = auto pipeline = auto max_wait = auto } queue { rows = 5 } }");
    const struct config_model *m = config_model_find(c, VIEW("m")),
                              *n = config_model_find(c, VIEW("n"));
    assert_int_equal(m->policy, CONFIG_POLICY_FIXED);
    assert_int_equal(m->pipeline, 5);
    assert_int_equal(m->max_wait_us, 3000);
    assert_int_equal(m->preferred_count, 2);
    assert_int_equal(m->queue_rows, 99);
    assert_int_equal(m->timeout_us, 7000000);
    assert_false(m->refuse_early || m->cache_enabled);
    assert_int_equal(m->cache_ttl_us, 300000000);
    assert_int_equal(c->cache_bytes, 3 << 20);
    assert_int_equal(n->policy, CONFIG_POLICY_AUTO);
    assert_int_equal(n->pipeline, CONFIG_AUTO_N);
    assert_true(n->max_wait_us == CONFIG_AUTO);
    assert_int_equal(n->queue_rows, 5);
    assert_int_equal(c->unlisted.max_wait_us, 1000);
    assert_int_equal(c->unlisted.timeout_us, 7000000);
    assert_null(c->unlisted.name);
    config_unref(c);
}

// A worker's rules come between the defaults and a model's own, for models that name it, wherever they stand.
static void rules_of_a_worker(void **state)
{
    struct config *c = good(
        "model named { worker = b batch { pipeline = 2 } }\n"
        "model anywhere { }\n"
        "worker a { addresses = {\"grpc://h:1\"} }\n"
        "worker b { addresses = {\"grpc://h:2\"} serial = on timeout = 3s queue { "
        "refuse_early = off rows "
        "= 77 }\n"
        "           batch { pipeline = 9 preferred = {2, 4} } cache { ttl = 4s stale = 5s } }\n"
        "listen l { address = \"127.0.0.1:1\" }\n"
        "defaults { batch { policy = fixed max_wait = 1ms } queue { rows = 88 } }\n");
    const struct config_model *named = config_model_find(c, VIEW("named")),
                              *anywhere = config_model_find(c, VIEW("anywhere")),
                              *a = &c->workers[0].rules, *b = &c->workers[1].rules;
    assert_int_equal(named->worker_count, 1);
    assert_int_equal(named->workers[0], 1);
    assert_int_equal(named->pipeline, 2);
    assert_int_equal(named->cache_ttl_us, 4000000);
    assert_int_equal(named->cache_stale_us, 5000000);
    assert_int_equal(anywhere->cache_ttl_us, 0);
    assert_int_equal(named->queue_rows, 77);
    assert_int_equal(named->timeout_us, 3000000);
    assert_int_equal(named->preferred_count, 2);
    assert_int_equal(named->policy, CONFIG_POLICY_FIXED);
    assert_false(named->refuse_early);
    assert_int_equal(anywhere->worker_count, 0);
    assert_int_equal(anywhere->queue_rows, 88);
    assert_true(anywhere->refuse_early);
    assert_int_equal(a->queue_rows, 88);
    assert_int_equal(a->max_wait_us, 1000);
    assert_true(c->workers[1].serial && !c->workers[0].serial);
    assert_int_equal(b->pipeline, 9);
    assert_int_equal(b->max_wait_us, 1000);
    assert_null(b->name);
    assert_int_equal(c->unlisted.timeout_us, 30000000);
    config_unref(c);
}

// The first that is named is the one that it inherits from.
static void workers_in_order(void **state)
{
    struct config *c =
        good("model m { worker = {b, a} }\nmodel n { worker = {a} slow_start = 1s }\n"
             "worker a { addresses = {\"grpc://h:1\"} queue { rows = 77 } }\n"
             "worker b { addresses = {\"grpc://h:2\"} slow_start = 3s }\n"
             "listen l { address = \"127.0.0.1:1\" }\n");
    const struct config_model *m = config_model_find(c, VIEW("m")),
                              *n = config_model_find(c, VIEW("n"));
    assert_int_equal(m->worker_count, 2);
    assert_int_equal(m->workers[0], 1);
    assert_int_equal(m->workers[1], 0);
    assert_int_equal(m->queue_rows, 0);
    assert_int_equal(m->slow_start_us, 3000000);
    assert_int_equal(n->worker_count, 1);
    assert_int_equal(n->workers[0], 0);
    assert_int_equal(n->queue_rows, 77);
    assert_int_equal(n->slow_start_us, 1000000);
    assert_int_equal(c->unlisted.slow_start_us, 10000000);
    config_unref(c);
}

// From the defaults to a worker to a model: what is said last of each key; p99_leave follows p99_enter where nobody says.
static void rules_of_levels(void **state)
{
    struct config *c = good(
        SMALL "defaults { levels = off degradation { p99_enter = 100ms hold = 2s } }\n"
              "worker b { addresses = {\"grpc://h:2\"} levels = on degradation { window = 30s } }\n"
              "model one { worker = b critical = true degradation { p99_enter = 40ms } }\n"
              "model two { degradation { p99_leave = 90ms hold = 1s } }");
    const struct config_model *one = config_model_find(c, VIEW("one")),
                              *two = config_model_find(c, VIEW("two"));
    assert_false(c->unlisted.levels);
    assert_int_equal(c->unlisted.p99_leave_us, 75000);
    assert_true(one->levels && one->critical);
    assert_int_equal(one->p99_enter_us, 40000);
    assert_int_equal(one->p99_leave_us, 30000);
    assert_int_equal(one->hold_us, 2000000);
    assert_int_equal(one->window_us, 30000000);
    assert_false(two->levels || two->critical);
    assert_int_equal(two->p99_enter_us, 100000);
    assert_int_equal(two->p99_leave_us, 90000);
    assert_int_equal(two->hold_us, 1000000);
    assert_int_equal(two->window_us, 10000000);
    config_unref(c);
}

static void rules_of_the_only_worker(void **state)
{
    struct config *c = good("model m { queue { rows = 5 } }\n"
                            "worker w { addresses = {\"grpc://h:1\"} batch { policy = fixed } }\n"
                            "listen l { address = \"127.0.0.1:1\" }");
    assert_int_equal(c->models[0].policy, CONFIG_POLICY_FIXED);
    assert_int_equal(c->models[0].queue_rows, 5);
    assert_int_equal(c->models[0].worker_count, 0);
    config_unref(c);
}

// Comments wherever white space may be, both quotes, bare texts, CRLF, a comma at a list's end.
static void syntax(void **state)
{
    struct config *c =
        good("/* one\n two */loops=3 models=listed ready_when = all core_dumps = on # x\n"
             "listen 'a' /* before the brace */ { address = \"[::1]:1\" }\r\n"
             "worker w // title\n { command = { \"a\\\"b\\\\\", # first\n 'it\\'s', // second\n"
             "  /* third } */ \"\\t#\", } replicas = 3 }\n"
             "model m { batch { policy = fixed } worker = w }\n"
             "log { access = /var/log/a.log sample=12.5% level = error }");
    assert_int_equal(c->loops, 3);
    assert_true(c->models_listed_only && c->ready_all && c->core_dumps);
    assert_int_equal(c->log.level, 3);
    assert_string_equal(c->workers[0].command[0], "a\"b\\");
    assert_string_equal(c->workers[0].command[1], "it's");
    assert_string_equal(c->workers[0].command[2], "\t#");
    assert_int_equal(c->workers[0].command_count, 3);
    assert_int_equal(c->workers[0].replicas, 3);
    assert_string_equal(c->log.access, "/var/log/a.log");
    assert_int_equal(c->log.sample_ppm, 125000);
    config_unref(c);
}

// Who requests are of.
static void tenants(void **state)
{
    struct config *c =
        good("tenant = \"header:x-tenant\"\n" SMALL "defaults { cache { shared = on } }");
    assert_true(view_is(c->tenant_header, "x-tenant"));
    assert_true(c->unlisted.cache_shared);
    config_unref(c);
    c = good(SMALL);
    assert_int_equal(c->tenant_header.n, 0);
    assert_null(c->tenant);
    assert_false(c->unlisted.cache_shared);
    config_unref(c);
}

// What is recorded: a model's section goes before the one at the top.
static void predictions(void **state)
{
    struct config *c = good(
        SMALL "model \"x\" { predictions { inputs = full required = true redact = {\"input:a\"} } }"
              "model \"y\" { } predictions { file = d archive = a archive_keep = 30d keep = 2d "
              "outputs = none redact = {tenant} "
              "parameters = on headers = {x-a, x_b} } "
              "model \"z\" { predictions { parameters = off headers = {x-c} "
              "redact = {\"header:x-c\", \"parameter:p\"} } }");
    const struct config_model *x = &c->models[0], *y = &c->models[1];
    assert_true(c->predictions.on);
    assert_string_equal(c->predictions.file, "d");
    assert_null(c->predictions.instance);
    assert_int_equal(c->predictions.max_bytes, 16384);
    assert_int_equal(c->predictions.ring_bytes, 8 << 20);
    assert_int_equal(c->predictions.flush_us, 1000000);
    assert_int_equal(c->predictions.rotate_bytes, 256 << 20);
    assert_int_equal(c->predictions.rotate_us, 3600000000);
    assert_int_equal(c->predictions.keep_us, 2 * 86400000000);
    assert_string_equal(c->predictions.archive, "a");
    assert_int_equal(c->predictions.archive_keep_us, 30 * 86400000000);
    assert_int_equal(x->predict_inputs, RECORDED_FULL);
    assert_int_equal(x->predict_outputs, RECORDED_NONE);
    assert_true(x->predict_required);
    assert_true(c->predictions.required);
    assert_string_equal(x->redact[0], "input:a");
    assert_int_equal(x->redact_count, 1);
    assert_int_equal(y->predict_inputs, RECORDED_HASH);
    assert_int_equal(y->predict_outputs, RECORDED_NONE);
    assert_int_equal(y->predict_ppm, 1000000);
    assert_false(y->predict_required);
    assert_string_equal(y->redact[0], "tenant");
    assert_int_equal(c->unlisted.predict_outputs, RECORDED_NONE);
    assert_true(x->predict_parameters && y->predict_parameters && !c->models[2].predict_parameters);
    assert_int_equal(x->predict_header_count, 2);
    assert_string_equal(y->predict_headers[1], "x_b");
    assert_int_equal(c->models[2].predict_header_count, 1);
    assert_string_equal(c->models[2].redact[1], "parameter:p");
    config_unref(c);
    c = good(SMALL "model \"x\" { } predictions { file = d }");
    assert_false(c->predictions.required);
    config_unref(c);
    c = good(SMALL "model \"x\" { predictions { required = false } } "
                   "predictions { file = d required = true }");
    assert_true(c->predictions.required); // of those that have no section
    config_unref(c);
    c = good(SMALL);
    assert_false(c->predictions.on);
    config_unref(c);
}

// A store, of each kind.
static void stores(void **state)
{
    struct config *c = good(SMALL "store { redis = redis://h/2 }");
    assert_true(c->store.on && !c->store.tls);
    assert_string_equal(c->store.redis.host, "h");
    assert_int_equal(c->store.redis.database, 2);
    assert_int_equal(c->store.timeout_us, 20000);
    assert_string_equal(c->store.deployment, "default");
    assert_false(config_names_secrets(c));
    config_unref(c);
    c = good(SMALL "store { sentinels = {a:1, b:2} master = m user = u password_file = p\n"
                   "        sentinel_user = su sentinel_password_file = sp deployment = d }");
    assert_int_equal(c->store.sentinel_count, 2);
    assert_string_equal(c->store.sentinels[1].host, "b");
    assert_string_equal(c->store.master, "m");
    assert_true(config_names_secrets(c));
    config_unref(c);
    c = good(SMALL "store { cluster = {a:1} timeout = 5ms }");
    assert_int_equal(c->store.cluster_count, 1);
    assert_null(c->store.redis.text);
    config_unref(c);
}

struct refusal {
    const char *text;
    unsigned line;
    const char *says; // part of the first message
};

static void refused(const struct refusal *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct config_errors e;
        struct config *c = config_parse(view_str(rows[i].text), "t.conf", &e);
        if (c || e.count == 0)
            fail_msg("accepted: %s", rows[i].text);
        if (e.error[0].line != rows[i].line || !strstr(e.error[0].text, rows[i].says))
            fail_msg("%s\n   said line %u: %s\n   wanted line %u: %s", rows[i].text,
                     e.error[0].line, e.error[0].text, rows[i].line, rows[i].says);
    }
}
#define REFUSED(rows) refused(rows, sizeof(rows) / sizeof(*(rows)))

static void shapes(void **state)
{
    static const struct refusal rows[] = {
        {"\nlopps = 1\n", 2,
         "unknown key \"lopps\" at the top of the file; did you mean \"loops\"?"},
        {"zzzzzz = 1\n", 1, "unknown key \"zzzzzz\" at the top of the file"},
        {"limits {\n max_bdoy = 1 }", 2, "in section limits; did you mean \"max_body\"?"},
        {"lsten \"a\" { x = 1 }", 1, "did you mean \"listen\"?"},
        {"loops = 1\nloops = 2\n", 2, "loops stands twice (first on line 1)"},
        {"limits { }\nlimits { }", 2, "limits stands twice (first on line 1)"},
        {"model m { batch { } batch { } }", 1, "batch stands twice"},
        {"model m { }\nmodel n { }\nmodel m { }", 3, "model \"m\" stands twice (first on line 1)"},
        {"listen { }", 1, "listen: expected a title: listen \"NAME\" {"},
        {"limits \"x\" { }", 1, "limits: expected no title"},
        {"model \"a/b\" { }", 1, "expected a name of 1 to 128"},
        {"model \"..\" { }", 1, "expected a name of 1 to 128"},
        {"model \"\" { }", 1, "expected a name of 1 to 128"},
        {"model \"a\\\"\" { }", 1, "expected a name of 1 to 128"},
        {"loops { }", 1, "expected \"loops = ...\", got a section"},
        {"limits = 5", 1, "limits is a section: write limits { ... }"},
        {"loops = {1, 2}", 1, "loops: expected one value, got a list"},
        {"worker w { command = \"a\" }", 1, "command: expected a list"},
        {"worker w { command = { } }", 1, "command: an empty list"},
        {"worker w { command = {\"a\" \"b\"} }", 1, "expected a comma or } in a list, got \"b\""},
        {"worker w { command = {,} }", 1, "expected a value or } in a list, got ,"},
        {"worker w { command += {\"a\"} }", 1, "'+=' is not understood"},
        {"loops\n=\n", 3, "expected a value after '=', got the end of the file"},
        {"loops 5", 1, "expected { after a section's name, got the end of the file"},
        {"loops", 1, "expected = or { after a name, got the end of the file"},
        {"loops = 1 }", 1, "expected a key or a section, got }"},
        {"\nmodel m {\n batch {\n", 3, "section batch is not closed"},
        {"x {\n{{{{{{{{{{{{{{{{{{", 1, "did you mean"},
        {"include(\"other.conf\")", 1, "include"},
        {"log { access = \"${HOME}/x\" }", 1, "environment variables are not read"},
        {"log { access = ${HOME} }", 1, "environment variables are not read"},
        {"log { access = \"a\n\" }", 1, "quote is not closed on its line"},
        {"log { access = \"a", 1, "quote is not closed"},
        {"log { access = \"\\x41\" }", 1, "unknown escape"},
        {"log { access = \"\\101\" }", 1, "unknown escape"},
        {"log { access = \"a\001b\" }", 1, "control character"},
        {"loops = *", 1, "a stray '*'"},
        {"loops = 1*1", 1, "a stray '*'"},
        {"\xef\xbb\xbfloops = 1", 1, "outside ASCII"},
        {"\n/* never closed\n\n", 2, "a comment /* that is not closed"},
        {"\f", 1, "control character"},
    };
    struct refusal all[sizeof(rows) / sizeof(*rows)];
    memcpy(all, rows, sizeof(rows));
    all[27].says = "unknown key \"x\" at the top of the file"; // one letter is near to nothing
    REFUSED(all);
}

static void values(void **state)
{
    static const struct refusal rows[] = {
        {"loops = 257\n" SMALL, 1, "loops: expected a whole number from 0 to 256, got \"257\""},
        {"loops = many\n" SMALL, 1, "got \"many\""},
        {"drain_delay = 5\n" SMALL, 1, "drain_delay: expected a duration"},
        {"watchdog = 1s\n" SMALL, 1, "from 2s to 1h, got \"1s\""},
        {"ready_when = some\n" SMALL, 1, "ready_when: expected one of any|all, got \"some\""},
        {"core_dumps = 1\n" SMALL, 1, "core_dumps: expected true or false"},
        {"\ntenant = x-tenant\n" SMALL, 2, "tenant: expected \"header:NAME\" with at most 64 of"},
        {"tenant = \"header:\"\n" SMALL, 1, "got \"header:\""},
        {"tenant = \"header:X-Tenant\"\n" SMALL, 1, "of a-z 0-9 - _, got \"header:X-Tenant\""},
        {"tenant = \"header:a b\"\n" SMALL, 1, "got \"header:a b\""},
        {"tenant = \"header:authorization\"\n" SMALL, 1, "authorization is a secret"},
        {"tenant = \"header:cookie\"\n" SMALL, 1, "tenant: cookie is a secret"},
        {SMALL "limits {\n max_body = 64 }", 4, "max_body: expected a size"},
        {SMALL "log { sample = 101% }", 3, "sample: expected a share"},
        {SMALL "cache {\n memory = lots }", 4, "memory: expected a size such as"},
        {SMALL "cache { ttl = 1s }", 3, "unknown key \"ttl\" in section cache"},
        {SMALL "defaults { cache {\n ttl = 10 } }", 4, "ttl: expected a duration such as"},
        {SMALL "model m { cache {\n enabled = maybe } }", 4, "enabled: expected true or false"},
        {SMALL "model m { cache = off }", 3, "cache is a section: write cache { ... }"},
        {SMALL "log { explain = 65537 }", 3, "explain: expected a whole number from 0 to 65536"},
        {SMALL "log { level = loud }", 3, "level: expected one of debug|info|warn|error, got"},
        {SMALL "log { access = \"\" }", 3, "access: expected a text that is not empty"},
        {SMALL "admin { }", 3, "admin: address is missing"},
        {SMALL "admin { address = localhost:1 }", 3, "address: expected \"IP:PORT\""},
        {SMALL "model m { worker = x }", 3, "worker: expected the title of a worker section"},
        {SMALL "model m { batch { preferred = {8, 8} } }", 3, "ascending list"},
        {SMALL "model m { batch {\n preferred = {8, 65}\n max_rows = 64 } }", 4,
         "preferred: 65 is more than max_rows (64)"},
        {SMALL "model m { batch {\n preferred = {1, 2, 3, 4, 5, 6, 7, 8, 9} } }", 4,
         "preferred: expected at most 8 elements, got 9"},
        {SMALL "model m { batch { max_rows = 64 } queue { rows = 63 } }", 3,
         "no batch could be full"},
        {SMALL "model m { fallback = {\"m\"} }", 3, "fallback: \"m\" is the model itself"},
        {SMALL "model m {\n fallback = {\"a\", \"b\", \"a\"} }", 4, "\"a\" stands in it twice"},
        {SMALL "model m { fallback = {\"a b\"} }", 3, "fallback: expected a model name"},
        {SMALL "model m { fallback = {\"\"} }", 3, "fallback: expected a model name"},
        {SMALL "model m { default = d fallback = {\"default\", \"a\"} }", 3,
         "nothing is asked behind it"},
        {SMALL "model m { fallback = {\"cached\"} }", 3, "\"cached\" needs cache { ttl }"},
        {SMALL "model m { fallback = {\"cached\", \"cached\"} cache { ttl = 1s } }", 3,
         "\"cached\" stands in it twice"},
        {SMALL "model m { fallback = {\"default\"} }", 3, "\"default\" needs the key default"},
        {SMALL "model m { fallback = {\"a\"}\n default = d }", 4, "default: is never given"},
        {SMALL "model m { step_timeout = 1s }", 3, "step_timeout: goes with fallback"},
        {SMALL "models = listed model m { fallback = {\"a\"} }", 3, "\"a\" has no model section"},
        {SMALL "model m { fallback = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17} }",
         3, "fallback: expected at most 16 elements, got 17"},
        {SMALL "model m { timeout = 11m }", 3, "longer than limits.deadline_max"},
        {SMALL "model m {\n worker = {b, x} }", 4,
         "worker: expected the title of a worker section"},
        {SMALL "worker x { addresses = {grpc://h:1} }\nmodel m { worker = {x, x} }", 4,
         "worker: \"x\" stands in it twice"},
        {SMALL "model m { worker = {} }", 3, "worker: an empty list"},
        {SMALL "model m { worker = {1, 2, 3, 4, 5} }", 3,
         "worker: expected at most 4 elements, got 5"},
        {SMALL "model m { slow_start = 2h }", 3, "slow_start: expected a duration"},
        {SMALL "model m { critical = 2 }", 3, "critical: expected true or false"},
        {SMALL "model m {\n levels = some }", 4, "levels: expected true or false"},
        {SMALL "model m { degradation {\n p99_enter = 80ms\n p99_leave = 81ms } }", 5,
         "p99_leave: expected at most p99_enter (80ms), got 81ms"},
        {SMALL "defaults { degradation { p99_enter = 80ms p99_leave = 80ms } }\n"
               "model m { degradation {\n p99_enter = 79ms } }",
         5, "p99_leave: expected at most p99_enter (79ms), got 80ms"},
        {SMALL "worker x { addresses = {grpc://h:1}\n degradation { p99_leave = 1ms } }", 4,
         "p99_leave: needs p99_enter"},
        {SMALL "defaults { degradation { hold = 9ms } }", 3, "hold: expected a duration"},
        {SMALL "defaults { degradation { window = 2h } }", 3, "from 100ms to 1h, got \"2h\""},
        {SMALL "degradation { hold = 1s }", 3, "degradation"},
        {SMALL "defaults { timeout = 11m }", 3, "longer than limits.deadline_max"},
        {SMALL "worker x { addresses = {grpc://h:1}\n timeout = 11m }", 4,
         "longer than limits.deadline_max"},
        {SMALL "worker x { addresses = {grpc://h:1}\n batch { max_wiat = 1ms } }", 4,
         "did you mean \"max_wait\"?"},
        {SMALL "limits { deadline_default = 11m }", 3, "longer than deadline_max"},
        {SMALL "limits { bytes_in_flight = 1MiB }", 3, "less than max_body"},
        {SMALL "listen b { address = 1.2.3.4:1 certificate = x }", 3, "certificate needs key"},
        {SMALL "listen b { address = 1.2.3.4:1 key = x }", 3, "key needs certificate"},
        {SMALL "listen b { address = 1.2.3.4:1 }\nlisten c { address = 1.2.3.4:1 }", 4,
         "1.2.3.4:1 is the address of listen \"b\" already"},
        {SMALL "listen b { address = unix:/a\ncors = {\"null\"} }", 4,
         "cors: expected an origin such as \"https://app.example\", or \"*\", got \"null\": every "
         "sandboxed page and every file says that"},
        {SMALL "listen b { address = unix:/a\ncors = {\"*\", \"http://b\"} }", 4,
         "cors: \"*\" is all: nothing stands beside it"},
        {SMALL "listen b { address = unix:/a\ncors = {\"http://b\", \"http://c\", \"http://b\"} }",
         4, "cors: \"http://b\" stands in it twice"},
        {SMALL "listen b { address = unix:/a\ncors = {\"http://b/\"} }", 4,
         "got \"http://b/\": nothing may stand behind host and port"},
        {SMALL "listen b { address = unix:/a }\nadmin { address = unix:/a }", 3,
         "is the address of admin already"},
        {SMALL "worker x { }", 3, "worker \"x\": expected one of command and addresses"},
        {SMALL "worker x { command = {a} addresses = {grpc://h:1} }", 3, "expected only one of"},
        {SMALL "worker x { addresses = {grpc://h:1} replicas = 2 }", 3,
         "replicas: goes with command"},
        {SMALL "worker x { addresses = {grpc://h:1} serial = maybe }", 3,
         "serial: expected true or false"},
        {SMALL "worker x { addresses = {h:1} }", 3, "addresses: expected a list of"},
        {SMALL "worker x { command = {\"\"} }", 3, "command: expected a program's name"},
        {SMALL "predictions { }", 3, "predictions: expected file, or redis = true"},
        {SMALL "predictions { file = d\n instance = \"a b\" }", 4, "instance: expected at most 64"},
        {SMALL "predictions { file = d\n inputs = some }", 4, "inputs: expected one of none|hash"},
        {SMALL "predictions { file = d\n ring = 1MiB }", 4, "ring: expected a size such as"},
        {SMALL "predictions { file = d\n redact = {\"output:\"} }", 4, "redact: expected \"input:"},
        {SMALL "store { redis = redis://h }\npredictions { redis = true\n archive = d }", 5,
         "archive: needs file"},
        {SMALL "predictions { file = d\n archive_keep = 1d }", 4, "archive_keep: needs archive"},
        {SMALL "predictions { file = d archive = a\n keep = 1d }", 4, "keep: files would be gone"},
        {SMALL "predictions { file = d\n headers = {X-A} }", 4,
         "headers: expected names of at most"},
        {SMALL "predictions { file = d\n headers = {\"\"} }", 4,
         "headers: expected names of at most"},
        {SMALL "predictions { file = d\n headers = {\"x:\"} }", 4, "headers: expected names of"},
        {SMALL "predictions { file = d\n headers = {x, y, x} }", 4, "headers: x came twice"},
        {SMALL "model \"x\" {\n predictions { headers = {authorization} } }", 4,
         "headers: authorization is a secret"},
        {SMALL "predictions { file = d\n redact = {\"header:\"} }", 4, "redact: expected \"input:"},
        {SMALL "predictions { file = d\n parameters = some }", 4, "parameters: expected true or"},
        {SMALL "model \"x\" {\n predictions { redact = {y} } }", 4,
         "redact: expected \"input:NAME"},
        {SMALL "store { }", 3, "store: expected one of redis, sentinels and cluster"},
        {SMALL "store {\n redis = redis://h\n cluster = {h:1} }", 3, "store: expected only one of"},
        {SMALL "store { redis = \"redis://me:secret@h:1\" }", 3, "redis: expected \"redis://HOST"},
        {SMALL "store {\n sentinels = {h:1} }", 4, "sentinels: needs master beside it"},
        {SMALL "store { redis = redis://h\n master = m }", 4, "master: needs sentinels beside it"},
        {SMALL "store { cluster = {h:1, h}\n }", 3, "cluster: expected a list of \"HOST:PORT\""},
        {SMALL "store { redis = redis://h\n user = u }", 4, "user: needs password_file beside it"},
        {SMALL "store { redis = redis://h\n sentinel_password_file = f }", 4,
         "sentinel_password_file: needs sentinels beside it"},
        {SMALL "store { redis = redis://h\n timeout = 0 }", 4, "timeout: expected a duration"},
        {SMALL "store { redis = redis://h\n deployment = \"a:b\" }", 4,
         "deployment: expected at most 64 of A-Z a-z 0-9 . _ -, got \"a:b\""},
        {SMALL "store { redis = redis://h\n\n ca = f }", 5, "ca: goes with tls or rediss://"},
        {SMALL "store { redis = redis://h\n certificate = f\n key = k }", 4,
         "certificate: goes with tls or rediss://"},
        {SMALL "store { redis = redis://h\n certificate = f }", 4,
         "certificate: needs key beside it"},
        {SMALL "store { redis = redis://h\n key = f }", 4, "key: needs certificate beside it"},
        {SMALL "store { redis = unix:/r\n tls = on }", 4, "tls: not over a Unix socket"},
#ifndef SLUICE_REDIS_TLS
        {SMALL "store {\n redis = rediss://h }", 4, "redis: this build's hiredis speaks no TLS"},
        {SMALL "store { cluster = {h:1}\n tls = on }", 4,
         "tls: this build's hiredis speaks no TLS"},
#endif
        {SMALL "models = listed", 0, "no model section"},
        {"", 0, "no listen section"},
        {"# nothing\n", 0, "no listen section"},
    };
    REFUSED(rows);
}

// All that is wrong is said, in the order of the lines, and at most 20 things.
static void many_errors(void **state)
{
    struct config_errors e;
    assert_null(config_parse(VIEW("a = 1\nb = 2\nloops = {}\n"), "t", &e));
    assert_int_equal(e.count, 3);
    assert_int_equal(e.error[2].line, 3);
    char text[4096] = "";
    for (int i = 0; i < 30; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "key%d = 1\n", i);
    assert_null(config_parse(view_str(text), "t", &e));
    assert_int_equal(e.count, CONFIG_MAX_ERRORS);
    assert_int_equal(e.dropped, 10);
    char line[300];
    config_error_print(line, sizeof(line), "x.conf", &e.error[19]);
    assert_string_equal(line, "x.conf:20: unknown key \"key19\" at the top of the file\n");
    assert_null(config_parse(VIEW(SMALL "loops = x\nlimits { max_body = y }"), "t", &e));
    assert_int_equal(e.count, 2);
}

// Row 122: 10 MB, deep, many sections, NUL: refused in little time and memory.
static void large(void **state)
{
    struct config_errors e;
    size_t n = 10u << 20;
    char *text = malloc(n);
    memset(text, '\n', n);
    assert_null(config_parse(view_of(text, n), "t", &e));
    assert_non_null(strstr(e.error[0].text, "larger than 1MiB"));
    n = CONFIG_MAX_BYTES;
    memset(text, '{', n);
    memcpy(text, "x ", 2);
    assert_null(config_parse(view_of(text, n), "t", &e));
    size_t at = 0;
    for (int i = 0; at + 20 < n; i++)
        at += (size_t)sprintf(text + at, "model m%d{}\n", i);
    assert_null(config_parse(view_of(text, at), "t", &e));
    assert_non_null(strstr(e.error[0].text, "more than 4096 sections"));
    assert_null(config_parse(VIEW("loops = 1\n\0loops = 1\n"), "t", &e));
    assert_int_equal(e.error[0].line, 2);
    free(text);
}

// Every cut of the sample is refused or accepted, never worse; every byte turned into another, too.
static void torn(void **state)
{
    struct view whole = file_read("config/gateway.conf");
    assert_non_null(whole.p);
    struct config_errors e;
    for (size_t n = 0; n < whole.n; n += 7)
        config_unref(config_parse(view_of(whole.p, n), "t", &e));
    char *copy = malloc(whole.n);
    static const char with[] = "{}\"'=,*$/\\#\0 x";
    for (size_t i = 0; i < whole.n; i += 3) {
        memcpy(copy, whole.p, whole.n);
        copy[i] = with[i % (sizeof(with) - 1)];
        config_unref(config_parse(view_of(copy, whole.n), "t", &e));
    }
    free(copy);
    file_free(whole);
}

// The n-th allocation of ours fails: an error, no leak (under ASan), until it runs clean.
static void out_of_memory(void **state)
{
    struct view text = file_read("config/gateway.conf");
    assert_non_null(text.p);
    struct config_errors e;
    for (uint64_t n = 1;; n++) {
        mem_fail_at(n);
        struct config *c = config_parse(text, "t", &e);
        mem_fail_at(0);
        if (c) {
            config_unref(c);
            assert_true(n > 2);
            file_free(text);
            return;
        }
        assert_true(e.count >= 1);
    }
}

static void nearest(void **state)
{
    assert_string_equal(config_nearest(SECTION_LIMITS, VIEW("max_hedaers")), "max_headers");
    assert_string_equal(config_nearest(SECTION_TOP, VIEW("work")), "worker");
    assert_string_equal(config_nearest(SECTION_TOP, VIEW("drain_de")), "drain_delay");
    assert_null(config_nearest(SECTION_TOP, VIEW("fallback")));
    assert_null(config_nearest(SECTION_TOP, VIEW("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sample),
        cmocka_unit_test(defaults),
        cmocka_unit_test(syntax),
        cmocka_unit_test(tenants),
        cmocka_unit_test(predictions),
        cmocka_unit_test(stores),
        cmocka_unit_test(shapes),
        cmocka_unit_test(values),
        cmocka_unit_test(many_errors),
        cmocka_unit_test(large),
        cmocka_unit_test(torn),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(nearest),
        cmocka_unit_test(rules_of_all_models),
        cmocka_unit_test(rules_of_a_worker),
        cmocka_unit_test(rules_of_the_only_worker),
        cmocka_unit_test(workers_in_order),
        cmocka_unit_test(rules_of_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
