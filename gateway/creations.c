#include "gateway/creations.h"

#include "base/mem.h"
#include "gateway/creation_pages.h"
#include "gateway/trial_file.h"
#include "gateway/trials.h"
#include <stdio.h>

// ---- the list ----------------------------------------------------------------------------------------

struct created *creations_find(const struct gateway *g, struct view name)
{
    struct created *c = g->creations.first;
    while (c && !view_is(name, c->it.name))
        c = c->next;
    return c;
}

static void list(struct gateway *g, struct created *c)
{
    struct created **at = &g->creations.first;
    while (*at && creation_compare(&(*at)->it, &c->it) < 0)
        at = &(*at)->next;
    c->next = *at;
    *at = c;
    g->creations.n++;
}

// The creation is taken over. NULL: out of memory, and it is the caller's.
static struct created *enlist(struct gateway *g, struct creation *it)
{
    struct created *c = mem_zalloc(sizeof(*c));
    if (!c)
        return NULL;
    c->it = *it;
    creation_init(it);
    list(g, c);
    return c;
}

// Out of the list; it is the caller's.
static void unlist(struct gateway *g, struct created *c)
{
    struct created **at = &g->creations.first;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    g->creations.n--;
}

static void drop(struct created *c)
{
    creation_deinit(&c->it);
    mem_free(c);
}

// ---- whoever waits -----------------------------------------------------------------------------------

struct creation_answer {
    const struct snapshot *of;
    struct exchange *ex; // a reference
    char name[TRIAL_NAME + 1];
    bool gone;
    struct creation_answer *next;
};

void creations_answer(struct gateway *g, struct exchange *ex, const char *name, bool gone)
{
    struct creation_answer *w = atomic_load(&g->snap->awaited) > 0 ? mem_zalloc(sizeof(*w)) : NULL;
    if (!w) {
        creation_pages_taken(ex, g, name, gone);
        return;
    }
    *w = (struct creation_answer){
        .of = g->snap, .ex = ex, .gone = gone, .next = g->creations.waiting};
    snprintf(w->name, sizeof(w->name), "%s", name);
    g->creations.waiting = w;
    exchange_ref(ex);
}

static void drop_answer(struct creation_answer **at)
{
    struct creation_answer *w = *at;
    *at = w->next;
    exchange_unref(w->ex);
    mem_free(w);
}

void creations_taken(const struct snapshot *p)
{
    struct gateway *g = p->gateway;
    for (struct creation_answer **at = &g->creations.waiting; *at;) {
        if ((*at)->of != p) {
            at = &(*at)->next;
            continue;
        }
        creation_pages_taken((*at)->ex, g, (*at)->name, (*at)->gone);
        drop_answer(at);
    }
}

void creations_free(struct gateway *g)
{
    while (g->creations.waiting)
        drop_answer(&g->creations.waiting);
    for (struct created *c; (c = g->creations.first);) {
        unlist(g, c);
        drop(c);
    }
}

// ---- what is kept ------------------------------------------------------------------------------------

static void tell_out(struct gateway *g, const char *name, const char *why)
{
    GATEWAY_EVENT(g, NULL, LOG_ERROR, "experiment_kept_out", LOG_CSTR("experiment", name),
                  LOG_CSTR("why", why));
}

static void take_file(struct gateway *g, struct creation *it)
{
    if (g->creations.n == CONFIG_MAX_CREATED)
        tell_out(g, it->name, "more are kept than may have been created");
    else if (!enlist(g, it))
        tell_out(g, it->name, "out of memory");
}

void creations_start(struct gateway *g)
{
    trial_file_creations(g, take_file);
}

// ---- configurations ----------------------------------------------------------------------------------

static void print_errors(const struct config_errors *errors, char why[CREATION_WHY])
{
    int n = 0;
    why[0] = '\0';
    for (unsigned i = 0; i < errors->count && n < CREATION_WHY; i++) {
        const struct config_error *e = &errors->error[i];
        n += snprintf(why + n, CREATION_WHY - (size_t)n, "%s", i > 0 ? "; " : "");
        if (e->line > 0 && n < CREATION_WHY)
            n += snprintf(why + n, CREATION_WHY - (size_t)n, "line %u, column %u: ", e->line,
                          e->column);
        if (n < CREATION_WHY)
            n += snprintf(why + n, CREATION_WHY - (size_t)n, "%s", e->text);
    }
}

// False: it is as it was.
static bool put(struct config *c, const struct creation *it, struct config_errors *errors,
                char why[CREATION_WHY])
{
    struct config_creation what = {
        .text = buffer_view(&it->text), .mark = it->mark, .start = it->start};
    why[0] = '\0';
    if (config_add_experiment(c, &what, errors))
        return true;
    print_errors(errors, why);
    return false;
}

