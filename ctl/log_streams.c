/* Streams in a Redis, by the gateway's own client of it on a loop that is turned by hand: whom it speaks to, over what, as whom,
 * and who is master after a failover or a move of slots is that one's matter.
 *
 *  S1  An entry has been given when its id is in its position, and is never asked for again. So whatever is lost on the way, the
 *      next pass goes on behind it.
 *  S2  A server that is not there holds up its own streams alone: the pass goes on with the others, and fails in the end. */
#include "backends/redis.h"
#include "backends/redis_words.h"
#include "base/mem.h"
#include "ctl/clock.h"
#include "ctl/log_source.h"
#include "gateway/store_plan.h"
#include <inttypes.h>
#include <stdio.h>

#define PATIENCE_US 1000000 // of a pass, with those that are not there
#define PAGE_FIRST 64       // entries of one answer
#define PAGE_MOST 1000
#define PAGE_LITTLE ((size_t)256 << 10) // bytes: the next one may be twice as long
#define SCAN_MOST 10 // pages of keys that one pass may look through as often as it likes
#define MAPS_MOST 10 // that a Cluster may change during one look for streams

struct log_streams {
    struct loop *loop;
    struct redis *redis;
    struct redis_config config;
    struct redis_stats stats;
    struct store_plan *plan;
    char pattern[LOG_NAME];
    struct wheel_timer alarm;
    uint64_t patient_until_us;
    unsigned rest; // passes until it looks for streams again: many keys take long
    unsigned page; // entries that the next answer may have: none is too large for the client
    // The client's state
    bool was_up, away; // away: nobody is there, why says the reason
    char why[160];
    // The question that is out
    bool (*take)(struct log_source *s, const struct redis_answer *said);
    bool over, ok;
    struct log_position *position;
    char cursor[32];
    unsigned got;
};

// The first reason of a pass stays, but for one that no other pass would change.
static bool fails(struct log_source *s, bool lost, struct view what)
{
    if (!s->why[0] || (s->lost && !lost))
        snprintf(s->why, sizeof(s->why), "redis: %.*s",
                 VIEW_ARG(view_of(what.p, what.n < 400 ? what.n : 400)));
    else
        lost = s->lost;
    s->lost = lost;
    return false;
}

static bool makes_no_sense(struct log_source *s)
{
    return fails(s, false, VIEW("an answer that makes no sense"));
}

// ---- asking --------------------------------------------------------------------------------------------

static void on_state(struct redis *r, enum redis_state state, const char *why, void *source)
{
    struct log_streams *t = ((struct log_source *)source)->streams;
    (void)r;
    t->was_up |= state == REDIS_UP;
    t->away = state == REDIS_DOWN && why[0];
    snprintf(t->why, sizeof(t->why), "%s", why);
}

static const struct redis_ops redis_ops = {.on_state = on_state};

static void on_alarm(struct wheel_timer *t, uint64_t now_us) // that the loop does not sleep longer
{
    (void)t;
    (void)now_us;
}

static bool is_refused(struct log_source *s, struct view error)
{
    enum redis_fault fault = redis_fault(error);
    bool turned = fault == REDIS_FAULT_MOVED || fault == REDIS_FAULT_ASK;
    if (turned && s->streams->config.kind != REDIS_CLUSTER)
        return fails(s, false, VIEW("it is a node of a Cluster: expected cluster:// before it"));
    return fails(s, turned || fault == REDIS_FAULT_AWAY, error);
}

static void on_answer(const struct redis_answer *said, void *source)
{
    struct log_source *s = source;
    struct log_streams *t = s->streams;
    t->over = true;
    if (said->end == REDIS_END_LIST)
        t->ok = t->take(s, said);
    else if (said->end == REDIS_END_ERROR)
        t->ok = is_refused(s, said->text);
    else if (said->end == REDIS_END_LATE)
        t->ok = fails(s, true, VIEW("no answer in time"));
    else if (said->end == REDIS_END_LOST)
        t->ok = fails(s, true, VIEW("the connection was lost"));
    else
        t->ok = makes_no_sense(s);
}

// A server alone that refuses us has said all that there is to say. Sentinels and nodes have others beside them, a name may
// have another address.
static bool waits_in_vain(const struct log_streams *t)
{
    bool alone = t->config.kind == REDIS_ALONE && t->away;
    bool refused = strncmp(t->why, "AUTH: ", 6) == 0 || strncmp(t->why, "PING: ", 6) == 0;
    return loop_now_us(t->loop) >= t->patient_until_us ||
           (alone && (refused || !addr_is_name(t->config.addrs)));
}

// Nobody is there to be asked. False: nor is it worth waiting; otherwise: why, where the client says nothing.
static bool wait_on(struct log_source *s, const char *otherwise)
{
    struct log_streams *t = s->streams;
    if (waits_in_vain(t))
        return fails(s, t->was_up || loop_now_us(t->loop) >= t->patient_until_us,
                     view_str(t->why[0] ? t->why : otherwise));
    loop_turn(t->loop, true);
    return true;
}

