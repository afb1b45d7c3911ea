#include "gateway/admin.h"

#include "base/check.h"
#include "base/json.h"
#include "base/mem.h"
#include "net/server.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <unistd.h>

#define ADMIN_CONNECTIONS                                                                          \
    1280 // operators and scrapers are few, readers of events EVENTS_READERS at most
#define JSON VIEW("application/json")

struct admin {
    struct loop *loop;
    struct server *server;
    struct server_budget *budget;
    const struct admin_page *pages;
    unsigned n_pages;
    void *ctx;
    char token[TOKEN_BYTES + 1];
};

static void answer(struct exchange *ex, unsigned status, struct view type, struct view body,
                   const struct http_header *extra)
{
    struct http_header headers[3] = {
        {VIEW("content-type"), type},
        {VIEW("cache-control"), VIEW("no-store")},
    };
    if (extra)
        headers[2] = *extra;
    struct http_seg seg = {(const uint8_t *)body.p, body.n, NULL};
    struct http_response r = {.status = (uint16_t)status,
                              .headers = headers,
                              .n_headers = extra ? 3 : 2,
                              .body = &seg,
                              .n_body = body.n ? 1 : 0};
    server_respond(ex, &r, ex->conn ? loop_now_us(server_conn_loop(ex->conn)) : 0);
}

// What is built for one answer is copied into the exchange's arena, which lives until it was sent.
static void answer_built(struct exchange *ex, unsigned status, struct view type,
                         struct buffer *page, bool cut, const struct http_header *extra)
{
    struct view body = arena_copy(&ex->arena, buffer_view(page));
    cut |= body.n != buffer_len(page);
    buffer_deinit(page);
    if (cut)
        answer(ex, 503, JSON, VIEW("{\"error\":\"out of memory\"}"), NULL);
    else
        answer(ex, status, type, body, extra);
}

void admin_answer(struct exchange *ex, unsigned status, struct view type, struct buffer *page,
                  bool cut)
{
    answer_built(ex, status, type, page, cut, NULL);
}

struct json_writer *admin_json_begin(struct admin_json *j)
{
    buffer_init(&j->page);
    json_write(&j->w, &j->page);
    json_w_object(&j->w);
    return &j->w;
}

void admin_json_end(struct admin_json *j, struct exchange *ex, unsigned status)
{
    json_w_object_end(&j->w);
    answer_built(ex, status, JSON, &j->page, j->w.failed, NULL);
}

void admin_refuse(struct exchange *ex, unsigned status, struct view why)
{
    struct admin_json page;
    struct json_writer *w = admin_json_begin(&page);
    json_w_key(w, VIEW("error"));
    json_w_string(w, why);
    admin_json_end(&page, ex, status);
}

// "127.0.0.1:9090", "[::1]:9090", "localhost": what cannot be re-bound to us by a stranger's DNS.
static bool host_is_literal(struct view host)
{
    if (host.n == 0 || host.p[0] == '[')
        return host.n > 0;
    size_t n = 0;
    while (n < host.n && host.p[n] != ':')
        n++;
    struct view name = view_of(host.p, n);
    if (view_is(name, "localhost"))
        return true;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)name.p[i]) && name.p[i] != '.')
            return false;
    }
    return n > 0;
}

static bool token_fits(const struct admin *a, const struct exchange *ex)
{
    struct view h = exchange_header(ex, "authorization");
    size_t n = strlen(a->token);
    if (n == 0 || h.n != n + 7 || strncasecmp(h.p, "bearer ", 7) != 0)
        return false;
    return CRYPTO_memcmp(h.p + 7, a->token, n) == 0;
}

static void refuse_token(const struct admin *a, struct exchange *ex)
{
    struct http_header ask = {VIEW("www-authenticate"), VIEW("Bearer")};
    answer(ex, 401, JSON,
           a->token[0] ? VIEW("{\"error\":\"authorization: expected the admin token\"}")
                       : VIEW("{\"error\":\"authorization: admin.token_file is not set, "
                              "so this page is closed\"}"),
           &ask);
}

