#include "router/desk_inner.h"

#include "base/check.h"

static const char poison_text[] =
    "two workers died while they computed this request, the last one with nothing else to do";
static const char lost_text[] =
    "the connection to the worker was lost three times with this request";

const char desk_gone_text[] = "the worker that held this sequence is gone";

// ---- waiting for the keeper's word -------------------------------------------------------------------

static void losses_delisted(struct ticket *t)
{
    if (t->n_lost == 0)
        return;
    if (t->lost_next)
        t->lost_next->lost_prev = t->lost_prev;
    *t->lost_prev = t->lost_next;
    t->n_lost = 0;
}

static void loss_remembered(struct desk *d, struct ticket *t, const struct batch *b, bool alone)
{
    if (b->incarnation == 0)
        return; // no keeper will say anything
    if (t->n_lost == 0) {
        t->lost_next = d->lost;
        t->lost_prev = &d->lost;
        if (d->lost)
            d->lost->lost_prev = &t->lost_next;
        d->lost = t;
    }
    invariant(t->n_lost < TICKET_LOSSES);
    t->lost[t->n_lost].replica = b->replica;
    t->lost[t->n_lost].incarnation = b->incarnation;
    t->lost[t->n_lost].number = t->losses;
    t->lost[t->n_lost++].alone = alone;
}

// The keeper has said how it ended. *alone: that was the last loss, and nothing else of ours was there. False:
// the ticket was not lost there.
static bool loss_explained(struct ticket *t, uint32_t replica, uint32_t incarnation, bool *alone)
{
    for (unsigned i = 0; i < t->n_lost; i++) {
        if (t->lost[i].replica != replica || t->lost[i].incarnation != incarnation)
            continue;
        *alone = t->lost[i].alone && t->lost[i].number == t->losses;
        if (t->n_lost == 1)
            losses_delisted(t);
        else
            t->lost[i] = t->lost[--t->n_lost];
        return true;
    }
    return false;
}

// ---- out of the desk ---------------------------------------------------------------------------------

// The only place where a ticket leaves its home (T1).
static void ticket_given_back(struct desk *d, struct ticket *t, struct effects *fx)
{
    invariant(t->place == PLACE_NONE);
    t->batch = NULL;
    d->replicas.suspects -= t->alone;
    losses_delisted(t);
    if (t->flight)
        flight_left(d, t, fx);
    fx_post(fx, &t->lend, MSG_BACK, d->home, t->origin);
}

void ticket_sent(struct ticket *t, uint32_t replica, uint64_t now_us)
{
    t->queue_us = now_us - t->queued_us;
    t->replica = replica;
    t->sent += t->sent < UINT8_MAX;
}

void ticket_answered(struct desk *d, struct ticket *t, struct effects *fx)
{
    t->error = (struct failure){.status = STATUS_OK};
    t->place = PLACE_NONE;
    ticket_given_back(d, t, fx);
}

void ticket_failed(struct desk *d, struct ticket *t, const struct failure *why, struct effects *fx)
{
    t->place = PLACE_NONE;
    t->error = *why;
    if (why->block)
        block_ref(why->block);
    ticket_given_back(d, t, fx);
}

void ticket_let_go(struct desk *d, struct ticket *t, struct effects *fx)
{
    t->let_go = t->elsewhere;
    ticket_failed(d, t, FAILED(STATUS_UNAVAILABLE, "no replica of the model is ready"), fx);
}

void ticket_expired(struct desk *d, struct ticket *t, struct effects *fx)
{
    if (!t->shadow) // else it is no demand
        fx_note(fx, NOTE_EXPIRED, d->model, ticket_rows(t), 0);
    standing_late(d, t);
    ticket_failed(d, t, FAILED(STATUS_DEADLINE, "the deadline cannot be met any more"), fx);
}

void ticket_refused(struct desk *d, struct ticket *t, uint64_t late_us, struct effects *fx)
{
    // By then as many have been served as are too many now.
    t->room_in_us = late_us;
    fx_note(fx, NOTE_REFUSED, d->model, ticket_rows(t), 0);
    standing_late(d, t);
    ticket_failed(d, t,
                  FAILED(STATUS_DEADLINE, "more waits before it than can be answered in time"), fx);
}

void ticket_dropped(struct desk *d, struct ticket *t, struct effects *fx)
{
    fx_note(fx, NOTE_DROPPED, d->model, ticket_rows(t), 0);
    standing_late(d, t);
    ticket_failed(d, t,
                  FAILED(STATUS_DEADLINE, "given up for others that can still be answered in time"),
                  fx);
}

void ticket_requeued(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    t->batch = NULL;
    if (t->cancelled)
        ticket_failed(d, t, FAILED(STATUS_CLIENT_GONE, "cancelled"), fx);
    else if (now_us >= t->deadline_us)
        ticket_expired(d, t, fx);
    else if (!batcher_push(&d->batcher, t, now_us))
        ticket_failed(d, t, FAILED(STATUS_UNAVAILABLE, "out of memory"), fx);
}

