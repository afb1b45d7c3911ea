/* net/server.h: a listener and its connections: accepted descriptors carry an http_conn each. One
 * struct server is one address on several loops (a part a loop). Does.
 * A fresh connection may be handed to a less loaded loop (two choices on published counts).
 *
 *   server_new -> server_start -> [server_drain -> server_stop_accept -> idle?] -> server_cut ->
 * [server_retire ->] server_free
 *
 * Who answers later than from inside an http_server_ops callback (that is, nearly everybody) uses
 * server_respond: the socket is then flagged and flushed before the loop sleeps. */
#ifndef SLUICE_NET_SERVER_H
#define SLUICE_NET_SERVER_H

#include "http/http.h"
#include "net/addr.h"
#include "net/loop.h"
#include "net/tls.h"

// Bounds shared by all servers of a process. The count of an address is kept in two rows of
// counters by keyed hashes (a count-min sketch): never too low; too high only for one who collides
// in both. IPv6 clients count by /64. Thread: any (atomics).
struct server_budget;
// 0: no bound.
struct server_budget *server_budget_new(unsigned max_conns, unsigned max_per_address,
                                        uint64_t seed);
void server_budget_free(struct server_budget *b);
// Other bounds from now on; whoever is there stays. Neither is 0 before or after.
void server_budget_set(struct server_budget *b, unsigned max_conns, unsigned max_per_address);
unsigned server_budget_conns(const struct server_budget *b);

struct server;

struct server_config {
    const char *name;                  // for logs; copied
    const struct http_limits *limits;  // copied
    const struct http_server_ops *ops; // likewise
    void *ctx;                         // for ops
    struct tls_server *tls;            // NULL: plain. Not owned, as in server_adopt
    struct server_budget *budget;      // not owned
};

struct server_stats { // relaxed atomics summed over the parts
    uint64_t accepted, refused_address, handed_over, accept_paused, tls_failed;
    uint64_t plain_on_tls, tls_on_plain; // clients that have taken the port for another
    uint64_t bytes_in, bytes_out;        // of connections that have ended
    unsigned conns;
    bool accepting;
};

// fds[i] is accepted on loops[i % n_loops]; the descriptors are the server's from now on. NULL: out
// of memory (the descriptors stay the caller's).
struct server *server_new(const struct server_config *c, struct loop *const *loops,
                          unsigned n_loops, const int *fds, unsigned n_fds);
// Any thread, from the loop's own point of view `from` (NULL when not on a loop). Effects reach
// each loop by its mailbox.
void server_start(struct server *s, struct loop *from);
// The end is near; accepting goes on. Connections, new ones too, are served in full until serve_until_us, when
// server_stop_accept is meant to come: HTTP/1.1 hears of it with each answer, HTTP/2 then.
void server_drain(struct server *s, struct loop *from, uint64_t serve_until_us);
// Takes what is in the backlog, then closes the listening descriptors. Every connection is told to end gracefully.
void server_stop_accept(struct server *s, struct loop *from);
void server_cut(struct server *s, struct loop *from); // closes every connection now
// No listening descriptor and no connection left (any thread).
bool server_idle(const struct server *s);
void server_stats(const struct server *s, struct server_stats *out);
// On loops[loop]: connections that begin there from now on have these limits, and speak TLS by these contexts (NULL: plain),
// which stay until that loop has others or the server is retired; connections hold what they need of them.
void server_adopt(struct server *s, unsigned loop, const struct http_limits *limits,
                  struct tls_server *tls);
const char *server_name(const struct server *s);
// server_idle, and the loops run on: each lets go of it, and the last one posts `done` to `from`, the caller's loop.
// Then server_free.
void server_retire(struct server *s, struct loop *from, struct loop_task *done);
// Retired, or the loops have stopped (then what is left is closed here).
void server_free(struct server *s);

// exchange_respond, from wherever; answers of exchanges whose client has gone are harmless.
void server_respond(struct exchange *ex, const struct http_response *r, uint64_t now_us);
// exchange_start and exchange_wake, likewise.
void server_flow(struct exchange *ex, const struct http_response *head, uint64_t now_us);
void server_wake(struct exchange *ex, uint64_t now_us);
struct loop *server_conn_loop(struct http_conn *c);
// Client's address without the port, printed once a connection: "127.0.0.1", "::1", "unix". Lives as long
// as the connection.
struct view server_conn_peer(struct http_conn *c);

#endif