static bool add(struct buffer *b, const char *text)
{
    return buffer_append(b, text, strlen(text));
}

static bool has_path(const struct admin_page *page, struct view path)
{
    size_t n = strlen(page->path);
    if (page->path[n - 1] != '/' || n == 1)
        return view_is(path, page->path);
    return path.n > n && memcmp(path.p, page->path, n) == 0;
}

// Nobody has such a page: they are named, each once.
static void refuse_path(const struct admin *a, struct exchange *ex)
{
    struct buffer page;
    buffer_init(&page);
    bool ok = add(&page, "{\"error\":\"path: no such page; there are ");
    for (unsigned i = 0; i < a->n_pages; i++) {
        const char *path = a->pages[i].path;
        if (i == 0 || strcmp(path, a->pages[i - 1].path) != 0)
            ok = ok && (i == 0 || add(&page, ", ")) && add(&page, path);
    }
    ok = ok && add(&page, "\"}");
    answer_built(ex, 404, JSON, &page, !ok, NULL);
}

// The page is there, not for this method. allow: those that it has (RFC 9110, 15.5.6).
static void refuse_method(const struct admin *a, struct exchange *ex)
{
    struct buffer page, allow;
    buffer_init(&page);
    buffer_init(&allow);
    bool ok = true;
    for (unsigned i = 0; i < a->n_pages; i++) {
        const struct admin_page *p = &a->pages[i];
        if (has_path(p, ex->path))
            ok = ok && (buffer_len(&allow) == 0 || add(&allow, ", ")) && add(&allow, p->method) &&
                 (strcmp(p->method, "GET") != 0 || add(&allow, ", HEAD"));
    }
    ok = ok && add(&page, "{\"error\":\"method: expected ") &&
         buffer_append(&page, buffer_view(&allow).p, buffer_len(&allow)) && add(&page, "\"}");
    struct http_header named = {VIEW("allow"), buffer_view(&allow)};
    answer_built(ex, 405, JSON, &page, !ok, &named);
    buffer_deinit(&allow);
}

// "https://" too: whoever ends TLS before us passes Host on.
static bool origin_is_ours(const struct exchange *ex)
{
    struct view origin = exchange_header(ex, "origin"), host = ex->authority;
    size_t scheme = origin.n >= 8 && memcmp(origin.p, "https://", 8) == 0 ? 8 : 7;
    if (!origin.p)
        return true; // no browser, or its own page that reads
    return origin.n == scheme + host.n && (scheme == 8 || memcmp(origin.p, "http://", 7) == 0) &&
           memcmp(origin.p + scheme, host.p, host.n) == 0;
}

// A browser that a stranger's DNS has sent to us carries the stranger's name in Host: such a request gets
// nothing that wants the token. The open pages answer under any name, as scrapers and probes use one.
static void open_page(struct admin *a, const struct admin_page *page, struct exchange *ex)
{
    if (page->rights != ADMIN_OPEN && !host_is_literal(ex->authority))
        admin_refuse(ex, 403, VIEW("host: expected an address or localhost"));
    else if (page->rights != ADMIN_OPEN && !origin_is_ours(ex))
        admin_refuse(ex, 403, VIEW("origin: expected a page of this listener"));
    else if (page->rights != ADMIN_OPEN && !token_fits(a, ex))
        refuse_token(a, ex);
    else
        page->fn(ex, a->ctx);
}

// NULL: there is none for that method; *known: but for another one.
static const struct admin_page *find_page(const struct admin *a, const struct exchange *ex,
                                          bool *known)
{
    struct view method = view_is(ex->method, "HEAD") ? VIEW("GET") : ex->method;
    *known = false;
    for (unsigned i = 0; i < a->n_pages; i++) {
        if (!has_path(&a->pages[i], ex->path))
            continue;
        if (view_is(method, a->pages[i].method))
            return &a->pages[i];
        *known = true;
    }
    return NULL;
}

