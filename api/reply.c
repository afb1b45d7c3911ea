#include "api/feedback.h"
#include "api/meta.h"
#include "base/num.h"
#include "infer/oip_grpc.h"
#include "infer/oip_rest.h"

/* Answers that are small: errors, health, metadata, index. Each is written into the scratch, copied into the
 * exchange's arena and given at once. */

#define UNCHARGED                                                                                  \
    1024 // bytes of an answer that are not charged: health checks are answered without room, too
#define EXTRA                                                                                      \
    (4 +                                                                                           \
     CORS_HEADERS) // headers beside the metadata: content-type, retry-after, allow, accept-encoding

// body: the exchange's, or static.
static void give(struct api *a, struct exchange *ex, unsigned status,
                 const struct http_header *headers, unsigned n_headers, struct view body,
                 const struct http_header *trailers, unsigned n_trailers, uint64_t now_us)
{
    struct http_seg seg = {(const uint8_t *)body.p, body.n, NULL};
    struct http_response r = {.status = (uint16_t)status,
                              .headers = headers,
                              .n_headers = n_headers,
                              .body = &seg,
                              .n_body = body.n ? 1 : 0,
                              .trailers = trailers,
                              .n_trailers = n_trailers};
    a->carry.respond(ex, &r, now_us);
}

// ---- pages of other origins ------------------------------------------------------------------------------

unsigned cors_write(const struct api_call *call, struct http_header out[CORS_HEADERS])
{
    if (!call || call->cors == CORS_OFF)
        return 0;
    unsigned n = 0;
    bool any = call->cors == CORS_ANY;
    if (!any) // else a cache would give what one origin may read to another
        out[n++] = (struct http_header){VIEW("vary"), VIEW("origin")};
    if (call->cors == CORS_STRANGER)
        return n;
    out[n++] =
        (struct http_header){VIEW("access-control-allow-origin"), any ? VIEW("*") : call->origin};
    out[n++] = (struct http_header){
        VIEW("access-control-expose-headers"),
        VIEW("inference-header-content-length, retry-after, age, server-timing, x-request-id, "
             "sluice-model, sluice-source, sluice-fallback, sluice-attempts, sluice-degradation, "
             "sluice-experiment, sluice-batch")};
    return n;
}

// A page may send whatever it asks for: what a request means is not decided by who sends it, and cookies are not
// asked for.
void api_answer_options(struct api *a, struct exchange *ex, const struct api_call *call,
                        uint64_t now_us)
{
    struct http_header headers[CORS_HEADERS + 5];
    unsigned n = cors_write(call, headers);
    headers[n++] = (struct http_header){VIEW("allow"), view_str(call->allow)};
    if (call->options == OPTIONS_PREFLIGHT) {
        headers[n++] =
            (struct http_header){VIEW("access-control-allow-methods"), view_str(call->allow)};
        headers[n++] = (struct http_header){VIEW("access-control-max-age"), VIEW("600")};
    }
    if (call->options == OPTIONS_PREFLIGHT && call->asked_headers.n > 0)
        headers[n++] =
            (struct http_header){VIEW("access-control-allow-headers"), call->asked_headers};
    headers[n++] = (struct http_header){VIEW("x-request-id"), call->request_id};
    give(a, ex, 200, headers, n, VIEW(""), NULL, 0, now_us);
}

// ---- errors --------------------------------------------------------------------------------------------

// grpc-message is percent-encoded (grpc/grpc doc/PROTOCOL-HTTP2.md). In the scratch; empty when that gets no
// memory: the status says enough.
static struct view grpc_message(struct buffer *scratch, const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    buffer_reset(scratch);
    char *at = (char *)buffer_reserve(scratch, 3 * strlen(text)), *start = at;
    if (!at)
        return VIEW("");
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            *at++ = *text;
            continue;
        }
        *at++ = '%';
        *at++ = digits[c >> 4];
        *at++ = digits[c & 15];
    }
    return view_of(start, (size_t)(at - start));
}

