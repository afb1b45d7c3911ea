#include "base/check.h"
#include "gateway/access.h"
#include "gateway/card.h"
#include "gateway/part.h"
#include "gateway/workers.h"

// One request of a client, in its exchange's arena.
//
//   HEAD ─body whole─► DECODING ─decoded─► OUT ─settled─► ANSWERING ─given─► ANSWERED
//    │                    │                 │                │
//    └── refused ─────────┴─────────────────┴── gone ────────┴─► ANSWERED or GONE
enum request_phase {
    REQUEST_HEAD,
    REQUEST_DECODING,
    REQUEST_OUT,
    REQUEST_ANSWERING,
    REQUEST_ANSWERED,
    REQUEST_GONE
};

struct request {
    struct exchange *ex;
    struct part *part;
    struct front *front;
    struct api *api;
    enum request_phase phase;
    bool released; // the flow is done with the infer
    struct api_call call;
    struct infer infer;
    struct api_decoder *decoder;
    struct api_answer *answer;
    struct loop_call work; // decoding or encoding goes on next turn
    struct answer_meta meta;
    enum status outcome;
    uint64_t parsed_us;
    size_t in_bytes; // of the body as it came: decoding may replace it
    struct view client;
    char id[32];
};

static uint64_t now(struct request *r)
{
    return loop_now_us(r->part->loop);
}

static struct request *request_of(struct exchange *ex)
{
    return ex->user;
}

// ---- the end: counts and the access log --------------------------------------------------------------

static void count(struct request *r, uint64_t total_us)
{
    struct metrics *s = &r->part->metrics;
    struct model *m = r->infer.ticket.model;
    struct model_metrics *mm = m ? metrics_model(s, m) : NULL;
    if (!mm) {
        metrics_inc(&s->other[r->outcome], 1);
        return;
    }
    metrics_inc(&mm->requests[r->outcome], 1);
    if (r->outcome != STATUS_OK)
        return;
    hist_add(&mm->stage[STAGE_TOTAL], total_us);
    hist_add(&mm->stage[STAGE_PARSE], r->meta.parse_us);
    hist_add(&mm->stage[STAGE_QUEUE], r->meta.queue_us);
    hist_add(&mm->stage[STAGE_COMPUTE], r->meta.compute_us);
}

// Bresenham's rule: of every million requests sample_ppm are written, evenly spread.
static bool sampled(struct part *p)
{
    uint32_t ppm = p->gateway->config->log.sample_ppm;
    p->sampled += ppm;
    if (p->sampled < 1000000)
        return false;
    p->sampled -= 1000000;
    return true;
}

static void put_line(struct part *p, const struct access_entry *e)
{
    buffer_reset(&p->line);
    if (access_format(&p->line, e)) {
        log_write(p->gateway->log, p->loop->index, SINK_ACCESS, buffer_view(&p->line));
        metrics_inc(&p->metrics.log_lines, 1);
    }
}

static void write_access(struct request *r, bool whole, uint64_t total_us)
{
    static const char *const protocol[] = {"http/1.0", "http/1.1", "h2"};
    struct part *p = r->part;
    struct exchange *ex = r->ex;
    bool failed = r->outcome != STATUS_OK || !whole;
    if (!p->gateway->config->log.access || (!sampled(p) && !failed))
        return;
    struct access_entry e = {
        .wall_us = loop_wall_us(p->loop),
        .client = r->client,
        .request_id = r->meta.request_id,
        .method = ex->method,
        .path = ex->path,
        .model = r->infer.request.model,
        .version = r->meta.version,
        .protocol = r->call.grpc ? "grpc" : protocol[ex->carrier],
        .source = r->meta.source,
        .reason = r->meta.batch_reason,
        .outcome = status_table[r->outcome].name,
        .status = ex->status ? ex->status : status_table[r->outcome].http,
        .loop = (uint16_t)p->loop->index,
        .whole = whole,
        .rows = r->infer.request.rows,
        .batch_rows = r->meta.batch_rows,
        .in_bytes = r->in_bytes ? r->in_bytes : buffer_len(&ex->body),
        .out_bytes = ex->sent_bytes,
        .parse_us = r->meta.parse_us,
        .queue_us = r->meta.queue_us,
        .compute_us = r->meta.compute_us,
        .total_us = total_us,
    };
    put_line(p, &e);
}

