// An exchange's life, state by state and event by event, served by a doer of the test's own; in the shapes of
// REST and gRPC.
#include "api/serving.h"
#include "api_kit.h"
#include "infer/oip_grpc.h"
#include <zlib.h>

#define INFER "/v2/models/m/infer"
#define GRPC "/inference.GRPCInferenceService/"
#define JSON                                                                                       \
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],"             \
    "\"parameters\":{\"timeout\":900}}"
// ModelInferRequest of model m: the same tensor, raw.
#define MESSAGE                                                                                    \
    "\x0a\x01m\x2a\x0c\x0a\x01x\x12\x04"                                                           \
    "FP32\x1a\x01\x01\x3a\x04\0\0\x80\x3f"

enum { STARTED_US = 1000, ROUTED_US = 1100, BODY_US = 1500, NOW_US = 2000 };
enum { LARGE = 200000 }; // values: several steps of JSON, in and out

enum on_submit { HOLD, ANSWER, FAIL, REFUSE };

struct guest { // what the doer makes of an exchange
    struct serving serving;
    struct infer_request request;
    struct slice slice;
};

static struct { // what the doer does, and how often it was asked
    enum on_submit on_submit;
    enum status refuses;
    bool spent;   // the turn in which it answers
    bool aboard;  // what is abandoned cannot be released at once
    bool ready;   // server and model
    bool unknown; // the model
    bool early;   // what is not known may be known soon
    unsigned awaits;
    int64_t values;
    bool text; // they are strings: an answer that does not flow
    unsigned submits, abandons, ready_asked, metadata_asked;
} doer;

static bool start_fails;
static struct guest *guest;
static struct serving *serving;
static bool more; // what the last call returned

// ---- the doer ----------------------------------------------------------------------------------------

static void answer(uint64_t now_us)
{
    static float values[LARGE];
    struct tensor y = {.name = VIEW("y"),
                       .dtype = doer.text ? DT_BYTES : DT_FP32,
                       .rank = 2,
                       .shape = {1, doer.values},
                       .data = (const uint8_t *)values,
                       .bytes = (size_t)doer.values * 4};
    struct block *b = block_new(&kit_blocks, 16);
    struct answer *a = b ? answer_new(b, &y, 1, 1) : NULL;
    if (!a) { // as a doer whose memory is out
        if (b)
            block_unref(b);
        serving_fail(serving, FAILED(STATUS_INTERNAL, "out of memory"), 0, now_us);
        return;
    }
    guest->slice = (struct slice){.answer = a};
    serving->meta.model = VIEW("m");
    serving->meta.version = VIEW("3");
    serving->meta.source = "model";
    serving->meta.queue_us = 700;
    serving->meta.compute_us = 800;
    more = serving_answer(serving, &guest->slice, doer.spent, now_us);
}

static void fail_as(enum status status)
{
    serving_fail(serving, FAILED(status, "the doer says so"), 0, NOW_US);
}

static bool doer_submit(struct serving *s, uint64_t now_us, struct error *e)
{
    assert_ptr_equal(s, serving);
    assert_int_equal(s->phase, SERVING_OUT);
    assert_int_equal(kit_ex.refs, 2);
    doer.submits++;
    if (doer.on_submit == REFUSE)
        return error_set(e, doer.refuses, "the doer refuses it");
    if (doer.on_submit == ANSWER)
        answer(now_us);
    else if (doer.on_submit == FAIL)
        fail_as(doer.refuses);
    if (doer.on_submit != HOLD)
        serving_release(s);
    return true;
}

static void doer_abandon(struct serving *s)
{
    doer.abandons++;
    if (!doer.aboard)
        serving_release(s);
}

static bool doer_ready(struct serving *s, bool *ready, struct error *e)
{
    doer.ready_asked++;
    *ready = doer.ready;
    return s->call.model.n == 0 || !doer.unknown ||
           error_set(e, STATUS_NOT_FOUND, "model %.*s is unknown", VIEW_ARG(s->call.model));
}

