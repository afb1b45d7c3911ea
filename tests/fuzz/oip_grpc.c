/* Fuzz: any bytes as each message of the service. A request is decoded whole and in steps, sent on as a batch of
 * one and (where rows allow it) of three, and read again; a reply is read as a worker's, sliced, written to a
 * client and read again. What is read must keep its promises: bytes agree with shapes.
 * Input: 1 byte step size, 1 byte rows that were asked for, then the message. */
#include "infer/oip_grpc.h"
#include "base/check.h"
#include "infer/model_config.h"
#include "infer/oip_rest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct block_owner blocks;

static bool decode(struct arena *a, struct view message, size_t max, struct infer_request *out,
                   struct error *e)
{
    *e = (struct error){0};
    struct oip_grpc *d = oip_grpc_begin(a, message, out);
    enum oip_step s;
    uint64_t steps = 0;
    while ((s = oip_grpc_step(d, max, e)) == OIP_MORE)
        invariant(++steps <= 4 * message.n + 64);
    return s == OIP_DONE;
}

static void same_list(const struct params *l, const struct params *m)
{
    invariant((l ? l->n : 0) == (m ? m->n : 0));
    for (unsigned i = 0; l && i < l->n; i++) {
        const struct param *p = &l->at[i], *q = &m->at[i];
        invariant(view_eq(p->key, q->key) && view_eq(p->s, q->s) && p->type == q->type);
        invariant(p->type == PARAM_STRING || p->type == PARAM_BOOL || p->u == q->u);
    }
}

static void same_tensor(const struct tensor *t, const struct tensor *u, int64_t rows)
{
    invariant(view_eq(t->name, u->name) && t->dtype == u->dtype && t->rank == u->rank);
    same_list(t->params, u->params);
    for (unsigned i = 0; i < t->rank; i++)
        invariant(tensor_dim(u, i) == (i == 0 && rows ? rows : tensor_dim(t, i)));
}

static void check_size(const struct tensor *t)
{
    uint64_t want, count;
    invariant(tensor_count(t, &count));
    if (t->dtype == DT_BYTES)
        invariant(tensor_bytes_check(t->data, t->bytes, count));
    else
        invariant(tensor_size(t, &want) && want == t->bytes);
}

static struct view flat(struct arena *a, const struct oip_message *m)
{
    size_t at = 0;
    char *p = arena_alloc_aligned(a, m->bytes, 1);
    for (unsigned i = 0; i < m->n; i++) {
        invariant(m->segs[i].n && m->segs[i].n <= m->bytes - at);
        memcpy(p + at, m->segs[i].p, m->segs[i].n);
        at += m->segs[i].n;
    }
    invariant(at == m->bytes);
    return view_of(p, at);
}

// n times r in one batch, read as a worker reads it: each row is where it belongs.
static void check_batch(struct arena *a, const struct infer_request *r, unsigned n)
{
    const struct infer_request *members[3] = {r, r, r};
    struct infer_request back;
    struct oip_message m;
    struct error e;
    uint32_t rows = r->rows * n;
    if (__builtin_mul_overflow(r->rows, n, &rows))
        return;
    struct target to = {NULL, r->model, r->version};
    invariant(oip_grpc_write_batch(a, &to, members, n, rows, r->timeout_us >> 1, &m));
    if (!decode(a, flat(a, &m), SIZE_MAX, &back, &e)) {
        // It carries timeout and priority of its own beside the kept ones; dimensions may grow too far.
        invariant(n > 1 || r->n_params + 2 > INFER_MAX_PARAMS);
        return;
    }
    invariant(back.n_inputs == r->n_inputs && back.n_outputs == r->n_outputs);
    invariant(view_eq(back.model, r->model) && view_eq(back.version, r->version));
    invariant(back.timeout_us == r->timeout_us >> 1);
    invariant(back.n_params == r->n_params && (n > 1 || view_eq(back.id, r->id)));
    invariant(n > 1 || (back.priority == r->priority && back.sequence == r->sequence));
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i], *u = &back.inputs[i];
        same_tensor(t, u, rows);
        invariant(u->bytes == t->bytes * n);
        for (unsigned k = 0; k < n && t->bytes; k++)
            invariant(memcmp(u->data + k * t->bytes, t->data, t->bytes) == 0);
    }
    for (unsigned i = 0; i < r->n_outputs; i++) {
        invariant(view_eq(back.outputs[i].name, r->outputs[i].name) &&
                  back.outputs[i].classification == r->outputs[i].classification);
        same_list(back.outputs[i].params, r->outputs[i].params);
    }
}

static void fuzz_request(struct arena *a, struct view message, size_t max)
{
    struct infer_request whole, steps;
    struct error e, e2;
    size_t sum = 0;
    bool ok = decode(a, message, SIZE_MAX, &whole, &e);
    invariant(ok == decode(a, message, max, &steps, &e2));
    invariant(ok || (e.status == STATUS_BAD_REQUEST && strcmp(e.text, e2.text) == 0));
    if (!ok)
        return;
    invariant(whole.n_inputs && hash128_eq(whole.batch_key, steps.batch_key));
    for (unsigned i = 0; i < whole.n_inputs; i++) {
        same_tensor(&whole.inputs[i], &steps.inputs[i], 0);
        invariant(whole.inputs[i].bytes == steps.inputs[i].bytes);
        check_size(&whole.inputs[i]);
        sum += whole.inputs[i].bytes;
    }
    invariant(sum == whole.bytes && sum <= 8 * message.n);
    check_batch(a, &whole, 1);
    if (whole.rows && !whole.sequence)
        check_batch(a, &whole, 3);
}

