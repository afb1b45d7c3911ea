/* worker/batches: what goes in one turn, and when the next look is. The engine's host keeps what it is given, so that a
 * batch is computed when a test says so; the clients have gone, so that nothing is encoded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/cpu/device.h"
#include "worker/batches.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define REQUESTS 8
#define MOST_ROWS 4
#define WAIT_US 1000 // in configurations; less than the time to the next look whatever waits

static char dir[64];
static struct engine *engine;
static struct engine_task *kept;
static struct loop *loop;
static struct repository repo;
static struct batches batches;
static struct exchange ex;
static struct worker_request requests[REQUESTS];
static struct tensor inputs[REQUESTS];

static void keep(struct engine_host *h, struct engine_task *t)
{
    (void)h;
    t->next = kept;
    kept = t;
}

static struct engine_host host = {keep};

static void put_model(const char *name, const char *config)
{
    char command[512];
    snprintf(command, sizeof(command),
             "cd models/digits-small/1 && mkdir -p %s/%s/1 && cp model.onnx %s/%s/1/ && echo '%s' "
             "> %s/%s/config.pbtxt",
             dir, name, dir, name, config, dir, name);
    assert_int_equal(system(command), 0);
}

static void load(void)
{
    char why[256];
    struct repository_options o = {.max_batch = MOST_ROWS, .instances = 1, .threads = 2};
    if (repository_load(&repo, engine, dir, o, why) != 0)
        fail_msg("%s", why);
    batches_init(&batches, loop, &repo);
}

// Request i, of rows that may share a batch with those of the same key.
static void add(unsigned i, const char *model, uint32_t rows, uint64_t key)
{
    static const float values[MOST_ROWS * 64];
    struct worker_request *r = &requests[i];
    struct error e;
    inputs[i] = (struct tensor){.name = VIEW("input"),
                                .dtype = DT_FP32,
                                .rank = 2,
                                .shape = {rows, 64},
                                .data = (const uint8_t *)values,
                                .bytes = rows * 256};
    *r = (struct worker_request){.serving = {.ex = &ex, .phase = SERVING_GONE},
                                 .batches = &batches,
                                 .request = {.model = view_str(model),
                                             .inputs = &inputs[i],
                                             .n_inputs = 1,
                                             .rows = rows,
                                             .batch_key = {key, key}}};
    ex.refs++;
    if (!batches_add(&batches, r, &e))
        fail_msg("%s", e.text);
}

static unsigned waiting(const char *model)
{
    struct error e;
    return repository_find(&repo, view_str(model), VIEW(""), &e)->batcher.count;
}

// Computes all that was submitted, and takes it home.
static void compute(void)
{
    while (kept) {
        struct engine_task *t = kept;
        kept = t->next;
        t->run(t);
    }
    loop_turn(loop, false);
}

static int setup(void **state)
{
    struct engine_error e;
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/sluice-batches-XXXXXX");
    engine =
        engine_new(cpu_device_new((struct cpu_options){0}), &host, (struct engine_limits){0}, &e);
    loop = loop_new(0, "test", 1);
    if (loop)
        loop_turn(loop, false); // its blocks are this thread's now
    ex = (struct exchange){.refs = 1, .started_us = loop ? loop_now_us(loop) : 0};
    arena_init(&ex.arena, 0);
    return engine && loop && mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[96];
    (void)state;
    for (unsigned i = 0; i < REQUESTS && batches.running + batches.waiting > 0; i++)
        compute();
    assert_int_equal(batches.running + batches.waiting + batches.computing, 0);
    assert_int_equal(ex.refs, 1); // each was released once
    batches_deinit(&batches);
    repository_free(&repo);
    engine_free(engine);
    arena_deinit(&ex.arena);
    loop_free(loop);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

// A turn fills all that are idle, be they of one model.
static void each_instance_that_is_idle(void **state)
{
    (void)state;
    put_model("m", "max_batch_size: 4 instance_group { count: 2 }");
    load();
    for (unsigned i = 0; i < 3; i++)
        add(i, "m", 4, 0);
    batches_run(&batches);
    assert_int_equal(batches.computing, 2);
    assert_int_equal(batches.waiting, 1);
    compute(); // those that come home make room
    assert_int_equal(batches.computing, 1);
    assert_string_equal(requests[0].serving.meta.batch_reason, "full");
}

static void models_take_turns(void **state)
{
    (void)state;
    put_model("a", "max_batch_size: 4 instance_group { count: 2 }");
    put_model("b", "max_batch_size: 4");
    put_model("c", "max_batch_size: 4 instance_group { count: 2 }");
    load();
    for (unsigned i = 0; i < 6; i++)
        add(i, i < 3 ? "a" : "c", 4, 0);
    batches_run(&batches);
    assert_int_equal(batches.computing, 2);
    assert_int_equal(waiting("a"), 2);
    assert_int_equal(waiting("c"), 2);
}

// One instance computes, and the model's others have nothing to do with it.
static void a_busy_model_ends_the_turn(void **state)
{
    (void)state;
    put_model("one", "max_batch_size: 4");
    put_model("two", "max_batch_size: 4 instance_group { count: 2 }");
    load();
    for (unsigned i = 0; i < 3; i++)
        add(i, "one", 4, 0);
    batches_run(&batches);
    assert_int_equal(batches.computing, 1);
    add(3, "two", 4, 0);
    batches_run(&batches);
    assert_int_equal(batches.computing, 2);
    assert_int_equal(waiting("one"), 2);
}

// Whoever waits is looked at when its wait ends, though others of its model went.
static void a_wait_ends_in_time(void **state)
{
    (void)state;
    put_model("m", "max_batch_size: 4 instance_group { count: 2 } dynamic_batching { "
                   "max_queue_delay_microseconds: 1000 }");
    load();
    add(0, "m", 4, 1);
    add(1, "m", 1, 2);
    batches_run(&batches);
    assert_int_equal(batches.computing, 1);
    assert_int_equal(batches.waiting, 1);
    assert_int_equal(batches.wake_us, requests[1].ticket.queued_us + WAIT_US);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_instance_that_is_idle),
        TEST(models_take_turns),
        TEST(a_busy_model_ends_the_turn),
        TEST(a_wait_ends_in_time),
    };
    net_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
