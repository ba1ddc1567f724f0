package action

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

// revokeAccess takes a subject out of all RoleBindings and ClusterRoleBindings that name it.
type revokeAccess struct{}

var _ = register("revokeAccess", revokeAccess{})

// revokeRecord is what undoing a revocation needs.
type revokeRecord struct {
	// Subject is whose access was taken. It is found out once.
	Subject who `json:"w"`
	// Bindings are those it was taken out of.
	Bindings []bindingRecord `json:"b,omitempty"`
}

// bindingRecord is one binding, and the entries taken out of it.
type bindingRecord struct {
	Namespace string `json:"ns,omitempty"`
	Name      string `json:"n"`
	// UID is a hash of the binding's UID.
	UID string `json:"u"`
	// Role is what it grants, to tell people.
	Role string `json:"r"`
	// Taken are the entries.
	Taken []taken `json:"e"`
}

func (b *bindingRecord) name() string {
	if b.Namespace == "" {
		return nameOf("ClusterRoleBinding", b.Name)
	}
	return fmt.Sprintf("RoleBinding '%s/%s'", b.Namespace, b.Name)
}

func (b *bindingRecord) isOf(other binding) bool {
	return b.Namespace == other.object.GetNamespace() && b.Name == other.object.GetName() && b.UID == uidHash(other.object)
}

func uidHash(object client.Object) string { return ShortHash(shortHashDigits, string(object.GetUID())) }

func decodeRevokeRecord(text string) (*revokeRecord, error) {
	record := &revokeRecord{}
	if text == "" {
		return record, nil
	}
	if err := json.Unmarshal([]byte(text), record); err != nil {
		return nil, fmt.Errorf("the record of what to undo cannot be read: %w", err)
	}
	return record, nil
}

// Plan finds the bindings, and tries on the API server whether the subject can be taken
// out of each: who has no 'bind' on a role may not change who has it.
func (revokeAccess) Plan(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.RevokeAccess == nil {
		return refused("step '%s' has no `revokeAccess`", r.Step.Name)
	}
	record, err := decodeRevokeRecord(r.Target.Undo)
	if err == nil && record.Subject == (who{}) {
		record.Subject, err = r.subject(ctx)
	}
	if err != nil {
		return refused("%v", err)
	}
	if record.Subject == subjectOf(rbacv1.UserKind, "", r.ActingAs) {
		return refused("%s is as whom this playbook acts: it cannot take away its own rights", record.Subject)
	}
	if held := r.heldIn(ctx, record.Subject.Namespace); held != nil {
		return *held
	}
	all, at, err := r.bindings(ctx)
	if err != nil {
		return r.failure(err, at)
	}
	earlier := record.Bindings
	record.Bindings = nil
	warning := ""
	for _, one := range all {
		entry := r.findTaken(one, record.Subject)
		if len(entry.Taken) == 0 {
			continue
		}
		if problem := r.tryRevoke(ctx, one, &entry, record.Subject); problem != nil {
			return *problem
		}
		record.Bindings = append(record.Bindings, entry)
		warning = cmp.Or(warning, fights(entry.name(), one.object))
	}
	// What an earlier try has taken is recorded still.
	for _, one := range earlier {
		if !slices.ContainsFunc(record.Bindings, func(known bindingRecord) bool {
			return known.Namespace == one.Namespace && known.Name == one.Name && known.UID == one.UID
		}) {
			record.Bindings = append(record.Bindings, one)
		}
	}
	undo, err := json.Marshal(record)
	if err != nil || len(undo) > MaxUndo {
		return refused("%s is named by %d bindings, which is more than can be recorded to give its access back: take it out of some by hand first, or bind a group instead", record.Subject, len(record.Bindings))
	}
	return lifecycle.Result{State: v1alpha1.TargetActing, Undo: string(undo), Warning: warning,
		Message: say("%s will be taken out of %s", record.Subject, countBindings(record.Bindings))}
}

// findTaken finds the subject in a binding, or what another response has taken of it.
func (r *Request) findTaken(one binding, subject who) bindingRecord {
	entry := bindingRecord{
		Namespace: one.object.GetNamespace(), Name: one.object.GetName(), UID: uidHash(one.object), Role: one.role.Name,
		Taken: subject.entriesOf(*one.subjects),
	}
	marks := revokedMarks(one.object, subject)
	if own, ok := marks[r.revokedKey(subject)]; ok {
		// An earlier try has taken it.
		entry.Taken = mergeTaken(own.Taken, entry.Taken)
		return entry
	}
	for _, other := range marks {
		entry.Taken = mergeTaken(entry.Taken, other.Taken)
	}
	return entry
}

func mergeTaken(first, more []taken) []taken {
	for _, one := range more {
		if !slices.ContainsFunc(first, func(known taken) bool { return known.AsUser == one.AsUser }) {
			first = append(first, one)
		}
	}
	return first
}

