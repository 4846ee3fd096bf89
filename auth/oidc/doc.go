// Package oidc checks bearer tokens for package auth: by the keys that an issuer publishes
// (OpenID Connect Discovery, RFC 7517, tokens in the form of RFC 9068), or by asking the
// issuer about each (RFC 7662).
//
// The way of a token by keys: jwt.go looks at its header and refuses what is no signed JWT;
// keys.go verifies the signature by keys that lookup.go fetches, keeps and renews; claims.go
// says whether a token of the issuer is for this service, for now, and whom it names.
// introspect.go has the other way, which ends in claims.go too. client.go is the one door
// to the network: https, bounded in time and bytes.
//
// What a newcomer gets wrong: nothing of the token may be believed, logged or sent to the
// client before its signature was verified, but for what makes an error plain (alg, kid).
// And the order of claims.go matters: expired is said only of what would have been good.
//
// Locks: a lookup has one mutex, held for no longer than a look at its fields.
package oidc
