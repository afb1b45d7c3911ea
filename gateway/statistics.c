#include "gateway/statistics.h"

#include "base/count.h"
#include "base/mem.h"
#include "base/num.h"
#include "gateway/card.h"

// ---- counting ----------------------------------------------------------------------------------------------

static bool is_of(const struct figures *f, struct view version)
{
    return view_eq(view_of(f->version, f->version_bytes), version);
}

// NULL: no memory, or more versions than are told apart: then it is not counted.
static struct figures *figures_of(struct model_metrics *mm, struct view version)
{
    if (version.n > MODEL_VERSION_MAX)
        version = VIEW("");
    for (unsigned i = 0; i < FIGURES_VERSIONS; i++) {
        struct figures *f = atomic_load_explicit(&mm->figures[i], memory_order_relaxed);
        if (f && is_of(f, version))
            return f;
        if (f)
            continue;
        if (!(f = mem_zalloc(sizeof(*f))))
            return NULL;
        memcpy(f->version, version.n ? version.p : "", version.n);
        f->version_bytes = (uint8_t)version.n;
        atomic_store_explicit(&mm->figures[i], f, memory_order_release);
        return f;
    }
    return NULL;
}

static void add(struct figures_tally *t, uint64_t us)
{
    count_add(&t->n, 1);
    count_add(&t->us, us);
}

void figures_answered(struct model_metrics *mm, struct view version, const struct answer_meta *meta,
                      enum answer_source source, uint64_t total_us)
{
    struct figures *f = figures_of(mm, version);
    if (!f)
        return;
    add(&f->success, total_us);
    if (source == SOURCE_MODEL) {
        add(&f->queue, meta->queue_us);
        add(&f->compute, meta->compute_us);
    } else if (source != SOURCE_DEFAULT) {
        add(&f->cache_hit, total_us);
    }
}

void figures_failed(struct model_metrics *mm, struct model *m, struct view version,
                    uint64_t total_us)
{
    bool made_up = version.n > 0 && card_lacks(m, version); // by a client: it is none
    struct figures *f = figures_of(mm, made_up ? VIEW("") : version);
    if (f)
        add(&f->fail, total_us);
}

static void add_size(struct figures *f, uint32_t rows, uint64_t us)
{
    unsigned n = atomic_load_explicit(&f->n_sizes, memory_order_relaxed), i = 0;
    while (i < n && f->size[i].rows != rows)
        i++;
    if (i == FIGURES_SIZES)
        return;
    add(&f->size[i].compute, us);
    f->size[i].rows = rows;
    if (i == n)
        atomic_store_explicit(&f->n_sizes, n + 1, memory_order_release);
}

void figures_batch(struct part *p, const struct model *m, struct view version, uint32_t rows,
                   uint64_t compute_us)
{
    struct model_metrics *mm = metrics_model(&p->metrics, m);
    struct figures *f = mm ? figures_of(mm, version) : NULL;
    if (!f)
        return;
    count_add(&f->inferences, rows);
    count_add(&f->executions, 1);
    atomic_store_explicit(&f->last_ms, loop_wall_us(p->loop) / 1000, memory_order_relaxed);
    add_size(f, rows, compute_us);
}

// ---- telling -----------------------------------------------------------------------------------------------

static void sum(struct oip_duration *into, const struct figures_tally *t)
{
    into->count += count_get(&t->n);
    into->us += count_get(&t->us);
}

// The rows' sizes, ascending. False: out of memory.
static bool sum_sizes(struct oip_figures *row, const struct figures *f, struct arena *a)
{
    unsigned more = atomic_load_explicit(&f->n_sizes, memory_order_acquire), n = row->n_batches;
    if (more == 0)
        return true;
    struct oip_batch_figures *all = arena_array(a, n + more, sizeof(*all));
    if (!all)
        return false;
    if (n > 0)
        memcpy(all, row->batches, n * sizeof(*all));
    for (unsigned i = 0; i < more; i++) {
        struct oip_duration compute = {0};
        sum(&compute, &f->size[i].compute);
        oip_batches_add(all, &row->n_batches, n + more, f->size[i].rows, compute);
    }
    row->batches = all;
    return true;
}

