package devserver

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// A logger passes Temporal's errors to slog, and the rest only at level debug: a healthy
// start logs about a hundred messages.
type logger struct {
	to           *slog.Logger
	level        slog.Level
	cancel       context.CancelCauseFunc
	constructing *atomic.Bool // while the server's constructors run
	closing      *atomic.Bool
}

// A fatalError is the value with which Fatal panics.
type fatalError struct{ error }

func newLogger(to *slog.Logger, fail context.CancelCauseFunc) *logger {
	if to == nil {
		to = slog.New(slog.DiscardHandler)
	}
	level := slog.LevelError
	if to.Enabled(context.Background(), slog.LevelDebug) {
		level = slog.LevelDebug
	}
	return &logger{to: to, level: level, cancel: fail, constructing: new(atomic.Bool), closing: new(atomic.Bool)}
}

// mute drops all further messages: a server that stops logs errors about it.
func (l *logger) mute() { l.closing.Store(true) }

func (l *logger) Debug(msg string, tags ...tag.Tag)  { l.log(slog.LevelDebug, msg, tags) }
func (l *logger) Info(msg string, tags ...tag.Tag)   { l.log(slog.LevelInfo, msg, tags) }
func (l *logger) Warn(msg string, tags ...tag.Tag)   { l.log(slog.LevelWarn, msg, tags) }
func (l *logger) Error(msg string, tags ...tag.Tag)  { l.log(slog.LevelError, msg, tags) }
func (l *logger) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

func (l *logger) Panic(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	panic(msg)
}

// Fatal cancels the start and does not return, because its callers in Temporal would
// continue with a nil listener. While the server is constructed it panics with a
// fatalError: the constructors run inside of sync.OnceValue, which turns Goexit into a
// bare panic. Later it ends the calling goroutine.
func (l *logger) Fatal(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	err := errors.New(msg)
	for _, t := range tags {
		if text, ok := t.Value().(string); ok && t.Key() == "error" {
			err = errors.New(text)
		}
	}
	l.cancel(err)
	if l.constructing.Load() {
		panic(fatalError{err})
	}
	runtime.Goexit()
}

// With implements log.WithLogger: it returns a logger that adds tags.
func (l *logger) With(tags ...tag.Tag) log.Logger {
	named := *l
	named.to = slog.New(l.to.Handler().WithAttrs(toAttrs(tags)))
	return &named
}

func (l *logger) log(level slog.Level, msg string, tags []tag.Tag) {
	if level < l.level || l.closing.Load() {
		return
	}
	l.to.LogAttrs(context.Background(), level, msg, toAttrs(tags)...)
}

func toAttrs(tags []tag.Tag) []slog.Attr {
	out := make([]slog.Attr, 0, len(tags))
	for _, t := range tags {
		out = append(out, slog.Any(t.Key(), t.Value()))
	}
	return out
}
