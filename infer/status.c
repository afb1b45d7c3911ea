#include "infer/status.h"

#include "base/json_inside.h" // json_utf8_length
#include <stdarg.h>
#include <stdio.h>

enum { NO, YES };

// gRPC numbers: grpc/grpc doc/statuscodes.md. OpenAI types: the error objects of its API reference.
#define ROW(http, grpc, retryable, counts, name, openai)                                           \
    {                                                                                              \
        name, http, grpc, retryable, counts, openai                                                \
    }
const struct status_info status_table[STATUS_COUNT] = {
    [STATUS_OK] = ROW(200, 0, NO, NO, "ok", ""),
    [STATUS_BAD_REQUEST] = ROW(400, 3, NO, NO, "bad_request", "invalid_request_error"),
    [STATUS_UNAUTHENTICATED] = ROW(401, 16, NO, NO, "unauthenticated", "authentication_error"),
    [STATUS_NOT_FOUND] = ROW(404, 5, NO, NO, "not_found", "invalid_request_error"),
    [STATUS_METHOD] = ROW(405, 12, NO, NO, "method", "invalid_request_error"),
    [STATUS_SLOW_CLIENT] = ROW(408, 4, NO, NO, "slow_client", "invalid_request_error"),
    [STATUS_TOO_LARGE] = ROW(413, 8, NO, NO, "too_large", "invalid_request_error"),
    [STATUS_LONG_TARGET] = ROW(414, 3, NO, NO, "long_target", "invalid_request_error"),
    [STATUS_MEDIA_TYPE] = ROW(415, 3, NO, NO, "media_type", "invalid_request_error"),
    [STATUS_EXPECTATION] = ROW(417, 3, NO, NO, "expectation", "invalid_request_error"),
    [STATUS_QUOTA] = ROW(429, 8, YES, NO, "quota", "rate_limit_error"),
    [STATUS_HEADERS] = ROW(431, 8, NO, NO, "headers", "invalid_request_error"),
    [STATUS_CLIENT_GONE] = ROW(499, 1, NO, NO, "client_gone", "invalid_request_error"),
    [STATUS_INTERNAL] = ROW(500, 13, YES, YES, "internal", "server_error"),
    [STATUS_POISON] = ROW(500, 13, NO, NO, "poison", "server_error"),
    [STATUS_UNSUPPORTED] = ROW(501, 12, NO, NO, "unsupported", "invalid_request_error"),
    [STATUS_BAD_ANSWER] = ROW(502, 14, YES, YES, "bad_answer", "server_error"),
    [STATUS_WORKER_LOST] = ROW(503, 14, YES, YES, "worker_lost", "server_error"),
    [STATUS_UNAVAILABLE] = ROW(503, 14, YES, NO, "unavailable", "server_error"),
    [STATUS_DEADLINE] = ROW(504, 4, YES, YES, "deadline", "server_error"),
    [STATUS_HTTP_VERSION] = ROW(505, 3, NO, NO, "http_version", "invalid_request_error"),
};
_Static_assert(STATUS_COUNT == 21, "a new status needs its row above, and its line in the tests");

enum status status_from_grpc(unsigned grpc)
{
    static const uint8_t ours[] = {
        [0] = STATUS_OK,
        [1] = STATUS_WORKER_LOST, // CANCELLED, and not by us: it gave the call up
        [2] = STATUS_INTERNAL,     [3] = STATUS_BAD_REQUEST,  [4] = STATUS_DEADLINE,
        [5] = STATUS_NOT_FOUND,    [6] = STATUS_INTERNAL,
        [7] = STATUS_BAD_ANSWER, // it refuses the gateway, not the client
        [8] = STATUS_UNAVAILABLE,  [9] = STATUS_UNAVAILABLE,  [10] = STATUS_WORKER_LOST,
        [11] = STATUS_BAD_REQUEST, [12] = STATUS_UNSUPPORTED, [13] = STATUS_INTERNAL,
        [14] = STATUS_WORKER_LOST, [15] = STATUS_BAD_ANSWER,  [16] = STATUS_BAD_ANSWER,
    };
    return grpc < sizeof(ours) ? (enum status)ours[grpc] : STATUS_INTERNAL;
}

enum status status_from_http(unsigned http)
{
    if (http == 503) // shared: a lost worker is none of that room's refusals
        return STATUS_UNAVAILABLE;
    for (unsigned s = STATUS_OK; s < STATUS_COUNT; s++)
        if (status_table[s].http == http)
            return (enum status)s;
    return STATUS_INTERNAL;
}

// Bytes of the character at p that may be told; 0: none.
static unsigned char_length(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p;
    if (c < 0x80)
        return (c >= 0x20 && c != 0x7f) || c == '\t' || c == '\n';
    unsigned n = json_utf8_length(p, end);
    return n == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0 ? 0 : n; // C1: control characters, too
}

// Are all that is left of it the first bytes of one character?
static bool is_begun(const char *p, const char *end)
{
    unsigned char c = (unsigned char)*p;
    if (c < 0xc2 || c > 0xf4 || end - p >= (c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4))
        return false;
    while (++p < end && ((unsigned char)*p & 0xc0) == 0x80)
        ;
    return p == end;
}

size_t text_clean(char *text, size_t n)
{
    char *p = text, *end = text + n;
    while (p < end && !is_begun(p, end)) {
        unsigned length = char_length(p, end);
        if (length == 0)
            *p = '?';
        p += length ? length : 1;
    }
    *p = 0;
    return (size_t)(p - text);
}

bool error_set(struct error *e, enum status status, const char *format, ...)
{
    e->status = status;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    if (n < 0)
        n = 0;
    text_clean(e->text, (size_t)n < sizeof(e->text) ? (size_t)n : sizeof(e->text) - 1);
    return false;
}
