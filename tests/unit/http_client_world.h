/* An HTTP/2 client and the worker it talks to, for tests: frames by hand in, the reader behind it. Each call has a
 * message of its own memory, which goes when the call has ended: what still refers to it then is seen by ASan. */
#ifndef SLUICE_TESTS_HTTP_CLIENT_WORLD_H
#define SLUICE_TESTS_HTTP_CLIENT_WORLD_H

#include "base/mem.h"
#include "http/http.h"
#include "tests/unit/http_frames.h"

struct asked {
    struct http_call *call; // NULL when it has ended
    uint8_t *message;
    size_t n;
    unsigned ends;
    enum http_call_end end;
    uint16_t status;
    int grpc_status;
    uint32_t rst_code;
    uint64_t pushback_us;
    char text[HTTP_GRPC_MESSAGE + 1]; // grpc-message
    char body[64];
    size_t body_n;
    bool has_body;
};

struct client {
    struct http_client *c;
    struct http_client_limits limits;
    struct reader *r;
    struct wire say;
    struct asked *asked; // by the order of calls
    unsigned n_asked, cap, n_ends, readies;
    unsigned in_call; // 0: nobody may be told anything now
};

static struct block_owner client_blocks;

static void client_on_ready(struct http_client *c, void *ctx)
{
    struct client *w = ctx;
    w->readies++;
}

static void client_on_end(struct http_call *call, enum http_call_end end, void *ctx)
{
    struct client *w = ctx;
    struct asked *a = &w->asked[(size_t)call->user];
    a->ends++;
    a->end = w->in_call ? end : (enum http_call_end)99;
    w->n_ends++;
    a->status = call->status;
    a->grpc_status = call->grpc_status;
    a->rst_code = call->rst_code;
    a->pushback_us = call->pushback_us;
    snprintf(a->text, sizeof(a->text), "%.*s", VIEW_ARG(call->grpc_message));
    a->has_body = call->body != NULL;
    a->body_n = call->body_bytes;
    for (size_t i = 0; i < a->body_n && i < sizeof(a->body) - 1; i++)
        a->body[i] = (char)call->body->data[i];
    struct block *b = a->body_n % 2 ? http_call_take_body(call) : NULL; // or it goes with the call
    if (b)
        block_unref(b);
    a->call = NULL;
    free(a->message);
    a->message = NULL;
}

static const struct http_client_ops client_ops = {client_on_ready, client_on_end};

static inline void client_init(struct client *w)
{
    if (client_blocks.thread_tag == 0) {
        block_owner_init(&client_blocks);
        block_owner_adopt(&client_blocks);
    }
    if (w->limits.max_answer == 0)
        w->limits = (struct http_client_limits){
            .max_answer = 256 << 20, .frame_bytes = 1 << 20, .window_bytes = 16 << 20};
    w->r = reader_new(true);
    w->c = http_client_new(&w->limits, &client_ops, w, &client_blocks, VIEW("worker:1"));
}

static inline size_t client_take(struct client *w, size_t most)
{
    struct iovec iov[4];
    size_t all = 0;
    w->in_call++;
    while (all < most) {
        int n = http_client_gather(w->c, iov, 4);
        size_t part = 0;
        for (int i = 0; i < n && all + part < most; i++) {
            size_t left = most - all - part, k = iov[i].iov_len < left ? iov[i].iov_len : left;
            reader_take(w->r, iov[i].iov_base, k);
            part += k;
        }
        if (part == 0)
            break;
        http_client_sent(w->c, part);
        all += part;
    }
    w->in_call--;
    return all;
}

static inline void client_flush(struct client *w)
{
    client_take(w, SIZE_MAX);
}

static inline void client_hear_only(struct client *w)
{
    uint8_t *exact = malloc(w->say.n ? w->say.n : 1);
    memcpy(exact, w->say.p ? w->say.p : exact, w->say.n);
    w->in_call++;
    http_client_recv(w->c, exact, w->say.n, 0);
    w->in_call--;
    free(exact);
    w->say.n = 0;
}

// The worker says what was put together.
static inline void client_hear(struct client *w)
{
    client_hear_only(w);
    client_flush(w);
}

static inline uint8_t client_byte(size_t call, size_t at)
{
    return (uint8_t)(call * 31 + at * 7 + at / 251);
}

// A call with a message of n bytes, cut into runs of `run`. NULL: not possible now.
static inline struct asked *client_ask(struct client *w, size_t n, size_t run, uint64_t timeout_us)
{
    if (w->n_asked == w->cap) {
        w->cap = 2 * w->cap + 16;
        w->asked = realloc(w->asked, w->cap * sizeof(*w->asked));
    }
    struct asked *a = &w->asked[w->n_asked];
    *a = (struct asked){.message = malloc(n ? n : 1), .n = n};
    for (size_t i = 0; i < n; i++)
        a->message[i] = client_byte(w->n_asked, i);
    struct http_seg segs[32];
    unsigned k = 0;
    for (size_t at = 0; at < n && k < 32; k++) {
        size_t part = k == 31 || run > n - at ? n - at : run;
        segs[k] = (struct http_seg){a->message + at, part, NULL};
        at += part;
    }
    a->call = http_client_call(w->c, VIEW("/service/Method"), NULL, 0, segs, k, timeout_us,
                               (void *)(size_t)w->n_asked); // NOLINT: an index
    if (!a->call) {
        free(a->message);
        return NULL;
    }
    w->n_asked++;
    return a;
}

// Frees the client; every call must have ended once. NULL: all books are right.
static inline const char *client_deinit(struct client *w)
{
    const char *wrong = w->r->wrong;
    w->in_call++;
    if (w->c)
        http_client_free(w->c);
    for (unsigned i = 0; i < w->n_asked; i++) {
        if (w->asked[i].ends != 1)
            wrong = "a call without its one end";
        else if (w->asked[i].end > CALL_CANCELLED)
            wrong = "an end that was told from inside a call";
    }
    if (client_blocks.live_blocks != 0)
        wrong = "a block was kept";
    reader_free(w->r);
    free(w->say.p);
    free(w->asked);
    *w = (struct client){0};
    return wrong;
}

static inline void wire_message(struct wire *w, unsigned flags, uint32_t id, unsigned compressed,
                                uint32_t says, const void *p, size_t n)
{
    struct wire m = {0};
    wire_byte(&m, compressed);
    wire_u32(&m, says);
    wire_put(&m, p, n);
    wire_frame(w, DATA, flags, id, m.p, m.n);
    free(m.p);
}

#define ANSWER ":status: 200\ncontent-type: application/grpc\n"

#endif
