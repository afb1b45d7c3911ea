#include "ctl/commands.h"

#include "ctl/cache.h"
#include "ctl/clock.h"
#include "ctl/columns.h"
#include "ctl/complain.h"
#include "ctl/creation.h"
#include "ctl/experiment.h"
#include "ctl/level.h"
#include "ctl/log.h"
#include "ctl/top.h"
#include "ctl/watch.h"
#include "ctl/words.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ID_BYTES 128
#define PATH_BYTES (32 + 3 * ID_BYTES)

struct ctl_command { // adding one is a row, its test, help, man page and completion
    const char *name;
    const char *verb; // the word behind it that makes it this one; NULL: it has no verbs
    const char *path;
    bool acts;       // POST of nothing
    bool takes_word; // then POST of that, as the level to be
    bool waits;      // --wait has a meaning
    bool about_word; // wants a word: what is asked about, which stands behind path
    bool about_more; // the word behind its verb stands behind path, and `behind` behind that
    const char *behind;
    // The answer has no end: watch.h, top.h have it.
    enum ctl_exit (*flows)(const struct ctl_options *o, const struct ask *a);
    // Of a verb: are the words behind it right; what is POSTed then. NULL: none may stand there; it is a question.
    bool (*check)(const struct ctl_options *o, char why[OPTIONS_ERROR]);
    json_t *(*wish)(const struct ctl_options *o);
    // As wish, of what is read for it. NULL: why not.
    json_t *(*load)(const struct ctl_options *o, char why[OPTIONS_ERROR]);
    enum ctl_exit (*here)(
        const struct ctl_options *o); // done without the gateway. NULL: it is asked
    // The part of the answer that was asked for; NULL: all of it.
    json_t *(*pick)(const json_t *page);
    bool (*words)(const json_t *picked, struct buffer *out);
};

static const struct ctl_command commands[] = {
    {.name = "status", .path = "/status", .words = words_of_status},
    {.name = "models", .path = "/status", .pick = words_pick_models, .words = words_of_models},
    {.name = "workers", .path = "/status", .pick = words_pick_workers, .words = words_of_workers},
    {.name = "explain", .path = "/v1/requests/", .about_word = true, .words = words_of_request},
    {.name = "watch", .path = WATCH_PATH, .flows = watch_run},
    {.name = "top", .path = TOP_PATH, .flows = top_run},
    {.name = "reload", .path = "/v1/reload", .acts = true, .words = words_of_reload},
    {.name = "drain", .path = "/v1/drain", .acts = true, .waits = true, .words = words_of_drain},
    {.name = "loglevel", .path = "/v1/loglevel", .takes_word = true, .words = words_of_level},
    {.name = "level", .verb = "show", .path = "/v1/levels", .words = words_of_levels},
    {.name = "level",
     .verb = "set",
     .path = "/v1/levels",
     .check = level_check_set,
     .wish = level_wish_set,
     .words = words_of_pin},
    {.name = "level",
     .verb = "clear",
     .path = "/v1/levels",
     .check = level_check_clear,
     .wish = level_wish_clear,
     .words = words_of_pin},
    {.name = "experiment",
     .verb = "list",
     .path = "/v1/experiments",
     .check = experiment_check_list,
     .words = words_of_experiments},
    {.name = "experiment",
     .verb = "show",
     .path = "/v1/experiments/",
     .about_more = true,
     .check = experiment_check_name,
     .words = words_of_experiment},
    {.name = "experiment",
     .verb = "weights",
     .path = "/v1/experiments/",
     .about_more = true,
     .behind = "/weights",
     .check = experiment_check_weights,
     .wish = experiment_wish_weights,
     .words = words_of_experiment},
    {.name = "experiment",
     .verb = "pause",
     .path = "/v1/experiments/",
     .about_more = true,
     .behind = "/pause",
     .check = experiment_check_name,
     .wish = experiment_wish,
     .words = words_of_experiment},
    {.name = "experiment",
     .verb = "resume",
     .path = "/v1/experiments/",
     .about_more = true,
     .behind = "/resume",
     .check = experiment_check_name,
     .wish = experiment_wish,
     .words = words_of_experiment},
    {.name = "experiment",
     .verb = "rollback",
     .path = "/v1/experiments/",
     .about_more = true,
     .behind = "/rollback",
     .check = experiment_check_name,
     .wish = experiment_wish,
     .words = words_of_experiment},
    {.name = "experiment",
     .verb = "promote",
     .path = "/v1/experiments/",
     .about_more = true,
     .behind = "/promote",
     .check = experiment_check_promote,
     .wish = experiment_wish_promote,
     .words = words_of_experiment},
    {.name = "experiment",
     .verb = "create",
     .path = "/v1/experiments",
     .behind = "",
     .check = creation_check,
     .load = creation_load,
     .words = words_of_experiment},
    {.name = "experiment",
     .verb = "delete",
     .path = "/v1/experiments/",
     .about_more = true,
     .behind = "/delete",
     .check = experiment_check_name,
     .wish = creation_wish_delete,
     .words = words_of_deletion},
    {.name = "experiment",
     .verb = "watch",
     .path = WATCH_PATH,
     .flows = watch_run,
     .check = experiment_check_watch},
    {.name = "log", .verb = "export", .check = log_check, .here = log_run},
    {.name = "log", .verb = "tail", .check = log_check, .here = log_run},
    {.name = "log", .verb = "archive", .check = log_check, .here = log_run},
    {.name = "cache", .verb = "stats", .path = "/v1/cache", .words = words_of_cache},
    {.name = "cache",
     .verb = "flush",
     .path = "/v1/cache/flush",
     .check = cache_check_flush,
     .wish = cache_wish_flush,
     .words = words_of_flush},
};

