#include "batcher/policy.h"

const char *const batch_reason_name[BATCH_REASONS] = {
    [BATCH_FULL] = "full", [BATCH_PREFERRED] = "preferred", [BATCH_IDLE] = "idle",
    [BATCH_WAIT] = "wait", [BATCH_DEADLINE] = "deadline",
};

// The largest preferred size that the waiting rows fill; 0: none.
static uint32_t preferred(const struct policy *p, uint64_t rows)
{
    for (uint32_t i = p->n_preferred; i-- > 0;) {
        if (p->preferred[i] <= rows)
            return p->preferred[i];
    }
    return 0;
}

static struct verdict policy_fixed(const struct policy *p, const struct summary *s, uint64_t now_us)
{
    if (s->rows >= p->max_rows)
        return (struct verdict){.rows = p->max_rows, .reason = BATCH_FULL};
    uint32_t size = preferred(p, s->rows);
    if (size > 0)
        return (struct verdict){.rows = size, .reason = BATCH_PREFERRED};
    if (p->max_wait_us == 0) // a replica has credit and nobody was told to wait
        return (struct verdict){.rows = (uint32_t)s->rows, .reason = BATCH_IDLE};
    uint64_t waited_us = s->oldest_us + p->max_wait_us;
    if (now_us >= waited_us)
        return (struct verdict){.rows = (uint32_t)s->rows, .reason = BATCH_WAIT};
    uint64_t needed_us = s->high_us + POLICY_MARGIN_US;
    if (now_us + needed_us >= s->earliest_us)
        return (struct verdict){.rows = (uint32_t)s->rows, .reason = BATCH_DEADLINE};
    uint64_t latest_us = s->earliest_us - needed_us;
    return (struct verdict){.wake_us = waited_us < latest_us ? waited_us : latest_us};
}

struct verdict policy_decide(const struct policy *p, const struct summary *s, uint64_t now_us)
{
    return p->kind == POLICY_AUTO ? policy_auto(p, s, now_us) : policy_fixed(p, s, now_us);
}
