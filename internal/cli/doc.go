// Package cli holds the commands of `kubectl firebreak`. Whatever they do can be done
// with plain kubectl as well: people decide by creating Decisions, and everything shown
// here stands in the objects.
package cli
