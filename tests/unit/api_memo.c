/* api: a body that is known is decoded and answered as one that is not, to the byte. */
#include "api_kit.h"
#include "base/count.h"
#include "infer/oip_grpc.h"

#define INFER "/v2/models/m/versions/3/infer"

static struct memo memo;
static uint8_t secret[SIPHASH_KEY];
static struct cache_key key;
static struct infer_request req;
static struct error err;
static struct answer_meta meta = {.model = VIEW("m"),
                                  .version = VIEW("3"),
                                  .source = "cache",
                                  .aged = true,
                                  .request_id = VIEW("r")};

static float floats[4] = {1, 2.5f, -3, 1e30f};
static uint8_t texts[] = "\1\0\0\0a\2\0\0\0\"b";

// What a loop has of a question: rows 0, as kept answers are given. number 0: it is not kept.
static struct answer *answer_of(uint64_t number)
{
    struct tensor outputs[2] = {{.name = VIEW("y"),
                                 .dtype = DT_FP32,
                                 .rank = 2,
                                 .shape = {1, 4},
                                 .data = (const uint8_t *)floats,
                                 .bytes = sizeof(floats)},
                                {.name = VIEW("z"),
                                 .dtype = DT_BYTES,
                                 .rank = 2,
                                 .shape = {1, 2},
                                 .data = texts,
                                 .bytes = sizeof(texts) - 1}};
    struct answer *a = answer_new(block_new(&kit_blocks, 16), outputs, 2, 1);
    assert_non_null(a);
    a->version = VIEW("3");
    a->number = number;
    return a;
}

// Decoded as a gateway does it, with what a memo knows or without one. False: err.
static bool ask(struct memo *m, const char *body, const char *priority, struct api_call *call)
{
    static struct memo_ask asked;
    kit_ask("POST", INFER);
    if (priority)
        kit_add("sluice-priority", view_str(priority));
    kit_send(view_str(body));
    req = (struct infer_request){0};
    err = (struct error){0};
    assert_int_equal(api_route(&kit_ex, call, &err), API_INFER);
    asked = (struct memo_ask){.memo = m,
                              .secret = secret,
                              .parts = {view_str(body), call->model, call->version, VIEW(""),
                                        call->priority, call->chain},
                              .key = &key};
    call->memo = m ? &asked : NULL;
    struct api_decoder *d = api_decode_begin(&kit_ex, call, NULL, &req);
    enum oip_step step;
    while ((step = api_decode_step(d, 100, &err)) == OIP_MORE)
        ;
    asked.keyed = true;
    return step == OIP_DONE;
}

static void serve(struct memo *m, const char *body, const char *priority, struct answer *a)
{
    struct api_call call;
    struct api_answer *more;
    struct slice slice = {.answer = a};
    if (!ask(m, body, priority, &call))
        fail_msg("%s", err.text);
    assert_int_equal(
        api_answer_infer(&kit_api, &kit_ex, &call, &req, &slice, &meta, 0, &more, &err), OIP_DONE);
    assert_true(req.trace == &call.trace && view_is(req.model, "m") && view_is(req.version, "3"));
}

static int setup(void **state)
{
    memo_bound(&memo, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    memo_bound(&memo, 0);
    memo = (struct memo){0};
    return 0;
}

#define X "\"inputs\":[{\"name\":\"x\",\"datatype\":\"INT8\",\"shape\":[1],\"data\":[1]}]"

static const char *const bodies[] = {
    "{" X "}",
    "{\"id\":\"7\"," X "}",
    "{\"id\":\"8\"," X "}",
    "{\"id\":\"a\\u00e9\\n\"," X ",\"outputs\":[{\"name\":\"z\"}]}",
    "{" X ",\"outputs\":[{\"name\":\"z\"},{\"name\":\"y\"}]}",
    "{" X ",\"outputs\":[{\"name\":\"y\",\"parameters\":{\"binary_data\":true}},{\"name\":\"z\"}]}",
    "{\"parameters\":{\"binary_data_output\":true,\"mine\":true}," X "}",
};

static void known_and_not_known_are_answered_alike(void **state)
{
    unsigned n = sizeof(bodies) / sizeof(bodies[0]);
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < 2; k++) {
            const char *priority = k ? "3" : NULL;
            struct answer *a = answer_of(i + 1);
            serve(NULL, bodies[i], priority, a);
            struct kit_said want = kit_said;
            char *text = mem_must(want.body.end);
            memcpy(text, want.body.data, want.body.end);
            uint64_t hits = count_get(&memo.hits);
            for (unsigned time = 0; time < 3; time++) {
                serve(&memo, bodies[i], priority, a);
                assert_int_equal(count_get(&memo.hits) - hits, time);
                assert_int_equal(kit_said.status, 200);
                assert_int_equal(kit_said.body.end, want.body.end);
                assert_memory_equal(kit_said.body.data, text, want.body.end);
                assert_int_equal(kit_said.n_headers, want.n_headers);
                for (unsigned h = 0; h < want.n_headers; h++)
                    assert_string_equal(kit_said.values[h], want.values[h]);
                assert_int_equal(req.priority, priority ? 3 : 0);
            }
            mem_free(text);
            block_unref(a->block);
        }
    }
}

