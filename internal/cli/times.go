package cli

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// age is how long ago something was, such as '3m'.
func (s *session) age(t time.Time) string {
	if t.IsZero() {
		return "?"
	}
	return duration.HumanDuration(max(s.clock.Since(t), 0))
}

// due is how long there is time, such as 'in 27m' or 'LATE by 3m'. Empty for no time.
func (s *session) due(t *metav1.Time) string {
	if t == nil {
		return ""
	}
	left := t.Sub(s.clock.Now())
	if left < 0 {
		return "LATE by " + duration.HumanDuration(-left)
	}
	return "in " + duration.HumanDuration(left)
}

// dueText is 'due in 27m' or 'LATE by 3m'.
func (s *session) dueText(t *metav1.Time) string {
	if t == nil || s.late(t) {
		return s.due(t)
	}
	return "due " + s.due(t)
}

func (s *session) late(t *metav1.Time) bool { return t != nil && t.Time.Before(s.clock.Now()) }

// at is a moment in the zone of the person who looks.
func (s *session) at(t time.Time) string { return t.In(s.location).Format("2006-01-02 15:04:05 MST") }

// took is how long something lasted, or has lasted until now.
func (s *session) took(start, end *metav1.Time) string {
	if start == nil {
		return ""
	}
	until := s.clock.Now()
	if end != nil {
		until = end.Time
	}
	return duration.HumanDuration(max(until.Sub(start.Time), 0))
}
