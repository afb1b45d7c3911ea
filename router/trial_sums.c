#include "router/trial_sums.h"

#include "base/num.h"
#include "base/pen.h"
#include <float.h>
#include <math.h>
#include <stddef.h>

static const struct field {
    struct view name;
    size_t at;
} fields[] = {
    {VIEW("requests"), offsetof(struct trial_sums, requests)},
    {VIEW("ended"), offsetof(struct trial_sums, ended)},
    {VIEW("errors"), offsetof(struct trial_sums, errors)},
    {VIEW("answers"), offsetof(struct trial_sums, answers)},
    {VIEW("fallbacks"), offsetof(struct trial_sums, fallbacks)},
    {VIEW("settled"), offsetof(struct trial_sums, settled)},
    {VIEW("gained"), offsetof(struct trial_sums, gained)},
    {VIEW("took_us"), offsetof(struct trial_sums, took_us)},
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))
#define FIELD_ROOM 256 // bytes of one, with its number

static const struct view reward_field[] = {VIEW("rewards:"), VIEW("reward_sum:"),
                                           VIEW("reward_squares:")};

static uint64_t *field_at(struct trial_sums *s, const struct field *f)
{
    return (uint64_t *)((char *)s + f->at);
}

// ---- rewards -----------------------------------------------------------------------------------------

static const struct stats_sum *find_reward(const struct trial_sums *s, struct view name)
{
    for (unsigned i = 0; i < s->n_rewards; i++)
        if (view_is(name, s->rewards[i].name))
            return &s->rewards[i].of;
    return NULL;
}

struct stats_sum *trial_sums_reward(struct trial_sums *s, struct view name)
{
    const struct stats_sum *at = find_reward(s, name);
    if (at)
        return (struct stats_sum *)at;
    if (s->n_rewards == TRIAL_SUMS_REWARDS || name.n >= TRIAL_SUMS_NAME)
        return NULL;
    struct trial_reward *r = &s->rewards[s->n_rewards++];
    *r = (struct trial_reward){0};
    memcpy(r->name, name.p, name.n);
    return &r->of;
}

static void add_reward(struct stats_sum *into, const struct stats_sum *more)
{
    into->n += more->n;
    into->sum += more->sum;
    into->squares += more->squares;
}

static void take_off(struct stats_sum *from, const struct stats_sum *before)
{
    from->n -= before->n;
    from->sum -= before->sum;
    from->squares -= before->squares;
}

// ---- sums --------------------------------------------------------------------------------------------

bool trial_sums_is_zero(const struct trial_sums *s)
{
    uint64_t rewards = 0;
    for (unsigned i = 0; i < s->n_rewards; i++)
        rewards += s->rewards[i].of.n;
    return s->requests + s->ended + s->answers + s->settled + rewards == 0;
}

void trial_sums_add(struct trial_sums *into, const struct trial_sums *more)
{
    struct trial_sums *from = (struct trial_sums *)more;
    for (unsigned i = 0; i < FIELDS; i++)
        *field_at(into, &fields[i]) += *field_at(from, &fields[i]);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->took[i] += from->took[i];
    for (unsigned i = 0; i < from->n_rewards; i++) {
        struct stats_sum *at = trial_sums_reward(into, view_str(from->rewards[i].name));
        if (at)
            add_reward(at, &from->rewards[i].of);
    }
}

// Each of them only grows, while it is the same one's.
static bool is_less(struct trial_sums *now, struct trial_sums *before)
{
    bool less = false;
    for (unsigned i = 0; i < FIELDS; i++)
        less |= *field_at(now, &fields[i]) < *field_at(before, &fields[i]);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        less |= now->took[i] < before->took[i];
    for (unsigned i = 0; i < before->n_rewards; i++) {
        const struct stats_sum *is = find_reward(now, view_str(before->rewards[i].name));
        less |= (is ? is->n : 0) < before->rewards[i].of.n;
    }
    return less;
}

void trial_sums_since(struct trial_sums *out, const struct trial_sums *now,
                      const struct trial_sums *before)
{
    struct trial_sums *was = (struct trial_sums *)before;
    *out = *now;
    if (is_less(out, was))
        return;
    for (unsigned i = 0; i < FIELDS; i++)
        *field_at(out, &fields[i]) -= *field_at(was, &fields[i]);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        out->took[i] -= was->took[i];
    for (unsigned i = 0; i < out->n_rewards; i++) {
        const struct stats_sum *of = find_reward(was, view_str(out->rewards[i].name));
        if (of)
            take_off(&out->rewards[i].of, of);
    }
}

// ---- as text -----------------------------------------------------------------------------------------

static bool put(struct buffer *out, struct view name, const char *number, unsigned digits)
{
    char text[FIELD_ROOM], *at = text;
    if (buffer_len(out) > 0 && out->data[out->end - 1] != '\0')
        *at++ = ' ';
    at = pen_view(at, name);
    *at++ = ' ';
    at = pen_view(at, view_of(number, digits));
    return buffer_append(out, text, (size_t)(at - text));
}

static bool put_whole(struct buffer *out, struct view name, uint64_t n)
{
    char digits[PEN_NUMBER];
    return n == 0 || put(out, name, digits, num_print_u64(digits, n));
}

