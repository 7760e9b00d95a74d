#!/usr/bin/env bash
# Makes this computer able to run local machines, and undoes what it started.
#
#   testing/machine.sh prepare   install by name from Debian what is missing (as root), start dockerd if none answers,
#                                and raise the kernel's limit of inotify instances
#   testing/machine.sh release   end the dockerd that prepare started, unless containers still run
#
# Where it may not install or start anything (not root, not Debian) it says what is missing, and fails.
set -euo pipefail

# One pair a line: a program or file that the package brings, and the package. The first three run machines, openssl is for tests of certificates; the rest
# build the bundle from source where upstream's releases are not reached.
needs='
dockerd docker.io
iptables iptables
ssh openssh-client
openssl openssl
mmdebstrap mmdebstrap
gcc gcc
/usr/include/seccomp.h libseccomp-dev
pkg-config pkg-config
sshd openssh-server
'
PATH=$PATH:/usr/sbin:/sbin
pidfile=/run/slipway-dockerd.pid
inotify=/proc/sys/fs/inotify/max_user_instances
log=/var/log/slipway-dockerd.log
patience=60 # seconds that dockerd may take to answer

say() { echo "machine: $*" >&2; }

engine_answers() { docker version >/dev/null 2>&1; }

install_missing() {
  local missing=() file package
  while read -r file package; do
    [ -z "$file" ] || [ -e "$file" ] || command -v "$file" >/dev/null || missing+=("$package")
  done <<<"$needs"
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" != 0 ] || [ ! -e /etc/debian_version ]; then
    engine_answers && return # a laptop with a Docker of its own: the rest is needed only to build from source
    say "missing: ${missing[*]}; install them, or run this as root on Debian"
    return 1
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

start_engine() {
  engine_answers && return
  if [ "$(id -u)" != 0 ] || ! command -v dockerd >/dev/null; then
    say "no Docker engine answers; start it (for example: sudo systemctl start docker) and try again"
    return 1
  fi
  say "starting dockerd (log: $log)"
  # Without what was opened for us, such as a lock that somebody holds: it would be held for as long as the engine runs.
  setsid bash -c 'for f in /proc/self/fd/*; do f=${f##*/}; [ "$f" -le 2 ] || eval "exec $f>&-"; done; exec "$@"' _ dockerd --pidfile "$pidfile" >"$log" 2>&1 </dev/null &
  local deadline=$((SECONDS + patience))
  until engine_answers; do
    if [ $SECONDS -ge $deadline ]; then
      say "dockerd does not answer after $patience s; the end of $log:"
      tail -n 20 "$log" >&2
      return 1
    fi
    sleep 0.2
  done
}

# All machines share this kernel, and root's inotify instances with it: a node needs about 27, Linux grants 128.
raise_inotify() {
  local have
  have=$(cat "$inotify" 2>/dev/null) || return 0 # not Linux: Docker's own kernel counts
  [ "$have" -lt 1024 ] || return 0
  if [ ! -w "$inotify" ]; then
    say "fs.inotify.max_user_instances is $have, enough for four nodes at most; raise it with: sudo sysctl fs.inotify.max_user_instances=8192"
    return 0
  fi
  say "raising fs.inotify.max_user_instances from $have to 8192, until the next boot"
  echo 8192 >"$inotify"
}

release() {
  [ -s "$pidfile" ] || return 0
  local pid
  pid=$(cat "$pidfile")
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != dockerd ]; then
    rm -f "$pidfile"
    return 0
  fi
  if [ -n "$(docker ps -q 2>/dev/null)" ]; then
    say "containers still run: leaving dockerd (pid $pid) up"
    return 0
  fi
  say "ending the dockerd that was started here (pid $pid)"
  kill "$pid"
  local deadline=$((SECONDS + patience))
  while [ -e "/proc/$pid" ]; do
    [ $SECONDS -lt $deadline ] || { say "dockerd (pid $pid) does not end"; return 1; }
    sleep 0.2
  done
}

case ${1:-} in
prepare)
  install_missing
  start_engine
  raise_inotify
  ;;
release) release ;;
*) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
