// Batches on their way over a loop's connections, and what their ends are to the desks.
#include "base/num.h"
#include "gateway/doors.h"
#include "gateway/endpoint.h"
#include "gateway/homes.h"
#include "gateway/link.h"
#include "gateway/statistics.h"
#include "gateway/workers.h"
#include "infer/oip_grpc.h"

static void batch_over(struct part *p, struct batch *b, const struct batch_end *end)
{
    b->call = NULL;
    link_batch_home(part_link(p, b->replica));
    desk_on_end(b->desk, b, end, loop_now_us(p->loop), &p->fx);
    home_touch(b->desk->user);
    part_run(p);
}

// A kind of end that needs no more words.
static void over_as(struct part *p, struct batch *b, enum seen seen, const struct failure *e)
{
    batch_over(p, b, &(struct batch_end){.seen = seen, .error = e});
}

static uint32_t asked_rows(const struct batch *b)
{
    return b->n > 1 ? b->rows : 0; // one request goes, and is answered, as it is
}

struct trail { // what the worker is told of where a batch comes from
    struct http_header fields[HTTP_CALL_FIELDS];
    unsigned n;
    char id[16];
};

static void add_field(struct trail *t, struct view name, struct view value)
{
    if (value.n > 0)
        t->fields[t->n++] = (struct http_header){name, value};
}

// One request goes by what its client said; several by an id of their own, by which their lines in the access log are found.
static void lay_trail(struct part *p, struct batch *b, struct trail *t)
{
    uint64_t id = b->n > 1 ? rand_u64(&p->loop->rand) | 1 : 0; // never 0
    for (uint32_t i = 0; i < b->n; i++)
        b->tickets[i]->batch_id = id;
    const struct request_trace *of = b->tickets[0]->request->trace;
    t->n = 0;
    if (id > 0) {
        num_print_hex(t->id, id);
        add_field(t, VIEW("x-request-id"), view_of(t->id, sizeof(t->id)));
    } else if (of) {
        add_field(t, VIEW("x-request-id"), of->id);
        add_field(t, VIEW("traceparent"), of->parent);
        add_field(t, VIEW("tracestate"), of->parent.n > 0 ? of->state : (struct view){0});
    }
}

void workers_dispatch(struct part *p, struct batch *b)
{
    struct trail trail;
    struct link *l = part_link(p, b->replica); // it is there: its desk has it up
    uint64_t now_us = loop_now_us(p->loop);
    const struct infer_request **members = arena_array(&b->arena, b->n, sizeof(*members));
    struct oip_message message = {0};
    l->batches++;
    for (uint32_t i = 0; members && i < b->n; i++)
        members[i] = b->tickets[i]->request;
    uint64_t left_us = b->until_us > now_us ? b->until_us - now_us : 1;
    struct http_seg *segs = NULL;
    if (members && oip_grpc_write_batch(&b->arena, &b->tickets[0]->to, members, b->n, asked_rows(b),
                                        left_us, &message))
        segs = arena_array(&b->arena, message.n, sizeof(*segs));
    if (!segs) {
        over_as(p, b, SEEN_UNPROCESSED, NULL); // out of memory: a pause may help
        return;
    }
    for (unsigned i = 0; i < message.n; i++)
        segs[i] = (struct http_seg){message.segs[i].p, message.segs[i].n, NULL};
    lay_trail(p, b, &trail);
    b->call = worker_infer(l->worker, trail.fields, trail.n, segs, message.n, left_us, b);
    if (!b->call)
        over_as(p, b, SEEN_UNPROCESSED, NULL);
}

void workers_cancel(struct part *p, struct batch *b)
{
    if (b->call)
        worker_cancel(part_link(p, b->replica)->worker, b->call);
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
        same = tensor_dim(said, k) < 0 || tensor_dim(said, k) == tensor_dim(got, k);
    return same;
}

// Asked for as classes it is text, of a shape that no metadata tells (Triton, extension_classification.md); a server that
// does not know them answers the tensor.
static bool is_classes(const struct infer_request *q, const struct tensor *got)
{
    for (unsigned i = 0; i < q->n_outputs; i++) {
        if (q->outputs[i].classification > 0 && view_eq(q->outputs[i].name, got->name))
            return got->dtype == DT_BYTES;
    }
    return false;
}

