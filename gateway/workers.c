// A loop's connections to the workers, and what the desks learn from them.
#include "gateway/workers.h"

#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "gateway/card.h"
#include "gateway/doors.h"
#include "gateway/homes.h"
#include "gateway/link.h"
#include <stdio.h>

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

bool link_may_serve(const struct link *l, struct view name)
{
    const struct snapshot *p = l->part->snap;
    const struct config_model *c = snapshot_model(p, name);
    if (!c)
        return !p->config->models_listed_only;
    return c->worker == CONFIG_ANY_WORKER ||
           &p->config->workers[c->worker] == p->workers[link_endpoint(l)->section];
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
    part_rules(c ? c : &p->workers[link_endpoint(l)->section]->rules, &rules);
    struct model *m = table_add(l->part->gateway->table, name, &rules);
    l->left_out |= !m && model_name_ok(name);
    return m;
}

static struct replica_facts facts_of(struct link *l, const struct model_metadata *meta)
{
    struct replica_facts facts = {.max_batch = meta->max_batch,
                                  .instances = meta->instances,
                                  .metadata = metadata_hash(meta),
                                  .vitals = &link_endpoint(l)->vitals};
    for (unsigned i = 0; i < meta->n_outputs; i++)
        facts.rowless |= meta->outputs[i].rank == 0 || meta->outputs[i].shape[0] >= 0;
    const struct gateway *g = l->part->gateway;
    if (meta->serial || l->part->snap->workers[link_endpoint(l)->section]->serial) {
        facts.device = &link_endpoint(l)->device;
        facts.turn = &l->turn;
    }
    if (l->id < g->boot->worker_count) // others have no keeper that would tell
        facts.incarnation = worker_pid(l->worker);
    for (unsigned i = 0; i < meta->n_versions && i < DESK_VERSIONS; i++)
        facts.versions[facts.n_versions++] = meta->versions[i];
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

static void on_model(struct worker *w, const struct model_metadata *meta, void *ctx)
{
    struct link *l = ctx;
    struct home *h = home_for(l, meta->name);
    if (!h)
        return;
    struct model *m = home_desk(h)->model;
    struct replica_facts facts = facts_of(l, meta);
    if (home_desk(h)->replicas.n_up == 0) {
        card_set(m, meta);
        home_adopt(l->part, m, l->id); // another loop may have added it by an older snapshot
    }
    desk_on_replica_up(home_desk(h), l->id, &facts, loop_now_us(l->part->loop), &l->part->fx);
    if (!has_place(home_desk(h), l->id))
        GATEWAY_EVENT(l->part->gateway, l->part->loop, LOG_WARN, "replica_left_out",
                      LOG_S("model", m->name), LOG_CSTR("replica", worker_name(w)),
                      LOG_I("most", DESK_REPLICAS));
    home_touch(h);
    part_run(l->part);
}

// What a replica that is up says of the model; NULL: none is.
static const struct model_metadata *said_of(const struct part *p, const struct model *m)
{
    const struct replicas *rs = &((const struct desk *)m->desk)->replicas;
    for (unsigned i = 0; i < rs->n; i++) {
        const struct model_metadata *meta =
            rs->at[i].up ? worker_model(p->links[rs->at[i].id]->worker, m->name) : NULL;
        if (meta)
            return meta;
    }
    return NULL;
}

bool workers_differ(const struct part *p, const struct model *m, unsigned id,
                    char out[DIFFERENCE_TEXT])
{
    const struct model_metadata *it = worker_model(p->links[id]->worker, m->name);
    const struct model_metadata *others = m->desk ? said_of(p, m) : NULL;
    if (!it || !others)
        return false;
    metadata_difference(out, it, others);
    return out[0] != '\0';
}

// Clients get the metadata that the replicas that are up give.
static void tell_again(const struct part *p, struct model *m)
{
    const struct model_metadata *meta = said_of(p, m);
    if (meta)
        card_set(m, meta);
}

static void model_down(struct link *l, struct model *m)
{
    if (model_home(m) != l->part->loop->index || !m->desk)
        return;
    struct home *h = home_of(l->part, m);
    struct desk *d = home_desk(h);
    unsigned before = d->replicas.n_up;
    desk_on_replica_down(d, l->id, loop_now_us(l->part->loop), &l->part->fx);
    if (d->replicas.n_up > 0 &&
        d->replicas.n_up >= before) // the last of its kind has gone: others were let in
        tell_again(l->part, m);
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

void workers_retry(struct part *p)
{
    if (atomic_load(&p->gateway->table->count) >= TABLE_MODELS)
        return;
    for (unsigned id = 0; id < p->gateway->n_replicas; id++) {
        struct link *l = p->links[id];
        bool left_out = l->left_out;
        l->left_out = false;
        if (left_out)
            worker_repeat(l->worker);
    }
}

// ---- news --------------------------------------------------------------------------------------------

static struct link *owner_of(const struct link *l)
{
    struct gateway *g = l->part->gateway;
    return g->parts[l->id % g->loops.n]->links[l->id];
}

// One task carries all that is to be said to a link; what is said while it is on its way joins it.
static void say(const struct link *from, struct link *to, enum link_word word)
{
    if (atomic_fetch_or(&to->words, word) == 0)
        loop_post_task(from->part->loop, to->part->loop, &to->task);
}

static void say_to_others(const struct link *from, enum link_word word)
{
    struct gateway *g = from->part->gateway;
    for (unsigned i = 0; i < g->loops.n; i++) {
        if (g->parts[i] != from->part)
            say(from, g->parts[i]->links[from->id], word);
    }
}

static void hear_news(struct link *l)
{
    struct roster *r = news_take(&link_endpoint(l)->news, l->wish, worker_pid(l->worker));
    if (r)
        worker_believe(l->worker, r);
    roster_unref(r);
}

static uint64_t wish_news(struct link *l)
{
    struct news *n = &link_endpoint(l)->news;
    struct link *owner = owner_of(l);
    uint64_t wish = news_wish(n);
    if (owner == l)
        worker_news(l->worker, wish);
    else
        say(l, owner, WORD_WISH);
    return wish;
}

static void on_words(struct loop *loop, struct loop_task *t)
{
    struct link *l = container_of(t, struct link, task);
    struct endpoint *e = link_endpoint(l);
    unsigned words = atomic_exchange(&l->words, 0);
    (void)loop;
    if (words & WORD_WISH)
        worker_news(l->worker, news_newest_wish(&e->news));
    if (words & WORD_NEWS)
        hear_news(l);
    if (words & WORD_DOUBT)
        worker_doubt(l->worker);
    if ((words & WORD_REPLACE) && worker_up_us(l->worker) < atomic_load(&e->replaced_us))
        worker_replace(l->worker, "it computes nothing");
}

static void on_state(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    l->told |= worker_state(w) == WORKER_READY;
    atomic_store_explicit(&l->state, worker_state(w), memory_order_relaxed);
}

static void on_up(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    (void)w;
    l->wish = wish_news(l);
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
    if (news_publish(&link_endpoint(l)->news, r, wish, worker_pid(w))) {
        say_to_others(l, WORD_NEWS);
        hear_news(l);
    }
    story_learnt(l, r);
}

// ---- whether it lives --------------------------------------------------------------------------------

static void on_probed(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    (void)w;
    atomic_store_explicit(&link_endpoint(l)->vitals.probed_us, link_now_us(l),
                          memory_order_relaxed);
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
    say_to_others(l, WORD_DOUBT);
    story_down(l, why);
}

void workers_probe(struct part *p, unsigned id)
{
    worker_doubt(p->links[id]->worker);
    wish_news(p->links[id]);
}

void workers_hangs(struct part *p, unsigned id)
{
    struct link *l = p->links[id];
    atomic_store(&link_endpoint(l)->replaced_us, link_now_us(l));
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

// Those that were given to others leave; who was kept out before is looked at again.
static void adopt_models(struct part *p)
{
    for (struct home *h = homes_first(p); h; h = homes_next(h)) {
        struct desk *d = home_desk(h);
        for (unsigned i = 0; i < d->replicas.n; i++) {
            struct link *l = p->links[d->replicas.at[i].id];
            if (!d->replicas.at[i].up || link_may_serve(l, d->model->name))
                continue;
            l->kept_out = true;
            model_down(l, d->model);
        }
    }
}

void workers_adopt(struct part *p)
{
    struct worker_rules rules = rules_of(p->snap);
    for (unsigned id = 0; id < p->gateway->n_replicas; id++) {
        struct link *l = p->links[id];
        bool again = l->kept_out;
        worker_set_rules(l->worker, &rules);
        l->kept_out = false;
        if (again)
            worker_repeat(l->worker);
    }
    adopt_models(p);
}

static struct link *link_new(struct part *p, unsigned id)
{
    struct gateway *g = p->gateway;
    struct link *l = mem_zalloc(sizeof(*l));
    if (!l)
        return NULL;
    l->part = p;
    l->id = id;
    l->task.fn = on_words;
    struct worker_config c = {.addr = g->replicas[id].addr,
                              .tls = g->replicas[id].tls ? g->tls_client : NULL,
                              .name = g->replicas[id].name,
                              .owner = id % g->loops.n == p->loop->index,
                              .rules = rules_of(p->snap)};
    l->worker = worker_new(p->loop, &c, &worker_ops, l);
    if (!l->worker) {
        mem_free(l);
        return NULL;
    }
    return l;
}

bool workers_build(struct part *p)
{
    const struct gateway *g = p->gateway;
    p->links = mem_zalloc((g->n_replicas ? g->n_replicas : 1) * sizeof(struct link *));
    for (unsigned id = 0; p->links && id < g->n_replicas; id++) {
        p->links[id] = link_new(p, id);
        if (!p->links[id])
            return false;
    }
    return p->links != NULL;
}

void workers_start(struct part *p)
{
    for (unsigned id = 0; id < p->gateway->n_replicas; id++)
        worker_start(p->links[id]->worker);
}

void workers_free(struct part *p)
{
    for (unsigned id = 0; id < p->gateway->n_replicas; id++) {
        worker_free(p->links[id]->worker);
        p->links[id]->worker = NULL;
    }
}

void workers_forget(struct part *p)
{
    for (unsigned id = 0; p->links && id < p->gateway->n_replicas && p->links[id]; id++) {
        story_deinit(&p->links[id]->story);
        mem_free(p->links[id]);
    }
    mem_free(p->links);
}

void workers_kick(struct part *p, unsigned id)
{
    worker_kick(p->links[id]->worker);
}

void workers_gone(struct part *p, unsigned id, uint32_t pid, bool crashed)
{
    uint64_t now_us = loop_now_us(p->loop);
    for (struct home *h = homes_first(p); h; h = homes_next(h)) {
        desk_on_process_end(home_desk(h), id, pid, crashed, now_us, &p->fx);
        home_touch(h);
    }
    part_run(p);
}

// One that is connected and not ready yet loads its models: that may take minutes.
static bool is_waited_for(const struct link *l, uint64_t up_us)
{
    return !l->told && (up_us < WORKERS_UNREACHED_US || worker_state(l->worker) == WORKER_ASKING);
}

bool workers_told(const struct part *p, uint64_t now_us)
{
    bool any = false;
    for (unsigned id = 0; id < p->gateway->n_replicas; id++) {
        if (is_waited_for(p->links[id], now_us - p->gateway->started_us))
            return false;
        any |= p->links[id]->told;
    }
    return any;
}

void workers_show(const struct part *p, struct json_writer *w)
{
    json_w_array(w);
    for (unsigned id = 0; id < p->gateway->n_replicas; id++)
        worker_show(p->links[id]->worker, w);
    json_w_array_end(w);
}

unsigned workers_state(const struct part *p, unsigned id)
{
    return atomic_load_explicit(&p->links[id]->state, memory_order_relaxed);
}

#ifdef SLUICE_DOORS
void workers_skew(struct part *p, unsigned id, uint64_t us)
{
    worker_skew(p->links[id]->worker, us);
}
#endif
