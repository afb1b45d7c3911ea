#include "infer/status.h"

#include <stdarg.h>
#include <stdio.h>

// name, HTTP, gRPC, retryable, counts against the replica, OpenAI type
const struct status_info status_table[] = {
    [STATUS_OK] = {"ok", 200, 0, false, false, ""},
    [STATUS_BAD_REQUEST] = {"bad_request", 400, 3, false, false, "invalid_request_error"},
    [STATUS_UNAUTHENTICATED] = {"unauthenticated", 401, 16, false, false, "authentication_error"},
    [STATUS_NOT_FOUND] = {"not_found", 404, 5, false, false, "not_found_error"},
    [STATUS_METHOD] = {"method", 405, 12, false, false, "invalid_request_error"},
    [STATUS_SLOW_CLIENT] = {"slow_client", 408, 4, false, false, "invalid_request_error"},
    [STATUS_TOO_LARGE] = {"too_large", 413, 8, false, false, "invalid_request_error"},
    [STATUS_LONG_TARGET] = {"long_target", 414, 3, false, false, "invalid_request_error"},
    [STATUS_MEDIA_TYPE] = {"media_type", 415, 3, false, false, "invalid_request_error"},
    [STATUS_EXPECTATION] = {"expectation", 417, 3, false, false, "invalid_request_error"},
    [STATUS_QUOTA] = {"quota", 429, 8, false, false, "rate_limit_error"},
    [STATUS_HEADERS] = {"headers", 431, 3, false, false, "invalid_request_error"},
    [STATUS_CLIENT_GONE] = {"client_gone", 499, 1, false, false, "invalid_request_error"},
    [STATUS_INTERNAL] = {"internal", 500, 13, true, true, "server_error"},
    [STATUS_POISON] = {"poison", 500, 13, false, false, "server_error"},
    [STATUS_UNSUPPORTED] = {"unsupported", 501, 12, false, false, "invalid_request_error"},
    [STATUS_BAD_ANSWER] = {"bad_answer", 502, 14, true, true, "server_error"},
    [STATUS_WORKER_LOST] = {"worker_lost", 503, 14, true, true, "server_error"},
    [STATUS_UNAVAILABLE] = {"unavailable", 503, 14, true, false, "server_error"},
    [STATUS_DEADLINE] = {"deadline", 504, 4, true, false, "timeout_error"},
    [STATUS_HTTP_VERSION] = {"http_version", 505, 12, false, false, "invalid_request_error"},
};
_Static_assert(sizeof(status_table) / sizeof(status_table[0]) == STATUS_COUNT, "one row a status");

enum status status_from_grpc(unsigned grpc)
{
    static const uint8_t map[] = {
        [0] = STATUS_OK,           [1] = STATUS_WORKER_LOST,  [2] = STATUS_INTERNAL,
        [3] = STATUS_BAD_REQUEST,  [4] = STATUS_DEADLINE,     [5] = STATUS_NOT_FOUND,
        [6] = STATUS_INTERNAL,     [7] = STATUS_INTERNAL,     [8] = STATUS_UNAVAILABLE,
        [9] = STATUS_BAD_REQUEST,  [10] = STATUS_UNAVAILABLE, [11] = STATUS_BAD_REQUEST,
        [12] = STATUS_UNSUPPORTED, [13] = STATUS_INTERNAL,    [14] = STATUS_WORKER_LOST,
        [15] = STATUS_INTERNAL,    [16] = STATUS_INTERNAL,
    };
    return grpc < sizeof(map) ? (enum status)map[grpc] : STATUS_INTERNAL;
}

bool error_set(struct error *e, enum status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    e->status = status;
    if (vsnprintf(e->text, sizeof(e->text), format, args) < 0)
        e->text[0] = '\0';
    va_end(args);
    for (char *c = e->text; *c; c++) {
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    }
    return false;
}
