# Prints how the data of the etcd member in $ETCD is: whole, damaged or missing. A member is whole with its write-ahead log and its
# database; without one of them etcd would begin anew, or not at all.
etcd_data() {
  member=${ETCD:-/var/lib/etcd}/member
  if [ -f "$member/snap/db" ] && ls "$member"/wal/*.wal >/dev/null 2>&1; then echo whole
  elif [ -d "$member" ]; then echo damaged
  else echo missing; fi
}
