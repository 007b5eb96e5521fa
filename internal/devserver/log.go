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

// A logger lets Temporal's errors through to slog, and the rest only to those
// who asked for debug: a healthy start says some hundred things.
type logger struct {
	to      *slog.Logger
	level   slog.Level
	fail    context.CancelCauseFunc
	making  *atomic.Bool // the server's constructors run
	closing *atomic.Bool
}

// fatal is what Fatal panics with.
type fatal struct{ error }

func newLogger(to *slog.Logger, fail context.CancelCauseFunc) *logger {
	if to == nil {
		to = slog.New(slog.DiscardHandler)
	}
	level := slog.LevelError
	if to.Enabled(context.Background(), slog.LevelDebug) {
		level = slog.LevelDebug
	}
	return &logger{to: to, level: level, fail: fail, making: new(atomic.Bool), closing: new(atomic.Bool)}
}

// quiet drops what follows: a server that stops complains that it does.
func (l *logger) quiet() { l.closing.Store(true) }

func (l *logger) Debug(msg string, tags ...tag.Tag)  { l.say(slog.LevelDebug, msg, tags) }
func (l *logger) Info(msg string, tags ...tag.Tag)   { l.say(slog.LevelInfo, msg, tags) }
func (l *logger) Warn(msg string, tags ...tag.Tag)   { l.say(slog.LevelWarn, msg, tags) }
func (l *logger) Error(msg string, tags ...tag.Tag)  { l.say(slog.LevelError, msg, tags) }
func (l *logger) DPanic(msg string, tags ...tag.Tag) { l.say(slog.LevelError, msg, tags) }

func (l *logger) Panic(msg string, tags ...tag.Tag) {
	l.say(slog.LevelError, msg, tags)
	panic(msg)
}

// Fatal fails the start and does not return: Temporal's callers count on that,
// they would use the listener they didn't get. While the server is being made
// it unwinds as a panic with a fatal (its constructors run inside of
// sync.OnceValue, which makes a bare panic of Goexit); afterwards it ends the
// goroutine that can't go on.
func (l *logger) Fatal(msg string, tags ...tag.Tag) {
	l.say(slog.LevelError, msg, tags)
	err := errors.New(msg)
	for _, t := range tags {
		if text, ok := t.Value().(string); ok && t.Key() == "error" {
			err = errors.New(text)
		}
	}
	l.fail(err)
	if l.making.Load() {
		panic(fatal{err})
	}
	runtime.Goexit()
}

// With is what Temporal calls to name the part of it that speaks.
func (l *logger) With(tags ...tag.Tag) log.Logger {
	named := *l
	named.to = slog.New(l.to.Handler().WithAttrs(attrs(tags)))
	return &named
}

func (l *logger) say(level slog.Level, msg string, tags []tag.Tag) {
	if level < l.level || l.closing.Load() {
		return
	}
	l.to.LogAttrs(context.Background(), level, msg, attrs(tags)...)
}

func attrs(tags []tag.Tag) []slog.Attr {
	out := make([]slog.Attr, 0, len(tags))
	for _, t := range tags {
		out = append(out, slog.Any(t.Key(), t.Value()))
	}
	return out
}
