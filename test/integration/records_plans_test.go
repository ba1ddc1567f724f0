package integration

import (
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/test/harness"
)

// TestTheReceiverSaysWhatItHears holds the policy against the type, as
// TestTheReceiverCountsAndNothingElse does.
func TestTheReceiverSaysWhatItHears(t *testing.T) {
	d := harness.Get(t).NewDomain(t)
	receiver, manager := d.As(t, harness.Receiver), d.As(t, harness.Manager)
	plan := &v1alpha1.ResponsePlan{ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: v1alpha1.ResponsePlanName}}
	done(t, d.Client.Create(t.Context(), plan))
	heard := client.RawPatch(types.ApplyPatchType, []byte(`{"apiVersion":"firebreak.dev/v1alpha1","kind":"ResponsePlan","metadata":{"name":"default"},
		"status":{"sources":[{"product":"falco","lastHeardTime":"2026-11-21T16:00:00Z"}]}}`))
	values := map[string]string{
		"conditions":         `[{"type":"Guarded","status":"True","reason":"ForgeryRefused","message":"","lastTransitionTime":"2026-11-21T16:00:00Z"}]`,
		"observedGeneration": `1`,
		"retention":          `{"sequence":1,"hash":"` + strings.Repeat("0", 64) + `"}`,
	}
	done(t, receiver.Status().Patch(t.Context(), plan.DeepCopy(), heard, client.FieldOwner("receiver"), client.ForceOwnership))
	onlyWrites(t, ownField{receiver, manager, plan, reflect.TypeFor[v1alpha1.ResponsePlanStatus](), "sources", "config/admission/status_responseplans.yaml"}, values)
	// With everything set, it still says so; nobody else does.
	done(t, receiver.Status().Patch(t.Context(), plan.DeepCopy(), heard, client.FieldOwner("receiver"), client.ForceOwnership))
	d.Allow(t, d.Namespace, harness.User(jane), harness.Rule("firebreak.dev", []string{"responseplans/status"}, []string{"patch"}))
	refused(t, d.As(t, jane).Status().Patch(t.Context(), plan.DeepCopy(), heard, client.FieldOwner("jane"), client.ForceOwnership), "`status` must be left as it is")
	refused(t, receiver.Patch(t.Context(), plan.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"response":"Paused"}}`))), "forbidden")
}

// ownField is the one field of a status that the receiver writes.
type ownField struct {
	receiver, manager client.Client
	object            client.Object
	status            reflect.Type
	name              string
	// policy is where admission says so.
	policy string
}

// onlyWrites has the receiver set and clear each other field of the status, of which values
// has one each that the manager may write.
func onlyWrites(t *testing.T, own ownField, values map[string]string) {
	t.Helper()
	fresh := func() client.Object { return own.object.DeepCopyObject().(client.Object) }
	for i := range own.status.NumField() {
		field, _, _ := strings.Cut(own.status.Field(i).Tag.Get("json"), ",")
		if field == own.name {
			continue
		}
		t.Run(field, func(t *testing.T) {
			value, ok := values[field]
			if !ok {
				t.Fatalf("%s and this test must know the field %q", own.policy, field)
			}
			set := client.RawPatch(types.MergePatchType, []byte(`{"status":{"`+field+`":`+value+`}}`))
			unset := client.RawPatch(types.MergePatchType, []byte(`{"status":{"`+field+`":null}}`))
			refused(t, own.receiver.Status().Patch(t.Context(), fresh(), set), "nothing of `status` but `"+own.name+"`")
			done(t, own.manager.Status().Patch(t.Context(), fresh(), set))
			refused(t, own.receiver.Status().Patch(t.Context(), fresh(), unset), "nothing of `status` but `"+own.name+"`")
		})
	}
}