static const struct model_metadata *doer_metadata(struct serving *s, struct error *e)
{
    static struct view version = {"3", 1};
    static struct tensor x = {.name = {"x", 1}, .dtype = DT_FP32, .rank = 2, .shape = {-1, 2}};
    static struct model_metadata m = {.name = {"m", 1},
                                      .versions = &version,
                                      .inputs = &x,
                                      .outputs = &x,
                                      .n_versions = 1,
                                      .n_inputs = 1,
                                      .n_outputs = 1};
    doer.metadata_asked++;
    if (doer.unknown)
        error_set(e, STATUS_NOT_FOUND, "model %.*s is unknown", VIEW_ARG(s->call.model));
    return doer.unknown ? NULL : &m;
}

static bool doer_index(struct serving *s, struct oip_index *index, struct error *e)
{
    if (doer.early)
        return error_set(e, STATUS_UNAVAILABLE, "not yet");
    index->models = arena_array(&s->ex->arena, 1, sizeof(*index->models));
    if (index->models)
        index->models[index->n++] =
            (struct oip_index_model){.name = VIEW("m"), .state = VIEW("READY")};
    return true;
}

static bool doer_await(struct serving *s, uint64_t now_us)
{
    assert_ptr_equal(s, serving);
    doer.awaits++;
    return doer.early;
}

static bool doer_statistics(struct serving *s, struct oip_statistics *out, struct error *e)
{
    *out = (struct oip_statistics){.n = 0};
    return s->call.model.n == 0 || !doer.unknown ||
           error_set(e, STATUS_NOT_FOUND, "model %.*s is unknown", VIEW_ARG(s->call.model));
}

static const struct serving_ops ops = {.bytes = sizeof(struct guest),
                                       .ready = doer_ready,
                                       .metadata = doer_metadata,
                                       .index = doer_index,
                                       .statistics = doer_statistics,
                                       .submit = doer_submit,
                                       .await = doer_await,
                                       .abandon = doer_abandon};

// ---- the client --------------------------------------------------------------------------------------

// The head has come; the connection has its reference.
static void head(const char *method, const char *path)
{
    kit_ask(method, path);
    kit_ex.refs = 1;
    kit_ex.started_us = STARTED_US;
    kit_ex.body_us = BODY_US;
    more = false;
    if (path[1] != 'v')
        kit_add("content-type", VIEW("application/grpc"));
}

// False: there was no memory for it.
static bool route(void)
{
    guest = serving_new(&kit_ex, &kit_api, &ops, ROUTED_US);
    assert_ptr_equal(guest, kit_ex.user);
    serving = guest ? &guest->serving : NULL;
    if (!guest)
        return false;
    guest->serving.request = &guest->request;
    serving_route(serving, (const uint64_t[]){1, 2}, ROUTED_US);
    return true;
}

static void ask_json(struct view body)
{
    head("POST", INFER);
    assert_true(route());
    kit_send(body);
}

static void ask_grpc(const char *method, struct view message)
{
    char path[100];
    snprintf(path, sizeof(path), GRPC "%s", method);
    head("POST", path);
    assert_true(route());
    kit_send_message(message, 0);
}

static void ask(bool grpc)
{
    if (grpc)
        ask_grpc("ModelInfer", view_of(MESSAGE, sizeof(MESSAGE) - 1));
    else
        ask_json(VIEW(JSON));
}

// A body or an answer that takes steps of its own.
static struct view large_body(void)
{
    static char body[LARGE * 2 + 100];
    size_t n = (size_t)sprintf(
        body, "{\"inputs\":[{\"name\":\"x\",\"shape\":[%d],\"datatype\":\"FP32\",\"data\":[0",
        LARGE);
    for (unsigned i = 1; i < LARGE; i++, n += 2)
        memcpy(body + n, ",7", 2);
    n += (size_t)sprintf(body + n, "]}]}");
    return view_of(body, n);
}

// The same, compressed: what takes it apart is memory of its own.
static void ask_packed(void)
{
    static uint8_t packed[LARGE];
    uLongf n = sizeof(packed);
    struct view v = large_body();
    assert_int_equal(compress(packed, &n, (const Bytef *)v.p, v.n), Z_OK);
    head("POST", INFER);
    kit_add("content-encoding", VIEW("deflate"));
    assert_true(route());
    kit_send(view_of(packed, n));
}

static unsigned run(uint64_t now_us)
{
    unsigned steps = 0;
    for (; more; steps++)
        more = serving_step(serving, now_us);
    return steps;
}

static bool busy; // the turn in which its connection asks

static void on_want(struct exchange *ex, void *ctx)
{
    more = serving_on_want(serving, busy, NOW_US);
}

