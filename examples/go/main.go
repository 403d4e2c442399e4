// agent CACHE_DIR: 32 goroutines cache, read and tee images at once; then the cache is listed and pruned.
package main

/*
#cgo pkg-config: image_cache
#include <image_cache.h>
#include <stdlib.h>

extern int64_t goSource(void *user_data, void *buffer, size_t capacity);
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/cgo"
	"sync"
	"unsafe"
)

const goroutines = 32

// Each call has its own error struct, so a goroutine may change threads between two calls.
func check(status C.image_cache_status_t, failure *C.image_cache_error_t) error {
	if status == C.IMAGE_CACHE_OK {
		return nil
	}
	return errors.New(C.GoString(C.image_cache_status_name(status)) + ": " + C.GoString(&failure.message[0]))
}

func openCache(directory string, maxSize uint64) (cache *C.image_cache_t, err error) {
	var failure C.image_cache_error_t
	name := C.CString(directory)
	defer C.free(unsafe.Pointer(name))
	options := C.image_cache_options_new()
	defer C.image_cache_options_free(options)
	if err = check(C.image_cache_options_set_max_size(options, C.uint64_t(maxSize), &failure), &failure); err != nil {
		return nil, err
	}
	return cache, check(C.image_cache_open(name, options, &cache, &failure), &failure)
}

func write(cache *C.image_cache_t, id string, data []byte) error {
	var failure C.image_cache_error_t
	var writer *C.image_cache_writer_t
	name := C.CString(id)
	defer C.free(unsafe.Pointer(name))
	if err := check(C.image_cache_begin_write(cache, name, &writer, &failure), &failure); err != nil {
		return err
	}
	for len(data) > 0 {
		length := 1000
		if length > len(data) {
			length = len(data)
		}
		// A failure is final: the commit repeats it.
		C.image_cache_write_chunk(writer, unsafe.Pointer(&data[0]), C.size_t(length), nil)
		data = data[length:]
	}
	return check(C.image_cache_commit(writer, &failure), &failure)
}

func read(cache *C.image_cache_t, id string) ([]byte, error) {
	var failure C.image_cache_error_t
	var reader *C.image_cache_reader_t
	name := C.CString(id)
	defer C.free(unsafe.Pointer(name))
	if err := check(C.image_cache_open_for_read(cache, name, &reader, &failure), &failure); err != nil {
		return nil, err
	}
	defer C.image_cache_reader_close(reader)
	var all []byte
	buffer := make([]byte, 700)
	for {
		var length C.size_t
		status := C.image_cache_read(reader, unsafe.Pointer(&buffer[0]), C.size_t(len(buffer)), &length, &failure)
		if err := check(status, &failure); err != nil || length == 0 {
			return all, err
		}
		all = append(all, buffer[:length]...)
	}
}

// The source of a tee. A panic must not leave it: that would end the process. So it returns -1, a failure, unless it
// reaches its end.
//
//export goSource
func goSource(userData unsafe.Pointer, buffer unsafe.Pointer, capacity C.size_t) (length C.int64_t) {
	length = -1
	defer func() {
		if recover() != nil {
			length = -1
		}
	}()
	source := (*(*cgo.Handle)(userData)).Value().(io.Reader)
	n, err := source.Read(unsafe.Slice((*byte)(buffer), int(capacity)))
	if n == 0 && err != io.EOF {
		return -1
	}
	return C.int64_t(n)
}

func tee(cache *C.image_cache_t, id string, from io.Reader) ([]byte, error) {
	var failure C.image_cache_error_t
	var handle *C.image_cache_tee_t
	name := C.CString(id)
	defer C.free(unsafe.Pointer(name))
	// C must not keep a Go pointer, so it gets C memory that holds a handle's number.
	source := (*cgo.Handle)(C.malloc(C.size_t(unsafe.Sizeof(cgo.Handle(0)))))
	defer C.free(unsafe.Pointer(source))
	*source = cgo.NewHandle(from)
	defer source.Delete()
	function := C.image_cache_source_fn(C.goSource)
	status := C.image_cache_tee_open(cache, name, function, unsafe.Pointer(source), &handle, &failure)
	if err := check(status, &failure); err != nil {
		return nil, err
	}
	defer C.image_cache_tee_close(handle)
	var all []byte
	buffer := make([]byte, 900)
	for {
		var length C.size_t
		status := C.image_cache_tee_read(handle, unsafe.Pointer(&buffer[0]), C.size_t(len(buffer)), &length, &failure)
		if err := check(status, &failure); err != nil || length == 0 {
			return all, err
		}
		all = append(all, buffer[:length]...)
	}
}

func one(cache *C.image_cache_t, number int) error {
	data := bytes.Repeat([]byte{byte(number)}, 5000)
	written, teed := fmt.Sprintf("written %02d", number), fmt.Sprintf("teed %02d", number)
	if err := write(cache, written, data); err != nil {
		return err
	}
	if through, err := tee(cache, teed, bytes.NewReader(data)); err != nil || !bytes.Equal(through, data) {
		return fmt.Errorf("the tee of %s returned other bytes: %v", teed, err)
	}
	for _, id := range []string{written, teed} {
		if back, err := read(cache, id); err != nil || !bytes.Equal(back, data) {
			return fmt.Errorf("%s has other bytes: %v", id, err)
		}
	}
	return nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { panic("the store is gone") }

func list(cache *C.image_cache_t) (images, hits, size int, err error) {
	var failure C.image_cache_error_t
	var list *C.image_cache_list_t
	if err = check(C.image_cache_list_cached(cache, &list, &failure), &failure); err != nil {
		return
	}
	defer C.image_cache_list_free(list)
	var entry *C.image_cache_entry_t
	for C.image_cache_list_next(list, &entry) {
		images, hits, size = images+1, hits+int(entry.hits), size+int(entry.size)
	}
	return
}

func run(directory string) error {
	cache, err := openCache(directory, 50000)
	if err != nil {
		return err
	}
	defer C.image_cache_close(cache)

	failures := make(chan error, goroutines)
	var all sync.WaitGroup
	for number := 0; number < goroutines; number++ {
		all.Add(1)
		go func(number int) {
			defer all.Done()
			failures <- one(cache, number)
		}(number)
	}
	all.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			return err
		}
	}
	images, hits, size, err := list(cache)
	if err != nil {
		return err
	}
	fmt.Printf("cached: %d images, %d bytes, %d hits\n", images, size, hits)

	_, err = tee(cache, "broken", broken{})
	fmt.Printf("a source that panics: %v\n", err)

	var failure C.image_cache_error_t
	var pruned, freed C.uint64_t
	if err := check(C.image_cache_prune(cache, &pruned, &freed, &failure), &failure); err != nil {
		return err
	}
	fmt.Printf("pruned: %d images, %d bytes\n", pruned, freed)
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: agent CACHE_DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
