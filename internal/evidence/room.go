package evidence

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/firebreak-dev/firebreak/internal/action"
)

// Whoever makes many alerts has much collected. A volume that is full takes no timeline of any
// incident any more, and no journal of what retention would delete to make room. So a part of it
// is kept from what playbooks collect.

// bytesPerFile is for how many bytes a volume has one file, where nobody has chosen otherwise:
// many small files use it up before its bytes.
const bytesPerFile = 16 << 10

// Reserve is how much of a volume is kept from what playbooks collect: never more than half.
// The zero value keeps nothing.
type Reserve struct {
	bytes   int64
	percent int64
}

// ParseReserve reads a reserve: an amount such as '256Mi', or a part of the volume such as '10%'.
func ParseReserve(text string) (Reserve, error) {
	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseInt(number, 10, 64)
		if err != nil || percent < 0 || percent > 50 {
			return Reserve{}, fmt.Errorf("'%s': a part of the volume must be '0%%' to '50%%', in whole percents", text)
		}
		return Reserve{percent: percent}, nil
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil || quantity.Sign() < 0 || quantity.CmpInt64(math.MaxInt64) > 0 {
		return Reserve{}, fmt.Errorf("'%s': must be an amount of bytes such as '256Mi', a part of the volume such as '10%%', or '0'", text)
	}
	return Reserve{bytes: quantity.Value()}, nil
}

// of gives how much of a volume, or of its files, is kept.
func (r Reserve) of(total, bytes int64) int64 {
	return min(bytes+total/100*r.percent, total/2)
}

// Space is how large a volume is, and what is left of it.
type Space struct {
	// Bytes is the volume's size; 0 where it does not say.
	Bytes int64
	// FreeBytes is what is left for the manager.
	FreeBytes int64
	// Files is how many files it can hold; 0 where it does not say.
	Files int64
	// FreeFiles is how many more it can.
	FreeFiles int64
}

// NoRoomError says that nothing more is collected, because what is left is kept for the records.
type NoRoomError struct {
	// Free is how much is left, and Reserve how much of that is kept.
	Free, Reserve int64
	// Files says that these are files, and not bytes.
	Files bool
}

// Error says what is full, and what can be done.
func (e *NoRoomError) Error() string {
	free, reserve := amount(e.Free), amount(e.Reserve)
	if e.Files {
		free, reserve = fmt.Sprintf("room for %d files", e.Free), strconv.FormatInt(e.Reserve, 10)
	}
	return fmt.Sprintf("the evidence volume has %s left, and %s are kept for timelines and undo records (--evidence-reserve): "+
		"the volume must be larger, or evidence go earlier (the plan's `retention.evidence`)", free, reserve)
}

// Is makes it action.ErrNoRoom.
func (e *NoRoomError) Is(target error) bool { return target == action.ErrNoRoom }

// amount writes bytes in the largest unit of which there are at least ten.
func amount(bytes int64) string {
	for _, unit := range []struct {
		bits int
		name string
	}{{30, "Gi"}, {20, "Mi"}, {10, "Ki"}} {
		if bytes >= 10<<unit.bits {
			return strconv.FormatInt(bytes>>unit.bits, 10) + unit.name
		}
	}
	return strconv.FormatInt(bytes, 10)
}

// room lets collect what leaves the reserve alone. Those who collect at the same time know of
// each other: what one was granted counts as used until it is written.
type room struct {
	reserve Reserve
	// left looks how much there is. Nil means that the store has no limit that is known.
	left func() (Space, error)

	mu      sync.Mutex
	granted int64
}

// grant reserves bytes that are about to be written, until the function it gives is called. It is
// never nil. A room that is nil grants everything.
func (r *room) grant(bytes int64) (written func(), err error) {
	if r == nil || r.left == nil || r.reserve == (Reserve{}) {
		return func() {}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := r.left()
	if err != nil {
		return func() {}, fmt.Errorf("how much room the evidence volume has could not be read: %w", err)
	}
	if keep := r.reserve.of(now.Bytes, r.reserve.bytes); now.Bytes > 0 && now.FreeBytes-r.granted-bytes < keep {
		return func() {}, &NoRoomError{Free: max(now.FreeBytes-r.granted, 0), Reserve: keep}
	}
	if keep := r.reserve.of(now.Files, r.reserve.bytes/bytesPerFile); now.Files > 0 && now.FreeFiles <= keep {
		return func() {}, &NoRoomError{Free: now.FreeFiles, Reserve: keep, Files: true}
	}
	r.granted += bytes
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.granted -= bytes
	}), nil
}

// rationed reads as long as there is room for what is read. Who reads it writes what one Read has
// given before the next.
type rationed struct {
	from    io.Reader
	room    *room
	written func()
}

func (r *rationed) Read(into []byte) (int, error) {
	r.done()
	written, err := r.room.grant(int64(len(into)))
	if err != nil {
		return 0, err
	}
	r.written = written
	return r.from.Read(into)
}

func (r *rationed) done() {
	if r.written != nil {
		r.written()
	}
}

// KeepFree keeps a part of the volume from what is stored by Collect. A store that is on no
// volume, or on one that cannot be measured, has none to keep. It is called before the store is used.
func (s *Store) KeepFree(reserve Reserve) { s.room.reserve = reserve }

// MeasureBy has a function look how much room there is, in place of the operating system: for
// tests. It is called before the store is used.
func (s *Store) MeasureBy(left func() (Space, error)) { s.room.left = left }

// Collectors are the metrics of the store's volume; none where it is on none.
func (s *Store) Collectors() []prometheus.Collector {
	if s.room.left == nil {
		return nil
	}
	gauge := func(name, help string, value func(Space) int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			now, err := s.room.left()
			if err != nil {
				return math.NaN()
			}
			return float64(value(now))
		})
	}
	return []prometheus.Collector{
		gauge("firebreak_evidence_free_bytes", "Bytes that are left on the volume of the evidence store.", func(now Space) int64 { return now.FreeBytes }),
		gauge("firebreak_evidence_free_files", "Files for which there is room on the volume of the evidence store; 0 where it does not say.", func(now Space) int64 { return now.FreeFiles }),
		gauge("firebreak_evidence_reserve_bytes", "Bytes of the volume that are kept for timelines and undo records: with fewer left nothing is collected.",
			func(now Space) int64 { return s.room.reserve.of(now.Bytes, s.room.reserve.bytes) }),
	}
}
