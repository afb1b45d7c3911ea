/* infer/oip_data.h: one tensor's `data` array, out of JSON into typed memory. Used by oip_json.c.
 *
 * Flat, or nested. Nested arrays must be even: arrays at one depth have equally many members, and values
 * stand at one depth only. When that depth is the shape's rank, the widths must be the shape's; else the
 * values are taken in order (Triton's rule). */
#ifndef SLUICE_INFER_OIP_DATA_H
#define SLUICE_INFER_OIP_DATA_H

#include "base/json.h"
#include "infer/oip.h"

// What came, for messages: "an array", "a number", ...
const char *oip_json_came(enum json_token token);

struct oip_data {
    struct json_reader *r;
    struct arena *arena;
    struct tensor *t;    // name, dtype, shape known; data and bytes are written at the end
    struct oip_place at; // for messages
    uint64_t count, got; // values asked for by the shape, and read
    uint8_t *values;
    bool over;                // values[got] does not fit a narrow integer
    size_t bytes;             // BYTES: bytes measured, then written
    bool measuring;           // BYTES: first pass, for the size
    const char *from, *until; // BYTES: of the string that is being copied; until NULL: none is
    char *to;
    struct json_reader opened; // BYTES: just behind the opening bracket, for the second pass
    uint8_t depth;             // arrays open; 0: done
    uint8_t leaf;              // depth at which values stand; 0: not known yet
    int64_t width[TENSOR_MAX_RANK + 1]; // members of an array at that depth; -1: not known yet
    int64_t seen[TENSOR_MAX_RANK + 1];  // members so far of the one open
};

// r has just given the JSON_ARRAY of `data`. False: e.
bool oip_data_begin(struct oip_data *d, struct json_reader *r, struct arena *a, struct tensor *t,
                    const struct oip_place *at, struct error *e);
enum oip_step oip_data_step(struct oip_data *d, size_t max_bytes, struct error *e);

#endif
