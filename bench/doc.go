// Command bench measures Roost, beside it the real Dovecot where it is installed, and
// beside both what the machine itself needs for the same work: on private trees on the same
// disk, through the same client code, in one run. Figures of different runs do not compare,
// for machines are noisy; ratios do.
//
// What one thing that a user waits for costs is an operation: a value in the table
// operations, which says how to begin at a server and what a round is. The runner lets
// Roost, Dovecot and the machine take turns, round by round, and only when both servers are
// at rest, so that what else goes on meets all three. What servers answered (counts, sizes,
// UIDs) is compared too: a fast wrong answer is a failure.
//
// Both servers keep their usual promise: acknowledged mail is synced, flags are not. Files
// stay in the page cache. Everything goes over TLS but where an operation says "plain".
//
//	go run ./bench                                all of it
//	go run ./bench -quick                         small sizes: that answers are right, not how fast
//	go run ./bench -only fetch,search/body        some of it; -list names the operations
//	go run ./bench -json FILE                     for -compare OLD NEW
//	go run ./bench -profile cpu -only fetch/flags what the server does meanwhile, for go tool pprof
package main
