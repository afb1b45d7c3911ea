// The tables of HPACK and what a block says of them (RFC 7541).
#include "http/hpack.h"

#define ENTRY_BYTES 32u // what 4.1 counts beside the text
#define LONG_TEXT 4096u // a scratch buffer that grew past it is not kept

struct fixed {
    struct view name, value;
};

#define ROW(name, value)                                                                           \
    {                                                                                              \
        {name, sizeof(name) - 1},                                                                  \
        {                                                                                          \
            value, sizeof(value) - 1                                                               \
        }                                                                                          \
    }

// Appendix A; from 1 on.
static const struct fixed fixed[] = {
    ROW("", ""),
    ROW(":authority", ""),
    ROW(":method", "GET"),
    ROW(":method", "POST"),
    ROW(":path", "/"),
    ROW(":path", "/index.html"),
    ROW(":scheme", "http"),
    ROW(":scheme", "https"),
    ROW(":status", "200"),
    ROW(":status", "204"),
    ROW(":status", "206"),
    ROW(":status", "304"),
    ROW(":status", "400"),
    ROW(":status", "404"),
    ROW(":status", "500"),
    ROW("accept-charset", ""),
    ROW("accept-encoding", "gzip, deflate"),
    ROW("accept-language", ""),
    ROW("accept-ranges", ""),
    ROW("accept", ""),
    ROW("access-control-allow-origin", ""),
    ROW("age", ""),
    ROW("allow", ""),
    ROW("authorization", ""),
    ROW("cache-control", ""),
    ROW("content-disposition", ""),
    ROW("content-encoding", ""),
    ROW("content-language", ""),
    ROW("content-length", ""),
    ROW("content-location", ""),
    ROW("content-range", ""),
    ROW("content-type", ""),
    ROW("cookie", ""),
    ROW("date", ""),
    ROW("etag", ""),
    ROW("expect", ""),
    ROW("expires", ""),
    ROW("from", ""),
    ROW("host", ""),
    ROW("if-match", ""),
    ROW("if-modified-since", ""),
    ROW("if-none-match", ""),
    ROW("if-range", ""),
    ROW("if-unmodified-since", ""),
    ROW("last-modified", ""),
    ROW("link", ""),
    ROW("location", ""),
    ROW("max-forwards", ""),
    ROW("proxy-authenticate", ""),
    ROW("proxy-authorization", ""),
    ROW("range", ""),
    ROW("referer", ""),
    ROW("refresh", ""),
    ROW("retry-after", ""),
    ROW("server", ""),
    ROW("set-cookie", ""),
    ROW("strict-transport-security", ""),
    ROW("transfer-encoding", ""),
    ROW("user-agent", ""),
    ROW("vary", ""),
    ROW("via", ""),
    ROW("www-authenticate", ""),
};
#define FIXED (sizeof(fixed) / sizeof(fixed[0])) // the dynamic table's newest entry has this index

// Where an answer's names stand there. 0: nowhere, or not a name of answers.
static uint32_t fixed_name(struct view name)
{
    static const struct {
        uint8_t n, index;
    } rows[] = {{3, 21},  {7, 8},   {4, 33},  {4, 59},  {5, 22},  {6, 54},  {8, 46},
                {11, 53}, {12, 31}, {13, 24}, {14, 28}, {16, 26}, {16, 61}, {27, 20}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].n == name.n && view_eq(fixed[rows[i].index].name, name))
            return rows[i].index;
    }
    return 0;
}

// ---- table -------------------------------------------------------------------------------------------

static struct hpack_entry *entry_of(struct hpack_table *t, uint32_t number)
{
    return &t->entry[number % HPACK_ENTRIES];
}

static bool is_there(const struct hpack_table *t, uint32_t number)
{
    return number - t->oldest < t->next - t->oldest;
}

static struct fixed text_of(struct hpack_table *t, const struct hpack_entry *e)
{
    const uint8_t *p = t->text.data + t->text.at + (e->at - entry_of(t, t->oldest)->at);
    return (struct fixed){view_of(p, e->name_n), view_of(p + e->name_n, e->value_n)};
}

static void table_shrink(struct hpack_table *t, uint32_t most)
{
    while (t->bytes > most) {
        const struct hpack_entry *e = entry_of(t, t->oldest++);
        t->bytes -= ENTRY_BYTES + e->name_n + e->value_n;
        buffer_consume(&t->text, e->name_n + (size_t)e->value_n);
    }
}

