#include "base/date.h"
#include "base/json_inside.h" // json_utf8_length
#include "base/pen.h"
#include "infer/prediction_inner.h"

/* {"record":"1764175000123-0","instance":"gw-1","loop":0,"time":"2026-11-26T16:36:40.123456Z","id":"r7","model":"digits",
 *  "outcome":"ok","source":"model","level":0,"rows":1,"batch":8,"parse_us":3,"queue_us":40,"compute_us":210,"total_us":270,
 *  "headers":{"x-country":"de"},"parameters":{"top_k":5},
 *  "inputs":{"hash":"…","bytes":256},"outputs":[{"name":"probs","datatype":"FP32","shape":[1,10],"data":[…]}]}        */

// ,"KEY":"value" of what comes from outside; nothing for an empty value.
#define FIELD(at, key, value) ((value).n ? pen_json(PEN_LIT(at, ",\"" key "\":"), (value)) : (at))
// The same of a constant of our own; nothing for NULL.
#define WORD(at, key, word)                                                                        \
    ((word) ? pen_plain(PEN_LIT(at, ",\"" key "\":"), view_str(word)) : (at))
#define NUMBER(at, key, v) pen_u64(PEN_LIT(at, ",\"" key "\":"), v)

#define HEAD_ROOM (1024 + 16 * PEN_NUMBER) // keys, words, numbers, time

// ---- the head ------------------------------------------------------------------------------------------

static char *put_place(char *at, const struct prediction_place *p, uint64_t wall_us)
{
    at = pen_u64(PEN_LIT(at, "{\"record\":\""), p->ms);
    at = PEN_LIT(pen_u64(PEN_LIT(at, "-"), p->seq), "\"");
    at = FIELD(at, "instance", p->instance);
    at = NUMBER(at, "loop", p->loop);
    at = PEN_LIT(at, ",\"time\":\"");
    date_print(at, wall_us);
    return PEN_LIT(at + DATE_TEXT, "\"");
}

static char *put_texts(char *at, const struct view text[PREDICTION_TEXTS])
{
    at = FIELD(at, "id", text[PREDICTION_ID]);
    at = FIELD(at, "tenant", text[PREDICTION_TENANT]);
    at = FIELD(at, "model", text[PREDICTION_ASKED]);
    at = FIELD(at, "answered", text[PREDICTION_ANSWERED]);
    at = FIELD(at, "version", text[PREDICTION_VERSION]);
    at = FIELD(at, "experiment", text[PREDICTION_EXPERIMENT]);
    at = FIELD(at, "variant", text[PREDICTION_VARIANT]);
    return FIELD(at, "attempts", text[PREDICTION_ATTEMPTS]);
}

static char *put_facts(char *at, const struct prediction_facts *f)
{
    at = WORD(at, "outcome", f->outcome);
    at = WORD(at, "source", f->source);
    if (f->aged)
        at = NUMBER(at, "age_s", f->age_s);
    at = NUMBER(at, "level", f->level);
    at = NUMBER(at, "rows", f->rows);
    if (f->reason) {
        at = NUMBER(at, "batch", f->batch_rows);
        at = WORD(at, "reason", f->reason);
    }
    at = NUMBER(at, "parse_us", f->parse_us);
    if (f->reason) {
        at = NUMBER(at, "queue_us", f->queue_us);
        at = NUMBER(at, "compute_us", f->compute_us);
    }
    return NUMBER(at, "total_us", f->total_us);
}

// Behind the texts, where the sides begin. NULL: out of memory.
static const char *print_head(struct buffer *out, const struct packed_head *h,
                              const struct prediction_place *p)
{
    const char *from = (const char *)(h + 1);
    struct view text[PREDICTION_TEXTS];
    size_t room = HEAD_ROOM + PEN_JSON(p->instance.n);
    for (unsigned i = 0; i < PREDICTION_TEXTS; i++) {
        text[i] = view_of(from, h->text[i]);
        from += h->text[i];
        room += PEN_JSON(text[i].n);
    }
    char *start = (char *)buffer_room(out, room);
    if (!start)
        return NULL;
    char *at = put_texts(put_place(start, p, h->facts.wall_us), text);
    buffer_commit(out, (size_t)(put_facts(at, &h->facts) - start));
    return (const char *)h + packed_up((size_t)(from - (const char *)h));
}

