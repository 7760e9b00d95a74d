# Prints what a host is, in sections that provision parses. Changes nothing but a memo that is gone at the next boot. $PATHS
# are those that matter, one a line: not on stdin, which would be another round trip.
# GNU find prints type, mode, owner, time of the last change and link target of them all in one process.
state=/var/lib/slipway
list=$(mktemp) || exit 1
trap 'rm -f "$list"' EXIT
{ printf '%s\n' "$PATHS"; cut -f2- $state/owned 2>/dev/null; } | sort -u | tr '\n' '\0' >"$list"

echo '[facts]'
. /etc/os-release 2>/dev/null
echo "os=${PRETTY_NAME:-unknown}"
echo "kernel=$(uname -r)"
echo "now=$(date +%s)"
echo "machine=$(uname -m)"
echo "cgroup=$(stat -fc %T /sys/fs/cgroup 2>/dev/null)"
sed -n 's/^CapBnd:[[:space:]]*/capbnd=/p' /proc/self/status
[ -d /run/systemd/system ] && echo systemd=1
command -v systemd-sysusers >/dev/null || echo nosysusers=1
echo "etcddata=$(etcd_data)"
[ -f $state/initialized ] && echo initialized=1
[ -f $state/cluster ] && echo "cluster=$(head -n 1 $state/cluster)"
# The networks and the name that components were installed with.
network() { sed -n "s/^$3\([^ ]*\).*/$1=\1/p" "${ROOT:-}$2" 2>/dev/null | tr -d "\"'"; }
network services /etc/systemd/system/kube-apiserver.service ' *--service-cluster-ip-range='
network pods /etc/systemd/system/kube-controller-manager.service ' *--cluster-cidr='
network domain /var/lib/kubelet/config.yaml 'clusterDomain: *'
network node /etc/systemd/system/kubelet.service ' *--hostname-override='
max=/proc/sys/net/netfilter/nf_conntrack_max
if [ ! -e $max ] || stat -c %A $max | grep -q w; then echo conntrack=1; fi
for f in /etc/resolv.conf /run/systemd/resolve/resolv.conf; do
  if grep -E '^nameserver' "$f" 2>/dev/null | grep -qvE '^nameserver[[:space:]]+(127\.|::1)'; then echo "resolv=$f"; break; fi
done
df -B1 --output=avail,size /var 2>/dev/null | tail -n 1 | { read -r free size; echo "free=$free"; echo "disk=$size"; }

echo '[files]'
xargs -0 -r sh -c 'find "$@" -maxdepth 0 -printf "%y\t%m\t%u:%g\t%C@\t%l\t%p\n" 2>/dev/null; true' find <"$list"

# Programs are below, with a memo.
echo '[digests]'
tr '\0' '\n' <"$list" | grep -vxF -e "${PROGRAMS:-none}" | tr '\n' '\0' | xargs -0 -r sh -c 'find "$@" -maxdepth 0 -type f -exec sha256sum {} + 2>/dev/null; true' find

# What programs are, or lead to. Reading them takes seconds, so a digest is kept with what changes when the content does. $KNOWN are
# files that were read already, where they come from.
echo '[contents]'
memo=${MEMO:-/run/slipway-digests}
tab=$(printf '\t')
now=$(printf '%s\n' "$PROGRAMS" | grep . | tr '\n' '\0' |
  xargs -0 -r sh -c 'find -L "$@" -maxdepth 0 -type f -printf "@%D:%i:%s:%T@:%C@\t%p\n" 2>/dev/null; true' find)
[ -z "$now" ] || printf '%s\n' "$now"
echo '[sums]'
if [ -n "$now" ]; then
  kept=$(printf '%s\n' "$now" | cut -f1 | sed "s/\$/$tab/" | { ids=$(cat); grep -F -e "$ids" "$memo" 2>/dev/null; })
  seen=$({ printf '%s\n' "$KNOWN"; printf '%s\n' "$kept" | cut -f1; } | grep '^@' | sed "s/\$/$tab/")
  fresh=$(printf '%s\n' "$now" | grep -vF -e "${seen:-none}" | while IFS=$tab read -r id p; do
    sum=$(sha256sum <"$p") && printf '%s\t%s\n' "$id" "${sum%% *}"
  done)
  all=$(printf '%s\n%s\n' "$kept" "$fresh" | grep '^@') && printf '%s\n' "$all"
  [ -z "$fresh" ] || (umask 077 && printf '%s\n' "$all" >"$memo.$$" && mv "$memo.$$" "$memo") 2>/dev/null
fi

echo '[owned]'
cat $state/owned 2>/dev/null

# Versions of programs that slipway once put there and no longer asks for: their sizes, and what uses them.
echo '[old]'
OWN=$(cut -f2- $state/owned 2>/dev/null)
OLD=$(printf '%s\n' "$OWN" | grep -E '^/opt/slipway/[^/]+/[^/]+/(bin|images)/[^/]+$' | grep -vxF -e "${PROGRAMS:-none}")
if [ -n "$OLD" ]; then
  printf '%s\n' "$OLD" | tr '\n' '\0' | xargs -0 -r sh -c 'find "$@" -maxdepth 0 -type f -printf "size\t%s\t%p\n" 2>/dev/null; true' find
  old_users | sed 's/^/used\t/'
fi

echo '[units]'
# A service that has a timer is the timer's affair.
named() { tr '\0' '\n' <"$list" | sed -n "s|^/etc/systemd/system/\(.*\)\.$1\$|\1$2|p"; }
units=$(named service .service | grep -vxF -e "$(named timer .service)"; named timer .timer)
[ -z "$units" ] || TZ=UTC systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState,MainPID,Job,NeedDaemonReload,StateChangeTimestamp $units

echo '[inputs]'
pids=$( [ -z "$units" ] || systemctl show --value -p MainPID $units | grep -v -e '^0$' -e '^$')
for pid in $pids; do
  tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n "s/^SLIPWAY_INPUTS=/$pid=/p"
done
for f in /run/slipway/*; do [ -f "$f" ] && echo "${f##*/}=$(cat "$f")"; done

# What runs from a file that is no longer where it was.
echo '[replaced]'
for pid in $pids; do
  case $(readlink "/proc/$pid/exe") in *' (deleted)') echo "$pid" ;; esac
done

echo '[sysctls]'
for key in $SYSCTLS; do
  file=/proc/sys/$(echo "$key" | tr . /)
  [ -r "$file" ] && echo "$key=$(cat "$file")"
done

echo '[modules]'
for module in $MODULES; do
  if [ -d "/sys/module/$module" ]; then echo "$module=1"
  elif modprobe --dry-run --verbose "$module" 2>/dev/null | grep -q insmod; then echo "$module=0"; fi
done

echo '[accounts]'
for account in $ACCOUNTS; do
  getent passwd "$account" >/dev/null && getent group "$account" >/dev/null && echo "$account=1"
done

echo '[images]'
if [ -S /run/containerd/containerd.sock ]; then
  ctr=$(command -v ctr || ls /opt/slipway/*/*/bin/ctr 2>/dev/null | tail -n 1)
  [ -z "$ctr" ] || timeout 30 "$ctr" --namespace=k8s.io images list --quiet 2>/dev/null && echo known
fi
echo '[end]'
