package search

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkKeys makes the keys of one header, and puts ten thousand subjects in order.
//
//	go test ./server/search -run '^$' -bench Keys
func BenchmarkKeys(b *testing.B) {
	header := []byte(strings.ReplaceAll(`Return-Path: <ann@example.org>
Received: from mx.example.org (mx.example.org [192.0.2.7])
	by mail.example.com (Postfix) with ESMTPS id 4XyZ1234
	for <bob@example.com>; Tue, 31 Dec 2024 23:30:00 -0500 (EST)
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=mail; h=from:to:subject:date;
	bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZ
Date: Tue, 31 Dec 2024 23:30:00 -0500
From: Ann Example <ann@example.org>
To: Bob <bob@example.com>, Carol Example <carol@example.com>
Cc: "List, The" <list@example.net>
Subject: Re: [list] about the harvest of 2024
Message-ID: <20241231.4711@example.org>
In-Reply-To: <20241230.4710@example.com>
References: <20241229.1@example.com> <20241230.4710@example.com>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8

`, "\n", "\r\n"))
	b.Run("make", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			keysOf(header)
		}
	})
	note := appendKeys(nil, keysOf(header))
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decodeKeys(note)
		}
	})
	b.Run("order", func(b *testing.B) {
		col := column{Criterion: Criterion{By: SortSubject}}
		for i := range 10_000 {
			col.texts = append(col.texts, []byte(fmt.Sprintf("%x harvest of %d", uint32(i*i)*2654435761>>20, i%1000)))
		}
		for b.Loop() {
			inOrder(len(col.texts), []column{col})
		}
	})
}
