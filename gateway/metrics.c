#include "gateway/metrics.h"

#include "base/count.h"
#include "base/mem.h"
#include "gateway/endpoint.h"
#include "gateway/experiments.h"
#include "gateway/front.h"
#include "gateway/levels.h"
#include "gateway/predictions.h"
#include "gateway/process.h"
#include "gateway/prom.h"
#include "gateway/rewards.h"
#include "gateway/shadows.h"

struct model_metrics *metrics_model(struct metrics *s, const struct model *m)
{
    struct model_metrics *mm = atomic_load_explicit(&s->model[m->index], memory_order_relaxed);
    if (mm || !(mm = mem_zalloc(sizeof(*mm))))
        return mm;
    atomic_store_explicit(&s->model[m->index], mm, memory_order_release);
    return mm;
}

void metrics_note(struct metrics *s, const struct note *n)
{
    struct model_metrics *mm = n->model ? metrics_model(s, n->model) : NULL;
    if (!mm)
        return;
    if (n->kind == NOTE_STEP) {
        count_add(&mm->steps[n->a], 1);
        return;
    }
    count_add(&mm->notes[n->kind], 1);
    if (n->kind == NOTE_BATCH) {
        count_add(&mm->batches[n->b], 1);
        hist_add(&mm->batch_rows, n->a);
    } else if (n->kind == NOTE_LEVEL) {
        count_add(&mm->moves[n->a], 1);
    } else if (n->kind == NOTE_SHED || n->kind == NOTE_REFUSED) {
        count_add(&mm->refusals[n->kind == NOTE_SHED ? n->b : REFUSAL_LATE], 1);
    }
}

// A place is published by its count: readers look at the name of one that has any.
void metrics_answered_by(struct model_metrics *mm, struct view name)
{
    for (unsigned i = 0; i < ANSWERED_BY; i++) {
        struct answered_by *b = &mm->by[i];
        bool free = atomic_load_explicit(&b->n, memory_order_relaxed) == 0;
        if (free && name.n <= sizeof(b->name)) {
            memcpy(b->name, name.p, name.n);
            b->name_bytes = (uint8_t)name.n;
            atomic_store_explicit(&b->n, 1, memory_order_release);
            return;
        }
        if (view_eq(view_of(b->name, b->name_bytes), name)) {
            count_add(&b->n, 1);
            return;
        }
    }
}

static void add_answers(struct answered_sum out[ANSWERED_BY], unsigned *n_out,
                        const struct answered_by *b)
{
    uint64_t n = atomic_load_explicit(&b->n, memory_order_acquire);
    unsigned i = 0;
    if (n == 0)
        return; // its name may be on its way
    struct view name = view_of(b->name, b->name_bytes);
    while (i < *n_out && !view_eq(view_of(out[i].name, out[i].name_bytes), name))
        i++;
    if (i == ANSWERED_BY)
        return;
    if (i == *n_out) {
        out[(*n_out)++] = (struct answered_sum){.name_bytes = b->name_bytes};
        memcpy(out[i].name, name.p, name.n);
    }
    out[i].n += n;
}

unsigned metrics_answers(const struct gateway *g, const struct model *m,
                         struct answered_sum out[ANSWERED_BY])
{
    unsigned n = 0;
    for (unsigned l = 0; l < g->loops.n; l++) {
        const struct model_metrics *mm =
            atomic_load_explicit(&g->parts[l]->metrics.model[m->index], memory_order_acquire);
        for (unsigned i = 0; mm && i < ANSWERED_BY; i++)
            add_answers(out, &n, &mm->by[i]);
    }
    return n;
}

// ---- demand ------------------------------------------------------------------------------------------

const char *const demand_name[DEMANDS] = {
    [DEMAND_ITSELF] = "itself", [DEMAND_FALLBACK] = "fallback", [DEMAND_CACHE] = "cache",
    [DEMAND_STALE] = "stale",   [DEMAND_DEFAULT] = "default",   [DEMAND_SHED] = "shed",
    [DEMAND_LATE] = "late",     [DEMAND_FAILED] = "failed"};

