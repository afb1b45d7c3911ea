/* bench/core.c: what a request costs between its codecs: nanoseconds of CPU of two loops on two threads, the
 * first as origin, the second as home. Flow, mailboxes, desk, batcher and effects are the gateway's own, the
 * effects run as gateway/part.c runs them; there are no sockets and no codecs. The replica takes 64 rows a
 * batch and answers in the home's next turn, so that 4 batches, 256 requests, are with it; what is in the
 * system beyond them waits in the queue. Whoever is answered asks again at once, with a priority and a
 * deadline drawn anew.
 * Usage: core [requests a row, default 1000000: fewer than 100000 are measured once] [fixed: instead of auto].
 * Ends with 1 when more than one request in a hundred was not answered by its deadline. */
#include "base/check.h"
#include "base/mem.h"
#include "infer/oip_grpc.h"
#include "net/loop.h"
#include "router/desk.h"
#include "router/flow.h"
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 64
#define PIPELINE 4
#define IN_FLIGHT (BATCH * PIPELINE)
#define MAX_WAIT_US 2000
#define PIXELS 64
#define CLASSES 10
#define ROUNDS 5          // of which the cheapest counts: others on the machine only add
#define TIMEOUT_US 250000 // the shortest deadline; the longest is 128 times as far

enum { ORIGIN, HOME, SIDES };

struct side { // a loop's part, see gateway/part.h
    struct loop *loop;
    struct flow flow;
    struct desk *desk; // HOME's
    struct effects fx;
    bool running;
    struct loop_flush decide;
    struct wheel_timer flow_timer, desk_timer;
    struct loop_call replica;
    struct batch *sent, **sent_last; // linked through ->call, which is the doer's
};

struct figures {
    uint64_t cpu_ns;
    uint64_t answered, batches, turns, queued; // queued: summed over the home's decisions
};

static enum policy_kind policy = POLICY_AUTO;
static struct bench {
    struct loops loops;
    struct side side[SIDES];
    struct table *table;
    struct model *model;
    struct infer *infers;
    struct infer_request request; // as a decoder left it
    struct rand rand;
    uint64_t wanted, began_at, settled, failed;
    _Atomic uint64_t batches, turns, queued; // HOME's
    struct figures begin, end;
    pthread_t thread[SIDES];
    struct loop_task start, finish;
    bool over; // HOME's: nobody asks again
    unsigned waiting, outstanding;
    sem_t done;
} bench;

// ---- what is measured --------------------------------------------------------------------------------

