#include "gateway/predictions.h"

#include "base/check.h"
#include "base/count.h"
#include "base/mem.h"
#include "gateway/process.h"
#include "gateway/store_plan.h"
#include "infer/prediction.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define FRAME_BYTES (256u << 10) // of lines: more make a frame no smaller
#define TURN_BYTES (1u << 20)    // that are printed before other events are looked at
#define RETRY_US 200000
#define TICK_US 1000000
#define TELL_DROPS_US 10000000
#define END_US 2000000 // for Redis to take what is there, at the end
#define END_LOOK_US 5000

static uint64_t now(const struct predictions *p)
{
    return loop_now_us(p->loop);
}

struct predictions_sum predictions_sum(const struct predictions *p)
{
    struct predictions_sum s = {0};
    for (unsigned i = 0; i < p->n; i++) {
        const struct record_lane *l = &p->lanes[i];
        s.records += atomic_load_explicit(&l->chunks.records, memory_order_relaxed);
        s.dropped += atomic_load_explicit(&l->chunks.dropped, memory_order_relaxed);
        s.refused += atomic_load_explicit(&l->refused, memory_order_relaxed);
        s.waiting += (uint64_t)atomic_load_explicit(&l->chunks.bytes, memory_order_relaxed);
    }
    return s;
}

// ---- what is told --------------------------------------------------------------------------------------

static void tell(struct predictions_word *w)
{
    struct gateway *g = w->gateway;
    if (w->why[0])
        GATEWAY_EVENT(g, NULL, w->level, w->event, LOG_I("records", w->records),
                      LOG_CSTR("why", w->why));
    else
        GATEWAY_EVENT(g, NULL, w->level, w->event, LOG_I("records", w->records));
    atomic_store(&w->busy, false);
}

static void on_word(struct loop *l, struct loop_task *t)
{
    (void)l;
    tell(container_of(t, struct predictions_word, task));
}

static struct predictions_word *free_word(struct predictions *p)
{
    for (unsigned i = 0; i < PREDICTIONS_WORDS; i++)
        if (!atomic_exchange(&p->words[i].busy, true))
            return &p->words[i];
    return NULL;
}

static void say(struct predictions *p, enum log_level level, const char *event, uint64_t records,
                const char *why)
{
    struct predictions_word *w = free_word(p);
    if (!w)
        return;
    w->level = level;
    w->event = event;
    w->records = records;
    snprintf(w->why, sizeof(w->why), "%s", why);
    if (p->over)
        tell(w);
    else
        loop_post_task(p->loop, &p->gateway->main, &w->task);
}

// Where it changes.
static void say_state(struct predictions *p, bool ok)
{
    if (ok == !p->failing)
        return;
    p->failing = !ok;
    if (ok)
        say(p, LOG_INFO, "predictions_written", predictions_sum(p).dropped, "");
    else
        say(p, LOG_ERROR, "predictions_not_written", predictions_sum(p).dropped, p->files.why);
}

// Where it changes, too: records wait for a Redis that is away, or takes none.
static void say_stream(struct predictions *p)
{
    const struct record_stream *s = &p->stream;
    bool away = record_stream_is_on(s) && (!s->up || s->refused) && !record_stream_is_idle(s);
    if (away == p->away)
        return;
    p->away = away;
    say(p, away ? LOG_WARN : LOG_INFO, away ? "predictions_wait_for_redis" : "predictions_streamed",
        atomic_load(&s->written), away ? s->why : "");
}

static void say_drops(struct predictions *p)
{
    uint64_t dropped = predictions_sum(p).dropped;
    if (dropped == p->told_drops || (p->told_drops_us && now(p) < p->told_drops_us + TELL_DROPS_US))
        return;
    say(p, LOG_WARN, "predictions_dropped", dropped - p->told_drops, "");
    p->told_drops = dropped;
    p->told_drops_us = now(p);
}

// ---- lines into files ----------------------------------------------------------------------------------

// The frame that waits, and then the lines. False: the disk does not take them now.
static bool put_lines(struct predictions *p)
{
    struct record_files *f = &p->files;
    uint64_t wall_us = loop_wall_us(p->loop), errors = atomic_load(&f->errors);
    bool ok = !record_files_waits(f) || record_files_retry(f, wall_us);
    if (ok) {
        count_add(&p->written, p->n_frame);
        p->n_frame = 0;
    }
    if (ok && p->n_lines > 0) {
        ok = record_files_put(f, buffer_view(&p->lines), wall_us);
        if (ok)
            count_add(&p->written, p->n_lines);
        else if (record_files_waits(f))
            p->n_frame = p->n_lines;
        if (ok || record_files_waits(f)) {
            buffer_reset(&p->lines);
            p->n_lines = 0;
        }
    }
    if (ok && atomic_load(&f->errors) != errors) // it went on in another file
        say(p, LOG_ERROR, "predictions_not_closed", 0, f->why);
    say_state(p, ok);
    return ok;
}

