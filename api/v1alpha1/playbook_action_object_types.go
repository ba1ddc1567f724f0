package v1alpha1

import "k8s.io/apimachinery/pkg/runtime"

// RevokeAccessAction takes a subject out of role bindings.
type RevokeAccessAction struct {
	// subject is a CEL expression over `incident`, `resources`, `variables` and `steps` that yields
	// an object with `kind` ('User', 'Group' or 'ServiceAccount'), `name` and, for ServiceAccounts,
	// `namespace`. Empty means the target ServiceAccounts.
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
	// match says what of the image is refused. 'Reference' refuses the names by which the
	// incident's pods call it, and the digest that runs; 'Repository' every tag and digest of the
	// repository; 'Digest' only pods that name the digest. Empty means 'Reference'.
	// +optional
	// +kubebuilder:default=Reference
	Match ImageMatch `json:"match,omitempty"`
}

// PatchAction changes fields of the targets.
// +kubebuilder:validation:ExactlyOneOf=fields;expression
type PatchAction struct {
	// fields are the fields to set, from the object's root, such as {"spec": {"paused": true}}; of
	// the metadata only labels and annotations; no apiVersion, kind, status or null.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Fields *runtime.RawExtension `json:"fields,omitempty"`

	// expression is a CEL expression over `incident`, `resources`, `object` (the target now),
	// `variables` and `steps` that yields these fields. It is evaluated once.
	// +optional
	Expression Expression `json:"expression,omitempty"`
}

// ApplyAction makes an object or sets fields of one.
// +kubebuilder:validation:ExactlyOneOf=object;expression
type ApplyAction struct {
	// object has apiVersion, kind, metadata.name and, for kinds in namespaces,
	// metadata.namespace; of the other metadata only labels and annotations.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Object *runtime.RawExtension `json:"object,omitempty"`

	// expression is a CEL expression over `incident`, `resources`, `variables` and `steps` that
	// yields the object. It is evaluated once, before the first write.
	// +optional
	Expression Expression `json:"expression,omitempty"`
}
