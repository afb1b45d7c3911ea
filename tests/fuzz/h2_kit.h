/* What the HTTP/2 targets have in common: an input that is read as orders, and frames that are nearly right. */
#ifndef SLUICE_TESTS_FUZZ_H2_KIT_H
#define SLUICE_TESTS_FUZZ_H2_KIT_H

#define READER_STREAMS 512 // more than a run opens

#include "base/check.h"
#include "tests/unit/http_frames.h"

struct tape {
    const uint8_t *p;
    size_t n;
};

static inline unsigned tape_u8(struct tape *t)
{
    if (t->n == 0)
        return 0;
    t->n--;
    return *t->p++;
}

static inline struct view tape_run(struct tape *t, size_t n)
{
    n = n < t->n ? n : t->n;
    struct view v = view_of(t->p, n);
    t->p += n;
    t->n -= n;
    return v;
}

// Small numbers, and those at which something happens.
static inline uint32_t tape_number(struct tape *t)
{
    static const uint32_t special[] = {0,       1,          16384,      16385,
                                       65535,   65536,      0x7fffffff, 1 << 20,
                                       1 << 24, 0x80000000, UINT32_MAX, 0x7fff0000};
    unsigned v = tape_u8(t);
    return v < 12 ? special[v] : v < 128 ? v : (v - 127) * 317;
}

static inline void put_block(struct wire *w, struct tape *t, const char *const *lines, unsigned n)
{
    unsigned how = tape_u8(t);
    if (how < 2 * n)
        wire_lines(w, lines[how % n]);
    unsigned more = tape_u8(t);
    if (more < 32) {
        struct view v = tape_run(t, more); // bytes of HPACK, whatever they are
        wire_put(w, v.p, v.n);
    } else if (more < 48) {
        unsigned name_n = tape_u8(t) % 24, value_n = tape_number(t) % 5000;
        static char many[5000];
        memset(many, 'v', sizeof(many));
        wire_field(w, more & 1 ? 0x40 : 0, tape_run(t, name_n), view_of(many, value_n));
        for (unsigned i = tape_u8(t); i > 0; i--)
            wire_byte(w, 0xbe);
    }
}

static inline void put_data(struct wire *w, struct tape *t, uint32_t id)
{
    static const uint8_t zeros[70000];
    unsigned flags = tape_u8(t) & (END_STREAM | PADDED);
    wire_frame(w, DATA, flags, id, zeros, tape_number(t) % 40000);
}

// Frames that belong to no request. op: which.
static inline void put_frame(struct wire *w, struct tape *t, unsigned op, uint32_t id)
{
    struct view v;
    switch (op) {
    case 0:
        wire_number(w, RST_STREAM, id, tape_u8(t) % 16);
        break;
    case 1:
        wire_number(w, WINDOW_UPDATE, tape_u8(t) & 1 ? id : 0, tape_number(t));
        break;
    case 2:
        wire_setting(w, tape_u8(t) % 10, tape_number(t));
        break;
    case 3:
        wire_frame(w, SETTINGS, ACK, 0, NULL, 0);
        break;
    case 4:
        wire_frame(w, PING, tape_u8(t) & ACK, 0, "01234567", 8);
        break;
    case 5:
        wire_frame(w, PRIORITY, 0, id, "\0\0\0\1\1", 5);
        break;
    case 6: {
        struct wire b = {0};
        wire_u32(&b, tape_number(t));
        wire_u32(&b, tape_u8(t) % 16);
        wire_frame(w, GOAWAY, 0, 0, b.p, b.n);
        free(b.p);
        break;
    }
    case 7: {
        unsigned type = tape_u8(t) % 12, flags = tape_u8(t), n = tape_u8(t) % 64;
        v = tape_run(t, n);
        wire_frame(w, type, flags, tape_u8(t) & 1 ? id : 0, v.p, v.n);
        break;
    }
    default:
        v = tape_run(t, tape_u8(t) % 32);
        wire_put(w, v.p, v.n);
        break;
    }
}

#endif
