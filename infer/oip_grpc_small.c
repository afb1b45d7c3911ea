#include "infer/model_config.h"
#include "infer/oip_grpc.h"
#include "infer/oip_pb.h"

/* The small calls of the service: each message is a few fields. Numbers: triton-inference-server/common
 * protobuf/grpc_service.proto, model_config.proto; grpc/grpc health.proto. */

// ---- reading -------------------------------------------------------------------------------------------

// Walks a message whose fields are told one by one; false: not a message, or on_field said so. How many they
// are is the bound of the message: api/ reads at most 1 MiB of a client's.
typedef bool on_field(const struct pb_field *f, void *ctx);

static bool walk(struct view message, on_field *f, void *ctx)
{
    struct pb_reader r;
    struct pb_field field;
    pb_read(&r, message);
    while (pb_next(&r, &field))
        if (!f(&field, ctx))
            return false;
    return !r.error;
}

static bool take_text(const struct pb_field *f, struct view *out)
{
    *out = f->data;
    return f->wire == PB_LEN && oip_text(f->data);
}

struct two_texts {
    struct view *first, *second; // fields 1 and 2
};

static bool on_two_texts(const struct pb_field *f, void *ctx)
{
    struct two_texts *t = ctx;
    if (f->number == 1)
        return take_text(f, t->first);
    return f->number != 2 || take_text(f, t->second);
}

bool oip_grpc_read_model_request(struct view message, struct view *name, struct view *version)
{
    *name = *version = (struct view){0};
    return walk(message, on_two_texts, &(struct two_texts){name, version});
}

bool oip_grpc_read_health_request(struct view message, struct view *service)
{
    struct view nothing;
    *service = (struct view){0};
    return walk(message, on_two_texts, &(struct two_texts){service, &nothing});
}

static bool on_bool_2(const struct pb_field *f, void *ctx)
{
    if (f->number != 2)
        return true;
    *(bool *)ctx = f->value != 0;
    return f->wire == PB_VARINT;
}

bool oip_grpc_read_index_request(struct view message, bool *ready)
{
    *ready = false;
    return walk(message, on_bool_2, ready);
}

static bool on_bool_1(const struct pb_field *f, void *ctx)
{
    if (f->number != 1)
        return true;
    *(bool *)ctx = f->value != 0;
    return f->wire == PB_VARINT;
}

bool oip_grpc_read_ready(struct view message, bool *ready)
{
    *ready = false;
    return walk(message, on_bool_1, ready);
}

#define INSTANCES_MOST 65536

struct instance_group {
    uint32_t count, devices;
    bool passive; // takes no requests
};

// A packed list of varints has as many as bytes that end one.
static uint32_t count_varints(struct view packed)
{
    uint32_t n = 0;
    for (size_t i = 0; i < packed.n; i++)
        n += ((unsigned char)packed.p[i] & 0x80) == 0;
    return n;
}

// ModelInstanceGroup: count = 2, gpus = 3, passive = 7.
static bool on_group_field(const struct pb_field *f, void *ctx)
{
    struct instance_group *g = ctx;
    if (f->number == 2) {
        int32_t count = (int32_t)f->value;
        g->count = count > 0 ? (uint32_t)count : 0;
    } else if (f->number == 3) {
        g->devices += f->wire == PB_LEN ? count_varints(f->data) : 1;
    } else if (f->number == 7) {
        g->passive = f->value != 0;
    }
    return f->wire == PB_VARINT || (f->number != 2 && f->number != 7);
}

// Each group has so many instances on each of its devices.
static bool add_group(struct model_metadata *c, struct view message)
{
    struct instance_group g = {0};
    if (!walk(message, on_group_field, &g))
        return false;
    uint64_t n = g.passive ? 0 : (uint64_t)g.count * (g.devices > 0 ? g.devices : 1);
    n += c->instances;
    c->instances = n < INSTANCES_MOST ? (uint32_t)n : INSTANCES_MOST;
    return true;
}

struct parameter { // of a map of ModelParameter
    struct view key, value;
};