// tryRevoke tries to take the subject out, and writes nothing.
func (r *Request) tryRevoke(ctx context.Context, one binding, entry *bindingRecord, subject who) *lifecycle.Result {
	if held := r.protectedIn(ctx, entry.Namespace); held != nil {
		return held
	}
	tried := one.copy()
	err := r.takeOut(ctx, tried, entry, subject, client.DryRunAll)
	if err == nil || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	result := r.bindingFailure(err, one.kind(), one.role, entry)
	return &result
}

func (b binding) copy() binding {
	switch object := b.object.DeepCopyObject().(type) {
	case *rbacv1.RoleBinding:
		return roleBinding(object)
	case *rbacv1.ClusterRoleBinding:
		return clusterRoleBinding(object)
	default:
		return b
	}
}

// bindingFailure names the verb 'bind' when it is what is missing.
func (r *Request) bindingFailure(err error, kind string, role rbacv1.RoleRef, entry *bindingRecord) lifecycle.Result {
	if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "attempting to grant RBAC permissions") {
		where := "by a ClusterRole and a ClusterRoleBinding"
		if kind == "RoleBinding" {
			where = fmt.Sprintf("in namespace '%s'", entry.Namespace)
		}
		return refused("%s may not change %s: grant it 'bind' on %s '%s' %s", r.ActingAs, entry.name(), role.Kind, role.Name, where)
	}
	return r.failure(err, r.bindingAccess("update", entry.Namespace, entry.Name))
}

// takeOut writes a binding without the subject, if nobody has changed it since it was read.
func (r *Request) takeOut(ctx context.Context, one binding, entry *bindingRecord, subject who, options ...client.UpdateOption) error {
	*one.subjects = subject.without(*one.subjects)
	if err := setRevoked(one.object, r.revokedKey(subject), &revokedMark{subject.hash(), entry.Taken}); err != nil {
		return err
	}
	return r.Client.Update(ctx, one.object, append(options, client.FieldOwner(r.stepOwner()))...)
}

// Apply takes the subject out of the bindings on record, and looks for others.
func (v revokeAccess) Apply(ctx context.Context, r *Request) lifecycle.Result {
	if r.Step.RevokeAccess == nil {
		return refused("step '%s' has no `revokeAccess`", r.Step.Name)
	}
	record, err := decodeRevokeRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	for i := range record.Bindings {
		if problem := r.revokeFrom(ctx, &record.Bindings[i], record.Subject); problem != nil {
			return *problem
		}
	}
	if r.DryRun {
		return done("dry run: %s would be taken out of %s", record.Subject, countBindings(record.Bindings))
	}
	return v.judge(ctx, r, record, v1alpha1.TargetPending)
}

func (r *Request) revokeFrom(ctx context.Context, entry *bindingRecord, subject who) *lifecycle.Result {
	var last error
	for range patchTries {
		one, err := r.binding(ctx, entry.Namespace, entry.Name)
		if apierrors.IsNotFound(err) || err == nil && !entry.isOf(one) {
			return nil // what names the subject now is found after this
		}
		if err != nil {
			problem := r.failure(err, r.bindingAccess("get", entry.Namespace, entry.Name))
			return &problem
		}
		_, marked := revokedMarks(one.object, subject)[r.revokedKey(subject)]
		if marked && len(subject.entriesOf(*one.subjects)) == 0 {
			return nil
		}
		if last = r.takeOut(ctx, one, entry, subject); last == nil || apierrors.IsNotFound(last) {
			return nil
		}
		if !apierrors.IsConflict(last) {
			problem := r.bindingFailure(last, one.kind(), one.role, entry)
			return &problem
		}
	}
	problem := r.failure(last, r.bindingAccess("update", entry.Namespace, entry.Name))
	return &problem
}

// judge looks for bindings that name the subject now. otherwise is the state when there
// are some that are not on record.
func (revokeAccess) judge(ctx context.Context, r *Request, record *revokeRecord, otherwise v1alpha1.TargetState) lifecycle.Result {
	all, at, err := r.bindings(ctx)
	if err != nil {
		return r.failure(err, at)
	}
	var back, fresh []string
	var object client.Object
	for _, one := range all {
		if len(record.Subject.entriesOf(*one.subjects)) == 0 {
			continue
		}
		if slices.ContainsFunc(record.Bindings, func(known bindingRecord) bool { return known.isOf(one) }) {
			back = append(back, one.name())
			if object == nil || managedBy(object) == nil {
				object = one.object
			}
		} else {
			fresh = append(fresh, one.name())
		}
	}
	switch {
	case len(back) > 0:
		return takenBack(object, "%s has its access back: something has put it back into %s", record.Subject, strings.Join(back, ", "))
	case len(fresh) > 0:
		return lifecycle.Result{State: otherwise, Message: say("%s has been given access by %s", record.Subject, strings.Join(fresh, ", "))}
	}
	return done("%s is taken out of %s%s", record.Subject, countBindings(record.Bindings), remains(all, record.Subject))
}

