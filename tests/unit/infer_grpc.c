// The gRPC codec: requests, batches toward a worker, its answers, slices back to clients in both forms.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/pb.h"
#include "infer/model_config.h"
#include "infer/oip_grpc.h"
#include "infer/oip_json.h"
#include "infer/oip_rest.h"
#include <stdio.h>

static struct arena arena;
static struct infer_request req;
static struct error err;
static struct block_owner owner;
static const struct target worker_model = {.name = VIEW("m"),
                                           .version = VIEW("2")}; // as it is told

// ---- messages by hand ----------------------------------------------------------------------------------

struct msg {
    uint8_t p[8192];
    size_t n;
};

static struct view bytes_of(const struct msg *m)
{
    return view_of(m->p, m->n);
}

static void put(struct msg *m, uint32_t field, struct view v)
{
    m->n = (size_t)(pb_w_bytes(m->p + m->n, field, v) - m->p);
}

static void put_text(struct msg *m, uint32_t field, const char *s)
{
    put(m, field, view_str(s));
}

static void put_uint(struct msg *m, uint32_t field, uint64_t v)
{
    m->n = (size_t)(pb_w_uint(m->p + m->n, field, v) - m->p);
}

static struct msg tensor(const char *name, const char *dtype, const char *dims)
{
    struct msg m = {.n = 0};
    put_text(&m, 1, name);
    put_text(&m, 2, dtype);
    put(&m, 3, view_str(dims)); // one byte a dimension
    return m;
}

static struct msg head(void)
{
    struct msg m = {.n = 0};
    put_text(&m, 1, "m");
    return m;
}

static bool decode(const struct msg *m)
{
    arena_reset(&arena);
    err = (struct error){0};
    return oip_grpc_decode(&arena, bytes_of(m), &req, &err);
}

static void refused(const struct msg *m, const char *text)
{
    assert_false(decode(m));
    assert_string_equal(err.text, text);
    assert_int_equal(err.status, STATUS_BAD_REQUEST);
}

static struct msg with_contents(const char *dtype, const char *dims, uint32_t field,
                                struct view run)
{
    struct msg m = head(), t = tensor("x", dtype, dims), c = {.n = 0};
    put(&c, field, run);
    put(&t, 5, bytes_of(&c));
    put(&m, 5, bytes_of(&t));
    return m;
}

// ---- requests ------------------------------------------------------------------------------------------

static void raw_request(void **state)
{
    struct msg m = head(), t = tensor("x", "FP32", "\2\2"), o = {.n = 0}, p = {.n = 0},
               v = {.n = 0};
    put_text(&m, 2, "3");
    put_text(&m, 3, "id-1");
    put(&m, 5, bytes_of(&t));
    put_text(&o, 1, "y");
    put(&m, 6, bytes_of(&o));
    put_text(&p, 1, "timeout");
    put_uint(&v, 2, 700);
    put(&p, 2, bytes_of(&v));
    put(&m, 4, bytes_of(&p));
    put(&m, 7, view_of("0123456789abcdef", 16));
    put_text(&m, 99, "unknown");
    assert_true(decode(&m));
    assert_true(view_is(req.model, "m") && view_is(req.version, "3") && view_is(req.id, "id-1"));
    assert_int_equal(req.timeout_us, 700);
    assert_int_equal(req.n_params, 0);
    assert_int_equal(req.format, FORMAT_OIP_GRPC);
    assert_int_equal(req.rows, 2);
    assert_memory_equal(req.inputs[0].data, "0123456789abcdef", 16);
    assert_true(view_is(req.outputs[0].name, "y"));
    // every truncation is refused or another whole message, never read past
    for (size_t n = 0; n < m.n; n++) {
        uint8_t *exact = mem_must(n ? n : 1);
        memcpy(exact, m.p, n);
        arena_reset(&arena);
        oip_grpc_decode(&arena, view_of(exact, n), &req, &err);
        mem_free(exact);
    }
}

#define CONTENTS(dtype, field, run, type, ...)                                                     \
    do {                                                                                           \
        const type want[] = {__VA_ARGS__};                                                         \
        struct msg m = with_contents(dtype, "\1\3", field, view_of(run, sizeof(run) - 1));         \
        if (!decode(&m))                                                                           \
            fail_msg("%s: %s", dtype, err.text);                                                   \
        assert_int_equal(req.inputs[0].bytes, sizeof(want));                                       \
        assert_memory_equal(req.inputs[0].data, want, sizeof(want));                               \
    } while (0)

