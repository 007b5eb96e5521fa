package flysim

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
)

// Transport returns a RoundTripper that calls the Sim without a socket, so that
// it can share a testing/synctest bubble with its client. The host of a
// request's URL does not matter.
func (s *Sim) Transport() http.RoundTripper { return inMemory{s} }

type inMemory struct{ s *Sim }

var errDropped = errors.New("connection dropped by flysim")

func (t inMemory) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	if req.Body == nil {
		req = req.Clone(req.Context())
		req.Body = http.NoBody
	}
	defer req.Body.Close()
	w := &recorder{header: http.Header{}}
	defer func() {
		switch p := recover(); {
		case p == http.ErrAbortHandler:
			resp, err = nil, errDropped
		case p != nil:
			panic(p)
		case req.Context().Err() != nil:
			resp, err = nil, req.Context().Err() // the response is lost
		}
	}()
	t.s.ServeHTTP(w, req)
	if w.status == 0 {
		return nil, errDropped
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: req,
	}, nil
}

// recorder is a ResponseWriter that keeps the response.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
