// If, Loop and Scan: their subgraphs are run as bodies, a frame a trip. Shapes and datatypes may change from trip
// to trip, as the standard allows; the trips of all loops of a run are bounded together.
#include "base/mem.h"
#include "engine/late.h"
#include <stdio.h>

// ---- load --------------------------------------------------------------------------------------------

static const struct graph *body_of(const struct node *n, const char *name)
{
    const struct attr *a = node_attr(n, name);
    return a ? a->graph : NULL;
}

bool shape_if(struct job *j, struct engine_error *e)
{
    static const char *const branches[] = {"then_branch", "else_branch"};
    for (unsigned i = 0; i < 2; i++) {
        const struct graph *b = body_of(j->node, branches[i]);
        if (!b)
            return shape_wrong(j, e, "expected two subgraphs, then_branch and else_branch");
        if (b->n_inputs != 0 || b->n_outputs != j->node->n_outputs)
            return shape_wrong(j, e, "expected branches without inputs, with an output for each");
    }
    return true;
}

const struct graph *control_branch(const struct node *n, bool yes)
{
    return body_of(n, yes ? "then_branch" : "else_branch");
}

bool shape_loop(struct job *j, struct engine_error *e)
{
    const struct graph *b = body_of(j->node, "body");
    unsigned carried = j->node->n_inputs > 2 ? j->node->n_inputs - 2 : 0;
    if (!b || b->n_inputs != carried + 2 || b->n_outputs < carried + 1)
        return shape_wrong(j, e,
                           "body: expected a trip's number, a condition and each carried value as "
                           "inputs, and the two latter again as outputs");
    if (j->node->n_outputs > b->n_outputs - 1)
        return shape_wrong(j, e, "body: expected as many outputs as the node's and a condition");
    for (unsigned i = 2; i < j->node->n_inputs; i++) {
        if (j->node->input[i] < 0)
            return shape_wrong(j, e, "a carried value is left out");
    }
    return true;
}

struct scan {
    const struct graph *body;
    unsigned states, ins, outs; // values carried; tensors walked along; tensors put together
};

static bool scan_list(struct job *j, const char *name, unsigned n, struct engine_error *e)
{
    const struct attr *a = node_attr(j->node, name);
    char what[80];
    snprintf(what, sizeof(what), "%s: expected one for each", name);
    return !a || a->n == n || shape_wrong(j, e, what);
}

static struct scan scan_of(const struct node *n)
{
    int64_t ins = node_int(n, "num_scan_inputs", 0);
    struct scan s = {.body = body_of(n, "body")};
    s.ins = ins > 0 && ins <= n->n_inputs ? (unsigned)ins : 0;
    s.states = n->n_inputs - s.ins;
    s.outs = s.body && s.body->n_outputs > s.states ? s.body->n_outputs - s.states : 0;
    return s;
}

bool shape_scan(struct job *j, struct engine_error *e)
{
    struct scan s = scan_of(j->node);
    if (j->node->opset < 9)
        return shape_wrong(j, e, "the Scan of opset 8 is not supported");
    if (!s.body || s.ins == 0 || s.body->n_inputs != j->node->n_inputs ||
        s.body->n_outputs < s.states || s.body->n_outputs < j->node->n_outputs)
        return shape_wrong(j, e, "body, num_scan_inputs: inputs and outputs do not fit");
    for (unsigned i = 0; i < j->node->n_inputs; i++) {
        if (j->node->input[i] < 0)
            return shape_wrong(j, e, "an input is left out");
    }
    return scan_list(j, "scan_input_axes", s.ins, e) &&
           scan_list(j, "scan_input_directions", s.ins, e) &&
           scan_list(j, "scan_output_axes", s.outs, e) &&
           scan_list(j, "scan_output_directions", s.outs, e);
}

// ---- parts -------------------------------------------------------------------------------------------

static bool control_fails(struct late *l, const struct node *n, const char *what)
{
    char title[128];
    return engine_fail(l->e, "%s: %s", node_title(n, title), what);
}

