#include "ctl/log_row.h"

#include "base/json.h"

static const char *const columns[] = {
    "record",   "instance", "loop",       "time",    "id",       "tenant",     "model",
    "answered", "version",  "experiment", "variant", "outcome",  "source",     "age_s",
    "level",    "rows",     "batch",      "reason",  "parse_us", "queue_us",   "compute_us",
    "total_us", "attempts", "inputs",     "outputs", "headers",  "parameters", "cut",
};
_Static_assert(sizeof(columns) / sizeof(columns[0]) == LOG_COLUMNS, "all of them");

static unsigned column_of(struct view name)
{
    unsigned i = 0;
    while (i < LOG_COLUMNS && !view_is(name, columns[i]))
        i++;
    return i;
}

// Behind its key.
static bool read_value(struct log_row *r, struct arena *a, struct json_reader *j, unsigned column)
{
    struct view text;
    enum json_token t = json_next(j);
    size_t from = j->token_at;
    if (t == JSON_STRING) {
        if (!json_unescape(j, a, &text))
            return false;
    } else {
        if (t == JSON_ERROR || !json_skip(j, t))
            return false;
        text = view_of(j->start + from, (size_t)(j->at - j->start) - from);
    }
    if (column < LOG_COLUMNS) {
        r->value[column] = text.p ? text : VIEW("");
        r->text[column] = t == JSON_STRING;
    }
    return true;
}

bool log_row_read(struct log_row *r, struct arena *a, struct view line)
{
    struct json_reader j;
    *r = (struct log_row){0};
    json_read(&j, line);
    j.nul = true;
    if (json_next(&j) != JSON_OBJECT)
        return false;
    for (enum json_token t; (t = json_next(&j)) != JSON_OBJECT_END;)
        if (t != JSON_KEY || !read_value(r, a, &j, column_of(j.text)))
            return false;
    return json_next(&j) == JSON_END && r->value[0].n > 0;
}

struct view log_row_value(const struct log_row *r, const char *column)
{
    unsigned i = column_of(view_str(column));
    return i < LOG_COLUMNS ? r->value[i] : (struct view){0};
}

// ---- CSV -----------------------------------------------------------------------------------------------

static bool put(struct buffer *out, struct view v)
{
    return buffer_append(out, v.p, v.n);
}

static bool put_end(struct buffer *out, unsigned column)
{
    return put(out, column + 1 < LOG_COLUMNS ? VIEW(",") : VIEW("\r\n"));
}

bool log_row_head(struct buffer *out)
{
    for (unsigned i = 0; i < LOG_COLUMNS; i++)
        if (!put(out, view_str(columns[i])) || !put_end(out, i))
            return false;
    return true;
}

// What spreadsheets evaluate (OWASP, "CSV Injection").
static bool is_formula(struct view v)
{
    return v.n > 0 && memchr("=+-@\t\r\n", v.p[0], 7) != NULL;
}

static bool put_cell(struct buffer *out, struct view v)
{
    bool ok = put(out, VIEW("\"")) && (!is_formula(v) || put(out, VIEW("'")));
    while (ok && v.n > 0) {
        const char *quote = memchr(v.p, '"', v.n);
        size_t n = quote ? (size_t)(quote - v.p) + 1 : v.n;
        ok = put(out, view_of(v.p, n)) && (!quote || put(out, VIEW("\"")));
        v = view_of(v.p + n, v.n - n);
    }
    return ok && put(out, VIEW("\""));
}

static bool is_number(struct view v)
{
    return v.n > 0 && v.p[0] >= '0' && v.p[0] <= '9';
}

bool log_row_print(const struct log_row *r, struct buffer *out)
{
    for (unsigned i = 0; i < LOG_COLUMNS; i++) {
        struct view v = r->value[i];
        bool ok = !v.p || (!r->text[i] && is_number(v) ? put(out, v) : put_cell(out, v));
        if (!ok || !put_end(out, i))
            return false;
    }
    return true;
}
