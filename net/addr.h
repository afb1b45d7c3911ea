/* net/addr.h: addresses as operators write them: "127.0.0.1:8080", "[::1]:0", "localhost:8001",
 * "unix:/run/s.sock". Schemes ("grpc://") are split off by the caller. Numeric addresses need no
 * look-up; names are looked up by libevent's resolver, never by getaddrinfo on a loop. Thread: any,
 * but look-ups belong to their loop. */
#ifndef SLUICE_NET_ADDR_H
#define SLUICE_NET_ADDR_H

#include "base/view.h"
#include "net/loop.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ADDR_TEXT 160 // longest printed form and its NUL
#define ADDR_HOST 254

struct addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t len;        // 0: a name that must be looked up (host, port)
    uint16_t port;        // host order; 0 for Unix sockets
    char host[ADDR_HOST]; // as written, without brackets; "" for Unix sockets (also the name TLS
                          // verifies)
};

// NULL, or what is wrong with it (constant text). A missing port takes default_port; 0: a port must
// be written.
const char *addr_parse(struct addr *a, struct view text, uint16_t default_port);
static inline bool addr_is_unix(const struct addr *a)
{
    return a->len && a->sa.sa_family == AF_UNIX;
}
static inline bool addr_is_name(const struct addr *a)
{
    return a->len == 0;
}
// "127.0.0.1:8080", "[::1]:80", "unix:/path", "name:80".
const char *addr_print(const struct addr *a, char out[ADDR_TEXT]);
// From accept4/getsockname.
void addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t len);
// The address without the port, as clients appear in logs: "127.0.0.1", "::1", "unix".
const char *addr_print_host(const struct addr *a, char out[ADDR_TEXT]);

// Looks a->host up on the loop (evdns). done is called once, from the loop, never from inside this
// call: with one of its addresses by chance, or with NULL and the reason. Returns a handle for
// addr_resolve_cancel (then done is not called), NULL when out of memory.
struct addr_lookup;
struct addr_lookup *addr_resolve(struct loop *l, const struct addr *a,
                                 void (*done)(const struct addr *a, const char *why, void *ctx),
                                 void *ctx);
void addr_resolve_cancel(struct addr_lookup *q);

#endif
