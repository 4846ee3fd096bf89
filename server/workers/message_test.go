package workers

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"roost/auth"
)

// What is known of a refusal is known in the other process too: each field of it, also those
// that come later.
func TestRefusalsCrossWhole(t *testing.T) {
	for _, kind := range refusals {
		want := &auth.Refusal{Err: kind}
		for v, i := reflect.ValueOf(want).Elem(), 0; i < v.NumField(); i++ {
			switch f := v.Field(i); f.Kind() {
			case reflect.String:
				f.SetString(v.Type().Field(i).Name)
			case reflect.Bool:
				f.SetBool(true)
			}
		}
		var a, b answered
		a.explain(want)
		text, err := json.Marshal(a)
		if err == nil {
			err = json.Unmarshal(text, &b)
		}
		if err != nil {
			t.Fatal(err)
		}
		var got *auth.Refusal
		if !errors.As(b.err(), &got) || !reflect.DeepEqual(got, want) {
			t.Errorf("%v became %+v, want %+v", kind, got, want)
		}
	}
}