void metrics_demand_add(struct model_metrics *mm, const struct model *m, enum demand k,
                        uint32_t rows)
{
    struct demand_count *d = &mm->demand[k];
    uint64_t cost_ns = atomic_load_explicit(&m->cost_ns, memory_order_relaxed);
    count_add(&d->requests, 1);
    count_add(&d->rows, rows);
    count_add(cost_ns > 0 ? &d->row_ns : &d->unknown_rows, cost_ns > 0 ? rows * cost_ns : rows);
}

struct demand_sum metrics_demand(const struct gateway *g, const struct model *m, enum demand k)
{
    struct demand_sum sum = {0};
    for (unsigned i = 0; i < g->loops.n; i++) {
        const struct model_metrics *mm =
            atomic_load_explicit(&g->parts[i]->metrics.model[m->index], memory_order_acquire);
        const struct demand_count *d = mm ? &mm->demand[k] : NULL;
        sum.requests += d ? atomic_load_explicit(&d->requests, memory_order_relaxed) : 0;
        sum.rows += d ? atomic_load_explicit(&d->rows, memory_order_relaxed) : 0;
        sum.row_ns += d ? atomic_load_explicit(&d->row_ns, memory_order_relaxed) : 0;
        sum.unknown_rows += d ? atomic_load_explicit(&d->unknown_rows, memory_order_relaxed) : 0;
    }
    return sum;
}

static void model_metrics_free(struct model_metrics *mm)
{
    for (unsigned i = 0; mm && i < FIGURES_VERSIONS; i++)
        mem_free(atomic_load(&mm->figures[i]));
    mem_free(mm);
}

void metrics_drop(struct metrics *s, const struct model *m)
{
    model_metrics_free(atomic_load(&s->model[m->index]));
    atomic_store(&s->model[m->index], NULL);
}

void metrics_deinit(struct metrics *s)
{
    for (unsigned i = 0; i < TABLE_MODELS; i++)
        model_metrics_free(atomic_load(&s->model[i]));
}

// ---- the page ----------------------------------------------------------------------------------------

const uint64_t metrics_latency_us[METRICS_LATENCIES] = {
    100,    250,    500,    1000,    2500,    5000,    10000,    25000,   50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000};
static const uint64_t rows_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
#define N(array) (sizeof(array) / sizeof((array)[0]))

struct page {
    struct gateway *g;
    struct prom prom;
    struct hist sum; // scratch: the shards of one histogram added up
};

static const struct model_metrics *shard_of(const struct page *p, unsigned loop,
                                            const struct model *m)
{
    return atomic_load_explicit(&p->g->parts[loop]->metrics.model[m->index], memory_order_acquire);
}

// Runs fn for each model that is known.
static void each_model(struct page *p, void (*fn)(struct page *p, const struct model *m))
{
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        const struct model *m = table_at(p->g->table, i);
        if (m)
            fn(p, m);
    }
}

// The sum over the loops of the k-th of the model's counters at `offset`.
static uint64_t sum_of(const struct page *p, const struct model *m, size_t offset, unsigned k)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < p->g->loops.n; i++) {
        const struct model_metrics *mm = shard_of(p, i, m);
        sum += mm ? count_get((const _Atomic uint64_t *)((const char *)mm + offset) + k) : 0;
    }
    return sum;
}

static void put_requests(struct page *p, struct view model, enum status status, const char *source,
                         uint64_t n)
{
    struct prom_label labels[] = {{"model", model},
                                  {"status", view_str(status_table[status].name)},
                                  {"source", view_str(source)}};
    if (n > 0)
        prom_count(&p->prom, labels, N(labels), n);
}

