#include "infer/oip_json.h"
#include "base/num.h"
#include "infer/oip_data.h"
#include <inttypes.h>

/* The whole request is one object. Everything that is bounded is read in one go; what a client can make
 * long (data, skipped values) is read in steps, so the reader's place is kept in a state. An optional member
 * that is null counts as absent.
 *
 *   TOP ──inputs──► INPUTS ──{──► INPUT ──data──► DATA ─► INPUT …
 *    ▲▲                ▲            │ └─data before shape and datatype──► SKIP ─► INPUT
 *    ││                └─────}──────┘─(data was skipped: read it now)──► DATA ─► INPUTS
 *    ││                └─────}─(its data are bytes behind the JSON, of BYTES)──► BLOB ─► INPUTS
 *    │└──outputs──► OUTPUTS ──{──► OUTPUT …
 *    └──unknown key──► SKIP                       TOP ──}──► END
 */
enum place {
    AT_START,
    AT_TOP,
    AT_INPUTS,
    AT_INPUT,
    AT_OUTPUTS,
    AT_OUTPUT,
    AT_DATA,
    AT_BLOB,
    AT_SKIP,
    AT_END
};

#define MAX_KEYS 256 // of one object

// Which of an object's known keys came, and the unknown ones.
struct keys {
    uint32_t seen; // bit per known key
    unsigned unknown;
    struct json_keyset set;
};

enum { TOP_ID, TOP_PARAMETERS, TOP_INPUTS, TOP_OUTPUTS };
enum { IN_NAME, IN_SHAPE, IN_DATATYPE, IN_PARAMETERS, IN_DATA };
enum { OUT_NAME, OUT_PARAMETERS };

struct oip_json {
    struct json_reader r;
    struct arena *arena;
    struct infer_request *out;
    bool answer;        // it is one: its outputs are read as inputs
    struct view binary; // bytes behind the JSON
    size_t binary_at;   // given to inputs so far
    unsigned cap_inputs, cap_outputs;
    enum place place, after_skip;
    uint8_t skip_depth;    // AT_SKIP ends when the reader is back at it
    struct keys top, keys; // of the request; of the present input or output
    struct tensor tensor;  // the present input
    bool has_data, has_blob;
    uint64_t blob;           // its binary_data_size
    struct tensor_walk walk; // over the blob's elements
    bool later;              // its data stood before its shape or datatype: saved
    bool reading_later;
    struct json_reader saved, behind; // at the saved data; behind the input
    struct requested_output output;   // the present one
    struct params_sum sum;            // of the parameters of inputs and outputs
    bool output_said;                 // it has binary_data
    uint64_t said[INFER_MAX_TENSORS / 64];
    struct oip_data data;
};

// ---- errors --------------------------------------------------------------------------------------------

