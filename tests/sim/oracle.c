#include "tests/sim/sim.h"

#include "router/retry.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// Who has no more left when the store has said that it has nothing, had too little.
#define STORE_SLACK_US 100000

double demands_batch_us(const struct model_of *m)
{
    double slower = m->ranked && m->lesser_times > 1 ? m->lesser_times : 1;
    return calls_time_us(m, batch_cap(m) > SIM_ROWS ? batch_cap(m) : SIM_ROWS) * m->tail * slower;
}

static bool neighbours(const struct model_of *a, const struct model_of *b)
{
    for (unsigned i = 0; i < a->n_replicas; i++) {
        if (replica_by_id((struct model_of *)b, a->replica[i].worker->id))
            return true;
    }
    return false;
}

// How long it may take in a world without faults: its loops, its queue, the work before it, and what its
// neighbours may have at the same workers.
static double slack_needed_us(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    double t = demands_batch_us(m), device = 0;
    double queue = peak_since(w, m, x->in.arrived_us);
    double crowd = queue > 2 * t ? BATCHER_PASSES + KINDS : 1; // lanes and groups that go before
    double loops = 2.0 * (double)w->plan.mail_us + 4.0 * (double)w->plan.turn_us + SIM_EPSILON_US;
    for (unsigned i = 0; w->plan.shared && i < w->plan.models; i++) {
        const struct model_of *other = &w->model[i];
        if (other != m && neighbours(m, other))
            device += other->rules.pipeline * demands_batch_us(other);
    }
    double passes =
        device > 0 ? 1 + (crowd * queue) / t : 0; // each of our batches may wait for theirs
    return loops + (double)m->rules.max_wait_us + (m->rules.pipeline + KINDS) * (t + device) +
           crowd * queue + passes * device;
}

static bool worker_excused(const struct worker_of *k, uint64_t since_us)
{
    return k->process != PROCESS_RUNS || k->stopping || k->excuse.until_us >= since_us;
}

static bool worker_well(const struct worker_of *k, uint64_t since_us)
{
    return !worker_excused(k, since_us) && k->since_us < since_us;
}

// Is there one that had no fault while x was under way, and that its desk counted on?
static bool sibling_stood(const struct life *x)
{
    const struct model_of *m = x->model;
    for (unsigned i = 0; i < m->n_replicas; i++) {
        const struct replica_of *r = &m->replica[i];
        if (replica_used(r) && r->unused_us < x->in.arrived_us &&
            worker_well(r->worker, x->in.arrived_us) && (x->kind != KIND_VERSION2 || r->second))
            return true;
    }
    return false;
}

// Did a worker's fault meet this very request?
static bool was_met(const struct life *x)
{
    const struct replica_of *r = replica_by_id(x->model, x->aboard_of);
    return x->losses + x->ours + x->failures + x->refusals + x->no_rooms > 0 || x->followed ||
           x->asked_until_us + STORE_SLACK_US > x->in.deadline_us ||
           (r && !worker_well(r->worker, x->in.arrived_us));
}

// Which fault may be why it was not answered in time; FAULTS: none.
static enum fault excuse_of(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    uint64_t arrived = x->in.arrived_us;
    if (w->trouble_until >= arrived)
        return FAULT_STALL;
    if (m->excuse.until_us >= arrived)
        return m->excuse.fault;
    if (m->suspects > 0)
        return FAULT_CRASH; // they go one by one
    bool named = w->plan.calm || was_met(x) ||
                 !sibling_stood(x); // else a worker's fault is no excuse for it
    for (unsigned i = 0; named && i < m->n_replicas; i++) {
        const struct replica_of *r = &m->replica[i];
        if (worker_excused(r->worker, arrived))
            return r->worker->excuse.fault;
        if (!replica_used(r))
            return FAULT_UNLOAD;
    }
    // An estimate learnt in another time may refuse, but something is sent to test it when for a second it has met
    // no answer. A quick batch that went behind a slow one is an answer too, and late.
    uint64_t tested_us = m->met_us + BATCHER_DOUBT_US;
    if ((w->plan.shift || m->mistaught) && tested_us + (uint64_t)slack_needed_us(w, x) > arrived)
        return FAULT_SLOW;
    return m->desk ? FAULTS : FAULT_BORN;
}

