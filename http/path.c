// One canonical form of a target, made once and used by routing, access rules and metrics alike.
// RFC 3986 sections 5.2.4 and 6.2.2: dot segments removed, escapes of unreserved bytes decoded. What
// different programs are known to read differently is refused: %2f, %5c, %00, "..;", a backslash.
#include "http/conn.h"

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// What a byte of a path may be; 0: it has to be looked at.
enum path_byte { UNRESERVED = 1, DOT, SLASH };
static const uint8_t path_bytes[256] = {['a' ... 'z'] = UNRESERVED,
                                        ['A' ... 'Z'] = UNRESERVED,
                                        ['0' ... '9'] = UNRESERVED,
                                        ['-'] = UNRESERVED,
                                        ['_'] = UNRESERVED,
                                        ['~'] = UNRESERVED,
                                        ['.'] = DOT,
                                        ['/'] = SLASH};

static bool unreserved(int c)
{
    return path_bytes[(uint8_t)c] - 1u < DOT; // one of the first two
}

// Nothing to be decoded, removed or refused: as most paths are.
static bool is_plain(struct view path)
{
    unsigned before = 0;
    for (size_t i = 0; i < path.n; i++) {
        unsigned kind = path_bytes[(uint8_t)path.p[i]];
        if (kind == 0 || (kind == DOT && before == SLASH))
            return false;
        before = kind;
    }
    return true;
}

// The path's escapes: *n bytes written to out. NULL, or what is wrong.
static const char *decode(struct view path, char *out, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < path.n; i++) {
        unsigned char c = (unsigned char)path.p[i];
        if (c <= 0x20 || c >= 0x7f || c == '#' || c == '\\')
            return "target: a byte that must be escaped";
        if (c != '%') {
            out[(*n)++] = (char)c;
            continue;
        }
        int high = i + 2 < path.n ? hex(path.p[i + 1]) : -1,
            low = high >= 0 ? hex(path.p[i + 2]) : -1;
        if (low < 0)
            return "target: a broken escape";
        int v = high * 16 + low;
        if (v == 0 || v == '/' || v == '\\')
            return "target: an escaped slash or NUL";
        if (unreserved(v) || v == '+' ||
            v == '@') { // names of models have them, clients escape them or not
            out[(*n)++] = (char)v;
        } else {
            static const char digits[] = "0123456789ABCDEF";
            out[(*n)++] = '%';
            out[(*n)++] = digits[high];
            out[(*n)++] = digits[low];
        }
        i += 2;
    }
    return NULL;
}

// Removes dot segments in place.
static const char *remove_dots(char *p, size_t *n)
{
    size_t to = 0, i = 0;
    while (i < *n) { // p[i] is a slash
        size_t end = i + 1;
        while (end < *n && p[end] != '/')
            end++;
        size_t length = end - i - 1;
        bool last = end == *n;
        if (length >= 2 && p[i + 1] == '.' &&
            (p[i + 2] == ';' || (length >= 3 && p[i + 2] == '.' && p[i + 3] == ';')))
            return "target: a dot segment with a parameter";
        if (length == 1 && p[i + 1] == '.') {
            if (last)
                p[to++] = '/';
        } else if (length == 2 && p[i + 1] == '.' && p[i + 2] == '.') {
            while (to > 0 && p[--to] != '/')
                ;
            if (last)
                p[to++] = '/';
        } else {
            memmove(p + to, p + i, end - i);
            to += end - i;
        }
        i = end;
    }
    if (to == 0)
        p[to++] = '/';
    *n = to;
    return NULL;
}

const char *path_canonical(struct arena *a, struct view target, struct view *path,
                           struct view *query)
{
    const char *mark = memchr(target.p, '?', target.n), *why;
    size_t path_n = mark ? (size_t)(mark - target.p) : target.n, n;
    if (path_n == 0 || target.p[0] != '/')
        return "target: expected a path that starts with /";
    *query = mark ? view_of(mark + 1, target.n - path_n - 1) : view_of(target.p, 0);
    for (size_t i = 0; i < query->n; i++) {
        unsigned char c = (unsigned char)query->p[i];
        if (c <= 0x20 || c >= 0x7f || c == '#')
            return "target: a byte that must be escaped";
    }
    char *out = arena_alloc(a, path_n + 1);
    if (!out)
        return out_of_memory;
    if (is_plain(view_of(target.p, path_n))) {
        memcpy(out, target.p, path_n);
        *path = view_of(out, path_n);
        return NULL;
    }
    if ((why = decode(view_of(target.p, path_n), out, &n)) || (why = remove_dots(out, &n)))
        return why;
    *path = view_of(out, n);
    return NULL;
}

// An escape of a byte that must be escaped in a name: gRPC's clients name a Unix socket by its path,
// "run%2Fsluice.sock". Escapes of other bytes would be another spelling of a name.
static bool name_escape(struct view v, size_t i)
{
    int high = v.p[i] == '%' && v.n - i > 2 ? hex(v.p[i + 1]) : -1;
    int low = high >= 0 ? hex(v.p[i + 2]) : -1, c = high * 16 + low;
    return low >= 0 && c > 0x20 && c < 0x7f && c != '@' && !unreserved(c);
}

// host [":" port], no userinfo. Names, IPv4 and "[IPv6]".
bool authority_ok(struct view v)
{
    size_t i = 0;
    if (v.n == 0 || v.n > 255)
        return false;
    if (v.p[0] == '[') {
        while (++i < v.n && v.p[i] != ']') {
            if (hex(v.p[i]) < 0 && v.p[i] != ':' && v.p[i] != '.')
                return false;
        }
        if (i++ >= v.n || i < 4)
            return false;
    } else {
        for (; i < v.n; i++) {
            if (unreserved((unsigned char)v.p[i]))
                continue;
            if (!name_escape(v, i))
                break;
            i += 2;
        }
        if (i == 0)
            return false;
    }
    if (i == v.n)
        return true;
    if (v.p[i++] != ':' || v.n - i > 5)
        return false;
    unsigned port = 0;
    for (; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        port = port * 10 + (unsigned)(v.p[i] - '0');
    }
    return port <= 65535;
}

bool authorities_ok(struct view v)
{
    const char *comma;
    if (v.n > 255)
        return false;
    while ((comma = v.n ? memchr(v.p, ',', v.n) : NULL)) {
        size_t n = (size_t)(comma - v.p);
        if (!authority_ok(view_of(v.p, n)))
            return false;
        v = view_of(comma + 1, v.n - n - 1);
    }
    return authority_ok(v);
}
