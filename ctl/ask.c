#include "ctl/ask.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

bool ask_init(void)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

void ask_deinit(void)
{
    curl_global_cleanup();
}

static size_t take_bytes(char *bytes, size_t size, size_t n, void *ctx)
{
    struct buffer *answer = ctx;
    n *= size;
    return buffer_len(answer) + n <= ASK_MOST_BYTES && buffer_append(answer, bytes, n) ? n : 0;
}

// The listener takes an address or localhost for Host alone, against browsers. We are none, so a name that we were
// given ourselves does not have to stand there; behind https there is a proxy, which may go by it.
static bool aim_handle(CURL *c, const char *address, const char *path)
{
    char url[800];
    bool secure = strncmp(address, "https://", 8) == 0, local = strncmp(address, "unix:", 5) == 0;
    int n = snprintf(url, sizeof(url), "%s%s%s", secure ? "" : "http://",
                     local ? "localhost" : address, path);
    return n > 0 && (size_t)n < sizeof(url) && curl_easy_setopt(c, CURLOPT_URL, url) == CURLE_OK &&
           (!local || curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, address + 5) == CURLE_OK);
}

static bool add_field(struct curl_slist **fields, const char *field)
{
    struct curl_slist *longer = curl_slist_append(*fields, field);
    if (longer)
        *fields = longer;
    return longer != NULL;
}

static bool put_fields(const struct ask *a, const char *body, struct curl_slist **fields)
{
    char token[600];
    bool secure = strncmp(a->address, "https://", 8) == 0;
    bool ok = (secure || add_field(fields, "Host: localhost")) && add_field(fields, "Expect:");
    if (a->token) {
        snprintf(token, sizeof(token), "Authorization: Bearer %s", a->token);
        ok = ok && add_field(fields, token);
    }
    return ok && (!body || add_field(fields, "Content-Type: application/json"));
}

static bool set_handle(CURL *c, const struct ask *a, const char *body, struct curl_slist *fields)
{
    bool ok = curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_PROXY, "") == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, a->timeout_ms) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, a->timeout_ms) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_HTTPHEADER, fields) == CURLE_OK;
    if (a->ca_file)
        ok = ok && curl_easy_setopt(c, CURLOPT_CAINFO, a->ca_file) == CURLE_OK;
    if (body)
        ok = ok && curl_easy_setopt(c, CURLOPT_POSTFIELDS, body) == CURLE_OK;
    return ok;
}

// In our words, where libcurl's say less or change with its version; NULL: its own.
static const char *plainly(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return "its name could not be looked up";
    case CURLE_GOT_NOTHING:
        return "it closed the connection without an answer";
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
        return "the connection broke off";
    case CURLE_UNSUPPORTED_PROTOCOL: // "HTTP/0.9": anything at all
    case CURLE_WEIRD_SERVER_REPLY:
        return "what it speaks is not HTTP";
    case CURLE_WRITE_ERROR:
        return "an answer larger than is taken, or no memory for it";
    default:
        return NULL;
    }
}

// How it ended without an answer.
static enum ask_end explain_end(CURL *c, CURLcode code, const struct ask *a, const char *said,
                                char why[ASK_ERROR])
{
    long number = 0;
    double seconds = (double)a->timeout_ms / 1e3;
    curl_off_t connected_us = 0;
    curl_easy_getinfo(c, CURLINFO_OS_ERRNO, &number);
    curl_easy_getinfo(c, CURLINFO_CONNECT_TIME_T, &connected_us);
    if (code == CURLE_COULDNT_CONNECT) {
        snprintf(why, ASK_ERROR, "%s: %s: is the gateway running, and is that its admin address?",
                 a->address, number ? strerror((int)number) : "no connection");
        return ASK_AWAY;
    }
    if (code == CURLE_OPERATION_TIMEDOUT && connected_us > 0)
        snprintf(why, ASK_ERROR,
                 "%s: a connection, and no answer within %g s: the gateway hangs, or is just gone",
                 a->address, seconds);
    else if (code == CURLE_OPERATION_TIMEDOUT)
        snprintf(why, ASK_ERROR, "%s: no connection within %g s", a->address, seconds);
    else if (plainly(code))
        snprintf(why, ASK_ERROR, "%s: %s", a->address, plainly(code));
    else
        snprintf(why, ASK_ERROR, "%s: %s", a->address, *said ? said : curl_easy_strerror(code));
    return ASK_SILENT;
}

enum ask_end ask(const struct ask *a, const char *path, const char *body, long *status,
                 struct buffer *answer, char why[ASK_ERROR])
{
    char said[CURL_ERROR_SIZE] = "";
    struct curl_slist *fields = NULL;
    enum ask_end end = ASK_ANSWERED;
    CURL *c = curl_easy_init();
    buffer_reset(answer);
    bool ok = c && aim_handle(c, a->address, path) && put_fields(a, body, &fields) &&
              set_handle(c, a, body, fields) &&
              curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_bytes) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_WRITEDATA, answer) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_ERRORBUFFER, said) == CURLE_OK;
    CURLcode code = ok ? curl_easy_perform(c) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK)
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, status);
    else if (ok)
        end = explain_end(c, code, a, said, why);
    else {
        snprintf(why, ASK_ERROR, "out of memory");
        end = ASK_SILENT;
    }
    curl_slist_free_all(fields);
    curl_easy_cleanup(c);
    return end;
}
