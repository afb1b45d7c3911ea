/* ctl/sse: a stream of events in every split, and what may come from something that is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "ctl/sse.h"

static struct buffer told;
static unsigned most; // so many callbacks are wanted

static bool tell(const char *kind, struct view text, const char *id)
{
    char head[200];
    snprintf(head, sizeof(head), "%s(%s)", kind, id);
    assert_true(buffer_append(&told, head, strlen(head)) && buffer_append(&told, text.p, text.n) &&
                buffer_append(&told, ";", 1));
    return most > 0 && --most > 0;
}

static bool on_event(void *ctx, struct view data, const char *id)
{
    assert_ptr_equal(ctx, &told);
    return tell("event", data, id);
}

static bool on_comment(void *ctx, struct view text)
{
    assert_ptr_equal(ctx, &told);
    return tell("comment", text, "");
}

static void begin(struct sse *s)
{
    sse_init(s);
    s->on_event = on_event;
    s->on_comment = on_comment;
    s->ctx = &told;
    buffer_init(&told);
    most = 1000;
}

static void end(struct sse *s, const char *want)
{
    if (!view_is(buffer_view(&told), want))
        fail_msg("told: %.*s", VIEW_ARG(buffer_view(&told)));
    sse_deinit(s);
    buffer_deinit(&told);
}

// In pieces of every size.
static void becomes(const char *stream, const char *want)
{
    size_t n = strlen(stream);
    for (size_t piece = 1; piece <= n; piece++) {
        struct sse s;
        begin(&s);
        for (size_t at = 0; at < n; at += piece)
            assert_true(sse_take(&s, view_of(stream + at, n - at < piece ? n - at : piece)));
        end(&s, want);
    }
}

static void events(void **state)
{
    becomes(": sluice\nretry: 1000\n\nid: a.1\nevent: x\ndata: {\"a\":1}\n\n:\n\n: lost 7\n\n",
            "comment()sluice;event(a.1){\"a\":1};comment();comment()lost 7;");
    becomes("data: a\r\ndata:b\r\n\r\n", "event()a\nb;");
    becomes("data: a\n\ndata: b\n\n", "event()a;event()b;"); // an id belongs to its event
    becomes("id: 1\ndata: a\n\ndata: b\n\n", "event(1)a;event()b;");
    becomes("event: nothing\n\nid: 1\n\n", "");
    becomes("data: cut\n", ""); // the stream ended in the middle of it
    becomes("datax: a\ndat: b\ndata\nnonsense\n\n", "");
    becomes("\n\n\n", "");
}

static void what_is_too_long(void **state)
{
    static char longest[SSE_EVENT_BYTES + 10];
    memset(longest, 'x', sizeof(longest));
    for (unsigned i = 0; i < 3; i++) {
        struct sse s;
        begin(&s);
        if (i == 0) { // a line
            assert_true(sse_take(&s, view_of(longest, SSE_EVENT_BYTES)));
            assert_false(sse_take(&s, VIEW("x")));
        } else if (i == 1) { // lines of data
            memcpy(longest, "data: ", 6);
            assert_true(sse_take(&s, view_of(longest, SSE_EVENT_BYTES - 20)));
            assert_true(sse_take(&s, VIEW("\n")));
            assert_true(sse_take(&s, view_of(longest, 100)));
            assert_false(sse_take(&s, VIEW("too much\n")));
        } else { // an id: it has none then
            memcpy(longest, "id: ", 4);
            assert_true(sse_take(&s, view_of(longest, SSE_ID_BYTES + 4)));
            assert_true(sse_take(&s, VIEW("\ndata: a\n\n")));
        }
        end(&s, i == 2 ? "event()a;" : "");
    }
}

static void enough_is_enough(void **state)
{
    struct sse s;
    begin(&s);
    most = 2;
    assert_false(sse_take(&s, VIEW("data: a\n\ndata: b\n\ndata: c\n\n")));
    sse_reset(&s); // another stream: nothing of this one is left
    most = 1000;
    assert_true(sse_take(&s, VIEW("id: 7\ndata: half")));
    sse_reset(&s);
    assert_true(sse_take(&s, VIEW("data: d\n\n")));
    end(&s, "event()a;event()b;event()d;");
}

static void memory_fails_anywhere(void **state)
{
    struct view stream = VIEW("id: 1\ndata: a\ndata: b\n\n");
    bool done = false;
    for (unsigned n = 1; !done; n++) {
        struct sse s;
        begin(&s);
        assert_true(buffer_reserve(&told, 1000) != NULL);
        mem_fail_at(n);
        done = sse_take(&s, stream);
        mem_fail_at(0);
        end(&s, done ? "event(1)a\nb;" : "");
        assert_true(n < 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events),
        cmocka_unit_test(what_is_too_long),
        cmocka_unit_test(enough_is_enough),
        cmocka_unit_test(memory_fails_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
