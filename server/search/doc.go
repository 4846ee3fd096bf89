// Package search finds the messages of a mailbox that match the keys of SEARCH
// (RFC 9051 section 6.4.4). It knows store and message, and no protocol text:
// server/session parses the command and writes the answer.
//
// The way of one search: the session gathers Keys in a Query (query.go), in
// postfix order, so that neither parsing nor evaluation recurses however deep a
// client nests. Plan (plan.go) parts what must hold together into pieces and puts
// the cheap ones first. Search (result.go, eval.go, look.go) goes through the view in slices: what UIDs
// alone decide, then what rows decide, then header fields, and only messages that
// are still undecided are read, as a stream (content.go, text.go). Values are three:
// no, yes and maybe, which is what a key gives that was not looked at so far; a
// message is looked at no deeper than is needed to be rid of its maybes. Where many would be
// looked into, the store is asked first which of them cannot hold a text (narrow.go).
//
// What was found can be put in order (sort.go) or into threads (thread.go, links.go). Both
// compare keys that are made of a header once (keys.go) and kept as a note of their own
// kind, so that the next sort opens nothing (load.go). FUZZY (fuzzy.go) is made of the
// other keys, so it costs and scales as they do.
//
// imap.SearchCriteria is not the form of a query here: it cannot tell LARGER 0
// from no size at all, has no OLDER and YOUNGER, and is a tree that must be
// walked by recursion, at 400 bytes a key.
//
// What a newcomer gets wrong: text is compared folded (message.AppendFold) on both sides,
// and a match never reaches from one header field or body part into the next.
package search
