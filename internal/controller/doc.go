// Package controller holds one thin reconciler for each kind: it reads, lets a pure
// package decide, acts, and writes status once.
package controller
