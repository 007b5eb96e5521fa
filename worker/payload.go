package worker

import (
	"go.temporal.io/sdk/converter"

	"github.com/microbima/release/internal/payload"
)

// DataConverter returns the data converter that every client and worker has to
// use. It writes JSON, stores equal parts of large values once, and compresses
// those; it reads values that were written without it.
func DataConverter() converter.DataConverter { return payload.NewConverter() }
