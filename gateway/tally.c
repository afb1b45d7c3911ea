#include "gateway/tally.h"

#include "base/count.h"
#include "base/mem.h"
#include "gateway/experiments.h"
#include "gateway/levels.h"
#include "gateway/part.h"
#include "gateway/show.h"
#include "gateway/snapshot.h"

#define SIZES 11 // batches of up to 1, 2, 4 … 512 rows, and of more
#define COUNTS (SOURCES + STATUS_COUNT + BATCH_REASONS + CACHE_COUNTS)

struct counted { // of a model, all loops together
    uint64_t count[COUNTS];
    struct answered_sum by[ANSWERED_BY];
    unsigned n_by;
};

struct stands {
    uint32_t level, pinned, ready, share_ppm, waiting, running, queue_limit, max_batch;
    const char *cause;
};

struct told_model { // a model as it was at the last look
    char name[MODEL_NAME_MAX];
    uint8_t name_bytes;
    struct stands stands;
    struct counted counted;
    struct hist took, rows;
};

struct tally {
    struct gateway *gateway;
    struct told_model *model[TABLE_MODELS];
    uint64_t trials;      // all that experiments have counted
    struct counted since; // scratch
    struct hist now, took, rows;
    struct hist all; // what all models took, since the last look
};

static const struct model_metrics *shard_of(const struct tally *t, unsigned loop,
                                            const struct model *m)
{
    return atomic_load_explicit(&t->gateway->parts[loop]->metrics.model[m->index],
                                memory_order_acquire);
}

// ---- what is counted of a model ----------------------------------------------------------------------

static const char *source_name(unsigned k)
{
    return answer_source_name[k];
}

static const char *status_name(unsigned k)
{
    return status_table[k].name;
}

static const char *reason_name(unsigned k)
{
    return batch_reason_name[k];
}

static const char *cache_name(unsigned k)
{
    return cache_count_name[k];
}

static const struct count_group { // counters that stand one behind the other; adding one is a row
    const char *key;
    unsigned n;
    const char *(*name)(unsigned k);
    bool of_model; // offset: in struct model, not in its shards
    size_t offset;
} groups[] = {
    {"answers", SOURCES, source_name, false, offsetof(struct model_metrics, answers)},
    {"failures", STATUS_COUNT, status_name, false, offsetof(struct model_metrics, failures)},
    {"batches", BATCH_REASONS, reason_name, false, offsetof(struct model_metrics, batches)},
    {"cache", CACHE_COUNTS, cache_name, true, offsetof(struct model, cache.count)},
};
enum { GROUPS = sizeof(groups) / sizeof(groups[0]) };

static void add_group(uint64_t *out, const struct count_group *of, const void *from)
{
    const _Atomic uint64_t *c = (const _Atomic uint64_t *)((const char *)from + of->offset);
    for (unsigned k = 0; k < of->n; k++)
        out[k] += count_get(&c[k]);
}

static const struct answered_sum *find_by(const struct counted *c, const struct answered_sum *like)
{
    for (unsigned i = 0; i < c->n_by; i++)
        if (view_eq(view_of(c->by[i].name, c->by[i].name_bytes),
                    view_of(like->name, like->name_bytes)))
            return &c->by[i];
    return NULL;
}

static void count_model(const struct tally *t, const struct model *m, struct counted *out)
{
    memset(out, 0, sizeof(*out));
    unsigned at = 0;
    for (unsigned i = 0; i < GROUPS; at += groups[i++].n) {
        if (groups[i].of_model)
            add_group(&out->count[at], &groups[i], m);
        for (unsigned l = 0; !groups[i].of_model && l < t->gateway->loops.n; l++)
            if (shard_of(t, l, m))
                add_group(&out->count[at], &groups[i], shard_of(t, l, m));
    }
    out->n_by = metrics_answers(t->gateway, m, out->by);
}

