#include "backends/probe.h"

static void rest_until(struct probe *p, uint64_t due_us)
{
    p->out = false;
    p->due_us = due_us;
}

static enum probe_act question(struct probe *p, uint64_t heard_bytes, uint64_t now_us)
{
    p->out = true;
    p->late = false;
    p->waits = 0;
    p->heard = heard_bytes;
    p->due_us = now_us + p->rules.timeout_us;
    return PROBE_ASK;
}

static enum probe_act failure(struct probe *p, uint64_t heard_bytes, uint64_t now_us)
{
    p->failures++;
    if (p->failures < p->rules.failures)
        return question(p, heard_bytes, now_us); // P2
    p->on = false;                               // P7
    rest_until(p, UINT64_MAX);
    return PROBE_HANGS;
}

void probe_start(struct probe *p, const struct probe_rules *rules, bool periodic, uint64_t now_us)
{
    *p = (struct probe){.rules = *rules, .on = true, .periodic = periodic};
    rest_until(p, periodic ? now_us : UINT64_MAX);
}

void probe_set_rules(struct probe *p, const struct probe_rules *rules, uint64_t now_us)
{
    uint64_t soon_us = now_us + rules->interval_us;
    p->rules = *rules;
    if (p->on && p->periodic && !p->out && p->due_us > soon_us)
        p->due_us = soon_us;
}

void probe_stop(struct probe *p)
{
    p->on = false;
    p->failures = 0;
    rest_until(p, UINT64_MAX);
}

// Is this question to be waited for once more?
static bool prolonged(struct probe *p, uint64_t heard_bytes, uint64_t now_us)
{
    bool stood_still = now_us - p->due_us > p->rules.timeout_us / 2 && !p->late; // P4
    bool came = heard_bytes != p->heard && p->waits < PROBE_WAITS;               // P3
    if (!stood_still && !came)
        return false;
    if (stood_still)
        p->late = true;
    else
        p->waits++;
    p->heard = heard_bytes;
    p->due_us = now_us + p->rules.timeout_us;
    return true;
}

enum probe_act probe_on_time(struct probe *p, uint64_t heard_bytes, uint64_t now_us)
{
    if (!p->on || now_us < p->due_us)
        return PROBE_NOTHING;
    if (!p->out)
        return question(p, heard_bytes, now_us);
    return prolonged(p, heard_bytes, now_us) ? PROBE_NOTHING : failure(p, heard_bytes, now_us);
}

enum probe_act probe_on_suspect(struct probe *p, uint64_t heard_bytes, uint64_t now_us)
{
    if (!p->on || p->out) // P6
        return PROBE_NOTHING;
    return question(p, heard_bytes, now_us);
}

void probe_on_answer(struct probe *p, uint64_t now_us)
{
    if (!p->on)
        return;
    p->failures = 0; // P5
    rest_until(p, p->periodic ? now_us + p->rules.interval_us : UINT64_MAX);
}
