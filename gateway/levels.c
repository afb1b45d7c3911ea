#include "gateway/levels.h"

#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "gateway/homes.h"
#include "gateway/part.h"
#include <stdio.h>

#define LOOK_US 500000 // while there are pins: models that come, pins that end

// ---- in force ----------------------------------------------------------------------------------------

struct nudge { // to a model's home: its desk has something to look at
    struct loop_task task;
    struct part *part;
    struct model *model; // it is removed by tasks of the same thread, which come later
};

static void on_nudge(struct loop *l, struct loop_task *t)
{
    struct nudge *n = container_of(t, struct nudge, task);
    (void)l;
    struct home *h = home_of(n->part, n->model);
    if (h)
        home_touch(h);
    mem_free(n);
}

// Without memory it looks when something else happens there.
static void nudge_home(struct gateway *g, struct model *m)
{
    struct nudge *n = mem_zalloc(sizeof(*n));
    if (!n)
        return;
    n->part = g->parts[model_home(m)];
    n->model = m;
    n->task.fn = on_nudge;
    loop_post_task(&g->main, n->part->loop, &n->task);
}

static uint8_t wanted(const struct gateway *g, const struct model *m)
{
    const struct pin *pin = pins_find(&g->pins, m->name);
    if (!pin)
        pin = pins_find(&g->pins, VIEW(""));
    return pin ? 1 + pin->level : 0;
}

static void put_in_force(struct gateway *g)
{
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(g->table, i);
        uint8_t pin = m ? wanted(g, m) : 0;
        if (!m || atomic_load(&m->pin) == pin)
            continue;
        atomic_store(&m->pin, pin);
        nudge_home(g, m);
    }
}

// ---- kept --------------------------------------------------------------------------------------------

static const char *state_dir(const struct gateway *g)
{
    return g->snap->config->state_dir;
}

// False: they end with this process.
static bool keep(struct gateway *g)
{
    char why[PINS_ERROR];
    if (!state_dir(g))
        return false;
    if (pins_save(&g->pins, state_dir(g), why))
        return true;
    GATEWAY_EVENT(g, NULL, LOG_ERROR, "pins_not_kept", LOG_CSTR("state_dir", state_dir(g)),
                  LOG_CSTR("why", why));
    return false;
}

static void tell(struct gateway *g, const char *event, const struct pin *pin, const char *by)
{
    GATEWAY_EVENT(g, NULL, LOG_WARN, event, LOG_CSTR("model", pin->model),
                  LOG_I("level", pin->level), LOG_I("until_ms", pin->until_us / 1000),
                  LOG_CSTR("why", pin->why), LOG_CSTR("client", by));
}

static void drop_ended(struct gateway *g)
{
    uint64_t wall_us = loop_wall_us(&g->main);
    bool any = false;
    for (struct pin *pin = g->pins.first, *next; pin; pin = next) {
        next = pin->next;
        if (wall_us < pin->until_us)
            continue;
        tell(g, "level_pin_ended", pin, "");
        pins_clear(&g->pins, view_str(pin->model));
        any = true;
    }
    if (any)
        keep(g);
}

static void on_look(struct wheel_timer *t, uint64_t now_us)
{
    struct gateway *g = container_of(t, struct gateway, pins_timer);
    drop_ended(g);
    put_in_force(g);
    if (g->pins.n > 0)
        wheel_set(loop_wheel(&g->main), t, now_us + LOOK_US);
}

static void watch(struct gateway *g)
{
    on_look(&g->pins_timer, loop_now_us(&g->main));
}

void levels_start(struct gateway *g)
{
    char why[PINS_ERROR];
    g->pins_timer.fn = on_look;
    if (state_dir(g) && !pins_load(&g->pins, state_dir(g), why))
        GATEWAY_EVENT(g, NULL, LOG_ERROR, "pins_not_read", LOG_CSTR("state_dir", state_dir(g)),
                      LOG_CSTR("why", why));
    watch(g);
}

void levels_free(struct gateway *g)
{
    wheel_cancel(loop_wheel(&g->main), &g->pins_timer);
    pins_free(&g->pins);
}

