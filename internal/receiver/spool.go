package receiver

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"k8s.io/utils/clock"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	spoolFile     = "spool.db"
	damagedSuffix = ".damaged-"
	// lockTimeout is how long the predecessor, which may be ending, is waited for.
	lockTimeout = 30 * time.Second
	// maxChanges is how many changes share one fsync.
	maxChanges = 4096
	// entryOverhead is what an entry takes beside its text, roughly.
	entryOverhead = 64
	// blockOfNumbers is how many numbers are reserved by one write.
	blockOfNumbers = 1 << 20
)

var (
	bucketAlerts  = []byte("alerts")  // sequence -> spooledAlert
	bucketRefused = []byte("refused") // sequence -> refusedAlert
	bucketAllows  = []byte("allows")  // credential and namespace -> allow
	bucketMeta    = []byte("meta")
	keyReserved   = []byte("reserved")

	errSpoolClosed = errors.New("the spool is closed")
)

// spool keeps alerts on disk until they are in the API server. What put has returned
// for without an error survives SIGKILL and the loss of power.
//
// # Exactly once
//
// Between the write to the API server and the removal from the spool a receiver can be
// killed, and an answer of the API server can be lost. Then nobody knows whether an alert
// is counted. So every alert has a number that no other of this receiver, in this or any
// other life, has or will have, and alerts of one identity are written in the order of
// their numbers:
//
//   - the alert that creates an event leaves its number in an annotation of it, and
//   - the write that raises the receiver's counter puts the highest number counted beside
//     the count, in `status.counters[].sequence`, in the same write.
//
// An alert that was tried before looks there first. Its number is the annotation's, or not
// above the counter's: it is recorded. Otherwise it is not, and never will be by the earlier
// try: that write, should it still be on its way, holds a resourceVersion (or a name) that is
// taken by then. The order holds because an identity with alerts in the spool takes no other
// way than through it, and is only ever written from its front.
//
// Numbers start at the time in microseconds, so that they go on rising when the volume
// is lost, and a block of them is reserved on disk ahead, so that a clock set back
// does not matter while it is not.
type spool struct {
	db    *bolt.DB
	clock clock.Clock
	index *spoolIndex

	changes chan *change
	ended   chan struct{}
	// closing guards closed, after which no change is taken.
	closing sync.RWMutex
	closed  bool

	next, reserved int64 // numbers; the recorder's mutex guards them
}

// change is one part of a write that shares its fsync with others.
type change struct {
	apply func(tx *bolt.Tx) error
	done  chan error
}

// spooledAlert is an alert on disk.
type spooledAlert struct {
	Namespace    string                     `json:"namespace"`
	Spec         v1alpha1.SecurityEventSpec `json:"spec"`
	Native       bool                       `json:"native,omitempty"`
	Pointer      string                     `json:"pointer,omitempty"`
	Undated      bool                       `json:"undated,omitempty"`
	Unhashed     bool                       `json:"unhashed,omitempty"`
	Single       bool                       `json:"single,omitempty"`
	Window       time.Duration              `json:"window,omitempty"`
	ReceivedTime time.Time                  `json:"receivedTime"`
}

// refusedAlert is an alert that was taken, and then refused by the API server for good.
type refusedAlert struct {
	spooledAlert
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

func (s spooledAlert) alert() *alert {
	return &alert{spec: s.Spec, native: s.Native, pointer: s.Pointer, undated: s.Undated, unhashed: s.Unhashed, single: s.Single, window: s.Window}
}

// errDamaged says that a file is no spool, or none any more.
var errDamaged = errors.New("it is damaged")

// openSpool opens or makes the spool in a folder, with at most limit bytes of alerts. A file
// that is damaged is set aside, for people to look at, and a new one made. Any other error
// keeps the file as it is.
func openSpool(folder string, limit int64, c clock.Clock) (s *spool, aside string, err error) {
	path := filepath.Join(folder, spoolFile)
	if s, err = readSpool(path, limit, c); err == nil {
		return s, "", nil
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, "", fmt.Errorf("%s must be used by one receiver only, but another holds it", path)
	}
	if !damaged(path, err) {
		return nil, "", err // it may pass: whoever starts the receiver starts it again
	}
	aside = fmt.Sprintf("%s%s%d", path, damagedSuffix, c.Now().Unix())
	if renameErr := os.Rename(path, aside); renameErr != nil {
		return nil, "", errors.Join(err, renameErr)
	}
	s, newErr := readSpool(path, limit, c)
	if newErr != nil {
		return nil, "", errors.Join(err, newErr)
	}
	return s, fmt.Sprintf("%s (%v)", aside, err), nil
}

// damaged says whether an error means that a file is damaged for good, and not that it could
// not be read now.
func damaged(path string, err error) bool {
	if errors.Is(err, errDamaged) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		return true
	}
	// bbolt takes a first page that it cannot read for one that is not valid.
	file, openErr := os.Open(path)
	if openErr != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	head := make([]byte, 2*os.Getpagesize())
	if _, readErr := io.ReadFull(file, head); readErr != nil {
		// So short a file is one whose making was cut off.
		return errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF)
	}
	return errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum)
}

