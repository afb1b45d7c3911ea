/* Fuzz: any body through the REST decoder, whole and in random steps: the same verdict in the same words, the
 * same request. What is taken is written anew (JSON, or JSON with the bytes behind it) and must be read as
 * the same request, and so must its copy be; an answer of the same tensors is written whole and in steps.
 * Input: 1 byte step size, 1 byte how many bytes at the end are binary data, then the body. */
#include "infer/oip_json.h"
#include "base/check.h"
#include "base/mem.h"
#include "infer/copy.h"
#include "infer/oip_grpc.h"
#include "infer/oip_rest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool decode(struct arena *a, struct view json, struct view binary, size_t max,
                   struct infer_request *out, struct error *e)
{
    *out = (struct infer_request){.model = VIEW("m")};
    *e = (struct error){0};
    struct oip_json *d = oip_json_begin(a, json, binary, out);
    enum oip_step s;
    uint64_t steps = 0;
    while ((s = oip_json_step(d, max, e)) == OIP_MORE)
        invariant(++steps <= 4 * (json.n + binary.n) + 64);
    return s == OIP_DONE;
}

// 1.0 is written as 1: which type it has is not told apart here.
static double number(const struct param *p)
{
    return p->type == PARAM_DOUBLE ? p->d : p->type == PARAM_INT64 ? (double)p->i : (double)p->u;
}

static void same_param(const struct param *p, const struct param *q)
{
    bool numbers = p->type != PARAM_STRING && p->type != PARAM_BOOL;
    invariant(view_eq(p->key, q->key) && view_eq(p->s, q->s));
    invariant(numbers || p->type == q->type);
    invariant(numbers ? number(p) == number(q) : p->type == PARAM_STRING || p->b == q->b);
}

static void same_list(const struct params *l, const struct params *m)
{
    invariant((l ? l->n : 0) == (m ? m->n : 0));
    for (unsigned i = 0; l && i < l->n; i++)
        same_param(&l->at[i], &m->at[i]);
}

static bool has_fraction(const struct params *l)
{
    for (unsigned i = 0; l && i < l->n; i++)
        if (l->at[i].type == PARAM_DOUBLE)
            return true;
    return false;
}

static bool has_fractions(const struct infer_request *r)
{
    bool any = has_fraction(&(struct params){r->params, r->n_params, 0});
    for (unsigned i = 0; i < r->n_inputs; i++)
        any |= has_fraction(r->inputs[i].params);
    for (unsigned i = 0; i < r->n_outputs; i++)
        any |= has_fraction(r->outputs[i].params);
    return any;
}

static void same_request(const struct infer_request *a, const struct infer_request *b)
{
    invariant(view_eq(a->id, b->id));
    invariant(hash128_eq(a->batch_key, b->batch_key) || has_fractions(a));
    invariant(a->rows == b->rows && a->bytes == b->bytes && a->format == b->format);
    invariant(a->timeout_us == b->timeout_us && a->priority == b->priority);
    invariant(a->sequence == b->sequence && a->n_params == b->n_params);
    for (unsigned i = 0; i < a->n_params; i++)
        same_param(&a->params[i], &b->params[i]);
    invariant(a->n_inputs == b->n_inputs && a->n_outputs == b->n_outputs);
    for (unsigned i = 0; i < a->n_inputs; i++) {
        const struct tensor *t = &a->inputs[i], *u = &b->inputs[i];
        invariant(view_eq(t->name, u->name) && t->dtype == u->dtype && t->rank == u->rank);
        invariant(tensor_same_shape(t, u));
        same_list(t->params, u->params);
        invariant(t->bytes == u->bytes && (!t->bytes || memcmp(t->data, u->data, t->bytes) == 0));
    }
    for (unsigned i = 0; i < a->n_outputs; i++) {
        invariant(a->outputs[i].binary == b->outputs[i].binary);
        same_list(a->outputs[i].params, b->outputs[i].params);
    }
}

