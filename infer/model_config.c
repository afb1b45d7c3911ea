#include "infer/model_config.h"

#include "base/num.h"
#include "infer/oip_pb.h"
#include "infer/schema_rows.h"

enum { MAX_BATCH_SIZE = 4, PARAMETERS = 14 }; // of ModelConfig

// ---- its rows ------------------------------------------------------------------------------------------

static bool is_field(const struct schema_row *row)
{
    return row->kind == FIELD || row->kind == MAP;
}

static const struct schema_row *row_of(const struct schema_row *message, uint32_t number)
{
    for (const struct schema_row *r = message + 1; r->kind != END; r++)
        if (is_field(r) && r->number == number)
            return r;
    return NULL;
}

static bool is_list(const struct schema_row *row)
{
    return row->kind == MAP || row->how == MANY;
}

static bool is_number(const struct schema_row *row)
{
    return row->kind == FIELD && row->type != STRING && row->type != GROUP_OF;
}

static enum pb_wire wire_of(const struct schema_row *row)
{
    return row->type == FLOAT ? PB_I32 : row->type == DOUBLE ? PB_I64 : PB_VARINT;
}

// The value of a map's entry; and the entry as a message.
static struct schema_row value_of(const struct schema_row *map)
{
    return (struct schema_row){FIELD, map->name, 2, map->type, ONE, NULL, NULL, map->links};
}

struct entry {
    struct schema_row rows[4];
};

static struct entry entry_of(const struct schema_row *map)
{
    return (struct entry){
        {OPEN(MESSAGE, map->name), HAS("key", 1, map->how, ONE), value_of(map), CLOSE}};
}

// ---- checking ------------------------------------------------------------------------------------------

static bool is_packed(const struct schema_row *row, struct view run)
{
    struct pb_reader r;
    uint64_t v;
    if (wire_of(row) != PB_VARINT)
        return run.n % (row->type == FLOAT ? 4 : 8) == 0;
    pb_read(&r, run);
    while (pb_packed_varint(&r, &v))
        ;
    return !r.error;
}

static bool fault(struct error *e, const struct schema_row *row, const char *why)
{
    return error_set(e, STATUS_BAD_ANSWER, "the worker's configuration: %s%s%s",
                     row ? row->name : "", row ? ": " : "", why);
}

static bool check(const struct schema_row *message, const struct schema_row *at, struct view bytes,
                  unsigned *left, struct error *e);

static bool check_field(const struct schema_row *row, const struct pb_field *f, unsigned *left,
                        struct error *e)
{
    if (row->kind == MAP && f->wire == PB_LEN) {
        struct entry entry = entry_of(row);
        return check(entry.rows, row, f->data, left, e);
    }
    if (row->type == GROUP_OF && f->wire == PB_LEN)
        return check(row->links, row, f->data, left, e);
    if (row->type == STRING && f->wire == PB_LEN)
        return oip_text(f->data) || fault(e, row, "expected UTF-8");
    if (is_number(row) && row->how == MANY && f->wire == PB_LEN)
        return is_packed(row, f->data) || fault(e, row, "a list ends too early");
    return (is_number(row) && f->wire == wire_of(row)) ||
           fault(e, row, "a field has another wire type");
}

static bool check(const struct schema_row *message, const struct schema_row *at, struct view bytes,
                  unsigned *left, struct error *e)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, bytes);
    while (pb_next(&r, &f)) {
        if ((*left)-- == 0)
            return fault(e, NULL, "more than 4096 fields");
        const struct schema_row *row = row_of(message, f.number);
        if (row && !check_field(row, &f, left, e))
            return false;
    }
    return !r.error || fault(e, at, r.error);
}

bool model_config_check(struct view message, struct error *e)
{
    unsigned left = MODEL_CONFIG_FIELDS;
    if (message.n > MODEL_CONFIG_MOST)
        return fault(e, NULL, "more than 64 KiB");
    return check(schema_config, NULL, message, &left, e);
}

// ---- what is told --------------------------------------------------------------------------------------

static bool is_serial_device(struct view entry)
{
    struct pb_reader r;
    struct pb_field f;
    bool is = false;
    pb_read(&r, entry);
    while (pb_next(&r, &f))
        is |= f.number == 1 && f.wire == PB_LEN && view_is(f.data, MODEL_CONFIG_SERIAL);
    return is;
}

