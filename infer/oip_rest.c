#include "infer/oip_rest.h"
#include "base/json_inside.h" // json_utf8_length
#include "base/pen.h"

/* {"model_name":"digits","model_version":"1","id":"7","parameters":{…},"outputs":[
 *   {"name":"probs","datatype":"FP32","shape":[1,10],"data":[…]},…]}                                    */

enum state { HEAD, NEXT, VALUES, TAIL, WHOLE };

#define CHUNK 4096 // values written between two looks at the budget

// ---- which outputs -------------------------------------------------------------------------------------

unsigned oip_rest_outputs(const struct infer_request *request, const struct answer *a)
{
    return request->n_outputs ? request->n_outputs : a->n_outputs;
}

unsigned oip_wanted_output(const struct infer_request *request, const struct answer *a, unsigned k,
                           bool *binary)
{
    if (request->n_outputs == 0) {
        *binary = request->binary_output;
        return k;
    }
    *binary = request->outputs[k].binary;
    for (unsigned i = 0; i < a->n_outputs; i++)
        if (view_eq(a->outputs[i].name, request->outputs[k].name))
            return i;
    return UINT32_MAX;
}

// ---- writing -------------------------------------------------------------------------------------------

#define SHORT_STRING 1024 // longer ones are not given six times their room at once

#define PUT(out, lit) put_literal((out), (lit), sizeof(lit) - 1)

static inline __attribute__((always_inline)) bool put_literal(struct buffer *out, const char *p,
                                                              size_t n)
{
    uint8_t *at = buffer_room(out, n);
    if (!at)
        return false;
    memcpy(at, p, n); // n is a constant
    buffer_commit(out, n);
    return true;
}

static bool put_string(struct buffer *out, struct view v)
{
    if (v.n > SHORT_STRING) {
        struct json_writer w;
        json_write(&w, out);
        json_w_string(&w, v);
        return !w.failed;
    }
    char *at = (char *)buffer_room(out, PEN_JSON(v.n));
    if (!at)
        return false;
    buffer_commit(out, (size_t)(pen_json(at, v) - at));
    return true;
}

// What needs no escape: a model's name, a datatype's.
static bool put_plain(struct buffer *out, struct view v)
{
    char *at = (char *)buffer_room(out, v.n + 2);
    if (!at)
        return false;
    buffer_commit(out, (size_t)(pen_plain(at, v) - at));
    return true;
}

static bool put_i64(struct buffer *out, int64_t v)
{
    char *at = (char *)buffer_room(out, PEN_NUMBER);
    if (!at)
        return false;
    buffer_commit(out, num_print_i64(at, v));
    return true;
}

static bool put_shape(struct buffer *out, const struct tensor *t)
{
    char *start = (char *)buffer_room(out, 2 + TENSOR_MAX_RANK * (PEN_NUMBER + 1)), *at = start;
    if (!start)
        return false;
    *at++ = '[';
    for (unsigned i = 0; i < t->rank; i++) {
        if (i > 0)
            *at++ = ',';
        at = pen_i64(at, tensor_dim(t, i));
    }
    *at++ = ']';
    buffer_commit(out, (size_t)(at - start));
    return true;
}

static bool put_number(struct buffer *out, const struct param *p)
{
    char *at = (char *)buffer_room(out, PEN_NUMBER), *end = at;
    if (!at)
        return false;
    if (p->type == PARAM_INT64)
        end = pen_i64(at, p->i);
    else if (p->type == PARAM_UINT64)
        end = pen_u64(at, p->u);
    else
        end = pen_json_f64(at, p->d);
    buffer_commit(out, (size_t)(end - at));
    return true;
}

// Its value.
static bool put_param(struct buffer *out, const struct param *p)
{
    if (p->type == PARAM_STRING)
        return put_string(out, p->s);
    if (p->type == PARAM_BOOL)
        return p->b ? PUT(out, "true") : PUT(out, "false");
    return put_number(out, p);
}

