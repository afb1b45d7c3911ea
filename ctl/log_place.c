#include "ctl/log_place.h"

#include "config/value.h"
#include <stdarg.h>
#include <stdio.h>

#define NODES_MOST 64
#define PORT_MOST 6 // ":" and its digits

enum kind { ALONE, SENTINELS, CLUSTER };

static const struct scheme {
    const char *name;
    enum kind kind;
    bool tls;
    unsigned port;
} schemes[] = {
    {"redis", ALONE, false, 6379},
    {"rediss", ALONE, true, 6379},
    {"sentinel", SENTINELS, false, 26379},
    {"cluster", CLUSTER, false, 6379},
    {"unix", ALONE, false, 0},
};

__attribute__((format(printf, 2, 3))) static bool refuse(char why[LOG_WHY], const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, LOG_WHY, format, ap);
    va_end(ap);
    return false;
}

static const struct scheme *find_scheme(const char *place)
{
    size_t n = strcspn(place, ":");
    for (size_t i = 0; place[n] && i < sizeof(schemes) / sizeof(schemes[0]); i++)
        if (view_is(view_of(place, n), schemes[i].name))
            return &schemes[i];
    return NULL;
}

bool log_place_is_store(const char *place)
{
    return find_scheme(place) || strstr(place, "://");
}

// ---- parts ---------------------------------------------------------------------------------------------

// Up to the first c, which goes too; all of it where there is none.
static struct view take_until(struct view *rest, char c)
{
    const char *at = rest->n ? memchr(rest->p, c, rest->n) : NULL;
    struct view part = view_of(rest->p, at ? (size_t)(at - rest->p) : rest->n);
    size_t gone = part.n + (at != NULL);
    *rest = view_of(rest->p + gone, rest->n - gone);
    return part;
}

static const char *keep(struct arena *a, struct view v, char why[LOG_WHY])
{
    char *p = arena_alloc(a, v.n + 1);
    if (!p) {
        refuse(why, "out of memory");
        return NULL;
    }
    memcpy(p, v.p, v.n);
    p[v.n] = '\0';
    return p;
}

// "USER@" off the front of *rest. Nothing of what stands before the "@" is quoted: it may be a password.
static bool read_user(struct config_store *out, struct arena *a, struct view *rest,
                      char why[LOG_WHY])
{
    const char *at = rest->n ? memrchr(rest->p, '@', rest->n) : NULL;
    if (!at)
        return true;
    struct view user = view_of(rest->p, (size_t)(at - rest->p));
    *rest = view_of(at + 1, rest->n - user.n - 1);
    if (user.n && memchr(user.p, ':', user.n))
        return refuse(why, "no password stands in a place, where everybody sees it: "
                           "$SLUICE_REDIS_PASSWORD has it, or the file of --password-file");
    if (user.n == 0 || memchr(user.p, '/', user.n))
        return refuse(why, "expected USER@ before the host");
    return (out->user = keep(a, user, why)) != NULL;
}

// Of the host alone: what stands in brackets has colons of its own.
static const char *find_port(struct view node)
{
    const char *from = node.n && node.p[0] == '[' ? memchr(node.p, ']', node.n) : node.p;
    return from ? memchr(from, ':', node.n - (size_t)(from - node.p)) : NULL;
}

static bool read_node(struct config_address *out, struct arena *a, struct view node, unsigned port,
                      char why[LOG_WHY])
{
    char text[256 + PORT_MOST];
    const char *at = find_port(node);
    if (node.n == 0)
        return refuse(why, "expected HOST[:PORT], got none");
    if (node.n > 255)
        return refuse(why, "expected HOST[:PORT], got %zu bytes", node.n);
    if (at && node.p[0] != '[' && memrchr(node.p, ':', node.n) != at)
        return refuse(why, "\"%.*s\": an IPv6 address stands in brackets: [::1]:%u", VIEW_ARG(node),
                      port);
    int n = at ? snprintf(text, sizeof(text), "%.*s", VIEW_ARG(node))
               : snprintf(text, sizeof(text), "%.*s:%u", VIEW_ARG(node), port);
    switch (value_peer_address(view_of(text, (size_t)n), a, out)) {
    case VALUE_OK:
        return true;
    case VALUE_MEMORY:
        return refuse(why, "out of memory");
    case VALUE_RANGE:
        return refuse(why, "\"%.*s\": expected a port from 1 to 65535", VIEW_ARG(node));
    case VALUE_SYNTAX:
        break;
    }
    return refuse(why, "\"%.*s\": expected HOST[:PORT]", VIEW_ARG(node));
}