// Its command; of one with verbs the first where no verb of it stands there.
static const struct ctl_command *find_command(const struct ctl_options *o)
{
    const struct ctl_command *found = NULL;
    for (size_t i = 0; o->command && i < sizeof(commands) / sizeof(commands[0]); i++) {
        const struct ctl_command *c = &commands[i];
        if (strcmp(c->name, o->command) != 0)
            continue;
        if (!c->verb || (o->argument && strcmp(c->verb, o->argument) == 0))
            return c;
        found = found ? found : c;
    }
    return found;
}

static bool has_verb(const struct ctl_command *c, const struct ctl_options *o)
{
    return !c->verb || (o->argument && strcmp(c->verb, o->argument) == 0);
}

static bool refuse_verb(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    int n = snprintf(why, OPTIONS_ERROR, "%.80s: expected", o->command);
    const char *between = " ";
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, o->command) != 0)
            continue;
        n += snprintf(why + n, OPTIONS_ERROR - (size_t)n, "%s%s", between, commands[i].verb);
        between = " or ";
    }
    snprintf(why + n, OPTIONS_ERROR - (size_t)n, " behind it, got \"%.80s\"",
             o->argument ? o->argument : "");
    return false;
}

// What a request's id may be (x-request-id).
static bool is_id(const char *word)
{
    size_t n = word ? strlen(word) : 0;
    for (size_t i = 0; i < n; i++) {
        if (word[i] < 0x21 || word[i] > 0x7e)
            return false;
    }
    return n > 0 && n <= ID_BYTES;
}

static bool is_for_log(const struct ctl_command *c, const struct ctl_options *o)
{
    return o->since || (o->model && !c->load) || o->format || o->deployment || o->config ||
           o->password_file || o->cert_file || o->key_file || o->tls || o->keep;
}