// words[1] is a key, or slot says who is asked. False: not asked, or it was no good answer: why.
static bool ask(struct log_source *s, const uint16_t *slot, const struct view *words, unsigned n,
                bool (*take)(struct log_source *s, const struct redis_answer *said))
{
    struct log_streams *t = s->streams;
    enum redis_sent sent;
    t->take = take;
    t->over = false;
    while ((sent = slot ? redis_send_to(t->redis, *slot, words, n, on_answer, s)
                        : redis_send(t->redis, words, n, false, on_answer, s)) != REDIS_SENT) {
        if (sent == REDIS_MEMORY)
            return fails(s, false, VIEW("out of memory"));
        if (!wait_on(s, "nobody is there to answer"))
            return false;
    }
    while (!t->over) // it ends by its own deadline
        loop_turn(t->loop, true);
    return t->ok;
}

// ---- which streams there are ---------------------------------------------------------------------------

// [cursor, [key, ...]]
static bool take_keys(struct log_source *s, const struct redis_answer *said)
{
    struct log_streams *t = s->streams;
    struct redis_answer cursor = {0}, keys = {0};
    if (said->n == 2) {
        cursor = redis_item(said, 0);
        keys = redis_item(said, 1);
    }
    if (cursor.text.n == 0 || cursor.text.n >= sizeof(t->cursor) || keys.end != REDIS_END_LIST)
        return makes_no_sense(s);
    snprintf(t->cursor, sizeof(t->cursor), "%.*s", VIEW_ARG(cursor.text));
    for (unsigned i = 0; i < keys.n; i++) {
        char name[LOG_NAME];
        struct view key = redis_item(&keys, i).text;
        if (key.n >= sizeof(name) || memchr(key.p, 0, key.n))
            continue; // it is none of a gateway's
        snprintf(name, sizeof(name), "%.*s", VIEW_ARG(key));
        if (!log_source_position(s, name))
            return fails(s, false, VIEW("out of memory"));
    }
    return true;
}

// Adds the pages that it took to *pages.
static bool scan(struct log_source *s, uint16_t slot, unsigned *pages)
{
    struct log_streams *t = s->streams;
    char cursor[sizeof(t->cursor)];
    snprintf(t->cursor, sizeof(t->cursor), "0");
    do {
        memcpy(cursor, t->cursor, sizeof(cursor));
        struct view words[] = {VIEW("SCAN"),         view_str(cursor), VIEW("MATCH"),
                               view_str(t->pattern), VIEW("COUNT"),    VIEW("1000")};
        if (!ask(s, &slot, words, 6, take_keys))
            return false;
        ++*pages;
    } while (strcmp(t->cursor, "0") != 0);
    return true;
}

// All servers, and once more when others have come meanwhile.
static bool find_streams(struct log_source *s)
{
    struct log_streams *t = s->streams;
    uint16_t slots[REDIS_MAX_NODES], then[REDIS_MAX_NODES];
    unsigned n, n_then, pages = 0;
    bool ok = true;
    if (t->rest > 0) {
        t->rest--;
        return true;
    }
    while ((n = redis_servers(t->redis, slots)) == 0)
        if (!wait_on(s, "no node says whose slots are whose: is it a Cluster's?"))
            return false;
    for (unsigned maps = 0; maps < MAPS_MOST; maps++) {
        for (unsigned i = 0; i < n; i++)
            ok &= scan(s, slots[i], &pages);
        n_then = redis_servers(t->redis, then);
        if (!ok || (n_then == n && memcmp(slots, then, n * sizeof(slots[0])) == 0))
            break;
        n = n_then;
        memcpy(slots, then, sizeof(slots));
    }
    t->rest = ok ? pages / SCAN_MOST : 0;
    return ok;
}

// ---- what is in them -----------------------------------------------------------------------------------

static bool give_fields(struct log_source *s, const struct redis_answer *fields)
{
    for (unsigned k = 0; k + 1 < fields->n; k += 2)
        if (view_is(redis_item(fields, k).text, "record") &&
            !s->take(s->ctx, redis_item(fields, k + 1).text)) {
            s->why[0] = '\0';
            return s->lost = false;
        }
    return true;
}