static void typed_contents(void **state)
{
#define MINUS(last) last "\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    CONTENTS("BOOL", 1, "\1\0\x05", uint8_t, 1, 0, 1);
    CONTENTS("INT8", 2, "\1" MINUS("\x80") "\x7f", int8_t, 1, -128, 127);
    CONTENTS("INT16", 2, "\1" MINUS("\xff") "\x7f", int16_t, 1, -1, 127);
    CONTENTS("INT32", 2, "\1" MINUS("\xff") "\x7f", int32_t, 1, -1, 127);
    CONTENTS("INT64", 3, "\1" MINUS("\xff") "\x7f", int64_t, 1, -1, 127);
    CONTENTS("UINT8", 4, "\1\2\xff\1", uint8_t, 1, 2, 255);
    CONTENTS("UINT16", 4, "\1\2\xff\1", uint16_t, 1, 2, 255);
    CONTENTS("UINT32", 4, "\1\2\xff\1", uint32_t, 1, 2, 255);
    CONTENTS("UINT64", 5, "\1\2" MINUS("\xff"), uint64_t, 1, 2, UINT64_MAX);
    CONTENTS("FP32", 6, "\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40", float, 1, 2, 3);
    CONTENTS("FP64", 7, "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\0", double, 1, 2, 0);
    // unpacked, and BYTES
    struct msg m = head(), t = tensor("x", "INT32", "\3"), c = {.n = 0};
    for (unsigned i = 1; i <= 3; i++)
        put_uint(&c, 2, i);
    put(&t, 5, bytes_of(&c));
    put(&m, 5, bytes_of(&t));
    assert_true(decode(&m));
    assert_memory_equal(req.inputs[0].data, ((const int32_t[]){1, 2, 3}), 12);
    m = head();
    t = tensor("x", "BYTES", "\2");
    c.n = 0;
    put_text(&c, 8, "ab");
    put_text(&c, 8, "");
    put(&t, 5, bytes_of(&c));
    put(&m, 5, bytes_of(&t));
    assert_true(decode(&m));
    assert_int_equal(req.inputs[0].bytes, 10);
    assert_memory_equal(req.inputs[0].data, "\2\0\0\0ab\0\0\0\0", 10);
    // unpacked floats, packed in two runs
    m = head();
    t = tensor("x", "FP32", "\3");
    c.n = 0;
    put(&c, 6, view_of("\0\0\x80\x3f\0\0\0\x40", 8));
    c.n = (size_t)(pb_w_tag(c.p + c.n, 6, PB_I32) - c.p);
    memcpy(c.p + c.n, "\0\0\x40\x40", 4);
    c.n += 4;
    put(&t, 5, bytes_of(&c));
    put(&m, 5, bytes_of(&t));
    assert_true(decode(&m));
    assert_memory_equal(req.inputs[0].data, ((const float[]){1, 2, 3}), 12);
}

static void contents_in_steps(void **state)
{
    char run[4000];
    memset(run, 7, sizeof(run));
    struct msg m = with_contents("INT64", "\xa0\x1f", 3, view_of(run, sizeof(run))); // 4000
    arena_reset(&arena);
    struct oip_grpc *d = oip_grpc_begin(&arena, bytes_of(&m), &req);
    enum oip_step step;
    unsigned steps = 0;
    while ((step = oip_grpc_step(d, 100, &err)) == OIP_MORE)
        steps++;
    assert_int_equal(step, OIP_DONE);
    assert_in_range(steps, 30, 60);
    assert_int_equal(req.inputs[0].bytes, 32000);
    assert_int_equal(load_u64(req.inputs[0].data + 31992), 7);
}

static void refusals(void **state)
{
    struct msg m = {.n = 0}, t = tensor("x", "FP32", "\1"), t2, c = {.n = 0};
    refused(&m, "model_name: expected [A-Za-z0-9._+@~-]{1,128}");
    put_text(&m, 1, "../m");
    refused(&m, "model_name: expected [A-Za-z0-9._+@~-]{1,128}");
    m = head();
    refused(&m, "inputs: expected at least one");
    put_text(&m, 2, "a/b");
    refused(&m, "model_version: expected [A-Za-z0-9._+@~-]{1,128}");
    m = head();
    put(&m, 5, bytes_of(&t));
    refused(&m, "inputs[0].contents: shape [1] asks for more values than the bytes can hold");
    put(&m, 7, view_of("abc", 3));
    refused(&m, "inputs[0].data: expected 4 bytes for FP32 [1], got 3");
    put(&m, 7, view_of("abcd", 4));
    refused(&m, "raw_input_contents: expected 1, one for each input, got 2");
    m = head();
    put(&m, 5, bytes_of(&t));
    put(&m, 5, bytes_of(&t));
    refused(&m, "inputs[1].name: same name as inputs[0]");
    m = head();
    t2 = tensor("x", "FP33", "\1");
    put(&m, 5, bytes_of(&t2));
    refused(&m, "inputs[0].datatype: expected a known datatype, got another text");
    m = head();
    t2 = tensor("", "FP32", "\1");
    put(&m, 5, bytes_of(&t2));
    refused(&m, "inputs[0].name: expected a name");
    m = head();
    t2 = tensor("\xff", "FP32", "\1");
    put(&m, 5, bytes_of(&t2));
    refused(&m, "inputs[0].name: expected a name");
    m = head();
    t2 = tensor("x", "FP32", "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1");
    put(&m, 5, bytes_of(&t2));
    refused(&m, "inputs[0].shape: expected at most 16 dimensions, got 17");
    m = head();
    t2 = tensor("x", "FP32", MINUS("\xff"));
    put(&m, 5, bytes_of(&t2));
    refused(&m, "inputs[0].shape: expected non-negative integers, got a negative one");
    m = head();
    t2 = tensor("x", "FP32", "\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x04");
    put(&m, 5, bytes_of(&t2));
    put(&m, 7, view_of("abcd", 4));
    refused(&m, "inputs[0].shape: the size of FP32 [9223372036854775807,4] is out of range");
    m = with_contents("FP16", "\1", 6, view_of("abcd", 4));
    refused(&m, "inputs[0].contents: FP16 travels only in raw form");
    m = with_contents("FP32", "\1", 7, view_of("abcdefgh", 8));
    refused(&m, "inputs[0].contents: values of another datatype");
    m = with_contents("FP32", "\1", 6, view_of("abcdefgh", 8));
    refused(&m, "inputs[0].contents: expected 1 FP32 values for shape [1], got more");
    m = with_contents("FP32", "\2", 6, view_of("abcd", 4));
    refused(&m, "inputs[0].contents: expected 2 FP32 values for shape [2], got 1");
    m = with_contents("FP32", "\1", 6, view_of("abcde", 5));
    refused(&m, "inputs[0].contents: fixed-size field is cut off");
    m = with_contents("FP32", "\2", 6, view_of("abcdef", 6));
    refused(&m, "inputs[0].contents: fixed-size field is cut off");
    m = with_contents("INT8", "\1", 2, view_of("\x80\x01", 2));
    refused(&m, "inputs[0].contents: number is out of range (INT8, element 0)");
    m = with_contents("UINT8", "\1", 4, view_of("\x80\x02", 2));
    refused(&m, "inputs[0].contents: number is out of range (UINT8, element 0)");
    m = with_contents("INT32", "\1", 2, view_of("\x80", 1));
    refused(&m, "inputs[0].contents: varint is cut off");
    // contents and raw together
    m = head();
    put(&c, 6, view_of("abcd", 4));
    t2 = t;
    put(&t2, 5, bytes_of(&c));
    put(&m, 5, bytes_of(&t2));
    put(&m, 7, view_of("abcd", 4));
    refused(&m, "inputs[0].contents: comes together with raw_input_contents");
    m = head();
    put(&t2, 5, bytes_of(&c));
    put(&m, 5, bytes_of(&t2));
    refused(&m, "inputs[0]: has contents twice");
    // row 101: an 11-byte varint, a length of 2^63, field 0, wire types 6 and 3
    static const struct {
        const char *p;
        size_t n;
        const char *text;
    } wire[] = {
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12,
         "message: varint is longer than 64 bits"},
        {"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11, "message: length exceeds the message"},
        {"\x02\x00", 2, "message: field number is out of range"},
        {"\x0e", 1, "message: wire type is not supported"},
        {"\x0b\x0c", 2, "message: wire type is not supported"},
        {"\x08\x01", 2, "message: a field has another wire type"},
    };
    for (unsigned i = 0; i < sizeof(wire) / sizeof(wire[0]); i++) {
        m.n = wire[i].n;
        memcpy(m.p, wire[i].p, m.n);
        refused(&m, wire[i].text);
    }
    // 4096 unknown fields are read, one more is not
    for (m.n = 0; m.n < 8192;) {
        m.p[m.n++] = 0x40; // field 8, varint
        m.p[m.n++] = 1;
    }
    assert_false(decode(&m));
    assert_string_equal(err.text, "model_name: expected [A-Za-z0-9._+@~-]{1,128}");
}