static void requests_of(struct page *p, const struct model *m)
{
    for (unsigned source = 0; source < SOURCES; source++)
        put_requests(p, m->name, STATUS_OK, answer_source_name[source],
                     sum_of(p, m, offsetof(struct model_metrics, answers), source));
    for (unsigned status = 0; status < STATUS_COUNT; status++)
        put_requests(p, m->name, status, "none",
                     sum_of(p, m, offsetof(struct model_metrics, failures), status));
}

static void requests(struct page *p)
{
    prom_family(&p->prom, "sluice_requests_total", "counter",
                "Requests by outcome and by what answered.");
    each_model(p, requests_of);
    for (unsigned status = 0; status < STATUS_COUNT; status++) {
        uint64_t n = 0;
        for (unsigned i = 0; i < p->g->loops.n; i++)
            n += count_get(&p->g->parts[i]->metrics.other[status]);
        put_requests(p, VIEW(""), status, "none", n);
    }
}

static void put_hist(struct page *p, const struct model *m, size_t offset,
                     const struct prom_label *labels, unsigned n, const uint64_t *bounds,
                     unsigned n_bounds, double per_unit)
{
    hist_init(&p->sum);
    for (unsigned i = 0; i < p->g->loops.n; i++) {
        const struct model_metrics *mm = shard_of(p, i, m);
        if (mm)
            hist_merge(&p->sum, (const struct hist *)((const char *)mm + offset));
    }
    if (atomic_load(&p->sum.count) > 0)
        prom_hist(&p->prom, labels, n, &p->sum, bounds, n_bounds, per_unit);
}

static void stages_of(struct page *p, const struct model *m)
{
    static const char *const name[STAGES] = {"total", "parse", "queue", "compute"};
    for (unsigned stage = 0; stage < STAGES; stage++) {
        struct prom_label labels[] = {{"model", m->name}, {"stage", view_str(name[stage])}};
        put_hist(p, m, offsetof(struct model_metrics, stage) + stage * sizeof(struct hist), labels,
                 N(labels), metrics_latency_us, METRICS_LATENCIES, 1e6);
    }
}

static void batch_rows_of(struct page *p, const struct model *m)
{
    struct prom_label label = {"model", m->name};
    put_hist(p, m, offsetof(struct model_metrics, batch_rows), &label, 1, rows_bounds,
             N(rows_bounds), 1);
}

static void put_counts(struct page *p, const struct model *m, size_t offset, const char *label,
                       const char *const *names, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        uint64_t sum = sum_of(p, m, offset, k);
        struct prom_label labels[] = {{"model", m->name}, {label, view_str(names[k])}};
        if (sum > 0)
            prom_count(&p->prom, labels, N(labels), sum);
    }
}

static void batches_of(struct page *p, const struct model *m)
{
    put_counts(p, m, offsetof(struct model_metrics, batches), "reason", batch_reason_name,
               BATCH_REASONS);
}

static void notes_of(struct page *p, const struct model *m)
{
    put_counts(p, m, offsetof(struct model_metrics, notes), "event", note_name, NOTE_KINDS);
}

static void refusals_of(struct page *p, const struct model *m)
{
    put_counts(p, m, offsetof(struct model_metrics, refusals), "reason", refusal_name, REFUSALS);
}

static void refusals(struct page *p)
{
    struct prom_label labels[] = {{"model", VIEW("")},
                                  {"reason", view_str(refusal_name[REFUSAL_MEMORY])}};
    uint64_t n = 0;
    for (unsigned i = 0; i < p->g->loops.n; i++)
        n += count_get(&p->g->parts[i]->metrics.no_memory);
    prom_family(&p->prom, "sluice_refusals_total", "counter",
                "Requests refused for want of room or time, by the reason.");
    each_model(p, refusals_of);
    if (n > 0)
        prom_count(&p->prom, labels, N(labels), n);
}

static void moves_of(struct page *p, const struct model *m)
{
    static const char *const level[LEVELS] = {"0", "1", "2", "3", "4"};
    put_counts(p, m, offsetof(struct model_metrics, moves), "level", level, LEVELS);
}

