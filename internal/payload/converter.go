package payload

import (
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
)

const (
	// Max is how large a value may be, in bytes as it is stored, to be given to
	// Temporal on purpose. Temporal's own limit is twice that: the rest is for
	// what is not known when a plan is made.
	Max = 1 << 20
	// MaxJSON is how large, in bytes, the JSON of a value may be. A task of a
	// workflow writes and reads it, and Temporal lets that take a second.
	MaxJSON = 16 << 20
	// Limit is how large a value Temporal stores.
	Limit = 2 << 20
	// encodeFrom is the length, in bytes, from which a value is encoded. Up to
	// there it is plain JSON, which people can read in the Temporal UI.
	encodeFrom = 64 << 10

	encodingKey    = converter.MetadataEncoding
	jsonEncoding   = converter.MetadataEncodingJSON
	sharedEncoding = "json/shared"
)

// NewConverter returns the data converter of every client and worker of this
// program. It writes JSON; large values are shared and compressed (see the
// package comment). It also reads values that were written without it.
func NewConverter() converter.DataConverter { return shared }

var shared = converter.NewCodecDataConverter(converter.GetDefaultDataConverter(),
	// The last one encodes first.
	large{converter.NewZlibCodec(converter.ZlibCodecOptions{})}, large{sharing{}})

// A Measure is how large a value is.
type Measure struct {
	JSON   int // bytes of its JSON, in which everything is written out
	Stored int // bytes as Temporal stores and counts it
}

// MeasureOf returns how large v is as an input or a result.
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

// Encode returns v as it is stored, for callers that pass it on to Temporal, and
// its size. A converter of this package leaves it as it is.
func Encode(v any) (converter.RawValue, int, error) {
	p, err := shared.ToPayload(v)
	if err != nil {
		return converter.RawValue{}, 0, fmt.Errorf("encode a value of type %T: %w", v, err)
	}
	return converter.NewRawValue(p), storedSize(p), nil
}

// large applies a codec to large payloads of JSON and leaves the others as they
// are: small ones, and those that are encoded already.
type large struct{ converter.PayloadCodec }

// Encode implements converter.PayloadCodec.
func (c large) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
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

// sharing is a codec that stores equal JSON values once.
type sharing struct{}

// Encode implements converter.PayloadCodec.
func (sharing) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if out[i] = p; string(p.GetMetadata()[encodingKey]) != jsonEncoding {
			continue
		}
		data, err := share(p.GetData())
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
func (sharing) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if out[i] = p; string(p.GetMetadata()[encodingKey]) != sharedEncoding {
			continue
		}
		data, err := expand(p.GetData())
		if err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{Metadata: map[string][]byte{encodingKey: []byte(jsonEncoding)}, Data: data}
	}
	return out, nil
}
