#include "gateway/origin.h"

#include "base/check.h"
#include "base/count.h"
#include "base/num.h"
#include "gateway/awaiting.h"
#include "gateway/card.h"
#include "gateway/front.h"
#include "gateway/index.h"
#include "gateway/record.h"
#include "gateway/shadows.h"
#include "gateway/statistics.h"
#include "gateway/workers.h"
#include "router/step.h"

#define LAST_TIMEOUT_US 50 // a worker's socket alone takes longer

static struct request *request_of(struct serving *s)
{
    return container_of(s, struct request, serving);
}

static uint64_t now(const struct request *r)
{
    return loop_now_us(r->part->loop);
}

// ---- models ------------------------------------------------------------------------------------------

// What that name stands for; NULL: for itself.
static const struct experiment_place *place_of(const struct request *r, struct view name)
{
    const struct experiments *all = r->snap->experiments;
    return all ? experiments_find(all, name) : NULL;
}

// Who asks after an experiment's name is told of its control, which answers whoever takes no part.
static struct view real_name(const struct request *r, struct view name)
{
    const struct experiment_place *p = place_of(r, name);
    return p ? p->site.control : name;
}

static bool has_replica(const struct model *m)
{
    return atomic_load_explicit(&m->ready, memory_order_relaxed) > 0;
}

// NULL: it is not known; or not yet: after a start, or a restart of this process, an unknown name may be the
// model of a worker that has not said what it has.
static struct model *model_named(struct request *r, struct view name, struct error *e)
{
    const struct snapshot *p = r->snap;
    bool never_known = p->config->models_listed_only && !snapshot_model(p, name);
    struct model *m = never_known ? NULL : table_find(r->part->gateway->table, name);
    r->unheard = !never_known && (!m || !has_replica(m)) && workers_awaited(r->part, name, now(r));
    if (m)
        return m;
    struct view why = index_why(r->part, name);
    if (why.n > 0)
        error_set(e, STATUS_NOT_FOUND, "model %.*s is not served: %.*s", VIEW_ARG(name),
                  VIEW_ARG(why));
    else if (never_known || workers_told(r->part, now(r)))
        error_set(e, STATUS_NOT_FOUND, "model %.*s is not known", VIEW_ARG(name));
    else
        error_set(e, STATUS_UNAVAILABLE, "model %.*s: not every worker has said yet what it has",
                  VIEW_ARG(name));
    return NULL;
}

// The same of what its client asked for.
static struct model *model_of(struct request *r, struct view asked, struct error *e)
{
    return model_named(r, real_name(r, asked), e);
}

// The path or the message names a version that nobody has.
static bool lacks_version(const struct serving *s, struct model *m, struct error *e)
{
    struct view version = s->call.version;
    if (version.n == 0 || !card_lacks(m, version))
        return false;
    error_set(e, STATUS_NOT_FOUND, "model %.*s has no version %.*s", VIEW_ARG(m->name),
              VIEW_ARG(version));
    return true;
}

// Any that is ready will do, or all have to be.
static bool any_or_all_ready(const struct part *part, const struct snapshot *p)
{
    const struct gateway *g = part->gateway;
    unsigned known = 0, ready = 0;
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(g->table, i);
        known += m != NULL;
        ready += m && has_replica(m);
    }
    return ready > 0 && (!p->config->ready_all || (ready == known && !index_lacks(part)));
}

// Who watches for days goes by the configuration of the day, and holds no other.
static void renew(struct request *r)
{
    if (r->snap == r->part->snap)
        return;
    snapshot_let_go(r->part, r->snap);
    r->snap = snapshot_hold(r->part);
}

static bool tell_ready(struct serving *s, bool *ready, struct error *e)
{
    const struct gateway *g = request_of(s)->part->gateway;
    bool server = s->call.model.n == 0;
    renew(request_of(s));
    struct model *m = server ? NULL : model_of(request_of(s), s->call.model, e);
    if (!server && (!m || lacks_version(s, m, e)))
        return false;
    *ready = !atomic_load(&g->draining) &&
             (server ? any_or_all_ready(request_of(s)->part, request_of(s)->snap) : has_replica(m));
    return true;
}