// ---- values --------------------------------------------------------------------------------------------

#define PUT(w, lit) put_view((w), VIEW(lit))

static void put_view(struct json_writer *w, struct view v)
{
    w->failed = w->failed || !buffer_append(w->out, v.p, v.n);
}

static bool is_utf8(const char *p, size_t n)
{
    for (const char *end = p + n; p < end;) {
        unsigned k = json_utf8_length(p, end);
        if (k == 0)
            return false;
        p += k;
    }
    return true;
}

// Whether all its elements are texts.
static bool has_texts(const uint8_t *data, uint64_t n)
{
    for (uint64_t at = 0; at + 4 <= n; at += 4 + load_u32(data + at))
        if (!is_utf8((const char *)data + at + 4, load_u32(data + at)))
            return false;
    return true;
}

// RFC 4648, section 4.
static void put_base64(struct json_writer *w, const uint8_t *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *at = w->failed ? NULL : (char *)buffer_reserve(w->out, (n + 2) / 3 * 4 + 2);
    w->failed = !at;
    if (!at)
        return;
    char *start = at;
    *at++ = '"';
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;
        v |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
        v |= i + 2 < n ? p[i + 2] : 0;
        *at++ = digits[v >> 18];
        *at++ = digits[v >> 12 & 63];
        *at++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *at++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *at++ = '"';
    buffer_commit(w->out, (size_t)(at - start));
}

static void put_texts_of(struct json_writer *w, const uint8_t *data, uint64_t n)
{
    json_w_array(w);
    for (uint64_t at = 0; at + 4 <= n; at += 4 + load_u32(data + at))
        json_w_string(w, view_of(data + at + 4, load_u32(data + at)));
    json_w_array_end(w);
}

static void put_value(struct json_writer *w, enum dtype type, const uint8_t *p)
{
    uint64_t v = 0;
    unsigned bytes = dtype_table[type].bytes;
    memcpy(&v, p, bytes);
    if (type == DT_BOOL)
        json_w_bool(w, v != 0);
    else if (type == DT_FP64)
        json_w_f64(w, load_f64(p));
    else if (type >= DT_INT8 && type <= DT_INT64)
        json_w_i64(w, (int64_t)(v << (64 - 8 * bytes)) >> (64 - 8 * bytes));
    else
        json_w_u64(w, v);
}

static void put_data(struct json_writer *w, enum dtype type, const uint8_t *data, uint64_t n)
{
    if (!dtype_table[type].json || (type == DT_BYTES && !has_texts(data, n))) {
        json_w_key(w, VIEW("raw"));
        put_base64(w, data, n);
        w->comma = true;
        return;
    }
    json_w_key(w, VIEW("data"));
    if (type == DT_BYTES) {
        put_texts_of(w, data, n);
        return;
    }
    if (type == DT_FP32) {
        json_w_f32_array(w, data, n / 4);
        return;
    }
    json_w_array(w);
    for (uint64_t at = 0; at < n; at += dtype_table[type].bytes)
        put_value(w, type, data + at);
    json_w_array_end(w);
}

// ---- headers and parameters ----------------------------------------------------------------------------

static void put_said(struct json_writer *w, enum param_type type, const char *p, size_t n)
{
    if (type == PARAM_STRING)
        json_w_string(w, view_of(p, n));
    else if (type == PARAM_BOOL)
        json_w_bool(w, *p != 0);
    else if (type == PARAM_DOUBLE)
        json_w_f64(w, load_f64(p));
    else if (type == PARAM_INT64)
        json_w_i64(w, (int64_t)load_u64(p));
    else
        json_w_u64(w, load_u64(p));
}

// An object of them.
static const char *print_list(struct json_writer *w, const char *from, unsigned n)
{
    json_w_object(w);
    for (; n > 0; n--) {
        const struct packed_said *s = (const struct packed_said *)from;
        const char *key = from + sizeof(*s);
        json_w_key(w, view_of(key, s->key));
        put_said(w, s->type, key + s->key, s->bytes);
        from += packed_up(sizeof(*s) + s->key + s->bytes);
    }
    json_w_object_end(w);
    return from;
}

