package worker

import (
	"go.temporal.io/sdk/converter"

	"github.com/microbima/release/internal/payload"
)

// DataConverter returns the data converter that all clients and workers must use. It writes
// JSON, stores equal parts of large values once, and compresses those. It also reads plain
// JSON.
func DataConverter() converter.DataConverter { return payload.NewConverter() }
