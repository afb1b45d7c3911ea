/* engine/small.h: numbers of 8 bits and less that no port has: floats of 8 and 4 bits (the standard's float8e4m3fn,
 * float8e4m3fnuz, float8e5m2, float8e5m2fnuz, float8e8m0, float4e2m1), whole numbers of 4 and 2. Inside a graph each
 * takes a byte: a float its bits, a whole number its value. In a file those below 8 bits are packed, the first one in
 * the low bits. At ports floats are UINT8, their bits, and whole numbers INT8 or UINT8. Sources: ONNX's Cast-25, its
 * "Float stored in 8 bits" and "4 bit types"; OCP's OFP8 and Microscaling formats. Thinks. */
#ifndef SLUICE_ENGINE_SMALL_H
#define SLUICE_ENGINE_SMALL_H

#include "engine/ops.h"

bool dtype_is_small(enum engine_dtype d);
bool dtype_is_small_float(enum engine_dtype d);       // of those
const char *dtype_title(enum engine_dtype d);         // of small ones, as the standard writes it
enum engine_dtype dtype_at_port(enum engine_dtype d); // itself, if it is not small
// How many bytes count elements take in a file; of any datatype but strings.
size_t dtype_file_bytes(enum engine_dtype d, size_t count);
// count elements of a file, one a byte.
void small_unpack(enum engine_dtype d, const uint8_t *from, uint8_t *to, size_t count);

// What a value becomes that its type does not have.
struct small_rounding {
    bool saturate;
    enum {
        SMALL_UP,
        SMALL_DOWN,
        SMALL_NEAREST
    } mode; // of float8e8m0; all others: to the nearest, to even
};
// As the node's attributes ask for it. False: a round_mode that is not known.
bool small_rounding_of(const struct node *n, struct small_rounding *r);
double small_value(enum engine_dtype d, uint8_t element);
// A float of 8 or 4 bits. What is not a number is 0 where the type has nothing for it.
uint8_t small_of_float(enum engine_dtype d, double v, struct small_rounding r);
// Whole numbers of 4 or 2 bits: the low bits of v.
uint8_t small_of_whole(enum engine_dtype d, uint64_t v);
// The least and the largest whole number; is a byte one of d's elements?
void small_range(enum engine_dtype d, int32_t *least, int32_t *most);
bool small_holds(enum engine_dtype d, uint8_t element);

// Ops whose kernels know them, or move whole elements.
bool op_takes_small(const struct op *op);
extern const struct op op_small_port; // between a port and its small numbers; no file can name it
#endif
