# Finds out what uses versions of programs. $OLD are their files, one a line, as /opt/slipway/<component>/<version>/bin/<program>.
# old_users prints for each use: directory, tab, process ID or -, tab, who. A program in use is known by its inode: it may be reached
# through a link. Unit files count that name the directory, except for $OWN, one a line.
old_dirs() { printf '%s\n' "$OLD" | sed -n 's|/[^/]*/[^/]*$||p' | sort -u; }
old_users() {
  tab=$(printf '\t')
  files=$(printf '%s\n' "$OLD" | tr '\n' '\0' | xargs -0 -r sh -c 'find -L "$@" -maxdepth 0 -type f -printf "%D:%i\t%p\n" 2>/dev/null; true' find)
  find -L /proc/[0-9]*/exe -maxdepth 0 -printf '%D:%i\t%p\n' 2>/dev/null |
    grep -F -e "$(printf '%s\n' "${files:-none}" | cut -f1 | sed "s/\$/$tab/")" | while IFS=$tab read -r id exe; do
    pid=${exe%/exe}
    printf '%s\n' "$files" | while IFS=$tab read -r of p; do
      [ "$of" != "$id" ] || printf '%s\t%s\tprocess %s (%s)\n' "${p%/*/*}" "${pid#/proc/}" "${pid#/proc/}" "$(cat "$pid/comm" 2>/dev/null)"
    done
  done
  old_dirs | sed 's|$|/|' | grep -rsoF -f - ${UNITS:-/etc/systemd/system /run/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system} |
    sort -u | while IFS=: read -r unit dir; do
    printf '%s\n' "$OWN" | grep -qxF -e "$unit" || printf '%s\t-\t%s\n' "${dir%/}" "$unit"
  done
}
