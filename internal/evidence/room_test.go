package evidence

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

func reserveOf(t *testing.T, text string) Reserve {
	t.Helper()
	reserve, err := ParseReserve(text)
	if err != nil {
		t.Fatal(err)
	}
	return reserve
}

func TestParseReserve(t *testing.T) {
	const volume = 1000 << 20
	for text, want := range map[string]int64{
		"0": 0, "0%": 0, "256Mi": 256 << 20, "1048576": 1 << 20, "10%": 100 << 20, "50%": 500 << 20,
		"2Gi": 500 << 20, // no more than half
	} {
		if reserve, err := ParseReserve(text); err != nil || reserve.of(volume, reserve.bytes) != want {
			t.Errorf("'%s' keeps %d of %d (error %v), want %d", text, reserve.of(volume, reserve.bytes), volume, err, want)
		}
	}
	for _, text := range []string{"", "%", "51%", "-1%", "1.5%", "-1", "much", "1e30"} {
		if _, err := ParseReserve(text); err == nil || !strings.Contains(err.Error(), "must be") {
			t.Errorf("'%s': got the error %v, want one that says what it must be", text, err)
		}
	}
}

func TestGrant(t *testing.T) {
	for name, one := range map[string]struct {
		reserve string
		left    Space
		err     error
		granted int64
		want    string
	}{
		"enough":                  {reserve: "100", left: Space{Bytes: 1000, FreeBytes: 150}},
		"just not enough":         {reserve: "100", left: Space{Bytes: 1000, FreeBytes: 149}, want: "has 149 left, and 100 are kept for timelines"},
		"nothing is kept":         {reserve: "0", left: Space{Bytes: 1000}},
		"others are writing":      {reserve: "100", left: Space{Bytes: 1000, FreeBytes: 190}, granted: 41, want: "has 149 left"},
		"half of a small volume":  {reserve: "256Mi", left: Space{Bytes: 1000, FreeBytes: 550}},
		"a size nobody tells":     {reserve: "100", left: Space{}},
		"in units":                {reserve: "256Mi", left: Space{Bytes: 10 << 30, FreeBytes: 255 << 20}, want: "has 255Mi left, and 256Mi are kept"},
		"files":                   {reserve: "256Mi", left: Space{Bytes: 10 << 30, FreeBytes: 9 << 30, Files: 655360, FreeFiles: 16384}, want: "has room for 16384 files left, and 16384 are kept"},
		"enough files":            {reserve: "256Mi", left: Space{Bytes: 10 << 30, FreeBytes: 9 << 30, Files: 655360, FreeFiles: 16385}},
		"a part, of files too":    {reserve: "10%", left: Space{Bytes: 10 << 30, FreeBytes: 9 << 30, Files: 1000, FreeFiles: 100}, want: "has room for 100 files left"},
		"it cannot be looked at":  {reserve: "100", err: errors.New("input/output error"), want: "could not be read: input/output error"},
		"a store without a limit": {reserve: "100"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &room{reserve: reserveOf(t, one.reserve), granted: one.granted}
			if one.left != (Space{}) || one.err != nil || name == "a size nobody tells" {
				r.left = func() (Space, error) { return one.left, one.err }
			}
			written, err := r.grant(50)
			if one.want == "" && err != nil || one.want != "" && (err == nil || !strings.Contains(err.Error(), one.want)) {
				t.Errorf("got the error %v, want %q", err, one.want)
			}
			written()
			if written(); r.granted != one.granted {
				t.Errorf("%d bytes stay granted once they are written, want %d", r.granted, one.granted)
			}
		})
	}
}

// volume is a fake volume on which a store is: what is stored, and what waits to be, takes room.
type volume struct{ free int64 }

func (v *volume) left() (Space, error) { return Space{Bytes: 100_000, FreeBytes: v.free}, nil }

// fills takes room on the volume as it is read, as the copy of it on the volume does.
type fills struct {
	*volume
	from io.Reader
}

func (f fills) Read(into []byte) (int, error) {
	count, err := f.from.Read(into)
	f.free -= int64(count)
	return count, err
}

