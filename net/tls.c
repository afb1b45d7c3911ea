#include "net/tls.h"
#include "base/buffer.h"
#include "base/check.h"
#include "base/mem.h"
#include "net/tls_ctx.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEM_MAX (1u << 20)
#define RECORD_MAX LOOP_RECORD

// ---- contexts of a listener ------------------------------------------------------------------------------

struct tls_server {
    unsigned n;
    SSL_CTX *ctx[LOOPS_MAX]; // [i] is touched on loop i's thread once the loops run
};

// Whole file; the key's bytes are wiped by the caller.
static bool read_pem(struct buffer *b, const char *what, const char *path, char err[TLS_ERROR])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    ssize_t got = -1;
    buffer_init(b);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            errno = EISDIR;
        else if (st.st_size > PEM_MAX)
            errno = EFBIG;
        else if (buffer_reserve(b, PEM_MAX))
            got = 0;
    }
    while (got >= 0 && buffer_len(b) < PEM_MAX) {
        got = read(fd, b->data + b->end, PEM_MAX - b->end);
        if (got < 0 && errno == EINTR)
            got = 0;
        else if (got <= 0)
            break;
        buffer_commit(b, (size_t)got);
    }
    if (got < 0)
        snprintf(err, TLS_ERROR, "%s %.200s: %s", what, path, strerrordesc_np(errno));
    if (fd >= 0)
        close(fd);
    return got >= 0;
}

static void wipe(struct buffer *b)
{
    if (b->data)
        OPENSSL_cleanse(b->data, b->cap);
    buffer_deinit(b);
}

// Either way both are the caller's to wipe.
static bool read_pair(struct buffer *cert, struct buffer *key, const char *cert_file,
                      const char *key_file, char err[TLS_ERROR])
{
    buffer_init(key);
    return read_pem(cert, "certificate", cert_file, err) && read_pem(key, "key", key_file, err);
}

static bool build(SSL_CTX **ctx, unsigned n, struct view cert, const char *cert_name,
                  struct view key, const char *key_name, const struct tls_ticket_keys *keys,
                  char err[TLS_ERROR])
{
    struct tls_ticket_keys own;
    if (!keys) { // all loops share one even when nobody keeps it
        tls_ticket_keys_random(&own);
        keys = &own;
    }
    for (unsigned i = 0; i < n; i++) {
        ctx[i] = tls_ctx_server(cert, cert_name, key, key_name, keys, err);
        if (ctx[i])
            continue;
        while (i > 0)
            SSL_CTX_free(ctx[--i]);
        return false;
    }
    return true;
}

static struct tls_server *server_of(struct view cert, const char *cert_name, struct view key,
                                    const char *key_name, const struct tls_ticket_keys *keys,
                                    unsigned n_loops, char err[TLS_ERROR])
{
    invariant(n_loops > 0 && n_loops <= LOOPS_MAX);
    struct tls_server *t = mem_must_zero(sizeof *t);
    t->n = n_loops;
    if (build(t->ctx, n_loops, cert, cert_name, key, key_name, keys, err))
        return t;
    mem_free(t);
    return NULL;
}

struct tls_server *tls_server_new(const char *cert_file, const char *key_file,
                                  const struct tls_ticket_keys *keys, unsigned n_loops,
                                  char err[TLS_ERROR])
{
    struct buffer cert, key;
    struct tls_server *t = NULL;
    if (read_pair(&cert, &key, cert_file, key_file, err))
        t = server_of(buffer_view(&cert), cert_file, buffer_view(&key), key_file, keys, n_loops,
                      err);
    wipe(&key);
    wipe(&cert);
    return t;
}

struct tls_server *tls_server_new_mem(struct view cert_pem, struct view key_pem,
                                      const struct tls_ticket_keys *keys, unsigned n_loops,
                                      char err[TLS_ERROR])
{
    return server_of(cert_pem, "(memory)", key_pem, "(memory)", keys, n_loops, err);
}

