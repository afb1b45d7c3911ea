#include "config/outline.h"
#include "base/printable.h"
#include "config/lex.h"
#include <stdarg.h>
#include <stdio.h>

struct reader {
    struct lex lex;
    struct arena *arena;
    struct outline *out;
    struct config_errors *errors;
    struct outline_section *last;
    bool failed;
};

// What a line of the file may say about itself in a message.
#define WORD_ARG(v) (int)((v).n > 40 ? 40 : (v).n), (v).p

// A line and a column in one number; a column too large for its bits is left out (0).
#define LINE_BITS 21 // of the lines that CONFIG_MAX_BYTES may have
#define LINE_OF(place) ((place) & ((1u << LINE_BITS) - 1))
#define COLUMN_OF(place) ((place) >> LINE_BITS)
_Static_assert(CONFIG_MAX_BYTES < 1u << LINE_BITS, "each line has a number");

static unsigned here(const struct reader *r)
{
    unsigned column = r->lex.column < 1u << (32 - LINE_BITS) ? r->lex.column : 0;
    return r->lex.line | column << LINE_BITS;
}

void config_error_add(struct config_errors *errors, unsigned place, const char *format, ...)
{
    if (errors->count == CONFIG_MAX_ERRORS) {
        errors->dropped++;
        return;
    }
    struct config_error *e = &errors->error[errors->count++];
    e->line = LINE_OF(place);
    e->column = COLUMN_OF(place);
    va_list ap;
    va_start(ap, format);
    vsnprintf(e->text, sizeof(e->text), format, ap);
    va_end(ap);
    printable(e->text);
}

bool outline_has(const struct outline_section *s, const struct config_key *key)
{
    for (const struct outline_mark *m = s->marks; m; m = m->next)
        if (m->key == key)
            return true;
    return false;
}

unsigned outline_line(const struct outline_section *s, const struct config_key *key)
{
    for (const struct outline_mark *m = s->marks; m; m = m->next)
        if (m->key == key)
            return m->line;
    return s->line;
}

static bool next(struct reader *r)
{
    if (lex_next(&r->lex) != LEX_BAD)
        return true;
    config_error_add(r->errors, here(r), "%s", r->lex.why);
    r->failed = true;
    return false;
}

// What came where something else was due; reading cannot go on.
static bool expected(struct reader *r, const char *what)
{
    static const char *const came[] = {"the end of the file", "", "{", "}", "=", ",", ""};
    if (r->lex.kind == LEX_TEXT)
        config_error_add(r->errors, here(r), "expected %s, got \"%.*s\"", what,
                         WORD_ARG(r->lex.word));
    else
        config_error_add(r->errors, here(r), "expected %s, got %s", what, came[r->lex.kind]);
    r->failed = true;
    return false;
}

static bool out_of_memory(struct reader *r)
{
    config_error_add(r->errors, here(r), "out of memory");
    r->failed = true;
    return false;
}

static const char *where(enum section_id s)
{
    return s == SECTION_TOP ? "at the top of the file" : config_sections[s].name;
}

static void unknown(struct reader *r, enum section_id s, struct view name, unsigned line)
{
    const char *near = config_nearest(s, name);
    const char *in = s == SECTION_TOP ? "" : "in section ";
    if (near)
        config_error_add(r->errors, line, "unknown key \"%.*s\" %s%s; did you mean \"%s\"?",
                         WORD_ARG(name), in, where(s), near);
    else
        config_error_add(r->errors, line, "unknown key \"%.*s\" %s%s", WORD_ARG(name), in,
                         where(s));
}

// A mark for a key or inner section; false: it stands there already, or no memory.
static bool mark(struct reader *r, struct outline_section *in, const struct config_key *key,
                 enum section_id section, unsigned line)
{
    for (const struct outline_mark *m = in->marks; m; m = m->next) {
        if (m->key == key && m->section == section) {
            config_error_add(r->errors, line, "%s stands twice (first on line %u)",
                             key ? key->name : config_sections[section].name, LINE_OF(m->line));
            return true;
        }
    }
    struct outline_mark *m = arena_alloc(r->arena, sizeof(*m));
    if (!m)
        return out_of_memory(r);
    *m = (struct outline_mark){.key = key, .section = section, .line = line};
    *in->marks_end = m;
    in->marks_end = &m->next;
    return true;
}

