#include "gateway/creation_pages.h"

#include "base/json.h"
#include "base/num.h"
#include "gateway/creation_store.h"
#include "gateway/trial_pages.h"
#include "net/server.h"
#include <stdio.h>

struct creation_wish { // of a POST; what is not said is empty
    struct view definition, why;
    bool start, running;
    uint64_t revision;
};

enum { DEFINITION = 1, WHY = 2, START = 4, RUNNING = 8, REVISION = 16 }; // members

static bool read_text(const struct json_reader *r, enum json_token t, struct arena *a,
                      struct view *out)
{
    return t == JSON_STRING && json_unescape(r, a, out) && (out->n == 0 || out->p);
}

static bool read_bool(enum json_token t, bool *out)
{
    *out = t == JSON_TRUE;
    return t == JSON_TRUE || t == JSON_FALSE;
}

// 0: no member of ours.
static unsigned member_of(struct view key)
{
    static const char *const names[] = {"definition", "why", "start", "running", "revision"};
    unsigned i = 0;
    while (i < 5 && !view_is(key, names[i]))
        i++;
    return i < 5 ? 1u << i : 0;
}

static const char *read_member(struct json_reader *r, unsigned member, struct arena *a,
                               struct creation_wish *w)
{
    enum json_token t = json_next(r);
    switch (member) {
    case DEFINITION:
        return read_text(r, t, a, &w->definition) && w->definition.n > 0 &&
                       w->definition.n <= CREATION_TEXT
                   ? NULL
                   : "definition: expected the text of an experiment's section, at most 64KiB";
    case WHY:
        return read_text(r, t, a, &w->why) && w->why.n <= TRIAL_WHY
                   ? NULL
                   : "why: expected a text of at most 256 bytes";
    case START:
        return read_bool(t, &w->start) ? NULL : "start: expected true or false";
    case RUNNING:
        return read_bool(t, &w->running) ? NULL : "running: expected true or false";
    default:
        return t == JSON_NUMBER && num_parse_u64(r->text, &w->revision) == NUM_OK &&
                       w->revision > 0 && w->revision <= TRIAL_MOST
                   ? NULL
                   : "revision: expected a whole number from 1";
    }
}

// may: the members that may stand there. NULL: read; else what was expected.
static const char *read_wanted(struct exchange *ex, unsigned may, const char *expected,
                               struct creation_wish *w)
{
    struct json_reader r;
    enum json_token t;
    unsigned has = 0;
    *w = (struct creation_wish){.definition = VIEW(""), .why = VIEW("")};
    json_read(&r, buffer_view(&ex->body));
    if (json_next(&r) != JSON_OBJECT)
        return expected;
    while ((t = json_next(&r)) == JSON_KEY) {
        unsigned member = member_of(r.text);
        if (!(member & may) || (member & has))
            return expected;
        const char *wrong = read_member(&r, member, &ex->arena, w);
        if (wrong)
            return wrong;
        has |= member;
    }
    return t == JSON_OBJECT_END && json_next(&r) == JSON_END ? NULL : expected;
}

static void refuse(struct exchange *ex, enum creation_end end, const char *why)
{
    static const unsigned status[] = {[CREATION_WRONG] = 400,
                                      [CREATION_TAKEN] = 409,
                                      [CREATION_FULL] = 503,
                                      [CREATION_UNKEPT] = 409};
    char text[CREATION_WHY + 32];
    snprintf(text, sizeof(text), "%s%s",
             end == CREATION_WRONG || end == CREATION_TAKEN ? "definition: " : "", why);
    admin_refuse(ex, status[end], view_str(text));
}

// False: out of memory.
static bool fill(struct creation *it, struct gateway *g, const struct exchange *ex,
                 const struct creation_wish *w)
{
    it->mark = rand_u64(&g->main.rand) | 1;
    it->at_us = loop_wall_us(&g->main);
    it->start = w->start;
    snprintf(it->who, sizeof(it->who), "%.*s", VIEW_ARG(server_conn_peer(ex->conn)));
    snprintf(it->why, sizeof(it->why), "%.*s", VIEW_ARG(w->why));
    return buffer_append(&it->text, w->definition.p, w->definition.n);
}

static void answer_gone(struct exchange *ex, const char *name)
{
    struct admin_json page;
    json_put_text(admin_json_begin(&page), "deleted", name);
    admin_json_end(&page, ex, 200);
}

