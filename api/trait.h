/* api/trait.h: what a request says of who asks: a header field, a cookie, its API key, a parameter of its body, a claim of
 * its token, or only its own id. Thinks. Thread: the exchange's loop. */
#ifndef SLUICE_API_TRAIT_H
#define SLUICE_API_TRAIT_H

#include "http/http.h"
#include "infer/request.h"

enum trait_kind {
    TRAIT_REQUEST_ID,
    TRAIT_API_KEY, // x-api-key; without it the bearer token of authorization
    TRAIT_HEADER,
    TRAIT_COOKIE, // RFC 6265, 5.4
    TRAIT_PARAMETER,
    TRAIT_CLAIM // of the bearer token, a JWT (RFC 7519). Its signature is not verified: a client may claim anything
};

struct trait {
    enum trait_kind kind;
    struct view name; // header names in lower case
};

// Views into the exchange, the request, or the exchange's arena. .n == 0: it says nothing of that (or has no memory for it).
// Of a field or cookie that came twice the first counts.
struct view trait_read(const struct trait *t, struct exchange *ex, const struct infer_request *r,
                       struct view request_id);

#endif
