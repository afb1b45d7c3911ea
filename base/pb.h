/* base/pb.h: protobuf wire format (https://protobuf.dev/programming-guides/encoding/): a zero-copy
 * reader over a view and a writer into caller's memory. Bounded: varints 10 bytes, lengths checked
 * against the bytes at hand, field 0 and wire types 3, 4, 6, 7 refused (groups are not used by any of
 * our protocols); nesting is the caller's recursion and it keeps the count. Thread: any. */
#ifndef SLUICE_BASE_PB_H
#define SLUICE_BASE_PB_H

#include "base/buffer.h"
#include "base/view.h"
#include <stdint.h>

enum pb_wire { PB_VARINT = 0, PB_I64 = 1, PB_LEN = 2, PB_I32 = 5 };

struct pb_reader {
    const uint8_t *at, *end;
    const char *error; // constant text; NULL while fine
};

struct pb_field {
    uint32_t number;
    enum pb_wire wire;
    uint64_t value;   // VARINT, I64, I32 (raw bits)
    struct view data; // LEN: view into the message
};

void pb_read(struct pb_reader *r, struct view message);
// False: end of message, or error (r->error tells).
bool pb_next(struct pb_reader *r, struct pb_field *f);
// One varint out of a packed run; false: end or error.
bool pb_packed_varint(struct pb_reader *r, uint64_t *value);

// Writer: the caller sized the memory with the size functions. Each returns the new end.
unsigned pb_varint_size(uint64_t v);
uint8_t *pb_w_varint(uint8_t *at, uint64_t v);
static inline unsigned pb_tag_size(uint32_t field)
{
    return pb_varint_size((uint64_t)field << 3);
}
uint8_t *pb_w_tag(uint8_t *at, uint32_t field, enum pb_wire wire);
// Bytes of tag + length + payload of a LEN field.
size_t pb_len_size(uint32_t field, size_t payload);
uint8_t *pb_w_len(uint8_t *at, uint32_t field, size_t payload); // tag and length only
uint8_t *pb_w_bytes(uint8_t *at, uint32_t field, struct view v);
size_t pb_uint_size(uint32_t field, uint64_t v);
uint8_t *pb_w_uint(uint8_t *at, uint32_t field, uint64_t v);

#endif
