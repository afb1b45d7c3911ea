#include "router/desk.h"

#include "base/check.h"
#include "base/mem.h"
#include "router/replicas.h"

static uint64_t min_us(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

struct desk *desk_new(struct model *m, unsigned home, uint64_t seed, uint64_t now_us)
{
    struct desk *d = mem_zalloc(sizeof(*d));
    if (!d)
        return NULL;
    struct policy p = {.max_rows = m->rules.max_rows ? m->rules.max_rows : 1,
                       .max_wait_us = m->rules.max_wait_us,
                       .n_preferred = m->rules.n_preferred};
    memcpy(p.preferred, m->rules.preferred, sizeof(p.preferred));
    d->model = m;
    d->home = home;
    d->wake_us = d->overdue_us = UINT64_MAX;
    d->alone_since_us = now_us;
    d->again_last = &d->again;
    rand_seed(&d->rand, seed);
    batcher_init(&d->batcher, &p);
    return d;
}

void desk_free(struct desk *d)
{
    invariant(!d->sent && !d->again);
    while (d->spare) {
        struct batch *b = d->spare;
        d->spare = b->next;
        arena_deinit(&b->arena);
        mem_free(b->tickets);
        mem_free(b);
    }
    batcher_deinit(&d->batcher);
    mem_free(d);
}

// ---- tickets out of the desk -------------------------------------------------------------------------

// The only place where a ticket leaves its home (T1).
static void give_back(struct desk *d, struct ticket *t, struct effects *fx)
{
    invariant(t->place == PLACE_NONE);
    t->batch = NULL;
    d->suspects -= t->deaths > 0;
    fx_post(fx, &t->lend, MSG_BACK, d->home, t->origin);
}

static void fail_ticket(struct desk *d, struct ticket *t, enum status status, const char *text,
                        struct effects *fx)
{
    t->place = PLACE_NONE;
    error_set(&t->error, status, "%s", text);
    give_back(d, t, fx);
}

static void fail_version(struct desk *d, struct ticket *t, struct effects *fx)
{
    const struct infer_request *q = t->request;
    t->place = PLACE_NONE;
    error_set(&t->error, STATUS_NOT_FOUND, "model %.*s has no version %.*s", VIEW_ARG(q->model),
              VIEW_ARG(q->version));
    give_back(d, t, fx);
}

static void expire(struct desk *d, struct ticket *t, struct effects *fx)
{
    fx_note(fx, NOTE_EXPIRED, d->model, ticket_rows(t), 0);
    fail_ticket(d, t, STATUS_DEADLINE, "the deadline cannot be met any more", fx);
}

// Back into the queue with its seniority, unless nobody waits for it.
static void requeue(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    t->batch = NULL;
    if (t->cancelled)
        fail_ticket(d, t, STATUS_CLIENT_GONE, "cancelled", fx);
    else if (now_us >= t->deadline_us)
        expire(d, t, fx);
    else if (!batcher_push(&d->batcher, t, now_us))
        fail_ticket(d, t, STATUS_UNAVAILABLE, "out of memory", fx);
}

// ---- batches -----------------------------------------------------------------------------------------

static struct batch *batch_new(struct desk *d, uint32_t cap)
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
    b->call = NULL;
    return b;
}

static void batch_free(struct desk *d, struct batch *b)
{
    arena_reset(&b->arena);
    b->next = d->spare;
    d->spare = b;
}

static void batch_join(struct batch *b, struct ticket *t)
{
    t->place = PLACE_ABOARD;
    t->batch = b;
    b->tickets[b->n++] = t;
}

static void wait_again(struct desk *d, struct batch *b)
{
    b->state = BATCH_AGAIN;
    b->next = NULL;
    *d->again_last = b;
    d->again_last = &b->next;
    d->n_again++;
}

