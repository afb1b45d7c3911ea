// Answers that flow: what both carriers have in common.
#include "base/check.h"
#include "http/conn.h"

void exchange_start(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    struct http_conn *c = ex->conn;
    if (ex->gone || !c)
        return;
    invariant(!ex->responded && r->n_body == 0 && r->n_trailers == 0 && ex->ops->on_want);
    invariant(ex->whole_request || ex->carrier == HTTP_2);
    ex->responded = true;
    ex->status = r->status;
    if (c->mute) // its reader was given up: on_sent follows with the connection's end
        return;
    ex->closing = c->closing;
    ex->flow = arena_zalloc(&ex->arena, sizeof(*ex->flow));
    if (ex->flow) {
        ex->flow->ask_us = UINT64_MAX;
        ex->out = ex->flow->piece;
    }
    if (c->kind == CONN_H2)
        h2_start(ex, r, now_us);
    else
        h1_start(ex, r, now_us);
}

void exchange_put(struct exchange *ex, struct http_seg piece)
{
    invariant(ex->flow->asking && ex->flow->state == FLOW_READY && ex->n_out < FLOW_PIECES);
    if (piece.n > 0)
        ex->out[ex->n_out++] = piece;
    else if (piece.block)
        block_unref(piece.block);
    ex->sent_bytes += piece.n;
}

void exchange_end(struct exchange *ex, const struct http_header *trailers, unsigned n_trailers)
{
    struct http_flow *f = ex->flow;
    invariant(f->asking && f->state == FLOW_READY);
    f->state = FLOW_ENDED;
    if (n_trailers > 0 && ex->carrier == HTTP_2 && !keep_trailers(ex, trailers, n_trailers))
        f->cut = true; // trailers that are not whole would tell something else
}

void exchange_cut(struct exchange *ex)
{
    invariant(ex->flow->asking && ex->flow->state == FLOW_READY);
    ex->flow->state = FLOW_ENDED;
    ex->flow->cut = true;
}

void exchange_ask_at(struct exchange *ex, uint64_t at_us)
{
    invariant(ex->flow->asking);
    ex->flow->ask_us = at_us;
}

bool flow_ask(struct exchange *ex)
{
    struct http_flow *f = ex->flow;
    ex->n_out = ex->out_at = 0;
    ex->out_off = 0;
    f->ask_us = UINT64_MAX;
    f->asking = true;
    ex->ops->on_want(ex, ex->ctx);
    f->asking = false;
    if (ex->n_out > 0 || f->state == FLOW_ENDED)
        return true;
    f->state = FLOW_SILENT;
    return false;
}

void exchange_wake(struct exchange *ex, uint64_t now_us)
{
    if (!ex->conn || !flow_is_silent(ex))
        return;
    ex->conn->now_us = now_us;
    ex->flow->state = FLOW_READY;
    ex->progress_us = now_us; // from here on it is the client that is waited for
    if (ex->carrier == HTTP_2)
        h2_wake(ex);
}

void flow_tell_closing(struct http_conn *c)
{
    c->closing = true;
    for (struct exchange *ex = c->live; ex; ex = ex->next) {
        ex->closing = true;
        exchange_wake(ex, c->now_us);
    }
}