static void check_tensors(const struct infer_request *r, size_t backing)
{
    size_t sum = 0;
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i];
        uint64_t want, count;
        invariant(tensor_count(t, &count));
        if (t->dtype == DT_BYTES)
            invariant(tensor_bytes_check(t->data, t->bytes, count));
        else
            invariant(tensor_size(t, &want) && want == t->bytes);
        sum += t->bytes;
    }
    invariant(r->n_inputs && r->bytes == sum && sum <= 8 * backing);
}

// ---- writing a request ---------------------------------------------------------------------------------

static void w_member(struct json_writer *w, struct view key, struct view text)
{
    json_w_key(w, key);
    json_w_string(w, text);
}

static void w_list(struct json_writer *w, const struct param *at, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct param *p = &at[i];
        json_w_key(w, p->key);
        if (p->type == PARAM_STRING)
            json_w_string(w, p->s);
        else if (p->type == PARAM_BOOL)
            json_w_bool(w, p->b);
        else if (p->type == PARAM_INT64)
            json_w_i64(w, p->i);
        else if (p->type == PARAM_UINT64)
            json_w_u64(w, p->u);
        else
            json_w_f64(w, p->d);
    }
}

static void w_params(struct json_writer *w, const struct infer_request *r)
{
    json_w_key(w, VIEW("parameters"));
    json_w_object(w);
    json_w_key(w, VIEW("timeout"));
    json_w_u64(w, r->timeout_us);
    json_w_key(w, VIEW("priority"));
    json_w_u64(w, r->priority);
    json_w_key(w, VIEW("binary_data_output"));
    json_w_bool(w, r->binary_output);
    w_list(w, r->params, r->n_params);
    json_w_object_end(w);
}

// All inputs as binary data.
static void w_inputs(struct json_writer *w, const struct infer_request *r, struct buffer *tail)
{
    json_w_key(w, VIEW("inputs"));
    json_w_array(w);
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i];
        json_w_object(w);
        w_member(w, VIEW("name"), t->name);
        w_member(w, VIEW("datatype"), view_str(dtype_table[t->dtype].name));
        json_w_key(w, VIEW("shape"));
        json_w_array(w);
        for (unsigned k = 0; k < t->rank; k++)
            json_w_i64(w, tensor_dim(t, k));
        json_w_array_end(w);
        json_w_key(w, VIEW("parameters"));
        json_w_object(w);
        json_w_key(w, VIEW("binary_data_size"));
        json_w_u64(w, t->bytes);
        if (t->params)
            w_list(w, t->params->at, t->params->n);
        json_w_object_end(w);
        json_w_object_end(w);
        invariant(buffer_append(tail, t->data, t->bytes));
    }
    json_w_array_end(w);
}

static void w_request(struct buffer *out, struct buffer *tail, const struct infer_request *r)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    w_member(&w, VIEW("id"), r->id);
    w_params(&w, r);
    json_w_key(&w, VIEW("outputs"));
    json_w_array(&w);
    for (unsigned i = 0; i < r->n_outputs; i++) {
        json_w_object(&w);
        w_member(&w, VIEW("name"), r->outputs[i].name);
        json_w_key(&w, VIEW("parameters"));
        json_w_object(&w);
        json_w_key(&w, VIEW("binary_data"));
        json_w_bool(&w, r->outputs[i].binary);
        json_w_key(&w, VIEW("classification"));
        json_w_u64(&w, r->outputs[i].classification);
        if (r->outputs[i].params)
            w_list(&w, r->outputs[i].params->at, r->outputs[i].params->n);
        json_w_object_end(&w);
        json_w_object_end(&w);
    }
    json_w_array_end(&w);
    w_inputs(&w, r, tail);
    json_w_object_end(&w);
    invariant(!w.failed);
}

// ---- an answer of the same tensors ---------------------------------------------------------------------

static bool write_answer(struct arena *a, const struct infer_request *r, const struct slice *s,
                         size_t max, struct buffer *out)
{
    struct oip_rest w;
    struct error e = {0};
    const struct oip_said said = {
        .model = r->model, .id = r->id, .params = r->params, .n_params = r->n_params};
    unsigned n = oip_rest_outputs(r, s->answer);
    oip_rest_begin(&w, r, s, &said, out, arena_array(a, n, sizeof(struct oip_seg)));
    enum oip_step step;
    while ((step = oip_rest_step(&w, max, &e)) == OIP_MORE)
        ;
    invariant((step == OIP_DONE) == (e.status == STATUS_OK));
    return step == OIP_DONE;
}

