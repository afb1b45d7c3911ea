/* base/siphash: what the paper and the reference code give, and libcrypto, in any pieces. */
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

// vectors.h of the reference code: key 00 01 … 0f, messages 00 01 … .
static void as_published(void **state)
{
    static const uint8_t none[SIPHASH_BYTES] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                                0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    uint8_t key[SIPHASH_KEY], out[SIPHASH_BYTES];
    for (unsigned i = 0; i < SIPHASH_KEY; i++)
        key[i] = (uint8_t)i;
    hash(key, NULL, 0, out);
    assert_memory_equal(out, none, sizeof(out));
}

static void by_libcrypto(const uint8_t *key, const uint8_t *p, size_t n, uint8_t out[SIPHASH_BYTES])
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    size_t bytes = SIPHASH_BYTES;
    OSSL_PARAM size[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &bytes),
                         OSSL_PARAM_construct_end()};
    assert_int_equal(EVP_MAC_init(ctx, key, SIPHASH_KEY, size), 1);
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
        cmocka_unit_test(as_published),
        cmocka_unit_test(as_libcrypto_in_any_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
