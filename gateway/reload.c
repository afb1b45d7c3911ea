#include "gateway/reload.h"

#include "base/json.h"
#include "base/mem.h"
#include "gateway/creations.h"
#include "gateway/front.h"
#include "gateway/predictions.h"
#include "gateway/process.h"
#include "gateway/secrets.h"
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

// ---- an offer: what may fail ---------------------------------------------------------------------------

struct takeover { // all that is new, before anything has changed
    struct gateway *g;
    struct snapshot *snap;
    struct tls_server **tls;   // of listen sections that have a front already; NULL: plain
    struct boot_place *places; // of the offer
    struct fleet_change fleet;
    char token[TOKEN_BYTES + 1];
    char why[512];
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct takeover *t, const char *format,
                                                         ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(t->why, sizeof(t->why), format, ap);
    va_end(ap);
    return false;
}

static struct config *read_config(struct takeover *t, const struct boot_offer *offer, int memory_fd)
{
    struct config_errors errors;
    struct config *c = NULL;
    void *text = MAP_FAILED;
    if (offer->bytes > 0 && offer->bytes <= CONFIG_MAX_BYTES)
        text = mmap(NULL, offer->bytes, PROT_READ, MAP_PRIVATE, memory_fd, 0);
    if (text == MAP_FAILED) {
        refuse(t, "what the keeper offers cannot be read");
        return NULL;
    }
    c = config_parse(view_of(text, offer->bytes), t->g->boot->config_path, &errors);
    munmap(text, offer->bytes);
    if (!c)
        refuse(t, "%s", errors.error[0].text);
    return c;
}

static bool make_snapshot(struct takeover *t, const struct boot_offer *offer, int memory_fd)
{
    char why[FILE_WHY];
    struct config *c = read_config(t, offer, memory_fd);
    if (!c)
        return false;
    if (!c->core_dumps) // a token may be the first secret here
        secrets_guard(c);
    t->snap = creations_snapshot(t->g, c, offer->generation, offer->since_us, why);
    return t->snap || refuse(t, "%s", why);
}

// They stand behind the configuration's bytes.
static bool make_workers(struct takeover *t, const struct boot_offer *offer, int memory_fd)
{
    if (offer->places > CONFIG_MAX_REPLICAS)
        return refuse(t, "the keeper offers too many workers");
    size_t bytes = offer->places * sizeof(struct boot_place);
    t->places = mem_alloc(bytes + 1);
    if (!t->places)
        return refuse(t, "out of memory");
    if (pread(memory_fd, t->places, bytes, (off_t)offer->bytes) != (ssize_t)bytes)
        return refuse(t, "the workers that the keeper offers cannot be read");
    return fleet_prepare(t->g, t->snap->config, t->places, (unsigned)offer->places, &t->fleet,
                         t->why, sizeof(t->why));
}

// One that is new, or another's TLS; the sockets that come with it belong to its front then.
static bool make_front(struct takeover *t, unsigned i, struct handed_listener *h)
{
    struct gateway *g = t->g;
    const struct config_listen *l = &t->snap->config->listens[i];
    char why[TLS_ERROR];
    struct front *f = front_find(g, h->id);
    if (f) {
        t->tls[i] = front_tls(g, l, why);
    } else if (h->n_fds == 0) {
        snprintf(why, sizeof(why), "its sockets have not come");
    } else if ((f = front_new(g, h->id, h->address, h->fds, h->n_fds, l, why))) {
        h->n_fds = 0;
        *why = '\0';
    }
    t->snap->fronts[i] = f;
    return !*why || refuse(t, "listen \"%s\": %s", l->name, why);
}

static bool make_fronts(struct takeover *t)
{
    const struct handed *h = &t->g->reload.handed;
    unsigned n = t->snap->config->listen_count;
    t->tls = mem_zalloc((n + 1) * sizeof(struct tls_server *));
    if (!t->tls)
        return refuse(t, "out of memory");
    if (h->broken || h->n != n)
        return refuse(t, "the listeners that the keeper offers are not those of the file");
    for (unsigned i = 0; i < n; i++) {
        if (!make_front(t, i, h->listeners[i]))
            return false;
    }
    return true;
}

static bool read_token(struct takeover *t)
{
    const char *path = t->snap->config->admin.token_file, *why = NULL;
    if (!path || !t->g->admin || admin_read_token(path, t->token, &why) == 0)
        return true;
    return refuse(t, "admin: token_file: %s: %s", path, why);
}

static bool is_same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool make_writer(struct takeover *t)
{
    char why[FILE_WHY];
    return predictions_prepare(t->g->predictions, t->snap->config, why) || refuse(t, "%s", why);
}

// The last of all: it changes something.
static bool move_log(struct takeover *t)
{
    const char *path = t->snap->config->log.access, *before = t->g->snap->config->log.access;
    if (is_same(path, before) || log_move(t->g->log, SINK_ACCESS, log_path(path)) == 0)
        return true;
    return refuse(t, "log: access: %s: %s", path, strerror(errno));
}

// ---- and what cannot -----------------------------------------------------------------------------------

// Those that were configured before are known; homes learn by themselves what is said of them now.
static void add_models(struct gateway *g, const struct config *c)
{
    unsigned left_out = 0;
    for (unsigned i = 0; i < c->model_count; i++) {
        struct model_rules rules;
        part_rules(&c->models[i], &rules);
        rules.listed = true;
        left_out += !table_add(g->table, view_str(c->models[i].name), &rules);
    }
    if (left_out > 0)
        GATEWAY_EVENT(g, NULL, LOG_ERROR, "models_left_out", LOG_I("models", left_out),
                      LOG_I("most", TABLE_MODELS));
}

