package receiver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/utils/clock"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// ownUserName submits what the receiver itself has to say, and what it reads in policy
	// reports, whose writers are not known.
	ownUserName = ownUsers + v1alpha1.ReceiverServiceAccount
	// ownProduct is the product of events about the receiver.
	ownProduct = "firebreak"
	// ruleShed is the rule of the event that says that alerts were not taken.
	ruleShed = "firebreak/alerts-shed"

	// shedGather is how long is waited before a domain is told, so that it is told more at
	// once, and shedEvery how often it is told of one sender.
	shedGather, shedEvery = 5 * time.Second, time.Minute
	// maxShedSenders is how many senders are told apart; the others are told of together.
	maxShedSenders = 256
	maxDomains     = 4096
)

// sheds tells a domain of alerts that were not taken, by an event in it. While that cannot be
// recorded it goes on counting. At the end it tells of all that is left.
type sheds struct {
	clock  clock.Clock
	log    logr.Logger
	name   string
	record func(namespace string, a *alert) outcome

	mutex   sync.Mutex
	pending map[shedKey]*shedding
	// told are those of whom a domain has just been told.
	told *cache.LRUExpireCache
	// domains are the namespaces to which somebody was let report of late: what is said by
	// nobody knows whom is only told to these.
	domains *cache.LRUExpireCache
	waiting chan struct{}
}

// shedKey is a sender, empty when it was not known yet, and the domain that has not heard it.
type shedKey struct{ namespace, sender string }

type shedding struct {
	alerts           int
	formats, reasons map[string]bool
}

func newSheds(o *Options, record func(namespace string, a *alert) outcome) *sheds {
	return &sheds{
		clock: o.Clock, log: o.Log, name: o.Name, record: record, pending: map[shedKey]*shedding{}, waiting: make(chan struct{}, 1),
		told: cache.NewLRUExpireCacheWithClock(2*maxShedSenders, o.Clock), domains: cache.NewLRUExpireCacheWithClock(maxDomains, o.Clock),
	}
}

// admitted says that somebody may report to a namespace.
func (s *sheds) admitted(namespace string) {
	s.domains.Add(namespace, nil, knownFor)
}

// add takes down alerts that were not taken.
func (s *sheds) add(key shedKey, format, reason string, alerts int) {
	if _, known := s.domains.Get(key.namespace); !known {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.merge(key, &shedding{alerts: alerts, formats: map[string]bool{format: true}, reasons: map[string]bool{reason: true}})
	select {
	case s.waiting <- struct{}{}:
	default:
	}
}

func (s *sheds) merge(key shedKey, more *shedding) {
	if s.pending[key] == nil && len(s.pending) >= maxShedSenders {
		key.sender = ""
	}
	known := s.pending[key]
	if known == nil {
		s.pending[key] = more
		return
	}
	known.alerts += more.alerts
	maps.Copy(known.formats, more.formats)
	maps.Copy(known.reasons, more.reasons)
}

// run tells until the context ends, and then of all that is pending.
func (s *sheds) run(ctx context.Context) {
	defer s.farewell()
	for {
		select {
		case <-s.waiting:
		case <-ctx.Done():
			return
		}
		select {
		case <-s.clock.After(shedGather):
		case <-ctx.Done():
			return
		}
		s.tell(ctx)
	}
}

// tell tells of those that are due, unless the context ends.
func (s *sheds) tell(ctx context.Context) {
	for key, what := range s.due(false) {
		if ctx.Err() != nil {
			return
		}
		s.tellOf(key, what)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.pending) > 0 {
		select {
		case s.waiting <- struct{}{}:
		default:
		}
	}
}

// farewell tells of all that is pending, all at once: whoever waits for that does not for long. A repeat
// of an event does not say how many alerts it is about: so the log does, now that nobody counts on.
func (s *sheds) farewell() {
	var telling sync.WaitGroup
	for key, what := range s.due(true) {
		telling.Go(func() {
			if o := s.tellOf(key, what); o.err == nil && !o.created {
				s.log.Info("a domain was told of alerts that were not taken by the repeat of an event, which does not say how many", what.facts(key)...)
			}
		})
	}
	telling.Wait()
}

// giveUp tells the log of what is pending still.
func (s *sheds) giveUp() {
	for key, what := range s.due(true) {
		s.notTold(nil, key, what)
	}
}

// due are those pending of whom a domain has not just been told, or all.
func (s *sheds) due(all bool) map[shedKey]*shedding {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	due := map[shedKey]*shedding{}
	for key, what := range s.pending {
		if _, told := s.told.Get(key); all || !told {
			due[key] = &shedding{alerts: what.alerts, formats: maps.Clone(what.formats), reasons: maps.Clone(what.reasons)}
		}
	}
	return due
}

// tellOf tells of one of them, which is pending until that is recorded.
func (s *sheds) tellOf(key shedKey, what *shedding) outcome {
	a := s.alert(key, what)
	o := s.record(key.namespace, a)
	s.told.Add(key, nil, shedEvery)
	if o.err != nil && passing(o.err, a) {
		return o
	}
	if o.err != nil {
		s.notTold(o.err, key, what)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	more := s.pending[key]
	if more == nil {
		return o
	}
	if more.alerts -= what.alerts; more.alerts <= 0 {
		delete(s.pending, key)
	}
	return o
}

func (s *sheds) notTold(err error, key shedKey, what *shedding) {
	s.log.Error(err, "a domain cannot be told of alerts that were not taken", what.facts(key)...)
}

// facts are what the log is told of one of them.
func (w *shedding) facts(key shedKey) []any {
	return []any{"namespace", key.namespace, "sender", clean(key.sender, maxName), "alerts", w.alerts, "formats", joined(w.formats), "reasons", joined(w.reasons)}
}

// alert is the event about it. It repeats while the same sender goes on not being heard.
func (s *sheds) alert(key shedKey, what *shedding) *alert {
	d := report{namespace: key.namespace, sender: ownUserName, receivedTime: s.clock.Now()}.draft(ownProduct, ruleShed, []byte(key.sender))
	who := key.sender
	if who == "" {
		who = "senders that were not known yet"
	} else {
		d.asset(assetAccount, key.sender, "")
	}
	d.texts("Alerts of "+who+" were not taken", fmt.Sprintf(
		"The receiver has told %s to send at least %d alerts again later, and does not know whether they do: Falco and Falcosidekick never do. "+
			"Each repeat of this event is a minute in which that went on. `firebreak_receiver_alerts_total` with the outcomes `shed` and `shed_unauthenticated` counts them; "+
			"of what was sent, the receiver's log says more.", clean(who, maxName), what.alerts))
	d.spec.Severity = v1alpha1.SeverityMedium
	d.observed(s.clock.Now())
	for _, fact := range [][2]string{
		{"sender", key.sender}, {"alerts", itoa(what.alerts)}, {"receiver", s.name},
		{"formats", joined(what.formats)}, {"reasons", joined(what.reasons)},
	} {
		d.attributes.add("shed."+fact[0], fact[1])
	}
	a := d.finish("shed", key.sender)
	return &a
}

func joined(words map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(words)), ", ")
}
