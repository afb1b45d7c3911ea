/* net/tls.h: TLS 1.2 and 1.3 by OpenSSL, on nonblocking descriptors. One SSL_CTX a loop; stateless
 * tickets under keys that the caller (the keeper) holds, so that a session resumes on every loop
 * and after every restart. A ticket is bound to the certificate and to the host name asked for. No
 * renegotiation, no early data, bounded KeyUpdates. Thread: contexts are built anywhere, a loop's
 * own context is used and replaced on its thread only. */
#ifndef SLUICE_NET_TLS_H
#define SLUICE_NET_TLS_H

#include "base/view.h"
#include "net/loop.h"
#include <stdbool.h>
#include <stdint.h>

#define TLS_ERROR 320
#define TLS_TICKET_KEY 80 // 16 name, 32 AES-256, 32 HMAC-SHA256
#define TLS_TICKET_KEYS 3 // the first seals; all open

struct tls_ticket_keys {
    unsigned n;
    uint8_t key[TLS_TICKET_KEYS][TLS_TICKET_KEY];
};
void tls_ticket_keys_random(struct tls_ticket_keys *k); // n = 1
// A new first key; the oldest falls out at TLS_TICKET_KEYS.
void tls_ticket_keys_rotate(struct tls_ticket_keys *k);

struct tls_server; // one listener's contexts, one a loop
// Loads certificate chain and key (PEM) n_loops times, by loop index. NULL with err: "certificate
// tls/cert.pem: No such file or directory", "key tls/key.pem does not fit the certificate".
struct tls_server *tls_server_new(const char *cert_file, const char *key_file,
                                  const struct tls_ticket_keys *keys, unsigned n_loops,
                                  char err[TLS_ERROR]);
// From memory (PEM), for when the keeper has read the files.
struct tls_server *tls_server_new_mem(struct view cert_pem, struct view key_pem,
                                      const struct tls_ticket_keys *keys, unsigned n_loops,
                                      char err[TLS_ERROR]);
// No loop begins a connection by it any more, and no task of tls_server_set_keys is on its way. Connections hold what they
// need of it. NULL is fine.
void tls_server_free(struct tls_server *t);
// Each loop is told (by a task in its mailbox) to seal tickets with the first of these keys and to open them with
// all. loops[i] has index i. from: the caller's loop or NULL. Without memory a loop keeps the keys it has.
void tls_server_set_keys(struct tls_server *t, const struct tls_ticket_keys *keys,
                         struct loop *from, struct loop *const *loops);

struct tls_client; // context for outgoing connections
// ca_file NULL: the system's. NULL with err.
struct tls_client *tls_client_new(const char *ca_file, char err[TLS_ERROR]);
// What it shows to servers that ask for a certificate: chain and key (PEM). Before its first connection. False with err, as
// tls_server_new.
bool tls_client_use(struct tls_client *t, const char *cert_file, const char *key_file,
                    char err[TLS_ERROR]);
void tls_client_free(struct tls_client *t);
// A connection's state for who brings its own I/O (hiredis): the certificate is verified to be for host, no ALPN.
// NULL: out of memory. The caller's, who frees it with SSL_free.
struct ssl_st *tls_client_ssl(struct tls_client *t, const char *host);

// ---- one connection (used by net/sock.c)
// -------------------------------------------------------------

struct tls;
struct tls *tls_accept(struct tls_server *t, unsigned loop_index, int fd); // NULL: out of memory
// Verifies that the certificate is for host. ALPN h2 is demanded.
struct tls *tls_connect(struct tls_client *t, const char *host, int fd);
void tls_free(struct tls *t);

enum tls_io { TLS_OK, TLS_WANT_READ, TLS_WANT_WRITE, TLS_EOF, TLS_BROKEN };
enum tls_io tls_handshake(struct tls *t);
enum tls_io tls_read(struct tls *t, void *p, size_t cap, size_t *n);
// At most 16 KiB are taken, as one record. TLS_OK with tls_pending: the bytes were taken (kept, if need
// be), but the socket is full: tls_flush when it can be written again, before the next tls_write.
enum tls_io tls_write(struct tls *t, const void *p, size_t bytes, size_t *n);
bool tls_pending(const struct tls *t);
enum tls_io tls_flush(struct tls *t);
void tls_shut(struct tls *t);             // close_notify, best effort
const char *tls_why(const struct tls *t); // after TLS_BROKEN
bool tls_is_h2(const struct tls *t);      // ALPN chose h2
bool tls_resumed(const struct tls *t);

#endif
