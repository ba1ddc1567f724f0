package bench

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc.
const tick = 10 * time.Millisecond

// cpu is the processor time that this process and those it has started have used, by
// name. Unlike what a clock says it does not depend on how busy the machine is. It is
// empty where there is no /proc.
type cpu map[string]time.Duration

func cpuNow() cpu {
	used := cpu{}
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return used
	}
	own := strconv.Itoa(os.Getpid())
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name stands in brackets and may hold anything.
		pid, rest, _ := strings.Cut(string(content), " (")
		end := strings.LastIndex(rest, ") ")
		if end < 0 {
			continue
		}
		fields := strings.Fields(rest[end+2:])
		const parent, user, system = 1, 11, 12
		if len(fields) <= system || pid != own && fields[parent] != own {
			continue
		}
		for _, field := range []string{fields[user], fields[system]} {
			if ticks, err := strconv.ParseInt(field, 10, 64); err == nil {
				used[rest[:end]] += time.Duration(ticks) * tick
			}
		}
	}
	return used
}

// since gives what was used after an earlier time.
func (c cpu) since(earlier cpu) cpu {
	used := cpu{}
	for name, total := range c {
		if more := total - earlier[name]; more > 0 {
			used[name] = more
		}
	}
	return used
}

// plus gives what was used in both of two times.
func (c cpu) plus(other cpu) cpu {
	used := maps.Clone(other)
	for name, total := range c {
		used[name] += total
	}
	return used
}

// each says what one of a number of things has used.
func (c cpu) each(count int) string {
	if len(c) == 0 || count == 0 {
		return "unknown"
	}
	total := time.Duration(0)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(c)) {
		total += c[name]
		parts = append(parts, name+" "+milliseconds(c[name]/time.Duration(count)))
	}
	return fmt.Sprintf("%s (%s)", milliseconds(total/time.Duration(count)), strings.Join(parts, ", "))
}
