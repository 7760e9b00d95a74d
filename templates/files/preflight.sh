# Prints what decides whether a machine can become a node, as lines "key=value" that package preflight parses. Changes nothing: of
# $SYNC, a directory's file system whose latency is measured, the file is removed again. $PORTS are hexadecimal, as in /proc/net.
say() { printf '%s=%s\n' "$1" "$2"; }
lines() { sed "s/^/$1=/"; }
echo "now=$(date +%s.%N)"
lines os </etc/os-release 2>/dev/null
say kernel "$(uname -r)"
say machine "$(uname -m)"
say hostname "$(uname -n)"
say container "$(systemd-detect-virt -c 2>/dev/null)"

[ -d /run/systemd/system ] && say systemd "$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
[ "$(timeout 5 systemctl is-system-running 2>/dev/null)" = degraded ] && timeout 5 systemctl list-units --failed --plain --no-legend --no-pager | cut -d' ' -f1 | lines failed
say activate "$(command -v systemd-socket-activate)"
say bash "$(command -v bash)"
say nft "$(nft --version 2>/dev/null)"

for tool in $TOOLS; do command -v "$tool" >/dev/null || say missing "$tool"; done
# A module that is built in has no directory unless it has parameters. Without an index of modules nothing is known about them.
known=/lib/modules/$(uname -r)/modules.dep
for m in $MODULES; do
  if [ -d "/sys/module/$m" ] || grep -qw "$m" /proc/filesystems || grep -q "/$m\.ko" "/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null; then continue; fi
  case $m in
    br_netfilter) [ -d /proc/sys/net/bridge ] && continue ;;
    ip_vs) [ -d /proc/sys/net/ipv4/vs ] && continue ;;
    overlay) ;;
    *) [ -f "$known" ] || continue ;;
  esac
  modprobe --dry-run --quiet "$m" 2>/dev/null || say nomodule "$m"
done
say cgroup "$(stat -fc %T /sys/fs/cgroup 2>/dev/null)"
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then cat /sys/fs/cgroup/cgroup.controllers; else sed -n 's/^\([a-z_,]*\)\t.*\t1$/\1/p' /proc/cgroups; fi | tr ' ' '\n' | lines controller
sed 1d /proc/swaps | cut -d' ' -f1 | cut -f1 | lines swap
sed -n 's/^MemTotal: *\([0-9]*\) kB/memory=\1/p' /proc/meminfo
say cpus "$(nproc)"
[ -e /dev/kmsg ] || say nokmsg 1
awk '$5 == "/" { p = "private"; for (i = 7; i <= NF && $i != "-"; i++) if ($i ~ /^shared:/) p = "shared" } END { print "propagation=" p }' /proc/self/mountinfo

say machineid "$(cat /etc/machine-id 2>/dev/null)"
say product "$(cat /sys/class/dmi/id/product_uuid 2>/dev/null)"
for key in $SYSCTLS; do say sysctl "$key $(cat "/proc/sys/$(echo "$key" | tr . /)" 2>/dev/null)"; done
say selinux "$(cat /sys/fs/selinux/enforce 2>/dev/null)"
[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] && ! command -v apparmor_parser >/dev/null && say noparser 1

# Where files go: device, free and total bytes, mount options, and whether root can write.
for dir in $DIRS; do
  at=$dir
  while [ ! -d "$at" ]; do at=${at%/*}; at=${at:-/}; done
  df -B1 --output=source,avail,size,target "$at" 2>/dev/null | tail -n 1 | { read -r dev free size target
    options=$(awk -v t="$target" '$2 == t { o = "," $4 "," } END { print (o ~ /,ro,/ ? "ro" : "rw") (o ~ /,noexec,/ ? ",noexec" : "") }' /proc/self/mounts)
    say disk "$dir $dev $free $size $target $options $(stat -c %d "$at")"; }
done
if [ -n "$SYNC" ] && [ ! -s /var/lib/slipway/owned ]; then
  at=$SYNC
  while [ ! -d "$at" ]; do at=${at%/*}; at=${at:-/}; done
  try=$at/.slipway-preflight.$$
  trap 'rm -f "$try"' EXIT
  trap 'exit 143' HUP INT TERM
  # 2,300 bytes are a usual write of etcd, and dd says how long each took. At most 200 of them, within a second.
  end=$(($(date +%s%N) + 1000000000)) n=0
  while [ $n -lt 200 ] && [ "$(date +%s%N)" -lt $end ]; do
    n=$((n + 1))
    timeout 5 dd if=/dev/zero of="$try" bs=2300 count=1 oflag=dsync conv=notrunc 2>&1 | sed -n 's/.* copied, \([0-9.e-]*\) s,.*/sync=\1/p'
  done
  rm -f "$try"
fi

# The machine's addresses, its interfaces and their MTU and MAC.
sed -n '/|--/{s/.*|-- //;h};/host LOCAL/{g;s/^/address=/;p}' /proc/net/fib_trie 2>/dev/null | sort -u
for link in /sys/class/net/*; do say link "${link##*/} $(cat "$link/mtu" 2>/dev/null) $(cat "$link/address" 2>/dev/null)"; done
[ -z "$ADDRESS" ] || say interface "$(ip -o -4 addr show to "$ADDRESS" 2>/dev/null | awk '{ print $2; exit }')"

