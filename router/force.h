/* router/force.h: a tester's word: the value of `sluice-variant`, which puts a request into a variant whatever its key
 * would draw.
 *
 *   NAME/VARIANT;EXPIRES;SIGNATURE
 *
 * EXPIRES: seconds since 1970; SIGNATURE: HMAC-SHA256 (RFC 2104) of all that stands before the last semicolon, in 64
 * hexadecimal digits. Thinks. Thread: any. */
#ifndef SLUICE_ROUTER_FORCE_H
#define SLUICE_ROUTER_FORCE_H

#include "base/view.h"
#include "infer/status.h"

struct force { // views into the text
    struct view experiment, variant, word, signature;
    uint64_t expires_s;
};

// False: e, what it should look like (STATUS_BAD_REQUEST).
bool force_read(struct view text, struct force *out, struct error *e);
// Is it signed by this key, and not over? False: e (STATUS_UNAUTHENTICATED).
bool force_holds(const struct force *f, struct view key, uint64_t now_s, struct error *e);

#endif
