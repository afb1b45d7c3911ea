#include "http/abuse.h"

const char *const abuse_name[ABUSE_KINDS] = {
    [ABUSE_RESET] = "resets",
    [ABUSE_LATE_STREAM] = "late_streams",
    [ABUSE_RESET_BY_US] = "broken_streams",
    [ABUSE_EMPTY_DATA] = "empty_data",
    [ABUSE_PRIORITY] = "priorities",
    [ABUSE_PING] = "pings",
    [ABUSE_SETTINGS] = "settings",
    [ABUSE_WINDOW_UPDATE] = "window_updates",
    [ABUSE_BLOCK] = "header_block",
    [ABUSE_FLOOD] = "flood",
};

static const uint8_t cost[ABUSE_KINDS] = {
    // sixteenths of a point
    [ABUSE_RESET] = 16,      [ABUSE_LATE_STREAM] = 16, [ABUSE_RESET_BY_US] = 16,
    [ABUSE_EMPTY_DATA] = 16, [ABUSE_PRIORITY] = 8,     [ABUSE_PING] = 16,
    [ABUSE_SETTINGS] = 16,   [ABUSE_WINDOW_UPDATE] = 1};

static struct purse purse_of(uint32_t points, uint64_t refill_us, uint64_t now_us)
{
    return (struct purse){points * 16, points * 16, refill_us ? refill_us : 1, now_us};
}

void abuse_init(struct abuse *a, uint32_t budget, uint32_t max_streams, uint64_t now_us)
{
    uint32_t resets = budget + ABUSE_RESETS_A_STREAM * max_streams;
    a->frames = purse_of(budget, ABUSE_REFILL_US, now_us);
    a->resets = purse_of(resets, 1000000 / (max_streams ? max_streams : 1), now_us);
    a->warned = false;
}

static void purse_earn(struct purse *p, uint64_t points)
{
    uint64_t left = p->left + points * 16;
    p->left = left < p->full ? (uint32_t)left : p->full;
}

static bool purse_pay(struct purse *p, uint32_t price, uint64_t now_us)
{
    if (now_us > p->refilled_us + p->refill_us) {
        uint64_t points = (now_us - p->refilled_us) / p->refill_us;
        purse_earn(p, points < p->full ? points : p->full);
        p->refilled_us += points * p->refill_us;
    }
    if (p->left < price)
        return false;
    p->left -= price;
    return true;
}

enum abuse_verdict abuse_end(const struct abuse *a)
{
    return a->warned ? ABUSE_WENT_ON : ABUSE_CUT;
}

enum abuse_verdict abuse_pay(struct abuse *a, enum abuse_kind kind, uint64_t now_us)
{
    bool resets = kind == ABUSE_RESET || kind == ABUSE_LATE_STREAM;
    if (purse_pay(resets ? &a->resets : &a->frames, cost[kind], now_us))
        return ABUSE_BORNE;
    if (!resets || a->warned)
        return abuse_end(a);
    a->warned = true;
    a->resets.left = a->resets.full; // what is on its way is no second offence
    return ABUSE_NO_NEW;
}

void abuse_answered(struct abuse *a)
{
    purse_earn(&a->frames, 1);
    purse_earn(&a->resets, 1);
}