static uint64_t cpu_ns(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < SIDES; i++) {
        clockid_t id;
        struct timespec t;
        invariant(pthread_getcpuclockid(bench.thread[i], &id) == 0 && clock_gettime(id, &t) == 0);
        sum += (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    return sum;
}

static struct figures look(void)
{
    return (struct figures){.cpu_ns = cpu_ns(),
                            .answered = bench.settled - bench.failed,
                            .batches = bench.batches,
                            .turns = bench.turns,
                            .queued = bench.queued};
}

// ---- the client --------------------------------------------------------------------------------------

static void ask(struct side *s, struct infer *in)
{
    static const uint8_t priority[] = {0, 0, 1, 2, 3, 5, 0, 7};
    uint64_t random = rand_u64(&bench.rand);
    *in = (struct infer){.request = bench.request, .arrived_us = loop_now_us(s->loop)};
    in->request.priority = priority[random % sizeof(priority)];
    in->request.timeout_us = (TIMEOUT_US + (random >> 8) % TIMEOUT_US) << (random >> 40) % 7;
    flow_submit(&s->flow, in, in->arrived_us, &s->fx);
}

static void settled(struct infer *in)
{
    if (in->error.status == STATUS_OK)
        block_unref(in->step.first.slice.answer->block);
    else
        bench.failed++;
    bench.settled++;
    if (bench.settled == bench.began_at)
        bench.begin = look();
    if (bench.settled == bench.began_at + bench.wanted)
        bench.end = look();
}

static void on_over(struct loop *l, struct loop_task *t)
{
    (void)t;
    bench.over = true;
    loop_flush_later(l, &bench.side[HOME].decide);
}

static void released(struct side *s, struct infer *in)
{
    if (bench.settled < bench.began_at + bench.wanted) {
        ask(s, in);
        return;
    }
    if (bench.outstanding == IN_FLIGHT + bench.waiting)
        loop_post_task(s->loop, bench.loops.loop[HOME], &bench.finish);
    if (--bench.outstanding == 0)
        sem_post(&bench.done);
}

// ---- the replica -------------------------------------------------------------------------------------

static void answer(struct side *s, struct batch *b)
{
    struct tensor output = {.name = VIEW("output"),
                            .dtype = DT_FP32,
                            .rank = 2,
                            .shape = {b->rows, CLASSES},
                            .bytes = b->rows * CLASSES * sizeof(float)};
    struct block *block = block_new(loop_blocks(s->loop), output.bytes);
    invariant(block);
    output.data = block->data;
    struct answer *a = answer_new(block, &output, 1, b->n > 1 ? b->rows : 0);
    invariant(a);
    b->call = NULL;
    desk_on_answer(s->desk, b, a, loop_now_us(s->loop), &s->fx);
    loop_flush_later(s->loop, &s->decide);
}

static void dispatched(struct side *s, struct batch *b)
{
    b->call = NULL;
    *s->sent_last = b;
    s->sent_last = (struct batch **)&b->call;
}

// ---- effects and messages, as gateway/part.c and homes.c have them -----------------------------------

static void run_one(struct side *s, const struct fx *f)
{
    switch (f->kind) {
    case FX_POST:
        loop_post(s->loop, bench.loops.loop[f->msg->to], f->msg);
        break;
    case FX_DISPATCH:
        dispatched(s, f->batch);
        break;
    case FX_SETTLE:
        settled(f->infer);
        break;
    case FX_RELEASE:
        released(s, f->infer);
        break;
    case FX_UNREF:
        block_unref(f->block);
        break;
    case FX_WAKE:
        wheel_set(loop_wheel(s->loop), f->desk ? &s->desk_timer : &s->flow_timer, f->at_us);
        break;
    case FX_USE:
    case FX_STORE_GET:
    case FX_STORE_PUT:
    case FX_NOTE:
        if (f->note.kind == NOTE_BATCH)
            bench.batches++;
        break;
    case FX_CANCEL:
    case FX_PROBE:
    case FX_HANGS:
    case FX_SHADOW:
        break; // it answers in any case
    }
}

static void run(struct side *s)
{
    if (s->running)
        return;
    s->running = true;
    for (unsigned i = 0; i < s->fx.n; i++) {
        struct fx f = s->fx.at[i];
        run_one(s, &f);
    }
    s->fx.n = 0;
    s->running = false;
}

static void on_msg(struct loop *l, struct msg *m, void *ctx)
{
    struct side *s = ctx;
    uint64_t now_us = loop_now_us(l);
    switch (m->kind) {
    case MSG_LEND:
        desk_on_ticket(s->desk, container_of(m, struct ticket, lend), now_us, &s->fx);
        loop_flush_later(l, &s->decide);
        break;
    case MSG_CANCEL:
        desk_on_cancel(s->desk, container_of(m, struct ticket, cancel), now_us, &s->fx);
        loop_flush_later(l, &s->decide);
        break;
    case MSG_BACK:
        flow_on_back(&s->flow, container_of(m, struct ticket, lend), now_us, &s->fx);
        break;
    case MSG_ECHO:
        flow_on_echo(&s->flow, container_of(m, struct ticket, cancel), now_us, &s->fx);
        break;
    default:
        invariant(!"a message of the router");
    }
    run(s);
}

static void on_replica(struct loop *l, struct loop_call *c)
{
    struct side *s = container_of(c, struct side, replica);
    struct batch *list = s->sent;
    s->sent = NULL;
    s->sent_last = &s->sent;
    (void)l;
    while (list) {
        struct batch *b = list;
        list = b->call;
        answer(s, b);
        run(s);
    }
}

static void on_decide(struct loop *l, struct loop_flush *f)
{
    struct side *s = container_of(f, struct side, decide);
    desk_run(s->desk, loop_now_us(l), &s->fx);
    run(s);
    bench.turns++;
    bench.queued += s->desk->batcher.count;
    if (s->sent && (s->desk->batcher.count >= bench.waiting || bench.over))
        loop_defer(l, &s->replica);
}

static void on_desk_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct side *s = container_of(t, struct side, desk_timer);
    desk_on_wake(s->desk, now_us, &s->fx);
    run(s);
    loop_flush_later(s->loop, &s->decide); // what was sent is to be answered
}

