package harness

import (
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// The builders give objects that the API server accepts; edits change them.

// MakeEvent builds an event that a person reports.
func MakeEvent(namespace, name, submittedBy string, edit ...func(*v1alpha1.SecurityEvent)) *v1alpha1.SecurityEvent {
	return edited(&v1alpha1.SecurityEvent{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.SecurityEventSpec{
			Source: v1alpha1.EventSource{Kind: v1alpha1.SourceHuman}, SubmittedBy: submittedBy,
			Title: "Something happened", Severity: v1alpha1.SeverityHigh, ObservedTime: now(),
		},
	}, edit)
}

// MakeIncident builds an incident that a person declares.
func MakeIncident(namespace, name string, edit ...func(*v1alpha1.Incident)) *v1alpha1.Incident {
	return edited(&v1alpha1.Incident{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.IncidentSpec{Title: "Something happened", Severity: v1alpha1.SeverityHigh, Category: v1alpha1.CategoryIntrusion},
	}, edit)
}

// MakeDecision builds a Decision about an incident. The name is generated.
func MakeDecision(namespace, incident, by string, decision v1alpha1.DecisionType, edit ...func(*v1alpha1.Decision)) *v1alpha1.Decision {
	return edited(&v1alpha1.Decision{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "test-"},
		Spec: v1alpha1.DecisionSpec{
			Subject: v1alpha1.DecisionSubject{Kind: v1alpha1.SubjectIncident, Name: incident},
			Type:    decision, By: by, Reason: "because of a test",
		},
	}, edit)
}

// MakeEvidence builds evidence that a person has collected.
func MakeEvidence(namespace, name, collectedBy string, edit ...func(*v1alpha1.Evidence)) *v1alpha1.Evidence {
	return edited(&v1alpha1.Evidence{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.EvidenceSpec{
			IncidentRef: v1alpha1.IncidentReference{Name: "inc"}, Type: v1alpha1.EvidenceLog, Method: "by hand",
			Tool: v1alpha1.EvidenceTool{Name: "cp", Version: "1"}, CollectedTime: now(), CollectedBy: collectedBy,
			Digest:    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
			SizeBytes: ptr.To[int64](4), MediaType: "text/plain",
		},
	}, edit)
}

// MakeLesson builds a lesson from one incident.
func MakeLesson(namespace, name, incident string, edit ...func(*v1alpha1.LessonLearned)) *v1alpha1.LessonLearned {
	return edited(&v1alpha1.LessonLearned{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.LessonLearnedSpec{IncidentRefs: []v1alpha1.IncidentReference{{Name: incident}}},
	}, edit)
}

// MakePlan builds the plan of a domain.
func MakePlan(namespace, serviceAccount string, edit ...func(*v1alpha1.ResponsePlan)) *v1alpha1.ResponsePlan {
	return edited(&v1alpha1.ResponsePlan{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.ResponsePlanName},
		Spec:       v1alpha1.ResponsePlanSpec{ServiceAccountName: serviceAccount},
	}, edit)
}

// MakePolicy builds a policy that promotes what matches to an incident with a playbook.
func MakePolicy(namespace, match, playbook string, edit ...func(*v1alpha1.ClassificationPolicy)) *v1alpha1.ClassificationPolicy {
	return edited(&v1alpha1.ClassificationPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "policy"},
		Spec: v1alpha1.ClassificationPolicySpec{Rules: []v1alpha1.ClassificationRule{{
			Name: "rule", Match: v1alpha1.Expression(match), Outcome: v1alpha1.RulePromote,
			Correlate: v1alpha1.Correlation{By: []v1alpha1.Expression{"event.resources[0].namespace", "event.workload"}},
			Incident: v1alpha1.IncidentTemplate{
				Category:  v1alpha1.CategoryIntrusion,
				Playbooks: []v1alpha1.PlaybookChoice{{PlaybookRef: v1alpha1.PlaybookReference{Name: playbook}}},
			},
		}}},
	}, edit)
}

// MakePlaybook builds a playbook that isolates, and nothing else.
func MakePlaybook(namespace, name, serviceAccount string, edit ...func(*v1alpha1.ResponsePlaybook)) *v1alpha1.ResponsePlaybook {
	return edited(&v1alpha1.ResponsePlaybook{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.ResponsePlaybookSpec{
			ServiceAccountName: serviceAccount,
			Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{{
				Name: "isolate", Target: v1alpha1.TargetPods, Isolate: &v1alpha1.IsolateAction{},
			}}},
		},
	}, edit)
}

// FalcoAlert builds the alert that Falco sends for a shell in a container.
func FalcoAlert(namespace, pod string, observed time.Time) []byte {
	body, err := json.Marshal(map[string]any{
		"hostname": "node-1", "priority": "Notice", "rule": "Terminal shell in container", "source": "syscall",
		"output": fmt.Sprintf("%s: Notice A shell was spawned in a container with an attached terminal (user=root k8s_ns=%s k8s_pod=%s)",
			observed.UTC().Format("15:04:05.000000000"), namespace, pod),
		"output_fields": map[string]any{
			"container.id": "d34690e67a3a", "container.image.repository": "registry.example.com/app", "container.name": "app",
			"evt.time": observed.UnixNano(), "k8s.ns.name": namespace, "k8s.pod.name": pod,
			"proc.cmdline": "sh -c uptime", "proc.name": "sh", "proc.pname": "runc", "proc.tty": 34816, "user.name": "root",
		},
		"tags": []string{"T1059", "container", "maturity_stable", "mitre_execution", "shell"},
		"time": observed.UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return nil // cannot be: all of it is text and numbers
	}
	return body
}

func edited[T any](object *T, edit []func(*T)) *T {
	for _, change := range edit {
		change(object)
	}
	return object
}

func now() metav1.Time { return metav1.NewTime(time.Now().Truncate(time.Second)) }
