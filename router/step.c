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

static bool ticket_charge(struct ticket *t)
{
    struct model *m = t->to.model;
    if (t->cache == CACHE_ONLY_STALE)
        return true; // it never queues; where it waits for a store, that bounds it
    int64_t bytes = (int64_t)t->request->bytes;
    t->charged_rows = room_rows(t); // kept: the model may change its ways meanwhile
    t->charged_bytes = t->request->bytes;
    int64_t all_rows =
        atomic_fetch_add_explicit(&m->room_rows, t->charged_rows, memory_order_relaxed) +
        t->charged_rows;
    int64_t all_bytes =
        atomic_fetch_add_explicit(&m->room_bytes, bytes, memory_order_relaxed) + bytes;
    uint64_t most_bytes = atomic_load_explicit(&m->queue_bytes, memory_order_relaxed);
    return all_rows <= atomic_load_explicit(&m->queue_limit, memory_order_relaxed) &&
           (most_bytes == 0 || all_bytes <= (int64_t)most_bytes);
}

static void ticket_discharge(struct ticket *t)
{
    struct model *m = t->to.model;
    if (t->charged_rows == 0)
        return;
    atomic_fetch_sub_explicit(&m->room_rows, t->charged_rows, memory_order_relaxed);
    atomic_fetch_sub_explicit(&m->room_bytes, (int64_t)t->charged_bytes, memory_order_relaxed);
    t->charged_rows = 0;
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

static bool make_tickets(struct step *s, struct infer *in, uint64_t deadline_us, struct effects *fx)
{
    uint32_t max_rows = rows_at_once(s->to.model);
    if (parts_of(&in->request, max_rows) == 1) {
        s->tickets = &s->first;
        s->n = 1;
        ticket_fill(s, s->tickets, &in->request, deadline_us);
        return true;
    }
    in->error = why_whole(s, max_rows, fx);
    if (in->error.status == STATUS_OK && !split_request(s, in, max_rows, deadline_us))
        in->error = *FAILED(STATUS_UNAVAILABLE, "out of memory");
    return in->error.status == STATUS_OK;
}

bool step_begin(struct step *s, struct infer *in, uint64_t deadline_us, struct effects *fx)
{
    if (!make_tickets(s, in, deadline_us, fx))
        return false;
    bool room = true;
    for (uint32_t i = 0; room && i < s->n; i++)
        room = ticket_charge(&s->tickets[i]);
    if (room)
        return true;
    for (uint32_t i = 0; i < s->n; i++)
        ticket_discharge(&s->tickets[i]);
    model_turned(s->to.model, in->request.rows ? in->request.rows : 1);
    in->error = failure_format(fx->blocks, STATUS_UNAVAILABLE, "model %.*s: the queue is full",
                               VIEW_ARG(s->to.model->name));
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
        ticket_discharge(t);
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