// NULL: out of memory, or it does not fit: then the table is empty (4.4). name and value lie elsewhere.
static struct hpack_entry *table_add(struct hpack_table *t, struct view name, struct view value,
                                     bool *fits)
{
    size_t cost = ENTRY_BYTES + name.n + value.n;
    *fits = cost <= t->limit;
    table_shrink(t, *fits ? t->limit - (uint32_t)cost : 0);
    if (!*fits)
        return NULL;
    uint32_t at = 0;
    if (t->oldest != t->next)
        at = entry_of(t, t->oldest)->at + (uint32_t)buffer_len(&t->text);
    else
        buffer_reset(&t->text);
    uint8_t *to = buffer_room(&t->text, name.n + value.n);
    if (!to)
        return NULL;
    memcpy(to, name.p, name.n);
    if (value.n > 0)
        memcpy(to + name.n, value.p, value.n);
    buffer_commit(&t->text, name.n + value.n);
    t->bytes += (uint32_t)cost;
    struct hpack_entry *e = entry_of(t, t->next++);
    *e = (struct hpack_entry){.at = at, .name_n = (uint16_t)name.n, .value_n = (uint16_t)value.n};
    return e;
}

static void table_init(struct hpack_table *t)
{
    buffer_init(&t->text);
    t->oldest = t->next = t->bytes = 0;
    t->limit = HPACK_TABLE_BYTES;
}

// ---- reading -----------------------------------------------------------------------------------------

void hpack_reader_init(struct hpack_reader *r)
{
    table_init(&r->table);
    buffer_init(&r->name);
    buffer_init(&r->value);
    r->begun = false;
}

void hpack_reader_deinit(struct hpack_reader *r)
{
    buffer_deinit(&r->table.text);
    buffer_deinit(&r->name);
    buffer_deinit(&r->value);
}

void hpack_read_begin(struct hpack_reader *r)
{
    r->begun = false;
}

static void scratch_rest(struct buffer *b)
{
    if (b->cap > LONG_TEXT) {
        buffer_deinit(b);
        buffer_init(b);
    }
}

void hpack_read_end(struct hpack_reader *r)
{
    scratch_rest(&r->name);
    scratch_rest(&r->value);
}

// 5.1. Up to 32 bits.
static enum hpack_result read_int(const uint8_t **at, const uint8_t *end, unsigned bits,
                                  uint32_t *out)
{
    const uint8_t *p = *at;
    uint64_t most = (1u << bits) - 1, v;
    if (p == end)
        return HPACK_MORE;
    v = *p++ & most;
    if (v == most) {
        for (unsigned shift = 0;; shift += 7) {
            if (shift > 28)
                return HPACK_BROKEN;
            if (p == end)
                return HPACK_MORE;
            v += (uint64_t)(*p & 0x7f) << shift;
            if (!(*p++ & 0x80))
                break;
        }
        if (v > UINT32_MAX)
            return HPACK_BROKEN;
    }
    *at = p;
    *out = (uint32_t)v;
    return HPACK_FIELD;
}

// 5.2. A view of the block, or of `scratch`.
static enum hpack_result read_text(const uint8_t **at, const uint8_t *end, struct buffer *scratch,
                                   struct view *out)
{
    const uint8_t *p = *at;
    bool coded = p < end && *p & 0x80;
    uint32_t n;
    enum hpack_result r = read_int(&p, end, 7, &n);
    if (r != HPACK_FIELD)
        return r;
    if (n > (size_t)(end - p))
        return HPACK_MORE;
    *at = p + n;
    *out = view_of(p, n);
    if (!coded)
        return HPACK_FIELD;
    buffer_reset(scratch);
    r = huffman_read(p, n, scratch);
    *out = buffer_view(scratch);
    return r;
}

// What an index stands for (2.3.3).
static bool field_at(struct hpack_reader *r, uint32_t index, struct hpack_field *f)
{
    if (index == 0)
        return false;
    if (index < FIXED) {
        *f = (struct hpack_field){fixed[index].name, fixed[index].value, true};
        return true;
    }
    uint32_t number = r->table.next - 1 - (index - (uint32_t)FIXED);
    if (index - FIXED >= HPACK_ENTRIES || !is_there(&r->table, number))
        return false;
    const struct hpack_entry *e = entry_of(&r->table, number);
    struct fixed text = text_of(&r->table, e);
    *f = (struct hpack_field){text.name, text.value, e->fine};
    return true;
}

