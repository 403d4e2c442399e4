// Long calls: prefetch, copies, verification, waiting. A context stops them.

package imagecache_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"imagecache"
)

func TestPrefetchFetchesTheQueueInOrder(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		for _, id := range []string{"b", "fails", "a", "lent"} {
			equal(t, "queued", must(cache.QueueImage(id))(t), true)
		}
		gone := errors.New("the store is gone")
		var called []string
		var kept *imagecache.Writer
		result, err := cache.Prefetch(context.Background(), func(_ context.Context, id string, writer *imagecache.Writer) error {
			called, kept = append(called, id), writer
			switch id {
			case "fails":
				return gone
			case "lent":
				wants(t, writer.Commit(), imagecache.ErrInvalidArgument)
				writer.Abort("an abort fails the fetch")
				return nil
			}
			if err := writer.ExpectSize(3); err != nil {
				return err
			}
			_, err := writer.Write([]byte("abc"))
			return err
		})
		check(t, err)
		equal(t, "called", fmt.Sprint(called), "[b fails a lent]")
		equal(t, "fetched", result.Fetched, 2)
		equal(t, "failed", result.Failed, 2)
		equal(t, "errors", len(result.Errors), 1)
		wants(t, result.Errors[0], gone)
		equal(t, "whose", result.Errors[0].ImageID, "fails")
		_, err = kept.Write([]byte("1")) // it was lent
		equal(t, "closed", isClosed(err), true)
		var queued []string
		for _, image := range must(cache.ListQueued())(t) {
			queued = append(queued, image.ID)
		}
		equal(t, "queued", fmt.Sprint(queued), "[fails lent]")
		_, err = cache.Prefetch(context.Background(), nil)
		wants(t, err, imagecache.ErrInvalidArgument)
		check(t, cache.DeleteQueuedImage("fails"))
		equal(t, "deleted", must(cache.DeleteAllQueuedImages())(t), 1)
	})
}

func TestAContextEndsAPrefetch(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		for _, id := range []string{"1", "2", "3"} {
			must(cache.QueueImage(id))(t)
		}
		ctx, cancel := context.WithCancel(context.Background())
		calls := 0
		result, err := cache.Prefetch(ctx, func(ctx context.Context, id string, writer *imagecache.Writer) error {
			calls++
			cancel()
			return nil
		})
		wants(t, err, context.Canceled)
		equal(t, "calls", calls, 1)
		equal(t, "fetched", result.Fetched, 1)
		equal(t, "failed", result.Failed, 2)
		wants(t, result.Errors[1], context.Canceled)
	})
}

func TestExportAndImportCopyAnImage(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data, ctx := pattern(1_000_000), context.Background()
		sum := sha512.Sum512(data)
		cacheImage(t, cache, "1", data)
		file := must(os.Create(filepath.Join(t.TempDir(), "file")))(t)
		defer file.Close()
		var last uint64
		progress := func(done, total uint64) error {
			equal(t, "total", total, 1_000_000)
			last = done
			return nil
		}
		how := must(cache.Export(ctx, "1", file, imagecache.ExportOptions{Method: imagecache.CopyBytes, Sync: true, Progress: progress}))(t)
		equal(t, "how", how, imagecache.CopyBytes)
		equal(t, "done", last, 1_000_000)
		same(t, "the file", must(os.ReadFile(file.Name()))(t), data)

		reading := must(os.Open(file.Name()))(t)
		defer reading.Close()
		last = 0
		expected := imagecache.ImportOptions{ExpectsSize: true, Size: 1_000_000, SHA512: hex.EncodeToString(sum[:]), Progress: progress}
		must(cache.Import(ctx, "2", reading, expected))(t)
		equal(t, "done", last, 1_000_000)
		same(t, "the image", contents(t, cache, "2"), data)
		equal(t, "the digest", must(cache.Image("2"))(t).Digest, "sha512:"+hex.EncodeToString(sum[:]))
		for _, wrong := range []imagecache.ImportOptions{
			{MD5: "d41d8cd98f00b204e9800998ecf8427e"},
			{SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		} {
			_, err := cache.Import(ctx, "3", reading, wrong)
			wants(t, err, imagecache.ErrDigestMismatch)
		}
		_, err := cache.Import(ctx, "3", reading, imagecache.ImportOptions{ExpectsSize: true, Size: 5})
		wants(t, err, imagecache.ErrSizeMismatch)
		_, err = cache.Import(ctx, "3", reading, imagecache.ImportOptions{MD5: "\x00"})
		wants(t, err, imagecache.ErrInvalidArgument)
		_, err = cache.Export(ctx, "1", reading, imagecache.ExportOptions{}) // not open for writing
		wants(t, err, imagecache.ErrInvalidArgument)
		check(t, reading.Close())
		_, err = cache.Import(ctx, "3", reading, imagecache.ImportOptions{})
		equal(t, "closed", isClosed(err), true)
	})
}

