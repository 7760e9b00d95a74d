package delivery

import "testing"

// TestBoardWithMirror: the operator sends what hosts need to ask the mirror, and nothing else.
func TestBoardWithMirror(t *testing.T) {
	b := board(map[string]int64{"slipway": 5, "large": 9, "small": 1}, "a", "b")
	b.Mirrored("a", false)
	b.Mirrored("b", false)
	expect(t, b, "a", "slipway")
	expect(t, b, "a", "-") // it cannot ask the mirror yet
	expect(t, b, "b", "-")
	b.Done(Job{"a", "slipway", Operator})
	b.Offer("a", "slipway")
	expect(t, b, "b", "slipway from a")
	b.Mirrored("a", true)
	expect(t, b, "a", "large from the mirror")
	expect(t, b, "a", "small from the mirror")
	b.Done(Job{"b", "slipway", "a"})
	b.Mirrored("b", true)
	expect(t, b, "b", "large from the mirror") // and not from a, which is busy enough
	b.Done(Job{"a", "large", Mirror})
	b.Done(Job{"a", "small", Mirror})
	b.Done(Job{"b", "large", Mirror})
	b.Offer("a", "small")
	expect(t, b, "b", "small from the mirror")
	if b.hosts["a"].took {
		t.Error("the mirror counts as a peer")
	}
}

// TestBoardWithMirrorThatFails: what the mirror does not give to a host comes from others that it
// gives to, and from the operator if there are none.
func TestBoardWithMirrorThatFails(t *testing.T) {
	for _, why := range []Failure{Lied, Missing, Unreachable, Mixed} {
		b := board(map[string]int64{"x": 2, "y": 1}, "a", "b")
		b.Mirrored("a", true)
		b.Mirrored("b", true)
		expect(t, b, "a", "x from the mirror")
		b.Failed(Job{"a", "x", Mirror}, why)
		switch why {
		case Unreachable: // nothing comes from there
			expect(t, b, "a", "-") // b fetches both
		case Mixed: // with what others gave
			expect(t, b, "a", "y from the mirror")
			expect(t, b, "a", "x")
		default:
			expect(t, b, "a", "y from the mirror")
			expect(t, b, "a", "-")
		}
		expect(t, b, "b", "x from the mirror")
		if why == Mixed {
			continue
		}
		b.Stalled(Job{"b", "x", Mirror})
		expect(t, b, "a", "x")
		b.Failed(Job{"a", "x", Operator}, Broken)
		b.Done(Job{"b", "x", Mirror})
		b.Offer("b", "x")
		expect(t, b, "a", "x from b")
	}
	b := board(map[string]int64{"x": 1}, "a", "b")
	b.Mirrored("a", true)
	b.Mirrored("b", true)
	for _, name := range []string{"a", "b"} {
		expect(t, b, name, "x from the mirror")
		b.Failed(Job{name, "x", Mirror}, Missing)
	}
	expect(t, b, "a", "x") // nobody gets it from there
	expect(t, b, "b", "-")
}

// TestBoardWithMirrorThatOneCannotAskYet: who does not reach the mirror waits for those that will ask it,
// unless what they need for that does not get on.
func TestBoardWithMirrorThatOneCannotAskYet(t *testing.T) {
	b := board(map[string]int64{"slipway": 5, "x": 1}, "a", "b")
	b.Has("a", "slipway")
	b.Mirrored("a", true)
	b.Mirrored("b", false)
	expect(t, b, "a", "x from the mirror")
	b.Failed(Job{"a", "x", Mirror}, Unreachable)
	expect(t, b, "a", "-")
	b.Overdue("a", "slipway")
	expect(t, b, "b", "slipway")
	expect(t, b, "a", "-")
	b.Stalled(Job{"b", "slipway", Operator})
	expect(t, b, "a", "x")
}
