#include "gateway/record_stream.h"

#include "base/check.h"
#include "base/count.h"
#include "base/mem.h"
#include "base/num.h"
#include "gateway/store_plan.h"
#include <stdio.h>
#include <string.h>

#define QUEUE_BYTES (4u << 20)
#define PAUSE_US 100000
#define TIMEOUT_US 2000000 // a Redis that rewrites its log may take so long
#define KEY_BYTES (STREAM_PREFIX + 16)

static void pump_soon(struct record_stream *s)
{
    loop_defer(s->loop, &s->pump);
}

// ---- the queue -----------------------------------------------------------------------------------------

static struct stream_record *record_new(struct record_stream *s, unsigned loop, uint64_t ms,
                                        uint64_t seq, struct view text)
{
    struct stream_record *r = mem_alloc(sizeof(*r) + text.n);
    if (!r)
        return NULL;
    *r = (struct stream_record){
        .stream = s, .ms = ms, .seq = seq, .loop = loop, .bytes = (uint32_t)text.n};
    memcpy(r->text, text.p, text.n);
    return r;
}

static void append(struct record_stream *s, struct stream_record *r)
{
    *s->last = r;
    s->last = &r->next;
    s->queued += sizeof(*r) + r->bytes;
    if (!s->unsent)
        s->unsent = r;
}

static void drop_first(struct record_stream *s)
{
    struct stream_record *r = s->first;
    s->first = r->next;
    if (!s->first)
        s->last = &s->first;
    if (s->unsent == r)
        s->unsent = r->next;
    s->queued -= sizeof(*r) + r->bytes;
    mem_free(r);
}

// Those at its beginning that are delivered go.
static void advance(struct record_stream *s)
{
    while (s->first && s->first->state == STREAM_DONE) {
        if (s->first->behind > 0)
            record_spool_done(&s->spool, s->first->behind);
        drop_first(s);
    }
}

// The first that has to be sent.
static void look_again(struct record_stream *s)
{
    struct stream_record *r = s->first;
    while (r && r->state != STREAM_WAITS)
        r = r->next;
    s->unsent = r;
}

static bool spill(struct record_stream *s, const struct stream_record *r)
{
    struct spool_entry e = {.loop = r->loop, .ms = r->ms, .seq = r->seq};
    if (record_spool_put(&s->spool, &e, view_of(r->text, r->bytes), s->spool_most))
        return true;
    snprintf(s->why, sizeof(s->why), "%s", s->spool.why);
    return false;
}

// Nothing is out, and Redis is away: what is queued and not in the spool goes there, where nothing there is older.
static void spill_queue(struct record_stream *s)
{
    while (s->spool.fd >= 0 && s->first && s->first->behind == 0) {
        if (s->first->state != STREAM_DONE && !spill(s, s->first))
            return;
        drop_first(s);
    }
}

// ---- what is asked -------------------------------------------------------------------------------------

static struct view key_of(const struct record_stream *s, const struct stream_record *r,
                          char out[KEY_BYTES])
{
    int n = snprintf(out, KEY_BYTES, "%s%u", s->prefix, r->loop);
    return view_of(out, (size_t)n);
}

static struct view id_of(const struct stream_record *r, char out[48])
{
    unsigned n = num_print_u64(out, r->ms);
    out[n++] = '-';
    n += num_print_u64(out + n, r->seq);
    return view_of(out, n);
}

// It has to be sent again.
static void wait_again(struct record_stream *s, struct stream_record *r, bool pause)
{
    r->state = STREAM_WAITS;
    look_again(s);
    if (pause)
        s->pause_us = loop_now_us(s->loop) + PAUSE_US;
}

static void delivered(struct record_stream *s, struct stream_record *r)
{
    r->state = STREAM_DONE;
    s->refused = false;
    count_add(&s->written, 1);
}

static void end_of(struct stream_record *r)
{
    r->stream->out--;
    pump_soon(r->stream);
}

static bool is_there(const struct redis_answer *said, const struct stream_record *r)
{
    if (said->n != 1)
        return false;
    struct redis_answer entry = redis_item(said, 0);
    struct redis_answer fields = entry.n == 2 ? redis_item(&entry, 1) : (struct redis_answer){0};
    return fields.n == 2 && view_eq(redis_item(&fields, 1).text, view_of(r->text, r->bytes));
}

// What its stream has between these ids, one entry. False: it cannot be asked.
static bool ask(struct record_stream *s, struct stream_record *r, const char *command,
                struct view from, struct view to, redis_done_fn *done)
{
    char key[KEY_BYTES];
    struct view words[] = {view_str(command), key_of(s, r, key), from, to,
                           VIEW("COUNT"),     VIEW("1")};
    if (redis_send(s->redis, words, 6, false, done, r) != REDIS_SENT)
        return false;
    r->state = STREAM_ASKED;
    s->out++;
    return true;
}

