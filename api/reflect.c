#include "api/reflect.h"

#include "base/pb.h"
#include "infer/schema.h"
#include <stdio.h>

#define PREFIX 5
#define PATIENCE_US 10000000 // longest wait for the rest of a message, from its first byte

void reflect_route(struct serving *s)
{
    s->ex->streams = true;
    if (s->ex->max_body > REFLECT_AHEAD)
        s->ex->max_body = REFLECT_AHEAD;
}

void reflect_start(struct serving *s, uint64_t now_us)
{
    exchange_account(s->ex, 0); // not refused for want of room, like the other small calls
    api_start_grpc(s->api, s->ex, &s->call, now_us);
}

// ---- questions ---------------------------------------------------------------------------------------

// Fields of ServerReflectionRequest.
enum { BY_NAME = 3, BY_SYMBOL = 4, BY_EXTENSION = 5, EXTENSIONS_OF = 6, SERVICES = 7 };

struct reflect_question {
    uint32_t kind;
    struct view text, whole;
};

static bool question_read(struct view message, struct reflect_question *q)
{
    struct pb_reader r;
    struct pb_field f;
    *q = (struct reflect_question){.whole = message};
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        if (f.number >= BY_NAME && f.number <= SERVICES && f.wire == PB_LEN) {
            q->kind = f.number; // of a oneof the last one counts
            q->text = f.data;
        }
    }
    return !r.error;
}

// ---- answers -----------------------------------------------------------------------------------------

static bool put_bytes(struct buffer *out, uint32_t field, struct view v)
{
    uint8_t *at = buffer_reserve(out, pb_len_size(field, v.n));
    if (at)
        buffer_commit(out, (size_t)(pb_w_bytes(at, field, v) - at));
    return at;
}

// ErrorResponse: error_code 1, error_message 2.
static bool put_error(struct buffer *out, enum status status, const char *why)
{
    struct view text = view_str(why);
    uint32_t code = status_table[status].grpc;
    size_t n = pb_uint_size(1, code) + pb_len_size(2, text.n);
    uint8_t *at = buffer_reserve(out, pb_len_size(7, n));
    if (!at)
        return false;
    uint8_t *end = pb_w_bytes(pb_w_uint(pb_w_len(at, 7, n), 1, code), 2, text);
    buffer_commit(out, (size_t)(end - at));
    return true;
}

// FileDescriptorResponse: file_descriptor_proto 1. No file of ours needs another.
static bool put_file(struct buffer *out, const struct schema_file *f)
{
    struct buffer file, inside;
    if (!f)
        return put_error(out, STATUS_NOT_FOUND, "there is no such file or symbol");
    buffer_init(&file);
    buffer_init(&inside);
    bool ok = schema_write(&file, f) && put_bytes(&inside, 1, buffer_view(&file)) &&
              put_bytes(out, 4, buffer_view(&inside));
    buffer_deinit(&file);
    buffer_deinit(&inside);
    return ok;
}

// ListServiceResponse: service 1 { name 1 }.
static bool put_services(struct buffer *out)
{
    char text[SCHEMA_NAME];
    struct buffer list;
    struct view name;
    bool ok = true;
    buffer_init(&list);
    for (unsigned k = 0; ok && (name = schema_service(k, text)).n > 0; k++) {
        uint8_t *at = buffer_reserve(&list, pb_len_size(1, pb_len_size(1, name.n)));
        ok = at != NULL;
        if (at)
            buffer_commit(
                &list, (size_t)(pb_w_bytes(pb_w_len(at, 1, pb_len_size(1, name.n)), 1, name) - at));
    }
    ok = ok && put_bytes(out, 6, buffer_view(&list));
    buffer_deinit(&list);
    return ok;
}

// ServerReflectionResponse: original_request 2 and what became of it.
static bool put_answer(struct buffer *out, const struct reflect_question *q)
{
    if (!put_bytes(out, 2, q->whole))
        return false;
    switch (q->kind) {
    case BY_NAME:
        return put_file(out, schema_named(q->text));
    case BY_SYMBOL:
        return put_file(out, schema_with(q->text));
    case SERVICES:
        return put_services(out);
    case BY_EXTENSION:
    case EXTENSIONS_OF:
        return put_error(out, STATUS_NOT_FOUND, "no message of ours has extensions");
    default:
        return put_error(out, STATUS_UNSUPPORTED, "the question is not known");
    }
}

static void end_reflect(struct serving *s, enum status status, const char *why)
{
    s->outcome = status;
    api_end_grpc(s->ex, status, why);
}

// The answer as one piece, with gRPC's prefix, in a block.
static void give_answer(struct serving *s, const struct reflect_question *q)
{
    struct buffer out;
    struct block *b = NULL;
    buffer_init(&out);
    bool ok = buffer_append(&out, (const uint8_t[PREFIX]){0}, PREFIX) && put_answer(&out, q);
    size_t n = buffer_len(&out);
    if (ok && (b = block_new(s->api->carry.blocks, n))) {
        uint32_t length = __builtin_bswap32((uint32_t)(n - PREFIX));
        memcpy(b->data, buffer_view(&out).p, n);
        memcpy(b->data + 1, &length, sizeof(length));
        exchange_put(s->ex, (struct http_seg){b->data, n, b});
    } else {
        end_reflect(s, STATUS_UNAVAILABLE, "out of memory");
    }
    buffer_deinit(&out);
}

// A message of the body is not whole, or there is none.
static void wait_for_more(struct serving *s, bool begun, uint64_t now_us)
{
    if (s->heard_all && begun)
        end_reflect(s, STATUS_INTERNAL, "the last message is cut off");
    else if (s->heard_all)
        end_reflect(s, STATUS_OK, "");
    else if (s->ex->closing)
        end_reflect(s, STATUS_UNAVAILABLE, "the server drains");
    else if (begun && s->begun_us > 0 && now_us >= s->begun_us + PATIENCE_US)
        end_reflect(s, STATUS_SLOW_CLIENT, "the rest of a message did not come in time");
    else if (begun)
        s->begun_us = s->begun_us > 0 ? s->begun_us : now_us;
    if (begun)
        exchange_ask_at(s->ex, s->begun_us + PATIENCE_US);
}

void reflect_want(struct serving *s, uint64_t now_us)
{
    struct view body = buffer_view(&s->ex->body);
    struct reflect_question q;
    uint32_t n = 0;
    if (body.n >= PREFIX)
        n = __builtin_bswap32(load_u32((const uint8_t *)body.p + 1));
    if (body.n > 0 && body.p[0] != 0) {
        end_reflect(s, STATUS_UNSUPPORTED, "compressed messages are not taken here");
    } else if (n > REFLECT_AHEAD - PREFIX) {
        end_reflect(s, STATUS_TOO_LARGE, "a message is too large for this call");
    } else if (body.n < PREFIX || body.n - PREFIX < n) {
        wait_for_more(s, body.n > 0, now_us);
    } else if (!question_read(view_of(body.p + PREFIX, n), &q)) {
        end_reflect(s, STATUS_BAD_REQUEST, "message: cannot be read");
    } else {
        give_answer(s, &q);
        buffer_consume(&s->ex->body, PREFIX + (size_t)n);
        s->in_bytes += PREFIX + (size_t)n;
        s->begun_us = 0;
    }
}
