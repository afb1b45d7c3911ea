#include "infer/oip_grpc.h"
#include "infer/oip_pb.h"

/* ModelInferRequest: first the message's fields, all bounded; then the data of one input after the other,
 * raw_input_contents as views, typed contents converted in steps. */

struct oip_grpc {
    struct arena *arena;
    struct infer_request *out;
    struct view message;
    struct view *contents; // [n_inputs], .p NULL: none
    struct view *raw;      // [n_raw]
    unsigned n_raw, cap_inputs, cap_contents, cap_outputs, cap_raw;
    unsigned done; // inputs whose data is there
    bool fields_read, converting, walking;
    struct params_sum sum;   // of the parameters of inputs and outputs
    struct tensor_walk walk; // over the elements of inputs[done], which are BYTES
    struct oip_contents converter;
};

static bool no_memory(struct error *e)
{
    return error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

static bool malformed(const char *why, struct error *e)
{
    return error_set(e, STATUS_BAD_REQUEST, "message: %s",
                     why ? why : "a field has another wire type");
}

static bool add_param(struct oip_grpc *d, struct view entry, struct error *e)
{
    struct infer_request *r = d->out;
    struct param p;
    if (!oip_pb_param(entry, &p))
        return error_set(e, STATUS_BAD_REQUEST, "parameters: an entry cannot be read");
    for (unsigned i = 0; i < r->n_params; i++)
        if (view_eq(r->params[i].key, p.key))
            return error_set(e, STATUS_BAD_REQUEST, "parameters: duplicate key");
    if (!r->params && !(r->params = arena_array(d->arena, INFER_MAX_PARAMS, sizeof(p))))
        return no_memory(e);
    return oip_take_param(r, &p, e);
}

static bool add_input(struct oip_grpc *d, struct view message, struct error *e)
{
    struct infer_request *r = d->out;
    struct oip_place at = {"inputs", r->n_inputs, "contents"};
    if (r->n_inputs == INFER_MAX_TENSORS)
        return error_set(e, STATUS_BAD_REQUEST, "inputs: more than %d", INFER_MAX_TENSORS);
    struct tensor *t = oip_grown(d->arena, r->inputs, r->n_inputs, &d->cap_inputs, sizeof(*t));
    struct view *c = oip_grown(d->arena, d->contents, r->n_inputs, &d->cap_contents, sizeof(*c));
    if (!t || !c)
        return no_memory(e);
    r->inputs = t;
    d->contents = c;
    if (!oip_pb_tensor(d->arena, message, &t[r->n_inputs], &c[r->n_inputs], &d->sum, &at, e))
        return false;
    r->n_inputs++;
    return true;
}

static bool output_param(struct oip_grpc *d, struct requested_output *o, struct view entry,
                         struct error *e)
{
    unsigned index = d->out->n_outputs;
    struct oip_place at = {"outputs", index, NULL};
    struct param p;
    if (!oip_pb_param(entry, &p))
        return error_set(e, STATUS_BAD_REQUEST, "outputs[%u].parameters: an entry cannot be read",
                         index);
    if (oip_is_shared_memory(p.key))
        return error_set(e, STATUS_BAD_REQUEST,
                         "outputs[%u].parameters: shared memory is not served over a network",
                         index);
    if (!view_is(p.key, "classification"))
        return oip_is_framing(p.key) || oip_add_param(d->arena, &o->params, &p, &d->sum, &at, e);
    bool whole = p.type == PARAM_INT64 || p.type == PARAM_UINT64; // one union
    if (!whole || p.u > UINT32_MAX)
        return error_set(
            e, STATUS_BAD_REQUEST,
            "outputs[%u].parameters.classification: expected a non-negative integer, got %s", index,
            oip_param_came(&p));
    o->classification = (uint32_t)p.u;
    return true;
}

static bool add_output(struct oip_grpc *d, struct view message, struct error *e)
{
    struct infer_request *r = d->out;
    struct pb_reader fields;
    struct pb_field f;
    if (r->n_outputs == INFER_MAX_TENSORS)
        return error_set(e, STATUS_BAD_REQUEST, "outputs: more than %d", INFER_MAX_TENSORS);
    struct requested_output *o =
        oip_grown(d->arena, r->outputs, r->n_outputs, &d->cap_outputs, sizeof(*o));
    if (!o)
        return no_memory(e);
    r->outputs = o;
    o += r->n_outputs;
    *o = (struct requested_output){.binary = true};
    pb_read(&fields, message);
    for (unsigned n = 0; pb_next(&fields, &f); n++) {
        if (n == OIP_MAX_FIELDS)
            return malformed("an output has too many fields", e);
        if (f.number > 2)
            continue;
        if (f.wire != PB_LEN)
            return malformed(NULL, e);
        if (f.number == 1)
            o->name = f.data;
        else if (!output_param(d, o, f.data, e))
            return false;
    }
    if (fields.error)
        return malformed(fields.error, e);
    if (o->name.n == 0 || !oip_text(o->name))
        return error_set(e, STATUS_BAD_REQUEST, "outputs[%u].name: expected a name", r->n_outputs);
    r->n_outputs++;
    return true;
}

static bool add_raw(struct oip_grpc *d, struct view bytes, struct error *e)
{
    if (d->n_raw == INFER_MAX_TENSORS)
        return error_set(e, STATUS_BAD_REQUEST, "raw_input_contents: more than %d",
                         INFER_MAX_TENSORS);
    struct view *raw = oip_grown(d->arena, d->raw, d->n_raw, &d->cap_raw, sizeof(*raw));
    if (!raw)
        return no_memory(e);
    d->raw = raw;
    raw[d->n_raw++] = bytes;
    return true;
}

static bool on_field(struct oip_grpc *d, const struct pb_field *f, struct error *e)
{
    struct infer_request *r = d->out;
    if (f->number > 7)
        return true;
    if (f->wire != PB_LEN)
        return malformed(NULL, e);
    switch (f->number) {
    case 1:
        r->model = f->data;
        return true;
    case 2:
        r->version = f->data;
        return true;
    case 3:
        r->id = f->data;
        return true;
    case 4:
        return add_param(d, f->data, e);
    case 5:
        return add_input(d, f->data, e);
    case 6:
        return add_output(d, f->data, e);
    default:
        return add_raw(d, f->data, e);
    }
}

static bool check_fields(struct oip_grpc *d, struct error *e)
{
    struct infer_request *r = d->out;
    if (!model_name_ok(r->model))
        return error_set(e, STATUS_BAD_REQUEST, "model_name: expected [A-Za-z0-9._+@~-]{1,128}");
    if (r->version.n && !model_name_ok(r->version))
        return error_set(e, STATUS_BAD_REQUEST, "model_version: expected [A-Za-z0-9._+@~-]{1,128}");
    if (!oip_text(r->id))
        return error_set(e, STATUS_BAD_REQUEST, "id: expected at most %zu bytes of UTF-8",
                         OIP_MAX_TEXT);
    if (r->n_inputs == 0)
        return error_set(e, STATUS_BAD_REQUEST, "inputs: expected at least one");
    if (!oip_check_names(r, "inputs", e))
        return false;
    if (d->n_raw && d->n_raw != r->n_inputs)
        return error_set(e, STATUS_BAD_REQUEST,
                         "raw_input_contents: expected %u, one for each input, got %u", r->n_inputs,
                         d->n_raw);
    for (unsigned i = 0; d->n_raw && i < r->n_inputs; i++)
        if (d->contents[i].n)
            return error_set(e, STATUS_BAD_REQUEST,
                             "inputs[%u].contents: comes together with raw_input_contents", i);
    return true;
}

static bool read_fields(struct oip_grpc *d, struct error *e)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, d->message);
    for (unsigned n = 0; pb_next(&r, &f); n++) {
        if (n == OIP_MAX_FIELDS)
            return malformed("too many fields", e);
        if (!on_field(d, &f, e))
            return false;
    }
    if (r.error)
        return malformed(r.error, e);
    d->fields_read = true;
    return check_fields(d, e);
}

