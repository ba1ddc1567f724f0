package action

import (
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Describe documents the action.
func (job) Describe() Description {
	return Description{
		Does: "Runs a Job in the domain's namespace, once for each attempt and target: its name follows from these, so that whoever asks again after a crash finds it. The logs are kept as Evidence; the last 1,024 bytes of the first container's are the output `output`, its exit code is `exitCode`. Further containers have theirs with their name at the end, such as `output_sidecar`.",
		Limits: []string{
			"The pods run as the playbook's ServiceAccount; say `automountServiceAccountToken: false` where they need no token. Any other account is refused.",
			"Every Secret, ConfigMap and PersistentVolumeClaim that the pods refer to must be one that the ServiceAccount may `get`.",
			"What `environment` yields can be read from the environment only: `$(NAME)` of it in a command line is refused, for it may come from an alert.",
			"`backoffLimit` is 0 unless the template says otherwise, and `activeDeadlineSeconds` at most the step's `timeout`.",
			"A Job that has failed is not run again by itself: RetryStep runs a new one.",
			"The Job stays until the incident is deleted: it is the proof that it has run. `ttlSecondsAfterFinished` is refused.",
			"In a dry run it is not started.",
		},
		Example: `
name: rotate
timeout: 10m
job:
  template:
    template:
      spec:
        automountServiceAccountToken: false
        containers:
        - {name: rotate, image: "registry.example.com/rotate:1", command: [rotate], envFrom: [{secretRef: {name: rotate}}]}
  environment:
  - {name: INCIDENT, expression: incident.name}
`,
	}
}

// Rights are what running a Job takes.
func (job) Rights(step *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	rights := []Right{
		{Group: batchv1.GroupName, Resource: "jobs", Verbs: []string{"get", "create"}, Place: InDomain},
		{Resource: "pods", Verbs: []string{"list"}, Place: InDomain},
		{Resource: "pods/log", Verbs: []string{"get"}, Place: InDomain},
	}
	if step.Job == nil {
		return rights
	}
	if len(step.Job.Environment) > 0 {
		rights = append(rights, rightsOn(withoutImages(kinds), "", "get")...)
	}
	spec, err := decodeJob(step.Job.Template)
	if err != nil {
		return rights
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&spec.Template.Spec)
	if err != nil {
		return rights
	}
	found := map[string]bool{}
	referredTo(content, found)
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, one := range names {
		resource, name, _ := strings.Cut(one, "/")
		rights = append(rights, Right{Resource: resource, Verbs: []string{"get"}, Names: []string{name}, Place: InDomain})
	}
	return rights
}

func withoutImages(kinds []schema.GroupVersionKind) []schema.GroupVersionKind {
	return slices.DeleteFunc(slices.Clone(kinds), func(kind schema.GroupVersionKind) bool { return kind.Kind == KindImage })
}

// Describe documents the action.
func (httpRequest) Describe() Description {
	return Description{
		Does: "Sends one HTTPS request, and makes outputs of its answer. `Idempotency-Key` is the same for every try of one step, attempt and target, also after a crash: the server can tell a repetition. With `signatureFrom` the header `Firebreak-Signature` holds the HMAC-SHA256, in hexadecimal digits, over the header `Firebreak-Timestamp` (seconds since 1970), a full stop and the body. Without `body` it sends the incident's name, namespace, title, severity and category, and the step; with `GET` and `DELETE` nothing.",
		Limits: []string{
			"Only HTTPS, and only to hosts that the manager's `--egress-allow` names. Addresses of the node, of link-local networks, of the cloud's metadata and of `--egress-deny` are refused after the name was looked up, unless the entry is that address.",
			"Answers that lead to another host, or on as a GET, are not followed.",
			"5xx, 408, 425, 429 and broken connections are tried again as `retry` says; every other answer but 2xx fails the step.",
			"A request has 30 seconds; of an answer 64 KiB are read.",
			"Secrets are read as the playbook's ServiceAccount; neither messages nor outputs hold them.",
			"What is sent under one key is always the same: the body is kept in the incident before it is sent, and until it is answered; beyond about 4,000 bytes as Evidence of type UndoRecord, up to 1 MiB. Headers and signature are made for each try.",
			"Of a body with secrets of `object` (the data of a Secret, an environment variable whose name says so) only the digest is kept: one that has changed by the next try is not sent, and fails the step.",
			"In a dry run it is not sent.",
		},
		Example: `
name: tell-siem
http:
  url: https://siem.example.com/api/cases
  headers: [{name: Authorization, valueFrom: {name: siem, key: token}}]
  signatureFrom: {name: siem, key: signing-key}
  body: '{"title": incident.title, "severity": incident.severity}'
  outputs: [{name: case, expression: response.body.id}]
`,
	}
}

// Rights are what sending takes.
func (httpRequest) Rights(step *v1alpha1.PlaybookStep, kinds []schema.GroupVersionKind) []Right {
	if step.HTTP == nil {
		return nil
	}
	var rights []Right
	var names []string
	add := func(reference *v1alpha1.SecretKeyReference) {
		if reference != nil && !slices.Contains(names, reference.Name) {
			names = append(names, reference.Name)
			rights = append(rights, secretRight(reference.Name))
		}
	}
	add(step.HTTP.URLFrom)
	add(step.HTTP.SignatureFrom)
	for i := range step.HTTP.Headers {
		add(step.HTTP.Headers[i].ValueFrom)
	}
	if step.HTTP.Body != "" {
		rights = append(rights, rightsOn(withoutImages(kinds), "", "get")...)
	}
	return rights
}

// Describe documents the action.
func (tell) Describe() Description {
	return Description{
		Does: "Sends a message to channels of the domain's ResponsePlan: those in `channels`, and those of the `roles`. A channel is a shoutrrr URL in a Secret, which is read as the plan's ServiceAccount. Each channel is a target with an outcome of its own: who could not be reached is named, and RetryStep tells only them.",
		Limits: []string{
			"The services are `generic` (any webhook), `slack`, `teams`, `pagerduty`, `opsgenie` and `smtp`; a URL of any other is refused, because its connections could not be confined. Other chats take webhooks: `generic://HOST/PATH?template=json&messagekey=text`.",
			"Only TLS, and only to hosts that the manager's `--egress-allow` names, such as `hooks.slack.com` or `mail.example.com:587`; the addresses that `http` does not reach are not reached.",
			"A channel carries only what its `tlp` allows: an incident marked more strictly is not sent.",
			"Delivery is at least once: who was told just before the manager was killed may be told again. The repetition says the same, and has the same `Idempotency-Key`, `dedup_key`, alias or Message-ID.",
			"The text is plain: control characters, calls such as `@everyone` and links with a text of their own are taken out; 200 characters of the title and 2,000 of the message are kept. It ends with the incident, the step and the marking.",
			"The plan counts as it is now, not as it was when the incident was opened. No address ever comes from an event.",
			"A step that could not tell everybody has failed: `onFailure: Continue` keeps it from holding up what contains.",
			"The playbook's ServiceAccount needs no right for it; the plan's needs `get` on the Secrets of the channels, which `kubectl firebreak rbac` prints too.",
			"It waits for no confirmation in the mode `Confirm`. In a dry run nothing is sent.",
		},
		Example: `
name: tell-oncall
notify:
  channels: [security-chat]
  roles: [IncidentManager]
  message: '"Cut off: " + resources.map(r, r.name).join(", ")'
onFailure: Continue
`,
	}
}

// Rights are none: what sending takes, the plan's ServiceAccount needs.
func (tell) Rights(*v1alpha1.PlaybookStep, []schema.GroupVersionKind) []Right { return nil }