// T5: those that nobody waits for any more leave before it is sent. False: none is left.
static bool prune(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    uint32_t kept = 0;
    b->rows = 0;
    b->deadline_us = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct ticket *t = b->tickets[i];
        if (t->cancelled) {
            fail_ticket(d, t, STATUS_CLIENT_GONE, "cancelled", fx);
        } else if (now_us >= t->deadline_us) {
            expire(d, t, fx);
        } else {
            b->tickets[kept++] = t;
            b->rows += t->request->rows;
            b->deadline_us = t->deadline_us > b->deadline_us ? t->deadline_us : b->deadline_us;
        }
    }
    b->n = kept;
    b->cancelled = 0;
    return kept > 0;
}

static void send(struct desk *d, struct batch *b, struct replica *r, uint64_t now_us,
                 struct effects *fx)
{
    uint32_t rows = b->rows ? b->rows : 1;
    d->overdue_us = min_us(d->overdue_us, b->deadline_us);
    b->state = BATCH_SENT;
    b->replica = r->id;
    b->sent_us = now_us;
    b->quiet = r->batches == 0;
    r->batches++;
    r->rows += rows;
    d->running_rows += rows;
    b->next = d->sent;
    b->prev = &d->sent;
    if (d->sent)
        d->sent->prev = &b->next;
    d->sent = b;
    for (uint32_t i = 0; i < b->n; i++)
        b->tickets[i]->queue_us = now_us - b->tickets[i]->queued_us;
    effects_add(fx, FX_DISPATCH)->batch = b;
    fx_note(fx, NOTE_BATCH, d->model, rows, b->reason);
}

// The call has ended: the batch is nobody's but ours again.
static void unsend(struct desk *d, struct batch *b)
{
    invariant(b->state == BATCH_SENT || b->state == BATCH_RECALLED);
    struct replica *r = replicas_find(d, b->replica);
    uint32_t rows = b->rows ? b->rows : 1;
    if (b->next)
        b->next->prev = b->prev;
    *b->prev = b->next;
    if (!d->sent)
        d->overdue_us = UINT64_MAX;
    d->running_rows -= rows;
    invariant(r && r->batches > 0 && r->rows >= rows);
    r->batches--;
    r->rows -= rows;
}

static void recall(struct batch *b, struct effects *fx)
{
    if (b->state != BATCH_SENT)
        return;
    b->state = BATCH_RECALLED;
    effects_add(fx, FX_CANCEL)->batch = b;
}

// Out beyond the deadline of its last ticket: the call serves nobody, and its worker may hang.
static void recall_overdue(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    uint64_t out_us = now_us - b->sent_us;
    recall(b, fx);
    if (out_us < DESK_SILENT_US ||
        (double)out_us < DESK_SILENT_TIMES * replicas_find(d, b->replica)->latency_us)
        return;
    fx_note(fx, NOTE_SUSPECT, d->model, b->replica, 0);
    struct fx *f = effects_add(fx, FX_SUSPECT);
    f->desk = d;
    f->replica = b->replica;
}

// ---- inputs: tickets ---------------------------------------------------------------------------------

void desk_on_ticket(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    t->origin = t->lend.from;
    t->deaths = 0;
    t->alone = t->cancelled = false;
    t->place = PLACE_NONE;
    t->queued_us = now_us;
    t->batch_rows = 0;
    if (batcher_hopeless(&d->batcher, t, now_us))
        expire(d, t, fx);
    else if (d->n_up > 0 && !replicas_serve(d, t->request->version, false, now_us))
        fail_version(d, t, fx);
    else if (d->n_up == 0 && now_us >= d->alone_since_us + d->model->rules.grace_us)
        fail_ticket(d, t, STATUS_UNAVAILABLE, "no replica of the model is ready", fx);
    else if (!batcher_push(&d->batcher, t, now_us))
        fail_ticket(d, t, STATUS_UNAVAILABLE, "out of memory", fx);
}

void desk_on_cancel(struct desk *d, struct ticket *t, uint64_t now_us, struct effects *fx)
{
    unsigned origin = t->cancel.from;
    if (t->place == PLACE_QUEUED) {
        batcher_remove(&d->batcher, t);
        fail_ticket(d, t, STATUS_CLIENT_GONE, "cancelled", fx);
    } else if (t->place == PLACE_ABOARD && !t->cancelled) {
        t->cancelled = true;
        struct batch *b = t->batch;
        d->again_cancelled |= b->state == BATCH_AGAIN;
        // At the deadline the origins' timers and ours race: it is the worker's fault all the same.
        if (++b->cancelled == b->n && b->state == BATCH_SENT && now_us >= b->deadline_us)
            recall_overdue(d, b, now_us, fx);
        else if (b->cancelled == b->n)
            recall(b, fx);
    } // else it is on its way back: the two cross
    fx_post(fx, &t->cancel, MSG_ECHO, d->home, origin);
}

