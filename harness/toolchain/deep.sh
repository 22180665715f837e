#!/usr/bin/env bash
# Tests that take longer than CI may: the fuzz targets, and mutants of what judges. `setup.sh fuzz` and `setup.sh mutants` bring the tools.
#
#   deep.sh fuzz [TARGET...]         each target of harness/fuzz for FUZZ_SECONDS, or for FUZZ_RUNS inputs; prints what each did
#   deep.sh mutants [ARGUMENT...]    cargo-mutants under .cargo/mutants.toml; results go to mutants.out/
#
# Environment:
#   FUZZ_SECONDS                 how long each target runs (60)
#   FUZZ_RUNS                    a number of inputs for each target, instead of a time
#   FUZZ_TOOLCHAIN               a nightly compiler of rustup's (nightly)
#   MTLS_CONFORMANCE_TOOLCHAIN   as in setup.sh
#
# Exit codes of fuzz: 0 nothing was found; 1 an input crashed a target, and is named; 2 bad usage. Those of mutants: cargo-mutants' own.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
toolchain=${MTLS_CONFORMANCE_TOOLCHAIN:-$root/.toolchain}
nightly=${FUZZ_TOOLCHAIN:-nightly}
export PATH=$toolchain/cargo/bin:$PATH

# The value of a libFuzzer's statistic $1 in log $2.
statistic() { sed -n "s/^stat::$1: *//p" "$2"; }

# Runs target $1; its corpus and its log are below $2.
fuzz_one() {
  local target=$1 work=$2 log=$2/$1.log limit=(-max_total_time="${FUZZ_SECONDS:-60}") begin=$SECONDS
  if [ -n "${FUZZ_RUNS:-}" ]; then limit=(-runs="$FUZZ_RUNS"); fi
  mkdir -p -- "$work/corpus/$target" "$work/seeds/$target" "$work/artifacts/$target"
  if "$work/bin/$target" "${limit[@]}" -max_len=4096 -timeout=10 -print_final_stats=1 \
    -artifact_prefix="$work/artifacts/$target/" "$work/corpus/$target" "$work/seeds/$target" >"$log" 2>&1; then
    printf '%-16s %9s inputs, %3d s, %s edges covered\n' "$target" "$(statistic number_of_executed_units "$log")" \
      $((SECONDS - begin)) "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)"
    return 0
  fi
  printf '%s: FAILED; the end of %s says:\n' "$target" "$log"
  tail -n 20 -- "$log"
  return 1
}

fuzz() {
  local target targets=("$@") failed=0 work=${CARGO_TARGET_DIR:-$root/target}/fuzz
  if ! cargo "+$nightly" --version >/dev/null 2>&1; then export RUSTUP_HOME=$toolchain/rustup; fi
  if [ ${#targets[@]} -eq 0 ]; then mapfile -t targets < <(cargo "+$nightly" fuzz list --fuzz-dir "$root/harness/fuzz"); fi
  # None of ours is unsafe code: there is nothing for a sanitizer to find, and inputs go faster without.
  CARGO_TARGET_DIR=$work cargo "+$nightly" fuzz build --fuzz-dir "$root/harness/fuzz" --sanitizer none
  mkdir -p -- "$work/bin"
  for target in "${targets[@]}"; do
    cp -- "$work/$(rustc -vV | sed -n 's/^host: //p')/release/$target" "$work/bin/"
  done
  "$root/harness/fuzz/seeds.py" "$work/seeds"
  for target in "${targets[@]}"; do
    fuzz_one "$target" "$work" || failed=1
  done
  return "$failed"
}

mutants() {
  cd "$root"
  # Hundreds of builds of which nobody debugs one.
  export CARGO_PROFILE_DEV_DEBUG=none CARGO_PROFILE_TEST_DEBUG=none
  exec cargo mutants --jobs 1 "$@"
}

case "${1:-}" in
  fuzz | mutants)
    "$root/harness/toolchain/setup.sh" "$1"
    "$@"
    ;;
  *)
    sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
