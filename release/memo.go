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
	size  int // bytes of the documents in known
}

// A memo is emptied when it would hold more than rememberedCount documents (the
// configs of a large environment, twice) or rememberedSize bytes of them.
const (
	rememberedCount = 4096
	rememberedSize  = 16 << 20
)

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
	if m.known == nil || len(m.known) >= rememberedCount || m.size+len(doc) > rememberedSize {
		m.known, m.size = map[string]V{}, 0
	}
	m.known[string(doc)] = v
	m.size += len(doc)
	return v
}