static void put_all(struct gateway *g, struct config *c)
{
    struct config_errors errors;
    for (struct created *at = g->creations.first; at; at = at->next) {
        if (config_experiment_find(c, at->it.name))
            snprintf(at->why, sizeof(at->why), "gateway.conf has a section of that name");
        else
            put(c, &at->it, &errors, at->why);
    }
}

// C2. False: there was none.
static bool leave_out(struct gateway *g, struct config *c, const char *why)
{
    bool any = false;
    for (; c->experiment_count > 0 && c->experiments[c->experiment_count - 1].created;
         c->experiment_count--)
        any = true;
    for (struct created *at = g->creations.first; at; at = at->next)
        if (!at->why[0])
            snprintf(at->why, sizeof(at->why), "%s", why);
    return any;
}

struct snapshot *creations_snapshot(struct gateway *g, struct config *c, uint64_t generation,
                                    uint64_t since_us, char why[FILE_WHY])
{
    put_all(g, c);
    struct snapshot *p = snapshot_new(g, config_ref(c), generation, since_us, why);
    if (!p && leave_out(g, c, why))
        p = snapshot_new(g, config_ref(c), generation, since_us, why);
    config_unref(c);
    return p;
}

void creations_tell(struct gateway *g)
{
    for (struct created *c = g->creations.first; c; c = c->next) {
        if (strcmp(c->why, c->told) == 0)
            continue;
        if (c->why[0])
            tell_out(g, c->it.name, c->why);
        else
            GATEWAY_EVENT(g, NULL, LOG_INFO, "experiment_taken_in",
                          LOG_CSTR("experiment", c->it.name));
        snprintf(c->told, sizeof(c->told), "%s", c->why);
    }
}

// ---- one that comes or goes --------------------------------------------------------------------------

// What is in force but for creations, which the caller adds. NULL: out of memory.
static struct config *file_of(const struct gateway *g)
{
    return config_again(g->snap->config);
}

// The newest snapshot's listeners, workers and log are this one's, too.
static void publish(struct gateway *g, struct snapshot *p)
{
    memcpy(p->fronts, g->snap->fronts, p->config->listen_count * sizeof(struct front *));
    p->is_ours = true;
    if (g->admin)
        admin_set_limits(g->admin, &p->limits);
    snapshot_publish(p);
}

static struct snapshot *snapshot_of(struct gateway *g, struct config *c, char why[CREATION_WHY])
{
    return snapshot_new(g, c, g->snap->generation, g->snap->since_us, why);
}

static enum creation_end refuse(enum creation_end how, char why[CREATION_WHY], const char *text)
{
    snprintf(why, CREATION_WHY, "%s", text);
    return how;
}

enum creation_end creations_check(struct gateway *g, char why[CREATION_WHY])
{
    if (g->phase != PHASE_RUNNING)
        return refuse(CREATION_FULL, why, "the gateway drains");
    if (snapshots_held(g) >= SNAPSHOTS_HELD)
        return refuse(CREATION_FULL, why,
                      "requests that are being answered hold as many configurations as may be: try "
                      "again later");
    if (!g->snap->store && !g->birth->state_dir)
        return refuse(CREATION_UNKEPT, why,
                      "neither state_dir nor a store is set: what is created would end with this "
                      "process");
    return CREATION_DONE;
}

// What is in force with it, whose name is set then.
static enum creation_end prepare(struct gateway *g, struct creation *it, struct snapshot **out,
                                 char why[CREATION_WHY])
{
    struct config_errors errors;
    struct config *c = file_of(g);
    if (!c)
        return refuse(CREATION_FULL, why, "out of memory");
    put_all(g, c);
    if (!put(c, it, &errors, why)) {
        config_unref(c);
        return errors.taken ? CREATION_TAKEN : CREATION_WRONG;
    }
    snprintf(it->name, sizeof(it->name), "%s", c->experiments[c->experiment_count - 1].name);
    if (creations_find(g, view_str(it->name))) {
        config_unref(c);
        return refuse(CREATION_TAKEN, why, "one of that name was created, and is kept out");
    }
    *out = snapshot_of(g, c, why);
    return *out ? CREATION_DONE : CREATION_WRONG;
}

enum creation_end creations_try(struct gateway *g, struct creation *it, char why[CREATION_WHY])
{
    struct snapshot *p = NULL;
    enum creation_end end = creations_check(g, why);
    if (end == CREATION_DONE && g->creations.n >= CONFIG_MAX_CREATED) {
        snprintf(why, CREATION_WHY, "expected at most %u that are created: delete one first",
                 CONFIG_MAX_CREATED);
        end = CREATION_FULL;
    }
    if (end == CREATION_DONE)
        end = prepare(g, it, &p, why);
    if (p)
        snapshot_drop(p);
    return end;
}

