#include "ctl/options.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct option_row { // one an option; adding one is a row, its test, help, man page and completion
    const char *name;
    bool flag; // takes no value
    size_t offset;
};

static const struct option_row rows[] = {
    {"--address", false, offsetof(struct ctl_options, address)},
    {"--token-file", false, offsetof(struct ctl_options, token_file)},
    {"--ca-file", false, offsetof(struct ctl_options, ca_file)},
    {"--timeout", false, offsetof(struct ctl_options, timeout)},
    {"--for", false, offsetof(struct ctl_options, for_)},
    {"--why", false, offsetof(struct ctl_options, why)},
    {"--revision", false, offsetof(struct ctl_options, revision)},
    {"--since", false, offsetof(struct ctl_options, since)},
    {"--model", false, offsetof(struct ctl_options, model)},
    {"--format", false, offsetof(struct ctl_options, format)},
    {"--deployment", false, offsetof(struct ctl_options, deployment)},
    {"--key", false, offsetof(struct ctl_options, key)},
    {"--variant", false, offsetof(struct ctl_options, variant)},
    {"--start", true, offsetof(struct ctl_options, start)},
    {"--yes", true, offsetof(struct ctl_options, yes)},
    {"--config", false, offsetof(struct ctl_options, config)},
    {"--password-file", false, offsetof(struct ctl_options, password_file)},
    {"--cert-file", false, offsetof(struct ctl_options, cert_file)},
    {"--key-file", false, offsetof(struct ctl_options, key_file)},
    {"--tls", true, offsetof(struct ctl_options, tls)},
    {"--keep", false, offsetof(struct ctl_options, keep)},
    {"--json", true, offsetof(struct ctl_options, json)},
    {"--wait", true, offsetof(struct ctl_options, wait)},
    {"--once", true, offsetof(struct ctl_options, once)},
    {"--version", true, offsetof(struct ctl_options, version)},
    {"--help", true, offsetof(struct ctl_options, help)},
    {"-h", true, offsetof(struct ctl_options, help)},
};

bool options_refuse(char why[OPTIONS_ERROR], const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(why, OPTIONS_ERROR, format, ap);
    va_end(ap);
    return false;
}

static const struct option_row *find_row(const char *word, size_t n)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strlen(rows[i].name) == n && memcmp(rows[i].name, word, n) == 0)
            return &rows[i];
    }
    return NULL;
}

// The option that stands at argv[*i], with its value, which may be the next word.
static bool read_option(struct ctl_options *o, int argc, char **argv, int *i,
                        char why[OPTIONS_ERROR])
{
    const char *word = argv[*i];
    size_t n = strcspn(word, "=");
    const char *value = word[n] == '=' ? word + n + 1 : NULL;
    const struct option_row *row = find_row(word, n);
    if (!row)
        return options_refuse(why, "unknown option \"%.80s\"", word);
    void *at = (char *)o + row->offset;
    if (row->flag && value)
        return options_refuse(why, "%s takes no value, got \"%.80s\"", row->name, value);
    if (row->flag) {
        *(bool *)at = true;
        return true;
    }
    if (!value && *i + 1 < argc)
        value = argv[++*i];
    if (!value || !*value)
        return options_refuse(why, "%s needs a value", row->name);
    bool many = row->offset == offsetof(struct ctl_options, variant);
    if (many && o->variants == OPTIONS_VARIANTS)
        return options_refuse(why, "%s: expected at most %d of them", row->name, OPTIONS_VARIANTS);
    ((const char **)at)[many ? o->variants++ : 0] = value;
    return true;
}

static bool read_word(struct ctl_options *o, const char *word, char why[OPTIONS_ERROR])
{
    const char **places[] = {&o->command, &o->argument, &o->more[0], &o->more[1]};
    _Static_assert(OPTIONS_MORE == 2, "all of them");
    for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (*places[i])
            continue;
        *places[i] = word;
        return true;
    }
    return options_refuse(why, "%.80s: expected no more words, got \"%.80s\" too", o->command,
                          word);
}

static bool read_timeout(struct ctl_options *o, char why[OPTIONS_ERROR])
{
    char *end;
    o->timeout_ms = OPTIONS_TIMEOUT_MS;
    if (!o->timeout)
        return true;
    double seconds = strtod(o->timeout, &end);
    if (*end || !isfinite(seconds) || seconds < 0.01 || seconds > 3600)
        return options_refuse(why, "--timeout: expected seconds from 0.01 to 3600, got \"%.80s\"",
                              o->timeout);
    o->timeout_ms = (long)(seconds * 1000 + 0.5);
    return true;
}

// What a URL may be made of: nothing in it ends the host or begins a path, a query or a user.
static bool is_host(const char *host, bool port_needed)
{
    static const char safe[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]";
    size_t n = strlen(host);
    if (n == 0 || n > 255 || host[0] == ':' || strspn(host, safe) != n)
        return false;
    const char *colon = strrchr(host, ':');
    if (!colon || (host[0] == '[' && host[n - 1] == ']'))
        return !port_needed;
    if (host[0] != '[' && strchr(host, ':') != colon)
        return false; // an IPv6 address without brackets
    size_t digits = strspn(colon + 1, "0123456789");
    long port = digits > 0 && digits <= 5 && !colon[1 + digits] ? atol(colon + 1) : 0;
    return port >= 1 && port <= 65535;
}

static bool check_address(const struct ctl_options *o, char why[OPTIONS_ERROR])
{
    const char *a = o->address;
    bool ok;
    if (strncmp(a, "unix:", 5) == 0)
        ok = a[5] && strlen(a + 5) < 108; // sun_path
    else if (strncmp(a, "https://", 8) == 0)
        ok = is_host(a + 8, false);
    else
        ok = is_host(a, true);
    return ok || options_refuse(why,
                                "address: expected HOST:PORT, [IPV6]:PORT, unix:PATH or "
                                "https://HOST:PORT, got \"%.80s\"",
                                a);
}

static const char *said(char *(*environment)(const char *name), const char *name)
{
    const char *value = environment(name);
    return value && *value ? value : NULL;
}

bool options_read(struct ctl_options *o, int argc, char **argv,
                  char *(*environment)(const char *name), char why[OPTIONS_ERROR])
{
    bool words_only = false;
    *o = (struct ctl_options){0};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!words_only && strcmp(word, "--") == 0)
            words_only = true;
        else if (!words_only && word[0] == '-' && word[1] ? !read_option(o, argc, argv, &i, why)
                                                          : !read_word(o, word, why))
            return false;
    }
    if (!o->address)
        o->address = said(environment, "SLUICE_ADMIN");
    if (!o->address)
        o->address = OPTIONS_ADDRESS;
    if (!o->token_file)
        o->token_file = said(environment, "SLUICE_TOKEN_FILE");
    if (!o->token_file)
        o->token = said(environment, "SLUICE_TOKEN");
    return read_timeout(o, why) && check_address(o, why);
}
