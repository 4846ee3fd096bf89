// Package config turns one TOML file into checked values.
//
// Config is data: no includes, no conditionals, no variables but those of mail
// locations. The keys, their defaults and what the manual says of them stand in
// one table (default.go); the struct (config.go) gives them Go types, and a test
// keeps the two alike.
//
// One file's way: Load reads it (load.go), with the places of all keys found by
// a small scanner of our own (locate.go), because a list of problems without
// lines is a list of riddles; Check (check.go) then looks at what only shows
// when keys stand side by side and on the disk: files, rights, certificates,
// addresses. Both report every problem at once, each with line and column, the
// nearest key that exists, and what to do.
//
// Where mail lies is a template (vars.go, location.go) in either of Dovecot's
// spellings, expanded for each user by Locator. Nothing in a user's name can make
// it leave the place that the template gives.
//
// What a newcomer gets wrong: a limit of 0 in the file means "the default"; "off"
// is spelled out, where the table allows it, and comes out as Off.
package config
