#include "api/serving.h"
#include "api/reflect.h"
#include "api/watch.h"
#include "base/check.h"
#include "base/num.h"

void *serving_new(struct exchange *ex, struct api *a, const struct serving_ops *ops,
                  uint64_t now_us)
{
    struct serving *s = ex->user = arena_zalloc(&ex->arena, ops->bytes);
    if (!s) {
        api_answer_unrouted(a, ex, FAILED(STATUS_UNAVAILABLE, "out of memory"), now_us);
        return NULL;
    }
    s->ops = ops;
    s->api = a;
    s->ex = ex;
    return s;
}

// ---- answers -----------------------------------------------------------------------------------------

// Its text is gone soon. Who looks at one request later wants a line, not all that a worker said.
static void keep_why(struct serving *s, const char *text)
{
    struct view why = view_str(text);
    if (why.n > SERVING_WHY)
        why.n = SERVING_WHY;
    s->why = arena_copy(&s->ex->arena, why);
}

void serving_fail(struct serving *s, const struct failure *e, uint32_t retry_after_ms,
                  uint64_t now_us)
{
    if (s->phase == SERVING_GONE)
        return;
    s->phase = SERVING_ANSWERED;
    s->outcome = e->status;
    keep_why(s, e->text);
    s->meta.total_us = now_us - s->ex->started_us;
    if (e->status == STATUS_UNAVAILABLE && retry_after_ms == 0)
        retry_after_ms = API_RETRY_MS;
    api_answer_error(s->api, s->ex, &s->call, e, retry_after_ms, &s->meta, now_us);
}

static void refuse_request(struct serving *s, const struct error *e, uint64_t now_us)
{
    struct failure failure = failure_of(e);
    serving_fail(s, &failure, 0, now_us);
}

static void drop_parts(const struct slice *s)
{
    while (s) {
        struct block *b = s->answer->block;
        s = s->next; // it may lie where the last reference goes
        block_unref(b);
    }
}

// Nothing is encoded any more.
static void end_answer(struct serving *s, enum serving_phase phase)
{
    s->phase = phase;
    if (s->released)
        exchange_unref(s->ex);
}

static bool is_encoding(const struct serving *s)
{
    return s->phase == SERVING_ANSWERING || (s->phase == SERVING_FLOWING && s->answer);
}

static bool encode_answer(struct serving *s, uint64_t now_us)
{
    struct error e = {.status = STATUS_OK};
    enum oip_step step = s->answer ? api_answer_step(s->answer, now_us, &e)
                                   : api_answer_infer(s->api, s->ex, &s->call, s->request, s->slice,
                                                      &s->meta, now_us, &s->answer, &e);
    if (step == OIP_MORE && !api_answer_flows(s->answer))
        return true;
    drop_parts(s->slice);
    s->outcome = e.status;
    if (e.status != STATUS_OK)
        keep_why(s, e.text);
    if (step != OIP_MORE)
        end_answer(s, SERVING_ANSWERED);
    else
        s->phase = SERVING_FLOWING;
    if (step == OIP_MORE && s->sent) // it could not even begin
        serving_on_sent(s);
    return false;
}

bool serving_answer(struct serving *s, const struct slice *slice, bool spent, uint64_t now_us)
{
    struct answer_meta *m = &s->meta;
    if (s->phase == SERVING_GONE) {
        drop_parts(slice);
        return false;
    }
    s->phase = SERVING_ANSWERING;
    s->slice = slice;
    m->total_us = now_us - s->ex->started_us;
    // A loop reads its clock once a turn, and all of it may have been done within this one.
    if (m->total_us < m->queue_us + m->compute_us)
        m->total_us = m->queue_us + m->compute_us;
    return spent || encode_answer(s, now_us);
}

void serving_release(struct serving *s)
{
    s->released = true;
    if (!is_encoding(s))
        exchange_unref(s->ex);
}

// ---- inference ---------------------------------------------------------------------------------------

static void submit_infer(struct serving *s, uint64_t now_us)
{
    struct error e;
    s->meta.parse_us = now_us - s->ex->body_us;
    s->phase = SERVING_OUT;
    exchange_ref(s->ex); // until it is released, and encoded
    if (s->ops->submit(s, now_us, &e))
        return;
    exchange_unref(s->ex);
    refuse_request(s, &e, now_us);
}

static bool decode_body(struct serving *s, uint64_t now_us)
{
    struct error e;
    enum oip_step step = api_decode_step(s->decoder, OIP_STEP_BYTES, &e);
    if (step == OIP_DONE)
        submit_infer(s, now_us);
    else if (step == OIP_ERROR)
        refuse_request(s, &e, now_us);
    return step == OIP_MORE;
}

