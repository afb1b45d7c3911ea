#include "base/count.h"
#include "gateway/access.h"
#include "gateway/origin.h"
#include "gateway/rewards.h"
#include "gateway/statistics.h"

// DEMANDS: none, its client was wrong.
static enum demand demand_of(const struct request *r)
{
    static const enum demand by_source[SOURCES] = {[SOURCE_MODEL] = DEMAND_ITSELF,
                                                   [SOURCE_CACHE] = DEMAND_CACHE,
                                                   [SOURCE_STALE] = DEMAND_STALE,
                                                   [SOURCE_DEFAULT] = DEMAND_DEFAULT};
    enum answer_source source = r->infer.source;
    bool other = r->serving.meta.fallback.n > 0 && source != SOURCE_DEFAULT;
    switch (r->serving.outcome) {
    case STATUS_OK:
        return other ? DEMAND_FALLBACK : by_source[source];
    case STATUS_UNAVAILABLE:
    case STATUS_QUOTA:
        return DEMAND_SHED;
    case STATUS_DEADLINE:
    case STATUS_CLIENT_GONE:
        return DEMAND_LATE;
    default:
        return status_table[r->serving.outcome].http >= 500 ? DEMAND_FAILED : DEMANDS;
    }
}

static void count_demand(const struct request *r, struct model_metrics *mm, const struct model *m)
{
    enum demand k = demand_of(r);
    bool single = atomic_load_explicit(&m->single, memory_order_relaxed);
    if (k < DEMANDS)
        metrics_demand_add(mm, m, k, single ? 1 : request_rows(&r->infer.request));
}

static void count(struct request *r, uint64_t total_us)
{
    struct metrics *s = &r->part->metrics;
    struct model *m = r->infer.step.to.model;
    struct model_metrics *mm = m ? metrics_model(s, m) : NULL;
    const struct answer_meta *meta = &r->serving.meta;
    enum status outcome = r->serving.outcome;
    if (!mm) {
        count_add(&s->other[outcome], 1);
        return;
    }
    count_demand(r, mm, m);
    enum answer_source source = r->infer.source;
    if (outcome != STATUS_OK) {
        count_add(&mm->failures[outcome], 1);
        figures_failed(mm, m, r->infer.request.version, total_us);
        return;
    }
    bool other = meta->fallback.n > 0; // its versions are no versions of this one
    figures_answered(mm, other ? VIEW("") : meta->version, meta, source, total_us);
    count_add(&mm->answers[source], 1);
    count_add(&mm->fallbacks, other);
    if (other && source != SOURCE_DEFAULT && meta->model.n > 0) // 0: out of memory
        metrics_answered_by(mm, meta->model);
    hist_add(&mm->stage[STAGE_TOTAL], total_us);
    hist_add(&mm->stage[STAGE_PARSE], meta->parse_us);
    if (source != SOURCE_MODEL)
        return;
    hist_add(&mm->stage[STAGE_QUEUE], meta->queue_us);
    hist_add(&mm->stage[STAGE_COMPUTE], meta->compute_us);
}

// By experiment and variant; of whom none took, why.
static void count_draw(struct request *r, uint64_t total_us)
{
    struct trial *t = experiments_trial(r->place, &r->draw);
    struct trial_counts *c = experiments_counts(t, r->part->loop->index);
    const struct serving *s = &r->serving;
    if (!c)
        return;
    if (r->draw.how == DRAW_FORCED)
        count_add(&c->forced, 1);
    if (!r->draw.experiment)
        count_add(&c->outside[r->draw.how], 1);
    if (r->draw.how != DRAW_TAKEN)
        return;
    count_add(&c->requests[s->outcome], 1);
    rewards_enter(r);
    if (s->outcome != STATUS_OK)
        return;
    count_add(&c->fallbacks, s->meta.fallback.n > 0);
    hist_add(&c->took, total_us);
}

// Bresenham's rule: of every million requests sample_ppm are written, evenly spread.
static bool sampled(struct part *p, const struct snapshot *snap)
{
    p->sampled += snap->config->log.sample_ppm;
    if (p->sampled < 1000000)
        return false;
    p->sampled -= 1000000;
    return true;
}

static void put_line(struct part *p, const struct access_entry *e)
{
    buffer_reset(&p->line);
    if (access_format(&p->line, e)) {
        log_write(p->gateway->log, p->loop->index, SINK_ACCESS, buffer_view(&p->line));
        count_add(&p->metrics.log_lines, 1);
    }
}