void creation_pages_taken(struct exchange *ex, struct gateway *g, const char *name, bool gone)
{
    const struct trial_run *run = trials_find(g, view_str(name));
    const struct created *made = creations_find(g, view_str(name));
    if (gone)
        answer_gone(ex, name);
    else if (run)
        trial_pages_tell(ex, 201, g, run);
    else // others have created what it cannot stand beside
        refuse(ex, CREATION_TAKEN,
               made && made->told[0] ? made->told : "it is kept, and not in force yet");
}

void creation_pages_end(struct exchange *ex, struct gateway *g, enum creation_end end,
                        const char *name, bool gone, const char *why)
{
    if (end == CREATION_DONE)
        creations_answer(g, ex, name, gone);
    else
        refuse(ex, end, why);
}

static void create(struct exchange *ex, struct gateway *g, struct creation *it)
{
    char why[CREATION_WHY];
    const struct created *made = NULL;
    enum creation_end end = creations_try(g, it, why);
    if (end == CREATION_DONE && !g->snap->store)
        end = creations_add(g, it, &made, why);
    else if (end == CREATION_DONE) {
        if (creation_store_create(g, it, ex, why))
            return; // it is answered when the store has
        end = CREATION_FULL;
    }
    creation_pages_end(ex, g, end, made ? made->it.name : "", false, why);
}

void creation_pages_create(struct exchange *ex, void *gateway)
{
    struct gateway *g = gateway;
    struct creation_wish w;
    struct creation it;
    const char *wrong =
        read_wanted(ex, DEFINITION | WHY | START,
                    "body: expected {\"definition\": TEXT}, and start and why, each once", &w);
    if (!wrong && w.definition.n == 0)
        wrong = "definition: expected the text of an experiment's section, at most 64KiB";
    if (wrong) {
        admin_refuse(ex, 400, view_str(wrong));
        return;
    }
    creation_init(&it);
    if (fill(&it, g, ex, &w))
        create(ex, g, &it);
    else
        refuse(ex, CREATION_FULL, "out of memory");
    creation_deinit(&it);
}

// ---- and one that goes -------------------------------------------------------------------------------

static void drop(struct exchange *ex, struct gateway *g, struct created *c, struct view reason)
{
    char why[CREATION_WHY], who[TRIAL_WHO + 1], name[TRIAL_NAME + 1];
    snprintf(who, sizeof(who), "%.*s", VIEW_ARG(server_conn_peer(ex->conn)));
    snprintf(name, sizeof(name), "%s", c->it.name);
    enum creation_end end = creations_check(g, why);
    if (end == CREATION_DONE && !g->snap->store)
        end = creations_remove(g, c, view_str(who), reason, why);
    else if (end == CREATION_DONE) {
        if (creation_store_delete(g, c, ex, view_str(who), reason, why))
            return;
        end = CREATION_FULL;
    }
    creation_pages_end(ex, g, end, name, true, why);
}

void creation_pages_delete(struct exchange *ex, struct gateway *g, struct view name)
{
    struct creation_wish w;
    struct created *c = creations_find(g, name);
    const struct trial_run *run = trials_find(g, name);
    const char *wrong = buffer_len(&ex->body) > 0
                            ? read_wanted(ex, WHY | RUNNING | REVISION,
                                          "body: expected revision, why and running, each once", &w)
                            : NULL;
    if (buffer_len(&ex->body) == 0)
        w = (struct creation_wish){.why = VIEW("")};
    if (run && !run->place->keeps[run->index].config->created && !c)
        admin_refuse(ex, 409,
                     VIEW("experiment: its section stands in gateway.conf: it goes with a reload"));
    else if (!c)
        admin_refuse(ex, 404, VIEW("experiment: expected one that was created"));
    else if (wrong)
        admin_refuse(ex, 400, view_str(wrong));
    else if (run && w.revision > 0 && w.revision != run->state.revision)
        trial_pages_conflict(ex, g, run, w.revision);
    else if (!c->told[0] && run && run->state.status == TRIAL_RUNNING && !w.running)
        admin_refuse(ex, 409,
                     VIEW("experiment: it is running: pause it, roll it back or promote a variant "
                          "first, or say running: true"));
    else
        drop(ex, g, c, w.why);
}
