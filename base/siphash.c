#include "base/siphash.h"

#include <string.h>

struct rounds {
    uint64_t a, b, c, d;
};

static uint64_t turned(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline void round_of(struct rounds *v)
{
    v->a += v->b;
    v->b = turned(v->b, 13) ^ v->a;
    v->a = turned(v->a, 32);
    v->c += v->d;
    v->d = turned(v->d, 16) ^ v->c;
    v->a += v->d;
    v->d = turned(v->d, 21) ^ v->a;
    v->c += v->b;
    v->b = turned(v->b, 17) ^ v->c;
    v->c = turned(v->c, 32);
}

static void put_word(struct rounds *v, const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof(word)); // little-endian, as every machine that we run on
    v->d ^= word;
    round_of(v);
    v->a ^= word;
}

static struct rounds load(const struct siphash *s)
{
    return (struct rounds){s->v[0], s->v[1], s->v[2], s->v[3]};
}

static void store(struct siphash *s, const struct rounds *v)
{
    s->v[0] = v->a, s->v[1] = v->b, s->v[2] = v->c, s->v[3] = v->d;
}

void siphash_begin(struct siphash *s, const uint8_t key[SIPHASH_KEY])
{
    uint64_t k[2];
    memcpy(k, key, sizeof(k));
    s->v[0] = k[0] ^ 0x736f6d6570736575; // "somepseudorandomlygeneratedbytes"
    s->v[1] = k[1] ^ 0x646f72616e646f6d ^ 0xee;
    s->v[2] = k[0] ^ 0x6c7967656e657261;
    s->v[3] = k[1] ^ 0x7465646279746573;
    s->n = 0;
}

void siphash_put(struct siphash *s, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    size_t have = s->n % 8, room = 8 - have;
    s->n += n;
    if (n < room) {
        if (n > 0)
            memcpy(s->tail + have, p, n);
        return;
    }
    struct rounds v = load(s);
    if (have > 0) {
        memcpy(s->tail + have, p, room);
        put_word(&v, s->tail);
        p += room;
        n -= room;
    }
    for (; n >= 8; p += 8, n -= 8)
        put_word(&v, p);
    memcpy(s->tail, p, n);
    store(s, &v);
}

static uint64_t half_of(struct rounds *v, uint64_t *mark, uint64_t with)
{
    *mark ^= with;
    for (unsigned i = 0; i < 3; i++)
        round_of(v);
    return v->a ^ v->b ^ v->c ^ v->d;
}

void siphash_end(struct siphash *s, uint8_t out[SIPHASH_BYTES])
{
    uint8_t last[8] = {0};
    uint64_t half[2];
    struct rounds v = load(s);
    memcpy(last, s->tail, s->n % 8);
    last[7] = (uint8_t)s->n;
    put_word(&v, last);
    half[0] = half_of(&v, &v.c, 0xee);
    half[1] = half_of(&v, &v.b, 0xdd);
    memcpy(out, half, sizeof(half));
}
