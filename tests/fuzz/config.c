// Any bytes as gateway.conf: refused or taken, nothing else; what is taken keeps its promises.
#include "config/config.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int look_at_file(struct view text)
{
    struct config_errors errors;
    struct config *c = config_parse(text, "fuzz.conf", &errors);
    invariant((c == NULL) == (errors.count > 0));
    if (!c)
        return 0;
    invariant(c->listen_count > 0 && c->worker_count > 0);
    for (unsigned i = 0; i < c->worker_count; i++)
        invariant((c->workers[i].command_count == 0) == (c->workers[i].replicas == 0));
    for (unsigned i = 0; i < c->model_count; i++) {
        invariant(config_name_ok(view_str(c->models[i].name)));
        for (unsigned k = 0; k < c->models[i].worker_count; k++)
            invariant(c->models[i].workers[k] < c->worker_count);
        invariant(c->models[i].timeout_us <= c->limits.deadline_max_us);
    }
    config_unref(c);
    return 0;
}

// Any bytes as the text of an experiment that is created: taken as a section that the file could have, or nothing has changed.
static void look_at_created(struct view text)
{
    static const char file[] = "listen \"a\" { address = \"127.0.0.1:0\" }\n"
                               "worker \"w\" { addresses = {\"grpc://10.0.0.7:8001\"} }\n";
    struct config_errors errors;
    struct config_creation it = {.text = text, .mark = 1};
    struct config *c = config_parse(view_str(file), "fuzz.conf", &errors);
    if (!c)
        return;
    const struct config_experiment *e = config_add_experiment(c, &it, &errors);
    invariant((e == NULL) == (errors.count > 0) && c->experiment_count == (e ? 1 : 0));
    invariant(!e || (config_name_ok(view_str(e->name)) && e->draft && e->created == 1 &&
                     !e->force_key_file));
    config_unref(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    look_at_created(view_of(data, size));
    return look_at_file(view_of(data, size));
}
