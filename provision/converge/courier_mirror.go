package converge

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"slipway.dev/slipway/provision/delivery"
	"slipway.dev/slipway/provision/host"
)

// mirrorError is why the mirror did not give a program; word is one of those of delivery.Fetch.
type mirrorError struct {
	word, why string
	err       error // of the script
}

func (e *mirrorError) Error() string { return e.why }
func (e *mirrorError) Unwrap() error { return e.err }

// mirror is the URL below which machines fetch programs themselves; "" if there is none.
func (c *courier) mirror() string {
	if c.r.Input.Cluster == nil {
		return ""
	}
	return c.r.Input.Cluster.Spec.Bundle.URL
}

// fetchFromMirror has the host fetch a program from the mirror, from where it was broken off.
func (p *parcel) fetchFromMirror(ctx context.Context, j delivery.Job, b delivery.Blob) error {
	at, err := url.JoinPath(p.mirror(), b.Name())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer p.watchFetch(j, cancel)()
	var refused *mirrorError
	had := p.progress.of(j.Blob)
	hear := func(line string) {
		word, why, _ := strings.Cut(line, " ")
		switch word {
		case delivery.FetchedAt:
			now := position(line)
			p.mirrorGave(j.Blob, had, now)
			had = min(had, now)
		case delivery.FetchRetries:
			p.r.report(p.name, fmt.Sprintf("copying programs from the mirror again: %.200s", why))
		case delivery.FetchMissing, delivery.FetchWrong, delivery.FetchFailed:
			refused = &mirrorError{word: word, why: fmt.Sprintf("%.200s", why)}
		}
	}
	script := "# fetch " + p.program(j.Blob) + " from the mirror\nset -e\numask 077\n" + beginPart(b) +
		fmt.Sprintf("%s delivery fetch --size %d -- %s\n", host.Quote(p.tool), b.Size, host.Quote(at)) + endPart(b)
	_, err = p.host.Run(ctx, host.Cmd{Script: script, Stdout: &lines{line: hear}})
	var exit *host.ExitError
	switch slow := context.Cause(ctx); {
	case errors.Is(slow, errSlow):
		return &mirrorError{delivery.FetchFailed, slow.Error(), slow}
	case refused != nil && errors.As(err, &exit) && exit.Code == incomplete:
		refused.err = err
		return refused
	}
	return err
}

// mirrorGave notes how much of a program there is now. It is less than before if the mirror knows no
// ranges: then the program is its own from the beginning.
func (p *parcel) mirrorGave(k string, had, now int64) {
	p.progress.at(k, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	if now < had {
		p.givers[k] = map[string]bool{}
	}
	if now > had {
		p.givers[k][delivery.Mirror] = true
	}
}

// unreached returns why a source gave too little: the mirror may lack what it was asked for.
func unreached(err error) delivery.Failure {
	var m *mirrorError
	if errors.As(err, &m) && m.word != delivery.FetchFailed {
		return delivery.Missing
	}
	return delivery.Unreachable
}

// blameMirror says why machines get programs elsewhere: once for each reason, however many machines
// have it.
func (p *parcel) blameMirror(j delivery.Job, b delivery.Blob, why delivery.Failure, err error) {
	m := &mirrorError{delivery.FetchFailed, oneLine(err), err}
	errors.As(err, &m)
	program := p.program(j.Blob)
	reason, text := m.word+" "+m.why, ""
	switch {
	case why == delivery.Mixed:
		return // nobody can be named
	case why == delivery.Lied || m.word == delivery.FetchWrong:
		if why == delivery.Lied {
			m.why = "its SHA-256 is not " + b.Sum
		}
		reason = delivery.FetchWrong + " " + program
		text = fmt.Sprintf("the mirror %s gave %s with another content than it should have (%s): none of it was used, and other machines or this computer give it. "+
			"`slipway bundle mirror DIR` puts the mirror right; look who else can write there", p.mirror(), program, m.why)
	case why == delivery.Missing:
		text = fmt.Sprintf("the mirror %s does not give %s (%s): what it lacks comes from other machines or this computer. "+
			"`slipway bundle mirror DIR` adds it to the mirror", p.mirror(), program, m.why)
	default:
		text = fmt.Sprintf("the mirror %s fails on %s (%s): machines on which it fails get programs from others or this computer", p.mirror(), p.name, m.why)
	}
	p.mu.Lock()
	said := p.blamed[reason]
	p.blamed[reason] = true
	p.mu.Unlock()
	if !said {
		p.r.tell(text)
	}
}
