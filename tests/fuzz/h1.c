/* Fuzz: any bytes on an HTTP/1.1 connection, its rooms above played by the unit tests' world.
 * First what may not depend on anything: the same bytes whole, cut where the input says and one by one give
 * the same events, answers and end. Then a hostile run: bytes, slow readers, answers, time, drain, end of file
 * and want of memory in the order of the input's control bytes, with the bounds checked after each step.
 * Input: 1 byte flags, 1 byte how many control bytes, these, then what the peer says. */
#include "base/check.h"
#include "tests/unit/http_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// One answer may pass the mark at which we stop to take requests.
#define OUTPUT_MAX ((64u << 10) + BIG_ANSWER + 20000)
#define PENDING_MOST (64u << 10)

enum {
    SMALL_LIMITS = 1,
    LITTLE_ROOM = 2,
    DRAINING = 4,
    SHAPES = 8,
    MISLED = 16,
    ANSWERS_HALF = 32
};

static void begin(struct world *w, uint8_t flags)
{
    world_init(w, false);
    w->terse = true;
    if (flags & SMALL_LIMITS) {
        w->limits.max_headers = 5;
        w->limits.max_header_bytes = 256;
        w->limits.max_target = 32;
        w->limits.max_body = 64;
    }
    if (flags & LITTLE_ROOM)
        w->charge_limit = 1000;
    w->shapes = flags & SHAPES;
    w->answers_half = flags & ANSWERS_HALF;
    if (flags & MISLED)
        http_conn_misled(w->c, true, w->now_us);
    if (flags & DRAINING)
        http_conn_drain(w->c, w->now_us + 1000000, w->now_us);
}

static void check_books(const struct world *w)
{
    const char *wrong = world_books(w);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
}

// ---- the same however it is cut ------------------------------------------------------------------------

// The request at hand is answered, or its answer ends. False: none waits for that.
static bool go_on(struct world *w)
{
    if (w->n_later > 0) {
        world_answer(w);
        return true;
    }
    if (!world_flows(w))
        return false;
    w->hurry = true;
    world_wake(w);
    world_flush(w);
    return true;
}

// Everything that could be noticed from outside.
static void outcome(struct world *w, struct view cuts, struct view in, uint8_t flags)
{
    size_t k = 0;
    begin(w, flags);
    for (size_t at = 0; at < in.n;) {
        size_t part = cuts.n ? 1 + (uint8_t)cuts.p[k++ % cuts.n] : in.n;
        part = part < in.n - at ? part : in.n - at;
        while (!http_conn_wants_read(w->c) && go_on(w))
            ;
        invariant(http_conn_wants_read(w->c)); // with all answers given and taken
        world_feed(w, in.p + at, part);
        at += part;
    }
    if (w->answers_half) {
        http_conn_eof(w->c, w->now_us);
        world_flush(w);
    }
    while (go_on(w))
        ;
    invariant(!w->answers_half || w->c->kind != CONN_H1 || http_conn_done(w->c));
    world_note(w, "%s, %u live\n", http_conn_done(w->c) ? "closed" : "open", http_conn_live(w->c));
    world_close(w);
    check_books(w);
}

static void check_cuts(struct view cuts, struct view in, uint8_t flags)
{
    struct world whole, cut;
    flags &= (uint8_t)~LITTLE_ROOM; // how much is charged depends on how much comes at once
    outcome(&whole, view_of(NULL, 0), in, flags);
    outcome(&cut, cuts, in, flags);
    invariant(view_eq(buffer_view(&whole.log), buffer_view(&cut.log)));
    invariant(view_eq(buffer_view(&whole.out), buffer_view(&cut.out)));
    invariant(whole.refused == cut.refused && whole.refused_status == cut.refused_status);
    world_deinit(&whole);
    world_deinit(&cut);
}

// ---- a hostile run -------------------------------------------------------------------------------------

