#include "gateway/pages.h"

#include "base/json.h"
#include "gateway/cache_pages.h"
#include "gateway/creation_pages.h"
#include "gateway/dashboard.h"
#include "gateway/explain.h"
#include "gateway/levels.h"
#include "gateway/live.h"
#include "gateway/metrics.h"
#include "gateway/process.h"
#include "gateway/reload.h"
#include "gateway/show.h"
#include "gateway/signals.h"
#include "gateway/snapshot.h"
#include "gateway/trial_pages.h"
#include <stdio.h>
#include <unistd.h>

static void metrics(struct exchange *ex, void *ctx)
{
    struct buffer page;
    buffer_init(&page);
    bool ok = metrics_page(&page, ctx);
    admin_answer(ex, 200, VIEW("text/plain; version=0.0.4; charset=utf-8"), &page, !ok);
}

static void health(struct exchange *ex, void *ctx)
{
    struct buffer page;
    bool healthy = show_healthy(ctx);
    struct view said = healthy ? VIEW("{\"healthy\":true}") : VIEW("{\"healthy\":false}");
    buffer_init(&page);
    bool ok = buffer_append(&page, said.p, said.n);
    admin_answer(ex, healthy ? 200 : 503, VIEW("application/json"), &page, !ok);
}

// ---- drain ------------------------------------------------------------------------------------------------

// As SIGTERM to the keeper, which holds the sockets and outlives us: it is asked, and then says so to us. It is
// also asked when we drain already: by a signal to us alone, it would start another. Asked again it changes
// nothing: only signals cut.
static void drain(struct exchange *ex, void *ctx)
{
    struct gateway *g = ctx;
    struct admin_json page;
    bool already = g->phase != PHASE_RUNNING;
    if (buffer_len(&ex->body) > 0) {
        admin_refuse(ex, 400, VIEW("body: expected none"));
        return;
    }
    if (!gateway_say_drain(g)) {
        admin_refuse(ex, 503, VIEW("the keeper could not be told: nothing has changed"));
        return;
    }
    GATEWAY_EVENT(g, NULL, LOG_INFO, "drain_asked", LOG_S("client", server_conn_peer(ex->conn)));
    struct json_writer *w = admin_json_begin(&page);
    json_w_key(w, VIEW("already"));
    json_w_bool(w, already);
    json_w_key(w, VIEW("pid"));
    json_w_u64(w, (uint64_t)getpid());
    json_w_key(w, VIEW("delay_ms"));
    json_w_u64(w, g->snap->config->drain_delay_us / 1000);
    json_w_key(w, VIEW("timeout_ms"));
    json_w_u64(w, g->snap->config->drain_timeout_us / 1000);
    admin_json_end(&page, ex, already ? 200 : 202);
}

// ---- the log's level ----------------------------------------------------------------------------------------

static void answer_level(struct exchange *ex, enum log_level now, enum log_level before)
{
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_w_key(w, VIEW("level"));
    json_w_string(w, view_str(log_level_name[now]));
    json_w_key(w, VIEW("before"));
    json_w_string(w, view_str(log_level_name[before]));
    admin_json_end(&page, ex, 200);
}

static void level(struct exchange *ex, void *ctx)
{
    const struct gateway *g = ctx;
    answer_level(ex, log_level(g->log), log_level(g->log));
}

// {"level": NAME} and nothing else. False: why has what was expected.
static bool read_level(const struct exchange *ex, enum log_level *out, char why[160])
{
    static const enum json_token shape[] = {JSON_OBJECT, JSON_KEY, JSON_STRING, JSON_OBJECT_END,
                                            JSON_END};
    struct json_reader r;
    struct view text[5];
    bool ok = true;
    json_read(&r, buffer_view(&ex->body));
    for (unsigned i = 0; ok && i < 5; i++) {
        ok = json_next(&r) == shape[i];
        text[i] = r.text;
    }
    struct view name = ok ? text[2] : VIEW("");
    ok = ok && view_is(text[1], "level");
    if (!ok)
        snprintf(why, 160, "body: expected {\"level\": \"NAME\"}");
    else if (!(ok = log_level_parse(name, out)))
        snprintf(why, 160, "level: expected debug, info, warn or error, got \"%.*s\"",
                 name.n < 64 ? (int)name.n : 64, name.p);
    return ok;
}

// All loops read the one word. The change is told while the lower of the two levels is in force.
static void set_level(struct exchange *ex, void *ctx)
{
    struct gateway *g = ctx;
    enum log_level before = log_level(g->log), now;
    char why[160];
    if (!read_level(ex, &now, why)) {
        admin_refuse(ex, 400, view_str(why));
        return;
    }
    if (!gateway_say_log_level(g, now)) {
        admin_refuse(ex, 503, VIEW("the keeper could not be told: nothing has changed"));
        return;
    }
    log_set_level(g->log, now < before ? now : before);
    GATEWAY_EVENT(g, NULL, LOG_INFO, "log_level", LOG_CSTR("now", log_level_name[now]),
                  LOG_CSTR("before", log_level_name[before]),
                  LOG_S("client", server_conn_peer(ex->conn)));
    log_set_level(g->log, now);
    answer_level(ex, now, before);
}

const struct admin_page pages[PAGES] = {
    {"GET", "/", ADMIN_OPEN, dashboard_page},   // for people; it holds nothing and asks the others
    {"GET", "/metrics", ADMIN_OPEN, metrics},   // for Prometheus
    {"GET", "/healthz", ADMIN_OPEN, health},    // for whoever watches the process
    {"GET", "/status", ADMIN_TOKEN, show_page}, // what everybody holds
    {"GET", "/events", ADMIN_TOKEN, events_page},     // what changes, from now on
    {"GET", LIVE_PATH, ADMIN_TOKEN, live_page},       // what is counted, once a second
    {"GET", SIGNALS_PATH, ADMIN_TOKEN, signals_page}, // demand, and how long starts take
    {"GET", EXPLAIN_PATH, ADMIN_TOKEN, explain_page}, // what became of one request
    {"POST", "/v1/drain", ADMIN_TOKEN, drain},        // ends in order
    {"POST", "/v1/reload", ADMIN_TOKEN, reload_page}, // takes the file again
    {"GET", "/v1/loglevel", ADMIN_TOKEN, level},      // of the events
    {"POST", "/v1/loglevel", ADMIN_TOKEN, set_level}, // from now on
    {"GET", "/v1/levels", ADMIN_TOKEN,
     levels_page}, // how far service has come down, and what is pinned
    {"POST", "/v1/levels", ADMIN_TOKEN, levels_set_page},      // pins, for a while
    {"GET", CACHE_PATH, ADMIN_TOKEN, cache_stats_page},        // answers that are kept
    {"POST", CACHE_FLUSH_PATH, ADMIN_TOKEN, cache_flush_page}, // and not given any more
    {"GET", TRIALS_PATH, ADMIN_TOKEN, trial_pages_list},       // experiments, and what they say
    {"POST", TRIALS_PATH, ADMIN_LARGE, creation_pages_create}, // one more
    {"GET", TRIAL_PATH, ADMIN_TOKEN, trial_pages_show},        // one of them
    {"POST", TRIAL_PATH, ADMIN_TOKEN, trial_pages_change},     // what becomes of it
};