// 6.2. keep: goes into the table.
static enum hpack_result read_literal(struct hpack_reader *r, const uint8_t **at,
                                      const uint8_t *end, bool keep, struct hpack_field *f)
{
    const uint8_t *p = *at;
    uint32_t index;
    enum hpack_result got = read_int(&p, end, keep ? 6 : 4, &index);
    if (got != HPACK_FIELD)
        return got;
    struct view name;
    if (index == 0) {
        got = read_text(&p, end, &r->name, &name);
        if (got != HPACK_FIELD)
            return got;
    } else {
        if (!field_at(r, index, f))
            return HPACK_BROKEN;
        name = f->name;
        if (keep && index >= FIXED) { // its entry may be the one that leaves
            buffer_reset(&r->name);
            if (!buffer_append(&r->name, name.p, name.n))
                return HPACK_NO_MEMORY;
            name = buffer_view(&r->name);
        }
    }
    got = read_text(&p, end, &r->value, &f->value);
    if (got != HPACK_FIELD)
        return got;
    f->name = name;
    f->fine = hpack_is_fine(name, f->value);
    *at = p;
    if (!keep)
        return HPACK_FIELD;
    bool fits;
    struct hpack_entry *e = table_add(&r->table, name, f->value, &fits);
    if (!e && fits)
        return HPACK_NO_MEMORY;
    if (e)
        e->fine = f->fine;
    return HPACK_FIELD;
}

enum hpack_result hpack_read(struct hpack_reader *r, const uint8_t **at, const uint8_t *end,
                             struct hpack_field *f)
{
    const uint8_t *p = *at;
    uint32_t v;
    enum hpack_result got;
    while (p < end && (*p & 0xe0) == 0x20) { // 6.3
        got = read_int(&p, end, 5, &v);
        if (got != HPACK_FIELD)
            return got;
        if (r->begun || v > HPACK_TABLE_BYTES)
            return HPACK_BROKEN;
        r->table.limit = v;
        table_shrink(&r->table, v);
        *at = p;
    }
    if (p == end)
        return HPACK_MORE;
    if (*p & 0x80) {
        got = read_int(&p, end, 7, &v);
        if (got == HPACK_FIELD && !field_at(r, v, f))
            got = HPACK_BROKEN;
        if (got == HPACK_FIELD)
            *at = p;
    } else {
        got = read_literal(r, at, end, *p & 0x40, f);
    }
    r->begun |= got == HPACK_FIELD;
    return got;
}

// One bit for each byte of a token (RFC 9110 5.6.2) in lower case.
static bool is_token(uint8_t c)
{
    static const uint64_t low = 0x03ff6cfa00000000, high = 0x57ffffffc0000000;
    return c < 128 && (c < 64 ? low >> c : high >> (c - 64)) & 1;
}

