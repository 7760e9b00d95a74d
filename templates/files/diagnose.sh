# Prints how a host is, in sections that diagnose parses; a line of text begins with a space. It only reads. Each part is bounded:
# a disk that hangs must not keep the rest from being told.
bounded() { timeout -k 1 8 "$@" 2>/dev/null; }
indented() { sed 's/^/ /'; }

echo '[facts]'
echo "now=$(date +%s.%N)"
echo "uptime=$(cut -d' ' -f1 /proc/uptime)"
echo "hostname=$(cat /proc/sys/kernel/hostname)"
echo "kernel=$(uname -r)"
sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/os=\1/p' /etc/os-release
sed -n -e 's/^MemTotal: *\([0-9]*\).*/memtotal=\1/p' -e 's/^MemAvailable: *\([0-9]*\).*/memavailable=\1/p' /proc/meminfo
echo "swaps=$(sed 1d /proc/swaps | grep -c .)"
echo "pidmax=$(cat /proc/sys/kernel/pid_max)"
echo "threads=$(sed 's|^[^ ]* [^ ]* [^ ]* [0-9]*/\([0-9]*\).*|\1|' /proc/loadavg)"
echo "etcddata=$(etcd_data)"
for key in net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables; do
  file=/proc/sys/$(echo "$key" | tr . /)
  [ -r "$file" ] && echo "$key=$(cat "$file")"
done

echo '[units]'
shown=$(TZ=UTC bounded systemctl show \
  -p Id,LoadState,ActiveState,SubState,UnitFileState,Result,ExecMainStatus,NRestarts,StateChangeTimestamp,Job $UNITS)
printf '%s\n\n' "$shown"

# The log of a unit that does not run, or has begun again lately.
log() {
  case $state/$sub in
  active/running | active/exited) [ "${restarts:-0}" != 0 ] || [ "$LINES" != 0 ] || return 0 ;;
  esac
  n=$LINES
  [ "$n" != 0 ] || n=300
  echo "[log $unit]"
  bounded journalctl -q --no-pager -o short-unix -n "$n" -u "$unit" </dev/null | indented
}
unit='' state='' sub='' restarts=''
printf '%s\n\n' "$shown" | while IFS='=' read -r key value; do
  case $key in
  Id) unit=$value ;;
  ActiveState) state=$value ;;
  SubState) sub=$value ;;
  NRestarts) restarts=$value ;;
  '')
    [ -z "$unit" ] || log
    unit='' state='' sub='' restarts=''
    ;;
  esac
done

echo '[disks]'
bounded df -B1 --output=fstype,size,avail,itotal,iavail,target $DIRS | sed 1d | sort -u

echo '[cni]'
for f in /etc/cni/net.d/*; do
  [ -f "$f" ] || continue
  echo "file=$f"
  grep -oE '"type" *: *"[^"]+"' "$f" | sed 's/.*"\([^"]*\)"$/type=\1/'
done
for d in $(sed -n 's/^ *bin_dirs *= *\[\(.*\)\].*/\1/p' /etc/containerd/config.toml 2>/dev/null | tr -d '",'); do
  for f in "$d"/*; do [ -x "$f" ] && echo "plugin=${f##*/}"; done
done

echo '[networks]'
bounded ip -o -4 addr show | sed -n 's/^[0-9]*: \([^ ]*\) *inet \([^ ]*\).*/\1 \2/p'

echo '[servers]'
for f in $KUBECONFIGS; do
  [ -f "$f" ] && sed -n 's/^[ -]*server: *\([^ ]*\).*/\1/p' "$f" | head -n 1 | sed "s|^|$f |"
done

echo '[keys]'
for f in $KEYS; do
  if [ -r "$f" ]; then sha256sum "$f"; else echo "missing  $f"; fi
done

echo '[proxy]'
case $MODE in
nftables) command -v nft >/dev/null && echo "rules=$(bounded nft -t list table ip kube-proxy | grep -c .)" ;;
iptables) command -v iptables-save >/dev/null && echo "rules=$(bounded iptables-save -t nat | grep -c KUBE-)" ;;
ipvs) [ -r /proc/net/ip_vs ] && echo "rules=$(grep -cE '^(TCP|UDP)' /proc/net/ip_vs)" ;;
esac

echo '[drops]'
command -v iptables >/dev/null && bounded iptables -S | grep -E -e '-j (DROP|REJECT)' -e '^-P INPUT DROP' | grep -v KUBE- | head -n 50

if [ "$LINES" != 0 ]; then
  for f in $CONFIGS; do
    [ -f "$f" ] || continue
    echo "[text $f]"
    head -c 200000 "$f" | indented
  done
  text() {
    echo "[text $1]"
    shift
    bounded "$@" 2>&1 | head -c 500000 | indented
  }
  text addresses ip addr
  text routes ip route show table all
  text links ip -d link
  text sockets ss -tulnp
  text mounts mount
  text disks df -h
  text memory cat /proc/meminfo
  text modules cat /proc/modules
  text iptables iptables-save
  text nftables nft list ruleset
  text units systemctl list-units --all --no-pager
  text failed systemctl --failed --no-pager
  text time timedatectl
  text containers crictl ps -a
  text images crictl images
  text kernel journalctl -k -q --no-pager -n 500
fi
echo '[end]'