static void cache_of(struct page *p, const struct model *m)
{
    for (unsigned k = 0; k < CACHE_COUNTS; k++) {
        struct prom_label labels[] = {{"model", m->name}, {"event", view_str(cache_count_name[k])}};
        uint64_t n = count_get(&m->cache.count[k]);
        if (n > 0 || atomic_load(&m->caches))
            prom_count(&p->prom, labels, N(labels), n);
    }
}

static void steps_of(struct page *p, const struct model *m)
{
    for (unsigned k = 0; k < CHAIN_OUTCOMES; k++) {
        uint64_t n = sum_of(p, m, offsetof(struct model_metrics, steps), k);
        struct prom_label labels[] = {{"model", m->name}, {"outcome", view_str(chain_outcome(k))}};
        if (n > 0)
            prom_count(&p->prom, labels, N(labels), n);
    }
}

static void fallbacks_of(struct page *p, const struct model *m)
{
    uint64_t n = sum_of(p, m, offsetof(struct model_metrics, fallbacks), 0);
    struct prom_label label = {"model", m->name};
    if (n > 0)
        prom_count(&p->prom, &label, 1, n);
}

static void answers_of(struct page *p, const struct model *m)
{
    struct answered_sum by[ANSWERED_BY];
    unsigned n = metrics_answers(p->g, m, by);
    for (unsigned i = 0; i < n; i++) {
        struct prom_label labels[] = {{"model", m->name},
                                      {"by", view_of(by[i].name, by[i].name_bytes)}};
        prom_count(&p->prom, labels, N(labels), by[i].n);
    }
}

static void demand_of(struct page *p, const struct model *m)
{
    for (enum demand k = 0; k < DEMANDS; k++) {
        struct demand_sum d = metrics_demand(p->g, m, k);
        struct prom_label labels[] = {{"model", m->name}, {"outcome", view_str(demand_name[k])}};
        if (d.requests > 0)
            prom_count(&p->prom, labels, N(labels), d.rows);
    }
}

static void demand_seconds_of(struct page *p, const struct model *m)
{
    for (enum demand k = 0; k < DEMANDS; k++) {
        struct demand_sum d = metrics_demand(p->g, m, k);
        struct prom_label labels[] = {{"model", m->name}, {"outcome", view_str(demand_name[k])}};
        if (d.requests > 0)
            prom_value(&p->prom, labels, N(labels), (double)d.row_ns / 1e9);
    }
}

static void put_gauge(struct page *p, const struct model *m, uint64_t value)
{
    struct prom_label label = {"model", m->name};
    prom_count(&p->prom, &label, 1, value);
}

static void waiting_of(struct page *p, const struct model *m)
{
    put_gauge(p, m, atomic_load(&m->waiting));
}

static void running_of(struct page *p, const struct model *m)
{
    put_gauge(p, m, atomic_load(&m->running));
}

static void ready_of(struct page *p, const struct model *m)
{
    put_gauge(p, m, atomic_load(&m->ready));
}

static void level_of(struct page *p, const struct model *m)
{
    put_gauge(p, m, standing_level(m));
}

static void share_of(struct page *p, const struct model *m)
{
    struct prom_label label = {"model", m->name};
    prom_value(&p->prom, &label, 1, (double)atomic_load(&m->share) / MODEL_SHARE);
}

static void levels(struct page *p)
{
    struct prom *o = &p->prom;
    prom_family(o, "sluice_degradation_level", "gauge",
                "How far the service of a model has come down: 0 healthy, 4 outage.");
    each_model(p, level_of);
    prom_family(o, "sluice_level_moves_total", "counter", "Moves by the level that was moved to.");
    each_model(p, moves_of);
    prom_family(o, "sluice_share", "gauge", "Share of its traffic that a model can carry.");
    each_model(p, share_of);
    prom_family(o, "sluice_instance_degradation_level", "gauge",
                "The highest level of the critical models.");
    prom_count(o, NULL, 0, levels_instance(p->g));
}

