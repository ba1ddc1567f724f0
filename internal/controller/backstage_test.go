package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
)

func named(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "security", Name: name}
}

func TestBackstageWakesInTheOrderOfTheQueue(t *testing.T) {
	wake := make(chan event.GenericEvent, 4)
	b := newBackstage(2, wake)
	var entered []bool
	for _, name := range []string{"a", "b", "c", "d", "c", "a"} {
		entered = append(entered, b.enter(named(name)))
	}
	if diff := cmp.Diff([]bool{true, true, false, false, false, true}, entered); diff != "" {
		t.Fatalf("who found room (-want +got):\n%s", diff)
	}
	b.leave(named("c")) // it waits, and is not inside
	if len(wake) != 0 {
		t.Fatal("somebody was woken although nobody has left")
	}
	b.leave(named("b"))
	if woken := (<-wake).Object.GetName(); woken != "c" {
		t.Errorf("woken: %s, want c, who came first", woken)
	}
	if b.enter(named("e")) {
		t.Error("e took the room that was given to c")
	}
	if !b.enter(named("c")) {
		t.Error("c has no room although it was woken")
	}
	b.leave(named("a"))
	b.leave(named("c"))
	var woken []string
	for range 2 {
		woken = append(woken, (<-wake).Object.GetName())
	}
	if diff := cmp.Diff([]string{"d", "e"}, woken); diff != "" {
		t.Errorf("woken (-want +got):\n%s", diff)
	}
	b.leave(named("d"))
	b.leave(named("e"))
	if !b.enter(named("f")) || !b.enter(named("g")) || b.enter(named("h")) {
		t.Error("the room is not what it was at the beginning")
	}
}
