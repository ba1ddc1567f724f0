package receiver

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/go-logr/logr"
	bolt "go.etcd.io/bbolt"
	"k8s.io/utils/clock"
)

// maxAllows is how many earlier answers are kept.
const maxAllows = 4096

// allows are the senders that the API server has allowed, kept in the spool, so that they
// are still let in while it is away. A nil one has none.
type allows struct {
	spool *spool
	clock clock.Clock
	log   logr.Logger
	// holds is how long an answer holds, from when it was last given.
	holds time.Duration

	mutex sync.Mutex
	known map[string]*allow
}

// allow is one such answer.
type allow struct {
	User string `json:"user"`
	// Time is when it was given.
	Time time.Time `json:"time"`
	// Expires is when the credential ends; zero is never.
	Expires time.Time `json:"expires,omitzero"`

	written time.Time
}

func newAllows(s *spool, holds time.Duration, log logr.Logger) (*allows, error) {
	if s == nil || holds <= 0 {
		return nil, nil
	}
	a := &allows{spool: s, clock: s.clock, log: log, holds: holds, known: map[string]*allow{}}
	return a, s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketAllows).ForEach(func(key, value []byte) error {
			var known allow
			if json.Unmarshal(value, &known) == nil {
				known.written = known.Time
				a.known[string(key)] = &known
			}
			return nil
		})
	})
}

func (a *allows) holding(known *allow) bool {
	now := a.clock.Now()
	return known != nil && now.Sub(known.Time) < a.holds && (known.Expires.IsZero() || now.Before(known.Expires))
}

// get is the user whom the API server has allowed this before.
func (a *allows) get(key string) (user string, ok bool) {
	if a == nil {
		return "", false
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	known := a.known[key]
	if !a.holding(known) {
		return "", false
	}
	return known.User, true
}

// add takes down an answer. It is written now and then only: what is on disk may be
// older than it is, and holds the shorter for it.
func (a *allows) add(key, user string, expires time.Time) {
	if a == nil {
		return
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	now := a.clock.Now()
	known := &allow{User: user, Time: now, Expires: expires}
	if before := a.known[key]; before != nil {
		known.written = before.written
	}
	a.known[key] = known
	if now.Sub(known.written) < a.holds/20 {
		return
	}
	known.written = now
	a.save(key, known, a.expel())
}

// remove forgets an answer that has been taken back.
func (a *allows) remove(key string) {
	if a == nil {
		return
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.known[key] != nil {
		delete(a.known, key)
		a.save("", nil, []string{key})
	}
}

// expel forgets what holds no longer, and any when there are too many.
func (a *allows) expel() []string {
	var gone []string
	for key, known := range a.known {
		if !a.holding(known) || len(a.known) > maxAllows {
			delete(a.known, key)
			gone = append(gone, key)
		}
	}
	return gone
}

// save writes in the background: an answer that is not written yet is asked for again.
func (a *allows) save(key string, known *allow, gone []string) {
	value, err := json.Marshal(known)
	if err != nil {
		return
	}
	go func() {
		err := a.spool.write(func(tx *bolt.Tx) error {
			bucket := tx.Bucket(bucketAllows)
			for _, old := range gone {
				if err := bucket.Delete([]byte(old)); err != nil {
					return err
				}
			}
			if known == nil {
				return nil
			}
			return bucket.Put([]byte(key), value)
		})
		if err != nil {
			a.log.Error(err, "who may report cannot be written into the spool")
		}
	}()
}
