package evidence

import (
	"fmt"
	"math"
	"math/bits"
	"syscall"
)

// measure gives the way to look how much room the volume of a directory has.
func measure(directory string) func() (Space, error) {
	return func() (Space, error) {
		var found syscall.Statfs_t
		if err := syscall.Statfs(directory, &found); err != nil {
			return Space{}, fmt.Errorf("statfs %s: %w", directory, err)
		}
		block := uint64(max(found.Bsize, 1))
		return Space{
			Bytes: bounded(found.Blocks, block), FreeBytes: bounded(found.Bavail, block),
			Files: bounded(found.Files, 1), FreeFiles: bounded(found.Ffree, 1),
		}, nil
	}
}

func bounded(count, size uint64) int64 {
	more, product := bits.Mul64(count, size)
	if more > 0 || product > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(product)
}
