package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// WithContentHash returns p with the hash of everything that it changes. The hash covers
// the document of every config in canonical form; a step contributes the hashes of its
// documents.
//
// Hashing a large plan takes seconds. An activity calls WithContentHash when it makes the
// plan, so that Seal, which workflow code calls, is fast.
func (p Plan) WithContentHash() Plan {
	docs := docHasher{}
	bare := p.editSteps(func(s *Step) {
		s.Before = Config{Doc: docs.hash(s.Before.Doc)}
		s.After = Config{Doc: docs.hash(s.After.Doc)}
		s.Machine = s.machineBeforeSeal()
		checks := make([]json.RawMessage, len(s.MachineChecks))
		for i, config := range s.MachineChecks {
			checks[i] = docs.hash(config)
		}
		s.MachineChecks = checks
	})
	bare.Run = ""
	bare.Hash = ""
	bare.ContentHash = ""
	bare.Lineage = Lineage{} // it and Skipped are set later, and hashed by Seal
	bare.Skipped = nil
	bare.Targets = slices.Clone(p.Targets)
	for i, t := range bare.Targets {
		bare.Targets[i].Definition = docs.hash(t.Definition)
	}
	p.ContentHash = hashJSON(bare)
	return p
}

// machineBeforeSeal returns the machine of s as it is in a plan that is not sealed.
func (s Step) machineBeforeSeal() string {
	if s.Verb == Run {
		return ""
	}
	return s.Machine
}

// Seal returns p for one run of a workflow, with its hash. The hash covers the run
// ID, so that an approval for another run of the same release, for example before a
// reset, does not count. Machines that run a release command are named after the run:
// the command runs once per run.
func (p Plan) Seal(run string) Plan {
	if p.ContentHash == "" {
		p = p.WithContentHash()
	}
	p = p.editSteps(func(s *Step) {
		if s.Verb == Run {
			s.Machine = "release-command-" + hashJSON([]any{run, s.Target, docHasher{}.hash(s.After.Doc)})[:12]
		}
	})
	p.Run = run
	p.Hash = hashJSON([]any{run, p.Lineage, p.Skipped, p.ContentHash})
	return p
}

// ShortHash returns the first 12 digits of the hash.
func (p Plan) ShortHash() string { return p.Hash[:min(12, len(p.Hash))] }

// MatchesHash reports whether digits are the first 8 or more digits of the hash.
func (p Plan) MatchesHash(digits string) bool {
	return len(digits) >= 8 && p.Hash != "" && strings.HasPrefix(p.Hash, strings.ToLower(digits))
}

// A docHasher hashes JSON documents of one plan, each once.
type docHasher map[string]json.RawMessage

// hash returns the hash of a document as a JSON string, or nil for no document. The order
// of keys and white space do not change it.
func (h docHasher) hash(doc json.RawMessage) json.RawMessage {
	if len(doc) == 0 {
		return nil
	}
	sum, ok := h[string(doc)]
	if !ok {
		sum = json.RawMessage(`"` + hashJSON(decodeJSON(doc)) + `"`)
		h[string(doc)] = sum
	}
	return sum
}

// hashJSON returns the SHA-256 of the JSON of v as 64 hex digits. It panics if v does not
// marshal, which cannot happen for types of this package.
func hashJSON(v any) string {
	doc, err := json.Marshal(v)
	if err != nil {
		panic(err) // only types of this package are hashed
	}
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}

// decodeJSON returns the value of a document, with numbers as they were written.
func decodeJSON(doc []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		panic(err) // documents come from Fly's API and from Marshal
	}
	return v
}
