package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

// RevokeAccessAction takes a subject out of role bindings.
type RevokeAccessAction struct {
	// subject is a CEL expression over `incident`, `variables` and `steps` that yields whom
	// to take out: an object with `kind` ('User', 'Group' or 'ServiceAccount'), `name` and,
	// for ServiceAccounts, `namespace`. Empty means the target ServiceAccounts.
	// +optional
	Subject Expression `json:"subject,omitempty"`
}

// ImageMatch says what of an image is refused.
// +kubebuilder:validation:Enum=Digest;Reference;Repository
type ImageMatch string

// What of an image is refused.
const (
	// ImageDigest refuses the digest, under whatever name.
	ImageDigest ImageMatch = "Digest"
	// ImageReference refuses exactly the reference that the pod names.
	ImageReference ImageMatch = "Reference"
	// ImageRepository refuses every tag and digest of the repository.
	ImageRepository ImageMatch = "Repository"
)

// BlockImageAction has the API server refuse pods that run an image.
type BlockImageAction struct {
	// match says what of the image is refused. A tag cannot be told by its digest before
	// it was pulled: 'Digest' refuses only pods that name the digest, or that are bound to
	// it by their name. Empty means 'Reference'.
	// +optional
	// +kubebuilder:default=Reference
	Match ImageMatch `json:"match,omitempty"`
}

// PatchAction changes fields of the targets.
// +kubebuilder:validation:ExactlyOneOf=fields;expression
type PatchAction struct {
	// fields are the fields to set, as the object has them from its root, such as
	// {"spec": {"paused": true}}; not apiVersion, kind, status nor a name.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Fields *runtime.RawExtension `json:"fields,omitempty"`

	// expression is a CEL expression over `incident`, `object` (the target as it is now),
	// `variables` and `steps` that yields these fields.
	// +optional
	Expression Expression `json:"expression,omitempty"`
}

// ApplyAction makes an object or sets fields of one.
// +kubebuilder:validation:ExactlyOneOf=object;expression
type ApplyAction struct {
	// object is the object to apply, with apiVersion, kind and metadata.name.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Object *runtime.RawExtension `json:"object,omitempty"`

	// expression is a CEL expression over `incident`, `resources`, `variables` and `steps`
	// that yields the object.
	// +optional
	Expression Expression `json:"expression,omitempty"`
}