// Its client takes all of it, if it flows; how many pieces.
static unsigned drink(void)
{
    unsigned pieces = 0;
    if (!serving || serving->phase != SERVING_FLOWING)
        return 0;
    for (; kit_flow.state != FLOW_ENDED; pieces++)
        assert_true(kit_want());
    assert_true(serving_on_sent(serving));
    return pieces;
}

// Nothing holds the exchange but its connection; no answer's block is left.
static void all_given_back(void)
{
    assert_int_equal(kit_ex.refs, 1);
    assert_int_equal(kit_blocks.live_blocks, 0);
}

static void phase_is(enum serving_phase phase, unsigned answers)
{
    assert_int_equal(serving->phase, phase);
    assert_int_equal(kit_said.calls, answers);
}

// The answer of a request that failed, in the shape of its protocol; retry: told with it, in seconds.
static void error_is(bool grpc, enum status status, const char *text, unsigned retry)
{
    char want[300];
    assert_int_equal(kit_said.calls, 1);
    if (serving)
        assert_int_equal(serving->outcome, status);
    if (grpc) {
        snprintf(want, sizeof(want), "%u", status_table[status].grpc);
        assert_int_equal(kit_said.status, 200);
        assert_string_equal(kit_trailer("grpc-status"), want);
        assert_string_equal(kit_trailer("grpc-message"), text);
        assert_int_equal(kit_body().n, 0);
    } else {
        snprintf(want, sizeof(want), "{\"error\":\"%s\"}", text);
        assert_int_equal(kit_said.status, status_table[status].http);
        assert_string_equal(kit_body_text(), want);
        assert_null(kit_trailer("grpc-status"));
    }
    const char *said = grpc ? kit_trailer("grpc-retry-pushback-ms") : kit_header("retry-after");
    snprintf(want, sizeof(want), grpc ? "%u000" : "%u", retry);
    if (retry)
        assert_string_equal(said, want);
    else
        assert_null(said);
}

static void answered_whole(bool grpc)
{
    phase_is(SERVING_ANSWERED, 1);
    assert_int_equal(serving->outcome, STATUS_OK);
    assert_int_equal(kit_said.status, 200);
    if (grpc)
        assert_string_equal(kit_trailer("grpc-status"), "0");
    else
        assert_string_equal(kit_header("content-type"), "application/json");
}

// ---- the way -----------------------------------------------------------------------------------------

// All in one turn: read, submitted, answered, released.
static void in_one_turn(void **state)
{
    doer.on_submit = ANSWER;
    for (int grpc = 0; grpc < 2; grpc++) {
        ask(grpc);
        phase_is(SERVING_HEAD, 0);
        size_t in = buffer_len(&kit_ex.body);
        assert_false(serving_on_request(serving, false, NOW_US));
        answered_whole(grpc);
        all_given_back();
        assert_int_equal(serving->in_bytes, in);
        assert_true(view_eq(guest->request.model, VIEW("m")));
        if (!grpc)
            assert_int_equal(guest->request.timeout_us, 900);
        assert_int_equal(serving->meta.parse_us, NOW_US - BODY_US);
        // The clock was read before the batch ended: no less than its parts.
        assert_int_equal(serving->meta.total_us, 1500);
        assert_string_equal(kit_header("x-request-id"), "00000000000000010000000000000002");
    }
    assert_int_equal(doer.submits, 2);
}

// Answered later; the total is the clock's. Released before, or after.
static void in_several_turns(void **state)
{
    for (int grpc = 0; grpc < 2; grpc++) {
        ask(grpc);
        assert_true(
            serving_on_request(serving, true, NOW_US)); // others have worked for all of this turn
        phase_is(SERVING_DECODING, 0);
        assert_int_equal(doer.submits, (unsigned)grpc);
        assert_false(serving_step(serving, NOW_US));
        phase_is(SERVING_OUT, 0);
        assert_int_equal(doer.submits, (unsigned)grpc + 1);
        doer.spent = true;
        answer(NOW_US + 5000);
        doer.spent = false;
        assert_true(more);
        phase_is(SERVING_ANSWERING, 0);
        assert_int_equal(serving->meta.total_us, NOW_US + 5000 - STARTED_US);
        if (grpc)
            serving_release(serving);
        assert_int_equal(kit_ex.refs, 2); // it is still encoded
        assert_false(serving_step(serving, NOW_US + 5000));
        answered_whole(grpc);
        if (!grpc)
            serving_release(serving);
        all_given_back();
    }
}