// ---- replies -------------------------------------------------------------------------------------------

static struct answer *read_answer(struct view message, uint32_t rows)
{
    struct block *b = block_new(&blocks, message.n);
    struct answer *a = NULL;
    struct error e = {0};
    if (message.n)
        memcpy(b->data, message.p, message.n);
    if (oip_grpc_read_answer(b, view_of(b->data, message.n), rows, &a, &e))
        return a;
    invariant(e.status == STATUS_BAD_ANSWER);
    block_unref(b);
    return NULL;
}

// Written to a client and read again as if it were a worker's.
static void check_reply(struct arena *a, const struct slice *s)
{
    struct infer_request r = {.format = FORMAT_OIP_GRPC, .binary_output = true};
    const struct oip_said said = {
        .model = VIEW("m"), .version = VIEW("1"), .id = VIEW("i"), .theirs = s->answer->params};
    struct oip_message m;
    struct error e;
    bool pins;
    invariant(oip_grpc_write_answer(a, &r, s, &said, &m, &pins, &e));
    struct answer *back = read_answer(flat(a, &m), s->rows);
    invariant(back && back->n_outputs == s->answer->n_outputs && view_is(back->model, "m"));
    same_list(back->params, s->answer->params);
    for (unsigned k = 0; k < back->n_outputs; k++) {
        struct tensor t = slice_output(s, k);
        same_tensor(&t, &back->outputs[k], 0);
        invariant(t.bytes == back->outputs[k].bytes);
        invariant(!t.bytes || memcmp(t.data, back->outputs[k].data, t.bytes) == 0);
    }
    block_unref(back->block);
}

static void fuzz_reply(struct arena *a, struct view message, uint32_t rows)
{
    struct answer *whole = read_answer(message, rows);
    if (!whole)
        return;
    for (unsigned k = 0; k < whole->n_outputs; k++)
        check_size(&whole->outputs[k]);
    check_reply(a, &(struct slice){.answer = whole});
    bool batched = rows > 0;
    for (unsigned k = 0; k < whole->n_outputs; k++)
        batched &= whole->outputs[k].rank > 0 && whole->outputs[k].shape[0] == rows;
    if (batched) {
        size_t bytes[INFER_MAX_TENSORS] = {0};
        for (uint32_t row = 0; row < rows; row++) {
            struct slice s = {.answer = whole, .row = row, .rows = 1};
            check_reply(a, &s);
            for (unsigned k = 0; k < whole->n_outputs; k++)
                bytes[k] += slice_output(&s, k).bytes;
        }
        for (unsigned k = 0; k < whole->n_outputs; k++)
            invariant(bytes[k] == whole->outputs[k].bytes);
    }
    block_unref(whole->block);
}

// ---- the small calls -----------------------------------------------------------------------------------

// What is taken is told again whole, in both forms.
static void fuzz_config(struct view message)
{
    struct model_metadata m = {0}, again = {0};
    struct buffer json, pb;
    struct error e;
    if (!oip_grpc_read_config(message, &m, &e) || m.config.n == 0)
        return;
    buffer_init(&json);
    buffer_init(&pb);
    invariant(model_config_json(&json, &m) && model_config_pb(&pb, &m));
    struct json_reader r;
    json_read(&r, buffer_view(&json));
    invariant(json_skip(&r, json_next(&r)) && json_next(&r) == JSON_END);
    if (oip_grpc_read_config(buffer_view(&pb), &again, &e)) // else ours makes it too large
        invariant(again.max_batch == m.max_batch && !again.serial);
    buffer_deinit(&json);
    buffer_deinit(&pb);
}

static void fuzz_small(struct arena *a, struct view message)
{
    struct model_metadata m, again;
    struct oip_index index, index2;
    struct view name, version;
    struct buffer out;
    struct error e;
    bool flag;
    buffer_init(&out);
    oip_grpc_read_model_request(message, &name, &version);
    oip_grpc_read_index_request(message, &flag);
    oip_grpc_read_health_request(message, &name);
    oip_grpc_read_ready(message, &flag);
    fuzz_config(message);
    if (oip_grpc_read_metadata(a, message, &m, &e)) {
        invariant(oip_grpc_metadata(&out, &m));
        invariant(oip_grpc_read_metadata(a, buffer_view(&out), &again, &e));
        invariant(m.n_inputs == again.n_inputs && m.n_outputs == again.n_outputs);
        for (unsigned i = 0; i < m.n_inputs; i++)
            same_tensor(&m.inputs[i], &again.inputs[i], 0);
        buffer_reset(&out);
        invariant(oip_rest_model(&out, &m) && model_config_json(&out, &m) &&
                  model_config_pb(&out, &m));
    }
    buffer_reset(&out);
    if (oip_grpc_read_index(a, message, &index)) {
        invariant(oip_grpc_index(&out, &index));
        invariant(oip_grpc_read_index(a, buffer_view(&out), &index2) && index.n == index2.n);
    }
    buffer_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct arena a;
    struct view message = view_of(data + 2, size - 2);
    arena_init(&a, 0);
    block_owner_init(&blocks);
    block_owner_adopt(&blocks);
    fuzz_request(&a, message, 1 + data[0]);
    fuzz_reply(&a, message, data[1] % 9);
    fuzz_small(&a, message);
    block_owner_deinit(&blocks);
    arena_deinit(&a);
    return 0;
}
