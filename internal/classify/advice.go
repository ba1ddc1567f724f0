package classify

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Advice says what the person who has reported an event should do now: note the details at once,
// and act only as coordinated (ISO/IEC 27002:2022, 5.24 and 6.8). Empty for what no person reported.
func Advice(event *v1alpha1.SecurityEvent) string {
	if event.Spec.Source.Kind != v1alpha1.SourceHuman {
		return ""
	}
	const again = "If you see more of it, or it happens again, report that too."
	advice := ""
	switch incident := event.Status.IncidentRef.Name; {
	case incident != "":
		advice = fmt.Sprintf("Incident %s deals with it. Keep your notes, and do only what those who deal with it ask of you. %s", incident, again)
	case isInNoDomain(event):
		advice = fmt.Sprintf("Nobody looks at what is reported in namespace %s: report it again where it is seen.", event.Namespace)
	case event.Status.Assessment.Outcome == v1alpha1.OutcomeDismissed:
		advice = "It was decided that nothing more needs to be done about it: `status.assessment.reason` says why. " + again
	default:
		advice = "Write down at once what you have noticed, with times and the words of messages on the screen. Leave things as they are: " +
			"do not try to prove it, and repair or clean up nothing on your own, for that may destroy evidence. Wait until somebody asks you. " + again
	}
	if event.Spec.Mode == v1alpha1.ModeDrill {
		advice = "This is a drill. " + advice
	}
	return advice
}

func isInNoDomain(event *v1alpha1.SecurityEvent) bool {
	assessed := meta.FindStatusCondition(event.Status.Conditions, v1alpha1.ConditionAssessed)
	return assessed != nil && assessed.Reason == v1alpha1.ReasonNotADomain
}
