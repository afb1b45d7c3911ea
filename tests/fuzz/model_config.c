// Any bytes as config.pbtxt: refused with a line, or taken with what it promises.
#include "base/check.h"
#include "config/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_settings_error e = {0};
    struct arena a;
    arena_init(&a, 0);
    const struct model_settings *c = model_settings_parse(view_of(data, size), &a, &e);
    invariant(c || (e.line > 0 && e.text[0] != '\0'));
    if (c) {
        invariant(c->max_batch <= MODEL_CONFIG_BATCH && c->instances <= MODEL_CONFIG_INSTANCES);
        invariant(c->n_inputs <= MODEL_CONFIG_PORTS && c->n_outputs <= MODEL_CONFIG_PORTS);
        for (unsigned i = 0; i < c->n_inputs; i++)
            invariant(c->inputs[i].name && c->inputs[i].rank <= MODEL_CONFIG_RANK);
        for (unsigned i = 1; i < c->n_preferred; i++)
            invariant(c->preferred[i - 1] <= c->preferred[i]);
        invariant(!c->file || !strchr(c->file, '/'));
    }
    arena_deinit(&a);
    return 0;
}
