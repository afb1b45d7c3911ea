/* HTTP/2 as a client, after 2^30 calls on one connection. The session's next id is set from here, which is why
 * the source is read and not the library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "http/h2_client.c"

static unsigned ends;

static void on_ready(struct http_client *c, void *ctx)
{
}

static void on_end(struct http_call *call, enum http_call_end end, void *ctx)
{
    assert_int_equal(end, CALL_LOST);
    ends++;
}

static void a_connection_without_ids_is_over(void **state)
{
    static const struct http_client_ops ops = {on_ready, on_end};
    static const uint8_t settings[9] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
    const struct http_client_limits limits = {
        .max_answer = 1 << 20, .frame_bytes = 1 << 20, .window_bytes = 16 << 20};
    static struct block_owner blocks; // aligned as it asks for
    block_owner_init(&blocks);
    block_owner_adopt(&blocks);
    struct http_client *c = http_client_new(&limits, &ops, NULL, &blocks, VIEW("w"));
    http_client_recv(c, settings, 9, 0);
    assert_int_equal(nghttp2_session_set_next_stream_id(c->h2, 0x7fffffff), 0);
    assert_non_null(http_client_call(c, VIEW("/s/m"), NULL, 0, NULL, 0, 0, NULL));
    assert_true(http_client_ready(c));
    assert_null(http_client_call(c, VIEW("/s/m"), NULL, 0, NULL, 0, 0, NULL));
    assert_false(http_client_ready(c)); // no more calls, and the last one may end
    assert_false(http_client_done(c));
    http_client_free(c);
    assert_int_equal(ends, 1);
    block_owner_deinit(&blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_connection_without_ids_is_over)};
    return cmocka_run_group_tests_name("http: ids of calls", tests, NULL, NULL);
}
