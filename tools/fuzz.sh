#!/usr/bin/env bash
# fuzz.sh DIR SECONDS: runs every fuzz target in DIR, each that long, two at a time, in bounded memory.
# With 0 each reads its seeds, and nothing that is made up.
# Seeds come from tests/fuzz/corpus/NAME; what is found on the way stays in DIR/corpus/NAME.
set -u
dir=$1 seconds=$2
mkdir -p "$dir/corpus"
limit=-max_total_time=$seconds
((seconds == 0)) && limit=-runs=0
export dir limit
one() {
    name=$(basename "$1")
    mkdir -p "$dir/corpus/$name"
    seeds=()
    [[ -d tests/fuzz/corpus/$name ]] && seeds=("tests/fuzz/corpus/$name")
    "$1" "$limit" -rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=10 -max_len=32768 \
        -print_final_stats=1 -artifact_prefix="$dir/$name-" \
        "$dir/corpus/$name" "${seeds[@]}" >"$dir/$name.log" 2>&1
    rc=$?
    runs=$(awk '/number_of_executed_units/ { print $2 }' "$dir/$name.log")
    ((rc == 0)) && { echo "  $name: ${runs:-?} inputs, no crash"; return 0; }
    tail -40 "$dir/$name.log"
    echo "  $name: FAILED, the input is $dir/$name-*"
    return 1
}
export -f one
list=$(find "$dir" -maxdepth 1 -type f -executable | sort)
total=$(grep -c . <<<"$list")
out=$(mktemp)
xargs -P 2 -I {} bash -c 'one {}' <<<"$list" | tee "$out"
good=$(grep -c 'no crash$' "$out")
rm -f "$out"
[[ -n ${SLUICE_COUNTS:-} ]] && echo "$good $((total - good)) 0" >>"$SLUICE_COUNTS"
echo "$good passed, $((total - good)) failed, 0 skipped"
((good == total))
