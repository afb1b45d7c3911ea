#include "gateway/cache_pages.h"

#include "base/count.h"
#include "base/json.h"
#include "gateway/part.h"
#include "net/server.h"
#include <stdio.h>

static bool caches(const struct model *m)
{
    return atomic_load_explicit(&m->caches, memory_order_relaxed);
}

// What is kept of it, or was asked for; else it has nothing to do with all this.
static bool is_known(const struct model *m)
{
    bool known = caches(m) || count_get(&m->cache.entries) > 0;
    for (unsigned k = 0; k < CACHE_COUNTS; k++)
        known |= count_get(&m->cache.count[k]) > 0;
    return known;
}

static void show_model(struct json_writer *w, const struct model *m)
{
    json_w_object(w);
    json_w_key(w, VIEW("name"));
    json_w_string(w, m->name);
    json_w_key(w, VIEW("enabled"));
    json_w_bool(w, caches(m));
    json_put(w, "entries", count_get(&m->cache.entries));
    json_put(w, "bytes", count_get(&m->cache.bytes));
    for (unsigned k = 0; k < CACHE_COUNTS; k++)
        json_put(w, cache_count_name[k], count_get(&m->cache.count[k]));
    json_w_object_end(w);
}

void cache_stats_page(struct exchange *ex, void *ctx)
{
    struct gateway *g = ctx;
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_put(w, "limit_bytes", parts_cache_limit(g));
    json_put(w, "leased_bytes", parts_cache_leased(g));
    json_w_key(w, VIEW("models"));
    json_w_array(w);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        const struct model *m = table_at(g->table, i);
        if (m && is_known(m))
            show_model(w, m);
    }
    json_w_array_end(w);
    admin_json_end(&page, ex, 200);
}

// {"model": NAME} and nothing else; or no body: out is empty. False: neither.
static bool read_model(const struct exchange *ex, struct view *out)
{
    static const enum json_token shape[] = {JSON_OBJECT, JSON_KEY, JSON_STRING, JSON_OBJECT_END,
                                            JSON_END};
    struct json_reader r;
    *out = VIEW("");
    if (buffer_len(&ex->body) == 0)
        return true;
    bool ok = true;
    json_read(&r, buffer_view(&ex->body));
    for (unsigned i = 0; ok && i < 5; i++) {
        ok = json_next(&r) == shape[i] && (shape[i] != JSON_KEY || view_is(r.text, "model"));
        if (shape[i] == JSON_STRING)
            *out = r.text;
    }
    return ok && out->n > 0;
}

// Returns how many answers that were. at_us: of the wall clock, by which other instances hear of it.
static uint64_t flush(struct model *m, uint64_t at_us)
{
    uint64_t entries = count_get(&m->cache.entries);
    cache_flush(&m->cache, at_us);
    return entries;
}

static uint64_t flush_all(struct gateway *g)
{
    uint64_t entries = 0;
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(g->table, i);
        entries += m ? flush(m, loop_wall_us(&g->main)) : 0;
    }
    return entries;
}

void cache_flush_page(struct exchange *ex, void *ctx)
{
    struct gateway *g = ctx;
    struct view name;
    if (!read_model(ex, &name)) {
        admin_refuse(ex, 400, VIEW("body: expected none, or {\"model\": \"NAME\"}"));
        return;
    }
    struct model *m = name.n > 0 ? table_find(g->table, name) : NULL;
    if (name.n > 0 && !m) {
        admin_refuse(ex, 404, VIEW("model: expected one that is known"));
        return;
    }
    uint64_t entries = m ? flush(m, loop_wall_us(&g->main)) : flush_all(g);
    GATEWAY_EVENT(g, NULL, LOG_INFO, "cache_flushed", LOG_S("model", m ? m->name : VIEW("")),
                  LOG_I("entries", entries), LOG_S("client", server_conn_peer(ex->conn)));
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_w_key(w, VIEW("model"));
    json_w_string(w, m ? m->name : VIEW(""));
    json_put(w, "entries", entries);
    admin_json_end(&page, ex, 200);
}