// Of one of its histograms, what came since the last look.
static void count_hist(struct tally *t, const struct model *m, size_t offset, struct hist *before,
                       struct hist *since)
{
    hist_init(&t->now);
    for (unsigned l = 0; l < t->gateway->loops.n; l++) {
        const struct model_metrics *mm = shard_of(t, l, m);
        if (mm)
            hist_merge(&t->now, (const struct hist *)((const char *)mm + offset));
    }
    hist_since(since, before, &t->now);
}

static struct stands stands_of(const struct model *m)
{
    return (struct stands){
        .level = standing_level(m),
        .pinned = atomic_load(&m->pin) > 0,
        .ready = atomic_load(&m->ready),
        .share_ppm = (uint32_t)(atomic_load(&m->share) * 1000000ull / MODEL_SHARE),
        .waiting = atomic_load(&m->waiting),
        .running = atomic_load(&m->running),
        .queue_limit = atomic_load(&m->queue_limit),
        .max_batch = atomic_load(&m->max_batch),
        .cause = atomic_load(&m->level_cause),
    };
}

// ---- and said ----------------------------------------------------------------------------------------

static void put_stands(struct json_writer *w, const struct stands *s)
{
    json_put(w, "level", s->level);
    json_put_text(w, "cause", s->cause);
    json_put_bool(w, "pinned", s->pinned);
    json_put(w, "ready", s->ready);
    json_put(w, "share_ppm", s->share_ppm);
    json_put(w, "waiting", s->waiting);
    json_put(w, "running", s->running);
    json_put(w, "queue_limit", s->queue_limit);
    json_put(w, "max_batch", s->max_batch);
}

static void put_group(struct json_writer *w, const struct count_group *of, const uint64_t *count)
{
    bool any = false;
    for (unsigned k = 0; k < of->n; k++) {
        if (count[k] == 0)
            continue;
        if (!any) {
            json_w_key(w, view_str(of->key));
            json_w_object(w);
        }
        any = true;
        json_put(w, of->name(k), count[k]);
    }
    if (any)
        json_w_object_end(w);
}

static void put_by(struct json_writer *w, const struct counted *c)
{
    json_w_key(w, VIEW("by"));
    json_w_object(w);
    for (unsigned i = 0; i < c->n_by; i++) {
        if (c->by[i].n == 0)
            continue;
        json_w_key(w, view_of(c->by[i].name, c->by[i].name_bytes));
        json_w_u64(w, c->by[i].n);
    }
    json_w_object_end(w);
}

static void put_quantiles(struct json_writer *w, const struct hist *took)
{
    json_put(w, "p50_us", hist_quantile(took, 0.5));
    json_put(w, "p99_us", hist_quantile(took, 0.99));
}

static void put_sizes(struct json_writer *w, const struct hist *rows)
{
    uint64_t below = 0;
    json_w_key(w, VIEW("sizes"));
    json_w_array(w);
    for (unsigned i = 0; i < SIZES; i++) {
        uint64_t n = i + 1 < SIZES ? hist_count_le(rows, 1ull << i) : count_get(&rows->count);
        json_w_u64(w, n > below ? n - below : 0);
        below = n;
    }
    json_w_array_end(w);
    json_put(w, "rows", count_get(&rows->sum));
}

static void put_model(struct json_writer *w, const struct told_model *m, const struct counted *c,
                      const struct hist *took, const struct hist *rows)
{
    unsigned at = 0;
    json_w_object(w);
    json_w_key(w, VIEW("name"));
    json_w_string(w, view_of(m->name, m->name_bytes));
    put_stands(w, &m->stands);
    for (unsigned i = 0; i < GROUPS; at += groups[i++].n)
        put_group(w, &groups[i], &c->count[at]);
    if (c->n_by > 0)
        put_by(w, c);
    if (count_get(&took->count) > 0)
        put_quantiles(w, took);
    if (count_get(&rows->count) > 0)
        put_sizes(w, rows);
    json_w_object_end(w);
}

// ---- what has changed --------------------------------------------------------------------------------

static void subtract(struct counted *since, const struct counted *now, const struct counted *before)
{
    *since = *now;
    for (unsigned k = 0; k < COUNTS; k++)
        since->count[k] -= before->count[k];
    for (unsigned i = 0; i < since->n_by; i++) {
        const struct answered_sum *was = find_by(before, &since->by[i]);
        since->by[i].n -= was ? was->n : 0;
    }
}

