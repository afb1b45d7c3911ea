/* backends/inquiry and roster: a server that answers by a table is asked what it has; what is asked, what is made
 * of the answers, what is said of what cannot be used, and that nothing grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "backends/inquiry.h"
#include "base/mem.h"
#include "infer/model_config.h"
#include "infer/oip_grpc.h"
#include <stdio.h>
#include <stdlib.h>

struct model { // as the server has it
    const char *name, *version, *state, *reason;
    const char *says_version; // in its metadata; NULL: none
    unsigned inputs, rank;    // 0: one input of rank 2
    uint32_t max_batch;
    bool unready;      // ModelReady
    int meta, config;  // gRPC status; -1: no answer
    size_t junk_bytes; // metadata: so many bytes that mean nothing
};

static struct batch_server {
    struct model model[8];
    unsigned n;
    int index; // gRPC status
    uint64_t now_us;
    unsigned asked[INQUIRY_CONFIG + 1]; // since the last round began
    char last_name[300];
    bool wants; // memory: what it says may be lost
} server;

static const struct view configured[] = {{"conf", 4}, {"ghost", 5}};
static struct inquiry q;

static int setup(void **state)
{
    server = (struct batch_server){.now_us = 1000000};
    inquiry_init(&q, configured, 2);
    return 0;
}

static int teardown(void **state)
{
    inquiry_deinit(&q);
    return 0;
}

static void has(struct model m)
{
    if (!m.version)
        m.version = "1";
    if (!m.state)
        m.state = "READY";
    server.model[server.n++] = m;
}

static const struct model *asked_model(struct view message)
{
    struct view name, version;
    assert_true(oip_grpc_read_model_request(message, &name, &version));
    snprintf(server.last_name, sizeof(server.last_name), "%.*s", VIEW_ARG(name));
    for (unsigned i = 0; i < server.n; i++) {
        if (view_is(name, server.model[i].name))
            return &server.model[i];
    }
    return NULL;
}

static void write_index(struct buffer *out)
{
    struct oip_index_model lines[8];
    for (unsigned i = 0; i < server.n; i++) {
        const struct model *m = &server.model[i];
        lines[i] = (struct oip_index_model){view_str(m->name), view_str(m->version),
                                            view_str(m->state), view_str(m->reason)};
    }
    struct oip_index index = {lines, server.n};
    assert_true(oip_grpc_index(out, &index) || server.wants);
}

static void write_metadata(struct buffer *out, const struct model *m)
{
    struct tensor inputs[400];
    unsigned n = m->inputs ? m->inputs : 1;
    char names[400][16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(names[i], sizeof(names[i]), "x%u", i);
        inputs[i] = (struct tensor){
            .name = view_str(names[i]), .dtype = DT_FP32, .rank = 2, .shape = {-1, 2}};
    }
    struct view version = view_str(m->says_version);
    struct model_metadata meta = {.name = view_str(m->name),
                                  .versions = &version,
                                  .n_versions = m->says_version != NULL,
                                  .inputs = inputs,
                                  .n_inputs = (uint16_t)n};
    if (m->junk_bytes) {
        memset(buffer_reserve(out, m->junk_bytes), 0xff, m->junk_bytes);
        buffer_commit(out, m->junk_bytes);
        return;
    }
    assert_true(oip_grpc_metadata(out, &meta) || server.wants);
    if (m->rank > 2) { // one more input, of that rank, by hand
        uint8_t tensor[100], n_tensor = 0;
        const uint8_t head[] = {0x0a, 1, 'r', 0x12, 4, 'F', 'P', '3', '2'};
        memcpy(tensor, head, sizeof(head));
        n_tensor = sizeof(head);
        for (unsigned i = 0; i < m->rank; i++) {
            tensor[n_tensor++] = 3 << 3;
            tensor[n_tensor++] = 1;
        }
        const uint8_t field[] = {4 << 3 | 2, n_tensor};
        buffer_append(out, field, 2);
        buffer_append(out, tensor, n_tensor);
    }
}

static int answered(struct view message, struct buffer *out)
{
    const struct model *m = q.ask == INQUIRY_INDEX ? NULL : asked_model(message);
    struct model_metadata meta = {.max_batch = m ? m->max_batch : 0};
    switch (q.ask) {
    case INQUIRY_INDEX:
        write_index(out);
        return server.index;
    case INQUIRY_READY:
        oip_grpc_ready(out, m && !m->unready);
        return m ? 0 : 5;
    case INQUIRY_METADATA:
        if (m)
            write_metadata(out, m);
        return m ? m->meta : 5;
    default:
        model_config_pb(out, &meta);
        return m ? m->config : 5;
    }
}

static void answer(void)
{
    struct buffer out;
    buffer_init(&out);
    server.asked[q.ask]++;
    struct inquiry_answer a = {.text = VIEW("in these words")};
    a.status = answered(inquiry_message(&q), &out);
    // Read during the call only: what would stay is seen by ASan.
    char *copy = malloc(buffer_len(&out) + 1);
    memcpy(copy, out.data ? out.data + out.at : (uint8_t *)copy, buffer_len(&out));
    if (a.status == 0)
        a.message = view_of(copy, buffer_len(&out));
    inquiry_on_answer(&q, &a, server.now_us);
    free(copy);
    buffer_deinit(&out);
}

static void round_of_questions(void)
{
    memset(server.asked, 0, sizeof(server.asked));
    inquiry_begin(&q, server.now_us);
    while (q.ask != INQUIRY_OVER)
        answer();
}

static unsigned questions(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i <= INQUIRY_CONFIG; i++)
        n += server.asked[i];
    return n;
}

static const struct roster_model *known(const char *name)
{
    const struct roster_model *m = roster_find(q.last, view_str(name));
    if (!m)
        fail_msg("%s is not in the roster", name);
    return m;
}

static void expect_why(const char *name, const char *why)
{
    const struct roster_model *m = known(name);
    if (!view_is(m->why, why))
        fail_msg("%s: want \"%s\", got \"%.*s\"", name, why, VIEW_ARG(m->why));
}

// ---- what a server has -------------------------------------------------------------------------------

static void models_are_asked_about_once(void **state)
{
    has((struct model){.name = "b", .says_version = "1", .max_batch = 16});
    has((struct model){.name = "a", .says_version = "1"});
    round_of_questions();
    assert_int_equal(server.asked[INQUIRY_INDEX], 1);
    assert_int_equal(server.asked[INQUIRY_READY], 0);
    assert_int_equal(server.asked[INQUIRY_METADATA], 2);
    assert_int_equal(server.asked[INQUIRY_CONFIG], 2);
    assert_int_equal(q.last->n, 2);
    assert_int_equal(q.last->n_usable, 2);
    assert_true(view_is(q.last->models[0].name, "a")); // by name
    assert_int_equal(known("b")->meta.max_batch, 16);
    assert_int_equal(known("b")->meta.n_inputs, 1);
    assert_true(view_is(known("b")->meta.inputs[0].name, "x0"));
    assert_true(view_is(known("b")->meta.versions[0], "1"));
    assert_null(roster_find(q.last, VIEW("c")));
    const struct roster *before = q.last;
    for (unsigned i = 0; i < INQUIRY_REFRESH - 2; i++) {
        round_of_questions();
        assert_int_equal(questions(), 1);
        assert_ptr_equal(q.last, before);
    }
}

static void ready_is_spelled_in_many_ways(void **state)
{
    static const struct {
        const char *state;
        bool ready;
    } rows[] = {{"READY", true},        {"State.READY", true},  {"a.b.Ready", true},
                {"ready", true},        {"UNAVAILABLE", false}, {"READY.NOT", false},
                {"NOT_READY", false},   {"LOADING", false},     {"READY ", false},
                {"State.READYY", false}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        server.n = 0;
        has((struct model){.name = "m", .state = rows[i].state});
        round_of_questions();
        if (roster_usable(known("m")) != rows[i].ready)
            fail_msg("%s", rows[i].state);
    }
}

static void another_version_is_another_model(void **state)
{
    has((struct model){.name = "m", .says_version = "1"});
    round_of_questions();
    struct hash128 before = known("m")->digest;
    server.model[0].version = server.model[0].says_version = "2";
    round_of_questions();
    assert_int_equal(server.asked[INQUIRY_METADATA], 1);
    assert_true(view_is(known("m")->meta.versions[0], "2"));
    assert_false(hash128_eq(before, known("m")->digest));
}

// MLServer: the version stands in the index only.
static void versions_may_come_from_the_index(void **state)
{
    has((struct model){.name = "m", .version = "v1.0"});
    has((struct model){.name = "m", .version = "v2.0"});
    has((struct model){.name = "m", .version = "v0.9", .state = "UNAVAILABLE"});
    round_of_questions();
    assert_int_equal(known("m")->meta.n_versions, 2);
    assert_true(view_is(known("m")->meta.versions[0], "v1.0"));
    assert_true(view_is(known("m")->meta.versions[1], "v2.0"));
    const struct roster *before = q.last;
    struct model first = server.model[0]; // in another order
    server.model[0] = server.model[2];
    server.model[2] = first;
    round_of_questions();
    assert_ptr_equal(q.last, before);
    assert_int_equal(questions(), 1);
}

static void loaded_anew_under_the_same_version(void **state)
{
    has((struct model){.name = "a", .says_version = "1"});
    has((struct model){.name = "m", .says_version = "1"});
    round_of_questions();
    struct hash128 before = known("m")->digest;
    server.model[1].inputs = 3;
    for (unsigned i = 0; i < 2 * INQUIRY_REFRESH; i++)
        round_of_questions();
    assert_int_equal(known("m")->meta.n_inputs, 3);
    assert_false(hash128_eq(before, known("m")->digest));
}

static void a_server_without_configurations_serves_singly(void **state)
{
    static const int says[] = {12, 2, 3, 13};
    for (unsigned i = 0; i < 4; i++) {
        inquiry_forget(&q);
        server.n = 0;
        has((struct model){.name = "m", .max_batch = 8, .config = says[i]});
        round_of_questions();
        assert_true(roster_usable(known("m")));
        assert_int_equal(known("m")->meta.max_batch, 0);
    }
}

// ---- what cannot be used -----------------------------------------------------------------------------

static void what_cannot_be_used_says_why(void **state)
{
    char name[400];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    has((struct model){.name = "my:model"});
    has((struct model){.name = "rank17", .rank = 17});
    has((struct model){.name = "rank16", .rank = 16});
    has((struct model){.name = "wide", .inputs = 300});
    has((struct model){.name = "junk", .junk_bytes = 100});
    has((struct model){.name = "huge", .junk_bytes = INQUIRY_METADATA_BYTES + 1});
    has((struct model){.name = "shy", .meta = 13});
    has((struct model){.name = name});
    round_of_questions();
    assert_int_equal(q.last->n, 8);
    assert_int_equal(q.last->n_usable, 1);
    assert_true(roster_usable(known("rank16")));
    expect_why("my:model", "its name is not [A-Za-z0-9._+@~-]{1,128}");
    expect_why("rank17", "the worker's metadata: tensor r: expected at most 16 dimensions, got 17");
    expect_why("wide", "the worker's metadata: more than 256 tensors");
    expect_why("junk", "the worker's metadata: the message cannot be read");
    expect_why("huge", "the worker's metadata: more than 1024 KiB");
    expect_why("shy", "ModelMetadata: the server says 13: in these words");
    name[ROSTER_NAME] = '\0';
    expect_why(name, "its name is not [A-Za-z0-9._+@~-]{1,128}");
    for (unsigned i = 0; i < q.last->n; i++)
        assert_true(q.last->models[i].expected || roster_usable(&q.last->models[i]));
}

static void what_is_not_ready_says_why(void **state)
{
    has((struct model){.name = "broken", .state = "UNAVAILABLE", .reason = "no such library"});
    has((struct model){.name = "loads", .state = "LOADING"});
    has((struct model){.name = "gone", .state = "UNAVAILABLE", .reason = "unloaded"});
    has((struct model){.name = "conf", .state = "UNAVAILABLE", .reason = "unloaded"});
    round_of_questions();
    assert_int_equal(questions(), 1);
    assert_int_equal(q.last->n_usable, 0);
    expect_why("broken", "UNAVAILABLE: no such library");
    expect_why("loads", "LOADING");
    expect_why("gone", "UNAVAILABLE");
    assert_true(known("broken")->expected);
    assert_false(known("loads")->expected);
    assert_false(known("gone")->expected);
    assert_true(known("conf")->expected); // the configuration names it
    server.model[1].state = "READY";
    round_of_questions();
    assert_true(roster_usable(known("loads")));
}

static void reasons_are_cut_between_characters(void **state)
{
    static char reason[5000];
    for (unsigned i = 0; i + 2 < sizeof(reason); i += 2)
        memcpy(reason + i, "\xc3\xa9", 2);
    for (unsigned shift = 0; shift < 2; shift++) {
        server.n = 0;
        has((struct model){
            .name = "m", .state = shift ? "UP" : "OFF", .reason = reason + 2 * shift});
        round_of_questions();
        struct view why = known("m")->why;
        assert_in_range(why.n, ROSTER_WHY - 3, ROSTER_WHY - 1);
        assert_int_equal((uint8_t)why.p[why.n - 1], 0xa9);
    }
}

// Asked again after a pause that grows; at once when the index says something new.
static void what_could_not_be_had_is_asked_again(void **state)
{
    has((struct model){.name = "m", .meta = 13});
    round_of_questions();
    const struct roster *before = q.last;
    uint64_t last_us = server.now_us, longest = 0;
    unsigned asked = 1;
    for (unsigned i = 0; i < 4000; i++) {
        server.now_us += 100000;
        round_of_questions();
        if (!server.asked[INQUIRY_METADATA])
            continue;
        asked++;
        assert_true(server.now_us - last_us >= longest);
        longest = server.now_us - last_us;
        last_us = server.now_us;
    }
    assert_ptr_equal(q.last, before); // the same every time: no news
    assert_in_range(asked, 12, 20);   // of 400 s
    assert_in_range(longest, INQUIRY_PAUSE_MAX_US, INQUIRY_PAUSE_MAX_US + 100000);
    server.model[0].version = "2";
    round_of_questions();
    assert_int_equal(server.asked[INQUIRY_METADATA], 1);
    server.model[0].meta = 0;
    server.now_us += INQUIRY_PAUSE_US;
    round_of_questions();
    assert_true(roster_usable(known("m")));
}

static void nothing_grows(void **state)
{
    has((struct model){.name = "good", .says_version = "1"});
    has((struct model){.name = "wide", .inputs = 300});
    has((struct model){.name = "junk", .junk_bytes = 1 << 16});
    for (unsigned i = 0; i < 100; i++) {
        server.now_us += 2 * INQUIRY_PAUSE_MAX_US;
        round_of_questions();
    }
    int64_t before = mem_live();
    for (unsigned i = 0; i < 1000; i++) {
        server.now_us += 2 * INQUIRY_PAUSE_MAX_US; // all of it is asked again
        round_of_questions();
        assert_true(questions() >= 3);
    }
    assert_in_range(mem_live(), 0, before + (64 << 10));
}

// ---- servers of other kinds --------------------------------------------------------------------------

// Triton names what it has not loaded and says no more of it.
static void a_name_alone_is_asked_whether_it_is_ready(void **state)
{
    has((struct model){.name = "yes", .version = "", .state = ""});
    has((struct model){.name = "no", .version = "", .state = "", .unready = true});
    round_of_questions();
    assert_int_equal(server.asked[INQUIRY_READY], 2);
    assert_true(roster_usable(known("yes")));
    expect_why("no", "it is not ready");
    assert_false(known("no")->expected);
    round_of_questions(); // that which serves is asked each time, the other has a pause
    assert_int_equal(server.asked[INQUIRY_READY], 1);
    assert_string_equal(server.last_name, "yes");
    server.model[0].unready = true;
    server.model[1].unready = false;
    server.now_us += INQUIRY_PAUSE_US;
    round_of_questions();
    expect_why("yes", "it is not ready");
    assert_true(roster_usable(known("no")));
}

static void without_an_index_the_configured_are_asked(void **state)
{
    static const int says[] = {12, 7, 16};
    for (unsigned i = 0; i < 3; i++) {
        inquiry_forget(&q);
        server.n = 0;
        server.index = says[i];
        has((struct model){.name = "conf", .unready = true});
        has((struct model){.name = "other"});
        round_of_questions();
        assert_int_equal(q.last->n, 2);
        expect_why("ghost", "the server does not know it");
        expect_why("conf", "it is not ready");
        assert_true(known("ghost")->expected);
        for (unsigned k = 0; k < 20; k++)
            round_of_questions();
        assert_int_equal(server.asked[INQUIRY_INDEX], 0); // not asked twice
        assert_int_equal(server.asked[INQUIRY_READY], 2); // but these are, every time
        server.model[0].unready = false;
        round_of_questions();
        assert_true(roster_usable(known("conf")));
        round_of_questions();
        assert_int_equal(server.asked[INQUIRY_METADATA], 0);
        server.model[0].unready = true;
        round_of_questions();
        expect_why("conf", "it is not ready");
    }
}

// The configuration names others in the middle of a round, and the first names are gone.
static void other_names_are_given(void **state)
{
    static char names[2][8];
    strcpy(names[0], "conf");
    strcpy(names[1], "ghost");
    struct view gone[] = {view_str(names[0]), view_str(names[1])};
    static const struct view newer[] = {{"conf", 4}};
    server.index = 12;
    has((struct model){.name = "conf"});
    inquiry_set_names(&q, gone, 2);
    inquiry_begin(&q, server.now_us);
    answer(); // there is no index: both are asked about
    memset(names, 'x', sizeof(names));
    inquiry_set_names(&q, newer, 1);
    while (q.ask != INQUIRY_OVER)
        answer();
    assert_true(roster_usable(known("conf")));
    expect_why("ghost", "the server does not know it");
    round_of_questions();
    assert_int_equal(q.last->n, 1);
}

static void a_server_that_stops_serves_nothing(void **state)
{
    has((struct model){.name = "m", .says_version = "1"});
    server.index = 14;
    round_of_questions();
    assert_null(q.last);
    assert_string_equal(q.why, "RepositoryIndex: the server says 14: in these words");
    server.index = 0;
    round_of_questions();
    assert_true(roster_usable(known("m")));
    assert_string_equal(q.why, "");
    server.index = 14;
    round_of_questions();
    expect_why("m", "RepositoryIndex: the server says 14: in these words");
    assert_int_equal(q.last->n_usable, 0);
    assert_true(view_eq(q.last->why, known("m")->why)); // said once, not model by model
    assert_false(known("m")->expected);
    const struct roster *before = q.last;
    round_of_questions();
    assert_ptr_equal(q.last, before);
    server.index = 0;
    round_of_questions();
    assert_true(roster_usable(known("m")));
    assert_int_equal(q.last->why.n, 0);
}

// An index that fails for another reason, or not at all: what was known stays known.
static void no_answer_is_no_news(void **state)
{
    has((struct model){.name = "m", .says_version = "1"});
    round_of_questions();
    const struct roster *before = q.last;
    static const int says[] = {-1, 13, 4, 8};
    for (unsigned i = 0; i < 4; i++) {
        server.index = says[i];
        round_of_questions();
        assert_ptr_equal(q.last, before);
        assert_true(q.why[0] != '\0');
    }
    server.index = 0;
    server.model[0].meta = -1;
    for (unsigned i = 0; i < 3 * INQUIRY_REFRESH; i++)
        round_of_questions();
    assert_ptr_equal(q.last, before);
    server.model[0].meta = 0;
    server.model[0].config = -1;
    for (unsigned i = 0; i < 3 * INQUIRY_REFRESH; i++)
        round_of_questions();
    assert_ptr_equal(q.last, before);
    inquiry_forget(&q); // but of a new one nothing was known
    round_of_questions();
    expect_why("m", "ModelConfig: in these words");
}

static void a_round_that_is_given_up(void **state)
{
    has((struct model){.name = "m", .says_version = "1"});
    for (unsigned steps = 0; steps < 3; steps++) {
        inquiry_forget(&q);
        inquiry_begin(&q, server.now_us);
        for (unsigned i = 0; i < steps; i++)
            answer();
        round_of_questions();
        assert_true(roster_usable(known("m")));
    }
}

// ---- bounds ------------------------------------------------------------------------------------------

static void large_index(unsigned n, unsigned ready_from)
{
    struct oip_index_model *lines = calloc(n, sizeof(*lines));
    char(*names)[16] = calloc(n, 16);
    for (unsigned i = 0; i < n; i++) {
        snprintf(names[i], 16, "m%u", i);
        lines[i] =
            (struct oip_index_model){view_str(names[i]), VIEW("1"),
                                     i < ready_from ? VIEW("LOADING") : VIEW("READY"), VIEW("")};
    }
    struct oip_index index = {lines, n};
    struct buffer out;
    buffer_init(&out);
    assert_true(oip_grpc_index(&out, &index));
    inquiry_begin(&q, server.now_us);
    struct inquiry_answer a = {.message = view_of(out.data + out.at, buffer_len(&out))};
    inquiry_on_answer(&q, &a, server.now_us);
    a = (struct inquiry_answer){.status = 13};
    while (q.ask != INQUIRY_OVER)
        inquiry_on_answer(&q, &a, server.now_us);
    buffer_deinit(&out);
    free(names);
    free(lines);
}

static void too_many_models(void **state)
{
    large_index(1000, 900); // 100 of them are ready, and come last
    assert_int_equal(q.last->n, ROSTER_MODELS);
    assert_int_equal(q.last->left_out, 1000 - ROSTER_MODELS);
    for (unsigned i = 900; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof(name), "m%u", i);
        expect_why(name, "ModelMetadata: the server says 13: ");
    }
    large_index(60000, 60000);
    assert_int_equal(q.last->n, ROSTER_MODELS);
    large_index(0, 0);
    assert_int_equal(q.last->n, 0);
}

static void an_index_that_cannot_be_read(void **state)
{
    static char junk[INQUIRY_INDEX_BYTES + 1];
    has((struct model){.name = "m"});
    round_of_questions();
    memset(junk, 0xff, sizeof(junk));
    for (unsigned i = 0; i < 2; i++) {
        inquiry_begin(&q, server.now_us);
        struct inquiry_answer a = {.message = view_of(junk, i ? sizeof(junk) : 100)};
        assert_int_equal(inquiry_on_answer(&q, &a, server.now_us), INQUIRY_OVER);
        assert_string_equal(q.why, i ? "RepositoryIndex: the answer is too large"
                                     : "RepositoryIndex: the answer cannot be read");
        assert_true(roster_usable(known("m")));
    }
}

static void any_allocation_may_fail(void **state)
{
    has((struct model){.name = "a", .says_version = "1"});
    has((struct model){.name = "b", .state = "UNAVAILABLE", .reason = "broken"});
    has((struct model){.name = "c", .inputs = 300});
    for (uint64_t n = 1;; n++) {
        inquiry_forget(&q);
        arena_thread_done();
        memset(server.asked, 0, sizeof(server.asked));
        server.wants = true;
        mem_fail_at(n);
        uint64_t before = mem_count();
        inquiry_begin(&q, server.now_us);
        while (q.ask != INQUIRY_OVER && server.asked[q.ask] < 10)
            answer();
        bool failed = mem_count() - before >= n;
        mem_fail_at(0);
        server.wants = false;
        assert_int_equal(q.ask, INQUIRY_OVER);
        server.now_us += 2 * INQUIRY_PAUSE_MAX_US;
        round_of_questions();
        assert_true(roster_usable(known("a")));
        if (!failed)
            break;
    }
}

// ---- the roster --------------------------------------------------------------------------------------

static void digests_tell_what_matters(void **state)
{
    struct tensor x = {.name = VIEW("x"), .dtype = DT_FP32, .rank = 2, .shape = {-1, 2}};
    struct view version = VIEW("1");
    struct roster_model base = {.name = VIEW("m"),
                                .meta = {.versions = &version,
                                         .n_versions = 1,
                                         .inputs = &x,
                                         .outputs = &x,
                                         .n_inputs = 1,
                                         .n_outputs = 1,
                                         .max_batch = 4}};
    struct roster_model other = base;
    struct tensor y = x;
    struct view two = VIEW("2");
    struct hash128 digest = roster_seal(&base, 1);
#define DIFFERS(change)                                                                            \
    other = base;                                                                                  \
    y = x;                                                                                         \
    change;                                                                                        \
    assert_false(hash128_eq(digest, roster_seal(&other, 1)))
    DIFFERS(other.name = VIEW("n"));
    DIFFERS(other.why = VIEW("no"));
    DIFFERS(other.expected = true);
    DIFFERS(other.meta.max_batch = 5);
    DIFFERS(other.meta.instances = 2);
    DIFFERS(other.meta.serial = true);
    DIFFERS(other.meta.versions = &two);
    DIFFERS(other.meta.n_versions = 0);
    DIFFERS(other.meta.platform = VIEW("p"));
    DIFFERS(other.meta.n_outputs = 0);
    DIFFERS(other.meta.inputs = &y; y.shape[1] = 3);
    DIFFERS(other.meta.inputs = &y; y.dtype = DT_FP16);
    DIFFERS(other.meta.outputs = &y; y.name = VIEW("z"));
    DIFFERS(other.meta.outputs = &y; y.rank = 1);
    other = base;
    other.retry_us = other.failures = 7; // its drawer's
    other.line.hi = 9;
    assert_true(hash128_eq(digest, roster_seal(&other, 1)));
}

static void references_are_counted(void **state)
{
    struct roster *r = roster_new(NULL, 0, 3, VIEW(""));
    assert_int_equal(r->left_out, 3);
    assert_ptr_equal(roster_ref(r), r);
    roster_unref(r);
    assert_int_equal(r->n, 0);
    roster_unref(r);
    roster_unref(NULL);
    assert_null(roster_ref(NULL));
    assert_null(roster_find(NULL, VIEW("m")));
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(models_are_asked_about_once),
        TEST(ready_is_spelled_in_many_ways),
        TEST(another_version_is_another_model),
        TEST(versions_may_come_from_the_index),
        TEST(loaded_anew_under_the_same_version),
        TEST(a_server_without_configurations_serves_singly),
        TEST(what_cannot_be_used_says_why),
        TEST(what_is_not_ready_says_why),
        TEST(reasons_are_cut_between_characters),
        TEST(what_could_not_be_had_is_asked_again),
        TEST(nothing_grows),
        TEST(a_name_alone_is_asked_whether_it_is_ready),
        TEST(without_an_index_the_configured_are_asked),
        TEST(other_names_are_given),
        TEST(a_server_that_stops_serves_nothing),
        TEST(no_answer_is_no_news),
        TEST(a_round_that_is_given_up),
        TEST(too_many_models),
        TEST(an_index_that_cannot_be_read),
        TEST(any_allocation_may_fail),
        TEST(digests_tell_what_matters),
        TEST(references_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
