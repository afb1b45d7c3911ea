// Rows 89, 93 to 97, 101 and 103 of hostile input, as gRPC: every message is refused with INVALID_ARGUMENT, the
// field's name, no word of its own, for no more memory than it backs and in bounded time.
#include "api_kit.h"
#include "base/pb.h"

#define MARK "Zqx" // in every message; in no answer

static struct infer_request req;
static struct error err;
static unsigned steps;

static bool decode(struct view message, size_t max)
{
    struct api_call call;
    kit_ask("POST", "/inference.GRPCInferenceService/ModelInfer");
    kit_add("content-type", VIEW("application/grpc"));
    kit_send_message(message, 0);
    err = (struct error){0};
    assert_int_equal(api_route(&kit_ex, &call, &err), API_INFER);
    struct api_decoder *d = api_decode_begin(&kit_ex, &call, NULL, &req);
    uint64_t calls = mem_count();
    enum oip_step s;
    for (steps = 1; (s = api_decode_step(d, max, &err)) == OIP_MORE; steps++)
        ;
    assert_true(kit_ex.arena.bytes <= 65536 + 8 * message.n); // a varint of one byte is an INT64
    assert_true(mem_count() - calls <= 64 + message.n / 512);
    if (s == OIP_ERROR) {
        api_answer_error(&kit_api, &kit_ex, &call, FAILED(err.status, err.text), 0, NULL, 0);
        assert_null(strstr(kit_trailer("grpc-message"), MARK));
        assert_null(strstr(err.text, MARK));
    }
    return s == OIP_DONE;
}

static void refused(struct view message, const char *text)
{
    for (size_t max = SIZE_MAX; max; max = max == SIZE_MAX ? 1 : 0) {
        if (decode(message, max))
            fail_msg("taken; expected: %s", text);
        if (strcmp(err.text, text) != 0)
            fail_msg("got:  %s\nwant: %s", err.text, text);
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
        assert_string_equal(kit_trailer("grpc-status"), "3");
    }
}

// ---- messages by hand ----------------------------------------------------------------------------------

static struct arena scrap; // emptied before each test

static struct view join(struct view a, struct view b)
{
    char *p = arena_alloc_aligned(&scrap, a.n + b.n, 1);
    if (a.n)
        memcpy(p, a.p, a.n);
    if (b.n)
        memcpy(p + a.n, b.p, b.n);
    return view_of(p, a.n + b.n);
}

static struct view field(uint32_t number, struct view payload)
{
    size_t n = pb_len_size(number, payload.n);
    uint8_t *p = arena_alloc_aligned(&scrap, n, 1);
    assert_ptr_equal(pb_w_bytes(p, number, payload), p + n);
    return view_of(p, n);
}

static struct view many(struct view each, size_t times)
{
    char *p = arena_alloc_aligned(&scrap, each.n * times, 1);
    for (size_t i = 0; each.n && i < times; i++)
        memcpy(p + i * each.n, each.p, each.n);
    return view_of(p, each.n * times);
}

// An input: name, datatype, then what is given.
static struct view input(const char *dtype, struct view dims, struct view rest)
{
    struct view head = join(field(1, VIEW(MARK)), field(2, view_str(dtype)));
    return field(5, join(join(head, field(3, dims)), rest));
}

static struct view request(struct view rest)
{
    return join(join(field(1, VIEW("m")), field(3, VIEW(MARK))), rest);
}

#define NONE VIEW("")
#define V(lit) VIEW(lit)

// ---- the rows ------------------------------------------------------------------------------------------

static void wire_format(void **state)
{
    static const struct view rows[] = {
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, // 11 bytes of varint
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11},
        {"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11}, // length 2^63
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10},
        {"\x0a\x7fx", 3},
        {"\x02\x01x", 3},   // field 0
        {"\x46\x01", 2},    // wire type 6
        {"\x47\x01", 2},    // wire type 7
        {"\x43\x44", 2},    // a group
        {"\x0b\x0c", 2},    // a group where a string is expected
        {"\x41\1\2\3", 4},  // a double, cut
        {"\x45\1\2", 3},    // a float, cut
        {"\x40", 1},        // a tag, nothing behind it
        {"\x08\x01", 2},    // model_name as a number
        {"\x3d\1\2\3\4", 5} // raw_input_contents as a float
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct view m = request(join(input("INT8", V("\1"), field(5, field(2, V("\1")))), rows[i]));
        assert_false(decode(m, SIZE_MAX));
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
        assert_memory_equal(err.text, "message: ", 9);
        // The same inside an input, its contents and a parameter.
        assert_false(decode(request(input("INT8", V("\1"), rows[i])), SIZE_MAX));
        assert_memory_equal(err.text, "inputs[0]", 9);
        assert_false(decode(request(input("INT8", V("\1"), field(5, rows[i]))), 1));
        assert_memory_equal(err.text, "inputs[0].contents: ", 20);
        assert_false(decode(request(field(4, rows[i])), 1));
        assert_string_equal(err.text, "parameters: an entry cannot be read");
        assert_false(decode(request(field(6, rows[i])), 1));
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
    }
}