static bool put_real(struct buffer *out, struct view name, double v)
{
    char digits[PEN_NUMBER];
    return v == 0 || put(out, name, digits, num_print_f64(digits, v));
}

static bool put_reward(struct buffer *out, const struct trial_reward *r)
{
    char name[3][FIELD_ROOM];
    struct view field[3];
    for (unsigned i = 0; i < 3; i++) {
        char *end = pen_view(pen_view(name[i], reward_field[i]), view_str(r->name));
        field[i] = view_of(name[i], (size_t)(end - name[i]));
    }
    return put_whole(out, field[0], r->of.n) && put_real(out, field[1], r->of.sum) &&
           put_real(out, field[2], r->of.squares);
}

bool trial_sums_write(struct buffer *out, const struct trial_sums *s)
{
    struct trial_sums *from = (struct trial_sums *)s;
    bool ok = true;
    for (unsigned i = 0; ok && i < FIELDS; i++)
        ok = put_whole(out, fields[i].name, *field_at(from, &fields[i]));
    for (unsigned i = 0; ok && i < HIST_BUCKETS; i++) {
        char name[PEN_NUMBER + 1] = "b";
        unsigned digits = num_print_u64(name + 1, i);
        ok = put_whole(out, view_of(name, 1 + digits), s->took[i]);
    }
    for (unsigned i = 0; ok && i < s->n_rewards; i++)
        ok = put_reward(out, &s->rewards[i]);
    return ok;
}

static bool take_whole(uint64_t *into, struct view value)
{
    uint64_t n;
    if (num_parse_u64(value, &n) != NUM_OK || *into + n < n)
        return false;
    *into += n;
    return true;
}

static bool take_real(double *into, struct view value, double least)
{
    double v;
    if (num_parse_f64(value, &v) != NUM_OK || v < least || !isfinite(*into + v))
        return false;
    *into += v;
    return true;
}

static bool take_reward(struct trial_sums *into, struct view field, struct view value)
{
    unsigned i = 0;
    while (i < 3 && (field.n < reward_field[i].n ||
                     memcmp(field.p, reward_field[i].p, reward_field[i].n) != 0))
        i++;
    if (i == 3)
        return false;
    size_t head = reward_field[i].n;
    const struct stats_sum *known = find_reward(into, view_of(field.p + head, field.n - head));
    struct stats_sum *at = (struct stats_sum *)known;
    if (!at)
        return false;
    return i == 0   ? take_whole(&at->n, value)
           : i == 1 ? take_real(&at->sum, value, -DBL_MAX)
                    : take_real(&at->squares, value, 0);
}

bool trial_sums_take(struct trial_sums *into, struct view field, struct view value)
{
    for (unsigned i = 0; i < FIELDS; i++)
        if (view_eq(field, fields[i].name))
            return take_whole(field_at(into, &fields[i]), value);
    uint64_t bucket;
    if (take_reward(into, field, value))
        return true;
    return field.n > 1 && field.p[0] == 'b' &&
           num_parse_u64(view_of(field.p + 1, field.n - 1), &bucket) == NUM_OK &&
           bucket < HIST_BUCKETS && take_whole(&into->took[bucket], value);
}

// ---- flushes -----------------------------------------------------------------------------------------

void trial_flushes_init(struct trial_flushes *f)
{
    *f = (struct trial_flushes){.next = 1};
    for (unsigned i = 0; i < FLUSH_KEPT; i++)
        buffer_init(&f->kept[i].text);
}

void trial_flushes_deinit(struct trial_flushes *f)
{
    for (unsigned i = 0; i < FLUSH_KEPT; i++)
        buffer_deinit(&f->kept[i].text);
}

static struct trial_flush *place_of(struct trial_flushes *f, uint64_t number)
{
    return &f->kept[number % FLUSH_KEPT];
}

struct trial_flush *trial_flushes_make(struct trial_flushes *f)
{
    if (f->newest + 1 - f->next >= FLUSH_KEPT)
        return NULL;
    struct trial_flush *flush = place_of(f, ++f->newest);
    flush->number = f->newest;
    buffer_reset(&flush->text);
    return flush;
}

void trial_flushes_unmake(struct trial_flushes *f)
{
    place_of(f, f->newest--)->number = 0;
}

struct trial_flush *trial_flushes_send(struct trial_flushes *f)
{
    if (f->out || f->next > f->newest)
        return NULL;
    f->out = true;
    return place_of(f, f->next);
}

void trial_flushes_unsent(struct trial_flushes *f)
{
    f->out = false;
}

void trial_flushes_added(struct trial_flushes *f)
{
    f->out = false;
    f->forced = false;
    f->next++;
}

uint64_t trial_flushes_gap(struct trial_flushes *f, uint64_t last)
{
    uint64_t from = last + 1;
    f->out = false;
    if (from >= f->next) // it has what we are about to send, or more: it cannot be
        from = f->next;
    uint64_t first = from;
    while (first < f->next && place_of(f, first)->number != first)
        first++;
    f->forced = first != last + 1;
    f->next = first;
    return first - from;
}
