// Answers and control frames on their way out (RFC 9113, 4 to 6 and 8). Nothing is made into frames before there is room:
// the peer's HPACK table knows only what has gone.
#include "http/h2_conn.h"

#include "base/check.h"
#include "base/pen.h"

#define OUTPUT_HIGH (256u << 10) // stop making frames while so much waits
#define FLOWS SIZE_MAX           // for a length that nobody knows yet

static void conn_break(struct http_conn *c)
{
    c->done = c->h2->broken = true;
}

// ---- control frames ----------------------------------------------------------------------------------

void h2_control(struct http_conn *c, enum h2_type type, unsigned flags, uint32_t id, const void *p,
                size_t n)
{
    struct buffer *b = &c->h2->control;
    uint8_t *to = buffer_room(b, H2_FRAME_HEAD + n);
    if (!to) {
        conn_break(c);
        return;
    }
    to = h2_put_head(to, n, type, flags, id);
    if (n > 0)
        memcpy(to, p, n);
    buffer_commit(b, H2_FRAME_HEAD + n);
}

void h2_control_u32(struct http_conn *c, enum h2_type type, uint32_t id, uint32_t v)
{
    uint8_t bytes[4];
    h2_put_u32(bytes, v);
    h2_control(c, type, 0, id, bytes, sizeof(bytes));
}

// One of them into the output.
static void control_move(struct http_conn *c)
{
    struct h2_conn *h = c->h2;
    const uint8_t *p = h->control.data + h->control.at;
    size_t n = H2_FRAME_HEAD + ((size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2]);
    if (!out_copy(&c->out, p, n))
        conn_break(c);
    buffer_consume(&h->control, n);
    if (buffer_len(&h->control) == 0) {
        buffer_reset(&h->control);
        h->n_acks = 0;
    }
}

// ---- whose turn it is --------------------------------------------------------------------------------

void h2_queue(struct h2_conn *h, struct exchange *ex)
{
    bool any = ex->responded || ex->failed || ex->continue_due;
    if (ex->turn_prev || !any || flow_is_silent(ex))
        return;
    ex->turn_next = NULL;
    ex->turn_prev = h->last;
    *h->last = ex;
    h->last = &ex->turn_next;
}

void h2_unqueue(struct h2_conn *h, struct exchange *ex)
{
    if (!ex->turn_prev)
        return;
    *ex->turn_prev = ex->turn_next;
    if (ex->turn_next)
        ex->turn_next->turn_prev = ex->turn_prev;
    else
        h->last = ex->turn_prev;
    ex->turn_prev = NULL;
}

void h2_queue_all(struct http_conn *c)
{
    for (struct exchange *ex = c->live; ex; ex = ex->next)
        h2_queue(c->h2, ex);
}

// ---- header blocks -----------------------------------------------------------------------------------

// Fields whose value no other answer repeats.
static bool is_passing(struct view name)
{
    return view_is(name, "x-request-id") || view_is(name, "server-timing") ||
           view_is(name, "content-length") || view_is(name, "grpc-message") || view_is(name, "age");
}

// A block of n bytes behind the room of its head becomes as many frames as it needs; they lie behind it. Their end.
static uint8_t *block_split(uint8_t *frame, size_t n, unsigned flags, uint32_t id)
{
    size_t more = n > H2_FRAME_OURS ? (n - 1) / H2_FRAME_OURS : 0, left = n - more * H2_FRAME_OURS;
    uint8_t *from = frame + H2_FRAME_HEAD;
    for (size_t i = more; i > 0; i--) { // the last one first: it moves furthest
        uint8_t *to = from + i * (H2_FRAME_OURS + H2_FRAME_HEAD);
        memmove(to, from + i * H2_FRAME_OURS, left);
        h2_put_head(to - H2_FRAME_HEAD, left, H2_CONTINUATION, i == more ? H2_END_HEADERS : 0, id);
        left = H2_FRAME_OURS;
    }
    h2_put_head(frame, left, H2_HEADERS, flags | (more == 0 ? H2_END_HEADERS : 0), id);
    return from + n + more * H2_FRAME_HEAD;
}

// status: 0: of trailers. False: out of memory, and the peer's table may be another than ours.
static bool block_write(struct http_conn *c, const struct exchange *ex, unsigned status,
                        const struct http_header *fields, unsigned n, bool last)
{
    struct hpack_writer *w = &c->h2->writer;
    size_t room = HPACK_BEGIN_ROOM + HPACK_FIELD_ROOM + 10;
    for (unsigned i = 0; i < n; i++)
        room += HPACK_FIELD_ROOM + fields[i].name.n + fields[i].value.n;
    uint8_t *frame = out_room(&c->out, H2_FRAME_HEAD * (2 + room / H2_FRAME_OURS) + room);
    if (!frame)
        return false;
    uint8_t *from = frame + H2_FRAME_HEAD, *at = hpack_write_begin(w, from);
    if (status > 0)
        at = hpack_write_status(w, at, status);
    for (unsigned i = 0; i < n; i++)
        at = hpack_write(w, at, fields[i].name, fields[i].value, is_passing(fields[i].name));
    at = block_split(frame, (size_t)(at - from), last ? H2_END_STREAM : 0, ex->stream_id);
    return out_commit(&c->out, (size_t)(at - frame));
}

