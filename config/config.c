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

// The first reading. Returns the text for the second one, without its comments, which libConfuse does not understand everywhere;
// NULL: errors.
static char *read_outline(struct view text, struct arena *scratch, struct outline *out,
                          struct config_errors *errors)
{
    char *copy = arena_alloc(scratch, text.n + 1);
    if (!copy) {
        config_error_add(errors, 0, "out of memory");
        return NULL;
    }
    if (text.n)
        memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    return outline_read(text, copy, scratch, out, errors) ? copy : NULL;
}

// Both readings and the checks. scratch lives as long as this call's caller wants.
static void read_text(struct config *c, struct view text, struct arena *scratch,
                      struct config_errors *errors)
{
    struct outline outline;
    const char *copy = read_outline(text, scratch, &outline, errors);
    if (!copy)
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
    c->text = arena_copy(&c->arena, text);
    if (c->path && (c->text.p || text.n == 0))
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

struct config *config_again(const struct config *c)
{
    struct config_errors errors;
    return config_parse(c->text, c->path, &errors);
}

// ---- experiments that are created --------------------------------------------------------------------

static bool make_room(struct config *c)
{
    if (c->experiment_room > c->experiment_count)
        return true;
    unsigned room = 2 * c->experiment_count + 8;
    struct config_experiment *list = arena_array(&c->arena, room, sizeof(*list));
    if (!list)
        return false;
    if (c->experiment_count > 0)
        memcpy(list, c->experiments, c->experiment_count * sizeof(*list));
    c->experiments = list;
    c->experiment_room = room;
    return true;
}

// Its text is one section and nothing else, with a title that is free.
static void check_outline(const struct config *c, const struct outline *o,
                          struct config_errors *errors)
{
    const struct outline_section *s = o->top.next;
    if (o->top.marks)
        config_error_add(errors, o->top.marks->line, "expected experiment \"NAME\" { ... } alone");
    else if (!s)
        config_error_add(errors, 0, "expected experiment \"NAME\" { ... }, got nothing");
    else if (s->kind != SECTION_EXPERIMENT)
        config_error_add(errors, s->line, "expected experiment \"NAME\" { ... }, got %s",
                         config_sections[s->kind].name);
    else if (s->next)
        config_error_add(errors, s->next->line, "expected one section, got another one: %s",
                         config_sections[s->next->kind].name);
    for (unsigned i = 0; errors->count == 0 && i < c->experiment_count; i++) {
        const struct config_experiment *e = &c->experiments[i];
        errors->taken = view_is(s->title, e->name);
        if (errors->taken)
            config_error_add(errors, s->line, "experiment \"%.40s\" is there already: %s", e->name,
                             e->created ? "it was created" : "its section stands in gateway.conf");
    }
}

static void add_experiment(struct config *c, const struct config_creation *creation,
                           struct arena *scratch, struct config_errors *errors)
{
    struct outline outline;
    const char *copy = read_outline(creation->text, scratch, &outline, errors);
    if (copy)
        check_outline(c, &outline, errors);
    if (errors->count > 0)
        return;
    config_read_experiment(c, copy, &outline, scratch, errors);
    if (errors->count > 0)
        return;
    unsigned index = c->experiment_count - 1;
    struct config_experiment *e = &c->experiments[index];
    config_check_experiment(c, outline.top.next, index, errors);
    config_check_created(c, outline.top.next, index, creation->start, errors);
    e->draft = !creation->start;
    e->created = creation->mark;
}

const struct config_experiment *config_add_experiment(struct config *c,
                                                      const struct config_creation *creation,
                                                      struct config_errors *errors)
{
    struct arena scratch;
    unsigned before = c->experiment_count;
    memset(errors, 0, sizeof(*errors));
    arena_init(&scratch, 16384);
    if (make_room(c))
        add_experiment(c, creation, &scratch, errors);
    else
        config_error_add(errors, 0, "out of memory");
    arena_deinit(&scratch);
    if (errors->count == 0)
        return &c->experiments[before];
    sort_errors(errors);
    c->experiment_count = before;
    return NULL;
}