static void tell_change(struct gateway *g, const char *event, const char *name, struct view who,
                        struct view why)
{
    GATEWAY_EVENT(g, NULL, LOG_WARN, event, LOG_CSTR("experiment", name), LOG_S("who", who),
                  LOG_S("why", why));
}

static void tell_created(struct gateway *g, const struct creation *it)
{
    tell_change(g, "experiment_created", it->name, view_str(it->who), view_str(it->why));
}

// C3. False: there is nowhere else where it is kept.
static bool save(struct gateway *g, const struct creation *it, char why[CREATION_WHY])
{
    if (!g->birth->state_dir || trial_file_save_creation(g, it, why))
        return true;
    if (it->shared)
        GATEWAY_EVENT(g, NULL, LOG_ERROR, "experiment_not_kept", LOG_CSTR("experiment", it->name),
                      LOG_CSTR("why", why));
    return it->shared;
}

// C1: the record of that name is not the creation's.
static bool is_files(const struct gateway *g, const struct created *c)
{
    const struct config_experiment *e = config_experiment_find(g->snap->config, c->it.name);
    return e && !e->created;
}

static bool unsave(struct gateway *g, const struct created *c, char why[CREATION_WHY])
{
    return !g->birth->state_dir || trial_file_drop_creation(g, c->it.name, !is_files(g, c), why) ||
           c->it.shared;
}

static enum creation_end add(struct gateway *g, struct creation *it, struct snapshot *p,
                             const struct created **made, char why[CREATION_WHY])
{
    if (!save(g, it, why))
        return CREATION_UNKEPT;
    struct created *c = enlist(g, it);
    if (!c) {
        trial_file_drop_creation(g, it->name, false, why);
        return refuse(CREATION_FULL, why, "out of memory");
    }
    publish(g, p);
    tell_created(g, &c->it);
    *made = c;
    return CREATION_DONE;
}

enum creation_end creations_add(struct gateway *g, struct creation *it, const struct created **made,
                                char why[CREATION_WHY])
{
    struct snapshot *p = NULL;
    enum creation_end end = prepare(g, it, &p, why);
    if (end == CREATION_DONE && (end = add(g, it, p, made, why)) != CREATION_DONE)
        snapshot_drop(p);
    return end;
}

enum creation_end creations_remove(struct gateway *g, struct created *c, struct view who,
                                   struct view reason, char why[CREATION_WHY])
{
    struct config *file = file_of(g);
    if (!file)
        return refuse(CREATION_FULL, why, "out of memory");
    unlist(g, c);
    put_all(g, file);
    struct snapshot *p = snapshot_of(g, file, why);
    if (!p || !unsave(g, c, why)) {
        if (p)
            snapshot_drop(p);
        list(g, c);
        return CREATION_UNKEPT;
    }
    publish(g, p);
    tell_change(g, "experiment_deleted", c->it.name, who, reason);
    drop(c);
    return CREATION_DONE;
}

// ---- what others have done ---------------------------------------------------------------------------

bool creations_put(struct gateway *g, struct creation *it, char why[CREATION_WHY])
{
    struct created *before = creations_find(g, view_str(it->name)), *c;
    if (!before && g->creations.n >= CONFIG_MAX_CREATED) {
        snprintf(why, CREATION_WHY, "more than %u are stored as created", CONFIG_MAX_CREATED);
        return false;
    }
    if (!(c = enlist(g, it))) {
        snprintf(why, CREATION_WHY, "out of memory");
        return false;
    }
    c->there = true;
    if (before) {
        unlist(g, before);
        drop(before);
    }
    save(g, &c->it, why);
    tell_created(g, &c->it);
    return true;
}

void creations_share(struct gateway *g, struct created *c)
{
    char why[CREATION_WHY];
    if (c->it.shared)
        return;
    c->it.shared = true;
    save(g, &c->it, why);
}

void creations_drop(struct gateway *g, struct created *c, struct view who, struct view why)
{
    char unkept[CREATION_WHY];
    unsave(g, c, unkept);
    unlist(g, c);
    tell_change(g, "experiment_deleted", c->it.name, who, why);
    drop(c);
}

void creations_apply(struct gateway *g)
{
    char why[FILE_WHY];
    struct config *c = NULL;
    bool room = g->phase == PHASE_RUNNING && snapshots_held(g) < SNAPSHOTS_HELD;
    if (room)
        c = file_of(g);
    struct snapshot *p =
        c ? creations_snapshot(g, c, g->snap->generation, g->snap->since_us, why) : NULL;
    g->creations.stale = !p;
    if (p)
        publish(g, p);
}
