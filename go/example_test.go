// The examples of the documentation, which go test runs.

package imagecache_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"imagecache"
)

// scratch is a directory for an example.
func scratch() string {
	directory, err := os.MkdirTemp("", "imagecache-example-")
	if err != nil {
		log.Fatal(err)
	}
	return directory
}

func Example() {
	directory := scratch()
	defer os.RemoveAll(directory)
	cache, err := imagecache.Open(directory, imagecache.WithMaxSize(50<<30))
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()

	writer, err := cache.BeginWrite("cirros")
	if err != nil {
		log.Fatal(err)
	}
	defer writer.Abort("the download failed") // does nothing after a commit
	if _, err := io.Copy(writer, strings.NewReader("the image's bytes")); err != nil {
		log.Fatal(err)
	}
	if err := writer.Commit(); err != nil {
		log.Fatal(err)
	}

	reader, err := cache.OpenForRead("cirros")
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	if _, err := io.Copy(os.Stdout, reader); err != nil {
		log.Fatal(err)
	}
	// Output: the image's bytes
}

func ExampleCache_OpenTee() {
	directory := scratch()
	defer os.RemoveAll(directory)
	cache, err := imagecache.Open(directory)
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	store := strings.NewReader("the image's bytes") // for example the body of a response

	tee, err := cache.OpenTee("fedora", store)
	if err != nil {
		log.Fatal(err)
	}
	defer tee.Close()
	if err := tee.ExpectSize(17); err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(os.Stdout, tee); err != nil {
		log.Fatal(err)
	}
	cached, err := cache.IsCached("fedora")
	fmt.Println(", cached:", cached, err)
	// Output: the image's bytes, cached: true <nil>
}

func ExampleCache_OpenStream() {
	directory := scratch()
	defer os.RemoveAll(directory)
	cache, err := imagecache.Open(directory)
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	store := strings.NewReader("the image's bytes")

	// For example a request with a range. All streams of the image on this host share what it returns.
	source := imagecache.ReaderAtFunc(func(p []byte, offset int64) (int, error) {
		return store.ReadAt(p, offset)
	})
	stream, err := cache.OpenStream("debian", source)
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	boot := make([]byte, 5) // of any part, while the image arrives
	if _, err := stream.ReadAt(boot, 4); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", boot)
	// Output: image
}

func ExampleCache_Prefetch() {
	directory := scratch()
	defer os.RemoveAll(directory)
	cache, err := imagecache.Open(directory)
	if err != nil {
		log.Fatal(err)
	}
	defer cache.Close()
	store := map[string]string{"cirros": "the image's bytes"}
	for _, id := range []string{"cirros", "missing"} {
		if _, err := cache.QueueImage(id); err != nil {
			log.Fatal(err)
		}
	}

	result, err := cache.Prefetch(context.Background(), func(_ context.Context, id string, writer *imagecache.Writer) error {
		image, has := store[id]
		if !has {
			return errors.New("the store has no such image")
		}
		_, err := io.WriteString(writer, image)
		return err // nil commits the image
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Fetched, "fetched,", result.Failed, "failed:", result.Errors)
	// Output: 1 fetched, 1 failed: [missing: the store has no such image]
}
