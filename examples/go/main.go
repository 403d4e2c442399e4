// agent CACHE_DIR: 32 goroutines cache, read and tee images at once; then the queue is fetched, and the cache is pruned.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"imagecache"
)

const goroutines = 32

func write(cache *imagecache.Cache, id string, data []byte) error {
	writer, err := cache.BeginWrite(id)
	if err != nil {
		return err
	}
	defer writer.Abort("the download failed") // does nothing after a commit
	if _, err := io.Copy(writer, bytes.NewReader(data)); err != nil {
		return err
	}
	return writer.Commit()
}

// read reads a cached image, or else the store, and caches that on the way.
func read(cache *imagecache.Cache, id string, store io.Reader) ([]byte, error) {
	reader, err := cache.OpenForRead(id)
	if err == nil {
		defer reader.Close()
		return io.ReadAll(reader)
	} else if !errors.Is(err, imagecache.ErrNotFound) {
		fmt.Fprintln(os.Stderr, "the cache fails:", err)
	}
	tee, err := cache.OpenTee(id, store)
	if err != nil {
		return nil, err
	}
	defer tee.Close()
	return io.ReadAll(tee)
}

func one(cache *imagecache.Cache, number int) error {
	data := bytes.Repeat([]byte{byte(number)}, 5000)
	written, teed := fmt.Sprintf("written %02d", number), fmt.Sprintf("teed %02d", number)
	if err := write(cache, written, data); err != nil {
		return err
	}
	for _, id := range []string{teed, teed, written} { // the store, and twice the cache
		if back, err := read(cache, id, bytes.NewReader(data)); err != nil || !bytes.Equal(back, data) {
			return fmt.Errorf("%s has other bytes: %v", id, err)
		}
	}
	return nil
}

func prefetch(cache *imagecache.Cache) (imagecache.Prefetched, error) {
	if _, err := cache.QueueImage("queued"); err != nil {
		return imagecache.Prefetched{}, err
	}
	return cache.Prefetch(context.Background(), func(_ context.Context, id string, writer *imagecache.Writer) error {
		_, err := writer.Write([]byte("the bytes of " + id))
		return err // nil commits the image
	})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { panic("the store is gone") }

func run(directory string) error {
	cache, err := imagecache.Open(directory, imagecache.WithMaxSize(50000))
	if err != nil {
		return err
	}
	defer cache.Close()

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
	now, err := cache.Statistics()
	if err != nil {
		return err
	}
	fmt.Printf("cached: %d images, %d bytes, %d hits\n", now.Images, now.Bytes, now.Hits)

	fetched, err := prefetch(cache)
	if err != nil {
		return err
	}
	fmt.Printf("prefetch: %d fetched, %d failed\n", fetched.Fetched, fetched.Failed)

	_, err = read(cache, "broken", broken{})
	var panicked *imagecache.PanicError
	fmt.Printf("a source that panics: %v, %v\n", errors.As(err, &panicked), err)

	pruned, err := cache.Prune()
	if err != nil {
		return err
	}
	fmt.Printf("pruned: %d images, %d bytes\n", pruned.Images, pruned.Bytes)
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
