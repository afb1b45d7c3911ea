#include "tests/sim/sim.h"

#include "infer/oip_grpc.h"
#include <inttypes.h>
#include <stdlib.h>

#define ANSWER_US 300 // a worker says no within so long
#define TWICE_US 1000
#define PUSHBACK_US 200000 // what a worker that refuses asks for, at most
#define CANCEL_BYTES 13
#define ANSWER_BYTES 100

uint64_t calls_answer_of(uint64_t row)
{
    row ^= row >> 31;
    row *= 0x9e3779b97f4a7c15ull;
    return row ^ row >> 29;
}

double calls_time_us(const struct model_of *m, double rows)
{
    return m->alpha_us + m->beta_us * rows;
}

struct replica_of *replica_by_id(struct model_of *m, uint32_t id)
{
    for (unsigned i = 0; i < m->n_replicas; i++) {
        if (m->replica[i].worker->id % SIM_IDS == id % SIM_IDS)
            return &m->replica[i];
    }
    return NULL;
}

// ---- a call ------------------------------------------------------------------------------------------

static struct call *call_new(struct world *w, struct batch *b, struct replica_of *r)
{
    struct call *c = w->free_calls;
    struct link_of *k = link_at_home(r);
    if (c)
        w->free_calls = c->next;
    else
        c = malloc(sizeof(*c));
    *c = (struct call){
        .batch = b, .replica = r, .link = k, .next = k->calls, .prev = &k->calls, .tag = ++w->tag};
    if (k->calls)
        k->calls->prev = &c->next;
    k->calls = c;
    b->call = c;
    return c;
}

static void call_free(struct world *w, struct call *c)
{
    if (c->next)
        c->next->prev = c->prev;
    *c->prev = c->next;
    c->tag = 0;
    c->next = w->free_calls;
    w->free_calls = c;
}

static struct world *call_world(const struct call *c)
{
    return c->replica->model->w;
}

// Fixes how and when it ends; what was fixed before is void.
static void call_ends(struct call *c, enum end end, uint64_t at_us)
{
    struct world *w = call_world(c);
    c->end = end;
    c->stalls = false;
    c->tag = ++w->tag;
    c->due_us = at_us;
    world_at(w, &w->loop[c->link->loop], at_us, EVENT_CALL, c, c->tag);
}

// Its worker does not go on: nothing comes.
static void call_stalls(struct call *c)
{
    c->stalls = true;
    c->tag = ++call_world(c)->tag;
}

static void call_leaves_device(struct call *c)
{
    c->replica->worker->queued -= c->queued;
    c->queued = false;
}

static bool batch_has(const struct batch *b, bool poison)
{
    for (uint32_t i = 0; i < b->n; i++) {
        const struct life *x = life_of(b->tickets[i]);
        if (poison ? x->poison : x->guilty)
            return true;
    }
    return false;
}

// ---- what a worker makes of it -----------------------------------------------------------------------

// What it says of a batch without computing it; END_ANSWER: it takes it.
static enum end worker_says(struct worker_of *k, struct replica_of *r)
{
    struct world *w = k->w;
    if (k->stopping == 1)
        return k->refuses ? END_REFUSED : END_STOPPING;
    if (k->stopping == 2 || !r->loaded)
        return END_NOT_FOUND;
    if (w->now_us < r->refuse_until)
        return END_REFUSED;
    if (w->now_us < k->overload_until && k->queued >= k->bound)
        return END_OVERLOADED;
    return w->now_us < r->broken_until ? END_ERROR : END_ANSWER;
}

static enum end guilty_end(const struct batch *b)
{
    return life_of(b->tickets[0])->asks & 1 ? END_ERROR : END_BAD;
}

static enum end no_room(struct model_of *m)
{
    world_count(m->w, FAULT_NO_ROOM);
    excuse_until(&m->excuse, FAULT_NO_ROOM, m->w->now_us + 100000);
    return END_NO_ROOM;
}

