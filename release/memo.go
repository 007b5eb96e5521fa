package release

import (
	"encoding/json"
	"sync"
)

// A memo remembers what was found out about documents that were looked at
// lately: whoever waits for a hundred machines looks at the same few configs
// again and again. The zero value is ready; it is safe for concurrent use.
type memo[V any] struct {
	mu    sync.Mutex
	known map[string]V
}

// remembered bounds a memo: the configs of a large environment, twice.
const remembered = 4096

// of is f(doc), found out once.
func (m *memo[V]) of(doc json.RawMessage, f func(json.RawMessage) V) V {
	m.mu.Lock()
	v, ok := m.known[string(doc)]
	m.mu.Unlock()
	if ok {
		return v
	}
	v = f(doc)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= remembered {
		m.known = map[string]V{}
	}
	m.known[string(doc)] = v
	return v
}
