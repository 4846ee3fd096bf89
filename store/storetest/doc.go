// Package storetest is the contract of package store as tests: every promise of
// its doc comments is one of them, and a promise that is not here is not made.
//
// Run checks the promises one by one on an implementation. History does random
// things in several sessions to an implementation and to memstore at once, and
// compares what they answer: it finds what nobody thought of.
package storetest
