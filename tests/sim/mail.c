#include "tests/sim/sim.h"

#include <stdlib.h>

// ---- agendas -----------------------------------------------------------------------------------------

static bool entry_sooner(const struct entry *a, const struct entry *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

void world_at(struct world *w, struct loop_of *l, uint64_t at_us, enum event event, void *p,
              uint64_t tag)
{
    if (l->n_agenda == l->cap_agenda) {
        l->cap_agenda = l->cap_agenda ? 2 * l->cap_agenda : 64;
        l->agenda = realloc(l->agenda, l->cap_agenda * sizeof(*l->agenda));
    }
    struct entry e = {at_us, w->seq++, event, p, tag};
    unsigned i = l->n_agenda++;
    for (; i > 0 && entry_sooner(&e, &l->agenda[(i - 1) / 2]); i = (i - 1) / 2)
        l->agenda[i] = l->agenda[(i - 1) / 2];
    l->agenda[i] = e;
    if (at_us < l->wake_us)
        l->wake_us = at_us;
}

struct entry agenda_pop(struct loop_of *l)
{
    struct entry top = l->agenda[0], last = l->agenda[--l->n_agenda];
    unsigned i = 0;
    for (;;) {
        unsigned child = 2 * i + 1;
        if (child >= l->n_agenda)
            break;
        if (child + 1 < l->n_agenda && entry_sooner(&l->agenda[child + 1], &l->agenda[child]))
            child++;
        if (!entry_sooner(&l->agenda[child], &last))
            break;
        l->agenda[i] = l->agenda[child];
        i = child;
    }
    l->agenda[i] = last;
    return top;
}

// ---- mailboxes ---------------------------------------------------------------------------------------

static void mail_grow(struct mailbox *b)
{
    unsigned cap = b->cap ? 2 * b->cap : 16;
    struct letter *ring = malloc(cap * sizeof(*ring));
    for (unsigned i = 0; i < b->n; i++)
        ring[i] = b->ring[(b->head + i) & (b->cap - 1)];
    free(b->ring);
    b->ring = ring;
    b->cap = cap;
    b->head = 0;
}

// In order between two loops; any order across them.
void mail_send(struct loop_of *from, struct msg *m)
{
    struct world *w = from->w;
    struct loop_of *to = &w->loop[m->to];
    struct mailbox *b = &to->in[from->index];
    demand(w, NULL, m->from == from->index, "a message is posted by the loop that it says");
    demands_on_post(from, m);
    uint64_t at_us = world_soon(w, w->plan.mail_us);
    if (w->plan.mail_us > 1000)
        world_count(w, FAULT_MAIL);
    if (at_us < b->last_us)
        at_us = b->last_us;
    b->last_us = at_us;
    if (b->n == b->cap)
        mail_grow(b);
    b->ring[(b->head + b->n++) & (b->cap - 1)] = (struct letter){m, at_us};
    if (at_us < to->wake_us)
        to->wake_us = at_us;
}

struct msg *mail_take(struct loop_of *l, struct mailbox *b)
{
    if (b->n == 0 || b->ring[b->head].at_us > l->w->now_us)
        return NULL;
    struct msg *m = b->ring[b->head].msg;
    b->head = (b->head + 1) & (b->cap - 1);
    b->n--;
    return m;
}