// A large body and a large answer of strings take steps; nothing is said before the last of them.
static void large_ones_take_steps(void **state)
{
    doer.text = true;
    for (int early = 0; early < 2; early++) {
        doer.values = 1;
        ask_json(large_body());
        more = serving_on_request(serving, false, NOW_US);
        assert_true(run(NOW_US) >= 2);
        phase_is(SERVING_OUT, 0);
        doer.values = LARGE;
        answer(NOW_US);
        phase_is(SERVING_ANSWERING, 0);
        if (early)
            serving_release(serving);
        assert_true(run(NOW_US) >= 2);
        answered_whole(false);
        if (!early)
            serving_release(serving);
        all_given_back();
    }
}

// A large one of numbers flows. It may be released before and after it has been sent; a turn that is spent puts its
// next piece off.
static void large_ones_flow(void **state)
{
    for (int early = 0; early < 2; early++) {
        ask_json(VIEW(JSON));
        assert_false(serving_on_request(serving, false, NOW_US));
        doer.values = LARGE;
        answer(NOW_US);
        assert_false(more);
        phase_is(SERVING_FLOWING, 1);
        assert_int_equal(kit_blocks.live_blocks, 3); // the answer's, and what is encoded
        if (early)
            serving_release(serving);
        assert_int_equal(kit_ex.refs, 2); // it is still encoded
        assert_true(kit_want());
        busy = true;
        assert_false(kit_want());
        busy = false;
        assert_true(more);
        kit_woken = 0;
        assert_false(serving_step(serving, NOW_US));
        assert_int_equal(kit_woken, 1);
        assert_true(drink() >= 3);
        assert_int_equal(kit_body().n, strlen(kit_body_text()));
        answered_whole(false);
        if (!early)
            serving_release(serving);
        all_given_back();
    }
}

// Its client leaves, or its connection cannot even begin.
static void gone_while_it_flows(void **state)
{
    for (unsigned way = 0; way < 8; way++) {
        ask_json(VIEW(JSON));
        serving_on_request(serving, false, NOW_US);
        doer.values = LARGE;
        start_fails = way & 4;
        answer(NOW_US);
        if (way & 1)
            serving_release(serving);
        if (way & 2 && !start_fails)
            kit_want();
        if (!start_fails)
            assert_true(serving_on_sent(serving));
        start_fails = false;
        if (!(way & 1))
            serving_release(serving);
        phase_is(SERVING_ANSWERED, 1);
        all_given_back();
    }
}

// ---- the client goes ---------------------------------------------------------------------------------

// In each state, with the doer still holding it and not: nobody answers, all is given back, and what comes too
// late does no harm.
static void go_in_each_state(void)
{
    enum { HEAD, DECODING, DECODED_IN_PART, OUT, ABOARD, TO_ENCODE, ENCODED_IN_PART, PLACES };
    for (unsigned place = 0; place < PLACES; place++) {
        for (int released = 0; released < (place >= TO_ENCODE ? 2 : 1); released++) {
            doer.abandons = 0;
            doer.aboard = place == ABOARD;
            doer.text = true;
            doer.values = place == ENCODED_IN_PART ? LARGE : 1;
            if (place == DECODED_IN_PART)
                ask_packed();
            else
                ask_json(VIEW(JSON));
            if (place != HEAD)
                more = serving_on_request(serving, place == DECODING, NOW_US);
            if (place >= TO_ENCODE) {
                doer.spent = place == TO_ENCODE;
                answer(NOW_US);
                doer.spent = false;
            }
            if (released)
                serving_release(serving);
            bool waits = more;
            serving_on_gone(serving);
            assert_true(waits == (place != HEAD && place != OUT && place != ABOARD));
            assert_int_equal(doer.abandons, place == OUT || place == ABOARD);
            if (place == ABOARD) { // its batch comes home
                answer(NOW_US);
                assert_false(more);
                fail_as(STATUS_INTERNAL);
            }
            if (place == ABOARD || (place >= TO_ENCODE && !released))
                serving_release(serving);
            phase_is(SERVING_GONE, 0);
            assert_int_equal(serving->outcome, STATUS_CLIENT_GONE);
            all_given_back();
        }
    }
}