// setAside are the files of a folder that were damaged.
func setAside(folder string) int {
	files, err := filepath.Glob(filepath.Join(folder, spoolFile+damagedSuffix+"*"))
	if err != nil {
		return 0
	}
	return len(files)
}

func readSpool(path string, limit int64, c clock.Clock) (s *spool, err error) {
	defer func() {
		if trouble := recover(); trouble != nil { // a damaged file makes bbolt panic
			err = fmt.Errorf("reading %s: %w: %v", path, errDamaged, trouble)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	s = &spool{db: db, clock: c, index: newSpoolIndex(limit), changes: make(chan *change, maxChanges), ended: make(chan struct{})}
	if err := errors.Join(db.Update(s.prepare), db.Update(s.load)); err != nil {
		return nil, errors.Join(fmt.Errorf("reading %s: %w", path, err), db.Close())
	}
	go s.commit()
	return s, nil
}

func (s *spool) prepare(tx *bolt.Tx) error {
	for _, name := range [][]byte{bucketAlerts, bucketRefused, bucketAllows, bucketMeta} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	s.next = s.clock.Now().UnixMicro()
	if raw := tx.Bucket(bucketMeta).Get(keyReserved); len(raw) == 8 {
		s.next = max(s.next, numberOf(raw))
	}
	s.reserved = s.next + blockOfNumbers
	return tx.Bucket(bucketMeta).Put(keyReserved, keyOf(s.reserved))
}

// load fills the index. An alert that is not readable is buried: the others are.
func (s *spool) load(tx *bolt.Tx) error {
	alerts, refused := tx.Bucket(bucketAlerts), tx.Bucket(bucketRefused)
	unreadable := map[string][]byte{}
	err := alerts.ForEach(func(key, value []byte) error {
		var kept spooledAlert
		if err := json.Unmarshal(value, &kept); err != nil || len(key) != 8 {
			unreadable[string(key)] = slices.Clone(value)
			return nil
		}
		a := kept.alert()
		s.index.load(item{
			sequence: numberOf(key), key: identify(kept.Namespace, a).key(), at: kept.ReceivedTime.Unix(),
			bytes: int64(len(value) + entryOverhead), sender: a.spec.SubmittedBy,
		})
		return nil
	})
	for key, value := range unreadable {
		err = errors.Join(err, refused.Put([]byte(key), value), alerts.Delete([]byte(key)))
	}
	return errors.Join(err, refused.ForEach(func(_, value []byte) error {
		s.index.bury(1, int64(len(value)+entryOverhead))
		return nil
	}))
}

// number gives the next number. Its caller holds the recorder's mutex.
func (s *spool) number() (int64, error) {
	if s.next == s.reserved {
		until := s.reserved + blockOfNumbers
		if err := s.write(func(tx *bolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyReserved, keyOf(until)) }); err != nil {
			return 0, fmt.Errorf("reserving numbers in the spool: %w", err)
		}
		s.reserved = until
	}
	s.next++
	return s.next - 1, nil
}

// put keeps deliveries that are marked in the index, and returns the error of each once
// they are on disk. Those with an error are no longer marked.
func (s *spool) put(id identity, batch []*delivery) []error {
	errs := make([]error, len(batch))
	items, values := make([]item, len(batch)), make([][]byte, len(batch))
	now, room := s.clock.Now(), false
	for i, d := range batch {
		a := d.alert
		values[i], errs[i] = json.Marshal(spooledAlert{
			Namespace: id.namespace, Spec: a.spec, Native: a.native, Pointer: a.pointer,
			Undated: a.undated, Unhashed: a.unhashed, Single: a.single, Window: a.window, ReceivedTime: now,
		})
		items[i] = item{sequence: d.sequence, key: id.key(), at: now.Unix(), bytes: int64(len(values[i]) + entryOverhead), sender: a.spec.SubmittedBy}
		if a.native && errs[i] == nil {
			// What the API server would refuse must not be taken: nobody could be told later.
			errs[i] = validate(a)
		}
		if errs[i] == nil {
			errs[i] = s.index.reserve(items[i])
		}
		room = room || errs[i] == nil
	}
	if !room {
		for _, i := range items {
			s.index.unmark(i)
		}
		return errs
	}
	err := s.write(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketAlerts)
		bucket.FillPercent = 0.9 // keys rise
		for i := range batch {
			if errs[i] != nil {
				continue
			}
			if err := bucket.Put(keyOf(batch[i].sequence), values[i]); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range batch {
		switch {
		case errs[i] != nil:
			s.index.unmark(items[i])
		case err != nil:
			errs[i] = fmt.Errorf("writing the spool: %w", err)
			s.index.release(items[i])
			s.index.unmark(items[i])
		default:
			s.index.kept(items[i])
		}
	}
	return errs
}

// read gives the alerts of items, and by their numbers why some of them are not readable.
func (s *spool) read(items []item) (alerts []spooledAlert, unreadable map[int64]string, err error) {
	alerts, unreadable = make([]spooledAlert, len(items)), map[int64]string{}
	return alerts, unreadable, s.db.View(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketAlerts)
		for i := range items {
			if err := json.Unmarshal(bucket.Get(keyOf(items[i].sequence)), &alerts[i]); err != nil {
				unreadable[items[i].sequence] = "it is not readable: " + err.Error()
			}
		}
		return nil
	})
}

