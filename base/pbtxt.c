// One function for each thing of the grammar; the only recursion is a message within a message, counted.
#include "base/pbtxt.h"

struct parse {
    const char *at, *end;
    struct arena *arena;
    struct pbtxt_error *e;
    unsigned line, fields;
    bool failed; // with e
};

static bool fail(struct parse *p, const char *text)
{
    if (!p->failed)
        *p->e = (struct pbtxt_error){p->line, text};
    p->failed = true;
    return false;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// White space and comments, up to the next byte that counts; 0: the end.
static char peek(struct parse *p)
{
    bool comment = false;
    for (; p->at < p->end; p->at++) {
        char c = *p->at;
        if (c == '\n') {
            p->line++;
            comment = false;
        } else if (c == '#') {
            comment = true;
        } else if (c != ' ' && c != '\t' && c != '\r' && !comment) {
            break;
        }
    }
    return p->at < p->end ? *p->at : '\0';
}

static bool take(struct parse *p, char c)
{
    if (peek(p) != c)
        return false;
    p->at++;
    return true;
}

static struct view word(struct parse *p)
{
    const char *from = p->at;
    while (p->at < p->end && (is_letter(*p->at) || is_digit(*p->at)))
        p->at++;
    return view_of(from, (size_t)(p->at - from));
}

// ---- strings -----------------------------------------------------------------------------------------

static int digit_of(char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : 99;
}

// Up to `most` digits of that base; -1: none.
static int escape_number(struct parse *p, int base, int most)
{
    int v = -1;
    for (; most > 0 && p->at < p->end && digit_of(*p->at) < base; most--)
        v = (v < 0 ? 0 : v) * base + digit_of(*p->at++);
    return v;
}

// Behind the backslash: the byte. Otherwise: none that is known.
static int escape(struct parse *p)
{
    static const char from[] = "abfnrtv\\'\"?", to[] = "\a\b\f\n\r\t\v\\'\"?";
    char c = p->at < p->end ? *p->at : '\0';
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        p->at++;
        return (unsigned char)to[known - from];
    }
    if (digit_of(c) < 8)
        return escape_number(p, 8, 3);
    if (c != 'x' && c != 'X')
        return -1;
    p->at++;
    return escape_number(p, 16, 2);
}

// What stands between two quotes is appended to *s, which has room for all of it.
static bool quoted(struct parse *p, char *s, size_t *n)
{
    char quote = *p->at++;
    while (p->at < p->end && *p->at != quote) {
        int c = (unsigned char)*p->at++;
        if (c == '\n' || c == '\0')
            return fail(p, "a string is not closed on its line");
        if (c == '\\' && ((c = escape(p)) < 0 || c > 255))
            return fail(p, "a string has an escape that is not known here");
        s[(*n)++] = (char)c;
    }
    if (p->at == p->end)
        return fail(p, "a string is not closed");
    p->at++;
    return true;
}

// How far the run of strings that begins here goes: what they hold is not more.
static size_t run_bytes(const struct parse *p)
{
    struct pbtxt_error e;
    struct parse ahead = *p;
    ahead.e = &e;
    while (peek(&ahead) == '"' || peek(&ahead) == '\'') {
        char quote = *ahead.at++;
        while (ahead.at < ahead.end && *ahead.at != quote)
            ahead.at += *ahead.at == '\\' && ahead.end - ahead.at > 1 ? 2 : 1;
        ahead.at += ahead.at < ahead.end;
    }
    return (size_t)(ahead.at - p->at);
}

// One string, or several behind each other, which are one.
static bool string_value(struct parse *p, struct pbtxt_field *f)
{
    size_t n = 0;
    char *s = arena_alloc(p->arena, run_bytes(p) + 1);
    if (!s)
        return fail(p, "out of memory");
    do {
        if (!quoted(p, s, &n))
            return false;
    } while (peek(p) == '"' || peek(p) == '\'');
    f->kind = PBTXT_STRING;
    f->text = view_of(s, n);
    return true;
}