static bool in_trouble(const struct world *w, const struct life *x)
{
    enum fault f = excuse_of(w, x);
    if (f < FAULTS)
        trace(w, x, "is excused by %s", fault_name[f]);
    return f < FAULTS;
}

// There was credit all the time, and it was known how long it takes: max_wait is no reason to miss it. Who was refused
// on arrival has not waited.
static bool had_its_chance(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    if (!w->plan.calm || w->plan.rolling || w->plan.shared || w->plan.shift || x->first_us == 0 ||
        x->queued_behind || x->in.retry_after_ms > 0 || !m->desk || x->kind == KIND_VERSION2 ||
        x->kind == KIND_VERSION9 || in_trouble(w, x))
        return false;
    double needed = 2 * demands_batch_us(m) / m->tail + 4.0 * (double)w->plan.turn_us +
                    (double)w->plan.mail_us + SIM_EPSILON_US;
    return m->no_credit_us < x->first_us &&
           m->desk->batcher.estimate.seen > 4 * ESTIMATE_MIN_SEEN &&
           (double)x->in.deadline_us > (double)x->first_us + needed;
}

// first: of its rows, in the whole request.
static void check_rows(const struct world *w, const struct life *x, uint32_t first)
{
    const struct slice *s = &x->ticket->slice;
    const struct model_of *m = x->model;
    struct tensor t = slice_output(s, 0);
    uint32_t rows = rows_of(x);
    demand(w, x, s->rows == 0 || s->rows == x->in.request.rows, "an answer has the rows asked for");
    demand(w, x, t.bytes == rows * sizeof(uint64_t), "an answer has the rows asked for");
    struct view version = s->answer->version;
    demand(w, x,
           version.n == 1 &&
               (x->in.step.to.version.n == 0 || view_eq(version, x->in.step.to.version)),
           "an answer is of the version that was asked for");
    for (uint32_t i = 0; i < rows; i++)
        demand(w, x,
               load_u64(t.data + i * sizeof(uint64_t)) ==
                   calls_answer_of(x->asks << 8 | (first + i)) + (uint64_t)(version.p[0] - '0'),
               "an answer is a function of its own rows");
    const struct ticket *of = x->ticket;
    if (of->source != SOURCE_MODEL || x->followed)
        return; // it was in no batch itself
    demand(w, x, of->batch_rows >= (m->max_batch ? rows : 1) && of->batch_reason < BATCH_REASONS,
           "an answer says who shared its batch");
    demand(w, x,
           w->plan.loop_fault > 0 || of->queue_us + of->compute_us <= w->now_us - x->in.arrived_us,
           "an answer says where its time went");
    demand(w, x, of->compute_us > 0 || w->plan.loop_fault > 0, "computing takes time");
    demand(w, x, of->replica == x->aboard_of && of->sent == least_us(x->sent, UINT8_MAX),
           "an answer says who gave it, and how often it was sent");
}

// The parts of the step that answered, from the i-th on.
static struct life *answering(struct life *x, unsigned i)
{
    const struct stride *s = x->strides;
    if (!x->in.walk)
        return life_part(x, i);
    return s && s->of == x->in.at && i < s->n ? &s->parts[i] : NULL;
}

static void check_written(const struct world *w, const struct life *x)
{
    struct tensor t = slice_output(x->in.answer, 0);
    bool single = atomic_load(&x->in.step.to.model->single);
    demand(w, x, t.bytes == (single ? 1 : rows_of(x)) * sizeof(uint64_t),
           "the written answer is given by the row");
}

