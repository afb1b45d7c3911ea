#include "net/tls_ctx.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/mem.h"
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>

// With these alone, HTTP/2's forbidden suites (RFC 9113, appendix A) cannot be chosen under TLS 1.2, so
// INADEQUATE_SECURITY has no case.
#define TLS12_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"
#define KEY_UPDATES_FREE                                                                           \
    16 // beside one for each MiB that came (RFC 8446, 4.6.3 sets no bound: row 127)

static const unsigned char alpn_server[] = "\x02h2\x08http/1.1";
static const unsigned char alpn_client[] = "\x02h2";

static int keys_index = -1; // of struct tls_ticket_keys in an SSL_CTX
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_keys(void *parent, void *p, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
    if (p)
        OPENSSL_cleanse(p, sizeof(struct tls_ticket_keys));
    mem_free(p);
}

static void init_once(void)
{
    keys_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_keys);
}

const char *tls_ctx_reason(void)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e ? ERR_reason_error_string(e) : NULL;
    ERR_clear_error();
    return reason ? reason : "TLS failure";
}

// ---- tickets -------------------------------------------------------------------------------------------

static int ticket_crypt(const uint8_t *key, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                        EVP_MAC_CTX *mac, int enc)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(key + 48), 32),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end()};
    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key + 16, iv, enc) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

// OpenSSL's contract: 1 fine, 2 fine and renew, 0 unknown key (full handshake), -1 failure.
static int on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                         EVP_MAC_CTX *mac, int enc)
{
    const struct tls_ticket_keys *k = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), keys_index);
    if (!k || k->n == 0)
        return 0;
    if (enc) {
        if (RAND_bytes(iv, 16) != 1)
            return -1;
        memcpy(name, k->key[0], 16);
        return ticket_crypt(k->key[0], iv, cipher, mac, 1) ? 1 : -1;
    }
    for (unsigned i = 0; i < k->n; i++) {
        if (memcmp(name, k->key[i], 16) == 0)
            return !ticket_crypt(k->key[i], iv, cipher, mac, 0) ? -1 : i == 0 ? 1 : 2;
    }
    return 0;
}

// A ticket is good for the name it was given under only (CVE-2025-23419): the name's hash rides in it.
static int on_client_hello(SSL *ssl, int *alert, void *arg)
{
    struct tls *t = SSL_get_app_data(ssl);
    const unsigned char *ext;
    size_t n;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &ext, &n) == 1)
        t->host_hash = hash64(view_of(ext, n), 1);
    return SSL_CLIENT_HELLO_SUCCESS;
}

static int on_ticket_made(SSL *ssl, void *arg)
{
    struct tls *t = SSL_get_app_data(ssl);
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), &t->host_hash,
                                           sizeof t->host_hash);
}

static SSL_TICKET_RETURN on_ticket_seen(SSL *ssl, SSL_SESSION *session,
                                        const unsigned char *keyname, size_t keyname_n,
                                        SSL_TICKET_STATUS status, void *arg)
{
    struct tls *t = SSL_get_app_data(ssl);
    void *data = NULL;
    size_t n = 0;
    if (status == SSL_TICKET_EMPTY || status == SSL_TICKET_NO_DECRYPT)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (SSL_SESSION_get0_ticket_appdata(session, &data, &n) != 1 || n != sizeof t->host_hash ||
        memcmp(data, &t->host_hash, n) != 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
}

// ---- other callbacks -----------------------------------------------------------------------------------

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *in,
                   unsigned in_n, void *arg)
{
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, n, alpn_server, sizeof alpn_server - 1, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL; // RFC 7301: no_application_protocol
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void on_message(int write_p, int version, int type, const void *buf, size_t n, SSL *ssl,
                       void *arg)
{
    if (write_p || type != SSL3_RT_HANDSHAKE || n == 0 ||
        *(const uint8_t *)buf != SSL3_MT_KEY_UPDATE)
        return;
    struct tls *t = SSL_get_app_data(ssl);
    if (++t->key_updates <= KEY_UPDATES_FREE + (t->bytes_in >> 20))
        return;
    t->broken = true;
    t->why = "too many key updates";
    // Ends the library's own reading loop, which would go on through all that has come.
    SSL_set_shutdown(ssl, SSL_RECEIVED_SHUTDOWN);
}

static int no_passphrase(char *buf, int size, int rwflag, void *u)
{
    return -1; // never ask on the terminal
}

// ---- building ------------------------------------------------------------------------------------------

static SSL_CTX *common(const SSL_METHOD *method)
{
    pthread_once(&once, init_once);
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx)
        return NULL;
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(ctx, TLS12_CIPHERS);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1); // a record in one read, not in two
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_msg_callback(ctx, on_message);
    return ctx;
}

