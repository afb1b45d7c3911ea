#include "config/lex.h"
#include "config/outline.h"

void lex_init(struct lex *l, struct view text, char *wipe)
{
    *l = (struct lex){.at = text.p,
                      .end = text.p + text.n,
                      .line = 1,
                      .start = text.p,
                      .line_start = text.p,
                      .wipe = wipe};
}

// One byte of a comment.
static void comment(struct lex *l)
{
    if (l->wipe && *l->at != '\n')
        l->wipe[l->at - l->start] = ' ';
    l->at++;
}

static enum lex_kind bad(struct lex *l, const char *why)
{
    l->why = why;
    l->column = (unsigned)(l->at - l->line_start) + 1;
    return l->kind = LEX_BAD;
}

static void next_line(struct lex *l, const char *start)
{
    l->line++;
    l->line_start = start;
}

static char peek(const struct lex *l, size_t ahead)
{
    return (size_t)(l->end - l->at) > ahead ? l->at[ahead] : '\0';
}

static bool is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

// "/* … */"; newlines count.
static const char *skip_block_comment(struct lex *l)
{
    struct lex open = *l;
    comment(l);
    comment(l);
    while (l->at < l->end) {
        bool last = peek(l, 0) == '*' && peek(l, 1) == '/';
        if (*l->at == '\n')
            next_line(l, l->at + 1);
        comment(l);
        if (last) {
            comment(l);
            return NULL;
        }
    }
    *l = open;
    return "a comment /* that is not closed";
}

// White space and comments. Returns what is wrong, or NULL.
static const char *skip(struct lex *l)
{
    while (l->at < l->end) {
        char c = *l->at;
        if (c == '\n') {
            next_line(l, ++l->at);
        } else if (c == ' ' || c == '\t') {
            l->at++;
        } else if (c == '\r' && peek(l, 1) == '\n') {
            l->at++;
        } else if (c == '#' || (c == '/' && peek(l, 1) == '/')) {
            while (l->at < l->end && *l->at != '\n')
                comment(l);
        } else if (c == '/' && peek(l, 1) == '*') {
            const char *why = skip_block_comment(l);
            if (why)
                return why;
        } else {
            return NULL;
        }
    }
    return NULL;
}

// A quoted text. In "…" \\ \" \n and \t are escapes, in '…' \\ and \'.
static enum lex_kind quoted(struct lex *l)
{
    char quote = *l->at++;
    const char *from = l->at;
    for (; l->at < l->end && *l->at != quote; l->at++) {
        char c = *l->at;
        if (c == '\n')
            break;
        if (is_control(c))
            return bad(l, "a control character in a text");
        if (quote == '"' && c == '$' && peek(l, 1) == '{')
            return bad(l, "environment variables are not read: write the value");
        if (c != '\\')
            continue;
        char e = peek(l, 1);
        if (e != '\\' && e != quote && (quote == '\'' || (e != 'n' && e != 't')))
            return bad(l, "an unknown escape in a text (known: \\\\, \\\" \\n \\t)");
        l->at++;
    }
    if (l->at >= l->end || *l->at != quote)
        return bad(l, "a text whose quote is not closed on its line");
    l->word = view_of(from, (size_t)(l->at - from));
    l->at++;
    if (l->word.n > OUTLINE_MAX_TEXT)
        return bad(l, "a text longer than 4096 bytes");
    return l->kind = LEX_TEXT;
}

static bool is_bare(char c)
{
    return (unsigned char)c > ' ' && c != 0x7f && !strchr("#\"'={}()+,*", c);
}

// A text without quotes, up to a blank or a special character.
static enum lex_kind bare(struct lex *l)
{
    const char *from = l->at;
    while (l->at < l->end && is_bare(*l->at)) {
        if ((unsigned char)*l->at >= 0x80)
            return bad(l, "a character outside ASCII outside of quotes");
        if (*l->at == '$' && peek(l, 1) == '{')
            return bad(l, "environment variables are not read: write the value");
        l->at++;
    }
    if (l->at < l->end && *l->at == '*')
        return bad(l, "a stray '*': texts with special characters need quotes");
    l->word = view_of(from, (size_t)(l->at - from));
    if (l->word.n > OUTLINE_MAX_TEXT)
        return bad(l, "a text longer than 4096 bytes");
    return l->kind = LEX_TEXT;
}

enum lex_kind lex_next(struct lex *l)
{
    const char *why = skip(l);
    if (why)
        return bad(l, why);
    l->column = (unsigned)(l->at - l->line_start) + 1;
    if (l->at >= l->end)
        return l->kind = LEX_END;
    static const char marks[] = "{}=,";
    static const enum lex_kind kinds[] = {LEX_OPEN, LEX_CLOSE, LEX_EQUALS, LEX_COMMA};
    char c = *l->at;
    const char *mark = c ? strchr(marks, c) : NULL;
    if (mark) {
        l->word = view_of(l->at++, 1);
        return l->kind = kinds[mark - marks];
    }
    if (c == '"' || c == '\'')
        return quoted(l);
    if (is_bare(c))
        return bare(l);
    if (c == '+')
        return bad(l, "'+=' is not understood: give the whole list once");
    if (c == '(' || c == ')')
        return bad(l, "functions are not understood (include() neither: all stands in one file)");
    if (c == '*')
        return bad(l, "a stray '*': texts with special characters need quotes");
    return bad(l, "a control character");
}
