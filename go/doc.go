// Package imagecache keeps local copies of virtual-machine images: a binding of libimage_cache, which must be installed with its
// pkg-config file.
//
// A Reader reads a cached image, a Writer caches one. A Tee delivers the bytes of a source and caches them on the way. A Stream
// shares one fetch of an image with all others on the host. docs/guide.md of the library has the daily work of an agent, and the
// man page image_cache.3 has what each C function guarantees: the methods have their names.
//
// # Goroutines
//
// All types are safe for any number of goroutines. A call occupies a thread of the operating system until it returns. Calls of one
// Cache run at the same time. Calls of one Reader, Writer, Tee or Stream wait for each other; use several for work in parallel.
//
// # Handles
//
// Each handle must be ended by its Close, or by Commit or Abort: there are no finalizers. Every later call returns an error that
// is os.ErrClosed. A Cache may be closed before what it has opened.
//
// # Functions that the library calls
//
// Sources, fetch, progress, inspector and log functions run on the goroutine of the call. A panic of one becomes a PanicError
// in the call's error. They must not end the goroutine: no runtime.Goexit, and so no t.FailNow.
package imagecache
