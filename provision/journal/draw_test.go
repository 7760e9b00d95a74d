package journal

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"
)

var (
	update = flag.Bool("update", false, "rewrite golden files")
	pages  = flag.String("pages", "", "write every sample's page into this directory, to be looked at")
)

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-update rewrites it); got\n%s", path, got)
	}
}

func TestTimeline(t *testing.T) {
	runs, now := samples(t)
	for name, run := range runs {
		if strings.HasPrefix(name, "many") {
			continue // the same as install, but longer
		}
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := WriteTimeline(&out, run, now, 100, false); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".txt", out.Bytes())
		})
	}
	t.Run("color", func(t *testing.T) {
		var out bytes.Buffer
		if err := WriteTimeline(&out, runs["running"], now, 80, true); err != nil {
			t.Fatal(err)
		}
		golden(t, "color.txt", out.Bytes())
	})
}

// TestTimelineFits holds lines of steps to the width, whatever it is.
func TestTimelineFits(t *testing.T) {
	runs, now := samples(t)
	delete(runs, "many") // manyfailed has all that it has
	delete(runs, "cold") // it has no steps
	for _, width := range []int{40, 61, 80, 200} {
		for name, run := range runs {
			var out bytes.Buffer
			if err := WriteTimeline(&out, run, now, width, false); err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(out.String(), "\n\n")
			body, _, _ = strings.Cut(body, "█ changes")
			for line := range strings.Lines(body) {
				if n := runewidth.StringWidth(strings.TrimRight(line, "\n")); n > width {
					t.Fatalf("%s: %d columns, of %d: %s", name, n, width, line)
				}
			}
		}
	}
}

func TestPages(t *testing.T) {
	if *pages == "" {
		t.Skip("no -pages DIR")
	}
	runs, now := samples(t)
	for name, run := range runs {
		var out bytes.Buffer
		if err := WriteHTML(&out, run, now); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*pages, name+".html"), out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", time.Microsecond: "1ms", 94 * time.Millisecond: "94ms", 96 * time.Millisecond: "0.1s",
		59949 * time.Millisecond: "59.9s", 59951 * time.Millisecond: "1m00s", 125 * time.Second: "2m05s",
		59*time.Minute + 59700*time.Millisecond: "1h00m", 26*time.Hour + 3*time.Minute: "26h03m",
	} {
		if got := took(d); got != want {
			t.Errorf("took(%v) = %s, want %s", d, got, want)
		}
	}
}
