#include "router/creation.h"

#include "base/num.h"
#include <stdio.h>
#include <string.h>

#define HEAD "# sluice 1 "

void creation_init(struct creation *c)
{
    *c = (struct creation){0};
    buffer_init(&c->text);
}

void creation_deinit(struct creation *c)
{
    buffer_deinit(&c->text);
}

int creation_compare(const struct creation *a, const struct creation *b)
{
    return a->at_us != b->at_us ? (a->at_us > b->at_us ? 1 : -1) : strcmp(a->name, b->name);
}

// ---- written -----------------------------------------------------------------------------------------

// A line stays one.
static void flatten(char *line)
{
    for (; *line; line++)
        if ((unsigned char)*line < ' ' || *line == 0x7f)
            *line = ' ';
}

bool creation_write(struct buffer *out, const struct creation *c)
{
    char head[sizeof(HEAD) + TRIAL_NAME + TRIAL_WHO + 80], why[TRIAL_WHY + 8];
    snprintf(head, sizeof(head), HEAD "%s %016llx %llu %s %s %s", c->name,
             (unsigned long long)c->mark, (unsigned long long)c->at_us,
             c->start ? "start" : "draft", c->shared ? "shared" : "own", c->who);
    snprintf(why, sizeof(why), "# %s", c->why);
    flatten(head);
    flatten(why);
    return buffer_append(out, head, strlen(head)) && buffer_append(out, "\n", 1) &&
           buffer_append(out, why, strlen(why)) && buffer_append(out, "\n", 1) &&
           buffer_append(out, buffer_view(&c->text).p, buffer_len(&c->text));
}

// ---- read --------------------------------------------------------------------------------------------

static bool refuse(char wrong[TRIAL_WRONG], const char *why)
{
    snprintf(wrong, TRIAL_WRONG, "%s", why);
    return false;
}

// What stands before the next `end`, which is passed. False: there is none.
static bool cut(struct view *rest, char end, struct view *out)
{
    const char *at = rest->n > 0 ? memchr(rest->p, end, rest->n) : NULL;
    if (!at)
        return false;
    *out = view_of(rest->p, (size_t)(at - rest->p));
    *rest = view_of(at + 1, rest->n - out->n - 1);
    return true;
}

static bool keep(struct view v, size_t most, char *out)
{
    if (v.n > most || (v.n > 0 && memchr(v.p, '\0', v.n)))
        return false;
    memcpy(out, v.p, v.n);
    out[v.n] = '\0';
    return true;
}

static bool read_mark(struct view v, uint64_t *out)
{
    static const char digits[] = "0123456789abcdef";
    *out = 0;
    for (size_t i = 0; i < v.n; i++) {
        const char *at = v.p[i] ? strchr(digits, v.p[i]) : NULL;
        if (!at)
            return false;
        *out = *out << 4 | (uint64_t)(at - digits);
    }
    return v.n == 16 && *out != 0;
}

static bool read_word(struct view v, const char *yes, const char *no, bool *out)
{
    *out = view_is(v, yes);
    return *out || view_is(v, no);
}

// Behind "# sluice 1 ".
static bool read_head(struct creation *out, struct view rest, char wrong[TRIAL_WRONG])
{
    struct view name, mark, at, start, shared;
    if (!cut(&rest, ' ', &name) || !cut(&rest, ' ', &mark) || !cut(&rest, ' ', &at) ||
        !cut(&rest, ' ', &start) || !cut(&rest, ' ', &shared))
        return refuse(wrong,
                      "line 1: expected # sluice 1 NAME MARK TIME draft|start own|shared WHO");
    if (!view_is_model_name(name, TRIAL_NAME) || !keep(name, TRIAL_NAME, out->name))
        return refuse(wrong, "line 1: it is no name");
    if (!read_mark(mark, &out->mark))
        return refuse(wrong, "line 1: expected 16 hexadecimal digits behind the name");
    if (num_parse_u64(at, &out->at_us) != NUM_OK || out->at_us > TRIAL_MOST)
        return refuse(wrong, "line 1: expected a time in microseconds");
    if (!read_word(start, "start", "draft", &out->start) ||
        !read_word(shared, "shared", "own", &out->shared))
        return refuse(wrong, "line 1: expected draft or start, and own or shared");
    return keep(rest, TRIAL_WHO, out->who) || refuse(wrong, "line 1: who: too long");
}

bool creation_read(struct creation *out, struct view bytes, char wrong[TRIAL_WRONG])
{
    struct view head, why, rest = bytes;
    size_t n = strlen(HEAD);
    wrong[0] = '\0';
    if (!cut(&rest, '\n', &head) || head.n < n || memcmp(head.p, HEAD, n) != 0)
        return refuse(wrong, "line 1: expected " HEAD "..., a creation of this release");
    if (!read_head(out, view_of(head.p + n, head.n - n), wrong))
        return false;
    if (!cut(&rest, '\n', &why) || why.n < 2 || memcmp(why.p, "# ", 2) != 0 ||
        !keep(view_of(why.p + 2, why.n - 2), TRIAL_WHY, out->why))
        return refuse(wrong, "line 2: expected # and the reason");
    if (rest.n == 0 || rest.n > CREATION_TEXT)
        return refuse(wrong, "expected the text of a section, at most 64KiB");
    return buffer_append(&out->text, rest.p, rest.n) || refuse(wrong, "out of memory");
}
