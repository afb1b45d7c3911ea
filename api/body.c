#include "api/body.h"
#include "api/unpack.h"
#include <strings.h>

static bool is_identity(struct view v)
{
    return v.n == 0 || (v.n == 8 && strncasecmp(v.p, "identity", 8) == 0);
}

// At most max_body, and BODY_RATIO times what came or BODY_FREE, whichever is more.
static size_t bound(const struct exchange *ex, size_t packed)
{
    size_t max;
    if (__builtin_mul_overflow(packed, (size_t)BODY_RATIO, &max))
        max = SIZE_MAX;
    if (max < BODY_FREE)
        max = BODY_FREE;
    return max < ex->max_body ? max : ex->max_body;
}

static bool begin_unpack(struct api_body *b, struct view coding, struct view packed,
                         struct error *e)
{
    b->packed = packed;
    b->max = bound(b->ex, packed.n);
    b->inflater = unpack_new(coding, packed);
    return b->inflater || error_set(e, STATUS_UNAVAILABLE, "out of memory");
}

// Source: grpc/grpc doc/PROTOCOL-HTTP2.md and compression.md. Broken framing is INTERNAL there.
static bool begin_grpc(struct api_body *b, struct view coding, struct error *e)
{
    struct view body = buffer_view(&b->ex->body);
    const uint8_t *p = (const uint8_t *)body.p;
    if (!is_identity(coding) && !unpack_knows(coding))
        return error_set(e, STATUS_UNSUPPORTED,
                         "grpc-encoding: expected identity, gzip or deflate");
    if (body.n < 5)
        return error_set(e, STATUS_INTERNAL, "gRPC: expected one message, its prefix is cut off");
    if (p[0] > 1)
        return error_set(e, STATUS_INTERNAL, "gRPC: expected a compressed flag of 0 or 1, got %u",
                         p[0]);
    size_t n = __builtin_bswap32(load_u32(p + 1));
    if (n > b->ex->max_body)
        return error_set(e, STATUS_TOO_LARGE, "gRPC: a message of %zu bytes, at most %zu are taken",
                         n, b->ex->max_body);
    if (n != body.n - 5)
        return error_set(e, STATUS_INTERNAL,
                         "gRPC: expected one message of %zu bytes, %zu follow its prefix", n,
                         body.n - 5);
    b->out = view_of(body.p + 5, n);
    if (p[0] == 0)
        return true;
    if (is_identity(coding))
        return error_set(e, STATUS_INTERNAL, "gRPC: a compressed message without grpc-encoding");
    return begin_unpack(b, coding, b->out, e);
}

bool body_begin(struct api_body *b, struct exchange *ex, const struct api_call *call,
                struct error *e)
{
    *b = (struct api_body){.ex = ex, .grpc = call->grpc};
    buffer_init(&b->plain);
    if (call->grpc)
        return begin_grpc(b, call->grpc_encoding, e);
    b->out = buffer_view(&ex->body);
    if (is_identity(call->content_encoding))
        return true;
    if (!unpack_knows(call->content_encoding))
        return error_set(e, STATUS_MEDIA_TYPE,
                         "content-encoding: expected gzip, deflate, zstd or identity");
    return begin_unpack(b, call->content_encoding, b->out, e);
}

enum oip_step body_step(struct api_body *b, size_t max_bytes, struct error *e)
{
    if (!b->inflater)
        return OIP_DONE;
    enum oip_step step = unpack_step(b->inflater, &b->plain, b->max, max_bytes, e);
    if (step == OIP_MORE)
        return step;
    if (step ==
        OIP_DONE) { // it takes the place of what came, which is read: no copy, and no two of them
        b->out = buffer_view(&b->plain);
        buffer_deinit(&b->ex->body);
        b->ex->body = b->plain;
        buffer_init(&b->plain);
    }
    body_drop(b);
    return step;
}

void body_drop(struct api_body *b)
{
    unpack_free(b->inflater);
    b->inflater = NULL;
    buffer_deinit(&b->plain);
}
