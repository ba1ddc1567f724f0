// Package evidence preserves evidence (ISO/IEC 27002:2022, 5.28): first the bytes, in a
// store that keeps them under their digest and writes them once, then the Evidence that
// names them.
package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
	"k8s.io/apimachinery/pkg/types"
)

// DigestPrefix begins every digest.
const DigestPrefix = "sha256:"

var (
	// ErrNotStored says that the store has no bytes under a location.
	ErrNotStored = errors.New("the store has no such bytes")
	// ErrChanged says that the bytes in the store do not have the digest they must have.
	ErrChanged = errors.New("the bytes in the store were changed")
)

var (
	digestForm   = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	locationForm = regexp.MustCompile(`^[0-9a-zA-Z-]{1,63}/[0-9a-f]{64}$`)
)

// Store keeps bytes under their digest, apart for each response domain. What is stored
// is never changed.
type Store struct {
	bucket    *blob.Bucket
	directory string
	temporary string
	uses      uses
	room      room
}

// Stored says where bytes are and what they are.
type Stored struct {
	// Location is the key of the bytes: the UID of the namespace, a slash, and the
	// digest's hexadecimal digits.
	Location string
	// Digest is the SHA-256 of the bytes, as 'sha256:' and 64 hexadecimal digits.
	Digest string
	// SizeBytes is how many there are.
	SizeBytes int64
}

// OpenStore opens the store of a URL: 'file:///directory', which is made when it is not
// there, or 'mem://' for tests. Bytes wait in the directory temporary while their digest
// is not known; empty means the store's own directory, or the system's where it has
// none.
func OpenStore(_ context.Context, location, temporary string) (*Store, error) {
	parsed, err := url.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("evidence store '%s': must be a URL such as 'file:///var/lib/firebreak/evidence': %w", location, err)
	}
	store := &Store{temporary: temporary}
	switch parsed.Scheme {
	case memblob.Scheme:
		store.bucket = memblob.OpenBucket(nil)
		return store, store.writable()
	case fileblob.Scheme:
	default:
		return nil, fmt.Errorf("evidence store '%s': the scheme must be 'file' (or 'mem' in tests)", location)
	}
	if parsed.RawQuery != "" || (parsed.Host != "" && parsed.Host != "localhost") || !filepath.IsAbs(filepath.FromSlash(parsed.Path)) {
		return nil, fmt.Errorf("evidence store '%s': must be 'file://' and an absolute path, and nothing else", location)
	}
	store.directory = filepath.FromSlash(parsed.Path)
	if store.temporary == "" {
		store.temporary = store.directory
	}
	// Others who can log in to the node are no readers of evidence.
	store.bucket, err = fileblob.OpenBucket(store.directory, &fileblob.Options{
		CreateDir: true, DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite,
	})
	if err != nil {
		return nil, fmt.Errorf("evidence store '%s': %w", location, err)
	}
	store.room.left = measure(store.directory)
	return store, store.writable()
}

// writable finds out at the start, and not at the first incident, that nothing can be kept.
func (s *Store) writable() error {
	file, err := s.createTemporary()
	if err != nil {
		return fmt.Errorf("evidence store: its directory cannot be written: %w", err)
	}
	return file.Close()
}

// createTemporary makes a file without a name: it leaves nothing behind, not even after
// a SIGKILL.
func (s *Store) createTemporary() (*os.File, error) {
	file, err := os.CreateTemp(s.temporary, ".incoming-*")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(file.Name())
	return file, nil
}

// Close closes the store.
func (s *Store) Close() error { return s.bucket.Close() }

// Put stores bytes for a domain. They are there, on the disk, and have been read back
// when it returns.
func (s *Store) Put(ctx context.Context, domain types.UID, from io.Reader) (Stored, error) {
	held, err := s.PutHeld(ctx, domain, from)
	if err != nil {
		return Stored{}, err
	}
	held.Release()
	return held.Stored, nil
}

// Held are bytes that were stored, and that nobody in this process removes until they are
// released: once there is Evidence that names them.
type Held struct {
	Stored
	store   *Store
	file    *os.File
	release func()
}

// PutHeld does what Put does, and holds the bytes. The caller releases them.
func (s *Store) PutHeld(ctx context.Context, domain types.UID, from io.Reader) (*Held, error) {
	return s.put(ctx, domain, from, nil)
}

// Collect does what PutHeld does, and leaves alone what KeepFree keeps: a NoRoomError says that
// nothing else is left.
func (s *Store) Collect(ctx context.Context, domain types.UID, from io.Reader) (*Held, error) {
	return s.put(ctx, domain, from, &s.room)
}

// HasRoom gives the NoRoomError that Collect would at once.
func (s *Store) HasRoom() error {
	written, err := s.room.grant(0)
	written()
	return err
}

func (s *Store) put(ctx context.Context, domain types.UID, from io.Reader, within *room) (*Held, error) {
	file, err := s.createTemporary()
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	held := &Held{store: s, file: file, release: func() {}}
	if err := held.take(ctx, domain, from, within); err != nil {
		held.Release()
		return nil, err
	}
	return held, nil
}

