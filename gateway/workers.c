// A loop's connections to the workers, and what the desks learn from them.
#include "gateway/workers.h"

#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "gateway/awaiting.h"
#include "gateway/card.h"
#include "gateway/doors.h"
#include "gateway/endpoint.h"
#include "gateway/homes.h"
#include <stdio.h>

#define VERSIONS_TOLD 64 // of a model, to clients

// ---- models ------------------------------------------------------------------------------------------

static void hash_tensors(struct hash128 *h, const struct tensor *tensors, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct tensor *t = &tensors[i];
        struct {
            uint64_t dtype, rank;
            int64_t shape[TENSOR_MAX_RANK];
            struct hash128 name, before;
        } row = {.dtype = t->dtype, .rank = t->rank, .name = hash128(t->name, 1), .before = *h};
        for (unsigned k = 0; k < t->rank; k++)
            row.shape[k] = tensor_dim(t, k);
        *h = hash128(view_of(&row, sizeof(row)), 2);
    }
}

static struct hash128 metadata_hash(const struct model_metadata *m)
{
    struct hash128 h = {m->n_inputs, m->n_outputs};
    hash_tensors(&h, m->inputs, m->n_inputs);
    hash_tensors(&h, m->outputs, m->n_outputs);
    return h;
}

_Static_assert(CONFIG_MAX_CHOICES == REPLICA_RANKS, "each worker of a list has a class");

unsigned link_rank(const struct link *l, struct view name)
{
    const struct snapshot *p = l->part->snap;
    const struct config_model *c = snapshot_model(p, name);
    if (!l->section || l->leaving || (!c && p->config->models_listed_only))
        return REPLICA_RANKS;
    unsigned n = c ? c->worker_count : 0, i = 0;
    while (i < n && &p->config->workers[c->workers[i]] != l->section)
        i++;
    return n > 0 && i == n ? REPLICA_RANKS : i;
}

// The model as this worker may serve it: NULL when the configuration gives it to others.
static struct model *model_for(struct link *l, struct view name)
{
    const struct snapshot *p = l->part->snap;
    const struct config_model *c = snapshot_model(p, name);
    if (!link_may_serve(l, name)) {
        l->kept_out = true;
        return NULL;
    }
    struct model_rules rules;
    part_rules(c ? c : &l->section->rules, &rules);
    struct model *m = table_add(l->part->gateway->table, name, &rules);
    l->left_out |= !m;
    if (!m && !l->said_full) // tried again each second
        GATEWAY_EVENT(l->part->gateway, l->part->loop, LOG_WARN, "model_left_out",
                      LOG_S("model", name), LOG_CSTR("worker", l->endpoint->name),
                      LOG_CSTR("why", "no room for more models, or no memory"),
                      LOG_I("most", TABLE_MODELS));
    l->said_full |= !m;
    return m;
}

static struct replica_facts facts_of(struct link *l, const struct model_metadata *meta)
{
    struct replica_facts facts = {.max_batch = meta->max_batch,
                                  .rank = (uint8_t)link_rank(l, meta->name),
                                  .instances = meta->instances,
                                  .metadata = metadata_hash(meta),
                                  .vitals = &l->endpoint->vitals};
    for (unsigned i = 0; i < meta->n_outputs; i++)
        facts.rowless |= meta->outputs[i].rank == 0 || meta->outputs[i].shape[0] >= 0;
    if (meta->serial || l->serial) {
        facts.device = &l->endpoint->device;
        facts.turn = &l->turn;
    }
    if (l->endpoint->local) // others have no keeper that would tell
        facts.incarnation = worker_pid(l->worker);
    facts.versions = meta->versions;
    facts.n_versions = meta->n_versions;
    return facts;
}

static bool has_place(const struct desk *d, unsigned id)
{
    for (unsigned i = 0; i < d->replicas.n; i++) {
        if (d->replicas.at[i].id == id)
            return true;
    }
    return false;
}

