/* gateway/admin.h: the operators' listener, on the main thread, so that it answers even when a loop is
 * stuck. Its pages are rows (gateway/pages.c); this is who may see them: open ones everybody, the others who
 * has the token (`authorization: Bearer …`, compared in constant time) and names us by an address or localhost
 * in Host, so that a page in somebody's browser cannot reach us through a name that it re-binds; a browser that says whose
 * page asks (Origin) has to say ours. The token is in a header that no browser adds by itself: there are no cookies.
 * What changes something is POST. Does. Thread: the main loop's. */
#ifndef SLUICE_GATEWAY_ADMIN_H
#define SLUICE_GATEWAY_ADMIN_H

#include "base/buffer.h"
#include "base/json.h"
#include "base/token.h"
#include "http/http.h"
#include "net/loop.h"
#include <stdbool.h>

struct admin;

#define ADMIN_BODY 4096                // bytes that a request may have
#define ADMIN_LARGE_BODY (256u * 1024) // ADMIN_LARGE, of whoever shows the token

enum admin_rights { ADMIN_OPEN, ADMIN_TOKEN, ADMIN_LARGE }; // the last: the token, for a large body

// One row a method and path, those of one path together; adding one is a row and its test.
struct admin_page {
    const char *method; // "GET" (which answers HEAD too) or "POST"
    const char *path;   // one that ends in '/' stands for all below it, "/" for itself alone
    enum admin_rights rights;
    // Main thread. Answers (admin_answer, admin_refuse) now; or later, then it takes a reference on the
    // exchange. The body is whole in ex->body. ctx: admin_new's.
    void (*fn)(struct exchange *ex, void *ctx);
};

// What an answer that flows has in ex->user.
struct admin_stream {
    void (*want)(struct exchange *ex);  // http_server_ops.on_want
    void (*ended)(struct exchange *ex); // it is over, whole or not
};

// fd: a listening socket, taken over. token: NULL or empty: what wants a token is refused with 401.
// The token is copied and wiped when the admin is freed; pages stay the caller's. NULL: out of memory (fd stays the caller's).
struct admin *admin_new(struct loop *main, int fd, struct view token,
                        const struct http_limits *limits, const struct admin_page *pages,
                        unsigned n_pages, void *ctx);
// Others from now on. token: as admin_new's.
void admin_set_token(struct admin *a, struct view token);
void admin_set_limits(struct admin *a, const struct http_limits *limits);
void admin_start(struct admin *a);
// Answers with this page (freed); harmless when the client has gone. cut: it is not whole, for want of memory.
void admin_answer(struct exchange *ex, unsigned status, struct view type, struct buffer *page,
                  bool cut);
// The same of one JSON object: what is written in between are its members.
struct admin_json {
    struct json_writer w;
    struct buffer page;
};
struct json_writer *
admin_json_begin(struct admin_json *j); // it stays where it is until it has ended
void admin_json_end(struct admin_json *j, struct exchange *ex, unsigned status);
// Answers {"error": why}.
void admin_refuse(struct exchange *ex, unsigned status, struct view why);
void admin_free(struct admin *a);

// Reads a token file: one line, at most TOKEN_BYTES, white space at the end cut. Returns 0 with the token
// in out (NUL-terminated), or -1 with why (constant text).
int admin_read_token(const char *path, char out[TOKEN_BYTES + 1], const char **why);

#endif
