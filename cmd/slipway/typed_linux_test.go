package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newTerminal gives both ends of a terminal: what is written to keys is typed on tty.
func newTerminal(t *testing.T) (keys, tty *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there are no terminals here: ", err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skip("there are no terminals here: ", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return keys, tty
}

// typing types an answer once a question is there.
type typing struct {
	keys   *os.File
	answer string
	asked  strings.Builder
}

func (w *typing) Write(p []byte) (int, error) {
	w.asked.Write(p)
	if _, err := w.keys.WriteString(w.answer); err != nil {
		return 0, err
	}
	return len(p), nil
}

// What was typed before a question was there does not answer it.
func TestOnlyWhatIsTypedAfterAQuestionAnswersIt(t *testing.T) {
	for answer, confirmed := range map[string]bool{"n\n": false, "y\n": true} {
		keys, tty := newTerminal(t)
		for _, early := range []string{"y\n", "yes\n", "y"} { // the last without its end, which the answer would be
			if _, err := keys.WriteString(early); err != nil {
				t.Fatal(err)
			}
		}
		w := &typing{keys: keys, answer: answer}
		err := (&app{stdin: tty, stderr: w}).confirm(t.Context(), "Destroy it?")
		if (err == nil) != confirmed || w.asked.String() != "Destroy it? [y/N] " {
			t.Errorf("answered %q: %v, asked %q", answer, err, w.asked.String())
		}
	}
}
