package diagnose

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

// The weights of log lines. Programs say why they end last, but shutting down causes further
// errors: the weightiest line counts, and the last of several.
const (
	plainLine = iota
	warningLine
	managerLine // of systemd, which knows only that the program has ended
	errorLine
	finalLine // errors with which a program ends
	fatalLine
)

var (
	// journalLine is `journalctl -o short-unix`.
	journalLine = regexp.MustCompile(`^\d+\.\d+ \S+ ([^\s\[:]+)(?:\[\d+\])?: (.*)$`)
	// klogLine is the header of k8s.io/klog.
	klogLine = regexp.MustCompile(`^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [^\]]+\] (.*)$`)
	// pair is a word of logfmt.
	pair = regexp.MustCompile(`(\w+)=("(?:[^"\\]|\\.)*"|\S+)`)
	// ending are the words of Kubernetes' programs, and of others, when they end.
	ending = regexp.MustCompile(`(?i)^"?(command failed|failed to run|error: |fatal error|panic: |failed at step|run: )|failed to start listener`)
	level  = regexp.MustCompile(`(?i)^(fatal|panic|dpanic|emerg|crit|critical)$`)
)

// why returns the line of a unit's log that says best why it has ended: its message without time and
// source; empty if none does.
//
// The last run counts. One that has just begun may not have said anything yet: then the one before.
func why(lines []string) string {
	runs := runsOf(lines)
	for i := len(runs) - 1; i >= 0; i-- {
		if text, weight := weightiest(runs[i]); weight >= errorLine {
			return shortened(RedactPatterns(text), maxLine)
		}
	}
	text, _ := weightiest(lines)
	return shortened(RedactPatterns(text), maxLine)
}

func weightiest(lines []string) (best string, at int) {
	for _, line := range lines {
		text, weight := weigh(line)
		if weight >= at && weight > plainLine && text != "" {
			best, at = text, weight
		}
	}
	return best, at
}

// begins are systemd's words when it starts a unit.
var begins = regexp.MustCompile(`: Scheduled restart job| systemd\[1\]: Starting `)

// runsOf splits a unit's log into its runs.
func runsOf(lines []string) [][]string {
	var runs [][]string
	from := 0
	for i, line := range lines {
		if i > from && begins.MatchString(line) {
			runs = append(runs, lines[from:i])
			from = i
		}
	}
	return append(runs, lines[from:])
}

// maxLine is the length of a log line in a finding.
const maxLine = 300

// weigh takes a journal's line apart.
func weigh(line string) (text string, weight int) {
	source := ""
	if m := journalLine.FindStringSubmatch(line); m != nil {
		source, line = m[1], m[2]
	}
	line = strings.TrimSpace(line)
	switch m := klogLine.FindStringSubmatch(line); {
	case source == "systemd":
		return managerText(line)
	case m != nil:
		return klogText(m[1], m[2])
	case strings.HasPrefix(line, "{"):
		return jsonText(line)
	case strings.Contains(line, "level="):
		return logfmtText(line)
	case ending.MatchString(line):
		return line, finalLine
	}
	return line, plainLine
}

// managerText is what systemd says of a unit.
func managerText(line string) (string, int) {
	_, said, ok := strings.Cut(line, ": ")
	switch {
	case !ok:
		return line, plainLine
	case strings.Contains(said, "Failed at step"), strings.Contains(said, "Failed to locate executable"), strings.Contains(said, "Unable to locate executable"):
		return said, fatalLine // the program never ran
	case strings.Contains(said, "oom-kill"), strings.Contains(said, "killed by the OOM killer"):
		return said, fatalLine
	case strings.HasPrefix(said, "Main process exited"), strings.HasPrefix(said, "Control process exited"):
		return said, managerLine
	}
	return line, plainLine
}

func klogText(severity, message string) (string, int) {
	switch {
	case severity == "F":
		return message, fatalLine
	case severity == "E" && ending.MatchString(message):
		return message, finalLine
	case severity == "E":
		return message, errorLine
	case severity == "W":
		return message, warningLine
	}
	return message, plainLine
}

// jsonText reads zap's lines, as etcd writes them.
func jsonText(line string) (string, int) {
	var entry struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Error string `json:"error"`
	}
	if json.Unmarshal([]byte(line), &entry) != nil {
		return line, plainLine
	}
	return levelled(entry.Level, entry.Msg, entry.Error)
}

// logfmtText reads logrus' lines, as containerd writes them.
func logfmtText(line string) (string, int) {
	values := map[string]string{}
	for _, m := range pair.FindAllStringSubmatch(line, -1) {
		text := m[2]
		if strings.HasPrefix(text, `"`) && json.Unmarshal([]byte(m[2]), &text) != nil {
			text = strings.Trim(m[2], `"`)
		}
		values[m[1]] = text
	}
	failure := values["error"]
	if failure == "" {
		failure = values["err"]
	}
	return levelled(values["level"], values["msg"], failure)
}

func levelled(said, message, failure string) (string, int) {
	text := message
	if failure != "" && !strings.Contains(message, failure) {
		text = strings.TrimPrefix(message+": "+failure, ": ")
	}
	switch {
	case level.MatchString(said):
		return text, fatalLine
	case strings.EqualFold(said, "error"):
		return text, errorLine
	case strings.HasPrefix(strings.ToLower(said), "warn"):
		return text, warningLine
	}
	return text, plainLine
}

// shortened returns one line of at most n runes.
func shortened(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-3]) + "..."
}
