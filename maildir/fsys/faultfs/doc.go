// Package faultfs is for tests of whatever stands on fsys: it fails calls, stops the
// world, writes down what was called, and says what a power cut would leave.
//
// New wraps an FS. Every call on it, its directories and its files is numbered from 1.
// Fail makes one call fail without doing it; Stop does so with that call and all later
// ones, as kill -9 does. Count n up until a run passes without meeting its fault, and
// no call is forgotten. Transcript is what changed the tree, for a golden file.
//
// NewMem makes a tree in memory that knows what was synced. Clone is the tree as a
// killed process leaves it, Crash as a power cut may: what was synced, and any part of
// the rest. Both together are the test of a promise:
//
//	mem := NewMem()
//	fs := New(mem)
//	fs.Stop(n)
//	... append; an error now is no acknowledgement
//	after := mem.Crash(rand)
//	... open after; compare with what was acknowledged
package faultfs