func countBindings(bindings []bindingRecord) string {
	if len(bindings) == 0 {
		return "no binding: none names it"
	}
	return bindingsNamed(bindings)
}

// harmless are roles that Kubernetes gives to everybody.
var harmless = []string{"system:basic-user", "system:discovery", "system:public-info-viewer", "system:service-account-issuer-discovery"}

// remains says what access the subject keeps by the groups it is in by itself.
func remains(all []binding, subject who) string {
	var left []string
	for _, group := range subject.groups() {
		var by []string
		for _, one := range all {
			if slices.Contains(harmless, one.role.Name) {
				continue
			}
			if slices.ContainsFunc(*one.subjects, func(s rbacv1.Subject) bool { return s.Kind == rbacv1.GroupKind && s.Name == group }) {
				by = append(by, one.name())
			}
		}
		if len(by) > 0 {
			left = append(left, fmt.Sprintf("access by group '%s' remains (%s)", group, strings.Join(by, ", ")))
		}
	}
	if subject.Kind == rbacv1.UserKind {
		left = append(left, "access by groups that its credentials name remains")
	}
	if subject.Kind == rbacv1.GroupKind && subject.Name == "system:masters" {
		left = append(left, "the API server itself lets this group do everything, whatever the bindings say")
	}
	if len(left) == 0 {
		return ""
	}
	return "; " + strings.Join(left, "; ")
}

// Observe looks whether any binding names the subject.
func (v revokeAccess) Observe(ctx context.Context, r *Request) lifecycle.Result {
	record, err := decodeRevokeRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	return v.judge(ctx, r, record, v1alpha1.TargetFailed)
}

// Undo puts back just the entries that were taken.
func (revokeAccess) Undo(ctx context.Context, r *Request) lifecycle.Result {
	if r.Target.Undo == "" {
		return reverted("nothing was done to it")
	}
	record, err := decodeRevokeRecord(r.Target.Undo)
	if err != nil {
		return refused("%v", err)
	}
	var parts []string
	for i := range record.Bindings {
		says, problem := r.giveBack(ctx, &record.Bindings[i], record.Subject)
		if problem != nil {
			return *problem
		}
		parts = append(parts, record.Bindings[i].name()+": "+says)
	}
	if len(parts) == 0 {
		return reverted("%s was in no binding", record.Subject)
	}
	return reverted("%s: %s", record.Subject, strings.Join(parts, "; "))
}

// giveBack puts the subject back into one binding, unless another response needs it away.
func (r *Request) giveBack(ctx context.Context, entry *bindingRecord, subject who) (says string, problem *lifecycle.Result) {
	var last error
	for range patchTries {
		one, err := r.binding(ctx, entry.Namespace, entry.Name)
		switch {
		case apierrors.IsNotFound(err):
			return "does not exist any more, so nothing was put back", nil
		case err != nil:
			failure := r.failure(err, r.bindingAccess("get", entry.Namespace, entry.Name))
			return "", &failure
		case !entry.isOf(one):
			return "was made anew since, so nothing was put back: look whether it is to name the subject", nil
		}
		says, changed, err := r.withBack(one, entry, subject)
		if err != nil {
			failure := refused("%s: %v", entry.name(), err)
			return "", &failure
		}
		if !changed {
			return says, nil
		}
		last = r.Client.Update(ctx, one.object, client.FieldOwner("firebreak"))
		if last == nil {
			return says, nil
		}
		if !apierrors.IsConflict(last) && !apierrors.IsNotFound(last) {
			failure := r.bindingFailure(last, one.kind(), one.role, entry)
			return "", &failure
		}
	}
	failure := r.failure(last, r.bindingAccess("update", entry.Namespace, entry.Name))
	return "", &failure
}

// withBack changes a binding to what it is to be after undoing.
func (r *Request) withBack(one binding, entry *bindingRecord, subject who) (says string, changed bool, err error) {
	key := r.revokedKey(subject)
	marks := revokedMarks(one.object, subject)
	_, marked := marks[key]
	delete(marks, key)
	switch {
	case !marked && len(subject.entriesOf(*one.subjects)) > 0:
		return "names it again already", false, nil
	case !marked && len(marks) > 0:
		return "not put back, because another response needs it away", false, nil
	case !marked:
		return "left as it is: this step has not taken it, or somebody has changed it since", false, nil
	case len(marks) > 0:
		says = "not put back, because another response needs it away"
	default:
		*one.subjects = subject.with(*one.subjects, entry.Taken)
		says = "put back"
	}
	return says, true, setRevoked(one.object, key, nil)
}