// The home of the model, here, which is not removed while it has a replica. NULL: it is another loop's, which hears
// of it on its own connection; or it is left out.
static struct home *home_for(struct link *l, struct view name)
{
    struct model *m;
    do { // one that is being removed is not found again
        m = model_for(l, name);
        if (!m || model_home(m) != l->part->loop->index)
            return NULL;
    } while (!model_keep(m));
    struct home *h = home_of(l->part, m);
    l->left_out |= !h;
    return h;
}

// What that replica says of the model; NULL: it is not up.
static const struct model_metadata *said_by(const struct part *p, const struct model *m,
                                            const struct replica *r)
{
    return r->up ? worker_model(part_link(p, r->id)->worker, m->name) : NULL;
}

// What one that is up says; NULL: none is.
static const struct model_metadata *said_of(const struct part *p, const struct model *m)
{
    const struct replicas *rs = &((const struct desk *)m->desk)->replicas;
    const struct model_metadata *meta = NULL;
    for (unsigned i = 0; !meta && i < rs->n; i++)
        meta = said_by(p, m, &rs->at[i]);
    return meta;
}

static bool has_version(const struct model_metadata *m, struct view version)
{
    for (unsigned i = 0; i < m->n_versions; i++)
        if (view_eq(m->versions[i], version))
            return true;
    return false;
}

// A version that none of those before has.
static bool has_news(struct model *m, const struct model_metadata *meta)
{
    for (unsigned i = 0; i < meta->n_versions; i++)
        if (card_lacks(m, meta->versions[i]))
            return true;
    return false;
}

static void tell(struct home *h, const struct model_metadata *meta)
{
    card_set(home_desk(h)->model, meta);
    home_know_form(h, meta);
}

// Clients get the metadata that the replicas that are up give, with the versions of all of them.
static void tell_again(struct part *p, struct home *h)
{
    struct model *m = home_desk(h)->model;
    const struct replicas *rs = &home_desk(h)->replicas;
    const struct model_metadata *meta = said_of(p, m), *other;
    struct view versions[VERSIONS_TOLD];
    struct model_metadata all;
    if (!meta)
        return;
    all = *meta;
    all.versions = versions;
    all.n_versions = 0;
    for (unsigned i = 0; i < rs->n; i++) {
        other = said_by(p, m, &rs->at[i]);
        for (unsigned k = 0; other && k < other->n_versions; k++)
            if (all.n_versions < VERSIONS_TOLD && !has_version(&all, other->versions[k]))
                versions[all.n_versions++] = other->versions[k];
    }
    tell(h, &all);
}

static void on_model(struct worker *w, const struct model_metadata *meta, void *ctx)
{
    struct link *l = ctx;
    struct home *h = home_for(l, meta->name);
    if (!h)
        return;
    struct model *m = home_desk(h)->model;
    struct replica_facts facts = facts_of(l, meta);
    bool first = home_desk(h)->replicas.n_up == 0;
    if (first) {
        tell(h, meta);
        home_adopt(l->part, m, l->id); // another loop may have added it by an older snapshot
    }
    desk_on_replica_up(home_desk(h), l->id, &facts, loop_now_us(l->part->loop), &l->part->fx);
    if (!first && has_news(m, meta))
        tell_again(l->part, h);
    l->crowded_out |= !has_place(home_desk(h), l->id);
    if (!has_place(home_desk(h), l->id))
        GATEWAY_EVENT(l->part->gateway, l->part->loop, LOG_WARN, "replica_left_out",
                      LOG_S("model", m->name), LOG_CSTR("replica", worker_name(w)),
                      LOG_I("most", DESK_REPLICAS));
    home_touch(h);
    part_run(l->part);
}

bool workers_differ(const struct part *p, const struct model *m, unsigned id,
                    char out[DIFFERENCE_TEXT])
{
    const struct link *l = part_link(p, id);
    const struct model_metadata *it = l && l->worker ? worker_model(l->worker, m->name) : NULL;
    const struct model_metadata *others = m->desk ? said_of(p, m) : NULL;
    if (!it || !others)
        return false;
    metadata_difference(out, it, others);
    return out[0] != '\0';
}

