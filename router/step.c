#include "router/step.h"

#include "base/check.h"
#include "batcher/batcher.h"
#include <stddef.h>

// ---- room --------------------------------------------------------------------------------------------

// What it takes of the model's room. Only where a model batches is the first dimension one of rows: an image
// of 1,024 lines is one request.
static uint32_t room_rows(const struct ticket *t)
{
    bool single = atomic_load_explicit(&t->to.model->single, memory_order_relaxed);
    return t->request->rows && !single ? t->request->rows : 1;
}

// Where tenants are not tracked the lowest priority gives way first, as it does for bytes_in_flight: each lane leaves the last
// part of the room, in sixteenths, to those above it.
static uint32_t lane_room(uint32_t limit, unsigned lane)
{
    static const uint8_t sixteenths[BATCHER_LANES] = {16, 15, 12, 8};
    return (uint32_t)(((uint64_t)limit * sixteenths[lane] + 15) / 16);
}

static uint32_t limit_of(const struct model *m)
{
    return atomic_load_explicit(&m->queue_limit, memory_order_relaxed);
}

static struct tenant_books *books_of(struct model *m, uint16_t tenant)
{
    return tenant == TENANT_NONE ? NULL : model_books(m);
}

struct room { // of a model, as one request finds it
    uint32_t limit;
    uint32_t lane; // what may be taken already when it comes
    uint32_t part; // likewise of its tenant's; UINT32_MAX: there is no other
};

static struct room room_for(const struct model *m, const struct tenant_books *b, uint16_t tenant,
                            unsigned lane, uint64_t left_us, uint64_t now_us)
{
    uint32_t limit = limit_of(m);
    struct room r = {.limit = limit, .lane = lane_room(limit, lane), .part = UINT32_MAX};
    if (b)
        r.part = tenants_part(b, tenant, lane, model_useful(m, limit, left_us), now_us);
    if (r.part != UINT32_MAX)
        r.lane = limit; // it is its part that has lanes
    return r;
}

static enum refusal take_rows(struct model *m, const struct room *r, uint32_t rows, uint64_t bytes)
{
    int64_t before = atomic_fetch_add_explicit(&m->room_rows, rows, memory_order_relaxed);
    int64_t all_bytes =
        atomic_fetch_add_explicit(&m->room_bytes, (int64_t)bytes, memory_order_relaxed) +
        (int64_t)bytes;
    uint64_t most_bytes = atomic_load_explicit(&m->queue_bytes, memory_order_relaxed);
    if (before + rows > r->limit || (most_bytes > 0 && all_bytes > (int64_t)most_bytes))
        return REFUSAL_QUEUE;
    return before < r->lane ? REFUSAL_NONE : REFUSAL_PRIORITY;
}

static void give_rows(struct model *m, uint32_t rows, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&m->room_rows, rows, memory_order_relaxed);
    atomic_fetch_sub_explicit(&m->room_bytes, (int64_t)bytes, memory_order_relaxed);
}

// All that its tickets take, or nothing.
static enum refusal step_charge(struct step *s, uint16_t tenant, uint64_t left_us, uint64_t now_us)
{
    struct model *m = s->to.model;
    struct tenant_books *b = books_of(m, tenant);
    struct room r = room_for(m, b, tenant, s->tickets->lane, left_us, now_us);
    uint32_t rows = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        rows += s->tickets[i].charged_rows;
        bytes += s->tickets[i].charged_bytes;
    }
    if (rows == 0)
        return REFUSAL_NONE;
    if (b && !tenants_take(b, tenant, rows, r.part))
        return REFUSAL_TENANT;
    enum refusal why = take_rows(m, &r, rows, bytes);
    if (why == REFUSAL_NONE) {
        s->books = b;
        return why;
    }
    give_rows(m, rows, bytes);
    if (b)
        tenants_give(b, tenant, rows);
    return why;
}

static void ticket_discharge(struct ticket *t, const struct step *s)
{
    if (t->charged_rows == 0)
        return;
    give_rows(t->to.model, t->charged_rows, t->charged_bytes);
    if (s->books)
        tenants_give(s->books, s->infer->tenant, t->charged_rows);
    t->charged_rows = 0;
}

enum refusal step_foresee(struct model *m, uint16_t tenant, unsigned lane, uint64_t left_us,
                          uint64_t now_us)
{
    const struct tenant_books *b = books_of(m, tenant);
    struct room r = room_for(m, b, tenant, lane, left_us, now_us);
    int64_t rows = atomic_load_explicit(&m->room_rows, memory_order_relaxed);
    if (b && r.part != UINT32_MAX &&
        atomic_load_explicit(&b->of[tenant].rows, memory_order_relaxed) >= (int64_t)r.part)
        return REFUSAL_TENANT;
    if (rows >= r.limit)
        return REFUSAL_QUEUE;
    return rows < r.lane ? REFUSAL_NONE : REFUSAL_PRIORITY;
}