// A condition; false with l->e when s is none.
static bool bool_of(struct late *l, const struct node *n, const struct slot *s, bool *yes)
{
    size_t count;
    if (s->array.dtype != ENGINE_BOOL || !array_count(&s->array, &count) || count != 1)
        return control_fails(l, n, "its condition: expected one bool");
    *yes = *(const uint8_t *)s->array.data != 0;
    return true;
}

static bool one_more_trip(struct late *l, const struct node *n)
{
    char title[128];
    if (l->trips < l->limits.trips) {
        l->trips++;
        return true;
    }
    return engine_fail(l->e, "%s: more than %u trips in one run", node_title(n, title),
                       l->limits.trips);
}

static struct slot *output_slot(const struct frame *f, const struct node *n, unsigned i)
{
    return i < n->n_outputs && n->output[i] >= 0 ? &f->slots[n->output[i]] : NULL;
}

// What trips give, one behind the other along an axis of its own: [outer, room of trips, inner].
struct pile {
    struct slot made; // of the shape that it will have; its memory has the room
    struct array one; // what a trip gives
    unsigned axis;
    size_t outer, inner, trips, room; // inner in bytes
};

static void pile_shape(struct pile *p, size_t trips)
{
    struct array *a = &p->made.array;
    a->dtype = p->one.dtype;
    a->rank = p->one.rank + 1;
    for (unsigned i = 0; i < a->rank; i++)
        a->shape[i] = i < p->axis    ? p->one.shape[i]
                      : i == p->axis ? (int64_t)trips
                                     : p->one.shape[i - 1];
}

// The first trip says what all of them are.
static bool pile_begin(struct late *l, struct pile *p, const struct array *one, int64_t axis,
                       size_t room, const struct node *n)
{
    axis += axis < 0 ? (int64_t)one->rank + 1 : 0;
    if (one->rank == ENGINE_MAX_RANK || axis < 0 || axis > (int64_t)one->rank)
        return control_fails(l, n, "what its trips give has too many dimensions, or not that axis");
    *p = (struct pile){.one = *one, .axis = (unsigned)axis, .outer = 1, .room = room};
    p->inner = dtype_bytes(one->dtype);
    for (unsigned i = 0; i < one->rank; i++) {
        if (i < p->axis)
            p->outer *= (size_t)one->shape[i];
        else
            p->inner *= (size_t)one->shape[i];
    }
    pile_shape(p, room);
    struct array a = p->made.array;
    return slot_make(l, &p->made, &a, n);
}

// Twice the room; the axis is the first one.
static bool pile_grow(struct late *l, struct pile *p, const struct node *n)
{
    struct slot old = p->made;
    p->made = (struct slot){0};
    pile_shape(p, 2 * p->room);
    struct array a = p->made.array;
    bool ok = slot_make(l, &p->made, &a, n);
    if (ok && p->trips * p->inner > 0)
        memcpy(p->made.array.data, old.array.data, p->trips * p->inner);
    p->room *= 2;
    slot_drop(l, &old);
    return ok;
}

// s as the k-th of the pile. False with l->e.
static bool pile_put(struct late *l, struct pile *p, const struct slot *s, size_t k,
                     const struct node *n)
{
    const struct array *a = &s->array;
    if (a->dtype != p->one.dtype || a->rank != p->one.rank ||
        memcmp(a->shape, p->one.shape, a->rank * sizeof(a->shape[0])) != 0)
        return control_fails(l, n, "its trips give tensors of different shapes to put together");
    for (size_t o = 0; p->inner > 0 && o < p->outer; o++)
        memcpy((char *)p->made.array.data + (o * p->room + k) * p->inner,
               (const char *)a->data + o * p->inner, p->inner);
    p->trips++;
    return true;
}

// What no trip gave, as far as the file says what it would have been.
static bool pile_empty(struct late *l, struct pile *p, const struct declared *d, int64_t axis,
                       const struct node *n)
{
    struct array one = d->array;
    if (one.dtype == ENGINE_NONE)
        return control_fails(l, n, "made no trip, and the file does not say what it would give");
    for (unsigned i = 0; i < one.rank; i++)
        one.shape[i] = one.shape[i] < 0 ? 0 : one.shape[i];
    return pile_begin(l, p, &one, axis, 0, n);
}

