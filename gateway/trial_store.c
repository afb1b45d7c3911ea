#include "gateway/trial_shop.h"

#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "gateway/creation_store.h"
#include "gateway/trial_file.h"
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define TICK_US 1000000
#define ANSWER_US 1000000 // the least that a command may take: nobody's request waits for it
#define LAST_US 1000000   // that the last flush may take

// KEYS: the record's. ARGV: the version that is there ("": none), the new one, its record, channel, name. {1}: it is there now;
// {0, version, record}: another one is. Whether anybody may hear of it is not the change's matter.
static const struct view change_script =
    VIEW("local have = redis.call('HGET', KEYS[1], 'version')\n"
         "if have == ARGV[2] then return {1} end\n"
         "if (have or '') ~= ARGV[1] then\n"
         "  return {0, have or '', redis.call('HGET', KEYS[1], 'record') or ''}\n"
         "end\n"
         "redis.call('HSET', KEYS[1], 'version', ARGV[2], 'record', ARGV[3])\n"
         "redis.pcall('PUBLISH', ARGV[4], ARGV[5])\n"
         "return {1}\n");

struct view shelf_key(const struct trial_shelf *s, const char *more, char out[SHELF_KEY])
{
    int n = snprintf(out, SHELF_KEY, "%sexp:{%s}%s", s->shop->plan->prefix, s->name, more);
    return view_of(out, (size_t)n);
}

static void print_version(const struct trial_state *s, char out[SHELF_VERSION])
{
    snprintf(out, SHELF_VERSION, "%" PRIu64 ":%" PRIu64 ":%016" PRIx64, s->revision, s->epoch,
             s->mark);
}

static struct trial_run *run_of(const struct trial_shelf *s)
{
    return trials_find(s->shop->gateway, view_str(s->name));
}

// ---- shelves -----------------------------------------------------------------------------------------

static struct trial_shelf *shelf_of(const struct trial_shop *shop, struct view name)
{
    struct trial_shelf *s = shop->shelves;
    while (s && !view_is(name, s->name))
        s = s->next;
    return s;
}

void trial_shelf_forget(const struct trial_shop *shop, const char *name)
{
    struct trial_shelf *s = shelf_of(shop, view_str(name));
    if (s)
        s->heard = false;
}

// NULL: out of memory.
static struct trial_shelf *shelf_for(struct trial_shop *shop, const char *name)
{
    struct trial_shelf *s = shelf_of(shop, view_str(name));
    if (s || !(s = mem_zalloc(sizeof(*s))))
        return s;
    s->shop = shop;
    snprintf(s->name, sizeof(s->name), "%s", name);
    s->ticks = SHELF_LOOKS - 1;
    trial_flushes_init(&s->flushes);
    s->next = shop->shelves;
    shop->shelves = s;
    return s;
}

static void free_shelf(struct trial_shelf *s)
{
    trial_tally_free(s);
    mem_free(s);
}

// ---- records that come -------------------------------------------------------------------------------

static void write_back(struct trial_shelf *s, struct trial_run *run);

static void tell_odd(struct trial_shelf *s, const char *why)
{
    if (!s->odd)
        GATEWAY_EVENT(s->shop->gateway, NULL, LOG_ERROR, "experiment_not_taken",
                      LOG_CSTR("experiment", s->name), LOG_CSTR("why", why));
    s->odd = true;
}

// The section of an instance that has just come is one that the record was never made of.
static void seed_over(struct trial_shelf *s, struct trial_run *run, const struct trial_state *there)
{
    struct gateway *g = s->shop->gateway;
    struct trial_state next = run->state;
    struct trial_stamp stamp = {.mark = rand_u64(&g->main.rand),
                                .at_us = loop_wall_us(&g->main),
                                .who = VIEW("gateway.conf"),
                                .why = VIEW("its section has changed")};
    trial_state_over(&next, there, &stamp);
    trials_changed(g, &next);
    if (run->state.mark != next.mark)
        return; // out of memory: next time
    run->kept = false;
    write_back(s, run);
}

static void tell_fenced(struct trial_shelf *s, const struct trial_run *run,
                        const struct trial_state *there)
{
    GATEWAY_EVENT(
        s->shop->gateway, NULL, LOG_WARN, "experiment_fenced", LOG_CSTR("experiment", s->name),
        LOG_I("revision", run->state.revision), LOG_I("stored", there ? there->revision : 0),
        LOG_CSTR("stored_who", there ? there->who : ""),
        LOG_CSTR("stored_why", there ? there->why : ""),
        LOG_CSTR("why", "the store has gone back: what is in force is written there again"));
    s->shop->fenced++;
}

