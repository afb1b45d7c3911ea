#include "engine/pattern.h"

uint32_t utf8_next(const unsigned char **at, const unsigned char *end)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    uint32_t c = *(*at)++;
    unsigned more = c < 0x80 ? 0 : c >= 0xf0 && c < 0xf8 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0x80)
        return c;
    if (c < 0xc0 || c >= 0xf8 || (size_t)(end - *at) < more)
        return UINT32_MAX;
    c &= 0x3fu >> more;
    for (unsigned i = 0; i < more; i++, (*at)++) {
        if ((**at & 0xc0) != 0x80)
            return UINT32_MAX;
        c = c << 6 | (**at & 0x3f);
    }
    return c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? UINT32_MAX : c;
}

// ---- compiling ---------------------------------------------------------------------------------------

struct compile {
    struct pattern *p;
    const unsigned char *at, *end;
    const char *wrong; // NULL while fine
    unsigned depth;
};

struct fragment { // of an expression: what may begin and end it
    uint64_t first, last;
    bool empty; // it may be nothing
};

static struct fragment fail(struct compile *c, const char *why)
{
    if (!c->wrong)
        c->wrong = why;
    return (struct fragment){0, 0, true};
}

static bool peek(const struct compile *c, char what)
{
    return c->at < c->end && *c->at == (unsigned char)what;
}

static bool take(struct compile *c, char what)
{
    if (!peek(c, what))
        return false;
    c->at++;
    return true;
}

static uint32_t character(struct compile *c)
{
    uint32_t v = c->at < c->end ? utf8_next(&c->at, c->end) : UINT32_MAX;
    if (v == UINT32_MAX)
        fail(c, "it is cut, or not UTF-8");
    return v;
}

static void add_range(struct compile *c, struct pattern_class *k, uint32_t from, uint32_t to)
{
    struct pattern *p = c->p;
    if (p->n_ranges == PATTERN_RANGES || from > to) {
        fail(c, from > to ? "a range ends before it begins" : "its classes are too long");
        return;
    }
    p->ranges[p->n_ranges][0] = from;
    p->ranges[p->n_ranges++][1] = to;
    k->n++;
}

