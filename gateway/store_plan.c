#include "gateway/store_plan.h"

#include "base/buffer.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

// ---- files ---------------------------------------------------------------------------------------------

// Its first line.
static bool read_password(const char *path, char out[STORE_PASSWORD + 1], char why[STORE_WHY])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // a FIFO must not hold us up
    ssize_t n = fd >= 0 ? read(fd, out, STORE_PASSWORD + 1) : -1;
    int error = errno;
    if (fd >= 0)
        close(fd);
    size_t line = n > 0 ? strcspn(out, "\r\n") : 0;
    if (n < 0)
        snprintf(why, STORE_WHY, "store: %s: %s", path, strerror(error));
    else if (line > (size_t)n)
        line = (size_t)n;
    if (n >= 0 && (line == 0 || line > STORE_PASSWORD || memchr(out, 0, line)))
        snprintf(why, STORE_WHY,
                 "store: %s: expected a password of 1 to %d bytes in its first line", path,
                 STORE_PASSWORD);
    out[why[0] ? 0 : line] = '\0';
    return !why[0];
}

static bool read_files(struct store_plan *p, const struct config_store *c, char why[STORE_WHY])
{
    char tls_why[TLS_ERROR];
    if (c->password_file && !read_password(c->password_file, p->password, why))
        return false;
    if (c->sentinel_password_file &&
        !read_password(c->sentinel_password_file, p->sentinel_password, why))
        return false;
    if (!c->tls)
        return true;
    p->redis.tls = tls_client_new(c->ca, tls_why);
    bool ok = p->redis.tls &&
              (!c->certificate || tls_client_use(p->redis.tls, c->certificate, c->key, tls_why));
    if (!ok)
        snprintf(why, STORE_WHY, "store: %s", tls_why);
    return ok;
}

// ---- addresses -----------------------------------------------------------------------------------------

static bool parse(struct addr *out, const struct config_address *a, char why[STORE_WHY])
{
    char text[ADDR_TEXT + ADDR_HOST];
    const char *wrong;
    if (a->scheme == CONFIG_UNIX)
        snprintf(text, sizeof(text), "unix:%s", a->path);
    else
        snprintf(text, sizeof(text), strchr(a->host, ':') ? "[%s]:%u" : "%s:%u", a->host, a->port);
    if (!(wrong = addr_parse(out, view_str(text), 0)))
        return true;
    snprintf(why, STORE_WHY, "store: %s: %s", a->text, wrong);
    return false;
}

static bool parse_all(struct store_plan *p, const struct config_store *c, char why[STORE_WHY])
{
    const struct config_address *list = c->redis.text       ? &c->redis
                                        : c->sentinel_count ? c->sentinels
                                                            : c->cluster;
    unsigned n = c->redis.text ? 1 : c->sentinel_count ? c->sentinel_count : c->cluster_count;
    p->addrs = mem_zalloc(n * sizeof(*p->addrs));
    if (!p->addrs)
        snprintf(why, STORE_WHY, "out of memory");
    for (unsigned i = 0; p->addrs && i < n; i++)
        if (!parse(&p->addrs[i], &list[i], why))
            return false;
    p->redis.addrs = p->addrs;
    p->redis.n_addrs = n;
    return p->addrs != NULL;
}

// ---- its life ------------------------------------------------------------------------------------------

static void fill(struct store_plan *p, const struct config_store *c)
{
    p->redis.kind = c->redis.text       ? REDIS_ALONE
                    : c->sentinel_count ? REDIS_SENTINELS
                                        : REDIS_CLUSTER;
    p->redis.master = c->master;
    p->redis.user = c->user;
    p->redis.password = c->password_file ? p->password : NULL;
    p->redis.sentinel_user = c->sentinel_user;
    p->redis.sentinel_password = c->sentinel_password_file ? p->sentinel_password : NULL;
    p->redis.database = c->redis.database;
    p->redis.timeout_us = c->timeout_us;
    snprintf(p->prefix, sizeof(p->prefix), "sluice:%s:", c->deployment);
}

static void mix(struct hash128 *face, const void *bytes, size_t n)
{
    *face = hash128(view_of(bytes, n), face->lo ^ face->hi);
}

static void mix_text(struct hash128 *face, const char *text)
{
    mix(face, text ? text : "", text ? strlen(text) + 1 : 0);
}

static struct hash128 face_of(const struct store_plan *p, const struct config_store *c)
{
    const char *const texts[] = {
        c->master, c->user,          c->password_file ? p->password : NULL,
        p->prefix, c->sentinel_user, c->sentinel_password_file ? p->sentinel_password : NULL,
        c->ca,     c->certificate,   c->key};
    uint64_t numbers[] = {p->redis.kind, p->redis.database, p->redis.timeout_us, c->tls};
    struct hash128 face = {0};
    char text[ADDR_TEXT];
    for (unsigned i = 0; i < p->redis.n_addrs; i++)
        mix_text(&face, addr_print(&p->addrs[i], text));
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        mix_text(&face, texts[i]);
    mix(&face, numbers, sizeof(numbers));
    return face;
}

struct store_plan *store_plan_of(const struct config_store *c, char why[STORE_WHY])
{
    struct store_plan *p = mem_zalloc(sizeof(*p));
    snprintf(why, STORE_WHY, "%s", p ? "" : "out of memory");
    if (!p)
        return NULL;
    atomic_init(&p->refs, 1);
    fill(p, c);
    if (parse_all(p, c, why) && read_files(p, c, why)) {
        p->face = face_of(p, c);
        return p;
    }
    store_plan_unref(p);
    return NULL;
}

struct store_plan *store_plan_new(struct config *c, struct store_plan *before, char why[STORE_WHY])
{
    why[0] = '\0';
    struct store_plan *p = c->store.on ? store_plan_of(&c->store, why) : NULL;
    if (!p)
        return NULL;
    p->config = config_ref(c);
    if (!before || !hash128_eq(before->face, p->face))
        return p;
    store_plan_unref(p);
    return store_plan_ref(before);
}

bool store_plan_check(const struct config_store *c, char why[STORE_WHY])
{
    struct store_plan *p = store_plan_of(c, why);
    store_plan_unref(p);
    return p != NULL;
}

struct store_plan *store_plan_ref(struct store_plan *p)
{
    if (p)
        atomic_fetch_add(&p->refs, 1);
    return p;
}

void store_plan_unref(struct store_plan *p)
{
    if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
        return;
    tls_client_free(p->redis.tls);
    explicit_bzero(p->password, sizeof(p->password));
    explicit_bzero(p->sentinel_password, sizeof(p->sentinel_password));
    mem_free(p->addrs);
    config_unref(p->config);
    mem_free(p);
}
