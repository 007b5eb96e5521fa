package release

import (
	"encoding/json"
	"sync"
)

// A docCache caches a function of JSON documents, because activities that poll
// hundreds of machines process the same few configs repeatedly. The zero value is
// ready to use. It is safe for concurrent use.
type docCache[V any] struct {
	mu     sync.Mutex
	values map[string]V
	size   int // total bytes of the keys of values
}

// A docCache is emptied when it would exceed maxCachedDocs documents (twice the
// configs of a large environment) or maxCachedBytes.
const (
	maxCachedDocs  = 4096
	maxCachedBytes = 16 << 20
)

// get returns f(doc), from the cache if possible.
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