// The lines are a frame, or one waits for the disk.
static bool is_due(const struct predictions *p)
{
    return record_files_waits(&p->files) || buffer_len(&p->lines) >= FRAME_BYTES;
}

// Ascending, by the clock where it goes on.
static void next_id(uint64_t *ms, uint64_t *seq, uint64_t wall_us)
{
    bool later = wall_us / 1000 > *ms;
    *ms = later ? wall_us / 1000 : *ms;
    *seq = later ? 0 : *seq + 1;
}

// The stream's: its last id is that.
static void renew(void *ctx, unsigned loop, uint64_t *ms, uint64_t *seq)
{
    struct predictions *p = ctx;
    bool ours = loop < p->n;
    uint64_t *last_ms = ours ? &p->lanes[loop].ms : &p->other_ms;
    uint64_t *last_seq = ours ? &p->lanes[loop].seq : &p->other_seq;
    if (*ms > *last_ms || (*ms == *last_ms && *seq > *last_seq)) {
        *last_ms = *ms;
        *last_seq = *seq;
    }
    next_id(last_ms, last_seq, loop_wall_us(p->loop));
    *ms = *last_ms;
    *seq = *last_seq;
}

// The line that begins there.
static void put_stream(struct predictions *p, const struct record_lane *l, size_t from)
{
    struct view v = buffer_view(&p->lines);
    struct view line = view_of(v.p + from, v.n - from - 1); // without its newline
    if (!record_stream_put(&p->stream, p->lane, l->ms, l->seq, line))
        count_add(&p->lost, 1);
}

static void print_one(struct predictions *p)
{
    struct record_lane *l = &p->lanes[p->lane];
    const uint8_t *from = p->chunk->data + p->at;
    next_id(&l->ms, &l->seq, loop_wall_us(p->loop));
    struct prediction_place at = {
        .instance = view_str(p->files.place.instance), .loop = p->lane, .ms = l->ms, .seq = l->seq};
    size_t before = buffer_len(&p->lines);
    p->at += prediction_bytes(from);
    if (!prediction_print(&p->lines, from, &at)) {
        count_add(&p->lost, 1);
        return;
    }
    if (record_stream_is_on(&p->stream))
        put_stream(p, l, before);
    if (!p->config->predictions.file)
        buffer_reset(&p->lines);
    else if (p->n_lines++ == 0)
        p->lines_us = now(p);
}

// ---- chunks into lines ---------------------------------------------------------------------------------

static void next_chunk(struct predictions *p)
{
    if (p->chunk && p->at < p->chunk->used)
        return;
    chunk_free(p->chunk);
    p->chunk = NULL;
    p->at = 0;
    for (unsigned i = 0; i < p->n && !p->chunk; i++) {
        p->lane = (p->lane + 1) % p->n;
        p->chunk = chunks_take(&p->lanes[p->lane].chunks);
    }
}

// Without a place nothing is kept of what comes late.
static bool throw_away(struct predictions *p)
{
    if (p->config)
        return false;
    count_add(&p->lost, p->chunk->records);
    p->at = p->chunk->used;
    return true;
}

static bool stream_has_room(const struct predictions *p)
{
    return !record_stream_is_on(&p->stream) || record_stream_has_room(&p->stream);
}

// Prints what is there, and puts what is a frame. True: more is there.
static bool work(struct predictions *p, size_t most)
{
    size_t before = p->at, done = 0;
    while ((!is_due(p) || put_lines(p)) && stream_has_room(p)) {
        next_chunk(p);
        if (!p->chunk)
            return false;
        before = p->at;
        if (!throw_away(p))
            print_one(p);
        done += p->at - before;
        if (done >= most)
            return true;
    }
    return false;
}

// What the lines wait for.
static void set_look(struct predictions *p)
{
    uint64_t at_us = p->looked_us + (p->failing ? RETRY_US : TICK_US);
    if (!p->failing && p->n_lines > 0 && p->lines_us + p->config->predictions.flush_us < at_us)
        at_us = p->lines_us + p->config->predictions.flush_us;
    if (p->config)
        wheel_set(loop_wheel(p->loop), &p->look, at_us);
}

static void on_go_on(struct loop *l, struct loop_call *c)
{
    struct predictions *p = container_of(c, struct predictions, go_on);
    if (work(p, TURN_BYTES))
        loop_defer(l, c);
    if (!p->ending)
        set_look(p);
}

