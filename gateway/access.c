#include "gateway/access.h"

#include "base/pen.h"
#include <time.h>

static void put_digits(char *at, unsigned digits, uint32_t v)
{
    while (digits-- > 0) {
        at[digits] = (char)('0' + v % 10);
        v /= 10;
    }
}

unsigned access_time(char out[32], uint64_t wall_us)
{
    // gmtime_r costs more than the rest of the line; a busy loop writes many lines a second.
    static _Thread_local uint64_t cached_second = UINT64_MAX;
    static _Thread_local char cached[20];
    uint64_t second = wall_us / 1000000;
    if (second != cached_second) {
        time_t t = (time_t)second;
        struct tm tm;
        gmtime_r(&t, &tm);
        memcpy(cached, "0000-00-00T00:00:00.", 20);
        put_digits(cached, 4, (uint32_t)(tm.tm_year + 1900));
        put_digits(cached + 5, 2, (uint32_t)tm.tm_mon + 1);
        put_digits(cached + 8, 2, (uint32_t)tm.tm_mday);
        put_digits(cached + 11, 2, (uint32_t)tm.tm_hour);
        put_digits(cached + 14, 2, (uint32_t)tm.tm_min);
        put_digits(cached + 17, 2, (uint32_t)tm.tm_sec);
        cached_second = second;
    }
    memcpy(out, cached, 20);
    put_digits(out + 20, 6, (uint32_t)(wall_us % 1000000));
    out[26] = 'Z';
    return 27;
}

static struct view cut(struct view v)
{
    return v.n > ACCESS_FIELD_MAX ? view_of(v.p, ACCESS_FIELD_MAX) : v;
}

// ,"KEY":"value" of what comes from outside; nothing for an empty value.
#define FIELD(at, key, value)                                                                      \
    ((value).n ? pen_json(PEN_LIT(at, ",\"" key "\":"), cut(value)) : (at))
// The same of what was checked, or is ours, and short.
#define CHECKED(at, key, value)                                                                    \
    ((value).n ? pen_plain(PEN_LIT(at, ",\"" key "\":"), cut(value)) : (at))
// The same of words of our own, which need no escape; nothing for NULL.
#define WORD(at, key, word)                                                                        \
    ((word) ? PEN_LIT(pen_view(PEN_LIT(at, ",\"" key "\":\""), view_str(word)), "\"") : (at))
#define NUMBER(at, key, v) pen_u64(PEN_LIT(at, ",\"" key "\":"), v)

static char *put_batch_id(char *at, uint64_t id)
{
    at = PEN_LIT(at, ",\"batch_id\":\"");
    num_print_hex(at, id);
    return PEN_LIT(at + 16, "\"");
}

static char *put_model(char *at, const struct access_entry *e)
{
    if (e->model.n == 0)
        return at;
    at = FIELD(at, "model", e->model);
    at = FIELD(at, "tenant", e->tenant);
    at = FIELD(at, "answered", e->answered);
    at = FIELD(at, "version", e->version);
    at = CHECKED(at, "experiment", e->experiment);
    at = CHECKED(at, "variant", e->variant);
    at = WORD(at, "draw", e->draw);
    if (e->rows > 0)
        at = NUMBER(at, "rows", e->rows);
    at = WORD(at, "source", e->source);
    if (e->aged)
        at = NUMBER(at, "age_s", e->age_s);
    at = FIELD(at, "attempts", e->attempts);
    if (e->batch_id)
        at = put_batch_id(at, e->batch_id);
    if (e->reason) {
        at = NUMBER(at, "batch", e->batch_rows);
        at = WORD(at, "reason", e->reason);
        at = NUMBER(at, "queue_us", e->queue_us);
        at = NUMBER(at, "compute_us", e->compute_us);
    }
    return at;
}

// What one line may take: twelve texts, thirteen numbers, and our own words and keys.
static size_t room(const struct access_entry *e)
{
    const struct view text[] = {e->client,   e->request_id, e->method,        e->path,
                                e->model,    e->version,    view_str(e->why), e->answered,
                                e->attempts, e->experiment, e->variant,       e->tenant};
    size_t n = 13 * PEN_NUMBER + 5 * ACCESS_WORD_MAX + 512;
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
        n += PEN_JSON(cut(text[i]).n);
    return n;
}

static char *put_request(char *at, const struct access_entry *e)
{
    at = FIELD(at, "id", e->request_id);
    at = WORD(at, "protocol", e->protocol);
    at = FIELD(at, "method", e->method);
    return FIELD(at, "path", e->path);
}

static char *put_costs(char *at, const struct access_entry *e)
{
    at = put_model(at, e);
    at = NUMBER(at, "in", e->in_bytes);
    at = NUMBER(at, "out", e->out_bytes);
    at = NUMBER(at, "parse_us", e->parse_us);
    return NUMBER(at, "total_us", e->total_us);
}

bool access_format(struct buffer *out, const struct access_entry *e)
{
    char *start = (char *)buffer_reserve(out, room(e));
    if (!start)
        return false;
    struct view why = view_str(e->why);
    char *at = PEN_LIT(start, "{\"time\":\"");
    at += access_time(at, e->wall_us);
    at = PEN_LIT(at, "\"");
    at = CHECKED(at, "client", e->client);
    if (!e->why)
        at = put_request(at, e);
    at = NUMBER(at, "status", e->status);
    at = WORD(at, "outcome", e->outcome);
    at = e->why ? FIELD(at, "why", why) : put_costs(at, e);
    at = NUMBER(at, "loop", e->loop);
    if (!e->whole && !e->why)
        at = PEN_LIT(at, ",\"cut\":true");
    at = PEN_LIT(at, "}\n");
    buffer_commit(out, (size_t)(at - start));
    return true;
}
