package controller

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// lookTimes remembers when effects that must stand are looked at again. It is not worth a
// write: after a restart each is looked at once more.
type lookTimes struct {
	times sync.Map // of types.NamespacedName to map[lookKey]metav1.Time
}

type lookKey struct {
	step string
	uid  v1alpha1.ObjectUID
}

// note remembers what an incident says.
func (l *lookTimes) note(key types.NamespacedName, incident *v1alpha1.Incident) {
	times := map[lookKey]metav1.Time{}
	eachLooked(incident, func(key lookKey, target *v1alpha1.StepTarget) {
		if target.NextTime != nil {
			times[key] = *target.NextTime
		}
	})
	if len(times) == 0 || incident.Status.Phase == v1alpha1.PhaseClosed {
		l.times.Delete(key)
		return
	}
	l.times.Store(key, times)
}

// restore gives an incident that was read what was remembered, where that is later.
func (l *lookTimes) restore(key types.NamespacedName, incident *v1alpha1.Incident) {
	known, ok := l.times.Load(key)
	if !ok {
		return
	}
	times := known.(map[lookKey]metav1.Time)
	eachLooked(incident, func(key lookKey, target *v1alpha1.StepTarget) {
		if at, ok := times[key]; ok && (target.NextTime == nil || target.NextTime.Before(&at)) {
			target.NextTime = &at
		}
	})
}

func (l *lookTimes) forget(key types.NamespacedName) { l.times.Delete(key) }

// eachLooked gives the targets whose effect was made and can be undone.
func eachLooked(incident *v1alpha1.Incident, visit func(lookKey, *v1alpha1.StepTarget)) {
	for i := range incident.Status.Steps {
		step := &incident.Status.Steps[i]
		for j := range step.Targets {
			if target := &step.Targets[j]; target.State == v1alpha1.TargetSucceeded && target.Undo != "" {
				visit(lookKey{step.Name, target.UID}, target)
			}
		}
	}
}