static void check_bounds(const struct world *w)
{
    unsigned n = 0;
    if (!w->c)
        return;
    for (const struct exchange *ex = w->c->live; ex; ex = ex->next) {
        invariant(ex->conn == w->c && ex->refs > 0);
        invariant(buffer_len(&ex->body) <= w->limits.max_body);
        n++;
    }
    invariant(n == http_conn_live(w->c) && n <= 1);
    invariant(w->c->out.bytes <= OUTPUT_MAX);
    invariant(w->c->out.n <= w->c->out.cap);
    invariant(buffer_len(&w->c->h1.pending) <= PENDING_MOST + 32768);
    invariant(w->gone + w->sent <= w->heads);
}

static void take(struct world *w, size_t most)
{
    struct iovec iov[3];
    while (most > 0) {
        int n = http_conn_gather(w->c, iov, 3, w->now_us);
        size_t part = 0;
        for (int i = 0; i < n; i++)
            part += iov[i].iov_len;
        invariant(part <= w->c->out.bytes && (n > 0) == (w->c->out.bytes > 0));
        part = part < most ? part : most;
        if (part == 0)
            break;
        world_hold(iov, n, part);
        http_conn_sent(w->c, part, w->now_us);
        most -= part;
    }
}

static void let_pass(struct world *w, uint64_t us)
{
    uint64_t end_us = w->now_us + us;
    for (unsigned i = 0; http_conn_deadline(w->c) <= end_us; i++) {
        uint64_t at = http_conn_deadline(w->c);
        invariant(i < 1000);
        w->now_us = at > w->now_us ? at : w->now_us;
        http_conn_on_timer(w->c, w->now_us);
        invariant(http_conn_deadline(w->c) > w->now_us); // or it would be called for ever
    }
    w->now_us = end_us;
}

static void answer(struct world *w, unsigned k)
{
    if (w->n_later == 0)
        return;
    k %= w->n_later;
    struct exchange *ex = w->later[k];
    memmove(w->later + k, w->later + k + 1, (--w->n_later - k) * sizeof(w->later[0]));
    world_respond(w, ex, 200);
    exchange_unref(ex);
}

static void step(struct world *w, uint8_t op, struct view *in)
{
    size_t n = op >> 3, part = n * n * 3 < in->n ? n * n * 3 : in->n;
    uint8_t *exact;
    switch (op & 7) {
    case 0:
    case 1:
        if (!http_conn_wants_read(w->c))
            break;
        exact = mem_must(part);
        if (part > 0)
            memcpy(exact, in->p, part);
        http_conn_recv(w->c, exact, part, w->now_us);
        mem_free(exact);
        *in = view_of(in->p + part, in->n - part);
        break;
    case 2:
        take(w, n * n * n);
        break;
    case 3:
        answer(w, (unsigned)n);
        break;
    case 4:
        let_pass(w, n * SECOND);
        break;
    case 5:
        mem_fail_at(n);
        break;
    case 6:
        if (n % 4 == 0)
            http_conn_drain(w->c, w->now_us + (n % 8 ? SECOND : 0), w->now_us);
        else if (n == 1)
            http_conn_eof(w->c, w->now_us);
        else
            world_wake(w);
        break;
    default:
        take(w, SIZE_MAX);
        break;
    }
}

static void hostile(struct view control, struct view in, uint8_t flags)
{
    struct world w;
    begin(&w, flags);
    w.hush = true;
    for (size_t i = 0; i < control.n; i++) {
        step(&w, (uint8_t)control.p[i], &in);
        check_bounds(&w);
    }
    mem_fail_at(0);
    take(&w, SIZE_MAX);
    if (w.n_later == 0 &&
        !world_flows(&w)) // all that was asked is answered, and all answers were taken
        invariant(http_conn_done(w.c) || http_conn_wants_read(w.c));
    check_bounds(&w);
    world_close(&w);
    check_books(&w);
    world_deinit(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint8_t flags = data[0];
    size_t n = data[1] < size - 2 ? data[1] : size - 2;
    struct view control = view_of(data + 2, n), in = view_of(data + 2 + n, size - 2 - n);
    check_cuts(control, in, flags);
    if (in.n <= 2048)
        check_cuts(view_of("", 1), in, flags);
    hostile(control, in, flags);
    return 0;
}
