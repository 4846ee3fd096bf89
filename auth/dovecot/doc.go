// Package dovecot speaks Dovecot's authentication protocol, version 1.2: as the server
// that Postfix and Exim ask (server.go), so that submission has the users, the throttle
// and the log of IMAP; and as a client of a Dovecot whose users Roost has (client.go).
//
// Both sides send lines of fields parted by TAB (wire.go). A connection is kept for long
// and carries many exchanges at a time, each under a number that the client chose.
//
// What a newcomer gets wrong: the protocol has no password of its own. Who reaches the
// socket may try users' passwords and say from which address they are tried, so the
// socket's mode and owner are the protection. The client is still not trusted with more
// memory or time than its share, nor with anything but that address.
package dovecot