// ---- the whole way: JSON, batch, worker, slices, JSON ----------------------------------------------------

static struct view flat(struct arena *a, const struct oip_message *m)
{
    uint8_t *p = arena_alloc(a, m->bytes + 1);
    size_t n = 0;
    for (unsigned i = 0; i < m->n; i++) {
        memcpy(p + n, m->segs[i].p, m->segs[i].n);
        n += m->segs[i].n;
    }
    assert_int_equal(n, m->bytes);
    return view_of(p, n);
}

// A worker: y = 2 x, and as many letters for each row as its first value says.
static struct view work(struct arena *a, const struct infer_request *r)
{
    const struct tensor *x = &r->inputs[0];
    size_t n = x->bytes / 4, row_values = n / (size_t)x->shape[0], at = 0;
    float *y = arena_array(a, n, 4);
    uint8_t *text = arena_alloc(a, (size_t)x->shape[0] * 16);
    for (size_t i = 0; i < n; i++)
        y[i] = 2 * load_f32(x->data + 4 * i);
    for (int64_t i = 0; i < x->shape[0]; i++) {
        float first = load_f32(x->data + (size_t)i * row_values * 4);
        uint32_t len = first >= 0 && first < 4 ? (uint32_t)first : 0;
        memcpy(text + at, &len, 4);
        memset(text + at + 4, 'a', len);
        at += 4 + len;
    }
    struct tensor out[2] = {*x,
                            {.name = VIEW("t"),
                             .dtype = DT_BYTES,
                             .rank = 2,
                             .shape = {x->shape[0], 1},
                             .data = text,
                             .bytes = at}};
    out[0].name = VIEW("y");
    out[0].data = (uint8_t *)y;
    struct answer answer = {.outputs = out, .n_outputs = 2};
    struct slice whole = {.answer = &answer};
    struct param p[2] = {{.key = VIEW("queue_us"), .type = PARAM_INT64, .i = 5},
                         {.key = VIEW("compute_us"), .type = PARAM_UINT64, .u = 77}};
    struct oip_said said = {VIEW("m"), VIEW("4"), VIEW(""), p, 2, NULL};
    struct oip_message m;
    bool pins;
    assert_true(oip_grpc_write_answer(a, r, &whole, &said, &m, &pins, &err));
    return flat(a, &m);
}

static struct block *block_with(struct view v)
{
    struct block *b = block_new(&owner, v.n);
    memcpy(b->data, v.p, v.n);
    return b;
}

static struct answer *through_worker(const struct infer_request *const *members, unsigned n,
                                     uint32_t rows)
{
    struct oip_message m;
    struct infer_request got;
    struct answer *answer;
    assert_true(oip_grpc_write_batch(&arena, &worker_model, members, n, rows, 123, &m));
    if (!oip_grpc_decode(&arena, flat(&arena, &m), &got, &err))
        fail_msg("the worker cannot read it: %s", err.text);
    assert_int_equal(got.timeout_us, 123);
    assert_int_equal(got.inputs[0].shape[0], rows);
    assert_true(n == 1 || got.id.n == 0);
    struct view v = work(&arena, &got);
    struct block *b = block_with(v);
    if (!oip_grpc_read_answer(b, view_of(b->data, v.n), rows, &answer, &err))
        fail_msg("%s", err.text);
    for (unsigned k = 0; rows && k < answer->n_outputs; k++)
        assert_true(answer->outputs[k].rank > 0 && answer->outputs[k].shape[0] == rows);
    assert_ptr_equal(answer->block, b);
    assert_int_equal(answer->queue_us, 5);
    assert_int_equal(answer->compute_us, 77);
    return answer;
}

static void rest(const struct infer_request *r, const struct slice *s, struct buffer *out)
{
    struct oip_rest w;
    struct oip_said said = {r->model, VIEW("4"), r->id, NULL, 0, NULL};
    struct oip_seg binary[4];
    oip_rest_begin(&w, r, s, &said, out, binary);
    assert_int_equal(oip_rest_step(&w, SIZE_MAX, &err), OIP_DONE);
    for (unsigned i = 0; i < w.n_binary; i++)
        buffer_append(out, binary[i].p, binary[i].n);
}

