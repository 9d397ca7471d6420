#!/usr/bin/env bash
# All tests, or those that are named: what `make test` runs. REQUIRE=all in the environment skips nothing.
#
# Two streams run beside each other, because tests with real parts wait more than they compute:
#   - with real parts, two tests at a time; then of the whole product, one after the other, each of which fills the
#     machine's memory;
#   - of single parts, whose outcome does not hang on how fast they run: with what the others leave of the processor.
#     Their output comes in one piece when they end.
set -u
cd "$(dirname "$0")/.."
pytest=("${PYTHON:-.venv/bin/python}" -m pytest)

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
"${pytest[@]}" -m e2e "$@"
statuses+=($?)
wait "$beside"
statuses+=($?)

# Exit status 5: what is named has tests of the other kinds only.
for status in "${statuses[@]}"; do
  [ "$status" -eq 0 ] || [ "$status" -eq 5 ] || exit "$status"
done