static void kept_of(struct page *p, const struct model *m)
{
    if (count_get(&m->cache.bytes) > 0)
        put_gauge(p, m, count_get(&m->cache.bytes));
}

static void bodies(struct page *p)
{
    uint64_t known = 0, bytes = 0;
    for (unsigned i = 0; i < p->g->loops.n; i++) {
        known += count_get(&p->g->parts[i]->memo.hits);
        bytes += count_get(&p->g->parts[i]->memo.bytes);
    }
    prom_family(&p->prom, "sluice_cache_known_total", "counter",
                "Requests whose body was known, and was not decoded again.");
    prom_count(&p->prom, NULL, 0, known);
    prom_family(&p->prom, "sluice_cache_known_bytes", "gauge", "What bodies that are known take.");
    prom_count(&p->prom, NULL, 0, bytes);
}

static void models(struct page *p)
{
    struct prom *o = &p->prom;
    prom_family(o, "sluice_latency_seconds", "histogram",
                "Time by stage of requests that were answered; queue and compute: by the model.");
    each_model(p, stages_of);
    prom_family(o, "sluice_batch_rows", "histogram", "Rows of the batches that were sent.");
    each_model(p, batch_rows_of);
    prom_family(o, "sluice_batches_total", "counter", "Batches by the reason why they went.");
    each_model(p, batches_of);
    prom_family(o, "sluice_events_total", "counter", "What the router noted, by model.");
    each_model(p, notes_of);
    refusals(p);
    prom_family(o, "sluice_fallbacks_total", "counter",
                "Requests for the model that another one, or its written answer, answered.");
    each_model(p, fallbacks_of);
    prom_family(o, "sluice_answered_by_total", "counter",
                "Of these, those that another model gave, by that model.");
    each_model(p, answers_of);
    prom_family(o, "sluice_chain_steps_total", "counter",
                "Steps of chains at the model: what came of them, or why it was passed over.");
    each_model(p, steps_of);
    prom_family(o, "sluice_demand_rows_total", "counter",
                "Rows that the model was asked for, by what came of them.");
    each_model(p, demand_of);
    prom_family(o, "sluice_demand_row_seconds_total", "counter",
                "And the time of a server that they take, where that was known.");
    each_model(p, demand_seconds_of);
    prom_family(o, "sluice_queue_rows", "gauge", "Rows that wait for a batch.");
    each_model(p, waiting_of);
    prom_family(o, "sluice_running_rows", "gauge", "Rows that are at a replica.");
    each_model(p, running_of);
    prom_family(o, "sluice_ready_replicas", "gauge", "Replicas that can answer.");
    each_model(p, ready_of);
    prom_family(o, "sluice_cache_events_total", "counter",
                "Look-ups, answers kept and answers given up, by model.");
    each_model(p, cache_of);
    prom_family(o, "sluice_cache_bytes", "gauge", "Bytes of the answers that are kept.");
    each_model(p, kept_of);
    bodies(p);
}

