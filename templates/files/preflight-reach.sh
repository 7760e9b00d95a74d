# Tries the ways between machines, together with the same script on the others. It prints "ready" when this machine listens, and
# after a line on stdin tries all of $TARGETS ("tcp ADDRESS PORT" or "udp ADDRESS PORT", one a line); prints "tried", and after a
# further line, with the number of messages to wait for, what it has received. What it starts ends with it, or after a minute.
dir=$(mktemp -d) || exit 1
jobs=
trap 'kill $jobs 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 143' HUP INT TERM

# A connection is made by the kernel: nobody has to accept it. The first one starts the command, which keeps the socket.
for port in $TCP; do
  timeout 60 systemd-socket-activate -l "$ADDRESS:$port" sleep 60 >/dev/null 2>"$dir/tcp-$port" &
  jobs="$jobs $!"
done
# Whoever sends, sends to a disk: 128 MB are enough for all.
for port in $UDP; do
  timeout 60 systemd-socket-activate -d -l "$ADDRESS:$port" sh -c 'ulimit -f 262144; exec cat <&3 >>"$0"' "$dir/messages" >/dev/null 2>"$dir/udp-$port" &
  jobs="$jobs $!"
done
: >"$dir/messages"
for port in $TCP; do listening="$listening tcp-$port"; done
for port in $UDP; do listening="$listening udp-$port"; done
for one in $listening; do
  timeout 5 sh -c 'until grep -q Listening "$0"; do sleep 0.02; done' "$dir/$one" || echo "deaf ${one%-*} ${one#*-} $(tail -n 1 "$dir/$one")"
done
echo ready
read -r _ || exit 1

# The last word of bash's message says why: refused, or no route.
n=0
printf '%s\n' "$TARGETS" >"$dir/targets"
while read -r protocol address port size; do
  case $protocol in
    tcp)
      { why=$(timeout 4 bash -c "exec 3<>/dev/tcp/$address/$port" 2>&1)
        case $? in 0) echo "open tcp $address $port" ;; 124) echo "silent tcp $address $port" ;; *) echo "closed tcp $address $port ${why##*: }" ;; esac; } &
      ;;
    udp)
      # Twice a short message, and one that fills a packet, which must not be fragmented.
      bash -c 'exec 3>/dev/udp/$0/$1 || exit
        for _ in 1 2; do printf "%s\n" "short $2" >&3; done
        printf "%-*s\n" $(($3 - 1)) "long $2" | dd bs="$3" iflag=fullblock count=1 status=none >&3' "$address" "$port" "$MESSAGE" "$size" 2>/dev/null &
      ;;
  esac
  pids="$pids $!" n=$((n + 1))
  [ $((n % 64)) -ne 0 ] || { wait $pids; pids=; }
done <"$dir/targets"
wait $pids
echo tried
read -r count || exit 1

[ "$count" = 0 ] || timeout 2 sh -c 'until [ "$(cut -c 1-200 "$0" | sort -u | grep -c .)" -ge "$1" ]; do sleep 0.02; done' "$dir/messages" "$count"
cut -c 1-200 "$dir/messages" | sed 's/ *$//' | sort -u | sed 's/^/got /'
echo '[end]'
