#include "tests/sim/sim.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define STARVED ((BATCHER_PASSES + BATCHER_LANES) * (BATCHER_PASSES + KINDS) + 1)
#define WINDOW_BITS 16 // of the books on peaks: 65 ms

void demand_failed(const struct world *w, const struct life *x, const char *what)
{
    unsigned long long id = x ? x->id : 0, seed = w->plan.seed;
    printf("seed %llu, %.6f s: not so: %s", seed, (double)(w->now_us - SIM_START_US) / 1e6, what);
    if (x)
        printf(" (infer %llu, %s, kind %d, settled as \"%s\")", id, x->model->name, x->kind,
               x->settled ? x->in.error.text : "-");
    printf("\nreplay: make sim SEED=%llu", seed);
    if (x)
        printf(" TRACE=%llu", id);
    printf("\n");
    fflush(stdout);
    exit(1);
}

void trace_line(const struct world *w, const struct life *x, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%12.6f  infer %llu ", (double)(w->now_us - SIM_START_US) / 1e6,
           (unsigned long long)x->id);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void demands_trouble(struct world *w, struct model_of *m, uint64_t until_us)
{
    (void)w;
    m->trouble_until = most(m->trouble_until, until_us);
}

// ---- what is out: the books on room and work -----------------------------------------------------------

static uint32_t rows_of(const struct life *x)
{
    return x->in.request.rows ? x->in.request.rows : 1;
}

static uint32_t batch_cap(const struct model_of *m)
{
    uint32_t cap = m->max_batch ? m->max_batch : 1;
    return m->rules.max_rows && m->rules.max_rows < cap ? m->rules.max_rows : cap;
}

static bool goes_alone(const struct life *x)
{
    return x->kind == KIND_SEQUENCE || x->kind == KIND_SCALAR || x->in.ticket.alone;
}

// What it costs one replica at most, in company where it may have some.
static double work_of(const struct life *x)
{
    const struct model_of *m = x->model;
    uint32_t cap = batch_cap(m);
    if (goes_alone(x) || cap < 2 * SIM_ROWS)
        return replicas_time_us(m, rows_of(x));
    return replicas_time_us(m, cap) * rows_of(x) / (cap - SIM_ROWS + 1);
}

static void note_peak(struct world *w, struct model_of *m)
{
    uint64_t window = w->now_us >> WINDOW_BITS;
    unsigned i = window % 64;
    if (m->peak_at[i] != window) {
        m->peak_at[i] = window;
        m->peak[i] = m->work_us;
    }
    m->peak[i] = fmax(m->peak[i], m->work_us);
}

static double peak_since(const struct world *w, const struct model_of *m, uint64_t since_us)
{
    double peak = m->work_us;
    if (w->now_us - since_us >= 60ull << WINDOW_BITS)
        return INFINITY;
    for (unsigned i = 0; i < 64; i++) {
        if (m->peak_at[i] >= since_us >> WINDOW_BITS)
            peak = fmax(peak, m->peak[i]);
    }
    return peak;
}

void demands_on_submit(struct loop_of *l, struct life *x)
{
    struct world *w = l->w;
    struct model_of *m = x->model;
    demand(w, x, x->in.state == INFER_OUT || x->in.error.status != STATUS_OK,
           "it goes out or is told why not");
    demand(w, x, (x->in.ticket.model == NULL) == (m->m == NULL),
           "a model is known when it is born");
    if (x->in.state != INFER_OUT)
        return;
    m->rows_out += rows_of(x);
    m->bytes_out += (int64_t)x->in.request.bytes;
    x->work_us = work_of(x);
    m->work_us += x->work_us;
    note_peak(w, m);
    demand(w, x, m->rows_out == atomic_load(&m->m->room_rows), "room is charged by the row");
    demand(w, x, m->bytes_out == atomic_load(&m->m->room_bytes), "room is charged by the octet");
    demand(w, x, m->rows_out <= (int64_t)atomic_load(&m->m->queue_limit),
           "no more rows than the queue's bound");
    demand(w, x, m->rules.queue_bytes == 0 || m->bytes_out <= (int64_t)m->rules.queue_bytes,
           "no more octets than the queue's bound");
    uint32_t limit = m->rules.queue_rows;
    if (limit == 0 && m->desk && m->desk->n_up > 0)
        limit = batch_cap(m) > 16 ? 64 * batch_cap(m) : 1024;
    demand(w, x, !w->plan.calm || limit == 0 || limit == atomic_load(&m->m->queue_limit),
           "the bound is max(1,024, 64 x max_rows), or what the rules say");
    uint64_t asked = x->in.request.timeout_us;
    uint64_t want = asked ? asked : m->rules.deadline_us;
    if (want > l->flow.rules.deadline_max_us)
        want = l->flow.rules.deadline_max_us;
    demand(w, x, x->in.deadline_us == x->in.arrived_us + want, "a deadline as it was asked for");
}