static void fronts(struct page *p)
{
    struct gateway *g = p->g;
    static const struct {
        const char *name, *type, *help;
        size_t offset;
    } rows[] = {
        {"sluice_accepted_total", "counter", "Connections accepted.",
         offsetof(struct server_stats, accepted)},
        {"sluice_refused_address_total", "counter", "Connections closed: too many of one address.",
         offsetof(struct server_stats, refused_address)},
        {"sluice_handed_over_total", "counter", "Connections given to a less loaded loop.",
         offsetof(struct server_stats, handed_over)},
        {"sluice_accept_paused_total", "counter", "Times accepting paused for want of descriptors.",
         offsetof(struct server_stats, accept_paused)},
        {"sluice_tls_failed_total", "counter", "TLS handshakes that failed.",
         offsetof(struct server_stats, tls_failed)},
        {"sluice_plain_on_tls_total", "counter",
         "Connections without TLS to a port that speaks it: refused.",
         offsetof(struct server_stats, plain_on_tls)},
        {"sluice_tls_on_plain_total", "counter",
         "Connections with TLS to a port that does not speak it: refused.",
         offsetof(struct server_stats, tls_on_plain)},
    };
    struct server_stats stats;
    for (unsigned row = 0; row < N(rows); row++) {
        prom_family(&p->prom, rows[row].name, rows[row].type, rows[row].help);
        for (unsigned i = 0; i < g->snap->config->listen_count; i++) {
            struct prom_label label = {"listener", view_str(g->snap->fronts[i]->name)};
            server_stats(g->snap->fronts[i]->server, &stats);
            prom_count(&p->prom, &label, 1, *(uint64_t *)((char *)&stats + rows[row].offset));
        }
    }
    prom_family(&p->prom, "sluice_connections", "gauge", "Client connections that are open.");
    for (unsigned i = 0; i < g->snap->config->listen_count; i++) {
        struct prom_label label = {"listener", view_str(g->snap->fronts[i]->name)};
        server_stats(g->snap->fronts[i]->server, &stats);
        prom_count(&p->prom, &label, 1, stats.conns);
    }
    uint64_t leaving = 0;
    for (const struct front *f = g->fronts; f; f = f->next) {
        server_stats(f->server, &stats);
        leaving += f->listed ? 0 : stats.conns;
    }
    prom_family(&p->prom, "sluice_connections_leaving", "gauge",
                "Client connections of listeners that the configuration has no more.");
    prom_count(&p->prom, NULL, 0, leaving);
}

static void loops(struct page *p)
{
    struct gateway *g = p->g;
    char digits[16];
    prom_family(&p->prom, "sluice_loop_delay_seconds", "histogram",
                "How long a loop worked before it could see a new event.");
    for (unsigned i = 0; i < g->loops.n; i++) {
        snprintf(digits, sizeof(digits), "%u", i);
        struct prom_label label = {"loop", view_str(digits)};
        prom_hist(&p->prom, &label, 1, &g->loops.loop[i]->delay, metrics_latency_us,
                  METRICS_LATENCIES, 1e6);
    }
    prom_family(&p->prom, "sluice_in_flight", "gauge",
                "Requests whose model has not answered yet.");
    for (unsigned i = 0; i < g->loops.n; i++) {
        snprintf(digits, sizeof(digits), "%u", i);
        struct prom_label label = {"loop", view_str(digits)};
        prom_count(&p->prom, &label, 1, atomic_load(&g->parts[i]->metrics.live));
    }
    prom_family(&p->prom, "sluice_streams", "gauge", "HTTP/2 streams of clients that are open.");
    for (unsigned i = 0; i < g->loops.n; i++) {
        snprintf(digits, sizeof(digits), "%u", i);
        struct prom_label label = {"loop", view_str(digits)};
        prom_count(&p->prom, &label, 1, count_get(&g->parts[i]->metrics.streams));
    }
}

static void refused(struct page *p)
{
    prom_family(&p->prom, "sluice_refused_requests_total", "counter",
                "Malformed or too slow requests, refused before their head was whole.");
    for (unsigned status = 0; status < STATUS_COUNT; status++) {
        uint64_t n = 0;
        for (unsigned i = 0; i < p->g->loops.n; i++)
            n += count_get(&p->g->parts[i]->metrics.refused[status]);
        struct prom_label label = {"status", view_str(status_table[status].name)};
        if (n > 0 || status == STATUS_BAD_REQUEST) // one series from the start: rates need it
            prom_count(&p->prom, &label, 1, n);
    }
}

static void put_abused(struct page *p, enum abuse_kind kind, enum abuse_verdict verdict)
{
    static const char *const action[ABUSE_VERDICTS] = {
        [ABUSE_NO_NEW] = "no_new_streams", [ABUSE_CUT] = "cut", [ABUSE_WENT_ON] = "went_on"};
    uint64_t n = 0;
    for (unsigned i = 0; i < p->g->loops.n; i++)
        n += count_get(&p->g->parts[i]->metrics.abused[kind][verdict]);
    struct prom_label labels[] = {{"reason", view_str(abuse_name[kind])},
                                  {"action", view_str(action[verdict])}};
    if (n > 0 || (kind == ABUSE_RESET && verdict == ABUSE_NO_NEW)) // rates need one from the start
        prom_count(&p->prom, labels, N(labels), n);
}

