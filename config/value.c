#include "config/value.h"
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>

#define REDIS_PORT 6379u
#define REDIS_LAST_DATABASE 65535u

struct unit {
    const char *name;
    uint64_t factor;
};

// From large to small, so that printing finds the largest unit that divides.
static const struct unit durations[] = {
    {"d", 86400000000ull}, {"h", 3600000000ull}, {"m", 60000000ull},
    {"s", 1000000ull},     {"ms", 1000ull},      {"us", 1ull},
};
static const struct unit sizes[] = {
    {"TiB", 1ull << 40},      {"GiB", 1ull << 30},   {"MiB", 1ull << 20}, {"KiB", 1ull << 10},
    {"TB", 1000000000000ull}, {"GB", 1000000000ull}, {"MB", 1000000ull},  {"kB", 1000ull},
    {"KB", 1000ull},          {"B", 1ull},           {"", 1ull},
};
static const struct unit shares[] = {{"%", 10000ull}};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Digits from v->p on; moves the view behind them.
static enum value_result take_digits(struct view *v, uint64_t *out)
{
    uint64_t sum = 0;
    size_t i = 0;
    bool wraps = false;
    for (; i < v->n && is_digit(v->p[i]); i++) {
        wraps |= __builtin_mul_overflow(sum, 10u, &sum);
        wraps |= __builtin_add_overflow(sum, (unsigned)(v->p[i] - '0'), &sum);
    }
    if (i == 0)
        return VALUE_SYNTAX;
    *v = view_of(v->p + i, v->n - i);
    *out = sum;
    return wraps ? VALUE_RANGE : VALUE_OK;
}

enum value_result value_count(struct view v, uint64_t *out)
{
    enum value_result r = take_digits(&v, out);
    return v.n > 0 ? VALUE_SYNTAX : r;
}

// NUMBER[.FRACTION]UNIT. A fraction has at most six digits and must come out whole in the smallest unit.
static enum value_result take_scaled(struct view v, const struct unit *units, size_t n,
                                     uint64_t *out)
{
    uint64_t whole = 0, part = 0, scale = 1;
    enum value_result r = take_digits(&v, &whole);
    if (r == VALUE_SYNTAX)
        return r;
    if (v.n > 1 && v.p[0] == '.') {
        v = view_of(v.p + 1, v.n - 1);
        size_t before = v.n;
        if (take_digits(&v, &part) != VALUE_OK || before - v.n > 6)
            return VALUE_SYNTAX;
        for (size_t i = v.n; i < before; i++)
            scale *= 10;
    }
    for (size_t i = 0; i < n; i++) {
        if (!view_is(v, units[i].name))
            continue;
        uint64_t fraction = part * (units[i].factor / scale);
        if (scale > 1 && units[i].factor % scale) {
            // e.g. KiB / 10: multiply first; part < 10^6 and factor <= 2^40 stay below 2^60
            fraction = part * units[i].factor;
            if (fraction % scale)
                return VALUE_SYNTAX;
            fraction /= scale;
        }
        if (r == VALUE_RANGE || __builtin_mul_overflow(whole, units[i].factor, &whole) ||
            __builtin_add_overflow(whole, fraction, out))
            return VALUE_RANGE;
        return VALUE_OK;
    }
    return VALUE_SYNTAX;
}

enum value_result value_duration(struct view v, uint64_t *us)
{
    if (view_is(v, "0")) {
        *us = 0;
        return VALUE_OK;
    }
    return take_scaled(v, durations, sizeof(durations) / sizeof(*durations), us);
}

enum value_result value_size(struct view v, uint64_t *bytes)
{
    return take_scaled(v, sizes, sizeof(sizes) / sizeof(*sizes), bytes);
}

enum value_result value_share(struct view v, uint64_t *ppm)
{
    enum value_result r = take_scaled(v, shares, 1, ppm);
    return r == VALUE_OK && *ppm > 1000000 ? VALUE_RANGE : r;
}

enum value_result value_bool(struct view v, uint64_t *out)
{
    static const char *const words[] = {"false", "true", "off", "on", "no", "yes"};
    for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (view_is(v, words[i])) {
            *out = i & 1;
            return VALUE_OK;
        }
    }
    return VALUE_SYNTAX;
}

static bool takes_prefix(struct view *v, const char *prefix)
{
    size_t n = strlen(prefix);
    if (v->n < n || memcmp(v->p, prefix, n) != 0)
        return false;
    *v = view_of(v->p + n, v->n - n);
    return true;
}

static const char *keep(struct arena *a, struct view v)
{
    char *p = arena_alloc(a, v.n + 1);
    if (!p)
        return NULL;
    if (v.n)
        memcpy(p, v.p, v.n);
    p[v.n] = '\0';
    return p;
}

static enum value_result unix_path(struct view v, struct arena *a, struct config_address *out)
{
    // sun_path holds 108 bytes with its NUL.
    if (v.n == 0)
        return VALUE_SYNTAX;
    if (v.n > 107)
        return VALUE_RANGE;
    out->scheme = CONFIG_UNIX;
    out->path = keep(a, v);
    return out->path ? VALUE_OK : VALUE_MEMORY;
}

