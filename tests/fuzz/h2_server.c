/* Fuzz: an HTTP/2 connection as a server. The input is read as orders: frames that are nearly right, bytes that
 * are not, and what happens around them: slow readers, answers soon, late and in any order, time, drain, end of
 * file, want of memory. What the server says is read by a strict reader: lengths, the order of a stream's frames,
 * HPACK. Each exchange has one end, bounds hold after each step, everything comes back.
 * Then the same frames alone, whole and in pieces, must tell the rooms above the same.
 * Input: 1 byte flags, then orders. */
#include "tests/fuzz/h2_kit.h"
#include "tests/unit/http_h2_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUTPUT_MAX ((256u << 10) + (64u << 10))

enum {
    SMALL_LIMITS = 1,
    LITTLE_ROOM = 2,
    DRAINING = 4,
    BY_ALPN = 8,
    NO_GREETING = 16,
    SHAPES = 32,
    MISLED = 64
};
enum { FRAMES = 12 };

static const char *const heads[] = {
    FORM "/a?x=1\n",
    FORM "/later\n",
    FORM "/big\n",
    FORM "/trailers\n",
    FORM "/only\n",
    FORM "/empty\n",
    POST_FORM "/later\n",
    POST_FORM "/early\n",
    POST_FORM "/small\n",
    POST_FORM "/a\ncontent-length: 40\n",
    ":method: HEAD\n:scheme: http\n:authority: h\n:path: /big\n",
    ":method: CONNECT\n:authority: h:1\n",
    ":method: OPTIONS\n:scheme: http\n:authority: h\n:path: *\n",
    FORM "/bad%2f\n",
    "x-tail: end\n",
    FORM "/flow?ab8t\n",
    FORM "/flow?aqm*\n",
    POST_FORM "/flow?as0x\n",
    POST_FORM "/talk?asbs8t\n",
    FORM "/a\nte: trailers\ncookie: a=b\nx-y: z\n",
};
#define N_HEADS (sizeof(heads) / sizeof(heads[0]))

static uint32_t next_id;

static uint32_t some_id(struct tape *t)
{
    unsigned v = tape_u8(t);
    return v < 128 && next_id > 2 * v ? next_id - 2 * v : v % 64;
}

// One frame, or a few; op < FRAMES.
static void put(struct wire *w, struct tape *t, unsigned op)
{
    struct wire b = {0};
    unsigned flags;
    switch (op) {
    case 0: // a request
        flags = tape_u8(t);
        put_block(&b, t, heads, N_HEADS);
        wire_frame(w, HEADERS, (flags & END_STREAM) | (flags & 8 ? 0 : END_HEADERS), next_id, b.p,
                   b.n);
        next_id += 2;
        break;
    case 1: // trailers, or a head at a wrong place
        flags = tape_u8(t);
        put_block(&b, t, heads, N_HEADS);
        wire_frame(w, HEADERS, flags & (END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY),
                   some_id(t), b.p, b.n);
        break;
    case 2:
        flags = tape_u8(t);
        put_block(&b, t, heads, N_HEADS);
        wire_frame(w, CONTINUATION, flags & END_HEADERS, some_id(t), b.p, b.n);
        break;
    case 3:
        put_data(w, t, some_id(t));
        break;
    default:
        put_frame(w, t, op - 4, some_id(t));
        break;
    }
    free(b.p);
}

static void begin(struct h2 *h, uint8_t flags)
{
    memset(h, 0, sizeof(*h));
    next_id = 1;
    struct http_limits limits;
    http_limits_default(&limits);
    if (flags & SMALL_LIMITS) {
        limits.max_headers = 5;
        limits.max_header_bytes = 300;
        limits.max_target = 32;
        limits.max_body = 1000;
        limits.max_streams = 3;
        limits.abuse_budget = 5;
    }
    world_init(&h->w, false);
    http_conn_free(h->w.c, h->w.now_us); // it had other limits
    h->w.limits = limits;
    world_open(&h->w, flags & BY_ALPN);
    h->w.charge_limit = flags & LITTLE_ROOM ? 30000 : 0;
    h->w.shapes = flags & SHAPES;
    h->r = reader_new(false);
    if (flags & MISLED)
        http_conn_misled(h->w.c, true, h->w.now_us);
    if (flags & DRAINING)
        http_conn_drain(h->w.c, h->w.now_us, h->w.now_us);
    wire_put(&h->say, PREFACE, 24);
    if (!(flags & NO_GREETING))
        wire_frame(&h->say, SETTINGS, 0, 0, NULL, 0);
}

static void finish(struct h2 *h)
{
    world_close(&h->w);
    const char *wrong = world_books(&h->w);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
    world_deinit(&h->w);
    reader_free(h->r);
    free(h->say.p);
}

// ---- a hostile run -------------------------------------------------------------------------------------

static void check_bounds(struct h2 *h)
{
    struct http_conn *c = h->w.c;
    unsigned n = 0;
    int64_t charged = 0;
    for (const struct exchange *ex = c->live; ex; ex = ex->next, n++) {
        invariant(ex->conn == c && ex->refs > 0 && ex->out_at <= ex->n_out);
        invariant(buffer_len(&ex->body) <= h->w.limits.max_body);
        invariant(ex->n_headers <= h->w.limits.max_headers);
        charged += ex->charged;
    }
    invariant(n == http_conn_live(c) && charged <= h->w.charged);
    invariant(c->out.bytes <= OUTPUT_MAX);
    invariant(h->w.gone + h->w.sent <= h->w.heads);
    if (h->r->wrong)
        check_failed(__FILE__, __LINE__, h->r->wrong);
}

