#include "gateway/admin.h"

#include "base/check.h"
#include "base/mem.h"
#include "net/server.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <unistd.h>

#define ADMIN_CONNECTIONS 256 // operators and scrapers are few

struct admin {
    struct loop *loop;
    struct server *server;
    struct server_budget *budget;
    const struct admin_pages *pages;
    void *ctx;
    char token[257];
};

struct admin_page { // one row an address; adding one is a row and its test
    const char *path;
    bool open; // needs no token
    void (*show)(struct admin *a, struct exchange *ex);
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

static void answer_error(struct exchange *ex, unsigned status, struct view json,
                         const struct http_header *extra)
{
    answer(ex, status, VIEW("application/json"), json, extra);
}

// Pages are built in a buffer of their own and copied into the exchange's arena, which lives until sent.
void admin_answer(struct exchange *ex, struct view type, struct buffer *page, bool cut)
{
    struct view body = arena_copy(&ex->arena, buffer_view(page));
    size_t wanted = buffer_len(page);
    buffer_deinit(page);
    if (cut || body.n != wanted)
        answer_error(ex, 503, VIEW("{\"error\":\"out of memory\"}"), NULL);
    else
        answer(ex, 200, type, body, NULL);
}

static void show_metrics(struct admin *a, struct exchange *ex)
{
    struct buffer page;
    buffer_init(&page);
    bool ok = a->pages->metrics(&page, a->ctx);
    admin_answer(ex, VIEW("text/plain; version=0.0.4; charset=utf-8"), &page, !ok);
}

static void show_health(struct admin *a, struct exchange *ex)
{
    if (a->pages->healthy(a->ctx))
        answer(ex, 200, VIEW("application/json"), VIEW("{\"healthy\":true}"), NULL);
    else
        answer(ex, 503, VIEW("application/json"), VIEW("{\"healthy\":false}"), NULL);
}

static void show_status(struct admin *a, struct exchange *ex)
{
    a->pages->status(ex, a->ctx);
}

static const struct admin_page pages[] = {
    {"/metrics", true, show_metrics},
    {"/healthz", true, show_health},
    {"/status", false, show_status},
};

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
    answer_error(ex, 401,
                 a->token[0] ? VIEW("{\"error\":\"authorization: expected the admin token\"}")
                             : VIEW("{\"error\":\"authorization: admin.token_file is not set, "
                                    "so this page is closed\"}"),
                 &ask);
}

// A browser that a stranger's DNS has sent to us carries the stranger's name in Host: such a request gets
// nothing that wants the token. The open pages answer under any name, as scrapers and probes use one.
static void show_page(struct admin *a, const struct admin_page *page, struct exchange *ex)
{
    if (!view_is(ex->method, "GET") && !view_is(ex->method, "HEAD")) {
        struct http_header allow = {VIEW("allow"), VIEW("GET, HEAD")};
        answer_error(ex, 405, VIEW("{\"error\":\"method: expected GET\"}"), &allow);
    } else if (!page->open && !host_is_literal(ex->authority)) {
        answer_error(ex, 403, VIEW("{\"error\":\"host: expected an address or localhost\"}"), NULL);
    } else if (!page->open && !token_fits(a, ex)) {
        refuse_token(a, ex);
    } else {
        page->show(a, ex);
    }
}

static void on_request(struct exchange *ex, void *ctx)
{
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (view_is(ex->path, pages[i].path)) {
            show_page(ctx, &pages[i], ex);
            return;
        }
    }
    answer_error(ex, 404,
                 VIEW("{\"error\":\"path: no such page; there are /metrics, /healthz, /status\"}"),
                 NULL);
}

static void on_head(struct exchange *ex, void *ctx)
{
    (void)ctx;
    ex->max_body = 1024; // no page takes a body
}

static void on_gone(struct exchange *ex, void *ctx)
{
    (void)ex;
    (void)ctx;
}

static void on_sent(struct exchange *ex, bool whole, void *ctx)
{
    (void)ex;
    (void)whole;
    (void)ctx;
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
};

struct admin *admin_new(struct loop *main, int fd, struct view token,
                        const struct http_limits *limits, const struct admin_pages *admin_pages,
                        void *ctx)
{
    struct admin *a = mem_zalloc(sizeof(*a));
    if (!a)
        return NULL;
    invariant(token.n < sizeof(a->token));
    a->loop = main;
    a->pages = admin_pages;
    a->ctx = ctx;
    if (token.n > 0)
        memcpy(a->token, token.p, token.n);
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

int admin_read_token(const char *path, char out[257], const char **why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // a FIFO must not hold us up
    if (fd < 0) {
        *why = strerror(errno);
        return -1;
    }
    ssize_t n = read(fd, out, 257);
    int error = errno;
    close(fd);
    if (n < 0) {
        *why = strerror(error);
        return -1;
    }
    if (n > 256) {
        *why = "longer than 256 bytes";
        return -1;
    }
    while (n > 0 && isspace((unsigned char)out[n - 1]))
        n--;
    out[n] = '\0';
    if (n < 16) {
        *why = "shorter than 16 bytes: too easy to guess";
        return -1;
    }
    for (ssize_t i = 0; i < n; i++) {
        // A NUL above all: what follows it would not be compared.
        if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f) {
            *why = "holds a control character, which no client could send";
            return -1;
        }
    }
    return 0;
}