static void on_request(struct exchange *ex, void *ctx)
{
    struct admin *a = ctx;
    bool known;
    const struct admin_page *page = find_page(a, ex, &known);
    if (page)
        open_page(a, page, ex);
    else if (known)
        refuse_method(a, ex);
    else
        refuse_path(a, ex);
}

static void on_head(struct exchange *ex, void *ctx)
{
    const struct admin *a = ctx;
    bool known;
    const struct admin_page *page = find_page(a, ex, &known);
    bool large = page && page->rights == ADMIN_LARGE && token_fits(a, ex);
    ex->max_body = large ? ADMIN_LARGE_BODY : ADMIN_BODY;
}

static void on_gone(struct exchange *ex, void *ctx)
{
    (void)ex;
    (void)ctx;
}

static void on_sent(struct exchange *ex, bool whole, void *ctx)
{
    struct admin_stream *stream = ex->user;
    (void)whole;
    (void)ctx;
    if (stream)
        stream->ended(ex);
}

static void on_want(struct exchange *ex, void *ctx)
{
    struct admin_stream *stream = ex->user;
    (void)ctx;
    stream->want(ex);
}

static void on_refuse(struct http_conn *c, struct exchange *ex, unsigned status, const char *why,
                      void *ctx)
{
    (void)c;
    (void)ex;
    (void)status;
    (void)why;
    (void)ctx;
}

static const struct http_server_ops admin_ops = {
    .on_head = on_head,
    .on_request = on_request,
    .on_gone = on_gone,
    .on_sent = on_sent,
    .on_refuse = on_refuse,
    .on_want = on_want,
};

void admin_set_token(struct admin *a, struct view token)
{
    invariant(token.n < sizeof(a->token));
    OPENSSL_cleanse(a->token, sizeof(a->token));
    if (token.n > 0)
        memcpy(a->token, token.p, token.n);
}

void admin_set_limits(struct admin *a, const struct http_limits *limits)
{
    server_adopt(a->server, 0, limits, NULL);
}

struct admin *admin_new(struct loop *main, int fd, struct view token,
                        const struct http_limits *limits, const struct admin_page *pages,
                        unsigned n_pages, void *ctx)
{
    struct admin *a = mem_zalloc(sizeof(*a));
    if (!a)
        return NULL;
    a->loop = main;
    a->pages = pages;
    a->n_pages = n_pages;
    a->ctx = ctx;
    admin_set_token(a, token);
    a->budget = server_budget_new(ADMIN_CONNECTIONS, 0, rand_u64(&main->rand));
    struct server_config config = {
        .name = "admin", .limits = limits, .ops = &admin_ops, .ctx = a, .budget = a->budget};
    a->server = a->budget ? server_new(&config, &main, 1, &fd, 1) : NULL;
    if (!a->server) {
        server_budget_free(a->budget);
        mem_free(a);
        return NULL;
    }
    return a;
}

void admin_start(struct admin *a)
{
    server_start(a->server, a->loop);
}

void admin_free(struct admin *a)
{
    if (!a)
        return;
    server_free(a->server);
    server_budget_free(a->budget);
    OPENSSL_cleanse(a->token, sizeof(a->token));
    mem_free(a);
}

int admin_read_token(const char *path, char out[TOKEN_BYTES + 1], const char **why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // a FIFO must not hold us up
    if (fd < 0) {
        *why = strerror(errno);
        return -1;
    }
    ssize_t n = read(fd, out, TOKEN_BYTES + 1);
    int error = errno;
    close(fd);
    if (n < 0)
        *why = strerror(error);
    else if (n > TOKEN_BYTES)
        *why = "longer than 256 bytes";
    else
        *why = token_trim(out, (size_t)n);
    return *why ? -1 : 0;
}
