package action

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

const (
	mediaTypeJSON = "application/json"
	mediaTypeText = "text/plain; charset=utf-8"
)

// collect preserves evidence about a target: its manifest and those around it, its
// Kubernetes Events, and its containers' logs.
type collect struct{}

var _ = register("collect", collect{})

// Plan looks whether the target is there.
func (collect) Plan(ctx context.Context, r *Request) lifecycle.Result {
	options := r.Step.Collect
	switch {
	case options == nil:
		return refused("step '%s' has no `collect`", r.Step.Name)
	case options.Objects == v1alpha1.ObjectsNone && options.Events == v1alpha1.Exclude && options.Logs == nil:
		return refused("step '%s' collects nothing: at least one of `objects`, `events` and `logs` must be asked for", r.Step.Name)
	}
	object, err := r.metadata(ctx)
	if problem := r.absent(object, err); problem != nil {
		return *problem
	}
	return lifecycle.Result{State: v1alpha1.TargetActing, Message: say("evidence about %s will be kept", r.targetName())}
}

// collection is what one Apply has kept so far, and what it could not keep.
type collection struct {
	request *Request
	object  *unstructured.Unstructured
	kept    []string
	missed  []string
}

// Apply keeps everything that is asked for. What cannot be read is named and does not
// keep the rest from being kept; without the manifest it has failed.
func (collect) Apply(ctx context.Context, r *Request) lifecycle.Result {
	options := r.Step.Collect
	if options == nil {
		return refused("step '%s' has no `collect`", r.Step.Name)
	}
	object, err := r.object(ctx, kindOf(&r.Target), targetKey(&r.Target))
	if problem := r.absent(object, err); problem != nil {
		return *problem
	}
	c := &collection{request: r, object: object}
	var problems error
	for _, part := range []struct {
		asked   bool
		collect func(context.Context) error
	}{
		{options.Objects != v1alpha1.ObjectsNone, c.manifests},
		{options.Events != v1alpha1.Exclude, c.events},
		{options.Logs != nil, func(ctx context.Context) error { return c.logs(ctx, options.Logs) }},
	} {
		if part.asked && !errors.Is(problems, ErrNoRoom) {
			problems = errors.Join(problems, part.collect(ctx))
		}
	}
	return c.result(problems)
}

func (c *collection) result(err error) lifecycle.Result {
	missed := ""
	if len(c.missed) > 0 {
		missed = "; not kept: " + strings.Join(c.missed, "; ")
	}
	switch {
	case err != nil:
		return failed("evidence could not be kept: %v%s", err, missed)
	case len(c.kept) == 0:
		return failed("nothing could be collected%s", missed)
	default:
		return done("kept: %s%s", strings.Join(c.kept, ", "), missed)
	}
}

// miss notes that something could not be read.
func (c *collection) miss(what string, err error, at access) {
	message, _ := c.request.explain(err, at)
	c.missed = append(c.missed, what+": "+message)
}

// again gives the error of a read that is worth another try: the API server's own trouble,
// while the step has tries left. What was collected without it would stay without it.
func (r *Request) again(what string, err error) error {
	if !Passes(err) || r.Target.Attempts+1 >= r.Step.Retry.Attempts {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// spec begins the Evidence of one record about the target.
func (c *collection) spec(kind v1alpha1.EvidenceType, method, mediaType string) v1alpha1.EvidenceSpec {
	target := &c.request.Target
	node, _, _ := unstructured.NestedString(c.object.Object, "spec", "nodeName")
	return v1alpha1.EvidenceSpec{
		Type:      kind,
		Method:    lifecycle.Cut(printable(method), 256),
		MediaType: mediaType,
		Resource: &v1alpha1.ResourceReference{
			APIVersion: target.APIVersion, Kind: target.Kind, Namespace: target.Namespace, Name: target.Name, UID: target.UID, Node: node,
		},
		Origin: v1alpha1.EvidenceOrigin{Node: node},
	}
}

// keep preserves one record. That it cannot be preserved although it was read is the
// store's failure or the manager's, and no reason to go on without it.
func (c *collection) keep(ctx context.Context, what string, record Record) error {
	if _, err := c.request.Evidence.Preserve(ctx, c.request, record); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	c.kept = append(c.kept, what)
	return nil
}

// keepList preserves objects as one JSON list.
func (c *collection) keepList(ctx context.Context, what string, spec v1alpha1.EvidenceSpec, objects []unstructured.Unstructured) error {
	items := make([]any, 0, len(objects))
	for i := range objects {
		items = append(items, objects[i].Object)
	}
	list := map[string]any{"apiVersion": "v1", "kind": "List", "items": items}
	hidden := redaction{}
	hidden.redact(list, "")
	spec.Redacted = hidden.list()
	raw, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return c.keep(ctx, what, Record{Key: what, Spec: spec, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}})
}

// Observe has nothing to look at: evidence that was kept stays.
func (collect) Observe(context.Context, *Request) lifecycle.Result {
	return done("evidence is kept")
}

// Undo has nothing to undo: evidence that was kept stays.
func (collect) Undo(context.Context, *Request) lifecycle.Result {
	return reverted("evidence stays: there is nothing to undo")
}