static bool read_id(struct view v, uint64_t *ms, uint64_t *seq)
{
    const char *dash = v.n > 0 ? memchr(v.p, '-', v.n) : NULL;
    size_t n = dash ? (size_t)(dash - v.p) : 0;
    return dash && num_parse_u64(view_of(v.p, n), ms) == NUM_OK &&
           num_parse_u64(view_of(dash + 1, v.n - n - 1), seq) == NUM_OK;
}

// The last of its stream: it comes behind that.
static void on_last(const struct redis_answer *said, void *user)
{
    struct stream_record *r = user;
    struct record_stream *s = r->stream;
    uint64_t ms = 0, seq = 0;
    bool known = said->end == REDIS_END_LIST;
    if (known && said->n == 1) {
        struct redis_answer entry = redis_item(said, 0);
        known = entry.n == 2 && read_id(redis_item(&entry, 0).text, &ms, &seq);
    }
    if (known) {
        count_add(&s->renewed, 1);
        s->renew(s->ctx, r->loop, &ms, &seq);
        r->ms = ms;
        r->seq = seq;
    }
    wait_again(s, r, !known);
    end_of(r);
}

static void on_range(const struct redis_answer *said, void *user)
{
    struct stream_record *r = user;
    struct record_stream *s = r->stream;
    if (said->end != REDIS_END_LIST) {
        wait_again(s, r, true);
    } else if (is_there(said, r)) {
        count_add(&s->again_there, 1);
        delivered(s, r);
    } else if (!ask(s, r, "XREVRANGE", VIEW("+"), VIEW("-"), on_last)) {
        wait_again(s, r, true);
    } // else: another one has its id, or a greater one came first
    end_of(r);
}

static bool is_refused_id(struct view error)
{
    return error.n >= 10 && memcmp(error.p, "ERR The ID", 10) == 0;
}

static void on_added(const struct redis_answer *said, void *user)
{
    struct stream_record *r = user;
    struct record_stream *s = r->stream;
    if (said->end == REDIS_END_TEXT) {
        delivered(s, r);
    } else if (said->end == REDIS_END_ERROR && is_refused_id(said->text)) {
        char id[48];
        struct view own = id_of(r, id);
        if (!ask(s, r, "XRANGE", own, own, on_range)) // whether that is its own
            wait_again(s, r, true);
    } else {
        count_add(&s->errors, 1);
        s->refused = said->end == REDIS_END_ERROR;
        if (s->refused)
            snprintf(s->why, sizeof(s->why), "%.*s", (int)(said->text.n < 200 ? said->text.n : 200),
                     said->text.p);
        wait_again(s, r, true);
    }
    end_of(r);
}

static bool add(struct record_stream *s, struct stream_record *r)
{
    char key[KEY_BYTES], id[48], most[24];
    struct view words[] = {VIEW("XADD"),
                           key_of(s, r, key),
                           VIEW("MAXLEN"),
                           VIEW("~"),
                           view_of(most, num_print_u64(most, s->most)),
                           id_of(r, id),
                           VIEW("record"),
                           view_of(r->text, r->bytes)};
    if (redis_send(s->redis, words, 8, true, on_added, r) != REDIS_SENT)
        return false;
    r->state = STREAM_SENT;
    s->out++;
    return true;
}

// ---- its turns -----------------------------------------------------------------------------------------

static bool read_spool(struct record_stream *s)
{
    struct spool_entry e;
    uint64_t from = s->spool.at, behind;
    buffer_reset(&s->scratch);
    if (!record_spool_next(&s->spool, &e, &s->scratch, &behind))
        return false;
    struct stream_record *r = record_new(s, e.loop, e.ms, e.seq, buffer_view(&s->scratch));
    if (!r) {
        s->spool.at = from;
        return false;
    }
    r->behind = behind;
    append(s, r);
    return true;
}

static void send_all(struct record_stream *s)
{
    while (s->redis && loop_now_us(s->loop) >= s->pause_us) {
        if (!s->unsent && (s->queued > QUEUE_BYTES || !read_spool(s)))
            return;
        struct stream_record *r = s->unsent;
        if (!add(s, r))
            return;
        while (r && r->state != STREAM_WAITS)
            r = r->next;
        s->unsent = r;
    }
}

