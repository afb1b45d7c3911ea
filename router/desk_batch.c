#include "router/desk_inner.h"

#include "base/check.h"
#include "base/mem.h"
#include "router/preference.h"

static const char refused_text[] = "the workers take no more at the moment";

// ---- a batch's life ----------------------------------------------------------------------------------

struct batch *batch_new(struct desk *d, uint32_t cap)
{
    struct batch *b = d->spare;
    if (b)
        d->spare = b->next;
    else if ((b = mem_zalloc(sizeof(*b))) != NULL)
        arena_init(&b->arena, 0);
    else
        return NULL;
    if (b->cap < cap) {
        struct ticket **grown = mem_alloc(cap * sizeof(*grown));
        if (!grown) {
            b->next = d->spare;
            d->spare = b;
            return NULL;
        }
        mem_free(b->tickets);
        b->tickets = grown;
        b->cap = cap;
    }
    b->desk = d;
    b->model = d->model;
    b->n = b->rows = b->cancelled = 0;
    b->halvings = 0;
    b->shadow = false;
    b->shown = false;
    b->rank = 0;
    b->failed_at = REPLICA_NONE;
    b->call = NULL;
    return b;
}

void batch_free(struct desk *d, struct batch *b)
{
    arena_reset(&b->arena);
    b->next = d->spare;
    d->spare = b;
}

void batch_join(struct batch *b, struct ticket *t)
{
    t->place = PLACE_ABOARD;
    t->batch = b;
    b->tickets[b->n++] = t;
}

void batch_wait(struct desk *d, struct batch *b)
{
    b->state = BATCH_AGAIN;
    b->rank = 0;
    b->next = NULL;
    *d->again_last = b;
    d->again_last = &b->next;
    d->n_again++;
}

bool batch_prune(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    uint32_t kept = 0;
    b->rows = 0;
    b->deadline_us = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct ticket *t = b->tickets[i];
        if (t->cancelled) {
            ticket_failed(d, t, FAILED(STATUS_CLIENT_GONE, "cancelled"), fx);
        } else if (now_us >= t->deadline_us) {
            ticket_expired(d, t, fx);
        } else if (t->alone &&
                   b->n > 1) { // since it came aboard: what ends with it must say nothing of others
            ticket_requeued(d, t, now_us, fx);
        } else {
            b->tickets[kept++] = t;
            b->rows += d->replicas.max_batch > 0 ? t->request->rows : 0; // else it is one request
            b->deadline_us = t->wanted_us > b->deadline_us ? t->wanted_us : b->deadline_us;
        }
    }
    b->n = kept;
    b->cancelled = 0;
    return kept > 0;
}

// One of a server at a time is let end to learn from: for as long again as it has, and as nobody would call its worker
// silent.
static uint64_t until_us(const struct desk *d, const struct batch *b, uint64_t now_us)
{
    uint64_t has_us = b->deadline_us - now_us;
    if (!batcher_curious(&d->batcher))
        return b->deadline_us;
    for (const struct batch *o = d->sent; o; o = o->next) {
        if (o->replica == b->replica && o->server == b->server && o->until_us > o->deadline_us)
            return b->deadline_us;
    }
    return b->deadline_us + (has_us > REPLICA_SILENT_US ? has_us : REPLICA_SILENT_US);
}

void batch_send(struct desk *d, struct batch *b, struct replica *r, uint64_t now_us,
                struct effects *fx)
{
    uint32_t rows = b->rows ? b->rows : 1;
    d->overdue_us = desk_least(d->overdue_us, b->deadline_us);
    b->state = BATCH_SENT;
    replicas_sent(&d->replicas, r, b, now_us, fx);
    b->until_us = until_us(d, b, now_us);
    d->outlook_stale = true;
    d->running_rows += rows;
    b->next = d->sent;
    b->prev = &d->sent;
    if (d->sent)
        d->sent->prev = &b->next;
    d->sent = b;
    for (uint32_t i = 0; i < b->n; i++)
        ticket_sent(b->tickets[i], b->replica, now_us);
    effects_add(fx, FX_DISPATCH)->batch = b;
    fx_note(fx, NOTE_BATCH, d->model, rows, b->reason);
}