void demands_on_release(struct loop_of *l, struct life *x)
{
    struct world *w = l->w;
    demand(w, x, x->live && x->settled && !x->lent && l->index == x->loop,
           "an infer is over once, settled, with its ticket at home, at its origin");
    if (x->work_us == 0)
        return; // it never went out
    struct model_of *m = x->model;
    m->rows_out -= rows_of(x);
    m->bytes_out -= (int64_t)x->in.request.bytes;
    m->work_us -= x->work_us;
    note_peak(w, m);
    demand(w, x, m->rows_out == atomic_load(&m->m->room_rows), "room is given back by the row");
}

// ---- the ticket ----------------------------------------------------------------------------------------

static unsigned group_of(const struct life *x)
{
    if (ticket_batches(&x->in.ticket))
        return x->kind;
    // Singles have a group for each version; version 9's place is free, for nobody waits for that.
    return x->kind == KIND_VERSION1 ? KIND_VERSION9 : KIND_SEQUENCE;
}

static void stop_waiting(struct life *x)
{
    uint32_t *n = &x->model->waiting[group_of(x)][x->in.ticket.lane];
    x->waiting = false;
    if (--*n == 0)
        x->model->passed[group_of(x)][x->in.ticket.lane] = 0;
}

void demands_on_post(struct loop_of *l, struct msg *m)
{
    struct world *w = l->w;
    if (m->kind == MSG_LEND) {
        struct life *x = life_of(container_of(m, struct ticket, lend));
        demand(w, x, x->live && !x->lent && l->index == x->loop && m->to == x->model->home,
               "a ticket is lent once, by its origin to its home");
        x->lent = true;
    } else if (m->kind == MSG_BACK) {
        struct life *x = life_of(container_of(m, struct ticket, lend));
        demand(w, x, x->live && x->lent && l->index == x->model->home && m->to == x->loop,
               "a ticket comes back once, from its home to its origin");
        x->lent = false;
        x->model->suspects -= x->deaths > 0;
        if (x->waiting)
            stop_waiting(x);
        trace(w, x, "comes back: %s",
              x->in.ticket.error.status ? x->in.ticket.error.text : "answered");
    } else if (m->kind == MSG_CANCEL) {
        life_of(container_of(m, struct ticket, cancel))->called = true;
    }
}

void demands_on_deliver(struct loop_of *l, struct msg *m)
{
    struct world *w = l->w;
    if (m->kind == MSG_LEND) {
        struct life *x = life_of(container_of(m, struct ticket, lend));
        x->first_us = l->now_us;
        trace(w, x, "reaches its home %u", l->index);
    } else if (m->kind == MSG_CANCEL) {
        struct life *x = life_of(container_of(m, struct ticket, cancel));
        demand(w, x, x->live && x->settled, "only who has settled calls his ticket home");
        x->cancelled = true;
        trace(w, x, "its cancel reaches its home");
    }
}

void demands_queued(struct loop_of *l, struct ticket *t)
{
    struct life *x = life_of(t);
    // Who names a version that few replicas have may wait long, and stands in no book.
    if (t->place != PLACE_QUEUED || x->waiting || x->kind == KIND_VERSION2 ||
        x->kind == KIND_VERSION9)
        return;
    x->waiting = true;
    x->since_us = l->now_us;
    if (x->model->waiting[group_of(x)][t->lane]++ == 0)
        x->model->lane_since[group_of(x)][t->lane] = l->w->now_us;
    trace(l->w, x, "waits in lane %u", t->lane);
}

void demands_called_home(struct loop_of *l, struct ticket *t)
{
    const struct life *x = life_of(t);
    demand(l->w, x, !x->lent || t->place == PLACE_ABOARD,
           "who is called home comes at once, unless it is aboard");
}

