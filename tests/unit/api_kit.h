/* tests/unit/api_kit.h: an exchange made by hand, and what was answered on it, for the tests of api/.
 * No connection: kit_ask fills the head and the body as http/ would, answers go into `said`. */
#ifndef SLUICE_TESTS_API_KIT_H
#define SLUICE_TESTS_API_KIT_H

#include "api/api.h"
#include "base/mem.h"
#include "http/conn.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define KIT_HEADERS 16

struct kit_said { // copies: the answer's own memory may be reused when respond returns
    unsigned calls, status, n_headers, n_trailers, n_lent;
    char names[KIT_HEADERS][64], values[KIT_HEADERS][512];
    char trailer_names[4][64], trailer_values[4][8192];
    struct buffer body; // with a NUL behind it
};

static struct http_server_ops kit_ops; // on_charge is a test's to set
static struct exchange kit_ex;
static struct http_header kit_headers[KIT_HEADERS];
static struct api kit_api;
static struct block_owner kit_blocks; // adopted by the test's thread
static struct kit_said kit_said;

static bool kit_fails_on; // the n-th allocation may be one of a later piece

// What the test itself does must not fail.
static inline void kit_fail_no_more(void)
{
    if (!kit_fails_on)
        mem_fail_at(0);
}

static inline void kit_text(char *out, size_t room, struct view v)
{
    assert_true(v.n < room);
    snprintf(out, room, "%.*s", VIEW_ARG(v));
}

static inline void kit_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    struct kit_said *s = &kit_said;
    s->calls++;
    s->status = r->status;
    s->n_headers = r->n_headers;
    s->n_trailers = r->n_trailers;
    s->n_lent = 0;
    assert_true(r->n_headers <= KIT_HEADERS && r->n_trailers <= 4);
    for (unsigned i = 0; i < r->n_headers; i++) {
        kit_text(s->names[i], sizeof(s->names[i]), r->headers[i].name);
        kit_text(s->values[i], sizeof(s->values[i]), r->headers[i].value);
    }
    for (unsigned i = 0; i < r->n_trailers; i++) {
        kit_text(s->trailer_names[i], sizeof(s->trailer_names[i]), r->trailers[i].name);
        kit_text(s->trailer_values[i], sizeof(s->trailer_values[i]), r->trailers[i].value);
    }
    kit_fail_no_more();
    buffer_reset(&s->body);
    for (unsigned i = 0; i < r->n_body; i++) {
        assert_true(buffer_append(&s->body, r->body[i].p, r->body[i].n));
        if (r->body[i].block) {
            s->n_lent++;
            block_unref(r->body[i].block);
        }
    }
    *buffer_reserve(&s->body, 1) = 0;
}

// An answer that flows: its head is said; kit_want asks for what is next. kit_woken: how often its source woke it.
static struct http_flow kit_flow;
static unsigned kit_woken;

static inline void kit_start(struct exchange *ex, const struct http_response *r, uint64_t now_us)
{
    kit_respond(ex, r, now_us);
    kit_flow = (struct http_flow){.ask_us = UINT64_MAX};
    ex->flow = &kit_flow;
    ex->out = kit_flow.piece;
    ex->responded = true;
}

static inline void kit_wake(struct exchange *ex, uint64_t now_us)
{
    kit_woken++;
    if (kit_flow.state == FLOW_SILENT)
        kit_flow.state = FLOW_READY;
}

// What the source gives is appended to the body. False: nothing, and no end.
static inline bool kit_want(void)
{
    bool any = flow_ask(&kit_ex);
    kit_fail_no_more();
    for (; kit_ex.out_at < kit_ex.n_out; kit_ex.out_at++) {
        struct http_seg *piece = &kit_ex.out[kit_ex.out_at];
        assert_true(buffer_append(&kit_said.body, piece->p, piece->n));
        if (piece->block)
            block_unref(piece->block);
    }
    *buffer_reserve(&kit_said.body, 1) = 0;
    kit_said.n_trailers = kit_ex.n_trailers;
    for (unsigned i = 0; i < kit_ex.n_trailers; i++) {
        kit_text(kit_said.trailer_names[i], 64, kit_ex.trailers[i].name);
        kit_text(kit_said.trailer_values[i], 8192, kit_ex.trailers[i].value);
    }
    return any;
}

static inline const char *kit_header(const char *name)
{
    for (unsigned i = 0; i < kit_said.n_headers; i++)
        if (strcmp(kit_said.names[i], name) == 0)
            return kit_said.values[i];
    return NULL;
}

static inline const char *kit_trailer(const char *name)
{
    for (unsigned i = 0; i < kit_said.n_trailers; i++)
        if (strcmp(kit_said.trailer_names[i], name) == 0)
            return kit_said.trailer_values[i];
    return NULL;
}

static inline struct view kit_body(void)
{
    return buffer_view(&kit_said.body);
}

static inline const char *kit_body_text(void)
{
    return buffer_view(&kit_said.body).p;
}

// A new exchange; what the one before left is gone.
static inline void kit_ask(const char *method, const char *path)
{
    arena_deinit(&kit_ex.arena);
    buffer_deinit(&kit_ex.body);
    kit_ex = (struct exchange){.carrier = HTTP_2,
                               .ops = &kit_ops,
                               .method = view_str(method),
                               .path = view_str(path),
                               .headers = kit_headers,
                               .max_body = (size_t)64 << 20};
    arena_init(&kit_ex.arena, 0);
    buffer_init(&kit_ex.body);
    kit_said.calls = 0;
}

static inline void kit_add(const char *name, struct view value)
{
    assert_true(kit_ex.n_headers < KIT_HEADERS);
    kit_headers[kit_ex.n_headers++] = (struct http_header){view_str(name), value};
}

// Exactly as many bytes as there are: ASan sees one read too many.
static inline void kit_send(struct view body)
{
    buffer_deinit(&kit_ex.body);
    if (body.n)
        assert_true(buffer_grow(&kit_ex.body, body.n) &&
                    buffer_append(&kit_ex.body, body.p, body.n));
}

// With gRPC's prefix before it.
static inline void kit_send_message(struct view message, uint8_t flag)
{
    char *p = mem_must(message.n + 5);
    uint32_t n = __builtin_bswap32((uint32_t)message.n);
    p[0] = (char)flag;
    memcpy(p + 1, &n, 4);
    if (message.n)
        memcpy(p + 5, message.p, message.n);
    kit_send(view_of(p, message.n + 5));
    mem_free(p);
}

// Of a group of tests.
static inline int kit_open(void **state)
{
    struct api_carry carry = {kit_respond, kit_start, kit_wake, &kit_blocks};
    (void)state;
    api_init(&kit_api, &carry, VIEW("sluice"), VIEW("1.2"));
    block_owner_init(&kit_blocks);
    block_owner_adopt(&kit_blocks);
    kit_ask("GET", "/");
    return 0;
}

static inline int kit_close(void **state)
{
    (void)state;
    arena_deinit(&kit_ex.arena);
    buffer_deinit(&kit_ex.body);
    buffer_deinit(&kit_said.body);
    api_deinit(&kit_api);
    block_owner_deinit(&kit_blocks);
    arena_thread_done();
    return 0;
}

#endif