// NULL: why.
static struct config_address *read_nodes(struct arena *a, struct view list, unsigned port,
                                         unsigned *n, char why[LOG_WHY])
{
    struct config_address *nodes = arena_array(a, NODES_MOST, sizeof(*nodes));
    *n = 0;
    if (!nodes)
        refuse(why, "out of memory");
    do {
        if (nodes && *n == NODES_MOST)
            refuse(why, "expected %d hosts at most", NODES_MOST);
        if (why[0] || !read_node(&nodes[(*n)++], a, take_until(&list, ','), port, why))
            return NULL;
    } while (list.n > 0);
    return nodes;
}

static bool read_database(struct config_address *out, struct view text, char why[LOG_WHY])
{
    uint64_t number = 0;
    if (text.n > 0 && (value_count(text, &number) != VALUE_OK || number > 65535))
        return refuse(why, "\"/%.*s\": expected the number of a database, from 0 to 65535",
                      VIEW_ARG(text));
    out->database = (uint32_t)number;
    return true;
}

// ---- kinds ---------------------------------------------------------------------------------------------

static bool read_socket(struct config_store *out, struct arena *a, const char *place,
                        char why[LOG_WHY])
{
    enum value_result r = value_redis_address(view_str(place), a, &out->redis);
    if (r == VALUE_MEMORY)
        return refuse(why, "out of memory");
    return r == VALUE_OK || refuse(why, "expected unix:PATH with a path of 1 to 107 bytes");
}

static bool read_alone(struct config_store *out, struct arena *a, struct view node,
                       struct view behind, const struct scheme *s, char why[LOG_WHY])
{
    if (!read_node(&out->redis, a, node, s->port, why))
        return false;
    out->tls = s->tls;
    out->redis.scheme = s->tls ? CONFIG_TLS : CONFIG_TCP;
    return read_database(&out->redis, behind, why);
}

static bool read_sentinels(struct config_store *out, struct arena *a, struct view nodes,
                           struct view master, const struct scheme *s, char why[LOG_WHY])
{
    out->sentinels = read_nodes(a, nodes, s->port, &out->sentinel_count, why);
    if (!out->sentinels)
        return false;
    if (master.n == 0 || master.n > 255 || memchr(master.p, '/', master.n))
        return refuse(why, "expected /MASTER behind the Sentinels, the name that they have for it");
    return (out->master = keep(a, master, why)) != NULL;
}

static bool read_cluster(struct config_store *out, struct arena *a, struct view nodes,
                         struct view behind, const struct scheme *s, char why[LOG_WHY])
{
    out->cluster = read_nodes(a, nodes, s->port, &out->cluster_count, why);
    if (!out->cluster)
        return false;
    return behind.n == 0 || refuse(why, "expected nothing behind the nodes: a Cluster has one "
                                        "database");
}

bool log_place_read(struct config_store *out, struct arena *a, const char *place, char why[LOG_WHY])
{
    static bool (*const readers[])(struct config_store *, struct arena *, struct view, struct view,
                                   const struct scheme *, char *) = {
        [ALONE] = read_alone, [SENTINELS] = read_sentinels, [CLUSTER] = read_cluster};
    const struct scheme *s = find_scheme(place);
    why[0] = '\0';
    out->on = true;
    if (s && s->port == 0)
        return read_socket(out, a, place, why);
    struct view rest = view_str(s ? place + strlen(s->name) : "");
    if (rest.n < 3 || memcmp(rest.p, "://", 3) != 0)
        return refuse(why, "expected redis://, rediss://, sentinel://, cluster:// or unix: before "
                           "the host, or a directory");
    rest = view_of(rest.p + 3, rest.n - 3);
    if (!read_user(out, a, &rest, why))
        return false;
    struct view nodes = take_until(&rest, '/');
    return readers[s->kind](out, a, nodes, rest, s, why);
}

bool log_place_check(const struct config_store *s, bool password, char why[LOG_WHY])
{
    if (s->user && !password)
        return refuse(why,
                      "user %.80s: expected a password: in $SLUICE_REDIS_PASSWORD, or in the "
                      "file of --password-file",
                      s->user);
    if (!s->certificate != !s->key)
        return refuse(why, "--cert-file and --key-file go together");
    if ((s->ca || s->certificate) && !s->tls)
        return refuse(why, "%s goes with --tls or rediss://", s->ca ? "--ca-file" : "--cert-file");
    if (s->tls && s->redis.text && s->redis.scheme == CONFIG_UNIX)
        return refuse(why, "--tls: not over a Unix socket");
#ifndef SLUICE_REDIS_TLS
    if (s->tls)
        return refuse(why, "this build's hiredis speaks no TLS (1.0 or later does, with "
                           "libhiredis_ssl)");
#endif
    return true;
}
