/* gateway/record_files: whole frames whatever ends the process, files by size and by the clock, disks that are full or gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/record_files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>
#include <zstd.h>

#define START 1764175000000000 // 2025-11-26T16:36:40
#define S 1000000ull

static char dir[64];
static struct record_files files;
static struct record_place place;

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/sluice-files-XXXXXX");
    assert_non_null(mkdtemp(dir));
    place = (struct record_place){
        .instance = "gw", .rotate_bytes = 1u << 20, .rotate_us = 3600 * S, .keep_us = 0};
    snprintf(place.directory, sizeof(place.directory), "%s/p", dir);
    assert_true(record_files_init(&files));
    record_files_move(&files, &place);
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    (void)state;
    record_files_deinit(&files);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

// Names with that end, sorted; how many.
static unsigned list(const char *end, char names[8][256])
{
    struct dirent **found;
    int n = scandir(place.directory, &found, NULL, alphasort);
    unsigned used = 0;
    for (int i = 0; i < n; i++) {
        size_t length = strlen(found[i]->d_name), tail = strlen(end);
        if (length > tail && strcmp(found[i]->d_name + length - tail, end) == 0 && used < 8)
            snprintf(names[used++], 256, "%s", found[i]->d_name);
        free(found[i]);
    }
    free(found);
    return used;
}

// All frames of that file, which has nothing else in it.
static char *text_of(const char *name)
{
    char path[PATH_MAX + 300];
    static uint8_t packed[1u << 20];
    static char text[1u << 20];
    snprintf(path, sizeof(path), "%s/%s", place.directory, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(packed, 1, sizeof(packed), f), used = 0;
    fclose(f);
    for (size_t at = 0; at < n;) {
        size_t frame = ZSTD_findFrameCompressedSize(packed + at, n - at);
        assert_false(ZSTD_isError(frame));
        size_t got = ZSTD_decompress(text + used, sizeof(text) - 1 - used, packed + at, frame);
        assert_false(ZSTD_isError(got));
        used += got;
        at += frame;
    }
    text[used] = '\0';
    return text;
}

static bool put(const char *lines, uint64_t wall_us)
{
    return record_files_put(&files, view_str(lines), wall_us);
}

static void frames(void **state)
{
    char names[8][256];
    (void)state;
    assert_true(put("one\n", START));
    assert_true(put("two\n", START + S));
    assert_int_equal(list(".jsonl.zst.part", names), 1);
    assert_string_equal(names[0], "20251126T163640.000000Z-gw.jsonl.zst.part");
    assert_string_equal(text_of(names[0]), "one\ntwo\n"); // before it is closed
    assert_true(record_files_close(&files));
    assert_int_equal(list(".part", names), 0);
    assert_int_equal(list(".jsonl.zst", names), 1);
    assert_string_equal(names[0], "20251126T163640.000000Z-gw.jsonl.zst");
    assert_string_equal(text_of(names[0]), "one\ntwo\n");
    assert_int_equal(files.closed, 1);
    assert_int_equal(files.errors, 0);
    assert_true(record_files_close(&files)); // nothing is open
}

static void by_size_and_clock(void **state)
{
    char names[8][256], noise[4096];
    (void)state;
    place.rotate_bytes = 4096;
    record_files_move(&files, &place);
    uint32_t random = 1; // a frame of noise is as long as its text, nearly
    for (size_t i = 0; i < sizeof(noise); i++) {
        random = random * 1664525 + 1013904223;
        noise[i] = (char)(33 + (random >> 16) % 90);
    }
    noise[sizeof(noise) - 1] = '\0';
    for (unsigned i = 0; i < 3; i++) // each is more than half of a file, and the clock stands still
        assert_true(put(noise, START));
    assert_int_equal(list(".jsonl.zst", names), 2);
    assert_string_equal(names[1], "20251126T163640.000001Z-gw.jsonl.zst");
    assert_string_equal(text_of(names[1]), noise);
    record_files_tick(&files, START + 1000 * S);
    assert_int_equal(list(".jsonl.zst", names), 2);
    record_files_tick(&files, START + 1400 * S); // 17:00:00
    assert_int_equal(list(".jsonl.zst", names), 3);
    assert_true(put("later\n", START + 1500 * S));
    assert_true(put("much later\n", START + 5000 * S));
    assert_int_equal(list(".jsonl.zst", names), 4);
    assert_string_equal(text_of(names[3]), "later\n");
}

// What another life has left: whole frames, and the beginning of one.
static void left_behind(void **state)
{
    char names[8][256], path[PATH_MAX + 300];
    (void)state;
    assert_true(put("one\n", START));
    assert_true(put("two\n", START));
    assert_int_equal(list(".part", names), 1);
    snprintf(path, sizeof(path), "%s/%s", place.directory, names[0]);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    for (off_t n = st.st_size; n >= 0; n--) { // cut at every byte
        char closed[PATH_MAX + 300];
        close(files.fd); // it dies
        close(files.lock_fd);
        files.fd = files.lock_fd = -1;
        assert_int_equal(truncate(path, n), 0);
        record_files_move(&files, &(struct record_place){.rotate_us = S});
        record_files_move(&files, &place);
        snprintf(closed, sizeof(closed), "%.*s", (int)strlen(path) - 5, path);
        assert_int_equal(access(path, F_OK), -1);
        if (access(closed, F_OK) == 0) {
            assert_int_equal(list(".jsonl.zst", names), 1);
            const char *text = text_of(names[0]);
            assert_true(strcmp(text, "one\ntwo\n") == 0 || strcmp(text, "one\n") == 0);
            assert_true(strcmp(text, "one\n") != 0 || n < st.st_size);
            assert_int_equal(unlink(closed), 0);
        } else {
            assert_true(n < st.st_size / 2 + 1);
        }
        assert_true(put("one\n", START));
        assert_true(put("two\n", START));
    }
    assert_int_equal(files.errors, 0);
    assert_true(files.cut > 0);
}

static void others_are_left_alone(void **state)
{
    char names[8][256], path[PATH_MAX + 300];
    (void)state;
    static const char *const others[] = {"20251126T163640.000000Z-gw2.jsonl.zst.part",
                                         "x.jsonl.zst.part",
                                         "20251126T163640.000000Z-gw.jsonl.zst.part.part",
                                         "20251126T163640.0000a0Z-gw.jsonl.zst.part"};
    record_files_close(&files);
    record_files_move(&files, &(struct record_place){.rotate_us = S});
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", place.directory, others[i]);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs("not ours", f);
        fclose(f);
    }
    record_files_move(&files, &place);
    assert_int_equal(list(".part", names), 4);
    assert_int_equal(files.errors, 0);
}

static void two_of_one_name(void **state)
{
    struct record_files second;
    (void)state;
    assert_true(record_files_init(&second));
    record_files_move(&second, &place);
    assert_false(record_files_put(&second, VIEW("x\n"), START));
    assert_non_null(strstr(second.why, "another gateway writes there as this instance"));
    assert_true(record_files_waits(&second));
    record_files_move(&files, &(struct record_place){.rotate_us = S}); // it goes
    assert_true(record_files_retry(&second, START));
    assert_false(record_files_waits(&second));
    record_files_deinit(&second);
}

static void a_full_disk(void **state)
{
    char names[8][256];
    struct rlimit before, small;
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(put("one\n", START));
    off_t whole = (off_t)files.bytes;
    small = before;
    small.rlim_cur = (rlim_t)whole + 5; // in the middle of the next frame
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_false(put("two\n", START));
    assert_non_null(strstr(files.why, strerror(EFBIG)));
    assert_true(record_files_waits(&files));
    assert_false(record_files_retry(&files, START));
    assert_int_equal(files.errors, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(record_files_retry(&files, START));
    assert_true(put("three\n", START));
    assert_true(record_files_close(&files));
    assert_int_equal(list(".jsonl.zst", names), 1);
    assert_string_equal(text_of(names[0]), "one\ntwo\nthree\n");
    // It ends while it is full: what is there is whole.
    assert_true(put("four\n", START + S));
    small.rlim_cur = (rlim_t)files.bytes + 5;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_false(put("five\n", START + S));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    record_files_close(&files);
    assert_int_equal(list(".jsonl.zst", names), 2);
    assert_string_equal(text_of(names[1]), "four\n");
}

static void a_directory_that_goes(void **state)
{
    char command[PATH_MAX + 64], why[FILE_WHY], names[8][256];
    (void)state;
    assert_true(put("one\n", START));
    snprintf(command, sizeof(command), "rm -rf %s", place.directory);
    assert_int_equal(system(command), 0);
    assert_true(put("two\n", START)); // into what nobody sees any more
    assert_false(record_files_close(&files));
    assert_int_equal(files.errors, 1);
    record_files_move(&files, &(struct record_place){.rotate_us = S});
    record_files_move(&files, &place);
    assert_true(put("three\n", START));
    assert_int_equal(list(".part", names), 1);

    snprintf(place.directory, sizeof(place.directory), "%s/file", dir);
    FILE *f = fopen(place.directory, "w");
    fclose(f);
    assert_false(record_files_check(place.directory, why));
    assert_non_null(strstr(why, "Not a directory"));
    record_files_move(&files, &place);
    assert_false(put("four\n", START));
    snprintf(place.directory, sizeof(place.directory), "%s/a/b", dir);
    assert_false(record_files_check(place.directory, why));
    assert_non_null(strstr(why, "No such file or directory"));
    record_files_move(&files, &place);
    assert_false(record_files_retry(&files, START));
    snprintf(place.directory, sizeof(place.directory), "%s/q", dir);
    assert_true(record_files_check(place.directory, why));
    record_files_move(&files, &place);
    assert_true(record_files_retry(&files, START)); // it is not lost
    assert_int_equal(list(".part", names), 1);
    assert_string_equal(text_of(names[0]), "four\n");
}

static void old_ones(void **state)
{
    char names[8][256], path[PATH_MAX + 300];
    (void)state;
    uint64_t now_us = (uint64_t)time(NULL) * S;
    assert_true(put("one\n", now_us - 10 * S));
    record_files_close(&files);
    assert_true(put("two\n", now_us));
    record_files_close(&files);
    assert_int_equal(list(".jsonl.zst", names), 2);
    snprintf(path, sizeof(path), "%s/%s", place.directory, names[0]);
    assert_int_equal(utime(path, &(struct utimbuf){.modtime = (time_t)(now_us / S) - 7200}), 0);
    record_files_tick(&files, now_us);
    assert_int_equal(list(".jsonl.zst", names), 2); // kept for ever
    place.keep_us = 3600 * S;
    record_files_move(&files, &place);
    record_files_tick(&files, now_us + 1);
    assert_int_equal(list(".jsonl.zst", names), 1);
    assert_string_equal(text_of(names[0]), "two\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames, setup, teardown),
        cmocka_unit_test_setup_teardown(by_size_and_clock, setup, teardown),
        cmocka_unit_test_setup_teardown(left_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(others_are_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(two_of_one_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(a_directory_that_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(old_ones, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
