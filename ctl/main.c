/* sluicectl: the operator's command. A thin client of the gateway's admin listener. */
#include "base/version.h"
#include "ctl/commands.h"
#include "ctl/token.h"
#include <stdio.h>
#include <stdlib.h>

static const char help[] =
    "Usage: sluicectl [OPTIONS] COMMAND\n"
    "\n"
    "Asks a running sluice what it does, and tells it what to do, over its admin listener.\n"
    "\n"
    "  status            the process, its listeners, its loops\n"
    "  models            a line for each model: replicas that are ready, rows that wait and run\n"
    "  workers           a line for each worker: connections, process, models it has\n"
    "  explain ID        what became of one of the last requests (x-request-id)\n"
    "  watch             what happens, as it happens, a line each; goes on over a restart\n"
    "  top               models by rate, p50, p99, queue and level, a frame a second, in the "
    "terminal\n"
    "  reload            take the configuration's file again, while requests run\n"
    "  drain             end in order, as SIGTERM to sluice: what runs is answered\n"
    "  cache stats       answers that are kept, by model, and how often they were asked for\n"
    "  cache flush [MODEL]  from now on none of these is given\n"
    "  loglevel [LEVEL]  show, or set, the level of the event log: debug, info, warn, error\n"
    "  level show        how far the service of each model has come down, and why; what is pinned\n"
    "  level set [MODEL] N --for TIME --why TEXT\n"
    "                    hold a model (or all of them) at level N, from 0 to 4, for a while\n"
    "  level clear [MODEL]  let it go by itself again\n"
    "  experiment list   how experiments stand, a line for each variant\n"
    "  experiment show NAME  one of them: what was changed, effects with intervals, guards\n"
    "  experiment weights NAME VARIANT=SHARE[,VARIANT=SHARE]\n"
    "                    other weights; who is not named keeps his, the control has the rest\n"
    "  experiment pause|resume|rollback NAME  all get the control; or it goes on\n"
    "  experiment promote NAME VARIANT  all get that variant\n"
    "  experiment create FILE|-  one more, of the text that its section in gateway.conf would "
    "have\n"
    "  experiment create NAME --model MODEL [--key KEY] --variant VARIANT=MODEL:SHARE ...\n"
    "  experiment delete NAME  one that was created is gone; one that runs only with --yes\n"
    "  experiment watch [NAME]  what becomes of them, as it happens, a line each\n"
    "  log export PLACE  the prediction log in a directory, or in a Redis: "
    "redis://[USER@]HOST:PORT,\n"
    "                    rediss://..., sentinel://HOST:PORT,.../MASTER, cluster://HOST:PORT,...\n"
    "  log tail PLACE    what comes into it\n"
    "  log archive DIR TO  its closed files, a file for each day that is over, in the directory "
    "TO\n"
    "\n"
    "  --address ADDR     the admin listener: HOST:PORT, [IPV6]:PORT, unix:PATH or "
    "https://HOST:PORT\n"
    "                     ($SLUICE_ADMIN, else 127.0.0.1:9090)\n"
    "  --token-file FILE  the admin token ($SLUICE_TOKEN_FILE; or itself in $SLUICE_TOKEN)\n"
    "  --ca-file FILE     https, rediss: certificates of those who may vouch for it, instead of "
    "the "
    "system's\n"
    "  --timeout SECONDS  wait so long for an answer (5)\n"
    "  --for TIME         level set: so long (90s, 10m, 2h, 1d)\n"
    "  --why TEXT         level set, changes of experiments: the reason, for the log and whoever "
    "looks\n"
    "  --revision N       changes of experiments: only if it is this one\n"
    "  --since TIME       log: no records before that (90s, 2h, 1d, 2026-01-02T03:04)\n"
    "  --model MODEL      log: that was asked for, or answered; experiment create: that clients "
    "ask "
    "for\n"
    "  --key KEY          experiment create: whose keys are dealt, as header:x-user\n"
    "  --variant VARIANT=MODEL:SHARE  experiment create: one of them, as treatment=digits-cnn:10%\n"
    "  --start            experiment create: it runs at once, and is no draft\n"
    "  --yes              experiment delete: even if it runs\n"
    "  --format FORMAT    log: jsonl, or csv\n"
    "  --deployment NAME  log: of the store (default)\n"
    "  --config FILE      log: where this gateway.conf has it written, instead of PLACE\n"
    "  --password-file FILE  log: of the Redis ($SLUICE_REDIS_PASSWORD)\n"
    "  --cert-file FILE, --key-file FILE  log: a certificate that is shown to a Redis over TLS, "
    "and "
    "its key\n"
    "  --tls              log: to Sentinels and Clusters too, as rediss:// to a server alone\n"
    "  --keep TIME        log archive: remove days that are older (30d)\n"
    "  --json             what the gateway answered, for programs; watch, top: a line of JSON "
    "each\n"
    "  --wait             drain: come back when the gateway has ended\n"
    "  --once             top: print one frame as text\n"
    "  --version          print the version\n"
    "  --help             print this\n"
    "\n"
    "Exit status: 0 done, 1 refused (or an answer that makes no sense), 2 unanswered (no "
    "connection,\n"
    "no answer in time) or not asked (wrong usage, no token to be read).\n";

static enum ctl_exit usage(const char *what)
{
    fprintf(stderr, "sluicectl: %s; see sluicectl --help\n", what);
    return CTL_UNANSWERED;
}

static enum ctl_exit print_text(const char *text)
{
    return fputs(text, stdout) < 0 || fflush(stdout) ? CTL_REFUSED : CTL_DONE;
}

// False: said why.
static bool find_token(const struct ctl_options *o, struct ask *a, char token[TOKEN_BYTES + 1])
{
    char why[TOKEN_ERROR];
    if (!o->token_file && !o->token)
        return true;
    if (o->token_file ? token_read(o->token_file, token, why)
                      : token_take("SLUICE_TOKEN", o->token, token, why)) {
        a->token = token;
        return true;
    }
    fprintf(stderr, "sluicectl: %s\n", why);
    return false;
}

static enum ctl_exit run(const struct ctl_options *o)
{
    char token[TOKEN_BYTES + 1];
    struct ask a = {.address = o->address, .ca_file = o->ca_file, .timeout_ms = o->timeout_ms};
    if (!find_token(o, &a, token))
        return CTL_UNANSWERED;
    if (!ask_init()) {
        fprintf(stderr, "sluicectl: out of memory\n");
        return CTL_UNANSWERED;
    }
    enum ctl_exit end = command_run(o, &a);
    ask_deinit();
    return end;
}

int main(int argc, char **argv)
{
    struct ctl_options o;
    char why[OPTIONS_ERROR];
    if (!options_read(&o, argc, argv, getenv, why))
        return usage(why);
    if (o.help)
        return print_text(help);
    if (o.version)
        return print_text("sluicectl " SLUICE_VERSION "\n");
    if (!command_check(&o, why))
        return usage(why);
    return command_is_here(&o) ? command_run_here(&o) : run(&o);
}