// TestCollectLeavesTheReserve: what is collected never takes the reserve, at the beginning, in
// the middle, nor with the copy that is kept; what Firebreak records may.
func TestCollectLeavesTheReserve(t *testing.T) {
	const large = 60_000
	for name, one := range map[string]struct {
		free  int64
		keeps bool
	}{
		"room for both copies": {free: 10_000 + 2*large, keeps: true},
		"room for one copy":    {free: 10_000 + 32<<10 + large},
		"room for a part":      {free: 10_000 + 32<<10 + large/2},
		"none":                 {free: 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			store, disk := open(t, "file://"+directory), &volume{free: one.free}
			store.MeasureBy(disk.left)
			store.KeepFree(reserveOf(t, "10000"))
			held, err := store.Collect(t.Context(), domain, fills{disk, strings.NewReader(strings.Repeat("x", large))})
			held.Release()
			var full *NoRoomError
			if keeps := err == nil; keeps != one.keeps || !keeps && !errors.As(err, &full) {
				t.Fatalf("got the error %v; it must be kept: %t", err, one.keeps)
			}
			if found := len(filesIn(t, directory)); found != map[bool]int{true: 1, false: 0}[one.keeps] {
				t.Errorf("%d files are in the store", found)
			}
			if disk.free < 10_000 {
				t.Errorf("%d bytes are left, want no fewer than are kept", disk.free)
			}
			if store.room.granted != 0 {
				t.Errorf("%d bytes stay granted", store.room.granted)
			}
			disk.free = 100
			if _, err := store.Put(t.Context(), domain, strings.NewReader("a journal")); err != nil {
				t.Errorf("what is recorded must have the reserve: %v", err)
			}
		})
	}
}

// blocked gives nothing before it is told to.
type blocked struct {
	reading chan struct{}
	proceed chan struct{}
}

func (b blocked) Read(into []byte) (int, error) {
	close(b.reading)
	<-b.proceed
	return copy(into, "late"), io.EOF
}

// TestCollectAtTheSameTime: two who have room each have it together too, or one waits.
func TestCollectAtTheSameTime(t *testing.T) {
	store, disk := open(t, "mem://"), &volume{free: 10_000 + 40<<10}
	store.MeasureBy(disk.left)
	store.KeepFree(reserveOf(t, "10000"))
	first := blocked{make(chan struct{}), make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		held, err := store.Collect(context.Background(), domain, first)
		held.Release()
		done <- err
	}()
	<-first.reading
	collect := func(in types.UID) error {
		held, err := store.Collect(t.Context(), in, strings.NewReader("soon"))
		held.Release()
		return err
	}
	var full *NoRoomError
	if err := collect(domain); !errors.As(err, &full) {
		t.Errorf("got the error %v while another is writing into what is left", err)
	}
	close(first.proceed)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := collect(domain); err != nil {
		t.Error(err)
	}
}

func TestRoomMetrics(t *testing.T) {
	store := open(t, "file://"+t.TempDir())
	store.MeasureBy(func() (Space, error) {
		return Space{Bytes: 10 << 30, FreeBytes: 3 << 30, Files: 10, FreeFiles: 7}, nil
	})
	store.KeepFree(reserveOf(t, "256Mi"))
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(store.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		got[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
	}
	want := map[string]float64{"firebreak_evidence_free_bytes": 3 << 30, "firebreak_evidence_free_files": 7, "firebreak_evidence_reserve_bytes": 256 << 20}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if collectors := open(t, "mem://").Collectors(); len(collectors) > 0 {
		t.Errorf("a store on no volume has %d metrics of it", len(collectors))
	}
}

// TestMeasure: what the operating system says of a real volume makes sense.
func TestMeasure(t *testing.T) {
	store := open(t, "file://"+t.TempDir())
	if store.room.left == nil {
		t.Skip("volumes are not measured on this operating system")
	}
	now, err := store.room.left()
	if err != nil || now.Bytes <= 0 || now.FreeBytes < 0 || now.FreeBytes > now.Bytes || now.FreeFiles > now.Files {
		t.Errorf("got %+v (error %v)", now, err)
	}
}