static void gone_in_each_state(void **state)
{
    go_in_each_state();
    int64_t live = mem_live();
    go_in_each_state();
    assert_int_equal(mem_live(), live);
}

// ---- refusals ----------------------------------------------------------------------------------------

// By the doer: at once, or when it has it. 503 says when to come again.
static void refused(void **state)
{
    static const enum status statuses[] = {STATUS_BAD_REQUEST, STATUS_NOT_FOUND, STATUS_INTERNAL,
                                           STATUS_UNAVAILABLE, STATUS_DEADLINE,  STATUS_POISON};
    for (unsigned k = 0; k < sizeof(statuses) / sizeof(statuses[0]); k++) {
        for (unsigned way = 0; way < 6; way++) {
            bool grpc = way & 1;
            doer.refuses = statuses[k];
            doer.on_submit = way < 2 ? REFUSE : way < 4 ? FAIL : HOLD;
            ask(grpc);
            assert_false(serving_on_request(serving, false, NOW_US));
            if (way >= 4) {
                fail_as(statuses[k]);
                serving_release(serving);
            }
            phase_is(SERVING_ANSWERED, 1);
            error_is(grpc, statuses[k], way < 2 ? "the doer refuses it" : "the doer says so",
                     statuses[k] == STATUS_UNAVAILABLE);
            assert_int_equal(serving->meta.total_us, NOW_US - STARTED_US);
            all_given_back();
        }
    }
    doer.on_submit = HOLD;
    ask(false);
    serving_on_request(serving, false, NOW_US);
    serving_fail(serving, FAILED(STATUS_WORKER_LOST, "lost"), 7000, NOW_US);
    error_is(false, STATUS_WORKER_LOST, "lost", 7);
    serving_release(serving);
    all_given_back();
}

// What no codec reads is refused before the doer sees it.
static void bodies_refused(void **state)
{
    doer.submits = 0;
    ask_json(VIEW("{\"inputs\":[}"));
    assert_false(serving_on_request(serving, false, NOW_US));
    assert_int_equal(serving->outcome, STATUS_BAD_REQUEST);
    assert_int_equal(kit_said.status, 400);
    ask_grpc("ModelInfer", VIEW("\x0a\x7f"));
    assert_false(serving_on_request(serving, false, NOW_US));
    assert_int_equal(serving->outcome, STATUS_BAD_REQUEST);
    assert_string_equal(kit_trailer("grpc-status"), "3");
    assert_int_equal(doer.submits, 0);
    all_given_back();
}

// By the routes, on the head.
static void heads_refused(void **state)
{
    head("GET", "/v2/nothing");
    assert_true(route());
    phase_is(SERVING_ANSWERED, 1);
    assert_int_equal(kit_said.status, 404);
    head("DELETE", INFER);
    assert_true(route());
    assert_int_equal(kit_said.status, 405);
    assert_string_equal(kit_header("allow"), "POST");
    ask_grpc("Nothing", VIEW(""));
    assert_int_equal(kit_said.status, 200);
    assert_string_equal(kit_trailer("grpc-status"), "12");
}

// By http/, after the head and before it.
static void http_refuses(void **state)
{
    for (int way = 0; way < 4; way++) {
        bool grpc = way & 1;
        head("POST", grpc ? GRPC "ModelInfer" : INFER);
        kit_ex.user = NULL;
        serving = NULL;
        if (way < 2)
            assert_true(route());
        serving_refuse(&kit_ex, &kit_api, 413, "body: too large", NOW_US);
        error_is(grpc, STATUS_TOO_LARGE, "body: too large", 0);
        if (serving)
            phase_is(SERVING_ANSWERED, 1);
    }
}

static unsigned charges;

static bool charges_nothing(struct exchange *ex, int64_t delta_bytes, void *ctx)
{
    charges++;
    return delta_bytes <= 0;
}

// An answer for which there is no room is told as 503, and is what the log says.
static void answers_refused(void **state)
{
    doer.values = 1;
    for (int grpc = 0; grpc < 2; grpc++) {
        ask(grpc);
        assert_false(serving_on_request(serving, false, NOW_US));
        kit_ops.on_charge = charges_nothing;
        answer(NOW_US);
        kit_ops.on_charge = NULL;
        error_is(grpc, STATUS_UNAVAILABLE,
                 "answer: the memory that requests may hold at a time is taken", 1);
        serving_release(serving);
        phase_is(SERVING_ANSWERED, 1);
        all_given_back();
    }
}

