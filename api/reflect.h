/* api/reflect.h: server reflection (grpc.reflection.v1 and v1alpha, which differ in their name only): what our services look
 * like, for clients that know nothing of them. Both sides stream: a question is a message of the body, and has its
 * answer when the client takes it. What the client asks ahead waits in the body, REFLECT_AHEAD bytes at most. Thinks.
 * Source: grpc/grpc-proto grpc/reflection/v1/reflection.proto. */
#ifndef SLUICE_API_REFLECT_H
#define SLUICE_API_REFLECT_H

#include "api/serving.h"

#define REFLECT_AHEAD (64u << 10)

void reflect_route(struct serving *s);                  // on the head
void reflect_start(struct serving *s, uint64_t now_us); // the answer begins to flow
void reflect_want(struct serving *s, uint64_t now_us);  // on_want

#endif
