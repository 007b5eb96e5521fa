package rawjson_test

import (
	"testing"

	"github.com/microbima/release/internal/rawjson"
)

func TestMarshal(t *testing.T) {
	doc, err := rawjson.Marshal(map[string]string{"cmd": "a && b > c"})
	if want := `{"cmd":"a && b > c"}`; string(doc) != want || err != nil {
		t.Errorf("got %s, %v; want %s", doc, err, want)
	}
	if _, err := rawjson.Marshal(func() {}); err == nil {
		t.Error("a function was encoded")
	}
}