// Nobody computes for nobody, and nobody waits for a replica beyond the grace.
void demands_decided(struct loop_of *l, struct model_of *m)
{
    struct world *w = l->w;
    const struct desk *d = m->desk;
    for (const struct batch *b = d->sent; b; b = b->next) {
        bool wanted = false;
        for (uint32_t i = 0; i < b->n; i++)
            wanted |= !life_of(b->tickets[i])->cancelled;
        demand(w, life_of(b->tickets[0]),
               b->state == BATCH_RECALLED || (wanted && l->now_us < b->deadline_us),
               "a call that serves nobody is cancelled");
    }
    for (unsigned i = 0; w->plan.calm && m->no_credit_us < w->now_us && i < BATCHER_GROUPS; i++) {
        const struct group *g = d->batcher.groups[i];
        if (!g || !g->used || g->single || g->oldest->request->version.n > 0)
            continue;
        demand(w, life_of(g->oldest),
               g->rows < batch_cap(m) &&
                   (m->rules.n_preferred == 0 || g->rows < m->rules.preferred[0]),
               "with credit a batch that is large enough goes");
    }
    bool alone = m->alone_since_us > 0 && w->now_us >= m->alone_since_us + m->rules.grace_us +
                                                           (w->now_us - l->now_us) + SIM_EPSILON_US;
    demand(w, NULL, !alone || (d->batcher.count == 0 && !d->again),
           "without a replica nobody waits longer than the grace");
}

// ---- batches -------------------------------------------------------------------------------------------

static void check_members(struct loop_of *l, const struct batch *b, const struct model_of *m)
{
    struct world *w = l->w;
    uint32_t rows = 0;
    bool waited = false;
    for (uint32_t i = 0; i < b->n; i++) {
        struct life *x = life_of(b->tickets[i]);
        const struct life *first = life_of(b->tickets[0]);
        const struct ticket *t = b->tickets[i];
        demand(w, x, x->lent && x->model == m && t->place == PLACE_ABOARD && t->batch == b,
               "who is sent is lent, here and aboard");
        demand(w, x, l->now_us < x->in.deadline_us, "nothing past its deadline is sent");
        demand(w, x, !x->cancelled, "nothing cancelled is sent");
        demand(w, x, x->kind == first->kind, "rows of a batch have an equal key");
        demand(w, x, b->n == 1 || !(goes_alone(x) || x->deaths > 0),
               "who goes alone has no company");
        demand(w, x, x->deaths < 2, "what killed two workers is not sent again");
        rows += x->in.request.rows;
        // Who came back may have been given the seniority of another.
        waited |= l->now_us >= x->first_us + m->rules.max_wait_us || x->sent > 0;
        if (x->waiting && !w->plan.flood && m->desk->suspects == 0) {
            uint64_t since = most(most(x->since_us, m->no_credit_us), m->memory_us + 4000);
            since = most(since, most(l->stalled_until, l->frozen_until));
            demand(w, x, w->now_us <= since + m->rules.max_wait_us + SIM_EPSILON_US,
                   "with credit nobody waits longer than max_wait");
        }
        x->sent++;
        trace(w, x, "is sent to replica %u in a batch of %u tickets, %u rows, reason %s",
              b->replica, b->n, b->rows, batch_reason_name[b->reason]);
    }
    struct life *x = life_of(b->tickets[0]);
    uint32_t cap = batch_cap(m);
    if (w->plan.calm) {
        demand(w, x, b->n == 1 || rows <= cap, "a batch is no larger than it may be");
        demand(w, x, b->reason != BATCH_FULL || rows + SIM_ROWS > cap || !w->plan.flood,
               "a full batch is full");
    }
    demand(w, x, b->rows == rows, "a batch has the rows of its tickets");
    demand(w, x,
           b->reason != BATCH_WAIT || waited || b->halvings > 0 || w->plan.gone > 0 || x->deaths,
           "max_wait is over when a batch goes for it");
    demand(w, x, b->reason != BATCH_IDLE || goes_alone(x) || m->rules.max_wait_us == 0,
           "who has to wait does not go at once");
    demand(w, x, b->reason != BATCH_PREFERRED || rows <= m->rules.preferred[1],
           "a preferred batch has a preferred size");
}

