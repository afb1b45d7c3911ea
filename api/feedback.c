#include "api/feedback.h"

#include "base/json.h"
#include "base/num.h"
#include <math.h>

enum feedback_member { REQUEST_ID, KEY, EXPERIMENT, NAME, VALUE, MEMBERS };
static const char *const member_name[MEMBERS] = {"request_id", "key", "experiment", "name",
                                                 "value"};

struct reading_feedback {
    struct json_reader r;
    struct arena *arena;
    struct api_feedback *out;
    bool seen[MEMBERS];
    struct error *e;
};

static bool refuse(struct reading_feedback *d, const char *text)
{
    return error_set(d->e, STATUS_BAD_REQUEST, "%s", text);
}

// What stands there is no JSON, or not what was expected.
static bool refuse_json(struct reading_feedback *d)
{
    return error_set(d->e, STATUS_BAD_REQUEST, "body: %s (byte %zu)", d->r.error, d->r.error_at);
}

static const char *token_name(enum json_token t)
{
    switch (t) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a text";
    case JSON_NUMBER:
        return "a number";
    case JSON_NULL:
        return "null";
    default:
        return "true or false";
    }
}

static bool read_text(struct reading_feedback *d, enum feedback_member m, enum json_token t,
                      struct view *out)
{
    if (t != JSON_STRING)
        return error_set(d->e, STATUS_BAD_REQUEST, "%s: expected a text, got %s", member_name[m],
                         token_name(t));
    if (d->r.text.n == 0 || d->r.text.n > FEEDBACK_TEXT)
        return error_set(d->e, STATUS_BAD_REQUEST, "%s: expected 1 to %d bytes, got %zu",
                         member_name[m], FEEDBACK_TEXT, d->r.text.n);
    return json_unescape(&d->r, d->arena, out) ||
           error_set(d->e, STATUS_UNAVAILABLE, "out of memory");
}

static bool read_value(struct reading_feedback *d, enum json_token t)
{
    if (t != JSON_NUMBER)
        return error_set(d->e, STATUS_BAD_REQUEST, "value: expected a number, got %s",
                         token_name(t));
    struct view text = d->r.text;
    bool ok = num_parse_f64(text, &d->out->value) == NUM_OK && isfinite(d->out->value);
    if (ok && fabs(d->out->value) <= FEEDBACK_MOST)
        return true;
    return error_set(d->e, STATUS_BAD_REQUEST,
                     "value: expected a number from -1e12 to 1e12, got %.*s%s",
                     (int)(text.n < 40 ? text.n : 40), text.p, text.n > 40 ? "..." : "");
}

static bool read_member(struct reading_feedback *d, enum feedback_member m)
{
    struct view *const text[MEMBERS] = {[REQUEST_ID] = &d->out->request_id,
                                        [KEY] = &d->out->key,
                                        [EXPERIMENT] = &d->out->experiment,
                                        [NAME] = &d->out->name};
    enum json_token t = json_next(&d->r);
    if (t == JSON_ERROR)
        return refuse_json(d);
    if (d->seen[m])
        return error_set(d->e, STATUS_BAD_REQUEST, "%s: came twice", member_name[m]);
    d->seen[m] = true;
    return m == VALUE ? read_value(d, t) : read_text(d, m, t, text[m]);
}

static bool read_members(struct reading_feedback *d)
{
    enum json_token t;
    while ((t = json_next(&d->r)) == JSON_KEY) {
        unsigned m = 0;
        while (m < MEMBERS && (d->r.escaped || !view_is(d->r.text, member_name[m])))
            m++;
        if (m == MEMBERS)
            return refuse(d, "body: expected experiment, name, value, and request_id or key, got "
                             "another member");
        if (!read_member(d, m))
            return false;
    }
    return (t == JSON_OBJECT_END && json_next(&d->r) == JSON_END) || refuse_json(d);
}

bool feedback_read(struct arena *a, struct view body, struct api_feedback *out, struct error *e)
{
    struct reading_feedback d = {.arena = a, .out = out, .e = e};
    *out = (struct api_feedback){0};
    json_read(&d.r, body);
    enum json_token t = json_next(&d.r);
    if (t == JSON_ERROR)
        return refuse_json(&d);
    if (t != JSON_OBJECT)
        return error_set(e, STATUS_BAD_REQUEST, "body: expected an object, got %s", token_name(t));
    if (!read_members(&d))
        return false;
    for (unsigned m = EXPERIMENT; m < MEMBERS; m++)
        if (!d.seen[m])
            return error_set(e, STATUS_BAD_REQUEST, "%s: is missing", member_name[m]);
    if (d.seen[REQUEST_ID] == d.seen[KEY])
        return refuse(&d, d.seen[KEY] ? "key: goes without request_id"
                                      : "request_id: is missing, and so is key");
    return true;
}

bool feedback_write(struct buffer *out, const struct api_feedback *f, struct view variant)
{
    struct json_writer w;
    json_write(&w, out);
    json_w_object(&w);
    json_w_key(&w, VIEW("experiment"));
    json_w_string(&w, f->experiment);
    json_w_key(&w, VIEW("variant"));
    json_w_string(&w, variant);
    json_w_key(&w, VIEW("name"));
    json_w_string(&w, f->name);
    json_w_object_end(&w);
    return !w.failed;
}
