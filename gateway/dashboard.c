#include "gateway/dashboard.h"

#include "dashboard_page.h"
#include "gateway/process.h"
#include <ctype.h>

// What stands at `at` is the word: no letter or digit is beside it.
static bool is_word(struct view v, size_t at, size_t n)
{
    return (at == 0 || !isalnum((unsigned char)v.p[at - 1])) &&
           (at + n == v.n || !isalnum((unsigned char)v.p[at + n]));
}

// accept-encoding (RFC 9110, 12.5.3): it is named, and not with a weight of nothing.
static bool takes_gzip(const struct exchange *ex)
{
    struct view v = exchange_header(ex, "accept-encoding");
    for (size_t i = 0; i + 4 <= v.n; i++) {
        if (strncasecmp(v.p + i, "gzip", 4) != 0 || !is_word(v, i, 4))
            continue;
        struct view rest = view_of(v.p + i + 4, v.n - i - 4);
        char weight[16] = "";
        for (size_t k = 0, n = 0; k < rest.n && rest.p[k] != ',' && n < 15; k++)
            if (rest.p[k] != ' ')
                weight[n++] = rest.p[k];
        return strncasecmp(weight, ";q=0", 4) != 0 || strpbrk(weight + 4, "123456789");
    }
    return false;
}

// if-none-match (RFC 9110, 13.1.2): a list of tags, compared weakly.
static bool has_it(const struct exchange *ex, struct view tag)
{
    struct view v = exchange_header(ex, "if-none-match");
    for (size_t i = 0; i + tag.n <= v.n; i++)
        if (memcmp(v.p + i, tag.p, tag.n) == 0)
            return true;
    return view_is(v, "*");
}

void dashboard_page(struct exchange *ex, void *gateway)
{
    struct gateway *g = gateway;
    bool gzip = takes_gzip(ex);
    struct view tag = gzip ? VIEW("\"" DASHBOARD_TAG "-gzip\"") : VIEW("\"" DASHBOARD_TAG "\"");
    struct http_header headers[] = {
        {VIEW("content-type"), VIEW("text/html; charset=utf-8")},
        {VIEW("etag"), tag},
        {VIEW("vary"), VIEW("accept-encoding")},
        {VIEW("cache-control"), VIEW("no-cache")},
        {VIEW("content-security-policy"),
         VIEW("default-src 'none'; script-src " DASHBOARD_SCRIPTS "; style-src " DASHBOARD_STYLES
              "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
              "frame-ancestors 'none'; "
              "require-trusted-types-for 'script'; trusted-types default")},
        {VIEW("x-content-type-options"), VIEW("nosniff")},
        {VIEW("referrer-policy"), VIEW("no-referrer")},
        {VIEW("cross-origin-opener-policy"), VIEW("same-origin")},
        {VIEW("cross-origin-resource-policy"), VIEW("same-origin")},
        {VIEW("content-encoding"), VIEW("gzip")},
    };
    struct http_seg whole = gzip ? (struct http_seg){dashboard_gz, sizeof(dashboard_gz), NULL}
                                 : (struct http_seg){dashboard_html, sizeof(dashboard_html), NULL};
    struct http_response r = {.status = has_it(ex, tag) ? 304 : 200,
                              .headers = headers,
                              .n_headers = sizeof(headers) / sizeof(headers[0]) - !gzip,
                              .body = &whole,
                              .n_body = 1};
    server_respond(ex, &r, loop_now_us(&g->main));
}
