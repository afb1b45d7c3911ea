// Any bytes as gateway.conf: refused or taken, nothing else; what is taken keeps its promises.
#include "config/config.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_errors errors;
    struct config *c = config_parse(view_of(data, size), "fuzz.conf", &errors);
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