static void model_down(struct link *l, struct model *m)
{
    if (model_home(m) != l->part->loop->index || !m->desk)
        return;
    struct home *h = home_of(l->part, m);
    struct desk *d = home_desk(h);
    desk_on_replica_down(d, l->id, loop_now_us(l->part->loop), &l->part->fx);
    tell_again(l->part, h); // others may have been let in, and versions have gone with it
    home_touch(h);
    part_run(l->part);
}

static void on_model_gone(struct worker *w, struct view name, void *ctx)
{
    struct link *l = ctx;
    (void)w;
    struct model *m = table_find(l->part->gateway->table, name);
    if (m)
        model_down(l, m);
}

// Those that are there, in their places; those to whom nothing was ever connected are passed over.
static struct link *next_link(const struct part *p, unsigned *place)
{
    while (*place < p->n_links) {
        struct link *l = p->links[(*place)++];
        if (l && l->worker)
            return l;
    }
    return NULL;
}

static void repeat(struct link *l, bool *flag)
{
    bool again = *flag;
    *flag = false;
    if (again)
        worker_repeat(l->worker);
}

static void link_connect(struct link *l);

void workers_retry(struct part *p)
{
    bool room = atomic_load(&p->gateway->table->count) < TABLE_MODELS;
    for (unsigned i = 0; i < p->n_links; i++) {
        struct link *l = p->links[i];
        if (l && !l->worker)
            link_connect(l);
        else if (l && room)
            repeat(l, &l->left_out);
    }
}

// ---- news --------------------------------------------------------------------------------------------

static struct link *owner_of(const struct link *l)
{
    return &l->endpoint->link[l->id % ENDPOINTS_MOST % l->part->gateway->loops.n];
}

static void say_to_others(const struct link *from, enum link_word word)
{
    struct loop *loop = from->part->loop;
    for (unsigned i = 0; i < from->part->gateway->loops.n; i++) {
        if (i != loop->index)
            endpoint_say(from->endpoint, loop, i, word);
    }
}

static void hear_news(struct link *l)
{
    struct roster *r = news_take(&l->endpoint->news, l->wish, worker_pid(l->worker));
    if (r)
        worker_believe(l->worker, r);
    roster_unref(r);
}

static uint64_t wish_news(struct link *l)
{
    struct link *owner = owner_of(l);
    uint64_t wish = news_wish(&l->endpoint->news);
    if (owner == l)
        worker_news(l->worker, wish);
    else
        endpoint_say(l->endpoint, l->part->loop, owner->part->loop->index, WORD_WISH);
    return wish;
}

static void hear_loops(struct link *l, unsigned words)
{
    struct endpoint *e = l->endpoint;
    if (words & WORD_WISH)
        worker_news(l->worker, news_newest_wish(&e->news));
    if (words & WORD_NEWS)
        hear_news(l);
    if (words & WORD_DOUBT)
        worker_doubt(l->worker);
    if ((words & WORD_REPLACE) && worker_up_us(l->worker) < atomic_load(&e->replaced_us))
        worker_replace(l->worker, "it computes nothing");
}

static void link_join(struct link *l);
static void link_leave(struct link *l);

static void on_words(struct loop *loop, struct loop_task *t)
{
    struct link *l = container_of(t, struct link, task);
    unsigned words = atomic_exchange(&l->words, 0);
    if (words & WORD_JOIN)
        link_join(l);
    if (l->worker)
        hear_loops(l, words);
    if (words & WORD_LEAVE)
        link_leave(l);
    endpoint_unhold(l->endpoint, loop);
}

static void on_state(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    if (!l->told && worker_state(w) == WORKER_READY) {
        l->told = true;
        awaiting_soon(l->part);
    }
    atomic_store_explicit(&l->state, worker_state(w), memory_order_relaxed);
}

static void on_up(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    (void)w;
    if (owner_of(l) == l)
        start_reached(&l->endpoint->start, START_LISTENING, link_now_us(l));
    l->wish = wish_news(l);
}

