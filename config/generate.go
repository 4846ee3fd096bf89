package config

//go:generate sh -c "go run ../cmd/roost config default --manual > ../docs/config.md"
