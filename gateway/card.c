#include "gateway/card.h"

#include "base/mem.h"
#include <pthread.h>

struct card {
    pthread_mutex_t lock;
    struct arena arena;
    struct model_metadata meta;
    bool known;
};

static bool copy_tensors(struct arena *a, struct tensor **out, const struct tensor *from,
                         unsigned n)
{
    *out = arena_array(a, n ? n : 1, sizeof(**out));
    if (!*out)
        return false;
    for (unsigned i = 0; i < n; i++) {
        (*out)[i] = from[i];
        (*out)[i].name = arena_copy(a, from[i].name);
        if (from[i].name.n > 0 && !(*out)[i].name.p)
            return false;
    }
    return true;
}

static bool copy_metadata(struct arena *a, struct model_metadata *out,
                          const struct model_metadata *from)
{
    *out = *from;
    out->name = arena_copy(a, from->name);
    out->platform = arena_copy(a, from->platform);
    out->versions = arena_array(a, from->n_versions ? from->n_versions : 1, sizeof(*out->versions));
    if (!out->versions || !out->name.p)
        return false;
    for (unsigned i = 0; i < from->n_versions; i++)
        out->versions[i] = arena_copy(a, from->versions[i]);
    return copy_tensors(a, &out->inputs, from->inputs, from->n_inputs) &&
           copy_tensors(a, &out->outputs, from->outputs, from->n_outputs);
}

// The home alone makes cards, so there is no race for the first.
static struct card *card_of(struct model *m)
{
    struct card *c = atomic_load_explicit(&m->user, memory_order_acquire);
    if (c || !(c = mem_zalloc(sizeof(*c))))
        return c;
    pthread_mutex_init(&c->lock, NULL);
    arena_init(&c->arena, 1024);
    atomic_store_explicit(&m->user, c, memory_order_release);
    return c;
}

void card_set(struct model *m, const struct model_metadata *meta)
{
    struct card *c = card_of(m);
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    arena_deinit(&c->arena);
    arena_init(&c->arena, 1024);
    c->known = copy_metadata(&c->arena, &c->meta, meta);
    pthread_mutex_unlock(&c->lock);
}

bool card_copy(struct model *m, struct arena *a, struct model_metadata *out)
{
    struct card *c = atomic_load_explicit(&m->user, memory_order_acquire);
    if (!c)
        return false;
    pthread_mutex_lock(&c->lock);
    bool ok = c->known && copy_metadata(a, out, &c->meta);
    pthread_mutex_unlock(&c->lock);
    return ok;
}

void card_free(struct model *m)
{
    struct card *c = atomic_load(&m->user);
    if (!c)
        return;
    arena_deinit(&c->arena);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}