bool hpack_is_fine(struct view name, struct view value)
{
    size_t i = name.n > 0 && name.p[0] == ':';
    if (i == name.n)
        return false;
    for (; i < name.n; i++) {
        if (!is_token((uint8_t)name.p[i]))
            return false;
    }
    for (i = 0; i < value.n; i++) {
        uint8_t c = (uint8_t)value.p[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return value.n == 0 || (value.p[0] != ' ' && value.p[0] != '\t' &&
                            value.p[value.n - 1] != ' ' && value.p[value.n - 1] != '\t');
}

// ---- writing -----------------------------------------------------------------------------------------

void hpack_writer_init(struct hpack_writer *w)
{
    table_init(&w->table);
    memset(w->by_field, 0, sizeof(w->by_field));
    memset(w->by_name, 0, sizeof(w->by_name));
    w->resized = false;
}

void hpack_writer_deinit(struct hpack_writer *w)
{
    buffer_deinit(&w->table.text);
}

void hpack_writer_resize(struct hpack_writer *w, uint32_t bytes)
{
    uint32_t limit = bytes < HPACK_TABLE_BYTES ? bytes : HPACK_TABLE_BYTES;
    if (limit == w->table.limit && !w->resized)
        return;
    if (!w->resized || limit < w->least)
        w->least = limit;
    w->resized = true;
    w->table.limit = limit;
    table_shrink(&w->table, limit);
}

static uint8_t *put_int(uint8_t *at, unsigned first, unsigned bits, uint32_t v)
{
    uint32_t most = (1u << bits) - 1;
    if (v < most) {
        *at++ = (uint8_t)(first | v);
        return at;
    }
    *at++ = (uint8_t)(first | most);
    for (v -= most; v >= 0x80; v >>= 7)
        *at++ = (uint8_t)(v | 0x80);
    *at++ = (uint8_t)v;
    return at;
}

// Not coded: that would save a few bytes, and cost more than all the rest.
static uint8_t *put_text(uint8_t *at, struct view v)
{
    at = put_int(at, 0, 7, (uint32_t)v.n);
    if (v.n > 0)
        memcpy(at, v.p, v.n);
    return at + v.n;
}

uint8_t *hpack_write_begin(struct hpack_writer *w, uint8_t *at)
{
    if (!w->resized)
        return at;
    if (w->least < w->table.limit) // 4.2: what left with it has left with the peer, too
        at = put_int(at, 0x20, 5, w->least);
    w->resized = false;
    return put_int(at, 0x20, 5, w->table.limit);
}

// Of its first and its last bytes, and its length: texts of one answer differ there.
static uint64_t hash_of(struct view v)
{
    uint64_t a = 0, b = 0;
    if (v.n >= 8) {
        memcpy(&a, v.p, 8);
        memcpy(&b, v.p + v.n - 8, 8);
    } else if (v.n >= 4) {
        memcpy(&a, v.p, 4);
        memcpy(&b, v.p + v.n - 4, 4);
    } else if (v.n > 0) {
        a = (uint8_t)v.p[0];
        b = (uint64_t)(uint8_t)v.p[v.n / 2] << 8 | (uint8_t)v.p[v.n - 1];
    }
    return (a * 0x9e3779b97f4a7c15 ^ (b + v.n)) * 0xbf58476d1ce4e5b9;
}

static uint32_t fold(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static bool find_field(struct hpack_writer *w, uint32_t hash, struct view name, struct view value,
                       uint32_t *index)
{
    struct hpack_table *t = &w->table;
    for (uint32_t n = w->by_field[hash % HPACK_BUCKETS]; is_there(t, n);) {
        const struct hpack_entry *e = entry_of(t, n);
        struct fixed text = text_of(t, e);
        if (e->hash == hash && view_eq(text.name, name) && view_eq(text.value, value)) {
            *index = (uint32_t)FIXED + (t->next - 1 - n);
            return true;
        }
        if (e->next_field - t->oldest >= n - t->oldest)
            break; // it has left
        n = e->next_field;
    }
    return false;
}

static uint32_t find_name(struct hpack_writer *w, uint32_t hash, struct view name)
{
    struct hpack_table *t = &w->table;
    for (uint32_t n = w->by_name[hash % HPACK_BUCKETS]; is_there(t, n);) {
        const struct hpack_entry *e = entry_of(t, n);
        if (view_eq(text_of(t, e).name, name))
            return (uint32_t)FIXED + (t->next - 1 - n);
        if (e->next_name - t->oldest >= n - t->oldest)
            break;
        n = e->next_name;
    }
    return fixed_name(name);
}

static bool keep_field(struct hpack_writer *w, uint32_t by_name, uint32_t by_field,
                       struct view name, struct view value)
{
    bool fits;
    if (ENTRY_BYTES + name.n + value.n > w->table.limit)
        return false; // it would only empty the table
    struct hpack_entry *e = table_add(&w->table, name, value, &fits);
    if (!e)
        return false;
    uint32_t number = w->table.next - 1;
    e->hash = by_field;
    e->next_name = w->by_name[by_name % HPACK_BUCKETS];
    e->next_field = w->by_field[by_field % HPACK_BUCKETS];
    w->by_name[by_name % HPACK_BUCKETS] = w->by_field[by_field % HPACK_BUCKETS] = number;
    return true;
}

uint8_t *hpack_write(struct hpack_writer *w, uint8_t *at, struct view name, struct view value,
                     bool passing)
{
    uint64_t of_name = hash_of(name);
    uint32_t by_name = fold(of_name), by_field = fold(of_name * 31 + hash_of(value)), index;
    if (!passing && find_field(w, by_field, name, value, &index))
        return put_int(at, 0x80, 7, index);
    index = find_name(w, by_name, name);
    bool keep = (!passing || index == 0) && keep_field(w, by_name, by_field, name, value);
    at = keep ? put_int(at, 0x40, 6, index) : put_int(at, 0, 4, index);
    if (index == 0)
        at = put_text(at, name);
    return put_text(at, value);
}

uint8_t *hpack_write_status(struct hpack_writer *w, uint8_t *at, unsigned status)
{
    for (uint32_t i = 8; i < 15; i++) {
        const char *p = fixed[i].value.p;
        if (status ==
            (unsigned)(p[0] - '0') * 100 + (unsigned)(p[1] - '0') * 10 + (unsigned)(p[2] - '0'))
            return put_int(at, 0x80, 7, i);
    }
    char text[3] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10),
                    (char)('0' + status % 10)};
    return hpack_write(w, at, VIEW(":status"), view_of(text, 3), false);
}
