/* TLS against OpenSSL's client: versions, ALPN, resumption across loops, restarts and hosts, floods, slow
 * readers, reload; and our own client side: names, authorities, protocols. One thread: both ends step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "net/loop.h"
#include "net/tls.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/net_pem.h"
#include "tests/unit/net_sock.h"

static struct loop *loops[2];
static struct pem pem, other;
static struct tls_ticket_keys keys;
static struct tls_server *server;
static SSL_SESSION *ticket; // the newest that a client got

struct pair {
    struct echo e;
    SSL *ssl;
    int fd;
    bool up;
    int reason; // why SSL_connect failed
};

static int on_new_session(SSL *ssl, SSL_SESSION *s)
{
    SSL_SESSION_free(ticket);
    ticket = s;
    return 1;
}

struct want {
    unsigned loop;
    const char *alpn; // wire form
    const char *sni;
    int version;
    const char *ciphers;
    SSL_SESSION *resume;
};

static SSL_CTX *client_ctx(const struct want *w)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_new_session);
    if (w->version) {
        SSL_CTX_set_security_level(ctx, 0);
        SSL_CTX_set_min_proto_version(ctx, w->version);
        SSL_CTX_set_max_proto_version(ctx, w->version);
    }
    if (w->ciphers)
        SSL_CTX_set_cipher_list(ctx, w->ciphers);
    if (w->alpn)
        SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)w->alpn, (unsigned)strlen(w->alpn));
    return ctx;
}

// Both ends step until the client is up or one has failed.
static void pair_open(struct pair *p, const struct want *w)
{
    int fd[2];
    *p = (struct pair){0};
    buffer_init(&p->e.b);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    struct tls *t = tls_accept(server, w->loop, fd[0]);
    assert_non_null(t);
    assert_int_equal(sock_init(&p->e.s, loops[w->loop], fd[0], t, &echo_ops), 0);
    p->fd = fd[1];
    SSL_CTX *ctx = client_ctx(w);
    p->ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    SSL_set_fd(p->ssl, fd[1]);
    if (w->sni)
        SSL_set_tlsext_host_name(p->ssl, w->sni);
    if (w->resume) { // a copy: the library gives a session up that was offered in vain
        SSL_SESSION *copy = SSL_SESSION_dup(w->resume);
        SSL_set_session(p->ssl, copy);
        SSL_SESSION_free(copy);
    }
    sock_start(&p->e.s);
    for (int i = 0; i < 10 && !p->up; i++) {
        ERR_clear_error();
        int rc = SSL_connect(p->ssl);
        p->up = rc == 1;
        p->reason = ERR_GET_REASON(ERR_peek_error()); // the server's end shares the queue
        if (rc != 1 && SSL_get_error(p->ssl, rc) != SSL_ERROR_WANT_READ)
            break;
        loop_turn(loops[w->loop], false);
    }
    loop_turn(loops[w->loop], false);
    loop_turn(loops[w->loop], false);
}

static bool pair_echoes(struct pair *p)
{
    char buf[8] = {0};
    if (!p->up || SSL_write(p->ssl, "hello", 5) != 5)
        return false;
    loop_turn(p->e.s.loop, false);
    loop_turn(p->e.s.loop, false);
    return SSL_read(p->ssl, buf, sizeof buf) == 5 && strcmp(buf, "hello") == 0;
}

static void pair_close(struct pair *p)
{
    SSL_shutdown(p->ssl); // a session that ended badly is not resumed
    sock_close(&p->e.s);
    buffer_deinit(&p->e.b);
    SSL_free(p->ssl);
    close(p->fd);
}

static int setup(void **state)
{
    char err[TLS_ERROR];
    for (unsigned i = 0; i < 2; i++)
        loops[i] = loop_new(i, "test", 1);
    tls_ticket_keys_random(&keys);
    server = tls_server_new_mem(view_str(pem.cert), view_str(pem.key), &keys, 2, err);
    return server ? 0 : -1;
}

static int teardown(void **state)
{
    tls_server_free(server);
    for (unsigned i = 0; i < 2; i++)
        loop_free(loops[i]);
    SSL_SESSION_free(ticket);
    ticket = NULL;
    return 0;
}

static void versions(void **state)
{
    static const int good[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static const int bad[] = {TLS1_VERSION, TLS1_1_VERSION};
    struct pair p;
    for (int i = 0; i < 2; i++) {
        pair_open(&p, &(struct want){.version = good[i]});
        assert_true(pair_echoes(&p));
        assert_int_equal(p.e.opened, 1);
        pair_close(&p);
        pair_open(&p, &(struct want){.version = bad[i]});
        assert_false(p.up);
        assert_int_equal(p.e.errors, 1);
        pair_close(&p);
    }
    // suites that HTTP/2 forbids are not there at all
    pair_open(&p, &(struct want){.version = TLS1_2_VERSION,
                                 .ciphers = "AES128-SHA:AES128-GCM-SHA256"
                                            ":ECDHE-ECDSA-AES128-SHA"});
    assert_false(p.up);
    pair_close(&p);
}

static void alpn(void **state)
{
    struct pair p;
    pair_open(&p, &(struct want){.alpn = "\x08http/1.1\x02h2"});
    assert_true(pair_echoes(&p));
    assert_true(tls_is_h2(p.e.s.tls)); // the server's preference
    pair_close(&p);
    pair_open(&p, &(struct want){.alpn = "\x08http/1.1"});
    assert_true(pair_echoes(&p));
    assert_false(tls_is_h2(p.e.s.tls));
    pair_close(&p);
    pair_open(&p, &(struct want){0});
    assert_true(pair_echoes(&p));
    assert_false(tls_is_h2(p.e.s.tls));
    pair_close(&p);
    pair_open(&p, &(struct want){.alpn = "\x04smtp"});
    assert_false(p.up); // RFC 7301: alert 120
    assert_int_equal(p.reason, SSL_AD_REASON_OFFSET + 120);
    pair_close(&p);
}

static bool resumes(const struct want *w)
{
    struct pair p;
    pair_open(&p, w);
    assert_true(pair_echoes(&p));
    bool hit = SSL_session_reused(p.ssl) == 1;
    assert_int_equal(tls_resumed(p.e.s.tls), hit);
    pair_close(&p);
    return hit;
}

static void tickets_resume_on_every_loop_and_after_restart(void **state)
{
    static const int version[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    char err[TLS_ERROR];
    for (int i = 0; i < 2; i++) {
        struct want w = {.version = version[i], .sni = "a.example"};
        assert_false(resumes(&w));
        w.resume = ticket;
        SSL_SESSION_up_ref(w.resume);
        w.loop = 1;
        assert_true(resumes(&w));
        w.sni = "b.example"; // CVE-2025-23419: another host's ticket is no ticket
        assert_false(resumes(&w));
        w.sni = "a.example";
        tls_server_free(server); // restart with the same keys
        server = tls_server_new_mem(view_str(pem.cert), view_str(pem.key), &keys, 2, err);
        assert_true(resumes(&w));
        tls_server_free(server); // rotated once: the old key still opens
        tls_ticket_keys_rotate(&keys);
        server = tls_server_new_mem(view_str(pem.cert), view_str(pem.key), &keys, 2, err);
        assert_true(resumes(&w));
        tls_server_free(server); // another certificate
        server = tls_server_new_mem(view_str(other.cert), view_str(other.key), &keys, 2, err);
        assert_false(resumes(&w));
        tls_server_free(server); // keys gone
        tls_ticket_keys_random(&keys);
        server = tls_server_new_mem(view_str(pem.cert), view_str(pem.key), &keys, 2, err);
        assert_false(resumes(&w));
        SSL_SESSION_free(w.resume);
    }
}

// New keys while the loops run: what was sealed before resumes on every loop and is sealed anew; what the
// oldest key sealed resumes no more when that is gone.
static void keys_rotate_under_running_loops(void **state)
{
    char err[TLS_ERROR];
    tls_server_free(server);
    tls_ticket_keys_random(&keys);
    server = tls_server_new_mem(view_str(pem.cert), view_str(pem.key), &keys, 2, err);
    struct want w = {.sni = "a.example"};
    assert_false(resumes(&w));
    SSL_SESSION *first = w.resume = ticket;
    SSL_SESSION_up_ref(first);
    for (unsigned day = 1; day <= TLS_TICKET_KEYS; day++) {
        tls_ticket_keys_rotate(&keys);
        tls_server_set_keys(server, &keys, NULL, loops);
        loop_turn(loops[0], false);
        loop_turn(loops[1], false);
        for (w.loop = 0; w.loop < 2; w.loop++)
            assert_int_equal(resumes(&w), day < TLS_TICKET_KEYS);
    }
    SSL_SESSION_free(first);
}

// Everything a client writes comes back, whatever the sizes, with a reader that sips.
static void passes(struct pair *p, size_t total, size_t piece, size_t sip)
{
    uint8_t *out = malloc(total), *in = malloc(sip);
    size_t sent = 0, got = 0;
    for (size_t i = 0; i < total; i++)
        out[i] = (uint8_t)(i * 31 + (i >> 8));
    SSL_set_mode(p->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    for (unsigned idle = 0; got < total && idle < 10000; idle++) {
        size_t n = total - sent < piece ? total - sent : piece;
        int put = n ? SSL_write(p->ssl, out + sent, (int)n) : 0;
        sent += put > 0 ? (size_t)put : 0;
        loop_turn(p->e.s.loop, false);
        int took = SSL_read(p->ssl, in, (int)sip);
        if (took > 0 && memcmp(in, out + got, (size_t)took) != 0)
            fail_msg("wrong bytes behind %zu", got);
        got += took > 0 ? (size_t)took : 0;
        if (put > 0 || took > 0)
            idle = 0;
    }
    free(out);
    free(in);
    assert_int_equal(got, total);
    assert_int_equal(p->e.errors, 0);
}

static void bytes_come_back(void **state)
{
    static const struct {
        size_t total, piece, sip;
    } way[] = {{3u << 20, 100000, 100000}, {2u << 20, 1u << 20, 3000}, {2000, 1, 1}};
    struct pair p;
    for (unsigned i = 0; i < 3; i++) {
        pair_open(&p, &(struct want){0});
        passes(&p, way[i].total, way[i].piece, way[i].sip);
        pair_close(&p);
    }
}

static void end_of_stream_is_told_behind_the_data(void **state)
{
    struct pair p;
    pair_open(&p, &(struct want){0});
    assert_int_equal(SSL_write(p.ssl, "bye", 3), 3);
    SSL_shutdown(p.ssl);
    shutdown(p.fd, SHUT_WR);
    for (int i = 0; i < 4; i++)
        loop_turn(loops[0], false);
    assert_int_equal(p.e.got, 3);
    assert_int_equal(p.e.eofs, 1);
    char buf[8];
    assert_int_equal(SSL_read(p.ssl, buf, sizeof buf), 3); // our half was still open
    pair_close(&p);
}

static void key_updates_are_bounded(void **state)
{
    struct pair p;
    pair_open(&p, &(struct want){.version = TLS1_3_VERSION});
    assert_true(pair_echoes(&p));
    for (int i = 0; i < 10; i++) { // a few are fine
        assert_int_equal(SSL_key_update(p.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_true(pair_echoes(&p));
    }
    for (int i = 0; i < 100 && !p.e.errors; i++) {
        SSL_key_update(p.ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
        SSL_do_handshake(p.ssl);
        loop_turn(loops[0], false);
    }
    assert_int_equal(p.e.errors, 1);
    assert_string_equal(p.e.why, "too many key updates");
    pair_close(&p);
}

static void junk_is_an_error(void **state)
{
    static const char *const junk[] = {"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
                                       "\x16\x03\x01\xff\xff\x01",
                                       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
    for (unsigned i = 0; i < 3; i++) {
        int fd[2];
        struct echo e = {0};
        buffer_init(&e.b);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
        sock_init(&e.s, loops[0], fd[0], tls_accept(server, 0, fd[0]), &echo_ops);
        sock_start(&e.s);
        send(fd[1], junk[i], strlen(junk[i]), 0);
        loop_turn(loops[0], false);
        shutdown(fd[1], SHUT_WR);
        loop_turn(loops[0], false);
        assert_int_equal(e.errors, 1);
        assert_int_equal(e.opened, 0);
        sock_close(&e.s);
        buffer_deinit(&e.b);
        close(fd[1]);
    }
}

static void broken_files_are_named_and_others_take_their_place(void **state)
{
    char dir[] = "/tmp/sluice-tls-XXXXXX", cert[64], key[64], bad[64], err[TLS_ERROR];
    assert_non_null(mkdtemp(dir));
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    snprintf(bad, sizeof bad, "%s/bad.pem", dir);
    assert_null(tls_server_new(cert, key, &keys, 2, err));
    assert_non_null(strstr(err, cert));
    assert_non_null(strstr(err, "No such file"));
    pem_file(cert, pem.cert);
    assert_null(tls_server_new(cert, key, &keys, 2, err));
    assert_non_null(strstr(err, key));
    pem_file(key, pem.key);
    pem_file(bad, other.key);
    assert_null(tls_server_new(cert, bad, &keys, 2, err));
    assert_non_null(strstr(err, "fit"));
    pem.cert[300] ^= 1; // half-written or damaged
    pem_file(bad, pem.cert);
    pem.cert[300] ^= 1;
    assert_null(tls_server_new(bad, key, &keys, 2, err));
    assert_non_null(strstr(err, bad));
    assert_null(tls_server_new(dir, key, &keys, 2, err));
    assert_non_null(strstr(err, "directory"));

    struct want w = {.sni = "a.example"};
    assert_false(resumes(&w));
    w.resume = ticket;
    SSL_SESSION_up_ref(w.resume);
    assert_true(resumes(&w));
    pem_file(cert, other.cert);
    pem_file(key, other.key);
    struct pair old, p; // a connection outlives the contexts that it began by
    pair_open(&old, &(struct want){0});
    tls_server_free(server);
    server = tls_server_new(cert, key, &keys, 2, err);
    assert_non_null(server);
    pair_close(&old);
    pair_open(&p, &(struct want){0});
    X509 *now = SSL_get1_peer_certificate(p.ssl);
    BIO *bio = BIO_new_mem_buf(other.cert, -1);
    X509 *want = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    assert_int_equal(X509_cmp(now, want), 0);
    X509_free(now);
    X509_free(want);
    BIO_free(bio);
    pair_close(&p);
    SSL_SESSION_free(w.resume);
    unlink(cert);
    unlink(key);
    unlink(bad);
    rmdir(dir);
}

// ---- our client against our server -----------------------------------------------------------------------

static const char *connects(struct pem *trusted, const char *host)
{
    static char why[160];
    char path[] = "/tmp/sluice-ca-XXXXXX", err[TLS_ERROR];
    int ca = mkstemp(path), fd[2];
    close(ca);
    pem_file(path, trusted->cert);
    struct tls_client *client = tls_client_new(path, err);
    unlink(path);
    assert_non_null(client);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
    struct echo s = {0}, c = {.sink = true};
    buffer_init(&s.b);
    buffer_init(&c.b);
    sock_init(&s.s, loops[0], fd[0], tls_accept(server, 0, fd[0]), &echo_ops);
    sock_init(&c.s, loops[1], fd[1], tls_connect(client, host, fd[1]), &echo_ops);
    sock_start(&s.s);
    sock_start(&c.s);
    for (int i = 0; i < 10; i++) {
        loop_turn(loops[1], false);
        loop_turn(loops[0], false);
    }
    snprintf(why, sizeof why, "%s", c.errors ? c.why : c.opened ? "up" : "hangs");
    sock_close(&s.s);
    sock_close(&c.s);
    buffer_deinit(&s.b);
    buffer_deinit(&c.b);
    tls_client_free(client);
    return why;
}

static void upstream_names_are_verified(void **state)
{
    char err[TLS_ERROR];
    assert_string_equal(connects(&pem, "a.example"), "up");
    assert_string_equal(connects(&pem, "127.0.0.1"), "up");
    assert_string_equal(connects(&pem, "wrong.example"), "hostname mismatch");
    assert_string_equal(connects(&pem, "127.0.0.2"), "IP address mismatch");
    assert_string_not_equal(connects(&other, "a.example"), "up"); // nobody we trust
    struct pem old;
    pem_make(&old, "a.example", -7200, -3600);
    tls_server_free(server);
    server = tls_server_new_mem(view_str(old.cert), view_str(old.key), &keys, 2, err);
    assert_string_equal(connects(&old, "a.example"), "certificate has expired");
    assert_null(tls_client_new("/nonexistent/ca.pem", err));
    assert_non_null(strstr(err, "/nonexistent/ca.pem"));
}

// A server that asks for a certificate, and trusts the one that it has itself. True: it let the client in, who showed it.
static bool is_let_in(struct tls_client *client, const char *cert, const char *key)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate_file(ctx, cert, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_load_verify_locations(ctx, cert, NULL), 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL *here = tls_client_ssl(client, "a.example"), *there = SSL_new(ctx);
    BIO *near, *far;
    assert_int_equal(BIO_new_bio_pair(&near, 1 << 16, &far, 1 << 16), 1);
    SSL_set_bio(here, near, near);
    SSL_set_bio(there, far, far);
    SSL_set_accept_state(there);
    bool in = false;
    for (int i = 0; i < 10 && !in; i++) {
        SSL_do_handshake(here);
        in = SSL_do_handshake(there) == 1;
    }
    ERR_clear_error();
    SSL_free(here);
    SSL_free(there);
    SSL_CTX_free(ctx);
    return in;
}

static void our_own_certificate_is_shown(void **state)
{
    char dir[] = "/tmp/sluice-tls-XXXXXX", cert[64], key[64], wrong[64], err[TLS_ERROR];
    assert_non_null(mkdtemp(dir));
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    snprintf(wrong, sizeof wrong, "%s/wrong.pem", dir);
    pem_file(cert, pem.cert);
    pem_file(key, pem.key);
    pem_file(wrong, other.key);
    struct tls_client *client = tls_client_new(cert, err);
    assert_non_null(client);
    assert_false(is_let_in(client, cert, key)); // it has none
    assert_false(tls_client_use(client, "/nonexistent.pem", key, err));
    assert_non_null(strstr(err, "certificate /nonexistent.pem: No such file"));
    assert_false(tls_client_use(client, cert, "/nonexistent.pem", err));
    assert_non_null(strstr(err, "key /nonexistent.pem: No such file"));
    assert_false(tls_client_use(client, cert, wrong, err));
    assert_non_null(strstr(err, "does not fit the certificate"));
    assert_true(tls_client_use(client, cert, key, err));
    assert_true(is_let_in(client, cert, key));
    tls_client_free(client);
    unlink(cert);
    unlink(key);
    unlink(wrong);
    rmdir(dir);
}

int main(void)
{
    alarm(300);
    net_init();
    pem_make(&pem, "a.example", -60, 3600);
    pem_make(&other, "a.example", -60, 3600);
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(versions),
        TEST(alpn),
        TEST(tickets_resume_on_every_loop_and_after_restart),
        TEST(keys_rotate_under_running_loops),
        TEST(bytes_come_back),
        TEST(end_of_stream_is_told_behind_the_data),
        TEST(key_updates_are_bounded),
        TEST(junk_is_an_error),
        TEST(broken_files_are_named_and_others_take_their_place),
        TEST(upstream_names_are_verified),
        TEST(our_own_certificate_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