static void check_answer(const struct world *w, struct life *x)
{
    struct life *p;
    uint32_t row = 0;
    const struct slice *s = x->in.answer;
    if (x->in.source == SOURCE_DEFAULT) {
        check_written(w, x);
        return;
    }
    for (unsigned i = 0; (p = answering(x, i)) != NULL; i++, s = s->next) {
        demand(w, x, s == &p->ticket->slice,
               "the parts of an answer are in the order of their rows");
        check_rows(w, p, row);
        row += rows_of(p);
    }
    demand(w, x, !s && row == rows_of(x), "an answer has all of the rows");
}

// The one of these parts which ended so, or had not come home.
static struct life *guilty_part(struct life *parts, unsigned n, const struct failure *why)
{
    struct life *out = NULL;
    for (unsigned i = 0; i < n; i++) {
        struct life *p = &parts[i];
        bool home = !p->ticket->lent;
        if (home && p->ticket->error.status == why->status && p->ticket->error.text == why->text)
            return p;
        if (home && p->ticket->error.status == why->status)
            out = p;
        else if ((!home || p->called) && !out)
            out = p;
    }
    return out;
}

// Who has to answer for how x ended: x, or a part of it.
static struct life *culprit(struct life *x)
{
    struct life *out = x->parts ? guilty_part(x->parts, x->in.step.n, &x->in.error) : NULL;
    if (!out)
        return x;
    out->in.error = x->in.error;
    out->in.retry_after_ms = x->in.retry_after_ms;
    return out;
}

static bool was_called(struct life *x)
{
    struct life *p;
    bool called = true;
    for (unsigned i = 0; (p = life_part(x, i)) != NULL; i++)
        called &= p->called || !p->ticket->lent;
    return called;
}

// Was its model without a replica that could be used?
static bool was_alone(const struct life *x)
{
    return x->model->alone_since_us > 0 || x->model->alone_us >= x->in.arrived_us;
}

// When to come again, within bounds.
static bool says_when(const struct life *x)
{
    return x->in.retry_after_ms > 0 && x->in.retry_after_ms <= RETRY_MOST_US / 1000 * 3 / 2;
}

static void check_unavailable(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    const char *text = x->in.error.text;
    demand(w, x, says_when(x), "503 says when to come back");
    if (strstr(text, "kept for higher")) {
        static const uint8_t sixteenths[BATCHER_LANES] = {16, 15, 12, 8};
        uint64_t limit = atomic_load(&m->m->queue_limit);
        demand(w, x,
               16 * (uint64_t)m->rows_out >=
                   limit * sixteenths[batcher_lane_of(x->in.request.priority)],
               "who gives way to higher priorities has none of the room that is his");
    } else if (strstr(text, "queue is full")) {
        int64_t rows = m->rows_out + rows_of(x);
        int64_t bytes = m->bytes_out + (int64_t)x->in.request.bytes;
        demand(w, x,
               rows > (int64_t)atomic_load(&m->m->queue_limit) ||
                   (m->rules.queue_bytes && bytes > (int64_t)m->rules.queue_bytes),
               "who is refused for room found none");
    } else if (strstr(text, "no room")) {
        demand(w, x, x->no_room_alone || m->memory_us >= x->in.arrived_us,
               "who is told of no room had none alone");
    } else if (strstr(text, "an operator has set")) {
        demand(w, x, m->shut || m->shut_us >= x->in.arrived_us,
               "only a model that is set to level 4 refuses as one");
    } else if (strstr(text, "out of memory")) {
        demand(w, x, m->memory_us >= x->in.arrived_us, "memory was out when it is said so");
    } else {
        demand(w, x, was_alone(x) || x->refusals > 0,
               "no replica was ready, or one refused it, when it is said so");
    }
}

// Those that have asked for room lately, and others have not forgotten; a clock may have stood still meanwhile.
static unsigned rivals(const struct world *w, const struct model_of *m)
{
    unsigned n = 0;
    uint64_t since_us = w->now_us - 5 * TENANTS_PANE_US;
    bool all = w->trouble_until >= since_us;
    for (unsigned i = 1; i <= w->plan.tenants; i++)
        n += all || m->asked_us[i] >= since_us;
    return n;
}

