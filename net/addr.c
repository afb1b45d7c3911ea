#include "net/addr.h"
#include "base/check.h"
#include "base/mem.h"
#include <arpa/inet.h>
#include <event2/dns.h>
#include <event2/util.h>
#include <stdio.h>

static bool parse_port(struct view v, uint16_t *port)
{
    if (v.n == 0 || v.n > 5)
        return false;
    unsigned n = 0;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
        n = n * 10 + (unsigned)(v.p[i] - '0');
    }
    *port = (uint16_t)n;
    return n <= UINT16_MAX;
}

static const char *parse_unix(struct addr *a, struct view path)
{
    if (path.n > 2 && path.p[0] == '/' && path.p[1] == '/') { // unix:///run/s.sock
        path.p += 2;
        path.n -= 2;
    }
    if (path.n == 0)
        return "the path is missing after unix:";
    if (path.n >= sizeof a->un.sun_path)
        return "the path of a Unix socket is longer than 107 bytes";
    if (memchr(path.p, 0, path.n))
        return "the path holds a NUL";
    a->un.sun_family = AF_UNIX;
    memcpy(a->un.sun_path, path.p, path.n);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
    return NULL;
}

static void set_port(struct addr *a, uint16_t port)
{
    a->port = port;
    if (a->sa.sa_family == AF_INET)
        a->in.sin_port = htons(port);
    else if (a->sa.sa_family == AF_INET6)
        a->in6.sin6_port = htons(port);
}

static bool is_name(struct view host)
{
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '.' || c == '_'))
            return false;
    }
    return host.n > 0 && host.p[0] != '.' && host.p[0] != '-';
}

static const char *parse_host(struct addr *a, struct view host, bool brackets)
{
    if (host.n == 0)
        return "the host is missing (0.0.0.0 or [::] for every address)";
    if (host.n >= ADDR_HOST)
        return "the host is longer than 253 bytes";
    memcpy(a->host, host.p, host.n);
    a->host[host.n] = 0;
    if (brackets) {
        if (inet_pton(AF_INET6, a->host, &a->in6.sin6_addr) != 1)
            return "what stands in brackets is no IPv6 address";
        a->in6.sin6_family = AF_INET6;
        a->len = sizeof a->in6;
        return NULL;
    }
    bool local = strcmp(a->host, "localhost") == 0; // RFC 6761, 6.3: never looked up
    if (inet_pton(AF_INET, local ? "127.0.0.1" : a->host, &a->in.sin_addr) == 1) {
        a->in.sin_family = AF_INET;
        a->len = sizeof a->in;
        return NULL;
    }
    if (strspn(a->host, "0123456789.") == host.n)
        return "not an IPv4 address";
    return is_name(host) ? NULL : "the host holds a character that no name has";
}

const char *addr_parse(struct addr *a, struct view text, uint16_t default_port)
{
    memset(a, 0, sizeof *a);
    if (text.n == 0)
        return "the address is empty";
    if (memchr(text.p, 0, text.n))
        return "the address holds a NUL";
    if (text.n >= 5 && memcmp(text.p, "unix:", 5) == 0)
        return parse_unix(a, view_of(text.p + 5, text.n - 5));

    struct view host = text, port = {0};
    bool brackets = text.p[0] == '[';
    if (brackets) {
        const char *close = memchr(text.p, ']', text.n);
        if (!close)
            return "the closing bracket is missing";
        host = view_of(text.p + 1, (size_t)(close - text.p) - 1);
        port = view_of(close + 1, text.n - host.n - 2);
        if (port.n && port.p[0] != ':')
            return "a colon and the port follow the bracket";
    } else {
        const char *colon = memchr(text.p, ':', text.n);
        if (colon) {
            host.n = (size_t)(colon - text.p);
            port = view_of(colon, text.n - host.n);
            if (memchr(port.p + 1, ':', port.n - 1))
                return "IPv6 addresses are written in brackets: [::1]:8080";
        }
    }
    uint16_t number = default_port;
    if (port.n == 0 && default_port == 0)
        return "the port is missing";
    if (port.n && !parse_port(view_of(port.p + 1, port.n - 1), &number))
        return "the port is no number from 0 to 65535";
    const char *why = parse_host(a, host, brackets);
    if (!why)
        set_port(a, number);
    return why;
}

void addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t len)
{
    memset(a, 0, sizeof *a);
    if (len > sizeof a->un)
        len = sizeof a->un;
    memcpy(&a->sa, sa, len);
    a->len = len;
    if (sa->sa_family == AF_INET) {
        a->port = ntohs(a->in.sin_port);
        inet_ntop(AF_INET, &a->in.sin_addr, a->host, sizeof a->host);
    } else if (sa->sa_family == AF_INET6) {
        a->port = ntohs(a->in6.sin6_port);
        inet_ntop(AF_INET6, &a->in6.sin6_addr, a->host, sizeof a->host);
    }
}

