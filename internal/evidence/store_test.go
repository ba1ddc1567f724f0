package evidence

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
)

const (
	domain = types.UID("0c6a4f2e-0000-4000-8000-000000000001")
	// The SHA-256 of 'hello'.
	helloDigits = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
)

func open(t *testing.T, url string) *Store {
	t.Helper()
	store, err := OpenStore(t.Context(), url, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func filesIn(t *testing.T, directory string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(directory, path)
			files = append(files, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPutKeepsBytesUnderTheirDigest(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "deep", "evidence")
	for name, url := range map[string]string{"file": "file://" + directory, "mem": "mem://"} {
		t.Run(name, func(t *testing.T) {
			store := open(t, url)
			want := Stored{Location: string(domain) + "/" + helloDigits, Digest: "sha256:" + helloDigits, SizeBytes: 5}
			for range 2 {
				got, err := store.Put(t.Context(), domain, strings.NewReader("hello"))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("Put() (-want +got):\n%s", diff)
				}
			}
			reader, err := store.Open(t.Context(), want.Location)
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			if bytes, err := io.ReadAll(reader); err != nil || string(bytes) != "hello" {
				t.Errorf("read back %q, %v", bytes, err)
			}
		})
	}
	if diff := cmp.Diff([]string{string(domain) + "/" + helloDigits}, filesIn(t, directory)); diff != "" {
		t.Errorf("files in the store (-want +got):\n%s", diff)
	}
}

func TestPutKeepsDomainsApart(t *testing.T) {
	store := open(t, "mem://")
	for _, of := range []types.UID{domain, "0c6a4f2e-0000-4000-8000-000000000002"} {
		stored, err := store.Put(t.Context(), of, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if want := string(of) + "/" + helloDigits; stored.Location != want {
			t.Errorf("Put() stored at %q, want %q", stored.Location, want)
		}
	}
}

func TestPutLeavesNothingBehind(t *testing.T) {
	directory := t.TempDir()
	store := open(t, "file://"+directory)
	broken := errors.New("the node went away")
	if _, err := store.Put(t.Context(), domain, io.MultiReader(strings.NewReader("hel"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("Put() = %v, want the reader's error", err)
	}
	if _, err := store.Put(t.Context(), "../../escape", strings.NewReader("hello")); err == nil || !strings.Contains(err.Error(), "is not the UID of a namespace") {
		t.Errorf("Put() for a hostile domain = %v, want it refused", err)
	}
	if files := filesIn(t, directory); len(files) > 0 {
		t.Errorf("files left behind: %v", files)
	}
}

func TestCheckFindsWhatWasChanged(t *testing.T) {
	directory := t.TempDir()
	store := open(t, "file://"+directory)
	stored, err := store.Put(t.Context(), domain, strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directory, filepath.FromSlash(stored.Location))
	if err := os.WriteFile(path, []byte("jello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context(), stored.Location, stored.Digest); !errors.Is(err, ErrChanged) {
		t.Errorf("Check() of changed bytes = %v, want ErrChanged", err)
	}
	if _, err := store.Put(t.Context(), domain, strings.NewReader("hello")); err != nil {
		t.Errorf("Put() over what a crash has left: %v", err)
	}
	if err := store.Check(t.Context(), stored.Location, stored.Digest); err != nil {
		t.Errorf("Check() after storing anew = %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context(), stored.Location, stored.Digest); !errors.Is(err, ErrNotStored) {
		t.Errorf("Check() of missing bytes = %v, want ErrNotStored", err)
	}
	if err := store.Check(t.Context(), "../"+helloDigits, stored.Digest); err == nil || !strings.Contains(err.Error(), "must be the UID of a namespace") {
		t.Errorf("Check() of a hostile location = %v, want it refused", err)
	}
	if err := store.Check(t.Context(), stored.Location, "sha1:0"); err == nil || !strings.Contains(err.Error(), "must be 'sha256:'") {
		t.Errorf("Check() of another digest = %v, want it refused", err)
	}
}

func TestOpenStoreRefuses(t *testing.T) {
	for _, url := range []string{"", "s3://bucket", "file://relative/path", "file:///a?metadata=skip", "file:", ":"} {
		if _, err := OpenStore(t.Context(), url, ""); err == nil || !strings.Contains(err.Error(), "must be") {
			t.Errorf("OpenStore(%q) = %v, want it refused with what it must be", url, err)
		}
	}
}

func TestPutOfMuchUsesTheTemporaryDirectory(t *testing.T) {
	temporary := t.TempDir()
	store, err := OpenStore(t.Context(), "mem://", temporary)
	if err != nil {
		t.Fatal(err)
	}
	much := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	stored, err := store.Put(t.Context(), domain, bytes.NewReader(much))
	if err != nil || stored.SizeBytes != 1<<20 {
		t.Fatalf("Put() = %+v, %v", stored, err)
	}
	if files := filesIn(t, temporary); len(files) > 0 {
		t.Errorf("files left behind: %v", files)
	}
	if _, err := OpenStore(t.Context(), "mem://", filepath.Join(temporary, "missing")); err == nil || !strings.Contains(err.Error(), "cannot be written") {
		t.Errorf("OpenStore() with a temporary directory that is missing = %v, want it refused", err)
	}
}
