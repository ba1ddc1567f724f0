package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// cachedEvent is an event of Falco as it is once it was dismissed, with the managed fields.
const cachedEvent = `{"apiVersion":"firebreak.dev/v1alpha1","kind":"SecurityEvent","metadata":{"annotations":{"firebreak.dev/delivery":"receiver-0/%[1]d"},
"creationTimestamp":"2026-11-21T16:00:00Z","generation":1,"managedFields":[{"apiVersion":"firebreak.dev/v1alpha1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{".":{}}},
"manager":"firebreak-receiver-0","operation":"Update","time":"2026-11-21T16:00:00Z"}],"name":"falco-%010[1]d","namespace":"security","resourceVersion":"%[1]d",
"uid":"%08[1]d-84b3-4daa-b40d-7d1a4b7c1f58"},"spec":{"attacks":[{"technique":"T1059"},{"tactic":"Execution"}],"attributes":{"container.id":"d34690e67a3a","container.image.repository":"registry.example.com/app",
"container.name":"app","falco.source":"syscall","k8s.ns.name":"shop","k8s.pod.name":"cart-%06[1]d","proc.cmdline":"sh -c uptime","proc.name":"sh","proc.pname":"runc","proc.tty":"34816","user.name":"root"},
"description":"16:00:00.%09[1]d: Notice A shell was spawned in a container with an attached terminal (user=root k8s_ns=shop k8s_pod=cart-%06[1]d)","fingerprint":"%064[1]d","observedTime":"2026-11-21T16:00:00Z",
"rawDataHash":"sha256:%064[1]d","resources":[{"apiVersion":"v1","container":"app","image":"registry.example.com/app","kind":"Pod","name":"cart-%06[1]d","namespace":"shop","node":"node-1"}],"severity":"Low",
"source":{"instance":"node-1","kind":"Automatic","product":"falco","rule":"Terminal shell in container"},"submittedBy":"system:serviceaccount:falco:falcosidekick","title":"Terminal shell in container: shop/cart-%06[1]d"},
"status":{"assessment":{"by":"system:serviceaccount:firebreak-system:firebreak-manager","message":"rule \"noise\" of policy \"runtime\" matched","outcome":"Dismissed","policy":{"generation":1,"name":"runtime"},
"reason":"RuleMatched","rule":"noise","time":"2026-11-21T16:00:01Z","workload":"cart-%06[1]d"},"conditions":[{"lastTransitionTime":"2026-11-21T16:00:01Z","message":"rule \"noise\" of policy \"runtime\" matched",
"observedGeneration":1,"reason":"RuleMatched","status":"True","type":"Assessed"}],"observedGeneration":1,"occurrences":1}}`

// TestCachedEventIsSmall holds a cached event to the budget of the design: 4 KiB beyond its
// own bytes, with all that the indexes keep of it.
func TestCachedEventIsSmall(t *testing.T) {
	const events, most = 4096, 4 << 10
	indexer := toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, eventIndexers(t))
	own := 0
	before := heapAlive()
	for n := range events {
		text := strings.ReplaceAll(fmt.Sprintf(cachedEvent, n), "\n", "")
		own += len(text)
		event := &v1alpha1.SecurityEvent{}
		if err := json.Unmarshal([]byte(text), event); err != nil {
			t.Fatal(err)
		}
		kept, err := KeepOfEvent(event)
		if err != nil {
			t.Fatal(err)
		}
		if err := indexer.Add(kept); err != nil {
			t.Fatal(err)
		}
	}
	each := int(heapAlive()-before) / events
	runtime.KeepAlive(indexer)
	t.Logf("a cached event takes %d bytes; its own are %d", each, own/events)
	if each > most {
		t.Errorf("a cached event takes %d bytes, want at most %d", each, most)
	}
}