// Who stays behind in a lane has no earlier deadline than who goes, but for what batcher/lane.h says. It
// looks at everybody: one batch in eight is enough.
static void check_order(struct world *w, const struct loop_of *l, const struct batch *b)
{
    if (++w->n_batches % 8 != 0)
        return;
    const struct life *last[BATCHER_LANES] = {NULL};
    for (uint32_t i = 0; i < b->n; i++) {
        const struct life *x = life_of(b->tickets[i]);
        unsigned lane = x->in.ticket.lane;
        if (x->waiting && (!last[lane] || x->in.deadline_us > last[lane]->in.deadline_us))
            last[lane] = x;
    }
    const struct life *first = life_of(b->tickets[0]);
    for (unsigned i = 0; i < w->plan.lives; i++) {
        const struct life *y = &w->lives[i];
        if (!y->live || !y->waiting || y->model != first->model || group_of(y) != group_of(first) ||
            y->in.ticket.place != PLACE_QUEUED)
            continue;
        const struct life *x = last[y->in.ticket.lane];
        if (!x || x->in.deadline_us <= y->in.deadline_us)
            continue;
        uint64_t wrong_us = x->in.deadline_us - y->in.deadline_us;
        demand(w, y, wrong_us < 1000 || 32 * wrong_us < x->in.deadline_us - l->now_us,
               "within a lane the earliest deadline goes first");
    }
}

// Lanes are strict, but none is passed over for ever.
static void check_lanes(struct world *w, const struct batch *b, struct model_of *m)
{
    bool served[KINDS][BATCHER_LANES] = {{false}}, fresh = false;
    for (uint32_t i = 0; i < b->n; i++) {
        struct life *x = life_of(b->tickets[i]);
        if (!x->waiting)
            continue;
        fresh = true;
        served[group_of(x)][x->in.ticket.lane] = true;
        stop_waiting(x);
    }
    for (unsigned k = 0; fresh && k < KINDS; k++) {
        for (unsigned lane = 0; lane < BATCHER_LANES; lane++) {
            if (served[k][lane] || m->waiting[k][lane] == 0) {
                m->passed[k][lane] = 0;
                m->lane_since[k][lane] = w->now_us;
                continue;
            }
            if (w->now_us > m->lane_since[k][lane] + m->rules.max_wait_us)
                m->passed[k][lane]++;
            demand(w, life_of(b->tickets[0]), m->passed[k][lane] <= STARVED,
                   "no lane is passed over beyond its bound");
        }
    }
}

void demands_on_dispatch(struct loop_of *l, struct batch *b)
{
    struct world *w = l->w;
    struct model_of *m = b->desk->user;
    struct life *x = life_of(b->tickets[0]);
    const struct replica_of *r = m->replica;
    demand(w, x, b->n > 0 && m->home == l->index, "a batch leaves from its home");
    while (r < m->replica + m->n_replicas && r->id != b->replica)
        r++;
    demand(w, x, r < m->replica + m->n_replicas && r->told, "a batch goes to a replica that is up");
    demand(w, x, r->in_flight < m->rules.pipeline, "no more batches than the pipeline's credit");
    demand(w, x, m->suspects == 0 || r->in_flight == 0,
           "while somebody is suspected a replica has one batch at a time");
    demand(w, x, !w->plan.calm || m->max_batch == 0 || b->rows <= m->max_batch,
           "a batch has no more rows than its replica takes");
    demand(w, x, x->kind != KIND_VERSION9 && (x->kind != KIND_VERSION2 || r->second),
           "a batch goes to a replica that has the version");
    demand(w, x, l->now_us >= r->paused_until, "a replica that refused is left alone for a while");
    check_members(l, b, m);
    for (uint32_t i = 0; i < b->n; i++)
        life_of(b->tickets[i])->queued_behind = r->in_flight > 0;
    check_order(w, l, b);
    check_lanes(w, b, m);
    m->dispatched_rows += b->rows ? b->rows : 1;
    m->dispatched_us = w->now_us;
    if (w->first_dispatch_us == 0)
        w->first_dispatch_us = w->now_us;
}

