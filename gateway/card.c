#include "gateway/card.h"

#include "base/mem.h"
#include <pthread.h>

struct card {
    pthread_mutex_t lock;
    struct arena arena;
    struct model_metadata meta;
    bool known;
};

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
    c->known = model_metadata_copy(&c->arena, &c->meta, meta);
    c->meta.instances = 0; // of a worker behind us; to our clients we are neither
    c->meta.serial = false;
    pthread_mutex_unlock(&c->lock);
}

bool card_copy(struct model *m, struct arena *a, struct model_metadata *out)
{
    struct card *c = atomic_load_explicit(&m->user, memory_order_acquire);
    if (!c)
        return false;
    pthread_mutex_lock(&c->lock);
    struct model_metadata meta = c->meta;
    meta.config = (struct view){0};
    bool ok = c->known && model_metadata_copy(a, out, &meta);
    pthread_mutex_unlock(&c->lock);
    return ok;
}

bool card_lacks(struct model *m, struct view version)
{
    struct card *c = atomic_load_explicit(&m->user, memory_order_acquire);
    if (!c)
        return false;
    pthread_mutex_lock(&c->lock);
    bool lacks = c->known;
    for (unsigned i = 0; lacks && i < c->meta.n_versions; i++)
        lacks = !view_eq(c->meta.versions[i], version);
    pthread_mutex_unlock(&c->lock);
    return lacks;
}

unsigned card_versions(struct model *m, struct arena *a, struct view **out)
{
    struct card *c = atomic_load_explicit(&m->user, memory_order_acquire);
    unsigned n = 0;
    *out = NULL;
    if (!c)
        return 0;
    pthread_mutex_lock(&c->lock);
    if (c->known && c->meta.n_versions > 0)
        *out = arena_array(a, c->meta.n_versions, sizeof(**out));
    for (; *out && n < c->meta.n_versions; n++)
        if (!((*out)[n] = arena_copy(a, c->meta.versions[n])).p)
            break;
    pthread_mutex_unlock(&c->lock);
    return n;
}

struct view card_config(struct model *m, struct arena *a)
{
    struct card *c = atomic_load_explicit(&m->user, memory_order_acquire);
    if (!c)
        return (struct view){0};
    pthread_mutex_lock(&c->lock);
    struct view config = c->known ? arena_copy(a, c->meta.config) : (struct view){0};
    pthread_mutex_unlock(&c->lock);
    return config;
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