// Who is refused for what his tenant has: there are others, and it has at least an equal part of the room that is of use
// whatever the time.
static void check_quota(const struct world *w, const struct life *x)
{
    static const uint8_t quarters[POLICY_LANES] = {4, 3, 2, 1};
    const struct model_of *m = x->model;
    unsigned n = rivals(w, m);
    uint64_t room = least_us(atomic_load(&m->m->queue_limit),
                             TENANT_BATCHES * most_us(1, atomic_load(&m->m->max_batch)));
    uint64_t part = n > 0 ? room / n * quarters[batcher_lane_of(x->in.request.priority)] / 4 : 0;
    demand(w, x, w->plan.tenants > 1 && n > 1, "who is alone has all of the room");
    demand(w, x, says_when(x), "429 says when to come back");
    demand(w, x, x->in.tenant > 0 && m->rows_of[x->in.tenant] >= (int64_t)part,
           "no tenant is refused for others before it has an equal part");
}

// An end that a client has brought upon itself: nothing is wrong with the workers.
static bool is_own(const struct life *x)
{
    enum status s = x->in.error.status;
    return was_alone(x) || s == STATUS_DEADLINE || s == STATUS_CLIENT_GONE ||
           s == STATUS_NOT_FOUND || s == STATUS_BAD_REQUEST || s == STATUS_TOO_LARGE ||
           s == STATUS_QUOTA || strstr(x->in.error.text, "queue is full") ||
           strstr(x->in.error.text, "kept for higher");
}

static void check_error(const struct world *w, const struct life *x)
{
    const struct model_of *m = x->model;
    if (strstr(x->in.error.text, "not cached")) {
        demand(w, x, x->ticket->cache == CACHE_ONLY_STALE,
               "only who wants nothing else is told that it is not there");
        return;
    }
    demand(w, x,
           !w->plan.rolling || x->kind == KIND_VERSION9 || x->in.error.status == STATUS_BAD_REQUEST,
           "nothing is lost while a sibling stands");
    demand(w, x, !w->plan.hurried || is_own(x), "haste of one model ends no request of another");
    switch (x->in.error.status) {
    case STATUS_NOT_FOUND:
        demand(w, x, x->in.step.to.model || !late_unheard(w, x),
               "nobody is told that a model is not there while a worker may yet tell of it");
        demand(w, x,
               !x->in.step.to.model || x->kind == KIND_VERSION9 ||
                   (x->kind == KIND_VERSION2 &&
                    (!demands_second(m) || m->second_us >= x->in.arrived_us)),
               "404 only for what is not there");
        break;
    case STATUS_DEADLINE:
        demand(w, x,
               x->kind == KIND_VERSION9 || in_trouble(w, x) ||
                   (double)x->in.deadline_us - (double)most_us(x->in.arrived_us, x->let_us) <
                       slack_needed_us(w, x),
               "what could be answered in time was answered");
        demand(w, x, says_when(x) == (strstr(x->in.error.text, "more waits before") != NULL),
               "who is refused early is told when to come back");
        demand(w, x, !had_its_chance(w, x), "with credit nobody waits until it is too late");
        break;
    case STATUS_UNAVAILABLE:
        check_unavailable(w, x);
        break;
    case STATUS_QUOTA:
        check_quota(w, x);
        break;
    case STATUS_BAD_REQUEST:
        demand(w, x,
               x->err_alone || (x->followed && x->guilty) ||
                   (x->in.request.sequence && x->in.request.rows > atomic_load(&m->m->max_batch)),
               "400 only for more rows than go alone, or as a worker says");
        break;
    case STATUS_TOO_LARGE:
        demand(w, x, x->in.request.rows > atomic_load(&m->m->queue_limit),
               "413 only for more rows than may wait");
        break;
    case STATUS_INTERNAL:
        demand(w, x, x->guilty || x->err_alone, "only the guilty row fails");
        break;
    case STATUS_BAD_ANSWER:
        demand(w, x, x->bad_answer, "502 only for a bad answer");
        break;
    case STATUS_WORKER_LOST:
        demand(w, x, x->losses >= 3 || (x->in.request.sequence_id > 0 && m->downs > 0),
               "three connections were lost with it, or its sequence");
        break;
    case STATUS_POISON:
        demand(w, x, x->followed || demands_evidence(w, x) >= 2,
               "poison is what two workers died of");
        demand(w, x, x->followed || x->loss[x->losses - 1].alone,
               "and at the last one it was alone");
        demand(w, x, x->poison || !w->plan.killers, "and where nothing else kills it was it");
        break;
    case STATUS_CLIENT_GONE:
        demand(w, x, w->plan.gone > 0, "only clients go away");
        break;
    default:
        demand(w, x, false, "an infer ends in a way that is known");
    }
}

