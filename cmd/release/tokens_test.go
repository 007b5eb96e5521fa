package main

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/microbima/release/internal/cli"
	"github.com/microbima/release/worker"
)

// capture is exits, and appends the output to a file that absent searches:
// capture 0 release list --json.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	exits(ts, neg, args)
	file, err := os.OpenFile(ts.MkAbs(filepath.Join(ts.Getenv("WORK"), "printed")), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	_, err = file.WriteString(ts.ReadFile("stdout") + ts.ReadFile("stderr"))
	ts.Check(err)
	ts.Check(file.Close())
}

// absent asserts that the values of some variables, and the token of the running
// release dev, are in no file below the story's folder and in no history:
// absent TOKEN KEY. Only dev.json may hold its token, readable by its user alone.
func absent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: absent VARIABLE...")
	}
	work := ts.Getenv("WORK")
	announced := filepath.Join(work, ".home", "state", "release", cli.DevFileName)
	if doc, err := os.ReadFile(announced); err == nil {
		var dev cli.DevFile
		ts.Check(json.Unmarshal(doc, &dev))
		ts.Setenv("DEV_TOKEN", dev.Token)
		info, err := os.Stat(announced)
		ts.Check(err)
		if info.Mode().Perm() != 0o600 {
			ts.Fatalf("%s holds a token and has mode %v", announced, info.Mode())
		}
		ts.Check(writeHistories(dev.Temporal, filepath.Join(work, "histories")))
	}
	secrets := map[string]string{}
	for _, name := range append(slices.Clone(args), "DEV_TOKEN") {
		if secrets[name] = ts.Getenv(name); len(secrets[name]) < 16 {
			ts.Fatalf("%s is %q, which may be anywhere by chance", name, secrets[name])
		}
	}
	found, err := findSecrets(work, announced, secrets)
	ts.Check(err)
	if len(found) > 0 {
		ts.Fatalf("tokens were written down:\n%s", strings.Join(found, "\n"))
	}
}

// findSecrets returns the files below dir, except one, that contain a secret.
func findSecrets(dir, except string, secrets map[string]string) (found []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == except {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for name, secret := range secrets {
			if containsSecret(content, secret) {
				found = append(found, fmt.Sprintf("%s is in %s", name, path))
			}
		}
		return nil
	})
	return found, err
}

// containsSecret reports whether content contains the secret, plain, in base64, or
// compressed.
func containsSecret(content []byte, secret string) bool {
	for _, encoding := range encodings(secret) {
		if bytes.Contains(content, []byte(encoding)) {
			return true
		}
	}
	var inner io.Reader
	var err error
	switch {
	case bytes.HasPrefix(content, []byte{0x1f, 0x8b}):
		inner, err = gzip.NewReader(bytes.NewReader(content))
	case bytes.HasPrefix(content, []byte{0x78}):
		inner, err = zlib.NewReader(bytes.NewReader(content))
	default:
		return false
	}
	if err != nil {
		return false // it only looked like it
	}
	plain, _ := io.ReadAll(inner) // whatever could be read counts
	return containsSecret(plain, secret)
}

// encodings returns the secret, and the parts of its base64 that do not depend on the
// bytes around it, for each of the three offsets.
func encodings(secret string) []string {
	all := []string{secret}
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:min(shift, 2)] + secret))
		begin := (shift*8 + 5) / 6
		end := (shift + len(secret)) * 8 / 6
		all = append(all, text[begin:end], strings.NewReplacer("+", "-", "/", "_").Replace(text[begin:end]))
	}
	return all
}

// writeHistories writes every history of a Temporal as text, with the values
// decompressed.
func writeHistories(address, path string) error {
	c, err := client.Dial(client.Options{HostPort: address, DataConverter: worker.DataConverter()})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := context.Background()
	all, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{})
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, w := range all.Executions {
		described, err := c.DescribeWorkflowExecution(ctx, w.Execution.WorkflowId, w.Execution.RunId)
		if err != nil {
			return err
		}
		text.WriteString(protojson.Format(described) + "\n")
		events := c.GetWorkflowHistory(ctx, w.Execution.WorkflowId, w.Execution.RunId, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			if err == nil {
				err = writeEvent(&text, event)
			}
			if err != nil {
				return err
			}
		}
	}
	return os.WriteFile(path, text.Bytes(), 0o600)
}

// writeEvent writes an event, and then its values: protojson has them in base64.
func writeEvent(to *bytes.Buffer, event *history.HistoryEvent) error {
	codec := converter.NewZlibCodec(converter.ZlibCodecOptions{})
	to.WriteString(protojson.Format(event) + "\n")
	return proxy.VisitPayloads(context.Background(), event, proxy.VisitPayloadsOptions{
		Visitor: func(_ *proxy.VisitPayloadsContext, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
			plain, err := codec.Decode(payloads)
			for i, p := range plain {
				if string(payloads[i].GetMetadata()["encoding"]) != string(p.GetMetadata()["encoding"]) {
					to.WriteString("compressed: ")
				}
				to.Write(append(p.GetData(), '\n'))
			}
			return payloads, err
		},
	})
}

// A search that finds nothing would let every story pass.
func TestFindSecrets_EveryEncoding(t *testing.T) {
	const secret = "fo1_planted-4711-in-the-environment"
	squeezed := func(with func(io.Writer) io.WriteCloser) string {
		var b bytes.Buffer
		w := with(&b)
		if _, err := io.WriteString(w, `{"tail":"TOKEN=`+secret+`\n"}`); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	dir := t.TempDir()
	files := map[string]string{
		"plain": "\x00\x01" + secret + "\xff",
		"gzip":  squeezed(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
		"zlib":  squeezed(func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }),
	}
	for before := range 4 {
		text := strings.Repeat("x", before) + secret + "?>"
		files[fmt.Sprintf("base64 after %d", before)] = base64.StdEncoding.EncodeToString([]byte(text))
		files[fmt.Sprintf("base64 for addresses after %d", before)] = base64.URLEncoding.EncodeToString([]byte(text))
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "harmless"), []byte(secret[:len(secret)-1]), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := findSecrets(dir, filepath.Join(dir, "plain"), map[string]string{"TOKEN": secret})
	if err != nil || len(found) != len(files)-1 {
		t.Errorf("found in %d files of %d: %s (%v)", len(found), len(files)-1, strings.Join(found, "\n"), err)
	}
}