// How a batch that is computed ends.
static enum end batch_end(struct world *w, const struct batch *b, struct model_of *m)
{
    if (batch_has(b, false)) {
        world_count(w, FAULT_GUILTY);
        return guilty_end(b);
    }
    if (!w->healed && m->room_rows > 0 && b->n > 1 && b->rows > m->room_rows)
        return no_room(m);
    if (w->healed || !world_chance(w, w->plan.per_batch))
        return END_ANSWER;
    static const struct {
        enum end end;
        enum fault fault;
    } kinds[] = {{END_ERROR, FAULT_ERROR},
                 {END_MALFORMED, FAULT_MALFORMED},
                 {END_SHAPE, FAULT_SHAPE},
                 {END_NO_ROOM, FAULT_NO_ROOM},
                 {END_REFUSED, FAULT_REFUSE}};
    unsigned k = (unsigned)rand_below(&w->rand, 5);
    if (kinds[k].end == END_SHAPE && (b->rows == 0 || m->max_batch == 0))
        return END_ANSWER; // no shape of ours to miss
    world_count(w, kinds[k].fault);
    excuse_until(&m->excuse, kinds[k].fault, w->now_us + 100000);
    return kinds[k].end;
}

static double compute_us(struct world *w, const struct replica_of *r, const struct batch *b)
{
    const struct worker_of *k = r->worker;
    const struct model_of *m = r->model;
    double us = calls_time_us(m, b->rows ? b->rows : 1) * calls_slower(r);
    if (m->tail > 1 && rand_below(&w->rand, 50) == 0)
        us *= 1 + (m->tail - 1) * rand_unit(&w->rand);
    if (w->now_us < k->slow_until)
        us *= 20;
    return us;
}

// A world that shifts is slow at first, and what that teaches is believed for a while.
static double shift_us(struct world *w, struct worker_of *k, double us)
{
    if (!world_slow(w))
        return us;
    world_count(w, FAULT_SLOW);
    us *= SIM_SHIFT;
    excuse_until(&k->excuse, FAULT_SLOW,
                 most_us(k->free_us[0], w->now_us) + (uint64_t)us + SIM_EPSILON_US +
                     BATCHER_DOUBT_US);
    return us;
}

static void call_arrives(struct call *c)
{
    struct world *w = call_world(c);
    struct replica_of *r = c->replica;
    struct worker_of *k = r->worker;
    enum end end = worker_says(k, r);
    if (end == END_ANSWER)
        end = batch_end(w, c->batch, r->model);
    else if (end == END_OVERLOADED)
        world_count(w, FAULT_OVERLOAD);
    else if (end == END_ERROR)
        world_count(w, FAULT_BROKEN);
    if (end > END_BAD) { // it is not computed
        call_ends(c, end, world_soon(w, ANSWER_US));
        return;
    }
    double us = shift_us(w, k, compute_us(w, r, c->batch));
    c->queued = true;
    k->queued++;
    call_ends(c, end, workers_compute(k, (uint64_t)us));
}

static void link_fills(struct link_of *k, uint64_t bytes)
{
    struct world *w = k->worker->w;
    k->unread += bytes;
    if (k->full || k->unread <= w->plan.socket_bytes)
        return;
    k->full = true;
    world_count(w, FAULT_FULL);
}

void calls_dispatch(struct loop_of *l, struct batch *b)
{
    struct world *w = l->w;
    struct model_of *m = b->desk->user;
    struct replica_of *r = replica_by_id(m, b->replica);
    struct call *c = call_new(w, b, r);
    r->in_flight++;
    c->tried = demands_tried(r, b);
    w->totals.dispatches++;
    if (!c->link->up) { // the doer has no connection to give it to
        call_ends(c, END_REFUSED, w->now_us);
        return;
    }
    bool theirs = c->link->incarnation == r->worker->incarnation;
    if (theirs && r->worker->process == PROCESS_RUNS) {
        call_arrives(c);
        return;
    }
    call_stalls(c); // or its end has not been noticed yet
    if (theirs && r->worker->process == PROCESS_HANGS)
        link_fills(c->link, (b->rows ? b->rows : 1) * m->row_bytes);
}

void calls_cancel(struct loop_of *l, struct batch *b)
{
    struct world *w = l->w;
    struct call *c = b->call;
    demand(w, life_of(b->tickets[0]), c && c->batch == b, "a call that is cancelled is out");
    if (c->end == END_ANSWER && !c->stalls && c->queued && c->due_us < w->now_us + 1000 &&
        rand_below(&w->rand, 2)) {
        world_count(w, FAULT_CROSSED);
        return; // the answer was on its way
    }
    if (c->end == END_LOST)
        return;
    c->end = END_RECALLED;
    if (c->link->full) {
        call_stalls(c); // the cancel cannot leave, so it is not confirmed
        return;
    }
    if (c->replica->worker->process == PROCESS_HANGS)
        link_fills(c->link, CANCEL_BYTES);
    call_ends(c, END_RECALLED, world_soon(w, ANSWER_US));
}

