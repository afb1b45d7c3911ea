#include "router/replicas.h"

#include "base/check.h"

struct replica *replicas_find(struct desk *d, uint32_t id)
{
    for (unsigned i = 0; i < d->n_replicas; i++) {
        if (d->replica[i].id == id)
            return &d->replica[i];
    }
    return NULL;
}

static bool serves(const struct replica *r, struct view version)
{
    if (version.n == 0)
        return true;
    for (unsigned i = 0; i < r->facts.n_versions; i++) {
        if (view_eq(r->facts.versions[i], version))
            return true;
    }
    return false;
}

static bool has_credit(const struct desk *d, const struct replica *r, uint64_t now_us)
{
    uint32_t most = d->suspects > 0 ? 1 : d->model->rules.pipeline;
    return r->up && r->batches < most && now_us >= r->not_before_us;
}

bool replicas_serve(const struct desk *d, struct view version, bool with_credit, uint64_t now_us)
{
    for (unsigned i = 0; i < d->n_replicas; i++) {
        const struct replica *r = &d->replica[i];
        if (r->up && serves(r, version) && (!with_credit || has_credit(d, r, now_us)))
            return true;
    }
    return false;
}

bool replicas_credit(const struct desk *d, uint64_t now_us)
{
    return replicas_serve(d, (struct view){0}, true, now_us);
}

static double load(const struct replica *r)
{
    return (r->rows + 1.0) * (r->latency_us + 1.0);
}

struct replica *replicas_choose(struct desk *d, struct view version, uint64_t now_us)
{
    struct replica *fit[DESK_REPLICAS];
    unsigned n = 0;
    for (unsigned i = 0; i < d->n_replicas; i++) {
        struct replica *r = &d->replica[i];
        if (has_credit(d, r, now_us) && serves(r, version))
            fit[n++] = r;
    }
    if (n <= 1)
        return n ? fit[0] : NULL;
    unsigned a = (unsigned)rand_below(&d->rand, n), b = (unsigned)rand_below(&d->rand, n - 1);
    b += b >= a;
    return load(fit[a]) <= load(fit[b]) ? fit[a] : fit[b];
}

uint64_t replicas_pause_ends(const struct desk *d, uint64_t now_us)
{
    uint64_t ends = UINT64_MAX;
    for (unsigned i = 0; i < d->n_replicas; i++) {
        const struct replica *r = &d->replica[i];
        if (r->up && r->not_before_us > now_us && r->not_before_us < ends)
            ends = r->not_before_us;
    }
    return ends;
}

// ---- up and down -------------------------------------------------------------------------------------

static void publish(struct desk *d)
{
    struct model *m = d->model;
    if (d->n_up > 0) {
        uint32_t max = d->max_batch ? d->max_batch : 1;
        if (m->rules.max_rows > 0 && m->rules.max_rows < max)
            max = m->rules.max_rows;
        d->batcher.policy.max_rows = max;
        if (m->rules.queue_rows == 0)
            atomic_store(&m->queue_limit, model_queue_rows(max));
        atomic_store(&m->max_batch, d->max_batch);
    }
    atomic_store(&m->ready, d->n_up);
}

static struct replica *slot_for(struct desk *d, uint32_t id)
{
    struct replica *r = replicas_find(d, id);
    if (r || d->n_replicas == DESK_REPLICAS)
        return r;
    r = &d->replica[d->n_replicas++];
    *r = (struct replica){.id = id};
    return r;
}

static void keep_facts(struct replica *r, const struct replica_facts *facts)
{
    r->facts = *facts;
    r->facts.n_versions = 0;
    for (unsigned i = 0; i < facts->n_versions; i++) {
        struct view v = facts->versions[i];
        if (v.n > MODEL_VERSION_MAX)
            continue; // nobody can ask for it: the version of a request is as short
        char *copy = r->version[r->facts.n_versions];
        memmove(copy, v.p, v.n); // readmitted: its own copy
        r->facts.versions[r->facts.n_versions++] = view_of(copy, v.n);
    }
}

void desk_on_replica_up(struct desk *d, uint32_t id, const struct replica_facts *facts,
                        uint64_t now_us, struct effects *fx)
{
    struct replica *r = slot_for(d, id);
    (void)now_us;
    if (!r || r->up)
        return;
    keep_facts(r, facts);
    r->not_before_us = 0;
    r->differs = d->n_up > 0 &&
                 (!hash128_eq(facts->metadata, d->metadata) || facts->max_batch != d->max_batch);
    if (r->differs) {
        fx_note(fx, NOTE_REPLICA_DIFFERS, d->model, id, 0);
        return;
    }
    r->up = true;
    d->n_up++;
    d->alone_since_us = 0;
    d->metadata = facts->metadata;
    d->max_batch = facts->max_batch;
    publish(d);
    fx_note(fx, NOTE_REPLICA_UP, d->model, id, 0);
}

// The last of those that agreed has gone: what was kept out for being different is as good as any.
static void readmit(struct desk *d, uint64_t now_us, struct effects *fx)
{
    for (unsigned i = 0; i < d->n_replicas; i++) {
        struct replica *r = &d->replica[i];
        if (r->differs) {
            struct replica_facts facts = r->facts;
            desk_on_replica_up(d, r->id, &facts, now_us, fx);
        }
    }
}

void desk_on_replica_down(struct desk *d, uint32_t id, uint64_t now_us, struct effects *fx)
{
    struct replica *r = replicas_find(d, id);
    if (!r)
        return;
    r->differs = false;
    if (!r->up)
        return;
    r->up = false;
    d->n_up--;
    fx_note(fx, NOTE_REPLICA_DOWN, d->model, id, 0);
    if (d->n_up == 0) {
        d->alone_since_us = now_us;
        readmit(d, now_us, fx);
    }
    publish(d);
}