static bool no_memory(struct error *e)
{
    return error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

// Not JSON: the reader knows what and where. Or a string that is cut where none may be.
static bool broken(struct oip_json *d, struct error *e)
{
    if (d->r.resume)
        return error_set(e, STATUS_BAD_REQUEST,
                         "body: a string outside of data is longer than %zu bytes (byte %zu)",
                         OIP_MAX_TEXT, d->r.token_at);
    return error_set(e, STATUS_BAD_REQUEST, "body: %s (byte %zu)", d->r.error, d->r.error_at);
}

static bool in_input(const struct oip_json *d)
{
    return d->place == AT_INPUT;
}

// What the tensors with data are called.
static const char *tensors(const struct oip_json *d)
{
    return d->answer ? "outputs" : "inputs";
}

static const char *list(const struct oip_json *d)
{
    return in_input(d) ? tensors(d) : "outputs";
}

static unsigned item(const struct oip_json *d)
{
    return in_input(d) ? d->out->n_inputs : d->out->n_outputs;
}

static bool refuse(struct oip_json *d, struct error *e, const char *field, const char *what,
                   const char *came)
{
    if (d->place == AT_TOP)
        return error_set(e, STATUS_BAD_REQUEST, "%s: expected %s, got %s (byte %zu)", field, what,
                         came, d->r.token_at);
    return error_set(e, STATUS_BAD_REQUEST, "%s[%u]%s%s: expected %s, got %s (byte %zu)", list(d),
                     item(d), *field ? "." : "", field, what, came, d->r.token_at);
}

// A token came that the field does not take.
static bool expected(struct oip_json *d, enum json_token got, struct error *e, const char *field,
                     const char *what)
{
    return got == JSON_ERROR || got == JSON_MORE ? broken(d, e)
                                                 : refuse(d, e, field, what, oip_json_came(got));
}

// ---- keys ----------------------------------------------------------------------------------------------

static void keys_init(struct keys *k, struct arena *a)
{
    k->seen = 0;
    k->unknown = 0;
    json_keyset_init(&k->set, a);
}

static bool duplicate(struct oip_json *d, struct error *e)
{
    return error_set(e, STATUS_BAD_REQUEST, "body: duplicate key (byte %zu)", d->r.token_at);
}

static bool add_unknown(struct oip_json *d, struct keys *k, struct view key, struct error *e)
{
    if (++k->unknown > MAX_KEYS)
        return error_set(e, STATUS_BAD_REQUEST, "body: more than %d keys in one object (byte %zu)",
                         MAX_KEYS, d->r.token_at);
    switch (json_keyset_add(&k->set, key)) {
    case JSON_SEEN_NEW:
        return true;
    case JSON_SEEN_BEFORE:
        return duplicate(d, e);
    default:
        return no_memory(e);
    }
}

static bool text(struct oip_json *d, struct view *out, struct error *e)
{
    if (!d->r.escaped) {
        *out = d->r.text;
        return true;
    }
    return json_unescape(&d->r, d->arena, out) || no_memory(e);
}

// The key just read: its index in names, or -1 when unknown; -2: e.
static int which_key(struct oip_json *d, struct keys *k, const struct view *names, int n,
                     struct error *e)
{
    struct view key;
    if (!text(d, &key, e))
        return -2;
    for (int i = 0; i < n; i++) {
        if (!view_eq(key, names[i]))
            continue;
        if (k->seen & 1u << i) {
            duplicate(d, e);
            return -2;
        }
        k->seen |= 1u << i;
        return i;
    }
    return add_unknown(d, k, key, e) ? -1 : -2;
}

// The value of a key that we do not know.
static bool skip(struct oip_json *d, struct error *e)
{
    d->skip_depth = d->r.depth;
    enum json_token token = json_next(&d->r);
    if (token == JSON_ERROR)
        return broken(d, e);
    if (token == JSON_OBJECT || token == JSON_ARRAY || token == JSON_MORE) {
        d->after_skip = d->place;
        d->place = AT_SKIP;
    }
    return true;
}

// ---- parameters ----------------------------------------------------------------------------------------

// The value behind a parameter's key. false: e.
static bool read_param_value(struct oip_json *d, enum json_token token, struct param *p,
                             const char *field, struct error *e)
{
    switch (token) {
    case JSON_TRUE:
    case JSON_FALSE:
        p->type = PARAM_BOOL;
        p->b = token == JSON_TRUE;
        return true;
    case JSON_STRING:
        p->type = PARAM_STRING;
        return text(d, &p->s, e);
    case JSON_NUMBER:
        p->type = PARAM_INT64;
        if (num_parse_i64(d->r.text, &p->i) == NUM_OK)
            return true;
        p->type = PARAM_UINT64;
        if (num_parse_u64(d->r.text, &p->u) == NUM_OK)
            return true;
        p->type = PARAM_DOUBLE;
        if (num_parse_f64(d->r.text, &p->d) == NUM_OK)
            return true;
        return refuse(d, e, field, "a number in range", "a larger one");
    default:
        return expected(d, token, e, field, "a string, a number, true or false as value");
    }
}

typedef bool take_param(struct oip_json *d, const struct param *p, struct error *e);

// An object of parameters, given one by one.
static bool read_params(struct oip_json *d, take_param *take, struct error *e)
{
    enum json_token token = json_next(&d->r), value;
    if (token == JSON_NULL)
        return true;
    if (token != JSON_OBJECT)
        return expected(d, token, e, "parameters", "an object");
    struct keys keys;
    keys_init(&keys, d->arena);
    while ((token = json_next(&d->r)) == JSON_KEY) {
        struct param p = {0};
        if (!text(d, &p.key, e) || !add_unknown(d, &keys, p.key, e))
            return false;
        if ((value = json_next(&d->r)) == JSON_NULL)
            continue;
        if (!read_param_value(d, value, &p, "parameters", e) || !take(d, &p, e))
            return false;
    }
    return token == JSON_OBJECT_END || broken(d, e);
}

static bool take_request_param(struct oip_json *d, const struct param *p, struct error *e)
{
    if (!d->out->params) {
        d->out->params = arena_array(d->arena, INFER_MAX_PARAMS, sizeof(struct param));
        if (!d->out->params)
            return no_memory(e);
    }
    return oip_take_param(d->out, p, e);
}

static bool no_shared_memory(struct oip_json *d, struct error *e)
{
    return error_set(e, STATUS_BAD_REQUEST,
                     "%s[%u].parameters: shared memory is not served over a network", list(d),
                     item(d));
}

// One that is for the model.
static bool keep_param(struct oip_json *d, const struct params **to, const struct param *p,
                       struct error *e)
{
    struct oip_place at = {list(d), item(d), NULL};
    return oip_add_param(d->arena, to, p, &d->sum, &at, e);
}

static bool take_input_param(struct oip_json *d, const struct param *p, struct error *e)
{
    if (oip_is_shared_memory(p->key))
        return no_shared_memory(d, e);
    if (!oip_is_framing(p->key))
        return keep_param(d, &d->tensor.params, p, e);
    if (!view_is(p->key, "binary_data_size"))
        return true;
    if (p->type != PARAM_INT64 || p->i < 0)
        return refuse(d, e, "parameters.binary_data_size", "a non-negative integer",
                      oip_param_came(p));
    d->has_blob = true;
    d->blob = (uint64_t)p->i;
    return true;
}

static bool take_output_param(struct oip_json *d, const struct param *p, struct error *e)
{
    if (oip_is_shared_memory(p->key))
        return no_shared_memory(d, e);
    if (view_is(p->key, "binary_data")) {
        if (p->type != PARAM_BOOL)
            return refuse(d, e, "parameters.binary_data", "true or false", oip_param_came(p));
        d->output.binary = p->b;
        d->output_said = true;
    } else if (view_is(p->key, "classification")) {
        if (p->type != PARAM_INT64 || p->i < 0 || p->i > UINT32_MAX)
            return refuse(d, e, "parameters.classification", "a non-negative integer",
                          oip_param_came(p));
        d->output.classification = (uint32_t)p->i;
    } else if (!oip_is_framing(p->key)) {
        return keep_param(d, &d->output.params, p, e);
    }
    return true;
}

// ---- an input ------------------------------------------------------------------------------------------

static bool read_name(struct oip_json *d, struct view *name, struct error *e)
{
    enum json_token token = json_next(&d->r);
    if (token != JSON_STRING)
        return expected(d, token, e, "name", "a string");
    if (!text(d, name, e))
        return false;
    return name->n > 0 || refuse(d, e, "name", "a name", "an empty string");
}

static bool read_shape(struct oip_json *d, struct error *e)
{
    struct tensor *t = &d->tensor;
    enum json_token token = json_next(&d->r);
    if (token != JSON_ARRAY)
        return expected(d, token, e, "shape", "an array of non-negative integers");
    unsigned came = 0;
    while (came < OIP_RANK_COUNTED && (token = json_next(&d->r)) == JSON_NUMBER) {
        int64_t v;
        if (num_parse_i64(d->r.text, &v) != NUM_OK || v < 0)
            return refuse(d, e, "shape", "non-negative integers", "another number");
        if (++came <= TENSOR_MAX_RANK && !tensor_add_dim(d->arena, t, v))
            return no_memory(e);
    }
    char text[16];
    if (came > TENSOR_MAX_RANK)
        return refuse(d, e, "shape", "at most 16 dimensions", oip_rank_text(text, came));
    return token == JSON_ARRAY_END || expected(d, token, e, "shape", "non-negative integers");
}

static bool read_datatype(struct oip_json *d, struct error *e)
{
    enum json_token token = json_next(&d->r);
    if (token != JSON_STRING)
        return expected(d, token, e, "datatype", "a string");
    struct view v;
    if (!text(d, &v, e))
        return false;
    d->tensor.dtype = dtype_of(v);
    return d->tensor.dtype != DT_INVALID ||
           refuse(d, e, "datatype", "a known datatype", "another string");
}

static bool begin_data(struct oip_json *d, struct error *e)
{
    struct oip_place at = {tensors(d), d->out->n_inputs, "data"};
    d->place = AT_DATA;
    return oip_data_begin(&d->data, &d->r, d->arena, &d->tensor, &at, e);
}

static bool read_data(struct oip_json *d, struct error *e)
{
    const uint32_t needed = 1u << IN_SHAPE | 1u << IN_DATATYPE;
    struct json_reader before = d->r;
    enum json_token token = json_next(&d->r);
    if (token == JSON_NULL)
        return true;
    if (token != JSON_ARRAY)
        return expected(d, token, e, "data", "an array");
    d->has_data = true;
    if ((d->keys.seen & needed) == needed)
        return begin_data(d, e);
    d->saved = d->r;
    d->later = true;
    d->r = before;
    d->r.nul = d->r.words = true; // it may be of BYTES, or of floats
    return skip(d, e);
}

// The next run of the bytes behind the JSON is this input's.
static bool take_blob(struct oip_json *d, struct error *e)
{
    struct oip_place at = {tensors(d), d->out->n_inputs, "parameters.binary_data_size"};
    if (d->has_data)
        return error_set(e, STATUS_BAD_REQUEST, "%s[%u]: has both data and binary_data_size",
                         at.what, at.index);
    if (d->blob > d->binary.n - d->binary_at)
        return error_set(e, STATUS_BAD_REQUEST,
                         "%s[%u].%s: %" PRIu64 " bytes, but only %zu are left behind the JSON",
                         at.what, at.index, at.field, d->blob, d->binary.n - d->binary_at);
    struct tensor *t = &d->tensor;
    t->bytes = d->blob;
    t->data = t->bytes ? (const uint8_t *)d->binary.p + d->binary_at : NULL;
    d->binary_at += d->blob;
    return oip_check_raw(e, &at, t);
}

static bool push_input(struct oip_json *d, struct error *e)
{
    struct infer_request *r = d->out;
    struct tensor *at = oip_grown(d->arena, r->inputs, r->n_inputs, &d->cap_inputs, sizeof(*at));
    if (!at)
        return no_memory(e);
    r->inputs = at;
    r->inputs[r->n_inputs++] = d->tensor;
    d->place = AT_INPUTS;
    return true;
}

// BYTES behind the JSON: are they as many elements as the shape says? Walked in steps.
static bool walk_blob(struct oip_json *d, struct error *e)
{
    const struct tensor *t = &d->tensor;
    uint64_t count = 0;
    tensor_count(t, &count); // it fits: oip_check_raw
    switch (tensor_bytes_walk(&d->walk, t->data, t->bytes, count, OIP_STEP_ELEMENTS)) {
    case WALK_RIGHT:
        return push_input(d, e);
    case WALK_MORE:
        d->place = AT_BLOB;
        return true;
    default:
        return error_set(e, STATUS_BAD_REQUEST,
                         "inputs[%u]: the binary data is not %" PRIu64 " BYTES elements",
                         d->out->n_inputs, count);
    }
}

static bool blob_done(struct oip_json *d, struct error *e)
{
    if (!take_blob(d, e))
        return false;
    d->walk = (struct tensor_walk){0};
    return d->tensor.dtype == DT_BYTES ? walk_blob(d, e) : push_input(d, e);
}

// The input's object is complete.
static bool input_done(struct oip_json *d, struct error *e)
{
    static const char *const names[] = {"name", "shape", "datatype"};
    for (int i = IN_NAME; i <= IN_DATATYPE; i++)
        if (!(d->keys.seen & 1u << i))
            return error_set(e, STATUS_BAD_REQUEST, "%s[%u].%s: missing", tensors(d),
                             d->out->n_inputs, names[i]);
    if (d->has_blob)
        return blob_done(d, e);
    if (d->later) {
        d->behind = d->r;
        d->r = d->saved;
        d->reading_later = true;
        return begin_data(d, e);
    }
    if (!d->has_data)
        return error_set(e, STATUS_BAD_REQUEST, "%s[%u].data: missing", tensors(d),
                         d->out->n_inputs);
    return push_input(d, e);
}

static bool step_input(struct oip_json *d, struct error *e)
{
    static const struct view names[] = {
        {"name", 4}, {"shape", 5}, {"datatype", 8}, {"parameters", 10}, {"data", 4}};
    enum json_token token = json_next(&d->r);
    if (token == JSON_OBJECT_END)
        return input_done(d, e);
    if (token != JSON_KEY)
        return broken(d, e);
    switch (which_key(d, &d->keys, names, 5, e)) {
    case IN_NAME:
        return read_name(d, &d->tensor.name, e);
    case IN_SHAPE:
        return read_shape(d, e);
    case IN_DATATYPE:
        return read_datatype(d, e);
    case IN_PARAMETERS:
        return read_params(d, take_input_param, e);
    case IN_DATA:
        return read_data(d, e);
    case -1:
        return skip(d, e);
    default:
        return false;
    }
}

static bool step_inputs(struct oip_json *d, struct error *e)
{
    enum json_token token = json_next(&d->r);
    if (token == JSON_ARRAY_END) {
        d->place = AT_TOP;
        return true;
    }
    d->place = AT_INPUT;
    if (token != JSON_OBJECT)
        return expected(d, token, e, "", "an object");
    if (d->out->n_inputs == INFER_MAX_TENSORS)
        return error_set(e, STATUS_BAD_REQUEST, "%s: more than %d", tensors(d), INFER_MAX_TENSORS);
    keys_init(&d->keys, d->arena);
    memset(&d->tensor, 0, sizeof(d->tensor));
    d->has_data = d->has_blob = d->later = d->reading_later = false;
    return true;
}

// ---- a requested output ----------------------------------------------------------------------------------

static bool output_done(struct oip_json *d, struct error *e)
{
    struct infer_request *r = d->out;
    if (!(d->keys.seen & 1u << OUT_NAME))
        return error_set(e, STATUS_BAD_REQUEST, "outputs[%u].name: missing", r->n_outputs);
    struct requested_output *at =
        oip_grown(d->arena, r->outputs, r->n_outputs, &d->cap_outputs, sizeof(*at));
    if (!at)
        return no_memory(e);
    r->outputs = at;
    if (d->output_said)
        d->said[r->n_outputs / 64] |= (uint64_t)1 << (r->n_outputs % 64);
    r->outputs[r->n_outputs++] = d->output;
    d->place = AT_OUTPUTS;
    return true;
}

static bool step_output(struct oip_json *d, struct error *e)
{
    static const struct view names[] = {{"name", 4}, {"parameters", 10}};
    enum json_token token = json_next(&d->r);
    if (token == JSON_OBJECT_END)
        return output_done(d, e);
    if (token != JSON_KEY)
        return broken(d, e);
    switch (which_key(d, &d->keys, names, 2, e)) {
    case OUT_NAME:
        return read_name(d, &d->output.name, e);
    case OUT_PARAMETERS:
        return read_params(d, take_output_param, e);
    case -1:
        return skip(d, e);
    default:
        return false;
    }
}

static bool step_outputs(struct oip_json *d, struct error *e)
{
    enum json_token token = json_next(&d->r);
    if (token == JSON_ARRAY_END) {
        d->place = AT_TOP;
        return true;
    }
    d->place = AT_OUTPUT;
    if (token != JSON_OBJECT)
        return expected(d, token, e, "", "an object");
    if (d->out->n_outputs == INFER_MAX_TENSORS)
        return error_set(e, STATUS_BAD_REQUEST, "outputs: more than %d", INFER_MAX_TENSORS);
    keys_init(&d->keys, d->arena);
    memset(&d->output, 0, sizeof(d->output));
    d->output_said = false;
    return true;
}

// ---- the request -----------------------------------------------------------------------------------------

static bool begin_list(struct oip_json *d, bool inputs, struct error *e)
{
    if (inputs && d->answer)
        return error_set(e, STATUS_BAD_REQUEST, "inputs: an answer has none");
    enum json_token token = json_next(&d->r);
    if (token == JSON_NULL)
        return true;
    if (token != JSON_ARRAY)
        return expected(d, token, e, inputs ? "inputs" : "outputs", "an array");
    d->place = inputs || d->answer ? AT_INPUTS : AT_OUTPUTS;
    return true;
}

static bool step_top(struct oip_json *d, struct error *e)
{
    static const struct view names[] = {
        {"id", 2}, {"parameters", 10}, {"inputs", 6}, {"outputs", 7}};
    enum json_token token = json_next(&d->r);
    if (token == JSON_OBJECT_END) {
        d->place = AT_END;
        return true;
    }
    if (token != JSON_KEY)
        return broken(d, e);
    int key = which_key(d, &d->top, names, 4, e);
    switch (key) {
    case TOP_ID:
        token = json_next(&d->r);
        if (token == JSON_NULL)
            return true;
        return token == JSON_STRING ? text(d, &d->out->id, e)
                                    : expected(d, token, e, "id", "a string");
    case TOP_PARAMETERS:
        return d->answer ? skip(d, e) : read_params(d, take_request_param, e);
    case TOP_INPUTS:
    case TOP_OUTPUTS:
        return begin_list(d, key == TOP_INPUTS, e);
    case -1:
        return skip(d, e);
    default:
        return false;
    }
}

static bool step_start(struct oip_json *d, struct error *e)
{
    enum json_token token = json_next(&d->r);
    d->place = AT_TOP;
    return token == JSON_OBJECT || expected(d, token, e, "body", "an object");
}

// How to answer; what no output said for itself.
static void settle_format(struct oip_json *d)
{
    struct infer_request *r = d->out;
    bool binary = r->n_outputs == 0 && r->binary_output;
    for (unsigned i = 0; i < r->n_outputs; i++) {
        if (!(d->said[i / 64] >> (i % 64) & 1))
            r->outputs[i].binary = r->binary_output;
        binary |= r->outputs[i].binary;
    }
    r->format = binary ? FORMAT_OIP_BINARY : FORMAT_OIP_JSON;
}

static bool finish(struct oip_json *d, struct error *e)
{
    if (json_next(&d->r) != JSON_END)
        return broken(d, e);
    if (d->out->n_inputs == 0)
        return error_set(e, STATUS_BAD_REQUEST, "%s: %s", tensors(d),
                         d->top.seen & 1u << (d->answer ? TOP_OUTPUTS : TOP_INPUTS)
                             ? "expected at least one"
                             : "missing");
    if (d->binary_at != d->binary.n)
        return error_set(e, STATUS_BAD_REQUEST,
                         "body: %zu bytes behind the JSON belong to no input",
                         d->binary.n - d->binary_at);
    if (!oip_check_names(d->out, tensors(d), e))
        return false;
    settle_format(d);
    return oip_seal(d->out, e);
}

static bool step_data(struct oip_json *d, size_t max, struct error *e)
{
    enum oip_step step = oip_data_step(&d->data, max, e);
    if (step != OIP_DONE)
        return step == OIP_MORE;
    d->place = AT_INPUT;
    d->r.nul = d->r.words = false;
    if (!d->reading_later)
        return true;
    d->r = d->behind;
    return push_input(d, e);
}

static bool step_skip(struct oip_json *d, struct error *e)
{
    for (int i = 0; i < 64 && (d->r.depth > d->skip_depth || d->r.resume); i++) {
        enum json_token token = json_next(&d->r);
        if (token == JSON_ERROR)
            return broken(d, e);
        if (token == JSON_MORE)
            return true;
    }
    if (d->r.depth == d->skip_depth) {
        d->place = d->after_skip;
        d->r.nul = d->r.words = false;
    }
    return true;
}

static bool step(struct oip_json *d, size_t max, struct error *e)
{
    switch (d->place) {
    case AT_START:
        return step_start(d, e);
    case AT_TOP:
        return step_top(d, e);
    case AT_INPUTS:
        return step_inputs(d, e);
    case AT_INPUT:
        return step_input(d, e);
    case AT_OUTPUTS:
        return step_outputs(d, e);
    case AT_OUTPUT:
        return step_output(d, e);
    case AT_DATA:
        return step_data(d, max, e);
    case AT_BLOB:
        return walk_blob(d, e);
    case AT_SKIP:
        return step_skip(d, e);
    case AT_END:
        break;
    }
    return true;
}

enum oip_step oip_json_step(struct oip_json *d, size_t max_bytes, struct error *e)
{
    size_t work = 0;
    while (d->place != AT_END) {
        if (work >= max_bytes)
            return OIP_MORE;
        const char *before = d->r.at;
        if (!step(d, max_bytes - work, e))
            return OIP_ERROR;
        // The reader goes back once for data that stood too early, and once for BYTES.
        work += d->r.at > before ? (size_t)(d->r.at - before) : max_bytes - work;
    }
    return finish(d, e) ? OIP_DONE : OIP_ERROR;
}

struct oip_json *oip_json_begin(struct arena *a, struct view json, struct view binary,
                                struct infer_request *out)
{
    struct oip_json *d = arena_zalloc(a, sizeof(*d));
    if (!d)
        return NULL;
    *out = (struct infer_request){.model = out->model, .version = out->version};
    d->arena = a;
    d->out = out;
    d->binary = binary;
    keys_init(&d->top, a);
    json_read(&d->r, json);
    d->r.slice = OIP_MAX_TEXT;
    return d;
}

static bool decode_all(struct oip_json *d, struct error *e)
{
    enum oip_step s;
    while ((s = oip_json_step(d, SIZE_MAX, e)) == OIP_MORE)
        ;
    return s == OIP_DONE;
}

bool oip_json_decode(struct arena *a, struct view json, struct view binary,
                     struct infer_request *out, struct error *e)
{
    struct oip_json *d = oip_json_begin(a, json, binary, out);
    if (!d)
        return no_memory(e);
    return decode_all(d, e);
}

bool oip_json_decode_answer(struct arena *a, struct view json, struct tensor **outputs, unsigned *n,
                            struct error *e)
{
    struct infer_request r = {0};
    struct oip_json *d = oip_json_begin(a, json, (struct view){0}, &r);
    if (!d)
        return no_memory(e);
    d->answer = true;
    if (!decode_all(d, e))
        return false;
    *outputs = r.inputs;
    *n = r.n_inputs;
    return true;
}