func TestAPipeIsImportedToItsEnd(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data := pattern(500_000)
		from, to, err := os.Pipe()
		check(t, err)
		defer from.Close()
		go func() {
			defer to.Close()
			if _, err := to.Write(data); err != nil {
				t.Error(err)
			}
		}()
		must(cache.Import(context.Background(), "1", from, imagecache.ImportOptions{}))(t)
		same(t, "the image", contents(t, cache, "1"), data)
	})
}

func TestAContextOrAProgressFunctionStopsACopy(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		cacheImage(t, cache, "1", pattern(1000))
		file := must(os.OpenFile(filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o600))(t)
		defer file.Close()
		enough := errors.New("enough")
		stop := func(uint64, uint64) error { return enough }
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := cache.Export(context.Background(), "1", file, imagecache.ExportOptions{Progress: stop})
		wants(t, err, imagecache.ErrSource, enough)
		goOn := func(uint64, uint64) error { return nil }
		for _, options := range []imagecache.ExportOptions{{}, {Progress: goOn}} {
			_, err = cache.Export(ended, "1", file, options)
			wants(t, err, imagecache.ErrSource, context.Canceled)
		}
		_, err = cache.Import(context.Background(), "2", file, imagecache.ImportOptions{Progress: stop})
		wants(t, err, imagecache.ErrSource, enough)
		_, err = cache.Import(ended, "2", file, imagecache.ImportOptions{})
		wants(t, err, imagecache.ErrSource, context.Canceled)

		// A pipe whose writer never writes.
		from, to, err := os.Pipe()
		check(t, err)
		defer from.Close()
		defer to.Close()
		expired, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_, err = cache.Import(expired, "3", from, imagecache.ImportOptions{})
		wants(t, err, imagecache.ErrSource, context.DeadlineExceeded)
	})
}

func TestVerifyFindsDamageAndCanBeStopped(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		ctx := context.Background()
		for _, id := range []string{"1", "2", "damaged"} {
			cacheImage(t, cache, id, pattern(1000))
		}
		reader := must(cache.OpenForRead("damaged"))(t)
		damage := must(os.OpenFile(reader.Path(), os.O_WRONLY, 0))(t)
		must(damage.WriteAt([]byte{0, 0, 0}, 500))(t)
		check(t, damage.Close())
		check(t, reader.Close())
		var seen []string
		result := must(cache.VerifyAll(ctx, imagecache.VerifyOptions{Progress: func(id string, done, total uint64) error {
			if done == total {
				seen = append(seen, id)
			}
			return nil
		}}))(t)
		equal(t, "verified", result.Verified, 2)
		equal(t, "failed", result.Failed, 1)
		if len(seen) < 3 || result.BytesRead < 3000 {
			t.Errorf("seen: %v, %+v", seen, result)
		}
		equal(t, "verified", must(cache.Verify(ctx, "1", imagecache.VerifyOptions{}))(t).Verified, 1)
		equal(t, "skipped", must(cache.Verify(ctx, "1", imagecache.VerifyOptions{SkipVerifiedWithin: time.Hour}))(t).Skipped, 1)
		_, err := cache.Verify(ctx, "damaged", imagecache.VerifyOptions{})
		wants(t, err, imagecache.ErrNotFound)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		result, err = cache.VerifyAll(ended, imagecache.VerifyOptions{})
		wants(t, err, context.Canceled)
		equal(t, "stopped", result.Stopped, true)
		_, err = cache.VerifyAll(ctx, imagecache.VerifyOptions{SkipVerifiedWithin: -1})
		wants(t, err, imagecache.ErrInvalidArgument)
	})
}

