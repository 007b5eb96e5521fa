package release_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain sets a fixed seed for generated fleets unless -rapid.seed is given, so that
// test results are reproducible.
func TestMain(m *testing.M) {
	flag.Parse()
	if seed := flag.Lookup("rapid.seed"); seed.Value.String() == seed.DefValue {
		if err := seed.Value.Set("1"); err != nil {
			panic(err) // a number
		}
	}
	os.Exit(m.Run())
}
