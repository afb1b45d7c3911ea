#include "gateway/store.h"

#include "base/check.h"
#include "base/count.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "gateway/homes.h"
#include "gateway/part.h"
#include <inttypes.h>
#include <stdio.h>

/* Keys: sluice:DEPLOYMENT:cache:MODEL:NAME, NAME the SHA-256 (in hexadecimal) of the question, the version, which of its
 * rows, and the model's fleet epoch; sluice:DEPLOYMENT:epochs, a hash of models' fleet epochs. An epoch is the moment of
 * a flush, and only grows: each loop looks at them once a second for the models that live there, takes up what is
 * greater, and writes what is less. So it does not matter who was away, or who wrote first; and where the epochs are not
 * known, nothing is read. */
#define LOOK_US 1000000
#define KNOWN_US 5000000 // a flush elsewhere is heard of within

#define KEY_BYTES (STORE_PREFIX + MODEL_NAME_MAX + 2 * STORED_KEY + 16)

const char *const store_count_name[STORE_COUNTS] = {
    [STORE_FOUND] = "found", [STORE_MISSED] = "missed",     [STORE_LATE] = "late",
    [STORE_TOLD] = "told",   [STORE_NOT_TOLD] = "not_told",
};

// ---- epochs --------------------------------------------------------------------------------------------

static struct view key_of_epochs(const struct store *s, char out[KEY_BYTES])
{
    int n = snprintf(out, KEY_BYTES, "%sepochs", s->plan->prefix);
    return view_of(out, (size_t)n);
}

static uint64_t read_epoch(struct view v)
{
    uint64_t n = 0;
    if (v.n == 0 || v.n > 19)
        return 0;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return 0;
        n = n * 10 + (uint64_t)(v.p[i] - '0');
    }
    return n;
}

static void on_written(const struct redis_answer *said, void *user)
{
    (void)said; // what was not written is seen by the next look
    (void)user;
}

static void write_epoch(struct store *s, const struct model *m, uint64_t epoch)
{
    char key[KEY_BYTES], number[24];
    snprintf(number, sizeof(number), "%" PRIu64, epoch);
    struct view words[] = {VIEW("HSET"), key_of_epochs(s, key), m->name, view_str(number)};
    redis_send(s->redis, words, 4, true, on_written, NULL);
}

// Its epoch there; 0: there is none.
static uint64_t epoch_there(const struct redis_answer *said, const struct model *m)
{
    for (unsigned i = 0; i + 1 < said->n; i += 2)
        if (view_eq(redis_item(said, i).text, m->name))
            return read_epoch(redis_item(said, i + 1).text);
    return 0;
}

static void compare_epochs(struct part *p, const struct redis_answer *said)
{
    for (struct home *h = homes_first(p); h; h = homes_next(h)) {
        struct model *m = home_desk(h)->model;
        uint64_t there = epoch_there(said, m);
        cache_fleet_flush(&m->cache, there);
        uint64_t here = atomic_load(&m->cache.fleet_epoch);
        if (here > there)
            write_epoch(&p->store, m, here);
    }
}

static void on_epochs(const struct redis_answer *said, void *user)
{
    struct part *p = user;
    if (said->end != REDIS_END_LIST)
        return;
    compare_epochs(p, said);
    p->store.known_us = loop_now_us(p->loop) + KNOWN_US;
}

static void on_look(struct wheel_timer *t, uint64_t now_us)
{
    struct part *p = container_of(t, struct part, store.look);
    struct store *s = &p->store;
    char key[KEY_BYTES];
    struct view words[] = {VIEW("HGETALL"), key_of_epochs(s, key)};
    redis_send(s->redis, words, 2, false, on_epochs, p);
    wheel_set(loop_wheel(p->loop), t, now_us + LOOK_US);
}

// ---- the connection ------------------------------------------------------------------------------------

// One loop tells for all: they see the same server. A server that is tried again and again is told of once.
static void tell(struct part *p, enum redis_state state)
{
    struct store *s = &p->store;
    if (state == REDIS_UP)
        GATEWAY_EVENT(p->gateway, p->loop, LOG_INFO, "store_up",
                      LOG_CSTR("deployment", s->plan->config->store.deployment));
    else
        GATEWAY_EVENT(p->gateway, p->loop, LOG_WARN,
                      state == REDIS_DOWN ? "store_down" : "store_rests", LOG_CSTR("why", s->why));
}

