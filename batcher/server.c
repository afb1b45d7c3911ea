#include "batcher/server.h"

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void server_sent(struct batch_server *s, uint32_t rows, uint64_t expected_us, double trip_us,
                 uint64_t now_us)
{
    uint64_t there_us = now_us + (uint64_t)(trip_us / 2);
    s->free_us = (s->in_flight > 0 ? most(there_us, s->free_us) : there_us) + expected_us;
    s->pending_us += expected_us;
    s->newest_rows = rows;
    s->in_flight++;
}

void server_ended(struct batch_server *s, uint64_t expected_us, bool answered, double trip_us,
                  uint64_t now_us)
{
    s->in_flight--;
    s->pending_us = s->in_flight > 0 ? s->pending_us - expected_us : 0;
    // The next one began when this one ended, half a way ago: what was expected of the past no longer counts.
    uint64_t half_us = (uint64_t)(trip_us / 2);
    s->free_us = s->pending_us > half_us ? now_us + s->pending_us - half_us : now_us;
    if (answered)
        s->answered_us = now_us;
}

uint64_t server_took_us(const struct batch_server *s, uint64_t sent_us, bool quiet,
                        uint64_t compute_us, uint64_t now_us)
{
    if (quiet && compute_us > 0 && compute_us < now_us - sent_us)
        return compute_us;
    return now_us - most(sent_us, s->answered_us);
}

void outlook_add(struct outlook *o, const struct batch_server *s)
{
    uint64_t free_us = s->in_flight > 0 ? s->free_us : 0;
    o->soonest_free_us =
        o->servers == 0 || free_us < o->soonest_free_us ? free_us : o->soonest_free_us;
    o->servers++;
    o->idle += s->in_flight == 0;
}

void outlook_at(struct outlook *o, const struct batch_server *s)
{
    o->in_flight = s->in_flight;
    o->running_rows = s->newest_rows;
    o->free_us = s->free_us;
}