struct failure step_refuse(struct model *m, uint16_t tenant, enum refusal why, uint32_t rows,
                           struct effects *fx)
{
    static const char *const words[REFUSALS] = {
        [REFUSAL_QUEUE] = "the queue is full",
        [REFUSAL_PRIORITY] = "what is left of the queue is kept for higher priorities",
        [REFUSAL_TENANT] = "the tenant has its part of the queue, and others want theirs",
    };
    struct tenant_books *b = books_of(m, tenant);
    if (b)
        tenants_refused(b, tenant);
    model_turned(m, rows);
    fx_note(fx, NOTE_SHED, m, rows, why);
    return failure_format(fx->blocks, why == REFUSAL_TENANT ? STATUS_QUOTA : STATUS_UNAVAILABLE,
                          "model %.*s: %s", VIEW_ARG(m->name), words[why]);
}

// ---- its tickets -------------------------------------------------------------------------------------

static void ticket_fill(struct step *s, struct ticket *t, const struct infer_request *r,
                        uint64_t deadline_us)
{
    t->step = s;
    t->to = s->to;
    t->request = r;
    t->key = ticket_key(r, s->to.version);
    t->deadline_us = deadline_us;
    t->lane = batcher_lane_of(r->priority);
    t->cache = (uint8_t)(s->cache_key ? s->cache : CACHE_NONE);
    t->cache_key = s->cache_key;
    t->elsewhere = s->elsewhere;
    t->losses_before = s->losses;
    t->deaths_before = s->deaths;
    t->shadow = s->shadow;
    if (t->cache == CACHE_ONLY_STALE || t->shadow)
        return;                     // it never queues
    t->charged_rows = room_rows(t); // kept: the model may change its ways meanwhile
    t->charged_bytes = r->bytes;
}

// How many tickets it is.
static uint32_t parts_of(const struct infer_request *r, uint32_t max_rows)
{
    if (max_rows == 0 || r->rows <= max_rows)
        return 1;
    return r->rows / max_rows + (r->rows % max_rows != 0);
}

static uint32_t rows_at_once(const struct model *m)
{
    return atomic_load_explicit(&m->max_batch, memory_order_relaxed);
}

size_t step_memory(const struct model *m, const struct infer_request *r)
{
    size_t n = parts_of(r, rows_at_once(m)), align = sizeof(max_align_t);
    size_t part = sizeof(struct ticket) + sizeof(*r) + r->n_inputs * sizeof(*r->inputs) + 3 * align;
    return n > 1 ? n * part : 0;
}

// A ticket for every max_rows of the request's rows.
static bool split_request(struct step *s, struct infer *in, uint32_t max_rows, uint64_t deadline_us)
{
    const struct infer_request *r = &in->request, *part = NULL;
    s->n = parts_of(r, max_rows);
    s->tickets = arena_zalloc(in->arena, s->n * sizeof(*s->tickets));
    for (uint32_t i = 0, row = 0; s->tickets && i < s->n; i++, row += max_rows) {
        uint32_t rows = r->rows - row < max_rows ? r->rows - row : max_rows;
        part = request_part(in->arena, r, row, rows, part);
        if (!part)
            return false;
        ticket_fill(s, &s->tickets[i], part, deadline_us);
        s->tickets[i].cache_row = row;
        s->tickets[i].cache_rows = rows;
    }
    return s->tickets != NULL;
}

// Why a request of so many rows is not split; STATUS_OK: it is.
static struct failure why_whole(const struct step *s, uint32_t max_rows, struct effects *fx)
{
    const struct infer_request *r = &s->infer->request;
    const struct model *m = s->to.model;
    uint32_t limit = atomic_load_explicit(&m->queue_limit, memory_order_relaxed);
    if (r->sequence)
        return failure_format(fx->blocks, STATUS_BAD_REQUEST,
                              "inputs: expected at most %u rows for model %.*s in a request that "
                              "goes alone, got %u",
                              max_rows, VIEW_ARG(m->name), r->rows);
    if (atomic_load_explicit(&m->rowless, memory_order_relaxed))
        return failure_format(fx->blocks, STATUS_BAD_REQUEST,
                              "inputs: expected at most %u rows, for model %.*s has an output "
                              "without rows, got %u",
                              max_rows, VIEW_ARG(m->name), r->rows);
    if (r->rows > limit)
        return failure_format(fx->blocks, STATUS_TOO_LARGE,
                              "inputs: expected at most %u rows, as many as may wait for model "
                              "%.*s, got %u",
                              limit, VIEW_ARG(m->name), r->rows);
    return (struct failure){0};
}

