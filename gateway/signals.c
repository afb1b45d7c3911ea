#include "gateway/signals.h"

#include "base/json.h"
#include "gateway/endpoint.h"
#include "gateway/metrics.h"
#include "gateway/process.h"
#include "gateway/snapshot.h"
#include <stdio.h>

// ---- models ------------------------------------------------------------------------------------------

static void put_demand(struct json_writer *w, const char *key, const struct demand_sum *d)
{
    json_w_key(w, view_str(key));
    json_w_object(w);
    json_put(w, "requests", d->requests);
    json_put(w, "rows", d->rows);
    json_w_key(w, VIEW("row_seconds"));
    json_w_f64(w, (double)d->row_ns / 1e9);
    json_put(w, "rows_of_unknown_cost", d->unknown_rows);
    json_w_object_end(w);
}

static void show_model(struct json_writer *w, const struct gateway *g, const struct model *m)
{
    struct demand_sum all = {0}, of;
    json_w_object(w);
    json_put_view(w, "name", m->name);
    json_put(w, "ready_replicas", atomic_load(&m->ready));
    json_put(w, "level", atomic_load(&m->level));
    json_put(w, "share_ppm", atomic_load(&m->share) * 1000000ull / MODEL_SHARE);
    json_put(w, "waiting_rows", atomic_load(&m->waiting));
    json_put(w, "running_rows", atomic_load(&m->running));
    json_put(w, "row_cost_ns", atomic_load(&m->cost_ns));
    for (enum demand k = 0; k < DEMANDS; k++) {
        of = metrics_demand(g, m, k);
        put_demand(w, demand_name[k], &of);
        all.requests += of.requests;
        all.rows += of.rows;
        all.row_ns += of.row_ns;
        all.unknown_rows += of.unknown_rows;
    }
    put_demand(w, "asked", &all);
    json_w_object_end(w);
}

static void show_models(struct json_writer *w, const struct gateway *g)
{
    json_w_key(w, VIEW("models"));
    json_w_array(w);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        const struct model *m = table_at(g->table, i);
        if (m)
            show_model(w, g, m);
    }
    json_w_array_end(w);
}

// ---- workers -----------------------------------------------------------------------------------------

static void show_worker(struct json_writer *w, const struct endpoint *e)
{
    json_w_object(w);
    json_put_view(w, "name", view_str(e->name));
    json_put_view(w, "section", view_str(e->section));
    json_w_key(w, VIEW("local"));
    json_w_bool(w, e->local);
    json_put(w, "starts", atomic_load(&e->start.starts));
    for (unsigned i = 0; i < START_PHASES; i++) {
        uint64_t at_us = atomic_load_explicit(&e->start.at_us[i], memory_order_relaxed);
        char key[32];
        snprintf(key, sizeof(key), "%s_us", start_phase_name[i]);
        json_w_key(w, view_str(key));
        if (at_us > 0)
            json_w_u64(w, at_us);
        else
            json_w_null(w);
    }
    json_w_object_end(w);
}

static void show_workers(struct json_writer *w, const struct gateway *g)
{
    json_w_key(w, VIEW("workers"));
    json_w_array(w);
    for (const struct endpoint *e = g->fleet.endpoints; e; e = e->next) {
        if (!e->leaving)
            show_worker(w, e);
    }
    json_w_array_end(w);
}

void signals_page(struct exchange *ex, void *ctx)
{
    struct gateway *g = ctx;
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_put_view(w, "boot_id", view_str(g->boot_id));
    json_put(w, "monotonic_us", loop_now_us(&g->main));
    json_put(w, "started_us", g->started_us);
    json_put(w, "generation", g->snap->generation);
    show_models(w, g);
    show_workers(w, g);
    admin_json_end(&page, ex, 200);
}
