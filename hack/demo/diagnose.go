package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const logTail = 25

// diagnose says what was expected and what is there instead.
func (d *demo) diagnose(ctx context.Context, cause error) {
	fmt.Fprintf(d.out, "\n%s\n", d.paint("1;31", "This stage did not come to its end."))
	d.line("%s", cause)
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	incident := &v1alpha1.Incident{}
	switch {
	case d.incident == "":
	case d.Get(limited, client.ObjectKey{Namespace: domain, Name: d.incident}, incident) != nil:
		d.line("incident %s cannot be read", d.incident)
	default:
		d.describe(incident)
	}
	for _, name := range []string{"manager", "receiver"} {
		d.tail(filepath.Join(d.dir, "logs", name+".log"))
	}
}

func (d *demo) describe(incident *v1alpha1.Incident) {
	d.line("incident %s is in phase %s", incident.Name, incident.Status.Phase)
	for i := range incident.Status.Awaiting {
		awaiting := &incident.Status.Awaiting[i]
		d.line("awaiting %s %s: %s", awaiting.Type, awaiting.Step, awaiting.Message)
		d.command("%s", awaiting.Command)
	}
	rows := [][]string{{"CONDITION", "STATUS", "REASON", "MESSAGE"}}
	for _, c := range incident.Status.Conditions {
		rows = append(rows, []string{c.Type, string(c.Status), c.Reason, c.Message})
	}
	d.table(rows)
	rows = [][]string{{"STEP", "STATE", "MESSAGE"}}
	for i := range incident.Status.Steps {
		step := &incident.Status.Steps[i]
		rows = append(rows, []string{step.Name, string(step.State), step.Message})
		for j := range step.Targets {
			target := &step.Targets[j]
			rows = append(rows, []string{"  " + target.Kind + " " + target.Name, string(target.State), target.Message})
		}
	}
	d.table(rows)
}

func (d *demo) tail(path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		d.line("%v", err)
		return
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	d.line("the end of %s:", path)
	d.quoted(strings.Join(lines[max(len(lines)-logTail, 0):], "\n"))
}