static bool on_parameter_value(const struct pb_field *f, void *ctx)
{
    if (f->number == 1)
        ((struct parameter *)ctx)->value = f->data;
    return f->number != 1 || f->wire == PB_LEN;
}

static bool on_parameter(const struct pb_field *f, void *ctx)
{
    if (f->number == 1)
        ((struct parameter *)ctx)->key = f->data;
    if (f->number == 2)
        return f->wire == PB_LEN && walk(f->data, on_parameter_value, ctx);
    return f->number != 1 || f->wire == PB_LEN;
}

static bool add_parameter(struct model_metadata *c, struct view message)
{
    struct parameter p = {0};
    if (!walk(message, on_parameter, &p))
        return false;
    if (view_is(p.key, MODEL_CONFIG_SERIAL))
        c->serial = view_is(p.value, "true");
    return true;
}

static bool on_config_field(const struct pb_field *f, void *ctx)
{
    struct model_metadata *c = ctx;
    if (f->number == 7) // instance_group
        return f->wire == PB_LEN && add_group(c, f->data);
    if (f->number == 14) // parameters
        return f->wire == PB_LEN && add_parameter(c, f->data);
    if (f->number != 4) // max_batch_size, int32
        return true;
    int32_t v = (int32_t)f->value;
    c->max_batch = v > 0 ? (uint32_t)v : 0;
    return f->wire == PB_VARINT;
}

static bool on_config(const struct pb_field *f, void *ctx)
{
    if (f->number != 1)
        return true;
    ((struct model_metadata *)ctx)->config = f->data;
    return f->wire == PB_LEN;
}

bool oip_grpc_read_config(struct view message, struct model_metadata *out, struct error *e)
{
    out->max_batch = out->instances = 0;
    out->serial = false;
    out->config = (struct view){0};
    struct model_metadata c = *out;
    if (!walk(message, on_config, &c))
        return error_set(e, STATUS_BAD_ANSWER, "the worker's configuration: not whole");
    if (!model_config_check(c.config, e))
        return false;
    if (!walk(c.config, on_config_field, &c))
        return error_set(e, STATUS_BAD_ANSWER,
                         "the worker's configuration: a field has another wire type");
    *out = c;
    return true;
}

// Lists grow in the arena; each entry is backed by its own field.
struct listing {
    struct arena *arena;
    struct oip_index *index;
    unsigned cap;
};

static bool on_index_line(const struct pb_field *f, void *ctx)
{
    struct oip_index_model *m = ctx;
    struct view *const at[5] = {NULL, &m->name, &m->version, &m->state, &m->reason};
    return f->number > 4 || take_text(f, at[f->number]);
}

static bool on_index(const struct pb_field *f, void *ctx)
{
    struct listing *l = ctx;
    struct oip_index_model m = {0};
    if (f->number != 1)
        return true;
    if (f->wire != PB_LEN || !walk(f->data, on_index_line, &m) || l->index->n == OIP_MAX_INDEX)
        return false;
    l->index->models =
        oip_grown(l->arena, l->index->models, l->index->n, &l->cap, sizeof(*l->index->models));
    if (!l->index->models)
        return false;
    l->index->models[l->index->n++] = m;
    return true;
}

bool oip_grpc_read_index(struct arena *a, struct view message, struct oip_index *out)
{
    *out = (struct oip_index){0};
    return walk(message, on_index, &(struct listing){.arena = a, .index = out});
}

// ---- metadata of a model -------------------------------------------------------------------------------

struct metadata {
    struct arena *arena;
    struct model_metadata *m;
    unsigned cap_versions, cap_inputs, cap_outputs;
    struct error *e;
};

static bool bad(struct metadata *d, const char *what)
{
    return error_set(d->e, STATUS_BAD_ANSWER, "the worker's metadata: %s", what);
}

struct metadata_tensor { // one that is being read
    struct arena *arena;
    struct tensor t;
    unsigned dims; // that came
};

static bool add_dim(struct metadata_tensor *d, uint64_t v)
{
    return (int64_t)v >= -1 &&
           (++d->dims > TENSOR_MAX_RANK || tensor_add_dim(d->arena, &d->t, (int64_t)v));
}

