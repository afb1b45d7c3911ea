/* net/tls_ctx.h: private to tls.c and tls_ctx.c: one SSL_CTX, and what its callbacks need. */
#ifndef SLUICE_NET_TLS_CTX_H
#define SLUICE_NET_TLS_CTX_H

#include "net/tls.h"
#include <openssl/ssl.h>

struct tls {
    SSL *ssl;
    const char *why;
    bool eof, broken; // sticky
    bool client;
    unsigned key_updates;
    uint64_t bytes_in;
    uint64_t host_hash; // of the server name the client asked for
    uint8_t *saved;     // plain text of a record that the socket has not taken
    size_t saved_bytes;
};

// Who it is: certificate chain and key. False with err. The names are for messages.
bool tls_ctx_use(SSL_CTX *ctx, struct view cert_pem, const char *cert_name, struct view key_pem,
                 const char *key_name, char err[TLS_ERROR]);
// Certificate chain, key and tickets set; NULL with err. The names are for messages.
SSL_CTX *tls_ctx_server(struct view cert_pem, const char *cert_name, struct view key_pem,
                        const char *key_name, const struct tls_ticket_keys *keys,
                        char err[TLS_ERROR]);
// Replaces the ticket keys of a server's context; on the thread that uses it.
void tls_ctx_set_keys(SSL_CTX *ctx, const struct tls_ticket_keys *keys);
SSL_CTX *tls_ctx_client(const char *ca_file, char err[TLS_ERROR]);
// The newest reason in OpenSSL's queue, in words; empties the queue.
const char *tls_ctx_reason(void);

#endif
