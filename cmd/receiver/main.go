// The receiver takes security alerts over HTTPS and records them as SecurityEvents.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/firebreak-dev/firebreak/internal/receiver"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "receiver:", err)
		os.Exit(1)
	}
}

func run() error {
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("finding the host's name, the default of --name: %w", err)
	}
	var options receiver.ServerOptions
	flag.StringVar(&options.BindAddress, "bind-address", ":8443", "Where alerts are taken, over HTTPS.")
	flag.StringVar(&options.HealthProbeBindAddress, "health-probe-bind-address", ":8081", "Where /healthz and /readyz are served, over HTTP; '0' means nowhere.")
	flag.StringVar(&options.CertificateFile, "tls-cert-file", "", "PEM file of the serving certificate and its chain, read again when it changes. Required.")
	flag.StringVar(&options.PrivateKeyFile, "tls-private-key-file", "", "PEM file of the serving certificate's private key. Required.")
	flag.StringVar(&options.Name, "name", hostname, "The receiver's own name, under which it counts repeats; must stay the same over restarts and be no other receiver's.")
	flag.BoolVar(&options.AllowUnscopedToken, "allow-unscoped-token", false, "Admit senders whose token lacks the audience 'firebreak-receiver', such as a plain ServiceAccount token.")
	flag.Int64Var(&options.MaxBodyBytes, "max-body-bytes", receiver.DefaultMaxBodyBytes, "How large the body of a request may be.")
	flag.IntVar(&options.MaxInFlight, "max-in-flight", receiver.DefaultMaxInFlight, "How many requests are worked on at a time.")
	flag.IntVar(&options.MaxWaiting, "max-waiting", receiver.DefaultMaxWaiting, "How many more requests may wait for their turn; what goes beyond is answered 429.")
	flag.StringVar(&options.MetricsBindAddress, "metrics-bind-address", "0", "Where /metrics is served, over HTTP, such as ':8080'; '0' means nowhere.")
	flag.DurationVar(&options.ShutdownDelay, "shutdown-delay", 5*time.Second, "How long alerts are still taken after SIGTERM, until nobody sends them here any more; /readyz says no meanwhile.")
	flag.StringVar(&options.ClientCAFile, "client-ca-file", "", "PEM file of those who may sign client certificates of senders, read again when it changes; the common name, or else the only URI, is the user. Empty means that senders need tokens.")
	flag.StringVar(&options.SpoolFolder, "spool-dir", "", "Folder where alerts are kept while the API server is away; it must be there, outlive the process, and be no other receiver's. Empty means that alerts are refused then.")
	flag.Int64Var(&options.SpoolMaxBytes, "spool-max-bytes", receiver.DefaultSpoolMaxBytes, "How many bytes of alerts the spool takes; its file may become twice as large.")
	flag.DurationVar(&options.StaleAuth, "stale-auth", receiver.DefaultStaleAuth, "How long, while the API server is away or slow, a sender is let in that it has allowed before; needs --spool-dir. 0 means not at all.")
	flag.Float64Var(&options.SenderRate, "sender-rate", receiver.DefaultSenderRate, "How many alerts a second one sender may send for long; what goes beyond is answered 429.")
	flag.IntVar(&options.SenderBurst, "sender-burst", receiver.DefaultSenderBurst, "How many alerts one sender may send at once.")
	formatsFile := flag.String("formats-file", "", "YAML file of the rules of format 'audit' and the mappings of formats 'json/…'. Empty means that there are none.")
	zapOptions := zap.Options{}
	zapOptions.BindFlags(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("there must be flags only, but there is also %q", flag.Args())
	}

	if err := options.Validate(); err != nil {
		return err
	}
	if options.Formats, err = receiver.LoadFormats(*formatsFile); err != nil {
		return fmt.Errorf("reading --formats-file: %w", err)
	}
	log := zap.New(zap.UseFlagOptions(&zapOptions))
	ctrl.SetLogger(log)
	options.Log = log.WithName("receiver").WithValues("version", version)
	ctx := ctrl.SetupSignalHandler()
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the Kubernetes API server: %w", err)
	}
	config.UserAgent = "firebreak-receiver/" + version
	return receiver.Serve(ctx, config, options)
}
