/* Fuzz: any bytes through the protobuf reader, every LEN field also as a message and as packed varints.
 * What is read is written anew and must be read as the same fields. */
#include "base/pb.h"
#include "base/check.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Bytes of the field in its minimal form.
static size_t field_size(const struct pb_field *f)
{
    switch (f->wire) {
    case PB_VARINT:
        return pb_uint_size(f->number, f->value);
    case PB_LEN:
        return pb_len_size(f->number, f->data.n);
    case PB_I64:
        return pb_tag_size(f->number) + 8;
    case PB_I32:
        return pb_tag_size(f->number) + 4;
    }
    return 0;
}

static uint8_t *write_field(uint8_t *at, const struct pb_field *f)
{
    if (f->wire == PB_VARINT)
        return pb_w_uint(at, f->number, f->value);
    if (f->wire == PB_LEN)
        return pb_w_bytes(at, f->number, f->data);
    at = pb_w_tag(at, f->number, f->wire);
    for (unsigned i = 0; i < (f->wire == PB_I64 ? 8u : 4u); i++)
        *at++ = (uint8_t)(f->value >> (8 * i));
    return at;
}

static void check(struct view message, unsigned depth)
{
    struct pb_reader r;
    struct pb_field f, g;
    pb_read(&r, message);
    while (pb_next(&r, &f)) {
        invariant(f.number >= 1 && f.number <= 536870911);
        size_t size = field_size(&f);
        uint8_t *copy = mem_must(size);
        invariant(write_field(copy, &f) == copy + size);
        struct pb_reader again;
        pb_read(&again, view_of(copy, size));
        invariant(pb_next(&again, &g) && g.number == f.number && g.wire == f.wire);
        invariant(f.wire == PB_LEN ? view_eq(f.data, g.data) : f.value == g.value);
        invariant(!pb_next(&again, &g) && !again.error);
        mem_free(copy);
        if (f.wire != PB_LEN)
            continue;
        uint64_t v;
        pb_read(&again, f.data);
        while (pb_packed_varint(&again, &v))
            invariant(pb_varint_size(v) <= 10);
        if (depth < 8)
            check(f.data, depth + 1);
    }
    invariant(r.error || r.at == r.end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check(view_of(data, size), 0);
    return 0;
}
