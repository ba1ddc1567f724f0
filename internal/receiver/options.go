package receiver

import (
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/utils/clock"
)

const (
	// DefaultMaxBodyBytes is how large a body may be.
	DefaultMaxBodyBytes = 4 << 20
	// DefaultMaxInFlight is how many requests are worked on at a time.
	DefaultMaxInFlight = 256
	// DefaultMaxWaiting is how many more may wait for their turn.
	DefaultMaxWaiting = 2048
	// DefaultSpoolMaxBytes is how many bytes of alerts the spool takes.
	DefaultSpoolMaxBytes = 256 << 20
	// DefaultStaleAuth is how long a sender is let in while the API server is away.
	DefaultStaleAuth = time.Hour
	// DefaultSenderRate is how many alerts a second one sender may send for long.
	DefaultSenderRate = 1000
	// DefaultSenderBurst is how many alerts one sender may send at once.
	DefaultSenderBurst = 20000

	minSpoolBytes = 1 << 20
)

// Options say how a receiver works.
type Options struct {
	// Name is the receiver's own name, under which it counts repeats: at most 63 letters,
	// digits, '-', '_' and '.', and no other receiver's of the cluster. No default.
	Name string
	// AllowUnscopedToken admits tokens without the audience 'firebreak-receiver'. Default false.
	AllowUnscopedToken bool
	// ClientCAFile is a PEM file of those who may sign client certificates of senders, read
	// again when it changes. Empty means that senders need tokens.
	ClientCAFile string
	// SpoolFolder is where alerts are kept while the API server is away; it must be there, and
	// be this receiver's own. Empty means that they are refused then.
	SpoolFolder string
	// SpoolMaxBytes is how many bytes of alerts the spool takes, at least 1 MiB; its file may
	// become twice as large. Default 256 MiB.
	SpoolMaxBytes int64
	// StaleAuth is how long, while the API server is away or slow, a sender is let in that it has
	// allowed before. Needs a spool. 0 means not at all.
	StaleAuth time.Duration
	// MaxBodyBytes is how large a body may be. Default 4 MiB.
	MaxBodyBytes int64
	// MaxInFlight is how many requests are worked on at a time. Default 256.
	MaxInFlight int
	// MaxWaiting is how many more requests may wait for their turn, of one sender three quarters
	// of them. Default 2048.
	MaxWaiting int
	// SenderRate is how many alerts a second one sender may send for long. Default 1000.
	SenderRate float64
	// SenderBurst is how many alerts one sender may send at once. Default 20000.
	SenderBurst int
	// Formats are the wire formats it understands. Default is those that need no configuration.
	Formats *Formats
	// directPatience is for tests. Default is defaultDirectPatience.
	directPatience time.Duration
	// Clock is for tests. Default is the real one.
	Clock clock.Clock
	// Log is where refusals are told. Default is nowhere.
	Log logr.Logger
}

func (o *Options) setDefaults() {
	if o.SpoolMaxBytes <= 0 {
		o.SpoolMaxBytes = DefaultSpoolMaxBytes
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = DefaultMaxBodyBytes
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = DefaultMaxWaiting
	}
	if o.SenderRate <= 0 {
		o.SenderRate = DefaultSenderRate
	}
	if o.SenderBurst <= 0 {
		o.SenderBurst = DefaultSenderBurst
	}
	if o.directPatience <= 0 {
		o.directPatience = defaultDirectPatience
	}
	if o.Formats == nil {
		o.Formats = &Formats{byName: formats}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
}

// Validate says what is wrong with the options, by the names of the flags.
func (o *Options) Validate() error {
	switch {
	case !validName.MatchString(o.Name):
		return fmt.Errorf("--name must be at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, is %q", o.Name)
	case o.Name == reportsCounter:
		return fmt.Errorf("--name must not be %q: under it all receivers count what they read in policy reports", o.Name)
	case o.SpoolMaxBytes != 0 && o.SpoolMaxBytes < minSpoolBytes:
		return fmt.Errorf("--spool-max-bytes must be at least %d, is %d", minSpoolBytes, o.SpoolMaxBytes)
	case o.StaleAuth < 0:
		return fmt.Errorf("--stale-auth must be a duration such as '1h', or 0, is %s", o.StaleAuth)
	case o.SenderRate < 0 || o.SenderBurst < 0:
		return fmt.Errorf("--sender-rate and --sender-burst must be more than 0, are %g and %d", o.SenderRate, o.SenderBurst)
	}
	return nil
}
