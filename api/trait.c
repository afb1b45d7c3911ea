#include "api/trait.h"

#include "base/json.h"
#include "base/num.h"
#include <strings.h>

#define TOKEN_MOST 8192 // bytes of a token that is looked into

static const struct view none = {0};

static struct view find_header(const struct exchange *ex, struct view name)
{
    for (unsigned i = 0; i < ex->n_headers; i++)
        if (view_eq(ex->headers[i].name, name))
            return ex->headers[i].value;
    return none;
}

static struct view skip_blanks(struct view v)
{
    while (v.n > 0 && (*v.p == ' ' || *v.p == '\t'))
        v = view_of(v.p + 1, v.n - 1);
    return v;
}

// ---- cookies -------------------------------------------------------------------------------------------

static struct view find_in_cookies(struct view cookies, struct view name)
{
    while (cookies.n > 0) {
        const char *end = memchr(cookies.p, ';', cookies.n);
        struct view pair = view_of(cookies.p, end ? (size_t)(end - cookies.p) : cookies.n);
        size_t used = pair.n + (end != NULL);
        cookies = view_of(cookies.p + used, cookies.n - used);
        pair = skip_blanks(pair);
        if (pair.n > name.n && pair.p[name.n] == '=' && memcmp(pair.p, name.p, name.n) == 0)
            return view_of(pair.p + name.n + 1, pair.n - name.n - 1);
    }
    return none;
}

// HTTP/2 may have them in fields of their own (RFC 9113, 8.2.3).
static struct view find_cookie(const struct exchange *ex, struct view name)
{
    struct view found = none;
    for (unsigned i = 0; i < ex->n_headers && found.n == 0; i++)
        if (view_is(ex->headers[i].name, "cookie"))
            found = find_in_cookies(ex->headers[i].value, name);
    return found;
}

// ---- tokens --------------------------------------------------------------------------------------------

static struct view bearer_token(const struct exchange *ex)
{
    struct view v = find_header(ex, VIEW("authorization"));
    if (v.n < 7 || strncasecmp(v.p, "bearer ", 7) != 0)
        return none;
    return skip_blanks(view_of(v.p + 7, v.n - 7));
}

static int base64url_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

// RFC 4648, section 5, without padding. Nothing: it is something else, or memory is out.
static struct view decode_base64url(struct arena *a, struct view v)
{
    char *out = arena_alloc(a, v.n + 1);
    uint32_t bits = 0;
    unsigned held = 0;
    size_t n = 0;
    for (size_t i = 0; out && i < v.n; i++) {
        int digit = base64url_digit(v.p[i]);
        if (digit < 0)
            return none;
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8)
            out[n++] = (char)(bits >> (held -= 8));
    }
    return out ? view_of(out, n) : none;
}

// The claims: what stands between the dots.
static struct view payload_of(struct arena *a, struct view token)
{
    if (token.n == 0 || token.n > TOKEN_MOST)
        return none;
    const char *first = memchr(token.p, '.', token.n), *end = token.p + token.n;
    const char *second = first ? memchr(first + 1, '.', (size_t)(end - first - 1)) : NULL;
    return second ? decode_base64url(a, view_of(first + 1, (size_t)(second - first - 1))) : none;
}

// A text, or a number as it is written.
static struct view find_claim(struct arena *a, struct view json, struct view name)
{
    struct json_reader r;
    struct view key, found = none;
    if (json.n == 0)
        return none;
    json_read(&r, json);
    if (json_next(&r) != JSON_OBJECT)
        return none;
    while (json_next(&r) == JSON_KEY) {
        bool is = json_unescape(&r, a, &key) && view_eq(key, name);
        enum json_token t = json_next(&r);
        if (is && t == JSON_NUMBER)
            return r.text;
        if (is && t == JSON_STRING)
            return json_unescape(&r, a, &found) ? found : none;
        if (is || !json_skip(&r, t))
            return none;
    }
    return none;
}

// ---- parameters ----------------------------------------------------------------------------------------

static struct view print_param(struct arena *a, const struct param *p)
{
    char text[32];
    switch (p->type) {
    case PARAM_STRING:
        return p->s;
    case PARAM_BOOL:
        return p->b ? VIEW("true") : VIEW("false");
    case PARAM_INT64:
        return arena_copy(a, view_of(text, num_print_i64(text, p->i)));
    case PARAM_UINT64:
        return arena_copy(a, view_of(text, num_print_u64(text, p->u)));
    case PARAM_DOUBLE:
        return arena_copy(a, view_of(text, num_print_f64(text, p->d)));
    }
    return none;
}

static struct view find_param(struct arena *a, const struct infer_request *r, struct view name)
{
    for (unsigned i = 0; i < r->n_params; i++)
        if (view_eq(r->params[i].key, name))
            return print_param(a, &r->params[i]);
    return none;
}

struct view trait_read(const struct trait *t, struct exchange *ex, const struct infer_request *r,
                       struct view request_id)
{
    struct view key;
    switch (t->kind) {
    case TRAIT_REQUEST_ID:
        return request_id;
    case TRAIT_API_KEY:
        key = find_header(ex, VIEW("x-api-key"));
        return key.n ? key : bearer_token(ex);
    case TRAIT_HEADER:
        return find_header(ex, t->name);
    case TRAIT_COOKIE:
        return find_cookie(ex, t->name);
    case TRAIT_PARAMETER:
        return find_param(&ex->arena, r, t->name);
    case TRAIT_CLAIM:
        return find_claim(&ex->arena, payload_of(&ex->arena, bearer_token(ex)), t->name);
    }
    return none;
}