func TestWaitCachedWaitsForTheWriter(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		equal(t, "nobody writes it", must(cache.WaitCached(context.Background(), "1"))(t), false)
		writer := must(cache.BeginWrite("1"))(t)
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		_, err := cache.WaitCached(ctx, "1")
		wants(t, err, imagecache.ErrTimedOut, context.DeadlineExceeded, os.ErrDeadlineExceeded)
		waiting, cancelWaiting := context.WithCancel(context.Background())
		canceled := make(chan error)
		go func() {
			_, err := cache.WaitCached(waiting, "1")
			canceled <- err
		}()
		cancelWaiting()
		wants(t, <-canceled, context.Canceled)
		cached := make(chan bool)
		go func() { cached <- must(cache.WaitCached(context.Background(), "1"))(t) }()
		check(t, writer.Commit())
		equal(t, "cached", <-cached, true)
	})
}

func TestStreamsShareAFetch(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		data := pattern(3_000_000)
		var calls int
		source := imagecache.ReaderAtFunc(func(p []byte, offset int64) (int, error) {
			calls++
			return bytes.NewReader(data).ReadAt(p, offset)
		})
		fetching := must(cache.OpenStream("1", source))(t)
		defer fetching.Close()
		following := must(cache.OpenStream("1", panics{}))(t) // its source is not needed
		defer following.Close()
		for _, stream := range []*imagecache.Stream{fetching, following} {
			check(t, stream.ExpectSize(uint64(len(data))))
			check(t, stream.SetTimeout(time.Hour))
			check(t, stream.SetSourceTimeout(time.Hour))
			wants(t, stream.SetTimeout(-1), imagecache.ErrInvalidArgument)
			wants(t, stream.SetSourceTimeout(0), imagecache.ErrInvalidArgument)
		}
		must(fetching.Read(make([]byte, 1)))(t)
		equal(t, "role", fetching.Role(), imagecache.Fetching)
		same(t, "fetched", must(io.ReadAll(fetching))(t), data[1:])
		equal(t, "available", fetching.Available(), uint64(len(data)))
		same(t, "followed", must(io.ReadAll(following))(t), data)
		if role := following.Role(); role != imagecache.Cached && role != imagecache.Following {
			t.Errorf("its role is %v", role)
		}
		if calls > len(data)/65536+2 {
			t.Errorf("%d calls of the source", calls)
		}
		wants(t, fetching.ExpectSize(1), imagecache.ErrInvalidArgument) // after the first read
	})
}

func TestAReadThatNobodyServesTimesOutAndCanBeRepeated(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		writer := must(cache.BeginWrite("1"))(t)
		must(writer.Write([]byte("half")))(t)
		stream := must(cache.OpenStream("1", panics{}))(t)
		defer stream.Close()
		check(t, stream.SetTimeout(time.Millisecond))
		buffer := make([]byte, 8)
		n := must(stream.Read(buffer))(t)
		equal(t, "the bytes that are there", string(buffer[:n]), "half")
		n = must(stream.ReadPart(buffer, 1))(t)
		equal(t, "a part of them", string(buffer[:n]), "alf")
		_, err := stream.Read(buffer)
		wants(t, err, imagecache.ErrTimedOut, os.ErrDeadlineExceeded)
		equal(t, "a time-out", os.IsTimeout(err), true)
		must(writer.Write([]byte("done")))(t)
		check(t, writer.Commit())
		equal(t, "the rest", string(must(io.ReadAll(stream))(t)), "done")
		must(stream.ReadAt(buffer, 0))(t)
		equal(t, "all bytes", string(buffer), "halfdone")
	})
}

func TestCloseWaitsForCallsInProgress(t *testing.T) {
	withEachDriver(t, func(t *testing.T, cache *imagecache.Cache) {
		must(cache.QueueImage("1"))(t)
		began, goOn, done := make(chan bool), make(chan bool), make(chan error)
		go func() {
			_, err := cache.Prefetch(context.Background(), func(_ context.Context, _ string, writer *imagecache.Writer) error {
				began <- true
				<-goOn
				_, err := writer.Write([]byte("1"))
				return err
			})
			done <- err
		}()
		<-began
		closed := make(chan error)
		go func() { closed <- cache.Close() }()
		for { // until the close has begun
			if _, err := cache.IsCached("1"); isClosed(err) {
				break
			}
			runtime.Gosched()
		}
		select {
		case <-closed:
			t.Error("the close did not wait")
		default:
		}
		close(goOn)
		check(t, <-done)
		check(t, <-closed)
	})
}
