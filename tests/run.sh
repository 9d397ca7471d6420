#!/usr/bin/env bash
# All tests, or those that are named: what `make test` runs. REQUIRE=all in the environment skips nothing.
#
# Two streams beside each other, because tests with real parts wait more than they compute:
#   - with real parts, two at a time; then stacks, then browsers, two files at a time (a file starts its stack once);
#     then what fills the machine (engines that compute, users who must lose nothing). Those on Kubernetes are
#     `make test-kubernetes`
#   - of single parts, whose outcome does not hang on how fast they run. They get what the others leave of the
#     processor, and their output comes in one piece when they end.
set -u
cd "$(dirname "$0")/.."
# Processes of the product start here some hundred times, which takes a third where Python keeps what it compiled.
unset PYTHONDONTWRITEBYTECODE
pytest=("${PYTHON:-.venv/bin/python}" -m pytest --durations=15 --durations-min=20)

single="(not e2e and not needs) or beside"
[ "${REQUIRE:-}" = all ] && single="($single) and not told_on_postgresql"
output=$(mktemp)

# The kernel shares the processor by session first (where it has autogroups), and only within one by niceness. So they
# get a session of their own, and it is the session that is nice. A job in the background ignores Ctrl-C by itself.
# shellcheck disable=SC2016
setsid env --default-signal=INT bash -c '{ echo 10 >/proc/self/autogroup; } 2>/dev/null; exec nice -n 10 "$@"' - \
  "${pytest[@]}" -n 2 -o timeout=1800 -m "$single" "$@" >"$output" 2>&1 &
beside=$!
trap 'kill -INT -- -"$beside" 2>/dev/null; wait "$beside" 2>/dev/null; rm -f "$output"' EXIT
trap 'exit 130' INT TERM # Bash goes on when a program that was interrupted ends by itself

# Whoever names tests gets them.
left_out=()
[ $# -gt 0 ] || left_out=(--ignore=tests/kubernetes)

statuses=()
"${pytest[@]}" -n 2 -m "needs and not e2e and not beside" "$@"
statuses+=($?)
"${pytest[@]}" -n 2 --dist loadfile -m "e2e and not whole and not browser" "$@"
statuses+=($?)
"${pytest[@]}" -n 2 --dist loadfile -m browser "$@"
statuses+=($?)
"${pytest[@]}" -m whole "${left_out[@]}" "$@"
statuses+=($?)
wait "$beside"
statuses+=($?)
printf '\nTests of single parts:\n'
cat "$output"

# Exit status 5: what is named has tests of the other kinds only.
for status in "${statuses[@]}"; do
  [ "$status" -eq 0 ] || [ "$status" -eq 5 ] || exit "$status"
done
