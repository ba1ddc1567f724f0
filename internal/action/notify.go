package action

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
	"github.com/firebreak-dev/firebreak/internal/notify"
)

// maxNamedResources is how many resources of an incident a message names by itself.
const maxNamedResources = 8

// tell sends a message to one channel of the plan: each is a target of its own, so that
// what one has got is not sent to it again when another one is retried. A manager that was
// killed before an outcome was on record sends the same message again, under the same key.
type tell struct{}

var _ = register("notify", tell{})

// prepared is a message that is ready to be sent.
type prepared struct {
	channel *v1alpha1.PlanChannel
	service *notify.Service
	message notify.Message
}

// name is how messages name where it goes.
func (p *prepared) name() string {
	return fmt.Sprintf("channel '%s' (%s)", p.channel.Name, p.service.Name)
}

// Plan writes the message, gives it to be kept, and sends nothing.
func (tell) Plan(ctx context.Context, r *Request) lifecycle.Result {
	ready, problem := r.prepareMessage(ctx)
	if problem != nil {
		return *problem
	}
	result := lifecycle.Result{State: v1alpha1.TargetActing, Message: say("%s will be told", ready.name())}
	if r.DryRun {
		return result
	}
	if result.Undo, problem = recordOfMessage(ready.message).text(); problem != nil {
		return *problem
	}
	return result
}

// Apply sends the message.
func (tell) Apply(ctx context.Context, r *Request) lifecycle.Result {
	ready, problem := r.prepareMessage(ctx)
	if problem != nil {
		return *problem
	}
	if r.DryRun {
		return done("%s would be told: %s", ready.name(), ready.message.Title)
	}
	err := ready.service.Send(ctx, r.Egress, ready.message)
	var answer *notify.Error
	switch {
	case err == nil:
		return done("%s was told", ready.name())
	case errors.As(err, &answer):
		result := failed("%s was not told: %s", ready.name(), answer.Message)
		result.Permanent = answer.Permanent
		return result
	default:
		message, permanent := explainEgress(err, ready.name()+" was not told")
		result := failed("%s", message)
		result.Permanent = permanent
		return result
	}
}

// Observe has nothing to look at: who was told was told.
func (tell) Observe(context.Context, *Request) lifecycle.Result {
	return done("the message was sent")
}

// Undo cannot take back a message.
func (tell) Undo(context.Context, *Request) lifecycle.Result {
	return refused("the message was sent, and that cannot be undone")
}

// prepareMessage finds the channel and writes the message.
func (r *Request) prepareMessage(ctx context.Context) (*prepared, *lifecycle.Result) {
	if r.Step.Notify == nil {
		return nil, refusal("step '%s' has no `notify`", r.Step.Name)
	}
	if !lifecycle.IsChannel(&r.Target) {
		return nil, r.mute()
	}
	ready := &prepared{channel: lifecycle.ChannelOf(r.Plan, r.Target.Name)}
	if ready.channel == nil {
		return nil, refusal("%v", noChannel(r.Plan, r.Target.Name))
	}
	marking := v1alpha1.TLP(firstText(string(r.Incident.Spec.TLP), string(v1alpha1.TLPAmber)))
	if err := notify.Permits(ready.channel, marking); err != nil {
		return nil, refusal("%v", err)
	}
	if r.Egress == nil || len(r.Egress.rules) == 0 {
		return nil, refusal("no message leaves the cluster: the manager's `--egress-allow` names no host")
	}
	var problem *lifecycle.Result
	if ready.service, problem = r.openChannel(ctx, ready.channel); problem != nil {
		return nil, problem
	}
	ready.message, problem = r.pinMessage(func() (notify.Message, *lifecycle.Result) { return r.writeMessage(ctx, marking) })
	if problem != nil {
		return nil, problem
	}
	return ready, nil
}

func refusal(format string, args ...any) *lifecycle.Result {
	result := refused(format, args...)
	return &result
}

// mute says why nobody is told by a role. When the step is begun anew and the role has
// channels by then, these are targets themselves.
func (r *Request) mute() *lifecycle.Result {
	role := lifecycle.RoleOf(r.Plan, r.Target.Name)
	if role != nil && len(role.Channels) > 0 {
		result := done("role '%s' has channels now, and each is told", role.Name)
		return &result
	}
	return refusal("%v", muteRole(r.Plan, r.Target.Name))
}

