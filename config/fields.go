package config

import (
	"reflect"
	"strings"
)

// The struct and the table of keys meet here: a field's key is its toml tag, or
// its name in small letters.

// fieldNamed finds the field of a struct that a key sets.
func fieldNamed(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && keyOf(f) == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// keyOf is the key that sets a field.
func keyOf(f reflect.StructField) string {
	if tag := f.Tag.Get("toml"); tag != "" {
		return tag
	}
	return strings.ToLower(f.Name)
}

// field finds the field that a key of the table sets; the key exists.
func field(v reflect.Value, name string) reflect.Value {
	for part := range strings.SplitSeq(name, ".") {
		v, _ = fieldNamed(v, part)
	}
	return v
}

// arrayTable reports whether a table is an array.
func arrayTable(section string) bool {
	for _, s := range sections {
		if s.name == section {
			return s.array
		}
	}
	return false
}

// elements gives the values of an array of tables, each in the order of its keys.
func (c *Config) elements(section string) (out [][]any) {
	list := field(reflect.ValueOf(c).Elem(), section)
	for i := range list.Len() {
		var values []any
		for _, k := range keysOf(section) {
			f, _ := fieldNamed(list.Index(i), k.leaf())
			values = append(values, f.Interface())
		}
		out = append(out, values)
	}
	return out
}

// value gives the value of a key that is not in an array of tables.
func (c *Config) value(k key) any { return field(reflect.ValueOf(c).Elem(), k.name).Interface() }