// The text is there while it is told, and is that of the worker that said something of it last.
static void check_text(const struct world *w, struct life *x)
{
    const char *number = strstr(x->in.error.text, CALLS_NUMBER);
    snprintf(x->told, sizeof(x->told), "%s", x->in.error.text);
    demand(w, x,
           !number || x->followed || strtoull(number + strlen(CALLS_NUMBER), NULL, 10) == x->words,
           "a failure is told in the words that were said of it");
}

// ---- along a chain -----------------------------------------------------------------------------------

static const struct model_of *model_of_link(const struct world *w, const struct life *x, unsigned i)
{
    for (unsigned k = 0; k < w->plan.models; k++)
        if (view_is(x->in.chain->links[i].name, w->model[k].name))
            return &w->model[k];
    abort();
}

// Who was passed over could not have answered, as far as one can know without asking.
static void check_passed(const struct world *w, const struct life *x, const struct attempt *a)
{
    const struct model_of *m = model_of_link(w, x, a->link);
    switch (a->passed) {
    case PASSED_UNKNOWN:
        demand(w, x, !m->configured, "a model that is configured is known");
        break;
    case PASSED_NOT_READY:
        demand(w, x, !m->desk || m->alone_since_us > 0 || m->alone_us >= x->in.arrived_us,
               "no replica was ready where it is said so");
        break;
    case PASSED_POISON:
        demand(w, x, x->in.walk->poisonous, "only what workers died of is kept from models");
        break;
    case PASSED_SHARE:
        demand(w, x, !w->plan.calm || w->plan.load > 0.5 || w->plan.burst > 0,
               "a model that has little to do carries all of it");
        break;
    default:
        demand(w, x, a->passed == PASSED_LATE, "who is passed over is so for a reason");
    }
}

static struct stride *stride_of(const struct life *x, unsigned attempt)
{
    for (struct stride *s = x->strides; s; s = s->next)
        if (s->attempt == attempt)
            return s;
    return NULL;
}

// A step that failed had a reason to, as any request; within its own time.
static void check_step(const struct world *w, struct life *x, const struct attempt *a,
                       struct stride *s)
{
    enum status status = a->why.status;
    struct life *p = s ? guilty_part(s->parts, s->n, &a->why) : NULL;
    if (!p) { // it could not even be asked
        demand(w, x,
               !s && (status == STATUS_UNAVAILABLE || status == STATUS_BAD_REQUEST ||
                      status == STATUS_TOO_LARGE || status == STATUS_QUOTA),
               "a step that was not asked had no room");
        return;
    }
    p->in.error = a->why;
    bool told =
        !p->ticket->lent && p->ticket->error.text == a->why.text; // else it was given up before
    p->in.retry_after_ms = status == STATUS_UNAVAILABLE || (told && p->ticket->room_in_us > 0);
    check_text(w, p);
    check_error(w, p);
}

// What is kept was not there, or was not asked for at all.
static void check_kept_step(const struct world *w, const struct life *x, const struct attempt *a,
                            const struct stride *s)
{
    enum status status = a->why.status;
    demand(w, x,
           status == STATUS_UNAVAILABLE || status == STATUS_DEADLINE ||
               status == STATUS_BAD_REQUEST || status == STATUS_TOO_LARGE,
           "a step that asks nobody fails since nothing is there, or for want of time");
    for (unsigned i = 0; s && i < s->n; i++)
        demand(w, &s->parts[i], s->parts[i].ticket->cache == CACHE_ONLY_STALE,
               "a step that asks for what is kept asks for nothing else");
}

