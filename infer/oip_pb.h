/* infer/oip_pb.h: pieces of the protobuf messages that requests and answers share. Used by oip_grpc_*.c.
 * InferInputTensor and InferOutputTensor have the same numbers; so have both forms of parameters. */
#ifndef SLUICE_INFER_OIP_PB_H
#define SLUICE_INFER_OIP_PB_H

#include "base/pb.h"
#include "infer/oip.h"

#define OIP_MAX_FIELDS 4096 // of one message outside its tensors: none of ours comes near

#define OIP_MAX_ENTRY 64 // of one parameter, and of its value

// The typed `contents` of one tensor on their way into raw form.
struct oip_contents {
    struct arena *arena;
    struct tensor *t;
    struct oip_place at;
    struct pb_reader fields, run; // the message's; of the packed field that is open
    bool in_run;
    uint64_t count, got;
    uint8_t *values;
    size_t bytes, room;
    struct view element; // BYTES: what is left to copy of one
};
// t: name, dtype, shape known. False: e.
bool oip_contents_begin(struct oip_contents *c, struct arena *a, struct view contents,
                        struct tensor *t, const struct oip_place *at, struct error *e);
enum oip_step oip_contents_step(struct oip_contents *c, size_t max_bytes, struct error *e);

// One tensor message without its data, with what its shape and its parameters take in a; *contents: .p NULL when it has
// none. sum: of the message that it is in.
bool oip_pb_tensor(struct arena *a, struct view message, struct tensor *t, struct view *contents,
                   struct params_sum *sum, const struct oip_place *at, struct error *e);
// An entry of map<string, InferParameter>; false: not one, or more than OIP_MAX_ENTRY fields.
bool oip_pb_param(struct view entry, struct param *out);
bool oip_text(struct view v); // at most OIP_MAX_TEXT bytes of UTF-8: they are read in one go

// Sizes and writers; first: replaces shape[0] when > 0. Field numbers are the caller's.
size_t oip_pb_tensor_size(uint32_t field, const struct tensor *t, int64_t first);
uint8_t *oip_pb_w_tensor(uint8_t *at, uint32_t field, const struct tensor *t, int64_t first);
size_t oip_pb_param_size(uint32_t field, const struct param *p);
uint8_t *oip_pb_w_param(uint8_t *at, uint32_t field, const struct param *p);
size_t oip_pb_params_size(uint32_t field, const struct params *l); // of NULL: 0
uint8_t *oip_pb_w_params(uint8_t *at, uint32_t field, const struct params *l);
static inline size_t oip_pb_text_size(uint32_t field, struct view v)
{
    return v.n ? pb_len_size(field, v.n) : 0;
}
static inline uint8_t *oip_pb_w_text(uint8_t *at, uint32_t field, struct view v)
{
    return v.n ? pb_w_bytes(at, field, v) : at;
}

#endif
