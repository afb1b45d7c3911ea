#include "base/json_inside.h"
#include "base/num_decimal.h"

void json_read(struct json_reader *r, struct view text)
{
    const char *p = text.p ? text.p : "";
    bool marked = text.n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0;
    *r = (struct json_reader){.at = marked ? p + 3 : p,
                              .end = p + text.n,
                              .start = p,
                              .slice = SIZE_MAX,
                              .expect = EXPECT_VALUE};
}

enum json_token json_error(struct json_reader *r, const char *at, const char *what)
{
    r->error = what;
    r->error_at = (size_t)(at - r->start);
    r->expect = EXPECT_NOTHING;
    return JSON_ERROR;
}

enum json_token json_fail(struct json_reader *r, const char *constant_text)
{
    if (!r->error)
        return json_error(r, r->start + r->token_at, constant_text);
    r->error = constant_text;
    return JSON_ERROR;
}

enum json_token json_open(struct json_reader *r, bool object)
{
    if (r->depth == JSON_MAX_DEPTH)
        return json_error(r, r->at - 1, "nested deeper than 100");
    r->depth++;
    uint64_t bit = (uint64_t)1 << (r->depth & 63);
    if (object)
        r->in_object[r->depth >> 6] |= bit;
    else
        r->in_object[r->depth >> 6] &= ~bit;
    r->expect = object ? EXPECT_FIRST_KEY : EXPECT_FIRST_VALUE;
    return object ? JSON_OBJECT : JSON_ARRAY;
}

static void value_done(struct json_reader *r)
{
    r->expect = r->depth ? EXPECT_AFTER : EXPECT_END;
}

void json_close(struct json_reader *r)
{
    r->depth--;
    value_done(r);
}

static bool starts(const char *p, const char *end, struct view word)
{
    return (size_t)(end - p) >= word.n && memcmp(p, word.p, word.n) == 0;
}

unsigned json_word(const char *p, const char *end, double *value)
{
    bool minus = p < end && *p == '-';
    if (starts(p + minus, end, VIEW("Infinity"))) {
        *value = minus ? -__builtin_inf() : __builtin_inf();
        return 8u + minus;
    }
    *value = __builtin_nan("");
    return starts(p, end, VIEW("NaN")) ? 3 : 0;
}

// Where JSON has no value: one of those words, if they are asked for.
static enum json_token read_odd(struct json_reader *r, const char *what)
{
    double v;
    unsigned n = r->words ? json_word(r->at, r->end, &v) : 0;
    if (n == 0)
        return json_error(r, r->at, what);
    r->at += n;
    value_done(r);
    return JSON_NULL;
}

static enum json_token read_number(struct json_reader *r)
{
    // One byte more than allowed is looked at, so that a long number costs no more than a short one.
    size_t left = (size_t)(r->end - r->at);
    const char *limit = left > JSON_MAX_NUMBER + 1 ? r->at + JSON_MAX_NUMBER + 1 : r->end;
    struct num_decimal d;
    const char *end = num_scan(r->at, limit, &d);
    if (!end)
        return read_odd(r, "not a number");
    if (end - r->at > JSON_MAX_NUMBER)
        return json_error(r, r->at, "number is longer than 400 characters");
    r->text = view_of(r->at, (size_t)(end - r->at));
    r->escaped = false;
    r->at = end;
    value_done(r);
    return JSON_NUMBER;
}

static enum json_token read_word(struct json_reader *r, struct view word, enum json_token token)
{
    if (!starts(r->at, r->end, word))
        return json_error(r, r->at, "not a JSON value");
    r->at += word.n;
    value_done(r);
    return token;
}

static inline enum json_token string_done(struct json_reader *r, enum json_token token)
{
    if (token == JSON_STRING)
        value_done(r);
    else
        r->resume_key = false;
    return token;
}

static enum json_token read_value(struct json_reader *r)
{
    switch (*r->at) {
    case '{':
        r->at++;
        return json_open(r, true);
    case '[':
        r->at++;
        return json_open(r, false);
    case '"':
        return string_done(r, json_scan_string(r));
    case 't':
        return read_word(r, VIEW("true"), JSON_TRUE);
    case 'f':
        return read_word(r, VIEW("false"), JSON_FALSE);
    case 'n':
        return read_word(r, VIEW("null"), JSON_NULL);
    case '-':
    case '0' ... '9':
        return read_number(r);
    }
    return read_odd(r, "not a JSON value");
}

// The colon belongs to the key: after it only a value can follow.
static inline enum json_token key_done(struct json_reader *r, enum json_token token)
{
    if (token != JSON_STRING) {
        r->resume_key = true;
        return token;
    }
    r->at = json_space(r->at, r->end);
    if (r->at == r->end || *r->at != ':')
        return json_error(r, r->at, "expected ':'");
    r->at++;
    r->expect = EXPECT_VALUE;
    return JSON_KEY;
}

static enum json_token read_key(struct json_reader *r)
{
    if (*r->at != '"')
        return json_error(r, r->at, "expected a key");
    return key_done(r, json_scan_string(r));
}

// What a slice has left of a string.
static enum json_token read_rest(struct json_reader *r)
{
    enum json_token token = json_scan_rest(r);
    return r->resume_key ? key_done(r, token) : string_done(r, token);
}

static enum json_token read_end(struct json_reader *r)
{
    enum json_token token = json_in_object(r) ? JSON_OBJECT_END : JSON_ARRAY_END;
    r->at++;
    json_close(r);
    return token;
}

static enum json_token read_after(struct json_reader *r)
{
    bool object = json_in_object(r);
    if (*r->at == (object ? '}' : ']'))
        return read_end(r);
    if (*r->at != ',')
        return json_error(r, r->at, object ? "expected ',' or '}'" : "expected ',' or ']'");
    r->at = json_space(r->at + 1, r->end);
    r->token_at = (size_t)(r->at - r->start);
    if (r->at == r->end)
        return json_error(r, r->at, "text ends too early");
    return object ? read_key(r) : read_value(r);
}

enum json_token json_next(struct json_reader *r)
{
    if (r->expect == EXPECT_NOTHING)
        return JSON_ERROR;
    r->at = json_space(r->at, r->end);
    r->token_at = (size_t)(r->at - r->start);
    if (r->at == r->end)
        return r->expect == EXPECT_END ? JSON_END : json_error(r, r->at, "text ends too early");
    switch ((enum json_expect)r->expect) {
    case EXPECT_FIRST_VALUE:
        return *r->at == ']' ? read_end(r) : read_value(r);
    case EXPECT_FIRST_KEY:
        return *r->at == '}' ? read_end(r) : read_key(r);
    case EXPECT_VALUE:
        return read_value(r);
    case EXPECT_AFTER:
        return read_after(r);
    case EXPECT_REST:
        return read_rest(r);
    default:
        return json_error(r, r->at, "more text after the value");
    }
}

bool json_skip(struct json_reader *r, enum json_token first)
{
    if (first == JSON_ERROR)
        return false;
    if (first != JSON_OBJECT && first != JSON_ARRAY)
        return true;
    for (unsigned outside = r->depth - 1u; r->depth > outside;)
        if (json_next(r) == JSON_ERROR)
            return false;
    return true;
}
