#include "backends/redis_inner.h"

#include "base/check.h"
#include "base/count.h"
#include "base/json.h"
#include "base/mem.h"
#include <openssl/sha.h>
#include <stdio.h>

#define TURNS_MOST 3         // redirections of one command
#define NO_WRITES_US 1000000 // after a server has said that it takes none

const char *const redis_state_name[REDIS_STATES] = {
    [REDIS_DOWN] = "down",
    [REDIS_OPENING] = "opening",
    [REDIS_RESTING] = "resting",
    [REDIS_UP] = "up",
};

// ---- its state -----------------------------------------------------------------------------------------

// Runs fn for each connection that commands may take.
static void each_line(const struct redis *r, void (*fn)(struct redis_line *n, void *ctx), void *ctx)
{
    if (r->line)
        fn(r->line, ctx);
    for (unsigned i = 0; r->map && i < REDIS_MAX_NODES; i++)
        if (r->map->node[i])
            fn(r->map->node[i], ctx);
}

struct line_sum {
    enum redis_state best;
    unsigned n, up;
};

static void add_up(struct redis_line *n, void *ctx)
{
    struct line_sum *s = ctx;
    s->best = n->state > s->best ? n->state : s->best;
    s->n++;
    s->up += n->state == REDIS_UP;
}

static void on_tell(struct loop *l, struct loop_call *c)
{
    struct redis *r = container_of(c, struct redis, tell);
    (void)l;
    bool tells = r->state == REDIS_DOWN || r->state == REDIS_RESTING;
    r->ops->on_state(r, r->state, tells ? r->why : "", r->ctx);
}

void redis_look(struct redis *r, const char *why)
{
    struct line_sum s = {.best = REDIS_DOWN};
    each_line(r, add_up, &s);
    atomic_store_explicit(&r->stats->state, s.best, memory_order_relaxed);
    atomic_store_explicit(&r->stats->nodes, s.n, memory_order_relaxed);
    atomic_store_explicit(&r->stats->nodes_up, s.up, memory_order_relaxed);
    bool another = s.best != r->state || (why && strcmp(why, r->why) != 0);
    if (why)
        snprintf(r->why, sizeof(r->why), "%s", why);
    r->state = s.best;
    if (another)
        loop_defer(r->loop, &r->tell);
    feed_look(r);
}

// ---- connections ---------------------------------------------------------------------------------------

static void on_up(struct redis_line *n)
{
    struct redis *r = n->ctx;
    r->no_writes_until_us = 0;
    redis_look(r, NULL);
    if (r->map && !r->map->known)
        cluster_ask(r);
}

static void on_rest(struct redis_line *n, const char *why)
{
    redis_look(n->ctx, why);
}

static void on_down(struct redis_line *n, const char *why)
{
    struct redis *r = n->ctx;
    line_open_later(n);
    redis_look(r, why);
    if (r->config->kind == REDIS_SENTINELS)
        sentinel_ask(r);
    else if (r->map)
        cluster_on_down(r);
}

const struct line_ops redis_line_ops = {.on_up = on_up, .on_rest = on_rest, .on_down = on_down};

void redis_line_setup(struct redis *r, struct redis_line *n, const struct line_ops *ops,
                      const struct addr *a)
{
    const struct redis_config *c = r->config;
    line_init(n, r->loop, ops, r);
    n->login = (struct line_login){
        .user = c->user,
        .password = c->password,
        .database = c->database,
        .master = c->kind == REDIS_SENTINELS,
    };
    n->tls = c->tls;
    n->timeout_us = c->timeout_us;
    n->addr = *a;
}

struct redis_line *redis_line_new(struct redis *r, const struct addr *a)
{
    struct redis_line *n = mem_alloc(sizeof(*n));
    if (!n)
        return NULL;
    redis_line_setup(r, n, &redis_line_ops, a);
    n->stats = r->stats;
    return n;
}

void redis_line_free(struct redis_line *n)
{
    if (n)
        line_deinit(n);
    mem_free(n);
}

