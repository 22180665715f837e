#!/usr/bin/env bash
# Builds container images from Debian's packages, for machines whose container engine can't pull from a registry.
# Does nothing, quickly, when they are here and were built from what stands below.
#
#   build.sh           build what is missing or out of date
#   build.sh --anew    build all, for newer packages of the same versions
#   build.sh --list    print the names of the images
#
# There is one root filesystem a Debian release, with everything that the harness needs of it, and it goes by several names: two
# filesystems are built, imported and kept in less time and space than one a program, and nothing in one of them disturbs the others,
# since nothing is started unless the harness starts it. A name's tag is the version inside, which is looked at before it is given.
#
# The packages come from the mirror that this machine's apt uses, or else from mmdebstrap's own default.
#
# Needs: root or passwordless sudo, a container engine that answers (harness/toolchain/engine.sh), apt-get, mmdebstrap (installed if missing).
#
# Environment:
#   MTLS_CONFORMANCE_DEBIAN_MIRROR    URL of a Debian mirror to take instead of apt's
#   MTLS_CONFORMANCE_DEBIAN_KEYRING   the keys that the mirror is signed with, instead of those of debian-archive-keyring
#
# Exit codes: 0 all images are here; 1 one could not be built; 2 bad usage; 3 something that building needs is missing.

set -euo pipefail
umask 022
export LC_ALL=C

self=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/build.sh
# A label of every image: what it was built from.
recipe_label=mtls-conformance.recipe
releases=(bookworm trixie)
default_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Sets postgres, redis and haproxy to the versions that Debian release $1 has.
versions_of() {
  case "$1" in
    bookworm) postgres=15 redis=7.0 haproxy=2.6 ;;
    trixie) postgres=17 redis=8.0 haproxy=3.0 ;;
  esac
}

# Prints the images of Debian release $1, one a line.
names_of() {
  local postgres redis haproxy
  versions_of "$1"
  printf 'mtls-conformance/%s\n' "postgres:$postgres" "redis:$redis" "haproxy:$haproxy" "clients:$1"
}

say() { printf 'images: %s\n' "$*" >&2; }

# give_up CODE MESSAGE...
give_up() {
  local code=$1
  shift
  say "$@"
  exit "$code"
}

have() { command -v "$1" >/dev/null 2>&1; }

# Seconds since the microsecond time $1.
since() {
  local micros=$((${EPOCHREALTIME/./} - $1))
  printf '%d.%d s' $((micros / 1000000)) $((micros % 1000000 / 100000))
}

# --- the recipe ------------------------------------------------------------------------------------------------------------

# What is in no image. LLVM is PostgreSQL's compiler of expressions, which no query here is long enough for; it turns itself off when missing.
left_out=(
  '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/info/*' '/usr/share/locale/*' '/usr/share/i18n/*' '/usr/share/lintian/*'
  '/usr/lib/*/gconv/*' '/usr/lib/*/libLLVM*' '/usr/lib/*/libz3.so*' '/usr/lib/postgresql/*/lib/bitcode/*' '/usr/lib/postgresql/*/lib/llvmjit*'
)

# Prints mmdebstrap's options for Debian release $1, except where the packages come from.
options_of() {
  local postgres redis haproxy path
  versions_of "$1"
  printf '%s\n' --variant=essential --components=main --skip=cleanup/run \
    "--include=postgresql-$postgres,redis-server,haproxy,openssl,python3-psycopg2,python3-redis" \
    '--aptopt=Acquire::Languages "none"' --dpkgopt=force-unsafe-io
  for path in "${left_out[@]}"; do printf '%s\n' "--dpkgopt=path-exclude=$path"; done
}

# hook PART RELEASE: the command by which mmdebstrap calls this script back, with the folder of the filesystem as its last argument.
hook() { printf "'%s' --hook-%s %s \"\$1\"" "$self" "$1" "$2"; }

# prepare RELEASE ROOT: before the packages.
prepare() {
  # PostgreSQL's package makes a database cluster when it is installed, unless it is told not to.
  mkdir -p "$2/etc/postgresql-common/createcluster.d"
  echo 'create_main_cluster = false' >"$2/etc/postgresql-common/createcluster.d/none.conf"
}

