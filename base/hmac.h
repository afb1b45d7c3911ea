/* base/hmac.h: HMAC-SHA256 (RFC 2104, FIPS 198-1). libcrypto computes it. Thinks. Thread: any. */
#ifndef SLUICE_BASE_HMAC_H
#define SLUICE_BASE_HMAC_H

#include "base/view.h"
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdint.h>

#define HMAC_BYTES 32

// False: out of memory.
static inline bool hmac_sha256(struct view key, struct view text, uint8_t out[HMAC_BYTES])
{
    unsigned n = HMAC_BYTES;
    return HMAC(EVP_sha256(), key.p, (int)key.n, (const uint8_t *)text.p, text.n, out, &n) != NULL;
}

// In a time that does not tell where they differ.
static inline bool hmac_eq(const uint8_t a[HMAC_BYTES], const uint8_t b[HMAC_BYTES])
{
    return CRYPTO_memcmp(a, b, HMAC_BYTES) == 0;
}

#endif
