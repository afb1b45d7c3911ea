#include "ctl/log_source.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_S 10
#define PAGE "1000" // records of one answer

static bool fails(struct log_source *s, const char *what)
{
    snprintf(s->why, sizeof(s->why), "redis: %.400s", what);
    return false;
}

// NULL: why. Free with freeReplyObject.
static redisReply *say(struct log_source *s, int argc, const char **argv)
{
    redisReply *r = redisCommandArgv(s->redis, argc, argv, NULL);
    if (r && r->type != REDIS_REPLY_ERROR)
        return r;
    fails(s, r ? r->str : s->redis->errstr);
    if (r)
        freeReplyObject(r);
    return NULL;
}

static bool let_in(struct log_source *s, const char *password, const char *database)
{
    const char *auth[] = {"AUTH", password}, *select[] = {"SELECT", database};
    redisReply *r = password ? say(s, 2, auth) : NULL;
    if (password && !r)
        return false;
    if (r)
        freeReplyObject(r);
    r = *database ? say(s, 2, select) : NULL;
    if (*database && !r)
        return false;
    if (r)
        freeReplyObject(r);
    return true;
}

bool log_streams_open(struct log_source *s, const char *place, const char *password)
{
    struct timeval most = {.tv_sec = TIMEOUT_S};
    char host[256], database[16] = "";
    int port = 6379;
    if (strncmp(place, "unix:", 5) == 0) {
        s->redis = redisConnectUnixWithTimeout(place + 5, most);
    } else {
        snprintf(host, sizeof(host), "%s", place + 8);
        char *slash = strchr(host, '/'), *colon = strrchr(host, ':');
        if (slash)
            snprintf(database, sizeof(database), "%s", slash + 1);
        if (slash)
            *slash = '\0';
        if (colon && (!slash || colon < slash)) {
            port = atoi(colon + 1);
            *colon = '\0';
        }
        s->redis = redisConnectWithTimeout(host, port, most);
    }
    if (!s->redis || s->redis->err)
        return fails(s, s->redis ? s->redis->errstr : "out of memory");
    redisSetTimeout(s->redis, most);
    return let_in(s, password, database);
}

// [[id, [field, value, ...]], ...]: its last id is left in the place. *n: entries.
static bool give_page(struct log_source *s, struct log_place *place, const redisReply *page)
{
    for (size_t i = 0; i < page->elements; i++) {
        const redisReply *e = page->element[i];
        if (e->type != REDIS_REPLY_ARRAY || e->elements != 2 || !e->element[0]->str)
            return fails(s, "an answer that makes no sense");
        const redisReply *fields = e->element[1];
        snprintf(place->id, sizeof(place->id), "%s", e->element[0]->str);
        for (size_t k = 0; !s->skips && k + 1 < fields->elements; k += 2)
            if (fields->element[k]->str && strcmp(fields->element[k]->str, "record") == 0 &&
                fields->element[k + 1]->str &&
                !s->take(s->ctx, view_of(fields->element[k + 1]->str, fields->element[k + 1]->len)))
                return false;
    }
    return true;
}

static bool give_stream(struct log_source *s, const char *key)
{
    struct log_place *place = log_source_place(s, key);
    char from[64];
    for (size_t n = 1; place && n > 0;) {
        snprintf(from, sizeof(from), "%s%s", place->id[0] ? "(" : "",
                 place->id[0] ? place->id : "-");
        const char *range[] = {"XRANGE", key, from, "+", "COUNT", PAGE};
        const char *last[] = {"XREVRANGE", key, "+", from, "COUNT", "1"};
        redisReply *page = say(s, 6, s->skips ? last : range);
        if (!page)
            return false;
        n = s->skips ? 0 : page->elements;
        bool ok = give_page(s, place, page);
        freeReplyObject(page);
        if (!ok)
            return false;
    }
    return place != NULL;
}

bool log_streams_pass(struct log_source *s)
{
    char pattern[LOG_NAME + 2], cursor[32] = "0";
    snprintf(pattern, sizeof(pattern), "%s*", s->prefix);
    do {
        const char *scan[] = {"SCAN", cursor, "MATCH", pattern, "COUNT", "1000"};
        redisReply *keys = say(s, 6, scan);
        if (!keys || keys->elements != 2 || !keys->element[0]->str)
            return keys ? fails(s, "an answer that makes no sense") : false;
        snprintf(cursor, sizeof(cursor), "%s", keys->element[0]->str);
        bool ok = true;
        for (size_t i = 0; ok && i < keys->element[1]->elements; i++)
            ok = give_stream(s, keys->element[1]->element[i]->str);
        freeReplyObject(keys);
        if (!ok)
            return false;
    } while (strcmp(cursor, "0") != 0);
    return true;
}