static void error_grpc(struct api *a, struct exchange *ex, const struct failure *e,
                       uint32_t retry_after_ms, const struct meta_fields *meta, uint64_t now_us)
{
    struct http_header headers[META_HEADERS + EXTRA], trailers[3];
    char status[32], pushback[32];
    unsigned n = 0;
    headers[0] = (struct http_header){VIEW("content-type"), VIEW("application/grpc")};
    memcpy(headers + 1, meta->headers, meta->n_headers * sizeof(headers[0]));
    unsigned n_headers = 1 + meta->n_headers;
    if (e->status == STATUS_UNSUPPORTED)
        headers[n_headers++] = (struct http_header){VIEW("grpc-accept-encoding"),
                                                    VIEW("identity, deflate, gzip, zstd")};
    struct view code = view_of(status, num_print_u64(status, status_table[e->status].grpc));
    trailers[n++] = (struct http_header){VIEW("grpc-status"), code};
    trailers[n++] = (struct http_header){VIEW("grpc-message"), grpc_message(&a->scratch, e->text)};
    if (retry_after_ms) {
        struct view v = view_of(pushback, num_print_u64(pushback, retry_after_ms));
        trailers[n++] = (struct http_header){VIEW("grpc-retry-pushback-ms"), v};
    }
    give(a, ex, 200, headers, n_headers, VIEW(""), trailers, n, now_us);
}

static void error_rest(struct api *a, struct exchange *ex, const struct api_call *call,
                       const struct failure *e, uint32_t retry_after_ms,
                       const struct meta_fields *meta, uint64_t now_us)
{
    struct http_header headers[META_HEADERS + EXTRA];
    char seconds[32];
    unsigned n = 0;
    headers[n++] = (struct http_header){VIEW("content-type"), VIEW("application/json")};
    if (retry_after_ms)
        headers[n++] = (struct http_header){
            VIEW("retry-after"),
            view_of(seconds,
                    num_print_u64(seconds, (retry_after_ms + 999) / 1000))}; // RFC 9110, 10.2.3
    if (call && call->allow)
        headers[n++] = (struct http_header){VIEW("allow"), view_str(call->allow)};
    if (e->status == STATUS_MEDIA_TYPE && call && call->content_encoding.n) // RFC 9110, 15.5.16
        headers[n++] = (struct http_header){VIEW("accept-encoding"), VIEW("gzip, deflate, zstd")};
    n += cors_write(call, headers + n);
    memcpy(headers + n, meta->headers, meta->n_headers * sizeof(headers[0]));
    buffer_reset(&a->scratch);
    if (!oip_rest_error(&a->scratch, e->text))
        buffer_reset(&a->scratch);
    // Out of memory: the status says enough.
    struct view body = arena_copy(&ex->arena, buffer_view(&a->scratch));
    buffer_reset(&a->scratch);
    give(a, ex, status_table[e->status].http, headers, n + meta->n_headers, body, NULL, 0, now_us);
}

void api_answer_error(struct api *a, struct exchange *ex, const struct api_call *call,
                      const struct failure *e, uint32_t retry_after_ms,
                      const struct answer_meta *meta, uint64_t now_us)
{
    struct meta_fields fields;
    meta_write(&fields, meta);
    if (call && call->grpc)
        error_grpc(a, ex, e, retry_after_ms, &fields, now_us);
    else
        error_rest(a, ex, call, e, retry_after_ms, &fields, now_us);
}

void api_answer_unrouted(struct api *a, struct exchange *ex, const struct failure *e,
                         uint64_t now_us)
{
    struct api_call call = {.kind = API_REFUSED,
                            .grpc = ex->carrier == HTTP_2 && grpc_is(ex),
                            .allow = e->status == STATUS_METHOD ? "GET, HEAD, POST" : NULL};
    uint32_t retry_after_ms = e->status == STATUS_UNAVAILABLE ? API_RETRY_MS : 0;
    api_answer_error(a, ex, &call, e, retry_after_ms, NULL, now_us);
}

// ---- the small calls -----------------------------------------------------------------------------------

// The scratch holds the body: JSON, or a message whose frame is ours to write. ok: it was written.
static void give_scratch(struct api *a, struct exchange *ex, const struct api_call *call, bool ok,
                         unsigned status, uint64_t now_us)
{
    struct http_header headers[2 + CORS_HEADERS] = {
        {VIEW("content-type"), call->grpc ? VIEW("application/grpc") : VIEW("application/json")},
        {VIEW("x-request-id"), call->request_id}};
    struct http_header trailer = {VIEW("grpc-status"), VIEW("0")};
    unsigned n_headers = call->request_id.n ? 2 : 1;
    n_headers += cors_write(call, headers + n_headers);
    if (ok && call->grpc) {
        uint32_t n = __builtin_bswap32((uint32_t)(buffer_len(&a->scratch) - 5));
        memcpy(a->scratch.data + a->scratch.at + 1, &n, sizeof(n));
    }
    struct view written = buffer_view(&a->scratch), body = {0};
    bool room = written.n < UNCHARGED || exchange_account(ex, written.n);
    if (room)
        body = arena_copy(&ex->arena, written);
    buffer_reset(&a->scratch);
    if (!ok || (written.n && !body.p)) { // an answer without its body would be taken for one
        const char *why =
            room ? "out of memory" : "answer: the memory that requests may hold at a time is taken";
        api_answer_error(a, ex, call, FAILED(STATUS_UNAVAILABLE, why), API_RETRY_MS, NULL, now_us);
        return;
    }
    give(a, ex, call->grpc ? 200 : status, headers, n_headers, body, &trailer, call->grpc ? 1 : 0,
         now_us);
}