struct redis *redis_new(struct loop *l, const struct redis_config *c, struct redis_stats *stats,
                        const struct redis_ops *ops, void *ctx)
{
    static const struct addr nowhere;
    struct redis *r = mem_zalloc(sizeof(*r));
    if (!r)
        return NULL;
    *r = (struct redis){.loop = l, .config = c, .stats = stats, .ops = ops, .ctx = ctx};
    r->tell.fn = on_tell;
    if (c->kind == REDIS_CLUSTER
            ? !cluster_start(r)
            : !(r->line = redis_line_new(r, c->kind == REDIS_ALONE ? c->addrs : &nowhere))) {
        redis_free(r);
        return NULL;
    }
    if (c->kind == REDIS_SENTINELS)
        sentinel_start(r);
    else if (c->kind == REDIS_ALONE)
        line_open(r->line);
    redis_look(r, NULL);
    return r;
}

void redis_free(struct redis *r)
{
    if (!r)
        return;
    feed_free(r);
    if (r->config->kind == REDIS_SENTINELS)
        sentinel_free(r);
    redis_line_free(r->line);
    cluster_free(r);
    loop_defer_cancel(&r->tell);
    atomic_store_explicit(&r->stats->state, REDIS_DOWN, memory_order_relaxed);
    mem_free(r);
}

// ---- commands ------------------------------------------------------------------------------------------

static bool send_on(struct redis *r, struct redis_ask *a, struct redis_line *n, bool asking)
{
    if (!n || !line_send(n, a, asking))
        return false;
    count_add(&r->stats->redirected, 1);
    return true;
}

// The key lives elsewhere. True: it was asked there.
static bool turn_to(struct redis_ask *a, const struct redis_answer *said, bool moved)
{
    struct redis *r = a->line->ctx;
    struct redis_turn turn;
    if (!r->map || a->turns >= TURNS_MOST || !redis_turn_read(said->text, &turn))
        return false;
    a->turns++;
    return send_on(r, a, cluster_turn(r, a->line, &turn, moved), !moved);
}

static void on_loaded(const struct redis_answer *said, void *user)
{
    (void)said; // if it was not, the script is unknown once more
    (void)user;
}

// Over the same connection, so that it is there before it is asked for. True: it was asked again.
static bool load_script(struct redis_ask *a)
{
    struct view words[] = {VIEW("SCRIPT"), VIEW("LOAD"), a->script};
    return a->script.n > 0 && a->turns++ < TURNS_MOST &&
           redis_tell(a->line->ctx, a->line, words, 3, on_loaded) && line_send(a->line, a, false);
}

static void no_writes(struct redis *r)
{
    r->no_writes_until_us = loop_now_us(r->loop) + NO_WRITES_US;
    if (r->config->kind == REDIS_SENTINELS)
        sentinel_ask(r); // the master may be another one
}

static bool on_end(struct redis_ask *a, const struct redis_answer *said)
{
    struct redis *r = a->line->ctx;
    enum redis_fault fault =
        said->end == REDIS_END_ERROR ? redis_fault(said->text) : REDIS_FAULT_OTHER;
    if ((fault == REDIS_FAULT_MOVED || fault == REDIS_FAULT_ASK) &&
        turn_to(a, said, fault == REDIS_FAULT_MOVED))
        return true;
    if (fault == REDIS_FAULT_SCRIPT && load_script(a))
        return true;
    if (fault == REDIS_FAULT_WRITE)
        no_writes(r);
    else if (fault == REDIS_FAULT_ENTRY)
        line_give_up(a->line, "NOAUTH: it lets us in no more");
    if (said->end == REDIS_END_ERROR)
        count_add(&r->stats->errors, 1);
    else if (said->end == REDIS_END_LATE)
        count_add(&r->stats->late, 1);
    else if (said->end == REDIS_END_LOST)
        count_add(&r->stats->lost, 1);
    a->done(said, a->user);
    return false;
}

static uint16_t slot_of(const struct redis *r, struct view key)
{
    return r->map ? redis_slot(key) : 0;
}

static struct redis_line *line_for(struct redis *r, uint16_t slot)
{
    if (r->map)
        return cluster_line(r, slot);
    return r->line->state == REDIS_UP ? r->line : NULL;
}

static enum redis_sent not_sent(struct redis *r, enum redis_sent why)
{
    count_add(why == REDIS_NOBODY ? &r->stats->nobody : &r->stats->full, 1);
    return why;
}