static void finish(struct request *r, bool whole)
{
    uint64_t total_us = now(r) - r->ex->started_us;
    if (total_us < r->meta.total_us)
        total_us = r->meta.total_us;
    if (r->ex->carrier == HTTP_2)
        metrics_inc(&r->part->metrics.streams, (uint64_t)-1);
    count(r, total_us);
    write_access(r, whole, total_us);
    if (r->infer.ticket.model)
        part_unuse(r->part, r->infer.ticket.model);
}

// ---- answers -----------------------------------------------------------------------------------------

static void answer_failure(struct request *r, const struct failure *e, uint32_t retry_after_s)
{
    r->outcome = e->status;
    r->meta.total_us = now(r) - r->ex->started_us;
    r->phase = REQUEST_ANSWERED;
    if (e->status == STATUS_UNAVAILABLE && retry_after_s == 0)
        retry_after_s = 1;
    api_answer_error(r->api, r->ex, &r->call, e, retry_after_s, &r->meta, now(r));
    server_touch(r->ex->conn);
}

static void answer_error(struct request *r, const struct error *e, uint32_t retry_after_s)
{
    struct failure failure = failure_of(e);
    answer_failure(r, &failure, retry_after_s);
}

static void answered(struct request *r, enum status outcome)
{
    r->answer = NULL;
    r->outcome = outcome;
    r->phase = REQUEST_ANSWERED;
    block_unref(r->infer.ticket.slice.answer->block);
    server_touch(r->ex->conn);
    if (r->released)
        exchange_unref(r->ex);
}

static void on_encode(struct loop *l, struct loop_call *c)
{
    struct request *r = container_of(c, struct request, work);
    struct error e = {.status = STATUS_OK};
    if (api_answer_step(r->answer, now(r), &e) == OIP_MORE)
        loop_defer(l, c);
    else
        answered(r, e.status);
}

static void encode(struct request *r)
{
    const struct infer *in = &r->infer;
    struct error e;
    if (api_answer_infer(r->api, r->ex, &r->call, &in->request, &in->ticket.slice, &r->meta, now(r),
                         &r->answer, &e) == OIP_MORE) {
        loop_worked(r->part->loop, OIP_STEP_BYTES);
        r->work.fn = on_encode;
        loop_defer(r->part->loop, &r->work);
    } else {
        loop_worked(r->part->loop, r->ex->sent_bytes);
        answered(r, e.status);
    }
}

static void on_first_encode(struct loop *l, struct loop_call *c)
{
    (void)l;
    encode(container_of(c, struct request, work));
}

static void fill_meta(struct request *r)
{
    const struct ticket *t = &r->infer.ticket;
    const struct answer *a = t->slice.answer;
    r->meta.model =
        r->infer.request.model; // the exchange's own memory: bytes of it may outlive the model
    r->meta.version = arena_copy(&r->ex->arena, a->version); // the log outlives the answer's block
    r->meta.source = "model";
    r->meta.batch_rows = t->batch_rows;
    r->meta.batch_reason = batch_reason_name[t->batch_reason];
    r->meta.queue_us = t->queue_us;
    r->meta.compute_us = t->compute_us;
    r->meta.total_us = now(r) - r->ex->started_us;
    // Our clock is read once a turn; home and worker may have done their part within this one.
    if (r->meta.total_us < t->queue_us + t->compute_us)
        r->meta.total_us = t->queue_us + t->compute_us;
}

void origin_settle(struct part *p, struct infer *in)
{
    struct request *r = in->user;
    if (in->error.status == STATUS_CLIENT_GONE) // nobody is there; on_gone has logged it
        return;
    if (in->error.status != STATUS_OK) {
        answer_failure(r, &in->error, in->retry_after_s);
        return;
    }
    fill_meta(r);
    r->phase = REQUEST_ANSWERING;
    r->outcome = STATUS_OK;
    if (loop_is_spent(p->loop)) {
        r->work.fn = on_first_encode;
        loop_defer(p->loop, &r->work);
    } else {
        encode(r);
    }
}

void origin_release(struct part *p, struct infer *in)
{
    struct request *r = in->user;
    part_unuse(p, in->ticket.model);
    r->released = true;
    if (r->phase != REQUEST_ANSWERING)
        exchange_unref(r->ex); // taken in submit
}

// ---- inference ---------------------------------------------------------------------------------------

