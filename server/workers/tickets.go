package workers

import (
	"crypto/rand"
	"slices"
	"time"

	"roost/auth"
)

// tickets are the logins to one front that have not become sessions: each may, once, within
// ticketTime. There is a bound, and one for each user, so that somebody who logs in and is
// turned away (limits.per_user) again and again takes no room from others. Not safe for
// concurrent use.
type tickets struct {
	most int
	all  map[string]ticket
	of   map[string][]string // those of a user, by User.Login, oldest first; never an empty list
}

type ticket struct {
	user auth.User
	at   time.Time
}

// ticketTime is how long a login may take to become a session.
const ticketTime = time.Minute

func newTickets(most int) *tickets {
	return &tickets{most: most, all: map[string]ticket{}, of: map[string][]string{}}
}

// give makes a ticket; "" where there are too many. Of a user with too many the oldest goes.
func (t *tickets) give(u auth.User, now time.Time) string {
	if len(t.all) >= t.most {
		for id, k := range t.all {
			if now.Sub(k.at) > ticketTime {
				t.drop(id)
			}
		}
	}
	if mine := t.of[u.Login]; len(mine) >= max(t.most/20, 10) {
		t.drop(mine[0])
	}
	if len(t.all) >= t.most {
		return ""
	}
	id := rand.Text()
	t.all[id] = ticket{u, now}
	t.of[u.Login] = append(t.of[u.Login], id)
	return id
}

// take gives whose ticket it is, and ends it.
func (t *tickets) take(id string, now time.Time) (auth.User, bool) {
	k, ok := t.all[id]
	t.drop(id)
	return k.user, ok && now.Sub(k.at) <= ticketTime
}

func (t *tickets) drop(id string) {
	k, ok := t.all[id]
	if !ok {
		return
	}
	delete(t.all, id)
	mine := t.of[k.user.Login]
	if i := slices.Index(mine, id); i >= 0 {
		mine = slices.Delete(mine, i, i+1)
	}
	if t.of[k.user.Login] = mine; len(mine) == 0 {
		delete(t.of, k.user.Login)
	}
}