// { A, B, ... }: the lexer stands on the opening brace; ends on the closing one.
static bool list(struct reader *r, const struct config_key *key)
{
    unsigned count = 0;
    if (!next(r))
        return false;
    while (r->lex.kind != LEX_CLOSE) {
        if (r->lex.kind != LEX_TEXT)
            return expected(r, "a value or } in a list");
        if (++count == OUTLINE_MAX_LIST + 1)
            config_error_add(r->errors, here(r), "a list longer than %u elements",
                             OUTLINE_MAX_LIST);
        if (!next(r))
            return false;
        if (r->lex.kind == LEX_COMMA) {
            if (!next(r))
                return false;
        } else if (r->lex.kind != LEX_CLOSE) {
            return expected(r, "a comma or } in a list");
        }
    }
    if (key && count == 0)
        config_error_add(r->errors, here(r), "%s: an empty list; leave the key out", key->name);
    return true;
}

// NAME = ...: the lexer stands on '='; ends on the value's last word. key NULL: unknown, skipped.
static bool value(struct reader *r, const struct config_key *key, unsigned line)
{
    if (!next(r))
        return false;
    if (r->lex.kind == LEX_OPEN) {
        if (key && !config_key_is_list(key))
            config_error_add(r->errors, line, "%s: expected one value, got a list", key->name);
        return list(r, key && config_key_is_list(key) ? key : NULL);
    }
    if (r->lex.kind != LEX_TEXT)
        return expected(r, "a value after '='");
    if (key && config_key_is_list(key) && key->type != KEY_SHARES && key->type != KEY_WORKERS)
        config_error_add(r->errors, line, "%s: expected a list {...}, got one value", key->name);
    return true;
}

// An unknown section: everything up to its closing brace, however deep, without recursion.
static bool skip_section(struct reader *r)
{
    unsigned line = here(r);
    for (unsigned depth = 1; depth > 0;) {
        if (!next(r))
            return false;
        if (r->lex.kind == LEX_END) {
            config_error_add(r->errors, line, "a { that is not closed");
            r->failed = true;
            return false;
        }
        depth += r->lex.kind == LEX_OPEN;
        depth -= r->lex.kind == LEX_CLOSE;
    }
    return true;
}

static bool title_taken(const struct outline_section *first, enum section_id kind,
                        struct view title, unsigned *line)
{
    for (const struct outline_section *s = first; s; s = s->next) {
        if (s->kind == kind && view_eq(s->title, title)) {
            *line = s->line;
            return true;
        }
    }
    return false;
}

// A section at the top of the file, or a titled one within one. NULL: too many, or no memory.
static struct outline_section *open_section(struct reader *r, enum section_id kind,
                                            struct outline_section *in, struct view title,
                                            unsigned line)
{
    const struct config_section *row = &config_sections[kind];
    bool top = row->parent == SECTION_TOP;
    unsigned first = 0;
    if (row->titled && !config_name_ok(title))
        config_error_add(
            r->errors, line,
            "%s: expected a name of 1 to 128 letters, digits, '.', '_', '+', '@', '~' or '-', got "
            "\"%.*s\"",
            row->name, WORD_ARG(title));
    else if (title_taken(top ? r->out->top.next : in->inner, kind, title, &first))
        config_error_add(r->errors, line, "%s%s%.*s%s stands twice (first on line %u)", row->name,
                         row->titled ? " \"" : "", WORD_ARG(title), row->titled ? "\"" : "",
                         LINE_OF(first));
    if (++r->out->section_count > OUTLINE_MAX_SECTIONS) {
        config_error_add(r->errors, line, "more than %u sections", OUTLINE_MAX_SECTIONS);
        r->failed = true;
        return NULL;
    }
    struct outline_section *s = arena_zalloc(r->arena, sizeof(*s));
    if (!s) {
        out_of_memory(r);
        return NULL;
    }
    s->kind = kind;
    s->title = title;
    s->line = line;
    s->marks_end = &s->marks;
    struct outline_section **last = top ? &r->last : &in->last_inner;
    *(*last ? &(*last)->next : &in->inner) = s;
    *last = s;
    return s;
}