bool command_check(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    const struct ctl_command *c = find_command(o);
    if (!o->command)
        snprintf(why, OPTIONS_ERROR, "no command");
    else if (!c)
        snprintf(why, OPTIONS_ERROR, "unknown command \"%.80s\"", o->command);
    else if (!has_verb(c, o))
        return refuse_verb(o, why);
    else if (!c->here && is_for_log(c, o))
        snprintf(
            why, OPTIONS_ERROR,
            "%s: --since, --model, --format, --deployment, --config, --password-file, --cert-file, "
            "--key-file, --tls and --keep belong to log",
            c->name);
    else if (c->check != level_check_set && (o->for_ || (o->why && !c->behind)))
        snprintf(why, OPTIONS_ERROR,
                 "%s: --for and --why belong to level set, --why to what changes an experiment",
                 c->name);
    else if (!c->load && (o->key || o->variants > 0 || o->start))
        snprintf(why, OPTIONS_ERROR, "%s: --key, --variant and --start belong to experiment create",
                 c->name);
    else if (o->yes && c->wish != creation_wish_delete)
        snprintf(why, OPTIONS_ERROR, "%s: --yes belongs to experiment delete", c->name);
    else if (o->revision && !c->behind)
        snprintf(why, OPTIONS_ERROR, "%s: --revision belongs to what changes an experiment",
                 c->name);
    else if (!c->wish && !c->check && !c->here && o->more[0])
        snprintf(why, OPTIONS_ERROR, "%s: expected one word behind it at most, got \"%.80s\" too",
                 c->name, o->more[0]);
    else if (c->check && !c->check(o, why))
        return false;
    else if (c->about_word && !is_id(o->argument))
        snprintf(why, OPTIONS_ERROR,
                 "%s: expected a request id, 1 to %d visible characters, got \"%.80s\"", c->name,
                 ID_BYTES, o->argument ? o->argument : "");
    else if (o->argument && !c->takes_word && !c->about_word && !c->verb)
        snprintf(why, OPTIONS_ERROR, "%s: expected no word behind it, got \"%.80s\"", c->name,
                 o->argument);
    else if (o->wait && !c->waits)
        snprintf(why, OPTIONS_ERROR, "%s: --wait belongs to drain", c->name);
    else if (o->once && c->flows != top_run)
        snprintf(why, OPTIONS_ERROR, "%s: --once belongs to top", c->name);
    else
        return true;
    return false;
}

// ---- answers --------------------------------------------------------------------------------------------------

static enum ctl_exit print_text(struct view text)
{
    if (fwrite(text.p, 1, text.n, stdout) == text.n && fflush(stdout) == 0)
        return CTL_DONE;
    return complain(CTL_REFUSED, "standard output: %s", strerror(errno));
}

static enum ctl_exit print_json(const json_t *value)
{
    char *text = json_dumps(value, JSON_INDENT(2));
    if (!text)
        return complain(CTL_REFUSED, "out of memory");
    enum ctl_exit end = print_text(view_str(text));
    free(text);
    return end == CTL_DONE ? print_text(VIEW("\n")) : end;
}

static enum ctl_exit print_answer(const struct ctl_command *c, const struct ctl_options *o,
                                  const struct ask *a, json_t *answer)
{
    struct buffer text;
    enum ctl_exit end;
    buffer_init(&text);
    json_t *picked = c->pick ? c->pick(answer) : json_incref(answer);
    // Put into words in any case: what does not fit is no answer of an admin listener, as JSON neither.
    if (!picked || !c->words(picked, &text))
        end =
            complain(CTL_REFUSED, "%s: answered JSON that is no answer to %s", a->address, c->name);
    else
        end = o->json ? print_json(picked) : print_text(buffer_view(&text));
    json_decref(picked);
    buffer_deinit(&text);
    return end;
}

// ---- drain --wait -----------------------------------------------------------------------------------------------

#define WAIT_GRACE_MS 15000 // beyond what was promised: cuts, workers that stop, the keeper's end
#define WAIT_PAUSE_MS 100

// Another process answers there: the next one, started meanwhile.
static bool is_another(struct view page, const json_t *answer)
{
    json_t *status = json_loadb(page.n ? page.p : "", page.n, JSON_ALLOW_NUL, NULL);
    const json_t *pid = json_object_get(status, "pid");
    bool another = pid && !json_equal(pid, json_object_get(answer, "pid"));
    json_decref(status);
    return another;
}

// Until nobody takes connections there any more: the keeper holds the socket to its end.
static enum ctl_exit wait_gone(const struct ask *a, const json_t *answer)
{
    char why[ASK_ERROR];
    struct ask quick = *a;
    struct buffer page;
    long status;
    uint64_t most_ms = (uint64_t)json_integer_value(json_object_get(answer, "delay_ms")) +
                       (uint64_t)json_integer_value(json_object_get(answer, "timeout_ms")) +
                       WAIT_GRACE_MS;
    uint64_t until_ms = clock_ms() + most_ms;
    enum ctl_exit end = CTL_REFUSED;
    quick.timeout_ms = 1000;
    buffer_init(&page);
    while (end != CTL_DONE && clock_ms() < until_ms) {
        enum ask_end got = ask(&quick, "/status", NULL, &status, &page, why);
        if (got == ASK_AWAY || (got == ASK_ANSWERED && is_another(buffer_view(&page), answer)))
            end = CTL_DONE;
        else
            clock_pause(WAIT_PAUSE_MS);
    }
    buffer_deinit(&page);
    if (end != CTL_DONE)
        complain(end, "%s: still there after %llu s", a->address,
                 (unsigned long long)most_ms / 1000);
    return end;
}

