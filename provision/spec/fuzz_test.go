package spec

import (
	"errors"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// FuzzParse wants Parse to give a spec or Errors for any bytes, every diagnostic to point into the
// file, and a spec that is written and read again to be the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add(Starter("demo", "local"))
	for _, path := range []string{"testdata/many.yaml", "../../examples/local-full.yaml"} {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, tc := range malformed {
		f.Add([]byte(tc.new))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		late := time.AfterFunc(20*time.Second, func() { panic("Parse does not end") })
		defer late.Stop()
		c, err := Parse("fuzz.yaml", data)
		if err != nil {
			checkErrors(t, err)
			return
		}
		again, err := yaml.Marshal(c)
		if err != nil {
			t.Fatalf("marshal: %v", err)
		}
		d, err := Parse("again.yaml", again)
		if err != nil {
			t.Fatalf("read again: %v\n%s", err, again)
		}
		if !reflect.DeepEqual(c, d) {
			t.Fatalf("not the same when read again:\n%+v\n%+v\n%s", c, d, again)
		}
	})
}

func checkErrors(t *testing.T, err error) {
	t.Helper()
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("an error that is not Errors: %v", err)
	}
	for _, d := range errs {
		if d.Line < 1 || d.Column < 1 || d.Message == "" || d.Remedy == "" {
			t.Fatalf("incomplete: %+v", d)
		}
		if width := len([]rune(d.Source)); d.Source != "" && d.Column > width+1 {
			t.Fatalf("column %d is beyond the line: %+v", d.Column, d)
		}
	}
}