static bool refuse(char err[TLS_ERROR], const char *what, const char *name)
{
    snprintf(err, TLS_ERROR, "%s %.160s: %s", what, name, tls_ctx_reason());
    return false;
}

static SSL_CTX *fail(SSL_CTX *ctx, char err[TLS_ERROR], const char *what, const char *name)
{
    refuse(err, what, name);
    SSL_CTX_free(ctx);
    return NULL;
}

// The first certificate is ours; those behind it are the way to the root.
static bool use_chain(SSL_CTX *ctx, struct view pem)
{
    BIO *bio = pem.n <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    if (!bio)
        return false;
    X509 *leaf = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    bool ok = leaf && SSL_CTX_use_certificate(ctx, leaf) == 1 &&
              X509_digest(leaf, EVP_sha256(), digest, &n) == 1 &&
              SSL_CTX_set_session_id_context(ctx, digest, n) == 1; // tickets die with it
    X509_free(leaf);
    while (ok) {
        X509 *more = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        if (!more)
            break;
        if (SSL_CTX_add0_chain_cert(ctx, more) != 1) {
            X509_free(more);
            ok = false;
        }
    }
    BIO_free(bio);
    unsigned long e = ERR_peek_last_error();
    if (ok && e && ERR_GET_REASON(e) != PEM_R_NO_START_LINE)
        ok = false; // a later certificate is broken
    if (ok)
        ERR_clear_error();
    return ok;
}

static bool use_key(SSL_CTX *ctx, struct view pem)
{
    BIO *bio = pem.n <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    bool ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok;
}

bool tls_ctx_use(SSL_CTX *ctx, struct view cert_pem, const char *cert_name, struct view key_pem,
                 const char *key_name, char err[TLS_ERROR])
{
    if (!use_chain(ctx, cert_pem))
        return refuse(err, "certificate", cert_name);
    bool loaded = use_key(ctx, key_pem);
    if (!loaded && ERR_GET_REASON(ERR_peek_last_error()) != X509_R_KEY_VALUES_MISMATCH)
        return refuse(err, "key", key_name);
    if (loaded && SSL_CTX_check_private_key(ctx) == 1)
        return true;
    snprintf(err, TLS_ERROR, "key %.140s does not fit the certificate %.140s", key_name, cert_name);
    ERR_clear_error();
    return false;
}

SSL_CTX *tls_ctx_server(struct view cert_pem, const char *cert_name, struct view key_pem,
                        const char *key_name, const struct tls_ticket_keys *keys,
                        char err[TLS_ERROR])
{
    SSL_CTX *ctx = common(TLS_server_method());
    if (!ctx)
        return fail(NULL, err, "TLS", "context");
    if (!tls_ctx_use(ctx, cert_pem, cert_name, key_pem, key_name, err)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    struct tls_ticket_keys *copy = mem_must(sizeof *copy);
    if (keys)
        *copy = *keys;
    else
        tls_ticket_keys_random(copy);
    SSL_CTX_set_ex_data(ctx, keys_index, copy);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket_key);
    SSL_CTX_set_session_ticket_cb(ctx, on_ticket_made, on_ticket_seen, NULL);
    SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    SSL_CTX_set_max_early_data(ctx, 0);
    return ctx;
}

void tls_ctx_set_keys(SSL_CTX *ctx, const struct tls_ticket_keys *keys)
{
    struct tls_ticket_keys *own = SSL_CTX_get_ex_data(ctx, keys_index);
    *own = *keys;
}

SSL_CTX *tls_ctx_client(const char *ca_file, char err[TLS_ERROR])
{
    SSL_CTX *ctx = common(TLS_client_method());
    if (!ctx)
        return fail(NULL, err, "TLS", "context");
    int ok = ca_file ? SSL_CTX_load_verify_locations(ctx, ca_file, NULL)
                     : SSL_CTX_set_default_verify_paths(ctx);
    if (ok != 1)
        return fail(ctx, err, "certificate authorities", ca_file ? ca_file : "of the system");
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(ctx, alpn_client, sizeof alpn_client - 1);
    return ctx;
}

void tls_ticket_keys_random(struct tls_ticket_keys *k)
{
    memset(k, 0, sizeof *k);
    k->n = 1;
    invariant(RAND_bytes(k->key[0], TLS_TICKET_KEY) == 1);
}

void tls_ticket_keys_rotate(struct tls_ticket_keys *k)
{
    memmove(k->key[1], k->key[0], sizeof k->key[0] * (TLS_TICKET_KEYS - 1));
    invariant(RAND_bytes(k->key[0], TLS_TICKET_KEY) == 1);
    if (k->n < TLS_TICKET_KEYS)
        k->n++;
}
