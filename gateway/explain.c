#include "gateway/explain.h"

#include "base/json.h"
#include "gateway/access.h"
#include "gateway/endpoint.h"
#include "gateway/survey.h"
#include <stdio.h>

_Static_assert(SURVEY_ABOUT >= PAST_ID, "loops are asked about an id");

// ---- what is shown -----------------------------------------------------------------------------------

static void put_text(struct json_writer *w, const char *key, struct view text)
{
    json_w_key(w, view_str(key));
    if (text.n > 0)
        json_w_string(w, text);
    else
        json_w_null(w);
}

static void put_time(struct json_writer *w, const char *key, uint64_t wall_us)
{
    char text[32];
    json_w_key(w, view_str(key));
    json_w_string(w, view_of(text, access_time(text, wall_us)));
}

static void show_shadow(struct json_writer *w, const struct past_request *r)
{
    const struct past_shadow *s = &r->shadow;
    json_w_key(w, VIEW("shadow"));
    json_w_object(w);
    put_text(w, "name", past_text(r, PAST_WORD_SHADOW));
    put_text(w, "end", s->end ? view_str(s->end) : (struct view){0});
    if (s->lent)
        json_put(w, "took_us", s->took_us);
    if (s->status != STATUS_OK)
        put_text(w, "outcome", view_str(status_table[s->status].name));
    if (s->verdict)
        put_text(w, "verdict", view_str(s->verdict));
    json_w_object_end(w);
}

static void show_standing(struct json_writer *w, const struct past_request *r)
{
    const struct past_standing *s = &r->standing;
    json_w_key(w, VIEW("admitted"));
    if (r->deadline_us == 0) { // it never came so far
        json_w_null(w);
        return;
    }
    json_w_object(w);
    json_put(w, "ready_replicas", s->ready);
    json_put(w, "waiting_rows", s->waiting);
    json_put(w, "running_rows", s->running);
    json_put(w, "charged_rows", s->room > 0 ? (uint64_t)s->room : 0);
    json_put(w, "queue_limit_rows", s->limit);
    json_w_object_end(w);
}

static void show_batch(struct json_writer *w, const struct gateway *g, const struct past_ticket *t)
{
    if (t->sent > 0) {
        put_text(w, "replica", view_str(endpoint_name(g, t->replica)));
        json_put(w, "queue_us", t->queue_us);
        json_put(w, "left_us", t->left_us);
    }
    if (t->batch_rows > 0) {
        json_put(w, "batch_rows", t->batch_rows);
        put_text(w, "batch_reason", view_str(batch_reason_name[t->reason]));
        json_put(w, "compute_us", t->compute_us);
    }
}

static void show_ticket(struct json_writer *w, const struct gateway *g, const struct past_ticket *t)
{
    json_w_object(w);
    json_put(w, "rows", t->rows);
    json_put_bool(w, "home", !t->out);
    if (!t->out) {
        put_text(w, "outcome", view_str(t->called ? "called_home" : status_table[t->outcome].name));
        json_put(w, "sent", t->sent);
        json_put(w, "losses", t->losses);
        json_put(w, "deaths", t->deaths);
        json_put(w, "refusals", t->refusals);
        show_batch(w, g, t);
    }
    json_w_object_end(w);
}

// The last one; what was tried before it is told by `attempts`.
static void show_steps(struct json_writer *w, const struct gateway *g, const struct past_request *r)
{
    json_w_key(w, VIEW("steps"));
    json_w_array(w);
    if (r->tickets > 0) {
        json_w_object(w);
        put_text(w, "model", past_text(r, PAST_WORD_ANSWERED));
        put_text(w, "version", past_text(r, PAST_WORD_VERSION));
        json_put(w, "tickets", r->tickets);
        json_w_key(w, VIEW("parts"));
        json_w_array(w);
        for (uint32_t i = 0; i < r->tickets && i < PAST_TICKETS; i++)
            show_ticket(w, g, &r->ticket[i]);
        json_w_array_end(w);
        json_w_object_end(w);
    }
    json_w_array_end(w);
}

static void show_deadline(struct json_writer *w, const struct past_request *r)
{
    uint64_t used_us = r->answered_us ? r->answered_us : r->total_us;
    if (r->deadline_us == 0)
        return;
    json_put(w, "deadline_us", r->deadline_us);
    json_put(w, "left_us", r->deadline_us > used_us ? r->deadline_us - used_us : 0);
}

static void show_stages(struct json_writer *w, const struct past_request *r)
{
    json_w_key(w, VIEW("stages"));
    json_w_object(w);
    json_put(w, "parse_us", r->parse_us);
    json_put(w, "queue_us", r->queue_us);
    json_put(w, "compute_us", r->compute_us);
    json_put(w, "total_us", r->total_us);
    json_w_object_end(w);
}

