package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

// NamedExpression is a value by a name.
type NamedExpression struct {
	// name of the value.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	Name string `json:"name,omitempty"`

	// expression yields it.
	// +required
	Expression Expression `json:"expression,omitempty"`
}

// SecretKeyReference names one value of a Secret of the domain's namespace. It is read
// as the playbook's ServiceAccount.
type SecretKeyReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Name string `json:"name,omitempty"`

	// key in the Secret's data.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Key string `json:"key,omitempty"`
}

// JobAction runs a Job once.
type JobAction struct {
	// template is the Job: a batch/v1 JobSpec. Its pods run as the playbook's ServiceAccount or,
	// with `automountServiceAccountToken: false`, without a token; any other is refused, and so are
	// Secrets, ConfigMaps and PersistentVolumeClaims that it may not get. Empty `backoffLimit` means
	// 0; `activeDeadlineSeconds` is at most the step's timeout; `ttlSecondsAfterFinished` is refused.
	// +required
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Template *runtime.RawExtension `json:"template,omitempty"`

	// environment is added to every container: CEL expressions over `incident`, `resources`,
	// `object` (the target, if any), `variables` and `steps` that yield strings. An alert's text
	// reaches a program only this way: `$(NAME)` of it in the template is refused.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Environment []NamedExpression `json:"environment,omitempty"`
}

// HTTPHeader is one header of a request.
// +kubebuilder:validation:ExactlyOneOf=value;valueFrom
type HTTPHeader struct {
	// name of the header.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9-]+$`
	Name string `json:"name,omitempty"`

	// value of the header.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value,omitempty"`

	// valueFrom is where a secret is.
	// +optional
	ValueFrom *SecretKeyReference `json:"valueFrom,omitempty"`
}

// HTTPMethod is the method of a request.
// +kubebuilder:validation:Enum=GET;POST;PUT;PATCH;DELETE
type HTTPMethod string

// HTTPAction sends one HTTPS request.
// +kubebuilder:validation:ExactlyOneOf=url;urlFrom
type HTTPAction struct {
	// method of the request. Empty means 'POST'.
	// +optional
	// +kubebuilder:default=POST
	Method HTTPMethod `json:"method,omitempty"`

	// url is where to: only hosts that the manager's `--egress-allow` names.
	// +optional
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:Pattern=`^https://[^/?#@]+(/.*)?$`
	URL string `json:"url,omitempty"`

	// urlFrom is where a secret URL is.
	// +optional
	URLFrom *SecretKeyReference `json:"urlFrom,omitempty"`

	// headers are added to the request.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Headers []HTTPHeader `json:"headers,omitempty"`

	// body is a CEL expression over `incident`, `resources`, `object` (the target, if any),
	// `variables` and `steps`; it is sent as JSON. Empty means a summary of the incident; for 'GET'
	// and 'DELETE' none.
	// +optional
	Body Expression `json:"body,omitempty"`

	// signatureFrom is the key of the HMAC-SHA256 in the header 'Firebreak-Signature'. Empty means
	// no signature.
	// +optional
	SignatureFrom *SecretKeyReference `json:"signatureFrom,omitempty"`

	// outputs are values for later steps: CEL expressions over `response` with `status`,
	// `headers` (their names in small letters) and `body` (parsed, when it is JSON).
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Outputs []NamedExpression `json:"outputs,omitempty"`
}

// NotifyAction sends a message to channels of the plan.
// +kubebuilder:validation:AtLeastOneOf=channels;roles
type NotifyAction struct {
	// channels of the plan.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Channels []ChannelName `json:"channels,omitempty"`

	// roles of the plan, whose channels are told.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Roles []RoleName `json:"roles,omitempty"`

	// title is a CEL expression as `message` is. Empty means the incident's severity and title.
	// +optional
	Title Expression `json:"title,omitempty"`

	// message is a CEL expression over `incident`, `resources`, `variables` and `steps` that yields
	// text. Empty means a summary of the incident.
	// +optional
	Message Expression `json:"message,omitempty"`
}
