package machineconfig

import (
	"encoding/json"
	"sync"
)

// A Reader reads machine configs and caches the results, because operations that poll
// hundreds of machines read the same few configs repeatedly. The zero value is ready to
// use. It is safe for concurrent use.
type Reader struct {
	mu      sync.Mutex
	configs map[string]*Config
	size    int // total bytes of the keys of configs
}

// The cache is emptied when it would exceed maxDocs documents (twice the configs of a
// large environment) or maxBytes.
const (
	maxDocs  = 4096
	maxBytes = 16 << 20
)

// Read returns the config of doc, from the cache if possible. The result is shared:
// callers must not change it.
func (r *Reader) Read(doc json.RawMessage) *Config {
	r.mu.Lock()
	c, ok := r.configs[string(doc)]
	r.mu.Unlock()
	if ok {
		return c
	}
	c = parse(doc)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.configs == nil || len(r.configs) >= maxDocs || r.size+len(doc) > maxBytes {
		r.configs, r.size = map[string]*Config{}, 0
	}
	r.configs[string(doc)] = c
	r.size += len(doc)
	return c
}