static void pile_end(struct late *l, struct pile *p, struct slot *to)
{
    if (to && p->made.cell) {
        pile_shape(p, p->trips);
        slot_share(to, &p->made);
    }
    slot_drop(l, &p->made);
}

// ---- If ----------------------------------------------------------------------------------------------

bool control_if(struct late *l, struct frame *f, struct node *n)
{
    struct frame b;
    bool yes;
    if (!bool_of(l, n, &f->slots[n->input[0]], &yes))
        return false;
    bool ok = frame_begin(l, &b, control_branch(n, yes), n, f) && frame_run(l, &b);
    for (unsigned i = 0; ok && i < n->n_outputs; i++) {
        if (output_slot(f, n, i))
            slot_share(output_slot(f, n, i), &b.slots[b.graph->outputs[i]]);
    }
    frame_end(l, &b);
    return ok;
}

// ---- Loop --------------------------------------------------------------------------------------------

struct looping {
    struct late *l;
    struct frame *f;
    struct node *n;
    const struct graph *body;
    unsigned carried, piled;
    struct slot *state;  // [1 + carried]: the condition, then the values
    struct pile *piles;  // [piled]
    int64_t most, trips; // trips: made so far
};

static bool is_asked(const struct looping *o, unsigned pile)
{
    return output_slot(o->f, o->n, o->carried + pile) != NULL;
}

// The body's values after a trip on the state; they are b's, also when this fails.
static bool loop_body(struct looping *o, struct frame *b)
{
    struct late *l = o->l;
    struct array number = {.dtype = ENGINE_I64};
    bool ok = frame_begin(l, b, o->body, o->n, o->f) &&
              slot_make(l, &b->slots[o->body->inputs[0]], &number, o->n);
    if (ok)
        *(int64_t *)b->slots[o->body->inputs[0]].array.data = o->trips;
    for (unsigned i = 0; ok && i < 1 + o->carried; i++)
        slot_share(&b->slots[o->body->inputs[1 + i]], &o->state[i]);
    return ok && frame_run(l, b);
}

// One trip: what it gives becomes the state.
static bool loop_trip(struct looping *o)
{
    struct late *l = o->l;
    struct frame b = {.slots = NULL};
    bool ok = one_more_trip(l, o->n) && loop_body(o, &b);
    for (unsigned i = 0; ok && i < 1 + o->carried; i++) {
        slot_drop(l, &o->state[i]);
        slot_share(&o->state[i], &b.slots[o->body->outputs[i]]);
    }
    for (unsigned i = 0; ok && i < o->piled; i++) {
        const struct slot *s = &b.slots[o->body->outputs[1 + o->carried + i]];
        struct pile *p = &o->piles[i];
        if (!is_asked(o, i))
            continue;
        if (o->trips == 0)
            ok = pile_begin(l, p, &s->array, 0, 4, o->n);
        else if (p->trips == p->room)
            ok = pile_grow(l, p, o->n);
        ok = ok && pile_put(l, p, s, p->trips, o->n);
    }
    frame_end(l, &b);
    o->trips++;
    return ok;
}

// What no trip gave: as the file says, or else as a trip would have made it, which changes nothing.
static bool loop_none(struct looping *o)
{
    const struct declared *said = &o->body->declared[1 + o->carried];
    struct frame b = {.slots = NULL};
    bool ok = true, silent = false;
    for (unsigned i = 0; ok && i < o->piled; i++) {
        silent |= is_asked(o, i) && said[i].array.dtype == ENGINE_NONE;
        if (is_asked(o, i) && said[i].array.dtype != ENGINE_NONE)
            ok = pile_empty(o->l, &o->piles[i], &said[i], 0, o->n);
    }
    if (!ok || !silent)
        return ok;
    ok = loop_body(o, &b);
    for (unsigned i = 0; ok && i < o->piled; i++) {
        const struct slot *s = &b.slots[o->body->outputs[1 + o->carried + i]];
        if (is_asked(o, i) && said[i].array.dtype == ENGINE_NONE)
            ok = pile_begin(o->l, &o->piles[i], &s->array, 0, 0, o->n);
    }
    frame_end(o->l, &b);
    return ok;
}

