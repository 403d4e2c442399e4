// Progress functions: how far a long call is, and what stops it.

package imagecache

import (
	"context"
	"runtime/cgo"
)

// progress is that of one call: the context can stop it, too.
type progress struct {
	ctx      context.Context
	function func(id string, done, total uint64) error
	stopped  error // why it stopped the call
}

func (p *progress) report(id string, done, total uint64) error {
	p.stopped = guarded(func() error {
		if err := p.ctx.Err(); err != nil || p.function == nil {
			return err
		}
		return p.function(id, done, total)
	})
	return p.stopped
}

// with calls a function with the number that the library gets: 0 if nothing can stop the call or wants to know.
func (p *progress) with(function func(number uintptr) error) error {
	if p.function == nil && p.ctx.Done() == nil {
		return function(0)
	}
	handle := cgo.NewHandle(p)
	defer handle.Delete()
	return function(uintptr(handle))
}
