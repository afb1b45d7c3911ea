/* base/sha256.h: SHA-256 (FIPS 180-4) in pieces: for keys that nobody may be able to make twice. libcrypto computes it, with
 * the processor's own instructions where there are some. Thinks. Thread: any, one state at a time. */
#ifndef SLUICE_BASE_SHA256_H
#define SLUICE_BASE_SHA256_H

#include "base/view.h"
#include <stdint.h>

// Its functions are called old; those that are newer allocate a context for each digest.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

struct sha256 {
    SHA256_CTX state;
};

static inline void sha256_begin(struct sha256 *s)
{
    SHA256_Init(&s->state);
}

static inline void sha256_put(struct sha256 *s, const void *p, size_t n)
{
    SHA256_Update(&s->state, p, n);
}

// With its length before it, so that neighbours cannot trade bytes.
static inline void sha256_view(struct sha256 *s, struct view v)
{
    uint64_t n = v.n;
    SHA256_Update(&s->state, &n, sizeof(n));
    SHA256_Update(&s->state, v.p, v.n);
}

static inline void sha256_end(struct sha256 *s, uint8_t out[32])
{
    SHA256_Final(out, &s->state);
}

#endif
