/* engine/strings.h: tensors of strings. Inside a graph an element is a struct view: bytes of the run's inputs, of
 * the model, or text that a kernel made (job_text). At ports they stand one behind the other, each as the 4
 * bytes of its length (little-endian) and its bytes, as BYTES travel in the Open Inference Protocol. On devices
 * whose memory the host sees. Thinks. */
#ifndef SLUICE_ENGINE_STRINGS_H
#define SLUICE_ENGINE_STRINGS_H

#include "engine/ops.h"

// Are there exactly `count` of them? out: NULL, or [count], views into data.
bool strings_read(const void *data, size_t bytes, size_t count, struct view *out);
// How many bytes the first `count` of them take; they are there.
size_t strings_skip(const void *data, size_t count);
// How many bytes they take at ports. False: more than `most`, or one is longer than its length can say.
bool strings_bytes(const struct view *s, size_t count, size_t most, size_t *bytes);
void strings_write(const struct view *s, size_t count, char *to);
// As few bytes as a's elements take at a port: empty strings, or all of its bytes.
size_t strings_least(const struct array *a);

bool op_takes_strings(const struct op *op);
// The op's shape function, and whether strings may be what goes in and comes out. False with e.
bool op_shape(struct job *j, struct engine_error *e);

// What a StringNormalizer makes of its input's strings, into y, which has room for all of them. False with the
// node's failure.
bool normalize_strings(const struct job *j, struct view *y, size_t *kept);

// Says which outputs are maps in the file and tensors here.
void strings_note(const struct graph *g);

// n bytes that live as long as the node's output. NULL: the node has failed.
char *job_text(const struct job *j, size_t n);

// How many labels a classifier of ai.onnx.ml has, and of which datatype (d: NULL, or told; ENGINE_NONE: of two).
size_t class_labels(const struct node *n, enum engine_dtype *d);
// What is wrong with a TfIdfVectorizer, a LabelEncoder, CategoryMapper or OneHotEncoder, whatever its input is;
// NULL: nothing. Their kernels prepare nothing for one that is wrong: its shape function will refuse it.
const char *tfidf_wrong(const struct node *n);
const char *labels_wrong(const struct node *n);

// ---- attributes --------------------------------------------------------------------------------------

// A list of the node's; NULL with *n == 0: not there, or empty.
const struct view *node_strings(const struct node *n, const char *name, size_t *count);
const int64_t *node_ints(const struct node *n, const char *name, size_t *count);
const float *node_floats(const struct node *n, const char *name, size_t *count);
struct view node_string(const struct node *n, const char *name, struct view otherwise);

#endif