enum level levels_instance(const struct gateway *g)
{
    const struct config *c = g->snap->config;
    const struct pin *pin = pins_find(&g->pins, VIEW(""));
    enum level highest = pin ? (enum level)pin->level : LEVEL_HEALTHY;
    for (unsigned i = 0; !pin && i < c->model_count; i++) {
        const struct model *m =
            c->models[i].critical ? table_find(g->table, view_str(c->models[i].name)) : NULL;
        if (m && standing_level(m) > highest)
            highest = standing_level(m);
    }
    return highest;
}

// ---- operators: what there is ------------------------------------------------------------------------

static void put_pin(struct json_writer *w, const struct gateway *g, struct view model)
{
    const struct pin *pin = pins_find(&g->pins, model);
    json_w_key(w, VIEW("pin"));
    if (pin)
        pin_show(w, pin);
    else
        json_w_null(w);
}

static void put_model(struct json_writer *w, struct gateway *g, const struct model *m)
{
    const struct config_model *c = snapshot_model(g->snap, m->name);
    uint64_t since_us = atomic_load(&m->level_since_us), now_us = loop_now_us(&g->main);
    json_w_object(w);
    json_w_key(w, VIEW("name"));
    json_w_string(w, m->name);
    json_put(w, "level", standing_level(m));
    json_w_key(w, VIEW("cause"));
    json_w_string(w, view_str(atomic_load(&m->level_cause)));
    if (since_us > 0)
        json_put(w, "for_ms", now_us > since_us ? (now_us - since_us) / 1000 : 0);
    json_put(w, "share_ppm", atomic_load(&m->share) * 1000000ull / MODEL_SHARE);
    json_put(w, "p99_us", atomic_load(&m->p99_us));
    json_w_key(w, VIEW("critical"));
    json_w_bool(w, c && c->critical);
    put_pin(w, g, m->name);
    json_w_object_end(w);
}

void levels_page(struct exchange *ex, void *gateway)
{
    struct gateway *g = gateway;
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_w_key(w, VIEW("instance"));
    json_w_object(w);
    json_put(w, "level", levels_instance(g));
    put_pin(w, g, VIEW(""));
    json_w_object_end(w);
    json_w_key(w, VIEW("models"));
    json_w_array(w);
    for (unsigned i = 0; i < TABLE_MODELS; i++)
        if (table_at(g->table, i))
            put_model(w, g, table_at(g->table, i));
    json_w_array_end(w);
    admin_json_end(&page, ex, 200);
}

// ---- operators: what they set ------------------------------------------------------------------------

struct level_wish { // the body of a POST
    struct pin pin;
    uint64_t for_s;
    bool clear;
};

static bool refuse(char why[PINS_ERROR], const char *text)
{
    snprintf(why, PINS_ERROR, "%s", text);
    return false;
}

static bool read_level(struct json_reader *r, struct level_wish *w, char why[PINS_ERROR])
{
    enum json_token t = json_next(r);
    bool digit = t == JSON_NUMBER && r->text.n == 1 && r->text.p[0] >= '0' && r->text.p[0] <= '4';
    w->clear = t == JSON_NULL;
    w->pin.level = digit ? (uint8_t)(r->text.p[0] - '0') : 0;
    return digit || w->clear || refuse(why, "level: expected 0 to 4, or null to clear");
}

static bool read_for(struct json_reader *r, struct level_wish *w, char why[PINS_ERROR])
{
    uint64_t s = 0;
    bool ok = json_next(r) == JSON_NUMBER && r->text.n < 10;
    for (size_t i = 0; ok && i < r->text.n; i++) {
        ok = r->text.p[i] >= '0' && r->text.p[i] <= '9';
        s = 10 * s + (uint64_t)(r->text.p[i] - '0');
    }
    w->for_s = ok ? s : 0;
    return (w->for_s > 0 && s <= PIN_MOST_S) ||
           refuse(why, "for_s: expected whole seconds from 1 to 2592000");
}

static bool read_words(struct json_reader *r, struct view key, char *out, size_t most,
                       char why[PINS_ERROR])
{
    bool ok = json_next(r) == JSON_STRING && !r->escaped && r->text.n > 0 && r->text.n <= most;
    if (ok)
        memcpy(out, r->text.p, r->text.n);
    out[ok ? r->text.n : 0] = '\0';
    if (!ok)
        snprintf(why, PINS_ERROR, "%.*s: expected 1 to %zu bytes, without escapes", VIEW_ARG(key),
                 most);
    return ok;
}

