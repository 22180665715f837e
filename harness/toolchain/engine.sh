#!/usr/bin/env bash
# Makes a container engine answer, for `--environment container`. Does nothing where one answers already.
#
#   engine.sh start [DIR]   install Debian's docker.io where there is no engine, start dockerd where none answers, and wait until it does
#   engine.sh stop [DIR]    end the dockerd that `start` with the same DIR has started, and no other
#
# DIR holds the log and the process id; .toolchain/engine if absent. Images and containers are where every dockerd has them, and stay.
#
# As root or with passwordless sudo. The service of a freshly installed package is not enabled, so that only this script starts it.
#
# Environment:
#   MTLS_CONFORMANCE_TOOLCHAIN   the folder to use instead of .toolchain beside the Makefile
#   MTLS_CONFORMANCE_SKIP_APT=1  install nothing
#   DOCKER_HOST                  the engine to ask; if it doesn't answer, none is started
#
# Exit codes: 0 done; 2 bad usage; 3 there is no engine, and the reason was named.

set -euo pipefail
umask 022
export LC_ALL=C
# Where dockerd and iptables are, which are not on every user's PATH.
PATH=$PATH:/usr/sbin:/sbin

# Seconds until dockerd must answer, and until it must have ended.
start_limit=60
stop_limit=30
# Seconds between two looks.
look_again=0.1

root=()

say() { printf 'engine: %s\n' "$*" >&2; }

# give_up MESSAGE...
give_up() {
  say "$@"
  exit 3
}

have() { command -v "$1" >/dev/null 2>&1; }

show_tail() { "${root[@]}" tail -n 8 -- "$1" | cut -c 1-300 | sed 's/^/engine:   | /' >&2; }

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Whether there is an engine that this user may not use.
is_closed() { grep -qi 'permission denied' <<<"$(docker version 2>&1)"; }

# Whether $1 is running, and is a dockerd that this script started with the folder in $state.
is_ours() {
  [ -n "$1" ] && tr '\0' '\n' 2>/dev/null <"/proc/$1/cmdline" | grep -qxF -- "--pidfile=$state/dockerd.pid"
}

find_root() {
  if [ "$(id -u)" -eq 0 ]; then return; fi
  if have sudo && sudo -n true 2>/dev/null; then
    root=(sudo -n)
    return
  fi
  give_up "no container engine answers, and starting one takes root: not root, and no passwordless sudo. Start it, or run this as root."
}

# --- installing ------------------------------------------------------------------------------------------------------------

policy=/usr/sbin/policy-rc.d
policy_mark='# put here by engine.sh of mtls-conformance while it installs packages'

release_services() {
  if grep -qsF "$policy_mark" "$policy"; then "${root[@]}" rm -f "$policy"; fi
}

apt_install() {
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=180 install --no-install-recommends "$@" \
    >"$state/apt.log" 2>&1 </dev/null
}

install_engine() {
  local service
  if [ "${MTLS_CONFORMANCE_SKIP_APT:-}" = 1 ]; then give_up "there is no dockerd, and MTLS_CONFORMANCE_SKIP_APT=1 is set. Install a container engine."; fi
  have apt-get || give_up "there is no dockerd, and this machine has no apt-get. Install Docker, and run this again."
  say "apt: installing docker.io ..."
  # The package would start its service.
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod 0755 "$policy"
  fi
  trap release_services EXIT
  if ! apt_install docker.io; then
    "${root[@]}" apt-get -q update >"$state/apt.log" 2>&1 </dev/null || true
    if ! apt_install docker.io; then
      show_tail "$state/apt.log"
      give_up "apt could not install docker.io, see above."
    fi
  fi
  # A newer Debian has the command in a package of its own.
  if ! have docker && ! apt_install docker-cli; then
    show_tail "$state/apt.log"
    give_up "apt could not install docker-cli, see above."
  fi
  release_services
  trap - EXIT
  for service in docker containerd; do
    if [ -e "/etc/init.d/$service" ]; then "${root[@]}" update-rc.d "$service" disable >>"$state/apt.log" 2>&1 || true; fi
  done
}