static bool loop_all(struct looping *o)
{
    bool go_on = true, ok = true;
    if (o->n->n_inputs > 1 && o->n->input[1] >= 0)
        ok = bool_of(o->l, o->n, &o->state[0], &go_on);
    else if ((ok = slot_make(o->l, &o->state[0], &(struct array){.dtype = ENGINE_BOOL}, o->n)))
        *(uint8_t *)o->state[0].array.data = 1;
    while (ok && go_on && o->trips < o->most)
        ok = loop_trip(o) && bool_of(o->l, o->n, &o->state[0], &go_on);
    return ok && (o->trips > 0 || loop_none(o));
}

static bool loop_most(struct looping *o)
{
    const struct slot *m =
        o->n->n_inputs > 0 && o->n->input[0] >= 0 ? &o->f->slots[o->n->input[0]] : NULL;
    size_t count;
    o->most = INT64_MAX;
    if (!m)
        return true;
    if (m->array.dtype != ENGINE_I64 || !array_count(&m->array, &count) || count != 1)
        return control_fails(o->l, o->n, "its number of trips: expected one int64");
    o->most = *(const int64_t *)m->array.data;
    return true;
}

bool control_loop(struct late *l, struct frame *f, struct node *n)
{
    struct looping o = {.l = l, .f = f, .n = n, .body = body_of(n, "body")};
    o.carried = o.body->n_inputs - 2;
    o.piled = o.body->n_outputs - 1 - o.carried;
    o.state = mem_zalloc((1 + o.carried) * sizeof(*o.state));
    o.piles = mem_zalloc((o.piled + 1) * sizeof(*o.piles));
    bool ok = (o.state && o.piles) || engine_fail(l->e, "out of memory");
    if (ok && n->n_inputs > 1 && n->input[1] >= 0)
        slot_share(&o.state[0], &f->slots[n->input[1]]);
    for (unsigned i = 0; ok && i < o.carried; i++)
        slot_share(&o.state[1 + i], &f->slots[n->input[2 + i]]);
    ok = ok && loop_most(&o) && loop_all(&o);
    for (unsigned i = 0; o.state && i < 1 + o.carried; i++) {
        if (ok && i > 0 && output_slot(f, n, i - 1))
            slot_share(output_slot(f, n, i - 1), &o.state[i]);
        slot_drop(l, &o.state[i]);
    }
    for (unsigned i = 0; o.piles && i < o.piled; i++)
        pile_end(l, &o.piles[i], ok ? output_slot(f, n, o.carried + i) : NULL);
    mem_free(o.state);
    mem_free(o.piles);
    return ok;
}

// ---- Scan --------------------------------------------------------------------------------------------

struct scanning {
    struct late *l;
    struct frame *f;
    struct node *n;
    struct scan s;
    struct slot *state; // [states]
    struct pile *piles; // [outs]
    int64_t trips;
};

static int64_t listed(const struct node *n, const char *name, unsigned i)
{
    const struct attr *a = node_attr(n, name);
    return a ? a->ints[i] : 0;
}

// Where trip k of an input or output stands, which may be walked backwards.
static size_t place_of(const struct scanning *o, const char *name, unsigned i, int64_t k)
{
    return (size_t)(listed(o->n, name, i) != 0 ? o->trips - 1 - k : k);
}

// The axis of scanned input i; -1: it does not have it.
static int64_t scan_axis(const struct scanning *o, unsigned i, const struct array *x)
{
    int64_t axis = listed(o->n, "scan_input_axes", i);
    axis += axis < 0 ? (int64_t)x->rank : 0;
    return axis < (int64_t)x->rank ? axis : -1;
}

static bool scan_trips(struct scanning *o)
{
    o->trips = -1;
    for (unsigned i = 0; i < o->s.ins; i++) {
        const struct array *x = &o->f->slots[o->n->input[o->s.states + i]].array;
        int64_t axis = scan_axis(o, i, x);
        if (axis < 0)
            return control_fails(o->l, o->n, "scan_input_axes: an axis is out of range");
        if (o->trips >= 0 && x->shape[axis] != o->trips)
            return control_fails(o->l, o->n, "expected inputs of one length to scan");
        o->trips = x->shape[axis];
    }
    return true;
}

