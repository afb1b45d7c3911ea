#include "config/config.h"
#include "base/mem.h"
#include "config/read.h"
#include <stdio.h>

bool config_name_ok(struct view name)
{
    return view_is_name(name, 128);
}

const struct config_model *config_model_find(const struct config *c, struct view name)
{
    for (unsigned i = 0; i < c->model_count; i++)
        if (view_is(name, c->models[i].name))
            return &c->models[i];
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
