#include "gateway/homes.h"

#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "gateway/difference.h"
#include "gateway/link.h"

// A desk and what the doer keeps beside it.
struct home {
    struct part *part;
    struct desk *desk;
    struct wheel_timer timer; // its wish to be woken
    bool is_dirty;
    bool knows_form;
    struct arena arena;         // of form
    struct model_metadata form; // of its model, as those say who are up
    bool rows_are_free;         // the first dimensions in it are
    struct hash128 fits;        // batch key of the last request that had it; zero: none had
    struct home *next;          // of the part
    struct home *next_dirty;    // of those that must decide
};

static void on_timer(struct wheel_timer *t, uint64_t now_us)
{
    struct home *h = container_of(t, struct home, timer);
    desk_on_wake(h->desk, now_us, &h->part->fx);
    part_run(h->part);
}

struct home *home_of(struct part *p, struct model *m)
{
    invariant(model_home(m) == p->loop->index);
    if (m->desk)
        return m->desk->user;
    struct home *h = mem_zalloc(sizeof(*h));
    if (!h)
        return NULL;
    h->desk = desk_new(m, p->loop->index, rand_u64(&p->loop->rand), loop_now_us(p->loop));
    if (!h->desk) {
        mem_free(h);
        return NULL;
    }
    desk_keep_in(h->desk, p->cache);
    desk_on_chain(h->desk, p->gateway->table, chains_find(p->snap->chains, m->name));
    store_serve(p, h->desk);
    m->desk = h->desk;
    h->desk->user = h;
    h->part = p;
    arena_init(&h->arena, 1024);
    h->timer.fn = on_timer;
    h->next = p->homes;
    p->homes = h;
    return h;
}

struct desk *home_desk(struct home *h)
{
    return h->desk;
}

void home_touch(struct home *h)
{
    if (!h->is_dirty) {
        h->is_dirty = true;
        h->next_dirty = h->part->dirty;
        h->part->dirty = h;
    }
    loop_flush_later(h->part->loop, &h->part->decide);
}

void home_know_form(struct home *h, const struct model_metadata *meta)
{
    arena_reset(&h->arena);
    h->knows_form = model_metadata_copy(&h->arena, &h->form, meta);
    h->fits = (struct hash128){0};
    h->rows_are_free = true;
    for (unsigned i = 0; i < meta->n_inputs; i++)
        h->rows_are_free &= meta->inputs[i].rank > 0 && meta->inputs[i].shape[0] < 0;
}

// Its inputs have ranks and dimensions that the model takes, as far as we know: other versions may have a form of their
// own, and so may what comes up next where nobody is up. Servers that tell no ModelConfig take what their metadata
// do not say, too. False: `why`.
static bool takes_form(struct home *h, const struct ticket *t, char why[DIFFERENCE_TEXT])
{
    if (hash128_eq(h->fits, t->request->batch_key)) // but for its rows it is as the last one
        return true;
    bool other = t->to.version.n > 0 && h->form.n_versions > 1;
    bool told = h->knows_form && (h->form.max_batch > 0 || h->form.instances > 0);
    if (!told || other || h->desk->replicas.n_up == 0)
        return true;
    if (!request_fits(why, t->request, &h->form))
        return false;
    if (h->rows_are_free)
        h->fits = t->request->batch_key;
    return true;
}

// It goes straight back, and the client is told.
static void bounce(struct part *p, struct ticket *t, struct failure why)
{
    t->error = why;
    fx_post(&p->fx, &t->lend, MSG_BACK, p->loop->index, t->lend.from);
    part_run(p);
}

static void on_lend(struct part *p, struct ticket *t)
{
    struct home *h = home_of(p, t->to.model);
    char why[DIFFERENCE_TEXT];
    if (!h) {
        bounce(p, t, *FAILED(STATUS_UNAVAILABLE, "out of memory"));
        return;
    }
    if (!takes_form(h, t, why)) {
        bounce(p, t, failure_format(p->fx.blocks, STATUS_BAD_REQUEST, "%s", why));
        return;
    }
    desk_on_ticket(h->desk, t, loop_now_us(p->loop), &p->fx);
    home_touch(h);
    part_run(p);
}

