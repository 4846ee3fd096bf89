// Package events tells of what is unusual: it keeps a history, and runs a command or
// writes a mail where the configuration says so. It knows neither passwords nor mail; what
// happened is told it by Note, which never blocks.
//
// One goroutine takes what was noted, writes it down (history.go) and starts what is to be
// done about it (action.go), of which a few run at one time. burst.go finds bursts.
//
// What a newcomer gets wrong: everything here is caused by strangers. So each thing is
// bounded: the queue, the history, how often one event is told again, how many commands
// run, for how long, and how many in a minute.
package events
