/* base/hash.h: XXH3 behind two names. hash64: tables and homes (stable across processes and hosts);
 * hash128: cache and batch keys. */
#ifndef SLUICE_BASE_HASH_H
#define SLUICE_BASE_HASH_H

#include "base/view.h"
#include <stdint.h>

struct hash128 {
    uint64_t hi, lo;
};

uint64_t hash64(struct view v, uint64_t seed);
struct hash128 hash128(struct view v, uint64_t seed);

// Of runs of bytes that lie apart, as if they lay together.
struct hash_run {
    uint8_t state
        [640]; // and room to align it: gcc 12 aligns no frame to 64 bytes under AddressSanitizer
};
void hash_run_begin(struct hash_run *h, uint64_t seed);
void hash_run_put(struct hash_run *h, struct view v);
struct hash128 hash_run_end(struct hash_run *h);

static inline bool hash128_eq(struct hash128 a, struct hash128 b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

#endif