// ---- inputs: ends of calls ---------------------------------------------------------------------------

// Are these the rows that were asked for?
static bool rows_fit(const struct desk *d, const struct batch *b, const struct answer *a)
{
    if (b->n == 1 && (b->rows == 0 || d->max_batch == 0))
        return true; // one request, answered as a whole: its shape is between client and model
    for (unsigned i = 0; i < a->n_outputs; i++) {
        if (a->outputs[i].rank == 0 || a->outputs[i].shape[0] != b->rows)
            return false;
    }
    return true;
}

static void learn(struct desk *d, struct batch *b, const struct answer *a, uint64_t now_us)
{
    uint64_t took_us = now_us - b->sent_us;
    struct replica *r = replicas_find(d, b->replica);
    r->latency_us += (r->latency_us == 0 ? 1 : 0.1) * ((double)took_us - r->latency_us);
    if (b->quiet) // else its time holds a wait behind another batch
        batcher_learn(&d->batcher, b->rows ? b->rows : 1, took_us, now_us);
    else if (a->compute_us > 0)
        batcher_learn(&d->batcher, b->rows ? b->rows : 1, a->compute_us, now_us);
}

// Every ticket gets a view of its own rows: three words and a reference.
static void scatter(struct desk *d, struct batch *b, struct answer *a, uint64_t now_us,
                    struct effects *fx)
{
    uint32_t row = 0;
    uint64_t compute_us = a->compute_us ? a->compute_us : now_us - b->sent_us;
    block_ref_many(a->block, b->n);
    for (uint32_t i = 0; i < b->n; i++) {
        struct ticket *t = b->tickets[i];
        uint32_t rows = b->n > 1 ? t->request->rows : 0;
        t->slice = (struct slice){.answer = a, .row = row, .rows = rows};
        row += rows;
        t->error.status = STATUS_OK;
        t->batch_rows = b->rows ? b->rows : 1;
        t->batch_reason = (uint8_t)b->reason;
        t->compute_us = compute_us;
        t->place = PLACE_NONE;
        give_back(d, t, fx);
    }
}

static void fail_all(struct desk *d, struct batch *b, enum status status, const char *text,
                     struct effects *fx)
{
    for (uint32_t i = 0; i < b->n; i++)
        fail_ticket(d, b->tickets[i], status, text, fx);
}

void desk_on_answer(struct desk *d, struct batch *b, struct answer *a, uint64_t now_us,
                    struct effects *fx)
{
    if (rows_fit(d, b, a)) {
        learn(d, b, a, now_us);
        fx_note(fx, NOTE_DONE, d->model, b->rows ? b->rows : 1, now_us - b->sent_us);
        scatter(d, b, a, now_us, fx);
    } else {
        fx_note(fx, NOTE_WRONG_SHAPE, d->model, b->replica, 0);
        fail_all(d, b, STATUS_BAD_ANSWER,
                 "the worker answered another number of rows than it was asked for", fx);
    }
    effects_add(fx, FX_UNREF)->block = a->block;
    unsend(d, b);
    batch_free(d, b);
}

// The worker is gone and one of these may be why: each goes alone next time, and a second time is proof.
static void survive(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    for (uint32_t i = 0; i < b->n; i++) {
        struct ticket *t = b->tickets[i];
        t->alone = true;
        d->suspects += t->deaths == 0;
        if (++t->deaths >= 2) {
            fx_note(fx, NOTE_POISON, d->model, 0, t->request->batch_key.lo);
            fail_ticket(d, t, STATUS_POISON, "two workers died while they computed this request",
                        fx);
        } else {
            requeue(d, t, now_us, fx);
        }
    }
}