static bool make_tickets(struct step *s, struct infer *in, uint64_t deadline_us, struct failure *e,
                         struct effects *fx)
{
    uint32_t max_rows = rows_at_once(s->to.model);
    if (parts_of(&in->request, max_rows) == 1) {
        s->tickets = &s->first;
        s->n = 1;
        ticket_fill(s, s->tickets, &in->request, deadline_us);
        return true;
    }
    *e = why_whole(s, max_rows, fx);
    if (e->status == STATUS_OK && !split_request(s, in, max_rows, deadline_us))
        *e = *FAILED(STATUS_UNAVAILABLE, "out of memory");
    return e->status == STATUS_OK;
}

bool step_begin_shadow(struct step *s, struct infer *in, uint64_t deadline_us, struct failure *e,
                       struct effects *fx)
{
    s->shadow = true;
    return make_tickets(s, in, deadline_us, e, fx);
}

bool step_begin(struct step *s, struct infer *in, uint64_t deadline_us, uint64_t now_us,
                struct effects *fx)
{
    if (!make_tickets(s, in, deadline_us, &in->error, fx))
        return false;
    enum refusal why = step_charge(s, in->tenant, deadline_us - now_us, now_us);
    if (why == REFUSAL_NONE)
        return true;
    for (uint32_t i = 0; i < s->n; i++)
        s->tickets[i].charged_rows = 0;
    in->error =
        step_refuse(s->to.model, in->tenant, why, in->request.rows ? in->request.rows : 1, fx);
    return false;
}

// ---- out and home ------------------------------------------------------------------------------------

void step_lend(struct step *s, unsigned loop, struct effects *fx)
{
    for (uint32_t i = 0; i < s->n; i++) {
        struct ticket *t = &s->tickets[i];
        t->lent = true;
        s->out++;
        fx_post(fx, &t->lend, MSG_LEND, loop, model_home(t->to.model));
    }
}

// Nobody wants what came of it.
static void drop_outcome(struct ticket *t, struct effects *fx)
{
    if (t->error.status == STATUS_OK)
        effects_add(fx, FX_UNREF)->block = t->slice.answer->block;
}

void step_give_up(struct step *s, unsigned loop, struct effects *fx)
{
    s->over = true;
    for (uint32_t i = 0; i < s->n; i++) {
        struct ticket *t = &s->tickets[i];
        if (!t->lent) {
            drop_outcome(t, fx);
            continue;
        }
        t->called = true;
        s->out++;
        fx_post(fx, &t->cancel, MSG_CANCEL, loop, model_home(t->to.model));
    }
}

static void came_home(struct step *s, struct ticket *t)
{
    s->out--;
    if (!t->lent && !t->called)
        ticket_discharge(t, s);
}

void step_on_echo(struct step *s, struct ticket *t)
{
    invariant(t->called && s->over);
    t->called = false;
    came_home(s, t);
}

static void note_figures(struct step *s, const struct ticket *t)
{
    if (s->answered++ == 0)
        s->batch_reason = t->batch_reason;
    s->source =
        t->source > s->source ? t->source : s->source; // the least that holds for all of its rows
    s->age_s = t->age_s > s->age_s ? t->age_s : s->age_s;
    s->batch_rows = t->batch_rows > s->batch_rows ? t->batch_rows : s->batch_rows;
    s->queue_us = t->queue_us > s->queue_us ? t->queue_us : s->queue_us;
    s->compute_us = t->compute_us > s->compute_us ? t->compute_us : s->compute_us;
}

// The rows of all its tickets become one answer. False: they do not agree, says e.
static bool put_together(struct step *s, struct failure *e, struct effects *fx)
{
    struct error differs;
    for (uint32_t i = 1; i < s->n; i++)
        s->tickets[i - 1].slice.next = &s->tickets[i].slice;
    if (s->n == 1 || slice_agrees(&s->tickets[0].slice, &differs))
        return true;
    *e = failure_format(fx->blocks, differs.status, "%s", differs.text);
    return false;
}

enum step_end step_on_back(struct step *s, struct ticket *t, struct failure *e, struct effects *fx)
{
    invariant(t->lent);
    t->lent = false;
    came_home(s, t);
    if (s->over) {
        drop_outcome(t, fx);
        fx_forget(fx, &t->error);
        return STEP_OUT;
    }
    s->batch_id = s->batch_id ? s->batch_id : t->batch_id;
    if (t->error.status != STATUS_OK) {
        *e = t->error;
        return STEP_FAILED;
    }
    note_figures(s, t);
    if (s->answered < s->n)
        return STEP_OUT;
    s->over = true;
    return put_together(s, e, fx) ? STEP_ANSWERED : STEP_FAILED;
}
