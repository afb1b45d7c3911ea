#include "router/desk_inner.h"

#include "base/check.h"

static const char poison_text[] =
    "two workers died while they computed this request, the last one with nothing else to do";
static const char lost_text[] =
    "the connection to the worker was lost three times with this request";

const char desk_gone_text[] = "the worker that held this sequence is gone";

// ---- waiting for the keeper's word -------------------------------------------------------------------

static void forget_loss(struct ticket *t)
{
    if (t->lost_with == 0)
        return;
    if (t->lost_next)
        t->lost_next->lost_prev = t->lost_prev;
    *t->lost_prev = t->lost_next;
    t->lost_with = 0;
}

static void remember_loss(struct desk *d, struct ticket *t, const struct batch *b)
{
    forget_loss(t);
    if (b->incarnation == 0)
        return; // no keeper will say anything
    t->lost_at = b->replica;
    t->lost_with = b->incarnation;
    t->lost_next = d->lost;
    t->lost_prev = &d->lost;
    if (d->lost)
        d->lost->lost_prev = &t->lost_next;
    d->lost = t;
}

// ---- out of the desk ---------------------------------------------------------------------------------

// The only place where a ticket leaves its home (T1).
static void ticket_given_back(struct desk *d, struct ticket *t, struct effects *fx)
{
    invariant(t->place == PLACE_NONE);
    t->batch = NULL;
    d->replicas.suspects -= t->alone;
    forget_loss(t);
    fx_post(fx, &t->lend, MSG_BACK, d->home, t->origin);
}

void ticket_taken_up(struct ticket *t, uint64_t now_us)
{
    t->origin = t->lend.from;
    t->losses = t->deaths = t->refusals = 0;
    t->alone = t->was_alone = t->cancelled = false;
    t->lost_with = 0;
    t->place = PLACE_NONE;
    t->queued_us = now_us;
    t->batch_rows = 0;
}

void ticket_answered(struct desk *d, struct ticket *t, struct effects *fx)
{
    t->error.status = STATUS_OK;
    t->place = PLACE_NONE;
    ticket_given_back(d, t, fx);
}

void ticket_failed(struct desk *d, struct ticket *t, enum status status, const char *text,
                   struct effects *fx)
{
    t->place = PLACE_NONE;
    error_set(&t->error, status, "%s", text);
    ticket_given_back(d, t, fx);
}

void ticket_expired(struct desk *d, struct ticket *t, struct effects *fx)
{
    fx_note(fx, NOTE_EXPIRED, d->model, ticket_rows(t), 0);
    ticket_failed(d, t, STATUS_DEADLINE, "the deadline cannot be met any more", fx);
}

void ticket_requeued(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    t->batch = NULL;
    if (t->cancelled)
        ticket_failed(d, t, STATUS_CLIENT_GONE, "cancelled", fx);
    else if (now_us >= t->deadline_us)
        ticket_expired(d, t, fx);
    else if (!batcher_push(&d->batcher, t, now_us))
        ticket_failed(d, t, STATUS_UNAVAILABLE, "out of memory", fx);
}

// ---- losses and deaths -------------------------------------------------------------------------------

static void ticket_isolated(struct desk *d, struct ticket *t)
{
    d->replicas.suspects += !t->alone;
    t->alone = true;
}

static void ticket_poisonous(struct desk *d, struct ticket *t, struct effects *fx)
{
    fx_note(fx, NOTE_POISON, d->model, 0, t->request->batch_key.lo);
    ticket_failed(d, t, STATUS_POISON, poison_text, fx);
}

void ticket_survived(struct desk *d, struct ticket *t, const struct batch *b, bool death,
                     bool alone, uint64_t now_us, struct effects *fx)
{
    t->losses++;
    t->deaths += death;
    t->was_alone = alone;
    if (!death)
        remember_loss(d, t, b);
    switch (ticket_fate_after_loss(t->losses, t->deaths, death && alone)) {
    case TICKET_POISON:
        ticket_poisonous(d, t, fx);
        return;
    case TICKET_LOST:
        ticket_failed(d, t, STATUS_WORKER_LOST, lost_text, fx);
        return;
    case TICKET_ALONE:
        ticket_isolated(d, t);
        break;
    case TICKET_AGAIN:
        break;
    }
    ticket_requeued(d, t, now_us, fx);
}

// The worker that it was aboard of has died, the keeper says. It is in the queue by now, or under way again.
static void ticket_bereaved(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    forget_loss(t);
    t->deaths++;
    if (t->place != PLACE_QUEUED) { // what it is aboard of tells more
        ticket_isolated(d, t);
        return;
    }
    batcher_remove(&d->batcher, t);
    if (ticket_fate_after_loss(t->losses, t->deaths, t->was_alone) == TICKET_POISON) {
        ticket_poisonous(d, t, fx);
        return;
    }
    ticket_isolated(d, t); // goes singly from here on: another group
    ticket_requeued(d, t, now_us, fx);
}

void desk_on_process_end(struct desk *d, uint32_t id, uint32_t incarnation, bool crashed,
                         uint64_t now_us, struct effects *fx)
{
    replicas_process_ended(&d->replicas, id, incarnation,
                           crashed ? PROCESS_CRASHED : PROCESS_ENDED);
    struct ticket *next;
    for (struct ticket *t = d->lost; t; t = next) {
        next = t->lost_next;
        if (t->lost_at != id || t->lost_with != incarnation)
            continue;
        if (crashed)
            ticket_bereaved(d, t, now_us, fx);
        else
            forget_loss(t);
    }
}
