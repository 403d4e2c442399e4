// The module has all of the installed header: each function, each constant, each field.

package imagecache_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"imagecache"
)

func header(t *testing.T) string {
	t.Helper()
	directory, err := exec.Command("pkg-config", "--variable=includedir", "image_cache").Output()
	check(t, err)
	// pkg-config escapes blanks.
	path := filepath.Join(strings.ReplaceAll(strings.TrimSpace(string(directory)), `\ `, " "), "image_cache.h")
	return string(must(os.ReadFile(path))(t))
}

// all are the first groups of all matches.
func all(t *testing.T, pattern, text string, atLeast int) []string {
	t.Helper()
	var found []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	if len(found) < atLeast {
		t.Fatalf("%d matches of %s, and should be at least %d", len(found), pattern, atLeast)
	}
	return found
}

// used are the C names that the sources of the module use.
func used(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	packages := must(parser.ParseDir(token.NewFileSet(), ".", nil, 0))(t)
	for _, file := range packages["imagecache"].Files {
		ast.Inspect(file, func(node ast.Node) bool {
			if selector, is := node.(*ast.SelectorExpr); is {
				if name, is := selector.X.(*ast.Ident); is && name.Name == "C" {
					names[selector.Sel.Name] = true
				}
			}
			return true
		})
	}
	bridge := string(must(os.ReadFile("bridge.c"))(t))
	for _, name := range all(t, `\b(image_cache_[a-z_]+)\(`, bridge, 10) {
		names[name] = true
	}
	return names
}

func TestEachFunctionOfTheHeaderIsUsed(t *testing.T) {
	used := used(t)
	for _, function := range all(t, `(?m)^[a-z].*[ *](image_cache_[a-z0-9_]+)\(`, header(t), 80) {
		if !used[function] {
			t.Errorf("no Go function calls %s", function)
		}
	}
}

func TestEachConstantOfTheHeaderIsUsed(t *testing.T) {
	used := used(t)
	for _, constant := range all(t, `(?m)^#define (IMAGE_CACHE_[A-Z0-9_]+) `, header(t), 40) {
		if !used[constant] {
			t.Errorf("no Go constant is %s", constant)
		}
	}
}

func TestEachFieldOfTheHeaderIsInItsStruct(t *testing.T) {
	structs := map[string]any{
		"entry": imagecache.Image{}, "usage": imagecache.Usage{}, "statistics": imagecache.Statistics{},
		"verify_options": imagecache.VerifyOptions{}, "verify_result": imagecache.Verified{},
		"export_options": imagecache.ExportOptions{}, "import_options": imagecache.ImportOptions{}, "error": imagecache.Error{},
	}
	names := map[string]string{"image_id": "ID", "os_error": "Errno", "user_data": "Progress", "skip_seconds": "SkipVerifiedWithin"}
	header := header(t)
	for _, name := range all(t, `(?m)^typedef struct image_cache_([a-z_]+)_t \{`, header, 8) {
		known, has := structs[name]
		if !has {
			t.Errorf("no Go type is image_cache_%s_t", name)
			continue
		}
		_, body, _ := strings.Cut(header, "typedef struct image_cache_"+name+"_t {")
		body, _, _ = strings.Cut(body, "\n}")
		for _, field := range all(t, `(?m)^  [a-z].*[ *]([a-z0-9_]+)(?:\[\d+\])?;`, body, 3) {
			wanted, isNamed := names[field]
			if !isNamed {
				wanted = strings.ReplaceAll(field, "_", "")
			}
			_, is := reflect.TypeOf(known).FieldByNameFunc(func(name string) bool { return strings.EqualFold(name, wanted) })
			if !is {
				t.Errorf("%T has no field for %s", known, field)
			}
		}
	}
}

func TestTheHeaderIsThatOfTheLibrary(t *testing.T) {
	compiled := uint32(imagecache.VersionMajor<<16 | imagecache.VersionMinor<<8 | imagecache.VersionPatch)
	equal(t, "the version", imagecache.VersionNumber(), compiled)
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(imagecache.Version()) {
		t.Errorf("the version is %q", imagecache.Version())
	}
}
