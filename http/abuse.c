#include "http/abuse.h"

static const uint8_t cost[ABUSE_KINDS] = {
    // sixteenths of a point
    [ABUSE_RESET] = 16, [ABUSE_RESET_BY_US] = 16, [ABUSE_EMPTY_DATA] = 16,   [ABUSE_PRIORITY] = 8,
    [ABUSE_PING] = 16,  [ABUSE_SETTINGS] = 16,    [ABUSE_WINDOW_UPDATE] = 1,
};

void abuse_init(struct abuse *a, uint32_t budget, uint64_t now_us)
{
    a->left = a->full = budget * 16;
    a->refilled_us = now_us;
}

static void earn(struct abuse *a, uint64_t points)
{
    uint64_t left = a->left + points * 16;
    a->left = left < a->full ? (uint32_t)left : a->full;
}

bool abuse_pay(struct abuse *a, enum abuse_kind kind, uint64_t now_us)
{
    if (now_us > a->refilled_us + ABUSE_REFILL_US) {
        uint64_t points = (now_us - a->refilled_us) / ABUSE_REFILL_US;
        earn(a, points < a->full ? points : a->full);
        a->refilled_us += points * ABUSE_REFILL_US;
    }
    if (a->left < cost[kind])
        return false;
    a->left -= cost[kind];
    return true;
}

void abuse_answered(struct abuse *a)
{
    earn(a, 1);
}
