#include "config/config.h"
#include "base/mem.h"
#include "config/read.h"
#include <stdio.h>
#include <stdlib.h>

bool config_name_ok(struct view name)
{
    return view_is_model_name(name, CONFIG_NAME_BYTES - 1);
}

unsigned config_replicas(const struct config *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->worker_count; i++)
        n += c->workers[i].replicas + c->workers[i].address_count;
    return n;
}

static int compare_name(struct view a, struct view b)
{
    int way = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return way ? way : (a.n > b.n) - (a.n < b.n);
}

static int by_name(const void *a, const void *b)
{
    const struct config_model *const *x = a, *const *y = b;
    return compare_name(view_str((*x)->name), view_str((*y)->name));
}

static bool sort_models(struct config *c)
{
    c->by_name = arena_array(&c->arena, c->model_count + 1, sizeof(*c->by_name));
    for (unsigned i = 0; c->by_name && i < c->model_count; i++)
        c->by_name[i] = &c->models[i];
    if (c->by_name)
        qsort(c->by_name, c->model_count, sizeof(*c->by_name), by_name);
    return c->by_name != NULL;
}

const struct config_model *config_model_find(const struct config *c, struct view name)
{
    for (unsigned low = 0, high = c->model_count; low < high && name.n > 0;) {
        unsigned middle = low + (high - low) / 2;
        int way = compare_name(name, view_str(c->by_name[middle]->name));
        if (way == 0)
            return c->by_name[middle];
        if (way < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

bool config_names_secrets(const struct config *c)
{
    bool secrets = c->admin.token_file || c->store.password_file ||
                   c->store.sentinel_password_file || c->store.key;
    for (unsigned i = 0; i < c->listen_count; i++)
        secrets |= c->listens[i].key != NULL;
    for (unsigned i = 0; i < c->experiment_count; i++)
        secrets |= c->experiments[i].force_key_file != NULL;
    return secrets;
}

const struct config_worker *config_worker_find(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->worker_count; i++)
        if (strcmp(c->workers[i].name, name) == 0)
            return &c->workers[i];
    return NULL;
}

const struct config_layer *config_layer_find(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->layer_count; i++)
        if (strcmp(c->layers[i].name, name) == 0)
            return &c->layers[i];
    return NULL;
}

const struct config_experiment *config_experiment_find(const struct config *c, const char *name)
{
    for (unsigned i = 0; i < c->experiment_count; i++)
        if (strcmp(c->experiments[i].name, name) == 0)
            return &c->experiments[i];
    return NULL;
}

int config_error_print(char *out, size_t size, const char *filename, const struct config_error *e)
{
    if (e->line == 0)
        return snprintf(out, size, "%s: %s\n", filename, e->text);
    return snprintf(out, size, "%s:%u: %s\n", filename, e->line, e->text);
}

struct config *config_ref(struct config *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void config_unref(struct config *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    arena_deinit(&c->arena);
    mem_free(c);
}

// By line, as a person reads; there are few, and equal lines keep their order.
static void sort_errors(struct config_errors *errors)
{
    for (unsigned i = 1; i < errors->count; i++) {
        struct config_error e = errors->error[i];
        unsigned j = i;
        for (; j > 0 && errors->error[j - 1].line > e.line; j--)
            errors->error[j] = errors->error[j - 1];
        errors->error[j] = e;
    }
}

// Both readings and the checks. scratch lives as long as this call's caller wants.
static void read_text(struct config *c, struct view text, struct arena *scratch,
                      struct config_errors *errors)
{
    char *copy = arena_alloc(scratch, text.n + 1); // comments are wiped out of it for libConfuse
    struct outline outline;
    if (!copy) {
        config_error_add(errors, 0, "out of memory");
        return;
    }
    if (text.n)
        memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    if (!outline_read(text, copy, scratch, &outline, errors))
        return;
    config_read(c, copy, &outline, scratch, errors);
    if (errors->count == 0 && !sort_models(c))
        config_error_add(errors, 0, "out of memory");
    if (errors->count == 0)
        config_check(c, &outline, errors);
}

struct config *config_parse(struct view text, const char *filename, struct config_errors *errors)
{
    memset(errors, 0, sizeof(*errors));
    if (text.n > CONFIG_MAX_BYTES) {
        config_error_add(errors, 0, "larger than 1MiB");
        return NULL;
    }
    struct config *c = mem_zalloc(sizeof(*c));
    if (!c) {
        config_error_add(errors, 0, "out of memory");
        return NULL;
    }
    atomic_init(&c->refs, 1);
    arena_init(&c->arena, 0);
    struct arena scratch;
    arena_init(&scratch, 16384);
    c->path = arena_copy(&c->arena, view_of(filename, strlen(filename) + 1)).p;
    if (c->path)
        read_text(c, text, &scratch, errors);
    else
        config_error_add(errors, 0, "out of memory");
    arena_deinit(&scratch);
    if (errors->count == 0)
        return c;
    sort_errors(errors);
    config_unref(c);
    return NULL;
}
