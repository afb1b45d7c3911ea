/* backends/redis.h: one loop's client of a Redis: a server alone, the master that Sentinels name, or a Cluster.
 * hiredis' asynchronous half on the loop's libevent base. Does. Thread: its loop's.
 *
 * It is never in the way. What is asked is refused at once when nobody is there to answer (no connection, the
 * breaker of that server is open, too much is under way), and else ends by its own deadline, whatever becomes
 * of the connection. Commands of a turn leave in one write. Nothing is sent twice but where a Cluster says
 * that the key lives elsewhere.
 *
 *   redis_words.c     commands, errors, redirections, slots of keys: thinks
 *   redis_line.c      one connection to one server: its life, its deadlines, its breaker
 *   redis.c           which connection a command takes; what a server says of itself
 *   redis_sentinel.c  who the master is
 *   redis_cluster.c   whose slot it is
 *   redis_feed.c      what is published */
#ifndef SLUICE_BACKENDS_REDIS_H
#define SLUICE_BACKENDS_REDIS_H

#include "net/addr.h"
#include "net/loop.h"
#include "net/tls.h"
#include <stdatomic.h>

#define REDIS_MAX_WAITING 1024             // commands without a reply on one connection
#define REDIS_MAX_BYTES ((size_t)16 << 20) // and what they and their values hold
#define REDIS_MAX_REPLY ((size_t)16 << 20) // a larger one ends its connection
#define REDIS_MAX_ELEMENTS 65536           // of a list in a reply: so many again
#define REDIS_MAX_DEPTH 6                  // lists within lists
#define REDIS_MAX_NODES 64        // masters of a Cluster; slots of further ones are not served
#define REDIS_PATIENCE_US 3000000 // a server that owes a reply for so long is connected to anew

enum redis_kind { REDIS_ALONE, REDIS_SENTINELS, REDIS_CLUSTER };

// All of it stays as it is, and where it is, until redis_free.
struct redis_config {
    enum redis_kind kind;
    const struct addr *addrs; // the server; the Sentinels; some of the Cluster's nodes
    unsigned n_addrs;
    const char *master;          // REDIS_SENTINELS: its name
    const char *user, *password; // NULL: none. user needs password
    const char *sentinel_user, *sentinel_password;
    uint32_t database;
    uint64_t timeout_us;    // of each command
    struct tls_client *tls; // NULL: plain
};

enum redis_end {
    REDIS_END_TEXT,    // text: a string, or a status
    REDIS_END_NOTHING, // there is no such key
    REDIS_END_NUMBER,
    REDIS_END_LIST,  // redis_item
    REDIS_END_ERROR, // text: the server's
    REDIS_END_LATE,  // no reply by the deadline
    REDIS_END_LOST   // the connection ended, or we were closed
};

struct redis_answer { // while redis_done_fn runs
    enum redis_end end;
    struct view text;
    int64_t number;
    unsigned n;       // REDIS_END_LIST: items
    const void *list; // private
};
// Item i of a list, i < n.
struct redis_answer redis_item(const struct redis_answer *a, unsigned i);

enum redis_sent {
    REDIS_SENT,
    REDIS_NOBODY, // nobody can answer now
    REDIS_FULL,   // too much is under way
    REDIS_MEMORY
};

// Once for each command that was sent; never from inside redis_send. Here redis_send may be called, nothing else.
typedef void redis_done_fn(const struct redis_answer *a, void *user);

enum redis_state {
    REDIS_DOWN,    // no connection: tried again, with growing pauses
    REDIS_OPENING, // looked up, connected to, let in
    REDIS_RESTING, // there, but too many of its answers came late or were refusals: asked now and then
    REDIS_UP,
    REDIS_STATES
};
extern const char *const redis_state_name[REDIS_STATES];

struct redis_stats { // one writer, relaxed
    _Atomic uint64_t commands, errors, late, lost, nobody, full, redirected;
    _Atomic uint64_t connects, losses, rests;
    _Atomic unsigned state; // enum redis_state; of a Cluster: the best of its nodes'
    _Atomic unsigned nodes, nodes_up;
};

struct redis;

struct redis_ops {
    // Its state is another one, or the reason for it. why: of REDIS_DOWN and REDIS_RESTING, in words, valid during the call; else "".
    // Never from inside redis_new or redis_send. Nothing may be called here.
    void (*on_state)(struct redis *r, enum redis_state state, const char *why, void *ctx);
};

// Begins to connect. stats: the owner's, they outlive it. NULL: out of memory.
struct redis *redis_new(struct loop *l, const struct redis_config *c, struct redis_stats *stats,
                        const struct redis_ops *ops, void *ctx);
// What is under way ends REDIS_END_LOST, from inside. Not from inside a redis_done_fn.
void redis_free(struct redis *r);

// words[0] is the command, words[1] the key (of a Cluster: it says where it goes). writes: it changes something; where
// a server takes no writes, such a command is refused for a second. Not REDIS_SENT: done is never called.
enum redis_sent redis_send(struct redis *r, const struct view *words, unsigned n, bool writes,
                           redis_done_fn *done, void *user);

// What has no key goes to a server: of a Cluster to that which has the slot, else to the only one. redis_servers gives a slot of each
// (the first that it has), ascending; 0: a Cluster's map is not known yet.
unsigned redis_servers(const struct redis *r, uint16_t slots[REDIS_MAX_NODES]);
enum redis_sent redis_send_to(struct redis *r, uint16_t slot, const struct view *words, unsigned n,
                              redis_done_fn *done, void *user);

// Calls a script with those keys and what stands behind them (words: [n], n <= REDIS_MAX_WORDS; keys first, one at least, all
// of one slot). By its digest; a server that does not know it gets it, and is asked again. It counts as a write. script: static.
#define REDIS_MAX_WORDS 128
enum redis_sent redis_eval(struct redis *r, struct view script, const struct view *words,
                           unsigned n, unsigned keys, redis_done_fn *done, void *user);

// What is published on the channel from now on, over a connection of its own, one a client. It may miss what was published
// while that was away: then fn is called with heard = false when it is back. A hint, and no more: behind it somebody has
// to look. The channel stays where it is. Here redis_send and redis_eval may be called, nothing else.
typedef void redis_feed_fn(bool heard, struct view message, void *user);
void redis_listen(struct redis *r, const char *channel, redis_feed_fn *fn, void *user);
bool redis_listens(const struct redis *r); // now

// JSON: its connections. For /status.
struct json_writer;
void redis_show(const struct redis *r, struct json_writer *w);

#endif
