/* Fuzz: the HTTP/2 client, and a worker that answers well, nearly well, or with any bytes. The input is read as
 * orders: calls of every size, cancels, the worker's frames, how much of our output it takes, want of memory, and
 * the end. Each call ends once, and never from inside a call of ours; its message goes at that moment, so that
 * what still refers to it is seen; what we say is read by a strict reader; all that arrives of a message is what
 * was lent; blocks come back.
 * Input: 1 byte flags, then orders. */
#include "tests/fuzz/h2_kit.h"
#include "tests/unit/http_client_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SMALL = 1, SILENT = 2 };
enum { FRAMES = 14 };

static const char *const heads[] = {
    ANSWER,
    ANSWER "grpc-status: 0\n",
    "grpc-status: 0\n",
    "grpc-status: 13\ngrpc-message: what%20%e2%82%ac%\n",
    ":status: 100\n",
    ":status: 103\nlink: x\n",
    ":status: 503\n",
    ANSWER "content-length: 8\n",
    "content-type: application/grpc\n",
    ":status: 200\nconnection: x\n",
};
#define N_HEADS (sizeof(heads) / sizeof(heads[0]))

static uint32_t some_id(struct client *w, struct tape *t)
{
    unsigned v = tape_u8(t);
    return v < 192 && w->n_asked > v ? 2 * (w->n_asked - v) - 1 : v % 32;
}

static void put_message(struct wire *w, struct tape *t, uint32_t id)
{
    static const uint8_t bytes[70000];
    unsigned how = tape_u8(t);
    uint32_t n = tape_number(t) % 70000, says = how & 2 ? tape_number(t) : n;
    wire_message(w, how & END_STREAM, id, how & 4 ? how >> 6 : 0, says, bytes, n);
}

static void put(struct client *w, struct tape *t, unsigned op)
{
    struct wire b = {0};
    unsigned flags;
    switch (op) {
    case 0:
    case 1:
        flags = tape_u8(t);
        put_block(&b, t, heads, N_HEADS);
        wire_frame(&w->say, HEADERS, (flags & END_STREAM) | (flags & 8 ? 0 : END_HEADERS),
                   some_id(w, t), b.p, b.n);
        break;
    case 2:
        flags = tape_u8(t);
        put_block(&b, t, heads, N_HEADS);
        wire_frame(&w->say, CONTINUATION, flags & END_HEADERS, some_id(w, t), b.p, b.n);
        break;
    case 3:
        put_data(&w->say, t, some_id(w, t));
        break;
    case 4:
        put_message(&w->say, t, some_id(w, t));
        break;
    default:
        put_frame(&w->say, t, op - 5, some_id(w, t));
        break;
    }
    free(b.p);
}

// What the worker has of each message is the beginning of what was lent.
static void check_messages(struct client *w)
{
    for (unsigned i = 0; i < w->n_asked && i < READER_STREAMS - 1; i++) {
        const struct reader_stream *s = reader_stream(w->r, 2 * i + 1);
        const struct asked *a = &w->asked[i];
        uint8_t prefix[5] = {0, (uint8_t)(a->n >> 24), (uint8_t)(a->n >> 16), (uint8_t)(a->n >> 8),
                             (uint8_t)a->n};
        size_t n = s->body_n < sizeof(s->body) - 1 ? s->body_n : sizeof(s->body) - 1;
        invariant(s->body_n <= a->n + 5 && (!s->ended || s->body_n == a->n + 5));
        for (size_t k = 0; k < n; k++)
            invariant((uint8_t)s->body[k] == (k < 5 ? prefix[k] : client_byte(i, k - 5)));
    }
}

static void check(struct client *w)
{
    unsigned live = 0, ended = 0;
    for (unsigned i = 0; i < w->n_asked; i++) {
        const struct asked *a = &w->asked[i];
        invariant(a->ends <= 1 && (a->ends == 1) == (a->call == NULL));
        ended += a->ends;
        if (a->ends == 0) {
            live++;
            invariant(a->call->body_bytes <= w->limits.max_answer);
            invariant(!a->call->body || a->call->body->bytes >= a->call->body_bytes);
            invariant(a->call->arena.bytes <= 128 << 10);
        } else {
            invariant(a->end <= CALL_CANCELLED && a->body_n <= w->limits.max_answer);
            invariant(a->end != CALL_ANSWERED || a->status >= 100);
        }
    }
    invariant(ended == w->n_ends && live + ended == w->n_asked && w->readies <= 1);
    if (w->r->wrong)
        check_failed(__FILE__, __LINE__, w->r->wrong);
    check_messages(w);
}

static void step(struct client *w, struct tape *t)
{
    unsigned op = tape_u8(t) % 24, n;
    size_t from = w->say.n, size;
    switch (op) {
    case FRAMES:
    case FRAMES + 1:
        size = tape_number(t) % 200000;
        n = tape_u8(t);
        if (w->n_asked < READER_STREAMS - 1)
            client_ask(w, size, n < 128 ? 1 + n * 37 : size + 1, n & 1 ? 1000 : 0);
        break;
    case FRAMES + 2:
        n = tape_u8(t);
        if (n < w->n_asked && w->asked[w->n_asked - 1 - n].call)
            http_call_cancel(w->asked[w->n_asked - 1 - n].call);
        break;
    case FRAMES + 3:
        client_take(w, tape_number(t) % 300000);
        break;
    case FRAMES + 4:
        mem_fail_at(tape_u8(t));
        break;
    case FRAMES + 5:
        client_take(w, 1);
        break;
    case FRAMES + 6: // a flood of whatever comes next
        n = tape_u8(t);
        put(w, t, tape_u8(t) % FRAMES);
        struct wire one = {0};
        if (w->say.n > from)
            wire_put(&one, w->say.p + from, w->say.n - from);
        for (; n > 0 && w->say.n < 200000; n--)
            wire_put(&w->say, one.p, one.n);
        free(one.p);
        break;
    case FRAMES + 7:
    case FRAMES + 8:
        client_flush(w);
        break;
    case FRAMES + 9:
        break; // what was said waits, and comes in one piece with the next
    default:
        put(w, t, op % FRAMES);
        break;
    }
    if (op != FRAMES + 9 && w->say.n > 0)
        client_hear_only(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct client w;
    if (size < 2)
        return 0;
    struct tape t = {data + 1, size - 1};
    w = (struct client){0};
    if (data[0] & SMALL)
        w.limits = (struct http_client_limits){
            .max_answer = 1000, .frame_bytes = 16384, .window_bytes = 65535};
    client_init(&w);
    if (!(data[0] & SILENT))
        wire_frame(&w.say, SETTINGS, 0, 0, NULL, 0);
    client_hear_only(&w);
    for (unsigned i = 0; i < 300 && t.n > 0; i++) {
        step(&w, &t);
        check(&w);
    }
    mem_fail_at(0);
    client_flush(&w);
    check(&w);
    const char *wrong = client_deinit(&w);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
    return 0;
}