// By what its server says of its models.
static void note_start(struct link *l, const struct roster *r)
{
    bool waits = false;
    for (unsigned i = 0; i < r->n; i++)
        waits |= !roster_usable(&r->models[i]) && r->models[i].expected;
    if (r->n_usable > 0)
        start_reached(&l->endpoint->start, START_LOADED, link_now_us(l));
    if (r->n_usable > 0 && !waits)
        start_reached(&l->endpoint->start, START_WARM, link_now_us(l));
}

static void on_learnt(struct worker *w, const char *why, void *ctx)
{
    struct link *l = ctx;
    uint64_t wish;
    struct roster *r = worker_learnt(w, &wish);
    if (why[0] != '\0') {
        story_not_learnt(l, why, r == NULL);
        return;
    }
    if (news_publish(&l->endpoint->news, r, wish, worker_pid(w))) {
        say_to_others(l, WORD_NEWS);
        hear_news(l);
    }
    note_start(l, r);
    story_learnt(l, r);
}

// ---- whether it lives --------------------------------------------------------------------------------

static void on_probed(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    (void)w;
    atomic_store_explicit(&l->endpoint->vitals.probed_us, link_now_us(l), memory_order_relaxed);
}

// Its owner's probe is late: every loop looks for itself now, not when its own batches are overdue.
static void on_missed(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    (void)w;
    if (owner_of(l) == l)
        say_to_others(l, WORD_DOUBT);
}

static void on_hangs(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    say_to_others(l, WORD_DOUBT);
    parts_worker_hangs(l->part, l->id, worker_pid(w));
}

// Without its owner's connection no loop probes a worker at intervals: the others look for themselves.
static void on_down(struct worker *w, const char *why, void *ctx)
{
    struct link *l = ctx;
    (void)w;
    DOOR_ON_DOWN(l->part, l->id);
    if (owner_of(l) != l)
        return;
    if (!l->endpoint->local) // of the others the keeper says when their processes end
        start_over(&l->endpoint->start);
    say_to_others(l, WORD_DOUBT);
    story_down(l, why);
}

void workers_probe(struct part *p, unsigned id)
{
    struct link *l = part_link(p, id);
    worker_doubt(l->worker);
    wish_news(l);
}

void workers_hangs(struct part *p, unsigned id)
{
    struct link *l = part_link(p, id);
    atomic_store(&l->endpoint->replaced_us, link_now_us(l));
    parts_worker_hangs(p, id, worker_pid(l->worker));
    worker_replace(l->worker, "it answers probes and computes nothing");
    say_to_others(l, WORD_REPLACE);
}

static const struct worker_ops worker_ops = {.on_state = on_state,
                                             .on_up = on_up,
                                             .on_learnt = on_learnt,
                                             .on_model = on_model,
                                             .on_model_gone = on_model_gone,
                                             .on_probed = on_probed,
                                             .on_missed = on_missed,
                                             .on_hangs = on_hangs,
                                             .on_down = on_down,
                                             .on_infer_end = calls_on_end};

// ---- life --------------------------------------------------------------------------------------------

static struct worker_rules rules_of(const struct snapshot *p)
{
    const struct config *c = p->config;
    return (struct worker_rules){.probe = {.interval_us = c->health.interval_us,
                                           .timeout_us = c->health.timeout_us,
                                           .failures = c->health.failures},
                                 .max_answer = c->limits.max_answer,
                                 .known_models = p->names,
                                 .n_known_models = c->model_count};
}

struct ranking {
    const struct part *part;
    struct view model;
};

static unsigned rank_of(uint32_t id, void *ctx)
{
    const struct ranking *k = ctx;
    const struct link *l = part_link(k->part, id);
    return l ? link_rank(l, k->model) : REPLICA_RANKS;
}

static void adopt_ranks(struct part *p)
{
    for (struct home *h = homes_first(p); h; h = homes_next(h)) {
        struct desk *d = home_desk(h);
        struct ranking k = {p, d->model->name};
        desk_on_ranks(d, rank_of, &k, loop_now_us(p->loop), &p->fx);
        home_touch(h);
    }
    part_run(p);
}

