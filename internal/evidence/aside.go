package evidence

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// asidePrefix begins the keys of bytes that are about to be removed: the domain, the digits and
// who removes them follow, with dots between.
const asidePrefix = "removing/"

// Remove removes the bytes of locations that nothing refers to: those of the ones it is asked for
// that referred does not give. What is stored anew meanwhile stays, and what is not there is no
// error.
//
// Another manager may store the same bytes at the same time, if this one leads no more and does
// not know it. So they are set aside, under a name that nobody else uses, and it is asked once
// more who refers to them. Whoever made Evidence of them before that is seen, and they are put
// back; whoever does later looks after that whether they are still there (Held.Ensure), and stores
// them again.
func (s *Store) Remove(ctx context.Context, locations []string, referred func(context.Context, []string) (map[string]bool, error)) error {
	for _, location := range locations {
		if !locationForm.MatchString(location) {
			return fmt.Errorf("evidence: location '%s' must be the UID of a namespace, a slash, and 64 hexadecimal digits", location)
		}
	}
	doomed := s.uses.doom(locations)
	defer s.uses.spare(doomed)
	if len(doomed) == 0 {
		return nil
	}
	kept, err := referred(ctx, doomed)
	if err != nil {
		return err
	}
	by, domains := rand.Text(), map[string]bool{}
	for _, location := range doomed {
		domain, _, _ := strings.Cut(location, "/")
		domains[domain] = true
		if kept[location] {
			continue
		}
		if err := s.setAside(ctx, location, by); err != nil {
			return fmt.Errorf("evidence %s: removing it: %w", location, err)
		}
	}
	aside := map[string][]string{}
	for domain := range domains {
		// Also what one has left that was killed.
		keys, err := s.asides(ctx, asidePrefix+domain+".")
		if err != nil {
			return err
		}
		for _, key := range keys {
			aside[asideOf(key)] = append(aside[asideOf(key)], key)
		}
	}
	return s.settle(ctx, aside, referred)
}

// settle removes what was set aside, or puts it back where something refers to it by now.
func (s *Store) settle(ctx context.Context, aside map[string][]string, referred func(context.Context, []string) (map[string]bool, error)) error {
	if len(aside) == 0 {
		return nil
	}
	kept, err := referred(ctx, slices.Sorted(maps.Keys(aside)))
	if err != nil {
		return err
	}
	for location, keys := range aside {
		for _, key := range keys {
			if kept[location] {
				err = s.move(ctx, key, location)
			} else {
				err = s.drop(ctx, key)
			}
			if err != nil {
				return fmt.Errorf("evidence %s: removing it: %w", location, err)
			}
		}
	}
	return nil
}

// Recover puts back the bytes of a location that somebody has set aside.
func (s *Store) Recover(ctx context.Context, location string) error {
	keys, err := s.asides(ctx, asideKey(location))
	for _, key := range keys {
		err = errors.Join(err, s.move(ctx, key, location))
	}
	if err != nil {
		return fmt.Errorf("evidence %s: %w", location, err)
	}
	return nil
}

// setAside sets aside the bytes of a location that is doomed still. Who stores the same bytes waits.
func (s *Store) setAside(ctx context.Context, location, by string) error {
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	if !s.uses.doomed[location] {
		return nil
	}
	return s.move(ctx, location, asideKey(location)+by)
}

func asideKey(location string) string {
	return asidePrefix + strings.ReplaceAll(location, "/", ".") + "."
}

// asideOf is the location of which bytes were set aside under a key.
func asideOf(key string) string {
	domain, rest, _ := strings.Cut(strings.TrimPrefix(key, asidePrefix), ".")
	digits, _, _ := strings.Cut(rest, ".")
	return domain + "/" + digits
}

// asides are the keys of what was set aside that begin so.
func (s *Store) asides(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	list := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		object, err := list.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return keys, nil
		case err != nil:
			return nil, fmt.Errorf("evidence: looking for what was set aside in '%s': %w", prefix, err)
		}
		keys = append(keys, object.Key)
	}
}

// move gives bytes another key. What is not there any more, or was never, is no error. On a disk it
// takes no room, for it may be full.
func (s *Store) move(ctx context.Context, from, to string) error {
	if s.directory == "" {
		err := s.bucket.Copy(ctx, to, from, nil)
		if err == nil {
			err = s.bucket.Delete(ctx, from)
		}
		if gcerrors.Code(err) == gcerrors.NotFound {
			return nil
		}
		return err
	}
	source, target := s.path(from), s.path(to)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	if err := os.Rename(source, target); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return errors.Join(syncDirectory(filepath.Dir(target)), syncDirectory(filepath.Dir(source)))
}

// drop removes what was set aside.
func (s *Store) drop(ctx context.Context, key string) error {
	if err := s.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return err
	}
	if s.directory == "" {
		return nil
	}
	return syncDirectory(filepath.Dir(s.path(key)))
}

func (s *Store) path(key string) string {
	return filepath.Join(s.directory, filepath.FromSlash(key))
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