static bool sum_figures(struct oip_figures *row, const struct figures *f, struct arena *a)
{
    uint64_t last_ms = count_get(&f->last_ms);
    sum(&row->success, &f->success);
    sum(&row->fail, &f->fail);
    sum(&row->queue, &f->queue);
    sum(&row->compute, &f->compute);
    sum(&row->cache_hit, &f->cache_hit);
    row->inferences += count_get(&f->inferences);
    row->executions += count_get(&f->executions);
    row->last_ms = last_ms > row->last_ms ? last_ms : row->last_ms;
    return sum_sizes(row, f, a);
}

// The version that answers who names none, as far as we can know: the highest.
static unsigned newest(const struct oip_figures *rows, unsigned n)
{
    uint64_t best = 0, number;
    unsigned at = 0;
    for (unsigned i = 0; i < n; i++) {
        if (num_parse_u64(rows[i].version, &number) == NUM_OK && number >= best) {
            best = number;
            at = i;
        }
    }
    return at;
}

static bool sum_shard(struct oip_figures *rows, unsigned n, unsigned others,
                      const struct model_metrics *mm, struct arena *a)
{
    bool ok = true;
    for (unsigned i = 0; mm && ok && i < FIGURES_VERSIONS; i++) {
        const struct figures *f = atomic_load_explicit(&mm->figures[i], memory_order_acquire);
        unsigned at = 0;
        while (f && at < n && !is_of(f, rows[at].version))
            at++;
        ok = !f || sum_figures(&rows[at < n ? at : others], f, a);
    }
    return ok;
}

// One row a version, as clients are told them; one without, where none are known.
static struct oip_figures *rows_of(struct model *m, struct arena *a, unsigned *n)
{
    struct view *versions, name = arena_copy(a, m->name);
    unsigned known = card_versions(m, a, &versions);
    *n = known > 0 ? known : 1;
    struct oip_figures *rows = arena_array(a, *n, sizeof(*rows));
    for (unsigned i = 0; rows && i < *n; i++)
        rows[i] = (struct oip_figures){.name = name, .version = known > 0 ? versions[i] : VIEW("")};
    return name.p ? rows : NULL;
}

static struct oip_figures *figures_sum(const struct gateway *g, struct model *m, struct arena *a,
                                       unsigned *n)
{
    struct oip_figures *rows = rows_of(m, a, n);
    if (!rows)
        return NULL;
    unsigned others = newest(rows, *n);
    for (unsigned i = 0; i < g->loops.n; i++) {
        const struct metrics *shard = &g->parts[i]->metrics;
        if (!sum_shard(rows, *n, others,
                       atomic_load_explicit(&shard->model[m->index], memory_order_acquire), a))
            return NULL;
    }
    rows[others].cache_miss.count = count_get(&m->cache.count[CACHE_MISSES]);
    return rows;
}

static bool append(struct oip_statistics *out, unsigned *cap, const struct oip_figures *rows,
                   unsigned n, struct arena *a)
{
    for (unsigned i = 0; i < n; i++) {
        out->models = oip_grown(a, out->models, out->n, cap, sizeof(*rows));
        if (!out->models)
            return false;
        out->models[out->n++] = rows[i];
    }
    return true;
}

static bool tell_one(const struct gateway *g, struct model *m, struct view version, struct arena *a,
                     struct oip_statistics *out)
{
    out->models = figures_sum(g, m, a, &out->n);
    for (unsigned i = 0; out->models && version.n > 0 && i < out->n; i++) {
        if (view_eq(out->models[i].version, version)) {
            out->models += i;
            out->n = 1;
            break;
        }
    }
    return out->models;
}

bool statistics_tell(struct gateway *g, struct model *m, struct view version, struct arena *a,
                     struct oip_statistics *out)
{
    unsigned cap = 0;
    *out = (struct oip_statistics){.n = 0};
    if (m)
        return tell_one(g, m, version, a, out);
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        unsigned n;
        struct model *each = table_at(g->table, i);
        struct oip_figures *rows = each ? figures_sum(g, each, a, &n) : NULL;
        if (each && (!rows || !append(out, &cap, rows, n, a)))
            return false;
    }
    return true;
}