// The model of the call; NULL, and it was answered: it is not known, or not yet: after a start, or a
// restart of this process, an unknown name may be the model of a worker that has not said what it has.
static struct model *model_of(struct request *r, struct view name)
{
    struct error e = {0};
    struct model *m = table_find(r->part->gateway->table, name);
    if (m)
        return m;
    const struct config *c = r->part->gateway->config;
    bool never = c->models_listed_only && !config_model_find(c, name);
    if (never || workers_told(r->part, now(r))) {
        error_set(&e, STATUS_NOT_FOUND, "model %.*s is not known", VIEW_ARG(name));
        answer_error(r, &e, 0);
    } else {
        error_set(&e, STATUS_UNAVAILABLE, "model %.*s: not every worker has said yet what it has",
                  VIEW_ARG(name));
        answer_error(r, &e, 1);
    }
    return NULL;
}

#define LEAST_TIMEOUT_US 50 // a worker's socket alone takes longer

// Told at once, and surely: else an answer and its deadline might be seen in one turn of the loop.
static bool too_short(struct request *r)
{
    struct error e = {0};
    if (r->infer.request.timeout_us == 0 || r->infer.request.timeout_us >= LEAST_TIMEOUT_US)
        return false;
    error_set(&e, STATUS_DEADLINE, "timeout: no model answers within %llu us",
              (unsigned long long)r->infer.request.timeout_us);
    answer_error(r, &e, 0);
    return true;
}

static void submit(struct request *r)
{
    struct infer_request *q = &r->infer.request;
    if (r->call.timeout_us > 0 && (q->timeout_us == 0 || r->call.timeout_us < q->timeout_us))
        q->timeout_us = r->call.timeout_us;
    struct model *m = r->infer.ticket.model = model_of(r, q->model);
    if (!m)
        return;
    part_use(r->part, m); // until finish
    if (too_short(r))
        return;
    r->parsed_us = now(r);
    r->meta.parse_us = r->parsed_us - r->ex->body_us;
    r->phase = REQUEST_OUT;
    r->infer.arrived_us = r->ex->started_us;
    r->infer.user = r;
    exchange_ref(r->ex);
    part_use(r->part, m); // until origin_release
    flow_submit(&r->part->flow, &r->infer, r->parsed_us, &r->part->fx);
    part_run(r->part);
}

static void on_decode(struct loop *l, struct loop_call *c)
{
    struct request *r = container_of(c, struct request, work);
    struct error e = {0};
    loop_worked(l, r->in_bytes < OIP_STEP_BYTES ? r->in_bytes : OIP_STEP_BYTES);
    switch (api_decode_step(r->decoder, OIP_STEP_BYTES, &e)) {
    case OIP_MORE:
        loop_defer(l, c);
        return;
    case OIP_DONE:
        r->decoder = NULL;
        submit(r);
        return;
    case OIP_ERROR:
        r->decoder = NULL;
        answer_error(r, &e, 0);
        return;
    }
}

// A request in raw binary form says nothing of its tensor: the model's metadata does.
static const struct model_metadata *metadata_for(struct request *r)
{
    struct model_metadata *meta = arena_alloc(&r->ex->arena, sizeof(*meta));
    struct model *m = table_find(r->part->gateway->table, r->call.model);
    return m && meta && card_copy(m, &r->ex->arena, meta) ? meta : NULL;
}

static void infer(struct request *r)
{
    const struct model_metadata *meta = NULL;
    if (view_is(exchange_header(r->ex, "inference-header-content-length"), "0"))
        meta = metadata_for(r);
    r->phase = REQUEST_DECODING;
    r->decoder = api_decode_begin(r->ex, &r->call, meta, &r->infer.request);
    if (!r->decoder) {
        answer_failure(r, FAILED(STATUS_UNAVAILABLE, "out of memory"), 1);
        return;
    }
    r->work.fn = on_decode;
    if (loop_is_spent(r->part->loop))
        loop_defer(r->part->loop, &r->work);
    else
        on_decode(r->part->loop, &r->work);
}

// ---- the small calls ---------------------------------------------------------------------------------

static bool any_or_all_ready(struct gateway *g)
{
    unsigned known = 0, ready = 0;
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(g->table, i);
        known += m != NULL;
        ready += m && atomic_load_explicit(&m->ready, memory_order_relaxed) > 0;
    }
    return !atomic_load(&g->draining) && ready > 0 && (!g->config->ready_all || ready == known);
}

static bool model_ready(struct gateway *g, const struct model *m)
{
    return !atomic_load(&g->draining) && atomic_load_explicit(&m->ready, memory_order_relaxed) > 0;
}