# Every init system mounts the control groups that containers are put into; a small virtual machine may have none.
mount_control_groups() {
  if grep -qE '^[^ ]+ /sys/fs/cgroup[/ ]' /proc/self/mounts; then return; fi
  if ! have cgroupfs-mount; then
    say "apt: the control groups are not mounted; installing cgroupfs-mount ..."
    if [ "${MTLS_CONFORMANCE_SKIP_APT:-}" = 1 ] || ! have apt-get || ! apt_install cgroupfs-mount; then
      give_up "the control groups are not mounted below /sys/fs/cgroup, and cgroupfs-mount could not be installed. Mount them."
    fi
  fi
  "${root[@]}" cgroupfs-mount || give_up "cgroupfs-mount could not mount the control groups below /sys/fs/cgroup."
}

# --- starting and stopping -------------------------------------------------------------------------------------------------

start() {
  local log=$state/dockerd.log pid='' deadline options=("--pidfile=$state/dockerd.pid")
  if have docker && answers; then return; fi
  if have docker && is_closed; then
    give_up "a container engine runs, and this user may not use it: add the user to the group of its socket (docker), or run this as root."
  fi
  if [ -n "${DOCKER_HOST:-}" ]; then
    give_up "the engine that DOCKER_HOST names ($DOCKER_HOST) doesn't answer. Start it, or unset DOCKER_HOST to have one started here."
  fi
  find_root
  mkdir -p "$state"
  if ! have dockerd || ! have docker; then install_engine; fi
  mount_control_groups
  # The socket is root's and this group's.
  if [ "$(id -u)" -ne 0 ]; then options+=("--group=$(id -gn)"); fi
  say "starting dockerd; its log is $log"
  # In a session of its own, so that Ctrl-C reaches those who use it, and it only afterwards.
  "${root[@]}" setsid dockerd "${options[@]}" >"$log" 2>&1 </dev/null &
  pid=$!
  deadline=$((SECONDS + start_limit))
  until answers; do
    if [ ! -e "/proc/$pid" ] && ! is_ours "$(cat "$state/dockerd.pid" 2>/dev/null)"; then
      failed "$log" "dockerd ended before it answered; the end of $log says:"
    fi
    if [ "$SECONDS" -ge "$deadline" ]; then
      stop
      failed "$log" "dockerd has not answered within $start_limit s; the end of $log says:"
    fi
    sleep "$look_again"
  done
}

# failed LOG MESSAGE
failed() {
  say "$2"
  show_tail "$1"
  if grep -qE 'iptables.*(Permission denied|Could not fetch rule set|not permitted)|[Oo]peration not permitted' "$1"; then
    say "this machine doesn't let it: dockerd takes a virtual machine, or a container that is privileged."
  fi
  exit 3
}

stop() {
  local pid deadline
  pid=$(cat "$state/dockerd.pid" 2>/dev/null || true)
  if ! is_ours "$pid"; then return; fi
  find_root
  deadline=$((SECONDS + stop_limit))
  "${root[@]}" kill -TERM "$pid" 2>/dev/null || true
  while is_ours "$pid"; do
    if [ "$SECONDS" -ge "$deadline" ]; then
      say "dockerd has not ended within $stop_limit s of being asked to; it is killed. Its log is $state/dockerd.log."
      "${root[@]}" kill -KILL "$pid" 2>/dev/null || true
      return
    fi
    sleep "$look_again"
  done
}

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; }

main() {
  local here
  here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  state=$(realpath -m -- "${2:-${MTLS_CONFORMANCE_TOOLCHAIN:-$here/../../.toolchain}/engine}")
  case "${1:-}" in
    start | stop) "$1" ;;
    *)
      usage
      exit 2
      ;;
  esac
}

main "$@"