static unsigned worker_calls(const struct worker_of *k)
{
    unsigned n = 0;
    for (unsigned i = 0; i < k->w->plan.loops; i++) {
        for (const struct call *c = k->link[i].calls; c && n < 2; c = c->next)
            n++;
    }
    return n;
}

void calls_lose(struct link_of *k, bool ours)
{
    struct world *w = k->worker->w;
    bool only = worker_calls(k->worker) == 1;
    for (struct call *c = k->calls; c; c = c->next) {
        c->ours = ours;
        c->only = only;
        c->local = k->worker->local;
        c->incarnation = k->incarnation;
        call_ends(c, END_LOST, w->now_us);
    }
}

// ---- its worker stands still, and goes on ------------------------------------------------------------

void calls_stall(struct link_of *k)
{
    for (struct call *c = k->calls; c; c = c->next) {
        if (c->end != END_RECALLED && c->end != END_LOST && c->end != END_REFUSED)
            call_stalls(c);
    }
}

void calls_resume(struct link_of *k)
{
    struct world *w = k->worker->w;
    for (struct call *c = link_answers(k) ? k->calls : NULL; c; c = c->next) {
        if (!c->stalls)
            continue;
        call_leaves_device(c);
        if (c->end == END_RECALLED)
            call_ends(c, END_RECALLED, world_soon(w, ANSWER_US));
        else
            call_arrives(c);
    }
}

// ---- ends --------------------------------------------------------------------------------------------

// Of the version that was asked for, or of the highest that it has.
static struct answer *make_answer(struct loop_of *l, const struct batch *b,
                                  const struct replica_of *r, uint32_t extra)
{
    struct view named = b->tickets[0]->to.version;
    bool second = named.n > 0 ? view_is(named, "2") : r->second;
    uint32_t rows = b->rows + extra, n = extra, at = 0;
    for (uint32_t i = 0; i < b->n; i++)
        n += request_rows(b->tickets[i]->request);
    struct block *block = block_new(l->blocks, n * sizeof(uint64_t));
    uint64_t *out = (uint64_t *)block->data;
    memset(out, 0, n * sizeof(*out));
    for (uint32_t i = 0; i < b->n; i++) {
        const struct infer_request *q = b->tickets[i]->request;
        const uint64_t *in = (const uint64_t *)q->inputs[0].data;
        for (uint32_t k = 0; k < (q->rows ? q->rows : 1); k++)
            out[at++] = calls_answer_of(in[k]) + (second ? 2 : 1);
    }
    struct tensor t = {.name = VIEW("y"),
                       .dtype = DT_UINT64,
                       .rank = 1,
                       .shape = {n},
                       .data = block->data,
                       .bytes = n * sizeof(*out)};
    struct answer *a = answer_new(block, &t, 1, b->rows ? rows : 0);
    a->version = second ? VIEW("2") : VIEW("1");
    return a;
}

static void answer_desk(struct loop_of *l, struct model_of *m, struct batch *b, enum end end)
{
    world_memory_end();
    const struct replica_of *r = replica_by_id(m, b->replica);
    struct answer *a = make_answer(l, b, r, end == END_SHAPE);
    double us = calls_time_us(m, b->rows ? b->rows : 1) * calls_slower(r);
    a->compute_us = m->tells_compute ? (uint64_t)us : 0;
    l->w->last_answer_us = l->w->now_us;
    if (end == END_ANSWER)
        m->met_us = l->w->now_us;
    desk_on_answer(m->desk, b, a, l->now_us, &l->fx);
}

// Each has its own words for it: gRPC 8, 14, HTTP 429 with and without a text.
static void spell_overload(struct batch_end *told, struct failure *e, uint32_t worker)
{
    if (worker % 4 == 1)
        e->status = STATUS_WORKER_LOST;
    else if (worker % 4 > 1)
        told->seen = SEEN_UNPROCESSED;
    if (worker % 4 == 3 && e->block)
        block_unref(e->block);
    if (worker % 4 == 3)
        told->error = NULL;
}

// A text of its own for each time that something is said.
static struct failure say(struct loop_of *l, const struct batch *b, enum status status,
                          const char *text)
{
    uint64_t number = ++l->w->words;
    for (uint32_t i = 0; i < b->n; i++)
        life_of(b->tickets[i])->words = number;
    return failure_format(l->blocks, status, "the worker says: %s" CALLS_NUMBER "%" PRIu64, text,
                          number);
}