// R2 to R4 of router/trial_state.h. there NULL: the store has none.
static void hear(struct trial_shelf *s, struct trial_run *run, const struct trial_state *there)
{
    bool first = !s->heard;
    s->heard = true;
    s->version[0] = '\0';
    if (there)
        print_version(there, s->version);
    switch (trial_state_order(&run->state, there)) {
    case TRIAL_SAME:
        s->odd = false;
        run->kept = true;
        break;
    case TRIAL_NEWER:
        if (first && trial_state_is_seeded_by(there, run->digest, NULL))
            seed_over(s, run, there);
        else if (!trial_state_fit(&run->state, there))
            tell_odd(s, "what is stored has other variants than its section here: a gateway with "
                        "another gateway.conf has changed it");
        else
            trials_changed(s->shop->gateway, there);
        break;
    case TRIAL_OLDER:
        if (run->kept) {
            tell_fenced(s, run, there);
            trial_state_fence(&run->state, there);
            run->kept = false;
        }
        write_back(s, run);
        break;
    }
}

// False: it cannot be read, and why.
static bool read_record(const struct trial_shelf *s, struct view version, struct view record,
                        struct trial_state *out, char why[TRIAL_WRONG])
{
    char right[SHELF_VERSION];
    if (!trial_state_read(out, record, why))
        return false;
    print_version(out, right);
    bool ok = strcmp(out->name, s->name) == 0 && view_is(version, right);
    if (!ok)
        snprintf(why, TRIAL_WRONG, "its name or version are not those of what it is");
    return ok;
}

static void on_record(const struct redis_answer *said, void *shelf)
{
    struct trial_shelf *s = shelf;
    struct trial_run *run = run_of(s);
    struct trial_state there;
    char why[TRIAL_WRONG];
    s->out--;
    s->asked = false;
    if (!run || said->end != REDIS_END_LIST || said->n != 2)
        return;
    struct redis_answer version = redis_item(said, 0), record = redis_item(said, 1);
    if (version.end == REDIS_END_NOTHING)
        hear(s, run, NULL);
    else if (read_record(s, version.text, record.text, &there, why))
        hear(s, run, &there);
    else
        tell_odd(s, why);
}

static bool ask(struct trial_shelf *s, const struct view *words, unsigned n, redis_done_fn *done)
{
    if (redis_send(s->shop->redis, words, n, false, done, s) != REDIS_SENT)
        return false;
    s->out++;
    return s->asked = true;
}

static void on_version(const struct redis_answer *said, void *shelf)
{
    struct trial_shelf *s = shelf;
    struct trial_run *run = run_of(s);
    char key[SHELF_KEY], here[SHELF_VERSION], why[TRIAL_WRONG];
    s->out--;
    s->asked = false;
    if (said->end == REDIS_END_ERROR) {
        snprintf(why, sizeof(why), "store: %.*s", (int)(said->text.n < 120 ? said->text.n : 120),
                 said->text.p);
        tell_odd(s, why);
    }
    if (!run || (said->end != REDIS_END_TEXT && said->end != REDIS_END_NOTHING))
        return;
    print_version(&run->state, here);
    if (said->end == REDIS_END_TEXT && view_is(said->text, here)) {
        hear(s, run, &run->state);
        return;
    }
    struct view words[] = {VIEW("HMGET"), shelf_key(s, "", key), VIEW("version"), VIEW("record")};
    ask(s, words, 4, on_record);
}

static void look(struct trial_shelf *s)
{
    char key[SHELF_KEY];
    struct view words[] = {VIEW("HGET"), shelf_key(s, "", key), VIEW("version")};
    if (!s->asked)
        ask(s, words, 3, on_version);
}

// ---- records that go ---------------------------------------------------------------------------------

struct shelf_put {
    struct trial_shelf *shelf;
    struct trial_put *put; // whose; NULL: nobody's
    uint64_t mark;
    char version[SHELF_VERSION];
};

static void on_kept(struct shelf_put *w)
{
    struct trial_shelf *s = w->shelf;
    struct trial_run *run = run_of(s);
    snprintf(s->version, sizeof(s->version), "%s", w->version);
    s->heard = true;
    s->odd = false;
    if (w->put)
        trials_put_end(w->put, TRIAL_KEPT, NULL, NULL);
    else if (run && run->state.mark == w->mark)
        run->kept = true;
}

