package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const alertText = "Falco has seen a shell in one of the pods, and its alert is posted, in its own JSON, to the receiver. The token is that of " +
	"the ServiceAccount falco/falco, which may create SecurityEvents in the namespace security and nothing else."

// alert posts what Falco would.
func (d *demo) alert(ctx context.Context) error {
	settings, err := readSettings(filepath.Join(d.dir, "receiver.env"))
	if err != nil {
		return err
	}
	template, err := os.ReadFile(filepath.Join(d.samples, "falco-alert.json"))
	if err != nil {
		return err
	}
	body, err := falcoAlert(string(template), d.pod, time.Now())
	if err != nil {
		return err
	}
	api, err := trusting(filepath.Join(d.dir, "receiver-ca.crt"))
	if err != nil {
		return err
	}
	url := settings["RECEIVER_URL"] + "/falco"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+settings["RECEIVER_TOKEN"])
	d.line("POST %s", url)
	d.detail("rule 'Terminal shell in container', pod %s/%s, container %s, command 'sh -c id' as root", shop, d.pod.Name, d.pod.Spec.Containers[0].Name)
	d.alerted = time.Now()
	response, err := api.Do(request)
	if err != nil {
		return fmt.Errorf("posting the alert: %w", err)
	}
	defer response.Body.Close()
	took := time.Since(d.alerted)
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return fmt.Errorf("reading the receiver's answer: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return &unmetError{expected: "the receiver takes the alert (2xx)", found: response.Status + " " + string(answer)}
	}
	d.good("%s after %s: the alert is in the API server, and cannot be lost any more", strong(response.Status), span(took))
	d.quoted(string(bytes.TrimSpace(answer)))
	d.command(". %s/receiver.env; curl --cacert %[1]s/receiver-ca.crt -H \"Authorization: Bearer $RECEIVER_TOKEN\" -d @ALERT.json $RECEIVER_URL/falco", d.dir)
	return nil
}

// falcoAlert fills the template in for a pod. The values are names of the API or made
// here: none needs escaping in JSON.
func falcoAlert(template string, pod *corev1.Pod, now time.Time) ([]byte, error) {
	container := pod.Spec.Containers[0]
	image, tag, _ := strings.Cut(container.Image, ":")
	now = now.UTC()
	text := os.Expand(template, func(name string) string {
		switch name {
		case "NAMESPACE":
			return pod.Namespace
		case "POD":
			return pod.Name
		case "NODE":
			return pod.Spec.NodeName
		case "CONTAINER":
			return container.Name
		case "IMAGE":
			return image
		case "TAG":
			return tag
		case "TIME":
			return now.Format("2006-01-02T15:04:05.000000000Z")
		case "CLOCK":
			return now.Format("15:04:05.000000000")
		case "NANOSECONDS":
			return strconv.FormatInt(now.UnixNano(), 10)
		default:
			return "${" + name + "}"
		}
	})
	if !json.Valid([]byte(text)) || strings.Contains(text, "${") {
		return nil, errors.New("the template of the alert must be JSON once ${NAMESPACE}, ${POD}, ${NODE}, ${CONTAINER}, ${IMAGE}, ${TAG}, ${TIME}, ${CLOCK} and ${NANOSECONDS} are filled in")
	}
	return []byte(text), nil
}

// readSettings reads lines of NAME=value.
func readSettings(path string) (map[string]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("where is the receiver? %w", err)
	}
	settings := map[string]string{}
	for _, line := range strings.Split(string(content), "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			settings[name] = value
		}
	}
	for _, name := range []string{"RECEIVER_URL", "RECEIVER_TOKEN"} {
		if settings[name] == "" {
			return nil, fmt.Errorf("%s must say %s=…: `make dev-up` writes it", path, name)
		}
	}
	return settings, nil
}

// trusting is a client that trusts one authority, and no proxy.
func trusting(path string) (*http.Client, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s must hold a certificate", path)
	}
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
	}, nil
}

const assessText = "The policies of the domain are asked in order; the first rule that matches decides. The assessment is recorded on the event, in " +
	"enough detail to be made again, and the incident gets the playbook's text as it is now: later edits do not touch it."