// openChannel understands the URL of a channel. Nothing of it is ever said.
func (r *Request) openChannel(ctx context.Context, channel *v1alpha1.PlanChannel) (*notify.Service, *lifecycle.Result) {
	reference := &v1alpha1.SecretKeyReference{Name: channel.URLSecretKeyRef.Name, Key: channel.URLSecretKeyRef.Key}
	if r.AsPlan == nil {
		return nil, refusal("nothing acts as the plan's ServiceAccount")
	}
	reader, user, err := r.AsPlan(ctx)
	if err != nil {
		result := failed("channel '%s': %v", channel.Name, err)
		result.Permanent = r.Plan.Spec.ServiceAccountName == ""
		return nil, &result
	}
	asPlan := *r
	asPlan.Client, asPlan.ActingAs = reader, user
	value, problem := asPlan.secretValue(ctx, reference)
	if problem != nil {
		problem.Message = say("channel '%s': %s", channel.Name, problem.Message)
		return nil, problem
	}
	where := fmt.Sprintf("channel '%s': the URL in key '%s' of Secret '%s'", channel.Name, reference.Key, reference.Name)
	service, err := notify.Open(value)
	if err != nil {
		return nil, refusal("%s %v", where, err)
	}
	if err := service.Check(r.Egress); err != nil {
		return nil, refusal("%s: %v", where, err)
	}
	return service, nil
}

// writeMessage makes the message of the step.
func (r *Request) writeMessage(ctx context.Context, marking v1alpha1.TLP) (notify.Message, *lifecycle.Result) {
	incident := r.Incident
	severity := firstText(string(incident.Status.Severity), string(incident.Spec.Severity))
	title, text := fmt.Sprintf("%s: %s", severity, incident.Spec.Title), r.summary()
	for _, part := range []struct {
		field  string
		source v1alpha1.Expression
		text   *string
	}{{"`notify.title`", r.Step.Notify.Title, &title}, {"`notify.message`", r.Step.Notify.Message, &text}} {
		if part.source == "" {
			continue
		}
		var err error
		if *part.text, err = r.Values.Text(ctx, incident, part.source, nil); err != nil {
			return notify.Message{}, refusal("%s %v", part.field, err)
		}
	}
	message := notify.NewMessage(title, text, r.sendKey(), r.Now)
	message.Text += fmt.Sprintf("\n\nIncident %s in %s, step %s. TLP %s.", incident.Name, incident.Namespace, r.Step.Name, marking)
	return message, nil
}

// summary is what a message says when the playbook does not.
func (r *Request) summary() string {
	status, spec := &r.Incident.Status, &r.Incident.Spec
	lines := []string{strings.Join(slices.DeleteFunc([]string{
		firstText(string(status.Category), string(spec.Category)), string(status.Priority), string(status.Phase),
	}, func(word string) bool { return word == "" }), ", ")}
	for i := range status.Resources {
		if i == maxNamedResources {
			lines = append(lines, fmt.Sprintf("and %d more", len(status.Resources)-maxNamedResources))
			break
		}
		resource := &status.Resources[i]
		lines = append(lines, strings.TrimSpace(resource.Kind+" "+strings.TrimPrefix(resource.Namespace+"/"+resource.Name, "/")))
	}
	lines = append(lines, fmt.Sprintf("kubectl firebreak show %s -n %s", r.Incident.Name, r.Incident.Namespace))
	return strings.Join(lines, "\n")
}

func noChannel(plan *v1alpha1.ResponsePlan, name string) error {
	if plan == nil {
		return fmt.Errorf("there is no channel '%s': the namespace has no ResponsePlan '%s'", name, v1alpha1.ResponsePlanName)
	}
	known := make([]string, 0, len(plan.Spec.Channels))
	for i := range plan.Spec.Channels {
		known = append(known, string(plan.Spec.Channels[i].Name))
	}
	if len(known) == 0 {
		return fmt.Errorf("there is no channel '%s': the plan has no `channels`", name)
	}
	return fmt.Errorf("the plan has no channel '%s': it must be one of '%s'", name, strings.Join(known, "', '"))
}

func muteRole(plan *v1alpha1.ResponsePlan, name string) error {
	switch {
	case plan == nil:
		return fmt.Errorf("there is no role '%s': the namespace has no ResponsePlan '%s'", name, v1alpha1.ResponsePlanName)
	case lifecycle.RoleOf(plan, name) == nil:
		return fmt.Errorf("the plan has no role '%s'", name)
	default:
		return fmt.Errorf("role '%s' of the plan has no `channels` by which it could be told", name)
	}
}
