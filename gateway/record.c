#include "gateway/record.h"

#include "base/check.h"
#include "base/count.h"
#include "gateway/predictions.h"
#include "infer/prediction.h"

#define HAND_US 100000
#define PROMISED 8192 // bytes of a record beside its values

_Static_assert((int)RECORDED_NONE == DETAIL_NONE && (int)RECORDED_HASH == DETAIL_HASH &&
                   (int)RECORDED_FULL == DETAIL_FULL,
               "one is the other");

static const struct config_model *rules_of(const struct request *r, const struct model *m)
{
    const struct config_model *c = snapshot_model(r->snap, m->name);
    return c ? c : &r->snap->config->unlisted;
}

static bool is_on(const struct part *p)
{
    return p->snap->config->predictions.on;
}

// Bresenham's rule: of every million predictions so many are recorded, evenly spread.
static bool is_drawn(struct record_lane *l, const struct config_model *c)
{
    l->sampled += c->predict_ppm;
    if (l->sampled < 1000000)
        return false;
    l->sampled -= 1000000;
    return true;
}

// ---- room ----------------------------------------------------------------------------------------------

bool record_promise(struct request *r, const struct model *m, struct error *e)
{
    struct part *p = r->part;
    const struct config_predictions *log = &p->snap->config->predictions;
    if (!log->on || !log->required)
        return true;
    const struct config_model *c = rules_of(r, m);
    if (!c->predict_required)
        return true;
    bool said = c->predict_parameters || c->predict_header_count > 0;
    size_t n = PROMISED + (said ? PREDICTION_SAID : 0) +
               (c->predict_inputs == RECORDED_FULL ? log->max_bytes : 0) +
               (c->predict_outputs == RECORDED_FULL ? log->max_bytes : 0);
    if (chunks_promise(&p->lane->chunks, n, log->ring_bytes)) {
        r->promised = n;
        return true;
    }
    count_add(&p->lane->refused, 1);
    return error_set(e, STATUS_UNAVAILABLE,
                     "predictions: no room for the record that this model's predictions require");
}

void record_forget(struct request *r)
{
    if (r->promised > 0)
        chunks_keep(&r->part->lane->chunks, r->promised);
    r->promised = 0;
}

// ---- to the writer -------------------------------------------------------------------------------------

static void on_hand(struct wheel_timer *t, uint64_t now_us)
{
    struct record_lane *l = container_of(t, struct record_lane, hand);
    if (!chunks_hand(&l->chunks))
        wheel_set(loop_wheel(l->loop), t, now_us + HAND_US);
    predictions_nudge(l);
}

static void hand_later(struct record_lane *l, uint64_t now_us)
{
    l->hand.fn = on_hand;
    if (!wheel_is_set(&l->hand))
        wheel_set(loop_wheel(l->loop), &l->hand, now_us + HAND_US);
}

// ---- what is recorded ----------------------------------------------------------------------------------

static void fill_texts(const struct request *r, struct view text[PREDICTION_TEXTS])
{
    const struct answer_meta *m = &r->serving.meta;
    struct view asked = r->infer.request.model;
    bool other = m->model.n > 0 && m->model.p != m->fallback.p && m->model.p != asked.p &&
                 !view_eq(m->model, asked);
    text[PREDICTION_ID] = m->request_id;
    text[PREDICTION_TENANT] = r->tenant;
    text[PREDICTION_ASKED] = asked;
    text[PREDICTION_ANSWERED] = other ? m->model : VIEW("");
    text[PREDICTION_VERSION] = m->version;
    text[PREDICTION_EXPERIMENT] = m->experiment;
    text[PREDICTION_VARIANT] = m->variant;
    text[PREDICTION_ATTEMPTS] = m->attempts;
}

// Of a field that came twice the first counts. Returns how many.
static unsigned fill_headers(const struct request *r, const struct config_model *c,
                             struct param to[CONFIG_MAX_RECORDED])
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->predict_header_count; i++) {
        const char *name = c->predict_headers[i];
        struct view value = exchange_header(r->serving.ex, name);
        if (value.p)
            to[n++] = (struct param){.key = view_str(name), .type = PARAM_STRING, .s = value};
    }
    return n;
}

static void fill_facts(const struct request *r, struct prediction_facts *f)
{
    const struct answer_meta *m = &r->serving.meta;
    struct loop *l = r->part->loop;
    uint64_t took_us = loop_now_us(l) - r->serving.ex->started_us;
    f->wall_us = loop_wall_us(l);
    f->parse_us = m->parse_us;
    f->queue_us = m->queue_us;
    f->compute_us = m->compute_us;
    f->outcome = status_table[r->infer.error.status].name;
    f->source = m->source;
    f->reason = m->batch_reason;
    f->rows = r->infer.request.rows;
    f->batch_rows = m->batch_rows;
    f->age_s = m->age_s;
    f->aged = m->aged;
    f->level = standing_level(r->infer.step.to.model);
    // As serving_answer has it: a loop reads its clock once a turn.
    f->total_us = took_us < f->queue_us + f->compute_us ? f->queue_us + f->compute_us : took_us;
}

static void record(struct request *r, const struct config_model *c)
{
    struct record_lane *l = r->part->lane;
    const struct config_predictions *log = &r->part->snap->config->predictions;
    bool answered = r->infer.error.status == STATUS_OK;
    struct param headers[CONFIG_MAX_RECORDED];
    struct prediction p; // all of it is set
    p.headers = headers;
    p.n_headers = fill_headers(r, c, headers);
    p.request = &r->infer.request;
    p.answer = answered ? r->infer.answer : NULL;
    fill_texts(r, p.text);
    fill_facts(r, &p.facts);
    // At level 1 what may be left out is.
    struct prediction_rules rules = {.inputs = p.facts.level > 0 ? DETAIL_NONE : c->predict_inputs,
                                     .outputs = c->predict_outputs,
                                     .most = log->max_bytes,
                                     .parameters = p.facts.level == 0 && c->predict_parameters,
                                     .redact = c->redact,
                                     .redacts = c->redact_count};
    uint64_t handed = chunks_handed(&l->chunks);
    uint8_t *to =
        chunks_room(&l->chunks, prediction_room(&p, &rules), r->promised > 0, log->ring_bytes);
    if (to)
        chunks_add(&l->chunks, prediction_pack(to, &p, &rules), c->predict_required);
    if (to)
        hand_later(l, loop_now_us(l->loop));
    if (chunks_handed(&l->chunks) != handed)
        predictions_nudge(l);
}

void record_settled(struct request *r)
{
    if (is_on(r->part)) {
        const struct config_model *c = rules_of(r, r->infer.step.to.model);
        if (is_drawn(r->part->lane, c))
            record(r, c);
    }
    record_forget(r);
}
