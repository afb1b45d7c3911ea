#include "gateway/workers.h"

#include "backends/worker.h"
#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "gateway/card.h"
#include "gateway/homes.h"
#include "infer/oip_grpc.h"
#include <stdio.h>

struct link { // this loop's connection to one endpoint
    struct part *part;
    struct worker *worker;
    unsigned id;
    bool told;              // it has been ready once: its models are in the table
    char why[80];           // it is not reached; "": it is, or nothing was said
    _Atomic unsigned state; // published: enum worker_state
};

static void publish(struct link *l)
{
    atomic_store_explicit(&l->state, worker_state(l->worker), memory_order_relaxed);
}

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
            row.shape[k] = t->shape[k];
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

// The model as this worker may serve it: NULL when the configuration gives it to others.
static struct model *model_for(struct link *l, struct view name)
{
    struct gateway *g = l->part->gateway;
    const struct config_model *c = config_model_find(g->config, name);
    if (!c && g->config->models_listed_only)
        return NULL;
    if (c && c->worker != CONFIG_ANY_WORKER && c->worker != g->replicas[l->id].worker)
        return NULL;
    struct model_rules rules;
    part_rules(c ? c : &g->config->unlisted, &rules);
    return table_add(g->table, name, &rules);
}

static bool has_place(const struct desk *d, unsigned id)
{
    for (unsigned i = 0; i < d->replicas.n; i++) {
        if (d->replicas.at[i].id == id)
            return true;
    }
    return false;
}

static void on_model(struct worker *w, const struct model_metadata *meta, void *ctx)
{
    struct link *l = ctx;
    struct model *m = model_for(l, meta->name);
    if (!m || model_home(m) != l->part->loop->index)
        return; // the home hears it on its own connection
    struct home *h = home_of(l->part, m);
    if (!h)
        return;
    struct replica_facts facts = {.max_batch = meta->max_batch, .metadata = metadata_hash(meta)};
    for (unsigned i = 0; i < meta->n_versions && i < DESK_VERSIONS; i++)
        facts.versions[facts.n_versions++] = meta->versions[i];
    if (home_desk(h)->replicas.n_up == 0)
        card_set(m, meta);
    desk_on_replica_up(home_desk(h), l->id, &facts, loop_now_us(l->part->loop), &l->part->fx);
    if (!has_place(home_desk(h), l->id))
        GATEWAY_EVENT(l->part->gateway, l->part->loop, LOG_WARN, "replica_left_out",
                      LOG_S("model", m->name), LOG_CSTR("replica", worker_name(w)),
                      LOG_I("most", DESK_REPLICAS));
    home_touch(h);
    part_run(l->part);
}