// remove forgets items that are in the API server, and buries those with a reason.
func (s *spool) remove(items []item, reasons map[int64]string) error {
	var buried, buriedBytes int64
	err := s.write(func(tx *bolt.Tx) (err error) {
		if buried, buriedBytes, err = s.bury(tx, reasons); err != nil {
			return err
		}
		for i := range items {
			if err := tx.Bucket(bucketAlerts).Delete(keyOf(items[i].sequence)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("removing from the spool: %w", err)
	}
	for i := range items {
		s.index.removed(items[i])
	}
	s.index.bury(buried, buriedBytes)
	return nil
}

// bury moves alerts to those refused for good, of which the oldest make room when they take
// more than their part. One that is not readable stays as it is. It returns how many, and how many
// bytes, there are more.
func (s *spool) bury(tx *bolt.Tx, reasons map[int64]string) (more, moreBytes int64, err error) {
	alerts, refused := tx.Bucket(bucketAlerts), tx.Bucket(bucketRefused)
	for sequence, reason := range reasons {
		value := slices.Clone(alerts.Get(keyOf(sequence)))
		grave := refusedAlert{Reason: reason, Time: s.clock.Now()}
		if err := json.Unmarshal(value, &grave.spooledAlert); err == nil {
			if value, err = json.Marshal(grave); err != nil {
				return 0, 0, err
			}
		}
		if err := refused.Put(keyOf(sequence), value); err != nil {
			return 0, 0, err
		}
		more, moreBytes = more+1, moreBytes+int64(len(value)+entryOverhead)
	}
	cursor := refused.Cursor()
	for key, value := cursor.First(); key != nil && s.index.tooMuchBuried(moreBytes) > 0; key, value = cursor.First() {
		more, moreBytes = more-1, moreBytes-int64(len(value)+entryOverhead)
		if err := cursor.Delete(); err != nil {
			return 0, 0, err
		}
	}
	return more, moreBytes, nil
}

// write applies a change and returns once it is on disk.
func (s *spool) write(apply func(tx *bolt.Tx) error) error {
	c := &change{apply: apply, done: make(chan error, 1)}
	s.closing.RLock()
	if s.closed {
		s.closing.RUnlock()
		return errSpoolClosed
	}
	s.changes <- c
	s.closing.RUnlock()
	return <-c.done
}

// commit writes what is waiting together, so that many share one fsync, until the spool is
// closed and nothing waits.
func (s *spool) commit() {
	defer close(s.ended)
	for first := range s.changes {
		batch := []*change{first}
	collect:
		for len(batch) < maxChanges {
			select {
			case c, more := <-s.changes:
				if !more {
					break collect
				}
				batch = append(batch, c)
			default:
				break collect
			}
		}
		err := s.db.Update(func(tx *bolt.Tx) error {
			for _, c := range batch {
				if err := c.apply(tx); err != nil {
					return err
				}
			}
			return nil
		})
		for _, c := range batch {
			c.done <- err
		}
	}
}

// close ends the spool. What is waiting to be written still is.
func (s *spool) close() error {
	s.closing.Lock()
	closed := s.closed
	s.closed = true
	s.closing.Unlock()
	if !closed {
		close(s.changes)
	}
	<-s.ended
	return s.db.Close()
}

func keyOf(number int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(number)) //nolint:gosec // numbers are positive
}

func numberOf(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key)) //nolint:gosec // as keyOf wrote it
}
