#include "backends/roster.h"

#include "base/mem.h"
#include <stdlib.h>

// ---- digests -----------------------------------------------------------------------------------------

static void mix(struct hash128 *h, const void *p, size_t n)
{
    struct {
        struct hash128 before, now;
        uint64_t bytes;
    } both = {*h, hash128(view_of(p, n), 0), n};
    *h = hash128(view_of(&both, sizeof(both)), 0);
}

static void mix_view(struct hash128 *h, struct view v)
{
    mix(h, v.n ? v.p : "", v.n);
}

static void mix_tensors(struct hash128 *h, const struct tensor *list, unsigned n)
{
    mix(h, &n, sizeof(n));
    for (unsigned i = 0; i < n; i++) {
        uint32_t kind[2] = {list[i].dtype, list[i].rank};
        int64_t dims[TENSOR_MAX_RANK];
        mix_view(h, list[i].name);
        mix(h, kind, sizeof(kind));
        for (unsigned k = 0; k < list[i].rank; k++)
            dims[k] = tensor_dim(&list[i], k);
        mix(h, dims, list[i].rank * sizeof(dims[0]));
    }
}

static struct hash128 model_digest(const struct roster_model *m)
{
    struct hash128 h = {m->expected, m->meta.n_versions};
    mix_view(&h, m->name);
    mix_view(&h, m->why);
    mix_view(&h, m->refused.version);
    mix_view(&h, m->refused.state);
    mix_view(&h, m->refused.reason);
    if (!roster_usable(m))
        return h;
    mix_view(&h, m->config_why);
    mix_view(&h, m->meta.config);
    mix_view(&h, m->meta.platform);
    mix(&h, &m->meta.max_batch, sizeof(m->meta.max_batch));
    mix(&h, &m->meta.instances, sizeof(m->meta.instances));
    mix(&h, &m->meta.serial, sizeof(m->meta.serial));
    for (unsigned i = 0; i < m->meta.n_versions; i++)
        mix_view(&h, m->meta.versions[i]);
    mix_tensors(&h, m->meta.inputs, m->meta.n_inputs);
    mix_tensors(&h, m->meta.outputs, m->meta.n_outputs);
    return h;
}

static int order(struct view a, struct view b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int by_name(const void *a, const void *b)
{
    const struct roster_model *x = a, *y = b;
    return order(x->name, y->name);
}

struct hash128 roster_seal(struct roster_model *models, unsigned n)
{
    struct hash128 h = {n, 0};
    if (n > 0)
        qsort(models, n, sizeof(*models), by_name);
    for (unsigned i = 0; i < n; i++) {
        models[i].digest = model_digest(&models[i]);
        mix(&h, &models[i].digest, sizeof(models[i].digest));
    }
    return h;
}

// ---- life --------------------------------------------------------------------------------------------

static bool copy_refusal(struct arena *a, struct roster_refusal *r)
{
    struct view *const part[] = {&r->version, &r->state, &r->reason};
    bool ok = true;
    for (unsigned i = 0; i < 3; i++) {
        size_t n = part[i]->n;
        *part[i] = arena_copy(a, *part[i]);
        ok = ok && part[i]->n == n;
    }
    return ok;
}

static bool copy_model(struct arena *a, struct roster_model *out, const struct roster_model *from)
{
    *out = *from;
    out->name = arena_copy(a, from->name);
    out->why = arena_copy(a, from->why);
    out->config_why = arena_copy(a, from->config_why);
    if ((from->name.n && !out->name.p) || (from->why.n && !out->why.p) ||
        (from->config_why.n && !out->config_why.p) || !copy_refusal(a, &out->refused))
        return false;
    if (!roster_usable(from)) {
        out->meta = (struct model_metadata){0};
        return true;
    }
    bool ok = model_metadata_copy(a, &out->meta, &from->meta);
    out->meta.name = out->name;
    return ok;
}

static bool copy_all(struct roster *r, const struct roster_model *models, unsigned n)
{
    r->models = arena_array(&r->arena, n ? n : 1, sizeof(*r->models));
    for (; r->models && r->n < n; r->n++) {
        if (!copy_model(&r->arena, &r->models[r->n], &models[r->n]))
            return false;
        r->n_usable += roster_usable(&models[r->n]);
    }
    return r->models != NULL;
}

struct roster *roster_new(const struct roster_model *models, unsigned n, unsigned left_out,
                          struct view why)
{
    struct roster *r = mem_zalloc(sizeof(*r));
    if (!r)
        return NULL;
    arena_init(&r->arena, 0);
    atomic_init(&r->refs, 1);
    r->left_out = left_out;
    r->why = arena_copy(&r->arena, why);
    if ((why.n > 0 && !r->why.p) || !copy_all(r, models, n)) {
        roster_unref(r);
        return NULL;
    }
    r->digest = roster_seal(r->models, n);
    return r;
}

struct roster *roster_ref(struct roster *r)
{
    if (r)
        atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void roster_unref(struct roster *r)
{
    if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) > 1)
        return;
    arena_deinit(&r->arena);
    mem_free(r);
}

const struct roster_model *roster_find(const struct roster *r, struct view name)
{
    unsigned low = 0, high = r ? r->n : 0;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        int c = order(r->models[middle].name, name);
        if (c == 0)
            return &r->models[middle];
        if (c < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
