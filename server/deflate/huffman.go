package deflate

import (
	"math/bits"
	"sync"
)

// fastBits is the length of the codes that are found by one look.
const fastBits = 9

// maxBits is the length of the longest code.
const maxBits = 15

// code is a canonical Huffman code. RFC 1951 section 3.2.2.
type code struct {
	fast  [1 << fastBits]uint16 // by the next bits of the stream: symbol<<4 | length; 0: see below
	count [maxBits + 1]uint16   // how many symbols have codes of a length
	order [maxLitSymbols]uint16 // symbols by length, then by value
}

const (
	maxLitSymbols  = 288
	maxDistSymbols = 32
)

// tables are what a block is decoded with.
type tables struct {
	lit, dist code
	lengths   [maxLitSymbols + maxDistSymbols]uint8 // of the codes, while they are read
}

var tablePool = sync.Pool{New: func() any { return new(tables) }}

// fixed is the code of blocks that bring none. RFC 1951 section 3.2.6.
var fixed = sync.OnceValue(func() *tables {
	t := new(tables)
	lengths := t.lengths[:maxLitSymbols]
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	t.lit.build(lengths)
	dist := t.lengths[:maxDistSymbols]
	for i := range dist {
		dist[i] = 5
	}
	t.dist.build(dist)
	return t
})

// build makes the code whose lengths are given, 0 for symbols that have none. It reports
// false when there is no such code: too many short ones, or some left over. A single
// code of one bit may be, and none at all.
func (c *code) build(lengths []uint8) bool {
	c.count = [maxBits + 1]uint16{}
	for _, n := range lengths {
		c.count[n]++
	}
	c.count[0] = 0
	left, used := 1, 0
	var next [maxBits + 2]int // index into order, then the first code, of a length
	for n := 1; n <= maxBits; n++ {
		left = left<<1 - int(c.count[n])
		if left < 0 {
			return false
		}
		used += int(c.count[n])
		next[n+1] = next[n] + int(c.count[n])
	}
	if left > 0 && used > 0 && !(used == 1 && c.count[1] == 1) {
		return false
	}
	for symbol, n := range lengths {
		if n > 0 {
			c.order[next[n]] = uint16(symbol)
			next[n]++
		}
	}
	c.fast = [1 << fastBits]uint16{}
	first, index := 0, 0
	for n := 1; n <= fastBits; n++ {
		for i := range int(c.count[n]) {
			at := int(bits.Reverse16(uint16(first+i)) >> (16 - n)) // the stream has the first bit lowest
			for ; at < 1<<fastBits; at += 1 << n {
				c.fast[at] = c.order[index+i]<<4 | uint16(n)
			}
		}
		index += int(c.count[n])
		first = (first + int(c.count[n])) << 1
	}
	return true
}

// What find gives for a length when there is no symbol.
const (
	cutOff  = 0  // more bits are needed
	invalid = -1 // no code begins so
)

// find reads the symbol at the low end of b, of which n bits are there, and the length
// of its code.
func (c *code) find(b uint64, n int) (symbol, length int) {
	if e := c.fast[b&(1<<fastBits-1)]; e != 0 {
		if length = int(e & 15); length > n {
			return 0, cutOff
		}
		return int(e >> 4), length
	}
	v, first, index := 0, 0, 0
	for length = 1; length <= maxBits; length++ {
		if length > n {
			return 0, cutOff
		}
		v |= int(b & 1)
		b >>= 1
		count := int(c.count[length])
		if v-first < count {
			return int(c.order[index+v-first]), length
		}
		index += count
		first = (first + count) << 1
		v <<= 1
	}
	return 0, invalid
}
