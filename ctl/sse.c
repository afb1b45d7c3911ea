#include "ctl/sse.h"

#include <stdio.h>

void sse_init(struct sse *s)
{
    buffer_init(&s->line);
    buffer_init(&s->data);
    s->id[0] = '\0';
}

void sse_deinit(struct sse *s)
{
    buffer_deinit(&s->line);
    buffer_deinit(&s->data);
}

void sse_reset(struct sse *s)
{
    buffer_reset(&s->line);
    buffer_reset(&s->data);
    s->id[0] = '\0';
}

static bool append(struct buffer *to, struct view v)
{
    return buffer_len(to) + v.n <= SSE_EVENT_BYTES && buffer_append(to, v.p, v.n);
}

// Lines of data are one text.
static bool add_data(struct sse *s, struct view value)
{
    return (buffer_len(&s->data) == 0 || append(&s->data, VIEW("\n"))) && append(&s->data, value);
}

static bool end_event(struct sse *s)
{
    bool ok = buffer_len(&s->data) == 0 || s->on_event(s->ctx, buffer_view(&s->data), s->id);
    buffer_reset(&s->data);
    s->id[0] = '\0';
    return ok;
}

static bool take_line(struct sse *s, struct view line)
{
    if (line.n == 0)
        return end_event(s);
    const char *colon = memchr(line.p, ':', line.n);
    struct view name = view_of(line.p, colon ? (size_t)(colon - line.p) : line.n);
    struct view value = view_of(line.p + line.n, 0);
    if (colon)
        value = view_of(colon + 1, line.n - name.n - 1);
    if (value.n > 0 && value.p[0] == ' ')
        value = view_of(value.p + 1, value.n - 1);
    if (colon == line.p)
        return s->on_comment(s->ctx, value);
    if (view_is(name, "data"))
        return add_data(s, value);
    if (view_is(name, "id") && value.n < sizeof(s->id))
        snprintf(s->id, sizeof(s->id), "%.*s", VIEW_ARG(value));
    return true;
}

bool sse_take(struct sse *s, struct view bytes)
{
    bool ok = true;
    while (ok && bytes.n > 0) {
        const char *end = memchr(bytes.p, '\n', bytes.n);
        size_t n = end ? (size_t)(end - bytes.p) : bytes.n;
        ok = append(&s->line, view_of(bytes.p, n));
        if (ok && end) {
            struct view line = buffer_view(&s->line);
            line.n -= line.n > 0 && line.p[line.n - 1] == '\r';
            ok = take_line(s, line);
            buffer_reset(&s->line);
        }
        n += end != NULL;
        bytes = view_of(bytes.p + n, bytes.n - n);
    }
    return ok;
}
