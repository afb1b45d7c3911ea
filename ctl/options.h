/* ctl/options.h: the words of the command line, and what the environment says where they are silent. Thinks: the
 * environment is an argument. */
#ifndef SLUICE_CTL_OPTIONS_H
#define SLUICE_CTL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define OPTIONS_ADDRESS "127.0.0.1:9090" // what config/gateway.conf has
#define OPTIONS_TIMEOUT_MS 5000
#define OPTIONS_ERROR 256
#define OPTIONS_MORE 2
#define OPTIONS_VARIANTS 16

struct ctl_options {
    const char *address;    // "HOST:PORT", "[IPV6]:PORT", "unix:PATH" or "https://HOST[:PORT]"
    const char *token_file; // NULL: none was named
    const char *token;      // the environment's, where no file is named there or here; or NULL
    const char *ca_file;    // for https and a Redis over TLS; NULL: the system's
    const char *timeout;    // as it was given; NULL: not at all
    long timeout_ms;
    bool json, wait, once, tls, help, version;
    const char *command;                             // NULL: none stands there
    const char *argument;                            // the word behind it, or NULL
    const char *more[OPTIONS_MORE];                  // those behind that; NULL: none
    const char *for_, *why;                          // level set, and why of experiment too
    const char *revision;                            // experiment; NULL: not given
    const char *since, *model, *format, *deployment; // log; likewise. model: experiment create, too
    const char *config, *password_file, *cert_file, *key_file; // log; likewise
    const char *keep;                                          // log archive; likewise
    const char *key, *variant[OPTIONS_VARIANTS];               // experiment create
    unsigned variants;                                         // that were given
    bool start, yes; // experiment create; experiment delete
};

// getenv's shape. Options may stand before and behind the command, as "--name value" or "--name=value"; the last
// of a name holds, and all of --variant; "--" ends them. All texts stay argv's or the environment's. False: `why` says what is wrong
// with which word.
bool options_read(struct ctl_options *o, int argc, char **argv,
                  char *(*environment)(const char *name), char why[OPTIONS_ERROR]);
// False, and `why` says it.
__attribute__((format(printf, 2, 3))) bool options_refuse(char why[OPTIONS_ERROR],
                                                          const char *format, ...);

#endif