static void say_unready(const struct request *r, const struct model *m, struct error *e)
{
    struct view why = index_why(r->part, m->name);
    if (why.n == 0)
        why = VIEW("no replica has told of it yet");
    error_set(e, STATUS_UNAVAILABLE, "model %.*s: %.*s", VIEW_ARG(m->name), VIEW_ARG(why));
}

// It has waited for that until its own deadline.
static void say_late(const struct request *r, struct error *e)
{
    bool own = r->serving.call.kind == API_INFER || r->serving.call.timeout_us > 0;
    if (r->unheard && own && r->infer.deadline_us > 0 && now(r) >= r->infer.deadline_us)
        e->status = STATUS_DEADLINE;
}

static const struct model_metadata *find_metadata(struct serving *s, struct error *e)
{
    struct model *m = model_of(request_of(s), s->call.model, e);
    if (m && lacks_version(s, m, e))
        return NULL;
    struct model_metadata *meta = m ? arena_alloc(&s->ex->arena, sizeof(*meta)) : NULL;
    if (meta && card_copy(m, &s->ex->arena, meta)) {
        if (s->call.kind == API_MODEL_CONFIG)
            meta->config = card_config(m, &s->ex->arena);
        return meta;
    }
    if (m)
        say_unready(request_of(s), m, e);
    say_late(request_of(s), e);
    return NULL;
}

// By when a call that is no inference is to be answered: with what is known by then.
static uint64_t call_until_us(const struct request *r)
{
    uint64_t timeout_us = r->serving.call.timeout_us;
    return r->serving.ex->started_us + (timeout_us ? timeout_us : AWAITING_CALL_US);
}

// What would be said of all models is not whole yet.
static bool is_early(struct request *r, struct error *e)
{
    r->unheard = workers_awaited(r->part, VIEW(""), now(r));
    bool early = r->unheard && now(r) < call_until_us(r);
    if (early)
        error_set(e, STATUS_UNAVAILABLE, "not every worker has said yet what it has");
    return early;
}

static bool show_index(struct serving *s, struct oip_index *index, struct error *e)
{
    if (is_early(request_of(s), e))
        return false;
    index_tell(request_of(s)->part, s->call.ready_only, &s->ex->arena, index);
    return true;
}