static bool read_wish(const struct exchange *ex, struct level_wish *w, char why[PINS_ERROR])
{
    struct json_reader r;
    enum json_token t;
    bool level = false;
    *w = (struct level_wish){0};
    json_read(&r, buffer_view(&ex->body));
    if (json_next(&r) != JSON_OBJECT)
        return refuse(
            why, "body: expected {\"model\": NAME, \"level\": N, \"for_s\": S, \"why\": TEXT}");
    while ((t = json_next(&r)) == JSON_KEY) {
        struct view key = r.text;
        bool ok = view_is(key, "model")   ? read_words(&r, key, w->pin.model, PIN_NAME, why)
                  : view_is(key, "why")   ? read_words(&r, key, w->pin.why, PIN_WHY, why)
                  : view_is(key, "for_s") ? read_for(&r, w, why)
                  : view_is(key, "level")
                      ? read_level(&r, w, why)
                      : refuse(why, "body: expected model, level, for_s and why");
        if (!ok)
            return false;
        level |= view_is(key, "level");
    }
    if (t != JSON_OBJECT_END || json_next(&r) != JSON_END)
        return refuse(why, "body: expected one JSON object");
    if (!level)
        return refuse(why, "level: expected 0 to 4, or null to clear");
    if (!w->clear && (w->for_s == 0 || !w->pin.why[0]))
        return refuse(why, "for_s and why: expected both, so that it ends, and that others know");
    return true;
}

// False: it may not be set, says why.
static bool may_set(const struct gateway *g, const struct level_wish *w, char why[PINS_ERROR])
{
    struct view name = view_str(w->pin.model);
    const struct config_model *c = snapshot_model(g->snap, name);
    if (name.n > 0 && !w->clear && !table_find(g->table, name))
        snprintf(why, PINS_ERROR, "model: %.*s is not known", name.n < 100 ? (int)name.n : 100,
                 name.p);
    else if (name.n > 0 && !(c ? c : &g->snap->config->unlisted)->levels)
        snprintf(why, PINS_ERROR, "model: %.*s has levels = off", name.n < 100 ? (int)name.n : 100,
                 name.p);
    else
        return true;
    return false;
}

static void answer_set(struct exchange *ex, const struct level_wish *wish, bool kept)
{
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    if (wish->pin.model[0]) {
        json_w_key(w, VIEW("model"));
        json_w_string(w, view_str(wish->pin.model));
    }
    json_w_key(w, VIEW("pin"));
    if (wish->clear)
        json_w_null(w);
    else
        pin_show(w, &wish->pin);
    json_w_key(w, VIEW("kept"));
    json_w_bool(w, kept);
    admin_json_end(&page, ex, 200);
}

void levels_set_page(struct exchange *ex, void *gateway)
{
    struct gateway *g = gateway;
    struct level_wish w;
    char why[PINS_ERROR];
    if (!read_wish(ex, &w, why)) {
        admin_refuse(ex, 400, view_str(why));
        return;
    }
    if (!may_set(g, &w, why)) {
        admin_refuse(ex, 409, view_str(why));
        return;
    }
    w.pin.until_us = loop_wall_us(&g->main) + w.for_s * 1000000;
    if (w.clear ? !pins_clear(&g->pins, view_str(w.pin.model)) : !pins_set(&g->pins, &w.pin)) {
        admin_refuse(ex, w.clear ? 404 : 503,
                     w.clear ? VIEW("model: no level is set for it") : VIEW("out of memory"));
        return;
    }
    char client[ADDR_TEXT + 16];
    snprintf(client, sizeof(client), "%.*s", VIEW_ARG(server_conn_peer(ex->conn)));
    tell(g, w.clear ? "level_unpinned" : "level_pinned", &w.pin, client);
    bool kept = keep(g);
    if (!w.clear && !state_dir(g))
        GATEWAY_EVENT(g, NULL, LOG_WARN, "pins_not_kept", LOG_CSTR("state_dir", ""),
                      LOG_CSTR("why", "state_dir is not set: they end with this process"));
    watch(g);
    answer_set(ex, &w, kept);
}