// Their keys are words of ours.
static bool put_ours(struct buffer *out, const struct param *at, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        char *to = (char *)buffer_room(out, at[i].key.n + 4);
        if (!to)
            return false;
        char *end = pen_plain(i > 0 ? PEN_LIT(to, ",") : to, at[i].key);
        buffer_commit(out, (size_t)(PEN_LIT(end, ":") - to));
        if (!put_param(out, &at[i]))
            return false;
    }
    return true;
}

// comma: something stands before it.
static bool put_list(struct buffer *out, const struct param *at, unsigned n, bool comma)
{
    bool ok = true;
    for (unsigned i = 0; ok && i < n; i++)
        ok = ((i == 0 && !comma) || PUT(out, ",")) && put_string(out, at[i].key) && PUT(out, ":") &&
             put_param(out, &at[i]);
    return ok;
}

static bool put_params(struct buffer *out, const struct oip_said *s)
{
    bool ok = PUT(out, ",\"parameters\":{") && put_ours(out, s->params, s->n_params);
    if (s->theirs)
        ok = ok && put_list(out, s->theirs->at, s->theirs->n, s->n_params > 0);
    return ok && PUT(out, "}");
}

static bool put_tensor_params(struct buffer *out, const struct params *l)
{
    return PUT(out, ",\"parameters\":{") && put_list(out, l->at, l->n, false) && PUT(out, "}");
}

static bool put_head(struct buffer *out, const struct oip_said *s)
{
    bool ok = PUT(out, "{\"model_name\":") && put_plain(out, s->model);
    if (s->version.n)
        ok = ok && PUT(out, ",\"model_version\":") && put_string(out, s->version);
    if (s->id.n)
        ok = ok && PUT(out, ",\"id\":") && put_string(out, s->id);
    if (s->n_params || s->theirs)
        ok = ok && put_params(out, s);
    return ok && PUT(out, ",\"outputs\":[");
}

static bool put_tensor_head(struct buffer *out, const struct tensor *t)
{
    return PUT(out, "{\"name\":") && put_string(out, t->name) && PUT(out, ",\"datatype\":") &&
           put_plain(out, view_str(dtype_table[t->dtype].name)) && PUT(out, ",\"shape\":") &&
           put_shape(out, t);
}

// ---- values --------------------------------------------------------------------------------------------

static int64_t load_signed(const uint8_t *p, enum dtype dtype)
{
    switch (dtype) {
    case DT_INT8:
        return (int8_t)*p;
    case DT_INT16: {
        int16_t v;
        memcpy(&v, p, sizeof(v));
        return v;
    }
    case DT_INT32:
        return (int32_t)load_u32(p);
    default:
        return (int64_t)load_u64(p);
    }
}

static uint64_t load_unsigned(const uint8_t *p, enum dtype dtype)
{
    switch (dtype) {
    case DT_UINT8:
        return *p;
    case DT_UINT16: {
        uint16_t v;
        memcpy(&v, p, sizeof(v));
        return v;
    }
    case DT_UINT32:
        return load_u32(p);
    default:
        return load_u64(p);
    }
}

