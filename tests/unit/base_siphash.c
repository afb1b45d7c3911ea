/* base/siphash: what libcrypto gives, in any pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/rand.h"
#include "base/siphash.h"
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <string.h>

static void hash(const uint8_t *key, const uint8_t *p, size_t n, uint8_t out[SIPHASH_BYTES])
{
    struct siphash s;
    siphash_begin(&s, key);
    siphash_put(&s, p, n);
    siphash_end(&s, out);
}

static void by_libcrypto(const uint8_t *key, const uint8_t *p, size_t n, uint8_t out[SIPHASH_BYTES])
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    size_t bytes = SIPHASH_BYTES;
    unsigned rounds[2] = {1, 3};
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &bytes),
                           OSSL_PARAM_construct_uint(OSSL_MAC_PARAM_C_ROUNDS, &rounds[0]),
                           OSSL_PARAM_construct_uint(OSSL_MAC_PARAM_D_ROUNDS, &rounds[1]),
                           OSSL_PARAM_construct_end()};
    assert_int_equal(EVP_MAC_init(ctx, key, SIPHASH_KEY, params), 1);
    assert_int_equal(EVP_MAC_update(ctx, p, n), 1);
    assert_int_equal(EVP_MAC_final(ctx, out, &bytes, SIPHASH_BYTES), 1);
    assert_int_equal(bytes, SIPHASH_BYTES);
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
}

static void as_libcrypto_in_any_pieces(void **state)
{
    struct rand r;
    uint8_t key[SIPHASH_KEY], bytes[400], theirs[SIPHASH_BYTES], ours[SIPHASH_BYTES];
    rand_seed(&r, 3);
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        struct siphash s;
        for (unsigned i = 0; i < SIPHASH_KEY; i++)
            key[i] = (uint8_t)rand_u64(&r);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)rand_u64(&r);
        by_libcrypto(key, bytes, n, theirs);
        hash(key, bytes, n, ours);
        assert_memory_equal(ours, theirs, sizeof(ours));
        siphash_begin(&s, key);
        for (size_t at = 0, some; at < n; at += some) {
            some = rand_below(&r, 20);
            some = some < n - at ? some : n - at;
            siphash_put(&s, bytes + at, some);
        }
        siphash_end(&s, ours);
        assert_memory_equal(ours, theirs, sizeof(ours));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_libcrypto_in_any_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