static bool on_tensor(const struct pb_field *f, void *ctx)
{
    struct metadata_tensor *d = ctx;
    struct pb_reader run;
    uint64_t v;
    struct view name;
    switch (f->number) {
    case 1:
        return take_text(f, &d->t.name);
    case 2:
        d->t.dtype = take_text(f, &name) ? dtype_of(name) : DT_INVALID;
        return true;
    case 3:
        if (f->wire == PB_VARINT)
            return add_dim(d, f->value);
        pb_read(&run, f->data);
        while (pb_packed_varint(&run, &v))
            if (!add_dim(d, v))
                return false;
        return f->wire == PB_LEN && !run.error;
    default:
        return true;
    }
}

static bool bad_rank(struct metadata *d, const struct metadata_tensor *it)
{
    struct view name = view_of(it->t.name.p, it->t.name.n < 80 ? it->t.name.n : 80);
    return error_set(d->e, STATUS_BAD_ANSWER,
                     "the worker's metadata: tensor %.*s: expected at most %d dimensions, got %u",
                     VIEW_ARG(name), TENSOR_MAX_RANK, it->dims);
}

static bool add_tensor(struct metadata *d, const struct pb_field *f, struct tensor **list,
                       uint16_t *n, unsigned *cap)
{
    struct metadata_tensor it = {.arena = d->arena};
    if (f->wire != PB_LEN || !walk(f->data, on_tensor, &it) || !it.t.name.n)
        return bad(d, "a tensor cannot be read");
    if (it.dims > TENSOR_MAX_RANK)
        return bad_rank(d, &it);
    struct tensor t = it.t;
    if (t.dtype == DT_INVALID)
        return bad(d, "a tensor has an unknown datatype");
    if (*n == INFER_MAX_TENSORS)
        return bad(d, "more than 256 tensors");
    struct tensor *at = oip_grown(d->arena, *list, *n, cap, sizeof(t));
    if (!at)
        return error_set(d->e, STATUS_UNAVAILABLE, "out of memory");
    *list = at;
    at[(*n)++] = t;
    return true;
}

static bool add_version(struct metadata *d, const struct pb_field *f)
{
    struct view v;
    if (d->m->n_versions == INFER_MAX_VERSIONS)
        return bad(d, "more than 1024 versions");
    if (!take_text(f, &v))
        return bad(d, "a version cannot be read");
    struct view *at =
        oip_grown(d->arena, d->m->versions, d->m->n_versions, &d->cap_versions, sizeof(v));
    if (!at)
        return error_set(d->e, STATUS_UNAVAILABLE, "out of memory");
    d->m->versions = at;
    at[d->m->n_versions++] = v;
    return true;
}

static bool on_metadata(const struct pb_field *f, void *ctx)
{
    struct metadata *d = ctx;
    struct model_metadata *m = d->m;
    switch (f->number) {
    case 1:
        return take_text(f, &m->name) || bad(d, "its name cannot be read");
    case 2:
        return add_version(d, f);
    case 3:
        return take_text(f, &m->platform) || bad(d, "its platform cannot be read");
    case 4:
        return add_tensor(d, f, &m->inputs, &m->n_inputs, &d->cap_inputs);
    case 5:
        return add_tensor(d, f, &m->outputs, &m->n_outputs, &d->cap_outputs);
    default:
        return true;
    }
}

bool oip_grpc_read_metadata(struct arena *a, struct view message, struct model_metadata *out,
                            struct error *e)
{
    struct metadata d = {.arena = a, .m = out, .e = e};
    *out = (struct model_metadata){0};
    *e = (struct error){0};
    if (!walk(message, on_metadata, &d))
        return e->status ? false : bad(&d, "the message cannot be read");
    return model_name_ok(out->name) || bad(&d, "its name is not [A-Za-z0-9._+@~-]{1,128}");
}

// ---- writing -------------------------------------------------------------------------------------------

