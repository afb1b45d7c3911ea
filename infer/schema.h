/* infer/schema.h: what our gRPC services look like, as a client that knows nothing of them asks: descriptors
 * (google/protobuf/descriptor.proto), written from rows when they are asked for. Of the service's messages the rows are all
 * that we read and write; ModelConfig is Triton's, whole. Thinks. Thread: any. */
#ifndef SLUICE_INFER_SCHEMA_H
#define SLUICE_INFER_SCHEMA_H

#include "base/buffer.h"
#include "base/view.h"

struct schema_file;

// By its name, or by the full name of a service, method, message, field, enum or value in it. NULL: there is none.
const struct schema_file *schema_named(struct view name);
const struct schema_file *schema_with(struct view symbol);
// Appends its FileDescriptorProto. False: out of memory.
bool schema_write(struct buffer *out, const struct schema_file *f);
// The full name of the k-th service; n == 0: there are no more. In memory that the caller gives.
#define SCHEMA_NAME 128
struct view schema_service(unsigned k, char text[SCHEMA_NAME]);

#endif
