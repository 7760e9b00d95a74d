package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
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

// A password is read from the terminal without being shown, and an interrupt leaves the terminal as it was.
func TestPasswordIsNotShown(t *testing.T) {
	keys, tty := newTerminal(t)
	w := &typing{keys: keys, answer: "open sesame\n"}
	a := &app{stdin: tty, stderr: &quietEnd{w}}
	got, err := a.answer(t.Context(), "Passphrase of the SSH key id")
	if err != nil || string(got.Reveal()) != "open sesame" || w.asked.String() != "Passphrase of the SSH key id: \n" {
		t.Errorf("got %q, %v, asked %q", got.Reveal(), err, w.asked.String())
	}
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a.stderr = cancelling{cancel}
	if _, err := a.answer(ctx, "Passphrase"); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if after, err := term.GetState(int(tty.Fd())); err != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("the terminal is %+v, was %+v (%v)", after, before, err)
	}
}

// quietEnd types nothing at the end of the line.
type quietEnd struct{ *typing }

func (w *quietEnd) Write(p []byte) (int, error) {
	if string(p) == "\n" {
		return w.asked.Write(p)
	}
	return w.typing.Write(p)
}

// cancelling interrupts as soon as there is a question.
type cancelling struct{ cancel context.CancelFunc }

func (c cancelling) Write(p []byte) (int, error) {
	c.cancel()
	return len(p), nil
}