// HOST:PORT or [V6]:PORT.
static enum value_result host_port(struct view v, struct arena *a, struct config_address *out)
{
    struct view host, port;
    bool v6 = v.n > 0 && v.p[0] == '[';
    const char *cut = v6 ? memchr(v.p, ']', v.n) : (v.n ? memchr(v.p, ':', v.n) : NULL);
    if (!cut)
        return VALUE_SYNTAX;
    host = v6 ? view_of(v.p + 1, (size_t)(cut - v.p) - 1) : view_of(v.p, (size_t)(cut - v.p));
    port = view_of(cut + 1, v.n - (size_t)(cut - v.p) - 1);
    if (v6 && !takes_prefix(&port, ":"))
        return VALUE_SYNTAX;
    uint64_t number = 0;
    enum value_result r = value_count(port, &number);
    if (r != VALUE_OK)
        return r;
    if (number > 65535)
        return VALUE_RANGE;
    if (host.n == 0 || host.n > 253)
        return VALUE_SYNTAX;
    out->host = keep(a, host);
    if (!out->host)
        return VALUE_MEMORY;
    out->port = (uint16_t)number;
    struct in6_addr six;
    if (v6 && inet_pton(AF_INET6, out->host, &six) != 1)
        return VALUE_SYNTAX;
    return VALUE_OK;
}

enum value_result value_listen_address(struct view v, struct arena *a, struct config_address *out)
{
    memset(out, 0, sizeof(*out));
    if (!(out->text = keep(a, v)))
        return VALUE_MEMORY;
    if (takes_prefix(&v, "unix:"))
        return unix_path(v, a, out);
    out->scheme = CONFIG_TCP;
    enum value_result r = host_port(v, a, out);
    struct in_addr four;
    if (r == VALUE_OK && v.p[0] != '[' && inet_pton(AF_INET, out->host, &four) != 1)
        return VALUE_SYNTAX;
    return r;
}

// A host name: letters, digits, '-', '.', '_'; never something that could be read as more than a name.
static bool host_name_ok(const char *s)
{
    for (; *s; s++) {
        bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
        if (!letter && !is_digit(*s) && *s != '-' && *s != '.' && *s != '_')
            return false;
    }
    return true;
}

// HOST:PORT of something that is connected to.
static enum value_result named_place(struct view v, struct arena *a, struct config_address *out)
{
    enum value_result r = host_port(v, a, out);
    if (r != VALUE_OK)
        return r;
    if (out->port == 0)
        return VALUE_RANGE;
    return v.p[0] == '[' || host_name_ok(out->host) ? VALUE_OK : VALUE_SYNTAX;
}

enum value_result value_worker_address(struct view v, struct arena *a, struct config_address *out)
{
    memset(out, 0, sizeof(*out));
    if (!(out->text = keep(a, v)))
        return VALUE_MEMORY;
    if (takes_prefix(&v, "unix:"))
        return unix_path(v, a, out);
    if (takes_prefix(&v, "grpcs://"))
        out->scheme = CONFIG_TLS;
    else if (takes_prefix(&v, "grpc://"))
        out->scheme = CONFIG_TCP;
    else
        return VALUE_SYNTAX;
    return named_place(v, a, out);
}

enum value_result value_peer_address(struct view v, struct arena *a, struct config_address *out)
{
    memset(out, 0, sizeof(*out));
    out->scheme = CONFIG_TCP;
    return (out->text = keep(a, v)) ? named_place(v, a, out) : VALUE_MEMORY;
}

// ---- origins -------------------------------------------------------------------------------------------

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

// Takes the bytes of a host off the front of *v; how many.
static size_t take_host(struct view *v)
{
    bool six = v->n > 0 && v->p[0] == '[';
    size_t n = six;
    while (n < v->n && (is_digit(v->p[n]) || (six ? strchr("abcdef:.", v->p[n]) != NULL
                                                  : is_lower(v->p[n]) || strchr("-._", v->p[n]))))
        n++;
    if (six && (n < 3 || n == v->n || v->p[n] != ']'))
        return 0;
    n += six;
    *v = view_of(v->p + n, v->n - n);
    return n;
}

static const char *check_origin_port(struct view scheme, struct view port)
{
    uint64_t number = 0;
    if (port.n == 0 || port.p[0] == '0' || value_count(port, &number) != VALUE_OK || number > 65535)
        return "its port is none";
    bool standard =
        (view_is(scheme, "https") && number == 443) || (view_is(scheme, "http") && number == 80);
    return standard ? "browsers leave that port out" : NULL;
}

const char *value_origin(struct view v)
{
    size_t n = 0;
    if (view_is(v, "null"))
        return "every sandboxed page and every file says that";
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] >= 'A' && v.p[i] <= 'Z')
            return "browsers say it in lower case";
    while (n < v.n && (is_lower(v.p[n]) || (n > 0 && (is_digit(v.p[n]) || strchr("+.-", v.p[n])))))
        n++;
    struct view scheme = view_of(v.p, n), rest = view_of(v.p + n, v.n - n);
    if (n == 0 || !takes_prefix(&rest, "://"))
        return "it does not begin with a scheme and ://";
    if (take_host(&rest) == 0)
        return "it has no host";
    if (takes_prefix(&rest, ":")) {
        struct view port = rest;
        return check_origin_port(scheme, port);
    }
    return rest.n > 0 ? "nothing may stand behind host and port" : NULL;
}