// Is this an answer of the model that the worker described: every output one of its outputs, of their
// datatype and shape, and none missing that was asked for? Whoever describes no outputs is believed, and who tells no
// ModelConfig in what they are and which: those of MLServer and KServe follow codecs and inputs, too, and what they do not
// know of those that were asked for they leave out.
static bool agrees(const struct model_metadata *m, const struct infer_request *q,
                   const struct answer *a, struct error *e)
{
    if (!m || m->n_outputs == 0)
        return true;
    if (m->config.n == 0)
        return a->n_outputs > 0 || q->n_outputs > 0 ||
               error_set(e, STATUS_BAD_ANSWER, "the worker answered no outputs");
    for (unsigned i = 0; i < a->n_outputs; i++) {
        const struct tensor *said = find_tensor(m->outputs, m->n_outputs, a->outputs[i].name);
        if (!said || !(shape_agrees(said, &a->outputs[i]) || is_classes(q, &a->outputs[i])))
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

// HTTP statuses that say that it could not be computed now: a worker without memory, a proxy before it
// (grpc/grpc doc/http-grpc-status-mapping.md). They come without a gRPC status.
static bool is_unprocessed(struct part *p, struct batch *b, const struct http_call *call)
{
    unsigned http = call->status;
    if (call->grpc_status >= 0 || (http != 429 && http != 502 && http != 503 && http != 504))
        return false;
    struct failure e =
        failure_format(p->fx.blocks, STATUS_UNAVAILABLE,
                       "the worker, or what stands before it, answered HTTP %u", http);
    batch_over(p, b,
               &(struct batch_end){
                   .seen = SEEN_UNPROCESSED, .error = &e, .pushback_us = call->pushback_us});
    return true;
}

static void on_status(struct part *p, struct batch *b, const struct http_call *call)
{
    enum status status = status_from_grpc((unsigned)call->grpc_status);
    struct failure e = failure_quote(p->fx.blocks, status, "the worker says: ", call->grpc_message);
    batch_over(
        p, b,
        &(struct batch_end){.seen = SEEN_STATUS, .error = &e, .pushback_us = call->pushback_us});
}

// An answer that cannot be: e is its finder's.
static void over_wrong(struct part *p, struct batch *b, const struct error *e)
{
    struct failure why = failure_format(p->fx.blocks, STATUS_BAD_ANSWER, "%s", e->text);
    over_as(p, b, SEEN_WRONG, &why);
}

static void count_batch(struct part *p, const struct batch *b, const struct answer *a)
{
    uint64_t took_us = loop_now_us(p->loop) - b->sent_us;
    figures_batch(p, b->model, a->version, b->rows ? b->rows : 1,
                  a->compute_us ? a->compute_us : took_us);
}

static void on_message(struct part *p, struct batch *b, struct http_call *call)
{
    struct worker *w = part_link(p, b->replica)->worker;
    struct error e;
    struct answer *a;
    struct view message = call->body ? view_of(call->body->data, call->body_bytes) : VIEW("");
    struct block *block = call->grpc_status == 0 ? http_call_take_body(call) : NULL;
    if (!block) {
        over_as(p, b, SEEN_WRONG,
                call->grpc_status == 0
                    ? FAILED(STATUS_BAD_ANSWER, "the worker answered without a message")
                    : FAILED(STATUS_BAD_ANSWER, "the worker answered without a gRPC status"));
    } else if (!oip_grpc_read_answer(block, message, asked_rows(b), &a, &e)) {
        block_unref(block);
        over_wrong(p, b, &e);
    } else if (!agrees(worker_model(w, b->model->name), b->tickets[0]->request, a, &e)) {
        block_unref(a->block);
        over_wrong(p, b, &e);
    } else {
        b->call = NULL;
        link_batch_home(part_link(p, b->replica));
        count_batch(p, b, a);
        desk_on_answer(b->desk, b, a, loop_now_us(p->loop), &p->fx);
        home_touch(b->desk->user);
        part_run(p);
    }
}

static void on_answered(struct part *p, struct batch *b, struct http_call *call)
{
    if (call->grpc_status > 0)
        on_status(p, b, call);
    else if (!is_unprocessed(p, b, call))
        on_message(p, b, call);
}

static void on_malformed(struct part *p, struct batch *b, const struct http_call *call)
{
    if (!is_unprocessed(p, b, call))
        over_as(p, b, SEEN_WRONG, FAILED(STATUS_BAD_ANSWER, "the worker's answer is not gRPC"));
}

// What gRPC takes a reset for (grpc/grpc doc/PROTOCOL-HTTP2.md, "HTTP2 error codes").
static void on_reset(struct part *p, struct batch *b, const struct http_call *call)
{
    enum { CANCEL = 0x8, ENHANCE_YOUR_CALM = 0xb };
    enum status status = call->rst_code == CANCEL              ? STATUS_WORKER_LOST
                         : call->rst_code == ENHANCE_YOUR_CALM ? STATUS_UNAVAILABLE
                                                               : STATUS_BAD_ANSWER;
    struct failure e = failure_format(p->fx.blocks, status,
                                      "the worker reset the call (HTTP/2 code %u)", call->rst_code);
    over_as(p, b, SEEN_STATUS, &e);
}

static void on_lost(struct part *p, struct batch *b, bool ours)
{
    batch_over(p, b, &(struct batch_end){.seen = SEEN_LOST, .ours = ours});
}

void calls_on_end(struct worker *w, struct http_call *call, enum http_call_end end, void *user,
                  void *ctx)
{
    struct part *p = ((struct link *)ctx)->part;
    struct batch *b = user;
    if (DOOR_KEEPS_END(p, b, call, end, calls_on_end, w, ctx))
        return;
    switch (end) {
    case CALL_ANSWERED:
        start_reached(&((struct link *)ctx)->endpoint->start, START_ANSWERED, loop_now_us(p->loop));
        on_answered(p, b, call);
        break;
    case CALL_REFUSED:
        over_as(p, b, SEEN_UNPROCESSED, NULL);
        break;
    case CALL_NO_ROOM:
        over_as(p, b, SEEN_NO_ROOM,
                FAILED(STATUS_UNAVAILABLE, "the answer found no room in limits.bytes_in_flight"));
        break;
    case CALL_RESET:
        on_reset(p, b, call);
        break;
    case CALL_ABANDONED:
    case CALL_LOST:
        on_lost(p, b, end == CALL_ABANDONED);
        break;
    case CALL_TOO_LARGE:
        over_as(p, b, SEEN_WRONG,
                FAILED(STATUS_BAD_ANSWER, "the worker's answer is larger than limits.max_answer"));
        break;
    case CALL_MALFORMED:
        on_malformed(p, b, call);
        break;
    case CALL_CANCELLED:
        over_as(p, b, SEEN_RECALLED, NULL);
        break;
    }
}