// The call has ended: the batch is ours alone again.
static void batch_unsent(struct desk *d, struct batch *b)
{
    invariant(b->state == BATCH_SENT || b->state == BATCH_RECALLED);
    if (b->next)
        b->next->prev = b->prev;
    *b->prev = b->next;
    if (!d->sent)
        d->overdue_us = UINT64_MAX;
    d->running_rows -= b->rows ? b->rows : 1;
    d->shadow_sent &= !b->shadow;
    d->outlook_stale = true;
}

void batch_recall(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    if (b->state != BATCH_SENT)
        return;
    b->state = BATCH_RECALLED;
    b->recalled_us = now_us;
    if (!b->shadow)
        standing_cut(d, now_us - b->sent_us, now_us);
    d->overdue_us = desk_least(d->overdue_us, now_us + REPLICA_FAIR_US);
    effects_add(fx, FX_CANCEL)->batch = b;
}

void batch_fail(struct desk *d, struct batch *b, const struct failure *why, struct effects *fx)
{
    for (uint32_t i = 0; i < b->n; i++)
        ticket_failed(d, b->tickets[i], why, fx);
}

// ---- what its end says -------------------------------------------------------------------------------

static struct view version_of(const struct batch *b)
{
    return b->tickets[0]->to.version;
}

static const struct worker_vitals *vitals_at(struct desk *d, const struct batch *b)
{
    const struct replica *r = replicas_find(&d->replicas, b->replica);
    return r->facts.vitals ? r->facts.vitals : &r->own;
}

static struct evidence evidence_of(struct desk *d, const struct batch *b,
                                   const struct batch_end *end, uint64_t now_us)
{
    const struct replica *r = replicas_find(&d->replicas, b->replica);
    return (struct evidence){
        .seen = end->seen,
        .status = end->error ? end->error->status : STATUS_OK,
        .ours = end->ours,
        .local = b->incarnation > 0,
        .only = vitals_only(vitals_at(d, b), b->number),
        .company = b->n > 1 &&
                   b->halvings<DESK_HALVINGS, .sequence = b->tickets[0]->request->sequence_id> 0,
        .sibling = !b->shown && replicas_sibling(&d->replicas, b->replica, version_of(b), now_us),
        .process = replicas_process(r, b->incarnation)};
}

// Are these the rows that were asked for?
static bool rows_fit(const struct desk *d, const struct batch *b, const struct answer *a)
{
    if (b->rows == 0)
        return true; // one request, answered as a whole: its shape is between client and model
    for (unsigned i = 0; i < a->n_outputs; i++) {
        if (a->outputs[i].rank == 0 || a->outputs[i].shape[0] != b->rows)
            return false;
    }
    return true;
}

static void batch_learned(struct desk *d, const struct batch *b, const struct answer *a,
                          uint64_t now_us)
{
    uint64_t whole_us = now_us - b->sent_us, work_us = a->compute_us + a->queue_us;
    bool in_force = b->rank == d->replicas.rank;
    if (in_force && b->quiet && a->compute_us > 0 && work_us < whole_us)
        batcher_trip(&d->batcher, whole_us - work_us);
    uint64_t took_us = replicas_took_us(&d->replicas, b, a->compute_us, now_us);
    if (took_us > 0 && !in_force)
        preference_learn(&d->replicas, b, took_us, now_us);
    else if (took_us > 0)
        batcher_learn(&d->batcher, b->rows ? b->rows : 1, took_us, now_us);
}

// Every ticket gets a view of its own rows: three words and a reference.
static void scatter(struct desk *d, struct batch *b, struct answer *a, uint64_t now_us,
                    struct effects *fx)
{
    uint32_t row = 0;
    size_t copied = DESK_COPY_BYTES;
    uint64_t compute_us = a->compute_us ? a->compute_us : now_us - b->sent_us;
    block_ref_many(a->block, b->n);
    for (uint32_t i = 0; i < b->n; i++) {
        struct ticket *t = b->tickets[i];
        uint32_t rows = b->n > 1 ? t->request->rows : 0;
        t->slice = (struct slice){.answer = a, .row = row, .rows = rows};
        row += rows;
        t->batch_rows = b->rows ? b->rows : 1;
        t->batch_reason = (uint8_t)b->reason;
        t->compute_us = compute_us;
        if (!t->shadow)
            standing_answered(&d->standing, t, now_us);
        if (t->cache != CACHE_NONE)
            cache_keep(d, t, b->sent_us, now_us, &copied, fx);
        ticket_answered(d, t, fx);
    }
}

