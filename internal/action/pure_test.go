package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

func TestNames(t *testing.T) {
	var want []string
	for _, trait := range lifecycle.Actions {
		if trait.Acts {
			want = append(want, trait.Name)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, Names()); diff != "" {
		t.Errorf("Names() (-want +got):\n%s", diff)
	}
	if _, err := For("format"); err == nil || !strings.Contains(err.Error(), "must be one of [apply blockImage ") {
		t.Errorf("For() = %v, want it to name the actions", err)
	}
}

func TestRedact(t *testing.T) {
	env := func(name, value string) any { return map[string]any{"name": name, "value": value} }
	object := map[string]any{
		"kind":     "Deployment",
		"metadata": map[string]any{"annotations": map[string]any{lastApplied: `{"x":1}`, "note": "stays"}},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"initContainers": []any{map[string]any{"name": "token", "value": "stays", "env": []any{env("apiKey", "k")}}},
			"containers": []any{map[string]any{"env": []any{
				env("MODE", "live"), env("db_PASSWORD", "p"), env("AWS_Credential_File", "c"), env("EMPTY_TOKEN", ""),
				map[string]any{"name": "SECRET", "valueFrom": map[string]any{"secretKeyRef": map[string]any{"name": "s", "key": "k"}}},
			}}},
		}}},
	}
	secret := map[string]any{"apiVersion": "v1", "kind": "Secret", "data": map[string]any{"a": "eA==", "b": "eQ=="}}
	hidden := redaction{}
	hidden.redact(object, "items[0]")
	hidden.redact(secret, "items[1]")
	want := []string{
		"items[0].metadata.annotations[" + lastApplied + "]",
		"items[0].spec.template.spec.containers[0].env[1].value",
		"items[0].spec.template.spec.containers[0].env[2].value",
		"items[0].spec.template.spec.initContainers[0].env[0].value",
		"items[1].data[a]", "items[1].data[b]",
	}
	if diff := cmp.Diff(want, hidden.list()); diff != "" {
		t.Errorf("redacted (-want +got):\n%s", diff)
	}
	text := fmt.Sprint(object, secret)
	for _, value := range []string{"live", "stays", "value:stays", "secretKeyRef"} {
		if !strings.Contains(text, value) {
			t.Errorf("%q was redacted", value)
		}
	}
	if strings.Contains(text, "eA==") || strings.Contains(text, "value:p]") {
		t.Errorf("a secret is left in %s", text)
	}
}

// savedRecord keeps the last record that was to be preserved.
type savedRecord struct {
	Recorder
	spec v1alpha1.EvidenceSpec
	text string
}