static void answer(struct h2 *h, unsigned k)
{
    struct world *w = &h->w;
    if (w->n_later == 0)
        return;
    k %= w->n_later;
    struct exchange *ex = w->later[k];
    memmove(w->later + k, w->later + k + 1, (--w->n_later - k) * sizeof(w->later[0]));
    world_respond(w, ex, 200);
    exchange_unref(ex);
}

static void let_pass(struct h2 *h, uint64_t us)
{
    uint64_t end_us = h->w.now_us + us;
    for (unsigned i = 0; http_conn_deadline(h->w.c) <= end_us; i++) {
        uint64_t at = http_conn_deadline(h->w.c);
        invariant(i < 1000);
        h->w.now_us = at > h->w.now_us ? at : h->w.now_us;
        http_conn_on_timer(h->w.c, h->w.now_us);
        invariant(http_conn_deadline(h->w.c) > h->w.now_us); // or it would be called for ever
    }
    h->w.now_us = end_us;
}

static void step(struct h2 *h, struct tape *t)
{
    unsigned op = tape_u8(t) % 24, n;
    size_t from = h->say.n;
    switch (op) {
    case FRAMES: // a flood of whatever comes next
        n = tape_u8(t);
        put(&h->say, t, tape_u8(t) % FRAMES);
        struct wire one = {0};
        if (h->say.n > from)
            wire_put(&one, h->say.p + from, h->say.n - from);
        for (; n > 0 && h->say.n < 200000; n--)
            wire_put(&h->say, one.p, one.n);
        free(one.p);
        break;
    case FRAMES + 1:
        answer(h, tape_u8(t));
        break;
    case FRAMES + 2:
        h2_take(h, tape_number(t) % 200000);
        break;
    case FRAMES + 3:
        let_pass(h, tape_u8(t) * (uint64_t)SECOND / 4);
        break;
    case FRAMES + 4:
        n = tape_u8(t);
        if (n % 4 == 0)
            http_conn_drain(h->w.c, h->w.now_us + (n % 8 ? SECOND : 0), h->w.now_us);
        else if (n == 1)
            http_conn_eof(h->w.c, h->w.now_us);
        break;
    case FRAMES + 5:
        mem_fail_at(tape_u8(t));
        break;
    case FRAMES + 6:
    case FRAMES + 7:
        h2_flush(h);
        break;
    case FRAMES + 8:
        world_wake(&h->w);
        break;
    default:
        put(&h->say, t, op % FRAMES);
        break;
    }
    if (h->say.n > 0 && http_conn_wants_read(h->w.c))
        h2_say_only(h);
    if (h->say.n > 300000)
        h->say.n = 0;
}

static void hostile(struct tape t, uint8_t flags)
{
    static struct h2 h;
    begin(&h, flags);
    h.w.hush = true;
    for (unsigned i = 0; i < 300 && t.n > 0; i++) {
        step(&h, &t);
        check_bounds(&h);
    }
    mem_fail_at(0);
    while (h.w.n_later > 0)
        answer(&h, 0);
    h.w.hurry = true;
    world_wake(&h.w);
    h2_flush(&h);
    check_bounds(&h);
    let_pass(&h, 11 * SECOND);
    h2_flush(&h);
    let_pass(&h, 100 * (uint64_t)SECOND); // nothing holds a connection for ever
    h2_flush(&h);
    if (!http_conn_done(h.w.c))
        let_pass(&h, 100 * (uint64_t)SECOND);
    h2_flush(&h);
    invariant(http_conn_done(h.w.c) && h.w.c->out.bytes == 0);
    check_bounds(&h);
    finish(&h);
}

// ---- the same however it is cut ------------------------------------------------------------------------

static void outcome(struct h2 *h, const struct wire *all, size_t part, uint8_t flags)
{
    begin(h, flags);
    wire_put(&h->say, all->p, all->n);
    struct wire whole = h->say;
    h->say = (struct wire){0};
    for (size_t at = 0; at < whole.n; at += part) {
        wire_put(&h->say, whole.p + at, whole.n - at < part ? whole.n - at : part);
        h2_say_only(h);
    }
    free(whole.p);
    h2_flush(h);
    if (http_conn_done(
            h->w.c)) // how much was still taken of what came behind the end is not ours to say
        world_note(&h->w, "closed\n");
    else
        world_note(&h->w, "open, %u live\n", http_conn_live(h->w.c));
}

static void check_cuts(struct tape t, uint8_t flags)
{
    static struct h2 whole, cut;
    struct wire all = {0};
    next_id = 1;
    for (unsigned i = 0; i < 40 && t.n > 0 && all.n < 20000; i++)
        put(&all, &t, tape_u8(&t) % FRAMES);
    uint32_t last_id = next_id;
    flags &= (uint8_t)~LITTLE_ROOM; // how much is charged depends on how much comes at once
    outcome(&whole, &all, SIZE_MAX / 2, flags);
    outcome(&cut, &all, all.n < 2000 ? 1 : 7, flags);
    invariant(view_eq(buffer_view(&whole.w.log), buffer_view(&cut.w.log)));
    invariant(whole.r->goaway_code == cut.r->goaway_code && whole.r->goaways == cut.r->goaways);
    for (uint32_t id = 1; id < last_id; id += 2) { // at most 40 frames
        const struct reader_stream *s = h2_stream(&whole, id), *s2 = h2_stream(&cut, id);
        invariant(s->status == s2->status && s->body_n == s2->body_n && s->code == s2->code);
        invariant(strcmp(s->fields, s2->fields) == 0 && s->ended == s2->ended);
    }
    invariant(whole.w.refused == cut.w.refused);
    world_close(&cut.w); // they have their blocks in common
    finish(&whole);
    finish(&cut);
    free(all.p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    check_cuts((struct tape){data + 1, size - 1}, data[0]);
    hostile((struct tape){data + 1, size - 1}, data[0]);
    return 0;
}
