/* net/peer.h: one outgoing HTTP/2 connection (Unix, TCP, TLS) carrying a struct http_client. It
 * connects once; after on_down it may be connected again or freed (backoff is the caller's). Does.
 * Thread: its loop's.
 *
 *   PEER_DOWN ─peer_connect─► PEER_CONNECTING ─SETTINGS came─► PEER_UP ─broken, drained, closed─►
 * PEER_DOWN */
#ifndef SLUICE_NET_PEER_H
#define SLUICE_NET_PEER_H

#include "http/http.h"
#include "net/addr.h"
#include "net/loop.h"
#include "net/tls.h"

enum peer_state { PEER_DOWN, PEER_CONNECTING, PEER_UP };

struct peer;

struct peer_ops {
    void (*on_up)(struct peer *p, void *ctx); // calls may be made
    // Once for each peer_connect that did not end by peer_close/peer_free. why: constant or valid
    // during the call. Every call has ended (on_end) before. Here peer_connect and peer_free are
    // allowed.
    void (*on_down)(struct peer *p, const char *why, void *ctx);
    // As http_client_ops.on_end, and CALL_ABANDONED instead of CALL_LOST when it was the owner who closed;
    // calls of peer_client may be made from here.
    void (*on_end)(struct http_call *call, enum http_call_end end, void *ctx);
};

struct peer_config {
    struct addr addr;
    struct tls_client *tls;           // NULL: plain. Not owned.
    uint64_t connect_timeout_us;      // look-up, connect, TLS and SETTINGS together; 0: 2 s
    struct http_client_limits limits; // .secure follows from tls
};

struct peer *peer_new(struct loop *l, const struct peer_config *c, const struct peer_ops *ops,
                      void *ctx);
void peer_connect(struct peer *p); // state DOWN only; callbacks come later, never from inside
// Closes now: calls end CALL_ABANDONED (on_end from inside), no on_down. State DOWN after it.
void peer_close(struct peer *p);
void peer_free(struct peer *p); // closes first
void peer_set_max_answer(struct peer *p,
                         size_t max_answer); // of this connection, and those to come
enum peer_state peer_state(const struct peer *p);
// The client to make calls on while UP, else NULL.
struct http_client *peer_client(struct peer *p);
// After http_client_call or _cancel: what there is to send leaves before the loop sleeps.
void peer_touch(struct peer *p);
uint64_t peer_bytes_in(const struct peer *p); // grows while the peer lives: progress for probes
// The process that listens at the other end of a Unix socket (who called listen: SO_PEERCRED, unix(7)).
// 0: not connected, or not a Unix socket.
uint32_t peer_pid(const struct peer *p);

#endif
