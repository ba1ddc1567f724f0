package manifest

import (
	"slices"
	"strings"
)

// maxName is how long a name may be to be compared, and maxSlips how many letters a slip of the
// hand makes wrong.
const maxName, maxSlips = 128, 2

// Nearest is the name of the known ones that was most likely meant; empty when none is near.
func Nearest(name string, known []string) string {
	best, distance := "", len(name)/3+1
	if len(name) > maxName {
		return ""
	}
	for _, other := range known {
		if len(other) > maxName || other == name {
			continue
		}
		if d := edits(name, other); d <= distance && (best == "" || d < distance) {
			best, distance = other, d
		}
	}
	return best
}

// Misspelt gives the known name that another is by a slip of the hand; empty when none is. Names
// that differ by what tells things apart, a number, or something at the end, are none.
func Misspelt(name string, known []string) string {
	digits := func(text string) string {
		return strings.Map(func(r rune) rune {
			if r < '0' || r > '9' {
				return -1
			}
			return r
		}, text)
	}
	return Nearest(name, slices.DeleteFunc(slices.Clone(known), func(other string) bool {
		return len(other) > maxName || len(name) > maxName || edits(name, other) > maxSlips || digits(name) != digits(other) ||
			strings.HasPrefix(name, other) || strings.HasPrefix(other, name)
	}))
}

// edits is how many letters must be changed, added, taken out or swapped with the next to
// make one name of the other, whatever their case.
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if lower(a[i-1]) == lower(b[j-1]) {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