static void show_request(struct json_writer *w, const struct gateway *g,
                         const struct past_request *r)
{
    put_text(w, "id", past_text(r, PAST_WORD_ID));
    json_put(w, "loop", r->loop);
    put_text(w, "client", past_text(r, PAST_WORD_CLIENT));
    put_text(w, "protocol", view_str(r->protocol));
    if (r->source)
        put_text(w, "source", view_str(r->source));
    if (r->aged)
        json_put(w, "age_s", r->age_s);
    put_time(w, "arrived", r->arrived_us);
    put_time(w, "ended", r->ended_us);
    put_text(w, "model", past_text(r, PAST_WORD_ASKED));
    if (r->draw) {
        put_text(w, "experiment", past_text(r, PAST_WORD_EXPERIMENT));
        put_text(w, "variant", past_text(r, PAST_WORD_VARIANT));
        put_text(w, "draw", view_str(r->draw));
    }
    if (past_text(r, PAST_WORD_SHADOW).n > 0)
        show_shadow(w, r);
    json_put(w, "rows", r->rows);
    json_put(w, "status", r->http);
    put_text(w, "outcome", view_str(status_table[r->outcome].name));
    put_text(w, "attempts", past_text(r, PAST_WORD_ATTEMPTS));
    put_text(w, "why", past_text(r, PAST_WORD_WHY));
    json_put_bool(w, "whole", r->whole);
    show_deadline(w, r);
    show_stages(w, r);
    show_standing(w, r);
    show_steps(w, g, r);
}

// ---- asking ------------------------------------------------------------------------------------------

// On the loop that is asked: the whole slot; one of zeros, if it remembers none.
static void recollect(struct part *p, struct view id, struct buffer *said)
{
    static const struct past_request none;
    const struct past_request *r = past_find(&p->past, id);
    if (!buffer_append(said, r ? r : &none, sizeof(*r)))
        buffer_reset(said);
}

// The newest; NULL: nobody remembers it. *silent: how many loops did not say.
static const struct past_request *choose(const struct gateway *g, const struct buffer *said,
                                         unsigned *silent)
{
    const struct past_request *newest = NULL;
    *silent = 0;
    for (unsigned i = 0; i < g->loops.n; i++) {
        const struct past_request *r = (const void *)said[i].data;
        if (buffer_len(&said[i]) == 0)
            ++*silent;
        else if (r->number > 0 && (!newest || r->ended_us > newest->ended_us))
            newest = r;
    }
    return newest;
}

static void refuse_unknown(struct exchange *ex, const struct gateway *g, unsigned silent)
{
    char why[200];
    if (g->snap->config->log.explain == 0)
        snprintf(why, sizeof(why), "id: no request is remembered: log.explain is 0");
    else if (silent > 0)
        snprintf(why, sizeof(why),
                 "id: %u of %u loops did not answer in time, and no other remembers it", silent,
                 g->loops.n);
    else
        snprintf(
            why, sizeof(why),
            "id: nobody remembers it: of each loop's ended requests the last %u are (log.explain)",
            g->snap->config->log.explain);
    admin_refuse(ex, silent > 0 ? 503 : 404, view_str(why));
}

static void explain(struct gateway *g, const struct buffer *said, void *ctx)
{
    struct exchange *ex = ctx;
    unsigned silent;
    const struct past_request *r = choose(g, said, &silent);
    struct admin_json page;
    if (r) {
        show_request(admin_json_begin(&page), g, r);
        admin_json_end(&page, ex, 200);
    } else {
        refuse_unknown(ex, g, silent);
    }
    exchange_unref(ex);
}

static int hex(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

// The path is canonical (http/path.c): its escapes are whole. False: no request has such an id.
static bool read_id(struct view path, char id[PAST_ID], size_t *n)
{
    *n = 0;
    for (size_t i = sizeof(EXPLAIN_PATH) - 1; i < path.n; i++) {
        char c = path.p[i];
        if (c == '%') {
            c = (char)(hex(path.p[i + 1]) * 16 + hex(path.p[i + 2]));
            i += 2;
        }
        if (*n == PAST_ID || c < 0x21 || c > 0x7e)
            return false;
        id[(*n)++] = c;
    }
    return true;
}

void explain_page(struct exchange *ex, void *gateway)
{
    char id[PAST_ID];
    size_t n;
    if (!read_id(ex->path, id, &n)) {
        admin_refuse(ex, 400, VIEW("id: expected 1 to 128 visible characters of ASCII"));
        return;
    }
    exchange_ref(ex); // until explain, or show_drop
    if (survey_start(gateway, recollect, view_of(id, n), explain, ex))
        return;
    admin_refuse(ex, 503, VIEW("out of memory"));
    exchange_unref(ex);
}