// ---- fields ------------------------------------------------------------------------------------------

static bool number_value(struct parse *p, struct pbtxt_field *f)
{
    const char *from = p->at;
    bool minus = take(p, '-');
    char c = peek(p);
    if (!is_digit(c) && c != '.' && !(minus && is_letter(c)))
        return fail(p, "expected a value");
    while (p->at < p->end && (is_letter(*p->at) || is_digit(*p->at) || *p->at == '.' ||
                              ((*p->at == '-' || *p->at == '+') && (p->at[-1] | 0x20) == 'e')))
        p->at++;
    f->text = view_of(from, (size_t)(p->at - from));
    return true;
}

static bool message(struct parse *p, struct pbtxt_field *into, char close, unsigned depth);

static bool value(struct parse *p, struct pbtxt_field *f, unsigned depth, bool colon)
{
    char c = peek(p);
    f->line = p->line;
    if (c == '{' || c == '<') {
        p->at++;
        return message(p, f, c == '{' ? '}' : '>', depth + 1);
    }
    if (!colon)
        return fail(p, "expected : or { behind a field's name");
    if (c == '"' || c == '\'')
        return string_value(p, f);
    if (is_letter(c)) {
        f->text = word(p);
        return true;
    }
    return number_value(p, f);
}

static struct pbtxt_field *add_field(struct parse *p, struct view name, struct pbtxt_field ***last)
{
    struct pbtxt_field *f =
        p->fields++ < PBTXT_MAX_FIELDS ? arena_zalloc(p->arena, sizeof(*f)) : NULL;
    if (!f) {
        fail(p, p->fields > PBTXT_MAX_FIELDS ? "too many fields" : "out of memory");
        return NULL;
    }
    f->name = name;
    **last = f;
    *last = &f->next;
    return f;
}

// One field with its value, or with all values of its list.
static bool field(struct parse *p, struct pbtxt_field ***last, unsigned depth)
{
    char c = peek(p);
    if (!is_letter(c))
        return fail(p, c == '['                                 ? "extensions are not known here"
                       : (c < ' ' || c > '~') && p->at < p->end ? "this is not text"
                                                                : "expected a field's name");
    struct view name = word(p);
    bool colon = take(p, ':');
    if (!take(p, '[')) {
        struct pbtxt_field *f = add_field(p, name, last);
        return f && value(p, f, depth, colon);
    }
    if (take(p, ']'))
        return true;
    do {
        struct pbtxt_field *f = add_field(p, name, last);
        if (!f || !value(p, f, depth, colon))
            return false;
    } while (take(p, ','));
    return take(p, ']') || fail(p, "expected , or ] in a list");
}

// The fields up to `close` (0: up to the end).
static bool message(struct parse *p, struct pbtxt_field *into, char close, unsigned depth)
{
    struct pbtxt_field **last = &into->fields;
    unsigned line = p->line;
    into->kind = PBTXT_MESSAGE;
    if (depth > PBTXT_MAX_DEPTH)
        return fail(p, "messages are nested too deep");
    while (peek(p) != '\0' || p->at < p->end) {
        if (close && take(p, close))
            return true;
        if (!field(p, &last, depth))
            return false;
        if (!take(p, ','))
            take(p, ';');
    }
    if (!close)
        return true;
    p->line = line;
    return fail(p, "a message is not closed");
}

struct pbtxt_field *pbtxt_parse(struct view text, struct arena *a, struct pbtxt_error *e)
{
    struct parse p = {.at = text.p, .end = text.p + text.n, .arena = a, .e = e, .line = 1};
    struct pbtxt_field *root = arena_zalloc(a, sizeof(*root));
    if (!root)
        fail(&p, "out of memory");
    else if (text.n > PBTXT_MAX_BYTES)
        fail(&p, "the file is larger than 1 MiB");
    else
        message(&p, root, '\0', 0);
    return p.failed ? NULL : root;
}
