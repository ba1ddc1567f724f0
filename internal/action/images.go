package action

import (
	"fmt"
	"slices"
	"strings"
)

// splitImage parts an image's name into its repository and the rest, which begins with
// ':' or '@'.
func splitImage(image string) (repository, rest string) {
	repository = image
	if at := strings.Index(repository, "@"); at >= 0 {
		repository = repository[:at]
	}
	// A colon before the last slash is a port.
	if colon := strings.LastIndex(repository, ":"); colon > strings.LastIndex(repository, "/") {
		repository = repository[:colon]
	}
	return repository, image[len(repository):]
}

// spellings are the names by which one repository can be called: the registry of Docker
// may be left out.
func spellings(repository string) []string {
	host, path, found := strings.Cut(repository, "/")
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, path = "docker.io", repository
	}
	if host != "docker.io" && host != "index.docker.io" {
		return []string{repository}
	}
	path = strings.TrimPrefix(path, "library/")
	names := []string{"docker.io/" + path, "index.docker.io/" + path, path}
	if !strings.Contains(path, "/") {
		names = append(names, "docker.io/library/"+path, "index.docker.io/library/"+path, "library/"+path)
	}
	slices.Sort(names)
	return names
}

// celString writes a text as a literal of CEL: whatever it holds, it is nothing but text.
func celString(text string) string {
	var literal strings.Builder
	literal.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			literal.WriteByte('\\')
			literal.WriteRune(r)
		case r >= ' ' && r <= '~':
			literal.WriteRune(r)
		case r <= 0xFFFF:
			_, _ = fmt.Fprintf(&literal, `\u%04X`, r)
		default:
			_, _ = fmt.Fprintf(&literal, `\U%08X`, r)
		}
	}
	literal.WriteByte('"')
	return literal.String()
}
