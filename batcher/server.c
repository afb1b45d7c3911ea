#include "batcher/server.h"

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void server_sent(struct batch_server *s, uint32_t rows, uint64_t expected_us, double trip_us,
                 uint64_t now_us)
{
    uint64_t there_us = now_us + (uint64_t)(trip_us / 2);
    s->free_us = most(there_us, server_busy_us(s, now_us)) + expected_us;
    s->pending_us += expected_us;
    s->newest_rows = rows;
    s->in_flight++;
}

static void leave(struct batch_server *s, uint64_t expected_us)
{
    s->in_flight--;
    s->pending_us = s->in_flight > 0 ? s->pending_us - expected_us : 0;
}

void server_recalled(struct batch_server *s, uint64_t sent_us, uint64_t expected_us)
{
    leave(s, expected_us);
    if (expected_us == 0)
        s->free_us = most(s->free_us, sent_us + SERVER_RECALLED_US);
}

void server_ended(struct batch_server *s, uint64_t expected_us, bool answered, double trip_us,
                  uint64_t now_us)
{
    leave(s, expected_us);
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

// Of what is there nothing is known: others come first, whenever they are free.
static uint64_t order_us(const struct batch_server *s, uint64_t now_us)
{
    bool unknown = s->in_flight > 0 && s->pending_us == 0;
    return unknown ? UINT64_MAX : server_busy_us(s, now_us);
}

bool server_before(const struct batch_server *a, const struct batch_server *b, uint64_t now_us)
{
    uint64_t a_us = order_us(a, now_us), b_us = order_us(b, now_us);
    return a_us != b_us ? a_us < b_us : a->answered_us < b->answered_us;
}

void outlook_add(struct outlook *o, const struct batch_server *s, uint64_t now_us)
{
    uint64_t free_us = server_busy_us(s, now_us);
    o->soonest_free_us =
        o->servers == 0 || free_us < o->soonest_free_us ? free_us : o->soonest_free_us;
    o->servers++;
    o->idle += free_us == 0;
}

void outlook_at(struct outlook *o, const struct batch_server *s, uint64_t now_us)
{
    o->in_flight = s->in_flight;
    o->running_rows = s->newest_rows;
    o->free_us = server_busy_us(s, now_us);
    o->overtaken = s->overtaken;
}
