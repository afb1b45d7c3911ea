#include "gateway/show.h"

#include "backends/worker.h"
#include "base/json.h"
#include "base/version.h"
#include "gateway/endpoint.h"
#include "gateway/front.h"
#include "gateway/homes.h"
#include "gateway/levels.h"
#include "gateway/part.h"
#include "gateway/rewards.h"
#include "gateway/survey.h"
#include "gateway/trial_store.h"
#include "gateway/trials.h"
#include "gateway/workers.h"
#include <unistd.h>

// What the loop itself told of what it holds, a whole object.
static void show_said(struct json_writer *w, const struct buffer *said)
{
    json_w_key(w, VIEW("answered"));
    json_w_bool(w, buffer_len(said) > 0);
    if (buffer_len(said) == 0)
        return;
    json_w_key(w, VIEW("holds"));
    json_w_raw(w, buffer_view(said));
}

static void show_loops(struct json_writer *w, struct gateway *g, const struct buffer *said)
{
    json_w_key(w, VIEW("loops"));
    json_w_array(w);
    for (unsigned i = 0; i < g->loops.n; i++) {
        struct loop *l = g->loops.loop[i];
        json_w_object(w);
        json_put(w, "index", i);
        json_put(w, "connections", atomic_load(&l->conns));
        json_put(w, "turns", loop_turns(l));
        json_put(w, "messages", atomic_load(&l->msgs));
        json_put(w, "delay_p99_us", hist_quantile(&l->delay, 0.99));
        json_put(w, "in_flight", atomic_load(&g->parts[i]->metrics.live));
        json_put(w, "streams", atomic_load(&g->parts[i]->metrics.streams));
        json_put(w, "zombies", atomic_load(&g->parts[i]->metrics.zombies));
        show_said(w, &said[i]);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

// What its desk has told those who choose among models.
static void show_standing(struct json_writer *w, const struct model *m, uint64_t now_us)
{
    json_put(w, "level", standing_level(m));
    json_put(w, "share_ppm", atomic_load(&m->share) * 1000000ull / MODEL_SHARE);
    json_put(w, "row_us", atomic_load(&m->row_us));
    json_put(w, "p99_us", atomic_load(&m->p99_us));
    json_w_key(w, VIEW("wait_us"));
    json_w_array(w);
    for (unsigned lane = 0; lane < POLICY_LANES; lane++)
        json_w_u64(w, model_wait_us(m, lane, now_us));
    json_w_array_end(w);
}

static void show_tenant(struct json_writer *w, const struct gateway *g, uint16_t index,
                        int32_t rows)
{
    char name[TENANT_NAME];
    unsigned n = tenants_name(g->tenants, index, name);
    json_w_object(w);
    json_w_key(w, VIEW("name"));
    json_w_string(w, index == TENANT_REST ? VIEW("(others)") : view_of(name, n));
    json_put(w, "rows", (uint64_t)rows);
    json_w_object_end(w);
}

// Those that hold most of a model's room.
#define SHOWN_TENANTS 8

static void show_tenants(struct json_writer *w, const struct gateway *g, const struct model *m)
{
    const struct tenant_books *b = atomic_load_explicit(&m->books, memory_order_acquire);
    uint64_t shown[TENANT_INDICES / 64 + 1] = {0};
    if (!b)
        return;
    json_put(w, "tenants", tenants_active(b));
    json_w_key(w, VIEW("tenants_most"));
    json_w_array(w);
    for (unsigned k = 0; k < SHOWN_TENANTS; k++) {
        int32_t most = 0;
        uint16_t of = 0;
        for (uint16_t i = 1; i < TENANT_INDICES; i++) {
            int32_t rows = atomic_load_explicit(&b->of[i].rows, memory_order_relaxed);
            if (rows > most && !(shown[i / 64] >> i % 64 & 1)) {
                most = rows;
                of = i;
            }
        }
        if (of == 0)
            break;
        shown[of / 64] |= 1ull << of % 64;
        show_tenant(w, g, of, most);
    }
    json_w_array_end(w);
}

static void show_models(struct json_writer *w, struct gateway *g)
{
    json_w_key(w, VIEW("models"));
    json_w_array(w);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(g->table, i);
        if (!m)
            continue;
        json_w_object(w);
        json_w_key(w, VIEW("name"));
        json_w_string(w, m->name);
        json_put(w, "home", model_home(m));
        json_put(w, "ready_replicas", atomic_load(&m->ready));
        show_standing(w, m, loop_now_us(&g->main));
        json_put(w, "max_batch", atomic_load(&m->max_batch));
        json_put(w, "waiting_rows", atomic_load(&m->waiting));
        json_put(w, "running_rows", atomic_load(&m->running));
        json_put(w, "charged_rows", (uint64_t)atomic_load(&m->room_rows));
        json_put(w, "charged_bytes", (uint64_t)atomic_load(&m->room_bytes));
        json_put(w, "queue_limit_rows", atomic_load(&m->queue_limit));
        json_put(w, "rate_rows", atomic_load(&m->rate));
        show_tenants(w, g, m);
        json_put(w, "cache_entries", atomic_load(&m->cache.entries));
        json_put(w, "cache_bytes", atomic_load(&m->cache.bytes));
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

// What clients have posted of its answers.
static void show_rewards(struct json_writer *w, const struct gateway *g,
                         const struct experiment_keep *keep, unsigned v)
{
    const struct config_experiment *c = keep->config;
    json_w_key(w, VIEW("rewards"));
    json_w_array(w);
    for (unsigned i = 0; i < c->reward_count; i++) {
        unsigned slot = keep->reward_slots[v * CONFIG_MAX_REWARDS + i];
        struct stats_sum s = rewards_sum(keep->trials[v], g->loops.n, slot);
        json_w_object(w);
        json_put_text(w, "name", c->rewards[i]);
        json_put(w, "count", (uint64_t)s.n);
        json_w_key(w, VIEW("sum"));
        json_w_f64(w, s.sum);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void show_variants(struct json_writer *w, const struct gateway *g,
                          const struct experiment_place *p, unsigned k, const struct trial_run *run)
{
    const struct experiment *e = &p->site.experiments[k];
    uint32_t unfit = atomic_load(&p->keeps[k].unfit);
    json_w_key(w, VIEW("variants"));
    json_w_array(w);
    for (unsigned v = 0; v < e->n_variants; v++) {
        const struct config_variant *c = &p->keeps[k].config->variants[v];
        json_w_object(w);
        json_put_text(w, "name", c->name);
        json_put_text(w, "model", c->model);
        json_put(w, "weight_ppm", run ? run->state.weight[v] : c->weight[c->weights - 1]);
        json_w_key(w, VIEW("known"));
        json_w_bool(w, table_find(g->table, e->variants[v].model) != NULL);
        json_w_key(w, VIEW("fits"));
        json_w_bool(w, !(unfit >> v & 1));
        json_put(w, "requests", experiments_requests(p->keeps[k].trials[v], g->loops.n));
        show_rewards(w, g, &p->keeps[k], v);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void show_shadows(struct json_writer *w, const struct config_experiment *c)
{
    json_w_key(w, VIEW("shadows"));
    json_w_array(w);
    for (unsigned i = 0; i < c->shadow_count; i++) {
        json_w_object(w);
        json_put_text(w, "name", c->shadows[i].name);
        json_put_text(w, "model", c->shadows[i].model);
        json_put(w, "share_ppm", c->shadows[i].share_ppm);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void show_experiment(struct json_writer *w, struct gateway *g,
                            const struct experiment_place *p, unsigned k)
{
    const struct trial_run *run = trials_find(g, p->site.experiments[k].name);
    const struct config_experiment *c = p->keeps[k].config;
    json_w_object(w);
    json_put_text(w, "name", c->name);
    json_put_text(w, "model", c->model);
    json_put_text(w, "key", c->key.text);
    if (c->layer) {
        json_put_text(w, "layer", c->layer);
        json_put(w, "from_ppm", c->from_ppm);
        json_put(w, "to_ppm", c->to_ppm);
    } else {
        json_put(w, "holdout_ppm", c->holdout_ppm);
    }
    if (run) {
        json_put_text(w, "status", trial_status_name[run->state.status]);
        json_put(w, "revision", run->state.revision);
    }
    show_variants(w, g, p, k, run);
    show_shadows(w, c);
    json_w_object_end(w);
}

static void show_experiments(struct json_writer *w, struct gateway *g)
{
    const struct experiments *all = g->snap->experiments;
    json_w_key(w, VIEW("experiments"));
    json_w_array(w);
    for (unsigned i = 0; all && i < all->n; i++)
        for (unsigned k = 0; k < all->places[i].site.n; k++)
            show_experiment(w, g, &all->places[i], k);
    json_w_array_end(w);
    json_w_key(w, VIEW("experiments_store"));
    trial_store_show(g, w);
}

static void show_workers(struct json_writer *w, struct gateway *g)
{
    json_w_key(w, VIEW("workers"));
    json_w_array(w);
    for (const struct endpoint *e = g->fleet.endpoints; e; e = e->next) {
        json_w_object(w);
        json_put(w, "id", e->id);
        json_put_text(w, "name", e->name);
        json_put_text(w, "address", e->address);
        json_w_key(w, VIEW("leaving"));
        json_w_bool(w, e->leaving);
        json_w_key(w, VIEW("connections"));
        json_w_array(w);
        for (unsigned i = 0; i < g->loops.n; i++)
            json_w_string(w, view_str(worker_state_name[endpoint_state(e, i)]));
        json_w_array_end(w);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void show_front(struct json_writer *w, const struct front *f)
{
    struct server_stats s;
    server_stats(f->server, &s);
    json_w_object(w);
    json_put_text(w, "name", f->name);
    json_put_text(w, "address", f->address);
    json_put_text(w, "state", front_state_name[f->state]);
    json_put(w, "connections", s.conns);
    json_put(w, "accepted", s.accepted);
    json_put(w, "handed_over", s.handed_over);
    json_w_key(w, VIEW("accepting"));
    json_w_bool(w, s.accepting);
    json_w_key(w, VIEW("tls"));
    json_w_bool(w, f->tls != NULL);
    json_w_object_end(w);
}

// In the order of the configuration, and then those that it has no more.
static void show_fronts(struct json_writer *w, struct gateway *g)
{
    json_w_key(w, VIEW("listeners"));
    json_w_array(w);
    for (unsigned i = 0; i < g->snap->config->listen_count; i++)
        show_front(w, g->snap->fronts[i]);
    for (const struct front *f = g->fronts; f; f = f->next) {
        if (!f->listed)
            show_front(w, f);
    }
    json_w_array_end(w);
}

// And those before it that requests still have.
static void show_configuration(struct json_writer *w, struct gateway *g)
{
    char since[28];
    log_time(since, g->snap->since_us);
    json_w_key(w, VIEW("configuration"));
    json_w_object(w);
    json_put_text(w, "path", g->snap->config->path);
    json_put(w, "generation", g->snap->generation);
    json_put_text(w, "since", since);
    json_w_key(w, VIEW("older"));
    json_w_array(w);
    for (const struct snapshot *p = g->snap->next; p; p = p->next) {
        uint64_t requests = 0;
        for (unsigned i = 0; i < g->loops.n; i++)
            requests += atomic_load_explicit(&p->hold[i].uses, memory_order_relaxed);
        json_w_object(w);
        json_put(w, "generation", p->generation);
        json_put(w, "loops", atomic_load(&p->holders));
        json_put(w, "requests", requests);
        json_w_object_end(w);
    }
    json_w_array_end(w);
    json_w_object_end(w);
}

const char *show_phase(const struct gateway *g)
{
    static const char *const phase[] = {"running", "draining", "finishing", "cutting", "over"};
    return phase[g->phase];
}

static void show_all(struct gateway *g, const struct buffer *said, void *ctx)
{
    struct exchange *ex = ctx;
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_put_text(w, "version", SLUICE_VERSION);
    json_put(w, "pid", (uint64_t)getpid());
    json_put(w, "generation", g->boot->generation);
    json_put(w, "event_readers", events_readers(g->events));
    json_put_text(w, "log_level", log_level_name[log_level(g->log)]);
    json_put(w, "uptime_s", (loop_now_us(&g->main) - g->started_us) / 1000000);
    json_put_text(w, "phase", show_phase(g));
    json_put(w, "bytes_leased", (uint64_t)atomic_load(&g->bytes.granted));
    json_put(w, "bytes_limit", (uint64_t)budget_limit(&g->bytes));
    json_put(w, "level", levels_instance(g));
    json_put(w, "cache_leased", parts_cache_leased(g));
    json_put(w, "cache_limit", parts_cache_limit(g));
    show_configuration(w, g);
    show_fronts(w, g);
    show_loops(w, g, said);
    show_models(w, g);
    show_experiments(w, g);
    show_workers(w, g);
    admin_json_end(&page, ex, 200);
    exchange_unref(ex);
}

// On the loop that is asked.
static void show_holdings(struct part *p, struct view about, struct buffer *said)
{
    struct json_writer w;
    (void)about;
    json_write(&w, said);
    json_w_object(&w);
    json_w_key(&w, VIEW("flow"));
    flow_show(&p->flow, &w);
    json_w_key(&w, VIEW("desks"));
    homes_show(p, &w);
    json_w_key(&w, VIEW("workers"));
    workers_show(p, &w);
    json_w_key(&w, VIEW("store"));
    store_show(p, &w);
    json_put(&w, "awaiting", p->await.n);
    json_put(&w, "blocks", loop_blocks(p->loop)->live_blocks);
    json_put(&w, "block_bytes", loop_blocks(p->loop)->live_bytes);
    json_w_object_end(&w);
    if (w.failed)
        buffer_reset(said);
}

void show_page(struct exchange *ex, void *gateway)
{
    exchange_ref(ex); // until show_all, or show_drop
    if (survey_start(gateway, show_holdings, VIEW(""), show_all, ex))
        return;
    struct buffer none;
    buffer_init(&none);
    admin_answer(ex, 200, VIEW("application/json"), &none, true);
    exchange_unref(ex);
}

static void drop(void *exchange)
{
    exchange_unref(exchange);
}

void show_drop(struct gateway *g)
{
    surveys_free(g, drop);
}

bool show_healthy(void *gateway)
{
    struct gateway *g = gateway;
    uint64_t now_us = loop_now_us(&g->main);
    for (unsigned i = 0; g->boot->page && i < g->loops.n; i++) {
        uint64_t turn_us = atomic_load(&g->boot->page->loop[i].turn_us);
        if (turn_us > 0 && now_us > turn_us + g->snap->config->watchdog_us)
            return false;
    }
    return !atomic_load(&g->draining);
}
