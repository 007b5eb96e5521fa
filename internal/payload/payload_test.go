package payload

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"pgregory.net/rapid"
)

// documentGenerator generates JSON documents with repeated values.
func documentGenerator() *rapid.Generator[json.RawMessage] {
	return rapid.Custom(func(t *rapid.T) json.RawMessage {
		values := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) any {
			text := rapid.SampledFrom([]string{"", "a", `"@`, `\`, "@", strings.Repeat("x", shareFrom), strings.Repeat(`\"`, shareFrom), strings.Repeat("é@{", 400), "<" + strings.Repeat("\n\x00", shareFrom), strings.Repeat("QUJD", shareFrom)}).Draw(t, "text")
			for range rapid.IntRange(0, 4).Draw(t, "times in base64") {
				text = base64.StdEncoding.EncodeToString([]byte(text))
			}
			if rapid.Bool().Draw(t, "in a config") {
				return map[string]any{"image": "r/a@sha256:0", "files": []any{map[string]any{"raw_value": text}}, "n": 1e300}
			}
			return text
		}), 1, 4).Draw(t, "values")
		var value func(depth int) any
		value = func(depth int) any {
			n := rapid.IntRange(0, 4).Draw(t, "kind")
			if depth == 0 || n == 0 {
				return rapid.SampledFrom(values).Draw(t, "value")
			}
			var list []any
			for range n {
				list = append(list, value(depth-1))
			}
			if n == 1 {
				return map[string]any{"before": list[0], "after": list[0]}
			}
			return list
		}
		doc, err := json.Marshal(value(4))
		if err != nil {
			t.Fatal(err)
		}
		return doc
	})
}

// Sharing and expanding returns the same bytes.
func TestShare_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := documentGenerator().Draw(t, "document")
		stored, err := shareValues(doc)
		if err != nil {
			t.Fatal(err)
		}
		back, err := expandValues(stored)
		if err != nil || !bytes.Equal(back, doc) {
			t.Fatalf("%v\n%s\nbecame\n%s\nstored as\n%s", err, doc, back, stored)
		}
	})
}