// [[id, [field, value, ...]], ...]
static bool take_page(struct log_source *s, const struct redis_answer *said)
{
    struct log_streams *t = s->streams;
    size_t bytes = 0;
    for (unsigned i = 0; i < said->n; i++) {
        struct redis_answer e = redis_item(said, i), id = {0}, fields = {0};
        if (e.end == REDIS_END_LIST && e.n == 2) {
            id = redis_item(&e, 0);
            fields = redis_item(&e, 1);
        }
        if (id.text.n == 0 || id.text.n >= sizeof(t->position->id) || fields.end != REDIS_END_LIST)
            return makes_no_sense(s);
        snprintf(t->position->id, sizeof(t->position->id), "%.*s", VIEW_ARG(id.text)); // S1
        if (!s->skips && !give_fields(s, &fields))
            return false;
        for (unsigned k = 0; k < fields.n; k++)
            bytes += redis_item(&fields, k).text.n;
    }
    t->got = said->n;
    if (bytes < PAGE_LITTLE && t->page < PAGE_MOST)
        t->page = t->page * 2 < PAGE_MOST ? t->page * 2 : PAGE_MOST;
    else if (bytes > PAGE_LITTLE * 8)
        t->page = t->page > 1 ? t->page / 2 : 1;
    return true;
}

// The least id behind "MS-SEQ". Not "(ID": Redis 6.2 is the first to know that.
static void print_next(char out[64], const char *id)
{
    uint64_t ms = 0, seq = 0;
    if (sscanf(id, "%" SCNu64 "-%" SCNu64, &ms, &seq) != 2)
        snprintf(out, 64, "-");
    else if (seq == UINT64_MAX)
        snprintf(out, 64, "%" PRIu64 "-0", ms + 1);
    else
        snprintf(out, 64, "%" PRIu64 "-%" PRIu64, ms, seq + 1);
}

static bool give_stream(struct log_source *s, struct log_position *position)
{
    struct log_streams *t = s->streams;
    char from[64], count[16];
    unsigned page;
    t->position = position;
    do {
        page = s->skips ? 1 : t->page;
        print_next(from, position->id);
        snprintf(count, sizeof(count), "%u", page);
        struct view key = view_str(position->name);
        struct view first[] = {VIEW("XRANGE"), key,           view_str(from),
                               VIEW("+"),      VIEW("COUNT"), view_str(count)};
        struct view last[] = {VIEW("XREVRANGE"), key,           VIEW("+"),
                              view_str(from),    VIEW("COUNT"), view_str(count)};
        if (!ask(s, NULL, s->skips ? last : first, 6, take_page)) {
            t->page = t->page > 8 ? t->page / 8 : 1; // it may have been too large
            return false;
        }
    } while (!s->skips && t->got >= page);
    return true;
}

bool log_streams_pass(struct log_source *s)
{
    struct log_streams *t = s->streams;
    t->patient_until_us = loop_now_us(t->loop) + PATIENCE_US;
    wheel_set(loop_wheel(t->loop), &t->alarm, t->patient_until_us);
    bool ok = find_streams(s);
    for (unsigned i = 0; i < s->n && (ok || s->lost); i++)
        ok &= give_stream(s, &s->positions[i]); // S2
    return ok;
}

void log_streams_pause(struct log_source *s, long ms)
{
    struct log_streams *t = s->streams;
    uint64_t until_us = loop_now_us(t->loop) + (uint64_t)ms * 1000;
    wheel_set(loop_wheel(t->loop), &t->alarm, until_us);
    while (loop_now_us(t->loop) < until_us)
        loop_turn(t->loop, true);
}

// ---- its life ------------------------------------------------------------------------------------------

static bool make_plan(struct log_source *s, const struct log_where *w, long timeout_ms)
{
    struct log_streams *t = s->streams;
    char why[STORE_WHY];
    t->plan = store_plan_of(&w->store, why);
    if (!t->plan) {
        snprintf(s->why, sizeof(s->why), "%s", why);
        return false;
    }
    t->config = t->plan->redis;
    t->config.timeout_us = (uint64_t)timeout_ms * 1000;
    if (!t->config.password)
        t->config.password = w->password;
    snprintf(t->pattern, sizeof(t->pattern), "%spredictions:*", t->plan->prefix);
    return true;
}

bool log_streams_open(struct log_source *s, const struct log_where *w, long timeout_ms)
{
    struct log_streams *t = s->streams = mem_zalloc(sizeof(*t));
    if (!t)
        return fails(s, false, VIEW("out of memory"));
    t->page = PAGE_FIRST;
    t->alarm.fn = on_alarm;
    if (!make_plan(s, w, timeout_ms))
        return false;
    t->loop = loop_new(0, "log", clock_ms());
    t->redis = t->loop ? redis_new(t->loop, &t->config, &t->stats, &redis_ops, s) : NULL;
    return t->redis || fails(s, false, VIEW("out of memory, or no descriptors"));
}

void log_streams_close(struct log_source *s)
{
    struct log_streams *t = s->streams;
    if (!t)
        return;
    redis_free(t->redis);
    if (t->loop) {
        wheel_cancel(loop_wheel(t->loop), &t->alarm);
        loop_free(t->loop);
    }
    store_plan_unref(t->plan);
    mem_free(t);
    s->streams = NULL;
}