// All that is there, and what Redis takes of it.
static void finish(struct predictions *p)
{
    bool more = work(p, SIZE_MAX);
    bool waits = p->stream.up && !record_stream_is_idle(&p->stream);
    if ((more || waits) && now(p) < p->end_us)
        wheel_set(loop_wheel(p->loop), &p->look, now(p) + END_LOOK_US);
    else
        loop_stop(p->loop);
}

static void on_look(struct wheel_timer *t, uint64_t now_us)
{
    struct predictions *p = container_of(t, struct predictions, look);
    if (p->ending) {
        finish(p);
        return;
    }
    p->looked_us = now_us;
    bool due = p->n_lines > 0 && now_us >= p->lines_us + p->config->predictions.flush_us;
    if (due || record_files_waits(&p->files))
        put_lines(p);
    record_files_tick(&p->files, loop_wall_us(p->loop));
    say_drops(p);
    say_stream(p);
    on_go_on(p->loop, &p->go_on);
}

static void on_room(void *ctx)
{
    struct predictions *p = ctx;
    loop_defer(p->loop, &p->go_on);
}

static void on_nudge(struct loop *l, struct loop_task *t)
{
    struct record_lane *lane = container_of(t, struct record_lane, nudge);
    atomic_store(&lane->nudged, false);
    loop_defer(l, &lane->predictions->go_on);
}

void predictions_nudge(struct record_lane *lane)
{
    if (!atomic_exchange(&lane->nudged, true))
        loop_post_task(lane->loop, lane->predictions->loop, &lane->nudge);
}

// ---- configurations ------------------------------------------------------------------------------------

static void fill_place(struct record_place *to, const struct config *c)
{
    const struct config_predictions *from = &c->predictions;
    *to = (struct record_place){
        .rotate_bytes = from->rotate_bytes, .rotate_us = from->rotate_us, .keep_us = from->keep_us};
    snprintf(to->directory, sizeof(to->directory), "%s", from->on && from->file ? from->file : "");
    if (from->instance)
        snprintf(to->instance, sizeof(to->instance), "%s", from->instance);
    else if (gethostname(to->instance, sizeof(to->instance) - 1) != 0)
        to->instance[0] = '\0';
    if (!view_is_name(view_str(to->instance), sizeof(to->instance)))
        snprintf(to->instance, sizeof(to->instance), "sluice");
}

// What could not be written will not be.
static void give_up(struct predictions *p)
{
    uint64_t lost = p->n_lines + p->n_frame + p->n_unsent;
    for (next_chunk(p); p->chunk; next_chunk(p)) {
        lost += p->chunk->records; // of one that is half printed a few too many
        p->at = p->chunk->used;
    }
    record_files_forget(&p->files);
    buffer_reset(&p->lines);
    p->n_lines = p->n_frame = 0;
    p->n_unsent = 0;
    count_add(&p->lost, lost);
    if (lost > 0)
        say(p, LOG_ERROR, "predictions_lost", lost,
            p->stream.why[0] ? p->stream.why : p->files.why);
    p->failing = false;
}

struct predictions_plan { // a configuration on its way to the writer
    struct loop_task task;
    struct predictions *predictions;
    struct config *config;
    struct store_plan *store;
};

static void move_stream(struct predictions *p, const struct config *c, struct store_plan *store)
{
    struct record_stream_place place = {.plan = c->predictions.redis ? store : NULL,
                                        .instance = p->files.place.instance,
                                        .state_dir = c->state_dir,
                                        .most = c->predictions.stream_length,
                                        .spool_most = c->predictions.spool_bytes};
    record_stream_move(&p->stream, &place);
    if (record_stream_is_on(&p->stream) && p->stream.spool.fd < 0)
        say(p, LOG_WARN, "predictions_without_spool", 0,
            c->state_dir ? p->stream.spool.why : "state_dir is not set");
}

static void take_up(struct predictions *p, struct config *c, struct store_plan *store)
{
    struct record_place place;
    fill_place(&place, c);
    if (p->config)
        work(p, SIZE_MAX); // what came for the place that it leaves
    if (p->config && !put_lines(p) && !c->predictions.on)
        give_up(p);
    record_files_move(&p->files, &place);
    move_stream(p, c, store);
    config_unref(p->config);
    p->config = c->predictions.on ? config_ref(c) : NULL;
    if (!p->config)
        wheel_cancel(loop_wheel(p->loop), &p->look);
    set_look(p);
}

static void on_plan(struct loop *l, struct loop_task *t)
{
    struct predictions_plan *plan = container_of(t, struct predictions_plan, task);
    (void)l;
    take_up(plan->predictions, plan->config, plan->store);
    config_unref(plan->config);
    store_plan_unref(plan->store);
    mem_free(plan);
}

