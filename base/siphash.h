/* base/siphash.h: SipHash-1-3 of 128 bits, in pieces (Aumasson, Bernstein: "SipHash: a fast short-input PRF", INDOCRYPT 2012;
 * 128 bits as in the authors' reference code). Whoever knows neither the key nor what comes out cannot make two inputs of the
 * same outcome, but by trying 2^64 of them. One round a word, and three at the end, is what they propose where outcomes are
 * not seen; it costs two instructions a byte on any processor. Thinks. Thread: any, one state at a time. */
#ifndef SLUICE_BASE_SIPHASH_H
#define SLUICE_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY 16
#define SIPHASH_BYTES 16

struct siphash {
    uint64_t v[4];
    uint64_t n;      // bytes so far
    uint8_t tail[8]; // n % 8 of them, not in v yet
};

void siphash_begin(struct siphash *s, const uint8_t key[SIPHASH_KEY]);
void siphash_put(struct siphash *s, const void *p, size_t n);
void siphash_end(struct siphash *s, uint8_t out[SIPHASH_BYTES]);

#endif
