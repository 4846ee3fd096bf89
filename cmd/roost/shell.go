package main

import "strings"

// shellWord quotes what goes into a command that an admin may paste.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/@+:%=,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shellWords quotes several.
func shellWords(list ...string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = shellWord(s)
	}
	return strings.Join(quoted, " ")
}