// A damaged stored value is an error, never another value.
func TestExpand_Damaged(t *testing.T) {
	value := `"-` + strings.Repeat("x", shareFrom) + `"`
	stored, err := shareValues([]byte("[" + value + "," + value + "]"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(stored, []byte(value[1:len(value)-1])); n != 1 {
		t.Fatalf("the value is stored %d times, want once: %s", n, stored)
	}
	for name, damaged := range map[string][]byte{
		"another value":           bytes.Replace(stored, []byte("xx"), []byte("xy"), 1),
		"a reference to nothing":  bytes.Replace(stored, []byte("[@0"), []byte("[@00"), 1),
		"a reference of no kind":  bytes.Replace(stored, []byte("[@0"), []byte("[@9"), 1),
		"a reference as JSON":     bytes.Replace(stored, []byte("[@0"), []byte("[@j"), 1),
		"cut in its table":        stored[:100],
		"cut in a reference":      stored[:len(stored)-10],
		"no table":                []byte("[]"),
		"a length beyond its end": []byte("s " + strings.Repeat("0", 64) + " 99999\nx\n\n[]"),
		"a negative length":       []byte("s " + strings.Repeat("0", 64) + " -1\nx\n\n[]"),
		"empty":                   {},
	} {
		if doc, err := expandValues(damaged); err == nil {
			t.Errorf("%s: expanded to %s", name, doc)
		}
	}
}

func TestShare_NotJSON(t *testing.T) {
	for _, doc := range []string{`{`, `}`, `"`, `"\`, `[1`, `@`, strings.Repeat("[", maxDepth+1)} {
		if stored, err := shareValues([]byte(doc)); err == nil {
			t.Errorf("%.20q is stored as %.100q", doc, stored)
		}
	}
}

// randomBase64 returns n random bytes in base64, as in a machine config.
func randomBase64(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

type step struct {
	Machine       string
	Before, After json.RawMessage
}

// A file of 50 kB in the configs of 18 machines is stored once, not 36 times.
func TestConverter_EqualFiles(t *testing.T) {
	file := randomBase64(50_000)
	var steps []step
	for i := range 18 {
		config := func(image string) json.RawMessage {
			return fmt.Appendf(nil, `{"image":%q,"env":{"N":"%d"},"files":[{"guest_path":"/f","raw_value":%q}]}`, image, i, file)
		}
		steps = append(steps, step{Machine: fmt.Sprint("m", i), Before: config("a"), After: config("b")})
	}
	size, err := MeasureOf(steps)
	if err != nil || size.Stored > 60_000 || size.JSON < 36*66_000 {
		t.Errorf("18 machines with one file of 50 kB take %d bytes, %d as JSON, want about 50,000 and 2,400,000: %v", size.Stored, size.JSON, err)
	}
	p, err := NewConverter().ToPayload(steps)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := NewConverter().ToPayload(converter.NewRawValue(p)); err != nil || again != p {
		t.Errorf("an encoded value is encoded again: %v", err)
	}
	var back []step
	if err := NewConverter().FromPayload(p, &back); err != nil {
		t.Fatal(err)
	}
	for i := range steps {
		if back[i].Machine != steps[i].Machine || !bytes.Equal(back[i].Before, steps[i].Before) || !bytes.Equal(back[i].After, steps[i].After) {
			t.Fatalf("machine %d came back as %.300s", i, back[i].After)
		}
	}
}

// A file that is text in fly.toml and base64 in a config is stored once.
func TestConverter_TextAndBase64(t *testing.T) {
	for name, text := range map[string]string{"base64 itself": randomBase64(50_000), "lines": randomBase64(25_000) + "\n<&>\"\\\n" + randomBase64(25_000)} {
		encoded := base64.StdEncoding.EncodeToString([]byte(text))
		size, err := MeasureOf([]string{text, encoded, encoded, text, base64.StdEncoding.EncodeToString([]byte(encoded))})
		if err != nil || size.Stored > 52_000 {
			t.Errorf("%s: it takes %d bytes, want about 50,000: %v", name, size.Stored, err)
		}
	}
}

// Values up to 64 kB are plain JSON, and values that were encoded without this package
// are decoded.
func TestConverter_SmallAndForeignValues(t *testing.T) {
	small, err := NewConverter().ToPayload([]string{"a", "b"})
	if err != nil || string(small.GetData()) != `["a","b"]` {
		t.Errorf("%q, %v", small.GetData(), err)
	}
	text := strings.Repeat("é", 100_000)
	plain, err := converter.GetDefaultDataConverter().ToPayload(text)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := converter.NewZlibCodec(converter.ZlibCodecOptions{}).Encode([]*commonpb.Payload{plain})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(zipped, plain) {
		var back string
		if err := NewConverter().FromPayload(p, &back); err != nil || back != text {
			t.Errorf("%s: %v", p.GetMetadata()["encoding"], err)
		}
	}
}

// BenchmarkConverter encodes and decodes the plan of 1,000 machines with configs of
// 2 kB.
func BenchmarkConverter(b *testing.B) {
	var steps []step
	file := randomBase64(1500)
	for i := range 1000 {
		config := func(image string) json.RawMessage {
			return fmt.Appendf(nil, `{"image":%q,"files":[{"guest_path":"/f","raw_value":%q}]}`, image, file)
		}
		steps = append(steps, step{Machine: fmt.Sprint("m", i), Before: config("a"), After: config("b")})
	}
	c := NewConverter()
	var back []step
	for b.Loop() {
		p, err := c.ToPayload(steps)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(p.GetData()))/1024, "kB")
		if err := c.FromPayload(p, &back); err != nil {
			b.Fatal(err)
		}
	}
}

// Sharing and expanding take linear time.
func TestShare_ManyValues(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a second")
	}
	value := `{"a":"` + strings.Repeat("y", 3*shareFrom) + `"}`
	doc := []byte("[" + strings.Repeat(value+",", 20_000) + "0]")
	begun := time.Now()
	stored, err := shareValues(doc)
	if err != nil {
		t.Fatal(err)
	}
	back, err := expandValues(stored)
	if err != nil || !bytes.Equal(back, doc) {
		t.Fatal("not the same", err)
	}
	t.Logf("%d MB in %s", len(doc)>>20, time.Since(begun))
}