static bool tell_statistics(struct serving *s, struct oip_statistics *out, struct error *e)
{
    struct request *r = request_of(s);
    bool all = s->call.model.n == 0;
    struct model *m = all ? NULL : model_of(r, s->call.model, e);
    if (all ? is_early(r, e) : !m || lacks_version(s, m, e))
        return false;
    return statistics_tell(r->part->gateway, m, s->call.version, &s->ex->arena, out) ||
           error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

// ---- what is remembered ---------------------------------------------------------------------------------

static uint32_t now_of(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void look_around(struct request *r, const struct model *m)
{
    r->standing =
        (struct past_standing){.ready = now_of(&m->ready),
                               .waiting = now_of(&m->waiting),
                               .running = now_of(&m->running),
                               .limit = now_of(&m->queue_limit),
                               .room = atomic_load_explicit(&m->room_rows, memory_order_relaxed)};
}

// ---- at the head ---------------------------------------------------------------------------------------

// Whose it is, as its head says it. Two such fields: a proxy's, perhaps, and one that the client has made up.
static bool read_tenant(struct request *r, struct error *e)
{
    struct view field = r->snap->config->tenant_header;
    const struct exchange *ex = r->serving.ex;
    unsigned n = 0;
    for (unsigned i = 0; i < ex->n_headers; i++) {
        if (!view_eq(ex->headers[i].name, field))
            continue;
        r->tenant = ex->headers[i].value;
        n++;
    }
    if (n > 1)
        return error_set(e, STATUS_BAD_REQUEST, "%.*s: came twice", VIEW_ARG(field));
    r->infer.tenant = tenants_find(r->part->gateway->tenants, r->tenant, now(r));
    return true;
}

// Of what the head says; where it says nothing, the body may: then nobody is above it.
static unsigned lane_of_head(const struct request *r)
{
    uint64_t v = 1;
    if (r->serving.call.priority.p && num_parse_u64(r->serving.call.priority, &v) != NUM_OK)
        v = 1; // it will be told so
    return batcher_lane_of(v > UINT8_MAX ? UINT8_MAX : (uint8_t)v);
}

static bool keeps_answers(const struct model *m)
{
    return atomic_load_explicit(&m->caches, memory_order_relaxed);
}

// The model that its path names, where no other one may answer for it. NULL: what comes of it is not known yet.
static struct model *only_model(struct request *r)
{
    const struct api_call *call = &r->serving.call;
    struct model *m = call->model.n > 0 ? table_find(r->part->gateway->table, call->model) : NULL;
    bool chain = m && !view_is(call->chain, "none") && chains_find(r->snap->chains, m->name);
    r->keeps = m && keeps_answers(m);
    return chain ? NULL : m;
}

static void count_memory(struct part *p, const struct model *m)
{
    struct model_metrics *mm = m ? metrics_model(&p->metrics, m) : NULL;
    count_add(mm ? &mm->refusals[REFUSAL_MEMORY] : &p->metrics.no_memory, 1);
    shadows_call(p); // what they hold is for those who are served
}

static const struct failure no_memory = {
    .status = STATUS_UNAVAILABLE,
    .text = "limits.bytes_in_flight: what is left is kept for higher priorities"};

static void refuse_at_head(struct request *r, struct model *m, unsigned lane,
                           const struct failure *e)
{
    struct part *p = r->part;
    r->infer.request.model = r->serving.call.model;
    r->infer.step.to.model = m;
    if (m)
        part_use(p, m); // until tell_end
    if (m && p->past.n > 0)
        look_around(r, m);
    serving_fail(&r->serving, e, flow_retry_ms(&p->flow, m, lane, 0, now(r)), now(r));
}

// Before its body is read, where its head says enough: it would only be read to be refused. Its deadline may stand in the
// body: what counts here is its model's.
static void admit_head(struct request *r)
{
    struct part *p = r->part;
    unsigned lane = lane_of_head(r);
    struct model *m = only_model(r);
    if (!budget_admits(&p->lease, &p->gateway->bytes, r->charged, lane)) {
        count_memory(p, m);
        refuse_at_head(r, m, lane, &no_memory);
        return;
    }
    uint64_t left_us = m ? atomic_load_explicit(&m->deadline_us, memory_order_relaxed) : 0;
    enum refusal why = m ? step_foresee(m, r->infer.tenant, lane, left_us, now(r)) : REFUSAL_NONE;
    if (why == REFUSAL_NONE)
        return;
    r->infer.arrived_us = r->serving.ex->started_us; // for who wants it explained
    r->infer.deadline_us = r->infer.arrived_us + left_us;
    struct failure e = step_refuse(m, r->infer.tenant, why, 1, &p->fx);
    refuse_at_head(r, m, lane, &e);
    fx_forget(&p->fx, &e);
    part_run(p);
}

// False: it is told so.
static bool head_holds(struct request *r)
{
    struct error e;
    if (r->snap->config->tenant_header.n == 0 || read_tenant(r, &e))
        return true;
    struct failure failure = failure_of(&e);
    serving_fail(&r->serving, &failure, 0, now(r));
    return false;
}

static void on_infer_head(struct request *r)
{
    if (head_holds(r))
        admit_head(r);
}

// As one of the lowest class: what is left of the memory is for those who are to be answered.
static void on_feedback_head(struct request *r)
{
    struct part *p = r->part;
    if (!head_holds(r))
        return;
    if (!budget_admits(&p->lease, &p->gateway->bytes, r->charged, BUDGET_CLASSES - 1))
        serving_fail(&r->serving, &no_memory, 0, now(r));
}

// ---- inference ---------------------------------------------------------------------------------------

static unsigned class_of(const struct request *r)
{
    _Static_assert(BUDGET_CLASSES == BATCHER_LANES, "a class is a lane");
    return batcher_lane_of(r->infer.request.priority);
}

static void submit(struct request *r, uint64_t now_us)
{
    if (r->part->past.n > 0)
        look_around(r, r->infer.step.to.model);
    flow_submit(&r->part->flow, &r->infer, now_us, &r->part->fx);
    part_run(r->part);
}

// What the answers that are kept are to it: its model has some, and the client lets it be asked.
static enum cache_use cache_use_of(const struct request *r, const struct model *m)
{
    const struct api_call *call = &r->serving.call;
    if (!keeps_answers(m) || call->no_store || !cache_key_fits(&r->infer.request))
        return CACHE_NONE;
    return call->no_cache ? CACHE_RENEW : CACHE_USE;
}

// True: it has one. False: it goes on in a later turn.
static bool make_key(struct request *r)
{
    struct infer *in = &r->infer;
    if (!cache_key_step(r->keying, OIP_STEP_BYTES, &in->cache_key))
        return false;
    r->keying = NULL;
    in->step.cache_key = &in->cache_key;
    if (r->serving.call.memo)
        r->serving.call.memo->keyed = true;
    return true;
}

// A key that is made so came with what is known of its body.
static bool recall_key(struct request *r, bool shared)
{
    struct memo_ask *memo = r->serving.call.memo;
    struct infer *in = &r->infer;
    bool ours = memo && memo->keyed && memo->anybody == shared &&
                memo->key->shared == (r->snap->store != NULL);
    if (ours)
        in->step.cache_key = &in->cache_key;
    else if (memo)
        memo->keyed = false, memo->anybody = shared;
    return ours;
}

// As make_key. A small one is made at once.
static bool begin_key(struct request *r, bool shared)
{
    static _Thread_local struct cache_keying small;
    const struct infer_request *q = &r->infer.request;
    if (recall_key(r, shared))
        return true;
    bool is_small = q->bytes <= OIP_STEP_BYTES;
    r->keying = is_small ? &small : arena_alloc(r->infer.arena, sizeof(small));
    if (!r->keying)
        return true; // without memory it goes without the cache
    // What a store is asked by is the same for all who share it.
    cache_key_begin(r->keying, q, shared ? VIEW("") : r->tenant,
                    r->snap->store ? NULL : r->part->gateway->secret);
    return make_key(r);
}

// Of a request that is split, at its model and at those of its chain: each step would have tickets of its own.
static size_t steps_memory(const struct request *r, const struct model *m)
{
    const struct chain *c = r->infer.chain;
    size_t bytes = step_memory(m, &r->infer.request);
    for (unsigned i = 1; c && i < c->n; i++) {
        bool model = c->links[i].kind == LINK_MODEL;
        m = model ? table_find(r->part->gateway->table, c->links[i].name) : NULL;
        bytes += m ? step_memory(m, &r->infer.request) : 0;
    }
    return bytes;
}

static void say_draw(struct request *r)
{
    if (!r->draw.experiment)
        return;
    r->serving.meta.experiment = r->draw.experiment->name;
    r->serving.meta.variant = r->draw.variant->name;
}

// The model of its variant; of one that was drawn and is not known the control's. NULL: e.
static struct model *draw_model(struct request *r, struct error *e)
{
    struct serving *s = &r->serving;
    struct experiment_draw *d = &r->draw;
    if (!experiments_draw(r->place, s->ex, &r->infer.request, s->meta.request_id,
                          loop_wall_us(r->part->loop) / 1000000, d, e)) {
        r->place = NULL;
        return NULL;
    }
    struct model *m = model_named(r, d->model, e); // variants name models, never experiments
    bool ours = d->how == DRAW_TAKEN || d->how == DRAW_PROMOTED;
    if (!m && e->status == STATUS_NOT_FOUND && ours) {
        *d = (struct experiment_draw){.how = DRAW_UNFIT, .model = r->place->site.control};
        m = model_named(r, d->model, e);
    }
    say_draw(r);
    return m;
}

// The model that is to answer. NULL: e.
static struct model *find_model(struct request *r, struct error *e)
{
    r->place = place_of(r, r->infer.request.model);
    return r->place ? draw_model(r, e) : model_named(r, r->infer.request.model, e);
}

// A worker may say soon that it has its model, and no other model may answer in its place.
static bool may_await(struct request *r, const struct model *m, uint64_t now_us)
{
    if (!r->unheard || (m && chains_find(r->snap->chains, m->name)))
        return false;
    r->infer.deadline_us = flow_deadline(&r->part->flow, &r->infer, m);
    return now_us < r->infer.deadline_us;
}

// Its model is known: it goes to the flow.
static bool go_on(struct request *r, struct model *m, uint64_t now_us, struct error *e)
{
    struct serving *s = &r->serving;
    struct infer *in = &r->infer;
    in->step.to.model = m;
    part_use(r->part, m); // until tell_end
    // Told at once, and surely: else an answer and its deadline might be seen in one turn of the loop.
    if (in->request.timeout_us > 0 && in->request.timeout_us < LAST_TIMEOUT_US)
        return error_set(e, STATUS_DEADLINE, "timeout: no model answers within %llu us",
                         (unsigned long long)in->request.timeout_us);
    // Its priority is known by now: what is left may be kept for those above it.
    if (!budget_admits(&r->part->lease, &r->part->gateway->bytes, r->charged, class_of(r))) {
        count_memory(r->part, m);
        return error_set(e, no_memory.status, "%s", no_memory.text);
    }
    if (!record_promise(r, m, e))
        return false;
    in->chain = chains_find(r->snap->chains, m->name);
    size_t parts = steps_memory(r, m);
    if (parts > 0 && !exchange_account(s->ex, parts))
        return error_set(e, STATUS_UNAVAILABLE,
                         "limits.bytes_in_flight: no room for a request of so many rows");
    if (in->chain) // one who asks sees one model
        in->lot =
            (uint32_t)(hash64(r->draw.key.n ? r->draw.key : s->meta.request_id, 0) % CHAIN_LOTS);
    in->user = r;
    in->arena = &s->ex->arena;
    in->at = &in->step;
    part_use(r->part, m); // until origin_release
    shadows_draw(r, m);
    in->step.cache = cache_use_of(r, m);
    bool shared = atomic_load_explicit(&m->cache_shared, memory_order_relaxed);
    if (in->step.cache != CACHE_NONE && !begin_key(r, shared))
        loop_defer(r->part->loop, &r->work);
    else
        submit(r, now_us);
    return true;
}

static bool submit_infer(struct serving *s, uint64_t now_us, struct error *e)
{
    struct request *r = request_of(s);
    r->infer.arrived_us = s->ex->started_us;
    struct model *m = find_model(r, e);
    if (may_await(r, m, now_us) && awaiting_begin(r))
        return true;
    if (m)
        return go_on(r, m, now_us, e);
    say_late(r, e);
    return false;
}

// A call, or a request that only the model's metadata can decode.
static bool await_call(struct serving *s, uint64_t now_us)
{
    struct request *r = request_of(s);
    struct infer *in = &r->infer;
    if (!r->unheard)
        return false;
    in->arrived_us = s->ex->started_us;
    in->deadline_us = call_until_us(r);
    if (s->call.kind == API_INFER)
        in->deadline_us = flow_deadline(
            &r->part->flow, in, table_find(r->part->gateway->table, real_name(r, s->call.model)));
    return now_us < in->deadline_us && awaiting_begin(r);
}

void origin_again(struct request *r, uint64_t now_us)
{
    struct error e;
    if (r->serving.phase == SERVING_AWAITING) {
        if (serving_again(&r->serving, loop_is_spent(r->part->loop), now_us))
            loop_defer(r->part->loop, &r->work);
        return;
    }
    if (submit_infer(&r->serving, now_us, &e))
        return;
    struct failure failure = failure_of(&e);
    serving_fail(&r->serving, &failure, 0, now_us);
    serving_release(&r->serving);
}

static void abandon_infer(struct serving *s)
{
    struct request *r = request_of(s);
    if (r->awaits.waits) {
        awaiting_leave(r);
        serving_release(s);
        return;
    }
    if (r->keying) { // no flow has it yet
        origin_release(r->part, &r->infer);
        return;
    }
    flow_on_gone(&r->part->flow, &r->infer, now(r), &r->part->fx);
    part_run(r->part);
}

static void on_work(struct loop *l, struct loop_call *c)
{
    struct request *r = container_of(c, struct request, work);
    loop_worked(l, OIP_STEP_BYTES);
    if (r->keying) {
        if (make_key(r))
            submit(r, loop_now_us(l));
        else
            loop_defer(l, c);
        return;
    }
    if (serving_step(&r->serving, loop_now_us(l)))
        loop_defer(l, c);
}

// What was tried, where that was more than the model asked for and its answer. In the exchange's arena: the log needs
// it when the models may be gone.
static struct view attempts_of(struct request *r)
{
    const struct infer *in = &r->infer;
    char told[CHAIN_TOLD];
    if (!in->walk || (in->walk->n == 1 && in->error.status == STATUS_OK))
        return (struct view){0};
    size_t n = chain_tell(in->chain, in->walk, told);
    return arena_copy(&r->serving.ex->arena, view_of(told, n));
}

// Who answered: the model asked for (its name lies in the exchange's memory already), another one, or none.
static void say_who(struct request *r)
{
    const struct infer *in = &r->infer;
    struct answer_meta *m = &r->serving.meta;
    bool other = in->source == SOURCE_DEFAULT || in->at->to.model != in->step.to.model;
    struct view asked =
        r->place ? r->draw.model : in->request.model; // of the snapshot, or the body
    m->model = asked;
    if (other)
        m->fallback = asked;
    if (other && in->source != SOURCE_DEFAULT)
        m->model = arena_copy(&r->serving.ex->arena, in->at->to.name);
    m->version = arena_copy(&r->serving.ex->arena, in->answer->answer->version);
    m->source = answer_source_name[in->source];
    m->degradation = standing_level(in->step.to.model);
}

static void say_how(struct answer_meta *m, const struct step *done)
{
    m->aged = done->source == SOURCE_CACHE || done->source == SOURCE_STALE;
    m->age_s = done->age_s;
    m->batch_rows = done->batch_rows;
    m->batch_reason = done->batch_rows > 0 ? batch_reason_name[done->batch_reason] : NULL;
    m->queue_us = done->queue_us;
    m->compute_us = done->compute_us;
}

void origin_settle(struct part *p, struct infer *in)
{
    struct request *r = in->user;
    struct serving *s = &r->serving;
    s->meta.attempts = attempts_of(r);
    if (in->error.status != STATUS_OK) {
        record_settled(r);
        serving_fail(s, &in->error, in->retry_after_ms, loop_now_us(p->loop));
        return;
    }
    say_who(r);
    rewards_remember(r);
    if (in->source != SOURCE_DEFAULT)
        say_how(&s->meta, in->at);
    record_settled(r);
    bool more = serving_answer(s, in->answer, loop_is_spent(p->loop), loop_now_us(p->loop));
    loop_worked(p->loop, more ? OIP_STEP_BYTES : s->ex->sent_bytes);
    if (more)
        loop_defer(p->loop, &r->work);
}

void origin_release(struct part *p, struct infer *in)
{
    struct request *r = in->user;
    if (r->past > 0)
        tell_home(r);
    record_forget(r);
    for (const struct step *done = in->at; done; done = done->before)
        part_unuse(p, done->to.model);
    if (in->shadow)
        shadows_release(r);
    serving_release(&r->serving);
}

// ---- what the HTTP room calls ------------------------------------------------------------------------

static void look_soon(struct serving *s)
{
    struct part *p = request_of(s)->part;
    wheel_set(loop_wheel(p->loop), &p->watch_timer, loop_now_us(p->loop) + SERVING_LOOK_US);
}

static const struct config_listen *listen_of(const struct request *r)
{
    const struct config *c = r->snap->config;
    for (unsigned i = 0; i < c->listen_count; i++)
        if (r->snap->fronts[i] == r->front)
            return &c->listens[i];
    return NULL; // it leaves: the configuration has it no more
}

static enum api_cors cors_of(struct serving *s)
{
    const struct config_listen *l = listen_of(request_of(s));
    if (!l || l->cors_count == 0)
        return CORS_OFF;
    if (strcmp(l->cors[0], CONFIG_ANY_ORIGIN) == 0)
        return CORS_ANY;
    for (unsigned i = 0; i < l->cors_count; i++)
        if (view_is(s->call.origin, l->cors[i]))
            return CORS_ORIGIN;
    return CORS_STRANGER;
}

static const struct serving_ops serving_ops = {.bytes = sizeof(struct request),
                                               .ready = tell_ready,
                                               .metadata = find_metadata,
                                               .index = show_index,
                                               .statistics = tell_statistics,
                                               .feedback = rewards_take,
                                               .submit = submit_infer,
                                               .await = await_call,
                                               .abandon = abandon_infer,
                                               .cors = cors_of,
                                               .watched = look_soon};

static struct part *part_of(const struct front *f, struct http_conn *c)
{
    return f->gateway->parts[server_conn_loop(c)->index];
}

static void on_head(struct exchange *ex, void *ctx)
{
    struct front *f = ctx;
    struct part *p = part_of(f, ex->conn);
    struct request *r = serving_new(ex, &p->api, &serving_ops, loop_now_us(p->loop));
    if (!r)
        return;
    if (ex->carrier == HTTP_2)
        count_add(&p->metrics.streams, 1);
    r->part = p;
    r->snap = snapshot_hold(p);
    r->front = f;
    r->work.fn = on_work;
    r->serving.meta.hidden = !atomic_load_explicit(&f->expose, memory_order_relaxed);
    r->serving.request = &r->infer.request;
    // The connection may be gone when it is told.
    if (r->snap->config->log.access || p->past.n > 0)
        r->client = arena_copy(&ex->arena, server_conn_peer(ex->conn));
    uint64_t random[2] = {rand_u64(&p->loop->rand), rand_u64(&p->loop->rand)};
    serving_route(&r->serving, random, loop_now_us(p->loop));
    if (r->serving.call.kind == API_INFER)
        on_infer_head(r);
    else if (r->serving.call.kind == API_FEEDBACK)
        on_feedback_head(r);
}

// What its body asks may be known, with the answer. Of JSON: decoding it is what costs.
static void ask_memo(struct request *r)
{
    struct part *p = r->part;
    struct exchange *ex = r->serving.ex;
    struct api_call *call = &r->serving.call;
    bool json = !call->grpc && call->content_encoding.n == 0 && !call->infer_header.p;
    if (!json || call->no_store || call->no_cache || p->memo.bound == 0 ||
        buffer_len(&ex->body) > OIP_STEP_BYTES)
        return;
    struct memo_ask *a = call->memo = arena_alloc(&ex->arena, sizeof(*a));
    if (a)
        *a = (struct memo_ask){.memo = &p->memo,
                               .secret = p->gateway->secret,
                               .parts = {buffer_view(&ex->body), call->model, call->version,
                                         r->tenant, call->priority, call->chain},
                               .key = &r->infer.cache_key};
}

static void on_request(struct exchange *ex, void *ctx)
{
    struct request *r = ex->user;
    struct loop *l = r->part->loop;
    (void)ctx;
    if (r->keeps)
        ask_memo(r);
    if (serving_on_request(&r->serving, loop_is_spent(l), loop_now_us(l)))
        loop_defer(l, &r->work);
    loop_worked(l, r->serving.in_bytes);
}

static void on_body(struct exchange *ex, void *ctx)
{
    struct request *r = ex->user;
    (void)ctx;
    serving_on_body(&r->serving, now(r));
}

static void on_gone(struct exchange *ex, void *ctx)
{
    struct request *r = ex->user;
    (void)ctx;
    loop_defer_cancel(&r->work);
    serving_on_gone(&r->serving);
    tell_end(r, false);
}

static void on_sent(struct exchange *ex, bool whole, void *ctx)
{
    struct request *r = ex->user;
    (void)ctx;
    if (!r) // there was no memory for it
        return;
    if (serving_on_sent(&r->serving))
        loop_defer_cancel(&r->work);
    tell_end(r, whole);
}

static void on_want(struct exchange *ex, void *ctx)
{
    struct request *r = ex->user;
    struct loop *l = r->part->loop;
    uint64_t before = ex->sent_bytes;
    (void)ctx;
    if (serving_on_want(&r->serving, loop_is_spent(l), loop_now_us(l)))
        loop_defer(l, &r->work);
    loop_worked(l, ex->sent_bytes - before);
}

static void on_refuse(struct http_conn *c, struct exchange *ex, unsigned status, const char *why,
                      void *ctx)
{
    struct front *f = ctx;
    struct part *p = part_of(f, c);
    if (ex)
        serving_refuse(ex, &p->api, status, why, loop_now_us(p->loop));
    if (!ex || !ex->user)
        tell_refused(p, c, status_from_http(status), ex ? ex->status : status, why);
}

static bool on_half_close(struct http_conn *c, void *ctx)
{
    struct front *f = ctx;
    (void)c;
    return atomic_load_explicit(&f->half_close, memory_order_relaxed);
}

static void on_abuse(struct http_conn *c, enum abuse_kind kind, enum abuse_verdict verdict,
                     void *ctx)
{
    struct part *p = part_of(ctx, c);
    count_add(&p->metrics.abused[kind][verdict], 1);
    if (verdict != ABUSE_WENT_ON) // one line a connection
        GATEWAY_EVENT(p->gateway, p->loop, LOG_WARN, "client_abuse",
                      LOG_S("client", server_conn_peer(c)), LOG_CSTR("why", abuse_name[kind]),
                      LOG_CSTR("action", verdict == ABUSE_CUT ? "cut" : "no new streams"));
}

static bool on_charge(struct exchange *ex, int64_t delta_bytes, void *ctx)
{
    struct request *r = ex->user; // bodies are read after on_head only
    (void)ctx; // it may have gone: what was charged is given back after the connection's end
    bool answering = r->serving.phase == SERVING_ANSWERING;
    bool room = budget_charge(&r->part->lease, &r->part->gateway->bytes, delta_bytes,
                              answering ? budget_answers(class_of(r)) : 0);
    r->charged += room ? delta_bytes : 0;
    return room;
}

const struct http_server_ops origin_server_ops = {.on_head = on_head,
                                                  .on_request = on_request,
                                                  .on_body = on_body,
                                                  .on_gone = on_gone,
                                                  .on_sent = on_sent,
                                                  .on_want = on_want,
                                                  .on_refuse = on_refuse,
                                                  .on_charge = on_charge,
                                                  .on_half_close = on_half_close,
                                                  .on_abuse = on_abuse};
