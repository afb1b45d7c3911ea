/* infer/status.h: the one status table: every way a request can end, with its HTTP and gRPC form, and
 * struct error, the value that bad input and faults become. Thinks. Thread: any.
 * Sources: RFC 9110 section 15; grpc/grpc doc/statuscodes.md. */
#ifndef SLUICE_INFER_STATUS_H
#define SLUICE_INFER_STATUS_H

#include "base/view.h"
#include <stdint.h>

enum status {
    STATUS_OK,
    STATUS_BAD_REQUEST,     // 400 INVALID_ARGUMENT
    STATUS_UNAUTHENTICATED, // 401
    STATUS_NOT_FOUND,       // 404 unknown model, version or path
    STATUS_METHOD,          // 405 with `allow`
    STATUS_SLOW_CLIENT,     // 408
    STATUS_TOO_LARGE,       // 413 RESOURCE_EXHAUSTED
    STATUS_LONG_TARGET,     // 414
    STATUS_MEDIA_TYPE,      // 415
    STATUS_EXPECTATION,     // 417
    STATUS_QUOTA,           // 429 RESOURCE_EXHAUSTED
    STATUS_HEADERS,         // 431
    STATUS_CLIENT_GONE,     // 499 CANCELLED
    STATUS_INTERNAL,        // 500 our own fault
    STATUS_POISON,          // 500: two workers died with this request aboard
    STATUS_UNSUPPORTED,     // 501 UNIMPLEMENTED
    STATUS_BAD_ANSWER,      // 502: a worker answered what cannot be
    STATUS_WORKER_LOST,     // 503: the worker went away with it; retryable
    STATUS_UNAVAILABLE,     // 503 + retry-after: a bound reached or nothing left that can answer
    STATUS_DEADLINE,        // 504
    STATUS_HTTP_VERSION,    // 505
    STATUS_COUNT
};

struct status_info {
    const char *name;   // metric label: "ok", "bad_request", …
    uint16_t http;      // 200, 400, …
    uint8_t grpc;       // 0..16
    bool retryable;     // the next step of a chain may be tried
    bool counts;        // counts against the replica that answered so
    const char *openai; // OpenAI error type
};

extern const struct status_info
    status_table[STATUS_COUNT]; // designated initialisers, static assert

enum status
status_from_grpc(unsigned grpc); // a worker's answer to ours: 3 -> BAD_REQUEST, 14 -> WORKER_LOST…

// What the HTTP room refuses with that status: its number is all that room knows.
enum status status_from_http(unsigned http);

#define ERROR_TEXT 248

// What a parser finds wrong: who is wrong, what was expected, what came. Never the body's own text. It lies on
// the stack of who called the parser; what is kept, or told to another thread, is a struct failure.
struct error {
    enum status status;    // STATUS_OK: no error
    char text[ERROR_TEXT]; // NUL-terminated, see text_clean
};

// Makes text[0..n) fit to be told: valid UTF-8 without control characters other than \t and \n. Each byte that
// is not becomes '?', a character that is not whole at the end (the text was cut) goes. Ends it with a NUL: there
// is room for one. Returns its length.
size_t text_clean(char *text, size_t n);

// Formats text: cut to fit, then text_clean. Returns false, so that `return error_set(...)` ends a parser.
__attribute__((format(printf, 3, 4))) bool error_set(struct error *e, enum status status,
                                                     const char *format, ...);

#endif
