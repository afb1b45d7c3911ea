/* ctl/words.h: what the admin listener answers, picked and put into words. Thinks: JSON (jansson) in, text out. A
 * member that is missing, as an older or newer gateway may have it, is "-". */
#ifndef SLUICE_CTL_WORDS_H
#define SLUICE_CTL_WORDS_H

#include "base/buffer.h"
#include <jansson.h>

// Of a /status page: its models, each with the desk that its home loop told of; its workers, each with what the
// loops told of their connections (`held`). A new value, to be given back; NULL: the page has none, or no memory.
json_t *words_pick_models(const json_t *page);
json_t *words_pick_workers(const json_t *page);

// Text for people, appended to out. False: out of memory, or the answer is not of that kind.
bool words_of_status(const json_t *page, struct buffer *out);
bool words_of_models(const json_t *picked, struct buffer *out);  // of words_pick_models
bool words_of_workers(const json_t *picked, struct buffer *out); // of words_pick_workers
bool words_of_request(const json_t *answer, struct buffer *out);
// One of /events: "09:41:12.345  warn   worker_down   worker=w/0 why=\"the connection broke off\"".
bool words_of_event(const json_t *event, struct buffer *out);
bool words_of_reload(const json_t *answer, struct buffer *out);
bool words_of_drain(const json_t *answer, struct buffer *out);
bool words_of_level(const json_t *answer, struct buffer *out);
bool words_of_cache(const json_t *answer, struct buffer *out);
bool words_of_flush(const json_t *answer, struct buffer *out);

#endif
