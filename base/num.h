/* base/num.h: numbers to text and back, exactly: parsing gives the nearest double/float (ties to even)
 * and printing the shortest decimal that parses back to the same value. No locale, no allocation. */
#ifndef SLUICE_BASE_NUM_H
#define SLUICE_BASE_NUM_H

#include "base/view.h"
#include <stdint.h>

enum num_error { NUM_OK, NUM_SYNTAX, NUM_RANGE };

// The whole view must be one RFC 8259 number. NUM_RANGE: overflow to infinity (underflow gives 0/denormal).
enum num_error num_parse_f64(struct view v, double *out);
enum num_error num_parse_f32(struct view v, float *out); // rounded once, not through double
// Optional '-', digits only; NUM_RANGE when it does not fit.
enum num_error num_parse_i64(struct view v, int64_t *out);
enum num_error num_parse_u64(struct view v, uint64_t *out); // no sign

// Write at most 32 bytes at out, return how many. Finite values only; integers-valued floats print
// without exponent while short ("5", "0.25", "1e+30" is allowed JSON).
unsigned num_print_f64(char *out, double v);
unsigned num_print_f32(char *out, float v);
unsigned num_print_i64(char *out, int64_t v);
unsigned num_print_u64(char *out, uint64_t v);
void num_print_hex(char out[16], uint64_t v); // sixteen digits, lower case

#endif
