# Prints the connections that units have made, by the inodes of their sockets: "unit inode". $CLIENTS has a line a unit:
# its name, the port of the other side, in hexadecimal as /proc/net/tcp has it, and "all" or "some".
# With $KEEP, a directory, what it prints is kept there for later, with the unit's line of $CLIENTS, in a file a unit.
# With $BEFORE, such a list, it waits until all of a unit's connections in it have ended, or some of them, and prints
# nothing.
# With $KEPT, such a directory, it prints for each unit there "[client]", its name and port, and what its connections show:
# "new" once those have ended, "old" before, "unknown" if systemd does not answer.
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
if [ -n "${KEPT:-}" ]; then
	for f in "$KEPT"/*; do
		[ -f "$f" ] || continue
		CLIENTS=$(head -n 1 "$f")
		BEFORE=$(tail -n +2 "$f")
		case $(waiting) in
		'') shown=new ;;
		unknown) shown=unknown ;;
		*) shown=old ;;
		esac
		echo "[client] ${CLIENTS% *} $shown"
	done
	exit 0
fi
if [ -z "${BEFORE+set}" ]; then
	found=$(connections) || exit
	[ -z "$found" ] || printf '%s\n' "$found"
	[ -n "${KEEP:-}" ] || exit 0
	mkdir -p "$KEEP" || exit
	printf '%s\n' "$CLIENTS" | while read -r unit port which; do
		{ echo "$unit $port $which"; printf '%s\n' "$found" | grep "^$unit "; } >"$KEEP/.new"
		mv -f "$KEEP/.new" "$KEEP/$unit.$port" || exit
	done
	exit
fi
while [ -n "$(waiting)" ]; do sleep 0.5; done
