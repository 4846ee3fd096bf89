package session

import (
	"context"
	"sync/atomic"
)

// call is one command being run.
type call struct {
	tag string
	uid bool // the UID form
	cmd *command
}

// command is a row of the table: all that the loop and the capabilities know of it.
type command struct {
	name  string
	needs state
	tell  tell   // what the session is told of its mailbox when the command ends
	caps  string // capabilities that the command gives, in full or in part, separated by blanks

	// run parses the arguments from s.lex to the end of the command, then does the work.
	// It writes untagged responses to s.enc and returns the text of its OK, "" for the
	// usual one, or an error for status. An error before the arguments were read to
	// their end leaves the rest to the loop, which skips it.
	run func(s *session, ctx context.Context, c call) (string, error)
}

// state is what a command needs.
type state uint8

const (
	anyState      state = iota
	selectedState       // a selected mailbox
	nobodyState         // only before login: known so that the refusal is clear
)

// tell says which changes of the selected mailbox may be told at the end of a
// command. RFC 9051 section 7.5.1.
type tell uint8

const (
	tellAll       tell = iota
	tellNoExpunge      // FETCH, STORE, SEARCH, SORT and THREAD by sequence number
	tellNothing        // what ends the selection or the session
)

// commands is the table. Commands of more than one form stand once a form.
func commands() []command {
	return []command{
		{"CAPABILITY", anyState, tellAll, "", (*session).capability},
		{"NOOP", anyState, tellAll, "", (*session).noop},
		{"LOGOUT", anyState, tellNothing, "", (*session).logout},
		{"ID", anyState, tellAll, "ID", (*session).id},
		{"UNAUTHENTICATE", anyState, tellNothing, "UNAUTHENTICATE", (*session).unauthenticate},

		{"LOGIN", nobodyState, tellNothing, "", nil},
		{"AUTHENTICATE", nobodyState, tellNothing, "", nil},
		{"STARTTLS", nobodyState, tellNothing, "", nil},

		{"ENABLE", anyState, tellAll, "ENABLE UIDONLY UTF8=ACCEPT", (*session).enable},
		{"COMPRESS", anyState, tellAll, "COMPRESS=DEFLATE", (*session).compress},
		{"NAMESPACE", anyState, tellAll, "NAMESPACE", (*session).namespace},
		{"SELECT", anyState, tellNothing, "CONDSTORE QRESYNC", (*session).selectMailbox},
		{"EXAMINE", anyState, tellNothing, "", (*session).examine},
		{"CREATE", anyState, tellAll, "CREATE-SPECIAL-USE", (*session).create},
		{"DELETE", anyState, tellAll, "", (*session).deleteMailbox},
		{"RENAME", anyState, tellAll, "", (*session).rename},
		{"SUBSCRIBE", anyState, tellAll, "", (*session).subscribe},
		{"UNSUBSCRIBE", anyState, tellAll, "", (*session).unsubscribe},
		{"LIST", anyState, tellAll, "LIST-EXTENDED LIST-STATUS SPECIAL-USE CHILDREN LIST-METADATA", (*session).list},
		{"XLIST", anyState, tellAll, "", (*session).xlist},
		{"LSUB", anyState, tellAll, "", (*session).lsub},
		{"STATUS", anyState, tellAll, "STATUS=SIZE OBJECTID", (*session).statusOf},
		{"APPEND", anyState, tellAll, "MULTIAPPEND UIDPLUS APPENDLIMIT", (*session).append},
		{"NOTIFY", anyState, tellAll, "NOTIFY", (*session).notifyCommand},
		{"ESEARCH", anyState, tellAll, "MULTISEARCH", (*session).multiSearch},
		{"IDLE", anyState, tellAll, "IDLE", (*session).idle},
		{"GETMETADATA", anyState, tellAll, "METADATA", (*session).getMetadata},
		{"SETMETADATA", anyState, tellAll, "METADATA", (*session).setMetadata},

		{"CHECK", selectedState, tellAll, "", (*session).check},
		{"CLOSE", selectedState, tellNothing, "", (*session).close},
		{"UNSELECT", selectedState, tellNothing, "UNSELECT", (*session).unselect},
		{"EXPUNGE", selectedState, tellAll, "", (*session).expunge},
		{"UID EXPUNGE", selectedState, tellAll, "UIDPLUS", (*session).expunge},
		{"REPLACE", selectedState, tellAll, "REPLACE", (*session).replace},
		{"UID REPLACE", selectedState, tellAll, "REPLACE", (*session).replace},
		{"FETCH", selectedState, tellNoExpunge, "SAVEDATE PREVIEW MESSAGELIMIT", (*session).fetch},
		{"UID FETCH", selectedState, tellAll, "", (*session).fetch},
		{"FETCH", selectedState, tellNoExpunge, "BINARY", (*session).fetch},
		{"UID FETCH", selectedState, tellAll, "BINARY", (*session).fetch},
		{"CANCELUPDATE", selectedState, tellAll, "CONTEXT=SEARCH CONTEXT=SORT", (*session).cancelUpdate},
		{"SEARCH", selectedState, tellNoExpunge, "ESEARCH SEARCHRES WITHIN PARTIAL I18NLEVEL=1 SEARCH=FUZZY FILTERS", (*session).search},
		{"UID SEARCH", selectedState, tellAll, "ESEARCH SEARCHRES", (*session).search},
		{"UIDBATCHES", selectedState, tellAll, "UIDBATCHES", (*session).uidBatches},
		{"SORT", selectedState, tellNoExpunge, "SORT SORT=DISPLAY ESORT", (*session).sort},
		{"UID SORT", selectedState, tellAll, "SORT", (*session).sort},
		{"THREAD", selectedState, tellNoExpunge, "THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS", (*session).thread},
		{"UID THREAD", selectedState, tellAll, "THREAD=ORDEREDSUBJECT", (*session).thread},
		{"STORE", selectedState, tellNoExpunge, "", (*session).store},
		{"UID STORE", selectedState, tellAll, "", (*session).store},
		{"COPY", selectedState, tellAll, "", (*session).copy},
		{"UID COPY", selectedState, tellAll, "UIDPLUS SAVELIMIT", (*session).copy},
		{"MOVE", selectedState, tellAll, "MOVE", (*session).move},
		{"UID MOVE", selectedState, tellAll, "MOVE", (*session).move},
	}
}

// asked counts the commands of all sessions of this process: those whose work may use
// several cores leave one to others while it changes.
var asked atomic.Uint64

// table finds a command by its name. It is made at start because the commands
// themselves read it.
var table map[string]*command

func init() {
	list := commands()
	table = make(map[string]*command, len(list))
	for i := range list {
		table[list[i].name] = &list[i]
	}
}