static bool send_put(struct trial_shelf *s, const struct trial_state *next, struct trial_put *p);

// What is there is what the change was made of: it was on its way there when the change left.
static bool put_again(struct trial_shelf *s, const struct trial_run *run,
                      const struct trial_state *there, struct trial_put *p)
{
    char version[SHELF_VERSION];
    print_version(there, version);
    if (there->mark != run->state.mark || there->revision + 1 != p->next.revision ||
        strcmp(version, s->version) == 0)
        return false;
    snprintf(s->version, sizeof(s->version), "%s", version);
    return send_put(s, &p->next, p);
}

static void on_conflict(struct shelf_put *w, const struct redis_answer *said)
{
    struct trial_shelf *s = w->shelf;
    struct trial_run *run = run_of(s);
    struct trial_state there;
    char why[TRIAL_WRONG];
    struct view version = redis_item(said, 1).text;
    bool none = version.n == 0;
    bool good = !none && read_record(s, version, redis_item(said, 2).text, &there, why);
    if (good && run && w->put && put_again(s, run, &there, w->put))
        return;
    if (!good && !none)
        tell_odd(s, why);
    if (w->put && good) // it is in force first, so that whoever is answered sees it
        trials_put_end(w->put, TRIAL_CONFLICT, &there, NULL);
    else if (w->put)
        trials_put_end(w->put, TRIAL_NOT_KEPT, NULL,
                       none ? "the store has lost what was there" : why);
    if (run && (good || none))
        hear(s, run, good ? &there : NULL);
}

static void on_put(const struct redis_answer *said, void *user)
{
    struct shelf_put *w = user;
    char why[TRIAL_CAUSE];
    w->shelf->out--;
    w->shelf->putting &= w->put != NULL;
    if (w->shelf->shop->over)
        w->put = NULL;
    if (said->end == REDIS_END_LIST && said->n == 1)
        on_kept(w);
    else if (said->end == REDIS_END_LIST && said->n == 3)
        on_conflict(w, said);
    else if (w->put) {
        snprintf(why, sizeof(why), "store: %.*s",
                 said->end == REDIS_END_ERROR ? (int)(said->text.n < 120 ? said->text.n : 120) : 9,
                 said->end == REDIS_END_ERROR ? said->text.p : "no answer");
        trials_put_end(w->put, TRIAL_NOT_KEPT, NULL, why);
    }
    mem_free(w);
}

// p: whoever waits for it; NULL: nobody. False: it was not sent.
static bool send_put(struct trial_shelf *s, const struct trial_state *next, struct trial_put *p)
{
    struct trial_shop *shop = s->shop;
    struct shelf_put *w = mem_alloc(sizeof(*w));
    struct buffer record;
    char key[SHELF_KEY];
    if (!w)
        return false;
    *w = (struct shelf_put){.shelf = s, .put = p, .mark = next->mark};
    print_version(next, w->version);
    buffer_init(&record);
    bool sent = trial_state_write(&record, next);
    struct view words[] = {shelf_key(s, "", key), view_str(s->version),    view_str(w->version),
                           buffer_view(&record),  view_str(shop->channel), view_str(s->name)};
    sent = sent && redis_eval(shop->redis, change_script, words, 6, 1, on_put, w) == REDIS_SENT;
    buffer_deinit(&record);
    if (sent)
        s->out++;
    else
        mem_free(w);
    return sent;
}

static void write_back(struct trial_shelf *s, struct trial_run *run)
{
    if (!s->putting)
        s->putting = send_put(s, &run->state, NULL);
}

static void put(struct gateway *g, struct trial_put *p)
{
    struct trial_shop *shop = g->shop;
    struct trial_shelf *s = shop ? shelf_for(shop, p->next.name) : NULL;
    if (!s || !s->heard)
        trials_put_end(p, TRIAL_NOT_KEPT, NULL, "store: it has not been heard yet");
    else if (!send_put(s, &p->next, p))
        trials_put_end(p, TRIAL_NOT_KEPT, NULL, "store: nobody answers there now");
}

// It is asked when it is there; until then the section is in force, or what state_dir has.
static bool find(struct gateway *g, const char *name, struct trial_state *out)
{
    return g->birth->state_dir && trial_file.find(g, name, out);
}

const struct trial_keeper trial_store = {.name = "store", .shared = true, .find = find, .put = put};

// ---- the connection ----------------------------------------------------------------------------------