// ---- running ----------------------------------------------------------------------------------------------------

// What is sent; NULL: nothing, it is a question. `made`: freed by the caller, behind it. A word that is no UTF-8
// becomes an empty wish, which the gateway refuses. False: it cannot be read, and why.
static bool body_of(const struct ctl_command *c, const struct ctl_options *o, const char **body,
                    char **made, char why[OPTIONS_ERROR])
{
    *made = NULL;
    *body = c->acts ? "" : NULL;
    if (!c->wish && !c->load && (!c->takes_word || !o->argument))
        return true;
    json_t *wish = c->load   ? c->load(o, why)
                   : c->wish ? c->wish(o)
                             : json_pack("{s:s}", "level", o->argument);
    *made = wish ? json_dumps(wish, JSON_COMPACT) : NULL;
    *body = *made ? *made : "";
    bool ok = wish || !c->load;
    json_decref(wish);
    return ok;
}

static enum ctl_exit understand_answer(const struct ctl_command *c, const struct ctl_options *o,
                                       const struct ask *a, long status, const struct buffer *text)
{
    json_error_t error;
    struct view bytes = buffer_view(text);
    json_t *answer = json_loadb(bytes.p ? bytes.p : "", bytes.n, JSON_ALLOW_NUL, &error);
    enum ctl_exit end;
    if (status < 200 || status > 299)
        end = complain_refused(a, status, answer);
    else if (!answer)
        end = complain(CTL_REFUSED, "%s: what it answered is not JSON (line %d, column %d: %s)",
                       a->address, error.line, error.column, error.text);
    else
        end = print_answer(c, o, a, answer);
    if (end == CTL_DONE && o->wait)
        end = wait_gone(a, answer);
    json_decref(answer);
    return end;
}

// Its path, behind it the word that it is about, escaped but for slashes, which no path takes so, and what stands behind that.
static void put_path(const struct ctl_command *c, const struct ctl_options *o,
                     char path[PATH_BYTES])
{
    int n = snprintf(path, PATH_BYTES, "%s", c->path);
    for (const char *word = c->about_word   ? o->argument
                            : c->about_more ? o->more[0]
                                            : "";
         *word; word++) {
        bool plain = isalnum((unsigned char)*word) || strchr("-._~/", *word);
        n += snprintf(path + n, PATH_BYTES - (size_t)n, plain ? "%c" : "%%%02X",
                      (unsigned char)*word);
    }
    snprintf(path + n, PATH_BYTES - (size_t)n, "%s", c->behind ? c->behind : "");
}

bool command_is_here(const struct ctl_options *o)
{
    return find_command(o)->here != NULL;
}

enum ctl_exit command_run_here(const struct ctl_options *o)
{
    return find_command(o)->here(o);
}

enum ctl_exit command_run(const struct ctl_options *o, const struct ask *a)
{
    const struct ctl_command *c = find_command(o);
    char why[ASK_ERROR], path[PATH_BYTES], unread[OPTIONS_ERROR], *made;
    const char *body;
    if (c->flows)
        return c->flows(o, a);
    struct buffer text;
    long status = 0;
    put_path(c, o, path);
    if (!body_of(c, o, &body, &made, unread))
        return complain(CTL_UNANSWERED, "%s", unread);
    buffer_init(&text);
    enum ask_end end = ask(a, path, body, &status, &text, why);
    enum ctl_exit result = end == ASK_ANSWERED ? understand_answer(c, o, a, status, &text)
                                               : complain(CTL_UNANSWERED, "%s", why);
    free(made);
    buffer_deinit(&text);
    return result;
}
