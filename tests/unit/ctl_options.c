/* ctl/options, ctl/token: the command line, the environment behind it, and who may read a token. */
#include "tests/unit/token_file.h"

#include "ctl/options.h"
#include "ctl/token.h"
#include <string.h>

// ---- options --------------------------------------------------------------------------------------------------

static const char *env_admin, *env_file, *env_token;

static char *environment(const char *name)
{
    const char *value = strcmp(name, "SLUICE_ADMIN") == 0        ? env_admin
                        : strcmp(name, "SLUICE_TOKEN_FILE") == 0 ? env_file
                        : strcmp(name, "SLUICE_TOKEN") == 0      ? env_token
                                                                 : NULL;
    return (char *)(uintptr_t)value;
}

// The words of a line, split at its spaces.
static bool read_line(struct ctl_options *o, const char *line, char why[OPTIONS_ERROR])
{
    static char text[1000];
    char *argv[20] = {(char *)(uintptr_t) "sluicectl"}, *at = text, *word;
    int argc = 1;
    snprintf(text, sizeof(text), "%s", line);
    while ((word = strsep(&at, " ")) && argc < 20)
        argv[argc++] = word;
    return options_read(o, *line ? argc : 1, argv, environment, why);
}

static struct ctl_options good(const char *line)
{
    struct ctl_options o;
    char why[OPTIONS_ERROR];
    if (!read_line(&o, line, why))
        fail_msg("%s: %s", line, why);
    return o;
}

static void bad(const char *line, const char *want)
{
    struct ctl_options o;
    char why[OPTIONS_ERROR] = "";
    if (read_line(&o, line, why) || !strstr(why, want))
        fail_msg("%s: expected \"%s\" in \"%s\"", line, want, why);
}

static int clear(void **state)
{
    (void)state;
    env_admin = env_file = env_token = NULL;
    return 0;
}

static void words(void **state)
{
    (void)state;
    struct ctl_options o =
        good("--json --address=[::1]:9 loglevel --timeout 0.25 debug --token-file t");
    assert_true(o.json && !o.wait && !o.help && !o.version);
    assert_string_equal(o.address, "[::1]:9");
    assert_string_equal(o.token_file, "t");
    assert_int_equal(o.timeout_ms, 250);
    assert_string_equal(o.command, "loglevel");
    assert_string_equal(o.argument, "debug");
    o = good("");
    assert_null(o.command);
    assert_string_equal(o.address, "127.0.0.1:9090");
    assert_int_equal(o.timeout_ms, 5000);
    assert_null(o.token_file);
    o = good("--timeout 1 --timeout 3600 -- --json");
    assert_int_equal(o.timeout_ms, 3600000); // the last holds
    assert_string_equal(o.command, "--json");
    assert_true(good("-h").help && good("--version").version && good("drain --wait").wait);
    assert_string_equal(good("loglevel -").argument, "-");
    o = good("log export p --since 1h --model m --format=csv --deployment d");
    assert_string_equal(o.more[0], "p");
    assert_string_equal(o.since, "1h");
    assert_string_equal(o.model, "m");
    assert_string_equal(o.format, "csv");
    assert_string_equal(o.deployment, "d");
    o = good("log tail --config g.conf --password-file p --tls");
    assert_string_equal(o.config, "g.conf");
    assert_string_equal(o.password_file, "p");
    assert_true(o.tls);
    o = good("level set --for 10m digits 2 --why swap");
    assert_string_equal(o.command, "level");
    assert_string_equal(o.argument, "set");
    assert_string_equal(o.more[0], "digits");
    assert_string_equal(o.more[1], "2");
    assert_string_equal(o.for_, "10m");
    assert_string_equal(o.why, "swap");
}

static void wrong_words(void **state)
{
    (void)state;
    bad("--jsn status", "unknown option \"--jsn\"");
    bad("status -j", "unknown option \"-j\"");
    bad("--json=yes status", "--json takes no value, got \"yes\"");
    bad("status --address", "--address needs a value");
    bad("--token-file= status", "--token-file needs a value");
    bad("level set a 1 b", "level: expected no more words, got \"b\" too");
    assert_string_equal(good("cache flush digits").more[0], "digits");
    bad("--timeout 0 status", "--timeout: expected seconds from 0.01 to 3600, got \"0\"");
    bad("--timeout nan status", "got \"nan\"");
    bad("--timeout 5s status", "got \"5s\"");
    bad("--timeout -1 status", "got \"-1\"");
    bad("--timeout 3600.1 status", "got \"3600.1\"");
}

