/* net/server_conn.h: private to server.c (listeners, drain) and server_conn.c (connections). */
#ifndef SLUICE_NET_SERVER_CONN_H
#define SLUICE_NET_SERVER_CONN_H

#include "net/budget.h"
#include "net/server.h"
#include "net/sock.h"

struct server_part; // a server on one loop
struct conn;

enum { OP_START, OP_DRAIN, OP_STOP, OP_CUT, OP_RETIRE, OPS };

struct server_op { // one step of the server's life on its way to a part's loop
    struct loop_task task;
    struct server_part *part;
    _Atomic bool posted;
};

struct listener {
    struct server_part *part;
    int fd; // -1: closed
    struct event ev;
};

struct server_part {
    struct server *server;
    struct loop *loop;
    struct http_limits limits; // of connections that begin here
    struct tls_server *tls;    // likewise
    struct server_op op[OPS];
    struct conn *conns;
    struct conn *to_drain;       // of conns: this one and those behind it have not been told yet
    struct loop_call drain_more; // the next slice of them
    bool draining, stopped, cut;
    uint64_t serve_until_us;  // draining: until when new requests are served
    bool paused;              // accept stands still; resume tries again
    uint64_t paused_since_us; // first pause of a row of them
    int spare_fd;             // given up for a moment to send a waiting client away
    struct wheel_timer resume;
    struct wheel_timer last_call; // set when accepting ends
    struct wheel_timer date;      // sets the loop's Date field on every full second
    _Atomic uint32_t open_listeners;
    // counters, relaxed, one writer (handed_over connections are counted where they were accepted)
    _Atomic uint64_t accepted, refused_address, handed_over, accept_paused, tls_failed;
    _Atomic uint64_t plain_on_tls, tls_on_plain;
    _Atomic uint64_t bytes_in, bytes_out;
};

struct server {
    char name[64];
    struct server_config c;
    unsigned n_parts, n_listeners;
    _Atomic uint32_t conns;          // living, on their way between loops included
    _Atomic uint64_t serve_until_us; // on its way to the parts
    _Atomic uint32_t retiring;       // parts that have not let go yet
    struct loop *retired_to;
    struct loop_task *retired;
    struct listener *listeners;
    struct server_part *parts;
};

// Takes an accepted descriptor over, counted in both budgets by the caller; any part of the same server.
// from: the accepting loop.
void server_conn_admit(struct server_part *to, struct loop *from, int fd, const struct sockaddr *sa,
                       uint64_t now_us);
// Tells every connection of the part, a slice a turn; those that begin later, too. Again, when the moment has come.
void server_conn_drain(struct server_part *p, uint64_t serve_until_us);
void server_conn_cut_all(struct server_part *p); // closes them
void server_resume(struct server_part *p);       // a descriptor has become free

#define COUNT(part, what, n) atomic_fetch_add_explicit(&(part)->what, (n), memory_order_relaxed)

#endif