static bool begin_raw(struct oip_grpc *d, struct error *e)
{
    struct oip_place at = {"inputs", d->done, "data"};
    struct tensor *t = &d->out->inputs[d->done];
    struct view raw = d->raw[d->done];
    t->data = raw.n ? (const uint8_t *)raw.p : NULL;
    t->bytes = raw.n;
    d->walk = (struct tensor_walk){0};
    return oip_check_raw(e, &at, t);
}

static enum oip_step take_raw(struct oip_grpc *d, struct error *e)
{
    const struct tensor *t = &d->out->inputs[d->done];
    if (!d->walking && !begin_raw(d, e))
        return OIP_ERROR;
    enum tensor_walk_end end = WALK_RIGHT;
    uint64_t count = 0;
    if (t->dtype == DT_BYTES && tensor_count(t, &count))
        end = tensor_bytes_walk(&d->walk, t->data, t->bytes, count, OIP_STEP_ELEMENTS);
    d->walking = end == WALK_MORE;
    if (end == WALK_WRONG) {
        error_set(e, STATUS_BAD_REQUEST,
                  "inputs[%u].data: the bytes are not as many BYTES elements as the shape says",
                  d->done);
        return OIP_ERROR;
    }
    d->done += end == WALK_RIGHT;
    return end == WALK_MORE ? OIP_MORE : OIP_DONE;
}

static enum oip_step take_contents(struct oip_grpc *d, size_t max, struct error *e)
{
    struct oip_place at = {"inputs", d->done, "contents"};
    if (!d->converting && !oip_contents_begin(&d->converter, d->arena, d->contents[d->done],
                                              &d->out->inputs[d->done], &at, e))
        return OIP_ERROR;
    d->converting = true;
    enum oip_step step = oip_contents_step(&d->converter, max, e);
    if (step == OIP_DONE) {
        d->converting = false;
        d->done++;
    }
    return step;
}

enum oip_step oip_grpc_step(struct oip_grpc *d, size_t max_bytes, struct error *e)
{
    if (!d->fields_read && !read_fields(d, e))
        return OIP_ERROR;
    size_t work = 0;
    while (d->done < d->out->n_inputs) {
        if (work >= max_bytes)
            return OIP_MORE;
        bool walked = !d->n_raw || d->out->inputs[d->done].dtype == DT_BYTES;
        work += walked ? (d->n_raw ? d->raw : d->contents)[d->done].n : 0;
        enum oip_step step = d->n_raw ? take_raw(d, e) : take_contents(d, max_bytes, e);
        if (step != OIP_DONE)
            return step;
    }
    return oip_seal(d->out, e) ? OIP_DONE : OIP_ERROR;
}

struct oip_grpc *oip_grpc_begin(struct arena *a, struct view message, struct infer_request *out)
{
    struct oip_grpc *d = arena_alloc(a, sizeof(*d));
    if (!d)
        return NULL;
    *out = (struct infer_request){.format = FORMAT_OIP_GRPC};
    *d = (struct oip_grpc){.arena = a, .out = out, .message = message};
    return d;
}

bool oip_grpc_decode(struct arena *a, struct view message, struct infer_request *out,
                     struct error *e)
{
    struct oip_grpc *d = oip_grpc_begin(a, message, out);
    if (!d)
        return no_memory(e);
    enum oip_step s;
    while ((s = oip_grpc_step(d, SIZE_MAX, e)) == OIP_MORE)
        ;
    return s == OIP_DONE;
}