static void on_cancel(struct part *p, struct ticket *t)
{
    struct desk *d = t->to.model->desk;
    if (d) {
        desk_on_cancel(d, t, loop_now_us(p->loop), &p->fx);
        home_touch(d->user);
    } else { // the ticket was bounced and is on its way back: the two cross
        fx_post(&p->fx, &t->cancel, MSG_ECHO, p->loop->index, t->cancel.from);
    }
    part_run(p);
}

void homes_on_msg(struct part *p, struct msg *m)
{
    uint64_t now_us = loop_now_us(p->loop);
    switch (m->kind) {
    case MSG_LEND:
        on_lend(p, container_of(m, struct ticket, lend));
        break;
    case MSG_CANCEL:
        on_cancel(p, container_of(m, struct ticket, cancel));
        break;
    case MSG_BACK:
        flow_on_back(&p->flow, container_of(m, struct ticket, lend), now_us, &p->fx);
        part_run(p);
        break;
    case MSG_ECHO:
        flow_on_echo(&p->flow, container_of(m, struct ticket, cancel), now_us, &p->fx);
        part_run(p);
        break;
    default:
        invariant(!"a message of the router");
    }
}

void homes_wake(struct part *p, struct desk *d, uint64_t at_us)
{
    struct home *h = d->user;
    wheel_set(loop_wheel(p->loop), &h->timer, at_us);
}

void homes_decide(struct part *p, uint64_t now_us)
{
    while (p->dirty) {
        struct home *h = p->dirty;
        p->dirty = h->next_dirty;
        h->is_dirty = false;
        desk_run(h->desk, now_us, &p->fx);
    }
}

struct home *homes_first(struct part *p)
{
    return p->homes;
}

struct home *homes_next(struct home *h)
{
    return h->next;
}

void homes_show(struct part *p, struct json_writer *w)
{
    json_w_array(w);
    for (struct home *h = p->homes; h; h = h->next)
        desk_show(h->desk, loop_now_us(p->loop), w);
    json_w_array_end(w);
}

static void home_free(struct home *h)
{
    wheel_cancel(loop_wheel(h->part->loop), &h->timer);
    desk_free(h->desk);
    arena_deinit(&h->arena);
    mem_free(h);
}

bool homes_drop(struct part *p, struct model *m)
{
    struct home **at = &p->homes, *h = m->desk ? m->desk->user : NULL;
    if (!h)
        return true;
    if (h->is_dirty || !desk_is_idle(h->desk))
        return false;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    m->desk = NULL;
    home_free(h);
    return true;
}

// What is in no section has the rules of the worker that serves it.
static const struct config_model *find_rules(const struct part *p, const struct model *m,
                                             unsigned replica)
{
    const struct config_model *c = snapshot_model(p->snap, m->name);
    if (c)
        return c;
    const struct link *l = replica == HOME_NO_REPLICA ? NULL : part_link(p, replica);
    return l && l->section ? &l->section->rules : &p->snap->config->unlisted;
}

void home_adopt(struct part *p, struct model *m, unsigned replica)
{
    struct model_rules rules;
    bool was_listed = m->rules.listed;
    part_rules(find_rules(p, m, replica), &rules);
    rules.listed = snapshot_model(p->snap, m->name) != NULL;
    if (memcmp(&rules, &m->rules, sizeof(rules)) == 0)
        return; // two that are equal may differ in their padding: that costs a decision
    if (!m->desk) {
        model_set_rules(m, &rules);
    } else {
        desk_on_rules(m->desk, &rules);
        home_touch(m->desk->user);
    }
    if (was_listed && !rules.listed && replica == HOME_NO_REPLICA)
        model_offer(m); // nobody ever had it: there is nobody to wait for
}

static uint32_t first_replica(const struct desk *d)
{
    for (unsigned i = 0; d && i < d->replicas.n; i++) {
        if (d->replicas.at[i].id != REPLICA_NONE)
            return d->replicas.at[i].id;
    }
    return HOME_NO_REPLICA;
}

void homes_adopt(struct part *p)
{
    for (unsigned i = 0; i < TABLE_MODELS; i++) {
        struct model *m = table_at(p->gateway->table, i);
        if (!m || model_home(m) != p->loop->index)
            continue;
        home_adopt(p, m, first_replica(m->desk));
        if (m->desk)
            desk_on_chain(m->desk, p->gateway->table, chains_find(p->snap->chains, m->name));
    }
}

void homes_free(struct part *p)
{
    while (p->homes) {
        struct home *h = p->homes;
        p->homes = h->next;
        home_free(h);
    }
}