// ---- small calls -------------------------------------------------------------------------------------

static void small(const char *path, unsigned status, const char *body)
{
    head("GET", path);
    assert_true(route());
    assert_false(serving_on_request(serving, false, NOW_US));
    phase_is(SERVING_ANSWERED, 1);
    assert_int_equal(kit_said.status, status);
    if (body)
        assert_string_equal(kit_body_text(), body);
    if (status != 404)
        assert_string_equal(kit_header("x-request-id"), "00000000000000010000000000000002");
}

static void small_calls(void **state)
{
    doer.ready_asked = doer.metadata_asked = 0;
    for (unsigned yes = 0; yes < 2; yes++) {
        doer.ready = yes;
        small("/v2/health/live", 200, "{\"live\":true}");
        small("/v2/health/ready", yes ? 200 : 503, yes ? "{\"ready\":true}" : "{\"ready\":false}");
        small("/v2/models/m/ready", yes ? 200 : 503, NULL);
    }
    assert_int_equal(doer.ready_asked, 4);
    charges = 0;
    kit_ops.on_charge =
        charges_nothing; // there is no room; health checks are answered all the same
    small("/v2/health/ready", 200, "{\"ready\":true}");
    kit_ops.on_charge = NULL;
    assert_int_equal(charges, 1);
    small("/v2", 200, NULL);
    small("/v2/models/m", 200, NULL);
    small("/v2/models/m/config", 200, NULL);
    assert_int_equal(doer.metadata_asked, 2);
    small("/v2/repository/index", 200, "[{\"name\":\"m\",\"state\":\"READY\"}]");
    doer.unknown = true;
    static const char *const paths[] = {"/v2/models/m/ready", "/v2/models/m",
                                        "/v2/models/m/config"};
    for (unsigned i = 0; i < 3; i++) {
        small(paths[i], 404, NULL);
        error_is(false, STATUS_NOT_FOUND, "model m is unknown", 0);
    }
    doer.unknown = false;
}

static void small_grpc(const char *method, struct view message, const char *answer)
{
    ask_grpc(method, message);
    assert_false(serving_on_request(serving, false, NOW_US));
    phase_is(SERVING_ANSWERED, 1);
    if (answer)
        assert_true(view_eq(view_of(kit_body().p + 5, kit_body().n - 5), view_str(answer)));
}

static void small_calls_of_grpc(void **state)
{
    doer.ready = true;
    small_grpc("ServerLive", VIEW(""), "\x08\x01");
    small_grpc("ServerReady", VIEW(""), "\x08\x01");
    small_grpc("ModelReady", VIEW("\x0a\x01m"), "\x08\x01");
    small_grpc("ServerMetadata", VIEW(""), NULL);
    small_grpc("ModelMetadata", VIEW("\x0a\x01m"), NULL);
    small_grpc("RepositoryIndex", VIEW(""), NULL);
    assert_int_equal(serving->outcome, STATUS_OK);
    doer.unknown = true;
    small_grpc("ModelReady", VIEW("\x0a\x01m"), ""); // false, as Triton says it
    assert_int_equal(serving->outcome, STATUS_OK);
    small_grpc("ModelMetadata", VIEW("\x0a\x01m"), NULL);
    error_is(true, STATUS_NOT_FOUND, "model m is unknown", 0);
    small_grpc("ModelStatistics", VIEW(""), ""); // of no model
    small_grpc("ModelStatistics", VIEW("\x0a\x01m"), NULL);
    error_is(true, STATUS_NOT_FOUND, "model m is unknown", 0);
    small_grpc("ModelReady", VIEW(""), "");
    small_grpc("ModelMetadata", VIEW(""), NULL);
    error_is(true, STATUS_BAD_REQUEST, "name: expected [A-Za-z0-9._+@~-]{1,128}", 0);
    // The server's health goes by two names; any other is a model's.
    static const struct view names[] = {
        {"", 0}, {"\x0a\x1einference.GRPCInferenceService", 32}, {"\x0a\x01m", 3}};
    for (unsigned i = 0; i < 3; i++) {
        head("POST", "/grpc.health.v1.Health/Check");
        assert_true(route());
        kit_send_message(names[i], 0);
        assert_false(serving_on_request(serving, false, NOW_US));
        if (i < 2)
            assert_true(view_eq(view_of(kit_body().p + 5, kit_body().n - 5), VIEW("\x08\x01")));
        else
            error_is(true, STATUS_NOT_FOUND, "model m is unknown", 0);
    }
    doer.unknown = false;
}