static void on_flow_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct side *s = container_of(t, struct side, flow_timer);
    flow_on_wake(&s->flow, now_us, &s->fx);
    run(s);
}

// ---- a run -------------------------------------------------------------------------------------------

// Each loop has a core to itself, where there are two: they would share one only to disturb each other.
static void on_start(struct loop *l, void *ctx)
{
    cpu_set_t have, one;
    unsigned seen = 0;
    (void)ctx;
    bench.thread[l->index] = pthread_self();
    if (sched_getaffinity(0, sizeof(have), &have) < 0 || CPU_COUNT(&have) < SIDES)
        return;
    CPU_ZERO(&one);
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &have) && seen++ == l->index)
            CPU_SET(core, &one);
    }
    sched_setaffinity(0, sizeof(one), &one);
}

static void on_stop(struct loop *l, void *ctx)
{
    (void)l;
    (void)ctx;
    arena_thread_done();
}

static void on_begin(struct loop *l, struct loop_task *t)
{
    struct side *s = &bench.side[ORIGIN];
    (void)l;
    (void)t;
    for (unsigned i = 0; i < bench.outstanding; i++)
        ask(s, &bench.infers[i]);
    run(s);
}

static void build_side(unsigned index)
{
    struct side *s = &bench.side[index];
    struct flow_rules rules = {.deadline_us = 1000000, .deadline_max_us = 600000000};
    *s = (struct side){.loop = bench.loops.loop[index]};
    uint64_t now_us = loop_now_us(s->loop);
    flow_init(&s->flow, index, bench.table, &rules, index, now_us);
    effects_init(&s->fx, loop_blocks(s->loop));
    s->decide.fn = on_decide;
    s->flow_timer.fn = on_flow_timer;
    s->desk_timer.fn = on_desk_timer;
    s->replica.fn = on_replica;
    s->sent_last = &s->sent;
    loop_on_msg_range(s->loop, MSG_ROUTER, on_msg, s);
    if (index != HOME)
        return;
    struct replica_facts facts = {.max_batch = BATCH};
    s->desk = bench.model->desk = desk_new(bench.model, HOME, 1, now_us);
    invariant(s->desk);
    desk_on_replica_up(s->desk, 0, &facts, now_us, &s->fx);
    run(s);
}

static void free_side(unsigned index)
{
    struct side *s = &bench.side[index];
    wheel_cancel(loop_wheel(s->loop), &s->flow_timer);
    wheel_cancel(loop_wheel(s->loop), &s->desk_timer);
    flow_deinit(&s->flow);
    if (s->desk)
        desk_free(s->desk);
    effects_deinit(&s->fx);
}

