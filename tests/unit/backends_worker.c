/* backends/worker on a real loop and a real socket, before a server of hand-made frames in the same thread: what is
 * asked and by whom, what is believed, and when a connection is given up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define READER_STREAMS 512
#include "backends/worker.h"
#include "base/mem.h"
#include "infer/model_config.h"
#include "infer/oip_grpc.h"
#include "net/listen.h"
#include "tests/unit/http_frames.h"
#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL 40000
#define TIMEOUT 40000
#define FAILURES 3

enum method { LIVE, INDEX, METADATA, CONFIG, INFER, READY, OTHER, METHODS };
static const char *const path[METHODS] = {"ServerLive",  "RepositoryIndex", "ModelMetadata",
                                          "ModelConfig", "ModelInfer",      "ModelReady"};

// The server, with one connection at a time.
static struct batch_server {
    int listener, fd;
    struct reader *r;
    struct wire say;
    uint32_t next;           // stream that is looked at next
    uint32_t streams;        // MAX_CONCURRENT_STREAMS; 0: not said
    unsigned asked[METHODS]; // on all connections
    unsigned accepted;
    int status[METHODS]; // that it answers; -1: nothing
    bool deaf;           // reads nothing
    const char *models[4];
    unsigned n_models;
    uint32_t held[16]; // streams of ModelInfer that wait for `release`
    unsigned n_held;
} server;

static struct loop *l;
static struct worker *w;
static struct worker_config config;
static struct {
    unsigned up, learnt, models, gone, probed, missed, hangs, down, ends;
    char why[100], not_learnt[300];
    enum http_call_end end;
    enum worker_state state;
    bool believes; // what it learns, at once
} seen;
static uint8_t much[8 << 20];

// ---- the server --------------------------------------------------------------------------------------

static void put_answer(uint32_t id, int status, struct view message)
{
    char trailers[100];
    uint8_t prefix[5] = {0, 0, 0, (uint8_t)(message.n >> 8), (uint8_t)message.n};
    struct wire body = {0};
    snprintf(trailers, sizeof(trailers), "grpc-status: %d\n", status);
    wire_head(&server.say, 0, id, ":status: 200\ncontent-type: application/grpc\n");
    if (status == 0) {
        wire_put(&body, prefix, 5);
        wire_put(&body, message.p, message.n);
        wire_frame(&server.say, DATA, 0, id, body.p, body.n);
        free(body.p);
    }
    wire_head(&server.say, END_STREAM, id, trailers);
}

static enum method method_of(const struct reader_stream *s)
{
    for (unsigned m = 0; m < OTHER; m++) {
        if (strstr(s->fields, path[m]))
            return (enum method)m;
    }
    return OTHER;
}

static void put_index(struct buffer *b)
{
    struct oip_index_model lines[4];
    for (unsigned i = 0; i < server.n_models; i++)
        lines[i] = (struct oip_index_model){view_str(server.models[i]), VIEW("1"), VIEW("READY"),
                                            VIEW("")};
    struct oip_index index = {lines, server.n_models};
    assert_true(oip_grpc_index(b, &index));
}

static void answer(uint32_t id, const struct reader_stream *s)
{
    enum method m = method_of(s);
    struct buffer b;
    buffer_init(&b);
    server.asked[m]++;
    if (m == INFER) {
        server.held[server.n_held++] = id;
        return;
    }
    if (server.status[m] < 0)
        return;
    struct view name = view_of(s->body + 7, s->body_n > 7 ? s->body_n - 7 : 0);
    struct model_metadata meta = {.name = name, .max_batch = 4};
    if (m == INDEX)
        put_index(&b);
    if (m == METADATA)
        assert_true(oip_grpc_metadata(&b, &meta));
    if (m == CONFIG)
        assert_true(model_config_pb(&b, &meta));
    put_answer(id, server.status[m], view_of(b.data ? b.data + b.at : NULL, buffer_len(&b)));
    buffer_deinit(&b);
}

static void let_go(void)
{
    for (unsigned i = 0; i < server.n_held; i++)
        put_answer(server.held[i], 0, VIEW(""));
    server.n_held = 0;
}

static void hang_up(void)
{
    if (server.fd < 0)
        return;
    close(server.fd);
    reader_free(server.r);
    free(server.say.p);
    server.say = (struct wire){0};
    server.fd = -1;
    server.n_held = 0;
}

static void take_connection(void)
{
    int fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    hang_up();
    server.fd = fd;
    server.r = reader_new(true);
    server.next = 1;
    server.accepted++;
    if (server.streams)
        wire_setting(&server.say, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, server.streams);
    else
        wire_frame(&server.say, SETTINGS, 0, 0, NULL, 0);
}

static void listen_to_it(void)
{
    static uint8_t bytes[1 << 16];
    ssize_t n = 0;
    while (server.fd >= 0 && !server.deaf && (n = recv(server.fd, bytes, sizeof(bytes), 0)) > 0)
        reader_take(server.r, bytes, (size_t)n);
    if (server.fd >= 0 && n == 0 && !server.deaf) {
        hang_up();
        return;
    }
    while (server.fd >= 0 && !server.r->wrong) {
        struct reader_stream *s = reader_stream(server.r, server.next);
        if (!s->ended && !s->resets)
            break;
        if (s->ended)
            answer(server.next, s);
        server.next += 2;
    }
}

static void serve(void)
{
    take_connection();
    listen_to_it();
    if (server.fd >= 0 && server.say.n > 0) {
        ssize_t n = send(server.fd, server.say.p, server.say.n, MSG_NOSIGNAL);
        assert_true(n == (ssize_t)server.say.n || n < 0);
        server.say.n = 0;
    }
}

// ---- the worker --------------------------------------------------------------------------------------

static void on_state(struct worker *worker, void *ctx)
{
    seen.state = worker_state(worker);
}

static void on_up(struct worker *worker, void *ctx)
{
    seen.up++;
}

static void on_learnt(struct worker *worker, const char *why, void *ctx)
{
    uint64_t wish;
    seen.learnt++;
    snprintf(seen.not_learnt, sizeof(seen.not_learnt), "%s", why);
    if (seen.believes && worker_learnt(worker, &wish))
        worker_believe(worker, worker_learnt(worker, &wish));
}

static void on_model(struct worker *worker, const struct model_metadata *m, void *ctx)
{
    assert_ptr_equal(worker_model(worker, m->name), m);
    seen.models++;
}

static void on_model_gone(struct worker *worker, struct view name, void *ctx)
{
    assert_true(name.n > 0);
    seen.gone++;
}

static void on_probed(struct worker *worker, void *ctx)
{
    seen.probed++;
}

static void on_missed(struct worker *worker, void *ctx)
{
    seen.missed++;
}

static void on_hangs(struct worker *worker, void *ctx)
{
    seen.hangs++;
}

static void on_down(struct worker *worker, const char *why, void *ctx)
{
    seen.down++;
    snprintf(seen.why, sizeof(seen.why), "%s", why);
}

static void on_infer_end(struct worker *worker, struct http_call *call, enum http_call_end end,
                         void *user, void *ctx)
{
    assert_ptr_equal(user, &seen);
    seen.ends++;
    seen.end = end;
}

static const struct worker_ops ops = {.on_state = on_state,
                                      .on_up = on_up,
                                      .on_learnt = on_learnt,
                                      .on_model = on_model,
                                      .on_model_gone = on_model_gone,
                                      .on_probed = on_probed,
                                      .on_missed = on_missed,
                                      .on_hangs = on_hangs,
                                      .on_down = on_down,
                                      .on_infer_end = on_infer_end};

static int setup(void **state)
{
    char err[LISTEN_ERROR];
    struct sockaddr_in at;
    socklen_t n = sizeof(at);
    server = (struct batch_server){.fd = -1, .models = {"m"}, .n_models = 1};
    memset(&seen, 0, sizeof(seen));
    seen.believes = true;
    config = (struct worker_config){
        .name = "w/0",
        .owner = true,
        .rules = {.probe = {INTERVAL, TIMEOUT, FAILURES}, .max_answer = 1 << 20}};
    assert_null(addr_parse(&config.addr, VIEW("127.0.0.1:0"), 0));
    assert_int_equal(listen_open(&config.addr, 1, &server.listener, err), 1);
    assert_int_equal(getsockname(server.listener, (struct sockaddr *)&at, &n), 0);
    config.addr.in.sin_port = at.sin_port;
    l = loop_new(0, "test", 1);
    return 0;
}

static int teardown(void **state)
{
    worker_free(w);
    w = NULL;
    loop_turn(l, false);
    loop_free(l);
    hang_up();
    close(server.listener);
    return 0;
}

static void turn(void)
{
    serve();
    loop_turn(l, false);
    usleep(200);
}

static uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        uint64_t end_us = clock_us() + 30000000;                                                   \
        while (!(condition) && clock_us() < end_us)                                                \
            turn();                                                                                \
        assert_true(condition);                                                                    \
    } while (0)

static void turns_for(uint64_t us)
{
    for (uint64_t end_us = clock_us() + us; clock_us() < end_us;)
        turn();
}

static void begin(void)
{
    w = worker_new(l, &config, &ops, NULL);
    worker_start(w);
    UNTIL(seen.state == (config.owner ? WORKER_READY : WORKER_ASKING));
}

static struct roster *a_roster(const char *name, uint32_t max_batch)
{
    struct roster_model m = {.name = view_str(name),
                             .meta = {.name = view_str(name), .max_batch = max_batch}};
    return roster_new(&m, 1, 0, VIEW(""));
}

static void believe(const char *name, uint32_t max_batch)
{
    struct roster *r = a_roster(name, max_batch);
    worker_believe(w, r);
    roster_unref(r);
}

static struct http_call *infer(size_t bytes)
{
    struct http_seg seg = {much, bytes, NULL};
    return worker_infer(w, NULL, 0, &seg, 1, 10000000, &seen);
}

// ---- what is asked -----------------------------------------------------------------------------------

static void an_owner_asks_and_serves(void **state)
{
    begin();
    assert_int_equal(seen.models, 1);
    assert_int_equal(worker_model(w, VIEW("m"))->max_batch, 4);
    assert_null(worker_model(w, VIEW("n")));
    assert_non_null(infer(100));
    UNTIL(server.n_held == 1);
    let_go();
    UNTIL(seen.ends == 1);
    assert_int_equal(seen.end, CALL_ANSWERED);
    unsigned before = server.asked[LIVE];
    UNTIL(server.asked[LIVE] > before + 5 && seen.probed > before + 5);
    assert_true(server.asked[INDEX] + 10 > server.asked[LIVE]);
    assert_int_equal(server.asked[READY], 0);
    assert_int_equal(server.asked[OTHER], 0); // ServerReady above all
    assert_int_equal(seen.down + seen.missed, 0);
}

static void another_asks_nothing_until_it_doubts(void **state)
{
    config.owner = false;
    begin();
    assert_null(infer(1)); // nothing is believed yet
    turns_for(3 * INTERVAL);
    believe("m", 2);
    assert_int_equal(worker_state(w), WORKER_READY);
    for (unsigned m = 0; m < METHODS; m++)
        assert_int_equal(server.asked[m], 0);
    worker_doubt(w);
    worker_doubt(w);
    UNTIL(seen.probed == 1);
    turns_for(3 * INTERVAL);
    assert_int_equal(server.asked[LIVE], 1);
    assert_int_equal(seen.down, 0);
}

static void wishes_are_answered_by_what_is_asked_after_them(void **state)
{
    uint64_t wish;
    config.rules.probe.interval_us = 60000000;
    begin();
    unsigned learnt = seen.learnt;
    worker_news(w, 5);
    worker_news(w, 6);
    UNTIL(seen.learnt == learnt + 1);
    assert_non_null(worker_learnt(w, &wish));
    assert_int_equal(wish, 6);
    worker_news(w, 7);
    unsigned asked = server.asked[INDEX];
    UNTIL(server.asked[INDEX] == asked + 1);
    worker_news(w, 8); // while the round of 7 runs
    UNTIL(seen.learnt == learnt + 3);
    worker_learnt(w, &wish);
    assert_int_equal(wish, 8);
}

static void models_go_and_come_without_ending_a_call(void **state)
{
    begin();
    assert_non_null(infer(100));
    UNTIL(server.n_held == 1);
    server.n_models = 0;
    UNTIL(seen.gone == 1);
    assert_int_equal(worker_state(w), WORKER_READY);
    server.models[0] = "other";
    server.n_models = 1;
    UNTIL(seen.models == 2);
    server.status[INDEX] = 14; // it is stopping
    UNTIL(seen.gone == 2);
    assert_int_equal(seen.ends + seen.down, 0);
    let_go();
    UNTIL(seen.ends == 1);
    assert_int_equal(seen.end, CALL_ANSWERED);
    server.status[INDEX] = 0;
    UNTIL(seen.models == 3);
    assert_int_equal(server.accepted, 1);
}

static void what_differs_goes_and_comes(void **state)
{
    config.owner = false;
    begin();
    believe("m", 2);
    believe("m", 2);
    assert_int_equal(seen.models, 1);
    assert_int_equal(seen.gone, 0);
    believe("m", 3);
    assert_int_equal(seen.models, 2);
    assert_int_equal(seen.gone, 1);
    believe("n", 3);
    assert_int_equal(seen.gone, 2);
    hang_up();
    UNTIL(seen.down == 1);
    assert_int_equal(seen.gone, 3);
    assert_null(worker_model(w, VIEW("n")));
    believe("n", 3); // down: nobody is there
    assert_int_equal(seen.models, 3);
}

static void a_slow_index_is_no_hanging_worker(void **state)
{
    begin();
    server.status[INDEX] = -1;
    turns_for(10 * TIMEOUT);
    assert_int_equal(seen.down + seen.missed, 0);
    assert_int_equal(worker_state(w), WORKER_READY);
}

static void what_cannot_be_learnt_is_said(void **state)
{
    server.status[INDEX] = 13;
    w = worker_new(l, &config, &ops, NULL);
    worker_start(w);
    UNTIL(seen.learnt > 2);
    assert_string_equal(seen.not_learnt, "RepositoryIndex: the server says 13: ");
    assert_int_equal(worker_state(w), WORKER_ASKING);
    server.status[INDEX] = 0;
    UNTIL(seen.state == WORKER_READY);
}

// ---- whether it lives --------------------------------------------------------------------------------

static void any_answer_to_a_probe_will_do(void **state)
{
    static const int says[] = {12, 14, 13};
    begin();
    for (unsigned i = 0; i < 3; i++) {
        server.status[LIVE] = says[i];
        unsigned before = seen.probed;
        UNTIL(seen.probed > before + 3);
    }
    assert_int_equal(seen.down + seen.missed, 0);
}

static void one_that_hangs_is_found_and_left(void **state)
{
    begin();
    assert_non_null(infer(100));
    UNTIL(server.n_held == 1);
    for (unsigned m = 0; m < METHODS; m++)
        server.status[m] = -1;
    uint64_t since_us = clock_us();
    UNTIL(seen.down == 1);
    assert_in_range(clock_us() - since_us, (FAILURES - 1) * TIMEOUT, 30000000);
    assert_int_equal(seen.hangs, 1);
    assert_int_equal(seen.missed, 1);
    assert_string_equal(seen.why, "it does not answer probes");
    assert_int_equal(seen.ends, 1);
    assert_int_equal(seen.end, CALL_ABANDONED); // it was us
    memset(server.status, 0, sizeof(server.status));
    UNTIL(seen.models == 2);
    assert_int_equal(server.accepted, 2);
}

// B2 of the old days: nothing leaves the socket, no cancel either.
static void one_that_reads_nothing_is_found_too(void **state)
{
    begin();
    server.deaf = true;
    assert_non_null(infer(sizeof(much)));
    assert_non_null(infer(sizeof(much)));
    UNTIL(seen.hangs == 1 && seen.down == 1);
    assert_int_equal(seen.ends, 2);
    assert_int_equal(seen.end, CALL_ABANDONED);
}

static void another_that_hangs_is_found_on_suspicion(void **state)
{
    config.owner = false;
    begin();
    believe("m", 2);
    server.status[LIVE] = -1;
    turns_for(5 * TIMEOUT);
    assert_int_equal(seen.down, 0);
    worker_doubt(w);
    UNTIL(seen.hangs == 1 && seen.down == 1);
    assert_int_equal(server.asked[LIVE], FAILURES);
}

static void a_lost_one_is_lost(void **state)
{
    begin();
    assert_non_null(infer(100));
    UNTIL(server.n_held == 1);
    hang_up();
    UNTIL(seen.ends == 1 && seen.down == 1);
    assert_int_equal(seen.end, CALL_LOST);
    UNTIL(seen.state == WORKER_READY);
}

static void a_replaced_one_is_abandoned(void **state)
{
    begin();
    assert_non_null(infer(100));
    worker_replace(w, "because");
    assert_null(infer(1)); // no more on this one
    worker_replace(w, "again");
    UNTIL(seen.down == 1);
    assert_string_equal(seen.why, "because");
    assert_int_equal(seen.end, CALL_ABANDONED);
    UNTIL(seen.state == WORKER_READY);
    assert_int_equal(server.accepted, 2);
}

// ---- streams and GOAWAY ------------------------------------------------------------------------------

static void a_stream_is_kept_for_the_probe(void **state)
{
    server.streams = 2;
    config.owner = false;
    begin();
    believe("m", 2);
    assert_non_null(infer(100));
    assert_null(infer(100));
    worker_doubt(w);
    UNTIL(seen.probed == 1);
    assert_int_equal(server.n_held, 1);
}

static void a_probe_that_is_owed_is_sent_when_a_stream_is_free(void **state)
{
    server.streams = 1;
    config.owner = false;
    config.rules.probe.timeout_us = 5000000;
    begin();
    believe("m", 2);
    assert_non_null(infer(100));
    UNTIL(server.n_held == 1);
    worker_doubt(w);
    turns_for(20000);
    assert_int_equal(server.asked[LIVE], 0);
    let_go();
    UNTIL(seen.probed == 1);
}

// Its port may be open to another by now. What runs here is not cut, however long it takes.
static void after_goaway_what_runs_ends_and_nothing_begins(void **state)
{
    uint8_t last[8] = {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0};
    begin();
    assert_non_null(infer(100));
    UNTIL(server.n_held == 1);
    wire_frame(&server.say, GOAWAY, 0, 0, last, 8);
    for (unsigned m = 0; m < METHODS; m++)
        server.status[m] = -1; // nor is it judged
    UNTIL(seen.gone == 1);
    assert_null(infer(1));
    turns_for(FAILURES * TIMEOUT * 3);
    assert_int_equal(seen.down + seen.hangs + seen.ends, 0);
    assert_int_equal(worker_state(w), WORKER_ASKING);
    memset(server.status, 0, sizeof(server.status));
    let_go();
    UNTIL(seen.ends == 1);
    assert_int_equal(seen.end, CALL_ANSWERED);
    UNTIL(seen.models == 2);
    assert_int_equal(server.accepted, 2);
    assert_int_equal(seen.hangs, 0);
}

static void freed_in_the_middle_of_everything(void **state)
{
    begin();
    assert_non_null(infer(100));
    worker_news(w, 1);
    worker_doubt(w);
    turn();
    worker_free(w);
    w = NULL;
    assert_int_equal(seen.ends, 1);
    assert_int_equal(seen.end, CALL_ABANDONED);
    assert_int_equal(seen.down, 0);
}

int main(void)
{
    alarm(300);
    net_init();
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_owner_asks_and_serves),
        TEST(another_asks_nothing_until_it_doubts),
        TEST(wishes_are_answered_by_what_is_asked_after_them),
        TEST(models_go_and_come_without_ending_a_call),
        TEST(what_differs_goes_and_comes),
        TEST(a_slow_index_is_no_hanging_worker),
        TEST(what_cannot_be_learnt_is_said),
        TEST(any_answer_to_a_probe_will_do),
        TEST(one_that_hangs_is_found_and_left),
        TEST(one_that_reads_nothing_is_found_too),
        TEST(another_that_hangs_is_found_on_suspicion),
        TEST(a_lost_one_is_lost),
        TEST(a_replaced_one_is_abandoned),
        TEST(a_stream_is_kept_for_the_probe),
        TEST(a_probe_that_is_owed_is_sent_when_a_stream_is_free),
        TEST(after_goaway_what_runs_ends_and_nothing_begins),
        TEST(freed_in_the_middle_of_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
