#include "router/trial_sums.h"

#include "base/num.h"
#include "base/pen.h"
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
    {VIEW("took_us"), offsetof(struct trial_sums, took_us)},
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))
#define FIELD_ROOM 64 // bytes of one, with its number

static uint64_t *field_at(struct trial_sums *s, const struct field *f)
{
    return (uint64_t *)((char *)s + f->at);
}

// ---- sums --------------------------------------------------------------------------------------------

bool trial_sums_is_zero(const struct trial_sums *s)
{
    return s->requests + s->ended + s->answers == 0;
}

void trial_sums_add(struct trial_sums *into, const struct trial_sums *more)
{
    struct trial_sums *from = (struct trial_sums *)more;
    for (unsigned i = 0; i < FIELDS; i++)
        *field_at(into, &fields[i]) += *field_at(from, &fields[i]);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->took[i] += from->took[i];
}

// Each of them only grows, while it is the same one's.
static bool is_less(struct trial_sums *now, struct trial_sums *before)
{
    bool less = false;
    for (unsigned i = 0; i < FIELDS; i++)
        less |= *field_at(now, &fields[i]) < *field_at(before, &fields[i]);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        less |= now->took[i] < before->took[i];
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

bool trial_sums_take(struct trial_sums *into, struct view field, struct view value)
{
    for (unsigned i = 0; i < FIELDS; i++)
        if (view_eq(field, fields[i].name))
            return take_whole(field_at(into, &fields[i]), value);
    uint64_t bucket;
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
