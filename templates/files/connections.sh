# Prints the inodes of the connections that units have made: $CLIENTS has a line a unit, its name and the ports of the
# other side, in hexadecimal as /proc/net/tcp has them, joined by \|. With $BEFORE, a list of inodes, it waits until none
# of them is left, and prints nothing.
connections() {
	printf '%s\n' "$CLIENTS" | while read -r unit ports; do
		pid=$(systemctl show --property=MainPID --value "$unit")
		[ "$pid" -gt 0 ] || continue
		theirs=$(sed -n "s/^ *[0-9]*: [0-9A-F]*:[0-9A-F]* [0-9A-F]*:\($ports\) 01 [^ ]* [^ ]* [^ ]* *[0-9]* *[0-9]* \([0-9]*\) .*/\2/p" \
			/proc/net/tcp /proc/net/tcp6 2>/dev/null)
		ls -l "/proc/$pid/fd" 2>/dev/null | sed -n 's/.*socket:\[\([0-9]*\)\]$/\1/p' | grep -xF "${theirs:-none}"
	done
}
if [ -z "${BEFORE+set}" ]; then
	connections
	exit
fi
while connections | grep -qxF "$BEFORE"; do sleep 0.5; done
