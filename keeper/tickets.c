#include "keeper/tickets.h"

#include "gateway/doors.h"

void tickets_start(struct tickets *t, struct tls_ticket_keys *keys, const struct config *c)
{
    *t = (struct tickets){0};
    tls_ticket_keys_random(keys);
    tickets_adopt(t, c);
}

void tickets_adopt(struct tickets *t, const struct config *c)
{
    t->used = false;
    for (unsigned i = 0; i < c->listen_count; i++)
        t->used |= c->listens[i].certificate != NULL;
}

bool tickets_due(struct tickets *t, struct tls_ticket_keys *keys, uint64_t now_us)
{
    if (!t->used)
        return false;
    if (t->rotate_us == 0)
        t->rotate_us = now_us + TICKETS_LIFE_US;
    if (now_us < t->rotate_us && !DOOR_ROTATES())
        return t->untold;
    t->rotate_us = now_us + TICKETS_LIFE_US;
    tls_ticket_keys_rotate(keys);
    return true;
}