static void drop_absent(struct trial_shop *shop)
{
    for (struct trial_shelf **at = &shop->shelves, *s; (s = *at);) {
        if (s->out > 0 || run_of(s) || !trial_tally_is_added(s)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        free_shelf(s);
    }
}

static void look_at_all(struct trial_shop *shop)
{
    for (struct trial_shelf *s = shop->shelves; s; s = s->next)
        look(s);
}

static void on_tick(struct wheel_timer *t, uint64_t now_us)
{
    struct trial_shop *shop = container_of(t, struct trial_shop, tick);
    creation_store_look(shop);
    for (struct trial_run *run = shop->gateway->trials->first; run; run = run->next) {
        struct trial_shelf *s = shelf_for(shop, run->state.name);
        if (!s)
            continue;
        look(s);
        trial_tally_take(s, run);
        bool acts = trials_watched(run) || pilots_steer(run);
        if (acts && trial_tally_is_added(s)) // else it is asked behind the flush
            trial_tally_ask(s);
    }
    for (struct trial_shelf *s = shop->shelves; s; s = s->next) {
        s->ticks = (s->ticks + 1) % SHELF_LOOKS;
        trial_tally_flush(s);
    }
    drop_absent(shop);
    wheel_set(loop_wheel(&shop->gateway->main), t, now_us + TICK_US);
}

static void on_feed(bool heard, struct view name, void *user)
{
    struct trial_shop *shop = user;
    struct trial_shelf *s = heard ? shelf_of(shop, name) : NULL;
    if (s)
        look(s);
    else if (!heard)
        look_at_all(shop);
    if (!heard || view_is(name, CREATION_FEED))
        creation_store_look(shop);
}

static void on_state(struct redis *r, enum redis_state state, const char *why, void *ctx)
{
    struct trial_shop *shop = ctx;
    struct gateway *g = shop->gateway;
    (void)r;
    snprintf(shop->why, sizeof(shop->why), "%s", why);
    if (state == REDIS_OPENING || state == shop->told)
        return;
    shop->told = state;
    if (state == REDIS_UP)
        wheel_set(loop_wheel(&g->main), &shop->tick, loop_now_us(&g->main));
    else
        GATEWAY_EVENT(g, NULL, LOG_WARN, "experiments_alone", LOG_CSTR("why", why),
                      LOG_CSTR("state", redis_state_name[state]));
}

void trial_shop_hurry(struct trial_shop *shop)
{
    struct gateway *g = shop->gateway;
    wheel_set(loop_wheel(&g->main), &shop->tick, loop_now_us(&g->main));
}

static const struct redis_ops shop_ops = {on_state};

// A life is of a shop, not of a process: one that is opened again later begins its flushes with 1.
static void name_us(struct trial_shop *shop)
{
    struct gateway *g = shop->gateway;
    char host[64] = "";
    gethostname(host, sizeof(host) - 1);
    snprintf(shop->whose, sizeof(shop->whose), "%s:%d", host[0] ? host : "?", (int)getppid());
    snprintf(shop->life, sizeof(shop->life), "%.16s%016" PRIx64, g->boot_id,
             rand_u64(&g->main.rand));
}

// What is under way ends: nobody knows how.
static void disconnect(struct trial_shop *shop)
{
    redis_free(shop->redis);
    shop->redis = NULL;
    store_plan_unref(shop->plan);
    shop->plan = NULL;
}

static void close_shop(struct trial_shop *shop)
{
    if (!shop)
        return;
    wheel_cancel(loop_wheel(&shop->gateway->main), &shop->tick);
    disconnect(shop);
    while (shop->shelves) {
        struct trial_shelf *s = shop->shelves;
        shop->shelves = s->next;
        free_shelf(s);
    }
    mem_free(shop);
}

// False: out of memory.
static bool connect_shop(struct trial_shop *shop, struct store_plan *plan)
{
    struct gateway *g = shop->gateway;
    shop->plan = store_plan_ref(plan);
    shop->config = plan->redis;
    if (shop->config.timeout_us < ANSWER_US)
        shop->config.timeout_us = ANSWER_US;
    shop->told = REDIS_STATES;
    for (struct trial_shelf *s = shop->shelves; s; s = s->next)
        s->heard = false;
    shop->creations_heard = false;
    shop->creations = 0;
    snprintf(shop->channel, sizeof(shop->channel), "%sexp:changes", plan->prefix);
    shop->redis = redis_new(&g->main, &shop->config, &shop->stats, &shop_ops, shop);
    if (!shop->redis)
        return false;
    redis_listen(shop->redis, shop->channel, on_feed, shop);
    wheel_set(loop_wheel(&g->main), &shop->tick, loop_now_us(&g->main) + TICK_US);
    return true;
}

static struct trial_shop *open_shop(struct gateway *g)
{
    struct trial_shop *shop = mem_zalloc(sizeof(*shop));
    if (!shop)
        return NULL;
    shop->gateway = g;
    shop->tick.fn = on_tick;
    name_us(shop);
    return shop;
}

// Another address or password of the store changes nothing of what is to be told there.
static bool go_to(struct gateway *g, struct store_plan *plan)
{
    if (g->shop && g->shop->plan == plan)
        return true;
    if (g->shop)
        disconnect(g->shop);
    else
        g->shop = open_shop(g);
    return g->shop && connect_shop(g->shop, plan);
}

// From here on what is counted is told; without memory for it, with the next configuration.
void trial_store_adopt(struct gateway *g)
{
    struct store_plan *plan =
        g->snap->store; // without an experiment, too: one may be created elsewhere
    if (!plan || !go_to(g, plan)) {
        close_shop(g->shop);
        g->shop = NULL;
        return;
    }
    for (const struct trial_run *run = g->trials->first; run; run = run->next)
        trial_store_count(g, run);
}

void trial_store_count(struct gateway *g, const struct trial_run *run)
{
    struct trial_shelf *s = g->shop ? shelf_for(g->shop, run->state.name) : NULL;
    if (s)
        trial_tally_take(s, run);
}

bool trial_store_leads(const struct gateway *g, const struct trial_run *run)
{
    const struct trial_shelf *s = g->shop ? shelf_of(g->shop, view_str(run->state.name)) : NULL;
    return !s || !s->follows || atomic_load(&g->shop->stats.state) != REDIS_UP;
}

bool trial_store_sums(const struct gateway *g, const struct trial_run *run, unsigned variant,
                      struct trial_sums *out)
{
    const struct trial_shelf *s = g->shop ? shelf_of(g->shop, view_str(run->state.name)) : NULL;
    return s && trial_tally_sums(s, run, variant, out);
}

void trial_store_free(struct gateway *g)
{
    if (g->shop)
        g->shop->over = true;
    close_shop(g->shop);
    g->shop = NULL;
}

bool trial_store_is_done(struct gateway *g)
{
    struct trial_shop *shop = g->shop;
    uint64_t now_us = loop_now_us(&g->main);
    bool done = true;
    if (!shop || atomic_load(&shop->stats.state) != REDIS_UP)
        return true;
    if (shop->ends_us == 0) {
        shop->ends_us = now_us + LAST_US;
        on_tick(&shop->tick, now_us);
    }
    for (struct trial_shelf *s = shop->shelves; s; s = s->next) {
        trial_tally_flush(s);
        done &= s->ended;
    }
    return done || now_us >= shop->ends_us;
}

// ---- for people --------------------------------------------------------------------------------------

bool trial_store_read(const struct gateway *g, struct trial_store_figures *out)
{
    const struct trial_shop *shop = g->shop;
    *out = (struct trial_store_figures){0};
    if (!shop)
        return false;
    *out = (struct trial_store_figures){.up = atomic_load(&shop->stats.state) == REDIS_UP,
                                        .listens = redis_listens(shop->redis),
                                        .flushed = shop->flushed,
                                        .lost = shop->lost,
                                        .fenced = shop->fenced};
    for (const struct trial_shelf *s = shop->shelves; s; s = s->next) {
        out->known += s->heard;
        out->to_flush += !trial_tally_is_added(s);
    }
    return true;
}

static void show_count(struct json_writer *w, const char *key, uint64_t n)
{
    json_w_key(w, view_str(key));
    json_w_u64(w, n);
}

void trial_store_show(const struct gateway *g, struct json_writer *w)
{
    const struct trial_shop *shop = g->shop;
    struct trial_store_figures f;
    trial_store_read(g, &f);
    json_w_object(w);
    json_w_key(w, VIEW("state"));
    json_w_string(w, view_str(shop ? redis_state_name[atomic_load(&shop->stats.state)] : "none"));
    json_w_key(w, VIEW("why"));
    json_w_string(w, view_str(shop ? shop->why : ""));
    json_w_key(w, VIEW("listens"));
    json_w_bool(w, f.listens);
    show_count(w, "known", f.known);
    show_count(w, "to_flush", f.to_flush);
    show_count(w, "flushed", f.flushed);
    show_count(w, "lost", f.lost);
    show_count(w, "fenced", f.fenced);
    json_w_object_end(w);
}
