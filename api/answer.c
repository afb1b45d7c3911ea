#include "api/meta.h"
#include "base/num.h"
#include "infer/oip_grpc.h"
#include "infer/oip_rest.h"

/* REST: the JSON is written into the loop's scratch and copied, once, at its exact size into the
 * exchange's arena. What does not fit one step flows: each step is encoded when the client has taken the one before,
 * from rows that the answer holds itself (a batch's block is not kept for one of many). Only what may still turn out to
 * be an error (BYTES that are not UTF-8), or has its length in the head (binary tensors), is written whole: in later
 * steps, each copied as a segment of its own. gRPC: one message, small rows copied into the arena, large ones lent by the answer's block.
 * The exchange is charged for a copy before it is made (blocks are charged by their owner), and for all of the
 * JSON that is expected before the first of it: else many that take turns would fill the memory with beginnings.
 * An answer that does not fit into what requests may hold is answered as 503 instead. One that flows is charged for
 * FLOW_ROOM of JSON before it begins, and its rows by their block: it holds no more than that at a time. */

#define FLOW_ROOM                                                                                  \
    ((size_t)192 << 10) // a step, which is an array's chunk longer, and what is still leaving
#define FLOW_BLOCK ((size_t)64 << 10)  // a block of it: so many are never refused
#define COPY_MOST ((size_t)1 << 20)    // of rows, within one turn
#define SCRATCH_KEEP ((size_t)1 << 20) // what one large answer may leave behind in a loop's scratch

struct json_flow { // of an answer that flows, in the arena
    bool ended;
    struct slice *own;                 // in the arena; one reference on each block is ours
    struct http_seg held[FLOW_PIECES]; // encoded, and not given yet
    unsigned n_held;
};

struct api_answer {
    struct api *api;
    struct exchange *ex;
    const struct api_call *call;
    const struct answer_meta *meta;
    const struct slice *slice;
    struct oip_said said;
    struct oip_rest rest;
    struct buffer out; // borrowed from the scratch for the time of one step
    struct http_seg *segs;
    unsigned n_segs, cap_segs;
    uint64_t number; // of the answer, where the request has a memo and it may be kept there; else 0
    size_t json_bytes;
    size_t json_expected;   // of all, as the first step lets us expect; 0: the first step was all
    struct json_flow *flow; // NULL: it does not
};

void api_init(struct api *a, const struct api_carry *carry, struct view server_name,
              struct view server_version)
{
    *a = (struct api){.carry = *carry,
                      .server_name = server_name,
                      .server_version = server_version,
                      .n_extensions = OIP_EXTENSIONS_CORE};
    buffer_init(&a->scratch);
}

void api_deinit(struct api *a)
{
    buffer_deinit(&a->scratch);
}

