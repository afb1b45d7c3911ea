// api/trait: what a head and a body say of who asks.
#include "api/trait.h"
#include "base/arena.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka wants the four above before it
#include <cmocka.h>

static struct view id = {"the-id", 6};
static struct param params[] = {{.key = {"user", 4}, .type = PARAM_STRING, .s = {"u-1", 3}},
                                {.key = {"beta", 4}, .type = PARAM_BOOL, .b = true},
                                {.key = {"n", 1}, .type = PARAM_INT64, .i = -7},
                                {.key = {"m", 1}, .type = PARAM_UINT64, .u = 18446744073709551615u},
                                {.key = {"x", 1}, .type = PARAM_DOUBLE, .d = 0.5}};

static struct exchange ex;
static struct http_header headers[4];

static int begin(void **state)
{
    (void)state;
    ex = (struct exchange){.headers = headers};
    arena_init(&ex.arena, 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_deinit(&ex.arena);
    return 0;
}

static void say(const char *name, const char *value)
{
    headers[ex.n_headers++] = (struct http_header){view_str(name), view_str(value)};
}

static void reads(enum trait_kind kind, const char *name, const char *value)
{
    struct infer_request r = {.params = params, .n_params = 5};
    struct trait t = {kind, view_str(name)};
    struct view v = trait_read(&t, &ex, &r, id);
    if (!view_is(v, value))
        fail_msg("%s: \"%.*s\" instead of \"%s\"", name, VIEW_ARG(v), value);
}

static void ids_and_headers(void **state)
{
    (void)state;
    say("x-user", "u-1");
    say("x-user", "u-2");
    say("x-empty", "");
    reads(TRAIT_REQUEST_ID, NULL, "the-id");
    reads(TRAIT_HEADER, "x-user", "u-1");
    reads(TRAIT_HEADER, "x-use", "");
    reads(TRAIT_HEADER, "x-empty", "");
}

static void cookies(void **state)
{
    (void)state;
    say("cookie", "uid=1; a=b=c;d=;  e=\"q\"; xuid=2");
    say("cookie", "late=9;uid=8");
    reads(TRAIT_COOKIE, "uid", "1");
    reads(TRAIT_COOKIE, "a", "b=c");
    reads(TRAIT_COOKIE, "d", "");
    reads(TRAIT_COOKIE, "e", "\"q\"");
    reads(TRAIT_COOKIE, "late", "9");
    reads(TRAIT_COOKIE, "id", "");
    reads(TRAIT_COOKIE, "b", "");
}

static void api_keys(void **state)
{
    (void)state;
    reads(TRAIT_API_KEY, NULL, "");
    say("authorization", "BEARER  abc");
    reads(TRAIT_API_KEY, NULL, "abc");
    say("x-api-key", "k");
    reads(TRAIT_API_KEY, NULL, "k");
    headers[0].value = VIEW("Basic abc");
    headers[1].name = VIEW("x-other");
    reads(TRAIT_API_KEY, NULL, "");
}

static void parameters(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"user", "u-1"}, {"beta", "true"},
                                           {"n", "-7"},     {"m", "18446744073709551615"},
                                           {"x", "0.5"},    {"y", ""}};
    for (unsigned i = 0; i < 6; i++)
        reads(TRAIT_PARAMETER, pairs[i][0], pairs[i][1]);
}

// {"alg":"none"} . {"iss":"x","sub":"üser","n":12,"o":{"sub":"no"},"l":["sub"]} . whatever
#define HEAD "eyJhbGciOiJub25lIn0."
#define CLAIMS                                                                                     \
    "eyJpc3MiOiJ4Iiwic3ViIjoiXHUwMGZjc2VyIiwibiI6MTIsIm8iOnsic3ViIjoibm8ifSwibCI6WyJzdWIiXX0"

static void claims(void **state)
{
    (void)state;
    say("authorization", "Bearer " HEAD CLAIMS ".c2ln");
    reads(TRAIT_CLAIM, "sub", "\xc3\xbcser");
    reads(TRAIT_CLAIM, "n", "12");
    reads(TRAIT_CLAIM, "o", "");
    reads(TRAIT_CLAIM, "l", "");
    reads(TRAIT_CLAIM, "aud", "");
    static const char *const bad[] = {"Bearer ",
                                      "Bearer a",
                                      "Bearer .",
                                      "Bearer ..",
                                      "Bearer a.b.c",
                                      "Bearer " HEAD CLAIMS,
                                      "Bearer " HEAD "W10.x",
                                      "Bearer " HEAD "eyJzdWIi.x",
                                      "Bearer " HEAD CLAIMS "=.x"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        headers[0].value = view_str(bad[i]);
        reads(TRAIT_CLAIM, "sub", "");
    }
    static char large[10000] = "Bearer " HEAD;
    memset(large + strlen(large), 'A', sizeof(large) - strlen(large) - 3);
    memcpy(large + sizeof(large) - 3, ".x", 3);
    headers[0].value = view_str(large);
    reads(TRAIT_CLAIM, "sub", "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(ids_and_headers), TEST(cookies), TEST(api_keys),
                                       TEST(parameters), TEST(claims)};
    return cmocka_run_group_tests_name("api/trait", tests, NULL, NULL);
}
