package session

import (
	"context"

	"roost/store"
)

// subscribe adds a name to those that LSUB lists, whether or not there is such a
// mailbox. RFC 9051 section 6.3.7.
func (s *session) subscribe(ctx context.Context, _ call) (string, error) {
	return s.setSubscribed(ctx, true)
}

// unsubscribe takes a name away again. RFC 9051 section 6.3.8.
func (s *session) unsubscribe(ctx context.Context, _ call) (string, error) {
	return s.setSubscribed(ctx, false)
}

func (s *session) setSubscribed(ctx context.Context, on bool) (string, error) {
	n, err := s.onlyMailbox(ctx)
	if err != nil {
		return "", err
	}
	if err := s.acct.Subscribe(ctx, n.name, on); err != nil {
		return "", err
	}
	s.didOwn(ownChange{n.name, store.InterestSubscriptions, on})
	return "", nil
}