# finish RELEASE ROOT: after the packages. Fails unless the programs have the versions that the tags will tell.
finish() {
  local postgres redis haproxy link program
  versions_of "$1"
  cd "$2"
  # Perl's library serves Debian's wrappers only, which stand in front of PostgreSQL's programs.
  find usr/bin -lname '*/pg_wrapper' | while IFS= read -r link; do
    program=usr/lib/postgresql/$postgres/bin/${link##*/}
    if [ -e "$program" ]; then ln -sfn "/$program" "$link"; else rm "$link"; fi
  done
  rm -rf usr/share/perl usr/share/perl5 usr/lib/*/perl usr/lib/*/libperl.so.* usr/share/postgresql-common
  # What only apt would use, and the names of this machine and its mirror.
  rm -rf etc/apt/sources.list etc/apt/apt.conf.d/99mmdebstrap etc/hostname etc/resolv.conf var/cache/debconf var/log/*
  # Where PostgreSQL's programs look for its socket; mmdebstrap, which would empty this folder, is told not to.
  rm -rf run/*
  chroot . install -d -o postgres -g postgres -m 2775 /run/postgresql

  chroot . "/usr/lib/postgresql/$postgres/bin/postgres" --version | grep -F " (PostgreSQL) $postgres."
  chroot . redis-server --version | grep -F " v=$redis."
  chroot . haproxy -v | grep -F "HAProxy version $haproxy."
  chroot . openssl version
  chroot . psql --version
  chroot . python3 -c 'import psycopg2, redis; print("psycopg2", psycopg2.__version__, "redis-py", redis.__version__)'
}

# Prints the engine's settings for the images of Debian release $1. PATH is as in the official image.
settings_of() {
  local postgres redis haproxy
  versions_of "$1"
  printf '%s\n' "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/$postgres/bin" 'CMD ["bash"]'
}

recipe_of() { { options_of "$1" && settings_of "$1" && declare -f prepare finish; } | sha256sum | cut -d ' ' -f 1; }

# --- what this machine has -------------------------------------------------------------------------------------------------

root=()
docker=(docker)

find_root() {
  if [ "$(id -u)" -eq 0 ]; then return; fi
  if have sudo && sudo -n true 2>/dev/null; then
    root=(sudo -n)
    return
  fi
  give_up 3 "not root, and no passwordless sudo: mmdebstrap installs packages into a folder, which takes root. Run it as root."
}

# The engine may answer root only.
find_engine() {
  local answer
  have docker || give_up 3 "there is no docker command. Install docker.io; harness/toolchain/engine.sh does that and starts the engine."
  if answer=$(docker version --format '{{.Server.Version}}' 2>&1); then return; fi
  if [ "$(id -u)" -ne 0 ] && have sudo && sudo -n docker version >/dev/null 2>&1; then
    docker=(sudo -n docker)
    return
  fi
  if grep -qi 'permission denied' <<<"$answer"; then
    give_up 3 "a container engine runs, and this user may not use it: add the user to the group of its socket (docker), or run this as root."
  fi
  give_up 3 "no container engine answers (docker version: ${answer##*$'\n'}). Start one, or let harness/toolchain/engine.sh start it."
}

# Whether all images of Debian release $1 are here, built from recipe $2.
are_here() {
  local names labels
  mapfile -t names < <(names_of "$1")
  labels=$("${docker[@]}" image inspect --format "{{index .Config.Labels \"$recipe_label\"}}" "${names[@]}" 2>/dev/null) || return 1
  [ "$(sort -u <<<"$labels")" = "$2" ]
}

# install PACKAGE...: what building needs.
install() {
  local log=$work/apt.log
  have apt-get || give_up 3 "$* is missing, and this machine has no apt-get to install it with."
  say "apt: installing $* ..."
  if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q install --no-install-recommends "$@" >"$log" 2>&1 </dev/null; then
    "${root[@]}" apt-get -q update >"$log" 2>&1 </dev/null || true
    if ! "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q install --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; then
      show_tail "$log"
      give_up 3 "apt could not install $*, see above."
    fi
  fi
}

# Prints the URL of the Debian mirror in apt's sources; nothing if there is none, as on other distributions, or if no lists were fetched.
mirror_of_lists() {
  # shellcheck disable=SC2016 # The dollars are apt's.
  apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' | sed -n 's/ Debian Debian$//p' | sort -u | head -n 1
}

apt_mirror() {
  local mirror
  mirror=$(mirror_of_lists)
  if [ -z "$mirror" ]; then
    "${root[@]}" apt-get -q update >"$work/apt.log" 2>&1 </dev/null || true
    mirror=$(mirror_of_lists)
  fi
  echo "$mirror"
}

# Prints apt's own settings that fetching depends on, as this machine has them.
apt_settings() {
  apt-config dump | grep -E '^Acquire::(https?::Proxy[^ ]*|Check-Valid-Until|Check-Date) ' | sed 's/^/--aptopt=/' || true
}

# --- building --------------------------------------------------------------------------------------------------------------

work=''
children=()

show_tail() { tail -n 8 -- "$1" | cut -c 1-300 | sed 's/^/images:   | /' >&2; }

# Ends what was started. mmdebstrap takes its folder, with what is mounted in it, away itself.
clean_up() {
  local child
  for child in "${children[@]}"; do
    "${root[@]}" kill -TERM "$child" 2>/dev/null || true
    wait "$child" 2>/dev/null || true
  done
  if [ -n "$work" ]; then "${root[@]}" rm -rf -- "$work"; fi
}

# build RELEASE...
build() {
  local release mirror keyring options fetching failed=0 begin=${EPOCHREALTIME/./}
  have mmdebstrap || install mmdebstrap
  keyring=${MTLS_CONFORMANCE_DEBIAN_KEYRING:-$default_keyring}
  if [ ! -r "$keyring" ] && [ "$keyring" = "$default_keyring" ]; then install debian-archive-keyring; fi
  [ -r "$keyring" ] || give_up 3 "$keyring, which MTLS_CONFORMANCE_DEBIAN_KEYRING names, can't be read."
  mirror=${MTLS_CONFORMANCE_DEBIAN_MIRROR:-$(apt_mirror)}
  mapfile -t fetching < <(apt_settings)

  for release in "$@"; do
    say "$release: building $(names_of "$release" | tr '\n' ' ')..."
    mapfile -t options < <(options_of "$release")
    options+=("--essential-hook=$(hook prepare "$release")" "--customize-hook=$(hook finish "$release")")
    # Without a mirror, mmdebstrap takes its own.
    "${root[@]}" mmdebstrap "${options[@]}" "${fetching[@]}" --keyring="$keyring" "$release" "$work/$release.tar" ${mirror:+"$mirror"} \
      >"$work/$release.log" 2>&1 </dev/null &
    children+=($!)
  done

  for release in "$@"; do
    local child=${children[0]}
    if wait "$child" && import "$release" >>"$work/$release.log" 2>&1; then
      say "$release: done $(since "$begin") after the start, $(size_of "$release")"
    else
      failed=1
      say "$release: FAILED; the end of mmdebstrap's output:"
      show_tail "$work/$release.log"
      advise "$work/$release.log"
    fi
    children=("${children[@]:1}")
  done
  return "$failed"
}

# Gives the engine the filesystem of Debian release $1, under all its names.
import() {
  local names setting changes=(--change "LABEL $recipe_label=$(recipe_of "$1")") name
  mapfile -t names < <(names_of "$1")
  while IFS= read -r setting; do changes+=(--change "$setting"); done < <(settings_of "$1")
  "${docker[@]}" import "${changes[@]}" "$work/$1.tar" "${names[0]}" || return 1
  for name in "${names[@]:1}"; do
    "${docker[@]}" tag "${names[0]}" "$name" || return 1
  done
  "${root[@]}" rm -f -- "$work/$1.tar"
}

size_of() {
  local bytes
  bytes=$("${docker[@]}" image inspect --format '{{.Size}}' "$(names_of "$1" | head -n 1)")
  echo "$((bytes / 1000000)) MB"
}

# What to do about the failure in log $1, where it can be told.
advise() {
  if grep -qE 'NO_PUBKEY|not signed|EXPKEYSIG' "$1"; then
    say "the mirror is signed with a key that $keyring lacks: upgrade debian-archive-keyring, or name another file in MTLS_CONFORMANCE_DEBIAN_KEYRING."
  elif grep -qE 'does not have a Release file|404 ' "$1"; then
    say "the mirror (${mirror:-the default of mmdebstrap}) doesn't have this Debian release; name another in MTLS_CONFORMANCE_DEBIAN_MIRROR."
  elif grep -qE 'Could not resolve|Could not connect|Connection (failed|timed out)|Unable to connect' "$1"; then
    say "the mirror (${mirror:-the default of mmdebstrap}) can't be reached; name another in MTLS_CONFORMANCE_DEBIAN_MIRROR."
  elif grep -q 'No space left' "$1"; then
    say "there is no space left in ${TMPDIR:-/tmp}; set TMPDIR to a folder with about 1 GB."
  fi
}

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; }

main() {
  local anew=0 release wanted=() started=${EPOCHREALTIME/./}
  case "${1:-}" in
    '') ;;
    --anew) anew=1 ;;
    # mmdebstrap calls these: see hook.
    --hook-prepare)
      prepare "$2" "$3"
      return
      ;;
    --hook-finish)
      finish "$2" "$3"
      return
      ;;
    --list)
      for release in "${releases[@]}"; do names_of "$release"; done
      return
      ;;
    *)
      usage
      exit 2
      ;;
  esac
  find_engine
  for release in "${releases[@]}"; do
    if [ "$anew" -eq 1 ] || ! are_here "$release" "$(recipe_of "$release")"; then wanted+=("$release"); fi
  done
  if [ ${#wanted[@]} -eq 0 ]; then
    say "all are here ($(since "$started"))"
    return
  fi
  find_root
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  work=$(mktemp -d "${TMPDIR:-/tmp}/mtls-conformance-images.XXXXXX")
  # mmdebstrap looks at it as another user.
  chmod 0755 "$work"
  build "${wanted[@]}"
}

main "$@"
