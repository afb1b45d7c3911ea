/* backends/redis_lib.h: hiredis, and all that differs between its versions here: 0.14 (Debian 12) and 1.x
 * (Debian 13). Included by redis_conn.c and redis_lib.c alone.
 * SLUICE_REDIS_TLS: the Makefile has found libhiredis_ssl (1.x may have it, 0.14 never). */
#ifndef SLUICE_BACKENDS_REDIS_LIB_H
#define SLUICE_BACKENDS_REDIS_LIB_H

#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <hiredis/read.h>
#include <stdbool.h>
#include <stdlib.h>
#ifdef SLUICE_REDIS_TLS
#include <hiredis/hiredis_ssl.h>
#include <openssl/ssl.h>
#endif

#if HIREDIS_MAJOR >= 1
typedef size_t redis_count; // of an array's elements, for its maker
#define redis_memory_free hi_free
#else
typedef int redis_count;
#define redis_memory_free free
#endif

// Takes the oldest command that still waits for its reply. False: none waits.
static inline bool redis_next_owed(redisAsyncContext *ac, redisCallback *out)
{
    redisCallback *first = ac->replies.head;
    if (!first)
        return false;
    *out = *first;
    ac->replies.head = first->next;
    if (ac->replies.tail == first)
        ac->replies.tail = NULL;
    redis_memory_free(first);
    return true;
}

#endif
