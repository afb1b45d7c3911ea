#include "gateway/access.h"
#include "gateway/origin.h"

static void count(struct request *r, uint64_t total_us)
{
    struct metrics *s = &r->part->metrics;
    struct model *m = r->infer.step.to.model;
    struct model_metrics *mm = m ? metrics_model(s, m) : NULL;
    const struct answer_meta *meta = &r->serving.meta;
    enum status outcome = r->serving.outcome;
    if (!mm) {
        metrics_inc(&s->other[outcome], 1);
        return;
    }
    metrics_inc(&mm->requests[outcome], 1);
    if (outcome != STATUS_OK)
        return;
    hist_add(&mm->stage[STAGE_TOTAL], total_us);
    hist_add(&mm->stage[STAGE_PARSE], meta->parse_us);
    hist_add(&mm->stage[STAGE_QUEUE], meta->queue_us);
    hist_add(&mm->stage[STAGE_COMPUTE], meta->compute_us);
}

// Bresenham's rule: of every million requests sample_ppm are written, evenly spread.
static bool sampled(struct part *p)
{
    uint32_t ppm = p->gateway->config->log.sample_ppm;
    p->sampled += ppm;
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
        metrics_inc(&p->metrics.log_lines, 1);
    }
}

static void write_access(struct request *r, bool whole, uint64_t total_us)
{
    static const char *const protocol[] = {"http/1.0", "http/1.1", "h2"};
    struct part *p = r->part;
    const struct serving *s = &r->serving;
    struct exchange *ex = s->ex;
    bool failed = s->outcome != STATUS_OK || !whole;
    if (!p->gateway->config->log.access || (!sampled(p) && !failed))
        return;
    struct access_entry e = {
        .wall_us = loop_wall_us(p->loop),
        .client = r->client,
        .request_id = s->meta.request_id,
        .method = ex->method,
        .path = ex->path,
        .model = r->infer.request.model,
        .version = s->meta.version,
        .protocol = s->call.grpc ? "grpc" : protocol[ex->carrier],
        .source = s->meta.source,
        .reason = s->meta.batch_reason,
        .outcome = status_table[s->outcome].name,
        .status = ex->status ? ex->status : status_table[s->outcome].http,
        .loop = (uint16_t)p->loop->index,
        .whole = whole,
        .rows = r->infer.request.rows,
        .batch_rows = s->meta.batch_rows,
        .in_bytes = s->in_bytes ? s->in_bytes : buffer_len(&ex->body),
        .out_bytes = ex->sent_bytes,
        .parse_us = s->meta.parse_us,
        .queue_us = s->meta.queue_us,
        .compute_us = s->meta.compute_us,
        .total_us = total_us,
    };
    put_line(p, &e);
}

void tell_end(struct request *r, bool whole)
{
    const struct exchange *ex = r->serving.ex;
    uint64_t total_us = loop_now_us(r->part->loop) - ex->started_us;
    if (total_us < r->serving.meta.total_us)
        total_us = r->serving.meta.total_us;
    if (ex->carrier == HTTP_2)
        metrics_inc(&r->part->metrics.streams, (uint64_t)-1);
    count(r, total_us);
    write_access(r, whole, total_us);
    if (r->infer.step.to.model)
        part_unuse(r->part, r->infer.step.to.model);
}

void tell_refused(struct part *p, struct http_conn *c, enum status outcome, unsigned http,
                  const char *why)
{
    metrics_inc(&p->metrics.refused[outcome], 1);
    if (!p->gateway->config->log.access)
        return;
    struct access_entry e = {.wall_us = loop_wall_us(p->loop),
                             .client = server_conn_peer(c),
                             .status = (uint16_t)http,
                             .outcome = status_table[outcome].name,
                             .why = why,
                             .loop = (uint16_t)p->loop->index};
    put_line(p, &e);
}