// As a server names a script: SHA-1 in hexadecimal digits. Nobody's secrets hang on it.
static void print_digest(struct view script, char out[2 * SHA_DIGEST_LENGTH])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t sum[SHA_DIGEST_LENGTH];
    SHA1((const unsigned char *)script.p, script.n, sum);
    for (unsigned i = 0; i < SHA_DIGEST_LENGTH; i++) {
        out[2 * i] = digits[sum[i] >> 4];
        out[2 * i + 1] = digits[sum[i] & 15];
    }
}

static enum redis_sent send_command(struct redis *r, uint16_t slot, const struct view *words,
                                    unsigned n, bool writes, struct view script,
                                    redis_done_fn *done, void *user)
{
    uint64_t now_us = loop_now_us(r->loop);
    struct redis_line *line = line_for(r, slot);
    if (!line || (writes && now_us < r->no_writes_until_us))
        return not_sent(r, REDIS_NOBODY);
    struct redis_ask *a = ask_new(words, n);
    if (!a)
        return REDIS_MEMORY;
    a->on_end = on_end;
    a->done = done;
    a->user = user;
    a->script = script;
    a->deadline_us = now_us + r->config->timeout_us;
    if (!line_send(line, a, false)) {
        mem_free(a);
        return not_sent(r, REDIS_FULL);
    }
    count_add(&r->stats->commands, 1);
    return REDIS_SENT;
}

enum redis_sent redis_send(struct redis *r, const struct view *words, unsigned n, bool writes,
                           redis_done_fn *done, void *user)
{
    struct view key = n > 1 ? words[1] : view_of(NULL, 0);
    return send_command(r, slot_of(r, key), words, n, writes, view_of(NULL, 0), done, user);
}

unsigned redis_servers(const struct redis *r, uint16_t slots[REDIS_MAX_NODES])
{
    slots[0] = 0;
    return r->map ? cluster_servers(r, slots) : 1;
}

enum redis_sent redis_send_to(struct redis *r, uint16_t slot, const struct view *words, unsigned n,
                              redis_done_fn *done, void *user)
{
    return send_command(r, slot, words, n, false, view_of(NULL, 0), done, user);
}

enum redis_sent redis_eval(struct redis *r, struct view script, const struct view *words,
                           unsigned n, unsigned keys, redis_done_fn *done, void *user)
{
    struct view all[3 + REDIS_MAX_WORDS];
    char digest[2 * SHA_DIGEST_LENGTH], number[16];
    if (never(n > REDIS_MAX_WORDS || keys == 0 || keys > n))
        return REDIS_FULL;
    snprintf(number, sizeof(number), "%u", keys);
    print_digest(script, digest);
    all[0] = VIEW("EVALSHA");
    all[1] = view_of(digest, sizeof(digest));
    all[2] = view_str(number);
    memcpy(&all[3], words, n * sizeof(words[0]));
    return send_command(r, slot_of(r, words[0]), all, 3 + n, true, script, done, user);
}

static bool on_own_end(struct redis_ask *a, const struct redis_answer *said)
{
    a->done(said, a->user);
    return false;
}

bool redis_tell(struct redis *r, struct redis_line *n, const struct view *words, unsigned used,
                redis_done_fn *done)
{
    struct redis_ask *a = ask_new(words, used);
    if (!a)
        return false;
    a->on_end = on_own_end;
    a->done = done;
    a->user = r;
    a->deadline_us = loop_now_us(r->loop) + REDIS_PATIENCE_US;
    if (line_send(n, a, false))
        return true;
    mem_free(a);
    return false;
}

// ---- for people ----------------------------------------------------------------------------------------

static void show_line(struct redis_line *n, void *ctx)
{
    struct json_writer *w = ctx;
    char text[ADDR_TEXT];
    json_w_object(w);
    json_w_key(w, VIEW("address"));
    json_w_string(w, view_str(addr_print(&n->addr, text)));
    json_w_key(w, VIEW("state"));
    json_w_string(w, view_str(redis_state_name[n->state]));
    json_w_key(w, VIEW("waiting"));
    json_w_u64(w, n->n_waiting);
    json_w_key(w, VIEW("waiting_bytes"));
    json_w_u64(w, n->waiting_bytes);
    json_w_object_end(w);
}

void redis_show(const struct redis *r, struct json_writer *w)
{
    json_w_array(w);
    each_line(r, show_line, w);
    json_w_array_end(w);
}
