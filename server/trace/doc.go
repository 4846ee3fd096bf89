// Package trace makes the protocol of a connection fit to be shown to an admin: what a
// client and the server say, line by line, without passwords and without mail.
//
// A Mask is the wire.Watch of one connection. It gathers each direction into lines
// (mask.go), decides of a command by its first line (command.go) and of a response by
// how it begins (response.go), and hands what may be seen to its emit function.
//
// What is not seen. The arguments of LOGIN and AUTHENTICATE and all that an
// AUTHENTICATE says until it is answered: "[hidden]", without a length, for that of a
// password tells too much. Literals, both ways: "[310 bytes]". Quoted strings in FETCH
// responses, which are subjects, names and bodies. Whole lines that are no command
// known to commandNames, for somebody may have typed a password there; and the text of
// a NO or BAD to anything that was not shown whole, for it may quote it: of that the
// response code remains.
//
// So a line is shown because it is recognised; what is not, is not. What a newcomer
// gets wrong: the two directions are read together, since a tagged answer may repeat
// what only the command's masking made safe. A Mask must see every command from its
// beginning, which wire.Tap grants.
package trace
