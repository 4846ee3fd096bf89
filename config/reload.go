package config

import (
	"reflect"
	"slices"
)

// Changes compares two configurations: live are the keys whose new values a
// reload puts in force for what comes next, restart those that wait for one.
func Changes(old, new *Config) (live, restart []string) {
	a, b := reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem()
	for _, s := range sections {
		rows := keysOf(s.name)
		if s.array {
			if !reflect.DeepEqual(field(a, s.name).Interface(), field(b, s.name).Interface()) {
				if rows[0].live {
					live = append(live, s.name)
				} else {
					restart = append(restart, s.name)
				}
			}
			continue
		}
		for _, k := range rows {
			if reflect.DeepEqual(old.value(k), new.value(k)) {
				continue
			}
			if k.live {
				live = append(live, k.name)
			} else {
				restart = append(restart, k.name)
			}
		}
	}
	return live, restart
}

// Merge gives new with the values that wait for a restart taken from old: what is
// in force after a reload.
func Merge(old, new *Config) *Config {
	out := *new
	from, to := reflect.ValueOf(old).Elem(), reflect.ValueOf(&out).Elem()
	_, restart := Changes(old, new)
	for _, name := range restart {
		field(to, name).Set(field(from, name))
	}
	out.Listen = slices.Clone(out.Listen)
	return &out
}