void demands_on_end(struct loop_of *l, struct call *c)
{
    static const char *const name[] = {"answered",  "refused",   "lost",    "failed",
                                       "malformed", "misshapen", "recalled"};
    const struct batch *b = c->batch;
    if (c->end == END_ANSWER)
        c->replica->model->answered_rows += b->rows ? b->rows : 1;
    for (uint32_t i = 0; i < b->n; i++) {
        struct life *x = life_of(b->tickets[i]);
        x->model->suspects += c->end == END_LOST && x->deaths == 0;
        x->deaths += c->end == END_LOST;
        x->err_alone |= c->end == END_ERROR && b->n == 1;
        x->bad_answer |= c->end == END_MALFORMED || c->end == END_SHAPE;
        trace(l->w, x, "its batch of %u ends: %s", b->n, name[c->end]);
    }
}

void demands_on_note(struct loop_of *l, const struct note *n)
{
    struct world *w = l->w;
    if (!n->model)
        return;
    struct model_of *m = atomic_load(&n->model->user);
    struct replica_of *r = NULL;
    if (n->kind == NOTE_REPLICA_UP || n->kind == NOTE_REPLICA_DOWN ||
        n->kind == NOTE_REPLICA_DIFFERS) {
        for (r = m->replica; r->id != n->a; r++)
            ;
    }
    switch (n->kind) {
    case NOTE_REPLICA_UP:
        r->told = true;
        m->alone_since_us = 0;
        for (unsigned i = 0; i < m->n_replicas; i++)
            demand(w, NULL, !m->replica[i].told || m->replica[i].generation == r->generation,
                   "replicas that are up agree");
        break;
    case NOTE_REPLICA_DIFFERS: {
        bool other = false;
        for (unsigned i = 0; i < m->n_replicas; i++)
            other |= m->replica[i].told && m->replica[i].generation != r->generation;
        demand(w, NULL, other, "only who differs is kept out");
        world_count(w, FAULT_DIFFERS);
        break;
    }
    case NOTE_REPLICA_DOWN: {
        r->told = false;
        bool any = false;
        for (unsigned i = 0; i < m->n_replicas; i++)
            any |= m->replica[i].told;
        if (!any && m->alone_since_us == 0)
            m->alone_since_us = w->now_us;
        break;
    }
    case NOTE_BATCH:
        m->noted_rows += n->a;
        break;
    case NOTE_DONE:
        m->noted_done += n->a;
        break;
    case NOTE_SHED:
        m->shed++;
        world_count(w, FAULT_ROOM);
        break;
    default:
        break;
    }
}

void demands_credit(struct world *w, struct model_of *m)
{
    uint64_t now_us = w->loop[m->home].now_us, pause_ends = SIM_NEVER;
    // Beside a suspect a replica takes one batch at a time: no promise then.
    for (unsigned i = 0; i < m->n_replicas && m->desk->suspects == 0; i++) {
        const struct replica_of *r = &m->replica[i];
        if (!r->told || r->in_flight >= m->rules.pipeline)
            continue;
        if (now_us >= r->paused_until)
            return;
        pause_ends = r->paused_until < pause_ends ? r->paused_until : pause_ends;
    }
    m->no_credit_us = pause_ends < SIM_NEVER ? most(pause_ends, w->now_us) : w->now_us;
}

// ---- the oracle ----------------------------------------------------------------------------------------

// How long it may take in a world without faults: its loops, its queue, the work before it.
static double slack_needed_us(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    double t = replicas_time_us(m, batch_cap(m) > SIM_ROWS ? batch_cap(m) : SIM_ROWS) * m->tail;
    double queue = peak_since(w, m, x->in.arrived_us);
    double crowd = queue > 2 * t ? BATCHER_PASSES + KINDS : 1; // lanes and groups that go before
    double loops = 2.0 * (double)w->plan.mail_us + 4.0 * (double)w->plan.turn_us + SIM_EPSILON_US;
    return loops + (double)m->rules.max_wait_us + (m->rules.pipeline + KINDS) * t + crowd * queue;
}

static bool in_trouble(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    uint64_t arrived = x->in.arrived_us;
    if (m->trouble_until >= arrived || w->trouble_until >= arrived)
        return true;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        if (m->replica[i].hung_until > arrived || !m->replica[i].told)
            return true;
    }
    // An estimate learnt in another time may refuse, but something is sent once a second to test it.
    uint64_t tested_us = m->dispatched_us + BATCHER_DOUBT_US;
    if (w->plan.shift && tested_us + (uint64_t)slack_needed_us(w, x) > arrived)
        return true;
    return m->desk == NULL;
}

