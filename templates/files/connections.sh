# Prints the connections that units have made, by the inodes of their sockets: "unit inode". $CLIENTS has a line a unit:
# its name, the port of the other side, in hexadecimal as /proc/net/tcp has it, and "all" or "some".
# With $BEFORE, such a list, it waits until all of a unit's connections in it have ended, or some of them, and prints
# nothing.
connections() {
	printf '%s\n' "$CLIENTS" | while read -r unit port which; do
		pid=$(systemctl show --property=MainPID --value "$unit") && [ -n "$pid" ] || exit 1 # not the same as having none
		[ "$pid" -gt 0 ] || continue
		theirs=$(sed -n "s/^ *[0-9]*: [0-9A-F]*:[0-9A-F]* [0-9A-F]*:$port 01 [^ ]* [^ ]* [^ ]* *[0-9]* *[0-9]* \([0-9]*\) .*/\1/p" \
			/proc/net/tcp /proc/net/tcp6 2>/dev/null)
		ls -l "/proc/$pid/fd" 2>/dev/null | sed -n 's/.*socket:\[\([0-9]*\)\]$/\1/p' | grep -xF "${theirs:-none}" | sed "s/^/$unit /"
	done
}
waiting() {
	now=$(connections) || { echo unknown; return; }
	printf '%s\n' "$CLIENTS" | while read -r unit port which; do
		before=$(printf '%s\n' "$BEFORE" | grep "^$unit ") || continue
		left=$(printf '%s\n' "$now" | grep -cxF "$before")
		had=$(printf '%s\n' "$before" | wc -l)
		case $which in
		some) [ "$left" -lt "$had" ] || echo "$unit" ;;
		*) [ "$left" = 0 ] || echo "$unit" ;;
		esac
	done
}
if [ -z "${BEFORE+set}" ]; then
	connections
	exit
fi
while [ -n "$(waiting)" ]; do sleep 0.5; done
