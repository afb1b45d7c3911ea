#!/usr/bin/env bash
# tests/lint_test.sh [BUILD]: does tools/lint notice? In a copy of the tree it must be content first,
# then fail, naming the file, on each rule broken on purpose.
set -u
cd "$(dirname "$0")/.."
build=$(realpath "${1:-build}")
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$copy" 2>/dev/null
passed=0 failed=0

# The objects of the thinking rooms, without building them a second time.
mkdir -p "$copy/build"
cp -r "$build/obj" "$copy/build/obj"

# What the planted tree fails is not for the counts of .ci/run.
lint() { (cd "$copy" && env -u SLUICE_COUNTS python3 tools/lint --root . --build build --only "$1" 2>&1); }

check() { # what, expected status, rule, words that must stand in what it says
    local out rc
    out=$(lint "$3")
    rc=$?
    if [[ $rc == "$2" && $out == *"$4"* ]]; then
        passed=$((passed + 1))
        echo "  lint_test: $1"
    else
        failed=$((failed + 1))
        printf '  lint_test: %s: FAILED (status %s, wanted %s and "%s")\n%s\n' "$1" "$rc" "$2" "$4" "$out"
    fi
}

plant() { printf '%s\n' "${@:2}" >"$copy/$1"; }
compile() { # as the Makefile would, without its flags: only the symbols matter
    mkdir -p "$copy/build/obj/$(dirname "$1")"
    read -ra cc <<<"${CC:-cc}" # it may be a compiler behind another program
    (cd "$copy" && "${cc[@]}" -D_GNU_SOURCE -I. -c -o "build/obj/${1%.c}.o" "$1")
}
remove() { rm -f "$copy/$1" "$copy/build/obj/${1%.c}.o"; }

for rule in floors circles thinking symbols calls callers members tags markers whitespace; do
    check "the tree as it is: $rule" 0 "$rule" ' 0 findings'
done

plant base/planted.c '#include "router/desk.h"'
check 'an upward include' 1 floors 'base/planted.c:1: base (floor 1) includes "router/desk.h" (floor 4)'
remove base/planted.c

plant net/planted.c '#include "infer/status.h"'
check 'a room that is below but none of its business' 1 floors 'net does not use infer'
remove net/planted.c

plant base/planted.h '#include "base/planted2.h"'
plant base/planted2.h '#include "planted.h"'
check 'a circle of headers' 1 circles 'base/planted.h -> base/planted2.h'
remove base/planted.h
remove base/planted2.h

plant router/planted.c 'void clock_gettime(int, void *);' 'void planted(void *t);' \
    'void planted(void *t)' '{' '    clock_gettime(1, t);' '}'
check 'a clock in router/' 1 thinking 'router/planted.c:5: clock_gettime (clocks)'
remove router/planted.c

plant router/planted.c 'void clock_gettime(int, void *);' '#define GLUE(a, b) a##b' 'void planted(void *t);' \
    'void planted(void *t)' '{' '    GLUE(clock_, gettime)(1, t);' '}'
compile router/planted.c
check 'a clock in router/ behind a macro' 1 symbols 'router/planted.c: its object wants clock_gettime'
remove router/planted.c

plant batcher/planted.c '#include <stdlib.h>' 'void *planted(void);' 'void *planted(void)' '{' '    return malloc(1);' '}'
check 'malloc outside base/' 1 calls 'batcher/planted.c:5: malloc'
remove batcher/planted.c

plant gateway/planted.c '#include <string.h>' 'void planted(char *a, const char *b);' \
    'void planted(char *a, const char *b)' '{' '    strcpy(a, b);' '}'
check 'strcpy in a doing room' 1 calls 'gateway/planted.c:5: strcpy'
remove gateway/planted.c

plant net/planted.h '// planted() in a comment is no caller' 'void planted(int fd);'
plant net/planted.c '#include "net/planted.h"' '' 'void planted(int fd)' '{' '}'
plant tests/planted.c '#include "net/planted.h"' '' 'int main(void)' '{' '    planted(1);' '}'
check 'a function that tests alone call' 1 callers 'net/planted.h: planted has no caller'
plant gateway/planted.c '#include "net/planted.h"' '' 'static void other(void)' '{' '    planted(1);' '}'
check 'and one with a caller' 0 callers ' 0 findings'
remove gateway/planted.c
remove net/planted.c
plant net/planted.h 'static inline void planted(int fd)' '{' '    (void)fd;' '}'
check 'a function in a header that tests alone call' 1 callers 'net/planted.h: planted has no caller'
remove net/planted.h
remove tests/planted.c

plant net/planted.h 'struct planted {' '    int *pegs;' '    struct {' '        int n_legs, n_horns[2];' '    } in;' '};'
plant net/planted.c '#include "net/planted.h"' '' 'void other(struct planted *p)' '{' '    p->in.n_horns[0] = 1;' \
    '    p->in.n_horns[1]++;' '    *p->pegs = p->in.n_legs;' '}'
check 'a member that is written alone' 1 members 'net/planted.h: n_horns is read by nobody'
check 'and those that are read' 1 members ', 1 findings'
remove net/planted.c
remove net/planted.h

plant net/planted.c 'struct desk {' '    int legs;' '};'
check 'a struct tag twice' 1 tags 'desk: net/planted.c, router/desk.h'
remove net/planted.c
plant net/planted.c 'enum desk {' '    DESK_ROUND' '};'
check 'and an enum of that name' 1 tags 'desk: net/planted.c, router/desk.h'
remove net/planted.c

plant api/planted.c "// TO""DO: the rest"
check 'a leftover marker' 1 markers 'api/planted.c:1'
remove api/planted.c

plant api/planted.c 'int planted; '
check 'a space at the end of a line' 1 whitespace 'api/planted.c:1'
remove api/planted.c

[[ -n ${SLUICE_COUNTS:-} ]] && echo "$passed $failed 0" >>"$SLUICE_COUNTS"
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0))
