#include "batcher/policy.h"

#include <math.h>

#define LOOKAHEAD 16 // batches that R2 plays through

struct filling { // what all steps share
    const struct policy *p;
    const struct summary *s;
    double now, start; // start: when a batch that goes now would begin
};

static double mean_t(const struct filling *v, uint32_t b)
{
    return v->s->alpha + v->s->beta * b;
}

// When the answer to a batch of b that begins at start is here, at the latest.
static double end_from(const struct filling *v, double start, uint32_t b)
{
    return start + v->s->high * mean_t(v, b) + v->s->trip_us / 2;
}

static double end_of(const struct filling *v, uint32_t b)
{
    return end_from(v, v->start, b);
}

static double start_of(const struct summary *s, double now)
{
    return fmax(now + s->trip_us / 2, (double)s->at.free_us);
}

static uint32_t late(const struct lane_rows *l, double at)
{
    if (at <= (double)l->earliest_us)
        return 0;
    return l->due ? due_late(l->due, at) : l->rows;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint64_t when(double us)
{
    return us >= 0x1p63 ? UINT64_MAX : us <= 0 ? 0 : (uint64_t)ceil(us);
}

// ---- R0, R1 ------------------------------------------------------------------------------------------

uint64_t policy_turn_us(const struct summary *s, uint64_t now_us)
{
    if ((s->at.in_flight == 0 && s->at.free_us <= now_us) || s->at.overtaken)
        return 0;
    if (!s->trusted) // its answer teaches; there is none of what was recalled
        return s->at.in_flight > 0 ? UINT64_MAX : s->at.free_us;
    uint64_t open_us = when((double)s->at.free_us - s->trip_us / 2 - policy_lead_us(s->alpha));
    return now_us < open_us ? open_us : 0;
}

// All, a quarter, a half of what may go: so a line shows after three batches.
static struct verdict learn_first(const struct summary *s, uint32_t most)
{
    static const uint32_t part[] = {1, 4, 2};
    uint32_t n = part[s->sent % 3];
    return (struct verdict){.rows = (most + n - 1) / n, .reason = BATCH_IDLE};
}

// ---- R2: whom to save --------------------------------------------------------------------------------

struct choice {
    uint32_t rows; // of the batch, with those before this lane's
    double drop;   // heads of the lane with a deadline before; 0: none
};

// After a batch of h, of which `before` rows are of higher lanes: do full batches serve the rest in time?
static bool is_safe(const struct filling *v, const struct lane_rows *l, uint32_t before, uint32_t h,
                    uint32_t lost)
{
    double servers = v->s->at.servers, at = v->start + mean_t(v, h) / servers;
    uint32_t gone = h - before + lost;
    for (unsigned i = 0; i < LOOKAHEAD && gone < l->rows; i++) {
        uint32_t b = least(l->rows - gone, v->p->max_rows);
        if (late(l, end_from(v, at, b)) > gone)
            return false;
        gone += b;
        at += mean_t(v, b) / servers;
    }
    return true;
}

// The largest batch in (before, most] that makes nobody late but the lost.
static uint32_t largest_harmless(const struct filling *v, const struct lane_rows *l, uint32_t from,
                                 uint32_t most, uint32_t lost)
{
    while (from < most) {
        uint32_t b = most - (most - from) / 2;
        if (late(l, end_of(v, b)) <= lost)
            from = b;
        else
            most = b - 1;
    }
    return from;
}

// The largest batch that can be filled with rows that it does not make late.
static uint32_t largest_filled(const struct filling *v, const struct lane_rows *l, uint32_t before,
                               uint32_t most)
{
    uint32_t from = before + 1;
    while (from < most) {
        uint32_t b = most - (most - from) / 2;
        if (late(l, end_of(v, b)) + (b - before) <= l->rows)
            from = b;
        else
            most = b - 1;
    }
    return from;
}

static struct choice choose(const struct filling *v, const struct lane_rows *l, uint32_t before,
                            uint32_t most)
{
    if (late(l, end_of(v, most)) == 0)
        return (struct choice){most, 0};
    uint32_t lost = late(l, end_of(v, before + 1));
    if (lost >= l->rows) // nobody surely, but nobody is hopeless either: who goes may make it
        return (struct choice){most, 0};
    uint32_t h = largest_harmless(v, l, before + 1, most, lost);
    uint32_t w = largest_filled(v, l, before, most);
    if (h >= w || is_safe(v, l, before, h, lost))
        return (struct choice){h, lost > 0 ? end_of(v, before + 1) : 0};
    return (struct choice){w, end_of(v, w)};
}

// ---- R8: lanes ---------------------------------------------------------------------------------------

// How far a batch may grow for lower lanes: so that nobody of a higher one becomes late who is not by now.
static uint32_t bounded(const struct filling *v, unsigned lanes, uint32_t b, uint32_t most)
{
    for (unsigned i = 0; i < lanes; i++) {
        const struct lane_rows *l = &v->s->lane[i];
        most = largest_harmless(v, l, b, most, late(l, end_of(v, b)));
    }
    return most;
}

static struct verdict fill_lanes(const struct filling *v, uint32_t max)
{
    struct verdict go = {0};
    for (unsigned i = 0; i < v->s->n_lanes && go.rows < max; i++) {
        const struct lane_rows *l = &v->s->lane[i];
        uint32_t before = go.rows, most = before + least(l->rows, max - before);
        if (i > 0)
            most = bounded(v, i, before, most);
        if (most == before)
            break;
        struct choice c = choose(v, l, before, most);
        go.rows = c.rows;
        go.drop_us[i] = when(c.drop);
        if (c.rows - before < l->rows)
            break; // the order is kept: who is lower does not overtake
    }
    return go;
}

static bool is_pressed(const struct filling *v, uint32_t most)
{
    return end_of(v, most) > (double)v->s->earliest_us;
}

// ---- R4, R5: waits that pay --------------------------------------------------------------------------

// Rows of a batch at which the servers keep up with what comes: b / t(b) = rate.
static double need(const struct filling *v)
{
    const struct summary *s = v->s;
    double rate = s->rate / s->at.servers;
    if (rate * s->beta >= 1)
        return v->p->max_rows;
    return fmin(v->p->max_rows, ceil(s->alpha * rate / (1 - rate * s->beta)));
}

static bool is_last_free(const struct filling *v)
{
    const struct summary *s = v->s;
    return s->at.servers >= 2 && s->at.idle <= 1 && (double)s->rows < need(v);
}

static double company_until(const struct filling *v)
{
    return (double)v->s->oldest_us + fmin(v->s->alpha, (double)v->p->max_wait_us);
}

// Until when those that were just answered, or are about to be, are worth waiting for; 0: they are not. A row that
// comes saves alpha of the device; each that waits pays what is left of the window.
static double return_until(const struct filling *v, unsigned window)
{
    const struct summary *s = v->s;
    const struct returns *r = &s->returns;
    double w = arrivals_window_us(s->alpha, window), half = s->trip_us / 2, more, until;
    if (s->at.in_flight > 0) {
        more = r->back[window] * s->at.running_rows;
        until = v->now + (double)s->at.free_us + half + w - (v->start - half);
    } else {
        more = r->back[window] * r->answered - r->came;
        until = (double)r->answered_us + w;
    }
    if (r->answered_us == 0 || until <= v->now)
        return 0;
    more = fmin(more, (double)v->p->max_rows - (double)s->rows);
    return more * s->alpha > (double)s->rows * (until - v->now) ? until : 0;
}

// Since when a free server has been waited for by these rows.
static double waits_since(const struct filling *v)
{
    const struct summary *s = v->s;
    double free = s->at.in_flight > 0 ? fmax(v->now, (double)s->at.free_us - s->trip_us / 2)
                                      : (double)s->returns.answered_us;
    return fmax((double)s->oldest_us, free);
}

static double returns_until(const struct filling *v)
{
    double most = waits_since(v) + (double)v->p->max_wait_us;
    for (unsigned i = 0; i < ARRIVALS_WINDOWS; i++) {
        double until = return_until(v, i);
        if (until > 0)
            return fmin(until, most);
    }
    return 0;
}

static bool is_expecting(const struct filling *v)
{
    return v->s->at.servers == 1 && v->s->alpha > v->s->trip_us && v->p->max_wait_us > 0;
}

// A batch that takes all that waits and is not full: is it worth waiting? 0: no.
static double wait_until(const struct filling *v, double last)
{
    double until = 0;
    if (is_last_free(v))
        until = company_until(v);
    else if (is_expecting(v))
        until = returns_until(v);
    return fmin(until, last);
}

// It goes, with all that waits: was it made to wait while a server was free?
static enum batch_reason reason_of(const struct filling *v, double last)
{
    if (v->now >= last)
        return BATCH_DEADLINE;
    if (is_last_free(v))
        return v->p->max_wait_us > 0 ? BATCH_WAIT : BATCH_IDLE;
    bool waited = v->s->at.in_flight == 0 && v->s->returns.answered_us > 0 &&
                  v->now > waits_since(v) + policy_lead_us(v->s->alpha);
    return is_expecting(v) && waited ? BATCH_WAIT : BATCH_IDLE;
}

// ---- the verdict -------------------------------------------------------------------------------------

static struct filling view_of_summary(const struct policy *p, const struct summary *s,
                                      uint64_t now_us)
{
    return (struct filling){
        .p = p, .s = s, .now = (double)now_us, .start = start_of(s, (double)now_us)};
}

bool policy_presses(const struct policy *p, const struct summary *s, uint64_t now_us)
{
    if (p->kind != POLICY_AUTO || !s->trusted || policy_turn_us(s, now_us) > 0)
        return false;
    struct filling v = view_of_summary(p, s, now_us);
    return is_pressed(&v, s->rows < p->max_rows ? (uint32_t)s->rows : p->max_rows);
}

struct verdict policy_auto(const struct policy *p, const struct summary *s, uint64_t now_us)
{
    uint32_t most = s->rows < p->max_rows ? (uint32_t)s->rows : p->max_rows;
    uint64_t turn_us = policy_turn_us(s, now_us);
    if (turn_us > 0)
        return (struct verdict){.wake_us = turn_us};
    if (!s->trusted)
        return learn_first(s, most);
    struct filling v = view_of_summary(p, s, now_us);
    bool pressed = is_pressed(&v, most);
    struct verdict go = pressed ? fill_lanes(&v, p->max_rows) : (struct verdict){.rows = most};
    go.reason = go.rows == p->max_rows ? BATCH_FULL : BATCH_DEADLINE;
    if (go.rows < s->rows || go.rows == p->max_rows) // R3
        return go;
    double last = (double)s->earliest_us - s->high * mean_t(&v, most + 1) - s->trip_us;
    double until = wait_until(&v, last);
    if (until > v.now)
        return (struct verdict){.wake_us = when(until)};
    go.reason = reason_of(&v, last);
    return go;
}
