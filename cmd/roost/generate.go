package main

//go:generate sh -c "go run . help --manual > ../../docs/roost.md"
