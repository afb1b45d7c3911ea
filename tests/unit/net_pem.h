/* A self-signed certificate made on the spot, for tests. */
#ifndef SLUICE_TESTS_NET_PEM_H
#define SLUICE_TESTS_NET_PEM_H

#include "base/view.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

struct pem {
    char cert[4096], key[4096];
};

static inline void pem_copy(BIO *bio, char *out, size_t cap)
{
    int n = BIO_read(bio, out, (int)cap - 1);
    out[n > 0 ? n : 0] = 0;
    BIO_free(bio);
}

// For host (DNS name) and 127.0.0.1, valid from now + from_s to now + to_s.
static inline void pem_make(struct pem *p, const char *host, long from_s, long to_s)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    char alt[256];
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), from_s);
    X509_gmtime_adj(X509_getm_notAfter(x), to_s);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)host, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    snprintf(alt, sizeof alt, "DNS:%s,IP:127.0.0.1", host);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt);
    X509_add_ext(x, ext, -1);
    X509_EXTENSION_free(ext);
    X509_sign(x, key, EVP_sha256());
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, x);
    pem_copy(bio, p->cert, sizeof p->cert);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    pem_copy(bio, p->key, sizeof p->key);
    X509_free(x);
    EVP_PKEY_free(key);
}

static inline void pem_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

#endif