// Only a request in raw binary form wants the model's metadata.
static void raw_binary(void **state)
{
    for (unsigned unknown = 0; unknown < 2; unknown++) {
        char length[32];
        snprintf(length, sizeof(length), "%zu", sizeof(JSON) - 1);
        doer.unknown = unknown;
        doer.metadata_asked = 0;
        head("POST", INFER);
        kit_add("inference-header-content-length", view_str(length));
        assert_true(route());
        kit_send(VIEW(JSON));
        assert_false(serving_on_request(serving, false, NOW_US));
        assert_int_equal(doer.metadata_asked, 0);
        serving_on_gone(serving);
        head("POST", INFER);
        kit_add("inference-header-content-length", VIEW("0"));
        assert_true(route());
        kit_send(VIEW("\0\0\0\0\0\0\0\0"));
        assert_false(serving_on_request(serving, false, NOW_US));
        assert_int_equal(doer.metadata_asked, 1);
        phase_is(unknown ? SERVING_ANSWERED : SERVING_OUT, unknown);
        if (!unknown) {
            assert_int_equal(guest->request.n_inputs, 1);
            assert_int_equal(guest->request.rows, 1);
            serving_on_gone(serving);
        } else {
            error_is(false, STATUS_NOT_FOUND, "model m is unknown", 0);
        }
        all_given_back();
    }
    doer.unknown = false;
}

// ---- what may be known soon ----------------------------------------------------------------------------

static void ask_early(unsigned which)
{
    static const char *const paths[] = {
        "/v2/models/m", "/v2/models/m/config", "/v2/models/m/stats", "/v2/repository/index",
        INFER,          GRPC "ModelMetadata"};
    bool infers = which == 4, grpc = which == 5;
    head(infers || grpc ? "POST" : "GET", paths[which]);
    if (infers)
        kit_add("inference-header-content-length", VIEW("0"));
    assert_true(route());
    if (infers)
        kit_send(VIEW("\0\0\0\0\0\0\0\0"));
    if (grpc)
        kit_send_message(VIEW("\x0a\x01m"), 0);
    doer.unknown = doer.early = true;
    assert_false(serving_on_request(serving, false, NOW_US));
    phase_is(SERVING_AWAITING, 0);
    assert_int_equal(kit_ex.refs, 2);
    assert_false(serving_again(serving, false, NOW_US)); // and waits on
    phase_is(SERVING_AWAITING, 0);
    assert_int_equal(kit_ex.refs, 2);
}

// Calls, and requests that the model's metadata decode: answered when it is known, refused when it is not, left.
static void what_may_be_known_soon(void **state)
{
    for (unsigned which = 0; which < 6; which++) {
        bool infers = which == 4;
        ask_early(which);
        doer.unknown = doer.early = false;
        assert_false(serving_again(serving, false, NOW_US));
        phase_is(infers ? SERVING_OUT : SERVING_ANSWERED, infers ? 0 : 1);
        assert_int_equal(serving->outcome, STATUS_OK);
        if (infers)
            serving_on_gone(serving);
        all_given_back();

        ask_early(which);
        doer.early = false;
        assert_false(serving_again(serving, false, NOW_US));
        phase_is(SERVING_ANSWERED, 1);
        assert_int_equal(serving->outcome, which == 3 ? STATUS_OK : STATUS_NOT_FOUND);
        all_given_back();

        ask_early(which);
        doer.abandons = 0;
        serving_on_gone(serving);
        phase_is(SERVING_GONE, 0);
        assert_int_equal(doer.abandons, 1);
        all_given_back();
    }
    ask_early(4); // decoded in a later turn
    doer.unknown = doer.early = false;
    assert_true(serving_again(serving, true, NOW_US));
    phase_is(SERVING_DECODING, 0);
    assert_false(serving_step(serving, NOW_US));
    phase_is(SERVING_OUT, 0);
    serving_on_gone(serving);
    all_given_back();
}

