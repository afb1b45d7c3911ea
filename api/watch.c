#include "api/watch.h"

// grpc.health.v1.HealthCheckResponse.ServingStatus; NOTHING: the first message is still to come.
enum health { HEALTH_UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN, NOTHING };

struct watch { // in the exchange's arena
    struct serving *serving;
    struct watch *next, **prev; // api.watches
    enum health told;
    uint64_t until_us; // its deadline
};

static enum health health_of(struct serving *s)
{
    struct error e;
    bool ready = false;
    if (s->ops->ready(s, &ready, &e))
        return ready ? SERVING : NOT_SERVING;
    return e.status == STATUS_NOT_FOUND ? SERVICE_UNKNOWN : HEALTH_UNKNOWN;
}

bool watch_start(struct serving *s, uint64_t now_us, struct error *e)
{
    struct watch **all = &s->api->watches, *w = arena_zalloc(&s->ex->arena, sizeof(*w));
    if (!w)
        return error_set(e, STATUS_UNAVAILABLE, "out of memory");
    w->serving = s;
    w->told = NOTHING;
    w->until_us = s->call.timeout_us ? s->ex->started_us + s->call.timeout_us : UINT64_MAX;
    if (!*all)
        s->ops->watched(s);
    w->next = *all;
    w->prev = all;
    if (w->next)
        w->next->prev = &w->next;
    *all = w;
    s->watch = w;
    api_start_grpc(s->api, s->ex, &s->call, now_us);
    return true;
}

void watch_want(struct serving *s, uint64_t now_us)
{
    static const uint8_t message[NOTHING][7] = {
        [HEALTH_UNKNOWN] = {0},
        [SERVING] = {0, 0, 0, 0, 2, 8, SERVING},
        [NOT_SERVING] = {0, 0, 0, 0, 2, 8, NOT_SERVING},
        [SERVICE_UNKNOWN] = {0, 0, 0, 0, 2, 8, SERVICE_UNKNOWN}};
    enum health now = health_of(s);
    size_t n = now == HEALTH_UNKNOWN ? 5 : 7; // proto3: zero is left out
    if (now != s->watch->told)
        exchange_put(s->ex, (struct http_seg){message[now], n, NULL});
    else if (s->ex->closing)
        api_end_grpc(s->ex, s->outcome = STATUS_UNAVAILABLE, "the server drains");
    else if (now_us >= s->watch->until_us)
        api_end_grpc(s->ex, s->outcome = STATUS_DEADLINE, "grpc-timeout has passed");
    else
        exchange_ask_at(s->ex, s->watch->until_us);
    s->watch->told = now;
}

void watch_end(struct serving *s)
{
    struct watch *w = s->watch;
    if (w->next)
        w->next->prev = w->prev;
    *w->prev = w->next;
}

bool serving_look(struct api *a, uint64_t now_us)
{
    enum health server = NOTHING; // looked at once for all who ask for it
    for (struct watch *w = a->watches, *next; w; w = next) {
        struct serving *s = w->serving;
        bool of_server = s->call.model.n == 0;
        next = w->next;
        enum health now = of_server && server != NOTHING ? server : health_of(s);
        if (of_server)
            server = now;
        if (now != w->told)
            a->carry.wake(s->ex, now_us);
    }
    return a->watches != NULL;
}
