#include "ctl/creation.h"

#include "ctl/columns.h"
#include "ctl/experiment.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES 128

// ---- words in ----------------------------------------------------------------------------------------

// "VARIANT=MODEL:90%": its parts, views of the word.
static bool read_variant(const char *word, struct view *name, struct view *model,
                         struct view *share)
{
    const char *equals = strchr(word, '='), *colon = strrchr(word, ':');
    if (!equals || !colon || colon < equals)
        return false;
    *name = view_of(word, (size_t)(equals - word));
    *model = view_of(equals + 1, (size_t)(colon - equals - 1));
    *share = view_str(colon + 1);
    size_t digits = strspn(share->p, "0123456789.");
    return view_is_model_name(*name, NAME_BYTES) && view_is_model_name(*model, NAME_BYTES) &&
           digits > 0 && digits + 1 == share->n && share->p[digits] == '%';
}

// What needs no escape between quotes.
static bool is_plain(const char *word)
{
    for (; *word; word++)
        if (*word < ' ' || *word > '~' || strchr("\"\\$", *word))
            return false;
    return true;
}

static bool check_options(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    struct view name, model, share;
    if (!view_is_model_name(view_str(o->more[0]), NAME_BYTES))
        return options_refuse(
            why, "experiment create: expected a name before --variant, got \"%.80s\"", o->more[0]);
    if (!o->model || !view_is_model_name(view_str(o->model), NAME_BYTES))
        return options_refuse(why,
                              "experiment create: expected --model with what clients ask for, got "
                              "\"%.80s\"",
                              o->model ? o->model : "");
    if (o->key && !is_plain(o->key))
        return options_refuse(
            why, "experiment create: expected --key as \"header:x-user\", got \"%.80s\"", o->key);
    for (unsigned i = 0; i < o->variants; i++)
        if (!read_variant(o->variant[i], &name, &model, &share))
            return options_refuse(why,
                                  "experiment create: expected --variant VARIANT=MODEL:SHARE, as "
                                  "\"treatment=digits-cnn:10%%\", got \"%.80s\"",
                                  o->variant[i]);
    return true;
}

bool creation_check(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    if (!o->more[0] || !*o->more[0])
        return options_refuse(why,
                              "experiment create: expected a FILE, or - for standard input; or "
                              "NAME --model MODEL --variant VARIANT=MODEL:SHARE ...");
    if (o->more[1])
        return options_refuse(why, "experiment create: expected one word, got \"%.80s\" too",
                              o->more[1]);
    if (o->revision)
        return options_refuse(why, "experiment create: there is no revision yet");
    if (o->variants > 0)
        return check_options(o, why);
    return (!o->model && !o->key) ||
           options_refuse(why, "experiment create: --model and --key go with --variant");
}

// ---- what is asked for -------------------------------------------------------------------------------

static bool put(struct buffer *out, const char *text)
{
    return buffer_append(out, text, strlen(text));
}

static bool put_view(struct buffer *out, const char *before, struct view v, const char *behind)
{
    return put(out, before) && buffer_append(out, v.p, v.n) && put(out, behind);
}

bool creation_text(const struct ctl_options *o, struct buffer *out)
{
    struct view name, model, share;
    bool ok = put_view(out, "experiment \"", view_str(o->more[0]), "\" {\n") &&
              put_view(out, "  model = \"", view_str(o->model), "\"\n") &&
              (!o->key || put_view(out, "  key = \"", view_str(o->key), "\"\n"));
    for (unsigned i = 0; ok && i < o->variants; i++)
        ok = read_variant(o->variant[i], &name, &model, &share) &&
             put_view(out, "  variant \"", name, "\" { ") &&
             put_view(out, "model = \"", model, "\" ") && put_view(out, "weight = ", share, " }\n");
    return ok && put(out, "}\n");
}

// At most one byte more than may be.
static bool read_file(const char *path, struct buffer *out)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && buffer_len(out) <= CREATION_TEXT) {
        uint8_t *at = buffer_reserve(out, 4096);
        errno = at ? errno : ENOMEM;
        n = at ? read(fd, at, 4096) : -1;
        if (n > 0)
            buffer_commit(out, (size_t)n);
    }
    int error = errno;
    if (fd >= 0 && !standard)
        close(fd);
    errno = error;
    return n >= 0;
}

static bool load_text(const struct ctl_options *o, struct buffer *out, char why[OPTIONS_ERROR])
{
    if (o->variants > 0)
        return creation_text(o, out) || options_refuse(why, "out of memory");
    if (!read_file(o->more[0], out))
        return options_refuse(why, "%.160s: %s", o->more[0], strerror(errno));
    return buffer_len(out) <= CREATION_TEXT ||
           options_refuse(why, "%.160s: expected at most 64KiB", o->more[0]);
}

static json_t *with(json_t *wish, const char *key, json_t *value)
{
    if (json_object_set_new(wish, key, value) == 0) // takes it in any case
        return wish;
    json_decref(wish);
    return NULL;
}

json_t *creation_load(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    struct buffer text;
    json_t *wish = NULL;
    buffer_init(&text);
    if (load_text(o, &text, why)) {
        struct view v = buffer_view(&text);
        wish = with(experiment_wish(o), "definition", json_stringn(v.n ? v.p : "", v.n));
        wish = o->start ? with(wish, "start", json_true()) : wish;
        if (!wish)
            options_refuse(why, "%.160s: expected UTF-8", o->more[0]);
    }
    buffer_deinit(&text);
    return wish;
}

json_t *creation_wish_delete(const struct ctl_options *o)
{
    json_t *wish = experiment_wish(o);
    return o->yes ? with(wish, "running", json_true()) : wish;
}

// ---- words out ---------------------------------------------------------------------------------------

bool words_of_deletion(const json_t *page, struct buffer *out)
{
    const char *name = json_string_value(json_object_get(page, "deleted"));
    return name && columns_clean(out, view_str(name)) && put(out, ": deleted\n");
}