// ---- an answer is kept -------------------------------------------------------------------------------

// Takes the blocks over, also when it fails.
static bool keep_body(struct exchange *ex, const struct http_response *r)
{
    ex->out = arena_array(&ex->arena, r->n_body ? r->n_body : 1, sizeof(*ex->out));
    if (!ex->out) {
        drop_segs(r);
        return false;
    }
    for (unsigned i = 0; i < r->n_body; i++) {
        bool empty = r->body[i].n == 0 || ex->is_head;
        if (!empty)
            ex->out[ex->n_out++] = r->body[i];
        else if (r->body[i].block)
            block_unref(r->body[i].block);
    }
    return true;
}

static char *field_keep(struct exchange *ex, char *at, struct view name, struct view value)
{
    ex->fields[ex->n_fields++] = (struct http_header){name, view_of(at, value.n)};
    return pen_view(at, value);
}

// The fields of the head, and of the trailers: the caller's memory is its own again when we return. length: FLOWS, or
// of the body.
static bool keep_fields(struct exchange *ex, const struct http_response *r, size_t length)
{
    size_t bytes = PEN_NUMBER + http_date_n;
    for (unsigned i = 0; i < r->n_headers; i++)
        bytes += r->headers[i].value.n;
    ex->fields = arena_array(&ex->arena, r->n_headers + r->n_trailers + 2, sizeof(*ex->fields));
    char *at = arena_alloc_aligned(&ex->arena, bytes, 1);
    if (!ex->fields || !at || (r->n_trailers > 0 && !keep_trailers(ex, r->trailers, r->n_trailers)))
        return false;
    for (unsigned i = 0; i < r->n_headers; i++)
        at = field_keep(ex, at, r->headers[i].name, r->headers[i].value);
    if (ex->n_out == 0) { // the Trailers-Only form of gRPC
        for (uint32_t i = 0; i < ex->n_trailers; i++)
            ex->fields[ex->n_fields++] = ex->trailers[i];
        ex->n_trailers = 0;
    }
    if (r->n_trailers == 0 && length != FLOWS) {
        char number[PEN_NUMBER];
        size_t n = (size_t)(pen_u64(number, length) - number);
        at = field_keep(ex, at, VIEW("content-length"), view_of(number, n));
    }
    if (http_date_n > 0)
        field_keep(ex, at, VIEW("date"), view_of(http_date, http_date_n));
    return true;
}

static void answer_begin(struct exchange *ex, const struct http_response *r, size_t length,
                         uint64_t now_us)
{
    ex->conn->now_us = ex->progress_us = now_us;
    ex->head_due = true;
    ex->failed = !keep_fields(ex, r, length);
}

void h2_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    size_t length = 0;
    for (unsigned i = 0; i < r->n_body; i++)
        length += r->body[i].n;
    if (keep_body(ex, r))
        answer_begin(ex, r, length, now_us);
    else
        ex->failed = true;
    h2_queue(ex->conn->h2, ex);
}

void h2_start(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    if (ex->flow && ex->is_head)
        ex->flow->state = FLOW_ENDED;
    if (ex->flow)
        answer_begin(ex, r, FLOWS, now_us);
    else
        ex->failed = true;
    h2_queue(ex->conn->h2, ex);
}

void h2_wake(struct exchange *ex)
{
    h2_queue(ex->conn->h2, ex);
    h2_tick_soon(ex->conn);
}

// ---- and sent ----------------------------------------------------------------------------------------

static size_t left_of(const struct exchange *ex)
{
    size_t n = 0;
    for (uint32_t i = ex->out_at; i < ex->n_out; i++)
        n += ex->out[i].n;
    return n - ex->out_off;
}

static void seg_done(struct exchange *ex)
{
    struct http_seg *seg = &ex->out[ex->out_at++];
    ex->out_off = 0;
    if (seg->block)
        block_unref(seg->block);
}

// Copies n bytes of the answer.
static void body_copy(struct exchange *ex, uint8_t *to, size_t n)
{
    while (n > 0) {
        struct http_seg *seg = &ex->out[ex->out_at];
        size_t part = seg->n - ex->out_off < n ? seg->n - ex->out_off : n;
        memcpy(to, seg->p + ex->out_off, part);
        to += part;
        n -= part;
        ex->out_off += part;
        if (ex->out_off == seg->n)
            seg_done(ex);
    }
}

static void ref_done(void *arg)
{
    exchange_unref(arg);
}