static void round_trip(void **state)
{
    static const char *const bodies[] = {
        "{\"id\":\"one\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\","
        "\"data\":[1,2.5]}]}",
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[3,0.1],["
        "\"NaN\",-1]]}]}",
        "{\"id\":\"3\",\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"data\":["
        "2,\"Infinity\"]}],"
        "\"parameters\":{\"binary_data_output\":true}}",
    };
    static const char *const answers[] = {
        "{\"model_name\":\"m\",\"model_version\":\"4\",\"id\":\"one\",\"outputs\":["
        "{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[2,5]},"
        "{\"name\":\"t\",\"datatype\":\"BYTES\",\"shape\":[1,1],\"data\":[\"a\"]}]}",
        "{\"model_name\":\"m\",\"model_version\":\"4\",\"outputs\":["
        "{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[6,0.2,\"NaN\",-2]},"
        "{\"name\":\"t\",\"datatype\":\"BYTES\",\"shape\":[2,1],\"data\":[\"aaa\",\"\"]}]}",
        "{\"model_name\":\"m\",\"model_version\":\"4\",\"id\":\"3\",\"outputs\":["
        "{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[1,2],\"parameters\":{\"binary_data_"
        "size\":8}},"
        "{\"name\":\"t\",\"datatype\":\"BYTES\",\"shape\":[1,1],\"parameters\":{\"binary_data_"
        "size\":6}}]}",
    };
    struct infer_request r[3];
    const struct infer_request *members[3];
    arena_reset(&arena);
    uint32_t rows = 0;
    for (int i = 0; i < 3; i++) {
        r[i] = (struct infer_request){.model = VIEW("m")};
        assert_true(oip_json_decode(&arena, view_str(bodies[i]), VIEW(""), &r[i], &err));
        members[i] = &r[i];
        rows += r[i].rows;
        assert_true(hash128_eq(r[0].batch_key, r[i].batch_key));
    }
    struct answer *a = through_worker(members, 3, rows);
    uint32_t row = 0;
    for (int i = 0; i < 3; i++) {
        struct buffer out;
        buffer_init(&out);
        struct slice s = {a, row, r[i].rows, NULL};
        rest(&r[i], &s, &out);
        struct view got = buffer_view(&out);
        size_t json = strlen(answers[i]);
        assert_memory_equal(got.p, answers[i], json);
        if (i == 2) {
            const float want[] = {4, __builtin_inff()};
            assert_int_equal(got.n, json + 14);
            assert_memory_equal(got.p + json, want, 8);
            assert_memory_equal(got.p + json + 8, "\2\0\0\0aa", 6);
        } else {
            assert_int_equal(got.n, json);
        }
        buffer_deinit(&out);
        row += r[i].rows;
    }
    block_unref(a->block);
    assert_int_equal(owner.live_blocks, 0);
}

// Large rows are lent, small ones copied; order is kept.
static void large_rows(void **state)
{
    const size_t sizes[] = {4, 4096, 4092, 5000, 16384, 8};
    struct infer_request r[6];
    struct tensor t[6][2];
    const struct infer_request *members[6];
    arena_reset(&arena);
    uint8_t *data = arena_alloc(&arena, 40000);
    for (unsigned i = 0; i < 40000; i++)
        data[i] = (uint8_t)(i * 7);
    uint32_t rows = 0;
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned k = 0; k < 2; k++)
            t[i][k] = (struct tensor){.name = k ? VIEW("b") : VIEW("a"),
                                      .dtype = DT_UINT8,
                                      .rank = 2,
                                      .shape = {(int64_t)sizes[i] / 4, 4},
                                      .data = data + 100 * i + k,
                                      .bytes = sizes[i]};
        r[i] = (struct infer_request){.model = VIEW("m"), .inputs = t[i], .n_inputs = 2};
        request_seal(&r[i]);
        members[i] = &r[i];
        rows += r[i].rows;
    }
    struct oip_message m;
    assert_true(oip_grpc_write_batch(&arena, &worker_model, members, 6, rows, 0, &m));
    unsigned lent = 0;
    for (unsigned i = 0; i < m.n; i++)
        lent += m.segs[i].lent;
    assert_int_equal(lent, 6);
    struct infer_request got;
    assert_true(oip_grpc_decode(&arena, flat(&arena, &m), &got, &err));
    assert_int_equal(got.rows, rows);
    for (unsigned k = 0; k < 2; k++) {
        const uint8_t *at = got.inputs[k].data;
        for (unsigned i = 0; i < 6; i++) {
            assert_memory_equal(at, t[i][k].data, sizes[i]);
            at += sizes[i];
        }
    }
}

// What goes alone takes all its own words along.
static void alone(void **state)
{
    static const char body[] = "{\"id\":\"z\",\"parameters\":{\"sequence_id\":7,\"sequence_start\":"
                               "true,\"f\":0.5,\"s\":\"x\",\"u\":"
                               "18446744073709551615,\"priority\":3,\"sequence_end\":false},"
                               "\"inputs\":[{\"name\":\"x\",\"shape\":[],"
                               "\"datatype\":\"INT64\",\"data\":[9]}],\"outputs\":[{\"name\":\"o\","
                               "\"parameters\":{\"classification\":2}}]}";
    arena_reset(&arena);
    struct infer_request r = {.model = VIEW("m"), .version = VIEW("2")}, got;
    assert_true(oip_json_decode(&arena, VIEW(body), VIEW(""), &r, &err));
    assert_int_equal(r.rows, 0);
    assert_true(r.sequence);
    const struct infer_request *member = &r;
    struct oip_message m;
    assert_true(oip_grpc_write_batch(&arena, &worker_model, &member, 1, 0, 55, &m));
    assert_int_equal(m.n, 1);
    assert_true(oip_grpc_decode(&arena, flat(&arena, &m), &got, &err));
    assert_true(view_is(got.id, "z") && view_is(got.version, "2"));
    assert_int_equal(got.timeout_us, 55);
    assert_int_equal(got.priority, 3);
    assert_int_equal(got.n_params, 5);
    assert_true(got.params[0].type == PARAM_INT64 && got.params[0].i == 7);
    assert_true(got.params[1].type == PARAM_BOOL && got.params[1].b);
    assert_true(got.params[2].type == PARAM_DOUBLE && got.params[2].d == 0.5);
    assert_true(view_is(got.params[3].s, "x"));
    assert_true(got.params[4].type == PARAM_UINT64 && got.params[4].u == UINT64_MAX);
    assert_int_equal(got.outputs[0].classification, 2);
    assert_int_equal(got.inputs[0].rank, 0);
}

