// The table of operators in words: docs/onnx.md holds what this gives.
#include "engine/engine.h"
#include "engine/small.h"
#include "engine/strings.h"

#include <stdio.h>

static const char *kind_of(enum attr_kind k)
{
    static const char *const names[] = {"int",   "float",  "text",  "ints", "floats",
                                        "texts", "tensor", "graph", "other"};
    return names[k];
}

static size_t attributes(const struct op *op, char *out, size_t room)
{
    size_t at = 0;
    for (unsigned i = 0; i < sizeof(op->attrs) / sizeof(op->attrs[0]) && op->attrs[i].name; i++)
        at += (size_t)snprintf(at < room ? out + at : NULL, at < room ? room - at : 0, "%s%s (%s)",
                               i ? ", " : "", op->attrs[i].name, kind_of(op->attrs[i].kind));
    if (at == 0 && room > 0)
        snprintf(out, room, "\u2013");
    return at;
}

bool engine_op_line(unsigned i, char *out, size_t room)
{
    char attrs[1024], inputs[32];
    unsigned outputs;
    if (i >= op_count)
        return false;
    const struct op *op = &op_table[i];
    outputs = op->outputs > 1 ? op->outputs : 1;
    attributes(op, attrs, sizeof(attrs));
    if (op->max_inputs == op->min_inputs)
        snprintf(inputs, sizeof(inputs), "%u", op->min_inputs);
    else
        snprintf(inputs, sizeof(inputs), "%u to %u", op->min_inputs, op->max_inputs);
    bool strings = op_takes_strings(op) && !strstr(op->types, "strings");
    snprintf(out, room, "| %s%s%s | %s | %u | %s | %s%s%s | %s |", op->domain ? op->domain : "",
             op->domain ? "." : "", op->name, inputs, outputs, attrs, op->types,
             strings ? ", strings" : "", op_takes_small(op) ? ", small" : "",
             op->limits ? op->limits : "\u2013");
    return true;
}