// Half of b's tickets, to be sent by themselves; false: out of memory.
static bool halve_off(struct desk *d, struct batch *b, uint32_t from, uint32_t to)
{
    struct batch *half = batch_new(d, to - from);
    if (!half)
        return false;
    half->halvings = b->halvings + 1;
    half->reason = b->reason;
    for (uint32_t i = from; i < to; i++)
        batch_join(half, b->tickets[i]);
    wait_again(d, half);
    return true;
}

// A batch that failed whole is halved until only the guilty one fails.
static void on_error(struct desk *d, struct batch *b, const struct error *e, uint64_t now_us,
                     struct effects *fx)
{
    if (b->n == 1 || b->halvings >= DESK_HALVINGS || !prune(d, b, now_us, fx)) {
        fail_all(d, b, e->status, e->text, fx);
        return;
    }
    uint32_t middle = b->n / 2;
    fx_note(fx, NOTE_HALVED, d->model, b->n, 0);
    uint32_t parts[3] = {0, middle, b->n};
    for (unsigned i = 0; i < 2; i++) {
        if (parts[i] == parts[i + 1] || halve_off(d, b, parts[i], parts[i + 1]))
            continue;
        for (uint32_t k = parts[i]; k < parts[i + 1]; k++)
            fail_ticket(d, b->tickets[k], e->status, e->text, fx);
    }
}

static void back_into_queue(struct desk *d, struct batch *b, uint64_t now_us, struct effects *fx)
{
    struct replica *r = replicas_find(d, b->replica);
    r->not_before_us = now_us + DESK_REFUSED_PAUSE_US;
    fx_note(fx, NOTE_RETRIED, d->model, b->n, 0);
    for (uint32_t i = 0; i < b->n; i++)
        requeue(d, b->tickets[i], now_us, fx);
}

void desk_on_fail(struct desk *d, struct batch *b, enum desk_fail kind, const struct error *error,
                  uint64_t now_us, struct effects *fx)
{
    unsend(d, b);
    switch (kind) {
    case FAIL_REFUSED:
        back_into_queue(d, b, now_us, fx);
        break;
    case FAIL_LOST:
        fx_note(fx, NOTE_RETRIED, d->model, b->n, 0);
        survive(d, b, now_us, fx);
        break;
    case FAIL_ERROR:
        on_error(d, b, error, now_us, fx);
        break;
    case FAIL_MALFORMED:
        fail_all(d, b, error->status, error->text, fx);
        break;
    case FAIL_RECALLED:
        fail_all(d, b, STATUS_DEADLINE, "the worker did not answer in time", fx);
        break;
    }
    batch_free(d, b);
}

// ---- deciding ----------------------------------------------------------------------------------------

static void drop_doomed(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct ticket *t;
    while ((t = batcher_doomed(&d->batcher, now_us)) != NULL) {
        batcher_remove(&d->batcher, t);
        expire(d, t, fx);
    }
}

static void recall_all_overdue(struct desk *d, uint64_t now_us, struct effects *fx)
{
    if (now_us < d->overdue_us)
        return;
    d->overdue_us = UINT64_MAX;
    for (struct batch *b = d->sent; b; b = b->next) {
        if (b->state == BATCH_SENT && now_us >= b->deadline_us)
            recall_overdue(d, b, now_us, fx);
        else if (b->state == BATCH_SENT)
            d->overdue_us = min_us(d->overdue_us, b->deadline_us);
    }
}

// Nobody is left that could answer, and the time to wait for one is over.
static void refuse_all(struct desk *d, struct effects *fx)
{
    static const char why[] = "no replica of the model is ready";
    uint64_t n = d->batcher.count;
    struct ticket *t;
    while ((t = batcher_any(&d->batcher)) != NULL) {
        batcher_remove(&d->batcher, t);
        fail_ticket(d, t, STATUS_UNAVAILABLE, why, fx);
    }
    while (d->again) {
        struct batch *b = d->again;
        d->again = b->next;
        n += b->n;
        fail_all(d, b, STATUS_UNAVAILABLE, why, fx);
        batch_free(d, b);
    }
    d->again_last = &d->again;
    d->n_again = 0;
    if (n > 0)
        fx_note(fx, NOTE_NO_REPLICA, d->model, n, 0);
}