static const char *print_said(struct json_writer *w, const struct packed_head *h, const char *from)
{
    w->comma = true; // behind the head
    if (h->headers > 0) {
        json_w_key(w, VIEW("headers"));
        from = print_list(w, from, h->headers);
    }
    if (h->parameters > 0) {
        json_w_key(w, VIEW("parameters"));
        from = print_list(w, from, h->parameters);
    }
    if (h->cut > 0)
        json_put(w, "cut", h->cut);
    return from;
}

// ---- the two sides -------------------------------------------------------------------------------------

static const char *print_tensor(struct json_writer *w, const char *from)
{
    const struct packed_tensor *t = (const struct packed_tensor *)from;
    const char *dims = from + sizeof(*t), *name = dims + t->rank * sizeof(int64_t);
    const char *data = name + packed_up(t->name);
    json_w_object(w);
    json_w_key(w, VIEW("name"));
    json_w_string(w, view_of(name, t->name));
    json_w_key(w, VIEW("datatype"));
    json_w_string(w, view_str(dtype_table[t->dtype].name));
    json_w_key(w, VIEW("shape"));
    json_w_array(w);
    for (unsigned i = 0; i < t->rank; i++)
        json_w_i64(w, (int64_t)load_u64(dims + i * sizeof(int64_t)));
    json_w_array_end(w);
    if (t->redacted || t->kept < t->bytes) {
        json_w_key(w, t->redacted ? VIEW("redacted") : VIEW("cut"));
        json_w_bool(w, true);
        json_w_key(w, VIEW("bytes"));
        json_w_u64(w, t->bytes);
    }
    if (!t->redacted)
        put_data(w, t->dtype, (const uint8_t *)data, t->kept);
    from = data + packed_up(t->kept);
    if (t->parameters > 0) {
        json_w_key(w, VIEW("parameters"));
        from = print_list(w, from, t->parameters);
    }
    json_w_object_end(w);
    return from;
}

static void print_hash(struct buffer *out, struct json_writer *w, const struct packed_side *s)
{
    char *start = (char *)buffer_room(out, 128 + 3 * PEN_NUMBER), *at = start;
    w->failed = w->failed || !start;
    if (w->failed)
        return;
    at = PEN_LIT(at, "{\"hash\":\"");
    num_print_hex(at, s->digest.hi);
    num_print_hex(at + 16, s->digest.lo);
    at = pen_u64(PEN_LIT(at + 32, "\",\"bytes\":"), s->bytes);
    if (s->redacted > 0)
        at = NUMBER(at, "redacted", s->redacted);
    else if (s->hashed < s->bytes)
        at = NUMBER(at, "hashed", s->hashed);
    at = PEN_LIT(at, "}");
    buffer_commit(out, (size_t)(at - start));
}

static const char *print_side(struct json_writer *w, unsigned side, const char *from)
{
    const struct packed_side *s = (const struct packed_side *)from;
    from += sizeof(*s);
    if (s->detail == DETAIL_NONE)
        return from;
    if (side == SIDE_INPUTS)
        PUT(w, ",\"inputs\":");
    else
        PUT(w, ",\"outputs\":");
    w->comma = false;
    if (s->detail == DETAIL_HASH) {
        print_hash(w->out, w, s);
        return from;
    }
    json_w_array(w);
    for (unsigned i = 0; i < s->n; i++)
        from = print_tensor(w, from);
    json_w_array_end(w);
    return from;
}

bool prediction_print(struct buffer *out, const void *packed, const struct prediction_place *at)
{
    size_t before = out->end - out->at;
    const char *from = print_head(out, packed, at);
    struct json_writer w;
    json_write(&w, out);
    if (from)
        from = print_said(&w, packed, from);
    for (unsigned side = 0; from && side < PACKED_SIDES; side++)
        from = print_side(&w, side, from);
    if (from)
        PUT(&w, "}\n");
    if (from && !w.failed)
        return true;
    out->end = out->at + before;
    return false;
}