static void addresses(void **state)
{
    static const char *const fine[] = {"127.0.0.1:9090",           "[::1]:1",
                                       "localhost:65535",          "sluice-0.sluice:9090",
                                       "unix:/run/admin.sock",     "https://ops.example",
                                       "https://ops.example:8443", "https://[::1]"};
    static const char *const wrong[] = {"127.0.0.1",
                                        "[::1]",
                                        "::1:9090",
                                        ":9090",
                                        "host:",
                                        "host:0",
                                        "host:65536",
                                        "host:+5",
                                        "host:99999999999",
                                        "unix:",
                                        "http://host:1",
                                        "https://",
                                        "https://host/path",
                                        "https://user@host",
                                        "host:1/status?x=",
                                        "user:secret@host:1",
                                        "host:1#",
                                        "https://a?b"};
    char line[200], why[OPTIONS_ERROR];
    struct ctl_options o;
    (void)state;
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        snprintf(line, sizeof(line), "--address %s status", fine[i]);
        assert_string_equal(good(line).address, fine[i]);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        snprintf(line, sizeof(line), "--address %s status", wrong[i]);
        bad(line, "address: expected HOST:PORT, [IPV6]:PORT, unix:PATH or https://HOST:PORT, got");
    }
    char *spaced[] = {(char *)(uintptr_t) "sluicectl", (char *)(uintptr_t) "--address",
                      (char *)(uintptr_t) "host:1\r\nX: y", NULL};
    assert_false(options_read(&o, 3, spaced, environment, why));
}

// The command line comes before it; a token's file before a token; what is empty is not set.
static void environments(void **state)
{
    (void)state;
    env_admin = "10.0.0.7:9090";
    env_token = "from the environment";
    struct ctl_options o = good("status");
    assert_string_equal(o.address, "10.0.0.7:9090");
    assert_string_equal(o.token, "from the environment");
    env_file = "file";
    o = good("status");
    assert_string_equal(o.token_file, "file");
    assert_null(o.token);
    o = good("--token-file mine --address h:1 status");
    assert_string_equal(o.token_file, "mine");
    assert_string_equal(o.address, "h:1");
    env_admin = env_file = env_token = "";
    o = good("status");
    assert_string_equal(o.address, "127.0.0.1:9090");
    assert_true(!o.token && !o.token_file);
    env_admin = "nonsense";
    bad("status", "got \"nonsense\"");
}

// ---- tokens ---------------------------------------------------------------------------------------------------

static void put_text(const char *text)
{
    put(text, strlen(text), 0600);
}

static void refused(const char *file, const char *want)
{
    char token[TOKEN_BYTES + 1], why[TOKEN_ERROR] = "";
    if (token_read(file, token, why) || !strstr(why, want) || !strstr(why, file))
        fail_msg("expected \"%s\" in \"%s\"", want, why);
}

static void token_files(void **state)
{
    char token[TOKEN_BYTES + 1], why[TOKEN_ERROR], text[400];
    (void)state;
    unlink(path);
    refused(path, "No such file or directory");
    refused(token_dir, "Is a directory");
    put_text("open sesame, please\n");
    assert_true(token_read(path, token, why));
    assert_string_equal(token, "open sesame, please");
    for (unsigned mode = 0400; mode <= 0777; mode++) {
        chmod(path, mode);
        if (mode & 027)
            refused(path, "expected 0640 or less");
        else if (mode & 0400 && !token_read(path, token, why))
            fail_msg("%04o: %s", mode, why);
    }
    chmod(path, 0644);
    refused(path, "its mode is 0644");
    put_text("open sesame\n");
    refused(path, "shorter than 16 bytes");
    put_text("open sesame,\nplease, please\n");
    refused(path, "control character");
    memset(text, 'x', sizeof(text));
    text[257] = '\0';
    put_text(text);
    refused(path, "longer than 256 bytes");
    text[256] = '\0';
    put_text(text);
    assert_true(token_read(path, token, why));
    assert_string_equal(token, text);
}

// As a shell gives it: FILE is <(command). It comes in pieces, and its mode says nothing.
static void token_pipes(void **state)
{
    char token[TOKEN_BYTES + 1], why[TOKEN_ERROR], name[40];
    int fds[2];
    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "open sesame,", 12), 12);
    assert_int_equal(write(fds[1], " please\n", 8), 8);
    close(fds[1]);
    snprintf(name, sizeof(name), "/dev/fd/%d", fds[0]);
    assert_true(token_read(name, token, why));
    assert_string_equal(token, "open sesame, please");
    close(fds[0]);
}

static void token_texts(void **state)
{
    char token[TOKEN_BYTES + 1], why[TOKEN_ERROR] = "", text[300];
    (void)state;
    assert_true(token_take("SLUICE_TOKEN", "open sesame, please\n", token, why));
    assert_string_equal(token, "open sesame, please");
    assert_false(token_take("SLUICE_TOKEN", "short", token, why));
    assert_string_equal(why, "token: SLUICE_TOKEN: shorter than 16 bytes: too easy to guess");
    assert_false(token_take("SLUICE_TOKEN", "0123456789abcdef\r\nX: y", token, why));
    memset(text, 'x', sizeof(text));
    text[257] = '\0';
    assert_false(token_take("SLUICE_TOKEN", text, token, why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(words, clear),
        cmocka_unit_test_setup(wrong_words, clear),
        cmocka_unit_test_setup(addresses, clear),
        cmocka_unit_test_setup(environments, clear),
        cmocka_unit_test(token_files),
        cmocka_unit_test(token_pipes),
        cmocka_unit_test(token_texts),
    };
    alarm(300); // a test that waits for ever is one that failed
    return cmocka_run_group_tests(tests, make, clean);
}