// Counts never fall, but for those of a model that was removed and has come back.
static bool has_fallen(const struct counted *now, const struct counted *before)
{
    bool fallen = now->n_by < before->n_by;
    for (unsigned k = 0; k < COUNTS; k++)
        fallen |= now->count[k] < before->count[k];
    return fallen;
}

static bool is_it(const struct told_model *s, const struct model *m)
{
    return view_eq(view_of(s->name, s->name_bytes), m->name);
}

static struct told_model *told_new(const struct model *m)
{
    struct told_model *s = mem_zalloc(sizeof(*s));
    if (!s)
        return NULL;
    memcpy(s->name, m->name.p, m->name.n);
    s->name_bytes = (uint8_t)m->name.n;
    return s;
}

// False: nothing of it has.
static bool look_at(struct tally *t, const struct model *m, struct told_model *s, bool fresh)
{
    struct counted now;
    struct stands stands = stands_of(m);
    count_model(t, m, &now);
    if (has_fallen(&now, &s->counted)) {
        memset(&s->counted, 0, sizeof(s->counted));
        hist_init(&s->took);
        hist_init(&s->rows);
    }
    bool counted = memcmp(&now.count, &s->counted.count, sizeof(now.count)) != 0;
    bool stood = memcmp(&stands, &s->stands, sizeof(stands)) == 0;
    hist_init(&t->took);
    hist_init(&t->rows);
    if (counted) {
        count_hist(t, m, offsetof(struct model_metrics, stage[STAGE_TOTAL]), &s->took, &t->took);
        count_hist(t, m, offsetof(struct model_metrics, batch_rows), &s->rows, &t->rows);
        hist_merge(&t->all, &t->took);
    }
    subtract(&t->since, &now, &s->counted);
    s->counted = now;
    s->stands = stands;
    return fresh || counted || !stood;
}

// Those that have gone are named first: another one may have its name by now.
static void step_gone(struct tally *t, struct json_writer *w)
{
    json_w_key(w, VIEW("gone"));
    json_w_array(w);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct told_model *s = t->model[i];
        const struct model *m = table_at(t->gateway->table, i);
        if (!s || (m && is_it(s, m)))
            continue;
        json_w_string(w, view_of(s->name, s->name_bytes));
        mem_free(s);
        t->model[i] = NULL;
    }
    json_w_array_end(w);
}

// w: NULL: nobody is told.
static void step_models(struct tally *t, struct json_writer *w)
{
    hist_init(&t->all);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        const struct model *m = table_at(t->gateway->table, i);
        bool fresh = m && !t->model[i];
        if (fresh)
            t->model[i] = told_new(m);
        if (m && t->model[i] && look_at(t, m, t->model[i], fresh) && w)
            put_model(w, t->model[i], &t->since, &t->took, &t->rows);
    }
}

// ---- beside models -----------------------------------------------------------------------------------

static void put_process(struct json_writer *w, struct gateway *g)
{
    json_put_text(w, "boot_id", g->boot_id);
    json_put_text(w, "phase", show_phase(g));
    json_put(w, "level", levels_instance(g));
    json_put(w, "uptime_s", (loop_now_us(&g->main) - g->started_us) / 1000000);
    json_put(w, "generation", g->snap->generation);
    json_put(w, "bytes_leased", (uint64_t)atomic_load(&g->bytes.granted));
    json_put(w, "bytes_limit", (uint64_t)budget_limit(&g->bytes));
    json_put(w, "cache_leased", parts_cache_leased(g));
    json_put(w, "cache_limit", parts_cache_limit(g));
}

