package release

import (
	"encoding/json"
	"sync"
)

// A docCache remembers what was found out about documents that were looked at
// lately: whoever waits for a hundred machines looks at the same few configs
// again and again. The zero value is ready; it is safe for concurrent use.
type docCache[V any] struct {
	mu     sync.Mutex
	values map[string]V
	size   int // bytes of the documents in known
}

// A memo is emptied when it would hold more than rememberedCount documents (the
// configs of a large environment, twice) or rememberedSize bytes of them.
const (
	maxCachedDocs  = 4096
	maxCachedBytes = 16 << 20
)

// get is f(doc), found out once.
func (m *docCache[V]) get(doc json.RawMessage, f func(json.RawMessage) V) V {
	m.mu.Lock()
	v, ok := m.values[string(doc)]
	m.mu.Unlock()
	if ok {
		return v
	}
	v = f(doc)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil || len(m.values) >= maxCachedDocs || m.size+len(doc) > maxCachedBytes {
		m.values, m.size = map[string]V{}, 0
	}
	m.values[string(doc)] = v
	m.size += len(doc)
	return v
}
