#include "gateway/chains.h"

#include "base/mem.h"
#include "gateway/card.h"
#include "gateway/difference.h"
#include "gateway/process.h"
#include "gateway/snapshot.h"
#include <stdio.h>
#include <string.h>

struct model_chain {
    struct chain chain;
    struct chain_link links[CHAIN_LINKS];
    struct default_answer *answer;
    _Atomic uint32_t unfit; // see struct chain
};

struct chains {
    const struct config *config;
    struct model_chain **of; // [config.model_count], as its models; NULL: none
    unsigned n;              // that are there
};

static struct default_answer *read_answer(const struct config_model *m, char why[FILE_WHY])
{
    char said[FILE_WHY];
    struct buffer text;
    struct error e;
    struct default_answer *d = NULL;
    buffer_init(&text);
    if (!file_read(m->default_answer, DEFAULT_ANSWER_FILE, &text, said))
        snprintf(why, FILE_WHY, "model \"%s\": default: %.300s", m->name, said);
    else if (!(d = default_answer_read(buffer_view(&text), &e)))
        snprintf(why, FILE_WHY, "model \"%s\": default: %.100s: %s", m->name, m->default_answer,
                 e.text);
    buffer_deinit(&text);
    return d;
}

static struct chain_link link_of(const char *step)
{
    enum link_kind kind = strcmp(step, CONFIG_DEFAULT) == 0  ? LINK_DEFAULT
                          : strcmp(step, CONFIG_CACHED) == 0 ? LINK_CACHED
                                                             : LINK_MODEL;
    return (struct chain_link){.kind = kind, .name = view_str(step)};
}

static void model_chain_free(struct model_chain *m)
{
    if (!m)
        return;
    default_answer_free(m->answer);
    mem_free(m);
}

static struct model_chain *model_chain_new(const struct config_model *m, char why[FILE_WHY])
{
    struct model_chain *c = mem_zalloc(sizeof(*c));
    if (!c) {
        snprintf(why, FILE_WHY, "out of memory");
        return NULL;
    }
    c->links[0] = (struct chain_link){.kind = LINK_MODEL, .name = view_str(m->name)};
    for (unsigned i = 0; i < m->fallback_count; i++)
        c->links[i + 1] = link_of(m->fallback[i]);
    c->chain = (struct chain){
        .links = c->links, .n = m->fallback_count + 1, .step_timeout_us = m->step_timeout_us};
    if (m->default_answer && !(c->answer = read_answer(m, why))) {
        model_chain_free(c);
        return NULL;
    }
    c->chain.answer = c->answer;
    c->chain.unfit = &c->unfit;
    return c;
}

_Static_assert(CONFIG_MAX_FALLBACK == CHAIN_STEPS, "none is left out");

static bool fill(struct chains *all, char why[FILE_WHY])
{
    const struct config *c = all->config;
    for (unsigned i = 0; i < c->model_count; i++) {
        if (c->models[i].fallback_count == 0)
            continue;
        all->of[i] = model_chain_new(&c->models[i], why);
        if (!all->of[i])
            return false;
        all->n++;
    }
    return true;
}

struct chains *chains_new(const struct config *c, char why[FILE_WHY])
{
    struct chains *all = mem_zalloc(sizeof(*all));
    snprintf(why, FILE_WHY, "out of memory");
    if (!all)
        return NULL;
    all->config = c;
    all->of = mem_zalloc((c->model_count + 1) * sizeof(struct model_chain *));
    if (all->of && fill(all, why))
        return all;
    chains_free(all);
    return NULL;
}

void chains_free(struct chains *all)
{
    if (!all)
        return;
    for (unsigned i = 0; all->of && i < all->config->model_count; i++)
        model_chain_free(all->of[i]);
    mem_free(all->of);
    mem_free(all);
}

const struct chain *chains_find(const struct chains *all, struct view model)
{
    const struct config_model *m = all->n > 0 ? config_model_find(all->config, model) : NULL;
    const struct model_chain *c = m ? all->of[m - all->config->models] : NULL;
    return c ? &c->chain : NULL;
}

// ---- do they fit? --------------------------------------------------------------------------------------

// What is not known of fits: its errors will tell.
static bool link_fits(struct gateway *g, const struct model_chain *c, unsigned i,
                      const struct model_metadata *asked, struct arena *a,
                      char why[DIFFERENCE_TEXT])
{
    const struct chain_link *l = &c->links[i];
    struct model_metadata step;
    if (l->kind == LINK_DEFAULT)
        return outputs_fit(why, c->answer->outputs, c->answer->n_outputs, asked);
    struct model *m = l->kind == LINK_MODEL ? table_find(g->table, l->name) : NULL;
    return !m || !card_copy(m, a, &step) || metadata_fits(why, &step, asked);
}

static void tell_fit(struct gateway *g, struct model_chain *c, unsigned i, bool fits,
                     const char *why)
{
    uint32_t bit = 1u << i, was = atomic_load(&c->unfit);
    if (!(was & bit) == fits)
        return;
    atomic_store(&c->unfit, fits ? was & ~bit : was | bit);
    if (fits)
        GATEWAY_EVENT(g, NULL, LOG_INFO, "chain_step_fits", LOG_S("model", c->links[0].name),
                      LOG_S("step", c->links[i].name));
    else
        GATEWAY_EVENT(g, NULL, LOG_ERROR, "chain_step_unfit", LOG_S("model", c->links[0].name),
                      LOG_S("step", c->links[i].name), LOG_CSTR("why", why));
}

static void look_at_chain(struct gateway *g, struct model_chain *c)
{
    struct model *m = table_find(g->table, c->links[0].name);
    struct model_metadata asked;
    struct arena a;
    arena_init(&a, 0);
    for (unsigned i = 1; m && card_copy(m, &a, &asked) && i < c->chain.n; i++) {
        char why[DIFFERENCE_TEXT] = "";
        tell_fit(g, c, i, link_fits(g, c, i, &asked, &a, why), why);
    }
    arena_deinit(&a);
}

void chains_look(struct gateway *g)
{
    struct chains *all = g->snap->chains;
    for (unsigned i = 0; all->n > 0 && i < all->config->model_count; i++)
        if (all->of[i])
            look_at_chain(g, all->of[i]);
}
