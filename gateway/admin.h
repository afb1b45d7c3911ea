/* gateway/admin.h: the operators' listener, on the main thread, so that it answers even when a loop is
 * stuck. /metrics and /healthz are open; everything else wants the token (`authorization: Bearer …`,
 * compared in constant time). The Host must be an address or localhost, so that a page in somebody's
 * browser cannot reach us through a name that it re-binds. Does. Thread: the main loop's. */
#ifndef SLUICE_GATEWAY_ADMIN_H
#define SLUICE_GATEWAY_ADMIN_H

#include "base/buffer.h"
#include "http/http.h"
#include "net/loop.h"
#include <stdbool.h>

struct admin;

// What the listener shows. Called on the main thread.
struct admin_pages {
    // Prometheus text format 0.0.4, appended to out; false: out of memory, the page is cut.
    bool (*metrics)(struct buffer *out, void *ctx);
    // JSON: now or later, by admin_answer. The exchange lives until then if the callee takes a reference.
    void (*status)(struct exchange *ex, void *ctx);
    bool (*healthy)(void *ctx); // /healthz: 200 or 503
};

// fd: a listening socket, taken over. token: NULL or empty: what wants a token is refused with 401.
// The token is copied and wiped when the admin is freed. NULL: out of memory (fd stays the caller's).
struct admin *admin_new(struct loop *main, int fd, struct view token,
                        const struct http_limits *limits, const struct admin_pages *pages,
                        void *ctx);
void admin_start(struct admin *a);
// Answers with this page (freed); harmless when the client has gone. cut: it is not whole, for want of memory.
void admin_answer(struct exchange *ex, struct view type, struct buffer *page, bool cut);
void admin_free(struct admin *a);

// Reads a token file: one line, at most 256 bytes, white space at the end cut. Returns 0 with the token
// in out (NUL-terminated), or -1 with why (constant text).
int admin_read_token(const char *path, char out[257], const char **why);

#endif