// References n bytes of the answer in the output; false: out of memory.
static bool body_refer(struct exchange *ex, struct out *out, size_t n)
{
    while (n > 0) {
        struct http_seg *seg = &ex->out[ex->out_at];
        size_t part = seg->n - ex->out_off < n ? seg->n - ex->out_off : n;
        exchange_ref(ex);
        struct block *b = seg->block ? block_ref(seg->block) : NULL;
        if (!out_refer(out, seg->p + ex->out_off, part, b, ref_done, ex)) {
            exchange_unref(ex);
            if (b)
                block_unref(b);
            return false;
        }
        n -= part;
        ex->out_off += part;
        if (ex->out_off == seg->n)
            seg_done(ex);
    }
    return true;
}

// A DATA frame of n bytes of the answer; false: out of memory.
static bool data_write(struct http_conn *c, struct exchange *ex, size_t n, bool last)
{
    bool copied = n < OUT_COPY_BELOW;
    size_t here = H2_FRAME_HEAD + (copied ? n : 0);
    uint8_t *at = out_room(&c->out, here);
    if (!at)
        return false;
    at = h2_put_head(at, n, H2_DATA, last ? H2_END_STREAM : 0, ex->stream_id);
    if (copied)
        body_copy(ex, at, n);
    c->h2->send_window -= (int64_t)n;
    ex->send_window -= (int64_t)n;
    return out_commit(&c->out, here) && (copied || body_refer(ex, &c->out, n));
}

// Something of an answer that flows is at hand, or its end. Else it was cut, or its source is silent.
static bool flow_has(struct exchange *ex)
{
    if (ex->out_at < ex->n_out)
        return true;
    return (ex->flow->state == FLOW_ENDED || flow_ask(ex)) &&
           (ex->out_at < ex->n_out || !ex->flow->cut);
}

// Its last frame has been made.
static void answer_end(struct http_conn *c, struct exchange *ex)
{
    exchange_ref(ex);
    exchange_tell_sent(ex, true);
    abuse_answered(&c->abuse);
    if (ex->whole_request)
        h2_stream_close(ex);
    else // answered early: the rest of the body is of no use (8.1)
        h2_stream_reset(c, ex, H2_NO_ERROR);
    exchange_unref(ex);
}

static size_t window_of(const struct http_conn *c, const struct exchange *ex)
{
    int64_t n = c->h2->send_window < ex->send_window ? c->h2->send_window : ex->send_window;
    return n < 0 ? 0 : n < H2_FRAME_OURS ? (size_t)n : H2_FRAME_OURS;
}

// The next frame of the body, or of what follows it.
static void body_turn(struct http_conn *c, struct exchange *ex)
{
    size_t most = window_of(c, ex);
    if (ex->flow && ex->out_at == ex->n_out && most == 0)
        return; // nothing is asked for before it can be sent
    if (ex->flow && !flow_has(ex)) {
        if (ex->flow->cut)
            h2_stream_reset(c, ex, H2_INTERNAL_ERROR);
        return;
    }
    size_t left = left_of(ex), n = left < most ? left : most;
    bool last = n == left && (!ex->flow || (ex->flow->state == FLOW_ENDED && !ex->flow->cut));
    bool trailers = last && ex->n_trailers > 0;
    if (n == 0 && !last)
        return; // until a window opens
    ex->progress_us = c->now_us;
    if ((n > 0 || !trailers) && !data_write(c, ex, n, last && !trailers))
        conn_break(c);
    else if (trailers && !block_write(c, ex, 0, ex->trailers, ex->n_trailers, true))
        conn_break(c);
    else if (last)
        answer_end(c, ex);
    else
        h2_queue(c->h2, ex);
}

static void head_turn(struct http_conn *c, struct exchange *ex)
{
    bool body = (ex->n_out > 0 || ex->flow) && !ex->is_head;
    ex->head_due = false;
    if (!block_write(c, ex, ex->status, ex->fields, ex->n_fields, !body))
        conn_break(c);
    else if (body)
        body_turn(c, ex);
    else
        answer_end(c, ex);
}

static void stream_turn(struct http_conn *c, struct exchange *ex)
{
    bool waited_for = ex->continue_due && !ex->responded;
    ex->continue_due = false;
    h2_unqueue(c->h2, ex);
    if (ex->failed)
        h2_stream_reset(c, ex, H2_INTERNAL_ERROR);
    else if (waited_for && !block_write(c, ex, 100, NULL, 0, false))
        conn_break(c);
    else if (waited_for)
        return;
    else if (ex->head_due)
        head_turn(c, ex);
    else
        body_turn(c, ex);
}

void h2_fill(struct http_conn *c, uint64_t now_us)
{
    struct h2_conn *h = c->h2;
    c->now_us = now_us;
    while (!h->broken && c->out.bytes < OUTPUT_HIGH && !out_is_full(&c->out)) {
        if (buffer_len(&h->control) > 0)
            control_move(c);
        else if (h->first && !h->cut)
            stream_turn(c, h->first);
        else
            break;
    }
    bool leaves = h->goaway_last != UINT32_MAX || h->peer_leaves;
    if (buffer_len(&h->control) == 0 && (h->cut || (leaves && c->n_live == 0)))
        c->done = true;
}