// What is said of inputs and requested outputs goes along, of one request or of several; what says how bytes travel does not.
static void parameters_of_tensors(void **state)
{
    static const char body[] =
        "{\"parameters\":{\"p\":1,\"timeout\":9},\"inputs\":[{\"name\":\"x\",\"shape\":[1],"
        "\"datatype\":"
        "\"INT8\",\"parameters\":{\"content_type\":\"np\",\"scale\":0.5,\"binary_data_size\":1}}],"
        "\"outputs\":[{\"name\":\"o\",\"parameters\":{\"binary_data\":false,\"top\":3,\"sure\":"
        "true}}]}";
    arena_reset(&arena);
    struct infer_request r[2], got;
    const struct infer_request *members[2] = {&r[0], &r[1]};
    for (unsigned i = 0; i < 2; i++) {
        r[i] = (struct infer_request){.model = VIEW("m")};
        assert_true(oip_json_decode(&arena, VIEW(body), VIEW("\7"), &r[i], &err));
        assert_false(r[i].sequence);
    }
    for (unsigned n = 1; n <= 2; n++) {
        struct oip_message m;
        assert_true(oip_grpc_write_batch(&arena, &worker_model, members, n, n, 0, &m));
        assert_true(oip_grpc_decode(&arena, flat(&arena, &m), &got, &err));
        assert_int_equal(got.inputs[0].shape[0], n);
        assert_int_equal(got.n_params, 1);
        const struct params *in = got.inputs[0].params, *out = got.outputs[0].params;
        assert_int_equal(in->n, 2);
        assert_true(view_is(in->at[0].key, "content_type") && view_is(in->at[0].s, "np"));
        assert_true(in->at[1].type == PARAM_DOUBLE && in->at[1].d == 0.5);
        assert_int_equal(out->n, 2);
        assert_true(out->at[0].i == 3 && out->at[1].b);
        assert_true(hash128_eq(got.batch_key, r[0].batch_key));
    }
}

static struct msg said(const char *key, const char *text)
{
    struct msg v = {.n = 0}, p = {.n = 0};
    put_text(&v, 3, text);
    put_text(&p, 1, key);
    put(&p, 2, bytes_of(&v));
    return p;
}

// And what the worker says of its answer and of its outputs reaches every client of the batch, in both forms.
static void parameters_of_answers(void **state)
{
    struct msg m = head(), t = tensor("y", "INT8", "\2"), p = said("note", "n\"1");
    put(&m, 4, bytes_of(&p));
    p = said("sluice-source", "cache"); // of a gateway behind us: ours is said instead
    put(&m, 4, bytes_of(&p));
    p = said("content_type", "np");
    put(&t, 4, bytes_of(&p));
    p = said("binary_data_size", "2"); // how they travelled
    put(&t, 4, bytes_of(&p));
    put(&m, 5, bytes_of(&t));
    put(&m, 6, VIEW("ab"));
    struct answer *a;
    struct block *b = block_with(bytes_of(&m));
    assert_true(oip_grpc_read_answer(b, view_of(b->data, m.n), 2, &a, &err));
    assert_int_equal(a->params->n, 1);
    for (uint32_t row = 0; row < 2; row++) {
        struct slice s = {a, row, 1, NULL};
        struct param ours = {.key = VIEW("queue_us"), .type = PARAM_INT64, .i = 5};
        struct oip_said told = {
            .model = VIEW("m"), .params = &ours, .n_params = 1, .theirs = a->params};
        struct infer_request r = {.model = VIEW("m"), .binary_output = row > 0};
        struct oip_seg binary[1];
        struct buffer out;
        struct oip_rest w;
        buffer_init(&out);
        oip_rest_begin(&w, &r, &s, &told, &out, binary);
        assert_int_equal(oip_rest_step(&w, SIZE_MAX, &err), OIP_DONE);
        static const char *const want[] = {
            "{\"model_name\":\"m\",\"parameters\":{\"queue_us\":5,\"note\":\"n\\\"1\"},\"outputs\":"
            "[{\"name\":"
            "\"y\",\"datatype\":\"INT8\",\"shape\":[1],\"parameters\":{\"content_type\":\"np\"},"
            "\"data\":[97]}]}",
            "{\"model_name\":\"m\",\"parameters\":{\"queue_us\":5,\"note\":\"n\\\"1\"},\"outputs\":"
            "[{\"name\":"
            "\"y\",\"datatype\":\"INT8\",\"shape\":[1],\"parameters\":{\"binary_data_size\":1,"
            "\"content_type\":"
            "\"np\"}}]}"};
        assert_memory_equal(buffer_view(&out).p, want[row], strlen(want[row]));
        assert_int_equal(buffer_len(&out), strlen(want[row]));
        buffer_deinit(&out);
        struct oip_message back;
        bool pins;
        r.format = FORMAT_OIP_GRPC;
        assert_true(oip_grpc_write_answer(&arena, &r, &s, &told, &back, &pins, &err));
        struct view v = flat(&arena, &back);
        struct block *again = block_with(v);
        struct answer *copy;
        assert_true(oip_grpc_read_answer(again, view_of(again->data, v.n), 1, &copy, &err));
        assert_true(copy->queue_us == 5 && copy->params->n == 1);
        assert_true(view_is(copy->params->at[0].s, "n\"1"));
        assert_true(view_is(copy->outputs[0].params->at[0].key, "content_type"));
        block_unref(copy->block);
    }
    block_unref(a->block);
    assert_int_equal(owner.live_blocks, 0);
}

