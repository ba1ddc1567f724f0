// Command manager is Firebreak's operator: it assesses events, carries incidents on
// and keeps their record.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/controller"
	"github.com/firebreak-dev/firebreak/internal/leadership"
	"github.com/firebreak-dev/firebreak/internal/readiness"
)

// version is stamped by the build.
var version = "dev"

// leaseName is the Lease by which managers elect the one that works.
const leaseName = "manager.firebreak.dev"

type options struct {
	metricsAddress string
	probeAddress   string
	leaderElect    bool
	leaseDuration  time.Duration
	renewDeadline  time.Duration
	retryPeriod    time.Duration
	evidenceStore  string
	reserve        string
	concurrency    int
	namespace      string
	egress         egressOptions
	logs           zap.Options
}

func main() {
	var o options
	flag.StringVar(&o.metricsAddress, "metrics-bind-address", "0", "where metrics are served over HTTPS, with authentication and authorization, such as ':8443'; '0' serves none")
	flag.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served")
	flag.BoolVar(&o.leaderElect, "leader-elect", false, "whether several managers elect one that works")
	flag.DurationVar(&o.leaseDuration, "leader-elect-lease-duration", 15*time.Second, "how long a leader that is silent stays the leader; more than --leader-elect-renew-deadline")
	flag.DurationVar(&o.renewDeadline, "leader-elect-renew-deadline", 10*time.Second, "how long a leader tries to stay it before it gives up; more than 1.2 times --leader-elect-retry-period")
	flag.DurationVar(&o.retryPeriod, "leader-elect-retry-period", 2*time.Second, "how often managers try to become or to stay the leader")
	flag.StringVar(&o.evidenceStore, "evidence-store", "file:///var/lib/firebreak/evidence", "where evidence is kept, as a URL; file:// allows one manager only")
	flag.StringVar(&o.reserve, "evidence-reserve", "256Mi", "how much of the volume of --evidence-store is kept for timelines and undo records, as an amount of bytes or a part such as '10%', at most half of the volume: with less left, what playbooks collect is refused; '0' keeps nothing")
	flag.IntVar(&o.concurrency, "concurrency", 32, "how many incidents, and how many events, are worked on at the same time")
	flag.StringVar(&o.namespace, "system-namespace", v1alpha1.SystemNamespace, "the manager's own namespace: no ServiceAccount of it is ever impersonated, and it is protected from playbooks")
	o.egress.bind(flag.CommandLine)
	o.logs.BindFlags(flag.CommandLine)
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "manager: there must be flags only, but there is also %q\n", flag.Args())
		os.Exit(2)
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&o.logs)))
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		ctrl.Log.Error(err, "the manager stopped")
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	// The API server's own priority and fairness decides how fast is fast enough.
	config.QPS = -1
	config.UserAgent = "firebreak-manager/" + version
	config.Wrap((&readiness.Patience{Clock: clock.RealClock{}}).Wrap)
	config.Wrap((&readiness.Watches{Clock: clock.RealClock{}, Log: ctrl.Log.WithName("watches")}).Wrap)
	if o.leaderElect {
		config.Wrap((&leadership.Fence{Lease: leaseName, Within: o.renewDeadline, Clock: clock.RealClock{}}).Wrap)
	}
	if err := awaitKinds(ctx, config); err != nil {
		if ctx.Err() != nil {
			return nil // told to end before it has begun
		}
		return err
	}
	mgr, err := ctrl.NewManager(config, managerOptions(o, scheme))
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := errors.Join(
		mgr.AddHealthzCheck("healthz", healthz.Ping),
		mgr.AddReadyzCheck("readyz", cachesSynced(mgr)),
		mgr.Add(newStartMemory(mgr)),
	); err != nil {
		return err
	}
	if err := setUp(ctx, mgr, o); err != nil {
		return err
	}
	ctrl.Log.Info("starting", "version", version, "evidenceStore", o.evidenceStore, "concurrency", o.concurrency)
	return mgr.Start(ctx)
}

func managerOptions(o options, scheme *runtime.Scheme) ctrl.Options {
	grace := 20 * time.Second
	return ctrl.Options{
		Scheme:                  scheme,
		HealthProbeBindAddress:  o.probeAddress,
		LeaderElection:          o.leaderElect,
		LeaderElectionID:        leaseName,
		LeaderElectionNamespace: leaderNamespace(o),
		LeaseDuration:           &o.leaseDuration,
		RenewDeadline:           &o.renewDeadline,
		RetryPeriod:             &o.retryPeriod,
		GracefulShutdownTimeout: &grace,
		Metrics: metricsserver.Options{
			BindAddress: o.metricsAddress, SecureServing: true, FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         map[client.Object]cache.ByObject{&v1alpha1.SecurityEvent{}: {Transform: controller.KeepOfEvent}},
		},
		Client: client.Options{Cache: &client.CacheOptions{
			// Nothing but Firebreak's own kinds and Namespaces is ever cached.
			DisableFor: uncached(),
		}},
	}
}

// leaderNamespace is where the Lease is; outside a cluster it must be said.
func leaderNamespace(o options) string {
	if !o.leaderElect {
		return ""
	}
	return o.namespace
}

func cachesSynced(mgr ctrl.Manager) healthz.Checker {
	return func(request *http.Request) error {
		ctx, cancel := context.WithTimeout(request.Context(), time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the caches are not synced yet")
		}
		return nil
	}
}
