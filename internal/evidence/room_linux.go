package evidence

import (
	"fmt"
	"math"
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
	if count > math.MaxInt64/size {
		return math.MaxInt64
	}
	return int64(count * size)
}