// ---- wrong answers of workers ----------------------------------------------------------------------------

static void answer_refused(const struct msg *m, uint32_t rows, const char *text)
{
    struct answer *a;
    struct block *b = block_with(bytes_of(m));
    assert_false(oip_grpc_read_answer(b, view_of(b->data, m->n), rows, &a, &err));
    assert_string_equal(err.text, text);
    assert_int_equal(err.status, STATUS_BAD_ANSWER);
    block_unref(b); // still ours
    assert_int_equal(owner.live_blocks, 0);
}

static void wrong_answers(void **state)
{
    struct msg m = head(), t = tensor("y", "FP32", "\2\2"), big = {.n = 0};
    put(&m, 5, bytes_of(&t));
    answer_refused(&m, 2,
                   "outputs[0].contents: shape [2,2] asks for more values than the bytes can hold");
    struct msg two = m;
    put(&m, 6, view_of("abc", 3));
    answer_refused(&m, 2, "outputs[0].data: expected 16 bytes for FP32 [2,2], got 3");
    put(&two, 6, view_of("0123456789abcdef", 16));
    put(&two, 6, VIEW(""));
    answer_refused(&two, 2, "raw_output_contents: expected 1, one for each output, got 2");
    m = head();
    t = tensor("y", "BYTES", "\2");
    put(&m, 5, bytes_of(&t));
    put(&m, 6, view_of("\1\0\0\0a\1\0\0\0", 9));
    answer_refused(&m, 2, "outputs[0]: the bytes are not as many BYTES elements as the shape says");
    m.n = 3;
    memcpy(m.p, "\x0a\x7f\x01", 3);
    answer_refused(&m, 1, "the worker's message: length exceeds the message");
    put_uint(&big, 5, 1);
    answer_refused(&big, 1, "the worker's message: a field has another wire type");
    // other rows than asked for: readable
    struct answer *a;
    m = head();
    t = tensor("y", "INT8", "\3\1");
    put(&m, 5, bytes_of(&t));
    put(&m, 6, view_of("abc", 3));
    struct block *b = block_with(bytes_of(&m));
    assert_true(oip_grpc_read_answer(b, view_of(b->data, m.n), 2, &a, &err));
    assert_int_equal(a->outputs[0].shape[0], 3);
    block_unref(b);
}

// Contents instead of raw; every truncation; the n-th allocation fails.
static void answers_otherwise(void **state)
{
    struct msg m = head(), t = tensor("y", "INT16", "\2\1"), u = tensor("t", "BYTES", "\2"),
               c = {.n = 0}, d = {.n = 0};
    put(&c, 2, view_of("\5\6", 2));
    put(&t, 5, bytes_of(&c));
    put_text(&d, 8, "hello");
    put_text(&d, 8, "x");
    put(&u, 5, bytes_of(&d));
    put(&m, 5, bytes_of(&t));
    put(&m, 5, bytes_of(&u));
    for (uint64_t n = 1;; n++) {
        struct answer *a = NULL;
        struct block *b = block_with(bytes_of(&m));
        mem_fail_at(n);
        bool ok = oip_grpc_read_answer(b, view_of(b->data, m.n), 2, &a, &err);
        mem_fail_at(0);
        if (!ok) {
            assert_int_equal(err.status, STATUS_UNAVAILABLE);
            block_unref(b);
            continue;
        }
        struct slice s = {a, 1, 1, NULL};
        assert_int_equal(load_u32(slice_output(&s, 1).data), 1);
        assert_int_equal(slice_output(&s, 0).data[0], 6);
        assert_int_equal(slice_output(&s, 1).data[4], 'x');
        block_unref(b);
        break;
    }
    assert_int_equal(owner.live_blocks, 0);
    for (size_t n = 0; n < m.n; n++) {
        struct answer *a;
        struct block *b = block_with(view_of(m.p, n));
        if (oip_grpc_read_answer(b, view_of(b->data, n), 2, &a, &err))
            assert_int_equal(a->rows, 2);
        block_unref(b);
    }
    assert_int_equal(owner.live_blocks, 0);
}

static void answers_of_our_own(void **state)
{
    struct tensor out[2] = {
        {.name = VIEW("y"), .dtype = DT_FP32, .rank = 2, .shape = {2, 1}, .bytes = 8},
        {.name = VIEW("t"), .dtype = DT_BYTES, .rank = 1, .shape = {2}, .bytes = 9}};
    struct block *b = block_new(&owner, 100);
    memcpy(b->data, "abcdefgh\1\0\0\0a\0\0\0\0", 17);
    out[0].data = b->data;
    out[1].data = b->data + 8;
    struct answer *a = answer_new(b, out, 2, 2);
    assert_non_null(a);
    struct slice s = {a, 1, 1, NULL};
    assert_memory_equal(slice_output(&s, 0).data, "efgh", 4);
    assert_int_equal(slice_output(&s, 1).bytes, 4);
    block_unref(b);
    assert_int_equal(owner.live_blocks, 0);
    b = block_new(&owner, 100);
    out[1].data = (const uint8_t *)"\2\0\0\0a\0\0\0\0";
    assert_null(answer_new(b, out, 2, 2));
    block_unref(b);
}

static int64_t dim_of_deep(unsigned i)
{
    return i == 0 ? 2 : i == 11 ? 3 : 1;
}