// ModelInput and ModelOutput: name 1, data_type 2, dims 4 (of an output 3), without the batch dimension.
static size_t io_size(const struct tensor *t, unsigned skip, unsigned dims_field)
{
    size_t dims = 0;
    for (unsigned i = skip; i < t->rank; i++)
        dims += pb_varint_size((uint64_t)tensor_dim(t, i));
    return pb_len_size(1, t->name.n) + pb_uint_size(2, dtype_table[t->dtype].config) +
           (dims ? pb_len_size(dims_field, dims) : 0);
}

static uint8_t *w_io(uint8_t *at, uint32_t field, const struct tensor *t, unsigned skip,
                     unsigned dims_field)
{
    size_t dims = 0;
    for (unsigned i = skip; i < t->rank; i++)
        dims += pb_varint_size((uint64_t)tensor_dim(t, i));
    at = pb_w_len(at, field, io_size(t, skip, dims_field));
    at = pb_w_bytes(at, 1, t->name);
    at = pb_w_uint(at, 2, dtype_table[t->dtype].config);
    if (dims)
        at = pb_w_len(at, dims_field, dims);
    for (unsigned i = skip; i < t->rank; i++)
        at = pb_w_varint(at, (uint64_t)tensor_dim(t, i));
    return at;
}

// An entry of ModelConfig.parameters: that the server has one serial device.
static uint8_t *w_serial(uint8_t *at, size_t entry, size_t value)
{
    at = pb_w_len(at, PARAMETERS, entry);
    at = pb_w_bytes(at, 1, VIEW(MODEL_CONFIG_SERIAL));
    return pb_w_bytes(pb_w_len(at, 2, value), 1, VIEW("true"));
}

// What the metadata say, where there is no message.
static bool invent(struct buffer *out, const struct model_metadata *m)
{
    unsigned skip = m->max_batch ? 1 : 0;
    size_t n = oip_pb_text_size(1, m->name) + oip_pb_text_size(2, m->platform);
    if (m->max_batch)
        n += pb_uint_size(MAX_BATCH_SIZE, m->max_batch);
    for (unsigned i = 0; i < m->n_inputs; i++)
        n += pb_len_size(5, io_size(&m->inputs[i], skip, 4));
    for (unsigned i = 0; i < m->n_outputs; i++)
        n += pb_len_size(6, io_size(&m->outputs[i], skip, 3));
    size_t group = m->instances ? pb_uint_size(2, m->instances) : 0; // ModelInstanceGroup.count
    size_t value = pb_len_size(1, sizeof("true") - 1);
    size_t entry = pb_len_size(1, sizeof(MODEL_CONFIG_SERIAL) - 1) + pb_len_size(2, value);
    n += m->instances ? pb_len_size(7, group) : 0;
    n += m->serial ? pb_len_size(PARAMETERS, entry) : 0;
    uint8_t *at = buffer_reserve(out, n);
    if (!at)
        return false;
    at = oip_pb_w_text(oip_pb_w_text(at, 1, m->name), 2, m->platform);
    if (m->max_batch)
        at = pb_w_uint(at, MAX_BATCH_SIZE, m->max_batch);
    for (unsigned i = 0; i < m->n_inputs; i++)
        at = w_io(at, 5, &m->inputs[i], skip, 4);
    for (unsigned i = 0; i < m->n_outputs; i++)
        at = w_io(at, 6, &m->outputs[i], skip, 3);
    if (m->instances)
        at = pb_w_uint(pb_w_len(at, 7, group), 2, m->instances);
    if (m->serial)
        at = w_serial(at, entry, value);
    buffer_commit(out, n);
    return true;
}

// The worker's message with ours behind it: of a field that comes twice the last one counts.
static bool compose(struct buffer *out, const struct model_metadata *m)
{
    if (m->config.n == 0)
        return invent(out, m);
    struct pb_reader r;
    struct pb_field f;
    uint8_t ours[16], *end = pb_w_uint(ours, MAX_BATCH_SIZE, m->max_batch);
    bool ok = true;
    pb_read(&r, m->config);
    for (const uint8_t *from = r.at; ok && pb_next(&r, &f); from = r.at) {
        if (f.number != PARAMETERS || f.wire != PB_LEN || !is_serial_device(f.data))
            ok = buffer_append(out, from, (size_t)(r.at - from));
    }
    return ok && buffer_append(out, ours, (size_t)(end - ours));
}

bool model_config_pb(struct buffer *out, const struct model_metadata *m)
{
    struct buffer told;
    uint8_t head[16];
    buffer_init(&told);
    bool ok = compose(&told, m);
    size_t n = buffer_len(&told);
    ok = ok && buffer_append(out, head, (size_t)(pb_w_len(head, 1, n) - head)) &&
         buffer_append(out, buffer_view(&told).p, n);
    buffer_deinit(&told);
    return ok;
}