// Whether it is ready is said as it is; and without room for it nothing waits.
static void what_does_not_wait(void **state)
{
    doer.early = doer.unknown = true;
    small("/v2/models/m/ready", 404, NULL);
    small_grpc("ModelReady", VIEW("\x0a\x01m"), "");
    head("POST", "/grpc.health.v1.Health/Check");
    assert_true(route());
    kit_send_message(VIEW("\x0a\x01m"), 0);
    assert_false(serving_on_request(serving, false, NOW_US));
    phase_is(SERVING_ANSWERED, 1);
    kit_ops.on_charge = charges_nothing;
    small("/v2/models/m", 404, NULL);
    kit_ops.on_charge = NULL;
    assert_int_equal(doer.awaits, 0);
}

// ---- memory runs out ---------------------------------------------------------------------------------

// Each allocation of a life fails in turn: it is answered as 503 (500, where it is the doer's), then whole.
static void allocation_fails_anywhere(void **state)
{
    static const char *const paths[] = {INFER, GRPC "ModelInfer", "/v2/models/m",
                                        GRPC "ModelMetadata", "/v2/repository/index"};
    doer.on_submit = ANSWER;
    doer.values = 5000; // more than an arena has at hand
    for (unsigned k = 0; k < sizeof(paths) / sizeof(paths[0]); k++) {
        bool grpc = paths[k][1] != 'v', infers = k < 2, whole = false;
        unsigned failed = 0;
        for (uint64_t n = 1; !whole; n++) {
            assert_true(n < 100);
            buffer_deinit(&kit_api.scratch); // a loop that has just begun
            head(infers || grpc ? "POST" : "GET", paths[k]);
            if (grpc)
                kit_send_message(infers ? view_of(MESSAGE, sizeof(MESSAGE) - 1) : VIEW("\x0a\x01m"),
                                 0);
            else if (infers)
                kit_send(VIEW(JSON));
            mem_fail_at(n);
            if (route() && serving->phase == SERVING_HEAD) {
                more = serving_on_request(serving, false, NOW_US);
                run(NOW_US);
            }
            mem_fail_at(0);
            drink();
            assert_int_equal(kit_said.calls, 1);
            if (serving)
                assert_int_equal(serving->phase, SERVING_ANSWERED);
            all_given_back();
            const char *status = kit_trailer("grpc-status");
            whole = grpc ? strcmp(status, "0") == 0 : kit_said.status == 200;
            failed += !whole;
            if (!whole && grpc)
                assert_true(strcmp(status, "14") == 0 || strcmp(status, "13") == 0);
            else if (!whole)
                assert_true(kit_said.status == 503 || kit_said.status == 500);
        }
        assert_true(failed >= 2);
    }
}

// As a connection that has no memory for it does.
static void start(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    kit_start(ex, r, now_us);
    if (start_fails)
        assert_false(serving_on_sent(serving));
}

static int open_kit(void **state)
{
    kit_open(state);
    kit_api.carry.start = start;
    kit_ops.on_want = on_want;
    return 0;
}

static int new_doer(void **state)
{
    memset(&doer, 0, sizeof(doer));
    doer.values = 1;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(in_one_turn, new_doer),
        cmocka_unit_test_setup(in_several_turns, new_doer),
        cmocka_unit_test_setup(large_ones_take_steps, new_doer),
        cmocka_unit_test_setup(large_ones_flow, new_doer),
        cmocka_unit_test_setup(gone_while_it_flows, new_doer),
        cmocka_unit_test_setup(gone_in_each_state, new_doer),
        cmocka_unit_test_setup(refused, new_doer),
        cmocka_unit_test_setup(bodies_refused, new_doer),
        cmocka_unit_test_setup(heads_refused, new_doer),
        cmocka_unit_test_setup(http_refuses, new_doer),
        cmocka_unit_test_setup(answers_refused, new_doer),
        cmocka_unit_test_setup(small_calls, new_doer),
        cmocka_unit_test_setup(small_calls_of_grpc, new_doer),
        cmocka_unit_test_setup(raw_binary, new_doer),
        cmocka_unit_test_setup(what_may_be_known_soon, new_doer),
        cmocka_unit_test_setup(what_does_not_wait, new_doer),
        cmocka_unit_test_setup(allocation_fails_anywhere, new_doer),
    };
    return cmocka_run_group_tests(tests, open_kit, kit_close);
}
