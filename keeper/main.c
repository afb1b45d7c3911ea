/* sluice: options, and the file that everything else comes from. */
#include "base/version.h"
#include "config/keys.h"
#include "gateway/file.h"
#include "gateway/gateway.h"
#include "keeper/keeper.h"
#include "keeper/runtime.h"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char help[] =
    "Usage: sluice -c FILE [-t]\n"
    "\n"
    "An inference gateway: REST and gRPC clients in front, model servers behind.\n"
    "\n"
    "  -c FILE        the configuration (see docs/configuration.md and config/gateway.conf)\n"
    "  -t             check the configuration and what it names, start nothing\n"
    "  --help-config  every key of the configuration, in Markdown\n"
    "  --version      print the version\n"
    "  --help         print this\n"
    "\n"
    "Runs in the foreground. SIGTERM, SIGINT and SIGQUIT drain (another one, more than 100 ms\n"
    "later, cuts), SIGHUP takes the file again, SIGUSR1 opens log files again. Exit status:\n"
    "0 stopped in order, 1 failed, 2 wrong usage.\n";

struct keeper_options {
    const char *file;
    bool check;
};

static int usage(const char *what, const char *word)
{
    fprintf(stderr, "sluice: %s%s%s%s; see sluice --help\n", what, word ? " \"" : "",
            word ? word : "", word ? "\"" : "");
    return EXIT_USAGE;
}

static int print_keys(void)
{
    struct buffer out;
    buffer_init(&out);
    bool ok = config_key_document(&out);
    struct view v = buffer_view(&out);
    ok = ok && fwrite(v.p, 1, v.n, stdout) == v.n && fflush(stdout) == 0;
    buffer_deinit(&out);
    return ok ? EXIT_FINE : EXIT_FAILED;
}

// -1: go on with what stands in o; else the exit status.
static int read_options(int argc, char **argv, struct keeper_options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "-c") == 0) {
            if (o->file)
                return usage("-c stands twice", NULL);
            if (++i == argc)
                return usage("-c needs a file", NULL);
            o->file = argv[i];
        } else if (strcmp(word, "-t") == 0) {
            o->check = true;
        } else if (strcmp(word, "--version") == 0) {
            return puts("sluice " SLUICE_VERSION) < 0 || fflush(stdout) ? EXIT_FAILED : EXIT_FINE;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            return fputs(help, stdout) < 0 || fflush(stdout) ? EXIT_FAILED : EXIT_FINE;
        } else if (strcmp(word, "--help-config") == 0) {
            return print_keys();
        } else {
            return usage("unknown option", word);
        }
    }
    return o->file ? -1 : usage("no configuration: -c FILE is missing", NULL);
}

static void print_errors(const char *file, const struct config_errors *errors)
{
    char line[800];
    for (unsigned i = 0; i < errors->count; i++) {
        config_error_print(line, sizeof(line), file, &errors->error[i]);
        fputs(line, stderr);
    }
    if (errors->dropped)
        fprintf(stderr, "%s: %u further errors\n", file, errors->dropped);
}

// Descriptors 0, 1 and 2 exist: else the first socket would be taken for standard error.
static void open_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static int run(const struct keeper_options *o)
{
    struct buffer text;
    struct config_errors errors;
    char why[RUNTIME_ERROR];
    int status = EXIT_FAILED;
    buffer_init(&text);
    struct config *config = NULL;
    if (!file_read(o->file, CONFIG_MAX_BYTES, &text, why)) {
        fprintf(stderr, "%s\n", why);
    } else if (!(config = config_parse(buffer_view(&text), o->file, &errors))) {
        print_errors(o->file, &errors);
    } else if (runtime_check_files(config, o->file, STDERR_FILENO) == 0 &&
               (!o->check || runtime_check_logs(config, o->file, STDERR_FILENO) == 0)) {
        if (o->check)
            status = printf("%s: ok\n", o->file) < 0 || fflush(stdout) ? EXIT_FAILED : EXIT_FINE;
        else
            status = keeper_run(config, buffer_view(&text), gateway_main);
    }
    config_unref(config);
    buffer_deinit(&text);
    return status;
}

int main(int argc, char **argv)
{
    struct keeper_options o = {0};
    open_standard_descriptors();
    int status = read_options(argc, argv, &o);
    return status >= 0 ? status : run(&o);
}