// There was credit all the time, and it was known how long it takes: max_wait is no reason to miss it.
static bool had_its_chance(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    if (!w->plan.calm || w->plan.shift || x->first_us == 0 || x->queued_behind || !m->desk ||
        x->kind == KIND_VERSION2 || x->kind == KIND_VERSION9 || in_trouble(w, x))
        return false;
    double needed = 2 * replicas_time_us(m, batch_cap(m)) + 4.0 * (double)w->plan.turn_us +
                    (double)w->plan.mail_us + SIM_EPSILON_US;
    return m->no_credit_us < x->first_us && estimate_trusted(&m->desk->batcher.estimate) &&
           (double)x->in.deadline_us > (double)x->first_us + needed;
}

static void check_answer(const struct world *w, const struct life *x)
{
    const struct slice *s = &x->in.ticket.slice;
    struct tensor t = slice_output(s, 0);
    uint32_t rows = rows_of(x);
    demand(w, x, s->rows == 0 || s->rows == x->in.request.rows, "an answer has the rows asked for");
    demand(w, x, t.bytes == rows * sizeof(uint64_t), "an answer has the rows asked for");
    const uint64_t *out = (const uint64_t *)t.data;
    for (uint32_t i = 0; i < rows; i++)
        demand(w, x, out[i] == replicas_answer_of(x->id << 8 | i),
               "an answer is a function of its own rows");
    const struct ticket *of = &x->in.ticket;
    demand(w, x, of->batch_rows >= rows && of->batch_reason < BATCH_REASONS,
           "an answer says who shared its batch");
    demand(w, x,
           w->plan.loop_fault > 0 || of->queue_us + of->compute_us <= w->now_us - x->in.arrived_us,
           "an answer says where its time went");
    demand(w, x, of->compute_us > 0 || w->plan.loop_fault > 0, "computing takes time");
}

static void check_unavailable(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    const char *text = x->in.error.text;
    demand(w, x, x->in.retry_after_s == 1, "503 says when to come back");
    if (strstr(text, "queue is full")) {
        int64_t rows = m->rows_out + rows_of(x);
        int64_t bytes = m->bytes_out + (int64_t)x->in.request.bytes;
        demand(w, x,
               rows > (int64_t)atomic_load(&m->m->queue_limit) ||
                   (m->rules.queue_bytes && bytes > (int64_t)m->rules.queue_bytes),
               "who is refused for room found none");
    } else if (strstr(text, "out of memory")) {
        demand(w, x, m->memory_us >= x->in.arrived_us, "memory was out when it is said so");
    } else {
        demand(w, x, in_trouble(w, x), "a replica was not ready when it is said so");
    }
}

static void check_error(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    switch (x->in.error.status) {
    case STATUS_NOT_FOUND:
        demand(w, x,
               !x->in.ticket.model || x->kind == KIND_VERSION9 ||
                   (x->kind == KIND_VERSION2 && in_trouble(w, x)),
               "404 only for what is not there");
        break;
    case STATUS_DEADLINE:
        demand(w, x,
               x->kind == KIND_VERSION9 || in_trouble(w, x) ||
                   (double)(x->in.deadline_us - x->in.arrived_us) < slack_needed_us(w, x),
               "what could be answered in time was answered");
        demand(w, x, !had_its_chance(w, x), "with credit nobody waits until it is too late");
        break;
    case STATUS_UNAVAILABLE:
        check_unavailable(w, x);
        break;
    case STATUS_BAD_REQUEST:
        demand(w, x, x->in.request.rows > atomic_load(&m->m->max_batch),
               "400 only for more rows than a replica takes");
        break;
    case STATUS_INTERNAL:
        demand(w, x, x->guilty || x->err_alone, "only the guilty row fails");
        break;
    case STATUS_BAD_ANSWER:
        demand(w, x, x->bad_answer, "502 only for a bad answer");
        break;
    case STATUS_POISON:
        demand(w, x, x->deaths >= 2, "poison is what killed two workers");
        break;
    case STATUS_CLIENT_GONE:
        demand(w, x, w->plan.gone > 0, "only clients go away");
        break;
    default:
        demand(w, x, false, "an infer ends in a way that is known");
    }
}