static bool no_memory(struct error *e)
{
    return error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

static bool charge_copy(struct api_answer *w, size_t bytes, struct error *e)
{
    return exchange_account(w->ex, bytes) ||
           error_set(e, STATUS_UNAVAILABLE,
                     "answer: the memory that requests may hold at a time is taken");
}

static bool add_seg(struct api_answer *w, const uint8_t *p, size_t n, struct block *block)
{
    if (w->n_segs == w->cap_segs) {
        unsigned cap = w->cap_segs ? w->cap_segs * 2 : 4;
        struct http_seg *segs = arena_array(&w->ex->arena, cap, sizeof(*segs));
        if (!segs)
            return false;
        if (w->n_segs)
            memcpy(segs, w->segs, w->n_segs * sizeof(*segs));
        w->segs = segs;
        w->cap_segs = cap;
    }
    w->segs[w->n_segs++] = (struct http_seg){p, n, block ? block_ref(block) : NULL};
    return true;
}

static void drop_segs(struct api_answer *w)
{
    for (unsigned i = 0; i < w->n_segs; i++)
        if (w->segs[i].block)
            block_unref(w->segs[i].block);
    w->n_segs = 0;
}

static void trim_scratch(struct buffer *b)
{
    if (b->cap > SCRATCH_KEEP)
        buffer_deinit(b);
    buffer_reset(b);
}

static bool add_copy(struct api_answer *w, struct view v, struct error *e)
{
    size_t ahead = w->json_expected > w->json_bytes ? w->json_expected - w->json_bytes : 0;
    if (!charge_copy(w, v.n + ahead, e))
        return false;
    struct view copy = arena_copy(&w->ex->arena, v);
    return (copy.p && add_seg(w, (const uint8_t *)copy.p, copy.n, NULL)) || no_memory(e);
}

// What the step wrote becomes a segment.
static bool keep_json(struct api_answer *w, struct error *e)
{
    struct view json = buffer_view(&w->out);
    w->json_bytes += json.n;
    return json.n == 0 || add_copy(w, json, e);
}

// Raw tensors behind the JSON: small ones are copied, large ones pin the answer's block.
static bool add_binary(struct api_answer *w, struct error *e)
{
    for (unsigned i = 0; i < w->rest.n_binary; i++) {
        const struct oip_seg *s = &w->rest.binary[i];
        if (s->n >= OIP_PIN_FROM) {
            if (!add_seg(w, s->p, s->n, s->block))
                return no_memory(e);
        } else if (!add_copy(w, view_of(s->p, s->n), e)) {
            return false;
        }
    }
    return true;
}

// ---- JSON that flows -----------------------------------------------------------------------------------

// What the step wrote, in blocks that are given on the next on_want.
static bool hold_json(struct api_answer *w)
{
    struct view json = buffer_view(&w->out);
    size_t most = json.n / FLOW_PIECES + 1;
    most = most < FLOW_BLOCK ? FLOW_BLOCK : most;
    for (size_t at = 0, n; at < json.n; at += n) {
        n = json.n - at < most ? json.n - at : most;
        struct block *b = block_new(w->api->carry.blocks, n);
        if (!b)
            return false;
        memcpy(b->data, json.p + at, n);
        w->flow->held[w->flow->n_held++] = (struct http_seg){b->data, n, b};
    }
    return true;
}

static bool is_wanted(const struct api_answer *w, unsigned index)
{
    bool binary;
    for (unsigned k = 0; k < w->rest.n_wanted; k++) {
        if (oip_wanted_output(w->rest.request, w->slice->answer, k, &binary) == index)
            return true;
    }
    return false;
}

static size_t wanted_bytes(const struct api_answer *w, const struct slice *part)
{
    size_t bytes = 0;
    for (unsigned k = 0; k < part->answer->n_outputs; k++)
        bytes += is_wanted(w, k) ? slice_output(part, k).bytes : 0;
    return bytes;
}

// Copies the part's rows into b, without outputs that were not requested. NULL: out of memory.
static struct answer *copy_part(struct api_answer *w, const struct slice *part, struct block *b)
{
    unsigned n = part->answer->n_outputs;
    struct tensor *outputs = arena_array(&w->ex->arena, n, sizeof(*outputs));
    uint8_t *at = b->data;
    for (unsigned k = 0; outputs && k < n; k++) {
        struct tensor *t = &outputs[k];
        *t = slice_output(part, k);
        t->name = arena_copy(&w->ex->arena, t->name); // it was in the worker's message
        if (!is_wanted(w, k))
            t->shape[0] = (int64_t)(t->bytes = 0);
        if (t->bytes > 0)
            memcpy(at, t->data, t->bytes);
        t->data = at;
        at += t->bytes;
    }
    return outputs ? answer_new(b, outputs, n, part->rows) : NULL;
}

// Keeps a reference on the part's block, or copies its rows: a slow client that is owed a few rows must not hold the
// answer of a whole batch in memory.
static bool own_part(struct api_answer *w, const struct slice *part, struct slice *own)
{
    bool shared = part->rows > 0 && part->rows < part->answer->rows;
    size_t bytes = shared ? wanted_bytes(w, part) : 0;
    *own = *part;
    own->next = NULL;
    if (!shared || bytes > COPY_MOST) {
        block_ref(part->answer->block);
        return true;
    }
    struct block *b = block_new(w->api->carry.blocks, bytes);
    struct answer *a = b ? copy_part(w, part, b) : NULL;
    if (b && !a)
        block_unref(b);
    *own = (struct slice){.answer = a};
    return a;
}

static bool own_rows(struct api_answer *w)
{
    struct slice *last = NULL;
    for (const struct slice *part = w->slice; part; part = part->next) {
        struct slice *own = arena_alloc(&w->ex->arena, sizeof(*own));
        if (!own || !own_part(w, part, own))
            return false;
        if (last)
            last->next = own;
        else
            w->flow->own = own;
        last = own;
    }
    return true;
}

static bool start_flow(struct api_answer *w, const struct meta_fields *meta, uint64_t now_us,
                       struct error *e)
{
    struct http_header headers[META_HEADERS + 1 + CORS_HEADERS] = {
        {VIEW("content-type"), VIEW("application/json")}};
    memcpy(headers + 1, meta->headers, meta->n_headers * sizeof(headers[0]));
    unsigned n_headers = 1 + meta->n_headers;
    n_headers += cors_write(w->call, headers + n_headers);
    struct http_response head = {.status = 200, .headers = headers, .n_headers = n_headers};
    if (!charge_copy(w, w->json_expected < FLOW_ROOM ? w->json_expected : FLOW_ROOM, e))
        return false;
    w->flow = arena_zalloc(&w->ex->arena, sizeof(*w->flow));
    if (!w->flow || !hold_json(w) || !own_rows(w)) {
        api_answer_drop(w);
        return no_memory(e);
    }
    oip_rest_move(&w->rest, w->flow->own);
    w->api->carry.start(w->ex, &head, now_us);
    return true;
}

bool api_answer_flows(const struct api_answer *w)
{
    return w->flow;
}

// One step more of it is held. False: out of memory.
static bool encode_more(struct api_answer *w)
{
    struct error e;
    w->out = w->api->scratch;
    enum oip_step step = oip_rest_step(&w->rest, OIP_STEP_BYTES, &e);
    bool ok = step != OIP_ERROR && hold_json(w);
    w->flow->ended = step == OIP_DONE;
    trim_scratch(&w->out);
    w->api->scratch = w->out;
    return ok;
}

bool api_answer_want(struct api_answer *w)
{
    struct json_flow *f = w->flow;
    if (f->n_held == 0 && !encode_more(w)) {
        exchange_cut(w->ex);
        return false;
    }
    for (unsigned i = 0; i < f->n_held; i++)
        exchange_put(w->ex, f->held[i]);
    f->n_held = 0;
    if (f->ended)
        exchange_end(w->ex, NULL, 0);
    return true;
}

// ---- REST ----------------------------------------------------------------------------------------------

static void respond_rest(struct api_answer *w, const struct meta_fields *meta, uint64_t now_us)
{
    struct http_header headers[META_HEADERS + 2 + CORS_HEADERS];
    unsigned n = 0;
    char length[32];
    bool binary = w->rest.n_binary || w->rest.request->format == FORMAT_OIP_BINARY;
    headers[n++] = (struct http_header){
        VIEW("content-type"), binary ? VIEW("application/octet-stream") : VIEW("application/json")};
    if (binary)
        headers[n++] = (struct http_header){VIEW("inference-header-content-length"),
                                            view_of(length, num_print_u64(length, w->json_bytes))};
    n += cors_write(w->call, headers + n);
    memcpy(headers + n, meta->headers, meta->n_headers * sizeof(headers[0]));
    struct http_response r = {.status = 200,
                              .headers = headers,
                              .n_headers = n + meta->n_headers,
                              .body = w->segs,
                              .n_body = w->n_segs};
    w->api->carry.respond(w->ex, &r, now_us);
    w->n_segs = 0; // their references went with them
}

static void fail(struct api_answer *w, const struct error *e, uint64_t now_us)
{
    struct failure failure = failure_of(e);
    drop_segs(w);
    api_answer_error(w->api, w->ex, w->call, &failure,
                     e->status == STATUS_UNAVAILABLE ? API_RETRY_MS : 0, w->meta, now_us);
}

// What all of the JSON may take, an eighth more than what its beginning took for as much of the tensors.
static void expect_json(struct api_answer *w)
{
    size_t done, left, begun = buffer_len(&w->out);
    oip_rest_progress(&w->rest, &done, &left);
    double ratio = done > 0 ? (double)begun / (double)done : 1;
    w->json_expected = begun + (size_t)(ratio * (double)left * 1.125);
}

// Its outputs, of an answer whose JSON was written in one step.
static struct view printed(const struct api_answer *w)
{
    const struct http_seg *json = &w->segs[0];
    bool all = w->rest.request->format == FORMAT_OIP_JSON;
    return all ? view_of(json->p + w->rest.head, json->n - w->rest.head) : VIEW("");
}

// One step of the JSON; meta is written when it is known to be the last, or the first.
static enum oip_step step_rest(struct api_answer *w, const struct meta_fields *meta,
                               uint64_t now_us, struct error *e)
{
    w->out = w->api->scratch;
    enum oip_step step = oip_rest_step(&w->rest, OIP_STEP_BYTES, e);
    bool first = w->json_expected == 0;
    if (step == OIP_MORE && first)
        expect_json(w);
    if (step == OIP_DONE)
        w->json_expected = 0;
    if (step == OIP_MORE && first && oip_rest_is_sure(&w->rest))
        step = start_flow(w, meta, now_us, e) ? OIP_MORE : OIP_ERROR;
    else if (step != OIP_ERROR && !keep_json(w, e))
        step = OIP_ERROR;
    trim_scratch(&w->out);
    w->api->scratch = w->out;
    if (step == OIP_MORE)
        return step;
    if (step == OIP_DONE && !add_binary(w, e))
        step = OIP_ERROR;
    if (step == OIP_ERROR) {
        fail(w, e, now_us);
        return OIP_DONE;
    }
    if (w->number > 0)
        memo_keep(w->call->memo, w->rest.request, w->number, first ? printed(w) : VIEW(""));
    respond_rest(w, meta, now_us);
    return OIP_DONE;
}

enum oip_step api_answer_step(struct api_answer *w, uint64_t now_us, struct error *e)
{
    struct meta_fields meta;
    meta_write(&meta, w->meta);
    return step_rest(w, &meta, now_us, e);
}

void api_answer_drop(struct api_answer *w)
{
    struct json_flow *f = w->flow;
    drop_segs(w);
    w->flow = NULL;
    while (f && f->n_held > 0)
        block_unref(f->held[--f->n_held].block);
    for (const struct slice *own = f ? f->own : NULL; own; own = own->next)
        block_unref(own->answer->block);
}

// Bytes that a gRPC message copies: those of its small tensors; large ones are sent from where they lie.
static size_t small_bytes(const struct slice *s)
{
    size_t all = 0;
    for (; s; s = s->next) {
        for (unsigned k = 0; k < s->answer->n_outputs; k++) {
            size_t bytes = slice_output(s, k).bytes;
            all += bytes < OIP_PIN_FROM ? bytes : 0;
        }
    }
    return all;
}

static bool answer_grpc(struct api_answer *w, const struct infer_request *r,
                        const struct meta_fields *meta, uint64_t now_us, struct error *e)
{
    struct arena *a = &w->ex->arena;
    struct oip_message m;
    bool pins;
    if (!charge_copy(w, small_bytes(w->slice), e))
        return false;
    if (!oip_grpc_write_answer(a, r, w->slice, &w->said, &m, &pins, e))
        return false;
    if (m.bytes > UINT32_MAX)
        return error_set(e, STATUS_BAD_ANSWER, "the answer is too large for one gRPC message");
    uint8_t *prefix = arena_alloc_aligned(a, 5, 1);
    if (!prefix)
        return no_memory(e);
    uint32_t n = __builtin_bswap32((uint32_t)m.bytes);
    prefix[0] = 0;
    memcpy(prefix + 1, &n, sizeof(n));
    bool ok = add_seg(w, prefix, 5, NULL);
    for (unsigned i = 0; ok && i < m.n; i++)
        ok = add_seg(w, m.segs[i].p, m.segs[i].n, m.segs[i].block);
    if (!ok)
        return no_memory(e);
    struct http_header headers[META_HEADERS + 1];
    headers[0] = (struct http_header){VIEW("content-type"), VIEW("application/grpc")};
    memcpy(headers + 1, meta->headers, meta->n_headers * sizeof(headers[0]));
    struct http_header trailer = {VIEW("grpc-status"), VIEW("0")};
    struct http_response response = {.status = 200,
                                     .headers = headers,
                                     .n_headers = 1 + meta->n_headers,
                                     .body = w->segs,
                                     .n_body = w->n_segs,
                                     .trailers = &trailer,
                                     .n_trailers = 1};
    w->api->carry.respond(w->ex, &response, now_us);
    w->n_segs = 0;
    return true;
}

static enum oip_step answer_rest(struct api_answer *w, const struct infer_request *r,
                                 const struct meta_fields *meta, uint64_t now_us, struct error *e)
{
    size_t n = oip_rest_outputs(r, w->slice->answer), parts = 0;
    for (const struct slice *part = w->slice; part; part = part->next)
        parts++;
    struct oip_seg *binary = NULL;
    if (r->format == FORMAT_OIP_BINARY &&
        !(binary = arena_array(&w->ex->arena, n * parts, sizeof(*binary)))) {
        no_memory(e);
        fail(w, e, now_us);
        return OIP_DONE;
    }
    oip_rest_begin(&w->rest, r, w->slice, &w->said, &w->out, binary);
    if (w->call->memo && !w->slice->next)
        w->number = w->slice->answer->number;
    if (w->number > 0)
        w->rest.known = memo_printed(w->call->memo, w->number);
    return step_rest(w, meta, now_us, e);
}

enum oip_step api_answer_infer(struct api *a, struct exchange *ex, const struct api_call *call,
                               const struct infer_request *r, const struct slice *s,
                               const struct answer_meta *meta, uint64_t now_us,
                               struct api_answer **more, struct error *e)
{
    struct meta_fields fields;
    e->status = STATUS_OK;
    struct api_answer *w = arena_alloc(&ex->arena, sizeof(*w));
    if (!w) {
        no_memory(e);
        api_answer_error(a, ex, call, FAILED(e->status, e->text), 0, meta, now_us);
        return OIP_DONE;
    }
    meta_write(&fields, meta);
    *w = (struct api_answer){.api = a, .ex = ex, .call = call, .meta = meta, .slice = s};
    w->said = (struct oip_said){.model = meta->model.n ? meta->model : r->model,
                                .version = meta->version.n ? meta->version : s->answer->version,
                                .id = r->id,
                                .params = fields.params,
                                .n_params = fields.n_params,
                                .theirs = s->answer->params};
    if (r->format == FORMAT_OIP_GRPC) {
        if (!answer_grpc(w, r, &fields, now_us, e))
            fail(w, e, now_us);
        return OIP_DONE;
    }
    enum oip_step step = answer_rest(w, r, &fields, now_us, e);
    w->said.n_params = 0; // they were this call's, and are written
    *more = w;
    return step;
}