// The k-th part of input i, copied.
static bool scan_slice(struct scanning *o, unsigned i, int64_t k, struct slot *to)
{
    const struct array *x = &o->f->slots[o->n->input[o->s.states + i]].array;
    unsigned axis = (unsigned)scan_axis(o, i, x);
    struct array one = {.dtype = x->dtype, .rank = x->rank - 1};
    size_t outer = 1, inner = dtype_bytes(x->dtype),
           at = place_of(o, "scan_input_directions", i, k);
    for (unsigned d = 0, r = 0; d < x->rank; d++) {
        if (d < axis)
            outer *= (size_t)x->shape[d];
        if (d > axis)
            inner *= (size_t)x->shape[d];
        if (d != axis)
            one.shape[r++] = x->shape[d];
    }
    if (!slot_make(o->l, to, &one, o->n))
        return false;
    for (size_t p = 0; inner > 0 && p < outer; p++)
        memcpy((char *)to->array.data + p * inner,
               (const char *)x->data + (p * (size_t)o->trips + at) * inner, inner);
    return true;
}

static bool scan_trip(struct scanning *o, int64_t k)
{
    struct late *l = o->l;
    const struct graph *body = o->s.body;
    struct frame b;
    if (!one_more_trip(l, o->n))
        return false;
    bool ok = frame_begin(l, &b, body, o->n, o->f);
    for (unsigned i = 0; ok && i < o->s.states; i++)
        slot_share(&b.slots[body->inputs[i]], &o->state[i]);
    for (unsigned i = 0; ok && i < o->s.ins; i++)
        ok = scan_slice(o, i, k, &b.slots[body->inputs[o->s.states + i]]);
    ok = ok && frame_run(l, &b);
    for (unsigned i = 0; ok && i < o->s.states; i++) {
        slot_drop(l, &o->state[i]);
        slot_share(&o->state[i], &b.slots[body->outputs[i]]);
    }
    for (unsigned i = 0; ok && i < o->s.outs; i++) {
        const struct slot *s = &b.slots[body->outputs[o->s.states + i]];
        int64_t axis = listed(o->n, "scan_output_axes", i);
        if (!output_slot(o->f, o->n, o->s.states + i))
            continue;
        if (k == 0)
            ok = pile_begin(l, &o->piles[i], &s->array, axis, (size_t)o->trips, o->n);
        ok = ok && pile_put(l, &o->piles[i], s, place_of(o, "scan_output_directions", i, k), o->n);
    }
    frame_end(l, &b);
    return ok;
}

static bool scan_all(struct scanning *o)
{
    bool ok = scan_trips(o);
    for (int64_t k = 0; ok && k < o->trips; k++)
        ok = scan_trip(o, k);
    for (unsigned i = 0; ok && o->trips == 0 && i < o->s.outs; i++)
        ok = !output_slot(o->f, o->n, o->s.states + i) ||
             pile_empty(o->l, &o->piles[i], &o->s.body->declared[o->s.states + i],
                        listed(o->n, "scan_output_axes", i), o->n);
    return ok;
}

bool control_scan(struct late *l, struct frame *f, struct node *n)
{
    struct scanning o = {.l = l, .f = f, .n = n, .s = scan_of(n)};
    o.state = mem_zalloc((o.s.states + 1) * sizeof(*o.state));
    o.piles = mem_zalloc((o.s.outs + 1) * sizeof(*o.piles));
    bool ok = (o.state && o.piles) || engine_fail(l->e, "out of memory");
    for (unsigned i = 0; ok && i < o.s.states; i++)
        slot_share(&o.state[i], &f->slots[n->input[i]]);
    ok = ok && scan_all(&o);
    for (unsigned i = 0; o.state && i < o.s.states; i++) {
        if (ok && output_slot(f, n, i))
            slot_share(output_slot(f, n, i), &o.state[i]);
        slot_drop(l, &o.state[i]);
    }
    for (unsigned i = 0; o.piles && i < o.s.outs; i++)
        pile_end(l, &o.piles[i], ok ? output_slot(f, n, o.s.states + i) : NULL);
    mem_free(o.state);
    mem_free(o.piles);
    return ok;
}
