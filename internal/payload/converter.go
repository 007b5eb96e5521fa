package payload

import (
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
)

const (
	// Max is the largest stored size of a value, in bytes, that activities return.
	// Temporal's limit is twice that: the rest is a reserve for parts that are unknown
	// when a plan is made.
	Max = 1 << 20
	// MaxJSON is the largest size of a value as JSON, in bytes. A workflow task encodes
	// and decodes it, and has to end within a second.
	MaxJSON = 16 << 20
	// Limit is the largest size of a value that Temporal stores.
	Limit = 2 << 20
	// encodeFrom is the length, in bytes, from which a value is encoded. A shorter
	// value is plain JSON, readable in the Temporal UI.
	encodeFrom = 64 << 10

	encodingKey    = converter.MetadataEncoding
	jsonEncoding   = converter.MetadataEncodingJSON
	sharedEncoding = "json/shared"
)

// NewConverter returns the data converter for all clients and workers of this program.
// It encodes values as JSON, and large ones as the package comment says. It also decodes
// values that were encoded without it.
func NewConverter() converter.DataConverter { return shared }

var shared = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(),
	// The last codec encodes first.
	largeOnly{converter.NewZlibCodec(converter.ZlibCodecOptions{})}, largeOnly{shareCodec{}})

// A Measure is the size of a value.
type Measure struct {
	JSON   int // bytes of its JSON
	Stored int // bytes that Temporal stores and counts
}

// MeasureOf returns the size of v as an input or a result.
func MeasureOf(v any) (Measure, error) {
	p, err := converter.GetDefaultDataConverter().ToPayload(v)
	if err != nil {
		return Measure{}, fmt.Errorf("measure a value of type %T: %w", v, err)
	}
	encoded, err := shared.ToPayload(converter.NewRawValue(p))
	if err != nil {
		return Measure{}, fmt.Errorf("measure a value of type %T: %w", v, err)
	}
	return Measure{JSON: len(p.GetData()), Stored: storedSize(encoded)}, nil
}

func storedSize(p *commonpb.Payload) int {
	return proto.Size(&commonpb.Payloads{Payloads: []*commonpb.Payload{p}})
}

// Encode returns the stored form of v, which callers can pass to Temporal, and its size.
// The converter of this package does not encode it again.
func Encode(v any) (converter.RawValue, int, error) {
	p, err := shared.ToPayload(v)
	if err != nil {
		return converter.RawValue{}, 0, fmt.Errorf("encode a value of type %T: %w", v, err)
	}
	return converter.NewRawValue(p), storedSize(p), nil
}

// largeOnly applies a codec to large payloads of JSON. Small and already encoded payloads
// stay unchanged.
type largeOnly struct{ converter.PayloadCodec }

// Encode implements converter.PayloadCodec.
func (c largeOnly) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		encoding := string(p.GetMetadata()[encodingKey])
		if out[i] = p; len(p.GetData()) < encodeFrom || encoding != jsonEncoding && encoding != sharedEncoding {
			continue
		}
		encoded, err := c.PayloadCodec.Encode([]*commonpb.Payload{p})
		if err != nil {
			return nil, err
		}
		out[i] = encoded[0]
	}
	return out, nil
}

// shareCodec is a codec that stores equal JSON values once.
type shareCodec struct{}

// Encode implements converter.PayloadCodec.
func (shareCodec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if out[i] = p; string(p.GetMetadata()[encodingKey]) != jsonEncoding {
			continue
		}
		data, err := shareValues(p.GetData())
		if err != nil {
			return nil, err
		}
		if len(data) < len(p.GetData()) {
			out[i] = &commonpb.Payload{Metadata: map[string][]byte{encodingKey: []byte(sharedEncoding)}, Data: data}
		}
	}
	return out, nil
}

// Decode implements converter.PayloadCodec.
func (shareCodec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if out[i] = p; string(p.GetMetadata()[encodingKey]) != sharedEncoding {
			continue
		}
		data, err := expandValues(p.GetData())
		if err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{Metadata: map[string][]byte{encodingKey: []byte(jsonEncoding)}, Data: data}
	}
	return out, nil
}