// A model whose home is the second loop.
static void build_model(unsigned outstanding)
{
    struct model_rules rules = {.policy = policy,
                                .refuse_early = true,
                                .max_wait_us = policy == POLICY_AUTO ? UINT64_MAX : MAX_WAIT_US,
                                .pipeline = PIPELINE,
                                .queue_rows =
                                    2 * outstanding, // of which the lowest priority may have half
                                .deadline_us = 1000000};
    char name[16];
    bench.table = table_new(SIDES);
    invariant(bench.table);
    for (unsigned i = 0; !bench.model || model_home(bench.model) != HOME; i++) {
        snprintf(name, sizeof(name), "digits-%u", i);
        bench.model = table_add(bench.table, view_str(name), &rules);
        invariant(bench.model);
    }
}

// The figures of `wanted` requests.
static struct figures measure(unsigned waiting, uint64_t wanted)
{
    static float pixels[PIXELS];
    struct tensor input = {.name = VIEW("input"),
                           .dtype = DT_FP32,
                           .rank = 2,
                           .shape = {1, PIXELS},
                           .data = (const uint8_t *)pixels,
                           .bytes = sizeof(pixels)};
    bench =
        (struct bench){.wanted = wanted, .waiting = waiting, .outstanding = IN_FLIGHT + waiting};
    bench.began_at = wanted / 4 + bench.outstanding; // what comes before warms up
    bench.infers = mem_must_zero(bench.outstanding * sizeof(*bench.infers));
    rand_seed(&bench.rand, 1);
    sem_init(&bench.done, 0, 0);
    invariant(loops_init(&bench.loops, SIDES, 1) == 0);
    build_model(bench.outstanding);
    bench.request =
        (struct infer_request){.model = bench.model->name, .inputs = &input, .n_inputs = 1};
    request_seal(&bench.request);
    for (unsigned i = 0; i < SIDES; i++)
        build_side(i);
    bench.loops.on_start = on_start;
    bench.loops.on_stop = on_stop;
    invariant(loops_start(&bench.loops) == 0);
    bench.start.fn = on_begin;
    bench.finish.fn = on_over;
    loop_post_task(NULL, bench.loops.loop[ORIGIN], &bench.start);
    while (sem_wait(&bench.done) < 0) {
    }
    loops_stop(&bench.loops);
    for (unsigned i = 0; i < SIDES; i++)
        free_side(i);
    loops_deinit(&bench.loops);
    table_free(bench.table);
    mem_free(bench.infers);
    const struct figures *a = &bench.begin, *b = &bench.end;
    return (struct figures){.cpu_ns = b->cpu_ns - a->cpu_ns,
                            .answered = b->answered - a->answered,
                            .batches = b->batches - a->batches,
                            .turns = b->turns - a->turns,
                            .queued = b->queued - a->queued};
}

static int by_cpu(const void *a, const void *b)
{
    const struct figures *x = a, *y = b;
    return (x->cpu_ns > y->cpu_ns) - (x->cpu_ns < y->cpu_ns);
}

int main(int argc, char **argv)
{
    static const unsigned waiting[] = {0, 10, 10000};
    enum { ROWS = sizeof(waiting) / sizeof(waiting[0]) };
    struct figures seen[ROWS][ROUNDS];
    uint64_t wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    if (argc > 2 && strcmp(argv[2], "fixed") == 0)
        policy = POLICY_FIXED;
    unsigned rounds = wanted < 100000 ? 1 : ROUNDS;
    int status = 0;
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned row = 0; row < ROWS; row++)
            seen[row][round] = measure(waiting[row], wanted);
    }
    for (unsigned row = 0; row < ROWS; row++) {
        qsort(seen[row], rounds, sizeof(seen[row][0]), by_cpu);
        const struct figures *f = &seen[row][0];
        printf("%u in flight, %5u waiting: %6.1f ns a request, %4.1f a batch, %.0f queued\n",
               IN_FLIGHT, waiting[row], (double)f->cpu_ns / (double)wanted,
               (double)f->answered / (double)f->batches, (double)f->queued / (double)f->turns);
        for (unsigned round = 0; round < rounds; round++) {
            if (seen[row][round].answered < wanted - wanted / 100)
                status = 1;
        }
    }
    arena_thread_done();
    return status;
}