// How the gateway reads it: gateway/workers.c.
static void end_desk(struct loop_of *l, struct model_of *m, struct batch *b, enum end end,
                     bool ours, uint64_t pushback_us)
{
    static const struct {
        enum seen seen;
        enum status status;
        const char *text;
    } as[ENDS] = {
        [END_NO_ROOM] = {SEEN_NO_ROOM, STATUS_UNAVAILABLE, "and there is no room for it"},
        [END_MALFORMED] = {SEEN_WRONG, STATUS_BAD_ANSWER, "the answer cannot be read"},
        [END_ERROR] = {SEEN_STATUS, STATUS_INTERNAL, "the kernel failed"},
        [END_BAD] = {SEEN_STATUS, STATUS_BAD_REQUEST, "a row is not as it should be"},
        [END_NOT_FOUND] = {SEEN_STATUS, STATUS_NOT_FOUND, "the model has no available versions"},
        [END_STOPPING] = {SEEN_STATUS, STATUS_WORKER_LOST, "the server is stopping"},
        [END_OVERLOADED] = {SEEN_STATUS, STATUS_UNAVAILABLE, "exceeds maximum queue size"},
        [END_REFUSED] = {SEEN_UNPROCESSED, STATUS_OK, NULL},
        [END_LOST] = {SEEN_LOST, STATUS_OK, NULL},
        [END_RECALLED] = {SEEN_RECALLED, STATUS_OK, NULL},
    };
    struct failure e = {.status = STATUS_OK};
    if (as[end].text)
        e = say(l, b, as[end].status, as[end].text);
    struct batch_end told = {.seen = as[end].seen,
                             .ours = ours,
                             .pushback_us = pushback_us,
                             .error = as[end].text ? &e : NULL};
    if (end == END_OVERLOADED)
        spell_overload(&told, &e, b->replica);
    desk_on_end(m->desk, b, &told, l->now_us, &l->fx);
    world_memory_end();
}

static void call_over(struct loop_of *l, struct call *c)
{
    struct world *w = l->w;
    struct replica_of *r = c->replica;
    struct model_of *m = r->model;
    struct batch *b = c->batch;
    if (end_refuses(c->end) && rand_below(&w->rand, 4) == 0)
        c->pushback_us = 1000 + rand_below(&w->rand, PUSHBACK_US);
    uint64_t pushback_us = c->pushback_us;
    demands_on_end(l, c);
    demands_credit(w, m);
    r->in_flight--;
    b->call = NULL;
    enum end end = c->end;
    bool ours = c->ours;
    call_leaves_device(c);
    call_free(w, c);
    struct ticket *tickets[4096];
    uint32_t n = b->n;
    memcpy(tickets, b->tickets, n * sizeof(tickets[0]));
    world_memory(w, m);
    for (uint32_t i = 0; m->memory_us == w->now_us && i < n; i++)
        life_of(tickets[i])->err_alone = life_of(tickets[i])->bad_answer =
            true; // there may be no memory to halve it
    bool elsewhere = demands_elsewhere(r, life_of(tickets[0]), 0);
    const struct replica_of *failed_at = replica_by_id(m, b->failed_at);
    if (end == END_ANSWER || end == END_SHAPE)
        answer_desk(l, m, b, end);
    else
        end_desk(l, m, b, end, ours, pushback_us);
    demand(w, NULL, end != END_ANSWER || replica_known(r)->not_before_us == 0,
           "a good answer ends a pause");
    if (end == END_ANSWER && failed_at)
        demands_shamed(failed_at);
    if (end_refuses(end))
        demands_refused(l, r, tickets, n, elsewhere, pushback_us);
    if (end == END_NO_ROOM)
        demands_no_room(l, r, tickets, n);
    for (uint32_t i = 0; i < n; i++)
        demands_queued(l, tickets[i]);
    kept_look(l, m);
    m->dirty = true;
}

void calls_event(struct loop_of *l, const struct entry *e)
{
    struct world *w = l->w;
    struct call *c = e->p;
    if (c->tag != e->tag)
        return; // fixed anew, or over: a second answer finds no call
    if (c->end == END_ANSWER && c->queued && batch_has(c->batch, true)) {
        world_count(w, FAULT_POISON);
        workers_crash(c->replica->worker, FAULT_POISON); // it stalls until its connection ends
        return;
    }
    if (c->end == END_ANSWER && world_chance(w, w->plan.per_batch)) {
        world_count(w, FAULT_TWICE);
        world_at(w, l, world_soon(w, TWICE_US), EVENT_CALL, c, c->tag);
    }
    if (c->end < END_LOST && c->link->up)
        c->link->heard += ANSWER_BYTES;
    call_over(l, c);
}
