#include "engine/onnx_inner.h"

bool field_next(struct pb_reader *r, uint32_t number, struct pb_field *f)
{
    while (pb_next(r, f)) {
        if (f->number == number)
            return true;
    }
    return false;
}

unsigned field_count(struct view message, uint32_t number)
{
    struct pb_reader r;
    struct pb_field f;
    unsigned n = 0;
    pb_read(&r, message);
    while (field_next(&r, number, &f))
        n++;
    return n;
}

struct view field_bytes(struct view message, uint32_t number)
{
    struct pb_reader r;
    struct pb_field f;
    pb_read(&r, message);
    while (field_next(&r, number, &f)) {
        if (f.wire == PB_LEN)
            return f.data;
    }
    return VIEW("");
}

void varints_of(struct varints *s, const struct pb_field *f)
{
    s->alone = f->wire == PB_LEN ? NULL : f;
    pb_read(&s->packed, f->data);
}

bool varints_next(struct varints *s, uint64_t *v)
{
    if (!s->alone)
        return pb_packed_varint(&s->packed, v);
    *v = s->alone->value;
    s->alone = NULL; // and nothing is packed
    return true;
}

struct view fixed_of(const struct pb_field *f, size_t size)
{
    return f->wire == PB_LEN ? f->data : view_of(&f->value, size);
}