func (h *Held) take(ctx context.Context, domain types.UID, from io.Reader, within *room) error {
	hash, ration := sha256.New(), &rationed{from: from, room: within}
	size, err := io.Copy(io.MultiWriter(h.file, hash), ration)
	ration.done()
	if err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	digits := hex.EncodeToString(hash.Sum(nil))
	h.Stored = Stored{Location: string(domain) + "/" + digits, Digest: DigestPrefix + digits, SizeBytes: size}
	if !locationForm.MatchString(h.Location) {
		return fmt.Errorf("evidence: '%s' is not the UID of a namespace", domain)
	}
	h.release = h.store.uses.hold(h.Location)
	return h.store.keep(ctx, h.Stored, h.file, within)
}

// Ensure stores the bytes once more where another process has removed them since. It is called when
// there is Evidence that names them: whoever begins to remove them after that sees it.
func (h *Held) Ensure(ctx context.Context) error {
	there, err := h.store.bucket.Exists(ctx, h.Location)
	if err != nil {
		return fmt.Errorf("evidence %s: %w", h.Location, err)
	}
	if there {
		return nil
	}
	return h.store.keep(ctx, h.Stored, h.file, nil)
}

// Release lets go of the bytes. Nil is none.
func (h *Held) Release() {
	if h != nil {
		h.release()
		_ = h.file.Close()
	}
}

// keep makes sure that bytes are stored under their digest.
func (s *Store) keep(ctx context.Context, stored Stored, file *os.File, within *room) error {
	// What is set aside does not count: it is about to be removed.
	err := check(ctx, s.open, stored)
	if err == nil || !errors.Is(err, ErrNotStored) && !errors.Is(err, ErrChanged) {
		return err
	}
	written, noRoom := within.grant(stored.SizeBytes)
	defer written()
	if noRoom != nil {
		return fmt.Errorf("evidence: %w", noRoom)
	}
	// Bytes that do not have the digest they are stored under are what a crash of the
	// node has left of an earlier write, or were tampered with: the right ones replace them.
	options := &blob.WriterOptions{ContentType: "application/octet-stream", IfNotExist: errors.Is(err, ErrNotStored)}
	if err := s.write(ctx, stored.Location, file, options); err != nil {
		return err
	}
	return check(ctx, s.open, stored)
}

func (s *Store) write(ctx context.Context, location string, file *os.File, options *blob.WriterOptions) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("evidence: %w", err)
	}
	err := s.bucket.Upload(ctx, location, file, options)
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		// Another has just stored the same bytes.
		err = nil
	}
	if err != nil {
		return fmt.Errorf("evidence %s: %w", location, err)
	}
	return s.sync(location)
}

// sync makes sure that the bytes and their name are on the disk.
func (s *Store) sync(location string) error {
	if s.directory == "" {
		return nil
	}
	path := filepath.Join(s.directory, filepath.FromSlash(location))
	for _, name := range []string{path, filepath.Dir(path), s.directory} {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("evidence %s: %w", location, err)
		}
		err = file.Sync()
		_ = file.Close()
		if err != nil {
			return fmt.Errorf("evidence %s: %w", location, err)
		}
	}
	return nil
}

// Open opens the bytes of a location. The caller closes them.
func (s *Store) Open(ctx context.Context, location string) (io.ReadCloser, error) {
	if !locationForm.MatchString(location) {
		return nil, fmt.Errorf("evidence: location '%s' must be the UID of a namespace, a slash, and 64 hexadecimal digits", location)
	}
	reader, err := s.open(ctx, location)
	if !errors.Is(err, ErrNotStored) {
		return reader, err
	}
	aside, failed := s.asides(ctx, asideKey(location))
	if failed != nil {
		return nil, failed
	}
	for _, key := range aside {
		if reader, failed := s.open(ctx, key); !errors.Is(failed, ErrNotStored) {
			return reader, failed
		}
	}
	// Or they were put back meanwhile.
	return s.open(ctx, location)
}

func (s *Store) open(ctx context.Context, key string) (io.ReadCloser, error) {
	reader, err := s.bucket.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("evidence %s: %w", key, ErrNotStored)
	}
	if err != nil {
		return nil, fmt.Errorf("evidence %s: %w", key, err)
	}
	return reader, nil
}

// Check reads the bytes of a location and says whether they have the digest: it gives
// ErrNotStored when there are none, and ErrChanged when they have another.
func (s *Store) Check(ctx context.Context, location, digest string) error {
	return check(ctx, s.Open, Stored{Location: location, Digest: digest})
}

func check(ctx context.Context, open func(context.Context, string) (io.ReadCloser, error), stored Stored) error {
	if !digestForm.MatchString(stored.Digest) {
		return fmt.Errorf("evidence: digest '%s' must be 'sha256:' and 64 hexadecimal digits", stored.Digest)
	}
	reader, err := open(ctx, stored.Location)
	if err != nil {
		return err
	}
	defer func() { _ = reader.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, reader); err != nil {
		return fmt.Errorf("evidence %s: %w", stored.Location, err)
	}
	if found := hex.EncodeToString(hash.Sum(nil)); found != strings.TrimPrefix(stored.Digest, DigestPrefix) {
		return fmt.Errorf("evidence %s: %w: they have digest sha256:%s, but must have %s", stored.Location, ErrChanged, found, stored.Digest)
	}
	return nil
}