# Who listens on ports that are needed: TCP in state 0A, UDP in 07.
for p in tcp tcp6 udp udp6; do
  case $p in tcp*) state=0A ;; *) state=07 ;; esac
  awk -v p="$p" -v s="$state" -v ports=" $PORTS " 'NR > 1 && $4 == s { split($2, a, ":"); if (index(ports, " " a[2] " ")) print p, a[1], a[2], $10 }' "/proc/net/$p" 2>/dev/null
done | while read -r p at port inode; do
  fd=
  [ "$inode" = 0 ] || fd=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" 2>/dev/null | head -n 1)
  pid=${fd#/proc/}
  pid=${pid%%/*}
  unit=
  [ -z "$pid" ] || unit=$(sed -n 's,.*/\([^/]*\.\(service\|socket\|scope\)\).*,\1,p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
  say listens "$p $at $port ${pid:--} ${unit:--} $(cat "/proc/${pid:-none}/comm" 2>/dev/null)"
done

# What others have left.
cut -f2- /var/lib/slipway/owned 2>/dev/null | lines owned
for f in $LEFTOVERS; do [ -e "$f" ] && say left "$f"; done
for f in /etc/cni/net.d/*.conf /etc/cni/net.d/*.conflist /etc/kubernetes/manifests/*.yaml; do [ -e "$f" ] && say left "$f"; done
for dir in /proc/[0-9]*; do
  read -r comm 2>/dev/null <"$dir/comm" || continue
  case $comm in
    kubelet | containerd | dockerd | crio | k3s | k3s-server | k3s-agent | k0s | rke2 | kube-apiserver | etcd | kube-proxy | flanneld)
      # Not those in pods.
      [ "$(readlink /proc/self/ns/pid)" = "$(readlink "$dir/ns/pid")" ] || continue
      say process "${dir#/proc/} $comm $(sed -n 's,.*/\([^/]*\.\(service\|scope\)\).*,\1,p' "$dir/cgroup" 2>/dev/null | head -n 1)" ;;
  esac
done
for tool in iptables-save iptables-legacy-save; do
  command -v $tool >/dev/null && timeout 10 $tool 2>/dev/null | sed -n "s/^:\(KUBE-[^ ]*\) .*/$tool \1/p" | sort -u | lines chain
done
command -v nft >/dev/null && nft list tables 2>/dev/null | sed -n 's/^table ip6* kube-proxy$/chain=nft kube-proxy/p' | sort -u
# Filters of nft on what comes in; that of iptables is "ip filter INPUT".
command -v nft >/dev/null && nft list chains 2>/dev/null | awk '$1 == "table" { t = $2 " " $3 } $1 == "chain" { c = $2 }
  / hook input / && t !~ / (kube-proxy|flannel.*|firewalld)$/ { print "input=" t " " c }'
systemctl is-active --quiet firewalld 2>/dev/null && say firewall firewalld
command -v ufw >/dev/null && ufw status 2>/dev/null | grep -q '^Status: active' && say firewall ufw

# The resolver, and the machine's own name.
sed -n 's/^nameserver[[:space:]]*//p' /etc/resolv.conf 2>/dev/null | lines nameserver
sed -n 's/^nameserver[[:space:]]*/upstream=/p' /run/systemd/resolve/resolv.conf 2>/dev/null
timeout 5 getent hosts "$(uname -n)" >/dev/null 2>&1 || say noname 1
echo '[end]'
