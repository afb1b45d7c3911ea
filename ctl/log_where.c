#include "ctl/log_where.h"

#include "gateway/file.h"
#include <stdio.h>
#include <string.h>

static bool refuse(char why[LOG_WHY], const char *about, const char *what)
{
    snprintf(why, LOG_WHY, "%.200s: %s", about, what);
    return false;
}

static bool parse(struct log_where *w, const char *path, struct view text, char why[LOG_WHY])
{
    struct config_errors errors;
    w->config = config_parse(text, path, &errors);
    if (!w->config) {
        config_error_print(why, LOG_WHY, path, &errors.error[0]);
        why[strcspn(why, "\n")] = '\0';
    }
    return w->config != NULL;
}

static bool read_config(struct log_where *w, const char *path, char why[LOG_WHY])
{
    struct buffer text;
    buffer_init(&text);
    bool ok =
        file_read(path, CONFIG_MAX_BYTES, &text, why) && parse(w, path, buffer_view(&text), why);
    buffer_deinit(&text);
    if (!ok)
        return false;
    if (w->config->predictions.redis)
        w->store = w->config->store;
    else
        w->directory = w->config->predictions.file;
    return w->store.on || w->directory ||
           refuse(why, path,
                  "keeps no prediction log: it has no section predictions with file or redis");
}

static bool read_place(struct log_where *w, const char *place, char why[LOG_WHY])
{
    if (log_place_is_store(place))
        return log_place_read(&w->store, &w->arena, place, why);
    w->directory = place;
    return true;
}

// Options go before what stands in the file, and both before the environment.
static void apply(struct log_where *w, const struct ctl_options *o,
                  char *(*environment)(const char *name))
{
    struct config_store *s = &w->store;
    const char *password = environment("SLUICE_REDIS_PASSWORD");
    s->tls |= o->tls;
    s->ca = o->ca_file ? o->ca_file : s->ca;
    s->certificate = o->cert_file ? o->cert_file : s->certificate;
    s->key = o->key_file ? o->key_file : s->key;
    s->password_file = o->password_file ? o->password_file : s->password_file;
    s->deployment = o->deployment ? o->deployment : s->deployment;
    if (!s->deployment)
        s->deployment = "default";
    if (!s->password_file && password && *password)
        w->password = password;
}

bool log_where_find(struct log_where *w, const struct ctl_options *o,
                    char *(*environment)(const char *name), char why[LOG_WHY])
{
    *w = (struct log_where){0};
    arena_init(&w->arena, 0);
    why[0] = '\0';
    if (!(o->config ? read_config(w, o->config, why) : read_place(w, o->more[0], why)))
        return false;
    if (w->directory)
        return !(o->tls || o->cert_file || o->password_file || o->deployment) ||
               refuse(
                   why, w->directory,
                   "--tls, --password-file and --deployment go with a Redis, not with a directory");
    apply(w, o, environment);
    return log_place_check(&w->store, w->store.password_file || w->password, why);
}

void log_where_deinit(struct log_where *w)
{
    config_unref(w->config);
    arena_deinit(&w->arena);
}