static void send_again(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct batch *list = d->again, **list_last = d->again_last;
    bool all = d->again_cancelled;
    d->again = NULL;
    d->again_last = &d->again;
    d->again_cancelled = false;
    while (list && (all || replicas_credit(d, now_us))) {
        struct batch *b = list;
        list = b->next;
        d->n_again--;
        if (!prune(d, b, now_us, fx)) {
            batch_free(d, b);
            continue;
        }
        struct replica *r = replicas_choose(d, b->tickets[0]->request->version, now_us);
        if (r)
            send(d, b, r, now_us, fx);
        else
            wait_again(d, b);
    }
    if (list) { // those that nobody has credit for
        *d->again_last = list;
        d->again_last = list_last;
    }
}

struct asking { // what group_may_go needs
    const struct desk *d;
    uint64_t now_us;
};

static bool group_may_go(const struct group *g, void *ctx)
{
    const struct asking *a = ctx;
    if (g->mixed) // who has no replica at hand stands aside, for others behind may have one
        return a->d->n_again < DESK_ASIDE;
    return replicas_serve(a->d, g->oldest->request->version, true, a->now_us);
}

// Sends what should go; returns when the next batch may be due.
static uint64_t send_queued(struct desk *d, uint64_t now_us, struct effects *fx)
{
    struct asking asking = {d, now_us};
    uint32_t cap = d->max_batch ? d->max_batch : 1;
    while (d->batcher.count > 0 && replicas_credit(d, now_us)) {
        struct batch_plan plan = batcher_plan(&d->batcher, cap, now_us, group_may_go, &asking);
        if (!plan.group)
            return plan.wake_us;
        struct batch *b = batch_new(d, plan.rows);
        if (!b)
            return now_us + 1000; // out of memory: what is queued stays queued
        b->n = batcher_take(&d->batcher, &plan, b->tickets, b->cap, now_us);
        b->reason = plan.reason;
        for (uint32_t i = 0; i < b->n; i++)
            b->tickets[i]->batch = b;
        if (!prune(d, b, now_us, fx)) {
            batch_free(d, b);
            continue;
        }
        struct replica *r = replicas_choose(d, b->tickets[0]->request->version, now_us);
        if (r)
            send(d, b, r, now_us, fx);
        else
            wait_again(d, b);
    }
    return UINT64_MAX;
}

static void ask_wake(struct desk *d, uint64_t at_us, uint64_t now_us, struct effects *fx)
{
    uint64_t doom_us = batcher_doom_us(&d->batcher);
    at_us = min_us(at_us, doom_us > now_us ? doom_us : now_us + 1000);
    at_us = min_us(at_us, d->overdue_us);
    bool waits = d->batcher.count > 0 || d->again;
    if (waits && d->n_up == 0)
        at_us = min_us(at_us, d->alone_since_us + d->model->rules.grace_us);
    if (waits)
        at_us = min_us(at_us, replicas_pause_ends(d, now_us));
    if (at_us < d->wake_us) {
        d->wake_us = at_us;
        fx_wake(fx, d, at_us);
    }
}

void desk_run(struct desk *d, uint64_t now_us, struct effects *fx)
{
    drop_doomed(d, now_us, fx);
    recall_all_overdue(d, now_us, fx);
    if (d->n_up == 0 && now_us >= d->alone_since_us + d->model->rules.grace_us)
        refuse_all(d, fx);
    if (d->again)
        send_again(d, now_us, fx);
    uint64_t at_us = send_queued(d, now_us, fx);
    ask_wake(d, at_us, now_us, fx);
    atomic_store_explicit(&d->model->waiting, (uint32_t)d->batcher.rows, memory_order_relaxed);
    atomic_store_explicit(&d->model->running, d->running_rows, memory_order_relaxed);
}

void desk_on_wake(struct desk *d, uint64_t now_us, struct effects *fx)
{
    d->wake_us = UINT64_MAX;
    desk_run(d, now_us, fx);
}
