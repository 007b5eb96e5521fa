package release_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain fixes the seed of generated fleets unless -rapid.seed names one, so
// that the result of the tests is the same everywhere.
func TestMain(m *testing.M) {
	flag.Parse()
	if seed := flag.Lookup("rapid.seed"); seed.Value.String() == seed.DefValue {
		if err := seed.Value.Set("1"); err != nil {
			panic(err) // a number
		}
	}
	os.Exit(m.Run())
}
