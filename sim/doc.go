// Package sim lets generated releases meet generated trouble, in virtual time
// and in one process: the real workflows, activities, client and planner; the
// clock, Fly, the people and whatever goes wrong are drawn from a seed.
//
// A Case is one seed spelled out. Run carries it out, looks at everything that
// a user could lose, and says what was: an empty list, or a bug. It only works
// in tests, for their bubbles of virtual time (testing/synctest).
//
//	go test ./sim -run Seeds -v -seeds 10000           # as many as you like, always the same
//	go test ./sim -run Seeds -v -seeds 1 -base 4711    # those from a base; a violation names its seed
//	go test ./sim -run Cases -v -case file.json        # a case that was written down
//	go test ./sim -run Mutants -v                      # do the checks bite?
package sim