// Those that were given to others leave; who was kept out before is looked at again.
static void adopt_models(struct part *p)
{
    for (struct home *h = homes_first(p); h; h = homes_next(h)) {
        struct desk *d = home_desk(h);
        for (unsigned i = 0; i < d->replicas.n; i++) {
            struct link *l = d->replicas.at[i].up ? part_link(p, d->replicas.at[i].id) : NULL;
            if (!l || link_may_serve(l, d->model->name))
                continue;
            l->kept_out = true;
            model_down(l, d->model);
        }
    }
}

// Its models go, for now or for good: what is aboard ends as it ends.
static void models_down(struct link *l)
{
    for (struct home *h = homes_first(l->part); h; h = homes_next(h))
        model_down(l, home_desk(h)->model);
}

static void find_section(struct link *l)
{
    l->section = config_worker_find(l->part->snap->config, l->endpoint->section);
    l->serial = l->section && l->section->serial;
}

// Whether its models take turns is a fact that desks have of each: they come anew.
void workers_adopt_sections(struct part *p)
{
    for (unsigned i = 0; i < p->n_links; i++) {
        struct link *l = p->links[i];
        bool serial = l && l->serial;
        if (l)
            find_section(l);
        if (!l || !l->section || l->serial == serial)
            continue;
        models_down(l);
        l->kept_out = true;
    }
}

void workers_adopt(struct part *p)
{
    struct worker_rules rules = rules_of(p->snap);
    unsigned at = 0;
    adopt_ranks(p);
    for (struct link *l; (l = next_link(p, &at));) {
        worker_set_rules(l->worker, &rules);
        repeat(l, &l->kept_out);
    }
    adopt_models(p);
}

static void link_make(struct link *l)
{
    const struct endpoint *e = l->endpoint;
    struct worker_config c = {.addr = e->addr,
                              .tls = e->tls ? e->gateway->fleet.tls : NULL,
                              .name = e->name,
                              .owner = owner_of(l) == l,
                              .rules = rules_of(l->part->snap)};
    find_section(l);
    l->worker = worker_new(l->part->loop, &c, &worker_ops, l);
}

static void link_connect(struct link *l)
{
    link_make(l);
    if (l->worker) // else it is tried again: workers_retry
        worker_start(l->worker);
}

static void take_place(struct link *l)
{
    struct part *p = l->part;
    unsigned place = l->id % ENDPOINTS_MOST;
    invariant(!p->links[place]);
    p->links[place] = l;
    if (p->n_links <= place)
        p->n_links = place + 1;
    l->born_us = link_now_us(l);
}

static void link_join(struct link *l)
{
    take_place(l);
    link_connect(l);
}

// Who found no place at a desk may find one now.
static void let_in(struct part *p)
{
    unsigned at = 0;
    for (struct link *l; (l = next_link(p, &at));)
        repeat(l, &l->crowded_out);
}

// Nothing of its is aboard anywhere: from here on this loop refers to it no more.
static void on_close(struct loop *loop, struct loop_call *c)
{
    struct link *l = container_of(c, struct link, close);
    struct part *p = l->part;
    worker_free(l->worker);
    l->worker = NULL;
    p->links[l->id % ENDPOINTS_MOST] = NULL;
    for (struct home *h = homes_first(p); h; h = homes_next(h))
        desk_on_replica_gone(home_desk(h), l->id, loop_now_us(loop));
    atomic_store_explicit(&l->state, WORKER_DOWN, memory_order_relaxed);
    let_in(p);
    part_run(p);
    endpoint_unhold(l->endpoint, loop);
}

static void link_leave(struct link *l)
{
    l->leaving = true;
    models_down(l);
    for (struct home *h = homes_first(l->part); h; h = homes_next(h)) // nobody misses it
        replicas_forget(&home_desk(h)->replicas, l->id, link_now_us(l));
    if (l->batches == 0)
        loop_defer(l->part->loop, &l->close);
}

void link_batch_home(struct link *l)
{
    if (--l->batches == 0 && l->leaving)
        loop_defer(l->part->loop, &l->close);
}

