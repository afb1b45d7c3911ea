/* HTTP/2 by hand, for tests: frames and header blocks as bytes, good ones and others, and a reader of what the
 * other side sends. The reader checks what nobody may get wrong (lengths, the order of frames of a stream, HPACK)
 * and keeps what tests ask for. It takes no memory through base/mem.h, so that tests may let that fail. */
#ifndef SLUICE_TESTS_HTTP_FRAMES_H
#define SLUICE_TESTS_HTTP_FRAMES_H

#include "base/view.h"
#include <nghttp2/nghttp2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION
};
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4, PADDED = 8, WITH_PRIORITY = 32 };

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// ---- writing -----------------------------------------------------------------------------------------

struct wire { // bytes to be sent
    uint8_t *p;
    size_t n, cap;
};

static inline void wire_put(struct wire *w, const void *p, size_t n)
{
    if (w->n + n > w->cap) {
        w->cap = 2 * (w->n + n) + 64;
        w->p = realloc(w->p, w->cap);
    }
    if (n > 0)
        memcpy(w->p + w->n, p, n);
    w->n += n;
}

static inline void wire_byte(struct wire *w, unsigned v)
{
    uint8_t b = (uint8_t)v;
    wire_put(w, &b, 1);
}

static inline void wire_u32(struct wire *w, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    wire_put(w, b, 4);
}

static inline void wire_frame(struct wire *w, unsigned type, unsigned flags, uint32_t id,
                              const void *payload, size_t n)
{
    uint8_t head[5] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, (uint8_t)type,
                       (uint8_t)flags};
    wire_put(w, head, 5);
    wire_u32(w, id);
    wire_put(w, payload, n);
}

static inline void wire_number(struct wire *w, unsigned type, uint32_t id, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    wire_frame(w, type, 0, id, b, 4);
}

static inline void wire_setting(struct wire *w, unsigned key, uint32_t v)
{
    uint8_t b[6] = {(uint8_t)(key >> 8), (uint8_t)key,      (uint8_t)(v >> 24),
                    (uint8_t)(v >> 16),  (uint8_t)(v >> 8), (uint8_t)v};
    wire_frame(w, SETTINGS, 0, 0, b, 6);
}

// An integer of HPACK (RFC 7541 5.1) behind `bits` of prefix.
static inline void wire_int(struct wire *w, unsigned pattern, unsigned bits, uint32_t v)
{
    unsigned most = (1u << bits) - 1;
    if (v < most) {
        wire_byte(w, pattern | v);
        return;
    }
    wire_byte(w, pattern | most);
    for (v -= most; v >= 128; v >>= 7)
        wire_byte(w, 128 | (v & 127));
    wire_byte(w, v);
}

// A literal field; pattern 0x00: never in the table, 0x40: it becomes the first entry of the table.
static inline void wire_field(struct wire *w, unsigned pattern, struct view name, struct view value)
{
    wire_byte(w, pattern);
    wire_int(w, 0, 7, (uint32_t)name.n);
    wire_put(w, name.p, name.n);
    wire_int(w, 0, 7, (uint32_t)value.n);
    wire_put(w, value.p, value.n);
}

// Lines "name: value\n"; pseudo-fields begin with their colon.
static inline void wire_lines(struct wire *w, const char *lines)
{
    while (*lines) {
        const char *end = strchr(lines, '\n'), *colon = strstr(lines + 1, ": ");
        wire_field(w, 0, view_of(lines, (size_t)(colon - lines)),
                   view_of(colon + 2, (size_t)(end - colon - 2)));
        lines = end + 1;
    }
}

static inline void wire_head(struct wire *w, unsigned flags, uint32_t id, const char *lines)
{
    struct wire block = {0};
    wire_lines(&block, lines);
    wire_frame(w, HEADERS, flags | END_HEADERS, id, block.p, block.n);
    free(block.p);
}

// ---- reading -----------------------------------------------------------------------------------------

#ifndef READER_STREAMS
#define READER_STREAMS 4096 // as many as are kept; a later one takes the place of an earlier one
#endif

struct reader_stream {
    uint32_t id;
    int status;
    char fields[700];       // "name: value\n" of all its header blocks
    char body[200];         // its beginning
    size_t body_n, longest; // bytes; the longest DATA frame
    unsigned blocks, resets;
    uint32_t code; // of the reset
    bool ended;
};

struct reader {
    bool of_client; // what is read was sent by a client: begins with the preface
    nghttp2_hd_inflater *hpack;
    const char *wrong; // NULL: all was well
    uint8_t head[24], payload[70000];
    size_t head_n, payload_n, left;
    bool in_payload, preface_seen;
    size_t n_all;
    unsigned settings, settings_acks, pings, ping_acks, goaways, resets;
    uint32_t goaway_code, goaway_last, setting[16];
    uint64_t window[READER_STREAMS];        // what WINDOW_UPDATEs added; 0: the connection's
    struct reader_stream s[READER_STREAMS]; // by (id + 1) / 2
};

static inline struct reader *reader_new(bool of_client)
{
    struct reader *r = calloc(1, sizeof(*r));
    r->of_client = of_client;
    nghttp2_hd_inflate_new(&r->hpack);
    return r;
}

static inline void reader_free(struct reader *r)
{
    nghttp2_hd_inflate_del(r->hpack);
    free(r);
}