// TestRulesAskForTheWholeEvent has an event assessed a second time by what the cache does
// not keep of one that was decided.
func TestRulesAskForTheWholeEvent(t *testing.T) {
	namespace := newDomain(t)
	policy := shellPolicy(namespace)
	policy.Spec.Rules[1].Match = `event.attributes["proc.name"] == "sh" && event.description == "A shell"`
	mustCreate(t, policy)
	startAssessor(t, namespace, nil)
	event := shellEvent(namespace, "first", "cart-1")
	event.Spec.Attributes, event.Spec.Description = map[string]v1alpha1.AttributeValue{"proc.name": "sh"}, "A shell"
	mustCreate(t, event)
	first := awaitAssessment(t, event, v1alpha1.OutcomePromoted).Status.IncidentRef.Name
	setIncident(t, namespace, first, inPhase(v1alpha1.PhaseReview))
	repeat(t, event, 1)
	got := awaitIncidentOtherThan(t, event, first)
	if got.Status.Assessment.Rule != policy.Spec.Rules[1].Name {
		t.Errorf("it was assessed by rule %q, want %q", got.Status.Assessment.Rule, policy.Spec.Rules[1].Name)
	}
	if len(got.Spec.Attributes) != 1 || got.Spec.Description == "" {
		t.Errorf("the event itself has lost what the cache does not keep: %+v", got.Spec)
	}
}

func TestKeepOfEvent(t *testing.T) {
	event := func(last v1alpha1.Assessment) *v1alpha1.SecurityEvent {
		event := shellEvent("security", "first", "cart-1")
		event.Spec.Attributes, event.Spec.Description = map[string]v1alpha1.AttributeValue{"proc.name": "sh"}, "A shell"
		event.Status.Assessment = last
		return event
	}
	for _, test := range []struct {
		outcome v1alpha1.AssessmentOutcome
		reason  string
		whole   bool
	}{
		{"", "", true},
		{v1alpha1.OutcomeDismissed, v1alpha1.ReasonRuleMatched, false},
		{v1alpha1.OutcomePromoted, v1alpha1.ReasonRuleMatched, false},
		{v1alpha1.OutcomeDeferred, v1alpha1.ReasonNoRuleMatched, true},
		{v1alpha1.OutcomeDeferred, v1alpha1.ReasonDeferredByRule, true},
		{v1alpha1.OutcomeDeferred, v1alpha1.ReasonDetached, true},
	} {
		last := v1alpha1.Assessment{Outcome: test.outcome, Reason: test.reason}
		want := event(last)
		if !test.whole {
			want.Spec.Attributes, want.Spec.Description = nil, ""
		}
		kept, err := KeepOfEvent(event(last))
		if diff := cmp.Diff(want, kept); diff != "" || err != nil {
			t.Errorf("%s %s: error %v, -want +got:\n%s", last.Outcome, last.Reason, err, diff)
		}
	}
	gone := toolscache.DeletedFinalStateUnknown{Key: "security/first"}
	if kept, err := KeepOfEvent(gone); err != nil || kept != any(gone) {
		t.Errorf("of what is gone %v is kept, error %v", kept, err)
	}
}

func heapAlive() uint64 {
	var now runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&now)
	return now.HeapAlloc
}

// indexed takes down the indexes of a kind, as the cache keeps them.
type indexed map[string]client.IndexerFunc

func (i indexed) IndexField(_ context.Context, object client.Object, field string, extract client.IndexerFunc) error {
	if _, ok := object.(*v1alpha1.SecurityEvent); ok {
		i[field] = extract
	}
	return nil
}

func eventIndexers(t *testing.T) toolscache.Indexers {
	t.Helper()
	fields := indexed{}
	if err := AddIndexes(t.Context(), fields); err != nil {
		t.Fatal(err)
	}
	if err := indexSecurityEvents(t.Context(), fields); err != nil {
		t.Fatal(err)
	}
	indexers := toolscache.Indexers{}
	for field, extract := range fields {
		indexers[field] = func(object any) ([]string, error) {
			var values []string
			for _, value := range extract(object.(client.Object)) {
				values = append(values, "security/"+value, "__all_namespaces/"+value)
			}
			return values, nil
		}
	}
	return indexers
}