static void put_in_force(struct takeover *t)
{
    struct gateway *g = t->g;
    const struct config *c = t->snap->config;
    for (unsigned i = 0; i < c->listen_count; i++) {
        struct front *f = t->snap->fronts[i];
        if (f->state == FRONT_SERVING)
            front_adopt(f, &c->listens[i], t->tls[i]);
        t->tls[i] = NULL;
    }
    if (g->admin) {
        admin_set_token(g->admin, view_str(t->token));
        admin_set_limits(g->admin, &t->snap->limits);
    }
    server_budget_set(g->connections, gateway_connections(g, c),
                      c->limits.max_connections_per_address);
    budget_set(&g->bytes, gateway_bytes(c), g->loops.n);
    parts_set_cache(g, c);
    secrets_guard(c);
    if (c->log.level != g->snap->config->log.level) // else what an operator has set since stays
        log_set_level(g->log, (enum log_level)c->log.level);
    add_models(g, c);
    snapshot_publish(t->snap);
    fronts_publish(g);
    fleet_apply(g, c, t->places, (unsigned)g->reload.offer.places, &t->fleet, true);
    t->snap = NULL;
}

static void give_up(struct takeover *t)
{
    for (unsigned i = 0; t->snap && t->tls && i < t->snap->config->listen_count; i++) {
        struct front *f = t->snap->fronts[i];
        tls_server_free(t->tls[i]);
        if (f && f->state == FRONT_NEW)
            front_drop(f);
    }
    mem_free(t->tls);
    fleet_drop(&t->fleet);
    mem_free(t->places);
    if (t->snap)
        snapshot_drop(t->snap);
    handed_drop(&t->g->reload.handed);
    explicit_bzero(t->token, sizeof(t->token));
}

static void take(struct gateway *g)
{
    struct reload *r = &g->reload;
    struct takeover t = {.g = g};
    bool ok = make_snapshot(&t, &r->offer, r->memory_fd) &&
              make_workers(&t, &r->offer, r->memory_fd) && make_fronts(&t) && read_token(&t) &&
              make_writer(&t) && move_log(&t);
    if (ok)
        put_in_force(&t);
    give_up(&t);
    close(r->memory_fd);
    r->memory_fd = -1;
    if (!ok) {
        secrets_guard(g->snap->config);
        gateway_say_taken(g, t.why);
    }
}

void reload_in_force(struct gateway *g)
{
    fronts_in_force(g);
    predictions_adopt(g->predictions, g->snap->config, g->snap->store);
    gateway_say_taken(g, NULL);
    fleet_go_on(g);
}

void reload_on_room(struct gateway *g)
{
    if (g->reload.memory_fd >= 0 && snapshots_held(g) < SNAPSHOTS_HELD)
        take(g);
}

void reload_on_offer(struct gateway *g, const struct boot_offer *offer, int memory_fd)
{
    if (g->reload.memory_fd >= 0) // the keeper offers one at a time
        close(g->reload.memory_fd);
    g->reload.offer = *offer;
    g->reload.memory_fd = memory_fd;
    if (g->phase != PHASE_RUNNING)
        reload_on_drain(g);
    else if (snapshots_held(g) < SNAPSHOTS_HELD)
        take(g);
    else
        GATEWAY_EVENT(g, NULL, LOG_WARN, "reload_waits", LOG_I("held", SNAPSHOTS_HELD));
}

void reload_on_drain(struct gateway *g)
{
    if (g->reload.memory_fd < 0)
        return;
    close(g->reload.memory_fd);
    g->reload.memory_fd = -1;
    handed_drop(&g->reload.handed);
    gateway_say_taken(g, "the gateway drains");
}

// ---- operators -----------------------------------------------------------------------------------------

struct reload_wish {
    struct exchange *ex; // a reference
    uint32_t number;
    struct reload_wish *next;
};

void reload_page(struct exchange *ex, void *gateway)
{
    struct gateway *g = gateway;
    if (buffer_len(&ex->body) > 0) {
        admin_refuse(ex, 400, VIEW("body: expected none"));
        return;
    }
    struct reload_wish *w = mem_zalloc(sizeof(*w));
    if (!w || !gateway_say_reload(g, g->reload.wishes + 1)) {
        admin_refuse(ex, 503, VIEW("the keeper could not be told: nothing has changed"));
        mem_free(w);
        return;
    }
    exchange_ref(ex);
    *w = (struct reload_wish){ex, ++g->reload.wishes, g->reload.waiting};
    g->reload.waiting = w;
    GATEWAY_EVENT(g, NULL, LOG_INFO, "reload_asked", LOG_S("client", server_conn_peer(ex->conn)));
}

static void answer(struct exchange *ex, const struct boot_said *said)
{
    struct admin_json page;
    if (!said->word.how) {
        admin_refuse(ex, 409, view_str(said->text));
        return;
    }
    struct json_writer *w = admin_json_begin(&page);
    json_w_key(w, VIEW("generation"));
    json_w_u64(w, said->generation);
    json_w_key(w, VIEW("changes"));
    json_w_string(w, view_str(said->text));
    admin_json_end(&page, ex, 200);
}

void reload_on_end(struct gateway *g, const struct boot_said *said)
{
    if (said->word.how)
        fronts_leave(g);
    for (struct reload_wish **at = &g->reload.waiting, *w; (w = *at);) {
        if (w->number > said->word.place) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        answer(w->ex, said);
        exchange_unref(w->ex);
        mem_free(w);
    }
}

void reload_drop(struct gateway *g)
{
    for (struct reload_wish *w; (w = g->reload.waiting);) {
        g->reload.waiting = w->next;
        exchange_unref(w->ex);
        mem_free(w);
    }
    if (g->reload.memory_fd >= 0)
        close(g->reload.memory_fd);
    g->reload.memory_fd = -1;
    handed_drop(&g->reload.handed);
}
