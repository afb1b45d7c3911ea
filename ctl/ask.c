#include "ctl/ask.h"

#include "ctl/clock.h"
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

// ---- an answer that goes on -------------------------------------------------------------------------------------

struct flowing {
    CURL *handle;
    struct ask_flow *flow;
    uint64_t heard_ms; // the last byte
};

static bool is_of_events(CURL *c)
{
    static const char type[] = "text/event-stream";
    const char *said = NULL;
    long status = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c, CURLINFO_CONTENT_TYPE, &said);
    return status == 200 && said && strncmp(said, type, sizeof(type) - 1) == 0;
}

static size_t take_piece(char *bytes, size_t size, size_t n, void *ctx)
{
    struct flowing *w = ctx;
    w->heard_ms = clock_ms();
    w->flow->flowed = w->flow->flowed || is_of_events(w->handle);
    if (!w->flow->flowed)
        return take_bytes(bytes, size, n, &w->flow->answer);
    return w->flow->take(w->flow->ctx, view_of(bytes, size * n)) ? size * n : 0;
}

// Until it has ended, one way or the other.
static CURLcode follow(CURLM *multi, struct flowing *w, uint64_t until_ms)
{
    for (int running = 1; running && !*w->flow->enough;) {
        curl_multi_perform(multi, &running);
        curl_easy_getinfo(w->handle, CURLINFO_RESPONSE_CODE, &w->flow->status);
        if (!running)
            break;
        uint64_t now = clock_ms();
        if (w->flow->status == 0 ? now >= until_ms : now >= w->heard_ms + ASK_SILENCE_MS)
            return CURLE_OPERATION_TIMEDOUT;
        struct curl_waitfd terminal = {.fd = STDIN_FILENO, .events = CURL_WAIT_POLLIN};
        curl_multi_poll(multi, &terminal, w->flow->turn && isatty(STDIN_FILENO), 100, NULL);
        if (w->flow->turn && !w->flow->turn(w->flow->ctx))
            return CURLE_OK;
    }
    int left;
    CURLMsg *said = curl_multi_info_read(multi, &left);
    return said && said->msg == CURLMSG_DONE ? said->data.result : CURLE_OK;
}

static CURLcode flow_through(struct flowing *w, const struct ask *a)
{
    CURLM *multi = curl_multi_init();
    if (!multi || curl_multi_add_handle(multi, w->handle) != CURLM_OK) {
        curl_multi_cleanup(multi);
        return CURLE_OUT_OF_MEMORY;
    }
    w->heard_ms = clock_ms();
    CURLcode code = follow(multi, w, w->heard_ms + (uint64_t)a->timeout_ms);
    curl_multi_remove_handle(multi, w->handle);
    curl_multi_cleanup(multi);
    return code;
}

static bool put_last_id(const char *id, struct curl_slist **fields)
{
    char field[200];
    snprintf(field, sizeof(field), "Last-Event-ID: %.160s", id ? id : "");
    return !id || add_field(fields, field);
}

static enum ask_end end_flow(struct flowing *w, CURLcode code, const struct ask *a,
                             const char *said, char why[ASK_ERROR])
{
    w->flow->whole = code == CURLE_OK;
    if (code == CURLE_OK || *w->flow->enough)
        return ASK_ANSWERED;
    if (w->flow->flowed && code == CURLE_OPERATION_TIMEDOUT) {
        snprintf(why, ASK_ERROR, "%s: nothing came for %d s", a->address, ASK_SILENCE_MS / 1000);
        return ASK_ANSWERED;
    }
    enum ask_end end = explain_end(w->handle, code, a, said, why);
    return w->flow->flowed ? ASK_ANSWERED : end;
}

enum ask_end ask_flow(const struct ask *a, const char *path, struct ask_flow *f,
                      char why[ASK_ERROR])
{
    char said[CURL_ERROR_SIZE] = "";
    struct curl_slist *fields = NULL;
    struct flowing w = {.handle = curl_easy_init(), .flow = f};
    CURL *c = w.handle;
    enum ask_end end = ASK_SILENT;
    buffer_reset(&f->answer);
    f->status = 0;
    f->flowed = f->whole = false;
    bool ok = c && aim_handle(c, a->address, path) && put_fields(a, NULL, &fields) &&
              put_last_id(f->last_id, &fields) && set_handle(c, a, NULL, fields) &&
              curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, 0L) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_piece) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_WRITEDATA, &w) == CURLE_OK &&
              curl_easy_setopt(c, CURLOPT_ERRORBUFFER, said) == CURLE_OK;
    CURLcode code = ok ? flow_through(&w, a) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OUT_OF_MEMORY)
        snprintf(why, ASK_ERROR, "out of memory");
    else
        end = end_flow(&w, code, a, said, why);
    curl_slist_free_all(fields);
    curl_easy_cleanup(c);
    return end;
}