static inline struct reader_stream *reader_stream(struct reader *r, uint32_t id)
{
    struct reader_stream *s = &r->s[(id + 1) / 2 % READER_STREAMS];
    if (s->id != id)
        *s = (struct reader_stream){.id = id};
    return s;
}

static inline uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void reader_block(struct reader *r, struct reader_stream *s, const uint8_t *p,
                                size_t n)
{
    size_t at = strlen(s->fields);
    for (int flags = 0; !(flags & NGHTTP2_HD_INFLATE_FINAL);) {
        nghttp2_nv nv;
        ssize_t used = nghttp2_hd_inflate_hd2(r->hpack, &nv, &flags, p, n, 1);
        if (used < 0) {
            r->wrong = "HPACK";
            return;
        }
        p += used;
        n -= (size_t)used;
        if (!(flags & NGHTTP2_HD_INFLATE_EMIT))
            continue;
        if (nv.namelen == 7 && memcmp(nv.name, ":status", 7) == 0)
            s->status = atoi((const char *)nv.value);
        int k = snprintf(s->fields + at, sizeof(s->fields) - at, "%s: %s\n", (const char *)nv.name,
                         (const char *)nv.value);
        at = at + (size_t)k < sizeof(s->fields) ? at + (size_t)k : sizeof(s->fields) - 1;
    }
    nghttp2_hd_inflate_end_headers(r->hpack);
}

static inline void reader_data(struct reader *r, struct reader_stream *s, const uint8_t *p,
                               size_t n)
{
    for (size_t i = 0; i < n; i++, s->body_n++) {
        if (s->body_n < sizeof(s->body) - 1)
            s->body[s->body_n] = (char)p[i];
    }
}

static inline void reader_frame(struct reader *r)
{
    uint8_t type = r->head[3], flags = r->head[4];
    uint32_t id = read_u32(r->head + 5), n = (uint32_t)r->payload_n;
    struct reader_stream *s = reader_stream(r, id);
    const uint8_t *p = r->payload;
    switch (type) {
    case DATA:
    case HEADERS:
        if (id == 0 || s->ended || s->resets || (type == DATA && s->blocks == 0))
            r->wrong = "a frame of a stream that has ended, or not begun";
        if (type == HEADERS && (!(flags & END_HEADERS) || flags & (PADDED | WITH_PRIORITY)))
            r->wrong = "HEADERS of another form";
        if (type == HEADERS) {
            s->blocks++;
            reader_block(r, s, p, n);
        }
        s->ended = flags & END_STREAM;
        break;
    case RST_STREAM:
        if (n != 4 || id == 0 || s->resets)
            r->wrong = "RST_STREAM";
        s->resets++;
        r->resets++;
        s->code = read_u32(p);
        break;
    case SETTINGS:
        if (id != 0 || n % 6 || (flags & ACK && n > 0))
            r->wrong = "SETTINGS";
        flags &ACK ? r->settings_acks++ : r->settings++;
        for (uint32_t i = 0; i + 6 <= n; i += 6)
            r->setting[(p[i] << 8 | p[i + 1]) % 16] = read_u32(p + i + 2);
        break;
    case PING:
        if (id != 0 || n != 8)
            r->wrong = "PING";
        flags &ACK ? r->ping_acks++ : r->pings++;
        break;
    case GOAWAY:
        if (id != 0 || n < 8)
            r->wrong = "GOAWAY";
        r->goaways++;
        r->goaway_last = read_u32(p);
        r->goaway_code = read_u32(p + 4);
        break;
    case WINDOW_UPDATE:
        if (n != 4 || read_u32(p) == 0 || read_u32(p) >> 31)
            r->wrong = "WINDOW_UPDATE";
        r->window[id == 0 ? 0 : 1 + id / 2 % (READER_STREAMS - 1)] += read_u32(p);
        break;
    default:
        r->wrong = "a frame that we do not send";
    }
}

static inline void reader_take(struct reader *r, const uint8_t *p, size_t n)
{
    r->n_all += n;
    while (n > 0 && !r->wrong) {
        if (!r->in_payload) {
            size_t whole = r->of_client && !r->preface_seen ? 24 : 9;
            r->head[r->head_n++] = *p++;
            n--;
            if (r->head_n < whole)
                continue;
            r->head_n = 0;
            if (whole == 24) {
                r->preface_seen = true;
                r->wrong = memcmp(r->head, PREFACE, 24) != 0 ? "the preface" : NULL;
                continue;
            }
            r->left = (size_t)r->head[0] << 16 | (size_t)r->head[1] << 8 | r->head[2];
            r->payload_n = 0;
            r->in_payload = true;
            struct reader_stream *s = reader_stream(r, read_u32(r->head + 5));
            if (r->head[3] != DATA && r->left > sizeof(r->payload))
                r->wrong = "a frame that is too long";
            if (r->head[3] == DATA && r->left > s->longest)
                s->longest = r->left;
        }
        size_t part = r->left < n ? r->left : n;
        if (r->head[3] == DATA) {
            reader_data(r, reader_stream(r, read_u32(r->head + 5)), p, part);
        } else if (part > 0) {
            memcpy(r->payload + r->payload_n, p, part);
            r->payload_n += part;
        }
        p += part;
        n -= part;
        r->left -= part;
        if (r->left == 0 && !r->wrong) {
            r->in_payload = false;
            reader_frame(r);
        }
    }
}

#endif
