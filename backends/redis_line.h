/* backends/redis_line.h: one connection to one Redis server (or Sentinel). Private to the client.
 *
 *   DOWN ─line_open─► OPENING ─let in─► UP ◄─a question answered in time─► RESTING (breaker open)
 *    ▲                   └──── refused, 1 s ──┴──── lost, REDIS_PATIENCE_US ──┘
 *    └──────────────────────────── on_down ◄──────────────┘
 *
 *  L1  `waiting` holds what was sent and has no reply, in the order of the wire. A late one has been told, and stays
 *      until its reply comes or the connection ends: replies have no names.
 *  L2  hiredis' context ends by itself (an error, in one of its handlers) or by us (line_close, from a turn of our own,
 *      never from inside a handler). Either way it tells all that wait, then calls our cleanup: there line.ac goes.
 *  L3  on_down comes from a call of its own, when the context is gone. */
#ifndef SLUICE_BACKENDS_REDIS_LINE_H
#define SLUICE_BACKENDS_REDIS_LINE_H

#include "backends/backoff.h"
#include "backends/breaker.h"
#include "backends/redis.h"

#define LINE_WHY 160

struct redis_line;
struct redisAsyncContext;

struct redis_ask {                  // a command
    struct redis_ask *next, **prev; // of its line's waiting
    struct redis_line *line;
    // Told once: answered, late or lost. True: it has been taken over (sent on), and is not over.
    bool (*on_end)(struct redis_ask *a, const struct redis_answer *said);
    redis_done_fn *done;
    void *user;
    uint64_t deadline_us;
    struct view script; // static: it calls that one
    uint8_t turns;      // redirections so far, and times that its script was sent
    bool told;
    size_t bytes;
    char text[];
};

struct line_ops {
    void (*on_up)(struct redis_line *n);                    // or out of its rest
    void (*on_rest)(struct redis_line *n, const char *why); // not to be asked for a while
    void (*on_down)(struct redis_line *n, const char *why); // here line_open_later is allowed
    // Of a line that listens: what came. No line may be closed here.
    void (*on_push)(struct redis_line *n, const struct redis_answer *said);
};

struct line_login { // what we say first
    const char *user, *password;
    uint32_t database;
    bool master; // a server that is none is refused
};

struct redis_line {
    struct loop *loop;
    const struct line_ops *ops;
    void *ctx;
    struct redis_stats *stats; // of its client; NULL: a Sentinel's is not counted
    struct line_login login;
    struct tls_client *tls;
    uint64_t timeout_us;
    struct addr addr; // set by the owner while it is down

    enum redis_state state;
    struct redisAsyncContext *ac; // NULL: none
    struct ssl_st *ssl;           // its; NULL: plain
    struct addr_lookup *lookup;
    void *makers, *plain_list; // private: of replies; hiredis' own maker of lists
    struct event read_ev, write_ev;
    bool connected, writing;   // inside of its write handler
    bool listens;              // what comes answers nothing: on_push
    struct loop_flush flush;   // writes once a turn
    struct loop_call bury;     // it is over: why
    char why[LINE_WHY];        // "": it is not
    struct wheel_timer step;   // opening takes too long; open again; ask whether it answers
    struct wheel_timer expire; // the first deadline of those that wait
    struct redis_ask *waiting, **waiting_last;
    unsigned n_waiting;
    size_t waiting_bytes;
    unsigned greetings; // answers of the log-in that are still to come
    struct call_breaker breaker;
    struct backoff reopen, asking;
    uint64_t asked_us; // the question whether it answers; 0: none is out
};

void line_init(struct redis_line *n, struct loop *l, const struct line_ops *ops, void *ctx);
void line_deinit(struct redis_line *n);     // closes it
void line_open(struct redis_line *n);       // DOWN: callbacks come later
void line_open_later(struct redis_line *n); // DOWN: with a growing pause
void line_close(struct redis_line *n);      // now; what waits ends lost; no on_down. DOWN after it
void line_give_up(struct redis_line *n, const char *why); // from anywhere: on_down comes

// UP only. asking: as the exception that the server was told to expect. False: too much is under way, or it is over;
// the ask stays the caller's. True: its end comes; then it is freed, unless it was taken over.
bool line_send(struct redis_line *n, struct redis_ask *a, bool asking);

// UP, and nothing waits: says it, and whatever comes from now on goes to on_push: hiredis, which takes a server's word for
// what a message looks like, only takes it apart. Again: the same once more. False: out of memory.
bool line_listen(struct redis_line *n, const struct view *words, unsigned count);

// A command's memory, written; free with mem_free while it is not sent. NULL: out of memory.
struct redis_ask *ask_new(const struct view *words, unsigned n);

#endif