static const char *protocol_of(const struct serving *s)
{
    static const char *const protocol[] = {"http/1.0", "http/1.1", "h2"};
    return s->call.grpc ? "grpc" : protocol[s->ex->carrier];
}

static uint16_t http_status(const struct serving *s)
{
    return s->ex->status ? s->ex->status : status_table[s->outcome].http;
}

// Its model, where that is another than the one that it named.
static struct view answered_by(const struct request *r)
{
    const struct answer_meta *m = &r->serving.meta;
    struct view named = r->infer.request.model;
    bool written = m->model.p == m->fallback.p; // what is written down answered
    bool other = m->model.p != named.p && !written && !view_eq(m->model, named);
    return other ? m->model : (struct view){0};
}

static void write_access(struct request *r, bool whole, uint64_t total_us, uint64_t wall_us)
{
    struct part *p = r->part;
    const struct serving *s = &r->serving;
    struct exchange *ex = s->ex;
    bool failed = s->outcome != STATUS_OK || !whole;
    if (!r->snap->config->log.access || (!sampled(p, r->snap) && !failed))
        return;
    struct access_entry e = {
        .wall_us = wall_us,
        .client = r->client,
        .request_id = s->meta.request_id,
        .method = ex->method,
        .path = ex->path,
        .model = r->infer.request.model,
        .version = s->meta.version,
        .tenant = r->tenant,
        .protocol = protocol_of(s),
        .source = s->meta.source,
        .aged = s->meta.aged,
        .age_s = s->meta.age_s,
        .answered = answered_by(r),
        .experiment = s->meta.experiment,
        .variant = s->meta.variant,
        .draw = r->place && r->draw.how != DRAW_TAKEN ? draw_how_name[r->draw.how] : NULL,
        .attempts = s->meta.attempts,
        .reason = s->meta.batch_reason,
        .outcome = status_table[s->outcome].name,
        .status = http_status(s),
        .loop = (uint16_t)p->loop->index,
        .whole = whole,
        .rows = r->infer.request.rows,
        .batch_rows = s->meta.batch_rows,
        .batch_id = r->infer.at ? r->infer.at->batch_id : 0,
        .in_bytes = s->in_bytes ? s->in_bytes : buffer_len(&ex->body),
        .out_bytes = ex->sent_bytes,
        .parse_us = s->meta.parse_us,
        .queue_us = s->meta.queue_us,
        .compute_us = s->meta.compute_us,
        .total_us = total_us,
    };
    put_line(p, &e);
}

// ---- what is remembered ------------------------------------------------------------------------------

static uint64_t left_us(const struct ticket *t)
{
    uint64_t sent_us = t->queued_us + t->queue_us;
    return t->deadline_us > sent_us ? t->deadline_us - sent_us : 0;
}

// Who shows it goes by `out`, `sent` and `batch_rows`: what they rule out may say anything.
static void remember_ticket(struct past_ticket *p, const struct ticket *t)
{
    p->rows = request_rows(t->request);
    p->out = t->lent;
    if (t->lent)
        return; // the rest is its home's
    p->outcome = (uint8_t)t->error.status;
    p->called =
        t->error.status == STATUS_CLIENT_GONE || (t->cancelled && t->error.status != STATUS_OK);
    p->losses = t->losses;
    p->deaths = t->deaths;
    p->refusals = t->refusals;
    p->sent = t->sent;
    p->replica = t->replica;
    p->queue_us = t->queue_us;
    p->left_us = left_us(t);
    p->batch_rows = t->batch_rows;
    p->reason = t->batch_reason;
    p->compute_us = t->compute_us;
}

// A step that is over has lent its tickets; one that was refused has not.
static void remember_tickets(struct past_request *p, const struct step *s)
{
    p->tickets = s->over ? s->n : 0;
    for (uint32_t i = 0; i < p->tickets && i < PAST_TICKETS; i++)
        remember_ticket(&p->ticket[i], &s->tickets[i]);
}

// The step that answered, or that was given up last.
static const struct step *asked_last(const struct request *r)
{
    return r->infer.at ? r->infer.at : &r->infer.step;
}