// Straight to Redis, behind all that waits. Without a spool there is no other way.
static bool may_queue(const struct record_stream *s)
{
    bool next = s->up && s->spool.at == s->spool.end;
    return s->queued < QUEUE_BYTES && (next || s->spool.fd < 0);
}

// False: it has to be held.
static bool place(struct record_stream *s, struct stream_record *r)
{
    if (may_queue(s)) {
        append(s, r);
        return true;
    }
    if (!spill(s, r))
        return false;
    mem_free(r);
    return true;
}

static void on_pump(struct loop *l, struct loop_call *c)
{
    struct record_stream *s = container_of(c, struct record_stream, pump);
    bool room = record_stream_has_room(s);
    advance(s);
    if (!s->up && s->out == 0 && s->spool.at == s->spool.end) // nothing there is younger
        spill_queue(s);
    if (s->held && place(s, s->held))
        s->held = NULL;
    send_all(s);
    if (!record_stream_is_idle(s))
        wheel_set(loop_wheel(l), &s->again, loop_now_us(l) + PAUSE_US);
    if ((!room || s->wanted) && record_stream_has_room(s)) {
        s->wanted = false;
        s->on_room(s->ctx);
    }
}

static void on_again(struct wheel_timer *t, uint64_t now_us)
{
    struct record_stream *s = container_of(t, struct record_stream, again);
    (void)now_us;
    pump_soon(s);
}

bool record_stream_has_room(const struct record_stream *s)
{
    return !s->held && (s->spool.fd >= 0 || s->queued < QUEUE_BYTES);
}

bool record_stream_put(struct record_stream *s, unsigned loop, uint64_t ms, uint64_t seq,
                       struct view line)
{
    struct stream_record *r = record_new(s, loop, ms, seq, line);
    if (!r)
        return false;
    if (!place(s, r))
        s->held = r;
    s->wanted = !record_stream_has_room(s);
    pump_soon(s);
    return true;
}

bool record_stream_is_idle(const struct record_stream *s)
{
    return !s->first && !s->held && record_spool_is_empty(&s->spool);
}

// ---- life ----------------------------------------------------------------------------------------------

static void on_state(struct redis *r, enum redis_state state, const char *why, void *ctx)
{
    struct record_stream *s = ctx;
    (void)r;
    s->up = state == REDIS_UP;
    snprintf(s->why, sizeof(s->why), "%s", why);
    pump_soon(s);
}

static const struct redis_ops stream_ops = {on_state};

void record_stream_init(struct record_stream *s, struct loop *l)
{
    *s = (struct record_stream){.loop = l, .spool.fd = -1};
    s->last = &s->first;
    s->pump.fn = on_pump;
    s->again.fn = on_again;
    buffer_init(&s->scratch);
}

// Redis alone: what waits stays.
static void disconnect(struct record_stream *s)
{
    redis_free(s->redis); // all that is out ends, from inside
    s->redis = NULL;
    s->up = false;
    store_plan_unref(s->plan);
    s->plan = NULL;
}

uint64_t record_stream_close(struct record_stream *s)
{
    uint64_t lost = 0;
    disconnect(s);
    advance(s);
    spill_queue(s);
    if (s->held && spill(s, s->held)) {
        mem_free(s->held);
        s->held = NULL;
    }
    for (; s->first; drop_first(s))
        lost += s->first->behind == 0 && s->first->state != STREAM_DONE;
    lost += s->held != NULL;
    mem_free(s->held);
    s->held = NULL;
    record_spool_close(&s->spool);
    loop_defer_cancel(&s->pump);
    wheel_cancel(loop_wheel(s->loop), &s->again);
    buffer_deinit(&s->scratch);
    return lost;
}

static void connect_to(struct record_stream *s, struct store_plan *plan)
{
    s->plan = store_plan_ref(plan);
    s->config = plan->redis;
    s->config.timeout_us = TIMEOUT_US;
    s->redis = redis_new(s->loop, &s->config, &s->stats, &stream_ops, s);
    if (!s->redis)
        snprintf(s->why, sizeof(s->why), "out of memory");
}

void record_stream_move(struct record_stream *s, const struct record_stream_place *to)
{
    s->most = to->most;
    s->spool_most = to->spool_most;
    if (to->plan && s->spool.fd < 0 && to->state_dir &&
        !record_spool_open(&s->spool, to->state_dir))
        snprintf(s->why, sizeof(s->why), "%s", s->spool.why);
    if (to->plan)
        snprintf(s->prefix, sizeof(s->prefix), "%spredictions:%s:", to->plan->prefix, to->instance);
    if (s->plan == to->plan)
        return;
    if (s->plan)
        disconnect(s);
    if (to->plan)
        connect_to(s, to->plan);
    pump_soon(s);
}