// So many parameters of different names, each with as many fields as it may have.
static struct view entries(uint32_t number, unsigned n)
{
    struct view all = NONE, rest = join(field(2, V("\x08\1")), many(V("\x78\1"), 30));
    for (unsigned i = 0; i < n; i++) {
        char key[3] = {(char)('0' + i % 64), (char)('0' + i / 64), 'k'};
        all = join(all, field(number, join(field(1, view_of(key, 3)), rest)));
    }
    return all;
}

// 10,000 groups; 5,000 messages one in the other; a million fields where a few belong.
static void nesting_and_floods(void **state)
{
    assert_false(decode(request(many(V("\x43"), 10000)), SIZE_MAX));
    assert_memory_equal(err.text, "message: ", 9);
    struct view deep = NONE;
    for (unsigned i = 0; i < 5000; i++)
        deep = field(i % 2 ? 5 : 1, deep);
    static const uint32_t numbers[] = {4, 5, 6};
    for (unsigned i = 0; i < 3; i++) {
        assert_false(decode(request(field(numbers[i], deep)), 1));
        assert_int_equal(err.status, STATUS_BAD_REQUEST);
    }
    struct view ok = request(input("INT8", V("\1"), field(5, field(2, V("\1")))));
    assert_true(decode(join(ok, field(90, deep)), 1)); // unknown: skipped whole, not walked
    struct view flood = many(V("\x78\1"), 1000000);    // field 15, a number
    refused(request(flood), "message: too many fields");
    refused(request(input("INT8", V("\1"), flood)), "inputs[0]: has too many fields");
    refused(request(field(6, join(field(1, V("y")), flood))),
            "message: an output has too many fields");
    refused(request(field(4, flood)), "parameters: an entry cannot be read");
    refused(request(field(4, join(field(1, V("k")), field(2, flood)))),
            "parameters: an entry cannot be read");
    struct view entry = join(join(field(1, V("k")), field(2, V("\x08\1"))), flood);
    refused(request(field(4, entry)), "parameters: an entry cannot be read");
    refused(request(input("INT8", V("\1"), field(4, entry))),
            "inputs[0]: a parameter cannot be read");
    // Entries by the thousand, each with as many fields as it may have.
    refused(request(input("INT8", V("\1"), entries(4, 4000))),
            "inputs[0].parameters: more than 64");
    refused(request(field(6, join(field(1, V("y")), entries(2, 4000)))),
            "outputs[0].parameters: more than 64");
    struct view twice = join(entries(4, 3), entries(4, 1));
    refused(request(input("INT8", V("\1"), twice)), "inputs[0].parameters: duplicate key");
    struct view many_lists = NONE;
    for (unsigned i = 0; i < 17; i++) {
        char name[] = {'a', (char)('a' + i), 0};
        many_lists = join(many_lists, field(6, join(field(1, view_str(name)), entries(2, 64))));
    }
    refused(request(many_lists), "outputs[16].parameters: more than 1024, or 1 MiB of text, with "
                                 "those of the other tensors");
    assert_true(decode(request(input("INT8", V("\1"), field(5, join(field(2, V("\1")), flood)))),
                       64 << 10)); // contents are read in steps
    assert_true(steps > 20);
}