void predictions_adopt(struct predictions *p, struct config *c, struct store_plan *store)
{
    if (!p->loop)
        return; // it was never on, and is not now
    archiver_move(&p->archiver, c);
    struct predictions_plan *plan = mem_must_zero(sizeof(*plan));
    *plan = (struct predictions_plan){.task.fn = on_plan,
                                      .predictions = p,
                                      .config = config_ref(c),
                                      .store = store_plan_ref(store)};
    loop_post_task(NULL, p->loop, &plan->task);
}

// ---- life ----------------------------------------------------------------------------------------------

static void *predictions_main(void *arg)
{
    struct predictions *p = arg;
    pthread_setname_np(pthread_self(), p->loop->name);
    block_owner_adopt(loop_blocks(p->loop));
    loop_run(p->loop);
    p->n_unsent = record_stream_close(&p->stream);
    return NULL;
}

static bool start(struct predictions *p)
{
    sigset_t all, old;
    p->loop = loop_new(p->gateway->loops.n + 1, "predictions", 0);
    if (!p->loop)
        return false;
    record_stream_init(&p->stream, p->loop);
    p->stream.on_room = on_room;
    p->stream.renew = renew;
    p->stream.ctx = p;
    sigfillset(&all); // signals belong to the main thread
    pthread_sigmask(SIG_SETMASK, &all, &old);
    errno = pthread_create(&p->loop->joinable, NULL, predictions_main, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (errno == 0)
        return true;
    loop_free(p->loop);
    p->loop = NULL;
    return false;
}

bool predictions_prepare(struct predictions *p, const struct config *c, char why[FILE_WHY])
{
    if (!c->predictions.on)
        return true;
    if (c->predictions.file && !record_files_check(c->predictions.file, why))
        return false;
    if ((p->loop || start(p)) && (!c->predictions.archive || archiver_start(&p->archiver)))
        return true;
    snprintf(why, FILE_WHY, "predictions: its threads: %s", strerror(errno));
    return false;
}

struct predictions *predictions_new(struct gateway *g)
{
    struct predictions *p = mem_zalloc(sizeof(*p));
    if (!p)
        return NULL;
    p->gateway = g;
    p->n = g->loops.n;
    for (unsigned i = 0; i < PREDICTIONS_WORDS; i++) {
        p->words[i].gateway = g;
        p->words[i].task.fn = on_word;
    }
    archiver_init(&p->archiver, g);
    p->go_on.fn = on_go_on;
    p->look.fn = on_look;
    buffer_init(&p->lines);
    p->lanes = mem_alloc_aligned(p->n * sizeof(*p->lanes), 64);
    if (!record_files_init(&p->files) || !p->lanes) {
        predictions_free(p);
        return NULL;
    }
    memset(p->lanes, 0, p->n * sizeof(*p->lanes));
    for (unsigned i = 0; i < p->n; i++) {
        p->lanes[i].predictions = p;
        p->lanes[i].loop = g->loops.loop[i];
        p->lanes[i].nudge.fn = on_nudge;
    }
    return p;
}

static void on_end(struct loop *l, struct loop_task *t)
{
    struct predictions *p = container_of(t, struct predictions, end);
    p->ending = true;
    p->end_us = loop_now_us(l) + END_US;
    finish(p);
}

void predictions_stop(struct predictions *p)
{
    if (!p || !p->loop)
        return;
    archiver_stop(&p->archiver);
    for (unsigned i = 0; i < p->n; i++)
        chunks_end(&p->lanes[i].chunks);
    p->end.fn = on_end;
    loop_post_task(NULL, p->loop, &p->end);
    pthread_join(p->loop->joinable, NULL);
    p->over = true;
    block_owner_adopt(loop_blocks(&p->gateway->main)); // what is told now lies in its blocks
    bool files = p->config && p->config->predictions.file;
    if (files)
        work(p, SIZE_MAX);
    if (!files || !put_lines(p) || p->n_unsent > 0)
        give_up(p);
    record_files_close(&p->files);
}

void predictions_free(struct predictions *p)
{
    if (!p)
        return;
    for (unsigned i = 0; p->lanes && i < p->n; i++)
        chunks_free(&p->lanes[i].chunks);
    mem_free(p->lanes);
    chunk_free(p->chunk);
    config_unref(p->config);
    record_files_deinit(&p->files);
    buffer_deinit(&p->lines);
    if (p->loop) {
        loop_defer_cancel(&p->go_on);
        wheel_cancel(loop_wheel(p->loop), &p->look);
        loop_free(p->loop);
    }
    mem_free(p);
}