void desk_on_answer(struct desk *d, struct batch *b, struct answer *a, uint64_t now_us,
                    struct effects *fx)
{
    if (!rows_fit(d, b, a)) {
        replicas_wrong(&d->replicas, b->replica, now_us, fx);
        effects_add(fx, FX_UNREF)->block = a->block;
        const struct failure *why = FAILED(
            STATUS_BAD_ANSWER, "the worker answered another number of rows than it was asked for");
        desk_on_end(d, b, &(struct batch_end){.seen = SEEN_WRONG, .error = why}, now_us, fx);
        return;
    }
    batch_unsent(d, b);
    batch_learned(d, b, a, now_us);
    replicas_ended(&d->replicas, b, REPLICA_WELL, 0, NULL, now_us, fx);
    if (b->failed_at != REPLICA_NONE)
        replicas_fault(&d->replicas, b->failed_at, now_us, fx);
    fx_note(fx, NOTE_DONE, d->model, b->rows ? b->rows : 1, now_us - b->sent_us);
    if (!b->shadow)
        standing_served(&d->standing, b->rows ? b->rows : 1);
    scatter(d, b, a, now_us, fx);
    effects_add(fx, FX_UNREF)->block = a->block;
    batch_free(d, b);
}

// ---- what becomes of those aboard --------------------------------------------------------------------

// Half of b's tickets, to be sent by themselves; false: out of memory. guilty: because of what a row may be.
static bool halve_off(struct desk *d, struct batch *b, bool guilty, uint32_t from, uint32_t to)
{
    struct batch *half = batch_new(d, to - from);
    if (!half)
        return false;
    half->halvings = b->halvings + 1;
    half->shown = b->shown || guilty;
    half->reason = b->reason;
    for (uint32_t i = from; i < to; i++)
        batch_join(half, b->tickets[i]);
    batch_wait(d, half);
    return true;
}

// Until only the guilty one fails, or until each part of the answer finds room.
static void batch_halved(struct desk *d, struct batch *b, const struct failure *e, bool guilty,
                         uint64_t now_us, struct effects *fx)
{
    if (b->n == 1 || !batch_prune(d, b, now_us, fx)) {
        batch_fail(d, b, e, fx);
        return;
    }
    uint32_t middle = b->n / 2;
    fx_note(fx, NOTE_HALVED, d->model, b->n, 0);
    uint32_t parts[3] = {0, middle, b->n};
    for (unsigned i = 0; i < 2; i++) {
        if (parts[i] == parts[i + 1] || halve_off(d, b, guilty, parts[i], parts[i + 1]))
            continue;
        for (uint32_t k = parts[i]; k < parts[i + 1]; k++)
            ticket_failed(d, b->tickets[k], e, fx);
    }
}

// It waits for another sending, as it is.
static void batch_back(struct desk *d, struct batch *b)
{
    b->call = NULL;
    arena_reset(&b->arena);
    for (uint32_t i = 0; i < b->n; i++)
        d->again_cancelled |= b->tickets[i]->cancelled;
    batch_wait(d, b);
}

// As it is, for a sibling.
static void batch_shown(struct desk *d, struct batch *b, struct effects *fx)
{
    fx_note(fx, NOTE_RETRIED, d->model, b->n, 0);
    b->shown = true;
    b->failed_at = b->replica;
    batch_back(d, b);
}

static bool may_be_refused(struct ticket *t, uint64_t now_us)
{
    if (t->refusals == 0)
        t->refused_us = now_us;
    return t->refusals++ < DESK_REFUSALS && now_us - t->refused_us < DESK_REFUSED_US;
}

// What halving has found out so far is not to be lost: a half waits as it is, and so does what a sibling was to
// have. False: none of it is left.
static bool batch_refused_again(struct desk *d, struct batch *b, const struct failure *why,
                                uint64_t now_us, struct effects *fx)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct ticket *t = b->tickets[i];
        if (may_be_refused(t, now_us))
            b->tickets[kept++] = t;
        else
            ticket_failed(d, t, why, fx);
    }
    b->n = kept;
    if (kept > 0)
        batch_back(d, b);
    return kept > 0;
}