static bool same_values(const struct tensor *t, const struct tensor *u)
{
    if (t->dtype != u->dtype || t->bytes != u->bytes)
        return false;
    bool f32 = t->dtype == DT_FP32, f64 = t->dtype == DT_FP64;
    size_t size = f32 ? 4 : f64 ? 8 : t->bytes;
    for (size_t at = 0; at < t->bytes; at += size) {
        double d = f32 ? load_f32(t->data + at) : f64 ? load_f64(t->data + at) : 0;
        if (d == d && memcmp(t->data + at, u->data + at, size) != 0) // a NaN's payload is lost
            return false;
    }
    return true;
}

// An answer reads as a request when its outputs are called inputs.
static void read_back(struct arena *a, struct buffer *answer, const struct infer_request *r)
{
    struct infer_request back;
    struct error e;
    char *at = memmem(answer->data, answer->end, ",\"outputs\":[", 12);
    invariant(at);
    memcpy(at, ", \"inputs\":[", 12);
    invariant(decode(a, buffer_view(answer), VIEW(""), SIZE_MAX, &back, &e));
    invariant(back.n_inputs == r->n_inputs);
    for (unsigned i = 0; i < r->n_inputs; i++) {
        const struct tensor *t = &r->inputs[i], *u = &back.inputs[i];
        invariant(view_eq(t->name, u->name) && t->rank == u->rank && same_values(t, u));
        invariant(tensor_same_shape(t, u));
    }
}

static void check_answer(struct arena *a, const struct infer_request *r, size_t max)
{
    struct infer_request all = *r;
    struct block_owner owner;
    struct buffer whole, steps;
    block_owner_init(&owner);
    block_owner_adopt(&owner);
    buffer_init(&whole);
    buffer_init(&steps);
    struct block *b = block_new(&owner, 1);
    struct slice s = {.answer = answer_new(b, r->inputs, r->n_inputs, r->rows), .rows = r->rows};
    invariant(s.answer);
    all.n_outputs = 0;
    bool ok = write_answer(a, &all, &s, SIZE_MAX, &whole);
    invariant(ok == write_answer(a, &all, &s, max, &steps));
    invariant(!ok || view_eq(buffer_view(&whole), buffer_view(&steps)));
    if (ok && !r->binary_output)
        read_back(a, &whole, r);
    block_unref(b);
    block_owner_deinit(&owner);
    buffer_deinit(&whole);
    buffer_deinit(&steps);
}

// Exactly as many bytes as it says: ASan sees one too many.
static void check_copy(const struct infer_request *r)
{
    struct infer_request copy;
    void *memory = mem_must(request_copy_bytes(r));
    request_copy(&copy, memory, r);
    same_request(r, &copy);
    mem_free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t max = 1 + data[0], behind = data[1];
    struct view body = view_of(data + 2, size - 2);
    struct view json = view_of(body.p, behind <= body.n ? body.n - behind : body.n);
    struct view binary = view_of(body.p + json.n, body.n - json.n);
    struct infer_request whole, steps, again;
    struct error e, e2;
    struct arena a;
    struct buffer out, tail;
    arena_init(&a, 0);
    buffer_init(&out);
    buffer_init(&tail);
    bool ok = decode(&a, json, binary, SIZE_MAX, &whole, &e);
    invariant(ok == decode(&a, json, binary, max, &steps, &e2));
    invariant(ok || (e.status == STATUS_BAD_REQUEST && strcmp(e.text, e2.text) == 0));
    if (ok) {
        check_tensors(&whole, body.n);
        same_request(&whole, &steps);
        check_copy(&whole);
        w_request(&out, &tail, &whole);
        if (!decode(&a, buffer_view(&out), buffer_view(&tail), max, &again, &e))
            invariant(whole.n_params + 3 > INFER_MAX_PARAMS);
        else
            same_request(&whole, &again);
        check_answer(&a, &whole, max);
    }
    arena_deinit(&a);
    buffer_deinit(&out);
    buffer_deinit(&tail);
    return 0;
}