void workers_link(struct link *l, struct endpoint *e, unsigned loop)
{
    l->part = e->gateway->parts[loop];
    l->endpoint = e;
    l->id = e->id;
    l->task.fn = on_words;
    l->close.fn = on_close;
}

bool workers_build(struct part *p)
{
    p->links = mem_zalloc(ENDPOINTS_MOST * sizeof(struct link *));
    for (struct endpoint *e = p->gateway->fleet.endpoints; p->links && e; e = e->next) {
        struct link *l = &e->link[p->loop->index];
        l->part = p; // there was none yet
        take_place(l);
        l->first = true;
        link_make(l);
        if (!l->worker)
            return false;
    }
    return p->links != NULL;
}

void workers_start(struct part *p)
{
    unsigned at = 0;
    for (struct link *l; (l = next_link(p, &at));)
        worker_start(l->worker);
}

void workers_free(struct part *p)
{
    for (unsigned i = 0; i < p->n_links; i++) {
        struct link *l = p->links[i];
        if (!l)
            continue;
        worker_free(l->worker);
        l->worker = NULL;
        loop_defer_cancel(&l->close);
    }
}

void workers_kick(struct part *p, unsigned id)
{
    struct link *l = part_link(p, id);
    if (l && owner_of(l) == l)
        start_began(&l->endpoint->start, link_now_us(l));
    if (l && l->worker)
        worker_kick(l->worker);
}

void workers_gone(struct part *p, unsigned id, uint32_t pid, bool crashed)
{
    uint64_t now_us = loop_now_us(p->loop);
    struct link *l = part_link(p, id);
    if (l && owner_of(l) == l)
        start_over(&l->endpoint->start);
    for (struct home *h = homes_first(p); h; h = homes_next(h)) {
        desk_on_process_end(home_desk(h), id, pid, crashed, now_us, &p->fx);
        home_touch(h);
    }
    part_run(p);
}

// One that is connected and not ready yet loads its models: that may take minutes.
static struct await_worker awaited(const struct link *l)
{
    return (struct await_worker){.told = l->told,
                                 .leaving = l->leaving,
                                 .asked = worker_state(l->worker) == WORKER_ASKING,
                                 .since_us = l->born_us};
}

bool workers_told(const struct part *p, uint64_t now_us)
{
    bool any = false;
    unsigned at = 0;
    for (struct link *l; (l = next_link(p, &at));) {
        struct await_worker k = awaited(l);
        if (await_untold(&k, now_us))
            return false;
        any |= l->told;
    }
    return any;
}

bool workers_awaited(const struct part *p, struct view model, uint64_t now_us)
{
    unsigned at = 0;
    for (struct link *l; (l = next_link(p, &at));) {
        struct await_worker k = awaited(l);
        bool may_have = model.n > 0 ? link_may_serve(l, model) : l->first;
        if (may_have && await_expects(&k, now_us))
            return true;
    }
    return false;
}

bool workers_asked(const struct part *p, unsigned id)
{
    const struct link *l = part_link(p, id);
    return l && l->worker && worker_state(l->worker) == WORKER_READY;
}

bool workers_deny(const struct part *p, const struct model *m)
{
    unsigned at = 0;
    for (struct link *l; (l = next_link(p, &at));) {
        bool had_it = !m->desk || replicas_find(&m->desk->replicas, l->id);
        if (had_it && !l->leaving && worker_state(l->worker) != WORKER_READY)
            return false;
    }
    return true;
}

static const char *why_not(struct view name, void *ctx)
{
    return link_may_serve(ctx, name) ? NULL : STORY_KEPT_OUT;
}

void workers_show(const struct part *p, struct json_writer *w)
{
    unsigned at = 0;
    json_w_array(w);
    for (struct link *l; (l = next_link(p, &at));)
        worker_show(l->worker, why_not, w);
    json_w_array_end(w);
}

#ifdef SLUICE_DOORS
void workers_skew(struct part *p, unsigned id, uint64_t us)
{
    struct link *l = part_link(p, id);
    if (l && l->worker)
        worker_skew(l->worker, us);
}
#endif