// What clients are told of a model is what its replicas that are up say of it.
static void tell_again(struct part *p, struct model *m, const struct desk *d)
{
    for (unsigned i = 0; i < d->replicas.n; i++) {
        const struct replica *r = &d->replicas.at[i];
        const struct model_metadata *meta =
            r->up ? worker_model(p->links[r->id]->worker, m->name) : NULL;
        if (meta) {
            card_set(m, meta);
            return;
        }
    }
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
        tell_again(l->part, m, d);
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

static void on_ready(struct worker *w, void *ctx)
{
    struct link *l = ctx;
    l->told = true;
    l->why[0] = '\0';
    publish(l);
    if (l->part->loop->index == 0) // one line, not one a loop
        GATEWAY_EVENT(l->part->gateway, l->part->loop, LOG_INFO, "worker_ready",
                      LOG_CSTR("worker", worker_name(w)));
}

// One line, not one a loop or a try. Local workers take a moment to come up, and the keeper tells of those
// that do not.
static void say_down(struct link *l, const char *why, bool was_up)
{
    struct gateway *g = l->part->gateway;
    bool again = !was_up && strncmp(l->why, why, sizeof(l->why) - 1) == 0;
    if (l->part->loop->index != 0 || again || (!was_up && l->id < g->boot->worker_count))
        return;
    snprintf(l->why, sizeof(l->why), "%s", why);
    GATEWAY_EVENT(g, l->part->loop, LOG_WARN, was_up ? "worker_down" : "worker_unreachable",
                  LOG_CSTR("worker", worker_name(l->worker)), LOG_CSTR("why", why));
}

static void on_down(struct worker *w, const char *why, void *ctx)
{
    struct link *l = ctx;
    bool was_up = atomic_load_explicit(&l->state, memory_order_relaxed) == WORKER_READY;
    (void)w;
    publish(l);
    say_down(l, why, was_up);
    for (unsigned i = 0; i < 2 * TABLE_MODELS; i++) {
        struct model *m = table_at(l->part->gateway->table, i);
        if (m)
            model_down(l, m);
    }
}

// ---- batches -----------------------------------------------------------------------------------------

static void fail(struct part *p, struct batch *b, enum seen seen, const struct error *e)
{
    struct batch_end end = {.seen = seen, .error = e};
    b->call = NULL;
    desk_on_end(b->desk, b, &end, loop_now_us(p->loop), &p->fx);
    home_touch(b->desk->user);
    part_run(p);
}

static uint32_t asked_rows(const struct batch *b)
{
    return b->n > 1 ? b->rows : 0; // one request goes, and is answered, as it is
}

void workers_dispatch(struct part *p, struct batch *b)
{
    struct link *l = p->links[b->replica];
    uint64_t now_us = loop_now_us(p->loop);
    const struct infer_request **members = arena_array(&b->arena, b->n, sizeof(*members));
    struct oip_message message = {0};
    for (uint32_t i = 0; members && i < b->n; i++)
        members[i] = b->tickets[i]->request;
    uint64_t left_us = b->deadline_us > now_us ? b->deadline_us - now_us : 1;
    struct http_seg *segs = NULL;
    if (members && oip_grpc_write_batch(&b->arena, members, b->n, asked_rows(b), left_us, &message))
        segs = arena_array(&b->arena, message.n, sizeof(*segs));
    if (!segs) {
        fail(p, b, SEEN_UNPROCESSED, NULL); // out of memory: a pause may help
        return;
    }
    for (unsigned i = 0; i < message.n; i++)
        segs[i] = (struct http_seg){message.segs[i].p, message.segs[i].n, NULL};
    b->call = worker_infer(l->worker, segs, message.n, left_us, b);
    if (!b->call)
        fail(p, b, SEEN_UNPROCESSED, NULL);
}

void workers_cancel(struct part *p, struct batch *b)
{
    if (b->call)
        worker_cancel(p->links[b->replica]->worker, b->call);
}

void workers_suspect(struct part *p, unsigned id)
{
    worker_suspect(p->links[id]->worker, "no answer by the deadline");
}

static const struct tensor *find_tensor(const struct tensor *tensors, unsigned n, struct view name)
{
    for (unsigned i = 0; i < n; i++) {
        if (view_eq(tensors[i].name, name))
            return &tensors[i];
    }
    return NULL;
}

static bool shape_agrees(const struct tensor *said, const struct tensor *got)
{
    bool same = said->rank == got->rank && said->dtype == got->dtype;
    for (unsigned k = 0; same && k < got->rank; k++)
        same = said->shape[k] < 0 || said->shape[k] == got->shape[k];
    return same;
}

// Is this an answer of the model that the worker described: every output one of its outputs, of their
// datatype and shape, and none missing that was asked for? Whoever describes no outputs is believed.
static bool agrees(const struct model_metadata *m, const struct infer_request *q,
                   const struct answer *a, struct error *e)
{
    if (!m || m->n_outputs == 0)
        return true;
    for (unsigned i = 0; i < a->n_outputs; i++) {
        const struct tensor *said = find_tensor(m->outputs, m->n_outputs, a->outputs[i].name);
        if (!said || !shape_agrees(said, &a->outputs[i]))
            return error_set(e, STATUS_BAD_ANSWER,
                             "the worker's output %u is not one of model %.*s", i,
                             VIEW_ARG(m->name));
    }
    for (unsigned i = 0; i < q->n_outputs; i++) {
        if (!find_tensor(a->outputs, a->n_outputs, q->outputs[i].name))
            return error_set(e, STATUS_BAD_ANSWER, "the worker left out output %u", i);
    }
    return a->n_outputs > 0 || error_set(e, STATUS_BAD_ANSWER, "the worker answered no outputs");
}

static void on_answered(struct part *p, struct batch *b, struct http_call *call)
{
    struct worker *w = p->links[b->replica]->worker;
    struct error e = {0};
    struct answer *a;
    if (call->grpc_status > 0) {
        error_set(&e, status_from_grpc((unsigned)call->grpc_status), "the worker says: %.*s",
                  VIEW_ARG(call->grpc_message));
        fail(p, b, SEEN_STATUS, &e);
        return;
    }
    struct view message = call->body ? view_of(call->body->data, call->body_bytes) : VIEW("");
    struct block *block = call->grpc_status == 0 ? http_call_take_body(call) : NULL;
    if (!block) {
        error_set(&e, STATUS_BAD_ANSWER, "the worker answered without a %s",
                  call->grpc_status == 0 ? "message" : "gRPC status");
        fail(p, b, SEEN_WRONG, &e);
    } else if (!oip_grpc_read_answer(block, message, asked_rows(b), &a, &e)) {
        block_unref(block);
        e.status = STATUS_BAD_ANSWER;
        fail(p, b, SEEN_WRONG, &e);
    } else if (!agrees(worker_model(w, b->model->name), b->tickets[0]->request, a, &e)) {
        block_unref(a->block);
        fail(p, b, SEEN_WRONG, &e);
    } else {
        b->call = NULL;
        desk_on_answer(b->desk, b, a, loop_now_us(p->loop), &p->fx);
        home_touch(b->desk->user);
        part_run(p);
    }
}

// An HTTP answer that no gRPC server gives. These statuses say that nobody could compute it now: a worker
// without memory, a proxy before it (grpc/grpc doc/http-grpc-status-mapping.md).
static void on_malformed(struct part *p, struct batch *b, struct http_call *call)
{
    struct error e = {0};
    unsigned http = call->status;
    if (http == 429 || http == 502 || http == 503 || http == 504) {
        error_set(&e, STATUS_UNAVAILABLE, "the worker, or what stands before it, answered HTTP %u",
                  http);
        fail(p, b, SEEN_STATUS, &e);
    } else {
        error_set(&e, STATUS_BAD_ANSWER, "the worker's answer is not gRPC");
        fail(p, b, SEEN_WRONG, &e);
    }
}

static void on_infer_end(struct worker *w, struct http_call *call, enum http_call_end end,
                         void *user, void *ctx)
{
    struct link *l = ctx;
    struct batch *b = user;
    struct error e = {0};
    (void)w;
    switch (end) {
    case CALL_ANSWERED:
        on_answered(l->part, b, call);
        break;
    case CALL_REFUSED:
        fail(l->part, b, SEEN_UNPROCESSED, NULL);
        break;
    case CALL_RESET:
        error_set(&e, STATUS_BAD_ANSWER, "the worker reset the call (HTTP/2 code %u)",
                  call->rst_code);
        fail(l->part, b, SEEN_STATUS, &e);
        break;
    case CALL_LOST:
        fail(l->part, b, SEEN_LOST, NULL);
        break;
    case CALL_TOO_LARGE:
        error_set(&e, STATUS_BAD_ANSWER, "the worker's answer is larger than limits.max_answer");
        fail(l->part, b, SEEN_WRONG, &e);
        break;
    case CALL_MALFORMED:
        on_malformed(l->part, b, call);
        break;
    case CALL_CANCELLED:
        fail(l->part, b, SEEN_RECALLED, NULL);
        break;
    }
}

static const struct worker_ops worker_ops = {.on_model = on_model,
                                             .on_model_gone = on_model_gone,
                                             .on_ready = on_ready,
                                             .on_down = on_down,
                                             .on_infer_end = on_infer_end};

// ---- life --------------------------------------------------------------------------------------------

static struct view *known_models(struct gateway *g)
{
    struct view *names = mem_zalloc((g->config->model_count + 1) * sizeof(*names));
    for (unsigned i = 0; names && i < g->config->model_count; i++)
        names[i] = view_str(g->config->models[i].name);
    return names;
}

static struct link *link_new(struct part *p, unsigned id)
{
    struct gateway *g = p->gateway;
    struct link *l = mem_zalloc(sizeof(*l));
    if (!l)
        return NULL;
    l->part = p;
    l->id = id;
    struct worker_config c = {.addr = g->replicas[id].addr,
                              .tls = g->replicas[id].tls ? g->tls_client : NULL,
                              .name = g->replicas[id].name,
                              .probe_interval_us = g->config->health.interval_us,
                              .probe_timeout_us = g->config->health.timeout_us,
                              .probe_failures = g->config->health.failures,
                              .max_answer = g->config->limits.max_answer,
                              .known_models = g->known_models,
                              .n_known_models = g->config->model_count};
    l->worker = worker_new(p->loop, &c, &worker_ops, l);
    if (!l->worker) {
        mem_free(l);
        return NULL;
    }
    return l;
}

bool workers_build(struct part *p)
{
    struct gateway *g = p->gateway;
    if (!g->known_models && !(g->known_models = known_models(g)))
        return false;
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
        mem_free(p->links[id]);
    }
}

void workers_kick(struct part *p, unsigned id)
{
    worker_kick(p->links[id]->worker);
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