static void on_state(struct redis *r, enum redis_state state, const char *why, void *ctx)
{
    struct part *p = ctx;
    struct store *s = &p->store;
    (void)r;
    snprintf(s->why, sizeof(s->why), "%s", why);
    if (state == REDIS_OPENING || state == s->told)
        return;
    s->told = state;
    if (state == REDIS_UP) // somebody may have flushed while it was away
        wheel_set(loop_wheel(p->loop), &s->look, loop_now_us(p->loop));
    if (p->loop->index == 0)
        tell(p, state);
}

static const struct redis_ops store_ops = {on_state};

void store_close(struct part *p)
{
    struct store *s = &p->store;
    wheel_cancel(loop_wheel(p->loop), &s->look);
    redis_free(s->redis);
    s->redis = NULL;
    store_plan_unref(s->plan);
    s->plan = NULL;
    s->why[0] = '\0';
    s->known_us = 0;
    buffer_deinit(&s->value);
}

void store_serve(struct part *p, struct desk *d)
{
    desk_store_in(d, p->store.redis != NULL);
}

void store_adopt(struct part *p)
{
    struct store *s = &p->store;
    if (s->plan == p->snap->store)
        return;
    store_close(p);
    s->told = REDIS_STATES;
    s->look.fn = on_look;
    s->plan = store_plan_ref(p->snap->store);
    if (s->plan)
        s->redis = redis_new(p->loop, &s->plan->redis, &s->stats, &store_ops, p);
    if (s->plan && !s->redis)
        snprintf(s->why, sizeof(s->why), "out of memory");
    for (struct home *h = homes_first(p); h; h = homes_next(h))
        store_serve(p, home_desk(h));
}

// ---- answers -------------------------------------------------------------------------------------------

static void name_of(const struct store_ask *a, uint8_t out[STORED_KEY])
{
    struct sha256 sha;
    uint64_t rest[] = {a->id.row, a->id.rows, atomic_load(&a->model->cache.fleet_epoch)};
    sha256_begin(&sha);
    sha256_put(&sha, a->id.key.bytes, sizeof(a->id.key.bytes));
    sha256_view(&sha, store_version(a));
    sha256_put(&sha, rest, sizeof(rest));
    sha256_end(&sha, out);
}

static struct view key_of(const struct store *s, const struct store_ask *a,
                          const uint8_t name[STORED_KEY], char out[KEY_BYTES])
{
    int n = snprintf(out, KEY_BYTES, "%scache:%.*s:", s->plan->prefix, VIEW_ARG(a->model->name));
    for (unsigned i = 0; i < STORED_KEY; i++)
        n += snprintf(out + n, KEY_BYTES - (size_t)n, "%02x", name[i]);
    return view_of(out, (size_t)n);
}

struct store_wait { // for what is asked of the store
    struct part *part;
    struct store_ask *ask;
    uint8_t name[STORED_KEY];
};

// slice NULL: nothing came.
static void give(struct part *p, struct store_ask *a, const struct slice *slice, uint64_t stored_us)
{
    struct desk *d = a->desk;
    desk_on_stored(d, a, slice, stored_us, loop_now_us(p->loop), &p->fx);
    home_touch(d->user);
    part_run(p);
}

// Since when it is good, by the loop's clock.
static uint64_t since(struct part *p, uint64_t wall_us)
{
    uint64_t wall_now_us = loop_wall_us(p->loop), now_us = loop_now_us(p->loop);
    uint64_t age_us = wall_now_us > wall_us ? wall_now_us - wall_us : 0;
    return now_us > age_us ? now_us - age_us : 0;
}

static void take(struct part *p, const struct store_wait *w, struct view value)
{
    struct stored it = {.key = w->name, .version = store_version(w->ask)};
    enum stored_fault fault;
    loop_worked(p->loop, value.n);
    struct answer *answer = stored_answer(loop_blocks(p->loop), value, &it, &fault);
    count_add(answer ? &p->store.count[STORE_FOUND] : &p->store.fault[fault], 1);
    if (!answer) {
        give(p, w->ask, NULL, 0);
        return;
    }
    struct slice whole = {.answer = answer};
    struct block *block = answer->block;
    give(p, w->ask, &whole, since(p, it.at_us));
    block_unref(block);
}