// Twelve dimensions to a worker, in a batch of two, and back; each allocation fails in turn.
static void many_dimensions(void **state)
{
    static const uint8_t values[12];
    bool ok = false;
    for (uint64_t n = 1; !ok; n++) {
        struct tensor x = {.name = VIEW("x"), .dtype = DT_INT8, .data = values, .bytes = 6};
        struct infer_request r = {.model = VIEW("m"), .inputs = &x, .n_inputs = 1};
        const struct infer_request *members[2] = {&r, &r};
        struct oip_message to;
        arena_reset(&arena);
        for (unsigned i = 0; i < 12; i++)
            assert_true(tensor_add_dim(&arena, &x, dim_of_deep(i)));
        assert_true(oip_grpc_write_batch(&arena, &worker_model, members, 2, 4, 0, &to));
        struct view message = flat(&arena, &to);
        mem_fail_at(n);
        ok = oip_grpc_decode(&arena, message, &req, &err);
        mem_fail_at(0);
        assert_true(ok || err.status == STATUS_UNAVAILABLE);
    }
    assert_int_equal(req.inputs[0].rank, 12);
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(tensor_dim(&req.inputs[0], i), i == 0 ? 4 : dim_of_deep(i));
    assert_int_equal(req.rows, 4);
    struct model_metadata m = {.name = VIEW("m"), .inputs = req.inputs, .n_inputs = 1}, got, copy;
    struct buffer out;
    buffer_init(&out);
    assert_true(oip_grpc_metadata(&out, &m));
    assert_true(oip_grpc_read_metadata(&arena, buffer_view(&out), &got, &err));
    assert_true(tensor_same_shape(&got.inputs[0], &req.inputs[0]));
    assert_true(model_metadata_copy(&arena, &copy, &got));
    tensor_set_dim(&got.inputs[0], 11, 9);
    assert_true(tensor_same_shape(&copy.inputs[0], &req.inputs[0]));
    buffer_deinit(&out);
}

// ---- the small calls -------------------------------------------------------------------------------------