// The buffer to write into, with room for the frame.
static struct buffer *start(struct api *a, const struct api_call *call)
{
    static const uint8_t prefix[5];
    buffer_reset(&a->scratch);
    if (call->grpc && !buffer_append(&a->scratch, prefix, sizeof(prefix)))
        return NULL;
    return &a->scratch;
}

void api_answer_live(struct api *a, struct exchange *ex, const struct api_call *call, bool live,
                     uint64_t now_us)
{
    struct buffer *b = start(a, call);
    bool ok = b && (call->grpc ? oip_grpc_ready(b, live) : oip_rest_live(b, live));
    give_scratch(a, ex, call, ok, live ? 200 : 503, now_us);
}

void api_answer_ready(struct api *a, struct exchange *ex, const struct api_call *call, bool ready,
                      uint64_t now_us)
{
    struct buffer *b = start(a, call);
    bool ok = b != NULL;
    if (ok && call->kind == API_HEALTH_CHECK)
        ok = oip_grpc_health(b, ready);
    else if (ok && call->grpc)
        ok = oip_grpc_ready(b, ready);
    else if (ok && call->kind == API_MODEL_READY)
        ok = oip_rest_model_ready(b, call->model, ready);
    else if (ok)
        ok = oip_rest_ready(b, ready);
    give_scratch(a, ex, call, ok, ready ? 200 : 503, now_us);
}

void api_answer_server(struct api *a, struct exchange *ex, const struct api_call *call,
                       uint64_t now_us)
{
    struct buffer *b = start(a, call);
    bool ok = b && (call->grpc ? oip_grpc_server : oip_rest_server)(
                       b, a->server_name, a->server_version, a->n_extensions);
    give_scratch(a, ex, call, ok, 200, now_us);
}

void api_answer_model(struct api *a, struct exchange *ex, const struct api_call *call,
                      const struct model_metadata *m, uint64_t now_us)
{
    struct buffer *b = start(a, call);
    bool config = call->kind == API_MODEL_CONFIG, ok = b != NULL;
    if (ok && call->grpc)
        ok = config ? oip_grpc_config(b, m) : oip_grpc_metadata(b, m);
    else if (ok)
        ok = config ? oip_rest_config(b, m) : oip_rest_model(b, m);
    give_scratch(a, ex, call, ok, 200, now_us);
}

void api_answer_index(struct api *a, struct exchange *ex, const struct api_call *call,
                      const struct oip_index *index, uint64_t now_us)
{
    struct buffer *b = start(a, call);
    bool ok = b && (call->grpc ? oip_grpc_index(b, index) : oip_rest_index(b, index));
    give_scratch(a, ex, call, ok, 200, now_us);
}

void api_answer_feedback(struct api *a, struct exchange *ex, const struct api_call *call,
                         struct view variant, uint64_t now_us)
{
    struct buffer *b = start(a, call);
    give_scratch(a, ex, call, b && feedback_write(b, call->feedback, variant), 200, now_us);
}

void api_answer_statistics(struct api *a, struct exchange *ex, const struct api_call *call,
                           const struct oip_statistics *statistics, uint64_t now_us)
{
    struct buffer *b = start(a, call);
    bool ok = b && (call->grpc ? oip_grpc_statistics : oip_rest_statistics)(b, statistics);
    give_scratch(a, ex, call, ok, 200, now_us);
}

// ---- answers that flow ---------------------------------------------------------------------------------

void api_start_grpc(struct api *a, struct exchange *ex, const struct api_call *call,
                    uint64_t now_us)
{
    struct http_header headers[] = {{VIEW("content-type"), VIEW("application/grpc")},
                                    {VIEW("x-request-id"), call->request_id}};
    struct http_response head = {
        .status = 200, .headers = headers, .n_headers = call->request_id.n ? 2 : 1};
    a->carry.start(ex, &head, now_us);
}

void api_end_grpc(struct exchange *ex, enum status status, const char *why)
{
    char text[32];
    struct view code = view_of(text, num_print_u64(text, status_table[status].grpc));
    struct http_header trailers[] = {{VIEW("grpc-status"), code},
                                     {VIEW("grpc-message"), view_str(why)}};
    exchange_end(ex, trailers, status == STATUS_OK ? 1 : 2);
}
