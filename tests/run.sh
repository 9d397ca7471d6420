#!/usr/bin/env bash
# All tests, or those that are named: what `make test` runs. REQUIRE=all in the environment skips nothing.
#
#   1. Tests of single parts, and beside them those with real parts, which wait more than they compute. The first come
#      in one piece when they end; their outcome does not hang on how fast they run.
#   2. Tests that need the machine for themselves, one after the other: their engines compute, and their users lose
#      requests where an engine cannot keep up.
set -u
cd "$(dirname "$0")/.."
pytest=("${PYTHON:-.venv/bin/python}" -m pytest --durations=15 --durations-min=20)

single="(not e2e and not needs) or beside"
[ "${REQUIRE:-}" = all ] && single="($single) and not told_on_postgresql"
output=$(mktemp)

set -m # a group of their own: what ends this script ends them, too, and they clear up
{
  nice -n 10 "${pytest[@]}" -n 2 -m "$single" "$@" >"$output" 2>&1
  status=$?
  printf '\nTests of single parts:\n'
  cat "$output"
  exit $status
} &
beside=$!
set +m
trap 'kill -INT -- -"$beside" 2>/dev/null; wait "$beside" 2>/dev/null; rm -f "$output"' EXIT
trap 'exit 130' INT TERM # Bash goes on when a program that was interrupted ends by itself

statuses=()
"${pytest[@]}" -n 2 -m "needs and not e2e and not beside" "$@"
statuses+=($?)
"${pytest[@]}" -m "e2e and not whole" "$@"
statuses+=($?)
wait "$beside"
statuses+=($?)
"${pytest[@]}" -m whole "$@"
statuses+=($?)

# Exit status 5: what is named has tests of the other kinds only.
for status in "${statuses[@]}"; do
  [ "$status" -eq 0 ] || [ "$status" -eq 5 ] || exit "$status"
done