// What the clients are told of a worker that refuses: in its words, if it had any; whatever it calls it, they
// have done nothing wrong.
static struct failure refusal(const struct failure *e)
{
    return (struct failure){.status = STATUS_UNAVAILABLE,
                            .text = e ? e->text : refused_text,
                            .block = e ? e->block : NULL};
}

// False: its tickets have left it.
static bool batch_retried(struct desk *d, struct batch *b, const struct failure *e, uint64_t now_us,
                          struct effects *fx)
{
    struct failure why = refusal(e);
    bool may = replicas_may_retry(&d->replicas, version_of(b), now_us);
    if (may)
        fx_note(fx, NOTE_RETRIED, d->model, b->n, 0);
    if (may && (b->shown || b->halvings > 0))
        return batch_refused_again(d, b, &why, now_us, fx);
    for (uint32_t i = 0; i < b->n; i++) {
        struct ticket *t = b->tickets[i];
        if (may && may_be_refused(t, now_us))
            ticket_requeued(d, t, now_us, fx);
        else
            ticket_failed(d, t, &why, fx);
    }
    return false;
}

static void batch_survived(struct desk *d, struct batch *b, bool death, bool only, uint64_t now_us,
                           struct effects *fx)
{
    fx_note(fx, NOTE_RETRIED, d->model, b->n, 0);
    for (uint32_t i = 0; i < b->n; i++)
        ticket_survived(d, b->tickets[i], b, death, only && b->n == 1, now_us, fx);
}

static void batch_requeued(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    fx_note(fx, NOTE_RETRIED, d->model, b->n, 0);
    for (uint32_t i = 0; i < b->n; i++)
        ticket_requeued(d, b->tickets[i], now_us, fx);
}

// What the clients are given when there is nothing left to try.
static void batch_failed(struct desk *d, struct batch *b, const struct batch_end *end, bool refused,
                         struct effects *fx)
{
    struct failure refused_with = refusal(end->error);
    if (refused) // the step of a sequence
        batch_fail(d, b, &refused_with, fx);
    else if (end->error)
        batch_fail(d, b, end->error, fx);
    else if (end->seen == SEEN_LOST)
        batch_fail(d, b, FAILED(STATUS_WORKER_LOST, "the connection to the worker was lost"), fx);
    else if (end->seen == SEEN_RECALLED)
        batch_fail(d, b, FAILED(STATUS_DEADLINE, "the worker did not answer in time"), fx);
    else
        batch_fail(d, b, &refused_with, fx);
}

void desk_on_end(struct desk *d, struct batch *b, const struct batch_end *end, uint64_t now_us,
                 struct effects *fx)
{
    const struct failure *e = end->error;
    struct evidence seen = evidence_of(d, b, end, now_us);
    struct outcome o = evidence_weigh(&seen);
    if (b->shadow) // whatever it says of the replica
        o.tickets = TICKETS_FAILED;
    bool kept = false;
    batch_unsent(d, b);
    replicas_ended(&d->replicas, b, o.replica, end->pushback_us, e ? e->text : NULL, now_us, fx);
    switch (o.tickets) {
    case TICKETS_HALVED:
        batch_halved(d, b, e, o.guilty, now_us, fx);
        break;
    case TICKETS_SIBLING:
        batch_shown(d, b, fx);
        kept = true;
        break;
    case TICKETS_RETRIED:
        kept = batch_retried(d, b, e, now_us, fx);
        break;
    case TICKETS_SURVIVED:
        batch_survived(d, b, o.death, seen.only, now_us, fx);
        break;
    case TICKETS_REQUEUED:
        batch_requeued(d, b, now_us, fx);
        break;
    case TICKETS_DROPPED:
        batch_fail(d, b, FAILED(STATUS_WORKER_LOST, desk_gone_text), fx);
        break;
    default:
        batch_failed(d, b, end, o.replica == REPLICA_REFUSED, fx);
    }
    if (!kept)
        batch_free(d, b);
    if (e)
        fx_forget(fx, e); // behind the notes that show its text
}
