// Package simulation simulates releases in virtual time and in one process. The workflows,
// activities, client and planner are the real ones. The clock, Fly, the operators and
// all trouble are simulated, and are drawn from a seed.
//
// Draw returns the Case of a seed. Run executes a Case, checks the guarantees of
// ARCHITECTURE.md, and returns a Result with all violations. Run works only in tests,
// because it needs their virtual time (testing/synctest).
//
//	go test ./internal/simulation -run Seeds -v -seeds 10000           # 10000 cases, the same each time
//	go test ./internal/simulation -run Seeds -v -seeds 1 -base 4711    # the case of seed 4711
//	go test ./internal/simulation -run Cases -v -case file.json        # a case from a file, with its timeline
//	go test ./internal/simulation -run Mutants -v                      # whether the checks find added faults
package simulation
