package manifest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// extensions are those of the files that kubectl takes from a directory.
var extensions = []string{".yaml", ".yml", ".json"}

// found is a file to read.
type found struct {
	name string
	// maybe says that nobody named it, and that it is as likely something else: much of
	// what is JSON is no object of Kubernetes.
	maybe bool
}

// filesOf gives a file itself, and of a directory the manifests in and below it, but for what
// is hidden. Links are followed, but for those back to where they are.
func (s *Set) filesOf(path string) ([]found, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []found{{name: path}}, err
	}
	root, err := placeOf(path)
	if err != nil {
		return nil, err
	}
	w := &walk{set: s, seen: map[string]bool{}}
	// Nobody means what is around the folder by a link that leads up from it.
	for up := filepath.Dir(root); up != root && !w.seen[up]; up = filepath.Dir(up) {
		w.seen[up] = true
	}
	err = w.folder(path, root)
	return w.files, err
}

// placeOf is where a path really leads, by whatever name.
func placeOf(path string) (string, error) {
	place, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(place)
}

// walk is a way through a directory.
type walk struct {
	set   *Set
	files []found
	seen  map[string]bool // directories, by where they really are
}

// folder finds the files of a directory that is really at a place.
func (w *walk) folder(path, place string) error {
	if w.seen[place] {
		return nil
	}
	w.seen[place] = true
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if err := w.entry(filepath.Join(path, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(name string) error {
	extension := filepath.Ext(name)
	wanted := slices.Contains(extensions, extension)
	place, err := placeOf(name)
	if err != nil {
		if wanted { // whatever else leads nowhere is no manifest
			w.set.problem(name, 1, "the symbolic link leads nowhere: it must lead to a file")
		}
		return nil
	}
	info, err := os.Stat(place)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return w.folder(name, place)
	case wanted && info.Mode().IsRegular():
		w.files = append(w.files, found{name: name, maybe: extension == ".json"})
	}
	return nil
}
