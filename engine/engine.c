#include "base/mem.h"
#include "engine/model.h"

#define DEFAULT_BYTES ((size_t)4 << 30)
#define DEFAULT_TRIPS (1u << 20)
#define DEFAULT_WORK ((double)((uint64_t)1 << 40))

struct engine *engine_new(struct device *d, struct engine_host *host, struct engine_limits limits,
                          struct engine_error *e)
{
    struct engine *g = d ? mem_alloc(sizeof(*g)) : NULL;
    if (!g) {
        engine_fail(e, "out of memory");
        if (d)
            d->ops->free(d);
        return NULL;
    }
    limits.bytes = limits.bytes > 0 ? limits.bytes : DEFAULT_BYTES;
    limits.work = limits.work > 0 ? limits.work : DEFAULT_WORK;
    limits.trips = limits.trips > 0 ? limits.trips : DEFAULT_TRIPS;
    *g = (struct engine){.device = d, .host = host, .limits = limits};
    return g;
}

void engine_free(struct engine *g)
{
    if (!g)
        return;
    g->device->ops->free(g->device);
    mem_free(g);
}
