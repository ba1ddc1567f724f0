package expression

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/cel/openapi"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Variables are the values an expression sees. Build them once and use them for many
// expressions; they are safe for concurrent use.
type Variables struct {
	values map[string]any
}

// EventVariables are the variables of scope Event. workload is the name of the top
// owner of the event's first resource; empty makes `event.workload` absent.
func EventVariables(event *v1alpha1.SecurityEvent, workload string) (Variables, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&event.Spec)
	if err != nil {
		return Variables{}, fmt.Errorf("read event %q: %w", event.Name, err)
	}
	for name, value := range map[string]string{
		"name": event.Name, "namespace": event.Namespace, "workload": workload, "mode": string(event.Spec.Mode.OrLive()),
	} {
		if value != "" {
			content[name] = value
		}
	}
	return typed(Event, "event", content)
}

// IncidentVariables are the variables of scope Incident. Before the first status write
// what is in force is what the spec says.
func IncidentVariables(incident *v1alpha1.Incident) (Variables, error) {
	content := map[string]any{}
	for name, value := range map[string]string{
		"name": incident.Name, "namespace": incident.Namespace,
		"title":    incident.Spec.Title,
		"mode":     string(incident.Spec.Mode.OrLive()),
		"severity": first(string(incident.Status.Severity), string(incident.Spec.Severity)),
		"category": first(string(incident.Status.Category), string(incident.Spec.Category)),
		"priority": string(incident.Status.Priority),
		"phase":    first(string(incident.Status.Phase), string(v1alpha1.PhaseAssessment)),
	} {
		if value != "" {
			content[name] = value
		}
	}
	content["eventCount"] = max(incident.Status.EventCount, 1)
	return typed(Incident, "incident", content)
}

// VerifyVariables are the variables of scope Verify. Each object is the content of an
// unstructured object; it must not be changed while the variables are in use.
func VerifyVariables(incident *v1alpha1.Incident, objects []map[string]any) (Variables, error) {
	variables, err := IncidentVariables(incident)
	if err != nil {
		return Variables{}, err
	}
	list := make([]any, 0, len(objects))
	for _, object := range objects {
		list = append(list, object)
	}
	variables.values["objects"] = list
	return variables, nil
}

func typed(scope Scope, variable string, content map[string]any) (Variables, error) {
	environment, err := environmentOf(scope)
	if err != nil {
		return Variables{}, err
	}
	return Variables{values: map[string]any{
		variable: openapi.UnstructuredToVal(content, environment.schema[variable]),
	}}, nil
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
