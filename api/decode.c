#include "api/body.h"
#include "api/feedback.h"
#include "base/num.h"
#include "infer/oip_grpc.h"
#include "infer/oip_json.h"
#include "infer/oip_rest.h"

/* BODY (decompress, unframe) ─► SPLIT (JSON and what follows it) ─► CODEC ─► done */
enum stage { BODY, JSON, GRPC, RAW, ENDED };

struct api_decoder {
    enum stage stage;
    struct exchange *ex;
    const struct api_call *call;
    const struct model_metadata *meta;
    struct infer_request *out;
    struct api_body body;
    struct oip_json *json;
    struct oip_grpc *grpc;
    struct oip_raw raw;
    bool begun;
};

static bool no_memory(struct error *e)
{
    return error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

// Bytes of JSON at the front of the body: all of it, or what Inference-Header-Content-Length says.
static bool json_length(const struct api_call *call, size_t body, size_t *n, struct error *e)
{
    uint64_t v;
    *n = body;
    if (!call->infer_header.p)
        return true;
    if (call->infer_header_twice)
        return error_set(e, STATUS_BAD_REQUEST, "inference-header-content-length: came twice");
    if (num_parse_u64(call->infer_header, &v) != NUM_OK)
        return error_set(e, STATUS_BAD_REQUEST,
                         "inference-header-content-length: expected a number of bytes");
    if (v > body)
        return error_set(e, STATUS_BAD_REQUEST,
                         "inference-header-content-length: %llu bytes, but the body has %zu",
                         (unsigned long long)v, body);
    *n = (size_t)v;
    return true;
}

// The body is at hand: which codec reads it.
static bool choose(struct api_decoder *d, struct error *e)
{
    struct arena *a = &d->ex->arena;
    struct view body = d->body.out;
    if (d->call->grpc) {
        d->stage = GRPC;
        d->grpc = oip_grpc_begin(a, body, d->out);
        return d->grpc || no_memory(e);
    }
    size_t n;
    d->out->model = d->call->model;
    d->out->version = d->call->version;
    if (!json_length(d->call, body.n, &n, e))
        return false;
    if (d->call->infer_header.p && n == 0) {
        d->stage = RAW;
        return oip_raw_begin(&d->raw, a, d->body.out, d->meta, d->out, e);
    }
    d->stage = JSON;
    d->json = oip_json_begin(a, view_of(body.p, n), view_of(body.p + n, body.n - n), d->out);
    return d->json || no_memory(e);
}

static enum oip_step step_body(struct api_decoder *d, size_t max, struct error *e)
{
    if (!d->begun && !body_begin(&d->body, d->ex, d->call, e))
        return OIP_ERROR;
    d->begun = true;
    enum oip_step step = body_step(&d->body, max, e);
    if (step != OIP_DONE)
        return step;
    return choose(d, e) ? OIP_MORE : OIP_ERROR;
}

static enum oip_step step_codec(struct api_decoder *d, size_t max, struct error *e)
{
    switch (d->stage) {
    case JSON:
        return oip_json_step(d->json, max, e);
    case GRPC:
        return oip_grpc_step(d->grpc, max, e);
    case RAW:
        return oip_raw_step(&d->raw, max, e);
    default:
        return OIP_DONE;
    }
}

// Decoding expands: JSON up to 4 times, compressed JSON up to 32 times. What a step took is charged behind it:
// memory overshoots the budget by one step's work at most.
static bool charge_step(struct api_decoder *d, struct error *e)
{
    return exchange_account(d->ex, d->body.plain.cap) ||
           error_set(e, STATUS_UNAVAILABLE,
                     "body: the memory that requests may hold at a time is taken");
}

// What a proxy in front says goes before what stands in the body.
static bool apply_priority(struct api_decoder *d, struct error *e)
{
    uint64_t v;
    if (num_parse_u64(d->call->priority, &v) != NUM_OK)
        return error_set(e, STATUS_BAD_REQUEST, "sluice-priority: expected a non-negative integer");
    d->out->priority = v > UINT8_MAX ? UINT8_MAX : (uint8_t)v;
    return true;
}

// Applies the header fields of the request once its body is decoded. Every field that is read here must also be in the
// memo's parts (infer/memo.h), else a request could be given what another one's header asked for.
static bool apply_head(struct api_decoder *d, struct error *e)
{
    d->out->trace = &d->call->trace;
    uint64_t timeout = d->call->timeout_us;
    if (timeout && (!d->out->timeout_us || timeout < d->out->timeout_us))
        d->out->timeout_us = timeout;
    if (d->call->priority.p && !apply_priority(d, e))
        return false;
    if (!d->call->chain.p)
        return true;
    d->out->no_chain = view_is(d->call->chain, "none");
    return d->out->no_chain || error_set(e, STATUS_BAD_REQUEST, "sluice-chain: expected none");
}

// From before, with what the head said then: its priority and its chain are parts of what it was found by.
static bool recall(struct api_decoder *d)
{
    struct memo_ask *memo = d->begun ? NULL : d->call->memo;
    if (!memo || !memo_recall(memo, &d->ex->arena, d->out))
        return false;
    d->out->model = d->call->model;
    d->out->version = d->call->version;
    d->out->trace = &d->call->trace;
    d->stage = ENDED;
    return true;
}

enum oip_step api_decode_step(struct api_decoder *d, size_t max_bytes, struct error *e)
{
    enum oip_step step = OIP_MORE;
    if (recall(d))
        return charge_step(d, e) ? OIP_DONE : OIP_ERROR;
    if (d->stage == BODY)
        step = step_body(d, max_bytes, e);
    if (step == OIP_MORE && d->stage != BODY)
        step = step_codec(d, max_bytes, e);
    if (step != OIP_MORE) {
        d->stage = ENDED;
        body_drop(&d->body);
    }
    if (step != OIP_ERROR && !charge_step(d, e)) {
        api_decode_drop(d);
        return OIP_ERROR;
    }
    if (step != OIP_DONE)
        return step;
    return apply_head(d, e) ? OIP_DONE : OIP_ERROR;
}

struct api_decoder *api_decode_begin(struct exchange *ex, const struct api_call *call,
                                     const struct model_metadata *meta, struct infer_request *out)
{
    struct api_decoder *d = arena_zalloc(&ex->arena, sizeof(*d));
    if (!d)
        return NULL;
    d->ex = ex;
    d->call = call;
    d->meta = meta;
    d->out = out;
    return d;
}

void api_decode_drop(struct api_decoder *d)
{
    d->stage = ENDED;
    body_drop(&d->body);
}

// ---- the small calls -----------------------------------------------------------------------------------

static bool read_grpc(struct api_call *call, struct view message, struct error *e)
{
    bool ok = true, names = false;
    switch (call->kind) {
    case API_MODEL_READY:
    case API_MODEL_METADATA:
    case API_MODEL_CONFIG:
        ok = oip_grpc_read_model_request(message, &call->model, &call->version);
        names = call->kind != API_MODEL_READY; // what cannot be a name is not ready
        break;
    case API_STATISTICS:
        ok = oip_grpc_read_model_request(message, &call->model, &call->version);
        names = call->model.n > 0;
        break;
    case API_INDEX:
        ok = oip_grpc_read_index_request(message, &call->ready_only);
        break;
    case API_HEALTH_CHECK:
    case API_HEALTH_WATCH:
        ok = oip_grpc_read_health_request(message, &call->model);
        break;
    default: // an empty message, whatever it says
        break;
    }
    if (!ok)
        return error_set(e, STATUS_BAD_REQUEST, "message: cannot be read");
    if (names && !model_name_ok(call->model))
        return error_set(e, STATUS_BAD_REQUEST, "name: expected [A-Za-z0-9._+@~-]{1,128}");
    if (names && call->version.n && !model_name_ok(call->version))
        return error_set(e, STATUS_BAD_REQUEST, "version: expected [A-Za-z0-9._+@~-]{1,128}");
    return true;
}

static bool read_feedback(struct exchange *ex, struct api_call *call, struct view body,
                          struct error *e)
{
    call->feedback = arena_alloc(&ex->arena, sizeof(*call->feedback));
    if (!call->feedback)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    return feedback_read(&ex->arena, body, call->feedback, e);
}

bool api_read(struct exchange *ex, struct api_call *call, struct error *e)
{
    struct api_body body;
    enum oip_step step;
    if (!call->grpc && call->kind != API_INDEX && call->kind != API_FEEDBACK)
        return true;
    if (!body_begin(&body, ex, call, e))
        return false;
    if (body.max > BODY_FREE) // all of it is read in one go
        body.max = BODY_FREE;
    while ((step = body_step(&body, SIZE_MAX, e)) == OIP_MORE)
        ;
    body_drop(&body);
    if (step == OIP_ERROR)
        return false;
    if (body.out.n > BODY_FREE)
        return error_set(e, STATUS_TOO_LARGE, "body: too large for this call");
    if (call->grpc)
        return read_grpc(call, body.out, e);
    if (call->kind == API_FEEDBACK)
        return read_feedback(ex, call, body.out, e);
    return oip_rest_read_index_request(&ex->arena, body.out, &call->ready_only, e);
}