static enum value_result database_number(struct view v, struct config_address *out)
{
    uint64_t number = 0;
    enum value_result r = v.n ? value_count(v, &number) : VALUE_OK;
    out->database = (uint32_t)number;
    return r == VALUE_OK && number > REDIS_LAST_DATABASE ? VALUE_RANGE : r;
}

static bool has_port(struct view place)
{
    const char *end = place.n && place.p[0] == '[' ? memchr(place.p, ']', place.n) : place.p;
    return end && memchr(end, ':', place.n - (size_t)(end - place.p));
}

enum value_result value_redis_address(struct view v, struct arena *a, struct config_address *out)
{
    memset(out, 0, sizeof(*out));
    if (!(out->text = keep(a, v)))
        return VALUE_MEMORY;
    if (takes_prefix(&v, "unix:"))
        return unix_path(v, a, out);
    out->scheme = takes_prefix(&v, "rediss://") ? CONFIG_TLS : CONFIG_TCP;
    if (out->scheme == CONFIG_TCP && !takes_prefix(&v, "redis://"))
        return VALUE_SYNTAX;
    const char *slash = v.n ? memchr(v.p, '/', v.n) : NULL;
    struct view place = view_of(v.p, slash ? (size_t)(slash - v.p) : v.n);
    enum value_result r =
        slash ? database_number(view_of(slash + 1, v.n - place.n - 1), out) : VALUE_OK;
    if (r != VALUE_OK || has_port(place))
        return r != VALUE_OK ? r : named_place(place, a, out);
    char with_port[300];
    int n = snprintf(with_port, sizeof(with_port), "%.*s:%u", VIEW_ARG(place), REDIS_PORT);
    return n < (int)sizeof(with_port) ? named_place(view_of(with_port, (size_t)n), a, out)
                                      : VALUE_SYNTAX;
}

// "KIND:NAME"; a header's name is kept in lower case, as heads are read. Visible, without what ends a name.
static enum value_result named_trait(struct view v, struct arena *a, struct config_trait *out)
{
    if (v.n == 0 || v.n > 128)
        return VALUE_SYNTAX;
    char *name = (char *)keep(a, v);
    if (!name)
        return VALUE_MEMORY;
    for (char *s = name; *s; s++) {
        if (*s <= ' ' || *s >= 0x7f || *s == '=' || *s == ';' || *s == ',' || *s == '"')
            return VALUE_SYNTAX;
        if (out->kind == CONFIG_HEADER && *s >= 'A' && *s <= 'Z')
            *s |= 0x20;
    }
    out->name = name;
    return VALUE_OK;
}

enum value_result value_trait(struct view v, struct arena *a, struct config_trait *out)
{
    static const struct {
        const char *prefix;
        enum config_trait_kind kind;
    } named[] = {{"header:", CONFIG_HEADER},
                 {"cookie:", CONFIG_COOKIE},
                 {"parameter:", CONFIG_PARAMETER},
                 {"jwt:", CONFIG_CLAIM}};
    memset(out, 0, sizeof(*out));
    if (!(out->text = keep(a, v)))
        return VALUE_MEMORY;
    out->kind = view_is(v, "api-key") ? CONFIG_API_KEY : CONFIG_REQUEST_ID;
    if (out->kind == CONFIG_API_KEY || view_is(v, "request-id"))
        return VALUE_OK;
    for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++) {
        out->kind = named[i].kind;
        if (takes_prefix(&v, named[i].prefix))
            return named_trait(v, a, out);
    }
    return VALUE_SYNTAX;
}

static void print_scaled(char out[32], uint64_t v, const struct unit *units, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (v && v % units[i].factor == 0) {
            snprintf(out, 32, "%" PRIu64 "%s", v / units[i].factor, units[i].name);
            return;
        }
    }
    snprintf(out, 32, "%" PRIu64, v);
}

void value_print_duration(char out[32], uint64_t us)
{
    print_scaled(out, us, durations, sizeof(durations) / sizeof(*durations));
}

void value_print_size(char out[32], uint64_t bytes)
{
    // Binary units only: the decimal ones are read, not written.
    if (bytes % 1024)
        snprintf(out, 32, "%" PRIu64, bytes);
    else
        print_scaled(out, bytes, sizes, 4);
}

void value_print_share(char out[32], uint64_t ppm)
{
    if (ppm % 10000 == 0) {
        snprintf(out, 32, "%" PRIu64 "%%", ppm / 10000);
        return;
    }
    int n = snprintf(out, 32, "%" PRIu64 ".%04" PRIu64, ppm / 10000, ppm % 10000);
    while (out[n - 1] == '0')
        n--;
    out[n] = '%';
    out[n + 1] = '\0';
}
