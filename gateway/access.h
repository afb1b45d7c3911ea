/* gateway/access.h: one JSON line a request for the access log. Formats into a caller's buffer; the
 * log thread does the writing. Nothing of a body, and no query string (it may carry secrets), is ever
 * logged; fields from outside are escaped and cut at ACCESS_FIELD_MAX. Thread: any, one buffer each. */
#ifndef SLUICE_GATEWAY_ACCESS_H
#define SLUICE_GATEWAY_ACCESS_H

#include "base/buffer.h"
#include "base/view.h"
#include <stdint.h>

#define ACCESS_FIELD_MAX 1024 // bytes: log injection, row 133
#define ACCESS_WORD_MAX 32    // bytes of a word of our own (protocol, source, reason, outcome)

struct access_entry {
    uint64_t wall_us;   // of the end, since 1970
    struct view client; // its address, as net/server.h prints it
    struct view request_id, method, path, model, version;
    struct view tenant;   // from its head, where tenants are tracked
    struct view answered; // the model that did, when it is another one
    struct view experiment, variant;
    struct view attempts; // of its chain, when there was more than one (router/chain.h)
    // Words of our own: no byte of them needs an escape.
    const char *protocol; // "http/1.1", "h2", "grpc"
    const char *source;   // answer_source_name, NULL when nobody answered
    const char *draw;     // draw_how_name where it was not simply drawn; else NULL
    bool aged;            // age_s is told
    uint32_t age_s;
    const char *reason;  // why the batch went, NULL without one
    const char *outcome; // name in the status table
    const char *why; // refused before its head was whole: nothing else is known of it; else NULL
    uint16_t status; // HTTP
    uint16_t loop;
    bool whole; // the client got all of the answer
    uint32_t rows, batch_rows;
    uint64_t batch_id; // the x-request-id that its worker got; 0: none
    uint64_t in_bytes, out_bytes;
    uint64_t parse_us, queue_us, compute_us, total_us;
};

// Appends one line with its newline; false: out of memory, out unchanged.
bool access_format(struct buffer *out, const struct access_entry *e);

// "2026-11-24T03:56:30.123456Z", 27 bytes, into out (no NUL). The second's part is cached per thread.
unsigned access_time(char out[32], uint64_t wall_us);

#endif