void tls_server_free(struct tls_server *t)
{
    if (!t)
        return;
    for (unsigned i = 0; i < t->n; i++)
        SSL_CTX_free(t->ctx[i]);
    mem_free(t);
}

struct new_keys {
    struct loop_task task;
    struct tls_server *server;
    struct tls_ticket_keys keys;
};

static void on_new_keys(struct loop *l, struct loop_task *task)
{
    struct new_keys *k = (struct new_keys *)task;
    tls_ctx_set_keys(k->server->ctx[l->index], &k->keys);
    OPENSSL_cleanse(k, sizeof *k);
    mem_free(k);
}

void tls_server_set_keys(struct tls_server *t, const struct tls_ticket_keys *keys,
                         struct loop *from, struct loop *const *loops)
{
    for (unsigned i = 0; i < t->n; i++) {
        struct new_keys *k = mem_zalloc(sizeof *k);
        if (!k)
            continue; // no memory: that loop seals with the old key until the next time
        *k = (struct new_keys){.task.fn = on_new_keys, .server = t, .keys = *keys};
        loop_post_task(from, loops[i], &k->task);
    }
}

struct tls_client {
    SSL_CTX *ctx;
};

struct tls_client *tls_client_new(const char *ca_file, char err[TLS_ERROR])
{
    SSL_CTX *ctx = tls_ctx_client(ca_file, err);
    if (!ctx)
        return NULL;
    struct tls_client *t = mem_must(sizeof *t);
    t->ctx = ctx;
    return t;
}

bool tls_client_use(struct tls_client *t, const char *cert_file, const char *key_file,
                    char err[TLS_ERROR])
{
    struct buffer cert, key;
    bool ok = read_pair(&cert, &key, cert_file, key_file, err) &&
              tls_ctx_use(t->ctx, buffer_view(&cert), cert_file, buffer_view(&key), key_file, err);
    wipe(&key);
    wipe(&cert);
    return ok;
}

void tls_client_free(struct tls_client *t)
{
    if (t)
        SSL_CTX_free(t->ctx);
    mem_free(t);
}

// ---- one connection ------------------------------------------------------------------------------------

static struct tls *new_on(SSL_CTX *ctx, int fd, bool client)
{
    struct tls *t = mem_zalloc(sizeof *t);
    SSL *ssl = t ? SSL_new(ctx) : NULL;
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        ERR_clear_error();
        SSL_free(ssl);
        mem_free(t);
        return NULL;
    }
    t->ssl = ssl;
    t->client = client;
    SSL_set_app_data(ssl, t);
    if (client)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    return t;
}

struct tls *tls_accept(struct tls_server *t, unsigned loop_index, int fd)
{
    invariant(loop_index < t->n);
    return new_on(t->ctx[loop_index], fd, false);
}

// Without the name nothing would be verified.
static bool verify_host(SSL *ssl, const char *host)
{
    struct in6_addr ip;
    bool is_ip = inet_pton(AF_INET, host, &ip) == 1 || inet_pton(AF_INET6, host, &ip) == 1;
    int ok = is_ip ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host)
                   : SSL_set1_host(ssl, host) && SSL_set_tlsext_host_name(ssl, host);
    return ok == 1;
}

struct tls *tls_connect(struct tls_client *c, const char *host, int fd)
{
    struct tls *t = new_on(c->ctx, fd, true);
    if (!t || verify_host(t->ssl, host))
        return t;
    tls_free(t);
    return NULL;
}

SSL *tls_client_ssl(struct tls_client *c, const char *host)
{
    SSL *ssl = SSL_new(c->ctx);
    if (ssl && SSL_set_alpn_protos(ssl, NULL, 0) == 0 && verify_host(ssl, host)) {
        SSL_set_connect_state(ssl);
        return ssl;
    }
    ERR_clear_error();
    SSL_free(ssl);
    return NULL;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    SSL_free(t->ssl);
    if (t->saved)
        OPENSSL_cleanse(t->saved, t->saved_bytes);
    mem_free(t->saved);
    mem_free(t);
}

