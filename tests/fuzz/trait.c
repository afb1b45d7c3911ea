// Any bytes as what a request says of who asks: cookies, tokens, a tester's word. The first byte says which.
#include "api/trait.h"
#include "router/force.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct trait traits[] = {{TRAIT_COOKIE, {"a", 1}},
                                          {TRAIT_CLAIM, {"sub", 3}},
                                          {TRAIT_API_KEY, {NULL, 0}},
                                          {TRAIT_HEADER, {"cookie", 6}}};
    if (size == 0)
        return 0;
    struct view text = view_of(data + 1, size - 1);
    struct http_header headers[] = {{VIEW("cookie"), text}, {VIEW("authorization"), text}};
    struct exchange ex = {.headers = headers, .n_headers = 2};
    struct infer_request r = {0};
    struct error e;
    struct force f;
    arena_init(&ex.arena, 0);
    struct view said = trait_read(&traits[data[0] % 4], &ex, &r, text);
    if (said.n > text.n)
        __builtin_trap(); // it can only be a part of what came, or what that decodes to
    if (force_read(text, &f, &e))
        force_holds(&f, VIEW("0123456789abcdef"), 0, &e);
    arena_deinit(&ex.arena);
    return 0;
}
