#include "router/ramp.h"

const char *const ramp_hold_name[RAMP_FREE + 4] = {[RAMP_FREE] = "none",
                                                   [RAMP_UNREADY] = "unready",
                                                   [RAMP_UNFIT] = "unfit",
                                                   [RAMP_ALARM] = "alarm"};

#define ALARM 0.5 // A2

static enum ramp_hold hold_of(const struct ramp_seen *seen)
{
    if (!seen->fits)
        return RAMP_UNFIT;
    if (!seen->ready)
        return RAMP_UNREADY;
    return seen->alarm >= ALARM ? RAMP_ALARM : RAMP_FREE;
}

// The step behind that weight; n: there is none, or the weight is none of the ramp's.
static unsigned next_step(const struct ramp_rules *r, uint32_t weight)
{
    if (weight == 0)
        return 0;
    for (unsigned i = 0; i < r->n; i++)
        if (r->steps[i] == weight)
            return i + 1;
    return r->n;
}

enum ramp_move ramp_look(struct ramp_state *s, const struct ramp_rules *r,
                         const struct ramp_seen *seen, uint64_t now_us, uint32_t *weight)
{
    enum ramp_hold was = s->hold;
    bool anew = s->free_us == 0 || s->weight != seen->weight || seen->requests < s->last;
    s->hold = hold_of(seen);
    s->last = seen->requests;
    if (anew) {
        s->weight = seen->weight;
        s->from = seen->requests;
    }
    if (anew || s->hold != RAMP_FREE || was != RAMP_FREE)
        s->free_us = now_us;
    unsigned next = next_step(r, seen->weight);
    if (next == r->n)
        return RAMP_DONE;
    *weight = r->steps[next];
    if (s->hold != RAMP_FREE)
        return RAMP_STAY;
    if (seen->weight == 0)
        return RAMP_GO; // nobody waits for what nobody has
    bool lasted = now_us >= seen->since_us + r->wait_us && now_us >= s->free_us + r->wait_us;
    return lasted && seen->requests >= s->from + r->least ? RAMP_GO : RAMP_STAY;
}

void ramp_weigh(const uint32_t *file, unsigned n, unsigned variant, uint32_t weight, uint32_t *out)
{
    uint64_t others = EXPERIMENT_WHOLE - file[variant], rest = EXPERIMENT_WHOLE - weight, given = 0;
    unsigned first = variant == 0 ? 1 : 0; // has what rounding leaves
    for (unsigned i = 0; i < n; i++) {
        out[i] = i == variant || others == 0 ? 0 : (uint32_t)(file[i] * rest / others);
        given += out[i];
    }
    out[first] += (uint32_t)(rest - given);
    out[variant] = weight;
}
