package config

import (
	"errors"
	"os/user"
	"sync"
)

// Users and groups that were found once are known from then on: a server that has confined
// itself can read its configuration again, and not /etc/passwd. One that was removed since
// is gone all the same where that can be seen.
var foundUsers, foundGroups sync.Map // by name or number

func lookUpUser(name string) (*user.User, error) {
	return remembered(&foundUsers, name, user.Lookup)
}

func lookUpUserID(id string) (*user.User, error) {
	return remembered(&foundUsers, id, user.LookupId)
}

func lookUpGroup(name string) (*user.Group, error) {
	return remembered(&foundGroups, name, user.LookupGroup)
}

func lookUpGroupID(id string) (*user.Group, error) {
	return remembered(&foundGroups, id, user.LookupGroupId)
}

func remembered[T any](found *sync.Map, name string, look func(string) (*T, error)) (*T, error) {
	got, err := look(name)
	if err == nil {
		found.Store(name, got)
		return got, nil
	}
	var noUser user.UnknownUserError
	var noID user.UnknownUserIdError
	var noGroup user.UnknownGroupError
	var noGroupID user.UnknownGroupIdError
	if errors.As(err, &noUser) || errors.As(err, &noID) || errors.As(err, &noGroup) || errors.As(err, &noGroupID) {
		return nil, err
	}
	if known, ok := found.Load(name); ok {
		return known.(*T), nil
	}
	return nil, err
}