static bool body(struct reader *r, enum section_id id, struct outline_section *in, unsigned line);

// NAME [TITLE] {: the lexer stands on the title or the brace. Depth: the table's own, two.
static bool section(struct reader *r, enum section_id parent, struct outline_section *in,
                    struct view name, unsigned line)
{
    struct view title = {"", 0};
    bool has_title = r->lex.kind == LEX_TEXT;
    if (has_title) {
        title = r->lex.word;
        if (!next(r))
            return false;
    }
    if (r->lex.kind != LEX_OPEN)
        return expected(r, has_title ? "{ after a section's name" : "= or { after a name");
    enum section_id id = config_section_find(parent, name);
    if (id == SECTION_KINDS) {
        if (config_key_find(parent, name))
            config_error_add(r->errors, line, "%.*s: expected \"%.*s = ...\", got a section",
                             WORD_ARG(name), WORD_ARG(name));
        else
            unknown(r, parent, name, line);
        return skip_section(r);
    }
    const struct config_section *row = &config_sections[id];
    if (row->titled != has_title) {
        config_error_add(r->errors, line,
                         row->titled ? "%s: expected a title: %s \"NAME\" {"
                                     : "%s: expected no title: %s {",
                         row->name, row->name);
        return skip_section(r);
    }
    if (parent != SECTION_TOP && !row->titled)
        return mark(r, in, NULL, id, line) && body(r, id, in, line);
    struct outline_section *s = open_section(r, id, in, title, line);
    return s && body(r, id, s, line);
}

// The items of a section, up to its closing brace (at the top: the end of the file).
static bool body(struct reader *r, enum section_id id, struct outline_section *in, unsigned line)
{
    for (;;) {
        if (!next(r))
            return false;
        if (r->lex.kind == LEX_CLOSE && id != SECTION_TOP)
            return true;
        if (r->lex.kind == LEX_END && id == SECTION_TOP)
            return true;
        if (r->lex.kind == LEX_END) {
            config_error_add(r->errors, line, "section %s is not closed: } is missing",
                             config_sections[id].name);
            r->failed = true;
            return false;
        }
        if (r->lex.kind != LEX_TEXT)
            return expected(r, id == SECTION_TOP ? "a key or a section" : "a key or }");
        struct view name = r->lex.word;
        unsigned at = here(r);
        if (!next(r))
            return false;
        if (r->lex.kind != LEX_EQUALS) {
            if (!section(r, id, in, name, at))
                return false;
            continue;
        }
        const struct config_key *key = config_key_find(id, name);
        if (!key && config_section_find(id, name) != SECTION_KINDS)
            config_error_add(r->errors, at, "%.*s is a section: write %.*s { ... }", WORD_ARG(name),
                             WORD_ARG(name));
        else if (!key)
            unknown(r, id, name, at);
        if ((key && !mark(r, in, key, id, at)) || !value(r, key, at))
            return false;
    }
}

bool outline_read(struct view text, char *wipe, struct arena *a, struct outline *out,
                  struct config_errors *errors)
{
    unsigned before = errors->count;
    memset(out, 0, sizeof(*out));
    out->top.marks_end = &out->top.marks;
    struct reader r = {.arena = a, .out = out, .errors = errors, .last = &out->top};
    lex_init(&r.lex, text, wipe);
    return body(&r, SECTION_TOP, &out->top, 0) && !r.failed && errors->count == before;
}