func (s *savedRecord) Preserve(ctx context.Context, _ *Request, record Record) (*v1alpha1.Evidence, error) {
	from, err := record.Open(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(from)
	s.spec, s.text = record.Spec, string(raw)
	return &v1alpha1.Evidence{}, errors.Join(err, from.Close())
}

// Evidence is a list: what is secret in it is left out wherever it stands.
func TestKeptListsHideSecrets(t *testing.T) {
	secret := func(name string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name},
			"data": map[string]any{"password": "aHVudGVyMg=="}, "stringData": map[string]any{"token": "hunter2"}}
	}
	saved := &savedRecord{}
	c := &collection{request: &Request{Evidence: saved}}
	err := c.keepList(t.Context(), "manifest", v1alpha1.EvidenceSpec{}, []unstructured.Unstructured{
		{Object: secret("first")},
		{Object: map[string]any{"apiVersion": "v1", "kind": "List", "items": []any{secret("second")}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"items[0].data[password]", "items[0].stringData[token]", "items[1].items[0].data[password]", "items[1].items[0].stringData[token]"}
	if diff := cmp.Diff(want, saved.spec.Redacted); diff != "" {
		t.Errorf("redacted (-want +got):\n%s", diff)
	}
	if strings.Contains(saved.text, "aHVudGVyMg==") || strings.Contains(saved.text, "hunter2") || !strings.Contains(saved.text, "second") {
		t.Errorf("kept: %s", saved.text)
	}
}

func TestRedactedListIsBounded(t *testing.T) {
	var env []any
	for i := range 100 {
		env = append(env, map[string]any{"name": "TOKEN", "value": fmt.Sprint(i)})
	}
	hidden := redaction{}
	hidden.redact(map[string]any{strings.Repeat("x", 300): map[string]any{"env": env}}, "")
	list := hidden.list()
	if len(list) != 64 || list[63] != "and 37 more" {
		t.Errorf("%d paths, the last %q; want 64 that end with 'and 37 more'", len(list), list[len(list)-1])
	}
	for _, path := range list {
		if len([]rune(path)) > 256 {
			t.Errorf("path of %d characters", len([]rune(path)))
		}
	}
}

func TestIncidentLabel(t *testing.T) {
	for name, same := range map[string]bool{
		"inc-20261121-k7f2a":    true,
		strings.Repeat("a", 63): true,
		strings.Repeat("a", 64): false,
		strings.Repeat("a", 51) + ".-" + strings.Repeat("b", 100): false,
	} {
		label := IncidentLabel(name)
		if problems := validation.IsValidLabelValue(label); len(problems) > 0 || (label == name) != same {
			t.Errorf("IncidentLabel(%q) = %q: %v", name, label, problems)
		}
	}
	if IncidentLabel(strings.Repeat("a", 64)) == IncidentLabel(strings.Repeat("a", 65)) {
		t.Error("labels of different incidents must differ")
	}
	if ShortHash(10, "a", "b") == ShortHash(10, "ab") || len(ShortHash(100, "a")) != 64 {
		t.Error("ShortHash must tell parts apart, and give at most 64 digits")
	}
	long := fieldOwner(&v1alpha1.Incident{})
	incident := &v1alpha1.Incident{}
	incident.Name = strings.Repeat("a", 253)
	if owner := fieldOwner(incident); len(owner) > 128 || owner == long {
		t.Errorf("field owner of %d characters", len(owner))
	}
}

func TestExplain(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	at := access{verb: "patch", resource: "pods", namespace: "shop", name: "cart-1"}
	request := &Request{ActingAs: "system:serviceaccount:security:contain"}
	tests := map[string]struct {
		err       error
		says      string
		permanent bool
	}{
		"forbidden by RBAC": {
			apierrors.NewForbidden(pods, "cart-1", errors.New(`User "system:serviceaccount:security:contain" cannot patch resource "pods" in API group "" in the namespace "shop"`)),
			"system:serviceaccount:security:contain may not patch pods in namespace 'shop': grant it 'patch' on 'pods' (API group '') there by a RoleBinding", true,
		},
		"forbidden by admission": {
			apierrors.NewForbidden(pods, "cart-1", errors.New("admission webhook said no\x1b[31m\nand more")),
			"was refused when it wanted to patch pods 'cart-1' in namespace 'shop': pods \"cart-1\" is forbidden: admission webhook said no\ufffd[31m and more", true,
		},
		"not found":   {apierrors.NewNotFound(pods, "cart-1"), "there is no such object", false},
		"conflict":    {apierrors.NewConflict(pods, "cart-1", errors.New("changed")), "it was changed at the same time", false},
		"timeout":     {fmt.Errorf("get: %w", context.DeadlineExceeded), "no answer in time", false},
		"unavailable": {apierrors.NewServiceUnavailable("later"), "later", false},
		"overloaded":  {apierrors.NewTooManyRequests("slow down", 1), "slow down", false},
		"internal":    {apierrors.NewInternalError(errors.New("etcd")), "etcd", false},
		"invalid":     {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "cart-1", nil), "the API server has refused it", true},
		"connection":  {errors.New("connection refused"), "connection refused", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			result := request.failure(test.err, at)
			if !strings.Contains(result.Message, test.says) || result.Permanent != test.permanent || result.State != v1alpha1.TargetFailed {
				t.Errorf("failure() = %+v, want %q, permanent %t", result, test.says, test.permanent)
			}
		})
	}
	cluster := request.failure(apierrors.NewForbidden(pods, "", errors.New(`User "x" cannot get resource "nodes"`)), access{verb: "get", resource: "nodes"})
	if !strings.Contains(cluster.Message, "by a ClusterRole and a ClusterRoleBinding") {
		t.Errorf("for a cluster-wide right: %q", cluster.Message)
	}
	if long := failed("%s", strings.Repeat("ä", 5000)); len([]rune(long.Message)) > 1024 {
		t.Errorf("message of %d characters", len([]rune(long.Message)))
	}
}

func TestLogReaderCuts(t *testing.T) {
	tests := map[string]struct {
		from       io.Reader
		want, note string
	}{
		"less":               {strings.NewReader("123456789"), "123456789", ""},
		"exactly":            {strings.NewReader("1234567890"), "1234567890", ""},
		"one more":           {strings.NewReader("1234567890x"), "1234567890", "; cut after 10 bytes"},
		"more, byte by byte": {iotest.OneByteReader(strings.NewReader("1234567890xyz")), "1234567890", "; cut after 10 bytes"},
		"breaks off":         {io.MultiReader(strings.NewReader("12345"), iotest.ErrReader(errors.New("reset"))), "12345", "; broke off after 5 bytes"},
		"data with its end":  {iotest.DataErrReader(strings.NewReader("12345")), "12345", ""},
		"nothing":            {strings.NewReader(""), "", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			closed := false
			reader := &logReader{stream: io.NopCloser(test.from), cancel: func() { closed = true }, limit: 10}
			got, err := io.ReadAll(reader)
			if err != nil || string(got) != test.want || reader.note() != test.note {
				t.Errorf("read %q, %v, note %q; want %q and %q", got, err, reader.note(), test.want, test.note)
			}
			if err := reader.Close(); err != nil || !closed {
				t.Errorf("Close() = %v, cancelled %t", err, closed)
			}
		})
	}
}
