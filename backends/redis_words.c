#include "backends/redis_words.h"

#include <stdio.h>

// ---- keys ----------------------------------------------------------------------------------------------

static uint16_t crc16(struct view v)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < v.n; i++) {
        crc ^= (uint16_t)((uint8_t)v.p[i] << 8);
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

uint16_t redis_slot(struct view key)
{
    const char *open = key.n ? memchr(key.p, '{', key.n) : NULL;
    if (open) {
        const char *from = open + 1, *close = memchr(from, '}', (size_t)(key.p + key.n - from));
        if (close && close > from)
            key = view_of(from, (size_t)(close - from));
    }
    return crc16(key) % REDIS_SLOTS;
}

// ---- commands ------------------------------------------------------------------------------------------

static size_t put(char *out, size_t at, const void *p, size_t n)
{
    if (out && n > 0)
        memcpy(out + at, p, n);
    return at + n;
}

static size_t put_length(char *out, size_t at, char kind, size_t length)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%c%zu\r\n", kind, length);
    return put(out, at, text, (size_t)n);
}

size_t redis_write(char *out, const struct view *words, unsigned n)
{
    size_t at = put_length(out, 0, '*', n);
    for (unsigned i = 0; i < n; i++) {
        at = put_length(out, at, '$', words[i].n);
        at = put(out, at, words[i].p, words[i].n);
        at = put(out, at, "\r\n", 2);
    }
    return at;
}

// ---- errors --------------------------------------------------------------------------------------------

static struct view next_word(struct view *rest)
{
    const char *space = rest->n ? memchr(rest->p, ' ', rest->n) : NULL;
    struct view word = {rest->p, space ? (size_t)(space - rest->p) : rest->n};
    size_t gone = word.n + (space != NULL);
    *rest = view_of(rest->p + gone, rest->n - gone);
    return word;
}

enum redis_fault redis_fault(struct view error)
{
    static const struct {
        const char *word;
        enum redis_fault fault;
    } known[] = {
        {"LOADING", REDIS_FAULT_AWAY},     {"CLUSTERDOWN", REDIS_FAULT_AWAY},
        {"MASTERDOWN", REDIS_FAULT_AWAY},  {"BUSY", REDIS_FAULT_AWAY},
        {"TRYAGAIN", REDIS_FAULT_AWAY},    {"READONLY", REDIS_FAULT_WRITE},
        {"OOM", REDIS_FAULT_WRITE},        {"MISCONF", REDIS_FAULT_WRITE},
        {"NOREPLICAS", REDIS_FAULT_WRITE}, {"NOAUTH", REDIS_FAULT_ENTRY},
        {"WRONGPASS", REDIS_FAULT_ENTRY},  {"MOVED", REDIS_FAULT_MOVED},
        {"ASK", REDIS_FAULT_ASK},          {"NOSCRIPT", REDIS_FAULT_SCRIPT},
    };
    struct view word = next_word(&error);
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (view_is(word, known[i].word))
            return known[i].fault;
    return REDIS_FAULT_OTHER;
}

// A whole number that is nothing else, at most `most`.
static bool read_number(struct view v, uint32_t most, uint16_t *out)
{
    uint32_t n = 0;
    if (v.n == 0 || v.n > 5)
        return false;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        n = n * 10 + (uint32_t)(v.p[i] - '0');
    }
    *out = (uint16_t)n;
    return n <= most;
}

static const char *last_colon(struct view v)
{
    for (size_t i = v.n; i > 0; i--)
        if (v.p[i - 1] == ':')
            return v.p + i - 1;
    return NULL;
}

bool redis_turn_read(struct view error, struct redis_turn *out)
{
    struct view word = next_word(&error), slot = next_word(&error), node = next_word(&error);
    const char *colon = last_colon(node);
    if ((!view_is(word, "MOVED") && !view_is(word, "ASK")) || !colon)
        return false;
    out->host = view_of(node.p, (size_t)(colon - node.p));
    if (out->host.n > 1 && out->host.p[0] == '[' && out->host.p[out->host.n - 1] == ']')
        out->host = view_of(out->host.p + 1, out->host.n - 2);
    return read_number(slot, REDIS_SLOTS - 1, &out->slot) &&
           read_number(view_of(colon + 1, (size_t)(node.p + node.n - colon - 1)), UINT16_MAX,
                       &out->port) &&
           out->port > 0;
}
