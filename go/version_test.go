// A library that is older than the header is refused.

package imagecache

import (
	"errors"
	"strings"
	"testing"
)

func TestALibraryThatIsOlderThanTheHeaderIsRefused(t *testing.T) {
	for _, version := range []uint32{VersionNumber(), VersionNumber() + 1, 0xffffff} {
		if err := notOlder(version); err != nil {
			t.Errorf("%x: %v", version, err)
		}
	}
	err := notOlder(0x000005)
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "version 0.0.5, and older") {
		t.Errorf("the error is %v", err)
	}
}