static void abused(struct page *p)
{
    prom_family(&p->prom, "sluice_abusive_connections_total", "counter",
                "HTTP/2 connections that took no new streams any more, were cut, or were cut after "
                "that, by what they did too often.");
    for (enum abuse_kind kind = 0; kind < ABUSE_KINDS; kind++)
        for (enum abuse_verdict verdict = ABUSE_NO_NEW; verdict < ABUSE_VERDICTS; verdict++)
            put_abused(p, kind, verdict);
}

static void process(struct page *p)
{
    struct gateway *g = p->g;
    struct log_stats access, events;
    refused(p);
    abused(p);
    log_stats(g->log, SINK_ACCESS, &access);
    log_stats(g->log, LOG_EVENTS, &events);
    struct prom_label sinks[] = {{"log", VIEW("access")}, {"log", VIEW("events")}};
    prom_family(&p->prom, "sluice_log_dropped_total", "counter", "Log lines dropped: a full ring.");
    prom_count(&p->prom, &sinks[0], 1, access.dropped);
    prom_count(&p->prom, &sinks[1], 1, events.dropped);
    prom_family(&p->prom, "sluice_log_errors_total", "counter", "Failed writes to a log.");
    prom_count(&p->prom, &sinks[0], 1, access.write_errors);
    prom_count(&p->prom, &sinks[1], 1, events.write_errors);
    prom_family(&p->prom, "sluice_bytes_in_flight", "gauge",
                "Bytes leased to the loops for bodies.");
    prom_count(&p->prom, NULL, 0, (uint64_t)atomic_load(&g->bytes.granted));
    prom_family(&p->prom, "sluice_gateway_restarts_total", "counter",
                "Times the keeper had to start the gateway process again.");
    prom_count(&p->prom, NULL, 0, g->boot->generation);
    prom_family(&p->prom, "sluice_draining", "gauge", "1 while the gateway is being drained.");
    prom_count(&p->prom, NULL, 0, atomic_load(&g->draining));
}

static void workers(struct page *p)
{
    prom_family(&p->prom, "sluice_worker_connections", "gauge", "Connections to workers by state.");
    for (const struct endpoint *e = p->g->fleet.endpoints; e; e = e->next) {
        if (e->leaving)
            continue;
        unsigned count[WORKER_STATES] = {0};
        for (unsigned i = 0; i < p->g->loops.n; i++)
            count[endpoint_state(e, i)]++;
        for (unsigned state = 0; state < WORKER_STATES; state++) {
            struct prom_label labels[] = {{"worker", view_str(e->name)},
                                          {"state", view_str(worker_state_name[state])}};
            prom_count(&p->prom, labels, N(labels), count[state]);
        }
    }
}

// Since its process was started; of one that nobody saw start nothing is said.
static void starts_of(struct page *p, const struct endpoint *e)
{
    uint64_t spawned_us = count_get(&e->start.at_us[START_SPAWNED]);
    for (unsigned i = START_LISTENING; spawned_us > 0 && i < START_PHASES; i++) {
        uint64_t at_us = count_get(&e->start.at_us[i]);
        struct prom_label labels[] = {{"worker", view_str(e->name)},
                                      {"phase", view_str(start_phase_name[i])}};
        if (at_us >= spawned_us)
            prom_value(&p->prom, labels, N(labels), (double)(at_us - spawned_us) / 1e6);
    }
}

static void starts(struct page *p)
{
    prom_family(&p->prom, "sluice_worker_start_seconds", "gauge",
                "How long the last start of a local worker took, up to each phase.");
    for (const struct endpoint *e = p->g->fleet.endpoints; e; e = e->next) {
        if (!e->leaving)
            starts_of(p, e);
    }
}

