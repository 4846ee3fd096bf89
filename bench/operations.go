package main

import "slices"

// operations is the table of all of them, by theme, at the given sizes.
func operations(z sizes) []operation {
	return slices.Concat(
		opening(z),
		fetching(z),
		searching(z),
		findingText(z),
		storing(z),
		appending(z),
		moving(z),
		listing(z),
		loggingIn(z),
		resyncing(z),
		growing(z),
		pushing(z),
		standingBy(z),
		remembering(z),
		starting(z),
		notifying(z),
		limits(z),
	)
}