// \d, \w, \s, or its opposite by its complement. False: another letter.
static bool add_named(struct compile *c, struct pattern_class *k, uint32_t name)
{
    static const struct {
        char name;
        unsigned n;
        uint32_t of[5][2];
    } named[] = {{'d', 1, {{'0', '9'}}},
                 {'w', 4, {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
                 {'s', 3, {{'\t', '\n'}, {'\f', '\r'}, {' ', ' '}}}};
    for (unsigned i = 0; i < 3; i++) {
        uint32_t next = 0;
        if (name != (uint32_t)named[i].name && name != (uint32_t)named[i].name - 'a' + 'A')
            continue;
        bool others = name != (uint32_t)named[i].name;
        for (unsigned r = 0; r < named[i].n; r++) {
            if (!others)
                add_range(c, k, named[i].of[r][0], named[i].of[r][1]);
            else if (named[i].of[r][0] > next)
                add_range(c, k, next, named[i].of[r][0] - 1);
            next = named[i].of[r][1] + 1;
        }
        if (others)
            add_range(c, k, next, 0x10ffff);
        return true;
    }
    return false;
}

// Behind a backslash: one character.
static uint32_t escaped(struct compile *c, uint32_t v)
{
    static const char from[] = "tnrfva", to[] = "\t\n\r\f\v\a";
    const char *known = v < 0x80 && v > 0 ? strchr(from, (int)v) : NULL;
    if (known)
        return (uint32_t)to[known - from];
    if ((v >= 'a' && v <= 'z') || (v >= 'A' && v <= 'Z') || (v >= '0' && v <= '9'))
        fail(c, "an escape is not known here");
    return v;
}

static void bracket(struct compile *c, struct pattern_class *k)
{
    k->others = take(c, '^');
    for (bool any = false; !c->wrong && (!peek(c, ']') || !any); any = true) {
        uint32_t v = character(c);
        if (v == '[' && peek(c, ':'))
            fail(c, "named classes are not known here");
        if (v == '\\') {
            v = character(c);
            if (add_named(c, k, v))
                continue;
            v = escaped(c, v);
        }
        uint32_t to = v;
        if (peek(c, '-') && c->end - c->at > 1 && c->at[1] != ']') {
            c->at++;
            to = character(c);
            if (to == '\\')
                to = escaped(c, character(c));
        }
        add_range(c, k, v, to);
    }
    if (!take(c, ']'))
        fail(c, "a class is not closed");
}

// A place where one character of a class stands.
static struct fragment place(struct compile *c, struct pattern_class k)
{
    struct pattern *p = c->p;
    if (p->n_places == PATTERN_PLACES)
        return fail(c, "it is too long");
    uint64_t bit = (uint64_t)1 << p->n_places;
    p->follow[p->n_places] = 0;
    p->classes[p->n_places++] = k;
    return (struct fragment){bit, bit, false};
}

static struct fragment alternatives(struct compile *c);

static struct fragment atom(struct compile *c)
{
    struct pattern_class k = {.first = (uint16_t)c->p->n_ranges};
    if (take(c, '(')) {
        if (take(c, '?') && !take(c, ':'))
            return fail(c, "flags and look-around are not known here");
        if (++c->depth > PATTERN_DEPTH)
            return fail(c, "its groups are nested too deep");
        struct fragment inner = alternatives(c);
        c->depth--;
        return take(c, ')') ? inner : fail(c, "a group is not closed");
    }
    uint32_t v = character(c);
    if (v == '[') {
        bracket(c, &k);
    } else if (v == '.') {
        k.others = true;
        add_range(c, &k, '\n', '\n');
    } else if (v == '\\') {
        v = character(c);
        if (!add_named(c, &k, v)) {
            v = escaped(c, v);
            add_range(c, &k, v, v);
        }
    } else if (v < 0x80 && v > 0 && strchr("*+?{}^$", (int)v)) {
        return fail(c, "a sign stands where it means nothing here");
    } else {
        add_range(c, &k, v, v);
    }
    return place(c, k);
}

// What ends with `from` may go on with what begins with `to`.
static void link_places(struct compile *c, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < c->p->n_places; i++) {
        if (from >> i & 1)
            c->p->follow[i] |= to;
    }
}

static struct fragment join(struct compile *c, struct fragment a, struct fragment b)
{
    link_places(c, a.last, b.first);
    return (struct fragment){a.first | (a.empty ? b.first : 0), b.last | (b.empty ? a.last : 0),
                             a.empty && b.empty};
}

static unsigned count(struct compile *c)
{
    unsigned n = 0, digits = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9' && digits < 3; digits++)
        n = n * 10 + (*c->at++ - '0');
    if (digits == 0)
        fail(c, "a repetition has no number");
    return n;
}

// The atom that began at `from` once more.
static struct fragment again(struct compile *c, const unsigned char *from)
{
    const unsigned char *here = c->at;
    c->at = from;
    struct fragment p = atom(c);
    c->at = here;
    return p;
}

// Behind an atom and "{": m, or m to n, or m and more.
static struct fragment counted(struct compile *c, struct fragment p, const unsigned char *from)
{
    unsigned least = count(c), most = least;
    bool endless = false;
    if (take(c, ',')) {
        endless = peek(c, '}');
        most = endless ? least : count(c);
    }
    if (!take(c, '}') || most < least || most == 0 || most > PATTERN_PLACES)
        return fail(c, "a repetition cannot be");
    if (!p.first) // so that each reading takes places, and they bound how often it is read
        return fail(c, "a repetition repeats nothing");
    struct fragment all = p, one = p;
    all.empty |= least == 0;
    for (unsigned i = 1; i < most && !c->wrong; i++) {
        one = again(c, from);
        one.empty |= i >= least;
        all = join(c, all, one);
    }
    if (endless)
        link_places(c, one.last, one.first);
    return all;
}

static struct fragment repeated(struct compile *c)
{
    const unsigned char *from = c->at;
    struct fragment p = atom(c);
    if (c->wrong)
        return p;
    if (take(c, '{'))
        p = counted(c, p, from);
    else if (take(c, '?'))
        p.empty = true;
    else if (peek(c, '*') || peek(c, '+')) {
        link_places(c, p.last, p.first);
        p.empty |= *c->at++ == '*';
    }
    if (peek(c, '?') || peek(c, '*') || peek(c, '+') || peek(c, '{'))
        return fail(c, "lazy and double repetition are not known here");
    return p;
}

static struct fragment sequence(struct compile *c)
{
    struct fragment all = {0, 0, true};
    while (!c->wrong && c->at < c->end && !peek(c, '|') && !peek(c, ')'))
        all = join(c, all, repeated(c));
    return all;
}

static struct fragment alternatives(struct compile *c)
{
    struct fragment all = sequence(c);
    while (!c->wrong && take(c, '|')) {
        struct fragment other = sequence(c);
        all = (struct fragment){all.first | other.first, all.last | other.last,
                                all.empty || other.empty};
    }
    return all;
}

static bool in_class(const struct pattern *p, const struct pattern_class *k, uint32_t v)
{
    for (unsigned i = 0; i < k->n; i++) {
        if (v >= p->ranges[k->first + i][0] && v <= p->ranges[k->first + i][1])
            return !k->others;
    }
    return k->others;
}

static uint64_t places_of(const struct pattern *p, uint32_t v)
{
    uint64_t places = 0;
    for (unsigned i = 0; i < p->n_places; i++)
        places |= (uint64_t)in_class(p, &p->classes[i], v) << i;
    return places;
}

const char *pattern_compile(struct pattern *p, struct view expression)
{
    struct compile c = {.p = p, .at = (const unsigned char *)expression.p};
    p->n_places = p->n_ranges = 0;
    p->word_begins = expression.n >= 2 && memcmp(expression.p, "\\b", 2) == 0;
    p->word_ends = expression.n >= 4 && memcmp(expression.p + expression.n - 2, "\\b", 2) == 0 &&
                   expression.p[expression.n - 3] != '\\';
    c.end = c.at + expression.n - (p->word_ends ? 2 : 0);
    c.at += p->word_begins ? 2 : 0;
    struct fragment all = alternatives(&c);
    if (!c.wrong && c.at < c.end)
        fail(&c, "a group is closed that was not opened");
    if (!c.wrong && (p->word_begins || p->word_ends) && memchr(expression.p, '|', expression.n))
        fail(&c, "\\b and | do not go together here");
    if (!c.wrong && all.empty)
        fail(&c, "it matches where nothing stands");
    p->first = all.first;
    p->last = all.last;
    for (uint32_t v = 0; v < 128 && !c.wrong; v++)
        p->ascii[v] = places_of(p, v);
    return c.wrong;
}

// ---- finding -----------------------------------------------------------------------------------------

static bool is_word(struct view text, size_t at)
{
    char c = at < text.n ? text.p[at] : ' ';
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_boundary(struct view text, size_t at)
{
    return (at > 0 && is_word(text, at - 1)) != is_word(text, at);
}

// How long the longest match is that begins here; 0: none does.
static size_t match_here(const struct pattern *p, struct view text, size_t from, uint64_t *steps)
{
    const unsigned char *begin = (const unsigned char *)text.p, *at = begin + from,
                        *end = begin + text.n;
    uint64_t state = 0;
    size_t longest = 0;
    if (p->word_begins && !is_boundary(text, from))
        return 0;
    for (bool first = true; at<end && * steps> 0; first = false) {
        uint32_t v = utf8_next(&at, end);
        uint64_t next = first ? p->first : 0;
        for (uint64_t s = state; s; s &= s - 1)
            next |= p->follow[__builtin_ctzll(s)];
        state = v == UINT32_MAX ? 0 : next & (v < 128 ? p->ascii[v] : places_of(p, v));
        --*steps;
        if (!state)
            break;
        size_t n = (size_t)(at - begin);
        if ((state & p->last) && (!p->word_ends || is_boundary(text, n)))
            longest = n - from;
    }
    return longest;
}

bool pattern_find(const struct pattern *p, struct view text, size_t *from, struct view *match,
                  uint64_t *steps)
{
    while (*from<text.n && * steps> 0) {
        size_t n = match_here(p, text, *from, steps);
        if (n > 0 && *steps > 0) {
            *match = view_of(text.p + *from, n);
            *from += n;
            return true;
        }
        do // to the next character
            ++*from;
        while (*from < text.n && ((unsigned char)text.p[*from] & 0xc0) == 0x80);
    }
    return false;
}
