/* tests/unit/api_decode.h: bodies on exchanges made by hand, decoded as one infer. */
#ifndef SLUICE_TESTS_API_DECODE_H
#define SLUICE_TESTS_API_DECODE_H

#include "api_kit.h"
#include "infer/oip_grpc.h"
#include <zlib.h>

static struct api_call call;
static struct infer_request req;
static struct error err;
static struct model_metadata meta;

#define INFER "/v2/models/m/versions/3/infer"
#define GRPC_INFER "/inference.GRPCInferenceService/ModelInfer"

// What was asked is routed and decoded, max bytes a step.
static inline bool decode(size_t max)
{
    req = (struct infer_request){0};
    err = (struct error){0};
    if (api_route(&kit_ex, &call, &err) != API_INFER)
        fail_msg("not an infer: %s", err.text);
    struct api_decoder *d = api_decode_begin(&kit_ex, &call, &meta, &req);
    assert_non_null(d);
    enum oip_step s;
    unsigned steps = 0;
    while ((s = api_decode_step(d, max, &err)) == OIP_MORE)
        assert_true(++steps < 100000);
    api_decode_drop(d);
    return s == OIP_DONE;
}

static inline void ask_grpc(struct view message, uint8_t flag, const char *encoding)
{
    kit_ask("POST", GRPC_INFER);
    kit_add("content-type", VIEW("application/grpc"));
    if (encoding)
        kit_add("grpc-encoding", view_str(encoding));
    kit_send_message(message, flag);
}

static inline struct view gzipped(struct view v, uint8_t out[4096])
{
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)v.p, .avail_in = (unsigned)v.n};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = out;
    z.avail_out = 4096;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t n = 4096 - z.avail_out;
    deflateEnd(&z);
    return view_of(out, n);
}

static inline void refused(size_t max, enum status status, const char *text)
{
    assert_false(decode(max));
    assert_int_equal(err.status, status);
    if (text)
        assert_string_equal(err.text, text);
}

// A gRPC message of two inputs, one raw content each.
static inline struct view message(struct arena *a, const char *model, struct buffer *out)
{
    float values[] = {1, 2, 3, 4};
    struct tensor in[] = {
        {VIEW("x"), DT_FP32, 2, {2, 2}, NULL, (const uint8_t *)values, sizeof(values), NULL},
        {VIEW("s"), DT_BYTES, 1, {2}, NULL, (const uint8_t *)"\1\0\0\0a\0\0\0\0", 9, NULL}};
    struct requested_output y = {VIEW("y"), true, 0, NULL};
    struct infer_request r = {.model = view_str(model),
                              .version = VIEW("3"),
                              .id = VIEW("7"),
                              .inputs = in,
                              .n_inputs = 2,
                              .outputs = &y,
                              .n_outputs = 1};
    const struct infer_request *one = &r;
    struct oip_message m;
    struct target to = {NULL, r.model, r.version};
    assert_true(oip_grpc_write_batch(a, &to, &one, 1, 0, 900, &m));
    for (unsigned i = 0; i < m.n; i++)
        buffer_append(out, m.segs[i].p, m.segs[i].n);
    return buffer_view(out);
}

#endif