// JSON strings are UTF-8; bytes that are not would be silently changed.
static bool plain_text(struct view v)
{
    for (size_t i = 0; i < v.n;) {
        unsigned n = (unsigned char)v.p[i] < 0x80 ? 1 : json_utf8_length(v.p + i, v.p + v.n);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

static bool put_element(struct oip_rest *w, struct json_writer *json, struct error *e)
{
    const uint8_t *p = w->tensor.data + w->at;
    struct view v = view_of(p + 4, load_u32(p));
    if (!plain_text(v))
        return error_set(e, STATUS_BAD_REQUEST,
                         "outputs[%u]: its BYTES are not UTF-8, ask for it with binary_data", w->k);
    json_w_string(json, v);
    w->at += 4 + v.n;
    return true;
}

static bool put_value(struct oip_rest *w, struct json_writer *json, struct error *e)
{
    enum dtype dtype = w->tensor.dtype;
    const uint8_t *p = w->tensor.data + (w->i - w->part_i) * dtype_table[dtype].bytes;
    switch (dtype) {
    case DT_BOOL:
        json_w_bool(json, *p != 0);
        return true;
    case DT_FP64:
        json_w_f64(json, load_f64(p));
        return true;
    case DT_UINT8:
    case DT_UINT16:
    case DT_UINT32:
    case DT_UINT64:
        json_w_u64(json, load_unsigned(p, dtype));
        return true;
    case DT_BYTES:
        return put_element(w, json, e);
    default:
        json_w_i64(json, load_signed(p, dtype));
        return true;
    }
}

static bool no_memory(struct error *e)
{
    return error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

// The array of floats in one call, brackets and all, cut where the chunk ends.
static bool put_floats(struct oip_rest *w, uint64_t n, struct error *e)
{
    struct json_writer json;
    json_write(&json, w->out);
    size_t start = buffer_len(w->out);
    json_w_f32_array(&json, n > 0 ? w->tensor.data + (w->i - w->part_i) * 4 : NULL, n);
    if (json.failed)
        return no_memory(e);
    uint8_t *at = w->out->data + w->out->at;
    at[start] = w->i ? ',' : '['; // the chunk's own brackets
    w->i += n;
    if (w->i < w->n)
        w->out->end--;
    return true;
}

static bool put_values(struct oip_rest *w, uint64_t n, struct error *e)
{
    if (w->tensor.dtype == DT_FP32)
        return put_floats(w, n, e);
    struct json_writer json;
    if (w->i == 0 && !PUT(w->out, "["))
        return no_memory(e);
    json_write(&json, w->out);
    json.comma = w->i > 0;
    for (uint64_t end = w->i + n; w->i < end; w->i++)
        if (!put_value(w, &json, e))
            return false;
    if (w->i == w->n)
        json_w_array_end(&json);
    return !json.failed || no_memory(e);
}

// ---- steps ---------------------------------------------------------------------------------------------

void oip_rest_begin(struct oip_rest *w, const struct infer_request *request,
                    const struct slice *slice, const struct oip_said *said, struct buffer *out,
                    struct oip_seg *binary)
{
    *w = (struct oip_rest){.request = request,
                           .slice = slice,
                           .said = said,
                           .out = out,
                           .binary = binary,
                           .n_wanted = oip_rest_outputs(request, slice->answer)};
}

static bool put_blob(struct oip_rest *w, unsigned index, const struct tensor *whole,
                     struct error *e)
{
    const struct params *l = whole->params;
    if (!PUT(w->out, ",\"parameters\":{\"binary_data_size\":") ||
        !put_i64(w->out, (int64_t)whole->bytes) || (l && !put_list(w->out, l->at, l->n, true)) ||
        !PUT(w->out, "}}"))
        return no_memory(e);
    for (const struct slice *part = w->slice; part; part = part->next) {
        struct tensor t = slice_output(part, index);
        if (t.bytes)
            w->binary[w->n_binary++] = (struct oip_seg){t.data, t.bytes, true, part->answer->block};
    }
    w->k++;
    return true;
}

// The part's rows of the output are next, so many elements.
static void begin_part(struct oip_rest *w, const struct slice *part, const struct tensor *rows,
                       uint64_t count)
{
    w->before += w->part_end > 0 ? w->tensor.bytes : 0;
    w->part = part;
    w->tensor = *rows;
    w->part_i = w->part_end;
    w->at = 0;
    w->part_end += count;
}

// One of several: they are no more elements than all of them, which were counted.
static void next_part(struct oip_rest *w, const struct slice *part)
{
    uint64_t count = 0;
    struct tensor rows = slice_output(part, w->index);
    tensor_count(&rows, &count);
    begin_part(w, part, &rows, count);
}

static bool next_output(struct oip_rest *w, struct error *e)
{
    bool binary;
    if (w->k == w->n_wanted) {
        w->state = TAIL;
        return true;
    }
    unsigned index = oip_wanted_output(w->request, w->slice->answer, w->k, &binary);
    if (index == UINT32_MAX) {
        w->k++;
        return true;
    }
    struct tensor whole = slice_whole(w->slice, index), *t = &whole;
    if (!binary && !dtype_table[t->dtype].json)
        return error_set(e, STATUS_BAD_REQUEST,
                         "outputs[%u]: %s has no JSON form, ask for it with binary_data", w->k,
                         dtype_table[t->dtype].name);
    if (!tensor_count(t, &w->n))
        return error_set(e, STATUS_BAD_ANSWER, "outputs[%u]: its shape is out of range", w->k);
    if ((w->any && !PUT(w->out, ",")) || !put_tensor_head(w->out, t))
        return no_memory(e);
    w->any = true;
    if (binary)
        return put_blob(w, index, t, e);
    if (t->params && !put_tensor_params(w->out, t->params))
        return no_memory(e);
    w->i = w->part_end = w->before = 0;
    w->index = index;
    if (w->slice->next)
        next_part(w, w->slice);
    else
        begin_part(w, w->slice, &whole, w->n);
    w->state = VALUES;
    return PUT(w->out, ",\"data\":") || no_memory(e);
}

static bool values(struct oip_rest *w, struct error *e)
{
    if (w->i == w->part_end && w->part->next)
        next_part(w, w->part->next);
    uint64_t left = w->part_end - w->i;
    if (!put_values(w, left < CHUNK ? left : CHUNK, e))
        return false;
    if (w->i < w->n)
        return true;
    w->k++;
    w->state = NEXT;
    return PUT(w->out, "}") || no_memory(e);
}

static bool head(struct oip_rest *w)
{
    size_t start = buffer_len(w->out);
    w->state = w->known.n > 0 ? WHOLE : NEXT;
    if (!put_head(w->out, w->said))
        return false;
    w->head = buffer_len(w->out) - start;
    return w->known.n == 0 || buffer_append(w->out, w->known.p, w->known.n);
}

static bool step(struct oip_rest *w, struct error *e)
{
    switch ((enum state)w->state) {
    case HEAD:
        return head(w) || no_memory(e);
    case NEXT:
        return next_output(w, e);
    case VALUES:
        return values(w, e);
    case TAIL:
        w->state = WHOLE;
        return PUT(w->out, "]}") || no_memory(e);
    case WHOLE:
        break;
    }
    return true;
}

enum oip_step oip_rest_step(struct oip_rest *w, size_t max_bytes, struct error *e)
{
    size_t start = buffer_len(w->out);
    while (w->state != WHOLE) {
        if (buffer_len(w->out) - start >= max_bytes)
            return OIP_MORE;
        if (!step(w, e))
            return OIP_ERROR;
    }
    return OIP_DONE;
}

bool oip_rest_is_sure(const struct oip_rest *w)
{
    for (unsigned k = 0; k < w->n_wanted; k++) {
        bool binary;
        uint64_t n;
        unsigned index = oip_wanted_output(w->request, w->slice->answer, k, &binary);
        if (index == UINT32_MAX)
            continue;
        if (binary)
            return false;
        struct tensor t = slice_whole(w->slice, index);
        if (!dtype_table[t.dtype].json || t.dtype == DT_BYTES || !tensor_count(&t, &n))
            return false;
    }
    return true;
}

void oip_rest_move(struct oip_rest *w, const struct slice *slice)
{
    if (w->state == VALUES) {
        const struct slice *was = w->slice, *now = slice;
        for (; was != w->part; was = was->next)
            now = now->next;
        w->part = now;
        w->tensor = slice_output(now, w->index);
    }
    w->slice = slice;
}

void oip_rest_progress(const struct oip_rest *w, size_t *done, size_t *left)
{
    *done = *left = 0;
    for (unsigned k = 0; k < w->n_wanted; k++) {
        bool binary;
        unsigned index = oip_wanted_output(w->request, w->slice->answer, k, &binary);
        if (index == UINT32_MAX || binary)
            continue;
        size_t bytes = slice_whole(w->slice, index).bytes;
        size_t size = dtype_table[w->tensor.dtype].bytes, written = k < w->k ? bytes : 0;
        if (k == w->k && w->state == VALUES)
            written = size ? w->i * size : w->before + w->at;
        *done += written;
        *left += bytes - written;
    }
}