static void check_walk(const struct world *w, struct life *x)
{
    const struct chain_walk *walk = x->in.walk;
    uint32_t seen = 0;
    uint64_t at_us = x->in.walk->n > 0 ? walk->attempt[0].began_us : 0;
    for (unsigned k = 0; k < walk->n; k++) {
        const struct attempt *a = &walk->attempt[k];
        bool model = x->in.chain->links[a->link].kind == LINK_MODEL;
        bool kept = x->in.chain->links[a->link].kind == LINK_CACHED;
        demand(w, x, a->began_us == at_us, "the next step leaves at once");
        demand(w, x, !a->out, "who has settled knows what came of each step");
        at_us += a->took_us;
        seen |= 1u << a->link;
        if (a->passed)
            check_passed(w, x, a);
        else if (model && a->why.status != STATUS_OK && a->why.status != STATUS_CLIENT_GONE)
            check_step(w, x, a, stride_of(x, k));
        else if (kept && a->why.status != STATUS_OK && a->why.status != STATUS_CLIENT_GONE)
            check_kept_step(w, x, a, stride_of(x, k));
    }
    bool all = seen == (1u << x->in.chain->n) - 1;
    bool last = walk->n > 0 && walk->attempt[walk->n - 1].why.status == x->in.error.status;
    demand(w, x, x->in.error.status != STATUS_UNAVAILABLE || (all && says_when(x)),
           "503 only when nothing of the chain is left");
    demand(w, x,
           x->in.error.status != STATUS_DEADLINE || all ||
               w->now_us + SIM_EPSILON_US >= x->in.deadline_us,
           "504 only when nothing is left, or no time");
    demand(w, x,
           all || last || x->in.error.status == STATUS_OK ||
               x->in.error.status == STATUS_DEADLINE || x->in.error.status == STATUS_POISON ||
               x->in.error.status == STATUS_CLIENT_GONE,
           "what is left of a chain is tried");
}

static void count_source(struct world *w, const struct life *x)
{
    w->totals.defaults += x->in.source == SOURCE_DEFAULT;
    w->totals.fallbacks +=
        x->in.source == SOURCE_MODEL && x->in.at->to.model != x->in.step.to.model;
}

void demands_on_settle(struct loop_of *l, struct life *x)
{
    struct world *w = l->w;
    enum status status = x->in.error.status;
    demand(w, x, x->live && !x->settled, "an infer settles once");
    demand(w, x, l->index == x->loop, "an infer settles at its origin");
    demand(w, x, was_called(x), "who settles without his ticket calls it home");
    x->settled = true;
    if (status != STATUS_OK && !x->in.walk)
        check_text(w, culprit(x));
    trace(w, x, "settles: %s", status == STATUS_OK ? "answered" : x->in.error.text);
    uint64_t latest = most_us(x->in.deadline_us, most_us(l->stalled_until, l->frozen_until));
    latest = most_us(latest,
                     x->let_us); // who waited for its model to be known did not know its deadline
    demand(w, x, !x->in.step.to.model || w->now_us <= latest + SIM_EPSILON_US,
           "an infer settles by its deadline");
    trials_settled(w, x);
    if (x->in.walk)
        check_walk(w, x);
    if (status == STATUS_OK)
        check_answer(w, x);
    else if (!x->in.walk)
        check_error(w, culprit(x));
    if (status == STATUS_OK)
        count_source(w, x);
    w->totals.settled[status]++;
    if (status == STATUS_OK)
        w->totals.sources[x->in.source]++;
    w->totals.followers += x->followed;
    w->totals.lives++;
    uint64_t word[3] = {x->id << 8 | status, w->now_us, status ? 0 : x->in.at->batch_rows};
    w->digest = hash64(view_of(word, sizeof(word)), w->digest);
}