// What an SSL_ call's failure means; the end is remembered.
static enum tls_io outcome(struct tls *t, int rc)
{
    int err = errno;
    if (t->broken)
        return TLS_BROKEN;
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return TLS_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        t->eof = true;
        return TLS_EOF;
    case SSL_ERROR_SYSCALL:
        t->broken = true;
        t->why = err ? strerrordesc_np(err) : "closed without a word";
        return TLS_BROKEN;
    default: {
        long verify = SSL_get_verify_result(t->ssl);
        t->broken = true;
        t->why = tls_ctx_reason();
        if (t->client && verify != X509_V_OK)
            t->why = X509_verify_cert_error_string(verify);
        return TLS_BROKEN;
    }
    }
}

enum tls_io tls_handshake(struct tls *t)
{
    if (t->broken)
        return TLS_BROKEN;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_do_handshake(t->ssl);
    if (rc != 1)
        return outcome(t, rc);
    if (t->client && !tls_is_h2(t)) {
        t->broken = true;
        t->why = "the server does not speak h2";
        return TLS_BROKEN;
    }
    return TLS_OK;
}

enum tls_io tls_read(struct tls *t, void *p, size_t cap, size_t *n)
{
    *n = 0;
    if (t->broken || t->eof)
        return t->broken ? TLS_BROKEN : TLS_EOF;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_read_ex(t->ssl, p, cap, n);
    t->bytes_in += *n;
    return rc == 1 && !t->broken ? TLS_OK : outcome(t, rc);
}

bool tls_pending(const struct tls *t)
{
    return t->saved_bytes > 0;
}

enum tls_io tls_flush(struct tls *t)
{
    if (t->broken)
        return TLS_BROKEN;
    if (t->saved_bytes == 0)
        return TLS_OK;
    size_t n = 0;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_write_ex(t->ssl, t->saved, t->saved_bytes, &n);
    if (rc != 1)
        return outcome(t, rc);
    // One record at most: it goes whole.
    if (never(n != t->saved_bytes)) {
        t->broken = true;
        t->why = "a record was cut";
        return TLS_BROKEN;
    }
    OPENSSL_cleanse(t->saved, n);
    mem_free(t->saved);
    t->saved = NULL;
    t->saved_bytes = 0;
    return TLS_OK;
}

enum tls_io tls_write(struct tls *t, const void *p, size_t bytes, size_t *n)
{
    *n = 0;
    if (t->broken)
        return TLS_BROKEN;
    if (bytes > RECORD_MAX)
        bytes = RECORD_MAX;
    ERR_clear_error();
    errno = 0;
    int rc = SSL_write_ex(t->ssl, p, bytes, n);
    if (rc == 1)
        return TLS_OK;
    enum tls_io io = outcome(t, rc);
    if (io != TLS_WANT_WRITE && io != TLS_WANT_READ)
        return io;
    // The library demands the same bytes again (they may already be sealed, or an answer to a
    // KeyUpdate stands before them), while the rooms above may have dropped them by then.
    t->saved = mem_alloc(bytes);
    if (!t->saved) {
        t->broken = true;
        t->why = "out of memory";
        return TLS_BROKEN;
    }
    memcpy(t->saved, p, bytes);
    t->saved_bytes = bytes;
    *n = bytes;
    return TLS_OK;
}

void tls_shut(struct tls *t)
{
    ERR_clear_error();
    if (!t->broken && !SSL_in_init(t->ssl))
        SSL_shutdown(t->ssl);
    ERR_clear_error();
}

const char *tls_why(const struct tls *t)
{
    return t->why ? t->why : "TLS failure";
}

bool tls_is_h2(const struct tls *t)
{
    const unsigned char *p = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(t->ssl, &p, &n);
    return view_is(view_of(p, n), "h2");
}

bool tls_resumed(const struct tls *t)
{
    return SSL_session_reused(t->ssl) == 1;
}
