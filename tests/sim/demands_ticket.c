#include "tests/sim/sim.h"

// A batch that failed goes to a sibling, and is halved until one is left: 4,096 rows at most.
#define FAILURES (1 + DESK_HALVINGS + 1)

unsigned group_of(const struct life *x)
{
    if (ticket_batches(x->ticket))
        return x->kind;
    // Singles have a group for each version; version 9's place is free, for nobody waits for that.
    return x->kind == KIND_VERSION1 ? KIND_VERSION9 : KIND_SEQUENCE;
}

void stop_waiting(struct life *x)
{
    uint32_t *n = &x->model->waiting[x->group][x->ticket->lane];
    x->waiting = false;
    // Perhaps the oldest: from now on the lane is due by those that came later.
    x->model->lane_since[x->group][x->ticket->lane] = x->model->w->now_us;
    if (--*n == 0)
        x->model->passed[x->group][x->ticket->lane] = 0;
}

void demands_on_post(struct loop_of *l, struct msg *m)
{
    struct world *w = l->w;
    if (m->kind == MSG_LEND) {
        struct life *x = life_of(container_of(m, struct ticket, lend));
        x->posts++;
        demand(w, x, x->live && !x->lent && l->index == x->loop && m->to == x->model->home,
               "a ticket is lent once, by its origin to its home");
        x->lent = true;
    } else if (m->kind == MSG_BACK) {
        struct life *x = life_of(container_of(m, struct ticket, lend));
        x->posts++;
        demand(w, x, x->live && x->lent && l->index == x->model->home && m->to == x->loop,
               "a ticket comes back once, from its home to its origin");
        x->lent = false;
        kept_back(l, x);
        if (!x->ticket->shadow)
            demands_on_back(l, x->ticket);
        if (x->ticket->error.status == STATUS_WORKER_LOST && x->in.request.sequence_id > 0)
            x->model->sequence[x->in.request.sequence_id % SIM_SEQUENCES].replica = 0;
        if (x->losses > 0) {
            x->model->suspects--;
            excuse_until(&x->model->excuse, FAULT_CRASH, w->now_us);
        }
        if (x->waiting)
            stop_waiting(x);
        trace(w, x, "comes back: %s", x->ticket->error.status ? x->ticket->error.text : "answered");
    } else {
        struct life *x = life_of(container_of(m, struct ticket, cancel));
        x->posts++;
        x->called |= m->kind == MSG_CANCEL;
    }
    w->totals.posts++;
}

void demands_on_deliver(struct loop_of *l, struct msg *m)
{
    struct world *w = l->w;
    if (m->kind == MSG_LEND) {
        struct life *x = life_of(container_of(m, struct ticket, lend));
        x->first_us = l->now_us;
        kept_lent(x);
        trace(w, x, "reaches its home %u", l->index);
    } else if (m->kind == MSG_CANCEL) {
        struct life *x = life_of(container_of(m, struct ticket, cancel));
        demand(w, x, x->live && ((x->whole ? x->whole : x)->settled || x->ticket->step->over),
               "only whose step is over, or who has settled, calls his ticket home");
        x->cancelled = true;
        if (!x->ticket->shadow &&
            l->now_us >= x->ticket->deadline_us) // it may be aboard for a while yet
            x->model->late_us = w->now_us;
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
    x->group = group_of(x);
    if (x->model->waiting[x->group][t->lane]++ == 0)
        x->model->lane_since[x->group][t->lane] = l->w->now_us;
    trace(l->w, x, "waits in lane %u", t->lane);
}

// Who waits may go on waiting in another group.
void demands_before_word(struct model_of *m)
{
    m->n_word = 0;
    for (struct ticket *t = m->desk->lost; t && m->n_word < SIM_WORD; t = t->lost_next) {
        if (!life_of(t)->waiting)
            continue;
        m->word[m->n_word++] = t;
        stop_waiting(life_of(t));
    }
}

void demands_after_word(struct loop_of *l, struct model_of *m)
{
    for (unsigned i = 0; i < m->n_word; i++)
        demands_queued(l, m->word[i]);
}

void demands_called_home(struct loop_of *l, struct ticket *t)
{
    const struct life *x = life_of(t);
    demand(l->w, x, !x->lent || t->place == PLACE_ABOARD,
           "who is called home comes at once, unless it is aboard");
}

// The budget of messages. A life that is lent: there and back; called home: there and back. A batch for each
// time that it was sent, and once more only for what ended without an answer to it. What is new and posts one
// more has to say so here.
void demands_messages(const struct world *w, const struct life *x)
{
    bool out = x->work_us > 0;
    demand(w, x, x->posts == 2u * out + 2u * x->called, "a life has the messages that it needs");
    demand(w, x, x->sent == x->ends, "every sending ends");
    unsigned again = x->losses + x->ours + x->refusals + x->failures + x->no_rooms;
    demand(w, x, x->sent <= 1 + again, "who is sent again was lost, refused or failed");
    demand(w, x, x->losses <= SIM_LOSSES - 1, "who was lost three times is not sent again");
    demand(w, x, x->failures <= FAILURES * (1 + x->losses + x->ours),
           "halvings and siblings are bounded");
    demand(w, x, x->no_rooms <= (DESK_HALVINGS + 1) * (1 + x->losses + x->ours),
           "what finds no room is halved so often at most");
}