bool serving_step(struct serving *s, uint64_t now_us)
{
    if (s->phase == SERVING_FLOWING) {
        s->api->carry.wake(s->ex, now_us);
        return false;
    }
    return s->phase == SERVING_DECODING ? decode_body(s, now_us) : encode_answer(s, now_us);
}

// Until it is known what it asks for. It has its reference as one that is out has.
static bool waits(struct serving *s, uint64_t now_us)
{
    if (!s->ops->await || !s->ops->await(s, now_us))
        return false;
    s->phase = SERVING_AWAITING;
    exchange_ref(s->ex);
    return true;
}

static bool begin_infer(struct serving *s, bool spent, uint64_t now_us)
{
    struct error e;
    uint64_t json_bytes;
    const struct model_metadata *meta = NULL;
    // A request in raw binary form says nothing of its tensor: the model's metadata does.
    if (num_parse_u64(s->call.infer_header, &json_bytes) == NUM_OK && json_bytes == 0) {
        meta = s->ops->metadata(s, &e);
        if (!meta) {
            if (!waits(s, now_us))
                refuse_request(s, &e, now_us);
            return false;
        }
    }
    s->decoder = api_decode_begin(s->ex, &s->call, meta, s->request);
    if (!s->decoder) {
        serving_fail(s, FAILED(STATUS_UNAVAILABLE, "out of memory"), 0, now_us);
        return false;
    }
    s->phase = SERVING_DECODING;
    return spent || decode_body(s, now_us);
}

// ---- the small calls ---------------------------------------------------------------------------------

// Its services are the server and its models.
static bool is_health(enum api_kind kind)
{
    return kind == API_HEALTH_CHECK || kind == API_HEALTH_WATCH;
}

static bool answer_statistics(struct serving *s, uint64_t now_us, struct error *e)
{
    struct oip_statistics statistics;
    if (!s->ops->statistics(s, &statistics, e))
        return false;
    api_answer_statistics(s->api, s->ex, &s->call, &statistics, now_us);
    return true;
}

// Over gRPC what is not known is not ready, as Triton says it.
static bool tell_ready(struct serving *s, bool *ready, struct error *e)
{
    bool model = s->call.grpc && s->call.kind == API_MODEL_READY;
    if (!(model && s->call.model.n == 0) && s->ops->ready(s, ready, e))
        return true;
    *ready = false;
    return model;
}

static bool take_feedback(struct serving *s, uint64_t now_us, struct error *e)
{
    struct view variant;
    if (!s->ops->feedback)
        return error_set(e, STATUS_NOT_FOUND, "unknown path");
    if (!s->ops->feedback(s, &variant, e))
        return false;
    api_answer_feedback(s->api, s->ex, &s->call, variant, now_us);
    return true;
}

// A state as it is now, for a probe that wants to know at once.
static bool asks_readiness(const struct serving *s)
{
    return is_health(s->call.kind) || s->call.kind == API_SERVER_READY ||
           s->call.kind == API_MODEL_READY;
}

// False: e is the answer.
static bool answer_small(struct serving *s, uint64_t now_us, struct error *e)
{
    struct oip_index index = {0};
    const struct model_metadata *meta;
    bool ready;
    if (is_health(s->call.kind) && view_is(s->call.model, "inference.GRPCInferenceService"))
        s->call.model = VIEW("");
    switch (s->call.kind) {
    case API_SERVER_LIVE:
        api_answer_live(s->api, s->ex, &s->call, true, now_us);
        return true;
    case API_SERVER_METADATA:
        api_answer_server(s->api, s->ex, &s->call, now_us);
        return true;
    case API_HEALTH_WATCH:
        s->phase = SERVING_FLOWING;
        return watch_start(s, now_us, e);
    case API_HEALTH_CHECK:
    case API_SERVER_READY:
    case API_MODEL_READY:
        if (!tell_ready(s, &ready, e))
            return false;
        api_answer_ready(s->api, s->ex, &s->call, ready, now_us);
        return true;
    case API_MODEL_METADATA:
    case API_MODEL_CONFIG:
        meta = s->ops->metadata(s, e);
        if (meta)
            api_answer_model(s->api, s->ex, &s->call, meta, now_us);
        return meta != NULL;
    case API_INDEX:
        if (!s->ops->index(s, &index, e))
            return false;
        api_answer_index(s->api, s->ex, &s->call, &index, now_us);
        return true;
    case API_STATISTICS:
        return answer_statistics(s, now_us, e);
    case API_FEEDBACK:
        return take_feedback(s, now_us, e);
    case API_REFUSED:
    case API_INFER:
    case API_REFLECT:
    case API_KINDS:
        break;
    }
    invariant(!"a small call");
}