// assess waits until the event has opened an incident.
func (d *demo) assess(ctx context.Context) error {
	event := &v1alpha1.SecurityEvent{}
	err := d.await(ctx, "a SecurityEvent about pod "+d.pod.Name+" that was promoted to an incident", func() (bool, string, error) {
		events := &v1alpha1.SecurityEventList{}
		if err := d.list(ctx, domain, events); err != nil {
			return false, "", err
		}
		for i := range events.Items {
			if resources := events.Items[i].Spec.Resources; len(resources) > 0 && resources[0].Name == d.pod.Name {
				event = &events.Items[i]
			}
		}
		assessment := &event.Status.Assessment
		if event.Name == "" {
			return false, "no such event", nil
		}
		if assessment.Outcome == "" {
			return false, "event " + event.Name + ", which nobody has assessed", nil
		}
		return assessment.Outcome == v1alpha1.OutcomePromoted && event.Status.IncidentRef.Name != "",
			fmt.Sprintf("event %s: %s (%s) %s", event.Name, assessment.Outcome, assessment.Reason, assessment.Message), nil
	})
	if err != nil {
		return err
	}
	d.event, d.incident = event.Name, event.Status.IncidentRef.Name
	assessment := &event.Status.Assessment
	d.good("SecurityEvent %s: %s by rule %s/%s (generation %d)", strong(event.Name), assessment.Outcome,
		assessment.Policy.Name, assessment.Rule, assessment.Policy.Generation)
	d.detail("reported by %s; top owner of the pod: %s", event.Spec.SubmittedBy, assessment.Workload)
	incident, err := d.awaitIncident(ctx, "has pinned its playbook", func(i *v1alpha1.Incident) bool { return i.Status.Playbook.Revision != "" })
	if err != nil {
		return err
	}
	d.good("Incident %s: %s", strong(incident.Name), incident.Spec.Title)
	d.detail("severity %s, priority %s, category %s, TLP %s", incident.Status.Severity, incident.Status.Priority, incident.Status.Category, incident.Spec.TLP)
	d.detail("playbook %s, generation %d, pinned as ControllerRevision %s", incident.Status.Playbook.Name, incident.Status.Playbook.Generation, incident.Status.Playbook.Revision)
	d.command("kubectl get securityevents,incidents -n %s", domain)
	return nil
}

// awaitIncident waits until the incident is as wanted, and gives it.
func (d *demo) awaitIncident(ctx context.Context, expected string, ok func(*v1alpha1.Incident) bool) (*v1alpha1.Incident, error) {
	incident := &v1alpha1.Incident{}
	err := d.await(ctx, "incident "+d.incident+" "+expected, func() (bool, string, error) {
		if err := d.get(ctx, domain, d.incident, incident); err != nil {
			return false, "nothing", client.IgnoreNotFound(err)
		}
		return ok(incident), d.state(incident), nil
	})
	return incident, err
}

// awaitStep waits until a step of the playbook has succeeded.
func (d *demo) awaitStep(ctx context.Context, name string) (*v1alpha1.Incident, *v1alpha1.IncidentStep, error) {
	var step *v1alpha1.IncidentStep
	incident, err := d.awaitIncident(ctx, "has done step "+name, func(i *v1alpha1.Incident) bool {
		step = stepOf(i, name)
		return reachedStep(i, name)
	})
	return incident, step, err
}

func stepOf(incident *v1alpha1.Incident, name string) *v1alpha1.IncidentStep {
	for i := range incident.Status.Steps {
		if incident.Status.Steps[i].Name == name {
			return &incident.Status.Steps[i]
		}
	}
	return nil
}

// state says in a line where an incident stands.
func (d *demo) state(incident *v1alpha1.Incident) string {
	words := []string{"phase " + string(incident.Status.Phase)}
	for i := range incident.Status.Steps {
		step := &incident.Status.Steps[i]
		words = append(words, step.Name+" "+string(step.State))
	}
	return strings.Join(words, ", ")
}