// ---- JSON ----------------------------------------------------------------------------------------------

static void put_message(struct json_writer *w, const struct schema_row *message, struct view bytes);

static void put_word(struct json_writer *w, const struct schema_row *names, uint64_t v)
{
    for (const struct schema_row *r = names + 1; r->kind != END; r++) {
        if (r->number == v) {
            json_w_string(w, view_str(r->name));
            return;
        }
    }
    json_w_i64(w, (int64_t)v); // of a newer server
}

static void put_value(struct json_writer *w, const struct schema_row *row, const struct pb_field *f)
{
    float f32;
    double f64;
    memcpy(&f32, &f->value, sizeof(f32));
    memcpy(&f64, &f->value, sizeof(f64));
    switch ((enum schema_type)row->type) {
    case STRING:
    case BYTES:
        json_w_string(w, f->data);
        break;
    case BOOL:
        json_w_bool(w, f->value != 0);
        break;
    case INT32:
    case INT64:
        json_w_i64(w, (int64_t)f->value);
        break;
    case UINT32:
    case UINT64:
        json_w_u64(w, f->value);
        break;
    case FLOAT:
        json_w_f32(w, f32);
        break;
    case DOUBLE:
        json_w_f64(w, f64);
        break;
    case ENUM_OF:
        put_word(w, row->links, f->value);
        break;
    case GROUP_OF:
        put_message(w, row->links, f->data);
        break;
    }
}

// The values of a list of numbers in one run.
static void put_packed(struct json_writer *w, const struct schema_row *row, struct view run)
{
    struct pb_field f = {.wire = wire_of(row)};
    size_t size = row->type == FLOAT ? 4 : 8;
    struct pb_reader r;
    if (f.wire == PB_VARINT) {
        pb_read(&r, run);
        while (pb_packed_varint(&r, &f.value))
            put_value(w, row, &f);
        return;
    }
    for (size_t at = 0; at < run.n; at += size) {
        memcpy(&f.value, run.p + at, size);
        put_value(w, row, &f);
    }
}

// An entry of a map; a member of the object.
static void put_entry(struct json_writer *w, const struct schema_row *map, struct view entry)
{
    char number[24];
    struct pb_reader r;
    struct pb_field f, key = {0}, value = {0};
    struct schema_row of_value = value_of(map);
    pb_read(&r, entry);
    while (pb_next(&r, &f)) {
        if (f.number == 1)
            key = f;
        else if (f.number == 2)
            value = f;
    }
    json_w_key(w,
               map->how == STRING ? key.data : view_of(number, num_print_u64(number, key.value)));
    put_value(w, &of_value, &value);
}

static void put_item(struct json_writer *w, const struct schema_row *row, const struct pb_field *f)
{
    if (row->kind == MAP)
        put_entry(w, row, f->data);
    else if (is_number(row) && f->wire == PB_LEN)
        put_packed(w, row, f->data);
    else
        put_value(w, row, f);
}

static void put_list(struct json_writer *w, const struct schema_row *row, struct view message)
{
    struct pb_reader r;
    struct pb_field f;
    bool map = row->kind == MAP;
    json_w_key(w, view_str(row->name));
    map ? json_w_object(w) : json_w_array(w);
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == row->number)
            put_item(w, row, &f);
    }
    map ? json_w_object_end(w) : json_w_array_end(w);
}

static void put_one(struct json_writer *w, const struct schema_row *row, struct view message)
{
    struct pb_reader r;
    struct pb_field f, last = {0};
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number == row->number)
            last = f;
    }
    if (last.number == 0 && (row->how == CHOICE || row->type == GROUP_OF))
        return; // else its default is told: as Triton does
    json_w_key(w, view_str(row->name));
    put_value(w, row, &last);
}

static void put_message(struct json_writer *w, const struct schema_row *message, struct view bytes)
{
    json_w_object(w);
    for (const struct schema_row *r = message + 1; r->kind != END; r++) {
        if (is_field(r) && is_list(r))
            put_list(w, r, bytes);
        else if (is_field(r))
            put_one(w, r, bytes);
    }
    json_w_object_end(w);
}

bool model_config_json(struct buffer *out, const struct model_metadata *m)
{
    struct json_writer w;
    struct buffer told;
    buffer_init(&told);
    json_write(&w, out);
    bool ok = compose(&told, m);
    if (ok)
        put_message(&w, schema_config, buffer_view(&told));
    buffer_deinit(&told);
    return ok && !w.failed;
}