// Of the models behind the first only the chain's own names are sure to be there still.
static struct view name_of_last(const struct request *r)
{
    const struct infer *in = &r->infer;
    if (r->serving.meta.model.n > 0 || !in->walk)
        return r->serving.meta.model.n > 0 ? r->serving.meta.model : in->step.to.name;
    return in->chain->links[in->walk->attempt[in->walk->n - 1].link].name;
}

static struct past_request *remember_texts(struct past *past, const struct request *r)
{
    const struct serving *s = &r->serving;
    const struct view words[PAST_WORDS] = {
        [PAST_WORD_ID] = s->meta.request_id,
        [PAST_WORD_CLIENT] = r->client,
        [PAST_WORD_ASKED] = r->infer.request.model,
        [PAST_WORD_ANSWERED] = name_of_last(r),
        [PAST_WORD_EXPERIMENT] = s->meta.experiment,
        [PAST_WORD_VARIANT] = s->meta.variant,
        [PAST_WORD_SHADOW] = r->shadow ? view_str(r->shadow->variant) : (struct view){0},
        [PAST_WORD_ATTEMPTS] = s->meta.attempts,
        [PAST_WORD_VERSION] = s->meta.version.n ? s->meta.version : r->infer.step.to.version,
        [PAST_WORD_WHY] = s->why,
    };
    return past_add(past, words);
}

static void remember(struct request *r, bool whole, uint64_t total_us, uint64_t wall_us)
{
    struct part *part = r->part;
    const struct serving *s = &r->serving;
    struct past_request *p = remember_texts(&part->past, r);
    p->ended_us = wall_us;
    p->arrived_us = wall_us - (loop_now_us(part->loop) - s->ex->started_us);
    p->parse_us = s->meta.parse_us;
    p->queue_us = s->meta.queue_us;
    p->compute_us = s->meta.compute_us;
    p->answered_us = s->meta.total_us;
    p->total_us = total_us;
    p->deadline_us = r->infer.deadline_us ? r->infer.deadline_us - r->infer.arrived_us : 0;
    p->standing = r->standing;
    p->shadow = r->shade;
    p->rows = r->infer.request.rows;
    p->http = http_status(s);
    p->loop = (uint16_t)part->loop->index;
    p->outcome = (uint8_t)s->outcome;
    p->whole = whole;
    p->protocol = protocol_of(s);
    p->source = s->meta.source;
    p->draw = r->place ? draw_how_name[r->draw.how] : NULL;
    p->aged = s->meta.aged;
    p->age_s = s->meta.age_s;
    remember_tickets(p, asked_last(r));
    r->past = p->number;
}

void tell_home(struct request *r)
{
    struct past_request *p = past_at(&r->part->past, r->past);
    if (p)
        remember_tickets(p, asked_last(r));
}

void tell_shadow(struct request *r)
{
    struct past_request *p = r->past > 0 ? past_at(&r->part->past, r->past) : NULL;
    if (p)
        p->shadow = r->shade;
}

// ---- the end -----------------------------------------------------------------------------------------

void tell_end(struct request *r, bool whole)
{
    const struct exchange *ex = r->serving.ex;
    uint64_t wall_us = loop_wall_us(r->part->loop);
    uint64_t total_us = loop_now_us(r->part->loop) - ex->started_us;
    if (total_us < r->serving.meta.total_us)
        total_us = r->serving.meta.total_us;
    if (ex->carrier == HTTP_2)
        count_add(&r->part->metrics.streams, (uint64_t)-1);
    count(r, total_us);
    if (r->place)
        count_draw(r, total_us);
    write_access(r, whole, total_us, wall_us);
    if (r->part->past.n > 0 &&
        r->serving.call.kind <= API_INFER) // what no route takes is told of too
        remember(r, whole, total_us, wall_us);
    if (r->infer.step.to.model)
        part_unuse(r->part, r->infer.step.to.model);
    snapshot_let_go(r->part, r->snap);
}

void tell_refused(struct part *p, struct http_conn *c, enum status outcome, unsigned http,
                  const char *why)
{
    count_add(&p->metrics.refused[outcome], 1);
    if (!p->snap->config->log.access)
        return;
    struct access_entry e = {.wall_us = loop_wall_us(p->loop),
                             .client = server_conn_peer(c),
                             .status = (uint16_t)http,
                             .outcome = status_table[outcome].name,
                             .why = why,
                             .loop = (uint16_t)p->loop->index};
    put_line(p, &e);
}