const char *addr_print(const struct addr *a, char out[ADDR_TEXT])
{
    char host[ADDR_TEXT];
    if (addr_is_unix(a))
        snprintf(out, ADDR_TEXT, "unix:%s",
                 a->len > offsetof(struct sockaddr_un, sun_path) ? a->un.sun_path : "");
    else if (addr_is_name(a))
        snprintf(out, ADDR_TEXT, "%.150s:%u", a->host, a->port);
    else if (a->sa.sa_family == AF_INET6)
        snprintf(out, ADDR_TEXT, "[%.64s]:%u", addr_print_host(a, host), a->port);
    else
        snprintf(out, ADDR_TEXT, "%.64s:%u", addr_print_host(a, host), a->port);
    return out;
}

const char *addr_print_host(const struct addr *a, char out[ADDR_TEXT])
{
    out[0] = 0;
    if (addr_is_unix(a))
        snprintf(out, ADDR_TEXT, "unix");
    else if (addr_is_name(a))
        snprintf(out, ADDR_TEXT, "%.159s", a->host);
    else if (a->sa.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &a->in6.sin6_addr, out, ADDR_TEXT);
    else
        inet_ntop(AF_INET, &a->in.sin_addr, out, ADDR_TEXT);
    return out;
}

// ---- look-up -------------------------------------------------------------------------------------------

// Two things must have happened before it is freed: the resolver has called back, and the caller has been
// told or has cancelled. The resolver may call back at once (hosts file), so telling is always deferred.
struct addr_lookup {
    struct loop *loop;
    struct addr addr;
    void (*done)(const struct addr *a, const char *why, void *ctx);
    void *ctx;
    struct loop_call call;
    struct evdns_getaddrinfo_request *request; // NULL once the resolver has called back
    const char *why;
    bool answered, cancelled;
};

static void tell(struct loop *l, struct loop_call *c)
{
    struct addr_lookup *q = container_of(c, struct addr_lookup, call);
    if (!q->cancelled)
        q->done(q->why ? NULL : &q->addr, q->why, q->ctx);
    mem_free(q);
}

// One of them by chance: a name with several addresses spreads its load, and a try that failed (an IPv6
// address where there is no such network) is followed by one that may not.
static const struct evutil_addrinfo *pick(struct loop *l, const struct evutil_addrinfo *res)
{
    unsigned n = 0;
    for (const struct evutil_addrinfo *at = res; at; at = at->ai_next)
        n++;
    for (uint64_t skip = n ? rand_below(&l->rand, n) : 0; skip > 0; skip--)
        res = res->ai_next;
    return res;
}

static void on_answer(int err, struct evutil_addrinfo *res, void *arg)
{
    struct addr_lookup *q = arg;
    q->answered = true;
    q->request = NULL;
    q->why = err ? evutil_gai_strerror(err) : res ? NULL : "the name has no address";
    if (!q->why) {
        const struct evutil_addrinfo *one = pick(q->loop, res);
        memcpy(&q->addr.sa, one->ai_addr, one->ai_addrlen);
        q->addr.len = (socklen_t)one->ai_addrlen;
        set_port(&q->addr, q->addr.port);
    }
    if (res)
        evutil_freeaddrinfo(res);
    loop_defer(q->loop, &q->call);
}

static struct evdns_base *resolver(struct loop *l)
{
    if (!l->dns) {
        l->dns = evdns_base_new(l->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
        if (l->dns) // without the file it asks 127.0.0.1 and says so by failing
            evdns_base_resolv_conf_parse(l->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");
    }
    return l->dns;
}

struct addr_lookup *addr_resolve(struct loop *l, const struct addr *a,
                                 void (*done)(const struct addr *a, const char *why, void *ctx),
                                 void *ctx)
{
    struct addr_lookup *q = mem_zalloc(sizeof *q);
    if (!q)
        return NULL;
    *q =
        (struct addr_lookup){.loop = l, .addr = *a, .done = done, .ctx = ctx, .call = {.fn = tell}};
    struct evdns_base *dns = resolver(l);
    struct evutil_addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    if (!dns) {
        q->why = "no resolver";
        q->answered = true;
        loop_defer(l, &q->call);
        return q;
    }
    struct evdns_getaddrinfo_request *r =
        evdns_getaddrinfo(dns, a->host, NULL, &hints, on_answer, q);
    if (!q->answered)
        q->request = r;
    return q;
}

void addr_resolve_cancel(struct addr_lookup *q)
{
    if (!q)
        return;
    q->cancelled = true;
    if (!q->answered && q->request)
        evdns_getaddrinfo_cancel(q->request); // on_answer follows, from the loop or from its end
}
