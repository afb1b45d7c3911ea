#include "base/pb.h"

void pb_read(struct pb_reader *r, struct view message)
{
    *r = (struct pb_reader){0};
    r->at = (const uint8_t *)message.p;
    r->end = message.n ? r->at + message.n : r->at; // NULL takes no addition
}

static bool fail(struct pb_reader *r, const char *what)
{
    r->error = what;
    r->at = r->end; // nothing more is read
    return false;
}

// At least one byte is at hand.
static bool read_varint(struct pb_reader *r, uint64_t *value)
{
    const uint8_t *p = r->at;
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (p == r->end)
            return fail(r, "varint is cut off");
        uint8_t byte = *p++;
        if (shift == 63 && byte > 1)
            return fail(r, "varint is longer than 64 bits");
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            r->at = p;
            *value = v;
            return true;
        }
    }
    return fail(r, "varint is longer than 64 bits");
}

static bool read_fixed(struct pb_reader *r, size_t bytes, uint64_t *value)
{
    if ((size_t)(r->end - r->at) < bytes)
        return fail(r, "fixed-size field is cut off");
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)r->at[i] << (8 * i);
    r->at += bytes;
    *value = v;
    return true;
}

bool pb_next(struct pb_reader *r, struct pb_field *f)
{
    if (r->error || r->at == r->end)
        return false;
    uint64_t tag;
    if (!read_varint(r, &tag))
        return false;
    if (tag > UINT32_MAX || tag < 8)
        return fail(r, "field number is out of range");
    *f = (struct pb_field){.number = (uint32_t)(tag >> 3), .wire = (enum pb_wire)(tag & 7)};
    switch (f->wire) {
    case PB_VARINT:
        if (r->at == r->end)
            return fail(r, "varint is cut off");
        return read_varint(r, &f->value);
    case PB_I64:
        return read_fixed(r, 8, &f->value);
    case PB_I32:
        return read_fixed(r, 4, &f->value);
    case PB_LEN:
        if (r->at == r->end)
            return fail(r, "length is cut off");
        if (!read_varint(r, &f->value))
            return false;
        if (f->value > (uint64_t)(r->end - r->at))
            return fail(r, "length exceeds the message");
        f->data = view_of(r->at, (size_t)f->value);
        r->at += f->value;
        return true;
    }
    return fail(r, "wire type is not supported");
}

bool pb_packed_varint(struct pb_reader *r, uint64_t *value)
{
    return !r->error && r->at != r->end && read_varint(r, value);
}

unsigned pb_varint_size(uint64_t v)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(v | 1);
    return (bits + 6) / 7;
}

uint8_t *pb_w_varint(uint8_t *at, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *at++ = (uint8_t)(v | 0x80);
    *at++ = (uint8_t)v;
    return at;
}

uint8_t *pb_w_tag(uint8_t *at, uint32_t field, enum pb_wire wire)
{
    return pb_w_varint(at, (uint64_t)field << 3 | (uint64_t)wire);
}

size_t pb_len_size(uint32_t field, size_t payload)
{
    return pb_tag_size(field) + pb_varint_size(payload) + payload;
}

uint8_t *pb_w_len(uint8_t *at, uint32_t field, size_t payload)
{
    return pb_w_varint(pb_w_tag(at, field, PB_LEN), payload);
}

uint8_t *pb_w_bytes(uint8_t *at, uint32_t field, struct view v)
{
    at = pb_w_len(at, field, v.n);
    if (v.n)
        memcpy(at, v.p, v.n);
    return at + v.n;
}

size_t pb_uint_size(uint32_t field, uint64_t v)
{
    return pb_tag_size(field) + pb_varint_size(v);
}

uint8_t *pb_w_uint(uint8_t *at, uint32_t field, uint64_t v)
{
    return pb_w_varint(pb_w_tag(at, field, PB_VARINT), v);
}