static uint64_t sum_of_stores(const struct page *p, size_t offset)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < p->g->loops.n; i++)
        n += count_get((const _Atomic uint64_t *)((const char *)&p->g->parts[i]->store + offset));
    return n;
}

static void put_store_outcomes(struct page *p)
{
    static const struct {
        const char *name;
        size_t offset;
    } rows[] = {
        {"sent", offsetof(struct store, stats.commands)},
        {"error", offsetof(struct store, stats.errors)},
        {"late", offsetof(struct store, stats.late)},
        {"lost", offsetof(struct store, stats.lost)},
        {"refused_nobody", offsetof(struct store, stats.nobody)},
        {"refused_full", offsetof(struct store, stats.full)},
        {"redirected", offsetof(struct store, stats.redirected)},
    };
    prom_family(&p->prom, "sluice_store_commands_total", "counter",
                "Commands for the store: sent, and of those how many failed; and refused at once.");
    for (unsigned i = 0; i < N(rows); i++) {
        struct prom_label label = {"outcome", view_str(rows[i].name)};
        prom_count(&p->prom, &label, 1, sum_of_stores(p, rows[i].offset));
    }
}

static void store(struct page *p)
{
    if (!p->g->snap->store)
        return;
    put_store_outcomes(p);
    prom_family(&p->prom, "sluice_store_connects_total", "counter",
                "Connections that were let in.");
    prom_count(&p->prom, NULL, 0, sum_of_stores(p, offsetof(struct store, stats.connects)));
    prom_family(&p->prom, "sluice_store_losses_total", "counter", "Connections lost or refused.");
    prom_count(&p->prom, NULL, 0, sum_of_stores(p, offsetof(struct store, stats.losses)));
    prom_family(&p->prom, "sluice_store_rests_total", "counter",
                "Times a server was not asked for a while, for its answers came late.");
    prom_count(&p->prom, NULL, 0, sum_of_stores(p, offsetof(struct store, stats.rests)));
    prom_family(&p->prom, "sluice_store_answers_total", "counter",
                "Answers that were looked for in the store, and told to it.");
    for (unsigned i = 0; i < STORE_COUNTS; i++) {
        struct prom_label label = {"outcome", view_str(store_count_name[i])};
        prom_count(&p->prom, &label, 1,
                   sum_of_stores(p, offsetof(struct store, count) + i * sizeof(uint64_t)));
    }
    prom_family(&p->prom, "sluice_store_bad_values_total", "counter",
                "Values in the store that were not what they should be, and were not served.");
    for (unsigned i = STORED_FITS + 1; i < STORED_FAULTS; i++) {
        struct prom_label label = {"fault", view_str(stored_fault_name[i])};
        prom_count(&p->prom, &label, 1,
                   sum_of_stores(p, offsetof(struct store, fault) + i * sizeof(uint64_t)));
    }
    prom_family(&p->prom, "sluice_store_loops", "gauge", "Loops by the state of their store.");
    unsigned loops_in[REDIS_STATES] = {0};
    for (unsigned i = 0; i < p->g->loops.n; i++)
        loops_in[atomic_load(&p->g->parts[i]->store.stats.state)]++;
    for (unsigned s = 0; s < REDIS_STATES; s++) {
        struct prom_label label = {"state", view_str(redis_state_name[s])};
        prom_count(&p->prom, &label, 1, loops_in[s]);
    }
}

bool metrics_page(struct buffer *out, void *ctx)
{
    struct page p = {.g = ctx};
    prom_init(&p.prom, out);
    requests(&p);
    models(&p);
    levels(&p);
    workers(&p);
    starts(&p);
    fronts(&p);
    loops(&p);
    process(&p);
    store(&p);
    experiments_metrics(&p.prom, p.g);
    predictions_metrics(&p.prom, p.g);
    shadows_metrics(&p.prom, p.g);
    rewards_metrics(&p.prom, p.g);
    return !p.prom.failed;
}