// Rows 93, 94, 95.
static void shapes(void **state)
{
    static const char two62[] = "\x80\x80\x80\x80\x80\x80\x80\x80\x40";
    struct view wraps = join(V("\x80\x80\x80\x80\x10"), V("\x80\x80\x80\x80\x10")); // 2^32 2^32
    struct view one = field(5, field(6, V("\0\0\0\0"))); // contents: one float
    refused(request(input("FP32", wraps, one)),
            "inputs[0].shape: the size of [4294967296,4294967296] is out of range");
    refused(request(input("FP32", join(VIEW(two62), V("\4")), one)),
            "inputs[0].shape: the size of [4611686018427387904,4] is out of range");
    refused(request(join(input("FP32", VIEW(two62), NONE), field(7, V("\0\0\0\0")))),
            "inputs[0].shape: the size of FP32 [4611686018427387904] is out of range");
    refused(request(join(input("FP32", wraps, NONE), field(7, V("\0\0\0\0")))),
            "inputs[0].shape: the size of FP32 [4294967296,4294967296] is out of range");
    refused(request(input("FP64", VIEW(two62), NONE)),
            "inputs[0].contents: shape [4611686018427387904] asks for more values than the bytes "
            "can hold");
    refused(request(input("BYTES", VIEW(two62), field(5, field(8, V(MARK))))),
            "inputs[0].contents: shape [4611686018427387904] asks for more values than the bytes "
            "can hold");
    refused(request(join(input("BYTES", VIEW(two62), NONE), field(7, V("\0\0\0\0")))),
            "inputs[0].data: 4 bytes cannot hold BYTES of shape [4611686018427387904]");
    refused(request(input("FP32", V("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), one)), // -1
            "inputs[0].shape: expected non-negative integers, got a negative one");
    refused(request(input("FP32", many(V("\1"), 1000), one)),
            "inputs[0].shape: expected at most 16 dimensions, got 255 or more");
    refused(request(input("FP32", V("\2"), one)),
            "inputs[0].contents: expected 2 FP32 values for shape [2], got 1");
    refused(request(input("FP32", V("\0"), one)),
            "inputs[0].contents: expected 0 FP32 values for shape [0], got more");
    refused(request(join(input("FP32", V("\2"), NONE), field(7, V("\0\0\0\0")))),
            "inputs[0].data: expected 8 bytes for FP32 [2], got 4");
    refused(request(input("INT8", V("\1"), field(5, field(2, V("\x80\x01"))))),
            "inputs[0].contents: number is out of range (INT8, element 0)");
    refused(request(input("FP16", V("\1"), one)),
            "inputs[0].contents: FP16 travels only in raw form");
    refused(request(input(MARK, V("\1"), one)),
            "inputs[0].datatype: expected a known datatype, got another text");
    refused(request(input("INT8", V("\1"), one)), "inputs[0].contents: values of another datatype");
    refused(request(join(input("BYTES", V("\1"), NONE), field(7, V("\xff\xff\xff\xff")))),
            "inputs[0].data: the bytes are not as many BYTES elements as the shape says");
    refused(request(join(input("FP32", V("\1"), one), field(7, V("\0\0\0\0")))),
            "inputs[0].contents: comes together with raw_input_contents");
    refused(request(join(input("FP32", V("\1"), one), one)), "inputs[1].name: expected a name");
}

// Rows 89, 96, 120.
static void names_and_numbers(void **state)
{
    struct view x = input("INT8", V("\1"), field(5, field(2, V("\1"))));
    refused(NONE, "model_name: expected [A-Za-z0-9._+@~-]{1,128}");
    refused(join(field(1, V(MARK "/../" MARK)), x),
            "model_name: expected [A-Za-z0-9._+@~-]{1,128}");
    refused(request(field(2, V(".."))), "model_version: expected [A-Za-z0-9._+@~-]{1,128}");
    refused(request(NONE), "inputs: expected at least one");
    refused(request(join(field(3, V("\xff")), x)), "id: expected at most 131072 bytes of UTF-8");
    refused(request(join(x, x)), "inputs[1].name: same name as inputs[0]");
    refused(request(many(x, 257)), "inputs: more than 256");
    refused(request(many(field(6, field(1, V("y"))), 257)), "outputs: more than 256");
    refused(request(join(x, many(field(6, field(1, V(MARK))), 2))),
            "outputs[1].name: same name as outputs[0]");
    refused(request(many(field(7, NONE), 257)), "raw_input_contents: more than 256");
    refused(request(join(x, many(field(7, NONE), 2))),
            "raw_input_contents: expected 1, one for each input, got 2");
    struct view p = field(4, join(field(1, V(MARK)), field(2, V("\x08\1"))));
    refused(request(join(p, p)), "parameters: duplicate key");
    refused(request(field(5, V("\x0a\1\xff\x12\4INT8"))), "inputs[0].name: expected a name");
    refused(request(field(6, V("\x0a\1\xff"))), "outputs[0].name: expected a name");
    refused(request(field(4, join(field(1, V("timeout")), field(2, V("\x1a\1"
                                                                     "1"))))),
            "parameters.timeout: expected microseconds as a non-negative integer, got a string");
}

static int close_kit(void **state)
{
    kit_close(state);
    arena_deinit(&scrap);
    return 0;
}

static int empty_scrap(void **state)
{
    arena_deinit(&scrap);
    arena_init(&scrap, 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(wire_format, empty_scrap),
        cmocka_unit_test_setup(nesting_and_floods, empty_scrap),
        cmocka_unit_test_setup(shapes, empty_scrap),
        cmocka_unit_test_setup(names_and_numbers, empty_scrap),
    };
    return cmocka_run_group_tests(tests, kit_open, close_kit);
}
