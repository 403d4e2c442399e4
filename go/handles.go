// Handles of the library: when Go may use them, and when they end.

package imagecache

import (
	"sync"
	"sync/atomic"
	"syscall"
)

// shared guards a handle that many goroutines may use at once. Its end waits for the calls in progress.
type shared struct {
	mutex sync.Mutex
	idle  sync.Cond // that calls is 0
	calls int
	ended bool
}

// begin is false after the end.
func (s *shared) begin() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.ended {
		s.calls++
	}
	return !s.ended
}

func (s *shared) done() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.calls--
	if s.calls == 0 && s.ended {
		s.idle.Signal()
	}
}

// end is false if another call has ended it.
func (s *shared) end() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.ended {
		return false
	}
	s.ended = true
	s.idle.L = &s.mutex
	for s.calls > 0 {
		s.idle.Wait()
	}
	return true
}

// exclusive guards a handle that one goroutine at a time may use: the others wait.
type exclusive struct {
	mutex sync.Mutex
	ended bool
	// The thread that runs a callback of a call in progress, or 0. Go runs a callback on the thread of its call, and nothing else
	// there. So a call from that thread is the callback's own: it must not wait.
	callback atomic.Int64
}

// use calls the function, unless the handle has ended or its callback uses it.
func (e *exclusive) use(what string, function func() error) error {
	if !e.mutex.TryLock() {
		if e.callback.Load() == int64(syscall.Gettid()) {
			return invalid("this %s is in use: its source must not use it", what)
		}
		e.mutex.Lock()
	}
	defer e.mutex.Unlock()
	if e.ended {
		return closed(what)
	}
	return function()
}

// end calls the function, and lets no other call follow.
func (e *exclusive) end(what string, function func() error) error {
	return e.use(what, func() error {
		e.ended = true
		return function()
	})
}

// inCallback calls a callback's function.
func (e *exclusive) inCallback(function func()) {
	e.callback.Store(int64(syscall.Gettid()))
	defer e.callback.Store(0)
	function()
}