static void has_y(const char *data)
{
    assert_non_null(strstr(kit_body_text(), data));
}

// What is printed is that answer's, and what is said of it is of now. (No answer changes; here one does, to show which text it is.)
static void the_text_is_that_answers(void **state)
{
    struct answer *a = answer_of(1);
    serve(&memo, bodies[0], NULL, a);
    floats[0] = 9;
    meta.age_s = 4;
    serve(&memo, bodies[0], NULL, a);
    has_y("[1,2.5,");
    has_y("\"age_s\":4");
    serve(&memo, bodies[1], NULL, a);
    has_y("[9,2.5,");
    a->number = 2;
    serve(&memo, bodies[0], NULL, a);
    has_y("[9,2.5,");
    floats[0] = 1;
    serve(&memo, bodies[0], NULL, a);
    has_y("[9,2.5,");
    a->number = 0; // a batch's, which is not kept: nobody knows its number
    serve(&memo, bodies[0], NULL, a);
    has_y("[1,2.5,");
    assert_int_equal(count_get(&memo.hits), 4);
    meta.age_s = 0;
    block_unref(a->block);
}

// As many parts as there are, and none of them is all of it.
static void parts_are_printed_anew(void **state)
{
    struct answer *a = answer_of(1);
    struct api_call call;
    struct api_answer *more;
    struct slice behind = {.answer = a}, first = {.answer = a, .next = &behind};
    for (unsigned i = 0; i < 2; i++) {
        assert_true(ask(&memo, bodies[0], NULL, &call));
        assert_int_equal(
            api_answer_infer(&kit_api, &kit_ex, &call, &req, &first, &meta, 0, &more, &err),
            OIP_DONE);
        has_y("\"shape\":[2,4]");
        serve(&memo, bodies[0], NULL, a);
        has_y("\"shape\":[1,4]");
    }
    block_unref(a->block);
}

static void the_head_goes_before_what_is_known(void **state)
{
    struct api_call call;
    struct answer *a = answer_of(1);
    serve(&memo, bodies[0], NULL, a);
    serve(&memo, bodies[0], "5", a);
    assert_int_equal(count_get(&memo.hits), 0);
    assert_int_equal(req.priority, 5);
    assert_false(ask(&memo, bodies[0], "", &call));
    assert_string_equal(err.text, "sluice-priority: expected a non-negative integer");
    serve(&memo, bodies[0], "5", a);
    assert_int_equal(req.priority, 5);
    serve(&memo, bodies[0], NULL, a);
    assert_int_equal(req.priority, 0);
    assert_int_equal(count_get(&memo.hits), 2);
    block_unref(a->block);
}

static bool no_room(struct exchange *ex, int64_t delta_bytes, void *ctx)
{
    return delta_bytes <= 0;
}

static void what_is_known_is_charged(void **state)
{
    struct api_call call;
    struct answer *a = answer_of(1);
    serve(&memo, bodies[0], NULL, a);
    kit_ops.on_charge = no_room;
    assert_false(ask(&memo, bodies[0], NULL, &call));
    kit_ops.on_charge = NULL;
    assert_int_equal(err.status, STATUS_UNAVAILABLE);
    assert_string_equal(err.text, "body: the memory that requests may hold at a time is taken");
    assert_int_equal(count_get(&memo.hits), 1);
    block_unref(a->block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(known_and_not_known_are_answered_alike, setup, teardown),
        cmocka_unit_test_setup_teardown(the_text_is_that_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(parts_are_printed_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(the_head_goes_before_what_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_known_is_charged, setup, teardown),
    };
    return cmocka_run_group_tests(tests, kit_open, kit_close);
}
