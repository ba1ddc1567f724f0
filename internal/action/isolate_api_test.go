package action_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// TestIsolateFieldsAreChecked holds the API server to what isolate relies on.
func TestIsolateFieldsAreChecked(t *testing.T) {
	tests := map[string]struct{ step, says string }{
		"a workstation":         {step: "target: Pods\nisolate: {allow: {ingress: [{cidrs: [192.0.2.7/32, '2001:db8::/64'], ports: [{port: 22}, {port: 8000, endPort: 8080, protocol: UDP}]}]}}"},
		"all addresses":         {step: "target: Pods\nisolate: {allow: {ingress: [{cidrs: [0.0.0.0/0]}]}}", says: "must be a block of addresses such as '192.0.2.7/32'"},
		"no address":            {step: "target: Pods\nisolate: {allow: {egress: [{cidrs: [workstation]}]}}", says: "must be a block of addresses such as '192.0.2.7/32'"},
		"nobody":                {step: "target: Pods\nisolate: {allow: {egress: [{ports: [{port: 22}]}]}}", says: "cidrs: Required value"},
		"a range that is none":  {step: "target: Pods\nisolate: {allow: {egress: [{cidrs: [192.0.2.7/32], ports: [{port: 22, endPort: 21}]}]}}", says: "`endPort` must not be less than `port`"},
		"no pods of a workload": {step: "target: Workloads\nisolate: {survivingConnections: Delete}", says: "`target` must be 'Pods' for 'isolate' with `survivingConnections: Delete`"},
		"a workload":            {step: "target: Workloads\nisolate: {clusterNetworkPolicy: Use, survivingConnections: Report}"},
		"a probe":               {step: "target: Pods\nisolate: {probe: {image: 'registry.example/busybox:1.37', command: [nc, -z], ports: [80], reference: '[2001:db8::1]:443'}}"},
		"a probe of a workload": {step: "target: Workloads\nisolate: {probe: {image: busybox}}", says: "`target` must be 'Pods' for 'isolate' with `survivingConnections: Delete` or `probe`"},
		"a probe of open doors": {step: "target: Pods\nisolate: {ingress: Allow, probe: {image: busybox}}", says: "`probe` must not be set but with `ingress: Deny`"},
		"a probe of no pod":     {step: "target: Pods\nisolate: {survivingConnections: Delete, probe: {image: busybox}}", says: "`probe` must not be set but with"},
		"a probe of nothing":    {step: "target: Pods\nisolate: {probe: {command: [nc]}}", says: "probe.image: Required value"},
		"a wild reference":      {step: "target: Pods\nisolate: {probe: {image: busybox, reference: 'https://example.com'}}", says: "isolate.probe.reference"},
		"nodes":                 {step: "target: Nodes\nisolate: {}", says: "'Pods' or 'Workloads' for 'isolate'"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			step := v1alpha1.PlaybookStep{}
			if err := sigsyaml.UnmarshalStrict([]byte("name: cut\n"+test.step), &step); err != nil {
				t.Fatal(err)
			}
			err := admin.Create(t.Context(), &v1alpha1.ResponsePlaybook{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "checked"},
				Spec:       v1alpha1.ResponsePlaybookSpec{ServiceAccountName: "contain", Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{step}}},
			}, client.DryRunAll)
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("the API server says %v, want %q", err, test.says)
			}
		})
	}
}
