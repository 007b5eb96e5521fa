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

// PlanDigits is the minimum number of digits of a plan's hash in a review.
const PlanDigits = 8

// A ReviewInput is the input of the updates and signals approve and reject. The name of
// the update or signal decides between the two.
type ReviewInput struct {
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
	Plan   string `json:"plan"` // 8 or more digits of the plan's hash
}

// ParseReview decodes a review. It returns an error if a field is unknown, or if a field
// except the reason is missing or empty.
func ParseReview(doc []byte) (r ReviewInput, err error) {
	if err := decodeStrictly(doc, &r, "by", "reason", "plan"); err != nil {
		return ReviewInput{}, err
	}
	r.By = strings.TrimSpace(r.By)
	r.Plan = strings.TrimSpace(r.Plan)
	switch {
	case r.By == "":
		return r, errors.New("field by is empty")
	case r.Plan == "":
		return r, errors.New("field plan is empty")
	}
	return r, nil
}

// ParseResolution decodes the resolution of a held rollout. It returns an error if a
// field is unknown, or if by or choice is missing or empty.
func ParseResolution(doc []byte) (a Resolution, err error) {
	if err := decodeStrictly(doc, &a, "choice", "by", "reason", "hold"); err != nil {
		return Resolution{}, err
	}
	a.By = strings.TrimSpace(a.By)
	switch {
	case a.By == "":
		return a, errors.New("field by is empty")
	case a.Choice == NoChoice:
		return a, errors.New("field choice is empty")
	}
	return a, nil
}

// ParseAbort decodes an abort. It returns an error if a field is unknown, or if by is
// missing or empty.
func ParseAbort(doc []byte) (a Abort, err error) {
	if err := decodeStrictly(doc, &a, "by", "reason"); err != nil {
		return Abort{}, err
	}
	if a.By = strings.TrimSpace(a.By); a.By == "" {
		return a, errors.New("field by is empty")
	}
	return a, nil
}

// ParseExtension decodes an extension. It returns an error if a field is unknown, missing
// or empty.
func ParseExtension(doc []byte) (e Extension, err error) {
	if err := decodeStrictly(doc, &e, "to", "by"); err != nil {
		return Extension{}, err
	}
	e.To = strings.TrimSpace(e.To)
	e.By = strings.TrimSpace(e.By)
	switch {
	case e.To == "":
		return e, errors.New("field to is empty")
	case e.By == "":
		return e, errors.New("field by is empty")
	}
	return e, nil
}

// ParseUnpinning decodes an unpinning. It returns an error if a field is unknown, missing
// or empty.
func ParseUnpinning(doc []byte) (u Unpinning, err error) {
	if err := decodeStrictly(doc, &u, "by", "reason"); err != nil {
		return Unpinning{}, err
	}
	u.By = strings.TrimSpace(u.By)
	u.Reason = strings.TrimSpace(u.Reason)
	switch {
	case u.By == "":
		return u, errors.New("field by is empty")
	case u.Reason == "":
		return u, errors.New("field reason is empty")
	}
	return u, nil
}

// ParseTickets decodes the tickets of releases that wait for one environment. It returns
// an error if there is none, if a field is unknown, or if a ticket has no release or
// another environment than the first.
func ParseTickets(doc []byte) (tickets []Ticket, err error) {
	if err := decodeKnownFields(doc, &tickets); err != nil {
		return nil, err
	}
	if len(tickets) == 0 {
		return nil, errors.New("no ticket in the list")
	}
	return tickets, checkTickets(tickets, tickets[0].Environment)
}

// ParseTurn decodes a turn. It returns an error if a field is unknown, if environment is
// empty, or if a ticket has no release or another environment.
func ParseTurn(doc []byte) (t Turn, err error) {
	if err := decodeKnownFields(doc, &t); err != nil {
		return Turn{}, err
	}
	if t.Environment == "" {
		return t, errors.New("field environment is empty")
	}
	return t, checkTickets(t.Behind, t.Environment)
}

func checkTickets(tickets []Ticket, environment string) error {
	for _, t := range tickets {
		switch {
		case t.Environment == "" || t.Release == "":
			return errors.New("a ticket has no environment or no release")
		case t.Environment != environment:
			return fmt.Errorf("a ticket is for %s, not for %s", t.Environment, environment)
		}
	}
	return nil
}

// decodeKnownFields decodes one JSON value and refuses unknown fields.
func decodeKnownFields(doc []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("decode JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}

// decodeStrictly decodes one JSON object. It refuses keys other than the given ones,
// repeated keys, and keys in another case.
func decodeStrictly(doc []byte, into any, keys ...string) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("it is no JSON object: want an object with %s", strings.Join(keys, ", "))
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
			return fmt.Errorf("field %q occurs twice", key)
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

// ReviewName returns the name of the update and the signal that approve or reject.
func ReviewName(approve bool) string {
	if approve {
		return ApproveUpdate
	}
	return RejectUpdate
}

// Input returns d in the form that updates and signals take.
func (d Review) Input() ReviewInput { return ReviewInput{By: d.By, Reason: d.Reason, Plan: d.Plan} }
