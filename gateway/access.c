#include "gateway/access.h"

#include "base/json.h"
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

static void put_string(struct json_writer *w, const char *key, struct view v)
{
    if (v.n == 0)
        return;
    if (v.n > ACCESS_FIELD_MAX)
        v.n = ACCESS_FIELD_MAX;
    json_w_name(w, view_str(key));
    json_w_string(w, v);
}

static void put_number(struct json_writer *w, struct view key, uint64_t v)
{
    json_w_name(w, key);
    json_w_u64(w, v);
}

static void put_model(struct json_writer *w, const struct access_entry *e)
{
    if (e->model.n == 0)
        return;
    put_string(w, "model", e->model);
    put_string(w, "version", e->version);
    if (e->rows > 0)
        put_number(w, VIEW("rows"), e->rows);
    if (e->source)
        put_string(w, "source", view_str(e->source));
    if (e->reason) {
        put_number(w, VIEW("batch"), e->batch_rows);
        put_string(w, "reason", view_str(e->reason));
        put_number(w, VIEW("queue_us"), e->queue_us);
        put_number(w, VIEW("compute_us"), e->compute_us);
    }
}

static void put_request(struct json_writer *w, const struct access_entry *e)
{
    put_string(w, "id", e->request_id);
    put_string(w, "protocol", view_str(e->protocol));
    put_string(w, "method", e->method);
    put_string(w, "path", e->path);
}

static void put_costs(struct json_writer *w, const struct access_entry *e)
{
    put_model(w, e);
    put_number(w, VIEW("in"), e->in_bytes);
    put_number(w, VIEW("out"), e->out_bytes);
    put_number(w, VIEW("parse_us"), e->parse_us);
    put_number(w, VIEW("total_us"), e->total_us);
}

bool access_format(struct buffer *out, const struct access_entry *e)
{
    size_t before = out->end;
    char time[32];
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    json_w_name(&w, VIEW("time"));
    json_w_string(&w, view_of(time, access_time(time, e->wall_us)));
    put_string(&w, "client", e->client);
    if (!e->why)
        put_request(&w, e);
    put_number(&w, VIEW("status"), e->status);
    if (e->outcome)
        put_string(&w, "outcome", view_str(e->outcome));
    if (e->why)
        put_string(&w, "why", view_str(e->why));
    else
        put_costs(&w, e);
    put_number(&w, VIEW("loop"), e->loop);
    if (!e->whole && !e->why) {
        json_w_name(&w, VIEW("cut"));
        json_w_bool(&w, true);
    }
    json_w_object_end(&w);
    if (w.failed || !buffer_append(out, "\n", 1)) {
        out->end = before;
        return false;
    }
    return true;
}