struct view oip_grpc_model_request(struct arena *a, struct view name, struct view version)
{
    size_t n = oip_pb_text_size(1, name) + oip_pb_text_size(2, version);
    uint8_t *p = arena_alloc_aligned(a, n, 1);
    if (!p)
        return (struct view){0};
    oip_pb_w_text(oip_pb_w_text(p, 1, name), 2, version);
    return view_of(p, n);
}

struct view oip_grpc_index_request(struct arena *a, bool ready)
{
    static const uint8_t only_ready[] = {2 << 3 | PB_VARINT, 1};
    return ready ? view_of(only_ready, sizeof(only_ready)) : (struct view){0};
}

bool oip_grpc_ready(struct buffer *out, bool ready)
{
    static const uint8_t yes[] = {1 << 3 | PB_VARINT, 1};
    return !ready || buffer_append(out, yes, sizeof(yes)); // proto3: false is left out
}

// ServingStatus: SERVING = 1, NOT_SERVING = 2.
bool oip_grpc_health(struct buffer *out, bool serving)
{
    uint8_t status[] = {1 << 3 | PB_VARINT, serving ? 1 : 2};
    return buffer_append(out, status, sizeof(status));
}

bool oip_grpc_server(struct buffer *out, struct view name, struct view version,
                     unsigned n_extensions)
{
    size_t n = oip_pb_text_size(1, name) + oip_pb_text_size(2, version);
    for (unsigned i = 0; i < n_extensions; i++)
        n += pb_len_size(3, oip_extensions[i].n);
    uint8_t *at = buffer_reserve(out, n);
    if (!at)
        return false;
    at = oip_pb_w_text(oip_pb_w_text(at, 1, name), 2, version);
    for (unsigned i = 0; i < n_extensions; i++)
        at = pb_w_bytes(at, 3, oip_extensions[i]);
    buffer_commit(out, n);
    return true;
}

bool oip_grpc_metadata(struct buffer *out, const struct model_metadata *m)
{
    size_t n = oip_pb_text_size(1, m->name) + oip_pb_text_size(3, m->platform);
    for (unsigned i = 0; i < m->n_versions; i++)
        n += pb_len_size(2, m->versions[i].n);
    for (unsigned i = 0; i < m->n_inputs; i++)
        n += oip_pb_tensor_size(4, &m->inputs[i], 0);
    for (unsigned i = 0; i < m->n_outputs; i++)
        n += oip_pb_tensor_size(5, &m->outputs[i], 0);
    uint8_t *at = buffer_reserve(out, n);
    if (!at)
        return false;
    at = oip_pb_w_text(at, 1, m->name);
    for (unsigned i = 0; i < m->n_versions; i++)
        at = pb_w_bytes(at, 2, m->versions[i]);
    at = oip_pb_w_text(at, 3, m->platform);
    for (unsigned i = 0; i < m->n_inputs; i++)
        at = oip_pb_w_tensor(at, 4, &m->inputs[i], 0);
    for (unsigned i = 0; i < m->n_outputs; i++)
        at = oip_pb_w_tensor(at, 5, &m->outputs[i], 0);
    buffer_commit(out, n);
    return true;
}

static size_t line_size(const struct oip_index_model *m)
{
    return oip_pb_text_size(1, m->name) + oip_pb_text_size(2, m->version) +
           oip_pb_text_size(3, m->state) + oip_pb_text_size(4, m->reason);
}

bool oip_grpc_index(struct buffer *out, const struct oip_index *index)
{
    size_t n = 0;
    for (unsigned i = 0; i < index->n; i++)
        n += pb_len_size(1, line_size(&index->models[i]));
    uint8_t *at = buffer_reserve(out, n);
    if (!at)
        return false;
    for (unsigned i = 0; i < index->n; i++) {
        const struct oip_index_model *m = &index->models[i];
        at = pb_w_len(at, 1, line_size(m));
        at = oip_pb_w_text(at, 1, m->name);
        at = oip_pb_w_text(at, 2, m->version);
        at = oip_pb_w_text(at, 3, m->state);
        at = oip_pb_w_text(at, 4, m->reason);
    }
    buffer_commit(out, n);
    return true;
}
