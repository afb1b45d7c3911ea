/* ctl/words: what an admin listener answers, and what may come from something that is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "ctl/words.h"
#include <string.h>
#include <unistd.h>

// Two loops, of which the second does not answer; one model there, one here.
static const char page_text[] =
    "{'version':'0.1.0','pid':22706,'generation':1,'log_level':'info','uptime_s':3725,"
    "'phase':'running','bytes_leased':2097152,'bytes_limit':6319015936,"
    "'listeners':[{'name':'public','address':'0.0.0.0:80','state':'serving','connections':3,'"
    "accepted':70,'accepting':true,'tls':false}],"
    "'loops':[{'index':0,'connections':2,'delay_p99_us':88,'in_flight':1,'streams':0,'zombies':0,"
    "'answered':true,'holds':{'desks':[{'model':'digits','replicas':["
    "{'id':0,'up':true,'differs':false,'breaker':'closed','rank':0},"
    "{'id':1,'up':true,'differs':false,'breaker':'open'},"
    "{'id':2,'up':false,'differs':false,'breaker':'open'},"
    "{'id':1,'up':true,'differs':true,'breaker':'closed'},"
    "{'id':1,'up':true,'differs':false,'breaker':'closed','paused_us':7},"
    "{'id':1,'up':true,'differs':false,'breaker':'closed','rank':1}]}],"
    "'workers':[{'name':'w/0','owner':true,'pid':11,'in_flight':2,'losses':1,'models':['digits'],"
    "'not_usable':{'odd':'its output has no name'}},"
    "{'name':'w/1','owner':false,'pid':12,'in_flight':1,'losses':0,'models':[],'not_usable':{}}]}},"
    "{'index':1,'connections':1,'delay_p99_us':2500,'in_flight':0,'streams':0,'zombies':0,"
    "'answered':false}],"
    "'models':[{'name':'digits','home':0,'ready_replicas':1,'level':2,'share_ppm':437500,'row_us':"
    "1900,"
    "'wait_us':[0,2500,2500,90000],'max_batch':64,'waiting_rows':5,"
    "'running_rows':8,'charged_rows':13,'charged_bytes':3328,'queue_limit_rows':4096},"
    "{'name':'other','home':1,'ready_replicas':0,'max_batch':1,'waiting_rows':0,'running_rows':0,"
    "'charged_rows':0,'charged_bytes':0,'queue_limit_rows':1024}],"
    "'workers':[{'id':0,'name':'w/0','address':'unix:/run/"
    "w0.sock','connections':['ready','ready']},"
    "{'id':1,'name':'w/1','address':'10.0.0.7:8001','connections':['ready','connecting']}]}";

static json_t *parse(const char *single_quoted)
{
    static char text[8192];
    json_error_t error;
    size_t n = strlen(single_quoted);
    assert_true(n < sizeof(text));
    for (size_t i = 0; i <= n; i++)
        text[i] = single_quoted[i] == '\'' ? '"' : single_quoted[i];
    json_t *v = json_loads(text, JSON_DECODE_ANY, &error);
    if (!v)
        fail_msg("%s at %d", error.text, error.position);
    return v;
}

static void said(bool (*words)(const json_t *v, struct buffer *out), const json_t *v,
                 const char *want)
{
    struct buffer out;
    buffer_init(&out);
    assert_true(words(v, &out));
    assert_true(buffer_append(&out, "", 1));
    assert_string_equal((const char *)out.data, want);
    buffer_deinit(&out);
}

static void status(void **state)
{
    (void)state;
    json_t *page = parse(page_text);
    said(words_of_status, page,
         "sluice 0.1.0, process 22706, running for 1h 2m, restarts 1, log level info\n"
         "bytes in flight: 2.0 MiB leased of 5.9 GiB\n"
         "\n"
         "LISTENER  ADDRESS     STATE    TLS  ACCEPTING  CONNECTIONS  ACCEPTED\n"
         "public    0.0.0.0:80  serving  no   yes                  3        70\n"
         "\n"
         "LOOP  ANSWERS  CONNECTIONS  IN FLIGHT  STREAMS  ZOMBIES  DELAY P99\n"
         "   0  yes                2          1        0        0       88us\n"
         "   1  no                 1          0        0        0      2.5ms\n"
         "loop 1 did not answer in time: it is stuck or very busy\n");
    json_decref(page);
}

static void models(void **state)
{
    (void)state;
    json_t *page = parse(page_text), *picked = words_pick_models(page);
    json_t *desk = json_object_get(json_array_get(picked, 0), "desk");
    assert_int_equal(json_array_size(json_object_get(desk, "replicas")), 6);
    assert_true(json_is_null(json_object_get(json_array_get(picked, 1), "desk")));
    said(words_of_models, picked,
         "MODEL   READY  LEVEL  SHARE   WAIT  WAITING  RUNNING    ROW  QUEUE LIMIT  BATCH  BYTES "
         "CHARGED  "
         "LOOP\n"
         "digits    1/6      2    44%  2.5ms        5        8  1.9ms         4096     64        "
         "3.2 KiB  "
         "   0\n"
         "other       0      -      -      -        0        0      -         1024      1          "
         "  0 B  "
         "   1\n"
         "digits: replica w/1 is ejected, it fails what others answer\n"
         "digits: replica - is away\n"
         "digits: replica w/1 is kept out, what it says of the model is not what the others say\n"
         "digits: replica w/1 is paused, it refused\n"
         "digits: replica w/1 is in reserve, until those of the workers before its own are "
         "saturated "
         "or away\n");
    json_decref(picked);
    assert_null(json_object_get(json_array_get(json_object_get(page, "models"), 0), "desk"));
    json_decref(page);
    picked = parse("[]");
    said(words_of_models, picked, "no models: no worker has told of one yet\n");
    json_decref(picked);
}

static const char request_text[] =
    "{'id':'r1','loop':1,'client':'10.0.0.7','protocol':'grpc','arrived':'2026-01-01T00:00:00Z',"
    "'model':'digits','rows':128,'status':504,'outcome':'deadline','why':'it passed','whole':false,"
    "'deadline_us':700000,'left_us':0,"
    "'stages':{'parse_us':12,'queue_us':2100,'compute_us':0,'total_us':700100},"
    "'admitted':{'ready_replicas':2,'waiting_rows':3,'running_rows':4,'charged_rows':7,"
    "'queue_limit_rows':4096},"
    "'steps':[{'model':'digits','version':'1','tickets':9,'parts':["
    "{'rows':64,'home':true,'outcome':'ok','sent':2,'losses':1,'deaths':1,'refusals':0,"
    "'replica':'w/0','queue_us':2100,'left_us':690000,'batch_rows':64,'batch_reason':'full',"
    "'compute_us':318},{'rows':64,'home':false}]}]}";

static void one_request(void **state)
{
    (void)state;
    json_t *r = parse(request_text);
    said(words_of_request, r,
         "r1: 504 deadline: it passed; the client has not taken all of it\n"
         "arrived 2026-01-01T00:00:00Z from 10.0.0.7 by grpc, loop 1: model digits, 128 rows\n"
         "took 700.1ms: parse 12us, queue 2.1ms, compute 0us\n"
         "had 700.0ms, of which 0us were left\n"
         "found 2 replicas ready, 3 rows waiting, 4 running; of the room for 4096 rows 7 taken\n"
         "step: model digits, version 1\n"
         "PART  ROWS  OUTCOME   REPLICA  SENT  LOST  REFUSED  BATCH  REASON  QUEUE  COMPUTE     "
         "LEFT\n"
         "   1    64  ok        w/0         2     1        0     64  full    2.1ms    318us  "
         "690.0ms\n"
         "   2    64  not home  -           -     -        -      -  -           -        -        "
         "-\n"
         "and 7 parts more\n");
    json_decref(r);
    r = parse("{'id':'r2','model':'nope','rows':1,'status':404,'outcome':'not_found','why':null,"
              "'whole':true,'admitted':null,'steps':[]}");
    said(words_of_request, r,
         "r2: 404 not_found\n"
         "arrived - from - by -, loop 0: model nope, 1 rows\n"
         "took -: parse -, queue -, compute -\n"
         "it was refused before its model was looked at\n");
    json_object_set_new(r, "draw", json_string("holdout"));
    said(words_of_request, r,
         "r2: 404 not_found\n"
         "arrived - from - by -, loop 0: model nope, 1 rows\n"
         "took part in no experiment: holdout\n"
         "took -: parse -, queue -, compute -\n"
         "it was refused before its model was looked at\n");
    json_object_set_new(r, "experiment", json_string("size"));
    json_object_set_new(r, "variant", json_string("small"));
    json_object_set_new(r, "draw", json_string("forced"));
    said(words_of_request, r,
         "r2: 404 not_found\n"
         "arrived - from - by -, loop 0: model nope, 1 rows\n"
         "experiment size, variant small: forced\n"
         "took -: parse -, queue -, compute -\n"
         "it was refused before its model was looked at\n");
    json_decref(r);
}

static void one_request_with_a_shadow(void **state)
{
    (void)state;
    static const char *const told[][2] = {
        {"{'name':'s','end':null}", "not home"},
        {"{'name':'s','end':'level'}", "not asked: level"},
        {"{'name':'s','end':'answered','took_us':1200}", "answered after 1.2ms"},
        {"{'name':'s','end':'answered','took_us':1200,'verdict':'same'}",
         "answered after 1.2ms, same"},
        {"{'name':'s','end':'failed','took_us':300,'outcome':'worker_error'}",
         "failed after 300us: worker_error"}};
    for (unsigned i = 0; i < sizeof(told) / sizeof(*told); i++) {
        char want[400];
        json_t *r = parse("{'id':'r3','model':'m','rows':1,'status':200,'outcome':'ok','why':null,"
                          "'whole':true,'admitted':null,'steps':[]}");
        json_object_set_new(r, "shadow", parse(told[i][0]));
        snprintf(want, sizeof(want),
                 "r3: 200 ok\n"
                 "arrived - from - by -, loop 0: model m, 1 rows\n"
                 "took -: parse -, queue -, compute -\n"
                 "it was refused before its model was looked at\n"
                 "shadow s: %s\n",
                 told[i][1]);
        said(words_of_request, r, want);
        json_decref(r);
    }
}

static void workers(void **state)
{
    (void)state;
    json_t *page = parse(page_text), *picked = words_pick_workers(page);
    json_t *held = json_object_get(json_array_get(picked, 0), "held");
    assert_int_equal(json_array_size(held), 2);
    assert_true(json_is_null(json_array_get(held, 1)));
    said(words_of_workers, picked,
         "WORKER  ADDRESS            READY  STATE       PID  MODELS  IN FLIGHT  LOSSES\n"
         "w/0     unix:/run/w0.sock    2/2  ready        11       1          2       1\n"
         "w/1     10.0.0.7:8001        1/2  connecting    -       -          1       0\n"
         "w/0: model odd is not served: its output has no name\n");
    json_decref(picked);
    json_decref(page);
}

static void actions(void **state)
{
    (void)state;
    json_t *v = parse("{'already':false,'delay_ms':5000,'timeout_ms':60500}");
    said(words_of_drain, v,
         "draining: requests are served for 5 s more, what runs then has 60.5 s to end\n");
    json_decref(v);
    v = parse("{'already':true,'delay_ms':0,'timeout_ms':0}");
    said(words_of_drain, v, "it drains already\n");
    json_decref(v);
    v = parse("{'generation':3,'changes':'loops: was 2, is 3'}");
    said(words_of_reload, v, "configuration 3 is in force: loops: was 2, is 3\n");
    json_decref(v);
    v = parse("{'generation':4,'changes':''}");
    said(words_of_reload, v, "configuration 4 is in force: its file says what it said before\n");
    json_decref(v);
    v = parse("{'level':'debug','before':'info'}");
    said(words_of_level, v, "debug (it was info)\n");
    json_decref(v);
    v = parse("{'level':'info','before':'info'}");
    said(words_of_level, v, "info\n");
    json_decref(v);
}

// A gateway of another age: what it does not tell is "-". Names that would move a terminal do not.
static void configurations(void **state)
{
    (void)state;
    static const char head[] = "sluice -, process 0, - for -, restarts 0, log level -\n"
                               "configuration 7 of /etc/g.conf since now";
    char want[300];
    json_t *page = parse("{'configuration':{'generation':7,'path':'/etc/g.conf','since':'now',"
                         "'older':[]},'listeners':[],'loops':[]}");
    struct buffer out;
    buffer_init(&out);
    assert_true(words_of_status(page, &out));
    snprintf(want, sizeof(want), "%s\nbytes", head);
    assert_memory_equal(out.data, want, strlen(want));
    json_decref(page);
    page = parse("{'configuration':{'generation':7,'path':'/etc/g.conf','since':'now',"
                 "'older':[{'requests':2},{'requests':3}]},'listeners':[],'loops':[]}");
    buffer_reset(&out);
    assert_true(words_of_status(page, &out));
    snprintf(want, sizeof(want), "%s; 2 older held by 5 requests\nbytes", head);
    assert_memory_equal(out.data, want, strlen(want));
    json_decref(page);
    buffer_deinit(&out);
}

// One line for all loops, where there is a store: what is wrong with the first that has it not.
static void the_store(void **state)
{
    (void)state;
    static const struct {
        const char *first, *second, *want;
    } rows[] = {
        {"'state':'up','why':''", "'state':'up','why':''", "store: up, up on 2 of 2 loops\n"},
        {"'state':'up','why':''", "'state':'down','why':'Connection refused'",
         "store: down, up on 1 of 2 loops: Connection refused\n"},
        {"'state':'resting','why':'late'", "'state':'up','why':''",
         "store: resting, up on 1 of 2 loops: late\n"},
        {"'state':'none','why':''", "'state':'none','why':''", NULL},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[400];
        struct buffer out;
        buffer_init(&out);
        snprintf(text, sizeof(text),
                 "{'listeners':[],'loops':[{'holds':{'store':{%s}}},{'holds':{'store':{%s}}},{}]}",
                 rows[i].first, rows[i].second);
        json_t *page = parse(text);
        assert_true(words_of_status(page, &out) && buffer_append(&out, "", 1));
        const char *said = strstr((const char *)out.data, "store:");
        assert_true(!said == !rows[i].want);
        if (said)
            assert_memory_equal(said, rows[i].want, strlen(rows[i].want));
        json_decref(page);
        buffer_deinit(&out);
    }
}

static void what_is_missing(void **state)
{
    (void)state;
    json_t *page = parse("{'listeners':[{}],'loops':[{}, null, 3],'models':[{}],"
                         "'workers':[{'name':'a\\u001b[2Jb'}, 7]}");
    said(words_of_status, page,
         "sluice -, process 0, - for -, restarts 0, log level -\n"
         "bytes in flight: - leased of -\n"
         "\n"
         "LISTENER  ADDRESS  STATE  TLS  ACCEPTING  CONNECTIONS  ACCEPTED\n"
         "-         -        -      -    -                    -         -\n"
         "\n"
         "LOOP  ANSWERS  CONNECTIONS  IN FLIGHT  STREAMS  ZOMBIES  DELAY P99\n"
         "   -  -                  -          -        -        -          -\n"
         "   -  -                  -          -        -        -          -\n"
         "   -  -                  -          -        -        -          -\n");
    json_t *picked = words_pick_models(page);
    said(words_of_models, picked,
         "MODEL  READY  LEVEL  SHARE  WAIT  WAITING  RUNNING  ROW  QUEUE LIMIT  BATCH  BYTES "
         "CHARGED  "
         "LOOP\n"
         "-          -      -      -     -        -        -    -            -      -              "
         "-     "
         "-\n");
    json_decref(picked);
    assert_null(words_pick_workers(page)); // 7 is no worker
    json_array_remove(json_object_get(page, "workers"), 1);
    picked = words_pick_workers(page);
    said(words_of_workers, picked,
         "WORKER  ADDRESS  READY  STATE  PID  MODELS  IN FLIGHT  LOSSES\n"
         "a?[2Jb  -          0/0  -        -       -          0       0\n");
    json_decref(picked);
    json_decref(page);
}

static void one_event(void **state)
{
    json_t *v = parse(
        "{'time':'2026-01-02T03:04:05.678901Z','level':'warn','event':'worker_exited','name':'w',"
        "'replica':0,'why':'signal 9, at "
        "once','more':'','odd':'a=b','n':-3,'b':true,'c':{'d':[1]}}");
    (void)state;
    said(words_of_event, v,
         "03:04:05.678  warn   worker_exited      name=w replica=0 why=\"signal 9, at once\" "
         "more=\"\" "
         "odd=\"a=b\" n=-3 b=true c={\"d\":[1]}\n");
    json_decref(v);
    v = parse("{'event':'a\\u001b[2Jb','time':'noon','x\\u0007':'y\\u009bz'}");
    said(words_of_event, v, "noon  -      a?[2Jb             x?=y?z\n");
    json_decref(v);
}

// JSON that no admin listener answers.
static void other_answers(void **state)
{
    static const char *const texts[] = {"null",
                                        "3",
                                        "'x'",
                                        "[]",
                                        "{}",
                                        "{'models':3,'workers':{}}",
                                        "{'models':[1]}",
                                        "{'listeners':[],'loops':null}",
                                        "{'level':3,'before':'info'}",
                                        "{'id':3,'steps':[]}",
                                        "{'id':'x','steps':{}}",
                                        "{'generation':-1,'changes':''}",
                                        "{'generation':1,'changes':2}",
                                        "{'already':1}",
                                        "{'already':true,'delay_ms':-1,'timeout_ms':1}"};
    static bool (*const words[])(const json_t *v, struct buffer *out) = {
        words_of_status, words_of_reload,  words_of_drain,
        words_of_level,  words_of_request, words_of_event};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *v = parse(texts[i]);
        struct buffer out;
        buffer_init(&out);
        for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++)
            assert_false(words[k](v, &out));
        assert_null(words_pick_models(v));
        assert_null(words_pick_workers(v));
        buffer_deinit(&out);
        json_decref(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store),
        cmocka_unit_test(status),
        cmocka_unit_test(models),
        cmocka_unit_test(workers),
        cmocka_unit_test(actions),
        cmocka_unit_test(configurations),
        cmocka_unit_test(what_is_missing),
        cmocka_unit_test(other_answers),
        cmocka_unit_test(one_request),
        cmocka_unit_test(one_event),
        cmocka_unit_test(one_request_with_a_shadow),
    };
    alarm(300); // a test that waits for ever is one that failed
    return cmocka_run_group_tests(tests, NULL, NULL);
}