// ---- losses and deaths -------------------------------------------------------------------------------

static void ticket_isolated(struct desk *d, struct ticket *t)
{
    d->replicas.suspects += !t->alone;
    t->alone = true;
}

// Whom it may have killed elsewhere it is not to take others with here.
void ticket_taken_up(struct desk *d, struct ticket *t, uint64_t now_us)
{
    t->origin = t->lend.from;
    t->losses = t->losses_before;
    t->deaths = t->deaths_before;
    t->n_lost = t->refusals = t->sent = 0;
    t->alone = t->died_alone = t->watched = t->cancelled = false;
    t->place = PLACE_NONE;
    t->queued_us = now_us;
    t->batch_rows = 0;
    t->source = SOURCE_MODEL;
    t->age_s = 0;
    t->room_in_us = 0;
    t->let_go = false;
    t->flight = NULL;
    t->followers = NULL;
    t->wanted_us = t->deadline_us;
    if (ticket_fate_after_loss(t->losses, t->deaths, false, false) != TICKET_AGAIN)
        ticket_isolated(d, t);
}

static void ticket_poisonous(struct desk *d, struct ticket *t, struct effects *fx)
{
    fx_note(fx, NOTE_POISON, d->model, 0, t->key.lo);
    ticket_failed(d, t, FAILED(STATUS_POISON, poison_text), fx);
}

// Lost for the last time. Whether it is poison only the keeper can say: its word is on its way, if there is one.
static void ticket_held(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    if (t->n_lost == 0) {
        ticket_failed(d, t, FAILED(STATUS_WORKER_LOST, lost_text), fx);
        return;
    }
    t->batch = NULL;
    t->place = PLACE_HELD;
    t->held_us = now_us + DESK_HELD_US;
    d->held_us = desk_least(d->held_us, t->held_us);
}

// What its losses and deaths amount to by now. It is in no queue and no batch.
static void ticket_judged(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    switch (ticket_fate_after_loss(t->losses, t->deaths, t->died_alone, t->watched)) {
    case TICKET_POISON:
        ticket_poisonous(d, t, fx);
        return;
    case TICKET_LOST:
        ticket_held(d, t, now_us, fx);
        return;
    case TICKET_ALONE:
        ticket_isolated(d, t);
        break;
    case TICKET_AGAIN:
        break;
    }
    ticket_requeued(d, t, now_us, fx);
}

void ticket_survived(struct desk *d, struct ticket *t, const struct batch *b, bool death,
                     bool alone, uint64_t now_us, struct effects *fx)
{
    t->losses++;
    t->deaths += death;
    t->died_alone = death && alone;
    t->watched = b->incarnation > 0;
    if (!death)
        loss_remembered(d, t, b, alone);
    ticket_judged(d, t, now_us, fx);
}

// The keeper's word on a worker that it was aboard of. It is queued by now, or in flight again, or held.
static void ticket_explained(struct desk *d, struct ticket *t, bool crashed, bool alone,
                             uint64_t now_us, struct effects *fx)
{
    t->deaths += crashed;
    t->died_alone |= crashed && alone;
    if (t->place == PLACE_HELD) {
        t->place = PLACE_NONE;
        ticket_judged(d, t, now_us, fx);
    } else if (crashed && t->place == PLACE_QUEUED) { // it goes singly from here on: another group
        batcher_remove(&d->batcher, t);
        ticket_judged(d, t, now_us, fx);
    } else if (crashed) { // how that batch ends says more
        ticket_isolated(d, t);
    }
}

void desk_on_process_end(struct desk *d, uint32_t id, uint32_t incarnation, bool crashed,
                         uint64_t now_us, struct effects *fx)
{
    replicas_process_ended(&d->replicas, id, incarnation,
                           crashed ? PROCESS_CRASHED : PROCESS_ENDED);
    struct ticket *next;
    bool alone;
    for (struct ticket *t = d->lost; t; t = next) {
        next = t->lost_next;
        if (loss_explained(t, id, incarnation, &alone))
            ticket_explained(d, t, crashed, alone, now_us, fx);
    }
}

void tickets_released(struct desk *d, uint64_t now_us, struct effects *fx)
{
    if (now_us < d->held_us)
        return;
    d->held_us = UINT64_MAX;
    struct ticket *next;
    for (struct ticket *t = d->lost; t; t = next) {
        next = t->lost_next;
        if (t->place != PLACE_HELD)
            continue;
        if (now_us >= t->held_us)
            ticket_failed(d, t, FAILED(STATUS_WORKER_LOST, lost_text), fx);
        else
            d->held_us = desk_least(d->held_us, t->held_us);
    }
}
