package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// PlanDigits is how many digits of a plan's hash a review must have.
const PlanDigits = 8

// A Review is the input of the updates and signals approve and reject: by whom,
// why, and of which plan. Which of the two it is says its name.
type Review struct {
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
	Plan   string `json:"plan"` // 8 or more digits of the plan's hash
}

// ReadReview decodes a review. It fails where a field is unknown, or missing, or
// empty, except for the reason.
func ReadReview(doc []byte) (r Review, err error) {
	if err := readStrictly(doc, &r, "by", "reason", "plan"); err != nil {
		return Review{}, err
	}
	r.By, r.Plan = strings.TrimSpace(r.By), strings.TrimSpace(r.Plan)
	switch {
	case r.By == "":
		return r, errors.New("it does not say by whom: by is empty")
	case r.Plan == "":
		return r, errors.New("it names no plan: plan is empty")
	}
	return r, nil
}

// ReadAnswer decodes the answer to a held rollout. It fails where a field is
// unknown, or missing, or empty, except for the reason and hold.
func ReadAnswer(doc []byte) (a Answer, err error) {
	if err := readStrictly(doc, &a, "choice", "by", "reason", "hold"); err != nil {
		return Answer{}, err
	}
	a.By = strings.TrimSpace(a.By)
	switch {
	case a.By == "":
		return a, errors.New("it does not say by whom: by is empty")
	case a.Choice == NoChoice:
		return a, errors.New("it makes no choice: choice is empty")
	}
	return a, nil
}

// readStrictly decodes one JSON object that has no keys but the given ones, each
// at most once and written as they are here.
func readStrictly(doc []byte, into any, keys ...string) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("it is no JSON object; want one with %s", strings.Join(keys, ", "))
	}
	var seen []string
	for d.More() {
		t, err := d.Token()
		key, _ := t.(string)
		var value any
		switch {
		case err != nil:
			return fmt.Errorf("it is not JSON: %w", err)
		case !slices.Contains(keys, key):
			return fmt.Errorf("unknown field %q; there are %s", key, strings.Join(keys, ", "))
		case slices.Contains(seen, key):
			return fmt.Errorf("field %q is there twice", key)
		}
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("it is not JSON: %w", err)
		}
		seen = append(seen, key)
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("it is not JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	if err := json.Unmarshal(doc, into); err != nil {
		return fmt.Errorf("a field has the wrong type: %w", err)
	}
	return nil
}

// ReviewName returns the name of the update, and of the signal, that approves or
// rejects a plan.
func ReviewName(approve bool) string {
	if approve {
		return ApproveUpdate
	}
	return RejectUpdate
}

// Review returns d as it is sent to a release.
func (d Decision) Review() Review { return Review{By: d.By, Reason: d.Reason, Plan: d.Plan} }
