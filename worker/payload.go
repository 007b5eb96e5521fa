package worker

import (
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
)

// compressFrom is how large, in bytes, a value is before it is compressed. Up to
// there people can read it in the Temporal UI.
const compressFrom = 64 << 10

// DataConverter writes values as JSON, and compresses large ones: the plan of a
// thousand machines is two megabytes of text that mostly repeats itself, and
// Temporal refuses values of two. Every client and worker has to use it; it reads
// what was written without it.
func DataConverter() converter.DataConverter {
	return converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), &largeOnly{converter.NewZlibCodec(converter.ZlibCodecOptions{})})
}

// largeOnly is a codec for large payloads. Others stay as they are.
type largeOnly struct{ converter.PayloadCodec }

func (c *largeOnly) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if out[i] = p; len(p.GetData()) < compressFrom {
			continue
		}
		small, err := c.PayloadCodec.Encode([]*commonpb.Payload{p})
		if err != nil {
			return nil, err
		}
		out[i] = small[0]
	}
	return out, nil
}