static void show_model(struct request *r, struct model *m)
{
    struct model_metadata meta;
    struct error e = {0};
    if (card_copy(m, &r->ex->arena, &meta)) {
        api_answer_model(r->api, r->ex, &r->call, &meta, now(r));
        return;
    }
    error_set(&e, STATUS_UNAVAILABLE, "model %.*s: no replica has told of it yet",
              VIEW_ARG(m->name));
    answer_error(r, &e, 1);
}

static void show_index(struct request *r)
{
    struct table *t = r->part->gateway->table;
    struct oip_index index = {0};
    unsigned n = atomic_load(&t->count);
    index.models = arena_array(&r->ex->arena, n ? n : 1, sizeof(*index.models));
    for (unsigned i = 0; index.models && i < TABLE_MODELS && index.n < n; i++) {
        struct model *m = table_at(t, i);
        if (!m)
            continue;
        bool ready = model_ready(r->part->gateway, m);
        if (!ready && r->call.ready_only)
            continue;
        index.models[index.n++] = (struct oip_index_model){
            .name = m->name, .state = ready ? VIEW("READY") : VIEW("UNAVAILABLE")};
    }
    api_answer_index(r->api, r->ex, &r->call, &index, now(r));
}

static void small_call(struct request *r)
{
    struct gateway *g = r->part->gateway;
    struct error e = {0};
    struct model *m;
    exchange_account(r->ex, 0); // whatever becomes of it: health is told when memory is taken, too
    if (!api_read(r->ex, &r->call, &e)) {
        answer_error(r, &e, 0);
        return;
    }
    switch (r->call.kind) {
    case API_SERVER_LIVE:
        api_answer_live(r->api, r->ex, &r->call, true, now(r));
        break;
    case API_SERVER_READY:
        api_answer_ready(r->api, r->ex, &r->call, any_or_all_ready(g), now(r));
        break;
    case API_HEALTH_CHECK:
        if (r->call.model.n == 0 || view_is(r->call.model, "inference.GRPCInferenceService"))
            api_answer_ready(r->api, r->ex, &r->call, any_or_all_ready(g), now(r));
        else if ((m = model_of(r, r->call.model)))
            api_answer_ready(r->api, r->ex, &r->call, model_ready(g, m), now(r));
        break;
    case API_SERVER_METADATA:
        api_answer_server(r->api, r->ex, &r->call, now(r));
        break;
    case API_MODEL_READY:
        if ((m = model_of(r, r->call.model)))
            api_answer_ready(r->api, r->ex, &r->call, model_ready(g, m), now(r));
        break;
    case API_MODEL_METADATA:
    case API_MODEL_CONFIG:
        if ((m = model_of(r, r->call.model)))
            show_model(r, m);
        break;
    case API_INDEX:
        show_index(r);
        break;
    case API_REFUSED:
    case API_INFER:
    case API_KINDS:
        invariant(!"a small call");
    }
    r->phase = REQUEST_ANSWERED;
    server_touch(r->ex->conn);
}

// ---- what the HTTP room calls ------------------------------------------------------------------------

static void on_head(struct exchange *ex, void *ctx)
{
    struct front *f = ctx;
    struct gateway *g = f->gateway;
    struct part *p = g->parts[server_conn_loop(ex->conn)->index];
    struct request *r = arena_zalloc(&ex->arena, sizeof(*r));
    if (!r) {
        api_answer_unrouted(&p->apis[f - g->fronts], ex,
                            FAILED(STATUS_UNAVAILABLE, "out of memory"), loop_now_us(p->loop));
        return;
    }
    ex->user = r;
    if (ex->carrier == HTTP_2)
        metrics_inc(&p->metrics.streams, 1);
    r->ex = ex;
    r->part = p;
    r->front = f;
    r->api = &p->apis[f - g->fronts];
    if (g->config->log.access) // the connection may be gone when the line is written
        r->client = arena_copy(&ex->arena, server_conn_peer(ex->conn));
    uint64_t random[2] = {rand_u64(&p->loop->rand), rand_u64(&p->loop->rand)};
    r->meta.request_id = api_request_id(ex, random, r->id);
    struct error e = {0};
    enum api_kind kind = api_route(ex, &r->call, &e);
    r->call.request_id = r->meta.request_id;
    if (kind == API_REFUSED)
        answer_error(r, &e, 0);
}

