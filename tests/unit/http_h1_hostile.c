/* HTTP/1.1, rows 1 to 45 of the hostile input: each case whole, cut at every place, and byte by byte, with
 * one and the same outcome. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/http_world.h"

struct row {
    unsigned number;
    const char *in;
    const char *statuses; // of the answers, one after the other; a final 'c': and the end
    size_t n;             // 0: strlen
};

static char *run(const char *in, size_t n, size_t cut, size_t step)
{
    struct world w;
    world_init(&w, false);
    w.terse = true;
    for (size_t at = 0; at < n;) {
        size_t part = step;
        if (cut > 0)
            part = at < cut ? cut : n;
        if (part > n - at)
            part = n - at;
        world_feed(&w, in + at, part);
        at += part;
    }
    world_note(&w, http_conn_done(w.c) ? "closed\n" : "open\n");
    world_close(&w);
    const char *wrong = world_books(&w);
    if (wrong)
        fail_msg("%s in: %s", wrong, in);
    buffer_append(&w.log, "----\n", 5);
    buffer_append(&w.log, w.out.data, buffer_len(&w.out));
    char *text = strdup(world_text(&w.log));
    world_deinit(&w);
    return text;
}

// "200 400c" out of the log and the output.
static void summary(const char *outcome, char out[256])
{
    unsigned n = 0;
    const char *answers = strstr(outcome, "----\n"), *closed = strstr(outcome, "closed\n");
    out[0] = 0;
    for (const char *p = answers; (p = strstr(p, "HTTP/1.1 ")) && n < 240; p += 9) {
        if (p[9] >= '1' && p[9] <= '5')
            n += (unsigned)snprintf(out + n, 256 - n, "%s%.3s", n ? " " : "", p + 9);
    }
    if (closed && closed < answers)
        snprintf(out + n, 256 - n, "c");
}

static void check(const struct row *r)
{
    size_t n = r->n ? r->n : strlen(r->in);
    char *whole = run(r->in, n, 0, n), got[256];
    summary(whole, got);
    if (strcmp(got, r->statuses) != 0)
        fail_msg("row %u: expected %s, got %s: %.200s\n%s", r->number, r->statuses, got, r->in,
                 whole);
    size_t stride = n > 2000 ? n / 97 : 1;
    for (size_t cut = 0; cut < n; cut += stride) {
        char *other = cut ? run(r->in, n, cut, 0) : run(r->in, n, 0, n > 100000 ? 1009 : 1);
        if (strcmp(whole, other) != 0)
            fail_msg("row %u: cut at %zu: %.200s\nwhole: %s\ncut: %s", r->number, cut, r->in, whole,
                     other);
        free(other);
    }
    free(whole);
}

#define POST "POST /a HTTP/1.1\r\nHost: h\r\n"
#define GET "GET /a HTTP/1.1\r\nHost: h\r\n"
#define NEXT "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"

static const struct row framing[] = {
    {1, POST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", "400c", 0},
    {2, POST "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, "400c", 0},
    {3, POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n",
     "400c", 0},
    {4, POST "Transfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "400c", 0},
    {5, POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", "400c", 0},
    {5, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", "400c", 0},
    {6, POST "Content-Length: 5, 6\r\n\r\nabcdef", "400c", 0},
    {6, POST "Content-Length: 5, 5\r\n\r\nabcde", "400c", 0},
    {7, POST "Content-Length: +5\r\n\r\nabcde", "400c", 0},
    {7, POST "Content-Length: -5\r\n\r\nabcde", "400c", 0},
    {7, POST "Content-Length: 0x5\r\n\r\nabcde", "400c", 0},
    {7, POST "Content-Length: 5_0\r\n\r\nabcde", "400c", 0},
    {7, POST "Content-Length: 5 5\r\n\r\nabcde", "400c", 0},
    {7, POST "Content-Length: 5;\r\n\r\nabcde", "400c", 0},
    {7, POST "Content-Length: \"5\"\r\n\r\nabcde", "400c", 0},
    {7, POST "Content-Length:\r\n\r\nabcde", "400c", 0},
    {8, POST "Content-Length: 18446744073709551621\r\n\r\nabcde", "400c", 0},
    {8,
     POST "Content-Length: 99999999999999999999999999999999999999999999999999"
          "99999999999999999999999999999999999999999999999999\r\n\r\nabcde",
     "400c", 0},
    {9, POST "Content-Length: 9223372036854775807\r\n\r\n", "413c", 0},
    {10, POST "Content-Length : 5\r\n\r\nabcde", "400c", 0},
    {11, GET "Content-Length: 5\r\n\r\nabcde" NEXT, "200 200", 0},
    {12, POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400c", 0},
    {12, POST "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n", "400c", 0},
    {12, POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "400c", 0},
    {12, POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400c", 0},
    {12,
     POST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n0\r\n\r\n",
     "400c", 0},
    {12,
     POST "Transfer-Encoding: \xa0"
          "chunked\r\n\r\n0\r\n\r\n",
     "400c", 0},
    {12, POST "Transfer-Encoding:\r\n\r\n0\r\n\r\n", "400c", 0},
    {12, POST "Transfer-Encoding: ChunKed\r\n\r\n0\r\n\r\n", "200", 0},
    {13, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400c",
     0},
    {13, POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400c", 0},
    {13, POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400c", 0},
    {13, POST "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", "400c", 0},
    {14, POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400c", 0},
    {14, POST "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400c", 0},
    {14, POST "Transfer-\r\nEncoding: chunked\r\n\r\n0\r\n\r\n", "400c", 0},
    {15, "POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400c", 0},
};

static const struct row chunks[] = {
    {0, CHUNKED "3\r\nabc\r\n0a;x=\"a\\\"b;\"\r\n0123456789\r\n000\r\n\r\n", "200", 0},
    {16, CHUNKED "3\nabc\r\n0\r\n\r\n", "400c", 0},
    {16, CHUNKED "3;x\nabc\r\n0\r\n\r\n", "400c", 0},
    {16, CHUNKED "3\r\nabc\r\n0\r\n\n", "400c", 0},
    {17, CHUNKED "+5\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED "-5\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED "0x5\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED "0_5\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED " 5\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED "5 \r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED "5g\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED "\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED "\"\"\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED "5,5\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {17, CHUNKED ";x\r\n\r\n", "400c", 0},
    {18, CHUNKED "10000000000000005\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {18, CHUNKED "ffffffffffffffff\r\nabcde\r\n0\r\n\r\n", "400c", 0},
    {18, CHUNKED "0000000000000000000000000000000000000000000000000005\r\nabcde\r\n0\r\n\r\n",
     "400c", 0},
    {18, CHUNKED "fffffffffffffff\r\nabcde", "413c", 0},
    {19, CHUNKED "3\r\nabcd\r\n0\r\n\r\n", "400c", 0},
    {19, CHUNKED "3\r\nabc0\r\n\r\n", "400c", 0},
    {19, CHUNKED "3\r\nabc\n0\r\n\r\n", "400c", 0},
    {20, CHUNKED "3;a\nb\r\nabc\r\n0\r\n\r\n", "400c", 0},
    {20, CHUNKED "3;a\rb\r\nabc\r\n0\r\n\r\n", "400c", 0},
    {20, CHUNKED "3;a=\"\\\n\"\r\nabc\r\n0\r\n\r\n", "400c", 0},
    {20, CHUNKED "3;a=\"\\\x01\"\r\nabc\r\n0\r\n\r\n", "400c", 0},
    {20, CHUNKED "3;a=\x7f\r\nabc\r\n0\r\n\r\n", "400c", 0},
    {21, CHUNKED "3;a=\"b\r\nabc\r\n0\r\n\r\n" NEXT, "400c", 0},
    {21, CHUNKED "3;a=\"b\\\"\r\nabc\r\n0\r\n\r\n", "400c", 0},
    {24, CHUNKED "0\r\nGET /hidden HTTP/1.1\r\n\r\n", "400c", 0},
    {24, CHUNKED "0\r\nX: y\r\n z\r\n\r\n", "400c", 0},
    {24, CHUNKED "0\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nHost: z\r\n\r\n" NEXT,
     "200 200", 0},
};

static const struct row fields[] = {
    {25, GET "X: y\r\n z\r\n\r\n", "400c", 0},
    {25, GET "X: y\r\n\tz\r\n\r\n", "400c", 0},
    {25, POST "Content-Length:\r\n 5\r\n\r\nabcde", "400c", 0},
    {26, GET "X: a\rb\r\n\r\n", "400c", 0},
    {26, GET "X: a\0b\r\n\r\n", "400c", sizeof(GET "X: a\0b\r\n\r\n") - 1},
    {26, GET "X: a\x01\r\n\r\n", "400c", 0},
    {26, GET "X: a\x7f\r\n\r\n", "400c", 0},
    {26, GET "X: a\tb \xc3\xa9\r\n\r\n", "200", 0},
    {27, GET ": y\r\n\r\n", "400c", 0},
    {27, GET "X Y: z\r\n\r\n", "400c", 0},
    {27, GET "X\xef: z\r\n\r\n", "400c", 0},
    {27, GET "X\r\n\r\n", "400c", 0},
    {27, GET "X(: z\r\n\r\n", "400c", 0},
    {28, "GET /a HTTP/1.1\nHost: h\n\n", "400c", 0},
    {28, "GET /a HTTP/1.1\r\nHost: h\n\r\n", "400c", 0},
    {28, GET "\n", "400c", 0},
    {29, "GET /a HTTP/1.1\r\n\r\n", "400c", 0},
    {29, GET "Host: i\r\n\r\n", "400c", 0},
    {29, GET "Host: h\r\n\r\n", "400c", 0},
    {29, "GET /a HTTP/1.0\r\n\r\n", "200c", 0},
    {30, "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n", "400c", 0},
    {30, "GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", "400c", 0},
    {30, "GET /a HTTP/1.1\r\nHost: u@a\r\n\r\n", "400c", 0},
    {30, "GET /a HTTP/1.1\r\nHost: a:x\r\n\r\n", "400c", 0},
    {30, "GET /a HTTP/1.1\r\nHost: a:65536\r\n\r\n", "400c", 0},
    {30, "GET /a HTTP/1.1\r\nHost: a\x01\r\n\r\n", "400c", 0},
    {30, "GET /a HTTP/1.1\r\nHost: a\0\r\n\r\n", "400c",
     sizeof("GET /a HTTP/1.1\r\nHost: a\0\r\n\r\n") - 1},
    {31, "GET http://real/a HTTP/1.1\r\nHost: h\r\n\r\n", "200", 0},
    {31, "GET http://real?x=/a HTTP/1.1\r\nHost: h\r\n\r\n", "200", 0},
    {31, "GET http://real HTTP/1.1\r\nHost: h\r\n\r\n", "200", 0},
    {31, "GET http://real#x HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {31, "GET http://u@real/a HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {31, "GET ftp://real/a HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {31, "GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {32, "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: h\r\n\r\n", "405c", 0},
    {33, "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {33, "GET /a\x01 HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {33, "GET /a\x7f HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {33, "GET /a\0 HTTP/1.1\r\nHost: h\r\n\r\n", "400c",
     sizeof("GET /a\0 HTTP/1.1\r\nHost: h\r\n\r\n") - 1},
    {33, "GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {33, "GET /a  HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {33, "GET\t/a\tHTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {33, "GET /a\r\n\r\n", "400c", 0},
    {33, " GET /a HTTP/1.1\r\n\r\n", "400c", 0},
    {34, "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {35, "GET /a/%2e%2e/v2 HTTP/1.1\r\nHost: h\r\n\r\n", "200", 0},
    {35, "GET /a/%2f HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {35, "GET /a/%00 HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {35, "GET /a/..;/b HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {36, "GET /a HTTP/1.10\r\nHost: h\r\n\r\n", "400c", 0},
    {36, "GET /a HTTP/2.0\r\nHost: h\r\n\r\n", "505c", 0},
    {36, "GET /a http/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {36, "GET /a HTTP/4294967297.1\r\nHost: h\r\n\r\n", "400c", 0},
    {36, "GET /a HTTP/1.1 \r\nHost: h\r\n\r\n", "400c", 0},
    {37, "GE\0T /a HTTP/1.1\r\nHost: h\r\n\r\n", "400c",
     sizeof("GE\0T /a HTTP/1.1\r\nHost: h\r\n\r\n") - 1},
    {37, "G[E]T /a HTTP/1.1\r\nHost: h\r\n\r\n", "400c", 0},
    {39, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400c", 11},
    {39, "POST\xd6 HTTP/1.1\rX: y\r\n\r\n", "400c", 0}, // for the same reason, however it is cut
    {39, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "505c", 0},
    {39, "\x80\x81junk", "400c", 0},
    {43, "TRACE /a HTTP/1.1\r\nHost: h\r\nSecret: s\r\n\r\n", "405c", 0},
    {44, POST "Expect: 200-ok\r\nContent-Length: 3\r\n\r\n", "417c", 0},
    {45, NEXT "GET /b HTTP/1.1\r\nHost: h\r\nBad Field: x\r\n\r\n" NEXT, "200 400c", 0},
    {45, POST "Content-Length: 3\r\n\r\nabcJUNK\r\n" NEXT, "200 400c", 0},
};

#define ALL(rows)                                                                                  \
    static void all_##rows(void **state)                                                           \
    {                                                                                              \
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)                                \
            check(&rows[i]);                                                                       \
    }
ALL(framing)
ALL(chunks)
ALL(fields)

// Each byte at each place of a short name and of a value longer than eight.
static void every_byte_of_a_field(void **state)
{
    static const char token[] = "!#$%&'*+-.^_`|~";
    for (int byte = 0; byte < 256; byte++) {
        bool breaks = byte == '\r' || byte == '\n' || byte == 0;
        bool in_value = byte == '\t' || (byte >= 0x20 && byte != 0x7f);
        bool in_name = (byte < 0x80 && isalnum(byte)) || (!breaks && strchr(token, byte));
        for (size_t at = 0; at < 12; at++) {
            char in[] = GET "X: abcdefghijkl\r\n\r\n", name[] = GET "Xyz: a\r\n\r\n";
            in[sizeof(GET "X: ") - 1 + at] = (char)byte;
            struct row value = {26, in, in_value ? "200" : "400c", sizeof(in) - 1};
            check(&value);
            if (at > 2 || (byte == ':' && at > 0)) // there a name ends
                continue;
            name[sizeof(GET) - 1 + at] = (char)byte;
            struct row r = {27, name, in_name ? "200" : "400c", sizeof(name) - 1};
            check(&r);
        }
    }
}

// head + n bytes of fill + tail
static void check_long(unsigned number, const char *head, size_t n, const char *tail,
                       const char *statuses)
{
    size_t head_n = strlen(head), tail_n = strlen(tail);
    char *in = malloc(head_n + n + tail_n + 1);
    memcpy(in, head, head_n);
    memset(in + head_n, 'a', n);
    memcpy(in + head_n + n, tail, tail_n + 1);
    struct row r = {number, in, statuses, head_n + n + tail_n};
    check(&r);
    free(in);
}

static void long_things(void **state)
{
    check_long(22, CHUNKED "3;", 65536, "\r\nabc\r\n0\r\n\r\n", "400c");
    check_long(22, CHUNKED "3;", 4000, "\r\nabc\r\n0\r\n\r\n", "200");
    check_long(24, CHUNKED "0\r\nX: ", 256 << 10, "\r\n\r\n", "431c");
    check_long(37, "", 65536, " /a HTTP/1.1\r\nHost: h\r\n\r\n", "400c");
    check_long(37, "", 33, " /a HTTP/1.1\r\nHost: h\r\n\r\n", "400c");
    check_long(37, "", 32, " /a HTTP/1.1\r\nHost: h\r\n\r\n", "200");
    check_long(38, "GET /", 65536, " HTTP/1.1\r\nHost: h\r\n\r\n", "414c");
    check_long(38, "GET /", 8190, " HTTP/1.1\r\nHost: h\r\n\r\n", "200");
    check_long(38, "GET /", 8192, " HTTP/1.1\r\nHost: h\r\n\r\n", "414c");
    check_long(38, "GET /", 1 << 20, "", "414c");
    check_long(38, GET "X: ", 2 << 20, "\r\n\r\n", "431c");
    check_long(38, GET, 2 << 20, ": y\r\n\r\n", "431c");
    check_long(38, GET "X: ", 32 << 10, "\r\n\r\n", "431c");
    check_long(38, GET "X: ", 32000, "\r\n\r\n", "200");
}

// n times the piece, between head and tail
static void check_many(unsigned number, const char *head, const char *piece, size_t n,
                       const char *tail, const char *statuses)
{
    size_t head_n = strlen(head), piece_n = strlen(piece), tail_n = strlen(tail);
    char *in = malloc(head_n + n * piece_n + tail_n + 1);
    memcpy(in, head, head_n);
    for (size_t i = 0; i < n; i++)
        memcpy(in + head_n + i * piece_n, piece, piece_n);
    memcpy(in + head_n + n * piece_n, tail, tail_n + 1);
    struct row r = {number, in, statuses, head_n + n * piece_n + tail_n};
    check(&r);
    free(in);
}

static void many_things(void **state)
{
    check_many(22, CHUNKED, "1;eeeeeeeeeeeeeeeeeeeeeeeeeeeeee\r\nx\r\n", 4000, "0\r\n\r\n",
               "400c"); // 32 bytes of framing for each one of body
    check_many(22, CHUNKED, "1;eeee\r\nx\r\n", 9000, "0\r\n\r\n", "200");
    check_many(23, CHUNKED, "1\r\nx\r\n", 200000, "0\r\n\r\n", "200");
    check_many(24, CHUNKED "0\r\n", "X: y\r\n", 10000, "\r\n", "431c");
    check_many(38, GET, "X: y\r\n", 99, "\r\n", "200"); // with host: 100
    check_many(38, GET, "X: y\r\n", 100, "\r\n", "431c");
    check_many(38, GET, "X: y\r\n", 10000, "\r\n", "431c");
    check_many(38, GET, "Cookie: a=b\r\n", 100, "\r\n", "431c");
    check_many(38, "", "\r\n", 3, NEXT, "200"); // empty lines before a request
}

// What the rooms above see of a request: the log of it, whole and byte by byte.
static void seen(unsigned number, const char *in, const char *must, const char *must_not)
{
    for (unsigned step = 0; step < 2; step++) {
        char *log = run(in, strlen(in), 0, step ? 1 : strlen(in));
        if (must && !strstr(log, must))
            fail_msg("row %u: not there: %s in %s", number, must, log);
        if (must_not && strcasestr(log, must_not))
            fail_msg("row %u: must not be there: %s in %s", number, must_not, log);
        free(log);
    }
}

static void what_goes_on(void **state)
{
    seen(2, POST "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT, NULL,
         "head");
    seen(24, CHUNKED "0\r\nX-Late: y\r\nHost: evil\r\n\r\n", "request 0", "evil");
    seen(31, "GET http://real/a HTTP/1.1\r\nHost: other\r\n\r\n", "GET /a ? @real", "@other");
    seen(31, "GET HTTP://real:81?x=/a HTTP/1.1\r\nHost: other\r\n\r\n", "GET / ?x=/a @real:81",
         NULL);
    seen(35, "GET /a/b/../%2e%2e/c%41?x=%2e HTTP/1.1\r\nHost: h\r\n\r\n", "head GET /cA\n", NULL);
    seen(40, GET "Connection: x-hop, keep-alive\r\nX-Hop: secret\r\nKeep-Alive: 5\r\nY: 1\r\n\r\n",
         "  y: 1\n", "hop");
    seen(40, GET "Connection: X-Forwarded-For, authorization\r\nX-Forwarded-For: me\r\n\r\n",
         "  x-forwarded-for: me\n", NULL);
    seen(40, GET "Connection: authorization\r\nAuthorization: A\r\n\r\n", "  authorization: A\n",
         NULL);
    seen(41, GET "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\n\r\n",
         "HTTP/1.1 200", "h2c");
    seen(41, GET "Upgrade: h2c\r\n\r\n", "HTTP/1.1 200", "h2c");
    seen(42, POST "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nGET /",
         " 5:GET /", "websocket");
    seen(43, "TRACE /a HTTP/1.1\r\nHost: h\r\nSecret: s3\r\n\r\n", "HTTP/1.1 405", "s3");
    seen(92, POST "Content-Length: s3cret\r\n\r\n", "HTTP/1.1 400", "s3cret");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_framing),
        cmocka_unit_test(all_chunks),
        cmocka_unit_test(all_fields),
        cmocka_unit_test(long_things),
        cmocka_unit_test(every_byte_of_a_field),
        cmocka_unit_test(many_things),
        cmocka_unit_test(what_goes_on),
    };
    return cmocka_run_group_tests_name("http: hostile HTTP/1.1", tests, NULL, NULL);
}