static void small_call(struct serving *s, uint64_t now_us)
{
    struct error e;
    // Not refused for want of room: health checks are always answered. But then nothing waits.
    bool room = exchange_account(s->ex, 0);
    s->phase = SERVING_ANSWERED;
    if (!api_read(s->ex, &s->call, &e) ||
        (!answer_small(s, now_us, &e) && !(room && !asks_readiness(s) && waits(s, now_us))))
        refuse_request(s, &e, now_us);
}

bool serving_again(struct serving *s, bool spent, uint64_t now_us)
{
    struct error e;
    debug_invariant(s->phase == SERVING_AWAITING);
    exchange_unref(s->ex); // its connection has one
    s->phase = s->call.kind == API_INFER ? SERVING_HEAD : SERVING_ANSWERED;
    if (s->call.kind == API_INFER)
        return begin_infer(s, spent, now_us);
    if (!answer_small(s, now_us, &e) && !waits(s, now_us))
        refuse_request(s, &e, now_us);
    return false;
}

// ---- what the HTTP room calls ------------------------------------------------------------------------

// A question about the path, or the server. False: there is no answer but the refusal.
static bool answer_options(struct serving *s, uint64_t now_us)
{
    bool allowed = s->call.cors == CORS_ORIGIN || s->call.cors == CORS_ANY;
    if (s->call.options == OPTIONS_NONE || (s->call.options == OPTIONS_PREFLIGHT && !allowed))
        return false;
    s->phase = SERVING_ANSWERED;
    api_answer_options(s->api, s->ex, &s->call, now_us);
    return true;
}

void serving_route(struct serving *s, const uint64_t random[2], uint64_t now_us)
{
    struct error e;
    s->meta.request_id = api_request_id(s->ex, random, s->id);
    enum api_kind kind = api_route(s->ex, &s->call, &e);
    s->call.request_id = s->call.trace.id = s->meta.request_id;
    if (s->call.origin.p && s->ops->cors)
        s->call.cors = s->ops->cors(s);
    if (kind == API_REFUSED && answer_options(s, now_us))
        return;
    if (kind == API_REFUSED)
        refuse_request(s, &e, now_us);
    else if (kind == API_REFLECT)
        reflect_route(s);
}

// Reflection: a message, or the end of them. The first begins the answer.
static void hear_reflect(struct serving *s, uint64_t now_us)
{
    if (s->phase == SERVING_HEAD) {
        s->phase = SERVING_FLOWING;
        reflect_start(s, now_us);
    } else if (s->phase == SERVING_FLOWING) {
        s->api->carry.wake(s->ex, now_us);
    }
}

void serving_on_body(struct serving *s, uint64_t now_us)
{
    hear_reflect(s, now_us);
}

bool serving_on_request(struct serving *s, bool spent, uint64_t now_us)
{
    if (s->call.kind == API_REFLECT) {
        s->heard_all = true;
        hear_reflect(s, now_us);
        return false;
    }
    debug_invariant(s->phase == SERVING_HEAD);
    s->in_bytes = buffer_len(&s->ex->body);
    if (s->call.kind == API_INFER)
        return begin_infer(s, spent, now_us);
    small_call(s, now_us);
    return false;
}

void serving_on_gone(struct serving *s)
{
    enum serving_phase was = s->phase;
    s->phase = SERVING_GONE;
    s->outcome = STATUS_CLIENT_GONE;
    if (was == SERVING_DECODING)
        api_decode_drop(s->decoder);
    else if (was == SERVING_OUT || was == SERVING_AWAITING)
        s->ops->abandon(s);
    if (was != SERVING_ANSWERING)
        return;
    if (s->answer)
        api_answer_drop(s->answer);
    drop_parts(s->slice);
    end_answer(s, SERVING_GONE);
}

bool serving_on_want(struct serving *s, bool spent, uint64_t now_us)
{
    debug_invariant(s->phase == SERVING_FLOWING);
    if (s->call.kind == API_REFLECT)
        reflect_want(s, now_us);
    else if (s->call.kind == API_HEALTH_WATCH)
        watch_want(s, now_us);
    else if (spent)
        return true;
    else if (!api_answer_want(s->answer))
        s->outcome = STATUS_UNAVAILABLE;
    return false;
}

bool serving_on_sent(struct serving *s)
{
    s->sent = true;
    if (s->phase != SERVING_FLOWING)
        return false;
    if (s->watch)
        watch_end(s);
    if (s->answer)
        api_answer_drop(s->answer);
    end_answer(s, SERVING_ANSWERED);
    return true;
}

void serving_refuse(struct exchange *ex, struct api *a, unsigned status, const char *why,
                    uint64_t now_us)
{
    struct failure e = {.status = status_from_http(status), .text = why};
    debug_invariant(!ex->user || ((struct serving *)ex->user)->phase == SERVING_HEAD);
    if (ex->user)
        serving_fail(ex->user, &e, 0, now_us);
    else
        api_answer_unrouted(a, ex, &e, now_us);
}