static void put_loops(struct json_writer *w, const struct gateway *g)
{
    json_w_key(w, VIEW("loops"));
    json_w_array(w);
    for (unsigned i = 0; i < g->loops.n; i++) {
        struct loop *l = g->loops.loop[i];
        const struct metrics *s = &g->parts[i]->metrics;
        json_w_object(w);
        json_put(w, "connections", atomic_load(&l->conns));
        json_put(w, "in_flight", atomic_load(&s->live));
        json_put(w, "streams", count_get(&s->streams));
        json_put(w, "zombies", atomic_load(&s->zombies));
        json_put(w, "turns", loop_turns(l));
        json_put(w, "delay_p99_us", hist_quantile(&l->delay, 0.99));
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void each_trial(struct tally *t,
                       void (*fn)(struct tally *t, const struct trial *of, struct json_writer *w),
                       struct json_writer *w)
{
    const struct experiments *all = t->gateway->snap->experiments;
    for (unsigned i = 0; all && i < all->n; i++)
        for (unsigned k = 0; k < all->places[i].site.n; k++)
            for (unsigned v = 0; v < all->places[i].site.experiments[k].n_variants; v++)
                fn(t, all->places[i].keeps[k].trials[v], w);
}

static const struct trial_counts *counts_of(const struct trial *of, unsigned loop)
{
    return atomic_load_explicit(&of->shard[loop], memory_order_acquire);
}

static void put_trial(struct tally *t, const struct trial *of, struct json_writer *w)
{
    uint64_t ok = 0, errors = 0, fallbacks = 0;
    hist_init(&t->now);
    for (unsigned l = 0; l < t->gateway->loops.n; l++) {
        const struct trial_counts *c = counts_of(of, l);
        if (!c)
            continue;
        for (unsigned k = 0; k < STATUS_COUNT; k++)
            *(k == STATUS_OK ? &ok : &errors) += count_get(&c->requests[k]);
        fallbacks += count_get(&c->fallbacks);
        hist_merge(&t->now, &c->took);
    }
    json_w_object(w);
    json_put_text(w, "experiment", of->name);
    json_put_text(w, "variant", of->variant);
    json_put(w, "requests", ok + errors);
    json_put(w, "errors", errors);
    json_put(w, "fallbacks", fallbacks);
    put_quantiles(w, &t->now);
    json_w_object_end(w);
}

static void put_trials(struct tally *t, struct json_writer *w)
{
    json_w_key(w, VIEW("variants"));
    json_w_array(w);
    each_trial(t, put_trial, w);
    json_w_array_end(w);
}

static void add_trial(struct tally *t, const struct trial *of, struct json_writer *w)
{
    (void)w;
    t->trials += 1 + experiments_requests(of, t->gateway->loops.n);
}

// ---- looks -------------------------------------------------------------------------------------------

struct tally *tally_new(struct gateway *g)
{
    struct tally *t = mem_zalloc(sizeof(*t));
    if (!t)
        return NULL;
    t->gateway = g;
    step_models(t, NULL);
    each_trial(t, add_trial, NULL);
    return t;
}

void tally_free(struct tally *t)
{
    for (unsigned i = 0; t && i < TABLE_MODELS; i++)
        mem_free(t->model[i]);
    mem_free(t);
}

void tally_step(struct tally *t, uint64_t ms, struct json_writer *w)
{
    uint64_t trials = t->trials;
    json_w_object(w);
    json_put_bool(w, "whole", false);
    json_put(w, "ms", ms);
    put_process(w, t->gateway);
    put_loops(w, t->gateway);
    step_gone(t, w);
    json_w_key(w, VIEW("models"));
    json_w_array(w);
    step_models(t, w);
    json_w_array_end(w);
    if (count_get(&t->all.count) > 0)
        put_quantiles(w, &t->all);
    t->trials = 0;
    each_trial(t, add_trial, NULL);
    if (t->trials != trials)
        put_trials(t, w);
    json_w_object_end(w);
}

void tally_whole(struct tally *t, struct json_writer *w)
{
    json_w_object(w);
    json_put_bool(w, "whole", true);
    put_process(w, t->gateway);
    put_loops(w, t->gateway);
    json_w_key(w, VIEW("models"));
    json_w_array(w);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        const struct told_model *s = t->model[i];
        if (s)
            put_model(w, s, &s->counted, &s->took, &s->rows);
    }
    json_w_array_end(w);
    put_trials(t, w);
    json_w_object_end(w);
}