void demands_on_settle(struct loop_of *l, struct life *x)
{
    struct world *w = l->w;
    enum status status = x->in.error.status;
    demand(w, x, x->live && !x->settled, "an infer settles once");
    demand(w, x, l->index == x->loop, "an infer settles at its origin");
    demand(w, x, !x->in.ticket_out || x->called, "who settles without his ticket calls it home");
    x->settled = true;
    trace(w, x, "settles: %s", status == STATUS_OK ? "answered" : x->in.error.text);
    uint64_t latest = most(x->in.deadline_us, most(l->stalled_until, l->frozen_until));
    demand(w, x, !x->in.ticket.model || w->now_us <= latest + SIM_EPSILON_US,
           "an infer settles by its deadline");
    if (status == STATUS_OK)
        check_answer(w, x);
    else
        check_error(w, x);
    w->totals.settled[status]++;
    w->totals.lives++;
    uint64_t word[3] = {x->id << 8 | status, w->now_us, status ? 0 : x->in.ticket.batch_rows};
    w->digest = hash64(view_of(word, sizeof(word)), w->digest);
}

// ---- after the world has healed ------------------------------------------------------------------------

static void check_model(struct world *w, struct model_of *m)
{
    const struct desk *d = m->desk;
    if (!m->m)
        return;
    demand(w, NULL,
           atomic_load(&m->m->room_rows) == 0 && atomic_load(&m->m->room_bytes) == 0 &&
               m->rows_out == 0,
           "all room was given back");
    if (!d)
        return;
    demand(w, NULL, d->batcher.count == 0 && d->batcher.rows == 0 && d->batcher.bytes == 0,
           "the queue is empty");
    demand(w, NULL, !d->sent && !d->again && d->n_again == 0 && d->running_rows == 0,
           "nothing is out");
    demand(w, NULL, d->suspects == 0, "nobody is suspected any more");
    demand(w, NULL, atomic_load(&m->m->waiting) == 0 && atomic_load(&m->m->running) == 0,
           "what is published agrees");
    demand(w, NULL, m->noted_rows == m->dispatched_rows, "every row that was sent was counted");
    demand(w, NULL, m->noted_done == m->answered_rows, "every row that was answered was counted");
    for (unsigned i = 0; i < d->n_replicas; i++)
        demand(w, NULL, d->replica[i].batches == 0 && d->replica[i].rows == 0,
               "every replica has its credit back");
    for (unsigned i = 0; i < m->n_replicas; i++)
        demand(w, NULL, m->replica[i].told && !m->replica[i].calls, "every replica is up again");
}

// Full batches, one after the other, on every replica: within 5 % of that, and a start and an end.
static void check_flood(struct world *w, const struct model_of *m)
{
    uint32_t cap = batch_cap(m);
    double t = replicas_time_us(m, cap);
    double ideal = w->plan.lives / (double)cap * t / m->n_replicas;
    double took = (double)(w->last_answer_us - w->first_dispatch_us);
    demand(w, NULL, took <= ideal / 0.95 + 3 * t + 2000, "a flood is served as fast as can be");
    demand(w, NULL, w->totals.settled[STATUS_OK] == w->plan.lives, "a flood is served whole");
}

void demands_at_rest(struct world *w)
{
    demand(w, NULL, w->alive == 0 && w->totals.lives == w->plan.lives, "all lives are over");
    for (unsigned i = 0; i < w->plan.loops; i++) {
        struct loop_of *l = &w->loop[i];
        demand(w, NULL, l->flow.n_live == 0 && l->flow.n_zombies == 0 && l->flow.wheel.count == 0,
               "every flow is empty");
        for (unsigned k = 0; k < w->plan.loops; k++)
            demand(w, NULL, l->in[k].n == 0, "every mailbox is empty");
    }
    for (unsigned i = 0; i < w->plan.models; i++)
        check_model(w, &w->model[i]);
    uint64_t shed = 0;
    for (unsigned i = 0; i < w->plan.models; i++)
        shed += w->model[i].shed;
    demand(w, NULL, shed == w->totals.faults[FAULT_ROOM], "every refusal was counted");
    if (w->plan.flood)
        check_flood(w, &w->model[0]);
}
