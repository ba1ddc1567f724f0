//go:build !linux

package evidence

// measure gives the way to look how much room the volume of a directory has. It is known on Linux
// only, where the manager runs.
func measure(string) func() (Space, error) { return nil }
