#include "infer/stored.h"

#include "base/hash.h"

static const char magic[4] = {'S', 'l', 'S', 't'};

const char *const stored_fault_name[STORED_FAULTS] = {
    [STORED_FITS] = "fits",           [STORED_FOREIGN] = "foreign",   [STORED_LAYOUT_IS] = "layout",
    [STORED_TRUNCATED] = "truncated", [STORED_CHECKSUM] = "checksum", [STORED_KEY_IS] = "key",
    [STORED_VERSION_IS] = "version",  [STORED_MESSAGE] = "message",
};

enum {
    AT_LAYOUT = 4,
    AT_VERSION_BYTES = 6,
    AT_CHECKSUM = 8,
    AT_KEY = 16,
    AT_TIME = 48,
    AT_ROWS = 56,
    AT_MESSAGE_BYTES = 60
};

static uint64_t checksum(const uint8_t *value, size_t n)
{
    return hash64(view_of(value + AT_KEY, n - AT_KEY), STORED_LAYOUT);
}

// ---- writing -------------------------------------------------------------------------------------------

static void put_header(uint8_t *at, const struct stored *it, uint32_t rows, uint32_t message_bytes)
{
    uint16_t layout = STORED_LAYOUT, version_bytes = (uint16_t)it->version.n;
    memcpy(at, magic, sizeof(magic));
    memcpy(at + AT_LAYOUT, &layout, 2);
    memcpy(at + AT_VERSION_BYTES, &version_bytes, 2);
    memcpy(at + AT_KEY, it->key, STORED_KEY);
    memcpy(at + AT_TIME, &it->at_us, 8);
    memcpy(at + AT_ROWS, &rows, 4);
    memcpy(at + AT_MESSAGE_BYTES, &message_bytes, 4);
}

static void put_message(uint8_t *at, const struct oip_message *m)
{
    for (unsigned i = 0; i < m->n; at += m->segs[i++].n)
        memcpy(at, m->segs[i].p, m->segs[i].n);
}

static bool put_value(struct buffer *out, const struct stored *it, uint32_t rows,
                      const struct oip_message *m)
{
    size_t n = STORED_HEADER + it->version.n + m->bytes;
    uint8_t *at = n <= STORED_MOST && it->version.n <= UINT16_MAX ? buffer_reserve(out, n) : NULL;
    if (!at)
        return false;
    put_header(at, it, rows, (uint32_t)m->bytes);
    memcpy(at + STORED_HEADER, it->version.n ? it->version.p : "", it->version.n);
    put_message(at + STORED_HEADER + it->version.n, m);
    uint64_t sum = checksum(at, n);
    memcpy(at + AT_CHECKSUM, &sum, 8);
    buffer_commit(out, n);
    return true;
}

bool stored_write(struct buffer *out, const struct stored *it, const struct slice *s)
{
    static const struct infer_request all_outputs;
    struct oip_said said = {
        .model = it->model, .version = it->version, .theirs = s->answer->params};
    struct oip_message m;
    struct arena a;
    struct error e;
    bool pins;
    arena_init(&a, 4096);
    bool ok = oip_grpc_write_answer(&a, &all_outputs, s, &said, &m, &pins, &e) &&
              put_value(out, it, s->rows, &m);
    arena_deinit(&a);
    return ok;
}

// ---- reading -------------------------------------------------------------------------------------------

static bool has_magic(struct view v)
{
    return v.n >= sizeof(magic) && memcmp(v.p, magic, sizeof(magic)) == 0;
}

static uint16_t load_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

enum stored_fault stored_read(struct view value, struct stored *it, struct view *message,
                              uint32_t *rows)
{
    const uint8_t *at = (const uint8_t *)value.p;
    if (!has_magic(value))
        return STORED_FOREIGN;
    if (value.n < STORED_HEADER)
        return STORED_TRUNCATED;
    if (load_u16(at + AT_LAYOUT) != STORED_LAYOUT)
        return STORED_LAYOUT_IS;
    struct view version = view_of(at + STORED_HEADER, load_u16(at + AT_VERSION_BYTES));
    uint64_t message_bytes = load_u32(at + AT_MESSAGE_BYTES);
    if (value.n != STORED_HEADER + version.n + message_bytes)
        return STORED_TRUNCATED;
    if (load_u64(at + AT_CHECKSUM) != checksum(at, value.n))
        return STORED_CHECKSUM;
    if (memcmp(at + AT_KEY, it->key, STORED_KEY) != 0)
        return STORED_KEY_IS;
    if (!view_eq(version, it->version))
        return STORED_VERSION_IS;
    it->at_us = load_u64(at + AT_TIME);
    *rows = load_u32(at + AT_ROWS);
    *message = view_of(version.p + version.n, message_bytes);
    return STORED_FITS;
}

// Every output has the rows that the header says.
static bool rows_agree(const struct answer *a)
{
    for (unsigned k = 0; a->rows > 0 && k < a->n_outputs; k++)
        if (a->outputs[k].rank == 0 || a->outputs[k].shape[0] != (int64_t)a->rows ||
            (a->outputs[k].dtype == DT_BYTES && !a->row_offsets[k]))
            return false;
    return true;
}

struct answer *stored_answer(struct block_owner *blocks, struct view value, struct stored *it,
                             enum stored_fault *fault)
{
    struct view message;
    struct answer *answer;
    struct error e;
    uint32_t rows;
    *fault = stored_read(value, it, &message, &rows);
    struct block *b = *fault == STORED_FITS ? block_new(blocks, message.n ? message.n : 1) : NULL;
    if (!b)
        return NULL;
    if (message.n)
        memcpy(b->data, message.p, message.n);
    if (!oip_grpc_read_answer(b, view_of(b->data, message.n), rows, &answer, &e)) {
        *fault = STORED_MESSAGE;
        block_unref(b);
        return NULL;
    }
    if (rows_agree(answer))
        return answer;
    *fault = STORED_MESSAGE;
    block_unref(b); // and the answer with it
    return NULL;
}