static void on_got(const struct redis_answer *said, void *user)
{
    struct store_wait *w = user;
    struct part *p = w->part;
    if (said->end == REDIS_END_TEXT) {
        take(p, w, said->text);
    } else {
        w->ask->unheard = said->end != REDIS_END_NOTHING;
        count_add(&p->store.count[w->ask->unheard ? STORE_LATE : STORE_MISSED], 1);
        give(p, w->ask, NULL, 0);
    }
    mem_free(w);
}

static bool send_get(struct part *p, struct store_ask *a)
{
    struct store *s = &p->store;
    char key[KEY_BYTES];
    struct store_wait *w =
        s->redis && loop_now_us(p->loop) < s->known_us ? mem_alloc(sizeof(*w)) : NULL;
    if (!w)
        return false;
    w->part = p;
    w->ask = a;
    name_of(a, w->name);
    struct view words[] = {VIEW("GET"), key_of(s, a, w->name, key)};
    if (redis_send(s->redis, words, 2, false, on_got, w) == REDIS_SENT)
        return true;
    mem_free(w);
    return false;
}

void store_get(struct part *p, struct store_ask *a)
{
    if (send_get(p, a))
        return;
    count_add(&p->store.count[STORE_LATE], 1);
    a->unheard = true;
    give(p, a, NULL, 0);
}

static void on_put(const struct redis_answer *said, void *user)
{
    struct part *p = user;
    count_add(&p->store.count[said->end == REDIS_END_TEXT ? STORE_TOLD : STORE_NOT_TOLD], 1);
}

static bool send_put(struct part *p, const struct store_ask *a)
{
    struct store *s = &p->store;
    char key[KEY_BYTES], ms[24];
    uint8_t name[STORED_KEY];
    name_of(a, name);
    struct stored it = {.key = name,
                        .model = a->model->name,
                        .version = store_version(a),
                        .at_us = loop_wall_us(p->loop) - (loop_now_us(p->loop) - a->sent_us)};
    buffer_reset(&s->value);
    if (!stored_write(&s->value, &it, &a->slice))
        return false;
    loop_worked(p->loop, buffer_len(&s->value));
    snprintf(ms, sizeof(ms), "%" PRIu64, a->keep_us / 1000 + 1);
    struct view words[] = {VIEW("SET"), key_of(s, a, name, key), buffer_view(&s->value), VIEW("PX"),
                           view_str(ms)};
    return redis_send(s->redis, words, 5, true, on_put, p) == REDIS_SENT;
}

// An answer of an epoch that has passed since is not told: it would be found under the new one's name.
void store_put(struct part *p, struct store_ask *a)
{
    struct store *s = &p->store;
    bool current = a->epoch == atomic_load(&a->model->cache.epoch);
    bool knows = s->redis && loop_now_us(p->loop) < s->known_us;
    if (!current || !knows || !send_put(p, a))
        count_add(&s->count[STORE_NOT_TOLD], 1);
    store_told(a);
}

// ---- for people ----------------------------------------------------------------------------------------

static void show_counts(const struct store *s, struct json_writer *w)
{
    for (unsigned i = 0; i < STORE_COUNTS; i++) {
        json_w_key(w, view_str(store_count_name[i]));
        json_w_u64(w, atomic_load(&s->count[i]));
    }
}

void store_show(struct part *p, struct json_writer *w)
{
    struct store *s = &p->store;
    json_w_object(w);
    json_w_key(w, VIEW("state"));
    json_w_string(w, view_str(s->redis ? redis_state_name[atomic_load(&s->stats.state)] : "none"));
    json_w_key(w, VIEW("why"));
    json_w_string(w, view_str(s->why));
    json_w_key(w, VIEW("epochs_known"));
    json_w_bool(w, loop_now_us(p->loop) < s->known_us);
    show_counts(s, w);
    json_w_key(w, VIEW("connections"));
    if (s->redis) {
        redis_show(s->redis, w);
    } else {
        json_w_array(w);
        json_w_array_end(w);
    }
    json_w_object_end(w);
}