static void on_request(struct exchange *ex, void *ctx)
{
    struct request *r = request_of(ex);
    (void)ctx;
    if (!r || r->phase != REQUEST_HEAD)
        return; // answered on its head
    r->in_bytes = buffer_len(&ex->body);
    if (r->call.kind == API_INFER)
        infer(r);
    else
        small_call(r);
}

static void on_gone(struct exchange *ex, void *ctx)
{
    struct request *r = request_of(ex);
    (void)ctx;
    if (!r)
        return;
    enum request_phase was = r->phase;
    r->phase = REQUEST_GONE;
    r->outcome = STATUS_CLIENT_GONE;
    loop_defer_cancel(&r->work);
    finish(r, false);
    if (was == REQUEST_DECODING && r->decoder) {
        api_decode_drop(r->decoder);
    } else if (was == REQUEST_OUT) {
        flow_on_gone(&r->part->flow, &r->infer, now(r), &r->part->fx);
        part_run(r->part);
    } else if (was == REQUEST_ANSWERING) {
        if (r->answer)
            api_answer_drop(r->answer);
        block_unref(r->infer.ticket.slice.answer->block);
        if (r->released)
            exchange_unref(ex);
    }
}

static void on_sent(struct exchange *ex, bool whole, void *ctx)
{
    struct request *r = request_of(ex);
    (void)ctx;
    if (r && r->phase == REQUEST_ANSWERED)
        finish(r, whole);
}

// Refused before on_head: all that is known of it is what was answered.
static void count_refused(struct part *p, struct http_conn *c, enum status outcome, unsigned http,
                          const char *why)
{
    metrics_inc(&p->metrics.refused[outcome], 1);
    if (!p->gateway->config->log.access)
        return;
    struct access_entry e = {.wall_us = loop_wall_us(p->loop),
                             .client = server_conn_peer(c),
                             .status = (uint16_t)http,
                             .outcome = status_table[outcome].name,
                             .why = why,
                             .loop = (uint16_t)p->loop->index};
    put_line(p, &e);
}

static void on_refuse(struct http_conn *c, struct exchange *ex, unsigned status, const char *why,
                      void *ctx)
{
    struct front *f = ctx;
    struct part *p = f->gateway->parts[server_conn_loop(c)->index];
    struct request *r = ex ? request_of(ex) : NULL;
    struct failure e = {.status = status_from_http(status), .text = why};
    if (r) {
        answer_failure(r, &e, 0);
        return;
    }
    if (ex)
        api_answer_unrouted(&p->apis[f - f->gateway->fronts], ex, &e, loop_now_us(p->loop));
    count_refused(p, c, e.status, ex ? ex->status : status, why);
}

static void on_abuse(struct http_conn *c, enum abuse_kind kind, enum abuse_verdict verdict,
                     void *ctx)
{
    struct front *f = ctx;
    struct part *p = f->gateway->parts[server_conn_loop(c)->index];
    metrics_inc(&p->metrics.abused[kind][verdict], 1);
    if (verdict != ABUSE_WENT_ON) // one line a connection
        GATEWAY_EVENT(p->gateway, p->loop, LOG_WARN, "client_abuse",
                      LOG_S("client", server_conn_peer(c)), LOG_CSTR("why", abuse_name[kind]),
                      LOG_CSTR("action", verdict == ABUSE_CUT ? "cut" : "no new streams"));
}

static bool on_charge(struct exchange *ex, int64_t delta_bytes, void *ctx)
{
    struct front *f = ctx;
    struct gateway *g = f->gateway;
    struct request *r = request_of(ex); // bodies are read after on_head only
    bool answering = r->phase == REQUEST_ANSWERING;
    return budget_charge_beyond(&r->part->lease, &g->bytes, delta_bytes,
                                answering ? 2 * BUDGET_ANSWERS : 0);
}

static void on_output(struct http_conn *c, int64_t delta_bytes, void *ctx)
{
    struct front *f = ctx;
    struct gateway *g = f->gateway;
    struct part *p = g->parts[server_conn_loop(c)->index];
    budget_charge_beyond(&p->lease, &g->bytes, delta_bytes, BUDGET_MUST);
}

const struct http_server_ops part_server_ops = {.on_head = on_head,
                                                .on_request = on_request,
                                                .on_gone = on_gone,
                                                .on_sent = on_sent,
                                                .on_refuse = on_refuse,
                                                .on_charge = on_charge,
                                                .on_abuse = on_abuse,
                                                .on_output = on_output};