static void small_calls(void **state)
{
    struct view name, version;
    struct buffer out;
    bool ready;
    arena_reset(&arena);
    buffer_init(&out);
    struct view q = oip_grpc_model_request(&arena, VIEW("digits"), VIEW("3"));
    assert_true(oip_grpc_read_model_request(q, &name, &version));
    assert_true(view_is(name, "digits") && view_is(version, "3"));
    assert_true(oip_grpc_read_index_request(oip_grpc_index_request(&arena, true), &ready) && ready);
    assert_true(oip_grpc_read_index_request(oip_grpc_index_request(&arena, false), &ready) &&
                !ready);
    assert_true(oip_grpc_ready(&out, true));
    assert_true(oip_grpc_read_ready(buffer_view(&out), &ready) && ready);
    assert_true(oip_grpc_read_ready(VIEW(""), &ready) && !ready);
    assert_false(oip_grpc_read_ready(VIEW("\x0a\x01\x01"), &ready));
    buffer_reset(&out);
    assert_true(oip_grpc_health(&out, false));
    assert_memory_equal(out.data, "\x08\x02", 2);
    buffer_reset(&out);
    assert_true(oip_grpc_server(&out, VIEW("sluice"), VIEW("0.1"), OIP_EXTENSIONS));
    assert_true(oip_grpc_read_model_request(buffer_view(&out), &name, &version));
    assert_true(view_is(name, "sluice") && view_is(version, "0.1"));

    struct tensor in[2] = {{.name = VIEW("x"), .dtype = DT_FP32, .rank = 3, .shape = {-1, 8, 8}},
                           {.name = VIEW("s"), .dtype = DT_BYTES, .rank = 1, .shape = {-1}}};
    struct view versions[] = {VIEW("1"), VIEW("12")};
    struct model_metadata m = {VIEW("digits"), VIEW("onnx"), versions, in, in, 2, 2, 1, 16, 0,
                               false,          VIEW("")},
                          got;
    buffer_reset(&out);
    assert_true(oip_grpc_metadata(&out, &m));
    struct view v = buffer_view(&out);
    assert_true(oip_grpc_read_metadata(&arena, v, &got, &err));
    assert_true(view_is(got.name, "digits") && view_is(got.platform, "onnx"));
    assert_int_equal(got.n_versions, 2);
    assert_true(view_is(got.versions[1], "12"));
    assert_int_equal(got.n_inputs, 2);
    assert_int_equal(got.inputs[0].rank, 3);
    assert_int_equal(got.inputs[0].shape[0], -1);
    assert_int_equal(got.inputs[0].shape[2], 8);
    assert_int_equal(got.inputs[1].dtype, DT_BYTES);
    assert_int_equal(got.n_outputs, 1);
    for (size_t n = 0; n < v.n; n++)
        oip_grpc_read_metadata(&arena, view_of(v.p, n), &got, &err);
    buffer_reset(&out);
    struct model_metadata c;
    assert_true(model_config_pb(&out, &m));
    assert_true(oip_grpc_read_config(buffer_view(&out), &c, &err));
    assert_true(c.max_batch == 16 && c.instances == 0 && !c.serial);
    m.instances = 300;
    m.serial = true;
    buffer_reset(&out);
    assert_true(model_config_pb(&out, &m));
    assert_true(oip_grpc_read_config(buffer_view(&out), &c, &err));
    assert_true(c.max_batch == 16 && c.instances == 300 && c.serial);
    for (size_t n = 2; n < buffer_view(&out).n;
         n++) // cut off: no message, and nothing is left of it
        assert_true(!oip_grpc_read_config(view_of(buffer_view(&out).p, n), &c, &err) && !c.serial &&
                    c.max_batch == 0);
    assert_true(oip_grpc_read_config(VIEW(""), &c, &err));
    assert_true(c.max_batch == 0 && !c.serial);
    // a negative max_batch_size is none
    assert_true(oip_grpc_read_config(
        view_of("\x0a\x0b\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 13), &c, &err));
    assert_int_equal(c.max_batch, 0);
    assert_int_equal(c.instances, 0); // not named
    buffer_reset(&out);
    struct oip_index_model lines[] = {{VIEW("a"), VIEW("1"), VIEW("READY"), VIEW("")},
                                      {VIEW("b"), VIEW(""), VIEW("UNAVAILABLE"), VIEW("broken")}};
    struct oip_index index = {lines, 2}, back;
    assert_true(oip_grpc_index(&out, &index));
    assert_true(oip_grpc_read_index(&arena, buffer_view(&out), &back));
    assert_int_equal(back.n, 2);
    assert_true(view_is(back.models[1].reason, "broken") && view_is(back.models[0].state, "READY"));
    buffer_deinit(&out);
}

static void wrong_metadata(void **state)
{
    struct model_metadata got;
    struct msg m = {.n = 0}, t = tensor("x", "FP99", "\1");
    arena_reset(&arena);
    assert_false(oip_grpc_read_metadata(&arena, bytes_of(&m), &got, &err));
    assert_string_equal(err.text,
                        "the worker's metadata: its name is not [A-Za-z0-9._+@~-]{1,128}");
    put_text(&m, 1, "m");
    put(&m, 4, bytes_of(&t));
    assert_false(oip_grpc_read_metadata(&arena, bytes_of(&m), &got, &err));
    assert_string_equal(err.text, "the worker's metadata: a tensor has an unknown datatype");
    assert_int_equal(err.status, STATUS_BAD_ANSWER);
    m.n = 0;
    t = tensor("x", "FP32", "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1");
    put(&m, 4, bytes_of(&t));
    assert_false(oip_grpc_read_metadata(&arena, bytes_of(&m), &got, &err));
    assert_string_equal(err.text,
                        "the worker's metadata: tensor x: expected at most 16 dimensions, got 17");
}

static int setup(void **state)
{
    arena_init(&arena, 0);
    block_owner_init(&owner);
    block_owner_adopt(&owner);
    return 0;
}

static int teardown(void **state)
{
    arena_deinit(&arena);
    block_owner_deinit(&owner);
    return 0;
}

// ModelConfigResponse of instance groups; a group's fields follow its length.
static void instances_are_added_up(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        bool ok;
        uint32_t instances;
    } rows[] = {
        {"\x0a\x04\x3a\x02\x10\x08", 6, true, 8},
        {"\x0a\x08\x3a\x02\x10\x02\x3a\x02\x10\x03", 10, true, 5},     // two groups
        {"\x0a\x08\x3a\x06\x10\x02\x1a\x02\x00\x01", 10, true, 4},     // on two devices, packed
        {"\x0a\x08\x3a\x06\x10\x02\x18\x00\x18\x01", 10, true, 4},     // and one by one
        {"\x0a\x09\x3a\x07\x10\x02\x1a\x03\x00\x80\x01", 11, true, 4}, // device 128
        {"\x0a\x06\x3a\x04\x10\x02\x38\x01", 8, true, 0},              // passive
        {"\x0a\x02\x3a\x00", 4, true, 0},                              // as many as it likes
        {"\x0a\x0d\x3a\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 15, true, 0},
        {"\x0a\x08\x3a\x06\x10\xff\xff\xff\xff\x07", 10, true, 65536},
        {"\x0a\x04\x38\x02\x10\x08", 6, false, 0}, // no message
        {"\x0a\x04\x3a\x02\x12\x00", 6, false, 0}, // count is no text
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct model_metadata c = {.max_batch = 9, .instances = 9, .serial = true};
        bool ok = oip_grpc_read_config(view_of(rows[i].bytes, rows[i].n), &c, &err);
        if (ok != rows[i].ok || c.instances != rows[i].instances || c.max_batch != 0 || c.serial)
            fail_msg("row %u: %d, %u instances, max_batch %u", i, ok, c.instances, c.max_batch);
    }
}

// ModelConfig.parameters, as any server may have them.
static void one_parameter_is_ours(void **state)
{
    (void)state;
#define ENTRY(key, value) "\x72\x17\x0a\x0d" key "\x12\x06\x0a\x04" value
    static const struct {
        const char *bytes;
        size_t n;
        bool ok, serial;
    } rows[] = {
        {"\x0a\x19" ENTRY("serial_device", "true"), 27, true, true},
        {"\x0a\x19" ENTRY("serial_device", "True"), 27, true, false},
        {"\x0a\x19" ENTRY("serial_devicE", "true"), 27, true, false},
        {"\x0a\x0f\x72\x0d\x0a\x0bserial_devi", 17, true, false},
        {"\x0a\x02\x72\x00", 4, true, false},
        {"\x0a\x02\x70\x01", 4, false, false},                 // parameters are no number
        {"\x0a\x04\x72\x02\x08\x01", 6, false, false},         // a key is no number
        {"\x0a\x06\x72\x04\x12\x02\x08\x01", 8, false, false}, // nor a value
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct model_metadata c = {.serial = true};
        bool ok = oip_grpc_read_config(view_of(rows[i].bytes, rows[i].n), &c, &err);
        if (ok != rows[i].ok || c.serial != rows[i].serial)
            fail_msg("row %u: %d, serial %d", i, ok, c.serial);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_of_tensors),
        cmocka_unit_test(parameters_of_answers),
        cmocka_unit_test(one_parameter_is_ours),
        cmocka_unit_test(instances_are_added_up),
        cmocka_unit_test(raw_request),
        cmocka_unit_test(typed_contents),
        cmocka_unit_test(contents_in_steps),
        cmocka_unit_test(refusals),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(large_rows),
        cmocka_unit_test(alone),
        cmocka_unit_test(wrong_answers),
        cmocka_unit_test(answers_otherwise),
        cmocka_unit_test(answers_of_our_own),
        cmocka_unit_test(many_dimensions),
        cmocka_unit_test(small_calls),
        cmocka_unit_test(wrong_metadata),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
